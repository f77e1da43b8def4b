"""What a persona told the user, and where that was sent."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

DeliveryStatus = Literal["pending", "sending", "delivered", "failed", "uncertain"]


class Message(Entity):
    """A message to the user; ``read_at`` None until it was seen.

    ``origin`` is ``system`` where the persona did not say it itself: it was disabled, a run that nobody watched
    failed or waits for a decision.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    execution_id: str | None = None
    title: str = ""
    content: str = ""
    content_type: str = "info"
    priority: str = "normal"
    origin: Literal["persona", "system"] = "persona"
    rehearsal: bool = False
    read_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)


class MessageDelivery(Entity):
    """What became of one message on one channel.

    ``pending`` is tried, or tried again, at ``next_attempt_at``. ``uncertain`` may have arrived: its process ended, or
    its channel broke off, while it was sent; it is not sent again by itself. ``error`` says why, without secrets.
    """

    id: str = Field(default_factory=new_id)
    message_id: str
    channel: str
    channel_key: str
    status: DeliveryStatus = "pending"
    error: str | None = None
    attempts: int = Field(default=0, ge=0)
    worker_id: str | None = None
    next_attempt_at: UtcDatetime | None = None
    sent_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime | None = None
