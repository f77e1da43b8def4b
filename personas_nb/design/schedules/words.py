"""The words of time: numbers, units, days, months and ordinals, as patterns and as values."""

from __future__ import annotations

import re

_COUNTED = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
NUMBERS = {
    **dict.fromkeys(("a", "an", "one", "single"), 1),
    **{word: number for number, word in enumerate(_COUNTED.split(), 2)},
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "forty-five": 45,
    "sixty": 60,
    "ninety": 90,
    "half an": 0.5,
    "half": 0.5,
    "quarter of an": 0.25,
    "quarter": 0.25,
    "couple of": 2,
    "other": 2,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
}
UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
SHORT = ("second", "minute", "hour")
UNIT_MONTHS = {"month": 1, "quarter": 3, "year": 12}
QUARTERS = (1, 4, 7, 10)
SHORT_UNITS = {
    "sec": "second",
    "min": "minute",
    "hr": "hour",
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
}


WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
ORDINALS = {
    word: number
    for number, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
} | {"twelfth": 12, "fifteenth": 15, "twentieth": 20}


LETTER = r"\w\u00c0-\u02ff\u0370-\u1fff"
NUMBER = r"(?:[0-9]{1,4}(?:\.5)?|" + "|".join(sorted(NUMBERS, key=len, reverse=True)) + ")"
UNIT = r"(?:seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|quarters?|years?)"
DAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|mon|tues?|wed|thurs?|thu|fri|sat|sun)"
PART = r"(?:mornings?|afternoons?|evenings?|nights?)"
MONTH = r"(?:" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in MONTHS) + ")"
ORDINAL = r"(?:[0-3]?[0-9](?:st|nd|rd|th)|" + "|".join(ORDINALS) + ")"
SEP = r"(?:\s*,\s*(?:and\s+|or\s+)?|\s+and\s+|\s*&\s*|\s+or\s+)"
WORKDAY = r"(?:weekday|workday|work day|working day|business day)"
DAY_LIST = rf"{DAY}(?:(?:{SEP}|\s*/\s*)(?:every |each |on )?{DAY}){{0,9}}"
MONTH_LIST = rf"{MONTH}(?:{SEP}(?:every )?{MONTH}){{0,12}}"
ORDINAL_LIST = rf"{ORDINAL}(?:{SEP}(?:on )?(?:the )?{ORDINAL}){{0,12}}"
TO = r"(?:\s*[-–]\s*|\s+(?:to|and|until|till|through|thru)\s+)"


def words_only(pattern: str) -> re.Pattern[str]:
    """Whole words only, in any case of ASCII letters; a space may be any run of white space."""
    return re.compile(
        rf"(?<![{LETTER}/-])(?:{pattern})(?![{LETTER}])".replace(" ", r"\s+"), re.IGNORECASE | re.ASCII
    )


def amount_of(word: str | None) -> float:
    """The number that a word or figure stands for; 1 for none."""
    if not word:
        return 1
    word = " ".join(word.lower().split())
    return NUMBERS[word] if word in NUMBERS else float(word)


def unit_of(word: str) -> str:
    """A unit of time in full and in the singular.

    >>> unit_of("hrs"), unit_of("Days")
    ('hour', 'day')
    """
    word = word.lower()
    word = word if word in SHORT_UNITS else word.removesuffix("s")
    return SHORT_UNITS.get(word, word)


def weekdays_in(text: str) -> tuple[int, ...]:
    """The days of the week that a text names; Sunday is 0."""
    return tuple(
        sorted({weekday_of(word) for word in re.findall(rf"\b{DAY}\b", text, re.IGNORECASE | re.ASCII)})
    )


def weekday_of(word: str) -> int:
    """The number of a weekday; Sunday is 0."""
    return next(index for index, name in enumerate(WEEKDAYS) if name.startswith(word.lower()[:3]))


def month_of(word: str) -> int:
    """The number of a month; January is 1."""
    return next(index for index, name in enumerate(MONTHS, 1) if name.startswith(word.lower()[:3]))


def ordinals_in(text: str) -> tuple[int, ...]:
    """The days of a month that a text names.

    >>> ordinals_in("the 1st and the fifteenth")
    (1, 15)
    """
    found = re.findall(r"[0-9]{1,2}|[a-z]+", text.lower())
    days = [int(word) if word.isdigit() else ORDINALS.get(word, 0) for word in found]
    return tuple(sorted({day for day in days if 1 <= day <= 31}))
