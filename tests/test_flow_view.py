"""The flow of a run: as it was declared, else as it happened; a graph that no label can break, and its twin."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import ProtocolHandled, RunEvent, ToolCallFinished, ToolCallStarted
from personas_nb.entities.tool import ToolCallStep
from personas_nb.views.display import outputs
from personas_nb.views.flow import MAX_BOXES, flow_view, status_sign
from personas_nb.views.mermaid import Arrow, Box, fence, label

RUN = Execution(
    persona_id="p", persona_name="Watcher", status="completed", input_data="Which are overdue?",
    outcome={"accomplished": True, "summary": "3 are"},
)  # fmt: skip


def begun(tool: str, number: int) -> ToolCallStarted:
    return ToolCallStarted(tool=tool, call_id=str(number), input={"path": f"{number}.csv"})


def answered(tool: str, number: int, error: str | None = None) -> ToolCallFinished:
    return ToolCallFinished(
        step=ToolCallStep(
            tool=tool, call_id=str(number), input={"path": f"{number}.csv"}, error=error, duration_ms=12
        )
    )


def called(*numbers: int, tool: str = "file_read") -> list[RunEvent]:
    return [event for n in numbers for event in (begun(tool, n), answered(tool, n))]


def sent(kind: str, **data: object) -> ProtocolHandled:
    return ProtocolHandled(kind=kind, data=data)


def lines_of(run: Execution, events: list[RunEvent]) -> tuple[list[str], list[str]]:
    """The lines of the graph, and those of its twin."""
    view = flow_view(run, events)
    assert view is not None
    assert view.markdown is not None
    return [line.strip() for line in view.markdown.split("\n")], view.alt.split("\n")


def boxes(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r"s\d+[\[(]", line)]


def test_calls_one_after_the_other_are_a_chain_from_the_input_to_the_outcome() -> None:
    graph, words = lines_of(RUN, called(1, 2))
    assert boxes(graph) == [
        's1("input<br>Which are overdue?")',
        's2["#10003; file_read<br>1.csv #183; 12 ms"]',
        's3["#10003; file_read<br>2.csv #183; 12 ms"]',
        's4("#10003; done<br>3 are")',
    ]
    assert [line for line in graph if "-->" in line] == ["s1 --> s2", "s2 --> s3", "s3 --> s4"]
    assert words[0] == "Flow · made from what happened"
    assert [line.split()[0] for line in words[1:]] == ["1", "2", "3", "4"]


def test_calls_that_were_open_together_stand_side_by_side() -> None:
    events = [begun("a", 1), begun("b", 2), answered("b", 2), answered("a", 1), *called(3)]
    graph, words = lines_of(RUN, events)
    arrows = {line for line in graph if "-->" in line}
    assert arrows == {"s1 --> s2", "s1 --> s3", "s2 --> s4", "s3 --> s4", "s4 --> s5"}
    assert [line.split()[0] for line in words[1:]] == ["1", "2", "‖", "3", "4"]


def test_between_two_crowds_the_arrows_meet_in_a_dot() -> None:
    events: list[RunEvent] = [begun("a", 1), begun("a", 2), answered("a", 1), answered("a", 2)]
    events += [sent("user_message", title="One"), sent("manual_review", title="Pay?")]
    graph, _ = lines_of(RUN, events)
    assert 's4((" "))' in graph
    assert {"s2 --> s4", "s3 --> s4", "s4 --> s5", "s4 --> s6"} <= set(graph)


def test_what_was_sent_stands_between_the_calls_with_its_title() -> None:
    events = [*called(1), sent("emit_event", type="invoice_found", data={}), *called(2)]
    events += [sent("outcome_assessment", accomplished=True), sent("execution_flow", flows=[])]
    _, words = lines_of(RUN, events)
    assert re.match(r"3 +▶ event +invoice_found", words[3])
    assert len(words) == 6  # what assesses or declares is no step


def test_a_call_that_failed_says_why_and_one_without_an_answer_says_so() -> None:
    events: list[RunEvent] = [begun("a", 1), answered("a", 1, "There is no file."), begun("b", 2)]
    graph, words = lines_of(RUN.changed(status="cancelled"), events)
    assert "✕ a" in words[2]
    assert "There is no file." in words[2]
    assert "not finished" in words[3]
    assert "classDef c1 stroke:#B34700,stroke-width:2px" in graph


def test_an_answer_whose_call_is_not_known_is_shown_all_the_same() -> None:
    _, words = lines_of(RUN, [begun("a", 1), answered("b", 9), answered("a", 1)])
    assert "✓ a" in words[2]
    assert "✓ b" in words[3]


def test_a_declared_flow_is_shown_as_declared_and_each_step_as_it_was_said_last() -> None:
    flows = (
        {"step": 1, "action": "Read mail", "status": "running"},
        {"step": 2, "action": "Report", "status": "pending"},
        {"step": 1, "action": "read mail", "status": "completed"},
    )
    graph, words = lines_of(RUN.changed(execution_flows=flows), called(1, 2, 3))
    assert words[0] == "Flow · as the persona declared it"
    assert re.match(r"2 +✓ 1 · read mail +completed", words[2])
    assert re.match(r"3 +○ 2 · Report +pending", words[3])
    assert len(boxes(graph)) == 4


@pytest.mark.parametrize(
    ("said", "glyph"),
    [("completed", "✓"), ("Success", "✓"), ("in progress", "▶"), ("failed", "✕"), ("pending", "○"), ("odd", "○")],
)  # fmt: skip
def test_a_step_keeps_its_own_word_for_its_status(said: str, glyph: str) -> None:
    sign = status_sign(said)
    assert (sign.glyph, sign.word) == (glyph, said)


def test_a_run_that_has_not_begun_has_no_flow() -> None:
    assert flow_view(RUN.changed(status="queued", outcome=None)) is None


def test_a_rehearsed_flow_says_so() -> None:
    view = flow_view(RUN.changed(rehearsal=True), called(1))
    assert view is not None
    assert "REHEARSAL" in view.alt
    assert "REHEARSAL" in (view.markdown or "")


def test_the_graph_is_one_output_with_its_twin_and_no_html() -> None:
    view = flow_view(RUN, called(1))
    assert view is not None
    [(data, _)] = outputs(view)
    assert set(data) == {"text/markdown", "text/plain"}
    assert "file_read" in data["text/plain"]


def test_many_different_calls_are_cut_and_the_rest_is_counted() -> None:
    events = [event for n in range(100) for event in called(n, tool=f"tool_{n}")]
    graph, words = lines_of(RUN, events)
    assert len(boxes(graph)) == MAX_BOXES
    assert "… and 43 more" in "\n".join(words)
    assert "tool_56" in words[-3]
    assert "done" in words[-1]


def test_a_thousand_calls_of_one_tool_are_one_box_that_counts_them() -> None:
    graph, words = lines_of(RUN, [*called(*range(1000)), begun("b", 1), answered("b", 1, "no")])
    assert len(boxes(graph)) == 4
    assert "file_read × 1,000" in words[2]
    assert "0.csv" in words[2]
    assert "999.csv" in words[2]


def test_a_crowd_of_calls_is_cut_too() -> None:
    events: list[RunEvent] = [begun("a", n) for n in range(300)]
    graph, words = lines_of(RUN, events)
    assert len(boxes(graph)) == MAX_BOXES
    assert "and 243 more" in "\n".join(words)


def test_a_short_flow_is_drawn_sideways_and_a_long_one_downwards() -> None:
    assert "flowchart LR" in lines_of(RUN, called(1, 2))[0]
    assert "flowchart TD" in lines_of(RUN, called(1, 2, 3, 4))[0]


# ── mermaid ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text(max_size=300))
def test_no_text_leaves_its_label(text: str) -> None:
    shown = label(text)
    assert not set('"[]{}`|<>;&\n$#') & set(re.sub(r"#\d+;", "", shown))
    assert "#36;#36;" not in shown  # it would begin a formula
    assert len(re.sub(r"#\d+;", "x", shown.replace("#8203;", ""))) <= 80


@given(st.lists(st.text(max_size=40), min_size=1, max_size=8))
def test_a_fence_holds_whatever_the_labels_say(texts: list[str]) -> None:
    lines = fence([Box((text, text)) for text in texts], [Arrow(0, len(texts) - 1, texts[0])]).split("\n")
    assert (lines[0], lines[-1]) == ("```mermaid", "```")
    assert all(re.fullmatch(r'  s\d+\["[^"\n]+"\]', line) for line in lines[2 : 2 + len(texts)])
    assert "\n".join(lines).count("```") == 2


@pytest.mark.parametrize("words", ["end", "subgraph x", "click s1 href", "%%{init: {}}%%", "style s1 fill"])
def test_words_that_mean_something_to_mermaid_stay_inside_quotes(words: str) -> None:
    graph, _ = lines_of(RUN, [begun(words, 1)])
    assert len(boxes(graph)) == 3
    assert not any(words in re.sub(r'"[^"]*"', "", line) for line in graph)
