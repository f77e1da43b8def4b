"""Days of the week: “on weekdays”, “Mon, Wed and Fri”, “every day except Sunday”."""

from __future__ import annotations

import re

from personas_nb.design.schedules.pieces import Piece, Scanners
from personas_nb.design.schedules.times import TIME_NEXT
from personas_nb.design.schedules.words import (
    DAY,
    DAY_LIST,
    PART,
    SEP,
    TO,
    WORKDAY,
    weekday_of,
    weekdays_in,
    words_only,
)

_PARTS_NEXT = re.compile(r"\s+(?:mornings|afternoons|evenings|nights)\b", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b(?:except|excluding|other than|apart from|but not|not on|never on)(?:\s+for)?\s+$", re.IGNORECASE
)


def _named_days(match: re.Match[str]) -> Piece | None:
    words = re.findall(DAY, match["days"], re.IGNORECASE | re.ASCII)
    plural = any(word.lower().endswith("days") for word in words) or bool(
        _PARTS_NEXT.match(match.string, match.end())
    )
    whole = any(word.lower().endswith(("day", "days")) for word in words)
    lead = " ".join((match["lead"] or "").lower().split())
    refused = _REFUSED.search(
        match.string[: match.start()]
    )  # “except Friday” is read here and taken away later
    certain = refused or len(words) > 1 or plural or (lead and whole) or lead in ("every", "each")
    if not certain and not TIME_NEXT.match(match.string, match.end()):
        return None  # “Monday at 9” and “Mon 9am” are read; “the Monday report”, “he sat” are not
    repeated = plural or lead in ("every", "each") or len(words) > 1
    return Piece("days", days=weekdays_in(match["days"]), once="" if repeated else match[0].strip())


def _day_range(match: re.Match[str]) -> Piece:
    first, last = weekday_of(match["first"]), weekday_of(match["last"])
    return Piece("days", days=tuple(sorted({(first + step) % 7 for step in range((last - first) % 7 + 1)})))


def _alternate_days(match: re.Match[str]) -> Piece:
    asked = " ".join(match[0].split())
    number = re.search(r"\b(?:third|3rd|three|3|fourth|4th|four|4)\b", asked.lower())
    weeks = 2 if number is None else 3 if number[0][0] in "t3" else 4
    return Piece(
        "days",
        days=weekdays_in(match[0]),
        asked=asked,
        instead=f"every {weeks} weeks",
        note=f"One cron cannot say “{asked}”; this runs every week.",
    )


def _all_days_but(match: re.Match[str]) -> Piece:
    left_out = (0, 6) if "weekend" in match["days"].lower() else weekdays_in(match["days"])
    base = (1, 2, 3, 4, 5) if re.search(WORKDAY, match["base"], re.IGNORECASE) else tuple(range(7))
    return Piece("days", days=tuple(day for day in base if day not in left_out))


def _only(match: re.Match[str]) -> Piece:
    words = match["days"].lower()
    days = (
        (0, 6) if "weekend" in words else (1, 2, 3, 4, 5) if re.search(WORKDAY, words) else weekdays_in(words)
    )
    return Piece("days", days=days, only=True)


SCANNERS: Scanners = [
    (
        words_only(
            rf"(?:not|never) (?:on )?(?P<base>)(?P<days>{DAY_LIST}),? but (?:on )?(?:every|any|all the) other days?"
            r"(?: of the week)?"
        ),
        _all_days_but,
    ),
    (words_only(rf"(?:on )?(?P<days>{WORKDAY}s?|weekends?|{DAY_LIST}) only"), _only),
    (
        words_only(
            rf"(?P<base>every day|each day|daily|all days|(?:every|each|on) {WORKDAY}s?|{WORKDAY}s),? "
            r"(?:except|but|other than|excluding|apart from)(?: for)?(?: on)? "
            rf"(?P<days>weekends|the weekend|{DAY_LIST})"
        ),
        _all_days_but,
    ),
    (
        words_only(
            rf"(?:on )?(?:every|each) (?:other|alternate|second|2nd|third|3rd|fourth|4th) {DAY_LIST}"
            r"|(?:every (?:two|2|other|second|three|3|four|4) weeks?|every fortnight|fortnightly|bi-?weekly)"
            rf",? on {DAY_LIST}"
        ),
        _alternate_days,
    ),
    (words_only(rf"(?:(?:every|each|on|from) )?(?P<first>{DAY})(?!{SEP}){TO}(?P<last>{DAY})"), _day_range),
    (
        words_only(
            rf"(?:on|every|each) {WORKDAY}s?|(?:on |all )?{WORKDAY}s|{WORKDAY}(?= {PART})|during the week(?=\s+at\b)"
        ),
        lambda _: Piece("days", days=(1, 2, 3, 4, 5)),
    ),
    (
        words_only(r"(?:on |every |each )?week(?:-| )?nights?"),
        lambda _: Piece("days", days=(1, 2, 3, 4, 5), part="night"),
    ),
    (
        words_only(
            rf"(?:on|every|each) weekends?(?: days?)?|(?:(?:on|at) )?weekends|(?:on|at) the weekend|weekend(?= {PART})"
        ),
        lambda _: Piece("days", days=(0, 6)),
    ),
    (words_only(rf"(?:(?P<lead>every|each|only on|on) )?(?P<days>{DAY_LIST})"), _named_days),
]
