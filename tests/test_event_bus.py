"""One record for an event and a subscription, whoever delivers: several at once, killed, stopped, late."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from support.disks import MIB, small_disk
from support.studios import Env, line_of, python, studio_at, wait_until

from personas_nb import Studio
from personas_nb.entities.base import now
from personas_nb.entities.event import Event, EventDelivery, Subscription
from personas_nb.errors import StoreError
from personas_nb.store import leases
from personas_nb.store.events import DeliveryTable, EventTable

LEASE = "triggers"
ROOM: Env = {"PERSONAS_QUEUE_LIMIT": "100000"}
DRAINING = """
import sys
from pathlib import Path
from personas_nb import Studio

with Studio(Path(sys.argv[1])) as studio:
    bus = studio.bus
    print("ready", flush=True)
    sys.stdin.readline()
    while sys.argv[2] == "on" or studio.store.read().__enter__().execute(
        "select 1 from events where status = 'pending'"
    ).fetchone():
        studio.worker.run(bus.drain(lambda db: True))
    print("done", flush=True)
"""
UNDER_LEASE = """
import os, sys
from pathlib import Path
from personas_nb import Studio
from personas_nb.entities.base import now
from personas_nb.store import leases

with Studio(Path(sys.argv[1])) as studio:
    me = studio.worker.id
    with studio.store.write() as db:
        epoch = leases.take(db, "triggers", me, now(), lambda path: True)
    studio.delivering.read()
    print("holds", flush=True)
    for line in sys.stdin:  # a line asks for a round
        started = len(studio.executions.list(limit=10_000))
        studio.worker.run(studio.bus.drain(lambda db: leases.holds(db, "triggers", me, epoch)))
        print("drained", flush=True)
