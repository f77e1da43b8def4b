"""Verbs for functions of the notebook as tools, and for MCP servers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from personas_nb.errors import InvalidInput, NotFound, did_you_mean
from personas_nb.verbs.call import Call
from personas_nb.verbs.usage import WrongUsage
from personas_nb.views.notices import notice
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.entities.mcp_server import McpServer


def add(call: Call) -> View:
    """Make a function of the notebook a tool."""
    name = call["function"]
    if not call.surface.is_kernel:
        raise WrongUsage("A function lives in a notebook.", hint="Type `%persona tools add` there.")
    try:
        function = call.filling.value(name)
    except KeyError:
        raise NotFound(
            f"The notebook defines no “{name}”.", hint="Run the cell that defines it, then this one."
        ) from None
    own_name = getattr(function, "__name__", "<lambda>")
    tool_name = name if own_name == "<lambda>" else own_name
    call.studio.tools.add(
        function,
        name=tool_name,
        effect=call["effect"],
        main_thread=call["main_thread"],
        timeout_ms=call["timeout"],
    )
    tool = call.studio.tools.get(tool_name)
    said = f"{tool.name} is a tool as long as this kernel runs: {tool.description.splitlines()[0]}"
    return replace(notice(said, f"%persona tools assign NAME {tool.name}"), value=tool)


def remove(call: Call) -> View:
    """Take a function out of the catalog."""
    call.studio.tools.remove(call["tool"])
    return notice(f"{call['tool']} is no tool any more.", status="removed")


def servers(call: Call) -> View:
    """The MCP servers, and whether they work."""
    from personas_nb.views.servers import server_list

    found = call.studio.tools.servers(call["name"])
    names = {persona.id: persona.slug for persona in call.studio.personas.list(include_archived=True)}
    return server_list(found, names)


def add_server(call: Call) -> View:
    """Give a persona a server."""
    persona = call.studio.personas.get(call["name"])
    known = {server.name: server for server in call.studio.tools.servers(persona)}
    pairs = {**_pairs(call["header"], "--header"), **_pairs(call["env"], "--env")}
    secrets = _from_environment(call["from_env"])
    url = call["url"]
    server = call.studio.tools.add_server(
        persona,
        call["server"],
        command=shlex.split(call["command"]) if call["command"] else None,
        url=url,
        env=None if url else {**pairs, **secrets},
        headers={**pairs, **secrets} if url else None,
        only=call["only"],
        timeout_ms=call["timeout"],
    )
    return _shown(server, persona.slug, unchanged=known.get(server.name) == server)


def check_server(call: Call) -> View:
    """Whether a server works, and what it offers now."""
    persona = call.studio.personas.get(call["name"])
    return _shown(call.studio.tools.check_server(persona, call["server"]), persona.slug)


def remove_server(call: Call) -> View:
    """Take a server from a persona."""
    persona = call.studio.personas.get(call["name"])
    call.studio.tools.remove_server(persona, call["server"])
    return notice(
        f"{persona.name} has no server {call['server']} any more; its secrets are gone.", status="removed"
    )


def _shown(server: McpServer, slug: str, *, unchanged: bool = False) -> View:
    from personas_nb.views.servers import server_card

    return server_card(server, slug, unchanged=unchanged)


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise WrongUsage(
                f"{option} takes NAME=VALUE, not “{name[:40]}”.", hint=f"Such as {option} TZ=UTC."
            )
        pairs[name] = value
    return pairs


def _from_environment(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for name, variable in _pairs(words, "--from-env").items():
        if not os.environ.get(variable):
            hint = did_you_mean(variable, os.environ, otherwise="Set it before Jupyter starts.")
            raise InvalidInput(f"The environment variable {variable} is not set.", hint=hint)
        found[name] = os.environ[variable]
    return found
