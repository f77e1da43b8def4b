"""A design: its card, the question it asks, its feasibility, its sessions, and its flow as a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from personas_nb.entities.design import (
    DesignQuestion,
    DesignResult,
    DesignSessionRecord,
    Feasibility,
    Flow,
    SuggestedConnector,
    SuggestedTrigger,
)
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Short, Words, one_line, plural, short_id
from personas_nb.views.mermaid import Arrow, Box, fence
from personas_nb.views.page import Page, Step, listing, named
from personas_nb.views.triggers import fires_words, trigger_words
from personas_nb.views.view import View

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
    next_fires: Sequence[Sequence[datetime]] = (),
    rehearsal: bool = False,
    question: DesignQuestion | None = None,
    changed: Sequence[str] = (),
    applied_to: str = "",
) -> View:
    """A design as a whole.

    ``next_fires`` are the next times of each suggested trigger, ``changed`` is what moved, ``applied_to`` is the
    slug of the persona that was made of it.
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
    page.table(
        (),
        [
            [highlight.category, one_line("; ".join(highlight.items), 300)]
            for highlight in result.design_highlights
        ],
        heading="In short",
    )
    page.table(
        ("trigger", "fires", "cron", "next"),
        _trigger_rows(result, next_fires, tz),
        heading="Starts by itself",
    )
    page.facts(_parts(result))
    _connectors(page, result.suggested_connectors)
    sections = result.structured_prompt.sections()
    page.heading("What it will be told", plural(len(sections), "section"))
    for heading, text in sections:
        page.folded(f"{heading} ({len(text):,} characters)", text)
    if result.feasibility:
        _feasibility_block(page, result.feasibility)
    return page.next(_steps(result, state, question, applied_to)).view(result)


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
        ]


def _fires(trigger: SuggestedTrigger) -> str:
    """When a trigger fires, and whether somebody said so."""
    words = trigger_words(trigger.trigger_type, trigger.config)
    assumed = re.search(r"\(([\w ]+ assumed)\)", trigger.description)
    return f"{words}, {assumed[1]}" if assumed else words


def _parts(result: DesignResult) -> list[tuple[str, Cell | None]]:
    profile = result.suggested_model_profile
    listens = [
        f"{sub.event_type} from {sub.source_filter}" if sub.source_filter else sub.event_type
        for sub in result.suggested_event_subscriptions
    ]
    tells = [
        f"{channel.type} (needs {channel.required_connector})" if channel.required_connector else channel.type
        for channel in result.suggested_notification_channels
    ]
    starts_itself = result.suggested_triggers or result.suggested_event_subscriptions
    return [
        ("starts", "" if starts_itself else "when you run it"),
        ("tools", ", ".join(result.suggested_tools) or "none"),
        ("listens to", ", ".join(listens)),
        ("notifies", ", ".join(tells)),
        (
            "model",
            " · ".join(part for part in (profile.provider, profile.model) if part) if profile else None,
        ),
    ]


def _connectors(page: Page, connectors: Sequence[SuggestedConnector]) -> None:
    rows: list[list[Cell]] = [
        [
            Code(connector.name),
            ", ".join(connector.credential_fields),
            Words(one_line(connector.setup_instructions, 300)),
        ]
        for connector in connectors
    ]
    page.table(("connector", "fields", "how to get them"), rows, heading="Needs access to")


def _feasibility_block(page: Page, feasibility: Feasibility, *, heading: bool = True) -> Page:
    if heading:
        page.heading("Can it work here?", marks.mark(feasibility.overall).word, status=feasibility.overall)
    rows: list[list[Cell]] = [
        [
            marks.mark("blocked") if issue.blocking else marks.Mark("▲", "to do", marks.AMBER),
            one_line(issue.subject, 60),
            Words(one_line(issue.problem, 300)),
            Code(issue.remedy) if issue.remedy.startswith("%") else Words(one_line(issue.remedy, 300)),
        ]
        for issue in feasibility.issues
    ]
    page.table(("", "what", "stands in the way", "what helps"), rows)
    confirmed = feasibility.confirmed_capabilities
    if confirmed:
        page.folded(f"{plural(len(confirmed), 'thing')} that will work", "\n".join(confirmed))
    elif not rows:
        page.sentence("Nothing stands in the way.")
    return page


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
