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
    from personas_nb.views.executions import Sequel
    from personas_nb.views.stream import RunStream

TICK_SECONDS = 0.12
HEALING_SECONDS = 2.0
HELD_SECONDS = 2.0


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
    if call["explain"]:
        from personas_nb.verbs.explaining import explained

        return explained(call, persona, given)
    model = _resolved(call, persona)
    handle = started(call, persona, given)
    if call["background"]:
        if variable:
            call.surface.keep(variable, handle)
        return _in_background(persona, handle)
    notes = (*call.filling.notes, *(model.notes if model else ()))
    bypass = persona.permissions == "bypass"
    execution, sequel = _followed(call, handle, _stream(persona.name, model, bypass=bypass), notes)
    return _result(call, execution, sequel, quiet=call["quiet"])


def runs(call: Call) -> View:
    """Runs as a table."""
    from personas_nb.views.executions import execution_list
    from personas_nb.views.personas import bypassing

    found = call.studio.executions.list(call["persona"], status=call["status"], limit=call["limit"])
    may_all = bypassing(call.studio.personas.list(include_archived=True))
    return execution_list(found, bypassing=may_all, tz=call.tz)


def show(call: Call) -> View:
    """Every moment of a run, and its flow as a graph."""
    from personas_nb.verbs.explaining import applied_limits
    from personas_nb.views.timeline import execution_timeline

    studio, executions = call.studio, call.studio.executions
    execution = executions.get(call["id"])
    persona = _owner(call, execution)
    given = (execution.max_budget_usd, execution.max_turns, execution.timeout_ms)
    return execution_timeline(
        execution,
        [(datetime.fromisoformat(at), event) for _seq, at, event in executions.recorded(execution.id)],
        reviews=list(reversed(studio.reviews.list(status=None, execution_id=execution.id))),
        retries=executions.table.find("retry_of = ?", [execution.id], order_by="created_at"),
        healed=studio.healing.of(execution).sentence if execution.status == "failed" else "",
        limits=applied_limits(studio.settings, persona, *given),
        current_version=persona.version if persona else None,
        bypass=_may_all(persona),
        tz=call.tz,
    )


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
    bypass = _may_all(_owner(call, execution))
    stream = _stream(execution.persona_name, None, execution, bypass=bypass, tz=call.tz)
    handle = executions.handle(execution.id)
    execution, sequel = _followed(call, handle, stream, (), began=execution, cancels=False)
    return _result(call, execution, sequel, quiet=False)


# ── following ───────────────────────────────────────────────────────────────────────────────────────────────


def _stream(
    name: str,
    model: ResolvedModel | None,
    execution: Execution | None = None,
    *,
    bypass: bool = False,
    tz: str = "UTC",
) -> RunStream:
    from personas_nb.views import marks
    from personas_nb.views.stream import RunStream

    if execution is not None:
        return RunStream(
            name,
            rehearsal=execution.rehearsal,
            provider=execution.provider or "",
            model=execution.model_used,
            bypass=bypass,
            status=execution.status,
            begins=f"{marks.instant(execution.scheduled_at, tz)} {tz}" if execution.scheduled_at else "",
        )
    is_rehearsal = model is not None and model.is_rehearsal
    return RunStream(
        name,
        rehearsal=is_rehearsal,
        provider=model.provider if model else "",
        model=model.model if model and not is_rehearsal else None,
        bypass=bypass,
    )


def _owner(call: Call, execution: Execution) -> Persona | None:
    """The persona of a run as it is now; None where it is gone."""
    with suppress(PersonaError):
        return call.studio.personas.get(execution.persona_id)
    return None


def _may_all(persona: Persona | None) -> bool:
    return persona is not None and persona.permissions == "bypass"


def _followed(
    call: Call,
    handle: RunHandle,
    stream: RunStream,
    notes: tuple[str, ...],
    *,
    began: Execution | None = None,
    cancels: bool = True,
) -> tuple[Execution, Sequel]:
    """The finished run and what comes of it, shown meanwhile; an interrupt ends it, or only the watching."""
    watch = None if call.arguments.get("quiet") else call.surface.watch()
    looked = time.monotonic()
    started = looked - _age_seconds(began)

    def end(execution: Execution, sequel: Sequel | None = None) -> None:
        if variable := call.arguments.get("output"):
            call.surface.keep(variable, execution)  # before anything can be raised
        if watch is not None:
            rows = _rows_of(call, execution) | {"sequel": sequel}
            new = tuple(note for note in notes if note not in execution.warnings)
            without = _card(stream, execution, "", rows, new, call.tz)
            watch.end(_card(stream, execution, None, rows, new, call.tz), without)

    try:
        for batch in handle.batches(TICK_SECONDS):
            for event in batch:
                stream.add(event)
            if not stream.has_begun:
                started = time.monotonic()
                looked = _look_at_queue(call, handle, stream, looked)
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
    sequel = _sequel(call, execution, is_mine=handle.ended is not None)
    end(execution, sequel)
    return execution, sequel


