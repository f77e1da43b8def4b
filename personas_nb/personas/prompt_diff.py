"""What differs between two states of a prompt: section by section, word by word, and in one line."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Literal, Protocol

from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.personas.word_diff import Hunk, hunks, line_counts, marked

Status = Literal["added", "removed", "changed"]

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
        if _likeness(self.hunks) < REWRITTEN_BELOW:
            return f"{self.heading} rewritten"
        added, removed = line_counts(self.old, self.new)
        if (added, removed) == (1, 1) and len(self.new.splitlines()) == 1:
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
    def word_counts(self) -> tuple[int, int]:
        """How many words came and how many went."""
        sizes: Counter[str] = Counter()
        for section in self.sections:
            for op, text in section.hunks:
                sizes[op] += len(text.split())
        return sizes["insert"], sizes["delete"]

    @property
    def text(self) -> str:
        """The difference as plain text, word by word: ``[-gone-]`` and ``{+come+}``.

        A whole line begins with ``-`` or ``+``, one with changes in it with ``~``; what stayed is shortened.
        """
        lines = [f"--- version {self.a}", f"+++ version {self.b}"]
        for section in self.sections:
            lines.append(f"@@ {section.heading} ({section.status}) @@")
            lines += marked(section.hunks)
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
            found.append(SectionDiff(heading, status, hunks(ours, theirs)))
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


def _likeness(hunks: tuple[Hunk, ...]) -> float:
    """How much stayed, spaces not counted; 1 where text was only added or only removed."""
    size: Counter[str] = Counter()
    for op, text in hunks:
        size[op] += len("".join(text.split()))
    shorter = size["equal"] + min(size["delete"], size["insert"])
    return size["equal"] / shorter if shorter else 1.0
