"""One run of a persona."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now
from personas_nb.entities.tool import ToolCallStep

Status = Literal["queued", "running", "waiting", "completed", "incomplete", "failed", "cancelled"]
FINISHED: frozenset[str] = frozenset({"completed", "incomplete", "failed", "cancelled"})


class CredentialUse(Entity):
    """A credential that a run could use for a tool; ``tier`` (1 to 3) says how it was found."""

    tool: str
    connector: str
    credential: str
    tier: int


class Execution(Entity):
    """The record of one run: what went in, what came out, what it cost.

    ``input_data`` is the input as text (JSON where it was an object), ``output_data`` the final text without
    protocol messages. ``cost_usd`` None means that the price is unknown, never 0. ``rehearsal`` runs cost 0 and
    their tokens are estimated. ``error_kind`` is None unless the run failed or was cancelled. A queued run starts
    no earlier than ``scheduled_at``; None is at once. ``credentials`` are those that were matched for its tools; None
    where it has not begun. ``duration_ms`` counts the time that it ran, not that it waited; ``pauses`` is how often a
    person's decision let it go on. One with an ``eval_run_id`` is a test: it counts as no run of its persona. ``told``:
    nobody watched it, it failed, and that was looked at to tell the user.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    persona_name: str = ""
    status: Status = "queued"
    input_data: str | None = None
    output_data: str | None = None
    error: str | None = None
    error_kind: str | None = None
    outcome: dict[str, Any] | None = None
    provider: str | None = None
    engine: str | None = None
    permissions: Literal["assigned", "bypass"] | None = None
    model_used: str | None = None
    persona_version: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None
    num_turns: int = 0
    duration_ms: int | None = None
    tool_calls: int = 0
    tool_steps: tuple[ToolCallStep, ...] = ()
    execution_flows: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    credentials: tuple[CredentialUse, ...] | None = None
    claude_session_id: str | None = None
    log_file_path: str | None = None
    retry_of: str | None = None
    trigger_id: str | None = None
    event_id: str | None = None
    eval_run_id: str | None = None
    rehearsal: bool = False
    max_budget_usd: float | None = None
    max_turns: int | None = None
    timeout_ms: int | None = None
    requested_provider: str | None = None
    files: tuple[str, ...] = ()
    worker_id: str | None = None
    claim_token: int = 0
    claimed_at: UtcDatetime | None = None
    pauses: int = 0
    cancel_requested: bool = False
    told: bool = False
    created_at: UtcDatetime = Field(default_factory=now)
    scheduled_at: UtcDatetime | None = None
    started_at: UtcDatetime | None = None
    completed_at: UtcDatetime | None = None

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen in this run."""
        return self.status in FINISHED
