"""What a design may cost: how often it starts, and what a run and a month of it come to."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from personas_nb.design.costs import estimated, runs_a_month
from personas_nb.entities.design import DesignResult, SuggestedSettings, SuggestedTrigger
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolDefinition
from personas_nb.settings import Settings, load_settings

NEW_YEAR = date(2027, 1, 1)
TOOL = ToolDefinition(name="file_read", description="Read a file.", effect="none")


def schedule(cron: str) -> SuggestedTrigger:
    return SuggestedTrigger(trigger_type="schedule", config={"cron": cron})


def every(seconds: int, **more: Any) -> SuggestedTrigger:
    return SuggestedTrigger(trigger_type="polling", config={"interval_seconds": seconds, **more})


def design(*triggers: SuggestedTrigger, **fields: Any) -> DesignResult:
    prompt = StructuredPrompt(identity="You watch invoices.", instructions="1. Read invoices.csv.")
    return DesignResult(
        name="Watcher",
        structured_prompt=prompt,
        suggested_tools=("file_read",),
        suggested_triggers=triggers,
        **fields,
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(tmp_path)


@pytest.mark.parametrize(
    ("triggers", "count_a_year"),
    [
        ([schedule("0 9 * * *")], 365),
        ([schedule("0 9,17 * * 1-5")], 2 * 261),
        ([schedule("*/15 * * * *")], 365 * 96),
        ([schedule("0 9 1 */3 *")], 4),
        ([schedule("0 9 */31,2-7 * 1")], 12),
        ([schedule("0 9 1 * 1")], 12 + 52 - 3),  # either day: three firsts of 2027 are Mondays
        ([schedule("0 9 1 * *"), schedule("0 17 15 * *")], 24),
    ],
)
def test_a_schedule_starts_as_often_as_its_days_come(triggers: list[SuggestedTrigger], count_a_year: int):
    found = runs_a_month(triggers, since=NEW_YEAR)
    assert found is not None
    assert round(found * 12) == count_a_year


def test_an_interval_is_counted_in_months_of_a_mean_length():
    found = runs_a_month([every(86_400)])
    assert found == pytest.approx(365.25 / 12)


@pytest.mark.parametrize(
    "triggers",
    [
        [],
        [SuggestedTrigger(trigger_type="webhook")],
        [SuggestedTrigger(trigger_type="manual")],
        [schedule("never")],
    ],
)
def test_what_nobody_can_count_is_not_counted(triggers: list[SuggestedTrigger]):
    assert runs_a_month(triggers) is None


def test_a_run_costs_from_one_short_answer_to_its_budget_and_likely_something_between(settings: Settings):
    cost = estimated(design(schedule("0 9 * * *")), tools=[TOOL], settings=settings)
    assert cost is not None
    assert cost.per_run is not None
    assert cost.likely_usd is not None
    assert 0 < cost.per_run.lower_usd < cost.likely_usd < cost.per_run.upper_usd
    assert cost.per_run.upper_usd == settings.max_budget_usd
    assert cost.rehearsal  # nothing is configured


def test_a_budget_of_the_design_is_the_most_that_a_run_costs(settings: Settings):
    wanted = SuggestedSettings(max_budget_usd=0.05)
    cost = estimated(design(suggested_settings=wanted), tools=[TOOL], settings=settings)
    assert cost is not None
    assert cost.per_run is not None
    assert cost.per_run.upper_usd == 0.05


def test_a_model_without_a_known_price_costs_an_unknown_amount(settings: Settings):
    profile = ModelProfile(provider="ollama", model="our-own-model")
    cost = estimated(design(every(60), suggested_model_profile=profile), tools=[TOOL], settings=settings)
    assert cost is not None
    assert (cost.model, cost.per_run, cost.likely_usd) == ("our-own-model", None, None)
    assert cost.runs_a_month is not None


def test_looking_at_a_page_starts_at_most_that_often(settings: Settings):
    cost = estimated(design(every(600, url="https://example.com")), tools=[TOOL], settings=settings)
    assert cost is not None
    assert cost.is_at_most


def test_no_key_is_needed_and_none_is_used(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    without = estimated(design(), tools=[TOOL], settings=settings)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-0123456789")
    with_key = estimated(design(), tools=[TOOL], settings=settings)
    assert without is not None
    assert with_key is not None
    assert without.model == with_key.model
    assert without.per_run == with_key.per_run
    assert (without.rehearsal, with_key.rehearsal) == (True, False)
