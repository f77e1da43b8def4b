"""The direct engine: pydantic-ai's agent loop in our own process, for real providers and for rehearsal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from personas_nb.engine.agents.ending import check_end
from personas_nb.engine.agents.job import OUTPUT_TOKENS, Job, Paused, WaitingCall
from personas_nb.engine.agents.rehearsal import Rehearsal
from personas_nb.engine.model_clients import ModelClients, say_unknown_prices_once
from personas_nb.engine.model_errors import name_of, to_model_error
from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe, parse_body
from personas_nb.engine.spending import Allowance
from personas_nb.entities.run_event import (
    ProtocolCalled,
    RunEvent,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
    UsageReported,
    WarningRaised,
)
from personas_nb.entities.tool import ToolCallStep
from personas_nb.errors import InvalidInput, ModelError
from personas_nb.tools.gateway import Gateway

if TYPE_CHECKING:
    from pydantic_ai import Agent, Tool, UsageLimits
    from pydantic_ai.models import Model
    from pydantic_ai.usage import RunUsage

TOOL_RETRIES = 3  # how often a model may call a tool that does not exist, before the run ends


class DirectAgent:
    """Runs a prompt through pydantic-ai: streaming, tools through the gateway, usage, limits."""

    def __init__(self, clients: ModelClients) -> None:
        self.clients = clients

    async def run(self, job: Job) -> AsyncIterator[RunEvent | Paused]:
        """Run the prompt; raises ``ModelError`` for what the model, its server or a limit did."""
        say_unknown_prices_once()
        rehearsal = Rehearsal(job) if job.model.is_rehearsal else None
        allowance = job.allowance
        model = rehearsal.model() if rehearsal else _limited(self.clients.build(job.model), allowance)
        calls = _Calls(job)
        agent = _agent(
            tuple(
                (job.gateway.model_names[tool.name], tool.description, json.dumps(tool.input_schema))
                for tool in job.gateway.definitions
            )
        )
        limits = _limits(job, allowance)
        if allowance.note:
            yield WarningRaised(text=allowance.note)
        stream: Any = None
        try:
            async with agent.run_stream_events(
                **_beginning(job), model=model, deps=calls, usage_limits=limits
            ) as stream:
                async for event in stream:
                    for ours in calls.translated(event):
                        yield ours
                    if event.event_kind == "function_tool_call":
                        _check_unpriced(job, limits, stream.usage)
                        yield _usage(stream.usage, job, rehearsal)
            yield _usage(stream.usage, job, rehearsal)
            if paused := _paused(job, stream.result):
                yield paused
            elif not rehearsal:
                for warning in _checked_end(job, stream.result, stream.usage.requests):
                    yield warning
        except ModelError:
            if stream is not None:
                yield _usage(stream.usage, job, rehearsal)
            raise
        except Exception as error:  # pydantic-ai, its clients and their transports raise many kinds
            if stream is not None:
                yield _usage(stream.usage, job, rehearsal)
            raise to_model_error(error, provider=job.model.provider) from error


class _Calls:
    """The tool calls of one run, and pydantic-ai's events as ours."""

    def __init__(self, job: Job) -> None:
        self.gateway = job.gateway
        self._steps: dict[str, ToolCallStep] = {}
        self._line_is_empty = job.resumption is None or job.resumption.ends_line
        # these were announced when they were asked for
        self._announced = {each.call_id for each in job.resumption.decisions} if job.resumption else set()

    async def call(
        self, name: str, arguments: dict[str, Any], call_id: str, *, is_decided: bool = False
    ) -> str:
        """Call a tool for pydantic-ai; what it did wrong is for the model to read."""
        from pydantic_ai import ApprovalRequired, ToolFailed

        if not is_decided and self.gateway.waits(name, arguments, call_id=call_id):
            raise ApprovalRequired
        step = await self.gateway.call(name, arguments, call_id=call_id)
        self._steps[call_id] = step
        if step.error is not None:
            raise ToolFailed(step.error)
        return step.output

    def translated(self, event: Any) -> list[RunEvent]:
        kind = event.event_kind
        if kind == "part_start" and event.part.part_kind == "text":
            # what follows a tool call is a paragraph of its own
            gap = "" if self._line_is_empty else "\n\n"
            return self._text(gap + event.part.content)
        if kind == "part_delta" and event.delta.part_delta_kind == "text":
            return self._text(event.delta.content_delta)
        if kind == "function_tool_call" and event.part.tool_name not in PROTOCOL_KINDS:
            if event.part.tool_call_id in self._announced:
                return []
            return [_started(event.part, self.gateway)]
        if kind == "function_tool_result":
            return self._finished(event.part)
        return []

    def _text(self, text: str) -> list[RunEvent]:
        if not text:
            return []
        self._line_is_empty = text.endswith("\n")
        return [TextDelta.model_construct(text=text)]

    def _finished(self, part: Any) -> list[RunEvent]:
        if part.tool_name in PROTOCOL_KINDS:
            if getattr(part, "outcome", "success") != "success":
                return [WarningRaised(text=f"A {part.tool_name} was refused: {_why(part.content)}")]
            return [ProtocolCalled(kind=part.tool_name, data=part.content)]
        step = self._steps.pop(part.tool_call_id, None)
        if step is None:  # the model asked for a tool that does not exist, or with arguments that are no JSON
            text = str(part.content)
            step = ToolCallStep(
                tool=self.gateway.shown_name(part.tool_name or "unknown"),
                call_id=part.tool_call_id,
                error=text,
                performed=False,
            )
        return [ToolCallFinished(step=step)]


