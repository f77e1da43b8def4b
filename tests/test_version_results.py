"""How the runs of each version of a prompt ended: with its numbers, rehearsals apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Turn
from support.studios import persona_of, studio_at

from personas_nb import Studio
from personas_nb.entities.execution import Execution
from personas_nb.store.executions import ExecutionTable
from personas_nb.views.versions import version_card, version_list

DONE = '{"outcome_assessment": {"accomplished": true, "summary": "Done."}}'
NOT_DONE = '{"outcome_assessment": {"accomplished": false, "summary": "No."}}'


def ran(studio: Studio, version: int | None, status: str, **fields: Any) -> None:
    owner = studio.personas.get("watcher")
    ExecutionTable(studio.store).insert(
        Execution(
            persona_id=owner.id, persona_name=owner.name, status=status, persona_version=version, **fields
        )
    )


@pytest.fixture
def studio(home: Path) -> Any:
    with studio_at(home) as studio:
        persona_of(studio)
        studio.personas.update("watcher", system_prompt="You watch invoices closely.")
        yield studio


def test_runs_count_for_the_version_that_they_ran_with(home: Path) -> None:
    with (
        ModelServer([Turn.text(DONE), Turn.text(NOT_DONE), Turn.text(DONE)]) as server,
        studio_at(home, server) as studio,
    ):
        persona_of(studio)
        studio.run("watcher")
        studio.run("watcher")
        studio.personas.update("watcher", system_prompt="You watch invoices closely.")
        studio.run("watcher")
        studio.run("watcher", provider="rehearsal")
        found = studio.versions.results("watcher")
    assert [(one.version, one.rehearsal, one.runs, one.completed, one.incomplete) for one in found] == [
        (2, False, 1, 1, 0),
        (2, True, 1, 1, 0),
        (1, False, 2, 1, 1),
    ]
    assert [one.success_rate for one in found] == [1.0, 1.0, 0.5]
    assert all(one.duration_ms_p50 is not None and one.duration_ms_p50 > 0 for one in found)
    assert found[2].cost_usd_mean is not None


def test_cancelled_runs_count_neither_way_and_open_ones_not_at_all(studio: Studio) -> None:
    for status in ("completed", "failed", "cancelled", "running", "queued", "waiting"):
        ran(studio, 1, status)
    (result,) = studio.versions.results("watcher")
    assert (result.runs, result.cancelled, result.decided, result.success_rate) == (3, 1, 2, 0.5)
    ran(studio, 2, "cancelled")
    assert studio.versions.results("watcher")[0].success_rate is None


def test_a_cost_is_the_mean_of_those_that_are_known(studio: Studio) -> None:
    for cost_usd in (0.01, 0.03, None):
        ran(studio, 1, "completed", cost_usd=cost_usd, duration_ms=100 if cost_usd else 900)
    (result,) = studio.versions.results("watcher")
    assert (result.cost_usd_mean, result.unknown_costs) == (pytest.approx(0.02), 1)
    assert result.duration_ms_p50 == 100
    ran(studio, 2, "completed")
    assert studio.versions.results("watcher")[0].cost_usd_mean is None


def test_tests_of_evals_and_runs_that_never_began_count_for_no_version(studio: Studio) -> None:
    ran(studio, 2, "completed", eval_run_id="e")
    ran(studio, None, "failed")
    assert studio.versions.results("watcher") == []


def test_results_are_a_frame_with_the_same_columns_without_a_run(studio: Studio) -> None:
    empty = studio.versions.frame("watcher")
    ran(studio, 1, "completed", cost_usd=0.5)
    frame = studio.versions.frame("watcher")
    assert list(empty.columns) == list(frame.columns)
    assert frame.loc[0, ["version", "runs", "success_rate", "cost_usd_mean"]].tolist() == [1, 1, 1.0, 0.5]


def test_the_list_says_of_how_many_runs_a_share_is(studio: Studio) -> None:
    for status in ("completed", "completed", "failed"):
        ran(studio, 1, status, cost_usd=0.02, duration_ms=1_500)
    ran(studio, 2, "completed")
    ran(studio, 2, "completed", rehearsal=True, cost_usd=0.0, duration_ms=12)
    versions = studio.versions.list("watcher")
    view = version_list(versions, 2, results=studio.versions.results("watcher"), name="watcher")
    assert "2 of 3 · 67%" in view.text
    assert "$0.0200" in view.text
    assert "unknown" in view.text
    real, _, rehearsed = view.text.partition("Rehearsals")
    assert "12 ms" in rehearsed
    assert "12 ms" not in real


def test_where_production_is_not_current_the_difference_is_offered(studio: Studio) -> None:
    studio.versions.tag("watcher", 1, "production")
    text = version_list(studio.versions.list("watcher"), 2, name="watcher").text
    assert "production is 1, current is 2" in text
    assert "%persona diff watcher production current" in text
    assert "%persona rollback watcher 1" in text


def test_only_the_newest_of_many_versions_are_listed(studio: Studio) -> None:
    for number in range(5):
        studio.personas.update("watcher", system_prompt=f"You watch {number} invoices.")
    text = version_list(studio.versions.list("watcher"), 7, name="watcher", limit=3).text
    assert "… and 4 older: %persona versions watcher --limit 7" in text


def test_a_version_is_shown_whole(studio: Studio) -> None:
    ran(studio, 1, "completed", cost_usd=0.02)
    first = studio.versions.get("watcher", 1)
    text = version_card(
        first, results=studio.versions.results("watcher"), current=2, name="watcher", title="Watcher"
    ).text
    assert "You watch invoices." in text
    assert "1 of 1 · 100% succeeded, $0.0200 a run" in text
    assert "%persona rollback watcher 1" in text
