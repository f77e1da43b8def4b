"""A loopback model server that says what a script tells it to.

It speaks the Anthropic Messages API and the OpenAI chat completions API, streaming or not:

    with ModelServer([Turn.tools(("file_read", {"path": "a.txt"})), Turn.text("It is empty.")]) as server:
        ...  # point a client at server.url (OpenAI clients: server.url + "/v1")
        assert server.requests[0].tool_names == ["file_read"]

- A **script** is a list of turns, one per model request, or a function ``(request, n) -> Turn``.
- Concurrent runs get scripts of their own: ``scripts={"haiku": […], "key-b": […], "MARKER-7": […]}`` is asked
  first, by the request's model, then by its key, then by a word found in what was sent.
- Both APIs are rendered from the same turn, so one script tests both.
- A request that no script covers gets a 400, and leaving the ``with`` block raises ``UnscriptedRequest``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

Json: TypeAlias = Any
Api: TypeAlias = Literal["anthropic", "openai"]
Where: TypeAlias = str | Callable[[str], bool]


# --- what a script says ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; ``input_tokens`` are those that no cache held (OpenAI's prompt_tokens adds all)."""

    input_tokens: int = 12
    output_tokens: int = 6
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True)
class ToolCall:
    """A call of the tool with that name, or of the first offered tool whose name ``tool`` accepts.

    Where only ``mcp__<server>__<name>`` is offered, as by the Claude CLI, that is the tool with that name.
    ``arguments`` as a string is sent as it is, so it may be broken JSON.
    """

    tool: Where
    arguments: Mapping[str, Json] | str

    @property
    def json(self) -> str:
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, ensure_ascii=False)

    def resolved(self, request: Request) -> ToolCall:
        if isinstance(self.tool, str):
            served = (name for name in request.tool_names if name.endswith(f"__{self.tool}"))
            return self if self.tool in request.tool_names else replace(self, tool=next(served, self.tool))
        return replace(
            self, tool=_only_offered([name for name in request.tool_names if self.tool(name)], request)
        )


@dataclass(frozen=True)
class Output:
    """Structured output in the way the request asks for it: as a tool call, or as text that is JSON.

    Of several types the last is taken that ``where`` accepts and that has all the properties of ``value``.
    """

    value: Mapping[str, Json]
    where: Where | None = None

    def resolved(self, request: Request) -> ToolCall | str:
        schema = request.output_schema
        if schema is None:
            tools = [
                (tool["name"], tool.get("input_schema") or tool.get("parameters", {}))
                for tool in request.tools
            ]
            fitting = [name for name, offered in tools if self._fits(name, offered)]
            return ToolCall(_only_offered(fitting[-1:], request), self.value)
        types = schema.get("properties", {}).get("result", {}).get("anyOf")
        if types is None:
            return json.dumps(self.value, ensure_ascii=False)
        # pydantic-ai's form of a choice between several types
        named = [(_only_value(each["properties"]["kind"]), each["properties"]["data"]) for each in types]
        kind = _only_offered([name for name, offered in named if self._fits(name, offered)][-1:], request)
        return json.dumps({"result": {"kind": kind, "data": self.value}}, ensure_ascii=False)

    def _fits(self, name: str, schema: Json) -> bool:
        wanted = self.where is None or (
            name == self.where if isinstance(self.where, str) else self.where(name)
        )
        return wanted and set(self.value) <= set(schema.get("properties", self.value))


def _only_offered(names: Sequence[str], request: Request) -> str:
    if not names:
        raise LookupError(f"The script wants a tool that is not offered; offered are {request.tool_names}.")
    return names[0]


def _only_value(schema: Json) -> str:
    return str(schema["const"] if "const" in schema else schema["enum"][0])


@dataclass(frozen=True)
class Failure:
    """An error answer; what is not given is what the provider itself sends with that status."""

    status: int
    message: str = ""
    error_type: str = ""
    code: str = ""


