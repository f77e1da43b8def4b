"""The small signs of every view: what a status looks like, and how money, tokens, time and tables are written.

A mark is always glyph *and* word; only its glyph has a colour, so that text reads well in any theme.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from personas_nb.entities.execution import Execution

GREEN, ORANGE, BLUE, AMBER, PLUM, GREY = "#007A58", "#B34700", "#0072B2", "#946000", "#9C4F80", "#6B7075"
FAINT = "rgba(128,128,128,.35)"  # a border that is seen on a light and on a dark page

_CODE = "background:none;padding:0;font-size:.95em"
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
_NUMBER = "text-align:right;vertical-align:top;padding:2px 12px 2px 0"
_UNBROKEN_CHARS = 40  # a name or a figure stays on one line; a longer text is not squeezed to a word a line
_UNBROKEN_MARK_CHARS = (
    20  # a state; one that says more may go on below, or it would push wide tables out of their card
)
# Colours and cursor movements of a terminal, then every other control character, then what turns text around. Of any
# other sequence only the control characters go: the text in it may be what somebody is to approve.
_CONTROLS = re.compile(
    "\x1b\\[(?:[0-9;:?]{1,30}[A-HJKSTdfhlmnrsu]|[A-DHJKmsu])"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
# Bounded, so that no text makes it slow.
_INLINE = re.compile(r"`(?P<code>[^`\n]{1,200})`|\*\*(?=\S)(?P<bold>[^*\n]{1,200}?)(?<=\S)\*\*")


class Mark(NamedTuple):
    """A glyph, a word, and the glyph's colour."""

    glyph: str
    word: str
    colour: str


class Code(NamedTuple):
    """Something to type or a name, shown in the font of code."""

    text: str


class Words(NamedTuple):
    """A sentence that may have `code` and **bold** in it."""

    text: str


class Short(NamedTuple):
    """A name or a time, which stays on one line."""

    text: str


class Number(NamedTuple):
    """A figure, set to the right in a table."""

    text: str


Cell = str | Mark | Code | Words | Short | Number


_GLYPHS: dict[tuple[str, str], str] = {
    (
        "✓",
        GREEN,
    ): "done completed approved applied healthy ready processed started sent delivered on resolved added kept",
    ("✕", ORANGE): "failed rejected dead unhealthy blocked error denied",
    ("▶", BLUE): "running analyzing refining applying sending",
    ("▲", AMBER): "incomplete degraded partial warning budget uncertain changed",
    ("?", PLUM): "waiting pending review awaiting-input preview open question",
    (
        "○",
        GREY,
    ): "off disabled queued cancelled archived idle skipped described expired unchanged interrupted removed",
}
_WORDS = {
    "completed": "done",
    "awaiting-input": "awaits your answer",
    "waiting": "waits for you",
    "pending": "waits for you",
    "disabled": "off",
    "described": "described, not performed",
}
STATUSES: dict[str, Mark] = {
    status: Mark(glyph, _WORDS.get(status, status), colour)
    for (glyph, colour), statuses in _GLYPHS.items()
    for status in statuses.split()
}
REHEARSAL = Mark("○", "REHEARSAL", GREY)
BYPASS = Mark("⚠", "bypass", ORANGE)
"""A persona that may do whatever its engine can do, beside the tools that it was given."""
_AND_BYPASS = f" · {BYPASS.glyph} {BYPASS.word}"


def mark(status: str) -> Mark:
    """The mark of a status of any entity; an unknown one keeps its word.

    >>> mark("completed")
    Mark(glyph='✓', word='done', colour='#007A58')
    """
    return STATUSES.get(status) or Mark("○", clean(status), GREY)


def mark_text(status: str) -> str:
    """A status as plain text.

    >>> mark_text("failed")
    '✕ failed'
    """
    return cell_text(mark(status))


def badge_html(sign: Mark) -> str:
    """A mark with an outline, for the head of a card."""
    outline = (
        f"border:1px solid {sign.colour};border-radius:1em;padding:0 .55em;margin-left:.4em;font-size:.9em"
    )
    return f'<span style="{outline}">{cell_html(sign)}</span>'


# -- text of others ----------------------------------------------------------------------------------------


def clean(text: object) -> str:
    """Text without what could take over a terminal, turn the line around, or not be sent at all.

    >>> clean("\\x1b[31mred\\x1b[0m \\x07bell")
    'red bell'
    """
    whole = str(text).replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", whole))


