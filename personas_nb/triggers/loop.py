"""The loop that fires triggers and delivers events: one holder for all processes on a store, others standing by.

- ``next_trigger_at`` in the store is the plan, and its index the heap. What is due in the next seconds is kept in
  memory (the agenda) with its following due time, so that at the moment itself only one transaction is left to do.
- A due time is decided in one transaction of the writer: the lease's epoch is checked, the trigger is as it was
  planned, its fire is written with the execution that it queued or the reason why not, and its plan moves on. Whoever
  lost the lease meanwhile (it stood still) writes nothing.
- One timer sleeps until the next due time. What this or another process writes wakes it; so does a jump of the clock.
- What a clock that was set back has already seen is known by its key, and fires no second time.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, Self

from personas_nb.engine.dispatch import Dispatcher
from personas_nb.entities.base import new_id, now, rfc3339
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput, PersonaError, RowUnreadable, StoreError
from personas_nb.settings import Settings
from personas_nb.store import leases
from personas_nb.store.fires import FireTable, Paused, TriggerTable, paused
from personas_nb.store.leases import StillHolds
from personas_nb.triggers.planning import MISSED_SECONDS, Due, Dues, decided, dues, next_due, planned
from personas_nb.triggers.polling import STILL_LOOKING, Poller, looks
from personas_nb.triggers.starts import Batch, Starts
from personas_nb.triggers.tenure import Tenure
from personas_nb.worker import Worker

STAND_BY_SECONDS = 1.0  # how soon the end of the holder's process is seen where nothing tells of it
EXPIRY_LOOK_SECONDS = 5.0  # and how soon that its lease has expired
TIMER_LIMIT_SECONDS = 3600.0
HURRY_SECONDS = 0.2  # what is due within them goes before a look at what has changed
HORIZON_SECONDS = 15.0  # how far ahead the agenda goes
LEAD_SECONDS = 5.0  # how long before it is due what comes after that is loaded
AGENDA_LIMIT = 2_000
BATCH = 1_000  # due times of one transaction
CATCH_UP_SECONDS = 3.0  # of counting what was missed, before the lease is renewed
SET_BACK_SECONDS = 1.0  # a clock that goes back by more was set
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
FIRST_TURN_SECONDS = 5.0

log = logging.getLogger("personas_nb.triggers")


class Drains(Protocol):
    """What delivers events."""

    async def drain(self, still_holds: StillHolds) -> datetime | None:
        """Deliver all that is pending; when the next retry is due."""


@dataclass(frozen=True)
class Parts:
    """What the loop works with; from the studio that was opened last."""

    settings: Settings
    starts: Starts
    dispatcher: Dispatcher
    bus: Drains | None = None
    clock: Callable[[], datetime] = now


@dataclass(frozen=True)
class Plan:
    """A trigger with the due time that is stored, all that are due with it, and what becomes of each.

    ``inputs`` are what runs are given, for the due times that fire; ``rows`` what can be said of the fires before.
    Entities, and times as text, would take most of the time when a thousand are due at once.
    """

    trigger: Trigger
    due_at: datetime
    following: datetime | None
    dues: tuple[Due, ...]
    inputs: tuple[str | None, ...]
    rows: tuple[dict[str, Any], ...]
    mark: tuple[str, str]
    """How its row looks as long as the plan is right: its due time, and when it was last changed."""


@dataclass
class Decided:
    """What one transaction decided."""

    queued: int = 0
    looks: list[tuple[str, str]] = field(default_factory=list)


class TriggerLoop:
    """Of one process: hosts the loop, or stands by, after ``host`` and until ``leave``."""

    def __init__(self, worker: Worker, parts: Parts) -> None:
        self.worker, self.parts = worker, parts
        self.kind = ""
        self._triggers, self._fires = TriggerTable(worker.store), FireTable(worker.store)
        self._poller = Poller(
            worker,
            parts.starts,
            lambda: self.parts.settings,
            stands_still=lambda db: _why(paused(db)),
            started=lambda: self.parts.dispatcher.nudge(),
            clock=lambda: self.parts.clock(),
        )
        self._task: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._first_turn = threading.Event()
        self._failures = 0
        self._turn_began: float | None = None
        self._tenure = Tenure(worker, lambda: self.parts.clock(), self._is_fit)
        self._is_new = False
        self._last_look: tuple[datetime, float] | None = None
        self._watching_since = parts.clock()
        self._was_set_back = False
        self._agenda: list[Plan] = []
        self._agenda_until: datetime | None = None
        self._agenda_version = self._drained_version = (0, 0)
        self._is_drain_wanted = False
        self._retry_at: datetime | None = None
        self._unplannable: dict[str, str] = {}
        worker.when_changed(self._wake)
        worker.at_stop(self._leave)

    def using(self, parts: Parts) -> Self:
        """This loop with the settings and rooms of the studio that was opened last."""
        self.parts = parts
        return self

    @property
    def is_hosted(self) -> bool:
        """Whether this process fires triggers, or stands by to."""
        return self._task is not None and not self._task.done()

    @property
    def is_here(self) -> bool:
        """Whether this process holds the lease, as far as it knows."""
        return self._tenure.is_here

    def host(self, kind: str) -> None:
        """Begin, or go on; returns when it is known whether this process fires or stands by."""
        self.kind = kind
        self.worker.run(self._host())
        self._first_turn.wait(FIRST_TURN_SECONDS)

    def leave(self) -> None:
        """End, and let another process take over at once; what runs goes on."""
        self.worker.run(self._leave())

    def nudge(self) -> None:
        """Say that a plan, a switch or the clock has changed, or that an event is pending."""
        if not self.worker.is_stopping:
            self.worker.loop.call_soon_threadsafe(self._wake)

    def still_holds(self) -> StillHolds:
        """A check for the transaction of an act: whether the lease is still that of now."""
        return self._tenure.still_holds()

    def _wake(self) -> None:
        self._tenure.changed()
        self._woken.set()

    async def _host(self) -> None:
        if self.is_hosted:
            return
        self._first_turn.clear()
        self.parts.dispatcher.serve()
        self._task = self.worker.task(self._run())

    async def _leave(self) -> None:
        tasks = [task for task in (self._task, self._draining) if task is not None and not task.done()]
        was_here = self._task is not None
        self._task = self._draining = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._poller.stop()
        if was_here:
            self.parts.dispatcher.serve(False)
            await self._tenure.give_up()

    async def _run(self) -> None:
        self._failures = 0
        while True:
            self._woken.clear()
            self._turn_began = time.monotonic()
            try:
                seconds = await self._turn()
                self._failures = 0
            except Exception as error:  # the loop outlives a full disk, a locked store and a bug in one part
                if not isinstance(error, StoreError):
                    log.exception("the trigger loop failed")
                seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
                self._failures += 1
            self._turn_began = None
            self._first_turn.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):  # wait_for may swallow a cancel, in Python 3.11
                    await self._woken.wait()
            if self._failures:
                await asyncio.sleep(RETRY_SECONDS[0])  # whatever wakes it, a store that fails is left alone

    def _is_fit(self) -> bool:
        """Whether it does fire: one that cannot write, or that hangs, lets another take the lease."""
        is_hanging = (
            self._turn_began is not None and time.monotonic() - self._turn_began > leases.EXPIRY_SECONDS
        )
        return self.is_hosted and not self._failures and not is_hanging

    async def _turn(self) -> float:
        """Fire what is due; the seconds until something is to be done again."""
        self._look_at_the_clock()
        if not await self._has_lease():
            return self._stand_by_seconds()
        if self._is_new:
            await self._poller.adopt(self.still_holds())
            await self._replan()
            self._is_new = False
        elif self._was_set_back:
            await self._replan()
        while await self._fire_due():
            self._look_at_the_clock()
            if not await self._has_lease():
                return self._stand_by_seconds()
        self._deliver()
        return self._rest_seconds()

    def _stand_by_seconds(self) -> float:
        return EXPIRY_LOOK_SECONDS if self.worker.is_told_of_ends else STAND_BY_SECONDS

    def _look_at_the_clock(self) -> datetime:
        """The time; notices that nobody looked for a while, for whatever reason, or that the clock was set back."""
        moment, elapsed = self.parts.clock(), time.monotonic()
        seen_at, seen_elapsed = self._last_look or (moment, elapsed)
        gap_seconds = (moment - seen_at).total_seconds()
        is_set_back = gap_seconds - (elapsed - seen_elapsed) < -SET_BACK_SECONDS
        self._was_set_back |= is_set_back
        if is_set_back or gap_seconds > MISSED_SECONDS:
            self._watching_since = moment
        self._last_look = moment, elapsed
        return moment

    async def _has_lease(self) -> bool:
        before = self._tenure.epoch
        if not await self._tenure.take(self.kind):
            return False
        if self._tenure.epoch != before:
            self._is_new, self._watching_since, self._agenda_until = True, self.parts.clock(), None
        return True

    async def _replan(self) -> None:
        """Bring forward what is planned for later than it is due: the clock was once ahead, or a zone has changed."""
        moment, zone = self.parts.clock(), self.parts.settings.zone()

        def earlier() -> list[tuple[Trigger, Trigger]]:
            found = []
            for trigger in self._triggers.due_after(moment):
                with suppress(InvalidInput):
                    due = next_due(trigger, moment, zone)
                    if (
                        due is not None
                        and trigger.next_trigger_at is not None
                        and due < trigger.next_trigger_at
                    ):
                        found.append((trigger, trigger.changed(next_trigger_at=due)))
            return found

        await self._store_plans(await asyncio.to_thread(earlier))
        self._was_set_back = False

    async def _store_plans(self, pairs: Sequence[tuple[Trigger, Trigger]]) -> None:
        """Store new plans (before, after) of rows that nobody has changed meanwhile."""
        holds = self.still_holds()

        def store(db: sqlite3.Connection) -> None:
            if holds(db):
                for seen, trigger in pairs:
                    self._triggers.plan(db, trigger, seen=seen)

        if pairs:
            await self.worker.written(store)
            self._agenda_until = None

    async def _fire_due(self) -> bool:
        """Decide a batch of what is due; whether there was something."""
        moment = self._look_at_the_clock()  # it may have stood still since it asked for the lease
        if not (self._agenda and (self._agenda[0].due_at - moment).total_seconds() < HURRY_SECONDS):
            await self._refresh(moment)
        batch = [plan for plan in self._agenda[:BATCH] if plan.due_at <= moment]
        if not batch:
            return False
        plans, holds = batch, self.still_holds()
        if any(self._is_late(plan, moment) for plan in batch):
            plans = await asyncio.to_thread(self._caught_up, batch, moment)
        done: Decided | None = await self.worker.written(lambda db: self._decide(db, plans, holds))
        if done is None:
            self._tenure.lose()
            return False
        self._agenda = self._agenda[len(plans) :]
        if done.queued:
            self.parts.dispatcher.nudge()
        for fire_id, trigger_id in done.looks:
            self._poller.look(fire_id, trigger_id, holds)
        return True

    async def _refresh(self, moment: datetime) -> None:
        """Load what is due soon, where something has changed or the horizon has come near."""
        version = await self.worker.version()
        if (
            version == self._agenda_version
            and self._agenda_until is not None
            and moment <= self._agenda_until
        ):
            return
        zone = self.parts.settings.zone()
        self._agenda, pairs, self._agenda_until = await asyncio.to_thread(self._load, moment, zone)
        self._agenda_version = version
        if pairs:
            await self._store_plans(pairs)
            self._agenda, _pairs, self._agenda_until = await asyncio.to_thread(self._load, moment, zone)

    def _load(
        self, moment: datetime, zone: str
    ) -> tuple[list[Plan], list[tuple[Trigger, Trigger]], datetime]:
        """The agenda, new plans for what had none, and until when the agenda is complete."""
        until = moment + timedelta(seconds=HORIZON_SECONDS)
        before = {plan.trigger.id: plan for plan in self._agenda}
        rows = self._triggers.due_rows(until, AGENDA_LIMIT)
        agenda: list[Plan] = []
        pairs, unplannable = [], {}
        for row in rows:
            known = before.get(row["id"])
            if known is None or known.mark != (row["next_trigger_at"], row["updated_at"]):
                try:
                    known = self._plan(self._triggers.loaded(row), zone)
                except RowUnreadable as error:  # something else wrote it: the others fire all the same
                    unplannable[row["id"]] = error.message
                    continue
            agenda.append(known)
        if len(rows) == AGENDA_LIMIT:
            until = max(moment, agenda[-1].due_at) if agenda else moment
        else:
            until = self._quiet_until(until)
        for trigger in self._triggers.unplanned():
            try:
                pairs.append((trigger, planned(trigger, moment, zone, anew=False)))
            except InvalidInput as error:
                unplannable[trigger.id] = str(error)
        if unplannable.keys() - self._unplannable.keys():
            log.warning("triggers that cannot be planned: %s", unplannable)
        self._unplannable = unplannable
        return agenda, [pair for pair in pairs if pair[1].next_trigger_at is not None], until

    def _quiet_until(self, until: datetime) -> datetime:
        """Until when nothing else is due than before ``until``; a little earlier, so that it is loaded in time."""
        following = self._triggers.next_after(until)
        if following is None:
            return until + timedelta(seconds=TIMER_LIMIT_SECONDS)
        return max(until, following - timedelta(seconds=LEAD_SECONDS))

    def _plan(self, trigger: Trigger, zone: str) -> Plan:
        """The trigger with its due time alone, as it is when nobody is late."""
        assert trigger.next_trigger_at is not None
        try:
            following = next_due(trigger, trigger.next_trigger_at, zone)
        except InvalidInput:
            following = None  # the due time that it has still counts
        return self._with_inputs(trigger, trigger.next_trigger_at, following, (Due(trigger.next_trigger_at),))

    def _is_late(self, plan: Plan, moment: datetime) -> bool:
        """Whether more is due than was planned, or nobody saw it in time."""
        age_seconds = (self._watching_since - plan.due_at).total_seconds()
        return age_seconds > MISSED_SECONDS or (plan.following is not None and plan.following <= moment)

    def _caught_up(self, batch: Sequence[Plan], moment: datetime) -> list[Plan]:
        """The first plans with all that is due by now, and what becomes of it; not all where that takes long."""
        zone, plans, until = self.parts.settings.zone(), [], time.monotonic() + CATCH_UP_SECONDS
        for plan in batch:
            found = Dues((plan.due_at,), None, plan.following)
            if plan.following is not None and plan.following <= moment:
                found = dues(plan.trigger, plan.due_at, moment, zone)
            decisions = tuple(decided(plan.trigger, found, self._watching_since))
            plans.append(self._with_inputs(plan.trigger, plan.due_at, found.following, decisions))
            if time.monotonic() > until:
                break  # a lease that nobody renews meanwhile is lost, and whoever takes it begins again
        return plans

    def _with_inputs(
        self, trigger: Trigger, due_at: datetime, following: datetime | None, decisions: tuple[Due, ...]
    ) -> Plan:
        cause = {"id": trigger.id, "type": trigger.trigger_type}
        if trigger.description:
            cause["description"] = trigger.description
        inputs = tuple(
            self.parts.starts.input_of(None, trigger={**cause, "due_at": rfc3339(due.due_at)})
            if due.reason is None and not looks(trigger)
            else None
            for due in decisions
        )
        rows = tuple(_row(trigger, due) for due in decisions)
        mark = rfc3339(due_at), rfc3339(trigger.updated_at)
        return Plan(trigger, due_at, following, decisions, inputs, rows, mark)

    def _decide(self, db: sqlite3.Connection, plans: Sequence[Plan], holds: StillHolds) -> Decided | None:
        """Write what becomes of these due times, and move the plans on; None where the lease was lost."""
        if not holds(db):
            return None
        moment, done, stop = self.parts.clock(), Decided(), _why(paused(db))
        stored = self._triggers.marks(db, [plan.trigger.id for plan in plans])
        valid = [plan for plan in plans if stored.get(plan.trigger.id) == plan.mark]
        known = self._fires.known(db, [(plan.trigger.id, due.key) for plan in valid for due in plan.dues])
        starts = self.parts.starts.batch()
        fires: list[dict[str, Any]] = []
        moves: list[tuple[str, datetime | None, datetime | None]] = []
        said = rfc3339(moment)
        common = {"worker_id": self.worker.id, "decided_at": said, "created_at": said}
        for plan in valid:
            last = None
            for due, row, text in zip(plan.dues, plan.rows, plan.inputs, strict=True):
                if (plan.trigger.id, due.key) in known:
                    continue  # the clock was set back, and it was decided then
                late_ms = max(0, round((moment - due.due_at).total_seconds() * 1000))
                fire = {**row, **common, "late_ms": late_ms, "reason": due.reason or stop}
                if fire["reason"] is None:
                    self._begin(fire, plan.trigger, text, starts, done)
                if fire["status"] == "queued":
                    done.queued, last = done.queued + 1, moment
                fires.append(fire)
            moves.append((plan.trigger.id, plan.following, last))
        starts.write(db)
        self._fires.insert_rows(db, fires)
        self._triggers.move_on(db, moves)
        return done

    def _begin(
        self, fire: dict[str, Any], trigger: Trigger, text: str | None, starts: Batch, done: Decided
    ) -> None:
        """Start what a due time starts: a run, or a look at an address; or the reason why not."""
        if looks(trigger):
            if self._poller.is_looking(trigger.id) or any(trigger.id == other for _, other in done.looks):
                fire["reason"] = STILL_LOOKING
            else:
                done.looks.append((fire["id"], trigger.id))
                fire |= {"status": "checking", "decided_at": None}
            return
        start = starts.queue(
            trigger.persona_id, text, allow_bypass=trigger.allow_bypass, trigger_id=trigger.id
        )
        fire |= {
            "status": "queued" if start.execution_id else "skipped",
            "reason": start.reason,
            "execution_id": start.execution_id,
        }

    def _deliver(self) -> None:
        """See to it that pending events are delivered, beside the firing of triggers."""
        if self.parts.bus is None:
            return
        self._is_drain_wanted = True
        if self._draining is None or self._draining.done():
            self._draining = self.worker.task(self._drain(self.parts.bus))

    async def _drain(self, bus: Drains) -> None:
        before = self._retry_at
        while self._is_drain_wanted:
            self._is_drain_wanted = False
            version, retry_at = await self.worker.version(), self._retry_at
            if version == self._drained_version and (retry_at is None or retry_at > self.parts.clock()):
                continue
            try:
                self._retry_at = await bus.drain(self.still_holds())
                self._drained_version = version
            except PersonaError:
                log.warning("events could not be delivered", exc_info=True)
                self._retry_at = self.parts.clock() + timedelta(seconds=RETRY_SECONDS[1])
            except Exception:  # triggers go on firing whatever a delivery meets
                log.exception("events could not be delivered")
                self._retry_at = self.parts.clock() + timedelta(seconds=RETRY_SECONDS[-1])
        if self._retry_at != before:
            self._woken.set()  # the timer learns when the next retry is due

    def _rest_seconds(self) -> float:
        moments = [self._agenda[0].due_at] if self._agenda else []
        moments += [self._agenda_until] if self._agenda_until else []
        is_draining = (
            self._draining is not None and not self._draining.done()
        )  # it wakes the timer at its end
        moments += [self._retry_at] if self._retry_at and not is_draining else []
        moment = self.parts.clock()
        seconds = [TIMER_LIMIT_SECONDS, *((each - moment).total_seconds() for each in moments)]
        if (verify_seconds := self._tenure.rest_seconds) is not None:
            seconds.append(verify_seconds)
        return max(0.0, min(seconds))


def _row(trigger: Trigger, due: Due) -> dict[str, Any]:
    """The fire of a due time as it is before it is decided: skipped."""
    return {
        "id": new_id(),
        "trigger_id": trigger.id,
        "key": due.key,
        "kind": trigger.trigger_type,
        "due_at": rfc3339(due.due_at),
        "until_at": due.until_at and rfc3339(due.until_at),
        "count": due.count,
        "status": "skipped",
        "execution_id": None,
    }


def _why(stop: Paused | None) -> str | None:
    """The reason that a fire is given while all triggers are paused."""
    if stop is None:
        return None
    return f"All triggers are paused: {stop.reason}" if stop.reason else "All triggers are paused."
