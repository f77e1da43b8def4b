"""What is old goes, with its log, and it is said; what somebody may still need stays."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.studios import line_of, python

from personas_nb.engine.log import RunLog
from personas_nb.engine.retention import Removed, Retention
from personas_nb.entities.base import new_id, rfc3339
from personas_nb.entities.event import Event, EventDelivery
from personas_nb.entities.execution import FINISHED, Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.entities.trigger import UNCHANGED, Fire, Trigger
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable, put_text

TODAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD = TODAY - timedelta(days=100)
NOTHING = Removed()


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store(home)
    yield opened
    opened.close()


@pytest.fixture
def persona(store: Store) -> Persona:
    return store.table("personas", Persona).insert(Persona(name="Watcher"))


def retention(store: Store, **settings: Any) -> Retention:
    """Retention on the 21st of November 2026 that keeps 90 days and no minimum, unless said."""
    return Retention(store, Settings(**{"retention_min_executions": 0, **settings}), clock=lambda: TODAY)


def run_of(store: Store, persona: Persona, at: datetime = OLD, **fields: Any) -> Execution:
    """A run that began and ended then, with two events, a text and an event of the system."""
    made = Execution(
        **{"persona_id": persona.id, "status": "completed", "created_at": at, "completed_at": at, **fields}
    )
    with store.write() as db:
        ExecutionTable(store).insert(made)
        put_text(db, made.id, "output", "Done.")
        for seq in (1, 2):
            db.execute(
                "insert into run_events (execution_id, seq, at, type, payload) values (?, ?, ?, 'text', '{}')",
                [made.id, seq, rfc3339(at)],
            )
        store.table("events", Event).insert(Event(event_type="execution_completed", execution_id=made.id))
    return made


def logged(store: Store, execution_id: str, *, at: datetime | None = None, text: str = "{}") -> Path:
    log = RunLog(store.home, execution_id)
    log.append([text])
    log.close()
    if at is not None:
        os.utime(log.path, (at.timestamp(), at.timestamp()))
    return log.path


def ids(store: Store) -> list[str]:
    return [run.id for run in ExecutionTable(store).find()]


def count(store: Store, table: str) -> int:
    with store.read() as db:
        return int(db.execute(f"select count(*) from {table}").fetchone()[0])


# --- rows -------------------------------------------------------------------------------------------------


def test_an_old_run_goes_with_everything_that_is_stored_of_it_alone(store: Store, persona: Persona) -> None:
    old, young = run_of(store, persona), run_of(store, persona, TODAY - timedelta(days=89))
    with store.write() as db:
        for run in (old, young):
            db.execute(
                "insert into intents (id, execution_id, status, created_at) values (?, ?, 'done', '')",
                [new_id(), run.id],
            )
    assert retention(store).run() == Removed(executions=1, events=3)
    assert ids(store) == [young.id]
    counts = {name: count(store, name) for name in ("execution_texts", "run_events", "intents")}
    assert counts == {"execution_texts": 1, "run_events": 2, "intents": 1}
    assert [event.execution_id for event in store.table("events", Event).find()] == [young.id, None]


def test_what_ended_exactly_that_long_ago_stays(store: Store, persona: Persona) -> None:
    run_of(store, persona, TODAY - timedelta(days=90))
    assert retention(store).run() == NOTHING
    assert retention(store, retention_days=89).run().executions == 1


def test_the_newest_of_each_persona_stay_however_old_they_are(store: Store, persona: Persona) -> None:
    other = store.table("personas", Persona).insert(Persona(name="Other"))
    mine = [run_of(store, persona, OLD + timedelta(minutes=n)) for n in range(5)]
    others = [run_of(store, other, OLD) for _ in range(3)]
    run_of(store, persona, TODAY, status="queued", completed_at=None)
    assert retention(store, retention_min_executions=2).run().executions == 4
    left = {run.id for run in mine[3:] + others[1:]}
    assert left < set(ids(store))
    assert len(ids(store)) == 5


@pytest.mark.parametrize("status", ["queued", "running", "waiting"])
def test_a_run_that_has_not_ended_stays(store: Store, persona: Persona, status: str) -> None:
    run_of(store, persona, status=status, completed_at=None)
    assert retention(store).run() == NOTHING


def test_a_run_with_a_pending_review_stays_until_it_is_decided(store: Store, persona: Persona) -> None:
    run = run_of(store, persona)
    reviews = store.table("reviews", Review)
    review = reviews.insert(Review(persona_id=persona.id, execution_id=run.id))
    assert retention(store).run() == NOTHING
    reviews.update(review.id, status="approved")
    assert retention(store).run().executions == 1
    assert reviews.count() == 1


def test_a_run_whose_retry_is_open_stays_until_that_has_ended(store: Store, persona: Persona) -> None:
    run = run_of(store, persona, status="failed")
    retry = run_of(store, persona, TODAY, status="queued", completed_at=None, retry_of=run.id)
    assert retention(store).run() == NOTHING
    ExecutionTable(store).update(retry.id, status="completed", completed_at=TODAY)
    assert retention(store).run().executions == 1
    assert ids(store) == [retry.id]


def test_what_got_an_open_retry_after_it_was_chosen_stays(
    store: Store, persona: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = run_of(store, persona), run_of(store, persona)
    tidy = retention(store)
    chosen = list(tidy._table.removable(rfc3339(TODAY), 0))
    assert chosen == [run.id, other.id]
    run_of(store, persona, TODAY, status="queued", completed_at=None, retry_of=run.id)
    assert tidy._table.remove(chosen, rfc3339(TODAY)).execution_ids == [other.id]


@pytest.mark.parametrize("days", [365_001, 630_000, 10**9])
def test_a_very_long_time_keeps_everything(store: Store, persona: Persona, days: int) -> None:
    run_of(store, persona, datetime(2020, 1, 1, tzinfo=UTC))
    assert retention(store, retention_days=days).run() == NOTHING


def test_thousands_go_in_transactions_that_others_can_write_between(store: Store, persona: Persona) -> None:
    with store.write():
        for n in range(3_000):
            run_of(store, persona, OLD + timedelta(seconds=n))
    asked: list[int] = []

    def write_between() -> bool:
        store.table("events", Event).insert(Event(event_type="written_between"))
        asked.append(count(store, "executions"))
        return False

    removed = retention(store, retention_min_executions=50).run(write_between)
    assert (removed.executions, removed.events) == (2_950, 3 * 2_950)
    steps = [before - after for before, after in pairwise(asked)]
    assert max(steps) <= 200
    assert count(store, "executions") == 50
    assert store.check() == "ok"


def test_it_stops_when_it_is_told_and_goes_on_the_next_time(store: Store, persona: Persona) -> None:
    for _ in range(3):
        path = logged(store, run_of(store, persona).id, at=OLD)
    assert retention(store).run(lambda: True) == NOTHING
    assert path.exists()
    assert retention(store).run().log_files == 3


# --- fires and events -----------------------------------------------------------------------------------


def fire_of(store: Store, persona: Persona, at: datetime, **fields: Any) -> Fire:
    triggers = store.table("triggers", Trigger)
    found = triggers.find() or [triggers.insert(Trigger(persona_id=persona.id, trigger_type="polling"))]
    fire = Fire(
        **{
            "trigger_id": found[0].id,
            "key": new_id(),
            "kind": "polling",
            "due_at": at,
            "status": "skipped",
            "created_at": at,
            **fields,
        }
    )
    return store.table("fires", Fire).insert(fire)


def kept_fires(store: Store) -> set[str]:
    return {fire.id for fire in store.table("fires", Fire).find()}


def test_looks_that_saw_nothing_new_go_after_a_day_other_fires_with_the_retention(
    store: Store, persona: Persona
) -> None:
    yesterday, lately = TODAY - timedelta(hours=25), TODAY - timedelta(hours=23)
    stay = [
        fire_of(store, persona, lately, reason=UNCHANGED),
        fire_of(store, persona, yesterday, reason="The address answered 500."),
        fire_of(store, persona, OLD, status="checking"),
    ]
    fire_of(store, persona, yesterday, reason=UNCHANGED)
    fire_of(store, persona, OLD, reason="All triggers are paused.")
    removed = retention(store).run()
    assert (removed.fires, removed.executions) == (2, 0)
    assert kept_fires(store) == {fire.id for fire in stay}


def test_a_fire_stays_as_long_as_its_run(store: Store, persona: Persona) -> None:
    run = run_of(store, persona)
    kept = fire_of(store, persona, OLD, status="queued", execution_id=run.id)
    fire_of(store, persona, OLD, status="queued", execution_id=new_id())
    assert retention(store, retention_min_executions=1).run().fires == 1
    assert kept_fires(store) == {kept.id}
    assert retention(store).run().fires == 1


def test_webhook_deliveries_are_known_for_a_week_however_short_the_retention(
    store: Store, persona: Persona
) -> None:
    known = fire_of(store, persona, TODAY - timedelta(days=7), kind="webhook")
    fire_of(store, persona, TODAY - timedelta(days=9), kind="webhook")
    fire_of(store, persona, TODAY - timedelta(days=7))
    assert retention(store, retention_days=1).run().fires == 2
    assert kept_fires(store) == {known.id}


def test_old_events_go_with_their_deliveries_unless_something_still_hangs_on_them(
    store: Store, persona: Persona
) -> None:
    events, deliveries = store.table("events", Event), store.table("event_deliveries", EventDelivery)
    run = run_of(store, persona, TODAY)
    made = {
        name: events.insert(Event(event_type=name, created_at=OLD, status="processed"))
        for name in ("gone", "tried again", "led to a run that is kept", "led to one that is gone")
    }
    events.insert(Event(event_type="waits", created_at=OLD, status="pending"))
    events.insert(Event(event_type="young", created_at=TODAY, status="dead"))
    for name, status, execution_id in (
        ("tried again", "pending", None),
        ("led to a run that is kept", "started", run.id),
        ("led to one that is gone", "started", new_id()),
    ):
        deliveries.insert(
            EventDelivery(
                event_id=made[name].id, subscription_id="s", status=status, execution_id=execution_id
            )
        )
    assert retention(store).run().events == 2
    assert [event.event_type for event in events.find("execution_id is null")] == [
        "tried again",
        "led to a run that is kept",
        "waits",
        "young",
    ]
    assert deliveries.count() == 2


def test_thousands_of_fires_go_in_steps_that_stop_when_told(store: Store, persona: Persona) -> None:
    with store.write():
        for _ in range(450):
            fire_of(store, persona, OLD, reason=UNCHANGED)
    asked: list[int] = []

    def stop_at_the_third() -> bool:
        asked.append(count(store, "fires"))
        return count(store, "fires") < 100

    assert retention(store).run(stop_at_the_third).fires == 400
    assert count(store, "fires") == 50
    assert max(before - after for before, after in pairwise(asked)) == 200
    assert retention(store).run().fires == 50


# --- the rule against a model in plain Python ----------------------------------------------------------------

RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "persona": st.integers(0, 1),
            "status": st.sampled_from([*sorted(FINISHED), "queued", "running", "waiting"]),
            "age_days": st.integers(80, 100),
            "took_days": st.integers(0, 5),
            "review": st.sampled_from([None, None, "pending", "approved"]),
            "retry_of": st.none() | st.integers(0, 11),
        }
    ),
    max_size=12,
)


def kept_by_model(runs: Sequence[dict[str, Any]], keep: int) -> list[int]:
    """The places of the runs that stay, found the long way."""
    newest: set[int] = set()
    for persona in (0, 1):
        ended = [n for n, run in enumerate(runs) if run["persona"] == persona and run["status"] in FINISHED]
        ended.sort(key=lambda n: (-runs[n]["age_days"], n))
        newest |= set(ended[len(ended) - keep :] if keep < len(ended) else ended)
    open_retries = {run["retry_of"] for run in runs if run["status"] not in FINISHED}
    return [
        n
        for n, run in enumerate(runs)
        if run["status"] not in FINISHED
        or run["age_days"] - run["took_days"] <= 90
        or n in newest
        or run["review"] == "pending"
        or n in open_retries
    ]


@given(runs=RUNS, keep=st.integers(0, 4))
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_stays_is_what_the_rule_says(
    tmp_path_factory: pytest.TempPathFactory, runs: list[dict[str, Any]], keep: int
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "model")
    with store.write() as db:
        db.execute("delete from personas")
        people = [store.table("personas", Persona).insert(Persona(name=name)) for name in ("A", "B")]
        names = [new_id() for _ in runs]
        for name, run in zip(names, runs, strict=True):
            began = TODAY - timedelta(days=run["age_days"])
            ended = began + timedelta(days=run["took_days"]) if run["status"] in FINISHED else None
            retry_of = names[run["retry_of"]] if run["retry_of"] in range(len(runs)) else None
            fields = {"id": name, "status": run["status"], "completed_at": ended, "retry_of": retry_of}
            run_of(store, people[run["persona"]], began, **fields)
            if run["review"]:
                owner = people[run["persona"]].id
                review = Review(persona_id=owner, execution_id=name, status=run["review"])
                store.table("reviews", Review).insert(review)
    removed = retention(store, retention_min_executions=keep).run()
    expected = [names[n] for n in kept_by_model(runs, keep)]
    assert ids(store) == expected
    assert removed.executions == len(runs) - len(expected)
    store.close()


# --- logs -------------------------------------------------------------------------------------------------


def test_the_logs_of_a_removed_run_go_with_it_all_of_them(store: Store, persona: Persona) -> None:
    run, young = run_of(store, persona), run_of(store, persona, TODAY)
    log = RunLog(store.home, run.id, limit_bytes=10)
    log.append(["{}"] * 10)
    log.close()
    kept, files = logged(store, young.id, at=OLD), RunLog.paths(store.home, run.id)
    removed = retention(store).run()
    assert removed.log_files == len(files) == 4
    assert removed.bytes_freed == 30
    assert list((store.home / "logs").iterdir()) == [kept]


def test_logs_that_a_crash_left_without_a_run_go_when_they_are_a_day_old(store: Store) -> None:
    store.check()
    old = logged(store, new_id(), at=TODAY - timedelta(hours=25), text='{"a": 1}')
    young = logged(store, new_id(), at=TODAY - timedelta(hours=23))
    assert retention(store).run() == Removed(log_files=1, bytes_freed=9)
    assert (old.exists(), young.exists()) == (False, True)


def test_files_that_are_no_logs_of_ours_stay(store: Store) -> None:
    store.check()
    (store.home / "logs").mkdir()
    for name in ("notes.jsonl", f"{new_id()}.txt", f"{new_id()}.bak.jsonl", "x" + f"{new_id()}.jsonl"):
        (store.home / "logs" / name).touch()
        os.utime(store.home / "logs" / name, (0, 0))
    assert retention(store).run() == NOTHING
    assert len(list((store.home / "logs").iterdir())) == 4


DYING = """
    import os, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from personas_nb.engine.retention import Retention
    from personas_nb.settings import Settings
    from personas_nb.store.database import Store
    tidy = Retention(Store(Path(sys.argv[1])), Settings(retention_min_executions=0))
    tidy._remove_logs = lambda ids: os.kill(os.getpid(), 9)
    tidy.run()