@dataclass(frozen=True)
class Turn:
    """One scripted answer. Make it with ``text``, ``tools``, ``output``, ``error``, ``hang``, ``cut`` or ``raw``.

    A *piece* is one streamed bit of text or of tool arguments; ``after`` counts pieces. ``after=0`` breaks
    behind the response's head, ``after=None`` sends nothing at all. An answer that is not streamed breaks in
    the middle of its body instead.
    """

    content: tuple[str | ToolCall | Output, ...] = ()
    chunk: int | None = None
    argument_chunk: int | None = None
    delay_seconds: float = 0.0
    wait_seconds: float = 0.0
    write_bytes: int | None = None
    usage: Usage | None = field(default_factory=Usage)
    stop: str | None = None
    failure: Failure | None = None
    headers: tuple[tuple[str, str], ...] = ()
    breaks: Literal["hang", "cut", "error", "garble", "end"] | None = None
    after: int | None = None
    body: bytes | None = None
    content_type: str = ""

    @classmethod
    def text(cls, text: str, *, chunk: int | None = None, delay_seconds: float = 0.0, **options: Any) -> Turn:
        """An answer in words: ``chunk`` characters a piece (default: one piece), ``delay_seconds`` between."""
        return cls((text,), chunk=chunk, delay_seconds=delay_seconds, **options)

    @classmethod
    def tools(cls, *calls: tuple[Where, Mapping[str, Json] | str], text: str = "", **options: Any) -> Turn:
        """Parallel tool calls, after ``text`` if there is some."""
        made = tuple(ToolCall(tool, arguments) for tool, arguments in calls)
        return cls((text, *made) if text else made, **options)

    @classmethod
    def output(cls, value: Mapping[str, Json], *, where: Where | None = None, **options: Any) -> Turn:
        """Structured output: see ``Output``."""
        return cls((Output(value, where),), **options)

    @classmethod
    def error(
        cls,
        status: int,
        message: str = "",
        *,
        retry_after: float | str | None = None,
        error_type: str = "",
        code: str = "",
        **options: Any,
    ) -> Turn:
        """An HTTP error with the provider's body; ``retry_after`` in seconds or as an HTTP date."""
        headers = () if retry_after is None else (("Retry-After", str(retry_after)),)
        return cls(failure=Failure(status, message, error_type, code), headers=headers, **options)

    @classmethod
    def hang(cls) -> Turn:
        """No answer at all, until the client leaves or the server closes."""
        return cls(breaks="hang")

    @classmethod
    def cut(cls) -> Turn:
        """The connection is closed instead of an answer."""
        return cls(breaks="cut")

    @classmethod
    def raw(cls, body: bytes | str, *, content_type: str = "") -> Turn:
        """A 200 with exactly this body: broken JSON, or broken server-sent events for a streaming request."""
        return cls(body=body.encode() if isinstance(body, str) else body, content_type=content_type)

    def hang_after(self, pieces: int) -> Turn:
        """This answer, which stops after ``pieces`` and keeps the connection open."""
        return replace(self, breaks="hang", after=pieces)

    def cut_after(self, pieces: int) -> Turn:
        """This answer, whose connection is closed after ``pieces``."""
        return replace(self, breaks="cut", after=pieces)

    def fail_after(self, pieces: int, status: int, message: str = "") -> Turn:
        """This answer, ended after ``pieces`` by an error inside the open stream."""
        return replace(self, breaks="error", after=pieces, failure=Failure(status, message))

    def garble_after(self, pieces: int) -> Turn:
        """This answer, with an event that is no JSON after ``pieces``."""
        return replace(self, breaks="garble", after=pieces)

    def end_after(self, pieces: int) -> Turn:
        """This answer, whose stream ends politely after ``pieces``, without a stop reason or usage."""
        return replace(self, breaks="end", after=pieces)

    @property
    def parts(self) -> tuple[str | ToolCall, ...]:
        """The content, once ``Output`` has become what the request asks for."""
        return tuple(part for part in self.content if not isinstance(part, Output))

    @property
    def stop_reason(self) -> str:
        """The stop reason, in Anthropic's words; derived from the content unless the script gives one."""
        calls = any(isinstance(part, ToolCall) for part in self.parts)
        return self.stop or ("tool_use" if calls else "end_turn")


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Json
    received_at: float
    """Seconds on the monotonic clock."""
    left: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)
    """Set once the client has closed the connection in the middle of the answer."""

    @property
    def api(self) -> Api:
        return "anthropic" if "/messages" in self.path else "openai"

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def key(self) -> str:
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def streaming(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def messages(self) -> list[Json]:
        return list(self.body.get("messages", ()))

    @property
    def tools(self) -> list[Json]:
        """The offered tools, in the order of the request; those of the chat API without their wrapper."""
        return [tool.get("function") or tool for tool in self.body.get("tools") or ()]

    @property
    def tool_names(self) -> list[str]:
        return [tool["name"] for tool in self.tools]

    @property
    def output_schema(self) -> Json | None:
        """The JSON schema that the text of the answer must have; None when any text will do."""
        anthropic = (self.body.get("output_config") or {}).get("format") or {}
        openai = (self.body.get("response_format") or {}).get("json_schema") or {}
        return anthropic.get("schema") or openai.get("schema")

    def mentions(self, words: str) -> bool:
        """Whether the words are anywhere in the system prompt or the messages."""
        return any(words in text for text in _strings((self.body.get("system"), self.body.get("messages"))))


Script: TypeAlias = Sequence[Turn] | Callable[[Request, int], Turn]


class UnscriptedRequest(AssertionError):
    """A request came that no script had an answer for, or a script could not make one."""


# --- the server -----------------------------------------------------------------------------------------


class ModelServer:
    """The server; a context manager. ``repeat_last`` answers with a script's last turn for ever."""

    def __init__(
        self, script: Script = (), *, scripts: Mapping[str, Script] | None = None, repeat_last: bool = False
    ) -> None:
        self._scripts: dict[str, Script] = {**(scripts or {}), "": script}
        self._taken = dict.fromkeys(self._scripts, 0)
        self._repeat_last = repeat_last
        self._arrived = threading.Condition()
        self._ids = itertools.count(1)
        self._open: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)
        self.requests: list[Request] = []
        """Model requests, in the order of their arrival."""
        self.others: list[Request] = []
        """Everything else: token counts, model lists, probes."""
        self.problems: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self.problems and kind is None:
            raise UnscriptedRequest("\n".join(self.problems))

    def wait_for_requests(self, count: int, timeout_seconds: float = 30.0) -> list[Request]:
        """Block until that many model requests have arrived; TimeoutError if they do not."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self.requests)} of {count} requests arrived.")
            return list(self.requests)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listener = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        listener.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while (request := await _read_request(reader)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        except (asyncio.CancelledError, ConnectionError):
            pass  # the server closes, or the client has left between two requests
        finally:
            self._open.discard(task)
            # abort rather than close: a cut must reach the client at once, even with data in flight
            writer.transport.abort()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False when the connection cannot be used any more."""
        if not _is_model_request(request):
            self.others.append(request)
            answer = _response(200, _small_talk(request))
            writer.write(
                answer.partition(b"\r\n\r\n{")[0] + b"\r\n\r\n" if request.method == "HEAD" else answer
            )
            return True
        turn = self._next_turn(request)
        try:
            await asyncio.sleep(turn.wait_seconds)
            async for data in _answer_bytes(turn, request, self._ids):
                writer.write(data)
                await writer.drain()
            if turn.breaks == "hang":
                await reader.read()  # returns when the client closes its side
                raise ConnectionResetError
        except ConnectionError:
            request.left.set()
            return False
        if turn.breaks == "cut":
            await _flushed(writer)
            return False
        return True

    def _next_turn(self, request: Request) -> Turn:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        name = self._script_name(request)
        script, n = self._scripts[name], self._taken[name]
        self._taken[name] += 1
        try:
            if callable(script):
                turn = script(request, n)
            else:
                turn = script[min(n, len(script) - 1) if self._repeat_last else n]
            return _resolved(turn, request)
        except Exception as error:  # the script is a test's code: whatever it raises is shown to the test
            problem = f"Request {n + 1} of script {name!r} has no answer: {type(error).__name__}: {error}"
            self.problems.append(problem)
            return Turn.error(400, problem)

    def _script_name(self, request: Request) -> str:
        names = [name for name in self._scripts if name]
        exact = (name for name in names if name in (request.model, request.key))
        found = (name for name in names if request.mentions(name))
        return next(itertools.chain(exact, found), "")


