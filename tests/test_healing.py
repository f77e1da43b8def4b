"""What becomes of failed runs: retries, issues, the breaker, and `%persona healing`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shell import TestingShell, shell_in
from support.studios import line_of, persona_of, python, studio_at

from personas_nb import Studio
from personas_nb.engine.healing import Healing, HealingOutcome, backoff_seconds
from personas_nb.entities.base import rfc3339
from personas_nb.entities.event import Event
from personas_nb.entities.execution import Execution
from personas_nb.entities.healing import HealingIssue
from personas_nb.entities.memory import Memory
from personas_nb.entities.message import Message
from personas_nb.entities.persona import Persona
from personas_nb.entities.review import Review
from personas_nb.entities.run_event import ToolCallFinished, ToolCallStarted
from personas_nb.entities.tool import ToolCallStep
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.store.executions import ExecutionTable
from personas_nb.views.healing import issue_card, issue_list

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@dataclass
class Clinic:
    """A studio whose healing has a clock that stands still, and runs that have failed."""

    studio: Studio
    persona: Persona
    moment: datetime = START
    jitter: float = 0.0
    healing: Healing = field(init=False)

    def __post_init__(self) -> None:
        studio = self.studio
        self.table = ExecutionTable(studio.store)
        self.healing = Healing(
            studio.store,
            studio.personas,
            studio.tools,
            studio.settings,
            clock=lambda: self.moment,
            random=lambda: self.jitter,
        )

    def run(self, *steps: ToolCallStep, **fields: Any) -> Execution:
        """A run that has ended, by default failed, a second after the one before."""
        self.moment += timedelta(seconds=1)
        run = Execution(
            **{
                "persona_id": self.persona.id,
                "persona_name": self.persona.name,
                "status": "failed",
                "error": "It broke.",
                "worker_id": "worker-1",
                "created_at": self.moment,
                "completed_at": self.moment,
                "num_turns": 1,
                **fields,
            }
        )
        return self.stored(run, steps)

    def stored(self, run: Execution, steps: tuple[ToolCallStep, ...] = ()) -> Execution:
        """The run's row, with its texts."""
        with self.studio.store.write() as db:
            self.table.enqueue(run.changed(status="queued"), queue_limit=1000)
            db.execute("update executions set status = 'running' where id = ?", [run.id])
            given = {"tool_steps": steps} if steps else {}
            self.table.change(db, run.id, run.claim_token, status=run.status, **given)
        return run

    def fails_again(self, retry: Execution, **fields: Any) -> Execution:
        """A queued retry that has run, and failed as well."""
        self.moment = max(self.moment, retry.scheduled_at or self.moment) + timedelta(seconds=1)
        ended = {"status": "failed", "error": "It broke.", "completed_at": self.moment, **fields}
        self.table.update(retry.id, **ended)
        return retry.changed(**ended)

    def events(self, run: Execution, *events: Any) -> None:
        """What was stored while the run went on."""
        with self.studio.store.write() as db:
            for seq, event in enumerate(events):
                row = [run.id, seq, rfc3339(self.moment), event.type, event.model_dump_json()]
                db.execute("insert into run_events values (?, ?, ?, ?, ?)", row)


@pytest.fixture
def clinic(home: Path) -> Iterator[Clinic]:
    with studio_at(home, timezone="UTC") as studio:
        yield Clinic(studio, persona_of(studio, "file_read", "http_request"))


# --- retries --------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_the_wait_doubles_up_to_five_minutes_and_a_tenth(retries: int, chance: float):
    seconds = backoff_seconds(retries, None, lambda: chance)
    expected = min(30 * 2**retries, 300)
    assert expected <= seconds <= expected * 1.1


@given(st.floats(0, 1e9), st.integers(0, 3))
def test_what_the_provider_asks_for_wins(asked_seconds: float, retries: int):
    assert backoff_seconds(retries, asked_seconds) == asked_seconds


@pytest.mark.parametrize("nonsense", [-1.0, float("nan"), float("inf")])
def test_a_wait_that_cannot_be_waited_counts_as_none(nonsense: float):
    assert backoff_seconds(0, nonsense, lambda: 0.0) == 30


