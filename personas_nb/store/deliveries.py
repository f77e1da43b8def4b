"""Deliveries of messages: claimed before they are sent, settled afterwards, uncertain where nobody can tell any more.

Whoever sends has claimed first, in a transaction of its own: a process that ends in between leaves ``sending``
behind, which others turn into ``uncertain``. What was settled is changed only by who sent it, or by a person.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from personas_nb.entities.base import rfc3339
from personas_nb.entities.message import MessageDelivery
from personas_nb.store.database import Store
from personas_nb.store.table import Table

LOST = "Its process ended while it was sent: it may have arrived."
CLOCK_SLACK_SECONDS = 86_400.0  # a time further away was written under another clock

# The index holds what is open; SQLite uses it where its own words are repeated.
_OPEN = "status in ('pending', 'sending')"
_DUE = f"{_OPEN} and status = 'pending' and (next_attempt_at <= :now or next_attempt_at > :far)"
_UNTOLD = (
    "status = 'failed' and told = 0 and (trigger_id is not null or event_id is not null) "
    "and (completed_at <= :settled or completed_at > :now)"
)


@dataclass(frozen=True)
class Outlook:
    """What there is to do: something to send now, when next, whose sending may be lost, runs to tell of."""

    is_due: bool
    next_at: datetime | None
    senders: tuple[str, ...]
    has_untold: bool


class DeliveryTable(Table[MessageDelivery]):
    """The rows of ``message_deliveries``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "message_deliveries", MessageDelivery)

    def add(self, deliveries: Iterable[MessageDelivery]) -> None:
        """Write new ones; of a message and a channel there is one."""
        with self.store.write():
            for delivery in deliveries:
                self.insert(delivery)

    def of(self, message_ids: Sequence[str]) -> dict[str, list[MessageDelivery]]:
        """The deliveries of these messages, by message."""
        marks = ", ".join("?" * len(message_ids))
        found: dict[str, list[MessageDelivery]] = {}
        for row in self.find(f"message_id in ({marks})", message_ids) if message_ids else ():
            found.setdefault(row.message_id, []).append(row)
        return found

    def last(self, persona_id: str, channel_key: str) -> MessageDelivery | None:
        """The newest delivery of a persona on a channel."""
        found = self.find(
            "channel_key = ? and message_id in (select id from messages where persona_id = ?)",
            [channel_key, persona_id],
            order_by="created_at desc, rowid desc",
            limit=1,
        )
        return found[0] if found else None

    def outlook(self, moment: datetime, settled_before: datetime) -> Outlook:
        """What there is to do; ``settled_before``: a run that failed later may still be tried again."""
        values = {**_times(moment), "settled": rfc3339(settled_before)}
        with self.store.read() as db:
            due = db.execute(f"select 1 from message_deliveries where {_DUE} limit 1", values).fetchone()
            row = db.execute(
                f"select min(next_attempt_at) from message_deliveries where {_OPEN} and status = 'pending' "
                "and next_attempt_at > :now",
                values,
            ).fetchone()
            senders = db.execute(
                f"select distinct worker_id from message_deliveries where {_OPEN} and status = 'sending'"
            ).fetchall()
            untold = db.execute(f"select 1 from executions where {_UNTOLD} limit 1", values).fetchone()
        return Outlook(
            is_due=due is not None,
            next_at=datetime.fromisoformat(row[0]) if row[0] else None,
            senders=tuple(sender["worker_id"] or "" for sender in senders),
            has_untold=untold is not None,
        )

    def claim(
        self, db: sqlite3.Connection, worker_id: str, moment: datetime, busy: Collection[str], limit: int
    ) -> list[MessageDelivery]:
        """Take what is due, the oldest of each channel that is not ``busy``; it is ``sending`` from now on."""
        rows = db.execute(
            f"select min(rowid) as row_ from message_deliveries where {_DUE} "
            "and channel_key not in (select value from json_each(:busy)) group by channel_key order by 1 limit :limit",
            {**_times(moment), "busy": json.dumps(sorted(busy)), "limit": limit},
        ).fetchall()
        claimed = [
            db.execute(
                "update message_deliveries set status = 'sending', worker_id = ?, attempts = attempts + 1, "
                "updated_at = ?, error = null where rowid = ? and status = 'pending' returning *",
                [worker_id, rfc3339(moment), row["row_"]],
            ).fetchone()
            for row in rows
        ]
        return [self.loaded(row) for row in claimed if row is not None]

    def settle(
        self,
        db: sqlite3.Connection,
        delivery: MessageDelivery,
        status: str,
        *,
        error: str | None,
        moment: datetime,
        next_attempt_at: datetime | None = None,
    ) -> bool:
        """Say what became of a claimed delivery, for whoever claimed it; False where a person was faster.

        One that others took for lost meanwhile is settled too: who sent it knows.
        """
        changed = db.execute(
            "update message_deliveries set status = ?, error = ?, updated_at = ?, next_attempt_at = ?, sent_at = ? "
            "where id = ? and worker_id = ? and attempts = ? and status in ('sending', 'uncertain')",
            [
                status,
                error,
                rfc3339(moment),
                rfc3339(next_attempt_at) if next_attempt_at else None,
                rfc3339(moment) if status == "delivered" else None,
                delivery.id,
                delivery.worker_id,
                delivery.attempts,
            ],
        ).rowcount
        return changed > 0

    def lose(self, db: sqlite3.Connection, worker_id: str, moment: datetime) -> int:
        """What a worker was sending that is gone may have arrived; how many there were."""
        return db.execute(
            "update message_deliveries set status = 'uncertain', error = ?, updated_at = ?, next_attempt_at = null "
            f"where {_OPEN} and status = 'sending' and coalesce(worker_id, '') = ?",
            [LOST, rfc3339(moment), worker_id],
        ).rowcount

    def lock_paths(self, worker_ids: Sequence[str]) -> dict[str, str]:
        """The paths of the locks of workers, by id; one that is not known has none."""
        with self.store.read() as db:
            rows = db.execute(
                "select id, lock_path from workers where id in (select value from json_each(?))",
                [json.dumps(list(worker_ids))],
            ).fetchall()
        return {row["id"]: row["lock_path"] for row in rows}

    def take_untold(
        self, db: sqlite3.Connection, moment: datetime, settled_before: datetime
    ) -> list[sqlite3.Row]:
        """The runs that nobody watched and that failed for good; from now on they have been told of.

        Not among them are those that are tried again, rehearsals and tests, and what never began because its
        persona was off: those are looked at once, too.
        """
        values = {**_times(moment), "settled": rfc3339(settled_before)}
        return db.execute(
            f"update executions set told = 1 where id in (select id from executions where {_UNTOLD} limit 100) "
            "returning id, persona_id, persona_name, error, error_kind, rehearsal, eval_run_id, "
            "(select count(*) from executions r where r.retry_of = executions.id) as retries",
            values,
        ).fetchall()


def _times(moment: datetime) -> dict[str, str]:
    return {"now": rfc3339(moment), "far": rfc3339(moment + timedelta(seconds=CLOCK_SLACK_SECONDS))}
