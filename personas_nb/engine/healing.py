"""What becomes of a failed run: it is tried again, or an issue says what a person can do.

- A retry is a new execution with ``retry_of``. Only what passes by itself is tried again (a rate limit, a lack of
  time), and only where nothing outside can have happened: a mail is not sent twice to save a run.
- Whether to retry, the issue, and the breaker are decided in one transaction, so that of several processes that
  fail at once exactly one disables the persona.
"""

from __future__ import annotations

import builtins
import math
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from personas_nb.engine.diagnosis import DISABLED, NOT_RETRIED, Category, Diagnosis, classify, diagnose
from personas_nb.entities.base import new_id, now
from personas_nb.entities.execution import Execution
from personas_nb.entities.healing import HealingIssue
from personas_nb.entities.message import Message
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound, QueueFull, SettingsError
from personas_nb.notify.outbox import write
from personas_nb.personas.personas import Personas
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable
from personas_nb.store.healing import BREAKER, HealingTable
from personas_nb.store.intents import IntentTable
from personas_nb.tools.catalog import Tools

__all__ = [
    "DISABLED",
    "NOT_RETRIED",
    "Category",
    "Healing",
    "HealingOutcome",
    "backoff_seconds",
    "classify",
    "is_mendable",
]

BASE_SECONDS = 30.0
MAX_BACKOFF_SECONDS = 300.0
JITTER = 0.1
MAX_WAIT_SECONDS = 86_400.0  # a Retry-After beyond it is for a person, not for a process that waits
MAX_TIMEOUT_MS = 86_400_000
RATE_LIMIT_RETRIES = 3
FAILURES_IN_A_ROW = 5

_BECAME = {
    "completed": "completed",
    "incomplete": "did not accomplish it",
    "failed": "failed too",
    "cancelled": "was cancelled",
}
_ACTS = {
    "action": "another persona was started",
    "event": "an event was sent",
    "message": "a message was sent to you",
    "review": "a decision was asked of you",
}


@dataclass(frozen=True)
class HealingOutcome:
    """What was done about a failed run: a ``retry`` was queued, or there is an ``issue``.

    ``breaker`` is the issue that says the persona was disabled, if it was. ``sentence`` says all of it to a
    person; it is empty where there was nothing to do.
    """

    issue: HealingIssue | None = None
    retry: Execution | None = None
    sentence: str = ""
    breaker: HealingIssue | None = None


@dataclass(frozen=True)
class _Plan:
    """A retry that may be queued: when, with how much time, and what is said about it."""

    delay_seconds: float
    timeout_ms: int | None
    words: str