def test_a_retry_is_a_new_run_of_the_same(clinic: Clinic):
    fields = {
        "input_data": "Grüße 日本",
        "files": ("inputs/a.csv (3 bytes)",),
        "max_budget_usd": 0.5,
        "max_turns": 7,
        "timeout_ms": 9_000,
        "requested_provider": "ollama",
        "trigger_id": "t",
        "event_id": "e",
    }
    failed = clinic.run(error_kind="rate_limit", **fields)
    outcome = clinic.healing.after(failed)
    assert outcome.retry is not None
    retry = clinic.table.whole(outcome.retry.id)
    assert retry is not None
    assert {name: getattr(retry, name) for name in fields} == fields
    assert (retry.status, retry.retry_of, retry.worker_id, retry.error) == (
        "queued",
        failed.id,
        "worker-1",
        None,
    )
    assert retry.scheduled_at == clinic.moment + timedelta(seconds=30)
    assert outcome.sentence == "It is tried again at 09:00:31 (1 of 3)."
    assert (outcome.issue, clinic.healing.list()) == (None, [])


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
def test_a_rate_limit_is_tried_again_three_times_and_is_an_issue_then(clinic: Clinic, kind: str):
    run, waits = clinic.run(error_kind=kind), []
    clinic.jitter = 0.5
    for number in (1, 2, 3):
        outcome = clinic.healing.after(run)
        assert outcome.retry is not None
        assert outcome.sentence.endswith(f"({number} of 3).")
        waits.append((outcome.retry.scheduled_at - clinic.moment).total_seconds())
        run = clinic.fails_again(outcome.retry, error_kind=kind)
    assert waits == pytest.approx([31.5, 63, 126])
    outcome = clinic.healing.after(run)
    assert (outcome.retry, outcome.sentence) == (None, "An issue says what to do: `%persona healing`.")
    assert outcome.issue == clinic.healing.get("latest")
    assert outcome.issue.category == "RateLimit"
    assert outcome.issue.remedy.startswith("It was tried again 3 times. Wait ")


def test_a_retry_after_wins_over_the_back_off(clinic: Clinic):
    outcome = clinic.healing.after(clinic.run(error_kind="rate_limit"), retry_after_seconds=7)
    assert outcome.retry is not None
    assert outcome.retry.scheduled_at == clinic.moment + timedelta(seconds=7)


def test_nobody_waits_for_a_retry_after_of_days(clinic: Clinic):
    outcome = clinic.healing.after(clinic.run(error_kind="rate_limit"), retry_after_seconds=1e12)
    assert outcome.retry is None
    assert "longer than a day" in outcome.issue.remedy


def test_a_wait_into_tomorrow_names_the_day(clinic: Clinic):
    outcome = clinic.healing.after(clinic.run(error_kind="rate_limit"), retry_after_seconds=80_000)
    assert "2026-11-22 07:13:21" in outcome.sentence


def test_a_lack_of_time_is_tried_again_once_with_twice_the_time(clinic: Clinic):
    clinic.studio.personas.update(clinic.persona, timeout_ms=2_000)
    outcome = clinic.healing.after(clinic.run(error_kind="timeout"))
    assert outcome.retry is not None
    assert (outcome.retry.timeout_ms, outcome.retry.scheduled_at) == (4_000, clinic.moment)
    assert outcome.sentence == "It is tried again at once with twice the time, 4 s (1 of 1)."
    again = clinic.healing.after(clinic.fails_again(outcome.retry, error_kind="timeout"))
    assert again.retry is None
    assert "timeout_ms=8000" in again.issue.remedy
    assert again.issue.remedy.startswith("It was tried again with twice the time.")


def test_time_runs_out_once_more_after_rate_limits(clinic: Clinic):
    limited = clinic.healing.after(clinic.run(error_kind="rate_limit")).retry
    late = clinic.healing.after(clinic.fails_again(limited, error_kind="timeout"))
    assert late.retry.timeout_ms == 600_000
    limited = clinic.healing.after(clinic.fails_again(late.retry, error_kind="rate_limit"))
    assert limited.sentence.endswith("(3 of 3).")
    assert limited.retry.timeout_ms == 600_000


