"""Something that failed and needs a person."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class HealingIssue(Entity):
    """A diagnosed failure and what to do about it."""

    id: str = Field(default_factory=new_id)
    persona_id: str
    execution_id: str | None = None
    category: str
    title: str
    remedy: str = ""
    status: Literal["open", "resolved"] = "open"
    note: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    resolved_at: UtcDatetime | None = None
