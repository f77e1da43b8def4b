"""When a node of n8n fires: its times as cron expressions or periods, with the defaults that exports leave out.

- A period that cron can hold is a cron expression; 45 minutes, 3 days and 30 seconds are periods.
- n8n's six fields begin with seconds. A run cannot begin at a second, so that a fixed one is left out.
- What is written as an expression is not evaluated; one that is a value alone (``={{ 12 }}``) is read, and said to be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from personas_nb.design.formats.n8n.expressions import constant, is_expression, value_words
from personas_nb.design.formats.n8n.text import code
from personas_nb.errors import InvalidInput
from personas_nb.triggers import cron

MAX_TIMES = 20
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Due:
    """One rule of a node: ``cron`` or ``interval_seconds``, or neither where it could not be read.

    ``note`` is where it differs from n8n without harm, ``problem`` what a person must look at.
    """

    cron: str = ""
    interval_seconds: int = 0
    note: str = ""
    problem: str = ""


def schedule_trigger(parameters: dict[str, Any]) -> list[Due]:
    """The times of a Schedule Trigger; without a rule, and for an empty one, it is daily at midnight.

    >>> schedule_trigger({"rule": {"interval": [{}]}})[0].cron
    '0 0 * * *'
    """
    rule = parameters.get("rule")
    if rule is None:
        return [_rule({})]
    intervals = rule.get("interval") if isinstance(rule, dict) else None
    if not isinstance(intervals, list):
        return [Due(problem="Its rule cannot be read.")]
    return [_rule(item) for item in intervals[:MAX_TIMES]]


def cron_node(parameters: dict[str, Any]) -> list[Due]:
    """The times of the old Cron node; without any it never fires."""
    return _legacy_items(parameters.get("triggerTimes"))


def poll_times(parameters: dict[str, Any]) -> list[Due]:
    """When a poller looks; without ``pollTimes`` it is every minute.

    >>> [due.cron for due in poll_times({"pollTimes": {"item": [{"mode": "everyHour"}, {}]}})]
    ['0 * * * *', '0 14 * * *']
    """
    if parameters.get("pollTimes") is None:
        return [Due("* * * * *")]
    return _legacy_items(parameters["pollTimes"])


def interval_node(parameters: dict[str, Any]) -> list[Due]:
    """The period of the old Interval node: one second where nothing is said.

    >>> interval_node({"interval": 20})[0].interval_seconds
    20
    """
    numbers = _Numbers(parameters)
    count = numbers.get("interval", 1, 1, 10**6)
    unit = {"seconds": 1, "minutes": 60, "hours": 3600}.get(str(parameters.get("unit", "seconds")))
    if unit is None:
        return [Due(problem="The unit of its interval cannot be read.")]
    if numbers.is_unreadable("interval"):
        return [Due(problem=numbers.problem)]
    return [Due(interval_seconds=count * unit, problem=numbers.problem)]


class _Numbers:
    """The whole numbers of one rule; what cannot be read is said, and its default stands in."""

    def __init__(self, item: dict[str, Any]) -> None:
        self._item = item
        self._said: list[str] = []
        self._unreadable: set[str] = set()

    @property
    def problem(self) -> str:
        return " ".join(self._said)

    def is_unreadable(self, *names: str) -> bool:
        return bool(self._unreadable & set(names))

    def get(self, name: str, default: int, low: int, high: int) -> int:
        value = self._item.get(name)
        if value is None or value == "":
            return default
        number = _whole(constant(value))
        if number is not None and is_expression(value):
            self._said.append(f"{code(name)} is written as an expression and was read as {number}.")
        if number is None or not low <= number <= high:
            shown = value_words(value) if isinstance(value, str | int | float) else "no number"
            what = "is an expression, which is not evaluated" if is_expression(value) else "cannot be used"
            self._said.append(f"{code(name)} ({shown}) {what}; {default} stands in for it.")
            self._unreadable.add(name)
            return default
        return number


def _whole(value: Any) -> int | None:
    """A whole number, also as n8n keeps some: as text, or with a fraction of zero."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e9 else None
    return value if isinstance(value, int) and abs(value) < 10**9 else None


def _rule(item: Any) -> Due:
    """One rule of a Schedule Trigger."""
    if not isinstance(item, dict):
        return Due(problem="A rule of it cannot be read.")
    numbers = _Numbers(item)
    field = item.get("field", "days")
    if field == "cronExpression":
        return _expression(item.get("expression"))
    if field == "seconds":
        seconds = numbers.get("secondsInterval", 30, 1, 10**6)
        return Due(interval_seconds=seconds, problem=numbers.problem)
    if field == "minutes":
        return _with(numbers, _minutes(numbers.get("minutesInterval", 5, 1, 10**6)))
    minute = numbers.get("triggerAtMinute", 0, 0, 59)
    if field == "hours":
        return _with(numbers, _hours(numbers.get("hoursInterval", 1, 1, 10**5), minute))
    hour = numbers.get("triggerAtHour", 0, 0, 23)
    if field == "days":
        return _with(numbers, _days(numbers.get("daysInterval", 1, 1, 10**5), hour, minute))
    if field == "weeks":
        weeks = numbers.get("weeksInterval", 1, 1, 10**4)
        return _with(numbers, _weeks(weeks, item.get("triggerAtDay", [0]), hour, minute))
    if field == "months":
        day = numbers.get("triggerAtDayOfMonth", 1, 1, 31)
        return _with(numbers, _months(numbers.get("monthsInterval", 1, 1, 1000), day, hour, minute))
    return Due(problem=f"Its unit {value_words(field) if isinstance(field, str) else ''} is not known.")


