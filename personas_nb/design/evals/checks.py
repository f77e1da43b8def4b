"""What a run did against what was expected of it. What could not be told is said, and does not count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from personas_nb.design.evals.expressions import matches
from personas_nb.entities.eval import Check, Expectations
from personas_nb.entities.tool import ToolCallStep

UNWRITTEN = "In a rehearsal no model wrote this text."


@dataclass(frozen=True)
class Observed:
    """What a run did: its end, its answer, its tool calls, the kinds of messages it sent, its price."""

    status: str
    text: str = ""
    steps: tuple[ToolCallStep, ...] = ()
    messages: tuple[str, ...] = ()
    cost_usd: float | None = None
    rehearsal: bool = False
    error: str | None = None


def checks_of(expect: Expectations, seen: Observed) -> tuple[Check, ...]:
    """One check for each expectation, the run's status first.

    >>> seen = Observed("completed", text="North leads.")
    >>> [check.passed for check in checks_of(Expectations(contains=("north", "south")), seen)]
    [True, True, False]
    """
    return (
        _status(expect, seen),
        *(_called(name, seen.steps) for name in expect.tools),
        *(_not_called(name, seen.steps) for name in expect.no_tools),
        *(_sent(kind, seen.messages, wanted=True) for kind in expect.messages),
        *(_sent(kind, seen.messages, wanted=False) for kind in expect.no_messages),
        *_texts(expect, seen),
        *_cost(expect, seen),
    )


def score_of(checks: Sequence[Check]) -> float | None:
    """The share of the checks that were met, of those that could be told; None where none could.

    >>> score_of([Check(kind="tools", wanted="a", passed=True), Check(kind="tools", wanted="b", passed=None)])
    1.0
    """
    told = [check.passed for check in checks if check.passed is not None]
    return sum(told) / len(told) if told else None


def _status(expect: Expectations, seen: Observed) -> Check:
    passed = seen.status == expect.status
    reason = "" if passed else f"It is {seen.status}{f': {seen.error}' if seen.error else '.'}"
    return Check(kind="status", wanted=expect.status, passed=passed, reason=reason)


def _called(name: str, steps: Sequence[ToolCallStep]) -> Check:
    own = [step for step in steps if step.tool == name]
    passed = any(step.error is None for step in own)
    reason = ""
    if not passed:
        reason = f"Its call failed: {own[-1].error}" if own else "It was not called."
    return Check(kind="tools", wanted=name, passed=passed, reason=reason)


def _not_called(name: str, steps: Sequence[ToolCallStep]) -> Check:
    count = sum(step.tool == name for step in steps)
    reason = "" if not count else f"It was called {'once' if count == 1 else f'{count} times'}."
    return Check(kind="no_tools", wanted=name, passed=not count, reason=reason)


def _sent(kind: str, messages: Sequence[str], *, wanted: bool) -> Check:
    is_sent = kind in messages
    reason = "" if is_sent == wanted else "It was sent." if is_sent else "It was not sent."
    return Check(
        kind="messages" if wanted else "no_messages", wanted=kind, passed=is_sent == wanted, reason=reason
    )


def _texts(expect: Expectations, seen: Observed) -> Iterator[Check]:
    if seen.rehearsal:
        for kind in ("contains", "excludes", "matches"):
            for wanted in getattr(expect, kind):
                yield Check(kind=kind, wanted=wanted, passed=None, reason=UNWRITTEN)
        return
    folded = _folded(seen.text)
    for wanted in expect.contains:
        has = _folded(wanted) in folded
        yield Check(kind="contains", wanted=wanted, passed=has, reason="" if has else "The answer lacks it.")
    for wanted in expect.excludes:
        has = _folded(wanted) in folded
        yield Check(
            kind="excludes", wanted=wanted, passed=not has, reason="The answer has it." if has else ""
        )
    for wanted, (found, what) in zip(expect.matches, matches(expect.matches, seen.text), strict=True):
        reason = what if found is None else "" if found else "Nothing in the answer matches."
        yield Check(kind="matches", wanted=wanted, passed=found, reason=reason)


def _cost(expect: Expectations, seen: Observed) -> Iterator[Check]:
    limit = expect.max_cost_usd
    if limit is None:
        return
    wanted = f"{limit:g}"
    if seen.rehearsal:
        yield Check(kind="max_cost_usd", wanted=wanted, passed=None, reason="A rehearsal costs nothing.")
    elif seen.cost_usd is None:
        yield Check(kind="max_cost_usd", wanted=wanted, passed=None, reason="Its price is unknown.")
    else:
        passed = seen.cost_usd <= limit
        reason = "" if passed else f"It cost ${seen.cost_usd:.4f}."
        yield Check(kind="max_cost_usd", wanted=wanted, passed=passed, reason=reason)


def _folded(text: str) -> str:
    """Text without the differences that no reader sees: case and spacing."""
    return " ".join(text.casefold().split())