def _sequel(call: Call, execution: Execution, *, is_mine: bool) -> Sequel:
    """What is done about a failed run; ``is_mine``: by this process, so that it ends with it."""
    from personas_nb.engine.healing import is_mendable
    from personas_nb.views.executions import Sequel

    if not is_mendable(execution):
        return Sequel()
    until = time.monotonic() + HEALING_SECONDS
    while not (done := call.studio.healing.of(execution)).sentence and not is_mine:
        # Another process stores that its run has failed, and a moment later what it does about it.
        age = datetime.now(UTC) - (execution.completed_at or execution.created_at)
        if time.monotonic() > until or age.total_seconds() > HEALING_SECONDS:
            break
        time.sleep(TICK_SECONDS)
    retry = done.retry
    if retry is None or retry.is_finished or not is_mine:
        return Sequel(done.sentence, retry)
    if not call.surface.is_kernel:
        return Sequel(_by_hand(call, call.studio.executions.cancel(retry.id)))
    is_later = retry.status == "queued" and " (in " in done.sentence
    return Sequel(
        f"{done.sentence[:-1]}, if this kernel still runs then." if is_later else done.sentence, retry
    )


def _by_hand(call: Call, retry: Execution) -> str:
    """What to do where a retry would end with the process of the verb."""
    from personas_nb.views import marks

    ending = "It is not tried again by itself, for this process ends"
    if retry.scheduled_at is not None and retry.scheduled_at > datetime.now(UTC):
        return f"{ending}; run it again after {marks.instant(retry.scheduled_at, call.tz)} {call.tz}."
    return f"{ending}; run it again with --timeout {(retry.timeout_ms or 0) / 1000:g}s."


def _look_at_queue(call: Call, handle: RunHandle, stream: RunStream, looked: float) -> float:
    """Say that a queued run has begun, or that nothing takes it; when the latter was last looked at."""
    execution = call.studio.executions.whole(handle.id)
    if execution.status != "queued":
        stream.begin()
    elif not stream.held and time.monotonic() - looked > HELD_SECONDS:
        stream.hold(_held(call, execution))
        return time.monotonic()
    return looked


def _held(call: Call, execution: Execution) -> str:
    """That no process takes a run which any may take; empty where one does, or its time has not come."""
    is_later = execution.scheduled_at is not None and execution.scheduled_at > datetime.now(UTC)
    if execution.worker_id is not None or is_later:
        return ""
    status = call.studio.triggers.status()
    if status.is_running or status.stands_by:
        return ""
    verb = "%persona triggers start" if call.surface.is_kernel else "personas triggers run"
    return f"It is queued; nothing takes it now. `{verb}` does."


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
    return noted(execution_card(execution, text=text, bypass=stream.bypass, tz=tz, **rows), *notes)


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


def _result(call: Call, execution: Execution, sequel: Sequel, *, quiet: bool) -> Any:
    """The execution as the verb's result; raises for one that failed or was cancelled, unless told not to."""
    if execution.status in ("failed", "cancelled") and not call["no_raise"]:
        raise _error_of(execution, sequel)
    return call.surface.result(execution, quiet=quiet)


def _error_of(execution: Execution, sequel: Sequel) -> ExecutionError:
    hint = f"Everything it did: `%persona runs show {execution.id[:8]}`."
    if execution.status == "cancelled":
        return Cancelled(
            f"The run of {execution.persona_name} was cancelled.", execution=execution, hint=hint
        )
    why = (execution.error or "no reason is known").strip()
    return ExecutionFailed(
        f"The run of {execution.persona_name} failed: {why if why.endswith(('.', '!', '?')) else why + '.'}",
        execution=execution,
        hint=sequel.hint or hint,
    )


# ── without running ─────────────────────────────────────────────────────────────────────────────────────────


def started(call: Call, persona: Persona, given: Any) -> RunHandle:
    """A run with the files, limits and provider that were typed."""
    return call.studio.start(
        persona,
        given,
        call["file"],
        provider=call["provider"],
        max_budget_usd=call["max_budget_usd"],
        max_turns=call["max_turns"],
        timeout_ms=call["timeout"],
    )


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


def _in_background(persona: Persona, handle: RunHandle) -> View:
    from personas_nb.views.notices import notice

    said = f"{persona.name} runs in the background: run {handle.id[:8]}."
    return replace(notice(said, f"%persona runs wait {handle.id[:8]}", status="running"), value=handle)
