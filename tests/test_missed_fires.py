"""Due times that nobody saw: what runs after all, and the account of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.clocks import Clock
from support.studios import persona_of, studio_at, wait_until

from personas_nb import Studio
from personas_nb.entities.base import now
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Fire, Trigger
from personas_nb.triggers.planning import CATCH_UP_LIMIT, ROWS


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, provider="rehearsal", timezone="UTC", queue_limit=1000) as opened:
        yield opened


@pytest.fixture
def persona(studio: Studio) -> Persona:
    return persona_of(studio)


def missed(studio: Studio, persona: Persona, count: int, seconds: int = 3600, **config: Any) -> Trigger:
    """A poller whose last ``count`` due times nobody saw; the newest was just over a minute ago."""
    trigger = studio.triggers.add(persona, "polling", {"interval_seconds": seconds, **config})
    newest = now() - timedelta(seconds=75)
    anchor = newest - timedelta(seconds=seconds * count)
    studio.store.table("triggers", Trigger).update(
        trigger.id,
        state={"anchor": anchor.isoformat()},
        next_trigger_at=anchor + timedelta(seconds=seconds),
    )
    return studio.triggers.get(trigger)


def accounted(studio: Studio, trigger: Trigger) -> list[Fire]:
    """All fires of a trigger, oldest due time first, once its plan is in the future."""

    def is_planned() -> bool:
        due = studio.triggers.get(trigger).next_trigger_at
        return due is not None and due > now()

    wait_until(is_planned)
    return sorted(studio.triggers.fires(trigger, limit=5000), key=lambda fire: fire.due_at)


def test_by_default_the_newest_missed_time_runs_and_the_others_are_accounted_for(
    studio: Studio, persona: Persona
):
    trigger = missed(studio, persona, 5)
    first = trigger.next_trigger_at
    assert first is not None
    studio.triggers.start()
    found = accounted(studio, trigger)
    assert [fire.status for fire in found] == ["skipped"] * 4 + ["queued"]
    assert [fire.due_at for fire in found] == [first + timedelta(hours=n) for n in range(5)]
    assert {fire.reason for fire in found[:4]} == {
        "Missed: nobody fired triggers at that time; the newest missed time runs instead (catch_up=once)."
    }
    assert found[0].late_ms is not None
    assert found[0].late_ms > 4 * 3_600_000
    assert len(studio.executions.list()) == 1


def test_a_trigger_that_skips_what_was_missed_runs_nothing(studio: Studio, persona: Persona):
    trigger = missed(studio, persona, 3, catch_up="skip")
    studio.triggers.start()
    found = accounted(studio, trigger)
    assert [fire.status for fire in found] == ["skipped"] * 3
    assert {fire.reason for fire in found} == {"Missed: nobody fired triggers at that time (catch_up=skip)."}
    assert studio.executions.list() == []


def test_a_trigger_that_wants_all_runs_the_newest_hundred(studio: Studio, persona: Persona):
    trigger = missed(studio, persona, CATCH_UP_LIMIT + 20, catch_up="all")
    studio.trigger_loop.parts.dispatcher._slots = 0
    studio.triggers.start()
    found = accounted(studio, trigger)
    assert [fire.status for fire in found] == ["skipped"] * 20 + ["queued"] * CATCH_UP_LIMIT


def test_very_many_missed_times_share_a_row_but_for_the_newest(studio: Studio, persona: Persona):
    trigger = missed(studio, persona, 300_000, seconds=80)
    first = trigger.next_trigger_at
    studio.triggers.start()
    found = accounted(studio, trigger)
    assert len(found) == ROWS + 1
    assert (found[0].due_at, found[0].count) == (first, 300_000 - ROWS)
    assert found[0].until_at == found[1].due_at - timedelta(seconds=80)
    assert Counter(fire.status for fire in found) == {"skipped": ROWS, "queued": 1}
    assert studio.triggers.status().skipped == 300_000 - 1


def test_a_late_time_runs_beside_the_missed_one(studio: Studio, persona: Persona):
    trigger = missed(studio, persona, 1, seconds=60)
    studio.triggers.start()
    found = accounted(studio, trigger)
    assert [fire.status for fire in found] == ["queued", "queued"]
    assert found[1].late_ms is not None
    assert found[1].late_ms < 60_000


def test_what_was_missed_while_all_are_paused_runs_neither_then_nor_later(studio: Studio, persona: Persona):
    trigger = missed(studio, persona, 3)
    studio.triggers.pause_all()
    studio.triggers.start()
    found = accounted(studio, trigger)
    assert [fire.status for fire in found] == ["skipped"] * 3
    assert found[-1].reason == "All triggers are paused."
    studio.triggers.resume_all()
    assert studio.executions.list() == []


def test_a_computer_that_slept_for_a_night_catches_up_and_goes_on(studio: Studio, persona: Persona):
    clock = studio.triggers.clock = Clock(datetime.fromisoformat("2026-11-23T20:00:30+00:00"))
    trigger = studio.triggers.add(persona, "schedule", {"cron": "0 * * * *", "timezone": "UTC"})
    studio.triggers.start()
    clock.move(hours=11)
    studio.worker.changed()
    wait_until(lambda: len(studio.triggers.fires(trigger)) == 11)
    found = studio.triggers.fires(trigger)
    # 07:00 was half a minute ago: late, not missed; of those that were missed 06:00 is the newest
    assert {fire.due_at.hour for fire in found if fire.status == "queued"} == {6, 7}
    assert Counter(fire.status for fire in found) == {"skipped": 9, "queued": 2}


def test_the_status_tells_what_was_late_and_by_how_much(studio: Studio, persona: Persona):
    trigger = missed(studio, persona, 2)
    studio.triggers.start()
    accounted(studio, trigger)
    status = studio.triggers.status()
    assert (status.fired, status.late, status.skipped) == (1, 1, 1)
    assert status.worst_late_ms is not None
    assert 75_000 <= status.worst_late_ms < 200_000
