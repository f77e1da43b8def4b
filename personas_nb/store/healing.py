"""Healing: issues that are seen again, and what the history of a persona's runs says about a failure."""

from __future__ import annotations

import sqlite3
from collections import Counter

from personas_nb.entities.healing import HealingIssue
from personas_nb.store.database import Store
from personas_nb.store.table import Table

BREAKER = "Breaker"
RECENT_RUNS = 500  # far more than a persona may have under way at once; its whole history may be long
CHAIN_LIMIT = 20

# What was called off, refused by a budget or found its persona disabled never began, and says nothing about it.
_IN_A_ROW = """
with recent as (
  select status, error_kind, num_turns, completed_at from executions
  where persona_id = :persona and not coalesce(rehearsal, 0) and eval_run_id is null
  order by created_at desc limit :recent
)
select count(*) as failures, max(completed_at) as last_at from recent
where status = 'failed' and coalesce(error_kind, '') not in ('interrupted', 'cancelled', 'not_retried', 'disabled')
and not (coalesce(error_kind, '') = 'budget' and coalesce(num_turns, 0) = 0)
and completed_at > coalesce(
  (select max(completed_at) from recent where status in ('completed', 'incomplete')), '')
and completed_at > coalesce(
  (select max(coalesce(last_seen_at, created_at)) from healing_issues
   where persona_id = :persona and category = :breaker), '')
"""
_EARLIER = """
with recursive chain (id, retry_of, error_kind, error, depth) as (
  select id, retry_of, error_kind, error, 0 from executions where id = :run
  union all
  select e.id, e.retry_of, e.error_kind, e.error, c.depth + 1
  from executions e join chain c on e.id = c.retry_of where c.depth < :limit
)
select error_kind, error from chain where depth > 0 order by depth
"""
# A persona_action whose target is nobody has started nothing.
_TOLD = """
select 'message' as what from messages where execution_id = :run and origin = 'persona'
union select 'review' from reviews where execution_id = :run
union select case event_type when 'persona_action' then 'action' else 'event' end from events
  where execution_id = :run and source_type = 'persona'
  and not (event_type = 'persona_action' and status = 'dead' and target_persona_id is null)
order by what
"""
# The outputs of the calls stay in the file: there may be many megabytes of them.
_CALLS = """
select type, coalesce(json_extract(payload, '$.call_id'), json_extract(payload, '$.step.call_id')) as call_id,
json_extract(payload, '$.tool') as tool
from run_events where execution_id = ? and type in ('tool_started', 'tool_finished') order by seq
"""


class HealingTable(Table[HealingIssue]):
    """The rows of ``healing_issues``, and what is asked of the runs they come from."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "healing_issues", HealingIssue)

    def report(self, issue: HealingIssue) -> HealingIssue:
        """Write an issue; an open one of the same persona, category and title is seen once more instead."""
        with self.store.write():
            where = "persona_id = ? and category = ? and title = ? and status = 'open'"
            same = self.find(where, [issue.persona_id, issue.category, issue.title], limit=1)
            if not same:
                return self.insert(issue)
            seen = {
                "occurrences": same[0].occurrences + 1,
                "last_seen_at": issue.last_seen_at,
                "execution_id": issue.execution_id,
                "remedy": issue.remedy,
            }
            self.update(same[0].id, **seen)
            return same[0].changed(**seen)

    def failures_in_a_row(self, db: sqlite3.Connection, persona_id: str) -> tuple[int, str | None]:
        """How many runs failed since the last that did not, or since the breaker; and when the last of them did."""
        values = {"persona": persona_id, "breaker": BREAKER, "recent": RECENT_RUNS}
        row = db.execute(_IN_A_ROW, values).fetchone()
        return int(row["failures"]), row["last_at"]

    def earlier(self, execution_id: str) -> list[tuple[str | None, str]]:
        """Kind and text of the errors of the runs that a run is a retry of, the nearest first."""
        with self.store.read() as db:
            rows = db.execute(_EARLIER, {"run": execution_id, "limit": CHAIN_LIMIT}).fetchall()
        return [(row["error_kind"], row["error"] or "") for row in rows]

    def retry_of(self, execution_id: str) -> str | None:
        """The run that tries a run again, if there is one."""
        with self.store.read() as db:
            row = db.execute("select id from executions where retry_of = ?", [execution_id]).fetchone()
        return row["id"] if row else None

    def told(self, execution_id: str) -> list[str]:
        """What a run told or started: of ``action``, ``event``, ``message``, ``review``."""
        with self.store.read() as db:
            return [row["what"] for row in db.execute(_TOLD, {"run": execution_id})]

    def unfinished_calls(self, execution_id: str) -> list[str]:
        """The tools that a run began to call and that had not answered when it ended."""
        with self.store.read() as db:
            rows = db.execute(_CALLS, [execution_id]).fetchall()
        answered = Counter(row["call_id"] for row in rows if row["type"] == "tool_finished")
        tools: list[str] = []
        for row in rows:
            if row["type"] == "tool_started":
                if answered[row["call_id"]] <= 0:
                    tools.append(row["tool"])
                answered[row["call_id"]] -= 1
        return tools
