"""How an event becomes runs: who hears it is written down, then each of them is started, or the reason why not.

- One transaction makes of an event its deliveries, one for each subscription that hears it; another, or the same,
  makes of a delivery an execution or a skip. Both are one of a kind by (event, subscription), whoever does it.
- What takes long is done before the transaction: reading, matching, taking secrets out of what runs are given.
- A persona whose queue is full is tried again, later each time, then the delivery is a dead letter.
- Whatever else goes wrong with one delivery makes it a dead letter, and does not stop the others.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, NamedTuple

from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.event import Event, EventDelivery
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.events import DeliveryTable, EventTable, Letter, Listener, SubscriptionTable
from personas_nb.store.fires import paused
from personas_nb.triggers.hearing import ACTION, listening
from personas_nb.triggers.matching import Matcher, fits, type_key
from personas_nb.triggers.starts import Starts

EVENTS_AT_ONCE = 200
STARTS_AT_ONCE = 64
HOLD_SECONDS = 0.1  # how long one transaction goes on starting runs
ATTEMPTS = 8
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(minutes=5)
TARGET = "target:"  # in place of a subscription's id

log = logging.getLogger("personas_nb.triggers")


class Hearers(NamedTuple):
    """Who hears an event: the subscription's id and its persona's; or why nobody may."""

    deliveries: tuple[tuple[str, str], ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Round:
    """What one transaction is to do, as it was read and prepared before it."""

    moment: datetime
    state: str
    letters: Sequence[tuple[Letter, Hearers]] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    """What runs are given, by the event's id."""
    events: dict[str, Event] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()


class Started(NamedTuple):
    """What a transaction did: how many runs it queued, and whether it did anything at all."""

    runs: int
    is_done: bool


