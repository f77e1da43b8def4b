"""A design session on its way: what it looked at, what a step changed, what stays a person's, how it came to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from personas_nb.entities.design import (
    ContextItem,
    DesignEvent,
    DesignResult,
    DesignTurn,
    KeptPart,
    SuggestedTrigger,
)
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.personas.prompt_diff import SectionDiff, compare
from personas_nb.personas.word_diff import shortened
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, Short, Words, escape, one_line, plural, short_id
from personas_nb.views.page import Page, Step
from personas_nb.views.triggers import fires_words, trigger_words
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.design.session import DesignSession

GAINED = marks.Mark("+", "new", marks.GREEN)
LOST = marks.Mark("−", "gone", marks.ORANGE)
_AGAINST = "yours, and what the design would make of it"
_DIFF = "white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0"
_TAGS = {
    "insert": ('<ins style="background:rgba(0,122,88,.2)">', "</ins>"),
    "delete": ('<del style="background:rgba(179,71,0,.2)">', "</del>"),
    "skip": ('<span style="opacity:.75">… ', " that stay …</span><br>"),
    "equal": ("", ""),
}
_NAMES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("tools", "suggested_tools", str),
    ("connectors", "suggested_connectors", lambda each: each.name),
    ("servers", "suggested_servers", lambda each: each.name),
    ("notifies", "suggested_notification_channels", lambda each: each.type),
    (
        "listens to",
        "suggested_event_subscriptions",
        lambda each: (
            f"{each.event_type} from {each.source_filter}" if each.source_filter else each.event_type
        ),
    ),
)
_SAID = {
    "instruction": "asked for",
    "answer": "answered",
    "refine": "changed",
    "take": "taken from the design",
}


def session_card(session: DesignSession, *, tz: str = "UTC") -> View:
    """A session as it stands: its question, its design, or that it has none yet."""
    from personas_nb.views.design import design_card, question_card, session_list

    if session.result is not None:
        return design_card(
            session.result,
            state=session.state,
            session_id=session.id,
            tz=tz,
            rehearsal=session.is_rehearsal,
            question=session.question,
        )
    if session.question is not None:
        return question_card(session.question, session.id)
    return session_list([session.record], tz=tz)


# ── what a step changed ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Changes:
    """What differs between two designs, for people."""

    sections: tuple[SectionDiff, ...]
    triggers: tuple[tuple[marks.Mark, SuggestedTrigger], ...]
    names: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    fields: tuple[tuple[str, str, str], ...]

    @property
    def words(self) -> list[str]:
        """The parts that differ, in a word each."""
        found = [section.heading.lower() for section in self.sections]
        found += ["triggers"] if self.triggers else []
        found += [name for name, _gone, _new in self.names]
        return found + [name for name, _before, _after in self.fields]


def changes(before: DesignResult, after: DesignResult) -> Changes:
    """What differs between two designs."""
    old, new = ({_key(one): one for one in design.suggested_triggers} for design in (before, after))
    triggers = [(LOST, one) for key, one in old.items() if key not in new]
    triggers += [(GAINED, one) for key, one in new.items() if key not in old]
    names = []
    for label, field, named in _NAMES:
        was, now = ([named(each) for each in getattr(design, field)] for design in (before, after))
        gone, came = tuple(n for n in was if n not in now), tuple(n for n in now if n not in was)
        if gone or came:
            names.append((label, gone, came))
    fields = [
        (label, str(getattr(before, field)), str(getattr(after, field)))
        for label, field in (("name", "name"), ("summary", "summary"))
        if getattr(before, field) != getattr(after, field)
    ]
    diff = compare(_prompt(before, 1), _prompt(after, 2), a=1, b=2)
    return Changes(diff.sections, tuple(triggers), tuple(names), tuple(fields))


def change_card(
    session: DesignSession,
    before: DesignResult,
    *,
    heading: str = "",
    tz: str = "UTC",
    next_fires: Callable[[SuggestedTrigger], Sequence[datetime]] = lambda _trigger: (),
) -> View:
    """What the last step made of a design: section by section, then triggers, tools and the rest."""
    after = session.result
    assert after is not None
    found = changes(before, after)
    steps = plural(max(len(session.record.turns) - 1, 0), "step")
    page = Page(
        after.name or "Design",
        status=session.state,
        detail=f"design · session {short_id(session.id)} · {heading or 'changed'} · {steps} to undo",
        rehearsal=session.is_rehearsal,
    )
    if not found.words:
        page.sentence("Nothing of the design changed.", status="unchanged")
        page.sentence(_why_unchanged(session), faint=True, under=True)
    else:
        page.sentence(
            "Changed: " + ", ".join(found.words) + ". Everything else stays as it was.", status="changed"
        )
    page.table(
        ("", "trigger", "fires", "cron", "next"),
        [_trigger_row(sign, one, next_fires, tz) for sign, one in found.triggers],
        heading="Starts by itself",
    )
    rows: list[list[Cell]] = [[label, *_came_and_went(gone, came)] for label, gone, came in found.names]
    rows += [[label, one_line(new, 300), one_line(old, 200)] for label, old, new in found.fields]
    page.table(("", "now", "before"), rows, heading="Parts")
    for section in found.sections:
        _section(page, section)
    _kept_block(page, session.kept)
    _issues(page, before, after)
    page.sentence(_cost_words(session.record.turns, session.is_rehearsal), faint=True)
    return page.next(_change_steps(session)).view(session)


def _section(page: Page, section: SectionDiff) -> None:
    status = "" if section.heading.endswith(_AGAINST) else f" ({section.status})"
    title = f"<b>{escape(section.heading)}</b>{escape(status)}"
    pieces = list(shortened(section.hunks))
    inner = "".join(_TAGS[op][0] + escape(text).replace("\n", "<br>") + _TAGS[op][1] for op, text in pieces)
    text = _diff_text(section)
    page.twin(
        f"{marks.clean(section.heading)}{status}\n{text}",
        f'<div style="margin:.8em 0 .1em">{title}</div><p style="{_DIFF}">{inner}</p>',
    )


def _diff_text(section: SectionDiff) -> str:
    """The lines that went and came."""
    old, new = section.old.splitlines(), section.new.splitlines()
    gone = [f"  - {marks.clean(line)}" for line in old if line not in new and line.strip()]
    came = [f"  + {marks.clean(line)}" for line in new if line not in old and line.strip()]
    return "\n".join([*gone, *came])


def _trigger_row(
    sign: marks.Mark,
    one: SuggestedTrigger,
    next_fires: Callable[[SuggestedTrigger], Sequence[datetime]],
    tz: str,
) -> list[Cell]:
    fires = next_fires(one) if sign == GAINED else ()
    zone = one.config.get("timezone")
    return [
        sign,
        one.trigger_type,
        one_line(trigger_words(one.trigger_type, one.config), 120),
        Code(str(one.config.get("cron", ""))),
        fires_words(fires, zone if isinstance(zone, str) and fires else tz),
    ]


def _came_and_went(gone: Sequence[str], came: Sequence[str]) -> list[Cell]:
    return [
        ", ".join(f"+ {name}" for name in came),
        ", ".join(f"− {name}" for name in gone),
    ]


def _why_unchanged(session: DesignSession) -> str:
    turn = session.record.turns[-1]
    if turn.kind not in ("refine", "answer"):
        return ""
    said = one_line(turn.text, 120)
    if session.is_rehearsal:
        return (
            f"The rules read nothing in “{said}” that they could do. Say a time (“at 8”), a tool (“without "
            "file_write”), a name (“call it …”), or a step (“also write a report”)."
        )
    return f"The model left all as it was after “{said}”: say what shall be different, and where."


def _cost_words(turns: Sequence[DesignTurn], rehearsal: bool) -> str:
    if rehearsal or not turns:
        return ""
    step = marks.money(turns[-1].cost_usd)
    costs = [turn.cost_usd for turn in turns]
    whole = marks.money(None if None in costs else sum(cost for cost in costs if cost is not None))
    return f"This step cost {step}, the session {whole} until now."


def _issues(page: Page, before: DesignResult, after: DesignResult) -> None:
    """What stands in the way of the design and did not before; the rest in a sentence, unless it blocks."""
    old = before.feasibility.issues if before.feasibility else ()
    known = {(issue.kind, issue.subject) for issue in old if not issue.blocking}
    every = after.feasibility.issues if after.feasibility else ()
    issues = [issue for issue in every if (issue.kind, issue.subject) not in known]
    if rest := len(every) - len(issues):
        more = "more " if issues else ""
        page.sentence(f"{plural(rest, f'{more}thing')} to do, as before: %persona feasibility", faint=True)
    rows: list[list[Cell]] = [
        [
            marks.mark("blocked") if issue.blocking else marks.Mark("▲", "to do", marks.AMBER),
            Words(one_line(issue.problem, 200)),
            Code(issue.remedy) if issue.remedy.startswith("%") else Words(one_line(issue.remedy, 240)),
        ]
        for issue in issues
    ]
    page.table(("", "stands in the way", "what helps"), rows, heading="Can it work here?")


def _change_steps(session: DesignSession) -> list[Step]:
    steps: list[Step] = []
    blocked = (
        session.result and session.result.feasibility and session.result.feasibility.overall == "blocked"
    )
    if not blocked:
        steps.append(("%persona apply", "make it so"))
    steps.append(('%persona refine "…"', "change something else"))
    if len(session.record.turns) > 1:
        steps.append(("%persona undo", "take this step back"))
    return [*steps, (f"%persona sessions resume {short_id(session.id)}", "the whole design")]


# ── what stays as a person wrote it ─────────────────────────────────────────────────────────────────────────


def kept_card(kept: Sequence[KeptPart]) -> View:
    """What of a persona stays as a person made it, and how to let the design have it."""
    page = Page("Yours stays", detail="You changed these by hand since the last design.")
    _kept_block(page, kept, heading="")
    return page.view(list(kept))


def _kept_block(page: Page, kept: Sequence[KeptPart], *, heading: str = "Yours stays") -> None:
    if not kept:
        return
    if heading:
        page.heading(heading, "changed by hand since the last design")
    rows: list[list[Cell]] = [
        [
            marks.Mark("▲", "conflict", marks.AMBER) if each.is_conflict else marks.mark("kept"),
            each.label,
            "you and the design both changed it" if each.is_conflict else "the design leaves it as it was",
            Code(f"%persona take {_typed(each)}") if each.is_conflict else "",
        ]
        for each in kept
    ]
    page.table(("", "part", "why", "to have the design's"), rows, under=bool(heading))
    for each in kept:
        if each.is_conflict:
            _section(page, _conflict(each))


def _conflict(each: KeptPart) -> SectionDiff:
    """From yours to the design's, as a difference."""
    diff = compare(
        _text_version(_in_words(each.yours), 1), _text_version(_in_words(each.design), 2), a=1, b=2
    )
    label = f"{each.label}: {_AGAINST}"
    if not diff.sections:
        return SectionDiff(label, "changed", (("equal", _in_words(each.yours)),))
    return SectionDiff(label, "changed", diff.sections[0].hunks)


