"""What a handler is given, and the place where its results are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from personas_nb.errors import InvalidInput
from personas_nb.verbs.filling import Filling, cell_input
from personas_nb.verbs.table import Verb

if TYPE_CHECKING:
    from personas_nb.design.sessions import DesignSession
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.run_event import RunEvent
    from personas_nb.studio import Studio
    from personas_nb.views.stream import RunStream
    from personas_nb.views.view import View


class Watch(Protocol):
    """Shows one run while it goes on; all its methods are called by the thread that runs the cell."""

    def see(self, events: list[RunEvent], stream: RunStream, elapsed_ms: int) -> None:
        """Show what is new; called with no events now and then."""

    def end(self, card: View, card_without_text: View) -> None:
        """Show the finished run in the place of what was streamed."""


class Live(Protocol):
    """Shows how something goes on that takes a while; its methods are called by the thread that runs the cell."""

    def show(self, make_view: Callable[[], View]) -> None:
        """The present state, now or a moment later."""

    def end(self, view: View) -> None:
        """The last state."""


class Board(Protocol):
    """Shows how something goes on whose last state is the result; for the thread that runs the cell."""

    def show(self, make_view: Callable[[], View]) -> None:
        """The present state, now or a moment later."""

    def end(self, view: View) -> Any:
        """Show the last state at once; what the verb returns so that it is not shown again."""


class Surface(Protocol):
    """Where results are shown: a notebook, an IPython in a terminal, a shell."""

    is_kernel: bool
    """Whether the process goes on after the verb, so that something may go on in the background."""
    is_plain: bool
    """Whether only text can be shown."""

    def watch(self) -> Watch:
        """A place for a run that is about to be streamed."""

    def live(self) -> Live:
        """A place for something else that takes a while."""

    def board(self) -> Board:
        """A place for what changes until it is the result."""

    def say(self, line: str) -> None:
        """Print a line at once, while a verb goes on."""

    def keep(self, name: str, value: Any) -> None:
        """Set a variable of the person's."""

    def ask(self, label: str, *, secret: bool) -> str | None:
        """What a person answers, a secret unseen; None where nobody can be asked."""

    def result(self, execution: Execution, *, quiet: bool) -> Any:
        """The execution as the result of a verb that has shown it already, or shall not show it (``quiet``)."""


@dataclass
class Desk:
    """What one kernel remembers from verb to verb."""

    session_id: str | None = None
    seen: dict[str, int] = field(default_factory=dict)
    """The revision in which a design session was last shown here, by its id."""


@dataclass
class Call:
    """One verb with its arguments, ready to be done; ``call["name"]`` is an argument."""

    verb: Verb
    arguments: dict[str, Any]
    studio: Studio
    surface: Surface
    desk: Desk = field(default_factory=Desk)
    filling: Filling = field(default_factory=lambda: Filling({}))
    cell: str | None = None

    def __getitem__(self, key: str) -> Any:
        return self.arguments[key]

    @property
    def tz(self) -> str:
        """The zone in which times are shown; UTC where the machine's cannot be told."""
        from personas_nb.errors import SettingsError

        try:
            return self.studio.settings.zone()
        except SettingsError:
            return "UTC"

    def text(self, key: str, what: str) -> str:
        """The cell as free text, else the argument; raises ``InvalidInput`` where both are empty."""
        if self.cell is not None:
            text = self.cell.strip() if self["raw"] else self.filling.text(self.cell.strip())
        else:
            text = self[key] or ""
        if not text.strip():
            where = (
                "Write it below the line" if self.cell is not None else f"Such as `{self.verb.examples[0]}`"
            )
            raise InvalidInput(f"The {what} is empty.", hint=f"{where}.")
        return text

    def input(self) -> str | dict[str, Any] | list[Any] | None:
        """The cell as a run's input, filled; None where there is no cell."""
        if self.cell is None:
            return None
        if not self.cell.strip():
            raise InvalidInput(
                "The cell is empty.",
                hint="Write the input below the line; `%persona run NAME` runs without one.",
            )
        if len(self.cell) > self.studio.settings.input_limit_bytes:
            return self.cell  # refused as too large, without being parsed and copied first
        return cell_input(self.cell, None if self["raw"] else self.filling)

    def session(self) -> DesignSession:
        """The design session that is meant: ``--session``, the last one of this kernel, the newest stored."""
        return self.find_session(self["session"] or "latest")

    def find_session(self, reference: str) -> DesignSession:
        """A design session by id, its beginning, or ``latest``, which is then the current one."""
        from personas_nb.errors import NotFound

        found = None
        if reference == "latest" and self.desk.session_id:
            try:
                found = self.studio.sessions.get(self.desk.session_id)
            except NotFound:
                self.desk.session_id = None
        if found is None:
            if reference == "latest" and not self.studio.sessions.list():
                raise NotFound("There is no design yet.", hint='Begin one with `%persona design "…"`.')
            found = self.studio.sessions.get(reference)
        self.desk.session_id = found.id
        return found


def noted(view: View, *sentences: str) -> View:
    """The view with sentences below it."""
    from personas_nb.views.marks import clean, escape

    told = [sentence for sentence in sentences if sentence]
    if not told:
        return view
    below = "".join(f'<p style="margin:.3em 0;opacity:.75">{escape(sentence)}</p>' for sentence in told)
    return replace(view, text="\n".join((view.text, "", *map(clean, told))), html=view.html + below)


def handler_of(verb: Verb) -> Callable[[Call], Any]:
    """The function that does a verb; its module is imported now. Panels stand above the verbs: only the table
    names them."""
    from importlib import import_module

    module, _, function = verb.handler.partition(":")
    room = "personas_nb" if module.startswith("panels.") else "personas_nb.verbs"
    found: Callable[[Call], Any] = getattr(import_module(f"{room}.{module}"), function)
    return found
