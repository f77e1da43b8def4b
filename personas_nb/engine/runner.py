"""Runs one claimed execution, from the stored row to its last state."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personas_nb.engine.agents.direct import DirectAgent
from personas_nb.engine.agents.job import Job
from personas_nb.engine.feed import Feeds
from personas_nb.engine.handlers import Handlers, Row
from personas_nb.engine.log import RunLog
from personas_nb.engine.models import ModelClients, ResolvedModel, key_redactor, resolve
from personas_nb.engine.outcome import judge
from personas_nb.engine.pipe import Pipe
from personas_nb.engine.prompt import assemble
from personas_nb.engine.untrusted import Untrusted
from personas_nb.entities.base import now
from personas_nb.entities.event import Event
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.run_event import UsageReported
from personas_nb.errors import Conflict, ModelError, NotFound, PersonaError, StoreError
from personas_nb.personas.memories import Memories
from personas_nb.personas.personas import Personas
from personas_nb.settings import Settings
from personas_nb.store.executions import ExecutionTable, put_text
from personas_nb.tools.catalog import Tools
from personas_nb.tools.gateway import Gateway
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.redaction import Redactor
from personas_nb.worker import Worker

log = logging.getLogger("personas_nb.engine")


@dataclass(frozen=True)
class Rooms:
    """What a run needs of the rest of the house."""

    settings: Settings
    personas: Personas
    memories: Memories
    tools: Tools
    credentials: Credentials


@dataclass(frozen=True)
class Prepared:
    """Everything that a run is made of, read before it begins."""

    execution: Execution
    persona: Persona
    model: ResolvedModel
    job: Job
    redactor: Redactor
    untrusted: Untrusted
    timeout_ms: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """How a run ended."""

    status: str
    error: str | None = None
    error_kind: str | None = None


class Runner:
    """Runs executions that its worker has claimed; only this class lets a run's text out."""

    def __init__(self, worker: Worker, rooms: Rooms, feeds: Feeds) -> None:
        self.worker, self.rooms, self.feeds = worker, rooms, feeds
        self.table = ExecutionTable(worker.store)
        self.clients = ModelClients()
        self.agent = DirectAgent(self.clients)
        worker.at_stop(self.clients.close)

    async def run(self, execution_id: str, token: int) -> StoreError | None:
        """Run it to its end; what goes wrong in the run is stored. Returned is what kept its end from being stored."""
        try:
            await self._run(execution_id, token)
        except Conflict:
            pass  # another worker found this one dead and wrote the end; nothing more is ours to write
        except asyncio.CancelledError:  # before it began
            return await self._ended(execution_id, token, self._cancelled())
        except PersonaError as error:
            return await self.fail(execution_id, token, error)
        except Exception as error:  # a mistake of ours: the run must not stay “running” for ever
            log.exception("the run %s failed unexpectedly", execution_id)
            what = f"Something unexpected happened: {type(error).__name__}. Run it again."
            return await self._ended(execution_id, token, End("failed", what, "unknown"))
        return None

    async def fail(self, execution_id: str, token: int, error: PersonaError) -> StoreError | None:
        """Store that a run failed, with what it had until then; returned is what kept it from being stored."""
        kind = getattr(error, "kind", error.code.lower())
        return await self._ended(execution_id, token, End("failed", str(error), kind))

    async def _run(self, execution_id: str, token: int) -> None:
        started = asyncio.get_running_loop().time()
        prepared = await asyncio.to_thread(self._prepare, execution_id)
        pipe = self._pipe(prepared, token)
        try:
            end = await self._stream(prepared, pipe)
            fields = self._last_state(prepared, pipe, end)
            fields["duration_ms"] = round((asyncio.get_running_loop().time() - started) * 1000)
            pipe.finish(fields, _ended_event(prepared, end))
            await _undisturbed(pipe.settled())
        except Exception as error:
            prepared.redactor.clean(error)  # it will be logged
            raise
        finally:
            pipe.close()
            prepared.job.gateway.close()  # removes a small scratch folder; no thread, which may be gone at exit
            pipe.log.close()

    def _prepare(self, execution_id: str) -> Prepared:
        execution = self.table.whole(execution_id)
        if execution is None:
            raise NotFound(f"The run {execution_id[:8]} is gone.")
        persona, settings = self.rooms.personas.get(execution.persona_id), self.rooms.settings
        model = resolve(
            persona.model_profile,
            settings=settings,
            provider=execution.requested_provider,
            reveal=lambda credential_id: self.rooms.credentials.reveal(credential_id, "auth_token"),
        )
        redactor = key_redactor(settings, model=model)
        gateway = Gateway(
            self.rooms.tools.assigned(persona),
            workspace=workspace_of(self.worker.store.home, persona),
            settings=settings,
            redactor=redactor,
            rehearsal=model.is_rehearsal,
        )
        memories = (
            self.rooms.memories.relevant(
                persona.id, execution.input_data or "", limit_chars=settings.memory_limit_chars
            )
            if persona.uses_memories
            else []
        )
        given = redactor.redact(_with_files(execution) or "")
        prompt = assemble(
            persona,
            tools=gateway.definitions,
            memories=memories,
            input=given or None,
            boundary=f"data-{secrets.token_hex(8)}",
        )
        untrusted = Untrusted(max_object_bytes=settings.protocol_object_limit_bytes)
        for text in [given, *(f"{memory.title}\n{memory.content}" for memory in memories)]:
            untrusted.add(redactor.redact(text))
        job = Job(
            execution_id=execution.id,
            persona=persona,
            prompt=redactor.redact(prompt),
            gateway=gateway,
            model=model,
            input=execution.input_data,
            max_turns=_first(execution.max_turns, persona.max_turns, settings.max_turns),
            max_budget_usd=_first(execution.max_budget_usd, persona.max_budget_usd, settings.max_budget_usd),
            max_tokens=settings.unknown_price_token_limit,
        )
        timeout_ms = _first(execution.timeout_ms, persona.timeout_ms, settings.timeout_ms)
        return Prepared(
            execution, persona, model, job, redactor, untrusted, timeout_ms, _doubts(persona, model)
        )

    def _pipe(self, prepared: Prepared, token: int) -> Pipe:
        execution, settings = prepared.execution, self.rooms.settings
        handlers = Handlers(
            persona=prepared.persona,
            execution=execution,
            rehearsal=prepared.model.is_rehearsal,
            find_persona=self.rooms.personas.get,
        )
        pipe = Pipe(
            worker=self.worker,
            execution_id=execution.id,
            token=token,
            handlers=handlers,
            redactor=prepared.redactor,
            untrusted=prepared.untrusted,
            feeds=self.feeds,
            log=RunLog(self.worker.store.home, execution.id),
            object_limit_bytes=settings.protocol_object_limit_bytes,
            output_limit_bytes=settings.output_limit_bytes,
        )
        begun = {
            "provider": prepared.model.provider,
            "engine": prepared.model.engine,
            "model_used": prepared.model.model,
            "persona_version": prepared.persona.version,
            "rehearsal": prepared.model.is_rehearsal,
            "log_file_path": str(pipe.log.path),
            "cost_usd": 0.0 if prepared.model.is_rehearsal else None,
        }
        given = prepared.redactor.redact(execution.input_data or "")

        def change(db: Any) -> None:
            self.table.change(db, execution.id, token, **begun)
            put_text(db, execution.id, "prompt", prepared.job.prompt)
            if given != (execution.input_data or ""):  # somebody gave a key as input
                put_text(db, execution.id, "input", given)

        pipe.write(change)
        for warning in prepared.warnings:
            pipe.warn(warning)
        return pipe

    async def _stream(self, prepared: Prepared, pipe: Pipe) -> End:
        """Let the agent run within its time, and say how it ended. What it wrote until then is kept."""
        try:
            async with (
                asyncio.timeout(prepared.timeout_ms / 1000),
                aclosing(self.agent.run(prepared.job)) as events,  # type: ignore[type-var]  # an async generator
            ):
                async for event in events:
                    pipe.take(event)
            end = End("completed")
        except TimeoutError:
            seconds = prepared.timeout_ms / 1000
            end = End("failed", f"It took longer than {seconds:g} s, its limit.", "timeout")
        except asyncio.CancelledError:
            end = self._cancelled()
        except ModelError as error:
            end = End("failed", prepared.redactor.redact(str(error)), error.kind)
        except (Conflict, StoreError):
            raise
        except PersonaError as error:
            end = End("failed", prepared.redactor.redact(str(error)), error.code.lower())
        pipe.end_text(cut_off=end.status != "completed")
        if end.status == "completed":
            end = End(judge(pipe.output, pipe.handlers.assessment))
        return end

    def _cancelled(self) -> End:
        if self.worker.is_stopping:
            return End(
                "failed", "Its process ended in the middle of the run; what it had is kept.", "interrupted"
            )
        return End("cancelled", "Cancelled; what it had until then is kept.", "cancelled")

    def _last_state(self, prepared: Prepared, pipe: Pipe, end: End) -> dict[str, Any]:
        usage = pipe.usage
        return {
            "status": end.status,
            "error": end.error,
            "error_kind": end.error_kind,
            "outcome": pipe.handlers.assessment,
            "output_data": pipe.output,
            "tool_steps": pipe.steps,
            "tool_calls": len(pipe.steps),
            "execution_flows": pipe.handlers.flows,
            "warnings": pipe.warnings,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "cost_usd": 0.0 if prepared.model.is_rehearsal or _was_refused(usage, end) else usage.cost_usd,
            "num_turns": usage.num_turns,
            "completed_at": now(),
        }

    async def _ended(self, execution_id: str, token: int, end: End) -> StoreError | None:
        fields = {"status": end.status, "error": end.error or "", "error_kind": end.error_kind or "unknown"}
        try:
            writing = self.worker.written(lambda db: self.table.end_early(db, execution_id, token, **fields))
            await _undisturbed(writing)
        except Conflict:
            pass
        except StoreError as error:
            return error
        return None


