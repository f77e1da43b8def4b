"""The process's one background thread: event loop, writer, heartbeat, timers.

- Everything asynchronous runs on one event loop in a thread of its own; blocking calls wait for it.
- Writes from the loop go through one writer thread in small batches, so that the loop never waits on the disk.
- An OS file lock says that the process lives: it is free the moment the process is gone, however it went, and
  it is held through a long pause of the interpreter, when a heartbeat would be late.
- A stopped process (SIGSTOP, Ctrl-Z) holds its lock too. One that has stood still for ``STALLED_SECONDS`` is given
  up: others end its runs. When it goes on, its next heartbeat tells it so, and it takes part again.
- Every thread is a daemon, also those that ``asyncio.to_thread`` uses: Python waits at its end for the threads of
  an ordinary pool, and a tool may sleep for minutes.
- Nothing in here prints.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import re
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from personas_nb.entities.base import new_id, now, rfc3339
from personas_nb.errors import StoreError
from personas_nb.store.database import Store
from personas_nb.store.lookout import Lookout
from personas_nb.store.quiet import is_quiet

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], Any]

HEARTBEAT_SECONDS = 8.0  # of the 20 that a lease lasts without: one may come late
STALLED_SECONDS = 30.0  # how long a stopped process keeps its runs
PROC = Path("/proc")
CLOCK_SLACK_SECONDS = 60.0  # by how much the clock may have been set since a process began
STOP_SECONDS = 3.0  # Jupyter kills a kernel five seconds after it asked it to end
LAST_SECONDS = 0.3  # what is left for the writer and the loop when the tasks took all the time
BATCH = 512

log = logging.getLogger("personas_nb.worker")
# Without a handler Python would print errors to stderr, from this thread into whatever cell is newest.
logging.getLogger("personas_nb").addHandler(logging.NullHandler())
_lent: dict[Path, tuple[Worker, int]] = {}
_registry_lock = threading.Lock()


class Worker:
    """One event loop and one writer, each in a daemon thread; started by ``lend``, stopped by the last ``give_back``.

    ``run`` waits for a coroutine from any other thread, ``spawn`` starts one, ``write`` queues a transaction.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.id = new_id()
        self.lock_path = store.home / "locks" / f"{self.id}.lock"
        self.is_stopping = False
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_DaemonThreads())
        self.loop.set_exception_handler(_note)  # asyncio would print it, into whatever cell is newest
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._given_up: list[Callable[[], Awaitable[None]]] = []
        self._at_beat: list[Callable[[], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._lookout = Lookout(store, self.lock_path.parent, self.loop, self._tell)
        self._beaten, self._is_quiet = (0, 0), False
        self._writes: queue.SimpleQueue[tuple[Write, Future[Any]] | None] = queue.SimpleQueue()
        self._loop_thread = threading.Thread(target=self._run_loop, name="personas-loop", daemon=True)
        self._writer_thread = threading.Thread(target=self._run_writer, name="personas-writer", daemon=True)
        self._lock: Any = None
        self._services: dict[str, Any] = {}
        self._services_lock = threading.Lock()

    def start(self) -> None:
        """Take the lock, say that this worker lives, start both threads."""
        from filelock import FileLock

        row = (
            self.id,
            socket.gethostname(),
            os.getpid(),
            str(self.lock_path),
            rfc3339(now()),
            rfc3339(now()),
        )
        with self.store.write() as db:  # before the lock's folder, so that an unusable home is explained
            self.lock_path.parent.mkdir(exist_ok=True)
            self._lock = FileLock(self.lock_path, thread_local=False)  # another thread may stop the worker
            self._lock.acquire(timeout=0)
            db.execute(
                "insert into workers (id, host, pid, lock_path, started_at, heartbeat_at) values (?, ?, ?, ?, ?, ?)",
                row,
            )
        self._loop_thread.start()
        self._writer_thread.start()
        self.every(HEARTBEAT_SECONDS, self._beat)
        self.spawn(self._keep_lookout())

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """The coroutine's result; blocks the calling thread, which must not be the loop's own."""
        if threading.current_thread() is self._loop_thread:
            coroutine.close()
            raise RuntimeError("Worker.run would wait for itself; await the coroutine instead")
        future = self.spawn(coroutine)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop; it is cancelled when the worker stops. Raises ``StoreError`` afterwards."""
        if self.is_stopping:
            coroutine.close()
            raise StoreError("The background worker has stopped.", hint="Open the studio again.")
        future: Future[T] = asyncio.run_coroutine_threadsafe(self.tracked(coroutine), self.loop)
        return future

    def write(self, change: Write) -> Future[Any]:
        """Queue a change; the future has its result once it is committed. Changes keep their order.

        A change is called again when another one in its batch fails: it must do nothing but write.
        """
        future = _Written()
        if self.is_stopping and not self._writer_thread.is_alive():
            future.set_exception(StoreError("The worker has stopped; nothing was written."))
            return future
        self._writes.put((change, future))
        return future

    async def written(self, change: Write) -> Any:
        """``write`` for the loop: waits for the commit without blocking."""
        return await asyncio.wrap_future(self.write(change))

    def every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        """Call an asynchronous action again and again, ``seconds`` apart; its errors are logged, not raised."""
        self.spawn(self._repeat(seconds, action))

    def service(self, name: str, make: Callable[[], T]) -> T:
        """The one thing of that name that all who share this worker use; made at the first call."""
        with self._services_lock:
            if name not in self._services:
                self._services[name] = make()
            service: T = self._services[name]
            return service

    def offered(self, name: str) -> Any | None:
        """The service of that name, where somebody has made it already."""
        with self._services_lock:
            return self._services.get(name)

    def at_stop(self, action: Callable[[], Awaitable[None]]) -> None:
        """Call an asynchronous action on the loop when the worker stops."""
        self._closers.append(action)

    def when_changed(self, listener: Callable[[], None]) -> None:
        """Call a function on the loop within a second after anybody has changed the store; not for each change.

        Also at the next heartbeat after the clock was set, and at each while anything is under way or to be done.
        """
        self._listeners.append(listener)

    @property
    def is_told_of_ends(self) -> bool:
        """Whether ``when_changed`` also calls soon after another worker has ended."""
        return self._lookout.is_told

    def at_beat(self, action: Callable[[], None]) -> None:
        """Call a function on the loop at every heartbeat, ``HEARTBEAT_SECONDS`` apart."""
        self._at_beat.append(action)

    def changed(self) -> None:
        """Say that something was written that others of this process wait for: they are called at once."""
        if not self.is_stopping:
            self.loop.call_soon_threadsafe(self._tell)

    async def version(self) -> tuple[int, int]:
        """The version of the store (`Store.version`), for the loop."""
        return await self._lookout.version()

    def when_given_up(self, action: Callable[[], Awaitable[None]]) -> None:
        """Call an asynchronous action on the loop when others took this worker for gone, and ended its runs."""
        self._given_up.append(action)

    def stop(self) -> None:
        """End what runs, write what is queued, let the lock go; at most about three seconds."""
        if self.is_stopping:
            return
        self.is_stopping = True
        until = time.monotonic() + STOP_SECONDS
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._end_tasks(), self.loop).result(STOP_SECONDS)
        self._writes.put((self._say_stopped, Future()))
        self._writes.put(None)
        self._writer_thread.join(max(LAST_SECONDS, until - time.monotonic()))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._loop_thread.join(max(LAST_SECONDS, until - time.monotonic()))
        if not self._loop_thread.is_alive():
            self.loop.close()
        if self._lock is not None:
            self._lock.release(force=True)
            self.lock_path.unlink(missing_ok=True)

    def task(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a coroutine from the loop itself; it is cancelled when the worker stops."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def tracked(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine in a task of the loop that is cancelled when the worker stops."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await coroutine
        finally:
            self._tasks.discard(task)

    async def _repeat(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await action()
            except Exception:  # a timer outlives a locked database or a full disk
                log.exception("a timer failed")

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    async def _keep_lookout(self) -> None:
        self.at_stop(self._lookout.end)
        if await self._lookout.begin():
            await self.written(self._say_alive)  # whether the system does tell of a write

    async def _beat(self) -> None:
        # The time of a file, not of a row: a commit would wake every process on the store, for nothing.
        seconds = time.time()  # not the time of a file server
        with suppress(OSError):
            os.utime(self.lock_path, (seconds, seconds))
        for call in self._at_beat:
            call()
        self._lookout.glance()
        version = self._lookout.seen
        if version != self._beaten:  # whoever gives it up changes the store
            is_given_up, self._is_quiet = await asyncio.to_thread(self._outlook)
            if is_given_up:
                await self.written(self._say_alive)
                for action in self._given_up:
                    await action()
        self._beaten = version
        if not self._is_quiet:
            self._tell()  # what waits for a time, not for a change

    def _outlook(self) -> tuple[bool, bool]:
        """Whether others took this worker for gone, and whether nothing is to be done on the store."""
        with self.store.read() as db:
            row = db.execute("select stopped_at from workers where id = ?", [self.id]).fetchone()
            return row is not None and row["stopped_at"] is not None, is_quiet(db)

    def _say_alive(self, db: sqlite3.Connection) -> None:
        """From now on it lives for others again."""
        change = "update workers set heartbeat_at = ?, stopped_at = null where id = ?"
        db.execute(change, [rfc3339(now()), self.id])

    def _say_stopped(self, db: sqlite3.Connection) -> None:
        db.execute("update workers set stopped_at = ? where id = ?", [rfc3339(now()), self.id])

    async def _end_tasks(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS - 1.2)
        for action in reversed(self._closers):
            with suppress(Exception):  # stopping goes on whatever one part says
                await asyncio.wait_for(action(), 0.5)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _run_writer(self) -> None:
        is_open = True
        while is_open:
            batch = [self._writes.get()]
            while len(batch) < BATCH and batch[-1] is not None:
                try:
                    batch.append(self._writes.get_nowait())
                except queue.Empty:
                    break
            is_open = batch[-1] is not None
            changes = [item for item in batch if item is not None]
            if changes:
                self._commit(changes)
        with suppress(queue.Empty):  # whoever came too late must not wait for ever
            while (late := self._writes.get_nowait()) is not None:
                late[1].set_exception(StoreError("The worker has stopped; nothing was written."))

    def _commit(self, changes: list[tuple[Write, Future[Any]]]) -> None:
        """One transaction for all; when one of them fails, each gets a transaction of its own."""
        try:
            with self.store.write() as db:
                results = [change(db) for change, _future in changes]
        except Exception as error:  # handed on to whoever waits for the change
            if len(changes) == 1:
                changes[0][1].set_exception(error)
                return
            for change in changes:
                self._commit([change])
            return
        for (_change, future), result in zip(changes, results, strict=True):
            future.set_result(result)


def _note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waits for any more, as a line of the log."""
    log.warning("%s", context.get("message"), exc_info=context.get("exception"))


class _Written(Future[Any]):
    """Of a queued change: it will be written, whoever stops waiting."""

    def cancel(self) -> bool:
        return False


class _DaemonThreads(ThreadPoolExecutor):
    """A pool of daemon threads; one that is idle takes the next call, else a new one begins.

    How many there are is limited by who calls: runs and tools have limits of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle_count, self._is_over = 0, False
        self._counting = threading.Lock()

    def submit(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> Future[T]:
        future: Future[T] = Future()
        with self._counting:
            is_new = self._idle_count == 0
            self._idle_count -= not is_new
        self._calls.put(lambda: _settle(future, function, arguments, options))
        if is_new:
            threading.Thread(target=self._serve, name="personas-call", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - as inherited
        """Let idle threads end now and the others after their call, which is not waited for."""
        with self._counting:
            self._is_over = True
            for _ in range(self._idle_count):
                self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # what it holds may be large
            with self._counting:
                if self._is_over:
                    return
                self._idle_count += 1


def _settle(future: Future[T], function: Callable[..., T], arguments: Any, options: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*arguments, **options)
    except BaseException as error:  # handed on to whoever waits for the call
        future.set_exception(error)
    else:
        future.set_result(result)


async def undisturbed(action: Awaitable[T]) -> T:
    """Await to the end, also when cancelled meanwhile: what ends or is being stored must not stop half way."""
    task = asyncio.ensure_future(action)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    return task.result()


def lend(store: Store) -> Worker:
    """The worker of this process and home, started if there is none; ``give_back`` it when done."""
    home = store.home.resolve()  # a home that is reached through a link is the same one
    with _registry_lock:
        worker, count = _lent.get(home, (None, 0))
        if worker is None:
            worker = Worker(store)
            worker.start()
        _lent[home] = (worker, count + 1)
        return worker


def running(store: Store) -> Worker | None:
    """The worker of this process and home, where there is one; none is started."""
    with _registry_lock:
        worker, _count = _lent.get(store.home.resolve(), (None, 0))
    return worker if worker is not None and not worker.is_stopping else None


def give_back(worker: Worker) -> None:
    """The last one stops it."""
    with _registry_lock:
        loan = next(((home, count) for home, (kept, count) in _lent.items() if kept is worker), None)
        if loan is None:
            return
        home, count = loan
        if count > 1:
            _lent[home] = (worker, count - 1)
            return
        del _lent[home]
    worker.stop()
    worker.store.close()  # it may be that of a studio that was closed long before the last one


def is_alive(lock_path: Path) -> bool:
    """Whether the worker with this lock still lives: its lock is held."""
    try:
        import fcntl
    except ImportError:  # Windows
        return _is_held(lock_path)
    try:
        number = os.open(lock_path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who looks at the same time is no holder
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False


def _is_held(lock_path: Path) -> bool:
    from filelock import FileLock, Timeout

    if not lock_path.exists():
        return False
    probe = FileLock(lock_path)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return True
    probe.release()
    return False


def is_stalled(store: Store, worker_id: str) -> bool:
    """Whether a worker's process is stopped, and has been for ``STALLED_SECONDS``.

    A heartbeat alone tells nothing: a computer that slept, a full disk and a long computation make it late too.
    The process must be seen to stand still. False for a process of another host, and on Windows.
    """
    with store.read() as db:
        row = db.execute(
            "select host, pid, lock_path, started_at, heartbeat_at from workers where id = ?", [worker_id]
        ).fetchone()
    if row is None or _last_beat(row) > _ago(STALLED_SECONDS):
        return False
    if row["pid"] == os.getpid() or row["host"] != socket.gethostname():
        return False
    state, age_seconds = _process(row["pid"])
    # A process that began after the worker is another one, which was given the same number.
    return state in ("T", "t") and _ago(age_seconds + CLOCK_SLACK_SECONDS) <= row["started_at"]


def _last_beat(row: sqlite3.Row) -> str:
    beats = [row["heartbeat_at"] or row["started_at"]]
    with suppress(OSError):
        beaten_seconds = Path(row["lock_path"]).stat().st_mtime
        beats.append(rfc3339(datetime.fromtimestamp(beaten_seconds, UTC)))
    return str(max(beats))


def _ago(seconds: float) -> str:
    return rfc3339(now() - timedelta(seconds=seconds))


def _process(pid: int) -> tuple[str, float]:
    """The state of a process, T or t where it is stopped, and its age in seconds; no state where it cannot be told."""
    with suppress(OSError, ValueError, IndexError):
        if (PROC / "self" / "stat").exists():
            # The name comes second, in brackets, and may hold anything.
            fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            uptime_seconds = float((PROC / "uptime").read_text().split()[0])
            return fields[0], uptime_seconds - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        if os.name == "posix":
            command = ["ps", "-o", "state=,etime=", "-p", str(pid)]
            said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - all our own
            state, age = said.stdout.split()
            return state[0], _elapsed_seconds(age)
    return "", 0.0


def _elapsed_seconds(age: str) -> float:
    """The seconds of ``[[days-]hours:]minutes:seconds``, as ps says them.

    >>> _elapsed_seconds("1-02:03:04"), _elapsed_seconds("00:07")
    (93784.0, 7.0)
    """
    parts = [int(part) for part in reversed(re.split("[-:]", age))]
    return float(sum(part * unit for part, unit in zip(parts, (1, 60, 3600, 86400), strict=False)))


def _stop_all() -> None:
    with _registry_lock:
        workers = [worker for worker, _count in _lent.values()]
        _lent.clear()
    for worker in workers:
        worker.stop()


def _forget_parent() -> None:
    # A forked child has none of its parent's threads; the locks stay with the parent.
    global _registry_lock
    _registry_lock = threading.Lock()
    for worker, _count in _lent.values():
        worker.is_stopping = True
        worker._lookout.forget()
    _lent.clear()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
