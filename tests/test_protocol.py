"""The protocol scan: what counts as a message, what stays visible, and that the work stays linear."""

import json
import re
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personas_nb.engine.protocol import (
    PROTOCOL_KINDS,
    ProtocolScanner,
    body_schema,
    describe,
    explain,
    parse_body,
    read_objects,
)
from personas_nb.errors import InvalidInput

BODIES = {
    "user_message": {"title": "Ready", "content": "All done."},
    "persona_action": {"target": "payroll"},
    "emit_event": {"type": "invoice_found"},
    "agent_memory": {"title": "Tea", "content": "No sugar."},
    "manual_review": {"title": "Refund?", "description": "900 USD"},
    "execution_flow": {"flows": [{"step": 1, "action": "read"}]},
    "outcome_assessment": {"accomplished": True},
}
MEMORY = '{"agent_memory": {"title": "Tea", "content": "No sugar."}}'
EVENT = '{"emit_event": {"type": "x"}}'


def scan(*pieces, **options):
    scanner = ProtocolScanner(**options)
    messages = [message for piece in pieces for message in scanner.feed(piece)]
    return messages + scanner.finish(), scanner


def kinds(messages):
    return [message.kind for message in messages]


# What a message is


@pytest.mark.parametrize("kind", PROTOCOL_KINDS)
def test_null_for_an_optional_field_means_that_it_was_not_given(kind):
    required = body_schema(kind)["required"]
    least = {name: BODIES[kind][name] for name in required}
    optional = dict.fromkeys(set(body_schema(kind)["properties"]) - set(required) - {"blockers"})
    meant = {name: None for name in optional if name in ("data", "input")}  # any value will do there
    assert parse_body(kind, {**least, **optional}) == parse_body(kind, {**least, **meant})
    with pytest.raises(InvalidInput):
        parse_body(kind, {**least, required[0]: None})


@pytest.mark.parametrize("kind", PROTOCOL_KINDS)
def test_every_kind_is_taken_out_of_prose_with_its_defaults(kind):
    raw = json.dumps({kind: BODIES[kind]})
    [message], scanner = scan(f"Before {raw} after")
    assert (message.kind, message.raw) == (kind, raw)
    assert message.data == parse_body(kind, BODIES[kind])[0]
    assert scanner.text == "Before  after"


def test_white_space_may_stand_wherever_json_allows_it():
    [message], scanner = scan('{ \n\t"agent_memory"\r\n : {\n "title" : "T" , "content" : "C" } \n }')
    assert (message.data["title"], scanner.text) == ("T", "")


def test_a_key_written_with_escapes_is_the_same_key():
    messages, _ = scan(EVENT.replace("emit_event", "emit\\u005fevent"))
    assert kinds(messages) == ["emit_event"]


def test_an_object_whose_first_key_is_another_is_text():
    text = '{"note": 1, "agent_memory": {"title": "T", "content": "C"}}'
    messages, scanner = scan(text)
    assert (messages, scanner.text, scanner.warnings) == ([], text, [])


def test_each_known_key_of_one_object_is_a_message_in_order_and_others_are_named():
    raw = '{"emit_event": {"type": "x"}, "mood": 1, "outcome_assessment": {"accomplished": true}}'
    messages, scanner = scan(raw)
    assert kinds(messages) == ["emit_event", "outcome_assessment"]
    assert messages[0].warnings == ("emit_event: “mood” beside it was ignored",)
    assert scanner.text == ""


def test_what_is_nested_in_a_good_message_is_its_data():
    messages, _ = scan(f'{{"emit_event": {{"type": "x", "data": {MEMORY}}}}}')
    assert kinds(messages) == ["emit_event"]


def test_halves_of_a_surrogate_pair_are_mended_or_replaced():
    [message], _ = scan('{"user_message": "\\ud83d', '\\ude00 \\ud83d"}')
    assert message.data["content"] == "😀 \ufffd"


# What is refused stays visible


