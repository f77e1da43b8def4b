"""A prompt as one text, for files that have no sections; and back, where the text still shows them."""

from __future__ import annotations

import re

from personas_nb.design.designer import markdown_of
from personas_nb.design.formats.portable import LeftOut, Portable
from personas_nb.entities.structured_prompt import CustomSection, StructuredPrompt

_HEADINGS = {
    "Identity": "identity",
    "Instructions": "instructions",
    "Tool Guidance": "tool_guidance",
    "Examples": "examples",
    "Error Handling": "error_handling",
}


def prompt_text(persona: Portable) -> tuple[str, tuple[LeftOut, ...]]:
    """What the persona is told, and what of its prompt does not come back from that text."""
    prompt = persona.structured_prompt
    if prompt is None or prompt.is_empty():
        text = persona.system_prompt
        return text, () if sections_in(text) is None else (_MIXED,)
    text = markdown_of(prompt)
    left_out = []
    if sections_in(text) != prompt:
        left_out.append(LeftOut("sections", "They are one text under headings, and come back as that."))
    if persona.system_prompt.strip() and persona.system_prompt.strip() != text:
        left_out.append(LeftOut("system_prompt", "The sections take its place, as in a run."))
    return text, tuple(left_out)


def prompt_fields(text: str) -> dict[str, object]:
    """The text as fields of a persona: its sections where it begins with one of ours, else as one prompt."""
    sections = sections_in(text)
    if sections is None:
        return {"system_prompt": text}
    return {"structured_prompt": sections, "system_prompt": text}


def sections_in(text: str) -> StructuredPrompt | None:
    """The sections of a text that begins with the heading of one of them; None for any other text.

    >>> sections_in("## Identity\\n\\nYou test.\\n\\n## Tone\\n\\nDry.").custom_sections[0].label
    'Tone'
    """
    parts = re.split(r"^## (.+?)[ \t]*$", text.strip(), flags=re.MULTILINE)
    headings, contents = [heading.strip() for heading in parts[1::2]], [part.strip() for part in parts[2::2]]
    if parts[0].strip() or not headings or headings[0] not in _HEADINGS or len(set(headings)) < len(headings):
        return None
    named = {
        _HEADINGS[heading]: text
        for heading, text in zip(headings, contents, strict=True)
        if heading in _HEADINGS
    }
    custom = [
        CustomSection(key=_key(heading), label=heading, content=text)
        for heading, text in zip(headings, contents, strict=True)
        if heading not in _HEADINGS
    ]
    return StructuredPrompt(**named, custom_sections=tuple(custom))


def _key(heading: str) -> str:
    return re.sub(r"\W+", "_", heading.lower()).strip("_") or "section"


_MIXED = LeftOut("system_prompt", "It looks like sections, and comes back as these.")
