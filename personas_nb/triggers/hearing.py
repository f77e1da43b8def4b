"""Which subscriptions hear an event, and what becomes of what one heard when it is switched off or goes."""

from __future__ import annotations

from datetime import datetime

from personas_nb.entities.event import Event
from personas_nb.store.database import Store
from personas_nb.store.events import DeliveryTable, EventTable, Letter, Listener, SubscriptionTable
from personas_nb.triggers.matching import Matcher, names, type_key

ACTION, EMITTED = "persona_action", "emit_event"
OFF = "The subscription was switched off before it was delivered."
GONE = "The subscription was removed before it was delivered."
_AT_ONCE = 200  # events that are in memory with their data


def listening(letter: Letter, event: Event, matcher: Matcher[Listener]) -> list[tuple[str, str]]:
    """Who hears an event by a subscription, as (subscription, persona)."""
    found = matcher.match(event.event_type, event.source)
    if event.source_type == "persona" and type_key(event.event_type) != EMITTED:
        found += matcher.match(EMITTED, event.source)  # hears whatever a persona emits
    return [
        (listener.subscription_id, listener.persona_id)
        for listener in found
        if letter.number > listener.after_event and not _is_own(letter, event, listener)
    ]


def skip_pending(store: Store, subscription_id: str, reason: str, moment: datetime) -> int:
    """Record as skipped what a subscription heard and nobody delivered yet, before it hears no more; how many.

    To be called in the transaction that switches it off or deletes it. What was addressed to it already is decided
    when it is delivered.
    """
    listener = SubscriptionTable(store).listener(subscription_id)
    if listener is None:
        return 0
    events, deliveries = EventTable(store), DeliveryTable(store)
    matcher = Matcher([(listener.event_type, listener.source_filter, listener)])
    kinds = {type_key(listener.event_type)}
    waiting = [
        event_id
        for event_id, event_type, source_type in events.pending_after(listener.after_event)
        if type_key(event_type) in kinds or (EMITTED in kinds and source_type == "persona")
    ]
    count = 0
    for start in range(0, len(waiting), _AT_ONCE):
        letters = events.of_ids(waiting[start : start + _AT_ONCE])
        heard = [letter.event_id for letter in letters if _is_heard(letter, matcher)]
        deliveries.skip(heard, listener, reason, moment)
        count += len(heard)
    return count


def _is_heard(letter: Letter, matcher: Matcher[Listener]) -> bool:
    event = letter.event
    if event is None or event.target_persona_id is not None or type_key(event.event_type) == ACTION:
        return False  # nobody hears it by a subscription
    return bool(listening(letter, event, matcher))


def _is_own(letter: Letter, event: Event, listener: Listener) -> bool:
    """Whether a persona would start itself, by a filter that does not name it."""
    if letter.origin_id != listener.persona_id:
        return False
    return event.source_type == "user" or not names(listener.source_filter, event.source)
