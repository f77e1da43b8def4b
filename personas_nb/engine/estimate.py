"""What a run may cost, before it is begun: arithmetic on a price, which asks nobody."""

from __future__ import annotations

from dataclasses import dataclass

from personas_nb.engine.spending import CONTEXT_TOKENS, Price

CHARS_PER_TOKEN = 4
SHORT_ANSWER_TOKENS = 200


@dataclass(frozen=True)
class CostRange:
    """US dollars. ``is_budget``: the budget ends the run, not its turns. ``is_short``: it pays for no request."""

    lower_usd: float
    upper_usd: float
    is_budget: bool
    is_short: bool


def tokens_in(text: str) -> int:
    """An estimate: four characters a token.

    >>> tokens_in("x" * 401)
    101
    """
    return -(-len(text) // CHARS_PER_TOKEN)


def cost_range(
    price: Price, *, prompt_tokens: int, max_turns: int, max_budget_usd: float | None, max_output_tokens: int
) -> CostRange:
    """From one request with a short answer, to every turn with a full context and the longest answer.

    The budget ends the run before it costs more; it may be lower than the first request.
    """
    least = prompt_tokens * price.input + SHORT_ANSWER_TOKENS * price.output
    context = max(prompt_tokens, min(price.context_tokens or CONTEXT_TOKENS, CONTEXT_TOKENS))
    most = max_turns * (context * price.dearest_input + max_output_tokens * price.output)
    if max_budget_usd is None or max_budget_usd >= most:
        return CostRange(least, most, is_budget=False, is_short=False)
    return CostRange(
        min(least, max_budget_usd), max_budget_usd, is_budget=True, is_short=max_budget_usd < least
    )
