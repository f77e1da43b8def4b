"""Halves of surrogate pairs, which JSON can say and UTF-8 cannot: joined where both are there, else U+FFFD."""

from __future__ import annotations

from typing import Any

from personas_nb.entities.base import is_encodable


def mended(value: Any) -> Any:
    """A JSON-like value with the halves in all of its texts mended; other texts are the same objects."""
    if isinstance(value, str):
        if is_encodable(value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    return [mended(item) for item in value] if isinstance(value, list) else value


class StreamMender:
    """Mends one text that arrives in pieces: a first half at the end of a piece waits for what follows.

    >>> stream = StreamMender()
    >>> stream.feed("Hi \\ud83d"), stream.feed("\\ude00!"), stream.finish()
    ('Hi ', '😀!', '')
    """

    __slots__ = ("_half",)

    def __init__(self) -> None:
        self._half = ""

    def feed(self, piece: str) -> str:
        """What is decided after ``piece``; may be empty."""
        if not piece or (not self._half and is_encodable(piece)):
            return piece
        text, self._half = self._half + piece, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return str(mended(text))

    def finish(self) -> str:
        """U+FFFD for a half that nothing followed."""
        half, self._half = self._half, ""
        return "\ufffd" if half else ""
