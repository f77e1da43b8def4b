"""A mail as a person reads it: headers and text decoded, HTML as text, attachments by name and size.

A mail is whatever somebody sent. A charset that does not exist, bytes that are none of it, a date that is none, a
header in raw bytes: each is read as well as it can be, and none of them keeps the rest from being read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime
from html import unescape
from typing import Any

HTML_LIMIT_CHARS = 400_000
PARTS_LIMIT = 500

_BLOCKS = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "dd",
            "div",
            "dl",
            "dt",
            "footer",
            "form",
            "header",
            "hr",
        ),
        *("h1", "h2", "h3", "h4", "h5", "h6", "li", "main", "ol", "p", "pre", "section", "table", "tr", "ul"),
    )
)
_UNSEEN = frozenset(("head", "script", "style", "title", "template", "noscript"))
_VOID = frozenset(
    (*("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"),)
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,40})([^<>]{0,8000})>")
_ATTRIBUTE = re.compile(r"""\b([a-zA-Z-]{1,20})\s{0,9}=\s{0,9}("[^"]*"|'[^']*'|[^\s"'>]+)""")
_IS_HIDDEN = re.compile(r"(^|\s)hidden(?=[\s/=]|$)", re.IGNORECASE)
_DEPTH_LIMIT = 200
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def readable(raw: bytes, *, is_cut: bool = False) -> dict[str, Any]:
    """``date``, ``from``, ``to``, ``cc``, ``subject``, ``text`` and ``attachments`` of a mail; never raises.

    ``is_cut``: these are only the first bytes of it, so that the size of the last attachment is unknown.

    >>> readable(b"From: Ann <ann@a.example>\\r\\nSubject: =?utf-8?q?K=C3=A4se?=\\r\\n\\r\\nHello")["subject"]
    'Käse'
    """
    try:
        mail = message_from_bytes(raw)
        parts = list(_leaves(mail))
        attachments = [_attachment(part) for part in parts if _is_attachment(part)]
        if is_cut and attachments and _is_attachment(parts[-1]):
            attachments[-1]["size_bytes"] = None
        return {
            **{name: header(mail, name) for name in ("from", "to", "cc", "subject")},
            "date": _date(mail),
            "text": _text([part for part in parts if not _is_attachment(part)]),
            "attachments": attachments,
        }
    except Exception as error:  # a hostile mail makes Python's parser raise anything, RecursionError included
        text = f"(This mail cannot be read: {type(error).__name__}.)"
        return {"from": "", "to": "", "cc": "", "subject": "", "date": "", "text": text, "attachments": []}


def header(mail: Message, name: str) -> str:
    """A header decoded, on one line; empty where there is none."""
    found = [_decoded_header(value) for value in mail.get_all(name, [])]
    return " ".join(", ".join(found).split())


