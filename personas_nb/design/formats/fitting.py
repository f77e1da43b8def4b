"""A stranger's draft, made to fit this home: what cannot be here, or may not come from a file, becomes an entry.

Every import passes here, whatever its format, so that no reader can forget it:

- A tool that is not in the catalog is taken out (the draft would be blocked), a trigger whose time cannot be read too.
- A trigger keeps the keys of its type and no others. All of them are off until a person enables them.
- No server is started, no credential is named, no permission is given by a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from personas_nb.design.formats.portable import one_line_name, shortened
from personas_nb.design.formats.report import ImportEntry, ImportReport
from personas_nb.design.formats.strangers import cleaned
from personas_nb.entities.base import made
from personas_nb.entities.design import DesignResult, SuggestedSubscription, SuggestedTrigger
from personas_nb.errors import InvalidInput
from personas_nb.triggers import cron

TRIGGER_KEYS = {
    "schedule": ("cron", "timezone", "catch_up"),
    "polling": ("interval_seconds", "url", "catch_up"),
    "webhook": ("path", "methods"),
    "manual": (),
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_EVENT = re.compile(r"[A-Za-z0-9][\w.:-]{0,199}")
_OFF = "What would start it by itself is off until a person enables it; running it by hand works at once."


def fitted(
    report: ImportReport, *, tools: Collection[str], connectors: Collection[str], timezone: str = "UTC"
) -> ImportReport:
    """The report with a draft that can be applied here, and entries for what a person has to do or know."""
    draft = report.draft
    named = list(dict.fromkeys(draft.suggested_tools))
    present = tuple(name for name in named if name in tools)
    entries = [_missing_tool(name) for name in named if name not in tools]
    triggers = []
    for trigger in draft.suggested_triggers:
        kept, said = _trigger(trigger, timezone)
        entries += said
        triggers += [] if kept is None else [kept]
    subscriptions = []
    for listened in draft.suggested_event_subscriptions:
        event, said = _event(listened)
        entries += said
        subscriptions += [] if event is None else [event]
    entries += [_server(server) for server in draft.suggested_servers]
    entries += list(_cautions(draft, connectors))
    name = one_line_name(draft.name or report.name) or "Imported persona"
    draft = draft.changed(
        name=name,
        suggested_tools=present,
        suggested_triggers=tuple(triggers),
        suggested_event_subscriptions=tuple(subscriptions),
        suggested_servers=(),
        suggested_model_profile=_without_credential(draft),
        summary=draft.summary[:10_000],
    )
    if any(trigger.trigger_type != "manual" for trigger in triggers) or subscriptions:
        entries.append(ImportEntry("what starts it", "needs_human", _OFF))
    clean, secrets = _clean(draft)
    known = [
        replace(each, reason=", ".join(present)) if each.source == "tools" else each
        for each in report.entries
    ]
    entries = [*(each for each in known if each.source != "tools" or present), *entries, *secrets]
    return replace(report, name=name, draft=clean, entries=tuple(dict.fromkeys(entries)))


def _clean(draft: DesignResult) -> tuple[DesignResult, tuple[ImportEntry, ...]]:
    """The draft without literal secrets; readers take them out before, this is the second look."""
    dumped = draft.model_dump(mode="json", exclude={"feasibility", "suggested_model_profile"})
    clean, entries = cleaned(dumped)
    if not entries:
        return draft, ()
    return made(DesignResult, {**clean, "suggested_model_profile": draft.suggested_model_profile}), entries


def _missing_tool(name: str) -> ImportEntry:
    return ImportEntry(
        f"tool {shortened(name)}",
        "needs_human",
        "There is no such tool here. Once it is one (a function: studio.tools.add, an MCP server), "
        "`%persona tools assign NAME TOOL` gives it.",
    )


def _trigger(trigger: SuggestedTrigger, timezone: str) -> tuple[SuggestedTrigger | None, list[ImportEntry]]:
    named = trigger.source_node or shortened(trigger.description) or trigger.trigger_type
    known = TRIGGER_KEYS[trigger.trigger_type]
    config = {key: value for key, value in trigger.config.items() if key in known}
    entries = [
        ImportEntry(
            f"{named}: {shortened(key)}", "dropped", f"A {trigger.trigger_type} trigger has no such setting."
        )
        for key in trigger.config
        if key not in known
    ]
    config = _webhook(config) if trigger.trigger_type == "webhook" else config
    problem = _problem(trigger.trigger_type, config, timezone)
    if problem:
        entries.append(
            ImportEntry(named, "needs_human", f'{problem} Say when it shall run: `%persona refine "…"`.')
        )
        return None, entries
    return trigger.changed(config=config, description=trigger.description[:1000]), entries


def _problem(kind: str, config: dict[str, Any], timezone: str) -> str:
    """Why such a trigger would never fire; empty when it would."""
    if kind == "schedule":
        expression, zone = config.get("cron"), config.get("timezone") or timezone
        if not isinstance(expression, str) or not isinstance(zone, str):
            return "It has no cron expression."
        try:
            cron.check(expression, zone)
        except InvalidInput as error:
            return error.message
    seconds = config.get("interval_seconds")
    if kind == "polling" and (isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1):
        return "It does not say how often."
    return ""


def _webhook(config: dict[str, Any]) -> dict[str, Any]:
    methods = config.get("methods")
    given = methods if isinstance(methods, list | tuple) else ()
    named = [str(method).upper() for method in given if str(method).upper() in _METHODS]
    path = config.get("path")
    kept: dict[str, Any] = {"path": path[:500]} if isinstance(path, str) else {}
    return {**kept, **({"methods": list(dict.fromkeys(named))} if named else {})}


def _event(listened: SuggestedSubscription) -> tuple[SuggestedSubscription | None, list[ImportEntry]]:
    if _EVENT.fullmatch(listened.event_type):
        return listened, []
    name = re.sub(r"[^A-Za-z0-9_.:-]+", "_", listened.event_type).strip("_.:-")[:200]
    place = f"event {shortened(listened.event_type)}"
    if not name:
        return None, [ImportEntry(place, "dropped", "It is no event type.")]
    return listened.changed(event_type=name), [ImportEntry(place, "mapped", f"Here it is called {name}.")]


def _server(server: Any) -> ImportEntry:
    how = server.url or " ".join(server.command)
    return ImportEntry(
        f"MCP server {shortened(server.name)}",
        "needs_human",
        f"It would use “{shortened(how, 120)}”. No file starts a program here: add it yourself if you trust it "
        "(`%persona servers add`).",
    )


def _cautions(draft: DesignResult, connectors: Collection[str]) -> Iterator[ImportEntry]:
    """What a person should know before the persona runs."""
    profile = draft.suggested_model_profile
    if profile is not None and profile.base_url:
        yield ImportEntry(
            "model_profile.base_url",
            "needs_human",
            f"Its model answers at {shortened(profile.base_url)}: all that it reads goes there, and none of your keys. "
            "`%persona set NAME model_profile.base_url=None` takes the address away.",
        )
    for name in dict.fromkeys(connector.name for connector in draft.suggested_connectors):
        if name not in connectors:
            yield ImportEntry(
                f"connector {shortened(name)}",
                "needs_human",
                "It is not among the connectors here: http_bearer reaches any web API that takes a token, and "
                "studio.connectors.add(…) makes one of its own.",
            )


def _without_credential(draft: DesignResult) -> Any:
    profile = draft.suggested_model_profile
    return profile.changed(auth_token=None, auth_credential_id=None) if profile is not None else None
