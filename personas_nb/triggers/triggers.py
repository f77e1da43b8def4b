"""The triggers of a home: made, changed, fired, and the loop that fires them by itself."""

from __future__ import annotations

import builtins
import json
import os
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, get_args

from pydantic import SecretStr

from personas_nb.entities.base import made, new_id, now, rfc3339
from personas_nb.entities.event import Subscription
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import UNCHANGED, Fire, FireStatus, Trigger, TriggerStatus
from personas_nb.errors import InvalidInput, NotFound, TooLarge, VaultError
from personas_nb.personas.personas import Personas
from personas_nb.personas.reference import by_id
from personas_nb.settings import Settings
from personas_nb.store import fires as switches
from personas_nb.store import leases
from personas_nb.store.database import Store
from personas_nb.store.fires import FireTable, TriggerTable
from personas_nb.triggers.config import checked
from personas_nb.triggers.loop import TriggerLoop
from personas_nb.triggers.planning import Due, Dues, beginning, dues, planned
from personas_nb.triggers.polling import FIRST_LOOK
from personas_nb.triggers.starts import Starts
from personas_nb.triggers.tenure import LEASE
from personas_nb.triggers.webhooks import (
    forget_secret,
    has_secret,
    plain_config,
    secret_of,
    with_secret,
    without_secret,
)
from personas_nb.worker import is_alive, running

LATE_MS = 1_000  # a fire that was decided later than this after it was due is called late
NEXT_SHOWN = 5
_PHASE = {"interval_seconds", "url"}  # the settings that begin a new phase of a poller

_SORTED = json.JSONEncoder(sort_keys=True).encode  # json.dumps would make one at each call

Config = Mapping[str, Any] | None


