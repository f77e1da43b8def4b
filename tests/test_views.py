"""What a person sees: both forms say the same, nothing of others is executed, and a rehearsal is called one."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell

from personas_nb.entities.design import (
    DesignHighlight,
    DesignQuestion,
    DesignResult,
    DesignSessionRecord,
    Feasibility,
    FeasibilityIssue,
    Flow,
    FlowEdge,
    FlowStep,
    SuggestedChannel,
    SuggestedConnector,
    SuggestedSubscription,
    SuggestedTrigger,
)
from personas_nb.entities.event import Event, Subscription
from personas_nb.entities.execution import Execution
from personas_nb.entities.group import PersonaGroup
from personas_nb.entities.memory import Memory, MemoryUse, Recall
from personas_nb.entities.message import Message
from personas_nb.entities.persona import Persona
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import (
    ProtocolHandled,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
)
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolCallStep, ToolDefinition
from personas_nb.entities.trigger import NextDue, Trigger, TriggerStatus
from personas_nb.errors import NotFound
from personas_nb.personas.groups import Done
from personas_nb.personas.prompt_diff import compare
from personas_nb.personas.versions import VersionResult
from personas_nb.views import (
    design,
    executions,
    groups,
    inbox,
    marks,
    memories,
    metrics,
    notices,
    personas,
    prose,
    register,
    timeline,
    triggers,
    versions,
)
from personas_nb.views.explain import Plan, PlannedTool, explain
from personas_nb.views.flow import flow_view
from personas_nb.views.limits import Limit
from personas_nb.views.page import Page, named
from personas_nb.views.view import View

NOON = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
TODAY = date(2026, 11, 21)
HOSTILE = (
    '</pre></div><script>alert(1)</script><img src=x onerror="alert(1)"><style>*{}</style><svg/>\x1b[31m'
)

PERSONA = Persona(
    name="Invoice watcher", structured_prompt=StructuredPrompt(identity="You watch."), created_at=NOON
)
RUN = Execution(
    persona_id=PERSONA.id,
    persona_name=PERSONA.name,
    status="completed",
    output_data="Three invoices are new.",
    provider="anthropic",
    model_used="claude-sonnet-4-5",
    input_tokens=12_034,
    output_tokens=812,
    cost_usd=0.0483,
    duration_ms=12_480,
    outcome={"accomplished": True, "summary": "3 invoices reported"},
    created_at=NOON,
    started_at=NOON,
)
REVIEW = Review(persona_id=PERSONA.id, title="Pay 312.00 EUR?", severity="high", created_at=NOON)


def all_views(text: str, *, rehearsal: bool = False) -> dict[str, View]:
    """Every view, with ``text`` wherever a model or a person may have written it."""
    name = text.strip()[:100] or "a name"
    persona = PERSONA.changed(
        name=name, description=text, icon=text[:64], structured_prompt=StructuredPrompt(identity=text),
        notification_channels=({"type": text},),
    )  # fmt: skip
    step = ToolCallStep(tool=text, input={text: text}, output=text, error=text, performed=not rehearsal)
    run = RUN.changed(
        persona_name=text, output_data=text, error=text, warnings=(text,), rehearsal=rehearsal, tool_steps=(step,),
        outcome={"accomplished": False, "summary": text}, provider=text, model_used=text, cost_usd=0.0,
    )  # fmt: skip
    review = Review(
        persona_id=persona.id,
        title=text,
        description=text,
        suggested_actions=(text,),
        note=text,
        rehearsal=rehearsal,
    )
    message = Message(
        persona_id=persona.id, title=text, content=text, content_type=text, priority=text, rehearsal=rehearsal
    )
    memory = Memory(persona_id=persona.id, title=text or "t", content=text, tags=(text,))
    tool = ToolDefinition(name="file_read", category=text, description=text, requires_credential_type=text)
    trigger = Trigger(
        persona_id=persona.id, trigger_type="schedule", config={"cron": text, "timezone": text or None}
    )
    issue = FeasibilityIssue(subject=text, problem=text, remedy=text)
    feasibility = Feasibility(overall="partial", confirmed_capabilities=(text,), issues=(issue,))
    flow = Flow(steps=(FlowStep(id="a", label=text),), edges=(FlowEdge(source="a", target=text, label=text),))
    question = DesignQuestion(question=text or "?", options=(text, text))
    result = DesignResult(
        name=text, summary=text, structured_prompt=StructuredPrompt(identity=text), suggested_tools=(text,),
        suggested_triggers=(SuggestedTrigger(trigger_type="polling", config={"url": text, "interval_seconds": 60}),),
        suggested_connectors=(SuggestedConnector(name=text, credential_fields=(text,), setup_instructions=text),),
        design_highlights=(DesignHighlight(category=text, items=(text,)),),
        suggested_notification_channels=(SuggestedChannel(type=text, required_connector=text),),
        suggested_event_subscriptions=(SuggestedSubscription(event_type=text, source_filter=text),),
        feasibility=feasibility, flow=flow,
    )  # fmt: skip
    session = DesignSessionRecord(instruction=text, name=text, state="preview")
    version = PromptVersion(
        persona_id=persona.id, version=1, change_summary=text, tags=(text,), system_prompt=text
    )
    result_of_version = VersionResult(1, rehearsal, 3, 1, 1, 1, 0, 0.01, 1, 20.0, NOON)
    group = PersonaGroup(id="g", name=text.strip()[:200] or "g", color="blue")
    member = persona.changed(group_id="g")
    use = MemoryUse(
        memory_id=memory.id, title=text, score=1.0, relevance=1.0, importance=5, recency=1.0, words=(text,)
    )
    recall = Recall(told=(use,), left_out=(use,), left_out_count=1, used_chars=40, limit_chars=6_000)
    done = [Done(member, text), Done(member, error=NotFound(text, hint=text))]
    names = {persona.id: text}
    moments = [
        TextDelta(text=text),
        ToolCallStarted(tool=text, call_id="1", input={text: text}),
        ToolCallFinished(step=step),
    ]
    return {
        "overview": personas.overview([persona], counts={text: 2}, runs=[run], reviews=[review], hints=[(text, text)]),
        "persona_list": personas.persona_list([persona], {persona.id: {text: text}}),
        "persona_card": personas.persona_card(
            persona, tools=[tool, text], triggers=[trigger], memories_count=2, todo=[text], last_runs=[run],
            subscriptions=[Subscription(persona_id=persona.id, event_type=text[:200] or "e", source_filter=text)],
        ),
        "persona_list_in_groups": personas.persona_list([member, persona], groups=[group]),
        "version_list": versions.version_list([version], 1, results=[result_of_version], name=text, title=text),
        "version_card": versions.version_card(version, results=[result_of_version], current=2, name=text, title=text),
        "prompt_diff": versions.prompt_diff(compare(PERSONA, persona, a=1, b=2), name=text, title=text),
        "memory_list": memories.memory_list([memory], names=names),
        "persona_memories": memories.persona_memories(persona, [memory], planned=recall, asked=text),
        "memory_card": memories.memory_card(memory, earlier=[memory], later=memory, persona_name=text),
        "group_list": groups.group_list([group], {"g": [member]}),
        "group_card": groups.group_card(group, [member], last={member.id: run}),
        "group_runs": groups.group_runs(group, done, {member.id: run}),
        "group_action": groups.done_list(group, done, text, lambda one: one.result or ""),
        "tool_list": personas.tool_list([tool], {"file_read": [text]}),
        "execution_card": executions.execution_card(
            run, messages=[message], reviews=[review], memories=[memory],
            events=[Event(event_type=text[:200] or "e", data={text: text})],
        ),
        "execution_list": executions.execution_list([run]),
        "execution_timeline": timeline.execution_timeline(
            run.changed(
                execution_flows=({"step": text, "action": text, "status": text},), claude_session_id=text,
                log_file_path=text, requested_provider=text, files=(text,), input_data=text,
            ),
            moments, reviews=[review], retries=[run], limits=[Limit(text, 1, text)],
        ),
        "run_flow": flow_view(run, moments),
        "explain": explain(
            Plan(name=text, prompt=text, prompt_tokens=1, tools=[PlannedTool(text, text, text, True)],
                 limits=[Limit(text, None, text)], provider=text, model=text, engine=text, server=text, files=[text],
                 cost=text, cost_why=text, missing=[text], bypass=True, rehearsal=rehearsal),
        ),
        "review_list": inbox.review_list([review], names=names),
        "review_card": inbox.review_card(review.changed(status="approved", decided_at=NOON), persona_name=text),
        "message_list": inbox.message_list([message], names=names),
        "design_card": design.design_card(
            result, session_id=text, rehearsal=rehearsal, question=question, changed=[text], next_fires=[[NOON]]
        ),
        "question_card": design.question_card(question, text),
        "session_list": design.session_list([session]),
        "feasibility_card": design.feasibility_card(feasibility, name=text),
        "flow": design.flow_markdown(flow),
        "notice": notices.notice(text, text),
        "error_notice": notices.error_notice(NotFound(text, hint=text)),
        "health": notices.health([{"name": text, "status": text, "latency_ms": 1.0, "detail": text}]),
        "help": notices.help_view([(text, text, text)]),
    }  # fmt: skip


OF_RUNS = ("overview", "persona_card", "execution_card", "execution_list", "execution_timeline", "explain",
           "review_list", "review_card", "message_list", "design_card")  # fmt: skip


class Reader(HTMLParser):
    """What a browser finds in a piece of HTML: tags, attributes, text, and whether it is well nested."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


