"""What a node does, as a step that a persona can take: a sentence, the tools it needs, and what is lost.

``describe`` has one short function per family of nodes; what belongs to none is told by its parameters, and a
person is asked to look. Whatever the file says stands in code spans.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from personas_nb.design.formats.n8n.conditions import branch_words, fields_words
from personas_nb.design.formats.n8n.document import Node
from personas_nb.design.formats.n8n.expressions import explain_places, value_words
from personas_nb.design.formats.n8n.services import DATABASES, Service, service_of
from personas_nb.design.formats.n8n.text import code, humanised, plain
from personas_nb.design.formats.report import Outcome

TEXT_LIMIT_CHARS = 20_000
CODE_LIMIT_CHARS = 3_000
SHORTENED = "… (shortened:"
"""How a text that was cut ends."""
_SHORT_CHARS = 160


@dataclass
class Step:
    """What a node becomes. ``texts`` are longer texts whose places in ``words`` are ``mark(0)``, …"""

    words: str
    outcome: Outcome = "mapped"
    reason: str = ""
    tools: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    texts: list[tuple[str, str]] = field(default_factory=list)
    kind: str = "step"


def mark(number: int) -> str:
    """The place of a longer text in the words of a step; no text of a file can hold it."""
    return f"\x00{number}\x00"


def shifted(words: str, by: int) -> str:
    """The words of a step whose texts come after ``by`` others."""
    return re.sub("\x00(\\d+)\x00", lambda place: mark(int(place[1]) + by), words)


def describe(node: Node) -> Step:
    """The node as a step; sub-nodes of agents are described by what holds them."""
    base = re.sub(r"(?<=[a-z])(?:Tool|HitlTool)$", "", node.kind) if node.kind != "Tool" else node.kind
    if node.is_core:
        if node.text("operation") == "sendAndWait" or node.text("operation") == "dispatchAndWait":
            return _asks(node)
        if found := _FAMILIES.get(base):
            return found(node)
        if base in DATABASES:
            return _database(node, DATABASES[base])
        if service := service_of(base):
            return _service(node, service)
    if not node.is_core and (service := service_of(base)):
        return _service(node, service)
    return _unknown(node)


# ── parameters in words ─────────────────────────────────────────────────────────────────────────────────────

_SILENT = frozenset(
    ("options", "authentication", "resource", "operation", "additionalFields", "schema", "mappingMode",
     "matchingColumns", "requestOptions", "attemptToConvertTypes", "convertFieldsToString", "cachedResultUrl",
     "cachedResultName", "__rl", "mode", "nodeCredentialType", "genericAuthType", "select", "simple", "returnAll",
     "jsonParameters", "otherOptions", "descriptionType", "toolDescription", "version", "removed", "display",
     "required", "defaultMatch", "canBeUsedToMatch", "displayName", "type", "id", "appendAttribution")
)  # fmt: skip
_MAX_PARAMETERS, _MAX_DEPTH = 8, 6


def parameter_words(node: Node, *skipped: str, limit: int = _MAX_PARAMETERS) -> str:
    """The node's parameters as “name: value”, those that say something, at most ``limit`` of them."""
    found: list[str] = []
    _collect(node.parameters, "", found, _SILENT.union(skipped), 0, limit + 1)
    more = ", …" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def _collect(value: Any, name: str, found: list[str], silent: frozenset[str], depth: int, limit: int) -> None:
    if len(found) >= limit or depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        if "__rl" in value:
            _collect(_located(value), name, found, silent, depth + 1, limit)
            return
        label, inner = value.get("name", value.get("key")), value.get("value")
        if isinstance(label, str) and isinstance(inner, str | int | float | bool):
            _collect(inner, label, found, silent, depth + 1, limit)
            return
        for key, item in value.items():
            if key not in silent:
                _collect(item, key if not _is_wrapper(key) else name, found, silent, depth + 1, limit)
    elif isinstance(value, list):
        for item in value[:limit]:
            _collect(item, name, found, silent, depth + 1, limit)
    elif value not in (None, "", False) and name:
        found.append(f"{_label(name)} {value_words(value)}")


def _located(value: dict[str, Any]) -> Any:
    """What a resource locator points to: the name that its author saw, else the value."""
    name = value.get("cachedResultName")
    return name if isinstance(name, str) and name else value.get("value")


def _is_wrapper(key: str) -> bool:
    return key in ("parameters", "values", "value", "columns", "parameter", "fields", "property", "item")


