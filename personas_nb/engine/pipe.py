"""The one way out of a run: redact, scan for protocol messages, redact what was decoded, store, show.

- Text is stored in batches: after ``FLUSH_SECONDS``, at ``FLUSH_CHARS``, and before any other event.
- ``flush`` never waits: changes queue up in the writer, which keeps their order; ``settled`` waits for them.
- Every change carries the claim's token. When the claim was lost, the first change fails and so does the run.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from personas_nb.engine.feed import Feeds
from personas_nb.engine.handlers import Handlers, Row
from personas_nb.engine.log import RunLog
from personas_nb.engine.protocol import ProtocolMessage, ProtocolScanner, parse_body
from personas_nb.engine.untrusted import Untrusted
from personas_nb.entities.base import Entity, now, rfc3339
from personas_nb.entities.run_event import (
    ProtocolCalled,
    ProtocolHandled,
    RunEvent,
    StatusChanged,
    TextDelta,
    ToolCallFinished,
    UsageReported,
    WarningRaised,
)
from personas_nb.entities.tool import ToolCallStep
from personas_nb.store.executions import ExecutionTable, RunEventTable
from personas_nb.vault.redaction import Redactor
from personas_nb.worker import Worker

E = TypeVar("E", bound=Entity)

FLUSH_SECONDS = 0.05
FLUSH_CHARS = 4096


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
    ) -> None:
        self.execution_id, self.token = execution_id, token
        self.handlers, self.untrusted = handlers, untrusted
        self.worker, self.feeds, self.log = worker, feeds, log
        self.steps: list[ToolCallStep] = []
        self.warnings: list[str] = []
        self.usage = UsageReported()
        self.output_limit_bytes = output_limit_bytes
        self._redactor, self._stream = redactor, redactor.stream()
        self._scanner = ProtocolScanner(object_limit_bytes, quoted=untrusted.contains)
        self._events = RunEventTable(worker.store)
        self._executions = ExecutionTable(worker.store)
        self._seen: set[str] = set()
        self._text: list[str] = []
        self._text_chars = 0
        self._beyond: list[str] = []  # over the limit of what is stored: for the log and whoever watches
        self._output: list[str] = []
        self._output_bytes = 0
        self._seq = 0
        self._queued: list[Future[Any]] = []
        self._flushed_at = 0.0
        self._scanner_warnings = 0
        self._log_works = True

    @property
    def output(self) -> str:
        """The visible text so far, up to the limit of what is stored."""
        return "".join(self._output)

    def take(self, event: RunEvent) -> None:
        """Let one event through. Raises what a queued write raised: a lost claim, a full disk."""
        self._raise_failed()
        if isinstance(event, TextDelta):
            self._take_text(self._stream.feed(event.text))
        elif isinstance(event, ProtocolCalled):
            self._take_call(event)
        else:
            self._take_other(event)

    def tick(self) -> None:
        """Store text that waited long enough; called by a timer, so that a slow model still streams."""
        if self._text or self._beyond:
            self.flush()

    def end_text(self, *, cut_off: bool = False) -> None:
        """Release what redactor and scanner hold back; ``cut_off``: the text may end inside a secret."""
        self._take_text(self._stream.finish(cut_off=cut_off), is_last=True)
        self.flush()

    def warn(self, text: str) -> None:
        """Record a warning on the execution and show it."""
        text = self._redactor.redact(text)
        if text not in self.warnings:
            self.warnings.append(text)
            self._store([WarningRaised(text=text)])

    def flush(self) -> None:
        """Queue the waiting text for storing."""
        self._flushed_at = asyncio.get_running_loop().time()
        if self._text:
            text = "".join(self._text)
            self._text, self._text_chars = [], 0
            self._store([TextDelta.model_construct(text=text)])
        if self._beyond:
            beyond = TextDelta.model_construct(text="".join(self._beyond))
            self._beyond, self._text_chars = [], 0
            self._queue(_nothing, [beyond], [{"at": rfc3339(now()), **beyond.model_dump()}])

    def finish(self, fields: dict[str, Any], event_row: Row) -> Future[Any]:
        """Queue the end of the run: its last state, its texts, and the system event that tells of it."""
        error = fields.get("error")
        status = StatusChanged(status=fields["status"], error=error)
        row = (self._next_seq(), rfc3339(now()), "status", status.model_dump_json())

        def change(db: sqlite3.Connection) -> None:
            self._events.append(db, self.execution_id, self.token, [row])
            self._executions.change(db, self.execution_id, self.token, **fields)
            self.worker.store.table(event_row[0], type(event_row[1])).insert(event_row[1])

        return self._queue(change, [status], [{"at": row[1], **status.model_dump(mode="json")}])

    async def settled(self) -> None:
        """Wait until everything queued is stored; raises what went wrong with the first that was not."""
        for future in self._queued:
            await asyncio.wrap_future(future)
        self._queued.clear()

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
        is_due = asyncio.get_running_loop().time() - self._flushed_at >= FLUSH_SECONDS
        if is_due or self._text_chars >= FLUSH_CHARS:
            self.flush()

    def _take_call(self, event: ProtocolCalled) -> None:
        data, warnings = parse_body(event.kind, self._redactor.redact_value(event.data))
        message = ProtocolMessage(event.kind, data, "", warnings)
        if self.untrusted.contains(message):
            self.warn(f"A {event.kind} that only repeats the input or a tool's result was not acted upon.")
        else:
            self._take_message(message, via="tool")

    def _take_message(self, message: ProtocolMessage, *, via: str) -> None:
        data = self._redactor.redact_value(message.data)
        fingerprint = json.dumps([message.kind, data], sort_keys=True, default=str)
        if fingerprint in self._seen:  # sent as text and as a tool call: written once
            if message.kind == "outcome_assessment":
                self.handlers.rows(message)  # the last one counts, also when it repeats an earlier one
            return
        self._seen.add(fingerprint)
        self.flush()
        for warning in message.warnings:
            self.warn(warning)
        rows = self.handlers.rows(ProtocolMessage(message.kind, data, message.raw, message.warnings))
        row_id = getattr(rows[0][1], "id", None) if rows else None
        self._store([ProtocolHandled(kind=message.kind, data=data, row_id=row_id)], rows, note={"via": via})
        while self.handlers.warnings:
            self.warn(self.handlers.warnings.pop(0))

    def _take_other(self, event: RunEvent) -> None:
        self.flush()
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
            self.steps.append(event.step)
            self.untrusted.add(event.step.output)
            self.untrusted.add(event.step.error or "")
        else:
            event = self._redacted(event)
        self._store([event])

    def _redacted(self, event: E) -> E:
        return type(event).model_validate(self._redactor.redact_value(event.model_dump()))

    def _store(
        self, events: list[RunEvent], rows: Sequence[Row] = (), note: dict[str, Any] | None = None
    ) -> None:
        at = rfc3339(now())
        stored = [(self._next_seq(), at, event.type, event.model_dump_json()) for event in events]

        def change(db: sqlite3.Connection) -> None:
            self._events.append(db, self.execution_id, self.token, stored)
            for row in rows:
                self.handlers.write(self.worker.store, row)

        lines = [{"at": at, **event.model_dump(mode="json"), **(note or {})} for event in events]
        self._queue(change, events, lines)

    def _queue(self, change: Any, events: list[RunEvent], lines: list[dict[str, Any]]) -> Future[Any]:
        future = self.worker.write(change)
        future.add_done_callback(lambda done: self._stored(done, events, lines))
        self._queued.append(future)
        if len(self._queued) > 64:
            self._queued = [
                queued for queued in self._queued if not queued.done() or queued.exception() is not None
            ]
        return future

    def _stored(self, done: Future[Any], events: list[RunEvent], lines: list[dict[str, Any]]) -> None:
        """In the writer's thread, after the commit: now it may be seen."""
        if done.exception() is not None:
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

    def _raise_failed(self) -> None:
        for future in self._queued:
            if future.done() and (problem := future.exception()) is not None:
                raise problem

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


def _nothing(_db: sqlite3.Connection) -> None:
    """Keeps its place among the writes."""
