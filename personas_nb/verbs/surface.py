"""The places where results are shown: a notebook, an IPython in a terminal, a shell."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from personas_nb.verbs.call import Board, Live, Watch
from personas_nb.views.display import LiveDisplay, show
from personas_nb.views.marks import cell_text, clean
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.run_event import RunEvent
    from personas_nb.views.stream import RunStream

QUIET_REDRAW_MS = 1_000
# A step that makes sense in a process that goes on.
_OF_A_KERNEL = re.compile(r"^%persona triggers start  .*\n?", re.MULTILINE)
_SHELL_PHRASES = (
    ("the rest of the cell is its input", "with - behind it, the standard input is its input"),
    (" With %%persona the cell is ", " With - at the end, the standard input is "),
    ("; the cell is its input", ""),
)


class Notebook:
    """A kernel, or an IPython in a terminal (``is_plain``): text is printed as it comes there."""

    is_kernel = True

    def __init__(self, shell: Any, *, is_plain: bool = False) -> None:
        self._shell = shell
        self.is_plain = is_plain

    def watch(self) -> Watch:
        """One display that changes until the run has ended; in a terminal, lines."""
        return _PrintedRun() if self.is_plain else _DisplayedRun()

    def live(self) -> Live:
        """One display that changes while something goes on; in a terminal, nothing until it is long."""
        return _PrintedView() if self.is_plain else _DisplayedView()

    def board(self) -> Board:
        """One display that changes, and is the result; in a terminal, its last state."""
        return _PrintedBoard() if self.is_plain else _DisplayedBoard()

    def say(self, line: str) -> None:
        """A line of the cell's output."""
        print(line, flush=True)  # noqa: T201 - this is the cell that waits

    def keep(self, name: str, value: Any) -> None:
        """Set a variable of the notebook."""
        self._shell.user_ns[name] = value

    def ask(self, label: str, *, secret: bool) -> str | None:
        """What a person answers; a kernel knows by itself whether one is there."""
        return _asked(label, secret=secret, is_kernel=hasattr(self._shell, "kernel"))

    def result(self, execution: Execution, *, quiet: bool) -> Execution:  # noqa: ARG002 - shown or not, it is not shown again
        """The execution as the cell's value, which this cell does not show once more."""
        _AlreadyShown(self._shell, execution).attach()
        return execution


class Shell:
    """A terminal without Python: what is shown is printed."""

    is_kernel = False
    is_plain = True

    def watch(self) -> Watch:
        """The run's text as it comes, then its card."""
        return _PrintedRun(in_shell_words)

    def live(self) -> Live:
        """A line on standard error at the end, so that what is piped stays clean."""
        return _PrintedView()

    def board(self) -> Board:
        """The last state, printed."""
        return _PrintedBoard(in_shell_words)

    def say(self, line: str) -> None:
        """A line of the standard output."""
        print(in_shell_words(line), flush=True)  # noqa: T201 - this is the terminal

    def keep(self, name: str, value: Any) -> None:
        """There is nothing to keep it in."""

    def ask(self, label: str, *, secret: bool) -> str | None:
        """What a person answers at the terminal; None where the input is none."""
        return _asked(label, secret=secret, is_kernel=False)

    def result(self, execution: Execution, *, quiet: bool) -> str | None:
        """Nothing more; with ``quiet`` the text that the run ended with."""
        return (execution.output_data or "").rstrip("\n") if quiet else None


def presented(result: Any, *, is_plain: bool = False, is_silent: bool = False) -> Any:
    """A verb's result as a cell's value: a view with a picture or a graph shows each as an output of its own.

    ``is_silent``: the value is there, and the cell shows nothing of it.
    """
    if is_silent:
        return _Unshown(**_fields(result)) if isinstance(result, View) else result
    if isinstance(result, View) and (result.png or result.markdown or result.also):
        if is_plain:
            return replace(result, text=printed(result), png=None, markdown=None, also=())
        return _ManyOutputs(**_fields(result))
    return result


def _fields(view: View) -> dict[str, Any]:
    return {field.name: getattr(view, field.name) for field in fields(View)}


def printed(result: Any) -> str:
    """A verb's result as text."""
    if result is None:
        return ""
    if isinstance(result, View):
        return "\n\n".join([result.text, *(printed(other) for other in result.also)])
    return str(result.to_string()) if hasattr(result, "to_string") else str(result)


def in_shell_words(text: str) -> str:
    """The verbs in a text as they are typed in a shell, which has no cells.

    >>> in_shell_words("Type `%persona list`.")
    'Type `personas list`.'
    """
    for in_notebook, in_shell in _SHELL_PHRASES:
        text = text.replace(in_notebook, in_shell)
    text = _OF_A_KERNEL.sub("", text)
    return re.sub(r"%%?persona\b", "personas", text)


