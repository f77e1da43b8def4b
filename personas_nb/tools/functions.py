"""Functions of the notebook as tools.

- pydantic-ai makes the schema from the signature's hints and the docstring (Google, numpy, reST), as it does for
  tools of its own; DataFrames are handles in it.
- The catalog has a row for each, so that it can be assigned; the function itself is in this process only. In
  another process a call is answered with where it was defined.
- A plain function runs in a thread, or on the kernel's main thread; a coroutine function on the worker's event loop,
  which it must not block.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import socket
import threading
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from personas_nb.entities.base import in_words, made
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import InvalidInput, ToolDenied, ToolError
from personas_nb.tools.builtin import Implementation, Place
from personas_nb.tools.frames import RunFrames, as_frame, described, handle_schema
from personas_nb.tools.main_thread import on_main_thread
from personas_nb.tools.working_for import working_for

SCHEME = "notebook://"
Redact = Callable[[str], str]
# What the house offers to every model beside the tools, under these names.
RESERVED = frozenset(
    (
        "user_message",
        "persona_action",
        "emit_event",
        "agent_memory",
        "manual_review",
        "execution_flow",
        "outcome_assessment",
    )
)
DESCRIPTION_LIMIT_CHARS = 2_000
_NESTED = 3  # how deep in a result frames are looked for

_known: dict[Path, dict[str, NotebookFunction]] = {}
_known_lock = threading.Lock()


@dataclass(frozen=True)
class NotebookFunction:
    """A function that is a tool in this process."""

    definition: ToolDefinition
    function: Callable[..., Any]
    validator: Any
    is_async: bool
    main_thread: bool


def function_tool(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    effect: str = "outside",
    main_thread: bool = False,
    timeout_ms: int | None = None,
) -> NotebookFunction:
    """The function as a tool; raises ``InvalidInput`` for what cannot be one."""
    if not callable(function) or isinstance(function, type):
        raise InvalidInput(
            f"A tool is a function, and no {type(function).__name__}.",
            hint="Give a function: studio.tools.add(function).",
        )
    tool_name = _name_of(function, name)
    is_async = inspect.iscoroutinefunction(function)
    if is_async and main_thread:
        raise InvalidInput(
            f"{tool_name} is a coroutine function, which runs on an event loop.",
            hint="Leave main_thread out, or make it a plain function.",
        )
    schema = _schema_of(function, tool_name)
    about = description or _plain(schema.description or "") or f"The notebook's function {tool_name}."
    definition = made(
        ToolDefinition,
        {
            "name": tool_name,
            "category": "notebook",
            "description": about[:DESCRIPTION_LIMIT_CHARS],
            "script_path": SCHEME + tool_name,
            "input_schema": schema.json_schema,
            "effect": effect,
            "timeout_ms": timeout_ms,
            "defined_in": here(),
        },
    )
    return NotebookFunction(definition, function, schema.validator, is_async, main_thread)


def register(home: Path, tool: NotebookFunction) -> None:
    """From now on runs of this process call this function; one of the same name is replaced."""
    with _known_lock:
        _known.setdefault(home.resolve(), {})[tool.definition.name] = tool


def registered(home: Path) -> Mapping[str, NotebookFunction]:
    """The functions that are tools in this process, by name."""
    with _known_lock:
        # Every run asks, and most notebooks have none.
        return dict(_known.get(home.resolve(), {})) if _known else {}


def here() -> str:
    """This process in words: the notebook, as far as Jupyter tells it, and the process.

    >>> "process" in here()
    True
    """
    session = os.environ.get("JPY_SESSION_NAME", "")
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return f"{Path(session).name} ({process})" if session else process


def implementation(tool: NotebookFunction, execution_id: str, frames: RunFrames) -> Implementation:
    """What the gateway calls in one run: arguments become values, frames are looked up, the result becomes text."""
    name = tool.definition.name

    async def perform(place: Place, arguments: dict[str, Any]) -> Any:
        redact = place.redactor.redact
        if tool.is_async:
            values = _values(tool, arguments, frames)
            with working_for(execution_id):
                return _shown(name, await _awaited(name, tool.function(**values)), frames, redact)
        cancelled = threading.Event()

        def call() -> Any:
            values = _values(tool, arguments, frames)
            if cancelled.is_set():  # the last moment at which nothing has happened
                raise ToolError("The call was cancelled before it began.")
            with working_for(execution_id):
                return _shown(name, _called(name, tool.function, values), frames, redact)

        try:
            if tool.main_thread:
                return await on_main_thread(execution_id, call)
            return await asyncio.to_thread(call)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    return perform


def elsewhere(definition: ToolDefinition) -> Implementation:
    """What answers a call where the function is not."""

    def refuse(_place: Place, _arguments: dict[str, Any]) -> str:
        raise ToolDenied(
            missing(definition), hint="Go on without it, and say in the outcome that it was missing."
        )

    return refuse


def missing(definition: ToolDefinition) -> str:
    """Why a function cannot be called here, in a sentence."""
    where = f"defined in {definition.defined_in}" if definition.defined_in else "of a notebook"
    return f"{definition.name} is a function {where}; this run is in {here()}, which does not have it."


# --- the schema -------------------------------------------------------------------------------------------


def _name_of(function: Callable[..., Any], given: str | None) -> str:
    name = str(given or getattr(function, "__name__", ""))
    if not re.fullmatch(r"[A-Za-z]\w{0,47}", name, re.ASCII):
        what = "A lambda has no name" if name == "<lambda>" else f"“{name[:80]}” cannot name a tool"
        raise InvalidInput(f"{what}.", hint="Give one of letters, digits and _: tools.add(function, name=…).")
    if name in RESERVED:
        raise InvalidInput(f"“{name}” is the name of a protocol message.", hint="Choose another: name=….")
    return name


def _schema_of(function: Callable[..., Any], name: str) -> Any:
    """pydantic-ai's function schema of a stand-in whose hints are those of the function, with frames as handles."""
    from pydantic_ai import Tool

    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(inspect.unwrap(_plain_function(function)), include_extras=True)
    except (NameError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"The hints of {name} cannot be read: {error}.", hint="Define the types before the function."
        ) from None
    parameters = [
        parameter.replace(annotation=_hint(name, parameter, hints))
        for parameter in signature.parameters.values()
    ]

    def stand_in(**arguments: Any) -> Any: ...

    stand_in.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=inspect.Signature.empty
    )
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    stand_in.__doc__ = inspect.getdoc(function)
    stand_in.__name__ = stand_in.__qualname__ = name
    try:
        return Tool(stand_in, takes_ctx=False).function_schema
    except Exception as error:  # pydantic raises many kinds for what it cannot describe
        reason = str(error).partition("\n")[0].partition(". Set `")[0].rstrip(".")
        raise InvalidInput(
            f"The hints of {name} cannot be described to a model: {reason}.",
            hint="Use str, int, float, bool, Literal, Enum, list, dict, dataclasses, pydantic models or DataFrame.",
        ) from None


