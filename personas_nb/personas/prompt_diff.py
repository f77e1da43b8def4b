"""What differs between two states of a prompt: section by section, in words and in text.

Lines are compared first, and words only inside the lines that changed, so that long prompts stay fast.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from personas_nb.entities.structured_prompt import StructuredPrompt

Op = Literal["equal", "delete", "insert"]
Status = Literal["added", "removed", "changed"]
Hunk = tuple[Op, str]

# Comparing words is quadratic; above this many, changed lines are shown as a whole.
WORDS_MAX = 1_000
# Below this likeness (0 to 1) a changed text counts as rewritten.
REWRITTEN_BELOW = 0.5


class Prompt(Protocol):
    """The two tiers of a prompt, as a persona and a prompt version have them."""

    @property
    def system_prompt(self) -> str:
        """The simple text."""

    @property
    def structured_prompt(self) -> StructuredPrompt | str | None:
        """The six sections, or a text that could not be read as such."""


@dataclass(frozen=True)
class SectionDiff:
    """One section that differs. The hunks without the deleted ones are its new text, without the inserted its old."""

    heading: str
    status: Status
    hunks: tuple[Hunk, ...]

    @property
    def old(self) -> str:
        """The text before; empty when the section was added."""
        return "".join(text for op, text in self.hunks if op != "insert")

    @property
    def new(self) -> str:
        """The text after; empty when the section was removed."""
        return "".join(text for op, text in self.hunks if op != "delete")

    @property
    def summary(self) -> str:
        """The change in a few words, such as “Instructions: 3 lines added, 1 removed”."""
        if self.status != "changed":
            return f"{self.heading} {self.status}"
        old, new = self.old.splitlines(), self.new.splitlines()
        if _likeness(self.hunks) < REWRITTEN_BELOW:
            return f"{self.heading} rewritten"
        added, removed = _line_counts(old, new)
        if (added, removed) == (1, 1) and len(new) == 1:
            return f"{self.heading} reworded"
        if not added and not removed:
            return f"{self.heading}: spacing changed"
        counts = [f"{added} line{'s' * (added != 1)} added"] if added else []
        if removed:
            counts.append(f"{removed} removed" if added else f"{removed} line{'s' * (removed != 1)} removed")
        return f"{self.heading}: {', '.join(counts)}"


@dataclass(frozen=True)
class PromptDiff:
    """The sections that differ between version ``a`` and version ``b`` of a prompt; none when they are alike."""

    a: int
    b: int
    sections: tuple[SectionDiff, ...]
    reordered: bool = False

    @property
    def summary(self) -> str:
        """All changes in one line, such as “Identity rewritten; Examples added”."""
        parts = [section.summary for section in self.sections]
        if self.reordered:
            parts.append("sections reordered")
        return "; ".join(parts) or "no change in what is said"

    @property
    def text(self) -> str:
        """The difference as plain text: removed lines begin with ``-``, added ones with ``+``."""
        lines = [f"--- version {self.a}", f"+++ version {self.b}"]
        for section in self.sections:
            lines.append(f"@@ {section.heading} ({section.status}) @@")
            old, new = section.old.splitlines(), section.new.splitlines()
            # The first three lines of a unified diff name files and a place; the heading does that here.
            changes = list(difflib.unified_diff(old, new, n=3, lineterm=""))[3:]
            lines += ["…" if line.startswith("@@") else line for line in changes]
        if self.reordered or not self.sections:
            lines.append("sections reordered" if self.reordered else self.summary)
        return "\n".join(lines)


def compare(old: Prompt, new: Prompt, *, a: int, b: int) -> PromptDiff:
    """The difference between two states of a prompt, as the model reads them.

    ``system_prompt`` counts as the identity where there is no structured prompt. Where there is one on both
    sides, a change of the then unused ``system_prompt`` is a section of its own when nothing else changed.
    """
    before, after = _sections(old), _sections(new)
    # A redesign changes both texts alike; the unused one is worth a word only when nothing else changed.
    if before == after and _is_structured(old) and _is_structured(new):
        before["System prompt (not in use)"] = old.system_prompt
        after["System prompt (not in use)"] = new.system_prompt
    found = []
    for heading in [*after, *(name for name in before if name not in after)]:
        ours, theirs = before.get(heading, ""), after.get(heading, "")
        if ours != theirs:
            status: Status = "changed" if ours and theirs else "added" if theirs else "removed"
            found.append(SectionDiff(heading, status, tuple(_hunks(ours, theirs))))
    common = [name for name in before if name in after]
    return PromptDiff(a, b, tuple(found), reordered=common != [name for name in after if name in before])


def _is_structured(prompt: Prompt) -> bool:
    value = prompt.structured_prompt
    return isinstance(value, StructuredPrompt) and not value.is_empty()


def _sections(prompt: Prompt) -> dict[str, str]:
    value = prompt.structured_prompt
    if isinstance(value, StructuredPrompt) and not value.is_empty():
        pairs = value.sections()
    else:
        pairs = [("Identity", prompt.system_prompt.strip())] if prompt.system_prompt.strip() else []
    if isinstance(value, str):
        pairs.append(("Structured prompt (unreadable)", value))
    found: dict[str, str] = {}
    for heading, text in pairs:
        # A section of one's own may be called like another.
        names = (heading if n == 1 else f"{heading} ({n})" for n in itertools.count(1))
        found[next(name for name in names if name not in found)] = text
    return found


def _hunks(old: str, new: str) -> Iterator[Hunk]:
    yield from _merged(_compared(old.splitlines(keepends=True), new.splitlines(keepends=True), by_word=True))


def _compared(old: list[str], new: list[str], *, by_word: bool) -> Iterator[Hunk]:
    # Among many lines the popular ones (empty ones, mostly) are no anchors; among few words they are.
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=by_word)
    for op, a1, a2, b1, b2 in matcher.get_opcodes():
        gone, come = "".join(old[a1:a2]), "".join(new[b1:b2])
        if op == "equal":
            yield "equal", come
        elif op == "replace" and by_word:
            yield from _by_word(gone, come)
        else:
            yield "delete", gone
            yield "insert", come


def _by_word(gone: str, come: str) -> Iterator[Hunk]:
    old, new = (re.findall(r"\w+|\s+|[^\w\s]", text) for text in (gone, come))
    if max(len(old), len(new)) > WORDS_MAX:
        yield "delete", gone
        yield "insert", come
    else:
        yield from _compared(old, new, by_word=False)


def _merged(hunks: Iterator[Hunk]) -> Iterator[Hunk]:
    """Neighbours of the same kind as one, and no empty ones."""
    current: Hunk | None = None
    for op, text in hunks:
        if not text:
            continue
        if current and current[0] == op:
            current = (op, current[1] + text)
            continue
        if current:
            yield current
        current = (op, text)
    if current:
        yield current


def _likeness(hunks: tuple[Hunk, ...]) -> float:
    """How much stayed, spaces not counted; 1 where text was only added or only removed."""
    size: Counter[str] = Counter()
    for op, text in hunks:
        size[op] += len("".join(text.split()))
    shorter = size["equal"] + min(size["delete"], size["insert"])
    return size["equal"] / shorter if shorter else 1.0


def _line_counts(old: list[str], new: list[str]) -> tuple[int, int]:
    added = removed = 0
    for op, a1, a2, b1, b2 in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if op != "equal":
            removed += a2 - a1
            added += b2 - b1
    return added, removed
