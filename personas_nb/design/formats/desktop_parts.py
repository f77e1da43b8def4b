"""Parts that all generations of Personas Desktop files have: triggers, connectors, channels, events, questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from personas_nb.design.formats.portable import shortened
from personas_nb.design.formats.report import ImportEntry, Outcome

_PLACE = re.compile(r"\{\{\s*param\.([A-Za-z0-9_.-]{1,100})\s*\}\}")
_EMITTED = re.compile(r"\s*(?:emit|publish|persist|announce|store)", re.IGNORECASE)
_FROM_OTHERS = re.compile(
    r"\b(?:any persona|other personas?|another persona|consumed|listen|incoming|subscribe)", re.IGNORECASE
)
_OUR_MESSAGES = frozenset(
    ["user_message", "persona_action", "emit_event", "agent_memory", "manual_review", "execution_flow"]
)
_SYSTEM_EVENTS = {
    "persona_execution_completed": "execution_completed",
    "persona_execution_failed": "execution_failed",
    "execution_error": "execution_failed",
    "persona_error": "execution_failed",
}
_KEPT_IN_WORDS = ("description_note", "task", "source", "event", "events", "tables", "branches", "filter", "watch_path",
                  "watch_pattern", "fire_on", "cadence", "secret_header", "hook")  # fmt: skip


@dataclass
class Draft:
    """A persona under construction: its fields, the sections beside the six, and what became of each part."""

    own_id: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    entries: list[ImportEntry] = field(default_factory=list)
    custom: dict[str, dict[str, str]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    told: set[str] = field(default_factory=lambda: {"triggers", "connectors", "notification_channels",
                                                    "event_subscriptions", "flow"})  # fmt: skip
    """Fields that have an entry for each of their items."""

    def note(self, source: str, outcome: Outcome, reason: str) -> None:
        """An entry of the report."""
        self.entries.append(ImportEntry(source, outcome, reason))

    def add(self, name: str, item: dict[str, Any]) -> None:
        """One more item of a field that has several; one that differs in its description only is the same."""
        held = self.fields.setdefault(name, [])
        keys = [key for key in item if key != "description"]
        if not any(all(other.get(key) == item[key] for key in keys) for other in held):
            held.append(item)

    def section(self, label: str, content: str, *, key: object = None) -> None:
        """A section beside the six; what has the same key already is continued."""
        if not content.strip():
            return
        name = re.sub(r"\W+", "_", str(key or label).lower()).strip("_") or "section"
        before = self.custom.get(name, {"key": name, "label": label, "content": ""})
        joined = "\n\n".join(part for part in (before["content"], content.strip()) if part)
        self.custom[name] = {**before, "content": joined}

    def finished(self) -> dict[str, Any]:
        """The fields as a file of ours has them, with every parameter filled in."""
        prompt = self.fields.get("structured_prompt")
        if self.custom and (prompt is None or isinstance(prompt, dict)):
            held = listed((prompt or {}).get("customSections"))
            prompt = {**(prompt or {}), "customSections": [*held, *self.custom.values()]}
        known = {**self.fields, "structured_prompt": prompt}
        return {name: self._filled(value) for name, value in known.items() if value not in ("", None)}

    def _filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return _PLACE.sub(lambda found: self._parameter(found[1]), value) if "{{" in value else value
        if isinstance(value, dict):
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        return value

    def _parameter(self, name: str) -> str:
        value = self.parameters.get(name)
        return (
            str(value)
            if value not in (None, "")
            else f"({name.removeprefix('aq_').replace('_', ' ')}: to be set)"
        )


def items(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list; nothing where there is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def listed(value: Any) -> list[Any]:
    """A list as it is; nothing for anything else."""
    return list(value) if isinstance(value, list | tuple) else []


def texts(value: Any) -> str:
    """A text as it is, a list of texts as points, anything else as JSON; empty for nothing."""
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(f"- {item.strip()}" for item in value)
    return json.dumps(value, ensure_ascii=False)


def read_trigger(trigger: Mapping[str, Any], draft: Draft, *, place: str) -> None:
    """One trigger as one of ours, or as an event that the persona listens to."""
    kind = texts(trigger.get("trigger_type")) or "manual"
    given = trigger.get("config")
    config: dict[str, Any] = given if isinstance(given, dict) else {}
    words = texts(trigger.get("description"))
    if kind in ("event_listener", "event"):
        events = (
            config.get("events")
            if isinstance(config.get("events"), list)
            else [config.get("event_type") or config.get("event")]
        )
        read_events(
            [{"event_type": name, "description": words, "direction": "listen"} for name in listed(events)],
            draft,
        )
        return
    made: dict[str, Any] = {"trigger_type": kind, "config": {}, "description": _described(words, config)}
    if kind in ("schedule", "polling") and config.get("cron"):
        made |= {"trigger_type": "schedule", "config": {"cron": " ".join(str(config["cron"]).split())}}
        zone = config.get("timezone")
        if isinstance(zone, str) and zone not in ("", "local"):
            made["config"]["timezone"] = zone
    elif kind == "polling" and (seconds := _whole(config.get("interval_seconds"))):
        made["config"] = {"interval_seconds": seconds}
    elif kind == "webhook":
        made["config"] = _webhook(config)
    elif kind != "manual":
        known = kind in ("schedule", "polling")
        reason = "It does not say when" if known else "A persona is not started by that"
        reason += f": choose a schedule, a polling interval or a webhook. {shortened(words, 160)}"
        draft.note(f"{place}: {shortened(kind)}", "needs_human", reason)
        return
    draft.add("triggers", made)
    when = (
        made["config"].get("cron")
        or made["config"].get("interval_seconds")
        or made["config"].get("path")
        or ""
    )
    draft.note(f"{place}: {kind}", "mapped", f"{made['trigger_type']} {when}".strip())


def _webhook(config: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if isinstance(config.get("path"), str):
        made["path"] = config["path"]
    methods = config.get("methods") or config.get("method")
    given = methods if isinstance(methods, list) else [methods]
    if named := [str(method).upper() for method in given if method]:
        made["methods"] = named
    return made


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return max(0, int(float(value)))
    except (ValueError, OverflowError):
        return 0


def _described(words: str, config: Mapping[str, Any]) -> str:
    """The trigger's description, with what of its configuration has no other place."""
    kept = [f"{name.replace('_', ' ')}: {texts(config[name])}" for name in _KEPT_IN_WORDS if config.get(name)]
    return " ".join([words, f"({'; '.join(kept)})" if kept else ""]).strip()


