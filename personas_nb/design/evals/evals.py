"""The evals of a home: cases, tests of designs, versions and models over them, and comparisons.

A test runs the prompt that it tests under the persona's name, and leaves the persona as it is: a folder of its own,
no memories in or out, no messages, events or decisions, no healing, and calls outside are described unless
``live_tools`` is given. What it costs counts for the budgets.
"""

from __future__ import annotations

import builtins
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.design.evals import comparison
from personas_nb.design.evals.casebook import Casebook
from personas_nb.design.evals.comparison import Comparison
from personas_nb.design.evals.flows import pattern_of
from personas_nb.design.evals.judge import Judge
from personas_nb.design.evals.judging import Judging, judge_for
from personas_nb.design.evals.structure import findings, structure_score
from personas_nb.design.evals.subjects import Plan, Subjects
from personas_nb.design.evals.trials import OnResult, Trials, mean
from personas_nb.engine.executions import Executions
from personas_nb.engine.model_clients import ModelClients
from personas_nb.entities.base import now
from personas_nb.entities.eval import EvalCase, EvalResult, EvalRun
from personas_nb.entities.pattern import PersonaDesignPattern
from personas_nb.entities.persona import Persona
from personas_nb.errors import Cancelled, InvalidInput, NotFound, PersonaError
from personas_nb.store.database import Store
from personas_nb.store.evals import EvalResultTable, EvalRunTable, PatternTable, forget_discarded
from personas_nb.store.executions import RunEventTable
from personas_nb.store.retention import RetentionTable
from personas_nb.vault.redaction import Redactor
from personas_nb.worker import is_alive

if TYPE_CHECKING:
    from pandas import DataFrame

    from personas_nb.design.sessions import DesignSession
    from personas_nb.personas.personas import Personas
    from personas_nb.personas.versions import Versions
    from personas_nb.tools.catalog import Tools

REPEAT_MAX = 100
CANDIDATES = 10  # the newest evals of a version among which a pair is looked for
UNKNOWN_SECONDS = 3600.0

RESULT_COLUMNS = {
    **dict.fromkeys(("case", "status"), "string"),
    "attempt": "int64",
    "measured": "bool",
    "passed": "boolean",
    **dict.fromkeys(("score", "meaning", "cost_usd", "duration_ms"), "float64"),
    **dict.fromkeys(("reason", "execution_id"), "string"),
}


