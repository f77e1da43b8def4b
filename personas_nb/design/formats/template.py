"""A template: a notebook of ours whose parameters can be set before anything of it runs.

- The cell tagged ``parameters`` assigns plain values, each with its meaning in a comment behind it.
- The cell of the settings is an f-string that names parameters and nothing else: it is filled here without running it.
- The design stands in the notebook's metadata, as it is with the values of the parameters cell.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from personas_nb.design.formats.notebook import KEY
from personas_nb.design.formats.parsing import object_of
from personas_nb.entities.base import made
from personas_nb.entities.design import DesignResult, SuggestedSettings
from personas_nb.entities.template import DesignTemplate
from personas_nb.errors import InvalidInput, did_you_mean

Plain = str | int | float | bool
SETTINGS_KEY = "settings"
TEXT_LIMIT_CHARS = 2_000

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text of one line",
}


@dataclass(frozen=True)
class Parameter:
    """Something of a template that can be set: its name, its value, and what it means."""

    name: str
    value: Plain
    meaning: str = ""


@dataclass(frozen=True)
class Template:
    """A notebook that makes, rehearses and explains one persona; ``parameters`` are what can be set of it.

    ``file`` is the notebook's name, ``digest`` that of its content.
    """

    name: str
    title: str
    summary: str
    keywords: tuple[str, ...]
    design: DesignResult
    parameters: tuple[Parameter, ...]
    notebook: Mapping[str, Any]
    file: str
    digest: str

    @property
    def indexed(self) -> DesignTemplate:
        """What designs are made of later: it is found by its words."""
        return DesignTemplate(
            name=self.name,
            title=self.title,
            summary=self.summary,
            keywords=self.keywords,
            design=self.design,
            source=source_of(self.file, self.digest),
        )

    def __repr__(self) -> str:
        return f"<Template {self.name}: {self.summary}>"


def source_of(file: str, digest: str) -> str:
    """Where an indexed template comes from, and which state of it that was."""
    return f"shipped:{file}#{digest}"


def digest_of(data: bytes) -> str:
    """The digest of a file's content."""
    return hashlib.sha256(data).hexdigest()[:16]


def read(data: bytes, file: str) -> Template:
    """The template that a notebook is; raises ``InvalidInput`` for any other file."""
    notebook = object_of(data, file)
    kept = _ours(notebook)
    about, design = kept.get("template"), kept.get("design")
    cell = _cell(notebook, lambda metadata: "parameters" in (metadata.get("tags") or ()))
    if not isinstance(about, dict) or not isinstance(design, dict) or cell is None:
        raise InvalidInput(f"{file} is no template.", hint="`%persona templates` lists them.")
    named = made(DesignTemplate, {**{key: about.get(key) for key in _NAMED}, "design": design})
    return Template(
        name=named.name,
        title=named.title,
        summary=named.summary,
        keywords=named.keywords,
        design=named.design,
        parameters=parameters_in(_text(cell)),
        notebook=notebook,
        file=file,
        digest=digest_of(data),
    )


def parameters_in(source: str) -> tuple[Parameter, ...]:
    """The parameters that a cell assigns.

    >>> parameters_in("days = 7  # until it is late")
    (Parameter(name='days', value=7, meaning='until it is late'),)
    """
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return tuple(
        Parameter(name, ast.literal_eval(node.value), comments.get(node.lineno, ""))
        for name, node in _assigned(source).items()
    )


def values_of(template: Template, given: Mapping[str, Any]) -> dict[str, Plain]:
    """A value for every parameter: the given one, else the template's own.

    A text becomes a number where the parameter is one. Raises ``InvalidInput`` for names and values that it has not.
    """
    known = {each.name: each for each in template.parameters}
    for name in given:
        if name not in known:
            listed = f"It has {', '.join(known)}."
            raise InvalidInput(
                f"The template {template.name} has no parameter “{str(name)[:60]}”.",
                hint=did_you_mean(str(name), known, otherwise=listed),
            )
    return {
        name: _checked(each, given[name]) if name in given else each.value for name, each in known.items()
    }


def filled(template: Template, values: Mapping[str, Plain]) -> dict[str, Any]:
    """A copy of the notebook with these values in its parameters cell and in its design."""
    notebook: dict[str, Any] = json.loads(json.dumps(template.notebook))
    cell = _cell(notebook, lambda metadata: "parameters" in (metadata.get("tags") or ()))
    settings = _cell(notebook, lambda metadata: bool((metadata.get(KEY) or {}).get(SETTINGS_KEY)))
    assert cell is not None
    cell["source"] = _with_values(_text(cell), values).splitlines(keepends=True)
    text = with_settings(_text(settings), values) if settings else ""
    kept = _ours(notebook)
    kept["design"] = _designed(template.design, values, text).model_dump(mode="json", exclude_defaults=True)
    kept["template"]["copy"] = cells_digest(notebook)
    return notebook


def cells_digest(notebook: Mapping[str, Any]) -> str:
    """A digest of what the cells of a notebook say, whatever they have shown."""
    said = [(cell.get("cell_type"), _text(cell)) for cell in _cells(notebook)]
    return digest_of(json.dumps(said).encode())


