"""The loopback model gateway: what the Claude CLI takes for its provider.

- The CLI is given the address of the gateway with a token of its run in the path. The provider's key is added here,
  so that nothing that the CLI runs can read it.
- Each request asks the run's allowance before it is sent, and what it used is settled once, however it ends.
- Answers pass through byte for byte as they arrive, and no faster than the CLI reads them.
- The first thing that ends a run is its ``failure``: the CLI would retry it, or say less. After it, and after
  ``close``, nothing more is sent to the provider.
- Everything happens on the loop on which the first run was opened.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from personas_nb.engine.answer_reader import STATUSES, AnswerReader
from personas_nb.engine.gateway_request import MessageRequest, Unusable
from personas_nb.engine.model_clients import ModelClients, key_headers
from personas_nb.engine.model_errors import retry_after_seconds, status_to_model_error, to_model_error
from personas_nb.engine.models import ResolvedModel
from personas_nb.engine.spending import Admission, Allowance
from personas_nb.entities.run_event import UsageReported
from personas_nb.errors import ModelError
from personas_nb.vault.redaction import Redactor

if TYPE_CHECKING:
    from personas_nb.engine.gateway_server import GatewayServer

BODY_LIMIT_BYTES = 64 * 1024 * 1024
ERROR_LIMIT_BYTES = 1024 * 1024  # of what a server says about an error
CONNECT_SECONDS = 10.0
# A client that sees the end of a connection together with the last bytes drops these bytes.
LINGER_SECONDS = 1.0
MESSAGES, COUNT_TOKENS = "/v1/messages", "/v1/messages/count_tokens"
# The CLI can answer these itself, with a shorter or another request.
_FOR_THE_CLI = frozenset({400, 413, 422})
_PASSED_ON = ("anthropic-version", "anthropic-beta", "accept", "user-agent")
_PASSED_BACK = ("content-type", "request-id", "retry-after")
_ERROR_TYPES = {status: kind for kind, status in STATUSES.items()}

log = logging.getLogger("personas_nb.engine")


class Reply(Protocol):
    """The way back to a client."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """The head; it is sent with the first bytes of the body."""

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until they are gone. Raises ``ConnectionError`` when the client has left."""

    def finish(self) -> Any:
        """The answer is whole."""

    def abort(self) -> None:
        """Close the connection, so that the client sees that its answer is not whole."""


class ModelGateway:
    """The gateway of one process; ``clients`` lends it the connections to providers."""

    def __init__(self, clients: ModelClients) -> None:
        self.clients = clients
        self._runs: dict[str, GatewayRun] = {}
        self._server: GatewayServer | None = None

    async def open(
        self,
        model: ResolvedModel,
        allowance: Allowance,
        redactor: Redactor,
        *,
        pass_auth: bool = False,
        is_one_talk: bool = False,
    ) -> GatewayRun:
        """Let one run in; ``GatewayRun.close`` ends that.

        ``redactor`` knows the model's key. ``pass_auth`` sends the client's own login on where the model has no key.
        ``is_one_talk``: the client has no agents beside it, so that an answer which ends the run is the last one;
        the client would ask again after it, and the person would pay again.
        """
        if self._server is None:
            from personas_nb.engine.gateway_server import GatewayServer

            self._server = GatewayServer(self.run_of, BODY_LIMIT_BYTES)
        token = secrets.token_urlsafe(32)
        base_url = f"http://127.0.0.1:{self._server.port}/{token}"
        run = GatewayRun(self, model, allowance, redactor, base_url=base_url, pass_auth=pass_auth)
        run.is_one_talk = is_one_talk
        self._runs[token] = run
        return run

    def run_of(self, token: str) -> GatewayRun | None:
        """The open run of a token; finding out takes the same time for every wrong one."""
        given, found = token.encode(), None
        for known, run in self._runs.items():
            if hmac.compare_digest(known.encode(), given):
                found = run
        return found

    def forget(self, run: GatewayRun) -> None:
        """The run's token is worth nothing from now on."""
        self._runs = {token: other for token, other in self._runs.items() if other is not run}

    async def close(self) -> None:
        """End all runs, and stop the server."""
        runs = list(self._runs.values())
        for run in runs:
            run.close()
        for run in runs:
            await run.wait_closed()
        server, self._server = self._server, None
        if server is not None:
            await server.close()