def test_a_day_cannot_be_doubled(clinic: Clinic):
    assert clinic.healing.after(clinic.run(error_kind="timeout", timeout_ms=86_400_000)).retry is None


def test_a_failure_is_tried_again_once_however_often_it_is_looked_at(clinic: Clinic):
    failed = clinic.run(error_kind="rate_limit")
    first, second = clinic.healing.after(failed), clinic.healing.after(failed)
    assert second.retry.id == first.retry.id
    assert clinic.table.count("retry_of = ?", [failed.id]) == 1


def test_a_full_queue_makes_an_issue_of_it(clinic: Clinic):
    clinic.healing.settings = clinic.studio.settings.model_copy(update={"queue_limit": 1})
    failed = clinic.run(error_kind="rate_limit")
    clinic.table.enqueue(Execution(persona_id=clinic.persona.id), queue_limit=1)
    outcome = clinic.healing.after(failed)
    assert outcome.retry is None
    assert "1 runs in its queue" in outcome.issue.remedy


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "completed", "error": None},
        {"status": "incomplete", "error": None},
        {"status": "cancelled", "error_kind": "cancelled"},
        {"error_kind": "interrupted"},
        {"error_kind": "rate_limit", "rehearsal": True},
    ],
    ids=str,
)
def test_what_did_not_fail_by_itself_is_left_alone(clinic: Clinic, fields: dict[str, Any]):
    assert clinic.healing.after(clinic.run(**fields)) == HealingOutcome()
    assert clinic.healing.list(None) == []


def test_a_run_whose_persona_was_purged_is_left_alone(clinic: Clinic):
    failed = clinic.run(error_kind="rate_limit")
    clinic.studio.personas.purge(clinic.persona)
    assert clinic.healing.after(failed) == HealingOutcome()


# --- side effects ---------------------------------------------------------------------------------------


def step(tool: str, **fields: Any) -> ToolCallStep:
    return ToolCallStep(tool=tool, call_id=f"call-{tool}", **fields)


@pytest.mark.parametrize("tool", ["http_request", "gmail_send", "Bash", "a_tool_that_is_gone"])
@pytest.mark.parametrize("error", [None, "It took longer than 30 s."])
def test_what_may_have_acted_outside_is_not_tried_again(clinic: Clinic, tool: str, error: str | None):
    outcome = clinic.healing.after(failed := clinic.run(step(tool, error=error), error_kind="rate_limit"))
    assert outcome.retry is None
    assert outcome.issue.remedy.startswith(
        f"It was not tried again by itself. The tool {tool} was called: look at `%persona runs show "
        f"{failed.id[:8]}` before you run it again."
    )


@pytest.mark.parametrize(
    "harmless",
    [step("file_read"), step("gmail_send", performed=False), step("Bash", performed=False, error="no")],
)
def test_what_changed_nothing_outside_is_tried_again(clinic: Clinic, harmless: ToolCallStep):
    assert clinic.healing.after(clinic.run(harmless, error_kind="rate_limit")).retry is not None


def test_writing_in_its_own_workspace_is_done_again(clinic: Clinic):
    clinic.studio.tools.assign(clinic.persona, "file_write")
    assert clinic.healing.after(clinic.run(step("file_write"), error_kind="rate_limit")).retry is not None


def test_a_call_that_was_cut_off_may_have_acted(clinic: Clinic):
    refused = step("http_request", performed=False)
    begun = ToolCallStarted(tool="http_request", call_id=refused.call_id)
    failed = clinic.run(refused, error_kind="timeout")
    clinic.events(failed, begun, ToolCallFinished(step=refused))
    assert clinic.healing.after(failed).retry is not None
    failed = clinic.run(refused, error_kind="timeout")
    clinic.events(failed, begun, begun, ToolCallFinished(step=refused))
    outcome = clinic.healing.after(failed)
    assert outcome.retry is None
    assert "The tool http_request was called" in outcome.issue.remedy


