"""What evals look like: cases, one eval with its results, patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from personas_nb.design.evals.cases import in_order
from personas_nb.entities.eval import Check, EvalCase, EvalResult, EvalRun, Expectations
from personas_nb.entities.pattern import PersonaDesignPattern
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Mark, Number, Short, mark, one_line, plural, short_id
from personas_nb.views.page import Page, Step, listing
from personas_nb.views.view import View

ROWS_MAX = 40
_WORDS = {
    "tools": "calls {}",
    "no_tools": "does not call {}",
    "messages": "sends {}",
    "no_messages": "does not send {}",
    "contains": "says “{}”",
    "excludes": "does not say “{}”",
    "matches": "matches {}",
}


def share(value: float | None) -> str:
    """A share of one in percent; an unknown one is a dash.

    >>> share(0.914), share(None)
    ('91 %', '–')
    """
    return "–" if value is None else f"{value * 100:.0f} %"


def expected(expect: Expectations) -> str:
    """What is expected, in words.

    >>> expected(Expectations(tools=("file_read",), contains=("North",), max_cost_usd=0.05))
    'calls file_read · says “North” · costs at most $0.0500'
    """
    said = [] if expect.status == "completed" else [f"ends {expect.status}"]
    for kind, words in _WORDS.items():
        said += [words.format(one_line(value, 40)) for value in getattr(expect, kind)]
    if expect.max_cost_usd is not None:
        said.append(f"costs at most {marks.money(expect.max_cost_usd)}")
    if expect.criteria:
        said.append(f"judged: {one_line(expect.criteria, 60)}")
    return " · ".join(said) or "is done"


# ── cases and evals ─────────────────────────────────────────────────────────────────────────────────────────


def eval_list(
    cases: Sequence[EvalCase], runs: Sequence[EvalRun], *, name: str, slug: str, tz: str = "UTC"
) -> View:
    """The cases of a persona, and what came of testing them, the newest first."""
    page = Page(f"Evals of {name}")
    if not cases:
        page.sentence("There is no case yet: an input, and what is expected of the answer.")
    page.table(
        ("case", "input", "files", "expected"),
        [
            [
                Short(one_line(case.name, 40)),
                _input_beside_name(case),
                one_line(", ".join(file.name for file in case.files), 40),
                one_line(expected(case.expect), 160),
            ]
            for case in sorted(cases, key=lambda case: in_order(case.name))[:ROWS_MAX]
        ],
        heading="Cases",
        detail=plural(len(cases), "case"),
    )
    if len(cases) > ROWS_MAX:
        page.sentence(f"… and {plural(len(cases) - ROWS_MAX, 'more case')}.")
    page.table(RUN_HEADERS, run_rows(runs, tz), heading="Evals")
    steps: list[Step] = []
    if cases:
        steps = [(f"%persona evals run {slug}", "test the current version"),
                 (f"%persona evals run {slug} --version N", "another one, or --model M")]  # fmt: skip
    if len({run.label for run in runs}) > 1:
        steps.append((f"%persona evals compare {slug}", "the last two of different versions or models"))
    steps.append((f"%%persona evals add {slug} CASE", "the rest of the cell is its input"))
    steps.append((f"%persona evals add {slug} CASE --from latest", "a case made of the last run"))
    return page.next(steps).view(list(cases))


def _input_beside_name(case: EvalCase) -> str:
    """The input, unless the case is called by it."""
    said = one_line(case.input or "none", 60)
    return "" if case.name.rstrip("…") and said.startswith(case.name.rstrip("…")) else said


RUN_HEADERS = ("eval", "tested", "", "passed", "met", "meaning", "structure", "cost", "when")


def run_rows(runs: Iterable[EvalRun], tz: str) -> list[list[Cell]]:
    """Evals as rows under ``RUN_HEADERS``."""
    return [
        [
            Code(short_id(run.id)),
            Short(one_line(run.label, 50)),
            _sign(run),
            Number(f"{run.passed} of {run.measured}"),
            Number(share(run.score)),
            Number(share(run.meaning.score) if run.meaning else ""),
            Number(share(run.structure_score)),
            Number(_cost(run)),
            Short(marks.moment(run.created_at, tz)),
        ]
        for run in runs
    ]


def runs_list(runs: Sequence[EvalRun], names: Mapping[str, str], *, tz: str = "UTC") -> View:
    """Evals of all personas."""
    rows = [
        [Short(names.get(run.persona_id, run.subject.name)), *row]
        for run, row in zip(runs, run_rows(runs, tz), strict=True)
    ]
    steps = [
        ("%%persona evals add NAME CASE", "a case; the rest of the cell is its input"),
        ("%persona evals run NAME", "run the cases of a persona"),
        ("%persona evals NAME", "its cases and evals"),
    ]
    return listing(
        "Evals",
        ("persona", *RUN_HEADERS),
        rows,
        empty="Nothing was tested yet.",
        steps=steps,
        value=list(runs),
    )


def case_card(case: EvalCase, *, slug: str = "", is_same: bool = False) -> View:
    """One case, as it is stored."""
    page = Page(case.name, sign=mark("unchanged") if is_same else mark("kept")._replace(word="case kept"))
    page.facts(
        [
            ("input", one_line(case.input or "none", 200)),
            ("files", ", ".join(f"{file.name} ({file.size_bytes:,} bytes)" for file in case.files)),
            ("expected", expected(case.expect)),
        ]
    )
    if is_same:
        page.sentence("It is so already: nothing changed.")
    return page.next([(f"%persona evals run {slug}", "run it with the others")] if slug else []).view(case)


# ── one eval ────────────────────────────────────────────────────────────────────────────────────────────────


def eval_card(
    run: EvalRun, results: Sequence[EvalResult] | None = None, *, slug: str = "", tz: str = "UTC"
) -> View:
    """One eval: how many cases passed, what failed and why, how the prompt is built, what it cost.

    Without its ``results``, which are not looked up, a step says where they are.
    """
    title = f"Eval of {run.subject.name} · {run.label}"
    page = Page(
        title,
        sign=_sign(run),
        detail=f"{short_id(run.id)} · {marks.moment(run.created_at, tz)}",
        rehearsal=run.rehearsal,
    )
    page.facts(_facts(run, results or ()))
    if run.error:
        page.sentence(run.error, status="failed")
    if unmeasured := [result for result in results or () if not result.measured]:
        page.sentence(
            f"{plural(len(unmeasured), 'run')} could not be measured: neither for nor against it.",
            status="warning",
        )
    _result_table(page, results or ())
    applying = [finding for finding in run.structure if finding.score is not None]
    page.table(
        ("rule", "", "weight", "why"),
        [
            [Short(one.rule), _finding_sign(one.score or 0.0), Number(f"{one.weight:g}"), one.reason]
            for one in applying
        ],
        heading="How the prompt is built",
        detail=share(run.structure_score),
    )
    if others := [finding.rule for finding in run.structure if finding.score is None]:
        page.sentence(f"Not needed here, and not counted: {', '.join(others)}.", faint=True)
    if run.meaning:
        page.sentence(f"The judge on the prompt: {run.meaning.reason}")
    page.next(
        _next_steps(run, slug)
        if results is not None
        else [(f"%persona evals show {short_id(run.id)}", "every case")]
    )
    return page.view(run)


def _facts(run: EvalRun, results: Sequence[EvalResult]) -> list[tuple[str, Cell | None]]:
    judged = [result.judgement.score for result in results if result.judgement]
    notes = list(dict.fromkeys(result.judgement_note for result in results if result.judgement_note))
    meaning = (
        share(sum(judged) / len(judged))
        if judged
        else f"absent: {run.meaning_note or ' '.join(notes[:1]) or 'not judged.'}"
    )
    untold = sum(check.passed is None for result in results for check in result.checks)
    met = share(run.score) + (f" ({plural(untold, 'check')} could not be told)" if untold else "")
    outside = "are really made" if run.subject.live_tools else "are described, not made"
    took = sum(result.duration_ms or 0 for result in results)
    return [
        ("cases passed", f"{run.passed} of {run.measured}"),
        ("expectations met", met),
        (
            "meaning",
            meaning + (f" (judge: {run.judge_model})" if judged else "")
            if judged or not run.judge_model
            else None,
        ),
        ("structure", share(run.structure_score)),
        ("model", "rehearsal" if run.rehearsal else f"{run.model_used} ({run.provider})"),
        ("calls outside", outside),
        ("cost", _cost(run)),
        ("time of all runs", marks.duration(took) if results else None),
    ]


def _result_table(page: Page, results: Sequence[EvalResult]) -> None:
    attempts = any(result.attempt > 1 for result in results)
    ordered = sorted(
        results, key=lambda one: (one.measured and one.passed is True, in_order(one.case_name), one.attempt)
    )
    rows: list[list[Cell]] = []
    for result in ordered[:ROWS_MAX]:
        told = [check for check in result.checks if check.passed is not None]
        name = one_line(result.case_name, 44) + (f" · {result.attempt}" if attempts else "")
        rows.append(
            [
                Short(name),
                _result_sign(result),
                Number(f"{sum(check.passed is True for check in told)} of {len(told)}" if told else ""),
                Number(share(result.judgement.score) if result.judgement else ""),
                Number(marks.money(result.cost_usd) if result.cost_usd else ""),
                _why(result),
                Code(short_id(result.execution_id or "")),
            ]
        )
    page.table(("case", "", "met", "meaning", "cost", "what is missing", "run"), rows, heading="Cases")
    if len(ordered) > ROWS_MAX:
        rest = ordered[ROWS_MAX:]
        passed = sum(result.passed is True for result in rest)
        page.sentence(
            f"… and {plural(len(rest), 'more run')}, {passed} of them passed: studio.evals.frame(run) has all."
        )


def _why(result: EvalResult) -> str:
    if not result.measured:
        return one_line(result.reason, 200)
    missed = [f"{_check_words(check)}: {check.reason}" for check in result.checks if check.passed is False]
    said = " ".join(missed)
    if not missed and result.judgement and result.judgement.score < 0.75:
        said = f"judge: {result.judgement.reason}"
    return one_line(said or result.judgement_note, 240)


def _check_words(check: Check) -> str:
    words: Callable[..., str] = _WORDS.get(check.kind, "{}").format
    if check.kind == "status":
        return f"is {check.wanted}"
    if check.kind == "max_cost_usd":
        return f"costs at most ${check.wanted}"
    return words(one_line(check.wanted, 60))


def _result_sign(result: EvalResult) -> Mark:
    if not result.measured:
        return mark("skipped")._replace(word="not measured")
    return mark("completed")._replace(word="passed") if result.passed else mark("failed")


def _finding_sign(score: float) -> Mark:
    if score >= 1:
        return mark("completed")._replace(word="met")
    return mark("failed")._replace(word="not met") if score <= 0 else mark("partial")._replace(word="in part")


def _sign(run: EvalRun) -> Mark:
    if run.status != "completed":
        return mark(run.status)
    if not run.measured:
        return mark("skipped")._replace(word="nothing measured")
    if run.passed == run.measured:
        return mark("completed")._replace(word="all passed")
    return (
        mark("partial")._replace(word="some failed")
        if run.passed
        else mark("failed")._replace(word="none passed")
    )


def _cost(run: EvalRun) -> str:
    if run.rehearsal:
        return marks.money(0.0, rehearsal=True)
    runs = marks.money(run.cost_usd)
    return f"{runs} + judge {marks.money(run.judge_cost_usd)}" if run.judge_model else runs


def _next_steps(run: EvalRun, slug: str) -> list[Step]:
    if not slug:
        return []
    steps: list[Step] = [
        (f"%persona evals compare {slug}", "beside the last eval of another version or model")
    ]
    if run.subject.version is not None:
        steps.insert(0, (f"%persona evals run {slug} --version N", "the same cases against another version"))
    return steps


# ── patterns ────────────────────────────────────────────────────────────────────────────────────────────────


def pattern_list(patterns: Sequence[PersonaDesignPattern]) -> View:
    """Designs that did well in evals; later designs look at them."""
    rows: list[list[Cell]] = [
        [
            Short(one_line(pattern.name, 40)),
            one_line(pattern.summary or pattern.instruction, 100),
            one_line(", ".join(pattern.tools), 60),
            Number(share(pattern.score)),
            Number(f"{pattern.cases:,}"),
            "rehearsal" if pattern.rehearsal else "",
        ]
        for pattern in patterns
    ]
    return listing(
        "Patterns",
        ("pattern", "what it does", "tools", "met", "cases", ""),
        rows,
        detail="Designs that did well in evals; later designs look at them.",
        empty="None yet: a persona leaves one when it passes four of five cases, of at least three.",
        value=list(patterns),
    )