def _is_model_request(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith(("/messages", "/chat/completions"))


def _small_talk(request: Request) -> Json:
    """Answers that need no script: a token count, a list of models, a probe."""
    if request.path.endswith("/count_tokens"):
        return {"input_tokens": max(1, sum(map(len, _strings(request.body))) // 4)}
    if request.path.endswith("/models"):
        model = {"type": "model", "object": "model", "id": "scripted", "display_name": "Scripted"}
        return {"object": "list", "data": [model], "has_more": False}
    return {}


def _resolved(turn: Turn, request: Request) -> Turn:
    """The turn with the names of tools and the form of output that this request offers."""
    content = (part if isinstance(part, str) else part.resolved(request) for part in turn.content)
    return replace(turn, content=tuple(content))


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


# --- HTTP/1.1 -------------------------------------------------------------------------------------------


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request on the connection; None when the client has closed it."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        body = await _read_body(reader, headers)
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = line.split(" ", 2)
    parsed: Json = {}
    with contextlib.suppress(ValueError):
        parsed = json.loads(body) if body else {}
    return Request(method, target.partition("?")[0], headers, parsed, time.monotonic())


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(pieces)


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has every byte, so that aborting loses none of them."""
    writer.transport.set_write_buffer_limits(high=0)
    with contextlib.suppress(ConnectionError):
        await writer.drain()


def _head(status: int, content_type: str, headers: Sequence[tuple[str, str]], length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {content_type}", framing]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _response(
    status: int, body: Json, headers: Sequence[tuple[str, str]] = (), content_type: str = "application/json"
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return _head(status, content_type, headers, len(data)) + data


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


# --- from a turn to bytes -------------------------------------------------------------------------------


async def _answer_bytes(turn: Turn, request: Request, ids: Iterator[int]) -> AsyncIterator[bytes]:
    if turn.breaks is not None and turn.after is None:
        return
    if turn.failure is not None and not (turn.breaks and request.streaming):
        yield _response(turn.failure.status, _error_body(turn.failure, request.api), turn.headers)
    elif request.streaming:
        async for data in _streamed(turn, request, next(ids)):
            yield data
    else:
        whole = _anthropic_whole if request.api == "anthropic" else _openai_whole
        body = turn.body or json.dumps(whole(turn, request, next(ids)), ensure_ascii=False).encode()
        broken = body[: len(body) // 2]
        if turn.breaks in ("hang", "cut"):
            yield _response(200, body, turn.headers)[: -len(broken)]
        else:
            kind = turn.content_type or "application/json"
            yield _response(200, broken if turn.breaks else body, turn.headers, kind)


async def _streamed(turn: Turn, request: Request, number: int) -> AsyncIterator[bytes]:
    """The head, then the events; those that belong together in one write unless there is a delay."""
    yield _head(200, turn.content_type or "text/event-stream; charset=utf-8", turn.headers, None)
    events = _anthropic_events if request.api == "anthropic" else _openai_events
    waiting = turn.body or b""
    pieces = 0
    for is_piece, data in () if turn.body else events(turn, request, number):
        if is_piece and turn.after is not None and pieces >= turn.after:
            break
        pieces += is_piece
        waiting += data
        if is_piece and turn.delay_seconds:
            yield _chunked(waiting)
            waiting = b""
            await asyncio.sleep(turn.delay_seconds)
    if turn.breaks == "error" and turn.failure is not None:
        waiting += _error_event(turn.failure, request.api)
    if turn.breaks == "garble":
        waiting += b'event: content_block_delta\ndata: {"type": "content_bl\n\n'
    size = turn.write_bytes or len(waiting) or 1
    for start in range(0, len(waiting), size):
        yield _chunked(waiting[start : start + size])
    if turn.breaks not in ("hang", "cut"):
        yield b"0\r\n\r\n"


def _pieces(text: str, size: int | None) -> list[str]:
    size = size or max(len(text), 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _event(data: Json, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    # half a surrogate pair is sent as JSON says it, by an escape
    return f"{f'event: {name}' + chr(10) if name else ''}data: {text}\n\n".encode(errors="backslashreplace")


Events: TypeAlias = Iterator[tuple[bool, bytes]]
"""Server-sent events, each with whether it carries a piece."""


# --- the Anthropic Messages API -------------------------------------------------------------------------


def _anthropic_block(part: str | ToolCall, call_id: str) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": call_id, "name": part.tool, "input": {}}


def _anthropic_usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
    }


def _anthropic_message(turn: Turn, request: Request, number: int) -> Json:
    return {
        "id": f"msg_scripted_{number}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _anthropic_usage(turn.usage or Usage(0, 0)),
    }


def _anthropic_whole(turn: Turn, request: Request, number: int) -> Json:
    message = _anthropic_message(turn, request, number) | {"stop_reason": turn.stop_reason}
    for index, part in enumerate(turn.parts):
        block = _anthropic_block(part, f"toolu_scripted_{number}_{index}")
        filled = {"text": part} if isinstance(part, str) else {"input": json.loads(part.json)}
        message["content"].append(block | filled)
    return message


def _anthropic_events(turn: Turn, request: Request, number: int) -> Events:
    def event(kind: str, **fields: Json) -> bytes:
        return _event({"type": kind, **fields}, kind)

    yield False, event("message_start", message=_anthropic_message(turn, request, number))
    yield False, event("ping")
    for index, part in enumerate(turn.parts):
        block = _anthropic_block(part, f"toolu_scripted_{number}_{index}")
        yield False, event("content_block_start", index=index, content_block=block)
        if isinstance(part, str):
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(part, turn.chunk)]
        else:
            pieces = _pieces(part.json, turn.argument_chunk)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        for delta in deltas:
            yield True, event("content_block_delta", index=index, delta=delta)
        yield False, event("content_block_stop", index=index)
    usage = {"output_tokens": turn.usage.output_tokens if turn.usage else 0}
    stop: Json = {"stop_reason": turn.stop_reason, "stop_sequence": None}
    yield False, event("message_delta", delta=stop, usage=usage)
    yield False, event("message_stop")


# --- the OpenAI chat completions API --------------------------------------------------------------------

_FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}


def _openai_usage(usage: Usage) -> Json:
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }


def _openai_frame(kind: str, request: Request, number: int) -> Json:
    return {
        "id": f"chatcmpl-scripted-{number}",
        "object": kind,
        "created": 1_700_000_000,
        "model": request.model,
    }


def _openai_call(call: ToolCall, call_id: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": call.tool, "arguments": arguments}}


def _openai_whole(turn: Turn, request: Request, number: int) -> Json:
    text = "".join(part for part in turn.parts if isinstance(part, str))
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    message: Json = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [
            _openai_call(call, f"call_scripted_{number}_{index}", call.json)
            for index, call in enumerate(calls)
        ]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": _FINISH.get(turn.stop_reason, turn.stop_reason),
    }
    usage = {"usage": _openai_usage(turn.usage)} if turn.usage else {}
    return _openai_frame("chat.completion", request, number) | {"choices": [choice]} | usage


def _openai_events(turn: Turn, request: Request, number: int) -> Events:
    frame = _openai_frame("chat.completion.chunk", request, number)

    def event(delta: Json, finish: str | None = None) -> bytes:
        return _event(frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    yield False, event({"role": "assistant", "content": ""})
    calls = 0
    for part in turn.parts:
        if isinstance(part, str):
            for piece in _pieces(part, turn.chunk):
                yield True, event({"content": piece})
            continue
        start = _openai_call(part, f"call_scripted_{number}_{calls}", "")
        yield False, event({"tool_calls": [{"index": calls} | start]})
        for piece in _pieces(part.json, turn.argument_chunk):
            yield True, event({"tool_calls": [{"index": calls, "function": {"arguments": piece}}]})
        calls += 1
    yield False, event({}, _FINISH.get(turn.stop_reason, turn.stop_reason))
    if turn.usage and (request.body.get("stream_options") or {}).get("include_usage"):
        yield False, _event(frame | {"choices": [], "usage": _openai_usage(turn.usage)})
    yield False, _event("[DONE]")


# --- errors in each provider's words --------------------------------------------------------------------

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_CODES: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "service_unavailable"),
    529: ("overloaded_error", "overloaded"),
}
_MESSAGES = {
    401: "invalid x-api-key",
    403: "Your key does not have permission to use this resource.",
    404: "model: no such model",
    429: "This request would exceed your rate limit.",
    500: "Internal server error",
    503: "Service unavailable",
    529: "Overloaded",
}


def _error_body(failure: Failure, api: Api) -> Json:
    message = failure.message or _MESSAGES.get(failure.status, "The request could not be served.")
    if api == "anthropic":
        kind = failure.error_type or _ANTHROPIC_TYPES.get(failure.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"}
    kind, code = _OPENAI_CODES.get(failure.status, ("invalid_request_error", None))
    error = {
        "message": message,
        "type": failure.error_type or kind,
        "param": None,
        "code": failure.code or code,
    }
    return {"error": error}


def _error_event(failure: Failure, api: Api) -> bytes:
    return _event(_error_body(failure, api), "error" if api == "anthropic" else "")
