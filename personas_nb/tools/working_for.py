"""Which run a function of the notebook works for while it is called: what it publishes is what the run publishes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_RUN: ContextVar[str | None] = ContextVar("run that a tool works for", default=None)


def current_run() -> str | None:
    """The id of the run whose tool this code is called by; None where no tool calls it."""
    return _RUN.get()


@contextmanager
def working_for(execution_id: str) -> Iterator[None]:
    """While this lasts, code of this thread or task works for that run."""
    token = _RUN.set(execution_id or None)
    try:
        yield
    finally:
        _RUN.reset(token)
