"""Claude Code subagents: Markdown whose fields are name, description, tools, model and a few more.

https://code.claude.com/docs/en/sub-agents
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from personas_nb.design.formats.front_matter import joined, split
from personas_nb.design.formats.parsing import decoded
from personas_nb.design.formats.portable import LeftOut, Portable, Written, portable_of, shortened
from personas_nb.design.formats.prompt_text import prompt_fields, prompt_text
from personas_nb.design.formats.report import ImportEntry, ImportReport, Outcome
from personas_nb.design.formats.strangers import cleaned
from personas_nb.entities.persona import slug_of
from personas_nb.errors import InvalidInput

# What Claude Code calls them: the newest of each line.
MODELS = {
    "haiku": "claude-haiku-5-5",
    "sonnet": "claude-sonnet-5-5",
    "opus": "claude-opus-5-5",
    "fable": "claude-fable-5-2",
    "mythos": "claude-mythos-5-2",
}
COLORS = {
    "red": "#B34700", "blue": "#0072B2", "green": "#007A58", "yellow": "#C9A400", "purple": "#6A4C93",
    "orange": "#D9730D", "pink": "#C2185B", "cyan": "#008C9E", "magenta": "#9C4F80",
}  # fmt: skip
_TO_OURS = {
    "Read": ("file_read",), "Write": ("file_write",), "Edit": ("file_read", "file_write"),
    "MultiEdit": ("file_read", "file_write"), "NotebookRead": ("file_read",),
    "NotebookEdit": ("file_read", "file_write"), "LS": ("file_read",), "WebFetch": ("http_request",),
}  # fmt: skip
_FROM_OURS = {"file_read": "Read", "file_write": "Write", "http_request": "WebFetch"}
_ROOM = "A persona's files are those of its own workspace folder."
_NO_TOOL: dict[str, tuple[Outcome, str]] = {
    "Glob": ("absorbed", "file_read lists folders; searching by pattern is left to the instructions."),
    "Grep": ("absorbed", "file_read reads files; searching in them is left to the instructions."),
    "WebSearch": (
        "needs_human",
        "No built-in tool searches the web: add an MCP server that does, or a function.",
    ),
    "Bash": (
        "needs_human",
        "A persona runs no commands. Give it a function that does what it needs: studio.tools.add.",
    ),
    "TodoWrite": ("absorbed", "A persona keeps its plan in its text."),
    "Skill": ("dropped", "Skills belong to Claude Code."),
}
_TEAM = re.compile(r"(?:Agent|Task|Team|SendMessage|ExitPlanMode|KillShell|BashOutput)\w*(?:\(.*\))?")
_UNHELD = {
    "permissionMode": ("dropped", "No file decides what a persona may do: it may use its assigned tools."),
    "hooks": ("dropped", "Hooks are commands of another program; none is run."),
    "mcpServers": (
        "needs_human",
        "Its MCP servers are programs: add those that you trust with `%persona servers add`.",
    ),
    "skills": ("needs_human", "Skills are files of Claude Code: put what they say into the instructions."),
    "memory": ("absorbed", "A persona remembers by itself."),
    "background": ("absorbed", "`%%persona run NAME --background` runs it so."),
    "isolation": ("absorbed", "A persona has a workspace of its own."),
    "effort": ("dropped", "A persona's model is asked as it is."),
}


def read(text: str | bytes, source: str) -> ImportReport:
    """The subagent as a draft. Raises ``InvalidInput`` where the file is none.

    >>> report = read("---\\nname: tester\\ndescription: Tests\\ntools: Read, Bash\\n---\\nYou test.", "tester.md")
    >>> report.draft.suggested_tools, [entry.source for entry in report.of("needs_human")]
    (('file_read',), ['tools: Bash'])
    """
    matter = split(decoded(text, source), source)
    if not matter.body.strip():
        raise InvalidInput(f"{source} has no text under its fields.", hint="That text is the agent's prompt.")
    fields, secrets = cleaned(matter.fields)
    body, more = cleaned(matter.body, "the text")
    secrets += more
    known: dict[str, Any] = {"description": _words(fields.get("description")), **prompt_fields(body)}
    known["name"] = _text(fields.get("name"))
    entries = [] if matter.is_yaml else [_LOOSE]
    for name, value in fields.items():
        entries += _field(name, value, known)
    name = re.sub(r"\.(?:agent\.)?md$", "", source.rsplit("/", 1)[-1])
    persona, said = portable_of(known, source, name=name)
    mapped = [
        replace(entry, source=_CALLED.get(entry.source, entry.source))
        for entry in said
        if entry.source != "tools"
    ]
    return ImportReport("subagent", persona.name, persona.draft(), (*mapped, *entries, *secrets), source)


def write(persona: Portable) -> Written:
    """The persona as a subagent, and what such a file cannot hold."""
    body, left_out = prompt_text(persona)
    fields: dict[str, Any] = {
        "name": slug_of(persona.name),
        "description": persona.description or persona.name,
    }
    tools = list(dict.fromkeys(_FROM_OURS[tool] for tool in persona.tools if tool in _FROM_OURS))
    if persona.tools:
        fields["tools"] = ", ".join(tools)
    model = persona.model_profile.model if persona.model_profile else None
    if model and model.startswith("claude-"):
        fields["model"] = next((alias for alias, known in MODELS.items() if known == model), model)
    color = next(
        (name for name, value in COLORS.items() if value.lower() == (persona.color or "").lower()), None
    )
    if color:
        fields["color"] = color
    if persona.max_turns is not None:
        fields["maxTurns"] = persona.max_turns
    lost = [*left_out, *_lost(persona, fields)]
    return Written(joined(fields, body), tuple(lost))


def unheld(persona: Portable, held: tuple[str, ...]) -> Iterator[LeftOut]:
    """What Markdown with a few fields has no place for, but for the fields that are ``held``."""
    reasons = {
        "icon": "There is no field for it.",
        "max_concurrent": "There is no field for it.",
        "timeout_ms": "There is no field for it.",
        "max_budget_usd": "There is no field for it.",
        "max_turns": "There is no field for it.",
        "uses_memories": "There is no field for it.",
        "approve_first": "Nobody is asked before these tools are called there.",
        "triggers": "Nothing starts it by itself there.",
        "event_subscriptions": "Nothing starts it by itself there.",
        "notification_channels": "There is no field for them.",
        "connectors": "Credentials are set up anew there.",
        "servers": "MCP servers are configured beside it there.",
        "highlights": "There is no field for them.",
    }
    for name, reason in reasons.items():
        value = getattr(persona, name)
        if name not in held and value not in (None, "", ()):
            count = f" ({len(value)})" if isinstance(value, tuple) else ""
            yield LeftOut(f"{name}{count}", reason)
    if persona.flow.steps:
        yield LeftOut("flow", "The graph is drawn from our own files only.")


def _lost(persona: Portable, fields: dict[str, Any]) -> Iterator[LeftOut]:
    if fields["name"] != persona.name:
        yield LeftOut("name", f"It is written as “{fields['name']}”: letters, digits and hyphens.")
    if not persona.description:
        yield LeftOut("description", "It must have one: the name stands there.")
    for tool in persona.tools:
        if tool not in _FROM_OURS:
            yield LeftOut(f"tool {tool}", "Claude Code has no such tool.")
    if persona.model_profile is not None:
        profile = persona.model_profile
        said = {"provider": "anthropic", "model": profile.model} if "model" in fields else {}
        given = {name: getattr(profile, name) for name in ("provider", "model", "base_url", "engine")}
        lost = [
            name
            for name, value in given.items()
            if value != said.get(name, "auto" if name == "engine" else None)
        ]
        if lost:
            yield LeftOut(
                "model_profile", f"{', '.join(lost)}: a subagent runs in Claude Code, on Anthropic's models."
            )
    if persona.color and "color" not in fields:
        yield LeftOut("color", f"It takes one of {', '.join(COLORS)}.")
    yield from unheld(persona, ("max_turns",))


def _field(name: str, value: Any, known: dict[str, Any]) -> Iterator[ImportEntry]:
    """What a field becomes, put into ``known``; name, description and body are there already."""
    if name == "tools":
        yield from _tools(value, known)
    elif name == "disallowedTools":
        yield ImportEntry(name, "absorbed", "A persona has no tool but those that it is given.")
    elif name == "model":
        yield from _model(_text(value), known)
    elif name == "color":
        known["color"] = COLORS.get(_text(value).lower(), _text(value))
    elif name == "maxTurns":
        known["max_turns"] = value
    elif name in _UNHELD:
        outcome, reason = _UNHELD[name]
        yield ImportEntry(name, outcome, reason)  # type: ignore[arg-type]  # the table's words are outcomes
    elif name not in ("name", "description") and value not in (None, "", [], {}):
        yield ImportEntry(shortened(name), "dropped", "Neither a subagent nor a persona has such a field.")


def _tools(value: Any, known: dict[str, Any]) -> Iterator[ImportEntry]:
    ours: list[str] = []
    for tool in _names(value):
        if mapped := _TO_OURS.get(tool.partition("(")[0]):
            ours += mapped
            yield ImportEntry(
                f"tools: {shortened(tool)}",
                "mapped",
                f"{' and '.join(mapped)}. {_ROOM if mapped[0] != 'http_request' else ''}".strip(),
            )
            continue
        yield ImportEntry(f"tools: {shortened(tool)}", *_unmapped(tool))
    if ours:
        known["tools"] = list(dict.fromkeys(ours))


def _unmapped(tool: str) -> tuple[Outcome, str]:
    name = tool.partition("(")[0].strip()
    if name in _NO_TOOL:
        return _NO_TOOL[name]
    if name == "*":
        return "needs_human", "A persona is given its tools one by one: `%persona tools assign NAME TOOL`."
    if name.startswith("mcp__"):
        server = shortened(name.removeprefix("mcp__").partition("__")[0])
        return (
            "needs_human",
            f"It comes from the MCP server “{server}”: add that with `%persona servers add`.",
        )
    if _TEAM.fullmatch(tool):
        return (
            "dropped",
            "It directs other agents of Claude Code; a persona starts another with a persona_action.",
        )
    return "needs_human", "Nothing here has that name: add an MCP server or a function that does it."


def _names(value: Any) -> list[str]:
    """Tools given as a list, as names with commas between them (one in brackets separates none), or as switches."""
    if isinstance(value, dict):
        return [str(name) for name, is_on in value.items() if is_on is not False][:500]
    items = value if isinstance(value, list) else re.findall(r"(?:\([^()]*\)|[^,])+", _text(value))
    return [name for item in items if (name := _text(item).strip().strip("\"'[]"))][:500]


def _model(value: str, known: dict[str, Any]) -> Iterator[ImportEntry]:
    name = value.strip()
    if not name or name.lower() in ("inherit", "default"):
        yield ImportEntry("model", "absorbed", "It runs on whatever is configured here.")
    elif name.lower() in MODELS or name.startswith("claude-"):
        known["model_profile"] = {"provider": "anthropic", "model": MODELS.get(name.lower(), name)}
    else:
        yield ImportEntry(
            f"model: {shortened(name)}",
            "needs_human",
            "No model of Anthropic is called that: `%persona set NAME model_profile.model=…` chooses one.",
        )


_CALLED = {
    "system_prompt": "prompt",
    "structured_prompt": "prompt, in sections",
    "model_profile": "model",
    "max_turns": "maxTurns",
}


def _text(value: Any) -> str:
    return _words(value).strip()


def _words(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


_LOOSE = ImportEntry(
    "front matter",
    "absorbed",
    "It is not valid YAML (an unquoted colon, as a rule) and was read line by line.",
)
