"""What starts a persona by itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

TriggerType = Literal["manual", "schedule", "polling", "webhook"]


class Trigger(Entity):
    """A rule that starts a persona; ``config`` holds cron and timezone, interval_seconds, … by type.

    ``next_trigger_at`` is its next due time, None while it has none (off, manual, webhook) or nobody planned it yet.
    ``state`` is what a poller saw last. With ``allow_bypass`` a person agreed that it may start a persona whose
    permissions are ``bypass``.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    trigger_type: TriggerType
    config: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    enabled: bool = True
    allow_bypass: bool = False
    origin: Literal["user", "design", "import"] = "user"
    state: dict[str, Any] = Field(default_factory=dict)
    last_triggered_at: UtcDatetime | None = None
    next_trigger_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)


FireStatus = Literal["queued", "skipped", "checking"]


class Fire(Entity):
    """What became of one due time of a trigger: an execution, or a skip with its reason.

    ``key`` makes it one of a kind among those of its trigger: the due time, or a webhook's delivery id. ``count``
    is more than 1 where the skips from ``due_at`` to ``until_at`` share a row. ``late_ms`` is how long after
    ``due_at`` it was decided. ``checking``: a poller looks, and will say.
    """

    id: str = Field(default_factory=new_id)
    trigger_id: str
    key: str = Field(min_length=1, max_length=200)
    kind: TriggerType
    due_at: UtcDatetime
    until_at: UtcDatetime | None = None
    count: int = Field(default=1, ge=1)
    status: FireStatus
    reason: str | None = None
    execution_id: str | None = None
    late_ms: int | None = None
    worker_id: str | None = None
    decided_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
