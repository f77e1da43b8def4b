"""Writing messages: each with its deliveries, in the transaction of what it tells about.

A message of a rehearsal goes nowhere.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime

from personas_nb.entities.execution import Execution
from personas_nb.entities.message import Message, MessageDelivery
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.notify.channels import Channel, channels_of
from personas_nb.store.database import Store
from personas_nb.store.deliveries import DeliveryTable

ERROR_CHARS = 500
# It never began, or was taken back: whoever disabled the persona was told so.
_NOTHING_TO_TELL = ("disabled", "cancelled")


def write(store: Store, message: Message) -> list[MessageDelivery]:
    """Write a message, and that it is to be sent on each channel of its persona that is on; those deliveries."""
    with store.write():
        store.table("messages", Message).insert(message)
        if message.rehearsal:
            return []
        persona = store.table("personas", Persona).get(message.persona_id)
        channels = [each for each in channels_of(persona) if each.enabled] if persona else []
        deliveries = [_delivery(message, each) for each in {each.key: each for each in channels}.values()]
        DeliveryTable(store).add(deliveries)
        return deliveries


def ask(store: Store, execution: Execution, review: Review) -> None:
    """Tell the user of a decision that a run asks for, where nobody watches that run."""
    if not is_unwatched(execution) or review.rehearsal or review.status != "pending":
        return
    waits = "Its run waits until you decide" if review.kind == "approval" else "Its run has gone on"
    verb = f"%persona reviews show {review.id[:8]}"
    write(
        store,
        Message(
            persona_id=review.persona_id,
            execution_id=execution.id,
            title=f"Your decision is asked: {review.title}",
            content=f"{waits}: `{verb}` shows all of it.",
            content_type="warning",
            priority="high",
            origin="system",
        ),
    )


def tell_failures(store: Store, db: sqlite3.Connection, moment: datetime, settled_before: datetime) -> int:
    """Tell the user of the runs that nobody watched and that failed for good, in the current transaction."""
    told = 0
    for row in DeliveryTable(store).take_untold(db, moment, settled_before):
        if row["retries"] or row["rehearsal"] or row["eval_run_id"] or row["error_kind"] in _NOTHING_TO_TELL:
            continue
        error = " ".join((row["error"] or "").split())
        error = error if len(error) <= ERROR_CHARS else f"{error[: ERROR_CHARS - 1]}…"
        write(
            store,
            Message(
                persona_id=row["persona_id"],
                execution_id=row["id"],
                title=f"A run of {row['persona_name'] or 'a persona'} failed",
                content=f"{error} `%persona runs show {row['id'][:8]}` shows all of it.".strip(),
                content_type="error",
                priority="high",
                origin="system",
            ),
        )
        told += 1
    return told


def is_unwatched(execution: Execution) -> bool:
    """Whether no person started the run: a trigger or an event did."""
    is_started = execution.trigger_id is not None or execution.event_id is not None
    return is_started and execution.eval_run_id is None


def _delivery(message: Message, channel: Channel) -> MessageDelivery:
    return MessageDelivery(
        message_id=message.id,
        channel=channel.label,
        channel_key=channel.key,
        next_attempt_at=message.created_at,
        created_at=message.created_at,
    )
