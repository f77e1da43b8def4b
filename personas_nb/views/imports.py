"""What came of an import or an export: the report of one file, the table of a folder, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from personas_nb.design.exporting import Exported
from personas_nb.design.formats.recognition import LABELS
from personas_nb.design.formats.report import OUTCOMES, ImportEntry, ImportReport, Outcome
from personas_nb.design.importers import ImportedFile
from personas_nb.entities.design import DesignResult
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Mark, Number, Short, Words, one_line, plural
from personas_nb.views.page import Page, Step
from personas_nb.views.triggers import trigger_words
from personas_nb.views.view import View

SIGNS: dict[Outcome, Mark] = {
    "mapped": Mark("✓", "mapped", marks.GREEN),
    "absorbed": Mark("○", "absorbed", marks.GREY),
    "needs_human": Mark("?", "needs you", marks.PLUM),
    "dropped": Mark("✕", "dropped", marks.ORANGE),
}
_MEANING: dict[Outcome, str] = {
    "mapped": "the persona has the same",
    "absorbed": "it lives on in something else",
    "needs_human": "do or decide it",
    "dropped": "it is gone, and why",
}
_OPEN_ENTRIES = 12  # rows of a table that are read at a glance; the rest is folded


def import_card(report: ImportReport, *, session_id: str = "") -> View:
    """What became of a file; ``session_id`` is where its draft is kept, so that verbs can go on with it."""
    detail = " · ".join(
        part
        for part in (
            LABELS.get(report.format, report.format),
            one_line(report.source, 120),
            f"session {marks.short_id(session_id)}" if session_id else "",
        )
        if part
    )
    page = Page(report.name, sign=Mark("▶", "imported, not applied", marks.BLUE), detail=detail)
    page.prose(report.draft.summary, open_chars=400)
    counts: list[list[Cell]] = [
        [SIGNS[outcome], Number(str(report.counts[outcome])), _MEANING[outcome]]
        for outcome in OUTCOMES
        if report.counts[outcome]
    ]
    page.table((), counts)
    page.facts(_facts(report.draft))
    _entries(page, "needs_human", report.of("needs_human"))
    _entries(page, "dropped", report.of("dropped"))
    _folded(page, "absorbed", report.of("absorbed"))
    _folded(page, "mapped", report.of("mapped"))
    if report.draft.feasibility is not None and report.draft.feasibility.overall == "blocked":
        page.sentence("It cannot be applied yet: `%persona feasibility` says why.", status="blocked")
    return page.next(_steps(session_id)).view(report)


def folder_table(folder: str, files: Sequence[ImportedFile], *, applied: bool = False) -> View:
    """What became of every file of a folder."""
    read, unread = [file for file in files if not file.error], [file for file in files if file.error]
    told = Counter(LABELS.get(file.format, file.format) for file in read)
    kinds = ", ".join(f"{count:,} × {label}" for label, count in told.most_common())
    detail = " · ".join(part for part in (one_line(folder, 120), kinds) if part)
    page = Page(f"{plural(len(read), 'persona')} of {plural(len(files), 'file')}", detail=detail)
    outcomes = [SIGNS[outcome].word for outcome in OUTCOMES]
    headers = ["file", "", "persona", *outcomes, "would start", "session"]
    page.table(headers, [_row(file, applied=applied) for file in read])
    problems: list[list[Cell]] = [
        [marks.mark("failed"), Code(one_line(file.path, 70)), Words(one_line(file.error, 300))]
        for file in unread
    ]
    page.table((), problems, heading="Not imported", detail=f"{len(unread):,}")
    if not files:
        page.sentence("There is no file in it that could be a persona (.json, .ipynb, .md).")
    return page.next(_steps_of_folder(folder, read, applied=applied)).view(list(files))


def _steps_of_folder(folder: str, read: Sequence[ImportedFile], *, applied: bool) -> list[Step]:
    if not read:
        return []
    if applied:
        return [("%persona list", "all of them"), (f"%persona show {read[0].persona}", "the first one")]
    first = marks.short_id(read[0].session_id)
    return [
        (f"%persona sessions resume {first}", "look at one, then %persona apply"),
        (f"%persona import {_typed(folder)} --apply", "make them all personas; nothing starts by itself"),
    ]


def export_card(exported: Exported) -> View:
    """Where a persona was written to, and what of it is not in the file."""
    sign = Mark("✓", "written", marks.GREEN) if exported.changed else Mark("○", "unchanged", marks.GREY)
    page = Page(exported.path.name, sign=sign, detail=f"export of {exported.persona} · {exported.format}")
    if not exported.changed:
        page.sentence("The file says that already: nothing was written.")
    page.facts([("file", Code(str(exported.path))), ("size", f"{exported.size_bytes:,} bytes")])
    rows: list[list[Cell]] = [
        [Short(one_line(part, 60)), Words(one_line(why, 300))] for part, why in exported.left_out
    ]
    if rows:
        page.table(("left out", "why"), rows, heading="Not in the file")
    else:
        page.sentence("All of it is in the file.")
    return page.next(
        [(f"%persona import {_typed(str(exported.path))}", "make it anew, here or elsewhere")]
    ).view(exported)


def _facts(draft: DesignResult) -> list[tuple[str, Cell | None]]:
    starts = [trigger_words(each.trigger_type, each.config) for each in draft.suggested_triggers]
    starts += [f"on {listened.event_type}" for listened in draft.suggested_event_subscriptions]
    profile = draft.suggested_model_profile
    model = " · ".join(part for part in (profile.provider, profile.model) if part) if profile else ""
    return [
        ("tools", ", ".join(draft.suggested_tools) or "none"),
        ("would start", one_line("; ".join(dict.fromkeys(starts)), 300) or "when you run it"),
        ("needs access to", ", ".join(each.name for each in draft.suggested_connectors)),
        ("model", model),
    ]


def _entries(page: Page, outcome: Outcome, entries: Sequence[ImportEntry]) -> None:
    if not entries:
        return
    grouped = _grouped(entries)
    shown, rest = grouped[:_OPEN_ENTRIES], grouped[_OPEN_ENTRIES:]
    heading = "Needs you" if outcome == "needs_human" else "Dropped"
    page.heading(heading, f"{len(entries):,}" if len(entries) > 1 else "")
    page.table((), [_entry(outcome, entry) for entry in shown], under=True)
    if rest:
        page.folded(f"{len(rest):,} more", _lines(rest), fixed=True)


def _grouped(entries: Sequence[ImportEntry]) -> list[ImportEntry]:
    """Entries of one reason as one: “tools: Agent, Task”."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(entry.source)
    outcome = entries[0].outcome
    return [ImportEntry(_joined(sources), outcome, reason) for reason, sources in by_reason.items()]


