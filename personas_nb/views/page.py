"""A card of blocks, each written twice: as plain text and as HTML. What is put on it is in both.

- A view is built by saying what is on it (``facts``, ``table``, ``prose``, ``next``), never by writing HTML.
- The HTML says the same with every style taken away: headings, tables and words.
- Everything that comes in is text and is escaped here, in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

from personas_nb.views import marks
from personas_nb.views.marks import BYPASS, REHEARSAL, Cell, Code, Mark, Short, clean, escape
from personas_nb.views.prose import OPEN_CHARS, fixed_html, folded_html, prose_html
from personas_nb.views.view import View

REHEARSED = (
    "No model was asked: the tool calls were planned by rule, outside calls are described and not performed, "
    "and it cost nothing."
)
Step = str | tuple[str, str]
"""Something to type next, and why; or a sentence."""

_FAINT_TEXT = "opacity:.75;font-size:.93em"


class Page:
    """One card under construction; every method adds a block and returns the card.

    >>> print(Page("Invoice watcher", status="completed").facts([("cost", "$0.0123")]).view())
    Invoice watcher  ✓ done
    <BLANKLINE>
    cost  $0.0123
    """

    def __init__(
        self,
        title: str,
        *,
        status: str = "",
        sign: Mark | None = None,
        detail: str = "",
        rehearsal: bool = False,
        bypass: bool = False,
    ) -> None:
        self._texts: list[str] = []
        self._htmls: list[str] = []
        sign = sign or (marks.mark(status) if status else None)
        signs = [s for s in (sign, REHEARSAL if rehearsal else None, BYPASS if bypass else None) if s]
        self._colour = sign.colour if sign else marks.FAINT
        head = "  ".join([clean(title), *map(marks.cell_text, signs)])
        head_html = f'<b style="font-size:1.1em">{escape(title)}</b>' + "".join(
            f" {marks.badge_html(sign)}" for sign in signs
        )
        if detail:
            head += f"\n{clean(detail)}"
            head_html += f'<div style="{_FAINT_TEXT}">{escape(detail)}</div>'
        self.twin(head, f"<div>{head_html}</div>")

    def sentence(self, text: str, *, status: str = "", faint: bool = False, under: bool = False) -> Self:
        """A sentence of ours, with a mark before it when it has a status."""
        if not text:
            return self
        sign = marks.mark(status) if status else None
        before = f"{sign.glyph} " if sign else ""
        glyph = f'<b style="color:{sign.colour}">{sign.glyph}</b> ' if sign else ""
        style = "margin:.5em 0" + (f";{_FAINT_TEXT}" if faint else "")
        return self.twin(clean(before + text), f'<p style="{style}">{glyph}{escape(text)}</p>', under=under)

    def heading(self, text: str, detail: str = "", *, status: str = "") -> Self:
        """The name of what follows, and a few words about it; a mark before it when it has a status."""
        said = f" · {detail}" if detail else ""
        sign = marks.mark(status) if status else None
        glyph = f'<b style="color:{sign.colour}">{sign.glyph}</b> ' if sign else ""
        rest = f'<span style="{_FAINT_TEXT}">{escape(said)}</span>' if said else ""
        return self.twin(
            clean(f"{sign.glyph} {text}{said}" if sign else text + said),
            f'<div style="margin:.8em 0 .1em">{glyph}<b>{marks.inline_html(text)}</b>{rest}</div>',
        )

    def facts(self, rows: Iterable[tuple[str, Cell | None]], *, heading: str = "", detail: str = "") -> Self:
        """Names and values, under a heading where one is given; those without a value are left out."""
        kept: list[tuple[Cell, Cell]] = [(Short(name), value) for name, value in rows if value]
        if not kept:
            return self
        if heading:
            self.heading(heading, detail)
        return self.twin(marks.table_text((), kept), marks.table_html((), kept), under=bool(heading))

    def table(
        self,
        headers: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        heading: str = "",
        detail: str = "",
        under: bool = False,
    ) -> Self:
        """Rows under a heading; nothing at all when there are none. Columns that are empty throughout are left out."""
        rows = list(rows)
        if not rows:
            return self
        if heading:
            self.heading(heading, detail)
        used = [i for i in range(len(rows[0])) if any(marks.cell_text(row[i]) for row in rows)]
        headers = [headers[i] for i in used] if headers else ()
        rows = [[row[i] for i in used] for row in rows]
        under = under or bool(heading)
        return self.twin(marks.table_text(headers, rows), marks.table_html(headers, rows), under=under)

    def prose(self, text: str, *, heading: str = "", detail: str = "", open_chars: int = OPEN_CHARS) -> Self:
        """Free text of a model or a person; the rest of a long one is folded."""
        text = clean(text).strip("\n")
        if not text.strip():
            return self
        if heading:
            self.heading(heading, detail)
        return self.twin(text, prose_html(text, open_chars=open_chars), under=bool(heading))

    def scrolled(self, text: str) -> Self:
        """Free text in a window of its own height that shows its end, for text that grows."""
        if not text.strip():
            return self
        # A reversed column begins scrolled to its end, without a script.
        style = "display:flex;flex-direction:column-reverse;max-height:22em;overflow-y:auto"
        inner = prose_html(text, open_chars=len(text) + 1)
        return self.twin(clean(text).strip("\n"), f'<div style="{style}"><div>{inner}</div></div>')

    def fixed(self, text: str, *, heading: str = "") -> Self:
        """Text in which every space counts."""
        if heading:
            self.heading(heading)
        return self.twin(clean(text), fixed_html(text), under=bool(heading))

    def folded(self, summary: str, text: str, *, fixed: bool = False) -> Self:
        """Free text behind a line that unfolds it; plain text has it under that line."""
        inner = fixed_html(text) if fixed else prose_html(text, open_chars=len(text) + 1)
        return self.twin(f"{clean(summary)}\n{_indented(clean(text).strip())}", folded_html(summary, inner))

    def next(self, steps: Iterable[Step], *, heading: str = "Next") -> Self:
        """What to type next: commands with what each is for, and sentences."""
        steps = list(steps)
        if not steps:
            return self
        if heading:
            self.heading(heading)
        commands: list[list[Cell]] = []
        for step in steps:
            command, why = (step, "") if isinstance(step, str) else step
            if command.startswith(("%", "studio.", "personas ")):
                commands.append([Code(command), why])
            else:
                self.sentence(f"{command} {why}".strip(), under=bool(heading))
        return self.table((), commands, under=bool(heading) and len(commands) == len(steps))

    def twin(self, text: str, html: str, *, under: bool = False) -> Self:
        """A block in both forms, already cleaned and escaped; ``under`` the one before, without a blank line."""
        if self._texts and not under:
            self._texts.append("")
        self._texts.append(text)
        self._htmls.append(html)
        return self

    def view(self, value: Any = None) -> View:
        """The card as a view that shows ``value``."""
        style = (
            f"border:1px solid {marks.FAINT};border-left:4px solid {self._colour};border-radius:6px;"
            "padding:.55em .9em .65em;margin:.2em 0;max-width:76em;line-height:1.45;overflow-x:auto"
        )
        # The classes keep MathJax away: “$0.01 … $0.02” is no formula.
        return View(
            text="\n".join(self._texts).strip("\n"),
            html=f'<div class="tex2jax_ignore mathjax_ignore" style="{style}">{"".join(self._htmls)}</div>',
            value=value,
        )


def listing(
    title: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    detail: str = "",
    empty: str = "",
    steps: Iterable[Step] = (),
    value: Any = None,
) -> View:
    """A list of things as a table; ``empty`` is the sentence that stands where there are none."""
    rows = list(rows)
    page = Page(title, detail=detail)
    if rows:
        page.table(headers, rows)
    else:
        page.sentence(empty or "There are none.")
    return page.next(steps).view(value)


def named(name: str, identity: str = "") -> str:
    """A persona as it is written in a verb: its name, in quotes where it needs them, else the start of its id.

    >>> named("mail-boy"), named("Invoice watcher")
    ('mail-boy', '"Invoice watcher"')
    """
    name = clean(name)
    if not name or any(char in name for char in "\"'\\{}\n"):
        return marks.short_id(identity)
    return name if name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.split("\n"))
