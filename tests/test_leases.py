"""Who fires triggers, of all processes on one store: taken, kept, taken over, given back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from support.studios import line_of, persona_of, python, studio_at, wait_until

from personas_nb import Studio
from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import StoreError
from personas_nb.store import leases
from personas_nb.store.database import Store
from personas_nb.triggers.tenure import LEASE
from personas_nb.worker import is_alive

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOST = """
    import sys
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    studio.triggers.start("headless")
    print(studio.worker.id, flush=True)
    sys.stdin.readline()
    studio.close()
    print("closed", flush=True)
"""


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(home)
    yield opened
    opened.close()


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, provider="rehearsal") as opened:
        persona_of(opened)
        yield opened


def worker_row(store: Store, worker_id: str, lock_path: Path) -> None:
    with store.write() as db:
        db.execute(
            "insert into workers (id, host, pid, lock_path, started_at) values (?, 'elsewhere', 7, ?, ?)",
            [worker_id, str(lock_path), rfc3339(now())],
        )


def take(store: Store, worker_id: str, moment: datetime, *alive: str) -> int | None:
    with store.write() as db:
        return leases.take(db, LEASE, worker_id, moment, lambda path: path.stem in alive, "headless")


@pytest.fixture
def two(store: Store) -> Store:
    for name in ("a", "b"):
        worker_row(store, name, store.home / "locks" / f"{name}.lock")
    return store


# --- the rows ------------------------------------------------------------------------------------------


def test_the_first_takes_it_and_keeps_it_under_its_epoch(two: Store):
    assert take(two, "a", NINE, "a") == 1
    assert take(two, "a", NINE + timedelta(seconds=15), "a") == 1
    with two.read() as db:
        held = leases.holder(db, LEASE)
    assert held is not None
    assert (held.worker_id, held.kind, held.taken_at) == ("a", "headless", NINE)
    assert held.expires_at == NINE + timedelta(seconds=15 + leases.EXPIRY_SECONDS)


def test_nobody_takes_what_a_living_worker_holds(two: Store):
    take(two, "a", NINE, "a")
    assert take(two, "b", NINE + timedelta(seconds=19.9), "a", "b") is None
    with two.read() as db:
        assert leases.holds(db, LEASE, "a", 1)


def test_it_is_taken_over_when_it_has_expired(two: Store):
    take(two, "a", NINE, "a")
    assert take(two, "b", NINE + timedelta(seconds=20), "a", "b") == 2
    with two.read() as db:
        assert not leases.holds(db, LEASE, "a", 1)
        assert leases.holds(db, LEASE, "b", 2)


def test_it_is_taken_over_at_once_when_its_holder_is_gone(two: Store):
    take(two, "a", NINE, "a")
    assert take(two, "b", NINE + timedelta(seconds=1), "b") == 2


def test_what_was_given_back_can_be_taken_at_once_and_its_epoch_goes_on(two: Store):
    take(two, "a", NINE, "a")
    with two.write() as db:
        leases.give_up(db, LEASE, "b")  # not the holder's
        assert leases.holder(db, LEASE) is not None
        leases.give_up(db, LEASE, "a")
        assert leases.holder(db, LEASE) is None
        assert not leases.holds(db, LEASE, "a", 1)
    assert take(two, "b", NINE, "a", "b") == 2
    assert take(two, "a", NINE, "a", "b") is None


def test_a_renewal_puts_its_end_off(two: Store):
    take(two, "a", NINE, "a")
    (two.home / "locks").mkdir(exist_ok=True)
    leases.renew(two.home / "locks", LEASE, NINE + timedelta(seconds=12))
    assert take(two, "b", NINE + timedelta(seconds=31.9), "a", "b") is None
    assert take(two, "b", NINE + timedelta(seconds=32), "a", "b") == 2


def test_a_renewal_counts_also_when_it_was_taken_by_a_clock_far_ahead(two: Store):
    take(two, "a", NINE + timedelta(hours=1), "a")
    (two.home / "locks").mkdir(exist_ok=True)
    leases.renew(two.home / "locks", LEASE, NINE)
    assert take(two, "b", NINE + timedelta(seconds=1), "a", "b") is None


def test_a_renewal_of_one_that_is_gone_keeps_nobody_out(two: Store):
    take(two, "a", NINE, "a")
    (two.home / "locks").mkdir(exist_ok=True)
    leases.renew(two.home / "locks", LEASE, NINE)
    assert take(two, "b", NINE + timedelta(seconds=1), "b") == 2


def test_one_that_expired_unseen_is_kept_under_its_epoch(two: Store):
    take(two, "a", NINE, "a")
    assert take(two, "a", NINE + timedelta(hours=1), "a") == 1


def test_a_lease_that_was_written_by_a_clock_far_ahead_does_not_last(two: Store):
    take(two, "a", NINE + timedelta(hours=1), "a")
    assert take(two, "b", NINE, "a", "b") == 2


def test_a_former_holder_that_comes_back_finds_an_epoch_that_is_not_its_own(two: Store):
    take(two, "a", NINE, "a")
    take(two, "b", NINE + timedelta(seconds=30), "a", "b")
    assert take(two, "a", NINE + timedelta(seconds=60), "a", "b") == 3
    with two.read() as db:
        assert not leases.holds(db, LEASE, "a", 1)


# --- of the loop ---------------------------------------------------------------------------------------


@contextmanager
def other_holder(studio: Studio) -> Iterator[FileLock]:
    """Somebody else holds the lease, for as long as the lock is held."""
    lock = FileLock(studio.home / "locks" / "other.lock", thread_local=False)
    studio.worker  # noqa: B018 - it makes the folder
    with lock:
        worker_row(studio.store, "other", Path(lock.lock_file))
        with studio.store.write() as db:
            assert leases.take(db, LEASE, "other", now(), is_alive, "server") is not None
        yield lock


def test_one_stands_by_while_another_fires_and_takes_over_when_it_is_gone(studio: Studio):
    trigger = studio.triggers.add("watcher", "schedule", {"cron": "0 * * * *"})
    with other_holder(studio):
        status = studio.triggers.start()
        assert (status.is_running, status.is_here, status.stands_by) == (True, False, True)
        assert (status.kind, status.host, status.pid) == ("server", "elsewhere", 7)
        studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=now())
        studio.worker.changed()
        assert studio.triggers.fires() == []
    wait_until(lambda: studio.triggers.status().is_here)
    wait_until(studio.triggers.fires)


def test_a_holder_whose_lease_was_taken_writes_nothing_more_and_stands_by(studio: Studio):
    trigger = studio.triggers.add("watcher", "schedule", {"cron": "0 * * * *"})
    studio.triggers.start()
    assert studio.trigger_loop.is_here
    with FileLock(studio.home / "locks" / "thief.lock", thread_local=False) as lock:
        worker_row(studio.store, "thief", Path(lock.lock_file))
        with studio.store.write() as db:
            leases.give_up(db, LEASE, studio.worker.id)
            leases.take(db, LEASE, "thief", now(), is_alive)
            db.execute("update triggers set next_trigger_at = ?", [rfc3339(now())])
        wait_until(lambda: not studio.trigger_loop.is_here)
        assert studio.triggers.fires() == []
        assert studio.triggers.get(trigger).next_trigger_at is not None
        assert studio.triggers.status().stands_by
    wait_until(studio.triggers.fires)  # the thief is gone


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hearts beat, and leases expire, within a second."""
    monkeypatch.setattr("personas_nb.worker.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.5)


def is_valid(studio: Studio) -> bool:
    with studio.store.read() as db:
        held = leases.holder(db, LEASE)
    return held is not None and leases.is_valid(held, LEASE, now(), is_alive)


@pytest.mark.usefixtures("short")
def test_a_lease_lasts_as_long_as_its_holder_fires_and_writes_nothing(studio: Studio):
    studio.triggers.start()
    version = studio.store.version()
    for _ in range(20):
        assert is_valid(studio)
        time.sleep(0.1)
    assert studio.store.version() == version
    assert studio.triggers.status().is_here


@pytest.mark.usefixtures("short")
def test_a_holder_that_cannot_fire_loses_its_lease(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    trigger = studio.triggers.add("watcher", "schedule", {"cron": "0 * * * *"})
    studio.triggers.start()

    def refused(*_: object) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(studio.trigger_loop, "_decide", refused)
    studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=now())
    wait_until(lambda: not is_valid(studio))


@pytest.mark.usefixtures("short")
def test_a_holder_that_hangs_loses_its_lease(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    trigger = studio.triggers.add("watcher", "schedule", {"cron": "0 * * * *"})
    studio.triggers.start()
    over = threading.Event()
    monkeypatch.setattr(studio.trigger_loop, "_load", lambda *_: over.wait(20))
    studio.store.table("triggers", Trigger).update(trigger.id, next_trigger_at=now())
    try:
        wait_until(lambda: not is_valid(studio))
    finally:
        over.set()


@pytest.mark.usefixtures("short")
def test_a_lease_that_could_not_be_given_up_expires(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    studio.triggers.start()

    def refused(*_: object) -> None:
        raise StoreError("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(leases, "give_up", refused)
        with pytest.raises(StoreError):
            studio.triggers.stop()
    wait_until(lambda: not is_valid(studio))
    assert not studio.triggers.status().is_running


def test_a_process_that_ends_lets_another_take_over_at_once(studio: Studio):
    with python(HOST, str(studio.home)) as process:
        worker_id = line_of(process)
        status = studio.triggers.start()
        assert (status.is_here, status.stands_by, status.kind, status.pid) == (
            False,
            True,
            "headless",
            process.pid,
        )
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert line_of(process) == "closed"
        wait_until(lambda: studio.trigger_loop.is_here)
        with studio.store.read() as db:
            held = leases.holder(db, LEASE)
        assert held is not None
        assert held.worker_id != worker_id
        assert held.epoch == 2


def test_a_process_that_is_killed_is_succeeded_before_its_lease_expires(studio: Studio):
    with python(HOST, str(studio.home)) as process:
        line_of(process)
        assert studio.triggers.start().stands_by
        killed = now()
        process.kill()
        process.wait()
        wait_until(lambda: studio.trigger_loop.is_here)
        assert now() - killed < timedelta(seconds=leases.EXPIRY_SECONDS / 2)


def test_a_status_says_nobody_fires_when_the_holder_was_killed(home: Path):
    with python(HOST, str(home)) as process, Studio(home) as studio:
        line_of(process)
        assert studio.triggers.status().is_running
        process.kill()
        process.wait()
        assert not studio.triggers.status().is_running
