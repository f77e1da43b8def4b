"""The offline schedule grammar: what in a sentence says when a persona should run.

- The text is scanned for *pieces* (a period, days, dates, times, a time zone …), the more particular first;
  what one piece has taken is hidden from the next.
- Neighbouring pieces with only connecting words between them make one *phrase*: “at 9 on weekdays, Berlin
  time”. A piece that a phrase already has, or that contradicts it, opens the next phrase.
- A phrase becomes a cron expression if one can hold it exactly, else a polling interval. What had to be assumed
  is in the description, what one cron cannot say is in the note.

It prefers silence: words that could mean anything else are not read as a schedule.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal
from zoneinfo import available_timezones

from personas_nb.errors import InvalidInput
from personas_nb.triggers.cron import in_words

TriggerType = Literal["schedule", "polling", "webhook", "event"]


@dataclass(frozen=True)
class Schedule:
    """One trigger that a text asks for, and the ``span`` of the text (start, end) that asks for it.

    ``config`` is ``{"cron", "timezone"}`` (without a ``timezone`` if none is known), ``{"interval_seconds"}``,
    ``{}`` for a webhook, or ``{"event_type", "source_filter"}`` (None: any source). ``note`` says what the
    trigger cannot do of what was asked.
    """

    trigger_type: TriggerType
    config: dict[str, Any]
    description: str
    span: tuple[int, int]
    text: str
    note: str = ""


def find_schedules(text: str, timezone: str | None = None) -> list[Schedule]:
    """Every trigger that ``text`` asks for, in the order of the text; none if it names no time.

    ``timezone`` is the zone of schedules whose text names none.

    >>> [found.config for found in find_schedules("Read my mail on weekdays at 9am", "Europe/Berlin")]
    [{'cron': '0 9 * * 1-5', 'timezone': 'Europe/Berlin'}]
    >>> [found.config for found in find_schedules("Look at the queue every 45 minutes")]
    [{'interval_seconds': 2700}]
    """
    hidden, found = _find_signals(text)
    phrases = _phrases(hidden, _pieces(hidden))
    if any(not phrase.casual for phrase in phrases):  # “send the weekly report every Friday” is one schedule
        phrases = [phrase for phrase in phrases if not phrase.casual]
    for phrase in phrases:
        found += _schedules(phrase, text, timezone)
    unique: list[Schedule] = []
    for schedule in sorted(found, key=lambda schedule: schedule.span):
        if all((schedule.trigger_type, schedule.config) != (one.trigger_type, one.config) for one in unique):
            unique.append(schedule)
    return unique


# ── The words ────────────────────────────────────────────────────────────────────────────────────────────────

_NUMBERS = {
    **dict.fromkeys(("a", "an", "one", "single"), 1),
    **{
        word: number
        for number, word in enumerate(
            [
                "two",
                "three",
                "four",
                "five",
                "six",
                "seven",
                "eight",
                "nine",
                "ten",
                "eleven",
                "twelve",
                "thirteen",
                "fourteen",
                "fifteen",
            ],
            2,
        )
    },
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
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_SHORT = ("second", "minute", "hour")
_UNIT_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_SHORT_UNITS = {
    "sec": "second",
    "min": "minute",
    "hr": "hour",
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
}
_ADVERBS: dict[str, tuple[float, str]] = {
    "hourly": (1, "hour"),
    "daily": (1, "day"),
    "everyday": (1, "day"),
    "nightly": (1, "day"),
    "weekly": (1, "week"),
    "fortnightly": (2, "week"),
    "biweekly": (2, "week"),
    "bi-weekly": (2, "week"),
    "monthly": (1, "month"),
    "quarterly": (1, "quarter"),
    "yearly": (1, "year"),
    "annually": (1, "year"),
    "half-hourly": (0.5, "hour"),
    "every fortnight": (2, "week"),
}
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_ORDINALS = {
    word: number
    for number, word in enumerate(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
    )
} | {"twelfth": 12, "fifteenth": 15, "twentieth": 20}
_PARTS = {"morning": 9, "afternoon": 14, "evening": 18, "night": 22}
_ZONE_WORDS = {
    **dict.fromkeys(("utc", "gmt", "zulu"), "UTC"),
    **dict.fromkeys(("et", "est", "edt", "eastern"), "America/New_York"),
    **dict.fromkeys(("ct", "cst", "cdt", "central"), "America/Chicago"),
    **dict.fromkeys(("mst", "mdt", "mountain"), "America/Denver"),
    **dict.fromkeys(("pt", "pst", "pdt", "pacific"), "America/Los_Angeles"),
    "cet": "Europe/Berlin",
    "cest": "Europe/Berlin",
    "bst": "Europe/London",
    "jst": "Asia/Tokyo",
    "german": "Europe/Berlin",
    "uk": "Europe/London",
    "ist": "Asia/Kolkata",
    "aest": "Australia/Sydney",
}
_SERVICES = (
    "GitHub|GitLab|Bitbucket|Stripe|Slack|Jira|Zapier|n8n|Shopify|Twilio|PagerDuty|Sentry|Grafana|Linear"
    "|Notion|Airtable|HubSpot|Typeform|PayPal|Discord|Telegram|Jenkins"
)
_NO_NAMES = frozenset(
    [
        "it",
        "he",
        "she",
        "they",
        "we",
        "i",
        "you",
        "this",
        "that",
        "everything",
        "everyone",
        "someone",
        "work",
        "one",
        "all",
        "he's",
        "what",
        "who",
        "which",
        "nobody",
        "and",
        "or",
        "then",
        "not",
        "each",
        "every",
        "any",
        "the",
        "a",
        "an",
        "my",
        "our",
        "your",
    ]
)

# ── The pieces ───────────────────────────────────────────────────────────────────────────────────────────────

Kind = Literal["period", "times", "hours", "minute", "days", "dates", "part", "zone"]


@dataclass(frozen=True)
class _Time:
    hour: int
    minute: int
    fixed: bool  # am, pm, noon or a 24-hour time: “in the evening” does not move it


@dataclass(frozen=True)
class _Piece:
    """One scanned piece. Which values it has depends on its kind; unset ones say nothing."""

    kind: Kind
    start: int = 0
    end: int = 0
    amount: float = 1  # of the unit, or how often per unit
    unit: str = ""
    per: bool = False  # “twice a day”
    times: tuple[_Time, ...] = ()
    minute: int = 0
    days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    part: str = ""
    zone: str = ""
    casual: bool = False  # “the weekly report”
    weak: bool = False  # says when only beside another piece
    sure: bool = False  # a time nobody takes for a number
    once: str = ""  # “on Friday”: may be meant once
    note: str = ""


_LETTER = r"\w\u00c0-\u02ff\u0370-\u1fff"
_NUMBER = r"(?:[0-9]{1,4}(?:\.5)?|" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + ")"
_UNIT = r"(?:seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|quarters?|years?)"
_DAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)days?|mon|tues?|wed|thurs?|thu|fri|sat|sun)"
_PART = r"(?:mornings?|afternoons?|evenings?|nights?)"
_MONTH = r"(?:" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS) + ")"
_ORDINAL = r"(?:[0-3]?[0-9](?:st|nd|rd|th)|" + "|".join(_ORDINALS) + ")"
_SEP = r"(?:\s*,\s*(?:and\s+|or\s+)?|\s+and\s+|\s*&\s*|\s+or\s+)"
_AFTER_A_NUMBER = (  # “at 9 people”, “at 9 offices”, “at 9%”
    r"(?![\w:%°€$£/])(?![.,][0-9])(?!-[\w])"
    r"(?!\s+(?:people|persons|percent|per\b|degrees?|times|dollars|euros|of\b|million|thousand|or\s+more))"
    r"(?!\s+(?!\w+days?\b|always|across|unless|as\b|this|is\b|utc|hours)[a-z]+s\b)"
)
_EXACT = (
    r"(?:noon|midday|midnight|(?:half\s+past|quarter\s+(?:past|to))\s+(?:[0-9]{1,2}|"
    + "|".join(
        word
        for word, number in _NUMBERS.items()
        if number in range(1, 13) and len(word) > 2 and word != "single"
    )
    + r")|(?:[01]?[0-9]|2[0-4])(?:(?:[:.][0-5][0-9])?\s?(?:am|pm|a\.m\.|p\.m\.)|:[0-5][0-9]|h[0-5][0-9])"
    r"|(?:[01]?[0-9]|2[0-4])\s+o['’]?clock)(?![\w:%])"
)
_BARE = rf"(?:(?:[01]?[0-9]|2[0-4])(?:\.[0-5][0-9])?{_AFTER_A_NUMBER})"
_CLOCK = rf"(?:{_EXACT}|{_BARE})"
_TIME_NEXT = re.compile(rf"\s*,?\s*(?:at|@)?\s*{_CLOCK}", re.IGNORECASE | re.ASCII)


def _words(pattern: str) -> re.Pattern[str]:
    """Whole words only, in any case of ASCII letters; a space may be any run of white space."""
    return re.compile(
        rf"(?<![{_LETTER}/-])(?:{pattern})(?![{_LETTER}])".replace(" ", r"\s+"), re.IGNORECASE | re.ASCII
    )


def _amount(word: str | None) -> float:
    if not word:
        return 1
    word = " ".join(word.lower().split())
    return _NUMBERS[word] if word in _NUMBERS else float(word)


def _unit(word: str) -> str:
    word = word.lower()
    word = word if word in _SHORT_UNITS else word.removesuffix("s")
    return _SHORT_UNITS.get(word, word)


def _weekdays(text: str) -> tuple[int, ...]:
    return tuple(
        sorted({_weekday(word) for word in re.findall(rf"\b{_DAY}\b", text, re.IGNORECASE | re.ASCII)})
    )


def _weekday(word: str) -> int:
    return next(index for index, name in enumerate(_WEEKDAYS) if name.startswith(word.lower()[:3]))


def _month(word: str) -> int:
    return next(index for index, name in enumerate(_MONTHS, 1) if name.startswith(word.lower()[:3]))


def _ordinals(text: str) -> tuple[int, ...]:
    found = re.findall(r"[0-9]{1,2}|[a-z]+", text.lower())
    days = [int(word) if word.isdigit() else _ORDINALS.get(word, 0) for word in found]
    return tuple(sorted({day for day in days if 1 <= day <= 31}))


def _time(text: str) -> _Time:
    words = " ".join(text.lower().split())
    if words in ("noon", "midday"):
        return _Time(12, 0, True)
    if words == "midnight":
        return _Time(0, 0, True)
    spoken = re.match(r"(half|quarter) (past|to) (\S+)", words)
    if spoken:
        hour = int(_amount(spoken[3])) % 24
        if spoken[2] == "to":
            return _Time((hour - 1) % 24, 45, False)
        return _Time(hour, 30 if spoken[1] == "half" else 15, False)
    hour, minute = (int(number) for number in (*re.findall("[0-9]+", words), "0")[:2])
    half = re.search(r"([ap])\.?m", words)
    if half and 1 <= hour <= 12:
        return _Time(hour % 12 + (12 if half[1] == "p" else 0), minute, True)
    return _Time(hour % 24, minute, hour > 12 or words.startswith("0"))


def _times(match: re.Match[str]) -> _Piece | None:
    at, exact = bool(match["at"]), bool(re.search(_EXACT, match[0], re.IGNORECASE | re.ASCII))
    times = tuple(_time(found) for found in re.findall(_CLOCK, match["clocks"], re.IGNORECASE | re.ASCII))
    part = (match["part"] or "").lower()
    if not times or not (at or exact):
        return None
    return _Piece("times", times=times, sure=at and exact, part=part)


def _hours(match: re.Match[str]) -> _Piece | None:
    if match.groupdict().get("office"):
        return _Piece("hours", times=(_Time(9, 0, True), _Time(17, 0, True)), days=(1, 2, 3, 4, 5), weak=True)
    first, last = _time(match["first"]), _time(match["last"])
    if last.hour <= first.hour and last.hour < 12 and not last.fixed:
        last = _Time(last.hour + 12, last.minute, True)  # from 9 to 5
    return _Piece("hours", times=(first, last), weak=True)


def _every(match: re.Match[str]) -> _Piece | None:
    word = (match["amount"] or "").lower()
    unit = _unit(match["unit"])
    plural = match["unit"].lower().endswith("s") and len(match["unit"]) > 1
    if word in ("quarter", "half") and unit != "hour":
        return None
    if plural and not word:
        return None  # “each days” says nothing
    return _Piece("period", amount=_amount(match["amount"]), unit=unit) if _amount(match["amount"]) else None


def _per(match: re.Match[str]) -> _Piece | None:
    often = match["often"].lower().removesuffix("times").removesuffix("x").strip()
    amount = {"once": 1, "twice": 2, "thrice": 3}.get(often) or _amount(often)
    unit = _unit(match["unit"] or "day")
    if amount == 1:
        return _Piece("period", unit=unit)
    return _Piece("period", amount=amount, unit=unit, per=True) if amount == int(amount) and amount else None


def _adverb(match: re.Match[str]) -> _Piece | None:
    word = " ".join(match["adverb"].lower().split())
    if word == "everyday" and not _TIME_NEXT.match(match.string, match.end()):
        return None  # “everyday things”
    if match["other"]:
        return None  # “my daily notes” are there already
    amount, unit = _ADVERBS[word]
    return _Piece(
        "period",
        amount=amount,
        unit=unit,
        part="night" if word == "nightly" else "",
        casual=bool(match["casual"]),
    )


def _named_days(match: re.Match[str]) -> _Piece | None:
    words = re.findall(_DAY, match["days"], re.IGNORECASE | re.ASCII)
    plural = any(word.lower().endswith("days") for word in words)
    whole = any(word.lower().endswith(("day", "days")) for word in words)
    lead = " ".join((match["lead"] or "").lower().split())
    certain = len(words) > 1 or plural or (lead and whole) or lead in ("every", "each")
    if not certain and not _TIME_NEXT.match(match.string, match.end()):
        return None  # “Monday at 9” and “Mon 9am” are read; “the Monday report”, “he sat” are not
    repeated = plural or lead in ("every", "each") or len(words) > 1
    return _Piece("days", days=_weekdays(match["days"]), once="" if repeated else match[0].strip())


def _day_range(match: re.Match[str]) -> _Piece:
    first, last = _weekday(match["first"]), _weekday(match["last"])
    return _Piece("days", days=tuple(sorted({(first + step) % 7 for step in range((last - first) % 7 + 1)})))


def _alternate_days(match: re.Match[str]) -> _Piece:
    return _Piece(
        "days",
        days=_weekdays(match[0]),
        note=f"One cron cannot say “{match[0].strip()}”; this runs every week.",
    )


def _nth_weekday(match: re.Match[str]) -> _Piece:
    word = match["day"].lower()
    note = f"One cron cannot say “{match[0].strip()}”; "
    if not word.startswith(tuple(name[:3] for name in _WEEKDAYS)):  # first business day, last weekday
        day = 28 if match["nth"].lower() == "last" else (_ordinals(match["nth"]) or (1,))[0]
        return _Piece(
            "dates", days=(day,), note=f"{note}this runs on day {day}, whatever day of the week it is."
        )
    return _Piece("days", days=(_weekday(word),), note=f"{note}this runs every week.")


def _month_end(match: re.Match[str]) -> _Piece:
    return _Piece(
        "dates",
        days=(28,),
        note=f"One cron cannot say “{match[0].strip()}”; this runs on day 28, which every month has.",
    )


def _all_days_but(match: re.Match[str]) -> _Piece:
    left_out = (0, 6) if "weekend" in match["days"].lower() else _weekdays(match["days"])
    return _Piece("days", days=tuple(day for day in range(7) if day not in left_out))


def _year_date(match: re.Match[str]) -> _Piece | None:
    day = _ordinals(match["day"] or match["day2"])
    month = _month(match["month"] or match["month2"])
    if not day or day[0] > (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        return None
    return _Piece("dates", days=day[:1], months=(month,), weak=not match["every"])


def _every_month_named(match: re.Match[str]) -> _Piece | None:
    words = re.findall(_MONTH, match["months"], re.IGNORECASE | re.ASCII)
    if any(word[0].islower() for word in words):
        return None  # “every may”, “each mar”
    return _Piece("dates", months=tuple(sorted({_month(word) for word in words})))


def _minute(match: re.Match[str]) -> _Piece | None:
    number = match["colon"] or match["minute"] or match["past"]
    value = int(number) if number else {"half": 30, "quarter": 15}.get((match["spoken"] or "").lower(), 0)
    return _Piece("minute", minute=value, weak=True) if value < 60 else None


def _part(match: re.Match[str]) -> _Piece:
    return _Piece("part", part=match["part"].lower().removesuffix("s"), weak=not match["every"])


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """Cities and full names in lower case, to IANA names."""
    names = sorted(available_timezones())
    cities = {
        name.rpartition("/")[2].replace("_", " ").lower(): name
        for name in names
        if "/" in name and "Etc/" not in name
    }
    return cities | {name.lower(): name for name in names if "/" in name} | _ZONE_WORDS


def _zone(match: re.Match[str]) -> _Piece | None:
    name = _zones().get(" ".join((match["name"] or match["short"] or match["city"]).lower().split()))
    return _Piece("zone", zone=name, weak=True) if name else None


_EVERY_MONTH = r"of (?:the|each|every|a) month"
_WORKDAY = r"(?:weekday|workday|work day|working day|business day)"
_DAY_LIST = rf"{_DAY}(?:(?:{_SEP}|\s*/\s*)(?:every |each |on )?{_DAY}){{0,9}}"
_MONTH_LIST = rf"{_MONTH}(?:{_SEP}(?:every )?{_MONTH}){{0,12}}"
_ORDINAL_LIST = rf"{_ORDINAL}(?:{_SEP}(?:on )?(?:the )?{_ORDINAL}){{0,12}}"
_DATE = r"[0-3]?[0-9](?:st|nd|rd|th)?"
_TO = r"(?:\s*[-–]\s*|\s+(?:to|and|until|till|through|thru)\s+)"


def _days_of_month(match: re.Match[str]) -> _Piece | None:
    days = _ordinals(match["days"])
    return (
        _Piece("dates", days=days, weak="weak" in match.groupdict() and bool(match["weak"])) if days else None
    )


_Reader = Callable[[re.Match[str]], _Piece | None]
_SCANNERS: list[tuple[re.Pattern[str], _Reader]] = [
    # dates: before weekdays and periods, whose words they contain
    (
        _words(
            rf"(?:on )?(?:the |every )?(?P<nth>{_ORDINAL}|last) (?P<day>{_DAY}|{_WORKDAY}) "
            r"(?:(?:of|in) (?:the|each|every|a) month|every month)"
        ),
        _nth_weekday,
    ),
    (
        _words(rf"(?:(?:on|at) )?(?:the )?(?:last day|end) {_EVERY_MONTH}|(?:at |every )month['’]?s?[ -]end"),
        _month_end,
    ),
    (
        _words(rf"(?:(?:on|at) )?(?:the )?(?:start|beginning) {_EVERY_MONTH}"),
        lambda _: _Piece("dates", days=(1,)),
    ),
    (_words(rf"(?:on )?(?:the |every )?(?P<days>{_ORDINAL_LIST})(?: days?)? {_EVERY_MONTH}"), _days_of_month),
    (
        _words(
            rf"(?:on )?(?:the )?days? (?P<days>[0-9]{{1,2}}(?:{_SEP}[0-9]{{1,2}}){{0,12}}) {_EVERY_MONTH}"
        ),
        _days_of_month,
    ),
    (
        _words(
            r"(?:(?:on|at) )?(?:the )?(?:first(?: day)?|start|beginning) of (?:the|each|every) (?P<unit>quarter|year)"
        ),
        lambda match: _Piece("period", unit=match["unit"].lower()),
    ),
    (
        _words(
            rf"(?:(?P<every>every|each)(?: year)? )?(?:on )?(?:the )?"
            rf"(?:(?P<month>{_MONTH}) (?:the )?(?P<day>{_DATE})(?![0-9:])"
            rf"|(?P<day2>{_DATE}|first) (?:of )?(?P<month2>{_MONTH}))(?!,? [0-9]{{4}})"
        ),
        _year_date,
    ),
    (_words(rf"(?:every|each) (?P<months>{_MONTH_LIST})"), _every_month_named),
    # days
    (
        _words(
            r"(?:every day|each day|daily|all days),? (?:except|but|other than|excluding)(?: for)?(?: on)? "
            rf"(?P<days>weekends|the weekend|{_DAY_LIST})"
        ),
        _all_days_but,
    ),
    (
        _words(
            rf"(?:on )?(?:every|each) (?:other|alternate|second|2nd|third|3rd|fourth|4th) {_DAY_LIST}"
            r"|(?:every (?:two|2|other|second|three|3|four|4) weeks?|every fortnight|fortnightly|bi-?weekly)"
            rf",? on {_DAY_LIST}"
        ),
        _alternate_days,
    ),
    (_words(rf"(?:(?:every|each|on|from) )?(?P<first>{_DAY})(?!{_SEP}){_TO}(?P<last>{_DAY})"), _day_range),
    (
        _words(rf"(?:on|every|each) {_WORKDAY}s?|(?:on |all )?{_WORKDAY}s|weekday(?= {_PART})"),
        lambda _: _Piece("days", days=(1, 2, 3, 4, 5)),
    ),
    (
        _words(
            rf"(?:on|every|each) weekends?(?: days?)?|(?:(?:on|at) )?weekends|(?:on|at) the weekend|weekend(?= {_PART})"
        ),
        lambda _: _Piece("days", days=(0, 6)),
    ),
    (_words(rf"(?:(?P<lead>every|each|only on|on) )?(?P<days>{_DAY_LIST})"), _named_days),
    # periods
    (
        _words(
            rf"(?P<often>once|twice|thrice|{_NUMBER} times|[0-9]{{1,2}}x) "
            r"(?:(?:a|an|per|each|every) (?P<unit>minute|hour|day|week|month|quarter|year)|daily)"
        ),
        _per,
    ),
    (
        _words(
            rf"(?<!for.)(?<!not.)(?:(?:once )?(?:every|each)|once in) (?:single )?"
            rf"(?:(?P<amount>{_NUMBER})(?:st|nd|rd|th)?(?: |-))?"
            rf"(?P<unit>{_UNIT})(?!-)(?! of (?!the\b|every\b|each\b))"
        ),
        _every,
    ),
    (_words(r"(?<!for.)(?:once )?every (?P<amount>[0-9]{1,4})(?P<unit>s|m|h|d|secs?|mins?|hrs?)"), _every),
    (
        _words(
            r"(?:(?P<casual>a|an|the) |(?P<other>my|our|your|their|this|that|its|his|her|last|latest|next) )?"
            r"(?P<adverb>half-hourly|hourly|daily"
            r"|everyday|nightly|bi-?weekly|fortnightly|every fortnight|weekly|monthly|quarterly|yearly|annually)(?!-)"
        ),
        _adverb,
    ),
    # times of day
    (_words(rf"(?:between|from|during) (?P<first>{_CLOCK}){_TO}(?P<last>{_CLOCK})"), _hours),
    (_words(rf"(?P<first>{_EXACT})(?!{_SEP}){_TO}(?P<last>{_EXACT})"), _hours),
    (
        _words(
            r"(?:during|in|within) (?:our |my |normal |regular )?(?P<office>(?:business|working|office|work) hours)"
        ),
        _hours,
    ),
    (
        _words(
            r"(?:at )?(?:(?<![0-9]):(?P<colon>[0-5][0-9])(?![0-9:])|minute (?P<minute>[0-9]{1,2})"
            r"|(?P<past>[0-9]{1,2})(?: minutes?)? past(?: (?:the|each|every))? hour"
            r"|(?P<spoken>half|quarter) past (?:the|each|every) hour)|on the (?:hour|(?P<half>half)[ -]hour)"
        ),
        _minute,
    ),
    (
        _words(
            rf"(?:(?P<at>at|@|around|about)\s*(?:(?:about|around|exactly) )?)?"
            rf"(?P<clocks>{_CLOCK}(?:{_SEP}{_CLOCK}){{0,23}})"
            r"(?:,? (?:in the|at) (?P<part>morning|afternoon|evening|night))?"
        ),
        _times,
    ),
    (_words(rf"(?P<every>(?:every|each) )?(?:in the |at )?(?P<part>{_PART})"), _part),
    (
        _words(
            r"(?:in )?(?:(?P<name>[a-z]+/[a-z_]+(?:/[a-z_]+)?)"
            r"|(?P<short>utc|gmt|cet|cest|est|edt|pst|pdt|bst|jst|ist|cst|cdt|mst|mdt|aest|et|pt)"
            r"|(?P<city>[a-z]+(?: [a-z]+)?) time)"
        ),
        _zone,
    ),
    (_words(rf"(?:on )?(?P<weak>the) (?P<days>{_ORDINAL_LIST})"), _days_of_month),
    (_words(r"(?:on )?every (?P<days>[0-3]?[0-9](?:st|nd|rd|th))"), _days_of_month),
]


def _pieces(hidden: str) -> list[_Piece]:
    """Every piece in the text, in its order; no two overlap."""
    found: list[_Piece] = []
    for pattern, read in _SCANNERS:
        for match in list(pattern.finditer(hidden)):
            piece = read(match)
            if piece:
                found.append(replace(piece, start=match.start(), end=match.end()))
                hidden = _hide(hidden, match.start(), match.end())
    return sorted(found, key=lambda piece: piece.start)


def _hide(text: str, start: int, end: int) -> str:
    return text[:start] + "\0" * (end - start) + text[end:]


# ── Phrases: pieces that belong together ─────────────────────────────────────────────────────────────────────

_CONNECTING = re.compile(
    r"[\s,()–-]*(?:(?:and|on|at|but|only|also|plus|then|the|in|starting|always|again|each|every|&|once)(?![\w])[\s,()]*)*",
    re.IGNORECASE,
)
_ALSO = re.compile(r"\b(?:and|also|plus|then|but)\b|&|,", re.IGNORECASE)


@dataclass
class _Phrase:
    pieces: list[_Piece] = field(default_factory=list)
    note: str = ""

    def one(self, kind: Kind) -> _Piece | None:
        return next((piece for piece in self.pieces if piece.kind == kind), None)

    def all(self, kind: Kind) -> list[_Piece]:
        return [piece for piece in self.pieces if piece.kind == kind]

    @property
    def period(self) -> _Piece | None:
        """The shorter one of “each day, every 10 minutes”."""
        periods = self.all("period")
        return next((piece for piece in periods if piece.unit in _SHORT), periods[0] if periods else None)

    @property
    def within_a_day(self) -> bool:
        period = self.period
        return bool(period and period.unit in _SHORT)

    @property
    def says_when(self) -> bool:
        return any(
            piece.kind in ("period", "days", "dates", "part") and not piece.weak for piece in self.pieces
        )

    @property
    def casual(self) -> bool:
        return len(self.pieces) == 1 and self.pieces[0].casual

    def takes(self, piece: _Piece, gap: str, following: list[_Piece]) -> bool:
        """Whether the piece belongs to this phrase. ``following`` are the neighbours after it."""
        kinds = [one.kind for one in self.pieces]
        after = [one.kind for one in following]
        opens = piece.kind in ("days", "dates", "period")
        if piece.kind == "times":
            if self.within_a_day:
                return False
            if (
                "times" in kinds
            ):  # “at 9 on Mondays and at 17 on Fridays”, but “at 9 and at 17, on Fridays at 10”
                return not (after[:1] and after[0] in ("days", "dates", "period") and after[1:2] != ["times"])
            return True
        if (
            opens
            and "times" in kinds
            and kinds[0] != "times"
            and (after[:1] == ["times"] or _ALSO.search(gap))
        ):
            return False  # “daily at 9 and on Fridays at 17”
        if opens and "times" in kinds and kinds[0] == "times" and len(kinds) > 1 and after[:1] == ["times"]:
            return False
        if piece.kind == "days":
            period = self.period
            return "dates" not in kinds and (
                period is None or period.unit not in ("month", "quarter", "year")
            )
        if piece.kind == "dates":
            period = self.period
            return "days" not in kinds and (period is None or period.unit in ("month", "quarter", "year"))
        if piece.kind == "period":
            other, long = self.period, piece.unit in _UNIT_MONTHS
            if other and (other.unit in _SHORT) != (piece.unit in _SHORT):
                day = piece if other.unit in _SHORT else other
                return "times" not in kinds and (day.unit, day.amount, day.per) == ("day", 1, False)
            return other is None and not (long and "days" in kinds) and ("dates" not in kinds or long)
        return piece.kind not in kinds


def _phrases(hidden: str, pieces: list[_Piece]) -> list[_Phrase]:
    phrases: list[_Phrase] = []
    for index, piece in enumerate(pieces):
        gap = hidden[pieces[index - 1].end : piece.start] if index else None
        near = gap is not None and _CONNECTING.fullmatch(gap)
        following: list[_Piece] = []
        for before, after in pairwise(pieces[index : index + 3]):  # two neighbours ahead are enough
            if not _CONNECTING.fullmatch(hidden[before.end : after.start]):
                break
            following.append(after)
        if phrases and near and phrases[-1].takes(piece, gap or "", following):
            phrases[-1].pieces.append(piece)
        else:
            phrases.append(_Phrase([piece]))
    _lend_times(hidden, phrases)
    return [phrase for phrase in phrases if phrase.says_when]


def _lend_times(hidden: str, phrases: list[_Phrase]) -> None:
    """“Every weekday, send me the news at 7am”: a clear time elsewhere in the sentence, if it can only mean this."""
    ends = [match.end() for match in re.finditer(r"[.!?]\s|\n|;", hidden)]
    sentences: dict[int, list[_Phrase]] = {}
    for phrase in phrases:
        sentences.setdefault(bisect(ends, phrase.pieces[0].start), []).append(phrase)
    for sentence in sentences.values():
        waiting = [phrase for phrase in sentence if phrase.says_when]
        lonely = [phrase for phrase in sentence if not phrase.says_when and phrase.one("times")]
        if len(waiting) != 1 or len(lonely) != 1 or waiting[0].one("times") or waiting[0].within_a_day:
            continue
        if lonely[0].pieces[0].sure:
            waiting[0].note = "The time was taken from elsewhere in the sentence."
            waiting[0].pieces += [replace(piece, start=-1) for piece in lonely[0].pieces]


# ── Triggers ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Plan:
    """The five fields as far as they are known, and what was assumed or cannot be said."""

    minute: str = ""
    hour: str = ""
    days: str = "*"
    months: str = "*"
    weekdays: str = "*"
    interval_seconds: int = 0
    assumed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


_UNREAD_TIME = re.compile(
    r"\s*,?\s*(?:at|@)\s*(?:[0-9]{1,2}[:.h][0-9]{2}|2[5-9]|[3-9][0-9])\b", re.IGNORECASE
)


def _schedules(phrase: _Phrase, text: str, timezone: str | None) -> Iterator[Schedule]:
    placed = [piece for piece in phrase.pieces if piece.start >= 0]
    span = (placed[0].start, placed[-1].end)
    plan = _Plan(notes=[phrase.note, *(piece.note for piece in phrase.pieces)])
    if not phrase.period:
        plan.notes += [f"“{piece.once}” was read as every week." for piece in phrase.pieces if piece.once]
    _set_period(phrase, plan)
    _set_days(phrase, plan)
    clock = (
        [] if plan.interval_seconds else [(plan.minute, plan.hour)] if plan.minute else _clock(phrase, plan)
    )
    unread = None if phrase.one("times") else _UNREAD_TIME.match(text, span[1])
    if unread:
        plan.notes.append(f"“{unread[0].strip()}” is no time of day.")
    note = " ".join(dict.fromkeys(filter(None, plan.notes)))
    if plan.interval_seconds:
        if phrase.one("times") or phrase.one("hours") or phrase.one("days"):
            note = f"{note} A period that no cron can hold keeps to no day or time.".strip()
        words = _interval_in_words(plan.interval_seconds)
        config: dict[str, Any] = {"interval_seconds": plan.interval_seconds}
        yield Schedule("polling", config, words, span, text[slice(*span)], note)
        return
    zone = phrase.one("zone")
    named = zone.zone if zone else None
    for minute, hour in clock:
        cron = f"{minute} {hour} {plan.days} {plan.months} {plan.weekdays}"
        try:
            words = in_words(cron, named)
        except InvalidInput:  # “every February on the 31st”
            continue
        known = named or timezone
        config = {"cron": cron, "timezone": known} if known else {"cron": cron}
        assumed = f" ({' and '.join(plan.assumed)} assumed)" if plan.assumed else ""
        yield Schedule("schedule", config, words + assumed, span, text[slice(*span)], note)


def _set_period(phrase: _Phrase, plan: _Plan) -> None:
    period = phrase.period
    if period is None:
        return
    if period.unit in _UNIT_MONTHS:
        months = (
            _UNIT_MONTHS[period.unit] / period.amount
            if period.per
            else _UNIT_MONTHS[period.unit] * period.amount
        )
        if period.per and months < 1:
            plan.days = {2: "1,15", 3: "1,11,21", 4: "1,8,15,22"}.get(int(period.amount), "1")
            plan.assumed.append("days")
        elif months >= 1 and months == int(months) and 12 % months == 0:
            plan.months = {1: "*", 12: "1"}.get(int(months), f"*/{int(months)}")
        else:
            plan.interval_seconds = int(months * 30 * _UNIT_SECONDS["day"])
            plan.notes.append("No cron can hold this period; a month is counted as 30 days.")
        return
    seconds = _UNIT_SECONDS[period.unit] * period.amount
    if period.per:
        seconds = _UNIT_SECONDS[period.unit] / period.amount
        if period.unit == "week":
            _set_times_a_week(int(period.amount), phrase, plan)
            return
        if period.unit == "day" and (phrase.one("times") or period.amount in (2, 3)):
            return
    elif seconds in (_UNIT_SECONDS["day"], _UNIT_SECONDS["week"]):
        if seconds > _UNIT_SECONDS["day"] and not phrase.one("days"):
            plan.weekdays = "1"
            plan.assumed.append("day")
        return
    _set_pace(max(1, round(seconds)), phrase, plan)


def _set_times_a_week(amount: int, phrase: _Phrase, plan: _Plan) -> None:
    if not phrase.one("days"):
        plan.weekdays = {2: "1,4", 3: "1,3,5", 4: "1,2,4,5", 5: "1-5", 6: "1-6", 7: "*"}.get(amount, "1")
        plan.assumed.append("days")


def _set_pace(seconds: int, phrase: _Phrase, plan: _Plan) -> None:
    """A period within the day: a cron if it divides the hour or the day, else a poll."""
    minutes, hours = seconds // 60, seconds // 3600
    at, within = phrase.one("minute"), phrase.one("hours")
    if seconds % 60 == 0 and minutes < 60 and 60 % minutes == 0:
        plan.minute, plan.hour = "*" if minutes == 1 else f"*/{minutes}", "*"
        if within:
            plan.hour = _hour_range(
                within.times[0].hour, within.times[1].hour - (within.times[1].minute == 0)
            )
    elif seconds % 3600 == 0 and 24 % hours == 0 and hours < 24:
        plan.minute, plan.hour = str(at.minute if at else 0), "*" if hours == 1 else f"*/{hours}"
        if within:
            first, last = within.times
            plan.minute = str(at.minute if at else first.minute)
            plan.hour = _hour_range(first.hour, last.hour, hours)
    elif seconds == _UNIT_SECONDS["day"]:
        return
    else:
        plan.interval_seconds = seconds


def _hour_range(first: int, last: int, step: int = 1) -> str:
    last %= 24
    hours = [(first + hour) % 24 for hour in range(0, (last - first) % 24 + 1, step)]
    if step == 1 and first < last:
        return f"{first}-{last}"
    return ",".join(str(hour) for hour in sorted(hours))


def _set_days(phrase: _Phrase, plan: _Plan) -> None:
    days = {day for piece in phrase.all("days") for day in piece.days}
    within = phrase.one("hours")
    if within and within.days and not days and plan.minute:
        days = set(within.days)
        plan.assumed.append("9 to 17 on weekdays")
    if days and len(days) < 7:
        run = len(days) > 2 and days == set(range(min(days), max(days) + 1))
        plan.weekdays = f"{min(days)}-{max(days)}" if run else ",".join(str(day) for day in sorted(days))
    dates = phrase.all("dates")
    period = phrase.period
    if dates:
        plan.days = ",".join(
            str(day) for day in sorted({day for piece in dates for day in piece.days} or {1})
        )
        months = sorted({month for piece in dates for month in piece.months})
        plan.months = ",".join(str(month) for month in months) or plan.months
        if plan.months == "*" and max(map(int, plan.days.split(","))) > 28:
            plan.notes.append("Months without that day are left out.")
    elif period and period.unit in _UNIT_MONTHS and plan.days == "*":
        plan.days = "1"
        plan.assumed.append("day")


def _clock(phrase: _Phrase, plan: _Plan) -> list[tuple[str, str]]:
    """(minute, hour) fields; more than one pair where a single cron would also fire in between."""
    part = next((piece.part for piece in phrase.pieces if piece.part), "")
    times = [_moved(time, piece.part or part) for piece in phrase.all("times") for time in piece.times]
    within, period = phrase.one("hours"), phrase.period
    if not times and within:
        times = [within.times[0]]
    if not times:
        plan.assumed.append("time")
        hours = {2: (9, 17), 3: (9, 13, 17)}.get(int(period.amount), (9,)) if period and period.per else (9,)
        if period and period.per and period.unit != "day":
            hours = (9,)
        times = [_Time(_PARTS.get(part, 9) if len(hours) == 1 else hour, 0, True) for hour in hours]
    if period and period.per and period.unit == "day" and len(set(times)) != period.amount:
        plan.notes.append(f"{int(period.amount)} times a day were asked for, and {len(set(times))} named.")
    by_minute: dict[int, set[int]] = {}
    for time in times:
        by_minute.setdefault(time.minute, set()).add(time.hour)
    by_hours: dict[tuple[int, ...], list[int]] = {}
    for minute, found in sorted(by_minute.items()):
        by_hours.setdefault(tuple(sorted(found)), []).append(minute)
    pairs = sorted((hours, minutes) for hours, minutes in by_hours.items())
    return [(",".join(map(str, minutes)), ",".join(map(str, hours))) for hours, minutes in pairs]


def _moved(time: _Time, part: str) -> _Time:
    """“At 9 in the evening” is 21:00."""
    if time.fixed or time.hour > 12:
        return time
    if part in ("afternoon", "evening") and time.hour < 12:
        return replace(time, hour=time.hour + 12)
    if part == "night" and time.hour >= 6:
        return replace(time, hour=(time.hour + 12) % 24)
    return time


def _interval_in_words(seconds: int) -> str:
    for unit in ("week", "day", "hour", "minute", "second"):
        amount, rest = divmod(seconds, _UNIT_SECONDS[unit])
        if not rest and (amount > 1 or unit == "second"):
            return f"every {amount} {unit}s" if amount > 1 else f"every {unit}"
    return f"every {seconds} seconds"


# ── Webhooks and events ──────────────────────────────────────────────────────────────────────────────────────

_WHEN = r"(?:when(?:ever)?|each time|every time|any time|as soon as|once|after|if|upon|on)"
_NAME = r"(?:[“\"'`](?P<{0}q>[^“”\"'`\n]{{1,60}})[”\"'`]|(?P<{0}>[a-z][\w-]*(?: (?-i:[A-Z])[\w-]*)*))"
_SOURCE = rf"(?P<the>the )?(?P<role>persona |agent )?{_NAME.format('source')}(?P<role2> (?:persona|agent))?"
_HAPPENS = (
    r"(?:arrives?|occurs?|happens?|comes? in|fires?|is (?:published|emitted|raised|fired|received|sent))"
)
_TYPE = r"[“\"'`]?(?P<type>[a-z][\w*-]*(?:\.[\w*-]+)*)[”\"'`]?"
_FROM = rf"(?: (?:from|of|by) (?:the |persona |agent )*{_NAME.format('source')})?"
_ENDINGS = {"execution_completed": "finishes", "execution_failed": "fails"}
_SIGNALS: list[tuple[re.Pattern[str], str]] = [
    (
        _words(
            rf"(?:{_WHEN}|(?:triggered|started|run|called) (?:by|via|from)|(?:wait|listen)s? for|react(?:s|ing)? to) "
            r"(?:(?:it|a|an|the|any|each|every|our|my|its|incoming|new|receiv(?:es|ing)|gets?|call(?:s|ed)?|to) )*"
            r"(?-i:[A-Z][\w.-]*\s+)?web-?hooks?(?! (?:fails|failed|is missing|breaks|errors))"
            r"(?: (?:calls?|requests?|deliver(?:y|ies)))?"
            r"(?: (?:arrives?|comes? in|is received|is called|is triggered|fires?|hits?(?: us)?))?"
        ),
        "webhook",
    ),
    (
        _words(
            rf"{_WHEN} (?:{_SERVICES}) "
            r"(?:calls?(?: us)?|posts to us|pings(?: us)?|hits us|notifies us|sends (?:us )?a (?:webhook|request|post))"
            rf"|{_WHEN} [\w-]+ calls (?:us|our url|the url|the endpoint|our endpoint|the web-?hook|our web-?hook)"
            rf"|{_WHEN} (?:an? |the )?(?:http |post |http post )request (?:arrives|comes in|is received)"
        ),
        "webhook",
    ),
    (
        _words(
            rf"{_WHEN} {_SOURCE} "
            rf"(?:emits?(?: (?:an?|the))?(?: event)?"
            rf"|(?:publishe?s|raises?|fires?|sends?)(?: (?:an?|the))? event) {_TYPE}(?: events?)?"
        ),
        "emits",
    ),
    (
        _words(
            rf"{_WHEN} {_SOURCE} "
            r"(?:publishe?s|raises?|fires?|sends?) (?:an? |the )?(?:[“\"'`](?P<typeq>[\w.*-]+)[”\"'`]"
            r"|(?P<type>[a-z][\w-]*[._][\w.*-]*\w))(?: events?)?"
        ),
        "emits",
    ),
    (
        _words(
            rf"{_WHEN} {_SOURCE} "
            r"(?:(?P<done>finishes|completes|succeeds|is (?:done|finished)|(?:has )?(?:finished|completed))"
            r"|(?P<bad>fails|failed|has failed|crashes|crashed))(?! to\b)"
        ),
        "ends",
    ),
    (
        _words(
            rf"{_WHEN} (?:(?:an?|the|any|each|every|new) )*(?:event )?{_TYPE} events?{_FROM}"
            rf"(?: {_HAPPENS})?{_FROM.replace('source', 'other')}"
        ),
        "event",
    ),
    (
        _words(rf"(?:{_WHEN}|(?:listen|subscribe|react)s? (?:to|for)) (?:an? |the )?events? {_TYPE}{_FROM}"),
        "event",
    ),
    (
        _words(
            rf"{_WHEN} (?:(?:an?|the|any) )?"
            rf"(?:[“\"'`](?P<typeq>[\w.*-]+)[”\"'`]|(?P<type>[a-z][\w-]*[._][\w.*-]*\w)){_FROM}"
            rf" {_HAPPENS}"
        ),
        "event",
    ),
    (
        _words(
            rf"(?P<type>execution_(?:completed|failed)|manual_review|user_message) "
            rf"(?:of|from|by) {_NAME.format('source')}"
        ),
        "event",
    ),
]


def _find_signals(text: str) -> tuple[str, list[Schedule]]:
    """Webhooks and events, and the text with their words hidden: “daily-report finishes” is no schedule."""
    found = []
    for pattern, meaning in _SIGNALS:
        for match in list(pattern.finditer(text)):
            signal = _signal(match, meaning)
            if signal:
                found.append(signal)
                text = _hide(text, match.start(), match.end())
    return text, found


def _signal(match: re.Match[str], meaning: str) -> Schedule | None:
    span, words = match.span(), match[0]
    if meaning == "webhook":
        return Schedule("webhook", {}, "when a webhook arrives", span, words)
    groups = {name: value for name, value in match.groupdict().items() if value}
    source = next((groups[name] for name in ("sourceq", "source", "otherq", "other") if name in groups), None)
    if source and source.lower() in _NO_NAMES:
        return None
    plain = re.fullmatch("[a-z ]+", source or "")
    if "the" in groups and plain and not {"sourceq", "role", "role2"} & groups.keys():
        return None  # “after the download finishes” names no persona
    if meaning == "ends":
        if not source:
            return None
        event_type = "execution_completed" if "done" in groups else "execution_failed"
        config = {"event_type": event_type, "source_filter": source}
        return Schedule("event", config, f"when {source} {_ENDINGS[event_type]}", span, words)
    event_type = groups.get("typeq") or groups.get("type", "")
    if event_type.lower() in _NO_NAMES or event_type.lower() in ("event", "events", "calendar"):
        return None
    config = {"event_type": event_type, "source_filter": source}
    if event_type in _ENDINGS and source:
        return Schedule("event", config, f"when {source} {_ENDINGS[event_type]}", span, words)
    origin = f" from {source}" if source else ""
    return Schedule("event", config, f"when {event_type} is published{origin}", span, words)
