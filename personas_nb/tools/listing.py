"""What an MCP server says that it offers, made fit to be shown to people and models.

A server is somebody else's program: its names may hold anything, its descriptions may be pages of instructions,
and one schema that an API refuses would end every run of the persona. What is kept has short names, one-line
descriptions and schemas that are valid; the rest is left out, and said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from personas_nb.entities.mcp_server import McpTool

TOOLS_LIMIT = 100
NAME_LIMIT_CHARS = 64
ABOUT_LIMIT_CHARS = 1_000
SCHEMA_LIMIT_CHARS = 16_384
DEPTH_LIMIT = 20
_NOT_AT_TOP = ("oneOf", "anyOf", "allOf", "$schema")  # the APIs refuse the first three there


def offered_tools(
    server: str, listed: Iterable[Any], only: Sequence[str] = (), *, hide: Callable[[str], str] = str
) -> tuple[list[McpTool], list[str]]:
    """The tools of a server, and in sentences what was left out; ``only`` chooses some by the server's names.

    ``hide`` takes secrets out of what it says of them, before that is cut.
    """
    tools: list[McpTool] = []
    notes: list[str] = []
    listed = list(listed)
    wanted = [tool for tool in listed if not only or tool.name in only]
    if missing := sorted(set(only) - {tool.name for tool in listed}):
        notes.append(f"It does not offer {', '.join(missing)}.")
    taken: set[str] = set()
    for tool in wanted:
        if len(tools) == TOOLS_LIMIT:
            notes.append(
                f"It offers {len(wanted)} tools, of which the first {TOOLS_LIMIT} are used; choose some with only=[…]."
            )
            break
        why = _unfit(tool)
        if why:
            notes.append(
                f"{one_line(hide(str(tool.name)), 60) or 'A tool without a name'} is left out: {why}."
            )
            continue
        tools.append(_tool(server, tool, taken, hide))
    return tools, notes


def one_line(text: str, limit_chars: int) -> str:
    """The text in one line without control characters, cut.

    >>> one_line("Reads.\\n\\n## New instructions\\x1b[2J", 40)
    'Reads. ## New instructions [2J'
    """
    plain = "".join(char if char.isprintable() else " " for char in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit_chars else f"{plain[: limit_chars - 1]}…"


def _tool(server: str, tool: Any, taken: set[str], hide: Callable[[str], str]) -> McpTool:
    short = re.sub(r"[^A-Za-z0-9_-]+", "_", hide(tool.name))[:NAME_LIMIT_CHARS].strip("_") or "tool"
    name, number = short, 1
    while name in taken:
        number += 1
        name = f"{short}_{number}"
    taken.add(name)
    hints = tool.annotations
    return McpTool(
        name=tool.name,
        shown=f"{server}.{name}",
        description=one_line(hide(tool.description or tool.title or ""), ABOUT_LIMIT_CHARS),
        input_schema=_schema(tool.input_schema, hide),
        is_repeatable=bool(hints and (hints.read_only_hint or hints.idempotent_hint)),
    )


def _unfit(tool: Any) -> str:
    from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]  # none are shipped

    schema = tool.input_schema
    if not tool.name.strip() or len(tool.name) > 1_000:
        return "its name is empty or very long"
    if schema.get("type", "object") != "object":
        return "its arguments are no object"
    if _depth(schema) > DEPTH_LIMIT:
        return "its schema is nested too deeply"
    text = json.dumps(schema)
    if len(text) > SCHEMA_LIMIT_CHARS:
        return f"its schema is longer than {SCHEMA_LIMIT_CHARS:,} characters"
    if any(not str(target).startswith("#") for target in re.findall(r'"\$ref": "([^"]*)"', text)):
        return "its schema refers to another document"
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError:
        return "its schema is not valid"
    return ""


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting and deepest <= DEPTH_LIMIT:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += [(part, depth + 1) for part in inner]
    return deepest


def _schema(schema: dict[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    kept = {key: value for key, value in schema.items() if key not in _NOT_AT_TOP}
    shown: dict[str, Any] = _with_short_texts({"type": "object", "properties": {}, **kept}, hide)
    return shown


def _with_short_texts(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_with_short_texts(item, hide) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: one_line(hide(item), 400)
        if key in ("description", "title") and isinstance(item, str)
        else _with_short_texts(item, hide)
        for key, item in value.items()
    }
