"""Runs cases against a subject, a few at once, and scores what comes of each.

- A run that fails for what nobody tested (a refused key, a busy server, a file that is gone) says nothing about the
  subject: it is not measured, instead of counting as a bad answer.
- A server that asks for patience gets it: what it refused is run once more at the end.
- Where three runs in a row cannot be measured for the same reason, the others are not begun.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from personas_nb.design.evals.cases import CaseFiles
from personas_nb.design.evals.checks import Observed, checks_of, score_of
from personas_nb.design.evals.flows import flow_of_run
from personas_nb.engine.executions import Executions, RunHandle
from personas_nb.engine.healing import backoff_seconds
from personas_nb.entities.eval import EvalCase, EvalResult, EvalRun
from personas_nb.entities.execution import Execution
from personas_nb.errors import PersonaError
from personas_nb.store.executions import RunEventTable

AT_ONCE = 4
ROUNDS = 2  # in which what a server refused is run again
HOPELESS = 3
_BUSY = ("rate_limit", "overloaded", "connection")
_NOT_ITS_FAULT = frozenset(
    (
        *_BUSY,
        "credential",
        "session_limit",
        "cli_not_found",
        "cli",
        "not_found",
        "rejected",
        "interrupted",
        "cancelled",
    )
)
OnResult = Callable[[EvalResult, int, int], None]
"""Told each result as it comes, how many there are, and how many there will be."""


@dataclass(frozen=True)
class Trial:
    """A case, for the n-th time."""

    case: EvalCase
    attempt: int


class Trials:
    """The runs of one eval; ``results`` are what came of them until now."""

    def __init__(
        self,
        run: EvalRun,
        *,
        executions: Executions,
        files: CaseFiles,
        provider: str | None,
        max_budget_usd: float | None = None,
        run_limit_usd: float = 1.0,
        on_result: OnResult | None = None,
        keep: Callable[[EvalResult], object] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.run, self.results = run, list[EvalResult]()
        self._executions, self._files, self._provider = executions, files, provider
        self._events = RunEventTable(executions.store)
        self._left_usd, self._run_limit_usd = max_budget_usd, run_limit_usd
        self._on_result, self._keep, self._sleep = on_result, keep, sleep
        self._open: deque[tuple[Trial, RunHandle, float]] = deque()
        self._total = 0
        self._hopeless: list[str] = []
        self._again: list[Trial] = []

    def perform(self, cases: Sequence[EvalCase], repeat: int) -> list[EvalResult]:
        """Run all of them; blocks. An interrupt cancels what goes on and raises what ``RunHandle.wait`` raises."""
        plan = [Trial(case, attempt) for attempt in range(1, repeat + 1) for case in cases]
        self._total = len(plan)
        try:
            self._pass(plan, is_last=False)
            for number in range(ROUNDS):
                if not self._again or self._is_hopeless:
                    break
                self._sleep(backoff_seconds(number))
                again, self._again = self._again, []
                self._pass(again, is_last=number == ROUNDS - 1)
            for trial in self._again:
                self._unmeasured(trial, "The server was busy again and again.")
        except BaseException:
            self._give_up()
            raise
        return self.results

    def _pass(self, plan: Sequence[Trial], *, is_last: bool) -> None:
        for trial in plan:
            while len(self._open) >= AT_ONCE or (self._open and self._cap_usd() <= 0):
                self._finish(is_last=is_last)
            self._begin(trial)
        while self._open:
            self._finish(is_last=is_last)

    @property
    def _is_hopeless(self) -> bool:
        last = self._hopeless[-HOPELESS:]
        return len(last) == HOPELESS and len(set(last)) == 1 and last[0] != ""

    def _cap_usd(self) -> float:
        """What one more run may cost."""
        if self._left_usd is None:
            return self._run_limit_usd
        return min(self._run_limit_usd, self._left_usd - sum(cap for _, _, cap in self._open))

    def _begin(self, trial: Trial) -> None:
        if self._is_hopeless:
            self._unmeasured(
                trial, f"It was not run, because {HOPELESS} in a row could not be: {self._hopeless[-1]}"
            )
            return
        cap_usd = self._cap_usd()
        if cap_usd <= 0:
            self._unmeasured(trial, "It was not run: the budget of the eval is used up.")
            return
        try:
            files = [self._files.find(file, trial.case.name) for file in trial.case.files]
            handle = self._executions.start(
                self.run.persona_id,
                trial.case.input,
                files,
                provider=self._provider,
                max_budget_usd=None if self._left_usd is None else cap_usd,
                eval_run_id=self.run.id,
            )
        except PersonaError as error:
            self._unmeasured(trial, str(error))
            return
        self._open.append((trial, handle, cap_usd))

    def _finish(self, *, is_last: bool) -> None:
        """Wait for the oldest run and take its result."""
        trial, handle, _ = self._open[0]
        run = handle.wait()
        waited = run.status == "waiting"
        if waited:
            self._executions.cancel(run.id)
        self._open.popleft()
        if self._left_usd is not None:
            self._left_usd -= run.cost_usd or 0.0
        if _is_not_its_fault(run):
            self._hopeless.append(run.error or run.error_kind or "")
            if run.error_kind in _BUSY and not is_last:
                self._again.append(trial)
            else:
                self._unmeasured(trial, run.error or "It could not be run.", run)
            return
        self._hopeless.append("")
        self._take(scored(self.run.id, trial, run, self._sent(run), waited=waited))

    def _sent(self, run: Execution) -> list[str]:
        return [row["kind"] for row in self._events.of_types(run.id, "protocol")]

    def _unmeasured(self, trial: Trial, why: str, run: Execution | None = None) -> None:
        self._take(
            EvalResult(
                eval_run_id=self.run.id,
                case_id=trial.case.id,
                case_name=trial.case.name,
                case_digest=trial.case.digest,
                attempt=trial.attempt,
                execution_id=run.id if run else None,
                status=run.status if run else "not_run",
                measured=False,
                reason=why,
                cost_usd=run.cost_usd if run else 0.0,
                duration_ms=run.duration_ms if run else None,
            )
        )

    def _take(self, result: EvalResult) -> None:
        self._keep(result)
        self.results.append(result)
        if self._on_result is not None:
            self._on_result(result, len(self.results), self._total)

    def _give_up(self) -> None:
        """End what goes on; its results are of nothing."""
        for _, handle, _ in self._open:
            with suppress(PersonaError):
                self._executions.table.ask_cancel(handle.id)
        for trial, handle, _ in self._open:
            with suppress(PersonaError):
                handle.cancel()
            with suppress(PersonaError):
                self._unmeasured(trial, "The eval was cancelled.", self._executions.table.get(handle.id))
        self._open.clear()


def scored(
    eval_run_id: str, trial: Trial, run: Execution, messages: Sequence[str], *, waited: bool = False
) -> EvalResult:
    """What came of a run: its checks, its score, how it went."""
    seen = Observed(
        status=run.status,
        text=run.output_data or "",
        steps=run.tool_steps,
        messages=tuple(messages),
        cost_usd=run.cost_usd,
        rehearsal=run.rehearsal,
        error="It waited for your approval, and an eval does not wait." if waited else run.error,
    )
    checks = checks_of(trial.case.expect, seen)
    return EvalResult(
        eval_run_id=eval_run_id,
        case_id=trial.case.id,
        case_name=trial.case.name,
        case_digest=trial.case.digest,
        attempt=trial.attempt,
        execution_id=run.id,
        status=run.status,
        checks=checks,
        score=score_of(checks),
        passed=all(check.passed is not False for check in checks),
        cost_usd=run.cost_usd,
        duration_ms=run.duration_ms,
        flow=flow_of_run(run, messages),
    )


def _is_not_its_fault(run: Execution) -> bool:
    if run.status not in ("failed", "cancelled"):
        return False
    # A budget rule refused it before it began; its own limit would have let it ask at least once.
    return run.error_kind in _NOT_ITS_FAULT or (run.error_kind == "budget" and run.num_turns == 0)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None where nothing is.

    >>> mean([1.0, None, 0.0])
    0.5
    """
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
