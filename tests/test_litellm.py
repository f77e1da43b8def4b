"""Runs through a real LiteLLM proxy: both of its API shapes, and what it makes of its own provider's errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.litellm import MISSING, PROGRAM, LiteLLM
from support.model_server import Request, Script, Turn, Usage
from support.studios import persona_of, studio_at, workspace

from personas_nb import Studio
from personas_nb.entities.execution import Execution

ENGINES = ["direct", "claude"]
CLAUDE, GPT, OWN = "claude-sonnet-5-5", "gpt-5-mini", "our-own-model"
HELLO = '{"user_message": {"title": "Hi", "content": "Grüße"}}'


@pytest.fixture(scope="session")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    """The proxy; one for all tests, because it takes 6 s to start."""
    if not PROGRAM.exists():
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with LiteLLM(tmp_path_factory.mktemp("litellm")) as proxy:
        yield proxy


class Bench:
    """A studio whose persona runs through the proxy, against a script of the test's own."""

    def __init__(self, proxy: LiteLLM, engine: str, home: Path, stack: ExitStack) -> None:
        self.proxy, self.engine, self.home, self._stack = proxy, engine, home, stack
        self.requests: list[Request] = []

    def start(self, script: Script, *tools: str, model: str = CLAUDE, **settings: Any) -> Studio:
        """``settings`` are those of the studio; the key is the proxy's unless they say otherwise."""
        self.requests = self._stack.enter_context(self.proxy.answering(script))
        given = {"auth_token": self.proxy.key, "base_url": self.proxy.url, **settings}
        given = {name: value for name, value in given.items() if value is not None}
        opened = studio_at(self.home, provider="litellm", model=model, engine=self.engine, **given)
        studio = self._stack.enter_context(opened)
        persona_of(studio, *tools)
        return studio

    def run(self, script: Script, *tools: str, **options: Any) -> Execution:
        return self.start(script, *tools, **options).run("watcher")


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, litellm: LiteLLM, home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(litellm, request.param, home, stack)


@pytest.fixture
def chat(litellm: LiteLLM, home: Path) -> Iterator[Bench]:
    """For models that only the chat shape leads to."""
    with ExitStack() as stack:
        yield Bench(litellm, "direct", home, stack)


# --- what a run says and does ---------------------------------------------------------------------------


def test_the_text_of_a_run_is_its_output(bench: Bench):
    run = bench.run([Turn.text("Three invoices, Grüße 🧾.", chunk=3)])
    assert (run.status, run.error, run.output_data) == ("completed", None, "Three invoices, Grüße 🧾.")
    assert (run.provider, run.engine, run.model_used) == ("litellm", bench.engine, CLAUDE)
    assert (run.input_tokens, run.output_tokens, run.num_turns) == (12, 6, 1)


def test_the_provider_behind_the_proxy_is_asked_with_the_proxys_key(bench: Bench):
    bench.run([Turn.text("Hi.")])
    (request,) = bench.requests
    assert (request.api, request.model, request.streaming) == ("anthropic", CLAUDE, True)
    assert request.key == LiteLLM.upstream_key
    assert LiteLLM.key not in str((request.headers, request.body))


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_proxys_address_is_taken_with_and_without_v1(bench: Bench, suffix: str):
    run = bench.run([Turn.text("Hi.")], base_url=bench.proxy.url + suffix)
    assert (run.status, run.output_data) == ("completed", "Hi.")


def test_text_arrives_while_it_is_written(bench: Bench):
    studio = bench.start([Turn.text("one two three four", chunk=4, delay_seconds=0.1)])
    handle = studio.start("watcher")
    seen = [event.text for event in handle.events() if event.type == "text"]
    assert len(seen) > 1
    assert "".join(seen) == handle.wait().output_data == "one two three four"


def test_tools_are_called_at_once_and_the_model_is_told_what_they_said(bench: Bench):
    calls = [("file_read", {"path": f"{name}.txt"}) for name in ("Müller", "b")]
    studio = bench.start([Turn.tools(*calls, text="Let me look."), Turn.text("Read.")], "file_read")
    folder = workspace(studio, studio.personas.get("watcher"))
    (folder / "Müller.txt").write_text("first of them")
    (folder / "b.txt").write_text("second of them")
    run = studio.run("watcher")
    assert [(step.input, step.output) for step in run.tool_steps] == [
        ({"path": "Müller.txt"}, "first of them"),
        ({"path": "b.txt"}, "second of them"),
    ]
    assert run.output_data == "Let me look.\n\nRead."
    assert bench.requests[1].mentions("first of them")
    assert bench.requests[1].mentions("second of them")


