"""Executions: queueing, claiming, ending; every update carries the claim's token.

A worker that lost its claim (it was stopped, or is late) holds an old token, and its updates change nothing.
Large texts (input, prompt, output, tool steps) live in ``execution_texts``, so that lists stay fast.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.event import Event
from personas_nb.entities.execution import FINISHED, Execution
from personas_nb.errors import Conflict, QueueFull
from personas_nb.store.budgets import BudgetTable
from personas_nb.store.database import Store
from personas_nb.store.events import EventTable
from personas_nb.store.intents import IntentTable
from personas_nb.store.table import Table, encoded

TEXTS = {"input_data": "input", "output_data": "output", "tool_steps": "steps"}
OPEN = ("queued", "running", "waiting")
_USAGE = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd", "num_turns",
)  # fmt: skip
# Of a worker, at a moment: the oldest queued run whose time has come and whose persona has a free slot. One without
# a worker was started by a trigger or an event, and any worker that serves those may take it; or a decision lets it
# go on, and the one that began it is gone: then any may. Tests take no slot of their persona, and come after its runs.
_CLAIMABLE = """
select e.id from executions e join personas p on p.id = e.persona_id
where e.status = 'queued' and (e.worker_id = ? or (e.worker_id is null and (? or e.pauses > 0)))
and (e.scheduled_at is null or e.scheduled_at <= ?)
and (e.eval_run_id is not null or p.max_concurrent > (
  select count(*) from executions r
  where r.persona_id = e.persona_id and r.status = 'running' and r.eval_run_id is null))
