"""Events and their deliveries as rows: what waits, who hears it, what became of it."""

from __future__ import annotations

import builtins
import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from personas_nb.entities.base import new_id, rfc3339
from personas_nb.entities.event import DeadLetter, Event, EventDelivery, FlowEdge, Subscription
from personas_nb.errors import StoreError
from personas_nb.store.database import Store
from personas_nb.store.table import Table

# SQL for `type_key` of triggers.matching; only ASCII letters change, as event types have them.
_TYPE_KEY = "replace(replace(lower({}), '-', '_'), '.', '_')"
_ORIGIN = "coalesce(x.persona_id, (select p.id from personas p where e.source_type = 'persona' and p.slug = e.source))"
_LETTERS = (
    f"select e.*, e.rowid as number_, {_ORIGIN} as origin_ from events e "
    "left join executions x on x.id = e.execution_id"
)
_DEAD = """
select event_id, delivery_id, at from (
  select id as event_id, null as delivery_id, created_at as at from events where status = 'dead'
  union all
  select event_id, id, coalesce(updated_at, created_at) from event_deliveries where status = 'dead')
order by at desc limit ?
"""
_FLOW = """
select e.source, e.source_type, e.event_type, p.slug as target, count(*) as count, max(d.updated_at) as last_at
from event_deliveries d join events e on e.id = d.event_id join personas p on p.id = d.persona_id
where d.status = 'started' and d.created_at >= ?
group by e.source, e.source_type, e.event_type, p.slug order by count(*) desc, last_at desc
"""
_LISTENERS = "select id, persona_id, event_type, source_filter, after_event from subscriptions where enabled"


class Letter(NamedTuple):
    """An event with its number and the persona whose run published it; one that cannot be read is only an id."""

    event_id: str
    number: int
    event: Event | None
    origin_id: str | None


class Listener(NamedTuple):
    """An enabled subscription, as an index keeps it."""

    subscription_id: str
    persona_id: str
    event_type: str
    source_filter: str | None
    after_event: int


