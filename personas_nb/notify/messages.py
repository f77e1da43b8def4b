"""What personas told the user: the messages of a home, and what became of each on its channels."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence

from personas_nb.entities.base import now
from personas_nb.entities.message import Message, MessageDelivery
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.notify.channels import channels_of, only
from personas_nb.store.database import Store
from personas_nb.store.deliveries import DeliveryTable


class Messages:
    """All messages, newest first; ``mark_read`` says that one was seen, ``deliveries`` where it was sent.

    studio.messages.retry("1a2b3c4d")
    """

    def __init__(self, store: Store, *, nudge: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.table = store.table("messages", Message)
        self._deliveries = DeliveryTable(store)
        self._nudge = nudge

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

    def deliveries(self, message_id: str) -> builtins.list[MessageDelivery]:
        """What became of a message on each channel, in the order of the channels."""
        return self._deliveries.of([message_id]).get(message_id, [])

    def deliveries_of(self, messages: Sequence[Message]) -> dict[str, builtins.list[MessageDelivery]]:
        """The deliveries of several messages, by the message's id."""
        return self._deliveries.of([message.id for message in messages])

    def undelivered(self, *, limit: int = 50) -> builtins.list[MessageDelivery]:
        """What failed or is uncertain, newest first."""
        return self._deliveries.find(
            "status in ('failed', 'uncertain')", order_by="created_at desc, rowid desc", limit=limit
        )

    def delivery(self, reference: str) -> MessageDelivery:
        """One delivery by id or unique beginning of it; ``latest`` is the newest that did not arrive."""
        if reference == "latest":
            found = self.undelivered(limit=1)
        else:
            prefix = str(reference).strip().lower()
            found = (
                self._deliveries.find("id >= ? and id < ?", [prefix, prefix + "g"], limit=2) if prefix else []
            )
        if not found and reference == "latest":
            raise NotFound("Nothing has failed to arrive.", hint="`%persona messages` shows what was sent.")
        if not found:
            raise NotFound(
                f"There is no delivery “{reference}”.", hint="`%persona messages` shows their ids."
            )
        if len(found) > 1:
            raise InvalidInput(
                f"“{reference}” begins the ids of several deliveries.", hint="Type more of the id."
            )
        return found[0]

    def retry(self, reference: str) -> MessageDelivery:
        """Send what failed or is uncertain once more, now; what was delivered stays as it is.

        Of a channel that was changed since, the one of that type takes its place. Raises ``NotFound`` where the
        persona has no such channel any more.
        """
        delivery_id = self.delivery(reference).id
        with self.store.write():
            delivery = self.delivery(delivery_id)
            if delivery.status in ("delivered", "sending"):
                return delivery
            fields = {**self._channel(delivery), "status": "pending", "next_attempt_at": now(), "error": None}
            self._deliveries.update(delivery.id, **fields)
            delivery = delivery.changed(**fields)
        self._nudge()
        return delivery

    def _channel(self, delivery: MessageDelivery) -> dict[str, str]:
        """The channel that it goes to, as it is now."""
        message = self.table.get(delivery.message_id)
        persona = self.store.table("personas", Persona).get(message.persona_id) if message else None
        channels = [each for each in channels_of(persona) if each.enabled] if persona else []
        same = [each for each in channels if each.key == delivery.channel_key]
        others = {each.channel_key for each in self.deliveries(delivery.message_id)} - {delivery.channel_key}
        kind = delivery.channel.partition(" ")[0]
        alike = [each for each in channels if each.kind == kind and each.key not in others]
        found = only(same) or only(alike)
        if found is None:
            raise NotFound(
                f"The persona has no channel “{delivery.channel}” any more.",
                hint=f"`%persona channels {persona.slug}` lists those it has." if persona else "",
            )
        return {"channel": found.label, "channel_key": found.key}
