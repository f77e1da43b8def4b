"""A phrase as triggers: a cron expression if one can hold it exactly, else a polling interval.

What had to be assumed is in the description, what one cron cannot say is in the note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from personas_nb.design.schedules.phrases import Phrase
from personas_nb.design.schedules.pieces import Piece, Time
from personas_nb.design.schedules.schedule import Schedule
from personas_nb.design.schedules.times import PARTS
from personas_nb.design.schedules.words import UNIT_MONTHS, UNIT_SECONDS
from personas_nb.errors import InvalidInput
from personas_nb.triggers.cron import in_words

_MOST_CRONS = 4  # more triggers than this are harder to read than one interval


@dataclass
class _Plan:
    """The five fields as far as they are known, and what was assumed or cannot be said.

    ``clocks`` are (minute, hour), ``dates`` are (day of month, month); each pair of them is a cron.
    """

    clocks: list[tuple[str, str]] = field(default_factory=list)
    dates: list[tuple[str, str]] = field(default_factory=list)
    days: str = "*"
    months: str = "*"
    weekdays: str = "*"
    fields: tuple[tuple[str, str], ...] = ()
    interval_seconds: int = 0
    assumed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def crons(self) -> Iterator[str]:
        """The expressions, in order."""
        for minute, hour in self.clocks:
            for day, weekday in self.fields:
                yield f"{minute} {hour} {day} {self.months} {weekday}"
            for days, months in self.dates or [(self.days, self.months)] * (not self.fields):
                yield f"{minute} {hour} {days} {months} {self.weekdays}"


_UNREAD_TIME = re.compile(
    r"\s*,?\s*(?:at|@)\s*(?:[0-9]{1,2}[:.h][0-9]{2}|2[5-9]|[3-9][0-9])\b", re.IGNORECASE
)


def schedules_of(phrase: Phrase, text: str, timezone: str | None) -> Iterator[Schedule]:
    """The triggers that a phrase of a text asks for; several where one cron would also fire in between."""
    placed = [piece for piece in phrase.pieces if piece.start >= 0]
    span = _closed(text, placed[0].start, placed[-1].end)
    plan = _Plan(notes=[phrase.note, *(piece.note for piece in phrase.pieces)])
    if not phrase.period:
        plan.notes += [f"“{piece.once}” was read as every week." for piece in phrase.pieces if piece.once]
    _set_period(phrase, plan)
    _set_days(phrase, plan)
    if not plan.interval_seconds and not plan.clocks:
        plan.clocks = _clock(phrase, plan)
    unread = None if phrase.one("times") else _UNREAD_TIME.match(text, span[1])
    if unread:
        plan.notes.append(f"“{unread[0].strip()}” is no time of day.")
    found = [_poll(phrase, plan)] if plan.interval_seconds else list(_timed(phrase, plan, timezone))
    limit = next((piece for piece in phrase.pieces if piece.asked), None)
    for one in found:
        asked = (limit.asked, limit.instead) if limit else (one.asked, one.instead)
        yield replace(one, span=span, text=text[slice(*span)], asked=asked[0], instead=asked[1])


def _closed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span, with the bracket that closes one it opens."""
    inside = text[start:end]
    return start, end + (inside.count("(") > inside.count(")") and text[end : end + 1] == ")")


def _poll(phrase: Phrase, plan: _Plan) -> Schedule:
    words, asked, instead = interval_in_words(plan.interval_seconds), "", ""
    if phrase.one("times") or phrase.one("hours") or phrase.one("days"):
        plan.notes.append("A period that no cron can hold keeps to no day or time.")
        asked = f"{words} on some days or hours only"
        instead = "every hour" if plan.interval_seconds < UNIT_SECONDS["day"] else "every week"
        instead += " on weekdays" if phrase.one("days") and "hour" in instead else ""
    config = {"interval_seconds": plan.interval_seconds}
    return Schedule("polling", config, words, (0, 0), "", _joined(plan.notes), asked, instead)


def _timed(phrase: Phrase, plan: _Plan, timezone: str | None) -> Iterator[Schedule]:
    zone = phrase.one("zone")
    named = (zone.zone or None) if zone else None
    assumed = f" ({' and '.join(plan.assumed)} assumed)" if plan.assumed else ""
    for cron in plan.crons():
        try:
            words = in_words(cron, named)
        except InvalidInput:  # “every February on the 31st”
            continue
        known = named or timezone
        config = {"cron": cron, "timezone": known} if known else {"cron": cron}
        yield Schedule("schedule", config, words + assumed, (0, 0), "", _joined(plan.notes))


