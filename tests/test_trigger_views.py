"""What triggers, fires, the loop and events look like: complete as text, right without style, and never a secret."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from test_views import ALLOWED, HOSTILE, Reader

from personas_nb.entities.event import DeadLetter, Event, EventDelivery, FlowEdge, Subscription
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import UNCHANGED, Fire, NextDue, Trigger, TriggerStatus
from personas_nb.views import events, fires, loop, triggers
from personas_nb.views.view import View

NOON = datetime(2026, 11, 21, 11, 0, tzinfo=UTC)
BERLIN = "Europe/Berlin"
CLERK = Persona(name="Clerk", slug="clerk", created_at=NOON)
DAILY = Trigger(
    id="4a1f0c8e-0000-4000-8000-000000000001",  # it names tests
    persona_id=CLERK.id,
    trigger_type="schedule",
    config={"cron": "0 9 * * 1-5", "timezone": "America/New_York"},
    next_trigger_at=NOON + timedelta(days=2, hours=3),
    created_at=NOON,
)
IDLE = TriggerStatus(enabled_count=1, at=NOON)
FIRING = IDLE.changed(
    is_running=True, kind="headless", host="box", pid=42, since=NOON, fired=3, late=1, worst_late_ms=3_200
)


def fire(**fields: object) -> Fire:
    given: dict[str, object] = {
        "trigger_id": DAILY.id,
        "key": "k",
        "kind": "schedule",
        "due_at": NOON,
        "status": "skipped",
        "late_ms": 12,
        "decided_at": NOON,
    }
    return Fire.model_validate({**given, **fields})


def run_of(status: str, **fields: object) -> Execution:
    return Execution.model_validate(
        {"persona_id": CLERK.id, "persona_name": "Clerk", "status": status, **fields}
    )


def all_views(text: str) -> dict[str, View]:
    """Every view, with ``text`` wherever a person, a file or a stranger may have written it."""
    word = " ".join(text.split())[:150] or "w"
    persona = CLERK.changed(name=word)
    trigger = DAILY.changed(
        description=text, config={"cron": text, "timezone": text, "url": text, text: text, "catch_up": text}
    )
    skipped = fire(reason=text, kind="webhook")
    paused = FIRING.changed(
        is_paused=True,
        pause_reason=text,
        paused_at=NOON,
        host=text,
        dead_letters=2,
        next_due=(NextDue(trigger_id=trigger.id, persona=word, description=text, due_at=NOON),),
        unplannable={trigger.id: text},
    )
    happened = Event(
        event_type=word, source=text, data={text: text}, status="dead", reason=text, created_at=NOON
    )
    delivery = EventDelivery(
        event_id=happened.id,
        subscription_id="s",
        persona_id=persona.id,
        status="dead",
        reason=text,
        attempts=2,
    )
    letter = DeadLetter(
        id=delivery.id, event=happened, delivery=delivery, persona_name=text, reason=text, at=NOON
    )
    listens = Subscription(persona_id=persona.id, event_type=word, source_filter=text, created_at=NOON)
    edge = FlowEdge(source=text, source_type="user", event_type=word, target=text, count=3, last_at=NOON)
    who, by_trigger = {persona.id: persona}, {trigger.id: persona}
    graph = events.flow_graph([edge])
    assert graph is not None
    return {
        "trigger_list": triggers.trigger_list([trigger], who, last={trigger.id: skipped}, status=paused, name=text),
        "trigger_card": triggers.trigger_card(
            trigger, persona=persona, next_due=[NOON], fires=[skipped], status=IDLE, said=text, note=text, address=text
        ),
        "fire_list": fires.fire_list([skipped], personas=by_trigger, title=text),
        "fire_card": fires.fire_card(skipped, persona=persona),
        "status_card": loop.status_card(paused, by_trigger, late=[skipped], said=text),
        "event_list": events.event_list([happened], deliveries={happened.id: [delivery]}, personas=who, dead=1),
        "event_card": events.event_card(happened, [delivery], personas=who, said=text),
        "dead_list": events.dead_list([letter], who),
        "subscription_list": events.subscription_list([listens], who, name=text),
        "subscription_card": events.subscription_card(listens, persona, said=text),
        "flow": graph,
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(all_views("x")))
def test_hostile_text_stays_text(name: str) -> None:
    view = all_views(HOSTILE)[name]
    reader = Reader(view.html)
    assert reader.tags <= ALLOWED
    assert set(reader.attributes) <= {"style", "class"}
    assert "\x1b" not in view.text + view.html
    assert "alert(1)" in view.text


@given(st.text(max_size=300))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_gives_well_formed_views_that_can_be_sent(text: str) -> None:
    for view in all_views(text).values():
        assert Reader(view.html).tags <= ALLOWED
        (view.text + view.html + (view.markdown or "")).encode("utf-8")


@pytest.mark.parametrize("name", sorted(all_views("x")))
def test_plain_text_says_everything_that_html_says(name: str) -> None:
    view = all_views("Some plain words")[name]
    said = set(view.text.replace("-", " ").replace("+", " ").split()) | set(view.text.split())
    assert set(Reader(view.html).words) <= said


# -- triggers ----------------------------------------------------------------------------------------------


def test_a_card_tells_times_in_the_triggers_own_zone_and_says_which() -> None:
    text = triggers.trigger_card(DAILY, persona=CLERK, next_due=[NOON + timedelta(hours=3)], tz=BERLIN).text
    assert "every weekday at 09:00 (America/New_York)" in text
    assert "next (America/New_York)  Sat 2026-11-21 09:00" in text


def test_a_trigger_that_is_off_says_how_to_switch_it_on_wherever_it_is_shown() -> None:
    off = DAILY.changed(enabled=False, next_trigger_at=None)
    step = f"%persona triggers enable {off.id[:8]}"
    card = triggers.trigger_card(off, persona=CLERK, next_due=[NOON], status=IDLE).text
    assert "○ off" in card
    assert "would be due" in card
    assert step in card
    assert step in triggers.trigger_list([off], {CLERK.id: CLERK}, status=IDLE).text


@pytest.mark.parametrize(
    ("persona", "sign", "step"),
    [
        (CLERK.changed(enabled=False), "○ on, but its persona is off", "%persona enable clerk"),
        (CLERK.changed(archived_at=NOON), "○ on, but its persona is archived", "%persona enable clerk"),
        (
            CLERK.changed(permissions="bypass"),
            "? on, but nobody allowed “bypass”",
            f"%persona triggers enable {DAILY.id[:8]} --allow-bypass",
        ),
    ],
)
def test_what_stands_in_the_way_of_a_trigger_that_is_on_is_said(
    persona: Persona, sign: str, step: str
) -> None:
    view = triggers.trigger_list([DAILY], {persona.id: persona}, status=FIRING)
    assert sign in view.text
    assert step in view.text
    assert step in triggers.trigger_card(DAILY, persona=persona, status=FIRING).text


def test_where_nothing_fires_the_list_and_the_card_say_how_to_begin() -> None:
    for text in (
        triggers.trigger_list([DAILY], {CLERK.id: CLERK}, status=IDLE).text,
        triggers.trigger_card(DAILY, persona=CLERK, status=IDLE).text,
    ):
        assert "○ Nothing fires triggers now" in text
        assert "%persona triggers start" in text
        assert "personas triggers run" in text
    assert "%persona triggers start" not in triggers.trigger_card(DAILY, persona=CLERK, status=FIRING).text


def test_what_should_have_been_decided_already_is_overdue() -> None:
    late = DAILY.changed(next_trigger_at=NOON - timedelta(minutes=5))
    assert "▲ 2026-11-21 11:55, overdue" in triggers.trigger_list([late], {}, status=IDLE, tz=BERLIN).text


def test_no_view_of_a_webhook_shows_its_secret_unless_a_terminal_asked() -> None:
    hook = Trigger(persona_id=CLERK.id, trigger_type="webhook", secret=SecretStr("hush-0123456789abcdef"))
    hook = hook.changed(config={"credential_id": "c-1", "secret": "hush-0123456789abcdef"})
    views = [
        triggers.trigger_card(hook, persona=CLERK, secret_hint=["elsewhere"]),
        triggers.trigger_list([hook], {CLERK.id: CLERK}),
    ]
    assert not any("hush" in view.text + view.html for view in views)
    assert "hush" in triggers.trigger_card(hook, secret="hush").text
    assert "Jupyter server" in views[0].text


def test_every_object_shows_itself_in_a_notebook_in_the_persons_zone() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from personas_nb.views.register import register

    shell = InteractiveShell()
    register(shell, zone=lambda: BERLIN)
    listens = Subscription(persona_id=CLERK.id, event_type="order", created_at=NOON)
    happened = Event(event_type="order", created_at=NOON)
    for entity, said in (
        (DAILY, "every weekday at 09:00"),
        (fire(reason="Missed."), "2026-11-21 12:00:00 Europe/Berlin"),
        (FIRING, "since 2026-11-21 12:00:00 Europe/Berlin"),
        (happened, "2026-11-21 12:00:00 Europe/Berlin"),
        (listens, "2026-11-21 12:00 Europe/Berlin; only"),
    ):
        shown, _ = shell.display_formatter.format(entity)
        assert said in shown["text/plain"]
        assert "<table" in shown["text/html"]


# -- fires -------------------------------------------------------------------------------------------------


def test_a_fire_has_the_mark_of_its_run_its_lateness_and_its_zone() -> None:
    run = run_of("failed", error="The key was refused.")
    shown = fires.fire_list(
        [fire(status="queued", execution_id=run.id, late_ms=3_200)],
        personas={DAILY.id: CLERK},
        runs={run.id: run},
        tz=BERLIN,
    )
    for said in (
        "due (Europe/Berlin)",
        "2026-11-21 12:00:00",
        "✕ failed",
        "The key was refused.",
        "▲ 3.2 s late",
        "1 late, at worst 3.2 s",
        f"%persona runs show {run.id[:8]}",
    ):
        assert said in shown.text


def test_skips_that_share_a_row_say_from_when_to_when_and_how_many() -> None:
    many = fire(count=4_200, until_at=NOON + timedelta(hours=70), reason="Missed.")
    text = fires.fire_list([many]).text
    assert "○ skipped × 4,200" in text
    assert "2026-11-21 11:00:00 … 2026-11-24 09:00:00" in text
    assert "4,200 skipped" in text


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("Clerk is disabled.", "%persona enable clerk"),
        ("All triggers are paused: lunch", "%persona triggers resume"),
        ("Missed: nobody fired triggers at that time (catch_up=skip).", "catch_up=all"),
        ("Clerk may do everything (permissions “bypass”), and nobody allowed it.", "--allow-bypass"),
        ("The queue of Clerk is full: 100 runs wait.", "%persona runs --persona clerk --status queued"),
        ("The address answered 500.", f"%persona triggers show {DAILY.id[:8]}"),
    ],
)
def test_every_skip_that_somebody_can_help_says_what_to_type(reason: str, step: str) -> None:
    off = CLERK.changed(enabled=False)
    assert step in fires.fire_list([fire(reason=reason)], personas={DAILY.id: off}).text


def test_nothing_is_proposed_against_what_is_right_or_over() -> None:
    assert fires.remedy(UNCHANGED, DAILY.id, CLERK) is None
    assert fires.remedy("Clerk is disabled.", DAILY.id, CLERK) is None  # it is on again
    paused = fire(reason="All triggers are paused.")
    assert "resume" not in fires.fire_list([paused], is_paused=False).text


# -- the loop ----------------------------------------------------------------------------------------------


def test_the_status_names_who_fires_since_when_and_how_late_it_was() -> None:
    text = loop.status_card(FIRING, tz=BERLIN).text
    assert "▶ firing" in text
    assert "a headless process (process 42 on box), since 2026-11-21 12:00:00 Europe/Berlin" in text
    assert "3 started · 1 late, at worst by 3.2 s" in text
    assert "%persona triggers stop" not in text
    here = loop.status_card(FIRING.changed(is_here=True, kind="kernel")).text
    assert "this kernel (process 42 on box)" in here
    assert "%persona triggers stop" in here


def test_a_pause_says_since_when_why_and_how_it_ends() -> None:
    text = loop.status_card(
        FIRING.changed(is_paused=True, pause_reason="lunch", paused_at=NOON), tz=BERLIN
    ).text
    assert "○ paused" in text
    assert "since 2026-11-21 12:00 Europe/Berlin: lunch" in text
    assert "%persona triggers resume" in text


def test_who_stands_by_is_not_told_to_start() -> None:
    text = loop.status_card(FIRING.changed(stands_by=True)).text
    assert "takes over when the other one ends" in text
    assert "triggers start" not in text


# -- events ------------------------------------------------------------------------------------------------


def test_the_list_says_what_came_of_each_event() -> None:
    heard, unheard = (
        Event(event_type=name, status="processed", created_at=NOON) for name in ("order", "rain")
    )
    started = EventDelivery(
        event_id=heard.id,
        subscription_id="s",
        persona_id=CLERK.id,
        status="started",
        execution_id="9f8e7d6c-1",
    )
    waits = Event(event_type="later", created_at=NOON)
    view = events.event_list(
        [heard, unheard, waits], deliveries={heard.id: [started]}, personas={CLERK.id: CLERK}, status=IDLE
    )
    assert "✓ started clerk (9f8e7d6c)" in view.text
    assert "○ nobody listens" in view.text
    assert "▶ on its way" in view.text
    assert "Nothing delivers events now" in view.text
    assert "%persona triggers start" in view.text


def test_ids_in_data_are_short_and_what_is_none_is_left_out() -> None:
    happened = Event(
        event_type="e", data={"execution_id": "1a2b3c4d-0000-4000-8000-000000000000", "error": None}
    )
    assert "execution_id: 1a2b3c4d " in events.event_list([happened]).text + " "
    assert "None" not in events.event_list([happened]).text


def test_the_graph_has_a_twin_that_says_the_same() -> None:
    edges = [
        FlowEdge(
            source="desk", source_type="persona", event_type="fell", target="buyer", count=2, last_at=NOON
        ),
        FlowEdge(source="me", source_type="user", event_type="fell", target="buyer", count=1, last_at=NOON),
        FlowEdge(
            source="buyer", source_type="persona", event_type="plan", target="desk", count=1, last_at=NOON
        ),
    ]
    graph = events.flow_graph(edges)
    assert graph is not None
    assert graph.markdown is not None
    assert graph.markdown.count("-->") == 3
    assert graph.markdown.count('["buyer"]') == 1  # one box, whichever end it is
    assert "me" in graph.text
    assert "desk     →  fell  →  buyer  2 ×" in graph.text
    assert events.event_list([], flow=edges).also == ()


def test_only_the_most_frequent_arrows_of_many_are_drawn_and_that_is_said() -> None:
    edges = [
        FlowEdge(source=f"p{n}", source_type="persona", event_type="e", target="q", count=n + 1, last_at=NOON)
        for n in range(60)
    ]
    graph = events.flow_graph(edges)
    assert graph is not None
    assert "the 40 most frequent of 60" in graph.text
    assert "p59" in graph.text
    assert "p3 " not in graph.text


def test_a_dead_letter_has_its_reason_and_how_to_replay_it() -> None:
    happened = Event(event_type="order", source="shop", status="processed", created_at=NOON)
    delivery = EventDelivery(
        event_id=happened.id, subscription_id="s", persona_id=CLERK.id, status="dead", attempts=6
    )
    letter = DeadLetter(
        id=delivery.id, event=happened, delivery=delivery, reason="Its queue was full.", at=NOON
    )
    text = events.dead_list([letter], {CLERK.id: CLERK}, tz=BERLIN).text
    assert "Its queue was full." in text
    assert f"%persona events replay {delivery.id[:8]}" in text
    assert "%persona runs --persona clerk --status queued" in text


def test_a_subscription_that_is_off_says_how_to_switch_it_on() -> None:
    off = Subscription(persona_id=CLERK.id, event_type="order", enabled=False)
    assert f"%persona events enable {off.id[:8]}" in events.subscription_list([off], {CLERK.id: CLERK}).text
