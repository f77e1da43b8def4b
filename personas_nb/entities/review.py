"""A decision asked of a person."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now


class Review(Entity):
    """Something that a persona wants a person to decide; decided once, a second decision repeats the verdict.

    ``kind`` is ``manual`` where the persona asks by itself, ``approval`` where its run waits to call a ``tool``: it
    then holds for that call (``call_id``, ``arguments_hash``) of that ``persona_version`` until ``expires_at``.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    execution_id: str | None = None
    title: str = ""
    description: str = ""
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    suggested_actions: tuple[str, ...] = ()
    status: Literal["pending", "approved", "rejected", "expired"] = "pending"
    note: str | None = None
    rehearsal: bool = False
    kind: Literal["manual", "approval"] = "manual"
    tool: str | None = None
    call_id: str | None = None
    arguments_hash: str | None = None
    persona_version: int | None = None
    expires_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    decided_at: UtcDatetime | None = None