"""


def test_what_a_process_did_not_come_to_is_done_the_next_time(store: Store, persona: Persona) -> None:
    run = run_of(store, persona, datetime(2020, 1, 1, tzinfo=UTC))
    path = logged(store, run.id, at=OLD)
    with python(DYING, str(store.home)) as process:
        assert process.wait(60) == -9
    assert (ids(store), path.exists()) == ([], True)
    assert retention(store).run().log_files == 1
    assert not path.exists()


# --- what is said -----------------------------------------------------------------------------------------


def test_it_says_what_it_removed(store: Store, persona: Persona, caplog: pytest.LogCaptureFixture) -> None:
    logged(store, run_of(store, persona).id)
    tidy = retention(store)
    assert tidy.last() is None
    with caplog.at_level("INFO", "personas_nb.engine"):
        tidy.run()
    told = tidy.last()
    assert told is not None
    assert (told.event_type, told.source_type, told.created_at) == ("retention", "system", TODAY)
    assert told.data == {"executions": 1, "events": 3, "log_files": 1, "bytes_freed": 3, "fires": 0}
    assert caplog.messages == ["retention removed 1 executions, 3 events, 0 fires, 1 log files (3 bytes)"]


def test_where_nothing_was_removed_nothing_is_said(store: Store, persona: Persona) -> None:
    run_of(store, persona, TODAY)
    tidy = retention(store)
    assert not tidy.run()
    assert tidy.last() is None


def test_what_was_said_long_ago_goes_too_and_the_last_is_found(store: Store, persona: Persona) -> None:
    for day in (0, 1, 100):
        run_of(store, persona)
        Retention(
            store,
            Settings(retention_min_executions=0),
            clock=lambda day=day: TODAY + timedelta(days=day),  # type: ignore[misc]
        ).run()
    last = retention(store).last()
    assert last is not None
    assert last.created_at == TODAY + timedelta(days=100)
    assert store.table("events", Event).count("event_type = 'retention'") == 1


# --- several processes ------------------------------------------------------------------------------------

RACE = """
    import sys
    from dataclasses import astuple
    from pathlib import Path
    from personas_nb.engine.retention import Retention
    from personas_nb.settings import Settings
    from personas_nb.store.database import Store
    tidy = Retention(Store(Path(sys.argv[1])), Settings(retention_min_executions=50))
    print("ready", flush=True)
    sys.stdin.readline()
    print(*astuple(tidy.run()), flush=True)
