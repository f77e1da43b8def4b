"""Days of the month and of the year: “on the 1st”, “the last Friday of the month”, “every 24 December”."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from personas_nb.design.schedules.pieces import Piece, Scanners
from personas_nb.design.schedules.words import (
    DAY,
    MONTH,
    MONTH_LIST,
    ORDINAL,
    ORDINAL_LIST,
    ORDINALS,
    QUARTERS,
    SEP,
    WEEKDAYS,
    WORKDAY,
    month_of,
    ordinals_in,
    weekday_of,
    words_only,
)

_LAST = -1
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EVERY_MONTH = r"(?:of|in) (?:the|each|every|a) month"
_DATE = r"[0-3]?[0-9](?:st|nd|rd|th)?"
_DATE_LIST = rf"{_DATE}(?:{SEP}(?:the )?{_DATE}(?![0-9:]))" r"{0,6}"
_PLACE = rf"{ORDINAL}|last"


def _nth_weekday(match: re.Match[str]) -> Piece:
    """The first Monday and every nth Sunday are exact: two day fields must both fit when one begins with ``*``."""
    word, asked = match["day"].lower(), " ".join(match[0].split())
    places = [
        _LAST if place == "last" else _place(place) for place in re.findall(_PLACE, match["nth"].lower())
    ]
    months = _months_of(match)
    if not word.startswith(tuple(name[:3] for name in WEEKDAYS)):
        return _nth_workday(places, months, asked)
    day = weekday_of(word)
    name = WEEKDAYS[day].capitalize()
    if day == 0 and _LAST not in places:
        return Piece("dates", months=months, fields=tuple((_week(place), "*/7") for place in places))
    if places == [1]:
        return Piece("dates", months=months, fields=(("*/31,2-7", str(day)),))
    return Piece(
        "days" if not months else "dates",
        days=(day,) if not months else (),
        months=months,
        fields=(("*", str(day)),) if months else (),
        asked=asked,
        instead=f"on the first {name} of every {'quarter' if 'quarter' in asked.lower() else 'month'}",
        note=f"One cron cannot say “{asked}”; this runs every week.",
    )


def _nth_workday(places: list[int], months: tuple[int, ...], asked: str) -> Piece:
    if places == [1]:  # a Monday among the first three days, or the 1st when it is a later weekday
        return Piece("dates", months=months, fields=(("*/31,2-3", "1"), ("*/31", "2-5")))
    day = 28 if places == [_LAST] else places[0]
    return Piece(
        "dates",
        days=(day,),
        months=months,
        asked=asked,
        instead="on the first working day of every month",
        note=f"One cron cannot say “{asked}”; this runs on day {day}, whatever day of the week it is.",
    )


def _week(place: int) -> str:
    return f"{7 * place - 6}-{min(7 * place, 31)}"


def _place(word: str) -> int:
    return ORDINALS.get(word) or int(re.sub(r"[a-z]+", "", word))


def _months_of(match: re.Match[str]) -> tuple[int, ...]:
    """The months that are named after it: those of the quarters, some, or none, which is all."""
    said = match[0].lower()
    if "quarter" in said:
        return tuple(month + 2 for month in QUARTERS) if "last" in match["nth"].lower() else QUARTERS
    if "year" in said:
        return (1, 7) if "half" in said else (1,)
    words = re.findall(MONTH, match["of"] or "", re.IGNORECASE | re.ASCII)
    return tuple(sorted({month_of(word) for word in words}))


def _month_end(match: re.Match[str]) -> Piece:
    asked = " ".join(match[0].split())
    return Piece(
        "dates",
        days=(28,),
        asked=asked,
        instead="on the 1st of every month",
        note=f"One cron cannot say “{asked}”; this runs on day 28, which every month has.",
        weak="weak" in match.groupdict(),
    )


def _quarter_end(match: re.Match[str]) -> Piece:
    asked = " ".join(match[0].split())
    return Piece(
        "dates",
        days=(30,),
        months=tuple(month + 2 for month in QUARTERS),
        asked=asked,
        instead="on the 1st of January, April, July and October",
        note=f"One cron cannot say “{asked}”; this runs on day 30 of the quarter's last month.",
    )


def _year_date(match: re.Match[str]) -> Piece | None:
    named = match["month"] or match["months"]
    days = ordinals_in(match["days"] or match["day"])
    months = {month_of(word) for word in re.findall(MONTH, named, re.IGNORECASE | re.ASCII)}
    if not days or any(day > _LONGEST[month - 1] for day in days for month in months):
        return None
    is_repeated = bool(match["every"]) or len(months) > 1  # “on 24 December” may be meant once
    return Piece("dates", days=days, months=tuple(sorted(months)), weak=not is_repeated)


def _unlucky_day(match: re.Match[str]) -> Piece | None:
    days, asked = ordinals_in(match["date"]), " ".join(match[0].split())
    if not days:
        return None
    note = f"One cron cannot say “{asked}”; this runs on day {days[0]}, whatever day of the week it is."
    instead = f"on the {match['date'].lower()} of every month"
    return Piece("dates", days=days[:1], asked=asked, instead=instead, note=note)


def _every_month_named(match: re.Match[str]) -> Piece | None:
    words = re.findall(MONTH, match["months"], re.IGNORECASE | re.ASCII)
    if any(word[0].islower() for word in words):
        return None  # “every may”, “each mar”
    return Piece("dates", months=tuple(sorted({month_of(word) for word in words})))


def _days_of_month(match: re.Match[str]) -> Piece | None:
    days = ordinals_in(match["days"])
    return (
        Piece("dates", days=days, weak="weak" in match.groupdict() and bool(match["weak"])) if days else None
    )


def _months_named(kind: Literal["dates", "not in"]) -> Callable[[re.Match[str]], Piece | None]:
    def read(match: re.Match[str]) -> Piece | None:
        words = re.findall(MONTH, match["months"], re.IGNORECASE | re.ASCII)
        if any(word[0].islower() for word in words):
            return None  # “in may”, “not in mar”
        return Piece(kind, months=tuple(sorted({month_of(word) for word in words})), weak=True)

    return read


_NTH = rf"(?P<nth>(?:{_PLACE})(?:{SEP}(?:the )?(?:{_PLACE})){{0,4}}) (?P<day>{DAY}|{WORKDAY})"
_PACE = r"(?:(?:every|each) (?:month|quarter|half[ -]year|year)|monthly|quarterly|half-yearly|yearly)"

SCANNERS: Scanners = [
    (
        words_only(rf"(?:not|never|except|excluding) (?:in|during) (?P<months>{MONTH_LIST})"),
        _months_named("not in"),
    ),
    (
        words_only(
            rf"(?:on )?(?:the |every |each )?{_NTH} (?:{_EVERY_MONTH}|every month|(?:of|in) (?P<of>{MONTH_LIST})"
            r"|(?:of|in) (?:the|each|every) (?:quarter|half[ -]year|year))"
        ),
        _nth_weekday,
    ),
    (words_only(rf"{_PACE},? on (?:the )?{_NTH}(?P<of>)(?! (?:of|in) )"), _nth_weekday),
    (
        words_only(
            rf"(?:on )?(?:the )?(?P<days>{ORDINAL_LIST})(?: days?)? (?:of|in) (?:the|each|every) quarter"
        ),
        lambda match: Piece("dates", days=ordinals_in(match["days"]), months=QUARTERS),
    ),
    (words_only(rf"(?:on )?(?:every |each )?{DAY},?(?: the)? (?P<date>{ORDINAL})(?! of)"), _unlucky_day),
    (
        words_only(
            rf"(?:(?:on|at) )?(?:the )?(?:very )?(?:(?:(?:second|next)(?: |-)(?:to(?: |-))?)?last|penultimate) day "
            rf"{_EVERY_MONTH}|at (?:the )?end {_EVERY_MONTH}"
            r"|at end of month|(?:at |every )month['’]?s?[ -]end"
        ),
        _month_end,
    ),
    (
        words_only(
            r"(?:(?:on|at) )?(?:the )?(?:last day|end) of (?:the|each|every|a) quarter|(?:at |every )quarter[ -]end"
        ),
        _quarter_end,
    ),
    (
        words_only(r"(?:(?:on|at) )?(?:the )?(?:last day|end) of (?:the|each|every) year"),
        lambda _: Piece("dates", days=(31,), months=(12,)),
    ),
    (
        words_only(rf"(?:(?:on|at) )?(?:the )?(?:start|beginning) {_EVERY_MONTH}"),
        lambda _: Piece("dates", days=(1,)),
    ),
    (
        words_only(rf"(?:on )?(?:the |every )?(?P<days>{ORDINAL_LIST})(?: days?)? {_EVERY_MONTH}"),
        _days_of_month,
    ),
    (
        words_only(
            rf"(?:on )?(?:the )?days? (?P<days>[0-9]{{1,2}}(?:{SEP}[0-9]{{1,2}}){{0,12}}) {_EVERY_MONTH}"
        ),
        _days_of_month,
    ),
    (
        words_only(
            r"(?:(?:on|at) )?(?:the )?(?:first(?: day)?|start|beginning) of (?:the|each|every) (?P<unit>quarter|year)"
        ),
        lambda match: Piece("period", unit=match["unit"].lower()),
    ),
    (
        words_only(
            rf"(?:(?P<every>every|each)(?: year)? )?(?:on )?(?:the )?"
            rf"(?:(?P<month>{MONTH}) (?:the )?(?P<days>{_DATE_LIST})(?![0-9:])"
            rf"|(?P<day>{_DATE}|first) (?:of )?(?P<months>{MONTH_LIST}))(?!,? [0-9]{{4}})"
        ),
        _year_date,
    ),
    (words_only(rf"(?:every|each) (?P<months>{MONTH_LIST})"), _every_month_named),
]


LOOSE_SCANNERS: Scanners = [
    (
        words_only(
            r"(?:(?:on )?(?:every|each|all)|on) (?P<days>odd|even)(?: |-)?(?:numbered )?(?:days?|dates?)"
            rf"(?: {_EVERY_MONTH})?"
        ),
        lambda match: Piece(
            "dates", fields=(("1-31/2" if match["days"].lower() == "odd" else "2-30/2", "*"),)
        ),
    ),
    (words_only(rf"in (?P<months>{MONTH_LIST})"), _months_named("dates")),
    (words_only(r"(?:on )?the first day"), lambda _: Piece("dates", days=(1,), weak=True)),
    (words_only(r"(?:on )?(?P<weak>the last day)"), _month_end),
    (
        words_only(rf"(?:on )?the (?P<nth>last|first|{ORDINAL}) (?P<day>{WORKDAY})(?P<of>)"),
        _nth_weekday,
    ),
    (words_only(rf"(?:on )?(?P<weak>the) (?P<days>{ORDINAL_LIST})"), _days_of_month),
    (words_only(r"(?:on )?every (?P<days>[0-3]?[0-9](?:st|nd|rd|th))"), _days_of_month),
]
