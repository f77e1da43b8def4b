"""What looks like a time to run and was not understood, so that a person is told instead of left to find out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from personas_nb.design.schedules.schedule import Schedule
from personas_nb.design.schedules.times import EXACT
from personas_nb.design.schedules.words import DAY, PART, UNIT, words_only

_PACE = words_only(
    rf"(?<!of.)(?<!for.)(?:every|each) (?:[\w-]+ )?(?:{UNIT}|{DAY}s?|{PART})"
    r"|(?:täglich|stündlich|wöchentlich|monatlich|jede[nrsm]? \w+|werktags|wochentags|am ersten)"
    r"(?: um [0-9:.]+(?: uhr)?)?"
    r"|(?:mon|diens|donners|frei|sams|sonn)tags?|mittwochs?|chaque \w+|cada \w+|tous les \w+|todos los \w+"
)
_TIME = words_only(rf"(?:at |@ ?|um )?{EXACT}")
_ASSUMED = re.compile(r"\([\w ]*\btime assumed\)")


def unread_time(task: str, schedules: Sequence[Schedule]) -> str:
    """The words of a task, its schedules taken out, that look like a time to run at; empty where there are none.

    A time of day beside a schedule that has one is something else (“list what starts after 14:00”).

    >>> unread_time("Read a.csv on school days at 7:45", []), unread_time("täglich um 7 Uhr lies a.csv", [])
    ('at 7:45', 'täglich um 7 Uhr')
    """
    pace = None if schedules else _PACE.search(task)
    has_time = any(not _ASSUMED.search(one.description) for one in schedules)
    found = pace or (None if has_time else _TIME.search(task))
    return " ".join(found[0].split()) if found else ""