def escape(text: object) -> str:
    """Text of others as HTML that shows it and does nothing else.

    >>> escape("<b>1 & 2</b>")
    '&lt;b&gt;1 &amp; 2&lt;/b&gt;'
    """
    return html.escape(clean(text))


def inline_html(text: str) -> str:
    """Text of others as HTML, its `code` and **bold** shown as such.

    >>> inline_html("type `%persona` & see")
    'type <code>%persona</code> &amp; see'
    """
    return _INLINE.sub(_inline, escape(text))


def _inline(found: re.Match[str]) -> str:
    return f"<code>{found['code']}</code>" if found["code"] else f"<b>{found['bold']}</b>"


def one_line(text: object, limit_chars: int = 100) -> str:
    """Text on one line, cut after ``limit_chars`` with an ellipsis.

    >>> one_line("two\\nlines", 6)
    'two l…'
    """
    # What a line cannot show is not read: a text may be a megabyte long.
    line = " ".join(clean(str(text)[: limit_chars * 4 + 200]).split())
    cut = len(line) > limit_chars or len(str(text)) > limit_chars * 4 + 200
    return line[: limit_chars - 1].rstrip() + "…" if cut else line


def short_id(identity: str) -> str:
    """The first eight characters of an id; enough to name it.

    >>> short_id("1a2b3c4d-0000-4000-8000-000000000000")
    '1a2b3c4d'
    """
    return clean(identity)[:8]


# -- figures -----------------------------------------------------------------------------------------------


def money(cost_usd: float | None, *, rehearsal: bool = False) -> str:
    """US dollars; None is a price that nobody knows, never nothing.

    >>> money(0.01234), money(None), money(0.0, rehearsal=True)
    ('$0.0123', 'unknown', '$0 (rehearsal)')
    """
    if rehearsal and not cost_usd:
        return "$0 (rehearsal)"
    if cost_usd is None or cost_usd != cost_usd:  # NaN is a DataFrame's None
        return "unknown"
    if cost_usd == 0:
        return "$0"
    if abs(cost_usd) < 0.0001:
        return "under $0.0001"
    return f"${cost_usd:,.2f}" if cost_usd >= 10 else f"${cost_usd:.4f}"


def tokens(count: int, *, rehearsal: bool = False) -> str:
    """A number of tokens; rehearsal only estimates them.

    >>> tokens(1234), tokens(1234, rehearsal=True)
    ('1,234', '1,234 (estimated)')
    """
    return f"{count:,} (estimated)" if rehearsal else f"{count:,}"