def _started(part: Any, gateway: Gateway) -> ToolCallStarted:
    try:
        arguments = part.args_as_dict()
    except (ValueError, AssertionError):  # not JSON, or no object; the result says so to the model
        arguments = {}
    return ToolCallStarted(
        tool=gateway.shown_name(part.tool_name),
        call_id=part.tool_call_id,
        input=gateway.shown(arguments),
    )


@lru_cache(maxsize=64)
def _agent(tools: tuple[tuple[str, str, str], ...]) -> Agent[_Calls, Any]:
    """An agent with these tools (name, description, schema); it keeps nothing of a run, and runs share it."""
    from pydantic_ai import Agent, DeferredToolRequests, RunContext, Tool

    async def call(context: RunContext[_Calls], /, **arguments: Any) -> str:
        return await context.deps.call(
            context.tool_name or "",
            arguments,
            context.tool_call_id or "",
            is_decided=context.tool_call_approved,
        )

    # the schemas name their arguments; with the annotations evaluated, pydantic-ai finds the context
    call.__annotations__["context"] = RunContext[_Calls]
    assigned = [
        Tool.from_schema(call, name, description, json.loads(schema), takes_ctx=True)
        for name, description, schema in tools
    ]
    for tool in assigned:
        tool.function_schema.validator = _ObjectsOnly()  # type: ignore[assignment]  # it has what is asked of it
    return Agent(
        tools=[*assigned, *_protocol_tools()],
        # without None, pydantic-ai asks again after an empty last answer
        output_type=[str, type(None), DeferredToolRequests],
        deps_type=_Calls,
        retries=TOOL_RETRIES,
        model_settings={"max_tokens": OUTPUT_TOKENS["direct"]},
    )


class _ObjectsOnly:
    """What pydantic-ai validates arguments with: its own for tools with a schema lets through what is no object."""

    def validate_json(self, text: str, **_options: Any) -> dict[str, Any]:
        from pydantic_ai import ModelRetry
        from pydantic_core import from_json

        try:
            return self.validate_python(from_json(text))
        except ValueError as error:
            raise ModelRetry(f"The arguments are no JSON: {error}. Send one JSON object.") from error

    def validate_python(self, value: Any, **_options: Any) -> dict[str, Any]:
        from pydantic_ai import ModelRetry

        if not isinstance(value, dict):
            raise ModelRetry("The arguments are no JSON object. Send one, as in {}, even without arguments.")
        return value


def _protocol_tools() -> list[Tool[_Calls]]:
    """The seven protocol messages as tools; what they carry goes through the runner like those in text."""
    from pydantic_ai import Tool, ToolFailed

    def tool(kind: str) -> Tool[_Calls]:
        async def call(**data: Any) -> dict[str, Any]:
            try:
                parse_body(kind, data)
            except InvalidInput as error:
                raise ToolFailed(str(error)) from error
            return data

        made: Tool[_Calls] = Tool.from_schema(call, kind, describe(kind), body_schema(kind))
        made.function_schema.validator = _ObjectsOnly()  # type: ignore[assignment]
        return made

    return [tool(kind) for kind in PROTOCOL_KINDS]


def _why(content: Any) -> str:
    """Why a call was refused; without the arguments, which pydantic repeats where they are no JSON."""
    return "; ".join(one["msg"] for one in content) if isinstance(content, list) else str(content)


