"""Whether a design can work here: every tool, connector, trigger, cron and event type, looked up and parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence

from personas_nb.entities.connector import Connector
from personas_nb.entities.design import (
    DesignResult,
    Feasibility,
    FeasibilityIssue,
    SuggestedConnector,
    SuggestedServer,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import InvalidInput, did_you_mean
from personas_nb.triggers import cron

SYSTEM_EVENTS = (
    *("execution_completed", "execution_failed", "manual_review", "user_message"),
    *("persona_action", "emit_event", "custom"),
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REHEARSE = "`%%persona run {name} --provider rehearsal`"

Finding = str | FeasibilityIssue
"""A capability in words, or what stands in its way."""


def assess(
    result: DesignResult,
    *,
    tools: Sequence[ToolDefinition],
    connectors: Sequence[Connector],
    credentials: Collection[str] = (),
    servers: Collection[str] = (),
    timezone: str = "UTC",
) -> Feasibility:
    """What of a design is there, and what is missing with the verb that removes it.

    ``credentials`` are the names of the connectors that have one, ``servers`` those of the MCP servers that the
    persona has; ``timezone`` is that of schedules that name none. ``blocked``: it cannot be applied; ``partial``:
    it can, with something left to do.
    """
    findings: list[Finding] = [
        *_tool_findings(result, tools),
        *_connector_findings(result, tools, connectors, credentials),
        *(finding for trigger in result.suggested_triggers for finding in _trigger(trigger, timezone)),
        *(_server(server, result, servers) for server in result.suggested_servers),
        *(finding for listened in result.suggested_event_subscriptions for finding in _event(listened)),
    ]
    issues = tuple(dict.fromkeys(found for found in findings if isinstance(found, FeasibilityIssue)))
    overall = "blocked" if any(issue.blocking for issue in issues) else "partial" if issues else "ready"
    capabilities = tuple(dict.fromkeys(found for found in findings if isinstance(found, str)))
    return Feasibility(confirmed_capabilities=capabilities, issues=issues, overall=overall)


def _tool_findings(result: DesignResult, tools: Sequence[ToolDefinition]) -> Iterator[Finding]:
    known = {tool.name: tool for tool in tools}
    for name in result.suggested_tools:
        if name in known:
            yield f"tool {name}"
            continue
        near = did_you_mean(name, known)
        other = near.partition("“")[2].partition("”")[0]
        instead = f"use {other} instead of {name}" if other else f"do without {name}"
        yield FeasibilityIssue(
            kind="tool",
            subject=name,
            problem=f"There is no tool “{name}”. {near}".strip(),
            remedy=f'%persona refine "{instead}"',
            blocking=True,
        )


def _connector_findings(
    result: DesignResult,
    tools: Sequence[ToolDefinition],
    connectors: Sequence[Connector],
    credentials: Collection[str],
) -> Iterator[Finding]:
    known = {connector.name: connector for connector in connectors}
    by_name = {suggested.name: suggested for suggested in result.suggested_connectors}
    for tool in tools:
        if tool.name in result.suggested_tools and tool.requires_credential_type:
            name = tool.requires_credential_type
            by_name.setdefault(name, SuggestedConnector(name=name))
    for channel in result.suggested_notification_channels:
        if channel.required_connector:
            by_name.setdefault(
                channel.required_connector, SuggestedConnector(name=channel.required_connector)
            )
    for name in by_name:
        if name not in known:
            near = did_you_mean(name, known)
            yield FeasibilityIssue(
                kind="connector",
                subject=name,
                problem=f"There is no connector “{name}”. {near}".strip(),
                remedy=f'%persona refine "use http_bearer instead of {name}" (any web API that takes a token)',
            )
        elif name not in credentials:
            yield _without_credential(known[name], result)
        else:
            yield f"connector {name}, with a credential"
        if name in known and not known[name].tools:
            label = known[name].label or name
            yield FeasibilityIssue(
                kind="reach",
                subject=name,
                problem=f"No built-in tool reaches {label}.",
                remedy=f'%persona refine "do without {name}"',
            )


def _without_credential(connector: Connector, result: DesignResult) -> FeasibilityIssue:
    name = typed_name(result)
    add = f"`%persona credentials add {connector.name} {connector.name}`"
    return FeasibilityIssue(
        kind="credential",
        subject=connector.name,
        problem=f"There is no credential for {connector.label or connector.name}.",
        remedy=f"Add one: {add}; or rehearse without it: {_REHEARSE.format(name=name)}",
    )


def typed_name(result: DesignResult) -> str:
    """The persona's name as it is written in a verb."""
    return f'"{result.name}"' if " " in result.name else result.name or "NAME"


