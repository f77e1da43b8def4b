"""Applying a design: one transaction, what a person did by hand stays, the same again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from personas_nb.design.apply import Applied, Applier
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import (
    DesignResult,
    SuggestedChannel,
    SuggestedConnector,
    SuggestedServer,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.event import Event, Subscription
from personas_nb.entities.mcp_server import McpServer
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.persona import Persona
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import DesignError
from personas_nb.personas.personas import Personas
from personas_nb.personas.versions import Versions
from personas_nb.store.database import Store
from personas_nb.store.events import DeliveryTable, EventTable
from personas_nb.tools.catalog import Tools
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

NINE = {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}
EIGHT = {"cron": "0 8 * * 1-5", "timezone": "Europe/Berlin"}


class Room:
    """A store, and what applying needs of it."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        self.credentials = Credentials(
            self.store, KeyRing(key_file=home / "keys" / "keys.json", use_keyring=False)
        )
        self.personas = Personas(self.store, self.credentials)
        self.tools = Tools(self.store)
        self.applier = Applier(
            self.store, personas=self.personas, tools=self.tools, timezone=lambda: "Europe/Berlin"
        )

    def apply(self, result: DesignResult, existing: Persona | None = None) -> Applied:
        return self.applier.apply(result, name=result.name, existing=existing)

    def triggers(self, persona: Persona) -> list[Trigger]:
        return self.store.table("triggers", Trigger).find("persona_id = ?", [persona.id])

    def subscriptions(self, persona: Persona) -> list[Subscription]:
        return self.store.table("subscriptions", Subscription).find("persona_id = ?", [persona.id])

    def tool_names(self, persona: Persona) -> set[str]:
        return {tool.name for tool in self.tools.assigned(persona.id)}


@pytest.fixture
def room(home: Path) -> Iterator[Room]:
    room = Room(home)
    yield room
    room.store.close()


def design(**fields: object) -> DesignResult:
    given: dict[str, object] = {
        "name": "Inbox summary",
        "structured_prompt": StructuredPrompt(identity="You read mail.", instructions="1. Read."),
        "full_prompt_markdown": "## Identity\n\nYou read mail.",
        "summary": "Reads mail.",
        "suggested_tools": ("file_read", "http_request"),
        "suggested_triggers": (SuggestedTrigger(trigger_type="schedule", config=NINE),),
    }
    return DesignResult(**(given | fields))


def at_eight() -> tuple[SuggestedTrigger, ...]:
    return (SuggestedTrigger(trigger_type="schedule", config=EIGHT),)


def test_a_new_persona_has_prompt_tools_triggers_and_its_design(room: Room):
    persona = room.apply(design()).persona
    assert persona.prompt.instructions == "1. Read."
    assert persona.system_prompt == "## Identity\n\nYou read mail."
    assert persona.description == "Reads mail."
    assert room.tool_names(persona) == {"file_read", "http_request"}
    (trigger,) = room.triggers(persona)
    assert (trigger.config, trigger.enabled, trigger.origin) == (NINE, True, "design")
    assert DesignResult.model_validate(persona.last_design_result).suggested_tools == (
        "file_read",
        "http_request",
    )


def test_the_version_says_that_a_design_made_it(room: Room):
    persona = room.apply(design()).persona
    assert [one.author for one in Versions(room.store, room.personas).list(persona)] == ["design"]


def test_a_schedule_without_a_zone_gets_that_of_the_settings(room: Room):
    bare = (SuggestedTrigger(trigger_type="schedule", config={"cron": "0 9 * * 1-5"}),)
    assert room.triggers(room.apply(design(suggested_triggers=bare)).persona)[0].config == NINE


def test_the_same_design_again_changes_nothing(room: Room):
    events = (SuggestedSubscription(event_type="invoice_found"),)
    first = room.apply(design(suggested_event_subscriptions=events))
    before = room.triggers(first.persona), room.subscriptions(first.persona)
    again = room.apply(design(suggested_event_subscriptions=events), first.persona)
    assert again.changes == ()
    assert again.persona == first.persona
    assert (room.triggers(first.persona), room.subscriptions(first.persona)) == before


def test_a_changed_schedule_replaces_the_designs_own_trigger_only(room: Room):
    persona = room.apply(design()).persona
    by_hand = Trigger(persona_id=persona.id, trigger_type="polling", config={"interval_seconds": 60})
    room.store.table("triggers", Trigger).insert(by_hand)
    applied = room.apply(design(suggested_triggers=at_eight()), persona)
    assert [one.config for one in room.triggers(persona)] == [{"interval_seconds": 60}, EIGHT]
    assert len(applied.changes) == 2


