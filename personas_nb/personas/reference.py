"""Finding one row by what a person types: its id, or a beginning of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from personas_nb.entities.base import Entity
from personas_nb.errors import InvalidInput
from personas_nb.store.table import Table

PREFIX_MIN_LENGTH = 4


E = TypeVar("E", bound=Entity)


def by_id(table: Table[E], ref: str, label: Callable[[E], str]) -> E | None:
    """The row whose id is ``ref`` or alone begins with it (four characters or more), or None.

    Raises ``InvalidInput`` with the candidates, by ``label``, when several begin so.
    """
    if (found := table.get(ref)) is not None:
        return found
    prefix = str(ref).lower()  # anything may be given where an id belongs
    if len(prefix) < PREFIX_MIN_LENGTH or not re.fullmatch(r"[0-9a-f-]+", prefix):
        return None
    return only(table.find("substr(id, 1, ?) = ?", [len(prefix), prefix], limit=10), ref, label)


def only(found: Sequence[E], ref: str, label: Callable[[E], str]) -> E | None:
    """The one row found, None for none; raises ``InvalidInput`` with the candidates for several."""
    if len(found) > 1:
        candidates = ", ".join(label(row) for row in found)
        raise InvalidInput(f"“{ref}” could be any of {len(found)}.", hint=f"Say which one: {candidates}.")
    return found[0] if found else None
