"""What is taken from an eval for later: how each use case went, and a design that worked."""

from __future__ import annotations

from collections.abc import Sequence

from personas_nb.design.designer import chained
from personas_nb.design.prose import content_words
from personas_nb.entities.design import Flow, FlowStep
from personas_nb.entities.eval import EvalResult, EvalRun
from personas_nb.entities.execution import Execution
from personas_nb.entities.pattern import PersonaDesignPattern

LABEL_CHARS = 80
KEYWORDS = 60
GOOD_STRUCTURE = 0.8
GOOD_SHARE = 0.8
MIN_CASES = 3
_MESSAGE_WORDS = {
    "user_message": "message to you",
    "agent_memory": "memory",
    "manual_review": "decision asked of you",
    "emit_event": "event",
    "persona_action": "another persona started",
}


def flow_of_run(run: Execution, messages: Sequence[str]) -> Flow:
    """How a use case went: the steps that the run declared, else its input, calls and messages, and its end."""
    declared = [str(step.get("action") or "").strip() for step in run.execution_flows]
    steps = [("step", label) for label in dict.fromkeys(declared) if label]
    if not steps:
        steps = [("tool", step.tool) for step in run.tool_steps]
        steps += [("message", _MESSAGE_WORDS[kind]) for kind in messages if kind in _MESSAGE_WORDS]
    whole = [("start", "input"), *_once(steps), ("end", run.status)]
    boxes = [
        FlowStep(id=f"step-{number}", label=label[:LABEL_CHARS], kind=kind)
        for number, (kind, label) in enumerate(whole, 1)
    ]
    return chained(boxes)


def _once(steps: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What was repeated directly is one step."""
    return [step for place, step in enumerate(steps) if place == 0 or step != steps[place - 1]]


def pattern_of(
    run: EvalRun, results: Sequence[EvalResult], messages: Sequence[str], tools: Sequence[str]
) -> PersonaDesignPattern | None:
    """The design behind an eval as a pattern; None where it did not do well enough, on enough cases.

    Well enough is a structure of 0.8 and four cases of five passed, of at least three.
    """
    cases = {result.case_id for result in results if result.measured}
    if run.structure_score is None or run.structure_score < GOOD_STRUCTURE or len(cases) < MIN_CASES:
        return None
    if run.score is None or run.passed < GOOD_SHARE * max(run.measured, 1):
        return None
    subject = run.subject
    purpose = " ".join((subject.name, subject.description, subject.instruction, subject.prompt.instructions))
    flow = next((result.flow for result in results if result.passed), Flow())
    return PersonaDesignPattern(
        owner_id=run.owner_id,
        name=subject.name,
        summary=subject.description,
        instruction=subject.instruction,
        keywords=" ".join(content_words(purpose)[:KEYWORDS]),
        structured_prompt=subject.prompt,
        tools=tuple(tools),
        triggers=subject.triggers,
        connectors=subject.connectors,
        messages=tuple(dict.fromkeys(kind for kind in messages if kind in _MESSAGE_WORDS)),
        flow=flow,
        score=run.score,
        cases=len(cases),
        rehearsal=run.rehearsal,
        eval_run_id=run.id,
    )
