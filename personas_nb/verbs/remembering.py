"""Verbs of memories: what personas know, what of it their prompts are told, and what a person changes of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from personas_nb.errors import NotFound
from personas_nb.verbs.call import Call
from personas_nb.views.notices import notice
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.entities.memory import Memory


def memories(call: Call) -> View:
    """What is remembered, and what of it the last prompt was told, or one with that input would be."""
    from personas_nb.views.memories import memory_list, persona_memories

    studio, asked = call.studio, call["for"]
    if call["name"] is None:
        if asked is not None:
            from personas_nb.verbs.usage import WrongUsage

            raise WrongUsage("--for needs the persona.", hint='Such as `%persona memories NAME --for "…"`.')
        names = {persona.id: persona.name for persona in studio.personas.list(include_archived=True)}
        found = studio.memories.list(superseded=call["all"])
        counts = studio.memories.earlier_counts()
        return memory_list(found, names=names, earlier=counts, limit=call["limit"], tz=call.tz)
    persona = studio.personas.get(call["name"])
    planned = None
    if asked is not None:
        planned = studio.memories.recall(persona.id, asked, studio.settings.memory_limit_chars)[1]
    return persona_memories(
        persona,
        studio.memories.list(persona, superseded=call["all"]),
        last=studio.memories.last_recall(persona),
        planned=planned,
        asked=asked or "",
        earlier=studio.memories.earlier_counts(persona),
        limit=call["limit"],
        tz=call.tz,
    )


def show(call: Call) -> View:
    """One memory, whole, and what it took the place of."""
    return _card(call, call.studio.memories.get(call["id"]))


def add(call: Call) -> View:
    """Tell a persona something to remember."""
    persona = call.studio.personas.get(call["name"])
    fields: dict[str, Any] = {
        name: call[name]
        for name in ("title", "category", "importance", "supersedes")
        if call[name] is not None
    }
    if call["tag"]:
        fields["tags"] = tuple(call["tag"])
    before = {memory.id: memory for memory in call.studio.memories.list(persona)}
    memory = call.studio.memories.remember(persona, call.text("text", "memory"), pinned=call["pin"], **fields)
    step = f"%persona memories show {memory.id[:8]}"
    if memory.id in before:
        said = f"{persona.name} knows that already, as “{memory.title}”; it counts for more now."
        return replace(notice(said, step, status="unchanged"), value=memory)
    replaced = [one.title for one in call.studio.memories.earlier(memory.id)]
    instead = f", in the place of “{replaced[0]}”" if replaced else ""
    return replace(notice(f"{persona.name} remembers “{memory.title}”{instead}.", step), value=memory)


def edit(call: Call) -> View:
    """Change fields of a memory."""
    before = call.studio.memories.get(call["id"])
    after = call.studio.memories.edit(before.id, **call["fields"])
    if after == before:
        return _unchanged(after)
    said = f"{', '.join(call['fields'])} of “{after.title}” changed."
    return replace(notice(said, f"%persona memories show {after.id[:8]}"), value=after)


def pin(call: Call) -> View:
    """Let a memory enter every prompt first."""
    before = call.studio.memories.get(call["id"])
    after = call.studio.memories.pin(before.id)
    if after == before:
        return _unchanged(after)
    said = f"“{after.title}” is pinned: every run is told it first, and no run replaces it."
    return replace(notice(said, f"%persona memories unpin {after.id[:8]}"), value=after)


def unpin(call: Call) -> View:
    """Let a memory take its place by its score again."""
    before = call.studio.memories.get(call["id"])
    after = call.studio.memories.pin(before.id, pinned=False)
    if after == before:
        return _unchanged(after)
    return replace(notice(f"“{after.title}” takes its place by its score again."), value=after)


def forget(call: Call) -> View:
    """Forget a memory, with what it took the place of."""
    memory = call.studio.memories.get(call["id"])
    count = call.studio.memories.delete(memory.id) - 1
    with_it = f", with {count} that it had replaced" if count else ""
    return notice(f"“{memory.title}” is forgotten{with_it}.", status="removed")


def restore(call: Call) -> View:
    """Let a memory hold again that another took the place of."""
    before = call.studio.memories.get(call["id"])
    after = call.studio.memories.restore(before.id)
    if after == before:
        return _unchanged(after)
    said = f"“{after.title}” holds again, beside what took its place."
    step = f"%persona memories show {(before.superseded_by or '')[:8]}"
    return replace(notice(said, step), value=after)


def _card(call: Call, memory: Memory) -> View:
    from personas_nb.views.memories import memory_card

    studio, later, name = call.studio, None, ""
    with suppress(NotFound):
        name = studio.personas.get(memory.persona_id).name
        later = studio.memories.get(memory.superseded_by) if memory.superseded_by else None
    earlier = studio.memories.earlier(memory.id)
    return memory_card(memory, earlier=earlier, later=later, persona_name=name, tz=call.tz)


def _unchanged(memory: Memory) -> View:
    said = f"“{memory.title}” is so already: nothing changed."
    return replace(notice(said, f"%persona memories show {memory.id[:8]}", status="unchanged"), value=memory)
