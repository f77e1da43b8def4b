"""MCP servers: which there are, whether they work, what they offer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from personas_nb.entities.mcp_server import McpServer
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, one_line
from personas_nb.views.page import Page, listing
from personas_nb.views.view import View

ADD = ("%persona servers add NAME SERVER COMMAND", "give a persona one")


def server_list(servers: Sequence[McpServer], personas: Mapping[str, str]) -> View:
    """Servers as a table; ``personas`` has the slug of each owner by its id."""
    rows: list[list[Cell]] = [
        [
            Code(server.name),
            Code(personas.get(server.persona_id, "")),
            marks.mark(_word(server)),
            Number(f"{len(server.tools):,}"),
            Code(one_line(reached(server), 60)),
            one_line(server.detail, 120),
        ]
        for server in servers
    ]
    headers = ("server", "persona", "", "tools", "reached by", "")
    steps = [("%persona servers check NAME SERVER", "whether it works"), ADD]
    return listing(
        "MCP servers", headers, rows, empty="There is no server.", steps=steps, value=list(servers)
    )


def server_card(server: McpServer, slug: str, *, unchanged: bool = False) -> View:
    """One server: how it is reached, what it was given (never a secret), what it offers."""
    page = Page(f"Server {server.name} of {slug}", status=_word(server))
    given = {**server.env, **server.headers}
    page.facts(
        [
            ("reached by", Code(one_line(reached(server), 200))),
            ("given", ", ".join(f"{name}: {_value(value)}" for name, value in given.items())),
            ("answered in", marks.duration(server.latency_ms) if server.latency_ms is not None else None),
        ]
    )
    page.sentence(server.detail, status="" if server.status == "healthy" else "budget")
    if unchanged:
        page.sentence("It was so already: nothing changed.", faint=True)
    rows: list[list[Cell]] = [[Code(tool.shown), one_line(tool.description, 120)] for tool in server.tools]
    page.table(("tool", "what it says of itself"), rows)
    step = f"%%persona run {slug}" if server.tools else f"%persona servers check {slug} {server.name}"
    return page.next([(step, "")]).view(server)


def reached(server: McpServer) -> str:
    """Its address, or its command."""
    return server.url or shlex.join(server.command)


def _word(server: McpServer) -> str:
    return server.status if server.status != "unknown" else "degraded"


def _value(value: str) -> str:
    return "set" if value.startswith("credential:") else one_line(value, 40)
