"""Which queued run starts when: claims with tokens, slots, cancel requests, recovery."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from personas_nb.engine.feed import Feeds
from personas_nb.engine.runner import Rooms, Runner
from personas_nb.errors import StoreError
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable
from personas_nb.worker import Worker, is_alive

LOOK_SECONDS = 0.5  # how soon a slot freed by another process, or its cancel request, is seen
RECOVER_SECONDS = 10.0


class Dispatcher:
    """Starts the runs that this worker queued, at most ``max_parallel_executions`` at once."""

    def __init__(self, worker: Worker, rooms: Rooms) -> None:
        self.worker, self.feeds = worker, Feeds()
        self.table = ExecutionTable(worker.store)
        self.runner = Runner(worker, rooms, self.feeds)
        self._slots = rooms.settings.max_parallel_executions
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ended: dict[str, Future[None]] = {}
        worker.every(LOOK_SECONDS, self._look)
        worker.every(RECOVER_SECONDS, self._recover)

    def started(self, execution_id: str) -> Future[None]:
        """Say that a run was queued; the future is done when the run has ended."""
        ended: Future[None] = Future()
        self._ended[execution_id] = ended
        self.worker.spawn(self.pump())
        return ended

    def ended(self, execution_id: str) -> Future[None] | None:
        """The future of a run of this process, or None."""
        return self._ended.get(execution_id)

    def cancel(self, execution_id: str) -> None:
        """End a run of this process now."""
        self.worker.loop.call_soon_threadsafe(self._cancel, execution_id)

    async def pump(self) -> None:
        """Claim and start queued runs while there are slots."""
        while len(self._running) < self._slots:
            claimed = await self.worker.written(lambda db: self.table.claim_next(db, self.worker.id))
            if claimed is None:
                return
            execution_id, token = claimed
            task = asyncio.create_task(self._run(execution_id, token))
            self._running[execution_id] = task

    async def _run(self, execution_id: str, token: int) -> None:
        try:
            await self.worker.tracked(self.runner.run(execution_id, token))
        finally:
            self._running.pop(execution_id, None)
            self._end(execution_id)
            if not self.worker.is_stopping:
                self.worker.spawn(self.pump())

    def _end(self, execution_id: str) -> None:
        self.feeds.end(execution_id)
        ended = self._ended.pop(execution_id, None)
        if ended is not None and not ended.done():
            ended.set_result(None)

    def _cancel(self, execution_id: str) -> None:
        if task := self._running.get(execution_id):
            task.cancel()
        else:
            self._end(execution_id)  # it was still queued

    async def _look(self) -> None:
        if not self._ended and not self._running:
            return
        for execution_id in await asyncio.to_thread(self.table.cancel_requests, self.worker.id):
            self._cancel(execution_id)
        for execution_id in await asyncio.to_thread(self.table.finished_among, list(self._ended)):
            if execution_id not in self._running:
                self._end(execution_id)
        await self.pump()

    async def _recover(self) -> None:
        await asyncio.to_thread(recover, self.worker.store)


def recover(store: Store) -> list[str]:
    """Fail the runs of workers that died, keeping what they had; the ids of those runs."""
    table = ExecutionTable(store)
    lost: list[str] = []
    for worker_id, lock_path in table.workers_with_open_runs():
        if not is_alive(Path(lock_path)):
            with suppress(StoreError):  # a read-only or full store is reported by whoever writes next
                lost += table.fail_orphans(worker_id)
    return lost
