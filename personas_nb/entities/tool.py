"""Tools of the catalog, and one call of a tool."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

Effect = Literal["none", "local", "outside"]


class ToolDefinition(Entity):
    """A tool that personas may be assigned.

    ``effect`` says what a call changes: ``none``, ``local`` (the persona's workspace) or ``outside``.
    Rehearsal performs ``none``, performs ``local`` in a scratch copy, and describes ``outside``.
    ``timeout_ms`` is how long one call may take; None means the setting ``tool_timeout_ms``. ``defined_in`` says
    in which kernel a function of a notebook was made a tool.
    """

    id: str = Field(default_factory=new_id)
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,127}$")
    category: str = "other"
    description: str = ""
    script_path: str = ""
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    requires_credential_type: str | None = None
    effect: Effect = "outside"
    is_builtin: bool = False
    timeout_ms: int | None = Field(default=None, gt=0)
    defined_in: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)


MODEL_NAME_LIMIT_CHARS = 48
"""The APIs take 64, of which the Claude CLI needs some for a prefix of its own."""


def model_names(names: Iterable[str]) -> dict[str, str]:
    """Under which name models are offered each of these tools: letters, digits, ``_`` and ``-``, short, unique.

    >>> model_names(["file_read", "time.convert_time"])
    {'file_read': 'file_read', 'time.convert_time': 'time__convert_time'}
    """
    offered: dict[str, str] = {}
    # Those that need no change keep their name, whatever the others become.
    for name in sorted(dict.fromkeys(names), key=lambda name: not _fits(name)):
        short = re.sub(r"[^A-Za-z0-9_-]", "_", name.replace(".", "__"))
        if len(short) > MODEL_NAME_LIMIT_CHARS or short in offered.values():
            mark = hashlib.sha256(name.encode()).hexdigest()[:8]
            short = f"{short[: MODEL_NAME_LIMIT_CHARS - 9]}_{mark}"
        offered[name] = short
    return offered


def _fits(name: str) -> bool:
    return re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MODEL_NAME_LIMIT_CHARS}}}", name) is not None


def arguments_hash(arguments: Any) -> str:
    """What two calls of a tool with the same arguments have in common.

    >>> arguments_hash({"a": 1, "b": 2}) == arguments_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class ToolAssignment(Entity):
    """A tool given to a persona."""

    id: str = Field(default_factory=new_id)
    persona_id: str
    tool_name: str
    needs_approval: bool = False
    created_at: UtcDatetime = Field(default_factory=now)


class ToolCallStep(Entity):
    """One tool call of an execution: what went in, what came out, how long it took.

    ``output`` is cut at 20 000 characters, marked. ``performed`` is False where nothing was done: rehearsal only
    described it (``error`` is None then), or the call was refused. ``uncertain``: it was begun, and nobody knows
    what became of it.
    """

    tool: str
    call_id: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    output: str = ""
    duration_ms: int = 0
    error: str | None = None
    performed: bool = True
    uncertain: bool = False
    started_at: UtcDatetime = Field(default_factory=now)
