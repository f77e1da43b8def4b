"""When an imported workflow fires: the times that n8n would have kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.design.formats.n8n.schedules import (
    Due,
    cron_node,
    interval_node,
    poll_times,
    schedule_trigger,
)
from personas_nb.triggers import cron


def rule(**item: Any) -> Due:
    (due,) = schedule_trigger({"rule": {"interval": [item]}})
    return due


def same_fires(one: str, other: str) -> bool:
    after = datetime(2027, 1, 1, tzinfo=UTC)
    return list(cron.fires(one, after, "UTC", 60)) == list(cron.fires(other, after, "UTC", 60))


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, "0 0 * * *"),
        ({"field": "days"}, "0 0 * * *"),
        ({"field": "days", "daysInterval": 1, "triggerAtHour": 12, "triggerAtMinute": 1}, "1 12 * * *"),
        ({"field": "minutes"}, "*/5 * * * *"),
        ({"field": "minutes", "minutesInterval": 1}, "* * * * *"),
        ({"field": "minutes", "minutesInterval": 60}, "0 * * * *"),
        ({"field": "minutes", "minutesInterval": 120}, "0 */2 * * *"),
        ({"field": "hours"}, "0 * * * *"),
        ({"field": "hours", "hoursInterval": 6, "triggerAtMinute": 15}, "15 */6 * * *"),
        ({"field": "weeks"}, "0 0 * * 0"),
        ({"field": "weeks", "triggerAtDay": [1, 3, 7], "triggerAtHour": 9}, "0 9 * * 0,1,3"),
        ({"field": "weeks", "triggerAtDay": []}, "0 0 * * *"),
        ({"field": "months"}, "0 0 1 * *"),
        ({"field": "months", "triggerAtDayOfMonth": 31, "triggerAtHour": 18}, "0 18 31 * *"),
        ({"field": "cronExpression", "expression": "0 8 * * 1-5"}, "0 8 * * 1-5"),
        ({"field": "cronExpression", "expression": " 0  0 6-12 ? * MON-FRI "}, "0 6-12 * * 1-5"),
        ({"field": "cronExpression", "expression": "@daily"}, "0 0 * * *"),
        ({"field": "cronExpression", "expression": "=0 9 * * 1"}, "0 9 * * 1"),
        ({"field": "cronExpression", "expression": "={{ '0 30 9 * * 1-5' }}"}, "30 9 * * 1-5"),
        ({"field": "days", "triggerAtHour": "=9"}, "0 9 * * *"),
    ],
    ids=str,
)
def test_a_rule_keeps_its_times(item: dict[str, Any], expected: str) -> None:
    due = rule(**item)
    assert same_fires(due.cron, expected)
    assert due.problem == ""


@pytest.mark.parametrize(
    ("item", "seconds"),
    [
        ({"field": "seconds"}, 30),
        ({"field": "seconds", "secondsInterval": 90}, 90),
        ({"field": "minutes", "minutesInterval": 45}, 2_700),
        ({"field": "minutes", "minutesInterval": 100}, 6_000),
        ({"field": "hours", "hoursInterval": 5}, 18_000),
        ({"field": "hours", "hoursInterval": 48}, 172_800),
        ({"field": "days", "daysInterval": 3, "triggerAtHour": 13}, 259_200),
        ({"field": "weeks", "weeksInterval": 2, "triggerAtDay": [1]}, 1_209_600),
        ({"field": "cronExpression", "expression": "*/10 * * * * *"}, 10),
    ],
    ids=str,
)
def test_a_period_that_cron_cannot_hold_is_a_period(item: dict[str, Any], seconds: int) -> None:
    due = rule(**item)
    assert (due.cron, due.interval_seconds, due.problem) == ("", seconds, "")


def test_every_second_week_on_two_days_is_every_week_and_asks() -> None:
    due = rule(field="weeks", weeksInterval=2, triggerAtDay=[1, 3], triggerAtHour=9)
    assert due.cron == "0 9 * * 1,3"
    assert due.problem == "n8n fired only in every 2. week; no schedule holds that, so it is every week."


def test_every_third_month_counts_from_january_and_says_so() -> None:
    due = rule(field="months", monthsInterval=3)
    assert due.cron == "0 0 1 1,4,7,10 *"
    assert "counted from January" in due.problem


@pytest.mark.parametrize(
    ("count", "months", "said"), [(5, "1,6,11", "counted from January"), (24, "1", "every January")]
)
def test_months_that_do_not_divide_the_year_fire_no_oftener_than_in_n8n_s_cron(
    count: int, months: str, said: str
) -> None:
    due = rule(field="months", monthsInterval=count)
    assert due.cron == f"0 0 1 {months} *"
    assert said in due.problem


def test_second_zero_needs_no_word() -> None:
    assert rule(field="cronExpression", expression="00 30 9 * * *") == Due("30 9 * * *")


def test_a_month_without_a_31st_is_told() -> None:
    assert rule(field="months", triggerAtDayOfMonth=31).note == "only months that have a day 31"


def test_a_computed_cron_is_explained_and_not_evaluated() -> None:
    due = rule(field="cronExpression", expression="=0 {{ Math.floor(Math.random() * 11) }} 8-23 * * *")
    assert (due.cron, due.interval_seconds) == ("", 0)
    assert "Its cron expression is computed" in due.problem
    assert "what this gives: Math.floor(Math.random() * 11)" in due.problem


def test_a_number_that_is_written_as_an_expression_is_read_and_told() -> None:
    due = rule(field="weeks", triggerAtDay=[2, 4, 0], triggerAtHour="={{ 12 }}")
    assert due.cron == "0 12 * * 0,2,4"
    assert due.problem == "`triggerAtHour` is written as an expression and was read as 12."


@pytest.mark.parametrize(
    "value", [{}, [], True, "noon", -1, 60, 1.5, float("nan"), float("inf"), 10**400, "={{ $json.m }}"]
)
def test_a_minute_that_cannot_be_read_is_zero_and_asks(value: Any) -> None:
    due = rule(field="hours", triggerAtMinute=value)
    assert due.cron == "0 * * * *"
    assert "0 stands in for it" in due.problem


def test_numbers_as_text_and_with_a_fraction_of_zero_are_read() -> None:
    due = rule(field="days", triggerAtHour="7", triggerAtMinute=30.0)
    assert (due.cron, due.problem) == ("30 7 * * *", "")


@pytest.mark.parametrize(
    "text", ["0 9 * *", "61 * * * *", "0 0 31 2 *", "* * * * * * *", "every day", "", None, 5]
)
def test_a_cron_that_cannot_be_used_asks_for_a_schedule(text: Any) -> None:
    due = rule(field="cronExpression", expression=text)
    assert (due.cron, due.interval_seconds) == ("", 0)
    assert due.problem


def test_seconds_of_a_cron_are_left_out_or_told() -> None:
    assert (
        rule(field="cronExpression", expression="30 15 9 * * *").note
        == "at the full minute; n8n fired at second 30"
    )
    assert "several times a minute" in rule(field="cronExpression", expression="0,30 * 9 * * *").problem


def test_a_rule_of_an_unknown_unit_asks() -> None:
    assert "not known" in rule(field="fortnights").problem


def test_a_trigger_without_a_rule_is_daily_at_midnight() -> None:
    assert [due.cron for due in schedule_trigger({})] == ["0 0 * * *"]


def test_several_rules_are_several_times() -> None:
    dues = schedule_trigger({"rule": {"interval": [{"triggerAtHour": 9}, {"triggerAtHour": 16}, 7]}})
    assert [due.cron for due in dues] == ["0 9 * * *", "0 16 * * *", ""]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, "0 14 * * *"),
        ({"hour": 9}, "0 9 * * *"),
        ({"mode": "everyMinute"}, "* * * * *"),
        ({"mode": "everyHour", "minute": 15}, "15 * * * *"),
        ({"mode": "everyHour"}, "0 * * * *"),
        ({"mode": "everyWeek", "hour": 9, "weekday": "6"}, "0 9 * * 6"),
        ({"mode": "everyWeek"}, "0 14 * * 1"),
        ({"mode": "everyMonth", "hour": 22}, "0 22 1 * *"),
        ({"mode": "everyX", "unit": "minutes", "value": 30}, "*/30 * * * *"),
        ({"mode": "everyX", "value": 1}, "0 * * * *"),
        ({"mode": "everyX"}, "0 */2 * * *"),
        ({"mode": "custom", "cronExpression": "0 0 6-12 * * 1-5"}, "0 6-12 * * 1-5"),
    ],
    ids=str,
)
def test_the_old_cron_node_has_its_own_defaults(item: dict[str, Any], expected: str) -> None:
    (due,) = cron_node({"triggerTimes": {"item": [item]}})
    assert same_fires(due.cron, expected)


def test_every_48_hours_is_a_period() -> None:
    (due,) = cron_node({"triggerTimes": {"item": [{"mode": "everyX", "value": 48}]}})
    assert due.interval_seconds == 172_800


@pytest.mark.parametrize("parameters", [{}, {"triggerTimes": {}}, {"triggerTimes": {"item": []}}])
def test_a_cron_node_without_times_never_fires(parameters: dict[str, Any]) -> None:
    assert cron_node(parameters) == []


def test_a_poller_looks_every_minute_unless_it_says_when() -> None:
    assert [due.cron for due in poll_times({})] == ["* * * * *"]
    assert [due.cron for due in poll_times({"pollTimes": {"item": [{"mode": "everyMinute"}, {}]}})] == [
        "* * * * *",
        "0 14 * * *",
    ]
    assert poll_times({"pollTimes": {}}) == []


@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        ({}, 1),
        ({"interval": 20}, 20),
        ({"interval": 2, "unit": "minutes"}, 120),
        ({"interval": 3, "unit": "hours"}, 10_800),
    ],
)
def test_the_interval_node_is_a_period(parameters: dict[str, Any], seconds: int) -> None:
    assert interval_node(parameters) == [Due(interval_seconds=seconds)]


@pytest.mark.parametrize("parameters", [{"interval": 0}, {"interval": "x"}, {"interval": 1, "unit": "moons"}])
def test_an_interval_that_cannot_be_read_is_no_period_of_one_second(parameters: dict[str, Any]) -> None:
    (due,) = interval_node(parameters)
    assert (due.cron, due.interval_seconds) == ("", 0)
    assert due.problem


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["field", "mode", "unit", "value", "hour", "minute", "weekday", "dayOfMonth", "triggerAtHour", "triggerAtDay",
     "daysInterval", "monthsInterval", "hoursInterval", "minutesInterval", "expression", "cronExpression"]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "days",
        "weeks",
        "months",
        "hours",
        "minutes",
        "seconds",
        "cronExpression",
        "everyX",
        "custom",
        "everyDay",
    ]
)


@given(items=st.lists(st.dictionaries(FIELDS, WORDS | ANYTHING, max_size=6) | ANYTHING, max_size=3))
def test_whatever_a_rule_says_its_times_can_be_used_or_it_asks(items: list[Any]) -> None:
    dues = schedule_trigger({"rule": {"interval": items}})
    dues += cron_node({"triggerTimes": {"item": items}})
    for due in dues:
        if due.cron:
            cron.parse(due.cron)
        assert due.cron or due.interval_seconds > 0 or due.problem
        assert not (due.cron and due.interval_seconds)
