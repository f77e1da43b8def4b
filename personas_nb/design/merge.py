"""A new design for a persona that exists: what a person changed by hand since the last design stays.

- Three states are compared, part by part: what designs wrote last, the persona as it is now, the new design. A part
  that only the design changed is taken from it, one that only the person changed stays.
- A part that both changed is a conflict: the person's stays, and the design's is kept beside it, to be taken.
- What designs wrote last is remembered as they wanted it, not as it came to be: what is the person's stays so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from personas_nb.design.designer import markdown_of
from personas_nb.entities.design import DesignResult, KeptPart, SuggestedSubscription, SuggestedTrigger
from personas_nb.entities.structured_prompt import CustomSection, StructuredPrompt
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput, did_you_mean
from personas_nb.triggers.webhooks import CREDENTIAL_KEY

SECTIONS = {
    "identity": "Identity",
    "instructions": "Instructions",
    "tool_guidance": "Tool Guidance",
    "examples": "Examples",
    "error_handling": "Error Handling",
}
LABELS = {
    **SECTIONS,
    "description": "Description",
    "tools": "Tools",
    "triggers": "Triggers",
    "events": "Events",
}
_CUSTOM = "custom:"


@dataclass(frozen=True)
class Merged:
    """What applying the design makes of the persona, and what of it stays as the person has it."""

    result: DesignResult
    kept: tuple[KeptPart, ...] = ()


def merged(
    new: DesignResult,
    now: DesignResult,
    known: Iterable[DesignResult | None],
    carried: Iterable[KeptPart] = (),
) -> Merged:
    """The design for a persona that is ``now`` so; ``known`` are states that no person's hand has made since.

    Those are what designs wrote last, and what the person was shown before this step: a part of the persona that
    is in one of them may be replaced. ``carried`` were kept before; what the new design leaves so is kept still.
    """
    bases = [base for base in known if base is not None] or [_nothing(new)]
    ours, theirs = _parts(now), _parts(new)
    based = [_parts(base) for base in bases]
    kept = []
    for part in dict.fromkeys((*theirs, *ours)):
        yours, design = ours.get(part), theirs.get(part)
        if part in ("tools", "events"):
            kept += _kept_names(part, yours or (), design or (), [each.get(part) or () for each in based])
            continue
        if _same(yours, design) or any(_same(yours, each.get(part)) for each in based):
            continue
        is_conflict = bool(design) and not any(_same(design, each.get(part)) for each in based)
        kept.append(
            KeptPart(part=part, label=_label(part, now), yours=yours, design=design, is_conflict=is_conflict)
        )
    there = {each.part for each in kept}
    result = with_parts(new, {each.part: each.yours for each in kept})
    kept += [each for each in _still(carried, new) if each.part not in there]
    return Merged(result, tuple(kept))


def _still(carried: Iterable[KeptPart], new: DesignResult) -> Iterable[KeptPart]:
    """What was kept before and is so in the new design too."""
    parts = _parts(new)
    for each in carried:
        value = parts.get(each.part)
        if each.part in ("tools", "events"):
            before, have = set(each.yours or ()), list(value or ())
            design = [name for name in each.design or () if name in have or name not in before]
            design += [name for name in have if name not in before and name not in design]
            if set(design) != set(have):
                yield each.changed(yours=have, design=design)
        elif _same(value, each.yours):
            yield each


def with_parts(result: DesignResult, values: Mapping[str, Any]) -> DesignResult:
    """The design with other values in these parts; its Markdown follows its sections."""
    fields: dict[str, Any] = {}
    sections: dict[str, Any] = {part: values[part] or "" for part in SECTIONS if part in values}
    if custom := {part: value for part, value in values.items() if part.startswith(_CUSTOM)}:
        sections["custom_sections"] = _with_custom(result.structured_prompt.custom_sections, custom)
    if sections:
        prompt = result.structured_prompt.changed(**sections)
        if prompt != result.structured_prompt:
            fields |= {"structured_prompt": prompt, "full_prompt_markdown": markdown_of(prompt)}
    if "description" in values:
        fields["summary"] = values["description"] or ""
    if "tools" in values:
        fields["suggested_tools"] = tuple(values["tools"])
    if "triggers" in values:
        fields["suggested_triggers"] = tuple(values["triggers"] or ())
    if "events" in values:
        fields["suggested_event_subscriptions"] = tuple(
            SuggestedSubscription(event_type=name, source_filter=source or None)
            for name, _, source in (each.partition(" from ") for each in values["events"])
        )
    return result.changed(**fields) if fields else result


def as_designed(result: DesignResult, kept: Iterable[KeptPart]) -> DesignResult:
    """The design as it was meant, without what a person keeps: what later designs are compared with."""
    return with_parts(result, {each.part: each.design for each in kept})


def taken(
    result: DesignResult, kept: tuple[KeptPart, ...], parts: Iterable[str]
) -> tuple[DesignResult, tuple[KeptPart, ...], tuple[str, ...]]:
    """The design with these kept parts as it wanted them, what is kept still, and their labels; ``all`` is all.

    Raises ``InvalidInput`` for a part that is not kept.
    """
    by_name = {
        _typed(name): each for each in kept for name in (each.part, each.label, each.part.partition(":")[2])
    }
    chosen: dict[str, KeptPart] = {}
    for part in parts:
        if part.strip().lower() == "all":
            chosen |= {each.part: each for each in kept}
            continue
        found = by_name.get(_typed(part)) if part.strip() else None
        if found is None:
            names = [each.part for each in kept]
            raise InvalidInput(
                f"Nothing of yours is kept under “{part}”.",
                hint=did_you_mean(
                    part, names, otherwise=f"Kept: {', '.join(names)}." if names else "Nothing is kept."
                ),
            )
        chosen[found.part] = found
    if not chosen:
        raise InvalidInput(
            "Nothing of yours is kept here: the design is as it was made.", hint="`%persona apply`"
        )
    rest = tuple(each for each in kept if each.part not in chosen)
    labels = tuple(each.label for each in chosen.values())
    return with_parts(result, {part: each.design for part, each in chosen.items()}), rest, labels


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────


def _parts(design: DesignResult) -> dict[str, Any]:
    """The parts of a design that are compared, by name."""
    prompt = design.structured_prompt
    found: dict[str, Any] = {part: getattr(prompt, part) for part in SECTIONS}
    found |= {
        f"{_CUSTOM}{each.key}": each.model_dump() for each in prompt.custom_sections if each.content.strip()
    }
    found["description"] = design.summary
    found["triggers"] = [each.model_dump(mode="json") for each in design.suggested_triggers]
    found["tools"] = list(design.suggested_tools)
    found["events"] = [
        f"{each.event_type} from {each.source_filter}" if each.source_filter else each.event_type
        for each in design.suggested_event_subscriptions
    ]
    return found


def _label(part: str, design: DesignResult) -> str:
    if not part.startswith(_CUSTOM):
        return LABELS[part]
    key = part.removeprefix(_CUSTOM)
    sections = {each.key: each.label or each.key for each in design.structured_prompt.custom_sections}
    return sections.get(key, key)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):  # triggers, in any order and words
        return sorted(map(trigger_key, one)) == sorted(map(trigger_key, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return _squeezed(one.get("content")) == _squeezed(other.get("content"))
    return _squeezed(one) == _squeezed(other)


def _squeezed(text: Any) -> str:
    return " ".join(str(text or "").split())


def trigger_key(trigger: SuggestedTrigger | Trigger | Mapping[str, Any]) -> str:
    """What makes two triggers the same: their type and configuration; a webhook's secret is none of it."""
    fields = trigger if isinstance(trigger, Mapping) else trigger.model_dump(mode="json")
    config = {
        name: value
        for name, value in fields["config"].items()
        if value is not None and name != CREDENTIAL_KEY
    }
    return f"{fields['trigger_type']} {json.dumps(config, sort_keys=True)}"


def _kept_names(
    part: str, yours: Iterable[str], design: Iterable[str], bases: Iterable[Iterable[str]]
) -> list[KeptPart]:
    """Tools and events are merged one by one: what a person gave stays, and what was taken away does not return."""
    have, want, based = list(yours), list(design), [set(base) for base in bases]
    added = [name for name in have if name not in want and not any(name in base for base in based)]
    gone = [name for name in want if name not in have and all(name in base for base in based)]
    if not added and not gone:
        return []
    result = [name for name in want if name not in gone] + added
    return [KeptPart(part=part, label=LABELS[part], yours=result, design=want, is_conflict=bool(gone))]


def _with_custom(present: tuple[CustomSection, ...], values: Mapping[str, Any]) -> tuple[CustomSection, ...]:
    by_key = {each.key: each for each in present}
    for part, value in values.items():
        key = part.removeprefix(_CUSTOM)
        if value:
            by_key[key] = CustomSection.model_validate(value)
        else:
            by_key.pop(key, None)
    return tuple(by_key.values())


def _nothing(like: DesignResult) -> DesignResult:
    return DesignResult(name=like.name, structured_prompt=StructuredPrompt())


def _typed(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
