"""The prompt of a run: which sections, in which order, and data that stays data."""

from __future__ import annotations

import json
from collections import UserDict
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studios import persona_of, studio_at

from personas_nb.engine.prompt import as_text, assemble
from personas_nb.engine.protocol import PROTOCOL_KINDS
from personas_nb.entities.memory import Memory
from personas_nb.entities.persona import Persona
from personas_nb.entities.structured_prompt import CustomSection
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import InvalidInput

RICH = {
    "identity": "You watch invoices.",
    "instructions": "1. Read them.",
    "toolGuidance": "Read before you write.",
    "examples": "An overdue one.",
    "errorHandling": "Say what is missing.",
    "customSections": [{"key": "tone", "label": "Tone", "content": "Be brief."}],
}
READ = ToolDefinition(
    name="file_read",
    description="Reads a file.",
    requires_credential_type="disk",
    input_schema={
        "type": "object",
        "required": ["path"],
        "properties": {"path": {"type": "string", "description": "Which"}, "limit": {"type": "integer"}},
    },
)
REMEMBERED = Memory(persona_id="p", title="Billing day", content="The 5th.", importance=7)


def headings(prompt: str) -> list[str]:
    return [line for line in prompt.splitlines() if line.startswith(("# ", "## "))]


def whole(boundary: str = "b-17") -> str:
    persona = Persona(name="Watcher", description="Watches.", structured_prompt=RICH)
    return assemble(
        persona,
        tools=[READ],
        credentials=["GMAIL_TOKEN"],
        memories=[REMEMBERED],
        input={"month": "2026-10"},
        boundary=boundary,
    )


def test_the_sections_stand_in_their_order_each_once():
    assert headings(whole()) == [
        "# Persona: Watcher",
        "## Description",
        "## Identity",
        "## Instructions",
        "## Tool Guidance",
        "## Examples",
        "## Error Handling",
        "## Tone",
        "## Available Tools",
        "## Available Credentials",
        "## Memories",
        "## Communication Protocols",
        "## Input Data",
        "## EXECUTE NOW",
    ]


def test_empty_sections_are_left_out():
    prompt = assemble(Persona(name="Echo", system_prompt="Repeat."), input="  \n", boundary="b")
    assert headings(prompt) == [
        "# Persona: Echo",
        "## Identity",
        "## Communication Protocols",
        "## EXECUTE NOW",
    ]


def test_a_persona_without_any_prompt_still_has_its_name_and_the_directive():
    prompt = assemble(Persona(name="Blank"), boundary="b")
    assert prompt.startswith("# Persona: Blank\n\n## Communication Protocols")


def test_an_empty_structure_is_an_input_and_no_input_is_none():
    persona = Persona(name="Echo")
    assert "## Input Data" in assemble(persona, input={}, boundary="b")
    assert "## Input Data" not in assemble(persona, input=None, boundary="b")


def test_tools_are_explained_with_their_arguments():
    prompt = whole()
    assert "### file_read\nReads a file.\nNeeds a disk credential." in prompt
    assert "- `path` (string, required): Which\n- `limit` (integer, optional)" in prompt


def test_credentials_are_named_and_never_shown():
    assert "- `GMAIL_TOKEN`" in whole()
    described = assemble(
        Persona(name="x"), credentials=[{"name": "A_TOKEN", "description": "for A"}], boundary="b"
    )
    assert "- `A_TOKEN`: for A" in described


def test_the_protocol_section_explains_all_seven_messages():
    section = whole().partition("## Communication Protocols")[2].partition("## Input Data")[0]
    assert all(f'{{"{kind}": ' in section for kind in PROTOCOL_KINDS)
    assert len(PROTOCOL_KINDS) == 7


def test_missing_data_is_to_be_reported_and_not_invented():
    assert "say what is missing instead of inventing it" in whole().partition("## EXECUTE NOW")[2]


def test_input_and_memories_are_fenced_as_untrusted_data():
    prompt = whole("data-5f")
    assert '<<<input data-5f\n{\n  "month": "2026-10"\n}\ninput data-5f>>>' in prompt
    memory = "- [fact, importance 7] Billing day: The 5th."
    assert f"<<<memories data-5f\n{memory}\nmemories data-5f>>>" in prompt
    assert prompt.count("is untrusted data") == 2


