"""Variables in lines and cells, and what a cell means as input."""

from __future__ import annotations

import json

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.verbs.filling import Filling, cell_input, parsed

FRAME = pandas.DataFrame({"day": ["Mon", "Tue"], "amount": [1, 2]})
CSV = "day,amount\nMon,1\nTue,2\n"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def filled(cell: str, **names: object) -> object:
    return cell_input(cell, Filling(names))


@given(st.text())
def test_a_text_without_known_names_stays_byte_for_byte(text):
    assert Filling({"some_name_that_is_rare": 1}).text(text) == text


@given(st.text(), st.text())
def test_what_was_filled_in_is_not_filled_again(before, value):
    assert Filling({"x": "{x}"}).text("a {x} b") == "a {x} b"
    assert Filling({"x": value}).text(before.replace("{", "") + "{x}") == before.replace("{", "") + value


@given(st.dictionaries(st.text(), JSON) | st.lists(JSON))
def test_json_without_names_is_what_it_was(document):
    assert cell_input(json.dumps(document), Filling({})) == document


def test_only_plain_names_of_the_person_are_filled():
    names = {"x": 1, "json": json, "len": len, "Frame": pandas.DataFrame, "_hidden": 1}
    text = "{x} {json} {len} {Frame} {_hidden} {x.real} {x + 1} {x!r} {} {0} {{x}} {unknown}"
    assert Filling(names).text(text) == "1" + text.removeprefix("{x}")


def test_names_that_ipython_itself_put_there_are_not_the_persons():
    exit_function, own = object(), object()
    filling = Filling({"exit": exit_function, "Out": "mine"}, hidden={"exit": exit_function, "Out": own})
    assert filling.text("{exit} {Out}") == "{exit} mine"


def test_structures_become_json_in_a_text():
    assert Filling({"d": {"a": [1, "ä"]}}).text("see {d}") == 'see {"a": [1, "ä"]}'


def test_a_frame_in_a_text_is_csv():
    assert Filling({"df": FRAME}).text("{df}") == CSV
    assert Filling({"s": FRAME["amount"]}).text("{s}") == "amount\n1\n2\n"


def test_a_frame_with_an_index_of_its_own_keeps_it():
    assert Filling({"df": FRAME.set_index("day")}).text("{df}") == CSV


def test_of_a_long_frame_200_rows_go_in_and_it_is_said():
    filling = Filling({"df": pandas.DataFrame({"n": range(1000)})})
    text = filling.text("{df}")
    assert text.splitlines()[-2:] == ["199", "[the first 200 of 1,000 rows]"]
    assert filling.notes == ["Of df only the first 200 of 1,000 rows went into the input."]


def test_in_json_a_string_that_is_a_name_becomes_the_object():
    document = filled(
        '{"a": "{n}", "b": "{d}", "c": "{df}", "d": "{t}"}', n=numpy.int64(5), d={"k": 1}, df=FRAME, t=(1,)
    )
    assert document == {"a": 5, "b": {"k": 1}, "c": CSV, "d": [1]}


def test_in_json_a_name_among_words_becomes_text():
    assert filled('["about {d}", "{missing}", "{{n}}"]', d=[1], n=2) == ["about [1]", "{missing}", "{{n}}"]


def test_a_variable_cannot_change_the_shape_of_a_document():
    assert filled('{"a": "{x}"}', x='", "evil": "1') == {"a": '", "evil": "1'}


def test_keys_are_never_filled():
    assert filled('{"{x}": 1}', x="y") == {"{x}": 1}


def test_a_cell_that_begins_with_dashes_is_yaml():
    assert filled("---\nrows: '{n}'\nlist:\n- a\n", n=3) == {"rows": 3, "list": ["a"]}


@pytest.mark.parametrize(
    "cell",
    [
        "hello",
        "{not json",
        "[1, 2",
        "{x} is the first word",
        "--- no yaml",
        "---\nonly words",
        "---\na: [1",
        "---\na: 2026-99-99",
        "---\na: 1\n---\nb: 2",
        "---\n!!python/object/apply:os.system ['true']",
        "[" * 100_000,
        "---\n" + "[" * 5_000,
        "---\na: &a [*a]",
    ],
)
def test_what_is_neither_json_nor_yaml_is_text(cell):
    assert parsed(cell) == cell


def test_aliases_that_multiply_are_text():
    lines = ["---", "a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert isinstance(parsed("\n".join(lines)), str)


def test_one_line_break_at_the_end_belongs_to_the_cell_and_not_to_the_text():
    assert filled("  one\n\ttwo\n\n") == "  one\n\ttwo\n"
