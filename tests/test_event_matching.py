"""Who hears an event: types, source filters, and an index that answers as a plain loop does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.triggers.matching import Matcher, fits, names, type_key

letters = st.text("aAb-_.", max_size=8)
patterns = st.text("aAb-_.*", max_size=10)
filters = st.none() | patterns
subscriptions = st.lists(st.tuples(letters, filters), max_size=40)


def naively(source_filter: str | None, source: str) -> bool:
    """The same question answered by a regular expression, with every ``*`` as “anything”."""
    if not source_filter:
        return True
    pattern = ".*".join(re.escape(piece) for piece in source_filter.split("*"))
    return re.fullmatch(pattern, source, re.IGNORECASE | re.DOTALL) is not None


@given(subscriptions, letters, letters)
def test_the_index_finds_what_a_loop_over_all_finds(
    subscribed: list[tuple[str, str | None]], event_type: str, source: str
) -> None:
    matcher = Matcher((*one, number) for number, one in enumerate(subscribed))
    expected = [
        number
        for number, (listened, source_filter) in enumerate(subscribed)
        if type_key(listened) == type_key(event_type) and naively(source_filter, source)
    ]
    assert matcher.match(event_type, source) == expected


@given(st.lists(patterns, max_size=60), letters)
def test_it_does_so_with_many_filters_of_one_type(many: list[str], source: str) -> None:
    matcher = Matcher(("t", pattern, number) for number, pattern in enumerate(many))
    assert matcher.match("T", source) == [n for n, pattern in enumerate(many) if naively(pattern, source)]


@given(patterns, letters)
def test_one_filter_fits_as_a_regular_expression_says(pattern: str, source: str) -> None:
    assert fits(pattern, source) == naively(pattern, source)


@given(st.lists(letters, min_size=2, max_size=5), st.lists(letters, min_size=5, max_size=5))
def test_a_source_made_of_a_filters_pieces_fits_it(pieces: list[str], between: list[str]) -> None:
    source = "".join(piece + gap for piece, gap in zip(pieces, between, strict=False))
    assert fits("*".join([*pieces, ""]), source)


@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_may_be_a_filter_and_a_source(source_filter: str, source: str) -> None:
    found = Matcher([("t", source_filter, 1)]).match("t", source)
    assert bool(found) == fits(source_filter, source)
    assert fits(source, source) or "*" in source


@pytest.mark.parametrize("written", ["invoice_found", "Invoice-Found", "INVOICE.FOUND", "invoice.found"])
def test_types_are_the_same_in_any_case_and_with_any_joint(written: str) -> None:
    assert Matcher([("invoice-found", None, "b")]).match(written, "user") == ["b"]


def test_a_type_takes_no_wildcard() -> None:
    matcher = Matcher([("invoice*", None, "b")])
    assert matcher.match("invoice_found", "user") == []
    assert matcher.match("invoice*", "user") == ["b"]


@pytest.mark.parametrize("letter", "?[]!^$+(){}|\\")
def test_every_other_character_of_a_filter_stands_for_itself(letter: str) -> None:
    assert fits(f"a{letter}*", f"a{letter}b")
    assert not fits(f"a{letter}*", "axb")


def test_pieces_may_not_overlap() -> None:
    assert not fits("aba*ba", "aba")
    assert not fits("*ab*ab*", "xabx")
    assert fits("ab*ab", "abab")


def test_only_a_filter_without_an_asterisk_names_a_source() -> None:
    assert names("Watcher", "watcher")
    assert not names("watch*", "watcher")
    assert not names(None, "watcher")
    assert not names("", "")
    assert not names("watcher", "watcher-2")


def test_a_filter_on_which_a_regular_expression_never_ends_is_compared_at_once() -> None:
    matcher = Matcher([("t", "*a" * 40 + "*b*", 1)])
    assert matcher.match("t", "a" * 200) == []


def test_items_come_in_the_order_in_which_they_were_added() -> None:
    matcher = Matcher([("t", "*b", 1), ("t", None, 2), ("t", "ab", 3), ("t", "a*", 4), ("t", "*a*", 5)])
    assert matcher.match("t", "ab") == [1, 2, 3, 4, 5]
