"""The persona: an autonomous agent, declared, not coded."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now, one_line
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.structured_prompt import StructuredPrompt

Permissions = Literal["assigned", "bypass"]


def slug_of(name: str) -> str:
    """A name in lower case, ASCII letters, digits and hyphens; ``persona`` when nothing of it is left.

    >>> slug_of("Invoice Wächter (EU)")
    'invoice-wachter-eu'
    """
    ascii_name = unicodedata.normalize("NFKD", str(name).casefold()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")[:64] or "persona"


class Persona(Entity):
    """An autonomous agent: identity, instructions, limits; tools, triggers and memories refer to it by ``id``.

    ``None`` in a limit means the setting's default. Two-tier prompt: ``structured_prompt`` (a mapping, or its
    JSON) wins over ``system_prompt``; a text that is no structured prompt is kept as a string, and the run that
    meets it falls back to ``system_prompt`` with a warning.

    >>> Persona(name="Invoice watcher", system_prompt="You watch invoices.").slug
    'invoice-watcher'
    """

    id: str = Field(default_factory=new_id)
    project_id: str = "default"
    slug: str = Field(default="", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=10_000)
    system_prompt: str = ""
    structured_prompt: StructuredPrompt | str | None = None
    icon: str | None = Field(default=None, max_length=64)
    color: str | None = Field(default=None, pattern=r"^#[0-9A-Fa-f]{6}$", description="hex, such as #0072B2")
    enabled: bool = True
    archived_at: UtcDatetime | None = None
    max_concurrent: int = Field(default=1, ge=1, le=100)
    timeout_ms: int | None = Field(default=None, ge=1, le=86_400_000)
    max_budget_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_turns: int | None = Field(default=None, ge=1, le=1000)
    permissions: Permissions = "assigned"
    uses_memories: bool = True
    model_profile: ModelProfile | None = None
    notification_channels: tuple[dict[str, Any], ...] = ()
    last_design_result: dict[str, Any] | None = None
    design_context: tuple[str, ...] = ()
    group_id: str | None = None
    version: int = Field(default=1, ge=1, description="number of the current prompt version")
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)

    @model_validator(mode="before")
    @classmethod
    def _slug_from_name(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and not fields.get("slug") and isinstance(fields.get("name"), str):
            return {**fields, "slug": slug_of(fields["name"])}
        return fields

    @field_validator("structured_prompt", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return StructuredPrompt.model_validate_json(value) if value.strip() else None
        except ValueError:
            return value

    _name_is_one_line = field_validator("name")(one_line)

    @property
    def prompt(self) -> StructuredPrompt:
        """The six sections as they are used: the structured prompt, else ``system_prompt`` as identity."""
        if isinstance(self.structured_prompt, StructuredPrompt) and not self.structured_prompt.is_empty():
            return self.structured_prompt
        return StructuredPrompt(identity=self.system_prompt)
