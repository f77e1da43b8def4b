"""Tells a loop soon after anybody has written to a store, or its process has ended; nobody looks again and again.

- Where the system tells that a file was written (inotify, on Linux), the loop sleeps until it does. It tells of the
  write, which comes before the commit can be seen, on a slow disk a while before: so one looks soon, and again later
  and later.
- It tells too that a lock file is closed, which is how a process ends, however it does.
- Until it has told of something for the first time, and wherever it does not (other systems, a network file system,
  too many watchers), the store's version is compared every ``LOOK_SECONDS``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from personas_nb.errors import StoreError
from personas_nb.store.database import Store

if TYPE_CHECKING:
    from asyncinotify import Inotify

LOOK_SECONDS = 0.75  # how soon a change is seen at the latest, and how often one looks while many are made
SOON_SECONDS = 0.02  # between a write and a look: the commit follows the write
ECHO_SECONDS = 30.0  # how long it is looked for a commit after its write
CLOCK_JUMP_SECONDS = 1.0
READ_BYTES = 65_536

log = logging.getLogger("personas_nb.store")


class Lookout:
    """Calls ``changed`` on the loop after commits, the end of a process, and a clock that was set; not for each."""

    def __init__(
        self, store: Store, locks: Path, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]
    ) -> None:
        """``locks`` is the folder of the processes' lock files."""
        self._store, self._locks, self._loop, self._changed = store, locks, loop, changed
        self.seen = (0, 0)
        """The store's version at the last look."""
        self._clock_offset = time.time() - time.monotonic()
        self._inotify: Inotify | None = None
        self.is_told = False
        """Whether the system tells of writes and of the end of processes: no need to look otherwise."""
        self._looked = 0.0
        self._echo_seconds = 0.0  # the wait before the last look
        self._next: asyncio.TimerHandle | None = None
        self._comparing: asyncio.Task[None] | None = None

    async def begin(self) -> bool:
        """Look now, and whenever there is reason to, until ``end``; whether the system was asked to tell of writes."""
        self.look()
        self._inotify = await asyncio.to_thread(self._watch)
        if self._inotify is not None:
            self._loop.add_reader(self._inotify.fd, self._hear)
        return self._inotify is not None

    async def end(self) -> None:
        """Look no more."""
        for pending in (self._next, self._comparing):
            if pending is not None:
                pending.cancel()
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    async def version(self) -> tuple[int, int]:
        """What is another value after every commit (`Store.version`)."""
        # Without WAL a writer may keep readers waiting, and the loop waits for nobody.
        return (
            await asyncio.to_thread(self._store.version)
            if self._store.is_on_network
            else self._store.version()
        )

    def forget(self) -> None:
        """In a forked child: what its parent watches is not its own."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def glance(self) -> None:
        """Compare the clock; to be called now and then."""
        self._compared(self.seen)

    def look(self) -> None:
        """Compare now: the store with what it was, and the clock."""
        self._looked = time.monotonic()
        has_heard = self._drain()
        self._echo_seconds = LOOK_SECONDS if has_heard or not self.is_told else 2 * self._echo_seconds
        if self._echo_seconds <= ECHO_SECONDS:
            self._look_in(self._echo_seconds)
        if self._store.is_on_network:
            if self._comparing is None or self._comparing.done():
                self._comparing = self._loop.create_task(self._compare())
            return
        with suppress(StoreError):
            self._compared(self._store.version(), is_changed=has_heard)

    async def _compare(self) -> None:
        with suppress(StoreError):  # whoever writes next says so
            self._compared(await self.version())

    def _compared(self, version: tuple[int, int], *, is_changed: bool = False) -> None:
        offset = time.time() - time.monotonic()  # a clock that was set, or a computer that slept
        is_set = abs(offset - self._clock_offset) > CLOCK_JUMP_SECONDS
        if version != self.seen or is_set or is_changed:
            self.seen, self._clock_offset = version, offset
            self._changed()

    def _watch(self) -> Inotify | None:
        """Ask the system to tell; None where it cannot."""
        if sys.platform != "linux" or self._store.is_on_network:
            return None
        try:
            from asyncinotify import Inotify, Mask

            inotify = Inotify()
        except (ImportError, OSError, RuntimeError):
            log.warning("writes of others are looked for every %s s", LOOK_SECONDS, exc_info=True)
            return None
        try:
            # The folder: SQLite removes the log of a store that nobody has open, and a fork closes it.
            inotify.add_watch(self._store.path.resolve().parent, Mask.MODIFY)
            inotify.add_watch(self._locks, Mask.CLOSE_WRITE)
        except OSError:
            inotify.close()
            log.warning("writes of others are looked for every %s s", LOOK_SECONDS, exc_info=True)
            return None
        os.set_blocking(inotify.fd, False)  # asyncinotify 4.4 leaves it blocking
        return inotify

    def _hear(self) -> None:
        """Something was written; what follows at once is seen at the same look."""
        assert self._inotify is not None
        self._loop.remove_reader(self._inotify.fd)
        self._look_in(max(SOON_SECONDS, self._looked + LOOK_SECONDS - time.monotonic()))

    def _drain(self) -> bool:
        """Whether the system has told of writes since the last look; from now on it tells again."""
        if self._inotify is None:
            return False
        has_heard = False
        with suppress(BlockingIOError):
            has_heard = bool(os.read(self._inotify.fd, READ_BYTES))
        self.is_told |= has_heard
        self._loop.add_reader(self._inotify.fd, self._hear)
        return has_heard

    def _look_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_later(seconds, self.look)
