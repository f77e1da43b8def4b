"""The words of a typed line: parted at spaces, quotes keep together, an apostrophe is a letter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'"}
TEXT_QUOTES = {mark: QUOTES[mark] for mark in '"“„'}


class Word(NamedTuple):
    """A word of a line: what it says, where it ends, whether it was quoted."""

    text: str
    end: int
    quoted: bool = False


def is_dashed(word: Word) -> bool:
    """Whether the word looks like an option; “-5” is a number."""
    return not word.quoted and re.match(r"--?[A-Za-z]", word.text) is not None


def words_of(text: str) -> Iterator[Word]:
    """Every word of a line."""
    position = 0
    while (word := word_at(text, position)) is not None:
        yield word
        position = word.end


def word_at(text: str, start: int) -> Word | None:
    """The next word: to the next space, or what stands in quotes; an apostrophe inside a word is a letter."""
    while start < len(text) and text[start].isspace():
        start += 1
    if start == len(text):
        return None
    if (quoted := in_quotes(text, start)) is not None:
        return quoted
    value = re.compile(r"--[A-Za-z][\w-]*=").match(text, start)
    if value and (quoted := in_quotes(text, value.end())) is not None:
        return Word(value[0] + quoted.text, quoted.end)
    end = start
    while end < len(text) and not text[end].isspace():
        end += 1
    return Word(text[start:end], end)


def in_quotes(text: str, start: int) -> Word | None:
    """What stands in the quotes that begin here, up to a closing one before a space or the end."""
    close = QUOTES.get(text[start : start + 1])
    end = start
    while close and (end := text.find(close, end + 1)) > 0:
        if end + 1 == len(text) or text[end + 1].isspace():
            return Word(text[start + 1 : end], end + 1, quoted=True)
    return None
