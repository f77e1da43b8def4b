"""What metrics are made of: runs, sums per day and persona, calls per tool, each as one statement.

- Tests of evals are no runs of their persona: what they did and cost is with the evals.
- A run belongs to the moment at which it was queued (``created_at``): it is never absent, and it is indexed.
- A day is a pair of moments that the caller computed, because SQLite knows no time zones.
- What a run sent is counted from its own rows, through their index on ``execution_id``.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from personas_nb.entities.base import rfc3339
from personas_nb.store.database import Store

# Text order is time order, and everything comes after the empty text.
_EARLIEST = ""


# One day at a time: the rows that are grouped then fit the cache, which halves the time.
# Messages and reviews have no index on time; one look-up a run costs less than counting the whole table.
_DAY = """
select e.persona_id, (select p.name from personas p where p.id = e.persona_id) as persona,
  count(*) as executions,
  count(*) filter (where e.status = 'completed') as completed,
  count(*) filter (where e.status = 'incomplete') as incomplete,
  count(*) filter (where e.status = 'failed') as failed,
  count(*) filter (where e.status = 'cancelled') as cancelled,
  sum(e.cost_usd) as cost_usd, count(*) - count(e.cost_usd) as unknown_costs,
  sum(ifnull(e.input_tokens, 0)) as input_tokens, sum(ifnull(e.output_tokens, 0)) as output_tokens,
  sum(ifnull(e.cache_read_tokens, 0)) as cache_read_tokens,
  sum(ifnull(e.cache_write_tokens, 0)) as cache_write_tokens,
  json_group_array(e.duration_ms) filter (where e.duration_ms is not null) as durations_ms,
  sum(ifnull(e.tool_calls, 0)) as tool_calls, count(e.event_id) as events_consumed,
  sum((select count(*) from messages m where m.execution_id = e.id and m.origin = 'persona')) as messages_sent,
  sum((select count(*) from reviews r where r.execution_id = e.id)) as reviews_asked
from executions e where e.created_at >= ? and e.created_at < ? and e.eval_run_id is null {of}
group by e.persona_id order by persona, e.persona_id
"""
# Every run has a system event too, so that events are found by their time: the few of personas among them.
# An event is written after its run was queued, so that the first day limits events as well.
_EMITTED = """
select e.created_at, e.persona_id from events v cross join executions e on e.id = v.execution_id
where v.source_type = 'persona' and v.created_at >= ? and e.created_at >= ? {of}
"""


class Day(NamedTuple):
    """A calendar day of some zone: ``begins`` belongs to it, ``ends`` does not."""

    day: date
    begins: datetime
    ends: datetime


class MetricRows:
    """The rows behind the DataFrames of metrics; ``persona_id`` None means all personas."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def executions(
        self, columns: Sequence[str], persona_id: str | None, since: datetime | None, limit: int | None
    ) -> list[sqlite3.Row]:
        """These columns of the runs queued at or after ``since``, newest first; ``persona`` is its present name."""
        names = ", ".join("p.name as persona" if name == "persona" else f"e.{name}" for name in columns)
        query = (
            f"select {names} from executions e join personas p on p.id = e.persona_id "
            f"where e.created_at >= ? and e.eval_run_id is null {_of(persona_id)} "
            "order by e.created_at desc, e.rowid desc limit ?"
        )
        return self._all(query, [_text(since), *_given(persona_id), -1 if limit is None else limit])

    def span(self, persona_id: str | None, since: datetime | None) -> tuple[str, str] | None:
        """When the first and the last run since then were queued; None without any."""
        # Two look-ups at the ends of an index; min and max in one query would read all of it.
        ends = [
            f"(select e.created_at from executions e where e.created_at >= ? and e.eval_run_id is null "
            f"{_of(persona_id)} "
            f"order by e.created_at {order} limit 1)"
            for order in ("asc", "desc")
        ]
        (row,) = self._all(f"select {', '.join(ends)}", [_text(since), *_given(persona_id)] * 2)
        return (row[0], row[1]) if row[0] is not None else None

    def daily(self, days: Sequence[Day], persona_id: str | None) -> list[dict[str, Any]]:
        """Sums per day and persona that had a run, by day, then name; ``durations_ms`` is a JSON list."""
        if not days:
            return []
        emitted = self._emitted(days, persona_id)
        query, rows = _DAY.format(of=_of(persona_id)), []
        with self._store.read() as db:
            for day in days:
                limits = [rfc3339(day.begins), rfc3339(day.ends), *_given(persona_id)]
                for row in db.execute(query, limits):
                    events = emitted[day.day, row["persona_id"]]
                    rows.append({**dict(row), "day": day.day, "events_emitted": events})
        return rows

    def _emitted(self, days: Sequence[Day], persona_id: str | None) -> Counter[tuple[date, str]]:
        """How many events the runs of each day and persona emitted."""
        begins = [rfc3339(day.begins) for day in days]
        rows = self._all(_EMITTED.format(of=_of(persona_id)), [*begins[:1] * 2, *_given(persona_id)])
        return Counter((days[bisect(begins, queued) - 1].day, owner) for queued, owner in rows)

    def tools(self, persona_id: str | None, since: datetime | None) -> list[sqlite3.Row]:
        """Calls per tool in the runs queued at or after ``since``, the most called first."""
        query = (
            "with steps(tool, error, performed, duration_ms) as ("
            " select json_extract(s.value, '$.tool'), json_extract(s.value, '$.error'),"
            " coalesce(json_extract(s.value, '$.performed'), 1), json_extract(s.value, '$.duration_ms')"
            " from executions e cross join execution_texts t on t.execution_id = e.id and t.kind = 'steps'"
            " cross join json_each(t.content) s"
            f" where e.created_at >= ? and e.eval_run_id is null {_of(persona_id)}) "
            "select tool, count(*) as calls, count(error) as errors, sum(performed) as performed, "
            "count(*) filter (where not performed and error is null) as described, "
            "avg(duration_ms) filter (where performed) as duration_ms_mean "
            "from steps group by tool order by calls desc, tool"
        )
        return self._all(query, [_text(since), *_given(persona_id)])

    def _all(self, query: str, values: Sequence[str | int]) -> list[sqlite3.Row]:
        with self._store.read() as db:
            return db.execute(query, values).fetchall()


def _of(persona_id: str | None) -> str:
    return "" if persona_id is None else "and e.persona_id = ?"


def _given(persona_id: str | None) -> list[str]:
    return [] if persona_id is None else [persona_id]


def _text(since: datetime | None) -> str:
    return _EARLIEST if since is None else rfc3339(since)
