"""What runs behind the ``builtin://`` tools of the catalog."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from personas_nb.errors import ToolDenied
from personas_nb.settings import Settings
from personas_nb.tools.files import file_read, file_write
from personas_nb.tools.http import http_request
from personas_nb.tools.mail import gmail_mark_read, gmail_read, gmail_search, gmail_send
from personas_nb.tools.postgres import postgres_query
from personas_nb.vault.access import Opened
from personas_nb.vault.redaction import Redactor


def _no_credential(_ref: str) -> Opened:
    raise ToolDenied(
        "There is no credential here.",
        hint="A person adds one with `%persona credentials add NAME CONNECTOR`.",
    )


_NO_SECRETS = Redactor({})


class Place(NamedTuple):
    """Where a call happens: the folder that it may use, the limits that hold, and the way to its credential.

    ``credential`` takes the name of a credential or of its connector, ``""`` for the one that was matched first, and
    opens it: for this call, never to be kept. Raises ``ToolDenied`` where there is none; blocks. ``redactor`` is for
    tools that cut a text themselves: half a secret cannot be recognised any more.
    """

    workspace: Path
    settings: Settings
    credential: Callable[[str], Opened] = _no_credential
    redactor: Redactor = _NO_SECRETS


Implementation = Callable[[Place, dict[str, Any]], Any]
"""Takes the checked arguments; a coroutine function runs on the loop, any other in a thread."""


def _file_read(place: Place, arguments: dict[str, Any]) -> str:
    limit_bytes, redact = place.settings.file_limit_bytes, place.redactor.redact
    return file_read(place.workspace, limit_bytes=limit_bytes, redact=redact, **arguments)


def _file_write(place: Place, arguments: dict[str, Any]) -> str:
    return file_write(place.workspace, limit_bytes=place.settings.file_limit_bytes, **arguments)


async def _http_request(place: Place, arguments: dict[str, Any]) -> str:
    given = dict(arguments)
    ref = given.pop("credential", None)
    opened = await asyncio.to_thread(place.credential, ref) if ref else None
    return await http_request(place.settings, **given, credential=opened)


def _mail(tool: Callable[..., str], *, cuts: bool = False) -> Implementation:
    def perform(place: Place, arguments: dict[str, Any]) -> str:
        given = dict(arguments)
        opened = place.credential(given.pop("credential", None) or "")
        if cuts:
            given["redactor"] = place.redactor
        return tool(opened, place.settings, **given)

    return perform


async def _postgres_query(place: Place, arguments: dict[str, Any]) -> str:
    given = dict(arguments)
    opened = await asyncio.to_thread(place.credential, given.pop("credential", None) or "")
    return await postgres_query(opened, place.settings, **given, redactor=place.redactor)


BUILTIN: Mapping[str, Implementation] = {
    "builtin://file_read": _file_read,
    "builtin://file_write": _file_write,
    "builtin://http_request": _http_request,
    "builtin://gmail_read": _mail(gmail_read, cuts=True),
    "builtin://gmail_search": _mail(gmail_search, cuts=True),
    "builtin://gmail_mark_read": _mail(gmail_mark_read),
    "builtin://gmail_send": _mail(gmail_send),
    "builtin://postgres_query": _postgres_query,
}


def in_rehearsal(name: str, arguments: Mapping[str, Any]) -> str:
    """What a call would do outside, in a sentence.

    >>> in_rehearsal("http_request", {"url": "https://example.com"})
    'Rehearsal: would send GET https://example.com; nothing was sent.'
    """
    match name:
        case "http_request":
            others = [key for key in arguments if key not in ("url", "method")]
            along = f" with {', '.join(others)}" if others else ""
            action = f"send {arguments.get('method', 'GET')} {arguments.get('url', '')}{along}"
        case "gmail_send":
            action = f"send a mail to {arguments.get('to', '')}: “{arguments.get('subject', '')}”"
        case "gmail_read" | "gmail_search" | "gmail_mark_read":
            return f"Rehearsal: would {_mail_in_words(name, arguments)}; no mailbox was opened."
        case "postgres_query":
            return (
                f"Rehearsal: would ask the database “{arguments.get('query', '')}”; no database was reached."
            )
        case _:
            action = f"call {name} with {json.dumps(arguments, ensure_ascii=False, default=str)}"
    return f"Rehearsal: would {action}; nothing was sent."


def _mail_in_words(name: str, arguments: Mapping[str, Any]) -> str:
    if name == "gmail_search":
        return f"search the inbox for “{arguments.get('query', '')}”"
    if name == "gmail_mark_read":
        return f"mark the mail {arguments.get('message_id', '')} as read"
    if message_id := arguments.get("message_id"):
        return f"read the mail {message_id}"
    return f"read the newest {arguments.get('limit', 10)} {'unread ' if arguments.get('unread') else ''}mails"
