"""What answers are taken to have used whose server measured nothing, or what cannot be right, or more than once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.model_server import Api, ModelServer, Turn, Usage
from support.studios import persona_of, studio_at

from personas_nb import Studio
from personas_nb.entities.execution import Execution

LONG = Turn.text("word " * 2000, chunk=50)
NO_COUNTS: list[Any] = [{}, [], "none", None]
WRONG_COUNTS: list[Any] = [None, -1, 10.5, 10**30, "many", True, [1]]


def ran(home: Path, script: list[Turn], *tools: str, api: Api = "openai", **settings: Any) -> Execution:
    with ModelServer(script) as server, studio_at(home, server, api, **settings) as studio:
        persona_of(studio, *tools)
        return studio.run("watcher", "go")


# --- answers that break off -----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer([LONG.cut_after(190)], repeat_last=True) as opened:
        yield opened


@pytest.fixture
def studio(home: Path, server: ModelServer) -> Iterator[Studio]:
    with studio_at(home, server, "openai") as opened:
        persona_of(opened)
        yield opened


def test_streams_that_break_fill_a_budget(studio: Studio):
    rule = studio.budgets.add("all", 1.2, period="day")
    runs = [studio.run("watcher", "line\n" * 8000) for _ in range(4)]
    assert (runs[0].error_kind, runs[0].cost_usd) == ("connection", None)
    assert [run.error_kind for run in runs[1:]] == ["budget"] * 3
    assert studio.budgets.used(rule) > 1


@pytest.mark.parametrize("broken", [LONG.cut_after(3), LONG.fail_after(3, 500), LONG.garble_after(3)])
def test_what_a_broken_stream_cost_is_unknown(home: Path, broken: Turn):
    run = ran(home, [broken])
    assert (run.status, run.cost_usd, run.num_turns) == ("failed", None, 1)


def test_a_stream_that_breaks_after_a_tool_call_makes_the_cost_unknown(home: Path):
    run = ran(home, [Turn.tools(("file_read", {"path": "a"})), LONG.cut_after(3)], "file_read")
    assert (run.status, run.cost_usd, run.num_turns) == ("failed", None, 2)
    assert (run.input_tokens, run.output_tokens) == (12, 6)


# --- counts that cannot be right ------------------------------------------------------------------------


def openai_answer(*usages: Any, call: bool = False) -> Turn:
    """An answer in words, or a tool call, with one piece per usage; ``...`` leaves it out."""
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-5-mini"}
    asked = {"name": "file_read", "arguments": '{"path": "a"}'}
    first: Any = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": asked}]}
    pieces = []
    for number, usage in enumerate(usages):
        is_last = number == len(usages) - 1
        delta = first if call and not number else {} if call else {"content": "w "}
        reason = ("tool_calls" if call else "stop") if is_last else None
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        pieces.append(frame | {"choices": choices} | ({} if usage is ... else {"usage": usage}))
    return Turn.raw("".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n")


def anthropic_answer(usage: Any, last: Any) -> Turn:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {
            "id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-5-5",
            "stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "w "}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last},
        {"type": "message_stop"},
    ]  # fmt: skip
    return Turn.raw("".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events))


def counted(given: Any, written: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": written, "total_tokens": given}


@pytest.mark.parametrize(
    "usage",
    [
        *NO_COUNTS,
        *(counted(count, count) for count in WRONG_COUNTS),
        *(counted(count, 5) for count in (None, 10**30)),
        *(counted(5, count) for count in (None, 10**30)),
        counted(0, 0),
        counted(5, 5) | {"prompt_tokens_details": {"cached_tokens": 9}},
    ],
)
def test_counts_that_cannot_be_right_are_not_measured(home: Path, usage: Any):
    with warnings.catch_warnings(record=True) as said:
        run = ran(home, [openai_answer(usage)])
    assert (run.status, run.error, run.output_data, run.cost_usd) == ("completed", None, "w ", None)
    assert run.input_tokens == 0
    texts = [str(each.message) for each in said]
    assert not [text for text in texts if "extract usage" in text or "serializer" in text]


WRONG_PAIRS = [{"input_tokens": count, "output_tokens": count} for count in WRONG_COUNTS]


@pytest.mark.parametrize(
    ("engine", "usage"),
    [
        *(("direct", usage) for usage in (*NO_COUNTS, *WRONG_PAIRS)),
        ("claude", {}),
        ("claude", WRONG_PAIRS[3]),
    ],
)
def test_the_same_holds_for_the_messages_api(home: Path, engine: str, usage: Any):
    run = ran(home, [anthropic_answer(usage, usage)], api="anthropic", engine=engine)
    assert (run.status, run.error, run.output_data, run.cost_usd) == ("completed", None, "w ", None)
    assert run.input_tokens == 0


def test_odd_details_do_not_spoil_the_counts(home: Path):
    details = {
        "prompt_tokens_details": [],
        "completion_tokens_details": {"reasoning_tokens": -2},
        "cost": 0.1,
    }
    run = ran(home, [openai_answer({"prompt_tokens": "10", "completion_tokens": 5.0} | details)])
    assert (run.input_tokens, run.output_tokens) == (10, 5)
    assert run.cost_usd


# --- usage that is repeated -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "usages",
    [
        [..., ..., counted(1000, 300)],
        [counted(1000, 1), counted(1000, 150), counted(1000, 300), counted(1000, 300)],
        [counted(1000, 1), ..., counted(1000, 300)],
        [counted(1000, 0), None, counted(0, 300)],
    ],
    ids=["last", "each", "first and last", "one count each"],
)
def test_usage_is_counted_once_however_often_it_is_said(home: Path, usages: list[Any]):
    script = [openai_answer(*usages, call=True), openai_answer(*usages, call=True), openai_answer(*usages)]
    run = ran(home, script, "file_read")
    assert (run.status, run.num_turns) == ("completed", 3)
    assert (run.input_tokens, run.output_tokens) == (3000, 900)


def test_the_servers_are_not_asked_to_repeat_usage(home: Path):
    with ModelServer([Turn.text("Hi.", usage=Usage(7, 3))]) as server:
        with studio_at(home, server, "openai") as studio:
            persona_of(studio)
            studio.run("watcher")
        assert server.requests[0].body["stream_options"] == {"include_usage": True}
