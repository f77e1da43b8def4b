"""Verbs of groups: the folders themselves, and what is done with all personas of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from personas_nb.errors import Cancelled, ExecutionFailed
from personas_nb.verbs.call import Board, Call, noted
from personas_nb.verbs.running import started
from personas_nb.verbs.usage import WrongUsage
from personas_nb.views.notices import notice
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.engine.executions import RunHandle
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.group import PersonaGroup
    from personas_nb.entities.persona import Persona
    from personas_nb.personas.groups import Done

TICK_SECONDS = 0.1


# ── the folders ─────────────────────────────────────────────────────────────────────────────────────────────


def groups(call: Call) -> View:
    """Every folder and who is in it, or one of them."""
    from personas_nb.views.groups import group_card, group_list

    studio = call.studio
    if call["group"] is None:
        found = studio.groups.list()
        return group_list(found, {group.id: studio.groups.members(group.id) for group in found})
    group = studio.groups.get(call["group"])
    members = studio.groups.members(group.id)
    last = {persona.id: run for persona in members for run in studio.executions.list(persona, limit=1)}
    return group_card(group, members, last=last)


def create(call: Call) -> View:
    """A new group; an existing one gets what is given."""
    given = {"color": call["color"], "sort_order": call["order"]}
    fields = {name: value for name, value in given.items() if value is not None}
    before = {group.id: group for group in call.studio.groups.list()}
    group = call.studio.groups.create(call["group"], **fields)
    if group == before.get(group.id):
        return _unchanged(group)
    said = f"There is a group {group.name}{', ' + group.color_word if group.color else ''}."
    return replace(notice(said, f"%persona groups add {_typed(group)} NAME …"), value=group)


def change(call: Call) -> View:
    """Change name, colour, order or whether it is collapsed."""
    before = call.studio.groups.get(call["group"])
    after = call.studio.groups.update(before.id, **call["fields"])
    if after == before:
        return _unchanged(after)
    said = f"{', '.join(call['fields'])} of {after.name} changed."
    return replace(notice(said, "%persona groups"), value=after)


def collapse(call: Call) -> View:
    """Show a group as one line in lists."""
    return _folded(call, collapsed=True)


def expand(call: Call) -> View:
    """Show the personas of a group in lists again."""
    return _folded(call, collapsed=False)


def remove(call: Call) -> View:
    """Delete a group; its personas stay."""
    group = call.studio.groups.get(call["group"])
    call.studio.groups.remove(group.id)
    return notice(f"The group {group.name} is gone; its personas stay.", status="removed")


def add(call: Call) -> View:
    """Put personas into a group."""
    group = call.studio.groups.get(call["group"])
    personas = [call.studio.personas.get(name) for name in call["name"]]  # all, before the first is moved
    moved = [persona for persona in personas if persona.group_id != group.id]
    for persona in moved:
        call.studio.personas.update(persona, group_id=group.id)
    if not moved:
        return _unchanged(group)
    said = f"{', '.join(persona.name for persona in moved)} {'is' if len(moved) == 1 else 'are'} in {group.name}."
    return replace(notice(said, f"%persona groups {_typed(group)}"), value=group)


def take_out(call: Call) -> View:
    """Take personas out of their group."""
    personas = [call.studio.personas.get(name) for name in call["name"]]
    moved = [persona for persona in personas if persona.group_id is not None]
    for persona in moved:
        call.studio.personas.update(persona, group_id=None)
    if not moved:
        return notice("They are in no group already: nothing changed.", status="unchanged")
    named = ", ".join(persona.name for persona in moved)
    return notice(f"{named} {'is' if len(moved) == 1 else 'are'} in no group.", "%persona groups")


def _folded(call: Call, *, collapsed: bool) -> View:
    before = call.studio.groups.get(call["group"])
    after = call.studio.groups.update(before.id, collapsed=collapsed)
    if after == before:
        return _unchanged(after)
    said = f"{after.name} is {'one line in lists' if collapsed else 'shown with its personas in lists'}."
    return replace(notice(said, "%persona list"), value=after)


def _unchanged(group: PersonaGroup) -> View:
    said = f"{group.name} is so already: nothing changed."
    return replace(notice(said, "%persona groups", status="unchanged"), value=group)


def _typed(group: PersonaGroup) -> str:
    from personas_nb.views.page import named

    return named(group.name, group.id)


# ── all personas of one ─────────────────────────────────────────────────────────────────────────────────────


def enable(call: Call) -> View:
    """Let all of a group run."""
    return _switched(call, call.studio.personas.enable, "switched on", "on")


def disable(call: Call) -> View:
    """Let nothing start any of a group."""
    return _switched(call, call.studio.personas.disable, "switched off", "off")


def archive(call: Call) -> View:
    """Take all of a group out of the list."""
    return _switched(call, call.studio.personas.archive, "archived", "archived")


def _switched(call: Call, action: Callable[[Persona], Persona], what: str, status: str) -> View:
    from personas_nb.views import marks
    from personas_nb.views.groups import done_list

    group = call.studio.groups.get(call["group"])
    done = call.studio.groups.each(group.id, action)

    _raise_common(done)

    def said(one: Done[Persona]) -> marks.Cell:
        sign = marks.mark(status)
        already = one.result == one.persona
        return sign._replace(word=f"{sign.word} already") if already else sign

    return done_list(group, done, what, said)


def assign(call: Call) -> View:
    """Let all of a group use tools."""
    return _tooled(call, call.studio.tools.assign, "gets a tool")


def unassign(call: Call) -> View:
    """Take tools from all of a group."""
    return _tooled(call, call.studio.tools.unassign, "loses a tool")


def _tooled(call: Call, action: Callable[..., Sequence[Any]], what: str) -> View:
    from personas_nb.views.groups import done_list

    group = call.studio.groups.get(call["group"])
    done = call.studio.groups.each(group.id, lambda persona: action(persona, *call["tool"]))

    _raise_common(done)

    def said(one: Done[Sequence[Any]]) -> str:
        return f"may use {', '.join(tool.name for tool in one.result or ()) or 'no tool'}"

    return done_list(group, done, what, said)


def _raise_common(done: Sequence[Done[Any]]) -> None:
    """Raise what went wrong where it did so with all of them alike: a tool that there is not."""
    errors = [one.error for one in done if one.error is not None]
    if errors and len(errors) == len(done) and len({str(error) for error in errors}) == 1:
        raise errors[0]


# ── running ─────────────────────────────────────────────────────────────────────────────────────────────────


def run(call: Call) -> Any:
    """Run all of a group at once and watch; the cell is the input of each."""
    from personas_nb.views.groups import group_runs

    group, studio = call.studio.groups.get(call["group"]), call.studio
    if call["background"] and not call.surface.is_kernel:
        raise WrongUsage(
            "Runs in the background end with this process.",
            hint="Leave --background out, or run them in a notebook.",
        )
    given = call.input()
    if not studio.groups.members(group.id):
        return notice(
            f"Nobody is in {group.name}: nothing runs.", f"%persona groups add {_typed(group)} NAME …"
        )
    done = studio.groups.each(group.id, lambda persona: started(call, persona, given))
    handles = {one.persona.id: one.result for one in done if one.result is not None}
    if call["background"]:
        runs = {owner: studio.executions.get(handle.id) for owner, handle in handles.items()}
        return replace(
            noted(group_runs(group, done, runs), *call.filling.notes), value=list(handles.values())
        )
    began, board = time.monotonic(), call.surface.board()

    def view(runs: dict[str, Execution]) -> View:
        return group_runs(group, done, runs, elapsed_ms=round((time.monotonic() - began) * 1000))

    runs = _watched(call, handles, board, view)
    if variable := call.arguments.get("output"):
        call.surface.keep(variable, list(runs.values()))
    shown = board.end(noted(view(runs), *call.filling.notes))
    failed = [run for run in runs.values() if run.status in ("failed", "cancelled")]
    if failed and not call["no_raise"]:
        raise ExecutionFailed(
            f"{len(failed)} of {len(done)} runs failed: {', '.join(run.persona_name for run in failed)}.",
            execution=failed[0],
            hint=f"Everything the first one did: `%persona runs show {failed[0].id[:8]}`.",
        )
    return shown


def _watched(
    call: Call,
    handles: dict[str, RunHandle],
    board: Board,
    view: Callable[[dict[str, Execution]], View],
) -> dict[str, Execution]:
    """The runs once all have ended or wait for a decision; an interrupt ends those that go on."""
    executions = call.studio.executions
    runs = {owner: executions.get(handle.id) for owner, handle in handles.items()}
    pending = dict(handles)
    try:
        while pending:
            board.show(lambda: view(runs))
            for owner, handle in list(pending.items()):
                try:  # in turn, for each may need the main thread for a tool of the notebook
                    runs[owner] = handle.wait(TICK_SECONDS)
                    del pending[owner]
                except TimeoutError:
                    runs[owner] = executions.get(handle.id)
    except (Cancelled, KeyboardInterrupt) as stop:
        for owner, handle in pending.items():
            handle.cancel()
            runs[owner] = executions.get(handle.id)
        board.end(view(runs))
        raise Cancelled(
            f"{len(pending)} of {len(handles)} runs were cancelled.",
            execution=next(iter(runs[owner] for owner in pending)),
            hint="What they had until then: `%persona runs`.",
        ) from stop
    return runs
