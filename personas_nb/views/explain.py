"""What a run would be: told, allowed, limited to, and what it may cost; nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from personas_nb.views import marks
from personas_nb.views.limits import Limit, limit_rows
from personas_nb.views.marks import Cell, Code, one_line
from personas_nb.views.page import Page
from personas_nb.views.personas import EFFECTS
from personas_nb.views.view import View

REHEARSES = (
    "In rehearsal no model is asked, outside calls are described and not performed, and it costs nothing."
)


class PlannedTool(NamedTuple):
    """A tool that a run may call.

    ``needs`` says what access it takes, and ``is_missing`` that there is none; ``credentials`` are the names of those
    it could use. ``asks_first``: a person decides on each call.
    """

    name: str
    effect: str
    needs: str = ""
    is_missing: bool = False
    credentials: Sequence[str] = ()
    asks_first: bool = False


@dataclass(frozen=True)
class Plan:
    """A run that was not begun. ``cost`` and ``cost_why`` are words; ``missing`` is what keeps it from beginning."""

    name: str
    prompt: str
    prompt_tokens: int
    tools: Sequence[PlannedTool] = ()
    limits: Sequence[Limit] = ()
    provider: str = ""
    model: str = ""
    engine: str = ""
    server: str = ""
    memories_count: int = 0
    files: Sequence[str] = ()
    cost: str = ""
    cost_why: str = ""
    missing: Sequence[str] = ()
    bypass: bool = False
    rehearsal: bool = False


def explain(plan: Plan) -> View:
    """A run before it begins: prompt, tools, engine, limits, and what it may cost."""
    page = Page(
        plan.name,
        sign=marks.Mark("○", "explained", marks.GREY),
        detail="Nothing was run, and nothing was sent.",
        rehearsal=plan.rehearsal,
        bypass=plan.bypass,
    )
    if plan.rehearsal:
        page.sentence(REHEARSES, faint=True)
    for sentence in plan.missing:
        page.sentence(sentence, status="blocked")
    page.heading("What it may cost").sentence(plan.cost, under=True).sentence(
        plan.cost_why, faint=True, under=True
    )
    page.facts(_engine(plan), heading="What would run it")
    page.facts(limit_rows(plan.limits), heading="Limits")
    _tools(page, plan)
    size = f"{len(plan.prompt):,} characters; with the tools about {plan.prompt_tokens:,} tokens"
    page.heading("What it would be told", size)
    page.folded("The whole prompt", plan.prompt, fixed=True)
    return page.view(plan)


def _engine(plan: Plan) -> list[tuple[str, Cell | None]]:
    permissions: Cell = "assigned: the tools below, and nothing else"
    if plan.bypass:
        can = "whatever the Claude CLI can do: shell, files, network" if plan.engine == "claude" else (
            "only the engine claude knows it; here it has the tools below")  # fmt: skip
        permissions = marks.BYPASS._replace(word=f"bypass: {can}")
    return [
        ("provider", one_line(plan.provider)),
        ("model", one_line(plan.model)),
        ("server", Code(plan.server) if plan.server else None),
        ("engine", one_line(plan.engine)),
        ("permissions", permissions),
        (
            "memories",
            f"{plan.memories_count:,} in the prompt" if plan.memories_count else "none in the prompt",
        ),
        ("files", one_line(", ".join(plan.files), 300)),
    ]


def _tools(page: Page, plan: Plan) -> None:
    rows: list[list[Cell]] = [
        [
            Code(tool.name),
            EFFECTS.get(tool.effect, tool.effect),
            marks.Mark("✕", f"{tool.needs}: there is none", marks.ORANGE) if tool.is_missing else tool.needs,
            one_line(", ".join(tool.credentials), 80),
            marks.Mark("?", "asks you first", marks.PLUM) if tool.asks_first else "",
        ]
        for tool in plan.tools
    ]
    page.table(("tool", "a call", "needs", "credential", ""), rows, heading="Tools")
    if not rows:
        page.heading("Tools").sentence("None.", under=True)
