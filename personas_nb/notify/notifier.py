"""Sends what is to be sent, in every process that lives; what one of them has claimed no other sends.

- A claim is committed before anything leaves the machine. A process that ends in between leaves ``sending`` behind,
  which the others see by its lock, and call ``uncertain``: it may have arrived, and is not sent again by itself.
- What certainly did not arrive is tried again, later and later; what cannot work has failed.
- One delivery of a channel at a time, the channels side by side: one that hangs keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from personas_nb.entities.base import now
from personas_nb.entities.message import Message, MessageDelivery
from personas_nb.entities.persona import Persona
from personas_nb.errors import StoreError
from personas_nb.notify.channels import Channel, channels_of
from personas_nb.notify.outbox import tell_failures
from personas_nb.notify.ways.letter import Letter, MaybeSent, NotSent
from personas_nb.notify.ways.sending import Sending
from personas_nb.store.deliveries import DeliveryTable, Outlook
from personas_nb.worker import Worker, is_alive, is_stalled, undisturbed

SETTLE_SECONDS = 5.0  # a run that failed may be queued again until then
LONGEST_SLEEP_SECONDS = 60.0  # the clock may be set
DRAIN_SECONDS = 5.0  # what a studio that closes waits for what is being sent
GRACE_SECONDS = 1.4  # and a worker that stops, which has three
CHANNELS_AT_ONCE = 32
ATTEMPTS = 6
FIRST_WAIT_SECONDS = 30.0
WAIT_FACTOR = 4.0
MAX_WAIT_SECONDS = 6 * 3600.0
JITTER = 0.1

log = logging.getLogger("personas_nb.notify")


class Notifier:
    """The deliveries of one worker."""

    def __init__(self, worker: Worker, sending: Sending, *, clock: Callable[[], datetime] = now) -> None:
        self.worker, self.sending = worker, sending
        self.table = DeliveryTable(worker.store)
        self._messages = worker.store.table("messages", Message)
        self._personas = worker.store.table("personas", Persona)
        self._clock = clock
        self._busy: dict[str, Future[None]] = {}  # what is being sent, by its channel
        self._unsettled: dict[
            str, _Settlement
        ] = {}  # what became of deliveries, where the store did not take it
        self._timer: asyncio.TimerHandle | None = None
        self._is_wanted = False
        self._turn = asyncio.Lock()  # of whoever claims
        # Whoever writes a message changes the store; so does every heartbeat, so that who ended is seen too.
        worker.when_changed(self._look)
        worker.at_stop(self._close)
        worker.changed()

    def using(self, sending: Sending) -> Self:
        """This notifier with the vault (and settings) of the studio that was opened last."""
        self.sending = sending
        return self

    def nudge(self) -> None:
        """Say that there may be something to send."""
        self.worker.changed()

    async def pump(self) -> None:
        """Claim and send what is due, one delivery of each channel at a time."""
        self._is_wanted = True
        if self._turn.locked():
            return
        async with self._turn:
            try:
                while self._is_wanted:
                    self._is_wanted = False
                    await self._pump()
            except (
                StoreError
            ):  # full or locked: whoever writes next says so, and the next change brings another look
                log.warning("messages could not be sent", exc_info=True)

    async def _pump(self) -> None:
        for settlement in list(self._unsettled.values()):
            await self._settle(settlement)
        outlook = await asyncio.to_thread(self._outlook)
        await self._recover(outlook)
        if outlook.is_due or outlook.has_untold:
            await self._claim()
        self._sleep_until(outlook.next_at)

    async def drain(self) -> None:
        """Send what is due now and wait for it, at most ``DRAIN_SECONDS``: nobody else may live for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                is_over = False
                while not is_over:
                    await self.pump()
                    async with self._turn:  # somebody else may have been at it
                        under_way = [asyncio.wrap_future(each) for each in self._busy.values()]
                    if under_way:
                        await asyncio.wait(under_way)
                    is_over = not under_way

    def _look(self) -> None:
        if self.worker.is_stopping:
            return
        self._is_wanted = True
        if not self._turn.locked():
            self.worker.spawn(self.pump())

    def _sleep_until(self, moment: datetime | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if moment is not None:
            seconds = (moment - self._clock()).total_seconds()
            seconds = min(max(0.0, seconds), LONGEST_SLEEP_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _outlook(self) -> Outlook:
        return self.table.outlook(self._clock(), self._settled_before())

    def _settled_before(self) -> datetime:
        return self._clock() - timedelta(seconds=SETTLE_SECONDS)

    async def _claim(self) -> None:
        room = CHANNELS_AT_ONCE - len(self._busy)
        if room <= 0:
            return
        moment, settled_before = self._clock(), self._settled_before()

        def claimed() -> list[MessageDelivery]:
            # In a transaction of its own: who waits for it is about to send.
            with self.worker.store.write() as db:
                tell_failures(self.worker.store, db, moment, settled_before)
                return self.table.claim(db, self.worker.id, moment, list(self._busy), room)

        found = await undisturbed(asyncio.to_thread(claimed))
        for delivery in found:
            if self.worker.is_stopping:
                return  # closing says what became of them
            self._busy[delivery.channel_key] = self.worker.spawn(self._deliver(delivery))

    async def _deliver(self, delivery: MessageDelivery) -> None:
        sending = asyncio.create_task(self._sent(delivery))
        try:
            try:
                settlement = await asyncio.shield(sending)
            except asyncio.CancelledError:  # the worker stops: what is about to arrive gets a moment
                await asyncio.wait([sending], timeout=GRACE_SECONDS)
                if not sending.done():
                    sending.cancel()
                    raise
                settlement = sending.result()
            await self._settle(settlement)
        finally:
            self._busy.pop(delivery.channel_key, None)
            self._look()

    async def _sent(self, delivery: MessageDelivery) -> _Settlement:
        """What became of it."""
        try:
            channel, letter = await asyncio.to_thread(self._prepared, delivery)
            await self.sending.send(channel, letter)
        except NotSent as error:
            if error.retryable and delivery.attempts < ATTEMPTS:
                wait = _wait_seconds(delivery.attempts, error.retry_after_seconds)
                return _Settlement(delivery, "pending", str(error), self._clock() + timedelta(seconds=wait))
            return _Settlement(delivery, "failed", str(error))
        except MaybeSent as error:
            return _Settlement(delivery, "uncertain", f"It may have arrived: {error}")
        except Exception as error:  # a mistake of ours, or of a library; what it says may hold a secret
            log.error("a delivery failed unexpectedly: %s", type(error).__name__)
            return _Settlement(delivery, "uncertain", f"It may have arrived: {type(error).__name__}.")
        return _Settlement(delivery, "delivered")

    def _prepared(self, delivery: MessageDelivery) -> tuple[Channel, Letter]:
        message = self._messages.get(delivery.message_id)
        persona = self._personas.get(message.persona_id) if message else None
        if message is None or persona is None:
            raise NotSent("The message is gone.")
        channels = {each.key: each for each in channels_of(persona)}
        channel = channels.get(delivery.channel_key)
        if channel is None or not channel.enabled:
            raise NotSent(f"The channel {'is off' if channel else 'was taken from the persona'}.")
        letter = Letter(
            delivery.id, persona.name, message.title, message.content, message.content_type, message.priority
        )
        return channel, letter

    async def _settle(self, settlement: _Settlement) -> None:
        delivery = settlement.delivery
        writing = self.worker.written(
            lambda db: self.table.settle(
                db,
                delivery,
                settlement.status,
                error=settlement.error,
                moment=self._clock(),
                next_attempt_at=settlement.next_attempt_at,
            )
        )
        try:
            await undisturbed(writing)
            self._unsettled.pop(delivery.id, None)
        except StoreError:  # full, locked or read-only: it is known here, and written when that works again
            self._unsettled[delivery.id] = settlement

    async def _recover(self, outlook: Outlook) -> None:
        """What a process that is gone was sending may have arrived."""
        others = [sender for sender in outlook.senders if sender != self.worker.id]
        if not others:
            return
        for sender in await asyncio.to_thread(self._gone, others):
            await self.worker.written(
                lambda db, sender=sender: self.table.lose(db, sender, self._clock())  # type: ignore[misc]
            )

    def _gone(self, worker_ids: list[str]) -> list[str]:
        paths = self.table.lock_paths(worker_ids)
        return [
            each
            for each in worker_ids
            if each not in paths or not is_alive(Path(paths[each])) or is_stalled(self.worker.store, each)
        ]

    async def _close(self) -> None:
        """What is still being sent may arrive."""
        with suppress(StoreError):
            for settlement in list(self._unsettled.values()):
                await self._settle(settlement)
            await self.worker.written(lambda db: self.table.lose(db, self.worker.id, self._clock()))


class _Settlement:
    """What became of a delivery."""

    def __init__(
        self,
        delivery: MessageDelivery,
        status: str,
        error: str | None = None,
        next_attempt_at: datetime | None = None,
    ) -> None:
        self.delivery, self.status, self.error = delivery, status, error
        self.next_attempt_at = next_attempt_at


def _wait_seconds(attempts: int, asked_seconds: float | None) -> float:
    """How long to wait after so many attempts: 30 s, 2 min, 8 min, …; what a server asked for is waited at least."""
    wait = FIRST_WAIT_SECONDS * WAIT_FACTOR ** max(0, attempts - 1)
    wait *= 1 + JITTER * random.random()  # noqa: S311 - no secret
    return min(max(wait, asked_seconds or 0.0), MAX_WAIT_SECONDS)
