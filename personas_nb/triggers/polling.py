"""Looking at an address again and again: a run starts only when its answer has changed.

- A due time is claimed by the loop as a fire that is ``checking``, under its worker's name; what became of it is
  written in one transaction with the execution and with what was seen. Whoever takes the loop over takes the open
  looks over too; the answer of one that is late, and no longer its holder's, is thrown away.
- What was seen is remembered only once the run that it starts is queued, or nothing is to start: a change that met
  a full queue, a pause or a disabled persona is still a change at the next look.
- Requests obey the same rules as the tool ``http_request``: public addresses, every hop checked, limits.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import now, rfc3339
from personas_nb.entities.trigger import UNCHANGED, Fire, Trigger
from personas_nb.errors import PersonaError, RowUnreadable, StoreError
from personas_nb.settings import Settings
from personas_nb.store.leases import StillHolds
from personas_nb.store.table import Table
from personas_nb.triggers.starts import Start, Starts
from personas_nb.worker import Worker

if TYPE_CHECKING:
    from personas_nb.tools.http import Fetched

FIRST_LOOK = "This was the first look: what is there now is what later looks are compared with."
STILL_LOOKING = "The look before it was still under way."
BODY_LIMIT_BYTES = 64 * 1024
LOOKS_AT_ONCE = 8
RETRY_SECONDS = 5.0  # after a look whose result the store did not take
SEEN = "seen"  # the key of a trigger's state under which the answer is remembered


log = logging.getLogger("personas_nb.triggers")


def looks(trigger: Trigger) -> bool:
    """Whether a due time of the trigger is a look at an address, whose answer decides.

    >>> looks(Trigger(persona_id="p", trigger_type="polling", config={"interval_seconds": 60}))
    False
    """
    return trigger.trigger_type == "polling" and bool(trigger.config.get("url"))


@dataclass(frozen=True)
class Seen:
    """What an address answered, as far as it takes to notice a change."""

    url: str
    etag: str = ""
    last_modified: str = ""
    sha256: str = ""

    @classmethod
    def in_state(cls, state: Mapping[str, Any], url: str) -> Seen | None:
        """What a trigger's state remembers of this very address."""
        kept = state.get(SEEN)
        if not isinstance(kept, Mapping) or kept.get("url") != url:
            return None
        return cls(*(str(kept.get(name) or "") for name in ("url", "etag", "last_modified", "sha256")))

    def as_state(self) -> dict[str, str]:
        """What is stored of it."""
        return {name: value for name, value in vars(self).items() if value}

    def conditions(self) -> dict[str, str]:
        """The headers with which a server may say that nothing changed; what no header can carry is left out."""
        found = {"if-none-match": self.etag, "if-modified-since": self.last_modified}
        return {
            name: value for name, value in found.items() if value and value.isascii() and value.isprintable()
        }

    def is_same(self, later: Seen) -> bool:
        """Whether a later answer is this one: by ETag, else Last-Modified, else its bytes.

        >>> Seen("u", etag='W/"1"', sha256="a").is_same(Seen("u", etag='"1"', sha256="b"))
        True
        """
        if self.etag and later.etag:
            return self.etag.removeprefix("W/") == later.etag.removeprefix("W/")
        if self.last_modified and later.last_modified:
            return self.last_modified == later.last_modified
        return self.sha256 == later.sha256


@dataclass(frozen=True)
class Look:
    """What a look found: a reason why nothing starts, or the input of a run; ``seen`` is to be remembered."""

    url: str
    reason: str | None = None
    input_data: str | None = None
    seen: Seen | None = None


