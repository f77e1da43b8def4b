"""What runs have begun to do outside: a row before each side effect, so that a crash after it leaves a trace.

A row is ``begun`` until it is settled: ``done``, ``failed``, ``refused`` (nothing was done), or ``uncertain`` where
nobody can tell any more.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import now, rfc3339
from personas_nb.errors import Conflict

if TYPE_CHECKING:
    from personas_nb.store.database import Store

MAY_HAVE_HAPPENED = "It may have happened: the run ended before its answer was stored."
_STARTED = """
select json_extract(payload, '$.input') as input from run_events
where execution_id = ? and type = 'tool_started' and json_extract(payload, '$.call_id') = ? order by seq desc limit 1
"""


class IntentTable:
    """The rows of ``intents``."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def begin(
        self,
        db: sqlite3.Connection,
        intent_id: str,
        *,
        execution_id: str,
        token: int,
        tool: str,
        call_id: str,
        arguments_hash: str,
    ) -> None:
        """Say what is about to be done; raises ``Conflict`` when the claim was lost: then it must not be done."""
        written = db.execute(
            "insert into intents (id, execution_id, tool, call_id, arguments_hash, status, created_at) "
            "select ?, e.id, ?, ?, ?, 'begun', ? from executions e "
            "where e.id = ? and e.claim_token = ? and e.status = 'running'",
            [intent_id, tool, call_id, arguments_hash, rfc3339(now()), execution_id, token],
        ).rowcount
        if not written:
            raise Conflict(f"The claim on run {execution_id[:8]} was lost; {tool} was not called.")

    def settle(self, db: sqlite3.Connection, intent_id: str, status: str) -> None:
        """Say what became of it; one that was settled before stays so."""
        db.execute(
            "update intents set status = ?, settled_at = ? where id = ? and status = 'begun'",
            [status, rfc3339(now()), intent_id],
        )

    def settle_open(self, db: sqlite3.Connection, execution_id: str) -> list[sqlite3.Row]:
        """What of an ended run is still open becomes uncertain; those rows."""
        rows = db.execute(
            "select * from intents where execution_id = ? and status = 'begun' order by rowid", [execution_id]
        ).fetchall()
        for row in rows:
            self.settle(db, row["id"], "uncertain")
        return rows

    def lost_steps(
        self, db: sqlite3.Connection, execution_id: str, stored: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Steps for the calls of a dead run that left an intent and no answer; ``stored`` are those with one.

        A call that was settled as done has happened, also where its answer was lost with the process.
        """
        self.settle_open(db, execution_id)
        rows = db.execute(
            "select * from intents where execution_id = ? order by rowid", [execution_id]
        ).fetchall()
        steps = []
        answered = Counter(
            (step["tool"], step["call_id"]) for step in stored
        )  # some servers repeat their ids
        for row in rows:
            call = row["tool"], row["call_id"] or ""
            answered[call] -= 1
            if answered[call] >= 0 or row["status"] == "refused":
                continue
            found = db.execute(_STARTED, [execution_id, row["call_id"]]).fetchone()
            steps.append(
                {
                    "tool": row["tool"],
                    "call_id": row["call_id"] or "",
                    "input": json.loads(found["input"]) if found and found["input"] else {},
                    "error": _became(row["status"]),
                    "performed": True,
                    "uncertain": row["status"] == "uncertain",
                    "started_at": row["created_at"],
                }
            )
        return steps

    def tools_of(self, execution_id: str) -> list[str]:
        """The tools that a run has called outside, or was about to."""
        with self.store.read() as db:
            rows = db.execute(
                "select distinct tool from intents where execution_id = ? and status <> 'refused'",
                [execution_id],
            )
            return [row["tool"] for row in rows]


def _became(status: str) -> str:
    if status == "uncertain":
        return MAY_HAVE_HAPPENED
    how = "It happened" if status == "done" else "It was tried, and failed"
    return f"{how}; its answer was lost when the run's process ended."
