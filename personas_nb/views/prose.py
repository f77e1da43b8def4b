"""Free text of models and people: as it is in plain text, as paragraphs in HTML, long text with its rest folded.

Of Markdown only what reads well without being interpreted further: headings, bold, code, fences and tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from personas_nb.views.marks import FAINT, Words, clean, escape, inline_html, table_html

OPEN_CHARS = 1500
"""Characters of a long text that are visible before it is unfolded."""

_PARAGRAPH = "margin:.45em 0;white-space:pre-wrap;overflow-wrap:anywhere"
_FIXED = (
    "margin:.45em 0;padding:0 0 0 .7em;background:transparent;white-space:pre-wrap;overflow-wrap:anywhere;"
    f"border:0;border-left:2px solid {FAINT};font-size:.93em"
)
_HEADING = re.compile(r"#{1,6} ")


class _Block(NamedTuple):
    text: str
    kind: Literal["paragraph", "code", "table"]


def prose_html(text: str, *, open_chars: int = OPEN_CHARS) -> str:
    """Text as paragraphs; what is beyond ``open_chars`` is behind a line that unfolds it."""
    text = clean(text).strip("\n")
    seen, rest = _parted(text, open_chars)
    shown = "".join(map(_block_html, seen))
    if not rest:
        return shown
    hidden = sum(len(block.text) for block in rest)
    return shown + folded_html(f"… the rest ({hidden:,} characters)", "".join(map(_block_html, rest)))


def folded_html(summary: str, inner_html: str) -> str:
    """HTML behind a line that unfolds it."""
    line = f'<summary style="cursor:pointer;display:list-item">{escape(summary)}</summary>'
    return f'<details style="margin:.3em 0">{line}{inner_html}</details>'


def fixed_html(text: str) -> str:
    """Text in which every space counts."""
    return f'<pre style="{_FIXED}">{escape(text)}</pre>'


def _parted(text: str, open_chars: int) -> tuple[list[_Block], list[_Block]]:
    seen: list[_Block] = []
    rest: list[_Block] = []
    left = open_chars
    for block in _blocks(text):
        if left <= 0 or rest:
            rest.append(block)
        elif len(block.text) <= left + open_chars // 4:  # no fold for a few words
            seen.append(block)
            left -= len(block.text)
        else:
            cut = max(block.text.rfind("\n", 0, left), block.text.rfind(" ", 0, left), 0) or left
            seen.append(_Block(block.text[:cut], block.kind))
            rest.append(_Block(block.text[cut:].lstrip("\n "), block.kind))
    if sum(len(block.text) for block in rest) <= open_chars // 4:
        return seen + rest, []
    return seen, rest


def _blocks(text: str) -> Iterator[_Block]:
    lines: list[str] = []
    in_fence = False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            yield from _as_block(lines, is_code=in_fence)
            lines, in_fence = [], not in_fence
        elif line.strip() or in_fence:
            lines.append(line)
        else:
            yield from _as_block(lines)
            lines = []
    yield from _as_block(lines, is_code=in_fence)


def _as_block(lines: list[str], *, is_code: bool = False) -> Iterator[_Block]:
    if lines:
        is_table = len(lines) > 1 and all(line.lstrip().startswith("|") for line in lines)
        yield _Block("\n".join(lines), "code" if is_code else "table" if is_table else "paragraph")


def _block_html(block: _Block) -> str:
    if block.kind == "code":
        return fixed_html(block.text)
    if block.kind == "table":
        return _table_html(block.text)
    lines = "<br>".join(map(_line_html, block.text.split("\n")))
    return f'<p style="{_PARAGRAPH}">{lines}</p>'


def _table_html(text: str) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.split("\n")]
    ruled = len(rows) > 1 and all(set(cell) <= set("-: ") for cell in rows[1])
    head, body = (rows[0], rows[2:]) if ruled else ([], rows)
    width = max(map(len, rows))
    cells = [[Words(cell) for cell in row + [""] * (width - len(row))] for row in body]
    return table_html(head + [""] * (width - len(head)) if head else (), cells)


def _line_html(line: str) -> str:
    heading = _HEADING.match(line)
    if heading:
        return f"<b>{escape(line[heading.end() :])}</b>"
    return inline_html(line)
