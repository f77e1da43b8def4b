"""Memories: what holds, what it took the place of, and what the last prompt was told."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from personas_nb.entities.base import rfc3339
from personas_nb.entities.memory import Memory
from personas_nb.store.database import Store
from personas_nb.store.table import Table

_EARLIER = """
with recursive before(id, depth) as (
  select id, 1 from memories where superseded_by = ?
  union select m.id, b.depth + 1 from memories m join before b on m.superseded_by = b.id)
select m.* from memories m join before b on b.id = m.id order by b.depth, m.superseded_at desc, m.rowid desc
"""
# Tests of evals are no runs of their persona.
_LAST_RECALL = """
select e.id, e.created_at, e.rehearsal, t.content from executions e
join execution_texts t on t.execution_id = e.id and t.kind = 'memories'
where e.persona_id = ? and e.eval_run_id is null order by e.created_at desc, e.rowid desc limit 1
"""


class MemoryTable(Table[Memory]):
    """The rows of ``memories``. One that holds was not superseded."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "memories", Memory)

    def holding(self, persona_id: str, *, rehearsal: bool) -> list[Memory]:
        """What a persona knows now; what its rehearsals remembered, for a rehearsal only."""
        real = "" if rehearsal else " and rehearsal = 0"
        return self.find(f"persona_id = ? and superseded_by is null{real}", [persona_id], order_by="id")

    def texts(self, persona_id: str) -> list[sqlite3.Row]:
        """Id, texts and origin of what a persona knows now, the newest first; read without making entities."""
        with self.store.read() as db:
            return db.execute(
                "select id, title, content, pinned, rehearsal, source_execution_id from memories "
                "where persona_id = ? and superseded_by is null order by updated_at desc, rowid desc",
                [persona_id],
            ).fetchall()

    def supersede(self, ids: Sequence[str], by: str, at: datetime) -> None:
        """Let another memory hold in the place of these."""
        with self.store.write() as db:
            db.executemany(
                "update memories set superseded_by = ?, superseded_at = ? where id = ?",
                [(by, rfc3339(at), memory_id) for memory_id in ids],
            )

    def earlier(self, memory_id: str) -> list[Memory]:
        """What it took the place of, directly and before, the latest first."""
        with self.store.read() as db:
            return [self.loaded(row) for row in db.execute(_EARLIER, [memory_id]).fetchall()]

    def earlier_counts(self, persona_id: str | None) -> dict[str, int]:
        """How many took whose place directly, by the memory that holds instead."""
        where, values = ("", []) if persona_id is None else (" and persona_id = ?", [persona_id])
        with self.store.read() as db:
            rows = db.execute(
                "select superseded_by, count(*) as n from memories "
                f"where superseded_by is not null{where} group by superseded_by",
                values,
            )
            return {row["superseded_by"]: int(row["n"]) for row in rows}

    def last_recall(self, persona_id: str) -> sqlite3.Row | None:
        """The latest run that chose among memories: its id, time and kind, and the recall as JSON."""
        with self.store.read() as db:
            row: sqlite3.Row | None = db.execute(_LAST_RECALL, [persona_id]).fetchone()
        return row
