"""Exactly one record per due time, whatever happens to any number of processes on one store.

Real processes that are killed, stopped and started at once, a disk that really runs full, a clock that is set. What
takes a minute in life takes seconds here; with FAULTS_IN_FULL=1 it takes its minute.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.disks import MIB, small_disk
from support.studios import Env, line_of, persona_of, python, studio_at, wait_until
from test_http_tool import serving

from personas_nb import Studio
from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.execution import Execution
from personas_nb.entities.trigger import UNCHANGED, Fire, Trigger
from personas_nb.store import leases
from personas_nb.triggers.planning import ANCHOR
from personas_nb.triggers.polling import FIRST_LOOK
from personas_nb.triggers.tenure import LEASE

IN_FULL = bool(os.environ.get("FAULTS_IN_FULL"))
SPAN_SECONDS = 60.0 if IN_FULL else 8.0
EXPIRY_SECONDS = 20.0 if IN_FULL else 2.0
STOPPED_SECONDS = 40.0 if IN_FULL else 4.0
COUNT = 200
PERSONAS = 4  # a queue takes 100 runs of each

HOST = """
    import sys
    from personas_nb.store import leases
    leases.EXPIRY_SECONDS = float(sys.argv[2])
    if leases.EXPIRY_SECONDS < 20:
        import personas_nb.worker
        personas_nb.worker.HEARTBEAT_SECONDS = leases.EXPIRY_SECONDS / 4
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    worker_id = studio.worker.id
    if "wait" in sys.argv:
        print("ready", flush=True)
        sys.stdin.readline()
    studio.triggers.start()
    print(worker_id, flush=True)
    for _line in sys.stdin:
        print(studio.triggers.status().is_here, flush=True)
    studio.close()
