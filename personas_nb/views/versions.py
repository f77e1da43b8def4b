"""The history of a prompt: how each version did, one of them, and what differs between two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.personas.prompt_diff import PromptDiff, SectionDiff
from personas_nb.personas.versions import VersionResult
from personas_nb.personas.word_diff import shortened
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, Short, escape, one_line, plural
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

CURRENT = marks.Mark("✓", "current", marks.GREEN)
SHOWN_MAX = 25
_PARAGRAPH = "white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0"
_TAGS = {
    "insert": ('<ins style="background:rgba(0,122,88,.2)">', "</ins>"),
    "delete": ('<del style="background:rgba(179,71,0,.2)">', "</del>"),
    "skip": ('<span style="opacity:.75">… ', " that stay …</span>"),
    "equal": ("", ""),
}


def version_list(
    versions: Sequence[PromptVersion],
    current: int,
    *,
    results: Iterable[VersionResult] = (),
    name: str = "NAME",
    title: str = "",
    limit: int = SHOWN_MAX,
    tz: str = "UTC",
) -> View:
    """The states of a prompt, the newest first: who made each, what changed, and how its runs ended.

    Rehearsals are counted apart, for they say nothing of a model. ``name`` is what the persona is called in verbs.
    """
    results = list(results)
    real = {result.version: result for result in results if not result.rehearsal}
    shown = versions[:limit]
    page = Page(f"Versions of {title}" if title else "Versions", detail=_standing(versions, current, results))
    if not versions:
        page.sentence("It has no version yet.")
    page.table(
        (
            "version",
            "",
            "tags",
            "what changed",
            "by",
            f"made ({tz})",
            "runs",
            "succeeded",
            "cost a run",
            "took",
        ),
        [_version_row(version, current, real.get(version.version), tz) for version in shown],
    )
    if len(versions) > limit:
        page.sentence(
            f"… and {len(versions) - limit:,} older: %persona versions {name} --limit {len(versions)}",
            faint=True,
            under=True,
        )
    if real:
        page.sentence("“Took” is the median; cancelled runs count neither way.", faint=True, under=True)
    page.table(
        ("version", "runs", "succeeded", "took", f"last ({tz})"),
        [
            [
                Number(str(result.version)),
                Number(f"{result.runs:,}"),
                Number(_success(result)),
                Number(marks.duration(result.duration_ms_p50)),
                Short(marks.moment(result.last_at, tz)),
            ]
            for result in results
            if result.rehearsal
        ],
        heading="Rehearsals",
        detail="no model was asked: they say whether it runs, not how well",
    )
    return page.next(_steps(versions, current, bool(real), name)).view(list(versions))


def version_card(
    version: PromptVersion,
    *,
    results: Iterable[VersionResult] = (),
    current: int | None = None,
    name: str = "",
    title: str = "",
    tz: str = "UTC",
) -> View:
    """One state of a prompt, whole; with the ``name`` of its persona also what to do with it."""
    is_current = version.version == current
    what = f"{title} · version {version.version}" if title else f"Version {version.version}"
    made = f"by {version.author} · {marks.moment(version.created_at, tz)} {tz} · {version.change_summary}"
    page = Page(what, sign=CURRENT if is_current else None, detail=made)
    page.facts(
        [
            ("tags", ", ".join(version.tags)),
            *(
                ("rehearsals" if result.rehearsal else "runs", _in_words(result))
                for result in results
                if result.version == version.version
            ),
        ]
    )
    for heading, text in _told(version):
        page.folded(f"{heading} ({len(text):,} characters)", text)
    steps: list[Step] = []
    if name and not is_current:
        steps = [
            (f"%persona diff {name} {version.version} current", "what changed since"),
            (f"%persona rollback {name} {version.version}", "go back; it becomes a new version"),
        ]
    return page.next(steps).view(version)


def prompt_diff(diff: PromptDiff, *, name: str = "", title: str = "", current: int | None = None) -> View:
    """What differs between two states of a prompt: what went is struck out, what came is underlined."""
    what = f"version {diff.a} → {diff.b}"
    page = Page(f"{title} · {what}" if title else what.capitalize(), detail=_extent(diff))
    if diff.sections:
        page.twin(marks.clean(diff.text), "".join(map(_section_html, diff.sections)))
    steps = []
    if name and diff.a != diff.b and diff.sections:
        older = min(diff.a, diff.b)
        steps = [(f"%persona rollback {name} {older}", f"go back to version {older}; it becomes a new one")]
    return page.next(steps if current in (None, diff.a, diff.b) else ()).view(diff)


def _standing(versions: Sequence[PromptVersion], current: int, results: Sequence[VersionResult]) -> str:
    tagged = {tag: version.version for version in versions for tag in version.tags}
    production = tagged.get("production")
    runs = sum(result.runs for result in results if not result.rehearsal)
    rehearsals = sum(result.runs for result in results if result.rehearsal)
    parts = [
        plural(len(versions), "version"),
        "" if production in (None, current) else f"production is {production}, current is {current}",
        plural(runs, "run") if runs else "",
        plural(rehearsals, "rehearsal") if rehearsals else "",
        "" if runs or rehearsals else "none of them has run",
    ]
    return " · ".join(part for part in parts if part)


def _version_row(version: PromptVersion, current: int, result: VersionResult | None, tz: str) -> list[Cell]:
    return [
        Number(str(version.version)),
        CURRENT if version.version == current else "",
        Code(", ".join(version.tags)),
        one_line(version.change_summary, 90),
        version.author,
        Short(marks.moment(version.created_at, tz)),
        Number(f"{result.runs:,}" if result else ""),
        Number(_success(result) if result else ""),
        Number(_cost(result) if result else ""),
        Number(marks.duration(result.duration_ms_p50) if result else ""),
    ]


def _success(result: VersionResult) -> str:
    """The share, and of how many."""
    rate = result.success_rate
    return "–" if rate is None else f"{result.completed:,} of {result.decided:,} · {rate:.0%}"


def _cost(result: VersionResult) -> str:
    """The mean of what is known, and how many are not."""
    if result.cost_usd_mean is None:
        return "unknown"
    unknown = f" ({result.unknown_costs:,} unknown)" if result.unknown_costs else ""
    return marks.money(result.cost_usd_mean) + unknown


def _in_words(result: VersionResult) -> str:
    parts = [
        f"{_success(result)} succeeded" if result.decided else f"{plural(result.runs, 'run')}, all cancelled",
        "" if result.rehearsal else f"{_cost(result)} a run",
        f"median {marks.duration(result.duration_ms_p50)}",
    ]
    return ", ".join(part for part in parts if part)


def _steps(versions: Sequence[PromptVersion], current: int, has_run: bool, name: str) -> list[Step]:
    numbers = sorted(version.version for version in versions)
    if not numbers:
        return []
    tagged = {tag: version.version for version in versions for tag in version.tags}
    steps: list[Step] = []
    if tagged.get("production", current) != current:
        steps.append((f"%persona diff {name} production current", "what production does not have yet"))
        steps.append((f"%persona tag {name} current production", "make the current one production"))
    elif len(numbers) > 1:
        steps.append((f"%persona diff {name} {numbers[-2]} {numbers[-1]}", "what differs"))
    if len(numbers) > 1:
        back = tagged.get("production", current)
        back = numbers[-2] if back == current else back
        steps.append((f"%persona rollback {name} {back}", "go back; it becomes a new version"))
    if not tagged and has_run:
        steps.append((f"%persona tag {name} current production", "name the one that you rely on"))
    steps.append((f"%persona versions show {name} {numbers[-1]}", "all that it is told"))
    return steps


def _told(version: PromptVersion) -> list[tuple[str, str]]:
    value = version.structured_prompt
    if isinstance(value, StructuredPrompt) and not value.is_empty():
        return value.sections()
    told = [("Identity", version.system_prompt.strip())]
    if isinstance(value, str):
        told.append(("Structured prompt (unreadable)", value.strip()))
    return [(heading, text) for heading, text in told if text]


def _extent(diff: PromptDiff) -> str:
    """What was done, and how many words came and went."""
    came, went = diff.word_counts
    counts = [
        f"{plural(came, 'word')} added" if came else "",
        f"{plural(went, 'word')} removed" if went else "",
    ]
    return " · ".join(part for part in (diff.summary, *counts) if part)


def _section_html(section: SectionDiff) -> str:
    inner = "".join(
        _TAGS[op][0] + escape(text).replace("\n", "<br>") + _TAGS[op][1] + ("<br>" if op == "skip" else "")
        for op, text in shortened(section.hunks)
    )
    title = f"<b>{escape(section.heading)}</b> ({escape(section.status)})"
    return f'<div style="margin:.8em 0 .1em">{title}</div><p style="{_PARAGRAPH}">{inner}</p>'
