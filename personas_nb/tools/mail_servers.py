"""Connections to mail servers: encrypted, with time limits, and every failure a sentence.

- Ports 143, 25 and 587 begin in the clear and switch to TLS before anything is said. Any other speaks TLS at once;
  where the server turns out to begin in the clear, it is asked again that way, but for the two ports (993, 465)
  that are for TLS alone.
- A server that offers no TLS gets no password, unless it is this machine and ``mail_without_tls`` allows it.
- A connection is cut off when its time is over, also from a server that sends a byte now and then.
"""

from __future__ import annotations

import imaplib
import ipaddress
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from personas_nb.errors import PersonaError, ToolError, ToolTimeout
from personas_nb.settings import Settings
from personas_nb.vault.access import Opened

if TYPE_CHECKING:
    from imap_tools.mailbox import BaseMailBox

ANSWER_SECONDS = 20.0  # of one answer of a server

_IN_THE_CLEAR = (143, 25, 587)
_TLS_ALONE = (993, 465)
_SAID_CHARS = 300

Connected = TypeVar("Connected")


@dataclass(frozen=True)
class Server:
    """Where a mail server is, and who logs in there."""

    protocol: str
    host: str
    port: int
    credential: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"<{self.protocol} {self.host}:{self.port} as {self.user!r}>"

    @property
    def is_here(self) -> bool:
        """Whether it is this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


def imap_server(opened: Opened) -> Server:
    """The IMAP server of a credential; raises ``ToolError`` for one that has none, as an SMTP credential."""
    return _server("IMAP", opened, ("imap_host",), ("imap_port",), 993)


def smtp_server(opened: Opened) -> Server:
    """The SMTP server of a credential."""
    return _server("SMTP", opened, ("smtp_host", "host"), ("smtp_port", "port"), 465)


@contextmanager
def mailbox(opened: Opened, settings: Settings, *, readonly: bool = True) -> Iterator[BaseMailBox]:
    """The inbox of a credential, selected; logged out at the end."""
    from imap_tools.errors import MailboxLoginError

    server = imap_server(opened)
    with _in_words(server, settings):
        box = _connected(server, settings, _imap_over_tls, _imap_in_the_clear)
        with _limited(box.client.sock, settings):
            try:
                _check_line(server)
                if f"{server.user}{server.password}".isascii():
                    box.login(server.user, server.password, initial_folder=None)
                else:
                    box.login_utf8(server.user, server.password, initial_folder=None)
            except (MailboxLoginError, imaplib.IMAP4.abort) as error:
                _drop(box.client.shutdown)
                if isinstance(error, imaplib.IMAP4.abort):
                    raise
                raise _refused_login(server) from None
            except imaplib.IMAP4.error:  # how AUTHENTICATE says no
                _drop(box.client.shutdown)
                raise _refused_login(server) from None
            try:
                box.folder.set("INBOX", readonly=readonly)
                yield box
            finally:
                _drop(box.client.logout)


@contextmanager
def submission(opened: Opened, settings: Settings) -> Iterator[smtplib.SMTP]:
    """A connection that mails can be sent over, logged in."""
    server = smtp_server(opened)
    with _in_words(server, settings):
        client = _connected(server, settings, _smtp_over_tls, _smtp_in_the_clear)
        with _limited(client.sock, settings):
            try:
                _check_line(server)
                try:
                    client.login(server.user, server.password)
                except smtplib.SMTPAuthenticationError:
                    raise _refused_login(server) from None
                yield client
            finally:
                _drop(client.quit)


# --- connecting -----------------------------------------------------------------------------------------------


def _connected(
    server: Server,
    settings: Settings,
    over_tls: Callable[[Server, ssl.SSLContext], Connected],
    in_the_clear: Callable[[Server, ssl.SSLContext, bool], Connected],
) -> Connected:
    context = ssl.create_default_context()
    may_be_plain = server.is_here and settings.mail_without_tls == "loopback"
    if server.port not in _IN_THE_CLEAR:
        try:
            return over_tls(server, context)
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            # What a server answers that waits for a command in the clear.
            if (
                error.reason not in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
                or server.port in _TLS_ALONE
            ):
                raise
    return in_the_clear(server, context, may_be_plain)


def _imap_over_tls(server: Server, context: ssl.SSLContext) -> BaseMailBox:
    from imap_tools import MailBox

    return MailBox(server.host, server.port, timeout=ANSWER_SECONDS, ssl_context=context)


def _imap_in_the_clear(server: Server, context: ssl.SSLContext, may_be_plain: bool) -> BaseMailBox:
    from imap_tools import MailBoxUnencrypted

    box = MailBoxUnencrypted(server.host, server.port, timeout=ANSWER_SECONDS)
    try:
        if "STARTTLS" in box.client.capabilities:
            box.client.starttls(context)
        elif not may_be_plain:
            raise _offers_no_tls(server)
    except BaseException:
        _drop(box.client.shutdown)
        raise
    return box


def _smtp_over_tls(server: Server, context: ssl.SSLContext) -> smtplib.SMTP:
    return smtplib.SMTP_SSL(
        server.host, server.port, local_hostname=_US, timeout=ANSWER_SECONDS, context=context
    )


def _smtp_in_the_clear(server: Server, context: ssl.SSLContext, may_be_plain: bool) -> smtplib.SMTP:
    client = smtplib.SMTP(server.host, server.port, local_hostname=_US, timeout=ANSWER_SECONDS)
    try:
        client.ehlo_or_helo_if_needed()
        if client.has_extn("starttls"):
            client.starttls(context=context)
            client.ehlo()
        elif not may_be_plain:
            raise _offers_no_tls(server)
    except BaseException:
        _drop(client.close)
        raise
    return client


_US = "[127.0.0.1]"  # asking for this machine's name may take seconds, and tells it to the server


def _server(
    protocol: str, opened: Opened, hosts: tuple[str, ...], ports: tuple[str, ...], default_port: int
) -> Server:
    host = _first(opened, *hosts)
    if not host:
        raise ToolError(
            f"The credential “{opened.name}” ({opened.connector}) has no {protocol} server.",
            hint="It needs a gmail credential."
            if protocol == "IMAP"
            else "Its connector needs a field host.",
        )
    port = _first(opened, *ports) or str(default_port)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ToolError(f"The {protocol} port of the credential “{opened.name}” is no port: “{port[:20]}”.")
    user, password = _first(opened, "user", "username"), _first(opened, "app_password", "password")
    if not user or not password:
        missing = "password" if user else "user"
        raise ToolError(
            f"The credential “{opened.name}” has no {missing}.",
            hint=f"A person gives it with `%persona credentials add {opened.name} {opened.connector}`.",
        )
    return Server(protocol, host, int(port), opened.name, user, password)


def _first(fields: Mapping[str, str], *names: str) -> str:
    return next((fields[name].strip() for name in names if fields.get(name, "").strip()), "")


def _check_line(server: Server) -> None:
    if any(ord(sign) < 32 for sign in server.user + server.password):  # would begin another command
        raise ToolError(f"User or password of the credential “{server.credential}” has several lines.")


# --- time and errors ----------------------------------------------------------------------------------------------


@contextmanager
def _limited(sock: socket.socket | None, settings: Settings) -> Iterator[None]:
    """Cut the connection off when its time is over; raises ``TimeoutError`` then."""
    is_over = threading.Event()

    def cut() -> None:
        is_over.set()
        with suppress(OSError):
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(settings.mail_timeout_ms / 1000, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except PersonaError:
        raise
    except Exception:
        if is_over.is_set():
            raise _TookTooLong from None
        raise
    finally:
        timer.cancel()


class _TookTooLong(Exception):
    """The connection was cut off because its time was over."""


@contextmanager
def _in_words(server: Server, settings: Settings) -> Iterator[None]:
    from imap_tools.errors import ImapToolsError

    try:
        yield
    except PersonaError:
        raise
    except _TookTooLong:
        raise ToolTimeout(
            f"{server.host} took longer than {settings.mail_timeout_ms / 1000:g} s.",
            hint="Ask for less at once.",
        ) from None
    except (
        OSError, imaplib.IMAP4.error, smtplib.SMTPException, ImapToolsError, EOFError, UnicodeError,
    ) as error:  # fmt: skip
        raise _sentence(server, error) from None
    except ValueError as error:  # imaplib, for an answer that is none
        raise ToolError(f"{server.host} does not speak {server.protocol}: {type(error).__name__}.") from None


def _sentence(server: Server, error: Exception) -> ToolError:
    host, where = server.host, f"{server.host}:{server.port}"
    match error:
        case ssl.SSLCertVerificationError():
            return ToolError(f"The certificate of {where} cannot be trusted: {error.verify_message}.")
        case ssl.SSLEOFError() | smtplib.SMTPServerDisconnected() | imaplib.IMAP4.abort() | EOFError():
            return ToolError(f"{host} broke off the connection.", retryable=True)
        case ssl.SSLError():
            return ToolError(f"{where} does not speak TLS as it should.", hint="Perhaps the port is another.")
        case socket.gaierror() | UnicodeError():  # the latter for what can be no name at all
            return ToolError(f"The host “{host}” has no address.", hint="Check its spelling and the network.")
        case TimeoutError():
            return ToolTimeout(f"{where} did not answer within {ANSWER_SECONDS:g} s.")
        case ConnectionRefusedError():
            return ToolError(f"{where} refused the connection.", hint="Check the port.", retryable=True)
        case ConnectionError():
            return ToolError(f"{host} broke off the connection.", retryable=True)
        case smtplib.SMTPRecipientsRefused():
            said = ", ".join(f"{who} ({_said(code, text)})" for who, (code, text) in error.recipients.items())
            return ToolError(f"{host} refused every recipient: {said}.", hint="Check the addresses.")
        case smtplib.SMTPSenderRefused():
            what = _said(error.smtp_code, error.smtp_error)
            return ToolError(f"{host} does not send mails from {error.sender}: {what}.")
        case smtplib.SMTPConnectError():
            return ToolError(
                f"{host} does not want to talk: {_said(error.smtp_code, error.smtp_error)}.", retryable=True
            )
        case smtplib.SMTPResponseException():
            return ToolError(f"{host} refused: {_said(error.smtp_code, error.smtp_error)}.")
        case smtplib.SMTPNotSupportedError():
            return ToolError(f"{host} cannot do what is needed: {_line(str(error))}")
        case imaplib.IMAP4.error() | smtplib.SMTPException():
            return ToolError(f"{host} does not speak {server.protocol} as it should: {_line(str(error))}.")
        case OSError():
            return ToolError(f"{where} cannot be reached.", hint="Check the network.", retryable=True)
    _, answer = getattr(error, "command_result", ("", ()))
    words = b" ".join(part for part in answer if isinstance(part, bytes)).decode("utf-8", "replace")
    return ToolError(f"{host} refused: {_line(words) or type(error).__name__}.")


def _refused_login(server: Server) -> ToolError:
    return ToolError(
        f"{server.host} refused the login of “{server.user}”.",
        hint=f"Go on without it and say so; a person looks with `%persona credentials check {server.credential}`.",
    )


def _offers_no_tls(server: Server) -> ToolError:
    hint = "It is this machine: the setting mail_without_tls=loopback allows that." if server.is_here else ""
    return ToolError(f"{server.host}:{server.port} offers no encryption, so it got no password.", hint=hint)


def _said(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return f"{code} {_line(words)}".strip()


def _line(text: str) -> str:
    return " ".join(text.split())[:_SAID_CHARS].rstrip(".")


def _drop(close: Callable[[], object]) -> None:
    """Hang up; whatever goes wrong with that changes nothing any more."""
    with suppress(Exception):
        close()
