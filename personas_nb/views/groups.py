"""Groups: the folders, personas by folder, and what became of an action on all personas of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from personas_nb.entities.execution import Execution
from personas_nb.entities.group import PersonaGroup
from personas_nb.entities.persona import Persona
from personas_nb.personas.groups import Done
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Mark, Number, escape, one_line, plural, short_id
from personas_nb.views.page import Page, Step, named
from personas_nb.views.view import View

NONE = Mark("□", "in no group", marks.GREY)


def group_mark(group: PersonaGroup) -> Mark:
    """A group's name behind a square of its colour."""
    return Mark("■" if group.color else "□", marks.clean(group.name), group.color or marks.GREY)


def group_list(groups: Sequence[PersonaGroup], members: Mapping[str, Sequence[Persona]]) -> View:
    """The folders in their order, and who is in each; ``members`` by the groups' ids."""
    page = Page("Groups", detail=plural(len(groups), "group") if groups else "")
    if not groups:
        page.sentence("There is no group yet. A group is a folder of personas with a name and a colour.")
    rows: list[list[Cell]] = [
        [
            group_mark(group),
            group.color_word,
            Number(str(group.sort_order)) if group.sort_order else "",
            Number(str(len(members.get(group.id, ())))),
            one_line(", ".join(persona.slug for persona in members.get(group.id, ())), 90),
            "collapsed" if group.collapsed else "",
        ]
        for group in groups
    ]
    page.table(("group", "colour", "order", "personas", "who", ""), rows)
    name = _typed(groups[0]) if groups else "GROUP"
    steps: list[Step] = [
        (f"%persona groups add {name} NAME …", "put personas in"),
        (f"%persona groups run {name}", "run all of it; disable, archive, assign likewise"),
    ]
    create: Step = ("%persona groups create Finance --color blue", "a new one")
    return page.next([*steps, create] if groups else [create]).view(list(groups))


def group_card(
    group: PersonaGroup, members: Sequence[Persona], *, last: Mapping[str, Execution] | None = None
) -> View:
    """One folder and the personas in it; ``last`` is the latest run of each, by its id."""
    on = sum(persona.enabled for persona in members)
    said = [
        plural(len(members), "persona"),
        f"{len(members) - on} off" if on < len(members) else "",
        "collapsed in lists" if group.collapsed else "",
    ]
    page = Page(group.name, detail=" · ".join(part for part in said if part), sign=_square(group))
    page.table(
        ("persona", "", "what it does", "last run", "cost"),
        [_member_row(persona, (last or {}).get(persona.id)) for persona in members],
    )
    if not members:
        page.sentence("Nobody is in it.")
    name = _typed(group)
    steps: list[Step] = [(f"%persona groups add {name} NAME …", "put personas in")]
    if members:
        steps = [
            (f"%persona groups run {name}", "run all of them; as a cell, with an input"),
            (f"%persona groups {'disable' if on else 'enable'} {name}", "switch all of them"),
            (f"%persona groups assign {name} TOOL", "let all of them use a tool"),
        ]
    return page.next(steps).view(group)


def in_groups(
    page: Page,
    personas: Sequence[Persona],
    groups: Sequence[PersonaGroup],
    headers: Sequence[str],
    row: Callable[[Persona], list[Cell]],
) -> Page:
    """Put personas on a card folder by folder: a collapsed one is a line with their number; the rest comes last."""
    inside = {group.id: [persona for persona in personas if persona.group_id == group.id] for group in groups}
    for group in groups:
        found = inside[group.id]
        if group.collapsed:
            opening = f"%persona groups expand {_typed(group)}"
            _heading(page, group_mark(group), f"{_extent(group, found)}, collapsed", opening)
        else:
            _heading(page, group_mark(group), _extent(group, found))
            page.table(headers, map(row, found), under=True)
    others = [persona for persona in personas if persona.group_id not in inside]
    if others:
        _heading(page, NONE, plural(len(others), "persona"))
        page.table(headers, map(row, others), under=True)
    return page


def done_list(
    group: PersonaGroup, done: Sequence[Done[Any]], what: str, said: Callable[[Done[Any]], Cell]
) -> View:
    """What became of an action on each persona of a group; ``said`` says it for one without an error."""
    failed = [one for one in done if one.error is not None]
    status = "failed" if failed and len(failed) == len(done) else "partial" if failed else "completed"
    page = Page(group.name, sign=_square(group), detail=what)
    if not done:
        return page.sentence("Nobody is in it: nothing was done.", status="unchanged").next(
            [(f"%persona groups add {_typed(group)} NAME …", "put personas in")]
        ).view([])  # fmt: skip
    if failed:
        page.sentence(f"{len(failed)} of {plural(len(done), 'persona')} could not.", status=status)
    page.table(
        ("persona", "", ""),
        [
            [
                Code(one.persona.slug),
                marks.mark("failed") if one.error else "",
                f"{one.error.message} {one.error.hint}".strip() if one.error else said(one),
            ]
            for one in done
        ],
    )
    steps: list[Step] = [(f"%persona groups {_typed(group)}", "all of it, as it is now")]
    return page.next(steps).view([one.result for one in done if one.error is None])


