"""What a design is made of: the result, its parts, and the session that leads to it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.trigger import TriggerType

SessionState = Literal["idle", "analyzing", "awaiting-input", "preview", "refining", "applying", "applied"]


class SuggestedTrigger(Entity):
    """A trigger that the design proposes."""

    trigger_type: TriggerType
    config: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    source_node: str | None = None


class SuggestedConnector(Entity):
    """A service that the persona would need, and how to set it up."""

    name: str
    oauth_type: str | None = None
    credential_fields: tuple[str, ...] = ()
    setup_instructions: str = ""


class DesignHighlight(Entity):
    """A few points of one kind, for a card."""

    category: str
    icon: str | None = None
    color: str | None = None
    items: tuple[str, ...] = ()


class SuggestedChannel(Entity):
    """A way to notify the user that the design proposes."""

    type: str
    description: str = ""
    required_connector: str | None = None


class SuggestedSubscription(Entity):
    """An event that the persona would listen to."""

    event_type: str
    source_filter: str | None = None
    description: str = ""


class FeasibilityIssue(Entity):
    """Something that stands in the way, and the verb to type that removes it."""

    subject: str
    problem: str
    remedy: str = ""
    blocking: bool = False


class Feasibility(Entity):
    """Whether the design can work here: ``ready``, ``partial`` or ``blocked``."""

    confirmed_capabilities: tuple[str, ...] = ()
    issues: tuple[FeasibilityIssue, ...] = ()
    overall: Literal["ready", "partial", "blocked"] = "ready"


class FlowStep(Entity):
    """One box of the flow graph."""

    id: str
    label: str
    kind: str = "step"


class FlowEdge(Entity):
    """One arrow of the flow graph."""

    source: str
    target: str
    label: str = ""


class Flow(Entity):
    """How the persona works, as steps and arrows."""

    steps: tuple[FlowStep, ...] = ()
    edges: tuple[FlowEdge, ...] = ()


class DesignResult(Entity):
    """A complete proposal for a persona; ``apply`` makes it one."""

    name: str = ""
    structured_prompt: StructuredPrompt
    suggested_tools: tuple[str, ...] = ()
    suggested_triggers: tuple[SuggestedTrigger, ...] = ()
    suggested_connectors: tuple[SuggestedConnector, ...] = ()
    full_prompt_markdown: str = ""
    summary: str = ""
    design_highlights: tuple[DesignHighlight, ...] = ()
    suggested_notification_channels: tuple[SuggestedChannel, ...] = ()
    suggested_event_subscriptions: tuple[SuggestedSubscription, ...] = ()
    suggested_model_profile: ModelProfile | None = None
    feasibility: Feasibility | None = None
    flow: Flow = Field(default_factory=Flow)


class DesignQuestion(Entity):
    """One question that the designer needs answered; an option or free text will do."""

    question: str = Field(min_length=1)
    options: tuple[str, ...] = Field(min_length=2, max_length=4)


class DesignTurn(Entity):
    """One exchange of a session: what the person said, and what the design was afterwards."""

    kind: Literal["instruction", "answer", "refine"]
    text: str
    result: DesignResult | None = None
    question: DesignQuestion | None = None
    cost_usd: float | None = None
    created_at: UtcDatetime = Field(default_factory=now)


class DesignSessionRecord(Entity):
    """A stored design session; ``turns`` is its whole history, the last one counts."""

    id: str = Field(default_factory=new_id)
    instruction: str
    name: str | None = None
    persona_id: str | None = None
    provider: str | None = None
    model: str | None = None
    state: SessionState = "idle"
    turns: tuple[DesignTurn, ...] = ()
    context: tuple[str, ...] = ()
    error: str | None = None
    revision: int = 0
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
