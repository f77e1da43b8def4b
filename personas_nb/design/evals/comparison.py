"""Two evals over the same cases: what differs, how surely, and when that is no difference.

- Cases are paired, so that hard and easy ones do not count as a difference. What only one side has, or what was
  changed between the two, is left out and said.
- The interval is a paired bootstrap of the mean difference (percentiles of 10 000 resamples, seeded). Percentiles of
  small samples are too narrow, by √(n/(n-1)) and as the normal distribution is beside Student's t; the resamples
  are widened by both.
- With fewer than six pairs even a win in each of them happens by chance more often than once in twenty times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from personas_nb.design.evals.cases import in_order
from personas_nb.design.evals.checks import score_of
from personas_nb.entities.eval import EvalResult, EvalRun

if TYPE_CHECKING:
    from pandas import DataFrame

RESAMPLES = 10_000
CHUNK = 1_000_000  # indices at once: 8 MB
MIN_PAIRS = 6
CONFIDENCE = 0.95
_ALIKE = 1e-9

Verdict = Literal["better", "worse", "no difference", "the same", "too few cases", "unknown"]
MEASURES: dict[str, int] = {"passed": 1, "score": 1, "meaning": 1, "cost_usd": -1, "duration_ms": -1}
"""What is compared, and whether more of it is better (1) or worse (-1)."""

SHARES = ("passed", "score", "meaning")
UNREHEARSED = ("cost_usd", "duration_ms")


class Interval(NamedTuple):
    """A mean difference, and between what it lies with 95 % confidence."""

    mean: float
    low: float
    high: float


class Measured(NamedTuple):
    """One measure on both sides; ``difference`` is b − a, None without pairs."""

    name: str
    pairs: int
    mean_a: float | None
    mean_b: float | None
    difference: Interval | None
    verdict: Verdict


def paired_bootstrap(
    differences: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """The mean of paired differences with its bootstrap interval; the same seed gives the same.

    >>> paired_bootstrap([1.0] * 8)
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    count, mean = len(values), float(values.mean())
    if count < 2 or float(np.ptp(values)) <= _ALIKE:
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // count)
    means = np.concatenate(
        [
            values[rng.integers(0, count, size=(min(rows, resamples - start), count))].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )
    tail = (1 - confidence) / 2
    widened = mean + (means - mean) * (count / (count - 1)) ** 0.5 * _t_over_z(count - 1, 1 - tail)
    low, high = np.quantile(widened, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def _t_over_z(freedom: int, share: float) -> float:
    """How much wider Student's t is than the normal distribution (Cornish and Fisher's series).

    >>> round(_t_over_z(5, 0.975) * 1.95996, 2), round(_t_over_z(199, 0.975) * 1.95996, 2)
    (2.57, 1.97)
    """
    z = NormalDist().inv_cdf(share)
    second = (5 * z**4 + 16 * z**2 + 3) / (96 * freedom**2)
    third = (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / (384 * freedom**3)
    return 1 + (z**2 + 1) / (4 * freedom) + second + third


def verdict_of(pairs: int, difference: Interval | None, better: int) -> Verdict:
    """What may be said of a difference; one whose interval reaches zero is none.

    >>> verdict_of(20, Interval(0.1, -0.02, 0.2), 1), verdict_of(20, Interval(0.1, 0.02, 0.2), -1)
    ('no difference', 'worse')
    """
    if difference is None:
        return "unknown"
    if max(abs(difference.low), abs(difference.high)) <= _ALIKE:
        return "the same"
    if pairs < MIN_PAIRS:
        return "too few cases"
    if difference.low <= 0 <= difference.high:
        return "no difference"
    return "better" if (difference.mean > 0) == (better > 0) else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two evals, case by case; ``left_out`` says what could not be paired, and why.

    ``untold`` is the number of expectations that could be told on one side only, and so count on neither.
    """

    a: EvalRun
    b: EvalRun
    measures: tuple[Measured, ...]
    rows: tuple[dict[str, Any], ...]
    left_out: tuple[tuple[str, str], ...]
    seed: int = 0
    untold: int = 0

    @cached_property
    def frame(self) -> DataFrame:
        """One row a measure: pairs, both means, difference (b − a), its interval, the verdict."""
        import pandas as pd

        columns = ["pairs", "mean_a", "mean_b", "difference", "low", "high", "verdict"]
        values = [
            [one.pairs, one.mean_a, one.mean_b, *(one.difference or (None, None, None)), one.verdict]
            for one in self.measures
        ]
        frame = pd.DataFrame(values, columns=columns, index=pd.Index([one.name for one in self.measures]))
        frame.index.name = "measure"
        kinds = {"pairs": "int64", "verdict": "string", **dict.fromkeys(columns[1:-1], "float64")}
        return frame.astype(kinds)

    @cached_property
    def cases(self) -> DataFrame:
        """One row a paired case: each measure on both sides."""
        import pandas as pd

        columns = ["case", *(f"{name}_{side}" for name in MEASURES for side in "ab")]
        frame = pd.DataFrame(list(self.rows), columns=columns)
        return frame.astype({"case": "string", **dict.fromkeys(columns[1:], "float64")})

    def measure(self, name: str) -> Measured:
        """One measure by its name."""
        return next(one for one in self.measures if one.name == name)

    @property
    def pairs(self) -> int:
        """How many cases both sides have."""
        return len(self.rows)


def compare(
    a: EvalRun, b: EvalRun, results_a: Iterable[EvalResult], results_b: Iterable[EvalResult], *, seed: int = 0
) -> Comparison:
    """Pair the cases of two evals and measure the differences."""
    old, new = _by_case(results_a), _by_case(results_b)
    left_out: list[tuple[str, str]] = []
    # What a rehearsal costs, and how long it takes, says nothing about what was tested.
    measures = [name for name in MEASURES if name not in UNREHEARSED or not (a.rehearsal or b.rehearsal)]
    rows: list[dict[str, Any]] = []
    untold = 0
    for key in sorted(
        old.keys() | new.keys(), key=lambda key: in_order((old.get(key) or new[key])[0].case_name)
    ):
        one, other = old.get(key, []), new.get(key, [])
        name = (other or one)[0].case_name
        if why := _why_not(one, other, a.label, b.label):
            left_out.append((name, why))
            continue
        one, other, left = _told_on_both(one, other)
        untold += left
        row: dict[str, Any] = {"case": name}
        for measure in MEASURES:
            known = measure in measures
            row[f"{measure}_a"] = _mean(one, measure) if known else None
            row[f"{measure}_b"] = _mean(other, measure) if known else None
        rows.append(row)
    measured = tuple(_measured(name, better, rows, seed) for name, better in MEASURES.items())
    return Comparison(a, b, measured, tuple(rows), tuple(left_out), seed, untold)


def _by_case(results: Iterable[EvalResult]) -> dict[str, list[EvalResult]]:
    found: dict[str, list[EvalResult]] = {}
    for result in results:
        found.setdefault(result.case_id, []).append(result)
    return found


def _why_not(one: list[EvalResult], other: list[EvalResult], label_a: str, label_b: str) -> str:
    """Why a case cannot be paired; empty where it can."""
    for results, label in ((one, label_a), (other, label_b)):
        if not results:
            return f"That eval of {label} does not have it."
    if {result.case_digest for result in one} != {result.case_digest for result in other}:
        return "It was changed between the two evals."
    for results, label in ((one, label_a), (other, label_b)):
        if not any(result.measured for result in results):
            return f"{label}: {results[0].reason}"
    return ""


def _told_on_both(
    one: list[EvalResult], other: list[EvalResult]
) -> tuple[list[EvalResult], list[EvalResult], int]:
    """A case's results by the checks that could be told in all of them; how many could be told in some only.

    A rehearsal cannot tell what a text says: beside a model it would win by being asked less.
    """
    measured = [result for result in (*one, *other) if result.measured]
    told = [tuple(check.passed is not None for check in result.checks) for result in measured]
    if len(set(told)) < 2 or len({len(each) for each in told}) > 1:
        return one, other, 0
    everywhere = [all(each) for each in zip(*told, strict=True)]
    somewhere = [any(each) for each in zip(*told, strict=True)]
    scored = [[_scored(result, everywhere) for result in side] for side in (one, other)]
    return scored[0], scored[1], sum(somewhere) - sum(everywhere)


def _scored(result: EvalResult, counted: Sequence[bool]) -> EvalResult:
    if not result.measured:
        return result
    checks = [check for check, counts in zip(result.checks, counted, strict=True) if counts]
    return result.changed(score=score_of(checks), passed=all(check.passed is not False for check in checks))


def _mean(results: list[EvalResult], measure: str) -> float | None:
    """The mean of a measure over the attempts of a case; None where it is unknown in one of them."""
    values = [_value(result, measure) for result in results if result.measured]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _value(result: EvalResult, measure: str) -> float | None:
    if measure == "meaning":
        return result.judgement.score if result.judgement else None
    value = getattr(result, measure)
    return None if value is None else float(value)


def _measured(name: str, better: int, rows: Sequence[dict[str, Any]], seed: int) -> Measured:
    both = [
        (row[f"{name}_a"], row[f"{name}_b"])
        for row in rows
        if row[f"{name}_a"] is not None and row[f"{name}_b"] is not None
    ]
    if not both:
        return Measured(name, 0, None, None, None, "unknown")
    difference = paired_bootstrap([b - a for a, b in both], seed=seed)
    if name in SHARES:  # they cannot differ by more than all
        difference = difference._replace(low=max(difference.low, -1.0), high=min(difference.high, 1.0))
    mean_a, mean_b = (sum(pair[side] for pair in both) / len(both) for side in (0, 1))
    return Measured(name, len(both), mean_a, mean_b, difference, verdict_of(len(both), difference, better))
