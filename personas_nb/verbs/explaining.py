"""What a run would be, without running it: no model, no network, no row."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from personas_nb.errors import ModelError, PersonaError
from personas_nb.verbs.call import Call, noted

if TYPE_CHECKING:
    from personas_nb.engine.models import ResolvedModel
    from personas_nb.entities.persona import Persona
    from personas_nb.entities.tool import ToolDefinition
    from personas_nb.settings import Settings
    from personas_nb.views.explain import PlannedTool
    from personas_nb.views.limits import Limit
    from personas_nb.views.view import View


def explained(call: Call, persona: Persona, given: Any) -> View:
    """Prompt, tools, engine, limits and cost of a run that is not begun."""
    from personas_nb.engine.estimate import tokens_in
    from personas_nb.engine.models import key_redactor
    from personas_nb.engine.prompt import as_text, assemble
    from personas_nb.vault.access import access_of, known_secrets
    from personas_nb.views.explain import Plan, explain

    studio, settings = call.studio, call.studio.settings
    model, missing = resolved(call, persona)
    text, tools = as_text(given), studio.tools.assigned(persona)
    limit = settings.memory_limit_chars
    is_rehearsal = model is not None and model.is_rehearsal
    told, _why = studio.memories.recall(persona.id, text, limit, rehearsal=is_rehearsal)
    memories = told if persona.uses_memories else []
    redactor = key_redactor(settings, more=known_secrets(studio.credentials)[0])
    prompt = assemble(
        persona,
        tools=tools,
        credentials=access_of(studio.credentials, tools, redactor).hints(tools),
        memories=memories,
        input=text,
        boundary="data-(random in a run)",
    )
    prompt = redactor.redact(prompt)
    prompt_tokens = tokens_in(prompt) + _tool_tokens(tools)
    cost, why, is_priced = _cost(call, persona, model, prompt_tokens)
    limits = applied_limits(settings, persona, call["max_budget_usd"], call["max_turns"], call["timeout"])
    plan = Plan(
        name=persona.name,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        tools=_planned(call, persona, tools),
        limits=[*limits, *_output_limits(settings, model.engine if model else "direct", is_priced=is_priced)],
        provider=model.provider if model else "",
        model=model.model if model else "",
        engine=model.engine if model else "",
        server=model.base_url if model else "",
        memories_count=len(memories),
        files=[str(file) for file in call["file"] or ()],
        cost=cost,
        cost_why=why,
        missing=missing,
        bypass=persona.permissions == "bypass",
        rehearsal=model is not None and model.is_rehearsal,
    )
    return noted(explain(plan), *call.filling.notes, *(model.notes if model else ()))


def resolved(call: Call, persona: Persona) -> tuple[ResolvedModel | None, list[str]]:
    """What the run would think with, also where its key is missing; and what keeps the run from beginning."""
    from pydantic import SecretStr

    from personas_nb.engine.models import KEY_VARIABLES, resolve
    from personas_nb.entities.model_profile import ModelProfile

    # Only whether there is a token matters here: the vault stays closed.
    told: dict[str, Any] = {"settings": call.studio.settings, "reveal": lambda _credential_id: "stored"}
    missing = []
    if not persona.enabled or persona.archived_at is not None:
        missing.append(f"{persona.name} is off. Type `%persona enable {persona.slug}`.")
    try:
        return resolve(persona.model_profile, provider=call["provider"], **told), missing
    except ModelError as error:
        missing.append(str(error))
        if error.kind != "credential":
            return None, missing
    except PersonaError as error:
        return None, [*missing, str(error)]
    # The same with a key in its place, for its name and price; it goes nowhere.
    profile = (persona.model_profile or ModelProfile()).changed(auth_token=SecretStr("a key that is missing"))
    environ = {**os.environ, KEY_VARIABLES["anthropic"]: "a key that is missing"}
    return resolve(profile, provider="anthropic", environ=environ, **told), missing


def applied_limits(
    settings: Settings,
    persona: Persona | None,
    max_budget_usd: float | None,
    max_turns: int | None,
    timeout_ms: int | None,
) -> list[Limit]:
    """The limits of a run, the nearest first: those that it was given, its persona's, the settings'."""
    from personas_nb.views.limits import Limit

    given = {"max_budget_usd": max_budget_usd, "max_turns": max_turns, "timeout_ms": timeout_ms}
    limits = []
    for name, value in given.items():
        sources = (
            ("this run", value), ("its persona", getattr(persona, name, None)), ("settings", getattr(settings, name)),
        )  # fmt: skip
        source, found = next((source, value) for source, value in sources if value is not None)
        limits.append(Limit(name, found, source))
    return limits


def _output_limits(settings: Settings, engine: str, *, is_priced: bool) -> list[Limit]:
    from personas_nb.views.limits import Limit

    limits = [
        Limit("tokens_of_one_answer", _longest_answer_tokens(engine)),
        Limit("stored_output_bytes", settings.output_limit_bytes, "settings; the rest is in the log"),
    ]
    if not is_priced:
        stand_in = "settings; stands in for the budget, for the price is unknown"
        limits.insert(1, Limit("tokens", settings.unknown_price_token_limit, stand_in))
    return limits


def _longest_answer_tokens(engine: str) -> int:
    from personas_nb.engine.agents.job import OUTPUT_TOKENS

    return OUTPUT_TOKENS[engine]


def _cost(
    call: Call, persona: Persona, model: ResolvedModel | None, prompt_tokens: int
) -> tuple[str, str, bool]:
    """The range in words, why it is so, and whether the price is known."""
    from personas_nb.engine.estimate import SHORT_ANSWER_TOKENS, cost_range
    from personas_nb.engine.spending import price_of
    from personas_nb.views.marks import money

    if model is None:
        return "Unknown: it is not settled which model would run.", "", True
    if model.is_rehearsal:
        return "$0 (rehearsal).", "", True
    price = price_of(model.model, model.provider)
    if price is None:
        return f"Unknown: the price of {model.model} is not known here.", "", False
    budget, turns, _ = applied_limits(
        call.studio.settings, persona, call["max_budget_usd"], call["max_turns"], call["timeout"]
    )
    found = cost_range(
        price,
        prompt_tokens=prompt_tokens,
        max_turns=int(turns.value or 1),
        max_budget_usd=budget.value,
        max_output_tokens=_longest_answer_tokens(model.engine),
    )
    if found.is_short:
        least = money(prompt_tokens * price.input + SHORT_ANSWER_TOKENS * price.output)
        short = (
            f"Nothing: the budget of {money(budget.value)} does not pay for one request ({least} or more)."
        )
        return short, "It would be refused before anything is sent.", True
    most = "at most its budget" if found.is_budget else f"at most {turns.value} full turns"
    why = (
        f"An estimate. At least one request of about {prompt_tokens:,} tokens with an answer of "
        f"{SHORT_ANSWER_TOKENS}; {most}."
    )
    return f"{money(found.lower_usd)} to {money(found.upper_usd)}.", why, True


def _tool_tokens(tools: list[ToolDefinition]) -> int:
    """What the tools' descriptions add to a request, the protocol's own included."""
    import json

    from personas_nb.engine.estimate import tokens_in
    from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe

    told = [f"{tool.name} {tool.description} {json.dumps(tool.input_schema)}" for tool in tools]
    told += [f"{kind} {describe(kind)} {json.dumps(body_schema(kind))}" for kind in PROTOCOL_KINDS]
    return sum(map(tokens_in, told))


def _planned(call: Call, persona: Persona, tools: list[ToolDefinition]) -> list[PlannedTool]:
    from personas_nb.vault.lookup import matches
    from personas_nb.views.explain import PlannedTool

    studio = call.studio
    connectors, credentials = studio.connectors.list(), studio.credentials.list()
    asking = studio.tools.needing_approval(persona)
    planned = []
    for tool in tools:
        needed = tool.requires_credential_type
        names = tuple(match.credential.name for match in matches(tool, connectors, credentials))
        planned.append(
            PlannedTool(
                tool.name,
                tool.effect,
                f"a credential of {needed}" if needed else "",
                bool(needed) and not names,
                names,
                tool.name in asking,
            )
        )
    return planned