order by e.eval_run_id is not null, e.created_at, e.rowid limit 1
"""


class ExecutionTable(Table[Execution]):
    """The rows of ``executions`` with their texts."""

    skipped = frozenset(TEXTS)

    def __init__(self, store: Store) -> None:
        super().__init__(store, "executions", Execution)
        self._budgets, self._intents = BudgetTable(store), IntentTable(store)

    def whole(self, execution_id: str) -> Execution | None:
        """One execution with its input, output and tool steps."""
        found = self.get(execution_id)
        if found is None:
            return None
        texts = self.texts(execution_id)
        return found.changed(
            input_data=texts.get("input"),
            output_data=texts.get("output"),
            tool_steps=json.loads(texts["steps"]) if "steps" in texts else (),
        )

    def texts(self, execution_id: str) -> dict[str, str]:
        """All texts of an execution by kind: input, prompt, output, steps."""
        with self.store.read() as db:
            rows = db.execute(
                "select kind, content from execution_texts where execution_id = ?", [execution_id]
            )
            return {row["kind"]: row["content"] for row in rows}

    def enqueue(self, execution: Execution, *, queue_limit: int) -> Execution:
        """Write a queued run with its input; raises ``QueueFull`` where the persona has too many."""
        with self.store.write() as db:
            if execution.eval_run_id is None:
                self.check_queue(execution.persona_id, execution.persona_name, queue_limit=queue_limit)
            self.insert(execution)
            if execution.input_data is not None:
                put_text(db, execution.id, "input", execution.input_data)
        return execution

    def open_files(self, persona_id: str) -> list[str]:
        """The files of all runs of a persona that have not ended."""
        where = "persona_id = ? and status in (?, ?, ?) and eval_run_id is null"
        open_runs = self.find(where, [persona_id, *OPEN])
        return [file for run in open_runs for file in run.files]

    def check_queue(self, persona_id: str, persona_name: str, *, queue_limit: int) -> None:
        """Raise ``QueueFull`` where the persona has as many queued runs as it may."""
        if (queued := self.queued_count(persona_id)) >= queue_limit:
            raise queue_full(persona_name, queued)

    def queued_count(self, persona_id: str) -> int:
        """How many runs a persona has in its queue."""
        return self.count("persona_id = ? and status = 'queued' and eval_run_id is null", [persona_id])

    def insert_fired(
        self, db: sqlite3.Connection, model: Execution, runs: Sequence[tuple[str, str, str | None]]
    ) -> None:
        """Write many runs, like ``model`` but for ``(id, trigger_id, input)``; whether they may queue was checked."""
        row = {name: value for name, value in self.dumped(model).items() if value is not None}
        names = [name for name in row if name not in ("id", "trigger_id")]
        common = tuple(row[name] for name in names)
        query = (
            f"insert into executions (id, trigger_id, {', '.join(names)}) values (?, ?{', ?' * len(names)})"
        )
        db.executemany(query, [(run_id, trigger_id, *common) for run_id, trigger_id, _text in runs])
        db.executemany(
            "insert into execution_texts (execution_id, kind, content) values (?, 'input', ?)",
            [(run_id, text) for run_id, _trigger_id, text in runs if text is not None],
        )

    def has_claimable(self, worker_id: str, *, serves: bool = False) -> bool:
        """Whether ``claim_next`` would find a run; a look that takes no lock."""
        with self.store.read() as db:
            return db.execute(_CLAIMABLE, [worker_id, serves, rfc3339(now())]).fetchone() is not None

    def claim(
        self, db: sqlite3.Connection, worker_id: str, limit: int, *, serves: bool = False
    ) -> list[tuple[str, int]]:
        """``claim_next`` until there is nothing to claim, at most ``limit`` times."""
        claimed: list[tuple[str, int]] = []
        while len(claimed) < limit and (found := self.claim_next(db, worker_id, serves=serves)) is not None:
            claimed.append(found)
        return claimed

    def claim_next(
        self, db: sqlite3.Connection, worker_id: str, *, serves: bool = False
    ) -> tuple[str, int] | None:
        """Take the oldest run that this worker queued and whose persona has a free slot: its id and new token.

        With ``serves`` also one that nobody queued: a trigger or an event started it.
        """
        moment = rfc3339(now())
        row = db.execute(
            "update executions set status = 'running', claim_token = claim_token + 1, worker_id = ?, "
            "claimed_at = ?, started_at = coalesce(started_at, ?) "
            f"where id = ({_CLAIMABLE}) returning id, claim_token",
            [worker_id, moment, moment, worker_id, serves, moment],
        ).fetchone()
        return (row["id"], int(row["claim_token"])) if row else None

    def change(self, db: sqlite3.Connection, execution_id: str, token: int, **fields: Any) -> None:
        """Change a claimed run; raises ``Conflict`` when the claim was lost. Texts go to their own table."""
        for name in [name for name in fields if name in TEXTS]:
            value = fields.pop(name)
            if value is not None:
                put_text(db, execution_id, TEXTS[name], value if isinstance(value, str) else encoded(value))
        fields.setdefault("claim_token", token)
        assignments = ", ".join(f"{name} = ?" for name in fields)
        changed = db.execute(
            f"update executions set {assignments} where id = ? and claim_token = ? "
            "and status in ('running', 'waiting')",
            [*(encoded(value) for value in fields.values()), execution_id, token],
        ).rowcount
        if changed == 0:
            raise _lost(execution_id)
        if fields.get("status") in FINISHED:
            self._budgets.settle(db, execution_id, fields.get("cost_usd"))
            self._intents.settle_open(db, execution_id)
            _forget_conversation(db, execution_id)

    def ask_cancel(self, execution_id: str) -> str | None:
        """Cancel a queued run at once, ask a running one to end; the status that it had."""
        with self.store.write() as db:
            row = db.execute(
                "select status, cost_usd, pauses from executions where id = ?", [execution_id]
            ).fetchone()
            if row is None:
                return None
            if row["status"] == "waiting" or (row["status"] == "queued" and row["pauses"]):
                self._end_waiting(db, execution_id)
                self._budgets.settle(db, execution_id, row["cost_usd"])
            elif row["status"] == "queued":
                db.execute(
                    "update executions set status = 'cancelled', error_kind = 'cancelled', completed_at = ?, "
                    "error = 'Cancelled before it ran.', claim_token = claim_token + 1 where id = ?",
                    [rfc3339(now()), execution_id],
                )
                self._budgets.settle(db, execution_id, row["cost_usd"])
            elif row["status"] == "running":
                db.execute("update executions set cancel_requested = 1 where id = ?", [execution_id])
            return str(row["status"])

    def _end_waiting(self, db: sqlite3.Connection, execution_id: str) -> None:
        """Cancel a run that waits for a decision, or has not gone on since; what it had is stored already."""
        moment = rfc3339(now())
        db.execute(
            "update executions set status = 'cancelled', error_kind = 'cancelled', completed_at = ?, "
            "error = 'Cancelled while it waited for a decision; what it had until then is kept.', "
            "claim_token = claim_token + 1 where id = ?",
            [moment, execution_id],
        )
        db.execute(
            "update reviews set status = 'expired', note = 'The run was cancelled; nothing was done.', "
            "decided_at = ? where execution_id = ? and kind = 'approval' and status = 'pending'",
            [moment, execution_id],
        )
        _forget_conversation(db, execution_id)
        self._tell_of_end(db, execution_id, moment)

    def cancel_requests(self, worker_id: str) -> list[str]:
        """The runs of a worker that somebody asked to end."""
        with self.store.read() as db:
            rows = db.execute(
                "select id from executions where worker_id = ? and status = 'running' and cancel_requested = 1",
                [worker_id],
            )
            return [row["id"] for row in rows]

    def finished_among(self, ids: Sequence[str]) -> list[str]:
        """Which of these runs have ended, or are gone with their persona."""
        marks = ", ".join("?" * len(ids))
        still_open = ", ".join(f"'{status}'" for status in OPEN)
        with self.store.read() as db:
            rows = db.execute(
                f"select id from executions where id in ({marks}) and status in ({still_open})", list(ids)
            )
            going_on = {row["id"] for row in rows}
        return [execution_id for execution_id in ids if execution_id not in going_on]

    def workers_with_open_runs(self) -> list[tuple[str, str]]:
        """Id and lock path of every worker that has queued or running executions."""
        with self.store.read() as db:
            rows = db.execute(
                "select distinct w.id, w.lock_path from executions e join workers w on w.id = e.worker_id "
                "where e.status in ('queued', 'running')"
            ).fetchall()
        return [(row["id"], row["lock_path"]) for row in rows]

    def fail_orphans(self, worker_id: str) -> list[str]:
        """Fail the runs of a worker that died; what they had until then is kept. Their ids."""
        with self.store.write() as db:
            rows = db.execute(
                "select id, status, retry_of from executions where worker_id = ? "
                "and (status = 'running' or (status = 'queued' and pauses = 0))",
                [worker_id],
            ).fetchall()
            # These a decision lets go on, wherever somebody serves.
            db.execute(
                "update executions set worker_id = null where worker_id = ? and status = 'queued' and pauses > 0",
                [worker_id],
            )
            for row in rows:
                self._end_early(
                    db,
                    row["id"],
                    status="failed",
                    error=_left_behind(row["status"], row["retry_of"]),
                    error_kind="interrupted",
                    at=_last_seen(db, row["id"]),
                )
                self._budgets.settle(db, row["id"], None)
            db.execute(
                "update workers set stopped_at = coalesce(stopped_at, ?) where id = ?",
                [rfc3339(now()), worker_id],
            )
        return [row["id"] for row in rows]

    def end_early(
        self,
        db: sqlite3.Connection,
        execution_id: str,
        token: int,
        *,
        status: str,
        error: str,
        error_kind: str,
        is_unbegun: bool = False,
    ) -> None:
        """End a claimed run with what its stored events tell; raises ``Conflict`` when the claim was lost.

        ``is_unbegun``: nothing was asked of a model since the claim, so that it cost nothing, or what it had cost when
        it began to wait for a decision. Otherwise all that it has reserved of the budgets counts as spent.
        """
        _check_claim(db, execution_id, token)
        self._end_early(db, execution_id, status=status, error=error, error_kind=error_kind)
        if not is_unbegun:
            self._budgets.settle(db, execution_id, None)
            return
        row = db.execute(
            "update executions set cost_usd = case when pauses then cost_usd else 0 end where id = ? "
            "returning cost_usd",
            [execution_id],
        ).fetchone()
        self._budgets.settle(db, execution_id, row["cost_usd"])

    def _end_early(
        self,
        db: sqlite3.Connection,
        execution_id: str,
        *,
        status: str,
        error: str,
        error_kind: str,
        at: str | None = None,
    ) -> None:
        """``at`` is when the run was last seen, if that is not now. Its token grows: what is late changes nothing."""
        moment = rfc3339(now())
        events = _events_so_far(db, execution_id)
        if text := "".join(event["text"] for event in events["text"]):
            put_text(db, execution_id, "output", text)
        steps = [event["step"] for event in events["tool_finished"]]
        lost = self._intents.lost_steps(db, execution_id, steps)
        steps += lost
        warnings = [event["text"] for event in events["warning"]]
        warnings += [
            f"A call of {step['tool']}: {step['error']} Look before you run it again." for step in lost
        ]
        _forget_conversation(db, execution_id)
        if steps:
            put_text(db, execution_id, "steps", encoded(steps))
        usage = events["usage"][-1] if events["usage"] else {}
        fields = {
            "status": status,
            "error": error,
            "error_kind": error_kind,
            "completed_at": moment,
            "tool_calls": len(steps),
            **({"warnings": encoded(warnings)} if warnings else {}),
            **{name: usage[name] for name in _USAGE if name in usage},
        }
        assignments = ", ".join(f"{name} = ?" for name in fields)
        db.execute(
            f"update executions set {assignments}, claim_token = claim_token + 1, "
            "duration_ms = coalesce(duration_ms, 0) + max(0, cast((julianday(?) - "
            "julianday(coalesce(claimed_at, started_at))) * 86400000 as integer)) where id = ?",
            [*fields.values(), at or moment, execution_id],
        )
        self._tell_of_end(db, execution_id, moment)

    def _tell_of_end(self, db: sqlite3.Connection, execution_id: str, moment: str) -> None:
        row = db.execute(
            "select e.status, e.error, e.rehearsal, e.eval_run_id, p.slug from executions e "
            "join personas p on p.id = e.persona_id where e.id = ?",
            [execution_id],
        ).fetchone()
        payload = encoded({"type": "status", "status": row["status"], "error": row["error"]})
        db.execute(
            "insert into run_events (execution_id, seq, at, type, payload) "
            "select ?, coalesce(max(seq), 0) + 1, ?, 'status', ? from run_events where execution_id = ?",
            [execution_id, moment, payload, execution_id],
        )
        if row["eval_run_id"]:  # a test starts nothing
            return
        ended = Event(
            event_type="execution_failed",
            source_type="system",
            source=row["slug"],
            data={"execution_id": execution_id, "status": row["status"], "error": row["error"]},
            execution_id=execution_id,
            rehearsal=bool(row["rehearsal"]),
        )
        EventTable(self.store).insert(ended)


class RunEventTable:
    """What happened in a run, in order; appended in batches, guarded by the claim's token."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def append(
        self,
        db: sqlite3.Connection,
        execution_id: str,
        token: int,
        rows: Sequence[tuple[int, str, str, str]],
    ) -> None:
        """Append ``(seq, at, type, payload)`` rows; raises ``Conflict`` when the claim was lost."""
        # One step for all: at each one the writer has to wait for the interpreter, which the loop keeps busy.
        written = db.execute(
            "insert into run_events (execution_id, seq, at, type, payload) "
            "select e.id, json_extract(r.value, '$[0]'), json_extract(r.value, '$[1]'), "
            "json_extract(r.value, '$[2]'), json_extract(r.value, '$[3]') "
            "from executions e, json_each(?) r where e.id = ? and e.claim_token = ? and e.status = 'running'",
            [json.dumps(rows), execution_id, token],
        ).rowcount
        if written < len(rows):
            raise _lost(execution_id)

    def since(self, execution_id: str, seq: int = -1) -> list[tuple[int, str, str]]:
        """``(seq, at, payload)`` of the events after ``seq``."""
        with self.store.read() as db:
            rows = db.execute(
                "select seq, at, payload from run_events where execution_id = ? and seq > ? order by seq",
                [execution_id, seq],
            ).fetchall()
        return [(row["seq"], row["at"], row["payload"]) for row in rows]

    def of_types(self, execution_id: str, *types: str) -> list[dict[str, Any]]:
        """What was stored of these types, in order."""
        marks = ", ".join("?" * len(types))
        with self.store.read() as db:
            rows = db.execute(
                f"select payload from run_events where execution_id = ? and type in ({marks}) order by seq",
                [execution_id, *types],
            ).fetchall()
        return [json.loads(row["payload"]) for row in rows]

    def last_seq(self, execution_id: str) -> int:
        """The number of the last event; 0 where there is none."""
        with self.store.read() as db:
            row = db.execute("select max(seq) from run_events where execution_id = ?", [execution_id])
            return int(row.fetchone()[0] or 0)


