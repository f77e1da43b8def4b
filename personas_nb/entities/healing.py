"""Something that failed and needs a person."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class HealingIssue(Entity):
    """A diagnosed failure and what to do about it; ``execution_id`` is the run that met it last.

    While an issue is open, the same failure of the same persona is the same issue: ``occurrences`` counts.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    execution_id: str | None = None
    category: str
    title: str
    remedy: str = ""
    status: Literal["open", "resolved"] = "open"
    note: str | None = None
    occurrences: int = 1
    created_at: UtcDatetime = Field(default_factory=now)
    last_seen_at: UtcDatetime | None = None
    resolved_at: UtcDatetime | None = None
