"""A design: its card, the question it asks, its feasibility, its sessions, and its flow as a graph."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from personas_nb.entities.design import (
    DesignHighlight,
    DesignQuestion,
    DesignResult,
    DesignSessionRecord,
    Feasibility,
    FeasibilityIssue,
    Flow,
    SuggestedTrigger,
)
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, Short, Words, one_line, plural, short_id
from personas_nb.views.mermaid import Arrow, Box, fence
from personas_nb.views.page import Page, Step, listing, named
from personas_nb.views.personas import EFFECTS
from personas_nb.views.triggers import fires_words, trigger_words
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.design.costs import DesignCost
    from personas_nb.entities.tool import ToolDefinition

FIRES_SHOWN = 3
_SIGNS = {("▶", marks.BLUE), ("✓", marks.GREEN), ("▲", marks.AMBER), ("?", marks.PLUM), ("○", marks.GREY)}
RETRIEVED = (
    "No model was asked: tools and connectors were found by their words, and the schedule was read "
    "by a grammar. Read it closely before you apply it."
)


def design_card(
    result: DesignResult,
    *,
    state: str = "preview",
    session_id: str = "",
    tz: str = "UTC",
    next_fires: Sequence[Sequence[datetime]] | None = None,
    rehearsal: bool = False,
    question: DesignQuestion | None = None,
    changed: Sequence[str] = (),
    applied_to: str = "",
    tools: Sequence[ToolDefinition] = (),
    credentials: Collection[str] = (),
    cost: DesignCost | None = None,
) -> View:
    """A design as a whole.

    ``next_fires`` are the next times of each suggested trigger (None: reckoned from now), ``changed`` is what moved,
    ``applied_to`` is the slug of the persona that was made of it. ``tools`` is the catalog, ``credentials`` the
    connectors that have one.
    """
    detail = f"design · session {short_id(session_id)}" if session_id else "design"
    page = Page(result.name or "Design", status=state, detail=detail, rehearsal=rehearsal)
    if rehearsal:
        page.sentence(RETRIEVED, faint=True)
    page.prose(result.summary)
    if changed:
        page.sentence("Changed: " + ", ".join(changed), status="changed")
    if question:
        _question_block(page, question)
    page.table((), _highlight_rows(result.design_highlights), heading="In short")
    fires = (
        [next_times(trigger, tz) for trigger in result.suggested_triggers]
        if next_fires is None
        else next_fires
    )
    page.table(
        ("trigger", "fires", "cron", "next", "from"),
        [*_trigger_rows(result, fires, tz), *_subscription_rows(result)],
        heading="Starts by itself",
    )
    page.table(("tool", "a call", "needs"), _tool_rows(result, tools, credentials), heading="Tools")
    page.facts(_parts(result))
    shown = _connectors(page, result, credentials)
    _prompt(page, result)
    if cost:
        _cost_block(page, cost)
    if result.feasibility:
        _feasibility_block(page, result.feasibility, shown=shown)
    return page.next(_steps(result, state, question, applied_to)).view(result)


def next_times(trigger: SuggestedTrigger, tz: str = "UTC", count: int = FIRES_SHOWN) -> list[datetime]:
    """When a suggested schedule fires next, from now; nothing for other triggers and for what cannot be read."""
    from personas_nb.entities.base import now
    from personas_nb.errors import PersonaError
    from personas_nb.triggers.cron import fires

    if trigger.trigger_type != "schedule":
        return []
    zone = str(trigger.config.get("timezone") or tz)
    try:
        return list(fires(str(trigger.config.get("cron", "")), now(), zone, count))
    except PersonaError:  # a design or an import may propose what no clock knows; feasibility says so
        return []


def question_card(question: DesignQuestion, session: str = "") -> View:
    """What the designer needs to know before it goes on."""
    detail = f"design · session {short_id(session)}" if session else "design"
    page = Page("One question first", status="awaiting-input", detail=detail)
    return _question_block(page, question).view(question)


def feasibility_card(feasibility: Feasibility, *, name: str = "") -> View:
    """Whether a design can work here, and what to type where it cannot yet."""
    page = Page(f"Feasibility of {name}" if name else "Feasibility", status=feasibility.overall)
    return _feasibility_block(page, feasibility, heading=False).view(feasibility)


def session_list(sessions: Sequence[DesignSessionRecord], *, tz: str = "UTC") -> View:
    """Design sessions as a table, in the order given."""
    rows: list[list[Cell]] = [
        [
            Code(short_id(session.id)),
            marks.mark(session.state),
            one_line(session.name or _designed_name(session), 40),
            one_line(session.instruction, 90),
            plural(len(session.turns), "turn"),
            Short(marks.moment(session.updated_at, tz)),
        ]
        for session in sessions
    ]
    steps: list[Step] = [('%persona design "…"', "begin one")]
    if sessions:
        identity = short_id(sessions[0].id)
        steps = [
            (f"%persona sessions resume {identity}", "go on with it"),
            (f"%persona sessions discard {identity}", "forget it"),
        ]
    headers = ["session", "", "name", "instruction", "", f"changed ({tz})"]
    return listing(
        "Design sessions", headers, rows, empty="No design is under way.", steps=steps, value=list(sessions)
    )


def _designed_name(session: DesignSessionRecord) -> str:
    """The name in the newest design of a session; empty while there is none."""
    return next((turn.result.name for turn in reversed(session.turns) if turn.result), "")


def flow_markdown(flow: Flow) -> View:
    """How a persona works, as a mermaid graph in a Markdown fence; the same as a list of arrows in words."""
    labels = {step.id: one_line(step.label or step.id, 80) for step in flow.steps}
    for edge in flow.edges:  # an arrow may name a box that nobody drew
        for end in (edge.source, edge.target):
            labels.setdefault(end, one_line(end, 80))
    if not labels:
        return Page("Flow").sentence("It has no steps yet.").view(flow)
    places = {identity: place for place, identity in enumerate(labels)}
    arrows = [
        Arrow(places[edge.source], places[edge.target], one_line(edge.label, 60)) for edge in flow.edges
    ]
    linked = {end for arrow in arrows for end in (arrow.source, arrow.target)}
    names = list(labels.values())
    rows: list[list[Cell]] = [
        [names[arrow.source], f"→ {arrow.label} →" if arrow.label else "→", names[arrow.target]]
        for arrow in arrows
    ]
    rows += [[name, "", ""] for place, name in enumerate(names) if place not in linked]
    words = marks.table_text((), rows)
    view = Page("Flow", detail=plural(len(labels), "step")).folded("In words", words, fixed=True).view(flow)
    graph = fence([Box((name,)) for name in names], arrows)
    return View(view.text, view.html, value=flow, markdown=graph, alt=words)


def _question_block(page: Page, question: DesignQuestion) -> Page:
    page.sentence(question.question, status="question")
    steps: list[Step] = [(f'%persona answer "{one_line(option, 200)}"', "") for option in question.options]
    return page.next([*steps, ('%persona answer "…"', "or in your own words")], heading="Answer")


def _highlight_rows(highlights: Sequence[DesignHighlight]) -> Iterable[list[Cell]]:
    """One point a row; the kind stands beside its first one."""
    for highlight in highlights:
        sign = (highlight.icon or "", highlight.color or "")
        glyph, colour = sign if sign in _SIGNS else ("◆", marks.GREY)
        for number, item in enumerate(highlight.items):
            kind: Cell = marks.Mark(glyph, one_line(highlight.category, 40), colour) if number == 0 else ""
            yield [kind, Words(one_line(item, 300))]


def _trigger_rows(
    result: DesignResult, next_fires: Sequence[Sequence[datetime]], tz: str
) -> Iterable[list[Cell]]:
    for index, trigger in enumerate(result.suggested_triggers):
        fires = next_fires[index] if index < len(next_fires) else ()
        zone = trigger.config.get("timezone")
        yield [
            trigger.trigger_type,
            one_line(_fires(trigger), 120),
            Code(str(trigger.config.get("cron", ""))),
            fires_words(fires, zone if isinstance(zone, str) and fires else tz),
            one_line(trigger.source_node or "", 60),
        ]


def _subscription_rows(result: DesignResult) -> Iterable[list[Cell]]:
    for listened in result.suggested_event_subscriptions:
        source = f" from {listened.source_filter}" if listened.source_filter else ""
        yield ["event", one_line(f"when {listened.event_type} is published{source}", 120), Code(""), "", ""]


def _tool_rows(
    result: DesignResult, tools: Sequence[ToolDefinition], credentials: Collection[str]
) -> Iterable[list[Cell]]:
    known = {tool.name: tool for tool in tools}
    for name in result.suggested_tools:
        tool = known.get(name)
        if tool is None:
            yield [Code(name), "" if not tools else marks.Mark("✕", "not in the catalog", marks.ORANGE), ""]
            continue
        needed = tool.requires_credential_type
        yield [
            Code(name),
            EFFECTS.get(tool.effect, tool.effect),
            _access(needed, credentials) if needed else "",
        ]


def _access(connector: str, credentials: Collection[str]) -> Cell:
    if connector in credentials:
        return marks.Mark("✓", f"a credential of {connector}", marks.GREEN)
    return marks.Mark("▲", f"a credential of {connector}: there is none yet", marks.AMBER)


def _fires(trigger: SuggestedTrigger) -> str:
    """When a trigger fires, and whether somebody said so."""
    words = trigger_words(trigger.trigger_type, trigger.config)
    assumed = re.search(r"\(([\w ]+ assumed)\)", trigger.description)
    return f"{words}, {assumed[1]}" if assumed else words


def _parts(result: DesignResult) -> list[tuple[str, Cell | None]]:
    profile, wanted = result.suggested_model_profile, result.suggested_settings
    tells = [
        f"{channel.type} (needs {channel.required_connector})" if channel.required_connector else channel.type
        for channel in result.suggested_notification_channels
    ]
    limits = wanted.model_dump(exclude_none=True, exclude_defaults=True) if wanted else {}
    starts_itself = result.suggested_triggers or result.suggested_event_subscriptions
    return [
        ("starts", "" if starts_itself else "when you run it"),
        ("tools", "" if result.suggested_tools else "none"),
        ("MCP servers", one_line(", ".join(server.name for server in result.suggested_servers), 200)),
        ("notifies", one_line(", ".join(tells), 200)),
        (
            "model",
            one_line(" · ".join(filter(None, (profile.provider, profile.model, profile.base_url))), 200)
            if profile
            else None,
        ),
        ("settings", one_line(", ".join(f"{name} {_value(value)}" for name, value in limits.items()), 300)),
    ]


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _connectors(page: Page, result: DesignResult, credentials: Collection[str]) -> frozenset[str]:
    """What must be set up, each with the verb to type; the names of those that only lack a credential."""
    issues = result.feasibility.issues if result.feasibility else ()
    unknown = {issue.subject for issue in issues if issue.kind == "connector"}
    lacking = {issue.subject for issue in issues if issue.kind == "credential"} - set(credentials)
    rows: list[list[Cell]] = []
    for connector in result.suggested_connectors:
        name = connector.name
        is_ready = name in credentials or bool(result.feasibility and name not in unknown | lacking)
        fields = ", ".join(connector.credential_fields)
        if connector.oauth_type:
            fields += f" · signs in with {connector.oauth_type}"
        if is_ready:
            rows.append([marks.Mark("✓", name, marks.GREEN), "set up", "", ""])
            continue
        add = Code("" if name in unknown else f"%persona credentials add {name} {name}")
        how = Words(one_line(re.split(r"(?<=\.)\s", connector.setup_instructions, maxsplit=1)[0], 200))
        rows.append([marks.Mark("▲", name, marks.AMBER), one_line(fields, 120), how, add])
    page.table(("connector", "fields", "how to get them", "then type"), rows, heading="Needs access to")
    shown = lacking & {connector.name for connector in result.suggested_connectors}
    if shown:
        rehearse = f"%%persona run {named(result.name) or 'NAME'} --provider rehearsal"
        page.sentence(f"Until then it can be rehearsed: {rehearse}", faint=True, under=True)
    return frozenset(shown)


def _prompt(page: Page, result: DesignResult) -> None:
    """The instructions open, for they are what must be right; every other section unfolds."""
    sections = result.structured_prompt.sections()
    if not sections and result.full_prompt_markdown:
        sections = [("Prompt", result.full_prompt_markdown)]
    size = sum(len(text) for _, text in sections)
    page.heading("What it will be told", f"{plural(len(sections), 'section')}, {size:,} characters")
    for heading, text in sections:
        if heading == "Instructions":
            page.prose(text, heading=heading)
        else:
            page.folded(f"{heading} ({len(text):,} characters)", text)


def _cost_block(page: Page, cost: DesignCost) -> None:
    each, often = cost.per_run, cost.runs_a_month
    if each is None:
        page.heading("What it may cost")
        page.sentence(f"Unknown: the price of {cost.model} is not known here.", under=True)
        return
    rows: list[list[Cell]] = [
        ["a run", "", Number(_range(each.lower_usd, each.upper_usd)), Number(_about(cost.likely_usd))]
    ]
    if often:
        likely = cost.likely_usd * often if cost.likely_usd is not None else None
        least = 0.0 if cost.is_at_most else each.lower_usd * often  # a page may never change
        whole, about = _range(least, each.upper_usd * often), _about(likely)
        if cost.is_at_most:
            about = about.replace("about", "at most")
        rows.append(["a month", _often(often, at_most=cost.is_at_most), Number(whole), Number(about)])
    page.table(("", "runs", "range", "likely"), rows, heading="What it may cost", detail=f"with {cost.model}")
    upper = "the budget that ends a run" if each.is_budget else "every turn with a full context"
    said = f"The range goes from one short answer to {upper}; likely is each tool called once."
    page.sentence(
        f"In rehearsal it costs nothing. {said}" if cost.rehearsal else said, faint=True, under=True
    )


def _range(lower_usd: float, upper_usd: float) -> str:
    return f"{_money(lower_usd)} to {_money(upper_usd)}"


def _about(cost_usd: float | None) -> str:
    return "" if cost_usd is None else f"about {_money(cost_usd)}"


def _money(cost_usd: float) -> str:
    """An estimate; more than two figures of it would not be true."""
    if cost_usd >= 100:
        return f"${cost_usd:,.0f}"
    if cost_usd == 0:
        return "$0"
    if cost_usd >= 0.1:
        return f"${cost_usd:.2f}"
    return f"${cost_usd:.2g}" if cost_usd >= 0.0001 else "under $0.0001"


def _often(runs_a_month: float, *, at_most: bool) -> str:
    most = "at most " if at_most else "about "
    if runs_a_month < 1:
        return f"{most}{plural(max(round(runs_a_month * 12), 1), 'run')} a year"
    return f"{most}{round(runs_a_month):,}"


def _feasibility_block(
    page: Page, feasibility: Feasibility, *, heading: bool = True, shown: Collection[str] = ()
) -> Page:
    """``shown`` are connectors whose missing credential stands elsewhere on the card."""
    if heading:
        page.heading("Can it work here?", marks.mark(feasibility.overall).word, status=feasibility.overall)
    rows: list[list[Cell]] = [
        [
            _issue_mark(issue),
            one_line(issue.subject, 60),
            Words(one_line(issue.problem, 300)),
            Code(issue.remedy) if issue.remedy.startswith("%") else Words(one_line(issue.remedy, 300)),
        ]
        for issue in feasibility.issues
        if not (issue.kind == "credential" and issue.subject in shown)
    ]
    page.table(("", "what", "stands in the way", "what helps"), rows, under=heading)
    elsewhere = len(feasibility.issues) - len(rows)
    if elsewhere:
        page.sentence(f"{plural(elsewhere, 'credential')} to add, see “Needs access to”.", status="partial")
    confirmed = feasibility.confirmed_capabilities
    if confirmed:
        page.folded(f"{plural(len(confirmed), 'thing')} that will work", "\n".join(confirmed))
    elif not rows and not elsewhere:
        page.sentence("Nothing stands in the way.")
    return page


def _issue_mark(issue: FeasibilityIssue) -> marks.Mark:
    if issue.blocking:
        return marks.mark("blocked")
    return marks.Mark("▲", "not wholly" if issue.kind == "limit" else "to do", marks.AMBER)


def _steps(result: DesignResult, state: str, question: DesignQuestion | None, applied_to: str) -> list[Step]:
    if question:
        return []
    if state == "applied":
        name = applied_to or named(result.name) or "NAME"
        return [
            (f"%%persona run {name}", "run it; the rest of the cell is its input"),
            (f"%persona show {name}", "its card"),
        ]
    refine: Step = ('%persona refine "…"', "change it in words; %persona undo takes it back")
    if result.feasibility and result.feasibility.overall == "blocked":
        return [refine, ("%persona feasibility", "look again, once what blocks it is done")]
    return [("%persona apply", "make it a persona"), refine]
