"""Publishing, subscribing, what becomes of each event, dead letters and their replay."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn
from support.studios import Api, studio_at, wait_until

from personas_nb import Studio
from personas_nb.entities.base import Entity, now, rfc3339
from personas_nb.entities.event import Event, EventDelivery, Subscription
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound, TooLarge
from personas_nb.store.database import Store
from personas_nb.store.events import DeliveryTable, EventTable
from personas_nb.store.migrations import apply
from personas_nb.triggers.bus import Bus
from personas_nb.triggers.delivering import ATTEMPTS, FIRST_WAIT, LONGEST_WAIT, Delivering

SECRET = "sk-ant-0123456789abcdef"


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home) as opened:
        for name in ("Alpha", "Beta", "Gamma"):
            opened.personas.create(name=name, system_prompt="You watch.")
        yield opened


def drain(studio: Studio, clock: Callable[[], datetime] = now) -> datetime | None:
    """Deliver all that is pending, as the process that fires does; nothing runs, because nobody serves."""
    delivering = Delivering(studio.store, studio.starts, studio.settings, clock)
    bus = Bus(studio.worker, delivering, lambda: None)
    return studio.worker.run(bus.drain(lambda _db: True))


def outcomes(studio: Studio, event: Event) -> dict[str, str]:
    """What became of an event, by the persona's slug."""
    return {
        studio.personas.get(delivery.persona_id or "").slug: delivery.status
        for delivery in studio.events.deliveries(event)
    }


def nested(levels: int) -> dict[str, Any]:
    """Data in so many levels."""
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"in": data}
    return data


def only(studio: Studio, event: Event) -> EventDelivery:
    (delivery,) = studio.events.deliveries(event)
    return delivery


def started(studio: Studio, delivery: EventDelivery) -> Execution:
    found = studio.executions.table.whole(delivery.execution_id or "")
    assert found is not None
    return found


def input_of(studio: Studio, event: Event) -> Any:
    return json.loads(started(studio, only(studio, event)).input_data or "null")


# --- publish and subscribe --------------------------------------------------------------------------------


def test_an_event_starts_who_listens_with_its_data_as_input(studio: Studio) -> None:
    studio.events.subscribe("beta", "invoice_found")
    event = studio.events.publish("Invoice.Found", {"total": 12}, source="mail")
    assert (event.status, studio.events.deliveries(event)) == ("pending", [])
    assert drain(studio) is None
    run = started(studio, only(studio, event))
    assert (run.persona_name, run.status, run.event_id, run.worker_id) == ("Beta", "queued", event.id, None)
    given_input = input_of(studio, event)
    assert given_input.pop("_event") == {
        "id": event.id,
        "type": "Invoice.Found",
        "source": "mail",
        "source_type": "user",
        "published_at": rfc3339(event.created_at),
    }
    assert given_input == {"total": 12}
    assert studio.events.get(event.id).status == "processed"


def test_an_event_that_nobody_hears_is_processed_and_starts_nobody(studio: Studio) -> None:
    event = studio.events.publish("anything")
    drain(studio)
    assert studio.events.get(event).status == "processed"
    assert studio.events.deliveries(event) == []
    assert studio.executions.list() == []


def test_a_source_filter_lets_only_its_sources_through(studio: Studio) -> None:
    studio.events.subscribe("alpha", "found", "mail-*")
    studio.events.subscribe("beta", "found", "*-scan")
    studio.events.subscribe("gamma", "found", "web")
    events = [studio.events.publish("found", source=source) for source in ("mail-scan", "web", "Mail-box")]
    drain(studio)
    assert [outcomes(studio, event) for event in events] == [
        {"alpha": "started", "beta": "started"},
        {"gamma": "started"},
        {"alpha": "started"},
    ]


def test_a_subscription_hears_only_what_is_published_after_it_was_made(studio: Studio) -> None:
    before = studio.events.publish("found")
    studio.events.subscribe("beta", "found")
    after = studio.events.publish("found")
    drain(studio)
    assert (outcomes(studio, before), outcomes(studio, after)) == ({}, {"beta": "started"})


