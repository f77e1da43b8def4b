"""The tools of one run: what the persona may call, what runs behind each, and what must go when the run has ended."""

from __future__ import annotations

import asyncio
import threading
from collections import ChainMap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from personas_nb.entities.mcp_server import McpServer, McpTool
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import PersonaError
from personas_nb.tools.builtin import BUILTIN, Implementation, Place
from personas_nb.tools.frames import RunFrames
from personas_nb.tools.functions import NotebookFunction, elsewhere, implementation, missing
from personas_nb.tools.mcp import Connection, Lost
from personas_nb.tools.servers import Servers

MCP_SCHEME = "mcp://"


def mcp_definition(server: McpServer, tool: McpTool) -> ToolDefinition:
    """A tool of a server as one of the catalog's kind."""
    return ToolDefinition(
        id=f"{server.id}:{tool.name}",
        name=tool.shown,
        category=f"mcp {server.name}",
        description=tool.description,
        script_path=f"{MCP_SCHEME}{tool.shown}",
        input_schema=tool.input_schema,
        effect="outside",
        timeout_ms=server.timeout_ms,
        created_at=server.created_at,
    )


class RunTools:
    """Made before a run and closed after it.

    ``notes`` say what cannot be used in it; ``secrets`` are those of its servers, which nothing may show;
    ``texts`` are what servers say of their tools: data, not instructions.
    """

    def __init__(
        self,
        definitions: list[ToolDefinition],
        *,
        execution_id: str,
        functions: Mapping[str, NotebookFunction],
        frames: RunFrames,
        servers: Servers | None,
        mine: list[McpServer],
        rehearsal: bool,
    ) -> None:
        self.notes: list[str] = []
        self.secrets: dict[str, str] = {}
        self.texts: list[str] = []
        self._frames = frames
        self._execution_id, self._waits = execution_id, False
        self._links: list[_Link] = []
        own: dict[str, Implementation] = {}
        shown: list[ToolDefinition] = []
        for tool in definitions:
            if tool.script_path.startswith("notebook://"):
                here = functions.get(tool.name)
                if here is None:
                    own[tool.script_path] = elsewhere(tool)
                    self.notes.append(missing(tool))
                else:
                    own[tool.script_path] = implementation(here, execution_id, frames)
                    tool = here.definition.changed(id=tool.id)
            shown.append(tool)
        if servers is not None and mine:
            self.secrets = {} if rehearsal else servers.secrets(mine)
            for server in mine:
                link = _Link(servers, server, execution_id)
                self._links.append(link)
                own |= {f"{MCP_SCHEME}{tool.shown}": link.implementation(tool) for tool in server.tools}
                self.texts += [tool.model_dump_json() for tool in server.tools]
                self._note(server)
        self.definitions = shown
        self.implementations: Mapping[str, Implementation] = ChainMap(own, BUILTIN)  # type: ignore[arg-type]

    def wait(self) -> None:
        """The run waits for a decision: its frames outlive ``close``."""
        self._waits = True

    def close(self) -> None:
        """Let the frames go, and end the servers; does not wait for these."""
        if self._waits:
            self._frames.wait(self._execution_id)
        else:
            self._frames.close()
        for link in self._links:
            link.close()

    def _note(self, server: McpServer) -> None:
        if not server.is_listed:
            why = f" ({server.detail})" if server.status == "unhealthy" else ""
            self.notes.append(
                f"What the server {server.name} offers is not known{why}, so its tools are missing: "
                f"`%persona servers check`."
            )


class _Link:
    """The way of one run to one server: started at the first call, and again when it has died."""

    def __init__(self, servers: Servers, server: McpServer, execution_id: str) -> None:
        self._servers, self._server, self._execution_id = servers, server, execution_id
        self._connection: Connection | None = None
        self._starting = asyncio.Lock()
        self._count = 0
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = threading.Lock()

    def implementation(self, tool: McpTool) -> Implementation:
        """What the gateway calls."""

        async def perform(place: Place, arguments: dict[str, Any]) -> str:
            connection = await self._connected(place.workspace)
            try:
                return await connection.call(tool.name, arguments)
            except Lost as lost:
                if not tool.is_repeatable:
                    raise Lost(
                        lost.message, hint="The call may have happened: look before you call it again."
                    ) from None
            # The server says that once more changes nothing.
            connection = await self._connected(place.workspace)
            return await connection.call(tool.name, arguments)

        return perform

    def close(self) -> None:
        """End the server; called from any thread."""
        with self._closing:
            self._is_closed = True
            connection, loop = self._connection, self._loop
        if connection is not None and loop is not None and not loop.is_closed():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: _kept(loop.create_task(connection.close())))

    async def _connected(self, workspace: Path) -> Connection:
        async with self._starting:
            if self._connection is not None:
                if await self._connection.is_well():
                    return self._connection
                await self._connection.close()
            self._count += 1
            run_id = f"{self._execution_id}-{self._count}"
            target = await asyncio.to_thread(
                lambda: self._servers.target(self._server, cwd=workspace, run_id=run_id)
            )
            connection = await asyncio.to_thread(self._servers.connection, target)
            with self._closing:
                if self._is_closed:
                    raise PersonaError("The run has ended.")
                self._connection, self._loop = connection, asyncio.get_running_loop()
            await connection.start()
            return connection


_closing: set[Any] = set()


def _kept(task: Any) -> None:
    """Keep a task from being collected before it has ended."""
    _closing.add(task)
    task.add_done_callback(_closing.discard)