def test_a_message_in_the_text_becomes_a_row_and_leaves_the_text(bench: Bench):
    studio = bench.start([Turn.text(f"Before.\n{HELLO}\nAfter.", chunk=7)])
    assert studio.run("watcher").output_data == "Before.\nAfter."
    assert [message.title for message in studio.messages.list()] == ["Hi"]


def test_a_message_as_a_tool_call_writes_the_same_row(bench: Bench):
    call = ("user_message", {"title": "Hi", "content": "Grüße"})
    studio = bench.start([Turn.tools((lambda name: name.endswith(call[0]), call[1])), Turn.text("Done.")])
    run = studio.run("watcher")
    assert (run.status, run.tool_steps) == ("completed", ())
    assert [message.title for message in studio.messages.list()] == ["Hi"]


def test_a_model_of_the_other_shape_is_reached_through_the_same_door(chat: Bench):
    script = [Turn.tools(("file_read", {"path": "a"}), text="I look."), Turn.text("Not there.", chunk=3)]
    run = chat.run(script, "file_read", model=GPT)
    assert (run.status, run.output_data) == ("completed", "I look.\n\nNot there.")
    assert [step.tool for step in run.tool_steps] == ["file_read"]
    assert [request.api for request in chat.requests] == ["openai", "openai"]


# --- what it costs --------------------------------------------------------------------------------------


def test_a_model_that_has_a_list_price_is_paid_by_it(bench: Bench):
    run = bench.run([Turn.text("Hi.", usage=Usage(1_000_000, 0))], max_budget_usd=100.0)
    assert run.cost_usd == pytest.approx(3.0, rel=0.5)
    assert run.warnings == ()


def test_a_model_without_a_price_has_a_token_limit_instead_of_a_budget(chat: Bench):
    studio = chat.start([Turn.text("Hi.")], model=OWN)
    run = studio.run("watcher")
    assert (run.status, run.cost_usd) == ("completed", None)
    assert any("200,000 tokens stands in" in warning for warning in run.warnings)


# --- what goes wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk-wrong-0123456789", "no-key-of-litellm", None])
def test_a_key_that_the_proxy_does_not_know_ends_the_run_at_once(bench: Bench, key: str | None):
    run = bench.run([], auth_token=key)
    assert (run.status, run.error_kind, run.cost_usd) == ("failed", "credential", 0.0)
    assert (run.duration_ms or 0) < 5_000
    assert "LITELLM_API_KEY" in (run.error or "")
    assert bench.requests == []


def test_a_model_that_the_proxy_does_not_have_is_not_found(bench: Bench):
    run = bench.run([], model="claude-nowhere")
    assert (run.status, run.error_kind) == ("failed", "not_found")
    assert "LiteLLM does not know the model" in (run.error or "")
    assert bench.requests == []


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "credential"), (404, "not_found"), (500, "overloaded"), (529, "overloaded")]
)
def test_an_error_of_the_provider_behind_it_keeps_its_meaning_and_is_met_once(
    bench: Bench, status: int, kind: str
):
    run = bench.run([Turn.error(status)])
    assert (run.status, run.error_kind) == ("failed", kind)
    assert (run.duration_ms or 0) < 5_000
    assert len(bench.requests) == 1


def test_a_run_is_tried_again_when_the_provider_behind_the_proxy_says(chat: Bench):
    studio = chat.start([Turn.error(429, retry_after=17)])
    run = studio.run("watcher")
    assert (run.status, run.error_kind) == ("failed", "rate_limit")
    (retry,) = [other for other in studio.executions.list() if other.retry_of == run.id]
    assert retry.scheduled_at is not None
    assert (retry.scheduled_at - retry.created_at).total_seconds() == 17
    assert len(chat.requests) == 1


def broken(turn: Turn) -> list[Turn]:
    """LiteLLM drops what it holds when it sees the break, so that comes a moment later."""
    return [replace(turn, delay_seconds=0.3)]


