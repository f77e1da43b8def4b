"""The direct engine with servers that speak the OpenAI shape: ollama, litellm, custom."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Request, Script, Turn, Usage
from support.studios import persona_of, studio_at

from personas_nb.entities.execution import Execution
from personas_nb.views.executions import execution_card

PROVIDERS = ["ollama", "litellm", "custom"]
NAMES = {"ollama": "Ollama", "litellm": "LiteLLM", "custom": "The model server"}
OWN = "our-own-model"
every = pytest.mark.parametrize("provider", PROVIDERS)


class Bench:
    """A studio whose persona runs on the direct engine, with a provider that the test names."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self._stack = home, stack
        self.server: ModelServer

    def run(self, provider: str, script: Script, *tools: str, at: str = "", **settings: Any) -> Execution:
        """``at`` goes behind the server's address."""
        self.server = self._stack.enter_context(ModelServer(script))
        return self.run_at(provider, self.server.url + at, *tools, **settings)

    def run_at(self, provider: str, base_url: str, *tools: str, **settings: Any) -> Execution:
        given = {"model": OWN, **settings}
        opened = studio_at(self.home, provider=provider, engine="direct", base_url=base_url, **given)
        studio = self._stack.enter_context(opened)
        persona_of(studio, *tools)
        return studio.run("watcher")


@pytest.fixture
def bench(home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(home, stack)


@pytest.fixture
def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- what works -----------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("at", ["", "/", "/v1", "/v1/"])
def test_an_address_with_and_without_v1_leads_to_the_chat_api(bench: Bench, provider: str, at: str):
    run = bench.run(provider, [Turn.text("Grüße.")], at=at)
    assert (run.status, run.output_data, run.error) == ("completed", "Grüße.", None)
    assert (run.provider, run.engine, run.model_used) == (provider, "direct", OWN)
    assert [request.path for request in bench.server.requests] == ["/v1/chat/completions"]


@every
def test_no_key_is_needed_where_the_server_asks_for_none(bench: Bench, provider: str):
    assert bench.run(provider, [Turn.text("Hi.")]).status == "completed"
    assert bench.server.requests[0].key == "unset"


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("ollama", "OLLAMA_API_KEY"), ("litellm", "LITELLM_API_KEY"), ("custom", "OPENAI_API_KEY")],
)
def test_the_providers_own_variable_holds_its_key(
    bench: Bench, provider: str, variable: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, "sk-of-this-provider")
    assert bench.run(provider, [Turn.text("Hi.")]).status == "completed"
    assert bench.server.requests[0].key == "sk-of-this-provider"


@every
def test_tools_are_offered_called_at_once_and_answered(bench: Bench, provider: str):
    calls = [("file_write", {"path": f"{n}.txt", "content": "x"}) for n in range(3)]
    run = bench.run(provider, [Turn.tools(*calls, text="I write."), Turn.text("Done.")], "file_write")
    assert (run.status, run.output_data) == ("completed", "I write.\n\nDone.")
    assert [(step.input["path"], step.error) for step in run.tool_steps] == [
        ("0.txt", None),
        ("1.txt", None),
        ("2.txt", None),
    ]
    answers = [message for message in bench.server.requests[1].messages if message["role"] == "tool"]
    assert len({answer["tool_call_id"] for answer in answers}) == 3


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@every
def test_what_a_model_thinks_is_no_part_of_its_answer(bench: Bench, provider: str, field: str):
    """Ollama and others stream thoughts in a field of their own."""
    deltas = [{field: "They want a greeting."}, {"content": "Hello"}, {"content": " there."}]
    run = bench.run(provider, [Turn.raw(streamed(*deltas), content_type="text/event-stream")])
    assert (run.status, run.output_data) == ("completed", "Hello there.")


