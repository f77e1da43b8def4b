"""Finds the protocol messages in what an assistant writes, while it is being written.

A candidate is a ``{`` whose first key is one of ``PROTOCOL_KINDS``. What the scan finds depends on the
text alone, never on where the deltas cut it:

- Look for the next candidate. Is it one JSON object, at most ``max_object_bytes`` long and 100 levels
  deep, it is taken out as a message (one for each known key, in order) and the search goes on behind it.
- Is it complete, but one of its values is refused, all of it stays text, with a warning, and the search
  goes on behind it: what lies nested in it was meant as its data.
- Is it malformed, too large, too deep or never closed, it stays text, with a warning, and the search goes
  on right behind its ``{``: a good object inside or after it is still found.

Why that is linear although it sounds like rescanning:

- ``_Objects`` follows a candidate with a strict JSON reader and notes the candidates nested in it on the
  way. A grammar error ends all that are open, and those that were complete by then are already known.
- Only a ``{`` inside a *string* was not seen as a candidate. For it to be one, the quote of its key must
  end that string, and the key's first letter is then the error: at most the few characters before an
  error are read again.
- An outermost candidate that grows too large or too deep is let go, and the next open one takes its place.
- Held text is kept in pieces and joined once.

What is shown is ``_Display``'s concern: it drops the line or the json fence that an object emptied.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from personas_nb.engine.protocol_bodies import PROTOCOL_KINDS, body_schema, describe, explain, parse_body
from personas_nb.engine.surrogates import mended
from personas_nb.entities.base import DEPTH_LIMIT, is_encodable
from personas_nb.errors import InvalidInput

__all__ = [
    "PROTOCOL_KINDS",
    "ProtocolMessage",
    "ProtocolScanner",
    "body_schema",
    "describe",
    "explain",
    "parse_body",
    "read_objects",
]

_MAX_DEPTH = DEPTH_LIMIT  # json.loads recurses; a kernel's own stack must still fit
_MAX_WARNINGS = 100
_MAX_SCALAR_CHARS = 256
_MAX_GAP_CHARS = 4096  # spaces between a brace in a broken string and the key behind it

_SPACE = " \t\r\n"
_KINDS = "|".join(PROTOCOL_KINDS)
# A brace that is or may become a candidate: the filter that keeps ordinary braces cheap.
_MAYBE = re.compile(rf'\{{[{_SPACE}]*+(?:\Z|"(?:(?:{_KINDS})"|[a-z_]{{0,18}}\Z|[a-z_]{{0,18}}\\))')
_KEY = re.compile(r'"((?:[a-z_]|\\u00[0-9a-fA-F]{2}){0,18}+)(?:(")|(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z)')
_TOKEN = re.compile(
    rf'[{_SPACE}]*+(?:([{{}}\[\],:"])'
    rf"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null)(?=[{_SPACE},\]}}])"
    r"|((?:-?[0-9][0-9.eE+-]*+|-|t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?)?)\Z)"
)
_BRACKET, _SCALAR, _CUT = 1, 2, 3  # the groups of _TOKEN; a cut scalar may be empty
_GAP = re.compile(rf"[{_SPACE}]*+")
_STRING = re.compile(r'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")

# What the reader expects next.
_VALUE, _FIRST_VALUE, _FIRST_KEY, _KEY_NEXT, _COLON, _FIRST_COLON, _NEXT = range(7)


@dataclass(frozen=True, slots=True)
class ProtocolMessage:
    """One message to the system, checked, with its defaults filled in.

    ``kind`` is one of ``PROTOCOL_KINDS``; ``raw`` is the exact source text of the whole object (empty for a
    tool call); ``warnings`` say what was changed, such as an importance out of range.
    """

    kind: str
    data: dict[str, Any]
    raw: str = ""
    warnings: tuple[str, ...] = ()


class _Malformed(Exception):
    def __init__(self, at: int, why: str = "is not valid JSON") -> None:
        self.at, self.why = at, why


class _Objects:
    """Splits a stream into text and the outermost JSON objects that begin with a protocol key.

    Calls ``on_text`` and ``on_object`` in the order of the stream, and ``on_broken`` for each candidate
    that turned out to be none. Positions kept in attributes count from the beginning of the stream;
    ``_base`` is where the string that is being read begins.
    """

    def __init__(
        self,
        max_object_bytes: int,
        on_text: Callable[[str], None],
        on_object: Callable[[str], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._limit = max_object_bytes
        self._on_text, self._on_object, self._on_broken = on_text, on_object, on_broken
        self.idle = True  # nothing is held: text without a brace may pass by
        self._carry = ""  # an unfinished token, read again with the next piece; at most _MAX_GAP_CHARS
        self._base = 0
        self._pieces: deque[str] = deque()  # held text [_from, _held_to) after the first _skip characters
        self._skip = self._from = self._held_to = 0
        self._forget()

    def _forget(self) -> None:
        self._pieces.clear()
        self._skip = 0
        self._open: list[str] = []  # the open containers, outermost first
        self._starts: list[int] = []  # where each began if it is, or may become, a candidate; else -1
        self._done: deque[tuple[int, int]] = deque()  # nested candidates that are complete, as they closed
        self._state = _VALUE
        self._string_then = -1  # the state behind the string that is being read; -1 outside of strings

    def feed(self, piece: str) -> None:
        text = self._carry + piece
        at = 0
        while at < len(text):
            if not self._open:
                at = self._seek(text, at)
                continue
            at, more = self._read(text, at)
            while more and self._open and self._base + at - self._from > self._limit:
                at = self._let_go(text, at, f"is larger than {self._limit} bytes")
            if more and self._open:
                break
        self._carry = text[at:]
        if self._open:
            self._pieces.append(text[self._held_to - self._base : at])
            self._held_to = self._base + at
        self._base += at
        self.idle = not self._open

    def finish(self) -> None:
        """Give back what is held; the objects that are complete inside it still count."""
        if self._open:
            resume = self._give_up(self._carry, len(self._carry), "was never closed")
            if resume < len(self._carry):
                self._on_text(self._carry[resume:])
        self._carry = ""
        self.idle = True

    def _seek(self, text: str, at: int) -> int:
        found = _MAYBE.search(text, at)
        start = found.start() if found else len(text)
        if start > at:
            self._on_text(text[at:start])
        if found is None:
            return start
        self._from = self._held_to = self._base + start
        self._push("{", self._from)
        return start + 1

    def _push(self, bracket: str, start: int) -> None:
        self._open.append(bracket)
        self._starts.append(start if bracket == "{" else -1)
        self._state = _FIRST_KEY if bracket == "{" else _FIRST_VALUE

    def _read(self, text: str, at: int) -> tuple[int, bool]:
        """Read on from ``at``: where it stopped, and whether it waits there for more text."""
        try:
            while True:
                if self._string_then >= 0:
                    at = self._string(text, at)
                    if self._string_then >= 0:
                        return at, True
                token = _TOKEN.match(text, at)
                if token is None:
                    raise _Malformed(_after(_GAP, text, at))
                kind = token.lastindex
                if kind != _BRACKET:
                    at = self._scalar(token)
                    if kind == _CUT:
                        return at, True
                    continue
                at = token.end()
                sign = text[at - 1]
                if sign == '"':
                    at = self._quote(text, at)
                    if self._state == _FIRST_KEY:
                        return at, True
                else:
                    self._bracket(sign, at)
                    if len(self._open) > _MAX_DEPTH:
                        at = self._let_go(text, at, f"is nested deeper than {_MAX_DEPTH} levels")
                        if not self._open:
                            return at, False
                if not self._starts or self._starts[0] < 0:
                    return self._settle(text, at), False
        except _Malformed as error:
            return self._give_up(text, error.at, error.why), False

    def _scalar(self, token: re.Match[str]) -> int:
        """A number or word, whole or cut; where reading goes on."""
        kind = token.lastindex or _CUT
        start, end = token.span(kind)
        if start < end and (self._state > _FIRST_VALUE or end - start > _MAX_SCALAR_CHARS):
            raise _Malformed(start)
        if kind == _CUT:
            return start
        self._state = _NEXT
        return end

    def _quote(self, text: str, at: int) -> int:
        """A string begins at ``at``, behind its quote."""
        state = self._state
        if state in (_VALUE, _FIRST_VALUE):
            self._string_then = _NEXT
        elif state == _KEY_NEXT:
            self._string_then = _COLON
        elif state != _FIRST_KEY:
            raise _Malformed(at - 1)
        else:
            return self._first_key(text, at)
        return at

    def _first_key(self, text: str, at: int) -> int:
        key = _KEY.match(text, at - 1)
        if key:
            name = key[1] if "\\" not in key[1] else json.loads(f'"{key[1]}"')
            if key[2] and name in PROTOCOL_KINDS:
                self._state = _FIRST_COLON
                return key.end()
            if not key[2] and any(kind.startswith(name) for kind in PROTOCOL_KINDS):
                return at - 1
        self._starts[-1] = -1
        self._state = _COLON
        self._string_then = _COLON
        return at

    def _string(self, text: str, at: int) -> int:
        end = _after(_STRING, text, at)
        # A brace and spaces at the end of a broken string may be the head of a candidate: keep it at hand.
        if end + 1 >= len(text):
            brace = text.rfind("{", max(at, end - _MAX_GAP_CHARS), end)
            if brace >= 0 and not text[brace + 1 : end].strip(" ") and text[end:] in ("", '"'):
                return brace
        if end == len(text) or _CUT_ESCAPE.match(text, end):
            return end
        if text[end] != '"':
            raise _Malformed(end)
        self._state, self._string_then = self._string_then, -1
        return end + 1

    def _bracket(self, sign: str, at: int) -> None:
        """One of ``{ } [ ] , :``, which ends at ``at``."""
        state, top = self._state, self._open[-1]
        if sign in "{[" and state in (_VALUE, _FIRST_VALUE):
            self._push(sign, self._base + at - 1)
        elif sign == "," and state == _NEXT:
            self._state = _KEY_NEXT if top == "{" else _VALUE
        elif sign == ":" and state in (_COLON, _FIRST_COLON):
            self._state = _VALUE
        elif sign == "}" and top == "{" and state in (_NEXT, _FIRST_KEY):
            self._close(at, candidate=state == _NEXT)
        elif sign == "]" and top == "[" and state in (_NEXT, _FIRST_VALUE):
            self._close(at, candidate=False)
        else:
            raise _Malformed(at - 1)

    def _close(self, at: int, *, candidate: bool) -> None:
        if len(self._open) == 1 and not candidate:
            raise _Malformed(at)  # {} has no first key
        self._open.pop()
        start = self._starts.pop()
        if candidate and start >= 0:
            self._done.append((start, self._base + at))
        self._state = _NEXT

    def _settle(self, text: str, at: int) -> int:
        """The outermost object is complete, or it is none of ours after all."""
        if self._starts:
            at -= 1  # back before the quote of its key
        origin, held = self._from, self._take(text, self._base + at)
        done, self._done = self._done, deque()
        self._forget()
        self._flush(held, origin, done)
        return at

    def _take(self, text: str, until: int) -> str:
        """Remove and return the held text up to ``until``, which may lie in ``text``."""
        taken = []
        while self._pieces and self._from < until:
            piece = self._pieces[0]
            end = min(len(piece), self._skip + until - self._from)
            taken.append(piece[self._skip : end])
            self._from += end - self._skip
            self._skip = end
            if end == len(piece):
                self._pieces.popleft()
                self._skip = 0
        if self._from < until:
            taken.append(text[self._from - self._base : until - self._base])
            self._from = self._held_to = until
        return "".join(taken)

    def _flush(self, held: str, origin: int, done: deque[tuple[int, int]]) -> None:
        """Pass on ``held``, which began at ``origin``, with the complete objects in it, outermost first."""
        at = 0
        for start, end in sorted(done):
            start, end = start - origin, end - origin
            if start < at:
                continue
            raw = held[start:end]
            if len(raw) * 4 > self._limit and _utf8_bytes(raw) > self._limit:
                self._blame(raw, f"is larger than {self._limit} bytes")
                continue
            if start > at:
                self._on_text(held[at:start])
            self._on_object(raw)
            at = end
        if at < len(held):
            self._on_text(held[at:])

    def _let_go(self, text: str, at: int, why: str) -> int:
        """End the outermost candidate; the next open one takes its place. Returns where to go on."""
        following = next((i for i, start in enumerate(self._starts) if i and start >= 0), None)
        if following is None:
            return self._give_up(text, at, why)
        until = self._starts[following]
        done: deque[tuple[int, int]] = deque()
        while self._done and self._done[0][0] < until:
            done.append(self._done.popleft())
        origin, held = self._from, self._take(text, until)
        self._blame(held, why)
        self._flush(held, origin, done)
        del self._open[:following], self._starts[:following]
        return at

    def _give_up(self, text: str, at: int, why: str) -> int:
        """End all open candidates at ``at``; returns where the search for the next goes on."""
        starts = [start for start in self._starts if start >= 0]
        if self._state in (_FIRST_KEY, _FIRST_COLON):
            starts.pop()  # without its first key and colon it has not begun as a protocol message
        resume = self._resume(text, at) if starts else at
        origin, held = self._from, self._take(text, self._base + resume)
        for start in starts:
            self._blame(held[start - origin : start - origin + 60], why)
        done, self._done = self._done, deque()
        self._forget()
        self._flush(held, origin, done)
        return resume

    def _resume(self, text: str, at: int) -> int:
        lowest = max(self._from + 1 - self._base, at - _MAX_GAP_CHARS, 0)
        brace = text.rfind("{", lowest, at)
        return brace if brace >= 0 and not text[brace + 1 : at].removesuffix('"').strip(" ") else at

    def _blame(self, head: str, why: str) -> None:
        excerpt = " ".join(head[:60].split())
        self._on_broken(f"A protocol message {why} and stays text: {excerpt}")


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


_OPENER = re.compile(
    r"(`{1,20}+)(?:\Z|(?<=```)[ \t]{0,20}+(?:\Z|(?:json[a-z0-9]{0,8}+)[ \t]{0,20}+(\r?\n|\r?\Z)|(?:j|js|jso)\Z))"
)
_CLOSER = re.compile(r"(`{1,20}+)(?:\Z|(?<=```)[ \t]{0,20}+(\r?\n|\r?\Z))")
_BLANKS = re.compile(r"[ \t]{0,200}+")
_MAX_FENCE_CHARS = 1000  # of opener and white space held back while a fence may turn out empty


class _Display:
    """The text that stays visible, without the line or json fence that a removed object leaves empty.

    - An object at the beginning of a line takes the line's end with it when only blanks follow.
    - A block that opens with three or more backticks and ``json`` at the beginning of a line, and holds
      objects and white space only, goes with them. Until that is known its opening line is held back.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []  # never an empty string
        self._idle = True
        self._held = ""  # undecided: part of an opening or closing line, or blanks behind an object
        self._behind_object = False
        self._fence = ""  # an opening line and what would stay visible of the block so far
        self._run = 0  # its backticks
        self._emptied = False  # an object was taken out of it

    def text(self, text: str) -> None:
        """Show ``text``, or hold its end back while it may have to go."""
        if self._idle and "`" not in text:
            if text:
                self.parts.append(text)
            return
        text, self._held = self._held + text, ""
        at = self._line_end(text) if self._behind_object else 0
        while at < len(text):
            at = self._in_fence(text, at) if self._fence else self._plain(text, at)
            if self._held:
                break
        self._idle = not (self._held or self._fence or self._behind_object)

    def object_removed(self) -> None:
        """An object was taken out here."""
        held, self._held = self._held, ""
        if self._fence and not held.startswith("`"):
            self._fence += held
        else:
            self._show(held)
        self._behind_object = self._at_line_start()
        self._emptied = bool(self._fence)
        self._idle = not (self._fence or self._behind_object)

    def finish(self) -> None:
        """Show what was held back, but for a fence that the end of the text closes."""
        held, self._held = self._held, ""
        closer = _CLOSER.fullmatch(held)
        if not (self._emptied and self._fence and closer and len(closer[1]) >= self._run):
            self._show(held)
        self._fence, self._behind_object, self._idle = "", False, True

    def _show(self, text: str) -> None:
        text, self._fence = self._fence + text, ""
        if text:
            self.parts.append(text)

    def _at_line_start(self) -> bool:
        before = self._fence or (self.parts[-1] if self.parts else "\n")
        return before.endswith("\n")

    def _line_end(self, text: str) -> int:
        end = _after(_BLANKS, text, 0)
        if text[end:] in ("", "\r") and end < 200:
            self._held = text
            return len(text)
        self._behind_object = False
        if text.startswith(("\n", "\r\n"), end):
            return text.index("\n", end) + 1
        return 0

    def _plain(self, text: str, at: int) -> int:
        begin = at
        while True:
            if at or not self._at_line_start():
                at = text.find("\n`", max(at - 1, 0)) + 1 or len(text)
            opener = _OPENER.match(text, at) if at < len(text) else None
            if opener or at == len(text):
                break
            at += 1
        if at > begin:
            self._show(text[begin:at])
        if opener is None:
            return at
        if opener.end() == len(text) and not (opener[2] or "").endswith("\n"):
            self._held = text[at:]
            return len(text)
        self._fence, self._run, self._emptied = opener[0], len(opener[1]), False
        return opener.end()

    def _in_fence(self, text: str, at: int) -> int:
        end = _after(_GAP, text, at)
        self._fence += text[at:end]
        if len(self._fence) > _MAX_FENCE_CHARS:
            self._show("")
            return end
        closer = _CLOSER.match(text, end) if self._emptied and self._at_line_start() else None
        if end == len(text):
            return end
        if closer and closer.end() == len(text) and not (closer[2] or "").endswith("\n"):
            self._held = text[end:]
            return len(text)
        if closer and len(closer[1]) >= self._run:
            self._fence = ""
            return closer.end()
        self._show("")
        return end


