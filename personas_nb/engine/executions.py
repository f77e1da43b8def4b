"""Runs as the person handles them: start, wait, follow, cancel, list."""

from __future__ import annotations

import asyncio
import builtins
import os
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from personas_nb.engine.dispatch import Dispatcher, recover
from personas_nb.engine.feed import Batch
from personas_nb.engine.models import key_redactor, resolve
from personas_nb.engine.prompt import as_text
from personas_nb.engine.run_files import RunFiles
from personas_nb.entities.base import made, new_id
from personas_nb.entities.execution import FINISHED, Execution
from personas_nb.entities.model_profile import PROVIDERS
from personas_nb.entities.persona import Persona
from personas_nb.entities.run_event import RUN_EVENT, RunEvent
from personas_nb.errors import Cancelled, InvalidInput, NotFound, PersonaError, TooLarge, did_you_mean
from personas_nb.personas.personas import Personas
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.evals import EvalRunTable
from personas_nb.store.executions import ExecutionTable, RunEventTable
from personas_nb.tools.main_thread import attended
from personas_nb.vault.access import known_secrets

Input = str | Mapping[str, Any] | Sequence[Any] | None
STARTED = ("queued", "running")  # what its process will end, if it lives
CANCEL_SECONDS = 5.0
POLL_SECONDS = 0.2


