"""Who judges an eval, and all of its judgements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from personas_nb.design.evals.judge import REHEARSED, Judge, Judged, answer_material, prompt_material
from personas_nb.design.evals.subjects import Plan
from personas_nb.engine.healing import backoff_seconds
from personas_nb.engine.model_clients import ModelClients
from personas_nb.engine.models import ResolvedModel, resolve
from personas_nb.entities.eval import EvalCase, EvalResult, Judgement
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.errors import ModelError, PersonaError
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.evals import EvalResultTable
from personas_nb.store.executions import ExecutionTable, RunEventTable
from personas_nb.vault.redaction import Redactor

JUDGED_AT_ONCE = 4
HOPELESS = 3
PATIENCE = 2  # how often a busy judge is asked again
WAIT_MAX_SECONDS = 60.0


def judge_for(
    tested: ResolvedModel,
    *,
    wanted: bool,
    provider: str | None,
    model: str | None,
    settings: Settings,
    clients: Callable[[], ModelClients],
) -> tuple[Judge | None, str]:
    """The judge, or why there is none; raises as ``resolve`` does for one that was asked for by name."""
    if tested.is_rehearsal:
        return None, REHEARSED
    if not wanted:
        return None, "No judge was asked for."
    try:
        resolved = resolve(ModelProfile(provider=None, model=model), settings=settings, provider=provider)
    except ModelError as error:
        if provider is not None:
            raise
        return None, f"There is no judge: {error}"
    if resolved.is_rehearsal:
        return None, "No model is configured that could judge meaning."
    return Judge(resolved, clients=clients(), settings=settings), ""


class Judging:
    """The judgements of one eval; stored as they come."""

    def __init__(self, judge: Judge, plan: Plan, store: Store, redactor: Redactor) -> None:
        self._judge, self._plan, self._redact = judge, plan, redactor.redact
        self._results, self._runs = EvalResultTable(store), ExecutionTable(store)
        self._events = RunEventTable(store)
        self._gate = asyncio.Semaphore(JUDGED_AT_ONCE)
        self._costs: list[float | None] = []
        self._failures: list[str] = []

    async def all(
        self, results: Sequence[EvalResult], cases: Sequence[EvalCase]
    ) -> tuple[list[EvalResult], dict[str, Any]]:
        """The results with their judgements, and what an eval says about its prompt and its judge."""
        by_id = {case.id: case for case in cases}
        prompt = prompt_material(self._plan.subject, tools=[tool.name for tool in self._plan.tools])
        asked = asyncio.gather(*(self._one(result, by_id[result.case_id]) for result in results))
        (meaning, note), judged = await asyncio.gather(self._ask(prompt), asked)
        cost = None if None in self._costs else sum(cost for cost in self._costs if cost is not None)
        return judged, {"meaning": meaning, "meaning_note": note, "judge_cost_usd": cost}

    async def _one(self, result: EvalResult, case: EvalCase) -> EvalResult:
        if not result.measured or result.execution_id is None:
            return result
        async with self._gate:
            material = await asyncio.to_thread(self._material, case, result.execution_id)
            judgement, note = await self._ask(material)
            fields = {"judgement": judgement, "judgement_note": note}
            await asyncio.to_thread(lambda: self._results.update(result.id, **fields))
        return result.changed(**fields)

    async def _ask(self, material: str) -> tuple[Judgement | None, str]:
        """A judgement, or why there is none; a judge that has failed again and again is not asked any more."""
        if len(self._failures) >= HOPELESS and not self._costs:
            return None, self._failures[-1]
        try:
            found = await self._patiently(self._redact(material))
        except PersonaError as error:
            self._failures.append(self._redact(f"The judge failed: {error}"))
            return None, self._failures[-1]
        self._costs.append(found.cost_usd)
        return found.judgement.changed(reason=self._redact(found.judgement.reason)), ""

    async def _patiently(self, material: str) -> Judged:
        for number in range(PATIENCE):
            try:
                return await self._judge.judge(material)
            except ModelError as error:
                if error.kind not in ("rate_limit", "overloaded"):
                    raise
                await asyncio.sleep(min(backoff_seconds(number, error.retry_after_seconds), WAIT_MAX_SECONDS))
        return await self._judge.judge(material)

    def _material(self, case: EvalCase, execution_id: str) -> str:
        run = self._runs.whole(execution_id)
        sent = self._events.of_types(execution_id, "protocol")
        return answer_material(
            self._plan.subject,
            given=case.input,
            answer=(run.output_data if run else None) or "",
            criteria=case.expect.criteria,
            tools=[step.tool for step in run.tool_steps] if run else [],
            messages=[(row["kind"], row["data"]) for row in sent],
        )
