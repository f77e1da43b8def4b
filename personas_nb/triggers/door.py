"""What a request to a webhook becomes: an execution, a skip with its reason, or a refusal.

- Looked at in this order: the trigger, the signature, the rate, the delivery id and the body. Before the signature
  fits nothing is written, and nothing is counted against the sender's rate.
- One transaction looks for the delivery, starts the run and records what became of it: a request that was answered
  is on record, and one that was not can be sent again under the same delivery id.
- What a sender learns of a wrong signature is that it is wrong.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from personas_nb.entities.base import new_id, now
from personas_nb.entities.trigger import Fire, Trigger
from personas_nb.store.database import Store
from personas_nb.store.fires import FireTable, TriggerTable, paused
from personas_nb.triggers.signatures import (
    GITHUB_EVENT,
    Refusal,
    Signed,
    read_body,
    read_delivery,
)
from personas_nb.triggers.starts import Start, Starts
from personas_nb.triggers.webhooks import secret_of
from personas_nb.vault.credentials import Credentials

BODY_LIMIT_BYTES = 1024 * 1024
DELIVERY_KEPT = timedelta(days=7)
KNOWN_SECONDS = 1.0

_NONE = Refusal(404, "There is no webhook of that id that is on.")
_WRONG = Refusal(401, "The signature does not fit the body.")


@dataclass(frozen=True)
class Taken:
    """What a request came to: ``id`` is its execution's, or its record's where none was started.

    ``is_repeat``: the same delivery came before, and nothing was done.
    """

    id: str
    status: str
    reason: str | None = None
    is_repeat: bool = False


class RateLimit:
    """So many of a kind in a minute, and as many at once: what is left grows back evenly.

    >>> limit = RateLimit(per_minute=60)
    >>> [limit.wait_seconds("a", at) for at in [0.0] * 60] == [0.0] * 60
    True
    >>> limit.wait_seconds("a", 0.0), limit.wait_seconds("b", 0.0), limit.wait_seconds("a", 1.0)
    (1.0, 0.0, 0.0)
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def wait_seconds(self, key: str, at: float) -> float:
        """0.0, and one less is left; or how long until there is one again. ``at`` is a monotonic clock's time."""
        per_second = self.per_minute / 60
        with self._lock:
            left, since = self._left.get(key, (float(self.per_minute), at))
            left = min(float(self.per_minute), left + max(0.0, at - since) * per_second)
            is_free = left >= 1
            self._left[key] = (left - is_free, at)
        return 0.0 if is_free else (1 - left) / per_second


class Door:
    """Takes requests for the webhooks of one home: ``check``, then what it returns, in a transaction.

    ``per_minute`` signed requests are taken per trigger; ``clock`` is what signatures are held against.
    """

    def __init__(
        self,
        store: Store,
        credentials: Credentials,
        starts: Starts,
        *,
        per_minute: int,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._triggers, self._fires = TriggerTable(store), FireTable(store)
        self._credentials, self._starts = credentials, starts
        self._rate = RateLimit(per_minute)
        self._known: dict[str, tuple[tuple[Trigger, str], float]] = {}
        self._clock = clock

    def look(self, trigger_id: str) -> Refusal | None:
        """Whether there is such a webhook, and it is on; a ``Refusal`` (404) where not. Reads the store."""
        found = self._opened(trigger_id)
        return found if isinstance(found, Refusal) else None

    def check(
        self, trigger_id: str, signed: Signed, headers: Mapping[str, str], body: bytes
    ) -> Callable[[sqlite3.Connection], Taken | Refusal] | Refusal:
        """Look at a request whose body is read; what is to be done in a transaction, or why nothing is.

        Reads the store. Raises ``VaultError`` and ``KeyUnavailable`` where there is a secret that cannot be opened.
        """
        found = self._opened(trigger_id)
        if isinstance(found, Refusal):
            return found
        trigger, secret = found
        if not signed.fits(body, secret):
            return _WRONG
        if wait_seconds := self._rate.wait_seconds(trigger.id, time.monotonic()):
            return Refusal(429, f"There were {self._rate.per_minute:,} in a minute.", wait_seconds)
        delivery = read_delivery(headers)
        if isinstance(delivery, Refusal):
            return delivery
        payload = read_body(body, headers.get("Content-Type", ""))
        if isinstance(payload, Refusal):
            return payload
        given = self._input(trigger, payload, delivery, headers)
        known_as = None if delivery is None else self._starts.redacted(delivery)
        return lambda db: self._recorded(db, trigger.id, secret, given, known_as)

    def has_waiting(self) -> bool:
        """Whether runs that webhooks started wait for somebody to take them."""
        return self._fires.has_waiting("webhook")

    def _opened(self, trigger_id: str) -> tuple[Trigger, str] | Refusal:
        """As the store has it, or had it within the last second: the record looks again at what decides."""
        moment = time.monotonic()
        found, since = self._known.get(trigger_id, (None, moment - KNOWN_SECONDS))
        if found is not None and moment - since < KNOWN_SECONDS:
            return found
        self._known.pop(trigger_id, None)
        trigger = self._triggers.get(trigger_id)
        if trigger is None or trigger.trigger_type != "webhook" or not trigger.enabled:
            return _NONE
        secret = secret_of(self._credentials, trigger)
        if secret is None:
            return _NONE
        self._known[trigger.id] = (trigger, secret), moment
        return trigger, secret

    def _input(self, trigger: Trigger, payload: Any, delivery: str | None, headers: Mapping[str, str]) -> str:
        cause = {"id": trigger.id, "type": "webhook", "description": trigger.description}
        if delivery is not None:
            cause["delivery"] = delivery
        if event := headers.get(GITHUB_EVENT):
            cause["event"] = event[:100]
        return self._starts.input_of(payload, trigger=cause)

    def _recorded(
        self, db: sqlite3.Connection, trigger_id: str, secret: str, given: str, delivery: str | None
    ) -> Taken | Refusal:
        """In a transaction: the run and its record; or what there is of an earlier delivery of that id."""
        trigger = self._triggers.get(trigger_id)
        if trigger is None or not trigger.enabled:
            return _NONE
        if secret_of(self._credentials, trigger) != secret:
            self._known.pop(trigger_id, None)
            return _WRONG
        moment = self._clock()
        key = f"delivery:{delivery}" if delivery is not None else f"request:{new_id()}"
        for earlier in self._fires.find("trigger_id = ? and key = ?", [trigger.id, key]):
            if moment - earlier.due_at < DELIVERY_KEPT:
                return _taken(earlier, is_repeat=True)
            # It gives up its id to the one that came after its time.
            self._fires.update(earlier.id, key=f"{key}@{earlier.id}")
        if paused(db) is not None:
            start = Start(reason="All triggers are paused.")
        else:
            start = self._starts.queue(
                trigger.persona_id, given, allow_bypass=trigger.allow_bypass, trigger_id=trigger.id
            )
        fire = self._fires.insert(
            Fire(
                id=start.execution_id or new_id(),
                trigger_id=trigger.id,
                key=key,
                kind="webhook",
                due_at=moment,
                status="queued" if start.execution_id else "skipped",
                reason=start.reason,
                execution_id=start.execution_id,
                late_ms=0,
                decided_at=moment,
            )
        )
        self._triggers.update(trigger.id, last_triggered_at=moment)
        return _taken(fire)


def _taken(fire: Fire, *, is_repeat: bool = False) -> Taken:
    return Taken(fire.execution_id or fire.id, fire.status, fire.reason, is_repeat)
