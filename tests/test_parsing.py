"""What a typed line means: verbs, options, raw free text, values."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from personas_nb.verbs import table
from personas_nb.verbs.parsing import parse_argv, parse_line
from personas_nb.verbs.usage import WrongUsage
from personas_nb.verbs.values import duration_ms, fields_of

ONE_LINE = (
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)
    .map(str.strip)
    .filter(bool)
)


def quoted(text: str) -> bool:
    return text[0] in '"“„'


def has_option(text: str) -> bool:
    return any(word.startswith("-") for word in text.split())


def refusal_of(line: str) -> WrongUsage | None:
    try:
        parse_line(line).values()
    except WrongUsage as error:
        return error
    return None


# Free text


@given(ONE_LINE)
def test_free_text_is_the_raw_rest_of_the_line(text):
    assume(not has_option(text) and not quoted(text))
    assert parse_line(f"refine {text}").raw == {"text": text}


@given(ONE_LINE)
def test_free_text_in_double_quotes_is_what_stands_in_them(text):
    assert parse_line(f'refine "{text}"').raw["text"] == text
    assert parse_line(f"refine “{text}”").raw["text"] == text


@given(ONE_LINE)
def test_options_may_stand_before_and_after_a_quoted_text(text):
    expected = {"text": text, "session": "1a2b", "raw": True}
    assert parse_line(f'refine --session 1a2b --raw "{text}"').raw == expected
    assert parse_line(f'refine "{text}" --session 1a2b --raw').raw == expected
    assert parse_line(f'refine --raw "{text}" --session 1a2b').raw == expected


@given(ONE_LINE)
def test_after_two_dashes_everything_is_text(text):
    assert parse_line(f"refine -- {text}").raw == {"text": text}


@given(ONE_LINE)
def test_any_line_is_understood_or_refused_in_words(text):
    for verb in ("design", "refine", "run", "set", "reviews approve", ""):
        refusal = refusal_of(f"{verb} {text}")
        assert refusal is None or (refusal.message and refusal.hint)


def test_a_long_text_full_of_dashes_and_quotes_is_read_at_once():
    text = 'say -a "b" --c ' * 20_000
    assert parse_line(f"refine {text}").raw["text"] == text.strip()
    assert parse_line(f'refine "{text}" --raw').raw == {"text": text.strip(), "raw": True}


def test_an_apostrophe_is_a_letter():
    assert parse_line("refine use my boss's mail").raw["text"] == "use my boss's mail"


def test_options_at_the_end_of_unquoted_text_are_options():
    typed = parse_line("design read the mail --provider rehearsal")
    assert typed.raw == {"instruction": "read the mail", "provider": "rehearsal"}


def test_a_strange_option_inside_a_text_is_text():
    assert parse_line("refine call it with --force please").raw["text"] == "call it with --force please"


def test_a_strange_option_after_a_quoted_text_is_a_slip():
    with pytest.raises(WrongUsage, match="Did you mean “--provider”"):
        parse_line('design "read the mail" --provder rehearsal')


def test_an_option_with_text_after_it_in_the_sentence_is_text():
    assert (
        parse_line("refine the flag --raw means nothing here").raw["text"]
        == "the flag --raw means nothing here"
    )


# Names before free text


@pytest.mark.parametrize(
    ("line", "name", "instruction"),
    [
        ('design "Sort my mail"', None, "Sort my mail"),
        ('design mail-boy "Sort my mail"', "mail-boy", "Sort my mail"),
        ('design "Mail boy" "Sort my mail"', "Mail boy", "Sort my mail"),
        ("design mail-boy “Sort my mail”", "mail-boy", "Sort my mail"),
        ('design --provider rehearsal mail-boy "Sort my mail"', "mail-boy", "Sort my mail"),
        ("design Sort my mail", None, "Sort my mail"),
        ('design "He said "hi" to me"', None, 'He said "hi" to me'),
    ],
)
def test_a_name_may_stand_before_a_quoted_instruction(line, name, instruction):
    typed = parse_line(line)
    assert typed.raw.get("name") == name
    assert typed.raw["instruction"] == instruction


def test_the_line_above_a_cell_is_the_name():
    typed = parse_line("design Mail boy --provider rehearsal", has_cell=True)
    assert typed.raw == {"name": "Mail boy", "provider": "rehearsal"}


def test_a_name_with_spaces_needs_no_quotes_where_nothing_else_follows():
    assert parse_line("run Mail boy --timeout 5m").values()["name"] == "Mail boy"
    assert parse_line("rollback Mail boy 3").values() == {"name": "Mail boy", "version": "3"}
    assert parse_line('show "Mail boy"').values()["name"] == "Mail boy"


# Verbs


def test_the_singular_of_a_noun_is_the_noun():
    assert parse_line("review approve 1a2b fine").verb.words == "reviews approve"
    assert parse_line("memory").verb.words == "memories list"
    assert parse_line("run 1a2b").verb.words == "run"


def test_a_name_may_stand_before_the_second_word():
    assert parse_line("memories mail-boy pin 1a2b").raw == {"id": "1a2b"}
    assert parse_line("tools mail-boy assign file_read").raw == {"name": "mail-boy", "tool": ["file_read"]}


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("desing x", "“design”"),
        ("runs shw 1a2b", "“show”"),
        ("approve latest", "“reviews approve”"),
        ("run x --max-turn 3", "“--max-turns”"),
        ("rollback mail-boy", "rollback NAME VERSION"),
        ("run mail-boy --provider anthropc", "“anthropic”"),
        ("run mail-boy --max-turns many", "--max-turns 10"),
        ("run mail-boy --max-turns 0", "--max-turns 10"),
        ("run mail-boy --max-budget-usd nan", "0.50"),
        ("run mail-boy --timeout soon", "90s"),
        ("run mail-boy --timeout", "run NAME"),
        ("run mail-boy --quiet=yes", "run NAME"),
        ("run mail-boy -o a -o b", "run NAME"),
        ("undo now", "undo"),
    ],
)
def test_a_slip_says_what_would_be_right(line, hint):
    with pytest.raises(WrongUsage) as caught:
        parse_line(line).values()
    assert hint in caught.value.hint


def test_help_asks_for_nothing_else():
    for verb in table.VERBS:
        assert parse_line(f"{verb.words} --help").wants_help


def test_no_two_verbs_are_typed_alike():
    words = [verb.words for verb in table.VERBS]
    assert len(set(words)) == len(words)
    assert not {noun for noun in table.nouns() if table.canonical(noun) != noun}


def test_every_verb_has_a_handler_and_says_what_each_argument_means():
    from personas_nb.verbs.call import handler_of

    for verb in table.VERBS:
        assert callable(handler_of(verb))
        assert verb.summary.endswith(".")
        assert verb.group
        assert all(argument.help.endswith(".") for argument in verb.arguments)


# Values


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("90s", 90_000), ("5m", 300_000), ("2h", 7_200_000), ("1.5m", 90_000), ("30", 30_000)],
)
def test_durations(text, milliseconds):
    assert duration_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["", "0", "-5s", "5 days", "1e9s", "٣s", "9" * 400])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(WrongUsage):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("max_turns=5", {"max_turns": 5}),
        ("enabled=true max_budget_usd=0.5", {"enabled": True, "max_budget_usd": 0.5}),
        (
            "description=Reads my boss's mail max_turns=5",
            {"description": "Reads my boss's mail", "max_turns": 5},
        ),
        ('identity="You are a = b." enabled=false', {"identity": "You are a = b.", "enabled": False}),
        ("identity='one two'", {"identity": "one two"}),
        ("identity=“one two”", {"identity": "one two"}),
        (
            "timeout_ms=None max_turns=none max_budget_usd=default",
            dict.fromkeys(["timeout_ms", "max_turns", "max_budget_usd"]),
        ),
        ("timeout_ms=5m", {"timeout_ms": 300_000}),
        (
            'notification_channels=[{"type": "mail"}] name=X',
            {"notification_channels": [{"type": "mail"}], "name": "X"},
        ),
        ("model_profile.model=claude", {"model_profile.model": "claude"}),
        ('instructions="a\\nb"', {"instructions": "a\nb"}),
    ],
)
def test_fields_are_json_where_they_parse_else_text(text, fields):
    assert fields_of(text) == fields


def test_what_a_variable_holds_cannot_name_another_field():
    assert fields_of("identity={text}", lambda text: text.replace("{text}", "x max_turns=1")) == {
        "identity": "x max_turns=1"
    }


@pytest.mark.parametrize("text", ["nonsense", "=5", "a=1 a=2"])
def test_what_is_no_field_is_refused(text):
    with pytest.raises(WrongUsage):
        fields_of(text)


# Words of a shell


def test_words_of_a_shell_are_taken_as_they_were_parted():
    typed = parse_argv(["design", "mail boy", "Sort my mail, please", "--provider", "rehearsal"])
    assert typed.raw == {"name": "mail boy", "instruction": "Sort my mail, please", "provider": "rehearsal"}
    assert parse_argv(["design", "Sort", "my", "mail"]).raw == {"instruction": "Sort my mail"}
    assert parse_argv(["set", "mail-boy", "identity=You sort.", "max_turns=5"]).values()["fields"] == {
        "identity": "You sort.",
        "max_turns": 5,
    }


def test_a_lone_dash_reads_the_standard_input():
    typed = parse_argv(["run", "mail-boy", "--file", "a.txt", "-"])
    assert typed.reads_input
    assert typed.raw == {"name": "mail-boy", "file": ["a.txt"]}
    assert parse_argv(["design", "mail-boy", "-"]).raw == {"name": "mail-boy"}


def test_a_cell_stands_in_for_the_free_text():
    typed = parse_line("refine", has_cell=True)
    assert typed.values(has_cell=True)["text"] is None
    with pytest.raises(WrongUsage, match="needs a text"):
        typed.values()


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("show mail-boy;", "name", "mail-boy"),
        ("run mail-boy ; ", "name", "mail-boy"),
        ('refine "at 8 instead";', "text", "at 8 instead"),
    ],
)
def test_a_semicolon_at_the_end_means_show_nothing(line, key, value):
    typed = parse_line(line)
    assert (typed.raw[key], typed.is_silent) == (value, True)


def test_a_semicolon_at_the_end_of_text_without_quotes_is_text():
    typed = parse_line("refine read a;")
    assert (typed.raw["text"], typed.is_silent) == ("read a;", False)


def test_a_quoted_word_that_is_no_verb_is_said_to_be_none():
    with pytest.raises(WrongUsage, match="no verb “list”"):
        parse_line('"list"')
