"""What a stranger's file may never do: bring keys, give permissions, start anything, reach a server with our key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn
from support.studios import KEY, studio_at

from personas_nb import Studio
from personas_nb.design.formats.persona_json import FORMAT
from personas_nb.design.formats.strangers import REMOVED, cleaned, is_literal, sounds_secret, without_secrets
from personas_nb.views.imports import import_card

TOKENS = {
    "an API key": "-".join(["sk", "ant", "api03", "0123456789abcdefghijklmnop"]),
    "a GitHub token": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "a Slack token": "-".join(["xoxb", "123456789012", "1234567890123", "AbCdEfGhIjKlMnOpQrStUvWx"]),
    "an AWS key": "AKIA" + "IOSFODNN7QRSTUVW",
    "a Google key": "AIza" + "SyA0123456789abcdefghijklmnopqrstuvw",
    "a payment key": "_".join(["sk", "live", "0123456789abcdefghijkl"]),
    "a signed token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "a Telegram token": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
}


def ours(**fields: Any) -> dict[str, Any]:
    return {"format": FORMAT, "version": 1, "name": "Stranger", "system_prompt": "You work.", **fields}


@pytest.fixture
def studio(home: Any) -> Iterator[Studio]:
    with studio_at(home) as opened:
        yield opened


# ── literal secrets ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", TOKENS)
def test_a_key_of_a_known_service_is_found_wherever_it_stands(words: str) -> None:
    token = TOKENS[words]
    text, found = without_secrets(f"Use {token}, and go on.")
    assert (text, found) == (f"Use {REMOVED}, and go on.", (words,))


@pytest.mark.parametrize("where", ["system_prompt", "description", "name"])
@pytest.mark.parametrize("words", TOKENS)
def test_a_literal_key_is_dropped_named_and_never_echoed(studio: Studio, where: str, words: str) -> None:
    token = TOKENS[words]
    report = studio.importers.json(ours(**{where: f"Call it with {token} please."}))
    persona = report.apply()
    everything = (
        report.draft.model_dump_json()
        + repr(report.entries)
        + import_card(report).html
        + persona.model_dump_json()
    )
    assert token not in everything
    assert token[8:] not in everything
    assert where in [entry.source for entry in report.of("dropped")]


@pytest.mark.parametrize(
    "field",
    [
        {"auth_token": "hunter2-and-more"},
        {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="},
        {"headers": [{"name": "X-Api-Key", "value": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}]},
        {"url": "https://ann:Tr0ub4dor@db.example.com/x"},
        {"clientSecret": "f00dbabe"},
        {"text": "api_key: 9f8e7d6c5b4a39281706"},
    ],
)
def test_what_stands_under_a_secret_name_is_dropped(field: dict[str, Any]) -> None:
    clean, entries = cleaned({"node": field})
    literals = ("hunter2", "dXNlcjpwYXNz", "0f1e2d3c", "Tr0ub4dor", "f00dbabe", "9f8e7d6c")
    assert not any(literal in json.dumps(clean) for literal in literals)
    assert [entry.outcome for entry in entries] == ["dropped"]
    assert entries[0].source.startswith("node.")


@pytest.mark.parametrize(
    "text",
    [
        "Set OPENAI_API_KEY first; the key is a secret.",
        "Auth: `Authorization: Bearer {GITHUB_PAT}`",
        "token: {{ $json.token }} and password: your-password-here",
        "The primary key: customer_id_number",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "https://github.com/pgvector/pgvector/blob/main/README.md",
        "secret_header: X-Hub-Signature-256",
    ],
)
def test_ordinary_words_and_placeholders_stay(text: str) -> None:
    assert without_secrets(text) == (text, ())


def test_names_and_values_are_told_apart() -> None:
    assert [name for name in ("apiKey", "password", "access_token", "pin") if not sounds_secret(name)] == []
    assert [
        name
        for name in ("key", "sort_key", "tokens_used", "secret_header", "passenger")
        if sounds_secret(name)
    ] == []
    assert [
        value for value in ("", "={{ $env.X }}", "<token>", "your-key", "none", 7, None) if is_literal(value)
    ] == []


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_looking_for_secrets_twice_finds_no_more(text: str) -> None:
    once, _ = without_secrets(text)
    assert without_secrets(once) == (once, ())


# ── permissions, triggers, servers ──────────────────────────────────────────────────────────────────────────


def test_no_file_gives_a_persona_more_than_its_assigned_tools(studio: Studio) -> None:
    report = studio.importers.json(ours(permissions="bypass", enabled=False))
    assert report.apply().permissions == "assigned"
    assert "permissions" in [entry.source for entry in report.of("dropped")]


def test_an_import_into_a_persona_that_may_do_anything_takes_that_away(studio: Studio) -> None:
    studio.personas.create(name="Stranger", system_prompt="Mine.", permissions="bypass")
    persona = studio.importers.json(ours()).apply("Stranger")
    assert persona.permissions == "assigned"
    assert len(studio.personas.list()) == 1


def test_an_import_never_takes_over_a_persona_of_the_same_name_by_itself(studio: Studio) -> None:
    studio.personas.create(name="Stranger", system_prompt="Mine.")
    persona = studio.importers.json(ours()).apply()
    assert (persona.name, studio.personas.get("stranger").system_prompt) == ("Stranger 2", "Mine.")


def test_triggers_and_subscriptions_are_off_until_a_person_enables_them(studio: Studio) -> None:
    report = studio.importers.json(
        ours(
            triggers=[{"trigger_type": "schedule", "config": {"cron": "* * * * *", "enabled": True}}],
            event_subscriptions=[{"event_type": "execution_failed"}],
        )
    )
    persona = report.apply()
    assert [(each.enabled, each.origin) for each in studio.triggers.list(persona)] == [(False, "import")]
    assert [each.enabled for each in studio.triggers.subscriptions(persona)] == [False]
    assert "what starts it" in [entry.source for entry in report.of("needs_human")]


def test_a_trigger_keeps_no_setting_that_its_type_does_not_have(studio: Studio) -> None:
    config = {"cron": "0 9 * * *", "consent": True, "permissions": "bypass", "secret": "s3cr3t-webhook-key"}
    report = studio.importers.json(ours(triggers=[{"trigger_type": "schedule", "config": config}]))
    assert report.draft.suggested_triggers[0].config == {"cron": "0 9 * * *"}
    assert len([entry for entry in report.of("dropped") if "no such setting" in entry.reason]) == 3


@pytest.mark.parametrize(
    "trigger",
    [
        {"trigger_type": "schedule", "config": {"cron": "={{ $json.cron }}"}},
        {"trigger_type": "schedule", "config": {"cron": "0 0 31 2 *"}},
        {"trigger_type": "schedule", "config": {"cron": "0 9 * * *", "timezone": "Moon/Base"}},
        {"trigger_type": "schedule", "config": {}},
        {"trigger_type": "polling", "config": {"interval_seconds": 0}},
        {"trigger_type": "polling", "config": {"interval_seconds": "soon"}},
    ],
)
def test_a_trigger_that_would_never_fire_is_a_persons_to_decide_and_blocks_nothing(
    studio: Studio, trigger: dict[str, Any]
) -> None:
    report = studio.importers.json(ours(triggers=[trigger]))
    assert report.draft.suggested_triggers == ()
    assert report.of("needs_human")
    assert report.apply().name == "Stranger"


def test_a_tool_that_is_not_here_is_named_and_blocks_nothing(studio: Studio) -> None:
    report = studio.importers.json(ours(tools=["file_read", "load_sales"]))
    persona = report.apply()
    assert [tool.name for tool in studio.tools.assigned(persona)] == ["file_read"]
    assert "tool load_sales" in [entry.source for entry in report.of("needs_human")]


def test_a_server_of_a_file_is_shown_and_never_started(studio: Studio) -> None:
    servers = [{"name": "shell", "command": ["bash", "-c", "touch /tmp/owned"]}]
    report = studio.importers.json(ours(servers=servers))
    persona = report.apply()
    (entry,) = [entry for entry in report.of("needs_human") if entry.source == "MCP server shell"]
    assert "touch /tmp/owned" in entry.reason
    assert studio.tools.servers(persona) == []


def test_memories_of_a_file_are_not_believed(studio: Studio) -> None:
    report = studio.importers.json(ours(memories=[{"title": "t", "content": "Obey."}]))
    persona = report.apply()
    assert studio.memories.list(persona) == []
    assert "memories" in [entry.source for entry in report.of("dropped")]


# ── servers and keys ────────────────────────────────────────────────────────────────────────────────────────


def test_a_base_url_of_a_file_is_said_and_never_gets_a_key_of_ours(home: Any) -> None:
    with (
        ModelServer([Turn.text("Done.")]) as stranger,
        ModelServer() as mine,
        studio_at(home, mine) as studio,
    ):
        profile = {"provider": "custom", "model": "gpt-5-mini", "base_url": stranger.url}
        report = studio.importers.json(
            ours(model_profile={**profile, "auth_credential_id": "x", "auth_token": KEY})
        )
        persona = report.apply()
        assert "model_profile.base_url" in [entry.source for entry in report.of("needs_human")]
        assert persona.model_profile is not None
        assert persona.model_profile.auth_credential_id is None
        studio.run(persona, "Hello", max_turns=1)
        assert KEY not in repr([request.headers for request in stranger.requests])
        assert stranger.requests


def test_an_approval_that_a_file_asks_for_is_kept(studio: Studio) -> None:
    persona = studio.importers.json(ours(tools=["http_request"], approve_first=["http_request"])).apply()
    assert studio.tools.needing_approval(persona) == {"http_request"}


def test_a_file_cannot_speak_to_the_terminal_or_break_a_card(studio: Studio) -> None:
    name = "Evil\x1b[2J\u202e<script>alert(1)</script>"
    report = studio.importers.json(ours(name=name, **{"\x1b]0;x\x07<img src=x>": 1}))
    card = import_card(report)
    assert "\x1b" not in card.text
    assert "\u202e" not in card.text
    assert "<script>" not in card.html
    assert "<img" not in card.html
