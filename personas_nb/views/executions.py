"""Runs: the card of one, the list of many, and a moment of one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personas_nb.entities.event import Event
from personas_nb.entities.execution import Execution
from personas_nb.entities.memory import Memory
from personas_nb.entities.message import Message
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import RunEvent
from personas_nb.entities.tool import ToolCallStep
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Number, Short, one_line, plural, short_id
from personas_nb.views.page import REHEARSED, Page, Step, listing, named
from personas_nb.views.view import View

CALLS_SHOWN = 30

TEXT = marks.Mark("¶", "text", marks.GREY)
_PROTOCOL_SIGNS = {
    "user_message": ("✓", marks.GREEN),
    "agent_memory": ("✓", marks.GREEN),
    "outcome_assessment": ("✓", marks.GREEN),
    "manual_review": ("?", marks.PLUM),
    "emit_event": ("▶", marks.BLUE),
    "persona_action": ("▶", marks.BLUE),
}

# What helps against each way a run can end, where the error's own sentence above does not say it.
_REMEDIES: dict[str, tuple[Step, ...]] = {
    "budget": ("Run it again with a higher --max-budget-usd, or give the persona a higher max_budget_usd.",),
    "turns": ("Run it again with more --max-turns, or ask for less at once.",),
    "tokens": ("It met the token limit that stands where the price is unknown (unknown_price_token_limit).",),
    "timeout": ("Run it again with a longer --timeout, such as 10m.",),
    "connection": (("%persona health", "which model and server the settings name"),),
    "not_found": (("%persona show {name}", "is its model spelled as the provider spells it?"),),
    "interrupted": (
        "Its process ended in the middle; what it did until then is kept. It is not run again by itself.",
    ),
}


@dataclass(frozen=True)
class Sequel:
    """What is done about a failed run, in words, and the run that tries it again, if one does."""

    sentence: str = ""
    retry: Execution | None = None

    @property
    def hint(self) -> str:
        """The sentence, and the verb to type next where it has none."""
        if self.retry is None or self.retry.is_finished:
            return self.sentence
        return f"{self.sentence} `%persona runs wait {short_id(self.retry.id)}` follows it."


def execution_card(
    execution: Execution,
    *,
    messages: Sequence[Message] = (),
    reviews: Sequence[Review] = (),
    memories: Sequence[Memory] = (),
    events: Sequence[Event] = (),
    text: str | None = None,
    sequel: Sequel | None = None,
    bypass: bool = False,
    tz: str = "UTC",
) -> View:
    """One run: what it answered, did, asked, kept and cost, and what to do next.

    ``text`` stands in for ``output_data``, where the run's own text is known in full. ``bypass``: its persona may
    do whatever its engine can.
    """
    page = head_of(execution, bypass=bypass, tz=tz)
    if sequel is not None:
        page.sentence(sequel.sentence)
    page.prose(text if text is not None else execution.output_data or "")
    for warning in execution.warnings:
        page.sentence(warning, status="warning")
    for review in reviews:
        review_block(page, review, tz=tz)
    for message in messages:
        said = " · ".join(word for word in (message.content_type, _urgency(message)) if word)
        page.prose(
            message.content or "(empty)", heading=_message_heading(message), detail=said, open_chars=600
        )
    _tools(page, execution)
    _kept(page, memories, events)
    figures(page, execution)
    return page.next(next_steps(execution, reviews, sequel)).view(execution)


def execution_list(
    executions: Sequence[Execution],
    *,
    bypassing: Collection[str] = (),
    tz: str = "UTC",
    title: str = "Runs",
) -> View:
    """Runs as a table, in the order given; ``bypassing`` are ids of personas that may do anything."""
    rows: list[list[Cell]] = [
        [
            Code(short_id(run.id)),
            one_line(run.persona_name, 40),
            marks.sign_of(run, bypass=may_do_all(run, by_persona=run.persona_id in bypassing)),
            Short(marks.moment(run.created_at, tz)),
            Number(marks.duration(run.duration_ms)),
            Number(marks.tokens(run.input_tokens + run.output_tokens, rehearsal=run.rehearsal)),
            Number(marks.money(run.cost_usd, rehearsal=run.rehearsal)),
            _begins(run, tz) or _gist(run.error or run.output_data or ""),
        ]
        for run in executions
    ]
    headers = ["run", "persona", "status", f"queued ({tz})", "took", "tokens", "cost", "result"]
    steps: list[Step] = [("%%persona run NAME", "the rest of the cell is its input")]
    if executions:
        steps = [(f"%persona runs show {short_id(executions[0].id)}", "everything that happened in it")]
    return listing(title, headers, rows, empty="Nothing has run yet.", steps=steps, value=list(executions))


def may_do_all(run: Execution, *, by_persona: bool) -> bool:
    """Whether a run may do anything: by its own record, and by its persona's where it has not begun."""
    return by_persona if run.permissions is None else run.permissions == "bypass"