def _in_words(value: Any) -> str:
    """The value of a part as text."""
    if isinstance(value, Mapping):
        return str(value.get("content", ""))
    if isinstance(value, list | tuple):
        return "\n".join(
            trigger_words(each["trigger_type"], each["config"]) if isinstance(each, Mapping) else str(each)
            for each in value
        )
    return str(value or "")


def _typed(each: KeptPart) -> str:
    part = each.part.removeprefix("custom:")
    return f'"{part}"' if " " in part else part


# ── what it looked at ───────────────────────────────────────────────────────────────────────────────────────


def context_card(items: Sequence[ContextItem], *, rehearsal: bool = False) -> View:
    """What a design was given, and what of each the designer was shown."""
    rows: list[list[Cell]] = [
        [
            Short(one_line(item.name, 50)),
            one_line(item.used, 160),
            Number(_size(item.size_bytes)),
            Code(one_line(item.source, 90)) if item.source != item.name else "",
        ]
        for item in items
    ]
    page = Page("What it looked at", detail="Read once, when the design began.")
    page.table(("source", "what was used of it", "size", "where"), rows)
    if rehearsal:
        page.sentence(
            "Rules hand on columns, operations and servers as they are; a model reads the whole of it.",
            faint=True,
        )
    for item in items:
        page.folded(f"{item.name}, as the designer sees it ({len(item.text):,} characters)", item.text[:4000])
    return page.view(list(items))


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    return f"{size_bytes:,} B" if size_bytes < 10_000 else f"{size_bytes / 1024:,.0f} KiB"


