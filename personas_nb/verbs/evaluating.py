"""Verbs that test: cases, evals of designs, versions and models, comparisons, patterns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import now
from personas_nb.errors import InvalidInput
from personas_nb.verbs.call import Call, noted
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.design.sessions import DesignSession
    from personas_nb.entities.eval import EvalResult
    from personas_nb.entities.persona import Persona

_EXPECTED = (
    *("status", "tools", "no_tools", "messages", "no_messages", "contains", "excludes", "matches"),
    *("max_cost_usd", "criteria"),
)


def evals(call: Call) -> View:
    """The cases and evals of a persona or a design; without one, all evals."""
    from personas_nb.views.evals import eval_list, runs_list

    room = call.studio.evals
    if not call["name"] and not call["session"]:
        names = {persona.id: persona.name for persona in call.studio.personas.list()}
        return runs_list(room.list(), names, tz=call.tz)
    subject = _subject(call)
    name, typed = _named(subject)
    return eval_list(room.cases(subject), room.list(subject, limit=10), name=name, slug=typed, tz=call.tz)


def add(call: Call) -> View:
    """Write a case, or make one of a run."""
    from personas_nb.views.evals import case_card

    subject, (name,) = _subject(call), _words(call, "case")
    given = {key: call[key] for key in _EXPECTED if call[key]}
    before = {case.id: case.updated_at for case in call.studio.evals.cases(subject)}
    case = call.studio.evals.add(
        subject,
        call.input(),
        name=name,
        files=call["file"],
        expect=given,
        from_run=call["from"],
    )
    card = case_card(case, slug=_named(subject)[1], is_same=before.get(case.id) == case.updated_at)
    return noted(card, *call.filling.notes)


def run(call: Call) -> View:
    """Run the cases, and show what came of them."""
    from personas_nb.views.design import flow_markdown
    from personas_nb.views.evals import eval_card

    subject = _subject(call)
    room, progress = call.studio.evals, _Progress(call)
    done = room.run(
        subject,
        version=call["version"],
        provider=call["provider"],
        model=call["model"],
        cases=call["case"] or None,
        repeat=call["repeat"],
        judge=not call["no_judge"],
        judge_provider=call["judge_provider"],
        judge_model=call["judge_model"],
        live_tools=call["live_tools"],
        max_budget_usd=call["max_budget_usd"],
        on_result=progress.see,
    )
    results = room.results(done)
    card = eval_card(done, results, slug=_named(subject)[1], tz=call.tz)
    pattern = room.pattern(done)
    learned = (
        f"Kept as the pattern “{pattern.name}” for later designs, see %persona evals patterns."
        if pattern
        else ""
    )
    flow = next((one.flow for one in results if one.passed and len(one.flow.steps) > 2), None)
    return noted(replace(card, also=(flow_markdown(flow),) if flow else ()), learned)


def show(call: Call) -> View:
    """One eval with the result of every case."""
    from personas_nb.views.evals import eval_card

    found = call.studio.evals.get(call["id"])
    return eval_card(found, call.studio.evals.results(found), tz=call.tz)


def compare(call: Call) -> View:
    """What one eval has over another, on the cases that both have."""
    from personas_nb.views.comparison import comparison_card

    subject, (a, b) = _subject(call), _words(call, "a", "b")
    found = call.studio.evals.compare(a, b, subject=subject)
    return comparison_card(found, slug=_named(subject)[1])


def remove(call: Call) -> View:
    """Forget a case."""
    from personas_nb.views.notices import notice

    subject, (name,) = _subject(call), _words(call, "case")
    if name is None:
        raise InvalidInput("Which case?", hint="`%persona evals NAME` lists them.")
    case = call.studio.evals.case(subject, name)
    call.studio.evals.remove(subject, case.id)
    return notice(f"The case “{case.name}” is gone; what came of it stays.", status="removed")


def patterns(call: Call) -> View:
    """Designs that did well."""
    from personas_nb.views.evals import pattern_list

    return pattern_list(call.studio.evals.patterns.find(order_by="score desc, cases desc"))


def spent_on_evals(call: Call, days: int) -> str:
    """What evals of the persona, or of all, cost in so many days, in a sentence; empty where they cost nothing."""
    from personas_nb.views.marks import money, plural

    since = now() - timedelta(days=min(days, 36_500))
    runs = [run for run in call.studio.evals.list(call["name"], limit=-1) if run.created_at >= since]
    costs = [cost for run in runs for cost in (run.cost_usd, run.judge_cost_usd)]
    known = sum(cost or 0.0 for cost in costs)
    if not known and None not in costs:
        return ""
    more = " and runs at an unknown price" if None in costs else ""
    return f"{plural(len(runs), 'eval')} cost {money(known)}{more} besides, see %persona evals."


def _subject(call: Call) -> Persona | DesignSession:
    """The persona of that name, or the design session that ``--session`` names."""
    if call["session"]:
        return call.find_session(call["session"])
    if not call["name"]:
        raise InvalidInput("Whose evals are meant?", hint="Give a persona, or a design with `--session ID`.")
    return call.studio.personas.get(call["name"])


def _words(call: Call, *keys: str) -> list[str | None]:
    """The words behind the persona's name; with a session there is no such name, and the first one is the first."""
    given = [call[key] for key in ("name", *keys)]
    return given[:-1] if call["session"] else given[1:]


def _named(subject: Persona | DesignSession) -> tuple[str, str]:
    """What it is called, and how it is typed in a verb."""
    record = getattr(subject, "record", None)
    if record is None:
        return subject.name, subject.slug  # type: ignore[union-attr]  # a session has a record
    result = subject.result  # type: ignore[union-attr]
    return (result.name if result else record.name) or "a design", f"--session {record.id[:8]}"


class _Progress:
    """A line in a notebook that counts while the cell waits; nothing elsewhere."""

    def __init__(self, call: Call) -> None:
        self._live: Any = None
        self._passed = 0
        if call.surface.is_kernel:
            from IPython.core.getipython import get_ipython

            if hasattr(get_ipython(), "kernel"):
                from IPython.display import display

                from personas_nb.views.display import LiveDisplay

                self._live = LiveDisplay(lambda view: display(view, display_id=True))  # type: ignore[no-untyped-call]

    def see(self, result: EvalResult, count: int, total: int) -> None:
        """Show that one more case has been run."""
        from personas_nb.views.notices import notice

        self._passed += result.passed is True
        if self._live is None:
            return
        said = f"{count} of {total} runs, {self._passed} passed."
        self._live.offer(lambda: notice(said, status="running" if count < total else "completed"))
        if count >= total:
            self._live.finish()