def streamed(*deltas: dict[str, str]) -> str:
    """The body of a streamed chat answer."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": OWN}
    ends: list[str | None] = [None] * len(deltas) + ["stop"]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip([*deltas, {}], ends, strict=True)
    ]
    usage = {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18}
    chunks.append({**head, "choices": [], "usage": usage})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


# --- what it costs --------------------------------------------------------------------------------------


@every
def test_a_price_that_nobody_knows_is_shown_as_unknown_and_tokens_stand_in_for_it(
    bench: Bench, provider: str
):
    run = bench.run(provider, [Turn.text("Hi.")])
    assert (run.status, run.cost_usd) == ("completed", None)
    assert any("200,000 tokens stands in" in warning for warning in run.warnings)
    assert re.search(r"\n *cost .*\nunknown ", execution_card(run).text)


@every
def test_the_token_limit_ends_a_run_whose_price_is_unknown(bench: Bench, provider: str):
    def endless(_request: Request, n: int) -> Turn:
        return Turn.tools(("file_read", {"path": f"{n}.txt"}), usage=Usage(9_000, 1_000))

    run = bench.run(provider, endless, "file_read", unknown_price_token_limit=35_000)
    assert (run.status, run.error_kind, run.cost_usd) == ("failed", "tokens", None)
    assert len(bench.server.requests) in (3, 4)  # a request that may go over the limit is not sent


def test_a_model_on_ones_own_machine_has_no_price_whatever_it_is_called(bench: Bench):
    assert bench.run("ollama", [Turn.text("Hi.")], model="gpt-5-mini").cost_usd is None


# --- what goes wrong ------------------------------------------------------------------------------------


def test_a_model_that_ollama_does_not_have_is_a_sentence_that_says_how_to_get_it(bench: Bench):
    said = Turn.error(404, "model 'llama3.9' not found", error_type="not_found_error", code="")
    run = bench.run("ollama", [said], model="llama3.9")
    assert (run.status, run.error_kind, run.cost_usd) == ("failed", "not_found", 0.0)
    assert (run.error or "").startswith("Ollama does not know the model “llama3.9”.")
    assert "`ollama pull llama3.9`" in (run.error or "")


def test_a_model_of_ollama_that_cannot_call_tools_is_said_to_be_the_reason(bench: Bench):
    said = Turn.error(400, "registry.ollama.ai/library/gemma:2b does not support tools")
    run = bench.run("ollama", [said], model="gemma:2b")
    assert (run.status, run.error_kind) == ("failed", "rejected")
    assert "The model “gemma:2b” cannot call tools" in (run.error or "")


@pytest.mark.parametrize(
    ("provider", "step"),
    [
        ("ollama", "Start it with `ollama serve`, or check the base_url"),
        ("litellm", "Start the proxy with `litellm --config FILE`, or check the base_url"),
        ("custom", "Check the network and the base_url"),
    ],
)
def test_a_server_that_does_not_run_is_a_sentence_that_says_how_to_start_it(
    bench: Bench, provider: str, step: str, free_port: int
):
    run = bench.run_at(provider, f"http://127.0.0.1:{free_port}")
    assert (run.status, run.error_kind) == ("failed", "connection")
    assert (run.error or "").startswith(f"{NAMES[provider]} could not be reached.")
    assert step in (run.error or "")


@every
def test_a_wrong_key_ends_the_run_at_once_and_costs_nothing(bench: Bench, provider: str):
    run = bench.run(provider, [Turn.error(401)], auth_token="sk-wrong-0123456789")
    assert (run.status, run.error_kind, run.cost_usd) == ("failed", "credential", 0.0)
    assert (run.duration_ms or 0) < 5_000
    assert len(bench.server.requests) == 1


@every
@pytest.mark.parametrize(
    ("turn", "kind", "said"),
    [
        (Turn.error(429, retry_after=7), "rate_limit", "rate limit is reached"),
        (Turn.error(503), "overloaded", "overloaded or unavailable"),
        (Turn.raw("<html>It works!</html>", content_type="text/html"), "bad_answer", "base_url"),
        (Turn.text("one two", chunk=4).cut_after(1), "connection", "Run again"),
    ],
    ids=["busy", "down", "no model server", "cut"],
)
def test_a_failing_server_is_asked_once_and_named(
    bench: Bench, provider: str, turn: Turn, kind: str, said: str
):
    run = bench.run(provider, [turn])
    assert (run.status, run.error_kind) == ("failed", kind)
    assert NAMES[provider].lower() in (run.error or "").lower()
    assert said in (run.error or "")
    assert len(bench.server.requests) == 1
