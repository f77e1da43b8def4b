"""What a run did against what was expected of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.design.evals.cases import expectations
from personas_nb.design.evals.checks import Observed, checks_of, score_of
from personas_nb.design.evals.expressions import matches
from personas_nb.entities.eval import Check, EvalCase, Expectations
from personas_nb.entities.tool import ToolCallStep
from personas_nb.errors import InvalidInput, NotFound

READ = ToolCallStep(tool="file_read", output="region,eur")
FAILED = ToolCallStep(tool="http_request", error="It timed out.")
TOOLS = ("file_read", "file_write", "http_request")


def check(expect: Expectations, seen: Observed, kind: str) -> Check:
    return next(one for one in checks_of(expect, seen) if one.kind == kind)


def seen(**fields) -> Observed:
    return Observed(**{"status": "completed", "text": "North leads with 1,200 EUR.", **fields})


def test_a_run_that_does_all_that_is_expected_scores_one():
    expect = Expectations(
        tools=("file_read",),
        no_tools=("file_write",),
        messages=("user_message",),
        no_messages=("emit_event",),
        contains=("north  LEADS",),
        excludes=("south",),
        matches=(r"[\d,]+ EUR",),
        max_cost_usd=0.05,
    )
    checks = checks_of(expect, seen(steps=(READ,), messages=("user_message",), cost_usd=0.01))
    assert [one.reason for one in checks if not one.passed] == []
    assert score_of(checks) == 1.0


@pytest.mark.parametrize(
    ("expect", "kind", "reason"),
    [
        (Expectations(tools=("file_write",)), "tools", "It was not called."),
        (Expectations(tools=("http_request",)), "tools", "Its call failed: It timed out."),
        (Expectations(no_tools=("file_read",)), "no_tools", "It was called once."),
        (Expectations(messages=("user_message",)), "messages", "It was not sent."),
        (Expectations(no_messages=("emit_event",)), "no_messages", "It was sent."),
        (Expectations(contains=("south",)), "contains", "The answer lacks it."),
        (Expectations(excludes=("north",)), "excludes", "The answer has it."),
        (Expectations(matches=("^South",)), "matches", "Nothing in the answer matches."),
        (Expectations(max_cost_usd=0.001), "max_cost_usd", "It cost $0.0100."),
        (Expectations(status="incomplete"), "status", "It is completed."),
    ],
)
def test_what_is_missing_is_said(expect, kind, reason):
    one = check(expect, seen(steps=(READ, FAILED), messages=("emit_event",), cost_usd=0.01), kind)
    assert (one.passed, one.reason) == (False, reason)


def test_texts_and_costs_of_a_rehearsal_are_not_told_and_do_not_count():
    expect = Expectations(contains=("South",), matches=("x",), max_cost_usd=0.0, tools=("file_read",))
    checks = checks_of(expect, seen(steps=(READ,), rehearsal=True, cost_usd=0.0))
    assert {one.kind for one in checks if one.passed is None} == {"contains", "matches", "max_cost_usd"}
    assert score_of(checks) == 1.0


def test_a_cost_that_nobody_knows_is_neither_met_nor_missed():
    assert check(Expectations(max_cost_usd=1.0), seen(cost_usd=None), "max_cost_usd").passed is None


def test_nothing_that_could_be_told_is_no_score():
    assert score_of([Check(kind="contains", wanted="a", passed=None)]) is None


def test_a_pattern_that_never_ends_is_given_up_and_the_others_say_so():
    begun = time.monotonic()
    found = matches([r"lead", r"(a+)+$", "x"], "a" * 4000 + "! leads", limit_seconds=0.5)
    assert [is_found for is_found, _ in found] == [True, None, None]
    assert "longer than 0.5 s" in found[1][1]
    assert "not tried" in found[2][1]
    assert time.monotonic() - begun < 60  # it would take years


def test_a_pattern_that_would_take_all_memory_does_not_take_ours():
    assert matches(["(((a{100}){100}){100}){100}", "b"], "ab")[1] == (True, "b")


@given(st.text(max_size=40).filter(str.strip))
def test_a_text_contains_itself_in_any_case_and_spacing(text):
    spaced = "\n ".join(text.upper().split())
    expect, answer = Expectations(contains=(text,)), seen(text=f"before {spaced} after")
    if text.upper().casefold() == text.casefold():  # not so for every letter of the world
        assert check(expect, answer, "contains").passed


# What may be expected


def test_one_text_stands_for_a_list_of_one():
    assert expectations({"contains": "North", "tools": "file_read"}, TOOLS).contains == ("North",)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"contain": "North"}, "no field “contain”"),
        ({"messages": ["user_mesage"]}, "no message “user_mesage”"),
        ({"matches": ["("]}, "no regular expression"),
        ({"matches": ["a" * 2000]}, "1,000 are allowed"),
        ({"contains": [" "]}, "is empty"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"status": "great"}, "status"),
    ],
)
def test_what_cannot_be_expected_is_refused_with_the_reason(given_, said):
    with pytest.raises(InvalidInput, match=r".") as problem:
        expectations(given_, TOOLS)
    assert said in str(problem.value)


def test_a_tool_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(NotFound, match="file_read"):
        expectations({"tools": ["file_reed"]}, TOOLS)


def test_the_digest_changes_with_what_is_asked_or_expected_and_with_nothing_else():
    case = EvalCase(owner_id="p", name="north", input="Which?", expect=Expectations(contains=("North",)))
    assert case.changed(name="other", owner_id="q").digest == case.digest
    assert case.changed(input="Who?").digest != case.digest
    assert case.changed(expect=Expectations()).digest != case.digest
