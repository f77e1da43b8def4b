"""Two evals, case by case: how sure a difference is, and when it is none."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personas_nb.design.evals.comparison import MIN_PAIRS, compare, paired_bootstrap, verdict_of
from personas_nb.entities.eval import Check, EvalResult, EvalRun, EvalSubject, Judgement

NUMBERS = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=40)


def a_run(label: str, **fields) -> EvalRun:
    return EvalRun(owner_id="p", persona_id="p", subject=EvalSubject(label=label, name="Reporter"), **fields)


def results(scores, **fields) -> list[EvalResult]:
    return [
        EvalResult(
            **{
                "eval_run_id": "r",
                "case_id": f"c{number}",
                "case_name": f"case {number:03}",
                "case_digest": "same",
                "status": "completed",
                "score": score,
                "passed": score == 1.0,
                "cost_usd": 0.01,
                "duration_ms": 100,
                **fields,
            }
        )
        for number, score in enumerate(scores)
    ]


def compared(old, new, **fields):
    return compare(a_run("version 1"), a_run("version 2"), results(old), results(new), **fields)


# The interval


@settings(deadline=None, max_examples=60)
@given(NUMBERS)
def test_the_mean_is_the_mean_and_the_interval_is_the_same_for_the_same_seed(values):
    found = paired_bootstrap(values, resamples=500)
    assert found.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert found.low <= found.high
    assert paired_bootstrap(values, resamples=500) == found


@settings(deadline=None, max_examples=40)
@given(NUMBERS)
def test_the_other_way_round_it_is_the_mirror_image(values):
    found, turned = (
        paired_bootstrap(values, resamples=500),
        paired_bootstrap([-v for v in values], resamples=500),
    )
    assert (turned.mean, turned.low, turned.high) == pytest.approx(
        (-found.mean, -found.high, -found.low), abs=1e-9
    )


def test_it_covers_the_truth_about_as_often_as_it_says():
    rng = random.Random(7)
    trials = 400
    for count in (8, 30):
        samples = ([rng.gauss(0.0, 1.0) for _ in range(count)] for _ in range(trials))
        found = [paired_bootstrap(sample, seed=1, resamples=1000) for sample in samples]
        covered = sum(one.low <= 0 <= one.high for one in found) / trials
        assert 0.91 <= covered <= 0.985


def test_chunks_change_nothing_about_memory_or_size(monkeypatch):
    values = [float(number % 7) for number in range(3000)]
    monkeypatch.setattr("personas_nb.design.evals.comparison.CHUNK", 10_000)
    found = paired_bootstrap(values, resamples=200)
    assert found.low < found.mean < found.high


# What is said


def test_a_clear_win_is_one():
    found = compared([0.5] * 10 + [0.0] * 10, [1.0] * 20)
    score = found.measure("score")
    assert (score.pairs, score.verdict, score.mean_a, score.mean_b) == (20, "better", 0.25, 1.0)
    assert score.difference.low > 0.5


def test_a_clear_loss_is_one():
    assert compared([1.0] * 20, [0.0] * 19 + [1.0]).measure("score").verdict == "worse"


def test_ups_and_downs_are_no_difference():
    found = compared([0.0, 1.0] * 10, [1.0, 0.0] * 9 + [1.0, 1.0]).measure("score")
    assert found.difference.mean > 0
    assert found.verdict == "no difference"


def test_the_same_on_every_case_is_the_same_however_few():
    assert compared([1.0, 0.5], [1.0, 0.5]).measure("score").verdict == "the same"


def test_fewer_than_six_pairs_prove_nothing():
    assert (
        compared([0.0] * (MIN_PAIRS - 1), [1.0] * (MIN_PAIRS - 1)).measure("score").verdict == "too few cases"
    )
    assert compared([0.0] * MIN_PAIRS, [1.0] * MIN_PAIRS).measure("score").verdict == "better"


def test_less_cost_is_better():
    old, new = results([1.0] * 8, cost_usd=0.05), results([1.0] * 8, cost_usd=0.01)
    cost = compare(a_run("a"), a_run("b"), old, new).measure("cost_usd")
    assert (cost.verdict, cost.difference.mean) == ("better", pytest.approx(-0.04))


def test_a_price_that_is_unknown_on_one_side_is_not_compared():
    old, new = results([1.0] * 8, cost_usd=None), results([1.0] * 8)
    cost = compare(a_run("a"), a_run("b"), old, new).measure("cost_usd")
    assert (cost.pairs, cost.verdict, cost.difference) == (0, "unknown", None)


def test_cost_and_time_of_a_rehearsal_are_not_compared():
    found = compare(a_run("a", rehearsal=True), a_run("b"), results([1.0] * 8), results([0.0] * 8))
    assert [one.name for one in found.measures if one.pairs] == ["passed", "score"]


def test_meaning_is_compared_where_both_sides_were_judged():
    good, bad = (Judgement(score=score, reason="r") for score in (1.0, 0.25))
    found = compare(
        a_run("a"), a_run("b"), results([1.0] * 8, judgement=bad), results([1.0] * 8, judgement=good)
    )
    assert found.measure("meaning").verdict == "better"


# Pairs


def test_what_cannot_be_paired_is_left_out_with_the_reason():
    old, new = results([1.0] * 5), results([1.0] * 5)
    del old[0], new[3]  # case 0 is new, case 4 is gone
    old[0] = old[0].changed(case_digest="other")
    new[2] = new[2].changed(measured=False, score=None, reason="The file sales.csv of the case is gone.")
    found = compare(a_run("version 1"), a_run("version 2"), old, new)
    assert [row["case"] for row in found.rows] == ["case 004"]
    reasons = dict(found.left_out)
    assert reasons["case 000"] == "That eval of version 1 does not have it."
    assert reasons["case 001"] == "It was changed between the two evals."
    assert reasons["case 002"] == "version 2: The file sales.csv of the case is gone."
    assert reasons["case 003"] == "That eval of version 2 does not have it."


def test_attempts_of_a_case_are_one_pair_of_their_means():
    thrice = [
        one.changed(attempt=attempt, score=attempt / 3) for one in results([0.0]) for attempt in (1, 2, 3)
    ]
    found = compare(a_run("a"), a_run("b"), thrice, results([1.0]))
    assert found.pairs == 1
    assert found.measure("score").mean_a == pytest.approx(2 / 3)


def test_the_frame_has_the_same_columns_whatever_is_known():
    for found in (compared([0.0] * 8, [1.0] * 8), compared([None] * 2, [None] * 2)):
        assert list(found.frame.index) == ["passed", "score", "meaning", "cost_usd", "duration_ms"]
        assert [str(kind) for kind in found.frame.dtypes] == ["int64", *["float64"] * 5, "string"]
        assert set(map(str, found.cases.dtypes[1:])) == {"float64"}
    assert math.isnan(found.frame.loc["meaning", "difference"])


def test_the_seed_decides_the_interval_and_nothing_else():
    old, new = [0.0, 1.0, 0.5, 0.5] * 5, [1.0, 1.0, 0.0, 0.5] * 5
    one, other = (compared(old, new, seed=seed).measure("score").difference for seed in (0, 1))
    assert one.mean == other.mean
    assert (one.low, one.high) == (compared(old, new).measure("score").difference)[1:]


def test_a_verdict_needs_an_interval_that_leaves_out_zero():
    assert verdict_of(50, paired_bootstrap([0.0] * 49 + [1.0]), 1) == "no difference"


def test_what_only_one_side_could_tell_counts_on_neither():
    def checked(said: bool | None, score: float) -> list[EvalResult]:
        checks = (
            Check(kind="tools", wanted="file_read", passed=True),
            Check(kind="contains", wanted="North", passed=said),
        )
        return results([score] * 8, checks=checks)

    rehearsed, asked = checked(None, 1.0), checked(False, 0.5)
    found = compare(a_run("version 1", rehearsal=True), a_run("version 1"), rehearsed, asked)
    assert found.measure("score").verdict == found.measure("passed").verdict == "the same"
    assert found.untold == 8