def _limited(model: Model, allowance: Allowance) -> Model:
    """The model, asking the allowance before each request."""
    from personas_nb.engine.agents.limited_model import LimitedModel

    return LimitedModel(model, allowance, max_output_tokens=OUTPUT_TOKENS["direct"])


def _limits(job: Job, allowance: Allowance) -> UsageLimits:
    """pydantic-ai's own limits, which stop a run after an answer: a net, for what no estimate foresaw."""
    from pydantic_ai import UsageLimits

    limits = UsageLimits(request_limit=job.max_turns)
    if job.max_budget_usd is None or job.model.is_rehearsal:
        return limits
    if allowance.price is not None:
        limits.cost_limit = Decimal(str(job.max_budget_usd))
    else:
        limits.total_tokens_limit = job.max_tokens
    return limits


def _check_unpriced(job: Job, limits: UsageLimits, usage: RunUsage) -> None:
    """A server may answer under a name without a price, and then no budget holds it: tokens must."""
    if limits.cost_limit is None or usage.cost is not None or not job.max_tokens:
        return
    if usage.total_tokens > job.max_tokens:
        raise ModelError(
            f"The run reached its limit of {job.max_tokens:,} tokens; its price is unknown.",
            kind="tokens",
            hint="Raise unknown_price_token_limit in the settings, or ask for less in one run.",
        )


def _beginning(job: Job) -> dict[str, Any]:
    """What pydantic-ai begins with: the prompt, or what was said until the run had to wait, and the decisions."""
    if job.resumption is None:
        return {"user_prompt": job.prompt}
    from pydantic_ai import DeferredToolResults, ModelMessagesTypeAdapter, ToolApproved, ToolDenied
    from pydantic_ai.usage import RunUsage

    before = job.resumption.usage
    cached = before.cache_read_tokens + before.cache_write_tokens
    approvals: dict[str, Any] = {}
    for each in job.resumption.decisions:
        if each.is_approved:
            job.gateway.approve(each.call_id, each.arguments_hash)
        approvals[each.call_id] = ToolApproved() if each.is_approved else ToolDenied(each.reason)
    return {
        "message_history": ModelMessagesTypeAdapter.validate_json(job.resumption.conversation),
        "deferred_tool_results": DeferredToolResults(approvals=approvals),
        "usage": RunUsage(
            requests=before.num_turns,
            input_tokens=before.input_tokens + cached,
            output_tokens=before.output_tokens,
            cache_read_tokens=before.cache_read_tokens,
            cache_write_tokens=before.cache_write_tokens,
            cost=None if before.cost_usd is None else Decimal(str(before.cost_usd)),
        ),
    }


def _paused(job: Job, result: Any) -> Paused | None:
    """The calls that a person must decide on, where the run ended with some."""
    from pydantic_ai import DeferredToolRequests, ModelMessagesTypeAdapter

    if result is None or not isinstance(result.output, DeferredToolRequests):
        return None
    calls = tuple(
        WaitingCall(part.tool_call_id, job.gateway.shown_name(part.tool_name), part.args_as_dict())
        for part in result.output.approvals
    )
    return Paused(calls, ModelMessagesTypeAdapter.dump_json(result.all_messages()).decode())


def _usage(usage: RunUsage, job: Job, rehearsal: Rehearsal | None) -> UsageReported:
    """Tokens so far. pydantic-ai counts cached tokens as input too; here each token is counted once."""
    # what a server did not measure has a price that nobody knows
    is_unknown = usage.cost is None or job.allowance.usage.cost_usd is None
    if rehearsal is not None:
        return rehearsal.usage(usage.requests)
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return UsageReported(
        input_tokens=max(0, usage.input_tokens - cached),
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cost_usd=None if is_unknown or usage.unmeasured_requests else float(usage.cost or 0),
        num_turns=usage.requests,
        model=job.model.model,
    )


def _checked_end(job: Job, result: Any, num_requests: int) -> list[RunEvent]:
    provider = job.model.provider
    if result is None:
        who = name_of(provider)
        raise ModelError(f"{who} ended its answer early.", kind="connection", hint="Run again.")
    response = result.response
    is_named = "finish_reason" in (response.provider_details or {})
    return check_end(
        provider,
        (response.finish_reason or "stop") if is_named else None,
        has_text=bool((result.output or "").strip()),
        num_requests=num_requests,
        max_output_tokens=job.allowance.last_max_output_tokens or job.max_output_tokens,
    )
