"""The rows that every store begins with: the built-in tools and the shipped connectors.

Used by the migrations ``m002_catalog`` and, for the tool of its name, ``m013_postgres_query`` alone; a later change
of the catalog is a migration of its own.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import NAMESPACE_URL, uuid5

_CREATED_AT = "2026-11-01T00:00:00.000000Z"


def _id(kind: str, name: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"personas_nb:{kind}:{name}"))


def _schema(properties: dict[str, tuple[str, str]], required: str = "") -> str:
    """A JSON schema from ``{name: (type, description)}``."""
    return json.dumps(
        {
            "type": "object",
            "properties": {
                name: {"type": kind, "description": description}
                for name, (kind, description) in properties.items()
            },
            "required": required.split(),
            "additionalProperties": False,
        }
    )


def _tool(
    name: str, category: str, effect: str, description: str, schema: str, needs: str | None = None
) -> dict[str, Any]:
    return {
        "id": _id("tool", name),
        "name": name,
        "category": category,
        "description": description,
        "script_path": f"builtin://{name}",
        "input_schema": schema,
        "requires_credential_type": needs,
        "effect": effect,
        "is_builtin": 1,
        "created_at": _CREATED_AT,
    }


def _http_schema() -> str:
    schema = json.loads(
        _schema(
            {
                "url": ("string", "the http or https address"),
                "method": ("string", "GET (default), HEAD, POST, PUT, PATCH or DELETE"),
                "headers": ("object", "request headers"),
                "query": ("object", "query parameters, added to the address"),
                "json": ("object", "a body to send as JSON"),
                "body": ("string", "a body to send as text"),
            },
            "url",
        )
    )
    schema["properties"]["method"]["enum"] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    schema["properties"]["headers"]["additionalProperties"] = {"type": "string"}
    # any JSON value may be a body, a list as well
    schema["properties"]["json"] = {"description": schema["properties"]["json"]["description"]}
    return json.dumps(schema)


TOOLS: list[dict[str, Any]] = [
    _tool(
        "file_read",
        "filesystem",
        "none",
        "Read a text file (CSV, JSON, Markdown, mail, log …) of the persona's workspace, or list a folder. "
        "Files given to a run are in inputs/.",
        _schema(
            {
                "path": ("string", "path inside the workspace; a folder gives its listing"),
                "offset": ("integer", "character to begin at, for a file whose text was cut; default 0"),
            },
            "path",
        ),
    ),
    _tool(
        "file_write",
        "filesystem",
        "local",
        "Write or append a text file (report, summary, CSV, table, Markdown) in the persona's workspace.",
        _schema(
            {
                "path": ("string", "path inside the workspace; folders are made"),
                "content": ("string", "the text to write"),
                "append": ("boolean", "add to the end instead of replacing; default false"),
            },
            "path content",
        ),
    ),
    _tool(
        "http_request",
        "network",
        "outside",
        "Send an HTTP request to a web address, API, website, page, feed or service and read the answer.",
        _http_schema(),
    ),
    _tool(
        "gmail_read",
        "email",
        "outside",
        "Read a mail or the newest mails of an inbox (e-mail, Gmail, IMAP).",
        _schema(
            {
                "message_id": ("string", "which mail; without it the newest ones"),
                "limit": ("integer", "how many, default 10"),
            }
        ),
        "gmail",
    ),
    _tool(
        "gmail_send",
        "email",
        "outside",
        "Send a mail (e-mail, Gmail, SMTP) to somebody, reply to one.",
        _schema(
            {
                "to": ("string", "the address"),
                "subject": ("string", "the subject"),
                "body": ("string", "the text"),
            },
            "to subject body",
        ),
        "gmail",
    ),
    _tool(
        "gmail_search",
        "email",
        "outside",
        "Search an inbox for mails (e-mail, Gmail, IMAP) by sender, subject, words or date.",
        _schema(
            {"query": ("string", "what to search for"), "limit": ("integer", "how many, default 10")}, "query"
        ),
        "gmail",
    ),
    _tool(
        "gmail_mark_read",
        "email",
        "outside",
        "Mark a mail of an inbox as read (e-mail, Gmail, IMAP).",
        _schema({"message_id": ("string", "which mail")}, "message_id"),
        "gmail",
    ),
]

POSTGRES_QUERY = _tool(
    "postgres_query",
    "database",
    "outside",
    "Ask a PostgreSQL database (SQL, tables, warehouse) with one statement that reads: SELECT, VALUES, TABLE, WITH, "
    "SHOW or EXPLAIN. The answer is CSV: an empty cell is NULL. Tables and their columns are in "
    "information_schema.columns.",
    _schema(
        {
            "query": ("string", "one statement of SQL"),
            "limit": ("integer", "rows to show, default 100, at most 1000"),
            "credential": (
                "string",
                "name of the credential to use, where there are several; see Available Credentials",
            ),
        },
        "query",
    ),
    "postgres",
)


def _connector(
    name: str, label: str, description: str, fields: list[dict[str, Any]], tools: list[str], setup: str
) -> dict[str, Any]:
    return {
        "id": _id("connector", name),
        "name": name,
        "label": label,
        "description": description,
        "fields": json.dumps(fields),
        "tools": json.dumps(tools),
        "setup_instructions": setup,
        "healthcheck": "{}",
        "is_builtin": 1,
        "created_at": _CREATED_AT,
    }


def _field(key: str, label: str, *, secret: bool = False, default: str | None = None) -> dict[str, Any]:
    return {"key": key, "label": label, "secret": secret, "required": default is None, "default": default}


CONNECTORS: list[dict[str, Any]] = [
    _connector(
        "gmail",
        "Gmail",
        "Mail over IMAP and SMTP: inbox, e-mail, Gmail.",
        [
            _field("user", "mail address"),
            _field("app_password", "app password", secret=True),
            _field("imap_host", "IMAP host", default="imap.gmail.com"),
            _field("imap_port", "IMAP port", default="993"),
            _field("smtp_host", "SMTP host", default="smtp.gmail.com"),
            _field("smtp_port", "SMTP port", default="465"),
        ],
        ["gmail_read", "gmail_search", "gmail_mark_read", "gmail_send"],
        "Make an app password in your Google account (Security, 2-Step Verification, App passwords).",
    ),
    _connector(
        "slack",
        "Slack",
        "Post to and read Slack channels and chat messages.",
        [_field("bot_token", "bot token", secret=True), _field("channel", "default channel", default="")],
        ["http_request"],
        "Create a Slack app with a bot token (chat:write) and install it to the workspace.",
    ),
    _connector(
        "telegram",
        "Telegram",
        "Send messages through a Telegram bot to a chat.",
        [_field("bot_token", "bot token", secret=True), _field("chat_id", "chat id")],
        ["http_request"],
        "Talk to @BotFather to make a bot, then write to it once to learn the chat id.",
    ),
    _connector(
        "smtp",
        "SMTP",
        "Send mail through any mail server.",
        [
            _field("host", "host"),
            _field("port", "port", default="465"),
            _field("user", "user"),
            _field("password", "password", secret=True),
        ],
        ["gmail_send"],
        "Ask your mail provider for host, port, user and password of its SMTP server.",
    ),
    _connector(
        "http_bearer",
        "HTTP with a token",
        "Any web API that takes a bearer token.",
        [_field("base_url", "address"), _field("token", "token", secret=True)],
        ["http_request"],
        "Create an access token in the service's settings.",
    ),
    _connector(
        "github",
        "GitHub",
        "Repositories, issues, pull requests and releases on GitHub.",
        [
            _field("token", "personal access token", secret=True),
            _field("api_url", "API address", default="https://api.github.com"),
        ],
        ["http_request"],
        "Create a fine-grained personal access token in GitHub's developer settings.",
    ),
    _connector(
        "postgres",
        "PostgreSQL",
        "Read-only SQL queries on a PostgreSQL database, its tables and warehouse.",
        [
            _field("host", "host"),
            _field("port", "port", default="5432"),
            _field("database", "database"),
            _field("user", "user"),
            _field("password", "password", secret=True),
        ],
        [],
        "Create a database role that may only SELECT.",
    ),
]
