"""The rich prompt: six sections."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from personas_nb.entities.base import Entity


class CustomSection(Entity):
    """A section of the person's own."""

    key: str = Field(min_length=1, description="what the section is called in data, e.g. “tone”")
    label: str = Field(default="", description="the heading that the model reads; the key when empty")
    content: str = ""


class StructuredPrompt(Entity):
    """What a persona is told, in six sections; takes precedence over ``system_prompt``.

    In JSON the names are ``identity``, ``instructions``, ``toolGuidance``, ``examples``, ``errorHandling``
    and ``customSections``; in Python ``tool_guidance`` and so on. Both are accepted.

    >>> StructuredPrompt(identity="You watch invoices.", toolGuidance="Read first.").tool_guidance
    'Read first.'
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        defer_build=True,
    )

    identity: str = Field(default="", description="who this persona is and what it is for")
    instructions: str = Field(default="", description="what it does, step by step")
    tool_guidance: str = Field(default="", description="how and when to use each assigned tool")
    examples: str = Field(default="", description="example situations and what to do in them")
    error_handling: str = Field(default="", description="what to do when something is missing or fails")
    custom_sections: tuple[CustomSection, ...] = Field(default=(), description="sections of your own")

    def sections(self) -> list[tuple[str, str]]:
        """Heading and text of every section that has text, in the order of the prompt."""
        named = [
            ("Identity", self.identity),
            ("Instructions", self.instructions),
            ("Tool Guidance", self.tool_guidance),
            ("Examples", self.examples),
            ("Error Handling", self.error_handling),
            *((section.label or section.key, section.content) for section in self.custom_sections),
        ]
        return [(heading, text.strip()) for heading, text in named if text.strip()]

    def is_empty(self) -> bool:
        """Whether no section has any text."""
        return not self.sections()
