"""How fast two evals of 200 scored cases are compared, and how fast one is scored; exits 1 when it takes too long.

python bench/evals.py

The comparison reads both evals from a store, pairs their cases, computes five paired bootstrap intervals of 10 000
resamples, and makes both DataFrames; it is held to a second. What the first one in a process takes, with the imports of
pandas and numpy, is printed beside it, and so is the picture. The peer is the same bootstrap as a loop of Python's own.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from personas_nb import Studio
from personas_nb.entities.design import Flow, FlowEdge, FlowStep
from personas_nb.entities.eval import Check, EvalResult, EvalRun, EvalSubject, Expectations, Judgement

ROOT = Path(__file__).resolve().parent.parent
CASES, ROUNDS, LIMIT_SECONDS = 200, 7, 1.0
COLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from personas_nb import Studio
studio = Studio(sys.argv[2])
studio.evals.list()
begun = time.perf_counter()
found = studio.evals.compare(sys.argv[3], sys.argv[4])
found.frame, found.cases
print(time.perf_counter() - begun)
"""


def fill(studio: Studio, label: str, good: float, rng: random.Random) -> EvalRun:
    """An eval of 200 cases, each with five checks, a judgement and a flow."""
    persona = studio.personas.create(name="Reporter", system_prompt="You report.")
    subject = EvalSubject(label=label, name="Reporter", system_prompt="You report. " * 200)
    run = EvalRun(owner_id=persona.id, persona_id=persona.id, subject=subject, status="completed")
    studio.store.table("eval_runs", EvalRun).insert(run)
    results = studio.store.table("eval_results", EvalResult)
    steps = tuple(FlowStep(id=f"s{n}", label=f"step {n}") for n in range(6))
    flow = Flow(steps=steps, edges=tuple(FlowEdge(source=f"s{n}", target=f"s{n + 1}") for n in range(5)))
    with studio.store.write():
        for number in range(CASES):
            checks = tuple(
                Check(kind="contains", wanted=f"figure {n}", passed=rng.random() < good) for n in range(5)
            )
            score = sum(check.passed is True for check in checks) / 5
            results.insert(
                EvalResult(
                    eval_run_id=run.id, case_id=f"case-{number}", case_name=f"case {number}", case_digest="d",
                    status="completed", checks=checks, score=score, passed=score == 1, flow=flow,
                    judgement=Judgement(score=round(rng.random() * 4) / 4, reason="It names the figures. " * 8),
                    cost_usd=rng.random() / 10, duration_ms=rng.randrange(9_000),
                )
            )  # fmt: skip
    return run


def seconds(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The median time."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def plain_bootstrap(values: list[float], resamples: int = 10_000) -> tuple[float, float]:
    """The peer: the same resamples, one number at a time."""
    rng = random.Random(0)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def main() -> int:
    """Measure, print, and say whether it was fast enough."""
    from personas_nb.design.evals.checks import Observed, checks_of
    from personas_nb.design.evals.comparison import paired_bootstrap
    from personas_nb.views.comparison import comparison_card

    rng = random.Random(21)
    with tempfile.TemporaryDirectory() as folder, Studio(Path(folder) / "home") as studio:
        a, b = fill(studio, "version 1", 0.7, rng), fill(studio, "version 2", 0.8, rng)
        cold = subprocess.run(
            [sys.executable, "-c", COLD, str(ROOT), str(studio.home), a.id, b.id],
            capture_output=True, text=True, check=True,
        )  # fmt: skip

        def compare() -> object:
            found = studio.evals.compare(a, b)
            return found.frame, found.cases

        warm, first = seconds(compare), float(cold.stdout)
        found = studio.evals.compare(a, b)
        card = seconds(lambda: comparison_card(found), 3)
        differences = [row["score_b"] - row["score_a"] for row in found.rows]
        ours, peer = (
            seconds(lambda: paired_bootstrap(differences)),
            seconds(lambda: plain_bootstrap(differences), 3),
        )
        seen = Observed("completed", text="The figures are 1, 2 and 3. " * 200)
        expect = Expectations(contains=("figures", "3."), excludes=("sorry",))
        scored = seconds(lambda: [checks_of(expect, seen) for _ in range(CASES)])
        with_expression = seconds(lambda: checks_of(Expectations(matches=(r"\d, \d and",)), seen), 5)
    print(f"compare 2 × {CASES} cases, frames included   {warm * 1000:8.1f} ms   (limit {LIMIT_SECONDS:g} s)")
    print(f"  the first time in a process, with imports {first * 1000:8.1f} ms")
    print(f"  its card with the picture                 {card * 1000:8.1f} ms")
    print(
        f"one bootstrap of {CASES} differences           {ours * 1000:8.1f} ms   {peer / ours:.0f} × faster than a loop"
    )
    print(f"score {CASES} answers of 5 KB                  {scored * 1000:8.1f} ms")
    print(f"  one with a regular expression, in its own process {with_expression * 1000:.1f} ms")
    is_fast = warm <= LIMIT_SECONDS
    print("fast enough" if is_fast else "TOO SLOW")
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