ALLOWED = {
    *("div", "p", "b", "span", "br", "code", "pre", "details", "summary", "ins", "del"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


@pytest.mark.parametrize("name", sorted(all_views("x")))
def test_hostile_text_stays_text_in_every_view(name: str) -> None:
    view = all_views(HOSTILE)[name]
    reader = Reader(view.html)
    assert reader.tags <= ALLOWED
    assert set(reader.attributes) <= {"style", "class"}
    assert "\x1b" not in view.text + view.html
    assert "alert(1)" in view.text


@given(st.text(max_size=300))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_gives_well_formed_views_that_can_be_sent(text: str) -> None:
    for view in all_views(text).values():
        assert Reader(view.html).tags <= ALLOWED
        (view.text + view.html + (view.markdown or "")).encode("utf-8")


@pytest.mark.parametrize("name", sorted(all_views("x")))
def test_no_view_uses_what_an_untrusted_reload_takes_away(name: str) -> None:
    html = all_views("Words & more")[name].html
    assert not re.search(r"<(style|svg|script|img|iframe)|var\(--|role=|aria-|url\(|position:", html)


@pytest.mark.parametrize("name", sorted(all_views("x")))
def test_plain_text_says_everything_that_html_says(name: str) -> None:
    view = all_views("Some plain words")[name]
    said = set(view.text.replace("-", " ").replace("+", " ").split()) | set(view.text.split())
    assert set(Reader(view.html).words) <= said


@pytest.mark.parametrize("name", OF_RUNS)
def test_a_rehearsal_says_so_in_every_view_of_it_and_nothing_else_does(name: str) -> None:
    view = all_views("words", rehearsal=True)[name]
    assert "REHEARSAL" in view.text
    assert "REHEARSAL" in view.html
    assert "REHEARSAL" not in all_views("words")[name].text


def test_colours_are_only_those_of_the_marks_and_always_beside_a_glyph() -> None:
    for view in all_views("words", rehearsal=True).values():
        for found in re.finditer(r"(?<![-\w])color:(#\w+)\">(.)", view.html):
            assert found[1] in {"#007A58", "#B34700", "#0072B2", "#946000", "#9C4F80", "#6B7075"}
            assert found[2] in "✓✕▶▲?○⚠¶…■□◆☐"


def test_dollars_are_kept_from_becoming_a_formula() -> None:
    assert 'class="tex2jax_ignore mathjax_ignore"' in executions.execution_card(RUN).html


# -- runs --------------------------------------------------------------------------------------------------


def test_a_finished_card_has_answer_status_cost_tokens_time_outcome_and_id() -> None:
    view = executions.execution_card(RUN, tz="Europe/Berlin")
    for said in (
        *(
            "Invoice watcher",
            "✓ done",
            RUN.id[:8],
            "Three invoices are new.",
            "$0.0483",
            "12,034",
            "812",
            "12.5 s",
        ),
        *("accomplished: 3 invoices reported", "claude-sonnet-4-5", "2026-11-21 09:00 Europe/Berlin"),
        f"%persona runs show {RUN.id[:8]}",
    ):
        assert said in view.text
    assert view.value is RUN
    assert len(view.html) < 10_000


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    view = executions.execution_card(RUN.changed(cost_usd=None))
    assert "unknown" in view.text
    assert "$0" not in view.text


def test_a_failed_card_says_why_and_what_helps() -> None:
    run = RUN.changed(
        status="failed", error="The run took more than 300 s.", error_kind="timeout", outcome=None
    )
    text = executions.execution_card(run).text
    assert "✕ The run took more than 300 s." in text
    assert "--timeout" in text


def test_tools_are_counted_by_what_became_of_them() -> None:
    steps = (
        ToolCallStep(tool="file_read", output="12 lines", duration_ms=3),
        ToolCallStep(tool="http_request", error="503", duration_ms=4),
        ToolCallStep(tool="mail_send", output="Would send a mail.", performed=False),
        ToolCallStep(tool="nope", error="There is no such tool.", performed=False),
    )
    text = executions.execution_card(RUN.changed(tool_steps=steps)).text
    assert "4 calls, 2 failed, 1 described, not performed" in text
    assert "✕ failed" in text
    assert "○ described, not performed" in text


def test_many_calls_are_cut_and_the_rest_is_pointed_to() -> None:
    run = RUN.changed(tool_steps=tuple(ToolCallStep(tool=f"t{number}") for number in range(50)))
    text = executions.execution_card(run).text
    assert "t29" in text
    assert "t30" not in text
    assert "20 more calls" in text


def test_an_open_decision_comes_with_the_verbs_that_decide_it() -> None:
    waiting = RUN.changed(status="waiting")
    for view in (executions.execution_card(waiting, reviews=[REVIEW]), inbox.review_list([REVIEW])):
        assert f"%persona reviews approve {REVIEW.id[:8]}" in view.text
        assert f"%persona reviews reject {REVIEW.id[:8]}" in view.html


def test_a_decided_review_offers_no_second_decision() -> None:
    decided = REVIEW.changed(status="approved", decided_at=NOON, note="go on", execution_id=RUN.id)
    text = inbox.review_card(decided, repeated=True).text
    assert "✓ approved" in text
    assert "go on" in text
    assert "the verdict stays" in text
    assert "reviews approve" not in text


def test_a_decided_review_leads_to_its_run_and_to_waiting_only_where_it_waits() -> None:
    decided = REVIEW.changed(status="approved", decided_at=NOON, execution_id=RUN.id)
    assert f"%persona runs show {RUN.id[:8]}" in inbox.review_card(decided).text
    assert f"%persona runs wait {RUN.id[:8]}" in inbox.review_card(decided, waits=True).text


def test_a_message_in_a_run_is_told_in_words() -> None:
    data = {"title": "Refund?", "description": "Paid twice.", "severity": "high"}
    said = [
        marks.cell_text(cell)
        for cell in executions.moment_of(ProtocolHandled(kind="manual_review", data=data))
    ]
    assert said == ["? manual review", "Refund?: Paid twice. (high severity)"]


def test_the_timeline_does_not_point_to_itself() -> None:
    assert "runs show" not in timeline.execution_timeline(RUN, []).text


def test_a_failure_that_says_what_to_do_is_not_told_twice() -> None:
    failed = RUN.changed(
        status="failed", error_kind="rate_limit", error="Too many. Wait a minute, then run again."
    )
    steps = executions.execution_card(failed).text.partition("Next")[2]
    assert steps.split() == f"%persona runs show {RUN.id[:8]} every moment of it".split()


def test_a_persona_whose_triggers_nothing_fires_says_how_to_begin() -> None:
    trigger = Trigger(persona_id=PERSONA.id, trigger_type="schedule", config={"cron": "0 9 * * *"})
    idle = TriggerStatus(at=NOON)
    text = personas.persona_card(PERSONA, triggers=[trigger], status=idle).text
    assert "Nothing fires triggers now" in text
    assert "%persona triggers start" in text
    firing = idle.changed(is_running=True, kind="headless", host="box", pid=1)
    assert "Nothing fires" not in personas.persona_card(PERSONA, triggers=[trigger], status=firing).text
    off = personas.persona_card(PERSONA, triggers=[trigger.changed(enabled=False)], status=idle).text
    assert f"%persona triggers enable {trigger.id[:8]}" in off


def test_the_overview_says_what_is_due_next_and_whether_it_will_fire() -> None:
    due = NextDue(trigger_id="t", persona="Mail boy", due_at=NOON)
    idle = TriggerStatus(at=NOON, enabled_count=2, next_due=(due,))
    text = personas.overview([PERSONA], status=idle, tz="Europe/Berlin").text
    assert "2 triggers on, next 2026-11-21 09:00 Europe/Berlin: Mail boy" in text
    assert "%persona triggers start" in text
    assert "Triggers" not in personas.overview([PERSONA], status=TriggerStatus(at=NOON)).text


def test_new_messages_come_with_the_verb_that_shows_them() -> None:
    text = personas.overview([PERSONA], counts={"new messages": 2}).text
    assert "%persona messages" in text


def test_a_run_that_was_started_shows_how_to_follow_it() -> None:
    text = notices.run_handle(SimpleNamespace(id=RUN.id)).text
    assert f"%persona runs wait {RUN.id[:8]}" in text


def test_a_long_word_does_not_widen_a_table() -> None:
    assert "overflow-wrap:anywhere" in marks.table_html((), [["x" * 200]])


def test_a_design_without_a_trigger_says_how_it_starts_and_a_guessed_time_is_said() -> None:
    assert (
        "when you run it"
        in design.design_card(
            DesignResult(name="Mail boy", structured_prompt=StructuredPrompt(identity="You sort."))
        ).text
    )
    guessed = SuggestedTrigger(
        trigger_type="schedule", config={"cron": "0 9 * * *"}, description="every day at 09:00 (time assumed)"
    )
    assert (
        "time assumed"
        in design.design_card(
            DesignResult(
                name="Mail boy",
                structured_prompt=StructuredPrompt(identity="You sort."),
                suggested_triggers=(guessed,),
            )
        ).text
    )


def test_a_running_card_offers_to_wait_and_to_cancel() -> None:
    text = executions.execution_card(RUN.changed(status="running", output_data=None)).text
    assert "▶ running" in text
    assert f"%persona runs cancel {RUN.id[:8]}" in text


# -- free text ---------------------------------------------------------------------------------------------


def test_a_long_text_shows_its_beginning_and_folds_the_rest() -> None:
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 60 for number in range(30))
    html = prose.prose_html(text)
    opened, folded = html.split("<details", 1)
    assert "Paragraph 0." in opened
    assert "Paragraph 29." not in opened
    assert "Paragraph 29." in folded


@given(st.text(alphabet=st.sampled_from("ab `*#|\n-"), max_size=3000), st.integers(1, 400))
def test_folding_loses_no_letter(text: str, open_chars: int) -> None:
    reader = Reader(prose.prose_html(text, open_chars=open_chars))
    shown = "".join(re.sub(r"… the rest \([\d,]+ characters\)", "", " ".join(reader.words)))
    fences = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("```"))
    assert [c for c in shown if c in "ab"] == [c for c in fences if c in "ab"]


