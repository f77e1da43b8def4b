"""Words of time as they are often misspelt: “evry”, “mornig”, “wensday”.

A word with one inner letter missing, or two inner letters in the wrong order, is read as the word that was meant,
unless it is a word of its own (“ever”, “moth”).
"""

from __future__ import annotations

import re
from functools import lru_cache

from personas_nb.design.schedules.words import WEEKDAYS

_WORDS = (
    *(
        "every",
        "daily",
        "weekly",
        "monthly",
        "hourly",
        "quarterly",
        "weekday",
        "weekdays",
        "weekend",
        "weekends",
    ),
    *("morning", "mornings", "afternoon", "evening", "midnight", "minute", "minutes", "month", "quarter"),
    *WEEKDAYS,
    *(f"{day}s" for day in WEEKDAYS),
)
_OTHERS = {"wensday": "wednesday", "wendsday": "wednesday", "saterday": "saturday", "everday": "every day"}
_REAL = frozenset(["daly", "eery", "ever", "hurly", "minuet", "minuets", "moth"])
# Not a part of a file's name, an address or a longer word.
_WORD = re.compile(r"(?<![\w./@-])[A-Za-z]{4,10}(?![\w/@-]|\.\w)")


def respelled(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The text with misspelt words of time put right, and each pair of what stood there and what was read.

    >>> respelled("Evry wensday mornig, read evry.csv")
    ('Every wednesday morning, read evry.csv', (('Evry', 'Every'), ('wensday', 'wednesday'), ('mornig', 'morning')))
    """
    found: list[tuple[str, str]] = []

    def put_right(match: re.Match[str]) -> str:
        right = _slips().get(match[0].lower())
        if right is None:
            return match[0]
        right = right.capitalize() if match[0][0].isupper() else right
        found.append((match[0], right))
        return right

    return _WORD.sub(put_right, text), tuple(dict.fromkeys(found))


@lru_cache(maxsize=1)
def _slips() -> dict[str, str]:
    slips = dict(_OTHERS)
    for word in _WORDS:
        inner = range(1, len(word) - 1)
        missing = (word[:at] + word[at + 1 :] for at in inner)
        swapped = (word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in inner)
        slips.update(dict.fromkeys((*missing, *swapped), word))
    return {slip: word for slip, word in slips.items() if slip not in _REAL and slip not in _WORDS}