def test_a_reading_that_was_cut_off_is_done_again(clinic: Clinic):
    failed = clinic.run(error_kind="timeout")
    clinic.events(failed, ToolCallStarted(tool="file_read", call_id="1"))
    assert clinic.healing.after(failed).retry is not None


@pytest.mark.parametrize(
    ("table", "entity", "said"),
    [
        (
            "messages",
            lambda run: Message(persona_id=run.persona_id, execution_id=run.id),
            "A message was sent",
        ),
        (
            "reviews",
            lambda run: Review(persona_id=run.persona_id, execution_id=run.id),
            "A decision was asked",
        ),
        (
            "events",
            lambda run: Event(event_type="x", source_type="persona", execution_id=run.id),
            "An event was sent",
        ),
        (
            "events",
            lambda run: Event(
                event_type="persona_action",
                source_type="persona",
                execution_id=run.id,
                target_persona_id=run.persona_id,
            ),
            "Another persona was started",
        ),
    ],
)
def test_what_was_told_is_not_told_twice(clinic: Clinic, table: str, entity: Any, said: str):
    failed = clinic.run(error_kind="rate_limit")
    row = entity(failed)
    clinic.studio.store.table(table, type(row)).insert(row)
    outcome = clinic.healing.after(failed)
    assert outcome.retry is None
    assert said in outcome.issue.remedy


@pytest.mark.parametrize(
    ("table", "entity"),
    [
        (
            "memories",
            lambda run: Memory(persona_id=run.persona_id, title="Tea", source_execution_id=run.id),
        ),
        (
            "events",
            lambda run: Event(event_type="execution_failed", source_type="system", execution_id=run.id),
        ),
        (
            "events",
            lambda run: Event(
                event_type="persona_action", source_type="persona", execution_id=run.id, status="dead"
            ),
        ),
    ],
    ids=["a memory", "our own event", "an action on nobody"],
)
def test_what_started_nothing_does_not_hinder_a_retry(clinic: Clinic, table: str, entity: Any):
    failed = clinic.run(error_kind="rate_limit")
    row = entity(failed)
    clinic.studio.store.table(table, type(row)).insert(row)
    assert clinic.healing.after(failed).retry is not None


def test_an_issue_of_another_cause_warns_of_what_happened_too(clinic: Clinic):
    issue = clinic.healing.after(clinic.run(step("http_request"), error_kind="credential")).issue
    assert issue.remedy.startswith("The tool http_request was called: look at")


# --- what is looked at again before a retry -------------------------------------------------------------


@pytest.fixture
def retry(clinic: Clinic) -> Execution:
    """A queued retry of a run that had read a file."""
    found = clinic.healing.after(
        clinic.run(step("file_read"), step("unknown", performed=False), error_kind="timeout")
    )
    assert found.retry is not None
    return found.retry


def test_nothing_speaks_against_a_retry_of_an_unchanged_persona(clinic: Clinic, retry: Execution):
    assert clinic.healing.recheck(retry) is None


@pytest.mark.parametrize(("change", "word"), [("disable", "disabled"), ("archive", "archived")])
def test_a_persona_that_is_off_is_not_tried_again(clinic: Clinic, retry: Execution, change: str, word: str):
    getattr(clinic.studio.personas, change)(clinic.persona)
    assert clinic.healing.recheck(retry) == f"It was not tried again: Watcher is {word}."


def test_a_persona_that_is_gone_is_not_tried_again(clinic: Clinic, retry: Execution):
    clinic.studio.personas.purge(clinic.persona)
    assert clinic.healing.recheck(retry) == "It was not tried again: its persona is gone."


def test_a_tool_that_was_taken_away_hinders_a_retry_only_where_it_was_called(
    clinic: Clinic, retry: Execution
):
    clinic.studio.tools.unassign(clinic.persona, "http_request")
    assert clinic.healing.recheck(retry) is None
    clinic.studio.tools.unassign(clinic.persona, "file_read")
    assert clinic.healing.recheck(retry) == "It was not tried again: Watcher may not use file_read any more."


