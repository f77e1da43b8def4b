"""What a design may cost, a run and a month: arithmetic on the price of a model and on its schedules. Asks nobody."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from pydantic import SecretStr

from personas_nb.engine.agents.job import OUTPUT_TOKENS
from personas_nb.engine.estimate import CostRange, cost_range, tokens_in
from personas_nb.engine.models import KEY_VARIABLES, ResolvedModel, resolve
from personas_nb.engine.prompt import assemble
from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe
from personas_nb.engine.spending import Price, price_of
from personas_nb.entities.design import DesignResult, SuggestedTrigger
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.persona import Persona
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import PersonaError
from personas_nb.settings import Settings
from personas_nb.triggers import cron

TOOL_RESULT_TOKENS = 1_000  # what one tool call adds to the requests after it
ANSWER_TOKENS = 300
_MONTH_SECONDS = 365.25 / 12 * 86_400


@dataclass(frozen=True)
class DesignCost:
    """``per_run`` is None where the price is unknown; ``likely_usd`` is a run that calls each tool once.

    ``runs_a_month`` is an average over a year, None without a schedule or an interval. ``is_at_most``: an interval
    only looks, and starts a run when a page has changed. ``rehearsal``: as things are it costs nothing, and the
    figures are those of ``model``, which would be asked if there were a key.
    """

    model: str
    per_run: CostRange | None = None
    likely_usd: float | None = None
    runs_a_month: float | None = None
    is_at_most: bool = False
    rehearsal: bool = False


def estimated(
    result: DesignResult, *, tools: Sequence[ToolDefinition], settings: Settings, provider: str | None = None
) -> DesignCost | None:
    """What runs of a design would cost by the settings as they are; None where no model can be named.

    ``tools`` is the catalog, ``provider`` the one that was asked for.
    """
    try:
        model, rehearsal = _model(result, settings, provider)
    except PersonaError:  # such as a provider that a file names and nobody knows
        return None
    triggers = result.suggested_triggers
    often = runs_a_month(triggers)
    at_most = any(trigger.config.get("url") for trigger in triggers)
    price = price_of(model.model, model.provider)
    if price is None:
        return DesignCost(model.model, runs_a_month=often, is_at_most=at_most, rehearsal=rehearsal)
    used = [tool for tool in tools if tool.name in result.suggested_tools]
    prompt_tokens = _prompt_tokens(result, used)
    wanted = result.suggested_settings
    budget = (
        wanted.max_budget_usd if wanted and wanted.max_budget_usd is not None else settings.max_budget_usd
    )
    turns = wanted.max_turns if wanted and wanted.max_turns else settings.max_turns
    found = cost_range(
        price,
        prompt_tokens=prompt_tokens,
        max_turns=turns or 1,
        max_budget_usd=budget,
        max_output_tokens=OUTPUT_TOKENS[model.engine],
    )
    likely = min(max(_likely(price, prompt_tokens, len(used)), found.lower_usd), found.upper_usd)
    return DesignCost(model.model, found, likely, often, at_most, rehearsal)


def runs_a_month(triggers: Iterable[SuggestedTrigger], *, since: date | None = None) -> float | None:
    """How often schedules and intervals start a run in a month, on an average over a year; None if none does.

    >>> daily = SuggestedTrigger(trigger_type="schedule", config={"cron": "0 9 * * *"})
    >>> round(runs_a_month([daily]))
    30
    """
    counts = [count for trigger in triggers if (count := _runs_a_month(trigger, since)) is not None]
    return sum(counts) if counts else None


def _runs_a_month(trigger: SuggestedTrigger, since: date | None) -> float | None:
    seconds = trigger.config.get("interval_seconds")
    if trigger.trigger_type == "polling" and isinstance(seconds, int) and seconds > 0:
        return _MONTH_SECONDS / seconds
    if trigger.trigger_type != "schedule":
        return None
    try:
        plan = cron.parse(str(trigger.config.get("cron", "")))
    except PersonaError:
        return None
    first = since or date.today()
    days = sum(_fires_on(plan, first + timedelta(days=number)) for number in range(365))
    return len(plan.minutes) * len(plan.hours) * days / 12


def _fires_on(plan: cron.Cron, day: date) -> bool:
    of_month, of_week = day.day in plan.days, day.isoweekday() % 7 in plan.weekdays
    fits = of_month or of_week if plan.either_day else of_month and of_week
    return fits and day.month in plan.months


def _model(result: DesignResult, settings: Settings, provider: str | None) -> tuple[ResolvedModel, bool]:
    """The model that runs would ask, and whether there is only rehearsal until somebody gives a key."""
    profile = result.suggested_model_profile
    try:
        model = resolve(profile, settings=settings, provider=provider, reveal=lambda _id: "stored")
    except PersonaError:
        model = None
    if model and not model.is_rehearsal:
        return model, False
    # As if there were a key, for a name and a price; it goes nowhere.
    named = (profile or ModelProfile()).changed(auth_token=SecretStr("a key that is missing"))
    environ = {KEY_VARIABLES["anthropic"]: "a key that is missing"}
    return resolve(named, settings=settings, provider="anthropic", environ=environ), model is not None


def _prompt_tokens(result: DesignResult, tools: Sequence[ToolDefinition]) -> int:
    """The prompt as a run would assemble it, with the descriptions of the tools and of the protocol."""
    persona = Persona(name=result.name or "Persona", structured_prompt=result.structured_prompt)
    told = [assemble(persona, tools=list(tools), boundary="data")]
    told += [f"{tool.name} {tool.description} {json.dumps(tool.input_schema)}" for tool in tools]
    told += [f"{kind} {describe(kind)} {json.dumps(body_schema(kind))}" for kind in PROTOCOL_KINDS]
    return sum(map(tokens_in, told))


def _likely(price: Price, prompt_tokens: int, tool_count: int) -> float:
    """Each tool is called once, one after the other, and each result is read again by the requests after it."""
    requests = tool_count + 1
    read = requests * prompt_tokens + TOOL_RESULT_TOKENS * tool_count * requests / 2
    return read * price.input + requests * ANSWER_TOKENS * price.output
