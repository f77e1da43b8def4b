"""Personas Desktop: its templates, three generations of them, and its export of one persona.

- The first two generations carry a whole design (``payload.structured_prompt``), the second with parameters,
  questions and flow graphs beside it.
- The third (``schema_version`` 3) is composed of capabilities, which `desktop_capabilities` reads; some name a recipe
  of a file beside the templates, whose recipes are given as ``recipes``.
- An export (``version`` 1) has the persona's own fields, several of them as texts of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from personas_nb.design.formats.desktop_capabilities import composed
from personas_nb.design.formats.desktop_parts import (
    Draft,
    asked,
    flow_of,
    items,
    listed,
    read_channels,
    read_connectors,
    read_events,
    read_trigger,
    texts,
)
from personas_nb.design.formats.parsing import checked_object, object_of
from personas_nb.design.formats.portable import portable_of, shortened
from personas_nb.design.formats.report import ImportEntry, ImportReport
from personas_nb.design.formats.strangers import cleaned
from personas_nb.errors import InvalidInput

RECIPES_FILE = "_recipe_seeds.json"
"""What the file of recipes beside the templates is called."""

_IGNORED = {
    "id": "The persona gets its own.",
    "schema_version": "It says how to read the file.",
    "category": "A persona has no category; groups do that.",
    "service_flow": "The steps and connectors say it.",
    "is_published": "It belongs to the catalog of templates.",
    "persona_meta": "Name, icon and color are taken from the template.",
    "protocol_capabilities": "Every persona has all of them.",
    "adoption": "The questions of the template itself were taken.",
}


def is_desktop(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a template or an export of Personas Desktop."""
    return isinstance(document.get("payload"), dict) or isinstance(document.get("persona"), dict)