def test_a_key_that_was_removed_hinders_a_retry(clinic: Clinic, retry: Execution):
    profile = {"provider": "custom", "base_url": "http://127.0.0.1:1", "auth_token": "a key of its own"}
    persona = clinic.studio.personas.update(clinic.persona, model_profile=profile)
    assert clinic.healing.recheck(retry) is None
    clinic.studio.credentials.remove(persona.model_profile.auth_credential_id)
    assert clinic.healing.recheck(retry) == "It was not tried again: the key of Watcher's model is gone."
    with_another_provider = clinic.healing.after(
        clinic.run(error_kind="timeout", requested_provider="ollama")
    )
    assert clinic.healing.recheck(with_another_provider.retry) is None


def test_a_failure_of_a_persona_that_is_off_is_an_issue_at_once(clinic: Clinic):
    clinic.studio.personas.disable(clinic.persona)
    issue = clinic.healing.after(clinic.run(error_kind="rate_limit")).issue
    assert issue.remedy.startswith("It was not tried again: Watcher is disabled.")


def test_a_retry_that_was_called_off_says_why(clinic: Clinic, retry: Execution):
    why = "It was not tried again: Watcher may not use file_read any more."
    issue = clinic.healing.after(clinic.fails_again(retry, error_kind="not_retried", error=why)).issue
    assert (issue.category, issue.title) == ("Unknown", why)


def test_a_retry_whose_process_ended_says_that_it_was_not_tried_again(clinic: Clinic, retry: Execution):
    queued = clinic.table.enqueue(
        Execution(persona_id=clinic.persona.id, worker_id="worker-1"), queue_limit=9
    )
    assert set(clinic.table.fail_orphans("worker-1")) == {retry.id, queued.id}
    assert clinic.table.get(retry.id).error == "Its process ended before it could be tried again."
    assert clinic.table.get(queued.id).error == "Its process ended before the run began."
    assert clinic.healing.after(clinic.table.get(retry.id)) == HealingOutcome()


# --- issues ---------------------------------------------------------------------------------------------


def test_the_same_failure_again_is_the_same_issue(clinic: Clinic):
    first = clinic.healing.after(clinic.run(error_kind="credential")).issue
    newest = clinic.run(error_kind="credential")
    second = clinic.healing.after(newest).issue
    assert second == clinic.healing.get(first.id)
    assert (second.id, second.occurrences, second.execution_id) == (first.id, 2, newest.id)
    assert (second.created_at, second.last_seen_at) == (first.created_at, clinic.moment)
    assert newest.id[:8] in second.remedy
    clinic.healing.after(clinic.run(error_kind="turns"))
    assert len(clinic.healing.list()) == 2


def test_a_failure_after_its_issue_was_resolved_is_a_new_one(clinic: Clinic):
    first = clinic.healing.after(clinic.run(error_kind="credential")).issue
    clinic.healing.resolve(first.id)
    second = clinic.healing.after(clinic.run(error_kind="credential")).issue
    assert (second.id != first.id, second.occurrences) == (True, 1)


def test_the_same_failure_of_another_persona_is_another_issue(clinic: Clinic):
    other = persona_of(clinic.studio, name="Other")
    clinic.healing.after(clinic.run(error_kind="credential"))
    issue = clinic.healing.after(clinic.run(error_kind="credential", persona_id=other.id)).issue
    assert clinic.healing.list(persona="other") == [issue]
    assert [found.persona_id for found in clinic.healing.list()] == [other.id, clinic.persona.id]


def test_resolving_twice_changes_nothing(clinic: Clinic):
    issue = clinic.healing.after(clinic.run(error_kind="credential")).issue
    resolved = clinic.healing.resolve(issue.id[:8], note="new key")
    clinic.moment += timedelta(hours=1)
    assert clinic.healing.resolve(issue.id, note="other") == resolved == clinic.healing.get(issue.id)
    assert (resolved.status, resolved.note) == ("resolved", "new key")
    assert clinic.healing.list() == []
    assert clinic.healing.list("resolved") == clinic.healing.list(None) == [resolved]


