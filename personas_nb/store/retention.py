"""Which finished executions, fires and events are old enough to go, and their rows' end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from personas_nb.entities.trigger import UNCHANGED

if TYPE_CHECKING:
    from personas_nb.store.database import Store

_FINISHED = "('completed', 'incomplete', 'failed', 'cancelled')"
# Looked at when the candidates are read, and again when each is deleted: a retry may have begun meanwhile.
_REMOVABLE = (
    f"e.status in {_FINISHED} and coalesce(e.completed_at, e.created_at) < :cutoff"
    " and not exists (select 1 from reviews r where r.execution_id = e.id and r.status = 'pending')"
    " and not exists (select 1 from executions x where x.retry_of = e.id"
    " and x.status in ('queued', 'running', 'waiting'))"
)
# What a kept execution came from or has told stays with it.
_REMOVABLE_FIRES = (
    "created_at < :cutoff and status <> 'checking' and (kind <> 'webhook' or created_at < :webhooks)"
    " and not exists (select 1 from executions e where e.id = fires.execution_id)"
)
_REMOVABLE_EVENTS = (
    "created_at < :cutoff and status <> 'pending' and (event_type, source_type) <> (:tale, 'system')"
    " and not exists (select 1 from executions e where e.id = events.execution_id)"
    " and not exists (select 1 from event_deliveries d left join executions e on e.id = d.execution_id"
    " where d.event_id = events.id and (d.status = 'pending' or e.id is not null))"
)
HOLD_SECONDS = 0.25  # how long one transaction keeps other writers waiting


class RemovedRows(NamedTuple):
    """Executions that were deleted, how many events with them, and how many of the given ids were dealt with."""

    execution_ids: list[str]
    events: int
    seen: int


class RetentionTable:
    """Finds and deletes executions with everything that is stored of them alone."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def removable(self, cutoff: str, keep: int) -> Iterator[str]:
        """Ids of the executions that ended before ``cutoff`` and are not among the ``keep`` newest ended of a persona.

        A persona at a time, the oldest first; without those that have a pending review or an open retry.
        """
        with self.store.read() as db:
            personas = [row["id"] for row in db.execute("select id from personas order by rowid")]
        for persona_id in personas:
            yield from self._removable_of(persona_id, cutoff, keep)

    def _removable_of(self, persona_id: str, cutoff: str, keep: int) -> list[str]:
        values = {"persona_id": persona_id, "cutoff": cutoff, "nth": keep - 1}
        with self.store.read() as db:
            before = ""
            if keep:
                last_kept = db.execute(
                    f"select created_at, rowid from executions where persona_id = :persona_id"
                    f" and status in {_FINISHED} and eval_run_id is null"
                    " order by created_at desc, rowid desc limit 1 offset :nth",
                    values,
                ).fetchone()
                if last_kept is None:
                    return []
                values |= {"created_at": last_kept["created_at"], "row": last_kept["rowid"]}
                before = "and (e.created_at, e.rowid) < (:created_at, :row)"
            # What ended before a moment began before it: so the index on created_at limits the look.
            rows = db.execute(
                f"select e.id from executions e where e.persona_id = :persona_id and e.created_at < :cutoff"
                f" {before} and {_REMOVABLE} order by e.created_at, e.rowid",
                values,
            )
            return [row["id"] for row in rows]

    def remove(self, execution_ids: Sequence[str], cutoff: str) -> RemovedRows:
        """Delete these executions in one short transaction; those that may not go any more, or are gone, stay out.

        It ends early when it has taken long; ``seen`` says how far it came.
        """
        removed, events, seen = [], 0, 0
        with self.store.write() as db:
            until = time.monotonic() + HOLD_SECONDS
            for execution_id in execution_ids:
                values = {"id": execution_id, "cutoff": cutoff}
                count = "select count(*) from run_events where execution_id = :id"
                recorded = int(db.execute(count, values).fetchone()[0])
                delete = f"delete from executions as e where e.id = :id and {_REMOVABLE}"
                seen += 1
                if db.execute(delete, values).rowcount:
                    removed.append(execution_id)
                    sent = db.execute("delete from events where execution_id = :id", {"id": execution_id})
                    events += recorded + sent.rowcount
                if time.monotonic() > until:
                    break
            db.execute(
                "delete from intents where execution_id in (select value from json_each(?))",
                [json.dumps(removed)],
            )
        return RemovedRows(removed, events, seen)

    def remove_unchanged(self, cutoff: str, limit: int) -> int:
        """Delete fires from before ``cutoff`` of pollers that saw nothing new, at most ``limit``; how many."""
        query = f"reason = '{UNCHANGED}' and created_at < :cutoff"
        return self._remove_some("fires", query, {"cutoff": cutoff}, limit)

    def remove_fires(self, cutoff: str, webhooks: str, limit: int) -> int:
        """Delete fires from before ``cutoff`` whose run is gone or never was, at most ``limit``; how many.

        Those of webhooks stay until ``webhooks`` too: by them a repeated delivery is known.
        """
        return self._remove_some("fires", _REMOVABLE_FIRES, {"cutoff": cutoff, "webhooks": webhooks}, limit)

    def remove_events(self, cutoff: str, tale: str, limit: int) -> int:
        """Delete events from before ``cutoff`` with their deliveries, at most ``limit``; how many events.

        What waits, what a run that is kept sent or was started by, and events of type ``tale`` stay.
        """
        return self._remove_some("events", _REMOVABLE_EVENTS, {"cutoff": cutoff, "tale": tale}, limit)

    def _remove_some(self, table: str, where: str, values: dict[str, str], limit: int) -> int:
        some = f"select rowid from {table} where {where} order by created_at limit :limit"
        with self.store.write() as db:
            deleted = db.execute(f"delete from {table} where rowid in ({some})", {**values, "limit": limit})
            return deleted.rowcount

    def missing(self, execution_ids: Iterable[str]) -> set[str]:
        """Which of these executions there are not."""
        with self.store.read() as db:
            rows = db.execute(
                "select j.value from json_each(?) j"
                " where not exists (select 1 from executions e where e.id = j.value)",
                [json.dumps(list(execution_ids))],
            )
            return {str(row["value"]) for row in rows}

    def forget_tales(self, event_type: str, cutoff: str) -> None:
        """Delete the events that told of earlier removals, those from before ``cutoff``."""
        with self.store.write() as db:
            db.execute(
                "delete from events where event_type = ? and source_type = 'system' and created_at < ?",
                [event_type, cutoff],
            )
