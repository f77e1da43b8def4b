"""What a run may still spend: dollars where the price is known, else tokens; and turns.

- A request is **admitted** before it is sent, with an upper estimate of what it can cost; what is admitted and not
  yet settled counts as spent, so that requests at the same time do not overspend together.
- How many tokens a text has is known only afterwards. Until then it is taken for denser than almost any text is;
  a conversation that goes on is known up to where it was last answered.
- A request whose answer never came is counted at its worst: it may have been paid for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from personas_nb.engine.models import ResolvedModel
from personas_nb.entities.base import now
from personas_nb.entities.run_event import UsageReported
from personas_nb.errors import ModelError

TOKENS_PER_BYTE = 0.5  # English and JSON have 0.2 to 0.4, base64 and rare scripts up to this
ADDED_TOKENS = 500  # what a provider itself puts before a request, for tools and formats
LEAST_OUTPUT_TOKENS = 256  # an answer that may be no longer than this is not worth paying for
CONTEXT_TOKENS = 200_000  # what one request may hold at most, for reservations
_PRICED_BY = {
    "anthropic": "anthropic",
    "litellm": "litellm",
    "custom": None,
}  # None: by the model's name alone


@dataclass(frozen=True)
class Price:
    """US dollars per token, each at the dearest tier that a request can reach."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    context_tokens: int | None = None
    """What the model can read at once, where known."""

    @property
    def dearest_input(self) -> float:
        """What a token of a request costs at most, whatever becomes of it in the provider's cache."""
        return max(self.input, self.cache_read, self.cache_write)


@lru_cache(maxsize=256)
def price_of(model_name: str, provider_name: str) -> Price | None:
    """What a provider's model costs, from the price list of genai-prices; None when it is not known.

    Behind ``litellm`` and ``custom`` servers the model's own name decides, where one maker's names look like it.

    >>> price_of("claude-haiku-4-5", "anthropic").output
    5e-06
    >>> price_of("our-own-model", "custom") is None
    True
    """
    found = _found(model_name, provider_name)
    if found is None:
        return None
    model = found[1]
    prices = model.get_prices(now())
    given = _dearest(prices.input_mtok)
    output = _dearest(prices.output_mtok)
    if given is None or output is None:
        return None
    read = _dearest(prices.cache_read_mtok)
    writes = (_dearest(prices.cache_write_mtok), _dearest(prices.cache_write_1h_mtok))
    return Price(
        input=given,
        output=output,
        cache_read=given if read is None else read,
        cache_write=max((each for each in writes if each is not None), default=given),
        context_tokens=model.context_window,
    )


def reservation_usd(
    model: ResolvedModel, max_budget_usd: float | None, max_output_tokens: int
) -> float | None:
    """What a budget must hold for a run: its cap plus one request at its worst, of at most 200 000 tokens.

    None when nobody knows: the price is unknown, or there is no cap. Rehearsal is 0.
    """
    if model.is_rehearsal:
        return 0.0
    price = price_of(model.model, model.provider)
    if price is None or max_budget_usd is None:
        return None
    context = min(price.context_tokens or CONTEXT_TOKENS, CONTEXT_TOKENS)
    return max_budget_usd + context * price.dearest_input + max_output_tokens * price.output


class Admission:
    """One request that may be sent, with at most ``max_output_tokens`` in its answer."""

    __slots__ = ("_allowance", "_is_open", "max_output_tokens", "request_bytes", "tokens", "usd")

    def __init__(
        self, allowance: Allowance, *, request_bytes: int, max_output_tokens: int, tokens: float, usd: float
    ) -> None:
        self._allowance, self._is_open = allowance, True
        self.request_bytes, self.max_output_tokens = request_bytes, max_output_tokens
        self.tokens, self.usd = tokens, usd

    def settle(self, usage: UsageReported, *, cache_write_1h_tokens: int = 0) -> None:
        """The request was answered with this usage; settled once, later calls do nothing.

        ``usage.model`` is the model that answered (None: the one that was asked). Its cost is worked out here.
        """
        if self._leaves():
            self._allowance._settled(self, usage, cache_write_1h_tokens)

    def release(self) -> None:
        """The request was not answered and cost nothing."""
        self._leaves()

    def abandon(self) -> None:
        """The request was sent, and nobody knows what became of it."""
        if self._leaves():
            self._allowance._lost(self)

    def _leaves(self) -> bool:
        was_open, self._is_open = self._is_open, False
        if was_open:
            self._allowance._left(self)
        return was_open


