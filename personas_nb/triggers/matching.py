"""Which subscriptions hear an event; an index, because there may be ten thousand.

- Types are compared as ``type_key`` has them; they take no wildcard.
- A filter is compared with the event's source, in lower case; ``*`` stands for any characters, also none, and every
  other character for itself. Without a filter every source is heard.
- A filter is kept under what must stand in the source for it to fit: the whole of it, its beginning, its end, or
  some letters inside. An event looks up what its source has of these, and checks the few filters that it finds.
- Filters are compared piece by piece and not as regular expressions, which some patterns make take for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
Entry: TypeAlias = tuple[int, T]
_ByPiece: TypeAlias = dict[str, list[tuple[list[str], tuple[int, T]]]]
_ByLength: TypeAlias = dict[int, dict[str, list[tuple[list[str], tuple[int, T]]]]]
_SAME = str.maketrans("-.", "__")
_GRAM = 3  # characters of a piece inside that are looked up


def type_key(event_type: str) -> str:
    """An event type as it is compared: in lower case, with “-” and “.” as “_”.

    >>> type_key("Invoice.Found") == type_key("invoice-found")
    True
    """
    return event_type.lower().translate(_SAME)


def fits(source_filter: str | None, source: str) -> bool:
    """Whether a filter lets a source through.

    >>> fits("invoice-*", "Invoice-Watcher"), fits("*-bot", "bot"), fits(None, "anyone")
    (True, False, True)
    """
    if not source_filter:
        return True
    return _fit(source_filter.lower().split("*"), source.lower())


def names(source_filter: str | None, source: str) -> bool:
    """Whether a filter means this source and no other: it is its name, without a ``*``."""
    return bool(source_filter) and "*" not in (source_filter or "") and fits(source_filter, source)


class Matcher(Generic[T]):
    """Finds the items whose type and source filter fit an event.

    >>> matcher = Matcher([("invoice_found", "inv*", "a"), ("invoice.found", None, "b")])
    >>> matcher.match("Invoice-Found", "invoices"), matcher.match("invoice_found", "mail")
    (['a', 'b'], ['b'])
    """

    def __init__(self, items: Iterable[tuple[str, str | None, T]] = ()) -> None:
        self._types: dict[str, _Filters[T]] = {}
        self._count = 0
        for event_type, source_filter, item in items:
            self.add(event_type, source_filter, item)

    def add(self, event_type: str, source_filter: str | None, item: T) -> None:
        """Let an item hear a type, from the sources that the filter lets through."""
        self._types.setdefault(type_key(event_type), _Filters()).add(source_filter, (self._count, item))
        self._count += 1

    def match(self, event_type: str, source: str) -> list[T]:
        """The items that hear an event of this type from this source, in the order in which they were added."""
        filters = self._types.get(type_key(event_type))
        if filters is None:
            return []
        found = filters.of(source.lower())
        if len(found) > 1:
            found.sort(key=itemgetter(0))
        return [item for _number, item in found]


class _Filters(Generic[T]):
    """The filters of one type, each under one thing that a source must have to fit."""

    def __init__(self) -> None:
        self._all: list[Entry[T]] = []
        self._whole: dict[str, list[Entry[T]]] = {}
        self._heads: _ByLength[T] = {}
        self._tails: _ByLength[T] = {}
        self._inside: _ByPiece[T] = {}

    def add(self, source_filter: str | None, entry: Entry[T]) -> None:
        pieces = (source_filter or "*").lower().split("*")
        head, tail = pieces[0], pieces[-1]
        if len(pieces) == 1:
            self._whole.setdefault(head, []).append(entry)
        elif not any(pieces):
            self._all.append(entry)
        elif not head and not tail:
            piece = max(pieces, key=len)[:_GRAM]
            self._inside.setdefault(piece, []).append((pieces, entry))
        else:
            is_head = len(head) >= len(tail)
            key = head[: _key_length(head)] if is_head else tail[-_key_length(tail) :]
            lookup = self._heads if is_head else self._tails
            lookup.setdefault(len(key), {}).setdefault(key, []).append((pieces, entry))

    def of(self, source: str) -> list[Entry[T]]:
        found = self._all + self._whole[source] if source in self._whole else self._all.copy()
        for length, heads in self._heads.items():
            if (kept := heads.get(source[:length])) is not None:
                found += [entry for pieces, entry in kept if _fit(pieces, source)]
        for length, tails in self._tails.items():
            if (kept := tails.get(source[-length:])) is not None:
                found += [entry for pieces, entry in kept if _fit(pieces, source)]
        if self._inside:
            for piece in self._pieces_in(source):
                found += [entry for pieces, entry in self._inside[piece] if _fit(pieces, source)]
        return found

    def _pieces_in(self, source: str) -> Iterable[str]:
        """The keys of ``_inside`` that the source has; found in the smaller of the two."""
        if len(self._inside) <= _GRAM * len(source):
            return [piece for piece in self._inside if piece in source]
        lengths = range(1, _GRAM + 1)
        parts = {source[at : at + length] for length in lengths for at in range(len(source) - length + 1)}
        return parts & self._inside.keys()


def _key_length(end: str) -> int:
    """The largest power of two that the end has characters: so an event is looked up in few lengths."""
    return 1 << (len(end).bit_length() - 1)


def _fit(pieces: list[str], source: str) -> bool:
    """Whether the pieces between the asterisks follow one another in the source; each as early as it can."""
    if len(pieces) == 1:
        return source == pieces[0]
    head, tail = pieces[0], pieces[-1]
    if not source.startswith(head) or not source.endswith(tail):
        return False
    at, end = len(head), len(source) - len(tail)
    for piece in pieces[1:-1]:
        at = source.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return at <= end