def test_an_issue_that_is_not_there_leads_to_those_that_are(clinic: Clinic):
    for reference in ("latest", "", "1234", "zz"):
        with pytest.raises(NotFound, match="%persona healing"):
            clinic.healing.resolve(reference)
    for identity in ("ab-1", "ab-2"):
        clinic.healing.table.insert(
            HealingIssue(id=identity, persona_id=clinic.persona.id, category="Unknown", title=identity)
        )
    with pytest.raises(InvalidInput, match="several issues"):
        clinic.healing.get("ab")


# --- the breaker ----------------------------------------------------------------------------------------


def breakers(clinic: Clinic) -> list[HealingIssue]:
    return [issue for issue in clinic.healing.list(None) if issue.category == "Breaker"]


def fail(clinic: Clinic, times: int, kind: str = "credential") -> HealingOutcome:
    outcome = HealingOutcome()
    for _ in range(times):
        outcome = clinic.healing.after(clinic.run(error_kind=kind))
    return outcome


def is_enabled(clinic: Clinic) -> bool:
    return clinic.studio.personas.get("watcher").enabled


def test_five_failures_in_a_row_disable_the_persona_and_say_so(clinic: Clinic):
    fail(clinic, 4)
    assert is_enabled(clinic)
    outcome = fail(clinic, 1)
    assert not is_enabled(clinic)
    assert breakers(clinic) == [outcome.breaker]
    assert outcome.sentence.startswith("Watcher was disabled after 5 failures in a row")
    assert (outcome.issue.category, outcome.issue.occurrences) == ("CredentialError", 5)
    [message] = clinic.studio.messages.list()
    assert (message.priority, message.execution_id) == ("high", None)
    assert "`%persona enable watcher`" in message.content
    assert "`%persona enable watcher`" in outcome.breaker.remedy


def test_the_fifth_failure_is_not_tried_again(clinic: Clinic):
    fail(clinic, 4)
    outcome = fail(clinic, 1, "rate_limit")
    assert outcome.retry is None
    assert outcome.issue.remedy.startswith("It was not tried again: Watcher was disabled after 5 failures.")


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_a_run_that_did_not_fail_ends_the_row(clinic: Clinic, status: str):
    fail(clinic, 4)
    clinic.run(status=status, error=None)
    fail(clinic, 4)
    assert is_enabled(clinic)
    fail(clinic, 1)
    assert not is_enabled(clinic)


@pytest.mark.parametrize(
    "fields",
    [
        {"error_kind": "interrupted"},
        {"status": "cancelled", "error_kind": "cancelled"},
        {"error_kind": "credential", "rehearsal": True},
        {"status": "completed", "error": None, "rehearsal": True},
        {"error_kind": "not_retried"},
        {"error_kind": "budget", "num_turns": 0},
    ],
    ids=str,
)
def test_what_says_nothing_about_the_persona_neither_counts_nor_ends_the_row(
    clinic: Clinic, fields: dict[str, Any]
):
    fail(clinic, 4)
    clinic.healing.after(clinic.run(**fields))
    assert is_enabled(clinic)
    fail(clinic, 1)
    assert not is_enabled(clinic)


def test_failures_of_others_do_not_count(clinic: Clinic):
    other = persona_of(clinic.studio, name="Other")
    fail(clinic, 4)
    clinic.healing.after(clinic.run(error_kind="credential", persona_id=other.id))
    assert is_enabled(clinic)


def test_after_it_was_enabled_again_five_more_are_needed(clinic: Clinic):
    fail(clinic, 5)
    clinic.studio.personas.enable("watcher")
    fail(clinic, 4)
    assert is_enabled(clinic)
    fail(clinic, 1)
    assert not is_enabled(clinic)
    [breaker] = breakers(clinic)
    assert breaker.occurrences == 2
    assert len(clinic.studio.messages.list()) == 2


def test_a_clock_that_went_back_does_not_count_a_failure_twice(clinic: Clinic):
    fail(clinic, 4)
    last = clinic.run(error_kind="credential")
    ahead, clinic.moment = clinic.moment, START - timedelta(hours=1)
    clinic.healing.after(last)
    clinic.studio.personas.enable("watcher")
    clinic.moment = ahead
    fail(clinic, 1)
    assert is_enabled(clinic)