class Executions:
    """All runs of a home; ``start`` queues one, which this process runs in the background.

    ``dispatcher`` is asked for at the first start: reading needs no worker.
    """

    def __init__(
        self,
        store: Store,
        personas: Personas,
        settings: Settings,
        dispatcher: Callable[[], Dispatcher],
    ) -> None:
        self.store, self.personas, self.settings = store, personas, settings
        self.table, self.events = ExecutionTable(store), RunEventTable(store)
        self._dispatcher = dispatcher
        self._latest: str | None = None
        recover(store)

    def start(
        self,
        persona: Persona | str,
        input: Input = None,  # noqa: A002 - the contract's name
        files: Sequence[str | Path] = (),
        *,
        provider: str | None = None,
        max_budget_usd: float | None = None,
        max_turns: int | None = None,
        timeout_ms: int | None = None,
        retry_of: str | None = None,
        eval_run_id: str | None = None,
    ) -> RunHandle:
        """Queue a run and return at once; limits of None mean the persona's, then the setting's.

        With an ``eval_run_id`` it is a test of what that eval says: it counts as no run of the persona, may be of
        a disabled one, and works in a folder of its own.

        Raises ``NotFound``, ``InvalidInput`` (disabled persona, missing file, unknown provider, a limit out of
        range), ``TooLarge`` and ``QueueFull``; nothing is written then.
        """
        # Read anew: whoever holds a Persona holds it as it was.
        who = self.personas.get(persona.id if isinstance(persona, Persona) else persona)
        if eval_run_id is not None and (subject := EvalRunTable(self.store).subject(eval_run_id)):
            who = subject.applied_to(who)
        elif not who.enabled or who.archived_at is not None:
            raise InvalidInput(
                f"{who.name} is {'archived' if who.archived_at else 'disabled'}.",
                hint=f"Type `%persona enable {who.slug}`, then run it again.",
            )
        if provider is not None and provider not in PROVIDERS:
            hint = did_you_mean(provider, PROVIDERS, otherwise=f"There are {', '.join(PROVIDERS)}.")
            raise InvalidInput(f"There is no provider “{provider}”.", hint=hint)
        limits = {"max_budget_usd": max_budget_usd, "max_turns": max_turns, "timeout_ms": timeout_ms}
        if any(limit is not None for limit in limits.values()):
            who.changed(**limits)  # the same range as for the persona's own
        text = self._without_keys(self._checked_input(input), who, provider)
        paths = self._checked_files(files)
        for path in paths:  # a name is stored with the run, and in the workspace
            if self._without_keys(path.name, who, provider) != path.name:
                raise InvalidInput("The name of a file holds a secret.", hint="Rename it, and give it again.")
        if paths and eval_run_id is None:  # before they are copied
            self.table.check_queue(who.id, who.name, queue_limit=self.settings.queue_limit)
        dispatcher = self._dispatcher()
        fields = {
            "persona_id": who.id,
            "persona_name": who.name,
            "input_data": text,
            "requested_provider": provider,
            **limits,
            "retry_of": retry_of,
            "eval_run_id": eval_run_id,
            "worker_id": dispatcher.worker.id,
        }
        execution = self._enqueued(who, paths, fields)
        if eval_run_id is None:
            self._latest = execution.id
        feed = dispatcher.feeds.subscribe(execution.id)
        return RunHandle(self, execution.id, dispatcher.started(execution.id), feed)

    def get(self, reference: str) -> Execution:
        """One run, whole; by id, unique prefix of it, or ``latest`` (of this process, else of the home)."""
        return self.whole(self.resolve(reference))

    def whole(self, execution_id: str) -> Execution:
        """One run, whole, by its id; raises ``NotFound``."""
        found = self.table.whole(execution_id)
        if found is not None and found.status in STARTED and recover(self.store):
            found = self.table.whole(execution_id)
        if found is None:
            raise NotFound(
                f"The run {execution_id[:8]} is gone.", hint="`%persona runs` lists those there are."
            )
        return found

    def resolve(self, reference: str) -> str:
        """The id that a reference means; raises ``NotFound``, or ``InvalidInput`` when it means several."""
        if reference == "latest":
            newest = self._latest or next((e.id for e in self.list(limit=1)), None)
            if newest is None:
                raise NotFound("There is no run yet.", hint="Start one with `%persona run NAME`.")
            return newest
        prefix = str(reference).strip().lower()
        found = self.table.find("id >= ? and id < ?", [prefix, prefix + "g"], limit=3) if prefix else []
        if not found:
            raise NotFound(f"There is no run “{reference}”.", hint="`%persona runs` lists them.")
        if len(found) > 1:
            raise InvalidInput(
                f"“{reference}” begins the ids of several runs.",
                hint=f"Type more of it, such as {found[0].id[: len(prefix) + 4]}.",
            )
        return found[0].id

    def list(
        self, persona: Persona | str | None = None, status: str | None = None, limit: int = 50
    ) -> list[Execution]:
        """Runs, newest first, without their texts and without those of evals; of one persona or status where given."""
        recover(self.store)
        where, values = ["eval_run_id is null"], []
        if persona is not None:
            where.append("persona_id = ?")
            values.append(persona.id if isinstance(persona, Persona) else self.personas.get(persona).id)
        if status is not None:
            where.append("status = ?")
            values.append(status)
        return self.table.find(
            " and ".join(where), values, order_by="created_at desc, rowid desc", limit=limit
        )

    def cancel(self, reference: str) -> Execution:
        """Ask a run to end, wherever it runs; the record as it is a moment later."""
        execution_id = self.resolve(reference)
        self.table.ask_cancel(execution_id)
        handle = self.handle(execution_id)
        if handle.ended is not None:
            self._dispatcher().cancel(execution_id)
        with suppress(TimeoutError):
            handle.wait(CANCEL_SECONDS)
        return self.get(execution_id)

    def handle(self, reference: str) -> RunHandle:
        """A handle on a run of this or another process."""
        execution_id = self.resolve(reference)
        ended = self._dispatcher().ended(execution_id) if self._is_mine(execution_id) else None
        return RunHandle(self, execution_id, ended)

    def recorded(self, reference: str, seq: int = -1) -> builtins.list[tuple[int, str, RunEvent]]:
        """``(seq, at, event)`` of everything that was stored after ``seq``."""
        rows = self.events.since(self.resolve(reference), seq)
        return [(row_seq, at, RUN_EVENT.validate_json(payload)) for row_seq, at, payload in rows]

    def prompt(self, reference: str) -> str | None:
        """The prompt that a run was given."""
        return self.table.texts(self.resolve(reference)).get("prompt")

    def _is_mine(self, execution_id: str) -> bool:
        found = self.table.get(execution_id)
        return found is not None and not found.is_finished and found.worker_id == self._dispatcher().worker.id

    def _checked_input(self, value: Input) -> str | None:
        if value is not None and not isinstance(value, str | Mapping | list | tuple):
            raise InvalidInput(
                f"The input is a {type(value).__name__}.", hint="Give text, a dict or a list; a frame as CSV."
            )
        limit = self.settings.input_limit_bytes
        if isinstance(value, str) and len(value) > limit:  # before it is copied once more
            raise _too_large("The input", len(value), limit)
        text = as_text(value)
        if text is not None:
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > limit:
                raise _too_large("The input", size, limit)
            text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be stored
        return text

    def _without_keys(self, text: str | None, persona: Persona, provider: str | None) -> str | None:
        """The input as it may be stored: what was ever in the database may be found in its file."""
        if not text:
            return text
        model = None
        with suppress(PersonaError):  # no key, a locked vault: the run itself says so
            model = resolve(
                persona.model_profile,
                settings=self.settings,
                provider=provider,
                reveal=lambda credential_id: self.personas.credentials.reveal(credential_id, "auth_token"),
            )
        stored, _ = known_secrets(self.personas.credentials)
        return key_redactor(self.settings, model=model, more=stored).redact(text)

    def _checked_files(self, files: Sequence[str | Path]) -> builtins.list[Path]:
        given = [files] if isinstance(files, str | Path) else list(files or ())
        if not all(isinstance(file, str | os.PathLike) for file in given):
            raise InvalidInput("Files are given by their paths.", hint="Give a path, or a list of paths.")
        paths = [Path(file).expanduser() for file in given]
        for path in paths:
            said = path.name.encode("utf-8", "replace").decode()  # bytes that are no text cannot be stored
            if said != path.name:
                raise InvalidInput(f"The name of {said} is not UTF-8.", hint="Rename it, and give it again.")
            if not _is_file(path):
                raise InvalidInput(f"There is no file {path}.", hint="Give the path of a file that exists.")
            if (size := path.stat().st_size) > self.settings.input_limit_bytes:
                raise _too_large(path.name, size, self.settings.input_limit_bytes)
        names = [path.name for path in paths]
        if len(set(names)) < len(names):
            raise InvalidInput("Two of the files have the same name.", hint="Rename one of them.")
        return paths

    def _enqueued(self, persona: Persona, paths: Sequence[Path], fields: dict[str, Any]) -> Execution:
        from personas_nb.engine.workspaces import trial_folder_of, workspace_of

        execution_id, is_test = new_id(), fields["eval_run_id"] is not None
        home = self.store.home
        folder = trial_folder_of(home, execution_id) if is_test else workspace_of(home, persona)
        files = RunFiles(paths, folder)
        try:
            files.copy()
            with self.store.write():
                used = self.table.open_files(persona.id) if paths and not is_test else []
                listing = files.listing(used, execution_id)
                execution = made(Execution, {**fields, "id": execution_id, "files": listing})
                self.table.enqueue(execution, queue_limit=self.settings.queue_limit)
                files.place()  # at last: what was refused before changes no file
        finally:
            files.discard()
        return execution


