"""Keeping the values of secrets out of text, whole or streamed.

- A secret is looked for raw, JSON-escaped (also twice: tools answer with JSON that quotes JSON), in base64 and
  base64url, percent-encoded, as Python's ``repr`` and as a cell of CSV. Mixtures of these (base64 of JSON,
  percent-encoded base64, …), hex, and other character sets are not.
- In base64 a value looks different at each of the three offsets that it can have among its neighbours. Looked
  for is the part that the neighbours cannot change; up to four bits of the value at either end stay.
- The search is in two steps. One automaton finds the first ``HEAD`` characters of all patterns in one pass;
  what stands there is then compared. Such an automaton is small, and 40 characters cost about one call.
- A stream holds back only the longest end that may still become a secret. It never waits for what is
  already masked: ``covered`` counts those characters when a second secret may begin inside the first.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any
from urllib.parse import quote

from personas_nb.errors import InvalidInput

SECRETS_MIN_LENGTH = 8
"""Characters a secret must have, spaces around it not counted: shorter ones occur in text by chance."""

# Long enough to be rare in text, short enough that the shorter ends of a stream are three lookups.
HEAD = 4

# What writers of JSON escape besides what they must: none, Go, Gson, PHP with its JSON_HEX flags, .NET.
JSON_ESCAPED_TOO = ("", "&<>\u2028\u2029", "&<>='", "&<>'\"", "&<>+'`\"\x7f")
# What common encoders leave alone: Python and RFC 3986, paths, encodeURIComponent, encodeURI, forms.
SAFE_SETS = ("", "/", "!'()*", ";,/?:@&=+$#!'()*", "*")

Span = tuple[int, int, str]


class Redactor:
    """Replaces each secret in a text by ``[secret NAME]``.

    ``secrets`` maps names to values. Raises InvalidInput for a value that is too short to be told from
    ordinary text. Where secrets overlap, everything that belongs to one of them is replaced once, under the
    name of the one that begins first (of two that begin together, the longer).

    >>> Redactor({"GMAIL_PASSWORD": "correct horse"}).redact("login correct%20horse ok")
    'login [secret GMAIL_PASSWORD] ok'
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        names: dict[str, str] = {}
        for name, value in secrets.items():
            check_secret(name, value)
            for pattern in dict.fromkeys(_patterns(value)):
                names.setdefault(pattern, name)
        labels = {name: f"[secret {name}]" for name in secrets}
        for name, label in labels.items():
            # A value may stand in a label: the name "password" for the value "password".
            if any(pattern in label for pattern in names):
                labels[name] = "[***]"
        buckets: dict[str, list[tuple[str, str]]] = {}
        # Longest first: the first that fits is the one to name, and the one to wait for.
        for pattern in sorted(names, key=len, reverse=True):
            buckets.setdefault(pattern[:HEAD], []).append((pattern, labels[names[pattern]]))
        self._buckets = list(buckets.values())
        self._starts = {head[:length] for head in buckets for length in range(1, HEAD)}
        self._digits = any(re.fullmatch(r"[-+.\de]+", pattern) for pattern in names)
        self._find = _finder(list(buckets)) if buckets else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sum(map(len, self._buckets))} patterns)"

    def redact(self, text: str, *, cut_off: bool = False) -> str:
        """``text`` with every secret replaced; a text without secrets comes back as it is.

        ``cut_off`` says that the text was cut at a limit: then a piece of a secret at its very end, from four
        characters on, is replaced too.
        """
        if self._find is None:
            return text
        hits = self._find(text)
        if not hits:
            return text
        spans, _ = self._spans(text, hits, at_end="mask" if cut_off else "keep")
        output, _ = _masked(text, spans, 0, len(text))
        return output

    def redact_value(self, value: Any) -> Any:
        """A copy of a JSON-like value with secrets replaced in every text, also in keys.

        A number that is or holds a secret becomes a text, a tuple becomes a list. Two keys that become equal are
        told apart by a count. Objects of other types stay as they are.

        >>> Redactor({"PIN": "12345678"}).redact_value({"pin": 12345678, "tries": [1, "12345678"]})
        {'pin': '[secret PIN]', 'tries': [1, '[secret PIN]']}
        """
        if self._find is None:
            return value
        # No recursion: what a tool answers may be nested deeper than Python's stack, or contain itself.
        root = [value]
        copies: dict[int, Any] = {}
        waiting: list[Any] = [root]
        while waiting:
            box = waiting.pop()
            for key, item in box.items() if isinstance(box, dict) else enumerate(box):
                if not isinstance(item, dict | list | tuple):
                    box[key] = self._redact_scalar(item)
                    continue
                if id(item) not in copies:
                    copies[id(item)] = self._with_keys(item) if isinstance(item, dict) else list(item)
                    waiting.append(copies[id(item)])
                box[key] = copies[id(item)]
        return root[0]

    def clean(self, error: BaseException) -> None:
        """Take secrets out of what an error says: its arguments and attributes, its notes, and all of its causes.

        What still tells one is left out of the chain, so that no traceback shows it.
        """
        if self._find is None:
            return
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            current = waiting.pop()
            if current is None or id(current) in seen:
                continue
            seen.add(id(current))
            self._clean_one(current)
            for link in ("__cause__", "__context__"):
                linked = getattr(current, link)
                if linked is not None and id(linked) not in seen:
                    self._clean_one(linked)
                    if self._tells(linked):
                        setattr(current, link, None)
                    waiting.append(getattr(current, link))
            if isinstance(current, BaseExceptionGroup):
                waiting.extend(current.exceptions)

    def _clean_one(self, error: BaseException) -> None:
        # Some classes refuse: then `_tells` decides.
        with suppress(Exception):
            error.args = tuple(self.redact_value(list(error.args)))
        for name, value in list(vars(error).items()):
            if isinstance(value, str | dict | list | tuple):
                with suppress(Exception):
                    setattr(error, name, self.redact_value([value])[0])

    def _tells(self, error: BaseException) -> bool:
        try:
            said = f"{error!s} {error!r}"
        except Exception:  # what cannot be read cannot be shown to be clean
            return True
        return self.redact(said) != said

    def stream(self) -> StreamRedactor:
        """A redactor for one text that arrives in pieces."""
        return StreamRedactor(self)

    def _redact_scalar(self, item: Any) -> Any:
        if isinstance(item, str):
            return self.redact(item)
        if self._digits and isinstance(item, int | float) and not isinstance(item, bool):
            text = repr(item)
            redacted = self.redact(text)
            return item if redacted == text else redacted
        return item

    def _with_keys(self, item: dict[Any, Any]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, inner in item.items():
            redacted = wanted = self._redact_scalar(key)
            count = 2
            while redacted in result or (redacted != key and redacted in item):
                redacted, count = f"{wanted} ({count})", count + 1
            result[redacted] = inner
        return result

    def _spans(self, text: str, hits: list[tuple[int, int, int]], *, at_end: str) -> tuple[list[Span], int]:
        """Where secrets stand, in order, and up to where the text is decided.

        ``at_end`` says what to do with a piece of a secret that the end of the text cuts: ``hold`` it (the text
        is decided up to there), ``mask`` or ``keep`` it.
        """
        spans: list[Span] = []
        length = len(text)
        for index, start, _ in hits:
            for pattern, label in self._buckets[index]:
                if text.startswith(pattern, start):
                    spans.append((start, start + len(pattern), label))
                    break
                if at_end != "keep" and start + len(pattern) > length and pattern.startswith(text[start:]):
                    if at_end == "mask":
                        spans.append((start, length, label))
                        return spans, length
                    return spans, start
        return spans, length - self._undecided(text) if at_end == "hold" else length

    def _undecided(self, text: str) -> int:
        """How many of the last three characters may begin a secret."""
        starts = self._starts
        for size in range(HEAD - 1, 0, -1):
            if text[-size:] in starts:
                return min(size, len(text))
        return 0


class StreamRedactor:
    """Redacts one text that arrives in pieces; together they give what ``Redactor.redact`` gives for the whole.

    >>> stream = Redactor({"TOKEN": "correct horse"}).stream()
    >>> stream.feed("it is corr"), stream.feed("ect horse."), stream.finish()
    ('it is ', '[secret TOKEN].', '')
    """

    __slots__ = ("_covered", "_find", "_held", "_redactor", "_starts")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._find = redactor._find
        self._starts = redactor._starts
        self._held = ""
        self._covered = 0  # characters at the head of _held that belong to a secret already replaced

    def feed(self, delta: str) -> str:
        """What is safe to show after ``delta``; may be empty."""
        find = self._find
        if find is None:
            return delta
        text = self._held + delta
        hits = find(text)
        if not hits and not self._covered:
            # The common case, spelled out: it is most of the cost of a short delta.
            starts = self._starts
            if text[-1:] not in starts and text[-2:] not in starts and text[-3:] not in starts:
                self._held = ""
                return text
        spans, decided = self._redactor._spans(text, hits, at_end="hold")
        output, masked_to = _masked(text, spans, self._covered, decided)
        self._held = text[decided:]
        self._covered = max(masked_to - decided, 0)
        return output

    def finish(self, *, cut_off: bool = False) -> str:
        """What was still held back. ``cut_off`` (cancelled, over a limit): see ``Redactor.redact``."""
        text, covered = self._held, self._covered
        self._held, self._covered = "", 0
        if self._find is None or not text:
            return text
        at_end = "mask" if cut_off else "keep"
        spans, decided = self._redactor._spans(text, self._find(text), at_end=at_end)
        output, _ = _masked(text, spans, covered, decided)
        return output


def check_secret(name: str, value: str) -> None:
    """Raises InvalidInput unless ``value`` can be kept out of text: a text of eight characters, valid Unicode."""
    if not isinstance(value, str):
        raise InvalidInput(f"The secret {name} is no text.", hint="Give it in quotes.")
    if len(value.strip()) < SECRETS_MIN_LENGTH:
        raise InvalidInput(
            f"The secret {name} is shorter than {SECRETS_MIN_LENGTH} characters.",
            hint="It could not be told from ordinary text in outputs and logs: use a longer one.",
        )
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidInput(f"The secret {name} is not valid Unicode text.", hint="Enter it again.")


def _masked(text: str, spans: list[Span], covered: int, decided: int) -> tuple[str, int]:
    """The text from ``covered`` to ``decided`` with ``spans`` replaced, and where the last of them ends."""
    if not spans and not covered:
        return text[:decided], 0
    parts: list[str] = []
    at = covered
    for start, end, label in spans:
        if start >= at:
            parts += (text[at:start], label)
        at = max(at, end)
    parts.append(text[at:decided])
    return "".join(parts), at


def _finder(heads: list[str]) -> Callable[[str], list[tuple[int, int, int]]]:
    from ahocorasick_rs import AhoCorasick, Implementation

    # DFA: three times as fast as the default here. Overlapping: heads may share characters.
    search = AhoCorasick(heads, implementation=Implementation.DFA).find_matches_as_indexes

    def find(text: str) -> list[tuple[int, int, int]]:
        try:
            hits: list[tuple[int, int, int]] = search(text, True)
        except UnicodeEncodeError:  # half a surrogate pair, as broken JSON brings; positions stay the same
            hits = search(re.sub("[\ud800-\udfff]", "\ufffd", text), True)
        return hits

    return find


def _patterns(value: str) -> Iterator[str]:
    yield value
    if value.strip() != value:  # copied with its line end, used without
        yield from _patterns(value.strip())
    yield from _json_escaped(value)
    yield " ".join(value.split())  # in a sentence, as errors are shown
    # As an error, a list or a frame shows it; KeyError's message is a repr.
    yield repr(value)[1:-1]
    yield value.replace('"', '""')
    data = value.encode()
    yield from _base64_middles(data)
    yield from _percent_encoded(data)


def _json_escaped(value: str) -> Iterator[str]:
    for only_ascii, also in product((False, True), JSON_ESCAPED_TOO):
        parts = [
            f"\\u{ord(character):04x}"
            if character in also
            else json.dumps(character, ensure_ascii=only_ascii)[1:-1]
            for character in value
        ]
        capitals = [part.upper().replace("\\U", "\\u") if part.startswith("\\u") else part for part in parts]
        for text in ("".join(parts), "".join(capitals)):
            yield text
            yield text.replace("/", "\\/")
            yield from (json.dumps(text, ensure_ascii=again)[1:-1] for again in (False, True))


def _base64_middles(data: bytes) -> Iterator[str]:
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + data).decode("ascii")
        # Six bits a character: the first that is the value's alone, and the first that no longer is.
        middle = text[(8 * offset + 5) // 6 : 8 * (offset + len(data)) // 6]
        yield middle
        yield middle.translate(str.maketrans("+/", "-_"))


def _percent_encoded(data: bytes) -> Iterator[str]:
    for safe in SAFE_SETS:
        text = quote(data, safe=safe)
        for spelled in (text, text.replace("%20", "+"), text.replace("~", "%7E")):
            yield spelled
            yield re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), spelled)
    yield "".join(f"%{byte:02X}" for byte in data)
    yield "".join(f"%{byte:02x}" for byte in data)
