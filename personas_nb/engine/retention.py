"""Old executions go: their rows, and then their logs; and old fires and events.

- Rows first, logs after the commit: what a crash leaves in between are logs without an execution, which the next
  time removes once they are a day old. A log of an execution that there is, is never touched.
- Transactions are short and have pauses, because runs of all processes write to the same file.
- Several processes may do it at once: a row is deleted, and counted, by one of them.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.event import Event
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.retention import RetentionTable

BATCH = 200
LOOKUP = 1000
PAUSE_SECONDS = 0.02
ORPHAN_AGE = timedelta(days=1)
UNCHANGED_AGE = timedelta(days=1)  # a poller looks often, and mostly sees nothing new
WEBHOOK_AGE = timedelta(days=8)  # a delivery that is repeated within seven days is known by its fire
EVENT_TYPE = "retention"
# Years of four digits, or text order would not be time order.
_EPOCH, _LONGEST_DAYS = datetime(1970, 1, 1, tzinfo=UTC), 365_000
_LOG_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.[0-9]+)?\.jsonl")

log = logging.getLogger("personas_nb.engine")


@dataclass(frozen=True)
class Removed:
    """How much was removed: executions, what was recorded of them and sent by them, log files and their bytes.

    ``events`` has also the other events that were old, ``fires`` what became of due times.
    The database keeps the pages of its deleted rows and writes into them again; its file does not shrink.
    """

    executions: int = 0
    events: int = 0
    log_files: int = 0
    bytes_freed: int = 0
    fires: int = 0

    def __bool__(self) -> bool:
        return bool(self.executions or self.log_files)


class Retention:
    """Deletes what is older than the settings keep: ``retention_days``, ``retention_min_executions``.

    A run with a pending review or an open retry stays, and so do messages, memories, decided reviews and what was
    spent of the budgets. Fires and events go with their runs; those that led to none after ``retention_days``, those
    of a poller that saw nothing new after a day.
    """

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], datetime] = now) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._table = RetentionTable(store)
        self._events = store.table("events", Event)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Removed:
        """Remove what is old; blocks. Where there was something, an event ``retention`` tells how much.

        ``should_stop`` is asked between transactions; what is left then, the next time removes.
        """
        cutoff = self._cutoff()
        ids, events = self._remove_rows(cutoff, should_stop)
        log_files, bytes_freed = (0, 0) if should_stop() else self._remove_logs(set(ids))
        events += self._in_steps(lambda: self._table.remove_events(cutoff, EVENT_TYPE, BATCH), should_stop)
        fires = self._remove_fires(cutoff, should_stop)
        removed = Removed(len(ids), events, log_files, bytes_freed, fires)
        if removed:
            self._tell(removed, cutoff)
        return removed

    def last(self) -> Event | None:
        """The event of the last time that something was removed; its ``data`` has the counts of ``Removed``."""
        found = self._events.find(
            "event_type = ? and source_type = 'system'",
            [EVENT_TYPE],
            order_by="created_at desc, rowid desc",
            limit=1,
        )
        return found[0] if found else None

    def _cutoff(self) -> str:
        days = timedelta(days=min(self._settings.retention_days, _LONGEST_DAYS))
        return rfc3339(max(self._clock() - days, _EPOCH))

    def _remove_rows(self, cutoff: str, should_stop: Callable[[], bool]) -> tuple[list[str], int]:
        removed: list[str] = []
        events = 0
        candidates = self._table.removable(cutoff, self._settings.retention_min_executions)
        for batch in _batches(candidates, BATCH):
            while batch:
                if should_stop():
                    return removed, events
                done = self._table.remove(batch, cutoff)
                removed += done.execution_ids
                events += done.events
                batch = batch[done.seen :]
                time.sleep(PAUSE_SECONDS)
        return removed, events

    def _remove_fires(self, cutoff: str, should_stop: Callable[[], bool]) -> int:
        day_ago, webhooks = (rfc3339(self._clock() - age) for age in (UNCHANGED_AGE, WEBHOOK_AGE))
        unchanged = self._in_steps(lambda: self._table.remove_unchanged(day_ago, BATCH), should_stop)
        old = lambda: self._table.remove_fires(cutoff, webhooks, BATCH)  # noqa: E731 - said in one line
        return unchanged + self._in_steps(old, should_stop)

    def _in_steps(self, remove: Callable[[], int], should_stop: Callable[[], bool]) -> int:
        """Call it until there is no more to remove; the sum of what it said."""
        total, last = 0, BATCH
        while last == BATCH and not should_stop():
            last = remove()
            total += last
            if last == BATCH:
                time.sleep(PAUSE_SECONDS)
        return total

    def _remove_logs(self, just_removed: set[str]) -> tuple[int, int]:
        """Remove the logs of those, and logs older than a day whose execution is gone; how many files and bytes."""
        count = size_bytes = 0
        logs = self._old_logs(just_removed)
        for ids in _batches(logs, LOOKUP):
            for execution_id in self._table.missing(ids):
                for path in logs[execution_id]:
                    with suppress(FileNotFoundError):  # another process was faster
                        path_bytes = path.lstat().st_size
                        path.unlink()
                        count, size_bytes = count + 1, size_bytes + path_bytes
        return count, size_bytes

    def _old_logs(self, just_removed: set[str]) -> dict[str, list[Path]]:
        oldest = (self._clock() - ORPHAN_AGE).timestamp()
        found: dict[str, list[Path]] = defaultdict(list)
        with suppress(FileNotFoundError), os.scandir(self._store.home / "logs") as entries:
            for entry in entries:
                name = _LOG_NAME.fullmatch(entry.name)
                with suppress(FileNotFoundError):
                    if name and (
                        name[1] in just_removed or entry.stat(follow_symlinks=False).st_mtime < oldest
                    ):
                        found[name[1]].append(Path(entry.path))
        return found

    def _tell(self, removed: Removed, cutoff: str) -> None:
        told = Event(event_type=EVENT_TYPE, source_type="system", data=asdict(removed))
        with self._store.write():
            self._events.insert(told.changed(created_at=self._clock()))
            self._table.forget_tales(EVENT_TYPE, cutoff)
        log.info(
            "retention removed %d executions, %d events, %d fires, %d log files (%d bytes)",
            removed.executions,
            removed.events,
            removed.fires,
            removed.log_files,
            removed.bytes_freed,
        )


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
