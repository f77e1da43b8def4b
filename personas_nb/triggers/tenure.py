"""Whether this process is the one that fires triggers; it knows without asking the store again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from personas_nb.store import leases
from personas_nb.store.leases import StillHolds
from personas_nb.worker import Worker, is_alive

LEASE = "triggers"
VERIFY_SECONDS = 1.0  # how often it is looked whether the lease is still held, while much is written


class Tenure:
    """The lease of the loop, as this process knows it; ``changed`` says that somebody has written to the store.

    Without a change there is nothing to ask: nobody takes a lease without one, and that a holder is gone shows at its
    lock.
    """

    def __init__(self, worker: Worker, clock: Callable[[], datetime], is_fit: Callable[[], bool]) -> None:
        """``is_fit`` tells whether the holder does what it holds the lease for; else another shall take it."""
        self.worker, self._clock, self._is_fit = worker, clock, is_fit
        worker.at_beat(self._renew)
        self.epoch: int | None = None
        """Under which it is held, another one after every change of the holder; None where it is not."""
        self._verified, self._is_current = 0.0, False  # when, and whether nothing was written since
        self._rival: leases.Lease | None = None

    @property
    def is_here(self) -> bool:
        """Whether this process holds the lease, as far as it knows."""
        return self.epoch is not None

    @property
    def rest_seconds(self) -> float | None:
        """When it is to be looked at again; None where nothing was written since the last time."""
        return None if self._is_current else VERIFY_SECONDS - (time.monotonic() - self._verified)

    def changed(self) -> None:
        """Say that something was written."""
        self._is_current = False

    def still_holds(self) -> StillHolds:
        """A check for the transaction of an act: whether the lease is still that of now."""
        epoch, worker_id = self.epoch, self.worker.id
        return lambda db: epoch is not None and leases.holds(db, LEASE, worker_id, epoch)

    async def take(self, kind: str) -> bool:
        """Hold the lease, or take it where it is free; whether it is held.

        Held as far as is worth knowing: whatever is done under it looks again, in its transaction.
        """
        if await self._is_held():
            return True
        if self.epoch is None and not await self._is_free():
            return False
        self.epoch = await self.worker.written(
            lambda db: leases.take(db, LEASE, self.worker.id, self._clock(), is_alive, kind)
        )
        self._verified = time.monotonic()
        self._is_current &= self.is_here
        return self.is_here

    def lose(self) -> None:
        """Say that another was found to hold it."""
        self.epoch, self._is_current = None, False

    async def give_up(self) -> None:
        """Let another process take it at once."""
        self.lose()
        await self.worker.written(lambda db: leases.give_up(db, LEASE, self.worker.id))

    def _renew(self) -> None:
        if self.is_here and self._is_fit():
            leases.renew(self.worker.lock_path.parent, LEASE, self._clock())

    async def _is_held(self) -> bool:
        if self.epoch is None:
            return False
        if self._is_current or time.monotonic() - self._verified < VERIFY_SECONDS:
            return True
        self._is_current, self._verified = True, time.monotonic()
        return await asyncio.to_thread(self._holds)

    def _holds(self) -> bool:
        holds = self.still_holds()
        with self.worker.store.read() as db:
            return holds(db)

    async def _is_free(self) -> bool:
        if not self._is_current:
            self._is_current = True
            self._rival = await asyncio.to_thread(self._other_holder)
        return self._rival is None or not leases.is_valid(self._rival, LEASE, self._clock(), is_alive)

    def _other_holder(self) -> leases.Lease | None:
        with self.worker.store.read() as db:
            current = leases.holder(db, LEASE)
        return None if current is None or current.worker_id == self.worker.id else current
