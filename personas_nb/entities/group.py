"""A folder of personas."""

from __future__ import annotations

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class PersonaGroup(Entity):
    """A folder with a name and a colour; a persona's ``group_id`` refers to it."""

    id: str = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=200)
    color: str | None = Field(default=None, pattern=r"^#[0-9A-Fa-f]{6}$")
    sort_order: int = 0
    collapsed: bool = False
    created_at: UtcDatetime = Field(default_factory=now)
