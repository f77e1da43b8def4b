"""What a design says of a persona beside its prompt (an icon, limits, who is asked first), when it is applied.

A person's own choice stays: a value is taken where the persona has none, or still has what a design gave it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personas_nb.entities.design import DesignResult, SuggestedSettings
from personas_nb.entities.persona import Persona
from personas_nb.entities.structured_prompt import StructuredPrompt

if TYPE_CHECKING:
    from personas_nb.tools.catalog import Tools

_BEFORE_ANY = Persona(name="x")  # what a persona has that nobody has set


def settings_fields(
    result: DesignResult, existing: Persona | None, before: DesignResult | None
) -> dict[str, Any]:
    """Fields of the persona that the design chooses; ``before`` is the design that it was last made of."""
    wanted = result.suggested_settings
    if wanted is None:
        return {}
    given = (before.suggested_settings if before else None) or SuggestedSettings()
    fields = {}
    for name in SuggestedSettings.model_fields:
        value = getattr(wanted, name)
        if name == "approve_first" or value is None:
            continue
        own = getattr(existing or _BEFORE_ANY, name)
        if own in (getattr(_BEFORE_ANY, name), getattr(given, name)):
            fields[name] = value
    return fields


def prompt_of(result: DesignResult) -> StructuredPrompt | None:
    """The sections; None where all there is is one text, which is then the persona's ``system_prompt``."""
    prompt = result.structured_prompt
    is_one_text = prompt == StructuredPrompt(identity=result.full_prompt_markdown)
    return None if is_one_text else prompt


def approve_first(
    tools: Tools, persona: Persona, result: DesignResult, before: DesignResult | None
) -> list[str]:
    """Let a person decide on the calls of tools that the design says so of; what was changed, in words."""
    wanted = result.suggested_settings.approve_first if result.suggested_settings else ()
    given = before.suggested_settings.approve_first if before and before.suggested_settings else ()
    assigned = {tool.name for tool in tools.assigned(persona.id)}
    new = [
        name
        for name in dict.fromkeys(wanted)
        if name in assigned and name not in given and name not in tools.needing_approval(persona.id)
    ]
    for name in new:
        tools.require_approval(persona.id, name)
    return [f"Tool {name} asks you before each call." for name in new]