# ── how it came to be ───────────────────────────────────────────────────────────────────────────────────────


def history(
    session: DesignSession, context: Sequence[ContextItem], events: Sequence[DesignEvent], *, tz: str
) -> View:
    """A session from its first sentence: what was said, what each step changed and cost."""
    record = session.record
    designer = (record.provider, record.model)
    name = session.result.name if session.result else record.name or "Design"
    page = Page(
        name,
        status=session.state,
        detail=" · ".join(dict.fromkeys((f"session {short_id(session.id)}", *filter(None, designer)))),
        rehearsal=session.is_rehearsal,
    )
    page.sentence(session.error or "", status="failed" if session.error else "")
    before: DesignResult | None = None
    rows: list[list[Cell]] = []
    for number, turn in enumerate(record.turns, 1):
        made = _made(before, turn)
        cost = marks.money(turn.cost_usd, rehearsal=session.is_rehearsal)
        rows.append(
            [Number(str(number)), _SAID[turn.kind], one_line(turn.text, 160), made, Number(cost),
             Short(marks.moment(turn.created_at, tz))]
        )  # fmt: skip
        before = turn.result or before
    page.table(("", "", "what you said", "what came of it", "cost", f"when ({tz})"), rows, heading="Steps")
    looked: list[list[Cell]] = [
        [Short(one_line(item.name, 50)), one_line(item.used, 160)] for item in context
    ]
    page.table(("source", "what was used of it"), looked, heading="What it looked at")
    if events:
        lines = [
            f"{marks.moment(event.at, tz)}  {event.type:<9}  {one_line(event.text, 140)}" for event in events
        ]
        page.folded(f"{plural(len(lines), 'moment')}", "\n".join(lines[-200:]), fixed=True)
    steps: list[Step] = [(f"%persona sessions resume {short_id(session.id)}", "go on with it")]
    return page.next(steps).view(session)


