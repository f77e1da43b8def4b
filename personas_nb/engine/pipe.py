"""The one way out of a run: redact, scan for protocol messages, redact what was decoded, store, show.

- What happens is stored in batches, ``FLUSH_SECONDS`` after the first of it, and all that is left at the end. Every
  change wakes the writer, which then competes with the loop for the interpreter: where many runs go on at once,
  each waits longer, by as much again for every ``RUNS_PER_FLUSH`` of them.
- Nothing waits: changes queue up in the writer, which keeps their order; ``settled`` waits for them.
- Every change carries the claim's token. When the claim was lost, the first change fails and so does the run.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from pydantic_core import PydanticSerializationError

from personas_nb.engine.feed import Feeds
from personas_nb.engine.handlers import Handlers, Row
from personas_nb.engine.log import RunLog
from personas_nb.engine.preparation import Before, usage_of
from personas_nb.engine.protocol import ProtocolMessage, ProtocolScanner, parse_body
from personas_nb.engine.surrogates import StreamMender, mended
from personas_nb.engine.untrusted import Untrusted
from personas_nb.entities.base import Entity, is_encodable, now, rfc3339
from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import (
    ProtocolCalled,
    ProtocolHandled,
    RunEvent,
    StatusChanged,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
    UsageReported,
    WarningRaised,
)
from personas_nb.entities.tool import ToolCallStep
from personas_nb.store.executions import ExecutionTable, RunEventTable
from personas_nb.vault.redaction import Redactor
from personas_nb.worker import Worker, Write

E = TypeVar("E", bound=Entity)

FLUSH_SECONDS = 0.1
RUNS_PER_FLUSH = 20
PIECE_CHARS = 4096


class Pipe:
    """Takes an agent's events, in order, and stores what a person may see."""

    def __init__(
        self,
        *,
        worker: Worker,
        execution_id: str,
        token: int,
        handlers: Handlers,
        redactor: Redactor,
        untrusted: Untrusted,
        feeds: Feeds,
        log: RunLog,
        object_limit_bytes: int,
        output_limit_bytes: int,
        execution: Execution | None = None,
        before: Before | None = None,
        num_open: Callable[[], int] = lambda: 1,
    ) -> None:
        self._num_open = num_open  # how many runs go on in this process
        self.execution_id, self.token = execution_id, token
        self.handlers, self.untrusted = handlers, untrusted
        self.worker, self.feeds, self.log = worker, feeds, log
        self._steps: list[ToolCallStep] = []
        self._called: list[str] = []
        self.warnings: list[str] = []
        self.usage = UsageReported()
        self.object_limit_bytes, self.output_limit_bytes = object_limit_bytes, output_limit_bytes
        self._redactor, self._stream = redactor, redactor.stream()
        self._mender = StreamMender()  # before the redactor: a secret may hold an emoji
        self._scanner = ProtocolScanner(object_limit_bytes, quoted=untrusted.contains)
        self._event_table = RunEventTable(worker.store)
        self._executions = ExecutionTable(worker.store)
        self._seen: set[str] = set()
        self._text: list[str] = []
        self._text_chars = 0
        self._beyond: list[str] = []  # over the limit of what is stored: for the log and whoever watches
        self._output: list[str] = []
        self._output_bytes = 0
        self._seq = 0
        self._last: Future[None] | None = None
        self._problem: BaseException | None = None
        self._changes: list[Write] = []
        self._rows: list[tuple[int, str, str, str]] = []
        self._events: list[RunEvent] = []
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._scanner_warnings = 0
        self._log_works = True
        if execution is not None and before is not None:
            self._go_on(execution, before)

    @property
    def steps(self) -> list[ToolCallStep]:
        """The finished tool calls, in the order in which the model asked for them."""
        order = {call_id: place for place, call_id in enumerate(self._called)}
        return sorted(self._steps, key=lambda step: order.get(step.call_id, len(order)))

    @property
    def output(self) -> str:
        """The visible text so far, up to the limit of what is stored."""
        return "".join(self._output)

    def _go_on(self, execution: Execution, before: Before) -> None:
        """Begin where the run stood when it began to wait."""
        self._seq, self._called = before.seq, list(before.called)
        self._steps, self.warnings = list(execution.tool_steps), list(execution.warnings)
        self.usage = usage_of(execution)
        if execution.output_data:
            self._output = [execution.output_data]
            self._output_bytes = len(execution.output_data.encode())
        self._seen = {_fingerprint(kind, data) for kind, data in before.messages}
        self.handlers.flows, self.handlers.assessment = list(execution.execution_flows), execution.outcome

    def take(self, event: RunEvent) -> None:
        """Let one event through. Raises what a queued write raised: a lost claim, a full disk."""
        if self._problem is not None:
            raise self._problem
        if isinstance(event, TextDelta):
            self._take_text(self._stream.feed(self._mender.feed(event.text)))
        elif isinstance(event, ProtocolCalled):
            self._take_call(event)
        else:
            self._take_other(_whole(event))

    def end_text(self, *, cut_off: bool = False) -> None:
        """Release what redactor and scanner hold back; ``cut_off``: the text may end inside a secret."""
        half = self._mender.finish()
        rest = self._stream.feed(half) if half and not cut_off else ""
        self._take_text(rest + self._stream.finish(cut_off=cut_off), is_last=True)
        self._end_piece()

    def warn(self, text: str) -> None:
        """Record a warning on the execution and show it."""
        text = self._redactor.redact(mended(text))
        if text not in self.warnings:
            self.warnings.append(text)
            self._end_piece()
            self._store([WarningRaised(text=text)])

    def log_error(self, text: str) -> None:
        """Write what went wrong, which may be long, into the log only."""
        text = self._redactor.redact(mended(text))
        self._lines.append(json.dumps({"at": rfc3339(now()), "type": "error", "text": text}))
        self._plan()

    def write(self, change: Write) -> None:
        """Write something else with the next batch."""
        self._changes.append(change)
        self._plan()

    def flush(self) -> None:
        """Queue for storing what there is."""
        self._end_piece()
        self.close()
        if not (self._changes or self._rows or self._lines):
            return
        changes, rows, events, lines = self._changes, self._rows, self._events, self._lines
        self._changes, self._rows, self._events, self._lines = [], [], [], []

        def change(db: sqlite3.Connection) -> None:
            if rows:  # before anything else: this checks the claim, and a run that has ended takes no events
                self._event_table.append(db, self.execution_id, self.token, rows)
            for each in changes:
                each(db)

        # Not the write's own future: that is done a moment before its callback has logged and shown.
        shown: Future[None] = Future()
        self._last = shown

        def stored(done: Future[Any]) -> None:
            try:
                self._stored(done, events, lines)
            finally:
                shown.set_result(None)

        self.worker.write(change).add_done_callback(stored)

    def finish(self, fields: dict[str, Any], rows: Sequence[Row], also: Write | None = None) -> None:
        """Queue the end of a run, or of its part before a decision: state and texts, rows, what is ``also`` due."""
        status = StatusChanged(status=fields["status"], error=fields.get("error"))
        self._store([status], rows)
        if also is not None:
            self._changes.append(also)
        self._changes.append(lambda db: self._executions.change(db, self.execution_id, self.token, **fields))
        self.flush()

    def close(self) -> None:
        """Store nothing by the clock any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def settled(self) -> None:
        """Wait until everything queued is stored; raises what went wrong with the first that was not."""
        if self._last is not None:
            await asyncio.wait([asyncio.wrap_future(self._last)])
        if self._problem is not None:
            raise self._problem

    def _take_text(self, text: str, *, is_last: bool = False) -> None:
        messages = self._scanner.feed(text) if text else []
        if is_last:
            messages += self._scanner.finish()
        self._show(self._scanner.take_text())
        for message in messages:
            self._take_message(message, via="text")
        new_warnings = self._scanner.warnings[self._scanner_warnings :]
        self._scanner_warnings += len(new_warnings)
        for warning in new_warnings:
            self.warn(warning)

    def _show(self, text: str) -> None:
        if not text:
            return
        self._text_chars += len(text)
        room = self.output_limit_bytes - self._output_bytes
        data = text.encode("utf-8", "replace")
        self._output_bytes += len(data)
        if len(data) > room:
            stored = data[: max(0, room)].decode("utf-8", "ignore")
            self._beyond.append(text[len(stored) :])
            text = stored
        if text:
            self._text.append(text)
            self._output.append(text)
        if len(data) > room >= 0:
            self.warn(f"The output is over {self.output_limit_bytes:,} bytes; the rest is in the log.")
        if self._text_chars >= PIECE_CHARS:
            self._end_piece()
        self._plan()

    def _end_piece(self) -> None:
        """The text since the last event becomes an event."""
        self._text_chars = 0
        if self._text:
            text, self._text = "".join(self._text), []
            self._store([TextDelta.model_construct(text=text)])
        if self._beyond:
            text, self._beyond = "".join(self._beyond), []
            beyond = TextDelta.model_construct(text=text)
            self._note([beyond], [beyond.model_dump_json()], rfc3339(now()))

    def _take_call(self, event: ProtocolCalled) -> None:
        source = json.dumps(event.data, ensure_ascii=False, default=str)
        size_bytes = len(source.encode("utf-8", "replace"))
        if size_bytes > self.object_limit_bytes:
            self.warn(
                f"A {event.kind} is larger than {self.object_limit_bytes} bytes and was not acted upon."
            )
            return
        whole = event.data if is_encodable(source) else mended(event.data)
        data, warnings = parse_body(event.kind, self._redactor.redact_value(whole))
        message = ProtocolMessage(event.kind, data, "", warnings)
        if self.untrusted.contains(message):
            self.warn(
                f"The message {event.kind} only repeats the input or a tool's result and was not acted upon."
            )
        else:
            self._take_message(message, via="tool")

    def _take_message(self, message: ProtocolMessage, *, via: str) -> None:
        data = self._redactor.redact_value(message.data)
        fingerprint = _fingerprint(message.kind, data)
        if fingerprint in self._seen:  # sent as text and as a tool call: written once
            if message.kind == "outcome_assessment":
                self.handlers.rows(message)  # the last one counts, also when it repeats an earlier one
            return
        self._seen.add(fingerprint)
        self._end_piece()
        for warning in message.warnings:
            self.warn(warning)
        rows = self.handlers.rows(ProtocolMessage(message.kind, data, message.raw, message.warnings))
        row_id = getattr(rows[0][1], "id", None) if rows else None
        self._store([ProtocolHandled(kind=message.kind, data=data, row_id=row_id)], rows, via)
        while self.handlers.warnings:
            self.warn(self.handlers.warnings.pop(0))

    def _take_other(self, event: RunEvent) -> None:
        self._end_piece()
        if isinstance(event, UsageReported):
            if event == self.usage:
                return
            self.usage = event
        elif isinstance(event, WarningRaised):
            self.warn(event.text)
            return
        elif isinstance(event, ToolCallFinished):
            if not event.step.performed:  # it may not have passed the gateway: a tool that does not exist
                event = self._redacted(event)
            self._steps.append(event.step)
            self.untrusted.add(event.step.output)
            self.untrusted.add(event.step.error or "")
        else:
            if isinstance(event, ToolCallStarted):
                self._called.append(event.call_id)
            event = self._redacted(event)
        self._store([event])

    def _redacted(self, event: E) -> E:
        return type(event).model_validate(self._redactor.redact_value(event.model_dump()))

    def _store(self, events: list[RunEvent], rows: Sequence[Row] = (), via: str = "") -> None:
        at = rfc3339(now())
        payloads = [event.model_dump_json() for event in events]
        for event, payload in zip(events, payloads, strict=True):
            self._rows.append((self._next_seq(), at, event.type, payload))
        for row in rows:
            self._changes.append(partial(self._write_row, row))
        self._note(events, payloads, at, via)

    def _write_row(self, row: Row, _db: sqlite3.Connection) -> None:
        self.handlers.write(self.worker.store, row)

    def _note(self, events: list[RunEvent], payloads: list[str], at: str, via: str = "") -> None:
        """For the log and whoever watches, after the next commit."""
        self._events += events
        end = f', "via": "{via}"}}' if via else "}"
        self._lines += (f'{{"at": "{at}", {payload[1:-1]}{end}' for payload in payloads)
        self._plan()

    def _plan(self) -> None:
        if self._timer is None:
            # At moments that all runs share: many at once then wake the writer together, for one transaction.
            loop = asyncio.get_running_loop()
            seconds = FLUSH_SECONDS * (1 + self._num_open() // RUNS_PER_FLUSH)
            moment = (loop.time() // seconds + 1) * seconds
            self._timer = loop.call_at(moment, self.flush)

    def _stored(self, done: Future[Any], events: list[RunEvent], lines: list[str]) -> None:
        """In the writer's thread, after the commit: now it may be seen."""
        if (problem := done.exception()) is not None:
            self._problem = self._problem or problem
            return
        if self._log_works:
            try:
                self.log.append(lines)
            except OSError as error:
                self._log_works = False  # said once; the store has everything that a person sees
                self.worker.loop.call_soon_threadsafe(
                    self.warn, f"The log could not be written: {error.strerror}."
                )
        self.feeds.publish(self.execution_id, events)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


def _whole(event: E) -> E:
    """The event, mended where UTF-8 could not say it."""
    try:
        event.model_dump_json()
    except PydanticSerializationError:
        return type(event).model_validate(mended(event.model_dump()))
    return event


def _fingerprint(kind: str, data: Any) -> str:
    return json.dumps([kind, data], sort_keys=True, default=str)
