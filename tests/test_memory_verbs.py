"""Memories as they are typed: looked at, told, corrected, brought back, forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shell import TestingShell, shell_in

from personas_nb import Studio
from personas_nb.entities.memory import Memory
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.verbs.usage import WrongUsage


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as opened:
        opened.personas.create(name="Mail boy", system_prompt="You sort mail.")
        yield opened


def test_a_person_tells_a_persona_something_and_corrects_it(shell: TestingShell, studio: Studio) -> None:
    view = shell.run(
        '%persona memories add mail-boy "Acme pays on the 5th." --title "Billing day" --importance 8 --tag acme day'
    )
    assert view.text.startswith("✓ Mail boy remembers “Billing day”.")
    assert (view.value.importance, view.value.tags) == (8, ("acme", "day"))
    again = shell.run('%persona memories add mail-boy "acme pays on 5th" --title "billing day"')
    assert "knows that already" in again.text
    newer = shell.run(
        "%%persona memories add mail-boy --title 'Payment' --supersedes 'Billing day'\nAcme pays on the 6th."
    )
    assert "in the place of “Billing day”" in newer.text
    shell.run('%persona memories edit latest importance=9 content="Acme pays on the 7th."')
    (memory,) = studio.memories.list("mail-boy")
    assert (memory.title, memory.importance, memory.content) == ("Payment", 9, "Acme pays on the 7th.")


def test_the_list_says_what_the_last_prompt_was_told_and_why(shell: TestingShell, studio: Studio) -> None:
    assert "no run was told of them yet" in shell.run("%persona memories mail-boy").text
    shell.run('%persona memories add mail-boy --title Acme "Invoices of Acme are due after 14 days."')
    shell.run('%persona memories add mail-boy --title Lunch "The canteen closes at two." --pin')
    run = shell.run("%%persona run mail-boy --quiet\nan invoice of Acme")
    shell.run('%persona memories add mail-boy --title New "Said after the run."')
    text = shell.run("%persona memories mail-boy").text
    assert f"the last prompt was told 2 of 2 (154 of 6,000 characters): rehearsal {run.id[:8]}" in text
    assert "✓ no. 1 of 2" in text
    assert "○ newer" in text
    assert "acme, invoices" in text.partition("Why these were told")[2]


def test_it_can_be_asked_beforehand_what_a_run_would_be_told(shell: TestingShell, studio: Studio) -> None:
    studio.personas.update("mail-boy", uses_memories=False)
    shell.run('%persona memories add mail-boy --title Acme "Invoices of Acme are due after 14 days."')
    text = shell.run('%persona memories mail-boy --for "invoices of acme"').text
    assert "with “invoices of acme” 1 of 1 would be told" in text
    assert "%persona set mail-boy uses_memories=true" in text
    with pytest.raises(WrongUsage, match="--for needs the persona"):
        shell.run('%persona memories --for "x"')


def test_what_was_replaced_is_shown_and_can_be_brought_back(shell: TestingShell, studio: Studio) -> None:
    for day in ("5th", "6th"):
        shell.run(f'%persona memories add mail-boy --title "Billing day" "The {day}."')
    new = studio.memories.list("mail-boy")[0]
    (old,) = studio.memories.earlier(new.id)
    assert "replaced 1" in shell.run("%persona memories mail-boy").text
    assert "○ superseded" in shell.run("%persona memories mail-boy --all").text
    assert "Billing day: The 5th." in shell.run("%persona memories show latest").text
    shown = shell.run(f"%persona memories show {old.id[:8]}").text
    assert f"Billing day ({new.id[:8]})" in shown
    assert "holds again" in shell.run(f"%persona memories restore {old.id[:8]}").text
    assert "nothing changed" in shell.run(f"%persona memories restore {old.id[:8]}").text
    assert len(studio.memories.list("mail-boy")) == 2


def test_pinning_and_forgetting_say_what_they_mean(shell: TestingShell, studio: Studio) -> None:
    for day in ("5th", "6th"):
        shell.run(f'%persona memories add mail-boy --title "Billing day" "The {day}."')
    assert "no run replaces it" in shell.run("%persona memory pin latest").text
    assert "nothing changed" in shell.run("%persona memory pin latest").text
    assert "by its score" in shell.run("%persona memory unpin latest").text
    assert "with 1 that it had replaced" in shell.run("%persona memory delete latest").text
    assert studio.memories.list(superseded=True) == []


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("memories add mail-boy", WrongUsage, "needs"),
        ('memories add mail-boy "x" --importance 11', InvalidInput, "importance"),
        ('memories add mail-boy "x" --category gossip', WrongUsage, "category"),
        ('memories add nobody "x"', NotFound, "no persona"),
        ("memories edit latest", WrongUsage, "needs"),
        ("memories edit latest weight=3", InvalidInput, "no field “weight”"),
        ("memories edit latest superseded_by=x", InvalidInput, "cannot be set"),
        ("memories show zzzz", NotFound, "no memory"),
        ("memories nobody", NotFound, "no persona"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    shell: TestingShell, studio: Studio, line: str, kind: type[Exception], words: str
) -> None:
    shell.run('%persona memories add mail-boy "Something."')
    before = studio.memories.list()
    with pytest.raises(kind, match=words):
        shell.run(f"%persona {line}")
    assert studio.memories.list() == before


def test_many_memories_are_listed_up_to_a_limit(shell: TestingShell, studio: Studio) -> None:
    owner = studio.personas.get("mail-boy").id
    for number in range(8):
        studio.memories.add(Memory(persona_id=owner, title=f"Rule {number}", content=f"Rule of {number}"))
    assert (
        "… and 5 older: %persona memories mail-boy --limit 8"
        in shell.run("%persona memories mail-boy --limit 3").text
    )
    assert "… and 5 older: %persona memories --limit 8" in shell.run("%persona memories --limit 3").text
