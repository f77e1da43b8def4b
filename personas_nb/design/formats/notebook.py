"""A persona as a notebook that reads like a page, and rebuilds the persona wherever it is run.

The persona stands in the notebook's metadata; each section of its prompt stands in a cell of its own as well, where
it may be edited: a cell that differs from the metadata counts.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

from personas_nb.design.formats.parsing import checked_object, object_of
from personas_nb.design.formats.persona_json import document_of, is_ours, report_of
from personas_nb.design.formats.portable import Portable, Written
from personas_nb.design.formats.report import ImportEntry, ImportReport
from personas_nb.errors import InvalidInput

KEY = "personas_nb"
"""The key of our metadata, in the notebook and in its cells."""

_SECTIONS = (
    ("identity", "identity", "Who it is"),
    ("instructions", "instructions", "What it does"),
    ("tool_guidance", "toolGuidance", "How it uses its tools"),
    ("examples", "examples", "Examples"),
    ("error_handling", "errorHandling", "When something goes wrong"),
)
_INTRO = """\
Running this notebook makes the persona in your own store, and rehearses it: no model is asked, nothing leaves this \
machine, and it costs nothing. Running it again changes nothing. Edit a text below and run again to change it."""
_SETUP = """\
from personas_nb import Studio

%load_ext personas_nb
studio = Studio()"""


def is_notebook(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a notebook, whoever wrote it."""
    return "nbformat" in document or ("cells" in document and "metadata" in document)


def read(text: str | bytes | Mapping[str, Any], source: str) -> ImportReport:
    """The persona of a notebook of ours as a draft; raises ``InvalidInput`` for any other notebook."""
    notebook = checked_object(dict(text), source) if isinstance(text, Mapping) else object_of(text, source)
    metadata = notebook.get("metadata")
    kept = metadata.get(KEY) if isinstance(metadata, dict) else None
    document = next(
        (each for each in (kept, *_inside(kept)) if isinstance(each, dict) and is_ours(each)), None
    )
    if document is None:
        raise InvalidInput(
            f"{source} is a notebook, but none that holds a persona.",
            hint="`%persona export NAME FILE.ipynb` writes one.",
        )
    document = dict(document)
    edited = list(_edited(notebook.get("cells"), document))
    report = report_of(document, source, format="notebook")
    return ImportReport("notebook", report.name, report.draft, (*report.entries, *edited), source)


