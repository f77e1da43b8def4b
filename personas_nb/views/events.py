"""Events: what happened, who heard it, what came of it, who listens, and who starts whom as a graph."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from personas_nb.entities.event import DeadLetter, Event, EventDelivery, FlowEdge, Subscription
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import TriggerStatus
from personas_nb.views import marks
from personas_nb.views.fires import remedy
from personas_nb.views.loop import loop_steps
from personas_nb.views.marks import (
    REHEARSAL,
    Cell,
    Code,
    Mark,
    Number,
    Short,
    Words,
    one_line,
    plural,
    short_id,
)
from personas_nb.views.mermaid import Arrow, Box, fence
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

MAX_ARROWS = 40
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
Deliveries = Mapping[str, Sequence[EventDelivery]]


def event_list(
    events: Sequence[Event],
    *,
    deliveries: Deliveries | None = None,
    personas: Mapping[str, Persona] | None = None,
    flow: Sequence[FlowEdge] = (),
    days: int = 7,
    dead: int = 0,
    hidden: int = 0,
    status: TriggerStatus | None = None,
    tz: str = "UTC",
) -> View:
    """Events, the newest first, with what came of each; ``deliveries`` by their ids, ``personas`` by theirs.

    ``flow`` is who started whom, drawn as a graph of its own. ``hidden`` is how many of the system are left out, which
    nobody heard.
    """
    personas = personas or {}
    page = Page("Events", detail=_counts(events, dead))
    if not events and not hidden:
        page.sentence("Nothing has happened yet. Runs, messages and decisions are events too.")
        steps: list[Step] = [
            ("%persona events subscribe NAME TYPE", "let a persona start when something happens"),
            ('%persona events publish TYPE {"key": "value"}', "say that something happened"),
        ]
        return page.next(steps).view([])
    page.table(
        (f"when ({tz})", "id", "event", "from", "data", "what came of it"),
        [
            [
                Short(marks.instant(event.created_at, tz)),
                Code(short_id(event.id)),
                Code(one_line(event.event_type, 60)),
                Short(source_words(event)),
                one_line(_data(event), 80),
                became(event, (deliveries or {}).get(event.id, ()), personas),
            ]
            for event in events
        ],
    )
    steps = [("%persona events dead", f"look at {plural(dead, 'dead letter')}")] if dead else []
    if hidden:
        said = f"{plural(hidden, 'event')} of the system that nobody heard {'is' if hidden == 1 else 'are'} left out."
        page.sentence(said, faint=True)
        steps.append(("%persona events list --all", "all of them"))
    if any(event.status == "pending" for event in events):
        steps += _delivery(page, status)
    if events:
        steps.append((f"%persona events show {short_id(events[0].id)}", "one of them, whole"))
    graph = flow_graph(flow, days=days)
    return replace(page.next(steps).view(list(events)), also=(graph,) if graph else ())


def _delivery(page: Page, status: TriggerStatus | None) -> list[Step]:
    """Say who delivers events, where nobody does; what to type then."""
    if status is None or status.is_running or status.stands_by:
        return []
    page.sentence("Nothing delivers events now: they wait until some process fires triggers.", status="off")
    return loop_steps(status)


def flow_graph(flow: Sequence[FlowEdge], *, days: int = 7) -> View | None:
    """Who started whom by which event, as a mermaid graph with its twin in words; None where nobody did."""
    edges = sorted(flow, key=lambda edge: -edge.count)[:MAX_ARROWS]
    if not edges:
        return None
    said = f"Who starts whom · the last {plural(days, 'day')}"
    if len(flow) > len(edges):
        said += f" · the {len(edges)} most frequent of {len(flow):,}"
    ends = list(dict.fromkeys(end for edge in edges for end in (_source(edge), _target(edge))))
    boxes = [Box((name,), colour, is_round=kind != "persona") for kind, name, colour in ends]
    arrows = [
        Arrow(ends.index(_source(edge)), ends.index(_target(edge)), f"{edge.event_type} × {edge.count:,}")
        for edge in edges
    ]
    rows: list[list[Cell]] = [
        [_source(edge)[1], "→", Code(edge.event_type), "→", _target(edge)[1], Number(f"{edge.count:,} ×")]
        for edge in edges
    ]
    words = f"{said}\n{marks.table_text((), rows)}"
    return View(
        words,
        "",
        markdown=f"**Who starts whom** · {said.partition(' · ')[2]}\n\n{fence(boxes, arrows)}",
        alt=words,
    )


def event_card(
    event: Event,
    deliveries: Sequence[EventDelivery] = (),
    *,
    personas: Mapping[str, Persona] | None = None,
    runs: Sequence[Execution] = (),
    said: str = "",
    status: TriggerStatus | None = None,
    tz: str = "UTC",
) -> View:
    """One event, whole, and what became of it at each that heard it; ``runs`` are those that it has just started."""
    personas = personas or {}
    page = Page(
        one_line(event.event_type, 80),
        sign=_sign(event, deliveries),
        detail=f"event {short_id(event.id)}",
        rehearsal=event.rehearsal,
    )
    page.sentence(said)
    page.sentence(one_line(event.reason or "", 400), status="dead" if event.reason else "")
    target = personas.get(event.target_persona_id or "")
    page.facts(
        [
            ("happened", f"{marks.instant(event.created_at, tz)} {tz}"),
            ("from", source_words(event)),
            ("meant for", target.slug if target else None),
            ("chain", f"number {event.depth} of a chain" if event.depth else None),
            ("sent by run", Code(short_id(event.execution_id)) if event.execution_id else None),
        ]
    )
    if event.data:
        page.fixed(json.dumps(event.data, indent=2, ensure_ascii=False, default=str)[:20_000], heading="Data")
    page.table(
        ("persona", "", "run", "why", "attempts", f"again ({tz})"),
        [_delivery_row(one, personas, tz) for one in deliveries],
        heading="What came of it",
    )
    if event.status == "processed" and not deliveries:
        page.sentence("Nobody listened to it.")
    is_waiting = event.status == "pending" or any(one.status == "pending" for one in deliveries)
    steps = _delivery(page, status) if is_waiting else []
    return page.next([*steps, *_event_steps(event, deliveries, personas, runs)]).view(event)


def dead_list(letters: Sequence[DeadLetter], personas: Mapping[str, Persona], *, tz: str = "UTC") -> View:
    """What should have started a persona and never will by itself, each with its reason."""
    page = Page("Dead letters", detail=plural(len(letters), "dead letter") if letters else "")
    if not letters:
        page.sentence("Every event came where it should.", status="done")
        return page.next([("%persona events", "what happened")]).view([])
    rows: list[list[Cell]] = []
    steps: dict[str, Step] = {}
    for letter in letters:
        persona = personas.get(letter.delivery.persona_id or "") if letter.delivery else None
        rows.append(
            [
                Short(marks.moment(letter.at, tz)),
                Code(short_id(letter.id)),
                Code(one_line(letter.event.event_type, 60)),
                Short(source_words(letter.event)),
                Code(persona.slug) if persona else one_line(letter.persona_name, 40),
                Words(one_line(letter.reason, 200)),
                Number(f"{letter.delivery.attempts:,}" if letter.delivery else ""),
            ]
        )
        if step := remedy(letter.reason, "", persona):
            steps.setdefault(step[0], step)
    page.table((f"dead since ({tz})", "id", "event", "from", "for", "why", "attempts"), rows)
    replay = f"%persona events replay {short_id(letters[0].id)}"
    return page.next([*list(steps.values())[:3], (replay, "try again; everything is checked anew")]).view(
        list(letters)
    )


def subscription_list(
    subscriptions: Sequence[Subscription], personas: Mapping[str, Persona], *, name: str = "", tz: str = "UTC"
) -> View:
    """Who listens to what."""
    page = Page(f"Subscriptions of {name}" if name else "Subscriptions",
                detail=plural(len(subscriptions), "subscription") if subscriptions else "")  # fmt: skip
    if not subscriptions:
        page.sentence("It listens to nothing." if name else "No persona listens to anything.")
    rows: list[list[Cell]] = []
    for one in subscriptions:
        persona = personas.get(one.persona_id)
        step = _subscription_remedy(one, persona)
        rows.append(
            [
                Code(short_id(one.id)),
                subscription_sign(one, persona),
                Code(persona.slug if persona else short_id(one.persona_id)),
                Code(one_line(one.event_type, 60)),
                from_words(one),
                Short(marks.moment(one.created_at, tz)),
                Code(step[0]) if step else "",
            ]
        )
    page.table(("id", "", "persona", "listens to", "from", f"since ({tz})", "what to do"), rows)
    steps: list[Step] = [(f"%persona events subscribe {name or 'NAME'} TYPE", "one more")]
    if subscriptions:
        steps.append(
            (f"%persona events unsubscribe {short_id(subscriptions[0].id)}", "listen to it no longer")
        )
    return page.next(steps).view(list(subscriptions))


def subscription_card(
    one: Subscription,
    persona: Persona | None = None,
    *,
    said: str = "",
    status: str = "completed",
    tz: str = "UTC",
) -> View:
    """One subscription."""
    page = Page(
        persona.name if persona else "Subscription",
        sign=subscription_sign(one, persona),
        detail=f"subscription {short_id(one.id)}",
    )
    page.sentence(said, status=status if said else "")
    page.facts(
        [
            ("starts when", Code(one_line(one.event_type, 100))),
            ("comes from", from_words(one)),
            ("since", f"{marks.moment(one.created_at, tz)} {tz}; only what happens after that is heard"),
            ("starts “bypass”", "yes, you allowed it" if one.allow_bypass else None),
        ]
    )
    step = _subscription_remedy(one, persona)
    steps: list[Step] = [step] if step else []
    steps += [
        (f'%persona events publish {one_line(one.event_type, 60)} {{"key": "value"}}', "try it"),
        (f"%persona events unsubscribe {short_id(one.id)}", "listen to it no longer"),
    ]
    return page.next(steps).view(one)


def subscription_sign(one: Subscription, persona: Persona | None) -> Mark:
    """Whether a subscription can start its persona."""
    if not one.enabled:
        return marks.mark("off")
    if persona is not None and (persona.archived_at or not persona.enabled):
        return marks.mark("off")._replace(
            word="on, but its persona is " + ("archived" if persona.archived_at else "off")
        )
    if persona is not None and persona.permissions == "bypass" and not one.allow_bypass:
        return Mark("?", "on, but nobody allowed “bypass”", marks.PLUM)
    return marks.mark("on")


def source_words(event: Event) -> str:
    """Who an event is from."""
    name = one_line(event.source, 40)
    return f"{event.source_type} {name}" if name and name != event.source_type else event.source_type


def from_words(one: Subscription) -> str:
    """From whom a subscription hears."""
    return one_line(one.source_filter, 60) if one.source_filter else "anybody"


def became(event: Event, deliveries: Sequence[EventDelivery], personas: Mapping[str, Persona]) -> Cell:
    """What came of an event, in a cell."""
    sign = _sign(event, deliveries)
    started = [one for one in deliveries if one.status == "started"]
    others = [one for one in deliveries if one.status != "started"]
    said = [f"{_who(one, personas)} ({short_id(one.execution_id or '')})" for one in started[:3]]
    if len(started) > 3:
        said.append(f"{len(started) - 3:,} more")
    parts = [
        f"started {', '.join(said)}" if said else "",
        *(f"{_who(one, personas)}: {one_line(one.reason or _STATES[one.status], 90)}" for one in others[:2]),
        one_line(event.reason or "", 100),
    ]
    words = "; ".join(part for part in parts if part) or _word(event, deliveries)
    rehearsal = f" · {REHEARSAL.word}" if event.rehearsal else ""
    return sign._replace(word=words + rehearsal)


_STATES = {"pending": "tried again soon", "started": "started", "skipped": "skipped", "dead": "dead"}


def _sign(event: Event, deliveries: Sequence[EventDelivery]) -> Mark:
    if event.status == "dead" or any(one.status == "dead" for one in deliveries):
        return marks.mark("dead")
    if event.status == "pending" or any(one.status == "pending" for one in deliveries):
        return Mark("▶", "on its way", marks.BLUE)
    if any(one.status == "started" for one in deliveries):
        return marks.mark("started")
    return Mark("○", _word(event, deliveries), marks.GREY)


def _word(event: Event, deliveries: Sequence[EventDelivery]) -> str:
    if event.status == "pending":
        return "on its way"
    return "skipped" if deliveries else "nobody listens"


def _delivery_row(one: EventDelivery, personas: Mapping[str, Persona], tz: str) -> list[Cell]:
    sign = Mark("▶", "tried again", marks.BLUE) if one.status == "pending" else marks.mark(one.status)
    return [
        _who(one, personas),
        sign,
        Code(short_id(one.execution_id or "")),
        Words(one_line(one.reason or "", 200)),
        Number(f"{one.attempts:,}" if one.attempts > 1 else ""),
        Short(
            marks.instant(one.next_attempt_at, tz) if one.status == "pending" and one.next_attempt_at else ""
        ),
    ]


def _event_steps(
    event: Event,
    deliveries: Sequence[EventDelivery],
    personas: Mapping[str, Persona],
    runs: Sequence[Execution],
) -> list[Step]:
    steps: list[Step] = []
    dead = [one for one in deliveries if one.status in ("dead", "skipped")]
    found = (remedy(one.reason, "", personas.get(one.persona_id or "")) for one in dead[:2])
    steps += dict.fromkeys(step for step in found if step)
    if dead or event.status == "dead":
        steps.append(
            (f"%persona events replay {short_id(event.id)}", "try again; everything is checked anew")
        )
    started = next((one.execution_id for one in deliveries if one.execution_id), None)
    if over := [run for run in runs if run.is_finished]:
        steps.append((f"%persona runs show {short_id(over[0].id)}", "everything that happened in the run"))
    elif started:
        steps.append((f"%persona runs wait {short_id(started)}", "follow the run that it started"))
    if event.execution_id:
        steps.append((f"%persona runs show {short_id(event.execution_id)}", "the run that sent it"))
    if not deliveries and event.status == "processed":
        steps.append(
            (
                f"%persona events subscribe NAME {one_line(event.event_type, 60)}",
                "let a persona hear the next",
            )
        )
    return steps


def _subscription_remedy(one: Subscription, persona: Persona | None) -> tuple[str, str] | None:
    if not one.enabled:
        return (f"%persona events enable {short_id(one.id)}", "listen again")
    if persona is not None and (persona.archived_at or not persona.enabled):
        return (f"%persona enable {persona.slug}", "let its persona run again")
    if persona is not None and persona.permissions == "bypass" and not one.allow_bypass:
        return (
            f"%persona events enable {short_id(one.id)} --allow-bypass",
            "let it start a persona that may do everything",
        )
    return None


def _counts(events: Sequence[Event], dead: int) -> str:
    said = [plural(len(events), "event") if events else "", plural(dead, "dead letter") if dead else ""]
    return " · ".join(part for part in said if part)


def _who(one: EventDelivery, personas: Mapping[str, Persona]) -> str:
    persona = personas.get(one.persona_id or "")
    return persona.slug if persona else short_id(one.persona_id or one.subscription_id)


def _data(event: Event) -> str:
    values = [(key, value) for key, value in event.data.items() if value is not None][:6]
    return ", ".join(f"{key}: {_ID.sub(_beginning, _value(value)[:80])}" for key, value in values)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _beginning(found: re.Match[str]) -> str:
    return short_id(found[0])


def _source(edge: FlowEdge) -> tuple[str, str, str]:
    kind = edge.source_type
    name = one_line(edge.source or kind, 40)
    return (
        kind,
        name if kind == "persona" else f"{kind} {name}".removesuffix(f" {kind}"),
        marks.BLUE if kind == "persona" else "",
    )


def _target(edge: FlowEdge) -> tuple[str, str, str]:
    return ("persona", one_line(edge.target, 40), marks.BLUE)
