"""The background thread of a process: begun late, shared, gone in time, whatever happens to its process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn
from support.studios import line_of, persona_of, python, settings_for, studio_at, wait_until

from personas_nb import Studio
from personas_nb.errors import StoreError
from personas_nb.store.database import Store
from personas_nb.store.lookout import LOOK_SECONDS
from personas_nb.worker import Worker, give_back, is_alive, lend


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(home)
    yield opened
    opened.close()


@pytest.fixture
def worker(store: Store) -> Iterator[Worker]:
    lent = lend(store)
    with store.write() as db:
        db.execute("create table notes (n integer primary key, who text)")
    yield lent
    give_back(lent)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def notes(store: Store) -> list[tuple[int, str]]:
    with store.read() as db:
        return [tuple(row) for row in db.execute("select n, who from notes order by rowid")]


def threads() -> set[str]:
    """The worker's; a thread that asks a locked keyring is of another test, and ends when its time is over."""
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("personas-") and name != "personas-keyring"}


# --- begin and end --------------------------------------------------------------------------------------


def test_reading_needs_no_worker(home: Path):
    with studio_at(home) as studio:
        persona_of(studio)
        studio.executions.list()
        assert threads() == set()
        with studio.store.read() as db:
            assert db.execute("select count(*) from workers").fetchone()[0] == 0


def test_the_worker_is_shared_and_the_last_one_stops_it(store: Store):
    first, second = lend(store), lend(Store(store.home))
    assert first is second
    give_back(first)
    assert first.run(asyncio.sleep(0, "still here")) == "still here"
    give_back(second)
    wait_until(lambda: threads() == set())
    assert not is_alive(first.lock_path)
    with pytest.raises(StoreError, match="has stopped"):
        first.spawn(asyncio.sleep(0))
    with pytest.raises(StoreError, match="nothing was written"):
        first.write(lambda db: None).result(5)


def test_threads_that_use_a_new_studio_at_once_borrow_one_worker_once(home: Path, quick_switches: None):
    with studio_at(home) as studio:
        persona_of(studio, max_concurrent=8)
        barrier = threading.Barrier(8)

        def run(number: int) -> str:
            barrier.wait()
            return studio.run("watcher", str(number)).status

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(run, range(8))) == {"completed"}
    assert threads() == set()


def test_a_home_reached_through_a_link_is_the_same_home(home: Path, tmp_path: Path):
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    with Studio(home) as direct, Studio(tmp_path / "link") as linked:
        assert direct.worker is linked.worker
    assert threads() == set()


def test_giving_back_twice_stops_nobody_elses(store: Store):
    first = lend(store)
    give_back(first)
    second = lend(store)
    give_back(first)
    assert second.run(asyncio.sleep(0, 1)) == 1
    give_back(second)


def test_a_task_that_does_not_end_delays_the_stop_by_three_seconds_at_most(store: Store):
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    lent = lend(store)
    lent.spawn(stubborn())
    started = time.monotonic()
    give_back(lent)
    assert time.monotonic() - started < 3.9


def test_a_loop_that_is_blocked_delays_the_stop_by_four_seconds_at_most(store: Store):
    release = threading.Event()

    async def block() -> None:
        release.wait(30)

    lent = lend(store)
    lent.spawn(block())
    started = time.monotonic()
    give_back(lent)
    took = time.monotonic() - started
    release.set()
    assert took < 4.5


def test_run_refuses_to_wait_for_itself(worker: Worker):
    async def inside() -> None:
        worker.run(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="await the coroutine instead"):
        worker.run(inside())


def test_a_timer_outlives_its_own_errors(worker: Worker):
    calls = []

    async def action() -> None:
        calls.append(1)
        raise ValueError("once more")

    worker.every(0.01, action)
    wait_until(lambda: len(calls) > 2)


def test_a_service_is_made_once(worker: Worker):
    made = [worker.service("x", object) for _ in range(3)]
    assert len(set(map(id, made))) == 1


# --- the writer -----------------------------------------------------------------------------------------


def insert(n: int, who: str):  # type: ignore[no-untyped-def]
    return lambda db: db.execute("insert into notes values (?, ?)", [n, who])


def test_changes_keep_their_order_and_a_failing_one_fails_alone(worker: Worker, store: Store):
    with store.write():  # the writer has to wait, so that all of them are one batch
        futures = [worker.write(insert(n, "a")) for n in range(5)]
        bad = worker.write(insert(3, "twice"))
        late = worker.write(insert(9, "b"))
    assert [future.result(5) is not None for future in futures] == [True] * 5
    assert isinstance(bad.exception(5), sqlite3.IntegrityError)
    late.result(5)
    assert notes(store) == [*((n, "a") for n in range(5)), (9, "b")]


