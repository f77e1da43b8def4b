"""Times of the day: “at 9”, “half past eight”, “between 9 and 5”, “in the evening”."""

from __future__ import annotations

import re

from personas_nb.design.schedules.pieces import Piece, Scanners, Time
from personas_nb.design.schedules.words import NUMBERS, PART, SEP, TO, amount_of, words_only

PARTS = {"morning": 9, "afternoon": 14, "evening": 18, "night": 22}


AFTER_A_NUMBER = (  # “at 9 people”, “at 9 offices”, “at 9%”
    r"(?![\w:%°€$£/])(?![.,][0-9])(?!-[\w])"
    r"(?!\s+(?:people|persons|percent|per\b|degrees?|times|dollars|euros|of\b|million|thousand|or\s+more))"
    r"(?!\s+(?!\w+days?\b|always|across|unless|as\b|this|is\b|utc|hours)[a-z]+s\b)"
)
EXACT = (
    r"(?:noon|midday|midnight|(?:half\s+past|quarter\s+(?:past|to))\s+(?:[0-9]{1,2}|"
    + "|".join(
        word
        for word, number in NUMBERS.items()
        if number in range(1, 13) and len(word) > 2 and word != "single"
    )
    + r")|(?:[01]?[0-9]|2[0-4])(?:(?:[:.][0-5][0-9])?\s?(?:am|pm|a\.m\.|p\.m\.|uhr)|:[0-5][0-9](?:\s?h(?:rs?|ours)?)?"
    r"|h[0-5][0-9])|(?:[01]?[0-9]|2[0-4])\s+o['’]?clock|(?:[01][0-9]|2[0-3])[0-5][0-9]\s?(?:hours|hrs|h))(?![\w%]|:[0-9])"
)
BARE = rf"(?:(?:[01]?[0-9]|2[0-4])(?:\.[0-5][0-9])?{AFTER_A_NUMBER})"
CLOCK = rf"(?:{EXACT}|{BARE})"
_ZONE_NEXT = re.compile(r"\s+(?:utc|gmt|cet|cest|est|pst|[a-z]+(?:\s[a-z]+)?\s+time)\b", re.IGNORECASE)
TIME_NEXT = re.compile(rf"\s*,?\s*(?:at|@)?\s*{CLOCK}", re.IGNORECASE | re.ASCII)


def _time(text: str) -> Time:
    words = " ".join(text.lower().split())
    if words in ("noon", "midday"):
        return Time(12, 0, True)
    if words == "midnight":
        return Time(0, 0, True)
    spoken = re.match(r"(half|quarter) (past|to) (\S+)", words)
    if spoken:
        hour = int(amount_of(spoken[3])) % 24
        if spoken[2] == "to":
            return Time((hour - 1) % 24, 45, False)
        return Time(hour, 30 if spoken[1] == "half" else 15, False)
    words = re.sub(r"^([0-9]{2})([0-9]{2})\b", r"\1:\2", words)  # “1900 hours”
    hour, minute = (int(number) for number in (*re.findall("[0-9]+", words), "0")[:2])
    half = re.search(r"([ap])\.?m", words)
    if half and 1 <= hour <= 12:
        return Time(hour % 12 + (12 if half[1] == "p" else 0), minute, True)
    return Time(hour % 24, minute, hour > 12 or words.startswith("0"))


def _times(match: re.Match[str]) -> Piece | None:
    at, exact = bool(match["at"]), bool(re.search(EXACT, match[0], re.IGNORECASE | re.ASCII))
    times = tuple(_time(found) for found in re.findall(CLOCK, match["clocks"], re.IGNORECASE | re.ASCII))
    part = (match["part"] or "").lower()
    if not times or not (at or exact or _ZONE_NEXT.match(match.string, match.end())):
        return None
    return Piece("times", times=times, sure=at and exact, part=part)


def _hours(match: re.Match[str]) -> Piece | None:
    if match.groupdict().get("office"):
        return Piece("hours", times=(Time(9, 0, True), Time(17, 0, True)), days=(1, 2, 3, 4, 5), weak=True)
    first, last = _time(match["first"]), _time(match["last"])
    if last.hour <= first.hour <= 12 and last.hour < 12 and not last.fixed:
        last = Time(last.hour + 12, last.minute, True)  # from 9 to 5
    return Piece("hours", times=(first, last), weak=True)


