"""What a failure is: by its kind, else by its text, read word by word."""

from __future__ import annotations

import re
import string
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.engine.diagnosis import Category, classify, diagnose
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona

PERSONA = Persona(name="Watcher")
KINDS = {
    "rate_limit": "RateLimit",
    "overloaded": "RateLimit",
    "session_limit": "SessionLimit",
    "timeout": "Timeout",
    "cli_not_found": "CliNotFound",
    "credential": "CredentialError",
    "vault_error": "CredentialError",
    "key_unavailable": "CredentialError",
    **dict.fromkeys(
        ["budget", "turns", "tokens", "not_found", "rejected", "bad_answer", "connection", "store_error"],
        "Unknown",
    ),
}


@pytest.mark.parametrize(("kind", "category"), KINDS.items())
def test_a_typed_kind_decides_whatever_the_text_says(kind: str, category: str):
    assert (
        classify(kind, "HTTP 401 Unauthorized, rate limit, timed out, claude: command not found") == category
    )


@pytest.mark.parametrize("kind", [None, "", "unknown", "cli"])
@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("API Error: 429 {“type”: “error”}", "RateLimit"),
        ("HTTP/1.1 429 Too Many Requests", "RateLimit"),
        ("status=529", "RateLimit"),
        ("(429)", "RateLimit"),
        ("You are being rate-limited.", "RateLimit"),
        ('{"type": "rate_limit_error"}', "RateLimit"),
        ('{"type": "overloaded_error"}', "RateLimit"),
        ("Rate limit exceeded", "RateLimit"),
        ("too many requests", "RateLimit"),
        ("You've hit your session limit · resets 3pm (HTTP 429)", "SessionLimit"),
        ("Claude AI usage limit reached|1760000000", "SessionLimit"),
        ("5-hour limit reached", "SessionLimit"),
        ("The request timed out.", "Timeout"),
        ("connect ETIMEDOUT 10.0.0.1", "Timeout"),
        ("subprocess.TimeoutExpired", "Timeout"),
        ("gateway timeout", "Timeout"),
        ("sh: 1: claude: not found", "CliNotFound"),
        ("zsh: command not found: claude", "CliNotFound"),
        ("Claude Code not found at: /opt/x", "CliNotFound"),
        ("spawn /usr/bin/claude ENOENT", "CliNotFound"),
        ("[Errno 2] No such file or directory: '/opt/bin/claude'", "CliNotFound"),
        ("'claude' is not recognized as an internal or external command", "CliNotFound"),
        ("The Claude CLI could not be found.", "CliNotFound"),
        ("Error 401", "CredentialError"),
        ("401 Unauthorized", "CredentialError"),
        ("status: 403, forbidden", "CredentialError"),
        ("Could not decrypt the token", "CredentialError"),
        ("Invalid API key · Please run /login", "CredentialError"),
        ("invalid x-api-key", "CredentialError"),
        ("OAuth authentication failed", "CredentialError"),
    ],
)
def test_where_the_kind_says_nothing_the_text_decides(kind: str | None, text: str, category: str):
    assert classify(kind, text) == category


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4010 rows",
        "401 rows were read",
        "It has read 429 messages.",
        "line 401: no such column",
        "row #403",
        "id=401",
        "$429",
        "429.50 in total",
        "1,401",
        "401% more",
        "claude-429x",
        "a notable exception",
        "The file report.csv was not found.",
        "File not found: /home/claude/notes.txt",
        "ENOENT: no such file or directory, open 'notes.txt'",
        "No such file or directory: 'claude.md'",
        "The model claude-sonnet-9 was not found",
        "claude-sonnet-9 not found",
        "Set it with --timeout or timeout_ms.",
        "The article timeouts_and_you was read",
        "api_key_count is 3",
        "a moderate limitation",
        "a session limited to members",
    ],
)
def test_what_only_looks_alike_is_unknown(text: str):
    assert classify(None, text) == "Unknown"


@given(st.none() | st.text(max_size=20), st.text(max_size=3000))
def test_anything_has_a_category(kind: str | None, text: str):
    assert classify(kind, text) in get_args(Category)


@given(
    st.sampled_from(["401", "403", "429", "529"]),
    st.text(string.ascii_letters + string.digits, max_size=6),
    st.text(string.ascii_letters + string.digits, max_size=6),
)
def test_a_number_inside_a_word_never_matches(number: str, before: str, after: str):
    if before or after:
        assert classify(None, f"It saw {before}{number}{after} today") == "Unknown"


@pytest.mark.parametrize(
    "piece", ["claude ", "not found ", "spawn ", "claude 'is could ", "401 ", "/", "ENOENT: "]
)
def test_a_long_text_is_read_quickly(piece: str):
    assert classify(None, piece * 100_000) in get_args(Category)


@pytest.mark.parametrize(
    "kind", [*KINDS, "turns", "cli", "unknown", "not_retried", "invalid_config", "new_kind", None]
)
def test_every_kind_has_a_title_that_stays_and_a_step(kind: str | None):
    said = [
        diagnose(Execution(persona_id="p", error="It broke.", error_kind=kind), PERSONA, timeout_ms=1000)
        for _ in range(2)
    ]
    assert said[0].title == said[1].title  # whatever run it was
    assert re.search(r"`%persona [a-z]+", said[0].remedy)
    assert not re.search(r"[{}]", said[0].title + said[0].remedy)


def test_the_text_of_an_unknown_kind_chooses_the_words():
    run = Execution(persona_id="p", error="API Error: 401", error_kind="unknown", provider="anthropic")
    found = diagnose(run, PERSONA, timeout_ms=1000)
    assert (found.category, found.title) == (
        "CredentialError",
        "The provider's key is missing or was refused.",
    )
    assert "ANTHROPIC_API_KEY" in found.remedy


def test_what_nobody_knows_is_called_by_its_own_error():
    run = Execution(persona_id="p", error="It\nbroke. " + "x" * 500, error_kind="unknown")
    title = diagnose(run, PERSONA, timeout_ms=1000).title
    assert title.startswith("It broke. xxx")
    assert len(title) <= 200