class Poller:
    """Looks, and settles the fires that waited for it; all of it on the worker's loop.

    ``stands_still`` says in the transaction of a settlement why nothing may start now, None where it may;
    ``started`` is called after a run was queued.
    """

    def __init__(
        self,
        worker: Worker,
        starts: Starts,
        settings: Callable[[], Settings],
        *,
        stands_still: Callable[[sqlite3.Connection], str | None] = lambda _db: None,
        started: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._worker, self._starts, self._settings = worker, starts, settings
        self._stands_still, self._started, self._clock = stands_still, started, clock
        self._triggers: Table[Trigger] = worker.store.table("triggers", Trigger)
        self._fires: Table[Fire] = worker.store.table("fires", Fire)
        self._under_way: dict[str, tuple[str, asyncio.Task[None]]] = {}  # by fire: its trigger, its task
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)

    def is_looking(self, trigger_id: str) -> bool:
        """Whether a look of this trigger is under way here: its next due time is then skipped (``STILL_LOOKING``)."""
        return any(looked_at == trigger_id for looked_at, _task in list(self._under_way.values()))

    def look(self, fire_id: str, trigger_id: str, still_holds: StillHolds) -> None:
        """Begin to look for a fire that was claimed as ``checking``; once for each."""
        if fire_id not in self._under_way:
            task = self._worker.task(self._look_and_settle(fire_id, trigger_id, still_holds))
            self._under_way[fire_id] = trigger_id, task
            task.add_done_callback(lambda _task: self._under_way.pop(fire_id, None))

    async def adopt(self, still_holds: StillHolds) -> int:
        """Take over the looks that another holder left open, and begin them anew; how many there were.

        Those of an earlier time as the holder are broken off: what they find, nobody takes.
        """
        await self.stop()

        def take(db: sqlite3.Connection) -> list[tuple[str, str]]:
            if not still_holds(db):
                return []
            rows = db.execute("select id, trigger_id from fires where status = 'checking'").fetchall()
            left = [(row["id"], row["trigger_id"]) for row in rows]
            db.executemany(
                "update fires set worker_id = ? where id = ?",
                [(self._worker.id, fire_id) for fire_id, _trigger_id in left],
            )
            return left

        taken: list[tuple[str, str]] = await self._worker.written(take)
        for fire_id, trigger_id in taken:
            self.look(fire_id, trigger_id, still_holds)
        return len(taken)

    async def stop(self) -> None:
        """Break off what is under way; whoever holds the lease next looks again."""
        tasks = [task for _trigger_id, task in self._under_way.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look_and_settle(self, fire_id: str, trigger_id: str, still_holds: StillHolds) -> None:
        async with self._turns:
            look = await self._looked(fire_id, trigger_id)
        while True:
            try:
                if await self._worker.written(lambda db: self._settle(db, fire_id, look, still_holds)):
                    self._started()
                return
            except StoreError:  # full or locked: the fire stays open until it can be settled
                log.warning("what a poll found could not be stored", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # whoever holds the lease next looks again
                log.exception("what a poll found could not be stored")
                return

    async def _looked(self, fire_id: str, trigger_id: str) -> Look:
        try:
            found = await asyncio.to_thread(self._claimed, fire_id, trigger_id)
            return await self._compared(*found) if found else Look("", reason="The trigger is gone.")
        except PersonaError as error:
            return Look("", reason=self._starts.redacted(error.message))
        except Exception as error:  # a poll that breaks is recorded, and the next one is made all the same
            log.exception("a poll failed")
            return Look("", reason=f"The look failed ({type(error).__name__}).")

    def _claimed(self, fire_id: str, trigger_id: str) -> tuple[Trigger, Fire] | None:
        trigger, fire = self._triggers.get(trigger_id), self._fires.get(fire_id)
        return (trigger, fire) if trigger is not None and fire is not None else None

    async def _compared(self, trigger: Trigger, fire: Fire) -> Look:
        from personas_nb.tools.http import http_fetch

        url = str(trigger.config.get("url", ""))
        before = Seen.in_state(trigger.state, url)
        conditions = before.conditions() if before else {}
        answer = await http_fetch(self._settings(), url, headers=conditions)
        if answer.status == 304 and conditions:
            return Look(url, reason=UNCHANGED)
        if not 200 <= answer.status < 300:
            return Look(url, reason=f"The address answered {answer.status}.")
        seen = seen_in(url, answer)
        if before is None or before.is_same(seen):
            return Look(url, reason=UNCHANGED if before else FIRST_LOOK, seen=seen)
        text = await asyncio.to_thread(self._input, trigger, fire, answer)
        return Look(url, input_data=text, seen=seen)

    def _input(self, trigger: Trigger, fire: Fire, answer: Fetched) -> str:
        text = answer.text()
        body = text.encode(errors="replace")
        payload: dict[str, Any] = {"url": answer.url, "status": answer.status, "body": text}
        if answer.media_type:
            payload["content_type"] = answer.media_type
        if len(body) > BODY_LIMIT_BYTES:
            payload["body"] = body[:BODY_LIMIT_BYTES].decode(errors="ignore")
            payload["cut"] = f"These are the first {BODY_LIMIT_BYTES:,} of {len(body):,} bytes."
        cause = {"id": trigger.id, "type": trigger.trigger_type, "due_at": rfc3339(fire.due_at)}
        return self._starts.input_of(payload, trigger=cause)

    def _settle(self, db: sqlite3.Connection, fire_id: str, look: Look, still_holds: StillHolds) -> bool:
        """Write what became of a fire, if it is still ours to say; whether a run was queued."""
        fire = self._fires.get(fire_id)
        if (
            fire is None
            or fire.status != "checking"
            or fire.worker_id != self._worker.id
            or not still_holds(db)
        ):
            return False
        trigger = self._triggers.get(fire.trigger_id)
        if trigger is None:
            return False
        look = self._hindered(db, trigger, look)
        execution_id = None
        if look.reason is None:
            try:
                start = self._starts.queue(
                    trigger.persona_id,
                    look.input_data,
                    allow_bypass=trigger.allow_bypass,
                    trigger_id=trigger.id,
                )
            except RowUnreadable as error:
                start = Start(reason=error.message)
            execution_id = start.execution_id
            if execution_id is None:
                look = replace(look, reason=start.reason, seen=None)
        moment = self._clock()
        status = "queued" if execution_id else "skipped"
        self._fires.update(
            fire.id, status=status, reason=look.reason, execution_id=execution_id, decided_at=moment
        )
        changes: dict[str, Any] = {"last_triggered_at": moment} if execution_id else {}
        if look.seen is not None and trigger.state.get(SEEN) != look.seen.as_state():
            changes["state"] = {**trigger.state, SEEN: look.seen.as_state()}
        self._triggers.update(trigger.id, **changes)
        return execution_id is not None

    def _hindered(self, db: sqlite3.Connection, trigger: Trigger, look: Look) -> Look:
        """The look, unless something happened meanwhile that it must not pass over."""
        if not trigger.enabled:
            return replace(look, reason="The trigger was disabled while it looked.", seen=None)
        if look.url and trigger.config.get("url") != look.url:
            return replace(look, reason="The trigger was edited while it looked.", seen=None)
        known = Seen.in_state(trigger.state, look.url)
        if look.reason is None and look.seen and known and known.is_same(look.seen):
            return replace(look, reason=UNCHANGED)  # another look, begun before this one ended, saw it first
        if look.reason is None and (reason := self._stands_still(db)) is not None:
            return replace(look, reason=reason, seen=None)
        return look


def seen_in(url: str, answer: Fetched) -> Seen:
    """What is to be remembered of an answer, under the address that was asked."""
    return Seen(
        url,
        etag=answer.headers.get("etag", "").strip(),
        last_modified=answer.headers.get("last-modified", "").strip(),
        sha256=hashlib.sha256(answer.data).hexdigest(),
    )