def head_of(execution: Execution, *, bypass: bool = False, tz: str = "UTC") -> Page:
    """The head of a run's card: whose it is, how it stands, and why it has failed or does not begin."""
    page = Page(
        execution.persona_name or f"persona {short_id(execution.persona_id)}",
        status=execution.status,
        detail=_line_of(execution, tz),
        rehearsal=execution.rehearsal,
        bypass=may_do_all(execution, by_persona=bypass),
    )
    if execution.rehearsal:
        page.sentence(REHEARSED, faint=True)
    if execution.status == "queued" and execution.scheduled_at:
        page.sentence(f"It begins at {marks.instant(execution.scheduled_at, tz)} {tz}.", status="queued")
    if execution.error:
        page.sentence(execution.error, status="cancelled" if execution.status == "cancelled" else "failed")
    return page


def step_sign(step: ToolCallStep) -> marks.Mark:
    """What became of a tool call."""
    if step.uncertain:
        return marks.mark("uncertain")._replace(word="may have happened")
    return marks.mark("failed" if step.error else "done" if step.performed else "described")


def tool_rows(steps: Sequence[ToolCallStep]) -> list[list[Cell]]:
    """Tool calls as table rows: name, what became of it, time, what went in, what came out."""
    return [
        [
            Code(step.tool),
            step_sign(step),
            Number(marks.duration(step.duration_ms)),
            one_line(json.dumps(step.input, ensure_ascii=False, default=str), 60) if step.input else "",
            one_line(step.error or step.output, 70),
        ]
        for step in steps
    ]


def _line_of(run: Execution, tz: str) -> str:
    model = " · ".join(dict.fromkeys(part for part in (run.provider, run.model_used, run.engine) if part))
    parts = [
        f"run {short_id(run.id)}",
        f"version {run.persona_version}" if run.persona_version else "",
        model,
        f"{marks.moment(run.started_at or run.created_at, tz)} {tz}",
        marks.duration(run.duration_ms) if run.duration_ms is not None else "",
    ]
    return " · ".join(part for part in parts if part)


def _begins(run: Execution, tz: str) -> str:
    """When a queued run begins that has to wait until then."""
    if run.status != "queued" or run.scheduled_at is None:
        return ""
    again = f", tries {short_id(run.retry_of)} again" if run.retry_of else ""
    return f"begins at {marks.instant(run.scheduled_at, tz)}{again}"


def _gist(text: str) -> str:
    return one_line(text[:300].replace("**", "").lstrip("# \n"), 60)


def _tools(page: Page, run: Execution) -> None:
    steps = run.tool_steps
    failed = sum(step.error is not None for step in steps)
    described = sum(not step.performed and step.error is None for step in steps)
    detail = [plural(len(steps), "call")]
    if failed:
        detail.append(f"{failed:,} failed")
    if described:
        detail.append(f"{described:,} described, not performed")
    page.table(
        ("tool", "", "took", "input", "result"),
        tool_rows(steps[:CALLS_SHOWN]),
        heading="Tools",
        detail=", ".join(detail),
    )
    if len(steps) > CALLS_SHOWN:
        page.sentence(
            f"… and {plural(len(steps) - CALLS_SHOWN, 'more call')}: %persona runs show {short_id(run.id)}"
        )


def _message_heading(message: Message) -> str:
    return f"Message: {one_line(message.title)}" if message.title else "Message"


def _urgency(message: Message) -> str:
    return f"{message.priority} priority" if message.priority != "normal" else ""


def _kept(page: Page, memories: Sequence[Memory], events: Sequence[Event]) -> None:
    page.table(
        ("", "memory", "importance"),
        [[memory.category, one_line(f"{memory.title}: {memory.content}", 110), Number(f"{memory.importance}/10")]
         for memory in memories],
        heading="Remembered",
    )  # fmt: skip
    page.table(
        ("event", "data"),
        [[Code(event.event_type), one_line(json.dumps(event.data, ensure_ascii=False, default=str), 90)]
         for event in events],
        heading="Events emitted",
    )  # fmt: skip


