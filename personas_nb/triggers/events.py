"""The events of a home as a person handles them: publish, subscribe, look at what became of them, replay."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from personas_nb.entities.base import DEPTH_LIMIT, Entity, is_deeper, is_encodable, now
from personas_nb.entities.event import DeadLetter, Event, EventDelivery, FlowEdge, SourceType, Subscription
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound, PersonaError, TooLarge, did_you_mean
from personas_nb.personas.personas import Personas
from personas_nb.personas.reference import by_id
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.events import DeliveryTable, EventTable, SubscriptionTable
from personas_nb.tools.working_for import current_run
from personas_nb.triggers.delivering import Delivering
from personas_nb.triggers.hearing import ACTION, GONE, OFF, skip_pending
from personas_nb.triggers.matching import type_key
from personas_nb.triggers.starts import Starts

if TYPE_CHECKING:
    from personas_nb.engine.dispatch import Dispatcher

E = TypeVar("E", bound=Entity)
NAME_LIMIT_CHARS = 200


class Events:
    """All events of a home, who listens to them, and what each of them started.

    An event starts the personas that listen to its type. Types are the same in any case and with ``-``, ``_`` or
    ``.``; a filter for the source takes ``*`` anywhere. Whichever process fires triggers delivers them.

        studio.events.subscribe("bookkeeper", "invoice_found", source_filter="mail-*")
        studio.events.publish("invoice_found", {"total_eur": 120}, source="mail-scan")

    ``on_change`` is called after something was published or replayed.
    """

    def __init__(
        self,
        store: Store,
        personas: Personas,
        settings: Settings,
        *,
        starts: Starts,
        delivering: Delivering,
        dispatcher: Callable[[], Dispatcher],
        on_change: Callable[[], None],
    ) -> None:
        self._store, self._personas, self._settings = store, personas, settings
        self._starts, self._delivering, self._on_change = starts, delivering, on_change
        self._dispatcher = dispatcher
        self._events, self._deliveries = EventTable(store), DeliveryTable(store)
        self._subscriptions = SubscriptionTable(store)

    def publish(
        self,
        event_type: str,
        data: Any = None,
        *,
        source: str = "user",
        source_type: SourceType = "user",
    ) -> Event:
        """Publish an event; it returns at once, and whoever listens starts when it is delivered.

        ``data`` is what runs are given: an object as JSON has it; anything else comes under ``value``. Secrets that
        the vault knows are taken out of it. A ``persona_action`` starts the persona that its ``target`` names, with
        its ``input``, and no one else.

        Raises ``InvalidInput``, ``TooLarge`` (over ``protocol_object_limit_bytes``) and, for a target that there is
        not, ``NotFound``; nothing is published then.
        """
        if source_type not in get_args(SourceType):
            known = get_args(SourceType)
            hint = did_you_mean(source_type, known, otherwise=f"There are {', '.join(known)}.")
            raise InvalidInput(f"There is no source type “{source_type}”.", hint=hint)
        payload = self._clean(data)
        event = Event(
            event_type=self._starts.redacted(_name(event_type, "event type")),
            source_type=source_type,
            source=self._starts.redacted(_name(source, "source")),
            target_persona_id=self._target(event_type, payload),
            data=payload,
            execution_id=current_run(),  # a function of the notebook publishes for the run that calls it
        )
        event = self._events.insert(event)
        self._on_change()
        return event

    def subscribe(
        self,
        persona: Persona | str,
        event_type: str,
        source_filter: str | None = None,
        *,
        allow_bypass: bool = False,
    ) -> Subscription:
        """Let a persona start at every event of a type that is published from now on.

        ``source_filter`` lets only some sources through: a persona's slug, or a pattern with ``*``; a persona may also
        be given by its name. A persona does not start itself, unless the filter names it. The event type
        ``emit_event`` hears everything that personas emit, whatever its type. An identical subscription is returned
        as it is, and nothing changes. A secret that the vault knows is refused in both.
        """
        listening = self._personas.get(persona)
        wanted = Subscription(
            persona_id=listening.id,
            event_type=self._without_secret(_type(event_type), "event type"),
            source_filter=self._filter(source_filter),
            allow_bypass=allow_bypass,
        )
        with self._store.write():
            for one in self._subscriptions.find("persona_id = ?", [listening.id]):
                if _identity(one) == _identity(wanted):
                    return one
            self._subscriptions.insert(wanted)
            return self._subscription(wanted.id)

    def unsubscribe(self, ref: Subscription | str) -> Subscription:
        """Delete a subscription, given by its id or the beginning of it; what it was.

        What it started goes on; what it heard and nobody delivered yet is recorded as skipped.
        """
        with self._store.write():
            subscription = self._subscription(ref)
            skip_pending(self._store, subscription.id, GONE, now())
            self._subscriptions.delete("id = ?", [subscription.id])
        return subscription

    def subscriptions(self, persona: Persona | str | None = None) -> builtins.list[Subscription]:
        """Subscriptions, oldest first; of one persona where given."""
        if persona is None:
            return self._subscriptions.find(order_by="rowid")
        return self._subscriptions.find("persona_id = ?", [self._personas.get(persona).id], order_by="rowid")

    def enable(self, ref: Subscription | str, *, allow_bypass: bool | None = None) -> Subscription:
        """Switch a subscription on: it hears what is published from now on."""
        return self._switch(ref, True, allow_bypass)

    def disable(self, ref: Subscription | str) -> Subscription:
        """Switch a subscription off; it hears nothing until it is switched on again.

        What it heard and nobody delivered yet is recorded as skipped, and can be replayed.
        """
        return self._switch(ref, False, None)

    def list(
        self,
        *,
        event_type: str | None = None,
        persona: Persona | str | None = None,
        limit: int = 50,
    ) -> builtins.list[Event]:
        """Events, newest first, those of the system included; of a type, and of those that a persona published or
        heard, where given.
        """
        who = self._personas.get(persona) if persona is not None else None
        return self._events.newest(event_type, who.id if who else None, who.slug if who else None, limit)

    def get(self, ref: Event | str) -> Event:
        """One event by its id, the beginning of it, or ``latest``."""
        if ref == "latest":
            newest = self.list(limit=1)
            if not newest:
                raise NotFound(
                    "There is no event yet.", hint="Publish one with `%persona events publish TYPE`."
                )
            return newest[0]
        ref = _id(ref)
        found = by_id(self._events, ref, _label)
        if found is None:
            raise NotFound(f"There is no event “{ref}”.", hint="`%persona events` lists them.")
        return found

    def deliveries(self, event: Event | str) -> builtins.list[EventDelivery]:
        """What became of an event at each of its subscriptions; none where nobody hears it, or it is pending."""
        return self._deliveries.find("event_id = ?", [self.get(event).id])

    def dead(self, limit: int = 50) -> builtins.list[DeadLetter]:
        """Events and deliveries that started nobody and will not by themselves, newest first."""
        return self._deliveries.dead(limit)

    def replay(self, ref: DeadLetter | EventDelivery | Event | str) -> builtins.list[EventDelivery]:
        """Try again, now, what of an event started nobody; its deliveries as they are then.

        ``ref`` is the id of a dead letter, of a delivery or of an event, or the beginning of one. Everything is
        checked again: the target, the chain's length, the subscription, the persona, its queue. What was started is
        not started again. The list is empty where the event stays a dead letter: its ``reason`` says why. Runs go on
        in this process, as those of `Triggers.fire`.
        """
        ref = _id(ref)
        delivery = by_id(self._deliveries, ref, _label)
        if delivery is not None:
            self._again(delivery.event_id, delivery.id)
            return self._deliveries.find("id = ?", [delivery.id])
        event = by_id(self._events, ref, _label)
        if event is None:
            raise NotFound(f"There is no dead letter “{ref}”.", hint="`%persona events dead` lists them.")
        if self._is_targeted(event):
            self._again(event.id)
        return self.deliveries(event)

    def flow(self, days: int = 7) -> builtins.list[FlowEdge]:
        """Who started whom by which events in the last days, the most frequent first."""
        if not isinstance(days, int) or isinstance(days, bool) or days < 0:
            raise InvalidInput("“days” must be a whole number, 0 or more.", hint="Such as days=7.")
        try:
            since = now() - timedelta(days=days)
        except OverflowError:  # longer ago than the calendar goes
            since = datetime.min.replace(tzinfo=UTC)
        return self._events.flow(since)

    def _again(self, event_id: str, delivery_id: str | None = None) -> None:
        dispatcher = self._dispatcher()
        for run_id in self._delivering.again(event_id, delivery_id, worker_id=dispatcher.worker.id):
            dispatcher.started(run_id)
        self._on_change()

    def _switch(self, ref: Subscription | str, enabled: bool, allow_bypass: bool | None) -> Subscription:
        with self._store.write():
            subscription = self._subscription(ref)
            fields: dict[str, Any] = {} if subscription.enabled == enabled else {"enabled": enabled}
            if allow_bypass is not None and allow_bypass != subscription.allow_bypass:
                fields["allow_bypass"] = allow_bypass
            if not enabled:
                skip_pending(self._store, subscription.id, OFF, now())
            self._subscriptions.update(subscription.id, **fields)
            return self._subscription(subscription.id)

    def _subscription(self, ref: Subscription | str) -> Subscription:
        ref = _id(ref)
        found = by_id(self._subscriptions, ref, lambda one: f"{one.event_type} ({one.id[:8]})")
        if found is None:
            raise NotFound(
                f"There is no subscription “{ref}”.", hint="`%persona events subscriptions` lists them."
            )
        return found

    def _filter(self, source_filter: str | None) -> str | None:
        """The filter as it is kept; a persona's name or id as its slug, because that is what its events say."""
        is_blank = source_filter is None or (isinstance(source_filter, str) and not source_filter.strip())
        text = (
            "" if is_blank else self._without_secret(_name(source_filter, "source filter"), "source filter")
        )
        if not text.strip("*"):
            return None
        if "*" in text:
            return text
        try:
            return self._personas.get(text).slug
        except PersonaError:  # no persona, or several: the name of another source
            return text

    def _without_secret(self, name: str, what: str) -> str:
        """The name; one that holds a secret could be taken out of it, but then no event would fit."""
        if self._starts.redacted(name) != name:
            raise InvalidInput(
                f"The {what} holds a secret of the vault, which would be stored in the clear.",
                hint="Give another one; events are published without secrets.",
            )
        return name

    def _target(self, event_type: str, data: dict[str, Any]) -> str | None:
        if type_key(event_type) != ACTION:
            return None
        target = data.get("target")
        if not isinstance(target, str) or not target.strip():
            raise InvalidInput(
                "A persona_action names no target.", hint='Give {"target": "NAME", "input": …} as its data.'
            )
        return self._personas.get(target).id

    def _is_targeted(self, event: Event) -> bool:
        """False for an action whose target there is not; where it is there now, the action is given to it."""
        if type_key(event.event_type) != ACTION or event.target_persona_id is not None:
            return True
        try:
            target = self._target(event.event_type, event.data)
        except PersonaError as error:
            self._events.update(event.id, reason=error.message)
            return False
        self._events.update(event.id, target_persona_id=target)
        return True

    def _clean(self, data: Any) -> dict[str, Any]:
        """What is published, as JSON has it, without secrets."""
        given = data if isinstance(data, dict) else {} if data is None else {"value": data}
        try:
            text = json.dumps(given, ensure_ascii=False, allow_nan=False)
        except RecursionError:
            raise _too_deep() from None
        except (TypeError, ValueError):
            raise InvalidInput(
                "The data of an event cannot be written as JSON.",
                hint="Give texts, numbers, lists and dicts; a DataFrame as df.to_dict('records').",
            ) from None
        if is_deeper(given):
            raise _too_deep()
        limit = self._settings.protocol_object_limit_bytes
        if (size := len(text.encode("utf-8", "surrogatepass"))) > limit:
            raise TooLarge(
                f"The event's data are {size:,} bytes; {limit:,} may be published.",
                hint="Publish where the data are instead, such as the path of a file.",
            )
        payload: dict[str, Any] = json.loads(text)
        if self._starts.redacted(text) == text:
            return payload
        cleaned: dict[str, Any] = self._redacted(payload)
        return cleaned

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._starts.redacted(key): self._redacted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._redacted(item) for item in value]
        text = value if isinstance(value, str) else json.dumps(value)
        redacted = self._starts.redacted(text)
        return value if redacted == text else redacted


