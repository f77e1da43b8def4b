"""Cron arithmetic: when an expression fires next in a time zone, and what it says in words.

- What a field means is left to cronsim. It never sees a time zone here: its own handling of them answers with
  times in the past, and loses minutes where the clock moves by half an hour.
- Which minutes of a *wall clock* match is a walk in long steps (`Cron.walk`).
- When those minutes *are* is decided here, as vixie cron decides it. A job of fixed time (neither its minute
  nor its hour begins with ``*``) follows the wall clock: in the hour that is skipped it runs once right after
  the gap, in the hour that is repeated once, the first time. Any other job follows real time: it skips what
  the clock skips and runs again in what the clock repeats.
- Day of month and day of week: either is enough when both are restricted, both are needed when one begins
  with ``*``.
"""

from __future__ import annotations

import difflib
import re
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

from personas_nb.errors import InvalidInput

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_EXAMPLE = "Write five fields, for example “0 9 * * 1-5” for every weekday at 09:00."
_READERS = (Field.MINUTE, Field.HOUR, Field.DAY, Field.MONTH, Field.DOW)
_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_YEARS = 50  # a 29th of February on a weekday of its own comes every 28, or 40 around 2100


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        words = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return (
            f"The {self.name} goes from {self.low} to {self.high}{words}; “*”, lists, ranges and steps work."
        )


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, tuple(name[:3].lower() for name in MONTH_NAMES)),
    _Field("day of week", 0, 7, tuple(name[:3].lower() for name in DAY_NAMES)),
)
_TERM = re.compile(
    r"(?:\*|(?P<first>[0-9]{1,4}|[a-z]+)(?:-(?P<last>[0-9]{1,4}|[a-z]+))?)(?:/(?P<step>[0-9]{1,4}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Cron:
    """What an expression allows. Sunday is 0; ``text`` is the expression in plain numbers.

    ``fixed_time``: neither minute nor hour begins with ``*``, so the job follows the wall clock.
    ``either_day``: the day of month or the day of week is enough; otherwise both must fit.
    """

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    fixed_time: bool
    either_day: bool

    def walk(self, wall: datetime) -> Iterator[datetime]:
        """The wall clock's times after ``wall``, in order, as far as fifty years lie between two of them."""
        at = wall.replace(second=0, microsecond=0) + _MINUTE
        last_year = at.year + _YEARS
        while at.year <= last_year:
            if at.month not in self.months:
                at = _next_month(at)
            elif not self._has_day(at.day, at.isoweekday() % 7):
                at = self._next_day(at)
            elif at.hour not in self.hours:
                later = min((hour for hour in self.hours if hour > at.hour), default=24)
                at = at.replace(hour=0, minute=0) + later * _HOUR
            elif at.minute not in self.minutes:
                later = min((minute for minute in self.minutes if minute > at.minute), default=60)
                at = at.replace(minute=0) + later * _MINUTE
            else:
                yield at
                at += _MINUTE
                last_year = at.year + _YEARS

    def _has_day(self, day: int, weekday: int) -> bool:
        is_of_month, is_of_week = day in self.days, weekday in self.weekdays
        return is_of_month or is_of_week if self.either_day else is_of_month and is_of_week

    def _next_day(self, at: datetime) -> datetime:
        """Midnight of the next day of its month that fits, else of the first day of the next month."""
        before = at.isoweekday() - at.day
        for day in range(at.day + 1, monthrange(at.year, at.month)[1] + 1):
            if self._has_day(day, (before + day) % 7):
                return datetime(at.year, at.month, day)
        return _next_month(at)


def _next_month(at: datetime) -> datetime:
    return datetime(at.year + at.month // 12, at.month % 12 + 1, 1)


def next_fire(expression: str, after: datetime, tz: str) -> datetime:
    """The first time, strictly later than ``after``, at which ``expression`` fires on the clocks of ``tz``.

    ``after`` is aware, in any zone. The answer is in UTC, because Python never finds a time in a repeated
    hour equal to the same instant of another zone; ``.astimezone(ZoneInfo(tz))`` shows it locally.
    Raises `InvalidInput` for a naive ``after``, an unknown zone, and whatever `parse` refuses.

    >>> next_fire("0 9 * * mon-fri", datetime(2027, 3, 12, 12, tzinfo=UTC), "Europe/Berlin")
    datetime.datetime(2027, 3, 15, 8, 0, tzinfo=datetime.timezone.utc)
    """
    cron, zone = parse(expression), time_zone(tz)
    if after.tzinfo is None or after.utcoffset() is None:
        raise InvalidInput(
            f"The time {after.isoformat()} has no time zone, so “next” cannot be told.",
            hint="Give an aware datetime, for example datetime.now(UTC).",
        )
    follow = _next_on_the_wall_clock if cron.fixed_time else _next_in_real_time
    try:
        return follow(cron, after.astimezone(UTC), zone)
    except (OverflowError, ValueError, StopIteration):
        raise InvalidInput(
            f"“{expression}” does not fire again after {after.isoformat()} in any year that Python can count.",
            hint="Start from a time nearer to today.",
        ) from None


def fires(expression: str, after: datetime, tz: str, count: int) -> Iterator[datetime]:
    """The next ``count`` times at which ``expression`` fires, as `next_fire` tells them one by one.

    >>> [fire.hour for fire in fires("0 */6 * * *", datetime(2027, 3, 12, 1, tzinfo=UTC), "UTC", 3)]
    [6, 12, 18]
    """
    for _ in range(count):
        after = next_fire(expression, after, tz)
        yield after


def check(expression: str, tz: str) -> None:
    """Refuse, with `InvalidInput`, an expression or a zone that `next_fire` could not use."""
    parse(expression)
    time_zone(tz)


def parse(expression: str) -> Cron:
    """What ``expression`` allows; `InvalidInput` says what is wrong with it and what would be right.

    >>> sorted(parse("*/20 9 * * fri-sun").weekdays)
    [0, 5, 6]
    """
    return _parse(str(expression))  # a config from JSON may hold anything


@lru_cache(maxsize=1024)
def _parse(expression: str) -> Cron:
    words = expression.split()
    if len(words) == 1 and words[0].startswith("@"):
        if words[0].lower() not in MACROS:
            raise InvalidInput(
                f"“{expression}” is no time that cron can hold.", hint=f"Use {_listed(MACROS, 'or')}."
            )
        words = MACROS[words[0].lower()].split()
    if len(words) != 5:
        raise InvalidInput(
            f"“{expression}” has {len(words)} field{'s' * (len(words) != 1)}, and a cron expression has five: "
            "minute, hour, day of month, month, day of week.",
            hint="Leave out the first field, the seconds." if len(words) == 6 else _EXAMPLE,
        )
    text = " ".join(
        "*" if word == "*" else _in_numbers(word, field, expression)
        for word, field in zip(words, _FIELDS, strict=True)
    )
    # Each field is read, and kept, once for all expressions: a home may have thousands that differ little.
    numbers = text.split()
    minutes, hours, days, months, weekdays = map(_values, _READERS, numbers)
    if min(days) > 28:
        _refuse_impossible_day(expression, text)
    return Cron(
        text,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=_sunday_once(weekdays),
        fixed_time=not (words[0].startswith("*") or words[1].startswith("*")),
        either_day=not (numbers[2].startswith("*") or numbers[4].startswith("*")),
    )


def _refuse_impossible_day(expression: str, text: str) -> None:
    try:
        CronSim(text, datetime(2000, 1, 1))
    except CronSimError:
        raise InvalidInput(
            f"“{expression}” never fires: its months have no such day ({text.split()[2]}).",
            hint="Choose a day that one of the months has.",
        ) from None


@lru_cache(maxsize=1024)
def _values(reader: Field, word: str) -> Any:
    return frozenset(reader.parse(word))


@lru_cache(maxsize=256)
def _sunday_once(weekdays: frozenset[int]) -> frozenset[int]:
    return frozenset(day % 7 for day in weekdays)


def time_zone(tz: str) -> ZoneInfo:
    """The IANA zone of that name; `InvalidInput` names the nearest one that exists."""
    try:
        return ZoneInfo(tz)
    except (LookupError, ValueError, OSError, TypeError):  # a folder of zones is an OSError
        known = {name.lower(): name for name in available_timezones()}
        near = difflib.get_close_matches(str(tz).lower(), known, n=1, cutoff=0.6)
        raise InvalidInput(
            f"There is no time zone “{tz}”.",
            hint=f"Did you mean “{known[near[0]]}”?"
            if near
            else "Use an IANA name, for example Europe/Berlin.",
        ) from None


def _in_numbers(word: str, field: _Field, expression: str) -> str:
    """One field with names, backward weekday ranges and ranges of one made plain, or a refusal."""

    def refuse(term: str, hint: str = "") -> InvalidInput:
        shown = f"“{term}” is no {field.name}" if term else f"The {field.name} has an empty part"
        return InvalidInput(f"{shown} in “{expression}”.", hint=hint or field.allowed)

    def number(value: str, term: str) -> int:
        named = value in field.names
        found = field.names.index(value) + field.low if named else int(value) if value.isdigit() else -1
        if not field.low <= found <= field.high:
            raise refuse(term)
        return found

    if word.isdecimal() and word.isascii() and len(word) < 5:
        return str(number(word, word))
    plain = []
    for term in word.split(","):
        match = _TERM.fullmatch(term.lower())
        if not match:
            raise refuse(term)
        step = match["step"]
        if step and not int(step):
            raise refuse(term, "A step is 1 or more, for example */5.")
        tail = f"/{step}" if step else ""
        if not match["first"]:
            plain.append("*" + tail)
            continue
        first = number(match["first"], term)
        last = number(match["last"], term) if match["last"] else None
        if last == 0 and first > 0 and field.high == 7:
            last = 7  # fri-sun
        if last is not None and last < first:
            raise refuse(
                term, f"A range goes upwards: write {match['last']}-{match['first']}, or two ranges."
            )
        # cronsim reads 5-5/2 as 5/2, which goes on to the end of the field
        plain.append(f"{first}" if last == first else f"{first}{'' if last is None else f'-{last}'}{tail}")
    return ",".join(plain)


def _next_on_the_wall_clock(cron: Cron, after: datetime, zone: ZoneInfo) -> datetime:
    """A fixed time is the first instant at which the wall clock shows it, or has just jumped over it."""
    # No earlier wall time can lie ahead: the first instants of wall times come in the order of the wall.
    for wall in cron.walk(after.astimezone(zone).replace(tzinfo=None)):
        fire = _first_instant(wall, zone)
        if fire > after:  # not so for a time that `after`, in a repeated hour, has already seen
            return fire
    raise StopIteration


def _next_in_real_time(cron: Cron, after: datetime, zone: ZoneInfo) -> datetime:
    """The wall clock runs straight on until it is next changed; from there on, look again."""
    since, offset = after, _offset(after, zone)
    wall = after.replace(tzinfo=None) + offset
    while True:
        wall = next(cron.walk(wall))
        fire = (wall - offset).replace(tzinfo=UTC)
        change = _first_change(since, fire, zone)
        if change is None:
            return fire
        since, offset = change, _offset(change, zone)
        wall = change.replace(tzinfo=None) + offset - _SECOND  # the moment of the change itself may match


def _first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    fire = wall.replace(tzinfo=zone).astimezone(UTC)
    if fire.astimezone(zone).replace(tzinfo=None) == wall:
        return fire
    # In a gap, fold=1 names an instant before the change and fold=0 one after it (PEP 495).
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _first_change(before, fire, zone) or fire


def _first_change(since: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
    """The first second in (since, until] whose UTC offset is not that of ``since``; looks once a day."""
    offset = _offset(since, zone)
    early = since
    while early < until:
        late = min(early + _DAY, until)
        if _offset(late, zone) == offset:
            early = late
            continue
        while late - early > _SECOND:
            middle = early + timedelta(seconds=(late - early) // _SECOND // 2 or 1)
            early, late = (middle, late) if _offset(middle, zone) == offset else (early, middle)
        return late.replace(microsecond=0)
    return None


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def in_words(expression: str, tz: str | None = None) -> str:
    """The expression as an English phrase; expressions that fire at other times read otherwise.

    >>> in_words("0 9 * * 1-5", "Europe/Berlin")
    'every weekday at 09:00 (Europe/Berlin)'
    >>> in_words("*/15 9-16 1,15 * *")
    'every 15 minutes from 09:00 to 16:45, on days 1 and 15 of every month'
    """
    cron = parse(expression)
    zone = f" ({time_zone(tz).key})" if tz else ""
    clock = _clock_times(cron)
    if clock:
        return f"{_days(cron, 'every')} at {clock}{zone}"
    days = _days(cron, "on")
    return _pace(cron) + (f", {days}" if days else "") + zone


def _clock_times(cron: Cron) -> str:
    """“09:00 and 17:30” where that is shorter than saying how often."""
    if len(cron.minutes) * len(cron.hours) > 6 or _step(cron.hours, 24):
        return ""
    return _listed(
        [f"{hour:02}:{minute:02}" for hour in sorted(cron.hours) for minute in sorted(cron.minutes)]
    )


def _pace(cron: Cron) -> str:
    """How often within the day, and between which first and last times."""
    minutes, hours = sorted(cron.minutes), sorted(cron.hours)
    every_minutes, every_hours = _step(cron.minutes, 60), _step(cron.hours, 24)
    if len(minutes) == 1 and every_hours:
        often = "every hour" if every_hours == 1 else f"every {every_hours} hours"
        at_minute = f" at {minutes[0]} minute{'s' * (minutes[0] != 1)} past" if minutes[0] else ""
        return often + at_minute
    if every_minutes:
        often = "every minute" if every_minutes == 1 else f"every {every_minutes} minutes"
    elif len(minutes) == 1:
        often = "every hour"
    else:
        often = f"at {_runs('minute', minutes)} of every hour"
    if len(hours) == 24:
        return often
    if hours == list(range(hours[0], hours[-1] + 1)):
        return f"{often} from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    if len(minutes) == 1:
        often = f"at {_runs('minute', minutes)}"
    elif not every_minutes:
        often = often.removesuffix(" of every hour")
    return f"{often} of {_runs('hour', hours)}"


def _days(cron: Cron, style: str) -> str:
    """On which days: “every Monday” before a time, “on Mondays” after a pace, where every day is ''."""
    named_months = "" if len(cron.months) == 12 else _runs("", sorted(cron.months), MONTH_NAMES, first=1)
    any_day, any_weekday = len(cron.days) == 31, len(cron.weekdays) == 7
    if (any_day and any_weekday) or (cron.either_day and (any_day or any_weekday)):
        words = "every day" if style == "every" else "on every day" if named_months else ""
        return words + (f" in {named_months}" if named_months else "")
    in_months = f" in {named_months}" if named_months else ""
    of_months = f" of {named_months or 'every month'}"
    dates = f"on {_runs('day', sorted(cron.days))}{of_months}"
    if any_weekday:
        return dates
    if any_day:
        return _weekdays(cron.weekdays, style) + in_months
    if cron.either_day:
        return f"{dates} and also {_weekdays(cron.weekdays, style)}{in_months}"
    return f"{_weekdays(cron.weekdays, 'on')} that fall {dates}"


def _weekdays(days: frozenset[int], style: str) -> str:
    ordered = [DAY_NAMES[day] for day in sorted(days, key=lambda day: day or 7)]
    if days == {1, 2, 3, 4, 5}:
        ordered = ["weekday"]
    elif days == {0, 6}:
        ordered = ["weekend day"]
    elif len(days) == 6:
        (missing,) = set(range(7)) - days
        return f"{'on ' if style == 'on' else ''}every day except {DAY_NAMES[missing]}"
    if style == "every":
        return f"every {_listed(ordered)}"
    return f"on {_listed([f'{day}s' for day in ordered])}"


def _step(values: frozenset[int], size: int) -> int:
    """n, if the values are every nth of a whole day or hour; else 0."""
    step = size // len(values)
    return step if len(values) > 1 and values == set(range(0, size, step)) and size % step == 0 else 0


def _runs(noun: str, values: list[int], names: tuple[str, ...] = (), first: int = 0) -> str:
    """“days 1 to 5 and 15”: three or more in a row are a run, five or more even steps a stepped run."""

    def name(value: int) -> str:
        return names[value - first] if names else str(value)

    steps = {after - before for before, after in pairwise(values)}
    if len(values) >= 5 and len(steps) == 1 and steps != {1}:
        parts = [f"{name(values[0])} to {name(values[-1])} in steps of {steps.pop()}"]
    else:
        parts, start = [], 0
        for end in range(1, len(values) + 1):
            if end == len(values) or values[end] != values[end - 1] + 1:
                run = [name(value) for value in values[start:end]]
                parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else run
                start = end
    return f"{noun}{'s' * (len(values) > 1)} {_listed(parts)}" if noun else _listed(parts)


def _listed(words: Iterable[str], joiner: str = "and") -> str:
    *most, last = words
    return f"{', '.join(most)} {joiner} {last}" if most else last
