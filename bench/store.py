"""What the writer adds to SQLite; run as ``python bench/store.py``.

One-row writes of executions, each queued on the worker by itself, against the same statements with the same values
on a bare connection: the same file layout and pragmas, and the very batches that the writer made of them. Both in
turns, in one process.

- insert: a new row of ``executions``. Exit 1 when the writer does under 0.8 times as many a second.
- end: what ends a run, made by the table as the runner makes it: two cheap statements, for which making them and
  queueing the change weigh more than SQLite. Shown only: a run does it once.
- Four processes write to one file at once, each through a worker of its own: exit 1 when one of them meets an
  error, or a row is missing.
"""

from __future__ import annotations

import gc
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import islice
from operator import truediv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable
from personas_nb.worker import Worker, Write

ROWS = 2_000
ROUNDS = 25
PROCESSES = 4
ROWS_EACH = 10_000
WANTED_RATIO = 0.8

PERSONA = Persona(  # the same one in every process
    id="00000000-0000-4000-8000-000000000000", name="Bench", slug="bench", system_prompt="You watch invoices."
)
ENDED: dict[str, Any] = {
    "status": "completed",
    "duration_ms": 1234,
    "input_tokens": 1700,
    "output_tokens": 100,
    "cost_usd": 0.0012,
    "num_turns": 2,
    "warnings": ["The answer was cut at 8,192 output tokens."],
    "completed_at": "2026-11-21T08:00:00.000000Z",
}


Statements = list[tuple[str, list[Any]]]  # of one change


class Writer:
    """A home with a worker; what is written is queued one row at a time."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        self.table = ExecutionTable(self.store)
        self.worker = Worker(self.store)
        self.worker.start()
        self.batches: list[int] = []
        commit = self.worker._commit

        def counted(changes: Any) -> None:
            self.batches.append(len(changes))
            commit(changes)

        self.worker._commit = counted  # type: ignore[method-assign]

    def seconds(self, changes: list[Write]) -> float:
        """How long it takes from the first that is queued until the last is committed."""
        self.batches.clear()
        started = time.perf_counter()
        for change in changes:
            last = self.worker.write(change)
        last.result()
        return time.perf_counter() - started

    def close(self) -> None:
        self.worker.stop()
        self.store.close()


class Bare:
    """A connection to a file of its own, made as the store makes them."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        with self.store.write():  # makes the file
            pass
        self.db = self.store._connect()

    def seconds(self, changes: list[Statements], batches: list[int]) -> float:
        """How long the changes take in batches of these sizes."""
        left = iter(changes)
        started = time.perf_counter()
        for size in batches:
            self.db.execute("BEGIN IMMEDIATE")
            for change in islice(left, size):  # the last may be smaller: a heartbeat came between
                for statement, values in change:
                    self.db.execute(statement, values)
            self.db.execute("COMMIT")
        return time.perf_counter() - started

    def close(self) -> None:
        self.db.close()
        self.store.close()


def persona_in(store: Store) -> None:
    store.table("personas", Persona).insert(PERSONA)


def running(count: int = ROWS, worker_id: str | None = None) -> list[Execution]:
    return [
        Execution(
            persona_id=PERSONA.id, persona_name="Bench", status="running", worker_id=worker_id, claim_token=1
        )
        for _ in range(count)
    ]


def inserts(table: ExecutionTable, executions: list[Execution]) -> list[Statements]:
    """What the table writes for new rows."""
    made = []
    for execution in executions:
        row = table.dumped(execution)
        marks = ", ".join("?" * len(row))
        made.append([(f"insert into executions ({', '.join(row)}) values ({marks})", list(row.values()))])
    return made


def ends(store: Store, executions: list[Execution]) -> list[Statements]:
    """What the table writes for runs that end, as SQLite is given it."""
    table, made = ExecutionTable(store), []
    for execution in executions:
        recorder = Recorder()
        table.change(recorder, execution.id, 1, **ENDED)  # type: ignore[arg-type]
        made.append(recorder.statements)
    return made