def test_headings_bold_code_fences_and_tables_are_shown_as_such() -> None:
    html = prose.prose_html(
        "## Result\n**3** new in `in.csv`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx = 1\n```"
    )
    for shown in ("<b>Result</b>", "<b>3</b>", "<code>in.csv</code>", "<td", "<pre", "x = 1"):
        assert shown in html
    assert "---" not in html


def test_a_megabyte_of_markers_is_no_danger() -> None:
    for text in ("*" * 1_000_000, "`a" * 500_000, "|" * 1_000_000, "\n" * 1_000_000):
        assert Reader(prose.prose_html(text)).tags <= ALLOWED


# -- personas ----------------------------------------------------------------------------------------------


def test_the_empty_overview_says_what_a_persona_is_and_how_to_begin() -> None:
    text = personas.overview([]).text
    assert "No persona yet" in text
    assert "%persona design" in text
    assert "%persona help" in text


def test_the_overview_puts_what_waits_for_you_before_the_rest() -> None:
    text = personas.overview(
        [PERSONA], counts={"triggers": 3, "events": 0}, runs=[RUN], reviews=[REVIEW]
    ).text
    assert "1 persona · 3 triggers\n" in text
    assert (
        text.index("reviews approve")
        < text.index("Personas")
        < text.index("Latest runs")
        < text.index("Next")
    )