def _server(server: SuggestedServer, result: DesignResult, servers: Collection[str]) -> Finding:
    if server.name in servers:
        return f"MCP server {server.name}"
    given = [*server.env, *server.headers]
    options = f" --from-env {' '.join(f'{name}={name}' for name in given)}" if given else ""
    how = f" --url {server.url}{options}" if server.url else f"{options} -- {shlex.join(server.command)}"
    return FeasibilityIssue(
        kind="server",
        subject=server.name,
        problem=f"The MCP server {server.name} is not among the persona's servers.",
        remedy=f"%persona servers add {typed_name(result)} {server.name}{how}",
    )


def cannot_start(trigger: SuggestedTrigger, timezone: str) -> FeasibilityIssue | None:
    """Why a trigger would never start anything; None for one that would."""
    issues = [found for found in _trigger(trigger, timezone) if isinstance(found, FeasibilityIssue)]
    return issues[0] if issues else None


def _trigger(trigger: SuggestedTrigger, timezone: str) -> Iterator[Finding]:
    if trigger.limitation:
        yield FeasibilityIssue(
            kind="limit",
            subject=re.split(r" \(|\. ", trigger.description)[0] or trigger.trigger_type,
            problem=trigger.limitation,
            remedy=f'%persona refine "{trigger.alternative}"' if trigger.alternative else "",
        )
    match trigger.trigger_type:
        case "schedule":
            yield _schedule(trigger, timezone)
        case "polling":
            yield _polling(trigger)
        case "webhook":
            yield _webhook(trigger)
        case "manual":
            yield "started by hand"


def _schedule(trigger: SuggestedTrigger, timezone: str) -> Finding:
    expression = trigger.config.get("cron")
    zone = trigger.config.get("timezone") or timezone
    try:
        if not isinstance(expression, str) or not isinstance(zone, str):
            raise InvalidInput("The schedule has no cron expression.")
        cron.check(expression, zone)
    except InvalidInput as error:
        return FeasibilityIssue(
            kind="trigger",
            subject=str(expression or "schedule"),
            problem=str(error),
            remedy='%persona refine "every weekday at 9"',
        )
    return f"schedule {expression} ({zone})"


def _polling(trigger: SuggestedTrigger) -> Finding:
    seconds = trigger.config.get("interval_seconds")
    if isinstance(seconds, int) and not isinstance(seconds, bool) and seconds >= 1:
        return f"polling {trigger.description or f'every {seconds} s'}"
    return FeasibilityIssue(
        kind="trigger",
        subject="polling",
        problem=f"The polling interval must be a whole number of seconds, not {seconds!r}.",
        remedy='%persona refine "every 15 minutes"',
    )


def _webhook(trigger: SuggestedTrigger) -> Finding:
    methods = trigger.config.get("methods") or ()
    unknown = [str(method) for method in methods if str(method).upper() not in _METHODS]
    if unknown:
        return FeasibilityIssue(
            kind="trigger",
            subject="webhook",
            problem=f"A webhook does not take {', '.join(unknown)}.",
            remedy='%persona refine "on a webhook"',
        )
    return "webhook"


def _event(listened: SuggestedSubscription) -> Iterator[Finding]:
    if not re.fullmatch(r"[A-Za-z0-9][\w.:-]{0,199}", listened.event_type):
        valid = re.sub(r"[^a-z0-9]+", "_", listened.event_type.lower()).strip("_") or "custom"
        yield FeasibilityIssue(
            kind="event",
            subject=listened.event_type,
            problem=f"“{listened.event_type}” is no event type: letters, digits, “_”, “-”, “.” and “:” make one.",
            remedy=f'%persona refine "on the event {valid}"',
            blocking=True,
        )
        return
    is_system = re.sub(r"[-.]", "_", listened.event_type.lower()) in SYSTEM_EVENTS
    yield f"{'system' if is_system else 'custom'} event {listened.event_type}"
