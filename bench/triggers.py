"""What our triggers cost beside APScheduler 3.11; run as ``python bench/triggers.py``.

APScheduler is taken as it comes: a BackgroundScheduler with its memory store, which keeps nothing, sees nothing of
other processes, and starts its jobs in a pool of ten threads; its jobs do nothing. Ours is a studio that hosts the
loop: every trigger, due time and start is a row on the disk, any process may change them, and what starts are real
(rehearsed) runs. Each figure is of new processes, taken in turns.

- add: 10 000 schedules, all different, into a running scheduler, with their next times: seconds, and by how much the
  process grows at its largest meanwhile (resident, from /proc). Exit 1 under 3 times as fast, or over half its memory.
- late: 1 000 triggers due in the same moment: how long until it is decided that they fire, the 99th percentile. Of
  APScheduler, until a job is handed to its executor. Of ours, until it is known in the transaction that a run is
  queued; when all are committed is printed too. Exit 1 over 0.7 times.
- idle: the share of a core that a process uses while nothing happens, with 1 000 triggers that are due an hour later.
  APScheduler with its memory store sleeps for that hour, and learns of nothing. Ours keeps them on the disk, learns
  within a second what other processes write, and has a heart that beats. Exit 1 when our whole process uses more, by
  more than 0.0001 of a core: the hundredth of a second in a hundred seconds that a system counts in. Printed too: an
  open studio of ours without the loop; and APScheduler with its SQLAlchemy store, on SQLite, woken every second to see
  what others have changed.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import truediv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ADDED = 10_000
DUE = 1_000
PERSONAS = 20  # of them; a persona's queue takes 100 runs
SAMPLES = 5
IDLE_SAMPLES = 3
IDLE_SECONDS = float(os.environ.get("BENCH_IDLE_SECONDS", "20"))
WAKE_SECONDS = 1.0  # how soon ours sees what others have changed
TICK_SHARE = 0.0001
LEAD_SECONDS = 4.0
WANTED_SPEED = 3.0
ALLOWED_MEMORY = 0.5
ALLOWED_LATENESS = 0.7

CRONS = [f"{n % 60} {n // 60 % 24} * * {n // 1440}" for n in range(ADDED)]


# --- what a process measures of itself --------------------------------------------------------------------


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measured(action: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of an action, and by how many MB the process grew at its largest meanwhile."""
    gc.collect()
    before, peak, over = rss_mb(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, rss_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    kept = action()
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    peak = max(peak, rss_mb())
    del kept
    return seconds, peak - before


def p99_ms(lateness: list[float]) -> float:
    assert len(lateness) == DUE, len(lateness)
    return statistics.quantiles(lateness, n=100)[98] * 1000


def idle_share() -> float:
    """How much of a core this process uses while nothing happens."""
    time.sleep(12)  # what began with it has ended; old runs are looked for after ten seconds
    began, used = time.perf_counter(), time.process_time()
    time.sleep(IDLE_SECONDS)
    return (time.process_time() - used) / (time.perf_counter() - began)


def nothing() -> None:
    pass


# --- APScheduler ------------------------------------------------------------------------------------------


def scheduler(**options: Any) -> Any:
    from apscheduler.schedulers.background import BackgroundScheduler

    made = BackgroundScheduler(timezone=UTC, **options)
    made.start()
    return made


def their_add() -> list[float]:
    from apscheduler.triggers.cron import CronTrigger

    running = scheduler()
    running.add_job(nothing, CronTrigger.from_crontab("0 0 * * *", timezone=UTC))

    def add() -> None:
        for cron in CRONS:
            running.add_job(nothing, CronTrigger.from_crontab(cron, timezone=UTC))

    return list(measured(add))


def their_lateness() -> list[float]:
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.triggers.interval import IntervalTrigger

    handed: list[float] = []

    class Watched(ThreadPoolExecutor):  # type: ignore[misc]
        def _do_submit_job(self, job: Any, run_times: Any) -> None:
            handed.append(time.time() - run_times[-1].timestamp())
            super()._do_submit_job(job, run_times)

    running = scheduler(executors={"default": Watched()})
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LEAD_SECONDS)
    for _ in range(DUE):
        running.add_job(
            nothing, IntervalTrigger(hours=1, start_date=due, timezone=UTC), misfire_grace_time=60
        )
    until = time.monotonic() + 60
    while len(handed) < DUE and time.monotonic() < until:
        time.sleep(0.1)
    return [p99_ms(handed)]


