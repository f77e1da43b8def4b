"""The offline designer: what a sentence becomes without any model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personas_nb.design.context import ContextText
from personas_nb.design.designer import DesignAnswer, DesignRequest, markdown_of
from personas_nb.design.lexicon import event_name, other_persona, wanted
from personas_nb.design.offline import SAYS_SO, OfflineDesigner
from personas_nb.design.prose import clauses, name_of, without
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import DesignResult, DesignTurn
from personas_nb.entities.tool import ToolDefinition
from personas_nb.store.database import Store

WEEKDAYS_AT_9 = "Every weekday at 9 read my inbox and post a summary"
MAIL = ("gmail_read", "gmail_search")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("catalog"))
    yield store
    store.close()


def ask(store: Store, instruction: str, /, **more: object) -> DesignAnswer:
    fields: dict[str, object] = {
        "instruction": instruction,
        "kind": "instruction",
        "text": instruction,
    } | more
    request = DesignRequest(
        tools=tuple(store.table("tools", ToolDefinition).find()),
        connectors=tuple(store.table("connectors", Connector).find()),
        timezone="Europe/Berlin",
        **fields,
    )
    return asyncio.run(OfflineDesigner(store).design(request))


def designed(store: Store, instruction: str, /, **more: object) -> DesignResult:
    answer = ask(store, instruction, **more)
    assert answer.result is not None, answer.question
    return answer.result


def refined(store: Store, wish: str, text: str = WEEKDAYS_AT_9) -> tuple[DesignResult, DesignResult]:
    before = designed(store, text)
    turns = (DesignTurn(kind="instruction", text=text, result=before),)
    return before, designed(store, text, kind="refine", text=wish, turns=turns)


def changed_fields(before: DesignResult, after: DesignResult) -> set[str]:
    return {name for name in DesignResult.model_fields if getattr(before, name) != getattr(after, name)}


class Case(NamedTuple):
    text: str
    tools: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    triggers: tuple[dict[str, object], ...] = ()
    messages: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def cron(expression: str) -> dict[str, object]:
    return {"cron": expression, "timezone": "Europe/Berlin"}


CASES = [
    Case(WEEKDAYS_AT_9, MAIL, ("gmail",), (cron("0 9 * * 1-5"),), ("user_message",)),
    Case(
        "Monitor my Gmail and create ClickUp tasks for actionable emails",
        (*MAIL, "http_request"),
        ("gmail", "http_bearer"),
        messages=("user_message",),
    ),
    Case(
        "Check https://status.example.com every 45 minutes and tell me when it is down",
        ("http_request",),
        triggers=({"interval_seconds": 2700},),
        messages=("user_message",),
    ),
    Case("Read the CSV files in inputs/ and write a report", ("file_read", "file_write")),
    Case("Summarise sales.csv and save the result to summary.md", ("file_read", "file_write")),
    Case(
        "Every Monday at 8 email me a summary of open GitHub pull requests",
        ("gmail_send", "http_request"),
        ("gmail", "github"),
        (cron("0 8 * * 1"),),
    ),
    Case(
        "Reply to customer emails, but ask me before you send anything",
        (*MAIL, "gmail_send"),
        ("gmail",),
        messages=("manual_review",),
    ),
    Case(
        "Watch the folder inbox/ for new invoices and remember which ones were paid",
        ("file_read",),
        messages=("agent_memory", "user_message"),
    ),
    Case(
        "When an invoice_found event arrives, check the amount and ask for my approval",
        messages=("manual_review",),
        events=("invoice_found",),
    ),
    Case(
        "Post a digest of the news to Slack every morning",
        ("http_request",),
        ("slack",),
        (cron("0 9 * * *"),),
        ("user_message",),
        channels=("slack",),
    ),
    Case(
        "Send a Telegram message when the exchange rate of EUR/USD changes by 2%",
        ("http_request",),
        ("telegram",),
        messages=("user_message",),
        channels=("telegram",),
    ),
    Case(
        "Query the Postgres database nightly and write a table of new customers to report.csv",
        ("postgres_query", "file_write"),
        ("postgres",),
        (cron("0 22 * * *"),),
    ),
    Case(
        "After the Archivist persona finishes, tell me what changed",
        messages=("user_message",),
        events=("execution_completed",),
    ),
    Case(
        "Read orders.json, then start the persona Shipping",
        ("file_read",),
        messages=("persona_action",),
    ),
    Case(
        'Scan the log files and emit an event "error_found" for each error',
        ("file_read",),
        messages=("emit_event",),
    ),
    Case(
        "Classify incoming mails and mark newsletters as read",
        (*MAIL, "gmail_mark_read"),
        ("gmail",),
        messages=("user_message",),
    ),
    Case("Draft answers to my unread mails", MAIL, ("gmail",), messages=("user_message",)),
    Case(
        "I need an agent that reads my mailbox and forwards invoices to accounting@example.com",
        (*MAIL, "gmail_send"),
        ("gmail",),
    ),
    Case("Translate all Markdown files in docs/ into German", ("file_read", "file_write")),
    Case(
        "Every 3 days fetch https://api.example.com/v1/users and compare it with users.csv",
        ("http_request", "file_read"),
        triggers=({"interval_seconds": 259_200},),
        messages=("user_message",),
    ),
    Case("On a webhook, validate the JSON and notify me", triggers=({},), messages=("user_message",)),
    Case(
        "Create a persona that monitors arXiv for papers about graphs every day at 7 and posts the list to Slack",
        ("http_request",),
        ("slack",),
        (cron("0 7 * * *"),),
        ("user_message",),
        channels=("slack",),
    ),
    Case(
        "Look up the weather every morning and let me know if I need an umbrella",
        ("http_request",),
        triggers=(cron("0 9 * * *"),),
        messages=("user_message",),
    ),
    Case(
        "Learn from my corrections and keep track of recurring mistakes in notes.md",
        ("file_write",),
        messages=("agent_memory",),
    ),
    Case(
        "Clean the dataset data/raw.csv: remove duplicates and write data/clean.csv",
        ("file_read", "file_write"),
    ),
    Case(
        "Monitor Jira tickets and hand over to Triage-bot if one is urgent",
        ("http_request",),
        ("http_bearer",),
        messages=("persona_action",),
    ),
    Case(
        "Search my mails for invoices from ACME and save the amounts in a spreadsheet",
        (*MAIL, "file_write"),
        ("gmail",),
    ),
    Case("Answer questions about the handbook.md file", ("file_read",), messages=("user_message",)),
    Case(
        "Read my mail. Never send anything. If a mail is urgent, tell me.",
        MAIL,
        ("gmail",),
        messages=("user_message",),
    ),
    Case("Summarize the input", messages=("user_message",)),
    Case("Check prices of flights", ("http_request",), messages=("user_message",)),
]


@pytest.mark.parametrize("case", CASES, ids=[case.text[:50] for case in CASES])
def test_a_sentence_gets_the_tools_services_triggers_and_messages_it_names(store: Store, case: Case):
    result = designed(store, case.text)
    instructions = result.structured_prompt.instructions
    assert result.suggested_tools == case.tools
    assert tuple(one.name for one in result.suggested_connectors) == case.connectors
    assert tuple(one.config for one in result.suggested_triggers) == case.triggers
    assert tuple(one.event_type for one in result.suggested_event_subscriptions) == case.events
    assert tuple(one.type for one in result.suggested_notification_channels) == case.channels
    every = ("user_message", "manual_review", "agent_memory", "emit_event", "persona_action")
    assert {kind for kind in every if kind in instructions} == set(case.messages)


@pytest.mark.parametrize("case", CASES, ids=[case.text[:50] for case in CASES])
def test_a_design_is_complete_and_says_that_no_model_made_it(store: Store, case: Case):
    result = designed(store, case.text)
    prompt = result.structured_prompt
    assert all((result.name, prompt.identity, prompt.instructions, prompt.examples, prompt.error_handling))
    assert result.summary
    assert SAYS_SO in result.design_highlights[-1].items
    assert result.full_prompt_markdown == markdown_of(prompt)
    assert [line.split(":")[0][2:] for line in prompt.tool_guidance.splitlines()] == list(case.tools)
    assert len(result.flow.edges) == len(result.flow.steps) - 1 >= 2
    assert "report what is missing; never invent data" in prompt.error_handling


def test_the_steps_are_numbered_and_keep_the_persons_words(store: Store):
    result = designed(store, WEEKDAYS_AT_9)
    assert result.structured_prompt.instructions == (
        "1. Read my inbox.\n2. Post a summary: send a user_message with it."
    )


def test_the_schedule_is_no_part_of_the_prompt_so_that_it_can_change_alone(store: Store):
    result = designed(store, WEEKDAYS_AT_9)
    assert "weekday" not in result.full_prompt_markdown + result.summary
    assert "weekday" not in " ".join(step.label for step in result.flow.steps)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (WEEKDAYS_AT_9, "Inbox summary"),
        ("Summarise sales.csv and save the result to summary.md", "Sales summary"),
        ("Every Monday at 8 email me a summary of open GitHub pull requests", "Pull requests summary"),
        ("Post a digest of the news to Slack every morning", "News digest"),
        ("After the Archivist persona finishes, tell me what changed", "Archivist watcher"),
        ("Translate all Markdown files in docs/ into German", "Markdown files translator"),
        ("Keep an eye on server logs and alert me about errors", "Server logs watcher"),
        ("Whenever a mail from my boss arrives, tell me", "Mail watcher"),
        ("Remind me to drink water every 2 hours", "Drink water reminder"),
        ("An assistant for sorting my unread mail into categories", "Mail sorter"),
        ("Bills: read mails with invoices and extract the amounts", "Bills"),
        ("Do this: read notes.md and tell me", "Notes watcher"),
    ],
)
def test_a_persona_without_a_name_gets_one_from_what_it_does(store: Store, text: str, name: str):
    assert designed(store, text).name == name


def test_a_time_before_a_colon_is_no_title(store: Store):
    result = designed(store, "Every Monday: read my inbox and post a summary")
    assert (result.name, result.suggested_triggers[0].config) == ("Inbox summary", cron("0 9 * * 1"))


def test_a_role_is_no_step(store: Store):
    result = designed(store, "You are a research assistant. Find papers on arXiv and write them to papers.md")
    assert result.structured_prompt.instructions.startswith("1. Find papers on arXiv.")
    assert "You are a research assistant" in result.structured_prompt.identity


def test_a_name_that_was_given_wins(store: Store):
    assert designed(store, WEEKDAYS_AT_9, name="Morning post").name == "Morning post"


@pytest.mark.parametrize(
    "text", ["help me", "do something useful", "Make it better", "Every day at 9 help me", "?!"]
)
def test_a_vague_instruction_gets_one_question_with_options(store: Store, text: str):
    answer = ask(store, text)
    assert answer.result is None
    assert answer.question is not None
    assert 2 <= len(answer.question.options) <= 4


def test_an_answer_continues_with_what_was_said_before(store: Store):
    question = ask(store, "Every Friday at 16:00 help me").question
    assert question is not None
    turns = (DesignTurn(kind="instruction", text="Every Friday at 16:00 help me", question=question),)
    result = designed(
        store, "Every Friday at 16:00 help me", kind="answer", text=question.options[1], turns=turns
    )
    assert [one.config for one in result.suggested_triggers] == [cron("0 16 * * 5")]
    assert result.suggested_tools == MAIL


def test_a_vague_answer_is_designed_and_not_asked_about_again(store: Store):
    question = ask(store, "help me").question
    turns = (DesignTurn(kind="instruction", text="help me", question=question),)
    result = designed(store, "help me", kind="answer", text="whatever you like", turns=turns)
    assert "user_message" in result.structured_prompt.instructions


def test_the_same_sentence_gives_the_same_design(store: Store):
    assert designed(store, CASES[1].text) == designed(store, CASES[1].text)


def test_a_tool_of_the_notebook_is_found_by_the_words_of_its_description(tmp_path: Path):
    store = Store(tmp_path)
    tool = ToolDefinition(
        name="crm_lookup", description="Look up a customer's contract in the CRM.", category="notebook"
    )
    store.table("tools", ToolDefinition).insert(tool)
    assert (
        "crm_lookup" in designed(store, "Tell me which customers have a contract that ends").suggested_tools
    )
    assert "crm_lookup" not in designed(store, WEEKDAYS_AT_9).suggested_tools
    store.close()


def test_a_tool_named_in_the_sentence_is_taken(store: Store):
    assert "file_write" in designed(store, "Compare two offers with file_write at hand").suggested_tools


def test_a_csv_in_the_context_lends_its_columns(store: Store):
    sample = ContextText("sales.csv", "region,amount\nN,1\n", Path("sales.csv"))
    result = designed(store, "Read sales.csv and write a report", context=(sample,))
    assert "region, amount" in result.structured_prompt.examples


def test_a_pdf_is_said_to_need_another_form(store: Store):
    result = designed(store, "Read the PDF contracts in inputs/ and write a report")
    assert any("saved as text" in item for group in result.design_highlights for item in group.items)


# ── refining ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wish", "configs"),
    [
        ("at 8 instead", [cron("0 8 * * 1-5")]),
        ("at 8:30 pm instead", [cron("30 20 * * 1-5")]),
        ("Change the time to 7:30", [cron("30 7 * * 1-5")]),
        ("run it at noon", [cron("0 12 * * 1-5")]),
        ("every Monday", [cron("0 9 * * 1")]),
        ("every Monday at 7", [cron("0 7 * * 1")]),
        ("also every Sunday at 18:00", [cron("0 9 * * 1-5"), cron("0 18 * * 0")]),
        ("make it hourly", [cron("0 * * * *")]),
        ("every 45 minutes", [{"interval_seconds": 2700}]),
        ("remove the schedule", []),
        ("start only by hand", []),
    ],
)
def test_a_wish_about_time_changes_the_triggers_alone(
    store: Store, wish: str, configs: list[dict[str, object]]
):
    before, after = refined(store, wish)
    assert [one.config for one in after.suggested_triggers] == configs
    assert changed_fields(before, after) == {"suggested_triggers"}


def test_a_new_time_keeps_the_days_and_says_both(store: Store):
    _, after = refined(store, "at 8 instead")
    assert [one.description for one in after.suggested_triggers] == ["every weekday at 08:00"]


def test_a_new_name_changes_the_name_alone(store: Store):
    before, after = refined(store, "call it Morning post")
    assert after.name == "Morning post"
    assert changed_fields(before, after) == {"name"}


def test_two_wishes_in_one_sentence_are_both_heard(store: Store):
    before, after = refined(store, "call it Morning post and run it at 7")
    assert (after.name, after.suggested_triggers[0].config) == ("Morning post", cron("0 7 * * 1-5"))
    assert changed_fields(before, after) == {"name", "suggested_triggers"}


def test_a_new_task_is_one_more_step_with_its_tool(store: Store):
    before, after = refined(store, "also write a report file")
    assert after.structured_prompt.instructions == (
        f"{before.structured_prompt.instructions}\n3. Also: write a report file."
    )
    assert after.suggested_tools == (*before.suggested_tools, "file_write")
    assert changed_fields(before, after) == {
        "structured_prompt", "full_prompt_markdown", "suggested_tools", "flow", "design_highlights"
    }  # fmt: skip
    assert after.design_highlights[0].items[-1] == "Write a report file"
    assert after.structured_prompt.identity == before.structured_prompt.identity


@pytest.mark.parametrize("wish", ["don't use http", "without http_request", "Remove the http_request tool"])
def test_a_tool_that_is_not_wanted_goes_with_its_guidance(store: Store, wish: str):
    text = "Check https://example.com and write a report"
    before, after = refined(store, wish, text)
    assert before.suggested_tools == ("http_request", "file_write")
    assert after.suggested_tools == ("file_write",)
    assert "http_request" not in after.structured_prompt.tool_guidance
    assert after.structured_prompt.instructions == before.structured_prompt.instructions


def test_a_tool_can_be_swapped(store: Store):
    _, after = refined(
        store, "use file_read instead of http_request", "Check https://example.com and alert me"
    )
    assert after.suggested_tools == ("file_read",)


def test_a_service_that_is_not_wanted_goes_with_its_tools(store: Store):
    before, after = refined(
        store, "do without gmail", "Read my inbox and https://example.com and write a report"
    )
    assert "gmail" in [one.name for one in before.suggested_connectors]
    assert after.suggested_connectors == ()
    assert not set(after.suggested_tools) & set(MAIL)


def test_asking_first_adds_the_review_and_no_tool(store: Store):
    before, after = refined(store, "ask me before you send anything")
    last = after.structured_prompt.instructions.splitlines()[-1]
    assert last.startswith("3. Ask me before you send anything: send a manual_review")
    assert after.suggested_tools == before.suggested_tools
    assert after.flow.steps[-2].kind == "review"


def test_a_prohibition_is_an_instruction_and_brings_no_tool(store: Store):
    before, after = refined(store, "never send any mail")
    assert after.suggested_tools == before.suggested_tools
    assert after.structured_prompt.instructions.endswith("Also: never send any mail.")


def test_a_chat_in_a_wish_brings_connector_and_channel(store: Store):
    _, after = refined(store, "also tell me on Slack")
    assert [one.name for one in after.suggested_connectors] == ["gmail", "slack"]
    assert [one.type for one in after.suggested_notification_channels] == ["slack"]


@pytest.mark.parametrize(
    "wish", ["don't post to Slack, write it to digest.md instead", "drop Slack and write digest.md"]
)
def test_a_chat_that_is_not_wanted_any_more_goes_with_its_step_and_its_tool(store: Store, wish: str):
    _, after = refined(store, wish, "Every day at 8 read notes.txt and post a summary to Slack")
    assert (after.suggested_connectors, after.suggested_notification_channels) == ((), ())
    assert after.suggested_tools == ("file_read", "file_write")
    assert "http_request" not in after.structured_prompt.tool_guidance
    assert "summary to Slack" not in after.structured_prompt.instructions
    assert "Slack" not in after.summary
    assert all("summary to Slack" not in box.label for box in after.flow.steps)


@pytest.mark.parametrize(
    "wish", ["don't post to Slack before I approve", "never post to Slack more than once a day"]
)
def test_a_rule_for_a_chat_keeps_the_chat(store: Store, wish: str):
    _, after = refined(store, wish, "Every day at 8 read notes.txt and post a summary to Slack")
    assert [one.type for one in after.suggested_notification_channels] == ["slack"]
    assert "summary to Slack" in after.structured_prompt.instructions


def test_an_event_in_a_wish_is_a_subscription(store: Store):
    before, after = refined(store, "on the event new_mail")
    assert [one.event_type for one in after.suggested_event_subscriptions] == ["new_mail"]
    assert changed_fields(before, after) == {"suggested_event_subscriptions"}


def test_a_number_that_is_no_time_stays_in_its_sentence(store: Store):
    before, after = refined(store, "stop at 5 results")
    assert after.suggested_triggers == before.suggested_triggers
    assert after.structured_prompt.instructions.endswith("3. Also: stop at 5 results.")


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_verbs_that_share_an_object_stay_together():
    assert clauses("Read and summarise my mail, then tell me") == ["Read and summarise my mail", "tell me"]


def test_words_that_look_like_verbs_do_not_cut_a_list_of_things():
    assert clauses("Collect orders, reviews and returns") == ["Collect orders, reviews and returns"]


def test_a_hole_in_a_sentence_leaves_no_stray_punctuation():
    assert without("At 9, read my inbox", [(0, 4)]) == "read my inbox"


@pytest.mark.parametrize(
    ("clause", "tools"),
    [
        ("mail the report to Ann", ("gmail_send",)),
        ("send the summary by e-mail", ("gmail_send",)),
        ("search my mailbox", MAIL),
        ("read the folder inbox", ("file_read",)),
        ("export the orders as CSV", ("file_write",)),
        ("call the REST API", ("http_request",)),
        ("think about it", ()),
    ],
)
def test_words_stand_for_tools(clause: str, tools: tuple[str, ...]):
    assert wanted(clause).tools == tools


def test_an_event_is_named_in_one_word():
    assert event_name("emit an event “Invoice found”") == "invoice_found"
    assert event_name("emit an event") == "custom"


def test_another_persona_is_named_as_it_was_written():
    assert other_persona("start the persona Night Shift") == "Night Shift"
    assert other_persona("hand it over to Accounting if it is late") == "Accounting"
    assert other_persona("start the report") == ""


# ── any text ────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=200).filter(str.strip))
def test_any_text_gets_a_design_or_a_question(store: Store, text: str):
    answer = ask(store, text)
    assert (answer.result is None) != (answer.question is None)
    if answer.result is not None:
        assert answer.result.name
        assert answer.result.structured_prompt.instructions.startswith("1. ")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wish=st.text(min_size=1, max_size=200).filter(str.strip))
def test_any_wish_keeps_what_it_does_not_name(store: Store, wish: str):
    before, after = refined(store, wish)
    assert after.summary == before.summary
    assert after.structured_prompt.identity == before.structured_prompt.identity
    assert after.structured_prompt.instructions.startswith(before.structured_prompt.instructions)


@given(found=st.lists(st.text(max_size=60), max_size=5))
def test_a_name_always_fits_a_persona(found: list[str]):
    assert 1 <= len(name_of(found)) <= 200


@pytest.mark.parametrize("piece", ["a-", "a/", "send ", "and read ", "x.csv ", "every ", "“", "post a "])
def test_long_texts_are_read_in_time_that_grows_with_their_length(store: Store, piece: str):
    """A hundredfold text may not take ten thousand times as long; the margin is wide, for busy machines."""
    started = time.perf_counter()
    ask(store, piece * (20_000 // len(piece)))
    assert time.perf_counter() - started < 30


def test_a_sentence_that_is_wrapped_over_lines_is_read_as_one(store: Store):
    text = (
        "Every weekday at 9, read the files that I give you and find out which of the customers\n"
        "pay late, write the list to late.md,\nand send me a summary."
    )
    steps = designed(store, text).structured_prompt.instructions.splitlines()
    assert [step.split(".", 1)[1].split()[0] for step in steps] == ["Read", "Find", "Write", "Send"]
    assert "customers pay late" in steps[1]


def test_two_times_in_the_same_words_take_nothing_else_away(store: Store):
    result = designed(store, "Read my unread emails at 7:30 and noon on weekdays and flag anything urgent")
    assert result.structured_prompt.instructions.splitlines()[1] == "2. Flag anything urgent."
    assert len(result.suggested_triggers) == 2


def test_a_web_address_without_its_scheme_is_one_and_a_file_name_is_none(store: Store):
    result = designed(store, "Every 45 minutes check whether example.com is up; if it's down, tell me")
    assert (result.name, result.suggested_tools) == ("Example.com watcher", ("http_request",))
    for task in ("Translate letter.de.md into English", "Summarise notes.txt for ada@example.com"):
        assert "http_request" not in designed(store, task).suggested_tools


def test_what_somebody_with_a_role_does_is_the_task(store: Store):
    result = designed(store, "Act as a SQL tutor that explains queries I paste")
    assert result.structured_prompt.instructions.startswith("1. Explain queries I paste.")
    assert result.summary == "Explains queries you paste."


def test_a_summary_keeps_the_order_of_the_sentence(store: Store):
    result = designed(store, "Grade the essays in essays/ and write grades.csv")
    assert result.summary == "Grade the essays in essays/. Writes grades.csv."


def test_a_summary_leaves_what_is_quoted_and_calls_the_persona_it(store: Store):
    result = designed(store, "Read 'my file.txt' and compare it with what I give you")
    assert result.summary == "Reads 'my file.txt', then compares it with what you give it."


@pytest.mark.parametrize(
    ("instruction", "name"),
    [
        ("Proofread my README.md. Don't change the code blocks.", "README proofreader"),
        ("Compare two CSV files I give you and list the differences", "CSV files analyst"),
        ("Keep an eye on PyPI for new releases of pandas", "PyPI watcher"),
        ("Get the exchange rate EUR/CZK and warn me if it moved more than 1%", "Exchange rate watcher"),
    ],
)
def test_a_name_says_what_it_is_about(store: Store, instruction: str, name: str):
    assert designed(store, instruction).name == name


def test_what_no_tool_can_do_is_said(store: Store):
    result = designed(store, "Delete old mails from my inbox every Sunday night")
    notes = [item for one in result.design_highlights if one.category == "Good to know" for item in one.items]
    assert notes == ["No tool deletes, moves or labels mail: it can be read, marked as read and sent."]


@pytest.mark.parametrize(
    ("instruction", "expression"),
    [
        ("Daily but not on weekends read a.txt", "0 9 * * 1-5"),
        ("Read a.txt every day at 9, never on Sundays", "0 9 * * 1-6"),
        ("Every 2 hours, but not on Sundays, check https://example.com", "0 */2 * * 1-6"),
    ],
)
def test_a_day_that_is_ruled_out_is_no_day_to_start(store: Store, instruction: str, expression: str):
    (trigger,) = designed(store, instruction).suggested_triggers
    assert trigger.config == cron(expression)


def test_a_day_ruled_out_without_a_schedule_makes_none(store: Store):
    result = designed(store, "Read notes.txt, never on Sundays")
    assert result.suggested_triggers == ()
    assert "Never on Sundays" in result.structured_prompt.instructions


@pytest.mark.parametrize(
    ("wish", "expression"),
    [
        ("not on Fridays", "0 9 * * 1-4"),
        ("don't run on Mondays and Fridays", "0 9 * * 2-4"),
        ("at 8 but not on Fridays", "0 8 * * 1-4"),
        ("on Mondays, not on Fridays", "0 9 * * 1"),
        ("twice a day", "0 9,17 * * *"),
    ],
)
def test_a_wish_rules_days_out_or_asks_for_several_times(store: Store, wish: str, expression: str):
    before, after = refined(store, wish)
    assert [one.config for one in after.suggested_triggers] == [cron(expression)]
    assert changed_fields(before, after) == {"suggested_triggers"}


def test_ruling_out_what_never_was_changes_nothing(store: Store):
    before, after = refined(store, "skip weekends")
    assert after == before


def test_a_time_and_another_wish_in_one_sentence_are_both_heard(store: Store):
    _, after = refined(store, "Do it at 8 instead, and don't be rude")
    assert [one.config for one in after.suggested_triggers] == [cron("0 8 * * 1-5")]
    assert after.structured_prompt.instructions.endswith("3. Also: don't be rude.")
