"""The offline schedule grammar: what in a sentence says when a persona should run. No model, no clock, no store.

- ``signals`` finds webhooks and events; ``scanning`` reads *pieces* (a period, days, dates, times, a time zone …),
  each kind in a room of its own.
- ``phrases`` puts neighbouring pieces together; ``plans`` makes each phrase a cron expression or an interval.
- ``spelling`` puts misspelt words of time right, before; ``unread`` finds what still looks like a time, after.
- It prefers silence: words that could mean anything else are not read as a schedule.
"""

from personas_nb.design.schedules.grammar import find_schedules
from personas_nb.design.schedules.schedule import Schedule
from personas_nb.design.schedules.spelling import respelled
from personas_nb.design.schedules.unread import unread_time

__all__ = ["Schedule", "find_schedules", "respelled", "unread_time"]