def test_a_card_leaves_out_what_was_not_looked_up_and_says_none_where_there_is_none() -> None:
    assert "tools" not in personas.persona_card(PERSONA).text
    assert re.search(r"tools +none", personas.persona_card(PERSONA, tools=()).text)


def test_a_persona_that_is_off_can_be_switched_on_from_its_card() -> None:
    text = personas.persona_card(PERSONA.changed(enabled=False)).text
    assert "○ off" in text
    assert "%persona enable invoice-watcher" in text


def test_a_diff_strikes_out_what_went_and_underlines_what_came() -> None:
    new = PERSONA.changed(structured_prompt=StructuredPrompt(identity="You watch closely.", examples="One."))
    view = versions.prompt_diff(compare(PERSONA, new, a=1, b=2))
    assert "<ins" in view.html
    assert "+ One." in view.text
    assert "Version 1 → 2" in view.text


def test_names_in_verbs_are_quoted_where_they_need_it() -> None:
    assert named("mail-boy") == "mail-boy"
    assert named("Invoice watcher") == '"Invoice watcher"'
    assert named('say "hi" {x}', "1a2b3c4d-9") == "1a2b3c4d"


# -- triggers and designs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("schedule", {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}, "every weekday at 09:00 (Europe/Berlin)"),
        ("schedule", {"cron": "at noon"}, "cron “at noon”, which cannot be read"),
        ("polling", {"interval_seconds": 2700}, "every 45 minutes"),
        ("polling", {"interval_seconds": 259_200, "url": "https://x.example"},
         "every 3 days, when https://x.example has changed"),
        ("polling", {"interval_seconds": 3600}, "every hour"),
        ("webhook", {}, "when a signed request arrives"),
        ("manual", {}, "when you run it"),
    ],
)  # fmt: skip
def test_a_trigger_is_said_in_words(kind: str, config: dict[str, Any], said: str) -> None:
    assert triggers.trigger_words(kind, config) == said