@pytest.mark.parametrize(
    "broken",
    [
        '{"user_message": {"title": "T", "content": "C",}}',
        '{"user_message": {"title": "T"}}',
        '{"user_message": {"title": "T\n", "content": "C"}}',
        '{"user_message": 01}',
        '{"user_message": nope}',
        '{"emit_event": {"type": "x", "data": NaN}}',
        '{"emit_event": {"type": "x", "data": 1e999}}',
        '{"user_message": "\\q"}',
        '{"user_message": {"title": "never closed',
        '{"emit_event": {"type": "x", "data": ' + "[" * 101 + "]" * 101 + "}}",
    ],
)
def test_a_malformed_or_invalid_object_stays_text_and_is_a_warning(broken):
    messages, scanner = scan(broken)
    assert (messages, scanner.text, len(scanner.warnings)) == ([], broken, 1)


@pytest.mark.parametrize(
    "broken",
    [
        '{"user_message": {"title": ',
        '{"user_message": {"title": "see ',
        '{"user_message": {"title": "a {',
        '{"user_message": oops ',
        '{"user_message": [',
        '{"user_message" ',
        '{"user_message":[' * 300,
        '{"emit_event": [[[' + EVENT[:-2],
    ],
)
@pytest.mark.parametrize("tail", ["", " and more", "}", '"}'])
def test_a_good_object_inside_or_behind_a_broken_one_is_found(broken, tail):
    messages, scanner = scan(broken + MEMORY + tail)
    assert kinds(messages) == ["agent_memory"]
    assert scanner.text == broken + tail


def test_an_object_refused_for_its_value_keeps_what_is_nested_in_it():
    text = f'{{"emit_event": {{"data": {MEMORY}}}}}'
    messages, scanner = scan(text)
    assert (messages, scanner.text) == ([], text)
    assert scanner.warnings == [
        "A protocol message was refused and stays text: emit_event: “type” is missing."
    ]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_oversized_object_stays_text_and_a_good_one_in_it_is_still_found(size):
    text = f'{{"emit_event": {{"type": "x", "data": ["{"é" * 300}", {MEMORY}]}}}}'
    messages, scanner = scan(*re.findall(f"(?s).{{1,{size}}}", text), max_object_bytes=600)
    assert (kinds(messages), scanner.text) == (["agent_memory"], text.replace(MEMORY, ""))
    assert "is larger than 600 bytes" in scanner.warnings[0]


def test_an_object_of_exactly_the_limit_in_bytes_is_taken():
    raw = '{"user_message": "é"}'
    assert kinds(scan(raw, max_object_bytes=len(raw) + 1)[0]) == ["user_message"]
    assert scan(raw, max_object_bytes=len(raw))[1].text == raw


def test_warnings_are_bounded():
    _, scanner = scan('{"user_message": x} ' * 1000)
    assert len(scanner.warnings) == 101
    assert scanner.warnings[-1].startswith("There were further")


def test_a_quoted_object_stays_text_with_a_warning():
    messages, scanner = scan(f"The mail says {MEMORY}!", quoted=lambda message: True)
    assert (messages, scanner.text) == ([], f"The mail says {MEMORY}!")
    assert "agent_memory repeats the input" in scanner.warnings[0]


# What stays visible around it


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a\n{MEMORY}\nb", "a\nb"),
        (f"a\n{MEMORY} \t\r\nb", "a\nb"),
        (f"{MEMORY}\n{EVENT}\nb", "b"),
        (f"a {MEMORY}\nb", "a \nb"),
        (f"a\n{MEMORY}  b", "a\n  b"),
        (f"a\n  {MEMORY}\n  b", "a\n  \n  b"),
        (f"a\n```json\n{MEMORY}\n```\nb", "a\nb"),
        (f"a\n```json\n{MEMORY}\n\n{EVENT}\n```", "a\n"),
        (f"a\n````JSON\n{MEMORY}\n````\nb".replace("JSON", "jsonl"), "a\nb"),
        (f"a\n```json\n{MEMORY}\nx\n```\n", "a\n```json\nx\n```\n"),
        (f"a\n````json\n{MEMORY}\n```\n````\n", "a\n````json\n```\n````\n"),
        (f"a\n```python\nx\n```\n{MEMORY}\n```\ny\n```\n", "a\n```python\nx\n```\n```\ny\n```\n"),
        (f"a ```json\n{MEMORY}\n```\nb", "a ```json\n```\nb"),
        (f"```json {MEMORY}", "```json "),
    ],
)
def test_an_emptied_line_or_json_fence_goes_and_everything_else_stays(text, left):
    for size in (1, 3, len(text)):
        messages, scanner = scan(*re.findall(f"(?s).{{1,{size}}}", text))
        assert messages
        assert scanner.text == left


