"""A run while it streams: what is shown, what it costs to show it, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import (
    ProtocolHandled,
    StatusChanged,
    TextDelta,
    ToolCallFinished,
    ToolCallStarted,
    UsageReported,
    WarningRaised,
)
from personas_nb.entities.tool import ToolCallStep
from personas_nb.views.display import LiveDisplay, Throttle, outputs
from personas_nb.views.stream import TAIL_BYTES, RunStream
from personas_nb.views.view import View


def a_stream(*, rehearsal: bool = False) -> RunStream:
    return RunStream("Mail boy", rehearsal=rehearsal, provider="anthropic", model="claude-sonnet-4-5")


def test_a_running_card_shows_text_tools_usage_and_time() -> None:
    stream = a_stream()
    stream.add(TextDelta(text="Reading "))
    stream.add(TextDelta(text="the mail."))
    stream.add(ToolCallStarted(tool="mail_read", call_id="1", input={"folder": "INBOX"}))
    stream.add(UsageReported(input_tokens=1000, output_tokens=234, cost_usd=0.0123))
    view = stream.view(elapsed_ms=1234)
    for said in (
        "Mail boy",
        "▶ running",
        "Reading the mail.",
        "▶ mail_read",
        "INBOX",
        "1,234",
        "$0.0123",
        "1.2 s",
    ):
        assert said in view.text
    assert "Reading the mail." in view.html


def test_a_tool_that_answered_takes_the_place_of_its_call() -> None:
    stream = a_stream()
    stream.add(ToolCallStarted(tool="mail_read", call_id="1"))
    stream.add(ToolCallStarted(tool="http_request", call_id="2"))
    stream.add(
        ToolCallFinished(step=ToolCallStep(tool="mail_read", call_id="1", output="3 mails", duration_ms=5))
    )
    text = stream.view().text
    assert "✓ mail_read: done" in text
    assert "3 mails" in text
    assert "▶ mail_read" not in text
    assert "▶ http_request" in text
    assert "2 calls" in text


def test_calls_without_an_id_are_matched_by_their_name() -> None:
    stream = a_stream()
    stream.add(ToolCallStarted(tool="mail_read", call_id=""))
    stream.add(ToolCallFinished(step=ToolCallStep(tool="mail_read", error="The mailbox is locked.")))
    assert "✕ mail_read: failed" in stream.view().text
    assert "1 call" in stream.view().text


def test_warnings_messages_and_a_bad_end_are_shown() -> None:
    stream = a_stream()
    stream.add(WarningRaised(text="A message was malformed."))
    stream.add(ProtocolHandled(kind="user_message", data={"title": "Hello"}))
    stream.add(StatusChanged(status="failed", error="The server hung up."))
    text = stream.view().text
    for said in ("A message was malformed.", "user message", "Hello", "✕ failed", "The server hung up."):
        assert said in text


def test_every_view_of_a_rehearsal_says_so_while_it_runs_and_after() -> None:
    stream = a_stream(rehearsal=True)
    stream.add(UsageReported(input_tokens=10, cost_usd=0))
    run = Execution(persona_id="p", persona_name="Mail boy", status="completed", rehearsal=True)
    for view in (stream.view(), stream.final(run)):
        assert "REHEARSAL" in view.text
        assert "REHEARSAL" in view.html
        assert "$0 (rehearsal)" in view.text
        assert "(estimated)" in view.text


@given(st.lists(st.text(max_size=400), max_size=120))
def test_the_tail_is_the_end_of_the_text_and_at_most_8_kb(pieces: list[str]) -> None:
    stream = a_stream()
    for piece in [*pieces, "é" * 5000, *pieces]:
        stream.add(TextDelta(text=piece))
    tail = stream._shown_tail()
    whole = "".join([*pieces, "é" * 5000, *pieces])
    assert stream.text == whole
    assert whole.endswith(tail)
    assert TAIL_BYTES - 4 < len(tail.encode()) <= TAIL_BYTES


def test_what_is_before_the_tail_is_counted() -> None:
    stream = a_stream()
    stream.add(TextDelta(text="x" * 10_000))
    assert f"… {10_000 - TAIL_BYTES:,} characters before this" in stream.view().text


def test_20_000_deltas_keep_the_tail_buffer_and_the_view_small() -> None:
    stream = a_stream()
    longest_buffer = 0
    for _ in range(20_000):
        stream.add(TextDelta(text="forty characters of text, more or less. "))
        longest_buffer = max(longest_buffer, stream._tail_chars)
    assert longest_buffer <= 2 * TAIL_BYTES + 40
    assert len(stream.view().html) < 30_000
    assert len(stream.text) == 800_000


def test_the_final_card_has_the_whole_text_even_if_the_row_has_none() -> None:
    stream = a_stream()
    stream.add(TextDelta(text="first words " + "x " * 9000 + "last words"))
    run = Execution(persona_id="p", persona_name="Mail boy", status="cancelled")
    view = stream.final(run)
    assert "first words" in view.text
    assert "last words" in view.text
    stored = stream.final(run.changed(output_data="what the row has"))
    assert "what the row has" in stored.text
    assert "first words" not in stored.text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Screen:
    """A display handle that remembers when it showed what."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.shown: list[tuple[float, str]] = []

    def update(self, obj: Any) -> None:
        self.shown.append((self.clock.now, obj.text))

    def make(self, view: View) -> Screen:
        self.update(view)
        return self