def test_a_design_card_shows_words_cron_and_the_next_three_times_in_the_triggers_own_zone() -> None:
    trigger = SuggestedTrigger(
        trigger_type="schedule", config={"cron": "0 9 * * *", "timezone": "Europe/Berlin"}
    )
    result = DesignResult(
        name="Mail", structured_prompt=StructuredPrompt(identity="x"), suggested_triggers=(trigger,)
    )
    fires = [NOON + timedelta(days=days) for days in range(1, 5)]
    text = design.design_card(result, session_id="1a2b3c4d-5", next_fires=[fires]).text
    for said in (
        "every day at 09:00",
        "0 9 * * *",
        "Sun 2026-11-22 09:00",
        "Tue 2026-11-24 09:00",
        "(Europe/Berlin)",
    ):
        assert said in text
    assert "2026-11-25" not in text
    assert "%persona apply" in text
    assert "session 1a2b3c4d" in text


def test_a_blocked_design_offers_its_remedies_and_no_apply() -> None:
    issue = FeasibilityIssue(
        subject="tool pay", problem="There is none.", remedy='%persona refine "without pay"', blocking=True
    )
    result = DesignResult(
        structured_prompt=StructuredPrompt(identity="x"),
        feasibility=Feasibility(overall="blocked", issues=(issue,)),
    )
    text = design.design_card(result).text
    assert "✕ blocked" in text
    assert '%persona refine "without pay"' in text
    assert "%persona apply" not in text


