"""The loopback gateway between the Claude CLI and its provider, against a real HTTP server and real clients."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import httpx2
import pytest
from support.model_server import ModelServer, Request, Turn, Usage

from personas_nb.engine.model_clients import ModelClients
from personas_nb.engine.model_gateway import GatewayRun, ModelGateway
from personas_nb.engine.models import ResolvedModel
from personas_nb.engine.spending import Allowance
from personas_nb.errors import ModelError
from personas_nb.vault.redaction import Redactor

KEY = "sk-test-0123456789abcdef"
MODEL = "claude-sonnet-5-5"
SSE = "text/event-stream"
OPEN = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"model": "claude-sonnet-5-5", '
    b'"usage": {"input_tokens": 40, "output_tokens": 1}}}\n\n'
)
TEXT = (
    b"event: content_block_delta\r\n"
    b'data: {"type":"content_block_delta","delta":{"text":"Gr\xc3\xbc\xc3\x9fe"}}\r\n\r\n'
)
CLOSE = (
    b'data: {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}\n\n'
    b': a comment\n\ndata: {"type": "message_stop"}\n\n'
)


def looped(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test on a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **options), 60))

    return run


class Bench:
    """A scripted provider, a gateway before it with one run, and a client of that."""

    def __init__(
        self,
        script: Any = (),
        *,
        provider: Any = "anthropic",
        model: str = MODEL,
        secret: str | None = KEY,
        path: str = "",
        pass_auth: bool = False,
        **limits: Any,
    ) -> None:
        self._script, self._pass_auth, self._path = script, pass_auth, path
        self._model = ResolvedModel(provider, model, "", "claude", secret)
        self._limits = {"max_budget_usd": 1.0, "max_turns": 25, "max_tokens": 200_000} | limits
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.server = self._stack.enter_context(ModelServer(self._script, repeat_last=True))
        clients = ModelClients()
        self._stack.push_async_callback(clients.close)
        self.gateway = ModelGateway(clients)
        self._stack.push_async_callback(self.gateway.close)
        self.run = await self.open()
        self.http = await self._stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=30))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def open(self, base_url: str | None = None, **limits: Any) -> GatewayRun:
        model = replace(self._model, base_url=base_url or self.server.url + self._path)
        allowance = Allowance(model, **(self._limits | limits))
        return await self.gateway.open(model, allowance, Redactor({"KEY": KEY}), pass_auth=self._pass_auth)

    async def post(
        self, document: Any = None, path: str = "/v1/messages", run: GatewayRun | None = None, **headers: str
    ) -> httpx2.Response:
        content = document if isinstance(document, bytes) else json.dumps(document or asking())
        sent = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return await self.http.post((run or self.run).base_url + path, content=content, headers=sent)

    def stream(self, document: Any = None) -> Any:
        return self.http.stream("POST", f"{self.run.base_url}/v1/messages", json=document or asking())


def asking(words: str = "Hi.", **fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 4096,
        "stream": True,
        "messages": [{"role": "user", "content": words}],
        **fields,
    }


def kind_of(run: GatewayRun) -> str | None:
    return run.failure.result().kind if run.failure.done() else None


async def until(is_so: Callable[[], Any]) -> None:
    while not is_so():  # noqa: ASYNC110 - what is waited for happens in other threads too
        await asyncio.sleep(0.01)


# --- there and back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
@looped
async def test_a_stream_passes_byte_for_byte_and_is_counted(size: int):
    events = OPEN + TEXT * 3 + CLOSE
    async with Bench([Turn(body=events, write_bytes=size)]) as bench:
        answer = await bench.post()
        assert (answer.status_code, answer.content) == (200, events)
        assert answer.headers["content-type"].startswith(SSE)
        usage = bench.run.usage
        assert (usage.input_tokens, usage.output_tokens, usage.num_turns) == (40, 9, 1)
        assert usage.cost_usd == pytest.approx(40 * 2e-6 + 9 * 10e-6)
        assert (bench.run.finish_reason, kind_of(bench.run)) == ("end_turn", None)


@looped
async def test_an_answer_that_is_not_streamed_passes_whole_and_is_counted():
    used = Usage(100, 10, cache_read_tokens=30, cache_write_tokens=5)
    async with Bench([Turn.text("Grüße", usage=used)]) as bench:
        answer = await bench.post(asking(stream=False))
        assert answer.json()["content"][0]["text"] == "Grüße"
        usage = bench.run.usage
        assert (usage.input_tokens, usage.output_tokens) == (100, 10)
        assert (usage.cache_read_tokens, usage.cache_write_tokens) == (30, 5)


@looped
async def test_a_piece_arrives_before_the_next_is_written():
    async with Bench([Turn.text("one two", chunk=3).hang_after(1)]) as bench, bench.stream() as answer:
        seen = b""
        async for data in answer.aiter_bytes():
            seen += data
            if b'"one"' in seen:
                break
        assert not bench.server.requests[0].left.is_set()


@looped
async def test_usage_is_known_before_the_client_has_the_end():
    events = OPEN + TEXT + CLOSE
    async with Bench([Turn(body=events)]) as bench, bench.stream() as answer:
        async for data in answer.aiter_bytes():
            if b"message_stop" in data:
                assert bench.run.usage.num_turns == 1


@looped
async def test_a_client_that_does_not_read_holds_the_server_back():
    events = OPEN + TEXT * 400_000 + CLOSE  # 38 MB: far more than sockets and buffers hold
    async with Bench([Turn(body=events, write_bytes=1 << 16)]) as bench, bench.stream() as answer:
        reader = None

        def held() -> int:
            nonlocal reader
            (exchange,) = bench.run._exchanges.values()
            reader = exchange._reader
            return reader._text_bytes if reader else 0

        await until(lambda: bench.run._exchanges and held())
        before = -1
        while (now := held()) != before:  # until nothing moves any more
            before = now
            await asyncio.sleep(0.3)
        assert now < 400_000 * 7  # it has stopped on the way
        body = b"".join([data async for data in answer.aiter_bytes()])
        assert body == events


@looped
async def test_only_needed_headers_go_on_and_the_real_key_takes_the_place_of_the_other():
    async with Bench([Turn.text("Hi.")]) as bench:
        await bench.post(
            path="/v1/messages?beta=true",
            x_api_key="placeholder",
            authorization="Bearer other",
            anthropic_version="2023-06-01",
            anthropic_beta="a,b",
            user_agent="claude-cli/2",
            cookie="c=1",
            x_stainless_os="Linux",
        )
        sent = bench.server.requests[0].headers
        assert sent["x-api-key"] == KEY
        assert (sent["anthropic-version"], sent["anthropic-beta"]) == ("2023-06-01", "a,b")
        assert sent["user-agent"] == "claude-cli/2"
        assert not {"authorization", "cookie", "x-stainless-os"} & set(sent)


@pytest.mark.parametrize("provider", ["litellm", "custom"])
@looped
async def test_other_servers_get_the_key_in_both_headers_with_v1_in_the_address_or_not(provider: str):
    async with Bench([Turn.text("Hi.")], provider=provider, path="/v1") as bench:
        assert (await bench.post()).status_code == 200
        request = bench.server.requests[0]
        assert request.path == "/v1/messages"
        assert (request.headers["x-api-key"], request.headers["authorization"]) == (KEY, f"Bearer {KEY}")


@looped
async def test_the_clients_own_login_goes_on_only_where_it_was_asked_for():
    script = [Turn.text("Hi.")]
    async with Bench(script, secret=None, pass_auth=True) as bench:
        await bench.post(authorization="Bearer own-login")
        sent = bench.server.requests[0].headers
        assert sent["authorization"] == "Bearer own-login"
        assert "x-api-key" not in sent
    async with Bench(script, secret=None, provider="custom") as bench:
        await bench.post(authorization="Bearer own-login")
        assert bench.server.requests[0].headers["authorization"] == "Bearer unset"


@looped
async def test_a_key_that_no_header_can_hold_is_said_without_being_told():
    async with Bench([Turn.text("Hi.")], secret=f"{KEY}\nx: y") as bench:
        answer = await bench.post()
        assert (kind_of(bench.run), bench.server.requests) == ("credential", [])
        assert KEY not in answer.text


# --- what may come in -----------------------------------------------------------------------------------


@looped
async def test_only_messages_and_probes_of_an_open_run_are_answered():
    async with Bench([Turn.text("Hi.")]) as bench:
        root, own = bench.run.base_url.rpartition("/")[0], bench.run.base_url
        answers = {
            ("GET", own): 200,
            ("HEAD", own + "/"): 200,
            ("HEAD", root + "/"): 200,
            ("GET", own + "/v1/messages"): 404,
            ("POST", own + "/v1/models"): 404,
            ("POST", own + "/v1/messages/batches"): 404,
            ("POST", own + "/v1//messages"): 404,
            ("PUT", own + "/v1/messages"): 404,
            ("POST", root + "/v1/messages"): 404,
            ("POST", own[:-1] + "/v1/messages"): 404,
            ("POST", root + "/" + "x" * 43 + "/v1/messages"): 404,
            ("POST", root + "/%C3%BC/v1/messages"): 404,
        }
        for (method, url), status in answers.items():
            answer = await bench.http.request(method, url, content=b"" if method != "POST" else b"{}")
            assert (method, url, answer.status_code) == (method, url, status)
        assert bench.server.requests == bench.server.others == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000])
@looped
async def test_a_body_that_is_no_object_is_refused_and_the_run_goes_on(body: bytes):
    async with Bench([Turn.text("Hi.")]) as bench:
        answer = await bench.http.post(f"{bench.run.base_url}/v1/messages", content=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert answer.headers["x-should-retry"] == "false"
        assert (kind_of(bench.run), bench.server.requests) == (None, [])


@pytest.mark.parametrize("is_chunked", [False, True])
@looped
async def test_a_body_over_the_limit_is_refused(is_chunked: bool):
    async def pieces() -> Any:
        for _ in range(65):
            yield b" " * 2**20

    async with Bench([Turn.text("Hi.")]) as bench:
        content = pieces() if is_chunked else b" " * (65 * 2**20)
        answer = await bench.http.post(f"{bench.run.base_url}/v1/messages", content=content)
        assert answer.status_code == 413
        assert "64 MiB" in answer.text
        assert bench.server.requests == []


@looped
async def test_every_request_goes_to_the_model_that_was_chosen():
    async with Bench([Turn.text("Hi.")]) as bench:
        await bench.post(asking(model="claude-opus-5-5"))
        await bench.post(asking(model="claude-haiku-4-5"), path="/v1/messages/count_tokens")
        assert bench.server.requests[0].model == bench.server.others[0].model == MODEL


@looped
async def test_the_key_is_taken_out_of_what_the_cli_sends():
    async with Bench([Turn.text("Hi.")]) as bench:
        printed = {"type": "tool_result", "tool_use_id": "t", "content": f"ANTHROPIC_API_KEY={KEY}"}
        document = asking(
            messages=[{"role": "user", "content": [printed]}], system=[{"type": "text", "text": KEY}]
        )
        await bench.post(document)
        await bench.post(document, path="/v1/messages/count_tokens")
        for request in (bench.server.requests[0], bench.server.others[0]):
            assert KEY not in json.dumps(request.body)
            assert "ANTHROPIC_API_KEY=[secret KEY]" in json.dumps(request.body)


@looped
async def test_text_arrives_as_it_was_sent_half_a_surrogate_pair_included():
    async with Bench([Turn.text("Hi.")]) as bench:
        words = "Grüße \ud83d 🧾 \u2028 \x00"
        await bench.post(asking(words))
        assert bench.server.requests[0].messages[0]["content"] == words


# --- limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({"max_budget_usd": 0.0}, "budget"),
        ({"max_budget_usd": 0.001}, "budget"),
        ({"max_turns": 0}, "turns"),
        ({"model": "our-own-model", "provider": "custom", "max_tokens": 300}, "tokens"),
    ],
)
@looped
async def test_a_request_over_a_limit_is_refused_before_it_is_sent(limits: dict[str, Any], kind: str):
    async with Bench([Turn.text("Hi.")], **limits) as bench:
        answer = await bench.post()
        assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
        assert answer.json()["error"]["message"] == str(bench.run.failure.result())
        assert (kind_of(bench.run), bench.server.requests) == (kind, [])
        assert bench.run.usage.num_turns == 0


@looped
async def test_after_the_failure_nothing_more_is_sent():
    async with Bench([Turn.error(401), Turn.text("Hi.")]) as bench:
        await bench.post()
        assert (await bench.post()).status_code == 400
        assert len(bench.server.requests) == 1


@looped
async def test_requests_at_the_same_time_do_not_overspend_together():
    def spending_all(request: Request, _n: int) -> Turn:
        return Turn.text("Hi.", usage=Usage(500, request.body["max_tokens"]), wait_seconds=0.1)

    async with Bench(spending_all, max_budget_usd=0.08) as bench:
        await asyncio.gather(*(bench.post(asking(max_tokens=5_000)) for _ in range(4)))
        asked = [request.body["max_tokens"] for request in bench.server.requests]
        assert asked[0] == 5_000 > asked[1]
        assert kind_of(bench.run) == "budget"
        cost = bench.run.usage.cost_usd
        assert cost is not None
        assert 0.05 < cost <= 0.08


@looped
async def test_a_request_waits_for_what_those_under_way_do_not_spend_after_all():
    answers = [Turn.text("Hi.", usage=Usage(500, 10), wait_seconds=0.1)]
    async with Bench(answers, max_budget_usd=0.06) as bench:
        statuses = await asyncio.gather(*(bench.post(asking(max_tokens=5_000)) for _ in range(5)))
        assert [answer.status_code for answer in statuses] == [200] * 5
        assert (bench.run.usage.num_turns, kind_of(bench.run)) == (5, None)


@looped
async def test_a_waiting_request_is_refused_when_the_run_fails_meanwhile():
    def script(_request: Request, _n: int) -> Turn:
        return replace(Turn.error(401), wait_seconds=0.2)

    async with Bench(script, max_budget_usd=0.05) as bench:
        await asyncio.gather(*(bench.post(asking(max_tokens=8_000)) for _ in range(3)))
        assert (len(bench.server.requests), kind_of(bench.run)) == (1, "credential")


@looped
async def test_the_answer_is_kept_as_short_as_the_budget_needs():
    async with Bench([Turn.text("Hi.")], max_budget_usd=0.02) as bench:
        await bench.post(asking(max_tokens=32_000))
        sent = bench.server.requests[0].body["max_tokens"]
        assert 256 <= sent < 2_000
        assert sent * 10e-6 < 0.02


@pytest.mark.parametrize(
    ("budget_usd", "given", "thinks"),
    [
        (1.0, 31_999, 31_999),
        (0.05, 31_999, "half"),
        (0.0145, 31_999, 1024),
        (0.01, 31_999, None),
        (0.05, 1_500, 1_500),
    ],
)
@looped
async def test_thinking_stays_below_the_shortened_answer(budget_usd: float, given: int, thinks: Any):
    thinking = {"type": "enabled", "budget_tokens": given}
    edits = {"edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]}
    async with Bench([Turn.text("Hi.")], max_budget_usd=budget_usd) as bench:
        await bench.post(asking(max_tokens=32_000, thinking=thinking, context_management=edits))
        sent = bench.server.requests[0].body
        assert len(sent["context_management"]["edits"]) == (1 if thinks is None else 2)
        if thinks is None:
            assert "thinking" not in sent
        else:
            expected = sent["max_tokens"] // 2 if thinks == "half" else thinks
            assert sent["thinking"] == {"type": "enabled", "budget_tokens": expected}
            assert expected < sent["max_tokens"]


@looped
async def test_a_picture_is_not_taken_for_text():
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 3_000_000},
    }
    result = {"type": "tool_result", "tool_use_id": "t", "content": [picture]}
    async with Bench([Turn.text("Hi.")]) as bench:
        for content in ([picture], [result]):
            await bench.post(asking(messages=[{"role": "user", "content": content}]))
        assert (len(bench.server.requests), kind_of(bench.run)) == (2, None)


@looped
async def test_counting_tokens_is_no_turn_and_its_failure_ends_nothing():
    async with Bench([Turn.text("Hi.")], max_turns=1) as bench:
        counted = await bench.post(path="/v1/messages/count_tokens?beta=true")
        assert counted.json()["input_tokens"] > 0
        gone = await bench.open("http://127.0.0.1:9")
        assert (await bench.post(path="/v1/messages/count_tokens", run=gone)).status_code == 502
        assert (bench.run.usage.num_turns, gone.failure.done()) == (0, False)
        assert (await bench.post()).status_code == 200


# --- what servers do ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "status", "kind", "wait_seconds"),
    [
        (Turn.error(401), 401, "credential", None),
        (Turn.error(403), 403, "credential", None),
        (Turn.error(404), 404, "not_found", None),
        (Turn.error(429), 429, "rate_limit", None),
        (Turn.error(429, retry_after=7), 429, "rate_limit", 7.0),
        (Turn.error(500), 500, "overloaded", None),
        (Turn.error(529), 529, "overloaded", None),
        (Turn.error(302), 502, "unknown", None),
    ],
)
@looped
async def test_the_first_refusal_ends_the_run_with_its_kind_and_costs_nothing(
    turn: Turn, status: int, kind: str, wait_seconds: float | None
):
    async with Bench([turn]) as bench:
        answer = await bench.post()
        assert (answer.status_code, answer.headers["x-should-retry"]) == (status, "false")
        assert answer.json()["type"] == "error"
        error = bench.run.failure.result()
        assert (error.kind, error.retry_after_seconds) == (kind, wait_seconds)
        usage = bench.run.usage
        assert (usage.num_turns, usage.cost_usd) == (0, 0.0)


@pytest.mark.parametrize("status", [400, 413])
@looped
async def test_a_rejected_request_is_for_the_cli_to_answer(status: int):
    async with Bench([Turn.error(status, f"prompt is too long {KEY}"), Turn.text("Hi.")]) as bench:
        answer = await bench.post()
        assert (answer.status_code, kind_of(bench.run)) == (status, None)
        assert "prompt is too long [secret KEY]" in answer.json()["error"]["message"]
        assert (await bench.post()).status_code == 200


@looped
async def test_a_refused_login_of_the_person_is_said_as_that():
    async with Bench([Turn.error(401)], secret=None, pass_auth=True) as bench:
        await bench.post(authorization="Bearer own-login")
        error = bench.run.failure.result()
        assert (error.kind, "claude /login" in error.hint) == ("credential", True)


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (Turn.cut(), "connection"),
        (Turn.text("one two", chunk=3).cut_after(0), "connection"),
        (Turn.text("one two", chunk=3).cut_after(1), "connection"),
    ],
)
@looped
async def test_a_connection_that_breaks_breaks_for_the_client_too(turn: Turn, kind: str):
    async with Bench([turn]) as bench:
        try:
            answer = await bench.post()
        except httpx2.RemoteProtocolError:
            assert turn.after is not None
        else:
            assert (answer.status_code, turn.after) == (502, None)
        assert kind_of(bench.run) == kind


@looped
async def test_what_came_before_the_break_arrives_and_is_counted_at_once():
    async with Bench([Turn.text("one two", chunk=3).cut_after(1)]) as bench, bench.stream() as answer:
        seen = b""
        with pytest.raises(httpx2.TransportError):  # noqa: PT012 - it is raised somewhere in the loop
            async for data in answer.aiter_bytes():
                seen += data
        assert b'"one"' in seen
        assert (bench.run.usage.input_tokens, bench.run.usage.output_tokens) == (12, 6)


@looped
async def test_a_server_that_is_not_there_is_said():
    async with Bench() as bench:
        run = await bench.open("http://127.0.0.1:9")
        answer = await bench.post(run=run)
        assert (answer.status_code, kind_of(run)) == (502, "connection")
        assert "could not be reached" in run.failure.result().message


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (Turn.text("one two", chunk=3).end_after(1), "connection"),
        (Turn.text("one two", chunk=3).garble_after(1), "bad_answer"),
        (Turn.text("one two", chunk=3).fail_after(1, 529), "overloaded"),
        (Turn.text("one two", chunk=3).fail_after(1, 429), "rate_limit"),
        (Turn.raw("{not json"), "bad_answer"),
        (Turn.raw("<html>Sign in</html>", content_type="text/html"), "bad_answer"),
        (Turn.raw("[]", content_type="application/json"), "bad_answer"),
        (Turn.raw("{}", content_type="application/json"), "bad_answer"),
        (Turn.raw(""), None),
        (Turn.raw(b'data: {"type": "message_sta', content_type=SSE), "bad_answer"),
    ],
)
@looped
async def test_an_answer_that_is_wrong_passes_and_ends_the_run(turn: Turn, kind: str | None):
    async with Bench([turn]) as bench:
        answer = await bench.post()
        assert answer.status_code == 200
        assert kind_of(bench.run) == kind


@looped
async def test_a_garbled_event_ends_the_run_while_the_server_goes_on():
    async with Bench([Turn(body=OPEN + b"data: {oh\n\n", breaks="hang", after=0)]) as bench, bench.stream():
        error = await bench.run.failure
        assert error.kind == "bad_answer"


# --- who leaves -----------------------------------------------------------------------------------------


@looped
async def test_a_client_that_leaves_cancels_the_request_and_what_came_is_counted():
    said = "three words here, " * 20
    async with Bench([Turn.text(said + "more", chunk=len(said)).hang_after(1)]) as bench:
        async with bench.stream() as answer:
            async for data in answer.aiter_bytes():
                if b"three words" in data:
                    break
        await until(bench.server.requests[0].left.is_set)
        await until(lambda: bench.run.usage.num_turns)
        usage = bench.run.usage
        assert (usage.input_tokens, usage.output_tokens) == (12, len(said) // 3)
        assert usage.cost_usd == pytest.approx(12 * 2e-6 + len(said) // 3 * 10e-6)
        assert (kind_of(bench.run), bench.run._exchanges) == (None, {})


@looped
async def test_a_client_that_leaves_before_the_answer_keeps_its_admission():
    async with Bench([Turn.hang()], max_turns=1) as bench:
        task = asyncio.create_task(bench.post())
        await until(lambda: bench.server.requests)
        task.cancel()
        await until(bench.server.requests[0].left.is_set)
        await bench.post()
        assert kind_of(bench.run) == "turns"


@looped
async def test_closing_a_run_cancels_its_requests_and_knows_its_usage_at_once():
    async with Bench([Turn.text("one two", chunk=3).hang_after(1)]) as bench:
        other = await bench.open()
        async with bench.stream() as answer:
            pieces = answer.aiter_bytes()
            await anext(piece async for piece in pieces if b'"one"' in piece)
            bench.run.close()
            assert bench.run.usage.num_turns == 1
            await until(bench.server.requests[0].left.is_set)
            with pytest.raises(httpx2.TransportError):
                await anext(pieces)
        assert (await bench.post()).status_code == 404
        assert not bench.run.failure.done()
        assert (await bench.http.get(other.base_url)).status_code == 200


@looped
async def test_closing_the_gateway_ends_every_run_and_frees_the_port():
    async with Bench([Turn.hang()]) as bench:
        runs = [bench.run, await bench.open()]
        tasks = [asyncio.create_task(bench.post(run=run)) for run in runs]
        await until(lambda: len(bench.server.requests) == 2)
        await bench.gateway.close()
        for request in bench.server.requests:
            await until(request.left.is_set)
        for task in tasks:
            with pytest.raises(httpx2.TransportError):
                await task
        with pytest.raises(httpx2.ConnectError):
            await bench.post()
        assert [run._exchanges for run in runs] == [{}, {}]


@looped
async def test_runs_at_the_same_time_keep_apart():
    def script(request: Request, _n: int) -> Turn:
        return Turn.text(request.messages[0]["content"] * 20, chunk=5, usage=Usage(10, 10))

    async with Bench(script) as bench:
        runs = [await bench.open() for _ in range(20)]
        assert len({run.base_url for run in runs}) == 20
        answers = await asyncio.gather(
            *(bench.post(asking(f"number-{n}.", stream=False), run=run) for n, run in enumerate(runs))
        )
        for n, answer in enumerate(answers):
            assert answer.json()["content"][0]["text"] == f"number-{n}." * 20
        assert [run.usage.num_turns for run in runs] == [1] * 20


# --- secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turn",
    [
        Turn.error(401, f"invalid key {KEY}"),
        Turn.error(500, KEY),
        Turn.text("a", chunk=1).fail_after(0, 400, f"no {KEY}"),
        Turn.cut(),
        Turn.raw(KEY),
    ],
)
@looped
async def test_the_key_is_in_no_error_no_log_and_no_repr(turn: Turn):
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = records.append  # type: ignore[method-assign]
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        async with Bench([turn]) as bench:
            answer = await bench.post(path="/v1/messages?beta=true", user_agent="cli")
            await bench.http.post(f"{bench.run.base_url}x/v1/messages", content=b"{}")
            error = bench.run.failure.result()
            token = bench.run.base_url.rpartition("/")[2]
            shown = [repr(bench.run), repr(bench.gateway), repr(error), str(error), error.hint]
            assert isinstance(error, ModelError)
            assert error.__cause__ is None
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    said = [record.getMessage() for record in records if not record.name.startswith("httpx2")]
    assert not [text for text in (*shown, *said) if KEY in text]
    assert not [text for text in (*shown, *said) if token in text]
    if turn.failure is not None and not turn.breaks:
        assert KEY not in answer.text
