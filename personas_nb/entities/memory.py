"""What a persona remembers, and what of it a prompt was told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

MemoryCategory = Literal["fact", "preference", "instruction", "context", "learned"]


class Memory(Entity):
    """A piece of lasting knowledge; ``importance`` 1–10, a pinned one always enters the prompt first.

    One that was superseded holds no more and is kept as what was known before; ``superseded_by`` is the memory that
    holds in its place. ``repeats`` is how often it was said again. What a rehearsal remembers no real run is told.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    title: str = Field(min_length=1)
    content: str = ""
    category: MemoryCategory = "fact"
    importance: int = Field(default=5, ge=1, le=10)
    tags: tuple[str, ...] = ()
    pinned: bool = False
    source_execution_id: str | None = None
    superseded_by: str | None = None
    superseded_at: UtcDatetime | None = None
    repeats: int = Field(default=0, ge=0)
    rehearsal: bool = False
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)


class MemoryUse(Entity):
    """Why a memory was told or left out: ``score`` is relevance × importance × recency.

    ``relevance`` is 0.1 to 1, ``words`` are those that it has in common with the input; ``recency`` is 0.2 to 1.
    """

    memory_id: str
    title: str
    score: float
    relevance: float
    importance: int
    recency: float
    words: tuple[str, ...] = ()
    pinned: bool = False
    chars: int = 0


class Recall(Entity):
    """What of its memories a persona was told with one input, the best first, and what had no room.

    ``left_out`` has the best of those; ``left_out_count`` counts all. ``used_chars`` of ``limit_chars`` were used.
    """

    told: tuple[MemoryUse, ...] = ()
    left_out: tuple[MemoryUse, ...] = ()
    left_out_count: int = 0
    used_chars: int = 0
    limit_chars: int = 0
