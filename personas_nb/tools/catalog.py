"""Which tools there are, and which of them a persona may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from personas_nb.entities.mcp_server import McpServer
from personas_nb.entities.persona import Persona
from personas_nb.entities.tool import ToolAssignment, ToolDefinition
from personas_nb.errors import Conflict, InvalidInput, NotFound, did_you_mean
from personas_nb.store.database import Store
from personas_nb.tools import frames, functions
from personas_nb.tools.run_tools import RunTools, mcp_definition
from personas_nb.tools.servers import Servers

# Inside the class, the word means its method.
Definitions = list[ToolDefinition]
McpServers = list[McpServer]
F = TypeVar("F", bound=Callable[..., Any])
_MISSING: Any = object()


class Tools:
    """The catalog of tools, and their assignment to personas.

    A persona is given as a Persona or by its id; with ``find_persona``, also by whatever that finds one by
    (slug, name, a beginning of the id).
    """

    def __init__(
        self,
        store: Store,
        find_persona: Callable[[str], Persona] | None = None,
        servers: Callable[[], Servers] | None = None,
    ) -> None:
        self._store = store
        self._find_persona = find_persona
        self._servers = servers
        self._tools = store.table("tools", ToolDefinition)
        self._assignments = store.table("tool_assignments", ToolAssignment)

    def list(self) -> Definitions:
        """Every tool of the catalog, by name."""
        return self._tools.find(order_by="name")

    def get(self, name: str) -> ToolDefinition:
        """The tool of that name; raises NotFound with the nearest one."""
        found = self._tools.find("name = ?", [name], limit=1)
        if found:
            return found[0]
        names = [tool.name for tool in self.list()]
        raise NotFound(
            f"There is no tool “{name}”.",
            hint=did_you_mean(name, names, otherwise=f"There are {', '.join(names)}."),
        )

    def assigned(self, persona: Persona | str) -> Definitions:
        """The tools that the persona may call, by name; those of its MCP servers are ``server.tool``."""
        return self._assigned(self._id_of(persona))

    def assign(self, persona: Persona | str, *names: str) -> Definitions:
        """Let the persona call these tools too; all that it may call now.

        One that is assigned already stays as it is. Raises NotFound for an unknown tool or persona; then none
        was assigned.
        """
        persona_id = self._id_of(persona)
        with self._store.write():
            self._check_persona(persona_id)
            for name in names:
                if self._switched(persona_id, name, on=True):
                    continue
                tool = self.get(name)
                if not self._assignments.count("persona_id = ? and tool_name = ?", [persona_id, tool.name]):
                    self._assignments.insert(ToolAssignment(persona_id=persona_id, tool_name=tool.name))
            return self._assigned(persona_id)

    def unassign(self, persona: Persona | str, *names: str) -> Definitions:
        """Take these tools from the persona; all that it may still call.

        One that is not assigned changes nothing. Raises NotFound for an unknown tool or persona; then none was
        taken.
        """
        persona_id = self._id_of(persona)
        with self._store.write():
            self._check_persona(persona_id)
            for name in names:
                if self._switched(persona_id, name, on=False):
                    continue
                tool = self.get(name)
                self._assignments.delete("persona_id = ? and tool_name = ?", [persona_id, tool.name])
            return self._assigned(persona_id)

    def require_approval(self, persona: Persona | str, name: str, needed: bool = True) -> Definitions:
        """Let a person decide on each call that the persona makes of a tool, before it is made; or no longer.

        All tools of the persona that need it now. Raises NotFound for an unknown tool or persona, InvalidInput for a
        tool that is not assigned.
        """
        persona_id = self._id_of(persona)
        with self._store.write():
            self._check_persona(persona_id)
            assigned = {tool.name: tool for tool in self._assigned(persona_id)}
            if name not in assigned:
                self.get(name)  # an unknown one is said to be that
                raise InvalidInput(
                    f"{name} is not assigned to this persona.",
                    hint=f"Assign it first: `%persona tools assign NAME {name}`.",
                )
            found = self._assignments.find("persona_id = ? and tool_name = ?", [persona_id, name], limit=1)
            if found:
                self._assignments.update(found[0].id, needs_approval=needed)
            elif needed:  # a tool of a server, which is assigned in the server's row
                self._assignments.insert(
                    ToolAssignment(persona_id=persona_id, tool_name=name, needs_approval=True)
                )
            needing = self._needing(persona_id)
            return [tool for tool in assigned.values() if tool.name in needing]

    def needing_approval(self, persona: Persona | str) -> frozenset[str]:
        """The names of the tools that the persona may only call with a person's approval."""
        return self._needing(self._id_of(persona))

    def _needing(self, persona_id: str) -> frozenset[str]:
        found = self._assignments.find("persona_id = ? and needs_approval = 1", [persona_id])
        return frozenset(assignment.tool_name for assignment in found)

    # --- functions of the notebook ------------------------------------------------------------------------

    def add(
        self,
        function: Any = _MISSING,
        *,
        name: str | None = None,
        description: str | None = None,
        effect: str = "outside",
        main_thread: bool = False,
        timeout_ms: int | None = None,
    ) -> Any:
        """Make a function of this process a tool, which personas may be assigned; the function itself.

        Its parameters' hints and its docstring tell a model how to call it. ``effect`` is ``none``, ``local`` or
        ``outside``: only ``none`` is performed in a rehearsal. With ``main_thread`` it runs in the cell that waits
        for the run. ``timeout_ms`` None means the setting ``tool_timeout_ms``. A function of that name that was
        added before is replaced. Raises ``InvalidInput`` for what cannot be a tool, and ``Conflict`` for the name
        of a tool that is none.

            @studio.tools.add(effect="none")
            def load_sales(region: str) -> DataFrame:
                '''The sales of a region.'''
        """
        options: dict[str, Any] = {
            "name": name,
            "description": description,
            "effect": effect,
            "main_thread": main_thread,
            "timeout_ms": timeout_ms,
        }
        if function is _MISSING:
            return lambda later: self.add(later, **options)
        tool = functions.function_tool(function, **options)
        self._write_function(tool.definition)
        functions.register(self._store.home, tool)
        return function

    def _write_function(self, tool: ToolDefinition) -> None:
        with self._store.write():
            found = self._tools.find("name = ?", [tool.name], limit=1)
            if not found:
                self._tools.insert(tool)
                return
            if not found[0].script_path.startswith(functions.SCHEME):
                raise Conflict(f"There is a tool “{tool.name}” already.", hint="Choose another name: name=….")
            names = ("description", "input_schema", "effect", "timeout_ms", "defined_in")
            changed = {
                name: getattr(tool, name) for name in names if getattr(tool, name) != getattr(found[0], name)
            }
            self._tools.update(found[0].id, **changed)

    def remove(self, name: str) -> None:
        """Take a function out of the catalog and from all personas; raises ``InvalidInput`` for another tool."""
        tool = self.get(name)
        if not tool.script_path.startswith(functions.SCHEME):
            raise InvalidInput(
                f"{name} is no function of a notebook.", hint="`unassign` takes it from a persona."
            )
        with self._store.write():
            self._assignments.delete("tool_name = ?", [name])
            self._tools.delete("id = ?", [tool.id])

    def frame(self, handle: str) -> Any:
        """The DataFrame of a handle such as ``df:sales-1``: kept by name, of a run that goes on, or of the last.

        Raises ``NotFound`` with those there are.
        """
        return frames.frames_of(self._store.home).get(handle)

    def keep_frame(self, name: str, frame: Any) -> str:
        """Keep a DataFrame under a name as long as this process lives; its handle, which every run may use."""
        return frames.frames_of(self._store.home).keep(name, frame)

    def drop_frame(self, handle: str) -> None:
        """Let go of a frame that was kept by name; raises ``NotFound``."""
        frames.frames_of(self._store.home).drop(handle)

    # --- MCP servers --------------------------------------------------------------------------------------

    def servers(self, persona: Persona | str | None = None) -> McpServers:
        """The MCP servers of a persona, or of all."""
        return self._room().list(None if persona is None else self._id_of(persona))

    def add_server(
        self,
        persona: Persona | str,
        name: str,
        *,
        command: Sequence[str] | str | None = None,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        only: Sequence[str] = (),
        timeout_ms: int | None = None,
        check: bool = True,
    ) -> McpServer:
        """Give a persona the tools of an MCP server: a program (``command``), or one at a ``url``.

        ``env`` is all that the program finds in its environment beside PATH, HOME (its own), TMPDIR, LANG and TZ.
        A value may be ``credential:NAME.field``; others whose names say that they are secrets are sealed. ``only``
        chooses among its tools. Unless it is known what it offers, it is started once to list that: its
        ``status`` and ``detail`` say whether it worked. The same again changes nothing.

        Raises ``InvalidInput`` and ``NotFound`` for what cannot be used; nothing was stored then.
        """
        room = self._room()
        server = room.add(
            self._of(persona),
            name,
            command=command,
            url=url,
            env=env,
            headers=headers,
            only=only,
            timeout_ms=timeout_ms,
        )
        return room.check(server) if check and not server.is_listed else server

    def check_server(self, persona: Persona | str, name: str) -> McpServer:
        """Start a server, list its tools anew, and end it; its ``status`` and ``detail`` say how it went."""
        room = self._room()
        return room.check(room.get(self._id_of(persona), name))

    def remove_server(self, persona: Persona | str, name: str) -> None:
        """Take a server from a persona, with the secrets that it was given; raises ``NotFound``."""
        self._room().remove(self._id_of(persona), name)

    # --- runs ---------------------------------------------------------------------------------------------

    def of_run(
        self,
        persona: Persona,
        execution_id: str,
        *,
        rehearsal: bool,
        part: int = 0,
        names: Sequence[str] | None = None,
    ) -> RunTools:
        """The tools of a run that begins, or goes on for the ``part``th time; to be closed when it has ended.

        With ``names``, those of the catalog instead of the persona's own.
        """
        room = self._servers() if self._servers else None
        mine = room.list(persona.id) if room else []
        chosen = None if names is None else [tool for tool in self.list() if tool.name in names]
        return RunTools(
            self._assigned(persona.id, mine) if chosen is None else chosen,
            execution_id=execution_id,
            functions=functions.registered(self._store.home),
            frames=frames.frames_of(self._store.home).of_run(execution_id, part),
            servers=room,
            mine=mine,
            rehearsal=rehearsal,
        )

    def _assigned(self, persona_id: str, servers: Sequence[McpServer] | None = None) -> Definitions:
        """``servers`` are the persona's, where they have been read already."""
        found = self._tools.find(
            "name in (select tool_name from tool_assignments where persona_id = ?)", [persona_id]
        )
        if servers is None:
            servers = self._servers().list(persona_id) if self._servers else []
        found += [mcp_definition(server, tool) for server in servers for tool in server.tools]
        return sorted(found, key=lambda tool: tool.name)

    def _switched(self, persona_id: str, name: str, *, on: bool) -> bool:
        """Whether it was a tool of a server, which is given or taken in the server's row."""
        return "." in name and self._servers is not None and self._servers().switch(persona_id, name, on=on)

    def _room(self) -> Servers:
        if self._servers is None:
            raise InvalidInput("This catalog has no servers.", hint="Use studio.tools.")
        return self._servers()

    def _of(self, persona: Persona | str) -> Persona:
        if isinstance(persona, Persona):
            return persona
        if self._find_persona is None:
            raise InvalidInput("This catalog finds no personas.", hint="Use studio.tools.")
        return self._find_persona(persona)

    def _check_persona(self, persona_id: str) -> None:
        if not self._store.table("personas", Persona).count("id = ?", [persona_id]):
            raise NotFound(
                f"There is no persona of the id “{persona_id}”.",
                hint="See `%persona list` for those there are.",
            )

    def _id_of(self, persona: Persona | str) -> str:
        if isinstance(persona, Persona):
            return persona.id
        return self._find_persona(persona).id if self._find_persona else persona
