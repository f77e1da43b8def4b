"""The catalog of tools, and who may call which."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from personas_nb import Studio
from personas_nb.entities.persona import Persona
from personas_nb.entities.tool import ToolAssignment, ToolDefinition
from personas_nb.errors import NotFound
from personas_nb.store.database import Store
from personas_nb.tools.builtin import BUILTIN
from personas_nb.tools.catalog import Tools

SHIPPED = [
    "file_read",
    "file_write",
    "gmail_mark_read",
    "gmail_read",
    "gmail_search",
    "gmail_send",
    "http_request",
    "postgres_query",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def tools(store: Store) -> Tools:
    return Tools(store)


@pytest.fixture
def persona(store: Store) -> Persona:
    return store.table("personas", Persona).insert(Persona(name="Watcher"))


def names(found: list[ToolDefinition]) -> list[str]:
    return [tool.name for tool in found]


def test_a_new_store_has_the_built_in_tools_by_name(tools: Tools) -> None:
    assert names(tools.list()) == SHIPPED


def test_every_shipped_tool_has_an_implementation_and_an_object_schema(tools: Tools) -> None:
    assert {tool.script_path for tool in tools.list()} == set(BUILTIN)
    assert all(tool.input_schema["type"] == "object" for tool in tools.list())


def test_the_effects_say_what_a_call_changes(tools: Tools) -> None:
    effects = {tool.name: tool.effect for tool in tools.list()}
    assert (effects.pop("file_read"), effects.pop("file_write")) == ("none", "local")
    assert set(effects.values()) == {"outside"}


def test_a_tool_is_found_by_its_name(tools: Tools) -> None:
    assert tools.get("gmail_send").requires_credential_type == "gmail"


def test_an_unknown_tool_is_answered_with_the_nearest(tools: Tools) -> None:
    with pytest.raises(NotFound) as caught:
        tools.get("file_raed")
    assert str(caught.value) == "There is no tool “file_raed”. Did you mean “file_read”?"


def test_an_unknown_tool_like_no_other_is_answered_with_all(tools: Tools) -> None:
    with pytest.raises(NotFound, match="There are file_read, file_write, gmail_mark_read"):
        tools.get("zzz")


def test_assigning_gives_what_the_persona_may_call(tools: Tools, persona: Persona) -> None:
    assert names(tools.assign(persona, "http_request", "file_read")) == ["file_read", "http_request"]
    assert tools.assigned(persona) == tools.assigned(persona.id) == tools.assign(persona.id)


def test_assigning_twice_changes_nothing(tools: Tools, persona: Persona, store: Store) -> None:
    tools.assign(persona, "file_read")
    rows = store.table("tool_assignments", ToolAssignment)
    before = rows.find()
    rows.update(before[0].id, needs_approval=True)
    assert names(tools.assign(persona, "file_read", "file_read")) == ["file_read"]
    assert rows.find() == [before[0].changed(needs_approval=True)]


def test_assigning_an_unknown_tool_assigns_none_of_them(tools: Tools, persona: Persona) -> None:
    with pytest.raises(NotFound, match="Did you mean “file_write”"):
        tools.assign(persona, "file_read", "file_wirte")
    assert tools.assigned(persona) == []


def test_unassigning_takes_only_what_is_named(tools: Tools, persona: Persona) -> None:
    tools.assign(persona, *SHIPPED)
    assert names(tools.unassign(persona, "gmail_send", "file_write")) == [
        name for name in SHIPPED if name not in ("gmail_send", "file_write")
    ]
    assert len(tools.unassign(persona, "gmail_send")) == 6


def test_unassigning_an_unknown_tool_is_answered_with_the_nearest(tools: Tools, persona: Persona) -> None:
    with pytest.raises(NotFound, match="Did you mean “gmail_send”"):
        tools.unassign(persona, "gmail_sned")


def test_one_personas_tools_are_not_anothers(tools: Tools, persona: Persona, store: Store) -> None:
    other = store.table("personas", Persona).insert(Persona(name="Other"))
    tools.assign(persona, "file_read")
    assert tools.assigned(other) == []


def test_an_unknown_persona_is_said(tools: Tools) -> None:
    for change in (tools.assign, tools.unassign):
        with pytest.raises(NotFound, match="There is no persona of the id “nobody”"):
            change("nobody", "file_read")


def test_a_studio_finds_the_persona_by_slug_or_name(home: Path) -> None:
    with Studio(home) as studio:
        studio.personas.create(name="Invoice watcher")
        studio.tools.assign("invoice-watcher", "file_read")
        assert [tool.name for tool in studio.tools.assigned("Invoice watcher")] == ["file_read"]
        with pytest.raises(NotFound, match="Did you mean “invoice-watcher”"):
            studio.tools.assign("invoice-wacher", "file_write")