class Allowance:
    """What one run may spend: ask ``admit`` before each request, then say what became of it.

    ``max_budget_usd`` None sets no budget, 0 admits nothing; ``max_tokens`` stands in for a budget where the price
    is unknown. ``note`` says so to the person, and is empty otherwise. ``before`` is what the run had used when it
    began to wait for a decision, if it did. Belongs to one thread.

        admission = allowance.admit(len(body), 8192)
        ...  # ask for at most admission.max_output_tokens
        admission.settle(usage)  # or release(): it was refused; or abandon(): no answer came
    """

    def __init__(
        self,
        model: ResolvedModel,
        *,
        max_budget_usd: float | None,
        max_turns: int,
        max_tokens: int | None,
        before: UsageReported | None = None,
    ) -> None:
        self.model = model
        self.max_budget_usd = None if model.is_rehearsal else max_budget_usd
        self.max_turns, self.max_tokens = max_turns, max_tokens
        self.price = None if model.is_rehearsal else price_of(model.model, model.provider)
        self.note = self._note()
        self.last_max_output_tokens: int | None = None
        """How long the last answer could be: as asked for, or as the budget allowed."""
        self._open: set[Admission] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._num_lost = 0
        self._totals = UsageReported(cost_usd=0.0, model=model.model)
        self._spent_usd = 0.0
        self._used_tokens = 0.0
        if before is not None and before.num_turns:
            self._totals = before.changed(model=model.model, session_id=None)
            self._spent_usd = self._cost_before(before)
            self._used_tokens = float(_all_tokens(before))
        self._densest = TOKENS_PER_BYTE
        self._longest = (0, 0)  # bytes and tokens of the longest request that was answered

    @property
    def usage(self) -> UsageReported:
        """The totals so far; ``cost_usd`` is None as soon as one answer's price is unknown."""
        return self._totals

    def admit(self, request_bytes: int, max_output_tokens: int, *, is_cached: bool = True) -> Admission:
        """Let a request of that size be sent, with as many output tokens as it may use.

        ``is_cached`` says that the provider may be asked to cache it, which costs more. Raises ``ModelError`` of
        kind ``budget``, ``tokens`` or ``turns`` when it must not be sent.
        """
        if self.max_budget_usd is not None and self.max_budget_usd <= 0:
            raise ModelError(
                "The run may spend nothing: its budget is 0.",
                kind="budget",
                hint="Raise max_budget_usd, or rehearse with `--provider rehearsal`.",
            )
        if self._totals.num_turns + self._num_lost + len(self._open) >= self.max_turns:
            raise ModelError(
                f"The run reached its limit of {self.max_turns} turns.",
                kind="turns",
                hint="Raise it with --max-turns, or ask for less in one run.",
            )
        tokens = self._input_tokens(request_bytes)
        least = min(max_output_tokens, LEAST_OUTPUT_TOKENS)
        input_price, output_price = self._prices(is_cached)
        affordable = max_output_tokens
        if self.max_budget_usd is not None and self.price is not None:
            affordable = self._affordable(self.max_budget_usd, tokens * input_price, least, output_price)
        elif self.max_budget_usd is not None and self.max_tokens:
            affordable = self._left_in_tokens(self.max_tokens, tokens, least)
        allowed = self.last_max_output_tokens = min(max_output_tokens, affordable)
        admission = Admission(
            self,
            request_bytes=request_bytes,
            max_output_tokens=allowed,
            tokens=tokens + allowed,
            usd=tokens * input_price + allowed * output_price,
        )
        self._open.add(admission)
        return admission

    async def admit_in_turn(
        self, request_bytes: int, max_output_tokens: int, *, is_cached: bool = True
    ) -> Admission:
        """``admit``, once the requests under way have left enough; what they hold, they seldom spend."""
        while True:
            try:
                return self.admit(request_bytes, max_output_tokens, is_cached=is_cached)
            except ModelError as error:
                if error.kind == "turns" or not self._open:
                    raise
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]

    def _prices(self, is_cached: bool) -> tuple[float, float]:
        if self.price is None:
            return 0.0, 0.0
        return self.price.dearest_input if is_cached else self.price.input, self.price.output

    def _affordable(self, budget: float, input_usd: float, least: int, output_price: float) -> int:
        """How many output tokens the budget still pays for."""
        held = sum(each.usd for each in self._open)
        left = budget - self._spent_usd - held - input_usd
        if left < least * output_price:
            needed = input_usd + least * output_price
            others = f", {_usd(held)} is held for requests under way" if held else ""
            raise ModelError(
                f"The next request could go over the run's budget of {_usd(budget)}: {_usd(self._spent_usd)} "
                f"is spent{others}, and it may cost {_usd(needed)}.",
                kind="budget",
                hint="Raise it with --max-budget-usd, or ask for less.",
            )
        # a millionth more, so that 2 800 does not become 2 799 on its way through binary fractions
        return int(left / output_price + 1e-6) if output_price else 1 << 62

    def _left_in_tokens(self, limit: int, input_tokens: float, least: int) -> int:
        held = sum(each.tokens for each in self._open)
        left = limit - self._used_tokens - held - input_tokens
        if left < least:
            others = f", {held:,.0f} are held for requests under way" if held else ""
            raise ModelError(
                f"The next request could go over the run's limit of {limit:,} tokens, which stands in for a budget "
                f"because its price is unknown: {self._used_tokens:,.0f} are used{others}, and it may need "
                f"{input_tokens + least:,.0f}.",
                kind="tokens",
                hint="Raise unknown_price_token_limit in the settings, or ask for less in one run.",
            )
        return int(left)

    def _input_tokens(self, request_bytes: int) -> float:
        """At most how many tokens a request has, as far as can be told before it is sent."""
        estimate = ADDED_TOKENS + request_bytes * self._densest
        known_bytes, known_tokens = self._longest
        if known_bytes and request_bytes >= known_bytes:
            grown = known_tokens + (request_bytes - known_bytes) * self._densest
            return min(estimate, grown)
        return estimate

    def _settled(self, admission: Admission, usage: UsageReported, cache_write_1h_tokens: int) -> None:
        given = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        is_measured = given > 0  # no request is empty
        # what nobody counted has a price that nobody knows, and may have been all that it was allowed
        answered_by = usage.model or self.model.model
        cost = (
            _cost_usd(usage, answered_by, self.model.provider, cache_write_1h_tokens) if is_measured else None
        )
        if self.model.is_rehearsal:
            cost = 0.0
        self._used_tokens += given + usage.output_tokens if is_measured else _most_tokens(admission, usage)
        self._spent_usd += cost if cost is not None else self._at_worst(admission, usage, is_measured)
        if given and admission.request_bytes:
            self._densest = max(self._densest, (given - ADDED_TOKENS) / admission.request_bytes)
            if admission.request_bytes >= self._longest[0]:
                self._longest = (admission.request_bytes, given)
        total = self._totals
        self._totals = total.changed(
            input_tokens=total.input_tokens + usage.input_tokens,
            output_tokens=total.output_tokens + usage.output_tokens,
            cache_read_tokens=total.cache_read_tokens + usage.cache_read_tokens,
            cache_write_tokens=total.cache_write_tokens + usage.cache_write_tokens,
            cost_usd=None if cost is None or total.cost_usd is None else total.cost_usd + cost,
            num_turns=total.num_turns + 1,
        )

    def _left(self, admission: Admission) -> None:
        self._open.discard(admission)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                # not before what was spent is counted, which follows at once
                each.get_loop().call_soon(_wake, each)

    def _lost(self, admission: Admission) -> None:
        self._num_lost += 1
        self._spent_usd += admission.usd
        self._used_tokens += admission.tokens

    def _cost_before(self, before: UsageReported) -> float:
        if before.cost_usd is not None or self.price is None:
            return before.cost_usd or 0.0
        given = _all_tokens(before) - before.output_tokens
        return given * self.price.dearest_input + before.output_tokens * self.price.output

    def _at_worst(self, admission: Admission, usage: UsageReported, is_measured: bool) -> float:
        """What an answer without a price of its own may have cost."""
        if self.price is None or not is_measured:
            return admission.usd
        written = usage.input_tokens + usage.cache_write_tokens
        return (
            written * self.price.dearest_input
            + usage.cache_read_tokens * self.price.cache_read
            + usage.output_tokens * self.price.output
        )

    def _note(self) -> str:
        if self.price is not None or not self.max_budget_usd:
            return ""
        unknown = (
            f"The price of {self.model.model} is unknown, so the budget of ${self.max_budget_usd:g} "
            "cannot be watched"
        )
        stands_in = f"; a limit of {self.max_tokens:,} tokens stands in for it" if self.max_tokens else ""
        return f"{unknown}{stands_in}."


