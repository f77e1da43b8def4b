"""How fast daily metrics are, against pandas over all rows in the same run; exits 1 when they are slower.

python bench/metrics.py

Both sides give the same table from the same store: 100 000 runs of 10 personas in 30 days, each with its
system event, some with events of their own, messages and reviews. The peer reads the columns it needs of
every row, and groups them. The tables are compared before anything is timed.
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd

from personas_nb.entities.base import new_id, now, rfc3339
from personas_nb.metrics.metrics import DAILY_COLUMNS, Metrics
from personas_nb.personas.personas import Personas
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

EXECUTIONS, PERSONAS, DAYS, ROUNDS = 100_000, 10, 30, 7
STATUSES = ["completed"] * 8 + ["incomplete", "failed", "cancelled"]
SUMS = ["cost_usd", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "tool_calls"]


def insert(db: sqlite3.Connection, table: str, columns: str, rows: Iterator[tuple[object, ...]]) -> None:
    marks = ", ".join("?" * len(columns.split()))
    db.executemany(f"insert into {table} ({', '.join(columns.split())}) values ({marks})", rows)


def runs(rng: random.Random, owners: list[str]) -> list[tuple[str, str, str]]:
    """Id, persona and time of every run, in the order in which they were queued."""
    today = now()
    ages = sorted((rng.random() * (DAYS - 1) * 86_400 for _ in range(EXECUTIONS)), reverse=True)
    return [(new_id(), rng.choice(owners), rfc3339(today - timedelta(seconds=age))) for age in ages]


def execution(rng: random.Random, run: tuple[str, str, str]) -> tuple[object, ...]:
    cost = rng.random() / 10 if rng.random() < 0.9 else None
    tokens = (rng.randrange(20_000), rng.randrange(2_000), rng.randrange(9_000), rng.randrange(900))
    event = new_id() if rng.random() < 0.1 else None
    texts = ("[]", "[]", "[]", '{"accomplished": true, "summary": "All invoices were read."}')
    state = (rng.choice(STATUSES), cost, *tokens, rng.randrange(120_000), rng.randrange(9), event)
    return (*run, run[2], run[2], *state, "anthropic", "direct", *texts, 3, 1, 0, 4)


def fill(db: sqlite3.Connection, owners: list[str]) -> None:
    rng = random.Random(21)
    made = runs(rng, owners)
    insert(
        db,
        "executions",
        "id persona_id created_at started_at completed_at status cost_usd input_tokens output_tokens "
        "cache_read_tokens cache_write_tokens duration_ms tool_calls event_id provider engine "
        "execution_flows warnings files outcome persona_version claim_token rehearsal num_turns",
        (execution(rng, run) for run in made),
    )
    events = "id execution_id created_at event_type source_type status data"
    fields = ("execution_completed", "system", "processed", '{"status": "completed"}')
    insert(db, "events", events, ((new_id(), run[0], run[2], *fields) for run in made))
    own = ("emit_event", "persona", "processed", '{"value": 1}')
    insert(db, "events", events, ((new_id(), run[0], run[2], *own) for run in made if rng.random() < 0.1))
    for table, share, text in (
        ("messages", 0.3, "Three invoices are due this week." * 5),
        ("reviews", 0.05, "pending"),
    ):
        columns = f"id execution_id persona_id created_at {'content' if table == 'messages' else 'status'}"
        chosen = (run for run in made if rng.random() < share)
        insert(db, table, columns, ((new_id(), run[0], run[1], run[2], text) for run in chosen))


def by_pandas(path: Path) -> pd.DataFrame:
    """The peer: every run into a frame, the counts joined to it, then one groupby."""
    with sqlite3.connect(path) as db:
        frame = pd.read_sql_query(
            f"select id, persona_id, created_at, status, duration_ms, event_id, {', '.join(SUMS)} "
            "from executions",
            db,
        )
        names = pd.read_sql_query("select id as persona_id, name as persona from personas", db)
        for column, source in (
            ("events_emitted", "events where source_type = 'persona'"),
            ("messages_sent", "messages"),
            ("reviews_asked", "reviews"),
        ):
            sent = pd.read_sql_query(f"select execution_id from {source}", db)["execution_id"].value_counts()
            frame[column] = frame["id"].map(sent).fillna(0).astype("int64")
    frame["day"] = pd.to_datetime(frame["created_at"].str[:10])
    frame["events_consumed"] = frame["event_id"].notna()
    for status in ("completed", "incomplete", "failed", "cancelled"):
        frame[status] = frame["status"] == status
    groups = frame.merge(names, on="persona_id").groupby(["day", "persona"])
    summed = [name for name in DAILY_COLUMNS if name in frame and name not in ("day", "persona")]
    daily = groups[summed].sum(min_count=1)
    daily["executions"] = groups.size()
    daily["duration_ms_mean"] = groups["duration_ms"].mean()
    daily["duration_ms_p50"] = groups["duration_ms"].quantile(0.5)
    daily["duration_ms_p95"] = groups["duration_ms"].quantile(0.95)
    return daily.reset_index()[list(DAILY_COLUMNS)]


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> int:
    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home))
        personas = Personas(store, Credentials(store, KeyRing()))
        owners = [personas.create(name=f"Watcher {number}").id for number in range(PERSONAS)]
        with store.write() as db:
            fill(db, owners)
        metrics = Metrics(store, personas)
        ours, theirs = metrics.daily(days=DAYS), by_pandas(store.path)
        pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
        # Interleaved, so that other work on the machine meets both.
        times = [
            (seconds(lambda: metrics.daily(days=DAYS)), seconds(lambda: by_pandas(store.path)))
            for _ in range(ROUNDS)
        ]
        one = statistics.median(seconds(lambda: metrics.daily("watcher-1", days=DAYS)) for _ in range(ROUNDS))
        store.close()
    daily, peer = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{EXECUTIONS:,} runs, {len(ours)} rows of days and personas, medians of {ROUNDS}")
    print(f"Metrics.daily()     {daily * 1000:8.0f} ms")
    print(f"pandas groupby      {peer * 1000:8.0f} ms   ratio {peer / daily:.1f}")
    print(f"one persona of {PERSONAS}   {one * 1000:8.0f} ms")
    if daily > peer:
        print("Slower than pandas over all rows.")
    return 0 if daily <= peer else 1


if __name__ == "__main__":
    sys.exit(main())
