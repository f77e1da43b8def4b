"""Who fires the triggers of a home: which process, since when, what is next, what was late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Fire, TriggerStatus
from personas_nb.views import marks
from personas_nb.views.fires import fire_rows, remedies, when_words
from personas_nb.views.marks import Cell, Code, Mark, Short, Words, clean, escape, one_line, plural, short_id
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

_KINDS = {
    "kernel": ("kernel", "a kernel", "as long as that kernel lives"),
    "server": ("Jupyter server", "the Jupyter server", "as long as Jupyter runs"),
    "headless": ("headless process", "a headless process", "until it is ended; no notebook needs to be open"),
    "python": ("Python process", "a Python process", "as long as that program runs"),
}


def status_card(
    status: TriggerStatus,
    personas: Mapping[str, Persona] | None = None,
    *,
    late: Sequence[Fire] = (),
    runs: Mapping[str, Execution] | None = None,
    said: str = "",
    tz: str = "UTC",
) -> View:
    """Who holds the loop, what is next, what was late or skipped; ``personas`` by the ids of their triggers."""
    page = Page("Triggers", sign=loop_sign(status), detail=f"as of {marks.instant(status.at, tz)} {tz}")
    page.sentence(said)
    page.sentence(pause_words(status, tz), status="warning" if status.is_paused else "")
    page.facts(
        [
            ("fired by", _fired_by(status, tz)),
            ("standing by", "this process takes over when the other one ends" if status.stands_by else None),
            (
                "switched on",
                plural(status.enabled_count, "trigger") if status.enabled_count else "no trigger",
            ),
            ("last 24 hours", _last_day(status)),
            ("events under way", f"{status.pending_events:,}" if status.pending_events else None),
            ("dead letters", f"{status.dead_letters:,}" if status.dead_letters else None),
        ]
    )
    page.table(
        (f"due ({tz})", "trigger", "persona", "for"),
        [_due_row(one.trigger_id, one.persona, one.description, when_words(one.due_at, tz)) for one in status.next_due],
        heading="Next due",
    )  # fmt: skip
    page.table(
        ("trigger", "why it is never due", "what to do"),
        [
            [Code(short_id(key)), one_line(why, 200), Code(f"%persona triggers edit {short_id(key)} …")]
            for key, why in status.unplannable.items()
        ],
        heading="Never due",
    )
    page.table(
        (f"due ({tz})", "trigger", "persona", "", "run", "what became of it", "late"),
        fire_rows(late[:5], personas=personas, runs=runs, tz=tz),
        heading="Late or skipped",
        detail="the newest",
    )
    return page.next(_status_steps(status, late, personas or {})).view(status)


def _status_steps(status: TriggerStatus, late: Sequence[Fire], personas: Mapping[str, Persona]) -> list[Step]:
    steps: list[Step] = [*loop_steps(status), *remedies(late, personas, is_paused=status.is_paused)]
    if not status.enabled_count:
        steps.append(("%persona triggers", "what there is, and how to switch it on"))
    if status.is_here or status.stands_by:
        steps.append(("%persona triggers stop", "fire nothing from here any more"))
    if status.dead_letters:
        steps.append(("%persona events dead", "what started nobody, and why"))
    steps.append(("%persona triggers history", "what became of each due time"))
    return list(dict.fromkeys(steps))


def loop_sign(status: TriggerStatus) -> Mark:
    """Whether triggers fire now."""
    if status.is_paused:
        return marks.mark("off")._replace(word="paused")
    if status.is_running:
        return Mark("▶", "firing", marks.BLUE)
    return marks.mark("off")._replace(word="nothing fires them")


def loop_line(page: Page, status: TriggerStatus, tz: str = "UTC", *, under: bool = False) -> Page:
    """A line that says who fires triggers."""
    sign = loop_sign(status)
    if status.is_paused:
        words = pause_words(status, tz)
    elif status.is_running:
        words = f"Triggers are fired by {_fired_by(status, tz)}."
    else:
        words = "Nothing fires triggers now; what is due meanwhile is missed, and accounted for later."
    return page.twin(
        clean(f"{sign.glyph} {words}"),
        f'<p style="margin:.5em 0"><b style="color:{sign.colour}">{sign.glyph}</b> {escape(words)}</p>',
        under=under,
    )


def loop_steps(status: TriggerStatus) -> list[Step]:
    """What to type where nothing fires."""
    if status.is_paused:
        return [("%persona triggers resume", "let them fire again")]
    if status.is_running or status.stands_by:
        return []
    return [
        ("%persona triggers start", "fire triggers from this kernel, while it lives"),
        ("personas triggers run", "in a terminal: fire them without a notebook"),
    ]


def holder_words(status: TriggerStatus) -> str:
    """Who fires triggers; empty where nobody does."""
    if not status.is_running:
        return ""
    own, other, _ = _KINDS.get(status.kind or "", ("process", "a process", ""))
    return f"{f'this {own}' if status.is_here else other} (process {status.pid} on {one_line(status.host or '?', 60)})"


def pause_words(status: TriggerStatus, tz: str = "UTC") -> str:
    """That everything is paused, since when and why; empty where it is not."""
    if not status.is_paused:
        return ""
    since = f" since {marks.moment(status.paused_at, tz)} {tz}" if status.paused_at else ""
    why = f": {one_line(status.pause_reason, 200)}" if status.pause_reason else ""
    return f"All triggers are paused{since}{why}. What is due meanwhile is recorded as skipped."


def _fired_by(status: TriggerStatus, tz: str) -> str:
    holder = holder_words(status)
    if not holder:
        return "nobody: what is due meanwhile is missed, and accounted for later"
    since = f", since {marks.instant(status.since, tz)} {tz}" if status.since else ""
    lives = _KINDS.get(status.kind or "", ("", "", ""))[2]
    return f"{holder}{since}{f', {lives}' if lives else ''}"


def _last_day(status: TriggerStatus) -> str:
    worst = (
        f", at worst by {marks.duration(status.worst_late_ms)}" if status.worst_late_ms is not None else ""
    )
    said = [
        f"{status.fired:,} started" if status.fired else "",
        f"{status.late:,} late{worst}" if status.late else "none late" if status.fired else "",
        f"{status.skipped:,} skipped" if status.skipped else "",
    ]
    return " · ".join(part for part in said if part) or "nothing was due"


def _due_row(trigger_id: str, persona: str, description: str, when: str) -> list[Cell]:
    return [Short(when), Code(short_id(trigger_id)), one_line(persona, 40), Words(one_line(description, 80))]
