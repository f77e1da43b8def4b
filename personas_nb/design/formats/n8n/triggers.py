"""What starts a workflow, as what starts a persona.

Times are kept (`schedules`); what n8n is told by a service becomes a webhook or an event that somebody publishes;
what a person or another workflow starts is started by hand or by another persona. A disabled trigger starts nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personas_nb.design.formats.n8n import schedules
from personas_nb.design.formats.n8n.document import Node
from personas_nb.design.formats.n8n.expressions import constant, value_words
from personas_nb.design.formats.n8n.schedules import Due
from personas_nb.design.formats.n8n.services import service_of
from personas_nb.design.formats.n8n.text import code, humanised, listed, plain
from personas_nb.design.formats.report import ImportEntry, Outcome
from personas_nb.entities.design import SuggestedSubscription, SuggestedTrigger
from personas_nb.triggers import cron

MAIL_POLL_SECONDS = 300
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_POLLERS = frozenset(
    ("gmailTrigger", "googleSheetsTrigger", "googleDriveTrigger", "googleCalendarTrigger",
     "googleBusinessProfileTrigger", "notionTrigger", "airtableTrigger", "rssFeedReadTrigger",
     "microsoftOutlookTrigger", "microsoftOneDriveTrigger", "salesforceTrigger", "togglTrigger", "clockifyTrigger",
     "seaTableTrigger", "homeAssistantTrigger", "venafiTlsProtectCloudTrigger")
)  # fmt: skip
_LABELS = {"gmailTrigger": "Gmail", "rssFeedReadTrigger": "the feed"}
_STREAMS = {
    "localFileTrigger": "file_changed",
    "sseTrigger": "stream_message",
    "kafkaTrigger": "kafka_message",
    "rabbitmqTrigger": "rabbitmq_message",
    "mqttTrigger": "mqtt_message",
    "amqpTrigger": "amqp_message",
    "redisTrigger": "redis_message",
    "postgresTrigger": "postgres_change",
    "awsSnsTrigger": "sns_message",
}
_BY_HAND = {
    "manualTrigger": "by hand",
    "start": "by hand",
    "chatTrigger": "by hand, with a chat message as the input",
    "manualChatTrigger": "by hand, with a chat message as the input",
    "formTrigger": "by hand, with the fields of a form as the input",
    "executeWorkflowTrigger": "by another persona (persona_action), or by hand",
    "evaluationTrigger": "by hand",
}
_INSTANCE = {"n8nTrigger", "workflowTrigger"}
_OTHERS = {"cron", "interval", "webhook", "start", "emailReadImap", "mcpTrigger"}
SIGNED = "its caller must POST to our door and sign what it sends with the trigger's secret"


@dataclass
class Start:
    """One trigger node, in our terms; ``words`` says in the instructions what starts the persona there."""

    node: Node
    words: str
    triggers: list[SuggestedTrigger] = field(default_factory=list)
    subscriptions: list[SuggestedSubscription] = field(default_factory=list)
    entries: list[ImportEntry] = field(default_factory=list)
    hint: str = ""
    """What the input of such a run is."""
    tools: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    """What is needed to look for what is new."""

    def note(self, outcome: Outcome, reason: str) -> None:
        """Add what became of the node to the report."""
        self.entries.append(ImportEntry(self.node.name, outcome, reason))


def is_trigger(node: Node) -> bool:
    """Whether the node starts workflows."""
    return node.kind in _OTHERS or node.kind.endswith("Trigger") or "pollTimes" in node.parameters


def start_of(node: Node, timezone: str) -> Start:
    """What the trigger node becomes; of a disabled one, only what it would have been."""
    start = _start(node, timezone)
    if not node.disabled:
        return start
    would = f" It would start the persona {start.words}." if start.words else ""
    return Start(node, "", entries=[ImportEntry(node.name, "dropped", f"It is disabled in n8n.{would}")])


def _start(node: Node, timezone: str) -> Start:
    kind = node.kind
    if kind in ("scheduleTrigger", "cron", "interval"):
        return _timed(node, timezone, _TIMES[kind](node.parameters))
    if kind in _POLLERS or "pollTimes" in node.parameters:
        return _poller(node, timezone)
    if kind == "webhook":
        return _webhook(node)
    if kind in _BY_HAND:
        return _by_hand(node)
    if kind == "errorTrigger":
        return _after_errors(node)
    if kind == "emailReadImap":
        return _mailbox(node)
    if kind in _STREAMS:
        return _stream(node)
    if kind in _INSTANCE:
        return _instance(node)
    if kind == "mcpTrigger":
        return _mcp(node)
    return _service_calls(node) if node.is_core or node.webhook_id else _unknown(node)


_TIMES: dict[str, Callable[[dict[str, Any]], list[Due]]] = {
    "scheduleTrigger": schedules.schedule_trigger,
    "cron": schedules.cron_node,
    "interval": schedules.interval_node,
}


def _timed(node: Node, timezone: str, dues: list[Due], *, looks_at: str = "") -> Start:
    """A node with times; ``looks_at`` is what a poller looks at then."""
    start = Start(node, "")
    if not dues:
        start.note("dropped", "It has no times, so it never fires in n8n either.")
        return start
    said: list[str] = []
    for due in dues:
        words = _due_words(due, timezone)
        if due.cron or due.interval_seconds:
            start.triggers.append(_trigger(node, due, timezone, words))
            said.append(words)
        about = f"{_begun(words)}{looks_at}." if words else ""
        note = f" {_begun(due.note)}." if due.note else ""
        often = f" {_OFTEN}" if _is_often(due) else ""
        if due.problem:
            rest = "" if words else 'Say when it is to run: `%persona refine "every weekday at 9"`.'
            start.note("needs_human", f"{about} {due.problem} {rest}".strip())
        else:
            start.note("mapped", f"{about}{note}{often}")
    start.words = listed(list(dict.fromkeys(said)))
    return start


def _begun(words: str) -> str:
    """The words as the beginning of a sentence; n8n is always written so."""
    return words if words.startswith("n8n") else words[:1].upper() + words[1:]


_OFTEN = "Each time is a run of a model: choose a longer period if you can."


def _is_often(due: Due) -> bool:
    if due.interval_seconds:
        return due.interval_seconds < 300
    minutes = due.cron.split(" ", 1)[0]
    return bool(due.cron) and (minutes == "*" or minutes in ("*/1", "*/2", "*/3", "*/4"))


def _due_words(due: Due, timezone: str) -> str:
    if due.cron:
        return cron.in_words(due.cron, timezone or None)
    return f"every {_period(due.interval_seconds)}" if due.interval_seconds else ""


def _period(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % size == 0:
            count = seconds // size
            return unit if count == 1 else f"{count:,} {unit}s"
    return "second" if seconds == 1 else f"{seconds:,} seconds"


def _trigger(node: Node, due: Due, timezone: str, words: str) -> SuggestedTrigger:
    config: dict[str, Any] = {"interval_seconds": due.interval_seconds}
    if due.cron:
        config = {"cron": due.cron} | ({"timezone": timezone} if timezone else {})
    return SuggestedTrigger(
        trigger_type="schedule" if due.cron else "polling",
        config=config,
        description=f"{words} ({due.note})" if due.note else words,
        source_node=node.name,
    )


def _poller(node: Node, timezone: str) -> Start:
    service = service_of(node.kind)
    label = _LABELS.get(node.kind) or (
        service.label if service else humanised(node.kind.removesuffix("Trigger"))
    )
    start = _timed(
        node,
        timezone,
        schedules.poll_times(node.parameters),
        looks_at=f" it looks for what is new in {label}",
    )
    is_mail = node.kind == "gmailTrigger"
    start.tools = ("gmail_search", "gmail_read") if is_mail else ("http_request",)
    start.connectors = (
        ("gmail",) if is_mail else (service.connector,) if service and service.connector else ()
    )
    event = code(humanised(node.text("event"))) if node.text("event") else ""
    watched = value_words(_watched(node)) if _watched(node) else ""
    start.hint = (
        f"first look for what is new in {label} since the last run"
        + (f" ({event})" if event else "")
        + (f": {watched}" if watched else "")
        + "; remember with agent_memory what you have seen, and stop when nothing is new"
    )
    return start


def _watched(node: Node) -> str:
    for name in (
        "feedUrl",
        "documentId",
        "databaseId",
        "folderToWatch",
        "fileToWatch",
        "calendarId",
        "baseId",
    ):
        given = node.at(name)
        if isinstance(given, dict):
            given = given.get("cachedResultName") or given.get("value")
        if isinstance(given, str) and given:
            return given
    return ""


def _webhook(node: Node) -> Start:
    given = constant(node.at("httpMethod"))
    methods = given if isinstance(given, list) else [given or "GET"]
    if node.at("multipleMethods") is True and given is None:
        methods = ["GET", "POST"]
    known = [method.upper() for method in methods if isinstance(method, str) and method.upper() in _METHODS]
    path = constant(node.text("path")) or node.webhook_id
    is_computed = path.startswith("=")
    config: dict[str, Any] = {"path": plain(path, 200), "methods": known or ["POST"]}
    if is_computed:
        config.pop("path")
    described = listed(config["methods"])
    trigger = SuggestedTrigger(
        trigger_type="webhook", config=config, description=f"a webhook ({described})", source_node=node.name
    )
    start = Start(node, "by a webhook", [trigger], hint="the input is what was sent")
    shown = value_words(path) if path else "no path"
    reasons = [f"{described} to {shown}; {SIGNED}."]
    outcome: Outcome = "mapped"
    if known != ["POST"]:
        reasons.append(f"n8n took {listed([plain(str(m), 20) for m in methods[:6]])}; ours takes POST.")
        outcome = "needs_human"
    if is_computed:
        reasons.append("Its path is computed; n8n's expressions are not evaluated.")
        outcome = "needs_human"
    if node.text("responseMode") in ("lastNode", "responseNode"):
        reasons.append("n8n sent the result back to the caller; our door answers at once, with the run's id.")
        outcome = "needs_human"
    start.note(outcome, " ".join(reasons))
    return start


def _by_hand(node: Node) -> Start:
    words = _BY_HAND[node.kind]
    trigger = SuggestedTrigger(trigger_type="manual", description=words, source_node=node.name)
    start = Start(node, words, [trigger])
    fields = _fields(node)
    if fields:
        start.hint = f"the input has {listed(fields)}"
    elif "chat" in node.kind.lower():
        start.hint = "the input is the message"
    outcome: Outcome = "needs_human" if node.kind == "formTrigger" else "mapped"
    reason = f"The persona is started {words}."
    if node.kind == "formTrigger":
        reason += " There is no page with the form."
    if fields:
        reason += f" Its input: {listed(fields)}."
    start.note(outcome, reason)
    return start


def _fields(node: Node) -> list[str]:
    """The fields of a form, or the inputs of a sub-workflow."""
    form = [item.get("fieldLabel") for item in node.items("formFields", "values")]
    inputs = [item.get("name") for item in node.items("workflowInputs", "values")]
    if node.text("inputSource") == "jsonExample":
        inputs = _keys(node.text("jsonExample"))
    return [code(name, 60) for name in [*form, *inputs][:20] if isinstance(name, str) and name]


def _keys(example: str) -> list[Any]:
    try:
        return list(json.loads(example))
    except (TypeError, ValueError, RecursionError):
        return []


def _after_errors(node: Node) -> Start:
    listened = SuggestedSubscription(
        event_type="execution_failed", description="when a run of another persona fails"
    )
    start = Start(node, "when a run of another persona fails", subscriptions=[listened])
    start.hint = "the input tells which run failed, and how"
    start.note("mapped", "The persona listens to the event execution_failed.")
    return start


def _mailbox(node: Node) -> Start:
    words = f"every {_period(MAIL_POLL_SECONDS)}"
    trigger = SuggestedTrigger(
        trigger_type="polling",
        config={"interval_seconds": MAIL_POLL_SECONDS},
        description=f"{words} it looks for new mail",
        source_node=node.name,
    )
    start = Start(node, words, [trigger], tools=("gmail_read",), connectors=("gmail",))
    start.hint = "first look for new mails with `gmail_read`; stop when there are none"
    start.note(
        "needs_human",
        f"n8n was told of each new mail at once. Here the inbox is looked at {words}: choose how often.",
    )
    return start


def _stream(node: Node) -> Start:
    event_type = _STREAMS[node.kind]
    listened = SuggestedSubscription(event_type=event_type, description="published by what watches for it")
    start = Start(
        node, f"by the event {event_type}", subscriptions=[listened], hint="the input is the event's data"
    )
    start.note(
        "needs_human",
        f"Nothing here watches for it by itself. The persona listens to {event_type}: publish it from what does, with "
        f'`studio.events.publish("{event_type}", …)`.',
    )
    return start


def _instance(node: Node) -> Start:
    start = Start(node, "")
    start.note(
        "dropped", "It fires when the workflow is activated or n8n starts; a persona has no such moment."
    )
    return start


def _mcp(node: Node) -> Start:
    trigger = SuggestedTrigger(trigger_type="manual", description="by hand", source_node=node.name)
    start = Start(node, "by hand, with a question that needs its tools", [trigger])
    start.note(
        "needs_human",
        "It offered its tools to others over MCP, which a persona does not. It is started by hand instead, or by "
        "another persona, and uses the tools itself.",
    )
    return start


def _service_calls(node: Node) -> Start:
    """A service that called n8n whenever something happened there."""
    service = service_of(node.kind)
    label = service.label if service else humanised(re.sub("Trigger$", "", node.kind)) or "the service"
    trigger = SuggestedTrigger(
        trigger_type="webhook",
        config={"methods": ["POST"]},
        description=f"a webhook that {label} calls",
        source_node=node.name,
    )
    start = Start(node, f"by a webhook that {label} calls", [trigger], hint="the input is what was sent")
    events = [code(humanised(event)) for event in _strings(node.at("events")) + _strings(node.at("updates"))]
    about = f" ({listed(events[:6])})" if events else ""
    if node.kind == "githubTrigger":
        start.note(
            "mapped",
            f"GitHub calls our door{about} and signs what it sends: set its webhook to the trigger's.",
        )
        return start
    start.note(
        "needs_human",
        f"{label} called n8n when something happened{about}. Register the trigger's address there; {SIGNED}. Where it "
        "cannot sign, let a polling trigger look instead.",
    )
    return start


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _unknown(node: Node) -> Start:
    trigger = SuggestedTrigger(trigger_type="manual", description="by hand", source_node=node.name)
    start = Start(node, "by hand", [trigger])
    start.note(
        "needs_human",
        f"It is a trigger of a community package ({code(node.type)}) that is not known here. The persona is started by "
        'hand until you say when it is to run: `%persona refine "every weekday at 9"`.',
    )
    return start
