"""Starting a persona because something happened: a due time, an event, a request from outside.

Nobody waits for such a run, and any worker that serves may take it. What stands in its way is a reason to record,
never an error to raise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.errors import QueueFull
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable

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
        if persona is None:
            return Start(reason="The persona is gone.")
        if persona.archived_at is not None or not persona.enabled:
            return Start(reason=f"{persona.name} is {'archived' if persona.archived_at else 'disabled'}.")
        if persona.permissions == "bypass" and not allow_bypass:
            return Start(
                reason=f"{persona.name} may do everything (permissions “bypass”), and nobody allowed that it starts "
                "by itself."
            )
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

    def input_of(self, payload: Any, **cause: Any) -> str:
        """What a run is given, as JSON: the payload, with what started it beside it, without secrets.

        An object keeps its keys; anything else comes under ``input``. Each cause is a key that begins with ``_``.
        """
        given = (
            dict(payload) if isinstance(payload, Mapping) else {} if payload is None else {"input": payload}
        )
        given |= {f"_{name}": value for name, value in cause.items()}
        return self._redact(json.dumps(given, ensure_ascii=False, default=str))
