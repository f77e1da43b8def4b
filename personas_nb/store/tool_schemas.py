"""What the built-in tools take since they can use credentials.

Used by the migration ``m007_lookup`` alone; a later change is a migration of its own.
"""

from __future__ import annotations

import json
from typing import Any

_STRING = {"type": "string"}
_CREDENTIAL = {
    "type": "string",
    "description": "name of the credential to use, where there are several; see Available Credentials",
}


def _schema(properties: dict[str, dict[str, Any]], required: str = "") -> str:
    return json.dumps(
        {
            "type": "object",
            "properties": properties,
            "required": required.split(),
            "additionalProperties": False,
        }
    )


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _count(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


TOOL_CHANGES: dict[str, dict[str, str]] = {
    "http_request": {
        "description": "Send an HTTP request to a web address, API, website, page, feed or service and read the "
        "answer. To log in, name a credential: its token is then sent as “Authorization: Bearer …” by itself. "
        "Where a service wants a value elsewhere, write {{credential.FIELD}} there, in the address, a header, the "
        "query, the json or the body: it is filled in after you, and you never see the value.",
        "input_schema": _schema(
            {
                "url": _text("the http or https address"),
                "method": {
                    "type": "string",
                    "description": "GET (default), HEAD, POST, PUT, PATCH or DELETE",
                    "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
                },
                "headers": {
                    "type": "object",
                    "description": "request headers",
                    "additionalProperties": _STRING,
                },
                "query": {"type": "object", "description": "query parameters, added to the address"},
                "json": {"description": "a body to send as JSON"},
                "body": _text("a body to send as text"),
                "credential": _text("name of the credential to log in with; see Available Credentials"),
            },
            "url",
        ),
    },
    "gmail_read": {
        "description": "Read a mail or the newest mails of an inbox (e-mail, Gmail, IMAP): date, from, to, subject, "
        "text, attachments by name. It does not mark them as read.",
        "input_schema": _schema(
            {
                "message_id": _text("which mail, as a list or search named it; without it the newest ones"),
                "limit": _count("how many, default 10, at most 50"),
                "unread": {"type": "boolean", "description": "only those not read yet; default false"},
                "offset": _count("character of the text to begin at, for one mail whose text was cut"),
                "credential": _CREDENTIAL,
            }
        ),
    },
    "gmail_search": {
        "description": "Search an inbox for mails (e-mail, Gmail, IMAP) by sender, subject, words or date.",
        "input_schema": _schema(
            {
                "query": _text(
                    "words, “phrases”, from: to: cc: subject: since:2026-11-20 before: newer_than:7d "
                    "older_than:1m is:unread is:starred larger:5m, - before any for “not”, OR between two"
                ),
                "limit": _count("how many, the newest; default 10, at most 50"),
                "credential": _CREDENTIAL,
            },
            "query",
        ),
    },
    "gmail_mark_read": {
        "input_schema": _schema(
            {
                "message_id": _text("which mail; several separated by commas"),
                "credential": _CREDENTIAL,
            },
            "message_id",
        ),
    },
    "gmail_send": {
        "input_schema": _schema(
            {
                "to": _text("the address; several separated by commas"),
                "subject": _text("the subject"),
                "body": _text("the text"),
                "cc": _text("who gets a copy; several separated by commas"),
                "bcc": _text("who gets a copy without the others seeing it"),
                "message_id": _text("the mail that this replies to"),
                "credential": _CREDENTIAL,
            },
            "to subject body",
        ),
    },
}
