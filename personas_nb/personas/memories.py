"""What personas remember, and which of it a run is told."""

from __future__ import annotations

import builtins
import math
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from personas_nb.entities.base import now
from personas_nb.entities.memory import Memory
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.personas.personas import Personas
from personas_nb.personas.reference import by_id
from personas_nb.personas.words import words_of
from personas_nb.store.database import Store

HALF_LIFE_DAYS = 30.0
# The least that relevance and recency multiply by: an important memory is found although it is old, or although it
# has no word in common with the input.
RELEVANCE_FLOOR = 0.1
RECENCY_FLOOR = 0.2
# What the prompt writes around each memory's title and content.
FRAME_CHARS = 40

_FIXED = ("id", "persona_id", "source_execution_id", "created_at", "updated_at")


class Memories:
    """The memories of all personas. One is named by its id or a unique beginning of it."""

    def __init__(self, store: Store, personas: Personas) -> None:
        self.store = store
        self.personas = personas
        self._rows = store.table("memories", Memory)

    def list(self, persona: str | Persona | None = None) -> builtins.list[Memory]:
        """The memories of one persona, or of all: pinned ones first, then the newest."""
        order = "pinned desc, created_at desc, id"
        if persona is None:
            return self._rows.find(order_by=order)
        return self._rows.find("persona_id = ?", [self.personas.get(persona).id], order_by=order)

    def get(self, ref: str) -> Memory:
        """One memory. Raises ``NotFound``."""
        found = by_id(self._rows, ref, lambda memory: f"{memory.id[:8]} ({memory.title})")
        if found is None:
            raise NotFound(f"There is no memory “{ref}”.", hint="`%persona memories NAME` lists them.")
        return found

    def add(self, memory: Memory) -> Memory:
        """Remember something; what the persona remembers already, title and content alike, is not written twice."""
        with self.store.write():
            same = self._rows.find(
                "persona_id = ? and title = ? and content = ?",
                [memory.persona_id, memory.title, memory.content],
                limit=1,
            )
            if same:
                return same[0]
            try:
                return self._rows.insert(memory)
            except sqlite3.IntegrityError:
                raise NotFound(
                    f"There is no persona “{memory.persona_id}” to remember this.",
                    hint="`%persona list` shows all.",
                ) from None

    def edit(self, ref: str, **fields: Any) -> Memory:
        """Change title, content, category, importance (1–10), tags or pinned; the rest stays as it is."""
        for name in fields:
            if name in _FIXED:
                raise InvalidInput(
                    f"“{name}” of a memory cannot be set.", hint="Add a new memory and delete this one."
                )
        with self.store.write():
            memory = self.get(ref)
            wanted = memory.changed(**fields)
            changes = {name: getattr(wanted, name) for name in fields}
            if all(getattr(memory, name) == value for name, value in changes.items()):
                return memory
            wanted = wanted.changed(updated_at=now())
            self._rows.update(memory.id, **changes, updated_at=wanted.updated_at)
        return wanted

    def pin(self, ref: str, pinned: bool = True) -> Memory:
        """Let it enter every prompt before the others; ``pinned=False`` ends that."""
        return self.edit(ref, pinned=pinned)

    def delete(self, ref: str) -> None:
        """Forget it."""
        with self.store.write():
            self._rows.delete("id = ?", [self.get(ref).id])

    def relevant(self, persona_id: str, input: str | None, limit_chars: int = 6_000) -> builtins.list[Memory]:  # noqa: A002 - the contract's name
        """The memories that a run with this input is told: the pinned ones, then the others, best first.

        The order is relevance × importance × recency. Relevance (0.1 to 1) is the words in common with the input,
        rare ones counting more; recency (0.2 to 1) halves every 30 days since the last change, counted from the
        newest memory, so that the choice does not depend on the clock. One that does not fit into what is left of
        ``limit_chars`` is left out, and a smaller one may follow.
        """
        memories = self._rows.find("persona_id = ?", [persona_id], order_by="id")
        scores = dict(zip((memory.id for memory in memories), _scores(memories, input or ""), strict=True))
        chosen = []
        newest_first = sorted(memories, key=lambda memory: memory.updated_at, reverse=True)
        for memory in sorted(newest_first, key=lambda memory: (not memory.pinned, -scores[memory.id])):
            size = len(memory.title) + len(memory.content) + FRAME_CHARS
            if size <= limit_chars:
                limit_chars -= size
                chosen.append(memory)
        return chosen


def _scores(memories: Sequence[Memory], text: str) -> builtins.list[float]:
    if not memories:
        return []
    newest = max(memory.updated_at for memory in memories)
    return [
        relevance
        * memory.importance
        * max(RECENCY_FLOOR, 0.5 ** ((newest - memory.updated_at).total_seconds() / 86_400 / HALF_LIFE_DAYS))
        for memory, relevance in zip(memories, _relevances(memories, text), strict=True)
    ]


def _relevances(memories: Sequence[Memory], text: str) -> builtins.list[float]:
    """From the floor to 1, which the best one has, if any has a word in common with the text."""
    asked = words_of(text)
    told = [words_of(" ".join((memory.title, memory.content, *memory.tags))) for memory in memories]
    found_in = Counter(word for words in told for word in words)
    overlaps = [
        sum(math.log(1 + len(told) / found_in[word]) for word in sorted(words & asked))
        / math.sqrt(len(words) or 1)
        for words in told
    ]
    best = max(overlaps) or 1.0
    return [RELEVANCE_FLOOR + (1 - RELEVANCE_FLOOR) * overlap / best for overlap in overlaps]