class ProtocolScanner:
    """Takes the protocol messages out of an assistant's text while it streams.

    Feed it redacted text in pieces cut anywhere. ``max_object_bytes`` (default 256 KiB of UTF-8) bounds one
    object; a larger one stays text. ``quoted`` tells of a message that it was copied from the input or a
    tool result (``Untrusted.contains``); such an object also stays text, with a warning.

    >>> scanner = ProtocolScanner()
    >>> scanner.feed('Noted. {"agent_mem')
    []
    >>> [message] = scanner.feed('ory": {"title": "Tea", "content": "No sugar."}} Bye.')
    >>> message.kind, message.data["importance"], scanner.text
    ('agent_memory', 5, 'Noted.  Bye.')

    The work is linear in what is fed, whatever it is. The rules are in the module's docstring.
    """

    def __init__(
        self, max_object_bytes: int = 262_144, *, quoted: Callable[[ProtocolMessage], bool] | None = None
    ) -> None:
        self.warnings: list[str] = []
        self._quoted = quoted
        self._display = _Display()
        self._taken = 0
        self._found: list[ProtocolMessage] = []
        self._objects = _Objects(max_object_bytes, self._display.text, self._on_object, self._warn)

    @property
    def text(self) -> str:
        """All that is visible so far: what was fed without the messages, and without what is held back."""
        return "".join(self._display.parts)

    def take_text(self) -> str:
        """What became visible since the last call."""
        parts = self._display.parts
        fresh = "".join(parts[self._taken :])
        self._taken = len(parts)
        return fresh

    def feed(self, text: str) -> list[ProtocolMessage]:
        """Read on; returns the messages that this piece completed, in order."""
        if self._objects.idle and "{" not in text:
            self._display.text(text)
            return []
        self._objects.feed(text)
        found, self._found = self._found, []
        return found

    def finish(self) -> list[ProtocolMessage]:
        """The text ends here: what was held back becomes visible; messages complete inside it still count."""
        self._objects.finish()
        self._display.finish()
        found, self._found = self._found, []
        return found

    def _on_object(self, raw: str) -> None:
        messages = self._messages(raw)
        if messages:
            self._display.object_removed()
            self._found += messages
        else:
            self._display.text(raw)

    def _messages(self, raw: str) -> list[ProtocolMessage]:
        try:
            values = decode_object(raw)
            messages = [
                _message(kind, value, raw) for kind, value in values.items() if kind in PROTOCOL_KINDS
            ]
        except InvalidInput as error:
            self._warn(f"A protocol message was refused and stays text: {error.message}")
            return []
        for message in messages:
            if self._quoted and self._quoted(message):
                self._warn(
                    f"The message {message.kind} repeats the input or a tool result and was not acted upon."
                )
                return []
        unknown = [key for key in values if key not in PROTOCOL_KINDS]
        if unknown:
            names = ", ".join(f"“{key[:40]}”" for key in unknown[:10])
            warnings = (*messages[0].warnings, f"{messages[0].kind}: {names} beside it was ignored")
            messages[0] = replace(messages[0], warnings=warnings)
        return messages

    def _warn(self, warning: str) -> None:
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(warning)
        elif len(self.warnings) == _MAX_WARNINGS:
            self.warnings.append("There were further protocol messages that could not be used.")


def _message(kind: str, value: Any, raw: str) -> ProtocolMessage:
    data, warnings = parse_body(kind, value)
    return ProtocolMessage(kind, data, raw, warnings)


def decode_object(raw: str) -> dict[str, Any]:
    """The value of a JSON object, fit to be stored: no infinity, halves of a surrogate pair mended.

    Raises ``InvalidInput``.
    """
    try:
        value: dict[str, Any] = _DECODER.decode(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"It cannot be read as JSON: {error}.") from error
    if "\\ud" in raw.lower() or not is_encodable(raw):
        value = mended(value)
    return value


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:20]} is too large a number")
    return value


_DECODER = json.JSONDecoder(parse_float=_finite)


def read_objects(text: str, max_object_bytes: int = 262_144) -> list[str]:
    """The source of every outermost JSON object in ``text`` whose first key is a protocol message's.

    Their values are not checked.

    >>> read_objects('so {"emit_event": {"type": 1}} it is')
    ['{"emit_event": {"type": 1}}']
    """
    found: list[str] = []
    objects = _Objects(max_object_bytes, _ignore, found.append, _ignore)
    objects.feed(text)
    objects.finish()
    return found


def _ignore(_: str) -> None:
    return None