class Evals(Casebook):
    """Cases and what came of them.

    A subject is a persona (its current version, or the one named) or a design session.

        studio.evals.add("reporter", "Which region sold more?", files=["sales.csv"], expect={"contains": "North"})
        old, new = studio.evals.run("reporter", version=1), studio.evals.run("reporter", version=2)
        studio.evals.compare(old, new).frame
    """

    def __init__(
        self,
        store: Store,
        *,
        personas: Personas,
        versions: Versions,
        tools: Tools,
        executions: Executions,
        worker_id: Callable[[], str],
        clients: Callable[[], ModelClients],
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        redactor: Callable[[], Redactor] = lambda: Redactor({}),
    ) -> None:
        subjects = Subjects(
            store, personas=personas, versions=versions, tools=tools, settings=executions.settings
        )
        super().__init__(store, subjects=subjects, tools=tools, executions=executions, redactor=redactor)
        self._versions, self._worker_id, self._clients = versions, worker_id, clients
        self._wait_for = run
        self._runs, self._results = EvalRunTable(store), EvalResultTable(store)
        self.patterns = PatternTable(store)

    # ── testing ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        subject: Persona | DesignSession | str,
        *,
        version: int | str | None = None,
        provider: str | None = None,
        model: str | None = None,
        cases: Sequence[str] | None = None,
        repeat: int = 1,
        judge: bool = True,
        judge_provider: str | None = None,
        judge_model: str | None = None,
        live_tools: bool = False,
        max_budget_usd: float | None = None,
        on_result: OnResult | None = None,
    ) -> EvalRun:
        """Run the cases against a design, a version (a number or tag; None: the current one) or a model; blocks.

        ``cases`` are names (None: all of them), each run ``repeat`` times. ``judge`` asks the configured model, or
        that of ``judge_provider`` and ``judge_model``, about meaning; in a rehearsal there is none. With
        ``live_tools`` calls outside are really made, for every case. ``max_budget_usd`` is for all runs together;
        each has its own limits besides.

        Raises what keeps all of it from being begun; what goes wrong with a case is its result's ``reason``. An
        interrupt keeps what there is and raises ``Cancelled``.
        """
        if isinstance(repeat, bool) or not isinstance(repeat, int) or not 1 <= repeat <= REPEAT_MAX:
            raise InvalidInput(
                f"“repeat” must be a whole number from 1 to {REPEAT_MAX}.", hint="Such as repeat=3."
            )
        chosen = self._chosen(subject, [cases] if isinstance(cases, str) else cases)
        plan = self._subjects.plan(subject, version, provider, model, live_tools=live_tools)
        judging, note = judge_for(
            plan.model,
            wanted=judge,
            provider=judge_provider,
            model=judge_model,
            settings=self.settings,
            clients=self._clients,
        )
        found = findings(plan.subject, tools=plan.tools, catalog=[tool.name for tool in self._tools.list()])
        self._tidy()
        started = self._runs.insert(
            EvalRun(
                owner_id=plan.owner_id,
                persona_id=plan.persona.id,
                subject=plan.subject,
                provider=plan.model.provider,
                model_used=plan.model.model,
                rehearsal=plan.model.is_rehearsal,
                structure=found,
                structure_score=structure_score(found),
                meaning_note=note,
                judge_model=judging.model if judging else None,
                total=len(chosen) * repeat,
                repeat=repeat,
                worker_id=self._worker_id(),
            )
        )
        trials = Trials(
            started,
            executions=self._executions,
            files=self._files,
            provider=provider,
            max_budget_usd=max_budget_usd,
            run_limit_usd=_first(plan.persona.max_budget_usd, self.settings.max_budget_usd),
            on_result=on_result,
            keep=self._results.insert,
        )
        return self._performed(started, trials, chosen, judging, plan)

    def _performed(
        self, started: EvalRun, trials: Trials, chosen: Sequence[EvalCase], judging: Judge | None, plan: Plan
    ) -> EvalRun:
        try:
            results = trials.perform(chosen, started.repeat)
            meaning: dict[str, Any] = {}
            if judging is not None and any(result.measured for result in results):
                judgements = Judging(judging, plan, self.store, self._redactor())
                results, meaning = self._wait_for(judgements.all(results, chosen))
        except (KeyboardInterrupt, Cancelled) as interrupt:
            done = self._ended(started, "cancelled", trials.results, error="It was cancelled.")
            run = getattr(interrupt, "execution", None)
            if run is None:
                raise
            said = (
                f"The eval was cancelled after {done.measured} of {done.total} runs; what they did is kept."
            )
            raise Cancelled(said, execution=run, hint=f"`%persona evals show {done.id[:8]}`.") from None
        except BaseException as error:
            self._ended(started, "failed", trials.results, error=str(error) or type(error).__name__)
            raise
        done = self._ended(started, "completed", results, **meaning)
        self._learn(done, results, plan)
        return done

    # ── what there is ───────────────────────────────────────────────────────────────────────────────────────

    def list(
        self, subject: Persona | DesignSession | str | None = None, limit: int = 20
    ) -> builtins.list[EvalRun]:
        """Evals, the newest first; of one persona or design where given."""
        self._recover()
        if subject is None:
            return self._runs.find(order_by="created_at desc, rowid desc", limit=limit)
        return self._runs.of(self._subjects.owner(subject)[0], limit=limit)

    def get(self, reference: str = "latest") -> EvalRun:
        """One eval by id, a unique beginning of it, or ``latest``."""
        self._recover()
        if reference == "latest":
            found = self._runs.find(order_by="created_at desc, rowid desc", limit=1)
        else:
            prefix = str(reference).strip().lower()
            found = self._runs.find("id >= ? and id < ?", [prefix, prefix + "g"], limit=2) if prefix else []
        if not found:
            raise NotFound(f"There is no eval “{reference}”.", hint="`%persona evals` lists them.")
        if len(found) > 1:
            raise InvalidInput(f"“{reference}” begins the ids of several evals.", hint="Type more of the id.")
        return found[0]

    def results(self, run: EvalRun | str) -> builtins.list[EvalResult]:
        """The results of an eval, by case."""
        return self._results.of(run.id if isinstance(run, EvalRun) else self.get(run).id)

    def frame(self, run: EvalRun | str) -> DataFrame:
        """The results of an eval as a DataFrame with the columns ``RESULT_COLUMNS``."""
        import pandas as pd

        rows = [
            {
                **{name: getattr(one, name, None) for name in RESULT_COLUMNS},
                "case": one.case_name,
                "meaning": one.judgement.score if one.judgement else None,
            }
            for one in self.results(run)
        ]
        return pd.DataFrame(
            {
                name: pd.Series([row[name] for row in rows], dtype=kind)
                for name, kind in RESULT_COLUMNS.items()
            }
        )

    def compare(
        self,
        a: EvalRun | str | int | None = None,
        b: EvalRun | str | int | None = None,
        *,
        subject: Persona | DesignSession | str | None = None,
        seed: int = 0,
    ) -> Comparison:
        """What the second eval has over the first, on the cases that both have.

        Each is an eval or its id; with ``subject`` also a version, a tag or a model, of which the last eval is
        taken. Without them, the last eval of the subject and the last before it of something else. Raises
        ``NotFound``, and ``InvalidInput`` where they have no case in common.
        """
        old, new = self._pair(a, b, subject)
        if old.id == new.id:
            raise InvalidInput("That is one eval twice.", hint="Give two: `%persona evals` lists them.")
        found = comparison.compare(old, new, self.results(old), self.results(new), seed=seed)
        if not found.rows:
            why = found.left_out[0][1] if found.left_out else "One of them has no results."
            raise InvalidInput(
                f"{old.label} and {new.label} have no case in common that was measured. {why}",
                hint="Run the same cases against both: `%persona evals run NAME --version N`.",
            )
        return found

    def _chosen(
        self, subject: Persona | DesignSession | str, names: Sequence[str] | None
    ) -> builtins.list[EvalCase]:
        chosen = (
            self.cases(subject) if not names else [self.case(subject, name) for name in dict.fromkeys(names)]
        )
        if not chosen:
            raise InvalidInput(
                "There is no case to run yet.",
                hint="Write one: `%%persona evals add NAME CASE`, the cell is its input; or of a run: `--from latest`.",
            )
        return chosen

    # ── what is kept ────────────────────────────────────────────────────────────────────────────────────────

    def _ended(self, run: EvalRun, status: str, results: Sequence[EvalResult], **fields: Any) -> EvalRun:
        measured = [result for result in results if result.measured]
        costs = [result.cost_usd for result in results]
        fields |= {
            "status": status,
            "score": mean(result.score for result in measured),
            "passed": sum(result.passed is True for result in measured),
            "measured": len(measured),
            "cost_usd": None if None in costs else sum(cost for cost in costs if cost is not None),
            "completed_at": now(),
        }
        self._runs.update(run.id, **fields)
        return run.changed(**fields)

    def _learn(self, run: EvalRun, results: Sequence[EvalResult], plan: Plan) -> None:
        """Keep a design that did well, for later ones."""
        events = RunEventTable(self.store)
        sent = [
            row["kind"]
            for result in results
            if result.passed and result.execution_id
            for row in events.of_types(result.execution_id, "protocol")
        ]
        pattern = pattern_of(run, results, sent, [tool.name for tool in plan.tools])
        if pattern is None:
            return
        kept = next(iter(self.patterns.find("owner_id = ?", [run.owner_id], limit=1)), None)
        is_same = kept is not None and kept.structured_prompt == pattern.structured_prompt
        if (
            kept is None
            or not is_same
            or (kept.rehearsal, -kept.cases) >= (pattern.rehearsal, -pattern.cases)
        ):
            self.patterns.keep(pattern)  # of one prompt, what is best tested

    def pattern(self, run: EvalRun) -> PersonaDesignPattern | None:
        """The pattern that an eval left; None where it left none, or another eval a newer one."""
        return next(iter(self.patterns.find("eval_run_id = ?", [run.id], limit=1)), None)

    def _pair(
        self, a: EvalRun | str | int | None, b: EvalRun | str | int | None, subject: Any
    ) -> tuple[EvalRun, EvalRun]:
        if a is not None and b is not None:
            return self._most_alike(self._named(a, subject), self._named(b, subject))
        if subject is None:
            raise InvalidInput(
                "Two evals are needed.", hint="Give two, or the persona whose last ones are meant."
            )
        done = [run for run in self.list(subject, limit=200) if run.measured]
        new = self._named(a, subject)[0] if a is not None else next(iter(done), None)
        old = next((run for run in done if new and run.id != new.id and run.label != new.label), None)
        if new is None or old is None:
            raise NotFound(
                "There are no two evals of different versions, designs or models to compare.",
                hint="Run one more: `%persona evals run NAME --version N`, or `--model M`.",
            )
        return (new, old) if a is not None else (old, new)

    def _most_alike(self, old: Sequence[EvalRun], new: Sequence[EvalRun]) -> tuple[EvalRun, EvalRun]:
        """The two that were given most of the same cases; of several such pairs, the newest."""
        if len(old) == len(new) == 1:
            return old[0], new[0]
        given = {
            run.id: {(result.case_id, result.case_digest) for result in self.results(run)}
            for run in (*old, *new)
        }
        return max(product(old, new), key=lambda pair: len(given[pair[0].id] & given[pair[1].id]))

    def _named(self, ref: EvalRun | str | int, subject: Any) -> builtins.list[EvalRun]:
        """The evals that are meant: itself, its id, or the last ones of a version, tag, model or provider."""
        if isinstance(ref, EvalRun):
            return [ref]
        text = str(ref).strip()
        if subject is not None:
            number = text
            _, persona = self._subjects.owner(subject)
            if persona is not None:
                with suppress(PersonaError):
                    number = str(self._versions.get(persona, text).version)
            found = []
            for run in self.list(subject, limit=200):
                asked = (
                    run.subject.version,
                    run.label,
                    run.label.partition(" · ")[2],
                    run.model_used,
                    run.provider,
                )
                if run.measured and (number in map(str, asked) or text in asked):
                    found.append(run)
            if found:
                return found[:CANDIDATES]
        try:
            return [self.get(text)]
        except NotFound:
            raise NotFound(
                f"Nothing was tested that “{text}” names.",
                hint="Run it first: `%persona evals run NAME --version N`, or `--model M`; `%persona evals` lists all.",
            ) from None

    def _recover(self) -> None:
        """Evals whose process is gone are said to have failed, with what they had."""
        for run_id, lock_path in self._runs.left_behind():
            if not is_alive(Path(lock_path)) and (run := self._runs.get(run_id)) is not None:
                self._ended(
                    run, "failed", self._results.of(run_id), error="Its process ended in the middle of it."
                )

    def _tidy(self) -> None:
        """Remove what was left by tests that were ended by force, and by designs that were discarded."""
        forget_discarded(self.store)
        root = self.store.home / "workspaces" / "evals"
        folders = {path.name: path for path in root.iterdir()} if root.is_dir() else {}
        ended = self._executions.table.finished_among(list(folders)) if folders else []
        unknown = RetentionTable(self.store).missing(ended)
        for name in ended:
            with suppress(FileNotFoundError):  # another process was faster
                # One that no run knows may be about to have one.
                if name not in unknown or time.time() - folders[name].stat().st_mtime > UNKNOWN_SECONDS:
                    shutil.rmtree(folders[name], ignore_errors=True)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