"""


def test_two_processes_at_once_remove_and_count_each_run_once(store: Store, persona: Persona) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    with store.write():
        made = [run_of(store, persona, long_ago + timedelta(seconds=n)) for n in range(2_000)]
    for run in made:
        logged(store, run.id)
    with python(RACE, str(store.home)) as one, python(RACE, str(store.home)) as two:
        assert [line_of(one), line_of(two)] == ["ready", "ready"]
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        counts = [[int(word) for word in line_of(process).split()] for process in (one, two)]
    assert [a + b for a, b in zip(*counts, strict=True)] == [1_950, 3 * 1_950, 1_950, 3 * 1_950, 0]
    assert ids(store) == [run.id for run in made[-50:]]
    assert len(list((store.home / "logs").iterdir())) == 50


def test_a_transaction_that_fails_leaves_its_rows_whole_for_the_next_time(
    store: Store, persona: Persona
) -> None:
    run = run_of(store, persona)
    with store.write() as db:
        db.execute(
            "create temp trigger stop before delete on executions begin select raise(abort, 'no'); end"
        )
    with pytest.raises(sqlite3.IntegrityError):
        retention(store).run()
    assert ids(store) == [run.id]
    assert count(store, "run_events") == 2
    store.close()
    assert retention(store).run().executions == 1