@pytest.mark.parametrize("model", [CLAUDE, GPT])
@pytest.mark.parametrize(
    "end", [Turn.cut_after, lambda turn, n: turn.fail_after(n, 529)], ids=["cut", "error"]
)
def test_an_answer_that_breaks_behind_the_proxy_fails_with_what_came(
    chat: Bench, model: str, end: Callable[[Turn, int], Turn]
):
    run = chat.run(broken(end(Turn.text("one two three", chunk=4), 2)), model=model)
    assert (run.status, run.error_kind) == ("failed", "overloaded")
    assert (run.output_data or "").startswith("one ")
    assert len(chat.requests) == 1


def test_the_proxys_own_key_shows_nowhere(bench: Bench):
    studio = bench.start([Turn.text(f"The key is {LiteLLM.key}.", chunk=5)])
    run = studio.run("watcher")
    assert "[secret" in (run.output_data or "")
    with studio.store.read() as db:
        assert LiteLLM.key not in "\n".join(db.iterdump())


# --- the shape that the Claude CLI speaks ----------------------------------------------------------------


def asked(proxy: LiteLLM, *, key: str = LiteLLM.key, path: str = "/v1/messages", **body: Any) -> Any:
    """The proxy's answer to a request like the Claude CLI's."""
    import httpx2

    whole = {
        "model": CLAUDE,
        "max_tokens": 100,
        "system": [{"type": "text", "text": "You watch.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "stream": True,
        **body,
    }
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219"}
    return httpx2.post(f"{proxy.url}{path}?beta=true", headers=headers, json=whole, timeout=30)


def events(answer: Any) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def test_the_messages_shape_streams_text_with_usage(litellm: LiteLLM):
    with litellm.answering([Turn.text("Grüße aus Prag", chunk=4)]) as requests:
        seen = events(asked(litellm))
    deltas = [event["delta"]["text"] for event in seen if event["type"] == "content_block_delta"]
    assert (len(deltas) > 1, "".join(deltas)) == (True, "Grüße aus Prag")
    last = next(event for event in seen if event["type"] == "message_delta")
    assert (last["delta"]["stop_reason"], last["usage"]["output_tokens"]) == ("end_turn", 6)
    assert seen[-1]["type"] == "message_stop"
    assert requests[0].mentions("You watch.")


def test_the_messages_shape_carries_parallel_tools_and_their_results(litellm: LiteLLM):
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    tools = [{"name": "mcp__persona__file_read", "description": "Reads.", "input_schema": schema}]
    calls = [(tools[0]["name"], {"path": path}) for path in ("ä", "b")]
    with litellm.answering([Turn.tools(*calls), Turn.text("Read.")]) as requests:
        seen = events(asked(litellm, tools=tools))
        blocks = [event["content_block"] for event in seen if event["type"] == "content_block_start"]
        assert [(block["type"], block["name"]) for block in blocks] == [("tool_use", tools[0]["name"])] * 2
        inputs = [event["delta"]["partial_json"] for event in seen if event["type"] == "content_block_delta"]
        assert [json.loads(text) for text in inputs] == [{"path": "ä"}, {"path": "b"}]
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": f"said {place}"}
            for place, block in enumerate(blocks)
        ]
        asked_for = [{**block, "input": json.loads(text)} for block, text in zip(blocks, inputs, strict=True)]
        talk = [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": asked_for},
            {"role": "user", "content": results},
        ]
        events(asked(litellm, tools=tools, messages=talk))
    assert requests[1].mentions("said 0")
    assert requests[1].mentions("said 1")


@pytest.mark.parametrize("status", [401, 429])
def test_the_messages_shape_keeps_the_status_of_an_error(litellm: LiteLLM, status: int):
    with litellm.answering([Turn.error(status)]) as requests:
        answer = asked(litellm)
    assert (answer.status_code, answer.json()["type"], len(requests)) == (status, "error", 1)


def test_the_messages_shape_refuses_a_wrong_key_with_a_400(litellm: LiteLLM):
    """Not with a 401, as long as the proxy has no database: its words must be known to tell what is wrong."""
    with litellm.answering([]):
        answer = asked(litellm, key="sk-wrong-0123456789")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "No connected db.")


def test_the_messages_shape_counts_tokens(litellm: LiteLLM):
    with litellm.answering([]):
        answer = asked(litellm, path="/v1/messages/count_tokens")
    assert (answer.status_code, answer.json()["input_tokens"] > 0) == (200, True)