def _with(numbers: _Numbers, due: Due) -> Due:
    problem = f"{due.problem} {numbers.problem}".strip()
    return Due(due.cron, due.interval_seconds, due.note, problem)


def _minutes(count: int) -> Due:
    if count % 60 == 0:
        return _hours(count // 60, 0)
    if 60 % count == 0:
        return Due(f"*/{count} * * * *")
    note = "counted from when it is enabled; n8n began anew with each hour"
    return Due(interval_seconds=count * 60, note=note)


def _hours(count: int, minute: int) -> Due:
    if 24 % count == 0:
        return Due(f"{minute} */{count} * * *" if count > 1 else f"{minute} * * * *")
    return Due(interval_seconds=count * 3600, note="counted from when it is enabled")


def _days(count: int, hour: int, minute: int) -> Due:
    if count == 1:
        return Due(f"{minute} {hour} * * *")
    note = f"n8n fired at {hour:02}:{minute:02}; here the days are counted from when it is enabled"
    return Due(interval_seconds=count * _DAY_SECONDS, note=note)


def _weeks(count: int, given: Any, hour: int, minute: int) -> Due:
    days = _weekdays(given)
    if days is None:
        return Due(problem="Its days of the week cannot be read.")
    fires = f"{minute} {hour} * * {','.join(map(str, days)) or '*'}"
    if count == 1:
        return Due(fires)
    if len(days) == 1:
        note = (
            f"n8n fired at {hour:02}:{minute:02} on one weekday; here it is counted from when it is enabled"
        )
        return Due(interval_seconds=count * 7 * _DAY_SECONDS, note=note)
    return Due(
        fires, problem=f"n8n fired only in every {count}. week; no schedule holds that, so it is every week."
    )


def _weekdays(given: Any) -> list[int] | None:
    days = [_whole(day) for day in (given if isinstance(given, list) else [given])]
    known = [day % 7 for day in days if day is not None and 0 <= day <= 7]
    return sorted(set(known)) if len(known) == len(days) else None


def _months(count: int, day: int, hour: int, minute: int) -> Due:
    few = f"only months that have a day {day}" if day > 28 else ""
    if count == 1:
        return Due(f"{minute} {hour} {day} * *", note=few)
    months = ",".join(map(str, range(1, 13, min(count, 12))))
    problem = "The months are counted from January; n8n counted from when it was activated."
    if count > 12:
        problem = f"n8n fired only in every {count}. month; no schedule holds that, so it is every January."
    return Due(f"{minute} {hour} {day} {months} *", note=few, problem=problem)


def _legacy_items(given: Any) -> list[Due]:
    items = given.get("item") if isinstance(given, dict) else None
    if items is not None and not isinstance(items, list):
        return [Due(problem="Its times cannot be read.")]
    return [_legacy(item) for item in (items or [])[:MAX_TIMES]]


def _legacy(item: Any) -> Due:
    """One item of the old Cron node, or of a poller; without a mode it is daily at 14:00."""
    if not isinstance(item, dict):
        return Due(problem="A time of it cannot be read.")
    numbers = _Numbers(item)
    mode = item.get("mode", "everyDay")
    if mode == "everyMinute":
        return Due("* * * * *")
    if mode == "custom":
        return _expression(item.get("cronExpression"))
    if mode == "everyX":
        count = numbers.get("value", 2, 1, 10**6)
        if numbers.is_unreadable("value"):
            return Due(problem=numbers.problem)
        unit = item.get("unit", "hours")
        if unit not in ("minutes", "hours"):
            return Due(problem="The unit of its period cannot be read.")
        return _with(numbers, _minutes(count) if unit == "minutes" else _hours(count, 0))
    minute = numbers.get("minute", 0, 0, 59)
    if mode == "everyHour":
        return _with(numbers, Due(f"{minute} * * * *"))
    hour = numbers.get("hour", 14, 0, 23)
    if mode == "everyDay":
        return _with(numbers, Due(f"{minute} {hour} * * *"))
    if mode == "everyWeek":
        return _with(numbers, Due(f"{minute} {hour} * * {numbers.get('weekday', 1, 0, 7) % 7}"))
    if mode == "everyMonth":
        return _with(numbers, _months(1, numbers.get("dayOfMonth", 1, 1, 31), hour, minute))
    return Due(problem="Its mode is not known.")


def _expression(given: Any) -> Due:
    """A cron expression as the author wrote it: five fields, or six with the seconds first."""
    if not isinstance(given, str) or not given.strip():
        return Due(problem="Its cron expression is missing.")
    given = constant(given)
    if is_expression(given):
        return Due(
            problem=f"Its cron expression is computed ({value_words(given)}); n8n's expressions are not evaluated."
        )
    words = given.split()
    seconds = words.pop(0) if len(words) == 6 else "0"
    text = " ".join(words).replace("?", "*")
    try:
        cron.parse(text)
    except InvalidInput:
        return Due(problem=f"{code(given)} is no cron expression that can be used here.")
    if seconds == "0":
        return Due(text)
    return _with_seconds(seconds, text, given)


def _with_seconds(seconds: str, text: str, given: str) -> Due:
    """A cron expression that fires at certain seconds of its minutes."""
    if re.fullmatch(r"[0-5]?\d", seconds, re.ASCII):
        note = f"at the full minute; n8n fired at second {int(seconds)}" if int(seconds) else ""
        return Due(text, note=note)
    step = re.fullmatch(r"\*(?:/([1-9]\d?))?", seconds, re.ASCII)
    if step and text.split() == ["*"] * 5:
        return Due(interval_seconds=int(step[1] or 1))
    return Due(text, problem=f"{code(given)} fires several times a minute; here it is once a minute at most.")
