"""What differs between two texts, word by word."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personas_nb.personas import word_diff
from personas_nb.personas.word_diff import Hunk, hunks, line_counts, marked, shortened

PIECES = [
    "a",
    "b",
    "Größe",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    ".",
    "“",
    "发票",
    "検",
    "\u2028",
    "🙂",
    "1.5",
    "x y z",
    "\n\n",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=60)


@given(old=TEXTS, new=TEXTS)
@example(old="a\n", new="a")
@example(old="", new="\n")
@settings(deadline=None)
def test_both_texts_can_be_put_together_from_the_hunks(old: str, new: str) -> None:
    found = hunks(old, new)
    assert "".join(text for op, text in found if op != "insert") == old
    assert "".join(text for op, text in found if op != "delete") == new
    assert all(text for _op, text in found)
    assert all(one[0] != other[0] for one, other in pairwise(found))


@given(text=TEXTS)
@settings(deadline=None)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert hunks(text, text) == ((("equal", text),) if text else ())


@given(old=TEXTS, new=TEXTS)
@settings(deadline=None)
def test_the_marked_lines_name_every_word_that_came_or_went(old: str, new: str) -> None:
    said = "\n".join(marked(hunks(old, new)))
    for op, text in hunks(old, new):
        if op != "equal":
            assert all(word in said for word in text.split())


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("You watch mail.", "You watch all mail.", ["~ You watch {+all +}mail."]),
        ("Read it.\nSend it.", "Read it.", ["  Read it.", "- Send it."]),
        ("Read it.", "Read it.\nSend it.\nRest.", ["  Read it.", "+ Send it.", "+ Rest."]),
        ("a b\nc", "a\nc", ["~ a[- b-]", "  c"]),
        ("a\nb", "a b", ["~ a[-⏎-]", "~ {+ +}b"]),
        (
            "You watch invoices and mail daily.",
            "You read invoices or mail weekly.",
            ["~ You [-watch-]{+read+} invoices [-and-]{+or+} mail [-daily-]{+weekly+}."],
        ),
        ("请检查这张发票", "请马上检查那张发票", ["~ 请{+马上+}检查[-这-]{+那+}张发票"]),
    ],
)
def test_a_change_is_marked_where_it_is(old: str, new: str, lines: list[str]) -> None:
    assert marked(hunks(old, new)) == lines


def test_a_step_that_gets_another_number_stays_a_line() -> None:
    old = "1. Read the mail\n2. Write the report\n3. Send it"
    new = "1. Read the mail\n2. Check it twice\n3. Write the report\n4. Send it"
    assert marked(hunks(old, new)) == [
        "  1. Read the mail",
        "+ 2. Check it twice",
        "~ [-2-]{+3+}. Write the report",
        "~ [-3-]{+4+}. Send it",
    ]


def test_a_paragraph_that_was_wrapped_anew_is_compared_across_its_lines() -> None:
    sentence = "the report lists every open invoice its customer and the day on which it was due"
    words = sentence.split()
    old = "\n".join(" ".join(words[n : n + 5]) for n in range(0, len(words), 5))
    new = "\n".join(" ".join(["now", *words][n : n + 5]) for n in range(0, len(words) + 1, 5))
    changed = [text for op, text in hunks(old, new) if op != "equal" and text.strip()]
    assert "now" in changed[0]
    assert len("".join(changed)) < len(old) / 2


def test_what_two_rewritten_lines_happen_to_share_is_no_anchor() -> None:
    old = "The quick brown fox jumps over the lazy dog."
    new = "Every morning a report is sent to the boss."
    assert hunks(old, new) == (("delete", old), ("insert", new))


@pytest.mark.parametrize(
    ("old", "new", "counts"), [("a\nb", "a\nc\nd", (2, 1)), ("", "a", (1, 0)), ("a\n\nb", "a\nb", (0, 1))]
)
def test_lines_that_came_and_went_are_counted(old: str, new: str, counts: tuple[int, int]) -> None:
    assert line_counts(old, new) == counts


def test_of_what_stayed_only_the_neighbourhood_is_shown() -> None:
    old = "\n".join(f"line {number}" for number in range(100))
    found = list(shortened(hunks(old, old.replace("line 50", "line fifty"))))
    assert [text for op, text in found if op == "skip"] == ["48 lines", "47 lines"]
    assert sum(text.count("line ") for op, text in found if op == "equal") == 5


def test_a_long_line_is_shortened_on_both_sides_of_a_change() -> None:
    old = "word " * 2_000
    found = list(shortened(hunks(old, "word " * 900 + "here " + "word " * 1_100)))
    assert [op for op, _ in found] == ["skip", "equal", "insert", "equal", "skip"]
    assert sum(len(text) for op, text in found if op != "skip") < 600


@given(
    found=st.lists(
        st.tuples(st.sampled_from(["equal", "delete", "insert"]), st.text(min_size=1, max_size=30)),
        max_size=6,
    )
)
def test_shortening_keeps_every_change(found: list[Hunk]) -> None:
    kept = [piece for piece in shortened(found) if piece[0] in ("delete", "insert")]
    assert kept == [hunk for hunk in found if hunk[0] != "equal"]


def test_a_comparison_that_would_take_too_long_keeps_what_both_begin_and_end_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(word_diff, "PAIRS_MAX", 10)
    old, new = "one two a b c d three four", "one two e f g h three four"
    assert hunks(old, new) == (
        ("equal", "one two "),
        ("delete", "a b c d"),
        ("insert", "e f g h"),
        ("equal", " three four"),
    )


@pytest.mark.parametrize(
    "words", [["go"], ["a", "b"], list("{}[]:,"), [chr(0xE000 + n) for n in range(3_000)]]
)
def test_texts_that_repeat_are_compared_and_put_together_again(words: list[str]) -> None:
    old = " ".join(words[n * n % len(words)] for n in range(4_000))
    new = " ".join(words[n * n * n % len(words)] for n in range(4_000))
    found = hunks(old, new)
    assert "".join(text for op, text in found if op != "insert") == old
    assert "".join(text for op, text in found if op != "delete") == new


def test_more_different_words_than_there_are_characters_before_the_surrogates_are_told_apart() -> None:
    old = " ".join(f"w{number}" for number in range(60_000))
    assert [hunk for hunk in hunks(old, old.replace("w59000", "other")) if hunk[0] != "equal"] == [
        ("delete", "w59000"),
        ("insert", "other"),
    ]
