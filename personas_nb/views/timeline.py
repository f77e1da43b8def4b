"""Everything about one run: its moments, tool calls, costs, what ran it under which limits, and its flow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from personas_nb.entities.execution import Execution
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import RunEvent
from personas_nb.entities.tool import ToolCallStep
from personas_nb.views import marks
from personas_nb.views.executions import (
    TEXT,
    figures,
    head_of,
    moment_of,
    next_steps,
    review_block,
    step_sign,
)
from personas_nb.views.flow import declared_steps, flow_view, status_sign
from personas_nb.views.limits import Limit, limit_rows
from personas_nb.views.marks import Cell, Code, Number, one_line, plural, short_id
from personas_nb.views.page import Page
from personas_nb.views.view import View

FIRST_MOMENTS, LAST_MOMENTS = 80, 20
CALLS_SHOWN = 30
CALL_CHARS = 2_000
INPUT_CHARS = 20_000
TEXT_CHARS = 300
TIERS = {1: "its connector serves the tool", 2: "its connector's name", 3: "the type that the tool requires"}
"""By what a credential was found for a tool."""
Moment = RunEvent | tuple[datetime, RunEvent]


def execution_timeline(
    execution: Execution,
    events: Iterable[Moment],
    *,
    reviews: Sequence[Review] = (),
    retries: Sequence[Execution] = (),
    healed: str = "",
    limits: Sequence[Limit] = (),
    current_version: int | None = None,
    bypass: bool = False,
    tz: str = "UTC",
) -> View:
    """Every moment of a run, and all that is known of it; the flow is a display of its own.

    ``healed`` says what was done about a failure. ``reviews`` are the decisions that it asked for, ``retries`` the
    runs that repeat it, ``current_version`` is that of its persona now.
    """
    moments = [moment if isinstance(moment, tuple) else (None, moment) for moment in events]
    page = head_of(execution, bypass=bypass, tz=tz)
    if healed:
        page.sentence(healed)
    _awaited(page, execution, reviews, tz)
    for warning in execution.warnings:
        page.sentence(warning, status="warning")
    if given := execution.input_data:
        cut = f", the first {INPUT_CHARS:,} of them" if len(given) > INPUT_CHARS else ""
        page.folded(f"Input ({plural(len(given), 'character')}{cut})", given[:INPUT_CHARS])
    rows = list(_rows(execution, moments))
    page.table(
        ("after", "what", ""),
        _shortened(rows),
        heading="Moments",
        detail=plural(len(rows), "entry", "entries"),
    )
    if not rows:
        page.sentence("Nothing has happened in it yet.")
    _calls(page, execution)
    page.table(
        ("step", "", "what"),
        [[one_line(step.get("step", ""), 20), status_sign(step.get("status")), one_line(step.get("action", ""), 120)]
         for step in declared_steps(execution.execution_flows)],
        heading="Steps", detail="as it declared them",
    )  # fmt: skip
    if execution.output_data:
        page.folded(f"Its answer ({plural(len(execution.output_data), 'character')})", execution.output_data)
    figures(page, execution)
    _price(page, execution)
    _origins(page, execution, retries, limits, current_version, tz)
    this = f"%persona runs show {short_id(execution.id)}"
    view = page.next(step for step in next_steps(execution, reviews) if step[0] != this).view(execution)
    flow = flow_view(execution, [event for _, event in moments])
    return View(view.text, view.html, value=execution, also=(flow,) if flow else ())


def _awaited(page: Page, run: Execution, reviews: Sequence[Review], tz: str) -> None:
    awaited = [review for review in reviews if review.status == "pending"]
    if run.status == "waiting":
        count = plural(len(awaited), "decision") if awaited else "a decision"
        page.sentence(
            f"It goes on once {count} of yours {'are' if len(awaited) > 1 else 'is'} made.", status="waiting"
        )
    for review in awaited:
        review_block(page, review, tz=tz)


def _rows(run: Execution, moments: Iterable[tuple[datetime | None, RunEvent]]) -> Iterator[list[Cell]]:
    """An entry a moment; successive pieces of text are one."""
    began = run.started_at
    text: list[str] = []
    since = ""
    for at, event in moments:
        began = began or at
        passed = marks.after(max(0.0, (at - began).total_seconds() * 1000)) if at and began else ""
        if event.type == "text":
            since = since if text else passed
            text.append(event.text)
            continue
        if text:
            yield [Number(since), TEXT, one_line("".join(text), TEXT_CHARS)]
            text = []
        yield [Number(passed), *moment_of(event, rehearsal=run.rehearsal)]
    if text:
        yield [Number(since), TEXT, one_line("".join(text), TEXT_CHARS)]


def _shortened(rows: list[list[Cell]]) -> list[list[Cell]]:
    if len(rows) <= FIRST_MOMENTS + LAST_MOMENTS:
        return rows
    left_out = len(rows) - FIRST_MOMENTS - LAST_MOMENTS
    note: list[Cell] = ["", marks.Mark("…", f"{left_out:,} more", marks.GREY), "they are in the log"]
    return [*rows[:FIRST_MOMENTS], note, *rows[-LAST_MOMENTS:]]


def _calls(page: Page, run: Execution) -> None:
    steps = run.tool_steps
    if not steps:
        return
    failed = sum(step.error is not None for step in steps)
    took = marks.duration(sum(step.duration_ms for step in steps))
    page.heading("Tools", " · ".join(filter(None, (
        plural(len(steps), "call"), f"{failed:,} failed" if failed else "", f"{took} together"))))  # fmt: skip
    for number, step in enumerate(steps[:CALLS_SHOWN], 1):
        page.folded(_call_line(number, step), _call_text(step), fixed=True)
    if len(steps) > CALLS_SHOWN:
        page.sentence(f"… and {plural(len(steps) - CALLS_SHOWN, 'more call')}; the log has every one.")


def _call_line(number: int, step: ToolCallStep) -> str:
    sign = step_sign(step)
    given = ", ".join(f"{name}={value}" for name, value in list(step.input.items())[:3])
    took = marks.duration(step.duration_ms) if step.performed else ""
    parts = (f"{number}. {one_line(step.tool, 60)}", marks.cell_text(sign), took, one_line(given, 70))
    return " · ".join(part for part in parts if part)


def _call_text(step: ToolCallStep) -> str:
    given = json.dumps(step.input, ensure_ascii=False, indent=1, default=str)
    got = ("error", step.error) if step.error else ("output", step.output)
    return "\n".join(
        f"{name}: {text[:CALL_CHARS]}{'… (cut)' if len(text) > CALL_CHARS else ''}"
        for name, text in (("input", given), got)
    )


def _price(page: Page, run: Execution) -> None:
    if not run.is_finished or run.cost_usd is not None or run.rehearsal:
        return
    from personas_nb.engine.spending import price_of

    if price_of(run.model_used or "", run.provider or "") is not None:
        why = "not every answer came with the number of its tokens"
    else:
        model = f"of {one_line(run.model_used, 60)} " if run.model_used else ""
        why = f"the price {model}is not known here"
    page.sentence(f"What it cost is unknown: {why}.", status="budget")


def _origins(
    page: Page,
    run: Execution,
    retries: Sequence[Execution],
    limits: Sequence[Limit],
    current_version: int | None,
    tz: str,
) -> None:
    version = str(run.persona_version or "")
    if version and current_version not in (None, run.persona_version):
        version += f" (now {current_version})"
    facts: list[tuple[str, Cell | None]] = [
        ("persona version", version),
        ("model", one_line(run.model_used or "")),
        ("provider", one_line(run.provider or "")),
        ("asked for", f"provider {run.requested_provider}" if run.requested_provider else ""),
        ("engine", one_line(run.engine or "")),
        ("session", Code(run.claude_session_id or "") if run.claude_session_id else None),
        *limit_rows(limits),
        ("files", one_line(", ".join(run.files), 300)),
        ("log", Code(run.log_file_path) if run.log_file_path else None),
    ]
    page.facts(facts, heading="What ran it")
    page.table(
        ("credential", "of", "for", "found by"),
        [[one_line(use.credential, 60), use.connector, Code(use.tool), TIERS[use.tier]]
         for use in run.credentials or ()],
        heading="Credentials", detail="those that its tools could use",
    )  # fmt: skip
    page.table(
        ("run", "", f"begins ({tz})", ""), [_retry(retry, tz) for retry in retries], heading="Repeated by"
    )


def _retry(run: Execution, tz: str) -> list[Cell]:
    begins = run.started_at or run.scheduled_at or run.created_at
    return [
        Code(short_id(run.id)),
        marks.sign_of(run),
        marks.instant(begins, tz),
        one_line(run.error or "", 120),
    ]