class Recorder:
    """In the place of a connection, it keeps what it is given."""

    rowcount = 1

    def __init__(self) -> None:
        self.statements: Statements = []

    def execute(self, statement: str, values: list[Any]) -> Recorder:
        self.statements.append((statement, values))
        return self


def queued(statements: Statements) -> Write:
    def change(db: sqlite3.Connection) -> None:
        for statement, values in statements:
            db.execute(statement, values)

    return change


def ended(table: ExecutionTable, execution: Execution) -> Write:
    return lambda db: table.change(db, execution.id, 1, **ENDED)


def measured(writer: Writer, bare: Bare) -> dict[str, tuple[list[float], list[float], list[int]]]:
    """For each kind of write, the seconds of the writer and of the peer, and all batches."""
    found: dict[str, tuple[list[float], list[float], list[int]]] = {
        "insert": ([], [], []),
        "end": ([], [], []),
    }

    def turn(kind: str, changes: list[Write], statements: list[Statements]) -> None:
        gc.collect()
        ours, theirs, batches = found[kind]
        ours.append(writer.seconds(changes))
        made = list(writer.batches)
        batches += made
        gc.collect()
        theirs.append(bare.seconds(statements, made))

    for number in range(ROUNDS + 1):
        if number == 1:  # the first round was to warm up
            for lists in found.values():
                for figures in lists:
                    figures.clear()
        executions = running()
        statements = inserts(writer.table, executions)
        turn("insert", [queued(each) for each in statements], statements)
        changes = [ended(writer.table, each) for each in executions]
        turn("end", changes, ends(bare.store, executions))
    return found


def write_many(home: Path) -> None:
    """One of several processes: says that it is ready, waits for a line, writes its rows."""
    with closing(Writer(home)) as writer:
        changes = [queued(each) for each in inserts(writer.table, running(ROWS_EACH, writer.worker.id))]
        print("ready", flush=True)
        sys.stdin.readline()
        futures = [writer.worker.write(change) for change in changes]
        problems = [repr(future.exception()) for future in futures if future.exception() is not None]
        print(len(problems), problems[:1], flush=True)


def four_processes(home: Path) -> bool:
    """Whether all of them wrote everything, without an error."""
    with closing(Store(home)) as store:
        persona_in(store)
    command = [sys.executable, __file__, str(home)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in processes if process.stdout]
    seconds = time.perf_counter() - started
    for process in processes:
        process.communicate()
    with closing(Store(home)) as store:
        count = ExecutionTable(store).count()
    expected = ROWS_EACH * PROCESSES
    print(
        f"{PROCESSES} processes: {expected / seconds:,.0f} rows/s; errors {said}; {count:,} of {expected:,} rows"
    )
    return count == expected and all(line == "0 []" for line in said)


def reported(
    kind: str, ours: list[float], theirs: list[float], batches: list[int], wanted: float = 0.0
) -> bool:
    """Print one kind's figures; whether they are good."""
    ratios = sorted(map(truediv, theirs, ours))
    ratio, tenth = statistics.median(ratios), len(ratios) // 10
    limit = f" (≥ {wanted})" if wanted else ""
    print(
        f"{kind}: {ROWS / statistics.median(ours):,.0f} rows/s, bare {ROWS / statistics.median(theirs):,.0f}: "
        f"{ratio:.2f} times, {ratios[tenth]:.2f}–{ratios[-1 - tenth]:.2f}{limit}; "
        f"{statistics.mean(batches):.0f} rows a batch"
    )
    return bool(ratio >= wanted)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        homes: list[Path] = [Path(folder) / name for name in ("ours", "bare", "four")]
        with closing(Writer(homes[0])) as writer, closing(Bare(homes[1])) as bare:
            for side in (writer, bare):
                persona_in(side.store)
            found = measured(writer, bare)
        is_good = reported("insert", *found["insert"], wanted=WANTED_RATIO)
        reported("end", *found["end"])
        is_good &= four_processes(homes[2])
    return 0 if is_good else 1


if __name__ == "__main__":
    if sys.argv[1:]:
        write_many(Path(sys.argv[1]))
    else:
        sys.exit(main())
