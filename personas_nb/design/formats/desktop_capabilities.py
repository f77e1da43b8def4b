"""Templates of Personas Desktop that are composed of capabilities (``schema_version`` 3).

Each capability has a trigger, a flow, policies and inputs of its own; all of them become one persona, whose
instructions have a part for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from personas_nb.design.formats.desktop_parts import (
    Draft,
    flow_of,
    items,
    listed,
    read_channels,
    read_connectors,
    read_events,
    read_trigger,
    texts,
)
from personas_nb.design.formats.portable import shortened
from personas_nb.design.formats.strangers import cleaned

_REVIEWS = {
    "always": "Ask for a manual_review before anything of this leaves you.",
    "conditional": "Ask for a manual_review where the following applies.",
    "on_low_confidence": "Ask for a manual_review where you are not sure.",
}
_OF_PERSONA = (
    ("principles", "Principles"),
    ("constraints", "Constraints"),
    ("decision_principles", "How to decide"),
)
_NO_RECIPE = (
    "Its recipe is not here: put _recipe_seeds.json of the templates beside this file, and import again."
)
_READ = (
    *("goal", "identity", "voice", "principles", "constraints", "decision_principles", "verbosity_default"),
    *(
        "trigger_composition",
        "message_composition",
        "operating_instructions",
        "tool_guidance",
        "error_handling",
    ),
    *(
        "examples",
        "tools",
        "connectors",
        "notification_channels_default",
        "core_memories",
        "output_assertions",
    ),
)


def composed(payload: Mapping[str, Any], draft: Draft, recipes: Mapping[str, Any]) -> None:
    """Puts the persona of a composed template into the draft."""
    persona = payload["persona"]
    cases = [case for place, case in enumerate(_cases(payload, draft, recipes)) if _is_on(case, draft, place)]
    draft.fields["structured_prompt"] = {
        "identity": _identity(persona),
        "instructions": "\n\n".join(
            [texts(persona.get("operating_instructions")), *(_told(case, draft) for case in cases)]
        ).strip(),
        "toolGuidance": texts(persona.get("tool_guidance")),
        "examples": "\n\n".join(texts(example) for example in listed(persona.get("examples"))),
        "errorHandling": texts(persona.get("error_handling")),
    }
    voice = persona.get("voice")
    draft.section("Voice", "\n\n".join(_voice(voice if isinstance(voice, dict) else {}, persona)))
    for name, label in _OF_PERSONA:
        draft.section(label, texts(persona.get(name)))
    tools = [
        *listed(persona.get("tools")),
        *(hint for case in cases for hint in listed(case.get("tool_hints"))),
    ]
    draft.fields["tools"] = list(dict.fromkeys(name for name in tools if isinstance(name, str)))
    read_connectors(items(persona.get("connectors")), draft)
    read_channels(items(persona.get("notification_channels_default")), draft)
    _checks(persona, draft)
    if persona.get("core_memories"):
        draft.note("core_memories", "dropped", "What a persona remembers is learned here.")
    for name in persona:
        if name not in _READ:
            draft.section(name, texts(persona[name]))
            draft.note(f"persona.{shortened(name)}", "absorbed", "It is a section of its own.")
    _parameters(payload, draft)


def _cases(payload: Mapping[str, Any], draft: Draft, recipes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The capabilities, those of a recipe as the recipe has them."""
    for place, case in enumerate(items(payload.get("use_cases"))):
        reference = case.get("recipe_ref")
        if not isinstance(reference, dict):
            yield case
            continue
        identity = texts(reference.get("id"))
        recipe = recipes.get(identity) or {}
        found = _of_recipe(recipe)
        if found is None:
            draft.note(f"capability {place + 1}: recipe {shortened(identity, 13)}", "needs_human", _NO_RECIPE)
            continue
        wanted, version = (
            texts(reference.get("version")),
            texts(recipe["source_version"]) if "source_version" in recipe else "",
        )
        if wanted and version and wanted != version:
            reason = f"It asks for version {shortened(wanted)}, and {shortened(version)} is here."
            draft.note(f"recipe {shortened(found.get('title'))}", "needs_human", reason)
        bindings = reference.get("bindings")
        if isinstance(bindings, dict):
            draft.parameters |= {name: texts(value) for name, value in bindings.items()}
        clean, secrets = cleaned(found, texts(found.get("title")))
        draft.entries += secrets
        yield clean


def _of_recipe(recipe: Any) -> dict[str, Any] | None:
    """The capability that a recipe holds as a text of JSON."""
    held = recipe.get("prompt_template") if isinstance(recipe, dict) else None
    if not isinstance(held, str):
        return held if isinstance(held, dict) else None
    try:
        case = json.loads(held)
    except (ValueError, RecursionError):
        return None
    return case if isinstance(case, dict) else None