def a_view(text: str) -> Callable[[], View]:
    return lambda: View(text, text)


@given(st.lists(st.floats(0, 0.4, allow_nan=False), min_size=1, max_size=150))
def test_a_live_display_changes_at_most_8_times_in_any_second_and_ends_with_the_last_state(
    gaps: list[float],
) -> None:
    clock = Clock()
    screen = Screen(clock)
    live = LiveDisplay(screen.make, clock)
    for number, gap in enumerate(gaps):
        clock.now += gap
        live.offer(a_view(f"state {number}"))
    live.finish()
    times = [at for at, _ in screen.shown]
    assert screen.shown[-1][1] == f"state {len(gaps) - 1}"
    assert all(sum(start <= at < start + 1 for at in times) <= 8 for start in times)


def test_a_state_that_had_to_wait_is_shown_when_its_time_comes() -> None:
    clock = Clock()
    screen = Screen(clock)
    live = LiveDisplay(screen.make, clock)
    assert live.offer(a_view("first"))
    assert not live.offer(a_view("second"))
    wait = live.wait_seconds()
    assert wait is not None
    assert not live.tick()
    clock.now += wait
    assert live.tick()
    assert screen.shown[-1][1] == "second"
    assert live.wait_seconds() is None


def test_an_unchanged_view_is_not_sent_again() -> None:
    clock = Clock()
    screen = Screen(clock)
    live = LiveDisplay(screen.make, clock)
    live.offer(a_view("same"))
    clock.now += 1
    assert not live.offer(a_view("same"))
    assert not live.finish(View("same", "same"))
    assert len(screen.shown) == 1


def test_a_view_that_is_not_shown_is_not_even_made() -> None:
    clock = Clock()
    live = LiveDisplay(Screen(clock).make, clock)
    live.offer(a_view("first"))

    def never() -> View:
        raise AssertionError("made in vain")

    assert not live.offer(never)


def test_another_thread_may_not_display() -> None:
    clock = Clock()
    live = LiveDisplay(Screen(clock).make, clock)
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            live.offer(a_view("from elsewhere"))
        except AssertionError as error:
            caught.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_a_throttle_says_how_long_to_wait() -> None:
    throttle = Throttle(max_per_second=8)
    assert throttle.wait_seconds(5.0) == 0
    assert throttle.admits(5.0)
    assert throttle.wait_seconds(5.0) == pytest.approx(0.125)
    assert not throttle.admits(5.1)
    assert throttle.admits(5.125)


def test_pictures_and_graphs_are_outputs_of_their_own_with_words_beside_them() -> None:
    view = View(
        "a card",
        "<b>a card</b>",
        png=b"\x89PNG",
        markdown="```mermaid\n```",
        alt="in words",
        also=(View("b", "b"),),
    )
    card, picture, graph, other = [data for data, _ in outputs(view)]
    assert card == {"text/plain": "a card", "text/html": "<b>a card</b>"}
    assert picture == {"image/png": b"\x89PNG", "text/plain": "in words"}
    assert graph == {"text/markdown": "```mermaid\n```", "text/plain": "in words"}
    assert other["text/plain"] == "b"
