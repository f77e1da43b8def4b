"""The loop of a process: it fires what is due, hears of every change, and keeps still otherwise."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.clocks import Clock
from support.studios import line_of, persona_of, python, studio_at, wait_until

from personas_nb import Studio
from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.event import Event
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Fire, Trigger
from personas_nb.errors import StoreError
from personas_nb.store.fires import TriggerTable
from personas_nb.triggers import loop

EVERY_MORNING = {"cron": "0 9 * * *", "timezone": "UTC"}


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, provider="rehearsal", timezone="UTC") as opened:
        yield opened


@pytest.fixture
def persona(studio: Studio) -> Persona:
    return persona_of(studio)


@pytest.fixture
def clock(studio: Studio) -> Clock:
    studio.triggers.clock = Clock()
    return studio.triggers.clock


def due_now(studio: Studio, trigger: Trigger, ago_seconds: float = 0.0) -> datetime:
    """Plan a trigger for now, or a while ago."""
    due = studio.triggers.clock() - timedelta(seconds=ago_seconds)
    studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=due)
    return due


def fires(studio: Studio, count: int, trigger: Trigger | None = None) -> list[Fire]:
    """So many fires, once they are there, the oldest due time first."""
    found = wait_until(
        lambda: (rows := studio.triggers.fires(trigger, limit=5000)) and len(rows) >= count and rows
    )
    return sorted(found, key=lambda fire: fire.due_at)


def hourly(studio: Studio, persona: Persona, **config: Any) -> Trigger:
    return studio.triggers.add(persona, "schedule", {"cron": "0 * * * *", "timezone": "UTC", **config})


def test_what_is_due_starts_a_run_and_its_plan_moves_on(studio: Studio, persona: Persona):
    trigger = hourly(studio, persona)
    due = due_now(studio, trigger)
    status = studio.triggers.start()
    assert (status.is_running, status.is_here, status.kind) == (True, True, "python")
    (fire,) = fires(studio, 1)
    assert (fire.status, fire.kind, fire.due_at, fire.reason) == ("queued", "schedule", due, None)
    run = wait_until(lambda: finished(studio, fire.execution_id))
    assert run.status == "completed"
    assert json.loads(run.input_data)["_trigger"] == {
        "id": trigger.id,
        "type": "schedule",
        "due_at": rfc3339(due),
    }
    after = studio.triggers.get(trigger)
    assert after.next_trigger_at is not None
    assert after.next_trigger_at > due
    assert after.last_triggered_at == fire.decided_at


def finished(studio: Studio, execution_id: str | None) -> Any:
    assert execution_id is not None
    run = studio.executions.get(execution_id)
    return run if run.status not in ("queued", "running") else None


def test_polling_without_an_address_fires_every_interval_in_its_phase(studio: Studio, persona: Persona):
    trigger = studio.triggers.add(persona, "polling", {"interval_seconds": 1})
    studio.triggers.start()
    dues = [fire.due_at for fire in fires(studio, 3)]
    assert dues[0] == trigger.next_trigger_at
    assert {later - earlier for earlier, later in pairwise(dues)} == {timedelta(seconds=1)}


def test_nothing_fires_before_the_loop_is_started_and_after_it_is_stopped(studio: Studio, persona: Persona):
    studio.worker  # noqa: B018 - it runs, and hosts nothing
    trigger = hourly(studio, persona)
    due_now(studio, trigger)
    assert studio.triggers.fires() == []
    studio.triggers.start()
    fires(studio, 1)
    status = studio.triggers.stop()
    assert not status.is_running
    due_now(studio, trigger)
    studio.worker.changed()
    studio.worker.run(asyncio.sleep(0.2))
    assert len(studio.triggers.fires()) == 1
    assert not studio.triggers.stop().is_running


def test_starting_twice_is_starting_once_and_it_can_be_started_again(studio: Studio, persona: Persona):
    since = studio.triggers.start().since
    assert studio.triggers.start().since == since
    studio.triggers.stop()
    assert studio.triggers.start("headless").kind == "headless"


def test_a_change_of_this_process_is_heard_at_once(studio: Studio, persona: Persona):
    studio.triggers.start()
    trigger = studio.triggers.add(persona, "polling", {"interval_seconds": 1})
    (fire, *_) = fires(studio, 1)
    assert fire.due_at == trigger.next_trigger_at


def test_a_change_of_another_process_is_heard_within_a_second(studio: Studio, persona: Persona):
    studio.triggers.start()
    trigger = hourly(studio, persona)
    other = sqlite3.connect(studio.store.path, isolation_level=None)
    wrote = now()
    other.execute("update triggers set next_trigger_at = ? where id = ?", [rfc3339(wrote), trigger.id])
    other.close()
    (fire,) = fires(studio, 1)
    assert fire.decided_at is not None
    assert fire.decided_at - wrote < timedelta(seconds=5)  # a second, on a machine that is not busy


def test_a_trigger_that_nobody_planned_is_planned(studio: Studio, persona: Persona):
    row = Trigger(persona_id=persona.id, trigger_type="polling", config={"interval_seconds": 3600})
    studio.store.table("triggers", Trigger).insert(row)
    studio.triggers.start()
    planned = wait_until(lambda: (found := studio.triggers.get(row)).next_trigger_at and found)
    assert planned.next_trigger_at > now()
    assert "anchor" in planned.state


def test_what_cannot_be_planned_stops_nothing_else(studio: Studio, persona: Persona):
    row = Trigger(persona_id=persona.id, trigger_type="schedule", config={"cron": "0 0 30 2 *"})
    studio.store.table("triggers", Trigger).insert(row)
    due_now(studio, hourly(studio, persona))
    studio.triggers.start()
    fires(studio, 1)
    assert studio.triggers.get(row).next_trigger_at is None


def test_one_that_is_disabled_meanwhile_does_not_fire(studio: Studio, persona: Persona, clock: Clock):
    trigger = hourly(studio, persona)
    studio.triggers.start()
    studio.triggers.disable(trigger)
    clock.move(hours=2)
    studio.worker.changed()
    other = hourly(studio, persona, catch_up="skip")
    due_now(studio, other)
    fires(studio, 1, other)
    assert studio.triggers.fires(trigger) == []


def test_one_that_is_edited_in_the_moment_in_which_it_is_due_fires_as_it_is_now(
    studio: Studio, persona: Persona, monkeypatch: pytest.MonkeyPatch
):
    trigger = hourly(studio, persona)
    later = due_now(studio, trigger) + timedelta(hours=5)
    edits: list[str] = []
    marks = TriggerTable.marks

    def edited(self: TriggerTable, db: sqlite3.Connection, ids: Any) -> Any:
        if not edits:  # somebody was faster than the transaction, after the plan was made
            edits.append(trigger.id)
            db.execute(
                "update triggers set next_trigger_at = ?, updated_at = ?", [rfc3339(later), rfc3339(now())]
            )
        return marks(self, db, ids)

    monkeypatch.setattr(TriggerTable, "marks", edited)
    studio.triggers.start()
    wait_until(lambda: edits)
    wait_until(lambda: not studio.trigger_loop._agenda)
    assert studio.triggers.fires() == []


def test_a_persona_that_is_off_leaves_a_skip_with_the_reason(studio: Studio, persona: Persona):
    trigger = hourly(studio, persona)
    studio.personas.disable(persona)
    due_now(studio, trigger)
    studio.triggers.start()
    (fire,) = fires(studio, 1)
    assert (fire.status, fire.reason, fire.execution_id) == ("skipped", "Watcher is disabled.", None)


def test_bypass_does_not_start_by_itself_without_consent(studio: Studio, persona: Persona):
    studio.personas.update(persona, permissions="bypass")
    bare, allowed = hourly(studio, persona), hourly(studio, persona, catch_up="all")
    studio.triggers.enable(allowed, allow_bypass=True)
    due_now(studio, bare)
    due_now(studio, allowed)
    studio.triggers.start()
    fires(studio, 2)
    assert [fire.status for fire in studio.triggers.fires(allowed)] == ["queued"]
    (refused,) = studio.triggers.fires(bare)
    assert refused.reason is not None
    assert "nobody allowed that it starts" in refused.reason


def test_a_full_queue_is_a_skip_with_its_reason(home: Path):
    with studio_at(home, provider="rehearsal", queue_limit=2) as studio:
        persona = persona_of(studio)
        triggers = [hourly(studio, persona, catch_up=one) for one in ("once", "skip", "all")]
        due = due_now(studio, triggers[0])
        for trigger in triggers[1:]:
            studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=due)
        studio.trigger_loop.parts.dispatcher._slots = 0  # nothing leaves the queue
        studio.triggers.start()
        found = fires(studio, 3)
        assert sorted(fire.status for fire in found) == ["queued", "queued", "skipped"]
        (refused,) = [fire for fire in found if fire.status == "skipped"]
        assert refused.reason == "Watcher already has 2 runs in its queue, as many as it may."


def test_while_all_are_paused_due_times_are_recorded_as_skipped(studio: Studio, persona: Persona):
    trigger = hourly(studio, persona)
    studio.triggers.pause_all("holidays")
    due = due_now(studio, trigger)
    studio.triggers.start()
    (skipped,) = fires(studio, 1)
    assert (skipped.status, skipped.reason) == ("skipped", "All triggers are paused: holidays")
    studio.triggers.resume_all()
    studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=due + timedelta(seconds=0.001))
    assert [fire.status for fire in fires(studio, 2)] == ["skipped", "queued"]


def test_many_triggers_of_one_moment_fire_together(studio: Studio, persona: Persona):
    triggers = studio.triggers.add_all(
        persona, [("polling", {"interval_seconds": 60 + n}) for n in range(80)]
    )
    due = studio.triggers.clock()
    with studio.store.write() as db:
        db.execute("update triggers set next_trigger_at = ?", [rfc3339(due)])
    studio.triggers.start()
    found = fires(studio, 80)
    assert {fire.trigger_id for fire in found} == {trigger.id for trigger in triggers}
    assert {fire.status for fire in found} == {"queued"}
    runs = studio.executions.list(limit=200)
    assert {run.id for run in runs} == {fire.execution_id for fire in found}
    # each moved on in its own phase
    assert all(
        (one.next_trigger_at - datetime.fromisoformat(one.state["anchor"])).total_seconds()
        % one.config["interval_seconds"]
        == 0
        for one in studio.triggers.list()
        if one.next_trigger_at is not None
    )


# --- clocks --------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_forward_by_an_hour_leaves_a_record_of_each_time(
    studio: Studio, persona: Persona, clock: Clock
):
    trigger = studio.triggers.add(persona, "schedule", {"cron": "*/10 * * * *", "timezone": "UTC"})
    studio.triggers.start()
    clock.move(hours=1)
    studio.worker.changed()
    found = fires(studio, 6)
    assert len(found) in (6, 7)  # the seventh is due where the test begins close to a tenth minute
    missed = [fire for fire in found if fire.reason]
    assert [fire.status for fire in found if not fire.reason].count("queued") in (1, 2)
    assert all(fire.reason is not None and fire.reason.startswith("Missed:") for fire in missed)
    assert len({fire.due_at for fire in found}) == len(found)
    after = studio.triggers.get(trigger)
    assert after.next_trigger_at is not None
    assert after.next_trigger_at > clock()


def test_a_clock_that_is_set_back_fires_nothing_twice_and_goes_on(
    studio: Studio, persona: Persona, clock: Clock
):
    trigger = studio.triggers.add(persona, "polling", {"interval_seconds": 1})
    studio.triggers.start()
    fires(studio, 2)
    clock.move(seconds=-30)
    studio.worker.changed()
    forward = clock() + timedelta(seconds=10)
    wait_until(lambda: due_of(studio, trigger) < forward)  # brought forward, to times that have their record
    due = due_of(studio, trigger)
    wait_until(lambda: due_of(studio, trigger) > due)
    clock.move(seconds=30)
    studio.worker.changed()
    wait_until(lambda: due_of(studio, trigger) > forward + timedelta(seconds=20))
    dues = sorted(fire.due_at for fire in studio.triggers.fires(limit=500))
    assert {later - earlier for earlier, later in pairwise(dues)} == {timedelta(seconds=1)}


def due_of(studio: Studio, trigger: Trigger) -> datetime:
    due = studio.triggers.get(trigger).next_trigger_at
    assert due is not None
    return due


def test_what_was_planned_by_a_clock_that_was_ahead_is_brought_forward(studio: Studio, persona: Persona):
    trigger = hourly(studio, persona)
    studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=now() + timedelta(days=4000))
    studio.triggers.start()
    due = wait_until(
        lambda: (due := studio.triggers.get(trigger).next_trigger_at) < now() + timedelta(days=1) and due
    )
    assert due > now() - timedelta(hours=1)


# --- stores that fail ----------------------------------------------------------------------------------


def test_a_store_that_fails_for_a_while_makes_it_late_and_loses_nothing(
    studio: Studio, persona: Persona, monkeypatch: pytest.MonkeyPatch
):
    failures: list[int] = []
    marks = TriggerTable.marks

    def failing(self: TriggerTable, db: sqlite3.Connection, ids: Any) -> Any:
        if len(failures) < 2:
            failures.append(1)
            raise StoreError("The disk is full.")
        return marks(self, db, ids)

    monkeypatch.setattr(TriggerTable, "marks", failing)
    trigger = hourly(studio, persona)
    due_now(studio, trigger)
    studio.triggers.start()
    (fire,) = fires(studio, 1)
    assert (fire.status, len(failures)) == ("queued", 2)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("triggers", "config", "{"), ("triggers", "state", "[1]"), ("personas", "max_turns", "-1")],
)
def test_a_row_that_cannot_be_read_keeps_no_other_from_firing(
    studio: Studio, persona: Persona, table: str, column: str, value: str
):
    broken, whole = hourly(studio, persona), hourly(studio, persona_of(studio, name="Other"))
    for trigger in (broken, whole):
        due_now(studio, trigger)
    row_id = persona.id if table == "personas" else broken.id
    with studio.store.write() as db:
        db.execute(f"update {table} set {column} = ? where id = ?", [value, row_id])
    studio.triggers.start()
    wait_until(lambda: recorded(studio, whole) == [("queued", None)])
    if table == "personas":
        ((status, reason),) = recorded(studio, broken)
        assert status == "skipped"
        assert "cannot be read" in (reason or "")


def recorded(studio: Studio, trigger: Trigger) -> list[tuple[str, str | None]]:
    with studio.store.read() as db:
        return [
            (row["status"], row["reason"])
            for row in db.execute("select status, reason from fires where trigger_id = ?", [trigger.id])
        ]


def test_what_was_missed_is_counted_in_parts_between_which_the_lease_is_kept(
    studio: Studio, persona: Persona, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "CATCH_UP_SECONDS", 0.0)
    triggers = [hourly(studio, persona, catch_up=catch_up) for catch_up in ("once", "skip", "all")]
    since = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    for trigger in triggers:
        studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=since)
    studio.triggers.start()
    for trigger in triggers:
        assert len({fire.due_at for fire in fires(studio, 6, trigger)}) == 6
    assert len(studio.triggers.fires(limit=100)) == 18


# --- ending --------------------------------------------------------------------------------------------


def test_closing_the_studio_gives_the_lease_back(home: Path):
    with studio_at(home, provider="rehearsal") as studio:
        studio.triggers.start()
    with Studio(home) as later:
        assert not later.triggers.status().is_running


def test_a_kernel_that_ends_while_it_fires_leaves_nothing_half_done(home: Path):
    code = """
        import sys
        from personas_nb import Studio
        studio = Studio(sys.argv[1])
        persona = studio.personas.create(name="Echo", system_prompt="Echo.")
        studio.triggers.add(persona, "polling", {"interval_seconds": 1})
        print(studio.triggers.start().is_here, flush=True)
        sys.stdin.readline()
    """
    with python(code, str(home), env={"PERSONAS_PROVIDER": "rehearsal"}) as process:
        assert line_of(process) == "True"
        with Studio(home) as looking:
            wait_until(looking.triggers.fires)
            assert process.stdin is not None
            process.stdin.write("\n")  # the script ends without closing anything
            process.stdin.flush()
            assert process.wait(20) == 0
            assert not looking.triggers.status().is_running
            for fire in looking.triggers.fires():
                assert fire.execution_id is not None
                assert looking.executions.get(fire.execution_id).trigger_id == fire.trigger_id


# --- two studios of one process ---------------------------------------------------------------------------


def test_a_second_studio_of_a_process_fires_and_delivers_with_the_first(studio: Studio, persona: Persona):
    def is_started(event: Event) -> bool:
        return [delivery.status for delivery in studio.events.deliveries(event)] == ["started"]

    studio.events.subscribe(persona, "found")
    studio.triggers.start()
    began = time.monotonic()
    with Studio(studio.home) as other:
        other.triggers.fire(other.triggers.add(persona, "manual"))  # the loop goes on with its settings
        for event in (studio.events.publish("found"), other.events.publish("found")):
            wait_until(lambda event=event: is_started(event))
    after = studio.events.publish("found")  # the other is closed, and the loop goes on
    wait_until(lambda: is_started(after))
    assert time.monotonic() - began < 15  # who writes to another store than the worker's waits for 30 s
    trigger = hourly(studio, persona)
    due_now(studio, trigger)
    assert fires(studio, 1, trigger)[0].status == "queued"
    worker = studio.worker
    studio.close()
    assert worker.is_stopping  # the other one, once closed, did not borrow it again


def test_the_first_studio_of_a_process_may_close_while_another_fires(home: Path):
    with studio_at(home, provider="rehearsal", timezone="UTC") as first:
        persona = persona_of(first)
        first.triggers.start()
        second = Studio(home)
        worker = second.worker
        first.close()
        trigger = hourly(second, persona)
        due_now(second, trigger)
        assert fires(second, 1, trigger)[0].status == "queued"
        second.close()
        assert worker.is_stopping
        assert (worker.store._writer, worker.store._watcher, worker.store._idle) == (None, None, [])


# --- quiet ---------------------------------------------------------------------------------------------


def test_a_loop_with_nothing_due_writes_little_and_computes_almost_nothing(
    studio: Studio, persona: Persona, monkeypatch: pytest.MonkeyPatch
):
    loads: list[int] = []
    due_rows = TriggerTable.due_rows

    def counted(self: TriggerTable, *arguments: Any) -> Any:
        loads.append(1)
        return due_rows(self, *arguments)

    studio.triggers.add_all(persona, [("polling", {"interval_seconds": 86_400 + n}) for n in range(100)])
    studio.triggers.start()
    monkeypatch.setattr(TriggerTable, "due_rows", counted)
    used, began = time.process_time(), time.monotonic()
    studio.worker.run(asyncio.sleep(3))
    share = (time.process_time() - used) / (time.monotonic() - began)
    assert share < 0.1  # about 0.002 on a machine of one's own
    assert len(loads) <= 6  # a heartbeat, a renewal: not each look
