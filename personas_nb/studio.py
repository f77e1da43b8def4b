"""The Studio: one home, and every room of the house wired to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from personas_nb.design.designers import Designers
    from personas_nb.design.evals.evals import Evals
    from personas_nb.design.exporting import Exported, Exporter
    from personas_nb.design.importers import Importers
    from personas_nb.design.sessions import DesignSession, Sessions
    from personas_nb.design.templates import Templates
    from personas_nb.engine.dispatch import Dispatcher
    from personas_nb.engine.executions import Executions, RunHandle
    from personas_nb.engine.healing import Healing
    from personas_nb.engine.reviews import Reviews
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.persona import Persona
    from personas_nb.metrics.budgets import Budgets
    from personas_nb.metrics.metrics import Metrics
    from personas_nb.notify.messages import Messages
    from personas_nb.notify.notifier import Notifier
    from personas_nb.notify.ways.sending import Sending
    from personas_nb.personas.groups import Groups
    from personas_nb.personas.memories import Memories
    from personas_nb.personas.notifying import Channels
    from personas_nb.personas.personas import Personas
    from personas_nb.personas.versions import Versions
    from personas_nb.settings import Settings
    from personas_nb.store.database import Store
    from personas_nb.tools.catalog import Tools
    from personas_nb.tools.servers import Servers
    from personas_nb.triggers.bus import Bus
    from personas_nb.triggers.delivering import Delivering
    from personas_nb.triggers.events import Events
    from personas_nb.triggers.loop import TriggerLoop
    from personas_nb.triggers.starts import Starts
    from personas_nb.triggers.triggers import Triggers
    from personas_nb.vault.connectors import Connectors
    from personas_nb.vault.credentials import Credentials
    from personas_nb.vault.keys import KeyRing
    from personas_nb.vault.redaction import Redactor
    from personas_nb.worker import Worker


class Studio:
    """Everything in one home: personas, runs, reviews, costs. Making one does no I/O.

    ``home`` is a folder (default: ``PERSONAS_HOME``, else the user's data folder). Its attributes are the rooms
    themselves: ``personas``, ``executions``, ``reviews``, ``memories``, ``messages``, ``tools``, ``versions``,
    ``sessions``, ``metrics``, …

        with Studio() as studio:
            studio.personas.create(name="Echo", system_prompt="Repeat the input.")
            print(studio.run("echo", "hello").output_data)
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self._home = home
        self._lent: Worker | None = None
        self._lending = Lock()  # threads that come at once borrow once

    @cached_property
    def home(self) -> Path:
        """The folder that holds everything."""
        from personas_nb.settings import default_home

        return Path(self._home).expanduser().absolute() if self._home is not None else default_home()

    @cached_property
    def settings(self) -> Settings:
        """Defaults, ``personas.toml`` of the home, and ``PERSONAS_*`` on top."""
        from personas_nb.settings import load_settings

        return load_settings(self.home)

    @cached_property
    def store(self) -> Store:
        """The database of the home."""
        from personas_nb.store.database import Store

        return Store(self.home)

    @property
    def worker(self) -> Worker:
        """The background thread of this process and home; started at the first use, and anew in a forked child."""
        from personas_nb.worker import lend

        with self._lending:
            if self._lent is None or self._lent.is_stopping:
                self._lent = lend(self.store)
            return self._lent

    @cached_property
    def keys(self) -> KeyRing:
        """Where the key of the vault is kept."""
        from personas_nb.vault.keys import KeyRing

        return KeyRing()

    @cached_property
    def credentials(self) -> Credentials:
        """Stored secrets: add, list, check, remove, rotate_key."""
        from personas_nb.tools.outside import Outside
        from personas_nb.vault.credentials import Credentials

        return Credentials(self.store, self.keys, outside=Outside(lambda: self.settings))

    @cached_property
    def connectors(self) -> Connectors:
        """What a credential for a service consists of: list, get, add, remove."""
        return self.credentials.connectors

    @cached_property
    def personas(self) -> Personas:
        """The personas: create, get, list, update, archive, purge."""
        from personas_nb.personas.personas import Personas

        return Personas(self.store, self.credentials)

    @cached_property
    def groups(self) -> Groups:
        """Folders of personas."""
        return self.personas.groups

    @cached_property
    def versions(self) -> Versions:
        """The history of prompts: list, diff, rollback, tag."""
        from personas_nb.personas.versions import Versions

        return Versions(self.store, self.personas)

    @cached_property
    def memories(self) -> Memories:
        """What personas remember: list, remember, edit, pin, delete, recall."""
        from personas_nb.engine.models import key_redactor
        from personas_nb.personas.memories import Memories
        from personas_nb.vault.access import known_secrets

        return Memories(
            self.store,
            self.personas,
            redactor=lambda: key_redactor(self.settings, more=known_secrets(self.credentials)[0]),
        )

    @cached_property
    def tools(self) -> Tools:
        """The catalog of tools, and who has which."""
        from personas_nb.tools.catalog import Tools

        return Tools(self.store, lambda ref: self.personas.get(ref), lambda: self.mcp_servers)

    @cached_property
    def mcp_servers(self) -> Servers:
        """The MCP servers behind ``tools``."""
        from personas_nb.engine.agents.launch import Launch, sweep_dead
        from personas_nb.tools.servers import Servers

        return Servers(
            self.store, self.credentials, worker=lambda: self.worker, launch=Launch, sweep=sweep_dead
        )

    @cached_property
    def messages(self) -> Messages:
        """What personas told the user: list, deliveries, retry."""
        from personas_nb.notify.messages import Messages

        return Messages(self.store, nudge=lambda: self.notifier.nudge())

    @cached_property
    def channels(self) -> Channels:
        """The ways to the user that personas have: list, add, remove, test."""
        from personas_nb.personas.notifying import Channels

        return Channels(
            self.personas,
            self.credentials,
            self.sending,
            run=lambda coroutine: self.worker.run(coroutine),
        )

    @cached_property
    def sending(self) -> Sending:
        """Sends a message over a channel, with what the vault has for it."""
        from personas_nb.engine.models import key_redactor
        from personas_nb.notify.ways.sending import Sending
        from personas_nb.tools.outside import Outside
        from personas_nb.vault.access import known_secrets

        return Sending(
            self.credentials,
            Outside(lambda: self.settings),
            lambda: key_redactor(self.settings, more=known_secrets(self.credentials)[0]),
        )

    @property
    def notifier(self) -> Notifier:
        """Sends what personas told the user; one for all studios that share the worker."""
        from personas_nb.notify.notifier import Notifier

        notifier = self.worker.service("notifier", lambda: Notifier(self.worker, self.sending))
        return notifier.using(self.sending)

    @cached_property
    def reviews(self) -> Reviews:
        """Decisions asked of a person: list, approve, reject."""
        from personas_nb.engine.reviews import Reviews

        return Reviews(self.store, lambda: self.dispatcher)

    @cached_property
    def healing(self) -> Healing:
        """What failed and needs a person: list, get, resolve."""
        from personas_nb.engine.healing import Healing

        return Healing(self.store, self.personas, self.tools, self.settings)

    @cached_property
    def executions(self) -> Executions:
        """Runs: get, list, cancel, follow."""
        from personas_nb.engine.executions import Executions

        return Executions(self.store, self.personas, self.settings, lambda: self.dispatcher)

    @property
    def dispatcher(self) -> Dispatcher:
        """Starts what this process queued; one for all studios that share the worker."""
        from personas_nb.engine.dispatch import Dispatcher
        from personas_nb.engine.preparation import Rooms

        rooms = Rooms(
            self.settings,
            self.personas,
            self.memories,
            self.tools,
            self.credentials,
            self.budgets,
            self.healing,
        )
        dispatcher = self.worker.service("dispatcher", lambda: Dispatcher(self.worker, rooms))
        _ = self.notifier  # who runs personas sends what they tell
        return dispatcher.using(rooms)

    @cached_property
    def designers(self) -> Designers:
        """Who designs, by provider: a model, or rules and retrieval in rehearsal."""
        from personas_nb.design.designers import Designers

        return Designers(
            self.store,
            settings=self.settings,
            clients=self.dispatcher.runner.clients,
            stock=lambda: self.templates.stock(),
        )

    @cached_property
    def sessions(self) -> Sessions:
        """Design sessions: list, get, discard, follow."""
        from personas_nb.design.sessions import Sessions
        from personas_nb.engine.models import key_redactor
        from personas_nb.vault.access import known_secrets

        return Sessions(
            self.store,
            designer_for=lambda provider: self.designers(provider),
            personas=self.personas,
            tools=self.tools,
            settings=self.settings,
            run=lambda coroutine: self.worker.run(coroutine),
            start=lambda coroutine: self.worker.spawn(coroutine),
            worker_id=lambda: self.worker.id,
            redactor=lambda: key_redactor(self.settings, more=known_secrets(self.credentials)[0]),
        )

    @cached_property
    def evals(self) -> Evals:
        """Tests of designs, versions and models: add, run, compare, list."""
        from personas_nb.design.evals.evals import Evals
        from personas_nb.engine.models import key_redactor
        from personas_nb.vault.access import known_secrets

        return Evals(
            self.store,
            personas=self.personas,
            versions=self.versions,
            tools=self.tools,
            executions=self.executions,
            worker_id=lambda: self.worker.id,
            clients=lambda: self.dispatcher.runner.clients,
            run=lambda coroutine: self.worker.run(coroutine),
            redactor=lambda: key_redactor(self.settings, more=known_secrets(self.credentials)[0]),
        )

    @cached_property
    def starts(self) -> Starts:
        """Queues the runs that triggers, events and requests start."""
        from personas_nb.triggers.redacting import Redacting
        from personas_nb.triggers.starts import Starts

        return Starts(self.store, self.settings, redact=Redacting(self.settings, self.credentials))

    @cached_property
    def delivering(self) -> Delivering:
        """Makes runs of events."""
        from personas_nb.triggers.delivering import Delivering

        return Delivering(self.store, self.starts, self.settings)

    @property
    def bus(self) -> Bus:
        """Delivers events on the worker of this process, where it fires triggers."""
        from personas_nb.triggers.bus import Bus

        return Bus(self.worker, self._firing()[1], self.dispatcher.nudge)

    @cached_property
    def events(self) -> Events:
        """Events: publish, subscribe, list, dead, replay, flow."""
        from personas_nb.triggers.events import Events

        return Events(
            self.store,
            self.personas,
            self.settings,
            starts=self.starts,
            delivering=self.delivering,
            dispatcher=lambda: self.dispatcher,
            on_change=lambda: self._lent.changed() if self._lent is not None else None,
        )

    @cached_property
    def triggers(self) -> Triggers:
        """What starts personas by itself: add, list, edit, enable, fire, start, stop, status, …"""
        from personas_nb.triggers.triggers import Triggers

        return Triggers(
            self.store,
            self.personas,
            settings=lambda: self.settings,
            starts=lambda: self.starts,
            loop=lambda: self.trigger_loop,
        )

    @property
    def trigger_loop(self) -> TriggerLoop:
        """Fires triggers and delivers events in this process, after `Triggers.start`; one for all of its studios."""
        from personas_nb.triggers.loop import Parts, TriggerLoop

        starts = self._firing()[0]
        parts = Parts(self.settings, starts, self.dispatcher, self.bus, clock=self.triggers.clock)
        loop = self.worker.service("trigger_loop", lambda: TriggerLoop(self.worker, parts))
        return loop.using(parts)

    def _firing(self) -> tuple[Starts, Delivering]:
        """What fires in the transactions of the worker, whose store may be that of another studio of this home.

        On this studio's own store it would wait there for a transaction that waits for it.
        """
        from personas_nb.tools.outside import Outside
        from personas_nb.triggers.delivering import Delivering
        from personas_nb.triggers.redacting import Redacting
        from personas_nb.triggers.starts import Starts
        from personas_nb.vault.credentials import Credentials

        store = self.worker.store
        if store is self.store:
            return self.starts, self.delivering
        credentials = Credentials(store, self.keys, outside=Outside(lambda: self.settings))
        starts = Starts(store, self.settings, redact=Redacting(self.settings, credentials))
        return starts, Delivering(store, starts, self.settings)

    @cached_property
    def metrics(self) -> Metrics:
        """What runs did and cost, as DataFrames."""
        from personas_nb.metrics.metrics import Metrics

        return Metrics(self.store, self.personas)

    @cached_property
    def budgets(self) -> Budgets:
        """What may be spent in a day and in a month: add, list, remove, used, left."""
        from personas_nb.metrics.budgets import Budgets

        return Budgets(self.store, self.personas, self.settings)

    @cached_property
    def importers(self) -> Importers:
        """Files of others and our own: read, folder; n8n, desktop_template, subagent, json, notebook, persona_md."""
        from personas_nb.design.importers import Importers

        return Importers(
            self.sessions,
            tools=self.tools,
            settings=self.settings,
            run=lambda coroutine: self.worker.run(coroutine),
        )

    @cached_property
    def templates(self) -> Templates:
        """Personas as notebooks that run: list, get, use."""
        from personas_nb.design.templates import Templates

        return Templates(
            self.store, importers=lambda: self.importers, redact=lambda text: self.sessions.redact()(text)
        )

    @cached_property
    def exporter(self) -> Exporter:
        """Writes personas to files, without secrets."""
        from personas_nb.design.exporting import Exporter
        from personas_nb.engine.models import key_redactor
        from personas_nb.vault.access import known_secrets

        def redactor() -> tuple[Redactor, list[str]]:
            secrets, unopened = known_secrets(self.credentials)
            return key_redactor(self.settings, more=secrets), unopened

        return Exporter(personas=self.personas, tools=self.tools, triggers=self.triggers, redactor=redactor)

    def export(
        self,
        persona: Persona | str,
        path: str | Path,
        format: str | None = None,  # noqa: A002 - the contract's name
        overwrite: bool = False,
    ) -> Exported:
        """Write a persona to a file: ``json``, ``notebook``, ``subagent`` or ``persona_md``, never a secret.

        ``format`` None is told from the ending of the path, else json. `Exported.left_out` says what the file does
        not hold. A file that is no earlier export of this persona is replaced only with ``overwrite``.
        """
        return self.exporter.export(persona, path, format, overwrite=overwrite)

    def design(
        self,
        instruction: str,
        name: str | None = None,
        provider: str | None = None,
        context: Any = (),
    ) -> DesignSession:
        """Design a persona from a sentence; the session has ``result``, or ``question``.

        ``context`` is what to look at: files, web addresses, DataFrames, alone or several; a DataFrame also as
        ``(name, DataFrame)``. ``session.context`` says what of each was used.
        """
        return self.sessions.open(instruction, name=name, provider=provider, context=context)

    def run(
        self,
        persona: Persona | str,
        input: str | Mapping[str, Any] | Sequence[Any] | None = None,  # noqa: A002 - the contract's name
        files: Sequence[str | Path] = (),
        **limits: Any,
    ) -> Execution:
        """Run a persona and wait: finished, or waiting for a decision. An interrupt cancels and raises ``Cancelled``.

        ``limits``: ``provider``, ``max_budget_usd``, ``max_turns``, ``timeout_ms``. A run that fails does not
        raise: look at ``status`` and ``error``.
        """
        return self.start(persona, input, files, **limits).wait()

    async def arun(
        self,
        persona: Persona | str,
        input: str | Mapping[str, Any] | Sequence[Any] | None = None,  # noqa: A002 - the contract's name
        files: Sequence[str | Path] = (),
        **limits: Any,
    ) -> Execution:
        """``run`` for a cell that awaits it."""
        return await self.start(persona, input, files, **limits).wait_async()

    def start(
        self,
        persona: Persona | str,
        input: str | Mapping[str, Any] | Sequence[Any] | None = None,  # noqa: A002 - the contract's name
        files: Sequence[str | Path] = (),
        **limits: Any,
    ) -> RunHandle:
        """Start a run in the background; the handle has ``id``, ``wait``, ``cancel``, ``events``."""
        return self.executions.start(persona, input, files, **limits)

    def health(self) -> list[dict[str, Any]]:
        """The parts, each healthy, degraded or unhealthy, with ``latency_ms``."""
        from personas_nb.health import check

        return check(self.store, lambda: self.settings, self.keys)

    def close(self) -> None:
        """Stop what this studio started; the last studio of a process and home stops the worker."""
        from personas_nb.worker import give_back

        if self._lent is not None:
            if (notifier := self._lent.offered("notifier")) is not None and not self._lent.is_stopping:
                self._lent.run(notifier.drain())
            give_back(self._lent)
            self._lent = None
        for room in [name for name in self.__dict__ if not name.startswith("_")]:
            if room == "store":
                self.store.close()
            self.__dict__.pop(room)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
