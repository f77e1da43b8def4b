"""The decisions that wait for a person, each with a note and two buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from personas_nb.errors import InvalidInput, NotFound, PersonaError
from personas_nb.views.inbox import open_reviews
from personas_nb.views.marks import one_line, short_id

if TYPE_CHECKING:
    import ipywidgets

    from personas_nb.entities.review import Review
    from personas_nb.studio import Studio
    from personas_nb.verbs.call import Call
    from personas_nb.views.view import View

NOTE_LIMIT_CHARS = 2_000
Refresh = Callable[["View"], None]


class ReviewsPanel:
    """Buttons for the open reviews of a studio; ``twin`` says what they are about and what was decided.

    ``refresh`` is called with the new twin after each decision and each look. A review that another kernel decided
    meanwhile keeps that verdict, and the twin says so.

        panel = ReviewsPanel(studio)
        display(panel.twin, panel.widget)
    """

    def __init__(self, studio: Studio, *, tz: str = "UTC", refresh: Refresh | None = None) -> None:
        from ipywidgets import VBox

        self._studio, self._tz = studio, tz
        self._refresh: Refresh = refresh or (lambda _view: None)
        self._shown: list[str] = []  # the ids, in the order in which they were first seen
        self._said: dict[str, str] = {}  # what came of a decision here
        self.widget: ipywidgets.VBox = VBox()
        self.look()

    @property
    def twin(self) -> View:
        """Every review that this panel has shown, as it is now, in full."""
        reviews = []
        for review_id in list(self._shown):
            try:
                reviews.append(self._studio.reviews.get(review_id))
            except NotFound:  # purged with its persona
                self._shown.remove(review_id)
        return open_reviews(reviews, said=self._said, tz=self._tz)

    def look(self, _button: Any = None) -> None:
        """Take up what waits now."""
        waiting = list(reversed(self._studio.reviews.list()))  # the oldest first
        self._shown += [review.id for review in waiting if review.id not in self._shown]
        self.widget.children = (*(self._row(review) for review in waiting), self._again(bool(waiting)))
        self._refresh(self.twin)

    def _row(self, review: Review) -> ipywidgets.VBox:
        from ipywidgets import Button, HBox, Layout, Text, VBox

        note = Text(placeholder="Why (the persona reads it)", layout=Layout(width="22em"))
        approve = Button(description="Approve", icon="check", button_style="success")
        reject = Button(description="Reject", icon="times", button_style="danger")
        reviews = self._studio.reviews
        approve.on_click(lambda _button: self._decide(review, reviews.approve, note.value))
        reject.on_click(lambda _button: self._decide(review, reviews.reject, note.value))
        title = _plain(f"{short_id(review.id)}  {one_line(review.title, 90)}", bold=True)
        return VBox([title, HBox([approve, reject, note])], layout=Layout(margin="0 0 .6em 0"))

    def _again(self, is_waiting: bool) -> ipywidgets.HBox:
        from ipywidgets import Button, HBox

        again = Button(description="Look again", icon="refresh")
        again.on_click(self.look)
        return HBox([again, _plain("" if is_waiting else "Nothing waits for you.")])

    def _decide(self, review: Review, decide: Callable[..., Review], note: str) -> None:
        try:
            was_open = self._studio.reviews.get(review.id).status == "pending"
            decide(review.id, note=note.strip()[:NOTE_LIMIT_CHARS] or None)
        except PersonaError as error:  # a click has no cell in which it could be raised
            self._said[review.id] = str(error)
        else:
            if not was_open:
                self._said[review.id] = "It had been decided elsewhere before; that verdict stays."
            else:
                self._said.pop(review.id, None)
        self.look()


def _plain(text: str, *, bold: bool = False) -> ipywidgets.Label:
    """Text as text: a title is a model's, and a label knows no markup."""
    from ipywidgets import Label

    return Label(text, style={"font_weight": "bold"} if bold else {})


def open_panel(call: Call) -> None:
    """The verb: the twin and the buttons, as two outputs of the cell."""
    from IPython.display import display

    if not call.surface.is_kernel or call.surface.is_plain:
        raise InvalidInput(
            "Buttons need a notebook.",
            hint="Here, `%persona reviews` lists the decisions and `%persona reviews approve ID` decides one.",
        )
    handle = None

    def refresh(view: View) -> None:
        if handle is not None:
            handle.update(view)

    panel = ReviewsPanel(call.studio, tz=call.tz, refresh=refresh)
    handle = display(panel.twin, display_id=True)  # type: ignore[no-untyped-call]  # IPython annotates it in part
    display(panel.widget)  # type: ignore[no-untyped-call]