def read_connectors(connectors: Iterable[Mapping[str, Any]], draft: Draft) -> None:
    """Services that the persona needs; their names as ours are written."""
    for connector in connectors:
        name = re.sub(r"[^a-z0-9]+", "_", texts(connector.get("name")).lower()).strip("_")[:64]
        if not name or not name[0].isalpha():
            draft.note(
                f"connector {shortened(connector.get('name'))}",
                "dropped",
                "It has no name that one may have.",
            )
            continue
        fields = listed(connector.get("credential_fields"))
        keys = [texts(item.get("key")) if isinstance(item, dict) else texts(item) for item in fields]
        setup = texts(connector.get("setup_instructions"))
        if address := texts(connector.get("api_base_url")):
            setup = f"{setup}\nIts API answers at {address}.".strip()
        if note := texts(connector.get("fallback_note")):
            setup = f"{setup}\n{note}".strip()
        oauth = connector.get("oauth_type") or ("oauth2" if connector.get("auth_type") == "oauth2" else None)
        made: dict[str, Any] = {"name": name, "oauth_type": oauth if isinstance(oauth, str) else None}
        made |= {"credential_fields": [key for key in keys if key], "setup_instructions": setup}
        draft.add("connectors", made)
        draft.note(
            f"connector {name}",
            "mapped",
            f"It needs {', '.join(key for key in keys if key) or 'a credential'}.",
        )


def read_channels(channels: Iterable[Mapping[str, Any]], draft: Draft) -> None:
    """Ways to notify a person; where a message went belongs to whoever wrote the template."""
    for channel in channels:
        kind = texts(channel.get("type"))
        if not kind or kind == "built-in":
            draft.note(
                "channel: built-in",
                "absorbed",
                "Every persona writes messages: `%persona messages` shows them.",
            )
            continue
        hints = channel.get("config_hints")
        words = " ".join([texts(channel.get("description")), _listed(hints)]).strip()
        needs = texts(channel.get("required_connector"))
        draft.add(
            "notification_channels", {"type": kind, "description": words, "required_connector": needs or None}
        )
        draft.note(f"channel: {shortened(kind)}", "mapped", shortened(words, 120))


def _listed(hints: Any) -> str:
    if not isinstance(hints, dict) or not hints:
        return ""
    return f"({'; '.join(f'{name}: {texts(value)}' for name, value in hints.items())})"