class Delivering:
    """Turns events into runs; every method blocks, and those with ``db`` are called inside a transaction."""

    def __init__(
        self, store: Store, starts: Starts, settings: Settings, clock: Callable[[], datetime] = now
    ) -> None:
        self._events, self._deliveries = EventTable(store), DeliveryTable(store)
        self._subscriptions = SubscriptionTable(store)
        self._starts, self._settings, self._clock = starts, settings, clock
        self._index: tuple[str, Matcher[Listener]] = ("", Matcher())
        self._indexing = Lock()

    def read(self) -> Round | None:
        """What is to be done now; None when there is nothing."""
        moment = self._clock()
        letters = self._events.pending(EVENTS_AT_ONCE)
        due = self._deliveries.due(moment, LONGEST_WAIT, STARTS_AT_ONCE)
        if not letters and not due:
            return None
        known = {letter.event_id for letter in letters}
        others = [delivery.event_id for delivery in due if delivery.event_id not in known]
        return self.prepared(letters, moment, others)

    def prepared(self, letters: Sequence[Letter], moment: datetime, others: Iterable[str] = ()) -> Round:
        """A round for these events and, of the events ``others``, the deliveries that wait."""
        state, matcher = self._matcher()
        heard = [(letter, self.hearers(letter, matcher)) for letter in letters]
        waiting = self._events.of_ids(others)
        needed = [letter for letter, hearers in heard if hearers.deliveries] + waiting
        events = {letter.event_id: letter.event for letter in needed if letter.event is not None}
        return Round(
            moment=moment,
            state=state,
            letters=heard,
            inputs={event.id: self._input_of(event) for event in events.values()},
            events=events,
            unreadable=frozenset(letter.event_id for letter in needed if letter.event is None),
        )

    def deliver(self, db: sqlite3.Connection, work: Round) -> Started:
        """Do a round; nothing of it when a subscription has changed since it was read."""
        if self._subscriptions.state(db) != work.state:
            return Started(0, is_done=False)
        until, runs = time.monotonic() + HOLD_SECONDS, 0
        for letter, hearers in work.letters:  # of thousands of deliveries each, perhaps
            self._address(db, letter, hearers, work.moment)
            if time.monotonic() > until:
                break
        for delivery in self._deliveries.due(work.moment, LONGEST_WAIT, STARTS_AT_ONCE):
            if delivery.event_id in work.events or delivery.event_id in work.unreadable:
                runs += self.attempt(db, delivery, work) is not None
            if time.monotonic() > until:
                break
        return Started(runs, is_done=True)

    def again(self, event_id: str, delivery_id: str | None = None, *, worker_id: str) -> list[str]:
        """Try now, and anew, what of an event started nobody; or one delivery. The runs that it queued.

        A person asks for it by hand: that worker runs them, whoever fires triggers, and no pause stops it.
        """
        while True:
            moment = self._clock()
            letters = self._events.of_ids([event_id])
            work = self.prepared(letters, moment, [event_id])
            with self._events.store.write() as db:
                if self._subscriptions.state(db) != work.state:
                    continue
                if delivery_id is None:
                    for letter, hearers in work.letters:
                        self._address(db, letter, hearers, moment)
                waiting = self._deliveries.reopen(db, event_id, delivery_id, moment)
                found = [self.attempt(db, delivery, work, worker_id) for delivery in waiting]
                return [run_id for run_id in found if run_id is not None]

    def is_heard(self, event_id: str) -> bool:
        """Whether an event starts somebody, or would if it might."""
        _state, matcher = self._matcher()
        heard = [self.hearers(letter, matcher) for letter in self._events.of_ids([event_id])]
        return any(one.deliveries or one.reason for one in heard)

    def next_due(self) -> datetime | None:
        """When a delivery is to be tried again."""
        return self._deliveries.next_due()

    def hearers(self, letter: Letter, matcher: Matcher[Listener]) -> Hearers:
        """Who is to hear an event; where somebody would, and may not, why."""
        event = letter.event
        if event is None:
            return Hearers(reason="Its row cannot be read: something other than personas_nb has written it.")
        if event.target_persona_id is not None:
            heard = [(TARGET + event.target_persona_id, event.target_persona_id)]
        elif type_key(event.event_type) == ACTION:
            return Hearers(reason="It names no persona to start.")
        else:
            heard = listening(letter, event, matcher)
        too_long = self._too_long(event) if heard else None
        return Hearers(reason=too_long) if too_long else Hearers(tuple(heard))

    def _too_long(self, event: Event) -> str | None:
        if event.depth < (limit := self._settings.event_chain_depth):
            return None
        return f"{event.depth} runs have started one another by events; {limit} may (event_chain_depth)."

    def attempt(
        self, db: sqlite3.Connection, delivery: EventDelivery, work: Round, worker_id: str | None = None
    ) -> str | None:
        """Start a delivery's persona, or write why not; the run that was queued.

        With ``worker_id`` it is by hand: that worker runs it, and no pause stops it.
        """
        db.execute("savepoint delivery")
        try:
            if worker_id is None and paused(db) is not None:
                decided = _ended(delivery, "skipped", "All triggers are paused.")
            else:
                decided = self._decided(db, delivery, work, worker_id)
        except Exception as error:  # what is wrong with one must not keep all others waiting for ever
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise
            log.exception("the delivery %s failed", delivery.id)
            db.execute("rollback to delivery")
            decided = _ended(delivery, "dead", f"Something unexpected happened: {type(error).__name__}.")
        db.execute("release delivery")
        decided = decided.changed(attempts=delivery.attempts + 1, updated_at=work.moment)
        is_written = self._deliveries.decide(db, decided)
        return decided.execution_id if is_written and decided.status == "started" else None

    def _decided(
        self, db: sqlite3.Connection, delivery: EventDelivery, work: Round, worker_id: str | None
    ) -> EventDelivery:
        event = work.events.get(delivery.event_id)
        if event is None:
            return _ended(delivery, "dead", "Its event cannot be read.")
        if (too_long := self._too_long(event)) is not None:
            return _ended(delivery, "dead", too_long)
        allow_bypass, obstacle = self._consent(db, delivery, event)
        if obstacle is not None:
            return _ended(delivery, "skipped", obstacle)
        start = self._starts.queue(
            delivery.persona_id or "",
            work.inputs[event.id],
            allow_bypass=allow_bypass,
            event_id=event.id,
            rehearsal=event.rehearsal,
            worker_id=worker_id,
        )
        if start.execution_id is not None:
            return _ended(delivery, "started", None).changed(execution_id=start.execution_id)
        if not start.is_full:
            return _ended(delivery, "skipped", start.reason)
        if delivery.attempts + 1 >= ATTEMPTS:
            return _ended(delivery, "dead", f"It was tried {ATTEMPTS} times. {start.reason}")
        wait = min(FIRST_WAIT * 2**delivery.attempts, LONGEST_WAIT)
        return delivery.changed(reason=start.reason, next_attempt_at=work.moment + wait)

    def _consent(
        self, db: sqlite3.Connection, delivery: EventDelivery, event: Event
    ) -> tuple[bool, str | None]:
        """Whether a person agreed that this starts a persona that may do everything; and what has changed since."""
        if delivery.subscription_id.startswith(TARGET):
            return self._is_allowed(db, delivery.persona_id, event), None
        row = db.execute(
            "select enabled, allow_bypass from subscriptions where id = ?", [delivery.subscription_id]
        ).fetchone()
        if row is None:
            return False, "The subscription is gone."
        return bool(row["allow_bypass"]), None if row["enabled"] else "The subscription is off."

    def _is_allowed(self, db: sqlite3.Connection, persona_id: str | None, event: Event) -> bool:
        """An action is allowed by a subscription of its target to such actions."""
        rows = db.execute(
            "select event_type, source_filter from subscriptions where persona_id = ? and enabled and allow_bypass",
            [persona_id],
        )
        return any(
            type_key(row["event_type"]) == type_key(event.event_type)
            and fits(row["source_filter"], event.source)
            for row in rows
        )

    def _address(self, db: sqlite3.Connection, letter: Letter, hearers: Hearers, moment: datetime) -> None:
        waits = db.execute("select 1 from events where id = ? and status <> 'processed'", [letter.event_id])
        if waits.fetchone() is None:
            return  # another was faster, or it is gone
        self._deliveries.address(db, letter.event_id, hearers.deliveries, moment)
        status = "dead" if hearers.reason else "processed"
        self._events.settle(db, letter.event_id, status, hearers.reason)

    def _matcher(self) -> tuple[str, Matcher[Listener]]:
        """The index of who hears what, made anew after every change of a subscription; and the state it has."""
        with self._indexing:
            with self._events.store.read() as db:
                state = self._subscriptions.state(db)
            if state != self._index[0]:
                state, listeners = self._subscriptions.listeners()
                items = ((one.event_type, one.source_filter, one) for one in listeners)
                self._index = state, Matcher(items)
            return self._index

    def _input_of(self, event: Event) -> str:
        cause: dict[str, Any] = {
            "id": event.id,
            "type": event.event_type,
            "source": event.source,
            "source_type": event.source_type,
            "published_at": rfc3339(event.created_at),
        }
        if event.target_persona_id is None:
            return self._starts.input_of(event.data, event=cause)
        return self._starts.input_of(
            event.data.get("input"), event={**cause, "action": event.data.get("action", "run")}
        )


def _ended(delivery: EventDelivery, status: str, reason: str | None) -> EventDelivery:
    return delivery.changed(status=status, reason=reason, next_attempt_at=None)