def _id(ref: Event | EventDelivery | DeadLetter | Subscription | str) -> str:
    if isinstance(ref, str):
        return ref.strip()
    if not isinstance(ref, Event | EventDelivery | DeadLetter | Subscription):
        raise InvalidInput(
            f"A {type(ref).__name__} names nothing here.", hint="Give an id, or the beginning of one."
        )
    return ref.id


def _too_deep() -> InvalidInput:
    return InvalidInput(
        f"The data of an event are nested deeper than {DEPTH_LIMIT} levels.",
        hint="Publish them flatter, or as a text.",
    )


def _label(row: Event | EventDelivery) -> str:
    return f"{row.event_type} ({row.id[:8]})" if isinstance(row, Event) else row.id[:8]


def _name(text: Any, what: str) -> str:
    name = " ".join(text.split()) if isinstance(text, str) else ""
    if not name or len(name) > NAME_LIMIT_CHARS:
        raise InvalidInput(
            f"The {what} must be a text of 1 to {NAME_LIMIT_CHARS} characters.", hint="Give another one."
        )
    if not is_encodable(name):
        raise InvalidInput(f"The {what} holds half a character (a lone surrogate).", hint="Leave it out.")
    return name


def _type(event_type: Any) -> str:
    name = _name(event_type, "event type")
    if "*" in name:
        raise InvalidInput(
            "An event type takes no “*”; a source filter does.", hint="Subscribe to each type that is meant."
        )
    return name


def _identity(subscription: Subscription) -> tuple[str, str, str]:
    return (
        subscription.persona_id,
        type_key(subscription.event_type),
        (subscription.source_filter or "").lower(),
    )
