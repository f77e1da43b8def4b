"""An MCP server of a persona, and the tools that it offers."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

REFERENCE = "credential:"
"""What begins a value that stands in the vault: ``credential:NAME.field``."""


class McpTool(Entity):
    """A tool as a server listed it, made fit to be shown: ``name`` is the server's, ``shown`` is ``server.tool``.

    ``is_repeatable``: the server says that calling it again changes nothing more.
    """

    name: str
    shown: str
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)
    is_repeatable: bool = False


class McpServer(Entity):
    """A server that is started with ``command`` (stdio) or reached at ``url`` (streamable HTTP).

    ``env`` and ``headers`` hold no secret: a value that begins with ``credential:`` is opened when the server is
    started. ``only`` are the tools to offer (empty: all), ``tools_off`` those taken from the persona. ``offered``
    is what it listed at its last check; ``status`` is ``unknown`` before the first.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
        description="a small letter, then small letters, digits, _ and -, 32 at most",
    )
    command: tuple[str, ...] = ()
    url: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    only: tuple[str, ...] = ()
    tools_off: tuple[str, ...] = ()
    timeout_ms: int | None = Field(default=None, gt=0)
    offered: tuple[McpTool, ...] = ()
    listed_for: str = ""
    status: Literal["unknown", "healthy", "unhealthy"] = "unknown"
    detail: str = ""
    latency_ms: int | None = None
    checked_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)

    @property
    def digest(self) -> str:
        """Changes with everything that may change what the server offers."""
        parts = [self.command, self.url, sorted(self.env.items()), sorted(self.headers.items()), self.only]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def is_listed(self) -> bool:
        """Whether ``offered`` is what this definition offers."""
        return self.listed_for == self.digest

    @property
    def tools(self) -> tuple[McpTool, ...]:
        """The tools that the persona may call."""
        return tuple(tool for tool in self.offered if tool.shown not in self.tools_off)
