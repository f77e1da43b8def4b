"""Limits of a day and of a month: never promised twice, counted where they belong, refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn
from support.studios import line_of, python, studio_at

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.errors import BudgetExceeded, Conflict, InvalidInput, NotFound
from personas_nb.metrics.budgets import Budgets
from personas_nb.settings import Settings
from personas_nb.store.executions import ExecutionTable

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with Studio(home) as opened:
        yield opened


@pytest.fixture
def persona(studio: Studio) -> Persona:
    return studio.personas.create(name="Watcher", system_prompt="You watch invoices.")


def begun(studio: Studio, persona: Persona, **fields: Any) -> str:
    """A run that this process has claimed."""
    fields = {"persona_id": persona.id, "persona_name": persona.name, "status": "running", **fields}
    return ExecutionTable(studio.store).insert(Execution(**fields)).id


def reserved(
    studio: Studio, persona: Persona, amount_usd: float | None, budgets: Budgets | None = None
) -> str:
    run = begun(studio, persona)
    (budgets or studio.budgets).reserve(run, persona, amount_usd)
    return run


def ended(studio: Studio, run: str, **fields: Any) -> None:
    with studio.store.write() as db:
        ExecutionTable(studio.store).change(db, run, 0, **{"status": "completed", **fields})


def reservation_of(studio: Studio, run: str) -> tuple[Any, ...] | None:
    query = "select day, amount_usd, settled_usd from budget_reservations where execution_id = ?"
    with studio.store.read() as db:
        row = db.execute(query, [run]).fetchone()
    return tuple(row) if row else None


def at(studio: Studio, moment: datetime, zone: str = "UTC") -> Budgets:
    """The budgets as they are at another moment or place."""
    return Budgets(studio.store, studio.personas, Settings(timezone=zone), clock=lambda: moment)


# --- rules ----------------------------------------------------------------------------------------------


def test_the_same_rule_again_is_the_rule_that_there_is(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("persona", 5, name="watcher")
    assert studio.budgets.add("persona", 5.0, period="day", action="block", name=persona) == rule
    other = studio.budgets.add("persona", 5, period="month", name="watcher")
    everyone = studio.budgets.add("all", 5)
    assert studio.budgets.add("all", 5) == everyone
    assert studio.budgets.list() == [rule, other, everyone]


def test_a_rule_is_removed_by_the_beginning_of_its_id(studio: Studio) -> None:
    rule, kept = studio.budgets.add("all", 5), studio.budgets.add("all", 6)
    studio.budgets.remove(rule.id[:8])
    assert studio.budgets.list() == [kept]
    with pytest.raises(NotFound, match=r"budgets.list"):
        studio.budgets.remove(rule.id)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scope": "person", "limit_usd": 1}, "“person” is no scope.*Did you mean “persona”"),
        ({"scope": "all", "limit_usd": 1, "period": "week"}, "no period.*day or month"),
        ({"scope": "all", "limit_usd": 1, "action": "blok"}, "Did you mean “block”"),
        ({"scope": "all", "limit_usd": -1}, "“limit_usd” should be greater than or equal to 0"),
        ({"scope": "all", "limit_usd": float("nan")}, "“limit_usd” should be a finite number"),
        ({"scope": "all", "limit_usd": "much"}, "“limit_usd” should be a valid number"),
        ({"scope": "all", "limit_usd": 1, "name": "watcher"}, "for all does not name watcher"),
        ({"scope": "group", "limit_usd": 1}, "for a group needs its name"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_in_words(
    studio: Studio, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        studio.budgets.add(**arguments)
    assert not studio.budgets.has_rules()


def test_a_rule_for_whom_there_is_not_says_who_there_is(studio: Studio, persona: Persona) -> None:
    with pytest.raises(NotFound, match="Did you mean “watcher”"):
        studio.budgets.add("persona", 1, name="wacher")
    with pytest.raises(NotFound, match="no group “Finance”"):
        studio.budgets.add("group", 1, name="Finance")


def test_a_rule_is_described_also_when_its_persona_is_gone(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("persona", 0.5, period="month", name="watcher")
    assert studio.budgets.describe(rule) == "0.50 USD a month for Watcher"
    studio.personas.purge(persona)
    assert studio.budgets.describe(rule) == "0.50 USD a month for a persona that is gone"


# --- reserve and settle -----------------------------------------------------------------------------------


def test_a_run_that_might_go_over_the_limit_is_refused_with_the_next_step(
    studio: Studio, persona: Persona
) -> None:
    rule = studio.budgets.add("persona", 2, name="watcher")
    reserved(studio, persona, 1.2)
    refused = begun(studio, persona)
    with pytest.raises(BudgetExceeded) as caught:
        studio.budgets.reserve(refused, persona, 1.2)
    assert caught.value.message == (
        "The budget of 2.00 USD a day for Watcher does not allow this run: "
        "1.20 USD are used or reserved, and it might cost 1.20 USD."
    )
    assert caught.value.hint == (
        "Lower what it might cost with --max-budget-usd, wait for the next day, "
        f'or lift the rule with `studio.budgets.remove("{rule.id[:8]}")`.'
    )
    assert reservation_of(studio, refused) is None
    assert studio.budgets.left(rule) == pytest.approx(0.8)


def test_a_budget_that_is_used_up_is_not_met_by_a_smaller_run(studio: Studio, persona: Persona) -> None:
    studio.budgets.add("all", 1)
    reserved(studio, persona, 1)
    with pytest.raises(BudgetExceeded) as caught:
        reserved(studio, persona, 0.1)
    assert caught.value.hint.startswith("Wait for the next day, or lift the rule")


def test_the_last_cent_may_be_spent_whatever_fractions_add_up_to(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 0.3)
    for _ in range(3):
        reserved(studio, persona, 0.1)
    assert studio.budgets.left(rule) == pytest.approx(0)
    with pytest.raises(BudgetExceeded):
        reserved(studio, persona, 0.001)


def test_what_a_run_did_cost_takes_the_place_of_what_it_reserved(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("persona", 1, name="watcher")
    run = reserved(studio, persona, 1)
    assert studio.budgets.left(rule) == 0
    ended(studio, run, cost_usd=0.25)
    assert (studio.budgets.used(rule), studio.budgets.left(rule)) == (0.25, 0.75)


def test_a_run_whose_cost_nobody_knows_settles_at_all_it_reserved(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 5)
    ended(studio, reserved(studio, persona, 1.5), status="failed", cost_usd=None)
    assert studio.budgets.used(rule) == 1.5


def test_a_waiting_run_keeps_its_reservation_until_it_ends(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 5)
    run = reserved(studio, persona, 1.5)
    ended(studio, run, status="waiting", cost_usd=0.5)
    assert studio.budgets.used(rule) == 1.5
    assert ExecutionTable(studio.store).ask_cancel(run) == "waiting"
    assert studio.budgets.used(rule) == 0.5


def test_a_run_that_ends_before_its_first_request_can_say_that_it_cost_nothing(
    studio: Studio, persona: Persona
) -> None:
    rule = studio.budgets.add("all", 5)
    table, first, second = (
        ExecutionTable(studio.store),
        reserved(studio, persona, 1),
        reserved(studio, persona, 1),
    )
    with studio.store.write() as db:
        end = {"status": "failed", "error": "No.", "error_kind": "unknown"}
        table.end_early(db, first, 0, **end, is_unbegun=True)
        table.end_early(db, second, 0, **end)
    assert studio.budgets.used(rule) == 1


def test_reserving_again_for_the_same_run_changes_nothing(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 1)
    run = reserved(studio, persona, 1)
    assert studio.budgets.reserve(run, persona, 1) == []
    assert studio.budgets.used(rule) == 1


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_a_run_that_ended_meanwhile_reserves_nothing(studio: Studio, persona: Persona, status: str) -> None:
    rule = studio.budgets.add("all", 1)
    run = begun(studio, persona, status=status)
    with pytest.raises(Conflict, match="has ended"):
        studio.budgets.reserve(run, persona, 0.5)
    assert studio.budgets.used(rule) == 0


def test_a_rehearsal_needs_no_budget(studio: Studio, persona: Persona) -> None:
    studio.budgets.add("all", 0)
    run = begun(studio, persona)
    assert studio.budgets.reserve(run, persona, 0.0) == []
    assert reservation_of(studio, run) is None


def test_a_real_rehearsal_runs_under_a_budget_of_nothing(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 0)
    assert studio.run("watcher", provider="rehearsal").status == "completed"
    assert studio.budgets.used(rule) == 0


# --- rules of several kinds -------------------------------------------------------------------------------


def test_a_rule_that_alerts_warns_and_lets_the_run_begin(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("persona", 1, action="alert", name="watcher")
    said = []
    for amount in (0.6, 0.5, 0.5):
        said += studio.budgets.reserve(begun(studio, persona), persona, amount)
    assert said == [
        "The budget of 1.00 USD a day for Watcher might be exceeded: 0.60 USD are used or reserved, "
        "and this run might cost 0.50 USD.",
        "The budget of 1.00 USD a day for Watcher is used up: 1.10 USD are used or reserved.",
    ]
    assert (studio.budgets.used(rule), studio.budgets.left(rule)) == (pytest.approx(1.6), 0)


@pytest.mark.parametrize("amount_usd", [None, float("nan"), float("inf")])
def test_an_unknown_price_is_refused_under_a_rule_that_blocks(
    studio: Studio, persona: Persona, amount_usd: float | None
) -> None:
    studio.budgets.add("all", 100)
    with pytest.raises(BudgetExceeded, match=r"no run whose price is unknown.*Choose a model whose price"):
        reserved(studio, persona, amount_usd)


def test_an_unknown_price_is_said_under_a_rule_that_alerts_and_counts_when_it_is_known(
    studio: Studio, persona: Persona
) -> None:
    rule = studio.budgets.add("all", 100, action="alert")
    run, other = begun(studio, persona), begun(studio, persona)
    (warning,) = studio.budgets.reserve(run, persona, None)
    assert "does not count this run: its price is unknown" in warning
    studio.budgets.reserve(other, persona, None)
    ended(studio, run, cost_usd=0.5)
    ended(studio, other, cost_usd=None)
    assert studio.budgets.used(rule) == 0.5
    assert (reservation_of(studio, other) or ())[1:] == (None, None)


def test_a_group_shares_what_its_personas_spent_while_they_were_in_it(
    studio: Studio, persona: Persona
) -> None:
    studio.personas.groups.create("Finance")
    first = studio.personas.update(persona, group="Finance")
    second = studio.personas.create(name="Payer", group="Finance")
    outsider = studio.personas.create(name="Poet")
    rule = studio.budgets.add("group", 1, name="finance")
    reserved(studio, first, 0.7)
    reserved(studio, outsider, 5)
    with pytest.raises(BudgetExceeded, match=r"1.00 USD a day for the group Finance"):
        reserved(studio, second, 0.7)
    left = studio.personas.update(first, group=None)
    reserved(studio, left, 5)
    assert studio.budgets.used(rule) == 0.7


def test_a_run_needs_the_consent_of_every_rule_that_it_falls_under(studio: Studio, persona: Persona) -> None:
    studio.budgets.add("all", 10)
    studio.budgets.add("persona", 10, name="watcher")
    month = studio.budgets.add("all", 2, period="month")
    with pytest.raises(BudgetExceeded, match=r"2.00 USD a month for all personas"):
        reserved(studio, persona, 3)
    studio.budgets.remove(month.id)
    reserved(studio, persona, 3)


def test_a_rule_that_is_added_later_counts_what_is_open_already(studio: Studio, persona: Persona) -> None:
    assert not studio.budgets.has_rules()
    run = begun(studio, persona)
    with studio.store.write() as db:
        change = studio.budgets.reservation(run, persona, 0.75)
        change(db)
        change(db)  # as the writer does when another change of its batch has failed
    rule = studio.budgets.add("all", 1)
    assert studio.budgets.has_rules()
    assert studio.budgets.used(rule) == 0.75
    with pytest.raises(BudgetExceeded):
        reserved(studio, persona, 0.5)


def test_deleting_a_persona_does_not_give_back_what_it_spent(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 2)
    ended(studio, reserved(studio, persona, 1), cost_usd=0.5)
    reserved(studio, persona, 1)
    studio.personas.purge(persona)
    assert studio.budgets.used(rule) == 1.5


# --- days and months --------------------------------------------------------------------------------------


def test_a_day_begins_at_midnight_in_the_settings_zone(studio: Studio, persona: Persona) -> None:
    late = datetime(2026, 11, 21, 10, 59, 59, tzinfo=UTC)  # 23:59:59 in Auckland
    before, after = (at(studio, late + timedelta(seconds=s), "Pacific/Auckland") for s in (0, 1))
    rule = before.add("all", 1)
    run = reserved(studio, persona, 1, before)
    assert (reservation_of(studio, run) or ())[0] == "2026-11-21"
    assert (before.left(rule), after.left(rule)) == (0, 1)
    reserved(studio, persona, 1, after)
    assert (before.left(rule), after.left(rule)) == (0, 0)


def test_what_ends_after_midnight_belongs_to_the_day_on_which_it_was_reserved(
    studio: Studio, persona: Persona
) -> None:
    today, tomorrow = at(studio, NOON), at(studio, NOON + timedelta(days=1))
    rule = today.add("all", 1)
    run = reserved(studio, persona, 1, today)
    ended(studio, run, cost_usd=0.5)
    assert (today.used(rule), tomorrow.used(rule)) == (0.5, 0)


def test_a_month_is_the_sum_of_its_days_and_no_other(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("persona", 3, period="month", name="watcher")
    for day in (1, 15, 30):
        reserved(studio, persona, 1, at(studio, datetime(2026, 11, day, 12, tzinfo=UTC)))
    for day in (datetime(2026, 10, 31, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)):
        reserved(studio, persona, 1, at(studio, day))
    assert at(studio, NOON).used(rule) == 3
    with pytest.raises(BudgetExceeded, match=r"[Ww]ait for the next month"):
        reserved(studio, persona, 0.1, at(studio, NOON))


MOMENTS = st.datetimes(datetime(2026, 10, 25), datetime(2026, 12, 6), timezones=st.just(UTC))
ZONES = st.sampled_from(["UTC", "Pacific/Auckland", "America/Los_Angeles", "Europe/Prague", "Asia/Kolkata"])


@given(spent=st.lists(st.tuples(MOMENTS, st.integers(1, 500)), max_size=12), moment=MOMENTS, zone=ZONES)
@hypothesis_settings(max_examples=40, deadline=None)
def test_sums_are_those_of_the_days_on_the_clocks_of_the_zone(
    tmp_path_factory: pytest.TempPathFactory,
    spent: list[tuple[datetime, int]],
    moment: datetime,
    zone: str,
) -> None:
    with Studio(tmp_path_factory.mktemp("sums")) as studio:
        persona = studio.personas.create(name="Watcher")
        rules = [studio.budgets.add("all", 1e6, period=period) for period in ("day", "month")]  # type: ignore[arg-type]
        for when, cents in spent:
            reserved(studio, persona, cents / 100, at(studio, when, zone))
        today = moment.astimezone(ZoneInfo(zone)).date()
        days = [(when.astimezone(ZoneInfo(zone)).date(), cents) for when, cents in spent]
        expected = [
            sum(cents for day, cents in days if day == today),
            sum(cents for day, cents in days if (day.year, day.month) == (today.year, today.month)),
        ]
        assert [round(at(studio, moment, zone).used(rule) * 100) for rule in rules] == expected


# --- real runs ----------------------------------------------------------------------------------------------


def test_a_run_that_a_budget_refuses_sends_no_request_and_says_why(home: Path) -> None:
    with ModelServer([Turn.text("Never.")]) as server, studio_at(home, server) as studio:
        persona = studio.personas.create(name="Watcher", max_budget_usd=0.5)
        rule = studio.budgets.add("persona", 0.25, name=persona)
        run = studio.run(persona, "Go.")
        assert (run.status, run.error_kind, server.requests) == ("failed", "budget", [])
        assert "The budget of 0.25 USD a day for Watcher does not allow this run" in (run.error or "")
        assert studio.budgets.used(rule) == 0


def test_a_run_that_a_budget_allows_uses_of_it_what_it_cost(home: Path) -> None:
    with ModelServer([Turn.text("Done.")]) as server, studio_at(home, server) as studio:
        persona = studio.personas.create(name="Watcher", max_budget_usd=0.5)
        rule = studio.budgets.add("all", 100, period="month")
        studio.budgets.add("all", 0, action="alert")
        run = studio.run(persona, "Go.")
        assert run.status == "completed"
        assert run.cost_usd
        assert studio.budgets.used(rule) == pytest.approx(run.cost_usd)
        assert any("0.00 USD a day for all personas is used up" in warning for warning in run.warnings)


def test_what_a_run_without_rules_cost_counts_for_a_rule_that_comes_later(home: Path) -> None:
    with ModelServer([Turn.text("Done.")]) as server, studio_at(home, server) as studio:
        run = studio.run(studio.personas.create(name="Watcher"), "Go.")
        assert run.cost_usd
        assert studio.budgets.used(studio.budgets.add("all", 1)) == pytest.approx(run.cost_usd)


# --- several processes ------------------------------------------------------------------------------------

RACE = """
    import sys
    from personas_nb import Studio
    from personas_nb.entities.execution import Execution
    from personas_nb.errors import BudgetExceeded
    from personas_nb.store.executions import ExecutionTable
    with Studio(sys.argv[1]) as studio:
        table, persona, (rule,) = ExecutionTable(studio.store), studio.personas.get("watcher"), studio.budgets.list()
        runs = [table.insert(Execution(persona_id=persona.id, status="running")).id for _ in range(60)]
        print("ready", flush=True)
        sys.stdin.readline()
        allowed, most = 0, 0.0
        for run in runs:
            try:
                studio.budgets.reserve(run, persona, 0.5)
            except BudgetExceeded:
                continue
            finally:
                most = max(most, studio.budgets.used(rule))
            allowed += 1
            with studio.store.write() as db:
                table.change(db, run, 0, status="completed", cost_usd=float(sys.argv[2]))
        print(allowed, most, flush=True)