def group_runs(
    group: PersonaGroup,
    done: Sequence[Done[Any]],
    runs: Mapping[str, Execution],
    *,
    elapsed_ms: int | None = None,
) -> View:
    """The runs of a group's personas as they are now, by the id of each persona; what could not start says why."""
    found = list(runs.values())
    left = sum(not run.is_finished and run.status != "waiting" for run in found)
    page = Page(f"Run of {group.name}", sign=_standing(done, found), detail=_totals(found, left, elapsed_ms))
    page.table(
        ("persona", "", "run", "took", "cost", "said"),
        [_run_row(one, runs.get(one.persona.id)) for one in done],
    )
    steps: list[Step] = []
    if not left:
        worst = next((run for run in found if run.status in ("failed", "incomplete")), None)
        waiting = any(run.status == "waiting" for run in found)
        steps += [("%persona reviews", "decide what waits for you")] if waiting else []
        steps += (
            [(f"%persona runs show {short_id(worst.id)}", f"what happened to {worst.persona_name}")]
            if worst
            else []
        )
        if found and not steps:
            steps = [(f"%persona runs show {short_id(found[0].id)}", "every moment of one of them")]
    return page.next(steps).view(found)


def _standing(done: Sequence[Done[Any]], runs: Sequence[Execution]) -> Mark:
    states = {run.status for run in runs}
    if states & {"queued", "running"}:
        return marks.mark("running")
    if "waiting" in states:
        return marks.mark("waiting")
    good = sum(run.status == "completed" for run in runs)
    refused = sum(one.error is not None and one.persona.enabled for one in done)
    wanted = len(runs) + refused
    if good == wanted:
        return marks.mark("completed") if runs else marks.mark("off")
    return marks.mark("partial" if good else "failed")._replace(word=f"{good} of {wanted} done")


def _totals(runs: Sequence[Execution], left: int, elapsed_ms: int | None) -> str:
    ended = [run for run in runs if run.is_finished]
    known = [run.cost_usd for run in ended if run.cost_usd is not None]
    rehearsal = bool(runs) and all(run.rehearsal for run in runs)
    cost = marks.money(sum(known), rehearsal=rehearsal) if known or rehearsal else ""
    unknown = len(ended) - len(known)
    parts = [
        plural(len(runs), "run"),
        f"{left} still going on" if left else "",
        f"{cost} together" if cost and ended else "",
        f"{unknown} of unknown cost" if unknown else "",
        marks.duration(elapsed_ms) if elapsed_ms is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def _run_row(one: Done[Any], run: Execution | None) -> list[Cell]:
    if run is None:
        why = f"{one.error.message} {one.error.hint}".strip() if one.error else ""
        sign = marks.mark("failed") if one.persona.enabled else marks.mark("off")
        return [Code(one.persona.slug), sign, "", Number(""), Number(""), one_line(why, 120)]
    said = run.error if run.status == "failed" else run.output_data or (run.outcome or {}).get("summary")
    return [
        Code(one.persona.slug),
        marks.sign_of(run, bypass=one.persona.permissions == "bypass"),
        Code(short_id(run.id)),
        Number(marks.duration(run.duration_ms) if run.is_finished else ""),
        Number(marks.money(run.cost_usd, rehearsal=run.rehearsal) if run.is_finished else ""),
        one_line(said or "", 110),
    ]


def _member_row(persona: Persona, run: Execution | None) -> list[Cell]:
    return [
        Code(persona.slug),
        marks.mark("on" if persona.enabled else "off"),
        one_line(persona.description or persona.prompt.identity, 80),
        marks.sign_of(run) if run else "never run",
        Number(marks.money(run.cost_usd, rehearsal=run.rehearsal) if run and run.is_finished else ""),
    ]


def _square(group: PersonaGroup) -> Mark:
    return Mark("■" if group.color else "□", group.color_word or "group", group.color or marks.GREY)


def _extent(group: PersonaGroup, personas: Sequence[Persona]) -> str:
    off = sum(not persona.enabled for persona in personas)
    parts = [group.color_word, plural(len(personas), "persona"), f"{off} off" if off else ""]
    return " · ".join(part for part in parts if part)


def _heading(page: Page, sign: Mark, detail: str, command: str = "") -> None:
    behind = f"  {command}" if command else ""
    typed = f" {marks.cell_html(Code(command))}" if command else ""
    page.twin(
        f"{sign.glyph} {sign.word} · {detail}{behind}",
        f'<div style="margin:.8em 0 .1em"><b style="color:{sign.colour}">{sign.glyph}</b> '
        f"<b>{escape(sign.word)}</b>"
        f'<span style="opacity:.75;font-size:.93em"> · {escape(detail)}</span>{typed}</div>',
    )


def _typed(group: PersonaGroup) -> str:
    return named(group.name, group.id)
