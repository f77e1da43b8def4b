"""A loopback HTTP server that keeps what is posted to it, and answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Post:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    json: Any


@dataclass(frozen=True)
class Reply:
    """One answer; ``cut`` hangs up instead, ``hang`` waits until the server ends."""

    status: int = 200
    body: Any = "ok"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


@dataclass
class Posts:
    """``answer`` is asked with each request and how many came to its path before."""

    url: str = ""
    received: list[Post] = field(default_factory=list)
    answer: Callable[[Post, int], Reply] = lambda _post, _count: Reply()
    over: threading.Event = field(default_factory=threading.Event)

    def of(self, path: str) -> list[Post]:
        return [post for post in self.received if post.path == path]

    def texts(self, path: str) -> list[str]:
        return [post.json["text"] for post in self.of(path)]


@contextmanager
def posts() -> Iterator[Posts]:
    """A running server."""
    state = Posts()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            post = Post(self.path, headers, json.loads(body) if body else None)
            before = len(state.of(post.path))
            state.received.append(post)
            reply = state.answer(post, before)
            if reply.hang:
                state.over.wait(60)
            if reply.hang or reply.cut:
                self.close_connection = True
                return
            said = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            self.send_response(reply.status)
            for name, value in {**reply.headers, "content-length": str(len(said.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_arguments: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.over.set()
            server.shutdown()
            thread.join()
