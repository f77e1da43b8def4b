"""What a designer is given and what it answers; two kinds obey it: a model, and rules with retrieval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from personas_nb.design.context import ContextText
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import DesignQuestion, DesignResult, DesignTurn, Flow, FlowEdge, FlowStep
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolDefinition


@dataclass(frozen=True)
class DesignRequest:
    """One step of a session: what was said before, what is said now, and what there is to design with.

    ``turns`` are the finished exchanges, ``kind`` and ``text`` the new one. ``existing`` is the persona's
    present design when an existing persona is designed anew. ``progress`` is told what happens meanwhile: a kind
    (``asked``, ``writing``, ``corrected``) and a few words.
    """

    instruction: str
    kind: str
    text: str
    turns: tuple[DesignTurn, ...] = ()
    name: str | None = None
    existing: DesignResult | None = None
    tools: tuple[ToolDefinition, ...] = ()
    connectors: tuple[Connector, ...] = ()
    context: tuple[ContextText, ...] = ()
    timezone: str = "UTC"
    progress: Callable[[str, str], None] = field(default=lambda _kind, _text: None, compare=False)

    @property
    def previous(self) -> DesignResult | None:
        """The design that this step changes; None while there is none yet."""
        return last_result(self.turns)


@dataclass(frozen=True)
class DesignAnswer:
    """A design or one question, and what it cost (None: unknown; 0.0: nothing)."""

    result: DesignResult | None = None
    question: DesignQuestion | None = None
    cost_usd: float | None = None


class Designer(Protocol):
    """Whoever turns a request into an answer; ``provider`` and ``model`` are what the session remembers."""

    provider: str
    model: str

    async def design(self, request: DesignRequest) -> DesignAnswer:
        """The design, or one question; raises ``DesignError`` or ``ModelError``."""
        ...


DesignerFor = Callable[[str | None], Designer]
"""Gives the designer of a provider; None: the one that is configured."""


def last_result(turns: tuple[DesignTurn, ...]) -> DesignResult | None:
    """The newest design of these turns."""
    return next((turn.result for turn in reversed(turns) if turn.result is not None), None)


def markdown_of(prompt: StructuredPrompt) -> str:
    """The six sections as one Markdown text, in the order in which a run reads them.

    >>> print(markdown_of(StructuredPrompt(identity="You watch invoices.")))
    ## Identity
    <BLANKLINE>
    You watch invoices.
    """
    return "\n\n".join(f"## {heading}\n\n{text}" for heading, text in prompt.sections())


def chained(boxes: Sequence[FlowStep]) -> Flow:
    """Boxes with an arrow from each to the next.

    >>> flow = chained([FlowStep(id="read", label="Read"), FlowStep(id="write", label="Write")])
    >>> [(edge.source, edge.target) for edge in flow.edges]
    [('read', 'write')]
    """
    edges = (FlowEdge(source=first.id, target=second.id) for first, second in pairwise(boxes))
    return Flow(steps=tuple(boxes), edges=tuple(edges))
