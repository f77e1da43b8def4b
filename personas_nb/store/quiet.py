"""Whether anything in a store is under way or waits for a time; where nothing does, nobody has to look."""

from __future__ import annotations

import sqlite3

# Each has a partial index, which SQLite uses where its words are repeated.
_OPEN = (
    "executions where status in ('queued', 'running', 'waiting')",
    "executions where status = 'failed' and told = 0 and (trigger_id is not null or event_id is not null)",
    "reviews where status = 'pending' and expires_at is not null",
    "fires where status = 'checking'",
    "events where status = 'pending'",
    "event_deliveries where status = 'pending'",
    "message_deliveries where status in ('pending', 'sending')",
)
_QUIET = "select " + " and ".join(f"not exists (select 1 from {what})" for what in _OPEN)


def is_quiet(db: sqlite3.Connection) -> bool:
    """Whether no run, decision, event or delivery is open; triggers and polls have a plan of their own."""
    return bool(db.execute(_QUIET).fetchone()[0])
