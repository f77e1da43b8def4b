"""Budget rules over real runs: refused before any request, settled at what was spent, over processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Turn, Usage
from support.studios import line_of, persona_of, python, settings_for, studio_at, wait_until

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
from personas_nb.entities.execution import Execution
from personas_nb.metrics.budgets import ROUNDING_USD

CAP_USD = 0.5
UNKNOWN = {"model": "our-own-model"}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer([Turn.text("Done.")], repeat_last=True) as started:
        yield started


@pytest.fixture
def studio(home: Path, server: ModelServer) -> Iterator[Studio]:
    """A studio with Watcher, whose runs may cost half a dollar."""
    with studio_at(home, server) as opened:
        persona_of(opened, max_budget_usd=CAP_USD)
        yield opened


def worst_case_usd(studio: Studio) -> float:
    """What a run of Watcher reserves."""
    run = studio.run("watcher")
    return float(reservation(studio, run)["amount_usd"])


def reservation(studio: Studio, run: Execution) -> dict[str, Any]:
    with studio.store.read() as db:
        row = db.execute("select * from budget_reservations where execution_id = ?", [run.id]).fetchone()
    return dict(row) if row else {}


def lifted(studio: Studio) -> float:
    """What was used until now, so that a limit can be set above it."""
    rule = studio.budgets.add("all", 1_000_000)
    used = studio.budgets.used(rule)
    studio.budgets.remove(rule.id)
    return used


# --- refused --------------------------------------------------------------------------------------------


def test_a_refused_run_asks_nobody_costs_nothing_and_is_not_tried_again(studio: Studio, server: ModelServer):
    rule = studio.budgets.add("persona", 0.001, name="watcher")
    runs = [studio.run("watcher") for _ in range(6)]
    assert {(run.status, run.error_kind, run.cost_usd) for run in runs} == {("failed", "budget", 0.0)}
    assert "The budget of 0.0010 USD a day for Watcher does not allow this run" in (runs[0].error or "")
    assert server.requests == []
    assert len(studio.executions.list()) == 6
    assert studio.budgets.used(rule) == 0
    (issue,) = studio.healing.list()
    assert (issue.title, issue.occurrences) == ("A budget rule does not allow it.", 6)
    assert studio.personas.get("watcher").enabled
    studio.budgets.remove(rule.id)
    assert studio.run("watcher").status == "completed"


def test_the_budget_must_be_free_for_a_retry_too(home: Path):
    with ModelServer([Turn.error(429, retry_after=1)]) as server, studio_at(home, server) as studio:
        failed = studio.run(persona_of(studio))
        studio.budgets.add("all", 0)
        retried = studio.healing.table.retry_of(failed.id)
        assert retried is not None
        retry = studio.executions.handle(retried).wait(20)
        assert (retry.status, retry.error_kind, retry.cost_usd) == ("failed", "budget", 0.0)
        assert len(server.requests) == 1
        assert [issue.execution_id for issue in studio.healing.list()] == [retry.id]


def test_an_unknown_price_is_refused_by_a_rule_that_blocks(home: Path, server: ModelServer):
    with studio_at(home, server, "openai", **UNKNOWN) as studio:
        studio.budgets.add("all", 1000)
        run = studio.run(persona_of(studio))
        assert (run.status, run.error_kind, run.cost_usd) == ("failed", "budget", 0.0)
        assert "allows no run whose price is unknown" in (run.error or "")
        assert server.requests == []


@pytest.mark.parametrize("has_alert", [True, False])
def test_an_unknown_price_runs_under_a_limit_of_tokens_where_nothing_blocks(home: Path, has_alert: bool):
    many = Turn.tools(("file_read", {"path": "a"}), usage=Usage(input_tokens=900, output_tokens=600))
    with (
        ModelServer([many], repeat_last=True) as server,
        studio_at(home, server, "openai", unknown_price_token_limit=20_000, **UNKNOWN) as studio,
    ):
        rule = studio.budgets.add("all", 1000, action="alert") if has_alert else None
        run = studio.run(persona_of(studio, "file_read"))
        assert (run.status, run.error_kind, run.cost_usd) == ("failed", "tokens", None)
        assert server.requests
        warned = [warning for warning in run.warnings if "does not count this run" in warning]
        assert len(warned) == has_alert
        if rule is not None:
            assert studio.budgets.used(rule) == 0


def test_a_rule_that_alerts_warns_on_the_run_and_lets_it_go_on(studio: Studio):
    studio.budgets.add("all", 0.001, action="alert")
    run = studio.run("watcher")
    assert run.status == "completed"
    assert len(run.warnings) == 1
    assert run.warnings[0].startswith("The budget of 0.0010 USD a day for all personas might be exceeded")


def test_a_rehearsal_knows_no_rules(home: Path):
    with studio_at(home) as studio:
        rule = studio.budgets.add("all", 0)
        run = studio.run(persona_of(studio), provider="rehearsal")
        assert (run.status, run.rehearsal, run.warnings) == ("completed", True, ())
        assert (studio.budgets.used(rule), reservation(studio, run)) == (0, {})


# --- settled --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 429, 529])
def test_a_request_that_was_refused_gives_all_back(home: Path, status: int):
    turn = Turn.error(status, retry_after=60)
    with ModelServer([turn]) as server, studio_at(home, server) as studio:
        rule = studio.budgets.add("all", 100)
        run = studio.run(persona_of(studio))
        assert (run.status, run.cost_usd) == ("failed", 0.0)
        assert studio.budgets.used(rule) == 0


def test_a_first_request_that_its_own_budget_refuses_gives_all_back(studio: Studio, server: ModelServer):
    rule = studio.budgets.add("all", 100)
    run = studio.run("watcher", max_budget_usd=0.0001)
    assert (run.status, run.error_kind, server.requests) == ("failed", "budget", [])
    assert run.cost_usd == 0.0
    assert studio.budgets.used(rule) == 0


def test_a_run_that_is_cut_off_settles_at_all_it_reserved(home: Path):
    turn = Turn.text("one two three", chunk=4).hang_after(1)
    with ModelServer([turn], repeat_last=True) as server, studio_at(home, server) as studio:
        rule = studio.budgets.add("all", 1000)
        persona = persona_of(studio, max_budget_usd=CAP_USD)
        handle = studio.start(persona)
        wait_until(
            lambda: any(event.type == "text" for _s, _a, event in studio.executions.recorded(handle.id))
        )
        run = handle.cancel()
        assert run.status == "cancelled"
        kept = reservation(studio, run)
        assert kept["settled_usd"] == (run.cost_usd if run.cost_usd is not None else kept["amount_usd"]) > 0
        assert studio.budgets.used(rule) == kept["settled_usd"]


def test_a_run_that_is_cancelled_in_the_queue_reserves_nothing(home: Path):
    with ModelServer([Turn.hang()], repeat_last=True) as server, studio_at(home, server) as studio:
        studio.budgets.add("all", 1000)
        persona = persona_of(studio)
        first, second = studio.start(persona), studio.start(persona)
        wait_until(lambda: server.requests)
        assert reservation(studio, second.cancel()) == {}
        first.cancel()


RUNNING = """
    import sys
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    handle = studio.start("watcher")
    next(event for event in handle.events() if event.type == "text")
    print(handle.id, flush=True)
    input()