def their_idle(*, durable: bool) -> list[float]:
    from apscheduler.triggers.interval import IntervalTrigger

    with tempfile.TemporaryDirectory() as folder:
        running = scheduler()
        if durable:
            running.add_jobstore("sqlalchemy", alias="kept", url=f"sqlite:///{folder}/jobs.db")
        for _ in range(DUE):
            trigger = IntervalTrigger(hours=1, timezone=UTC)
            # by its name: a store on the disk keeps no function
            running.add_job("time:time", trigger, jobstore="kept" if durable else "default")
        if durable:

            def wake() -> None:
                while True:
                    time.sleep(WAKE_SECONDS)
                    running.wakeup()

            threading.Thread(target=wake, daemon=True).start()
        return [idle_share()]


# --- ours -------------------------------------------------------------------------------------------------


@contextmanager
def studio(personas: int = 1, *, hosts: bool = True) -> Iterator[Any]:
    """A studio in a home of its own that hosts the loop, with that many personas."""
    from personas_nb import Studio

    with tempfile.TemporaryDirectory() as folder, Studio(Path(folder) / "home") as opened:
        for n in range(personas):
            opened.personas.create(name=f"Bench {n}", system_prompt="You watch invoices.")
        if hosts:
            opened.triggers.start()
        yield opened


def our_add() -> list[float]:
    with studio() as opened:
        opened.triggers.add("bench-0", "schedule", {"cron": "0 0 * * *", "timezone": "UTC"})
        items = ({"cron": cron, "timezone": "UTC"} for cron in CRONS)
        found = measured(lambda: opened.triggers.add_all("bench-0", (("schedule", item) for item in items)))
        planned = opened.store.table("triggers", object).count("next_trigger_at is not null")
        assert planned == ADDED + 1, planned
        return list(found)


def due_at(opened: Any, due: datetime) -> None:
    """Triggers that are due then and every hour after, over all personas."""
    from personas_nb.entities.base import rfc3339
    from personas_nb.entities.trigger import Trigger

    table = opened.store.table("triggers", Trigger)
    owners = opened.personas.list()
    with opened.store.write():
        for n in range(DUE):
            table.insert(
                Trigger(
                    persona_id=owners[n % len(owners)].id,
                    trigger_type="polling",
                    config={"interval_seconds": 3600},
                    state={"anchor": rfc3339(due - timedelta(hours=1))},
                    next_trigger_at=due,
                )
            )


def our_lateness() -> list[float]:
    """Until it was decided, and until it was on the disk."""
    from personas_nb.store.fires import FireTable

    with studio(PERSONAS) as opened:
        due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LEAD_SECONDS)
        loop, worker, fires = opened.trigger_loop, opened.worker, FireTable(opened.store)
        begin, commit = loop._begin, worker._commit
        decided: list[float] = []
        recorded: list[float] = []

        def begun(*words: Any) -> None:
            begin(*words)
            decided.append(time.time() - due.timestamp())

        def committed(changes: Any) -> None:
            before = len(decided)
            commit(changes)
            recorded.extend([time.time() - due.timestamp()] * (len(decided) - before))

        loop._begin, worker._commit = begun, committed
        due_at(opened, due)
        until = time.monotonic() + 60
        while len(recorded) < DUE and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.2)
        found = fires.find()
        assert len(found) == DUE, len(found)
        assert {fire.status for fire in found} == {"queued"}, {fire.reason for fire in found}
        return [p99_ms(decided), p99_ms(recorded)]


