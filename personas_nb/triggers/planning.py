"""When a trigger is due, and what becomes of due times that nobody saw in time.

Arithmetic only. A schedule is due when its cron expression says so. Polling keeps its phase: due times are
``anchor + n · interval``, where the anchor is the whole second in which it was enabled, so that no delay adds up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any

from personas_nb.entities.base import rfc3339
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput
from personas_nb.triggers import cron

MISSED_SECONDS = 60.0  # how old a due time must be, when it is first seen, to be a missed one
ROWS = 1_000  # of so many due times each gets a record of its own; those before share one
CATCH_UP_LIMIT = 100
ANCHOR = "anchor"  # the key of a trigger's state that holds its anchor
_SECOND = timedelta(seconds=1)

_MISSED = "Missed: nobody fired triggers at that time"
REASONS = {
    "once": f"{_MISSED}; the newest missed time runs instead (catch_up=once).",
    "skip": f"{_MISSED} (catch_up=skip).",
    "all": f"{_MISSED}, and {CATCH_UP_LIMIT} later ones run (catch_up=all).",
}


@dataclass(frozen=True)
class Due:
    """One due time, or the ``count`` from ``due_at`` to ``until_at``; ``reason`` is why it does not fire."""

    due_at: datetime
    reason: str | None = None
    until_at: datetime | None = None
    count: int = 1

    @cached_property
    def key(self) -> str:
        """What makes it one of a kind among the fires of its trigger."""
        until = f"..{rfc3339(self.until_at)}" if self.until_at else ""
        return rfc3339(self.due_at) + until


@dataclass(frozen=True)
class Dues:
    """All due times up to a moment: the newest one by one, ``older`` ones together; and the ``following`` one."""

    newest: tuple[datetime, ...]
    older: Due | None
    following: datetime | None


def next_due(trigger: Trigger, after: datetime, zone: str = "UTC") -> datetime | None:
    """The first due time strictly later than ``after``; None where there is none: off, manual, webhook.

    ``zone`` is the time zone of a schedule that names none. Raises `InvalidInput` for a config that nobody can plan.
    """
    if not trigger.enabled:
        return None
    if trigger.trigger_type != "polling":
        return beginning(trigger.trigger_type, trigger.config, after, zone)[0]
    anchor, step = anchor_of(trigger), _interval(trigger.config)
    count = (after - anchor) // step + 1
    # In the second before its anchor it has just begun. Long before, the clock was set back since.
    return _later(anchor, step, max(1, count) if anchor - after <= _SECOND else count)


def planned(trigger: Trigger, moment: datetime, zone: str = "UTC", *, anew: bool = True) -> Trigger:
    """The trigger with its next due time after ``moment``, and with its anchor; one that is off has none.

    ``anew`` begins the phase of polling at ``moment``, rounded up to a second; with an address, a first look is due
    at once. Otherwise it goes on in its phase.
    """
    due, state = None, trigger.state
    is_begun = trigger.trigger_type != "polling" or (not anew and ANCHOR in state)
    if not trigger.enabled or is_begun:
        due = next_due(trigger, moment, zone)
    else:
        due, begun = beginning(trigger.trigger_type, trigger.config, moment, zone)
        state = {**state, **begun}
    return trigger.model_copy(update={"state": state, "next_trigger_at": due})


def beginning(
    trigger_type: str, config: Mapping[str, Any], moment: datetime, zone: str
) -> tuple[datetime | None, dict[str, str]]:
    """When a trigger that is enabled at ``moment`` is due first, and the state that it begins with."""
    if trigger_type == "schedule":
        return _next_cron(str(config.get("cron")), str(config.get("timezone") or zone), moment), {}
    if trigger_type != "polling":
        return None, {}
    anchor = moment if moment.microsecond == 0 else moment.replace(microsecond=0) + _SECOND
    due = anchor if config.get("url") else _later(anchor, _interval(config), 1)
    return due, {ANCHOR: rfc3339(anchor)}


def dues(trigger: Trigger, first: datetime, until: datetime, zone: str = "UTC", *, rows: int = ROWS) -> Dues:
    """The due times from ``first``, which is one, to ``until``; the newest ``rows`` of them one by one."""
    if trigger.trigger_type == "polling":
        return _polls(first, until, _interval(trigger.config), rows)
    newest: deque[datetime] = deque(maxlen=rows)
    count, oldest, last_old = 0, first, first
    due: datetime | None = first
    while due is not None and due <= until:
        if len(newest) == rows:
            count, last_old = count + 1, newest[0]
        newest.append(due)
        due = next_due(trigger, due, zone)
    return Dues(tuple(newest), _together(oldest, last_old, count), due)


def decided(trigger: Trigger, found: Dues, watching_since: datetime) -> Iterator[Due]:
    """What becomes of each due time, in order; ``watching_since``: from when on somebody would have seen them.

    One that was more than ``MISSED_SECONDS`` old then is missed, and the trigger's ``catch_up`` decides: the newest
    of them fires (``once``), none (``skip``), or the newest ``CATCH_UP_LIMIT`` (``all``). Any other fires, however
    late it is.
    """
    policy = str(trigger.config.get("catch_up") or "once")
    policy = policy if policy in REASONS else "once"
    seen_from = watching_since - timedelta(seconds=MISSED_SECONDS)
    missed = [due for due in found.newest if due < seen_from]
    fires = {"once": 1, "skip": 0}.get(policy, CATCH_UP_LIMIT)
    caught_up = set(missed[len(missed) - fires :] if fires else ())
    if found.older is not None:
        yield Due(found.older.due_at, REASONS[policy], found.older.until_at, found.older.count)
    for due in found.newest:
        yield Due(due, None if due in caught_up or due >= seen_from else REASONS[policy])


def anchor_of(trigger: Trigger) -> datetime:
    """From when on the due times of polling are counted."""
    try:
        anchor = datetime.fromisoformat(str(trigger.state[ANCHOR]))
    except (KeyError, ValueError):
        anchor = trigger.created_at
    return anchor if anchor.tzinfo else trigger.created_at


def _interval(config: Mapping[str, Any]) -> timedelta:
    seconds = config.get("interval_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1:
        raise InvalidInput("The polling interval is no whole number of seconds.", hint="Edit the trigger.")
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise InvalidInput("The polling interval is longer than time itself.", hint="Edit it.") from None


def _later(anchor: datetime, step: timedelta, count: int) -> datetime | None:
    try:
        return anchor + count * step
    except OverflowError:  # after the year 9999
        return None


def _polls(first: datetime, until: datetime, step: timedelta, rows: int) -> Dues:
    total = max(0, (until - first) // step + 1)
    older = max(0, total - rows)
    newest = tuple(first + number * step for number in range(older, total))
    last_old = first + max(0, older - 1) * step
    return Dues(newest, _together(first, last_old, older), _later(first, step, total))


def _together(first: datetime, last: datetime, count: int) -> Due | None:
    return Due(first, None, last, count) if count else None


@lru_cache(maxsize=1024)
def _next_cron(expression: str, zone: str, after: datetime) -> datetime:
    """Many triggers share an expression, and what is due soon is asked for before it is due."""
    return cron.next_fire(expression, after, zone)
