"""What personas told the user: the messages of a home."""

from __future__ import annotations

import builtins

from personas_nb.entities.base import now
from personas_nb.entities.message import Message
from personas_nb.errors import NotFound
from personas_nb.store.database import Store


class Messages:
    """All messages, newest first; ``mark_read`` says that one was seen."""

    def __init__(self, store: Store) -> None:
        self.table = store.table("messages", Message)

    def list(
        self,
        persona_id: str | None = None,
        *,
        execution_id: str | None = None,
        unread: bool = False,
        limit: int = 50,
    ) -> builtins.list[Message]:
        """Messages, newest first; of one persona or run, or only the unread ones, where asked."""
        where, values = ["1"], []
        for column, value in (("persona_id", persona_id), ("execution_id", execution_id)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if unread:
            where.append("read_at is null")
        return self.table.find(
            " and ".join(where), values, order_by="created_at desc, rowid desc", limit=limit
        )

    def mark_read(self, message_id: str) -> Message:
        """Say that a message was seen; a second time changes nothing."""
        message = self.table.get(message_id)
        if message is None:
            raise NotFound(f"There is no message “{message_id}”.", hint="`%persona messages` lists them.")
        if message.read_at is None:
            message = message.changed(read_at=now())
            self.table.update(message.id, read_at=message.read_at)
        return message