def test_a_question_is_answered_by_a_verb_for_each_option() -> None:
    text = design.question_card(DesignQuestion(question="Which mailbox?", options=("Gmail", "IMAP"))).text
    assert "Which mailbox?" in text
    assert '%persona answer "Gmail"' in text
    assert '%persona answer "IMAP"' in text


def test_a_flow_is_a_mermaid_fence_that_no_label_can_leave_and_a_list_in_words() -> None:
    flow = Flow(
        steps=(FlowStep(id="end", label='Read "inbox"\n```'), FlowStep(id="b", label="Report; <now>")),
        edges=(FlowEdge(source="end", target="b", label="yes|no"), FlowEdge(source="b", target="unknown")),
    )
    view = design.flow_markdown(flow)
    assert view.markdown is not None
    lines = view.markdown.split("\n")
    assert lines[:2] == ["```mermaid", "flowchart LR"]
    assert view.markdown.count("```") == 2
    assert '  s1["Read #34;inbox#34; #96;#96;#96;"]' in lines
    assert '  s1 -->|"yes#124;no"| s2' in lines
    assert "  s2 --> s3" in lines
    assert "yes|no" in view.text


# -- costs -------------------------------------------------------------------------------------------------


def daily_rows(cost_usd: float | None, *, personas_: int = 2, days: int = 10) -> pd.DataFrame:
    counts = dict.fromkeys(
        ("incomplete", "failed", "cancelled", "cache_read_tokens", "cache_write_tokens", "tool_calls", "events_emitted",
         "events_consumed", "messages_sent", "reviews_asked"), 0,
    )  # fmt: skip
    return pd.DataFrame(
        {"day": (TODAY - timedelta(days=back)).isoformat(), "persona": f"$ persona_{number} ${HOSTILE}",
         "executions": 2, "completed": 2, "cost_usd": cost_usd, "input_tokens": 1000, "output_tokens": 100,
         "duration_ms_mean": 1500.0,
         "duration_ms_p50": 1.0, "duration_ms_p95": 2.0, **counts}
        for number in range(personas_) for back in range(days)
    )  # fmt: skip


