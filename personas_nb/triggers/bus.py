"""The event bus of a process that fires: delivers, on the worker's loop, whatever was published on the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import datetime

from personas_nb.store.leases import StillHolds
from personas_nb.triggers.delivering import Delivering, Round, Started
from personas_nb.worker import Worker


class Bus:
    """Delivers events in short transactions, each of which asks whether this process still may.

    ``on_started`` is called when runs were queued, on the worker's loop.
    """

    def __init__(self, worker: Worker, delivering: Delivering, on_started: Callable[[], None]) -> None:
        self._worker, self._delivering, self._on_started = worker, delivering, on_started

    async def drain(self, still_holds: StillHolds) -> datetime | None:
        """Deliver all that is pending; when the next delivery is to be tried again, None where none is.

        Ends at once, with None, when ``still_holds`` is false. Raises ``StoreError`` when the store takes nothing;
        what was not delivered then waits.
        """
        while (work := await asyncio.to_thread(self._delivering.read)) is not None:
            started = await self._worker.written(_transaction(self._delivering, work, still_holds))
            if started is None:
                return None
            if started.runs:
                self._on_started()
        return await asyncio.to_thread(self._delivering.next_due)


def _transaction(
    delivering: Delivering, work: Round, still_holds: StillHolds
) -> Callable[[sqlite3.Connection], Started | None]:
    return lambda db: delivering.deliver(db, work) if still_holds(db) else None
