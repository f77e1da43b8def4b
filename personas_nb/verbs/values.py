"""What a typed word means: a number, a duration, a choice, the fields of a persona."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from personas_nb.errors import did_you_mean
from personas_nb.verbs.table import Argument
from personas_nb.verbs.usage import WrongUsage
from personas_nb.verbs.words import in_quotes

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000}
_FIELD = re.compile(r"\s*([A-Za-z_][\w.]*)=")
_NEXT_FIELD = re.compile(r"\s+[A-Za-z_][\w.]*=")
_CLEARED = ("none", "null", "default")


def absent(argument: Argument) -> Any:
    """What an argument is that was not given."""
    if argument.kind == "flag":
        return False
    return [] if argument.many else argument.default


def converted(argument: Argument, text: str) -> Any:
    """The text as what the argument takes; raises ``WrongUsage``."""
    if argument.choices and text not in argument.choices:
        known = f"There are {', '.join(argument.choices)}."
        raise WrongUsage(
            f"{argument.name} cannot be “{text}”.", hint=did_you_mean(text, argument.choices, otherwise=known)
        )
    if argument.kind == "duration":
        return duration_ms(text, argument.name)
    if argument.kind not in ("integer", "money"):
        return text
    plain = text.strip().lstrip("$").replace("_", "")
    whole = argument.kind == "integer"
    if re.fullmatch(
        r"[0-9]{1,9}" if whole else r"[0-9]{1,9}(\.[0-9]*)?|\.[0-9]+", plain, re.ASCII
    ) is None or (whole and int(plain) == 0):
        is_large = re.fullmatch(r"[0-9]{10,}(\.[0-9]*)?", plain, re.ASCII) is not None
        least = "at most 999,999,999" if is_large else "at least 1"
        kind, example = (f"a whole number of {least}", "10") if whole else ("a number of dollars", "0.50")
        if is_large and not whole:
            kind = f"{kind}, {least}"
        raise WrongUsage(
            f"{argument.name} must be {kind}, not “{text[:40]}”.", hint=f"Such as {argument.name} {example}."
        )
    return int(plain) if whole else float(plain)


def duration_ms(text: str, what: str = "A duration") -> int:
    """Milliseconds of ``90s``, ``5m``, ``2h``, ``250ms``; a plain number is seconds.

    >>> duration_ms("90s"), duration_ms("5m"), duration_ms("1.5h"), duration_ms("30")
    (90000, 300000, 5400000, 30000)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h|)", text.strip().lower(), re.ASCII)
    milliseconds = round(float(found[1]) * _UNITS_MS[found[2] or "s"]) if found and len(text) < 20 else 0
    if milliseconds <= 0:
        raise WrongUsage(f"{what} cannot be “{text[:40]}”.", hint="Write 90s, 5m or 2h.")
    return milliseconds


def fields_of(given: str | list[str], fill: Callable[[str], str] = str) -> dict[str, Any]:
    """``field=value …`` as a mapping: JSON where a value parses, else text; None, null and default are None.

    A value ends where the next ``field=`` begins; quotes and brackets keep that together.

    >>> fields_of('max_turns=5 description=Reads my mail identity="a=b"')
    {'max_turns': 5, 'description': 'Reads my mail', 'identity': 'a=b'}
    """
    pairs = _field_texts(given.strip()) if isinstance(given, str) else map(_field_word, given)
    found: dict[str, Any] = {}
    for name, text in pairs:
        if name in found:
            raise WrongUsage(f"“{name}” is given twice.", hint="Name each field once.")
        found[name] = _field_value(name, fill(text))
    return found


def _field_texts(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        head = _FIELD.match(text, position)
        if head is None:
            raise _no_field(text[position:].strip())
        start = head.end()
        end = _value_end(text, start)
        yield head[1], text[start:end].strip()
        position = end


def _field_word(word: str) -> tuple[str, str]:
    head = _FIELD.match(word)
    if head is None:
        raise _no_field(word)
    return head[1], word[head.end() :]


def _no_field(text: str) -> WrongUsage:
    return WrongUsage(
        f"“{text[:40]}” is no field=value.", hint="Such as max_turns=10; put a text with = in quotes."
    )


def _value_end(text: str, start: int) -> int:
    """Where the value that begins here ends."""
    if (quoted := in_quotes(text, start)) is not None:
        return quoted.end
    if text[start : start + 1] in ("{", "["):
        import json

        try:
            _, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            end = 0
        if end and (end == len(text) or text[end].isspace()):
            return end
    following = _NEXT_FIELD.search(text, start)
    return following.start() if following else len(text)


def _field_value(name: str, text: str) -> Any:
    import json

    if text.lower() in _CLEARED:
        return None
    if name == "timeout_ms" and re.fullmatch(r"[0-9.]+(ms|s|m|min|h)", text):
        return duration_ms(text, name)
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, str) and (quoted := in_quotes(value, 0)) is not None and quoted.end == len(value):
        return quoted.text
    return value
