"""Events, who listens to them, and what became of each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

SourceType = Literal["persona", "user", "system", "scheduler"]


class Event(Entity):
    """Something that happened; ``target_persona_id`` makes that persona its only subscriber.

    ``depth`` is how many runs started one another by events until it was published: 0 for one that a person
    published. ``pending`` until it is known who hears it; ``dead`` when nobody may, with the reason.
    """

    id: str = Field(default_factory=new_id)
    event_type: str = Field(min_length=1, max_length=200)
    source_type: SourceType = "user"
    source: str = ""
    target_persona_id: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    execution_id: str | None = None
    depth: int = Field(default=0, ge=0)
    status: Literal["pending", "processed", "dead"] = "pending"
    reason: str | None = None
    rehearsal: bool = False
    created_at: UtcDatetime = Field(default_factory=now)


class Subscription(Entity):
    """A persona that starts when a matching event arrives.

    ``source_filter`` takes ``*`` anywhere; None hears every source. With ``allow_bypass`` a person agreed that it may
    start a persona whose permissions are ``bypass``. ``after_event`` is the number of the newest event when it was
    made or switched on, as the store sets it: it hears only later ones.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    event_type: str = Field(min_length=1, max_length=200)
    source_filter: str | None = None
    enabled: bool = True
    allow_bypass: bool = False
    after_event: int = 0
    created_at: UtcDatetime = Field(default_factory=now)


class EventDelivery(Entity):
    """What became of one event at one subscription; of one with a target, at ``target:PERSONA_ID``.

    One that is ``pending`` is tried again at ``next_attempt_at``.
    """

    id: str = Field(default_factory=new_id)
    event_id: str
    subscription_id: str
    persona_id: str | None = None
    execution_id: str | None = None
    status: Literal["pending", "started", "skipped", "dead"] = "pending"
    attempts: int = 0
    reason: str | None = None
    next_attempt_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime | None = None


class DeadLetter(Entity):
    """An event that started nobody, or not its subscriber, and will not by itself; ``id`` is what replays it.

    ``delivery`` is None where the event as a whole is dead: its chain was too long, or its target is unknown.
    """

    id: str
    event: Event
    delivery: EventDelivery | None = None
    persona_name: str = ""
    reason: str = ""
    at: UtcDatetime


class FlowEdge(Entity):
    """How often a source (a persona's slug, a user, …) started a persona by a type of event; ``last_at`` at last."""

    source: str
    source_type: SourceType
    event_type: str
    target: str
    count: int
    last_at: UtcDatetime
