"""Verbs that run personas, and follow, show and end runs."""

from __future__ import annotations

import keyword
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from personas_nb.errors import Cancelled, ExecutionError, ExecutionFailed, PersonaError
from personas_nb.verbs.call import Call, noted
from personas_nb.verbs.usage import WrongUsage
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.engine.executions import RunHandle
    from personas_nb.engine.models import ResolvedModel
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.persona import Persona
    from personas_nb.views.stream import RunStream

TICK_SECONDS = 0.12


class Stopped(PersonaError):
    """The person stopped watching; what was watched goes on."""

    code = "STOPPED"


def run(call: Call) -> Any:
    """Run a persona and watch it."""
    variable = call.arguments.get("output")
    if variable is not None and (not variable.isidentifier() or keyword.iskeyword(variable)):
        raise WrongUsage(f"“{variable}” cannot name a variable.", hint="Such as -o result.")
    if call["background"] and not call.surface.is_kernel:
        raise WrongUsage(
            "A run in the background ends with this process.",
            hint="Leave --background out, or run it in a notebook.",
        )
    persona = _persona(call)
    given = call.input()
    model = _resolved(call, persona)
    if call["explain"]:
        return _explained(call, persona, given, model)
    handle = call.studio.start(
        persona,
        given,
        call["file"],
        provider=call["provider"],
        max_budget_usd=call["max_budget_usd"],
        max_turns=call["max_turns"],
        timeout_ms=call["timeout"],
    )
    if call["background"]:
        if variable:
            call.surface.keep(variable, handle)
        return _in_background(persona, handle)
    notes = (*call.filling.notes, *(model.notes if model else ()))
    execution = _followed(call, handle, _stream(persona.name, model), notes)
    return _result(call, execution, quiet=call["quiet"])


def runs(call: Call) -> View:
    """Runs as a table."""
    from personas_nb.views.executions import execution_list

    found = call.studio.executions.list(call["persona"], status=call["status"], limit=call["limit"])
    return execution_list(found, tz=call.tz)


def show(call: Call) -> View:
    """Every moment of a run."""
    from personas_nb.views.executions import execution_timeline

    executions = call.studio.executions
    execution = executions.get(call["id"])
    events = [(datetime.fromisoformat(at), event) for _seq, at, event in executions.recorded(execution.id)]
    return execution_timeline(execution, events, tz=call.tz)


def cancel(call: Call) -> View:
    """End a run."""
    from personas_nb.views.notices import notice

    executions = call.studio.executions
    before = executions.get(call["id"])
    step = f"%persona runs show {before.id[:8]}"
    if before.is_finished:
        said = f"The run {before.id[:8]} had ended before ({before.status}); it stays so."
        return replace(notice(said, step, status="unchanged"), value=before)
    after = executions.cancel(before.id)
    said = f"The run {after.id[:8]} of {after.persona_name} is cancelled; what it had is kept."
    if not after.is_finished:
        said = f"The run {after.id[:8]} of {after.persona_name} was asked to end; its process has not answered yet."
    return replace(notice(said, step, status="cancelled" if after.is_finished else "running"), value=after)


def wait(call: Call) -> Any:
    """Follow a run to its end; an interrupt stops watching only."""
    executions = call.studio.executions
    execution = executions.get(call["id"])
    stream = _stream(execution.persona_name, None, execution)
    execution = _followed(call, executions.handle(execution.id), stream, (), began=execution, cancels=False)
    return _result(call, execution, quiet=False)


# ── following ───────────────────────────────────────────────────────────────────────────────────────────────


def _stream(name: str, model: ResolvedModel | None, execution: Execution | None = None) -> RunStream:
    from personas_nb.views.stream import RunStream

    if execution is not None:
        return RunStream(
            name, rehearsal=execution.rehearsal, provider=execution.provider or "", model=execution.model_used
        )
    is_rehearsal = model is not None and model.is_rehearsal
    return RunStream(
        name,
        rehearsal=is_rehearsal,
        provider=model.provider if model else "",
        model=model.model if model and not is_rehearsal else None,
    )


def _followed(
    call: Call,
    handle: RunHandle,
    stream: RunStream,
    notes: tuple[str, ...],
    *,
    began: Execution | None = None,
    cancels: bool = True,
) -> Execution:
    """The finished run, shown while it goes on and at its end; an interrupt ends it, or only the watching."""
    watch = None if call.arguments.get("quiet") else call.surface.watch()
    started = time.monotonic() - _age_seconds(began)

    def end(execution: Execution) -> None:
        if variable := call.arguments.get("output"):
            call.surface.keep(variable, execution)  # before anything can be raised
        if watch is not None:
            rows = _rows_of(call, execution)
            new = tuple(note for note in notes if note not in execution.warnings)
            without = _card(stream, execution, "", rows, new, call.tz)
            watch.end(_card(stream, execution, None, rows, new, call.tz), without)

    try:
        for batch in handle.batches(TICK_SECONDS):
            for event in batch:
                stream.add(event)
            if watch is not None:
                watch.see(list(batch), stream, round((time.monotonic() - started) * 1000))
    except KeyboardInterrupt as stop:
        if not cancels:
            raise Stopped(
                f"The run {handle.id[:8]} goes on; you only stopped watching.",
                hint=f"End it with `%persona runs cancel {handle.id[:8]}`.",
            ) from stop
        error = handle.interrupted()
        end(error.execution)
        raise error from stop
    execution = call.studio.executions.get(handle.id)
    end(execution)
    return execution


