"""What a person types for a trigger: words (“every weekday at 9”), cron, fields, or JSON, read as its config."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from personas_nb.errors import InvalidInput
from personas_nb.verbs.values import fields_of
from personas_nb.verbs.words import TEXT_QUOTES

_FIELD = re.compile(r"(?:^|(?<=\s))[A-Za-z_]\w*=")
_CRON_LIKE = re.compile(r"@[a-z]+|(?:[0-9*][\w*/,-]*\s+){3,5}[\w*/,-]+", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_COUNTS = ("a|an|one", "two|other|second", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PERIOD = re.compile(
    r"(?:every|each)?\s*(?P<count>[0-9]{1,9}|[a-z]+)?\s*"
    r"(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)",
    re.IGNORECASE,
)
_WORD_LEFT = re.compile(
    r"\b(?!(?:and|on|at|in|the|then|also|time|of|each|please|run|it)\b)[^\W\d_]{2,}", re.IGNORECASE
)
# What is left over and still speaks of a time: without it the rest would be another time than was meant.
_TIME_LEFT = re.compile(
    r"[0-9]|\*|\b[a-z]+/[a-z_]+|\b(?:"
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|april?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:days?)?"
    r"|first|second|third|fourth|fifth|last|other|except|until|from|between|before|after|noon|midnight)\b",
    re.IGNORECASE,
)
_EXAMPLES = {
    "schedule": "Write it in words, “every weekday at 9”, or as cron: cron=0 9 * * 1-5.",
    "polling": "Write “every 45 minutes”, or interval_seconds=2700; with url=… it starts when that has changed.",
}


@dataclass(frozen=True)
class Wanted:
    """One trigger as it was understood; ``note`` says what was assumed."""

    trigger_type: str
    config: dict[str, Any]
    note: str = ""


def wanted(trigger_type: str, text: str | None, timezone: str | None = None) -> list[Wanted]:
    """The triggers that a text asks for: one, or several where it names several times.

    ``timezone`` is the zone of words that name none; None leaves it to the settings. Raises ``InvalidInput``.

    >>> wanted("schedule", '"every weekday at 9" timezone=Europe/Berlin')[0].config
    {'cron': '0 9 * * 1-5', 'timezone': 'Europe/Berlin'}
    >>> wanted("schedule", "0 9 * * 1-5 catch_up=all")[0].config
    {'cron': '0 9 * * 1-5', 'catch_up': 'all'}
    >>> wanted("polling", "every 10 minutes")[0].config
    {'interval_seconds': 600}
    """
    text = (text or "").strip()
    if text.startswith("{"):
        return [Wanted(trigger_type, _open(_json(text)))]
    words, fields = parts(text)
    _open(fields)
    if not words:
        return [Wanted(trigger_type, fields)]
    if trigger_type == "schedule":
        found = _scheduled(words, fields.get("timezone") or timezone)
    elif trigger_type == "polling":
        found = [Wanted("polling", {"interval_seconds": _interval(words)})]
    else:
        raise InvalidInput(
            f"A {trigger_type} trigger has no time, so “{words[:60]}” says nothing about it.",
            hint="Leave it out, or choose schedule or polling.",
        )
    return [Wanted(one.trigger_type, {**one.config, **fields}, one.note) for one in found]


def parts(text: str) -> tuple[str, dict[str, Any]]:
    """The words that a text begins with, without quotes, and the fields that it ends with."""
    close = TEXT_QUOTES.get(text[:1])
    end = text.find(close, 1) if close else -1
    words = ""
    if end > 0:
        words, text = text[1:end].strip(), text[end + 1 :].strip()
    elif first := _FIELD.search(text):
        words, text = text[: first.start()].strip(), text[first.start() :]
    else:
        words, text = text, ""
    return words, fields_of(text)


def _open(config: dict[str, Any]) -> dict[str, Any]:
    """The config, if everybody may see it: a line is kept by its notebook, a shell's history, the list of processes."""
    if "secret" in config:
        raise InvalidInput(
            "A webhook's secret in the line would be saved with the notebook, or a shell's history.",
            hint="Leave it out: a good one is made. One of your own: "
            '`studio.triggers.add(NAME, "webhook", {"secret": os.environ["HOOK_SECRET"]})`; change one that was saved.',
        )
    return config


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            f"This config is no JSON: {error}.", hint='Such as {"cron": "0 9 * * 1-5"}.'
        ) from None
    assert isinstance(found, dict)  # it begins with a brace
    return found


def _scheduled(words: str, timezone: str | None) -> list[Wanted]:
    from personas_nb.design.schedules import find_schedules, respelled

    if _CRON_LIKE.fullmatch(words):
        from personas_nb.triggers.cron import parse

        parse(words)  # says what is wrong with it
        return [Wanted("schedule", {"cron": words} | ({"timezone": timezone} if timezone else {}))]
    text, put_right = respelled(words)
    found = [one for one in find_schedules(text, timezone) if one.trigger_type in ("schedule", "polling")]
    if not found:
        raise InvalidInput(f"“{words[:80]}” names no time that can be read.", hint=_EXAMPLES["schedule"])
    for one in found:
        if one.asked:
            nearest = f"The nearest that can be is “{one.instead}”." if one.instead else _EXAMPLES["schedule"]
            raise InvalidInput(f"No trigger can hold “{one.asked[:80]}”.", hint=nearest)
    notes = [f"“{typed}” was read as “{right}”." for typed, right in put_right]
    left = _left(text, [one.span for one in found])
    if _TIME_LEFT.search(left):
        raise InvalidInput(
            f"“{left[:80]}” could not be read as a part of the time.", hint=_EXAMPLES["schedule"]
        )
    if _WORD_LEFT.search(left):
        notes.append(f"“{left[:80]}” says nothing about a time and was left out.")
    return [
        Wanted(
            one.trigger_type,
            dict(one.config),
            " ".join(filter(None, (one.note, _assumed(one.description), *notes))),
        )
        for one in found
    ]


def _left(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The words outside of the spans."""
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return " ".join(text.strip(" .,;:!\n").split())


def _assumed(description: str) -> str:
    return "The time of day is assumed." if "time assumed)" in description else ""


def _interval(words: str) -> int:
    """The seconds of a period in words."""
    found = _PERIOD.fullmatch(words.strip())
    if found:
        given = (found["count"] or "one").lower()
        known = next((number for number, names in enumerate(_COUNTS, 1) if given in names.split("|")), None)
        count = int(given) if given.isdigit() else known
        if count:
            return count * _UNITS[found["unit"][0].lower()]
    from personas_nb.design.schedules import find_schedules

    for one in find_schedules(words):
        if seconds := one.config.get("interval_seconds"):
            return int(seconds)
    raise InvalidInput(f"“{words[:80]}” is no period that can be read.", hint=_EXAMPLES["polling"])
