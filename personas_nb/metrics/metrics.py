"""What runs did and cost, as DataFrames whose columns and dtypes are the same with and without rows."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from math import nan
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from personas_nb.entities.base import now
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput
from personas_nb.personas.personas import Personas
from personas_nb.store.database import Store
from personas_nb.store.metrics import Day, MetricRows

if TYPE_CHECKING:
    from pandas import DataFrame

_MOMENT, _DAY, _TEXT, _COUNT, _AMOUNT = "datetime64[us, UTC]", "datetime64[us]", "string", "int64", "float64"

EXECUTION_COLUMNS = {
    **dict.fromkeys(("id", "persona", "persona_id", "status"), _TEXT),
    "rehearsal": "bool",
    **dict.fromkeys(("provider", "engine", "model_used"), _TEXT),
    "persona_version": "Int64",
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"), _COUNT),
    "cost_usd": _AMOUNT,
    "num_turns": _COUNT,
    "duration_ms": _AMOUNT,
    "tool_calls": _COUNT,
    **dict.fromkeys(("error_kind", "error", "retry_of", "trigger_id", "event_id"), _TEXT),
    **dict.fromkeys(("created_at", "started_at", "completed_at"), _MOMENT),
}
DAILY_COLUMNS = {
    "day": _DAY,
    "persona": _TEXT,
    **dict.fromkeys(("executions", "completed", "incomplete", "failed", "cancelled"), _COUNT),
    "cost_usd": _AMOUNT,
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"), _COUNT),
    **dict.fromkeys(("duration_ms_mean", "duration_ms_p50", "duration_ms_p95"), _AMOUNT),
    **dict.fromkeys(
        ("tool_calls", "events_emitted", "events_consumed", "messages_sent", "reviews_asked"), _COUNT
    ),
}
TOOL_COLUMNS = {
    "tool": _TEXT,
    **dict.fromkeys(("calls", "errors", "performed", "described"), _COUNT),
    "duration_ms_mean": _AMOUNT,
}


class Metrics:
    """Runs, days and tools in figures; reading only, each call one look at the store.

    ``persona`` is a Persona, slug, name or id; None means all. ``days`` counts back from now; None means
    everything that is stored. Raises ``NotFound`` for an unknown persona, ``InvalidInput`` for the rest.

        daily = studio.metrics.daily(days=7, tz="Europe/Berlin")
        daily.groupby("persona")["cost_usd"].sum()
    """

    def __init__(self, store: Store, personas: Personas) -> None:
        self._personas = personas
        self._rows = MetricRows(store)

    def executions(
        self, persona: Persona | str | None = None, days: int | None = None, limit: int | None = None
    ) -> DataFrame:
        """One row a run, the newest first: those queued in the last ``days`` × 24 hours, at most ``limit``.

        Columns and dtypes are ``EXECUTION_COLUMNS``: ``persona`` is its present name, ``rehearsal`` a bool, the
        three times aware and in UTC (NaT where it has not come to that). ``cost_usd`` is NaN where unknown,
        ``duration_ms`` before the end; tokens of a rehearsal are estimates.
        """
        _check_positive("limit", limit)
        rows = self._rows.executions(
            tuple(EXECUTION_COLUMNS), self._id_of(persona), _hours_back(days, now()), limit
        )
        return _frame(EXECUTION_COLUMNS, rows)

    def daily(
        self, persona: Persona | str | None = None, days: int | None = 30, tz: str | None = None
    ) -> DataFrame:
        """One row for each day and persona with a run, by day, then persona; days without runs are absent.

        A run counts for the day on which it was queued, on the clocks of ``tz`` (an IANA name; default UTC), with
        all that it did, also after midnight; ``days`` are calendar days, today included. ``day`` is that date
        at 0:00, without a zone; ``persona`` its present name.

        ``executions`` has runs of every state, rehearsals and open ones too. ``cost_usd`` sums the known costs: a
        lower bound where some are unknown, NaN where none is known or the known ones are all 0 and another is
        unknown. Durations are those of ended runs, NaN without any; quantiles are interpolated linearly.
        ``events_consumed`` are runs that an event started; events, messages and reviews are what the runs wrote.
        """
        zone = _zone(tz or "UTC")
        _check_positive("days", days)
        persona_id, first = self._id_of(persona), _first_day(days, zone)
        span = self._rows.span(persona_id, first)
        rows = self._rows.daily(list(_days(*span, zone)), persona_id) if span else []
        return _frame(DAILY_COLUMNS, [_summed(row) for row in rows])

    def tools(self, persona: Persona | str | None = None, days: int | None = 30) -> DataFrame:
        """One row a tool that was called, the most called first, in runs queued in the last ``days`` × 24 hours.

        ``calls`` are all calls in ended runs; ``errors`` those that failed or were refused, ``performed`` those
        that took place (failed or not), ``described`` those that a rehearsal only told. ``duration_ms_mean`` is
        over the performed ones, NaN without any.
        """
        return _frame(TOOL_COLUMNS, self._rows.tools(self._id_of(persona), _hours_back(days, now())))

    def _id_of(self, persona: Persona | str | None) -> str | None:
        return None if persona is None else self._personas.get(persona).id


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the ordered values lie, interpolated linearly; NaN without values.

    >>> quantile([10, 20, 30, 40], 0.5)
    25.0
    """
    if not ordered:
        return nan
    whole, part = divmod((len(ordered) - 1) * share, 1)
    lower, upper = ordered[int(whole)], ordered[min(int(whole) + 1, len(ordered) - 1)]
    return float(lower + (upper - lower) * part)


