"""What starts an imported persona, and what is told of each trigger."""

from __future__ import annotations

from typing import Any

import pytest
from support.n8n_files import entry, imported, node, steps, to

from personas_nb.design.formats.report import ImportReport
from personas_nb.entities.design import SuggestedTrigger


def started_by(kind: str, parameters: dict[str, Any] | None = None, **fields: Any) -> ImportReport:
    settings = fields.pop("settings", None)
    extra = {"settings": settings} if settings is not None else {}
    nodes = [node("Trigger", kind, parameters, **fields), node("Work", "set")]
    return imported(nodes, {"Trigger": to("Work")}, **extra)


def only(report: ImportReport) -> SuggestedTrigger:
    (trigger,) = report.draft.suggested_triggers
    assert trigger.source_node == "Trigger"
    return trigger


DAILY = {"rule": {"interval": [{"triggerAtHour": 9}]}}


def test_a_schedule_keeps_its_times_in_the_zone_of_the_workflow() -> None:
    report = started_by("scheduleTrigger", DAILY, settings={"timezone": "Asia/Tehran"})
    assert only(report).trigger_type == "schedule"
    assert only(report).config == {"cron": "0 9 * * *", "timezone": "Asia/Tehran"}
    assert only(report).description == "every day at 09:00 (Asia/Tehran)"
    assert entry(report, "settings: timezone").outcome == "mapped"
    assert entry(report, "Trigger").reason == "Every day at 09:00 (Asia/Tehran)."


def test_a_schedule_without_a_zone_asks_which_it_is() -> None:
    report = started_by("scheduleTrigger", DAILY, settings={"timezone": "DEFAULT"})
    assert only(report).config == {"cron": "0 9 * * *"}
    assert entry(report, "settings: timezone").outcome == "needs_human"


def test_a_schedule_that_is_the_same_in_every_zone_asks_nothing() -> None:
    report = started_by(
        "scheduleTrigger", {"rule": {"interval": [{"field": "minutes", "minutesInterval": 20}]}}
    )
    assert [one for one in report.entries if one.source.startswith("settings")] == []


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", 5, "../../etc/passwd", "x" * 5_000])
def test_a_zone_that_does_not_exist_is_left_out(zone: Any) -> None:
    report = started_by("scheduleTrigger", DAILY, settings={"timezone": zone})
    assert "timezone" not in only(report).config
    assert entry(report, "settings: timezone").outcome == "needs_human"


def test_a_period_is_a_polling_trigger() -> None:
    report = started_by("interval", {"interval": 45, "unit": "minutes"})
    assert (only(report).trigger_type, only(report).config) == ("polling", {"interval_seconds": 2_700})
    assert entry(report, "Trigger").reason == "Every 45 minutes."


def test_a_schedule_that_fires_often_is_told_what_it_costs() -> None:
    reason = entry(started_by("interval", {"interval": 30}), "Trigger").reason
    assert "Each time is a run of a model" in reason


def test_a_computed_schedule_is_no_trigger_but_an_entry() -> None:
    parameters = {"rule": {"interval": [{"field": "cronExpression", "expression": "={{ $json.when }}"}]}}
    report = started_by("scheduleTrigger", parameters)
    assert report.draft.suggested_triggers == ()
    found = entry(report, "Trigger")
    assert (found.outcome, "`%persona refine" in found.reason) == ("needs_human", True)


def test_a_cron_node_without_times_is_dropped() -> None:
    report = started_by("cron")
    assert report.draft.suggested_triggers == ()
    assert entry(report, "Trigger").reason == "It has no times, so it never fires in n8n either."


def test_a_poller_has_its_times_its_tools_and_its_connector() -> None:
    report = started_by(
        "gmailTrigger", {"pollTimes": {"item": [{"mode": "everyHour"}]}}, credentials={"gmailOAuth2": {}}
    )
    assert only(report).config == {"cron": "0 * * * *"}
    assert report.draft.suggested_tools == ("gmail_search", "gmail_read")
    assert [one.name for one in report.draft.suggested_connectors] == ["gmail"]
    assert "first look for what is new in Gmail since the last run" in steps(report)


