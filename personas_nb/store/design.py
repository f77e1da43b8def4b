"""The moments of design sessions, in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence

from personas_nb.entities.base import rfc3339
from personas_nb.entities.design import DesignEvent
from personas_nb.store.database import Store


class DesignEvents:
    """Appends and reads events; their numbers are given by the database, so that two processes may append."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._table = store.table("design_events", DesignEvent)

    def append(self, events: Sequence[DesignEvent]) -> None:
        """Write events after those that a session has; those of a session that is gone are left out."""
        query = (
            "insert into design_events (session_id, seq, at, type, text) "
            "select ?1, coalesce((select max(seq) from design_events where session_id = ?1), 0) + 1, ?2, ?3, ?4 "
            "where exists (select 1 from design_sessions where id = ?1)"
        )
        with self._store.write() as db:
            for event in events:
                db.execute(query, [event.session_id, rfc3339(event.at), event.type, event.text])

    def list(self, session_id: str, *, after: int = 0) -> Sequence[DesignEvent]:
        """The events of a session, those after ``after`` only."""
        return self._table.find("session_id = ? and seq > ?", [session_id, after], order_by="seq")


def lock_of(store: Store, worker_id: str) -> str | None:
    """The lock file of a worker; None for one that nobody knows."""
    with store.read() as db:
        row = db.execute("select lock_path from workers where id = ?", [worker_id]).fetchone()
    return str(row["lock_path"]) if row else None
