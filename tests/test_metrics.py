"""What runs did and cost, as DataFrames."""

import math
import tempfile
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personas_nb.entities.base import now
from personas_nb.entities.event import Event
from personas_nb.entities.execution import FINISHED, Execution
from personas_nb.entities.message import Message
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.entities.tool import ToolCallStep
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.metrics.metrics import DAILY_COLUMNS, EXECUTION_COLUMNS, TOOL_COLUMNS, Metrics
from personas_nb.personas.personas import Personas
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable, put_text
from personas_nb.store.table import encoded
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

DAILY = [
    *["day", "persona", "executions", "completed", "incomplete", "failed", "cancelled", "cost_usd"],
    *["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"],
    *["duration_ms_mean", "duration_ms_p50", "duration_ms_p95"],
    *["tool_calls", "events_emitted", "events_consumed", "messages_sent", "reviews_asked"],
]


class Home:
    """A store with two personas, and what fills it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "home")
        keys = KeyRing(key_file=folder / "keys" / "keys.json", use_keyring=False)
        self.personas = Personas(self.store, Credentials(self.store, keys))
        self.metrics = Metrics(self.store, self.personas)
        self.owners = [self.personas.create(name=name) for name in ("Invoice watcher", "Mail boy")]

    def ran(
        self, owner: Persona | None = None, *, steps: tuple[ToolCallStep, ...] = (), **fields
    ) -> Execution:
        fields = {"persona_id": (owner or self.owners[0]).id, "status": "completed", **fields}
        run = ExecutionTable(self.store).insert(Execution(**fields))
        if steps:
            with self.store.write() as db:
                put_text(db, run.id, "steps", encoded(steps))
        return run

    def sent(self, run: Execution, *, events: int = 0, messages: int = 0, reviews: int = 0) -> None:
        common = {"persona_id": run.persona_id, "execution_id": run.id}
        rows: list[tuple[str, Event | Message | Review]] = [
            *[("messages", Message(**common)) for _ in range(messages)],
            *[("reviews", Review(**common)) for _ in range(reviews)],
        ]
        for source, number in (("persona", events), ("system", 1)):
            event = {"event_type": "x", "source_type": source, "execution_id": run.id}
            at = run.created_at + timedelta(seconds=5)
            rows += [("events", Event(**event, created_at=at)) for _ in range(number)]
        for table, row in rows:
            self.store.table(table, type(row)).insert(row)


@pytest.fixture
def home(tmp_path: Path):
    made = Home(tmp_path)
    yield made
    made.store.close()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# Daily


MOMENTS = st.datetimes(datetime(2026, 3, 27), datetime(2026, 3, 31), timezones=st.just(UTC))
COUNTS = st.integers(0, 2**40)
RUNS = st.fixed_dictionaries(
    {
        "owner": st.integers(0, 1),
        "created_at": MOMENTS,
        "status": st.sampled_from(["queued", "running", "waiting", *sorted(FINISHED)]),
        "cost_usd": st.none() | st.floats(0, 100),
        "duration_ms": st.none() | st.integers(0, 10**9),
        "event_id": st.none() | st.just("an event"),
        **dict.fromkeys(
            ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "tool_calls"], COUNTS
        ),
        "sent": st.fixed_dictionaries(dict.fromkeys(["events", "messages", "reviews"], st.integers(0, 2))),
    }
)


def expected(runs: list[dict], zone: str) -> list[dict]:
    """The daily table from its definition: a bucket of runs for each local date and persona."""
    buckets = defaultdict(list)
    for run in runs:
        name = ("Invoice watcher", "Mail boy")[run["owner"]]
        buckets[run["created_at"].astimezone(ZoneInfo(zone)).date(), name].append(run)
    rows = []
    for (day, persona), group in sorted(buckets.items()):
        costs = [run["cost_usd"] for run in group]
        known = sum(cost for cost in costs if cost is not None)
        times = pd.Series(
            [run["duration_ms"] for run in group if run["duration_ms"] is not None], dtype=float
        )
        sums = {
            name: sum(run[name] for run in group) for name in DAILY if name in group[0] and name != "cost_usd"
        }
        rows.append(
            {
                **sums,
                **{f: sum(run["status"] == f for run in group) for f in FINISHED},
                "day": pd.Timestamp(day),
                "persona": persona,
                "executions": len(group),
                "cost_usd": math.nan if None in costs and known == 0 else known,
                "duration_ms_mean": fmean(times) if len(times) else math.nan,
                "duration_ms_p50": times.quantile(0.5),
                "duration_ms_p95": times.quantile(0.95),
                "events_consumed": sum(run["event_id"] is not None for run in group),
                "events_emitted": sum(run["sent"]["events"] for run in group),
                "messages_sent": sum(run["sent"]["messages"] for run in group),
                "reviews_asked": sum(run["sent"]["reviews"] for run in group),
            }
        )
    return rows


@settings(max_examples=40, deadline=None)
@given(
    st.lists(RUNS, max_size=12),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"]),
)
def test_daily_is_what_its_definition_gives_over_any_runs_in_any_zone(runs: list[dict], zone: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        with home.store.write():
            for run in runs:
                fields = {name: value for name, value in run.items() if name not in ("owner", "sent")}
                home.sent(home.ran(home.owners[run["owner"]], **fields), **run["sent"])
        daily = home.metrics.daily(days=None, tz=zone)
        home.store.close()
    wanted = pd.DataFrame(expected(runs, zone), columns=DAILY).astype(DAILY_COLUMNS)
    pd.testing.assert_frame_equal(daily, wanted, rtol=1e-9)


def test_daily_has_the_promised_columns_in_their_order(home: Home) -> None:
    home.ran()
    assert list(home.metrics.daily().columns) == DAILY


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-03-28T23:59:59.999999+01:00", date(2026, 3, 28)),
        ("2026-03-29T00:00:00+01:00", date(2026, 3, 29)),
        ("2026-03-29T23:59:59.999999+02:00", date(2026, 3, 29)),
        ("2026-03-30T00:00:00+02:00", date(2026, 3, 30)),
        ("2026-10-25T00:00:00+02:00", date(2026, 10, 25)),
        ("2026-10-25T23:59:59.999999+01:00", date(2026, 10, 25)),
        ("2026-10-26T00:00:00+01:00", date(2026, 10, 26)),
    ],
)
def test_a_day_of_23_or_25_hours_begins_and_ends_at_local_midnight(
    home: Home, moment: str, day: date
) -> None:
    home.ran(created_at=at(moment))
    (found,) = home.metrics.daily(days=None, tz="Europe/Berlin")["day"]
    assert found == pd.Timestamp(day)


@pytest.mark.parametrize(("moment", "day"), [("2026-04-23T21:59:59Z", 23), ("2026-04-23T22:00:00Z", 24)])
def test_a_day_whose_midnight_is_skipped_begins_with_the_change_of_the_clocks(
    home: Home, moment: str, day: int
) -> None:
    home.ran(created_at=at(moment))  # in Cairo, 24 April 2026 begins at 1:00
    assert home.metrics.daily(days=None, tz="Africa/Cairo")["day"].dt.day.tolist() == [day]


def test_a_run_after_local_midnight_counts_with_all_that_it_did_for_the_day_it_was_queued(home: Home) -> None:
    run = home.ran(
        created_at=at("2026-05-01T23:59:58Z"), completed_at=at("2026-05-02T00:10:00Z"), cost_usd=0.5
    )
    home.sent(run, events=2)  # five seconds later, on the next day
    (row,) = home.metrics.daily(days=None).to_dict("records")
    assert (row["day"], row["events_emitted"], row["cost_usd"]) == (pd.Timestamp("2026-05-01"), 2, 0.5)


def test_days_are_calendar_days_with_today_as_the_last(home: Home) -> None:
    tz = "Pacific/Auckland"
    midnight = now().astimezone(ZoneInfo(tz)).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = midnight - timedelta(days=1)
    for moment in (yesterday - timedelta(seconds=1), yesterday, midnight):
        home.ran(created_at=moment.astimezone(UTC))
    assert home.metrics.daily(days=2, tz=tz)["day"].tolist() == [
        pd.Timestamp(day.date()) for day in (yesterday, midnight)
    ]
    assert len(home.metrics.daily(days=1, tz=tz)) == 1
    assert len(home.metrics.daily(days=10**9, tz=tz)) == 3


@pytest.mark.parametrize(
    ("costs", "shown"),
    [
        ([None], math.nan),
        ([None, None], math.nan),
        ([0.25, None], 0.25),
        ([0.0, None], math.nan),
        ([0.0], 0.0),
        ([0.25, 0.5], 0.75),
    ],
)
def test_an_unknown_cost_is_never_shown_as_zero(home: Home, costs: list[float | None], shown: float) -> None:
    for cost in costs:
        home.ran(cost_usd=cost)
    assert home.metrics.daily()["cost_usd"].tolist() == pytest.approx([shown], nan_ok=True)


def test_daily_of_one_persona_leaves_the_others_out_and_follows_its_new_name(home: Home) -> None:
    for owner in home.owners:
        home.sent(home.ran(owner), events=1)
    home.personas.update("mail-boy", name="Postman")
    daily = home.metrics.daily("mail-boy")
    assert daily["persona"].tolist() == ["Postman"]
    assert daily["events_emitted"].tolist() == [1]
    assert len(home.metrics.daily()) == 2


# Executions


def test_executions_are_the_newest_first_with_their_values(home: Home) -> None:
    older = home.ran(created_at=now() - timedelta(hours=2), cost_usd=None, rehearsal=True)
    newer = home.ran(
        home.owners[1], created_at=now(), cost_usd=0.5, tool_calls=3, duration_ms=120, persona_version=2
    )
    frame = home.metrics.executions()
    assert frame["id"].tolist() == [newer.id, older.id]
    assert frame["persona"].tolist() == ["Mail boy", "Invoice watcher"]
    assert frame["rehearsal"].tolist() == [False, True]
    assert frame["created_at"].tolist() == [newer.created_at, older.created_at]
    first = frame.iloc[0]
    assert (first["cost_usd"], first["tool_calls"], first["duration_ms"]) == (0.5, 3, 120)
    assert (first["persona_version"], first["status"]) == (2, "completed")


def test_what_is_not_known_of_a_run_is_missing_and_not_zero(home: Home) -> None:
    home.ran(status="queued")
    (row,) = home.metrics.executions().to_dict("records")
    unknown = [
        "cost_usd",
        "duration_ms",
        "started_at",
        "completed_at",
        "error",
        "persona_version",
        "model_used",
    ]
    assert all(pd.isna(row[name]) for name in unknown)


def test_executions_are_limited_by_persona_days_and_number(home: Home) -> None:
    runs = [home.ran(created_at=now() - timedelta(days=days)) for days in (0, 1, 2, 40)]
    other = home.ran(home.owners[1])
    ids = [run.id for run in runs]
    assert home.metrics.executions("invoice-watcher")["id"].tolist() == ids
    assert home.metrics.executions("invoice-watcher", days=2)["id"].tolist() == ids[:2]
    assert home.metrics.executions(limit=1)["id"].tolist() == [other.id]


# Tools


def step(tool: str, **fields) -> ToolCallStep:
    return ToolCallStep(tool=tool, output="x" * 1000, **fields)


def test_tools_count_what_was_performed_described_and_went_wrong(home: Home) -> None:
    steps = (
        step("file_read", duration_ms=10),
        step("file_read", duration_ms=30, error="There is no such file."),
        step("file_read", duration_ms=99, performed=False, error="It is not assigned."),
        step("http_request", performed=False),
    )
    home.ran(steps=steps)
    home.ran(home.owners[1], steps=(step("file_read", duration_ms=50),), rehearsal=True)
    first, second = home.metrics.tools().to_dict("records")
    assert first == {
        "tool": "file_read",
        "calls": 4,
        "errors": 2,
        "performed": 3,
        "described": 0,
        "duration_ms_mean": 30.0,
    }
    assert (second["tool"], second["calls"], second["performed"], second["described"]) == (
        "http_request",
        1,
        0,
        1,
    )
    assert math.isnan(second["duration_ms_mean"])


def test_tools_are_limited_by_persona_and_days(home: Home) -> None:
    home.ran(steps=(step("file_read"),))
    home.ran(
        home.owners[1], steps=(step("file_read"), step("file_write")), created_at=now() - timedelta(days=3)
    )
    assert home.metrics.tools("mail-boy")["tool"].tolist() == ["file_read", "file_write"]
    assert home.metrics.tools(days=2)["calls"].tolist() == [1]
    assert home.metrics.tools(days=None)["calls"].tolist() == [2, 1]


# All of them


@pytest.mark.parametrize("has_rows", [False, True])
@pytest.mark.parametrize(
    ("name", "columns"),
    [("executions", EXECUTION_COLUMNS), ("daily", DAILY_COLUMNS), ("tools", TOOL_COLUMNS)],
)
def test_columns_and_dtypes_are_the_same_with_and_without_rows(
    home: Home, name: str, columns: dict[str, str], has_rows: bool
) -> None:
    if has_rows:
        home.ran(status="failed", steps=(step("file_read"),))
    frame = getattr(home.metrics, name)()
    assert len(frame) == has_rows
    assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == columns


def test_what_cannot_be_asked_for_is_refused_in_words(home: Home) -> None:
    with pytest.raises(NotFound, match="There is no persona “nobody”"):
        home.metrics.daily("nobody")
    with pytest.raises(InvalidInput, match="“days” must be a whole number of at least 1"):
        home.metrics.daily(days=0)
    with pytest.raises(InvalidInput, match="“days”"):
        home.metrics.tools(days=1.5)
    with pytest.raises(InvalidInput, match="“limit”"):
        home.metrics.executions(limit=True)
    with pytest.raises(
        InvalidInput, match=r"There is no time zone “Europe/Berln”\. Did you mean “Europe/Berlin”"
    ):
        home.metrics.daily(tz="Europe/Berln")
