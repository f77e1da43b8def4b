"""Feasibility: everything that a design names is looked up, and every gap has a verb that closes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from personas_nb.design.feasibility import assess
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import (
    DesignResult,
    Feasibility,
    SuggestedChannel,
    SuggestedConnector,
    SuggestedServer,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolDefinition
from personas_nb.store.database import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("catalog"))
    yield store
    store.close()


def check(store: Store, *, credentials: tuple[str, ...] = (), **fields: object) -> Feasibility:
    result = DesignResult(name="Inbox summary", structured_prompt=StructuredPrompt(identity="x"), **fields)
    return assess(
        result,
        tools=store.table("tools", ToolDefinition).find(),
        connectors=store.table("connectors", Connector).find(),
        credentials=credentials,
        timezone="Europe/Berlin",
    )


def trigger(kind: str, **config: object) -> dict[str, object]:
    return {"suggested_triggers": (SuggestedTrigger(trigger_type=kind, config=config),)}


def test_a_design_of_known_parts_is_ready(store: Store):
    found = check(
        store, suggested_tools=("file_read", "http_request"), **trigger("schedule", cron="0 9 * * 1-5")
    )
    assert found.overall == "ready"
    assert found.issues == ()
    assert found.confirmed_capabilities == (
        "tool file_read",
        "tool http_request",
        "schedule 0 9 * * 1-5 (Europe/Berlin)",
    )


def test_an_unknown_tool_blocks_and_the_nearest_one_is_the_remedy(store: Store):
    found = check(store, suggested_tools=("file_reed",))
    (issue,) = found.issues
    assert found.overall == "blocked"
    assert (issue.subject, issue.blocking) == ("file_reed", True)
    assert issue.problem == "There is no tool “file_reed”. Did you mean “file_read”?"
    assert issue.remedy == '%persona refine "use file_read instead of file_reed"'


def test_a_tool_like_no_other_can_be_done_without(store: Store):
    (issue,) = check(store, suggested_tools=("teleport",)).issues
    assert issue.remedy == '%persona refine "do without teleport"'


def test_mail_without_a_credential_is_partial_and_can_be_rehearsed(store: Store):
    found = check(store, suggested_tools=("gmail_read",))
    (issue,) = found.issues
    assert (found.overall, issue.subject, issue.blocking) == ("partial", "gmail", False)
    assert '`%%persona run "Inbox summary" --provider rehearsal`' in issue.remedy


def test_mail_with_a_credential_is_ready(store: Store):
    found = check(store, suggested_tools=("gmail_read",), credentials=("gmail",))
    assert found.overall == "ready"
    assert "connector gmail, with a credential" in found.confirmed_capabilities


def test_a_connector_is_reported_once_however_often_it_is_needed(store: Store):
    found = check(
        store,
        suggested_tools=("gmail_read", "gmail_send"),
        suggested_connectors=(SuggestedConnector(name="gmail"),),
    )
    assert [issue.subject for issue in found.issues] == ["gmail"]


def test_an_unknown_connector_is_partial_and_names_the_general_one(store: Store):
    found = check(store, suggested_connectors=(SuggestedConnector(name="clickup"),))
    assert found.overall == "partial"
    assert '%persona refine "use http_bearer instead of clickup"' in found.issues[0].remedy


def test_a_misspelt_connector_gets_the_nearest_one(store: Store):
    (issue,) = check(store, suggested_connectors=(SuggestedConnector(name="githubb"),)).issues
    assert issue.problem.endswith("Did you mean “github”?")


def test_a_service_that_no_tool_reaches_is_said(store: Store):
    store.table("connectors", Connector).insert(Connector(name="ldap", label="LDAP"))
    found = check(store, suggested_connectors=(SuggestedConnector(name="ldap"),), credentials=("ldap",))
    assert [issue.problem for issue in found.issues] == ["No built-in tool reaches LDAP."]


def test_a_database_needs_its_credential(store: Store):
    (issue,) = check(store, suggested_tools=("postgres_query",)).issues
    assert issue.subject == "postgres"
    assert "%persona credentials add postgres postgres" in issue.remedy


def test_a_channel_needs_its_connector(store: Store):
    channel = SuggestedChannel(type="slack", required_connector="slack")
    assert check(store, suggested_notification_channels=(channel,)).issues[0].subject == "slack"


@pytest.mark.parametrize(
    ("kind", "config", "problem"),
    [
        ("schedule", {"cron": "0 25 * * *"}, "hour"),
        ("schedule", {"cron": "0 0 30 2 *"}, "0 0 30 2"),
        ("schedule", {"cron": "every day"}, "every day"),
        ("schedule", {"cron": "0 9 * * *", "timezone": "Mars/Olympus"}, "Mars/Olympus"),
        ("schedule", {}, "no cron expression"),
        ("polling", {}, "whole number of seconds"),
        ("polling", {"interval_seconds": 0}, "whole number of seconds"),
        ("polling", {"interval_seconds": True}, "whole number of seconds"),
        ("webhook", {"methods": ["BREW"]}, "BREW"),
    ],
)
def test_a_trigger_that_cannot_fire_is_left_to_do(
    store: Store, kind: str, config: dict[str, object], problem: str
):
    found = check(store, **trigger(kind, **config))
    assert (found.overall, found.issues[0].kind) == ("partial", "trigger")
    assert problem in found.issues[0].problem
    assert found.issues[0].remedy.startswith("%persona refine")


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("polling", {"interval_seconds": 2700}),
        ("webhook", {}),
        ("webhook", {"path": "/x", "methods": ["post"]}),
        ("manual", {}),
        ("schedule", {"cron": "@daily", "timezone": "UTC"}),
    ],
)
def test_a_trigger_that_can_fire_is_confirmed(store: Store, kind: str, config: dict[str, object]):
    found = check(store, **trigger(kind, **config))
    assert (found.overall, len(found.confirmed_capabilities)) == ("ready", 1)


def test_event_types_are_checked_and_told_apart(store: Store):
    found = check(
        store,
        suggested_event_subscriptions=(
            SuggestedSubscription(event_type="Execution-Completed"),
            SuggestedSubscription(event_type="invoice_found"),
            SuggestedSubscription(event_type="an invoice!"),
        ),
    )
    assert found.confirmed_capabilities == ("system event Execution-Completed", "custom event invoice_found")
    assert found.overall == "blocked"
    assert found.issues[0].remedy == '%persona refine "on the event an_invoice"'


def test_every_issue_has_a_remedy(store: Store):
    found = check(
        store,
        suggested_tools=("nope", "gmail_read"),
        suggested_connectors=(SuggestedConnector(name="clickup"), SuggestedConnector(name="postgres")),
        **trigger("schedule", cron="no"),
    )
    assert len(found.issues) == 5
    assert all("%" in issue.remedy for issue in found.issues)


def test_a_server_of_the_context_is_added_by_a_verb_that_names_what_it_needs(store: Store):
    server = SuggestedServer(name="github", command=("npx", "-y", "server-github"), env=("GITHUB_TOKEN",))
    (issue,) = check(store, suggested_servers=(server,)).issues
    assert issue.remedy == (
        '%persona servers add "Inbox summary" github --from-env GITHUB_TOKEN=GITHUB_TOKEN -- npx -y server-github'
    )
    wiki = SuggestedServer(name="wiki", url="https://mcp.example/mcp")
    (issue,) = check(store, suggested_servers=(wiki,)).issues
    assert issue.remedy.endswith("wiki --url https://mcp.example/mcp")
