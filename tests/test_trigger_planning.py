"""When triggers are due, and what becomes of due times that nobody saw."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.entities.base import rfc3339
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput
from personas_nb.triggers.config import checked
from personas_nb.triggers.planning import (
    CATCH_UP_LIMIT,
    MISSED_SECONDS,
    ROWS,
    anchor_of,
    decided,
    dues,
    next_due,
    planned,
)

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)  # a Monday
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))
INTERVALS = st.integers(1, 10_000_000)
CRONS = st.sampled_from(
    ["* * * * *", "*/7 * * * *", "0 9 * * 1-5", "30 2 * * *", "15 1-3 * * *", "0 0 29 2 *", "5 4 1 * mon"]
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])


def poll(seconds: int = 60, **fields: object) -> Trigger:
    return Trigger.model_validate(
        {
            "persona_id": "p",
            "trigger_type": "polling",
            "config": {"interval_seconds": seconds},
            "created_at": NINE,
            **fields,
        }
    )


def schedule(cron: str = "0 * * * *", timezone: str = "UTC", **config: object) -> Trigger:
    return Trigger(
        persona_id="p", trigger_type="schedule", config={"cron": cron, "timezone": timezone, **config}
    )


# --- the next due time ---------------------------------------------------------------------------------


@given(cron=CRONS, zone=ZONES, after=TIMES)
def test_a_due_time_is_always_later_than_what_it_is_after(cron: str, zone: str, after: datetime):
    due = next_due(schedule(cron, zone), after)
    assert due is not None
    assert due > after


@given(seconds=INTERVALS, made=TIMES, after=TIMES)
def test_polling_is_due_in_its_phase_also_after_a_clock_was_set_back(
    seconds: int, made: datetime, after: datetime
):
    trigger = planned(poll(seconds), made)
    due = next_due(trigger, after)
    assert due is not None
    anchor, step = anchor_of(trigger), timedelta(seconds=seconds)
    assert (due - anchor) % step == timedelta()
    assert after < due <= after + step or due == anchor + step


@given(seconds=INTERVALS, made=TIMES)
def test_polling_begins_one_interval_after_it_was_made(seconds: int, made: datetime):
    trigger = planned(poll(seconds), made)
    assert (
        next_due(trigger, made) == trigger.next_trigger_at == anchor_of(trigger) + timedelta(seconds=seconds)
    )


@given(seconds=st.integers(1, 100_000), late=st.lists(st.floats(0, 0.99), min_size=1, max_size=30))
def test_polling_does_not_drift_however_late_each_fire_is(seconds: int, late: list[float]):
    trigger = planned(poll(seconds), NINE)
    due = trigger.next_trigger_at
    assert due is not None
    for share in late:
        following = next_due(trigger, due + timedelta(seconds=seconds * share))
        assert following == due + timedelta(seconds=seconds)
        due = following


@pytest.mark.parametrize("kind", ["manual", "webhook"])
def test_what_no_clock_starts_is_never_due(kind: str):
    trigger = Trigger.model_validate({"persona_id": "p", "trigger_type": kind})
    assert next_due(trigger, NINE) is None


def test_a_trigger_that_is_off_is_never_due():
    assert next_due(schedule().changed(enabled=False), NINE) is None
    assert planned(poll(next_trigger_at=NINE, enabled=False), NINE).next_trigger_at is None


def test_a_schedule_without_a_zone_is_due_on_the_clocks_of_the_settings():
    trigger = Trigger(persona_id="p", trigger_type="schedule", config={"cron": "0 9 * * *"})
    due = next_due(trigger, NINE - timedelta(hours=5), "Europe/Berlin")
    assert due == datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "config", [{}, {"interval_seconds": 0}, {"interval_seconds": True}, {"interval_seconds": 10**30}]
)
def test_a_stored_interval_that_is_none_is_refused_not_guessed(config: dict[str, object]):
    with pytest.raises(InvalidInput, match="interval"):
        next_due(poll(config=config), NINE)


def test_an_interval_that_ends_after_the_last_year_is_never_due_again():
    assert next_due(poll(10**12, state={"anchor": rfc3339(NINE)}), NINE) is None


# --- planning ------------------------------------------------------------------------------------------


def test_polling_counts_from_the_next_whole_second():
    moment = NINE + timedelta(microseconds=1)
    trigger = planned(poll(60), moment)
    assert trigger.state == {"anchor": "2026-11-23T09:00:01.000000Z"}
    assert trigger.next_trigger_at == NINE + timedelta(seconds=61)


def test_an_address_is_looked_at_at_once_and_then_in_phase():
    trigger = planned(poll(config={"interval_seconds": 3600, "url": "https://example.com"}), NINE)
    assert trigger.next_trigger_at == NINE
    assert next_due(trigger, NINE) == NINE + timedelta(hours=1)


def test_planning_again_keeps_the_phase_unless_a_new_one_begins():
    trigger = planned(poll(60), NINE)
    later = NINE + timedelta(seconds=90)
    assert planned(trigger, later, anew=False).next_trigger_at == NINE + timedelta(seconds=120)
    assert planned(trigger, later).next_trigger_at == NINE + timedelta(seconds=150)


def test_planning_keeps_what_a_poller_saw():
    trigger = planned(poll(60, state={"seen": {"etag": "1"}}), NINE)
    assert trigger.state["seen"] == {"etag": "1"}


# --- what was missed -----------------------------------------------------------------------------------


@given(cron=CRONS, zone=ZONES, first=TIMES, days=st.integers(0, 40), rows=st.integers(1, 50))
def test_no_due_time_of_a_schedule_is_left_out_or_counted_twice(
    cron: str, zone: str, first: datetime, days: int, rows: int
):
    trigger = schedule(cron, zone)
    start = next_due(trigger, first)
    assert start is not None
    until = min(start + timedelta(days=days), start + timedelta(hours=40 if "*" in cron[:3] else 1000))
    found = dues(trigger, start, until, rows=rows)
    chain = [start]
    while (following := next_due(trigger, chain[-1])) is not None and following <= until:
        chain.append(following)
    assert list(found.newest) == chain[-rows:]
    assert (found.older.count if found.older else 0) == max(0, len(chain) - rows)
    assert found.following == following
    if found.older:
        assert (found.older.due_at, found.older.until_at) == (chain[0], chain[-rows - 1])


@given(seconds=INTERVALS, gone=st.integers(0, 10**9), rows=st.integers(1, 2000))
def test_no_due_time_of_a_poller_is_left_out_or_counted_twice(seconds: int, gone: int, rows: int):
    trigger = planned(poll(seconds), NINE)
    first = trigger.next_trigger_at
    assert first is not None
    until = first + timedelta(seconds=gone)
    found = dues(trigger, first, until, rows=rows)
    older = found.older.count if found.older else 0
    step = timedelta(seconds=seconds)
    assert older + len(found.newest) == gone // seconds + 1
    assert len(found.newest) == min(rows, gone // seconds + 1)
    assert found.newest[-1] <= until < found.newest[-1] + step == found.following
    if found.older:
        assert found.older.until_at == found.newest[0] - step


def test_a_year_of_every_second_is_counted_without_being_walked():
    trigger = planned(poll(1), NINE)
    assert trigger.next_trigger_at is not None
    found = dues(trigger, trigger.next_trigger_at, NINE + timedelta(days=365))
    assert len(found.newest) == ROWS
    assert found.older is not None
    assert found.older.count == 365 * 86_400 - ROWS


def verdicts(catch_up: str | None, ages_minutes: list[float], **fields: object) -> list[bool]:
    """Whether each due time fires, oldest first, when the loop begins to look now."""
    config = {"catch_up": catch_up} if catch_up else {}
    trigger = schedule("* * * * *", **config)
    ages = sorted(ages_minutes, reverse=True)
    moments = tuple(NINE - timedelta(minutes=age) for age in ages)
    found = dues(trigger, moments[0], moments[0]).__class__(moments, None, None)
    return [due.reason is None for due in decided(trigger, found, NINE)]


@pytest.mark.parametrize("policy", [None, "once"])
def test_of_missed_times_the_newest_fires_once(policy: str | None):
    assert verdicts(policy, [300, 240, 180, 120]) == [False, False, False, True]


def test_no_missed_time_fires_where_a_trigger_skips_them():
    assert verdicts("skip", [300, 240, 180]) == [False, False, False]


def test_all_missed_times_fire_where_a_trigger_wants_them_up_to_a_limit():
    assert verdicts("all", [300, 240]) == [True, True]
    many = verdicts("all", [60.0 * n for n in range(2, CATCH_UP_LIMIT + 5)])
    assert many == [False] * 3 + [True] * CATCH_UP_LIMIT


@pytest.mark.parametrize("policy", ["once", "skip", "all"])
def test_a_time_of_the_last_minute_is_late_and_fires_whatever_the_policy(policy: str):
    assert verdicts(policy, [MISSED_SECONDS / 60, 0.5, 0]) == [True, True, True]


def test_a_time_that_came_while_somebody_looked_is_late_and_not_missed():
    trigger = schedule(catch_up="skip")
    due = NINE - timedelta(hours=2)
    (late,) = decided(trigger, dues(trigger, due, due), due - timedelta(seconds=1))
    assert late.reason is None


def test_a_catch_up_that_somebody_else_wrote_counts_as_once():
    assert verdicts("nonsense", [300, 240]) == [False, True]


def test_a_skip_says_what_was_missed_and_what_runs_instead():
    trigger = schedule(catch_up="once")
    old, new = decided(trigger, dues(trigger, NINE - timedelta(hours=1), NINE), NINE + timedelta(hours=1))
    assert (
        old.reason
        == "Missed: nobody fired triggers at that time; the newest missed time runs instead "
        + ("(catch_up=once).")
    )
    assert new.reason is None


# --- configurations ------------------------------------------------------------------------------------


def test_a_schedule_gets_the_zone_that_it_does_not_name():
    assert checked("schedule", {"cron": " 0  9 * * 1 "}, "Europe/Berlin") == {
        "cron": "0 9 * * 1",
        "timezone": "Europe/Berlin",
    }


@pytest.mark.parametrize(
    ("kind", "config", "says"),
    [
        ("schedule", {}, "needs a cron expression"),
        ("schedule", {"cron": 5}, "needs a cron expression"),
        ("schedule", {"cron": "0 0 30 2 *"}, "never fires"),
        ("schedule", {"cron": "0 9 * * *", "timezone": "Europe/Berlim"}, "Europe/Berlin"),
        ("schedule", {"cron": "0 9 * * *", "timezone": 3}, "time zone"),
        ("schedule", {"crn": "0 9 * * *"}, "Did you mean “cron”?"),
        ("schedule", {"cron": "0 9 * * *", "catch_up": "maybe"}, "once, skip or all"),
        ("polling", {}, "“interval_seconds” is missing"),
        ("polling", {"interval_seconds": 0}, "1 or more"),
        ("polling", {"interval_seconds": 1.5}, "whole number"),
        ("polling", {"interval_seconds": True}, "whole number"),
        ("polling", {"interval_seconds": 10**12}, "ten years"),
        ("polling", {"interval": 60}, "Did you mean “interval_seconds”?"),
        ("polling", {"interval_seconds": 60, "url": "file:///etc/passwd"}, "no http or https address"),
        ("polling", {"interval_seconds": 60, "url": "http://"}, "no http or https address"),
        ("polling", {"interval_seconds": 60, "url": "http://a b/"}, "no http or https address"),
        ("polling", {"interval_seconds": 60, "url": "http://a:99999/"}, "no http or https address"),
        ("polling", {"interval_seconds": 60, "url": 7}, "no http or https address"),
        ("polling", {"interval_seconds": 60, "url": "https://ann:pw@example.com"}, "stored in the clear"),
        ("polling", {"interval_seconds": 60, "url": "https://x.example/\ud800"}, "half a character"),
        ("webhook", {"path": "\ud800"}, "half a character"),
        ("webhook", {"\udfff": "orders"}, "half a character"),
        ("webhook", {"path": 3}, "“path” is a text"),
        ("webhook", {"methods": ["FETCH"]}, "HTTP methods"),
        ("webhook", {"cron": "0 9 * * *"}, "no setting “cron”"),
        ("manual", {"cron": "0 9 * * *"}, "a person starts it"),
        ("cron", {}, "no trigger type “cron”"),
        ("shedule", {}, "Did you mean “schedule”?"),
        ({}, {}, "no trigger type"),
        ("manual", ["cron"], "no mapping"),
    ],
)
def test_a_config_that_cannot_work_is_refused_with_the_next_step(kind: object, config: object, says: str):
    with pytest.raises(InvalidInput) as caught:
        checked(kind, config, "UTC")  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_what_designs_and_imports_say_of_a_webhook_is_kept():
    config = {"path": "orders/new", "methods": ["POST", "get"]}
    assert checked("webhook", config, "UTC") == config


def test_a_setting_of_none_is_one_that_was_not_given():
    assert checked("polling", {"interval_seconds": 60, "url": None}, "UTC") == {"interval_seconds": 60}
