"""The channels of personas as a person handles them: add, list, remove, try out."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from personas_nb.entities.base import new_id
from personas_nb.entities.message import MessageDelivery
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound, did_you_mean
from personas_nb.notify.channels import ALIASES, TYPES, Channel, ChannelType, channel_of, channels_of
from personas_nb.notify.ways.anywhere import is_understood
from personas_nb.notify.ways.letter import Letter, MaybeSent, NotSent
from personas_nb.notify.ways.sending import Sending, lacking
from personas_nb.personas.personas import Personas
from personas_nb.store.deliveries import DeliveryTable
from personas_nb.vault.credentials import Credentials

log = logging.getLogger("personas_nb.notify")

Run = Callable[[Coroutine[Any, Any, "builtins.list[Tried]"]], "builtins.list[Tried]"]


@dataclass(frozen=True)
class Listed:
    """A channel of a persona: its ``number`` there, what keeps it from being used, and the last that was sent."""

    number: int
    channel: Channel
    credential: str = ""
    problem: str = ""
    last: MessageDelivery | None = None


@dataclass(frozen=True)
class Tried:
    """What became of a trial on one channel; ``detail`` says why."""

    number: int
    label: str
    status: Literal["delivered", "failed", "uncertain"]
    detail: str = ""


class Channels:
    """The ways to the user that personas have. What is secret of them is sealed.

    studio.channels.add("mail-boy", "slack", {"channel": "#sales"}, credential="team")
    """

    def __init__(
        self,
        personas: Personas,
        credentials: Credentials,
        sending: Sending,
        *,
        run: Run,
    ) -> None:
        self._personas, self._credentials, self._sending = personas, credentials, sending
        self._run = run
        self._deliveries = DeliveryTable(personas.store)

    def list(self, persona: Persona | str) -> builtins.list[Listed]:
        """The channels of a persona, in order, each with what keeps it from being used, if anything does."""
        found = self._personas.get(persona)
        names = {row.id: row.name for row in self._credentials.list() if row.connector != "channel"}
        return [
            Listed(
                number,
                channel,
                credential=names.get(channel.credential_id or "", ""),
                problem=self._sending.problem(channel) if channel.enabled else "",
                last=self._deliveries.last(found.id, channel.key),
            )
            for number, channel in enumerate(channels_of(found), 1)
        ]

    def add(
        self,
        persona: Persona | str,
        channel_type: str,
        settings: Mapping[str, Any] | None = None,
        *,
        credential: str | None = None,
    ) -> Persona:
        """Give a persona a channel; one that it has already is switched on, and nothing else changes.

        ``settings`` are ``webhook`` or ``bot_token`` and ``channel`` (slack), ``bot_token`` and ``chat_id``
        (telegram), ``to`` (email), ``url`` (apprise); what is secret of them is sealed. ``credential`` is the name of
        one that has the rest. Raises ``InvalidInput`` for anything that cannot work, ``NotFound`` for a credential
        that there is not.
        """
        kind = type_of(channel_type)
        given = checked(kind, settings or {})
        wanted: dict[str, Any] = {"type": kind.name, "enabled": True}
        if credential:
            wanted["credential_id"] = self._served_by(kind, credential)
        if given:
            wanted["config"] = given
        found = self._personas.get(persona)
        channels = [dict(each) for each in found.notification_channels]
        at = next((at for at, each in enumerate(channels) if self._is_same(each, wanted)), None)
        if at is not None:
            channels[at] = {**channels[at], "enabled": True}
        else:
            is_all = any(given.get(name) for name in kind.secret)  # else a credential has the rest
            problem = lacking(kind.name, given) if is_all else self._sending.problem(channel_of(wanted))
            if problem:
                raise InvalidInput(f"Such a channel cannot be used: {problem}")
            channels.append(wanted)
        if channels == [dict(each) for each in found.notification_channels]:
            return found
        return self._personas.update(found, notification_channels=channels)

    def remove(self, persona: Persona | str, number: int) -> Persona:
        """Take the channel of that number (from 1) from a persona, with its secrets."""
        found = self._personas.get(persona)
        self._numbered(found, number)
        left = [each for at, each in enumerate(found.notification_channels, 1) if at != number]
        return self._personas.update(found, notification_channels=left)

    def switch(self, persona: Persona | str, number: int, *, on: bool) -> Persona:
        """Switch a channel on or off; it keeps its number and its secrets."""
        found = self._personas.get(persona)
        self._numbered(found, number)
        channels = [
            {**each, "enabled": on} if at == number else dict(each)
            for at, each in enumerate(found.notification_channels, 1)
        ]
        return self._personas.update(found, notification_channels=channels)

    def test(self, persona: Persona | str, number: int | None = None) -> builtins.list[Tried]:
        """Really send a short message on every channel that is on, or on the one of that number; what became of each.

        Nothing is stored of it. Blocks until all have answered, or their time is over.
        """
        found = self._personas.get(persona)
        chosen = [
            (at, each)
            for at, each in enumerate(channels_of(found), 1)
            if (each.enabled if number is None else at == number)
        ]
        if number is not None:
            self._numbered(found, number)
        return self._run(self._tried(found, chosen)) if chosen else []

    async def _tried(
        self, persona: Persona, chosen: builtins.list[tuple[int, Channel]]
    ) -> builtins.list[Tried]:
        import asyncio

        return list(await asyncio.gather(*(self._try(persona, at, each) for at, each in chosen)))

    async def _try(self, persona: Persona, number: int, channel: Channel) -> Tried:
        letter = Letter(
            new_id(), persona.name, "a test", f"This channel works: messages of {persona.name} arrive here."
        )
        try:
            await self._sending.send(channel, letter)
        except NotSent as error:
            return Tried(number, channel.label, "failed", str(error))
        except MaybeSent as error:
            return Tried(number, channel.label, "uncertain", str(error))
        except Exception as error:  # the others are tried all the same
            log.exception("a channel could not be tried")
            return Tried(number, channel.label, "uncertain", f"It may have arrived: {type(error).__name__}.")
        return Tried(number, channel.label, "delivered")

    def _numbered(self, persona: Persona, number: int) -> None:
        count = len(persona.notification_channels)
        if not 1 <= number <= count:
            has = f"It has {count}" if count else "It has none"
            raise NotFound(
                f"{persona.name} has no channel {number}.",
                hint=f"{has}: `%persona channels {persona.slug}` lists them.",
            )

    def _served_by(self, kind: ChannelType, credential: str) -> str:
        row = self._credentials.get(credential)
        if row.connector not in kind.connectors:
            raise InvalidInput(
                f"The credential “{row.name}” is one of {row.connector}, which is no way to {kind.name}.",
                hint=f"It needs {kind.needs}.",
            )
        return row.id

    def _is_same(self, have: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Whether a persona has a channel already; secrets are compared in the clear."""
        channel, other = channel_of(have), channel_of(wanted)
        if channel.kind != other.kind:
            return False
        if channel.key == other.key:
            return True
        try:
            row = self._credentials.get(channel.credential_id or "")
            if row.connector != "channel":
                return False
            opened = {
                name.removeprefix("config."): value for name, value in self._credentials.opened(row).items()
            }
        except NotFound:
            return False
        return {**channel.settings, **opened} == dict(other.settings)


