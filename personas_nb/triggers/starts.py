"""Starting a persona because something happened: a due time, an event, a request from outside.

Nobody waits for such a run, and any worker that serves may take it. What stands in its way is a reason to record,
never an error to raise.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from personas_nb.entities.base import new_id
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.errors import QueueFull, RowUnreadable
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable, queue_full
from personas_nb.store.table import Table

Redact = Callable[[str], str]


@dataclass(frozen=True)
class Start:
    """What became of it: an execution that is queued, or the reason why there is none.

    ``is_full``: the persona's queue is; later there may be room.
    """

    execution_id: str | None = None
    reason: str | None = None
    is_full: bool = False


class Starts:
    """Queues runs that nobody waits for; ``redact`` takes secrets out of what they are given."""

    def __init__(self, store: Store, settings: Settings, *, redact: Redact) -> None:
        self._personas = store.table("personas", Persona)
        self._executions = ExecutionTable(store)
        self._settings, self._redact = settings, redact

    def queue(
        self,
        persona_id: str,
        input_data: str | None,
        *,
        allow_bypass: bool,
        trigger_id: str | None = None,
        event_id: str | None = None,
        rehearsal: bool = False,
        worker_id: str | None = None,
    ) -> Start:
        """Queue a run in the current transaction, or say why not; for ``worker_id`` alone where it is given.

        ``allow_bypass``: a person agreed that this may start a persona whose permissions are ``bypass``. With
        ``rehearsal`` it is one, whatever the persona's provider: what comes of a rehearsal does nothing either.
        """
        persona = self._personas.get(persona_id)
        if (reason := _hindrance(persona, allow_bypass=allow_bypass)) is not None:
            return Start(reason=reason)
        assert persona is not None
        execution = Execution(
            persona_id=persona.id,
            persona_name=persona.name,
            input_data=input_data,
            trigger_id=trigger_id,
            event_id=event_id,
            requested_provider="rehearsal" if rehearsal else None,
            worker_id=worker_id,
        )
        try:
            self._executions.enqueue(execution, queue_limit=self._settings.queue_limit)
        except QueueFull as error:
            return Start(reason=error.message, is_full=True)
        return Start(execution_id=execution.id)

    def batch(self) -> Batch:
        """Queues many at once in the current transaction; to be used in that one only."""
        return Batch(self._personas, self._executions, self._settings.queue_limit)

    def input_of(self, payload: Any, **cause: Any) -> str:
        """What a run is given, as JSON: the payload, with what started it beside it, without secrets.

        An object keeps its keys; anything else comes under ``input``. Each cause is a key that begins with ``_``.
        """
        return self._redact(self.json_of(payload, **cause))

    def json_of(self, payload: Any, **cause: Any) -> str:
        """As ``input_of``, with the secrets in it: to be looked at, never to be stored."""
        given = (
            dict(payload) if isinstance(payload, Mapping) else {} if payload is None else {"input": payload}
        )
        given |= {f"_{name}": value for name, value in cause.items()}
        text = json.dumps(given, ensure_ascii=False, default=str)
        if "NaN" in text or "Infinity" in text:  # which JSON does not have
            given = json.loads(text, parse_constant=lambda _name: None)
            text = json.dumps(given, ensure_ascii=False)
        # Half a surrogate pair, which JSON can say with an escape, cannot be stored.
        return text.encode("utf-8", "replace").decode()

    def redacted(self, text: str) -> str:
        """A text without secrets, such as a reason that repeats what somebody else said."""
        return self._redact(text)


class Batch:
    """Many starts of one transaction: what is known of a persona is read once, and the rows are written together."""

    def __init__(self, personas: Table[Persona], executions: ExecutionTable, queue_limit: int) -> None:
        self._personas, self._executions, self._queue_limit = personas, executions, queue_limit
        self._known: dict[tuple[str, bool], tuple[Persona | None, str | None]] = {}
        self._queued: dict[str, int] = {}
        self._new: dict[str, list[tuple[str, str, str | None]]] = {}

    def queue(self, persona_id: str, input_data: str | None, *, allow_bypass: bool, trigger_id: str) -> Start:
        """As `Starts.queue`; the row is written by ``write``."""
        known = self._known.get((persona_id, allow_bypass))
        if known is None:
            try:
                persona = self._personas.get(persona_id)
                known = persona, _hindrance(persona, allow_bypass=allow_bypass)
            except RowUnreadable as error:  # the others of this transaction start all the same
                known = None, error.message
            self._known[persona_id, allow_bypass] = known
            self._queued.setdefault(persona_id, self._executions.queued_count(persona_id))
        persona, reason = known
        if persona is None or reason is not None:
            return Start(reason=reason)
        queued = self._queued[persona_id]
        if queued >= self._queue_limit:
            return Start(reason=queue_full(persona.name, queued).message, is_full=True)
        self._queued[persona_id] = queued + 1
        execution_id = new_id()
        self._new.setdefault(persona_id, []).append((execution_id, trigger_id, input_data))
        return Start(execution_id=execution_id)

    def write(self, db: sqlite3.Connection) -> None:
        """Write what was queued."""
        names = {persona_id: persona for (persona_id, _consent), (persona, _reason) in self._known.items()}
        for persona_id, runs in self._new.items():
            persona = names[persona_id]
            assert persona is not None
            model = Execution(persona_id=persona_id, persona_name=persona.name)
            self._executions.insert_fired(db, model, runs)
        self._new.clear()


def _hindrance(persona: Persona | None, *, allow_bypass: bool) -> str | None:
    """Why nothing may start a persona by itself; None where it may."""
    if persona is None:
        return "The persona is gone."
    if persona.archived_at is not None or not persona.enabled:
        return f"{persona.name} is {'archived' if persona.archived_at else 'disabled'}."
    if persona.permissions == "bypass" and not allow_bypass:
        return f"{persona.name} may do everything (permissions “bypass”), and nobody allowed that it starts by itself."
    return None
