"""What a run did, step by step, as a graph: the steps that it declared, else those that happened.

- Steps of one stage happened side by side: tool calls that were open at the same time, messages that were sent
  together.
- The graph is a display of its own; its plain twin is a table in which a stage is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import ProtocolHandled, RunEvent, ToolCallFinished, ToolCallStarted
from personas_nb.entities.tool import ToolCallStep
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Mark, Number, one_line
from personas_nb.views.mermaid import LINE_CHARS, Arrow, Box, fence
from personas_nb.views.view import View

MAX_BOXES = 60
MANY_BOXES = 20
"""From here on, calls that repeat one another are one box."""
_WIDE_STAGES = 5
"""As many stages stand beside one another; more of them are drawn downwards."""

# Words that models use for the states of a step.
_SAME_AS = {
    "complete": "completed", "success": "completed", "succeeded": "completed", "ok": "completed",
    "finished": "completed", "in_progress": "running", "started": "running", "active": "running",
    "failure": "failed", "todo": "queued", "planned": "queued", "pending": "queued",
}  # fmt: skip
_SENT = {
    "user_message": ("✓", "message", marks.GREEN, "title"),
    "agent_memory": ("✓", "memory", marks.GREEN, "title"),
    "manual_review": ("?", "decision asked", marks.PLUM, "title"),
    "emit_event": ("▶", "event", marks.BLUE, "type"),
    "persona_action": ("▶", "asks a persona", marks.BLUE, "target"),
}


class FlowPoint(NamedTuple):
    """One box: its sign, what it is and a little about it."""

    sign: Mark
    about: str = ""
    is_end: bool = False


Stage = list[FlowPoint]


def flow_view(run: Execution, events: Iterable[RunEvent] = ()) -> View | None:
    """The flow of a run as a mermaid graph with its twin in words; None where nothing has happened in it."""
    declared = [[_declared(step)] for step in declared_steps(run.execution_flows)]
    stages = declared or list(_stages(events))
    if not stages and run.status == "queued":
        return None
    whole = _cut([[_start(run)], *_merged(stages), [_end(run)]])
    how = "as the persona declared it" if declared else "made from what happened"
    said = f"{how} · REHEARSAL" if run.rehearsal else how
    words = f"Flow · {said}\n{marks.table_text((), _rows(whole))}"
    return View(words, "", value=run, markdown=f"**Flow** · {said}\n\n{_graph(whole)}", alt=words)


def declared_steps(flows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The steps of a run's ``execution_flow`` messages; a step that was sent again has its last status.

    >>> [step["status"] for step in declared_steps([
    ...     {"step": 1, "action": "read", "status": "running"}, {"step": 1, "action": "read", "status": "completed"}])]
    ['completed']
    """
    last: dict[tuple[str, str], Mapping[str, Any]] = {}
    for step in flows:
        last[str(step.get("step", "")), str(step.get("action", "")).strip().casefold()] = step
    return list(last.values())


def status_sign(status: object) -> Mark:
    """The mark of a declared step's status, which is whatever word the model chose.

    >>> status_sign("in_progress"), status_sign("pending").glyph
    (Mark(glyph='▶', word='in_progress', colour='#0072B2'), '○')
    """
    word = one_line(status or "unknown", 30)
    known = word.lower().replace(" ", "_").replace("-", "_")
    return marks.mark(_SAME_AS.get(known, known))._replace(word=word)


def _declared(step: Mapping[str, Any]) -> FlowPoint:
    sign = status_sign(step.get("status"))
    name = f"{one_line(step.get('step', ''), 20)} · {one_line(step.get('action') or 'a step', 80)}"
    return FlowPoint(sign._replace(word=name.removeprefix(" · ")), sign.word)


def _stages(events: Iterable[RunEvent]) -> Iterator[Stage]:
    """What happened, in order; what was open at the same time is one stage."""
    open_calls: dict[str, int] = {}
    stage: Stage = []
    kind = ""
    for event in events:
        if isinstance(event, ToolCallStarted):
            if stage and (kind != "tool" or not open_calls):
                yield stage
                stage = []
            kind = "tool"
            open_calls[event.call_id or event.tool] = len(stage)
            about = one_line(_values(event.input), LINE_CHARS)
            sign = Mark("▶", one_line(event.tool, LINE_CHARS), marks.BLUE)
            stage.append(FlowPoint(sign, f"{about} · not finished".strip(" ·")))
        elif isinstance(event, ToolCallFinished):
            place = open_calls.pop(event.step.call_id or event.step.tool, None)
            if place is not None:
                stage[place] = _called(event.step)
                continue
            if stage and not open_calls:  # its call is not known
                yield stage
                stage = []
            kind = "tool"
            stage.append(_called(event.step))
        elif isinstance(event, ProtocolHandled) and event.kind in _SENT:
            # While a call is open, what is sent stands beside it.
            if stage and kind == "tool" and not open_calls:
                yield stage
                stage = []
            kind = kind if open_calls else "sent"
            stage.append(_sent(event))
    if stage:
        yield stage


