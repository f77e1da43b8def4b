"""A run as it happens: run events in, a view of the present state out.

- Adding an event costs the same however much there was before: text is kept in pieces, and the tail in a
  buffer that is cut now and then.
- No clock and no display here: the time that has passed is an argument.
"""

from __future__ import annotations

from typing import Any

from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import RunEvent, UsageReported
from personas_nb.views import marks
from personas_nb.views.executions import execution_card, moment_of, usage_line
from personas_nb.views.marks import Cell, plural
from personas_nb.views.page import Page
from personas_nb.views.view import View

TAIL_BYTES = 8 * 1024
"""UTF-8 bytes of text that are shown while a run goes on."""
_ROWS = 12


class RunStream:
    """What is known so far of one run.

    >>> from personas_nb.entities.run_event import TextDelta
    >>> stream = RunStream("Mail boy", rehearsal=True, provider="rehearsal", model=None)
    >>> stream.add(TextDelta(text="Reading the mail."))
    >>> print(stream.view(elapsed_ms=1200))
    Mail boy  ▶ running  ○ REHEARSAL
    rehearsal · 1.2 s
    <BLANKLINE>
    Reading the mail.
    """

    def __init__(
        self,
        persona_name: str,
        *,
        rehearsal: bool,
        provider: str,
        model: str | None,
        bypass: bool = False,
        status: str = "running",
        begins: str = "",
    ) -> None:
        self._persona_name = persona_name
        self.bypass = bypass
        self._rehearsal = rehearsal
        self._provider = provider
        self._model = model
        self._status = status
        self._begins = begins  # when, for one that is queued until then
        self.held = ""
        """Why it goes on being queued; empty while it may begin at any moment."""
        self._pieces: list[str] = []
        self._chars = 0
        self._tail: list[str] = []
        self._tail_chars = 0
        self._calls: list[tuple[str, list[Cell]]] = []  # call id, and its row
        self._open_calls: dict[str, int] = {}
        self._notes: list[list[Cell]] = []
        self._usage: UsageReported | None = None
        self.changes = 0
        """Counts the events that were added: an equal number means an equal view."""

    @property
    def has_begun(self) -> bool:
        """Whether it is more than queued."""
        return self._status != "queued"

    def hold(self, why: str) -> None:
        """It goes on being queued, for a reason that a person can change; empty for none."""
        if why != self.held:
            self.held, self.changes = why, self.changes + 1

    def begin(self) -> None:
        """It is queued no longer."""
        if self._status == "queued":
            self._status, self.changes = "running", self.changes + 1

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._pieces)

    def add(self, event: RunEvent) -> None:
        """Take in one event."""
        self.begin()
        self.changes += 1
        if event.type == "text":
            self._add_text(event.text)
        elif event.type == "tool_started":
            self._open_calls[event.call_id or event.tool] = len(self._calls)
            self._calls.append((event.call_id, moment_of(event)))
        elif event.type == "tool_finished":
            row = moment_of(event)
            at = self._open_calls.pop(event.step.call_id or event.step.tool, None)
            if at is None:
                self._calls.append((event.step.call_id, row))
            else:
                self._calls[at] = (event.step.call_id, row)
        elif event.type == "usage":
            self._usage = event
            self._model = event.model or self._model
        elif event.type == "status":
            self._status = event.status
            if event.error:
                self._notes.append(moment_of(event))
        elif event.type in (
            "protocol",
            "warning",
            "approval",
        ):  # protocol_called is said again once it is handled
            self._notes.append(moment_of(event))

    def view(self, elapsed_ms: int | None = None) -> View:
        """The present state: the last 8 KB of text, the tools, the notes, the usage, the time."""
        facts = [self._provider, self._model or ""]
        if self._usage:
            facts.append(usage_line(self._usage, rehearsal=self._rehearsal))
        if elapsed_ms is not None and self.has_begun:
            facts.append(marks.duration(elapsed_ms))
        page = Page(
            self._persona_name,
            status=self._status,
            detail=" · ".join(fact for fact in facts if fact),
            rehearsal=self._rehearsal,
            bypass=self.bypass,
        )
        if self._begins and not self.has_begun:
            page.sentence(f"It begins at {self._begins}.")
        if self.held and not self.has_begun:
            page.sentence(self.held, status="queued")
        tail = self._shown_tail()
        if len(tail) < self._chars:
            page.sentence(f"… {plural(self._chars - len(tail), 'character')} before this", faint=True)
        page.scrolled(tail)
        rows = [row for _, row in self._calls[-_ROWS:]]
        earlier = f", the last {_ROWS}" if len(self._calls) > _ROWS else ""
        page.table((), rows, heading="Tools", detail=plural(len(self._calls), "call") + earlier)
        page.table((), self._notes[-_ROWS:], heading="Said and asked")
        return page.view()

    def final(self, execution: Execution, **rows: Any) -> View:
        """The card of the finished run with its whole text; ``rows`` are those of ``execution_card``."""
        stored = execution.output_data
        text = self.text if stored is None else None
        return execution_card(execution, text=text, bypass=self.bypass, **rows)

    def _add_text(self, text: str) -> None:
        self._pieces.append(text)
        self._chars += len(text)
        self._tail.append(text)
        self._tail_chars += len(text)
        # A character has at least one byte: twice the tail is enough, and each one is copied once on average.
        if self._tail_chars > 2 * TAIL_BYTES:
            self._tail = ["".join(self._tail)[-TAIL_BYTES:]]
            self._tail_chars = len(self._tail[0])

    def _shown_tail(self) -> str:
        tail = "".join(self._tail)
        encoded = tail.encode("utf-8", "replace")
        return tail if len(encoded) <= TAIL_BYTES else encoded[-TAIL_BYTES:].decode("utf-8", "ignore")
