"""What runs behind the ``builtin://`` tools of the catalog."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from personas_nb.errors import ToolDenied
from personas_nb.settings import Settings
from personas_nb.tools.files import file_read, file_write
from personas_nb.tools.http import http_request


class Place(NamedTuple):
    """Where a call happens: the folder that it may use, and the limits that hold."""

    workspace: Path
    settings: Settings


Implementation = Callable[[Place, dict[str, Any]], Any]
"""Takes the checked arguments; a coroutine function runs on the loop, any other in a thread."""


def _file_read(place: Place, arguments: dict[str, Any]) -> str:
    return file_read(place.workspace, limit_bytes=place.settings.file_limit_bytes, **arguments)


def _file_write(place: Place, arguments: dict[str, Any]) -> str:
    return file_write(place.workspace, limit_bytes=place.settings.file_limit_bytes, **arguments)


async def _http_request(place: Place, arguments: dict[str, Any]) -> str:
    return await http_request(place.settings, **arguments)


def _gmail(_place: Place, _arguments: dict[str, Any]) -> str:
    raise ToolDenied(
        "This tool needs a gmail credential, which this version cannot hold yet.",
        hint="Go on without it, and say in the outcome that the mail was not reached.",
    )


BUILTIN: Mapping[str, Implementation] = {
    "builtin://file_read": _file_read,
    "builtin://file_write": _file_write,
    "builtin://http_request": _http_request,
    "builtin://gmail_read": _gmail,
    "builtin://gmail_search": _gmail,
    "builtin://gmail_mark_read": _gmail,
    "builtin://gmail_send": _gmail,
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
        case _:
            action = f"call {name} with {json.dumps(arguments, ensure_ascii=False, default=str)}"
    return f"Rehearsal: would {action}; nothing was sent."
