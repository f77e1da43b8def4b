"""How well a prompt is built, by rules. A rule counts only where it applies: nobody loses for what is not needed.

The rules look at what can be seen without understanding: sections, names of tools, what the instruction asked for.
What the prompt means is for a judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from personas_nb.design.lexicon import wanted
from personas_nb.design.prose import clauses
from personas_nb.design.schedules import find_schedules
from personas_nb.entities.eval import EvalSubject, Finding
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolDefinition

SHORT_CHARS = 20
FEW_TOOLS = 2
_PLACEHOLDER = re.compile(
    r"\b(?:TODO|TBD|FIXME|lorem ipsum)\b|\[(?:insert|your|add)\b[^\]\n]{0,60}\]|<(?:insert|your)\b[^>\n]{0,60}>",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"\b(?:JSON|CSV|YAML|XML|Markdown table|template|exactly this format|columns)\b", re.IGNORECASE
)
_EXAMPLE = re.compile(r"```|\b(?:for example|e\.g\.|such as|like this)\b", re.IGNORECASE)
_TROUBLE = re.compile(
    r"\b(?:fail\w*|errors?|missing|cannot|can't|unavailable|empty|invalid|not found|in doubt|unsure)\b",
    re.IGNORECASE,
)

Judged = tuple[float | None, str]
"""How well a rule is met, None where it does not apply; and why."""


@dataclass(frozen=True)
class _Look:
    """A subject as the rules see it; ``catalog`` are the names of all tools that there are."""

    subject: EvalSubject
    tools: tuple[ToolDefinition, ...]
    catalog: frozenset[str]

    @cached_property
    def prompt(self) -> StructuredPrompt:
        return self.subject.prompt

    @cached_property
    def text(self) -> str:
        return "\n".join(text for _, text in self.prompt.sections())

    @property
    def is_simple(self) -> bool:
        """Whether all of it is one text: such a persona has no sections, and needs none."""
        sections = self.prompt.changed(identity="")
        return sections.is_empty()

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The kinds of messages that the instruction asks for."""
        found = [kind for clause in clauses(self.subject.instruction) for kind in wanted(clause).messages]
        return tuple(dict.fromkeys(found))

    def names(self, tool: str) -> bool:
        """Whether the prompt names a tool."""
        return re.search(rf"(?<![\w.-]){re.escape(tool)}(?![\w-])", self.text) is not None


@dataclass(frozen=True)
class _Rule:
    name: str
    weight: float
    judge: Callable[[_Look], Judged]


def _identity(look: _Look) -> Judged:
    said = look.prompt.identity.strip()
    if len(said.split()) >= 3:
        return 1.0, "It says who it is."
    return (0.5, "It says who it is in a word or two.") if said else (0.0, "It does not say who it is.")


def _instructions(look: _Look) -> Judged:
    if look.is_simple:
        return None, "It is one text, without sections."
    said = look.prompt.instructions.strip()
    if len(said) >= SHORT_CHARS:
        return 1.0, "It says what to do."
    return (0.5, "What to do is said in a few words.") if said else (0.0, "It has no instructions.")


def _tools_exist(look: _Look) -> Judged:
    chosen = look.subject.tools
    if not chosen:
        return None, "No tool was suggested."
    gone = [name for name in chosen if name not in look.catalog]
    if not gone:
        return 1.0, "Every tool is in the catalog."
    return 1 - len(gone) / len(chosen), f"There is no tool {', '.join(gone)}."


def _tool_guidance(look: _Look) -> Judged:
    if not look.tools:
        return None, "It has no tools."
    outside = [tool.name for tool in look.tools if tool.effect == "outside"]
    needing = [tool.name for tool in look.tools] if len(look.tools) > FEW_TOOLS else outside
    if not needing:
        return None, "Its tools are few and harmless, and explain themselves."
    silent = [name for name in needing if not look.names(name)]
    if not silent:
        return 1.0, "It says when to use its tools."
    return 1 - len(silent) / len(needing), f"It does not say when to use {', '.join(silent)}."


def _own_tools(look: _Look) -> Judged:
    named = [name for name in sorted(look.catalog) if look.names(name)]
    if not named:
        return None, "It names no tool."
    own = {tool.name for tool in look.tools}
    others = [name for name in named if name not in own]
    if not others:
        return 1.0, "It has every tool that it names."
    return 1 - len(others) / len(named), f"It names {', '.join(others)}, which it does not have."