@pytest.mark.parametrize("text", ["a\n```json\n\n```\nb", "```json\n```", '```json\n{"a": 1}\n```\n'])
def test_a_fence_that_held_no_message_stays(text):
    for size in (1, 3, len(text)):
        assert scan(*re.findall(f"(?s).{{1,{size}}}", text))[1].text == text


@pytest.mark.parametrize(
    "text", ["plain", "{x", '{ "name', '{"userx', "{}", "{\n  return", '{"a": 1', "`x", "\n```py"]
)
def test_text_that_cannot_become_a_message_is_shown_at_once(text):
    scanner = ProtocolScanner()
    scanner.feed(text)
    assert scanner.take_text() == text


@pytest.mark.parametrize("text", ["{", "{ \n", '{"', '{"user_me', '{"user_message" ', "\n```js", "\n``"])
def test_only_what_may_become_a_message_is_held_back_until_the_end(text):
    scanner = ProtocolScanner()
    scanner.feed("shown" + text)
    assert scanner.take_text().rstrip("\n") == "shown"
    scanner.finish()
    assert scanner.text == "shown" + text


def test_a_broken_object_is_shown_as_soon_as_it_is_broken():
    scanner = ProtocolScanner()
    scanner.feed('{"user_message": {"title": "a\n')
    assert scanner.text == '{"user_message": {"title": "a\n'


def test_taken_text_adds_up_to_the_text():
    scanner = ProtocolScanner()
    taken = []
    for char in f"one {MEMORY} two\n```json\n{EVENT}\n```\nthree {{":
        scanner.feed(char)
        taken.append(scanner.take_text())
    scanner.finish()
    assert "".join(taken) + scanner.take_text() == scanner.text == "one  two\nthree {"


# Any text, cut anywhere

FRAGMENTS = [
    *'{}[],:"\\ \n\t`é😀',
    *('"user_message"', '{"user_message":', '{"emit_event":{"type":', '"data":', "{ ", '"t {', '{"x {'),
    *('{"user_message":"hi"}', MEMORY, EVENT, '{"agent\\u005fmemory":', "\\u00e9", "\\ud83d\\ude00", "\\u0"),
    *("1", "-2.5e3", "01", "tru", "true", "null", "text", "\n```json\n", "\n```\n", '{"a":1}', '{"see":"{"'),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=30).map("".join)


@given(TEXTS, st.lists(st.integers(0, 300), max_size=8), st.sampled_from([30, 262_144]))
@example("x" + '{"user_message": {"t": "a {' + MEMORY[1:], [28], 262_144)
@settings(max_examples=400, deadline=None)
def test_where_the_deltas_cut_changes_nothing(text, cuts, limit):
    whole, scanner = scan(text, max_object_bytes=limit)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for pieces in ([text[a:b] for a, b in pairwise(edges)], list(text)):
        messages, other = scan(*pieces, max_object_bytes=limit)
        assert messages == whole
        assert other.text == scanner.text


def obvious_objects(text, limit):
    """The documented rule, written down without any thought of speed."""
    head = re.compile(r'\{[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:')
    decoder = json.JSONDecoder(parse_constant=lambda name: 1 / 0)
    found, at = [], text.find("{")
    while at >= 0:
        end = at + 1
        try:
            key = head.match(text, at)
            if key and json.loads(key[1]) in PROTOCOL_KINDS:
                stop = decoder.raw_decode(text, at)[1]
                if len(text[at:stop].encode()) <= limit:
                    found.append(text[at:stop])
                    end = stop
        except ValueError:
            pass
        at = text.find("{", end)
    return found