def read_events(events: Iterable[Mapping[str, Any]], draft: Draft) -> None:
    """Events: those of others start the persona, its own ones are named in its prompt."""
    published = []
    for event in events:
        name, words = texts(event.get("event_type")), texts(event.get("description"))
        if not name:
            continue
        if _is_own(event, draft.own_id):
            published.append(f"- {name}: {words}" if words else f"- {name}")
            outcome = (
                "It publishes that itself: every persona can."
                if _squeezed(name) in _OUR_MESSAGES
                else "It is told to publish it."
            )
            draft.note(f"event {shortened(name)}", "absorbed", outcome)
            continue
        source = event.get("source_filter")
        event_type = _SYSTEM_EVENTS.get(_squeezed(name), name)
        draft.add(
            "event_subscriptions",
            {"event_type": event_type, "source_filter": _filter(source), "description": words},
        )
        draft.note(
            f"event {shortened(name)}",
            "mapped",
            "An event of that type starts it." if event_type == name else f"Here it is called {event_type}.",
        )
    draft.section("Events that you publish", "\n".join(published))


def _is_own(event: Mapping[str, Any], own_id: str) -> bool:
    """Whether the persona publishes the event, rather than listening to it; only the last generation says which."""
    direction = texts(event.get("direction"))
    if direction:
        return direction == "emit"
    words, source = texts(event.get("description")), event.get("source_filter")
    named = source.get("persona") if isinstance(source, dict) else source
    if (own_id and named == own_id) or _squeezed(texts(event.get("event_type"))) in _OUR_MESSAGES:
        return True
    return _EMITTED.match(words) is not None and _FROM_OTHERS.search(words) is None


def _filter(source: Any) -> str | None:
    named = source.get("persona") if isinstance(source, dict) else source
    return texts(named) or None


def _squeezed(event_type: str) -> str:
    return re.sub(r"[-.]", "_", event_type.lower())


def flow_of(flow: Mapping[str, Any], name: str, draft: Draft) -> list[str]:
    """A flow graph as one of ours, beside those that are there; its steps in words, in the order of the file."""
    prefix = f"{len(draft.fields.get('flow', {}).get('steps', ()))}-"
    held = draft.fields.setdefault("flow", {"steps": [], "edges": []})
    labels: dict[str, str] = {}
    for node in items(flow.get("nodes")):
        identity = texts(node.get("id")) or str(len(labels))
        labels[identity] = texts(node.get("label")) or texts(node.get("detail")) or identity
        kind = texts(node.get("type"))
        held["steps"].append(
            {"id": prefix + identity, "label": labels[identity], "kind": kind if kind in _KINDS else "step"}
        )
    for edge in items(flow.get("edges")):
        source, target = (
            texts(edge.get("source") or edge.get("from")),
            texts(edge.get("target") or edge.get("to")),
        )
        if source in labels and target in labels:
            held["edges"].append({"source": prefix + source, "target": prefix + target,
                                  "label": texts(edge.get("label")) or texts(edge.get("variant"))})  # fmt: skip
        else:
            draft.note(f"flow {shortened(name)}", "dropped", "An arrow leads to a step that is not there.")
    if labels:
        draft.note(f"flow {shortened(name)}", "mapped", f"{len(labels)} steps in the graph.")
    return list(labels.values())


_KINDS = ("start", "end", "step", "decision", "tool", "trigger", "event", "connector", "action", "error")


def asked(questions: Iterable[Mapping[str, Any]], draft: Draft) -> None:
    """What a template asks when it is adopted: the default is taken, what has none is asked of a person."""
    lines = []
    for question in questions:
        text, identity = texts(question.get("question")), texts(question.get("id"))
        default = question.get("default")
        for name in (identity, texts(question.get("variable_name"))):
            if name:
                draft.parameters.setdefault(name, texts(default))
        if not text:
            continue
        if default not in (None, "", []):
            lines.append(f"- {text} {texts(default)}")
            draft.note(
                f"question {shortened(identity)}",
                "absorbed",
                f"{shortened(text, 120)} Taken: {shortened(texts(default), 80)}",
            )
        else:
            offered = "; ".join(_options(question))
            draft.note(f"question {shortened(identity)}", "needs_human",
                       f"{shortened(text, 160)} {f'({shortened(offered, 120)}) ' if offered else ''}"
                       'Answer with `%persona refine "…"`.')  # fmt: skip
            lines.append(f"- {text} (not answered yet: ask the user before you rely on it)")
    draft.section("Choices", "\n".join(lines))


def _options(question: Mapping[str, Any]) -> Iterator[str]:
    options = question.get("options")
    for option in options if isinstance(options, list) else ():
        yield texts(option.get("label") or option.get("value")) if isinstance(option, dict) else texts(option)
