"""What failed and what helps: healing issues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personas_nb.entities.healing import HealingIssue
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, Short, Words, one_line, plural, short_id
from personas_nb.views.page import Page, Step, listing
from personas_nb.views.view import View

_CATEGORIES = {
    "RateLimit": "rate limit",
    "SessionLimit": "session limit",
    "Timeout": "time",
    "CliNotFound": "Claude CLI",
    "CredentialError": "key",
    "Breaker": "disabled",
    "Unknown": "other",
}


def issue_list(
    issues: Sequence[HealingIssue], *, names: Mapping[str, str] | None = None, tz: str = "UTC"
) -> View:
    """Issues with what to do about each; ``names`` are the personas' by id."""
    still_open = [issue for issue in issues if issue.status == "open"]
    rows: list[list[Cell]] = [
        [
            Code(short_id(issue.id)),
            marks.mark(issue.status),
            Short(marks.moment(issue.last_seen_at or issue.created_at, tz)),
            one_line((names or {}).get(issue.persona_id, ""), 30),
            _category(issue),
            Words(one_line(issue.title, 200)),
            Words(one_line(issue.remedy, 500)),
            Number(f"{issue.occurrences:,}"),
            Code(short_id(issue.execution_id or "")),
            one_line(issue.note or "", 60),
        ]
        for issue in issues
    ]
    headers = ["id", "", f"seen ({tz})", "persona", "about", "what", "what to do", "times", "run", "note"]
    steps: list[Step] = [] if issues else [("%persona runs --status failed", "what failed before")]
    if still_open:
        steps = [
            (f"%persona healing resolve {short_id(still_open[0].id)}", "when it is done; a note may follow")
        ]
    return listing(
        "Healing",
        headers,
        rows,
        detail=f"{plural(len(still_open), 'issue')} open" if issues else "",
        empty="No failure waits for you.",
        steps=steps,
        value=list(issues),
    )


def issue_card(
    issue: HealingIssue, *, persona_name: str = "", repeated: bool = False, tz: str = "UTC"
) -> View:
    """One issue; ``repeated`` when it had been resolved already."""
    page = Page(
        persona_name or "Healing",
        sign=marks.mark(issue.status),
        detail=f"{_category(issue)} · {short_id(issue.id)}",
    )
    page.sentence(one_line(issue.title, 300))
    page.facts(
        [
            ("what to do", Words(one_line(issue.remedy, 600)) if issue.status == "open" else None),
            ("seen", _seen(issue, tz)),
            ("resolved", f"{marks.moment(issue.resolved_at, tz)} {tz}" if issue.resolved_at else None),
            ("note", one_line(issue.note or "", 300)),
        ]
    )
    if repeated:
        page.sentence("It had been resolved before; nothing changed.")
    steps: list[Step] = []
    if issue.status == "open":
        steps.append((f"%persona healing resolve {short_id(issue.id)}", "when it is done; a note may follow"))
    if issue.execution_id:
        steps.append((f"%persona runs show {short_id(issue.execution_id)}", "the run that met it last"))
    return page.next(steps).view(issue)


def _category(issue: HealingIssue) -> str:
    return _CATEGORIES.get(issue.category) or one_line(issue.category, 40)


def _seen(issue: HealingIssue, tz: str) -> str:
    last = f"{marks.moment(issue.last_seen_at or issue.created_at, tz)} {tz}"
    return last if issue.occurrences == 1 else f"{issue.occurrences:,} times, last {last}"
