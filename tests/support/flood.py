"""Many HTTP requests at once, as fast as a few connections take them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What came of them: the status of each and how long its answer took, in the order of the answers."""

    statuses: list[int] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, status: int) -> int:
        return self.statuses.count(status)

    def percentile(self, share: float) -> float:
        """The latency in ms that this share of the answers did not exceed."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A POST, as bytes."""
    head = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **headers,
    }
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + body


async def flood(port: int, requests: Iterable[bytes], connections: int) -> Outcome:
    """Send all of them over so many connections, each waiting for an answer before it sends the next."""
    outcome, waiting = Outcome(), iter(requests)
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_send(port, waiting, outcome))
    outcome.seconds = time.perf_counter() - begun
    return outcome


async def _send(port: int, requests: Iterator[bytes], outcome: Outcome) -> None:
    reader = writer = None
    for one in requests:
        if writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert reader is not None
        begun = time.perf_counter()
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        await reader.readexactly(length)
        outcome.latencies_ms.append((time.perf_counter() - begun) * 1000)
        outcome.statuses.append(int(lines[0].split()[1]))
        if "connection: close" in lines:  # what needs no body is answered before it came
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()
