"""Every verb that an error, a card or a docstring tells a person to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import personas_nb
from personas_nb.verbs.table import VERBS, find

ROOT = Path(personas_nb.__file__).parent
TYPED = re.compile(r"%persona ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)")
PROSE = {"in", "is", "or", "and", "alone", "to", "as", "twice", "again", "then", "the"}

# a word that names a sub-verb somewhere must name one of this noun
SUBS = {verb.sub for verb in VERBS if verb.sub} | {"add", "start", "stop", "check", "edit", "fire"}


def hints() -> list[tuple[str, str]]:
    found = []
    documents = [*ROOT.rglob("*.py"), *(ROOT.parent / "docs").glob("*.md"), ROOT.parent / "README.md"]
    for path in documents:
        text = path.read_text(encoding="utf-8")
        found += [(path.name, match[1]) for match in TYPED.finditer(text)]
    return found


def test_every_verb_that_a_person_is_told_to_type_exists() -> None:
    unknown = []
    for name, words in hints():
        first = words.split()
        if first[0] in PROSE:
            continue
        if first[0] == "help":
            first = first[1:] or first
        verb, count = find(first)
        is_other_sub = count == 1 and len(first) == 2 and first[1] in SUBS and not (verb and verb.free_text)
        if verb is None or count == 0 or is_other_sub:
            unknown.append((name, words))
    assert unknown == []


def test_there_are_hints_to_check() -> None:
    assert len(hints()) > 50
