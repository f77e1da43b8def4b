"""Verbs about events: what happened, who listens, what started nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import now
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.verbs.call import Call
from personas_nb.verbs.filling import cell_input
from personas_nb.verbs.triggering import personas_of
from personas_nb.views import events as views
from personas_nb.views.marks import plural
from personas_nb.views.notices import notice
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.entities.event import Event, EventDelivery, Subscription
    from personas_nb.entities.execution import Execution


def listed(call: Call) -> View:
    """What happened, and who starts whom."""
    events = call.studio.events
    persona = call.studio.personas.get(call["name"]) if call["name"] else None
    every = call["all"] or call["type"] is not None
    newest = events.list(event_type=call["type"], persona=persona, limit=call["limit"] * (1 if every else 10))
    deliveries = {event.id: events.deliveries(event) for event in newest}
    heard = [event for event in newest if every or not _is_noise(event, deliveries[event.id])]
    shown = heard[: call["limit"]]
    return views.event_list(
        shown,
        deliveries=deliveries,
        hidden=len(newest) - len(heard),
        personas=personas_of(call),
        flow=events.flow(days=call["days"]),
        days=call["days"],
        dead=len(events.dead(limit=1_000)),
        status=call.studio.triggers.status(),
        tz=call.tz,
    )


def show(call: Call) -> View:
    """One event, whole."""
    return _card(call, call.studio.events.get(call["id"]))


def publish(call: Call) -> View:
    """Say that something happened."""
    given = call.input() if call.cell is not None else _given(call)
    event = call.studio.events.publish(call["type"], given, source=call["source"])
    is_heard = call.studio.delivering.is_heard(event.id)
    return _card(call, event, said="Published." if is_heard else "Published. Nobody listens to it.")


def subscribe(call: Call) -> View:
    """Let a persona start when something happens."""
    persona = call.studio.personas.get(call["name"])
    before = {one.id: one for one in call.studio.events.subscriptions(persona)}
    one = call.studio.events.subscribe(persona, call["type"], call["from"], allow_bypass=call["allow_bypass"])
    is_same = before.get(one.id) == one
    said = "It is so already: nothing changed." if is_same else f"{persona.name} listens."
    return _subscription(call, one, said, "unchanged" if is_same else "added")


def subscriptions(call: Call) -> View:
    """Who listens to what."""
    persona = call.studio.personas.get(call["name"]) if call["name"] else None
    found = call.studio.events.subscriptions(persona)
    return views.subscription_list(found, personas_of(call), name=persona.slug if persona else "", tz=call.tz)


def unsubscribe(call: Call) -> View:
    """Listen to it no longer."""
    one = call.studio.events.unsubscribe(_found(call).id)
    persona = personas_of(call).get(one.persona_id)
    heard = f"{one.event_type} from {one.source_filter}" if one.source_filter else one.event_type
    said = f"{persona.name if persona else 'It'} listens to {heard} no longer."
    return replace(notice(said, "%persona events subscriptions", status="removed"), value=one)


def enable(call: Call) -> View:
    """Switch a subscription on."""
    before = _found(call)
    after = call.studio.events.enable(before.id, allow_bypass=True if call["allow_bypass"] else None)
    return _switched(call, before, after, "It is on: it hears what happens from now on.", "It is on already")


def disable(call: Call) -> View:
    """Switch a subscription off."""
    before = _found(call)
    return _switched(call, before, call.studio.events.disable(before.id), "It is off.", "It is off already")


def dead(call: Call) -> View:
    """What started nobody."""
    return views.dead_list(call.studio.events.dead(limit=call["limit"]), personas_of(call), tz=call.tz)


def replay(call: Call) -> View:
    """Deliver it again, everything checked anew."""
    studio, reference = call.studio, call["id"]
    if reference == "latest":
        letters = studio.events.dead(limit=1)
        if not letters:
            return views.dead_list([], {}, tz=call.tz)
        reference = letters[0].id
    began = now()
    done = studio.events.replay(reference)
    event = studio.events.get(done[0].event_id if done else reference)
    fresh = [one for one in done if one.updated_at is not None and one.updated_at >= began]
    started = [one.execution_id for one in fresh if one.status == "started" and one.execution_id]
    runs = _waited_for(call, started)
    said = _said_of(runs) if runs else "Delivered again; nothing started."
    status = studio.triggers.status()
    return views.event_card(
        event, done, personas=personas_of(call), runs=runs, said=said, status=status, tz=call.tz
    )


def _waited_for(call: Call, started: Sequence[str]) -> list[Execution]:
    """The runs; in a terminal at their end, for they would end with its command."""
    executions = call.studio.executions
    if not call.surface.is_kernel:
        for execution_id in started:
            executions.handle(execution_id).wait()
    return [executions.get(execution_id) for execution_id in started]


def _said_of(runs: Sequence[Execution]) -> str:
    counts = Counter(run.status for run in runs if run.is_finished or run.status == "waiting")
    ends = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    return f"Delivered again: {plural(len(runs), 'run')} started{f' ({ends})' if ends else ''}."


def _found(call: Call) -> Subscription:
    """The subscription that is meant, as it is before the change."""
    reference = str(call["id"]).strip().lower()
    known = call.studio.events.subscriptions()
    if reference == "latest" and known:
        return known[-1]
    alike = [one for one in known if reference and one.id.startswith(reference)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InvalidInput(f"“{reference}” begins the ids of several subscriptions.", hint="Type more of it.")
    raise NotFound(
        f"There is no subscription “{reference}”.", hint="`%persona events subscriptions` lists them."
    )


def _switched(call: Call, before: Subscription, after: Subscription, said: str, same: str) -> View:
    if before == after:
        return _subscription(call, after, f"{same}: nothing changed.", "unchanged")
    return _subscription(call, after, said)


def _given(call: Call) -> Any:
    return cell_input(call["data"], None) if call["data"] else None


def _is_noise(event: Event, deliveries: Sequence[EventDelivery]) -> bool:
    return event.source_type == "system" and event.status != "dead" and not deliveries


def _card(call: Call, event: Event, said: str = "") -> View:
    found: Sequence[EventDelivery] = call.studio.events.deliveries(event)
    status = call.studio.triggers.status()
    return views.event_card(event, found, personas=personas_of(call), said=said, status=status, tz=call.tz)


def _subscription(call: Call, one: Subscription, said: str, status: str = "completed") -> View:
    persona = personas_of(call).get(one.persona_id)
    return views.subscription_card(one, persona, said=said, status=status, tz=call.tz)
