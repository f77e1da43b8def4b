"""What a format can hold comes back as it was, whatever the persona; what does not come back was listed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personas_nb.design.formats import notebook, persona_json, persona_md, subagent
from personas_nb.design.formats.notebook import literal
from personas_nb.design.formats.portable import Portable
from personas_nb.design.formats.prompt_text import prompt_text
from personas_nb.design.formats.report import ImportReport
from personas_nb.design.formats.strangers import without_secrets
from personas_nb.entities.base import made
from personas_nb.entities.design import DesignResult
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.errors import InvalidInput

# What a store can hold; a literal secret would be taken out.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).filter(
    lambda text: not without_secrets(text)[1]
)
NAME = TEXT.map(lambda text: " ".join(text.split())).filter(bool)
WORD = st.from_regex(r"[a-z][a-z_]{0,12}", fullmatch=True)
SMALL = st.integers(1, 1000)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


SECTION = st.fixed_dictionaries({"key": WORD, "label": TEXT, "content": TEXT})
PROMPT = st.builds(StructuredPrompt, identity=TEXT, instructions=TEXT, tool_guidance=TEXT, examples=TEXT,
                   error_handling=TEXT, custom_sections=several(SECTION))  # fmt: skip
TRIGGER = st.fixed_dictionaries(
    {
        "trigger_type": st.sampled_from(["schedule", "polling", "webhook", "manual"]),
        "config": st.dictionaries(
            st.sampled_from(["cron", "interval_seconds", "path"]), TEXT | SMALL, max_size=2
        ),
        "description": TEXT,
    }
)
EVENT = st.fixed_dictionaries({"event_type": WORD, "source_filter": optional(WORD), "description": TEXT})
CONNECTOR = st.fixed_dictionaries(
    {"name": WORD, "credential_fields": several(WORD), "setup_instructions": TEXT}
)
SERVER = st.fixed_dictionaries({"name": WORD, "command": several(WORD), "env": several(WORD)})
PROFILE = st.fixed_dictionaries(
    {},
    optional={
        "provider": st.sampled_from(["anthropic", "litellm", "ollama", "custom", "rehearsal"]),
        "model": st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
        "base_url": st.just("https://models.example.com"),
        "engine": st.sampled_from(["auto", "claude", "direct"]),
    },
)
FLOW = st.fixed_dictionaries(
    {"steps": several(st.fixed_dictionaries({"id": WORD, "label": TEXT})).filter(bool), "edges": st.just(())}
)
FIELDS = {
    "name": NAME,
    "description": TEXT,
    "system_prompt": TEXT,
    "structured_prompt": optional(PROMPT),
    "icon": optional(WORD),
    "color": optional(st.from_regex(r"#[0-9A-F]{6}", fullmatch=True)),
    "max_concurrent": optional(st.integers(1, 100)),
    "timeout_ms": optional(SMALL),
    "max_budget_usd": optional(st.floats(0, 100)),
    "max_turns": optional(SMALL),
    "uses_memories": optional(st.booleans()),
    "model_profile": optional(PROFILE),
    "tools": several(WORD),
    "approve_first": several(WORD),
    "triggers": several(TRIGGER),
    "event_subscriptions": several(EVENT),
    "notification_channels": several(st.fixed_dictionaries({"type": WORD, "description": TEXT})),
    "connectors": several(CONNECTOR),
    "servers": several(SERVER),
    "highlights": several(st.fixed_dictionaries({"category": TEXT, "items": several(TEXT)})),
    "flow": FLOW,
}


@st.composite
def personas(draw: st.DrawFn) -> Portable:
    return made(Portable, {name: draw(strategy) for name, strategy in FIELDS.items()})


def same(persona: Portable) -> DesignResult:
    """The draft that a file of this persona must give."""
    prompt = persona.structured_prompt
    normal = persona.changed(structured_prompt=None if prompt == StructuredPrompt() else prompt)
    return normal.draft()


@given(personas())
@settings(max_examples=150, deadline=None)
def test_json_holds_everything(persona: Portable) -> None:
    report = persona_json.read(persona_json.write(persona).text, "p.json")
    assert report.draft == same(persona)
    assert report.name == persona.name
    assert not report.of("dropped")


@given(personas())
@settings(max_examples=100, deadline=None)
def test_a_notebook_holds_everything(persona: Portable) -> None:
    written = notebook.write(persona).text
    report = notebook.read(written, "p.ipynb")
    assert report.draft == same(persona)
    assert not report.of("dropped")


@given(personas())
@settings(max_examples=100, deadline=None)
def test_the_cells_of_a_notebook_build_what_its_metadata_say(persona: Portable) -> None:
    rebuilt = _run(notebook.write(persona).text)
    assert persona_json.read(rebuilt, "cells").draft == same(persona)


class _Importers:
    """Stands where a studio does: keeps the document that the cell reads."""

    def json(self, document: dict[str, Any]) -> None:
        self.document = document


def _run(written: str) -> dict[str, Any]:
    importers = _Importers()
    studio = type("Studio", (), {"importers": importers})()
    names = {"studio": studio}
    for cell in json.loads(written)["cells"]:
        if cell["cell_type"] == "code" and (cell["metadata"] or cell["id"] == "persona"):
            exec("".join(cell["source"]), names)
    return importers.document


def _text_of(report: ImportReport) -> tuple[str, StructuredPrompt]:
    return report.draft.full_prompt_markdown, report.draft.structured_prompt


@pytest.mark.parametrize("format_", [subagent, persona_md], ids=["subagent", "persona_md"])
@given(persona=personas())
@settings(max_examples=150, deadline=None)
def test_markdown_holds_what_it_did_not_list(format_: Any, persona: Portable) -> None:
    written = format_.write(persona)
    left_out = {each.part.partition(" (")[0] for each in written.left_out}
    if not prompt_text(persona)[0].strip():
        with pytest.raises(InvalidInput, match="no text under its fields"):
            format_.read(written.text, "p.md")
        return
    report = format_.read(written.text, "p.md")
    draft, wanted = report.draft, same(persona)
    if "name" not in left_out:
        assert report.name == persona.name
    if "description" not in left_out:
        assert draft.summary == persona.description
    profile, given_profile = draft.suggested_model_profile, persona.model_profile
    if not left_out & {"model_profile", "model_profile.engine", "model_profile.provider"}:
        assert (profile or _EMPTY) == (given_profile or _EMPTY)
    chosen, given_settings = draft.suggested_settings, wanted.suggested_settings
    for name in (
        "icon",
        "color",
        "timeout_ms",
        "max_turns",
        "max_budget_usd",
        "max_concurrent",
        "uses_memories",
    ):
        if name not in left_out:
            assert getattr(chosen, name, None) == getattr(given_settings, name, None)
    if not left_out & {"sections", "system_prompt"} and persona.structured_prompt not in (
        None,
        StructuredPrompt(),
    ):
        assert draft.structured_prompt == persona.structured_prompt
    if "system_prompt" not in left_out and persona.structured_prompt in (None, StructuredPrompt()):
        assert draft.full_prompt_markdown == persona.system_prompt


_EMPTY = made(Portable, {"name": "x", "model_profile": {}}).model_profile


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_a_text_as_source_is_that_text(text: str) -> None:
    assert eval(literal(text)) == text


# ── versions ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bare_design_is_version_nought_and_is_brought_up() -> None:
    design = Portable(name="A", system_prompt="You.", tools=("file_read",), max_turns=4).draft()
    report = persona_json.read(design.model_dump_json(), "design.json")
    assert report.draft.suggested_tools == ("file_read",)
    assert report.draft.suggested_settings == design.suggested_settings
    assert "version 0" in [entry.source for entry in report.of("absorbed")]


def test_every_version_has_a_step_to_the_next() -> None:
    assert sorted(persona_json.UPGRADES) == list(range(persona_json.VERSION))


def test_steps_are_taken_one_after_the_other() -> None:
    steps = {
        0: persona_json.UPGRADES[0],
        1: lambda document: {**document, "steps": ["one"]},
        2: lambda document: {**document, "steps": [*document["steps"], "two"]},
    }
    document = persona_json.upgraded({"structured_prompt": {}, "suggested_tools": []}, "a.json", steps)
    assert (document["version"], document["steps"]) == (3, ["one", "two"])


@pytest.mark.parametrize("version", [persona_json.VERSION + 1, 99])
def test_a_later_version_is_refused_with_what_to_do(version: int) -> None:
    with pytest.raises(InvalidInput, match=r"a later version of personas_nb.*Upgrade"):
        persona_json.read({"format": persona_json.FORMAT, "version": version, "name": "A"}, "a.json")


@pytest.mark.parametrize("version", [None, "1", True, 0, -1, 1.0])
def test_a_version_that_is_none_is_refused(version: Any) -> None:
    with pytest.raises(InvalidInput, match="format and version do not say so"):
        persona_json.read({"format": persona_json.FORMAT, "version": version, "name": "A"}, "a.json")
