"""Folders of personas."""

from pathlib import Path

import pytest

from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.personas.groups import Groups
from personas_nb.store.database import Store


@pytest.fixture
def groups(tmp_path: Path):
    store = Store(tmp_path)
    yield Groups(store)
    store.close()


def test_groups_are_listed_by_sort_order_then_name(groups: Groups) -> None:
    for name, order in (("b", 0), ("C", 0), ("a", 0), ("first", -1)):
        groups.create(name, sort_order=order)
    assert [group.name for group in groups.list()] == ["first", "a", "b", "C"]


def test_creating_a_group_again_changes_only_what_is_given(groups: Groups) -> None:
    first = groups.create("Finance", color="#0072B2", collapsed=True)
    assert groups.create("finance") == first
    again = groups.create("Finance", sort_order=3)
    assert again == first.changed(sort_order=3)
    assert groups.list() == [again]


def test_a_group_is_found_by_name_id_and_beginning_of_id(groups: Groups) -> None:
    made = groups.create("Größe")
    for ref in ("GRÖSSE", made.id, made.id[:5]):
        assert groups.get(ref) == made


def test_what_cannot_be_used_is_refused(groups: Groups) -> None:
    with pytest.raises(InvalidInput, match="color"):
        groups.create("A", color="rouge")
    with pytest.raises(InvalidInput, match="Did you mean “color”"):
        groups.create("A", colour="#000000")
    assert groups.list() == []


def test_an_unknown_group_is_answered_with_the_nearest(groups: Groups) -> None:
    groups.create("Finance")
    with pytest.raises(NotFound, match="Did you mean “finance”"):
        groups.get("Finanse")


def test_removing_a_group_keeps_its_personas(groups: Groups) -> None:
    gone, kept = groups.create("Gone"), groups.create("Kept")
    personas = groups.store.table("personas", Persona)
    inside = personas.insert(Persona(name="Inside", group_id=gone.id))
    outside = personas.insert(Persona(name="Outside", group_id=kept.id))
    groups.remove("gone")
    assert groups.list() == [kept]
    assert personas.get(inside.id) == inside.changed(group_id=None)
    assert personas.get(outside.id) == outside
