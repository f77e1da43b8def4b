"""Descriptions of interfaces: an OpenAPI document as its operations, an MCP configuration as its servers.

Every walk through a document is bounded: aliases of YAML make a few lines into any number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from personas_nb.entities.design import SuggestedServer

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_DEPTH_MAX = 6
_KEYS_MAX = 40
# An argument that is a secret, or comes after the name of one.
_SECRET_ARGUMENT = re.compile(
    r"(?:sk-|gh[pousr]_|github_pat_|xox[abposr]-|glpat-|AKIA|ya29\.|Bearer |Basic )\S{8,}"
    r"|[a-z][a-z0-9+.-]*://[^/?#\s]*:[^/?#\s]*@.*"
    r"|--?[\w-]*(?:token|key|secret|password|passwd|auth)[\w-]*=.+",
    re.IGNORECASE,
)
_SECRET_OPTION = re.compile(r"--?[\w-]*(?:token|key|secret|password|passwd|auth)[\w-]*", re.IGNORECASE)


# ── OpenAPI ─────────────────────────────────────────────────────────────────────────────────────────────────


def is_openapi(value: Any) -> bool:
    """Whether a document describes an HTTP API (OpenAPI 3 or Swagger 2)."""
    return isinstance(value, dict) and ("openapi" in value or "swagger" in value) and "paths" in value


def openapi(document: Mapping[str, Any], limit_chars: int) -> tuple[str, str]:
    """An API as text: title, servers, how it is authorised, one line an operation; and what of it that is."""
    info = _dict(document.get("info"))
    title = _line(info.get("title") or "an API without a title", 120)
    version = str(document.get("openapi") or document.get("swagger"))
    head = [f"API: {title} {_line(info.get('version', ''), 20)}".strip()]
    if info.get("description"):
        head.append(_line(info["description"], 400))
    servers = list(_servers(document))
    head.append(f"Servers: {', '.join(servers) or 'none named'}")
    if schemes := list(_schemes(document)):
        head.append(f"Authorised by: {'; '.join(schemes)}")
    operations = list(_operations(document))
    lines = _within([*operations], limit_chars - sum(map(len, head)) - 200)
    left_out = f" ({len(operations) - len(lines)} more are left out)" if len(lines) < len(operations) else ""
    text = "\n".join([*head, f"Operations{left_out}:", *lines])
    count = f"{len(operations)} operation{'s' * (len(operations) != 1)}"
    used = count if not left_out else f"{len(lines)} of {count}"
    at = f" at {servers[0]}" if servers else ""
    return text, f"OpenAPI {version} “{title}”{at}: {used} with parameters"


def _servers(document: Mapping[str, Any]) -> Iterator[str]:
    for server in _list(document.get("servers"))[:10]:
        if isinstance(server, dict) and server.get("url"):
            yield _line(server["url"], 200)
    if document.get("host"):
        schemes = _list(document.get("schemes")) or ["https"]
        yield _line(f"{schemes[0]}://{document['host']}{document.get('basePath') or ''}", 200)


def _schemes(document: Mapping[str, Any]) -> Iterator[str]:
    parts = _dict(document.get("components"))
    defined = _dict(parts.get("securitySchemes")) or _dict(document.get("securityDefinitions"))
    for name, scheme in list(defined.items())[:10]:
        scheme = _dict(scheme)
        how = " ".join(str(scheme[key]) for key in ("type", "scheme", "in", "name") if scheme.get(key))
        yield f"{_line(name, 40)} ({_line(how, 60)})"


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, item in _dict(document.get("paths")).items():
        item = _dict(item)
        shared = _list(item.get("parameters"))
        for method in METHODS:
            if isinstance(operation := item.get(method), dict):
                yield _operation(document, str(path), method, operation, shared)


def _operation(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any], shared: Sequence[Any]
) -> str:
    said = _line(
        operation.get("summary") or operation.get("description") or operation.get("operationId"), 140
    )
    line = f"- {method.upper()} {_line(path, 200)}" + (f" – {said}" if said else "")
    given = [_parameter(_resolved(document, each)) for each in [*shared, *_list(operation.get("parameters"))]]
    content = _dict(_resolved(document, operation.get("requestBody")).get("content"))
    for media in list(content.values())[:1]:
        schema = _resolved(document, _dict(media).get("schema"))
        names = list(_dict(schema.get("properties")))[:20]
        needed = set(map(str, _list(schema.get("required"))))
        given += [f"body.{name}{'*' if name in needed else ''}" for name in names] or ["body"]
    if given := [one for one in given if one]:
        line += f" ({', '.join(given[:30])})"
    if operation.get("deprecated"):
        line += " [deprecated]"
    return line


def _parameter(parameter: Mapping[str, Any]) -> str:
    """One parameter, with a star where it is required."""
    if parameter.get("in") == "body":
        return "body"
    name = _line(parameter.get("name", ""), 60)
    return f"{name}{'*' if parameter.get('required') is True else ''}" if name else ""


def _resolved(document: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """A mapping, or the one that its ``$ref`` within the document leads to, a few steps far."""
    found = _dict(value)
    for _ in range(5):
        reference = found.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return found
        there: Any = document
        for part in reference[2:].split("/"):
            there = _dict(there).get(part.replace("~1", "/").replace("~0", "~"))
        found = _dict(there)
    return {}


# ── MCP ─────────────────────────────────────────────────────────────────────────────────────────────────────


def servers_of(value: Any) -> list[SuggestedServer] | None:
    """The servers of an MCP configuration; None where it is none.

    >>> servers_of({"mcpServers": {"Time": {"command": "uvx", "args": ["mcp-server-time"]}}})[0].command
    ('uvx', 'mcp-server-time')
    """
    if not isinstance(value, dict):
        return None
    named = value.get("mcpServers", value.get("servers") if "openapi" not in value else None)
    if not isinstance(named, dict) or not named:
        return None
    if "mcpServers" not in value and not all(
        isinstance(each, dict) and _is_server(each) for each in named.values()
    ):
        return None
    return [_server(str(name), _dict(each)) for name, each in list(named.items())[:50]]


def _is_server(each: Mapping[str, Any]) -> bool:
    return isinstance(each.get("command"), str) or isinstance(each.get("url"), str)


def _server(name: str, given: Mapping[str, Any]) -> SuggestedServer:
    name = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:32]
    url = given.get("url") or given.get("serverUrl")
    command = [str(given["command"])] if isinstance(given.get("command"), str) else []
    command += [str(each) for each in _list(given.get("args"))[:50]]
    return SuggestedServer(
        name=name if name[:1].isalpha() else f"server-{name}".rstrip("-")[:32],
        command=() if url else _without_secrets(command),
        url=_without_secrets([str(url)])[0] if url else None,
        env=tuple(map(str, list(_dict(given.get("env")))[:50])),
        headers=tuple(map(str, list(_dict(given.get("headers")))[:50])),
        only=tuple(map(str, _list(given.get("only") or given.get("alwaysAllow"))[:50]))
        if given.get("only")
        else (),
    )


def _without_secrets(arguments: Sequence[str]) -> tuple[str, ...]:
    """Arguments with “…” in the place of those that are secrets."""
    shown: list[str] = []
    for number, argument in enumerate(arguments):
        follows = (
            number > 0 and _SECRET_OPTION.fullmatch(arguments[number - 1]) and not argument.startswith("-")
        )
        if follows:
            argument = "…"
        elif _SECRET_ARGUMENT.fullmatch(argument):
            option, equals, _ = argument.partition("=")
            argument = f"{option}=…" if equals and option.startswith("-") else "…"
        shown.append(argument)
    return tuple(shown)


def described(servers: Sequence[SuggestedServer]) -> tuple[str, str]:
    """Servers as text for a designer, and in words what was used of them."""
    lines = ["MCP servers, whose tools are called SERVER.TOOL once a server has been added to the persona:"]
    for server in servers:
        how = f"at {server.url}" if server.url else f"started with `{' '.join(server.command)}`"
        needs = [*server.env, *server.headers]
        lines.append(f"- {server.name}: {how}" + (f"; needs {', '.join(needs)}" if needs else ""))
    count = (
        f"{len(servers)} server{'s' * (len(servers) != 1)} ({', '.join(each.name for each in servers[:6])})"
    )
    has_values = any(server.env or server.headers for server in servers)
    values = "; the names of their settings, none of the values" if has_values else ""
    return "\n".join(lines), f"MCP configuration: {count}{values}"


# ── the shape of data ───────────────────────────────────────────────────────────────────────────────────────


def shape(value: Any) -> str:
    """A document with its first values only: long lists as their first element and their length.

    >>> shape({"rows": [{"id": 1}, {"id": 2}]})
    '{"rows": [{"id": 1}, "… 2 in all"]}'
    """
    return json.dumps(_shaped(value, _DEPTH_MAX), ensure_ascii=False, default=str)


def _shaped(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        if depth == 0:
            return {"…": f"{len(value)} keys"}
        kept = {str(key): _shaped(inner, depth - 1) for key, inner in list(value.items())[:_KEYS_MAX]}
        return kept | ({"…": f"{len(value)} keys in all"} if len(value) > _KEYS_MAX else {})
    if isinstance(value, list):
        if depth == 0 or not value:
            return [f"… {len(value)} in all"] if value else []
        return [_shaped(value[0], depth - 1)] + ([f"… {len(value)} in all"] if len(value) > 1 else [])
    if isinstance(value, str) and len(value) > 120:
        return f"{value[:120]}…"
    return value


def _within(lines: Sequence[str], limit_chars: int) -> list[str]:
    kept, size = [], 0
    for line in lines:
        size += len(line) + 1
        if size > limit_chars:
            break
        kept.append(line)
    return kept


def _line(text: Any, limit_chars: int) -> str:
    text = " ".join(str(text or "").split())
    return text if len(text) <= limit_chars else f"{text[: limit_chars - 1]}…"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
