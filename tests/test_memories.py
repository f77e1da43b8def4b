"""What personas remember, and what a run is told of it."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personas_nb.entities.base import now
from personas_nb.entities.memory import Memory
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.personas.memories import FRAME_CHARS, Memories
from personas_nb.personas.personas import Personas
from personas_nb.personas.words import words_of
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

TODAY = now()


@pytest.fixture
def memories(tmp_path: Path):
    store = Store(tmp_path)
    keys = KeyRing(key_file=tmp_path / "keys.json", use_keyring=False)
    personas = Personas(store, Credentials(store, keys))
    personas.create(name="A")
    yield Memories(store, personas)
    store.close()


@pytest.fixture
def owner(memories: Memories) -> str:
    return memories.personas.get("a").id


def titles(found: list[Memory]) -> list[str]:
    return [memory.title for memory in found]


# Keeping


def test_what_is_added_is_listed_pinned_first_then_newest(memories: Memories, owner: str) -> None:
    for days, title in enumerate(["newest", "middle", "oldest"]):
        memories.add(Memory(persona_id=owner, title=title, created_at=TODAY - timedelta(days=days)))
    memories.pin(memories.list("a")[2].id)
    assert titles(memories.list("a")) == titles(memories.list()) == ["oldest", "newest", "middle"]


def test_a_duplicate_is_not_written_twice_and_counts_for_more(memories: Memories, owner: str) -> None:
    first = memories.add(Memory(persona_id=owner, title="t", content="c", tags=("x",)))
    again = memories.add(Memory(persona_id=owner, title="t", content="c", importance=9, tags=("y", "x")))
    assert (again.id, again.importance, again.tags, again.repeats) == (first.id, 9, ("x", "y"), 1)
    assert memories.list("a") == [again]


def test_a_memory_of_nobody_is_refused(memories: Memories) -> None:
    with pytest.raises(NotFound, match="no persona"):
        memories.add(Memory(persona_id="nobody", title="t"))


def test_editing_changes_the_fields_given_and_no_other(memories: Memories, owner: str) -> None:
    made = memories.add(Memory(persona_id=owner, title="t", content="c", tags=("x",)))
    changed = memories.edit(made.id[:8], importance="9")
    assert changed == memories.get(made.id)
    assert changed.changed(importance=5, updated_at=made.updated_at) == made
    assert memories.edit(made.id, importance=9) == changed


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"importance": 11}, "importance"),
        ({"titel": "x"}, "Did you mean “title”"),
        ({"persona_id": "x"}, "cannot be set"),
    ],
)
def test_an_edit_that_cannot_be_is_refused(
    memories: Memories, owner: str, fields: dict[str, object], words: str
) -> None:
    made = memories.add(Memory(persona_id=owner, title="t"))
    with pytest.raises(InvalidInput, match=words):
        memories.edit(made.id, **fields)
    assert memories.get(made.id) == made


def test_a_deleted_memory_is_gone(memories: Memories, owner: str) -> None:
    made = memories.add(Memory(persona_id=owner, title="t"))
    memories.delete(made.id[:6])
    assert memories.list("a") == []
    with pytest.raises(NotFound, match="There is no memory"):
        memories.delete(made.id)


# Choosing


def remember(
    memories: Memories, owner: str, title: str, content: str = "", days: float = 0, **fields: object
) -> Memory:
    at = TODAY - timedelta(days=days)
    return memories.add(
        Memory(persona_id=owner, title=title, content=content, created_at=at, updated_at=at, **fields)
    )  # type: ignore[arg-type]


def test_what_has_words_in_common_with_the_input_comes_first(memories: Memories, owner: str) -> None:
    remember(memories, owner, "Lunch", "The canteen closes at two.")
    remember(memories, owner, "ACME", "Invoices of ACME are due after 14 days.")
    assert titles(memories.relevant(owner, "an INVOICE? no: invoices from acme")) == ["ACME", "Lunch"]


def test_stop_words_are_no_relevance(memories: Memories, owner: str) -> None:
    remember(memories, owner, "the", "of the and with which", importance=4)
    remember(memories, owner, "unrelated", importance=5)
    assert titles(memories.relevant(owner, "the of and with which")) == ["unrelated", "the"]


def test_a_rare_word_counts_more_than_one_in_every_memory(memories: Memories, owner: str) -> None:
    for number in range(5):
        remember(memories, owner, f"invoice {number}0", importance=5)
    remember(memories, owner, "invoice Zagreb", importance=5, days=1)
    assert titles(memories.relevant(owner, "invoice from Zagreb"))[0] == "invoice Zagreb"


def test_of_equally_relevant_ones_the_more_important_and_the_newer_come_first(
    memories: Memories, owner: str
) -> None:
    remember(memories, owner, "old tax", days=30, importance=5)
    remember(memories, owner, "new tax", importance=5)
    remember(memories, owner, "vital tax", importance=6)
    assert titles(memories.relevant(owner, "tax")) == ["vital tax", "new tax", "old tax"]


def test_thirty_days_weigh_as_much_as_half_the_importance(memories: Memories, owner: str) -> None:
    remember(memories, owner, "newest tax", importance=1)
    remember(memories, owner, "tax month", days=30, importance=10)
    remember(memories, owner, "tax today", importance=6)
    remember(memories, owner, "tax lately", importance=4)
    assert titles(memories.relevant(owner, "tax")) == ["tax today", "tax month", "tax lately", "newest tax"]


def test_an_important_old_memory_outlives_a_trivial_new_one(memories: Memories, owner: str) -> None:
    remember(memories, owner, "trivial", importance=1)
    remember(memories, owner, "law", days=3_000, importance=10)
    assert titles(memories.relevant(owner, None)) == ["law", "trivial"]


def test_pinned_memories_come_first_whatever_they_say(memories: Memories, owner: str) -> None:
    remember(memories, owner, "tax", importance=10)
    remember(memories, owner, "greeting", importance=1, days=900, pinned=True)
    assert titles(memories.relevant(owner, "tax")) == ["greeting", "tax"]


def test_one_that_does_not_fit_is_left_out_and_a_smaller_one_follows(memories: Memories, owner: str) -> None:
    remember(memories, owner, "big", "x" * 500, importance=10)
    remember(memories, owner, "mid", "x" * 50, importance=9)
    remember(memories, owner, "tip", importance=1)
    assert titles(memories.relevant(owner, "", limit_chars=2 * FRAME_CHARS + 56)) == ["mid", "tip"]
    assert memories.relevant(owner, "", limit_chars=0) == []


def test_memories_of_another_persona_are_not_told(memories: Memories, owner: str) -> None:
    other = memories.personas.create(name="B")
    remember(memories, owner, "mine")
    assert memories.relevant(other.id, "mine") == []


@given(
    limit=st.integers(0, 2_000), text=st.text(max_size=40), sizes=st.lists(st.integers(0, 400), max_size=8)
)
@settings(max_examples=40, deadline=None)
def test_the_limit_is_kept_and_the_same_question_has_the_same_answer(
    tmp_path_factory: pytest.TempPathFactory, limit: int, text: str, sizes: list[int]
) -> None:
    home = tmp_path_factory.mktemp("home")
    store = Store(home)
    personas = Personas(store, Credentials(store, KeyRing(key_file=home / "k", use_keyring=False)))
    memories, owner = Memories(store, personas), personas.create(name="A").id
    for number, size in enumerate(sizes):
        remember(memories, owner, f"t{number}", text + "x" * size, pinned=number == 1)
    found = memories.relevant(owner, text, limit)
    assert sum(len(memory.title) + len(memory.content) for memory in found) <= limit
    assert memories.relevant(owner, text, limit) == found
    store.close()


# Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Straße STRASSE", {"strasse"}),
        ("Ünïcode naïve", {"unicode", "naive"}),
        ("请检查发票", {"请检", "检查", "查发", "发票"}),
        ("a 5 b_c %", {"5"}),
        ("Счёт-фактура №7", {"счет", "фактура", "no7"}),
        ("ｆｕｌｌ ﬁne", {"full", "fine"}),
        ("", set()),
    ],
)
def test_words_are_the_same_however_they_are_written(text: str, words: set[str]) -> None:
    assert words_of(text) == words


def test_a_chinese_memory_is_found_by_a_chinese_question(memories: Memories, owner: str) -> None:
    remember(memories, owner, "午餐", "食堂两点关门", importance=6)
    remember(memories, owner, "发票", "发票十四天内付款")
    assert titles(memories.relevant(owner, "请检查这张发票"))[0] == "发票"
