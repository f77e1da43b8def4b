"""What happens while a design is made: shown at once to whoever watches, and stored in small batches.

- Who watches is known to the coroutine that works, and to those that it starts: nothing is registered anywhere.
- The loop never waits on the disk: moments are written by a thread, together with the look for a cancellation.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, cast

from personas_nb.entities.design import DesignEvent
from personas_nb.store.design import DesignEvents

T = TypeVar("T")
Watcher = Callable[[DesignEvent], None]
TEXT_MAX = 500
LEAVE_SECONDS = 3.0

_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher of a design", default=None)


class Progress:
    """The moments of one step; `say` from the loop, `store` from a thread."""

    def __init__(self, session_id: str, redact: Callable[[str], str] = str) -> None:
        self.session_id = session_id
        self._redact = redact
        self._waiting: list[DesignEvent] = []

    def say(self, kind: str, text: str) -> None:
        """Something has happened; ``kind`` is the type of the event."""
        fields = {"session_id": self.session_id, "type": kind, "text": self._redact(text)[:TEXT_MAX]}
        event = DesignEvent.model_validate(fields)
        self._waiting.append(event)
        watcher = _WATCHER.get()
        if watcher is not None:
            watcher(event)

    def belongs_to(self, session_id: str) -> None:
        """What was said until now, and from now on, is of that session."""
        self.session_id = session_id
        self._waiting = [event.changed(session_id=session_id) for event in self._waiting]

    def store(self, events: DesignEvents) -> None:
        """Write what was said since the last time."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            events.append(waiting)


class Following(Generic[T]):
    """A step under way in the background, to be watched: ``batches`` while it goes on, then ``result``."""

    def __init__(
        self, start: Callable[[Coroutine[Any, Any, T]], Future[T]], step: Coroutine[Any, Any, T]
    ) -> None:
        self._queue: queue.SimpleQueue[DesignEvent | None] = queue.SimpleQueue()
        self._future = start(self._watched(step))

    async def _watched(self, step: Coroutine[Any, Any, T]) -> T:
        _WATCHER.set(self._queue.put)
        try:
            return await step
        finally:
            self._queue.put(None)

    def batches(self, tick_seconds: float) -> Iterator[list[DesignEvent]]:
        """New moments until the step has ended; an empty list when a tick has passed without any."""
        while True:
            batch: list[DesignEvent | None] = []
            with suppress(queue.Empty):
                batch.append(self._queue.get(timeout=tick_seconds))
                while batch[-1] is not None:
                    batch.append(self._queue.get_nowait())
            if batch and batch[-1] is None:
                yield cast("list[DesignEvent]", batch[:-1])
                return
            yield cast("list[DesignEvent]", batch)
            if self._future.done():
                return

    def result(self) -> T:
        """What the step returned; raises what it raised."""
        return self._future.result()

    def cancel(self) -> None:
        """End the step, and wait until its session is at rest again."""
        self._future.cancel()
        with suppress(queue.Empty):
            while self._queue.get(timeout=LEAVE_SECONDS) is not None:
                pass


def in_a_thread(step: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on an event loop of its own; for where there is no worker."""
    future: Future[T] = Future()

    def settle() -> None:
        try:
            result = asyncio.run(step)
        except BaseException as error:  # handed on to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=settle, name="personas-design", daemon=True).start()
    return future