def _age_seconds(execution: Execution | None) -> float:
    """How long ago the run began; 0 for one that is only beginning."""
    if execution is None or execution.started_at is None:
        return 0.0
    return max((datetime.now(UTC) - execution.started_at).total_seconds(), 0.0)


def _card(
    stream: RunStream,
    execution: Execution,
    text: str | None,
    rows: dict[str, Any],
    notes: tuple[str, ...],
    tz: str,
) -> View:
    from personas_nb.views.executions import execution_card

    if text is None:
        return noted(stream.final(execution, tz=tz, **rows), *notes)
    return noted(execution_card(execution, text=text, tz=tz, **rows), *notes)


def _rows_of(call: Call, execution: Execution) -> dict[str, Any]:
    """What the run wrote, for its card."""
    from personas_nb.entities.event import Event

    studio = call.studio
    memories = [m for m in studio.memories.list() if m.source_execution_id == execution.id]
    events = studio.store.table("events", Event).find(
        "execution_id = ? and source_type = 'persona'", [execution.id], order_by="created_at"
    )
    return {
        "messages": list(reversed(studio.messages.list(execution_id=execution.id))),
        "reviews": list(reversed(studio.reviews.list(status=None, execution_id=execution.id))),
        "memories": list(reversed(memories)),
        "events": events,
    }


def _result(call: Call, execution: Execution, *, quiet: bool) -> Any:
    """The execution as the verb's result; raises for one that failed or was cancelled, unless told not to."""
    if execution.status in ("failed", "cancelled") and not call["no_raise"]:
        raise _error_of(execution)
    return call.surface.result(execution, quiet=quiet)


def _error_of(execution: Execution) -> ExecutionError:
    hint = f"Everything it did: `%persona runs show {execution.id[:8]}`."
    if execution.status == "cancelled":
        return Cancelled(
            f"The run of {execution.persona_name} was cancelled.", execution=execution, hint=hint
        )
    why = (execution.error or "no reason is known").strip()
    return ExecutionFailed(
        f"The run of {execution.persona_name} failed: {why if why.endswith(('.', '!', '?')) else why + '.'}",
        execution=execution,
        hint=hint,
    )


# ── without running ─────────────────────────────────────────────────────────────────────────────────────────


def _persona(call: Call) -> Persona:
    """The persona that is named; where an input was typed behind its name, says where that belongs."""
    from personas_nb.errors import NotFound

    name = call["name"]
    try:
        return call.studio.personas.get(name)
    except NotFound:
        first, _, rest = name.partition(" ")
        slugs = {persona.slug for persona in call.studio.personas.list()}
        if not rest or first not in slugs:
            raise
    hint = f"Write it into the cell below `%%persona run {first}`."
    if not call.surface.is_kernel:
        hint = f"Pipe it: `echo … | personas run {first} -`."
    raise WrongUsage("The input does not belong on the line.", hint=hint)


def _resolved(call: Call, persona: Persona) -> ResolvedModel | None:
    """What the run will think with; None where that fails, which the run itself then says."""
    from personas_nb.engine.models import resolve

    with suppress(PersonaError):
        # Only whether there is a token matters here: the vault stays closed.
        return resolve(
            persona.model_profile,
            settings=call.studio.settings,
            provider=call["provider"],
            reveal=lambda _credential_id: "stored",
        )
    return None


def _explained(call: Call, persona: Persona, given: Any, model: ResolvedModel | None) -> View:
    from personas_nb.engine.models import key_redactor
    from personas_nb.engine.prompt import as_text, assemble
    from personas_nb.views.executions import explain
    from personas_nb.views.marks import duration

    studio, settings = call.studio, call.studio.settings
    tools = studio.tools.assigned(persona)
    text = as_text(given)
    memories = (
        studio.memories.relevant(persona.id, text, limit_chars=settings.memory_limit_chars)
        if persona.uses_memories
        else []
    )
    prompt = assemble(persona, tools=tools, memories=memories, input=text, boundary="data-(random in a run)")

    def first(*values: Any) -> Any:
        return next(value for value in values if value is not None)

    limits = {
        "provider": f"{model.provider} · {model.model}" if model else "none: no key",
        "max_budget_usd": first(call["max_budget_usd"], persona.max_budget_usd, settings.max_budget_usd),
        "max_turns": first(call["max_turns"], persona.max_turns, settings.max_turns),
        "timeout": duration(first(call["timeout"], persona.timeout_ms, settings.timeout_ms)),
    }
    view = explain(key_redactor(settings).redact(prompt), tools, limits)
    return noted(view, *call.filling.notes, *(model.notes if model else ()))


def _in_background(persona: Persona, handle: RunHandle) -> View:
    from personas_nb.views.notices import notice

    said = f"{persona.name} runs in the background: run {handle.id[:8]}."
    return replace(notice(said, f"%persona runs wait {handle.id[:8]}", status="running"), value=handle)
