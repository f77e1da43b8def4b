"""Which model a run thinks with, and which key goes where."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.model_server import Api, ModelServer, Turn
from support.studios import KEY, MODELS, PROVIDERS, persona_of, studio_at

from personas_nb.engine import models
from personas_nb.engine.models import KEY_VARIABLES, global_secrets, resolve
from personas_nb.entities.model_profile import ModelProfile
from personas_nb.errors import InvalidInput, ModelError
from personas_nb.settings import Settings

ANTHROPIC = {"ANTHROPIC_API_KEY": "sk-ant-global-key"}
OWN = "sk-own-key-of-the-persona"
both = pytest.mark.parametrize("api", ["anthropic", "openai"])


def resolved(
    profile: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    **options: Any,
) -> Any:
    return resolve(
        ModelProfile(**profile) if profile else None,
        settings=Settings(**(settings or {})),
        environ=environ or {},
        **options,
    )


def test_the_argument_wins_over_profile_settings_and_keys():
    model = resolved({"provider": "custom"}, {"provider": "litellm"}, ANTHROPIC, provider="ollama")
    assert model.provider == "ollama"


def test_the_profile_wins_over_settings_and_keys():
    assert resolved({"provider": "custom"}, {"provider": "litellm"}, ANTHROPIC).provider == "custom"


def test_the_settings_win_over_keys():
    assert resolved(None, {"provider": "litellm"}, ANTHROPIC).provider == "litellm"


def test_a_key_that_exists_chooses_anthropic():
    model = resolved(None, None, ANTHROPIC)
    assert (model.provider, model.secret, model.notes) == ("anthropic", "sk-ant-global-key", ())


def test_a_token_of_the_profile_alone_chooses_anthropic():
    assert resolved({"auth_token": OWN}).secret == OWN


def test_with_nothing_configured_it_rehearses_and_says_in_one_line_how_to_switch():
    model = resolved()
    assert model.is_rehearsal
    assert len(model.notes) == 1
    assert "ANTHROPIC_API_KEY" in model.notes[0]
    assert "\n" not in model.notes[0]


def test_a_rehearsal_that_was_asked_for_needs_no_note():
    assert resolved(provider="rehearsal").notes == ()
    assert resolved(None, {"provider": "rehearsal"}, ANTHROPIC).is_rehearsal


def test_an_unknown_provider_is_refused_with_the_nearest_one():
    with pytest.raises(InvalidInput, match="Did you mean “anthropic”"):
        resolved(provider="antropic")


def test_anthropic_without_a_key_says_what_to_set():
    with pytest.raises(ModelError, match="ANTHROPIC_API_KEY") as caught:
        resolved(provider="anthropic")
    assert caught.value.kind == "credential"


def test_a_profile_of_another_provider_lends_neither_model_nor_server_nor_token():
    profile = {"provider": "custom", "model": "m", "base_url": "http://own.example", "auth_token": OWN}
    model = resolved(profile, None, ANTHROPIC, provider="anthropic")
    assert model.base_url == "https://api.anthropic.com"
    assert (model.model, model.secret) == ("claude-sonnet-5-5", "sk-ant-global-key")


@pytest.mark.parametrize(
    ("provider", "base_url", "expected"),
    [
        ("anthropic", "http://gateway.example", "http://gateway.example"),
        ("anthropic", "http://gateway.example/v1", "http://gateway.example"),
        ("anthropic", "http://gateway.example/team/v1/", "http://gateway.example/team"),
        ("custom", "http://gateway.example", "http://gateway.example/v1"),
        ("custom", "http://gateway.example/v1/", "http://gateway.example/v1"),
        ("custom", "http://gateway.example/openai", "http://gateway.example/openai"),
        ("litellm", None, "http://127.0.0.1:4000/v1"),
        ("ollama", None, "http://127.0.0.1:11434/v1"),
    ],
)
def test_an_address_is_taken_with_and_without_v1(provider: str, base_url: str | None, expected: str):
    assert resolved({"provider": provider, "base_url": base_url, "auth_token": OWN}).base_url == expected


@pytest.mark.parametrize("provider", ["anthropic", "custom", "litellm", "ollama"])
@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.anthropic.com",  # another scheme
        "https://api.anthropic.com:8443",
        "https://api.anthropic.com.evil.example",
        "http://127.0.0.1:11435",
        "https://evil.example/https://api.openai.com",
    ],
)
def test_a_global_key_never_goes_to_a_personas_own_server(provider: str, base_url: str):
    environ = {name: f"sk-global-{name}" for name in KEY_VARIABLES.values()}
    given = None
    with suppress(ModelError):  # anthropic refuses to run without a key
        given = resolved(
            {"provider": provider, "base_url": base_url}, {"auth_token": "sk-global-setting"}, environ
        ).secret
    assert given is None


def test_a_token_of_the_settings_without_a_provider_is_for_anthropic_only():
    settings = {"auth_token": "sk-global-setting"}
    assert resolved({"provider": "anthropic"}, settings).secret == "sk-global-setting"
    assert resolved({"provider": "custom"}, settings).secret is None
    assert resolved({"provider": "litellm"}, settings).secret is None


def test_a_token_of_the_settings_belongs_to_the_server_beside_it():
    settings = {"auth_token": "sk-global-setting", "base_url": "http://gateway.example"}
    assert resolved({"provider": "custom"}, settings).secret == "sk-global-setting"
    assert resolved({"provider": "custom", "base_url": "http://own.example"}, settings).secret is None


def test_settings_of_one_provider_say_nothing_about_another():
    settings = {
        "provider": "anthropic",
        "auth_token": "sk-global-setting",
        "model": "m",
        "base_url": "http://a.example",
    }
    model = resolved(None, settings, provider="ollama")
    assert (model.model, model.secret, model.base_url) == ("llama3.2", None, "http://127.0.0.1:11434/v1")


def test_every_key_that_the_process_knows_is_given_to_the_redactor():
    found = global_secrets(Settings(auth_token="sk-global-setting"), {"OPENAI_API_KEY": "sk-o", "OTHER": "x"})
    assert found == {"OPENAI_API_KEY": "sk-o", "auth_token": "sk-global-setting"}


def test_a_key_shows_in_no_repr():
    assert OWN not in repr(resolved({"auth_token": OWN}))


# --- seen by the server ---------------------------------------------------------------------------------


@both
def test_the_global_key_goes_to_the_configured_server(home: Path, api: Api):
    with ModelServer([Turn.text("Hi.")]) as server, studio_at(home, server, api) as studio:
        persona_of(studio)
        run = studio.run("watcher")
        assert (run.status, run.provider, run.model_used) == ("completed", PROVIDERS[api], MODELS[api])
        assert server.requests[0].key == KEY


@both
def test_a_personas_own_server_never_sees_the_global_key(
    home: Path, api: Api, monkeypatch: pytest.MonkeyPatch
):
    for name in KEY_VARIABLES.values():
        monkeypatch.setenv(name, "sk-global-from-the-environment")
    with (
        ModelServer() as configured,
        ModelServer([Turn.text("Hi.")], repeat_last=True) as own,
        studio_at(home, configured, api) as studio,
    ):
        persona_of(studio, model_profile={"provider": PROVIDERS[api], "base_url": own.url})
        run = studio.run("watcher")
        assert configured.requests == []
        sent = str([(request.headers, request.body) for request in own.requests])
        assert KEY not in sent
        assert "sk-global" not in sent
        if api == "anthropic":
            assert (run.status, run.error_kind) == ("failed", "credential")
        else:
            assert run.status == "completed"


@both
def test_the_profiles_own_token_comes_from_the_vault(home: Path, api: Api):
    with (
        ModelServer() as configured,
        ModelServer([Turn.text("Hi.")]) as own,
        studio_at(home, configured, api) as studio,
    ):
        persona_of(studio, model_profile={"provider": PROVIDERS[api], "base_url": own.url, "auth_token": OWN})
        assert studio.run("watcher").status == "completed"
        assert own.requests[0].key == OWN
        with studio.store.read() as db:
            dump = "\n".join(db.iterdump())
        assert OWN not in dump


@both
def test_nothing_of_the_environment_is_sent_to_any_server(
    home: Path, api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: private")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Team: private")
    with ModelServer([Turn.text("Hi.")]) as server, studio_at(home, server, api) as studio:
        persona_of(studio)
        assert studio.run("watcher").status == "completed"
        assert "private" not in str(server.requests[0].headers)


@both
@pytest.mark.parametrize(
    "name", ["Authorization", "AUTHORIZATION", "X-Api-Key", "anthropic-private", "content-private"]
)
def test_a_key_in_custom_headers_goes_to_no_server_and_hides_no_other_key(
    home: Path, api: Api, name: str, monkeypatch: pytest.MonkeyPatch
):
    for client in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"{client}_CUSTOM_HEADERS", f"{name}: Bearer private")
    with ModelServer([Turn.text("Hi.")]) as server, studio_at(home, server, api) as studio:
        persona_of(studio)
        assert studio.run("watcher").status == "completed"
        assert "private" not in str(server.requests[0].headers)
        assert server.requests[0].key == KEY


def test_a_key_of_a_few_characters_does_not_keep_a_run_from_starting(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "short  \n ")
    monkeypatch.setenv("OLLAMA_API_KEY", "ollama")
    with studio_at(home, provider="rehearsal") as studio:
        persona_of(studio)
        assert studio.run("watcher", "ollama").input_data == "ollama"


def test_an_unknown_provider_writes_no_run(home: Path):
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(InvalidInput, match="Did you mean “rehearsal”"):
            studio.run("watcher", provider="rehersal")
        assert studio.executions.list() == []


# --- which engine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "engine"),
    [("anthropic", "claude"), ("litellm", "claude"), ("ollama", "direct"), ("custom", "direct")],
)
def test_who_speaks_the_api_of_anthropic_gets_the_claude_cli_unless_told_otherwise(
    provider: str, engine: str
):
    assert resolved({"provider": provider}, None, ANTHROPIC).engine == engine
    assert resolved({"provider": provider, "engine": "direct"}, None, ANTHROPIC).engine == "direct"
    assert resolved({"provider": provider, "engine": "claude"}, None, ANTHROPIC).engine == "claude"


def test_the_engine_of_the_persona_wins_over_the_setting():
    assert resolved({"engine": "direct"}, {"engine": "claude"}, ANTHROPIC).engine == "direct"
    assert resolved(None, {"engine": "direct"}, ANTHROPIC).engine == "direct"


def test_a_rehearsal_never_starts_the_cli():
    assert resolved({"engine": "claude"}, {"engine": "claude"}, provider="rehearsal").engine == "direct"


def test_without_its_extra_the_cli_is_left_out_or_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models, "has_claude", lambda: False)
    assert resolved(None, None, ANTHROPIC).engine == "direct"
    with pytest.raises(ModelError, match=r"personas-nb\[claude\]") as error:
        resolved({"engine": "claude"}, None, ANTHROPIC)
    assert error.value.kind == "cli_not_found"


def test_the_persons_own_login_needs_no_key_with_the_cli():
    login = {"claude_login": "user"}
    model = resolved(None, login)
    assert (model.provider, model.engine, model.secret) == ("anthropic", "claude", None)
    with pytest.raises(ModelError, match="no key"):
        resolved({"engine": "direct"}, login)
