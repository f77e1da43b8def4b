"""Everything about one run in one place: moments, tools, costs, what ran it, and the mark of who may do anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn, Usage
from support.shell import TestingShell, shell_in
from support.studios import settings_for, workspace

from personas_nb import Studio
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import (
    ProtocolHandled,
    RunEvent,
    StatusChanged,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
    UsageReported,
)
from personas_nb.entities.tool import ToolCallStep
from personas_nb.verbs.surface import presented
from personas_nb.views import executions, marks, personas
from personas_nb.views.display import outputs
from personas_nb.views.limits import Limit, limit_rows
from personas_nb.views.stream import RunStream
from personas_nb.views.timeline import CALLS_SHOWN, execution_timeline

NOON = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
RUN = Execution(
    persona_id="p", persona_name="Watcher", status="completed", input_data="Which?", output_data="Three are.",
    provider="anthropic", model_used="claude-sonnet-5-5", engine="direct", persona_version=3, cost_usd=0.0483,
    input_tokens=12_034, output_tokens=812, cache_read_tokens=400, num_turns=4, duration_ms=12_480,
    log_file_path="/home/logs/1.jsonl", claude_session_id="session-7", created_at=NOON, started_at=NOON,
)  # fmt: skip


def at(seconds: float, event: RunEvent) -> tuple[datetime, RunEvent]:
    return NOON + timedelta(seconds=seconds), event


# ── moments ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_pieces_of_text_are_one_entry_and_times_count_from_the_start() -> None:
    moments = [
        at(0, StatusChanged(status="running")),
        at(1.5, TextDelta(text="Reading ")),
        at(2, TextDelta(text="mail")),
        at(65, ToolCallFinished(step=ToolCallStep(tool="mail_read", output="3 mails"))),
    ]
    text = execution_timeline(RUN, moments).text
    assert re.search(r"\+1\.50 s +¶ text +Reading mail", text)
    assert re.search(r"\+1 min 5 s +✓ mail_read: done +0 ms · 3 mails", text)
    assert "3 entries" in text
    assert "+2.00 s" not in text


def test_a_run_that_waited_in_the_queue_counts_from_its_start() -> None:
    late = RUN.changed(created_at=NOON - timedelta(hours=1))
    assert "+0.25 s" in execution_timeline(late, [at(0.25, TextDelta(text="x"))]).text


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (ProtocolHandled(kind="emit_event", data={"type": "found", "data": {"no": 17}}),
         '▶ emit event +found: {"no": 17}'),
        (ProtocolHandled(kind="persona_action", data={"target": "mail-boy"}), "▶ persona action +mail-boy shall run"),
        (ProtocolHandled(kind="execution_flow", data={"flows": [{"action": "read", "status": "failed"}]}),
         r"○ execution flow +read \(failed\)"),
        (ProtocolHandled(kind="outcome_assessment", data={"accomplished": False, "summary": "No mail."}),
         "▲ outcome assessment +not accomplished: No mail."),
        (UsageReported(input_tokens=900, output_tokens=100), "○ usage +1,000 tokens · unknown"),
        (UsageReported(), "○ usage +0 tokens\n"),
    ],
)  # fmt: skip
def test_every_kind_of_moment_has_a_glyph_and_words(event: RunEvent, said: str) -> None:
    assert re.search(said, execution_timeline(RUN, [at(1, event)]).text)


def test_a_run_of_two_thousand_moments_shows_how_it_began_and_ended() -> None:
    moments = [at(n, ToolCallStarted(tool=f"t{n}", call_id=str(n))) for n in range(2000)]
    view = execution_timeline(RUN, moments)
    assert "t0 " in view.text.partition("Tools")[0]
    assert "… 1,900 more" in view.text
    assert "t1999" in view.text
    assert len(view.html) < 60_000


def test_input_and_output_of_each_call_are_folded_behind_a_line_that_says_how_it_went() -> None:
    steps = (
        ToolCallStep(tool="file_read", input={"path": "a.csv"}, output="no,amount", duration_ms=17),
        ToolCallStep(tool="http_request", input={"url": "https://x"}, error="503", duration_ms=4),
    )
    view = execution_timeline(RUN.changed(tool_steps=steps), [])
    assert "2 calls · 1 failed · 21 ms together" in view.text
    assert ">1. file_read · ✓ done · 17 ms · path=a.csv</summary>" in view.html
    assert ">2. http_request · ✕ failed · 4 ms · url=https://x</summary>" in view.html
    assert "output: no,amount" in view.text
    assert "error: 503" in view.text


def test_a_long_input_is_cut_and_says_so() -> None:
    view = execution_timeline(RUN.changed(input_data="x" * 50_000), [])
    assert "Input (50,000 characters, the first 20,000 of them)" in view.text
    assert len(view.text) < 25_000


def test_many_calls_are_cut_and_the_log_is_pointed_to() -> None:
    steps = tuple(ToolCallStep(tool=f"t{n}") for n in range(CALLS_SHOWN + 5))
    assert (
        "… and 5 more calls; the log has every one."
        in execution_timeline(RUN.changed(tool_steps=steps), []).text
    )


# ── what ran it, and what it took ───────────────────────────────────────────────────────────────────────────


def test_costs_versions_session_log_and_limits_are_all_said() -> None:
    limits = [Limit("max_budget_usd", 0.5, "this run"), Limit("timeout_ms", 300_000, "settings")]
    text = execution_timeline(RUN, [], limits=limits, current_version=5).text
    for said in (
        "$0.0483", "12,034", "812", "400", "3 (now 5)", "claude-sonnet-5-5", "anthropic", "direct", "session-7",
        "/home/logs/1.jsonl", "$0.50 (this run)", "5 min 0 s (settings)", "Three are.",
    ):  # fmt: skip
        assert said in text, said


def test_an_unknown_price_is_told_in_a_sentence() -> None:
    text = execution_timeline(RUN.changed(cost_usd=None), []).text
    assert "What it cost is unknown: not every answer came with the number of its tokens." in text
    text = execution_timeline(RUN.changed(cost_usd=None, model_used="our-own-model"), []).text
    assert "What it cost is unknown: the price of our-own-model is not known here." in text
    assert "is unknown:" not in execution_timeline(RUN, []).text


def test_a_repeated_run_names_what_it_repeats_and_what_repeats_it() -> None:
    retry = Execution(persona_id="p", retry_of=RUN.id, scheduled_at=NOON + timedelta(seconds=90))
    text = execution_timeline(RUN.changed(retry_of="abcdef0123456789"), [], retries=[retry]).text
    assert "abcdef01" in text
    assert re.search(rf"{retry.id[:8]} +○ queued +2026-11-21 08:01:30", text)


def test_a_queued_run_says_when_it_begins() -> None:
    queued = RUN.changed(status="queued", started_at=None, scheduled_at=NOON + timedelta(seconds=30))
    for view in (
        execution_timeline(queued, [], tz="Europe/Berlin"),
        executions.execution_card(queued, tz="Europe/Berlin"),
    ):
        assert "It begins at 2026-11-21 09:00:30 Europe/Berlin." in view.text
    assert "Nothing has happened in it yet." in execution_timeline(queued, []).text
    assert execution_timeline(queued, []).also == ()


def test_a_waiting_run_says_which_decision_it_awaits() -> None:
    review = Review(persona_id="p", title="Send the mail?", severity="high")
    text = execution_timeline(RUN.changed(status="waiting"), [], reviews=[review]).text
    assert "It goes on once 1 decision of yours is made." in text
    assert "Send the mail?" in text
    assert f"%persona reviews approve {review.id[:8]}" in text


def test_decided_reviews_are_not_asked_again() -> None:
    review = Review(persona_id="p", title="Send the mail?", status="approved")
    assert "Send the mail?" not in execution_timeline(RUN, [], reviews=[review]).text


def test_limits_are_said_in_their_units() -> None:
    rows = limit_rows(
        [
            Limit("a_usd", 0.000001),
            Limit("b_bytes", 2**20),
            Limit("c_bytes", 10),
            Limit("d", 1000),
            Limit("e", None),
        ]
    )
    assert [value for _, value in rows] == ["$0.000001", "1 MiB", "10 bytes", "1,000", "not set"]


# ── bypass ──────────────────────────────────────────────────────────────────────────────────────────────────

JANITOR = Persona(name="Janitor", permissions="bypass")
OWN = RUN.changed(persona_id=JANITOR.id)


def test_a_persona_that_may_do_anything_says_so_wherever_it_or_a_run_of_it_is_shown() -> None:
    stream = RunStream("Janitor", rehearsal=False, provider="anthropic", model=None, bypass=True)
    for view in (
        personas.persona_card(JANITOR, last_runs=[OWN]),
        personas.persona_list([JANITOR]),
        personas.overview([JANITOR], runs=[OWN]),
        executions.execution_list([OWN], bypassing={JANITOR.id}),
        executions.execution_card(OWN, bypass=True),
        execution_timeline(OWN, [], bypass=True),
        stream.view(elapsed_ms=5),
        stream.final(OWN),
    ):
        assert "⚠ bypass" in view.text
        assert '<b style="color:#B34700">⚠</b> bypass' in view.html


def test_one_that_has_only_its_tools_carries_no_such_mark() -> None:
    other = Persona(name="Watcher")
    for view in (
        personas.persona_card(other), personas.overview([other], runs=[RUN]), personas.persona_list([other]),
        executions.execution_list([RUN], bypassing={JANITOR.id}), executions.execution_card(RUN),
    ):  # fmt: skip
        assert "bypass" not in view.text


def test_a_word_of_others_does_not_become_the_mark() -> None:
    assert "⚠</b>" not in marks.cell_html(marks.Mark("✓", "⚠ bypass", marks.GREEN))


# ── in a notebook ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


def test_show_gives_a_run_of_a_model_with_parallel_tools_as_card_and_graph(
    shell: TestingShell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [
        Turn.tools(
            ("file_read", {"path": "a.csv"}), ("file_read", {"path": "none.csv"}), usage=Usage(1000, 50)
        ),
        Turn.text('Done.\n{"outcome_assessment": {"accomplished": true, "summary": "Read 1 of 2."}}'),
    ]
    with ModelServer(script) as server:
        for name, value in settings_for(server, model="claude-haiku-4-5").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PERSONAS_HOME", str(home))
        with Studio(home) as studio:
            persona = studio.personas.create(name="Watcher", permissions="bypass", system_prompt="You read.")
            studio.tools.assign(persona, "file_read")
            (workspace(studio, persona) / "a.csv").write_text("x")
            shell.run("%%persona run watcher --quiet --max-turns 7\nRead both.")
            shell.run("%persona runs show latest")
    card, graph = [output["data"] for output in shell.displays]
    for said in (
        "⚠ bypass",
        "✓ done",
        "Read both.",
        "✕ file_read: failed",
        "7 (this run)",
        "(settings)",
        ".jsonl",
    ):
        assert said in card["text/plain"], said
    assert "text/html" in card
    assert set(graph) == {"text/markdown", "text/plain"}
    assert graph["text/plain"].count("file_read") == 2
    assert "‖" in graph["text/plain"]
    assert "```mermaid\nflowchart LR" in graph["text/markdown"]


def test_runs_of_a_persona_that_may_do_anything_are_marked_in_the_list_and_while_they_stream(
    shell: TestingShell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAS_HOME", str(home))
    with Studio(home) as studio:
        studio.personas.create(name="Janitor", permissions="bypass", model_profile={"provider": "rehearsal"})
        shell.run("%persona run janitor")
        assert all("⚠ bypass" in output["data"]["text/plain"] for output in shell.displays)
        for verb in (
            "runs",
            "list",
            "show janitor",
            "runs wait latest",
            "runs show latest",
            "run janitor --explain",
        ):
            shell.run(f"%persona {verb}")
            assert "⚠ bypass" in shell.text, verb


def test_the_plain_form_has_the_flow_too() -> None:
    view = execution_timeline(RUN, [at(1, ToolCallStarted(tool="file_read", call_id="1"))])
    assert "Flow · made from what happened" in presented(view, is_plain=True).text
    assert len(outputs(view)) == 2
