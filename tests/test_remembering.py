"""What a new memory means beside those that there are: the same again, something newer, something else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from personas_nb.entities.base import now
from personas_nb.entities.memory import Memory
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.personas.memories import Memories
from personas_nb.personas.personas import Personas
from personas_nb.personas.remembering import meaning_of
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing
from personas_nb.vault.redaction import Redactor

SECRET = "sk-live-0123456789abcdef"


@pytest.fixture
def memories(tmp_path: Path) -> Iterator[Memories]:
    store = Store(tmp_path)
    personas = Personas(
        store, Credentials(store, KeyRing(key_file=tmp_path / "keys.json", use_keyring=False))
    )
    personas.create(name="A")
    yield Memories(store, personas, redactor=lambda: Redactor({"KEY": SECRET}))
    store.close()


def say(memories: Memories, title: str, content: str, *, run: str | None = None, **fields: Any) -> Memory:
    """A persona remembers something in a run."""
    supersedes = fields.pop("supersedes", None)
    owner = memories.personas.get("a").id
    memory = Memory(persona_id=owner, title=title, content=content, source_execution_id=run, **fields)
    return memories.add(memory, supersedes)


def contents(memories: Memories, **which: Any) -> list[str]:
    return [memory.content for memory in memories.list("a", **which)]


# The same again


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Acme", "Acme pays on the 5th."), ("ACME", "acme  pays on the 5TH")),
        (("Acme", "Acme pays its invoices on the 5th."), ("Acme", "Acme pays its invoice on 5th!")),
        (("Billing day of Acme", "“Acme” pays — on the 5th"), ("Acme billing day", "Acme pays on the 5th")),
        (("Größe", "Maße in cm"), ("GRÖẞE", "maße in CM")),
    ],
)
def test_the_same_in_another_dress_is_one_memory(
    memories: Memories, one: tuple[str, str], other: tuple[str, str]
) -> None:
    first, again = say(memories, *one), say(memories, *other, importance=9)
    assert (again.id, again.importance, again.repeats) == (first.id, 9, 1)
    assert len(memories.list("a", superseded=True)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Day of Acme", "Acme pays on the 5th"), ("Day at Acme", "Acme pays on the 6th")),
        (("Rule a", "Never mail Anna"), ("Rule b", "Mail Anna")),
        (("Acme", "pays on the 5th of each month"), ("Globex", "pays on the 5th of each month")),
        (("Flow one", "from Anna to Bob"), ("Flow two", "from Bob to Anna")),
        (("Who a", "Anna is the employer"), ("Who b", "Anna is the employee")),
        (("Sum a", "The limit is 1.5 %"), ("Sum b", "The limit is 15 %")),
        (("Sum a", "A change of -5 EUR"), ("Sum b", "A change of 5 EUR")),
        (("Sum a", "more if x < 5"), ("Sum b", "more if x > 5")),
        (("Sum a", "it costs $ 5"), ("Sum b", "it costs € 5")),
    ],
)
def test_what_differs_in_a_word_a_number_or_its_order_is_something_else(
    memories: Memories, one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert meaning_of(*one) != meaning_of(*other)
    say(memories, *one, run="1")
    say(memories, *other, run="2")
    assert set(contents(memories)) == {one[1], other[1]}


def test_saying_it_again_makes_it_as_new_as_today(memories: Memories) -> None:
    long_ago = now() - timedelta(days=300)
    old = say(memories, "t", "c", created_at=long_ago, updated_at=long_ago)
    again = say(memories, "t", "c")
    assert again.created_at == old.created_at
    assert again.updated_at > long_ago + timedelta(days=299)


# Something newer


def test_the_same_title_in_a_later_run_takes_the_place_of_what_was_known(memories: Memories) -> None:
    old = say(memories, "Billing day", "The 5th.", run="1")
    new = say(memories, "billing days", "The 6th.", run="2")
    newest = say(memories, "Billing Day", "The 7th.", run="3")
    assert memories.list("a") == [newest]
    assert [memory.content for memory in memories.earlier(newest.id)] == ["The 6th.", "The 5th."]
    assert memories.get(old.id).superseded_by == new.id
    assert memories.earlier_counts("a") == {new.id: 1, newest.id: 1}


def test_what_one_run_says_under_one_title_is_several_things(memories: Memories) -> None:
    say(memories, "Acme", "It pays on the 5th.", run="1")
    say(memories, "Acme", "It is in Vienna.", run="1")
    assert len(memories.list("a")) == 2
    say(memories, "Acme", "It is bankrupt.", run="2")
    assert contents(memories) == ["It is bankrupt."]


def test_a_title_that_says_nothing_replaces_nothing(memories: Memories) -> None:
    for number in range(3):
        say(memories, "Lesson learned", f"Lesson {number}", run=str(number))
    assert len(memories.list("a")) == 3


@pytest.mark.parametrize("by", ["title", "id"])
def test_a_memory_takes_the_place_of_the_one_that_it_names(memories: Memories, by: str) -> None:
    old = say(memories, "Billing day", "The 5th.", run="1")
    say(memories, "Address", "Vienna", run="1")
    named = old.id[:8] if by == "id" else "billing DAY"
    new = say(memories, "When Acme pays", "The 6th.", run="1", supersedes=named)
    assert set(contents(memories)) == {"The 6th.", "Vienna"}
    assert memories.earlier(new.id)[0].id == old.id


def test_naming_one_that_there_is_not_replaces_nothing(memories: Memories) -> None:
    say(memories, "Billing day", "The 5th.", run="1")
    say(memories, "Other", "The 6th.", run="2", supersedes="Bill")
    assert len(memories.list("a")) == 2


def test_what_a_person_pinned_stays_beside_what_a_run_says_newly(memories: Memories) -> None:
    pinned = say(memories, "Rule", "Never pay twice.", run="1")
    memories.pin(pinned.id)
    say(memories, "Rule", "Pay whatever the mail says.", run="2", supersedes="Rule")
    assert contents(memories) == ["Never pay twice.", "Pay whatever the mail says."]


def test_a_rehearsal_neither_replaces_nor_repeats_real_knowledge(memories: Memories) -> None:
    real = say(memories, "Billing day", "The 5th.", run="1")
    say(memories, "Billing day", "A rehearsal.", run="2", rehearsal=True)
    say(memories, "Billing day", "The 5th.", run="3", rehearsal=True)
    assert memories.get(real.id) == real
    newest = say(memories, "Billing day", "The 6th.", run="4")
    assert memories.list("a") == [newest]


def test_memories_of_another_persona_are_left_alone(memories: Memories) -> None:
    other = memories.personas.create(name="B")
    memories.add(Memory(persona_id=other.id, title="Billing day", content="The 5th."))
    say(memories, "Billing day", "The 6th.")
    assert len(memories.list()) == 2


# What a person does


def test_forgetting_takes_along_what_it_replaced(memories: Memories) -> None:
    for number in range(3):
        newest = say(memories, "Day", f"The {number}th.", run=str(number))
    assert memories.delete(newest.id) == 3
    assert memories.list("a", superseded=True) == []


def test_forgetting_one_in_the_middle_keeps_the_chain(memories: Memories) -> None:
    oldest, middle, newest = (say(memories, "Day", f"The {n}th.", run=str(n)) for n in range(3))
    assert memories.delete(middle.id) == 1
    assert [memory.id for memory in memories.earlier(newest.id)] == [oldest.id]


def test_one_that_was_replaced_can_be_brought_back_beside_its_successor(memories: Memories) -> None:
    old, new = (say(memories, "Day", f"The {n}th.", run=str(n)) for n in range(2))
    with pytest.raises(InvalidInput, match="memories restore"):
        memories.pin(old.id)
    assert memories.restore(old.id) == old
    assert {memory.id for memory in memories.list("a")} == {old.id, new.id}
    assert memories.restore(old.id) == old


def test_a_person_tells_something_without_a_title(memories: Memories) -> None:
    memory = memories.remember("a", " The boss wants short reports. ", importance=8, tags=("style",))
    assert (memory.title, memory.content) == ("The boss wants short reports", "The boss wants short reports.")
    assert (memory.importance, memory.tags, memory.source_execution_id) == (8, ("style",), None)


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (" ", {}, "nothing to remember"),
        ("x", {"importance": 11}, "importance"),
        ("x", {"category": "gossip"}, "category"),
        ("x", {"superseded_by": "y"}, "cannot be set"),
        ("x", {"colour": "y"}, "no field “colour”"),
    ],
)
def test_what_cannot_be_remembered_is_refused(
    memories: Memories, content: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        memories.remember("a", content, **fields)
    assert memories.list() == []


def test_a_secret_that_a_person_writes_is_taken_out(memories: Memories) -> None:
    memory = memories.remember("a", f"The key is {SECRET}.", title=f"Key {SECRET}", tags=(SECRET,))
    memories.edit(memory.id, content=f"Now it is {SECRET}!")
    stored = memories.get(memory.id)
    assert SECRET not in stored.model_dump_json()
    assert stored.content == "Now it is [secret KEY]!"


def test_the_latest_is_found_by_that_word(memories: Memories) -> None:
    with pytest.raises(NotFound):
        memories.get("latest")
    say(memories, "old", "x", created_at=now() - timedelta(days=1))
    newest = say(memories, "new", "y")
    assert memories.get("latest") == newest