@given(TEXTS, st.sampled_from([30, 60, 262_144]))
@settings(max_examples=400, deadline=None)
def test_the_objects_are_those_of_the_obvious_quadratic_search(text, limit):
    assert read_objects(text, limit) == obvious_objects(text, limit)


@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="{`")), st.sampled_from(PROTOCOL_KINDS))))
@settings(deadline=None)
def test_embedded_objects_come_out_and_the_text_around_them_stays(parts):
    text = "".join(f"{prose}. {json.dumps({kind: BODIES[kind]})}" for prose, kind in parts)
    messages, scanner = scan(text)
    assert kinds(messages) == [kind for _, kind in parts]
    assert scanner.text == "".join(f"{prose}. " for prose, _ in parts)


@given(st.lists(st.text(st.characters(exclude_characters="{"))))
def test_text_without_a_brace_passes_unchanged(pieces):
    messages, scanner = scan(*pieces)
    assert (messages, scanner.text) == ([], "".join(pieces))


# The work is linear

HOSTILE = {
    "braces": lambda n: "{" * n,
    "heads": lambda n: '{"user_message"' * (n // 15),
    "nested heads": lambda n: '{"user_message":' * (n // 16),
    "deep": lambda n: '{"emit_event":' + "[" * n,
    "unclosed": lambda n: '{"user_message": "' + "a" * n,
    "escapes": lambda n: '{"user_message": "' + "\\u00e9" * (n // 6),
    "spaces": lambda n: "{" + " " * n,
    "digits": lambda n: '{"emit_event": ' + "1" * n,
    "brace in string": lambda n: '{"user_message": "{' + " " * n,
    "broken": lambda n: ('{"user_message": {"t": "see ' + MEMORY) * (n // 80),
    "done in open": lambda n: '{"emit_event": [' + (EVENT + ",") * (n // 30),
    "fences": lambda n: "```json\n" * (n // 8),
    "backticks": lambda n: "`" * n,
}


def work(pieces):
    """Lines of the scanner executed, and characters it looked at again or moved, for these pieces."""
    count = Counter()

    def trace(frame, event, _):
        if not frame.f_code.co_filename.endswith("engine/protocol.py"):
            return None
        count["lines"] += 1
        if event == "call" and frame.f_code.co_name in ("feed", "_flush"):
            carry = getattr(frame.f_locals["self"], "_carry", "")
            count["characters"] += len(carry) + len(frame.f_locals.get("held", ""))
        return trace

    scanner = ProtocolScanner(max_object_bytes=4096)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for piece in pieces:
            scanner.feed(piece)
        scanner.finish()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("size", [40, 100_000])
@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_hostile_text_is_at_most_twice_the_work(name, size):
    once, twice = (
        work([text[i : i + size] for i in range(0, len(text), size)])
        for text in (HOSTILE[name](n) for n in (16_000, 32_000))
    )
    assert twice["lines"] <= 2.1 * once["lines"] + 200
    assert twice["characters"] <= 2.3 * once["characters"] + 10_000


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_held_back_is_bounded(name):
    scanner = ProtocolScanner(max_object_bytes=4096)
    text, gone = HOSTILE[name](32_000), 0
    for start in range(0, len(text), 40):
        gone += sum(len(message.raw) for message in scanner.feed(text[start : start + 40]))
        gone += len(scanner.take_text())
        assert start - gone <= 4096
    gone += sum(len(message.raw) for message in scanner.finish())
    assert gone + len(scanner.take_text()) == len(text)


# Bodies


def test_defaults_are_those_that_were_settled():
    defaults = {kind: parse_body(kind, body)[0] for kind, body in BODIES.items()}
    assert defaults["user_message"] == {
        **BODIES["user_message"],
        "content_type": "info",
        "priority": "normal",
    }
    assert defaults["persona_action"] == {"target": "payroll", "action": "run", "input": None}
    assert defaults["emit_event"] == {"type": "invoice_found", "data": {}}
    assert defaults["agent_memory"] == {
        **BODIES["agent_memory"],
        "category": "fact",
        "importance": 5,
        "tags": [],
    }
    assert defaults["manual_review"] == {
        **BODIES["manual_review"],
        "severity": "medium",
        "suggested_actions": [],
    }
    assert defaults["outcome_assessment"] == {"accomplished": True, "summary": ""}


@pytest.mark.parametrize(
    ("given_value", "taken", "warns"), [(0, 1, 1), (11, 10, 1), (7.4, 7, 1), (10, 10, 0), (1, 1, 0)]
)
def test_importance_is_clamped_to_1_to_10_with_a_warning(given_value, taken, warns):
    data, warnings = parse_body("agent_memory", {**BODIES["agent_memory"], "importance": given_value})
    assert (data["importance"], len(warnings)) == (taken, warns)


def test_a_clamped_importance_is_a_warning_of_its_message():
    [message], scanner = scan(MEMORY.replace('"title"', '"importance": 50, "title"'))
    assert message.warnings == ("agent_memory: importance 50 was taken as 10",)
    assert scanner.warnings == []


@pytest.mark.parametrize(
    ("word", "taken", "warns"),
    [("learning", "learned", 0), ("Preference", "preference", 0), ("odd", "fact", 1)],
)
def test_categories_have_an_alias_and_a_fallback(word, taken, warns):
    data, warnings = parse_body("agent_memory", {**BODIES["agent_memory"], "category": word})
    assert (data["category"], len(warnings)) == (taken, warns)


def test_a_plain_string_is_a_user_message_with_its_first_words_as_title():
    data, _ = parse_body("user_message", "The quarterly report is ready. " * 4)
    assert data["title"] == "The quarterly report is ready. The quarterly report is…"
    assert data["content"].startswith("The quarterly report")


def test_keys_that_a_body_does_not_know_are_kept():
    data, _ = parse_body("outcome_assessment", {"accomplished": False, "blockers": ["no access"]})
    assert data["blockers"] == ["no access"]


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        ("user_message", {"content": "C"}, "user_message: “title” is missing."),
        ("emit_event", "x", "emit_event needs an object with its fields."),
        (
            "outcome_assessment",
            {"accomplished": "yes"},
            "outcome_assessment: “accomplished” should be a valid boolean.",
        ),
        ("persona_action", {"target": " "}, "persona_action: “target” is empty."),
        ("user_mesage", {}, "There is no protocol message “user_mesage”."),
    ],
)
def test_a_refused_body_says_what_is_wrong_and_what_to_do(kind, value, sentence):
    with pytest.raises(InvalidInput) as caught:
        parse_body(kind, value)
    assert caught.value.message == sentence
    assert caught.value.hint


@pytest.mark.parametrize("kind", PROTOCOL_KINDS)
def test_parsing_a_parsed_body_changes_nothing(kind):
    once, _ = parse_body(kind, BODIES[kind])
    assert parse_body(kind, once) == (once, ())


@pytest.mark.parametrize("kind", PROTOCOL_KINDS)
def test_every_kind_is_offered_as_a_tool_with_a_schema_of_its_own(kind):
    schema = body_schema(kind)
    assert set(schema["required"]) == set(BODIES[kind])
    assert set(schema["required"]) <= set(schema["properties"])
    schema["properties"].clear()
    assert body_schema(kind)["properties"]
    assert "\n" not in describe(kind)


def test_the_explanation_is_short_and_each_of_its_examples_is_a_message():
    assert explain().startswith("## Communication Protocols\n")
    assert len(explain()) <= 3500
    messages, scanner = scan(explain())
    assert kinds(messages) == list(PROTOCOL_KINDS)
    assert (scanner.warnings, [m.warnings for m in messages if m.warnings]) == ([], [])


def test_an_event_type_that_is_no_name_stays_text_with_a_warning():
    scanner = ProtocolScanner()
    assert scanner.feed(json.dumps({"emit_event": {"type": "x" * 201}}) + "\n") == []
    assert scanner.finish() == []
    assert "emit_event" in scanner.text
    assert scanner.warnings