def _all_tokens(usage: UsageReported) -> int:
    return usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _most_tokens(admission: Admission, usage: UsageReported) -> float:
    """What an answer may have used whose input nobody counted."""
    written = usage.output_tokens or admission.max_output_tokens
    return admission.tokens - admission.max_output_tokens + written


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _usd(amount: float) -> str:
    """An amount to the hundredth of a cent.

    >>> _usd(0.05), _usd(0.31504), _usd(2.0)
    ('$0.05', '$0.315', '$2')
    """
    return f"${amount:.4f}".rstrip("0").rstrip(".")


def _found(model_name: str, provider_name: str) -> tuple[Any, Any] | None:
    """The provider and the model in the price list."""
    if provider_name not in _PRICED_BY:
        return None
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model_name, None, _PRICED_BY[provider_name], None)
    except LookupError:
        return None


def _dearest(price: Any) -> float | None:
    """US dollars per token of a price per million, at its dearest tier."""
    if price is None:
        return None
    tiers = [price.base, *(tier.price for tier in price.tiers)] if hasattr(price, "tiers") else [price]
    return float(max(tiers) / 1_000_000)


def _cost_usd(
    usage: UsageReported, model_name: str, provider: str, cache_write_1h_tokens: int
) -> float | None:
    found = _found(model_name, provider)
    if found is None:
        return None
    from genai_prices import Usage

    counted = Usage(
        input_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    if cache_write_1h_tokens:
        counted.cache_write_1h_tokens = cache_write_1h_tokens
    try:
        return float(found[1].calc_price(counted, found[0]).total_price)
    except (LookupError, AssertionError, ValueError):  # a list that contradicts itself, or counts that do
        return None