def queue_full(persona_name: str, queued: int) -> QueueFull:
    """The refusal of a run whose persona has as many queued ones as it may."""
    return QueueFull(
        f"{persona_name} already has {queued} runs in its queue, as many as it may.",
        hint="Wait for some, or cancel them with `%persona runs cancel ID`.",
    )


def put_text(db: sqlite3.Connection, execution_id: str, kind: str, content: str) -> None:
    """Write or replace one of an execution's large texts."""
    db.execute(
        "insert into execution_texts (execution_id, kind, content) values (?, ?, ?) "
        "on conflict (execution_id, kind) do update set content = excluded.content",
        [execution_id, kind, content],
    )


def _forget_conversation(db: sqlite3.Connection, execution_id: str) -> None:
    """What a paused run was to go on from; nobody needs it once the run has ended."""
    db.execute("delete from execution_texts where execution_id = ? and kind = 'conversation'", [execution_id])


def _check_claim(db: sqlite3.Connection, execution_id: str, token: int) -> None:
    holds = db.execute(
        "select 1 from executions where id = ? and claim_token = ? and status = 'running'",
        [execution_id, token],
    ).fetchone()
    if holds is None:
        raise _lost(execution_id)


def _lost(execution_id: str) -> Conflict:
    return Conflict(f"The claim on run {execution_id[:8]} was lost; nothing was written.")


def _left_behind(status: str, retry_of: str | None) -> str:
    if status == "running":
        return "Its process ended in the middle of the run; what it had until then is kept."
    return f"Its process ended before {'it could be tried again' if retry_of else 'the run began'}."


def _events_so_far(db: sqlite3.Connection, execution_id: str) -> dict[str, list[dict[str, Any]]]:
    """What was stored of a run, by type, in order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows = db.execute(
        "select type, payload from run_events where execution_id = ? order by seq", [execution_id]
    )
    for row in rows:
        found[row["type"]].append(json.loads(row["payload"]))
    return found


def _last_seen(db: sqlite3.Connection, execution_id: str) -> str | None:
    row = db.execute("select max(at) from run_events where execution_id = ?", [execution_id]).fetchone()
    return str(row[0]) if row and row[0] else None