def _label(name: str) -> str:
    return humanised(name) if re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,40}", name) else code(name, 40)


def parameter(node: Node, *path: str) -> str:
    """One parameter in words, whatever form it has; empty when there is none."""
    value = node.at(*path)
    if isinstance(value, dict) and "__rl" in value:
        value = _located(value)
    return value_words(value) if value not in (None, "") and not isinstance(value, dict | list) else ""


def long_text(value: Any, limit_chars: int = TEXT_LIMIT_CHARS) -> str:
    """A text of several lines with its expressions explained; where it is cut, it says so."""
    text = value if isinstance(value, str) else ""
    start = 1 if text.startswith("=") else 0
    return explain_places(text[start : limit_chars + 1], limit_chars) + _cut_note(text, limit_chars)


def _cut_note(text: str, limit_chars: int) -> str:
    return f"\n{SHORTENED} {len(text):,} characters in the file)" if len(text) > limit_chars else ""


# ── families ────────────────────────────────────────────────────────────────────────────────────────────────


def _fields(node: Node) -> Step:
    return Step(f"{fields_words(node)}.", reason="It sets fields; the model does.")


def _branch(node: Node) -> Step:
    return Step(
        f"{branch_words(node)}.",
        reason="The model decides.",
        kind="filter" if node.kind == "filter" else "decision",
    )


def _loop(node: Node) -> Step:
    size = parameter(node, "batchSize") or "`1`"
    return Step(
        f"Go through the items in batches of {size}, until none is left.", reason="A loop.", kind="loop"
    )


def _merge(node: Node) -> Step:
    mode = node.text("mode") or "append"
    how = {
        "append": "put the items of all of them together",
        "combine": "join their items",
        "combineBySql": "join their items as SQL would",
        "chooseBranch": "go on with one of them, once all are done",
        "wait": "go on once all are done",
        "multiplex": "make every combination of their items",
        "mergeByIndex": "join their items by position",
        "mergeByPosition": "join their items by position",
        "mergeByKey": "join their items by a key",
        "passThrough": "go on with one of them",
        "keepKeyMatches": "keep the items that both have",
        "removeKeyMatches": "keep the items that only one has",
    }.get(mode, "bring them together")
    said = parameter_words(node, "mode", "numberInputs", limit=4)
    return Step(
        f"Bring the branches together: {how}{f' ({said})' if said else ''}.",
        reason="It waits for its branches.",
        kind="merge",
    )


def _list_work(what: str) -> Callable[[Node], Step]:
    def family(node: Node) -> Step:
        said = parameter_words(node)
        return Step(f"{what}{f' ({said})' if said else ''}.", reason="The model does it.")

    return family


def _code(node: Node) -> Step:
    source = next(
        (
            text
            for path in (
                ("jsCode",),
                ("pythonCode",),
                ("functionCode",),
                ("code", "execute", "code"),
                ("code",),
                ("instructions",),
            )
            if (text := node.text(*path))
        ),
        "",
    )
    if not source.strip():
        return Step("Pass the items on (its code is empty).", "absorbed", "Its code is empty.")
    language = "Python" if node.text("pythonCode") else "JavaScript"
    if node.kind == "aiTransform":
        language = "a description of what to do"
    keeps = " What it keeps in static data, keep with agent_memory." if "taticData" in source else ""
    return Step(
        f"Do with the items what this does ({language}): text {mark(0)}.{keeps}",
        "needs_human",
        f"It is code ({language}). The persona reads it and does the like; for exact results make it a function of the "
        "notebook and a tool: `%persona tools add FUNCTION`.",
        texts=[("code", source[:CODE_LIMIT_CHARS] + _cut_note(source, CODE_LIMIT_CHARS))],
    )


def _http(node: Node) -> Step:
    method = plain(node.text("method") or node.text("requestMethod") or "GET", 10).upper()
    url = parameter(node, "url") or "an address that is not in the file"
    said = parameter_words(
        node, "method", "requestMethod", "url", "sendBody", "sendQuery", "sendHeaders", "specifyBody", "contentType",
        "responseFormat", "name", "description", "optimizeResponse", "specifyHeaders", "specifyQuery",
        "jsonBody", "body", "placeholderDefinitions",
    )  # fmt: skip
    body = node.at("jsonBody") or node.at("body")
    texts = [("body", long_text(body, 2_000))] if isinstance(body, str) and body.strip("= \n") else []
    about = f" with {said}" if said else ""
    sent = f"; its body is text {mark(0)}" if texts else ""
    lacks = []
    if _is_private(node.text("url")):
        lacks.append("It goes to a private address: allow its host in the settings (http_allowed_hosts).")
    if node.text("contentType") in ("multipart-form-data", "binaryData"):
        lacks.append("It sends a file, and http_request sends text and JSON only.")
    return Step(
        f"Send {code(method, 10)} {url}{about}{sent}, with `http_request`.",
        "needs_human" if lacks else "mapped",
        " ".join([f"{code(method, 10)} with http_request.", *lacks]),
        ("http_request",),
        texts=texts,
        kind="tool",
    )


