"""What personas remember, and which of it a run is told."""

from __future__ import annotations

import builtins
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from personas_nb.entities.base import made, now
from personas_nb.entities.memory import Memory, MemoryUse, Recall
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.personas.personas import Personas
from personas_nb.personas.reference import by_id
from personas_nb.personas.remembering import keep
from personas_nb.personas.words import stem, words_of
from personas_nb.store.database import Store
from personas_nb.store.memories import MemoryTable
from personas_nb.vault.redaction import Redactor

HALF_LIFE_DAYS = 30.0
# The least that relevance and recency multiply by: an important memory is found although it is old, or although it
# has no word in common with the input.
RELEVANCE_FLOOR = 0.1
RECENCY_FLOOR = 0.2
# What the prompt writes around each memory's title and content.
FRAME_CHARS = 40
# How many of those without room are stored with a run; the others are counted.
LEFT_OUT_MAX = 10
TITLE_CHARS = 60

_EDITABLE = ("title", "content", "category", "importance", "tags", "pinned")


@dataclass(frozen=True)
class LastRecall:
    """What the latest run of a persona was told of its memories, and which run that was."""

    execution_id: str
    at: datetime
    rehearsal: bool
    recall: Recall


class Memories:
    """The memories of all personas. One is named by its id, a unique beginning of it, or “latest”.

    ``redactor`` makes what takes the secrets of the vault out of what a person writes.
    """

    def __init__(
        self, store: Store, personas: Personas, redactor: Callable[[], Redactor] | None = None
    ) -> None:
        self.store = store
        self.personas = personas
        self._rows = MemoryTable(store)
        self._redactor = redactor

    def list(
        self, persona: str | Persona | None = None, *, superseded: bool = False
    ) -> builtins.list[Memory]:
        """The memories of one persona, or of all: pinned ones first, then the newest.

        ``superseded`` adds those in whose place others hold now.
        """
        order, where = "pinned desc, created_at desc, id", "1" if superseded else "superseded_by is null"
        if persona is None:
            return self._rows.find(where, order_by=order)
        return self._rows.find(f"persona_id = ? and {where}", [self.personas.get(persona).id], order_by=order)

    def get(self, ref: str) -> Memory:
        """One memory. Raises ``NotFound``, and ``InvalidInput`` where several fit."""
        if str(ref).strip().lower() == "latest":
            newest = self._rows.find("superseded_by is null", order_by="created_at desc, rowid desc", limit=1)
            found = newest[0] if newest else None
        else:
            found = by_id(self._rows, ref, lambda memory: f"{memory.id[:8]} ({memory.title})")
        if found is None:
            raise NotFound(f"There is no memory “{ref}”.", hint="`%persona memories NAME` lists them.")
        return found

    def add(self, memory: Memory, supersedes: str | None = None) -> Memory:
        """Remember something; the memory that holds then.

        What says the same as another is not written twice: that one counts for more. It takes the place of the memory
        that ``supersedes`` names by id or title, or that has its title; a pinned one stays beside it.
        """
        with self.store.write():
            try:
                return keep(self._rows, memory, supersedes)
            except sqlite3.IntegrityError:
                raise NotFound(
                    f"There is no persona “{memory.persona_id}” to remember this.",
                    hint="`%persona list` shows all.",
                ) from None

    def remember(
        self, persona: str | Persona, content: str, *, title: str | None = None, **fields: Any
    ) -> Memory:
        """Let a persona remember something that you tell it; without a ``title`` its first words are the title.

        ``fields`` are category, importance (1–10), tags and pinned; ``supersedes`` names what it replaces. Secrets of
        the vault are taken out. Raises ``InvalidInput`` and ``NotFound``.
        """
        supersedes = fields.pop("supersedes", None)
        _check_editable(fields)
        if not isinstance(content, str) or not content.strip():
            raise InvalidInput("There is nothing to remember.", hint="Give it as a text.")
        owner = self.personas.get(persona)
        given = {**fields, "title": title or _first_words(content), "content": content.strip()}
        return self.add(made(Memory, {**self._clean(given), "persona_id": owner.id}), supersedes)

    def edit(self, ref: str, **fields: Any) -> Memory:
        """Change title, content, category, importance (1–10), tags or pinned; the rest stays as it is.

        Secrets of the vault are taken out of what is written.
        """
        _check_editable(fields)
        fields = self._clean(fields)
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
        """Let it enter every prompt before the others, and no persona replace it; ``pinned=False`` ends that."""
        with self.store.write():
            memory = self.get(ref)
            if pinned and memory.superseded_by is not None:
                raise InvalidInput(
                    f"“{memory.title}” holds no more: another memory took its place.",
                    hint=f"Bring it back first: `%persona memories restore {memory.id[:8]}`.",
                )
            return self.edit(memory.id, pinned=pinned)

    def delete(self, ref: str) -> int:
        """Forget it, with all that it took the place of; how many that were.

        One that was superseded itself goes alone, and what it had replaced stays with its successor.
        """
        with self.store.write():
            memory = self.get(ref)
            gone = [] if memory.superseded_by else [row.id for row in self._rows.earlier(memory.id)]
            if memory.superseded_by:
                direct = self._rows.find("superseded_by = ?", [memory.id])
                for row in direct:
                    self._rows.update(row.id, superseded_by=memory.superseded_by)
            for memory_id in (memory.id, *gone):
                self._rows.delete("id = ?", [memory_id])
        return 1 + len(gone)

    def restore(self, ref: str) -> Memory:
        """Let one that was superseded hold again, beside what took its place."""
        with self.store.write():
            memory = self.get(ref)
            if memory.superseded_by is not None:
                self._rows.update(memory.id, superseded_by=None, superseded_at=None)
        return memory.changed(superseded_by=None, superseded_at=None)

    def earlier(self, ref: str) -> builtins.list[Memory]:
        """What a memory took the place of, directly and before, the latest first."""
        return self._rows.earlier(self.get(ref).id)

    def earlier_counts(self, persona: str | Persona | None = None) -> dict[str, int]:
        """How many memories each one directly took the place of, by its id; those that took none are absent."""
        return self._rows.earlier_counts(None if persona is None else self.personas.get(persona).id)

    def relevant(self, persona_id: str, input: str | None, limit_chars: int = 6_000) -> builtins.list[Memory]:  # noqa: A002 - the contract's name
        """The memories that a run with this input is told, in the order in which it is; see ``recall``."""
        return self.recall(persona_id, input, limit_chars)[0]

    def recall(
        self,
        persona_id: str,
        input: str | None,  # noqa: A002 - as in the contract
        limit_chars: int = 6_000,
        *,
        rehearsal: bool = False,
    ) -> tuple[builtins.list[Memory], Recall]:
        """The memories that a run with this input is told: the pinned ones, then the others, best first; and why.

        The order is relevance × importance × recency. Relevance (0.1 to 1) is the words in common with the input,
        rare ones counting more; recency (0.2 to 1) halves every 30 days since the last change, counted from the
        newest memory, so that the choice does not depend on the clock. One that does not fit into what is left of
        ``limit_chars`` is left out, and a smaller one may follow. What a rehearsal remembered is told to a
        ``rehearsal`` only.
        """
        memories = self._rows.holding(persona_id, rehearsal=rehearsal)
        scored = sorted(_scored(memories, input or ""), key=lambda one: one.memory.updated_at, reverse=True)
        scored.sort(key=lambda one: (not one.memory.pinned, -one.score))
        told, left_out, left_chars = [], [], limit_chars
        for one in scored:
            if one.chars <= left_chars:
                left_chars -= one.chars
                told.append(one)
            else:
                left_out.append(one)
        return [one.memory for one in told], Recall(
            told=tuple(one.use() for one in told),
            left_out=tuple(one.use() for one in left_out[:LEFT_OUT_MAX]),
            left_out_count=len(left_out),
            used_chars=limit_chars - left_chars,
            limit_chars=limit_chars,
        )

    def last_recall(self, persona: str | Persona) -> LastRecall | None:
        """What the latest run of a persona was told of its memories, and why; None before the first."""
        row = self._rows.last_recall(self.personas.get(persona).id)
        if row is None:
            return None
        at = datetime.fromisoformat(row["created_at"])
        return LastRecall(row["id"], at, bool(row["rehearsal"]), Recall.model_validate_json(row["content"]))

    def _clean(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self._redactor is None or not any(name in fields for name in ("title", "content", "tags")):
            return fields
        cleaned: dict[str, Any] = self._redactor().redact_value(fields)
        return cleaned


def _check_editable(fields: Iterable[str]) -> None:
    for name in fields:
        if name in Memory.model_fields and name not in _EDITABLE:
            raise InvalidInput(
                f"“{name}” of a memory cannot be set.", hint=f"You can set {', '.join(_EDITABLE)}."
            )


def _first_words(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rsplit(" ", 1)[0] + "…"


class _Scored(NamedTuple):
    """A memory and what it counts for with one input."""

    memory: Memory
    relevance: float
    recency: float
    words: tuple[str, ...]

    @property
    def score(self) -> float:
        return self.relevance * self.memory.importance * self.recency

    @property
    def chars(self) -> int:
        return len(self.memory.title) + len(self.memory.content) + FRAME_CHARS

    def use(self) -> MemoryUse:
        return MemoryUse(
            memory_id=self.memory.id,
            title=self.memory.title,
            score=self.score,
            relevance=self.relevance,
            importance=self.memory.importance,
            recency=self.recency,
            words=self.words,
            pinned=self.memory.pinned,
            chars=self.chars,
        )


def _scored(memories: Sequence[Memory], text: str) -> builtins.list[_Scored]:
    if not memories:
        return []
    newest = max(memory.updated_at for memory in memories)
    found = []
    for memory, (relevance, words) in zip(memories, _relevances(memories, text), strict=True):
        age_days = (newest - memory.updated_at).total_seconds() / 86_400
        recency = max(RECENCY_FLOOR, 0.5 ** (age_days / HALF_LIFE_DAYS))
        found.append(_Scored(memory, relevance, recency, words))
    return found


def _relevances(memories: Sequence[Memory], text: str) -> builtins.list[tuple[float, tuple[str, ...]]]:
    """From the floor to 1, which the best one has, if any has a word in common with the text; and those words."""
    asked = {stem(word) for word in words_of(text)}
    told = [_words_by_stem(" ".join((memory.title, memory.content, *memory.tags))) for memory in memories]
    found_in = Counter(word for words in told for word in words)
    common = [sorted(asked & words.keys(), key=lambda word: (found_in[word], word)) for words in told]
    overlaps = [
        sum(math.log(1 + len(told) / found_in[word]) for word in shared) / math.sqrt(len(words) or 1)
        for words, shared in zip(told, common, strict=True)
    ]
    best = max(overlaps) or 1.0
    return [
        (RELEVANCE_FLOOR + (1 - RELEVANCE_FLOOR) * overlap / best, tuple(words[word] for word in shared))
        for overlap, words, shared in zip(overlaps, told, common, strict=True)
    ]


@lru_cache(maxsize=4096)
def _words_by_stem(text: str) -> Mapping[str, str]:
    """Not to be changed: every run of a persona asks for those of the same memories."""
    return {stem(word): word for word in sorted(words_of(text))}
