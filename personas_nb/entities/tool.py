"""Tools of the catalog, and one call of a tool."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

Effect = Literal["none", "local", "outside"]


class ToolDefinition(Entity):
    """A tool that personas may be assigned.

    ``effect`` says what a call changes: ``none``, ``local`` (the persona's workspace) or ``outside``.
    Rehearsal performs ``none``, performs ``local`` in a scratch copy, and describes ``outside``.
    ``timeout_ms`` is how long one call may take; None means the setting ``tool_timeout_ms``.
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
    created_at: UtcDatetime = Field(default_factory=now)


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
    described it (``error`` is None then), or the call was refused.
    """

    tool: str
    call_id: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    output: str = ""
    duration_ms: int = 0
    error: str | None = None
    performed: bool = True
    started_at: UtcDatetime = Field(default_factory=now)
