"""The HTTP server of the model gateway, on loopback. Import it lazily: it loads tornado's web server.

Nothing in here is logged: the path of a request holds the token of its run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

from personas_nb.engine.model_gateway import COUNT_TOKENS, MESSAGES, GatewayRun

_NO_LIMIT_BYTES = 1 << 62  # the handler has one of its own, and answers in words


class GatewayServer:
    """Listens on a free port of 127.0.0.1, on the running loop, until ``close``."""

    def __init__(self, run_of: Callable[[str], GatewayRun | None], body_limit_bytes: int) -> None:
        application = Application(
            [(r".*", _Handler, {"run_of": run_of, "body_limit_bytes": body_limit_bytes})],
            log_function=lambda _handler: None,
        )
        sockets = bind_sockets(0, "127.0.0.1")
        self.port: int = sockets[0].getsockname()[1]
        self._server = HTTPServer(application, max_body_size=_NO_LIMIT_BYTES)
        self._server.add_sockets(sockets)

    async def close(self) -> None:
        """Stop listening, and close every connection."""
        self._server.stop()
        await self._server.close_all_connections()


@stream_request_body
class _Handler(RequestHandler):
    """Finds the run of a request, collects its body, and is the way back to the client."""

    def initialize(self, run_of: Callable[[str], GatewayRun | None], body_limit_bytes: int) -> None:
        self._run_of, self._left_bytes = run_of, body_limit_bytes
        self._run: GatewayRun | None = None
        self._target = ""
        self._body: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Before the body: what is not for a run ends here."""
        token, _, rest = self.request.path.removeprefix("/").partition("/")
        is_probe = self.request.method in ("GET", "HEAD") and not rest
        if self.request.path == "/" and is_probe:
            self.finish()
            return
        run = self._run_of(token)
        self._target = f"/{rest}"
        if run is not None and is_probe:
            self.finish()
        elif run is not None and self.request.method == "POST" and self._target in (MESSAGES, COUNT_TOKENS):
            self._run = run
        else:
            self.set_status(404)
            self.finish()

    def data_received(self, chunk: bytes) -> None:
        """A piece of the body; of one that is too long, nothing is kept."""
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            self._body.clear()
        else:
            self._body.append(chunk)

    async def post(self) -> None:
        """The body is here."""
        assert self._run is not None
        body = None if self._left_bytes < 0 else b"".join(self._body)
        self._body.clear()
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        self._task = self._run.answer(self, self._target, self.request.query, headers, body)
        await asyncio.wait([self._task])
        if self._task.cancelled():  # before it began
            self.abort()

    def on_connection_close(self) -> None:
        """The client has left: nobody needs the rest of its answer."""
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the answer."""
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)

    async def send(self, data: bytes) -> None:
        """A piece of the answer, once the client's side has room for it."""
        self.write(data)
        try:
            await self.flush()
        except StreamClosedError:
            raise ConnectionResetError("the client has left") from None

    def abort(self) -> None:
        """Close the connection in the middle of the answer."""
        connection: Any = self.request.connection
        connection.close()

    def set_default_headers(self) -> None:
        """Say nothing about what serves it."""
        self.clear_header("Server")

    def compute_etag(self) -> None:
        """No caching."""

    def write_error(self, status_code: int, **_: Any) -> None:
        """An error without a page."""
        self.set_status(status_code)
        self.finish()

    def log_exception(self, *_: Any) -> None:
        """Keep the path out of every log."""
