"""What a call of a tool would do, for the person who decides on it: a diff, a request, a mail, a query, or its
arguments.

- Nothing is left out, or the preview would hide what it is there to show: where a call is too long to be shown, that
  is the first thing it says.
- What nobody would see, or what would turn the text around, is written as a picture (␛) or an escape (\\u202e). Names
  and headers stay on one line, so that none of them looks like a part of the preview.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from personas_nb.errors import PersonaError, TooLarge, ToolDenied
from personas_nb.settings import Settings
from personas_nb.tools.files import file_read

LIMIT_CHARS = 200_000

# Control characters, marks of direction, what has no width or no glyph, half characters, hidden tags. A carriage
# return is seen only as a part of a line's end.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]|\r(?!\n)"
)
_BREAKS = re.compile("[\t\n\r]")


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


class _Before(NamedTuple):
    """What a file holds before it is written, as far as it can be shown."""

    text: str = ""
    note: str = ""
    is_new: bool = False
    is_whole: bool = False  # the text is all that it holds, byte by byte


def _file(
    arguments: Mapping[str, Any], workspace: Path, settings: Settings, redact: Callable[[str], str]
) -> str:
    path, content = str(arguments.get("path", "")), str(arguments.get("content", ""))
    appends = bool(arguments.get("append"))
    before = _before(workspace, path, settings.file_limit_bytes, redact, appends=appends)
    name, note = _line(path), before.note
    if before.is_new and not content:
        return f"It would make the empty file {name}."
    if appends and not content:
        return f"It would add nothing to {name}.{note}"
    after = before.text + content if appends else content
    if before.is_whole and before.text == after:
        return f"It would write {name} again, which has this text already."
    if not after and not before.text:
        return f"It would empty {name}.{note}"
    verb = "write the new file" if before.is_new else "add to" if appends else "change" if after else "empty"
    if "[secret " in content:
        note += " “[secret …]” in the call would be written as these words."
    return _block(f"It would {verb} {name}:{note}", _diff(name, before.text, after))


def _before(
    workspace: Path, path: str, limit_bytes: int, redact: Callable[[str], str], *, appends: bool
) -> _Before:
    hidden = " What is there now cannot be shown:"
    target = workspace / path
    try:
        there = file_read(workspace, path, limit_bytes=limit_bytes)
        if not target.is_file():
            return _Before(note=" It is a folder, so the call would fail.")
        size_bytes = target.stat().st_size
    except TooLarge:
        return _Before(note=f"{hidden} its {_size(target)} bytes are over the limit (file_limit_bytes).")
    except (PersonaError, OSError) as error:
        if not isinstance(error, ToolDenied) and not _exists(target):
            return _Before(is_new=True)
        return _Before(note=_line(f"{hidden} {error}"))
    text = redact(there)
    if text != there:
        lost = " What is there holds secrets, shown here by their names; afterwards it would not."
        # The names in the call are words; those in the file stand for secrets, and the diff tells the two apart.
        return _Before(re.sub(r"\[(?=secret |\*\*\*\])", "[the ", text), "" if appends else lost)
    if size_bytes != len(there.encode()):
        lost = " What is there holds bytes that are no text and are not shown here; afterwards it would not."
        return _Before(text, "" if appends else lost)
    return _Before(text, is_whole=True)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long, or nobody may look there
        return True


def _size(path: Path) -> str:
    try:
        return f"{path.stat().st_size:,}"
    except OSError:  # it went meanwhile
        return "many"


def _diff(name: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        _lines(before), _lines(after), f"{name} (now)", f"{name} (then)", lineterm=""
    )
    same = "nothing else changes" if before == after else "only the ends of its lines change"
    return "\n".join(map(_visible, lines)) or f"({same})"


def _lines(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _request(arguments: Mapping[str, Any]) -> str:
    lines = [_line(f"{arguments.get('method', 'GET')} {arguments.get('url', '')}")]
    if query := arguments.get("query"):
        lines += [_line(f"? {name} = {value}") for name, value in _pairs(query)]
    if headers := arguments.get("headers"):
        lines += [_line(f"{name}: {value}") for name, value in _pairs(headers)]
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
    heads = [f"{_line(name.capitalize())}: {_line(value) if isinstance(value, str) else _json(value)}"
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


def _visible(text: str) -> str:
    """The text with what nobody would see written out; line ends and tabs stay."""
    return _UNSEEN.sub(_written_out, text)


def _line(text: str) -> str:
    """The text on one line, with its line ends written out too."""
    return _BREAKS.sub(_written_out, _visible(text))


def _written_out(found: re.Match[str]) -> str:
    """A control character as its picture, any other as its escape."""
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _block(said: str, text: str) -> str:
    """A sentence and a code block, which nothing in the text can end."""
    said, text = _line(said), _visible(text)
    text = re.sub(r"^(\s*)```", "\\1\u200b```", text, flags=re.MULTILINE)
    if len(text) > LIMIT_CHARS:
        said = f"Only the first {LIMIT_CHARS:,} of {len(text):,} characters are shown.\n\n{said}"
        text = text[:LIMIT_CHARS]
    return f"{said}\n\n```\n{text}\n```"
