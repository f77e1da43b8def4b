"""What a persona remembers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

MemoryCategory = Literal["fact", "preference", "instruction", "context", "learned"]


class Memory(Entity):
    """A piece of lasting knowledge; ``importance`` 1–10, a pinned one always enters the prompt first."""

    id: str = Field(default_factory=new_id)
    persona_id: str
    title: str = Field(min_length=1)
    content: str = ""
    category: MemoryCategory = "fact"
    importance: int = Field(default=5, ge=1, le=10)
    tags: tuple[str, ...] = ()
    pinned: bool = False
    source_execution_id: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
