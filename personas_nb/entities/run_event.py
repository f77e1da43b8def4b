"""What happens in a run, moment by moment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from personas_nb.entities.base import Entity
from personas_nb.entities.tool import ToolCallStep


class TextDelta(Entity):
    """A piece of the assistant's own text."""

    type: Literal["text"] = "text"
    text: str


class ToolCallStarted(Entity):
    """The model asked for a tool."""

    type: Literal["tool_started"] = "tool_started"
    tool: str
    call_id: str
    input: dict[str, Any] = Field(default_factory=dict)


class ToolCallFinished(Entity):
    """A tool answered, refused, failed, or was described in rehearsal."""

    type: Literal["tool_finished"] = "tool_finished"
    step: ToolCallStep


class ProtocolCalled(Entity):
    """The model sent a protocol message by calling the tool of that name."""

    type: Literal["protocol_called"] = "protocol_called"
    kind: str
    data: Any


class ProtocolHandled(Entity):
    """A protocol message was acted upon; ``row_id`` is what it wrote."""

    type: Literal["protocol"] = "protocol"
    kind: str
    data: dict[str, Any]
    row_id: str | None = None


class UsageReported(Entity):
    """Tokens and cost so far, over the whole run; ``cost_usd`` None means that the price is unknown."""

    type: Literal["usage"] = "usage"
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None
    num_turns: int = 0
    model: str | None = None
    session_id: str | None = None


class WarningRaised(Entity):
    """Something that a person should know; the run goes on."""

    type: Literal["warning"] = "warning"
    text: str


class ApprovalAsked(Entity):
    """The run waits until a person has decided whether a tool may be called; ``review_id`` names the decision."""

    type: Literal["approval"] = "approval"
    tool: str
    call_id: str
    review_id: str


class StatusChanged(Entity):
    """The run reached a state."""

    type: Literal["status"] = "status"
    status: str
    error: str | None = None


RunEvent = Annotated[
    TextDelta
    | ToolCallStarted
    | ToolCallFinished
    | ProtocolCalled
    | ProtocolHandled
    | UsageReported
    | WarningRaised
    | ApprovalAsked
    | StatusChanged,
    Field(discriminator="type"),
]
RUN_EVENT: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)
