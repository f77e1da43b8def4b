"""Folders of personas."""

from __future__ import annotations

from typing import Any

from personas_nb.entities.base import made
from personas_nb.entities.group import PersonaGroup
from personas_nb.entities.persona import Persona
from personas_nb.errors import NotFound, did_you_mean
from personas_nb.personas.reference import by_id, only
from personas_nb.store.database import Store


class Groups:
    """The groups of one store; a persona enters one with ``personas.update(ref, group="name")``.

    >>> import tempfile; from pathlib import Path
    >>> groups = Groups(Store(Path(tempfile.mkdtemp())))
    >>> groups.create("Finance", color="#0072B2").name
    'Finance'
    >>> [group.name for group in groups.list()]
    ['Finance']
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows = store.table("persona_groups", PersonaGroup)

    def list(self) -> list[PersonaGroup]:
        """All groups, by ``sort_order``, then name."""
        return self._rows.find(order_by="coalesce(sort_order, 0), name collate nocase")

    def create(self, name: str, **fields: Any) -> PersonaGroup:
        """A group with that name; where there is one, it gets the fields given (color, sort_order, collapsed).

        Names differ by more than case. Raises ``InvalidInput`` for what cannot be used.
        """
        wanted = made(PersonaGroup, {**fields, "name": name})
        with self.store.write():
            found = self._named(wanted.name)
            if found is None:
                return self._rows.insert(wanted)
            changes = {key: getattr(wanted, key) for key in fields if key not in ("id", "created_at")}
            revised = found.changed(**changes)
            self._rows.update(
                found.id, **{key: value for key, value in changes.items() if getattr(found, key) != value}
            )
            return revised

    def get(self, ref: str) -> PersonaGroup:
        """The group of that name (in any case), id, or unique beginning of an id. Raises ``NotFound``."""
        found = self._named(ref) or by_id(self._rows, ref, lambda group: f"{group.name} ({group.id[:8]})")
        if found is None:
            names = [group.name for group in self.list()]
            raise NotFound(
                f"There is no group “{ref}”.",
                hint=did_you_mean(ref, names, otherwise="`%persona groups` lists them."),
            )
        return found

    def remove(self, ref: str) -> None:
        """Delete the group; its personas stay, in no group."""
        with self.store.write():
            group = self.get(ref)
            personas = self.store.table("personas", Persona)
            for persona in personas.find("group_id = ?", [group.id]):
                personas.update(persona.id, group_id=None)
            self._rows.delete("id = ?", [group.id])

    def _named(self, name: str) -> PersonaGroup | None:
        wanted = " ".join(str(name).split()).casefold()
        same = [group for group in self.list() if group.name.casefold() == wanted]
        return only(same, name, lambda group: group.id[:8])
