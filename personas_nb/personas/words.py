"""The words of a text that say something: for comparing texts in any language."""

from __future__ import annotations

import re
import unicodedata

# Without what merely holds an English sentence together; in other languages rarity does this work.
STOP_WORDS = frozenset(
    """a about after again all also am an and any are as at be because been before being between both but by
    can could did do does doing for from had has have having he her here hers him his how i if in into is it
    its just me more most my no nor not now of off on once only or other our out over own per she should so
    some such than that the their them then there these they this those through to too under until up very
    was we were what when where which while who whom why will with would you your""".split()  # noqa: SIM905 - a hundred words in quotes are hard to read
)
# Han, Hiragana, Katakana, Hangul, Thai: written without spaces, or with endings that hide the word.
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")


def words_of(text: str) -> frozenset[str]:
    """The words in lower case, without accents, stop words and single letters; pairs of signs where no spaces are.

    >>> sorted(words_of("The invoices of Müller, 4010 EUR"))
    ['4010', 'eur', 'invoices', 'muller']
    >>> sorted(words_of("東京都"))
    ['京都', '東京']
    """
    composed = unicodedata.normalize("NFKC", text).casefold()
    found: set[str] = set()
    for run in _UNSPACED.findall(composed):
        found.update(run[i : i + 2] for i in range(max(len(run) - 1, 1)))
    rest = unicodedata.normalize("NFKD", _UNSPACED.sub(" ", composed))
    plain = "".join(c for c in rest if not unicodedata.combining(c))
    found.update(word for word in re.findall(r"[^\W_]+", plain) if len(word) > 1 or word.isdecimal())
    return frozenset(found - STOP_WORDS)


def stem(word: str) -> str:
    """The word without the s of its plural.

    >>> stem("invoices"), stem("access"), stem("bus"), stem("5th")
    ('invoice', 'access', 'bus', '5th')
    """
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural else word