_PRIVATE = re.compile(
    r"https?://(?:localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|host\.docker|[\w-]+(?::\d+)?/|[\w-]+(?::\d+)?$)"
)


def _is_private(url: str) -> bool:
    return _PRIVATE.match(url.lstrip("=")) is not None


def _feed(node: Node) -> Step:
    url = parameter(node, "url") or parameter(node, "feedUrl") or "whose address is not in the file"
    return Step(
        f"Read the feed {url} with `http_request`.",
        "mapped",
        "Read with http_request.",
        ("http_request",),
        kind="tool",
    )


def _gmail(node: Node) -> Step:
    resource, operation = node.text("resource") or "message", node.text("operation") or "send"
    said = parameter_words(node, "sendTo", "toList", "subject", "message", "emailType")
    about = f" ({said})" if said else ""
    if (resource, operation) in (("message", "send"), ("message", "reply"), ("thread", "reply")):
        return _mail_sent(node, "gmail", "sendTo", "toList")
    if operation in ("get", "getAll") and resource in ("message", "thread"):
        tools = ("gmail_read", "gmail_search")
        words = f"Read the mails that are meant{about}, with `gmail_search` and `gmail_read`."
        return Step(words, "mapped", "Read with gmail_search and gmail_read.", tools, ("gmail",), kind="tool")
    if operation == "markAsRead":
        words = f"Mark the mail as read{about}, with `gmail_mark_read`."
        return Step(
            words, "mapped", "Done with gmail_mark_read.", ("gmail_mark_read",), ("gmail",), kind="tool"
        )
    what = f"{humanised(operation)} of a {humanised(resource)}"
    return Step(
        f"In Gmail: {code(what)}{about}. No tool does this: say what should be done, and go on.",
        "needs_human",
        f"No tool here does {code(what)} in Gmail. Make it a function of the notebook, or do without it.",
        connectors=("gmail",),
        kind="tool",
    )


def _mail_sent(node: Node, connector: str, *recipients: str) -> Step:
    to = next((said for name in recipients if (said := parameter(node, name))), "") or "the one it is for"
    subject = parameter(node, "subject")
    body = next((text for name in ("message", "text", "html") if (text := node.text(name))), "")
    said, texts = _said("mail", body)
    about = (f" with the subject {subject}" if subject else "") + (f", saying {said}" if said else "")
    words = f"Send a mail to {to}{about}, with `gmail_send`."
    return Step(words, "mapped", "Sent with gmail_send.", ("gmail_send",), (connector,), texts, kind="tool")


def _said(title: str, text: str) -> tuple[str, list[tuple[str, str]]]:
    """A text to be sent: in the words of the step where it is short, else as a text of its own."""
    if not text.strip("= \n"):
        return "", []
    if len(text) <= _SHORT_CHARS and "\n" not in text.strip():
        return value_words(text, _SHORT_CHARS), []
    return f"text {mark(0)}", [(title, long_text(text, 3_000))]


def _email(node: Node) -> Step:
    return _mail_sent(node, "smtp", "toEmail", "to")


def _read_mail(node: Node) -> Step:
    said = parameter_words(node, limit=4)
    words = f"Read the new mails{f' ({said})' if said else ''}, with `gmail_read`."
    return Step(words, "mapped", "Read with gmail_read.", ("gmail_read",), ("gmail",), kind="tool")


def _file(node: Node) -> Step:
    is_write = node.text("operation") == "write" or node.kind == "writeBinaryFile"
    tool = "file_write" if is_write else "file_read"
    path = next(
        (said for name in ("fileName", "fileSelector", "filePath") if (said := parameter(node, name))),
        "the file",
    )
    return Step(
        f"{'Write' if is_write else 'Read'} {path} in your workspace, with `{tool}`.",
        "mapped",
        f"Done with {tool}, inside the persona's workspace; files elsewhere must be copied there.",
        (tool,),
        kind="tool",
    )