def _is_on(case: Mapping[str, Any], draft: Draft, place: int) -> bool:
    """Whether the capability is one; what starts it is taken unless the template leaves it off at first."""
    title = _title(case, place)
    if not any(texts(case.get(name)) for name in ("title", "description", "capability_summary")):
        draft.note(title, "dropped", "It says nothing about itself.")
        return False
    is_off = case.get("enabled_by_default") is False
    trigger = case.get("suggested_trigger")
    if is_off:
        draft.note(
            title,
            "needs_human",
            'The template leaves it off: what would start it was left out. Ask for it with `%persona refine "…"`.',
        )
    elif isinstance(trigger, dict):
        read_trigger(trigger, draft, place=title)
    if not is_off:
        read_events(items(case.get("event_subscriptions")), draft)
        read_channels(items(case.get("notification_channels")), draft)
    draft.note(title, "absorbed", "Its steps stand in the instructions.")
    if model := texts(case.get("model_override")):
        asks = f"It asks for {shortened(model)}; a persona has one model"
        draft.note(f"{title}: model", "needs_human", f"{asks}: `%persona set NAME model_profile.model=…`.")
    return True


def _title(case: Mapping[str, Any], place: int = 0) -> str:
    return shortened(texts(case.get("title")) or texts(case.get("id")) or f"capability {place + 1}")


def _told(case: Mapping[str, Any], draft: Draft) -> str:
    """A capability as a part of the instructions."""
    off = " (off unless you are asked for it)" if case.get("enabled_by_default") is False else ""
    flow = case.get("use_case_flow")
    steps = flow_of(flow if isinstance(flow, dict) else {}, _title(case), draft)
    numbered = "\n".join(f"{number}. {label}" for number, label in enumerate(steps, 1))
    parts = [
        f"### {texts(case.get('title')) or _title(case)}{off}",
        texts(case.get("description")) or texts(case.get("capability_summary")),
        numbered,
        *_policies(case),
        _inputs(case),
    ]
    if words := texts(case.get("error_handling")):
        parts.append(f"When something goes wrong: {words}")
    return "\n\n".join(part for part in parts if part)


def _policies(case: Mapping[str, Any]) -> Iterator[str]:
    review, memory = (
        value if isinstance(value := case.get(name), dict) else {}
        for name in ("review_policy", "memory_policy")
    )
    mode = texts(review.get("mode"))
    if mode not in ("", "never", "off"):
        yield f"{_REVIEWS.get(mode, f'Ask for a manual_review ({mode}).')} {texts(review.get('context'))}".strip()
    if memory.get("enabled") and texts(memory.get("context")):
        yield f"Remember with agent_memory: {texts(memory.get('context'))}"


def _inputs(case: Mapping[str, Any]) -> str:
    given = case.get("sample_input")
    sample: Mapping[str, Any] = given if isinstance(given, dict) else {}
    lines = []
    for wanted in items(case.get("input_schema")):
        name = texts(wanted.get("name"))
        value = sample.get(name) or wanted.get("default")
        default = f", unless told otherwise {texts(value)}" if value not in (None, "") else ""
        lines.append(f"- {name}{default}. {texts(wanted.get('description'))}".strip())
    return "\n".join(["It works with:", *lines]) if lines else ""


def _identity(persona: Mapping[str, Any]) -> str:
    identity = persona.get("identity")
    if not isinstance(identity, dict):
        identity = {"description": identity}
    parts = [texts(identity.get("role")), texts(identity.get("description"))]
    goal = texts(persona.get("goal"))
    return "\n\n".join(part for part in (*parts, f"Goal: {goal}" if goal else "") if part)


def _voice(voice: Mapping[str, Any], persona: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        texts(voice[name])
        for name in ("style", "output_format", "tone_adjustments")
        if texts(voice.get(name))
    )
    if words := texts(persona.get("verbosity_default")):
        yield f"How much you write: {words}."


def _checks(persona: Mapping[str, Any], draft: Draft) -> None:
    """Assertions about the output become rules, for the persona to keep."""
    lines = []
    for check in items(persona.get("output_assertions")):
        config = check.get("config")
        patterns = config.get("patterns") if isinstance(config, dict) else None
        lines.append(
            f"- {texts(check.get('name'))}: {texts(check.get('description'))} {texts(patterns)}".strip()
        )
        draft.note(f"output_assertions: {shortened(check.get('name'))}", "absorbed",
                   "It is a rule of the prompt; `%persona evals add` makes a test of it.")  # fmt: skip
    draft.section("Checks of your output", "\n".join(lines))


def _parameters(payload: Mapping[str, Any], draft: Draft) -> None:
    lines = []
    for parameter in items(payload.get("suggested_parameters")):
        name, key = texts(parameter.get("label")), texts(parameter.get("key"))
        value = parameter.get("value", parameter.get("default_value"))
        draft.parameters[key] = value
        words = texts(parameter.get("description"))
        lines.append(
            f"- {name or key}: {texts(value) or value} {texts(parameter.get('unit'))}. {words}".strip()
        )
        draft.note(
            f"parameter {shortened(name or key)}", "absorbed", "Its value stands in the section Parameters."
        )
    draft.section("Parameters", "\n".join(lines))
