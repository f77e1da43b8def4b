"""A design that worked, kept for later ones."""

from __future__ import annotations

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now
from personas_nb.entities.design import Flow
from personas_nb.entities.structured_prompt import StructuredPrompt


class PersonaDesignPattern(Entity):
    """What a tested persona was told and given, and how well it did: something to adapt in a later design.

    ``keywords`` are words of its purpose, separated by spaces; ``score`` is that of the eval it comes from (0 to 1),
    ``cases`` how many cases that had. ``rehearsal``: only its tools and messages were tested, no model.
    """

    id: str = Field(default_factory=new_id)
    owner_id: str
    name: str
    summary: str = ""
    instruction: str = ""
    keywords: str = ""
    structured_prompt: StructuredPrompt
    tools: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    flow: Flow = Field(default_factory=Flow)
    score: float = Field(ge=0, le=1)
    cases: int = Field(default=0, ge=0)
    rehearsal: bool = False
    eval_run_id: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