def type_of(name: str) -> ChannelType:
    """The type of that name; raises ``InvalidInput`` for one that there is not."""
    found = TYPES.get(channel_of({"type": name}).kind)
    if found is None:
        raise InvalidInput(
            f"There is no channel type “{str(name)[:40]}”.",
            hint=did_you_mean(
                str(name), TYPES, otherwise=f"There are {', '.join(TYPES)}; apprise reaches most others."
            ),
        )
    return found


def checked(kind: ChannelType, settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings by their own names, as texts; raises ``InvalidInput``, which repeats no value."""
    known = {alias: name for name in (*kind.plain, *kind.secret) for alias in ALIASES.get(name, (name,))}
    found: dict[str, str] = {}
    for name, value in settings.items():
        if name not in known:
            names = (*kind.plain, *kind.secret)
            otherwise = f"It takes {', '.join(names)}." if names else ""
            raise InvalidInput(
                f"A {kind.name} channel has no setting “{str(name)[:40]}”.",
                hint=did_you_mean(str(name), names, otherwise=otherwise),
            )
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise InvalidInput(f"“{name}” must be a text.")
        found[known[name]] = str(value).strip()
    if kind.name == "apprise" and not is_understood(found.get("url", "")):
        raise InvalidInput(
            "The address is none that apprise understands.", hint="https://appriseit.com/services lists them."
        )
    if (webhook := found.get("webhook")) and not webhook.startswith(("https://", "http://")):
        raise InvalidInput("The webhook is no web address.", hint="Slack shows it when you make one.")
    return found