class Triggers:
    """What starts personas by itself: their triggers, their fires, and the events that they listen to.

    Everywhere a trigger is asked for, its id, a unique beginning of it (four characters or more) or the ``Trigger``
    itself will do.
    """

    def __init__(
        self,
        store: Store,
        personas: Personas,
        *,
        settings: Callable[[], Settings],
        starts: Callable[[], Starts],
        loop: Callable[[], TriggerLoop],
    ) -> None:
        self._store, self._personas = store, personas
        self._settings, self._starts, self._loop = settings, starts, loop
        self._triggers, self._fires = TriggerTable(store), FireTable(store)
        self._subscriptions = store.table("subscriptions", Subscription)
        self.clock: Callable[[], datetime] = now

    def add(
        self,
        persona: Persona | str,
        trigger_type: str,
        config: Config = None,
        *,
        description: str = "",
        enabled: bool = True,
        allow_bypass: bool = False,
    ) -> Trigger:
        """A trigger of that persona; the same again returns the one there is, and changes nothing but a new secret.

        ``schedule`` takes ``cron`` and ``timezone`` (default: the setting), ``polling`` ``interval_seconds`` and
        perhaps a ``url`` (then it fires when the answer has changed), ``webhook`` nothing (its ``secret`` is on the
        returned trigger, this once), ``manual`` nothing. ``catch_up`` says what becomes of due times that nobody saw
        in time: ``once`` (default), ``skip``, ``all``. With ``allow_bypass`` it may start a persona whose
        permissions are ``bypass``. Raises ``NotFound`` and ``InvalidInput``; nothing is written then.

            triggers.add("invoice-watcher", "schedule", {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"})
        """
        if isinstance(description, str) and description:
            description = self._starts().redacted(_storable(description))
        fields = {"description": description, "enabled": enabled, "allow_bypass": allow_bypass}
        return self._add(persona, [(trigger_type, config)], fields)[0]

    def add_all(self, persona: Persona | str, items: Iterable[tuple[str, Config]]) -> builtins.list[Trigger]:
        """``add`` for many ``(trigger_type, config)`` in one transaction: all of them or none."""
        return self._add(persona, items, {})

    def list(self, persona: Persona | str | None = None) -> builtins.list[Trigger]:
        """Triggers in the order in which they were made; of one persona where given."""
        if persona is None:
            return self._triggers.find(order_by="created_at, rowid")
        return self._triggers.find(
            "persona_id = ?", [self._personas.get(persona).id], order_by="created_at, rowid"
        )

    def get(self, ref: Trigger | str) -> Trigger:
        """The trigger as it is stored. Raises ``NotFound``, and ``InvalidInput`` where several fit."""
        text = ref.id if isinstance(ref, Trigger) else str(ref).strip()
        found = by_id(self._triggers, text, lambda one: f"{one.id[:8]} ({one.trigger_type})")
        if found is None:
            raise NotFound(f"There is no trigger “{text}”.", hint="`%persona triggers` lists all.")
        return found

    def edit(self, ref: Trigger | str, config: Mapping[str, Any]) -> Trigger:
        """Change these settings of a trigger and no other; None takes one out. Another time is planned anew.

        A new interval or address begins a new phase. Due times that nobody came to before are recorded as skipped.
        Raises ``NotFound`` and ``InvalidInput``.
        """
        if not isinstance(config, Mapping):
            raise InvalidInput("What to change is no mapping.", hint='Such as {"cron": "0 9 * * 1-5"}.')
        self._unlock(self.get(ref).trigger_type)
        self._refuse_secrets([config])
        with self._store.write() as db:
            trigger = self.get(ref)
            own = trigger.config if trigger.trigger_type != "webhook" else plain_config(trigger.config)
            plain, secret = self._checked(trigger.trigger_type, {**own, **config})
            if plain == own and secret is None:
                return trigger
            differing = {key for key in {*plain, *own} if plain.get(key) != own.get(key)}
            if trigger.trigger_type == "webhook":
                plain = {**trigger.config, **plain}
            changed = trigger.changed(config=plain, updated_at=self._stamp(trigger))
            if differing & {"cron", "timezone", *_PHASE} or trigger.next_trigger_at is None:
                moment = self.clock()
                self._account(db, trigger, moment, "The trigger was edited before anybody fired it.")
                changed = planned(changed, moment, self._zone(), anew=bool(differing & _PHASE))
            if secret is not None:
                changed = self._with_secret(changed, secret)
            self._write_differences(trigger, changed)
        self._tell()
        return changed

    def enable(self, ref: Trigger | str, *, allow_bypass: bool | None = None) -> Trigger:
        """Let it fire, from now on; due times while it was off are not made up for.

        ``allow_bypass`` True or False changes whether it may start a persona whose permissions are ``bypass``. A
        webhook that has no secret yet gets one, which is on the returned trigger, this once.
        """
        return self._switch(ref, enabled=True, allow_bypass=allow_bypass)

    def disable(self, ref: Trigger | str) -> Trigger:
        """Let it fire no more by itself; ``fire`` still does. What nobody came to before is recorded as skipped."""
        return self._switch(ref, enabled=False)

    def remove(self, ref: Trigger | str) -> None:
        """Delete a trigger, the record of its fires, and its secret; the runs that it started are kept."""
        with self._store.write():
            trigger = self.get(ref)
            self._triggers.delete("id = ?", [trigger.id])
            forget_secret(self._personas.credentials, trigger)
        self._tell()

    def pause_all(self, reason: str = "") -> None:
        """Let no trigger of this home fire by itself, in any process; due times are recorded as skipped.

        Secrets that the vault knows are taken out of the reason.
        """
        # Before its spaces are folded and it is cut: what is left of a secret then would not be known as one.
        said = self._starts().redacted(_storable(reason or ""))
        with self._store.write() as db:
            switches.pause(db, " ".join(said.split())[:500], self.clock())
        self._tell()

    def resume_all(self) -> None:
        """Let triggers fire again; what was skipped is not made up for."""
        with self._store.write() as db:
            switches.resume(db)
        self._tell()

    @property
    def is_paused(self) -> bool:
        """Whether all triggers are paused."""
        with self._store.read() as db:
            return switches.paused(db) is not None

    def fire(self, ref: Trigger | str, input: Any = None) -> Fire:  # noqa: A002 - the contract's name
        """Fire a trigger now, by hand, in this process; also one that is off, and while all are paused.

        ``input`` is what the run is given. A persona that cannot start leaves a fire that is ``skipped``, with the
        reason. What is due next stays as it is.
        """
        trigger, loop = self.get(ref), self._loop()
        moment = self.clock()
        cause = {"id": trigger.id, "type": "manual", "due_at": rfc3339(moment)}
        if trigger.description:
            cause["description"] = trigger.description
        text = self._given_by_hand(input, cause)
        with self._store.write():
            self.get(trigger)  # a person removed it meanwhile: nothing starts
            start = self._starts().queue(
                trigger.persona_id,
                text,
                allow_bypass=True,  # who fires it by hand is the person who may allow it
                trigger_id=trigger.id,
                worker_id=loop.worker.id,
            )
            fire = Fire(
                trigger_id=trigger.id,
                key=f"manual {new_id()}",
                kind="manual",
                due_at=moment,
                status="queued" if start.execution_id else "skipped",
                reason=start.reason,
                execution_id=start.execution_id,
                late_ms=0,
                worker_id=loop.worker.id,
                decided_at=moment,
                created_at=moment,
            )
            self._fires.insert(fire)
            if start.execution_id:
                self._triggers.update(trigger.id, last_triggered_at=moment)
        if start.execution_id:
            loop.parts.dispatcher.started(start.execution_id)
        return fire

    def fires(
        self, trigger: Trigger | str | None = None, *, status: str | None = None, limit: int = 50
    ) -> builtins.list[Fire]:
        """What became of due times and requests, newest first; ``status`` is queued, skipped or checking."""
        if status is not None and status not in get_args(FireStatus):
            raise InvalidInput(
                f"No fire is “{status}”.", hint=f"A fire is {', '.join(get_args(FireStatus))}."
            )
        where, values = ["1"], []
        if trigger is not None:
            where, values = [*where, "trigger_id = ?"], [self.get(trigger).id]
        if status is not None:
            where, values = [*where, "status = ?"], [*values, status]
        order = "created_at desc, due_at desc, rowid desc"
        return self._fires.find(" and ".join(where), values, order_by=order, limit=limit)

    def start(self, kind: str | None = None) -> TriggerStatus:
        """Fire triggers and deliver events in this process from now on, or stand by where another one does.

        It ends with ``stop``, with the studio, or with the process. ``kind`` is what the status calls this process:
        kernel, server, headless or python; by default it finds out.
        """
        loop = self._loop()
        loop.host(kind or _kind())
        return self.status()

    def stop(self) -> TriggerStatus:
        """Fire no more in this process; one that stands by takes over at once. What runs goes on."""
        if (loop := self._running_loop()) is not None:
            loop.leave()
        return self.status()

    def status(self) -> TriggerStatus:
        """Who fires triggers, what is due next, and how punctual the last day was."""
        moment, loop = self.clock(), self._running_loop()
        with self._store.read() as db:
            lease, stop = leases.holder(db, LEASE), switches.paused(db)
            pending = _count(db, "events where status = 'pending'")
            dead = _count(db, "events where status = 'dead'")
            dead += _count(db, "event_deliveries where status = 'dead'")
            enabled = _count(db, "triggers where enabled")
        if lease is not None and not leases.is_valid(lease, LEASE, moment, is_alive):
            lease = None
        is_here = lease is not None and (lease.host, lease.pid) == (socket.gethostname(), os.getpid())
        return TriggerStatus(
            is_running=lease is not None,
            is_here=is_here,
            stands_by=loop is not None and loop.is_hosted and not is_here,
            kind=(lease.kind or None) if lease else None,
            host=lease.host if lease else None,
            pid=lease.pid if lease else None,
            since=lease.taken_at if lease else None,
            is_paused=stop is not None,
            pause_reason=stop.reason if stop else "",
            paused_at=stop.at if stop else None,
            enabled_count=enabled,
            next_due=tuple(self._triggers.next_ones(NEXT_SHOWN)),
            pending_events=pending,
            dead_letters=dead,
            unplannable=self._unplannable(),
            at=moment,
            **self._fires.account(moment - timedelta(days=1), LATE_MS, (UNCHANGED, FIRST_LOOK)),
        )

    def subscriptions(self, persona: Persona | str) -> builtins.list[Subscription]:
        """The events that a persona listens to."""
        return self._subscriptions.find("persona_id = ?", [self._personas.get(persona).id], order_by="rowid")

    def _add(
        self, persona: Persona | str, items: Iterable[tuple[str, Config]], fields: Mapping[str, Any]
    ) -> builtins.list[Trigger]:
        wanted = list(items)
        self._unlock(*(kind for kind, _config in wanted))
        self._refuse_secrets(config for _kind, config in wanted)
        wanted.reverse()
        moment, zone, new, result = self.clock(), self._zone(), [], []
        with self._store.write():
            owner = self._personas.get(persona).id
            known = {_key(one): one for one in self._triggers.find("persona_id = ?", [owner])}
            given = {**fields, "persona_id": owner, "trigger_type": "manual"}
            model = made(Trigger, {**given, "created_at": moment, "updated_at": moment})
            while wanted:  # thousands: what was given is let go while the triggers are made
                kind, settings = wanted.pop()
                config, secret = self._checked(kind, settings, zone)
                key = _key_of(kind, config)
                if (found := known.get(key)) is None:
                    found = _like(model, kind, config, moment, zone)
                    if kind == "webhook" and (found.enabled or secret is not None):
                        found = self._with_secret(found, secret)
                    known[key] = found
                    new.append(found)
                elif secret is not None and not self._has_secret(found, secret):
                    before, found = found, self._with_secret(found, secret)
                    self._write_differences(before, found)
                result.append(found)
            self._triggers.insert_all(new)
        if new:
            self._tell()
        return result

    def _given_by_hand(self, given: Any, cause: dict[str, Any]) -> str:
        """What a run is given; its size is looked at before it is searched for secrets, which takes much memory."""
        starts, limit = self._starts(), self._settings().input_limit_bytes
        if isinstance(given, str) and len(given) > limit:  # before it is copied
            raise _too_large(len(given), limit)
        try:
            text = starts.json_of(given, trigger=cause)
        except (TypeError, ValueError, RecursionError):
            raise InvalidInput(
                "The input cannot be written as JSON.", hint="Give text, or a dict or list of plain values."
            ) from None
        if (size := len(text.encode())) > limit:
            raise _too_large(size, limit)
        return starts.redacted(text)

    def _checked(
        self, trigger_type: str, config: Config, zone: str | None = None
    ) -> tuple[dict[str, Any], str | None]:
        """The config as it is stored, and the secret of a webhook that was given in it."""
        secret = None
        if trigger_type == "webhook" and isinstance(config, Mapping):
            config, secret = without_secret(config)
        return checked(trigger_type, config, zone or self._zone()), secret

    def _refuse_secrets(self, configs: Iterable[Config]) -> None:
        """Not in a transaction: the vault may have to be opened."""
        said = {text for config in configs if isinstance(config, Mapping) for text in _texts(config)}
        together = _storable("\n".join(said))  # thousands: the vault is asked once
        if together and self._starts().redacted(together) != together:
            raise InvalidInput(
                "The configuration holds a secret of the vault, which would be stored in the clear.",
                hint="Leave it out; a tool of the persona can use a credential.",
            )

    def _with_secret(self, trigger: Trigger, secret: str | None) -> Trigger:
        sealed, value = with_secret(self._personas.credentials, trigger, secret)
        return sealed.changed(secret=SecretStr(value))

    def _has_secret(self, trigger: Trigger, secret: str) -> bool:
        """Whether that is its secret already; one that cannot be opened is not."""
        try:
            return secret_of(self._personas.credentials, trigger) == secret
        except VaultError:
            return False

    def _unlock(self, *types: str) -> None:
        if "webhook" in types:  # asking for the key may take long, which no transaction may
            self._personas.credentials.unlock()

    def _switch(self, ref: Trigger | str, *, enabled: bool, allow_bypass: bool | None = None) -> Trigger:
        self._unlock(*([self.get(ref).trigger_type] if enabled else []))
        with self._store.write() as db:
            trigger = self.get(ref)
            consent = trigger.allow_bypass if allow_bypass is None else bool(allow_bypass)
            changed = trigger
            if (trigger.enabled, trigger.allow_bypass) != (enabled, consent):
                fields = {"enabled": enabled, "allow_bypass": consent, "updated_at": self._stamp(trigger)}
                changed = trigger.changed(**fields)
            if enabled and trigger.trigger_type != "webhook":
                self._checked(trigger.trigger_type, trigger.config)  # a design may hold what nobody can plan
            if trigger.enabled != enabled:
                moment = self.clock()
                self._account(db, trigger, moment, "The trigger was switched off before anybody fired it.")
                changed = planned(changed, moment, self._zone())
            is_bare = trigger.trigger_type == "webhook" and enabled
            if is_bare and not has_secret(self._personas.credentials, trigger):
                changed = self._with_secret(changed, None)
            self._write_differences(trigger, changed)
        self._tell()
        return changed

    def _account(self, db: sqlite3.Connection, trigger: Trigger, moment: datetime, reason: str) -> None:
        """Record as skipped what is due by now and nobody decided, before the plan that says so is changed."""
        if not trigger.enabled or trigger.next_trigger_at is None or trigger.next_trigger_at > moment:
            return
        try:
            found = dues(trigger, trigger.next_trigger_at, moment, self._zone())
        except InvalidInput:  # a config that nobody can plan; the due time that it has still counts
            found = Dues((trigger.next_trigger_at,), None, None)
        skipped = [*([found.older] if found.older else []), *(Due(due) for due in found.newest)]
        known = self._fires.known(db, [(trigger.id, due.key) for due in skipped])
        fires = [
            Fire(
                trigger_id=trigger.id,
                key=due.key,
                kind=trigger.trigger_type,
                due_at=due.due_at,
                until_at=due.until_at,
                count=due.count,
                status="skipped",
                reason=reason,
                late_ms=round((moment - due.due_at).total_seconds() * 1000),
                decided_at=moment,
                created_at=moment,
            )
            for due in skipped
            if (trigger.id, due.key) not in known
        ]
        self._fires.insert_rows(db, [self._fires.dumped(fire) for fire in fires])

    def _write_differences(self, before: Trigger, after: Trigger) -> None:
        names = [name for name in Trigger.model_fields if name != "secret"]
        fields = {
            name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)
        }
        self._triggers.update(before.id, **fields)

    def _stamp(self, trigger: Trigger) -> datetime:
        """When it was changed: never the time that it has, by which the loop sees that it is another one."""
        return max(self.clock(), trigger.updated_at + timedelta(microseconds=1))

    def _zone(self) -> str:
        return self._settings().zone()

    def _running_loop(self) -> TriggerLoop | None:
        worker = running(self._store)
        found: TriggerLoop | None = worker.offered("trigger_loop") if worker else None
        return found

    def _tell(self) -> None:
        if (worker := running(self._store)) is not None:
            worker.changed()

    def _unplannable(self) -> dict[str, str]:
        problems, zone = {}, self._zone()
        for trigger in self._triggers.unplanned():
            try:
                planned(trigger, self.clock(), zone, anew=False)
            except InvalidInput as error:
                problems[trigger.id] = str(error)
        return problems


