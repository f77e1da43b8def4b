"""A secret's value is nowhere in what comes out, and nothing else is changed."""

import base64
import itertools
import json
import re
import traceback
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from personas_nb.errors import InvalidInput
from personas_nb.vault.redaction import SECRETS_MIN_LENGTH, Redactor

TOKEN = 'p/ä55+w0rd & "quoted"~'
PLAIN = "AKIA1234567890abcdef"


def spelled(text: str, characters: str, form: str) -> str:
    """With these characters as JSON escapes; of those that are escapes already the digits in the form's case."""
    text = "".join("\\u" + form % ord(each) if each in characters else each for each in text)
    if "X" in form:
        return re.sub(
            r"(?<!\\)((?:\\\\)*\\u)([0-9a-fA-F]{4})", lambda found: found[1] + found[2].upper(), text
        )
    return text


# The encodings are written down here once more, by other means than in the code.
ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "json": lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
    "json-ascii": lambda v: json.dumps(v)[1:-1],
    "json-ascii-capitals": lambda v: re.sub(
        r"(?<!\\)((?:\\\\)*\\u)([0-9a-f]{4})", lambda m: m[1] + m[2].upper(), json.dumps(v)[1:-1]
    ),
    # Go's encoding/json; System.Text.Json of .NET, which writes capitals
    "json-go": lambda v: spelled(json.dumps(v, ensure_ascii=False)[1:-1], "<>&\u2028\u2029", "%04x"),
    "json-net": lambda v: spelled(json.dumps(v)[1:-1].replace('\\"', "\\u0022"), "<>&'+`\x7f", "%04X"),
    "json-gson": lambda v: spelled(json.dumps(v, ensure_ascii=False)[1:-1], "<>&='", "%04x"),
    "percent": lambda v: quote(v, safe=""),
    "percent-lower": lambda v: re.sub("%[0-9A-F]{2}", lambda m: m[0].lower(), quote(v, safe="")),
    "percent-path": quote,
    "percent-form": quote_plus,
    "percent-all": lambda v: "".join(f"%{b:02X}" for b in v.encode()),
    "percent-all-lower": lambda v: "".join(f"%{b:02x}" for b in v.encode()),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40).filter(
    lambda value: len(value.strip()) >= SECRETS_MIN_LENGTH
)
# Few letters: overlaps, repetitions and near misses are the rule.
tight_values = st.text("ab", min_size=8, max_size=14)
tight_texts = st.text("abc", max_size=80)


def streamed(redactor: Redactor, deltas: list[str]) -> str:
    stream = redactor.stream()
    return "".join([stream.feed(delta) for delta in deltas]) + stream.finish()


def cut(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def test_the_value_is_replaced_by_its_name() -> None:
    redactor = Redactor({"AWS_KEY": PLAIN})
    assert redactor.redact(f"key={PLAIN};") == "key=[secret AWS_KEY];"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", [TOKEN, PLAIN, "päßwörter 😀 €", "back\\slash\\u00e4\n\ttab"])
def test_each_encoding_is_replaced_wherever_deltas_cut_it(value: str, encoding: str) -> None:
    encoded = ENCODINGS[encoding](value)
    text = f"before {encoded} after"
    redactor = Redactor({"X": value})
    assert redactor.redact(text) == "before [secret X] after"
    for first in range(len(text) + 1):
        for second in (first, first + 1, first + 5):
            assert streamed(redactor, [text[:first], text[first:second], text[second:]]) == (
                "before [secret X] after"
            )
    assert streamed(redactor, list(text)) == "before [secret X] after"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "u", "us", "usr", "user:"])