def _to_file(node: Node) -> Step:
    kind = humanised(node.text("operation") or "csv")
    words = f"Make a file of the items ({code(kind)}), with `file_write`."
    if node.text("operation") in ("xlsx", "xls", "ods", "toBinary", "iCal"):
        reason = f"file_write writes text only; {code(kind)} is none. Use CSV, or a function of the notebook."
        return Step(words, "needs_human", reason, ("file_write",), kind="tool")
    return Step(words, "mapped", "Written with file_write.", ("file_write",), kind="tool")


def _from_file(node: Node) -> Step:
    kind = humanised(node.text("operation") or "csv")
    words = f"Take the data out of the file ({code(kind)})."
    if node.text("operation") in ("pdf", "xlsx", "xls", "ods", "binaryToPropery"):
        reason = f"file_read reads text; {code(kind)} is none. Convert it first, or use a function of the notebook."
        return Step(words, "needs_human", reason, ("file_read",))
    return Step(words, "mapped", "Read with file_read where it is a file of the workspace.", ("file_read",))


def _wait(node: Node) -> Step:
    if node.text("resume") in ("webhook", "form"):
        return Step(
            "Ask a person with a `manual_review` message how to go on, and stop there.",
            "needs_human",
            "n8n paused until it was called back. A run does not pause: it asks by manual_review, and a further run "
            "goes on.",
            kind="review",
        )
    unit = plain(node.text("unit") or ("hours" if node.version < 1.1 else "seconds"), 10)
    amount = parameter(node, "amount")
    said = f" ({amount} {unit})" if amount else ""
    words = f"n8n waited here{said}; you go on at once."
    if unit in ("hours", "days") or node.text("resume") == "specificTime":
        reason = "A run does not pause. Where the pause matters, make what follows a persona with its own schedule."
        return Step(words, "needs_human", reason)
    reason = "A run does not pause. Where it was for a service's limits, the errors of its tool say so."
    return Step(words, "absorbed", reason)


def _stop(node: Node) -> Step:
    message = parameter(node, "errorMessage") or parameter(node, "errorObject") or "what went wrong"
    words = f"Stop and say {message} with a `user_message`; the outcome is not accomplished."
    return Step(words, kind="end", reason="The run ends as not accomplished.")


def _answer(node: Node) -> Step:
    said, texts = _said(
        "answer", node.text("responseBody") or node.text("completionMessage") or node.text("message")
    )
    like = f", like {said}" if said else ""
    return Step(
        f"Give the result as a `user_message`{like}.",
        "mapped",
        "The result is a user_message. Nobody waits for it: our door has answered before.",
        texts=texts,
        kind="end",
    )


def _page(node: Node) -> Step:
    if node.text("operation") == "completion":
        return _answer(node)
    words = "Ask with a `manual_review` message for what this page of the form asked for, and stop there."
    return Step(
        words,
        "needs_human",
        "There are no forms of several pages; the persona asks by manual_review.",
        kind="review",
    )


def _asks(node: Node) -> Step:
    message = next((text for name in ("message", "text", "subject") if (text := node.text(name))), "")
    said, texts = _said("question", message)
    asked = f"ask {said}" if said else "ask what is asked here"
    return Step(
        f"Before you go on, {asked} with a `manual_review` message.",
        "mapped",
        "It waited for somebody's decision; the persona asks by manual_review.",
        texts=texts,
        kind="review",
    )


def _other_workflow(node: Node) -> Step:
    target = parameter(node, "workflowId") or "the one that is named in the file"
    return Step(
        f"Start the persona for the workflow {target} with a `persona_action` message.",
        "needs_human",
        f"It calls another workflow ({target}). Import that one too, and name its persona here.",
        kind="action",
    )


def _machine(what: str) -> Callable[[Node], Step]:
    def family(node: Node) -> Step:
        command = parameter_words(node, limit=4)
        return Step(
            f"{what}{f' ({command})' if command else ''}. No tool does this: say what is missing, and go on.",
            "needs_human",
            f"{what}: no tool here does that. Make it a function of the notebook, and a tool: "
            "`%persona tools add FUNCTION`.",
            kind="tool",
        )

    return family


_READS = re.compile(r"(?:\s|--[^\n]*\n|[=(])*(?:select|with|values|table|show|explain)\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(?:insert\s+into|update\s+\S+\s+set|delete\s+from|merge\s+into)\b", re.IGNORECASE)


