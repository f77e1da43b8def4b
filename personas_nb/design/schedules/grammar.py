"""From a text to its triggers."""

from __future__ import annotations

import re

from personas_nb.design.schedules.phrases import phrases_of
from personas_nb.design.schedules.pieces import hide
from personas_nb.design.schedules.plans import schedules_of
from personas_nb.design.schedules.scanning import scanned
from personas_nb.design.schedules.schedule import Schedule
from personas_nb.design.schedules.signals import find_signals

# A file or an address says nothing about when: “weekly.md”, “https://example.com/daily”.
_PLACES = re.compile(
    r"https?://\S+|(?<!\S)[“\"'(]?[\w./*-]{1,200}\.[a-z]{2,5}(?=[\s,.;:!?)”\"']|$)", re.IGNORECASE
)


def find_schedules(text: str, timezone: str | None = None) -> list[Schedule]:
    """Every trigger that ``text`` asks for, in the order of the text; none if it names no time.

    ``timezone`` is the zone of schedules whose text names none.

    >>> [found.config for found in find_schedules("Read my mail on weekdays at 9am", "Europe/Berlin")]
    [{'cron': '0 9 * * 1-5', 'timezone': 'Europe/Berlin'}]
    >>> [found.config for found in find_schedules("Look at the queue every 45 minutes")]
    [{'interval_seconds': 2700}]
    """
    hidden, found = find_signals(text)
    for match in _PLACES.finditer(hidden):
        hidden = hide(hidden, *match.span())
    phrases = phrases_of(hidden, scanned(hidden))
    if any(not phrase.casual for phrase in phrases):  # “send the weekly report every Friday” is one schedule
        phrases = [phrase for phrase in phrases if not phrase.casual]
    for phrase in phrases:
        found += schedules_of(phrase, text, timezone)
    unique: list[Schedule] = []
    for schedule in sorted(found, key=lambda schedule: schedule.span):
        if all((schedule.trigger_type, schedule.config) != (one.trigger_type, one.config) for one in unique):
            unique.append(schedule)
    return unique
