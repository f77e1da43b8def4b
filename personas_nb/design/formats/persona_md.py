"""``.persona.md``, as proposed for Jupyter AI 3.2: fields engine, model, identity, context, options; the prompt below.

https://github.com/jupyterlab/jupyter-ai/issues/1571. ``options`` belong to the engine: what a persona of ours has
beside its prompt stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from personas_nb.design.formats.front_matter import joined, split
from personas_nb.design.formats.parsing import decoded
from personas_nb.design.formats.portable import LeftOut, Portable, Written, portable_of, shortened
from personas_nb.design.formats.prompt_text import prompt_fields, prompt_text
from personas_nb.design.formats.report import ImportEntry, ImportReport
from personas_nb.design.formats.strangers import cleaned
from personas_nb.design.formats.subagent import unheld
from personas_nb.errors import InvalidInput

FIELDS = ("engine", "model", "identity", "context", "options")
# Their engines, and who of ours answers a prompt in the same way.
_ENGINES = {"claude": "claude-acp", "direct": "jupyternaut"}
# What stands before the slash of a model id.
_PREFIXES = {
    "anthropic": "anthropic",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "openai": "custom",
    "litellm_proxy": "litellm",
}
_OPTIONS = (
    *("description", "icon", "color", "max_concurrent", "timeout_ms", "max_budget_usd", "max_turns"),
    *("uses_memories", "tools", "approve_first"),
)
_HERE = (
    "max_concurrent",
    "timeout_ms",
    "max_budget_usd",
    "max_turns",
    "uses_memories",
    "approve_first",
    "icon",
)


def is_persona_md(fields: Mapping[str, Any]) -> bool:
    """Whether the fields of a Markdown file are those of this format."""
    return any(isinstance(fields.get(name), dict) for name in ("identity", "context", "model")) or (
        "engine" in fields and "description" not in fields
    )


def read(text: str | bytes, source: str) -> ImportReport:
    """The persona as a draft. Raises ``InvalidInput`` where the file is none of this format.

    >>> read("---\\nengine: claude-acp\\nidentity:\\n  name: Researcher\\n---\\nYou search.", "a.persona.md").name
    'Researcher'
    """
    matter = split(decoded(text, source), source)
    if not matter.body.strip():
        raise InvalidInput(
            f"{source} has no text under its fields.", hint="That text is the persona's prompt."
        )
    fields, secrets = cleaned(matter.fields)
    body, more = cleaned(matter.body, "the text")
    secrets += more
    known: dict[str, Any] = {**prompt_fields(body)}
    entries = list(_known_fields(fields, known))
    name = re.sub(r"(?:\.persona)?\.md$", "", source.rsplit("/", 1)[-1])
    persona, said = portable_of(known, source, name=name)
    mapped = [replace(entry, source=_CALLED.get(entry.source, entry.source)) for entry in said]
    return ImportReport("persona_md", persona.name, persona.draft(), (*mapped, *entries, *secrets), source)


def write(persona: Portable) -> Written:
    """The persona as such a file, and what it cannot hold."""
    body, left_out = prompt_text(persona)
    fields: dict[str, Any] = {"engine": _engine(persona)}
    options = persona.to_dict()
    options = {name: options[name] for name in _OPTIONS if name in options}
    profile = persona.model_profile
    if profile is not None and (profile.model or profile.base_url):
        prefix = next((key for key, value in _PREFIXES.items() if value == profile.provider), "")
        model_id = "/".join(part for part in (prefix, profile.model) if part)
        address = {"model_url": profile.base_url} if profile.base_url else {}
        fields["model"] = {"model_id": model_id, **address}
    if profile is None or profile.engine not in _ENGINES:
        options["engine"] = "auto"  # theirs must be named; ours is chosen when it runs
    if (
        profile is not None
        and profile.provider
        and (profile.provider not in _PREFIXES.values() or not profile.model)
    ):
        options["provider"] = profile.provider
    fields["identity"] = {"name": persona.name}
    if persona.servers:
        fields["context"] = {"mcp_servers": [_server(server) for server in persona.servers]}
    if options:
        fields["options"] = options
    return Written(joined(fields, body), (*left_out, *_lost(persona)))


def _engine(persona: Portable) -> str:
    profile = persona.model_profile
    if profile is not None and profile.engine in _ENGINES:
        return _ENGINES[profile.engine]
    is_claude = profile is None or profile.provider in (None, "anthropic", "litellm")
    return _ENGINES["claude" if is_claude else "direct"]


def _server(server: Any) -> dict[str, Any]:
    if server.url:
        return {"name": server.name, "type": "http", "url": server.url}
    command, *arguments = server.command or ("",)
    return {"name": server.name, "type": "stdio", "command": command, "args": arguments}


def _lost(persona: Portable) -> Iterator[LeftOut]:
    yield from unheld(persona, (*_HERE, "servers"))
    if any(server.env or server.headers or server.only for server in persona.servers):
        yield LeftOut("servers: env, headers, only", "They are configured beside it there.")


def _known_fields(fields: Mapping[str, Any], known: dict[str, Any]) -> Iterator[ImportEntry]:
    """The fields as those of a persona, put into ``known``; entries for what becomes none of them."""
    options, identity, model, context = (
        value if isinstance(value := fields.get(name), dict) else {}
        for name in ("options", "identity", "model", "context")
    )
    for name, value in options.items():
        if name in _OPTIONS:
            known[name] = value
        elif name not in ("engine", "provider"):
            yield ImportEntry(f"options.{shortened(name)}", "dropped", "No engine here has that option.")
    known["name"] = identity.get("name")
    if identity.get("avatar"):
        yield ImportEntry(
            "identity.avatar", "dropped", "A persona has an icon by name: `%persona set NAME icon=…`."
        )
    yield from _model(fields.get("engine"), model or fields.get("model"), options, known)
    if context.get("skills"):
        yield ImportEntry("context.skills", "needs_human", "Put what these files say into the instructions.")
    servers = context.get("mcp_servers")
    for server in servers if isinstance(servers, list) else []:
        yield _server_entry(server)
    for name in set(context) - {"skills", "mcp_servers"}:
        yield ImportEntry(f"context.{shortened(name)}", "dropped", "A persona has no such context.")
    for name in fields:
        if name not in FIELDS:
            yield ImportEntry(shortened(name), "dropped", "The format has no such field.")


def _model(
    engine: Any, model: Any, options: Mapping[str, Any], known: dict[str, Any]
) -> Iterator[ImportEntry]:
    profile: dict[str, Any] = {}
    ours = next((name for name, theirs in _ENGINES.items() if engine in (name, theirs)), None)
    if ours and options.get("engine") != "auto":
        profile["engine"] = ours
    elif engine and engine != "auto" and ours is None:
        yield ImportEntry(
            f"engine: {shortened(engine)}", "absorbed", "It runs on the engine that is configured here."
        )
    given = model if isinstance(model, dict) else {"model_id": model} if isinstance(model, str) else {}
    model_id, _, rest = str(given.get("model_id") or "").partition("/")
    if rest and model_id in _PREFIXES:
        profile |= {"provider": _PREFIXES[model_id], "model": rest}
    elif model_id in _PREFIXES:
        profile["provider"] = _PREFIXES[model_id]
    elif model_id:
        profile["model"] = "/".join(part for part in (model_id, rest) if part)
    if given.get("model_url"):
        profile["base_url"] = given["model_url"]
    if isinstance(options.get("provider"), str):
        profile["provider"] = options["provider"]
    if profile:
        known["model_profile"] = profile


def _server_entry(server: Any) -> ImportEntry:
    fields = server if isinstance(server, dict) else {}
    how = fields.get("url") or " ".join([str(fields.get("command", "")), *map(str, fields.get("args") or ())])
    return ImportEntry(
        f"context.mcp_servers: {shortened(fields.get('name', 'one'))}",
        "needs_human",
        f"It would use “{shortened(how, 120)}”. Add it yourself if you trust it: `%persona servers add`.",
    )


_CALLED = {"name": "identity.name", "system_prompt": "prompt", "structured_prompt": "prompt, in sections",
           "model_profile": "model"}  # fmt: skip
