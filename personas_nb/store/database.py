"""The SQLite file: opened carefully, read through a small pool, written by one connection at a time.

- A file is looked at read-only first; one that is corrupt, another program's, or of a later version is left alone.
- ``page_size`` is set before WAL, because it has no effect afterwards.
- Every write is ``BEGIN IMMEDIATE``: a deferred ``BEGIN`` that turns into a write loses against other processes.
- A network file system gets a rollback journal: WAL needs shared memory that such systems do not have.
- All connections are closed before a fork. SQLite keeps its locks per process and believes in the child that it
  still has its parent's: what the child wrote after the parent had closed the file was lost, without an error.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from personas_nb.entities.base import Entity
from personas_nb.errors import StoreCorrupt, StoreError, StoreReadOnly, StoreTooNew
from personas_nb.store.table import Table

E = TypeVar("E", bound=Entity)

BUSY_TIMEOUT_MS = 30_000
PAGE_SIZE_BYTES = 8192
FORK_WAIT_SECONDS = 5.0
NETWORK_FILE_SYSTEMS = frozenset(
    ["nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs"]
) | {"fuse.sshfs", "9p"}


class Store:
    """One home's database; opened at the first read or write, safe to use from any thread.

    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> with store.read() as db:
    ...     db.execute("select count(*) from tools").fetchone()[0] >= 7
    True
    >>> store.close()
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "personas.db"
        self.is_on_network = False
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._watcher: sqlite3.Connection | None = None
        self._watched = 0
        self._write_lock = threading.RLock()
        self._pool_lock, self._watch_lock = threading.Lock(), threading.Lock()
        self._writing = threading.local()
        self._is_ready = False
        self._is_held_for_fork = False
        _STORES.add(self)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; what the same thread is writing is visible through it."""
        inside = getattr(self._writing, "connection", None)
        if inside is not None:
            yield inside
            return
        with self._explained():
            connection = self._borrow()
        try:
            with self._explained():
                yield connection
        finally:
            with self._pool_lock:
                self._idle.append(connection)

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction (``BEGIN IMMEDIATE``); committed at the end, rolled back by any exception.

        Inside another ``write()`` of the same thread it is a part of that one. One that is ``durable`` is on the
        disk at its end; any other may be lost when the power fails in the next moment.
        """
        inside = getattr(self._writing, "connection", None)
        if inside is not None:
            yield inside
            return
        pid = os.getpid()
        with self._write_lock, self._explained():
            self._prepare()
            if self._writer is None:
                self._writer = self._connect()
            connection = self._writer
            if durable:
                connection.execute("PRAGMA synchronous = FULL")  # has no effect inside a transaction
            try:
                # Inside the try: an interrupt that arrives right after it must not leave the transaction open.
                connection.execute("BEGIN IMMEDIATE")
                self._writing.connection = connection
                yield connection
                if os.getpid() == pid:
                    connection.execute("COMMIT")
            except BaseException:
                # SQLite may have ended the transaction by itself (a full disk does), then there is none to undo;
                # in a child that was forked in here it is the parent's, and is not touched.
                if os.getpid() == pid and connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._writing.connection = None
                if durable:
                    connection.execute("PRAGMA synchronous = NORMAL")

    def version(self) -> tuple[int, int]:
        """What is another value after every commit, of this process or any other; cheap, and takes no lock for long."""
        with self._explained():
            if not self._is_ready:
                with self._write_lock:
                    self._prepare()
            with self._watch_lock:
                if self._watcher is None:
                    # Versions compare on one connection only, so that each has a number of its own.
                    self._watcher, self._watched = self._connect(), self._watched + 1
                return self._watched, int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    def table(self, name: str, entity: type[E]) -> Table[E]:
        """The rows of a table as entities."""
        return Table(self, name, entity)

    def check(self) -> str:
        """SQLite's own opinion of the file: ``ok``, or what is wrong with it."""
        with self.read() as db:
            return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])

    def close(self) -> None:
        """Close every connection; the store opens again when it is used again."""
        with self._write_lock, self._pool_lock, self._watch_lock:
            kept = [self._writer, self._watcher]
            connections = [*self._idle, *(connection for connection in kept if connection)]
            self._idle, self._writer, self._watcher, self._is_ready = [], None, None, False
            for connection in connections:
                connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._pool_lock:
            if self._idle:
                return self._idle.pop()
        if not self._is_ready:
            with self._write_lock:
                self._prepare()
        return self._connect()

    def _before_fork(self) -> None:
        """Close what is idle and let nothing be opened; a transaction of another thread is waited for, not long."""
        if not self._write_lock.acquire(timeout=FORK_WAIT_SECONDS):
            return
        self._pool_lock.acquire()
        self._watch_lock.acquire()
        self._is_held_for_fork = True
        idle, self._idle = self._idle, []
        if self._watcher is not None:
            idle.append(self._watcher)
            self._watcher = None
        if self._writer is not None and not self._writer.in_transaction:
            idle.append(self._writer)
            self._writer = None
        for connection in idle:
            connection.close()

    def _after_fork_in_parent(self) -> None:
        if self._is_held_for_fork:
            self._is_held_for_fork = False
            self._watch_lock.release()
            self._pool_lock.release()
            self._write_lock.release()

    def _after_fork_in_child(self) -> None:
        # What was in use at the fork stays open here: closing it would touch what is the parent's.
        kept = [self._writer, self._watcher]
        _INHERITED.extend([*self._idle, *(connection for connection in kept if connection)])
        self._idle, self._writer, self._watcher, self._is_ready = [], None, None, False
        self._write_lock = threading.RLock()
        self._pool_lock, self._watch_lock = threading.Lock(), threading.Lock()
        self._writing = threading.local()
        self._is_held_for_fork = False

    def _prepare(self) -> None:
        if self._is_ready:
            return
        from filelock import FileLock

        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._read_only(str(error)) from error
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise self._read_only("the file cannot be written")
        if not os.access(self.home, os.W_OK):
            raise self._read_only("the folder cannot be written")
        self.is_on_network = file_system_of(self.home) in NETWORK_FILE_SYSTEMS
        if self._schema() != self._known():
            with FileLock(self.home / "migrate.lock"):
                self._migrate()
        self._is_ready = True

    def _migrate(self) -> None:
        from personas_nb.store.migrations import apply

        if self._schema() == self._known():
            return
        connection = self._connect()
        try:
            apply(connection)
        finally:
            connection.close()

    def _known(self) -> list[str]:
        from personas_nb.store.schema import NAMES

        return NAMES

    def _schema(self) -> list[str]:
        """The names of the migrations that the file has, read without changing it."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return []
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        try:
            db = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)
            try:
                tables = [row[0] for row in db.execute("select name from sqlite_master where type = 'table'")]
                names = self._applied(db, tables)
            finally:
                db.close()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from error
        too_new = [name for name in names if name not in self._known()]
        if too_new:
            raise StoreTooNew(
                f"{self.path} was written by a later version of personas_nb (it has {too_new[0]}).",
                hint="Update with `pip install -U personas-nb`, or choose another folder with PERSONAS_HOME.",
            )
        return names

    def _applied(self, db: sqlite3.Connection, tables: list[str]) -> list[str]:
        names = []
        if "_sqlite_migrations" in tables:
            rows = db.execute(
                "select name from _sqlite_migrations where migration_set = 'personas_nb' order by rowid"
            )
            names = [row[0] for row in rows]
        # Another program may keep its migrations with sqlite-utils as well.
        if not names and set(tables) - {"_sqlite_migrations", "sqlite_sequence"}:
            raise StoreCorrupt(
                f"{self.path} is a database of another program; it was left as it is.",
                hint="Move it away, or choose another folder with PERSONAS_HOME.",
            )
        return names

    def _connect(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise self._read_only(str(error)) from error
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")
        db.execute(f"PRAGMA journal_mode = {'DELETE' if self.is_on_network else 'WAL'}")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        return db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's errors as ours; nothing of the statement or its values is repeated."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._operational(error) from error
        except sqlite3.DatabaseError as error:
            # Only the class itself means a damaged file; its subclasses are wrong values or wrong calls.
            if type(error) is sqlite3.DatabaseError:
                raise self._corrupt(error) from error
            raise

    def _operational(self, error: sqlite3.OperationalError) -> StoreError:
        text = str(error)
        if "readonly" in text or "read-only" in text:
            return self._read_only(text)
        if "full" in text or "disk I/O" in text:
            return StoreError(
                f"{self.path} could not be written: {text}.",
                hint="Free some space on its disk, then run again.",
                retryable=True,
            )
        if "locked" in text or "busy" in text:
            return StoreError(
                f"{self.path} was held by another process for over {BUSY_TIMEOUT_MS // 1000} s.",
                hint="A stopped process may hold it; `%persona health` shows who is alive.",
                retryable=True,
            )
        return StoreError(f"{self.path} could not be used: {text}.", hint="See `%persona health`.")

    def _read_only(self, why: str) -> StoreReadOnly:
        return StoreReadOnly(
            f"{self.home} cannot be written: {why}.",
            hint="Make it writable, or choose another folder with PERSONAS_HOME.",
        )

    def _corrupt(self, error: BaseException) -> StoreCorrupt:
        return StoreCorrupt(
            f"{self.path} is damaged or no database ({error}); it was left as it is.",
            hint="Restore it from a copy, or move it away to begin anew.",
        )


# In a child, the connections of its parent; kept, because Python closes what nothing refers to.
_INHERITED: list[sqlite3.Connection] = []
_STORES: weakref.WeakSet[Store] = weakref.WeakSet()


def _before_fork() -> None:
    for store in list(_STORES):
        store._before_fork()


def _after_fork_in_parent() -> None:
    for store in list(_STORES):
        store._after_fork_in_parent()


def _after_fork_in_child() -> None:
    for store in list(_STORES):
        store._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def file_system_of(folder: Path) -> str:
    """The type of the file system that a folder lies on, as the kernel names it; empty where it cannot be told."""
    best, kind = "", ""
    with suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _device, mount, file_system, *_ = line.split(" ")
            mount = mount.replace("\\040", " ")
            inside = str(folder.resolve()).startswith(mount.rstrip("/") + "/") or mount == "/"
            if inside and len(mount) >= len(best):
                best, kind = mount, file_system
    return kind