@pytest.mark.parametrize("after", ["", ":", ":p", "\u00ff\u00ff"])
def test_base64_is_replaced_at_each_offset(encode: Callable[[bytes], bytes], before: str, after: str) -> None:
    value = "s3cr\u00fft>>>???~~~"
    encoded = encode((before + value + after).encode()).decode()
    # The characters that hold bits of the value alone: those that it shares with a neighbour stay.
    first = -(-8 * len(before) // 6)
    last = 8 * len((before + value).encode()) // 6
    expected = f"{encoded[:first]}[secret X]{encoded[last:]}"
    redactor = Redactor({"X": value})
    assert redactor.redact(encoded) == expected
    for place in range(len(encoded)):
        assert streamed(redactor, [encoded[:place], encoded[place:]]) == expected


@given(values, st.sampled_from(sorted(ENCODINGS)), texts, texts, st.lists(st.integers(0, 500), max_size=6))
def test_no_encoding_of_a_secret_comes_out_however_it_is_cut(
    value: str, encoding: str, before: str, after: str, cuts: list[int]
) -> None:
    assume(value not in "[secret X]")
    text = before + ENCODINGS[encoding](value) + after
    redactor = Redactor({"X": value})
    whole = redactor.redact(text)
    assert streamed(redactor, cut(text, cuts)) == whole
    for encode in ENCODINGS.values():
        assert encode(value) not in whole


@given(
    values,
    st.binary(max_size=5),
    st.binary(max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 500), max_size=4),
)
def test_no_base64_of_a_secret_comes_out_however_it_is_cut(
    value: str, before: bytes, after: bytes, url: bool, cuts: list[int]
) -> None:
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    text = "data:" + encode(before + value.encode() + after).decode() + "."
    redactor = Redactor({"X": value})
    whole = redactor.redact(text)
    assert streamed(redactor, cut(text, cuts)) == whole
    assert "[secret X]" in whole
    shown = whole.removeprefix("data:").removesuffix(".").replace("[secret X]", "")
    # Of the value's own characters at most a mixed one at each end, and the padding, are left.
    assert len(shown) <= len(text) - 6 - (8 * len(value.encode()) // 6 - 1)


@given(values, texts, st.lists(st.integers(0, 500), max_size=6))
def test_text_without_secrets_is_the_same_whole_and_streamed(value: str, text: str, cuts: list[int]) -> None:
    redactor = Redactor({"X": value})
    assume("[secret" not in redactor.redact(text))
    assert redactor.redact(text) == text
    assert streamed(redactor, cut(text, cuts)) == text


@given(st.lists(tight_values, min_size=1, max_size=4), tight_texts, st.lists(st.integers(0, 99), max_size=9))
@example(["aaaaaaaa"], "a" * 40, list(range(40)))
@example(["aaaaaaaa", "aaaaaaaab"], "aaaaaaaaa" * 3 + "b", list(range(40)))
@example(["abababab", "babababaa"], "abababababaa", [8])
def test_of_overlapping_secrets_no_part_stays_and_nothing_else_goes(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    redactor = Redactor({f"S{number}": value for number, value in enumerate(secrets)})
    hidden = [False] * len(text)
    for value in secrets:
        for start in range(len(text) - len(value) + 1):
            if text.startswith(value, start):
                hidden[start : start + len(value)] = [True] * len(value)
    expected = "".join(letter for letter, gone in zip(text, hidden, strict=True) if not gone)
    whole = redactor.redact(text)
    assert re.sub(r"\[secret S\d\]", "", whole) == expected
    assert streamed(redactor, cut(text, cuts)) == whole


def test_of_two_secrets_that_begin_together_the_longer_is_named() -> None:
    redactor = Redactor({"SHORT": "abcdefgh", "LONG": "abcdefghijkl"})
    assert redactor.redact("abcdefghijkl abcdefghij") == "[secret LONG] [secret SHORT]ij"
    assert streamed(redactor, list("abcdefghijkl abcdefghij")) == "[secret LONG] [secret SHORT]ij"


def test_only_what_may_still_become_a_secret_is_held_back() -> None:
    stream = Redactor({"X": "hunter2-hunter3"}).stream()
    assert stream.feed("a h") == "a "
    assert stream.feed("at, hunter2-h") == "hat, "
    assert stream.feed("unter2-hunter") == "hunter2-"
    assert stream.finish() == "hunter2-hunter"


def test_a_long_run_of_overlaps_is_not_held_back() -> None:
    stream = Redactor({"X": "a" * 8}).stream()
    assert stream.feed("a" * 8) == "[secret X]"
    assert stream.feed("a" * 1000) == ""
    assert len(stream._held) < 8
    assert stream.feed("b") == "b"


def test_a_piece_of_a_secret_at_the_end_stays_unless_the_text_was_cut_off() -> None:
    redactor = Redactor({"X": PLAIN})
    text = f"key {PLAIN[:-1]}"
    assert redactor.redact(text) == text
    assert redactor.redact(text, cut_off=True) == "key [secret X]"
    for cut_off, expected in ((False, text), (True, "key [secret X]")):
        stream = redactor.stream()
        assert stream.feed(text) + stream.finish(cut_off=cut_off) == expected


def test_a_value_is_also_found_without_the_line_end_it_was_copied_with() -> None:
    assert Redactor({"X": PLAIN + "\n"}).redact(f"{PLAIN}.") == "[secret X]."


def test_a_label_never_shows_a_value() -> None:
    redactor = Redactor({"password": "password", "other": "12345678"})
    assert redactor.redact("password 12345678") == "[***] [secret other]"


def test_half_a_surrogate_pair_in_the_text_does_no_harm() -> None:
    redactor = Redactor({"X": PLAIN})
    assert redactor.redact(f"\ud83d{PLAIN}\ude00") == "\ud83d[secret X]\ude00"
    assert streamed(redactor, list(f"\ud83d{PLAIN}\ude00")) == "\ud83d[secret X]\ude00"


@pytest.mark.parametrize("value", ["", "1234567", "   abc    ", "1234567\n"])
def test_a_secret_that_is_too_short_is_refused_and_not_echoed(value: str) -> None:
    with pytest.raises(InvalidInput, match="The secret PIN is shorter than 8 characters") as caught:
        Redactor({"PIN": value})
    assert not value.strip() or value.strip() not in str(caught.value)


def test_a_secret_of_broken_unicode_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not valid Unicode"):
        Redactor({"X": "12345678\ud800"})


def test_without_secrets_everything_is_passed_on_untouched() -> None:
    redactor = Redactor({})
    value = {"a": ["b", 1]}
    text = "anything"
    assert redactor.redact(text) is text
    assert redactor.redact_value(value) is value
    assert redactor.stream().feed(text) is text
    assert redactor.stream().finish() == ""


def test_values_are_redacted_in_texts_keys_and_numbers_at_any_depth() -> None:
    redactor = Redactor({"X": PLAIN, "PIN": "12345678"})
    value = {PLAIN: [f"<{PLAIN}>", {"n": 12345678, "ok": True, "none": None}], "pair": (1, PLAIN)}
    before = json.dumps(value)
    assert redactor.redact_value(value) == {
        "[secret X]": ["<[secret X]>", {"n": "[secret PIN]", "ok": True, "none": None}],
        "pair": [1, "[secret X]"],
    }
    assert json.dumps(value) == before


def test_keys_that_become_equal_are_all_kept() -> None:
    redactor = Redactor({"X": PLAIN})
    encoded = ENCODINGS["percent-all"](PLAIN)
    value = {PLAIN: 1, encoded: 2, "[secret X]": 3}
    assert redactor.redact_value(value) == {"[secret X] (2)": 1, "[secret X] (3)": 2, "[secret X]": 3}


def test_deep_and_circular_values_come_to_an_end() -> None:
    redactor = Redactor({"X": PLAIN})
    deep: list[object] = [PLAIN]
    for _ in range(100_000):
        deep = [deep]
    inner = redactor.redact_value(deep)
    while isinstance(inner[0], list):
        inner = inner[0]
    assert inner == ["[secret X]"]
    circle: dict[str, object] = {"secret": PLAIN}
    circle["self"] = circle
    copy = redactor.redact_value(circle)
    assert copy["secret"] == "[secret X]"
    assert copy["self"] is copy


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_a_value_without_secrets_is_equal_to_its_copy(value: object) -> None:
    assert Redactor({"X": PLAIN, "PIN": "555 0123 4567"}).redact_value(value) == value


def test_a_redactor_shows_no_secret_when_printed() -> None:
    assert PLAIN not in repr(Redactor({"X": PLAIN}))


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────


class Stubborn(Exception):
    """Says a secret, whatever its arguments are."""

    def __str__(self) -> str:
        return "correct horse"


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_an_error_and_its_causes_are_told_without_secrets() -> None:
    cause = ValueError("the key is correct horse", {"body": ["correct horse"]})
    cause.add_note("correct horse")
    error = raised(ExceptionGroup("several", [KeyError("correct horse")]))
    error.__cause__ = raised(cause)
    cause.__context__ = raised(Stubborn())
    Redactor({"TOKEN": "correct horse"}).clean(error)
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(cause)
    assert "correct horse" not in told
    assert "the key is [secret TOKEN]" in told
    assert error.__cause__ is cause


def test_an_error_that_goes_round_in_its_causes_is_cleaned_once() -> None:
    first, second = ValueError("correct horse"), ValueError("correct horse")
    first.__cause__, second.__cause__ = second, first
    Redactor({"TOKEN": "correct horse"}).clean(first)
    assert (str(first), str(second)) == ("[secret TOKEN]", "[secret TOKEN]")


# What Python and our own answers make of a value


@given(st.text(min_size=8, max_size=40).filter(lambda text: len(text.strip()) >= 8))
def test_a_repr_a_line_a_cell_and_json_within_json_are_recognised(secret: str):
    assume(not any("\ud800" <= character <= "\udfff" for character in secret))
    redactor = Redactor({"KEY": secret})
    # a repr in other quotes than its own may need fewer escapes
    shown = [
        str(KeyError(secret)),
        " ".join(f"It broke: {secret} .".split()),
        f'''"{secret.replace('"', '""')}"''',
    ]
    nested = [
        json.dumps(json.dumps({"a": secret}, ensure_ascii=inner), ensure_ascii=outer)
        for inner in (True, False)
        for outer in (True, False)
    ]
    for text in [*shown, *nested]:
        assert "KEY" in redactor.redact(text) or "[***]" in redactor.redact(text), text
