"""Requests to model servers go through several small pools of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest

from personas_nb.engine.lanes import LANES, Lanes
from personas_nb.engine.model_clients import ModelClients


class Server:
    """A real one on loopback: counts its connections, answers ``/cut`` with less than it announced."""

    def __init__(self) -> None:
        self.connections, self.gate = 0, asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
                await writer.drain()
                if b"/cut" in head:
                    break
                await self.gate.wait()
                writer.write(b"cd")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def run() -> Callable[[Callable[[Server, str, Lanes], Awaitable[None]]], None]:
    async def served(test: Callable[[Server, str, Lanes], Awaitable[None]]) -> None:
        server, lanes = Server(), Lanes()
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            await asyncio.wait_for(test(server, url, lanes), 20)
        finally:
            await lanes.aclose()
            listening.close()

    return lambda test: asyncio.run(served(test))


async def begun(lanes: Lanes, url: str) -> tuple[httpx2.Response, AsyncIterator[bytes]]:
    response = await lanes.handle_async_request(httpx2.Request("GET", url))
    body = response.aiter_raw()
    assert await anext(body) == b"ab"
    return response, body


def test_requests_at_once_use_as_many_lanes_as_there_are(run):
    async def test(server: Server, url: str, lanes: Lanes) -> None:
        answers = [await begun(lanes, url) for _ in range(2 * LANES)]
        assert lanes.in_use == [2] * LANES
        server.gate.set()
        for response, body in answers:
            assert [piece async for piece in body] == [b"cd"]
            await response.aclose()
        assert lanes.in_use == [0] * LANES

    run(test)


def test_one_request_after_another_keeps_its_connection(run):
    async def test(server: Server, url: str, lanes: Lanes) -> None:
        server.gate.set()
        for _ in range(5):
            response = await lanes.handle_async_request(httpx2.Request("GET", url))
            assert await response.aread() == b"abcd"
        assert server.connections == 1

    run(test)


def test_an_answer_that_is_closed_twice_leaves_its_lane_once(run):
    async def test(_server: Server, url: str, lanes: Lanes) -> None:
        first, _body = await begun(lanes, url)
        second, _other = await begun(lanes, url)
        await first.stream.aclose()
        await first.stream.aclose()
        assert sum(lanes.in_use) == 1
        await second.aclose()

    run(test)


def test_what_fails_leaves_its_lane(run):
    async def test(_server: Server, url: str, lanes: Lanes) -> None:
        with pytest.raises(httpx2.ConnectError):
            await lanes.handle_async_request(httpx2.Request("GET", "http://127.0.0.1:9"))
        response, body = await begun(lanes, f"{url}/cut")
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(body)
        await response.aclose()
        cancelled = asyncio.ensure_future(lanes.handle_async_request(httpx2.Request("GET", url)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert lanes.in_use == [0] * LANES

    run(test)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    async def test() -> None:
        server = Server()
        server.gate.set()
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        clients = ModelClients()
        try:
            answer = await clients.http.get("http://models.example.invalid/v1")
            assert answer.text == "abcd"
        finally:
            await clients.close()
            listening.close()

    asyncio.run(test())
