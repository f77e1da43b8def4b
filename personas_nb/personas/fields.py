"""What may be given to make or change a persona, and how it becomes fields of the entity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from personas_nb.entities.base import made
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.persona import Persona
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.errors import InvalidInput, did_you_mean

READ_ONLY = {
    "id": "It is given once and stays.",
    "created_at": "It is kept by itself.",
    "updated_at": "It is kept by itself.",
    "version": "It grows with every change of the prompt; rollback goes back to an older one.",
    "archived_at": "Use archive, or enable to bring an archived persona back.",
}
FIXED_AT_CREATION = {
    "slug": "It stays when the name changes, so that notebooks which say it keep working.",
    "project_id": "It is chosen when the persona is made.",
}
# In Python and in JSON: tool_guidance and toolGuidance.
SECTIONS = {
    given: name
    for name, field in StructuredPrompt.model_fields.items()
    for given in (name, field.alias or name)
}


def check_names(given: Mapping[str, Any], *, is_new: bool) -> None:
    """Raises ``InvalidInput`` for a field that there is not, or that is not for setting."""
    read_only = READ_ONLY if is_new else READ_ONLY | FIXED_AT_CREATION
    known = [name for name in (*Persona.model_fields, "group", *SECTIONS) if name not in read_only]
    for name in given:
        if name in read_only:
            raise InvalidInput(f"“{name}” of a persona cannot be set.", hint=read_only[name])
        owner, dot, part = name.partition(".")
        if dot and owner == "structured_prompt" and part not in SECTIONS:
            raise InvalidInput(
                f"A structured prompt has no section “{part}”.",
                hint=did_you_mean(part, SECTIONS, otherwise=f"It has {', '.join(SECTIONS)}."),
            )
        if name not in known and not (dot and owner in ("structured_prompt", "model_profile")):
            otherwise = f"It has {', '.join(known)}."
            raise InvalidInput(
                f"A persona has no field “{name}”.", hint=did_you_mean(name, known, otherwise=otherwise)
            )


def revised(persona: Persona, given: Mapping[str, Any]) -> Persona:
    """The persona with these fields, validated; everything that is not named stays as it is.

    ``structured_prompt`` replaces all sections, ``structured_prompt.identity`` or just ``identity`` one of them;
    ``model_profile`` likewise. A section that is set where there was only a ``system_prompt`` keeps that text as
    the identity, since a structured prompt takes precedence.
    """
    plain = {name: value for name, value in given.items() if "." not in name and name not in SECTIONS}
    if "structured_prompt" in plain:
        plain["structured_prompt"] = _structured(plain["structured_prompt"])
    if "model_profile" in plain:
        plain["model_profile"] = _profile(plain["model_profile"])
    persona = persona.changed(**plain)
    sections = {
        SECTIONS[name.removeprefix("structured_prompt.")]: value
        for name, value in given.items()
        if name.removeprefix("structured_prompt.") in SECTIONS
    }
    if sections:
        persona = persona.changed(structured_prompt=persona.prompt.changed(**sections))
    choices = {
        name.removeprefix("model_profile."): value
        for name, value in given.items()
        if name.startswith("model_profile.")
    }
    if choices:
        persona = persona.changed(model_profile=(persona.model_profile or ModelProfile()).changed(**choices))
    return persona


def _structured(value: Any) -> StructuredPrompt | str | None:
    """A mapping must fit; what a text means is the entity's to say."""
    if value is None or isinstance(value, StructuredPrompt | str):
        return value
    if isinstance(value, Mapping):
        return made(StructuredPrompt, dict(value))
    raise InvalidInput(
        "“structured_prompt” must be a mapping of its sections.",
        hint=f"Its sections are {', '.join(SECTIONS)}.",
    )


def _profile(value: Any) -> ModelProfile | None:
    if value is None or isinstance(value, ModelProfile):
        return value
    if isinstance(value, str):
        value = _from_json(value)
    if not isinstance(value, Mapping):
        raise InvalidInput(
            "“model_profile” must be a mapping.", hint=f"It has {', '.join(ModelProfile.model_fields)}."
        )
    return made(ModelProfile, dict(value))


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # the caught error carries the text, which may hold a token
        return None
