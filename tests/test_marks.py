"""Marks, figures and tables: what a status, money, tokens, time and a row look like."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from html import unescape
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.entities.design import SessionState
from personas_nb.entities.execution import Execution, Status
from personas_nb.views import marks
from personas_nb.views.marks import Code, Mark, Number, Words

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\x1b]0;title\x07\u202ered\u2066"


@pytest.mark.parametrize(
    ("status", "glyph", "colour"),
    [
        ("completed", "✓", "#007A58"),
        ("failed", "✕", "#B34700"),
        ("running", "▶", "#0072B2"),
        ("incomplete", "▲", "#946000"),
        ("waiting", "?", "#9C4F80"),
        ("cancelled", "○", "#6B7075"),
    ],
)
def test_a_status_has_its_glyph_word_and_colour(status: str, glyph: str, colour: str) -> None:
    sign = marks.mark(status)
    assert (sign.glyph, sign.colour) == (glyph, colour)
    assert sign.word.isprintable()
    assert sign.word
    assert glyph in marks.cell_html(sign)
    assert colour in marks.cell_html(sign)
    assert sign.word in marks.cell_html(sign)
    assert marks.mark_text(status) == f"{glyph} {sign.word}"


def test_every_status_of_a_run_and_of_a_design_has_a_mark() -> None:
    assert {*get_args(Status), *get_args(SessionState)} <= set(marks.STATUSES)


def test_only_the_glyph_is_coloured_so_that_the_word_reads_in_any_theme() -> None:
    assert marks.cell_html(marks.mark("completed")) == '<b style="color:#007A58">✓</b> done'


def test_an_unknown_status_keeps_its_word_and_is_escaped() -> None:
    assert marks.mark_text("resting") == "○ resting"
    assert "<script" not in marks.cell_html(marks.mark(HOSTILE))


def test_an_unknown_price_is_never_nothing() -> None:
    assert marks.money(None) == "unknown"
    assert marks.money(float("nan")) == "unknown"
    assert marks.money(0.0) == "$0"


def test_a_rehearsal_says_that_it_cost_nothing_and_that_its_tokens_are_estimated() -> None:
    assert marks.money(0.0, rehearsal=True) == "$0 (rehearsal)"
    assert marks.money(None, rehearsal=True) == "$0 (rehearsal)"
    assert marks.tokens(1234, rehearsal=True) == "1,234 (estimated)"


def test_a_price_too_small_for_four_digits_does_not_look_like_nothing() -> None:
    assert marks.money(0.00001) == "under $0.0001"


@pytest.mark.parametrize(
    ("duration_ms", "said"),
    [
        (0, "0 ms"),
        (99, "99 ms"),
        (1234, "1.2 s"),
        (59_949, "59.9 s"),
        (59_950, "1 min 0 s"),
        (3_720_000, "1 h 2 min"),
    ],
)
def test_a_duration_is_said_in_the_units_that_a_person_would_use(duration_ms: int, said: str) -> None:
    assert marks.duration(duration_ms) == said


def test_a_time_is_shown_in_the_zone_that_was_asked_for() -> None:
    when = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
    assert marks.moment(when, "Europe/Berlin") == "2026-11-22 00:30"
    assert marks.moment(when, "UTC", weekday=True) == "Sat 2026-11-21 23:30"
    assert marks.moment(None) == "–"


def test_a_rehearsed_run_says_so_beside_its_status() -> None:
    assert "REHEARSAL" in marks.sign_of(Execution(persona_id="p", status="completed", rehearsal=True)).word
    assert "REHEARSAL" not in marks.sign_of(Execution(persona_id="p", status="completed")).word


def test_terminal_sequences_and_turned_text_are_taken_out() -> None:
    assert marks.clean("a\x1b[31mb\x1b[2K\x1b[?25l\x07c\x00\u202ed\r\ne\tf") == "abcd\ne\tf"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;curl evil | sh\x07b", "a]0;curl evil | shb"),
        ("a\x1b]hidden to the end\nb", "a]hidden to the end\nb"),
        ("\x1bP1;hidden\x1b\\b", "P1;hidden\\b"),
        ("\x1b_hidden\x9cb", "_hiddenb"),
        ("\x1bcurl", "curl"),
        ("\x1b[curl", "[curl"),
        ("\x1b\x1b[31mred", "red"),
    ],
)
def test_the_text_in_a_terminal_sequence_is_shown(text: str, shown: str) -> None:
    assert marks.clean(text) == shown


@given(st.text())
def test_cleaned_text_can_be_sent_and_takes_nothing_over(text: str) -> None:
    cleaned = marks.clean(text)
    cleaned.encode("utf-8")
    assert not [char for char in cleaned if unicodedata.category(char) == "Cc" and char not in "\n\t"]
    assert marks.clean(cleaned) == cleaned


@given(st.text())
def test_escaped_text_is_text_again_in_a_browser(text: str) -> None:
    escaped = marks.escape(text)
    assert not re.search("[<>\"']", escaped)
    assert unescape(escaped) == marks.clean(text)


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_line_of_at_most_that_length(text: str, limit: int) -> None:
    line = marks.one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


def test_one_line_of_a_megabyte_reads_only_its_beginning() -> None:
    assert marks.one_line("word " * 250_000, 20) == "word word word word…"


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_a_text_table_has_one_line_for_each_row(rows: list[tuple[str, str]]) -> None:
    assert len(marks.table_text(["a", "b"], rows).split("\n")) == len(rows) + 1


def test_a_text_table_is_aligned_also_with_wide_letters() -> None:
    lines = marks.table_text((), [["名前", "x"], ["name", "y"]]).split("\n")
    assert lines == ["名前  x", "name  y"]


def test_numbers_stand_to_the_right_in_both_forms() -> None:
    rows = [[Number("1")], [Number("1,000")]]
    assert marks.table_text(["runs"], rows).split("\n") == [" runs", "    1", "1,000"]
    assert marks.table_html(["runs"], rows).count("text-align:right") == 3


def test_every_kind_of_cell_is_escaped() -> None:
    cells = [HOSTILE, Mark("○", HOSTILE, "#6B7075"), Code(HOSTILE), Words(HOSTILE), Number(HOSTILE)]
    shown = marks.table_html([HOSTILE] * 5, [cells])
    assert "<script" not in shown
    assert "<img" not in shown
    assert "\x1b" not in shown


def test_code_in_a_sentence_is_shown_as_code_and_nothing_else_becomes_a_tag() -> None:
    shown = marks.cell_html(Words("type `%persona apply` <b>now</b>"))
    assert shown == "type <code>%persona apply</code> &lt;b&gt;now&lt;/b&gt;"
