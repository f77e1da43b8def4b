"""Every way in which a model can fail, from the wire to the sentence a person reads."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import Agent, Tool, UsageLimits
from pydantic_ai.exceptions import FallbackExceptionGroup
from support.clients import APIS, KEY, Api, ask, model_at
from support.model_server import ModelServer, Turn, Usage

from personas_nb.engine import model_errors
from personas_nb.engine.model_errors import retry_after_seconds, status_to_model_error, to_model_error
from personas_nb.engine.models import KEY_VARIABLES
from personas_nb.errors import ModelError

both = pytest.mark.parametrize("api", APIS)
NAMES = {"anthropic": "Anthropic", "openai": "OpenAI"}


def failure(api: Api, *turns: Turn, **options: Any) -> ModelError:
    """What a run against these turns ends with, in our words."""
    with ModelServer(turns, repeat_last=True) as server:
        try:
            asyncio.run(ask(server, api, **options))
        except Exception as error:
            return to_model_error(error, provider=api)
    raise AssertionError("The run did not fail.")


def tool(name: str = "look") -> Tool[None]:
    async def look(**arguments: Any) -> str:
        return "seen"

    return Tool.from_schema(look, name, "Look.", {"type": "object", "properties": {}})


# --- the provider refuses -------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("turn", "kind", "retryable", "sentence", "hint"),
    [
        (Turn.error(429), "rate_limit", True, "rate limit is reached", "Wait a minute"),
        (Turn.error(401), "credential", False, "did not accept the key", "_API_KEY"),
        (Turn.error(402), "credential", False, "no credit or quota left", "Top it up"),
        (Turn.error(403), "credential", False, "does not allow this key to use the model “", "another model"),
        (Turn.error(404), "not_found", False, "does not know the model “", "model and base_url"),
        (Turn.error(413), "tokens", False, "longer than the model “", "Give less input"),
        (Turn.error(418), "rejected", False, "rejected the request", "Change the persona"),
        (Turn.error(500), "overloaded", True, "an error of its own (HTTP 500)", "status page"),
        (Turn.error(503), "overloaded", True, "overloaded or unavailable", "Wait a minute"),
        (Turn.error(504), "overloaded", True, "an error of its own (HTTP 504)", "status page"),
        (Turn.error(529), "overloaded", True, "overloaded or unavailable", "Wait a minute"),
        (Turn.text("abc", chunk=1).fail_after(1, 529), "overloaded", True, "overloaded", "Wait a minute"),
        (Turn.text("abc", chunk=1).fail_after(1, 429), "rate_limit", True, "rate limit", "Wait a minute"),
        (Turn.hang(), "timeout", True, "did not answer in time", "--timeout"),
        (Turn.text("abc", chunk=1).hang_after(1), "timeout", True, "did not answer in time", "--timeout"),
        (Turn.cut(), "connection", True, "broke before the answer was complete", "Run again"),
        (Turn.text("abc", chunk=1).cut_after(1), "connection", True, "broke before the answer", "Run again"),
        (Turn.text("abc", chunk=1).garble_after(1), "bad_answer", False, "cannot be used", "base_url"),
        (Turn.raw("<html>"), "bad_answer", False, "cannot be used", "base_url"),
        (Turn.text(""), "bad_answer", False, "cannot be used", "another model"),
        (Turn.text("", stop="refusal"), "rejected", False, "content policy", "instructions or the input"),
        (Turn.tools(("look", '{"a'), stop="max_tokens"), "tokens", False, "output limit", "shorter answer"),
        (Turn.tools(("nothing", {})), "bad_answer", False, "cannot be used", "Run again"),
    ],
)
def test_a_failure_of_either_api_becomes_a_sentence_and_a_next_step(
    api: Api, turn: Turn, kind: str, retryable: bool, sentence: str, hint: str
) -> None:
    error = failure(api, turn, timeout_seconds=0.3 if turn.breaks == "hang" else 30, tools=[tool()])
    assert (error.kind, error.retryable) == (kind, retryable)
    assert sentence in error.message
    assert hint in error.hint
    assert NAMES[api] in error.message or "the model “" in error.message
    assert error.__cause__ is not None
    assert error.message[0].isupper()
    assert error.message.endswith(".")
    assert KEY not in str(error)


@both
def test_the_reason_of_a_rejected_request_is_quoted(api: Api) -> None:
    error = failure(api, Turn.error(400, "temperature: must be\n at most 1."))
    assert error.message == f"{NAMES[api]} rejected the request: “temperature: must be at most 1”."


@both
def test_a_key_that_the_provider_repeats_is_taken_out(api: Api) -> None:
    said = f"Wrong {KEY}, not sk-proj-********abcd; Authorization: Bearer eyJhbGciOi.x-y_z sent. own-key-1"
    error = failure(api, Turn.error(400, said))
    assert error.message.count("[key]") == 3
    assert all(secret not in str(error) for secret in (KEY, "abcd", "eyJ"))
    other = failure(api, Turn.error(400, said), key="own-key-1")
    assert "own-key-1" not in str(other)


@both
def test_a_long_reason_is_cut(api: Api) -> None:
    error = failure(api, Turn.error(400, "word " * 1000))
    assert len(error.message) < 260
    assert error.message.endswith("…”.")


def test_an_exhausted_quota_is_no_rate_limit() -> None:
    error = failure("openai", Turn.error(429, error_type="insufficient_quota", code="insufficient_quota"))
    assert (error.kind, error.retryable) == ("credential", False)


@both
def test_a_prompt_over_the_context_window_is_said(api: Api) -> None:
    said = "prompt is too long: 300000 tokens; reduce the length of the messages"
    error = failure(api, Turn.error(400, said))
    assert (error.kind, "can read at once" in error.message) == ("tokens", True)


def test_an_unknown_model_gets_a_suggestion_when_a_near_one_is_known() -> None:
    error = failure("anthropic", Turn.error(404, "model: claude-sonet-5-5"), model="claude-sonet-5-5")
    assert error.message == "Anthropic does not know the model “claude-sonet-5-5”."
    assert error.hint.startswith("Did you mean “claude-sonnet-5-5”?")


def test_text_instead_of_json_is_a_bad_answer() -> None:
    async def whole(server: ModelServer) -> None:
        await Agent(model_at(server.url, "openai")).run("Hello")

    turn = Turn.raw("warming up", content_type="text/plain")
    with ModelServer([turn]) as server, pytest.raises(Exception) as caught:
        asyncio.run(whole(server))
    assert to_model_error(caught.value, provider="custom").kind == "bad_answer"


@both
def test_a_server_that_is_not_there_could_not_be_reached(api: Api) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: every connection is refused
        with pytest.raises(Exception) as caught:
            asyncio.run(Agent(model_at(f"http://127.0.0.1:{taken.getsockname()[1]}", api)).run("Hello"))
    error = to_model_error(caught.value, provider="custom")
    assert (error.kind, error.message) == ("connection", "The model server could not be reached.")
    assert "base_url" in error.hint


# --- how long to wait -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("status", [429, 503, 529])
def test_retry_after_in_seconds_is_kept_and_said(api: Api, status: int) -> None:
    error = failure(api, Turn.error(status, retry_after="7.5"))
    assert error.retry_after_seconds == 7.5
    assert "Wait 8 seconds" in error.hint


@both
def test_retry_after_as_a_date_is_kept(api: Api) -> None:
    error = failure(api, Turn.error(429, retry_after=formatdate(time.time() + 3600, usegmt=True)))
    assert error.retry_after_seconds == pytest.approx(3600, abs=120)


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@given(st.integers(-(10**6), 10**6))
def test_a_date_is_as_far_away_as_it_says_and_never_negative(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_seconds({"retry-after": date}, now=NOW) == max(0, seconds)


@given(st.text())
def test_nonsense_is_no_time_to_wait(text: str) -> None:
    seconds = retry_after_seconds({"Retry-After": text}, now=NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"RETRY-AFTER": " 3 "}, 3.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:05"}, 5.0),
    ],
)
def test_the_header_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, now=NOW) == seconds


# --- our own limits -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("limits", "kind", "sentence", "hint"),
    [
        (
            {"cost_limit": Decimal("0.10")},
            "budget",
            "its budget of 0.10 USD: it has cost ",
            "--max-budget-usd",
        ),
        ({"request_limit": 2}, "turns", "The run reached its limit of 2 turns.", "--max-turns"),
        ({"tool_calls_limit": 1}, "turns", "The run reached its limit of 1 tool calls.", "ask for less"),
        ({"total_tokens_limit": 50_000}, "tokens", "its limit of 50000 tokens.", "ask for less"),
        ({"input_tokens_limit": 50_000}, "tokens", "its limit of 50000 tokens.", "ask for less"),
        ({"output_tokens_limit": 500}, "tokens", "its limit of 500 tokens.", "ask for less"),
    ],
)
def test_a_limit_of_the_run_says_which_one(
    api: Api, limits: dict[str, Any], kind: str, sentence: str, hint: str
) -> None:
    turn = Turn.tools(("look", {}), usage=Usage(100_000, 1_000))
    error = failure(api, turn, tools=[tool()], run={"usage_limits": UsageLimits(**limits)})
    assert (error.kind, error.retryable) == (kind, False)
    assert sentence in error.message
    assert hint in error.hint


@both
def test_a_limit_of_tiny_money_is_written_plainly(api: Api) -> None:
    limits = UsageLimits(cost_limit=Decimal("0.0000001"))
    error = failure(api, Turn.text("Hi"), run={"usage_limits": limits})
    assert error.message.startswith("The run went over its budget of 0.0000001 USD: it has cost 0.0")


@both
def test_a_run_over_its_time_is_a_timeout_of_the_run(api: Api) -> None:
    error = failure(api, Turn.text("abc", chunk=1).hang_after(1), run={"timeout": 0.2})
    assert (error.kind, error.message) == ("timeout", "The run was not finished within its time.")


@both
def test_a_request_over_its_time_is_a_timeout_of_the_provider(api: Api) -> None:
    settings = {"model_settings": {"request_timeout": 0.2}}
    error = failure(api, Turn.text("abc", chunk=1).hang_after(1), run=settings)
    assert (error.kind, error.message) == ("timeout", f"{NAMES[api]} did not answer in time.")


# --- what slips through, and what is wrapped ------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (Turn.error(429, retry_after=5), "rate_limit"),
        (Turn.error(401), "credential"),
        (Turn.error(403), "credential"),
        (Turn.error(529), "overloaded"),
        (Turn.hang(), "timeout"),
        (Turn.cut(), "connection"),
        (Turn.raw("{oops"), "bad_answer"),
    ],
)
def test_errors_of_the_providers_own_clients_mean_the_same(api: Api, turn: Turn, kind: str) -> None:
    async def raw(url: str) -> None:
        messages: Any = [{"role": "user", "content": "Hello"}]
        if api == "anthropic":
            from anthropic import AsyncAnthropic

            client = AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0, timeout=0.3)
            await client.messages.create(model="claude-sonnet-5-5", max_tokens=9, messages=messages)
        else:
            from openai import AsyncOpenAI

            chat = AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0, timeout=0.3)
            await chat.chat.completions.create(model="gpt-4o", messages=messages)

    with ModelServer([turn]) as server, pytest.raises(Exception) as caught:
        asyncio.run(raw(server.url))
    error = to_model_error(caught.value, provider=api)
    assert error.kind == kind
    assert error.retry_after_seconds == (5.0 if kind == "rate_limit" else None)


@pytest.mark.parametrize("client", ["httpx", "httpx2"])
@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (Turn.error(429, retry_after=5), "rate_limit"),
        (Turn.hang(), "timeout"),
        (Turn.text("abc", chunk=1).cut_after(1), "connection"),
    ],
)
def test_errors_of_plain_http_mean_the_same(client: str, turn: Turn, kind: str) -> None:
    http = importlib.import_module(client)
    body = {"stream": True, "messages": []}
    with ModelServer([turn]) as server, pytest.raises(http.HTTPError) as caught:
        http.post(f"{server.url}/v1/messages", json=body, timeout=0.3).raise_for_status()
    assert to_model_error(caught.value, provider="litellm").kind == kind


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (TimeoutError(), "timeout", "LiteLLM did not answer in time."),
        (
            ConnectionResetError(),
            "connection",
            "The connection to LiteLLM broke before the answer was complete.",
        ),
        (ConnectionRefusedError(), "connection", "LiteLLM could not be reached."),
        (socket.gaierror(-2, "unknown"), "connection", "LiteLLM could not be reached."),
        (
            json.JSONDecodeError("no", "x", 0),
            "bad_answer",
            "LiteLLM answered with something that cannot be used.",
        ),
        (ZeroDivisionError(), "unknown", "LiteLLM failed in an unexpected way (ZeroDivisionError)."),
        (asyncio.CancelledError(), "unknown", "LiteLLM failed in an unexpected way (CancelledError)."),
    ],
)
def test_builtin_errors_have_a_meaning_too(error: BaseException, kind: str, sentence: str) -> None:
    made = to_model_error(error, provider="litellm")
    assert (made.kind, made.message) == (kind, sentence)
    assert made.__cause__ is error


def test_a_group_means_what_its_first_known_member_means() -> None:
    inner = ExceptionGroup("inner", [ValueError("?"), TimeoutError()])
    error = to_model_error(ExceptionGroup("outer", [KeyError("?"), inner]), provider="ollama")
    assert (error.kind, error.message) == ("timeout", "Ollama did not answer in time.")
    fallback = FallbackExceptionGroup("all failed", [ConnectionRefusedError()])
    assert to_model_error(fallback, provider="ollama").kind == "connection"


def test_a_cause_speaks_for_a_wrapper_that_says_nothing() -> None:
    wrapper = RuntimeError("wrapped")
    wrapper.__cause__ = OSError("wrapped again")
    wrapper.__cause__.__cause__ = ConnectionResetError()
    assert to_model_error(wrapper, provider="ollama").kind == "connection"


def test_a_context_that_was_only_near_does_not_speak() -> None:
    mistake = ZeroDivisionError("a tool's own")
    mistake.__context__ = ConnectionResetError()
    assert to_model_error(mistake, provider="ollama").kind == "unknown"


def test_causes_that_run_in_a_circle_end() -> None:
    first, second = RuntimeError(), RuntimeError()
    first.__cause__, second.__cause__ = second, first
    assert to_model_error(first, provider="ollama").kind == "unknown"


def test_a_model_error_is_returned_as_it_is_wherever_it_is() -> None:
    made = ModelError("Said already.", kind="budget")
    assert to_model_error(made, provider="ollama") is made
    assert to_model_error(ExceptionGroup("", [made]), provider="ollama") is made


def test_an_unknown_provider_is_called_by_its_name_and_has_no_key_variable() -> None:
    error = status_to_model_error(401, provider="vLLM")
    assert str(error) == (
        "VLLM did not accept the key. Check the key in the persona's auth_token, then run again."
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "rejected"),
        (401, "credential"),
        (408, "timeout"),
        (429, "rate_limit"),
        (502, "overloaded"),
        (200, "unknown"),
    ],
)
def test_a_bare_status_has_the_same_meaning(status: int, kind: str) -> None:
    error = status_to_model_error(status, provider="anthropic", message=f"no {KEY}", retry_after_seconds=4)
    assert (error.kind, error.retry_after_seconds) == (kind, 4)
    assert KEY not in str(error)


# --- the table itself -----------------------------------------------------------------------------------


def test_every_class_in_the_table_exists_and_none_hides_a_later_one() -> None:
    importlib.import_module("anyio")
    classes = [getattr(importlib.import_module(module), name) for module, name, _ in model_errors._TYPES]
    assert all(issubclass(each, BaseException) for each in classes)
    hidden = [
        (wide.__name__, narrow.__name__)
        for place, wide in enumerate(classes)
        for narrow in classes[place + 1 :]
        if issubclass(narrow, wide)
    ]
    assert hidden == []


def test_every_reason_is_one_of_the_kinds_and_has_a_next_step() -> None:
    kinds = {kind for kind, *_ in model_errors._REASONS.values()}
    assert kinds <= set((ModelError.__doc__ or "").replace("``", " ").replace(",", " ").split())
    refined = {"limit", "status", "transport", "api"}
    assert {reason for *_, reason in model_errors._TYPES} - refined <= set(model_errors._REASONS)
    assert all(step.endswith(".") for *_, step in model_errors._REASONS.values())


def test_classifying_imports_nothing() -> None:
    program = (
        "import sys\n"
        "from personas_nb.engine.model_errors import to_model_error\n"
        "assert to_model_error(TimeoutError(), provider='ollama').kind == 'timeout'\n"
        "heavy = {'pydantic_ai', 'httpx', 'httpx2', 'anthropic', 'openai', 'anyio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("provider", ["anthropic", "custom", "litellm", "ollama"])
def test_a_refused_key_names_the_variable_that_is_read(provider: str):
    assert KEY_VARIABLES[provider] in status_to_model_error(401, provider=provider).hint