class RunHandle:
    """A run that goes on in the background; ``id`` names it."""

    def __init__(
        self,
        executions: Executions,
        execution_id: str,
        ended: Future[None] | None,
        feed: queue.SimpleQueue[Batch] | None = None,
    ) -> None:
        self.id = execution_id
        self.ended = ended
        self._executions = executions
        self._feed = feed  # None: the run was started elsewhere, and its stored events are read instead

    def wait(self, timeout: float | None = None) -> Execution:
        """The record once the run is finished, or waits for a decision; raises ``TimeoutError`` before.

        Raises ``StoreError`` when the end of the run could not be stored, because the disk is full for example.

        An interrupt (Ctrl-C, the kernel's stop button) cancels the run and raises ``Cancelled``.
        """
        try:
            if self.ended is None:
                self._poll(timeout)
            else:
                with attended(self.id) as desk:
                    if not desk.serve_until(self.ended, timeout):
                        raise self._still_going(timeout)
                self.ended.result()  # raises what kept the end from being stored
        except KeyboardInterrupt:
            raise self.interrupted() from None
        execution = self._executions.whole(self.id)
        if self.ended is not None and execution.status in STARTED:  # a decision lets it go on
            return self._executions.handle(self.id).wait(timeout)
        return execution

    async def wait_async(self) -> Execution:
        """``wait`` for a cell that awaits; cancelling the await cancels the run."""
        try:
            if self.ended is not None:
                with attended(self.id, asyncio.get_running_loop()):
                    await asyncio.shield(asyncio.wrap_future(self.ended))
            else:
                await asyncio.to_thread(self._poll, None)
        except asyncio.CancelledError:
            await asyncio.to_thread(self.cancel)
            raise
        execution = await asyncio.to_thread(self._executions.whole, self.id)
        if self.ended is not None and execution.status in STARTED:
            return await self._executions.handle(self.id).wait_async()
        return execution

    def cancel(self) -> Execution:
        """End the run; what it had until then is kept."""
        return self._executions.cancel(self.id)

    def interrupted(self) -> Cancelled:
        """Cancel the run because the person interrupted, and make the error that says so."""
        execution = self.cancel()
        return Cancelled(
            f"The run of {execution.persona_name} was cancelled.",
            execution=execution,
            hint=f"What it had until then: `%persona runs show {execution.id[:8]}`.",
        )

    def batches(self, tick_seconds: float = 0.1) -> Iterator[Batch]:
        """Events in batches as they are stored, an empty batch after each quiet ``tick_seconds``, until the end."""
        if self._feed is None or self.ended is None:
            yield from self._polled(tick_seconds)
            return
        with attended(self.id) as desk:
            while True:
                is_over = self.ended.done()
                try:
                    batch = self._feed.get(timeout=0 if is_over else tick_seconds)
                except queue.Empty:
                    if is_over:
                        return
                    batch = ()
                desk.serve()
                yield batch

    def events(self) -> RunEvents:
        """Every event of the run, from its beginning to its end; for ``for`` and ``async for``."""
        return RunEvents(self._executions, self.id, self._is_over)

    def _polled(self, tick_seconds: float) -> Iterator[Batch]:
        seq = -1
        while True:
            is_over = self._is_over()
            rows = self._executions.recorded(self.id, seq)
            seq = rows[-1][0] if rows else seq
            yield [event for _seq, _at, event in rows]
            if is_over:
                return
            time.sleep(max(tick_seconds, POLL_SECONDS))

    def _is_over(self) -> bool:
        if self.ended is None:  # somebody else's process runs it, and may have died
            recover(self._executions.store)
        found = self._executions.table.get(self.id)
        return found is None or found.status in FINISHED or found.status == "waiting"

    def _poll(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_over():
            if deadline is not None and time.monotonic() > deadline:
                raise self._still_going(timeout)
            time.sleep(POLL_SECONDS)

    def _still_going(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"The run {self.id[:8]} still goes on after {timeout or 0:g} s.")


class RunEvents:
    """The stored events of a run; follows it until it ends."""

    def __init__(self, executions: Executions, execution_id: str, is_over: Callable[[], bool]) -> None:
        self._executions, self._id, self._is_over = executions, execution_id, is_over

    def __iter__(self) -> Iterator[RunEvent]:
        for batch in self._batches():
            yield from batch
            if not batch:
                time.sleep(POLL_SECONDS / 4)

    async def __aiter__(self) -> AsyncIterator[RunEvent]:
        batches = self._batches()
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            for event in batch:
                yield event
            if not batch:
                await asyncio.sleep(POLL_SECONDS / 4)

    def _batches(self) -> Iterator[list[RunEvent]]:
        seq = -1
        while True:
            is_over = self._is_over()
            rows = self._executions.recorded(self._id, seq)
            seq = rows[-1][0] if rows else seq
            yield [event for _seq, _at, event in rows]
            if is_over:
                return


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is longer than the system takes
        return False


def _too_large(what: str, size_bytes: int, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"{what} has {size_bytes / 2**20:,.1f} MiB; the limit is {limit_bytes / 2**20:g} MiB.",
        hint="Give a smaller part of it, or raise input_limit_bytes in the settings.",
    )