class Healing:
    """The issues of a home, and what is done when a run fails.

    studio.healing.resolve("latest", note="gave it a new key")
    """

    def __init__(
        self,
        store: Store,
        personas: Personas,
        tools: Tools,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = now,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.store, self.personas, self.tools, self.settings = store, personas, tools, settings
        self.table, self.executions = HealingTable(store), ExecutionTable(store)
        self.intents = IntentTable(store)
        self._clock, self._random = clock, random

    # --- issues ---------------------------------------------------------------------------------------------

    def list(
        self, status: str | None = "open", persona: Persona | str | None = None, *, limit: int = 50
    ) -> builtins.list[HealingIssue]:
        """Issues, the one seen last first; ``status=None`` gives all of them."""
        where, values = ["1"], []
        if status is not None:
            where.append("status = ?")
            values.append(status)
        if persona is not None:
            where.append("persona_id = ?")
            values.append(self.personas.get(persona).id)
        return self.table.find(" and ".join(where), values, order_by=_LAST_SEEN, limit=limit)

    def get(self, reference: str) -> HealingIssue:
        """One issue by id, unique beginning of it, or ``latest``."""
        if reference == "latest":
            found = self.table.find(order_by=_LAST_SEEN, limit=1)
        else:
            prefix = str(reference).strip().lower()
            found = self.table.find("id >= ? and id < ?", [prefix, prefix + "g"], limit=2) if prefix else []
        if not found:
            raise NotFound(
                f"There is no issue “{reference}”.", hint="`%persona healing --all` lists those there are."
            )
        if len(found) > 1:
            raise InvalidInput(
                f"“{reference}” begins the ids of several issues.", hint="Type more of the id."
            )
        return found[0]

    def resolve(self, reference: str, note: str | None = None) -> HealingIssue:
        """Say that an issue is dealt with; one that was resolved before stays as it is."""
        issue_id = self.get(reference).id
        with self.store.write():
            issue = self.get(issue_id)
            if issue.status == "resolved":
                return issue
            fields = {"status": "resolved", "note": note, "resolved_at": self._clock()}
            self.table.update(issue.id, **fields)
            return issue.changed(**fields)

    # --- a run has failed -----------------------------------------------------------------------------------

    def after(self, execution: Execution, retry_after_seconds: float | None = None) -> HealingOutcome:
        """Decide what becomes of a run that has failed, and write it: a queued retry, or an issue.

        ``retry_after_seconds`` is what the provider asked for, if it did. Nothing is done about a run that did
        not fail, was interrupted, or was a rehearsal or a test. Blocks on the database.
        """
        failed = self.executions.whole(execution.id)
        if failed is None or not is_mendable(failed):
            return HealingOutcome()
        acts = self._acts(failed)
        with self.store.write() as db:
            persona = self._persona(failed)
            if persona is None:
                return HealingOutcome()
            diagnosis = diagnose(failed, persona, timeout_ms=self._timeout_ms(failed, persona))
            breaker = self._break(db, persona, failed, diagnosis)
            if breaker is None and (retried := self.table.retry_of(failed.id)) is not None:
                retry = self.executions.get(retried)
                return HealingOutcome(retry=retry, sentence=f"It is tried again as run {retried[:8]}.")
            plan = self._plan(failed, persona, diagnosis.category, retry_after_seconds)
            why = self._hindrance(plan, breaker, acts, failed, persona)
            if isinstance(plan, _Plan) and not why:
                try:
                    retry = self._queued(failed, plan)
                    return HealingOutcome(retry=retry, sentence=self._said(retry, plan))
                except QueueFull as error:
                    why = f"It was not tried again: {error.message}"
            return self._with_issue(failed, persona, diagnosis, [why, _look_first(acts, failed)], breaker)

    def of(self, execution: Execution) -> HealingOutcome:
        """What was done about a run that has failed, and what has become of that; for showing it.

        Empty where nothing was done, or where its issue was resolved or met again by a later run.
        """
        retried = self.table.retry_of(execution.id)
        retry = self.executions.get(retried) if retried else None
        issues = self.table.find("execution_id = ? and status = 'open'", [execution.id])
        breaker = next((issue for issue in issues if issue.category == BREAKER), None)
        issue = next((issue for issue in issues if issue.category != BREAKER), None)
        sentence = ""
        if retry is not None:
            sentence = self._shown(retry)
        elif breaker is not None:
            sentence = _disabled(execution.persona_name)
        elif issue is not None:
            sentence = "`%persona healing` says what to do."
        return HealingOutcome(issue, retry, sentence, breaker)

    def recheck(self, execution: Execution) -> str | None:
        """Why a queued retry must not start after all, as a sentence; None where nothing speaks against it."""
        persona = self._persona(execution)
        if persona is None:
            return "It was not tried again: its persona is gone."
        failed = self.executions.whole(execution.retry_of) if execution.retry_of else None
        why = self._refusal(persona, failed or execution)
        return f"It was not tried again: {why}" if why else None

    # --- whether and when -----------------------------------------------------------------------------------

    def _plan(
        self, failed: Execution, persona: Persona, category: Category, retry_after_seconds: float | None
    ) -> _Plan | str:
        """The retry that its category allows, else why there is none; empty where nobody would expect one."""
        earlier = self.table.earlier(failed.id)
        if category == "RateLimit":
            if len(earlier) >= RATE_LIMIT_RETRIES:
                return f"It was tried again {len(earlier)} times."
            delay_seconds = backoff_seconds(len(earlier), retry_after_seconds, self._random)
            if delay_seconds > MAX_WAIT_SECONDS:
                return "The provider asks to wait for longer than a day."
            return _Plan(delay_seconds, failed.timeout_ms, f"({len(earlier) + 1} of {RATE_LIMIT_RETRIES})")
        if category == "Timeout":
            limit_ms = self._timeout_ms(failed, persona)
            doubled_ms = min(2 * limit_ms, MAX_TIMEOUT_MS)
            if any(classify(kind, error) == "Timeout" for kind, error in earlier):
                return "It was tried again with twice the time."
            if doubled_ms > limit_ms:
                return _Plan(0, doubled_ms, f"with twice the time, {doubled_ms / 1000:g} s (1 of 1)")
        return ""

    def _hindrance(
        self,
        plan: _Plan | str,
        breaker: HealingIssue | None,
        acts: Sequence[str],
        failed: Execution,
        persona: Persona,
    ) -> str:
        """Why a failure that could be tried again is not; empty where nothing speaks against it."""
        if isinstance(plan, str):
            return plan
        if breaker is not None:
            return f"It was not tried again: {persona.name} was disabled after {FAILURES_IN_A_ROW} failures."
        if acts:
            return "It was not tried again by itself."
        why = self._refusal(persona, failed)
        return f"It was not tried again: {why}" if why else ""

    def _refusal(self, persona: Persona, failed: Execution) -> str:
        """Why a persona may not do again what a run of it did; empty where it may."""
        if persona.archived_at is not None or not persona.enabled:
            return f"{persona.name} is {'archived' if persona.archived_at else 'disabled'}."
        assigned = {tool.name for tool in self.tools.assigned(persona)}
        called = {step.tool for step in failed.tool_steps if step.performed}
        if missing := sorted(called - assigned):
            return f"{persona.name} may not use {', '.join(missing)} any more."
        kept = {row.name for row in self.personas.credentials.list()}
        needed = {use.credential for use in failed.credentials or () if use.tool in called}
        if gone := sorted(needed - kept):
            return f"the credential {', '.join(gone)} is gone."
        profile = persona.model_profile
        is_used = profile is not None and profile.provider in (
            None,
            failed.requested_provider or profile.provider,
        )
        if profile is None or profile.auth_credential_id is None or not is_used:
            return ""
        try:
            key = self.personas.credentials.get(profile.auth_credential_id)
        except NotFound:
            return f"the key of {persona.name}'s model is gone."
        return (
            ""
            if "auth_token" in {**key.plain, **key.sealed}
            else f"the key of {persona.name}'s model is gone."
        )

    def _acts(self, failed: Execution) -> builtins.list[str]:
        """What may have happened outside, in words."""
        effects = {tool.name: tool.effect for tool in self.tools.list()}
        called = [step.tool for step in failed.tool_steps if step.performed]
        called += self.table.unfinished_calls(failed.id) + self.intents.tools_of(failed.id)
        outside = sorted({tool for tool in called if effects.get(tool, "outside") == "outside"})
        acts = [f"the tool {tool} was called" for tool in outside]
        return acts + [_ACTS[what] for what in self.table.told(failed.id)]

    def _timeout_ms(self, failed: Execution, persona: Persona) -> int:
        return failed.timeout_ms or persona.timeout_ms or self.settings.timeout_ms

    def _persona(self, execution: Execution) -> Persona | None:
        try:
            return self.personas.get(execution.persona_id)
        except NotFound:
            return None

    # --- what is written ------------------------------------------------------------------------------------

    def _queued(self, failed: Execution, plan: _Plan) -> Execution:
        moment = self._clock()
        retry = Execution(
            id=new_id(),
            persona_id=failed.persona_id,
            persona_name=failed.persona_name,
            input_data=failed.input_data,
            files=failed.files,
            requested_provider=failed.requested_provider,
            max_budget_usd=failed.max_budget_usd,
            max_turns=failed.max_turns,
            timeout_ms=plan.timeout_ms,
            trigger_id=failed.trigger_id,
            event_id=failed.event_id,
            retry_of=failed.id,
            worker_id=failed.worker_id,
            created_at=moment,
            scheduled_at=moment + timedelta(seconds=plan.delay_seconds),
        )
        return self.executions.enqueue(retry, queue_limit=self.settings.queue_limit)

    def _with_issue(
        self,
        failed: Execution,
        persona: Persona,
        diagnosis: Diagnosis,
        before: Sequence[str],
        breaker: HealingIssue | None,
    ) -> HealingOutcome:
        remedy = " ".join(sentence for sentence in (*before, diagnosis.remedy) if sentence)
        moment = self._clock()
        issue = self.table.report(
            HealingIssue(
                persona_id=persona.id,
                execution_id=failed.id,
                category=diagnosis.category,
                title=diagnosis.title,
                remedy=remedy,
                created_at=moment,
                last_seen_at=moment,
            )
        )
        sentence = "An issue says what to do: `%persona healing`."
        if breaker is not None:
            sentence = _disabled(persona.name)
        return HealingOutcome(issue=issue, sentence=sentence, breaker=breaker)

    def _break(
        self, db: sqlite3.Connection, persona: Persona, failed: Execution, diagnosis: Diagnosis
    ) -> HealingIssue | None:
        """Disable a persona whose runs keep failing, and say so; the caller's transaction makes it once."""
        count, last_at = self.table.failures_in_a_row(db, persona.id)
        if count < FAILURES_IN_A_ROW or not persona.enabled:
            return None
        self.personas.update(persona, author="healing", enabled=False)
        # No earlier than what it counted, whatever the clocks say, or it would be counted again.
        moment = max(self._clock(), datetime.fromisoformat(last_at) if last_at else self._clock())
        enable = f"`%persona enable {persona.slug}`"
        write(
            self.store,
            Message(
                persona_id=persona.id,
                origin="system",
                title=f"{persona.name} was disabled",
                content=f"{FAILURES_IN_A_ROW} runs in a row have failed. The last one: {diagnosis.title} "
                f"`%persona healing` says what to do; then type {enable}.",
                content_type="error",
                priority="high",
                created_at=moment,
            ),
        )
        return self.table.report(
            HealingIssue(
                persona_id=persona.id,
                execution_id=failed.id,
                category=BREAKER,
                title="It was disabled after five failures in a row.",
                remedy=f"Deal with what made it fail, then let it run again with {enable}.",
                created_at=moment,
                last_seen_at=moment,
            )
        )

    def _said(self, retry: Execution, plan: _Plan) -> str:
        if plan.delay_seconds == 0 or retry.scheduled_at is None:
            return f"It is tried again at once {plan.words}."
        return f"It is tried again at {self._on_clock(retry.scheduled_at)} {plan.words}."

    def _shown(self, retry: Execution) -> str:
        run = f"as run {retry.id[:8]}"
        if retry.is_finished:
            return f"It was tried again {run}, which {_BECAME[retry.status]}."
        seconds = (retry.scheduled_at - self._clock()).total_seconds() if retry.scheduled_at else 0.0
        if retry.status != "queued" or retry.scheduled_at is None or seconds <= 0:
            return f"It is tried again now {run}."
        when = self._on_clock(retry.scheduled_at)
        return f"It is tried again at {when} (in {_wait_words(seconds)}) {run}."

    def _on_clock(self, moment: datetime) -> str:
        """The time in the settings' zone, with the day where that is not today."""
        try:
            zone = ZoneInfo(self.settings.zone())
        except SettingsError:
            zone = ZoneInfo("UTC")
        today, local = self._clock().astimezone(zone).date(), moment.astimezone(zone)
        return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


_LAST_SEEN = "coalesce(last_seen_at, created_at) desc, rowid desc"


def backoff_seconds(
    retries: int, retry_after_seconds: float | None = None, random: Callable[[], float] = random.random
) -> float:
    """How long to wait before a rate-limited run is tried again: 30·2ⁿ, at most 300, plus up to 10 %.

    What the provider asked for wins. ``retries`` is how often it was tried again already.

    >>> backoff_seconds(0, random=lambda: 0.0), backoff_seconds(9, random=lambda: 1.0), backoff_seconds(0, 7.0)
    (30.0, 330.0, 7.0)
    """
    if retry_after_seconds is not None and math.isfinite(retry_after_seconds) and retry_after_seconds >= 0:
        return retry_after_seconds
    delay_seconds = min(BASE_SECONDS * 2.0 ** min(max(retries, 0), 16), MAX_BACKOFF_SECONDS)
    return delay_seconds * (1 + JITTER * random())


def is_mendable(failed: Execution) -> bool:
    """Whether a run failed by something that a retry or a person can mend."""
    return (
        failed.status == "failed"
        and not failed.rehearsal
        and failed.eval_run_id is None
        and failed.error_kind not in ("interrupted", "cancelled", DISABLED)
    )


def _disabled(name: str) -> str:
    return f"{name} was disabled after {FAILURES_IN_A_ROW} failures in a row; `%persona healing` says what to do."


def _wait_words(seconds: float) -> str:
    """How long that is, rounded up.

    >>> _wait_words(29.2), _wait_words(61), _wait_words(7300)
    ('30 s', '2 min', '3 h')
    """
    if seconds <= 60:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds <= 3600 else f"{math.ceil(seconds / 3600)} h"


def _look_first(acts: Sequence[str], failed: Execution) -> str:
    """The sentence that keeps a person from doing outside twice what a run may have done."""
    if not acts:
        return ""
    said = acts[0] if len(acts) == 1 else f"{', '.join(acts[:-1])} and {acts[-1]}"
    return (
        f"{said[0].upper()}{said[1:]}: look at `%persona runs show {failed.id[:8]}` before you run it again."
    )