def our_idle(*, hosts: bool) -> list[float]:
    with studio(PERSONAS, hosts=hosts) as opened:
        due_at(opened, datetime.now(UTC) + timedelta(hours=1))
        _ = opened.dispatcher  # as in a studio that has run something
        return [idle_share()]


# --- what is compared -------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[], list[float]]] = {
    "add ours": our_add,
    "add theirs": their_add,
    "late ours": our_lateness,
    "late theirs": their_lateness,
    "idle ours": lambda: our_idle(hosts=True),
    "idle open": lambda: our_idle(hosts=False),
    "idle theirs": lambda: their_idle(durable=False),
    "idle durable": lambda: their_idle(durable=True),
}


def in_a_process(measure: str) -> list[float]:
    """The figures that a new process measures, in an environment without anybody's settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PERSONAS_")}
    env |= {"PERSONAS_KEYRING": "off", "PERSONAS_PROVIDER": "rehearsal"}
    done = subprocess.run(
        [sys.executable, __file__, measure], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_turns(samples: int, *measures: str) -> list[list[list[float]]]:
    """For each measure, the figures of its samples."""
    rounds = [[in_a_process(measure) for measure in measures] for _ in range(samples)]
    return [[list(figures) for figures in zip(*one, strict=True)] for one in zip(*rounds, strict=True)]


def ratio(dividends: list[float], divisors: list[float]) -> tuple[float, str]:
    """The median ratio of neighbours in time, on which the rest of the machine weighs alike, and its spread."""
    found = sorted(map(truediv, dividends, divisors))
    return statistics.median(found), f"{found[0]:.2f}–{found[-1]:.2f}"


def adding() -> bool:
    (seconds, grown_mb), (their_seconds, their_mb) = in_turns(SAMPLES, "add ours", "add theirs")
    speed, spread = ratio(their_seconds, seconds)
    print(
        f"adding {ADDED:,}: {statistics.median(seconds):.2f} s, APScheduler {statistics.median(their_seconds):.2f} s: "
        f"{speed:.2f} times as fast, {spread} (≥ {WANTED_SPEED:g})"
    )
    memory, spread = ratio(grown_mb, their_mb)
    print(
        f"adding {ADDED:,}: {statistics.median(grown_mb):.1f} MB, APScheduler {statistics.median(their_mb):.1f} MB: "
        f"{memory:.2f} times, {spread} (≤ {ALLOWED_MEMORY:g})"
    )
    return speed >= WANTED_SPEED and memory <= ALLOWED_MEMORY


def lateness() -> bool:
    (decided, recorded), (theirs,) = in_turns(SAMPLES, "late ours", "late theirs")
    found, spread = ratio(decided, theirs)
    print(
        f"{DUE:,} due at once, p99: decided after {statistics.median(decided):.1f} ms, APScheduler "
        f"{statistics.median(theirs):.1f} ms: {found:.2f} times, {spread} (≤ {ALLOWED_LATENESS:g}); on the disk, with "
        f"their runs, after {statistics.median(recorded):.1f} ms, where APScheduler writes nothing"
    )
    return found <= ALLOWED_LATENESS


def idleness() -> bool:
    measures = ("idle ours", "idle open", "idle theirs", "idle durable")
    shares = [statistics.median(figures) for (figures,) in in_turns(IDLE_SAMPLES, *measures)]
    ours, studio_alone, theirs, durable = shares
    print(
        f"idle: {ours:.5f} of a core, APScheduler, which learns of nothing, {theirs:.5f} (≤ that + {TICK_SHARE:g}); an "
        f"open studio {studio_alone:.5f}; APScheduler with a store on the disk, woken every second, {durable:.5f}"
    )
    return ours <= theirs + TICK_SHARE


def main() -> int:
    good = [adding(), lateness(), idleness()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(MEASURES[sys.argv[1]]()))
    else:
        sys.exit(main())
