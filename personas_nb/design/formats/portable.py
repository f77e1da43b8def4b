"""A persona as it travels: what our own files hold of one, and how it becomes a draft.

The names are those of the persona's own fields. What belongs to one home or to one machine is not among them: ids,
times, credentials, permissions, memories, runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from personas_nb.design.formats.report import ImportEntry, Outcome
from personas_nb.entities.base import Entity, in_words
from personas_nb.entities.design import (
    DesignHighlight,
    DesignResult,
    Flow,
    SuggestedChannel,
    SuggestedConnector,
    SuggestedServer,
    SuggestedSettings,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.errors import InvalidInput

SETTINGS = tuple(name for name in SuggestedSettings.model_fields if name != "approve_first")
_SHORT_CHARS = 60

# What a file may say and this program sets by itself, or a person alone sets.
_NOT_TAKEN: dict[str, tuple[Outcome, str]] = {
    **dict.fromkeys(("id", "slug", "project_id", "created_at", "updated_at", "version", "exported_at"),
                    ("absorbed", "The persona gets its own.")),
    "permissions": ("dropped", "No file decides what a persona may do: it may use its assigned tools."),
    "enabled": ("dropped", "The persona is enabled; what starts it by itself is not."),
    "archived_at": ("dropped", "The persona is not archived."),
    "group_id": ("dropped", "Groups belong to a home; `%persona set NAME group=…` puts it into one."),
    "last_design_result": ("absorbed", "The design is made anew from this file."),
    "design_context": ("dropped", "It names files of another machine."),
    "auth_token": ("dropped", "Keys do not travel: `%persona set NAME model_profile.auth_token=…` sets one."),
    "memories": ("dropped", "What a persona remembers is learned here: a file's memories are not believed."),
}  # fmt: skip


class Portable(SuggestedSettings):
    """What a file of ours says of one persona; ``tools`` are names, ``approve_first`` those that ask before a call."""

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=10_000)
    system_prompt: str = ""
    structured_prompt: StructuredPrompt | None = None
    model_profile: ModelProfile | None = None
    tools: tuple[str, ...] = ()
    triggers: tuple[SuggestedTrigger, ...] = ()
    event_subscriptions: tuple[SuggestedSubscription, ...] = ()
    notification_channels: tuple[SuggestedChannel, ...] = ()
    connectors: tuple[SuggestedConnector, ...] = ()
    servers: tuple[SuggestedServer, ...] = ()
    highlights: tuple[DesignHighlight, ...] = ()
    flow: Flow = Field(default_factory=Flow)

    def to_dict(self) -> dict[str, Any]:
        """Its fields as JSON has them; those that say nothing are left out."""
        dumped = self.model_dump(mode="json", exclude_none=True, exclude={"model_profile"})
        if self.model_profile is not None:
            dumped["model_profile"] = self.model_profile.model_dump(
                mode="json", exclude_none=True, exclude={"auth_credential_id", "auth_token"}
            )
        settings = SuggestedSettings.model_fields
        order = sorted(type(self).model_fields, key=lambda name: name in settings)  # what it is comes first
        kept = {name: value for name, value in dumped.items() if value not in ("", [], {}, None)}
        if not self.flow.steps:
            kept.pop("flow", None)
        return {name: kept[name] for name in order if name in kept}

    def draft(self) -> DesignResult:
        """The design that ``apply`` makes such a persona of."""
        said = {name: getattr(self, name) for name in (*SETTINGS, "approve_first")}
        settings = SuggestedSettings(**said)
        return DesignResult(
            name=self.name,
            structured_prompt=self.structured_prompt or StructuredPrompt(identity=self.system_prompt),
            full_prompt_markdown=self.system_prompt,
            summary=self.description,
            suggested_tools=self.tools,
            suggested_triggers=self.triggers,
            suggested_event_subscriptions=self.event_subscriptions,
            suggested_notification_channels=self.notification_channels,
            suggested_connectors=self.connectors,
            suggested_servers=self.servers,
            suggested_model_profile=self.model_profile,
            suggested_settings=settings if settings != SuggestedSettings() else None,
            design_highlights=self.highlights,
            flow=self.flow,
        )


class LeftOut(NamedTuple):
    """Something of a persona that a file does not hold, and why."""

    part: str
    reason: str


class Written(NamedTuple):
    """A persona as the text of a file, and what the format cannot hold of it."""

    text: str
    left_out: tuple[LeftOut, ...] = ()


def portable_of(
    given: Mapping[str, Any], source: str, *, name: str = "", may_be_silent: bool = False
) -> tuple[Portable, tuple[ImportEntry, ...]]:
    """The persona that these fields describe, and an entry for each of them.

    One that cannot be used is dropped with the reason; the others stay. ``name`` is used where the fields say
    none. Raises ``InvalidInput`` where nothing in them says what the persona shall do, unless it ``may_be_silent``.
    """
    fields: dict[str, Any] = {}
    entries: list[ImportEntry] = []
    for key, value in given.items():
        if key in Portable.model_fields:
            kept, said = _taken(key, _unpacked(key, value))
            fields |= kept
            entries += said
        elif value not in (None, "", [], {}):
            outcome, reason = _NOT_TAKEN.get(key, ("dropped", "A persona has nothing of that name."))
            entries.append(ImportEntry(shortened(key), outcome, reason))
    fields["name"] = one_line_name(fields.get("name")) or one_line_name(name) or "Imported persona"
    portable = Portable(**fields)
    is_silent = portable.structured_prompt is None or portable.structured_prompt.is_empty()
    if is_silent and not portable.system_prompt.strip() and not may_be_silent:
        raise InvalidInput(
            f"{source} does not say what the persona shall do.",
            hint="It needs a system_prompt, or a structured_prompt with a section that has text.",
        )
    return portable, tuple(entries)


def one_line_name(value: object) -> str:
    """A name as a persona may have it: one line of at most 200 characters; empty when there is none.

    >>> one_line_name("  Invoice\\n watcher ")
    'Invoice watcher'
    """
    return " ".join(str(value or "").split())[:200].strip()


def shortened(text: object, limit_chars: int = _SHORT_CHARS) -> str:
    """A name from a file, on one line and not too long for a table."""
    line = " ".join(str(text)[: limit_chars * 4].split())
    return line if len(line) <= limit_chars else line[: limit_chars - 1] + "…"


def _taken(key: str, value: Any) -> tuple[dict[str, Any], list[ImportEntry]]:
    """What of one field can be used: as a whole, else those of its items that can."""
    if value in (None, "", [], {}, ()):
        return {}, []
    if key == "model_profile":
        return _profile(value)
    problem = _problem(key, value)
    if problem is None:
        return {key: value}, [ImportEntry(key, "mapped", _said(value))]
    if isinstance(value, list | tuple):
        kept = [item for item in value if _problem(key, [item]) is None]
        lost = [item for item in value if _problem(key, [item]) is not None]
        entries = [
            ImportEntry(f"{key}: {_label(item)}", "dropped", _problem(key, [item]) or "") for item in lost
        ]
        return ({key: kept}, [ImportEntry(key, "mapped", _said(kept)), *entries]) if kept else ({}, entries)
    return {}, [ImportEntry(key, "dropped", problem)]


def _profile(value: Any) -> tuple[dict[str, Any], list[ImportEntry]]:
    if not isinstance(value, Mapping):
        return {}, [
            ImportEntry(
                "model_profile", "dropped", "It must be a mapping of provider, model, base_url, engine."
            )
        ]
    entries, kept = [], {}
    for name, given in value.items():
        if name in ("auth_token", "auth_credential_id"):
            if given:
                entries.append(ImportEntry("model_profile.auth_token", *_NOT_TAKEN["auth_token"]))
            continue
        if name not in ModelProfile.model_fields:
            entries.append(
                ImportEntry(
                    f"model_profile.{shortened(name)}", "dropped", "A model profile has no such field."
                )
            )
        elif given is not None:
            problem = _problem("model_profile", {name: given})
            if problem is None:
                kept[name] = given
            else:
                entries.append(ImportEntry(f"model_profile.{name}", "dropped", problem))
    if not kept:
        return {}, entries
    said = ", ".join(str(kept[name]) for name in ("provider", "model") if name in kept)
    return {"model_profile": kept}, [ImportEntry("model_profile", "mapped", shortened(said)), *entries]


def _unpacked(key: str, value: Any) -> Any:
    """A field that its file holds as a text of JSON, as data."""
    is_data = key not in ("name", "description", "system_prompt", "icon", "color")
    if not is_data or not isinstance(value, str) or not value.strip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _problem(key: str, value: Any) -> str | None:
    """Why a field cannot be used, in words; None when it can."""
    try:
        Portable.model_validate({"name": "x", key: value})
    except ValidationError as error:
        return in_words(error.errors(include_url=False)[:1], Portable)
    except RecursionError:
        return "It is nested too deep."
    return None


def _label(item: Any) -> str:
    if isinstance(item, Mapping):
        for name in ("name", "trigger_type", "event_type", "type", "key", "category"):
            if isinstance(item.get(name), str):
                return shortened(item[name])
        return "one"
    return shortened(item)


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return shortened(", ".join(_label(item) for item in value), 200)
    if isinstance(value, str):
        return shortened(value) if len(value) <= _SHORT_CHARS else f"{len(value):,} characters"
    if isinstance(value, Mapping):
        return shortened(", ".join(str(name) for name, inner in value.items() if inner), 200)
    return "" if isinstance(value, Entity) else str(value)