def copy_digest(notebook: Mapping[str, Any]) -> str:
    """The digest that a copy had when it was opened; empty for a notebook that is no copy of a template."""
    about = _ours(notebook).get("template")
    found = about.get("copy") if isinstance(about, dict) else None
    return found if isinstance(found, str) else ""


def with_settings(source: str, values: Mapping[str, Plain]) -> str:
    """The text of a cell ``settings = f"…"``, each ``{name}`` filled; nothing is run.

    >>> with_settings('settings = f"- days: {days}"', {"days": 7})
    '- days: 7'
    """
    node = _assigned(source).get(SETTINGS_KEY)
    if node is not None and isinstance(node.value, ast.JoinedStr):
        parts = [_part(part, values) for part in node.value.values]
        if None not in parts:
            return "".join(part for part in parts if part is not None)
    raise InvalidInput("The settings of a template are an f-string that names parameters.")


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────


def _checked(parameter: Parameter, given: Any) -> Plain:
    """The value as what the parameter is; raises ``InvalidInput`` in a sentence."""
    kind = type(parameter.value)
    value = _converted(kind, given)
    if value is None:
        raise InvalidInput(
            f"{parameter.name} must be {_KINDS[kind]}, not “{str(given)[:60]}”.",
            hint=f"Such as {parameter.name}={parameter.value}: {parameter.meaning}.",
        )
    return value


def _converted(kind: type, given: Any) -> Plain | None:
    if kind is str:
        is_line = isinstance(given, str) and len(given) <= TEXT_LIMIT_CHARS and given.isprintable()
        return given.strip() if is_line and given.strip() else None
    if kind is bool:
        known = {"true": True, "yes": True, "false": False, "no": False}
        return known.get(str(given).strip().lower())
    if isinstance(given, bool):
        return None
    try:
        value: int | float = kind(given.strip() if isinstance(given, str) else given)
    except (TypeError, ValueError, OverflowError):
        return None
    is_same = isinstance(given, str) or value == given  # 2.5 is no whole number
    return value if is_same and math.isfinite(value) and 0 <= value <= 10**12 else None


def _designed(design: DesignResult, values: Mapping[str, Plain], settings: str) -> DesignResult:
    """The design as it is with these values."""
    prompt = design.structured_prompt
    sections = tuple(
        each.changed(content=settings) if each.key == SETTINGS_KEY else each
        for each in prompt.custom_sections
    )
    triggers = tuple(
        each.changed(config={**each.config, "cron": values["cron"]})
        if "cron" in values and each.trigger_type == "schedule"
        else each
        for each in design.suggested_triggers
    )
    limits = design.suggested_settings or SuggestedSettings()
    changed: dict[str, Any] = {
        "name": values.get("name", design.name),
        "structured_prompt": prompt.changed(custom_sections=sections),
        "suggested_triggers": triggers,
        "suggested_settings": limits.changed(
            max_budget_usd=values.get("max_budget_usd", limits.max_budget_usd)
        ),
    }
    return design.changed(**changed)


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────────────

_NAMED = ("name", "title", "summary", "keywords")


def _ours(notebook: Mapping[str, Any]) -> dict[str, Any]:
    metadata = notebook.get("metadata")
    kept = metadata.get(KEY) if isinstance(metadata, dict) else None
    return kept if isinstance(kept, dict) else {}


def _cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    cells = notebook.get("cells")
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []


def _cell(notebook: Mapping[str, Any], fits: Any) -> dict[str, Any] | None:
    """The first code cell whose metadata fits."""
    code = (cell for cell in _cells(notebook) if cell.get("cell_type") == "code")
    return next((cell for cell in code if fits(cell.get("metadata") or {})), None)


def _text(cell: Mapping[str, Any]) -> str:
    source = cell.get("source") or ""
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _assigned(source: str) -> dict[str, ast.Assign]:
    """The plain assignments of a cell, by name."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InvalidInput("A cell of the template is no Python.", hint="Install personas_nb anew.") from None
    return {
        target.id: node
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _part(part: ast.expr, values: Mapping[str, Plain]) -> str | None:
    if isinstance(part, ast.Constant):
        return str(part.value)
    is_name = isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name)
    if (
        isinstance(part, ast.FormattedValue)
        and is_name
        and part.conversion == -1
        and part.format_spec is None
    ):
        assert isinstance(part.value, ast.Name)
        return str(values[part.value.id]) if part.value.id in values else None
    return None


def _with_values(source: str, values: Mapping[str, Plain]) -> str:
    """The cell with other values in the places of its own; comments stay where they are."""
    lines = source.split("\n")
    for name, node in _assigned(source).items():
        if name in values and node.value.lineno == node.value.end_lineno:
            line = lines[node.lineno - 1].encode()
            before, after = line[: node.value.col_offset], line[node.value.end_col_offset :]
            lines[node.lineno - 1] = (before + _literal(values[name]).encode() + after).decode()
    return "\n".join(lines)


def _literal(value: Plain) -> str:
    """A value as Python source."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