def test_a_trigger_made_by_hand_is_not_made_twice(room: Room):
    persona = room.apply(design(suggested_triggers=())).persona
    room.store.table("triggers", Trigger).insert(
        Trigger(persona_id=persona.id, trigger_type="schedule", config=NINE)
    )
    room.apply(design(), persona)
    assert [one.origin for one in room.triggers(persona)] == ["user"]


def test_a_trigger_that_was_switched_off_stays_off(room: Room):
    persona = room.apply(design()).persona
    room.store.table("triggers", Trigger).update(room.triggers(persona)[0].id, enabled=False)
    room.apply(design(summary="Other words."), persona)
    assert [one.enabled for one in room.triggers(persona)] == [False]


def test_tools_of_the_last_design_go_and_those_given_by_hand_stay(room: Room):
    persona = room.apply(design()).persona
    room.tools.assign(persona, "gmail_send")
    applied = room.apply(design(suggested_tools=("file_read", "file_write")), persona)
    assert room.tool_names(persona) == {"file_read", "file_write", "gmail_send"}
    assert applied.changes == ("Tool file_write was assigned.", "Tool http_request was taken away.")


def test_a_persona_made_by_hand_keeps_all_its_tools(room: Room):
    mine = room.personas.create(name="Mine", system_prompt="x")
    room.tools.assign(mine, "gmail_send", "http_request")
    room.apply(design(suggested_tools=("file_read",)), mine)
    assert room.tool_names(mine) == {"gmail_send", "http_request", "file_read"}


def test_events_of_the_last_design_go_and_those_by_hand_stay(room: Room):
    first = (SuggestedSubscription(event_type="invoice_found"),)
    persona = room.apply(design(suggested_event_subscriptions=first)).persona
    room.store.table("subscriptions", Subscription).insert(
        Subscription(persona_id=persona.id, event_type="by_hand")
    )
    second = (SuggestedSubscription(event_type="order.placed"),)
    room.apply(design(suggested_event_subscriptions=second), persona)
    assert [one.event_type for one in room.subscriptions(persona)] == ["by_hand", "order.placed"]


def test_what_a_subscription_heard_that_a_design_takes_away_is_a_skip(room: Room):
    heard = (SuggestedSubscription(event_type="order.placed"),)
    persona = room.apply(design(suggested_event_subscriptions=heard)).persona
    event = EventTable(room.store).insert(Event(event_type="order_placed"))
    room.apply(design(), persona)
    (delivery,) = DeliveryTable(room.store).find("event_id = ?", [event.id])
    assert (delivery.status, delivery.persona_id) == ("skipped", persona.id)


def test_event_types_that_differ_in_spelling_only_are_one(room: Room):
    persona = room.apply(
        design(suggested_event_subscriptions=(SuggestedSubscription(event_type="invoice_found"),))
    ).persona
    spelt = (SuggestedSubscription(event_type="Invoice-Found"),)
    room.apply(design(suggested_event_subscriptions=spelt), persona)
    assert [one.event_type for one in room.subscriptions(persona)] == ["invoice_found"]


def test_a_blocked_design_writes_nothing(room: Room):
    with pytest.raises(DesignError, match="cannot be applied: There is no tool “file_reed”") as caught:
        room.apply(design(suggested_tools=("file_read", "file_reed")))
    assert caught.value.hint == 'Type %persona refine "use file_read instead of file_reed".'
    assert room.personas.list() == []


def test_a_failure_half_way_takes_everything_back(room: Room, monkeypatch: pytest.MonkeyPatch):
    persona = room.apply(design()).persona

    def fail(*_: object) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(room.applier, "_apply_subscriptions", fail)
    with pytest.raises(RuntimeError):
        room.apply(design(suggested_tools=(), suggested_triggers=at_eight(), summary="New."), persona)
    assert room.personas.get(persona.id) == persona
    assert room.tool_names(persona) == {"file_read", "http_request"}
    assert [one.config for one in room.triggers(persona)] == [NINE]


def test_a_change_of_words_alone_keeps_the_version(room: Room):
    persona = room.apply(design()).persona
    applied = room.apply(design(summary="Other words."), persona)
    assert applied.persona.version == persona.version
    assert applied.changes == ("Changed: description.",)


def test_a_credential_that_arrives_is_no_change_of_the_design(room: Room):
    mail = design(suggested_tools=("gmail_read",))
    persona = room.apply(mail).persona
    room.credentials.keep("correct horse", name="my mail", connector="gmail", field="app_password")
    assert room.apply(mail, persona).changes == ()