def _texts(config: Mapping[str, Any]) -> Iterator[str]:
    """What of a config would be stored as it is given, and shown."""
    for key, value in plain_config(config).items():
        yield from (text for text in (key, value) if isinstance(text, str))


def _storable(text: Any) -> str:
    """Half a surrogate pair cannot be stored."""
    return str(text).encode("utf-8", "replace").decode()


def _too_large(size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"The input has {size:,} bytes; at most {limit:,} are taken (input_limit_bytes).",
        hint="Give a smaller part of it, or raise input_limit_bytes in the settings.",
    )


def _count(db: Any, what: str) -> int:
    return int(db.execute(f"select count(*) from {what}").fetchone()[0])  # noqa: S608 - our own names


def _like(model: Trigger, kind: str, config: dict[str, Any], moment: datetime, zone: str) -> Trigger:
    """A new trigger like another but for its type and config; what is the same for thousands is validated once."""
    due, state = beginning(kind, config, moment, zone) if model.enabled else (None, {})
    own = {"id": new_id(), "trigger_type": kind, "config": config, "next_trigger_at": due}
    own["state"] = state or model.state  # the same one, as far as it is the same
    return Trigger.model_construct(_fields_set=model.model_fields_set, **{**vars(model), **own})


def _key(trigger: Trigger) -> str:
    config = plain_config(trigger.config) if trigger.trigger_type == "webhook" else trigger.config
    return _key_of(trigger.trigger_type, config)


def _key_of(trigger_type: str, config: Mapping[str, Any]) -> str:
    """What makes two triggers of a persona the same: their type and configuration."""
    return f"{trigger_type} {_SORTED(config)}"


def _kind() -> str:
    """What this process is, as far as it can tell: a kernel, or some Python."""
    import sys

    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return "kernel" if getattr(shell, "kernel", None) is not None else "python"
