"""Days that a sentence rules out: “daily, but not on weekends”, “skip Fridays”.

The schedule grammar finds the days; here it is seen that they are not wanted, and they are taken from the others.
What is no day of the week (“except on public holidays”) becomes a rule for the persona.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from personas_nb.design.prose import VERBS
from personas_nb.design.schedules import Schedule
from personas_nb.design.schedules.plans import as_field
from personas_nb.entities.design import SuggestedTrigger
from personas_nb.triggers import cron

Timed = TypeVar("Timed", Schedule, SuggestedTrigger)

_NOT = re.compile(
    r"[\s,;.]*(?:\b(?:but|and|please)\s+)*\b(?:not|never|no more|skip|leave out|drop|except(?:\s+for)?|excluding"
    r"|other than|apart from|pause|rest|nothing|stay (?:quiet|silent)|be quiet|leave (?:me|us) (?:alone|in peace)"
    r"|no (?:e-?mails?|mails?|runs?|messages?|reports?|digests?|summar(?:y|ies)|posts?|alerts?|notifications?)"
    r"|(?:don['’]?t|do not|stop|never)"
    r"(?:\s+(?:run|running|start|starting|do|doing|work|send|post|write|mail|bother|disturb|wake|it|this|that|me|us"
    r"|anything|any|mails?|e-?mails?|messages?)){0,4})\s+$",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(
    r"\s*,?\s*(?P<words>(?:but\s+)?(?:except|excluding|other\s+than|apart\s+from|but\s+not)(?:\s+for)?"
    rf"\s+(?P<what>[^,.;:!?\n]{{3,80}}?))(?=[,.;:!?\n]|\s*$|\s+(?:at|every|{'|'.join(sorted(VERBS))})\b)",
    re.IGNORECASE,
)
_AND_HOLIDAYS = re.compile(
    r"\s*(?:,|\band\b|\bor\b|&)+\s*(?P<words>(?:on\s+)?(?P<what>(?:public |bank |school )?holidays))\b",
    re.IGNORECASE,
)
_EVERY_DAY = frozenset(range(7))


@dataclass(frozen=True)
class RuledOut:
    """Schedules that are wanted, days of the week that are not (0 is Sunday), and where the text says so."""

    wanted: tuple[Schedule, ...]
    days: frozenset[int] = frozenset()
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Unheld:
    """An exception that no schedule can hold: where it stands, its words, and what the persona is told instead.

    >>> from personas_nb.design.schedules import find_schedules
    >>> text = "Daily, except public holidays, read a.csv"
    >>> [one.rule for one in exceptions(text, find_schedules(text), RuledOut(()))]
    ['Do nothing on public holidays']
    """

    span: tuple[int, int]
    words: str
    rule: str


def ruled_out(text: str, found: Sequence[Schedule]) -> RuledOut:
    """The schedules found in a text, taken apart into those it wants and the days that it does not want."""
    wanted, days, spans = [], set[int](), []
    for one in found:
        refusal = _NOT.search(text[: one.span[0]])
        named = weekdays_of(one.config)
        if refusal and named < _EVERY_DAY:
            days |= named
            spans.append((refusal.start(), one.span[1]))
        else:
            wanted.append(one)
    return RuledOut(tuple(wanted), frozenset(days), tuple(spans))


def exceptions(text: str, found: Sequence[Schedule], refused: RuledOut) -> list[Unheld]:
    """What a text leaves out of the schedules found in it that is no day of the week."""
    spans = [one.span for one in found]
    matches = [_EXCEPTION.match(text, end) for _, end in spans]
    matches += [_AND_HOLIDAYS.match(text, end) for _, end in refused.spans]
    return [
        Unheld(match.span(), match["words"], _as_rule(match["what"]))
        for match in matches
        if match and not any(match.start() < end and start < match.end() for start, end in spans)
    ]


def _as_rule(what: str) -> str:
    said = " ".join(what.split())
    has_preposition = re.match(
        r"(?:on|in|at|during|when|if|while|between|before|after)\b", said, re.IGNORECASE
    )
    return f"Do nothing {said}" if has_preposition else f"Do nothing on {said}"


def on_other_days(one: Timed, days: frozenset[int]) -> Timed:
    """The schedule or trigger without these days; one that cron could not say then stays as it is."""
    config = config_without(one.config, days)
    if config == one.config:
        return one
    assumed = re.search(r" \([\w ]*assumed\)", one.description)
    description = cron.in_words(config["cron"]) + (assumed[0] if assumed else "")
    if isinstance(one, Schedule):
        return replace(one, config=config, description=description)
    return one.changed(config=config, description=description)


def config_without(config: dict[str, Any], days: frozenset[int]) -> dict[str, Any]:
    """The configuration of a trigger without these days of the week.

    >>> config_without({"cron": "0 9 * * *"}, frozenset({0, 6}))
    {'cron': '0 9 * * 1-5'}
    """
    fields = str(config.get("cron", "")).split()
    rest = weekdays_of(config) - days
    if len(fields) != 5 or fields[2] != "*" or not rest or rest == weekdays_of(config):
        return config  # a day of the month or one of the week: cron knows no “and not”
    return {**config, "cron": " ".join((*fields[:4], as_field(rest)))}


def weekdays_of(config: dict[str, Any]) -> frozenset[int]:
    """The days of the week on which a schedule fires; all of them for what is no schedule."""
    return cron.parse(config["cron"]).weekdays if config.get("cron") else _EVERY_DAY
