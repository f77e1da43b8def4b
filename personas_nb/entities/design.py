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
    """A trigger that the design proposes.

    ``limitation`` says what of the wish it cannot do (empty: it does all of it); ``alternative`` is a wish that a
    trigger can do wholly.
    """

    trigger_type: TriggerType
    config: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    limitation: str = ""
    alternative: str = ""
    source_node: str | None = None


class SuggestedConnector(Entity):
    """A service that the persona would need, and how to set it up."""

    name: str
    oauth_type: str | None = None
    credential_fields: tuple[str, ...] = ()
    setup_instructions: str = ""


class SuggestedServer(Entity):
    """An MCP server that a configuration brought: how it is started or reached, and the names of what it is given.

    ``env`` and ``headers`` hold names only; no value of a configuration is kept.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str | None = None
    env: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


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
    """Something that stands in the way, and the verb to type that removes it.

    ``kind`` is what is missing: ``tool``, ``credential``, ``connector``, ``reach`` (no tool gets there), ``server``,
    ``trigger``, ``event``, ``limit`` (it works, but not wholly as was wished).
    """

    kind: str = "other"
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


class SuggestedSettings(Entity):
    """What a file says of a persona beside its prompt; None: it says nothing, and what there is stays.

    ``approve_first`` names tools whose calls a person decides on. Permissions are not among them: no file sets those.
    """

    icon: str | None = Field(default=None, max_length=64)
    color: str | None = Field(default=None, pattern=r"^#[0-9A-Fa-f]{6}$", description="hex, such as #0072B2")
    max_concurrent: int | None = Field(default=None, ge=1, le=100)
    timeout_ms: int | None = Field(default=None, ge=1, le=86_400_000)
    max_budget_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_turns: int | None = Field(default=None, ge=1, le=1000)
    uses_memories: bool | None = None
    approve_first: tuple[str, ...] = ()


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
    suggested_servers: tuple[SuggestedServer, ...] = ()
    suggested_settings: SuggestedSettings | None = None
    feasibility: Feasibility | None = None
    flow: Flow = Field(default_factory=Flow)


class DesignQuestion(Entity):
    """One question that the designer needs answered; an option or free text will do."""

    question: str = Field(min_length=1)
    options: tuple[str, ...] = Field(min_length=2, max_length=4)


class KeptPart(Entity):
    """A part of a persona that a person changed by hand, and that a new design therefore leaves as it is.

    ``part`` is ``identity``, ``custom:KEY``, ``description``, ``triggers`` …; ``yours`` and ``design`` are what
    both have there. ``is_conflict``: the design changes it too, so that somebody has to choose.
    """

    part: str
    label: str
    yours: Any = None
    design: Any = None
    is_conflict: bool = False


class DesignTurn(Entity):
    """One exchange of a session: what the person said, and what the design was afterwards.

    For a persona that exists ``result`` is what applying it would make of that persona; ``seen`` is the persona
    that it was compared with, and ``kept`` what stays as the person wrote it.
    """

    kind: Literal["instruction", "answer", "refine", "take", "import"]
    text: str
    result: DesignResult | None = None
    seen: DesignResult | None = None
    kept: tuple[KeptPart, ...] = ()
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
    worker_id: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)


ContextKind = Literal[
    "openapi", "mcp", "json", "yaml", "markdown", "table", "frame", "pdf", "page", "text", "notebook"
]


class ContextItem(Entity):
    """Something that a design was given to look at, as it was read when the session began.

    ``text`` is what a designer is shown, ``used`` says in words what of the source that is.
    """

    id: str = Field(default_factory=new_id)
    session_id: str = ""
    source: str
    name: str
    kind: ContextKind = "text"
    used: str = ""
    text: str = ""
    columns: tuple[str, ...] = ()
    servers: tuple[SuggestedServer, ...] = ()
    size_bytes: int | None = None
    created_at: UtcDatetime = Field(default_factory=now)


class DesignEvent(Entity):
    """A moment of a session: something was read, a model was asked, a section is being written …"""

    session_id: str
    seq: int = 0
    at: UtcDatetime = Field(default_factory=now)
    type: Literal[
        "step", "context", "asked", "writing", "corrected", "question", "designed", "ended", "applied"
    ]
    text: str = ""