def test_one_that_is_switched_on_again_hears_only_what_comes_from_then_on(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    studio.events.disable(subscription.id)
    between = studio.events.publish("found")
    assert studio.events.enable(subscription).enabled
    after = studio.events.publish("found")
    drain(studio)
    assert (outcomes(studio, between), outcomes(studio, after)) == ({}, {"beta": "started"})


def test_enabling_one_that_is_on_does_not_make_it_miss_what_waits(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    event = studio.events.publish("found")
    studio.events.enable(subscription.id)
    drain(studio)
    assert outcomes(studio, event) == {"beta": "started"}


def test_a_subscription_hears_what_comes_after_the_newest_events_were_deleted(studio: Studio) -> None:
    kept = studio.events.publish("found")
    gone = [studio.events.publish("found") for _ in range(3)]
    studio.events.subscribe("beta", "found")
    for event in gone:
        EventTable(studio.store).delete("id = ?", [event.id])
    event = studio.events.publish("found")
    drain(studio)
    assert (outcomes(studio, kept), outcomes(studio, event)) == ({}, {"beta": "started"})


def test_who_listened_when_it_was_published_and_is_off_at_delivery_hears_nothing(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    event = studio.events.publish("found")
    studio.events.disable(subscription.id)
    drain(studio)
    assert studio.executions.list() == []
    assert studio.events.get(event).status == "processed"


def test_what_was_heard_before_it_was_switched_off_is_a_skip_also_when_it_is_on_again(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found", "mail-*")
    events = [studio.events.publish("Found", source=source) for source in ("mail-box", "web")]
    action = studio.events.publish("persona_action", {"target": "beta"}, source="mail-box")
    studio.events.disable(subscription)
    studio.events.disable(subscription)
    studio.events.enable(subscription)
    drain(studio)
    assert [outcomes(studio, event) for event in events] == [{"beta": "skipped"}, {}]
    delivery = only(studio, events[0])
    assert delivery.reason == "The subscription was switched off before it was delivered."
    assert outcomes(studio, action) == {"beta": "started"}
    assert [one.status for one in studio.events.replay(events[0])] == ["started"]


def test_what_was_heard_before_it_was_unsubscribed_is_a_skip(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    event = studio.events.publish("found")
    studio.events.unsubscribe(subscription)
    drain(studio)
    delivery = only(studio, event)
    assert (delivery.status, delivery.subscription_id) == ("skipped", subscription.id)
    assert delivery.reason == "The subscription was removed before it was delivered."


def test_hundreds_of_events_that_wait_are_accounted_for(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    with studio.store.write():
        for _ in range(450):
            EventTable(studio.store).insert(Event(event_type="found"))
    studio.events.disable(subscription)
    assert DeliveryTable(studio.store).count("status = 'skipped'") == 450


def test_one_that_hears_whatever_is_emitted_misses_it_with_a_record(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "emit_event")
    emitted = studio.events.publish("price", source="alpha", source_type="persona")
    told = studio.events.publish("price")
    studio.events.disable(subscription)
    drain(studio)
    assert (outcomes(studio, emitted), outcomes(studio, told)) == ({"beta": "skipped"}, {})


def test_an_identical_subscription_is_the_one_there_is(studio: Studio) -> None:
    one = studio.events.subscribe("beta", "invoice_found", "Mail-*")
    assert studio.events.subscribe("Beta", "Invoice.Found", "mail-*") == one
    assert studio.events.subscribe("beta", "invoice_found").id != one.id
    assert len(studio.events.subscriptions("beta")) == 2
    assert studio.events.subscriptions("alpha") == []


def test_a_filter_that_is_a_personas_name_is_kept_as_its_slug(studio: Studio) -> None:
    studio.personas.create(name="Invoice watcher", system_prompt="You watch.")
    assert studio.events.subscribe("beta", "found", "Invoice watcher").source_filter == "invoice-watcher"
    assert studio.events.subscribe("beta", "found", "nobody we know").source_filter == "nobody we know"
    assert studio.events.subscribe("beta", "found", " ** ").source_filter is None


def test_unsubscribing_is_the_end_of_it(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    assert studio.events.unsubscribe(subscription.id[:8]) == subscription
    event = studio.events.publish("found")
    drain(studio)
    assert (studio.events.subscriptions(), studio.events.deliveries(event)) == ([], [])
    with pytest.raises(NotFound, match="no subscription"):
        studio.events.unsubscribe(subscription.id)


@pytest.mark.parametrize("event_type", ["", "   ", "x" * 201, "found*", None])
def test_what_is_no_event_type_is_refused(studio: Studio, event_type: Any) -> None:
    with pytest.raises(InvalidInput, match="event type"):
        studio.events.subscribe("beta", event_type)
    assert studio.events.subscriptions() == []


def test_what_cannot_be_published_is_refused_and_nothing_is_written(studio: Studio) -> None:
    with pytest.raises(InvalidInput, match="source type"):
        studio.events.publish("found", source_type="robot")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="JSON"):
        studio.events.publish("found", {"when": now()})
    with pytest.raises(InvalidInput, match="JSON"):
        studio.events.publish("found", {"share": math.nan})
    with pytest.raises(TooLarge, match="bytes"):
        studio.events.publish("found", {"text": "x" * 300_000})
    with pytest.raises(InvalidInput, match="source"):
        studio.events.publish("found", source="")
    assert studio.events.list() == []


@pytest.mark.parametrize("levels", [101, 300, 100_000])
def test_data_that_are_nested_too_deep_are_refused(studio: Studio, levels: int) -> None:
    with pytest.raises(InvalidInput, match="nested deeper than 100 levels"):
        studio.events.publish("found", nested(levels))
    assert studio.events.list() == []


def test_data_that_are_as_deep_as_may_be_are_delivered(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    event = studio.events.publish("found", nested(100))
    drain(studio)
    assert outcomes(studio, event) == {"beta": "started"}
    assert studio.events.get(event).data == nested(100)


@pytest.mark.parametrize("levels", [150, 300])
@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_an_event_that_a_persona_nests_too_deep_is_refused_and_its_run_goes_on(
    home: Path, api: Api, levels: int
) -> None:
    emitted: Any = {"type": "price", "data": nested(levels)}
    script = [Turn.tools(("emit_event", emitted)), Turn.text("Then not.")]
    with ModelServer(script) as server, studio_at(home, server, api) as studio:
        studio.personas.create(name="Alpha", system_prompt="You tell.")
        run = studio.run("alpha")
        assert (run.status, run.output_data) == ("completed", "Then not.")
        assert studio.events.list(event_type="price") == []
        (refused,) = run.warnings
        assert refused.startswith("A emit_event was refused: ")
        assert len(refused) < 200


@pytest.mark.parametrize("name", ["a\ud800", 5, "x" * 201])
def test_a_name_that_cannot_be_stored_is_refused_with_the_next_step(studio: Studio, name: Any) -> None:
    for refused in (
        lambda: studio.events.publish(name),
        lambda: studio.events.publish("found", source=name),
        lambda: studio.events.subscribe("beta", name),
        lambda: studio.events.subscribe("beta", "found", name),
    ):
        with pytest.raises(InvalidInput) as caught:
            refused()
        assert caught.value.hint
    assert (studio.events.list(), studio.events.subscriptions()) == ([], [])


@pytest.mark.parametrize(("event_type", "source"), [(f"t-{SECRET}", None), ("found", f"src-{SECRET}-*")])
def test_a_subscription_that_would_hold_a_secret_is_refused(
    studio: Studio, event_type: str, source: str | None
) -> None:
    studio.credentials.add("github", "github", {"token": SECRET})
    with pytest.raises(InvalidInput, match="holds a secret of the vault") as caught:
        studio.events.subscribe("beta", event_type, source)
    assert SECRET not in str(caught.value)
    assert studio.events.subscriptions() == []


def test_half_a_character_in_the_data_keeps_nobody_from_starting(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    event = studio.events.publish("found", {"name": "a\ud800b"})
    drain(studio)
    assert outcomes(studio, event) == {"beta": "started"}
    assert input_of(studio, event)["name"] == "a?b"


def test_data_that_are_no_object_come_under_value(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    event = studio.events.publish("found", [1, 2])
    drain(studio)
    assert input_of(studio, event)["value"] == [1, 2]


def test_no_secret_is_published(studio: Studio) -> None:
    studio.credentials.add("github", "github", {"token": SECRET})
    data = {f"key {SECRET}": [1, {"deep": f"it is {SECRET}."}], "plain": 7}
    event = studio.events.publish(f"found {SECRET}", data, source=f"of {SECRET}")
    assert SECRET not in event.model_dump_json()
    assert event.data["plain"] == 7
    assert studio.events.get(event.id) == event
    files = studio.home.glob("personas.db*")
    assert not any(SECRET.encode() in file.read_bytes() for file in files)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for all examples of a test."""
    with Studio(tmp_path_factory.mktemp("lasting")) as opened:
        yield opened


leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@settings(max_examples=30, deadline=None)
@given(data=st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_data_come_back_as_they_were_published(lasting: Studio, data: dict[str, Any]) -> None:
    event = lasting.events.publish("found", data)
    assert lasting.events.get(event.id).data == data


def test_lists_are_newest_first_and_can_be_narrowed(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    first, second = studio.events.publish("found"), studio.events.publish("Lost-it", source="mail")
    action = studio.events.publish("persona_action", {"target": "gamma"})
    drain(studio)
    assert [event.id for event in studio.events.list()] == [action.id, second.id, first.id]
    assert [event.id for event in studio.events.list(event_type="lost.IT")] == [second.id]
    assert [event.id for event in studio.events.list(persona="beta")] == [first.id]
    assert [event.id for event in studio.events.list(persona="gamma")] == [action.id]
    assert [event.id for event in studio.events.list(limit=1)] == [action.id]
    assert studio.events.get("latest").id == action.id
    assert studio.events.get(first.id[:8]).id == first.id
    with pytest.raises(NotFound, match="no event"):
        studio.events.get("ffffffff-none")


# --- actions ----------------------------------------------------------------------------------------------


def test_an_action_starts_its_target_with_its_input_and_nobody_else(studio: Studio) -> None:
    studio.events.subscribe("alpha", "persona_action")
    event = studio.events.publish("persona_action", {"target": "Beta", "action": "pay", "input": {"n": 2}})
    drain(studio)
    assert outcomes(studio, event) == {"beta": "started"}
    given_input = input_of(studio, event)
    assert given_input.pop("_event")["action"] == "pay"
    assert given_input == {"n": 2}


def test_an_action_on_nobody_is_refused(studio: Studio) -> None:
    with pytest.raises(NotFound, match="nobody"):
        studio.events.publish("persona_action", {"target": "nobody"})
    with pytest.raises(InvalidInput, match="target"):
        studio.events.publish("Persona-Action", {"input": 1})
    assert studio.events.list() == []


# --- who may not be started -------------------------------------------------------------------------------


def test_a_disabled_persona_is_a_skip_with_its_reason(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    studio.personas.disable("beta")
    event = studio.events.publish("found")
    drain(studio)
    delivery = only(studio, event)
    assert (delivery.status, delivery.reason, delivery.execution_id) == ("skipped", "Beta is disabled.", None)


def test_a_persona_that_may_do_everything_needs_consent_for_its_subscription(studio: Studio) -> None:
    studio.personas.update("beta", permissions="bypass")
    subscription = studio.events.subscribe("beta", "found")
    refused = studio.events.publish("found")
    drain(studio)
    assert "nobody allowed" in (only(studio, refused).reason or "")
    assert studio.events.enable(subscription.id, allow_bypass=True).allow_bypass
    allowed = studio.events.publish("found")
    drain(studio)
    assert outcomes(studio, allowed) == {"beta": "started"}


def test_an_action_on_such_a_persona_needs_a_subscription_that_allows_actions(studio: Studio) -> None:
    studio.personas.update("beta", permissions="bypass")
    action = {"target": "beta"}
    studio.events.subscribe("beta", "persona_action", "mail")
    refused = studio.events.publish("persona_action", action, source="mail")
    studio.events.subscribe("beta", "persona_action", "boss", allow_bypass=True)
    other, allowed = (
        studio.events.publish("persona_action", action, source=source) for source in ("mail", "boss")
    )
    drain(studio)
    assert [only(studio, event).status for event in (refused, other, allowed)] == [
        "skipped",
        "skipped",
        "started",
    ]


def test_while_all_is_paused_a_delivery_is_a_skip_that_can_be_replayed(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    studio.triggers.pause_all()
    event = studio.events.publish("found")
    drain(studio)
    assert only(studio, event).reason == "All triggers are paused."
    studio.triggers.resume_all()
    drain(studio)
    assert outcomes(studio, event) == {"beta": "skipped"}
    assert [delivery.status for delivery in studio.events.replay(event)] == ["started"]


def test_what_a_persona_publishes_does_not_start_itself_unless_the_filter_names_it(studio: Studio) -> None:
    run = studio.run("alpha")
    table = EventTable(studio.store)

    def told() -> Event:
        own = Event(event_type="found", source_type="persona", source="alpha", execution_id=run.id)
        return table.insert(own)

    for source_filter in (None, "alph*"):
        studio.events.subscribe("alpha", "found", source_filter)
    studio.events.subscribe("beta", "found")
    unnamed = told()
    drain(studio)
    studio.events.subscribe("alpha", "found", "Alpha")
    named = told()
    drain(studio)
    assert outcomes(studio, unnamed) == {"beta": "started"}
    assert outcomes(studio, named) == {"alpha": "started", "beta": "started"}
    assert len(studio.events.deliveries(named)) == 2


def test_its_ends_do_not_start_it_either(studio: Studio) -> None:
    studio.events.subscribe("alpha", "execution_completed")
    studio.events.subscribe("beta", "execution_completed", "alpha")
    studio.run("alpha")
    drain(studio)
    (ended,) = studio.events.list(event_type="execution_completed")
    assert outcomes(studio, ended) == {"beta": "started"}


def test_emit_event_hears_whatever_a_persona_emits(studio: Studio) -> None:
    studio.events.subscribe("beta", "emit_event")
    emitted = EventTable(studio.store).insert(
        Event(event_type="anything", source_type="persona", source="alpha")
    )
    published = studio.events.publish("anything")
    drain(studio)
    assert (outcomes(studio, emitted), outcomes(studio, published)) == ({"beta": "started"}, {})


# --- rehearsals -------------------------------------------------------------------------------------------


def test_what_a_rehearsal_publishes_starts_rehearsals(studio: Studio) -> None:
    studio.personas.update("beta", model_profile={"provider": "anthropic", "model": "claude-sonnet-5-5"})
    studio.events.subscribe("beta", "execution_completed", "alpha")
    assert studio.run("alpha").rehearsal
    drain(studio)
    (ended,) = studio.events.list(event_type="execution_completed")
    assert ended.rehearsal
    assert started(studio, only(studio, ended)).requested_provider == "rehearsal"


# --- full queues ------------------------------------------------------------------------------------------


def test_a_full_queue_is_tried_again_later_each_time_and_then_a_dead_letter(home: Path) -> None:
    with studio_at(home, queue_limit=1) as studio:
        studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        first = studio.events.publish("found", {"n": 1})
        drain(studio)
        event = studio.events.publish("found", {"n": 2})
        moment, waits = now(), []
        for _ in range(ATTEMPTS - 1):
            again = drain(studio, lambda moment=moment: moment)  # type: ignore[misc]
            assert again is not None
            assert drain(studio, lambda moment=moment: moment) == again  # type: ignore[misc]  # not before its time
            waits.append(again - moment)
            moment = again
        assert (waits[0], waits[1], waits[-1]) == (FIRST_WAIT, 2 * FIRST_WAIT, LONGEST_WAIT)
        assert waits == sorted(waits)
        assert drain(studio, lambda: moment) is None
        (letter,) = studio.events.dead()
        assert (letter.event.id, letter.persona_name) == (event.id, "Beta")
        assert letter.delivery is not None
        assert letter.delivery.attempts == ATTEMPTS
        assert "as many as it may" in letter.reason

        studio.executions.cancel(only(studio, first).execution_id or "")
        (delivery,) = studio.events.replay(letter.id[:8])
        assert (delivery.status, delivery.attempts) == ("started", 1)
        assert input_of(studio, event)["n"] == 2
        assert studio.events.dead() == []


def test_room_in_the_queue_lets_the_next_try_start_it(home: Path) -> None:
    with studio_at(home, queue_limit=1) as studio:
        studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        first, second = studio.events.publish("found"), studio.events.publish("found")
        again = drain(studio)
        assert again is not None
        assert [only(studio, event).status for event in (first, second)] == ["started", "pending"]
        studio.executions.cancel(only(studio, first).execution_id or "")
        assert drain(studio, lambda: again) is None
        assert only(studio, second).status == "started"


def test_a_try_that_was_planned_under_a_clock_since_set_back_does_not_wait_for_it(home: Path) -> None:
    with studio_at(home, queue_limit=1) as studio:
        studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        first = studio.events.publish("found")
        second = studio.events.publish("found")
        drain(studio, lambda: now() + timedelta(hours=1))
        studio.executions.cancel(only(studio, first).execution_id or "")
        drain(studio)
        assert only(studio, second).status == "started"


# --- dead letters -----------------------------------------------------------------------------------------


def test_a_chain_that_is_too_long_is_a_dead_letter_with_its_reason(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    deep = EventTable(studio.store).insert(Event(event_type="found", depth=8))
    drain(studio)
    (letter,) = studio.events.dead()
    assert (letter.id, letter.delivery, letter.event.status) == (deep.id, None, "dead")
    assert letter.reason == "8 runs have started one another by events; 8 may (event_chain_depth)."
    assert studio.events.replay(letter) == []
    assert studio.events.get(deep).status == "dead"


def test_such_a_letter_is_replayed_where_the_setting_allows_it_now(home: Path) -> None:
    with studio_at(home) as studio:
        studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        deep = EventTable(studio.store).insert(Event(event_type="found", depth=8))
        drain(studio)
    with studio_at(home, event_chain_depth=9) as studio:
        assert [delivery.status for delivery in studio.events.replay(deep.id)] == ["started"]
        assert studio.events.dead() == []


def test_an_action_on_nobody_is_replayed_once_there_is_somebody(studio: Studio) -> None:
    data = {"target": "delta", "input": 3}
    lost = Event(event_type="persona_action", source="alpha", data=data, status="dead", reason="Nobody.")
    EventTable(studio.store).insert(lost)
    assert studio.events.replay(lost.id) == []
    assert "delta" in studio.events.dead()[0].reason
    studio.personas.create(name="Delta", system_prompt="You watch.")
    studio.events.replay(lost.id)
    assert outcomes(studio, lost) == {"delta": "started"}
    assert studio.events.dead() == []


def test_a_replay_checks_everything_again(studio: Studio) -> None:
    subscription = studio.events.subscribe("beta", "found")
    studio.personas.disable("beta")
    event = studio.events.publish("found")
    drain(studio)
    assert [delivery.reason for delivery in studio.events.replay(event.id)] == ["Beta is disabled."]
    studio.personas.enable("beta")
    studio.events.disable(subscription.id)
    assert [delivery.reason for delivery in studio.events.replay(event.id)] == ["The subscription is off."]
    studio.events.unsubscribe(subscription.id)
    assert [delivery.reason for delivery in studio.events.replay(event.id)] == ["The subscription is gone."]
    assert studio.executions.list() == []


def test_a_replay_starts_nothing_that_was_started(studio: Studio) -> None:
    studio.events.subscribe("alpha", "found")
    studio.events.subscribe("beta", "found")
    studio.personas.disable("beta")
    event = studio.events.publish("found")
    drain(studio)
    studio.personas.enable("beta")
    studio.events.replay(event.id)
    studio.events.replay(event.id)
    studio.events.replay(studio.events.deliveries(event)[0].id)
    assert outcomes(studio, event) == {"alpha": "started", "beta": "started"}
    assert len(studio.executions.list()) == 2


def test_a_replay_runs_in_this_process_whoever_fires(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    studio.personas.disable("beta")
    event = studio.events.publish("found")
    drain(studio)
    studio.personas.enable("beta")
    (delivery,) = studio.events.replay(event.id)
    run = studio.executions.handle(delivery.execution_id or "").wait(60)
    assert (run.status, run.worker_id) == ("completed", studio.worker.id)


def test_a_replay_of_what_waits_is_its_next_try(home: Path) -> None:
    with studio_at(home, queue_limit=1) as studio:
        studio.personas.create(name="Beta", system_prompt="You watch.")
        studio.events.subscribe("beta", "found")
        first, second = studio.events.publish("found"), studio.events.publish("found")
        drain(studio)
        studio.executions.cancel(only(studio, first).execution_id or "")
        assert [delivery.status for delivery in studio.events.replay(second)] == ["started"]


@pytest.mark.parametrize("ref", [None, 5, object()])
def test_what_can_be_no_id_is_refused_in_a_sentence(studio: Studio, ref: Any) -> None:
    for refused in (studio.events.replay, studio.events.get, studio.events.unsubscribe):
        with pytest.raises(InvalidInput, match="names nothing here"):
            refused(ref)


def test_a_letter_that_there_is_not_is_said_so(studio: Studio) -> None:
    with pytest.raises(NotFound, match="no dead letter"):
        studio.events.replay("abcdef12")


def test_an_event_that_cannot_be_read_is_a_dead_letter_and_the_others_are_delivered(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    broken, whole = studio.events.publish("found"), studio.events.publish("found")
    with studio.store.write() as db:
        db.execute("update events set data = 'no json' where id = ?", [broken.id])
    drain(studio)
    assert outcomes(studio, whole) == {"beta": "started"}
    with studio.store.read() as db:
        row = db.execute("select status, reason from events where id = ?", [broken.id]).fetchone()
    assert row["status"] == "dead"
    assert "cannot be read" in row["reason"]


def test_a_persona_that_cannot_be_read_keeps_no_other_from_starting(studio: Studio) -> None:
    studio.events.subscribe("alpha", "found")
    studio.events.subscribe("beta", "found")
    event = studio.events.publish("found")
    with studio.store.write() as db:
        db.execute("update personas set max_turns = -1 where slug = 'alpha'")
    drain(studio)
    assert sorted(delivery.status for delivery in studio.events.deliveries(event)) == ["dead", "started"]


# --- what runs publish ------------------------------------------------------------------------------------

BALL = json.dumps({"emit_event": {"type": "ball", "data": {"hit": True}}})


@pytest.fixture
def players(home: Path) -> Iterator[Studio]:
    """Two personas that emit a ball, each of which listens to the other's."""
    with ExitStack() as stack:
        server = stack.enter_context(ModelServer(lambda _request, _n: Turn.text(f"Hit.\n{BALL}\n")))
        studio = stack.enter_context(studio_at(home, server))
        for name in ("Alpha", "Beta"):
            studio.personas.create(name=name, system_prompt="You hit the ball.")
        studio.events.subscribe("alpha", "ball", "beta")
        studio.events.subscribe("beta", "ball", "alpha")
        yield studio


def test_personas_that_start_each_other_stop_at_the_limit(players: Studio) -> None:
    players.triggers.start()
    players.events.publish("ball", source="beta")
    (letter,) = wait_until(players.events.dead, 60)
    assert "event_chain_depth" in letter.reason
    runs = players.executions.list()
    assert [run.persona_name for run in reversed(runs)] == ["Alpha", "Beta"] * 4
    depths = [event.depth for event in players.events.list(event_type="ball")]
    assert depths == list(range(8, -1, -1))


def test_who_starts_whom_is_counted(players: Studio) -> None:
    players.triggers.start()
    players.events.publish("ball", source="beta")
    wait_until(players.events.dead, 60)
    edges = {(e.source, e.source_type, e.event_type, e.target): e.count for e in players.events.flow()}
    assert edges == {
        ("beta", "user", "ball", "alpha"): 1,
        ("alpha", "persona", "ball", "beta"): 4,
        ("beta", "persona", "ball", "alpha"): 3,
    }
    assert players.events.flow(days=0) == []


def test_more_days_than_the_calendar_has_are_all_of_them(players: Studio) -> None:
    players.events.publish("ping", source="user")
    drain(players)
    assert players.events.flow(days=10**9) == players.events.flow() == players.events.flow(days=10**30)


@pytest.mark.parametrize("days", [-1, 1.5, "7", None, True])
def test_days_that_are_no_number_of_days_are_refused(studio: Studio, days: Any) -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        studio.events.flow(days)


def test_a_message_and_a_review_are_events_too(home: Path) -> None:
    lines = [
        json.dumps({"user_message": {"title": "Hi", "content": "There."}}),
        json.dumps({"manual_review": {"title": "Pay?", "description": "900", "severity": "high"}}),
    ]
    with ModelServer([Turn.text("\n".join(lines))]) as server, studio_at(home, server) as studio:
        for name in ("Alpha", "Beta"):
            studio.personas.create(name=name, system_prompt="You watch.")
        studio.events.subscribe("beta", "manual_review")
        run = studio.run("alpha")
        drain(studio)
        (told,) = studio.events.list(event_type="user_message")
        (asked,) = studio.events.list(event_type="manual_review")
        assert (told.source, told.source_type, told.execution_id) == ("alpha", "system", run.id)
        assert told.data["message_id"] == studio.messages.list()[0].id
        assert (told.data["title"], told.data["content"]) == ("Hi", "There.")
        assert (asked.data["review_id"], asked.data["severity"]) == (studio.reviews.list()[0].id, "high")
        assert outcomes(studio, asked) == {"beta": "started"}


def test_a_run_that_died_publishes_one_deeper_than_what_started_it(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    event = EventTable(studio.store).insert(Event(event_type="found", depth=3))
    drain(studio)
    run = started(studio, only(studio, event))
    table = studio.executions.table
    with studio.store.write() as db:
        db.execute("update executions set worker_id = 'gone' where id = ?", [run.id])
    assert table.fail_orphans("gone") == [run.id]
    (failed,) = studio.events.list(event_type="execution_failed")
    assert failed.depth == 4


def test_what_a_function_of_the_notebook_publishes_is_of_the_run_that_calls_it(home: Path) -> None:
    script = [Turn.tools(("tell", {"what": "hit"})), Turn.text("Told.")]
    with ModelServer(lambda _request, n: script[n % 2]) as server, studio_at(home, server) as studio:

        def tell(what: str) -> str:
            """Tell the others."""
            return studio.events.publish("ball", {"what": what}).id

        studio.tools.add(tell)
        studio.personas.create(name="Alpha", system_prompt="You tell.")
        studio.tools.assign("alpha", "tell")
        studio.events.subscribe("alpha", "ball", "user")
        studio.triggers.start()
        first = studio.events.publish("ball")
        (delivery,) = wait_until(lambda: studio.events.deliveries(first))
        wait_until(lambda: studio.executions.table.count("status = 'completed'"))
        (told,) = studio.events.list(event_type="ball", limit=1)
        assert (told.source, told.execution_id, told.depth) == ("user", delivery.execution_id, 1)
        wait_until(lambda: studio.events.get(told).status == "processed")
        assert outcomes(studio, told) == {}


def test_what_was_delivered_to_a_persona_goes_with_it(studio: Studio) -> None:
    studio.events.subscribe("beta", "found")
    kept = studio.events.publish("found")
    gone = studio.events.publish("persona_action", {"target": "beta"})
    drain(studio)
    studio.personas.purge("beta")
    assert studio.events.deliveries(kept) == []
    assert [event.id for event in studio.events.list()] == [kept.id]
    assert DeliveryTable(studio.store).count("event_id = ?", [gone.id]) == 0


def test_events_from_before_there_was_a_bus_start_nothing(home: Path) -> None:
    home.mkdir()
    rows: list[tuple[str, Entity]] = [
        ("personas", Persona(id="b", name="Beta", slug="beta", system_prompt="You watch.")),
        ("events", Event(event_type="found")),
        ("subscriptions", Subscription(persona_id="b", event_type="found")),
        ("events", Event(event_type="found")),
    ]
    with closing(sqlite3.connect(home / "personas.db", isolation_level=None)) as db:
        apply(db, stop_before="m014_triggers_and_events")
        for table, entity in rows:
            row = Store(home).table(table, type(entity)).dumped(entity)
            known = {column[1] for column in db.execute(f"pragma table_info({table})")} & row.keys()
            names, marks = ", ".join(known), ", ".join("?" * len(known))
            db.execute(f"insert into {table} ({names}) values ({marks})", [row[name] for name in known])
    with studio_at(home) as studio:
        event = studio.events.publish("found")
        drain(studio)
        assert [one.status for one in studio.events.list()] == ["processed"] * 3
        assert outcomes(studio, event) == {"beta": "started"}
        assert len(studio.executions.list()) == 1