class GatewayRun:
    """One run's way to its model. ``failure`` is set with the first ``ModelError`` that ends it."""

    def __init__(
        self,
        gateway: ModelGateway,
        model: ResolvedModel,
        allowance: Allowance,
        redactor: Redactor,
        *,
        base_url: str,
        pass_auth: bool,
    ) -> None:
        self.model, self.allowance, self.base_url = model, allowance, base_url
        self.failure: asyncio.Future[ModelError] = asyncio.get_running_loop().create_future()
        self.finish_reason: str | None = None
        """Why the last answer ended, in the words of the API: ``end_turn``, ``tool_use``, ``max_tokens`` …"""
        self._gateway, self._redactor, self._pass_auth = gateway, redactor, pass_auth
        self._exchanges: dict[asyncio.Task[None], _Exchange] = {}
        self._is_closed = False
        self.is_one_talk = self.is_over = False

    def __repr__(self) -> str:
        return f"<GatewayRun {self.model.provider} {self.model.model}>"  # the address holds the token

    @property
    def usage(self) -> UsageReported:
        """What all answers used so far."""
        return self.allowance.usage

    def close(self) -> None:
        """Answer nothing more, and cancel what is under way; ``usage`` then has all that is known."""
        self._is_closed = True
        self._gateway.forget(self)
        for task, exchange in self._exchanges.items():
            exchange.settle()
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until what ``close`` cancelled is gone."""
        if self._exchanges:
            await asyncio.wait(list(self._exchanges))

    def fail(self, error: ModelError) -> ModelError:
        """The run cannot go on; the first reason stays."""
        self._redactor.clean(error)
        if not self.failure.done() and not self._is_closed:
            self.failure.set_result(error)
        return error

    def answer(
        self, reply: Reply, path: str, query: str, headers: Mapping[str, str], body: bytes | None
    ) -> asyncio.Task[None]:
        """Answer a request of the client, in a task that may be cancelled. A ``body`` of None was too long."""
        exchange = _Exchange(self, reply, is_count=path == COUNT_TOKENS)
        target = f"{path}?{query}" if query else path
        task = asyncio.get_running_loop().create_task(exchange.run(target, headers, body))
        self._exchanges[task] = exchange
        task.add_done_callback(lambda task: self._exchanges.pop(task, None))
        return task

    def headers_for(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers that a request goes on with: what it needs, and the real key."""
        sent = {name: headers[name] for name in _PASSED_ON if name in headers}
        sent |= {"content-type": "application/json", "accept-encoding": "identity"}
        if self._pass_auth and not self.model.secret:
            given = headers.get("authorization")
            return sent | key_headers({"authorization": given} if given else {})
        key = self.model.secret or "unset"
        if not (key.isascii() and key.isprintable()):
            raise ModelError(
                "The key holds characters that cannot be sent.",
                kind="credential",
                hint="Copy it again, without line breaks, then run again.",
            )
        keys = {"x-api-key": key}
        if self.model.provider != "anthropic":
            keys["authorization"] = f"Bearer {key}"
        return sent | key_headers(keys)

    def redact(self, text: str, cut_off: bool = False) -> str:
        """The text without the run's secrets."""
        return self._redactor.redact(text, cut_off=cut_off)

    def read(self, body: bytes) -> MessageRequest:
        """A request's body as it may go on. Raises ``Unusable``."""
        if self._is_closed or self.is_over:
            raise Unusable("The run is over.", status=404)
        return MessageRequest(body, model=self.model.model, redactor=self._redactor)

    def stream(self, target: str, headers: Mapping[str, str], body: bytes) -> Any:
        """The server's answer to a request, as httpx's context manager."""
        import httpx2

        base_url = self.model.base_url.rstrip("/").removesuffix("/v1")
        return self._gateway.clients.http.stream(
            "POST",
            f"{base_url}{target}",
            content=body,
            headers=self.headers_for(headers),
            # no limit while it answers: the run has its own
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        )

    def login_error(self, error: ModelError) -> ModelError:
        """A refused login is not the key's fault when the person's own login was used."""
        if error.kind != "credential" or not self._pass_auth or self.model.secret:
            return error
        return ModelError(
            "The login of the Claude CLI was not accepted.",
            kind="credential",
            hint="Log in again with `claude /login`, or set ANTHROPIC_API_KEY; then run again.",
        )


