"""What a comparison of two evals looks like: a finding in a sentence, a table, a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from personas_nb.views import marks
from personas_nb.views.evals import share
from personas_nb.views.marks import Cell, Number, Short, mark, one_line, plural, short_id
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.design.evals.comparison import Comparison, Interval, Measured

LEFT_OUT_MAX = 10
_MEASURE_WORDS = {
    "passed": "cases passed",
    "score": "expectations met",
    "meaning": "meaning (judge)",
    "cost_usd": "cost of a run",
    "duration_ms": "time of a run",
}
_VERDICTS = {
    "better": mark("completed"),
    "worse": mark("failed"),
    "no difference": mark("idle"),
    "the same": mark("idle"),
    "too few cases": mark("pending"),
    "unknown": mark("idle"),
}
_SAYS = {("cost_usd", "better"): "cheaper", ("cost_usd", "worse"): "dearer",
         ("duration_ms", "better"): "faster", ("duration_ms", "worse"): "slower"}  # fmt: skip


def comparison_card(found: Comparison, *, slug: str = "") -> View:
    """What the second has over the first, how surely, and when that is no difference; with a picture."""
    a, b = labels(found)
    score = found.measure("score")
    page = Page(f"{b} beside {a}", sign=_VERDICTS[score.verdict]._replace(word=score.verdict),
                detail=f"{found.b.subject.name} · {plural(found.pairs, 'case')} that both were given",
                rehearsal=found.a.rehearsal and found.b.rehearsal)  # fmt: skip
    page.sentence(headline(found))
    if found.a.rehearsal != found.b.rehearsal:
        page.sentence(
            "One of the two is a rehearsal: their answers, costs and times do not compare.", status="warning"
        )
    if found.untold:
        page.sentence(
            f"{plural(found.untold, 'expectation')} could be told on one side only, and so count on neither.",
            faint=True,
        )
    rows: list[list[Cell]] = [_measure_row(one) for one in found.measures if one.difference is not None]
    page.table(("", a, b, "difference", "95 % interval", "cases", "says"), rows)
    absent = [_MEASURE_WORDS[one.name] for one in found.measures if one.difference is None]
    if absent:
        page.sentence(f"Not known on both sides: {', '.join(absent)}.", faint=True)
    page.table(
        ("case", "why it is left out"),
        [[Short(one_line(name, 44)), one_line(why, 200)] for name, why in found.left_out[:LEFT_OUT_MAX]],
        heading="Left out",
        detail=plural(len(found.left_out), "case"),
    )
    page.next(_after_comparison(found, slug))
    view = page.view(found)
    drawn = [one for one in found.measures if one.name in ("passed", "score", "meaning") and one.difference]
    if not drawn:
        return view
    from personas_nb.views.eval_chart import Drawn, picture

    intervals = [
        Drawn(_MEASURE_WORDS[one.name], *one.difference, one.verdict)
        for one in drawn
        if one.difference is not None
    ]
    cases = [(row["case"], row["score_b"] - row["score_a"]) for row in found.rows
             if row["score_a"] is not None and row["score_b"] is not None]  # fmt: skip
    note = "; rehearsal" if found.a.rehearsal or found.b.rehearsal else ""
    png = picture(intervals, cases, label_a=a, label_b=b, note=note)
    return replace(view, png=png, alt=f"Chart: {b} beside {a}. {headline(found)}")


def labels(found: Comparison) -> tuple[str, str]:
    """What the two are called: with their models where these differ, else with their ids where that is the same."""
    a, b = found.a.label, found.b.label
    models = [run.model_used or "" for run in (found.a, found.b)]
    if models[0] != models[1]:
        is_one = a.partition(" · ")[0] == b.partition(" · ")[0]
        a, b = (
            model if is_one else label if model in label else f"{label} · {model}"
            for label, model in zip((a, b), models, strict=True)
        )
    if a == b:
        return f"{a} ({short_id(found.a.id)})", f"{b} ({short_id(found.b.id)})"
    return a, b


def headline(found: Comparison) -> str:
    """The finding in a sentence."""
    a, b = labels(found)
    first = b[:1].upper() + b[1:]
    score = found.measure("score")
    cases = plural(score.pairs, "case")
    all_of_them = f"each of the {cases}" if score.pairs > 1 else "the one case"
    if score.difference is None:
        return "Whether the expectations were met could not be told on both sides."
    low, high = _points(score.difference.low), _points(score.difference.high)
    span = f"{_points(score.difference.mean)} points (95 %: {low} to {high}) on {cases}"
    match score.verdict:
        case "the same":
            return f"{first} and {a} meet the same share of the expectations in {all_of_them}: no difference."
        case "too few cases":
            from personas_nb.design.evals.comparison import MIN_PAIRS

            return f"{cases} cannot tell a difference from chance: at least {MIN_PAIRS} are needed."
        case "no difference":
            return f"No difference was shown between {b} and {a}: {span}, and that interval includes zero."
        case verdict:
            more = "more" if verdict == "better" else "less"
            return f"{first} meets {more} of the expectations than {a}: {span}."


def _points(value: float) -> str:
    """A difference of shares in points of a hundred.

    >>> _points(0.184), _points(-0.0001)
    ('+18', '0')
    """
    rounded = round(value * 100)
    return f"{rounded:+d}".replace("-", "−") if rounded else "0"


def _measure_row(one: Measured) -> list[Cell]:
    assert one.difference is not None
    says = _SAYS.get((one.name, one.verdict), one.verdict)
    return [
        Short(_MEASURE_WORDS[one.name]),
        Number(_value(one.name, one.mean_a)),
        Number(_value(one.name, one.mean_b)),
        Number(_signed(one.name, one.difference.mean)),
        Short(_span(one.name, one.difference)),
        Number(f"{one.pairs:,}"),
        _VERDICTS[one.verdict]._replace(word=says),
    ]


def _value(measure: str, value: float | None) -> str:
    if measure == "cost_usd":
        return marks.money(value)
    return marks.duration(value) if measure == "duration_ms" else share(value)


def _signed(measure: str, value: float) -> str:
    if measure == "cost_usd":
        return f"{'+' if value > 0 else '−' if value < 0 else ''}{marks.money(abs(value))}"
    if measure == "duration_ms":
        return f"{'+' if value > 0 else '−' if value < 0 else ''}{marks.duration(abs(value))}"
    return f"{_points(value)} points"


def _span(measure: str, difference: Interval) -> str:
    if measure in ("cost_usd", "duration_ms"):
        return f"{_signed(measure, difference.low)} to {_signed(measure, difference.high)}"
    return f"{_points(difference.low)} to {_points(difference.high)}"


def _after_comparison(found: Comparison, slug: str) -> list[Step]:
    if not slug:
        return []
    score, version = found.measure("score"), found.b.subject.version
    steps: list[Step] = []
    if score.verdict == "better" and version is not None and version != found.a.subject.version:
        steps.append((f"%persona tag {slug} {version} production", "name the better version"))
    if score.verdict in ("no difference", "too few cases"):
        steps.append((f"%persona evals add {slug} CASE --from latest", "more cases tell more"))
        steps.append((f"%persona evals run {slug} --repeat 3", "each case several times, where answers vary"))
    steps.append((f"%persona evals show {short_id(found.b.id)}", "what each case lacks"))
    return steps