def test_many_threads_write_without_a_loss(worker: Worker, store: Store):
    def write(who: int) -> None:
        for n in range(200):
            worker.write(insert(who * 1000 + n, str(who)))

    writers = [threading.Thread(target=write, args=(who,)) for who in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    worker.write(lambda db: None).result(30)
    found = notes(store)
    assert len(found) == 1600
    for who in range(8):
        assert [n for n, writer in found if writer == str(who)] == [who * 1000 + n for n in range(200)]


def test_what_was_queued_is_written_before_the_stop(store: Store):
    lent = lend(store)
    with store.write() as db:
        db.execute("create table notes (n integer primary key, who text)")
    for n in range(500):
        lent.write(insert(n, "x"))
    give_back(lent)
    assert len(notes(store)) == 500


def test_who_asks_whether_it_lives_leaves_its_heartbeat_alone(worker: Worker):
    os.utime(worker.lock_path, (7, 7))
    assert is_alive(worker.lock_path)
    assert worker.lock_path.stat().st_mtime == 7


def test_two_that_ask_at_once_about_one_that_is_gone_take_each_other_for_nothing(tmp_path: Path):
    import fcntl

    lock = tmp_path / "gone.lock"
    lock.touch()
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another one that asks
        assert not is_alive(lock)


def test_the_heart_beats_and_the_end_is_noted(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("personas_nb.worker.HEARTBEAT_SECONDS", 0.05)
    lent = lend(store)

    def row() -> sqlite3.Row:
        with store.read() as db:
            return db.execute("select * from workers where id = ?", [lent.id]).fetchone()

    os.utime(lent.lock_path, (0, 0))
    wait_until(lambda: time.time() - lent.lock_path.stat().st_mtime < 60)
    give_back(lent)
    assert row()["stopped_at"] is not None


@pytest.fixture
def beating(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beating]:
    monkeypatch.setattr("personas_nb.worker.HEARTBEAT_SECONDS", 0.02)
    lent = lend(store)
    yield Beating(lent)
    give_back(lent)


class Beating:
    """A worker whose heart beats fast; how often it has told of a change."""

    def __init__(self, lent: Worker) -> None:
        self.worker, self.told = lent, 0
        lent.when_changed(self._count)

    def _count(self) -> None:
        self.told += 1

    def beats(self, count: int) -> None:
        for _ in range(count):
            os.utime(self.worker.lock_path, (0, 0))
            wait_until(lambda: self.worker.lock_path.stat().st_mtime > 0)

    def settle(self) -> None:
        """Let it see what began with it."""
        while (before := self.told) >= 0:
            time.sleep(2 * LOOK_SECONDS)
            self.beats(2)
            if self.told == before:
                return


def test_a_heart_that_beats_wakes_nobody(beating: Beating, store: Store):
    beating.settle()
    before = store.version(), beating.told
    beating.beats(5)
    assert (store.version(), beating.told) == before


def test_while_something_is_open_every_heartbeat_tells(beating: Beating, store: Store):
    beating.settle()
    event = (
        "insert into events (id, event_type, source_type, status, created_at) values ('e', 't', 's', ?, '')"
    )
    with store.write() as db:
        db.execute(event, ["pending"])
    before = beating.told
    wait_until(lambda: beating.told > before + 5)
    with store.write() as db:
        db.execute("update events set status = 'processed'")
    beating.settle()


def test_what_is_left_behind_on_the_loop_is_not_printed(
    worker: Worker, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    async def leave() -> None:
        asyncio.get_running_loop().create_future().set_exception(ValueError("nobody asks"))

    worker.run(leave())
    gc.collect()
    wait_until(lambda: "never retrieved" in caplog.text)
    assert capfd.readouterr().err == ""


# --- threads for calls ----------------------------------------------------------------------------------


def test_idle_threads_are_used_again_and_end_with_the_worker(worker: Worker):
    async def name() -> str:
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    for _ in range(20):
        assert worker.run(name()) == "personas-call"
    assert sum(thread.name == "personas-call" for thread in threading.enumerate()) <= 10


def test_calls_at_once_do_not_wait_for_each_other(worker: Worker):
    barrier = threading.Barrier(12)

    async def all_of_them() -> None:
        await asyncio.gather(*(asyncio.to_thread(barrier.wait, 10) for _ in range(12)))

    worker.run(all_of_them(), 20)


# --- processes ------------------------------------------------------------------------------------------

RUN = """
    import os, sys, time
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    studio.executions
    handle = studio.start("watcher")
    while not any(e.type == "text" for _s, _a, e in studio.executions.recorded(handle.id)):
        time.sleep(0.02)
    print(handle.id, flush=True)
"""


def lock_of(studio: Studio, execution_id: str) -> Path:
    with studio.store.read() as db:
        row = db.execute(
            "select w.lock_path from executions e join workers w on w.id = e.worker_id where e.id = ?",
            [execution_id],
        ).fetchone()
    return Path(row[0])


def test_a_process_ends_promptly_with_a_run_going_on_which_keeps_what_it_had(home: Path):
    slow = Turn.text("Begun. and then", chunk=6).hang_after(1)
    with ModelServer([slow]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with python(RUN, str(home), env=settings_for(server)) as process:
            execution_id = line_of(process)
            started = time.monotonic()
            _, errors = process.communicate(timeout=20)
            assert time.monotonic() - started < 5
            assert (process.returncode, errors) == (0, "")
        run = studio.executions.get(execution_id)
        assert (run.status, run.error_kind, run.output_data) == ("failed", "interrupted", "Begun.")


def test_a_process_ends_promptly_with_a_tool_that_sleeps(home: Path):
    code = """
        import sys, threading, time
        from personas_nb import Studio
        from personas_nb.tools.builtin import BUILTIN
        begun = threading.Event()
        BUILTIN["builtin://file_read"] = lambda place, arguments: (begun.set(), time.sleep(60))
        studio = Studio(sys.argv[1])
        studio.start("watcher")
        begun.wait()
        print("sleeping", flush=True)
    """
    turn = Turn.tools(("file_read", {"path": "x"}))
    with ModelServer([turn]) as server, studio_at(home, server) as studio:
        persona_of(studio, "file_read")
        with python(code, str(home), env=settings_for(server)) as process:
            assert line_of(process) == "sleeping"
            started = time.monotonic()
            process.communicate(timeout=30)
            assert time.monotonic() - started < 5
        assert studio.executions.list()[0].status == "failed"


def test_the_lock_is_free_after_kill_9_and_held_while_stopped(home: Path):
    slow = Turn.text("Begun. and then", chunk=6).hang_after(1)
    with ModelServer([slow]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with python(RUN + "    input()\n", str(home), env=settings_for(server)) as process:
            lock = lock_of(studio, line_of(process))
            assert is_alive(lock)
            process.send_signal(signal.SIGSTOP)
            assert is_alive(lock)
            process.kill()
            process.wait()
            assert not is_alive(lock)


def test_a_forked_child_gets_a_worker_of_its_own_and_leaves_the_parents_alone(home: Path):
    code = """
        import os, sys
        from personas_nb import Studio
        from personas_nb.worker import is_alive
        studio = Studio(sys.argv[1])
        assert studio.run("watcher").status == "completed"
        mine = studio.worker
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
            assert is_alive(mine.lock_path)
            assert studio.worker is mine
            assert studio.run("watcher").status == "completed"
            print(len(studio.executions.list()), flush=True)
        else:
            try:
                assert studio.run("watcher").status == "completed"
                assert studio.worker is not mine
                assert studio.worker.lock_path != mine.lock_path
                studio.close()
                assert is_alive(mine.lock_path)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    """
    with studio_at(home) as studio:
        persona_of(studio)
    with python(code, str(home)) as process:
        assert line_of(process) == "3"


def test_a_forked_child_that_lives_on_does_not_hold_its_dead_parents_lock(home: Path):
    code = """
        import os, sys, time
        from personas_nb import Studio
        studio = Studio(sys.argv[1])
        studio.run("watcher")
        child = os.fork()
        if child == 0:
            os.close(1)
            time.sleep(30)
            os._exit(0)
        print(studio.worker.lock_path, child, flush=True)
        input()
    """
    with studio_at(home) as studio:
        persona_of(studio)
    with python(code, str(home)) as process:
        lock, child = line_of(process).split()
        try:
            assert is_alive(Path(lock))
            process.kill()
            process.wait()
            # the child lets go in its own time: it may not have run a step yet
            wait_until(lambda: not is_alive(Path(lock)))
            os.kill(int(child), 0)
        finally:
            os.kill(int(child), signal.SIGKILL)
