"""What parts below may reach outside: the very requests and mail logins that tools use."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.message import EmailMessage
from typing import Any

from personas_nb.errors import InvalidInput, PersonaError, TooLarge, ToolDenied
from personas_nb.notify.ways.letter import Answer, MaybeSent, NotSent
from personas_nb.settings import Settings
from personas_nb.vault.access import Opened


class Outside:
    """Requests, logins and mails with the settings' limits; read when they are needed."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    async def request(self, url: str, **request: Any) -> str:
        """The answer to an HTTP request, as ``http_request`` gives it."""
        from personas_nb.tools.http import http_request

        return await http_request(self._settings(), url, **request)

    async def post(self, url: str, *, json: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to a POST; raises ``NotSent``, and ``MaybeSent`` where the request may have arrived.

        A redirect after which nothing would be posted any more is the answer: what answers there took nothing.
        """
        import json as json_module

        try:
            request = self.request(url, method="POST", json=json, headers=headers, keeps_method=True)
            said = json_module.loads(await request)
        except PersonaError as error:
            raise _told(error, is_on_its_way=not _never_connected(error)) from None
        return Answer(said["status"], said["body"], _seconds(said["headers"].get("retry-after")))

    def log_in(self, protocol: str, login: Mapping[str, str]) -> None:
        """Log in to a mail server (imap or smtp) and out again; raises ``ToolError``."""
        from personas_nb.tools.mail_servers import mailbox, submission

        fields = {f"{protocol}_host": login["host"], f"{protocol}_port": login["port"]}
        opened = Opened(
            {**fields, "user": login["user"], "password": login["password"]},
            name=login["user"],
            connector=protocol,
        )
        connection: Any = mailbox if protocol == "imap" else submission
        with connection(opened, self._settings()):
            pass

    def submit(
        self, login: Mapping[str, str], mail: EmailMessage, receivers: Sequence[str]
    ) -> dict[str, str]:
        """Give a mail to its server; who was refused, and why.

        Raises ``NotSent``, and ``MaybeSent`` where the connection ended after the mail was on its way.
        """
        from personas_nb.tools.mail_servers import submission

        opened = Opened(login, name=login.get("user", "mail"), connector="mail")
        on_its_way: list[bool] = []
        refused: dict[str, tuple[int, bytes]] = {}
        is_accepted = False
        try:
            with submission(opened, self._settings()) as client:
                _note_data(client, on_its_way)
                refused = client.send_message(mail, to_addrs=list(receivers))
                is_accepted = True
        except PersonaError as error:
            if not is_accepted:  # else it was the farewell that failed
                raise _told(error, is_on_its_way=bool(on_its_way) and not _was_answered(error)) from None
        return {
            address: f"{code} {said.decode('utf-8', 'replace')}".strip()
            for address, (code, said) in refused.items()
        }


def _note_data(client: Any, on_its_way: list[bool]) -> None:
    """Note the moment from which a mail may arrive."""
    hand_over = client.data

    def data(message: Any) -> tuple[int, bytes]:
        on_its_way.append(True)
        answer: tuple[int, bytes] = hand_over(message)
        return answer

    client.data = data


def _told(error: PersonaError, *, is_on_its_way: bool) -> NotSent | MaybeSent:
    if isinstance(error, ToolDenied | InvalidInput) and not isinstance(error, TooLarge):
        return NotSent(error.message, hint=error.hint)
    if is_on_its_way:
        return MaybeSent(error.message)
    return NotSent(error.message, hint=error.hint, retryable=_may_pass(error))


def _may_pass(error: PersonaError) -> bool:
    """A network that is away may come back; what was refused for good, or never tried, stays so."""
    causes = list(_chain(error))[1:]
    for cause in causes:
        if isinstance(cause, smtplib.SMTPResponseException):
            return cause.smtp_code < 500
        if isinstance(cause, smtplib.SMTPRecipientsRefused):
            return all(code < 500 for code, _ in cause.recipients.values())
    return bool(causes)


def _never_connected(error: PersonaError) -> bool:
    import httpx2

    before = (
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.LocalProtocolError,
        socket.gaierror,
        UnicodeError,
    )
    return any(isinstance(each, before) for each in _chain(error))


def _was_answered(error: PersonaError) -> bool:
    """Whether the mail server itself said no to what it was given."""
    return any(
        isinstance(each, smtplib.SMTPResponseException | smtplib.SMTPRecipientsRefused)
        for each in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was made of."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdecimal() else None
