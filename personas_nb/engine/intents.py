"""The intents of one run: what its gateway writes down before a tool does something outside."""

from __future__ import annotations

import asyncio

from personas_nb.entities.base import new_id
from personas_nb.store.intents import IntentTable
from personas_nb.worker import Worker


class RunIntents:
    """Writes through the worker's writer, under the run's claim: whoever lost it does nothing outside any more."""

    def __init__(self, worker: Worker, execution_id: str, token: int) -> None:
        self._worker, self._execution_id, self._token = worker, execution_id, token
        self._table = IntentTable(worker.store)

    async def begin(self, tool: str, call_id: str, arguments_hash: str) -> str:
        """Commit the intent and return its id; raises ``Conflict`` or ``StoreError`` where that is not possible."""
        intent_id = new_id()
        writing = self._worker.written(
            lambda db: self._table.begin(
                db,
                intent_id,
                execution_id=self._execution_id,
                token=self._token,
                tool=tool,
                call_id=call_id,
                arguments_hash=arguments_hash,
            )
        )
        try:
            await writing
        except asyncio.CancelledError:  # it will be written all the same
            self.settle(intent_id, "refused")
            raise
        return intent_id

    def settle(self, intent_id: str, status: str) -> None:
        """Say what became of it, with the next batch; waits for nothing."""
        self._worker.write(lambda db: self._table.settle(db, intent_id, status))