def _summed(row: dict[str, Any]) -> dict[str, Any]:
    """A day's row with what SQL left open: the durations' figures, and whether the cost is known."""
    durations = sorted(json.loads(row["durations_ms"]))
    row["duration_ms_mean"] = sum(durations) / len(durations) if durations else nan
    row["duration_ms_p50"], row["duration_ms_p95"] = quantile(durations, 0.5), quantile(durations, 0.95)
    if row["unknown_costs"] and not row["cost_usd"]:
        row["cost_usd"] = nan  # a rehearsal's 0 beside an unknown cost would read as “free”
    return row


def _frame(columns: Mapping[str, str], rows: Sequence[Any]) -> DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=dtype) for name, dtype in columns.items()}
    )


def _check_positive(name: str, value: object) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return
    raise InvalidInput(
        f"“{name}” must be a whole number of at least 1.", hint=f"Leave {name}=None for everything."
    )


def _hours_back(days: int | None, moment: datetime) -> datetime | None:
    _check_positive("days", days)
    try:
        return None if days is None else moment - timedelta(days=days)
    except OverflowError:  # longer ago than the calendar goes
        return None


def _first_day(days: int | None, zone: ZoneInfo) -> datetime | None:
    """When the first of so many days, today being the last, began on the clocks of the zone."""
    if days is None:
        return None
    try:
        day = now().astimezone(zone).date() - timedelta(days=days - 1)
        return datetime.combine(day, time(), zone).astimezone(UTC)
    except OverflowError:
        return None


def _days(first: str, last: str, zone: ZoneInfo) -> Iterator[Day]:
    """The zone's calendar days from the one of the first moment to the one of the last."""
    day, end = (datetime.fromisoformat(moment).astimezone(zone).date() for moment in (first, last))
    while day <= end:
        following = day + timedelta(days=1)
        # A midnight that the clocks skip or repeat is the moment of the change, or the first of the two.
        begins, ends = (datetime.combine(date, time(), zone).astimezone(UTC) for date in (day, following))
        yield Day(day, begins, ends)
        day = following


def _zone(tz: str) -> ZoneInfo:
    try:
        return ZoneInfo(tz)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones ("Europe"), a path
        known = {name.lower(): name for name in available_timezones()}
        near = difflib.get_close_matches(tz.lower(), known, n=1, cutoff=0.6)
        hint = f"Did you mean “{known[near[0]]}”?" if near else "Give an IANA name such as Europe/Berlin."
        raise InvalidInput(f"There is no time zone “{tz}”.", hint=hint) from None