def _joined(sources: Sequence[str]) -> str:
    prefix, separator, _ = sources[0].rpartition(": ")
    before = prefix + separator
    if not before:
        prefix, separator, _ = sources[0].partition(" ")
        before = prefix + separator
    if all(source.startswith(before) for source in sources):
        return before + ", ".join(dict.fromkeys(source.removeprefix(before) for source in sources))
    return ", ".join(dict.fromkeys(sources))


def _entry(outcome: Outcome, entry: ImportEntry) -> list[Cell]:
    sign = SIGNS[outcome]
    return [Mark(sign.glyph, one_line(entry.source, 90), sign.colour), Words(one_line(entry.reason, 400))]


def _folded(page: Page, outcome: Outcome, entries: Sequence[ImportEntry]) -> None:
    if entries:
        page.folded(
            f"{SIGNS[outcome].glyph} {len(entries):,} {SIGNS[outcome].word}", _lines(entries), fixed=True
        )


def _lines(entries: Iterable[ImportEntry]) -> str:
    return marks.table_text(
        (), [[one_line(entry.source, 60), one_line(entry.reason, 160)] for entry in entries]
    )


def _row(file: ImportedFile, *, applied: bool) -> list[Cell]:
    path = Code(one_line(file.path, 70))
    sign = (
        Mark("✓", "applied" if file.changed else "was so already", marks.GREEN)
        if applied
        else Mark("▶", "read", marks.BLUE)
    )
    counts = file.counts or {}
    return [
        path,
        sign,
        one_line(file.persona if applied else file.name, 50),
        *(Number(str(counts.get(outcome) or "")) for outcome in OUTCOMES),
        one_line(", ".join(file.starts), 50),
        Code(marks.short_id(file.session_id)),
    ]


def _steps(session_id: str) -> list[Step]:
    if not session_id:
        return ["Type report.apply() to make it a persona; what would start it by itself stays off."]
    return [
        ("%persona apply", "make it a persona; what starts it by itself stays off"),
        ('%persona refine "…"', "change it in words first"),
        (f"%persona sessions resume {marks.short_id(session_id)}", "the whole draft"),
    ]


def _typed(path: str) -> str:
    """A path as it is typed."""
    return f'"{path}"' if any(char.isspace() for char in path) else path
