"""One state of a persona's prompt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now
from personas_nb.entities.structured_prompt import StructuredPrompt


class PromptVersion(Entity):
    """A numbered state of a persona's prompt, who made it and what changed.

    ``tags`` are further names of it, such as production; each names one version of a persona.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    version: int = Field(ge=1)
    system_prompt: str = ""
    structured_prompt: StructuredPrompt | str | None = None
    change_summary: str = ""
    author: Literal["user", "design", "rollback", "healing"] = "user"
    tags: tuple[str, ...] = ()
    created_at: UtcDatetime = Field(default_factory=now)