"""


class Hosts:
    """Processes that host the loop on one home, each under a name of ours."""

    def __init__(self, home: Path, stack: ExitStack, env: Env | None = None) -> None:
        self.home, self._stack, self._env = home, stack, env
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> str:
        """Start it and wait until it fires, or stands by; the id of its worker."""
        self.begin(name)
        return line_of(self.processes[name])

    def begin(self, name: str, *words: str) -> None:
        """Start it; what it says first is not waited for."""
        process = python(HOST, str(self.home), str(EXPIRY_SECONDS), *words, env=self._env)
        self.processes[name] = self._stack.enter_context(process)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def holder(self, studio: Studio) -> str | None:
        """The one that fires."""
        held = holder(studio)
        return next((name for name, one in self.processes.items() if held and one.pid == held.pid), None)

    def go(self, name: str) -> None:
        stdin = self.processes[name].stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()

    def is_here(self, name: str) -> bool:
        """What the process itself believes."""
        self.go(name)
        return line_of(self.processes[name]) == "True"


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home) as opened:
        yield opened


@pytest.fixture
def hosts(studio: Studio) -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(studio.home, stack)


def personas(studio: Studio) -> list[str]:
    return [persona_of(studio, name=f"Persona {n}").id for n in range(PERSONAS)]


def planned(studio: Studio, dues: list[datetime], interval_seconds: int = 86_400) -> dict[str, datetime]:
    """Triggers with these first due times, over several personas: by id."""
    owners, table, made = personas(studio), studio.store.table("triggers", Trigger), {}
    with studio.store.write():
        for n, due in enumerate(dues):
            trigger = Trigger(
                persona_id=owners[n % len(owners)],
                trigger_type="polling",
                config={"interval_seconds": interval_seconds},
                state={ANCHOR: rfc3339(due - timedelta(seconds=interval_seconds))},
                next_trigger_at=due,
            )
            made[table.insert(trigger).id] = due
    return made


def spread(count: int, seconds: float, lead_seconds: float = 1.0) -> list[datetime]:
    first = now() + timedelta(seconds=lead_seconds)
    return [first + timedelta(seconds=seconds * n / count) for n in range(count)]


def fires(studio: Studio) -> list[Fire]:
    return studio.store.table("fires", Fire).find(order_by="due_at, rowid")


def assert_each_has_one_record(studio: Studio, expected: Counter[tuple[str, datetime]]) -> None:
    """One fire of each due time, with its one run or its reason, and no run besides."""
    recorded = fires(studio)
    assert Counter((fire.trigger_id, fire.due_at) for fire in recorded) == expected
    assert all((fire.execution_id is None) != (fire.reason is None) for fire in recorded), recorded
    assert all(fire.count == 1 for fire in recorded)
    with studio.store.read() as db:
        runs = [row[0] for row in db.execute("select id from executions where trigger_id is not null")]
    assert sorted(runs) == sorted(fire.execution_id for fire in recorded if fire.execution_id)
    assert studio.store.check() == "ok"


def holder(studio: Studio) -> leases.Lease | None:
    with studio.store.read() as db:
        return leases.holder(db, LEASE)


def count(studio: Studio) -> int:
    return studio.store.table("fires", Fire).count()


# --- killed ---------------------------------------------------------------------------------------------


def test_three_processes_of_which_two_are_killed_again_and_again_record_each_due_time_once(
    studio: Studio, hosts: Hosts
) -> None:
    rng = random.Random()  # where they are hit is left to chance
    for name in ("one", "two", "three"):
        hosts.start(name)
    due = planned(studio, spread(COUNT, SPAN_SECONDS))
    until, killed = time.monotonic() + SPAN_SECONDS + 60, 0
    while count(studio) < COUNT:
        assert time.monotonic() < until, f"{count(studio)} of {COUNT} after {killed} kills"
        time.sleep(rng.uniform(0.2, 2.0))
        at_work = hosts.holder(studio) or "one"
        another = rng.choice(sorted(set(hosts.processes) - {at_work}))
        for name in (at_work, another)[: rng.randint(1, 2)]:
            hosts.kill(name)
            hosts.begin(name)
            killed += 1
    assert killed > 3
    assert_each_has_one_record(studio, Counter(due.items()))
    assert {fire.status for fire in fires(studio)} == {"queued"}
    assert len({fire.worker_id for fire in fires(studio)}) > 1


def ended(studio: Studio) -> list[Execution]:
    """All runs, once all have ended."""
    runs = studio.executions.list()
    return runs if all(run.is_finished for run in runs) else []


def test_runs_that_a_killed_process_had_queued_are_taken_by_another(studio: Studio, hosts: Hosts) -> None:
    due = planned(studio, spread(20, 0.1, lead_seconds=3.0))
    hosts.start("one")
    wait_until(lambda: count(studio))
    hosts.kill("one")
    hosts.start("two")
    wait_until(lambda: count(studio) == 20)
    runs = wait_until(lambda: ended(studio), seconds=60)
    assert_each_has_one_record(studio, Counter(due.items()))
    assert {(run.status, run.error_kind) for run in runs} <= {("completed", None), ("failed", "interrupted")}
    assert sum(run.status == "completed" for run in runs) >= 12  # four at once in the one that was killed


def test_a_look_that_a_killed_process_had_begun_is_made_again_by_another(home: Path) -> None:
    with serving() as server, studio_at(home, http_allowed_hosts="127.0.0.1") as studio, ExitStack() as stack:
        server.on("/page", b"one")
        persona = persona_of(studio)
        config = {"interval_seconds": 86_400, "url": server.url("/page")}
        trigger = studio.triggers.add(persona, "polling", config)
        hosts = Hosts(home, stack)
        hosts.start("one")
        wait_until(lambda: [fire.reason for fire in fires(studio)] == [FIRST_LOOK])
        answer, asked = server.routes["/page"], len(server.requests)
        server.routes["/page"] = lambda _handler: time.sleep(60)
        studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=now())
        wait_until(lambda: len(server.requests) > asked)
        server.routes["/page"] = answer
        assert [fire.status for fire in fires(studio)] == ["skipped", "checking"]
        hosts.kill("one")
        worker_id = hosts.start("two")
        settled = wait_until(lambda: (last := fires(studio)[-1]).status != "checking" and last)
        assert (settled.reason, settled.worker_id, count(studio)) == (UNCHANGED, worker_id, 2)


# --- stopped --------------------------------------------------------------------------------------------


def stop_outside_a_transaction(studio: Studio, process: subprocess.Popen[str]) -> None:
    """SIGSTOP; inside a transaction it would keep everybody from writing, which is another matter."""
    while True:
        process.send_signal(signal.SIGSTOP)
        look = sqlite3.connect(studio.store.path, timeout=0.3, isolation_level=None)
        try:
            look.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        finally:
            look.close()


def test_a_holder_that_is_stopped_and_goes_on_notices_and_writes_nothing_more(
    studio: Studio, hosts: Hosts
) -> None:
    one, two = hosts.start("one"), hosts.start("two")
    first = planned(studio, spread(5, 1.0), interval_seconds=1)
    wait_until(lambda: count(studio) >= 10)
    stop_outside_a_transaction(studio, hosts.processes["one"])
    stopped_at = time.monotonic()
    wait_until(lambda: hosts.holder(studio) == "two", seconds=EXPIRY_SECONDS + 10)
    of_one = sum(fire.worker_id == one for fire in fires(studio))
    time.sleep(max(0.0, STOPPED_SECONDS - (time.monotonic() - stopped_at)))  # with plans that are long due
    hosts.processes["one"].send_signal(signal.SIGCONT)
    before = count(studio)
    wait_until(lambda: count(studio) >= before + 10)
    assert hosts.holder(studio) == "two"
    assert not hosts.is_here("one")
    assert {fire.worker_id for fire in fires(studio)} == {one, two}
    assert sum(fire.worker_id == one for fire in fires(studio)) == of_one
    hosts.processes["two"].communicate()  # it closes: the one that was stopped takes part again
    wait_until(lambda: sum(fire.worker_id == one for fire in fires(studio)) > of_one)
    hosts.processes["one"].communicate()
    assert_each_has_one_record(studio, contiguous(studio, first))


def contiguous(studio: Studio, first: dict[str, datetime]) -> Counter[tuple[str, datetime]]:
    """Every second from the first due time of each trigger to its last one that is recorded."""
    last = {fire.trigger_id: fire.due_at for fire in fires(studio)}
    return Counter(
        (trigger_id, due + timedelta(seconds=n))
        for trigger_id, due in first.items()
        for n in range(round((last[trigger_id] - due).total_seconds()) + 1)
    )


def test_a_loop_that_is_stopped_in_the_moment_in_which_it_wakes_ends_all_the_same(studio: Studio) -> None:
    for _ in range(30):  # a cancel and a result at once: either may win
        studio.triggers.start()
        studio.trigger_loop.nudge()
        studio.triggers.stop()
        assert not studio.trigger_loop.is_hosted
    assert holder(studio) is None


# --- at the same moment ---------------------------------------------------------------------------------


def test_processes_that_start_at_the_same_moment_agree_on_one(studio: Studio, hosts: Hosts) -> None:
    names = ("one", "two", "three")
    for name in names:
        hosts.begin(name, "wait")
    assert [line_of(hosts.processes[name]) for name in names] == ["ready"] * 3
    due = planned(studio, spread(40, 2.0))
    for name in names:
        hosts.go(name)
    workers = [line_of(hosts.processes[name]) for name in names]
    assert [hosts.is_here(name) for name in names].count(True) == 1
    wait_until(lambda: count(studio) == 40)
    assert_each_has_one_record(studio, Counter(due.items()))
    (held_by,) = {fire.worker_id for fire in fires(studio)}
    assert held_by in workers


# --- a full disk ----------------------------------------------------------------------------------------


def test_what_was_due_while_the_disk_was_full_is_recorded_once_there_is_room(home: Path) -> None:
    with small_disk(home, 32 * MIB) as disk, studio_at(home) as studio, ExitStack() as stack:
        hosts = Hosts(home, stack)
        hosts.start("one")
        hosts.start("two")
        due = planned(studio, spread(COUNT, 2.0, lead_seconds=2.0))
        with studio.store.read() as db:  # or what is due would fit into the journal's old pages
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        disk.fill()
        last = max(due.values())
        wait_until(lambda: now() > last + timedelta(seconds=1))
        assert count(studio) < COUNT, "nothing was in the way"
        disk.free()
        wait_until(lambda: count(studio) == COUNT, seconds=60)
        assert [hosts.is_here(name) for name in ("one", "two")].count(True) == 1
        assert_each_has_one_record(studio, Counter(due.items()))
        assert {fire.status for fire in fires(studio)} == {"queued"}


# --- a clock that is set --------------------------------------------------------------------------------


class Clock:
    """A clock that runs as any other, and can be set."""

    def __init__(self, moment: datetime) -> None:
        self.set(moment)

    def set(self, moment: datetime) -> None:
        self._moment, self._began = moment, time.monotonic()

    def move(self, **by: float) -> None:
        self.set(self() + timedelta(**by))

    def __call__(self) -> datetime:
        return self._moment + timedelta(seconds=time.monotonic() - self._began)


MORNING = datetime(2026, 11, 21, 9, 5, tzinfo=UTC)
TEN_MINUTES = {"cron": "*/10 * * * *", "timezone": "UTC"}


@pytest.fixture
def clock(studio: Studio) -> Iterator[Clock]:
    studio.triggers.clock = clock = Clock(MORNING)
    persona_of(studio)
    yield clock
    studio.triggers.stop()


def at(hour: int, minute: int) -> datetime:
    return datetime(2026, 11, 21, hour, minute, tzinfo=UTC)


def settled(studio: Studio, clock: Clock) -> None:
    """Once everything that is due has been decided."""
    studio.trigger_loop.nudge()
    table = studio.store.table("triggers", Trigger)
    wait_until(lambda: table.count("enabled and next_trigger_at <= ?", [clock()]) == 0)


def until(studio: Studio, clock: Clock, moment: datetime) -> None:
    """Let the clock come to a moment, as if it had run there, and all that is due then be decided."""
    clock.set(moment - timedelta(milliseconds=50))
    studio.trigger_loop.nudge()
    wait_until(lambda: clock() > moment)
    settled(studio, clock)


def dues_of(studio: Studio) -> list[datetime]:
    return [fire.due_at for fire in fires(studio)]


def test_a_clock_that_is_set_forward_by_an_hour_accounts_for_what_was_missed(
    studio: Studio, clock: Clock
) -> None:
    trigger = studio.triggers.add("watcher", "schedule", TEN_MINUTES)
    studio.triggers.start()
    until(studio, clock, at(9, 10))
    clock.move(hours=1)
    settled(studio, clock)
    found = [(fire.due_at, fire.status) for fire in fires(studio)]
    assert found == [
        (at(9, 10), "queued"),
        *((at(9, minute), "skipped") for minute in (20, 30, 40, 50)),
        (at(10, 0), "queued"),  # the newest of those that nobody saw in time
        (at(10, 10), "queued"),  # due just now
    ]
    assert_each_has_one_record(studio, Counter((trigger.id, due) for due, _status in found))


def test_a_clock_that_is_set_back_by_an_hour_fires_nothing_twice_and_waits_for_no_hour(
    studio: Studio, clock: Clock
) -> None:
    trigger = studio.triggers.add("watcher", "schedule", TEN_MINUTES)
    studio.triggers.start()
    until(studio, clock, at(9, 10))
    clock.move(hours=-1)
    settled(studio, clock)
    assert dues_of(studio) == [at(9, 10)]
    expected = [at(8, 20) + timedelta(minutes=10 * n) for n in range(7)]
    for n, moment in enumerate(expected):
        until(studio, clock, moment)
        assert dues_of(studio) == sorted({at(9, 10), *expected[: n + 1]})
    assert_each_has_one_record(studio, Counter((trigger.id, due) for due in expected))
    assert studio.triggers.get(trigger.id).next_trigger_at == at(9, 30)


@pytest.mark.parametrize("seed", range(3))
def test_however_often_the_clock_is_set_each_due_time_has_one_record(
    studio: Studio, clock: Clock, seed: int
) -> None:
    rng = random.Random(seed)
    steps = {
        studio.triggers.add(
            "watcher", "polling", {"interval_seconds": seconds, "catch_up": catch_up}
        ).id: seconds
        for seconds, catch_up in ((600, "once"), (420, "skip"), (1860, "all"))
    }
    begun = {one.id: one.next_trigger_at for one in studio.triggers.list()}
    studio.triggers.start()
    farthest = clock()
    for _ in range(12):
        clock.move(minutes=rng.choice([-60, -7, 0.5, 3, 60]) * rng.uniform(0.5, 1.5))
        settled(studio, clock)
        farthest = max(farthest, clock())
    clock.set(farthest + timedelta(hours=1))
    settled(studio, clock)
    studio.triggers.stop()
    recorded = Counter((fire.trigger_id, fire.due_at) for fire in fires(studio))
    assert set(recorded.values()) == {1}
    for trigger_id, seconds in steps.items():
        first = begun[trigger_id]
        assert first is not None
        due = first
        while due < farthest + timedelta(minutes=59):
            assert (trigger_id, due) in recorded, f"{due} of every {seconds} s is lost"
            due += timedelta(seconds=seconds)
        assert all(
            (due - first) % timedelta(seconds=seconds) == timedelta(0)
            for one, due in recorded
            if one == trigger_id
        )