def html_to_text(html: str) -> str:
    """What a person would read of a page: no styles, scripts or hidden parts; links with their address.

    >>> html_to_text("<p>Dear <b>Ann</b>,</p><p>see <a href='https://a.example/x'>this</a></p><style>p{}</style>")
    'Dear Ann,\\nsee this (https://a.example/x)'
    """
    reader = _Reader()
    for text, tag, is_end, attributes in _pieces(html[:HTML_LIMIT_CHARS]):
        if not tag:
            reader.say(text)
        elif is_end:
            reader.end(tag)
        else:
            reader.start(tag, attributes)
    lines = (" ".join(line.split()) for line in "".join(reader.text).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def decoded(data: bytes, charset: str | None) -> str:
    """Bytes in a charset that may be wrong, or not exist.

    >>> decoded("Käse".encode("latin-1"), "x-unknown"), decoded("Käse".encode(), "ascii")
    ('Käse', 'Käse')
    """
    for name in (charset, "utf-8"):
        try:
            return data.decode(name or "utf-8")
        except (LookupError, ValueError):  # no such charset, no text encoding, not these bytes
            continue
    return data.decode("cp1252", "replace")


def _pieces(html: str) -> Iterator[tuple[str, str, bool, str]]:
    """Text, or a tag with whether it ends and its attributes. Linear for any input, which html.parser is not."""
    lowered = html.lower()
    at = 0
    while (begin := html.find("<", at)) >= 0:
        yield unescape(html[at:begin]), "", False, ""
        if html.startswith("<!--", begin):
            at = _after(html, "-->", begin)
        elif html.startswith(("<!", "<?"), begin):
            at = _after(html, ">", begin)
        elif found := _TAG.match(html, begin):
            end, tag, attributes = found[1], found[2].lower(), found[3]
            at = found.end()
            yield "", tag, bool(end), attributes
            if not end and tag in ("script", "style"):
                at = lowered.find(f"</{tag}", at)
                at = len(html) if at < 0 else at
        else:
            yield "<", "", False, ""
            at = begin + 1
    yield unescape(html[at:]), "", False, ""


def _after(html: str, sign: str, at: int) -> int:
    end = html.find(sign, at)
    return len(html) if end < 0 else end + len(sign)


class _Reader:
    """Collects the visible text of a page."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self._hidden: list[str] = []  # the elements, from the outermost hidden one to here
        self._links: list[str] = []

    def start(self, tag: str, attributes: str) -> None:
        """An element begins."""
        given = {name.lower(): unescape(value.strip("\"'")) for name, value in _ATTRIBUTE.findall(attributes)}
        is_hidden = tag in _UNSEEN or _HIDDEN.search(given.get("style", "")) or _IS_HIDDEN.search(attributes)
        if tag not in _VOID and (self._hidden or is_hidden) and len(self._hidden) < _DEPTH_LIMIT:
            self._hidden.append(tag)
        if self._hidden:
            return
        if tag == "br":
            self.text.append("\n")
        elif tag in _BLOCKS:
            self._end_line()
        elif tag in ("td", "th"):
            self.text.append("  ")
        elif tag == "a":
            self._links.append(given.get("href", ""))
        elif tag == "img" and given.get("alt"):
            self.text.append(f"[{given['alt']}]")

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag in self._hidden:  # also ends what was left open inside it
            while self._hidden.pop() != tag:
                pass
        elif self._hidden:
            pass
        elif tag in _BLOCKS:
            self._end_line()
        elif tag == "a" and self._links:
            link = self._links.pop()
            if re.match(r"https?://|mailto:", link) and link not in "".join(self.text[-3:]):
                self.text.append(f" ({link})")

    def say(self, text: str) -> None:
        """Text between two tags."""
        if text and not self._hidden:
            self.text.append(re.sub(r"\s+", " ", text))

    def _end_line(self) -> None:
        while self.text and not self.text[-1].strip(" "):  # the white space between two elements
            self.text.pop()
        if self.text and not self.text[-1].endswith("\n"):
            self.text.append("\n")


def _leaves(mail: Message) -> Iterator[Message]:
    """The parts that are no containers, in order; a mail inside the mail is one part. Without recursion."""
    waiting = [mail]
    for _ in range(PARTS_LIMIT):
        if not waiting:
            return
        part = waiting.pop()
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting.extend(reversed([each for each in inner if isinstance(each, Message)]))
        else:
            yield part


def _is_attachment(part: Message) -> bool:
    is_named = bool(part.get_filename()) or part.get_content_disposition() == "attachment"
    return is_named or part.get_content_maintype() not in ("text", "multipart")


def _attachment(part: Message) -> dict[str, Any]:
    name = _decoded_header(part.get_filename() or "")
    payload, inner = part.get_payload(decode=True), part.get_payload()
    if isinstance(inner, list):  # a mail inside the mail
        mails = [each for each in inner if isinstance(each, Message)]
        name = name or "; ".join(header(each, "subject") for each in mails)
        payload = b"".join(each.as_bytes() for each in mails)
    kind = part.get_content_type()
    size_bytes = len(payload) if isinstance(payload, bytes) else 0
    return {"name": " ".join(name.split()) or f"(unnamed {kind})", "type": kind, "size_bytes": size_bytes}


def _text(parts: list[Message]) -> str:
    plain = "\n".join(_content(part) for part in parts if part.get_content_subtype() != "html").strip()
    if plain:
        return plain.replace("\r\n", "\n")
    return "\n\n".join(
        html_to_text(_content(part)) for part in parts if part.get_content_subtype() == "html"
    ).strip()


def _content(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return decoded(payload, part.get_content_charset()) if isinstance(payload, bytes) else ""


def _decoded_header(value: Any) -> str:
    try:
        pieces = decode_header(value)
    except Exception:  # broken base64 raises what the decoder likes
        return str(value).encode("utf-8", "replace").decode()
    return "".join(
        piece if isinstance(piece, str) else decoded(piece, _known(charset)) for piece, charset in pieces
    )


def _known(charset: str | None) -> str | None:
    return None if charset == "unknown-8bit" else charset


def _date(mail: Message) -> str:
    """The date as RFC 3339 with its own offset; what is no date, as it is."""
    said = header(mail, "date")
    try:
        return parsedate_to_datetime(said).isoformat()
    except (TypeError, ValueError, IndexError, OverflowError):
        return said
