"""Connections to model servers, in several small pools instead of a large one. Import it lazily: it loads httpx2.

A pool looks at every connection that it has when a request begins and when one ends, idle ones with a call of the
system each: with a hundred runs at once that is a tenth of all the work. In small pools there is little to look at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2

LANES = 16
KEPT_CONNECTIONS = 8
MOST_CONNECTIONS = 64  # of one lane; runs have a limit of their own


class Lanes(httpx2.AsyncBaseTransport):
    """Sends each request through the least used of several transports, the first of those that are alike.

    ``in_use`` says how many answers of each are not closed yet.
    """

    def __init__(self) -> None:
        context = httpx2.create_ssl_context()  # one for all: it reads the certificates
        limits = httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=KEPT_CONNECTIONS)
        self._lanes = [httpx2.AsyncHTTPTransport(verify=context, limits=limits) for _ in range(LANES)]
        self.in_use = [0] * LANES

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; its lane is in use until the answer is closed."""
        number = min(range(LANES), key=self.in_use.__getitem__)
        self.in_use[number] += 1
        try:
            response = await self._lanes[number].handle_async_request(request)
        except BaseException:
            self.in_use[number] -= 1
            raise
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Watched(response.stream, lambda: self._leave(number))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for lane in self._lanes:
            await lane.aclose()

    def _leave(self, number: int) -> None:
        self.in_use[number] -= 1


class _Watched(httpx2.AsyncByteStream):
    """A body that says once that it was closed."""

    def __init__(self, stream: httpx2.AsyncByteStream, on_close: Callable[[], None]) -> None:
        self._stream = stream
        self._on_close: Callable[[], None] | None = on_close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        on_close, self._on_close = self._on_close, None
        try:
            await self._stream.aclose()
        finally:
            if on_close is not None:
                on_close()
