"""Which queued run starts when: claims with tokens, slots, cancel requests, recovery."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Self

from personas_nb.engine.feed import Feeds
from personas_nb.engine.runner import Rooms, Runner
from personas_nb.errors import StoreError
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable
from personas_nb.worker import Worker, is_alive

LOOK_SECONDS = 0.5  # how soon a slot freed by another process, or its cancel request, is seen
RECOVER_SECONDS = 2.0


class Dispatcher:
    """Starts the runs that this worker queued, at most ``max_parallel_executions`` at once."""

    def __init__(self, worker: Worker, rooms: Rooms) -> None:
        self.worker, self.feeds = worker, Feeds()
        self.table = ExecutionTable(worker.store)
        self.runner = Runner(worker, rooms, self.feeds)
        self._slots = rooms.settings.max_parallel_executions
        self._claimed: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, asyncio.Task[None]] = {}  # of those, what can be cancelled
        self._cancelled: set[str] = set()
        self._ended: dict[str, Future[None]] = {}
        self._unsettled: dict[str, tuple[int, StoreError]] = {}  # runs whose end the store did not take
        self._is_wanted = self._is_pumping = False
        worker.every(LOOK_SECONDS, self._look)
        worker.every(RECOVER_SECONDS, self._recover)
        worker.at_stop(self._close)

    def using(self, rooms: Rooms) -> Self:
        """This dispatcher with the rooms (and settings) of the studio that was opened last."""
        self.runner.rooms, self._slots = rooms, rooms.settings.max_parallel_executions
        return self

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
        """End a run of this process now; the store was told before that it shall."""
        self.worker.spawn(self._cancel(execution_id))

    async def pump(self) -> None:
        """Claim and start queued runs while there are slots; one at a time, or there would be more than slots."""
        self._is_wanted = True
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self._is_wanted and (free := self._slots - len(self._claimed)) > 0:
                self._is_wanted = False
                claimed = await self._claim(free)
                for execution_id, token in claimed:
                    self._claimed[execution_id] = asyncio.create_task(self._run(execution_id, token))
                self._is_wanted |= len(claimed) == free
        finally:
            self._is_pumping = False

    async def _claim(self, limit: int) -> list[tuple[str, int]]:
        claimed: list[tuple[str, int]] = await self.worker.written(
            lambda db: self.table.claim(db, self.worker.id, limit)
        )
        return claimed

    async def _run(self, execution_id: str, token: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._begun[execution_id] = task
        trouble = None
        try:
            trouble = await self.worker.tracked(self.runner.run(execution_id, token))
        finally:
            del self._claimed[execution_id], self._begun[execution_id]
            self._cancelled.discard(execution_id)
            if trouble is not None:
                self._unsettled[execution_id] = token, trouble
            self._end(execution_id, trouble)
            if not self.worker.is_stopping:
                self.worker.spawn(self.pump())

    def _end(self, execution_id: str, trouble: StoreError | None = None) -> None:
        self.feeds.end(execution_id)
        ended = self._ended.pop(execution_id, None)
        if ended is None or ended.done():
            return
        if trouble is None:
            ended.set_result(None)
        else:
            ended.set_exception(trouble)

    async def _cancel(self, execution_id: str) -> None:
        task = self._begun.get(execution_id)
        if task is None:  # still queued, or just being claimed: the store knows
            await self._look()
        elif execution_id not in self._cancelled:  # once: a second one would hit the storing of its end
            self._cancelled.add(execution_id)
            task.cancel()

    async def _look(self) -> None:
        if not self._ended and not self._claimed and not self._unsettled:
            return
        for execution_id in await asyncio.to_thread(self.table.cancel_requests, self.worker.id):
            if execution_id in self._begun:
                await self._cancel(execution_id)
        for execution_id in await asyncio.to_thread(self.table.finished_among, list(self._ended)):
            if execution_id not in self._claimed:
                self._end(execution_id)
        for execution_id, (token, trouble) in list(self._unsettled.items()):
            if await self.runner.fail(execution_id, token, trouble) is None:
                self._unsettled.pop(execution_id, None)
        await self.pump()

    async def _close(self) -> None:
        """Nothing of this worker stays open: what it could not begin, or end in time, has failed."""
        await self.worker.written(lambda _db: self.table.fail_orphans(self.worker.id))
        for execution_id in list(self._ended):
            self._end(execution_id)

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