class EventTable(Table[Event]):
    """The rows of ``events``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "events", Event)

    def insert(self, entity: Event) -> Event:
        """Write an event; one of a run is one deeper than the event that started the run, and a rehearsal if it is."""
        with self.store.write() as db:
            if entity.execution_id is not None:
                entity = self._of_run(db, entity)
            return super().insert(entity)

    def _of_run(self, db: sqlite3.Connection, event: Event) -> Event:
        row = db.execute(
            "select x.rehearsal, coalesce(e.depth + 1, 0) as depth from executions x "
            "left join events e on e.id = x.event_id where x.id = ?",
            [event.execution_id],
        ).fetchone()
        if row is None:
            return event
        rehearsal = event.rehearsal or bool(row["rehearsal"])
        return event.changed(depth=max(event.depth, row["depth"]), rehearsal=rehearsal)

    def _letters(self, where: str, values: Sequence[Any], *, limit: int = -1) -> list[Letter]:
        with self.store.read() as db:
            query = f"{_LETTERS} where {where} order by e.created_at, e.rowid limit ?"
            rows = db.execute(query, [*values, limit]).fetchall()
        return [self._letter(row) for row in rows]

    def _letter(self, row: sqlite3.Row) -> Letter:
        fields = {name: row[name] for name in row.keys() if not name.endswith("_")}  # noqa: SIM118 - sqlite3.Row
        try:
            event = self.loaded(fields)
        except StoreError:  # something else wrote it: the others are delivered all the same
            event = None
        return Letter(row["id"], row["number_"], event, row["origin_"])

    def pending(self, limit: int) -> list[Letter]:
        """Events of which nobody knows yet who hears them, the oldest first."""
        return self._letters("e.status = 'pending'", [], limit=limit)

    def pending_after(self, number: int) -> builtins.list[tuple[str, str, str]]:
        """Id, type and source type of the pending events with a larger number, the oldest first."""
        with self.store.read() as db:
            query = "select id, event_type, source_type from events where status = 'pending' and rowid > ?"
            rows = db.execute(f"{query} order by rowid", [number]).fetchall()
        return [(row["id"], row["event_type"], row["source_type"]) for row in rows]

    def of_ids(self, event_ids: Iterable[str]) -> list[Letter]:
        """The events of these ids, the oldest first."""
        ids = json.dumps(list(event_ids))
        return self._letters("e.id in (select value from json_each(?))", [ids])

    def settle(self, db: sqlite3.Connection, event_id: str, status: str, reason: str | None = None) -> None:
        """Say that it is known who hears an event, or that nobody may."""
        db.execute("update events set status = ?, reason = ? where id = ?", [status, reason, event_id])

    def newest(
        self, event_type: str | None, persona_id: str | None, slug: str | None, limit: int
    ) -> list[Event]:
        """Events, newest first; of a type, and of those that a persona published or was told, where given."""
        where = ["1"]
        values: builtins.list[Any] = []
        if event_type is not None:
            where.append(f"{_TYPE_KEY.format('event_type')} = {_TYPE_KEY.format('?')}")
            values.append(event_type)
        if persona_id is not None:
            where.append(
                "(source_type <> 'user' and source = ? or target_persona_id = ? or execution_id in "
                "(select id from executions where persona_id = ?) or id in "
                "(select event_id from event_deliveries where persona_id = ?))"
            )
            values += [slug, persona_id, persona_id, persona_id]
        order = "created_at desc, rowid desc"
        return self.find(" and ".join(where), values, order_by=order, limit=limit)

    def flow(self, since: datetime) -> list[FlowEdge]:
        """Who started whom by which events since then, the most frequent first."""
        with self.store.read() as db:
            rows = db.execute(_FLOW, [rfc3339(since)]).fetchall()
        return [FlowEdge.model_validate(dict(row)) for row in rows]


class DeliveryTable(Table[EventDelivery]):
    """The rows of ``event_deliveries``: at most one for an event and a subscription."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "event_deliveries", EventDelivery)
        self._events = EventTable(store)

    def address(
        self, db: sqlite3.Connection, event_id: str, hearers: Iterable[tuple[str, str]], moment: datetime
    ) -> None:
        """Write who hears an event, as (subscription, persona); whoever does already is left as it is."""
        at = rfc3339(moment)
        db.executemany(
            "insert into event_deliveries (id, event_id, subscription_id, persona_id, status, attempts, "
            "next_attempt_at, created_at) values (?, ?, ?, ?, 'pending', 0, ?, ?) "
            "on conflict (event_id, subscription_id) do nothing",
            [(new_id(), event_id, *hearer, at, at) for hearer in hearers],
        )

    def skip(self, event_ids: Iterable[str], listener: Listener, reason: str, moment: datetime) -> None:
        """Write that a subscription missed these events, and why; what it was told already is left as it is."""
        at = rfc3339(moment)
        own = (listener.subscription_id, listener.persona_id, reason, at, at)
        with self.store.write() as db:
            db.executemany(
                "insert into event_deliveries (id, event_id, subscription_id, persona_id, status, reason, attempts, "
                "created_at, updated_at) values (?, ?, ?, ?, 'skipped', ?, 0, ?, ?) "
                "on conflict (event_id, subscription_id) do nothing",
                [(new_id(), event_id, *own) for event_id in event_ids],
            )

    def due(self, moment: datetime, longest: timedelta, limit: int) -> list[EventDelivery]:
        """Deliveries to try now, the longest due first.

        One that is to wait longer than ``longest`` was planned under another clock, and is due too.
        """
        where = (
            "status = 'pending' and (next_attempt_at <= ? or next_attempt_at is null or next_attempt_at > ?)"
        )
        order = "next_attempt_at, rowid"
        return self.find(where, [moment, moment + longest], order_by=order, limit=limit)

    def next_due(self) -> datetime | None:
        """When the next delivery is to be tried again; None where none waits."""
        with self.store.read() as db:
            query = "select min(next_attempt_at) from event_deliveries where status = 'pending'"
            found = db.execute(query).fetchone()[0]
        return datetime.fromisoformat(found) if found else None

    def decide(self, db: sqlite3.Connection, delivery: EventDelivery) -> bool:
        """Write what became of a delivery; False where somebody else did before."""
        fields = ("status", "execution_id", "reason", "attempts", "next_attempt_at", "updated_at")
        row = self.dumped(delivery)
        assignments = ", ".join(f"{name} = ?" for name in fields)
        query = f"update event_deliveries set {assignments} where id = ? and status = 'pending'"
        return db.execute(query, [*(row[name] for name in fields), delivery.id]).rowcount == 1

    def reopen(
        self, db: sqlite3.Connection, event_id: str, delivery_id: str | None, moment: datetime
    ) -> builtins.list[EventDelivery]:
        """Let deliveries of an event that started nobody, or the one, be tried anew; those that wait now."""
        of_these = "event_id = ? and (? is null or id = ?)"
        db.execute(
            "update event_deliveries set status = 'pending', attempts = 0, reason = null, next_attempt_at = ? "
            f"where {of_these} and status in ('dead', 'skipped')",
            [rfc3339(moment), event_id, delivery_id, delivery_id],
        )
        return self.find(f"{of_these} and status = 'pending'", [event_id, delivery_id, delivery_id])

    def dead(self, limit: int) -> builtins.list[DeadLetter]:
        """Dead events and dead deliveries, newest first."""
        with self.store.read() as db:
            rows = db.execute(_DEAD, [limit]).fetchall()
            personas = dict(db.execute("select id, name from personas").fetchall())
        events = self._by_id(self._events, [row["event_id"] for row in rows])
        deliveries = self._by_id(self, [row["delivery_id"] for row in rows if row["delivery_id"]])
        letters = []
        for row in rows:
            event, delivery = events.get(row["event_id"]), deliveries.get(row["delivery_id"] or "")
            if event is None or (row["delivery_id"] and delivery is None):
                continue  # removed in this moment
            persona_id = delivery.persona_id if delivery else event.target_persona_id
            letters.append(
                DeadLetter(
                    id=delivery.id if delivery else event.id,
                    event=event,
                    delivery=delivery,
                    persona_name=personas.get(persona_id, ""),
                    reason=(delivery.reason if delivery else event.reason) or "",
                    at=row["at"],
                )
            )
        return letters

    def _by_id(self, table: Table[Any], ids: Sequence[str]) -> dict[str, Any]:
        return {
            row.id: row for row in table.find("id in (select value from json_each(?))", [json.dumps(ids)])
        }


class SubscriptionTable(Table[Subscription]):
    """The rows of ``subscriptions``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "subscriptions", Subscription)

    def state(self, db: sqlite3.Connection) -> str:
        """A text that is another one after every change of a subscription."""
        row = db.execute("select value from switches where id = 'subscriptions'").fetchone()
        return str(row["value"]) if row else ""

    def listener(self, subscription_id: str) -> Listener | None:
        """One of them as it hears now; None where it is off or gone."""
        with self.store.read() as db:
            row = db.execute(f"{_LISTENERS} and id = ?", [subscription_id]).fetchone()
        return Listener(*row) if row else None

    def listeners(self) -> tuple[str, builtins.list[Listener]]:
        """All that are on, oldest first, and the ``state`` in which they are so."""
        with self.store.read() as db:
            state = self.state(db)  # first: what changes in between is read again the next time
            rows = db.execute(f"{_LISTENERS} order by rowid").fetchall()
        return state, [Listener(*row) for row in rows]
