"""What a file is, by its content: the text that a designer is shown of it, and in words what of it that is.

Nothing here opens or fetches anything. What is not what its name says (a PDF that is none) is refused with a
sentence; what cannot be read as data but is text is read as text, and said so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import PurePath
from typing import Any

from personas_nb.design import context_apis, context_tables
from personas_nb.entities.design import ContextKind, SuggestedServer
from personas_nb.errors import InvalidInput

YAML_DEPTH_MAX = 100  # deeper ones end the process: libyaml's Python side recurses in C
_TABLES = {".csv": ",", ".tsv": "\t"}
_NO_TEXT = {
    b"PK\x03\x04": "a zip archive or an Office document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\x1f\x8b": "compressed",
    b"SQLite format 3": "a database",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"PAR1": "a Parquet file",
}


@dataclass(frozen=True)
class Understood:
    """What a source is and what of it a designer is shown."""

    kind: ContextKind
    text: str
    used: str
    columns: tuple[str, ...] = ()
    servers: tuple[SuggestedServer, ...] = field(default=())


def understood(name: str, data: bytes, *, limit_chars: int, media_type: str = "") -> Understood:
    """Read the bytes of a file; ``media_type`` is what a server said that they are.

    Raises ``InvalidInput`` for what has no text.

    >>> understood("sales.csv", b"day,amount\\n2026-01-02,3\\n", limit_chars=1000).used
    'table: 2 columns, 1 row, all of it'
    """
    suffix = PurePath(name).suffix.lower()
    if data[:1024].lstrip().startswith(b"%PDF-"):
        return _pdf(name, data, limit_chars)
    if suffix == ".pdf" or media_type == "application/pdf":
        raise InvalidInput(
            f"{name} is no PDF, though it is called one.",
            hint="Open it to see what it is, or save it as text.",
        )
    text = _decoded(name, data)
    if media_type in ("text/html", "application/xhtml+xml") or suffix in (".html", ".htm"):
        return _page(text, limit_chars)
    if suffix in _TABLES or media_type == "text/csv":
        return _table(text, limit_chars)
    if suffix == ".ipynb":
        return _notebook(text, limit_chars)
    if suffix in (".json", ".jsonc") or media_type.endswith("json") or text.lstrip()[:1] in ("{", "["):
        return _data(text, "json", _json, limit_chars)
    if suffix in (".yaml", ".yml") or media_type.endswith("yaml"):
        return _data(text, "yaml", safe_yaml, limit_chars)
    if re.match(r"<!doctype html|<html\b", text.lstrip()[:50], re.IGNORECASE):
        return _page(text, limit_chars)
    return _prose(
        text, limit_chars, is_markdown=suffix in (".md", ".markdown") or media_type == "text/markdown"
    )


def cut(text: str, limit_chars: int) -> tuple[str, str]:
    """The text within the limit, and in words how much of it that is.

    >>> cut("one two three", 8)
    ('one two', 'the first 7 of 13 characters')
    """
    if len(text) <= limit_chars:
        return text, "all of it"
    end = max(text.rfind("\n", 0, limit_chars), text.rfind(" ", 0, limit_chars))
    shown = text[: end if end > limit_chars // 2 else limit_chars]
    return shown, f"the first {len(shown):,} of {len(text):,} characters"


def safe_yaml(text: str) -> Any:
    """The document that a YAML text is; raises ``ValueError`` for one that is none, or nested too deeply."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a MiB takes the other one half a minute
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH_MAX:
                raise ValueError(f"it is nested more than {YAML_DEPTH_MAX} deep")
        return yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader, either of them
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _decoded(name: str, data: bytes) -> str:
    for beginning, what in _NO_TEXT.items():
        if data.startswith(beginning):
            raise InvalidInput(
                f"The context file {name} is no text in UTF-8: it is {what}.",
                hint="Save the part that matters as text, CSV or PDF.",
            )
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidInput(
            f"The context file {name} is no text in UTF-8.",
            hint="Give a text file: .txt, .md, .csv, .json, .yaml and the like, or a PDF.",
        )
    return text.replace("\r\n", "\n")


def _data(text: str, kind: ContextKind, parse: Callable[[str], Any], limit_chars: int) -> Understood:
    """JSON or YAML: an API or a configuration of servers where it is one, else the data or its shape."""
    try:
        value = parse(text)
    except ValueError as error:
        shown, how_much = cut(text, limit_chars)
        return Understood("text", shown, f"text, for it is no valid {kind.upper()} ({error}); {how_much}")
    if context_apis.is_openapi(value):
        shown, used = context_apis.openapi(value, limit_chars)
        return Understood("openapi", shown, used)
    if (servers := context_apis.servers_of(value)) is not None:
        return Understood("mcp", *context_apis.described(servers), servers=tuple(servers))
    if len(text) <= limit_chars:
        return Understood(kind, text, f"{kind.upper()}, all of it")
    shown, how_much = cut(context_apis.shape(value), limit_chars)
    return Understood(
        kind, shown, f"the shape of the {kind.upper()} with one value each, not all its data; {how_much}"
    )


