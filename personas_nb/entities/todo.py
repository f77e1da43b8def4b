"""Something that is left to do before a persona can do all that its design wanted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

TodoKind = Literal["credential", "connector", "reach", "channel", "trigger", "server", "other"]


class Todo(Entity):
    """What could not be applied, and the verb to type; shown until it is so.

    ``subject`` is what it is about: a connector, a trigger in words, a server.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    session_id: str | None = None
    kind: TodoKind = "other"
    subject: str
    problem: str
    remedy: str = ""
    created_at: UtcDatetime = Field(default_factory=now)
