"""Which model a run thinks with, and the way to it.

``resolve`` decides: no network, no heavy import.

A global key goes only to its provider's configured host: a persona with a ``base_url`` of its own gets the
token of its own profile, or none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from personas_nb.entities.model_profile import PROVIDERS, ModelProfile, Provider
from personas_nb.errors import InvalidInput, ModelError, did_you_mean
from personas_nb.settings import Settings
from personas_nb.vault.redaction import Redactor, check_secret

KEY_VARIABLES = {
    "anthropic": "ANTHROPIC_API_KEY",
    "custom": "OPENAI_API_KEY",
    "litellm": "LITELLM_API_KEY",
    "ollama": "OLLAMA_API_KEY",
}
_URL_VARIABLES = {"anthropic": "ANTHROPIC_BASE_URL", "custom": "OPENAI_BASE_URL"}
_DEFAULT_URLS = {
    "anthropic": "https://api.anthropic.com",
    "custom": "https://api.openai.com/v1",
    "litellm": "http://127.0.0.1:4000",
    "ollama": "http://127.0.0.1:11434/v1",
}
_DEFAULT_MODELS = {
    "anthropic": "claude-sonnet-5-5",
    "custom": "gpt-5-mini",
    "litellm": "claude-sonnet-5-5",
    "ollama": "llama3.2",
    "rehearsal": "rehearsal",
}


@dataclass(frozen=True)
class ResolvedModel:
    """Provider, model and server of one run; ``secret`` is its key (None: none was found)."""

    provider: Provider
    model: str
    base_url: str = ""
    engine: str = "direct"
    secret: str | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def is_rehearsal(self) -> bool:
        """Whether our own model runs the prompt: nothing leaves this machine and nothing is paid."""
        return self.provider == "rehearsal"


def resolve(
    profile: ModelProfile | None = None,
    *,
    settings: Settings,
    provider: str | None = None,
    reveal: Callable[[str], str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ResolvedModel:
    """What a run uses: ``provider`` if given, else the persona's profile, the settings, a key that exists.

    ``reveal`` opens the profile's stored token by credential id. Raises ``InvalidInput`` for an unknown
    provider and ``ModelError`` (kind ``credential``) where a key is needed and there is none.
    """
    environ = os.environ if environ is None else environ
    profile = profile or ModelProfile()
    chosen = _provider(provider, profile, settings, environ)
    if profile.provider not in (None, chosen):
        profile = ModelProfile()  # its model, server and token belong to the other provider
    if chosen == "rehearsal":
        return ResolvedModel("rehearsal", "rehearsal", notes=_how_to_switch(provider, profile, settings))
    engine = _engine(chosen, profile, settings)
    is_home = settings.provider in (None, chosen)  # the settings speak of this provider
    # A token without a provider belongs to the server that is configured beside it, else to anthropic.
    has_token = is_home and bool(settings.provider or settings.base_url or chosen == "anthropic")
    configured = (settings.base_url if is_home else None) or environ.get(_URL_VARIABLES.get(chosen, ""))
    home_url = configured or _DEFAULT_URLS[chosen]
    base_url = profile.base_url or home_url
    secret = None
    if profile.auth_token is not None:
        secret = profile.auth_token.get_secret_value()
    elif profile.auth_credential_id and reveal:
        secret = reveal(profile.auth_credential_id)
    elif _origin(base_url) == _origin(home_url):
        secret = _global_key(chosen, settings if has_token else None, environ)
    if chosen == "anthropic" and not secret and not (engine == "claude" and settings.claude_login == "user"):
        raise ModelError(
            f"There is no key for anthropic at {_origin(base_url)}.",
            kind="credential",
            hint="Set ANTHROPIC_API_KEY, or rehearse with `--provider rehearsal`.",
        )
    model = profile.model or (settings.model if is_home else None) or _DEFAULT_MODELS[chosen]
    return ResolvedModel(chosen, model, _api_url(chosen, base_url), engine, secret)


def _engine(provider: Provider, profile: ModelProfile, settings: Settings) -> str:
    """What runs the prompt: as chosen, else the Claude CLI for who speaks its API, if its extra is installed."""
    chosen = profile.engine if profile.engine != "auto" else settings.engine
    if chosen == "auto":
        chosen = "claude" if provider in ("anthropic", "litellm") and has_claude() else "direct"
    if chosen == "claude" and not has_claude():
        raise ModelError(
            "The engine claude needs claude-agent-sdk, which is not installed.",
            kind="cli_not_found",
            hint="Install it with `pip install 'personas-nb[claude]'`, or set the engine to direct.",
        )
    return chosen


@cache
def has_claude() -> bool:
    """Whether the extra that brings the Claude CLI is installed."""
    return find_spec("claude_agent_sdk") is not None


def _provider(
    asked: str | None, profile: ModelProfile, settings: Settings, environ: Mapping[str, str]
) -> Provider:
    if asked is not None and asked not in PROVIDERS:
        raise InvalidInput(
            f"There is no provider “{asked}”.",
            hint=did_you_mean(asked, PROVIDERS, otherwise=f"There are {', '.join(PROVIDERS)}."),
        )
    known: Provider | None = asked  # checked above
    chosen = known or profile.provider or settings.provider
    if chosen is None:
        has_own = profile.auth_token is not None or profile.auth_credential_id is not None
        has_login = settings.claude_login == "user"
        has_key = has_own or has_login or _global_key("anthropic", settings, environ)
        chosen = "anthropic" if has_key else "rehearsal"
    return chosen


def _how_to_switch(asked: str | None, profile: ModelProfile, settings: Settings) -> tuple[str, ...]:
    if asked or profile.provider or settings.provider:
        return ()
    return (
        "No model is configured: this is a rehearsal. Set ANTHROPIC_API_KEY or PERSONAS_PROVIDER to switch.",
    )


def _global_key(provider: str, settings: Settings | None, environ: Mapping[str, str]) -> str | None:
    if settings is not None and settings.auth_token is not None:
        return settings.auth_token.get_secret_value()
    return environ.get(KEY_VARIABLES.get(provider, "")) or None


def global_secrets(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Every provider key that this process knows, by name."""
    environ = os.environ if environ is None else environ
    found = {name: environ[name] for name in KEY_VARIABLES.values() if environ.get(name)}
    if settings.auth_token is not None:
        found["auth_token"] = settings.auth_token.get_secret_value()
    if settings.claude_login == "user":
        found |= _login_secrets(Path(environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude"))
    return found


def _login_secrets(folder: Path) -> dict[str, str]:
    """The tokens of the person's login of the Claude CLI, where it keeps them in a file (macOS has a keychain)."""
    try:
        login = json.loads((folder / ".credentials.json").read_bytes())["claudeAiOauth"]
        tokens = {f"claude_login_{name}": login.get(name) for name in ("accessToken", "refreshToken")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: token for name, token in tokens.items() if isinstance(token, str)}


def key_redactor(
    settings: Settings, *, model: ResolvedModel | None = None, more: Mapping[str, str] | None = None
) -> Redactor:
    """Takes every provider key that this process knows out of texts, the one of ``model``, and ``more`` secrets.

    A key under 8 characters is no key of any provider, and stays: it would tear ordinary words apart.
    """
    known = {**global_secrets(settings), **(more or {})}
    if model is not None and model.secret:
        known[f"{model.provider}_key"] = model.secret
    usable = {}
    for name, value in known.items():
        with suppress(InvalidInput):
            check_secret(name, value)
            usable[name] = value
    return _redactor(tuple(usable.items()))


@lru_cache(maxsize=8)
def _redactor(secrets: tuple[tuple[str, str], ...]) -> Redactor:
    """Every start and every run asks for the same one."""
    return Redactor(dict(secrets))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _api_url(provider: str, base_url: str) -> str:
    """The address as the provider's client wants it: Anthropic without ``/v1``, OpenAI with it."""
    url = base_url.rstrip("/")
    if provider == "anthropic":
        return url.removesuffix("/v1")
    return url if urlsplit(url).path else f"{url}/v1"
