"""What of a design goes when a wish leaves a service out: the steps that name it, and tools that only they used."""

from __future__ import annotations

import re
from collections.abc import Collection

from personas_nb.design.designer import chained, markdown_of
from personas_nb.design.proposing import WHAT_IT_DOES, numbered
from personas_nb.design.prose import summary_of
from personas_nb.design.reading import step_of
from personas_nb.entities.design import DesignResult

_STEP = re.compile(r"^\s*\d{1,4}[.)]\s+(?P<text>.*)$")


def without_services(design: DesignResult, names: Collection[str]) -> tuple[DesignResult, tuple[str, ...]]:
    """The design without the steps that name one of these channels, and the tools that no other step asks for.

    Instructions that are no numbered list, or of which nothing would be left, stay as they are.
    """
    channels = {one.type for one in design.suggested_notification_channels} & {name.lower() for name in names}
    matches = [_STEP.match(line) for line in design.structured_prompt.instructions.splitlines()]
    texts = [match["text"] for match in matches if match]
    gone = [text for text in texts if _names(text, channels)]
    kept = [text for text in texts if text not in gone]
    if not gone or not kept or len(texts) != len(matches):
        return design, ()
    prompt = design.structured_prompt.changed(instructions=numbered(kept))
    boxes = [box for box in design.flow.steps if not _names(box.label, channels)]
    fields = {
        "structured_prompt": prompt,
        "full_prompt_markdown": markdown_of(prompt),
        "flow": chained(boxes),
    }
    does = [one for one in design.design_highlights if one.category == WHAT_IT_DOES]
    if does and (left := [item for item in does[0].items if not _names(item, channels)]):
        highlights = [
            one.changed(items=tuple(left)) if one is does[0] else one for one in design.design_highlights
        ]
        fields |= {"summary": summary_of(left), "design_highlights": tuple(highlights)}
    needed = {tool for text in kept for tool in step_of(text, about_mail=False).wanted.tools}
    unused = {tool for text in gone for tool in step_of(text, about_mail=False).wanted.tools} - needed
    return design.changed(**fields), tuple(sorted(unused))


def _names(text: str, names: Collection[str]) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) for name in names)