def test_what_could_not_be_applied_stays_to_do_until_it_is_there(room: Room):
    slack = design(
        suggested_connectors=(SuggestedConnector(name="slack"),),
        suggested_notification_channels=(SuggestedChannel(type="slack", required_connector="slack"),),
    )
    persona = room.apply(slack).persona
    (missing,) = room.applier.todo(persona)
    assert (missing.kind, missing.subject) == ("credential", "slack")
    assert missing.remedy == "%persona credentials add slack slack"
    assert persona.notification_channels == ()
    credential_id = room.credentials.keep("xoxb-1234567", name="slack", connector="slack", field="bot_token")
    assert [todo.remedy for todo in room.applier.todo(persona)] == ["%persona apply"]
    persona = room.apply(slack, persona).persona
    assert room.applier.todo(persona) == []
    assert persona.notification_channels == (
        {"type": "slack", "enabled": True, "credential_id": credential_id, "config": {}},
    )
    room.credentials.remove("slack")
    assert [todo.subject for todo in room.applier.todo(persona)] == ["slack"]


def test_a_trigger_that_never_fires_is_left_out_and_to_do_until_there_is_another(room: Room):
    never = SuggestedTrigger(trigger_type="schedule", config={"cron": "0 0 30 2 *", "timezone": "UTC"})
    applied = room.apply(design(suggested_triggers=(never, *at_eight())))
    persona = applied.persona
    assert [one.config for one in room.triggers(persona)] == [EIGHT]
    assert [(todo.kind, todo.subject) for todo in applied.todo] == [("trigger", "0 0 30 2 *")]
    again = room.apply(design(suggested_triggers=(never, *at_eight())), persona)
    assert (again.changes, again.todo) == ((), applied.todo)
    room.store.table("triggers", Trigger).insert(
        Trigger(persona_id=persona.id, trigger_type="polling", config={"interval_seconds": 60})
    )
    assert room.applier.todo(persona) == []


def test_an_unknown_connector_is_to_do_until_it_exists_and_then_lacks_its_credential(room: Room):
    persona = room.apply(design(suggested_connectors=(SuggestedConnector(name="crm"),))).persona
    assert [todo.kind for todo in room.applier.todo(persona)] == ["connector"]
    room.store.table("connectors", Connector).insert(Connector(name="crm", tools=("http_request",)))
    assert [todo.problem for todo in room.applier.todo(persona)] == ["There is no credential for crm."]
    room.credentials.keep("tok-12345678", name="crm", connector="crm", field="token")
    assert room.applier.todo(persona) == []


def test_a_server_is_to_do_until_the_persona_has_it(room: Room):
    server = SuggestedServer(name="time", command=("uvx", "mcp-server-time"))
    persona = room.apply(design(suggested_servers=(server,))).persona
    assert [todo.subject for todo in room.applier.todo(persona)] == ["time"]
    room.store.table("mcp_servers", McpServer).insert(
        McpServer(persona_id=persona.id, name="time", command=server.command)
    )
    assert room.applier.todo(persona) == []


def test_a_later_design_has_its_own_list(room: Room):
    slack = design(suggested_connectors=(SuggestedConnector(name="slack"),))
    persona = room.apply(slack).persona
    assert room.applier.todo(persona) != []
    room.apply(design(), persona)
    assert room.applier.todo(persona) == []


def test_a_to_do_is_typed_for_the_session_that_it_comes_from(room: Room):
    never = SuggestedTrigger(trigger_type="schedule", config={"cron": "0 0 30 2 *", "timezone": "UTC"})
    applied = room.applier.apply(
        design(suggested_triggers=(never,)), name="Reader", session_id="1a2b3c4d-0000"
    )
    assert any("--session 1a2b3c4d" in todo.remedy for todo in applied.todo if "refine" in todo.remedy)


def test_a_persona_made_by_hand_has_nothing_to_do(room: Room):
    assert room.applier.todo(room.personas.create(name="Mine", system_prompt="x")) == []


def test_a_suggested_model_becomes_the_personas_own(room: Room):
    profile = ModelProfile(provider="anthropic", model="claude-haiku-4-5")
    persona = room.apply(design(suggested_model_profile=profile)).persona
    assert persona.model_profile == profile
    assert room.apply(design(suggested_model_profile=profile), persona).changes == ()


def test_designing_an_archived_persona_brings_it_back(room: Room):
    persona = room.personas.archive(room.apply(design()).persona)
    applied = room.apply(design(), persona)
    assert (applied.persona.archived_at, applied.persona.enabled) == (None, True)
    assert applied.changes == ("Changed: archived no more.",)


def test_a_connector_of_ones_own_counts(room: Room):
    room.store.table("connectors", Connector).insert(Connector(name="crm", tools=("http_request",)))
    mine = design(suggested_connectors=(SuggestedConnector(name="crm"),))
    assert [issue.problem for issue in room.applier.assess(mine).issues] == [
        "There is no credential for crm."
    ]