class _Exchange:
    """One request of the client and its answer."""

    def __init__(self, run: GatewayRun, reply: Reply, *, is_count: bool) -> None:
        self._run, self._reply, self._is_count = run, reply, is_count
        self._admission: Admission | None = None
        self._reader: AnswerReader | None = None
        self._is_started = False

    async def run(self, target: str, headers: Mapping[str, str], body: bytes | None) -> None:
        """Answer it; what goes wrong is told to the client and to the run."""
        try:
            await self._forward(target, headers, body)
        except ModelError as error:
            await self._refuse(error)
        except Unusable as problem:
            await self._say(problem.status, str(problem))
        except asyncio.CancelledError:  # the client has left, or the run is over
            self._reply.abort()
        except ConnectionError:  # writing: the client has left
            self._reply.abort()
        except Exception as error:  # httpx and what it stands on raise many kinds
            await self._broken(error)
        finally:
            self.settle()

    def settle(self) -> None:
        """Count what is known to be used."""
        reader = self._reader
        if self._admission is None:
            return
        if reader is not None and reader.is_begun:
            self._admission.settle(reader.usage, cache_write_1h_tokens=reader.cache_write_1h_tokens)
        else:
            self._admission.abandon()

    async def _forward(self, target: str, headers: Mapping[str, str], body: bytes | None) -> None:
        run = self._run
        if run.failure.done():
            await self._refuse(run.failure.result())
            return
        if body is None:
            raise Unusable(f"A request may have {BODY_LIMIT_BYTES // 2**20} MiB at most.", status=413)
        request = run.read(body)
        limit = None
        if not self._is_count:
            self._admission = await run.allowance.admit_in_turn(request.size_bytes, request.max_output_tokens)
            limit = self._admission.max_output_tokens
            if run.failure.done():  # while it waited
                await self._refuse(run.failure.result())
                return
        async with run.stream(target, headers, request.encoded(limit)) as response:
            if response.status_code != 200:
                await self._pass_error(response)
            elif self._is_count or "event-stream" in response.headers.get("content-type", ""):
                await self._pass_stream(response)
            else:
                await self._pass_whole(response)
        self._reply.finish()

    async def _pass_stream(self, response: Any) -> None:
        """Pass the answer through; what it says is known here before the client knows it."""
        reader = None if self._is_count else AnswerReader(is_stream=True)
        self._reader = reader
        self._start(200, response.headers)
        async for data in response.aiter_bytes():
            if reader is not None:
                reader.feed(data)
                self._look(reader)
            await self._reply.send(data)
        if reader is not None:
            reader.finish()
            self._look(reader, is_over=True)

    async def _pass_whole(self, response: Any) -> None:
        body = b"".join([data async for data in response.aiter_bytes()])
        self._reader = AnswerReader(is_stream=False)
        self._reader.feed(body)
        self._reader.finish()
        self._look(self._reader, is_over=True)
        self._start(200, response.headers)
        await self._reply.send(body)

    def _look(self, reader: AnswerReader, *, is_over: bool = False) -> None:
        if reader.is_complete:
            self._run.finish_reason = reader.stop_reason
            self._run.is_over = self._run.is_one_talk and _is_last(reader)
            self.settle()
        if is_over or reader.has_failed:
            problem = reader.problem(self._run.model.provider, self._run.redact)
            if problem is not None:
                self._run.fail(problem)

    async def _pass_error(self, response: Any) -> None:
        """The provider refused: the client is told so in its words, and not to try again."""
        text = self._run.redact(*await _text_of(response))
        if self._admission is not None:
            self._admission.release()  # whoever waits for it looks at the failure first, which is set below
        status = response.status_code
        error = status_to_model_error(
            status,
            provider=self._run.model.provider,
            message=_message_in(text),
            retry_after_seconds=retry_after_seconds(response.headers),
        )
        if not self._is_count and status not in _FOR_THE_CLI:
            self._run.fail(self._run.login_error(error))
        self._start(status if status >= 400 else 502, response.headers, is_error=True)
        await self._reply.send(text.encode())

    async def _refuse(self, error: ModelError) -> None:
        """We do not send it."""
        if self._admission is not None:
            self._admission.release()
        self._run.fail(error)
        await self._say(400, str(error))

    async def _broken(self, error: Exception) -> None:
        """The way to the provider broke, before its answer or in the middle of it."""
        # Without its cause: an error about a header or a request holds the key.
        made = to_model_error(error, provider=self._run.model.provider)
        made.__cause__ = made.__context__ = None
        if made.kind == "unknown":
            log.error("the model gateway failed with %s", type(error).__name__)
        self.settle()
        if not self._is_count:
            self._run.fail(made)
        await self._say(502, made.message)

    async def _say(self, status: int, message: str) -> None:
        """Answer with an error of our own, in the shape of the API."""
        if self._is_started:
            await asyncio.sleep(LINGER_SECONDS)
            self._reply.abort()
            return
        kind = _ERROR_TYPES.get(status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": self._run.redact(message)}}
        self._start(status, {"content-type": "application/json"}, is_error=True)
        with suppress(ConnectionError):
            await self._reply.send(json.dumps(body).encode())
            self._reply.finish()

    def _start(self, status: int, headers: Mapping[str, str], *, is_error: bool = False) -> None:
        self._is_started = True
        passed = {name: headers[name] for name in _PASSED_BACK if name in headers}
        self._reply.start(status, passed | ({"x-should-retry": "false"} if is_error else {}))


def _is_last(reader: AnswerReader) -> bool:
    """Whether no answer can follow: it was withheld or cut, or has nothing to add."""
    return reader.stop_reason in ("refusal", "max_tokens") or (
        reader.stop_reason == "end_turn" and not reader.has_content
    )


async def _text_of(response: Any) -> tuple[str, bool]:
    """What a server says about an error, and whether that was cut."""
    body = bytearray()
    async for data in response.aiter_bytes():
        body += data
        if len(body) > ERROR_LIMIT_BYTES:
            return bytes(body[:ERROR_LIMIT_BYTES]).decode("utf-8", "replace"), True
    return body.decode("utf-8", "replace"), False


def _message_in(text: str) -> str:
    """The sentence in an error's body; nothing when it is not of a known shape."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""