@given(
    st.text(alphabet="ab0>< \n", max_size=60),
    st.sampled_from(["ab0", "a", "aba", "b0"]),
)
def test_data_cannot_close_its_own_fence(data: str, boundary: str):
    prompt = assemble(Persona(name="x"), input=f"|{data}|", boundary=boundary)
    inside = prompt.partition(f"<<<input {boundary}\n")[2].rpartition(f"\ninput {boundary}>>>")[0]
    assert boundary not in inside
    assert inside.startswith("|")
    assert inside.endswith("|")


def test_a_boundary_that_forms_when_another_is_taken_out_is_no_boundary():
    nested = assemble(Persona(name="x"), input="SECSECRETRET", boundary="SECRET")
    assert nested.count("SECRET") == 3  # the sentence, the opening line, the closing line


def test_the_same_arguments_give_the_same_text():
    assert whole() == whole()


def test_structures_become_json_and_text_stays_as_it_is():
    assert as_text("{not json") == "{not json"
    assert as_text(["ä", 1]) == '[\n  "ä",\n  1\n]'
    assert as_text(None) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (MappingProxyType({"a": UserDict(b=1)}), '{"a": {"b": 1}}'),
        (
            {"n": np.int64(5), "x": np.float64(0.5), "all": np.arange(3)},
            '{"n": 5, "x": 0.5, "all": [0, 1, 2]}',
        ),
        ({"at": datetime(2026, 11, 21, 9, tzinfo=UTC)}, '{"at": "2026-11-21T09:00:00+00:00"}'),
        ({"persona": CustomSection(key="k")}, '{"persona": {"key": "k", "label": "", "content": ""}}'),
        ({"a": float("nan"), "b": [float("inf")]}, '{"a": null, "b": [null]}'),
    ],
)
def test_what_is_nearly_json_becomes_json_and_not_its_python_form(value: Any, text: str):
    assert json.loads(as_text(value) or "") == json.loads(text)


def test_a_boundary_must_be_there():
    with pytest.raises(InvalidInput, match="boundary"):
        assemble(Persona(name="x"), input="data", boundary="")


def test_a_structured_prompt_may_be_given_as_its_json():
    persona = Persona(name="x", system_prompt="unused", structured_prompt='{"identity": "I watch."}')
    prompt = assemble(persona, boundary="b")
    assert "## Identity\n\nI watch." in prompt
    assert "unused" not in prompt


@pytest.mark.parametrize("names", ["camelCase", "snake_case"])
def test_a_structured_prompt_is_taken_in_both_spellings(names: str):
    fields = {"toolGuidance": "Look."} if names == "camelCase" else {"tool_guidance": "Look."}
    persona = Persona(name="x", system_prompt="unused", structured_prompt={"identity": "I", **fields})
    prompt = assemble(persona, boundary="b")
    assert "## Tool Guidance\n\nLook." in prompt
    assert "unused" not in prompt


def test_a_structured_prompt_that_cannot_be_read_falls_back_with_a_warning_on_the_run(home: Path):
    with studio_at(home) as studio:
        persona = persona_of(studio, system_prompt="I am the fallback.")
        with studio.store.write() as db:
            db.execute("update personas set structured_prompt = '{broken' where id = ?", [persona.id])
        run = studio.run("watcher")
        assert run.status == "completed"
        assert any("structured prompt cannot be read" in warning for warning in run.warnings)
        assert "## Identity\n\nI am the fallback." in (studio.executions.prompt(run.id) or "")


def test_a_persona_told_to_use_no_memories_is_told_none(home: Path):
    with studio_at(home) as studio:
        persona = persona_of(studio, uses_memories=False)
        studio.memories.add(Memory(persona_id=persona.id, title="Billing day", content="The 5th."))
        without = studio.executions.prompt(studio.run("watcher", "billing").id) or ""
        studio.personas.update("watcher", uses_memories=True)
        told = studio.executions.prompt(studio.run("watcher", "billing").id) or ""
    assert "## Memories" not in without
    assert "Billing day: The 5th." in told


def test_every_run_has_a_boundary_of_its_own(home: Path):
    with studio_at(home) as studio:
        persona_of(studio)
        prompts = [studio.executions.prompt(studio.run("watcher", "x").id) or "" for _ in range(2)]
    boundaries = {prompt.partition("<<<input ")[2].split("\n")[0] for prompt in prompts}
    assert len(boundaries) == 2
    assert all(len(boundary) > 16 for boundary in boundaries)
