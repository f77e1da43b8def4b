"""Every service that apprise knows, by an address that is a secret as a whole.

- apprise and what it sends with log the address, or parts of it: while one is sent, those loggers are silent about it.
- What it says of a failure is read for a status and a known cause; never is any of it repeated.
- An address may ask apprise to retry; it does not: a message is tried again by whoever knows that it did not arrive.
- Its own time limit would send in a small pool of threads, where a service that hangs keeps others waiting: it is off.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from personas_nb.notify.channels import setting
from personas_nb.notify.ways.letter import Letter, MaybeSent, NotSent, shortened

LIMIT_CHARS = 20_000  # the services cut at limits of their own
_LOUD = ("apprise", "requests", "urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry",
         "slixmpp", "paho", "paho.mqtt", "requests_oauthlib", "oauthlib")  # fmt: skip
_TYPES = {"error": "failure", "failure": "failure", "warning": "warning", "success": "success"}
_NOT_REACHED = re.compile(
    "NewConnectionError|NameResolutionError|ConnectTimeout|Failed to establish a new connection|Connection refused|"
    "getaddrinfo|Name or service not known|CERTIFICATE_VERIFY_FAILED"
)

_is_sending: ContextVar[bool] = ContextVar("is_sending", default=False)
_installing = threading.Lock()


def apprise(fields: Mapping[str, str], letter: Letter) -> None:
    """Send to the address ``url``; blocks. Raises ``NotSent`` and ``MaybeSent``."""
    url = setting(fields, "url")
    if not url:
        raise NotSent("The channel has no address.", hint="Such as tgram://… or ntfy://….")
    with _silence():
        said = _Said()
        if not _notified(url, letter, said):
            raise said.problem()


def is_understood(url: str) -> bool:
    """Whether apprise knows what to do with an address; nothing is sent."""
    with _silence():
        return _service(url) is not None


def _service(url: str) -> Any:
    import apprise as library

    asset = library.AppriseAsset(async_mode=False, storage_mode="memory", service_timeout=0)
    try:
        return library.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except Exception:  # 180 parsers of others; what one raises may hold the address
        return None


def _notified(url: str, letter: Letter, said: _Said) -> bool:
    import apprise as library

    service = _service(url)
    if service is None:
        raise NotSent(
            "The address is none that apprise understands.", hint="https://appriseit.com/services lists them."
        )
    service.retry = 0
    service.logger = said
    sender = library.Apprise(asset=service.asset)
    sender.add(service)
    try:
        done = sender.notify(
            title=letter.heading,
            body=shortened(letter.content, LIMIT_CHARS) or letter.heading,
            notify_type=_TYPES.get(letter.content_type.lower(), "info"),
            body_format="text",
        )
    except Exception as error:  # as above
        raise MaybeSent(f"apprise failed while it was sent ({type(error).__name__}).") from None
    return bool(done)


class _Said(logging.Logger):
    """The log of one sending, kept until it is known how that ended; it goes nowhere."""

    def __init__(self) -> None:
        super().__init__("personas_nb.notify.apprise", logging.DEBUG)
        self.propagate = False
        self.lines: list[str] = []

    def handle(self, record: logging.LogRecord) -> None:
        try:
            self.lines.append(record.getMessage())
        except (TypeError, ValueError):  # its arguments do not fit
            self.lines.append(str(record.msg))

    def problem(self) -> NotSent | MaybeSent:
        """Why it was not sent, as far as a status or a known cause tells."""
        text = "\n".join(self.lines)
        if found := re.findall(r"\berror[=:]\s*(\d{3})\b", text):
            status = int(found[-1])
            if status in (408, 504):
                return MaybeSent(f"The service answered {status}.")
            return NotSent(f"The service answered {status}.", retryable=status == 429 or status >= 500)
        if _NOT_REACHED.search(text):
            return NotSent("The service cannot be reached.", hint="Check the network.", retryable=True)
        if re.search("connection error|Socket Exception|timed? ?out", text, re.IGNORECASE):
            return MaybeSent("The connection broke off while it was sent.")
        return NotSent("The service did not take it.", hint="Check the address of the channel.")


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing of this sending is logged by others; what else goes on is logged as ever."""
    with _installing:
        for name in _LOUD:
            logger = logging.getLogger(name)
            if not any(each is _drop_ours for each in logger.filters):
                logger.addFilter(_drop_ours)
    token = _is_sending.set(True)
    try:
        yield
    finally:
        _is_sending.reset(token)


def _drop_ours(_record: logging.LogRecord) -> bool:
    return not _is_sending.get()
