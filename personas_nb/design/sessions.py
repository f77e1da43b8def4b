"""Design sessions: a conversation that ends in a persona, stored after every step.

- A session is a row; ``turns`` is its whole history. Any process resumes it with ``get``.
- ``revision`` is an optimistic lock: whoever changed the row first wins, the other one gets ``Conflict``, also
  one that comes back from a slow model after somebody cancelled its step.
- The row is written before the designer is asked (``analyzing``, ``refining``) and after; nothing is held open
  in between. A step that fails or is cancelled puts back the state before it, with the reason in ``error``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from personas_nb.design import context as context_files
from personas_nb.design.apply import Applied, Applier
from personas_nb.design.designer import DesignAnswer, DesignerFor, DesignRequest, last_result
from personas_nb.entities.base import Entity, made, now
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import (
    DesignQuestion,
    DesignResult,
    DesignSessionRecord,
    DesignTurn,
    Feasibility,
    FeasibilityIssue,
    SessionState,
)
from personas_nb.entities.persona import Persona, slug_of
from personas_nb.errors import Conflict, InvalidInput, NotFound, PersonaError, did_you_mean
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.vault.redaction import Redactor

if TYPE_CHECKING:
    from personas_nb.personas.personas import Personas
    from personas_nb.tools.catalog import Tools

T = TypeVar("T")
E = TypeVar("E", bound=Entity)
TurnKind = Literal["instruction", "answer", "refine"]

_BUSY: tuple[SessionState, ...] = ("analyzing", "refining", "applying")
_LIMIT_CHARS = 100_000


def _plain_run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


class Sessions:
    """The design sessions of a home.

    ``designer_for`` gives the designer of a provider, ``run`` blocks until a coroutine is done on the
    process's one event loop, ``redactor`` takes known secrets out of what people, files and models say.
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
        redactor: Callable[[], Redactor] = lambda: Redactor({}),
    ) -> None:
        self._store = store
        self._table = store.table("design_sessions", DesignSessionRecord)
        self._designer_for = designer_for
        self._personas = personas
        self._tools = tools
        self._settings = settings
        self._redactor = redactor
        self._applier = Applier(store, personas=personas, tools=tools, timezone=settings.zone)
        self._under_way: dict[str, asyncio.Task[DesignAnswer]] = {}
        self.run = run

    def open(
        self,
        instruction: str,
        *,
        name: str | None = None,
        provider: str | None = None,
        context: str | Path | Iterable[str | Path] = (),
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
        context: str | Path | Iterable[str | Path] = (),
    ) -> DesignSession:
        """Design a persona from a sentence: a session with a design, or with one question.

        The ``name`` of an existing persona designs that one anew. ``context`` are paths of text files. Raises
        ``InvalidInput`` before anything is stored; ``ModelError`` or ``DesignError`` leave an idle session.
        """
        instruction = self._checked(instruction, "instruction")
        paths = context_files.locate(context)
        context_files.read(paths, limit_bytes=self._settings.context_file_limit_bytes)
        designer = self._designer_for(provider)
        name = self._checked_name(name)
        existing = self._persona_named(name) if name else None
        record = DesignSessionRecord(
            instruction=instruction,
            name=existing.name if existing else name,
            persona_id=existing.id if existing else None,
            provider=designer.provider,
            model=designer.model,
            context=paths,
        )
        session = DesignSession(self, await asyncio.to_thread(self._table.insert, record))
        await session._step("instruction", instruction)
        return session

    def list(self) -> list[DesignSession]:
        """All sessions, the newest first."""
        return [DesignSession(self, record) for record in self._table.find(order_by="created_at desc")]

    def get(self, id_or_prefix: str = "latest") -> DesignSession:
        """The session of that id, or of a prefix that only one id has; ``latest`` is the one changed last."""
        if id_or_prefix == "latest":
            found = self._table.find(order_by="updated_at desc", limit=1)
        else:
            prefix = str(id_or_prefix).strip().lower()
            found = self._table.find("substr(id, 1, ?) = ?", [len(prefix), prefix], limit=2) if prefix else []
        if len(found) > 1:
            raise InvalidInput(f"Several sessions begin with “{id_or_prefix}”.", hint="Give more of the id.")
        if not found:
            ids = [record.id for record in self._table.find()]
            hint = did_you_mean(id_or_prefix, ids, otherwise="`%persona sessions` lists them.")
            raise NotFound(f"There is no design session “{id_or_prefix}”.", hint=hint)
        return DesignSession(self, found[0])

    def discard(self, id_or_prefix: str) -> None:
        """Delete a session; a persona that was made of it stays."""
        self._table.delete("id = ?", [self.get(id_or_prefix).id])

    def todo(self, persona: Persona) -> tuple[FeasibilityIssue, ...]:
        """What of the persona's last design is still missing, each with the verb that removes it."""
        return tuple(self._applier.todo(persona))

    # ── what sessions need ──────────────────────────────────────────────────────────────────────────────────

    def _checked(self, text: str, what: str) -> str:
        if not isinstance(text, str) or not text.strip():
            raise InvalidInput(f"The {what} is empty.", hint="Say in a sentence what you want.")
        text = text.strip()
        if len(text) > _LIMIT_CHARS:
            raise InvalidInput(
                f"The {what} has {len(text):_} characters; {_LIMIT_CHARS:_} are allowed.",
                hint="Put long material into a file and pass it as context.",
            )
        return self._redactor().redact(text)

    def _checked_name(self, name: str | None) -> str | None:
        return None if name is None else made(Persona, {"name": self._redactor().redact(name)}).name

    def _persona_named(self, ref: str) -> Persona | None:
        """The persona of exactly that id, name or slug; a prefix of an id is no name (“Ada” begins many)."""
        found = self._store.table("personas", Persona).find(
            "id = ?1 or name = ?1 or slug = ?2", [ref, slug_of(ref)], order_by="id = ?1 or name = ?1 desc"
        )
        return found[0] if found else None

    def _write(self, record: DesignSessionRecord, **fields: Any) -> DesignSessionRecord:
        """The record changed and stored, if nobody changed it meanwhile."""
        changed = record.changed(**fields, revision=record.revision + 1, updated_at=now())
        with self._store.write():
            stored = self._table.get(record.id)
            if stored is None:
                raise Conflict("This design session was discarded.", hint="Design again.")
            if stored.revision != record.revision:
                raise Conflict(
                    "This design session was changed by another notebook or kernel.",
                    hint=f"Get it as it is now: studio.sessions.get('{record.id[:8]}').",
                )
            written = {name: getattr(changed, name) for name in (*fields, "revision", "updated_at")}
            self._table.update(record.id, **written)
        return changed

    def _stop(self, session_id: str) -> None:
        """End the step of this process that is under way for a session, from any thread."""
        task = self._under_way.get(session_id)
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)

    def _request(self, record: DesignSessionRecord, kind: TurnKind, text: str) -> DesignRequest:
        persona = self._persona_named(record.persona_id) if record.persona_id else None
        limit, redact = self._settings.context_file_limit_bytes, self._redactor().redact
        context = context_files.read(record.context, limit_bytes=limit, skip_missing=bool(record.turns))
        return DesignRequest(
            instruction=record.instruction,
            kind=kind,
            text=text,
            turns=record.turns,
            name=record.name,
            existing=_design_of(persona) if persona else None,
            tools=tuple(self._tools.list()),
            connectors=tuple(self._store.table("connectors", Connector).find()),
            context=tuple(replace(each, text=redact(each.text)) for each in context),
            timezone=self._settings.zone(),
        )

    async def _designed(self, record: DesignSessionRecord, kind: TurnKind, text: str) -> DesignAnswer:
        request = await asyncio.to_thread(self._request, record, kind, text)
        redactor = self._redactor()
        try:
            answer = await self._designer_for(record.provider).design(request)
        except Exception as error:
            redactor.clean(error)  # a notebook shows it with all its causes
            raise
        question, result = _redacted(answer.question, redactor), _redacted(answer.result, redactor)
        if result is None:
            return DesignAnswer(None, question, answer.cost_usd)
        if record.name and not record.turns:
            result = result.changed(name=record.name)
        feasibility = await asyncio.to_thread(self._applier.assess, result)
        return DesignAnswer(result.changed(feasibility=feasibility), question, answer.cost_usd)

    def _apply(self, record: DesignSessionRecord, result: DesignResult, name: str | None) -> Applied:
        """Apply to the persona that is meant; ``name`` is one that was asked for just now."""
        renamed = False
        if name:
            existing = self._persona_named(name)
        else:
            existing = self._persona_named(record.persona_id) if record.persona_id else None
            if existing is None and record.name:
                existing = self._persona_named(record.name)
            elif existing is None:
                existing = self._made_before(record)
            renamed = _was_renamed(record)
            name = result.name or record.name or "Persona"
            if existing is None and renamed:
                existing, renamed = self._persona_named(name), False
            if existing is None and record.name is None:
                name = self._free(name)
        return self._applier.apply(
            result, name=name, existing=existing, rename=renamed, context=record.context
        )

    def _made_before(self, record: DesignSessionRecord) -> Persona | None:
        """The persona that an earlier session made of the same instruction without a name, so that a notebook
        that runs again does not make a second one."""
        rows = self._table.find(
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
        return self._store.table("personas", Persona).count("slug = ?", [slug]) > 0


class DesignSession:
    """One session, as it was when it was got; its methods change it and the stored row together.

    A notebook uses the plain methods; those with an ``a`` in front are the same, awaitable.
    """

    def __init__(self, sessions: Sessions, record: DesignSessionRecord) -> None:
        self._sessions = sessions
        self.record = record
        self.applied_changes: tuple[str, ...] = ()
        """What the last ``apply`` changed, in words; nothing when everything was so already."""

    @property
    def id(self) -> str:
        """The session's id; ``studio.sessions.get`` takes any unique prefix of it."""
        return self.record.id

    @property
    def state(self) -> SessionState:
        """``idle``, ``analyzing``, ``awaiting-input``, ``preview``, ``refining``, ``applying`` or ``applied``."""
        return self.record.state

    @property
    def result(self) -> DesignResult | None:
        """The newest design; None while there is none."""
        return last_result(self.record.turns)

    @property
    def question(self) -> DesignQuestion | None:
        """What must be answered before it goes on; None when nothing is asked."""
        return self.record.turns[-1].question if self.record.turns else None

    @property
    def error(self) -> str | None:
        """Why the last step failed; None when it did not."""
        return self.record.error

    @property
    def cost_usd(self) -> float | None:
        """What the session cost until now, in US dollars; None when a price is unknown."""
        return _sum(turn.cost_usd for turn in self.record.turns)

    @property
    def is_rehearsal(self) -> bool:
        """Whether rules design here instead of a model."""
        return self.record.provider == "rehearsal"

    @property
    def feasibility(self) -> Feasibility:
        """Whether the newest design can work with what is there now."""
        return self._sessions._applier.assess(self._design())

    def answer(self, text: str) -> DesignSession:
        """Answer the question; an option's text, its number, or words of your own."""
        return self._run(self.aanswer(text))

    async def aanswer(self, text: str) -> DesignSession:
        """`answer`, awaitable."""
        if self.question is None:
            raise InvalidInput(
                "The session asks nothing.", hint='Change the design with `%persona refine "…"`.'
            )
        text = self._sessions._checked(text, "answer")
        if text.isdigit() and 1 <= int(text) <= len(self.question.options):
            text = self.question.options[int(text) - 1]
        await self._step("answer", text)
        return self

    def refine(self, text: str) -> DesignSession:
        """Change the design as the text asks; what it does not ask for stays as it is."""
        return self._run(self.arefine(text))

    async def arefine(self, text: str) -> DesignSession:
        """`refine`, awaitable."""
        if self.question is not None:
            raise InvalidInput(
                f"The session waits for an answer: {self.question.question}",
                hint='Answer it with `%persona answer "…"`.',
            )
        self._design()
        await self._step("refine", self._sessions._checked(text, "wish"))
        return self

    def retry(self) -> DesignSession:
        """Ask again for the first design, after it failed."""
        if self.record.turns:
            raise InvalidInput(
                "The session has a design already.", hint='Change it with `%persona refine "…"`.'
            )
        self._run(self._step("instruction", self.record.instruction))
        return self

    def undo(self) -> DesignSession:
        """Take back the last answer or refinement; what it cost stays counted."""
        self._check_not_busy()
        if len(self.record.turns) < 2:
            raise InvalidInput("There is nothing to undo in this session.", hint="Its first design is shown.")
        *rest, before, last = self.record.turns
        cost = _sum((before.cost_usd, last.cost_usd))
        turns = (*rest, before.changed(cost_usd=cost))
        self._write(turns=turns, state=_resting(turns), error=None)
        return self

    def cancel(self) -> DesignSession:
        """Give up the step under way, here or in another process; a session at rest stays as it is.

        Whoever waits for it gets ``Conflict``: in this process at once, in another one when its model has answered.
        """
        stored = self._sessions._table.get(self.id)
        if stored is None:
            raise Conflict("This design session was discarded.", hint="Design again.")
        self.record = stored
        if stored.state in _BUSY:
            self._write(state=_resting(stored.turns), error="The step was cancelled.")
            self._sessions._stop(self.id)
        return self

    def apply(self, name: str | None = None) -> Persona:
        """Make the design a persona, or the next revision of the one it is for.

        ``name`` chooses the persona; one of that name is revised. Raises ``DesignError`` when the design is
        blocked; then nothing was written. `applied_changes` says what was changed.
        """
        self._check_not_busy()
        result = self._design()
        if self.question is not None:
            raise InvalidInput(
                f"The session waits for an answer: {self.question.question}",
                hint='Answer it with `%persona answer "…"`, or take the question back with `%persona undo`.',
            )
        name = self._sessions._checked_name(name)
        try:
            # One transaction: a session that somebody changed meanwhile takes the persona's changes back.
            with self._sessions._store.write():
                applied = self._sessions._apply(self.record, result, name)
                fields = {"state": "applied", "persona_id": applied.persona.id, "error": None}
                record = self._sessions._write(self.record, **fields, **({"name": name} if name else {}))
        except Conflict:
            raise
        except PersonaError as error:
            self._write(error=error.message)
            raise
        self.record, self.applied_changes = record, applied.changes
        return applied.persona

    # ── one step ────────────────────────────────────────────────────────────────────────────────────────────

    async def _step(self, kind: TurnKind, text: str) -> None:
        self._check_not_busy()
        state = self.state
        try:
            await _to_its_end(self._write, state="refining" if self.result else "analyzing", error=None)
            answer = await self._answered(kind, text)
        except BaseException as error:
            # CancelledError too: the row must not stay busy when a cell is interrupted.
            self._give_up(state, error)
            raise
        turn = DesignTurn(
            kind=kind, text=text, result=answer.result, question=answer.question, cost_usd=answer.cost_usd
        )
        turns = (*self.record.turns, turn)
        await _to_its_end(self._write, turns=turns, state=_resting(turns))

    async def _answered(self, kind: TurnKind, text: str) -> DesignAnswer:
        """The designer's answer; ``Conflict`` when `cancel` ended the step."""
        step = asyncio.create_task(self._sessions._designed(self.record, kind, text))
        self._sessions._under_way[self.id] = step
        try:
            return await step
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise  # not the step alone: whoever waits for it was cancelled
            raise Conflict("The step was cancelled.", hint="The session is as it was before it.") from None
        finally:
            del self._sessions._under_way[self.id]

    def _give_up(self, state: SessionState, error: BaseException) -> None:
        if isinstance(error, PersonaError):
            why = error.message
        elif isinstance(error, asyncio.CancelledError):
            why = "The step was cancelled."
        else:
            why = f"The step failed ({type(error).__name__})."
        if self.state == state:
            return  # the row was not even marked busy
        try:
            self._write(state=state, error=self._sessions._redactor().redact(why))
        except Conflict:
            self.record = (
                self._sessions._table.get(self.id) or self.record
            )  # cancelled elsewhere: as it is now
        except PersonaError:
            return  # the store cannot be written; the first error says more

    def _check_not_busy(self) -> None:
        if self.state in _BUSY:
            raise Conflict(
                f"This design session is {self.state} in another notebook or kernel.",
                hint="Wait until it is done, or give that step up with session.cancel().",
            )

    def _design(self) -> DesignResult:
        if self.result is None:
            ask = self.question
            raise InvalidInput(
                f"There is no design yet: {ask.question}" if ask else "There is no design yet.",
                hint='Answer with `%persona answer "…"`.'
                if ask
                else f"Try again with `%persona sessions resume {self.id[:8]}`.",
            )
        return self.result

    def _write(self, **fields: Any) -> None:
        self.record = self._sessions._write(self.record, **fields)

    def _run(self, step: Coroutine[Any, Any, T]) -> DesignSession:
        self._sessions.run(step)
        return self

    def __repr__(self) -> str:
        name = self.result.name if self.result else self.record.name or "no design yet"
        return f"<DesignSession {self.id[:8]} {self.state}: {name}>"


async def _to_its_end(write: Callable[..., None], **fields: Any) -> None:
    """A write in a thread of its own; a cancelled caller waits for it, so that memory and row agree."""
    task = asyncio.ensure_future(asyncio.to_thread(write, **fields))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _redacted(said: E | None, redactor: Redactor) -> E | None:
    """What a designer said, without secrets; as it is when it has none."""
    if said is None:
        return None
    fields = said.model_dump()
    clean = redactor.redact_value(fields)
    return said if clean == fields else made(type(said), clean)


def _resting(turns: tuple[DesignTurn, ...]) -> SessionState:
    """The state of a session at rest that has these turns."""
    if not turns:
        return "idle"
    return "awaiting-input" if turns[-1].question is not None else "preview"


def _sum(costs: Iterable[float | None]) -> float | None:
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)


def _was_renamed(record: DesignSessionRecord) -> bool:
    """Whether a refinement of this session gave the design another name."""
    names = [turn.result.name for turn in record.turns if turn.result is not None]
    return len(names) > 1 and names[-1] != names[0]


def _design_of(persona: Persona) -> DesignResult:
    """A persona as the design that it is now."""
    last = persona.last_design_result or {}
    kept = {name: last[name] for name in ("suggested_tools", "suggested_triggers") if name in last}
    return DesignResult.model_validate(
        {
            **kept,
            "name": persona.name,
            "structured_prompt": persona.prompt.model_dump(),
            "summary": persona.description,
        }
    )
