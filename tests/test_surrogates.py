"""Halves of surrogate pairs in texts."""

from __future__ import annotations

import pytest

from personas_nb.engine.surrogates import StreamMender, mended


def streamed(*pieces: str) -> str:
    stream = StreamMender()
    return "".join(map(stream.feed, pieces)) + stream.finish()


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (("a\ud83d", "\ude00b"), "a😀b"),
        (("a\ud83d", "", "\ude00"), "a😀"),
        (("a\ud83d", "b"), "a\ufffdb"),
        (("\ud83d", "\ud83d", "\ude00"), "\ufffd😀"),
        (("\ude00", "\ud83d"), "\ufffd\ufffd"),
        (("ä\ud83d\ude00", "ü"), "ä😀ü"),
    ],
    ids=ascii,
)
def test_halves_that_follow_each_other_are_joined_and_others_replaced(pieces: tuple[str, ...], whole: str):
    assert streamed(*pieces) == whole


def test_a_text_without_halves_is_not_held_back():
    stream, piece = StreamMender(), "Grüße 😀"
    assert stream.feed(piece) is piece


def test_a_value_is_mended_in_all_of_its_texts():
    assert mended({"a\ud83d": ["\ud83d\ude00", 7, {"b": "\ude00"}]}) == {
        "a\ufffd": ["😀", 7, {"b": "\ufffd"}]
    }
