"""Design sessions: a conversation that ends in a persona, stored after every step.

- A session is a row; ``turns`` is its whole history. Any process resumes it with ``get``.
- ``revision`` is an optimistic lock: whoever changed the row first wins, the other one gets ``Conflict``, also
  one that comes back from a slow model after somebody cancelled its step.
- The row is written before the designer is asked (``analyzing``, ``refining``) and after; nothing is held open
  in between. A step that fails or is cancelled puts back the state before it, with the reason in ``error``; that of
  a process that is gone is put back by whoever looks next.
- What a session is given to look at is read once and kept with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personas_nb.design import context as contexts
from personas_nb.design.apply import Applied, Applier, last_design
from personas_nb.design.designer import DesignAnswer, DesignerFor, DesignRequest, last_result
from personas_nb.design.merge import as_designed, merged
from personas_nb.design.progress import Following, Progress, in_a_thread
from personas_nb.design.session import BUSY, DesignSession, TurnKind, resting
from personas_nb.entities.base import Entity, made, now
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import (
    ContextItem,
    DesignResult,
    DesignSessionRecord,
    DesignTurn,
    Feasibility,
)
from personas_nb.entities.persona import Persona, slug_of
from personas_nb.entities.todo import Todo
from personas_nb.errors import Conflict, InvalidInput, NotFound, StoreError, did_you_mean
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.design import DesignEvents, lock_of
from personas_nb.vault.redaction import Redactor
from personas_nb.worker import is_alive, is_stalled

if TYPE_CHECKING:
    from personas_nb.personas.personas import Personas
    from personas_nb.tools.catalog import Tools

__all__ = ["DesignSession", "Sessions"]

T = TypeVar("T")
E = TypeVar("E", bound=Entity)
Context = contexts.Source | Iterable[contexts.Source]

_LIMIT_CHARS = 100_000


def _plain_run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


class Sessions:
    """The design sessions of a home.

    ``designer_for`` gives the designer of a provider, ``run`` blocks until a coroutine is done on the process's one
    event loop and ``start`` does not wait for it, ``redactor`` takes known secrets out of what people, files and
    models say, ``worker_id`` is that of this process.
    """

    def __init__(
        self,
        store: Store,
        *,
        designer_for: DesignerFor,
        personas: Personas,
        tools: Tools,
        settings: Settings,
        run: Callable[[Coroutine[Any, Any, Any]], Any] = _plain_run,
        start: Callable[[Coroutine[Any, Any, Any]], Future[Any]] = in_a_thread,
        redactor: Callable[[], Redactor] = lambda: Redactor({}),
        worker_id: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.store = store
        self.table = store.table("design_sessions", DesignSessionRecord)
        self.moments = DesignEvents(store)
        self._contexts = store.table("design_context", ContextItem)
        self._designer_for = designer_for
        self._personas = personas
        self._tools = tools
        self._settings = settings
        self._redactor = redactor
        self._applier = Applier(store, personas=personas, tools=tools, timezone=settings.zone)
        self._start = start
        self.under_way: dict[str, asyncio.Task[Any]] = {}
        self.worker_id = worker_id
        self.run = run

    def open(
        self,
        instruction: str,
        *,
        name: str | None = None,
        provider: str | None = None,
        context: Context = (),
    ) -> DesignSession:
        """Design a persona from a sentence; `aopen` waited for."""
        session: DesignSession = self.run(
            self.aopen(instruction, name=name, provider=provider, context=context)
        )
        return session

    async def aopen(
        self,
        instruction: str,
        *,
        name: str | None = None,
        provider: str | None = None,
        context: Context = (),
    ) -> DesignSession:
        """Design a persona from a sentence: a session with a design, or with one question.

        The ``name`` of an existing persona designs that one anew: what a person changed of it by hand stays.
        ``context`` are files, web addresses, and DataFrames, each alone or as ``(name, DataFrame)``. Raises
        ``InvalidInput`` and ``ToolError`` before anything is stored; ``ModelError`` or ``DesignError`` leave an idle
        session.
        """
        instruction = self.checked(instruction, "instruction")
        sources = contexts.sources_of(context)
        designer = self._designer_for(provider)
        name = self.checked_name(name)
        existing = self._persona_named(name) if name else None
        progress = Progress("", self.redact())
        items = await contexts.gathered(
            sources,
            settings=self._settings,
            redact=self.redact(),
            seen=lambda item: progress.say("context", f"{item.name}: {item.used}"),
        )
        record = DesignSessionRecord(
            instruction=instruction,
            name=existing.name if existing else name,
            persona_id=existing.id if existing else None,
            provider=designer.provider,
            model=designer.model,
            context=tuple(item.source for item in items),
        )
        session = DesignSession(self, await asyncio.to_thread(self._stored, record, items))
        progress.belongs_to(session.id)
        return await session.step("instruction", instruction, progress)

    def adopt(
        self, result: DesignResult, *, instruction: str, name: str | None = None, provider: str = "import"
    ) -> DesignSession:
        """A session whose first design is this one, which nobody was asked for; an import becomes one so.

        ``name`` is that of the persona that it shall become. Its triggers are off until a person enables them.
        """
        name = self.checked_name(name)
        existing = self._persona_named(name) if name else None
        record = DesignSessionRecord(
            instruction=self.checked(instruction, "instruction"),
            name=existing.name if existing else name,
            persona_id=existing.id if existing else None,
            provider=provider,
        )
        result = _redacted(result, self._redactor())
        turn = self._turn(record, result).changed(text=record.instruction, cost_usd=0.0)
        return DesignSession(self, self._stored(record.changed(turns=(turn,), state="preview"), []))

    def follow(self, step: Coroutine[Any, Any, T]) -> Following[T]:
        """Start a step (``aopen``, ``session.arefine`` …) in the background, to watch it."""
        return Following(self._start, step)

    def list(self) -> list[DesignSession]:
        """All sessions, the newest first."""
        return [DesignSession(self, self._awake(row)) for row in self.table.find(order_by="created_at desc")]

    def get(self, id_or_prefix: str = "latest") -> DesignSession:
        """The session of that id, or of a prefix that only one id has; ``latest`` is the one changed last."""
        if id_or_prefix == "latest":
            found = self.table.find(order_by="updated_at desc", limit=1)
        else:
            prefix = str(id_or_prefix).strip().lower()
            found = self.table.find("substr(id, 1, ?) = ?", [len(prefix), prefix], limit=2) if prefix else []
        if len(found) > 1:
            raise InvalidInput(f"Several sessions begin with “{id_or_prefix}”.", hint="Give more of the id.")
        if not found:
            ids = [record.id for record in self.table.find()]
            hint = did_you_mean(id_or_prefix, ids, otherwise="`%persona sessions` lists them.")
            raise NotFound(f"There is no design session “{id_or_prefix}”.", hint=hint)
        return DesignSession(self, self._awake(found[0]))

    def discard(self, id_or_prefix: str) -> None:
        """Delete a session; a persona that was made of it stays. A step under way is ended."""
        session_id = self.get(id_or_prefix).id
        self.table.delete("id = ?", [session_id])
        self.stop(session_id)

    def todo(self, persona: Persona) -> tuple[Todo, ...]:
        """What of the persona's last design is still missing, each with the verb that removes it."""
        return tuple(self._applier.todo(persona))

    # ── what a session needs ────────────────────────────────────────────────────────────────────────────────

    def checked(self, text: str, what: str) -> str:
        """What a person said, without known secrets; raises ``InvalidInput`` where it is nothing or too much."""
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(f"The {what} is empty.", hint="Say in a sentence what you want.")
        text = text.strip()
        if len(text) > _LIMIT_CHARS:
            raise InvalidInput(
                f"The {what} has {len(text):_} characters; {_LIMIT_CHARS:_} are allowed.",
                hint="Put long material into a file and pass it as context.",
            )
        return self._redactor().redact(text)

    def checked_name(self, name: str | None) -> str | None:
        """A name that a persona can have."""
        return None if name is None else made(Persona, {"name": self._redactor().redact(name)}).name

    def redact(self) -> Callable[[str], str]:
        """Takes known secrets out of a text."""
        return self._redactor().redact

    def context_of(self, session_id: str) -> Sequence[ContextItem]:
        """What a session was given to look at."""
        return self._contexts.find("session_id = ?", [session_id])

    def note(self, session_id: str, kind: str, text: str) -> None:
        """Store one moment of a session."""
        progress = Progress(session_id, self.redact())
        progress.say(kind, text)
        self.keep(progress)

    def keep(self, progress: Progress) -> None:
        """Store what was said."""
        progress.store(self.moments)

    def assess(self, record: DesignSessionRecord, result: DesignResult) -> Feasibility:
        """Whether a design can work with what is there now."""
        return self._applier.assess(result, self._persona_of(record))

    def write(self, record: DesignSessionRecord, **fields: Any) -> DesignSessionRecord:
        """The record changed and stored, if nobody changed it meanwhile."""
        fields.setdefault("worker_id", self.worker_id())
        changed = record.changed(**fields, revision=record.revision + 1, updated_at=now())
        with self.store.write():
            stored = self.table.get(record.id)
            if stored is None:
                raise Conflict("This design session was discarded.", hint="Design again.")
            if stored.revision != record.revision:
                raise Conflict(
                    "This design session was changed by another notebook or kernel.",
                    hint=f"Look at it as it is now, then say again what you want: "
                    f"`%persona sessions resume {record.id[:8]}`.",
                )
            written = {name: getattr(changed, name) for name in (*fields, "revision", "updated_at")}
            self.table.update(record.id, **written)
        return changed

    def stop(self, session_id: str) -> None:
        """End the step of this process that is under way for a session, from any thread."""
        task = self.under_way.get(session_id)
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def designed(
        self, record: DesignSessionRecord, kind: TurnKind, text: str, progress: Progress
    ) -> tuple[DesignAnswer, DesignTurn]:
        """The designer's answer, and the turn that it makes of the session."""
        request = await asyncio.to_thread(self._request, record, kind, text, progress)
        redactor = self._redactor()
        try:
            # Nobody designed what was imported: its changes are asked of whoever would design now.
            provider = None if record.provider == "import" else record.provider
            answer = await self._designer_for(provider).design(request)
        except Exception as error:
            redactor.clean(error)  # a notebook shows it with all its causes
            raise
        question = _redacted(answer.question, redactor) if answer.question else None
        result = _redacted(answer.result, redactor) if answer.result else None
        answer = DesignAnswer(result, question, answer.cost_usd)
        if result is None:
            return answer, DesignTurn(kind=kind, text=text)
        if record.name and request.previous is None:
            result = result.changed(name=record.name)
        servers = tuple(server for each in request.context for server in each.servers)
        if request.previous is None and not result.suggested_servers:
            result = result.changed(suggested_servers=servers)
        return answer, await asyncio.to_thread(self._turn, record, result)

    def _turn(self, record: DesignSessionRecord, result: DesignResult) -> DesignTurn:
        """A design as a turn: for a persona that exists, with what a person changed of it by hand."""
        fields: dict[str, Any] = {}
        result = self._applier.normalised(result)
        persona = self._persona_of(record)
        if persona is not None:
            seen, carried = _seen(record.turns), _kept(record.turns)
            present = self._applier.present(persona)
            known = (last_design(persona), seen, last_result(record.turns))
            found = merged(result, present, known, carried)
            result, fields = found.result, {"seen": present, "kept": found.kept}
        feasibility = self._applier.assess(result, persona)
        return DesignTurn(
            kind="instruction", text="", result=result.changed(feasibility=feasibility), **fields
        )

    def apply(
        self, record: DesignSessionRecord, result: DesignResult, name: str | None
    ) -> tuple[Applied, tuple[DesignTurn, ...]]:
        """Apply to the persona that is meant; ``name`` is one that was asked for just now.

        What a person changed since the design was shown stays too. The turns say what was applied.
        """
        existing, name, renamed = self._meant(record, result, name)
        kept = _kept(record.turns)
        if existing is not None:
            known = (last_design(existing), _seen(record.turns))
            found = merged(self._applier.normalised(result), self._applier.present(existing), known, kept)
            result, kept = found.result, found.kept
        applied = self._applier.apply(
            result,
            name=name,
            existing=existing,
            rename=renamed,
            context=record.context,
            designed=as_designed(result, kept),
            session_id=record.id,
            origin="import" if record.provider == "import" else "design",
        )
        seen = self._applier.present(applied.persona)
        *rest, last = record.turns
        newest = {"result": result} if last.result is not None else {}
        return applied, (*rest, last.changed(seen=seen, kept=kept, **newest))

    def _meant(
        self, record: DesignSessionRecord, result: DesignResult, name: str | None
    ) -> tuple[Persona | None, str, bool]:
        """The persona that a design is for (None: a new one), its name, and whether it is renamed."""
        if name:
            return self._persona_named(name), name, False
        existing = self._persona_of(record)
        if existing is None:
            existing = self._persona_named(record.name) if record.name else self._made_before(record)
        renamed = _was_renamed(record)
        name = result.name or record.name or "Persona"
        if existing is None and renamed:
            existing, renamed = self._persona_named(name), False
        if existing is None and record.name is None:
            name = self._free(name)
        return existing, name, renamed

    def _persona_of(self, record: DesignSessionRecord) -> Persona | None:
        return self._persona_named(record.persona_id) if record.persona_id else None

    def _persona_named(self, ref: str) -> Persona | None:
        """The persona of exactly that id, name or slug; a prefix of an id is no name (“Ada” begins many)."""
        found = self.store.table("personas", Persona).find(
            "id = ?1 or name = ?1 or slug = ?2", [ref, slug_of(ref)], order_by="id = ?1 or name = ?1 desc"
        )
        return found[0] if found else None

    def _stored(self, record: DesignSessionRecord, items: Iterable[ContextItem]) -> DesignSessionRecord:
        with self.store.write():
            self.table.insert(record)
            for item in items:
                self._contexts.insert(item.changed(session_id=record.id))
        return record

    def _awake(self, record: DesignSessionRecord) -> DesignSessionRecord:
        """The record at rest where the process that worked on it is gone."""
        if record.state not in BUSY or not self._is_gone(record.worker_id):
            return record
        try:
            why = f"The kernel that was {record.state} it ended before it was done."
            return self.write(record, state=resting(record.turns), error=why)
        except (Conflict, StoreError):  # somebody else was faster, or it cannot be written
            return self.table.get(record.id) or record

    def _is_gone(self, worker_id: str | None) -> bool:
        if worker_id is None:
            return False
        lock_path = lock_of(self.store, worker_id)
        return lock_path is None or not is_alive(Path(lock_path)) or is_stalled(self.store, worker_id)

    def _request(
        self, record: DesignSessionRecord, kind: TurnKind, text: str, progress: Progress
    ) -> DesignRequest:
        persona = self._persona_of(record)
        return DesignRequest(
            instruction=record.instruction,
            kind=kind,
            text=text,
            turns=record.turns,
            name=record.name,
            existing=self._applier.present(persona) if persona else None,
            tools=tuple(self._tools.list()),
            connectors=tuple(self.store.table("connectors", Connector).find()),
            context=tuple(map(contexts.text_of, self.context_of(record.id))),
            timezone=self._settings.zone(),
            progress=progress.say,
        )

    def _made_before(self, record: DesignSessionRecord) -> Persona | None:
        """The persona that an earlier session made of the same instruction without a name, so that a notebook
        that runs again does not make a second one."""
        rows = self.table.find(
            "instruction = ? and name is null and persona_id is not null and id != ?",
            [record.instruction, record.id],
            order_by="updated_at desc",
        )
        found = (self._persona_named(row.persona_id) for row in rows if row.persona_id)
        return next((persona for persona in found if persona is not None), None)

    def _free(self, name: str) -> str:
        """The name, with a number when a persona has it that this session did not make."""
        candidate, number = name, 1
        while self._has_slug(slug_of(candidate)):
            number += 1
            candidate = f"{name} {number}"
        return candidate

    def _has_slug(self, slug: str) -> bool:
        return self.store.table("personas", Persona).count("slug = ?", [slug]) > 0


def _redacted(said: E, redactor: Redactor) -> E:
    """What a designer said, without secrets; as it is when it has none."""
    fields = said.model_dump()
    clean = redactor.redact_value(fields)
    return said if clean == fields else made(type(said), clean)


def _seen(turns: tuple[DesignTurn, ...]) -> DesignResult | None:
    """The persona as the newest design was compared with it."""
    return next((turn.seen for turn in reversed(turns) if turn.seen is not None), None)


def _kept(turns: tuple[DesignTurn, ...]) -> Any:
    return next((turn.kept for turn in reversed(turns) if turn.result is not None), ())


def _was_renamed(record: DesignSessionRecord) -> bool:
    """Whether a refinement of this session gave the design another name."""
    names = [turn.result.name for turn in record.turns if turn.result is not None]
    return len(names) > 1 and names[-1] != names[0]