def _joined(notes: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(filter(None, notes)))


def _set_period(phrase: Phrase, plan: _Plan) -> None:
    period = phrase.period
    if period is None:
        return
    if period.unit in UNIT_MONTHS:
        months = (
            UNIT_MONTHS[period.unit] / period.amount
            if period.per
            else UNIT_MONTHS[period.unit] * period.amount
        )
        if period.per and months < 1:
            plan.days = {2: "1,15", 3: "1,11,21", 4: "1,8,15,22"}.get(int(period.amount), "1")
            plan.assumed.append("days")
        elif months >= 1 and months == int(months) and 12 % months == 0:
            plan.months = {1: "*", 12: "1"}.get(int(months), f"*/{int(months)}")
        else:
            plan.interval_seconds = int(months * 30 * UNIT_SECONDS["day"])
            plan.notes.append("No cron can hold this period; a month is counted as 30 days.")
        return
    seconds = UNIT_SECONDS[period.unit] * period.amount
    if period.per:
        seconds = UNIT_SECONDS[period.unit] / period.amount
        if period.unit == "week":
            _set_times_a_week(int(period.amount), phrase, plan)
            return
        if period.unit == "day" and (phrase.one("times") or period.amount in (2, 3)):
            return
    elif seconds in (UNIT_SECONDS["day"], UNIT_SECONDS["week"]):
        if seconds > UNIT_SECONDS["day"] and not phrase.one("days"):
            plan.weekdays = "1"
            plan.assumed.append("day")
        return
    _set_pace(max(1, round(seconds)), phrase, plan)


def _set_times_a_week(amount: int, phrase: Phrase, plan: _Plan) -> None:
    if not phrase.one("days"):
        plan.weekdays = {2: "1,4", 3: "1,3,5", 4: "1,2,4,5", 5: "1-5", 6: "1-6", 7: "*"}.get(amount, "1")
        plan.assumed.append("days")


def _set_pace(seconds: int, phrase: Phrase, plan: _Plan) -> None:
    """A period within the day: a cron if it divides the hour or the day, or begins anew each day; else a poll."""
    minutes, hours = seconds // 60, seconds // 3600
    within = phrase.one("hours")
    said = [piece.minutes for piece in (*phrase.all("minute"), *phrase.all("period")) if any(piece.minutes)]
    at = _listed(said[0]) if said else ""
    if seconds % 60 == 0 and minutes < 60 and 60 % minutes == 0:
        hour = "*"
        if within:
            first, last = within.times
            hour = _hour_range(first.hour, last.hour - (last.minute == 0))
        plan.clocks = [(_paced(minutes, said[0] if said else ()), hour)]
    elif seconds % 3600 == 0 and 24 % hours == 0 and hours < 24:
        plan.clocks = [(at or "0", "*" if hours == 1 else f"*/{hours}")]
        if within:
            first, last = within.times
            plan.clocks = [(at or str(first.minute), _hour_range(first.hour, last.hour, hours))]
    elif seconds == UNIT_SECONDS["day"]:
        return
    else:
        plan.clocks = _within(minutes, phrase) if within and seconds % 60 == 0 else []
        plan.interval_seconds = 0 if plan.clocks else seconds


def _paced(minutes: int, said: Sequence[int]) -> str:
    """“Every 15 minutes” as a field of minutes; “twice an hour at :05 and :35” says which."""
    if len(said) == 60 // minutes:
        return _listed(said)
    if len(said) == 1 and 0 < said[0] < minutes:
        return f"{said[0]}-59/{minutes}"
    return "*" if minutes == 1 else f"*/{minutes}"