"""


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, queue_limit=100_000) as opened:
        for name in ("Alpha", "Beta"):
            opened.personas.create(name=name, system_prompt="You watch.")
        yield opened


def drain(studio: Studio) -> None:
    studio.worker.run(studio.bus.drain(lambda _db: True))


def published(studio: Studio, count: int) -> list[Event]:
    table = EventTable(studio.store)
    with studio.store.write():
        return [table.insert(Event(event_type="found", data={"n": n})) for n in range(count)]


def assert_each_once(studio: Studio, events: list[Event], listeners: int) -> None:
    """Every event has started each of its listeners, once, and nothing else runs."""
    deliveries = DeliveryTable(studio.store).find()
    assert {delivery.status for delivery in deliveries} == {"started"}
    assert Counter(delivery.event_id for delivery in deliveries) == {event.id: listeners for event in events}
    with studio.store.read() as db:
        runs = [row["id"] for row in db.execute("select id from executions")]
    assert sorted(runs) == sorted(delivery.execution_id or "" for delivery in deliveries)


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


# --- one process ------------------------------------------------------------------------------------------


def test_who_holds_the_lease_no_longer_delivers_nothing(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    event = studio.events.publish("found")
    assert studio.worker.run(studio.bus.drain(lambda _db: False)) is None
    assert studio.events.get(event).status == "pending"
    assert studio.events.deliveries(event) == []


def test_who_loses_it_in_the_middle_stops_there_and_another_goes_on(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    events = published(studio, 500)
    asked: list[int] = []

    def for_a_while(_db: sqlite3.Connection) -> bool:
        asked.append(1)
        return len(asked) <= 2

    studio.worker.run(studio.bus.drain(for_a_while))
    begun = Counter(delivery.status for delivery in DeliveryTable(studio.store).find())
    assert 0 < begun["started"] < 500
    drain(studio)
    assert_each_once(studio, events, 1)


def test_an_event_with_many_listeners_is_delivered_in_short_transactions(studio: Studio) -> None:
    persona_id = studio.personas.get("beta").id
    table = studio.store.table("subscriptions", Subscription)
    with studio.store.write():
        for number in range(300):
            table.insert(Subscription(persona_id=persona_id, event_type="found", source_filter=f"*{number}*"))
    asked: list[int] = []
    event = studio.events.publish("found", source="-".join(map(str, range(300)))[-200:])
    studio.worker.run(studio.bus.drain(lambda _db: not asked.append(1)))
    heard = studio.events.deliveries(event)
    assert len(asked) > len(heard) // 64
    assert_each_once(studio, [event], len(heard))


def test_a_subscription_of_another_studio_is_heard_at_once(studio: Studio) -> None:
    studio.events.subscribe("alpha", "found")
    first = studio.events.publish("found")
    drain(studio)
    with Studio(studio.home) as other:
        other.events.subscribe("beta", "found")
        second = other.events.publish("found")
    drain(studio)
    assert [len(studio.events.deliveries(event)) for event in (first, second)] == [1, 2]


def test_a_round_is_not_done_where_a_subscription_has_changed_since_it_was_read(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    event = studio.events.publish("found")
    for change in (
        lambda: studio.events.subscribe("alpha", "found"),
        lambda: studio.events.disable(subscription),
        lambda: studio.personas.purge("beta"),
    ):
        work = studio.delivering.read()
        assert work is not None
        change()
        with studio.store.write() as db:
            assert not studio.delivering.deliver(db, work).is_done
    assert studio.events.deliveries(event) == []


def test_a_full_disk_is_said_so_and_nothing_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 24 * MIB) as disk, studio_at(disk.folder / "home") as studio:
        studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        events = [studio.events.publish("found", {"text": "x" * 50_000}) for _ in range(60)]
        disk.fill()
        with pytest.raises(StoreError, match="could not be written"):
            drain(studio)
        disk.free()
        drain(studio)
        assert_each_once(studio, events, 1)


# --- with the loop ----------------------------------------------------------------------------------------


def test_the_loop_delivers_what_this_process_publishes_and_the_run_ends(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    studio.triggers.start()
    event = studio.events.publish("found", {"n": 1})
    (delivery,) = wait_until(lambda: studio.events.deliveries(event))
    run = wait_until(lambda: _finished(studio, delivery))
    assert (run.event_id, run.rehearsal) == (event.id, True)


def test_the_loop_delivers_what_another_process_publishes(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    studio.triggers.start()
    code = """
    import sys
    from pathlib import Path
    from personas_nb import Studio

    print(Studio(Path(sys.argv[1])).events.publish("found", source="elsewhere").id, flush=True)
    """
    with python(code, str(studio.home)) as child:
        event_id = line_of(child)
    wait_until(lambda: [delivery.status for delivery in studio.events.deliveries(event_id)] == ["started"])


def test_the_loop_tries_a_full_queue_again_by_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personas_nb.triggers.delivering.FIRST_WAIT", timedelta(seconds=0.2))
    with studio_at(home, queue_limit=1) as studio:
        beta = studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        studio.personas.update(beta, max_concurrent=1)
        events = published(studio, 4)
        studio.triggers.start()
        wait_until(lambda: [run.status for run in studio.executions.list()] == ["completed"] * 4, 60)
        assert_each_once(studio, events, 1)


def _finished(studio: Studio, delivery: EventDelivery) -> object:
    found = studio.executions.get(studio.events.deliveries(delivery.event_id)[0].execution_id or "latest")
    return found if found.is_finished else None


# --- several processes ------------------------------------------------------------------------------------


def test_three_processes_that_deliver_at_once_start_each_listener_once(studio: Studio) -> None:
    for name in ("alpha", "beta"):
        studio.events.subscribe(name, "found")
    events = published(studio, 400)
    with ExitStack() as stack:
        children = [
            stack.enter_context(python(DRAINING, str(studio.home), "until", env=ROOM)) for _ in range(3)
        ]
        assert [line_of(child) for child in children] == ["ready"] * 3
        for child in children:
            go(child)
        assert [line_of(child) for child in children] == ["done"] * 3
    drain(studio)
    assert_each_once(studio, events, 2)


def test_nothing_is_lost_or_started_twice_however_often_who_delivers_is_killed(studio: Studio) -> None:
    for name in ("alpha", "beta"):
        studio.events.subscribe(name, "found")
    events = published(studio, 600)
    deliveries = DeliveryTable(studio.store)
    for _ in range(4):
        before = deliveries.count("status = 'started'")
        with python(DRAINING, str(studio.home), "on", env=ROOM) as child:
            assert line_of(child) == "ready"
            go(child)
            wait_until(lambda before=before: deliveries.count("status = 'started'") > before, 60)  # type: ignore[misc]
            child.kill()
    drain(studio)
    # The runs of a killed worker are nobody's: no worker had claimed them, and none of them is failed.
    assert_each_once(studio, events, 2)
    assert {run.status for run in studio.executions.list(limit=2_000)} == {"queued"}


def test_who_was_stopped_while_another_took_over_writes_nothing_more(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    with python(UNDER_LEASE, str(studio.home), env=ROOM) as child:
        assert line_of(child) == "holds"
        os.kill(child.pid, signal.SIGSTOP)
        events = published(studio, 50)
        go(child)  # it will want to deliver as soon as it goes on
        with studio.store.write() as db:
            later = now() + timedelta(seconds=leases.EXPIRY_SECONDS + 1)
            epoch = leases.take(db, LEASE, studio.worker.id, later, lambda _path: True)
        assert epoch is not None
        os.kill(child.pid, signal.SIGCONT)
        assert line_of(child) == "drained"
        assert DeliveryTable(studio.store).count() == 0
        drain(studio)
        more = published(studio, 5)
        go(child)
        assert line_of(child) == "drained"
    assert DeliveryTable(studio.store).count() == len(events)
    drain(studio)
    assert_each_once(studio, events + more, 1)
