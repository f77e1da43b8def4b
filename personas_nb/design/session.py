"""One design session: its steps, and what stays true when one fails, is cancelled, or another kernel was faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from personas_nb.design.designer import DesignAnswer, last_result
from personas_nb.design.merge import taken
from personas_nb.design.progress import Progress
from personas_nb.entities.design import (
    ContextItem,
    DesignEvent,
    DesignQuestion,
    DesignResult,
    DesignSessionRecord,
    DesignTurn,
    Feasibility,
    KeptPart,
    SessionState,
)
from personas_nb.entities.persona import Persona
from personas_nb.entities.todo import Todo
from personas_nb.errors import Conflict, InvalidInput, PersonaError

if TYPE_CHECKING:
    from personas_nb.design.sessions import Sessions

T = TypeVar("T")
TurnKind = Literal["instruction", "answer", "refine"]

BUSY: tuple[SessionState, ...] = ("analyzing", "refining", "applying")
TEND_SECONDS = 0.3  # how often events are stored, and a cancellation by another process is looked for


class DesignSession:
    """One session, as it was when it was got; its methods change it and the stored row together.

    A notebook uses the plain methods; those with an ``a`` in front are the same, awaitable.
    """

    def __init__(self, sessions: Sessions, record: DesignSessionRecord) -> None:
        self._sessions = sessions
        self.record = record
        self.applied_changes: tuple[str, ...] = ()
        """What the last ``apply`` changed, in words; nothing when everything was so already."""
        self.todo: tuple[Todo, ...] = ()
        """What the last ``apply`` could not do yet, each with the verb to type."""

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
        """The newest design; None while there is none. For a persona that exists, what applying makes of it."""
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
        return total(turn.cost_usd for turn in self.record.turns)

    @property
    def is_rehearsal(self) -> bool:
        """Whether rules design here instead of a model."""
        return self.record.provider == "rehearsal"

    @property
    def feasibility(self) -> Feasibility:
        """Whether the newest design can work with what is there now."""
        return self._sessions.assess(self.record, self._design())

    @property
    def context(self) -> Sequence[ContextItem]:
        """What the session was given to look at, each with what of it was used."""
        return self._sessions.context_of(self.id)

    @property
    def events(self) -> Sequence[DesignEvent]:
        """Everything that has happened, as it is stored."""
        return self._sessions.moments.list(self.id)

    @property
    def kept(self) -> tuple[KeptPart, ...]:
        """What of the persona stays as a person wrote it, though the design has something else there."""
        return next((turn.kept for turn in reversed(self.record.turns) if turn.result is not None), ())

    @property
    def conflicts(self) -> tuple[KeptPart, ...]:
        """What both a person and the design have changed: the person's stays unless it is taken from the design."""
        return tuple(each for each in self.kept if each.is_conflict)

    def answer(self, text: str) -> DesignSession:
        """Answer the question; an option's text, its number, or words of your own."""
        return self._run(self.aanswer(text))

    async def aanswer(self, text: str) -> DesignSession:
        """`answer`, awaitable."""
        if self.question is None:
            raise InvalidInput(
                "The session asks nothing.", hint='Change the design with `%persona refine "…"`.'
            )
        text = self._sessions.checked(text, "answer")
        number = text.rstrip(".)")
        options = self.question.options
        if number.isdecimal() and 1 <= int(number) <= len(options):
            text = options[int(number) - 1]
        elif number.isdecimal() and self.is_rehearsal:  # a model may have asked for a number
            raise InvalidInput(
                f"There is no option {number[:20]}.",
                hint=f"Give 1 to {len(options)}, or say it in words of your own.",
            )
        return await self.step("answer", text)

    def refine(self, text: str) -> DesignSession:
        """Change the design as the text asks; what it does not ask for stays as it is."""
        return self._run(self.arefine(text))

    async def arefine(self, text: str) -> DesignSession:
        """`refine`, awaitable."""
        self._refuse_question('Answer it with `%persona answer "…"`.')
        self._design()
        return await self.step("refine", self._sessions.checked(text, "wish"))

    def retry(self) -> DesignSession:
        """Ask again for the first design, after it failed."""
        return self._run(self.aretry())

    async def aretry(self) -> DesignSession:
        """`retry`, awaitable."""
        if self.record.turns:
            raise InvalidInput(
                "The session has a design already.", hint='Change it with `%persona refine "…"`.'
            )
        return await self.step("instruction", self.record.instruction)

    def take(self, *parts: str) -> DesignSession:
        """Let the design have parts that you changed by hand: `instructions`, `triggers` … or ``all``.

        Raises ``InvalidInput`` for a part that is not kept. ``undo`` gives them back.
        """
        self._check_not_busy()
        result, rest, labels = taken(self._design(), self.kept, parts)
        turn = DesignTurn(kind="take", text=", ".join(labels), result=result, kept=rest, cost_usd=0.0)
        self._write(turns=(*self.record.turns, turn), state="preview", error=None)
        return self

    def undo(self) -> DesignSession:
        """Take back the last answer or refinement; what it cost stays counted."""
        self._check_not_busy()
        if len(self.record.turns) < 2:
            raise InvalidInput("There is nothing to undo in this session.", hint="Its first design is shown.")
        *rest, before, last = self.record.turns
        cost = total((before.cost_usd, last.cost_usd))
        turns = (*rest, before.changed(cost_usd=cost))
        self._write(turns=turns, state=resting(turns), error=None)
        return self

    def cancel(self) -> DesignSession:
        """Give up the step under way, here or in another process; a session at rest stays as it is.

        Whoever waits for it gets ``Conflict``: in this process at once, in another one within a second.
        """
        stored = self._sessions.table.get(self.id)
        if stored is None:
            raise Conflict("This design session was discarded.", hint="Design again.")
        self.record = stored
        if stored.state in BUSY:
            self._write(state=resting(stored.turns), error="The step was cancelled.")
            self._sessions.stop(self.id)
        return self

    def apply(self, name: str | None = None) -> Persona:
        """Make the design a persona, or the next revision of the one it is for.

        ``name`` chooses the persona; one of that name is revised. Raises ``DesignError`` when the design is
        blocked; then nothing was written. `applied_changes` says what was changed, `todo` what could not be yet.
        """
        self._check_not_busy()
        result = self._design()
        self._refuse_question(
            'Answer it with `%persona answer "…"`, or take the question back with `%persona undo`.'
        )
        name = self._sessions.checked_name(name)
        before = self.state
        self._write(state="applying", error=None)
        try:
            # One transaction: a session that somebody changed meanwhile takes the persona's changes back.
            with self._sessions.store.write():
                applied, turns = self._sessions.apply(self.record, result, name)
                fields = {"state": "applied", "persona_id": applied.persona.id, "turns": turns}
                record = self._sessions.write(self.record, **fields, **({"name": name} if name else {}))
        except Conflict:
            raise
        except BaseException as error:
            with suppress(PersonaError):  # the first error says more
                self._write(state=before, error=error.message if isinstance(error, PersonaError) else None)
            raise
        self.record, self.applied_changes, self.todo = record, applied.changes, applied.todo
        self._sessions.note(self.id, "applied", " ".join(applied.changes) or "Nothing had to be changed.")
        return applied.persona

    # ── one step ────────────────────────────────────────────────────────────────────────────────────────────

    async def step(self, kind: TurnKind, text: str, progress: Progress | None = None) -> DesignSession:
        """Ask the designer; the row is busy meanwhile, and at rest again however it ends."""
        self._check_not_busy()
        state, before = self.state, self.result
        progress = progress or Progress(self.id, self._sessions.redact())
        progress.say("step", text if kind != "instruction" else self.record.instruction)
        try:
            busy: SessionState = "refining" if before else "analyzing"
            await _to_its_end(self._write, state=busy, worker_id=self._sessions.worker_id(), error=None)
            answer, merged = await self._answered(kind, text, progress)
            turn = merged.changed(kind=kind, text=text, question=answer.question, cost_usd=answer.cost_usd)
            turns = (*self.record.turns, turn)
            progress.say(*_said(answer, turn, before))
            await _to_its_end(self._write, turns=turns, state=resting(turns))
        except BaseException as error:
            # CancelledError too: the row must not stay busy when a cell is interrupted.
            progress.say("ended", _why(error))
            self._give_up(state, error, progress)
            raise
        await asyncio.to_thread(self._sessions.keep, progress)
        return self

    async def _answered(
        self, kind: TurnKind, text: str, progress: Progress
    ) -> tuple[DesignAnswer, DesignTurn]:
        """The designer's answer and the turn it makes; ``Conflict`` when `cancel` ended the step."""
        step = asyncio.create_task(self._sessions.designed(self.record, kind, text, progress))
        tending = asyncio.create_task(self._tend(step, progress))
        self._sessions.under_way[self.id] = step
        try:
            return await step
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise  # not the step alone: whoever waits for it was cancelled
            raise Conflict("The step was cancelled.", hint="The session is as it was before it.") from None
        finally:
            tending.cancel()
            await asyncio.wait([tending])  # what it writes is not written twice
            self._sessions.under_way.pop(self.id, None)

    async def _tend(self, step: asyncio.Task[Any], progress: Progress) -> None:
        """Store what happens, and end the step when another process has cancelled or changed the session."""
        revision = self.record.revision
        while not step.done():
            await asyncio.sleep(TEND_SECONDS)
            with suppress(PersonaError):  # a locked or full store is said by whoever writes next
                await asyncio.to_thread(self._sessions.keep, progress)
                stored = await asyncio.to_thread(self._sessions.table.get, self.id)
                if stored is None or stored.revision != revision:
                    step.cancel()

    def _give_up(self, state: SessionState, error: BaseException, progress: Progress) -> None:
        if self.state == state:
            return  # the row was not even marked busy
        try:
            self._write(state=state, error=self._sessions.redact()(_why(error)))
            self._sessions.keep(progress)
        except Conflict:  # cancelled elsewhere: as it is now
            self.record = self._sessions.table.get(self.id) or self.record
        except PersonaError:
            return  # the store cannot be written; the first error says more

    def _check_not_busy(self) -> None:
        if self.state in BUSY:
            raise Conflict(
                f"This design session is {self.state} in another notebook or kernel.",
                hint="Wait until it is done, or give that step up with session.cancel().",
            )

    def _refuse_question(self, hint: str) -> None:
        if self.question is not None:
            raise InvalidInput(f"The session waits for an answer: {self.question.question}", hint=hint)

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
        self.record = self._sessions.write(self.record, **fields)

    def _run(self, step: Coroutine[Any, Any, T]) -> DesignSession:
        self._sessions.run(step)
        return self

    def __repr__(self) -> str:
        name = self.result.name if self.result else self.record.name or "no design yet"
        return f"<DesignSession {self.id[:8]} {self.state}: {name}>"


def resting(turns: tuple[DesignTurn, ...]) -> SessionState:
    """The state of a session at rest that has these turns."""
    if not turns:
        return "idle"
    return "awaiting-input" if turns[-1].question is not None else "preview"


def total(costs: Iterable[float | None]) -> float | None:
    """The sum of costs; None when one of them is unknown."""
    known = list(costs)
    return None if None in known else sum(cost for cost in known if cost is not None)


async def _to_its_end(write: Callable[..., None], **fields: Any) -> None:
    """A write in a thread of its own; a cancelled caller waits for it, so that memory and row agree."""
    task = asyncio.ensure_future(asyncio.to_thread(write, **fields))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _said(answer: DesignAnswer, turn: DesignTurn, before: DesignResult | None) -> tuple[str, str]:
    if answer.question is not None:
        return "question", answer.question.question
    if turn.result is not None and turn.result == before:
        return "designed", "Nothing changed."
    return "designed", turn.result.name if turn.result else ""


def _why(error: BaseException) -> str:
    if isinstance(error, PersonaError):
        return error.message
    if isinstance(error, asyncio.CancelledError):
        return "The step was cancelled."
    return f"The step failed ({type(error).__name__})."
