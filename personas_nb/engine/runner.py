"""Runs one claimed execution, from the stored row to its last state."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

from personas_nb.engine.agents.direct import DirectAgent
from personas_nb.engine.agents.job import Agent, Paused, WaitingCall
from personas_nb.engine.feed import Feeds
from personas_nb.engine.handlers import Handlers, Row
from personas_nb.engine.healing import DISABLED, NOT_RETRIED, HealingOutcome, classify
from personas_nb.engine.intents import RunIntents
from personas_nb.engine.log import RunLog
from personas_nb.engine.model_clients import ModelClients
from personas_nb.engine.model_errors import traceback_of
from personas_nb.engine.models import ResolvedModel
from personas_nb.engine.outcome import judge
from personas_nb.engine.pipe import Pipe
from personas_nb.engine.preparation import Before, Prepared, Rooms, prepare
from personas_nb.engine.surrogates import mended
from personas_nb.entities.base import now
from personas_nb.entities.event import Event
from personas_nb.entities.execution import Execution
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import ApprovalAsked, ToolCallFinished, UsageReported
from personas_nb.errors import Conflict, ModelError, NotFound, PersonaError, StoreError
from personas_nb.store.approvals import ApprovalTable
from personas_nb.store.executions import ExecutionTable, RunEventTable, put_text
from personas_nb.tools.preview import preview
from personas_nb.worker import Worker, is_alive, undisturbed

T = TypeVar("T")
log = logging.getLogger("personas_nb.engine")


@dataclass(frozen=True)
class End:
    """How a run ended."""

    status: str
    error: str | None = None
    error_kind: str | None = None
    problem: BaseException | None = None
    paused: Paused | None = None


class _CalledOff(PersonaError):
    """A queued run that must not start any more; the sentence says why, ``kind`` is its ``error_kind``."""

    def __init__(self, message: str, *, kind: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class Runner:
    """Runs executions that its worker has claimed; only this class lets a run's text out."""

    def __init__(
        self, worker: Worker, rooms: Rooms, feeds: Feeds, on_retry: Callable[[Execution], None]
    ) -> None:
        self.worker, self.rooms, self.feeds, self.on_retry = worker, rooms, feeds, on_retry
        self.table = ExecutionTable(worker.store)
        self.clients = ModelClients()
        self._direct: Agent = DirectAgent(self.clients)
        self._making = asyncio.Lock()
        self.closing: set[str] = set()
        """Runs that are ending anyway; cancelled in the middle of that, they would leave connections open."""
        self._num_open = 0
        self.paused: set[str] = set()
        """Runs that have just begun to wait for a decision."""
        worker.at_stop(self.clients.close)

    async def run(self, execution_id: str, token: int) -> StoreError | None:
        """Run it to its end, and heal; what goes wrong in the run is stored.

        Returned is what kept its end from being stored.
        """
        try:
            prepared = await self._prepared(execution_id, token)
        except asyncio.CancelledError:
            return await self._ended(execution_id, token, self._cancelled(), is_unbegun=True)
        except Exception as error:
            trouble = await self._failed(execution_id, token, error, is_unbegun=True)
            await self._heal(execution_id, error)
            return trouble
        problem: BaseException | None = None
        try:
            end = await self._run(prepared, token)
            if end.status != "failed":
                return None
            problem = end.problem
        except Conflict:
            return None  # another worker found this one dead and wrote the end; nothing more is ours to write
        except asyncio.CancelledError:
            return await self._ended(execution_id, token, self._cancelled())
        except Exception as error:
            problem = error
            trouble = await self._failed(execution_id, token, error)
            if trouble is not None:
                return trouble
        await self._heal(execution_id, problem)
        return None

    async def fail(self, execution_id: str, token: int, error: PersonaError) -> StoreError | None:
        """Store that a run failed, with what it had until then; returned is what kept it from being stored."""
        return await self._failed(execution_id, token, error)

    async def _failed(
        self, execution_id: str, token: int, error: Exception, *, is_unbegun: bool = False
    ) -> StoreError | None:
        if isinstance(error, PersonaError):
            end = End("failed", str(error), getattr(error, "kind", error.code.lower()))
        else:  # a mistake of ours: the run must not stay “running” for ever
            log.error("the run %s failed unexpectedly", execution_id, exc_info=error)
            what = f"Something unexpected happened: {type(error).__name__}. Run it again."
            end = End("failed", what, "unknown")
        return await self._ended(execution_id, token, end, is_unbegun=is_unbegun)

    async def _run(self, prepared: Prepared, token: int) -> End:
        """Run it to its end, which is stored then."""
        started = asyncio.get_running_loop().time()
        pipe, closing = self._pipe(prepared, token), ExitStack()
        closing.callback(
            prepared.close
        )  # removes a small scratch folder; no thread, which may be gone at exit
        self._num_open += 1
        try:
            end = await self._stream(prepared, pipe)
            fields = self._last_state(prepared, pipe, end)
            earlier_ms = prepared.execution.duration_ms or 0 if prepared.before else 0
            fields["duration_ms"] = earlier_ms + round((asyncio.get_running_loop().time() - started) * 1000)
            if end.paused is not None:
                await self._pause(prepared, pipe, fields, end.paused, closing)
                self.paused.add(prepared.execution.id)
            else:
                pipe.finish(fields, [_ended_event(prepared, end)] if prepared.subject is None else [])
            await undisturbed(pipe.settled())
        except Exception as error:
            prepared.redactor.clean(error)  # it will be logged
            raise
        finally:
            self._num_open -= 1
            self.closing.discard(prepared.execution.id)
            pipe.close()
            closing.close()
            pipe.log.close()
        return end

    async def _pause(
        self, prepared: Prepared, pipe: Pipe, fields: dict[str, Any], paused: Paused, closing: ExitStack
    ) -> None:
        """Queue the state of a run that waits from now on, with a decision for each call that it waits for."""

        def made() -> tuple[list[Review], str]:
            # text by text, or what is quoted twice would be overlooked
            said = prepared.redactor.redact_value(json.loads(paused.conversation))
            asked = [_review(prepared, call) for call in paused.calls]
            return asked, json.dumps({"reviews": [review.id for review in asked], "conversation": said})

        reviews, conversation = await undisturbed(asyncio.to_thread(made))
        for review in reviews:
            pipe.take(
                ApprovalAsked(tool=review.tool or "", call_id=review.call_id or "", review_id=review.id)
            )

        prepared.tools.wait()
        closing.close()  # before anybody can decide, and begin again in the same workspace

        def keep(db: Any) -> None:
            put_text(db, prepared.execution.id, "conversation", conversation)

        pipe.finish(fields, [("reviews", review) for review in reviews], keep)

    async def _heal(self, execution_id: str, problem: BaseException | None) -> None:
        """Queue a retry or report an issue, where the run has failed."""
        if self.worker.is_stopping:
            return
        asked_seconds = getattr(problem, "retry_after_seconds", None)

        def heal() -> HealingOutcome | None:
            execution = self.table.get(execution_id)
            if execution is None or execution.status != "failed":
                return None
            return self.rooms.healing.after(execution, asked_seconds)

        try:
            outcome = await undisturbed(asyncio.to_thread(heal))
        except Exception:
            log.exception("the run %s could not be healed", execution_id)
            return
        if outcome is not None and outcome.retry is not None:
            self.on_retry(outcome.retry)

    async def _prepared(self, execution_id: str, token: int) -> Prepared:
        reading = asyncio.ensure_future(asyncio.to_thread(self._prepare, execution_id, token))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            with suppress(Exception):
                (await undisturbed(reading)).close()
            raise

    def _prepare(self, execution_id: str, token: int) -> Prepared:
        execution = self.table.whole(execution_id)
        if execution is None:
            raise NotFound(f"The run {execution_id[:8]} is gone.")
        if execution.retry_of and (why := self.rooms.healing.recheck(execution)):
            raise _CalledOff(why, kind=NOT_RETRIED)
        persona = self.rooms.personas.get(execution.persona_id)
        # A test is started by a person, who may want it before anything else is.
        if (
            not persona.enabled and execution.eval_run_id is None
        ):  # after five failures those that still wait would only fail too
            raise _CalledOff(
                f"{persona.name} was {'archived' if persona.archived_at else 'disabled'} before the run "
                f"{'went on' if execution.pauses else 'began'}.",
                kind=DISABLED,
                hint=f"Type `%persona enable {persona.slug}`, then run it again.",
            )
        prepared = prepare(
            self.rooms,
            self.worker.store.home,
            execution,
            persona,
            intents=RunIntents(self.worker, execution_id, token),
            before=self._before(execution),
        )
        try:
            return self._with_reservation(prepared)
        except BaseException:
            prepared.close()
            raise

    def _before(self, execution: Execution) -> Before | None:
        """What is stored of a run that goes on; None for one that begins."""
        conversation = self.table.texts(execution.id).get("conversation") if execution.pauses else None
        if conversation is None:
            return None
        events, kept = RunEventTable(self.worker.store), json.loads(conversation)
        approvals = ApprovalTable(self.worker.store).of(execution.id)
        return Before(
            json.dumps(kept["conversation"]),
            tuple(review for review in approvals if review.id in kept["reviews"]),
            seq=events.last_seq(execution.id),
            called=tuple(row["call_id"] for row in events.of_types(execution.id, "tool_started")),
            messages=tuple((row["kind"], row["data"]) for row in events.of_types(execution.id, "protocol")),
        )

    def _with_reservation(self, prepared: Prepared) -> Prepared:
        """Where there are budget rules, the run's worst case is set aside before it begins."""
        budgets = self.rooms.budgets
        if not budgets.has_rules():
            return prepared
        amount_usd = prepared.job.reservation_usd()
        warnings = budgets.reserve(prepared.execution.id, prepared.persona, amount_usd)
        return replace(prepared, warnings=(*prepared.warnings, *warnings))

    @cached_property
    def _claude(self) -> Agent:
        """Made at the first run that needs it: its libraries take a second to import."""
        from personas_nb.engine.agents.claude import ClaudeAgent
        from personas_nb.engine.agents.launch import sweep
        from personas_nb.engine.model_gateway import ModelGateway

        folder = self.worker.store.home / "cli"
        sweep(folder, lambda worker_id: is_alive(self.worker.lock_path.with_name(f"{worker_id}.lock")))
        gateway = ModelGateway(self.clients)
        self.worker.at_stop(gateway.close)
        return ClaudeAgent(gateway, folder / self.worker.id)

    async def _agent(self, model: ResolvedModel) -> Agent:
        if model.engine != "claude":
            return self._direct
        async with self._making:
            return await asyncio.to_thread(lambda: self._claude)

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
            log=RunLog(
                self.worker.store.home,
                execution.id,
                limit_bytes=settings.log_limit_bytes,
                file_count=settings.log_file_count,
            ),
            object_limit_bytes=settings.protocol_object_limit_bytes,
            output_limit_bytes=settings.output_limit_bytes,
            execution=execution,
            before=prepared.before,
            num_open=lambda: self._num_open,
        )
        begun = {
            "provider": prepared.model.provider,
            "engine": prepared.model.engine,
            "permissions": prepared.persona.permissions,
            "credentials": prepared.credentials,
            "model_used": prepared.model.model,
            "persona_version": prepared.version,
            "rehearsal": prepared.model.is_rehearsal,
            "log_file_path": str(pipe.log.path),
            "cost_usd": 0.0 if prepared.model.is_rehearsal else None,
        }
        if prepared.before is not None:  # it goes on, as what it began
            begun = {"credentials": prepared.credentials}
        given = prepared.redactor.redact(execution.input_data or "")
        reserve = self.rooms.budgets.reservation(
            execution.id, prepared.persona, prepared.job.reservation_usd()
        )

        def change(db: Any) -> None:
            self.table.change(db, execution.id, token, **begun)
            reserve(db)
            if prepared.before is None:
                put_text(db, execution.id, "prompt", prepared.job.prompt)
                if prepared.recall is not None:
                    put_text(db, execution.id, "memories", prepared.recall)
            if given != (execution.input_data or ""):  # somebody gave a key as input
                put_text(db, execution.id, "input", given)

        pipe.write(change)
        for warning in prepared.warnings:
            pipe.warn(warning)
        return pipe

    async def _stream(self, prepared: Prepared, pipe: Pipe) -> End:
        """Let the agent run within its time, and say how it ended. What it wrote until then is kept."""
        paused: Paused | None = None
        try:
            agent = await self._agent(prepared.model)
            async with (
                aclosing(agent.run(prepared.job)) as events,  # type: ignore[type-var]  # an async generator
                asyncio.timeout(prepared.timeout_ms / 1000),  # inside: it must not disturb the closing
            ):
                try:
                    async for event in events:
                        if isinstance(event, Paused):
                            paused = event
                        else:
                            pipe.take(event)
                finally:
                    self.closing.add(prepared.execution.id)
                    prepared.job.gateway.end()
            end = End("completed") if paused is None else End("waiting", paused=paused)
        except TimeoutError:
            seconds = (prepared.timeout_ms + (prepared.execution.duration_ms or 0)) / 1000
            end = End("failed", f"It took longer than {seconds:g} s, its limit.", "timeout")
        except asyncio.CancelledError:
            end = self._cancelled()
        except ModelError as error:
            end = End("failed", prepared.redactor.redact(mended(_without_advice(error))), error.kind, error)
            if error.kind in ("unknown", "bad_answer"):  # the others say all that there is to know
                pipe.log_error(traceback_of(error))
        except (Conflict, StoreError):
            raise
        except PersonaError as error:
            end = End("failed", prepared.redactor.redact(mended(str(error))), error.code.lower())
        pipe.end_text(cut_off=end.status not in ("completed", "waiting"))
        for step in prepared.job.gateway.interrupted:
            pipe.take(ToolCallFinished(step=step))
            pipe.warn(f"A call of {step.tool} may have happened: look before you run it again.")
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
        usage = _whole_usage(prepared, pipe)
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
            "claude_session_id": usage.session_id,
            "completed_at": None if end.paused else now(),
        }

    async def _ended(
        self, execution_id: str, token: int, end: End, *, is_unbegun: bool = False
    ) -> StoreError | None:
        """``is_unbegun``: no model was asked since its claim, so that it cost what it had cost before."""
        fields = {"status": end.status, "error": end.error or "", "error_kind": end.error_kind or "unknown"}
        try:
            writing = self.worker.written(
                lambda db: self.table.end_early(db, execution_id, token, is_unbegun=is_unbegun, **fields)
            )
            await undisturbed(writing)
        except Conflict:
            pass
        except StoreError as error:
            return error
        return None