"""


@pytest.mark.parametrize(("cost_usd", "allowed"), [(0.5, {20}), (0.25, {37, 38, 39})])
def test_two_processes_at_once_never_promise_more_than_the_limit(
    studio: Studio, persona: Persona, cost_usd: float, allowed: set[int]
) -> None:
    rule = studio.budgets.add("all", 10)
    with (
        python(RACE, str(studio.home), str(cost_usd)) as one,
        python(RACE, str(studio.home), str(cost_usd)) as two,
    ):
        assert [line_of(one), line_of(two)] == ["ready", "ready"]
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        answers = [line_of(process).split() for process in (one, two)]
    counts, most = [int(count) for count, _ in answers], [float(used) for _, used in answers]
    assert max(most) <= 10
    # Where runs cost less than they reserve, one may be refused while the last of the other process is open.
    assert sum(counts) in allowed
    assert studio.budgets.used(rule) == pytest.approx(sum(counts) * cost_usd)


DYING = """
    import sys, time
    from personas_nb import Studio
    from personas_nb.entities.execution import Execution
    from personas_nb.store.executions import ExecutionTable
    studio = Studio(sys.argv[1])
    persona, table = studio.personas.get("watcher"), ExecutionTable(studio.store)
    run = Execution(persona_id=persona.id, status="running", worker_id=studio.worker.id)
    table.insert(run)
    studio.budgets.reserve(run.id, persona, 0.75)
    table.insert(Execution(persona_id=persona.id, status="queued", worker_id=studio.worker.id))
    print(run.id, flush=True)
    time.sleep(600)
"""


def test_a_run_whose_process_was_killed_settles_at_all_it_reserved(studio: Studio, persona: Persona) -> None:
    rule = studio.budgets.add("all", 1)
    with python(DYING, str(studio.home)) as process:
        run = line_of(process)
        process.kill()
        process.wait()
    assert (reservation_of(studio, run) or ())[1:] == (0.75, None)
    assert len(recover(studio.store)) == 2
    assert (reservation_of(studio, run) or ())[1:] == (0.75, 0.75)
    assert studio.budgets.used(rule) == 0.75
    assert recover(studio.store) == []
