"""A guard that keeps a test from talking to anything but this machine.

In a conftest:

    @pytest.fixture(autouse=True)
    def _no_real_hosts() -> Iterator[None]:
        with forbid_real_model_hosts():
            yield

It covers this process: a child process has a socket module of its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any


class RealHostForbidden(RuntimeError):
    """A test tried to reach a host that is not this machine."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"A test tried to reach {host}; tests talk to 127.0.0.1 only. "
            "Point the client at a ModelServer (support.model_server)."
        )


@contextlib.contextmanager
def forbid_real_model_hosts() -> Iterator[None]:
    """Make every look-up of and connection to a host that is not this machine raise ``RealHostForbidden``.

    It is raised once more at the end when something has swallowed it: the providers' clients take any error
    for a connection that failed.
    """
    attempts: list[str] = []
    plain = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
    look_up = socket.getaddrinfo

    def check(host: Any) -> None:
        if not _is_here(host):
            attempts.append(str(host))
            raise RealHostForbidden(str(host))

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, *arguments: Any) -> Any:
            address = arguments[-1]
            if isinstance(address, tuple):
                check(address[0])
            return method(self, *arguments)

        return call

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        check(host)
        return look_up(host, *arguments, **options)

    with contextlib.ExitStack() as undo:
        for name, method in plain.items():
            undo.callback(setattr, socket.socket, name, method)
            setattr(socket.socket, name, guarded(method))
        undo.callback(setattr, socket, "getaddrinfo", look_up)
        socket.getaddrinfo = guarded_look_up
        yield
    if attempts:
        raise RealHostForbidden(attempts[0])


def _is_here(host: Any) -> bool:
    """Whether a host of getaddrinfo or of an address is this machine; None and "" mean any local one."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name in ("localhost", socket.gethostname()) or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    # 0.0.0.0 and :: are what a listener binds, and connect to this machine
    return address.is_loopback or address.is_unspecified
