"""Which queued run starts when: claims with tokens, slots, cancel requests, recovery."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Self

from personas_nb.engine.approvals import expire_overdue
from personas_nb.engine.feed import Feeds
from personas_nb.engine.preparation import Rooms
from personas_nb.engine.retention import Retention
from personas_nb.engine.runner import Runner
from personas_nb.entities.base import now
from personas_nb.entities.execution import Execution
from personas_nb.errors import StoreError
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable
from personas_nb.worker import Worker, is_alive, is_stalled

RECOVER_SECONDS = 2.0
RECOVER_AT_LEAST_SECONDS = 30.0
HANG_UP_SECONDS = 1.0
TIDY_FIRST_SECONDS = 10.0
TIDY_SECONDS = 3600.0

log = logging.getLogger("personas_nb.engine")


class Dispatcher:
    """Starts the runs that this worker queued, at most ``max_parallel_executions`` at once."""

    def __init__(self, worker: Worker, rooms: Rooms) -> None:
        self.worker, self.feeds = worker, Feeds()
        self.table = ExecutionTable(worker.store)
        self.runner = Runner(worker, rooms, self.feeds, self._expect)
        self._slots = rooms.settings.max_parallel_executions
        self._claimed: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, asyncio.Task[None]] = {}  # of those, what can be cancelled
        self._cancelled: set[str] = set()
        self._ended: dict[str, Future[None]] = {}
        self._unsettled: dict[str, tuple[int, StoreError]] = {}  # runs whose end the store did not take
        self._paused: set[str] = set()  # runs of this worker that wait for a decision
        self._is_wanted = self._is_pumping = False
        self._is_look_wanted = self._is_looking = False
        self._recovered_at = 0.0
        self._recovered: tuple[int, int] | None = None  # the store as it was when nothing was left to watch
        self.serves = False
        self._recovery: asyncio.TimerHandle | None = None
        worker.when_changed(self._look_soon)  # a slot freed by another process, or its cancel request
        worker.when_changed(self._recover_soon)
        worker.changed()
        worker.spawn(self._keep_tidy())
        worker.at_stop(self._close)
        worker.when_given_up(self._end_lost)

    def using(self, rooms: Rooms) -> Self:
        """This dispatcher with the rooms (and settings) of the studio that was opened last."""
        self.runner.rooms, self._slots = rooms, rooms.settings.max_parallel_executions
        return self

    def serve(self, serves: bool = True) -> None:
        """Take, or take no longer, also the runs that triggers and events started; what runs goes on."""
        self.serves = serves
        if serves:
            self.nudge()

    def nudge(self) -> None:
        """Say that there may be a run to take."""
        if not self.worker.is_stopping:
            self.worker.spawn(self.pump())

    def started(self, execution_id: str) -> Future[None]:
        """Say that a run was queued; the future is done when the run has ended."""
        ended: Future[None] = Future()
        self._ended[execution_id] = ended
        self.worker.spawn(self.pump())
        return ended

    def ended(self, execution_id: str) -> Future[None] | None:
        """The future of a run of this process, or None."""
        return self._ended.get(execution_id)

    def goes_on(self, execution_id: str) -> None:
        """Say that a run was decided on and queued for this worker."""
        self._ended.setdefault(execution_id, Future())
        self.worker.spawn(self.pump())

    def cancel(self, execution_id: str) -> None:
        """End a run of this process now; the store was told before that it shall."""
        self.worker.spawn(self._cancel(execution_id))

    def _expect(self, retry: Execution) -> None:
        """A failed run will be tried again here, when its time has come."""
        self._ended[retry.id] = Future()
        wait_seconds = (retry.scheduled_at - now()).total_seconds() if retry.scheduled_at else 0.0

        def begin() -> None:
            if not self.worker.is_stopping:
                self.worker.spawn(self.pump())

        asyncio.get_running_loop().call_later(max(0.0, wait_seconds), begin)

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
                    self._paused.discard(execution_id)
                    self._ended.setdefault(execution_id, Future())
                    self._claimed[execution_id] = asyncio.create_task(self._run(execution_id, token))
                self._is_wanted |= len(claimed) == free
        finally:
            self._is_pumping = False

    async def _claim(self, limit: int) -> list[tuple[str, int]]:
        claimed: list[tuple[str, int]] = await self.worker.written(
            lambda db: self.table.claim(db, self.worker.id, limit, serves=self.serves)
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
            # A decision may have let it go on already, in another task.
            is_last = self._claimed[execution_id] is task
            if is_last:
                del self._claimed[execution_id], self._begun[execution_id]
                self._cancelled.discard(execution_id)
            if trouble is not None:
                self._unsettled[execution_id] = token, trouble
            if is_last:
                self._note_pause(execution_id)
                self._end(execution_id, trouble)
            if not self.worker.is_stopping:
                self.worker.spawn(self.pump())

    def _note_pause(self, execution_id: str) -> None:
        """A run that waits is looked after: a decision may come from anywhere, and a cancel may have come too late."""
        if execution_id not in self.runner.paused:
            return
        self.runner.paused.discard(execution_id)
        self._paused.add(execution_id)
        if not self.worker.is_stopping:
            self.worker.spawn(self._cancel_late(execution_id))

    async def _cancel_late(self, execution_id: str) -> None:
        found = await asyncio.to_thread(self.table.get, execution_id)
        if found is not None and found.status == "waiting" and found.cancel_requested:
            await asyncio.to_thread(self.table.ask_cancel, execution_id)

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
        elif execution_id in self.runner.closing:
            return
        elif execution_id not in self._cancelled:  # once: a second one would hit the storing of its end
            self._cancelled.add(execution_id)
            task.cancel()

    def _look_soon(self) -> None:
        if not self.worker.is_stopping:
            self._is_look_wanted = True
            if not self._is_looking:
                self.worker.task(self._look_again())

    async def _look_again(self) -> None:
        if self._is_looking:
            return
        self._is_looking = True
        try:
            while self._is_look_wanted:
                self._is_look_wanted = False
                await self._look()
        except (
            StoreError
        ):  # full or locked: whoever writes next says so, and the next change brings another look
            log.warning("what others changed could not be seen", exc_info=True)
        finally:
            self._is_looking = False

    async def _look(self) -> None:
        if not (self._ended or self._claimed or self._unsettled or self._paused or self.serves):
            return
        waited_for = [*self._ended, *self._paused]
        asked, finished, is_claimable = await asyncio.to_thread(self._changed_by_others, waited_for)
        for execution_id in asked:
            if execution_id in self._begun:
                await self._cancel(execution_id)
        for execution_id in finished:
            self._paused.discard(execution_id)
            if execution_id not in self._claimed:
                self._end(execution_id)
        for execution_id, (token, trouble) in list(self._unsettled.items()):
            if await self.runner.fail(execution_id, token, trouble) is None:
                self._unsettled.pop(execution_id, None)
        if is_claimable:
            await self.pump()

    def _has_claimable(self) -> bool:
        return self.table.has_claimable(self.worker.id, serves=self.serves)

    def _changed_by_others(self, waited_for: list[str]) -> tuple[list[str], list[str], bool]:
        """The runs of this worker that somebody asked to end, those that have ended, whether there is one to take."""
        return (
            self.table.cancel_requests(self.worker.id),
            self.table.finished_among(waited_for) if waited_for else [],
            self._has_claimable(),
        )

    async def _close(self) -> None:
        """Nothing of this worker stays open: what it could not begin, or end in time, has failed."""
        await self.worker.written(lambda _db: self.table.fail_orphans(self.worker.id))
        for execution_id in list(self._ended):
            self._end(execution_id)

    async def _end_lost(self) -> None:
        """Others ended runs of this worker while its process stood still: those do nothing more here either."""
        lost = await asyncio.to_thread(self.table.finished_among, list(self._begun))
        if tasks := [self._begun[execution_id] for execution_id in lost if execution_id in self._begun]:
            # What its model talks to ends by itself, at its next write; a cancel would disturb its hanging up.
            await asyncio.wait(tasks, timeout=HANG_UP_SECONDS)
        for execution_id in lost:
            if execution_id in self._begun:
                await self._cancel(execution_id)

    async def _keep_tidy(self) -> None:
        """Remove what is older than the settings keep, soon after the start and then by the hour."""
        await asyncio.sleep(TIDY_FIRST_SECONDS)
        while True:
            retention = Retention(self.worker.store, self.runner.rooms.settings)
            try:
                await asyncio.to_thread(retention.run, lambda: self.worker.is_stopping)
            except StoreError:  # full, locked or read-only: whoever writes next says so
                log.warning("old executions could not be removed", exc_info=True)
            await asyncio.sleep(TIDY_SECONDS)

    def _recover_soon(self) -> None:
        if self._recovery is None and not self.worker.is_stopping:
            self._recovery = asyncio.get_running_loop().call_later(RECOVER_SECONDS, self._recover_now)

    def _recover_now(self) -> None:
        self._recovery = None
        if not self.worker.is_stopping:
            self.worker.task(self._recover())

    async def _recover(self) -> None:
        """End what others left behind, and go on doing so while others have open runs."""
        is_watching = True
        try:
            if self._unsettled:
                await self._look()
            version, elapsed = await self.worker.version(), time.monotonic()
            # Where nobody writes nothing is lost; but a decision may come to its time.
            if version == self._recovered and elapsed - self._recovered_at < RECOVER_AT_LEAST_SECONDS:
                is_watching = False
                return
            self._recovered_at = elapsed
            is_watching, is_claimable = await asyncio.to_thread(self._recover_others)
            if is_claimable:  # also what a decision lets go on whose own worker is gone
                await self.pump()
            self._recovered = None if is_watching else version
        except StoreError:  # full or locked: whoever writes next says so
            log.warning("what others left behind could not be ended", exc_info=True)
        finally:
            if is_watching or self._unsettled:
                self._recover_soon()

    def _recover_others(self) -> tuple[bool, bool]:
        """Whether others have open runs (that their process ends is no change), and whether there is one to take."""
        recover(self.worker.store)
        others = [id_ for id_, _lock in self.table.workers_with_open_runs() if id_ != self.worker.id]
        return bool(others), self._has_claimable()


def recover(store: Store) -> list[str]:
    """Fail the runs of workers that died or stand still, keeping what they had; the ids of those runs."""
    table = ExecutionTable(store)
    lost: list[str] = []
    for worker_id, lock_path in table.workers_with_open_runs():
        if not is_alive(Path(lock_path)) or is_stalled(store, worker_id):
            with suppress(StoreError):  # a read-only or full store is reported by whoever writes next
                lost += table.fail_orphans(worker_id)
    with suppress(StoreError):
        expire_overdue(store)
    return lost