def test_a_poller_without_times_looks_every_minute() -> None:
    assert only(started_by("notionTrigger")).config == {"cron": "* * * * *"}


def test_a_poller_of_a_community_package_is_known_by_its_times() -> None:
    report = started_by("acme.gadgetTrigger", {"pollTimes": {"item": [{"hour": 7}]}})
    assert only(report).config == {"cron": "0 7 * * *"}


@pytest.mark.parametrize(
    ("parameters", "methods"),
    [
        ({"httpMethod": "POST"}, ["POST"]),
        ({}, ["GET"]),
        ({"httpMethod": ["GET", "PUT"], "multipleMethods": True}, ["GET", "PUT"]),
        ({"multipleMethods": True}, ["GET", "POST"]),
        ({"httpMethod": "delete"}, ["DELETE"]),
        ({"httpMethod": "HEAD"}, ["POST"]),
        ({"httpMethod": {"x": 1}}, ["POST"]),
    ],
    ids=str,
)
def test_a_webhook_has_its_path_and_methods(parameters: dict[str, Any], methods: list[str]) -> None:
    trigger = only(started_by("webhook", {"path": "orders/new", **parameters}))
    assert (trigger.trigger_type, trigger.config) == ("webhook", {"path": "orders/new", "methods": methods})


def test_only_a_webhook_that_takes_post_and_answers_at_once_is_mapped() -> None:
    assert entry(started_by("webhook", {"path": "a", "httpMethod": "POST"}), "Trigger").outcome == "mapped"
    asked = [
        {"path": "a"},
        {"path": "a", "httpMethod": "POST", "responseMode": "lastNode"},
        {"path": "={{ 1 + 1 }}", "httpMethod": "POST"},
    ]
    for parameters in asked:
        assert entry(started_by("webhook", parameters), "Trigger").outcome == "needs_human"


@pytest.mark.parametrize("path", ["=orders", "={{ 'orders' }}"])
def test_a_path_that_is_a_value_alone_is_no_expression(path: str) -> None:
    report = started_by("webhook", {"path": path, "httpMethod": "={{ 'POST' }}"})
    assert only(report).config == {"path": "orders", "methods": ["POST"]}
    assert entry(report, "Trigger").outcome == "mapped"


def test_the_inputs_of_a_sub_workflow_are_those_of_its_example() -> None:
    example = {"inputSource": "jsonExample", "jsonExample": '{"order": 1, "customer": "x"}'}
    report = started_by("executeWorkflowTrigger", example)
    assert "Its input: `order` and `customer`." in entry(report, "Trigger").reason
    assert (
        "Its input"
        not in entry(started_by("executeWorkflowTrigger", example | {"jsonExample": "{"}), "Trigger").reason
    )


def test_a_macro_at_midnight_asks_for_the_zone_and_an_hourly_one_does_not() -> None:
    def asked(expression: str) -> bool:
        rules = {"rule": {"interval": [{"field": "cronExpression", "expression": expression}]}}
        return any(
            each.source == "settings: timezone" for each in started_by("scheduleTrigger", rules).entries
        )

    assert [asked("@daily"), asked("@hourly")] == [True, False]


def test_a_webhook_without_a_path_has_the_id_that_n8n_used() -> None:
    assert only(started_by("webhook", {}, webhookId="f6f9b174")).config["path"] == "f6f9b174"


@pytest.mark.parametrize(
    ("kind", "outcome", "said"),
    [
        ("manualTrigger", "mapped", "by hand"),
        ("start", "mapped", "by hand"),
        ("chatTrigger", "mapped", "a chat message"),
        ("formTrigger", "needs_human", "no page with the form"),
        ("executeWorkflowTrigger", "mapped", "persona_action"),
        ("mcpTrigger", "needs_human", "MCP"),
    ],
)
def test_what_a_person_or_a_workflow_starts_is_started_by_hand(kind: str, outcome: str, said: str) -> None:
    report = started_by(kind)
    assert only(report).trigger_type == "manual"
    assert entry(report, "Trigger").outcome == outcome
    assert said in entry(report, "Trigger").reason


