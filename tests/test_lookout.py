"""What others write is seen soon, and nobody looks while nothing is written."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.studios import line_of, python, wait_until

from personas_nb.entities.base import now
from personas_nb.store import lookout
from personas_nb.store.database import Store
from personas_nb.store.leases import renew
from personas_nb.store.lookout import Lookout
from personas_nb.worker import is_alive

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system tells of writes on Linux")
WRITER = """
    import sys
    from pathlib import Path
    from personas_nb.store.database import Store

    store = Store(Path(sys.argv[1]))
    for line in sys.stdin:
        with store.write() as db:
            db.execute("insert into switches (id, value, changed_at) values (?, '', '')", [line.strip()])
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(lookout, "ECHO_SECONDS", 0.5)


class Watched:
    """A lookout on a loop of its own: how often it looked, and how often it told of a change."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        self.looks = self.told = 0
        self.loop = asyncio.new_event_loop()
        self.locks = home / "locks"
        self.locks.mkdir(parents=True, exist_ok=True)
        self.lookout = Lookout(self.store, self.locks, self.loop, self._tell)
        self._look, self.lookout.look = self.lookout.look, self._counted  # type: ignore[method-assign]
        self.is_listening = False

    def _counted(self) -> None:
        self.looks += 1
        self._look()

    def _tell(self) -> None:
        self.told += 1

    def write(self, name: str) -> None:
        with self.store.write() as db:
            db.execute("insert into switches (id, value, changed_at) values (?, '', '')", [name])

    def told_after(self, name: str) -> None:
        """Write, and wait until that was told."""
        before = self.told
        self.write(name)
        wait_until(lambda: self.told > before)


@contextmanager
def watched(home: Path) -> Iterator[Watched]:
    """One that has begun, and in which the first write was told of."""
    bench = Watched(home)
    thread = threading.Thread(target=bench.loop.run_forever)
    thread.start()
    try:
        bench.is_listening = asyncio.run_coroutine_threadsafe(bench.lookout.begin(), bench.loop).result(10)
        bench.told_after("first")
        yield bench
    finally:
        asyncio.run_coroutine_threadsafe(bench.lookout.end(), bench.loop).result(10)
        bench.loop.call_soon_threadsafe(bench.loop.stop)
        thread.join()
        bench.loop.close()
        bench.store.close()


def settled(bench: Watched) -> int:
    """How often it has looked when it looks no more."""
    wait_until(lambda: bench.lookout.is_told)
    while (before := bench.looks) >= 0:
        time.sleep(3 * lookout.LOOK_SECONDS)
        if bench.looks == before:
            break
    return before


@linux
def test_nobody_looks_while_nothing_is_written(home: Path):
    with watched(home) as bench:
        before = settled(bench)
        time.sleep(3 * lookout.LOOK_SECONDS)
        assert bench.looks == before


@linux
def test_what_another_process_writes_is_told(home: Path):
    with watched(home) as bench, python(WRITER, str(home)) as writer:
        settled(bench)
        assert writer.stdin is not None
        for name in ("one", "two", "three"):
            before = bench.told
            writer.stdin.write(f"{name}\n")
            writer.stdin.flush()
            wait_until(lambda before=before: bench.told > before)  # type: ignore[misc]


HOLDER = """
    import sys
    from filelock import FileLock
    with FileLock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
"""


@linux
def test_that_a_process_was_killed_is_told(home: Path):
    with watched(home) as bench, python(HOLDER, str(home / "locks" / "other.lock")) as holder:
        assert line_of(holder) == "held"
        settled(bench)
        before = bench.told
        holder.kill()
        wait_until(lambda: bench.told > before)


@linux
def test_who_asks_whether_another_lives_or_renews_a_lease_wakes_nobody(home: Path):
    with watched(home) as bench, python(HOLDER, str(home / "locks" / "other.lock")) as holder:
        assert line_of(holder) == "held"
        renew(bench.locks, "triggers", now())
        before = settled(bench)
        for _ in range(5):
            assert is_alive(home / "locks" / "other.lock")
            renew(bench.locks, "triggers", now())
        time.sleep(3 * lookout.LOOK_SECONDS)
        assert bench.looks == before


@linux
def test_many_writes_are_seen_at_a_few_looks(home: Path):
    with watched(home) as bench:
        before, began = settled(bench), time.monotonic()
        for number in range(500):
            bench.write(f"row {number}")
        after = settled(bench)
        assert after - before <= 5 + (time.monotonic() - began) / lookout.LOOK_SECONDS


@linux
def test_a_commit_that_comes_long_after_its_write_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lookout, "ECHO_SECONDS", 30.0)
    with watched(home) as bench:
        wait_until(lambda: bench.lookout.is_told)
        version, before = bench.store.version, bench.told
        seen, late = version(), time.monotonic() + 1.0
        monkeypatch.setattr(bench.store, "version", lambda: seen if time.monotonic() < late else version())
        bench.write("late")
        wait_until(lambda: bench.told > before)


@linux
def test_a_store_that_is_a_link_is_watched_where_it_is(home: Path):
    Store(home).close()
    with Store(home).write():
        pass
    elsewhere = home.with_name("elsewhere")
    elsewhere.mkdir()
    (home / "personas.db").rename(elsewhere / "personas.db")
    (home / "personas.db").symlink_to(elsewhere / "personas.db")
    with watched(home) as bench:
        settled(bench)
        bench.told_after("second")


@linux
def test_a_store_that_was_closed_and_opened_again_is_watched_on(home: Path):
    with watched(home) as bench:
        settled(bench)
        bench.store.close()  # the last one that has it open: SQLite removes its log
        assert not (home / "personas.db-wal").exists()
        bench.told_after("second")
        settled(bench)
        bench.told_after("third")


def test_a_system_that_tells_nothing_is_looked_at_again_and_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "platform", "darwin")
    with watched(home) as bench:
        assert not bench.is_listening
        for name in ("second", "third"):
            bench.told_after(name)


@linux
def test_without_a_watcher_to_spare_it_is_looked_at_again_and_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    import asyncinotify

    class Refused:
        def __init__(self) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(asyncinotify, "Inotify", Refused)
    with watched(home) as bench:
        assert not bench.is_listening
        bench.told_after("second")


def test_a_clock_that_was_set_is_told_at_the_next_glance(home: Path, monkeypatch: pytest.MonkeyPatch):
    with watched(home) as bench:
        before, clock = bench.told, time.time
        monkeypatch.setattr(time, "time", lambda: clock() + 3600)
        bench.loop.call_soon_threadsafe(bench.lookout.glance)
        wait_until(lambda: bench.told > before)


@linux
def test_it_leaves_no_file_open(home: Path):
    def watchers() -> list[str]:
        links = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return [link for link in links if "inotify" in link]

    before = len(watchers())
    with watched(home):
        assert len(watchers()) == before + 1
    assert len(watchers()) == before