def _plain_function(function: Callable[..., Any]) -> Any:
    function = getattr(function, "func", function)  # of a partial
    return function if inspect.isroutine(function) else type(function).__call__


def _hint(name: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: f"takes “{parameter.name}” by position only",
        inspect.Parameter.VAR_POSITIONAL: f"takes any number of arguments (*{parameter.name})",
        inspect.Parameter.VAR_KEYWORD: f"takes arguments of any name (**{parameter.name})",
    }
    if parameter.kind in kinds:
        raise InvalidInput(
            f"{name} {kinds[parameter.kind]}, and a model names its arguments.",
            hint="Write a function around it whose parameters have names.",
        )
    if parameter.name in hints:
        return _with_handles(hints[parameter.name])
    if type(parameter.default) in (str, int, float, bool):
        return type(parameter.default)
    return Any


def _with_handles(hint: Any) -> Any:
    """A hint in which frames are handles, wherever they stand in it."""
    kind = _frame_kind(hint)
    if kind:
        return _handle(kind)
    if typing.is_typeddict(hint):
        return _readable(hint)
    inner = get_args(hint)
    if not inner or get_origin(hint) is typing.Literal or not any(_changes(part) for part in inner):
        return hint
    if get_origin(hint) is Annotated:
        return Annotated[(_with_handles(inner[0]), *inner[1:])]
    changed = tuple(_with_handles(part) for part in inner)
    origin = get_origin(hint)
    return typing.Union[changed] if origin in _UNIONS else origin[changed]  # noqa: UP007 - made of parts


