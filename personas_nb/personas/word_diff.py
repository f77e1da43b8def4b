"""What differs between two texts, word by word, fast for any two.

- Lines are matched first, so that an inserted line is one; then lines that are much alike, so that a step that got
  another number stays a line; words only inside the lines that changed.
- Matches are longest common subsequences by rapidfuzz, whose cost depends on the lengths and not on how often a line
  or a word repeats.
- A few words that two rewritten stretches happen to share are no anchor: they count as rewritten too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rapidfuzz.distance import Opcode

Op = Literal["equal", "delete", "insert"]
Hunk = tuple[Op, str]
Piece = tuple[Op | Literal["skip"], str]

# What a comparison costs grows with the product of both lengths. Up to here (14 000 words against as many) it takes
# 25 MB and 50 ms; beyond, a stretch is shown as a whole.
PAIRS_MAX = 200_000_000
# Changed lines are paired where there are at most so many possible pairs.
PAIRED_MAX = 900
# Two lines are one that changed when they are more alike than this (0 to 1).
ALIKE_FROM = 0.5
# A line of which less than this share stays is another line.
REWRITTEN_BELOW = 0.3
# Pairs of lines are shown unless that leaves out more than a fifth of what the words of all lines have in common, as
# it does where a paragraph was wrapped anew.
PAIRS_KEEP = 0.8
# What stays next to a change when a text is shortened.
CONTEXT_LINES, CONTEXT_CHARS = 2, 240
# Scripts that are written without spaces are compared sign by sign.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]+")
_SURROGATES = range(0xD800, 0xE000)  # numbers that are no characters


class _Same(NamedTuple):
    """A stretch that both texts have: where it is in the old one, where in the new one, how long."""

    a: int
    b: int
    size: int


def hunks(old: str, new: str) -> tuple[Hunk, ...]:
    """The way from one text to the other; without the deleted hunks it is the new text, without the inserted the old.

    >>> hunks("You watch mail.", "You watch all mail.")
    (('equal', 'You watch '), ('insert', 'all '), ('equal', 'mail.'))
    """
    return tuple(_merged(_by_line(old, new)))


def line_counts(old: str, new: str) -> tuple[int, int]:
    """How many lines were added and removed; a changed line is one of each.

    >>> line_counts("a\\nb", "a\\nc\\nd")
    (2, 1)
    """
    before, after = old.splitlines(), new.splitlines()
    kept = sum(same.size for same in _common(before, after))
    return len(after) - kept, len(before) - kept


def _by_line(old: str, new: str) -> Iterator[Hunk]:
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    a = b = 0
    for same in (*_common(before, after), _Same(len(before), len(after), 0)):
        gone, come = "".join(before[a : same.a]), "".join(after[b : same.b])
        if not (gone and come):
            yield "delete", gone
            yield "insert", come
        elif (same.a - a) * (same.b - b) in range(2, PAIRED_MAX + 1):
            yield from _by_pair(before[a : same.a], after[b : same.b])
        else:
            yield from _by_word(gone, come)
        a, b = same.a + same.size, same.b + same.size
        yield "equal", "".join(before[same.a : a])


def _by_pair(old: list[str], new: list[str]) -> list[Hunk]:
    """Changed lines, each with the one that it was; as one text where that keeps much more."""
    whole = list(_by_word("".join(old), "".join(new)))
    paired: list[Hunk] = []
    a = b = 0
    for one, other in (*_pairs(old, new), (len(old), len(new))):
        paired += _by_word("".join(old[a:one]), "".join(new[b:other]))  # what is like no line
        if one < len(old):
            paired += _by_word(old[one], new[other])
        a, b = one + 1, other + 1
    return paired if _kept(paired) >= PAIRS_KEEP * _kept(whole) else whole


def _pairs(old: list[str], new: list[str]) -> list[tuple[int, int]]:
    """The lines that are much alike, in order, so that they are alike as much as can be."""
    from rapidfuzz.distance import Indel

    likeness = [[Indel.normalized_similarity(one, other) for other in new] for one in old]
    # best[i][j]: of the lines from i and from j on
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i in reversed(range(len(old))):
        for j in reversed(range(len(new))):
            alike = likeness[i][j] if likeness[i][j] > ALIKE_FROM else 0.0
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + alike)
    found, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            found.append((i, j))
            i, j = i + 1, j + 1
    return found


def _kept(found: Iterable[Hunk]) -> int:
    """How many characters stay, spaces not counted."""
    return sum(len("".join(text.split())) for op, text in found if op == "equal")


def _by_word(old: str, new: str) -> Iterator[Hunk]:
    anchors = _anchors(old, new)
    kept = sum(same.size for same in anchors)
    if _is_line(old) and _is_line(new) and kept < REWRITTEN_BELOW * min(len(old), len(new)):
        anchors = []
    a = b = 0
    for same in (*anchors, _Same(len(old), len(new), 0)):
        gone, come = old[a : same.a], new[b : same.b]
        head, tail = _shared_space(gone, come)
        yield "equal", head
        yield "delete", gone[len(head) : len(gone) - len(tail)]
        yield "insert", come[len(head) : len(come) - len(tail)]
        yield "equal", tail
        a, b = same.a + same.size, same.b + same.size
        yield "equal", old[same.a : a]


def _is_line(text: str) -> bool:
    return "\n" not in text.rstrip("\n")


def _shared_space(gone: str, come: str) -> tuple[str, str]:
    """The white space that both begin with, and that both end with."""
    head = tail = 0
    limit = min(len(gone), len(come))
    while head < limit and gone[head] == come[head] and gone[head].isspace():
        head += 1
    while tail < limit - head and gone[-1 - tail] == come[-1 - tail] and gone[-1 - tail].isspace():
        tail += 1
    return gone[:head], gone[len(gone) - tail :]


def _anchors(old: str, new: str) -> list[_Same]:
    """Stretches of words that both texts have and that say something, in characters."""
    before, after = list(_WORD.finditer(old)), list(_WORD.finditer(new))
    found: list[_Same] = []
    for run in _common([word[0] for word in before], [word[0] for word in after]):
        begin = _Same(before[run.a].start(), after[run.b].start(), 0)
        for one, other in zip(before[run.a : run.a + run.size], after[run.b : run.b + run.size], strict=True):
            end_a, end_b = begin.a + begin.size, begin.b + begin.size
            if old[end_a : one.start()] != new[end_b : other.start()]:  # other spaces between two words
                found.append(begin)
                begin = _Same(one.start(), other.start(), 0)
            begin = begin._replace(size=one.end() - begin.a)
        found.append(begin)
    return _worthwhile(found, len(old), len(new))


def _worthwhile(found: Iterable[_Same], len_old: int, len_new: int) -> list[_Same]:
    """Without those that are no longer than what changed before and what changed behind them."""
    kept: list[_Same] = []
    changed_before: list[int] = []  # in front of each that is kept

    for same in (*found, _Same(len_old, len_new, 0)):
        while True:
            last = kept[-1] if kept else _Same(0, 0, 0)
            # Mostly a space on either side belongs to neither.
            size = max(same.a - last.a, same.b - last.b) - last.size - 2
            if not kept or last.size > min(size, changed_before[-1]):
                break
            kept.pop()
            changed_before.pop()
        kept.append(same)
        changed_before.append(size)
    return kept[:-1]


def _common(old: Sequence[str], new: Sequence[str]) -> list[_Same]:
    """A longest common subsequence, as runs; of what both begin and end with only, where all would take too long."""
    limit = min(len(old), len(new))
    head = next((n for n in range(limit) if old[n] != new[n]), limit)
    tail = next((n for n in range(limit - head) if old[-1 - n] != new[-1 - n]), limit - head)
    ends_a, ends_b = len(old) - tail, len(new) - tail
    between = [
        _Same(head + found.src_start, head + found.dest_start, found.src_end - found.src_start)
        for found in _subsequence(old[head:ends_a], new[head:ends_b])
        if found.tag == "equal"
    ]
    return [same for same in (_Same(0, 0, head), *between, _Same(ends_a, ends_b, tail)) if same.size]


def _subsequence(old: Sequence[str], new: Sequence[str]) -> Iterable[Opcode]:
    if not old or not new or len(old) * len(new) > PAIRS_MAX:
        return ()
    from rapidfuzz.distance import LCSseq

    codes: dict[str, str] = {}
    before, after = ("".join([_coded(codes, item) for item in items]) for items in (old, new))
    return LCSseq.opcodes(before, after)


def _coded(codes: dict[str, str], item: str) -> str:
    """A character of its own for each different item: strings are what rapidfuzz compares fastest."""
    code = codes.get(item)
    if code is None:
        number = len(codes) + 1
        number += len(_SURROGATES) * (number >= _SURROGATES.start)
        code = codes[item] = chr(number)
    return code


def _merged(found: Iterable[Hunk]) -> Iterator[Hunk]:
    """Neighbours of the same kind as one, and no empty ones."""
    for op, group in groupby((hunk for hunk in found if hunk[1]), key=itemgetter(0)):
        yield op, "".join(text for _, text in group)


def shortened(found: Iterable[Hunk]) -> Iterator[Piece]:
    """The hunks, and of what stayed only what is next to a change; ``skip`` says how much was left out.

    >>> list(shortened((("equal", "a\\n" * 9), ("insert", "b"))))
    [('skip', '7 lines'), ('equal', 'a\\na\\n'), ('insert', 'b')]
    """
    pieces = list(found)
    for index, (op, text) in enumerate(pieces):
        if op == "equal":
            yield from _cut(text, after_change=index > 0, before_change=index < len(pieces) - 1)
        else:
            yield op, text


def _cut(text: str, *, after_change: bool, before_change: bool) -> Iterator[Piece]:
    lines = text.splitlines(keepends=True)
    # The rest of the line in which the change is comes on top.
    first = CONTEXT_LINES + 1 if after_change else 0
    begun = not lines[-1].endswith(("\n", "\r"))
    last = CONTEXT_LINES + begun if before_change else 0
    between = len(lines) - first - last
    if between > 2:
        parts = ["".join(lines[:first]), "".join(lines[len(lines) - last :])]
        said = f"{between:,} lines"
    elif len(text) > 4 * CONTEXT_CHARS and len(lines) <= 1:
        parts = [text[: CONTEXT_CHARS * after_change], text[len(text) - CONTEXT_CHARS * before_change :]]
        said = f"{len(text) - sum(map(len, parts)):,} characters"
    else:
        parts, said = [text, ""], ""
    pieces: list[Piece] = [("equal", parts[0]), ("skip", said), ("equal", parts[1])]
    yield from (piece for piece in pieces if piece[1])


def marked(found: Iterable[Hunk]) -> list[str]:
    """The hunks as lines of plain text: ``+`` a new one, ``-`` one that is gone, ``~`` one in which words changed.

    >>> marked(hunks("1. Read\\n2. Write", "1. Read\\n2. Check\\n3. Write"))
    ['  1. Read', '+ 2. Check', '~ [-2-]{+3+}. Write']
    """
    lines: list[str] = []
    line: list[Piece] = []
    for op, text in shortened(_with_whole_end(list(found))):
        if op == "skip" and text.endswith("lines"):
            lines.append(f"  … {text} …")
        elif op == "skip":
            line.append((op, f"[… {text} …]"))
        else:
            for part in text.splitlines(keepends=True):
                line.append((op, part))
                if part != part.rstrip("\r\n"):
                    lines.append(_line(line))
                    line = []
    return [*lines, _line(line)] if line else lines


def _with_whole_end(found: list[Hunk]) -> list[Hunk]:
    """What is appended or taken off at the end as lines of its own: the line end before it is no change to show."""
    ends = next((n for n, (op, _) in enumerate(reversed(found)) if op == "equal"), 0)
    last = found[len(found) - ends :]
    rests = [re.sub(r"\A\r?\n", "", text) for _, text in last]
    if not last or not all(rest and rest != text for rest, (_, text) in zip(rests, last, strict=True)):
        return found
    changes = [(op, rest) for (op, _), rest in zip(last, rests, strict=True)]
    return [*found[: len(found) - ends], ("equal", "\n"), *changes]


_SIGNS = {"insert": "+", "delete": "-"}
_BRACKETS = {"insert": ("{+", "+}"), "delete": ("[-", "-]")}


def _line(pieces: Sequence[Piece]) -> str:
    ops = {op for op, text in pieces}
    if len(ops) == 1 or not ops & _SIGNS.keys():
        return f"{_SIGNS.get(pieces[0][0], ' ')} {''.join(text for _, text in pieces)}".rstrip()
    parts = []
    for op, text in pieces:
        before, after = _BRACKETS.get(op, ("", ""))
        inner = text.rstrip("\r\n")
        broken = "⏎" if before and inner != text else ""  # a line end that is new, or gone
        parts.append(f"{before}{inner}{broken}{after}")
    return f"~ {''.join(parts)}".rstrip()
