"""What became of the due times of triggers: runs, skips with their reasons, and how late each was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import UNCHANGED, Fire
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Mark, Short, Words, one_line, plural, short_id
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

LATE_MS = 1_000
"""From here on a fire is said to have been late."""

_RESUME = "%persona triggers resume"
# What a reason speaks of, what to type then, and what that does.
_REMEDIES = (
    (r"\bdisabled\b|\barchived\b", "%persona enable {persona}", "let {persona} run again"),
    (r"“bypass”", "%persona triggers enable {trigger} --allow-bypass", "if it may start by itself all the same"),
    (r"\bpaused\b", _RESUME, "let triggers fire again"),
    (r"\bqueue", "%persona runs --persona {persona} --status queued", "what fills its queue"),
    (r"\bmissed\b|catch_up", "%persona triggers edit {trigger} catch_up=all", "to run each missed time, at most 100"),
    (r"\banswered\b|\baddress\b|could not be (?:reached|read)", "%persona triggers show {trigger}", "the address"),
)  # fmt: skip


def fire_list(
    fires: Sequence[Fire],
    *,
    personas: Mapping[str, Persona] | None = None,
    runs: Mapping[str, Execution] | None = None,
    title: str = "Fires",
    more: Step | None = None,
    is_paused: bool = True,
    tz: str = "UTC",
) -> View:
    """Fires, the newest first; ``personas`` by the ids of their triggers, ``runs`` by their own.

    ``is_paused``: whether all triggers are still; where they are not, nothing needs to be resumed.
    """
    page = Page(title, detail=counted(fires))
    if not fires:
        page.sentence("No trigger has been due yet.")
        steps: list[Step] = [("%persona triggers", "what there is, and when it is due")]
        return page.next(steps).view([])
    page.table(
        (f"due ({tz})", "trigger", "persona", "", "run", "what became of it", "late"),
        fire_rows(fires, personas=personas, runs=runs, tz=tz),
    )
    steps = [*remedies(fires, personas or {}, is_paused=is_paused), *([more] if more else [])]
    if run := next((fire.execution_id for fire in fires if fire.execution_id), None):
        steps.append((f"%persona runs show {short_id(run)}", "everything that happened in the latest run"))
    return page.next(steps).view(list(fires))


def fire_rows(
    fires: Iterable[Fire],
    *,
    personas: Mapping[str, Persona] | None = None,
    runs: Mapping[str, Execution] | None = None,
    tz: str = "UTC",
) -> list[list[Cell]]:
    """A row for each: when, of which trigger and persona, its sign, its run, what became of it, how late."""
    rows: list[list[Cell]] = []
    for fire in fires:
        persona = (personas or {}).get(fire.trigger_id)
        run = (runs or {}).get(fire.execution_id or "")
        rows.append(
            [
                Short(due_words(fire, tz)),
                Code(short_id(fire.trigger_id)),
                Code(persona.slug if persona else ""),
                fire_sign(fire, run),
                Code(short_id(fire.execution_id or "")),
                _became(fire, run),
                late_cell(fire),
            ]
        )
    return rows


def fire_card(
    fire: Fire, *, persona: Persona | None = None, run: Execution | None = None, tz: str = "UTC"
) -> View:
    """One fire: when it was due, when that was decided, and what came of it."""
    page = Page(persona.name if persona else "Fire", sign=fire_sign(fire, run), detail=_detail(fire))
    if fire.reason:
        page.sentence(one_line(fire.reason, 400))
    page.facts(
        [
            ("due", f"{due_words(fire, tz)} {tz}"),
            ("decided", f"{marks.instant(fire.decided_at, tz)} {tz}" if fire.decided_at else None),
            ("late", marks.duration(fire.late_ms) if (fire.late_ms or 0) >= LATE_MS else None),
            ("run", Code(short_id(fire.execution_id)) if fire.execution_id else None),
        ]
    )
    steps: list[Step] = []
    if fire.execution_id:
        is_over = run is not None and run.is_finished
        verb, what = (
            ("show", "everything that happened in it") if is_over else ("wait", "follow the run to its end")
        )
        steps.append((f"%persona runs {verb} {short_id(fire.execution_id)}", what))
    if persona:
        steps += remedies([fire], {fire.trigger_id: persona})
    steps.append((f"%persona triggers history {short_id(fire.trigger_id)}", "all fires of this trigger"))
    return page.next(steps).view(fire)


def fire_sign(fire: Fire, run: Execution | None = None) -> Mark:
    """The mark of a fire: that of its run where there is one."""
    if fire.status == "queued":
        return marks.sign_of(run) if run else marks.mark("started")
    if fire.status == "checking":
        return Mark("▶", "looking", marks.BLUE)
    times = f" × {fire.count:,}" if fire.count > 1 else ""
    return marks.mark("skipped")._replace(word=f"skipped{times}")


def due_words(fire: Fire, tz: str = "UTC") -> str:
    """When a fire was due; those that share a row from the first to the last."""
    begun = marks.instant(fire.due_at, tz)
    return f"{begun} … {marks.instant(fire.until_at, tz)}" if fire.until_at and fire.count > 1 else begun


def late_cell(fire: Fire) -> Cell:
    """How late a fire was decided, where that was late."""
    late_ms = fire.late_ms or 0
    return Mark("▲", f"{marks.duration(late_ms)} late", marks.AMBER) if late_ms >= LATE_MS else ""


def counted(fires: Sequence[Fire]) -> str:
    """How many of them started a run, were skipped, were late, and the worst lateness."""
    started = sum(fire.status == "queued" for fire in fires)
    skipped = sum(fire.count for fire in fires if fire.status == "skipped")
    late = [fire.late_ms or 0 for fire in fires if fire.status == "queued" and (fire.late_ms or 0) >= LATE_MS]
    said = [
        f"{started:,} started" if started else "",
        f"{skipped:,} skipped" if skipped else "",
        f"{len(late):,} late, at worst {marks.duration(max(late))}" if late else "",
    ]
    return " · ".join(part for part in said if part)


def remedies(fires: Iterable[Fire], personas: Mapping[str, Persona], *, is_paused: bool = True) -> list[Step]:
    """What helps against the skips, each once; at most four."""
    found: dict[str, Step] = {}
    for fire in fires:
        persona = personas.get(fire.trigger_id)
        step = remedy(fire.reason, fire.trigger_id, persona) if fire.status == "skipped" else None
        if step and (is_paused or step[0] != _RESUME):
            found.setdefault(step[0], step)
    return list(found.values())[:4]


def remedy(reason: str | None, trigger_id: str, persona: Persona | None) -> tuple[str, str] | None:
    """What to type against a reason for which nothing was started; None where nothing is wrong, or not any more."""
    if not reason or reason == UNCHANGED:
        return None
    for pattern, command, why in _REMEDIES:
        if re.search(pattern, reason, re.IGNORECASE):
            is_on = persona is not None and persona.enabled and persona.archived_at is None
            if command.startswith("%persona enable") and is_on:
                return None
            names = {"persona": persona.slug if persona else "NAME", "trigger": short_id(trigger_id)}
            return command.format(**names), why.format(**names)
    return None


def when_words(moment: datetime | None, tz: str = "UTC") -> str:
    """A due time, to the second where it has some."""
    if moment is None:
        return "–"
    return marks.instant(moment, tz) if moment.second else marks.moment(moment, tz)


def _became(fire: Fire, run: Execution | None) -> Cell:
    if fire.reason:
        return Words(one_line(fire.reason, 160))
    if run is None:
        return ""
    return one_line(run.error or (run.outcome or {}).get("summary") or run.output_data or "", 100)


def _detail(fire: Fire) -> str:
    several = f" · {plural(fire.count, 'due time')}" if fire.count > 1 else ""
    return f"{fire.kind} trigger {short_id(fire.trigger_id)} · fire {short_id(fire.id)}{several}"
