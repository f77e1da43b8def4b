"""What each protocol message writes. Handlers make rows; triggers and notifications drain them later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personas_nb.engine.protocol import ProtocolMessage
from personas_nb.entities.base import Entity
from personas_nb.entities.event import Event
from personas_nb.entities.execution import Execution
from personas_nb.entities.memory import Memory
from personas_nb.entities.message import Message
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.errors import PersonaError
from personas_nb.notify import outbox
from personas_nb.personas.remembering import keep
from personas_nb.store.database import Store
from personas_nb.store.events import EventTable
from personas_nb.store.memories import MemoryTable

Row = tuple[str, Entity]
_NOUNS = {"user_message": "message", "manual_review": "review"}
_TOLD = {
    "id",
    "title",
    "content",
    "content_type",
    "priority",
    "description",
    "severity",
    "suggested_actions",
    "execution_id",
}


@dataclass
class Handlers:
    """Turns messages into rows; keeps what belongs to the execution itself (flows, the last assessment)."""

    persona: Persona
    execution: Execution
    rehearsal: bool
    find_persona: Callable[[str], Persona]
    flows: list[dict[str, Any]] = field(default_factory=list)
    assessment: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)
    superseding: dict[str, str] = field(default_factory=dict)
    """What new memories are to take the place of, in the words of the persona, by their ids."""

    def rows(self, message: ProtocolMessage) -> list[Row]:
        """The rows that a message asks for; none for flows and assessments, which stay with the execution.

        None at all in a test: that the message was sent is one of its run's events.
        """
        data = message.data
        if message.kind == "execution_flow":
            self.flows.extend(data["flows"])
            return []
        if message.kind == "outcome_assessment":
            self.assessment = data
            return []
        if self.execution.eval_run_id is not None:
            return []  # a test tells, starts and remembers nothing
        row: Row = getattr(self, f"_{message.kind}")(data)
        if message.kind in ("user_message", "manual_review"):
            return [row, self._told(message.kind, row[1])]
        return [row]

    def write(self, store: Store, row: Row) -> None:
        """Write a row in the current transaction; a memory may be known already, or take the place of another.

        A message comes with what is to be sent of it, and so does a decision that nobody watches for.
        """
        table, entity = row
        if isinstance(entity, Memory):
            keep(MemoryTable(store), entity, self.superseding.pop(entity.id, None))
            return
        if isinstance(entity, Message):
            outbox.write(store, entity)
            return
        if isinstance(entity, Event):
            EventTable(store).insert(entity)
            return
        store.table(table, type(entity)).insert(entity)
        if isinstance(entity, Review):
            outbox.ask(store, self.execution, entity)

    def _common(self) -> dict[str, Any]:
        return {"persona_id": self.persona.id, "execution_id": self.execution.id, "rehearsal": self.rehearsal}

    def _user_message(self, data: dict[str, Any]) -> Row:
        names = ("title", "content", "content_type", "priority")
        return "messages", Message(**self._common(), **{name: str(data.get(name, "")) for name in names})

    def _agent_memory(self, data: dict[str, Any]) -> Row:
        memory = Memory(
            persona_id=self.persona.id,
            source_execution_id=self.execution.id,
            title=data["title"],
            content=data.get("content", ""),
            category=data["category"],
            importance=data["importance"],
            tags=tuple(str(tag) for tag in data.get("tags", ())),
            rehearsal=self.rehearsal,
        )
        if isinstance(supersedes := data.get("supersedes"), str):
            self.superseding[memory.id] = supersedes
        return "memories", memory

    def _manual_review(self, data: dict[str, Any]) -> Row:
        return "reviews", Review(
            **self._common(),
            title=data["title"],
            description=data.get("description", ""),
            severity=data["severity"],
            suggested_actions=tuple(str(action) for action in data.get("suggested_actions", ())),
        )

    def _event(self, event_type: str, data: dict[str, Any], **fields: Any) -> Row:
        return "events", Event(
            event_type=event_type,
            source=self.persona.slug,
            data=data,
            execution_id=self.execution.id,
            rehearsal=self.rehearsal,
            **{"source_type": "persona", **fields},
        )

    def _told(self, kind: str, told: Entity) -> Row:
        """The event that a message or a review was written, for personas that listen to such."""
        kept = told.model_dump(mode="json", include=_TOLD)
        return self._event(kind, {f"{_NOUNS[kind]}_id": kept.pop("id"), **kept}, source_type="system")

    def _emit_event(self, data: dict[str, Any]) -> Row:
        payload = data.get("data")
        return self._event(data["type"], payload if isinstance(payload, dict) else {"value": payload})

    def _persona_action(self, data: dict[str, Any]) -> Row:
        try:
            target = self.find_persona(data["target"])
        except PersonaError as error:
            self.warnings.append(f"The action on “{data['target']}” starts nobody: {error}")
            return self._event("persona_action", data, status="dead", reason=error.message)
        return self._event("persona_action", data, target_persona_id=target.id)
