"""Short things to say: a notice, an error, the state of the parts, help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from personas_nb.errors import PersonaError
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, clean, escape, one_line
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

_ROW = "margin:.2em 0;padding:.15em .8em;border-left:4px solid "


def notice(sentence: str, next_step: str = "", *, status: str = "completed") -> View:
    """One sentence, and what to type next.

    >>> notice("Mail boy is off.", "%persona enable mail-boy").text
    '✓ Mail boy is off. Next: %persona enable mail-boy'
    """
    step = f"Next: {next_step}" if next_step.startswith("%") else next_step
    shown = f"Next: {marks.cell_html(Code(next_step))}" if next_step.startswith("%") else escape(next_step)
    return _line(marks.mark(status), sentence, step, shown)


def run_handle(handle: Any) -> View:
    """A run that was started, whatever became of it; looking does not ask the store."""
    identity = marks.short_id(handle.id)
    return notice(f"A run that was started: {identity}.", f"%persona runs wait {identity}", status="queued")


def error_notice(error: PersonaError) -> View:
    """One sentence, and the next step.

    >>> error_notice(PersonaError("There is no persona “mailbox”.", hint="Did you mean “mail-boy”?")).text
    '✕ There is no persona “mailbox”. Did you mean “mail-boy”?'
    """
    return _line(marks.mark("failed"), error.message, error.hint, escape(error.hint))


def health(parts: Iterable[Mapping[str, object]]) -> View:
    """The parts (name, status, latency_ms, detail) and the worst of them as the whole."""
    parts = list(parts)
    found = {str(part.get("status")) for part in parts}
    whole = next((status for status in ("unhealthy", "degraded") if status in found), "healthy")
    rows: list[list[Cell]] = [
        [
            one_line(part.get("name", "")),
            marks.mark(str(part.get("status", ""))),
            Number(_latency(part.get("latency_ms"))),
            one_line(part.get("detail") or "", 200),
        ]
        for part in parts
    ]
    return Page("Health", status=whole).table(("part", "", "answered in", ""), rows).view(parts)


def help_view(
    rows: Iterable[Sequence[str]], *, title: str = "%persona", detail: str = "", steps: Iterable[Step] = ()
) -> View:
    """What can be typed: rows of (usage, sentence), or of (group, usage, sentence)."""
    groups: dict[str, list[list[Cell]]] = {}
    for row in rows:
        group, usage, sentence = ("", *row) if len(row) == 2 else row
        groups.setdefault(group, []).append([Code(usage), sentence])
    page = Page(title, detail=detail)
    for group, cells in groups.items():
        page.table((), cells, heading=group)
    return page.next(steps).view()


def _line(sign: marks.Mark, sentence: str, step: str, step_html: str) -> View:
    glyph = f'<b style="color:{sign.colour}">{sign.glyph}</b>'
    inner = " ".join(part for part in (glyph, escape(sentence), step_html) if part)
    return View(
        text=clean(" ".join(part for part in (sign.glyph, sentence, step) if part)),
        html=f'<div class="tex2jax_ignore mathjax_ignore" style="{_ROW}{sign.colour}">{inner}</div>',
    )


def _latency(latency_ms: object) -> str:
    return marks.duration(latency_ms) if isinstance(latency_ms, int | float) else "–"