def _database(node: Node, label: str) -> Step:
    query = node.text("query")
    texts = [("query", long_text(query, 2_000))] if query else []
    said = "" if query else parameter_words(node)
    what = f"run text {mark(0)}" if query else humanised(node.text("operation") or "read")
    if label == "PostgreSQL":
        reads = (
            _READS.match(query) and not _WRITES.search(query) if query else node.text("operation") == "select"
        )
        if reads:
            words = f"In {label}: {what}{f' ({said})' if said else ''}, with `postgres_query`."
            reason = "Read with postgres_query."
            return Step(words, "mapped", reason, ("postgres_query",), ("postgres",), texts, kind="tool")
        return Step(
            f"In {label}: {what}{f' ({said})' if said else ''}.",
            "needs_human",
            "postgres_query only reads. To write, make a function of the notebook that does, and a tool of it: "
            "`%persona tools add FUNCTION`.",
            texts=texts,
            kind="tool",
        )
    return Step(
        f"In {label}: {what}{f' ({said})' if said else ''}.",
        "needs_human",
        f"No built-in tool reaches {label}. Make a function of the notebook that does, and a tool of it: "
        "`%persona tools add FUNCTION`; or add an MCP server: `%persona servers add`.",
        texts=texts,
        kind="tool",
    )


_VERBS = {
    "get": "read", "getAll": "list", "getMany": "list", "search": "search", "lookup": "look up", "read": "read",
    "create": "create", "append": "append", "appendOrUpdate": "append or update", "update": "update",
    "upsert": "create or update", "delete": "delete", "deleteAll": "delete", "post": "post", "send": "send",
}  # fmt: skip


# What n8n does where nothing is said.
_USUAL = {
    "telegram": "sendMessage", "slack": "post", "discord": "send", "mattermost": "post", "twitter": "create",
    "googleSheets": "read", "googleDrive": "upload", "googleDocs": "create", "googleCalendar": "create",
    "googleTasks": "create", "notion": "create", "airtable": "get", "todoist": "create", "whatsApp": "send",
    "wordpress": "create", "supabase": "create", "twilio": "send", "pushbullet": "create", "bitly": "create",
    "github": "create", "trello": "create", "clickUp": "create", "asana": "create", "microsoftTeams": "create",
    "microsoftOutlook": "send", "dropbox": "upload", "jira": "create", "linkedIn": "create", "matrix": "create",
}  # fmt: skip


def _service(node: Node, service: Service) -> Step:
    operation = node.text("operation")
    operation = operation or _USUAL.get(re.sub(r"Tool$", "", node.kind), "")
    verb = _VERBS.get(operation) or (code(humanised(operation)) if operation else "")
    resource = code(humanised(node.text("resource"))) if node.text("resource") else ""
    what = " ".join(filter(None, (verb, resource))) or "do what the name of this step says"
    said = parameter_words(node)
    return Step(
        f"In {service.label}: {what}{f' with {said}' if said else ''}. Use its web API with `http_request`.",
        "mapped",
        f"{service.label} over its web API with http_request"
        + (f"; it needs a credential of the connector {service.connector}." if service.connector else "."),
        ("http_request",),
        (service.connector,) if service.connector else (),
        kind="tool",
    )


def _unknown(node: Node) -> Step:
    said = parameter_words(node)
    what = code(node.type) if node.type else "a node without a type"
    resource, operation = node.text("resource"), node.text("operation")
    did = " ".join(code(humanised(word)) for word in (operation, resource) if word)
    return Step(
        f"Do what {what} did{f': {did}' if did else ''}{f' ({said})' if said else ''}. No tool is known for it: say "
        "what is missing, and go on.",
        "needs_human",
        f"{what} is not known here. Say in the instructions what it should do, or make a function of the notebook "
        "that does it a tool.",
        kind="tool",
    )


def _toolless(words: str, reason: str) -> Callable[[Node], Step]:
    return lambda _node: Step(words, "absorbed", reason)


def _web_tool(label: str, url: str, connector: str = "") -> Callable[[Node], Step]:
    return lambda node: _service(node, Service(label, connector, url))


def _mcp(node: Node) -> Step:
    address = next(
        (said for name in ("sseEndpoint", "endpointUrl") if (said := parameter(node, name))),
        "the one set up in n8n",
    )
    return Step(
        f"The tools of the MCP server {address}.",
        "needs_human",
        f"It uses an MCP server ({address}). Where you trust it, add it: "
        "`%persona servers add NAME SERVER --url ADDRESS`.",
        kind="tool",
    )