_UNIONS = (typing.Union, type(int | str))


def _changes(hint: Any) -> bool:
    return (
        bool(_frame_kind(hint)) or typing.is_typeddict(hint) or any(_changes(part) for part in get_args(hint))
    )


def _readable(hint: Any) -> Any:
    """A TypedDict as pydantic can read it: before Python 3.12 that of ``typing`` tells too little of itself."""
    import typing_extensions

    if type(hint) is type(typing_extensions.TypedDict("_Known", {})):  # type: ignore[operator]
        return hint
    required, hints = hint.__required_keys__, typing.get_type_hints(hint)
    marks = {
        name: (typing_extensions.Required if name in required else typing_extensions.NotRequired)[
            _with_handles(kind)
        ]
        for name, kind in hints.items()
    }
    return typing_extensions.TypedDict(hint.__name__, marks)  # type: ignore[operator]


def _frame_kind(hint: Any) -> str:
    module, name = getattr(hint, "__module__", "") or "", getattr(hint, "__name__", "")
    return name if module.partition(".")[0] == "pandas" and name in ("DataFrame", "Series") else ""


def _handle(kind: str) -> Any:
    from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

    def frame(value: object, info: ValidationInfo) -> Any:
        if not isinstance(value, str) or info.context is None:
            return value  # the default of the parameter
        found = info.context.get(value)  # what it raises is no ValueError: it reaches the caller as it is
        return found.iloc[:, 0] if kind == "Series" else found

    return Annotated[Any, PlainValidator(frame), WithJsonSchema(handle_schema(kind))]


def _plain(description: str) -> str:
    """A description without the tags that set a returns section off."""
    text = re.sub(r"</?(?:summary|description|type)>", "", description)
    return re.sub(r"\n?<returns>\s*(.*?)\s*</returns>", r"\nReturns: \1", text, flags=re.DOTALL).strip()


# --- a call -----------------------------------------------------------------------------------------------


def _values(tool: NotebookFunction, arguments: dict[str, Any], frames: RunFrames) -> dict[str, Any]:
    from pydantic import BaseModel, ValidationError

    try:
        values: dict[str, Any] = tool.validator.validate_python(arguments, context=frames)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidInput(in_words(problems, BaseModel), hint="Call it with other arguments.") from None
    return values


def _called(name: str, function: Callable[..., Any], values: dict[str, Any]) -> Any:
    try:
        return function(**values)
    except BaseException as error:
        is_interrupt = isinstance(error, KeyboardInterrupt)
        if is_interrupt and threading.current_thread() is threading.main_thread():
            raise  # of the cell
        # SystemExit would end the event loop that waits; a StopIteration no future can carry.
        if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
            raise
        raise ToolError(f"{name} failed with {type(error).__name__}.") from None


async def _awaited(name: str, result: Any) -> Any:
    try:
        return await result
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ToolError(f"{name} failed with CancelledError.") from None  # of something that it awaited
    except (KeyboardInterrupt, SystemExit) as error:
        raise ToolError(f"{name} failed with {type(error).__name__}.") from None


def _shown(name: str, result: Any, frames: RunFrames, redact: Redact) -> str:
    """The result as text, each frame in it as its handle."""
    from personas_nb.tools.gateway import as_text

    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise ToolError(f"{name} returned something to await.", hint="Define it with async def.")
    return as_text(_with_frames_described(name, result, frames, redact, 0))


def _with_frames_described(name: str, value: Any, frames: RunFrames, redact: Redact, depth: int) -> Any:
    frame = as_frame(value)
    if frame is not None:
        return described(frames.put(name, frame), frame, redact)
    if depth >= _NESTED:
        return value
    if type(value) is dict:
        return {
            key: _with_frames_described(name, item, frames, redact, depth + 1) for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return [_with_frames_described(name, item, frames, redact, depth + 1) for item in value]
    return value
