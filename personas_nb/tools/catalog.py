"""Which tools there are, and which of them a persona may call."""

from __future__ import annotations

from collections.abc import Callable

from personas_nb.entities.persona import Persona
from personas_nb.entities.tool import ToolAssignment, ToolDefinition
from personas_nb.errors import NotFound, did_you_mean
from personas_nb.store.database import Store

# Inside the class, the word means its method.
Definitions = list[ToolDefinition]


class Tools:
    """The catalog of tools, and their assignment to personas.

    A persona is given as a Persona or by its id; with ``find_persona``, also by whatever that finds one by
    (slug, name, a beginning of the id).
    """

    def __init__(self, store: Store, find_persona: Callable[[str], Persona] | None = None) -> None:
        self._store = store
        self._find_persona = find_persona
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
        """The tools that the persona may call, by name."""
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
                tool = self.get(name)
                self._assignments.delete("persona_id = ? and tool_name = ?", [persona_id, tool.name])
            return self._assigned(persona_id)

    def _assigned(self, persona_id: str) -> Definitions:
        return self._tools.find(
            "name in (select tool_name from tool_assignments where persona_id = ?)",
            [persona_id],
            order_by="name",
        )

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
