"""Which model a persona thinks with."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from personas_nb.entities.base import Entity

Provider = Literal["anthropic", "litellm", "ollama", "custom", "rehearsal"]
PROVIDERS: tuple[Provider, ...] = ("anthropic", "litellm", "ollama", "custom", "rehearsal")


class ModelProfile(Entity):
    """A persona's own choice of provider, model and server; what is None comes from the settings.

    ``auth_token`` is accepted on input only: it goes to the vault, and the row keeps ``auth_credential_id``.
    """

    provider: Provider | None = None
    model: str | None = Field(default=None, min_length=1)
    base_url: str | None = None
    engine: Literal["auto", "claude", "direct"] = "auto"
    auth_token: SecretStr | None = Field(default=None, exclude=True, repr=False)
    auth_credential_id: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http(s) address such as http://127.0.0.1:4000")
        if parts.username or parts.password:
            raise ValueError("must not carry a user or password; put the key into auth_token")
        return value.rstrip("/")
