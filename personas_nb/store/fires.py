"""Due times and what became of them: what is due, fires in bulk, and the switch that pauses all.

``triggers.next_trigger_at`` is the plan: its index is the heap of all due times. A due time is done when, in one
transaction, its fire is written and the plan has moved on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from personas_nb.entities.base import rfc3339
from personas_nb.entities.trigger import Fire, NextDue, Trigger
from personas_nb.errors import RowUnreadable
from personas_nb.store.database import Store
from personas_nb.store.table import Table, encoded

PAUSED = "triggers_paused"


@dataclass(frozen=True)
class Paused:
    """Since when all triggers are paused, and why."""

    at: datetime
    reason: str


class TriggerTable(Table[Trigger]):
    """The rows of ``triggers``, by when they are due."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "triggers", Trigger)

    def insert_all(self, triggers: Sequence[Trigger]) -> None:
        """Write many new rows at once."""
        if not triggers:
            return
        names = list(self.dumped(triggers[0]))
        first = vars(triggers[0])
        same = {name: encoded(first[name]) for name in names}  # most have most of their fields in common
        rows = (
            [same[name] if (value := fields[name]) is first[name] else encoded(value) for name in names]
            for fields in map(vars, triggers)
        )
        query = f"insert into triggers ({', '.join(names)}) values ({', '.join('?' * len(names))})"
        with self.store.write() as db:
            db.executemany(query, rows)

    def due_rows(self, until: datetime, limit: int) -> list[sqlite3.Row]:
        """The rows of enabled triggers that are due by then, the earliest first."""
        with self.store.read() as db:
            return db.execute(
                "select * from triggers where next_trigger_at <= ? and enabled order by next_trigger_at, rowid limit ?",
                [rfc3339(until), limit],
            ).fetchall()

    def next_after(self, moment: datetime) -> datetime | None:
        """When the first enabled trigger is due that is due later than that."""
        with self.store.read() as db:
            row = db.execute(
                "select next_trigger_at from triggers where next_trigger_at > ? and enabled "
                "order by next_trigger_at limit 1",
                [rfc3339(moment)],
            ).fetchone()
        return datetime.fromisoformat(row[0]) if row else None

    def unplanned(self) -> list[Trigger]:
        """Enabled schedules and pollers that nobody has planned."""
        return self._readable(
            "select * from triggers where next_trigger_at is null and enabled "
            "and trigger_type in ('schedule', 'polling') order by created_at, rowid"
        )

    def due_after(self, moment: datetime) -> list[Trigger]:
        """Enabled triggers that are due later than that."""
        return self._readable(
            "select * from triggers where next_trigger_at > ? and enabled order by rowid", rfc3339(moment)
        )

    def _readable(self, query: str, *values: str) -> list[Trigger]:
        """The rows of a query, but for what something else wrote and nobody can read."""
        with self.store.read() as db:
            rows = db.execute(query, values).fetchall()
        found = []
        for row in rows:
            with suppress(RowUnreadable):
                found.append(self.loaded(row))
        return found

    def marks(self, db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """``(next_trigger_at, updated_at)`` as stored, of those that are enabled and planned."""
        rows = db.execute(
            "select id, next_trigger_at, updated_at from triggers where id in (select value from json_each(?)) "
            "and enabled and next_trigger_at is not null",
            [json.dumps(list(ids))],
        )
        return {row["id"]: (row["next_trigger_at"], row["updated_at"]) for row in rows}

    def move_on(
        self, db: sqlite3.Connection, moves: Iterable[tuple[str, datetime | None, datetime | None]]
    ) -> None:
        """Set the next due time of each, and when it last started something, where it did: ``(id, next, last)``."""
        db.executemany(
            "update triggers set next_trigger_at = ?, last_triggered_at = coalesce(?, last_triggered_at) where id = ?",
            [(due and rfc3339(due), last and rfc3339(last), trigger_id) for trigger_id, due, last in moves],
        )

    def plan(self, db: sqlite3.Connection, trigger: Trigger, *, seen: Trigger) -> bool:
        """Store when a trigger is due, and its state, unless its row is no longer as it was ``seen``."""
        changed = db.execute(
            "update triggers set next_trigger_at = ?, state = ? where id = ? and enabled "
            "and next_trigger_at is ? and updated_at is ? and state = ?",
            [
                trigger.next_trigger_at and rfc3339(trigger.next_trigger_at),
                self.dumped(trigger)["state"],
                trigger.id,
                seen.next_trigger_at and rfc3339(seen.next_trigger_at),
                rfc3339(seen.updated_at),
                self.dumped(seen)["state"],
            ],
        ).rowcount
        return changed > 0

    def next_ones(self, limit: int) -> list[NextDue]:
        """What is due next, with the names of the personas."""
        with self.store.read() as db:
            rows = db.execute(
                "select t.id, t.description, t.next_trigger_at, p.name from triggers t "
                "join personas p on p.id = t.persona_id where t.next_trigger_at > '' and t.enabled "
                "order by t.next_trigger_at, t.rowid limit ?",
                [limit],
            ).fetchall()
        return [
            NextDue.model_validate(
                {
                    "trigger_id": row["id"],
                    "persona": row["name"],
                    "description": row["description"] or "",
                    "due_at": row["next_trigger_at"],
                }
            )
            for row in rows
        ]


class FireTable(Table[Fire]):
    """The rows of ``fires``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "fires", Fire)

    def known(self, db: sqlite3.Connection, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these ``(trigger_id, key)`` have a fire already."""
        rows = db.execute(
            "select f.trigger_id, f.key from json_each(?) k join fires f "
            "on f.trigger_id = json_extract(k.value, '$[0]') and f.key = json_extract(k.value, '$[1]')",
            [json.dumps(list(keys))],
        )
        return {(row["trigger_id"], row["key"]) for row in rows}

    def insert_rows(self, db: sqlite3.Connection, fires: Sequence[Mapping[str, Any]]) -> None:
        """Write many new rows, encoded as they are stored and all with the same columns, at once."""
        if fires:
            query = f"insert into fires ({', '.join(fires[0])}) values ({', '.join('?' * len(fires[0]))})"
            db.executemany(query, [tuple(fire.values()) for fire in fires])

    def has_waiting(self, kind: str) -> bool:
        """Whether runs that triggers of this type started wait for a worker that serves them."""
        with self.store.read() as db:
            row = db.execute(
                "select 1 from executions e join triggers t on t.id = e.trigger_id "
                "where e.status = 'queued' and e.worker_id is null and t.trigger_type = ? limit 1",
                [kind],
            ).fetchone()
        return row is not None

    def account(self, since: datetime, late_ms: int, no_skips: Sequence[str] = ()) -> dict[str, Any]:
        """Since then: how many were fired, how many of them late, the worst lateness, how many were skipped.

        Those of the reasons ``no_skips`` are not counted: a look that found nothing new did what it is for.
        """
        with self.store.read() as db:
            row = db.execute(
                "select sum(status = 'queued') as fired, sum(status = 'queued' and late_ms >= ?) as late, "
                "max(case when status = 'queued' and late_ms >= ? then late_ms end) as worst_late_ms, "
                "sum(case when status = 'skipped' and coalesce(reason, '') not in (select value from json_each(?)) "
                "then count else 0 end) as skipped from fires where created_at >= ?",
                [late_ms, late_ms, json.dumps(list(no_skips)), rfc3339(since)],
            ).fetchone()
        return {name: row[name] if name == "worst_late_ms" else row[name] or 0 for name in row.keys()}  # noqa: SIM118 - Row


def paused(db: sqlite3.Connection) -> Paused | None:
    """Whether all triggers are paused, since when and why."""
    row = db.execute("select value, changed_at from switches where id = ?", [PAUSED]).fetchone()
    return Paused(datetime.fromisoformat(row["changed_at"]), row["value"] or "") if row else None


def pause(db: sqlite3.Connection, reason: str, moment: datetime) -> None:
    """Pause all triggers; one that is paused keeps its time, and gets the new reason."""
    db.execute(
        "insert into switches (id, value, changed_at) values (?, ?, ?) "
        "on conflict (id) do update set value = excluded.value",
        [PAUSED, reason, rfc3339(moment)],
    )


def resume(db: sqlite3.Connection) -> None:
    """Pause no longer."""
    db.execute("delete from switches where id = ?", [PAUSED])
