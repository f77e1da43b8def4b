"""How fast events find who listens, and how soon a run is queued; run as ``python bench/events.py``.

- match: events against 10 000 subscriptions of 200 types, half of them with a pattern for the source, in memory;
  beside it, in the same run, a loop over all of them with fnmatch. Seconds are those of the processor: nothing is
  waited for. Exit 1 when fewer than 100 000 events a second are matched, or when the two do not find the same.
- queue: from ``publish`` until another connection sees the run that it queued, in a home with 10 000 subscriptions
  whose triggers are served by this process; one event at a time, each run is waited for. Exit 1 when half of them
  take longer than 20 ms.
- burst: 1 000 events at once, until all of their runs are queued. Shown only.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from personas_nb import Studio
from personas_nb.entities.event import Event, Subscription
from personas_nb.store.events import EventTable
from personas_nb.triggers.matching import Matcher, type_key

SUBSCRIPTIONS, TYPES, EVENTS, ROUNDS = 10_000, 200, 20_000, 5
NAIVE_EVENTS = 200
SAMPLES, BURST = 60, 1_000
WANTED_MATCHES, WANTED_MS = 100_000, 20.0
WORDS = ["invoice", "mail", "report", "watch", "sales", "bank", "order", "stock", "alert", "news"]


def main() -> int:
    os.environ |= {"PERSONAS_KEYRING": "off", "PERSONAS_PROVIDER": "rehearsal"}
    os.environ["PERSONAS_QUEUE_LIMIT"] = str(10 * BURST)
    is_fast = match()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["PERSONAS_KEY_FILE"] = str(Path(folder) / "keys.json")
        with Studio(Path(folder) / "home") as studio:
            is_soon = queue(studio)
    return 0 if is_fast and is_soon else 1


def source(chance: random.Random) -> str:
    return f"{chance.choice(WORDS)}-{chance.choice(WORDS)}-{chance.randrange(1000)}"


def subscribed(chance: random.Random) -> tuple[str, str | None]:
    """A type and a filter: none, a name, or a pattern with its asterisk at the end, in front, or on both sides."""
    event_type, name, kind = f"type_{chance.randrange(TYPES)}", source(chance), chance.random()
    if kind < 0.05:
        return event_type, None
    if kind < 0.5:
        return event_type, name
    if kind < 0.75:
        return event_type, f"{name[: chance.randrange(4, len(name))]}*"
    return event_type, f"*{name[-5:]}" if kind < 0.9 else f"*{name[3:9]}*"


def match() -> bool:
    chance = random.Random(11)
    subscriptions = [subscribed(chance) for _ in range(SUBSCRIPTIONS)]
    events = [(f"Type.{chance.randrange(TYPES)}", source(chance)) for _ in range(EVENTS)]
    began = time.process_time()
    matcher = Matcher((*one, number) for number, one in enumerate(subscriptions))
    build_ms = (time.process_time() - began) * 1000

    rates, found = [], 0
    for _ in range(ROUNDS):
        began = time.process_time()
        found = sum(len(matcher.match(event_type, of)) for event_type, of in events)
        rates.append(EVENTS / (time.process_time() - began))
    rate = statistics.median(rates)

    keyed = [(type_key(event_type), (wanted or "*").lower()) for event_type, wanted in subscriptions]
    began = time.process_time()
    naive = [
        [number for number, (t, pattern) in enumerate(keyed) if t == key and fnmatchcase(of, pattern)]
        for key, of in ((type_key(event_type), of) for event_type, of in events[:NAIVE_EVENTS])
    ]
    naive_rate = NAIVE_EVENTS / (time.process_time() - began)
    is_same = naive == [matcher.match(*event) for event in events[:NAIVE_EVENTS]]
    print(
        f"match: {rate:,.0f} events/s over {SUBSCRIPTIONS:,} subscriptions ({found / EVENTS:.1f} heard each, "
        f"index made in {build_ms:.0f} ms); fnmatch in a loop: {naive_rate:,.0f}; {rate / naive_rate:,.0f}×; "
        f"wanted {WANTED_MATCHES:,}" + ("" if is_same else "; THEY DIFFER")
    )
    return is_same and rate >= WANTED_MATCHES


def queue(studio: Studio) -> bool:
    chance = random.Random(12)
    studio.personas.create(name="Other", system_prompt="You watch.")
    listener = studio.personas.create(name="Listener", system_prompt="You watch.")
    table = studio.store.table("subscriptions", Subscription)
    other_id = studio.personas.get("other").id
    with studio.store.write():
        for _ in range(SUBSCRIPTIONS):
            event_type, wanted = subscribed(chance)
            table.insert(Subscription(persona_id=other_id, event_type=event_type, source_filter=wanted))
    studio.events.subscribe(listener, "found", "bench-*")
    studio.triggers.start()
    sample(studio)  # the index is made
    waits_ms = sorted(sample(studio) for _ in range(SAMPLES))
    p50, p95 = statistics.median(waits_ms), waits_ms[int(0.95 * SAMPLES)]
    print(
        f"queue: p50 {p50:.1f} ms, p95 {p95:.1f} ms from publish to a queued run; wanted {WANTED_MS:.0f} ms"
    )
    studio.personas.update(listener, max_concurrent=1)
    burst_seconds = burst(studio)
    print(
        f"burst: {BURST:,} events queued in {burst_seconds:.1f} s ({BURST / burst_seconds:,.0f}/s, runs beside)"
    )
    return p50 <= WANTED_MS


def sample(studio: Studio) -> float:
    """The milliseconds from publishing an event until its run is seen; then the run is waited for."""
    began = time.perf_counter()
    event = studio.events.publish("found", {"n": 1}, source="bench-1")
    with studio.store.read() as db:
        query = "select id from executions where event_id = ?"
        while (row := db.execute(query, [event.id]).fetchone()) is None:
            time.sleep(0.0005)
    took_ms = (time.perf_counter() - began) * 1000
    while not studio.executions.whole(row["id"]).is_finished:
        time.sleep(0.01)
    return took_ms


def burst(studio: Studio) -> float:
    events = EventTable(studio.store)
    before = len(studio.executions.list(limit=100_000))
    with studio.store.write():
        for number in range(BURST):
            events.insert(Event(event_type="found", source=f"bench-{number}", data={"n": number}))
    began = time.perf_counter()
    studio.worker.changed()
    with studio.store.read() as db:
        while db.execute("select count(*) from executions").fetchone()[0] < before + BURST:
            time.sleep(0.01)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
