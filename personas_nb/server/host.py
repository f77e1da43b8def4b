"""The one studio of a Jupyter server, opened when first needed; nothing of it blocks the server's event loop."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from logging import Logger
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from personas_nb.errors import PersonaError, StoreError

if TYPE_CHECKING:
    from personas_nb.engine.dispatch import Dispatcher
    from personas_nb.studio import Studio
    from personas_nb.triggers.door import Door

T = TypeVar("T")
THREADS = 4
NUDGE_SECONDS = 0.25


class Host:
    """Lends a studio to the handlers of one server; ``call`` runs what may block in a thread.

    The webhook door serves: a run that it took is run here, whether or not this server fires triggers too.
    """

    def __init__(self, home: str | None, *, log: Logger) -> None:
        self._home, self._log = home, log
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="personas-server")
        self._opening = Lock()
        self._studio: Studio | None = None
        self._door: Door | None = None
        self._dispatcher: Dispatcher | None = None
        self._nudged_at = 0.0
        self._beginning: asyncio.Task[None] | None = None
        self._is_closed = False

    async def call(self, function: Callable[[Studio], T]) -> T:
        """What ``function`` makes of the studio, in a thread."""
        return await self._in_thread(lambda: function(self.studio()))

    async def ask(self, function: Callable[[Door], T]) -> T:
        """What ``function`` makes of the webhook door, in a thread."""
        return await self._in_thread(lambda: function(self.door()))

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a change that is committed, in one transaction with others that come at the same time."""
        worker = self._studio.worker if self._studio is not None else await self.call(lambda one: one.worker)
        written: T = await asyncio.wrap_future(worker.write(change))
        return written

    def studio(self) -> Studio:
        """The studio; opened at the first call. Blocks."""
        with self._opening:
            if self._is_closed:
                raise StoreError("This server is stopping.", retryable=True)
            if self._studio is None:
                from personas_nb.studio import Studio

                self._studio = Studio(self._home)
            return self._studio

    def door(self) -> Door:
        """The webhook door. Blocks."""
        if self._door is None:
            from personas_nb.triggers.door import Door

            studio = self.studio()
            self._door = Door(
                studio.store,
                studio.credentials,
                studio.starts,
                per_minute=studio.settings.webhook_rate_limit,
            )
        return self._door

    async def serve(self) -> None:
        """Have what triggers and requests started run in this process, now."""
        if self._dispatcher is None:
            self._dispatcher = await self.call(lambda studio: studio.dispatcher)
        moment = time.monotonic()
        if not self._dispatcher.serves:
            self._dispatcher.serve()
        elif moment - self._nudged_at > NUDGE_SECONDS:
            # Each is a transaction. Those that come right after one another are seen when it looks by itself.
            self._dispatcher.nudge()
        else:
            return
        self._nudged_at = moment

    def begin(self) -> None:
        """Look, beside everything else, whether this server has something to go on with."""
        self._beginning = asyncio.get_running_loop().create_task(self._begin())

    async def close(self) -> None:
        """Give everything back; what runs here ends within a few seconds. Again: nothing."""
        if self._is_closed:
            return
        if self._beginning is not None:
            self._beginning.cancel()
        await self._in_thread(self._close)
        self._threads.shutdown(wait=False)

    async def _begin(self) -> None:
        try:
            await self._in_thread(self._go_on)
        except PersonaError as error:  # the server is there for more than this
            self._log.warning("personas_nb: %s", error)

    def _go_on(self) -> None:
        """Fire triggers where the settings say so; run what an earlier server took and did not come to."""
        studio = self.studio()
        if studio.settings.serve_triggers:
            studio.triggers.start("server")
            self._log.info("personas_nb: this server fires the triggers of %s", studio.home)
        elif studio.store.path.exists() and self.door().has_waiting():
            studio.dispatcher.serve()

    def _close(self) -> None:
        with self._opening:
            self._is_closed = True
            if self._studio is not None:
                self._studio.close()

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def host_of(settings: dict[str, Any]) -> Host:
    """The host of a server, from its settings."""
    host: Host = settings["personas_nb_host"]
    return host