def write(persona: Portable) -> Written:
    """The persona as a notebook; all of it has a place there."""
    document = document_of(persona)
    cells = [
        _markdown(
            "about", f"# {persona.name}\n\n{persona.description}\n\n{_INTRO}".replace("\n\n\n\n", "\n\n")
        ),
        _markdown("facts", _facts(persona)),
        _code("setup", _SETUP),
        *_prompt_cells(persona),
        _markdown(
            "make",
            "## Make it\n\nThe report says what became of every part. What starts it by itself stays off.",
        ),
        _code("persona", _rebuild(persona, document)),
        _code("apply", "persona = report.apply()\npersona"),
        _markdown("rehearse", "## Rehearse it"),
        _code("run", 'studio.run(persona, "Do your work with a small example.", provider="rehearsal")'),
    ]
    notebook = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            KEY: document,
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return Written(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def _facts(persona: Portable) -> str:
    from personas_nb.entities.model_profile import ModelProfile

    profile = persona.model_profile or ModelProfile()
    rows = [
        ("tools", ", ".join(persona.tools)),
        ("asks before", ", ".join(persona.approve_first)),
        ("starts", "; ".join(_starts(persona)) or "when you run it"),
        ("needs access to", ", ".join(connector.name for connector in persona.connectors)),
        ("model", " · ".join(part for part in (profile.provider, profile.model) if part)),
        ("may cost", f"{persona.max_budget_usd:g} USD a run" if persona.max_budget_usd is not None else ""),
        ("may ask its model", f"{persona.max_turns} times a run" if persona.max_turns is not None else ""),
    ]
    table = "\n".join(f"| {name} | {_in_table(value)} |" for name, value in rows if value)
    return f"| | |\n|---|---|\n{table}"


def _starts(persona: Portable) -> Iterator[str]:
    for trigger in persona.triggers:
        when = trigger.config.get("cron") or trigger.config.get("interval_seconds") or ""
        unit = " s" if trigger.trigger_type == "polling" and when else ""
        yield trigger.description or f"{trigger.trigger_type} {when}{unit}".strip()
    for listened in persona.event_subscriptions:
        yield f"on the event {listened.event_type}"


def _in_table(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _prompt_cells(persona: Portable) -> Iterator[dict[str, Any]]:
    yield _markdown("told", "## What it is told")
    prompt = persona.structured_prompt
    if prompt is None:
        yield _section("system_prompt", persona.system_prompt)
        return
    for name, _, heading in _SECTIONS:
        if text := getattr(prompt, name):
            yield _markdown(f"about-{name.replace('_', '-')}", f"### {heading}")
            yield _section(name, text)


def _section(name: str, text: str) -> dict[str, Any]:
    return _code(name.replace("_", "-"), f"{name} = {literal(text)}", section=name)


def _rebuild(persona: Portable, document: dict[str, Any]) -> str:
    """The cell that reads the persona, with the texts of the cells above in their places."""
    shown: dict[str, Any] = dict(document)
    prompt = persona.structured_prompt
    if prompt is None:
        shown["system_prompt"] = _Name("system_prompt")
    else:
        sections: dict[str, Any] = dict(shown["structured_prompt"])
        sections |= {key: _Name(name) for name, key, _ in _SECTIONS if getattr(prompt, name)}
        shown["structured_prompt"] = {key: value for key, value in sections.items() if value}
    return f"report = studio.importers.json({_python(shown)})\nreport"


class _Name(str):
    """A variable, written without quotes."""

    __slots__ = ()


def _python(value: Any, indent: int = 0) -> str:
    """A value of JSON as Python source, one item a line where it is long."""
    inner = " " * (indent + 4)
    if isinstance(value, _Name):
        return str(value)
    if isinstance(value, dict) and value:
        lines = [f"{inner}{_text(key)}: {_python(item, indent + 4)}," for key, item in value.items()]
        return "\n".join(["{", *lines, " " * indent + "}"])
    if isinstance(value, list) and value:
        if (
            len(short := "[" + ", ".join(_python(item, indent + 4) for item in value) + "]") <= 80
            and "\n" not in short
        ):
            return short
        return "\n".join(
            ["[", *(f"{inner}{_python(item, indent + 4)}," for item in value), " " * indent + "]"]
        )
    if isinstance(value, str):
        return literal(value) if "\n" in value else _text(value)
    return repr(value)


def _text(value: str) -> str:
    """One line as Python source, in double quotes where that needs no more escapes."""
    return json.dumps(value, ensure_ascii=False) if _is_plain(value) and "\\" not in value else repr(value)


def literal(text: str) -> str:
    """A text as Python source that reads like the text; evaluating it gives the same text, character by character.

    >>> print(literal("one\\ntwo"))
    \"\"\"\\
    one
    two\"\"\"
    """
    if not _is_plain(text):
        return repr(text)
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if escaped.endswith('"'):
        escaped = f'{escaped[:-1]}\\"'
    return f'"""\\\n{escaped}"""'


def _is_plain(text: str) -> bool:
    """Whether it may stand in source as it is: no control characters, no line ends but ``\\n``."""
    return all(char == "\n" or char == "\t" or char.isprintable() for char in text)


def _markdown(identity: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": _source(source)}


def _code(identity: str, source: str, *, section: str = "") -> dict[str, Any]:
    metadata = {KEY: {"section": section}} if section else {}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": identity,
        "metadata": metadata,
        "outputs": [],
        "source": _source(source),
    }


def _source(text: str) -> list[str]:
    """A source as notebooks keep it: its lines, each with its end."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + [lines[-1]]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def _inside(kept: Any) -> Iterator[Any]:
    """What of our metadata may be a design: it stands under a name of its own in templates."""
    if isinstance(kept, dict):
        yield from (value for value in kept.values() if isinstance(value, dict))


def _edited(cells: Any, document: dict[str, Any]) -> Iterator[ImportEntry]:
    """Puts the texts of edited cells into the document; an entry for each."""
    for cell in cells if isinstance(cells, list) else []:
        metadata = cell.get("metadata") if isinstance(cell, dict) else None
        ours = metadata.get(KEY) if isinstance(metadata, dict) else None
        name = ours.get("section") if isinstance(ours, dict) else None
        if not isinstance(name, str):
            continue
        text = _assigned(cell.get("source"), name)
        key = next((key for section, key, _ in _SECTIONS if section == name), None)
        if text is None:
            yield ImportEntry(
                f"cell {name}", "dropped", "It no longer assigns a plain text: the metadata's was used."
            )
        elif name == "system_prompt" and text != document.get("system_prompt", ""):
            document["system_prompt"] = text
            yield _edited_entry(name)
        elif key is not None and isinstance(sections := document.get("structured_prompt"), dict):
            before = sections.get(key) or sections.get(name) or ""
            if text != before:
                others = {other: value for other, value in sections.items() if other != name}
                document["structured_prompt"] = {**others, key: text}
                yield _edited_entry(name)


def _edited_entry(name: str) -> ImportEntry:
    return ImportEntry(f"cell {name}", "mapped", "It was edited after the export, and counts.")


def _assigned(source: Any, name: str) -> str | None:
    """The text that a cell assigns to the name; nothing of the cell is run."""
    text = (
        "".join(source)
        if isinstance(source, list) and all(isinstance(line, str) for line in source)
        else source
    )
    if not isinstance(text, str) or len(text) > 2_000_000:
        return None
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            is_it = any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)
            if is_it and isinstance(statement.value.value, str):
                return statement.value.value
    return None