def test_a_persona_that_is_off_already_is_not_disabled_again(clinic: Clinic):
    clinic.studio.personas.disable("watcher")
    fail(clinic, 6)
    assert breakers(clinic) == []


def test_threads_that_fail_at_once_open_it_once(clinic: Clinic):
    runs = [clinic.run(error_kind="credential") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(clinic.healing.after, runs))
    assert [outcome.breaker is not None for outcome in outcomes].count(True) == 1
    [breaker] = breakers(clinic)
    assert breaker.occurrences == 1
    assert len(clinic.studio.messages.list()) == 1
    assert {issue.occurrences for issue in clinic.healing.list() if issue.category != "Breaker"} == {8}


HEAL = """
    import sys
    from personas_nb import Studio
    with Studio(sys.argv[1]) as studio:
        runs = [studio.executions.table.get(run) for run in sys.argv[2:]]
        print("ready", flush=True)
        input()
        print(sum(studio.healing.after(run).breaker is not None for run in runs), flush=True)
"""


def test_processes_that_fail_at_once_open_it_once(clinic: Clinic):
    first, second = ([clinic.run(error_kind="credential").id for _ in range(6)] for _ in range(2))
    home = str(clinic.studio.home)
    with python(HEAL, home, *first) as one, python(HEAL, home, *second) as other:
        for process in (one, other):
            assert line_of(process) == "ready"
        for process in (one, other):
            process.stdin.write("\n")
            process.stdin.flush()
        assert sorted([line_of(one), line_of(other)]) == ["0", "1"]
    [breaker] = breakers(clinic)
    assert breaker.occurrences == 1
    assert len(clinic.studio.messages.list()) == 1
    assert not is_enabled(clinic)


# --- as a person sees it --------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestingShell]:
    monkeypatch.setenv("PERSONAS_HOME", str(home))
    yield from shell_in(tmp_path)


def test_healing_lists_what_is_open_and_what_to_do(clinic: Clinic, shell: TestingShell):
    issue = fail(clinic, 2).issue
    text = shell.run("%persona healing").text
    for piece in ("1 issue open", "Watcher", "key", issue.title, f"%persona healing resolve {issue.id[:8]}"):
        assert piece in text
    assert "%persona run watcher" in text
    assert text == shell.run("%persona healing list --persona watcher").text


def test_resolving_shows_what_was_resolved_and_twice_says_so(clinic: Clinic, shell: TestingShell):
    issue = fail(clinic, 1).issue
    view = shell.run(f"%persona healing resolve {issue.id[:8]} gave it my boss's key")
    assert (view.value.status, view.value.note) == ("resolved", "gave it my boss's key")
    assert issue.title in view.text
    assert "✓ resolved" in view.text
    assert "resolved before" in shell.run("%persona healing resolve latest").text
    assert "No failure waits for you." in shell.run("%persona healing").text
    assert issue.title in shell.run("%persona healing --all").text


def test_with_nothing_to_heal_it_says_so(shell: TestingShell):
    assert "No failure waits for you." in shell.run("%persona healing").text


def test_an_issue_in_a_cell_is_a_card(clinic: Clinic, shell: TestingShell):
    issue = fail(clinic, 1).issue
    shell.user_ns["issue"] = issue
    shell.run("issue")
    assert issue.title in shell.text
    assert f"%persona healing resolve {issue.id[:8]}" in shell.text


def test_ids_of_open_issues_are_completed(clinic: Clinic):
    from personas_nb.verbs.completion import complete

    issue = fail(clinic, 1).issue
    assert complete("healing resolve ", lambda: clinic.studio)[1] == [issue.id[:8], "latest"]
    assert complete("healing r", lambda: clinic.studio)[1] == ["resolve"]


def test_text_of_others_is_shown_and_does_nothing():
    text = "<script>alert(1)</script>\x1b[31m"
    issue = HealingIssue(persona_id="p", execution_id=text, category=text, title=text, remedy=text, note=text)
    for view in (issue_list([issue], names={"p": text}), issue_card(issue, persona_name=text)):
        assert "<script" not in view.html
        assert "\x1b" not in view.text + view.html
