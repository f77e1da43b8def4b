"""What an agent is given, and what it must do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from personas_nb.engine.models import ResolvedModel
from personas_nb.engine.spending import Allowance, reservation_usd
from personas_nb.entities.persona import Persona
from personas_nb.entities.run_event import RunEvent, UsageReported
from personas_nb.settings import Settings
from personas_nb.tools.gateway import Gateway
from personas_nb.vault.redaction import Redactor

OUTPUT_TOKENS = {
    "direct": 8_192,
    "claude": 32_000,
}  # of one answer, by engine; the CLI thinks within them too


@dataclass(frozen=True)
class WaitingCall:
    """A tool call that a person must decide on; ``tool`` is its name as people know it."""

    call_id: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Paused:
    """An agent's last word where calls wait for a decision; ``conversation`` is all that it needs to go on."""

    calls: tuple[WaitingCall, ...]
    conversation: str


@dataclass(frozen=True)
class Decision:
    """What a person decided about a call; ``reason`` is what the model is told where it is not made."""

    call_id: str
    tool: str
    arguments_hash: str
    is_approved: bool
    reason: str = ""


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on that waited: what its agent said then, what was decided, what was used until then."""

    conversation: str
    decisions: tuple[Decision, ...]
    usage: UsageReported
    ends_line: bool = True
    """Whether the text so far is empty or ends a line."""


@dataclass(frozen=True)
class Job:
    """One run, ready to go: the assembled prompt, the tools, the model, the limits.

    ``allowance`` is asked before each request; what it has counted holds also for a run that was cut off.
    """

    execution_id: str
    persona: Persona
    prompt: str
    gateway: Gateway
    model: ResolvedModel
    settings: Settings
    redactor: Redactor
    allowance: Allowance
    input: str | None = None
    max_turns: int = 25
    max_budget_usd: float | None = None
    max_tokens: int | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    resumption: Resumption | None = None

    @property
    def max_output_tokens(self) -> int:
        """Tokens of one answer."""
        return OUTPUT_TOKENS[self.model.engine]

    def reservation_usd(self) -> float | None:
        """What budget rules must hold for the run; None where its price is unknown."""
        return reservation_usd(self.model, self.max_budget_usd, self.max_output_tokens)


class Agent(Protocol):
    """Something that can run a prompt.

    ``run`` yields what happens as it happens, the last usage at the end, and raises ``ModelError`` for what the
    model or a limit did. It is cancelled like any coroutine; whatever it started is gone when it returns.

    A call that ``job.gateway.waits`` for is not made: ``run`` then ends with ``Paused``, and a later one, whose job
    has a ``resumption``, goes on from there, wherever it runs.
    """

    def run(self, job: Job) -> AsyncIterator[RunEvent | Paused]:
        """Run the prompt."""
        ...