def _called(step: ToolCallStep) -> FlowPoint:
    sign = marks.mark("failed" if step.error else "done" if step.performed else "described")
    about = one_line(step.error, LINE_CHARS) if step.error else one_line(_values(step.input), 40)
    took = "" if step.error else marks.duration(step.duration_ms) if step.performed else "described"
    return FlowPoint(
        sign._replace(word=one_line(step.tool, LINE_CHARS)), " · ".join(filter(None, (about, took)))
    )


def _sent(event: ProtocolHandled) -> FlowPoint:
    glyph, word, colour, field = _SENT[event.kind]
    return FlowPoint(Mark(glyph, word, colour), one_line(event.data.get(field) or "", LINE_CHARS))


def _values(given: Mapping[str, Any]) -> str:
    return ", ".join(str(value)[:LINE_CHARS] for value in list(given.values())[:4])


def _start(run: Execution) -> FlowPoint:
    about = one_line(run.input_data or "none was given", LINE_CHARS)
    return FlowPoint(Mark("▶", "input", ""), about, is_end=True)


def _end(run: Execution) -> FlowPoint:
    outcome = run.outcome or {}
    about = run.error or outcome.get("summary") or outcome.get("reason") or ""
    return FlowPoint(marks.mark(run.status), one_line(about, 80), is_end=True)


def _merged(stages: list[Stage]) -> list[Stage]:
    """Where there are many: what was done again and again, with the same end, is one box that counts it."""
    if sum(map(len, stages)) <= MANY_BOXES:
        return stages
    merged: list[Stage] = []
    for _, group in groupby(stages, key=lambda stage: stage[0].sign if len(stage) == 1 else id(stage)):
        alike = list(group)
        if len(alike) == 1:
            merged += alike
            continue
        sign, about = (
            alike[0][0].sign,
            f"{one_line(alike[0][0].about, 40)} … {one_line(alike[-1][0].about, 40)}",
        )
        merged.append([FlowPoint(sign._replace(word=f"{sign.word} × {len(alike):,}"), about)])
    return merged


def _cut(stages: list[Stage]) -> list[Stage]:
    """At most so many boxes: what is left out before the end is counted in a box of its own."""
    first, *middle, last = stages
    total = sum(map(len, middle))
    room = MAX_BOXES - len(first) - len(last)
    if total <= room:
        return stages
    room -= 1
    kept: list[Stage] = []
    for stage in middle:
        if room <= 0:
            break
        kept.append(stage[:room])
        room -= len(kept[-1])
    more = total - sum(map(len, kept))
    return [first, *kept, [FlowPoint(Mark("…", f"and {more:,} more", marks.GREY))], last]


def _graph(stages: Sequence[Stage]) -> str:
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    before: list[int] = []
    for stage in stages:
        if len(before) > 1 and len(stage) > 1:  # every one to every one would be a tangle
            boxes.append(Box((), is_joint=True))
            arrows += [Arrow(place, len(boxes) - 1) for place in before]
            before = [len(boxes) - 1]
        places = list(range(len(boxes), len(boxes) + len(stage)))
        boxes += [Box(_lines(point), point.sign.colour, point.is_end) for point in stage]
        arrows += [Arrow(source, target) for source in before for target in places]
        before = places
    return fence(boxes, arrows, direction="LR" if len(stages) <= _WIDE_STAGES else "TD")


def _lines(point: FlowPoint) -> tuple[str, ...]:
    head = point.sign.word if point.sign.word == "input" else marks.cell_text(point.sign)
    return (head, point.about)


def _rows(stages: Sequence[Stage]) -> list[list[Cell]]:
    return [
        [Number(str(number) if place == 0 else "‖"), point.sign, point.about]
        for number, stage in enumerate(stages, 1)
        for place, point in enumerate(stage)
    ]
