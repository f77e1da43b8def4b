"""Memories: what a persona knows, what of it the last prompt was told and why, and one with all that it replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personas_nb.entities.memory import Memory, MemoryUse, Recall
from personas_nb.entities.persona import Persona
from personas_nb.personas.memories import LastRecall
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Mark, Number, Short, one_line, plural, short_id
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

SHOWN_MAX = 50
PINNED = Mark("◆", "pinned", marks.BLUE)
SUPERSEDED = Mark("○", "superseded", marks.GREY)
_WHY = (
    "The score is relevance × importance × recency; pinned ones come first. Relevance is the words in common with the "
    "input, recency halves every 30 days."
)


def memory_list(
    memories: Sequence[Memory],
    *,
    names: Mapping[str, str] | None = None,
    earlier: Mapping[str, int] | None = None,
    limit: int = SHOWN_MAX,
    tz: str = "UTC",
) -> View:
    """What personas remember; ``names`` are the personas' by id, ``earlier`` says how many a memory replaced."""
    page = Page("Memories", detail=_count(memories) if memories else "")
    if not memories:
        page.sentence("Nothing is remembered yet.")
    rows: list[list[Cell]] = [
        [
            Code(short_id(memory.id)),
            one_line((names or {}).get(memory.persona_id, ""), 30),
            *_memory_cells(memory, earlier or {}, tz),
        ]
        for memory in memories[:limit]
    ]
    page.table(("id", "persona", *_HEADERS, f"since ({tz})"), rows)
    _more(page, len(memories), limit, "")
    return page.next(_steps(memories)).view(list(memories))


def persona_memories(
    persona: Persona,
    memories: Sequence[Memory],
    *,
    last: LastRecall | None = None,
    planned: Recall | None = None,
    asked: str = "",
    earlier: Mapping[str, int] | None = None,
    limit: int = SHOWN_MAX,
    tz: str = "UTC",
) -> View:
    """What one persona knows, and what of it the last prompt was told and why.

    ``planned`` is what a run with the input ``asked`` would be told, instead of what the last one was.
    """
    recall = planned if planned is not None else last.recall if last is not None else None
    parts = [_count(memories), _recalled(recall, last, asked if planned is not None else "", tz)]
    page = Page(f"Memories of {persona.name}", detail=" · ".join(part for part in parts if part))
    if not memories:
        page.sentence("It remembers nothing yet.")
    if not persona.uses_memories:
        page.sentence(
            f"Its prompts are told none of them: %persona set {persona.slug} uses_memories=true",
            status="warning",
        )
    where = _places(recall, memories, last if planned is None else None)
    rows: list[list[Cell]] = [
        [
            Code(short_id(memory.id)),
            *_memory_cells(memory, earlier or {}, tz),
            where.get(memory.id, ""),
        ]
        for memory in memories[:limit]
    ]
    told = "this prompt" if planned is not None else "last prompt"
    page.table(("id", *_HEADERS, f"since ({tz})", told), rows)
    _more(page, len(memories), limit, persona.slug)
    if recall is not None:
        _reasons(page, recall, "Why these would be told" if planned is not None else "Why these were told")
    return page.next(_steps(memories, persona)).view(list(memories))


def memory_card(
    memory: Memory,
    *,
    earlier: Sequence[Memory] = (),
    later: Memory | None = None,
    persona_name: str = "",
    tz: str = "UTC",
) -> View:
    """One memory, whole: where it is from, and what it took the place of."""
    sign = SUPERSEDED if memory.superseded_by else PINNED if memory.pinned else None
    made = f"{persona_name} knows it" if persona_name else ""
    page = Page(
        memory.title, sign=sign, detail=f"{made} since {marks.moment(memory.created_at, tz)} {tz}".strip()
    )
    page.prose(memory.content)
    source = memory.source_execution_id
    page.facts(
        [
            ("category", memory.category),
            ("importance", f"{memory.importance}/10"),
            ("tags", ", ".join(memory.tags)),
            ("from", f"run {short_id(source)}" if source else "you"),
            ("said again", f"{plural(memory.repeats, 'time')}, last {marks.moment(memory.updated_at, tz)}"
             if memory.repeats else ""),
            ("rehearsal", "yes: no real run is told it" if memory.rehearsal else ""),
            ("replaced by", f"{later.title} ({short_id(later.id)}), {marks.moment(memory.superseded_at, tz)}"
             if later else ""),
        ]
    )  # fmt: skip
    page.table(
        ("id", "what it was", f"until ({tz})"),
        [
            [
                Code(short_id(one.id)),
                one_line(_whole(one), 160),
                Short(marks.moment(one.superseded_at, tz)),
            ]
            for one in earlier
        ],
        heading="It took the place of",
    )
    return page.next(_card_steps(memory, bool(earlier))).view(memory)


_HEADERS = ("", "title", "what it knows", "category", "importance")


def _memory_cells(memory: Memory, earlier: Mapping[str, int], tz: str) -> list[Cell]:
    signs = [
        "rehearsal" if memory.rehearsal else "",
        f"replaced {earlier[memory.id]}" if memory.id in earlier else "",
        f"said {memory.repeats + 1} times" if memory.repeats else "",
        ", ".join(memory.tags),
    ]
    said = " · ".join(sign for sign in signs if sign)
    title, content = one_line(memory.title, 50), one_line(memory.content, 140)
    is_repeated = content.startswith(title.rstrip("….")) and bool(title)  # made of its first words
    return [
        SUPERSEDED if memory.superseded_by else PINNED if memory.pinned else "",
        "" if is_repeated else title,
        content + (f" · {one_line(said, 60)}" if said else ""),
        memory.category,
        Number(f"{memory.importance}/10"),
        Short(marks.moment(memory.created_at, tz)),
    ]


