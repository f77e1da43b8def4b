"""What a persona told the user."""

from __future__ import annotations

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class Message(Entity):
    """A message to the user; ``read_at`` None until it was seen."""

    id: str = Field(default_factory=new_id)
    persona_id: str
    execution_id: str | None = None
    title: str = ""
    content: str = ""
    content_type: str = "info"
    priority: str = "normal"
    rehearsal: bool = False
    read_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
