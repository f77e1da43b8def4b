"""A connection to one MCP server: started, asked, ended.

- A server with a command is a child of our launcher, as the Claude CLI is: with an environment made from nothing, a
  session of its own, and gone with all that it started when the connection is closed or this process dies.
- The ``mcp`` library speaks the protocol. The pipes are ours: a line has a limit, what is no message is skipped and
  remembered, and what the server wrote to stderr is there when it fails.
- What a server has open belongs to one task, which the protocol's scopes need; calls may come from any.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from personas_nb.errors import PersonaError, ToolError
from personas_nb.worker import undisturbed

if TYPE_CHECKING:
    from mcp import ClientSession

START_SECONDS = 30.0
PING_SECONDS = 2.0
CLOSE_SECONDS = 3.0
LINE_LIMIT_BYTES = 64 * 1024 * 1024  # of one message of a server
PAGES_LIMIT = 20  # of a list of tools
SAID_LINES = 5
SAID_LIMIT_BYTES = 64 * 1024  # of one line of it

logging.getLogger("mcp").addHandler(logging.NullHandler())  # or Python would print its errors into a cell


class Launched(Protocol):
    """A program that ends with all that it started."""

    path: Path

    def forget_environment(self) -> None:
        """Take its environment off the disk."""

    def kill(self) -> None:
        """End it."""

    def close(self) -> None:
        """End it, and remove its folder."""


Launcher = Callable[..., Launched]
"""``engine.agents.launch.Launch``, which stands above this room: folder, cli, version, env, cwd → Launched."""


@dataclass(frozen=True)
class Target:
    """How a server is reached, with its secrets in the clear: for one start."""

    name: str
    command: tuple[str, ...] = ()
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: Path = Path()
    cwd: Path = Path()
    hide: Callable[[str], str] = field(default=str, repr=False)
    """Takes those secrets out of what the server says, before that is cut."""


class Lost(ToolError):
    """The server ended, or the way to it broke, while it was asked."""


class Connection:
    """One started server. ``start`` it, ask it, ``close`` it; all on one event loop."""

    def __init__(
        self, target: Target, launch: Launcher, on_close: Callable[[Connection], object] = lambda _: None
    ) -> None:
        self.target = target
        self._on_close = on_close
        self.is_suspect = False  # a call got no answer in its time
        self._launch = launch
        self._said: deque[str] = deque(maxlen=SAID_LINES)
        self._unfinished = b""  # the line of stderr that has no end yet
        self._closing = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self._is_lost = False
        self._launched_as: Launched | None = None
        self._pid: int | None = None

    async def start(self) -> Self:
        """Start it and shake hands; raises ``ToolError`` that says what it said."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(ready))
        try:
            await asyncio.wait_for(asyncio.shield(ready), START_SECONDS)
        except TimeoutError:
            await self.close()
            raise self._trouble(f"did not answer within {START_SECONDS:g} s") from None
        except asyncio.CancelledError:
            await self.close()
            raise
        except PersonaError:
            raise
        except Exception as error:  # the library, its transports and the system raise many kinds
            raise self._trouble(f"could not be started: {_reason(error, self.target.hide)}") from None
        return self

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        is_open = self._session is not None and not self._is_lost and not self._closing.is_set()
        return is_open and not self._has_exited()

    def _has_exited(self) -> bool:
        """Whether its process is gone, which the loop may not have been told yet."""
        if self._pid is None or not hasattr(os, "waitid"):
            return False
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def is_well(self) -> bool:
        """Whether it answers at once; asked only where a call got no answer."""
        if not self.is_alive or not self.is_suspect:
            return self.is_alive
        from mcp.types import EmptyResult, PingRequest

        try:
            await self._ask(PingRequest(), EmptyResult, PING_SECONDS)
        except ToolError:
            return False
        self.is_suspect = False
        return True

    async def tools(self) -> list[Any]:
        """What it offers, all pages."""
        from mcp.types import ListToolsRequest, ListToolsResult, PaginatedRequestParams

        found: list[Any] = []
        cursor = None
        for _ in range(PAGES_LIMIT):
            params = PaginatedRequestParams(cursor=cursor) if cursor else None
            page = await self._ask(ListToolsRequest(params=params), ListToolsResult, START_SECONDS)
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def call(self, tool: str, arguments: dict[str, Any]) -> str:
        """What the tool answers, as text; raises ``ToolError`` where that failed, ``Lost`` where the server is gone."""
        from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

        request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=arguments))
        try:
            # The caller sets the time; this only keeps the library from waiting longer than anybody.
            result = await self._ask(request, CallToolResult, 24 * 3600)
        except asyncio.CancelledError:
            self.is_suspect = True
            raise
        text = text_of(result)
        if result.is_error:
            raise ToolError(
                self.target.hide(text).strip() or f"{self.target.name} says that the call failed."
            )
        return text

    async def close(self) -> None:
        """End it; afterwards nothing of it runs."""
        self._closing.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper], timeout=CLOSE_SECONDS)
            if not self._keeper.done():
                self._keeper.cancel()
                await asyncio.wait([self._keeper], timeout=CLOSE_SECONDS)
        self._on_close(self)

    async def _ask(self, request: Any, result: Any, seconds: float) -> Any:
        from mcp.shared.exceptions import MCPError

        if self._session is None or self._is_lost:
            raise self._lost()
        try:
            return await self._session.send_request(request, result, request_read_timeout_seconds=seconds)
        except MCPError as error:
            if error.code in _GONE and await self._is_gone():
                raise self._lost() from None
            raise self._trouble(f"refused the call: {_reason(error, self.target.hide)}", said=False) from None
        except ValueError as error:  # pydantic's too
            raise self._trouble(
                f"answered with something that is no result: {_reason(error, self.target.hide)}", said=False
            ) from None
        except Exception as error:  # the transports raise many kinds
            raise self._lost() from error

    async def _is_gone(self) -> bool:
        """Whether the connection is over; an error with that code may also be of the server's own making."""
        await asyncio.sleep(0)
        return self._is_lost or self.target.url is not None

    async def _keep(self, ready: asyncio.Future[None]) -> None:
        """Hold the server open until it is closed."""
        from mcp import ClientSession

        try:
            async with self._streams() as (read, write), ClientSession(read, write) as session:
                await session.initialize()
                await asyncio.to_thread(self._forget)
                self._session = session
                ready.set_result(None)
                await self._closing.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(_only(error))
        finally:
            self._is_lost = True
            if not ready.done():
                ready.set_exception(self._trouble("ended while it was started"))
            if ready.exception() is not None:
                self._closing.set()

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[tuple[Any, Any]]:
        if self.target.url is None:
            async with self._process() as streams:
                yield streams
            return
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        timeout = httpx2.Timeout(START_SECONDS, read=None)  # whoever asks has a time of their own
        hooks: dict[str, Any] = {"response": [_limited]}
        async with (
            httpx2.AsyncClient(
                headers=dict(self.target.headers), timeout=timeout, event_hooks=hooks
            ) as client,
            streamable_http_client(self.target.url, http_client=client) as streams,
        ):
            yield streams[0], streams[1]

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[tuple[Any, Any]]:
        """The server as a process, its pipes as the library's streams."""
        import anyio

        launch = await asyncio.to_thread(self._launched)
        tasks: list[asyncio.Task[None]] = []
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                str(launch.path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LINE_LIMIT_BYTES,
                start_new_session=True,
            )
            self._pid = process.pid
            to_session, read = anyio.create_memory_object_stream[Any](0)
            write, from_session = anyio.create_memory_object_stream[Any](0)
            tasks = [
                asyncio.create_task(self._read(process, to_session)),
                asyncio.create_task(self._write(process, from_session, to_session)),
                asyncio.create_task(self._listen(process)),
            ]
            yield read, write
        finally:
            await undisturbed(self._ended(launch, process, tasks))

    def _launched(self) -> Launched:
        target = self.target
        program = shutil.which(target.command[0])
        if program is None:
            raise ToolError(
                f"There is no program “{target.command[0]}” for the server {target.name}.",
                hint="Install it, or give its path.",
            )
        target.cwd.mkdir(parents=True, exist_ok=True)
        env = server_environment(target.folder) | dict(target.env)
        command = [str(Path(program).absolute()), *target.command[1:]]
        self._launched_as = self._launch(target.folder, cli=command, version="0", env=env, cwd=target.cwd)
        return self._launched_as

    def _forget(self) -> None:
        """Its secrets need not lie on the disk any more."""
        if self._launched_as is not None:
            self._launched_as.forget_environment()

    async def _ended(self, launch: Launched, process: Any, tasks: list[asyncio.Task[None]]) -> None:
        self._is_lost = True
        await asyncio.to_thread(launch.kill)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if process is not None:
            with suppress(TimeoutError, ProcessLookupError):
                await asyncio.wait_for(process.wait(), CLOSE_SECONDS)
            process._transport.close()  # a pipe that a survivor holds would keep it open
        await asyncio.to_thread(launch.close)

    async def _read(self, process: Any, to_session: Any) -> None:
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        try:
            async with to_session:
                while line := await process.stdout.readline():
                    try:
                        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:  # servers print what they like
                        self._hear(line)
                        continue
                    await to_session.send(SessionMessage(message))
        except ValueError:
            self._said.append(f"a line of more than {LINE_LIMIT_BYTES // 2**20} MiB")
        finally:
            self._is_lost = True

    async def _write(self, process: Any, from_session: Any, to_session: Any) -> None:
        with suppress(OSError):
            async for outgoing in from_session:
                text = outgoing.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
        self._is_lost = True
        to_session.close()  # or a request would wait for an answer that cannot come

    async def _listen(self, process: Any) -> None:
        while chunk := await process.stderr.read(4096):
            *lines, rest = (self._unfinished + chunk).split(b"\n")
            self._unfinished = rest[:SAID_LIMIT_BYTES]
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        if text := self._shown(line):
            self._said.append(text)

    def _shown(self, line: bytes) -> str:
        return self.target.hide(line.decode(errors="replace").strip())[:300]

    def _lost(self) -> Lost:
        error = self._trouble("ended in the middle of the call")
        return Lost(error.message, hint=error.hint)

    def _trouble(self, what: str, *, said: bool = True) -> ToolError:
        from personas_nb.tools.listing import one_line

        words = one_line(" ".join([*self._said, self._shown(self._unfinished)]), 300) if said else ""
        tail = f"; it said: {words}" if words else ""
        return ToolError(f"The server {self.target.name} {what}{tail}.".replace("..", "."))