def runs_of(*pairs: tuple[float | None, bool]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"status": "completed", "cost_usd": cost, "rehearsal": rehearsal} for cost, rehearsal in pairs]
    )


def test_costs_are_summed_by_persona_and_drawn_in_a_small_opaque_picture() -> None:
    view = metrics.costs(daily_rows(0.25), runs_of((0.25, False)), 30, today=TODAY)
    assert "$2.5000" in view.text
    assert "$5.0000" in view.text
    assert "1.5 s" in view.text
    assert view.png is not None
    assert view.png.startswith(b"\x89PNG")
    assert len(view.png) < 40_000
    width, height = struct.unpack(">II", view.png[16:24])
    assert width > 2 * height
    assert "cost in US dollars" in view.alt
    assert "$0.5000" in view.alt
    assert "<script" not in view.html


def test_where_nothing_cost_anything_the_picture_shows_tokens() -> None:
    rehearsals = runs_of(*[(0.0, True)] * 40)
    view = metrics.costs(daily_rows(0.0), rehearsals, 30, today=TODAY)
    assert "tokens and executions per day" in view.alt
    assert "Rehearsal: $0, tokens estimated" in view.alt
    assert "$0 (rehearsal)" in view.text
    assert "20,000 (estimated)" in view.text
    assert view.png is not None