_ASKED_NOBODY = frozenset(
    {
        "credential",
        "rate_limit",
        "overloaded",
        "not_found",
        "rejected",
        "session_limit",
        "budget",
        "tokens",
        "cli_not_found",
    }
)


def _whole_usage(prepared: Prepared, pipe: Pipe) -> UsageReported:
    """What was reported, or what the allowance counted after the last report: a run that is cut off reports no more."""
    counted = prepared.job.allowance.usage
    if counted.num_turns > pipe.usage.num_turns:
        return counted.changed(session_id=pipe.usage.session_id)
    return pipe.usage


def _without_advice(error: ModelError) -> str:
    """What is stored of it: “wait a minute, then run again” is wrong where healing does that by itself."""
    return error.message if classify(error.kind, "") in ("RateLimit", "Timeout") else str(error)


def _was_refused(usage: UsageReported, end: End) -> bool:
    """Whether no request was ever answered: a refused one costs nothing."""
    return usage.num_turns == 0 and end.error_kind in _ASKED_NOBODY


def _review(prepared: Prepared, call: WaitingCall) -> Review:
    """The decision on a call: exactly what it would do, and what it is bound to."""
    job, settings = prepared.job, prepared.job.settings
    gateway = job.gateway
    effects = {tool.name: tool.effect for tool in gateway.definitions}
    arguments = prepared.redactor.redact_value(call.arguments)
    redact = prepared.redactor.redact
    shown = preview(call.tool, arguments, workspace=gateway.workspace, settings=settings, redact=redact)
    asked_at = now()
    return Review(
        persona_id=prepared.persona.id,
        execution_id=prepared.execution.id,
        title=f"May {prepared.persona.name} call {call.tool}?",
        description=redact(shown),  # a file may hold a secret too
        severity="high" if effects.get(call.tool, "outside") == "outside" else "medium",
        kind="approval",
        tool=call.tool,
        call_id=call.call_id,
        arguments_hash=gateway.hash_of(call.arguments),
        persona_version=prepared.persona.version,
        created_at=asked_at,
        expires_at=asked_at + timedelta(days=settings.approval_expiry_days),
    )


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
