"""Personas: the overview, one card, and the tools that there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from personas_nb.entities.event import Subscription
from personas_nb.entities.execution import Execution
from personas_nb.entities.group import PersonaGroup
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.entities.tool import ToolDefinition
from personas_nb.entities.trigger import Trigger, TriggerStatus
from personas_nb.notify.channels import channels_of
from personas_nb.views import marks
from personas_nb.views.executions import decide
from personas_nb.views.fires import when_words
from personas_nb.views.groups import group_mark, in_groups
from personas_nb.views.loop import loop_line, loop_steps
from personas_nb.views.marks import Cell, Code, Number, Short, Words, one_line, plural, short_id
from personas_nb.views.page import Page, Step, listing
from personas_nb.views.triggers import trigger_block
from personas_nb.views.view import View

EFFECTS = {"none": "changes nothing", "local": "changes its workspace", "outside": "reaches outside"}
"""What a call of a tool changes, in words."""
FIRST_STEPS: tuple[Step, ...] = (
    (
        '%persona design "Every weekday at 9 read notes.txt and post a summary"',
        "describe one, and see it designed",
    ),
    ("%persona help", "every verb"),
)


def overview(
    personas: Sequence[Persona],
    *,
    counts: Mapping[str, int] | None = None,
    runs: Sequence[Execution] = (),
    reviews: Sequence[Review] = (),
    hints: Sequence[Step] = (),
    status: TriggerStatus | None = None,
    tz: str = "UTC",
) -> View:
    """What is there, what waits for you, what to type next; ``counts`` are further nouns with their numbers."""
    said = [
        plural(len(personas), "persona"),
        *(f"{count:,} {noun}" for noun, count in (counts or {}).items() if count),
    ]
    if not personas and not runs:
        page = Page(
            "personas_nb", detail="No persona yet. A persona is an agent that you describe and then run."
        )
        return page.next(hints or FIRST_STEPS, heading="Begin").view([])
    page = Page("personas_nb", detail=" · ".join(said))
    names, may_all = {persona.id: persona.name for persona in personas}, bypassing(personas)
    for review in reviews[:5]:
        page.heading(
            f"Decision: {one_line(review.title or 'untitled')}",
            _review_detail(review, names),
            status="pending",
        )
        page.next(decide(review), heading="")
    if len(reviews) > 5:
        page.sentence(f"… and {plural(len(reviews) - 5, 'more decision')}: %persona reviews", status="review")
    last = {run.persona_id: run for run in reversed(runs)}
    page.table(
        ("persona", "", "what it does", "last run"),
        [_overview_row(persona, last.get(persona.id)) for persona in personas],
        heading="Personas",
    )
    page.table(
        ("run", "persona", "", f"queued ({tz})", "took", "cost"),
        [_run_row(run, tz, bypass=run.persona_id in may_all) for run in runs[:5]],
        heading="Latest runs",
    )
    steps = list(hints or _usual_steps(personas, runs))
    if status is not None and status.enabled_count:
        page.heading("Triggers", _next_due(status, tz))
        loop_line(page, status, tz, under=True)
        steps = [*loop_steps(status)[:1], *steps]
    if unread := (counts or {}).get("new message", 0) + (counts or {}).get("new messages", 0):
        steps.insert(0, ("%persona messages", f"read {plural(unread, 'new message')}"))
    if issues := (counts or {}).get("open issue", 0) + (counts or {}).get("open issues", 0):
        steps.insert(0, ("%persona healing", f"what to do about {plural(issues, 'open issue')}"))
    return page.next(steps).view(list(personas))


def persona_list(
    personas: Sequence[Persona],
    extras: Mapping[str, Mapping[str, object]] | None = None,
    *,
    groups: Sequence[PersonaGroup] = (),
    tz: str = "UTC",
) -> View:
    """Personas as a table, by folder where there are ``groups``; ``extras`` by persona id are further columns."""
    extras = extras or {}
    columns = list(dict.fromkeys(name for extra in extras.values() for name in extra))

    def row(persona: Persona) -> list[Cell]:
        return [
            Code(persona.slug),
            one_line(_titled(persona), 50),
            _state(persona),
            one_line(persona.description, 80),
            *(one_line(extras.get(persona.id, {}).get(column, "")) for column in columns),
            Short(marks.moment(persona.updated_at, tz)),
        ]

    headers = ["slug", "name", "", "what it does", *columns, f"changed ({tz})"]
    steps: Sequence[Step] = FIRST_STEPS
    if personas:
        closed = {group.id for group in groups if group.collapsed}
        slug = next((one for one in personas if one.group_id not in closed), personas[0]).slug
        steps = [
            (f"%persona show {slug}", "its card"),
            (f"%%persona run {slug}", "run it; the rest of the cell is its input"),
        ]
    if personas and groups:
        page = Page("Personas", detail=plural(len(personas), "persona"))
        return in_groups(page, personas, groups, headers, row).next(steps).view(list(personas))
    rows = map(row, personas)
    return listing("Personas", headers, rows, empty="No persona yet.", steps=steps, value=list(personas))


def persona_card(
    persona: Persona,
    *,
    tools: Sequence[ToolDefinition | str] | None = None,
    triggers: Sequence[Trigger] | None = None,
    asks_first: Collection[str] = (),
    memories_count: int | None = None,
    group: PersonaGroup | None = None,
    subscriptions: Sequence[Subscription] | None = None,
    last_runs: Sequence[Execution] | None = None,
    todo: Sequence[Step] = (),
    status: TriggerStatus | None = None,
    tz: str = "UTC",
) -> View:
    """One persona: what it is told, may use, is started by, may cost; None is left out, for it was not looked up.

    ``asks_first`` are the tools whose calls a person decides on; ``status`` says who fires triggers.
    """
    bypass = persona.permissions == "bypass"
    page = Page(_titled(persona), sign=_standing(persona), detail=_identity_line(persona, tz), bypass=bypass)
    page.sentence(persona.description)
    if todo:
        _todo_block(page, todo)
    page.facts(
        [
            *_persona_facts(persona, tools, memories_count, subscriptions, asks_first),
            ("group", group_mark(group) if group else None),
        ]
    )
    trigger_block(page, triggers or (), persona, status, tz)
    page.heading("What it is told", f"version {persona.version}")
    sections = persona.prompt.sections()
    for heading, text in sections:
        page.folded(f"{heading} ({len(text):,} characters)", text)
    if not sections:
        page.sentence("Nothing yet.")
    page.table(
        ("run", "", f"queued ({tz})", "took", "cost"),
        [
            [cell for index, cell in enumerate(_run_row(run, tz, bypass=bypass)) if index != 1]
            for run in (last_runs or ())[:5]
        ],
        heading="Latest runs",
    )
    return page.next(_persona_steps(persona)).view(persona)


def tool_list(
    tools: Sequence[ToolDefinition],
    assigned_by: Mapping[str, Collection[str]] | None = None,
    used: Mapping[str, tuple[int, int]] | None = None,
    *,
    here: str = "",
) -> View:
    """The catalog: what a call changes, which personas have it (``assigned_by``: tool name → names), its use.

    ``used`` has how often a tool was called and how often that failed. ``here`` is this process in the words of
    ``ToolDefinition.defined_in``.
    """
    counts = used or {}
    rows: list[list[Cell]] = [
        [
            Code(tool.name),
            tool.category,
            EFFECTS[tool.effect],
            _needs(tool, here),
            one_line(tool.description, 100),
            one_line(", ".join(sorted((assigned_by or {}).get(tool.name, ()))), 60),
            Number(f"{counts[tool.name][0]:,}" if tool.name in counts else ""),
            Number(f"{counts[tool.name][1]:,}" if counts.get(tool.name, (0, 0))[1] else ""),
        ]
        for tool in tools
    ]
    steps: list[Step] = [
        ("%persona tools assign NAME TOOL", "let a persona use one"),
    ]
    headers = ["tool", "category", "effect", "needs", "what it does", "assigned to", "used", "failed"]
    return listing("Tools", headers, rows, steps=steps, value=list(tools))


def _needs(tool: ToolDefinition, here: str) -> str:
    """What must be there for a call: a credential, the kernel of a function, a server."""
    if tool.requires_credential_type:
        return tool.requires_credential_type
    if tool.script_path.startswith("notebook://"):
        if here and tool.defined_in == here:
            return "this kernel"
        return one_line(tool.defined_in or "its notebook", 60)
    return f"server {tool.name.partition('.')[0]}" if tool.script_path.startswith("mcp://") else ""


def _todo_block(page: Page, todo: Sequence[Step]) -> None:
    """What its design wanted and could not have yet; each goes by itself once it is done."""
    rows: list[list[Cell]] = []
    for step in todo:
        command, why = ("", step) if isinstance(step, str) else step
        rows.append([marks.Mark("☐", "to do", marks.AMBER), Words(one_line(why, 400)), Code(command)])
    page.table(
        ("", "what is missing", "what to type"), rows, heading="To do", detail="before it can do all of it"
    )


def _titled(persona: Persona) -> str:
    icon = persona.icon or ""
    # An icon is a sign, or the name of one in the desktop app, which nobody wants to read here.
    return f"{icon} {persona.name}" if icon and not icon.isascii() else persona.name


def bypassing(personas: Iterable[Persona]) -> frozenset[str]:
    """The ids of those that may do anything that their engine can."""
    return frozenset(persona.id for persona in personas if persona.permissions == "bypass")


def _state(persona: Persona) -> marks.Mark:
    standing = _standing(persona)
    return marks.with_bypass(standing) if persona.permissions == "bypass" else standing


def _standing(persona: Persona) -> marks.Mark:
    if persona.archived_at:
        return marks.mark("archived")
    return marks.mark("on" if persona.enabled else "off")


def _identity_line(persona: Persona, tz: str) -> str:
    parts = [persona.slug, short_id(persona.id), f"changed {marks.moment(persona.updated_at, tz)} {tz}"]
    return " · ".join(parts)


def _next_due(status: TriggerStatus, tz: str) -> str:
    on = f"{plural(status.enabled_count, 'trigger')} on"
    if not status.next_due:
        return on
    first = status.next_due[0]
    return f"{on}, next {when_words(first.due_at, tz)} {tz}: {one_line(first.persona, 40)}"


def _review_detail(review: Review, names: Mapping[str, str]) -> str:
    parts = [
        names.get(review.persona_id, ""),
        f"{review.severity} severity",
        "REHEARSAL" if review.rehearsal else "",
    ]
    return " · ".join(part for part in parts if part)


def _overview_row(persona: Persona, run: Execution | None) -> list[Cell]:
    return [
        Short(one_line(_titled(persona), 50)),
        _state(persona),
        one_line(persona.description or persona.prompt.identity, 70),
        marks.sign_of(run) if run else "never run",  # the persona's own mark says that it may do anything
    ]


def _run_row(run: Execution, tz: str, *, bypass: bool = False) -> list[Cell]:
    return [
        Code(short_id(run.id)),
        one_line(run.persona_name, 40),
        marks.sign_of(run, bypass=bypass if run.permissions is None else run.permissions == "bypass"),
        Short(marks.moment(run.created_at, tz)),
        Number(marks.duration(run.duration_ms)),
        Number(marks.money(run.cost_usd, rehearsal=run.rehearsal)),
    ]


def _usual_steps(personas: Sequence[Persona], runs: Sequence[Execution]) -> list[Step]:
    steps: list[Step] = []
    if personas:
        steps.append((f"%%persona run {personas[0].slug}", "the rest of the cell is its input"))
    if runs:
        steps.append(
            (f"%persona runs show {short_id(runs[0].id)}", "everything that happened in the latest run")
        )
    return [
        *steps,
        ('%persona design "…"', "another persona, from a sentence"),
        ("%persona help", "every verb"),
    ]


def _persona_facts(
    persona: Persona,
    tools: Sequence[ToolDefinition | str] | None,
    memories_count: int | None,
    subscriptions: Sequence[Subscription] | None,
    asks_first: Collection[str],
) -> list[tuple[str, Cell | None]]:
    profile = persona.model_profile
    thinks = (
        " · ".join(part for part in (profile.provider, profile.model, profile.base_url) if part)
        if profile
        else ""
    )
    named = None if tools is None else [tool if isinstance(tool, str) else tool.name for tool in tools]
    listens = [
        sub.event_type
        + (f" from {sub.source_filter}" if sub.source_filter else "")
        + ("" if sub.enabled else " (off)")
        for sub in subscriptions or ()
    ]
    return [
        ("tools", None if named is None else ", ".join(named) or "none"),
        ("asks you before", ", ".join(sorted(asks_first))),
        ("listens to", ", ".join(listens)),
        ("remembers", None if memories_count is None else plural(memories_count, "memory", "memories")),
        ("model", thinks or "as the settings say"),
        ("limits", _limits(persona)),
        ("permissions", _permissions(persona)),
        (
            "notifies",
            ", ".join(f"{each.label}{'' if each.enabled else ' (off)'}" for each in channels_of(persona)),
        ),
    ]


def _permissions(persona: Persona) -> Cell | None:
    if persona.permissions != "bypass":
        return None
    return marks.BYPASS._replace(word="bypass: with the engine claude, whatever that can do")


def _limits(persona: Persona) -> str:
    known = [
        f"at most ${persona.max_budget_usd:.2f} a run" if persona.max_budget_usd is not None else "",
        plural(persona.max_turns, "turn") if persona.max_turns else "",
        marks.duration(persona.timeout_ms) if persona.timeout_ms else "",
        f"{persona.max_concurrent} at once" if persona.max_concurrent > 1 else "",
    ]
    return ", ".join(part for part in known if part) or "as the settings say"


def _persona_steps(persona: Persona) -> list[Step]:
    slug = persona.slug
    if not persona.enabled:
        return [(f"%persona enable {slug}", "let it run again")]
    return [
        (f"%%persona run {slug}", "run it; the rest of the cell is its input"),
        (f'%persona design {slug} "…"', "design it anew, from a sentence"),
        (f"%persona versions {slug}", "how it came to be"),
    ]