def test_an_unknown_price_is_counted_and_not_added() -> None:
    view = metrics.costs(daily_rows(None), runs_of((None, False), (None, False)), 30, today=TODAY)
    assert "unknown" in view.text
    assert "2 runs at an unknown price" in view.text
    assert "$0" not in view.text


def test_runs_that_the_provider_refused_are_no_unknown_price() -> None:
    refused = runs_of((None, False)).assign(
        status="failed", error_kind="credential", input_tokens=0, output_tokens=0
    )
    view = metrics.costs(daily_rows(0.1), refused, 30, today=TODAY)
    assert "unknown price" not in view.text


def test_runs_add_up_in_the_table_of_costs() -> None:
    plain = metrics.costs(daily_rows(0.1), runs_of((0.1, False)), 30, today=TODAY).text
    mixed = metrics.costs(
        daily_rows(0.1).assign(incomplete=1, cancelled=2), runs_of((0.1, False)), 30, today=TODAY
    ).text
    assert "cancelled" not in plain
    assert "incomplete" in mixed
    assert "cancelled" in mixed


def test_no_runs_give_a_sentence_and_no_picture() -> None:
    for daily in (daily_rows(1.0).iloc[:0], pd.DataFrame(), daily_rows(1.0)):
        view = metrics.costs(daily, runs_of().iloc[:0], 30, today=TODAY + timedelta(days=90))
        assert "Nothing ran" in view.text
        assert view.png is None


def test_many_personas_share_one_colour_and_the_picture_stays_small() -> None:
    view = metrics.costs(daily_rows(0.1, personas_=20, days=30), runs_of((0.1, False)), 30, today=TODAY)
    assert view.png is not None
    assert len(view.png) < 40_000


def test_a_chart_leaves_pyplot_alone() -> None:
    code = (
        "import sys; from tests.test_views import metrics, daily_rows, runs_of, TODAY;"
        "metrics.costs(daily_rows(1.0), runs_of((1.0, False)), 30, today=TODAY);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- notices and registration ------------------------------------------------------------------------------


def test_an_error_is_one_sentence_and_the_next_step() -> None:
    view = notices.error_notice(NotFound("There is no persona “x”.", hint="Type %persona list."))
    assert view.text == "✕ There is no persona “x”. Type %persona list."


def test_health_is_as_good_as_its_worst_part() -> None:
    parts = [
        {"name": "store", "status": "healthy"},
        {"name": "keyring", "status": "degraded", "detail": "locked"},
    ]
    view = notices.health(parts)
    assert view.text.startswith("Health  ▲ degraded")
    assert "locked" in view.text


def test_a_page_drops_empty_blocks_and_columns() -> None:
    page = Page("Title").facts([("a", None), ("b", "")]).table(("x", "y"), []).prose(" \n").next(())
    assert page.view().text == "Title"
    assert Page("Title").table(("x", "y"), [["1", ""], ["2", ""]]).view().text == "Title\n\nx\n1\n2"


@pytest.fixture
def shell() -> Any:
    return InteractiveShell.instance()


@pytest.mark.parametrize("make", [lambda: PERSONA, lambda: RUN, lambda: REVIEW, lambda: Feasibility()])
def test_an_entity_in_a_cell_shows_its_card_until_unregistered(
    shell: Any, make: Callable[[], object]
) -> None:
    register.register(shell, lambda: "Europe/Berlin")
    register.register(shell)
    data, _ = shell.display_formatter.format(make())
    assert data["text/html"].startswith("<div")
    register.unregister(shell)
    register.unregister(shell)
    data, _ = shell.display_formatter.format(make())
    assert "text/html" not in data


def test_registering_imports_neither_entities_nor_pandas() -> None:
    code = (
        "import sys; from personas_nb.views import register;"
        "from IPython.core.formatters import DisplayFormatter;"
        "shell = type('Shell', (), {'display_formatter': DisplayFormatter()})();"
        "register.register(shell);"
        "assert not {'pydantic', 'pandas', 'matplotlib', 'personas_nb.entities.persona'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
