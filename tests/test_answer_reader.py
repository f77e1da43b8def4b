"""What is read out of a model's answer while it passes; where it is cut makes no difference."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.engine.answer_reader import AnswerReader
from personas_nb.entities.run_event import UsageReported

STARTED = {"input_tokens": 40, "output_tokens": 1, "cache_read_input_tokens": 7}


def event(kind: str, *, end: str = "\n", **fields: Any) -> bytes:
    return f"event: {kind}{end}data: {json.dumps({'type': kind, **fields})}{end}{end}".encode()


def start(**usage: Any) -> bytes:
    return event("message_start", message={"model": "m-1", "usage": usage or STARTED})


def text(words: str, kind: str = "text") -> bytes:
    return event("content_block_delta", index=0, delta={"type": f"{kind}_delta", kind: words})


def stop(reason: str = "end_turn", **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage) + event("message_stop")


def read(*pieces: bytes, is_stream: bool = True) -> AnswerReader:
    reader = AnswerReader(is_stream=is_stream)
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return reader


def state(reader: AnswerReader) -> tuple[Any, ...]:
    problem = reader.problem("anthropic")
    told = (problem.kind, problem.message) if problem else None
    return reader.usage, reader.stop_reason, reader.is_begun, reader.is_complete, reader.has_failed, told


parts = st.one_of(
    st.just(start()),
    st.text(max_size=20).map(text),
    st.just(event("ping", end="\r\n")),
    st.just(b": a comment\n\n"),
    st.just(b"data: {oh\n\n"),
    st.just(b"data: [DONE]\n\n"),
    st.just(event("error", error={"type": "overloaded_error", "message": "Busy"})),
    st.integers(0, 99).map(lambda n: stop("tool_use", output_tokens=n)),
    st.binary(max_size=12),
)


@given(st.lists(parts, max_size=8).map(b"".join), st.data(), st.booleans())
def test_every_cut_gives_the_same(whole: bytes, data: st.DataObject, is_stream: bool):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert state(read(*pieces, is_stream=is_stream)) == state(read(whole, is_stream=is_stream))
    single = [whole[n : n + 1] for n in range(len(whole))]
    assert state(read(*single, is_stream=is_stream)) == state(read(whole, is_stream=is_stream))


@given(st.binary(max_size=200), st.booleans())
def test_anything_can_be_read(data: bytes, is_stream: bool):
    reader = read(data, is_stream=is_stream)
    assert reader.usage.num_turns == 1
    assert isinstance(reader.problem("anthropic"), Exception)


def test_a_whole_stream_is_counted_by_its_last_word():
    reader = read(start(), text("Hello"), stop(output_tokens=9))
    assert reader.usage == UsageReported(
        input_tokens=40, output_tokens=9, cache_read_tokens=7, num_turns=1, model="m-1"
    )
    assert (reader.stop_reason, reader.problem("anthropic")) == ("end_turn", None)


def test_counts_that_come_at_the_end_only_are_taken():
    reader = read(start(input_tokens=0), stop(input_tokens=33, output_tokens=4))
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (33, 4)


def test_counts_as_text_or_with_a_point_are_numbers_too():
    reader = read(start(input_tokens="33"), stop(output_tokens=4.0))
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (33, 4)


@pytest.mark.parametrize("count", [None, -1, 1.5, "many", True, 10**30, [1]])
def test_counts_that_cannot_be_right_are_none(count: Any):
    reader = read(start(input_tokens=count, cache_read_input_tokens=count), stop(output_tokens=4))
    assert reader.usage == UsageReported(output_tokens=4, num_turns=1, model="m-1")


def test_a_count_that_is_repeated_as_nothing_stays():
    reader = read(start(), stop(input_tokens=0, output_tokens=4, cache_read_input_tokens=None))
    assert (reader.usage.input_tokens, reader.usage.cache_read_tokens) == (40, 7)


def test_tokens_that_are_cached_for_an_hour_are_told_apart():
    usage = {
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_1h_input_tokens": 20, "ephemeral_5m_input_tokens": 10},
    }
    reader = read(start(**usage), stop(output_tokens=1))
    assert (reader.usage.cache_write_tokens, reader.cache_write_1h_tokens) == (30, 20)


@pytest.mark.parametrize("kind", ["text", "thinking", "partial_json"])
def test_the_output_of_a_cut_answer_is_estimated_from_what_came(kind: str):
    reader = read(start(), text("ü" * 30, kind))
    assert reader.usage.output_tokens == 20
    assert reader.problem("anthropic").kind == "connection"  # type: ignore[union-attr]


def test_an_answer_without_a_last_line_end_is_whole():
    assert read(start(), stop(output_tokens=3).rstrip()).problem("anthropic") is None


def test_an_answer_that_is_not_streamed_is_read_whole():
    message = {"type": "message", "model": "m-1", "content": [], "stop_reason": "refusal", "usage": STARTED}
    reader = read(json.dumps(message).encode(), is_stream=False)
    assert (reader.usage.input_tokens, reader.stop_reason) == (40, "refusal")
    assert reader.problem("anthropic") is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rate_limit_error", "rate_limit"),
        ("authentication_error", "credential"),
        ("overloaded_error", "overloaded"),
        ("something_new", "overloaded"),
    ],
)
def test_an_error_inside_the_stream_has_its_kind(kind: str, expected: str):
    reader = read(start(), event("error", error={"type": kind, "message": "No"}))
    assert reader.has_failed
    assert reader.problem("anthropic").kind == expected  # type: ignore[union-attr]


def test_what_the_server_said_is_redacted_before_it_is_shortened():
    said = "x" * 190 + " secret-value"
    reader = read(event("error", error={"type": "invalid_request_error", "message": said}))
    problem = reader.problem("anthropic", lambda text: text.replace("secret-value", "[key]"))
    assert "secret" not in str(problem)


def test_a_line_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("personas_nb.engine.answer_reader.ANSWER_LIMIT_BYTES", 1000)
    reader = read(start(), b"data: " + b"x" * 2000, text("more"))
    assert len(reader._rest) == 0
    assert (reader.usage.input_tokens, reader.has_failed) == (40, True)