def _table(text: str, limit_chars: int) -> Understood:
    found = context_tables.table(text, limit_chars)
    if found is None:
        shown, how_much = cut(text, limit_chars)
        return Understood("text", shown, f"text, for its lines are no table; {how_much}")
    shown, used, columns = found
    return Understood("table", shown, used, columns=columns)


def _prose(text: str, limit_chars: int, *, is_markdown: bool) -> Understood:
    shown, how_much = cut(text.strip(), limit_chars)
    if not is_markdown:
        return Understood("text", shown, f"text, {how_much}")
    count = len(re.findall(r"^#{1,6} ", text, re.MULTILINE))
    headings = f" with {count} heading{'s' * (count != 1)}" if count else ""
    return Understood("markdown", shown, f"Markdown{headings}, {how_much}")


def _notebook(text: str, limit_chars: int) -> Understood:
    """The cells of a notebook, without what they showed."""
    try:
        cells = [cell for cell in _json(text)["cells"] if isinstance(cell, dict)]
    except (ValueError, KeyError, TypeError):
        return _data(text, "json", _json, limit_chars)
    sources = [_joined(cell.get("source")) for cell in cells]
    shown, how_much = cut("\n\n".join(source for source in sources if source.strip()), limit_chars)
    return Understood(
        "notebook", shown, f"notebook, its {len(cells)} cells without their outputs, {how_much}"
    )


def _joined(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source or "")


def _page(text: str, limit_chars: int) -> Understood:
    reader = _Page()
    reader.feed(text)
    reader.close()
    words = re.sub(r"\n\s*\n\s*", "\n\n", re.sub(r"[ \t]+", " ", "".join(reader.parts))).strip()
    if not words:
        raise InvalidInput(
            "The page has no text of its own; a script of it may write it.",
            hint="Save the part that matters as text, and give that file.",
        )
    shown, how_much = cut(words, limit_chars)
    title = " ".join(reader.title.split())[:80]
    return Understood("page", shown, f"the words of the page{f' “{title}”' if title else ''}, {how_much}")


class _Page(HTMLParser):
    """The words of a web page: no scripts, styles, or menus."""

    _SKIPPED = frozenset({"script", "style", "noscript", "template", "svg", "nav", "footer"})
    _BLOCKS = frozenset(
        {"p", "div", "section", "article", "header", "main", "li", "ul", "ol", "dl", "dt", "dd", "pre"}
    ) | frozenset({"table", "tr", "br", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title = ""
        self._skipping: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:  # noqa: ARG002 - as inherited
        if tag in self._SKIPPED:
            self._skipping.append(tag)
        self._in_title = tag == "title"
        if tag in self._BLOCKS:
            level = int(tag[1]) if re.fullmatch(r"h[1-6]", tag) else 0
            self.parts.append("\n\n" + "#" * level + " " * bool(level) if level else "\n")
        if tag == "li":
            self.parts.append("- ")
        if tag in ("td", "th"):
            self.parts.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if self._skipping and tag in self._skipping:
            del self._skipping[self._skipping.index(tag) :]
        self._in_title = False
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._skipping:
            self.parts.append(data if data.strip() else " ")


def _pdf(name: str, data: bytes, limit_chars: int) -> Understood:
    """The text of a PDF's pages, until the limit."""
    import io
    import logging

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(
        logging.CRITICAL
    )  # what a broken file makes it say is of no use to anybody
    texts: list[str] = []
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InvalidInput(
                f"{name} is a PDF with a password.", hint="Save it without one, and give that file."
            )
        count = len(reader.pages)
        for page in reader.pages:
            texts.append(page.extract_text().strip())
            if sum(map(len, texts)) > limit_chars:
                break
    except InvalidInput:
        raise
    except (
        PyPdfError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        OSError,
    ) as error:
        # What a broken PDF makes its reader raise is not one kind.
        raise InvalidInput(
            f"{name} begins like a PDF, and is none that can be read.",
            hint="Open it to see whether it is damaged, or save it as text.",
        ) from error
    text = "\n\n".join(filter(None, texts))
    if not text:
        raise InvalidInput(
            f"{name} has no text: its {count} page{'s' * (count != 1)} may be pictures of a scanner.",
            hint="Have its text recognised (OCR), or write down the part that matters.",
        )
    shown, how_much = cut(text, limit_chars)
    pages = (
        f"{count} page{'s' * (count != 1)}"
        if len(texts) == count
        else f"the first {len(texts)} of {count} pages"
    )
    return Understood("pdf", shown, f"PDF, {pages}, {how_much}")