def duration(duration_ms: float | None) -> str:
    """How long it took.

    >>> duration(17), duration(1234), duration(125_000), duration(None)
    ('17 ms', '1.2 s', '2 min 5 s', '–')
    """
    if duration_ms is None or duration_ms != duration_ms:
        return "–"
    if duration_ms < 100:
        return f"{duration_ms:.0f} ms"
    if duration_ms < 59_950:
        return f"{duration_ms / 1000:.1f} s"
    seconds = round(duration_ms / 1000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def moment(when: datetime | None, tz: str = "UTC", *, weekday: bool = False) -> str:
    """A time in a zone, to the minute. It names the day, for a saved notebook is read on other days.

    >>> from datetime import UTC
    >>> moment(datetime(2026, 11, 21, 8, 0, tzinfo=UTC), "Europe/Berlin")
    '2026-11-21 09:00'
    """
    if when is None:
        return "–"
    return when.astimezone(ZoneInfo(tz)).strftime("%a %Y-%m-%d %H:%M" if weekday else "%Y-%m-%d %H:%M")


def instant(when: datetime, tz: str = "UTC") -> str:
    """A time in a zone, to the second.

    >>> from datetime import UTC
    >>> instant(datetime(2026, 11, 21, 8, 0, 5, tzinfo=UTC), "Europe/Berlin")
    '2026-11-21 09:00:05'
    """
    return when.astimezone(ZoneInfo(tz)).strftime("%Y-%m-%d %H:%M:%S")


def after(passed_ms: float) -> str:
    """How long after the beginning something was.

    >>> after(0), after(1234), after(125_000)
    ('+0.00 s', '+1.23 s', '+2 min 5 s')
    """
    return f"+{passed_ms / 1000:.2f} s" if passed_ms < 59_995 else f"+{duration(passed_ms)}"


def sign_of(execution: Execution, *, bypass: bool = False) -> Mark:
    """The mark of a run in a list; a rehearsal and a persona that may do anything say so in the same place."""
    sign = mark(execution.status)
    sign = sign._replace(word=f"{sign.word} · REHEARSAL") if execution.rehearsal else sign
    return with_bypass(sign) if bypass else sign


def with_bypass(sign: Mark) -> Mark:
    """A mark that says, behind its word, that the persona may do anything.

    >>> with_bypass(mark("on")).word
    'on · ⚠ bypass'
    """
    return sign._replace(word=sign.word + _AND_BYPASS)


def plural(count: int, noun: str, many: str = "") -> str:
    """A number with its noun.

    >>> plural(1, "run"), plural(1200, "run"), plural(2, "memory", "memories")
    ('1 run', '1,200 runs', '2 memories')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


# -- tables ------------------------------------------------------------------------------------------------


def cell_text(cell: Cell) -> str:
    """A cell as plain text."""
    return clean(f"{cell.glyph} {cell.word}") if isinstance(cell, Mark) else clean(_content(cell))


def cell_html(cell: Cell) -> str:
    """A cell as HTML."""
    if isinstance(cell, Mark):
        word = escape(cell.word)
        if cell.word.endswith(_AND_BYPASS):
            word = f"{escape(cell.word.removesuffix(_AND_BYPASS))} · {cell_html(BYPASS)}"
        return f'<b style="color:{cell.colour}">{escape(cell.glyph)}</b> {word}'
    if isinstance(cell, Code):
        if not cell.text:
            return ""
        unbroken = ";white-space:nowrap" if len(cell.text) <= _UNBROKEN_CHARS else ""
        return f'<code style="{_CODE}{unbroken}">{escape(cell.text)}</code>'
    if isinstance(cell, Words):
        return inline_html(cell.text)
    return escape(_content(cell))


def _cell_style(cell: Cell) -> str:
    style = _NUMBER if isinstance(cell, Number) else _CELL
    length = len(cell_text(cell))
    if isinstance(cell, str | Words):
        return f"{style};min-width:12em;overflow-wrap:anywhere" if length > _UNBROKEN_CHARS else style
    limit = _UNBROKEN_MARK_CHARS if isinstance(cell, Mark) else _UNBROKEN_CHARS
    return f"{style};white-space:nowrap" if length <= limit else style


def _content(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def table_html(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table as HTML; without headers it has no head. Everything in it is escaped."""
    head = ""
    rows = list(rows)
    right = [all(isinstance(cell, Number) for cell in column) for column in zip(*rows, strict=False)]
    if headers:
        cells = "".join(
            f'<th style="{_NUMBER if index < len(right) and right[index] else _CELL};opacity:.75">'
            f"{escape(header)}</th>"
            for index, header in enumerate(headers)
        )
        line = f'style="background:none;border-bottom:1px solid {FAINT}"'
        head = f"<thead><tr {line}>{cells}</tr></thead>"
    body = "".join(
        '<tr style="background:none">'
        + "".join(f'<td style="{_cell_style(cell)}">{cell_html(cell)}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    style = "border-collapse:collapse;border:0;margin:.25em 0;table-layout:auto;font-size:.95em"
    return f'<table style="{style}">{head}<tbody>{body}</tbody></table>'


def table_text(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table as plain text, its columns aligned.

    >>> print(table_text(["name", "runs"], [["mail", Number("2")], ["invoices", Number("12")]]))
    name      runs
    mail         2
    invoices    12
    """
    rows = list(rows)
    lines = [[" ".join(cell_text(cell).split()) for cell in row] for row in rows]
    right = [all(isinstance(cell, Number) for cell in column) for column in zip(*rows, strict=False)]
    if headers:
        lines.insert(0, [" ".join(clean(header).split()) for header in headers])
    widths = [max(map(_width, column)) for column in zip(*lines, strict=False)]
    return "\n".join(
        "  ".join(
            " " * (width - _width(cell)) + cell if to_the_right else cell + " " * (width - _width(cell))
            for cell, width, to_the_right in zip(line, widths, right or [False] * len(widths), strict=False)
        ).rstrip()
        for line in lines
    )


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
