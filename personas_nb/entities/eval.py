"""Evals: cases with what is expected of them, what is tested, and what came of it."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now
from personas_nb.entities.design import Flow
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.entities.persona import Persona
from personas_nb.entities.structured_prompt import StructuredPrompt

CheckKind = Literal[
    "status",
    "tools",
    "no_tools",
    "messages",
    "no_messages",
    "contains",
    "excludes",
    "matches",
    "max_cost_usd",
]
EvalStatus = Literal["running", "completed", "cancelled", "failed"]


class Expectations(Entity):
    """What a run of a case must do; what is empty is not expected, and not counted.

    ``tools`` are called and answer, ``no_tools`` are not called; ``messages`` are kinds of protocol messages
    (``user_message`` …). ``contains`` and ``excludes`` are texts of the answer, in any case of letters; ``matches``
    are regular expressions, found anywhere in it. ``criteria`` tells a judge, in words, what a good answer is.

    >>> Expectations(tools=("file_read",), contains=("North",)).status
    'completed'
    """

    status: Literal["completed", "incomplete", "failed"] = "completed"
    tools: tuple[str, ...] = ()
    no_tools: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    no_messages: tuple[str, ...] = ()
    contains: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    max_cost_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    criteria: str = Field(default="", max_length=10_000)


class EvalFile(Entity):
    """A file of a case as it was when the case was made; a copy of it is kept in the home."""

    name: str = Field(min_length=1)
    size_bytes: int = Field(ge=0)
    sha256: str


class EvalCase(Entity):
    """One input with what is expected of it; ``owner_id`` is a persona's, or that of a design session."""

    id: str = Field(default_factory=new_id)
    owner_id: str
    name: str = Field(min_length=1, max_length=200)
    input: str | None = None
    files: tuple[EvalFile, ...] = ()
    expect: Expectations = Field(default_factory=Expectations)
    from_execution_id: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)

    @property
    def digest(self) -> str:
        """What is asked and expected, in sixteen characters: results compare only where it is the same."""
        said = self.model_dump_json(include={"input", "files", "expect"})
        return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]


class EvalSubject(Entity):
    """What is tested, as it was then: a prompt with its tools and its model.

    ``version`` is None for a design. ``tools`` None are those that the persona has. ``instruction`` is the sentence
    that a design was made from; the connectors and triggers are the design's.
    """

    label: str
    name: str
    description: str = ""
    version: int | None = None
    session_id: str | None = None
    instruction: str = ""
    system_prompt: str = ""
    structured_prompt: StructuredPrompt | str | None = None
    tools: tuple[str, ...] | None = None
    connectors: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    model_profile: ModelProfile | None = None
    provider: str | None = None
    live_tools: bool = False

    def applied_to(self, persona: Persona) -> Persona:
        """The persona as it is tested: without memories, which change, and with assigned tools only."""
        return persona.changed(
            name=self.name,
            description=self.description,
            system_prompt=self.system_prompt,
            structured_prompt=self.structured_prompt,
            model_profile=self.model_profile,
            uses_memories=False,
            permissions="assigned",
        )

    @property
    def prompt(self) -> StructuredPrompt:
        """The six sections as a run reads them."""
        if isinstance(self.structured_prompt, StructuredPrompt) and not self.structured_prompt.is_empty():
            return self.structured_prompt
        return StructuredPrompt(identity=self.system_prompt)


class Check(Entity):
    """One expectation, and whether it was met; ``passed`` None: it could not be told, and does not count."""

    kind: CheckKind
    wanted: str
    passed: bool | None
    reason: str = ""


class Judgement(Entity):
    """What a judge model says about meaning: 0 (useless) to 1 (as good as can be), with its reason."""

    score: float = Field(ge=0, le=1)
    reason: str
    model: str = ""


class Finding(Entity):
    """One structural rule: whether it applies, how well it is met (0 to 1), and why."""

    rule: str
    weight: float = Field(gt=0)
    applies: bool
    score: float | None = Field(default=None, ge=0, le=1)
    reason: str = ""


class EvalResult(Entity):
    """One case, run once. ``score`` is the share of its checks that were met.

    ``measured`` is False where nothing can be said about what was tested: a file was gone, the key was refused, the
    eval was cancelled; ``reason`` says which, and ``score`` is None. ``judgement_note`` says why there is no judgement.
    """

    id: str = Field(default_factory=new_id)
    eval_run_id: str
    case_id: str
    case_name: str
    case_digest: str
    attempt: int = 1
    execution_id: str | None = None
    status: str = "not_run"
    measured: bool = True
    reason: str = ""
    checks: tuple[Check, ...] = ()
    score: float | None = None
    passed: bool | None = None
    judgement: Judgement | None = None
    judgement_note: str = ""
    cost_usd: float | None = None
    duration_ms: int | None = None
    flow: Flow = Field(default_factory=Flow)
    created_at: UtcDatetime = Field(default_factory=now)


class EvalRun(Entity):
    """One test of one subject over cases; its results are rows of their own.

    ``cost_usd`` is what the runs cost, ``judge_cost_usd`` what judging them cost on top; None where a price is
    unknown. ``structure`` are the rules about the prompt; ``meaning`` what the judge says about it, and
    ``meaning_note`` why there is no judge. ``score`` is the mean over the cases that could be measured.
    """

    id: str = Field(default_factory=new_id)
    owner_id: str
    persona_id: str
    subject: EvalSubject
    status: EvalStatus = "running"
    error: str | None = None
    provider: str | None = None
    model_used: str | None = None
    rehearsal: bool = False
    structure: tuple[Finding, ...] = ()
    structure_score: float | None = None
    meaning: Judgement | None = None
    meaning_note: str = ""
    judge_model: str | None = None
    judge_cost_usd: float | None = 0.0
    score: float | None = None
    passed: int = 0
    measured: int = 0
    total: int = 0
    repeat: int = 1
    cost_usd: float | None = 0.0
    worker_id: str | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    completed_at: UtcDatetime | None = None

    @property
    def label(self) -> str:
        """What is tested, in a few words, such as “version 2”."""
        return self.subject.label
