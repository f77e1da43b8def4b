"""One delivery over its way: the channel's fields opened for this use, its errors without secrets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from personas_nb.errors import InvalidInput, KeyUnavailable, NotFound, PersonaError
from personas_nb.notify.channels import TYPES, Channel, only, setting
from personas_nb.notify.ways.letter import Letter, MaybeSent, NotSent, Outside, shortened
from personas_nb.vault.access import known_secrets, secret_parts
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.redaction import Redactor, check_secret

SEND_SECONDS = 90.0  # longer than any way's own limit
ERROR_CHARS = 300
_KEPT = "channel"  # the connector of addresses that were given with a channel

Fields = dict[str, str]


class Sending:
    """Sends letters; ``redactor`` is asked for when an error is to be shown, and knows every secret of the home."""

    def __init__(
        self, credentials: Credentials, outside: Outside, redactor: Callable[[], Redactor] | None = None
    ) -> None:
        self._credentials, self._outside = credentials, outside
        self._redactor = redactor or (lambda: Redactor(known_secrets(credentials)[0]))

    async def send(self, channel: Channel, letter: Letter) -> None:
        """Send it; raises ``NotSent`` or ``MaybeSent`` with a sentence that can be stored."""
        fields: Fields = {}
        try:
            fields = await asyncio.to_thread(self.fields, channel)
            # A thread that hangs goes on by itself; what waits for it does not.
            await asyncio.wait_for(self._send(channel, fields, letter), SEND_SECONDS)
        except TimeoutError as error:
            if isinstance(error, PersonaError):
                raise
            raise MaybeSent(f"It took longer than {SEND_SECONDS:g} s.") from None
        except (NotSent, MaybeSent) as error:
            raise await asyncio.to_thread(self._clean, error, fields) from None

    def problem(self, channel: Channel) -> str:
        """What keeps a channel from being used, as a sentence; empty where nothing is known to."""
        try:
            fields = self.fields(channel)
        except NotSent as error:
            return str(error)
        return lacking(channel.kind, fields)

    def fields(self, channel: Channel) -> Fields:
        """Everything that a channel says, its secrets in the clear: for one use. Raises ``NotSent``."""
        kind = channel.type
        if kind is None:
            raise NotSent(
                f"There is no way to send to “{channel.kind[:40]}”.",
                hint="slack, telegram, email and apprise are known; apprise reaches most others.",
            )
        reference = channel.credential_id or self._usual(channel)
        if reference is None:
            if channel.kind == "apprise" or channel.kind == "slack":
                return dict(channel.settings)
            raise NotSent(f"The channel has no credential: it needs {kind.needs}.")
        try:
            row = self._credentials.get(reference)
            opened = self._credentials.opened(row)
        except NotFound:
            raise NotSent("The credential of the channel is gone.", hint="Add the channel again.") from None
        except KeyUnavailable as error:
            raise NotSent(error.message, hint=error.hint, retryable=True) from None
        except PersonaError as error:
            raise NotSent(error.message, hint=error.hint) from None
        if row.connector == _KEPT:
            return {
                **channel.settings,
                **{name.removeprefix("config."): value for name, value in opened.items()},
            }
        if kind.connectors and row.connector not in kind.connectors:
            raise NotSent(
                f"The credential “{row.name}” is one of {row.connector}, which is no way to {channel.kind}.",
                hint=f"It needs {kind.needs}.",
            )
        return {**opened, **{name: value for name, value in channel.settings.items() if value}}

    def _usual(self, channel: Channel) -> str | None:
        """The credential that is meant where none is named: the only one that serves the channel."""
        connectors = channel.type.connectors if channel.type else ()
        found = only([row for row in self._credentials.list() if row.connector in connectors])
        return found.id if found else None

    async def _send(self, channel: Channel, fields: Mapping[str, str], letter: Letter) -> None:
        from personas_nb.notify.ways import anywhere, chat, mail

        if channel.kind == "slack":
            await chat.slack(self._outside, fields, letter)
        elif channel.kind == "telegram":
            await chat.telegram(self._outside, fields, letter)
        elif channel.kind == "email":
            await asyncio.to_thread(mail.email, self._outside, fields, letter)
        else:
            await asyncio.to_thread(anywhere.apprise, fields, letter)

    def _clean(self, error: NotSent | MaybeSent, fields: Mapping[str, str]) -> NotSent | MaybeSent:
        """The same error in a sentence without secrets, not too long."""
        text = _redactor_of(fields).redact(str(error))
        text = shortened(" ".join(self._redactor().redact(text).split()), ERROR_CHARS, "…")
        if isinstance(error, MaybeSent):
            return MaybeSent(text)
        return NotSent(text, retryable=error.retryable, retry_after_seconds=error.retry_after_seconds)


def lacking(kind: str, fields: Mapping[str, str]) -> str:
    """What such a channel lacks, or what is wrong with it, as a sentence; empty where nothing is known to be."""
    if kind == "email":
        return _lacking_mail(fields)
    for name in ("webhook", "api_url"):
        if kind != "apprise" and (url := setting(fields, name)) and not _is_web_address(url):
            return f"“{name}” is no web address."
    if kind == "slack" and not setting(fields, "webhook"):
        if not setting(fields, "bot_token"):
            return f"It needs {TYPES['slack'].needs}."
        return "" if setting(fields, "channel") else "It needs channel=#NAME."
    needed = {"telegram": ("bot_token", "chat_id"), "apprise": ("url",)}.get(kind, ())
    if not all(setting(fields, name) for name in needed):
        return f"It needs {TYPES[kind].needs}."
    return ""


def _lacking_mail(fields: Mapping[str, str]) -> str:
    from personas_nb.notify.ways import mail

    try:
        mail.addresses(fields)
    except NotSent as error:
        return str(error)
    port = setting(fields, "port")
    if port and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536):
        return "“port” is no number from 1 to 65535."
    return ""


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_web = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
        return is_web and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:
        return False


def _redactor_of(fields: Mapping[str, str]) -> Redactor:
    """Knows what a channel's fields hold, and the parts of an address that are secret by themselves."""
    secrets: dict[str, str] = {}
    for name, value in fields.items():
        if not re.search(r"url|uri|webhook|token|secret|pass", name) or name == "api_url":
            continue
        for number, part in enumerate([*secret_parts(value).values(), *_pieces(value)]):
            with suppress(InvalidInput):
                check_secret(name, part)
                secrets[f"{name}{number or ''}"] = part
    return Redactor(secrets)


def _pieces(value: str) -> list[str]:
    """What of an address tells who may use it.

    >>> _pieces("https://hooks.example.com/services/T0000AAAA/zpQx81kTm2?key=abcdefghij")
    ['/services/T0000AAAA/zpQx81kTm2', 'services', 'T0000AAAA', 'zpQx81kTm2', 'abcdefghij']
    """
    try:
        parts = urlsplit(value)
    except ValueError:
        return []
    if not parts.scheme or not parts.netloc:
        return []
    login = re.split(":", parts.netloc.rpartition("@")[0])
    words = [*login, parts.path, *parts.path.split("/"), *(word for word in re.split("[&=]", parts.query))]
    return [piece for word in words for piece in dict.fromkeys((word, unquote(word))) if len(piece) >= 8]
