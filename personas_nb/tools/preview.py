"""What a call of a tool would do, for the person who decides on it: a diff, a request, a mail, a query, or its
arguments.

Nothing is left out, or the preview would hide what it is there to show: where a call is too long to be shown, that is
the first thing it says.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from personas_nb.errors import PersonaError
from personas_nb.settings import Settings
from personas_nb.tools.files import file_read

LIMIT_CHARS = 200_000


def preview(
    name: str,
    arguments: Mapping[str, Any],
    *,
    workspace: Path,
    settings: Settings,
    redact: Callable[[str], str] = str,
) -> str:
    """What the call would do, as text with a code block; ``arguments`` are redacted. Reads files; blocks.

    ``redact`` takes secrets out of a file before it is compared line by line, where one of several lines is no
    longer recognised.

    >>> print(preview("gmail_send", {"to": "a@example.com", "subject": "Hi", "body": "There."},
    ...               workspace=Path("."), settings=Settings()))
    It would send this mail:
    <BLANKLINE>
    ```
    To: a@example.com
    Subject: Hi
    <BLANKLINE>
    There.
    ```
    """
    match name:
        case "file_write":
            return _file(arguments, workspace, settings, redact)
        case "http_request":
            return _request(arguments)
        case "gmail_send":
            return _mail(arguments)
        case "postgres_query":
            return _query(arguments)
        case _:
            return _block(f"It would call {name} with:", _json(arguments))


def _file(
    arguments: Mapping[str, Any], workspace: Path, settings: Settings, redact: Callable[[str], str]
) -> str:
    path, content = str(arguments.get("path", "")), str(arguments.get("content", ""))
    is_new, note, before = False, "", ""
    try:
        there = file_read(workspace, path, limit_bytes=settings.file_limit_bytes)
        before = redact(there)
        if before != there and not arguments.get("append"):
            note = " What is there holds secrets, shown here by their names; afterwards it would not."
    except PersonaError as error:
        is_new = not (workspace / path).exists()
        note = "" if is_new else f" What is there now cannot be shown: {error}"
    after = before + content if arguments.get("append") else content
    verb = "add to" if arguments.get("append") else "write the new file" if is_new else "change"
    if before == after:
        return f"It would write {path} again, which has this text already."
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{path} (now)", f"{path} (then)", lineterm=""
    )
    shown = "\n".join(lines) or "(only the ends of its lines change)"
    return _block(f"It would {verb} {path}:{note}", shown)


def _request(arguments: Mapping[str, Any]) -> str:
    lines = [f"{arguments.get('method', 'GET')} {arguments.get('url', '')}"]
    if query := arguments.get("query"):
        lines += [f"? {name} = {value}" for name, value in _pairs(query)]
    if headers := arguments.get("headers"):
        lines += [f"{name}: {value}" for name, value in _pairs(headers)]
    if "json" in arguments:
        lines += ["", _json(arguments["json"])]
    if "body" in arguments:
        lines += ["", str(arguments["body"])]
    shown = {"url", "method", "query", "headers", "json", "body", "credential"}
    if rest := {name: value for name, value in arguments.items() if name not in shown}:
        lines += ["", _json(rest)]
    credential = arguments.get("credential")
    along = f" with the credential {credential}" if credential else ""
    return _block(f"It would send this request{along}:", "\n".join(lines))


def _mail(arguments: Mapping[str, Any]) -> str:
    heads = [f"{name.capitalize()}: {value if isinstance(value, str) else _json(value)}"
             for name, value in arguments.items() if name != "body"]  # fmt: skip
    return _block("It would send this mail:", "\n".join([*heads, "", str(arguments.get("body", ""))]))


def _query(arguments: Mapping[str, Any]) -> str:
    credential = arguments.get("credential")
    along = f" with the credential {credential}" if credential else ""
    rest = {name: value for name, value in arguments.items() if name not in ("query", "credential")}
    lines = [str(arguments.get("query", "")), *(["", _json(rest)] if rest else [])]
    return _block(f"It would ask the database this{along}, reading only:", "\n".join(lines))


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else [("", value)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _block(said: str, text: str) -> str:
    """A sentence and a code block, which nothing in the text can end."""
    text = re.sub(r"^(\s*)```", "\\1\u200b```", text, flags=re.MULTILINE)
    if len(text) > LIMIT_CHARS:
        said = f"Only the first {LIMIT_CHARS:,} of {len(text):,} characters are shown.\n\n{said}"
        text = text[:LIMIT_CHARS]
    return f"{said}\n\n```\n{text}\n```"