def _within(minutes: int, phrase: Phrase) -> list[tuple[str, str]]:
    """“Every 90 minutes between 8 and 20” begins anew each day at 8; nothing if that takes too many crons."""
    first, last = phrase.all("hours")[0].times
    start, end = first.hour * 60 + first.minute, last.hour * 60 + last.minute
    if not minutes or end <= start:
        return []
    times = [Time(each // 60, each % 60, True) for each in range(start, end + 1, minutes)]
    found = _paired(times)
    return found if len(found) <= _MOST_CRONS else []


def _hour_range(first: int, last: int, step: int = 1) -> str:
    hours = [(first + hour) % 24 for hour in range(0, (last - first) % 24 + 1, step)]
    return "*" if len(hours) == 24 else as_field(hours)


def as_field(numbers: Iterable[int]) -> str:
    """Numbers as a field of a cron expression.

    >>> as_field([1, 2, 3, 4, 5]), as_field([0, 6]), as_field([22, 23, 0, 1, 2])
    ('1-5', '0,6', '0-2,22,23')
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def _set_days(phrase: Phrase, plan: _Plan) -> None:
    days = {day for piece in phrase.all("days") for day in piece.days}
    within = phrase.one("hours")
    if within and within.days and not days and plan.clocks:
        days = set(within.days)
        plan.assumed.append("9 to 17 on weekdays")
    if days and len(days) < 7:
        plan.weekdays = as_field(days)
    period = phrase.period
    if left_out := phrase.one("not in"):
        plan.months = as_field(set(range(1, 13)) - set(left_out.months))
    if phrase.all("dates"):
        _set_dates(phrase.all("dates"), plan)
    elif period and period.unit in UNIT_MONTHS and plan.days == "*":
        plan.days = "1"
        plan.assumed.append("day")


def _set_dates(pieces: list[Piece], plan: _Plan) -> None:
    """“15 January and 3 March” are two; “the 1st and the 15th” one, and “15 January and 15 July” as well."""
    plan.fields = tuple(each for piece in pieces for each in piece.fields)
    months = {month for piece in pieces for month in piece.months}
    plan.months = ",".join(map(str, sorted(months))) or plan.months
    by_months: dict[tuple[int, ...], set[int]] = {}
    for piece in pieces:
        if not piece.fields:
            by_months.setdefault(piece.months, set()).update(piece.days)
    if not by_months:
        return
    if len({frozenset(days) for days in by_months.values()} - {frozenset()}) > 1 and () not in by_months:
        plan.dates = [
            (_listed(found or {1}), ",".join(map(str, months))) for months, found in by_months.items()
        ]
        return
    days = set[int]().union(*by_months.values()) or {1}
    plan.days = _listed(days)
    plan.dates = [(plan.days, plan.months)]
    if plan.months == "*" and max(days) > 28:
        plan.notes.append("Months without that day are left out.")


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _clock(phrase: Phrase, plan: _Plan) -> list[tuple[str, str]]:
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
        times = [Time(PARTS.get(part, 9) if len(hours) == 1 else hour, 0, True) for hour in hours]
    if period and period.per and period.unit == "day" and len(set(times)) != period.amount:
        plan.notes.append(f"{int(period.amount)} times a day were asked for, and {len(set(times))} named.")
    return _paired(times)


def _paired(times: Iterable[Time]) -> list[tuple[str, str]]:
    """Times of day as minute and hour fields, of which no pair fires at another time."""
    by_minute: dict[int, set[int]] = {}
    for time in times:
        by_minute.setdefault(time.minute, set()).add(time.hour)
    by_hours: dict[tuple[int, ...], list[int]] = {}
    for minute, found in sorted(by_minute.items()):
        by_hours.setdefault(tuple(sorted(found)), []).append(minute)
    pairs = sorted((hours, minutes) for hours, minutes in by_hours.items())
    return [(",".join(map(str, minutes)), ",".join(map(str, hours))) for hours, minutes in pairs]


def _moved(time: Time, part: str) -> Time:
    """“At 9 in the evening” is 21:00."""
    if time.fixed or time.hour > 12:
        return time
    if part in ("afternoon", "evening") and time.hour < 12:
        return replace(time, hour=time.hour + 12)
    if part == "night" and time.hour >= 6:
        return replace(time, hour=(time.hour + 12) % 24)
    return time


def interval_in_words(seconds: int) -> str:
    """A period as people say it.

    >>> interval_in_words(5400)
    'every 90 minutes'
    """
    for unit in ("week", "day", "hour", "minute", "second"):
        amount, rest = divmod(seconds, UNIT_SECONDS[unit])
        if not rest and (amount > 1 or unit == "second"):
            return f"every {amount} {unit}s" if amount > 1 else f"every {unit}"
    return f"every {seconds} seconds"