def _vectors(node: Node) -> Step:
    mode = node.text("mode") or "load"
    what = "Store the documents" if mode == "insert" else "Find the documents that fit"
    said = parameter_words(node, "toolName", "queryName", "topK", limit=4)
    return Step(
        f"{what} in the vector store ({said or code(humanised(node.kind))}).",
        "needs_human",
        "There is no vector store here. Make a function of the notebook that searches one, and a tool of it: "
        "`%persona tools add FUNCTION`.",
        kind="tool",
    )


_LISTS = {
    "splitOut": "Take the list apart into items of their own",
    "aggregate": "Put the items together into one",
    "itemLists": "Rearrange the lists",
    "summarize": "Summarise the items as a pivot table would",
    "limit": "Keep only the first items",
    "sort": "Sort the items",
    "removeDuplicates": "Leave out items that repeat",
    "renameKeys": "Rename fields",
    "compareDatasets": "Compare the two sets of items",
    "dateTime": "Work with the date",
    "html": "Work with the HTML",
    "htmlExtract": "Take the data out of the HTML",
    "markdown": "Convert between Markdown and HTML",
    "xml": "Convert between XML and JSON",
    "moveBinaryData": "Convert between data and a file",
    "executionData": "Note down about this run",
    "splitInItems": "Take the items apart",
    "editImage": "Edit the image",
}
_FAMILIES: dict[str, Callable[[Node], Step]] = {
    **{kind: _list_work(what) for kind, what in _LISTS.items()},
    "set": _fields, "if": _branch, "filter": _branch, "switch": _branch, "splitInBatches": _loop, "merge": _merge,
    "noOp": _toolless("Nothing to do here.", "It does nothing; its arrows lead on."),
    "code": _code, "function": _code, "functionItem": _code, "aiTransform": _code, "toolCode": _code,
    "httpRequest": _http, "toolHttpRequest": _http, "graphql": _http, "rssFeedRead": _feed, "gmail": _gmail,
    "emailSend": _email, "emailReadImap": _read_mail, "readWriteFile": _file, "readBinaryFile": _file,
    "readBinaryFiles": _file, "writeBinaryFile": _file, "convertToFile": _to_file, "extractFromFile": _from_file,
    "spreadsheetFile": _from_file, "readPDF": _from_file, "wait": _wait, "stopAndError": _stop,
    "respondToWebhook": _answer, "form": _page, "chat": _asks, "executeWorkflow": _other_workflow,
    "toolWorkflow": _other_workflow, "mcpClient": _mcp, "mcpClientTool": _mcp,
    "toolCalculator": _toolless("Calculate.", "The model calculates; for exact figures give it a function as a tool."),
    "toolThink": _toolless("Think first.", "The model thinks by itself."),
    "toolWikipedia": _web_tool("Wikipedia", "https://en.wikipedia.org/w/api.php"),
    "toolSerpApi": _web_tool("SerpAPI", "https://serpapi.com", "serpapi"),
    "toolSearXng": _web_tool("SearXNG", "", "searxng"),
    "toolWolframAlpha": _web_tool("Wolfram Alpha", "https://api.wolframalpha.com", "wolfram"),
    "executeCommand": _machine("Run a command on the machine"), "ssh": _machine("Run a command over SSH"),
    "ftp": _machine("Move files over FTP"), "git": _machine("Work with a Git repository"),
    "crypto": _machine("Hash, sign or encrypt"), "compression": _machine("Pack or unpack files"),
    "jwt": _machine("Make or check a JSON Web Token"), "totp": _machine("Make a one-time password"),
    "ldap": _machine("Ask the LDAP directory"), "awsS3": _machine("Use Amazon S3"), "s3": _machine("Use S3 storage"),
    "awsLambda": _machine("Call an AWS Lambda function"), "awsSes": _machine("Send mail through Amazon SES"),
    "toolVectorStore": _vectors,
    **{
        f"vectorStore{name}": _vectors
        for name in ("InMemory", "Pinecone", "PGVector", "Supabase", "Qdrant", "Milvus", "Weaviate", "Zep", "Redis",
                     "MongoDBAtlas", "InMemoryInsert", "InMemoryLoad", "PineconeInsert", "PineconeLoad",
                     "SupabaseInsert", "SupabaseLoad", "ZepInsert", "ZepLoad", "AzureAISearch")
    },
}  # fmt: skip
