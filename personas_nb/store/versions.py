"""What the runs of each version of a persona's prompt came to."""

from __future__ import annotations

import sqlite3

from personas_nb.store.database import Store

# A run that failed before it began has no version; a test of an eval is no run of its persona.
_RESULTS = """
select persona_version, rehearsal, count(*) as runs,
  count(*) filter (where status = 'completed') as completed,
  count(*) filter (where status = 'incomplete') as incomplete,
  count(*) filter (where status = 'failed') as failed,
  count(*) filter (where status = 'cancelled') as cancelled,
  avg(cost_usd) as cost_usd_mean, count(*) - count(cost_usd) as unknown_costs,
  json_group_array(duration_ms) filter (where duration_ms is not null) as durations_ms,
  max(created_at) as last_at
from executions
where persona_id = ? and persona_version is not null and eval_run_id is null
  and status in ('completed', 'incomplete', 'failed', 'cancelled')
group by persona_version, rehearsal order by persona_version desc, rehearsal
"""


class VersionRows:
    """Reads what is stored of the runs of versions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def results(self, persona_id: str) -> list[sqlite3.Row]:
        """A row for each version that has ended runs, rehearsals apart, the newest version first."""
        with self._store.read() as db:
            return db.execute(_RESULTS, [persona_id]).fetchall()