def _starting(match: re.Match[str]) -> Piece:
    """“Every 4 hours starting at 6”: round the clock, counted from there."""
    first = _time(match["first"])
    return Piece("hours", times=(first, Time((first.hour - 1) % 24, 59, True)), weak=True)


def _not_at_night(_: re.Match[str]) -> Piece:
    note = "Night was read as 22:00 to 07:00."
    return Piece("hours", times=(Time(7, 0, True), Time(22, 0, True)), weak=True, note=note)


def _named_time(match: re.Match[str]) -> Piece:
    hour = 12 if match["lunch"] else 17
    note = f"“{' '.join(match['what'].split())}” was read as {hour}:00."
    return Piece("times", times=(Time(hour, 0, True),), sure=True, note=note)


def _minute(match: re.Match[str]) -> Piece | None:
    numbers = re.findall("[0-9]+", match["colon"] or match["minute"] or match["past"] or "")
    spoken = {"half": 30, "quarter": 15}.get((match["spoken"] or match["half"] or "").lower(), 0)
    minutes = tuple(sorted({int(number) for number in numbers})) or (spoken,)
    return Piece("minute", minutes=minutes, weak=True) if minutes[-1] < 60 else None


def _part(match: re.Match[str]) -> Piece:
    return Piece("part", part=match["part"].lower().removesuffix("s"), weak=not match["every"])


SCANNERS: Scanners = [
    (words_only(rf"(?:between|from|during) (?P<first>{CLOCK}){TO}(?P<last>{CLOCK})"), _hours),
    (
        words_only(rf"(?:starting|beginning|from)(?: at| from)? (?P<first>{CLOCK})(?: on(?:wards?)?)?"),
        _starting,
    ),
    (
        words_only(
            r"(?:(?:do not|don['’]?t|never) (?:run|start|work|look|check|bother me)|not|never|except|excluding)"
            r"(?: at| during(?: the)?)? night(?:s|time)?"
        ),
        _not_at_night,
    ),
    (
        words_only(
            r"(?:at |by |before )?(?:the )?(?P<what>(?:end of (?:the |each |every )?(?:business |working |work )?day"
            r"|close of business|cob|eod)|(?P<lunch>lunch(?:-| )?time|lunch break))"
        ),
        _named_time,
    ),
    (words_only(r"first thing(?: in the morning)?"), lambda _: Piece("part", part="morning", weak=True)),
    (words_only(rf"(?P<first>{EXACT})(?!{SEP}){TO}(?P<last>{EXACT})"), _hours),
    (
        words_only(
            r"(?:during|in|within) (?:our |my |normal |regular )?(?P<office>(?:business|working|office|work) hours)"
        ),
        _hours,
    ),
    (
        words_only(
            rf"(?:at )?(?:(?<![0-9])(?P<colon>:[0-5][0-9](?:{SEP}:[0-5][0-9]){{0,9}})(?![0-9:])"
            rf"|minutes? (?P<minute>[0-9]{{1,2}}(?:{SEP}[0-9]{{1,2}}){{0,9}})"
            rf"|(?P<past>[0-9]{{1,2}}(?:{SEP}[0-9]{{1,2}}){{0,9}})(?: minutes?)? past(?: (?:the|each|every))? hour"
            r"|(?P<spoken>half|quarter) past (?:the|each|every) hour)|on the (?:hour|(?P<half>half)[ -]hour)"
        ),
        _minute,
    ),
    (
        words_only(
            rf"(?:(?P<at>at|@|around|about)\s*(?:(?:about|around|exactly) )?)?"
            rf"(?P<clocks>{CLOCK}(?:{SEP}{CLOCK}){{0,23}})"
            r"(?:,? (?:in the|at) (?P<part>morning|afternoon|evening|night))?"
        ),
        _times,
    ),
    (words_only(rf"(?P<every>(?:every|each) )?(?:in the |at )?(?P<part>{PART})"), _part),
]
