"""What an agent is given, and what it must do with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from personas_nb.engine.models import ResolvedModel
from personas_nb.entities.persona import Persona
from personas_nb.entities.run_event import RunEvent
from personas_nb.tools.gateway import Gateway


@dataclass(frozen=True)
class Job:
    """One run, ready to go: the assembled prompt, the tools, the model, the limits."""

    execution_id: str
    persona: Persona
    prompt: str
    gateway: Gateway
    model: ResolvedModel
    input: str | None = None
    max_turns: int = 25
    max_budget_usd: float | None = None
    max_tokens: int | None = None
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


class Agent(Protocol):
    """Something that can run a prompt.

    ``run`` yields what happens as it happens, the last usage at the end, and raises ``ModelError`` for what the
    model or a limit did. It is cancelled like any coroutine; whatever it started is gone when it returns.
    """

    def run(self, job: Job) -> AsyncIterator[RunEvent]:
        """Run the prompt."""
        ...
