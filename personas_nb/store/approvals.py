"""Approvals of tool calls, and the runs that wait for them.

A run waits as long as one of its approvals is pending. Whoever decides the last one queues the run again, in the
same transaction.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.review import Review

if TYPE_CHECKING:
    from personas_nb.store.database import Store

EXPIRED_NOTE = "Nobody decided in time; nothing was done."


class ApprovalTable:
    """The rows of ``reviews`` whose kind is ``approval``."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reviews = store.table("reviews", Review)

    def of(self, execution_id: str) -> list[Review]:
        """All approvals that a run ever asked for, in order."""
        return self.reviews.find("execution_id = ? and kind = 'approval'", [execution_id])

    def waiting(self, execution_id: str) -> tuple[str | None, str | None] | None:
        """Worker and its lock path of a run that waits; None where it does not wait."""
        with self.store.read() as db:
            row = db.execute(
                "select e.worker_id, w.lock_path from executions e left join workers w on w.id = e.worker_id "
                "where e.id = ? and e.status = 'waiting'",
                [execution_id],
            ).fetchone()
        return None if row is None else (row["worker_id"], row["lock_path"])

    def go_on(self, db: sqlite3.Connection, execution_id: str, worker_id: str | None) -> bool:
        """Queue a run that waits for nothing more, for this worker, or None: for any; whether it was queued."""
        return bool(
            db.execute(
                "update executions set status = 'queued', worker_id = ?, pauses = pauses + 1 "
                "where id = ? and status = 'waiting' and not exists (select 1 from reviews r "
                "where r.execution_id = executions.id and r.kind = 'approval' and r.status = 'pending')",
                [worker_id, execution_id],
            ).rowcount
        )

    def overdue(self) -> list[Review]:
        """Undecided approvals whose time is over."""
        return self.reviews.find(
            "status = 'pending' and expires_at is not null and expires_at <= ?", [rfc3339(now())]
        )

    def expire(self, db: sqlite3.Connection, review_id: str) -> bool:
        """Close an approval that nobody decided in time; whether it was still open."""
        return bool(
            db.execute(
                "update reviews set status = 'expired', note = ?, decided_at = ? "
                "where id = ? and status = 'pending'",
                [EXPIRED_NOTE, rfc3339(now()), review_id],
            ).rowcount
        )
