"""The text of a file as data: complete, not too deep, and storable; refused in words where it is not.

- Nesting is limited, so that whoever walks the data may do so by recursion.
- Half surrogate pairs and NULs, which a store cannot hold, become �.
"""

from __future__ import annotations

import json
from typing import Any

from personas_nb.errors import InvalidInput, TooLarge

DEPTH_LIMIT = 100
_ODD = ("\\ud", "\\uD", "\\u0000")  # escapes of what may be unstorable
_UNSTORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], "\ufffd")


def decoded(data: str | bytes, source: str) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark. Raises ``InvalidInput`` for anything else."""
    if isinstance(data, str):
        return _storable_text(data.removeprefix("\ufeff"))
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return _storable_text(data.decode(encoding))
    except UnicodeError:
        raise InvalidInput(f"{source} is no text.", hint="Save it as UTF-8, or export it again.") from None


def object_of(data: str | bytes, source: str) -> dict[str, Any]:
    """The JSON object that a file is; a list of one is that one.

    Raises ``InvalidInput`` for text that is cut off, goes on after its end, is no JSON or no object, and
    ``TooLarge`` for nesting deeper than ``DEPTH_LIMIT``.

    >>> object_of('{"nodes": []}', "a.json")
    {'nodes': []}
    """
    text = decoded(data, source)
    if not text.strip():
        raise InvalidInput(f"{source} is empty.", hint="Export it again.")
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise _too_deep(source) from None
    except json.JSONDecodeError as error:
        raise _in_words(error, source) from None
    except ValueError as error:  # a number of thousands of digits, NaN
        raise InvalidInput(
            f"{source} holds a number that cannot be read ({error}).",
            hint="JSON has no NaN, and no endless digits.",
        ) from None
    if isinstance(value, list) and len(value) == 1:  # as programs write all that they have, when it is one
        value = value[0]
    if isinstance(value, list) and value:
        raise InvalidInput(
            f"{source} is a list of {len(value):,} things, not one.",
            hint="Put each into a file of its own (n8n does so with `export:workflow --all --separate`), and import "
            "the folder.",
        )
    if not isinstance(value, dict):
        raise InvalidInput(
            f"{source} is JSON, but no object: it begins with {_kind(value)}.",
            hint="Give the file of one persona, template or workflow.",
        )
    if not value:
        raise InvalidInput(f"{source} is an empty object: there is nothing in it.", hint="Export it again.")
    return _checked(value, source, is_odd=any(sign in text for sign in _ODD))


def checked_object(value: Any, source: str) -> dict[str, Any]:
    """The same for data that somebody has parsed already."""
    if not isinstance(value, dict) or not value:
        raise InvalidInput(f"{source} must be a filled object, not {_kind(value)}.")
    return _checked(value, source, is_odd=True)


def _checked(value: dict[str, Any], source: str, *, is_odd: bool) -> dict[str, Any]:
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        if depth > DEPTH_LIMIT:
            raise _too_deep(source)
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    clean: dict[str, Any] = _storable(value) if is_odd else value
    return clean


def _storable_text(text: str) -> str:
    try:
        text.encode()  # many times faster than looking at each character
    except UnicodeEncodeError:
        return text.translate(_UNSTORABLE)
    return text.replace("\0", "\ufffd")


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _storable_text(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return value


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not allowed in JSON")


def _too_deep(source: str) -> TooLarge:
    return TooLarge(
        f"{source} is nested deeper than {DEPTH_LIMIT} levels.",
        hint="No real file is; look at what it holds.",
    )


def _in_words(error: json.JSONDecodeError, source: str) -> InvalidInput:
    text, at = error.doc, error.pos
    place = f"line {error.lineno}, column {error.colno}"
    if error.msg == "Extra data":
        return InvalidInput(
            f"{source} goes on after its end ({place}).",
            hint="Keep one object in the file; split it if it holds several.",
        )
    if error.msg.startswith("Unterminated string") or not text[at:].strip():
        return InvalidInput(
            f"{source} is cut off: it ends in the middle.", hint="Download or export it again."
        )
    if text[max(0, at - 2) : at] == '""':
        return InvalidInput(
            f"{source} has its quotes doubled ({place}).",
            hint='Replace "" with ", as it was before a CSV or a form doubled them.',
        )
    return InvalidInput(
        f"{source} is no JSON ({place}: {error.msg[0].lower() + error.msg[1:]}).", hint="Export it again."
    )


def _kind(value: Any) -> str:
    words = {
        list: "a list",
        str: "a text",
        bool: "a truth value",
        type(None): "null",
        dict: "an empty object",
    }
    return words.get(type(value), "a number")
