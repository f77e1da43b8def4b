"""The history of a prompt: what changed, going back, naming a version."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personas_nb.entities.persona import Persona
from personas_nb.entities.structured_prompt import CustomSection, StructuredPrompt
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.personas.memories import Memories
from personas_nb.personas.personas import Personas
from personas_nb.personas.prompt_diff import compare
from personas_nb.personas.versions import Versions
from personas_nb.store import migrations
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing


@pytest.fixture
def personas(tmp_path: Path):
    store = Store(tmp_path)
    yield Personas(store, Credentials(store, KeyRing(key_file=tmp_path / "keys.json", use_keyring=False)))
    store.close()


@pytest.fixture
def versions(personas: Personas) -> Versions:
    made = Versions(personas.store, personas)
    personas.create(name="A", identity="You watch invoices.", instructions="1. Read\n2. Write")
    personas.update("a", instructions="1. Read\n2. Check\n3. Write")
    personas.update("a", examples="An example.")
    return made


def prompt(**sections: str) -> Persona:
    return Persona(name="A", structured_prompt=StructuredPrompt(**sections))


def summary(old: Persona, new: Persona) -> str:
    return compare(old, new, a=1, b=2).summary


# Finding


def test_versions_are_listed_newest_first(versions: Versions) -> None:
    assert [row.version for row in versions.list("a")] == [3, 2, 1]


def test_a_version_is_found_by_number_and_by_tag(versions: Versions) -> None:
    versions.tag("a", 2, "production")
    assert versions.get("a", 2) == versions.get("a", "2") == versions.get("a", "production")


def test_an_unknown_version_is_answered_with_those_there_are(versions: Versions) -> None:
    versions.tag("a", 2, "production")
    with pytest.raises(NotFound, match="It has 1 to 3, and the tags production"):
        versions.get("a", 10**30)
    with pytest.raises(NotFound, match="Did you mean “production”"):
        versions.get("a", "prodution")


# What changed


def test_without_numbers_the_current_version_is_compared_with_the_one_before(versions: Versions) -> None:
    difference = versions.diff("a")
    assert (difference.a, difference.b, difference.summary) == (2, 3, "Examples added")
    assert (versions.diff("a", 1).b, versions.diff("a", b=2).a) == (3, 1)


def test_the_first_version_alone_shows_no_change(personas: Personas) -> None:
    personas.create(name="A", identity="x")
    difference = Versions(personas.store, personas).diff("a")
    assert (difference.sections, difference.summary) == ((), "no change in what is said")


def test_a_difference_names_the_words_that_changed(versions: Versions) -> None:
    (section,) = compare(
        prompt(identity="You watch mail."), prompt(identity="You watch all mail."), a=1, b=2
    ).sections
    assert (section.heading, section.status) == ("Identity", "changed")
    assert section.hunks == (("equal", "You watch "), ("insert", "all "), ("equal", "mail."))


def test_the_text_of_a_difference_marks_lines_and_words(versions: Versions) -> None:
    assert versions.diff("a", 1, 3).text.splitlines() == [
        "--- version 1",
        "+++ version 3",
        "@@ Instructions (changed) @@",
        "  1. Read",
        "+ 2. Check",
        "~ [-2-]{+3+}. Write",
        "@@ Examples (added) @@",
        "+ An example.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (prompt(identity="a b c d"), prompt(), "Identity removed"),
        (prompt(identity="Watch the mail."), prompt(identity="Sing a song!"), "Identity rewritten"),
        (prompt(identity="Watch the mail."), prompt(identity="Watch the new mail."), "Identity reworded"),
        (prompt(instructions="a\nb"), prompt(instructions="a\nb\nc"), "Instructions: 1 line added"),
        (prompt(instructions="aa\nb\nc"), prompt(instructions="aa"), "Instructions: 2 lines removed"),
        (prompt(instructions="a\nb"), prompt(instructions="a\n\nb"), "Instructions: 1 line added"),
        (Persona(name="A", system_prompt="x"), prompt(identity="x"), "no change in what is said"),
        (
            Persona(name="A", system_prompt="one two"),
            Persona(name="A", system_prompt="one three two"),
            "Identity reworded",
        ),
        (
            prompt(identity="x"),
            Persona(name="A", structured_prompt="{oops"),
            "Structured prompt (unreadable) added; Identity removed",
        ),
    ],
)
def test_a_summary_says_what_was_done(old: Persona, new: Persona, words: str) -> None:
    assert summary(old, new) == words


def test_a_change_of_a_system_prompt_that_is_not_in_use_is_shown_as_such() -> None:
    old, new = (
        prompt(identity="x").changed(system_prompt="a"),
        prompt(identity="x").changed(system_prompt="b"),
    )
    assert summary(old, new) == "System prompt (not in use) rewritten"


def test_custom_sections_that_change_places_are_reported() -> None:
    tone, style = CustomSection(key="tone", content="t"), CustomSection(key="style", content="s")
    old = Persona(name="A", structured_prompt=StructuredPrompt(custom_sections=(tone, style)))
    new = Persona(name="A", structured_prompt=StructuredPrompt(custom_sections=(style, tone)))
    assert summary(old, new) == "sections reordered"
    assert compare(old, new, a=1, b=2).text.endswith("sections reordered")


def test_a_custom_section_called_like_another_is_compared_on_its_own() -> None:
    own = CustomSection(key="k", label="Identity", content="mine")
    old = Persona(name="A", structured_prompt=StructuredPrompt(identity="x"))
    new = Persona(name="A", structured_prompt=StructuredPrompt(identity="x", custom_sections=(own,)))
    assert summary(old, new) == "Identity (2) added"


LINES = st.lists(st.sampled_from(["", "a b", "a c", "b\t", "Größe 5", "\u2028x", "…"]), max_size=8).map(
    "\n".join
)


@given(old=LINES, new=LINES)
@settings(deadline=None)
def test_both_texts_can_be_put_together_from_the_hunks(old: str, new: str) -> None:
    sections = compare(prompt(identity=old), prompt(identity=new), a=1, b=2).sections
    if old.strip() == new.strip():
        assert sections == ()
    else:
        (section,) = sections
        assert (section.old, section.new) == (old.strip(), new.strip())


def test_a_prompt_of_many_lines_is_compared_at_once() -> None:
    old = "\n".join(f"{number}. do the thing\n" for number in range(5_000))
    new = old.replace("2500. do", "2500. never do")
    (section,) = compare(prompt(instructions=old), prompt(instructions=new), a=1, b=2).sections
    assert [(op, text.strip()) for op, text in section.hunks if op != "equal"] == [("insert", "never")]
    assert section.summary == "Instructions: 1 line added, 1 removed"


# Going back


def test_going_back_makes_a_new_version_with_the_old_prompt(versions: Versions, personas: Personas) -> None:
    before = personas.get("a")
    back = versions.rollback("a", 1)
    assert back.prompt == StructuredPrompt(identity="You watch invoices.", instructions="1. Read\n2. Write")
    newest = versions.list(back)[0]
    assert (newest.version, newest.author, newest.change_summary) == (
        4,
        "rollback",
        "rolled back to version 1: Instructions: 1 line added, 2 removed; Examples removed",
    )
    same = {"structured_prompt": before.structured_prompt, "version": 3, "updated_at": before.updated_at}
    assert back.changed(**same) == before


def test_going_back_to_the_prompt_that_is_current_changes_nothing(
    versions: Versions, personas: Personas
) -> None:
    versions.rollback("a", 1)
    current = personas.get("a")
    assert versions.rollback("a", 1) == versions.rollback("a", 4) == current
    assert len(versions.list("a")) == 4


def test_going_back_also_restores_a_prompt_that_could_not_be_read(
    versions: Versions, personas: Personas
) -> None:
    personas.create(name="B", structured_prompt="{oops", system_prompt="s")
    personas.update("b", structured_prompt={"identity": "fine"})
    assert versions.rollback("b", 1).structured_prompt == "{oops"


# Tags


def test_a_tag_moves_from_one_version_to_another(versions: Versions) -> None:
    versions.tag("a", 1, "production")
    assert versions.tag("a", 3, "Production").tags == ("Production",)
    assert [row.tags for row in versions.list("a")] == [("Production",), (), ()]
    assert versions.tag("a", "production", None).tags == ()
    assert [row.tags for row in versions.list("a")] == [(), (), ()]


def test_a_version_has_several_tags_and_loses_the_one_it_was_named_by(versions: Versions) -> None:
    for tag in ("production", "before-audit", "Before-Audit"):
        versions.tag("a", 2, tag)
    assert versions.get("a", "PRODUCTION").tags == ("production", "Before-Audit")
    assert versions.tag("a", "production", None).tags == ("Before-Audit",)
    versions.tag("a", 2, "calm")
    assert versions.tag("a", 2, None).tags == ()


def test_the_current_version_is_named_so(versions: Versions) -> None:
    assert versions.get("a", "current") == versions.get("a", "Latest") == versions.get("a", 3)
    versions.tag("a", 1, "production")
    difference = versions.diff("a", "production", "current")
    assert (difference.a, difference.b) == (1, 3)


def test_a_tag_of_one_persona_leaves_that_of_another(versions: Versions, personas: Personas) -> None:
    personas.create(name="B")
    versions.tag("b", 1, "production")
    versions.tag("a", 1, "production")
    assert versions.get("b", "production").version == 1


@pytest.mark.parametrize("tag", ["", "7", "two words", " x", "x" * 65, "current", "None"])
def test_a_tag_that_could_be_taken_for_something_else_is_refused(versions: Versions, tag: str) -> None:
    with pytest.raises(InvalidInput, match=r"one word|means something already"):
        versions.tag("a", 1, tag)


# Upgrading


def test_tags_and_memories_of_an_older_store_come_along(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "personas.db", isolation_level=None)) as db:
        migrations.apply(db, stop_before="m011_memories_and_versions")
        at = "2026-01-01T00:00:00.000000Z"
        for table, row in {
            "personas": {"id": "p", "project_id": "default", "slug": "a", "name": "A", "enabled": 1,
                         "max_concurrent": 1, "version": 2, "created_at": at, "updated_at": at,
                         "description": "", "system_prompt": "", "permissions": "assigned", "uses_memories": 1,
                         "notification_channels": "[]", "design_context": "[]"},
            "executions": {"id": "e", "persona_id": "p", "status": "completed", "claim_token": 1,
                           "rehearsal": 1, "created_at": at},
            "memories": {"id": "m", "persona_id": "p", "title": "t", "content": "c", "category": "fact",
                         "importance": 5, "pinned": 0, "tags": "[]", "source_execution_id": "e",
                         "created_at": at, "updated_at": at},
        }.items():  # fmt: skip
            marks = ", ".join("?" * len(row))
            db.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", list(row.values()))
        for number, tag in ((1, "production"), (2, None)):
            db.execute(
                "insert into prompt_versions (id, persona_id, version, system_prompt, change_summary, author, "
                "tag, created_at) values (?, 'p', ?, '', '', 'user', ?, ?)",
                [str(number), number, tag, at],
            )
    store = Store(tmp_path)
    personas = Personas(store, Credentials(store, KeyRing(key_file=tmp_path / "k", use_keyring=False)))
    assert [row.tags for row in Versions(store, personas).list("a")] == [(), ("production",)]
    (memory,) = Memories(store, personas).list("a")
    assert (memory.rehearsal, memory.repeats, memory.superseded_by) == (True, 0, None)
    store.close()
