"""What a run may still spend, before and after its requests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.engine.models import ResolvedModel
from personas_nb.engine.spending import Admission, Allowance, Price, price_of, reservation_usd
from personas_nb.entities.run_event import UsageReported
from personas_nb.errors import ModelError

SONNET = ResolvedModel(
    "anthropic", "claude-sonnet-5-5"
)  # 2 USD in, 10 out, a million; written to a cache: up to 4
UNPRICED = ResolvedModel("custom", "our-own-model")
REHEARSAL = ResolvedModel("rehearsal", "rehearsal")


def allowance(model: ResolvedModel = SONNET, **limits: Any) -> Allowance:
    chosen = {"max_budget_usd": 1.0, "max_turns": 25, "max_tokens": 200_000} | limits
    return Allowance(model, **chosen)


def used(input_tokens: int, output_tokens: int, **more: Any) -> UsageReported:
    return UsageReported(input_tokens=input_tokens, output_tokens=output_tokens, **more)


def refused(of: Allowance, request_bytes: int = 1000, max_output_tokens: int = 1000) -> ModelError:
    with pytest.raises(ModelError) as caught:
        of.admit(request_bytes, max_output_tokens)
    return caught.value


# --- prices ---------------------------------------------------------------------------------------------


def test_a_price_is_per_token_and_at_its_dearest():
    assert price_of("claude-sonnet-5-5", "anthropic") == Price(2e-6, 10e-6, 0.1e-6, 4e-6, 1_000_000)
    tiered = price_of("claude-sonnet-4-5", "anthropic")
    assert tiered is not None
    assert (tiered.input, tiered.output) == (6e-6, 22.5e-6)


def test_a_cache_without_a_price_of_its_own_costs_what_input_costs():
    price = price_of("gpt-5-mini", "custom")
    assert price is not None
    assert (price.cache_write, price.dearest_input) == (price.input, price.input)


@pytest.mark.parametrize(
    ("model", "provider", "is_known"),
    [
        ("claude-sonnet-5-5", "anthropic", True),
        ("claude-sonnet-5-5", "litellm", True),
        ("anthropic/claude-sonnet-5-5", "litellm", True),
        ("gpt-5-mini", "custom", True),
        ("claude-sonnet-5-5", "custom", True),
        ("our-own-model", "litellm", False),
        ("our-own-model", "anthropic", False),
        ("llama3.2", "custom", False),
        ("gpt-5-mini", "anthropic", False),
        ("gpt-oss-120b", "ollama", False),  # at home it costs something else
        ("rehearsal", "rehearsal", False),
        ("", "custom", False),
    ],
)
def test_a_price_is_known_or_it_is_none(model: str, provider: str, is_known: bool):
    assert (price_of(model, provider) is not None) == is_known


# --- the budget -----------------------------------------------------------------------------------------


def test_a_request_within_the_budget_is_admitted_as_it_is():
    assert allowance().admit(10_000, 4096).max_output_tokens == 4096


def test_the_answer_is_shortened_to_what_the_budget_pays_for():
    # (500 + 10 000 / 2) tokens at 4 USD a million leave 0.028 USD: 2 800 tokens
    of = allowance(max_budget_usd=0.05)
    assert of.admit(10_000, 8192).max_output_tokens == of.last_max_output_tokens == 2800


def test_a_request_that_is_not_cached_leaves_more_for_the_answer():
    assert allowance(max_budget_usd=0.05).admit(10_000, 8192, is_cached=False).max_output_tokens == 3900


def test_an_answer_too_short_to_be_of_use_is_not_paid_for():
    of = allowance(max_budget_usd=0.023)
    error = refused(of, 10_000, 8192)
    assert error.kind == "budget"
    assert error.message == (
        "The next request could go over the run's budget of $0.023: $0 is spent, and it may cost $0.0246."
    )
    assert error.hint == "Raise it with --max-budget-usd, or ask for less."
    assert of.admit(10_000, 100).max_output_tokens == 100  # who wants only that gets it


def test_a_budget_of_nothing_admits_nothing():
    assert refused(allowance(max_budget_usd=0.0)).kind == "budget"
    assert refused(allowance(UNPRICED, max_budget_usd=0.0)).kind == "budget"


def test_no_budget_admits_everything():
    of = allowance(max_budget_usd=None)
    of.admit(10**9, 8192).settle(used(10**9, 8192))
    assert of.admit(10**9, 8192).max_output_tokens == 8192
    assert of.note == ""


def test_what_was_spent_is_told_when_it_is_too_much():
    of = allowance(max_budget_usd=0.1)
    of.admit(1000, 1000).settle(used(40_000, 1_000))
    error = refused(of, 1000, 1000)
    assert "$0.09 is spent" in error.message


def test_requests_under_way_count_as_spent():
    of = allowance(max_budget_usd=0.06)
    assert [of.admit(1000, 4000).max_output_tokens for _ in range(2)] == [4000, 1200]
    assert refused(of).kind == "budget"


def test_a_request_that_was_refused_frees_what_it_held():
    of = allowance(max_budget_usd=0.05)
    first = of.admit(1000, 4000)
    error = refused(of, 1000, 4000)
    assert "is held for requests under way" in error.message
    first.release()
    assert of.admit(1000, 4000).max_output_tokens == 4000
    assert of.usage.num_turns == 0


def test_a_request_without_an_answer_is_counted_at_its_worst():
    of = allowance(max_budget_usd=0.05, max_turns=3)
    of.admit(1000, 4000).abandon()
    error = refused(of, 1000, 4000)
    assert "$0.044 is spent" in error.message
    assert of.usage.num_turns == 0
    assert refused(allowance(max_turns=0)).kind == "turns"


def test_a_request_is_settled_once():
    of = allowance()
    admission = of.admit(1000, 1000)
    for _ in range(3):
        admission.settle(used(100, 10))
        admission.release()
        admission.abandon()
    assert (of.usage.num_turns, of.usage.input_tokens) == (1, 100)


def test_a_conversation_is_known_up_to_where_it_was_answered():
    of = allowance(max_budget_usd=0.2)
    of.admit(40_000, 1000).settle(used(8_000, 0))  # a fifth of a token a byte, not half
    # 8 000 and half of 400 more: 0.0328 USD, of the 0.184 that are left; guessed anew it were 0.0828
    admission = of.admit(40_400, 20_000)
    assert admission.max_output_tokens == 15_120
    admission.release()
    assert of.admit(20_000, 100).tokens == 10_600  # what is shorter may be something else


def test_denser_text_than_expected_is_learned():
    of = allowance(max_budget_usd=100.0)
    of.admit(10_000, 100).settle(used(10_500, 0))
    assert of.admit(5_000, 100).tokens == 5_600


# --- what it cost ---------------------------------------------------------------------------------------


def test_each_kind_of_token_has_its_price():
    of = allowance()
    of.admit(1000, 1000).settle(used(1000, 100, cache_read_tokens=10_000, cache_write_tokens=1000))
    expected = 1000 * 2e-6 + 100 * 10e-6 + 10_000 * 0.1e-6 + 1000 * 2.5e-6
    assert of.usage.cost_usd == pytest.approx(expected)
    of.admit(1000, 1000).settle(used(0, 1, cache_write_tokens=1000), cache_write_1h_tokens=1000)
    assert of.usage.cost_usd == pytest.approx(expected + 1000 * 4e-6 + 10e-6)


def test_one_answer_of_unknown_price_makes_the_cost_unknown_and_is_counted_at_the_models_own():
    of = allowance(max_budget_usd=0.1)
    of.admit(1000, 1000).settle(used(100, 100))
    assert of.usage.cost_usd is not None
    of.admit(1000, 1000).settle(used(20_000, 1_000, model="somebody-elses"))
    assert of.usage.cost_usd is None
    assert refused(of).kind == "budget"
    assert of.usage.num_turns == 2


def test_an_answer_that_nobody_counted_has_no_price_and_may_have_been_all_it_was_allowed():
    of = allowance(max_budget_usd=0.05)
    of.admit(1000, 4000).settle(used(0, 0))
    assert (of.usage.cost_usd, of.usage.num_turns) == (None, 1)
    assert refused(of).kind == "budget"


def test_an_answer_whose_input_nobody_counted_is_counted_at_its_worst():
    of = allowance()
    admission = of.admit(1000, 8192)
    admission.settle(used(0, 5))
    assert (of.usage.cost_usd, of.usage.output_tokens, of._spent_usd) == (None, 5, admission.usd)
    assert of._used_tokens == admission.tokens - admission.max_output_tokens + 5


def test_nothing_asked_costs_nothing():
    assert allowance().usage == UsageReported(cost_usd=0.0, model="claude-sonnet-5-5")


# --- turns and tokens -----------------------------------------------------------------------------------


def test_turns_are_counted_with_those_under_way():
    of = allowance(max_turns=2)
    of.admit(100, 100).settle(used(1, 1))
    of.admit(100, 100)
    error = refused(of)
    assert (error.kind, error.message) == ("turns", "The run reached its limit of 2 turns.")


def test_tokens_stand_in_for_an_unknown_price():
    of = allowance(UNPRICED, max_tokens=10_000)
    assert of.note == (
        "The price of our-own-model is unknown, so the budget of $1 cannot be watched; "
        "a limit of 10,000 tokens stands in for it."
    )
    of.admit(4_000, 8_192).settle(used(5_000, 2_000))
    assert of.usage.cost_usd is None
    error = refused(of, 6_000, 8_192)
    assert error.kind == "tokens"
    assert "limit of 10,000 tokens" in error.message
    assert "7,000 are used" in error.message
    assert "unknown_price_token_limit" in error.hint


def test_rehearsal_is_free_and_has_only_turns():
    of = allowance(REHEARSAL, max_budget_usd=0.0, max_turns=1)
    of.admit(10**9, 8192).settle(used(50, 50))
    assert (of.usage.cost_usd, of.note, refused(of).kind) == (0.0, "", "turns")


@given(
    budget=st.floats(0.001, 2.0),
    requests=st.lists(
        st.tuples(
            st.integers(1, 200_000), st.integers(1, 32_000), st.floats(0, 1), st.floats(0, 1), st.booleans()
        ),
        max_size=12,
    ),
)
def test_the_budget_holds_whatever_is_asked_as_long_as_the_estimate_does(budget: float, requests: list[Any]):
    of = allowance(max_budget_usd=budget, max_turns=1000)
    waiting: list[tuple[Admission, UsageReported]] = []
    for size, wanted, part_in, part_out, is_parallel in requests:
        admission = None
        with suppress(ModelError):
            admission = of.admit(size, wanted)
        if admission is None:
            continue
        assert min(wanted, 256) <= admission.max_output_tokens <= wanted
        given_tokens = int((admission.tokens - admission.max_output_tokens) * part_in)
        waiting.append((admission, used(given_tokens, int(admission.max_output_tokens * part_out))))
        if not is_parallel:
            admission, usage = waiting.pop(0)
            admission.settle(usage)
    for admission, usage in waiting:
        admission.settle(usage)
    spent = of._spent_usd
    assert spent <= budget + 1e-9


# --- reservations ---------------------------------------------------------------------------------------


def test_a_reservation_is_the_cap_and_one_request_at_its_worst():
    assert reservation_usd(SONNET, 1.0, 10_000) == pytest.approx(1.0 + 200_000 * 4e-6 + 0.1)


def test_a_reservation_without_a_price_or_a_cap_is_unknown():
    assert reservation_usd(UNPRICED, 1.0, 10_000) is None
    assert reservation_usd(SONNET, None, 10_000) is None


def test_a_rehearsal_reserves_nothing():
    assert reservation_usd(REHEARSAL, 1.0, 10_000) == 0.0
