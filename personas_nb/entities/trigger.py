"""What starts a persona by itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

TriggerType = Literal["manual", "schedule", "polling", "webhook"]


class Trigger(Entity):
    """A rule that starts a persona; ``config`` holds cron and timezone, interval_seconds, … by type."""

    id: str = Field(default_factory=new_id)
    persona_id: str
    trigger_type: TriggerType
    config: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    enabled: bool = True
    origin: Literal["user", "design", "import"] = "user"
    last_triggered_at: UtcDatetime | None = None
    next_trigger_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
