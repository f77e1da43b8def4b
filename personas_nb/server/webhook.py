"""The webhook door: the only route that is open without a login. What opens it is a signature.

- A body is read up to its limit, and for so long. Of one that is too long, or whose headers are reason enough to
  refuse it, nothing is kept; what comes of it is thrown away, since many senders read no answer before they have sent
  all. One that is too long is answered after a moment in any case, and the connection ends with it.
- Refused requests do not fill the server's log: what was refused is counted, and said once in a minute.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from http.client import responses
from logging import Logger
from typing import Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from tornado.web import HTTPError, stream_request_body

from personas_nb.errors import PersonaError
from personas_nb.server.host import Host, host_of
from personas_nb.triggers.door import BODY_LIMIT_BYTES, Taken
from personas_nb.triggers.signatures import Refusal, Signed, read_signature

BODY_SECONDS = 30.0
LINGER_SECONDS = 1.0
LINGER_BYTES = 8 * BODY_LIMIT_BYTES
LOG_SECONDS = 60.0
RETRY_SECONDS = 10


@stream_request_body
class WebhookHandler(JupyterHandler):
    """Takes ``POST <base_url>/personas/webhook/<trigger id>``."""

    signed: Signed | None = None
    refusal: Refusal | None = None
    body: bytearray
    thrown_away_bytes = 0

    def check_xsrf_cookie(self) -> None:
        """None is asked for: whoever posts here has no cookie, and signs."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Refuse what needs no body to be refused. Who is logged in does not matter, and is not looked up."""
        self.current_user = self._jupyter_current_user = None
        self.body = bytearray()
        if self.request.method != "POST":
            return
        self._connection.set_body_timeout(BODY_SECONDS)
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > BODY_LIMIT_BYTES:
            self._throw_away()
            # With Expect the sender waits for our word before it sends anything.
            if "Expect" in self.request.headers or int(length) > BODY_LIMIT_BYTES + LINGER_BYTES:
                self._cut()
            return
        signed = read_signature(self.request.headers, time.time())
        if isinstance(signed, Signed):
            self.signed = signed
            return
        self.refusal = signed
        try:
            self.refusal = await self._host.ask(lambda door: door.look(self.path_args[0])) or signed
        except PersonaError as error:
            self._unable(error)

    def data_received(self, chunk: bytes) -> None:
        """A part of the body; none is kept beyond the limit, or of what is refused."""
        if self.refusal is None:
            self.body += chunk
            if len(self.body) > BODY_LIMIT_BYTES:
                self._throw_away()
            return
        self.thrown_away_bytes += len(chunk)
        if self.thrown_away_bytes > LINGER_BYTES:
            self._cut()

    @allow_unauthenticated
    async def post(self, trigger_id: str) -> None:
        """Start the persona, once per delivery."""
        if self.signed is None or self.refusal is not None:
            self._cut()
            return
        signed, headers, body = self.signed, self.request.headers, bytes(self.body)
        try:
            checked = await self._host.ask(lambda door: door.check(trigger_id, signed, headers, body))
            taken = checked if isinstance(checked, Refusal) else await self._host.write(checked)
            if isinstance(taken, Refusal):
                self._refuse(taken)
                return
            if taken.status == "queued" and not taken.is_repeat:
                await self._host.serve()
        except PersonaError as error:
            self._unable(error)
            return
        self._answer(200 if taken.is_repeat else 202, _said(taken))

    @allow_unauthenticated
    async def get(self, trigger_id: str) -> None:  # noqa: ARG002 - a part of the route
        """Nothing is to be had here."""
        self.set_header("Allow", "POST")
        self._refuse(Refusal(405, "A webhook takes POST."))

    head = put = patch = delete = options = get

    @property
    def _host(self) -> Host:
        return host_of(self.settings)

    @property
    def _connection(self) -> Any:
        return self.request.connection

    def _throw_away(self) -> None:
        """The body is too long: keep nothing of it, and answer soon."""
        self.refusal = Refusal(413, f"The body is longer than {BODY_LIMIT_BYTES:,} bytes.")
        self.body.clear()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._cut)

    def _cut(self) -> None:
        """Refuse, once. Tornado ends the connection where something of the body is still to come."""
        if self.refusal is not None and not self._finished:
            self._refuse(self.refusal)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.retry_seconds:
            self.set_header("Retry-After", str(math.ceil(refusal.retry_seconds)))
        if refusal.status == 401:
            self.set_header("WWW-Authenticate", "Signature")
        refusals_of(self.settings, self.log).note(refusal.status)
        self._answer(refusal.status, {"message": refusal.reason})

    def _unable(self, error: PersonaError) -> None:
        """The sender learns that it may try again; what is wrong here is for this server's log."""
        self.log.error("personas_nb: a webhook could not be taken: %s", error)
        self.set_header("Retry-After", str(RETRY_SECONDS))
        self._answer(503, {"message": "The webhook cannot be taken at the moment."})

    def write_error(self, status_code: int, **_error: Any) -> None:
        """What tornado refuses by itself: a method that nobody knows, an address that is no text."""
        if status_code == 405:
            self.set_header("Allow", "POST")
        self._refuse(Refusal(status_code, f"{responses.get(status_code, 'Unknown')}."))

    def log_exception(self, typ: Any, value: BaseException | None, tb: Any) -> None:
        """A refusal is counted; anything else is a mistake of ours, and logged."""
        if not isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)

    def _answer(self, status: int, said: Mapping[str, Any]) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(said))

    def _log(self) -> None:
        self.log.debug("%s webhook %s", self.get_status(), self.request.path)


class Refusals:
    """Counts what was refused and says so at most once in ``LOG_SECONDS``."""

    def __init__(self, log: Logger) -> None:
        self._log, self._counts, self._said_at = log, Counter[int](), -LOG_SECONDS

    def note(self, status: int) -> None:
        """One more."""
        self._counts[status] += 1
        if (at := time.monotonic()) - self._said_at >= LOG_SECONDS:
            counted = ", ".join(f"{count} × {status}" for status, count in sorted(self._counts.items()))
            self._log.warning("personas_nb: webhook requests refused: %s", counted)
            self._said_at = at
            self._counts.clear()


def refusals_of(settings: dict[str, Any], log: Logger) -> Refusals:
    """The counter of this server."""
    return cast("Refusals", settings.setdefault("personas_nb_refusals", Refusals(log)))


def _said(taken: Taken) -> dict[str, Any]:
    said: dict[str, Any] = {"id": taken.id, "status": taken.status}
    if taken.reason:
        said["reason"] = taken.reason
    if taken.is_repeat:
        said["repeated"] = True
    return said
