"""What a new memory means beside those that there are: the same again, something newer, or something else.

- The same again is the same words in the same order, but for articles, plurals, case and punctuation. Likeness of
  letters is no measure here: “employer” and “employee” are much alike. What this does not recognise costs little:
  under the same title, the newer wording takes the place of the older one, which is kept.
- A memory takes the place of one that it names, or that has its title. What one run says under one title is several
  things; a title such as “Note” says nothing; and what a person pinned no persona replaces.
- What a rehearsal remembers leaves real knowledge alone.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from personas_nb.entities.memory import Memory
from personas_nb.personas.words import stem
from personas_nb.store.memories import MemoryTable

# A number with its sign and its inner marks, a word, or a sign that means something ($, %, <, ?).
_TOKEN = re.compile(r"[-+]?\d+(?:[.,:/-]\d+)*|[^\W\d]+|[^\w\s.,;:!'\"()\[\]{}“”„‘’«»–—…*_`-]")
_HARMLESS = frozenset(
    (
        "a",
        "an",
        "the",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "that",
        "this",
        "these",
        "those",
        "its",
        "also",
    )
)
_OF = frozenset(("of", "about", "for", "on"))  # in a title: “day of Acme” and “Acme day”
_GENERIC = frozenset(
    """note notes memory memories lesson lessons learned learning learnings fact facts info information insight
    insights observation observations update updates summary context preference preferences instruction
    instructions reminder reminders todo result results outcome outcomes finding findings important misc""".split()  # noqa: SIM905 - a dozen words in quotes are hard to read
)


class _Meaning(NamedTuple):
    """The words of the content in their order, and what the title says beyond them."""

    content: tuple[str, ...]
    title: frozenset[str]


def keep(table: MemoryTable, memory: Memory, supersedes: str | None = None) -> Memory:
    """Write a memory and return the one that holds then: itself, or the one that says the same already.

    ``supersedes`` names another by id or title. To be called in a transaction.
    """
    known = [row for row in table.texts(memory.persona_id) if row["rehearsal"] or not memory.rehearsal]
    meaning = meaning_of(memory.title, memory.content)
    same = next(
        (
            row
            for row in known
            if row["rehearsal"] == memory.rehearsal and meaning_of(row["title"], row["content"]) == meaning
        ),
        None,
    )
    replaced = [
        row for row in _replaced(known, memory, supersedes) if same is None or row["id"] != same["id"]
    ]
    holding = table.insert(memory) if same is None else _repeated(table, same["id"], memory)
    table.supersede([row["id"] for row in replaced], holding.id, memory.created_at)
    return holding


def _replaced(known: Sequence[sqlite3.Row], memory: Memory, supersedes: str | None) -> list[sqlite3.Row]:
    free = [row for row in known if not row["pinned"]]
    if supersedes and supersedes.strip():
        named = _named(free, supersedes.strip())
        if named:
            return named
    title = words_in_order(memory.title)
    if not title or set(title) <= _GENERIC:
        return []
    return [
        row
        for row in free
        if words_in_order(row["title"]) == title
        and (row["source_execution_id"] is None or row["source_execution_id"] != memory.source_execution_id)
    ]


def _named(known: Iterable[sqlite3.Row], ref: str) -> list[sqlite3.Row]:
    title, prefix = words_in_order(ref), ref.lower()
    is_id = re.fullmatch(r"[0-9a-f]{4}[0-9a-f-]*", prefix) is not None
    return [
        row
        for row in known
        if words_in_order(row["title"]) == title or (is_id and row["id"].startswith(prefix))
    ]


def _repeated(table: MemoryTable, memory_id: str, again: Memory) -> Memory:
    """The one that says it already, which counts for more and as seen today."""
    held = table.get(memory_id)
    assert held is not None
    changes = {
        "importance": max(held.importance, again.importance),
        "tags": tuple(dict.fromkeys((*held.tags, *again.tags))),
        "pinned": held.pinned or again.pinned,
        "repeats": held.repeats + 1,
        "updated_at": max(held.updated_at, again.updated_at),
    }
    table.update(held.id, **changes)
    return held.changed(**changes)


def meaning_of(title: str, content: str) -> _Meaning:
    """What of a memory must be the same in another one that says the same.

    >>> meaning_of("Acme", "Acme pays its invoices on the 5th.") == meaning_of("ACME", "acme pays invoice on 5th")
    True
    >>> meaning_of("Acme", "pays on the 5th") == meaning_of("Globex", "pays on the 5th")
    False
    """
    words = words_in_order(content)
    return _Meaning(words, frozenset(words_in_order(title)) - _OF - set(words))


@lru_cache(maxsize=4096)
def words_in_order(text: str) -> tuple[str, ...]:
    """The words, numbers and meaningful signs of a text, without case, plurals and articles.

    >>> words_in_order("The invoices are 1.5 % of -200 €!")
    ('invoice', '1.5', '%', 'of', '-200', '€')
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(stem(token) for token in _TOKEN.findall(plain) if token not in _HARMLESS)
