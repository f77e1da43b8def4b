"""The one door that every tool call of every engine passes.

In order: is it its turn, is it assigned, do its arguments fit, what is it in a rehearsal, did a person approve it
where one must, is the intent written where it acts outside, how long may it take; and on the way back: text,
redaction, a cut. Redaction comes before the cut, which might leave half a secret.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from personas_nb.entities.base import now
from personas_nb.entities.tool import ToolCallStep, ToolDefinition, arguments_hash, model_names
from personas_nb.errors import PersonaError, ToolDenied, ToolError, ToolTimeout, did_you_mean
from personas_nb.settings import Settings
from personas_nb.tools.arguments import check_arguments
from personas_nb.tools.builtin import BUILTIN, Implementation, Place, in_rehearsal
from personas_nb.tools.scratch import Scratch
from personas_nb.vault.access import Access, NoCredential
from personas_nb.vault.redaction import Redactor

CALLS_AT_ONCE = (
    16  # of one execution; a model may ask for a thousand in one answer, and each may take a thread
)
ERROR_LIMIT_CHARS = 1000
DEPTH_LIMIT = 50


class _Outcome(NamedTuple):
    output: str = ""
    error: str | None = None
    performed: bool = False
    is_late: bool = False


class Intents(Protocol):
    """Where is written down what is about to be done outside, before it is done."""

    async def begin(self, tool: str, call_id: str, arguments_hash: str) -> str:
        """Store the intent and return its id; raises ``PersonaError`` where that fails."""
        ...

    def settle(self, intent_id: str, status: str) -> None:
        """``done``, ``failed``, ``refused`` (nothing was done) or ``uncertain``; waits for nothing."""
        ...


class Gateway:
    """The assigned tools of one execution.

    ``workspace`` is the folder that file tools are kept in; ``redactor`` takes secrets out of what a model gives
    a tool, so that no file or server gets one, and out of what comes back. In a ``rehearsal`` tools of effect
    ``none`` are performed, ``local`` ones too but in a scratch copy of the workspace, and ``outside`` ones are
    described. ``implementations`` has what runs behind each ``script_path``, ``access`` what tools may log in with.
    A tool of ``held`` is performed only for calls that were ``approve``d. ``intents`` are written before effects
    outside.
    """

    def __init__(
        self,
        tools: Sequence[ToolDefinition],
        *,
        workspace: Path,
        settings: Settings,
        redactor: Redactor | None = None,
        rehearsal: bool = False,
        implementations: Mapping[str, Implementation] = BUILTIN,
        access: Access | None = None,
        held: Collection[str] = (),
        intents: Intents | None = None,
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self.model_names = model_names(self._tools)
        """Under which name models are offered each tool."""
        self._shown_names = {offered: name for name, offered in self.model_names.items()}
        self.workspace = workspace
        self._settings = settings
        self._redactor = redactor or Redactor({})
        self._redact = self._redactor.redact
        self._rehearsal = rehearsal
        self._implementations = implementations
        self._access = access
        self._held = frozenset(held)
        self._approved: dict[str, str] = {}  # call id: hash of the arguments
        self._intents = intents
        self.interrupted: list[ToolCallStep] = []
        """Calls outside that were cancelled in the middle: they may have happened."""
        self._scratch: Scratch | None = None
        self._filled: asyncio.Future[None] | None = None
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)
        self._is_over = False

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        """The tools that may be called."""
        return tuple(self._tools.values())

    def end(self) -> None:
        """Begin no call any more: the run has ended, or is being ended."""
        self._is_over = True

    async def call(self, name: str, arguments: dict[str, Any], *, call_id: str = "") -> ToolCallStep:
        """Call a tool and return the record of it; whatever the tool does wrong is ``step.error``, a sentence.

        ``CALLS_AT_ONCE`` calls run at once, the others in the order in which they came; a call's time begins with
        its turn. ``performed`` is False where nothing was done: described in a rehearsal, or refused. Raises only
        CancelledError; a synchronous tool that has begun then still ends by itself. A tool is called by its name,
        or by the one that the model knows.
        """
        name = self.shown_name(name)
        async with self._turns:
            if self._is_over:  # it waited until now, and another one's end made room
                raise asyncio.CancelledError
            begun = time.monotonic()
            arguments = self._redactor.redact_value([arguments])[0]
            outcome = await self._outcome(name, arguments, call_id)
            return self.record(
                name,
                arguments,
                call_id=call_id,
                output=outcome.output,
                error=outcome.error,
                duration_ms=round((time.monotonic() - begun) * 1000),
                performed=outcome.performed,
            )

    def record(
        self,
        name: str,
        arguments: Any,
        *,
        call_id: str = "",
        output: str = "",
        error: str | None = None,
        duration_ms: int = 0,
        performed: bool = True,
    ) -> ToolCallStep:
        """The record of a call that ends now, also of one that another program performed with tools of its own.

        Input, output and error are redacted, and cut, with a mark, at ``settings.tool_output_limit_chars``.
        """
        return ToolCallStep(
            tool=self._cut(name),
            call_id=call_id,
            input=self.shown(arguments),
            output=self._cut(output),
            duration_ms=duration_ms,
            error=None if error is None else self._cut(error, ERROR_LIMIT_CHARS),
            performed=performed,
            started_at=now() - timedelta(milliseconds=duration_ms),
        )

    @property
    def has_held(self) -> bool:
        """Whether a person must decide on calls of some of the tools."""
        return any(self._must_wait(name) for name in self._tools)

    def waits(self, name: str, arguments: dict[str, Any], *, call_id: str = "") -> bool:
        """Whether a person must decide on this call before it is made; one that would be refused anyway needs none."""
        name = self.shown_name(name)
        if not self._must_wait(name):
            return False
        arguments = self._redactor.redact_value([arguments])[0]
        try:
            check_arguments(self._assigned(name), arguments)
        except PersonaError:
            return False
        return not self._is_approved(call_id, arguments)

    def hash_of(self, arguments: Any) -> str:
        """What an approval is bound to: the arguments as the tool would get them."""
        return arguments_hash(self._redactor.redact_value([arguments])[0])

    def approve(self, call_id: str, arguments_hash: str) -> None:
        """A person approved a call with these arguments; it holds for one call."""
        self._approved[call_id] = arguments_hash

    def shown(self, arguments: Any) -> dict[str, Any]:
        """The arguments of a call as they may be stored: redacted, cut, not too deep, and fit for UTF-8."""
        plain = self._plain(arguments, 0)
        return plain if isinstance(plain, dict) else {"arguments": plain}

    def shown_name(self, offered: str) -> str:
        """The name of a tool that a model called; a name that is none of ours stays."""
        return self._shown_names.get(offered, offered)

    def close(self) -> None:
        """Remove the scratch copy, if there is one."""
        if self._scratch is not None:
            self._scratch.close()

    async def _outcome(self, name: str, arguments: dict[str, Any], call_id: str) -> _Outcome:
        try:
            tool = self._assigned(name)
            check_arguments(tool, arguments)
            if self._rehearsal and (_is_described(tool) or name in self._held):
                would_wait = " A real run would first wait for your approval." if name in self._held else ""
                return _Outcome(in_rehearsal(name, self.shown(arguments)) + would_wait)
            perform = self._implementation(tool)
            self._check_approved(name, arguments, call_id)
        except PersonaError as error:
            return _Outcome(error=str(error))
        return await self._intended(tool, perform, arguments, call_id)

    def _must_wait(self, name: str) -> bool:
        return name in self._held and not self._rehearsal

    def _is_approved(self, call_id: str, arguments: Any) -> bool:
        return bool(call_id) and self._approved.get(call_id) == arguments_hash(arguments)

    def _check_approved(self, name: str, arguments: dict[str, Any], call_id: str) -> None:
        """An approval is used up by the call that it was given for."""
        if not self._must_wait(name):
            return
        is_approved = self._is_approved(call_id, arguments)
        self._approved.pop(call_id, None)
        if not is_approved:
            raise ToolDenied(
                f"{name} needs a person's approval, which this call does not have.",
                hint="Go on without it, and say so.",
            )

    async def _intended(
        self, tool: ToolDefinition, perform: Implementation, arguments: dict[str, Any], call_id: str
    ) -> _Outcome:
        """Perform it; where it acts outside, between an intent and what became of that."""
        if self._intents is None or self._rehearsal or tool.effect != "outside":
            return await self._performed(tool, perform, arguments)
        try:
            intent = await self._intents.begin(tool.name, call_id, arguments_hash(arguments))
        except PersonaError as error:
            return _Outcome(error=f"{tool.name} was not called: {error}")
        begun, status = time.monotonic(), "uncertain"
        try:
            outcome = await self._performed(tool, perform, arguments)
            status = _status_of(outcome)
            return outcome
        except asyncio.CancelledError:
            step = self.record(
                tool.name,
                arguments,
                call_id=call_id,
                error="It may have happened: the run ended before it answered.",
                duration_ms=round((time.monotonic() - begun) * 1000),
            )
            self.interrupted.append(step.changed(uncertain=True))
            raise
        finally:
            self._intents.settle(intent, status)

    def _assigned(self, name: str) -> ToolDefinition:
        if name in self._tools:
            return self._tools[name]
        assigned = f"Assigned are {', '.join(self._tools)}." if self._tools else "It has no tools."
        raise ToolDenied(
            f"The tool “{name}” is not assigned to this persona.",
            hint=f"{did_you_mean(name, self._tools)} {assigned}".strip(),
        )

    def _implementation(self, tool: ToolDefinition) -> Implementation:
        try:
            return self._implementations[tool.script_path]
        except KeyError:
            raise ToolDenied(
                f"The tool “{tool.name}” is in the catalog, but nothing here can run it.",
                hint="Go on without it, and say so.",
            ) from None

    async def _performed(
        self, tool: ToolDefinition, perform: Implementation, arguments: dict[str, Any]
    ) -> _Outcome:
        limit_seconds = (tool.timeout_ms or self._settings.tool_timeout_ms) / 1000
        clock = asyncio.timeout(limit_seconds)
        try:
            place = await self._place(tool)
            async with clock:
                # A cancel that was asked for meanwhile takes effect here: from the next line on, things happen.
                await asyncio.sleep(0)
                if iscoroutinefunction(perform):
                    output = as_text(await perform(place, arguments))
                else:
                    output = await asyncio.to_thread(_in_thread, tool, perform, place, arguments)
        except (Exception, SystemExit) as error:  # a tool is anybody's code; what it raises answers the model
            late = _late(tool, limit_seconds) if clock.expired() else error
            is_done = not isinstance(error, NoCredential)
            said = self._noted(tool, _sentence(tool, late))
            return _Outcome(error=said, performed=is_done, is_late=clock.expired())
        return _Outcome(self._noted(tool, output), performed=True)

    async def _place(self, tool: ToolDefinition) -> Place:
        place = Place(self.workspace, self._settings, redactor=self._redactor)
        if self._access is not None:
            needs = tool.requires_credential_type
            place = place._replace(credential=partial(self._access.open, tool.name, needs=needs))
        if not self._rehearsal:
            return place
        if self._scratch is None and tool.effect == "local":
            self._scratch = Scratch(self.workspace, file_limit_bytes=self._settings.file_limit_bytes)
            self._filled = asyncio.ensure_future(asyncio.to_thread(self._scratch.fill))
        if self._scratch is None or self._filled is None:
            return place
        # Shielded: a cancelled call must not leave half a copy to the others.
        await asyncio.shield(self._filled)
        return place._replace(workspace=self._scratch.folder)

    def _noted(self, tool: ToolDefinition, text: str) -> str:
        """In a rehearsal, what the text does not say by itself: where it happened, and what was missing there."""
        if not self._rehearsal or self._scratch is None:
            return text
        prefix = "Rehearsal, in a scratch copy of the workspace: " if tool.effect == "local" else ""
        return "\n".join(filter(None, (self._scratch.note, prefix + text)))

    def _plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict | list | tuple) and depth == DEPTH_LIMIT:
            return "… nested too deeply"
        if isinstance(value, dict):
            return {self._cut(str(key)): self._plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(item, depth + 1) for item in value]
        if value is None or isinstance(value, bool):
            return value
        text = str(value)
        # A secret may consist of digits, and come as a number.
        return value if not isinstance(value, str) and self._redact(text) == text else self._cut(text)

    def _cut(self, text: str, limit_chars: int | None = None) -> str:
        limit_chars = limit_chars or self._settings.tool_output_limit_chars
        # A NUL ends a text for many a program that reads it; the sign for one does not.
        text = self._redact(text).encode("utf-8", "replace").decode().replace("\0", "␀")
        if len(text) <= limit_chars:
            return text
        return f"{text[:limit_chars]}\n… cut: {limit_chars} of {len(text)} characters"


def _status_of(outcome: _Outcome) -> str:
    """What became of an intent; a tool that took too long may go on in its thread, or at the other end."""
    if outcome.is_late:
        return "uncertain"
    if not outcome.performed:
        return "refused"
    return "done" if outcome.error is None else "failed"


def _is_described(tool: ToolDefinition) -> bool:
    """Whether a rehearsal only tells what it would do: nothing keeps a function of the notebook in a scratch copy."""
    return tool.effect == "outside" or (tool.effect == "local" and tool.script_path.startswith("notebook://"))


def _in_thread(tool: ToolDefinition, perform: Implementation, place: Place, arguments: dict[str, Any]) -> str:
    try:
        return as_text(perform(place, arguments))
    except PersonaError:
        raise
    except BaseException as error:
        # SystemExit would end the event loop, and everybody's runs with it; Python 3.11 waits forever for a
        # StopIteration, which no future can carry.
        raise ToolError(_sentence(tool, error)) from None


def as_text(result: Any) -> str:
    """What a tool returned as text: JSON unless it is text already."""
    if isinstance(result, str):
        return result
    if isinstance(result, bytes | bytearray):
        try:
            return result.decode()
        except UnicodeDecodeError:
            return f"({len(result):,} bytes that are not UTF-8 text; not shown)"
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(result, fallback=repr, inf_nan_mode="strings", bytes_mode="base64").decode()
    except PydanticSerializationError as error:
        if "surrogates" not in str(error):
            raise
        # half a character, as a file name or a cut text has it; what it becomes is decided where all text is cut
        return json.dumps(result, ensure_ascii=False, separators=(",", ":"), default=repr)


def _late(tool: ToolDefinition, limit_seconds: float) -> ToolTimeout:
    limit = "its timeout_ms" if tool.timeout_ms else "the setting tool_timeout_ms"
    hint = f"Ask for less at once, or raise {limit}."
    if tool.effect != "none":
        hint = "It may still take effect: look before you call it again."
    return ToolTimeout(f"{tool.name} took longer than {limit_seconds:g} s.", hint=hint)


def _sentence(tool: ToolDefinition, error: BaseException) -> str:
    if isinstance(error, PersonaError):
        return str(error)
    try:
        reason = " ".join(str(error).split())
    except Exception:  # an exception of anybody's may fail even at this
        reason = ""
    return f"{tool.name} failed with {type(error).__name__}{f': {reason}' if reason else ''}."
