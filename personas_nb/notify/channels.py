"""The ways to a user that a persona has: which there are, what each needs, and how two are told apart.

A channel is a row of ``Persona.notification_channels``: its type, whether it is on, settings, and the id of the
credential that holds what is secret of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from personas_nb.entities.persona import Persona

T = TypeVar("T")

LABEL_CHARS = 60


@dataclass(frozen=True)
class ChannelType:
    """What a type of channel takes: ``plain`` settings, ``secret`` ones, and which connectors' credentials serve it.

    ``needs`` says it to a person.
    """

    name: str
    plain: tuple[str, ...]
    secret: tuple[str, ...]
    connectors: tuple[str, ...]
    needs: str


TYPES: dict[str, ChannelType] = {
    kind.name: kind
    for kind in (
        ChannelType(
            "slack",
            ("channel", "api_url", "name"),
            ("webhook", "bot_token"),
            ("slack",),
            "the address of an incoming webhook, or a slack credential (bot token) and channel=#NAME",
        ),
        ChannelType(
            "telegram",
            ("chat_id", "api_url", "name"),
            ("bot_token",),
            ("telegram",),
            "a telegram credential, or a bot token and chat_id=ID",
        ),
        ChannelType(
            "email",
            ("to", "host", "port", "user", "sender", "name"),
            ("password",),
            ("smtp", "gmail"),
            "a smtp or gmail credential; to=ADDRESS, if it is not that of the credential",
        ),
        ChannelType(
            "apprise", ("name",), ("url",), (), "an address as https://appriseit.com/services lists them"
        ),
    )
}
# What somebody else, or a person, may call the same.
ALIASES = {
    "webhook": ("webhook", "webhook_url", "incoming_webhook", "hook_url", "url"),
    "bot_token": ("bot_token", "token", "access_token"),
    "channel": ("channel", "channel_id", "channel_name"),
    "chat_id": ("chat_id", "chat"),
    "to": ("to", "address", "email", "recipient", "recipients"),
    "url": ("url", "uri", "apprise_url"),
}
_TYPE_NAMES = {"mail": "email", "e-mail": "email", "smtp": "email", "gmail": "email"}


@dataclass(frozen=True)
class Channel:
    """One channel of a persona; ``settings`` are what is no secret of it. ``key`` is the same while it is that one."""

    kind: str
    enabled: bool = True
    credential_id: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What makes it this channel and no other, as a digest."""
        what = [self.kind, self.credential_id, sorted(self.settings.items())]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]

    @property
    def label(self) -> str:
        """What a person calls it: its type, and its ``name`` or where it goes.

        >>> Channel("slack", settings={"channel": "#sales"}).label
        'slack #sales'
        """
        told = {"slack": "channel", "telegram": "chat_id", "email": "to"}.get(self.kind, "name")
        where = setting(self.settings, "name") or setting(self.settings, told)
        line = " ".join(f"{self.kind} {where}".split())
        return line if len(line) <= LABEL_CHARS else line[: LABEL_CHARS - 1] + "…"

    @property
    def type(self) -> ChannelType | None:
        """Its type; None where there is no way to send to such a channel."""
        return TYPES.get(self.kind)


def setting(settings: Mapping[str, str], name: str) -> str:
    """A setting by its name or another that it goes by; empty where it has none."""
    names = ALIASES.get(name, (name,))
    return next((settings[each].strip() for each in names if settings.get(each, "").strip()), "")


def channels_of(persona: Persona) -> list[Channel]:
    """The channels of a persona, in its order; those that are off as well."""
    return [channel_of(given) for given in persona.notification_channels]


def channel_of(given: Mapping[str, Any]) -> Channel:
    """A channel as it is stored, read.

    >>> channel_of({"type": "Mail", "config": {"to": "ann@example.com"}}).label
    'email ann@example.com'
    """
    kind = str(given.get("type") or "").strip().lower()
    return Channel(
        kind=_TYPE_NAMES.get(kind, kind) or "?",
        enabled=given.get("enabled", True) is not False,
        credential_id=str(given["credential_id"]) if given.get("credential_id") else None,
        settings=dict(_settings(given)),
    )


def only(found: Sequence[T]) -> T | None:
    """What was found, where it is just one."""
    return found[0] if len(found) == 1 else None


def _settings(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    config = given.get("config")
    for source in (given, config if isinstance(config, Mapping) else {}):
        for name, value in source.items():
            is_ours = source is given and name in (
                "type",
                "enabled",
                "credential_id",
                "config",
                "description",
            )
            if not is_ours and isinstance(value, str | int | float) and not isinstance(value, bool):
                yield str(name), str(value)