"""


def test_a_run_whose_process_was_killed_settles_at_all_it_reserved(home: Path):
    turn = Turn.text("one two three", chunk=4).hang_after(1)
    with ModelServer([turn]) as server, studio_at(home, server) as studio:
        rule = studio.budgets.add("all", 1000)
        persona_of(studio, max_budget_usd=CAP_USD)
        with python(RUNNING, str(home), env=settings_for(server)) as process:
            run = studio.executions.get(line_of(process))
            process.kill()
            process.wait()
        assert recover(studio.store) == [run.id]
        kept = reservation(studio, run)
        assert kept["settled_usd"] == kept["amount_usd"] > CAP_USD
        assert studio.budgets.used(rule) == kept["amount_usd"]


# --- many at once ---------------------------------------------------------------------------------------


def test_of_twenty_waiting_runs_as_many_begin_as_the_rule_has_money_for(home: Path):
    with ModelServer([Turn.hang()], repeat_last=True) as server, studio_at(home, server) as studio:
        persona = persona_of(studio, max_budget_usd=CAP_USD, max_concurrent=20)
        probe = studio.start(persona)
        wait_until(lambda: server.requests)
        worst = float(reservation(studio, probe.cancel())["amount_usd"])
        rule = studio.budgets.add("all", lifted(studio) + 3 * worst)
        handles = [studio.start(persona) for _ in range(20)]
        wait_until(lambda: len(studio.executions.list("watcher", status="failed")) == 17)
        assert len(server.requests) == 1 + 3
        assert studio.budgets.used(rule) <= rule.limit_usd + ROUNDING_USD
        assert {run.error_kind for run in studio.executions.list(status="failed")} == {"budget"}
        for handle in handles:
            handle.cancel()
        (issue,) = studio.healing.list()
        assert issue.occurrences == 17
        assert studio.personas.get("watcher").enabled


def test_one_after_the_other_all_run_that_the_rest_of_the_money_allows(studio: Studio):
    worst = worst_case_usd(studio)
    rule = studio.budgets.add("all", lifted(studio) + 1.5 * worst)
    runs = [handle.wait(20) for handle in [studio.start("watcher") for _ in range(20)]]
    assert {run.status for run in runs} == {"completed"}
    assert studio.budgets.used(rule) < rule.limit_usd


AT_ONCE = """
    import sys
    from personas_nb import Studio
    with Studio(sys.argv[1]) as studio:
        studio.run("watcher", provider="rehearsal")
        print("ready", flush=True)
        sys.stdin.readline()
        handles = [studio.start("watcher") for _ in range(6)]
        runs = [handle.wait(60) for handle in handles]
        print(sum(run.status == "completed" for run in runs), flush=True)
"""


def test_two_processes_together_never_spend_more_than_the_rule_allows(home: Path):
    turn = Turn.text("Done.", wait_seconds=1.0)
    with ModelServer([turn], repeat_last=True) as server, studio_at(home, server) as studio:
        persona_of(studio, max_budget_usd=CAP_USD, max_concurrent=20)
        worst = worst_case_usd(studio)
        rule = studio.budgets.add("all", lifted(studio) + 3 * worst)
        env = settings_for(server, max_parallel_executions=8)
        with python(AT_ONCE, str(home), env=env) as one, python(AT_ONCE, str(home), env=env) as two:
            assert [line_of(one), line_of(two)] == ["ready", "ready"]
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            most = 0.0
            while any(run.status in ("queued", "running") for run in studio.executions.list()) or most == 0.0:
                most = max(most, studio.budgets.used(rule))
            done = [int(line_of(process)) for process in (one, two)]
        assert most <= rule.limit_usd + ROUNDING_USD
        assert 3 <= sum(done) < 12
        assert len(server.requests) == 1 + sum(done)
        assert studio.budgets.used(rule) < rule.limit_usd