def _made(before: DesignResult | None, turn: DesignTurn) -> str:
    if turn.question is not None:
        return f"asked: {one_line(turn.question.question, 120)}"
    if turn.result is None:
        return ""
    if before is None:
        return f"the design “{one_line(turn.result.name, 60)}”"
    return ", ".join(changes(before, turn.result).words) or "nothing changed"


# ── while it goes on ────────────────────────────────────────────────────────────────────────────────────────


class DesignStream:
    """What is known so far of a step that goes on."""

    def __init__(self, title: str = "Designing") -> None:
        self._title = title
        self._rows: list[tuple[str, str]] = []
        self._written: list[str] = []

    def add(self, event: DesignEvent) -> None:
        """One more moment."""
        if event.type == "writing":
            self._written.append(event.text)
        elif event.type in ("context", "asked", "corrected"):
            words = {"context": "looked at", "asked": "asked", "corrected": "asked again"}[event.type]
            self._rows.append((words, one_line(event.text, 160)))
            self._written.clear()

    def view(self, elapsed_ms: int, *, status: str = "analyzing", said: str = "") -> View:
        """The present state; ``said`` is how it ended."""
        page = Page(self._title, status=status, detail=f"{marks.duration(elapsed_ms)} · {said}".rstrip(" ·"))
        rows: list[list[Cell]] = [[words, text] for words, text in self._rows]
        if self._written:
            done = f" ({plural(len(self._written), 'part')})" if len(self._written) > 1 else ""
            rows.append(["writes" if not said else "wrote", f"{self._written[-1]}{done}"])
        return page.table((), rows).view()


def _key(trigger: SuggestedTrigger) -> str:
    return f"{trigger.trigger_type} {sorted(trigger.config.items(), key=str)}"


def _prompt(design: DesignResult, number: int) -> PromptVersion:
    return PromptVersion(
        id=str(number),
        persona_id="",
        version=number,
        structured_prompt=design.structured_prompt,
        change_summary="",
    )


def _text_version(text: str, number: int) -> PromptVersion:
    return PromptVersion(id=str(number), persona_id="", version=number, system_prompt=text, change_summary="")