def _was_refused(usage: UsageReported, end: End) -> bool:
    """Whether no request was ever answered: a refused one costs nothing."""
    return usage.num_turns == 0 and end.error_kind in ("credential", "rate_limit", "overloaded", "not_found")


def workspace_of(home: Path, persona: Persona) -> Path:
    """The folder that a persona's tools see; it stays between runs."""
    return home / "workspaces" / f"{persona.slug}-{persona.id[:8]}"


def _with_files(execution: Execution) -> str | None:
    """The input, and the files that were given to the run."""
    if not execution.files:
        return execution.input_data
    listing = "Files for this run, in your workspace:\n" + "\n".join(f"- {file}" for file in execution.files)
    return f"{execution.input_data}\n\n{listing}" if execution.input_data else listing


def _doubts(persona: Persona, model: ResolvedModel) -> tuple[str, ...]:
    doubts = list(model.notes)
    if isinstance(persona.structured_prompt, str):
        doubts.append("The structured prompt cannot be read, so the system prompt was used instead.")
    return tuple(doubts)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


async def _undisturbed(storing: Coroutine[Any, Any, Any]) -> None:
    """Await to the end, also when cancelled meanwhile: the end of a run is being stored either way."""
    task = asyncio.ensure_future(storing)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    task.result()


def _ended_event(prepared: Prepared, end: End) -> Row:
    event_type = "execution_completed" if end.status in ("completed", "incomplete") else "execution_failed"
    return "events", Event(
        event_type=event_type,
        source_type="system",
        source=prepared.persona.slug,
        data={"execution_id": prepared.execution.id, "status": end.status, "error": end.error},
        execution_id=prepared.execution.id,
        rehearsal=prepared.model.is_rehearsal,
    )
