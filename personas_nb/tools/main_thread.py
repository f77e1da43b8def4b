"""Calls that only the kernel's main thread may do, while a cell waits there for their run.

matplotlib, most GUI toolkits and some database drivers want the thread that they were loaded in. The cell that
waits for a run sits in it, and does such calls between two looks at the run. Where no cell waits (a run in the
background, one that a trigger started), there is nobody to do them, and the call is refused with a sentence.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from typing import Any

from personas_nb.errors import ToolDenied, ToolError

INTERRUPT_SECONDS = 5.0
WAIT_SECONDS = 0.5
_desks: dict[str, Desk] = {}


class Desk:
    """The thread that waits for one run; with ``loop`` it awaits, and its event loop does the calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._is_open = threading.current_thread() is threading.main_thread()
        self._lock = threading.Lock()

    def put(self, action: Callable[[], Any]) -> Future[Any] | None:
        """Have an action done; None where nobody does any more."""
        call = _Call(action)
        with self._lock:
            if not self._is_open:
                return None
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call.do_quietly)
            else:
                self._calls.put(call)
        return call.future

    def serve_until(self, ended: Future[Any], timeout: float | None) -> bool:
        """Do calls until the future is done, or for so long; whether it is done."""
        if not self._is_open:
            return bool(wait([ended], timeout).done)
        ended.add_done_callback(lambda _: self._calls.put(None))
        deadline = None if timeout is None else time.monotonic() + timeout
        while not ended.done():
            left = WAIT_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            # Not for ever: an interrupt that comes just before the wait begins is only seen after it.
            with suppress(queue.Empty):
                call = self._calls.get(timeout=min(left, WAIT_SECONDS))
                if call is not None:
                    call.do()
        return True

    def serve(self) -> None:
        """Do the calls that wait now."""
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                call.do()

    def close(self) -> None:
        """Nobody waits any more: what was not begun is refused."""
        with self._lock:
            self._is_open = False
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None and call.future.set_running_or_notify_cancel():
                call.future.set_exception(_nobody_waits())


class _Call:
    """One action, done at most once, and never after it was cancelled."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._action = action

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._action())
        except KeyboardInterrupt:
            # Of the cell, which is about to cancel the run: an answer now would let the model go on meanwhile.
            timer = threading.Timer(INTERRUPT_SECONDS, self._interrupted)
            timer.daemon = True
            timer.start()
            raise
        except BaseException as error:  # handed on to whoever waits for the call
            self.future.set_exception(error)

    def _interrupted(self) -> None:
        self.future.set_exception(ToolError("The person interrupted the call.", hint="Go on without it."))

    def do_quietly(self) -> None:
        """``do`` for an event loop, which an interrupt that is raised would end."""
        with suppress(KeyboardInterrupt):
            self.do()


@contextmanager
def attended(execution_id: str, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[Desk]:
    """While this lasts, the calling thread does the calls of that run, if it is the main one."""
    desk = Desk(loop)
    before = _desks.get(execution_id)
    _desks[execution_id] = desk
    try:
        yield desk
    finally:
        if _desks.get(execution_id) is desk:
            if before is None:
                del _desks[execution_id]
            else:
                _desks[execution_id] = before
        desk.close()


async def on_main_thread(execution_id: str, action: Callable[[], Any]) -> Any:
    """What the action returns, done by the main thread; raises ``ToolDenied`` where no cell waits for the run."""
    desk = _desks.get(execution_id)
    future = desk.put(action) if desk is not None else None
    if future is None:
        raise _nobody_waits()
    return await asyncio.wrap_future(future)


def _nobody_waits() -> ToolDenied:
    return ToolDenied(
        "This tool runs on the notebook's main thread, and no cell waits for this run.",
        hint="Go on without it, and say so; started with `%persona run`, without --background, the run can use it.",
    )
