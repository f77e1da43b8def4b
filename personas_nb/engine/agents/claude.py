"""The claude engine: the real Claude CLI through claude-agent-sdk, in our launcher and behind our model gateway.

- The CLI is given a folder of its own as HOME, which is removed at the end: transcripts never reach the person's.
- It speaks to the loopback gateway only, with a token of this run; the provider's key stays in our process.
- The persona's tools are served to it from our process, and every call passes ``tools.gateway``. Tools of the
  CLI's own it has only under ``permissions: "bypass"``.
- A call that a person must decide on is deferred by a hook: the CLI then ends, and what it has noted of its session
  is kept, redacted. A new CLI, in whatever process, resumes the session and asks the hook again. Of several such
  calls in one answer it keeps the first, so that the others are refused, to be asked for again.
- It is over when the first result is there, the model gateway says so, or it is cancelled; then everything that
  the CLI started is killed, so that nothing runs on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.engine.agents.claude_session import is_noted, kept_session, restored_session
from personas_nb.engine.agents.ending import check_end
from personas_nb.engine.agents.job import Job, Paused, Resumption, WaitingCall
from personas_nb.engine.agents.launch import Launch, cli_environment, find_cli
from personas_nb.engine.model_errors import status_to_model_error
from personas_nb.engine.model_gateway import GatewayRun, ModelGateway
from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe, parse_body
from personas_nb.entities.run_event import (
    ProtocolCalled,
    RunEvent,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
    UsageReported,
    WarningRaised,
)
from personas_nb.entities.tool import ToolCallStep, model_names
from personas_nb.errors import InvalidInput, ModelError
from personas_nb.worker import undisturbed

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions

SERVER = "personas"  # what the CLI calls our tools: mcp__personas__<name>
PREFIX = f"mcp__{SERVER}__"
ONE_AT_A_TIME = (
    "A person decides on one call at a time, and decides on another first. Call it again afterwards."
)
LINE_LIMIT_BYTES = 256 * 1024 * 1024  # of one message from the CLI; the SDK's own limit is 1 MiB
STDERR_LINES = 50
# A model's error reaches us before the CLI has handed on the text that came before it.
LAST_WORDS_SECONDS = 2.0
_FINISH = {"end_turn": "stop", "tool_use": "tool_call", "max_tokens": "length", "refusal": "content_filter"}
_WAITED_FOR = frozenset(
    {"local_agent", "local_workflow"}
)  # tasks in the background that another turn follows


class ClaudeAgent:
    """Runs a prompt in the Claude CLI. ``folder`` takes a folder per run; what a run leaves there is removed."""

    def __init__(self, gateway: ModelGateway, folder: Path) -> None:
        import claude_agent_sdk  # noqa: F401 - a second, once; whoever makes an agent does it in a thread
        import mcp.server.lowlevel  # noqa: F401

        self.gateway, self.folder = gateway, folder
        for name in ("claude_agent_sdk", "mcp", "tornado"):
            # without a handler Python would print their errors, from our thread into whatever cell is newest
            logging.getLogger(name).addHandler(logging.NullHandler())

    async def run(self, job: Job) -> AsyncIterator[RunEvent | Paused]:
        """Run the prompt; raises ``ModelError`` for what the model, its server, a limit or the CLI did."""
        cli, version = await asyncio.to_thread(find_cli, job.settings.cli_path)
        await asyncio.to_thread(_check_workspace, job.gateway.workspace)
        if job.allowance.note:
            yield WarningRaised(text=job.allowance.note)
        as_user = job.settings.claude_login == "user" and not job.model.secret
        run = await self.gateway.open(
            job.model,
            job.allowance,
            job.redactor,
            pass_auth=as_user,
            is_one_talk=job.persona.permissions != "bypass",
        )
        folder = self.folder / job.execution_id
        launch: Launch | None = None
        talk = _Talk(job, run)
        try:
            env = cli_environment(
                base_url=run.base_url, folder=folder, as_user=as_user, extra=_extra_environment(job)
            )
            launch = await _launched(folder, cli=cli, version=version, env=env, cwd=job.gateway.workspace)
            config, cwd = Path(env["HOME"]) / ".claude", job.gateway.workspace
            session_id = None
            if job.resumption is not None:
                kept = job.resumption.conversation
                session_id = await asyncio.to_thread(restored_session, kept, config, cwd)
            async for event in talk.events(_options(job, talk, launch.path, session_id), launch):
                launch.forget_environment()
                yield event
            for event in talk.ending():
                yield event
            if (call := talk.deferred) is not None:
                noted = await asyncio.to_thread(is_noted, config, talk.session_id, call.call_id)
                await asyncio.to_thread(launch.kill)
                if not noted:
                    raise _not_waiting()
                yield Paused((call,), await asyncio.to_thread(kept_session, config, talk.session_id))
        finally:
            run.close()
            await undisturbed(_closed(talk, launch))


class _Talk:
    """What the CLI says in one run, as our events."""

    def __init__(self, job: Job, run: GatewayRun) -> None:
        self.job, self.run = job, run
        self._rejected: dict[str, str] = {}
        self._resumed: set[str] = set()
        self._taken_up: set[str] = set()  # calls that the CLI asked about
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._queue: asyncio.Queue[RunEvent | None] = asyncio.Queue()
        self._jobs: list[asyncio.Task[None]] = []
        self._calls: dict[str, _Call] = {}
        self._tasks: set[str] = set()
        self._had_tasks = self._has_begun = False
        self._state: str | None = None
        self._session_id: str | None = None
        self._result: Any = None
        self._problem: Exception | None = None
        self._has_text = self._needs_gap = False
        self._line_is_empty = True
        self._is_over = False  # by the last answer's own end, without a result
        self._is_visible = False  # the answer that is arriving has text or calls
        self._stop_reason: str | None = None
        self._reported: UsageReported | None = None
        self._deferred: WaitingCall | None = None
        if job.resumption is not None:
            self._resume(job.resumption)

    @property
    def session_id(self) -> str:
        """What the CLI calls its session."""
        return self._session_id or ""

    @property
    def deferred(self) -> WaitingCall | None:
        """The call that the run has to wait for."""
        return self._deferred

    def _resume(self, resumption: Resumption) -> None:
        """Take up what was decided, and what was said until then."""
        self._has_text, self._needs_gap = True, True
        self._line_is_empty = resumption.ends_line
        self._rejected = {each.call_id: each.reason for each in resumption.decisions if not each.is_approved}
        for each in resumption.decisions:
            self._resumed.add(each.call_id)
            if each.is_approved:
                self.job.gateway.approve(each.call_id, each.arguments_hash)

    async def before_call(self, given: Any, call_id: str | None, _context: Any) -> dict[str, Any]:
        """The CLI's question before each call of our tools: go on, wait for a person, or do not."""
        identity = str(given.get("tool_use_id") or call_id or "")
        name, arguments = str(given.get("tool_name")).removeprefix(PREFIX), given.get("tool_input") or {}
        self._taken_up.add(identity)
        if identity in self._rejected:
            self._calls[identity] = _Call(name, arguments, is_announced=True)
            return _verdict("deny", self._rejected[identity])
        if identity in self._resumed or not self.job.gateway.waits(name, arguments, call_id=identity):
            return {}
        if self._deferred is not None and self._deferred.call_id != identity:
            return _verdict("deny", ONE_AT_A_TIME)
        if given.get("agent_id"):  # it could not be resumed
            return _verdict(
                "deny", f"{name} needs a person's approval, for which only the persona itself may ask."
            )
        self._deferred = WaitingCall(identity, self.job.gateway.shown_name(name), dict(arguments))
        return _verdict("defer")

    async def events(self, options: ClaudeAgentOptions, launch: Launch) -> AsyncIterator[RunEvent]:
        """Everything until the result, the first error of the model, or the end of the CLI."""
        loop = asyncio.get_running_loop()
        listening = loop.create_task(self._listen(options))
        listening.add_done_callback(lambda _: self._queue.put_nowait(None))
        self._jobs = [listening, loop.create_task(self._watch_start(launch))]
        self.run.failure.add_done_callback(
            lambda _: loop.call_later(LAST_WORDS_SECONDS, self._queue.put_nowait, None)
        )
        while (event := await self._queue.get()) is not None:
            yield event
        for event in self._usage():
            yield event

    def ending(self) -> list[RunEvent]:
        """What is left to say of a run that ended well; raises ``ModelError`` for one that did not."""
        if self.run.failure.done() and not self.run.failure.cancelled():
            raise self.run.failure.result()
        if not self._is_over:
            if self._problem is not None or self._result is None:
                raise self._cli_error() from self._problem
            if self._result.is_error:
                raise self._result_error(self._result)
        if self._deferred is not None:
            deferred = getattr(self._result, "deferred_tool_use", None)
            if deferred is None or deferred.id != self._deferred.call_id:
                raise _not_waiting()
            return []
        if self._resumed - self._taken_up:
            raise ModelError(
                "The Claude CLI did not take up the call that was decided on; it was not made.",
                kind="cli",
                hint="Run again.",
            )
        return check_end(
            self.job.model.provider,
            _FINISH.get(self._stop_reason or "", self._stop_reason),
            has_text=self._has_text,
            num_requests=self.run.usage.num_turns,
            max_output_tokens=self.job.allowance.last_max_output_tokens or self.job.max_output_tokens,
        )

    async def close(self) -> None:
        """Stop listening."""
        for task in self._jobs:
            task.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=3)

    async def call(self, name: str, arguments: dict[str, Any], call_id: str) -> tuple[str, bool]:
        """Perform a call of one of our tools for the CLI: the text for the model, and whether it is an error."""
        call = self._calls.setdefault(call_id, _Call(name, arguments))
        call.is_ours = True
        call.is_announced = call.is_announced or call_id in self._resumed
        if name in PROTOCOL_KINDS:
            if not await self._is_of_persona(call):
                self._say(WarningRaised(text=f"A {name} of an agent that it had started was not acted upon."))
                return "Only the persona sends this. Put what it should know into your answer.", True
            try:
                parse_body(name, arguments)
            except InvalidInput as error:
                self._say(WarningRaised(text=f"A {name} was refused: {error}"))
                return str(error), True
            self._say(ProtocolCalled(kind=name, data=arguments))
            return "Done.", False
        if call_id in self._rejected:  # the hook stands before this
            return self._rejected[call_id], True
        self._announce(call, call_id)
        step = await self.job.gateway.call(name, arguments, call_id=call_id)
        self._say(ToolCallFinished(step=step))
        return (step.output, False) if step.error is None else (step.error, True)

    async def _is_of_persona(self, call: _Call) -> bool:
        """Whether the persona itself asks, and not an agent of its own, which has read who knows what."""
        if self.job.persona.permissions != "bypass":
            return True  # it has no agents
        for _ in range(
            100
        ):  # the CLI says who asks before it calls, but that may still be waiting in the SDK
            if call.is_of_persona is not None:
                break
            await asyncio.sleep(0.02)
        return bool(call.is_of_persona)

    async def _watch_start(self, launch: Launch) -> None:
        """The SDK would wait a minute for the first word of a CLI that has ended at once, and without an error."""
        while not self._has_begun:
            if launch.has_ended:
                await asyncio.sleep(0.5)  # what it said may be on its way
                self._queue.put_nowait(None)
                return
            await asyncio.sleep(0.1)

    async def _listen(self, options: ClaudeAgentOptions) -> None:
        from claude_agent_sdk import query

        prompt = _nothing() if self.job.resumption is not None else _only(self.job.prompt)
        messages = query(prompt=prompt, options=options)
        try:
            async for message in messages:
                self._take(message)
                if self._is_over or self._is_finished():
                    return
        except Exception as error:  # the SDK, its transport and its parser raise many kinds
            self._problem = error
        finally:
            with suppress(Exception):  # the CLI is killed anyway
                await messages.aclose()  # type: ignore[attr-defined]  # it is a generator

    def _is_finished(self) -> bool:
        """Whether no turn follows the last result: one does after each task, when its turn comes."""
        is_quiet = not self._had_tasks or self._state in (None, "idle")
        return self._result is not None and not self._tasks and is_quiet

    def _take(self, message: Any) -> None:
        self._has_begun = True
        kind = type(message).__name__
        is_own = getattr(message, "parent_tool_use_id", None) is None
        if kind == "StreamEvent" and is_own:
            self._take_stream(message.event)
        elif kind == "AssistantMessage":
            for block in message.content:
                if type(block).__name__ == "ToolUseBlock":
                    self._started(block.id, block.name, block.input, is_own=is_own)
        elif kind == "UserMessage" and isinstance(message.content, list):
            for block in message.content:
                if type(block).__name__ == "ToolResultBlock":
                    self._finished(block)
        elif kind == "ResultMessage":
            self._result, self._session_id = message, message.session_id
        elif kind == "TaskStartedMessage" and message.task_type in _WAITED_FOR:
            self._had_tasks = True
            self._tasks.add(message.task_id)
            if message.data.get("is_backgrounded") and (call := self._calls.get(message.tool_use_id)):
                call.is_in_background = True
        elif kind == "TaskNotificationMessage":
            self._tasks.discard(message.task_id)
            self._task_ended(message)
        elif kind == "TaskUpdatedMessage" and _is_over(message.status):
            self._tasks.discard(message.task_id)
        elif kind == "SystemMessage" and message.subtype == "init":
            self._check_start(message.data)
        elif kind == "SystemMessage" and message.subtype == "session_state_changed":
            self._state = message.data.get("state")

    def _check_start(self, data: dict[str, Any]) -> None:
        """The CLI must have our tools, and under ``assigned`` no others; better no run than one that may do more."""
        self._session_id = data.get("session_id")
        servers = {server.get("name"): server.get("status") for server in data.get("mcp_servers", ())}
        if servers.get(SERVER) != "connected":
            raise RuntimeError(f"The CLI did not connect to the persona's tools: {servers}")
        others = [tool for tool in data.get("tools", ()) if not tool.startswith(PREFIX)]
        if others and self.job.persona.permissions != "bypass":
            raise RuntimeError(f"The CLI offers tools that are not assigned: {', '.join(others)}")

    def _take_stream(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._is_visible, self._stop_reason = False, None
        elif kind == "content_block_start":
            block = event.get("content_block", {}).get("type")
            # what follows a tool call, or another block, is a paragraph of its own
            self._needs_gap = self._has_text and block == "text"
            self._is_visible = self._is_visible or str(block).endswith("tool_use")
        elif kind == "content_block_delta" and event.get("delta", {}).get("type") == "text_delta":
            self._text(event["delta"].get("text") or "")
        elif kind == "message_delta":
            self._stop_reason = event.get("delta", {}).get("stop_reason") or self._stop_reason
            for usage in self._usage():
                self._say(usage)
        elif kind == "message_stop":
            # The CLI would ask again after each of these, and the person would pay again.
            self._is_over = not self._tasks and (
                self._stop_reason in ("refusal", "max_tokens")
                or (self._stop_reason == "end_turn" and not self._is_visible)
            )

    def _text(self, text: str) -> None:
        if not text:
            return
        if self._needs_gap and not self._line_is_empty:
            text = f"\n\n{text}"
        self._needs_gap = False
        if text.strip():
            self._has_text = self._is_visible = True
        self._line_is_empty = text.endswith("\n")
        self._say(TextDelta.model_construct(text=text))

    def _started(self, call_id: str, tool: str, arguments: Any, *, is_own: bool) -> None:
        # what is no JSON the CLI hands on like this, and refuses
        is_broken = not isinstance(arguments, dict) or "__unparsedToolInput" in arguments
        name = tool.removeprefix(PREFIX)
        call = self._calls.setdefault(call_id, _Call(name, {} if is_broken else arguments))
        call.is_of_persona = is_own
        if not (tool.startswith(PREFIX) and name in PROTOCOL_KINDS):
            self._announce(call, call_id)

    def _announce(self, call: _Call, call_id: str) -> None:
        """Once: a message may come twice, growing, and the call itself may overtake it."""
        if not call.is_announced:
            call.is_announced = True
            gateway = self.job.gateway
            shown = gateway.shown(call.arguments)
            self._say(ToolCallStarted(tool=gateway.shown_name(call.name), call_id=call_id, input=shown))

    def _finished(self, block: Any) -> None:
        """A call that never reached our tools: one of the CLI's own, or of a tool that does not exist."""
        call = self._calls.get(block.tool_use_id)
        if call is None or call.is_ours or call.is_over or (call.is_in_background and not block.is_error):
            return
        call.is_over = True
        text = _text_of(block.content)
        if call.name in PROTOCOL_KINDS:
            self._say(WarningRaised(text=f"A {call.name} was refused: {_plain_error(text)}"))
            return
        is_performed = self.job.persona.permissions == "bypass" and not text.startswith("<tool_use_error>")
        self._say(
            ToolCallFinished(step=self._step(call, block.tool_use_id, text, block.is_error, is_performed))
        )

    def _task_ended(self, message: Any) -> None:
        """What an agent in the background says at its end is the result of the call that started it."""
        call = self._calls.get(message.tool_use_id)
        if call is None or not call.is_in_background or call.is_over:
            return
        call.is_over = True
        is_error = message.status != "completed"
        text = message.summary or message.status
        self._say(ToolCallFinished(step=self._step(call, message.tool_use_id, text, is_error, True)))

    def _step(
        self, call: _Call, call_id: str, text: str, is_error: bool | None, is_performed: bool
    ) -> ToolCallStep:
        return self.job.gateway.record(
            self.job.gateway.shown_name(call.name),
            call.arguments,
            call_id=call_id,
            output="" if is_error else text,
            error=_plain_error(text) if is_error else None,
            duration_ms=round((time.monotonic() - call.begun) * 1000) if is_performed else 0,
            performed=is_performed,
        )

    def _usage(self) -> list[RunEvent]:
        usage = self.run.usage.changed(session_id=self._session_id)
        if usage == self._reported or usage.num_turns == 0:
            return []
        self._reported = usage
        return [usage]

    def _say(self, event: RunEvent) -> None:
        self._queue.put_nowait(event)

    def _result_error(self, result: Any) -> ModelError:
        provider = self.job.model.provider
        what = "; ".join(map(str, result.errors or ())) or str(result.result or result.subtype)
        if result.api_error_status and not _is_too_long(what):
            message = re.sub(r"^API Error: (\d{3} )?", "", str(result.result or ""))
            return status_to_model_error(int(result.api_error_status), provider=provider, message=message)
        if result.subtype == "error_max_turns":
            return ModelError(
                f"The run reached its limit of {self.job.max_turns} turns.",
                kind="turns",
                hint="Raise it with --max-turns, or ask for less in one run.",
            )
        if _is_too_long(what):
            return ModelError(
                "The conversation is longer than the model can read at once.",
                kind="rejected",
                hint="Give less input or fewer files, or split the work into several runs.",
            )
        return ModelError(
            f"The Claude CLI ended with an error: {_as_sentence(_one_line(what))}",
            kind="cli",
            hint="Run again; if it stays, try `engine: direct` in the persona's model_profile.",
        )

    def _cli_error(self) -> ModelError:
        code = getattr(self._problem, "exit_code", None)
        problem = str(self._problem or "") if code is None else f"exit code {code}"
        said = _one_line(" ".join(list(self.stderr)[-3:]) or problem)
        return ModelError(
            f"The Claude CLI ended before the run was finished{f': {_as_sentence(said)}' if said else '.'}",
            kind="cli",
            hint="Run again; `%persona health` says whether the CLI works.",
        )


@dataclass
class _Call:
    """A tool call that the model asked for."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    is_ours: bool = False
    is_over: bool = False
    is_announced: bool = False
    is_in_background: bool = False
    is_of_persona: bool | None = None
    """False for an agent that the persona started; None as long as nobody said it."""


def _not_waiting() -> ModelError:
    return ModelError(
        "The Claude CLI did not wait for the decision on a call.",
        kind="cli",
        hint="Run again, or set `engine: direct` in the persona's model_profile.",
    )


def _verdict(decision: str, reason: str = "") -> dict[str, Any]:
    said = {"hookEventName": "PreToolUse", "permissionDecision": decision}
    return {"hookSpecificOutput": {**said, "permissionDecisionReason": reason} if reason else said}


def _options(job: Job, talk: _Talk, cli_path: Path, session_id: str | None) -> ClaudeAgentOptions:
    from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

    bypasses = job.persona.permissions == "bypass"

    async def refuse(given: Any, _id: str | None, _context: Any) -> dict[str, Any]:
        return _verdict("deny", f"{given.get('tool_name')} is not assigned to this persona.")

    # tools=[] is the wall; the hook stands behind it, because read-only commands ask nobody
    others = HookMatcher(matcher=f"^(?!{PREFIX}).*", hooks=[refuse])  # type: ignore[list-item]
    ours = HookMatcher(matcher=f"^{PREFIX}.*", hooks=[talk.before_call])  # type: ignore[list-item]
    hooks = [*([] if bypasses else [others]), *([ours] if job.gateway.has_held or job.resumption else [])]
    return ClaudeAgentOptions(
        cli_path=cli_path,
        cwd=job.gateway.workspace,
        model=job.model.model,
        tools={"type": "preset", "preset": "claude_code"} if bypasses else [],
        allowed_tools=[f"mcp__{SERVER}"],
        disallowed_tools=["ScheduleWakeup"],  # the run would be over; the persona has triggers
        permission_mode="bypassPermissions" if bypasses else "dontAsk",
        hooks={"PreToolUse": hooks} if hooks else None,
        resume=session_id,
        mcp_servers={SERVER: {"type": "sdk", "name": SERVER, "instance": _server(job, talk.call)}},
        strict_mcp_config=True,
        setting_sources=[],
        include_partial_messages=True,
        extra_args={} if job.gateway.has_held else {"no-session-persistence": None},
        verbatim_prompts=True,  # or “@/etc/passwd” in an input would read a file
        max_buffer_size=LINE_LIMIT_BYTES,
        stderr=talk.stderr.append,
    )


def _server(job: Job, call: Callable[[str, dict[str, Any], str], Any]) -> Any:
    """The persona's tools and the protocol messages as an MCP server in our process.

    Not the SDK's own helper: that checks arguments itself, and what it refuses would leave no step. All tools are
    marked read-only, which they need not be: it only lets the CLI call several at once, as the model asked.
    """
    from mcp.server.lowlevel import Server
    from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations

    parallel = ToolAnnotations(read_only_hint=True)
    names = job.gateway.model_names
    offered = [(names[tool.name], tool.description, tool.input_schema) for tool in job.gateway.definitions]
    offered += [(kind, describe(kind), body_schema(kind)) for kind in PROTOCOL_KINDS]
    # a session does not go on without the tool that it waited for; one that was taken away is refused when called
    waited_for = [each.tool for each in job.resumption.decisions] if job.resumption else []
    gone = model_names(name for name in waited_for if name not in names)
    offered += [(name, "Not assigned any more.", {"type": "object"}) for name in gone.values()]
    tools = [
        Tool(name=name, description=about, input_schema=schema, annotations=parallel)
        for name, about, schema in offered
    ]

    async def listed(_context: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=tools)

    async def called(_context: Any, params: Any) -> CallToolResult:
        call_id = str((params.meta or {}).get("claudecode/toolUseId", ""))
        text, is_error = await call(params.name, dict(params.arguments or {}), call_id)
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)

    return Server(SERVER, on_list_tools=listed, on_call_tool=called)


def _extra_environment(job: Job) -> dict[str, str]:
    env = {
        **job.secrets,
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(job.max_output_tokens),
        "MAX_MCP_OUTPUT_TOKENS": str(max(25_000, job.settings.tool_output_limit_chars)),
        "MCP_TOOL_TIMEOUT": str(job.settings.tool_timeout_ms + 60_000),  # ours ends first
        "ENABLE_TOOL_SEARCH": "false",
        "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",  # without it the SDK keeps them to itself
        "CLAUDE_CODE_DISABLE_CRON": "1",  # nothing of it outlives the run; the persona has triggers
    }
    if job.model.provider != "anthropic":  # other servers do not know what is new at Anthropic's
        env["CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS"] = "1"
    return env


def _check_workspace(folder: Path) -> None:
    """Make the workspace if it is gone; raises ``InvalidInput`` where the CLI could not work in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(
            f"The workspace {folder} cannot be written: {reason}.",
            hint="Make it writable, or remove it: it is made anew.",
        ) from None


async def _only(prompt: str) -> AsyncIterator[dict[str, Any]]:
    """The prompt as the one message of the run: it goes through stdin, however long it is."""
    yield {
        "type": "user",
        "session_id": "",
        "message": {"role": "user", "content": prompt},
        "parent_tool_use_id": None,
    }


async def _nothing() -> AsyncIterator[dict[str, Any]]:
    """No word from us, and an open stdin: through it the CLI calls our tools."""
    await asyncio.Event().wait()
    yield {}


async def _launched(folder: Path, **what: Any) -> Launch:
    """The launch; when this is cancelled while it is made, nothing of it stays."""
    making = asyncio.ensure_future(asyncio.to_thread(Launch, folder, **what))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:

        async def unmake() -> None:
            with suppress(OSError, ModelError):
                await asyncio.to_thread((await making).close)

        await undisturbed(unmake())
        raise


async def _closed(talk: _Talk, launch: Launch | None) -> None:
    if launch is not None:
        await asyncio.to_thread(launch.kill)  # first, or the SDK would wait for the CLI to end politely
    await talk.close()
    if launch is not None:
        await asyncio.to_thread(launch.close)


def _is_too_long(what: str) -> bool:
    return "prompt is too long" in what.lower() or "context window" in what.lower()


def _is_over(status: str | None) -> bool:
    return status in ("completed", "failed", "stopped", "killed")


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content or ()
    return "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in parts)


def _plain_error(text: str) -> str:
    text = text.removeprefix("<tool_use_error>").removesuffix("</tool_use_error>")
    text = re.sub(r"^PreToolUse:\S+ hook error: ", "", text)
    return text.removeprefix("Error: ")


def _as_sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _one_line(text: str, limit_chars: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit_chars else f"{line[:limit_chars]}…"
