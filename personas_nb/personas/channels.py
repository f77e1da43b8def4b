"""A persona's ways to notify: their addresses and tokens are sealed, and the row holds a credential's id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from personas_nb.entities.credential import Credential
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput
from personas_nb.vault.credentials import Credentials

CONNECTOR = "channel"
_SECRET_NAME = re.compile(r"url|uri|webhook|token|secret|password|passwd|api_?key", re.IGNORECASE)
_NO_SECRET = ("api_url", "description")  # where an API is; what a person calls it


def has_secrets(channels: Any) -> bool:
    """Whether something of these channels is for the vault; what they are is checked later."""
    if not isinstance(channels, Sequence) or isinstance(channels, str):
        return False
    return any(_secrets(channel) for channel in channels if isinstance(channel, Mapping))


def sealed(credentials: Credentials, persona: Persona) -> Persona:
    """The persona with what is secret of its channels in the vault; addresses that no channel has go from there.

    Secret is what is called an address, a token, a password or the like, or is an address, beside ``type`` or in
    ``config``; ``api_url`` is not. Raises
    ``InvalidInput`` where a channel has secrets and names a credential of its own, or one is too short to be kept
    out of text.
    """
    channels = [dict(channel) for channel in persona.notification_channels]
    ours = {row.id: row for row in owned(credentials, persona)}
    taken = {str(channel.get("credential_id")) for channel in channels}
    free = (name for name in _names(persona) if not any(ours[id_].name == name for id_ in taken & set(ours)))
    for channel in channels:
        if not (secrets := _secrets(channel)):
            continue
        if channel.get("credential_id") not in (None, "", *ours):
            raise InvalidInput(
                f"The channel {channel.get('type', '?')} has an address and names a credential.",
                hint="Give one of them.",
            )
        name = next(free)
        for field, value in secrets.items():
            channel["credential_id"] = credentials.keep(value, name=name, connector=CONNECTOR, field=field)
        for key in [key for key in channel if key in secrets]:
            del channel[key]
        if isinstance(config := channel.get("config"), Mapping):
            channel["config"] = {
                key: value for key, value in config.items() if f"config.{key}" not in secrets
            }
    kept = {channel.get("credential_id") for channel in channels}
    for row in owned(credentials, persona):
        if row.id not in kept:
            credentials.remove(row.id)
    return persona.changed(notification_channels=tuple(channels))


def owned(credentials: Credentials, persona: Persona) -> list[Credential]:
    """The credentials that hold addresses of this persona's channels."""
    ending = f"({persona.id})"
    return [row for row in credentials.list() if row.connector == CONNECTOR and row.name.endswith(ending)]


def _names(persona: Persona) -> Iterator[str]:
    number = 1
    while True:
        yield f"channel {number} ({persona.id})"
        number += 1


def _secrets(channel: Mapping[str, Any]) -> dict[str, str]:
    """What of a channel is secret, by its name; ``config.token`` is the token in its ``config``."""
    config = channel.get("config")
    inner = config if isinstance(config, Mapping) else {}
    given = {**channel, **{f"config.{key}": value for key, value in inner.items()}}
    return {
        key: value
        for key, value in given.items()
        if isinstance(value, str) and value and _is_secret(key.removeprefix("config."), value)
    }


def _is_secret(name: str, value: str) -> bool:
    """An address tells who may post there, whatever it is called."""
    if name in _NO_SECRET:
        return False
    return "://" in value or _SECRET_NAME.search(name) is not None