def _count(memories: Sequence[Memory]) -> str:
    held = [memory for memory in memories if memory.superseded_by is None]
    pinned = sum(memory.pinned for memory in held)
    superseded = len(memories) - len(held)
    parts = [
        plural(len(held), "memory", "memories"),
        f"{pinned} pinned" if pinned else "",
        f"{superseded:,} superseded" if superseded else "",
    ]
    return ", ".join(part for part in parts if part)


def _recalled(recall: Recall | None, last: LastRecall | None, asked: str, tz: str) -> str:
    if recall is None:
        return "no run was told of them yet"
    chosen = f"{len(recall.told)} of {len(recall.told) + recall.left_out_count}"
    room = f"{recall.used_chars:,} of {recall.limit_chars:,} characters"
    if asked or last is None:
        return f"with “{one_line(asked, 60)}” {chosen} would be told ({room})"
    kind = "rehearsal" if last.rehearsal else "run"
    return (
        f"the last prompt was told {chosen} ({room}): {kind} {short_id(last.execution_id)}, "
        f"{marks.moment(last.at, tz)}"
    )


def _places(recall: Recall | None, memories: Sequence[Memory], last: LastRecall | None) -> dict[str, Mark]:
    """What became of each memory in a prompt."""
    if recall is None:
        return {}
    places = {
        use.memory_id: Mark("✓", f"no. {number} of {len(recall.told)}", marks.GREEN)
        for number, use in enumerate(recall.told, start=1)
    }
    for memory in memories:
        if memory.id in places or memory.superseded_by is not None:
            continue
        if last is not None and memory.created_at > last.at:
            places[memory.id] = Mark("○", "newer", marks.GREY)
        elif memory.rehearsal and not (last is not None and last.rehearsal):
            places[memory.id] = Mark("○", "from a rehearsal", marks.GREY)
        elif recall.left_out_count:
            places[memory.id] = Mark("▲", "no room", marks.AMBER)
    return places


def _reasons(page: Page, recall: Recall, heading: str) -> None:
    shown = recall.told[:10]
    page.table(
        ("", "memory", "in common with the input", "relevance", "importance", "recency", "score"),
        [_reason_row(number, use) for number, use in enumerate(shown, start=1)],
        heading=heading,
    )
    if len(recall.told) > len(shown):
        page.sentence(f"… and {len(recall.told) - len(shown):,} more.", faint=True, under=True)
    page.table(
        ("memory", "characters", "score"),
        [
            [one_line(use.title, 60), Number(f"{use.chars:,}"), Number(f"{use.score:.2f}")]
            for use in recall.left_out
        ],
        heading="No room for",
        detail=f"a prompt has {recall.limit_chars:,} characters of memories (setting memory_limit_chars)",
    )
    if shown:
        page.sentence(_WHY, faint=True)


def _reason_row(number: int, use: MemoryUse) -> list[Cell]:
    why = ("pinned" if use.pinned else "", ", ".join(use.words))
    return [
        Number(str(number)),
        one_line(use.title, 60),
        one_line(" · ".join(part for part in why if part) or "–", 60),
        Number(f"{use.relevance:.2f}"),
        Number(str(use.importance)),
        Number(f"{use.recency:.2f}"),
        Number(f"{use.score:.2f}"),
    ]


def _more(page: Page, count: int, limit: int, slug: str) -> None:
    if count > limit:
        name = f" {slug}" if slug else ""
        page.sentence(
            f"… and {count - limit:,} older: %persona memories{name} --limit {count}", faint=True, under=True
        )


def _steps(memories: Sequence[Memory], persona: Persona | None = None) -> list[Step]:
    steps: list[Step] = []
    if memories:
        first = short_id(memories[0].id)
        steps = [
            (f"%persona memories show {first}", "all of it, and what it replaced"),
            (f"%persona memories edit {first} importance=8", "correct it; pin and delete likewise"),
        ]
    name = persona.slug if persona else "NAME"
    if persona is not None and memories:
        steps.append((f'%persona memories {name} --for "…"', "what a run with that input would be told"))
    return [*steps, (f'%persona memories add {name} "…"', "tell it something to remember")]


def _card_steps(memory: Memory, has_earlier: bool) -> list[Step]:
    name = short_id(memory.id)
    if memory.superseded_by:
        return [
            (f"%persona memories restore {name}", "let it hold again"),
            (f"%persona memories delete {name}", "forget it"),
        ]
    pin: Step = (f"%persona memories pin {name}", "let it enter every prompt first")
    if memory.pinned:
        pin = (f"%persona memories unpin {name}", "let it take its place by its score again")
    gone = "forget it, with what it replaced" if has_earlier else "forget it"
    return [
        (
            f"%persona memories edit {name} importance={min(memory.importance + 1, 10)}",
            "change a field of it",
        ),
        pin,
        (f"%persona memories delete {name}", gone),
    ]


def _whole(memory: Memory) -> str:
    return f"{memory.title}: {memory.content}" if memory.content else memory.title