def review_block(page: Page, review: Review, *, tz: str = "UTC") -> None:
    """A decision that a person is asked for, with the verbs that decide it while it is open."""
    state = marks.mark(review.status).word
    page.heading(
        f"Decision: {one_line(review.title or 'untitled')}",
        " · ".join((state, f"{review.severity} severity", short_id(review.id))),
        status=review.status,
    )
    # what is to be approved is to be read
    page.prose(review.description, open_chars=4000 if review.kind == "approval" else 600)
    if review.suggested_actions:
        page.sentence("It suggests: " + "; ".join(review.suggested_actions))
    if review.kind == "approval" and review.status == "pending" and review.expires_at:
        until = f"{marks.moment(review.expires_at, tz)} {tz}"
        page.sentence(f"The run waits. What is not approved until {until} is not done.", faint=True)
    if review.status == "pending":
        page.next(decide(review), heading="")


def decide(review: Review) -> list[Step]:
    """The verbs that decide a review."""
    return [
        (f"%persona reviews approve {short_id(review.id)}", ""),
        (f"%persona reviews reject {short_id(review.id)}", "a note may follow"),
    ]


def figures(page: Page, run: Execution) -> None:
    """What a run took: its outcome, cost, tokens, time and turns."""

    def count(number: int) -> Cell:
        return Number(marks.tokens(number, rehearsal=run.rehearsal))

    outcome = run.outcome or {}
    summary = one_line(outcome.get("summary") or outcome.get("reason") or "", 300)
    accomplished = {True: "accomplished", False: "not accomplished"}.get(bool(outcome.get("accomplished")))
    page.heading("What it took")
    if "accomplished" in outcome:
        page.sentence("Outcome: " + ": ".join(part for part in (accomplished, summary) if part), under=True)
    figures: list[tuple[str, Cell]] = [
        ("cost", Number(marks.money(run.cost_usd, rehearsal=run.rehearsal))),
        ("tokens in", count(run.input_tokens)),
        ("tokens out", count(run.output_tokens)),
        ("cache read", count(run.cache_read_tokens) if run.cache_read_tokens else ""),
        ("cache written", count(run.cache_write_tokens) if run.cache_write_tokens else ""),
        ("time", Number(marks.duration(run.duration_ms))),
        ("turns", Number(str(run.num_turns)) if run.num_turns else ""),
        ("repeats run", Code(short_id(run.retry_of)) if run.retry_of else ""),
        ("started by trigger", Code(short_id(run.trigger_id)) if run.trigger_id else ""),
        ("started by event", Code(short_id(run.event_id)) if run.event_id else ""),
    ]
    page.table([name for name, _ in figures], [[value for _, value in figures]])


def next_steps(run: Execution, reviews: Sequence[Review], sequel: Sequel | None = None) -> list[Step]:
    """What to type after a run, by how it ended and what is done about that."""
    name, identity = named(run.persona_name, run.persona_id), short_id(run.id)
    if run.status == "waiting":
        return (
            []
            if any(review.status == "pending" for review in reviews)
            else [("%persona reviews", "decide it")]
        )
    if not run.is_finished:
        return [
            (f"%persona runs wait {identity}", "see it through to its end"),
            (f"%persona runs cancel {identity}", "stop it"),
        ]
    show: Step = (f"%persona runs show {identity}", "every moment of it")
    if sequel is not None and sequel.sentence:
        if sequel.retry is None:
            return [show]  # the sentence has the verb
        again = short_id(sequel.retry.id)
        if sequel.retry.is_finished:
            return [(f"%persona runs show {again}", "the run that tried it again"), show]
        return [
            (f"%persona runs wait {again}", "see it tried again"),
            (f"%persona runs cancel {again}", "do not try it again"),
            show,
        ]
    if run.status in ("failed", "cancelled"):
        kind = run.error_kind or ("cancelled" if run.status == "cancelled" else "")
        return [*(_filled(step, name) for step in _REMEDIES.get(kind, ())), show]
    if run.status == "incomplete":
        return [show, (f"%persona show {name}", "are its instructions and tools enough for this?")]
    if run.rehearsal:
        return [
            show,
            (f"%%persona run {name} --provider anthropic", "run it with a model; this needs its key"),
        ]
    return [show]