def test_the_fields_of_a_form_are_the_input() -> None:
    values = [{"fieldLabel": "Your name"}, {"fieldLabel": "<b>Mail</b>"}, {}, 3]
    report = started_by("formTrigger", {"formFields": {"values": values}})
    assert "the input has `Your name` and `<b>Mail</b>`" in steps(report)


def test_an_error_trigger_listens_to_failed_runs() -> None:
    report = started_by("errorTrigger")
    assert report.draft.suggested_triggers == ()
    assert [one.event_type for one in report.draft.suggested_event_subscriptions] == ["execution_failed"]


def test_what_watches_a_file_or_a_queue_becomes_an_event_that_somebody_publishes() -> None:
    report = started_by("localFileTrigger", {"path": "/data"})
    assert [one.event_type for one in report.draft.suggested_event_subscriptions] == ["file_changed"]
    assert 'studio.events.publish("file_changed"' in entry(report, "Trigger").reason


def test_a_service_that_calls_becomes_a_webhook_that_must_be_signed() -> None:
    report = started_by("telegramTrigger", {"updates": ["message", "callback_query"]})
    assert only(report).trigger_type == "webhook"
    found = entry(report, "Trigger")
    assert found.outcome == "needs_human"
    assert "Telegram called n8n when something happened (`message` and `callback query`)" in found.reason


def test_github_signs_what_it_sends() -> None:
    assert entry(started_by("githubTrigger", {"events": ["push"]}), "Trigger").outcome == "mapped"


def test_a_mailbox_is_looked_at_every_five_minutes_and_says_so() -> None:
    report = started_by("emailReadImap", credentials={"imap": {}})
    assert only(report).config == {"interval_seconds": 300}
    assert entry(report, "Trigger").outcome == "needs_human"
    assert report.draft.suggested_tools == ("gmail_read",)


def test_a_trigger_of_the_instance_is_dropped() -> None:
    report = started_by("n8nTrigger", {"events": ["activate"]})
    assert (report.draft.suggested_triggers, entry(report, "Trigger").outcome) == ((), "dropped")


def test_a_trigger_of_an_unknown_package_asks() -> None:
    found = entry(started_by("CUSTOM.klicktippTrigger"), "Trigger")
    assert (found.outcome, "community package" in found.reason) == ("needs_human", True)


def test_a_disabled_trigger_starts_nothing_and_tells_what_it_would_do() -> None:
    report = started_by("scheduleTrigger", DAILY, disabled=True)
    assert report.draft.suggested_triggers == ()
    found = entry(report, "Trigger")
    assert (found.outcome, found.reason) == (
        "dropped",
        "It is disabled in n8n. It would start the persona every day at 09:00.",
    )
    assert "Started by hand: begin with step 1." in steps(report)


def test_several_triggers_say_each_where_it_begins() -> None:
    times = {"triggerTimes": {"item": [{"hour": 9}, {"hour": 16}]}}
    nodes = [
        node("Cron", "cron", times),
        node("Hook", "webhook", {"path": "x"}),
        node("A", "set"),
        node("B", "html"),
    ]
    report = imported(nodes, {"Cron": to("A"), "Hook": to("B")})
    assert [trigger.config.get("cron") for trigger in report.draft.suggested_triggers] == [
        "0 9 * * *",
        "0 16 * * *",
        None,
    ]
    assert "- Started every day at 09:00 and every day at 16:00 (`Cron`): begin with step 1." in steps(report)
    assert "- Started by a webhook (`Hook`): begin with step 2; the input is what was sent." in steps(report)
    assert "If nothing tells which of them it was, begin with step 1." in steps(report)