def _errors(look: _Look) -> Judged:
    if look.is_simple:
        return None, "It is one text, without sections."
    if not look.tools:
        return None, "It has no tools that could fail."
    if look.prompt.error_handling.strip():
        return 1.0, "It says what to do when something fails."
    if _TROUBLE.search(look.text):
        return 1.0, "Its instructions say what to do when something fails."
    return 0.0, "It does not say what to do when something fails."


def _examples(look: _Look) -> Judged:
    if look.is_simple or not _FORMAT.search(look.text):
        return None, "No format is asked for that an example would show."
    if look.prompt.examples.strip() or _EXAMPLE.search(look.text):
        return 1.0, "It shows the format that it asks for."
    return 0.0, "It asks for a format and shows no example."


def _messages(look: _Look) -> Judged:
    if not look.asked:
        return None, "The instruction asks for no message."
    told = {kind for clause in clauses(look.text) for kind in wanted(clause).messages}
    missing = [kind for kind in look.asked if kind not in told and kind not in look.text]
    if not missing:
        return 1.0, f"It sends what was asked for: {', '.join(look.asked)}."
    return 1 - len(missing) / len(look.asked), f"It was asked for {', '.join(missing)}, and is not told so."


def _triggers(look: _Look) -> Judged:
    if not find_schedules(look.subject.instruction):
        return None, "The instruction names no time."
    if any(kind in ("schedule", "polling", "webhook") for kind in look.subject.triggers):
        return 1.0, "It has a trigger for the time that the instruction names."
    return 0.0, "The instruction names a time, and nothing would start it then."


def _connectors(look: _Look) -> Judged:
    if look.subject.session_id is None:
        return None, "A persona's credentials are looked up when it runs."
    needed = sorted({tool.requires_credential_type for tool in look.tools if tool.requires_credential_type})
    if not needed:
        return None, "Its tools need no credential."
    missing = [name for name in needed if not any(one.startswith(name) for one in look.subject.connectors)]
    if not missing:
        return 1.0, "It names the connectors that its tools need."
    return 1 - len(missing) / len(needed), f"Its tools need {', '.join(missing)}, which it does not name."


def _placeholders(look: _Look) -> Judged:
    found = _PLACEHOLDER.search(look.text)
    if found:
        return 0.0, f"A placeholder was left: “{found[0][:40]}”."
    return 1.0, "Nothing was left to be filled in."


RULES = (
    _Rule("identity", 2, _identity),
    _Rule("instructions", 3, _instructions),
    _Rule("tools exist", 3, _tools_exist),
    _Rule("tool guidance", 2, _tool_guidance),
    _Rule("own tools", 2, _own_tools),
    _Rule("error handling", 1, _errors),
    _Rule("examples", 1, _examples),
    _Rule("messages", 2, _messages),
    _Rule("triggers", 2, _triggers),
    _Rule("connectors", 1, _connectors),
    _Rule("no placeholders", 1, _placeholders),
)


def findings(
    subject: EvalSubject, *, tools: Sequence[ToolDefinition] = (), catalog: Sequence[str] = ()
) -> tuple[Finding, ...]:
    """What each rule says of a subject that has these ``tools``; ``catalog`` are the names of all there are.

    >>> found = findings(EvalSubject(label="version 1", name="Echo", system_prompt="Repeat the input."))
    >>> [finding.rule for finding in found if finding.applies], structure_score(found)
    (['identity', 'no placeholders'], 1.0)
    """
    look = _Look(subject, tuple(tools), frozenset(catalog))
    found = []
    for rule in RULES:
        score, reason = rule.judge(look)
        found.append(
            Finding(rule=rule.name, weight=rule.weight, applies=score is not None, score=score, reason=reason)
        )
    return tuple(found)


def structure_score(found: Sequence[Finding]) -> float:
    """The weighted mean of the rules that apply, 0 to 1."""
    counted = [(finding.weight, finding.score) for finding in found if finding.score is not None]
    total = sum(weight for weight, _ in counted)
    return sum(weight * score for weight, score in counted) / total if total else 1.0
