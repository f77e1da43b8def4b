"""Writes the notebooks in ``templates/`` from the ``.toml`` files beside this script.

Run it after a change: ``python tests/template_sources/build.py``. A test compares what it writes with what is there.
"""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personas_nb.design.formats.notebook import KEY, literal
from personas_nb.design.formats.template import with_settings
from personas_nb.entities.design import (
    DesignResult,
    SuggestedConnector,
    SuggestedSettings,
    SuggestedTrigger,
)
from personas_nb.entities.structured_prompt import CustomSection, StructuredPrompt

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parents[1] / "templates"
BUDGET_USD = 0.25
WIDTH_CHARS = 105

SECTIONS = (
    ("identity", "Who it is"),
    ("instructions", "What it does"),
    ("approach", "How it does it well"),
    ("errors", "When something goes wrong"),
)
HOW_IT_RUNS = """\
**Run all cells.** Nothing leaves this machine and nothing is spent: the persona is *rehearsed*, with a model of our own
that plans its steps by rule. Run them again, and nothing changes that is so already."""
REVIEW = "%persona reviews approve latest Agreed, as this is a rehearsal."


def main() -> None:
    """Write every notebook whose text has changed."""
    TEMPLATES.mkdir(exist_ok=True)
    for source in sorted(HERE.glob("*.toml")):
        path = TEMPLATES / f"{source.stem}.ipynb"
        text = written(source)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.name)


