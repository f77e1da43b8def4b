"""Showing views in a notebook: the outputs that one view is, and a display that changes while a cell runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from personas_nb.views.view import View

MAX_PER_SECOND = 8


class Handle(Protocol):
    """A display that can be changed; IPython's ``DisplayHandle`` is one."""

    def update(self, obj: Any) -> Any:
        """Show this instead."""


class Throttle:
    """Admits at most so many a second, evenly spaced; it has no clock of its own.

    >>> throttle = Throttle(max_per_second=8)
    >>> throttle.admits(10.0), throttle.admits(10.1), throttle.admits(10.2)
    (True, False, True)
    """

    def __init__(self, max_per_second: float = MAX_PER_SECOND) -> None:
        self._spacing_seconds = 1 / max_per_second
        self._next_at: float | None = None

    def admits(self, now_seconds: float) -> bool:
        """Whether something may be shown now; a yes counts as shown."""
        if self.wait_seconds(now_seconds) > 0:
            return False
        self._next_at = now_seconds + self._spacing_seconds
        return True

    def wait_seconds(self, now_seconds: float) -> float:
        """How long until something may be shown; 0 when it may be now."""
        return 0.0 if self._next_at is None else max(0.0, self._next_at - now_seconds)


class LiveDisplay:
    """One display handle that follows a changing view, at most 8 times a second.

    ``handle_factory(view)`` shows the first view and returns its handle; in a notebook
    ``lambda view: display(view, display_id=True)``. Whoever drains the events calls ``offer`` after each,
    ``tick`` when ``wait_seconds`` have passed without one, and ``finish`` at the end. Only for the thread that
    made it: a background thread never displays.
    """

    def __init__(
        self,
        handle_factory: Callable[[View], Handle | None],
        clock: Callable[[], float] = time.monotonic,
        max_per_second: int = MAX_PER_SECOND,
    ) -> None:
        self._handle_factory = handle_factory
        self._clock = clock
        # One place a second is kept free, so that the last state never has to wait.
        self._throttle = Throttle(max(max_per_second - 1, 1))
        self._thread = threading.get_ident()
        self._handle: Handle | None = None
        self._waiting: Callable[[], View] | None = None
        self._shown: tuple[str, str] | None = None

    def offer(self, make_view: Callable[[], View]) -> bool:
        """Show what ``make_view`` makes, or keep it for later; it is only called when its view is shown."""
        self._assert_own_thread()
        self._waiting = make_view
        return self.tick()

    def tick(self) -> bool:
        """Show the state that was kept, if it is time to."""
        self._assert_own_thread()
        if self._waiting is None or not self._throttle.admits(self._clock()):
            return False
        return self._show(self._waiting())

    def wait_seconds(self) -> float | None:
        """How long until a state that was kept may be shown; None when none is kept."""
        return None if self._waiting is None else self._throttle.wait_seconds(self._clock())

    def finish(self, view: View | None = None) -> bool:
        """Show the last state at once: this view, else the one that was kept."""
        self._assert_own_thread()
        if view is None and self._waiting is not None:
            view = self._waiting()
        return view is not None and self._show(view)

    def _show(self, view: View) -> bool:
        self._waiting = None
        said = (view.text, view.html)
        if said == self._shown:
            return False
        if self._handle is None:
            self._handle = self._handle_factory(view)
        else:
            self._handle.update(view)
        self._shown = said
        return True

    def _assert_own_thread(self) -> None:
        assert threading.get_ident() == self._thread, "only the thread that made a LiveDisplay may use it"


def outputs(view: View) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A view as the outputs that show it, each data and metadata by MIME type: the card, its picture, its graph."""
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if view.html or not (view.png or view.markdown):
        found.append((view._repr_mimebundle_(), {}))
    if view.png:
        found.append(({"image/png": view.png, "text/plain": view.alt}, {"image/png": {"alt": view.alt}}))
    if view.markdown:
        found.append(({"text/markdown": view.markdown, "text/plain": view.alt or view.text}, {}))
    for other in view.also:
        found.extend(outputs(other))
    return found


def show(view: View) -> None:
    """Display a view in the running cell, each of its outputs as one of its own."""
    from IPython.display import publish_display_data

    for data, metadata in outputs(view):
        publish_display_data(data, metadata)  # type: ignore[no-untyped-call]  # IPython annotates it in part
