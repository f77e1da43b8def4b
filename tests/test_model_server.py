"""The scripted model server, asked by the real clients; and the guard beside it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import time
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext, Tool, ToolOutput, exceptions
from support.clients import APIS, KEY, Api, ask, model_at
from support.guard import RealHostForbidden, forbid_real_model_hosts
from support.model_server import ModelServer, Request, Turn, UnscriptedRequest, Usage

both = pytest.mark.parametrize("api", APIS)


def reading_tool(seen: list[tuple[str | None, dict[str, Any]]]) -> Tool[None]:
    async def read(ctx: RunContext[None], /, **arguments: Any) -> str:
        seen.append((ctx.tool_call_id, arguments))
        return "contents"

    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    return Tool.from_schema(read, "file_read", "Read a file.", schema, takes_ctx=True)


def text_pieces(events: list[Any]) -> list[str]:
    starts = [e.part.content for e in events if e.event_kind == "part_start" and e.part.part_kind == "text"]
    return starts + [
        e.delta.content_delta
        for e in events
        if e.event_kind == "part_delta" and e.delta.part_delta_kind == "text"
    ]


def post(server: ModelServer, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    return response.status, response.read()


# --- answers --------------------------------------------------------------------------------------------


@both
def test_text_arrives_in_the_chosen_pieces(api: Api) -> None:
    with ModelServer([Turn.text("Grüße 👋 an alle", chunk=4)]) as server:
        result, events = asyncio.run(ask(server, api))
    assert text_pieces(events) == ["Grüß", "e 👋 ", "an a", "lle"]
    assert result.output == "Grüße 👋 an alle"


@both
def test_characters_survive_writes_that_cut_them_in_the_middle(api: Api) -> None:
    with ModelServer([Turn.text("日本語 👋🏽 é", chunk=2, write_bytes=1)]) as server:
        result, _ = asyncio.run(ask(server, api))
    assert result.output == "日本語 👋🏽 é"


@both
def test_parallel_tool_calls_come_with_text_and_arguments_in_pieces(api: Api) -> None:
    calls: list[tuple[str | None, dict[str, Any]]] = []
    turn = Turn.tools(
        ("file_read", {"path": "ä"}), ("file_read", {"path": "b"}), text="Looking.", argument_chunk=3
    )
    with ModelServer([turn, Turn.text("Done.")]) as server:
        result, events = asyncio.run(ask(server, api, tools=[reading_tool(calls)]))
    assert result.output == "Done."
    assert sorted(arguments["path"] for _, arguments in calls) == ["b", "ä"]
    assert len({call_id for call_id, _ in calls}) == 2
    kinds = [event.event_kind for event in events]
    assert (kinds.count("function_tool_call"), kinds.count("function_tool_result")) == (2, 2)
    assert len([e for e in events if e.event_kind == "part_delta"]) > 6
    assert server.requests[0].tool_names == ["file_read"]
    assert server.requests[1].mentions("contents")


@both
def test_an_answer_that_is_not_streamed_has_the_same_content(api: Api) -> None:
    turn = Turn.tools(("file_read", {"path": "ä"}), text="Looking.", usage=Usage(3, 4, 5))
    with ModelServer([turn]) as server:
        path = "/v1/messages" if api == "anthropic" else "/chat/completions"
        status, data = post(server, path, {"model": "m", "messages": []})
    answer = json.loads(data)
    assert status == 200
    if api == "anthropic":
        assert answer["content"][0] == {"type": "text", "text": "Looking."}
        assert answer["content"][1]["input"] == {"path": "ä"}
        assert answer["stop_reason"] == "tool_use"
        assert answer["usage"]["cache_read_input_tokens"] == 5
    else:
        message = answer["choices"][0]["message"]
        assert message["content"] == "Looking."
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"path": "ä"}
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert answer["usage"]["prompt_tokens"] == 8


class Plan(BaseModel):
    """A plan."""

    steps: list[str]


class Question(BaseModel):
    """A question."""

    question: str


@pytest.mark.parametrize(
    ("api", "model"),
    [("anthropic", "claude-sonnet-5-5"), ("anthropic", "claude-sonnet-4-6"), ("openai", "gpt-4o")],
)
@pytest.mark.parametrize("where", [None, lambda name: name.endswith("Question")])
def test_structured_output_takes_the_form_that_the_request_asks_for(api: Api, model: str, where: Any) -> None:
    turn = Turn.output({"question": "Which?"}, where=where)
    with ModelServer([Turn.text("Hm."), turn]) as server:
        result, _ = asyncio.run(ask(server, api, model=model, output_type=[Plan, Question], retries=1))
    assert result.output == Question(question="Which?")


def test_structured_output_of_one_type_is_the_object_itself() -> None:
    for api in APIS:
        with ModelServer([Turn.output({"steps": ["a"]})]) as server:
            result, _ = asyncio.run(ask(server, api, output_type=Plan))
        assert result.output == Plan(steps=["a"])


def test_an_output_tool_can_be_called_by_its_name() -> None:
    types = [ToolOutput(Plan, name="plan"), ToolOutput(Question, name="question")]
    with ModelServer([Turn.output({"steps": []}, where="plan")]) as server:
        result, _ = asyncio.run(ask(server, "anthropic", output_type=types))
    assert result.output == Plan(steps=[])
    assert server.requests[0].tool_names == ["plan", "question"]


@both
def test_usage_and_cached_tokens_reach_the_result(api: Api) -> None:
    with ModelServer([Turn.text("Hi", usage=Usage(1000, 200, cache_read_tokens=300))]) as server:
        result, _ = asyncio.run(ask(server, api))
    usage = result.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, 1300, 200)
    assert usage.cache_read_tokens == 300
    assert isinstance(usage.cost, Decimal)


def test_written_cache_tokens_reach_the_result() -> None:
    with ModelServer([Turn.text("Hi", usage=Usage(10, 2, cache_write_tokens=40))]) as server:
        result, _ = asyncio.run(ask(server, "anthropic"))
    assert (result.usage.cache_write_tokens, result.usage.input_tokens) == (40, 50)


@both
def test_a_stop_reason_can_be_given(api: Api) -> None:
    with ModelServer([Turn.text("Cut o", stop="max_tokens")]) as server:
        result, _ = asyncio.run(ask(server, api))
    assert (result.output, result.response.finish_reason) == ("Cut o", "length")


def test_a_chat_stream_reports_usage_only_when_asked() -> None:
    with ModelServer([Turn.text("Hi")], repeat_last=True) as server:
        asked = {"stream": True, "stream_options": {"include_usage": True}, "messages": []}
        _, with_usage = post(server, "/v1/chat/completions", asked)
        _, without = post(server, "/v1/chat/completions", {"stream": True, "messages": []})
    assert b'"usage"' in with_usage
    assert b'"usage"' not in without
    assert without.endswith(b"data: [DONE]\n\n")


# --- errors ---------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, exceptions.ModelRequestRejectedError),
        (401, exceptions.ModelAuthenticationError),
        (402, exceptions.ModelQuotaExceededError),
        (403, exceptions.ModelAuthenticationError),
        (404, exceptions.ModelNotFoundError),
        (429, exceptions.ModelRateLimitError),
        (500, exceptions.ModelServerError),
        (503, exceptions.ModelUnavailableError),
        (529, exceptions.ModelOverloadedError),
    ],
)
def test_an_error_status_is_typed_and_asked_once(
    api: Api, status: int, kind: type[exceptions.ModelAPIError]
) -> None:
    with ModelServer([Turn.error(status)], repeat_last=True) as server:
        with pytest.raises(kind) as caught:
            asyncio.run(ask(server, api))
        assert len(server.requests) == 1
    assert isinstance(caught.value, exceptions.ModelHTTPError)
    assert caught.value.status_code == status
    assert caught.value.retry_after is None


@both
def test_retry_after_is_sent_in_seconds_or_as_a_date(api: Api) -> None:
    date = formatdate(time.time() + 3600, usegmt=True)
    with ModelServer([Turn.error(429, retry_after=7), Turn.error(429, retry_after=date)]) as server:
        with pytest.raises(exceptions.ModelRateLimitError) as first:
            asyncio.run(ask(server, api))
        with pytest.raises(exceptions.ModelRateLimitError) as second:
            asyncio.run(ask(server, api))
    assert first.value.retry_after == 7.0
    assert second.value.retry_after == pytest.approx(3600, abs=120)


@both
def test_an_error_can_come_inside_an_open_stream(api: Api) -> None:
    with (
        ModelServer([Turn.text("abcd", chunk=1).fail_after(2, 529)]) as server,
        pytest.raises(exceptions.ModelOverloadedError) as caught,
    ):
        asyncio.run(ask(server, api))
    assert caught.value.in_stream


@both
@pytest.mark.parametrize("turn", [Turn.hang(), Turn.text("abcd", chunk=1).hang_after(2)])
def test_a_hang_ends_at_the_clients_timeout(api: Api, turn: Turn) -> None:
    with ModelServer([turn]) as server:
        with pytest.raises(exceptions.ModelTimeoutError):
            asyncio.run(ask(server, api, timeout_seconds=0.2))
        assert server.requests[0].left.wait(10)


def test_a_hang_ends_when_the_server_closes() -> None:
    with ModelServer([Turn.hang()]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/v1/messages", "{}")
        server.wait_for_requests(1)
    with pytest.raises(ConnectionError):
        connection.getresponse()


@both
@pytest.mark.parametrize("after", [0, 2])
def test_a_cut_keeps_the_pieces_before_it(api: Api, after: int) -> None:
    pieces: list[str] = []

    async def run(server: ModelServer) -> None:
        async with Agent(model_at(server.url, api)).run_stream_events("Hello") as stream:
            async for event in stream:
                pieces.extend(text_pieces([event]))

    with (
        ModelServer([Turn.text("abcd", chunk=1).cut_after(after)]) as server,
        pytest.raises(exceptions.ModelConnectionError) as caught,
    ):
        asyncio.run(run(server))
    assert caught.value.phase == "read"
    assert pieces == list("abcd")[:after]


@both
@pytest.mark.parametrize("breaking", [Turn.cut(), Turn.text("abcd").cut_after(0)])
def test_a_cut_ends_the_connection_of_an_answer_that_is_not_streamed(api: Api, breaking: Turn) -> None:
    path = "/v1/messages" if api == "anthropic" else "/v1/chat/completions"
    with (
        ModelServer([breaking]) as server,
        pytest.raises((http.client.IncompleteRead, ConnectionError)),
    ):
        post(server, path, {"messages": []})


@both
def test_a_broken_event_is_no_json(api: Api) -> None:
    with (
        ModelServer([Turn.text("abcd", chunk=1).garble_after(2)]) as server,
        pytest.raises(exceptions.ModelAPIError, match="JSON"),
    ):
        asyncio.run(ask(server, api))


@both
@pytest.mark.parametrize("body", ["{oops", "<html></html>", '{"unknown": 1}'])
def test_a_foreign_body_is_unexpected_behaviour(api: Api, body: str) -> None:
    with (
        ModelServer([Turn.raw(body)]) as server,
        pytest.raises(exceptions.UnexpectedModelBehavior),
    ):
        asyncio.run(ask(server, api))


@both
def test_a_stream_that_ends_without_a_stop_reason_can_be_told_from_a_whole_one(api: Api) -> None:
    whole = Turn.text("abcd", chunk=1)
    with ModelServer([whole.end_after(2), whole]) as server:
        short, _ = asyncio.run(ask(server, api))
        full, _ = asyncio.run(ask(server, api))
    assert (short.output, full.output) == ("ab", "abcd")
    assert "finish_reason" not in (short.response.provider_details or {})
    assert "finish_reason" in (full.response.provider_details or {})


# --- scripts and requests -------------------------------------------------------------------------------


@both
def test_a_request_is_recorded_whole(api: Api) -> None:
    before = time.monotonic()
    with ModelServer([Turn.text("Hi")]) as server:
        asyncio.run(ask(server, api, "Zähle 👋", instructions="Be brief."))
    request = server.requests[0]
    assert (request.api, request.key, request.streaming) == (api, KEY, True)
    assert request.model in ("claude-sonnet-5-5", "gpt-4o")
    assert request.mentions("Zähle 👋")
    assert request.mentions("Be brief.")
    assert not request.mentions("absent")
    assert before <= request.received_at <= time.monotonic()


def test_a_function_can_be_the_script() -> None:
    def count(request: Request, n: int) -> Turn:
        return Turn.text(f"{n}: {request.model}")

    with ModelServer(count) as server:
        answers = [asyncio.run(ask(server, "openai", model="gpt-x"))[0].output for _ in range(2)]
    assert answers == ["0: gpt-x", "1: gpt-x"]


def test_concurrent_runs_have_scripts_by_model_key_or_marker() -> None:
    scripts = {"gpt-b": [Turn.text("model")], "sk-b": [Turn.text("key")], "RUN-7": [Turn.text("marker")]}

    async def all_of(server: ModelServer) -> list[Any]:
        runs = await asyncio.gather(
            ask(server, "openai"),
            ask(server, "openai", model="gpt-b"),
            ask(server, "anthropic", key="sk-b"),
            ask(server, "anthropic", "This is RUN-7."),
        )
        return [result.output for result, _ in runs]

    with ModelServer([Turn.text("rest")], scripts=scripts) as server:
        assert asyncio.run(all_of(server)) == ["rest", "model", "key", "marker"]


def test_an_unscripted_request_is_refused_and_reported() -> None:
    server = ModelServer([Turn.text("one")])
    with server:
        asyncio.run(ask(server, "openai"))
        with pytest.raises(exceptions.ModelRequestRejectedError, match="Request 2"):
            asyncio.run(ask(server, "openai"))
        reported = server.problems.copy()
        server.problems.clear()
    assert reported == ["Request 2 of script '' has no answer: IndexError: list index out of range"]


def test_an_output_tool_that_is_not_offered_is_reported() -> None:
    with pytest.raises(UnscriptedRequest, match="not offered"), ModelServer([Turn.output({})]) as server:
        post(server, "/v1/messages", {"messages": []})


def test_small_talk_takes_no_turn() -> None:
    with ModelServer() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        for method, path in (("HEAD", "/"), ("GET", "/"), ("GET", "/v1/models")):
            connection.request(method, path)
            response = connection.getresponse()
            assert response.status == 200
            last = response.read()
        status, counted = post(server, "/v1/messages/count_tokens?beta=true", {"messages": ["x" * 400]})
    assert json.loads(last)["data"][0]["id"] == "scripted"
    assert (status, json.loads(counted)) == (200, {"input_tokens": 100})
    assert [request.path for request in server.others][-1] == "/v1/messages/count_tokens"
    assert server.requests == []


def test_a_request_of_several_megabytes_is_read() -> None:
    with ModelServer([Turn.text("ok")]) as server:
        status, _ = post(server, "/v1/messages", {"messages": ["ä" * 4_000_000]})
    assert status == 200
    assert len(server.requests[0].messages[0]) == 4_000_000


def test_a_connection_is_kept_for_the_next_request() -> None:
    with ModelServer([Turn.text("ok")], repeat_last=True) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.connect()
        first = connection.sock
        for stream in (True, False, True):
            connection.request("POST", "/v1/messages", json.dumps({"stream": stream}))
            assert connection.getresponse().read()
        assert connection.sock is first


def test_fifty_runs_at_once_are_answered_each_with_its_own() -> None:
    def echo(request: Request, n: int) -> Turn:
        return Turn.text(request.model, chunk=1, delay_seconds=0.001)

    async def all_of(server: ModelServer) -> list[str]:
        runs = await asyncio.gather(*(ask(server, "openai", model=f"model-{n}") for n in range(50)))
        return [result.output for result, _ in runs]

    with ModelServer(echo) as server:
        assert asyncio.run(all_of(server)) == [f"model-{n}" for n in range(50)]


def test_waiting_for_a_request_that_never_comes_says_so() -> None:
    with ModelServer() as server, pytest.raises(TimeoutError, match="0 of 1"):
        server.wait_for_requests(1, timeout_seconds=0.01)


# --- the guard ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["api.anthropic.com", "192.0.2.1", "2001:db8::1", b"api.openai.com"])
def test_the_guard_refuses_to_look_a_real_host_up(host: str | bytes) -> None:
    with pytest.raises(RealHostForbidden, match=r"127\.0\.0\.1 only"), forbid_real_model_hosts():
        socket.getaddrinfo(host, 443)


@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
def test_the_guard_refuses_to_connect_to_a_real_address(connect: str) -> None:
    with socket.socket() as plug, pytest.raises(RealHostForbidden), forbid_real_model_hosts():
        getattr(plug, connect)(("192.0.2.1", 443))


@both
def test_the_guard_lets_the_server_through(api: Api) -> None:
    with forbid_real_model_hosts(), ModelServer([Turn.text("ok")]) as server:
        result, _ = asyncio.run(ask(server, api))
    assert result.output == "ok"


@both
def test_the_guard_reports_an_attempt_that_a_client_took_for_a_broken_connection(api: Api) -> None:
    async def attempt() -> None:
        with contextlib.suppress(exceptions.ModelConnectionError):
            await Agent(model_at("https://api.example.com", api)).run("Hello")

    with pytest.raises(RealHostForbidden, match=r"api\.example\.com"), forbid_real_model_hosts():
        asyncio.run(attempt())


def test_the_guard_leaves_nothing_behind() -> None:
    before = (socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto)
    with forbid_real_model_hosts():
        assert socket.getaddrinfo is not before[0]
    assert before == (
        socket.getaddrinfo,
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.socket.sendto,
    )
