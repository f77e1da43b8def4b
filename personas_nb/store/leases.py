"""Leases: who, of all processes on one store, does what only one may do; and whether it still does.

A lease is held by a worker, under an **epoch** that grows with every change of its holder. Whoever acts under it
checks the epoch in the transaction of the act (``holds``): a holder that stood still meanwhile, and whose lease
another took, finds an epoch that is not its own, and writes nothing.

A holder that is fit renews its lease by the time of a file: to renew it in the store would wake every process on it,
again and again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from personas_nb.entities.base import rfc3339

EXPIRY_SECONDS = 20.0

StillHolds = Callable[[sqlite3.Connection], bool]
"""Whether who acts still holds the lease; to be asked in the transaction of the act."""

_HOLDER = (
    "select l.worker_id, l.epoch, l.expires_at, l.taken_at, l.kind, w.host, w.pid, w.lock_path, w.stopped_at "
    "from leases l left join workers w on w.id = l.worker_id where l.id = ?"
)


@dataclass(frozen=True)
class Lease:
    """Who holds a lease, and since when; ``kind`` says what its process is."""

    worker_id: str
    epoch: int
    host: str
    pid: int
    taken_at: datetime
    expires_at: datetime
    """As it was when it was taken; ``renew`` puts it off."""
    lock_path: str
    kind: str = ""


def holder(db: sqlite3.Connection, name: str) -> Lease | None:
    """Who took a lease last; None where nobody did, or its holder gave it back."""
    row = db.execute(_HOLDER, [name]).fetchone()
    if row is None or not row["worker_id"] or row["lock_path"] is None:
        return None
    return Lease(
        worker_id=row["worker_id"],
        epoch=row["epoch"],
        host=row["host"],
        pid=row["pid"],
        taken_at=datetime.fromisoformat(row["taken_at"]),
        expires_at=datetime.fromisoformat(row["expires_at"]),
        lock_path=row["lock_path"],
        kind=row["kind"] or "",
    )


def is_valid(lease: Lease, name: str, moment: datetime, is_alive: Callable[[Path], bool]) -> bool:
    """Whether the holder keeps its lease: it has not expired, and its worker lives.

    One that expires later than a lease can was written under another clock, and does not count.
    """
    ends = [lease.expires_at]
    with suppress(OSError):
        renewed = _renewals(Path(lease.lock_path).parent, name).stat().st_mtime
        ends.append(datetime.fromtimestamp(renewed, UTC) + timedelta(seconds=EXPIRY_SECONDS))
    is_current = any(0 < (end - moment).total_seconds() <= 2 * EXPIRY_SECONDS for end in ends)
    return is_current and is_alive(Path(lease.lock_path))


def renew(locks: Path, name: str, moment: datetime) -> None:
    """Put the end of a lease off, without a write to the store; by its holder, which a lost one does not help."""
    path, seconds = _renewals(locks, name), moment.timestamp()
    with suppress(OSError):
        if not path.exists():
            path.touch()
        # The time alone: closing a file after a write would tell others that a process has ended. By the clock of this
        # computer, whatever that of a file server is.
        os.utime(path, (seconds, seconds))


def _renewals(locks: Path, name: str) -> Path:
    return locks / f"{name}.lease"


def take(
    db: sqlite3.Connection,
    name: str,
    worker_id: str,
    moment: datetime,
    is_alive: Callable[[Path], bool],
    kind: str = "",
) -> int | None:
    """Take a lease, or keep the one that is held; its epoch. None while another holds it.

    ``is_alive`` tells by the path of its lock whether a worker lives.
    """
    row = db.execute("select worker_id, epoch from leases where id = ?", [name]).fetchone()
    current = holder(db, name)
    if current is not None and current.worker_id != worker_id and is_valid(current, name, moment, is_alive):
        return None
    # One of our own that has expired is kept under its epoch: nobody took it meanwhile.
    epoch = (row["epoch"] if row else 0) + (row is None or row["worker_id"] != worker_id)
    expires_at = rfc3339(moment + timedelta(seconds=EXPIRY_SECONDS))
    db.execute(
        "insert into leases (id, worker_id, epoch, expires_at, taken_at, kind) values (?, ?, ?, ?, ?, ?) "
        "on conflict (id) do update set taken_at = case when epoch = excluded.epoch then taken_at "
        "else excluded.taken_at end, worker_id = excluded.worker_id, epoch = excluded.epoch, "
        "expires_at = excluded.expires_at, kind = excluded.kind",
        [name, worker_id, epoch, expires_at, rfc3339(moment), kind],
    )
    return int(epoch)


def holds(db: sqlite3.Connection, name: str, worker_id: str, epoch: int) -> bool:
    """Whether a worker still holds a lease under its epoch; to be asked in the transaction of what it does."""
    return (
        db.execute(
            "select 1 from leases where id = ? and worker_id = ? and epoch = ?", [name, worker_id, epoch]
        ).fetchone()
        is not None
    )


def give_up(db: sqlite3.Connection, name: str, worker_id: str) -> None:
    """Let a lease go, so that another can take it at once; what its epoch was is remembered."""
    db.execute("update leases set worker_id = '' where id = ? and worker_id = ?", [name, worker_id])