def written(source: Path) -> str:
    """The notebook of one source, as text."""
    given = {
        key: value.strip("\n") if isinstance(value, str) else value
        for key, value in tomllib.loads(source.read_text(encoding="utf-8")).items()
    }
    given["name"] = source.stem
    given |= {name: _wrapped(given[name]) for name in ("identity", "instructions")}
    given["parameters"] = _parameters(given)
    notebook = {
        "cells": list(_cells(given)),
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            KEY: {
                "template": {name: given[name] for name in ("name", "title", "summary", "keywords")},
                "design": _design(given).model_dump(mode="json", exclude_defaults=True),
            },
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _wrapped(text: str) -> str:
    """The text in lines that a cell shows whole; what goes on is indented below the number of its step."""
    return "\n".join(
        textwrap.fill(line, WIDTH_CHARS, subsequent_indent="   " if line[:1].isdigit() else "")
        for line in text.splitlines()
    )


def _parameters(given: dict[str, Any]) -> dict[str, list[Any]]:
    """Value and meaning of every parameter; the first and the last are the same in all templates."""
    when = {"cron": [given["cron"], "when it would start by itself, once you enable that"]}
    return {
        "name": [given["title"], "what your persona is called"],
        **given["parameters"],
        **(when if given["cron"] else {}),
        "max_budget_usd": [BUDGET_USD, "what one run may cost at most, in US dollars"],
    }


def _design(given: dict[str, Any]) -> DesignResult:
    values = {key: value for key, (value, _meaning) in given["parameters"].items()}
    settings = with_settings(_settings_cell(given), values)
    prompt = StructuredPrompt(
        identity=given["identity"],
        instructions=given["instructions"],
        error_handling=given["errors"],
        custom_sections=(
            CustomSection(key="settings", label="Settings", content=settings),
            CustomSection(key="approach", label="How to do it well", content=given["approach"]),
        ),
    )
    cron = given["cron"]
    return DesignResult(
        name=given["title"],
        structured_prompt=prompt,
        suggested_tools=tuple(given["tools"]),
        suggested_triggers=(SuggestedTrigger(trigger_type="schedule", config={"cron": cron}),) if cron else (),
        suggested_connectors=tuple(SuggestedConnector(name=name) for name in given.get("connectors", ())),
        summary=given["summary"],
        suggested_settings=SuggestedSettings(
            icon=given["icon"], color=given["color"], max_budget_usd=BUDGET_USD,
            approve_first=tuple(given.get("approve_first", ())),
        ),
    )  # fmt: skip


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────────────


def _cells(given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield _markdown("about", f"# {given['title']}\n\n{given['about']}\n\n{HOW_IT_RUNS}")
    yield _code("parameters", _parameters_cell(given["parameters"]), {"tags": ["parameters"]})
    yield _code("setup", "from personas_nb import Studio\n\n%load_ext personas_nb\nstudio = Studio()")
    if given["samples"]:
        where = "Made up, and small. Your own file takes its place as soon as you name it in the parameters."
        yield _markdown("samples-about", f"## 1 · Something to practise on\n{where}")
        yield _code("samples", _samples_cell(given))
    if "extra_code" in given:
        yield _markdown("data-about", given["extra_about"])
        yield _code("data", given["extra_code"])
    yield _markdown(
        "told",
        "## 2 · What it is told\nPlain texts, yours to change: edit one, run again, and the persona has a new "
        "version that you can compare and take back.",
    )
    for name, heading in SECTIONS:
        yield _markdown(f"{name}-about", f"### {heading}")
        kept = {"errors": "error_handling"}.get(name, name)
        is_section = kept in StructuredPrompt.model_fields
        yield _code(name, f"{kept} = {literal(given[name])}", {KEY: {"section": kept}} if is_section else {})
    yield _markdown("settings-about", "### Its settings\nFilled from the parameters above.")
    yield _code("settings", _settings_cell(given), {KEY: {"settings": True}})
    yield _markdown("make", f"## 3 · Make it\n{_off(given)}")
    yield _code("persona", _persona_cell(given))
    yield _code("show", "%persona show {name}")
    yield _markdown("rehearse", f"## 4 · Rehearse it\n{given['rehearsal']}")
    yield _code("run", _run_cell(given))
    yield _markdown("review-about", f"## 5 · Decide\n{given['review']}")
    yield _code("reviews", "%persona reviews")
    yield _code("decide", REVIEW)
    yield _markdown("costs-about", "## 6 · What it cost")
    yield _code("costs", "%persona costs {name}")
    yield _markdown("live", f"## For real\n{_live(given)}")


def _off(given: dict[str, Any]) -> str:
    starts = "What would start it by itself stays off until you enable it. " if given["cron"] else ""
    return f"It may use the tools that are named here, and nothing else. {starts}What is missing is listed as to do."


def _parameters_cell(parameters: dict[str, list[Any]]) -> str:
    assigned = {key: f"{key} = {_value(value)}" for key, (value, _meaning) in parameters.items()}
    return "\n".join(f"{line}  # {parameters[key][1]}" for key, line in assigned.items())


def _value(value: Any) -> str:
    return repr(value) if isinstance(value, bool | float) else json.dumps(value, ensure_ascii=False)


def _samples_cell(given: dict[str, Any]) -> str:
    lines = ["from pathlib import Path", "", "samples = {"]
    for parameter, text in given["samples"].items():
        lines.append(f'    "{given["parameters"][parameter][0]}": {literal(text.lstrip(chr(10)))},')
    lines += [
        "}",
        'Path("samples").mkdir(exist_ok=True)',
        "for path, text in samples.items():",
        "    if not Path(path).exists():",
        '        Path(path).write_text(text, encoding="utf-8")',
    ]
    return "\n".join(lines)


def _settings_cell(given: dict[str, Any]) -> str:
    return f'settings = f"""\\\n{given["settings"]}"""'


def _persona_cell(given: dict[str, Any]) -> str:
    lines = [
        "report = studio.importers.json(",
        "    {",
        '        "format": "personas_nb.persona",',
        '        "version": 1,',
        '        "name": name,',
        f'        "description": {_value(given["summary"])},',
        f'        "icon": {_value(given["icon"])},',
        f'        "color": {_value(given["color"])},',
        '        "max_budget_usd": max_budget_usd,',
        '        "structured_prompt": {',
        '            "identity": identity,',
        '            "instructions": instructions,',
        '            "errorHandling": error_handling,',
        '            "customSections": [',
        '                {"key": "settings", "label": "Settings", "content": settings},',
        '                {"key": "approach", "label": "How to do it well", "content": approach},',
        "            ],",
        "        },",
        f'        "tools": {_value(given["tools"])},',
    ]
    if asked := given.get("approve_first"):
        lines.append(f'        "approve_first": {_value(asked)},')
    if given["cron"]:
        lines.append('        "triggers": [{"trigger_type": "schedule", "config": {"cron": cron}}],')
    if named := given.get("connectors"):
        lines.append(f'        "connectors": {_value([{"name": name} for name in named])},')
    lines += ["    }", ")", "persona = report.apply(name)"]
    return "\n".join(lines)


def _run_cell(given: dict[str, Any]) -> str:
    files = "".join(f" --file {{{name}}}" for name in given["files"])
    return f"%%persona run {{name}} --provider rehearsal -o run{files}\n{given['input']}"


def _live(given: dict[str, Any]) -> str:
    named = " and ".join(given.get("connectors", ()))
    access = f"- **Access**: `%persona credentials add NAME {named}`.\n" if named else ""
    return (
        f"- **Your data**: {given['live']}\n"
        "- **A model**: set `ANTHROPIC_API_KEY` before Jupyter starts (or name another provider in `personas.toml`), "
        "and leave `--provider rehearsal` out. `%persona run NAME --explain` says before what a run may cost.\n"
        f"{access}"
        f"- **Headless**: `papermill {given['name']}.ipynb out.ipynb -p max_budget_usd 0.1`; every parameter can be "
        "given so.\n"
        "- **Its limits**: `%persona set NAME max_turns=10`; **its history**: `%persona versions NAME`."
    )


def _markdown(identity: str, source: str) -> dict[str, Any]:
    return {
        "cell_type": "markdown",
        "id": identity,
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }


def _code(identity: str, source: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": identity,
        "metadata": metadata or {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }


if __name__ == "__main__":
    main()
