"""Verbs that change and decide: fields, versions, reviews, healing, tools."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from personas_nb.errors import NotFound
from personas_nb.verbs.call import Call
from personas_nb.views.notices import notice
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.persona import Persona
    from personas_nb.entities.review import Review


def change(call: Call) -> View:
    """Change fields of a persona."""
    from personas_nb.personas.fields import check_names

    fields: dict[str, Any] = call["fields"]
    check_names(fields, is_new=False)  # first, so that no field is taken for an argument of update
    before = call.studio.personas.get(call["name"])
    after = call.studio.personas.update(before, **fields)
    said = f"{', '.join(fields)} of {after.name} changed."
    return _changed(before, after, said)


def enable(call: Call) -> View:
    """Let it run."""
    return _switched(call, call.studio.personas.enable, "is on")


def disable(call: Call) -> View:
    """Let nothing start it."""
    return _switched(call, call.studio.personas.disable, "is off", "%persona enable {slug}")


def archive(call: Call) -> View:
    """Take it out of the list."""
    return _switched(call, call.studio.personas.archive, "is archived", "%persona enable {slug}")


def delete(call: Call) -> View:
    """Archive it, or with ``--purge`` delete it and all of it."""
    if not call["purge"]:
        return archive(call)
    persona = call.studio.personas.get(call["name"])
    call.studio.personas.purge(persona)
    return notice(f"{persona.name} is deleted, with its versions, memories and runs.", status="removed")


def _switched(
    call: Call, action: Callable[[Persona], Persona], word: str, step: str = "%persona show {slug}"
) -> View:
    before = call.studio.personas.get(call["name"])
    after = action(before)
    return _changed(before, after, f"{after.name} {word}.", step)


def _changed(before: Persona, after: Persona, said: str, step: str = "%persona show {slug}") -> View:
    step = step.replace("{slug}", after.slug)
    if before == after:
        return replace(
            notice(f"{after.name} is so already: nothing changed.", step, status="unchanged"), value=after
        )
    return replace(notice(said, step), value=after)


# ── versions ────────────────────────────────────────────────────────────────────────────────────────────────


def rollback(call: Call) -> View:
    """Make an older prompt the current one."""
    before = call.studio.personas.get(call["name"])
    old = call.studio.versions.get(before, call["version"]).version
    after = call.studio.versions.rollback(before, old)
    said = f"{after.name} is told what version {old} said, as version {after.version}."
    return _changed(before, after, said, f"%persona diff {{slug}} {before.version} {after.version}")


def tag(call: Call) -> View:
    """Name a version."""
    versions, name = call.studio.versions, call["tag"]
    persona = call.studio.personas.get(call["name"])
    before = versions.get(persona, call["version"])
    step = f"%persona versions {persona.slug}"
    if name.lower() == "none":
        version = versions.tag(persona, call["version"], None)
        left = f"is “{', '.join(version.tags)}”" if version.tags else "has no tag"
        said = f"Version {version.version} of {persona.name} {left}."
        status = "completed" if version != before else "unchanged"
        return replace(notice(said, step, status=status), value=version)
    holders = [row.version for row in versions.list(persona) if name in row.tags]
    version = versions.tag(persona, call["version"], name)
    if version == before:
        said = f"Version {version.version} of {persona.name} is “{name}” already: nothing changed."
        return replace(notice(said, step, status="unchanged"), value=version)
    moved = f"; before, version {holders[0]} was" if holders else ""
    said = f"Version {version.version} of {persona.name} is “{name}”{moved}."
    return replace(notice(said, step), value=version)


# ── reviews ─────────────────────────────────────────────────────────────────────────────────────────────────


def reviews(call: Call) -> View:
    """What waits for a decision."""
    from personas_nb.views.inbox import review_list

    found = call.studio.reviews.list(status=None if call["all"] else "pending")
    return review_list(found, names=_names(call), tz=call.tz)


def show_review(call: Call) -> View:
    """One decision, with all that it is about."""
    from personas_nb.views.inbox import review_card

    review = call.studio.reviews.get(call["id"])
    return review_card(review, persona_name=_names(call).get(review.persona_id, ""), tz=call.tz)


def approve(call: Call) -> View:
    """Approve what a persona asks for."""
    return _decided(call, call.studio.reviews.approve)


def reject(call: Call) -> View:
    """Reject what a persona asks for."""
    return _decided(call, call.studio.reviews.reject)


def _decided(call: Call, decide: Callable[..., Review]) -> View:
    from personas_nb.views.inbox import review_card

    before = call.studio.reviews.get(call["id"])
    review = decide(before.id, note=call["note"])
    name = _names(call).get(review.persona_id, "")
    repeated = before.status != "pending"
    waits, said = False, ""
    if review.execution_id:
        with suppress(NotFound):
            run = call.studio.executions.get(review.execution_id)
            if review.kind == "approval" and not repeated:
                run, said = _let_go_on(call, run)
                said = f"{_outdated(call, review)} {said}".strip()
            waits = not run.is_finished
    return review_card(review, persona_name=name, repeated=repeated, waits=waits, said=said, tz=call.tz)


def _outdated(call: Call, review: Review) -> str:
    """That an approval comes too late to count, for the persona is another one by now."""
    now = call.studio.personas.get(review.persona_id).version
    if review.status != "approved" or review.persona_version in (None, now):
        return ""
    return f"It asked as version {review.persona_version} and is version {now} now: the call is not made."


def _let_go_on(call: Call, run: Execution) -> tuple[Execution, str]:
    """What becomes of a run that waited; in a process of one verb, it is seen through to its end."""
    if run.is_finished:
        return run, ""
    if run.status == "waiting":
        left = sum(r.kind == "approval" for r in call.studio.reviews.list(execution_id=run.id))
        return run, f"Its run waits for {left} more of your decisions: `%persona reviews`."
    handle = call.studio.executions.handle(run.id)
    if handle.ended is None:
        return run, "Its run goes on in the process that began it."
    if call.surface.is_kernel:
        return run, "Its run goes on in the background."
    run = handle.wait()
    return run, f"Its run has gone on, and is {run.status} now."


def healing(call: Call) -> View:
    """What failed, and what helps."""
    from personas_nb.views.healing import issue_list

    found = call.studio.healing.list(None if call["all"] else "open", call["persona"])
    return issue_list(found, names=_names(call), tz=call.tz)


def resolve(call: Call) -> View:
    """Say that an issue is dealt with."""
    from personas_nb.views.healing import issue_card

    before = call.studio.healing.get(call["id"])
    issue = call.studio.healing.resolve(before.id, call["note"])
    name = _names(call).get(issue.persona_id, "")
    return issue_card(issue, persona_name=name, repeated=before.status == "resolved", tz=call.tz)


def _names(call: Call) -> dict[str, str]:
    return {persona.id: persona.name for persona in call.studio.personas.list(include_archived=True)}


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────


def tools(call: Call) -> View:
    """The catalog, and who may use what."""
    from personas_nb.tools.functions import here
    from personas_nb.views.personas import tool_list

    by: dict[str, list[str]] = {}
    found = {tool.name: tool for tool in call.studio.tools.list()}
    for persona in call.studio.personas.list():
        asking = call.studio.tools.needing_approval(persona)
        for tool in call.studio.tools.assigned(persona):
            asks = " (asks you first)" if tool.name in asking else ""
            by.setdefault(tool.name, []).append(persona.slug + asks)
            found.setdefault(tool.name, tool)  # of a server of its own
    usage = call.studio.metrics.tools(days=None)
    used = {
        str(tool): (int(calls), int(errors))
        for tool, calls, errors in zip(usage["tool"], usage["calls"], usage["errors"], strict=True)
    }
    return tool_list(list(found.values()), by, used, here=here())


def assign(call: Call) -> View:
    """Let a persona use tools."""
    _check_added(call)
    return _tooled(call, call.studio.tools.assign)


def _check_added(call: Call) -> None:
    """A function of the notebook that is no tool yet is said to be that."""
    if not call.surface.is_kernel:
        return
    known = {tool.name for tool in call.studio.tools.list()}
    for name in call["tool"]:
        with suppress(KeyError):
            if name not in known and inspect.isfunction(call.filling.value(name)):
                raise NotFound(
                    f"{name} is a function of the notebook, and no tool yet.",
                    hint=f"Make it one with `%persona tools add {name}`.",
                )


def unassign(call: Call) -> View:
    """Take tools from a persona."""
    return _tooled(call, call.studio.tools.unassign)


def _tooled(call: Call, action: Callable[..., Sequence[Any]]) -> View:
    persona = call.studio.personas.get(call["name"])
    before = [tool.name for tool in call.studio.tools.assigned(persona)]
    now = action(persona, *call["tool"])
    names = [tool.name for tool in now]
    same = "" if names != before else " already: nothing changed"
    said = f"{persona.name} may use {', '.join(names) or 'no tool'}{same}."
    status = "unchanged" if same else "completed"
    return replace(notice(said, f"%persona show {persona.slug}", status=status), value=now)


def approve_first(call: Call) -> View:
    """Decide on each call of a tool before it is made."""
    persona = call.studio.personas.get(call["name"])
    before = call.studio.tools.needing_approval(persona)
    now = call.studio.tools.require_approval(persona, call["tool"], needed=not call["off"])
    names = [tool.name for tool in now]
    same = "" if set(names) != before else " already: nothing changed"
    said = f"{persona.name} asks you before it calls {', '.join(names)}{same}."
    if not names:
        said = f"{persona.name} calls its tools without asking you{same}."
    status = "unchanged" if same else "completed"
    return replace(notice(said, f"%persona show {persona.slug}", status=status), value=now)
