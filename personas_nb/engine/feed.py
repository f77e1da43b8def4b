"""Who wants to see a run while it goes on: queues in this process, filled after each commit."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Sequence

from personas_nb.entities.run_event import RunEvent

Batch = Sequence[RunEvent]


class Feeds:
    """Stored events, handed on to whoever subscribed; an empty batch says that the run has ended."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[queue.SimpleQueue[Batch]]] = defaultdict(list)
        self._lock = threading.Lock()

    def subscribe(self, execution_id: str) -> queue.SimpleQueue[Batch]:
        """A queue that gets every batch from now on."""
        feed: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        with self._lock:
            self._subscribers[execution_id].append(feed)
        return feed

    def publish(self, execution_id: str, batch: Batch) -> None:
        """Hand on what was stored; called by the writer."""
        with self._lock:
            feeds = list(self._subscribers.get(execution_id, ()))
        for feed in feeds:
            feed.put(batch)

    def end(self, execution_id: str) -> None:
        """Say that nothing more will come."""
        with self._lock:
            feeds = self._subscribers.pop(execution_id, [])
        for feed in feeds:
            feed.put(())
