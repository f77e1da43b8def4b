"""Sentences as people write them: what a design without a model makes of each, and what it says that it cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from personas_nb.design.designer import DesignRequest
from personas_nb.design.feasibility import assess
from personas_nb.design.offline import OfflineDesigner
from personas_nb.design.prohibitions import forbidden_tools
from personas_nb.design.schedules import find_schedules
from personas_nb.design.watching import watched
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import DesignResult, SuggestedTrigger
from personas_nb.entities.tool import ToolDefinition
from personas_nb.store.database import Store

ZONE = "Europe/Berlin"


class Case(NamedTuple):
    sentence: str
    expected: dict[str, list[str]]


def cases() -> list[Case]:
    found: list[Case] = []
    text = Path(__file__).with_name("design_sentences.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("»"):
            found.append(Case(line[1:].strip(), {}))
        elif line.startswith("  "):
            kind, _, words = line.strip().partition(": ")
            found[-1].expected[kind] = words.split("; ") if kind == "triggers" else words.split()
    return found


CASES = cases()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("catalog"))
    yield store
    store.close()


def designed(store: Store, sentence: str) -> DesignResult:
    request = DesignRequest(
        instruction=sentence,
        kind="instruction",
        text=sentence,
        tools=tuple(store.table("tools", ToolDefinition).find()),
        connectors=tuple(store.table("connectors", Connector).find()),
        timezone=ZONE,
    )
    answer = asyncio.run(OfflineDesigner(store).design(request))
    assert answer.result is not None, answer.question
    return answer.result


def said(trigger: SuggestedTrigger) -> str:
    config = trigger.config
    if trigger.trigger_type == "polling":
        return f"{config['interval_seconds']} s {config.get('url', '')}".strip()
    if trigger.trigger_type == "webhook":
        return "webhook"
    zone = config["timezone"]
    return config["cron"] if zone == ZONE else f"{config['cron']} {zone}"


def test_there_are_enough_sentences_and_no_two_are_the_same():
    assert len({case.sentence for case in CASES}) == len(CASES) >= 80


@pytest.mark.parametrize("case", CASES, ids=[case.sentence[:60] for case in CASES])
def test_a_sentence_gets_its_triggers_tools_and_connectors(store: Store, case: Case):
    result = designed(store, case.sentence)
    events = [
        f"{one.event_type}<{one.source_filter}" if one.source_filter else one.event_type
        for one in result.suggested_event_subscriptions
    ]
    found = {
        "triggers": [said(one) for one in result.suggested_triggers],
        "events": events,
        "tools": list(result.suggested_tools),
        "connectors": [one.name for one in result.suggested_connectors],
        "channels": [one.type for one in result.suggested_notification_channels],
    }
    assert {kind: names for kind, names in found.items() if names} == case.expected


@pytest.mark.parametrize("case", CASES, ids=[case.sentence[:60] for case in CASES])
def test_what_is_designed_can_be_applied(store: Store, case: Case):
    tools, connectors = (
        store.table("tools", ToolDefinition).find(),
        store.table("connectors", Connector).find(),
    )
    found = assess(designed(store, case.sentence), tools=tools, connectors=connectors, timezone=ZONE)
    assert found.overall in ("ready", "partial")
    assert all(issue.remedy for issue in found.issues)


# ── what cannot be said ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sentence", "cron", "asked", "remedy"),
    [
        ("Every other Tuesday at 10 read a.csv", "0 10 * * 2", "Every other Tuesday", "every 2 weeks"),
        ("Every third Friday at 8 read a.csv", "0 8 * * 5", "Every third Friday", "every 3 weeks"),
        (
            "On the last day of every month at 18:00 read a.csv",
            "0 18 28 * *",
            "On the last day of every month",
            "on the 1st of every month",
        ),
        (
            "Read a.csv on the last Friday of the month",
            "0 9 * * 5",
            "on the last Friday of the month",
            "on the first Friday of every month",
        ),
    ],
)
def test_what_no_cron_can_hold_is_declared_with_the_nearest_and_another_way(
    store: Store, sentence: str, cron: str, asked: str, remedy: str
):
    result = designed(store, sentence)
    (trigger,) = result.suggested_triggers
    assert trigger.config["cron"] == cron
    tools = store.table("tools", ToolDefinition).find()
    (issue,) = assess(result, tools=tools, connectors=(), timezone=ZONE).issues
    assert issue.problem.startswith(f"One cron cannot say “{asked}”; this runs ")
    assert issue.remedy == f'%persona refine "{remedy}"'
    assert not issue.blocking


def test_the_other_way_keeps_the_other_schedules(store: Store):
    result = designed(store, "Every other Tuesday at 10 and every Friday at 16:00, read a.csv")
    assert result.suggested_triggers[0].alternative == "every 2 weeks and every Friday at 16:00"
    again = find_schedules(result.suggested_triggers[0].alternative, ZONE)
    assert [one.config.get("cron", one.config.get("interval_seconds")) for one in again] == [
        1_209_600,
        "0 16 * * 5",
    ]


def test_a_schedule_that_is_held_wholly_has_no_limitation(store: Store):
    (trigger,) = designed(store, "On the first Monday of every month at 9 read a.csv").suggested_triggers
    assert (trigger.limitation, trigger.alternative) == ("", "")


def notes(result: DesignResult) -> list[str]:
    return [item for one in result.design_highlights if one.category == "Good to know" for item in one.items]


def test_a_single_time_is_no_trigger_and_it_says_so(store: Store):
    result = designed(store, "Tomorrow at 9 remind me to call Ann")
    assert result.suggested_triggers == ()
    assert notes(result) == [
        "“Tomorrow at 9” is one time, and a trigger repeats: run it by hand then, or say every which day."
    ]


@pytest.mark.parametrize(
    ("sentence", "unread"),
    [
        ("Täglich um 7 Uhr lies a.csv", "Täglich um 7 Uhr"),
        ("Read a.csv on school days at 7:45", "at 7:45"),
        ("Every leap day read a.csv", "Every leap day"),
    ],
)
def test_what_looks_like_a_time_and_was_not_understood_is_said(store: Store, sentence: str, unread: str):
    result = designed(store, sentence)
    assert result.suggested_triggers == ()
    assert notes(result) == [
        f"“{unread}” looks like a time to run and was not understood: say it as “every weekday at 9”."
    ]


@pytest.mark.parametrize(
    "sentence", ["Every day at 8 list what in a.csv starts after 14:00", "Sum up a.csv for each quarter"]
)
def test_a_time_in_the_task_is_no_time_to_run(store: Store, sentence: str):
    assert notes(designed(store, sentence)) == []


def test_a_misspelt_word_of_time_is_read_and_said(store: Store):
    result = designed(store, "Every mornig at 7 read a.csv, ever so carefully")
    assert [said(one) for one in result.suggested_triggers] == ["0 7 * * *"]
    assert notes(result) == ["“mornig” was read as “morning”."]


# ── what is not wanted ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "refusal",
    ["do not send anything at weekends", "no mails on Saturdays and Sundays", "leave me alone at weekends"],
)
def test_days_that_are_not_wanted_leave_the_schedule_and_the_task(store: Store, refusal: str):
    result = designed(store, f"Every day at 8 read my inbox and mail me a digest; {refusal}.")
    assert [said(one) for one in result.suggested_triggers] == ["0 8 * * 1-5"]
    assert "weekend" not in result.structured_prompt.instructions


def test_days_that_no_trigger_can_leave_out_stay_an_instruction(store: Store):
    result = designed(store, "On the 1st of every month at 8 mail me the report, but not on Sundays")
    assert [said(one) for one in result.suggested_triggers] == ["0 8 1 * *"]
    assert "not on Sundays" in result.structured_prompt.instructions


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("Every day at 9, except on public holidays,", "Do nothing on public holidays."),
        ("Every day at 9, except when the market is closed,", "Do nothing when the market is closed."),
        ("Every day at 9, except Sundays and holidays,", "Do nothing on holidays."),
    ],
)
def test_an_exception_that_no_schedule_can_hold_is_said_and_told_to_the_persona(
    store: Store, words: str, rule: str
):
    result = designed(store, f"{words} read a.csv")
    assert rule in result.structured_prompt.instructions
    (note,) = notes(result)
    assert note.startswith("No schedule can leave out “")


@pytest.mark.parametrize(
    ("sentence", "gone"),
    [
        ("Read my inbox and answer questions, but never send anything", "gmail_send"),
        ("Read a.csv and write a report, but do not write any files", "file_write"),
        ("Look at the weather and read a.csv, and don't go online", "http_request"),
    ],
)
def test_a_tool_that_is_forbidden_is_not_suggested(store: Store, sentence: str, gone: str):
    assert gone not in designed(store, sentence).suggested_tools


@pytest.mark.parametrize(
    "rule",
    [
        "never send anything before I approve",
        "don't send the same mail twice",
        "do not write to the original file",
        "don't forget to send the mail",
        "never use the API more than once a minute",
    ],
)
def test_a_rule_for_using_a_tool_takes_none_away(rule: str):
    assert forbidden_tools([rule]) == frozenset()


def test_what_somebody_is_reminded_to_do_is_not_done(store: Store):
    assert (
        designed(store, "Every Friday remind me to send the report to ada@example.com").suggested_tools == ()
    )


# ── what is to be noticed ───────────────────────────────────────────────────────────────────────────────────


def test_a_page_with_a_time_of_day_keeps_its_schedule(store: Store):
    result = designed(store, "Every day at 9 check whether https://example.com/jobs has changed")
    assert [said(one) for one in result.suggested_triggers] == ["0 9 * * *"]


def test_a_change_by_an_amount_is_no_change_of_a_page():
    text = "Tell me when the rate at https://example.com/rate changes by 2 %"
    assert watched(text, find_schedules(text)) == []


def test_what_nobody_announces_is_looked_for_and_it_says_so(store: Store):
    result = designed(store, "Whenever an invoice arrives by mail, write its amount to invoices.csv")
    assert "interval assumed" in result.suggested_triggers[0].description
    assert notes(result) == ["Nothing announces new mail, so it looks every 15 minutes."]