def server_environment(folder: Path) -> dict[str, str]:
    """What every server is given: where programs are, a HOME of its own, language and time zone.

    >>> sorted(server_environment(Path("/runs/1")))[:2]
    ['HOME', 'LANG']
    """
    env = {
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": os.environ.get("LANG") or "C.UTF-8",
    }
    return env | ({"TZ": zone} if (zone := os.environ.get("TZ")) else {})


async def _limited(response: Any) -> None:
    """No answer may be longer than a line of a server that is a process."""
    import httpx2

    class Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: Any) -> None:
            self.stream, self.left_bytes = stream, LINE_LIMIT_BYTES

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self.stream:
                self.left_bytes -= len(chunk)
                if self.left_bytes < 0:
                    raise httpx2.ReadError(f"an answer of more than {LINE_LIMIT_BYTES // 2**20} MiB")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    response.stream = Counted(response.stream)


def text_of(result: Any) -> str:
    """A result as text: what is no text is named with its size.

    Structured content counts where there is nothing else.
    """
    import json

    parts = [_part(block) for block in result.content]
    if not any(parts) and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _part(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type in ("image", "audio"):
        return f"[{block.mime_type}, about {len(block.data) * 3 // 4:,} bytes, not shown]"
    if block.type == "resource_link":
        return f"[resource {block.uri}: {block.name}]"
    if block.type == "resource":
        held = block.resource
        text = getattr(held, "text", None)
        return (
            str(text)
            if text is not None
            else f"[resource {held.uri}, {held.mime_type or 'binary'}, not shown]"
        )
    return f"[{block.type}, not shown]"


_GONE = (
    -32000,
    -32001,
)  # the library's codes for a connection that is closed, and for an answer that did not come


def _only(error: BaseException) -> Exception:
    """The one error in a group of one."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else ToolError(type(error).__name__)


def _reason(error: BaseException, hide: Callable[[str], str]) -> str:
    from pydantic import ValidationError

    text = " ".join(str(_only(error)).split())
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        text = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return hide(text)[:300] or type(error).__name__
