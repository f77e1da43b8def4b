"""A real SMTP server (aiosmtpd) on loopback: TLS at once, after STARTTLS, or none; it keeps what it is sent."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

from support.ports import free_ports
from support.tls import Certificate

USER = "ann@example.com"
PASSWORD = "app-password-0123"


@dataclass
class Received:
    """One mail as the server got it."""

    sender: str
    recipients: list[str]
    mail: EmailMessage


@dataclass
class Smtp:
    """``refused`` are recipients that it refuses; ``drops`` hangs up in the middle of the mail."""

    port: int
    received: list[Received] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    drops: bool = False
    logins: list[tuple[str, str]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.refused:
            return "550 No such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.received.append(Received(envelope.mail_from, list(envelope.rcpt_tos), mail))
        if self.drops:
            server.transport.abort()
        return "250 OK"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        return AuthResult(success=login == (USER, PASSWORD), handled=False)


@contextmanager
def smtp(certificate: Certificate, tls: Literal["at once", "starttls", "none"] = "at once") -> Iterator[Smtp]:
    """A running server."""
    from aiosmtpd.controller import Controller

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    state = Smtp(free_ports(1)[0])
    controller = Controller(
        state,
        hostname="127.0.0.1",
        port=state.port,
        ssl_context=context if tls == "at once" else None,
        tls_context=context if tls == "starttls" else None,
        require_starttls=tls == "starttls",
        authenticator=state.authenticate,
        auth_required=True,
        auth_require_tls=tls == "starttls",
        enable_SMTPUTF8=True,
    )
    try:
        controller.start()
        yield state
    finally:
        controller.stop(no_assert=True)
