"""Folders of personas."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from personas_nb.entities.base import made
from personas_nb.entities.group import PersonaGroup
from personas_nb.entities.persona import Persona
from personas_nb.errors import Conflict, InvalidInput, NotFound, PersonaError, did_you_mean
from personas_nb.personas.reference import by_id, only
from personas_nb.store.database import Store

R = TypeVar("R")
_FIXED = ("id", "created_at")


@dataclass(frozen=True)
class Done(Generic[R]):
    """What became of an action on one persona of a group: its ``result``, or the ``error`` that it raised."""

    persona: Persona
    result: R | None = None
    error: PersonaError | None = None


class Groups:
    """The groups of one store; a persona enters one with ``personas.update(ref, group="name")``.

    >>> import tempfile; from pathlib import Path
    >>> groups = Groups(Store(Path(tempfile.mkdtemp())))
    >>> groups.create("Finance", color="blue").color
    '#0072B2'
    >>> [group.name for group in groups.list()]
    ['Finance']
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows = store.table("persona_groups", PersonaGroup)
        self._personas = store.table("personas", Persona)

    def list(self) -> builtins.list[PersonaGroup]:
        """All groups, by ``sort_order``, then name."""
        return self._rows.find(order_by="coalesce(sort_order, 0), name collate nocase")

    def create(self, name: str, **fields: Any) -> PersonaGroup:
        """A group with that name; where there is one, it gets the fields given (color, sort_order, collapsed).

        Names differ by more than case and spaces. A colour is hex, or the name of one. Raises ``InvalidInput``.
        """
        _check_fields(fields)
        wanted = made(PersonaGroup, {**fields, "name": name})
        with self.store.write():
            found = self._named(wanted.name)
            return self._rows.insert(wanted) if found is None else self._changed(found, fields)

    def get(self, ref: str) -> PersonaGroup:
        """The group of that name (in any case), id, or unique beginning of an id. Raises ``NotFound``."""
        found = self._named(ref) or by_id(self._rows, ref, lambda group: f"{group.name} ({group.id[:8]})")
        if found is None:
            names = [group.name for group in self.list()]
            raise NotFound(
                f"There is no group “{ref}”.",
                hint=did_you_mean(
                    ref,
                    names,
                    otherwise="`%persona groups` lists them."
                    if names
                    else f'Make it with `%persona groups create "{ref}"`.',
                ),
            )
        return found

    def update(self, ref: str, **fields: Any) -> PersonaGroup:
        """Change name, color, sort_order or collapsed; the rest stays as it is.

        Raises ``Conflict`` for the name of another group, ``NotFound`` and ``InvalidInput``.
        """
        _check_fields(fields)
        with self.store.write():
            return self._changed(self.get(ref), fields)

    def remove(self, ref: str) -> None:
        """Delete the group; its personas stay, in no group."""
        with self.store.write():
            group = self.get(ref)
            for persona in self._personas.find("group_id = ?", [group.id]):
                self._personas.update(persona.id, group_id=None)
            self._rows.delete("id = ?", [group.id])

    def members(self, ref: str) -> builtins.list[Persona]:
        """The personas in a group by slug, without the archived ones."""
        return self._personas.find(
            "group_id = ? and archived_at is null", [self.get(ref).id], order_by="slug"
        )

    def each(self, ref: str, action: Callable[[Persona], R]) -> builtins.list[Done[R]]:
        """Do something with every persona of a group; where it fails with one, the others follow all the same.

        studio.groups.each("Finance", studio.personas.disable)
        studio.groups.each("Finance", lambda persona: studio.tools.assign(persona, "file_read"))
        """
        done: builtins.list[Done[R]] = []
        for persona in self.members(ref):
            try:
                done.append(Done(persona, action(persona)))
            except PersonaError as error:
                done.append(Done(persona, error=error))
        return done

    def _changed(self, group: PersonaGroup, fields: dict[str, Any]) -> PersonaGroup:
        wanted = group.changed(**fields)
        other = self._named(wanted.name)
        if other is not None and other.id != group.id:
            raise Conflict(
                f"There is a group “{other.name}” already.",
                hint=f"Choose another name, or remove that one with `%persona groups remove {other.name}`.",
            )
        changes = {name: getattr(wanted, name) for name in fields}
        self._rows.update(
            group.id, **{name: value for name, value in changes.items() if getattr(group, name) != value}
        )
        return wanted

    def _named(self, name: str) -> PersonaGroup | None:
        wanted = " ".join(str(name).split()).casefold()
        same = [group for group in self.list() if group.name.casefold() == wanted]
        return only(same, name, lambda group: group.id[:8])


def _check_fields(fields: dict[str, Any]) -> None:
    for name in fields:
        if name in _FIXED:
            raise InvalidInput(
                f"“{name}” of a group cannot be set.", hint="You can set name, color, sort_order, collapsed."
            )