def _asked(label: str, *, secret: bool, is_kernel: bool) -> str | None:
    """An answer typed by a person: a kernel brings its own ``input`` and ``getpass``."""
    import getpass
    import warnings

    if not is_kernel and not (sys.stdin and sys.stdin.isatty()):
        return None  # getpass would look for a terminal behind it, and wait
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # it would show what is typed
        try:
            return getpass.getpass(f"{label}: ") if secret else input(f"{label}: ")
        except (NotImplementedError, EOFError, getpass.GetPassWarning):
            return None


class _ManyOutputs(View):
    """A view that is shown as all of its outputs."""

    def _ipython_display_(self) -> None:
        show(self)


class _Unshown(View):
    """A view that a cell has for its value and does not show."""

    def _ipython_display_(self) -> None:
        """Nothing."""


class _AlreadyShown:
    """Keeps one object from being shown again by the cell that has shown it; later cells show it as ever."""

    def __init__(self, shell: Any, execution: Execution) -> None:
        self._shell, self._execution, self._count = shell, execution, shell.execution_count

    def attach(self) -> None:
        # Entities are frozen; this is no field of theirs, and a copy does not have it.
        object.__setattr__(self._execution, "_ipython_display_", self)

    def __call__(self) -> None:
        if self._shell.execution_count == self._count:
            return
        from IPython.display import display

        self._execution.__dict__.pop("_ipython_display_", None)
        display(self._execution)  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_shown_plainly, ())  # a pickled or copied execution leaves the cell behind


def _shown_plainly() -> None:
    return None


class _DisplayedRun:
    """One display handle that follows the run; the finished card takes its place."""

    def __init__(self) -> None:
        from IPython.display import display

        self._live = LiveDisplay(lambda view: display(view, display_id=True))  # type: ignore[no-untyped-call]
        self._drawn_ms, self._changes = -QUIET_REDRAW_MS, 0

    def see(self, events: list[RunEvent], stream: RunStream, elapsed_ms: int) -> None:
        is_due = elapsed_ms - self._drawn_ms >= QUIET_REDRAW_MS  # for the time that passes
        is_new, self._changes = bool(events) or stream.changes != self._changes, stream.changes
        if (is_new or is_due or self._live.wait_seconds() is not None) and self._live.offer(
            lambda: stream.view(elapsed_ms)
        ):
            self._drawn_ms = elapsed_ms

    def end(self, card: View, card_without_text: View) -> None:  # noqa: ARG002 - for those that printed the text
        self._live.finish(card)


class _DisplayedView:
    """One display handle that follows something else than a run."""

    def __init__(self) -> None:
        from IPython.display import display

        self._live = LiveDisplay(lambda view: display(view, display_id=True))  # type: ignore[no-untyped-call]

    def show(self, make_view: Callable[[], View]) -> None:
        self._live.offer(make_view)

    def end(self, view: View) -> Any:
        self._live.finish(view)


class _PrintedView:
    """The last state only: a terminal keeps every line."""

    def show(self, make_view: Callable[[], View]) -> None:
        """Nothing: what comes of it is printed soon."""

    def end(self, view: View) -> None:
        print(view.text.replace("\n", "  "), file=sys.stderr, flush=True)  # noqa: T201 - this is the terminal


class _DisplayedBoard(_DisplayedView):
    """One display handle whose last state is the result."""

    def end(self, view: View) -> View:
        super().end(view)
        return _Unshown(**_fields(view))


class _PrintedBoard:
    """The last state, printed whole."""

    def __init__(self, worded: Callable[[str], str] = str) -> None:
        self._worded = worded

    def show(self, make_view: Callable[[], View]) -> None:
        """Nothing: what was printed cannot be taken back."""

    def end(self, view: View) -> None:
        print(self._worded(view.text), flush=True)  # noqa: T201 - this is the terminal


class _PrintedRun:
    """The run's text and tool calls, printed as they come by the thread that runs the verb."""

    def __init__(self, worded: Callable[[str], str] = str) -> None:
        self._worded = worded
        self._is_at_start, self._is_held_said = True, False

    def see(self, events: list[RunEvent], stream: RunStream, elapsed_ms: int) -> None:  # noqa: ARG002 - no clock in print
        from personas_nb.views.executions import moment_of

        if stream.held and not self._is_held_said:
            self._is_held_said = True
            self._line(self._worded(f"○ {stream.held}"))
        for event in events:
            if event.type == "text":
                self._write(clean(event.text))
            elif event.type == "tool_finished":
                self._line("  ".join(cell_text(cell) for cell in moment_of(event)))
        sys.stdout.flush()

    def end(self, card: View, card_without_text: View) -> None:  # noqa: ARG002 - its text is printed already
        self._line("")
        print(self._worded(card_without_text.text), flush=True)  # noqa: T201 - this is the terminal

    def _line(self, text: str) -> None:
        self._write(("" if self._is_at_start else "\n") + text + "\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            self._is_at_start = text.endswith("\n")