def _filled(step: Step, name: str) -> Step:
    return step if isinstance(step, str) else (step[0].replace("{name}", name), step[1])


def moment_of(event: RunEvent, *, rehearsal: bool = False) -> list[Cell]:
    """An event of a run in two cells: what it is, and what it says."""
    if event.type == "tool_started":
        return [marks.Mark("▶", event.tool, marks.BLUE), _json(event.input)]
    if event.type == "tool_finished":
        _, sign, took, _, result = tool_rows([event.step])[0]
        word = f"{event.step.tool}: {sign.word}" if isinstance(sign, marks.Mark) else event.step.tool
        glyph, colour = (sign.glyph, sign.colour) if isinstance(sign, marks.Mark) else ("○", marks.GREY)
        return [
            marks.Mark(glyph, word, colour),
            " · ".join(filter(None, map(marks.cell_text, (took, result)))),
        ]
    if event.type == "protocol" or event.type == "protocol_called":
        return [_protocol_mark(event.kind, event.data), said_in(event.kind, event.data)]
    if event.type == "usage":
        return [marks.Mark("○", "usage", marks.GREY), usage_line(event, rehearsal=rehearsal)]
    if event.type == "warning":
        return [marks.mark("warning"), one_line(event.text, 300)]
    if event.type == "approval":
        asked = f"{event.tool} waits for your approval, review {short_id(event.review_id)}"
        return [marks.mark("waiting"), one_line(asked, 300)]
    if event.type == "status":
        return [marks.mark(event.status), one_line(event.error or "", 300)]
    return [TEXT, one_line(event.text, 300)]


def _protocol_mark(kind: str, data: Any) -> marks.Mark:
    glyph, colour = _PROTOCOL_SIGNS.get(kind, ("○", marks.GREY))
    if kind == "outcome_assessment" and isinstance(data, Mapping) and not data.get("accomplished"):
        glyph, colour = "▲", marks.AMBER
    return marks.Mark(glyph, kind.replace("_", " "), colour)


def usage_line(usage: Any, *, rehearsal: bool) -> str:
    """Tokens and cost so far, in one line."""
    count = marks.tokens(usage.input_tokens + usage.output_tokens, rehearsal=rehearsal)
    if usage.cost_usd is None and count == "0":  # nothing was answered yet
        return "0 tokens"
    return f"{count} tokens · {marks.money(usage.cost_usd, rehearsal=rehearsal)}"


def said_in(kind: str, data: Any) -> str:
    """What a protocol message says, on one line; a kind that we do not know is shown as it is.

    >>> said_in("user_message", {"title": "Report ready", "content": "3 are overdue.", "priority": "high"})
    'Report ready: 3 are overdue. (high priority)'
    """
    if not isinstance(data, Mapping):  # a model may send anything
        return _json(data)
    match kind:
        case "user_message":
            urgency = data.get("priority", "normal")
            rest = "" if urgency == "normal" else f"{urgency} priority"
            return _titled(data, "content", rest)
        case "manual_review":
            return _titled(data, "description", f"{data.get('severity', 'medium')} severity")
        case "agent_memory":
            return _titled(data, "content", f"importance {data.get('importance', 5)}/10")
        case "outcome_assessment":
            done = "accomplished" if data.get("accomplished") else "not accomplished"
            return one_line(": ".join(filter(None, (done, str(data.get("summary") or "")))), 160)
        case "emit_event":
            return one_line(
                ": ".join(filter(None, (str(data.get("type") or ""), _given(data.get("data"))))), 160
            )
        case "persona_action":
            asked = f"{data.get('target')} shall {data.get('action', 'run')}"
            return one_line(": ".join(filter(None, (asked, _given(data.get("input"))))), 160)
        case "execution_flow" if isinstance(data.get("flows"), list | tuple):
            steps = [step for step in data["flows"] if isinstance(step, Mapping)]
            return one_line(
                ", ".join(f"{s.get('action')} ({s.get('status', 'unknown')})" for s in steps), 300
            )
    return _json(data)


def _titled(data: Mapping[str, Any], content: str, rest: str) -> str:
    said = ": ".join(str(data[name]) for name in ("title", content) if data.get(name))
    return f"{one_line(said, 160)} ({rest})" if rest else one_line(said, 160)


def _given(data: object) -> str:
    return _json(data) if data else ""


def _json(data: object) -> str:
    return one_line(json.dumps(data, ensure_ascii=False, default=str), 160)