def is_recipes(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the file of recipes that templates refer to."""
    return isinstance(document.get("recipes"), list) and "payload" not in document


def recipes_in(text: str | bytes, source: str) -> dict[str, Any]:
    """The recipes of such a file by id; raises ``InvalidInput`` for any other file."""
    document = object_of(text, source)
    if not is_recipes(document):
        raise InvalidInput(f"{source} holds no recipes.", hint=f"The file is called {RECIPES_FILE}.")
    return {str(recipe.get("id")): recipe for recipe in items(document["recipes"])}


def read(
    text: str | bytes | Mapping[str, Any], source: str, *, recipes: Mapping[str, Any] | None = None
) -> ImportReport:
    """The template or export as a draft.

    Raises ``InvalidInput`` where the file is neither. A capability whose recipe is not in ``recipes`` is named in
    the report, and the rest of the template is read.
    """
    document = checked_object(dict(text), source) if isinstance(text, Mapping) else object_of(text, source)
    if not is_desktop(document):
        raise InvalidInput(
            f"{source} is no template of Personas Desktop.",
            hint="A template has a payload, an exported persona a “persona”.",
        )
    document, secrets = cleaned(document)
    payload = document.get("payload")
    if not isinstance(payload, dict):
        return _exported(document, source, secrets)
    if not isinstance(payload.get("structured_prompt"), dict) and not isinstance(
        payload.get("persona"), dict
    ):
        raise InvalidInput(
            f"The template {source} does not say what the persona shall do.",
            hint="Its payload has neither a structured_prompt nor a persona.",
        )
    draft = Draft(str(document.get("id") or ""))
    draft.fields |= {
        name: document[name] for name in ("name", "description", "icon", "color") if document.get(name)
    }
    if isinstance(payload.get("persona"), dict):
        composed(payload, draft, recipes or {})
    else:
        _designed(payload, draft)
    asked(items(payload.get("adoption_questions")), draft)
    for name, reason in _IGNORED.items():
        if document.get(name) or payload.get(name):
            draft.note(name, "absorbed", reason)
    fields = draft.finished()
    persona, said = portable_of(fields, source)
    shown = tuple(entry for entry in said if entry.source not in draft.told)
    return ImportReport("desktop", persona.name, persona.draft(), (*shown, *draft.entries, *secrets), source)


def _designed(payload: Mapping[str, Any], draft: Draft) -> None:
    """A template of the first two generations: a design, and what stands beside it."""
    prompt = payload["structured_prompt"]
    draft.fields["structured_prompt"] = _sections(prompt, draft)
    draft.fields["system_prompt"] = texts(payload.get("full_prompt_markdown"))
    draft.fields["description"] = texts(payload.get("summary")) or draft.fields.get("description", "")
    draft.fields["tools"] = [name for name in listed(payload.get("suggested_tools")) if isinstance(name, str)]
    draft.fields["highlights"] = [
        {
            "category": texts(item.get("category")),
            "icon": item.get("icon") if isinstance(item.get("icon"), str) else None,
            "color": item.get("color") if isinstance(item.get("color"), str) else None,
            "items": [texts(each) for each in listed(item.get("items")) if texts(each)],
        }
        for item in items(payload.get("design_highlights"))
    ]
    for index, trigger in enumerate(items(payload.get("suggested_triggers"))):
        read_trigger(trigger, draft, place=f"trigger {index + 1}")
    read_connectors(items(payload.get("suggested_connectors")), draft)
    read_channels(items(payload.get("suggested_notification_channels")), draft)
    read_events(items(payload.get("suggested_event_subscriptions")), draft)
    for flow in items(payload.get("use_case_flows")):
        flow_of(flow, texts(flow.get("name")) or "flow", draft)
    _parameters(payload, draft)


def _sections(prompt: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    known = ("identity", "instructions", "toolGuidance", "examples", "errorHandling")
    sections: dict[str, Any] = {name: texts(prompt[name]) for name in known if prompt.get(name)}
    for custom in items(prompt.get("customSections")):
        draft.section(
            texts(custom.get("label")) or texts(custom.get("key")),
            texts(custom.get("content")),
            key=custom.get("key"),
        )
    for name, value in prompt.items():
        if name not in (*known, "customSections") and texts(value):
            draft.section(name, texts(value))
            draft.note(f"structured_prompt.{shortened(name)}", "absorbed", "It is a section of its own.")
    return sections


def _parameters(payload: Mapping[str, Any], draft: Draft) -> None:
    lines = []
    for parameter in items(payload.get("suggested_parameters")):
        name = texts(parameter.get("label")) or texts(parameter.get("key"))
        value = parameter.get("value", parameter.get("default_value"))
        unit = texts(parameter.get("unit"))
        lines.append(
            f"- {name}: {json.dumps(value, ensure_ascii=False)}{unit}. {texts(parameter.get('description'))}".strip()
        )
        draft.parameters[texts(parameter.get("key"))] = value
        draft.note(f"parameter {shortened(name)}", "absorbed", "Its value stands in the section Parameters.")
    draft.section("Parameters", "\n".join(lines))


# ── an exported persona ─────────────────────────────────────────────────────────────────────────────────────


def _exported(document: Mapping[str, Any], source: str, secrets: tuple[ImportEntry, ...]) -> ImportReport:
    version = document.get("version", 1)
    if version != 1 or isinstance(version, bool):
        raise InvalidInput(
            f"{source} is an export of Personas Desktop in version {shortened(version)}; version 1 can be read.",
            hint="Export it again with a version that writes 1.",
        )
    draft = Draft(texts(document["persona"].get("id")))
    fields = {_snake(name): value for name, value in document["persona"].items()}
    fields["structured_prompt"] = _data(fields.get("structured_prompt"))
    channels, design = fields.pop("notification_channels", None), fields.pop("last_design_result", None)
    draft.fields |= fields
    read_channels(items(_data(channels)), draft)
    for index, trigger in enumerate(items(document.get("triggers"))):
        trigger = {_snake(name): _data(value) for name, value in trigger.items()}
        read_trigger(trigger, draft, place=f"trigger {index + 1}")
    subscriptions = document.get("subscriptions") or document.get("event_subscriptions")
    read_events([{**one, "direction": "listen"} for one in items(subscriptions)], draft)
    tools = listed(document.get("tools") or document["persona"].get("tools"))
    draft.fields["tools"] = [
        name for tool in tools if (name := texts(tool.get("name") if isinstance(tool, dict) else tool))
    ]
    if design:
        draft.note("last_design_result", "absorbed", "The persona's own fields say the same.")
    for name in document:
        if name in ("memories", "credentials") and document[name]:
            draft.note(f"{name} ({len(listed(document[name]))})", "dropped", _LEFT[name])
        elif name not in _OF_AN_EXPORT:
            draft.note(shortened(name), "dropped", "A persona has nothing of that name.")
    persona, said = portable_of(draft.finished(), source)
    shown = tuple(entry for entry in said if entry.source not in draft.told)
    return ImportReport("desktop", persona.name, persona.draft(), (*shown, *draft.entries, *secrets), source)


_LEFT = {
    "memories": "What a persona remembers is learned here: a file's memories are not believed.",
    "credentials": "Credentials do not travel: `%persona credentials add` keeps yours.",
}
_OF_AN_EXPORT = (
    *("version", "exported_at", "persona", "triggers", "subscriptions", "event_subscriptions", "tools"),
    *("memories", "credentials"),
)


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in str(name)).lstrip("_")


def _data(value: Any) -> Any:
    """What a text of JSON says; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
