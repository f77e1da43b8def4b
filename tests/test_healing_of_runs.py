"""What becomes of runs that fail: real ones, against a scripted model, over processes, and as a person sees it."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in
from support.studios import (
    KEY,
    line_of,
    persona_of,
    python,
    settings_for,
    studio_at,
    wait_until,
    workspace,
)

from personas_nb import Studio
from personas_nb.engine import healing
from personas_nb.entities.base import now
from personas_nb.entities.execution import Execution
from personas_nb.errors import ExecutionFailed, InvalidInput
from personas_nb.store.executions import ExecutionTable

LATER = Turn.error(429, retry_after=60)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate-limited run is tried again after a moment."""
    monkeypatch.setattr(healing, "BASE_SECONDS", 0.05)


@contextmanager
def studio_with(home: Path, *turns: Turn, repeat: bool = False, **settings: Any) -> Iterator[Studio]:
    """A studio whose model says these turns and is asked nothing more."""
    with ModelServer(turns, repeat_last=repeat) as server, studio_at(home, server, **settings) as studio:
        yield studio


def retry_of(studio: Studio, run: Execution) -> Execution:
    """The run that tries a failed one again, as it is now."""
    retried = studio.healing.table.retry_of(run.id)
    assert retried is not None, studio.healing.list()
    return studio.executions.get(retried)


def finished(studio: Studio, run: Execution) -> Execution:
    return studio.executions.handle(run.id).wait(20)


def begin_now(studio: Studio, run: Execution) -> Execution:
    """Let the time of a queued retry come."""
    studio.executions.table.update(run.id, scheduled_at=now())
    return finished(studio, run)


# --- tried again ----------------------------------------------------------------------------------------


def test_a_rate_limited_run_is_tried_again_when_the_provider_asked_for_it(home: Path):
    with studio_with(home, Turn.error(429, retry_after=1), Turn.text("Done.")) as studio:
        failed = studio.run(persona_of(studio), "the invoices")
        waiting = retry_of(studio, failed)
        assert (failed.status, failed.error_kind, failed.cost_usd) == ("failed", "rate_limit", 0.0)
        assert (waiting.status, waiting.retry_of, waiting.input_data) == ("queued", failed.id, "the invoices")
        assert waiting.scheduled_at is not None
        retry = finished(studio, waiting)
        assert (retry.status, retry.output_data) == ("completed", "Done.")
        assert retry.started_at is not None
        assert retry.started_at >= waiting.scheduled_at
        assert studio.healing.list(None) == []
        assert studio.healing.of(failed).sentence == (
            f"It was tried again as run {retry.id[:8]}, which completed."
        )


def test_the_provider_is_asked_four_times_and_then_a_person(home: Path, soon: None):
    with ModelServer([Turn.error(529)], repeat_last=True) as server, studio_at(home, server) as studio:
        run = studio.run(persona_of(studio))
        for _ in range(3):
            run = finished(studio, retry_of(studio, run))
        assert len(server.requests) == 4
        (issue,) = studio.healing.list()
        assert (issue.category, issue.execution_id) == ("RateLimit", run.id)
        assert issue.remedy.startswith("It was tried again 3 times.")
        assert studio.healing.table.retry_of(run.id) is None


def test_a_run_without_enough_time_gets_twice_as_much_once(home: Path):
    with studio_with(home, Turn.hang(), repeat=True) as studio:
        failed = studio.run(persona_of(studio), timeout_ms=200)
        retry = finished(studio, retry_of(studio, failed))
        assert (failed.error_kind, retry.error_kind) == ("timeout", "timeout")
        assert retry.timeout_ms == 400
        (issue,) = studio.healing.list()
        assert issue.remedy.startswith("It was tried again with twice the time.")
        assert "timeout_ms=800" in issue.remedy


def test_a_retry_has_the_input_the_files_and_the_limits_of_the_first(home: Path, tmp_path: Path, soon: None):
    (tmp_path / "rows.csv").write_text("a,b")
    read = Turn.tools(("file_read", {"path": "inputs/rows.csv"}))
    with ModelServer([Turn.error(429), read, Turn.text("Read.")]) as server:
        with studio_at(home, server, "openai") as studio:
            persona = persona_of(studio, "file_read")
            limits = {"max_budget_usd": 0.5, "max_turns": 7, "timeout_ms": 9_000}
            failed = studio.run(persona, "Grüße", [tmp_path / "rows.csv"], provider="custom", **limits)
            retry = finished(studio, retry_of(studio, failed))
        kept = ("input_data", "files", "requested_provider", *limits)
        assert {name: getattr(retry, name) for name in kept} == {name: getattr(failed, name) for name in kept}
        assert [(step.tool, step.output) for step in retry.tool_steps] == [("file_read", "a,b")]
        assert server.requests[1].mentions("Grüße")


def test_other_runs_go_on_while_one_waits_to_be_tried_again(home: Path):
    with studio_with(home, LATER, Turn.text("Another.")) as studio:
        waiting = retry_of(studio, studio.run(persona_of(studio)))
        assert studio.run("watcher").output_data == "Another."
        assert studio.executions.get(waiting.id).status == "queued"


# --- not tried again ------------------------------------------------------------------------------------


def test_a_refused_key_is_for_a_person(home: Path):
    with studio_with(home, Turn.error(401)) as studio:
        failed = studio.run(persona_of(studio))
        assert studio.healing.table.retry_of(failed.id) is None
        (issue,) = studio.healing.list()
        assert (issue.category, issue.execution_id) == ("CredentialError", failed.id)
        assert "ANTHROPIC_API_KEY" in issue.remedy


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"paid")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_what_reached_outside_is_not_done_again_by_itself(home: Path, page: str):
    call = Turn.tools(("http_request", {"url": page}))
    with studio_with(home, call, Turn.error(429), http_allowed_hosts="127.0.0.1") as studio:
        failed = studio.run(persona_of(studio, "http_request"))
        assert [(step.tool, step.error) for step in failed.tool_steps] == [("http_request", None)]
        assert studio.healing.table.retry_of(failed.id) is None
        (issue,) = studio.healing.list()
        assert issue.remedy.startswith(
            "It was not tried again by itself. The tool http_request was called: look at"
        )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"user_message": {"title": "Hi", "content": "There."}}', "A message was sent to you"),
        ('{"persona_action": {"target": "other", "action": "run"}}', "Another persona was started"),
        ('{"emit_event": {"type": "late", "data": {}}}', "An event was sent"),
    ],
    ids=["message", "action", "event"],
)
def test_what_was_said_is_not_said_twice(home: Path, said: str, why: str):
    with studio_with(home, Turn.text(f"First\n{said}\nthen", chunk=200).fail_after(1, 529)) as studio:
        studio.personas.create(name="Other")
        failed = studio.run(persona_of(studio))
        assert failed.error_kind == "overloaded"
        assert studio.healing.table.retry_of(failed.id) is None
        (issue,) = studio.healing.list()
        assert issue.remedy.startswith(f"It was not tried again by itself. {why}: look at")


def test_a_call_that_time_cut_off_is_not_made_again(home: Path):
    is_over = Event()

    class Slow(Page):
        def do_GET(self) -> None:
            is_over.wait(20)

    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        call = Turn.tools(("http_request", {"url": f"http://127.0.0.1:{server.server_port}/"}))
        with studio_with(home, call, http_allowed_hosts="127.0.0.1") as studio:
            failed = studio.run(persona_of(studio, "http_request"), timeout_ms=1_000)
            assert failed.error_kind == "timeout"
            assert studio.healing.table.retry_of(failed.id) is None
            assert "The tool http_request was called" in studio.healing.list()[0].remedy
            is_over.set()
        server.shutdown()


def test_a_rehearsal_that_fails_heals_nothing(home: Path):
    with studio_at(home) as studio:
        failed = studio.run(persona_of(studio), timeout_ms=1)
        assert (failed.status, failed.rehearsal) == ("failed", True)
        assert studio.healing.list(None) == []
        assert len(studio.executions.list()) == 1


# --- five in a row --------------------------------------------------------------------------------------


def test_five_failures_disable_the_persona_and_running_it_says_how_to_go_on(home: Path):
    with studio_with(home, Turn.error(401), repeat=True) as studio:
        persona = persona_of(studio)
        runs = [studio.run(persona) for _ in range(5)]
        assert not studio.personas.get("watcher").enabled
        with pytest.raises(InvalidInput, match=r"Watcher is disabled\. Type `%persona enable watcher`"):
            studio.run("watcher")
        assert {issue.category for issue in studio.healing.list()} == {"CredentialError", "Breaker"}
        assert studio.healing.of(runs[-1]).sentence == (
            "Watcher was disabled after 5 failures in a row; `%persona healing` says what to do."
        )
        studio.personas.enable("watcher")
        assert studio.run("watcher").error_kind == "credential"
        assert studio.personas.get("watcher").enabled


def test_runs_that_still_wait_when_the_persona_is_disabled_ask_no_model(home: Path):
    with ModelServer([Turn.error(401)], repeat_last=True) as server, studio_at(home, server) as studio:
        persona = persona_of(studio)
        handles = [studio.start(persona) for _ in range(8)]
        runs = [handle.wait(20) for handle in handles]
        assert len(server.requests) == 5
        assert [run.error_kind for run in runs] == ["credential"] * 5 + ["disabled"] * 3
        assert runs[-1].error == (
            "Watcher was disabled before the run began. Type `%persona enable watcher`, then run it again."
        )
        assert {run.cost_usd for run in runs} == {0.0}
        assert {issue.occurrences for issue in studio.healing.list()} == {5, 1}


def test_runs_that_fail_side_by_side_disable_the_persona_once(home: Path, soon: None):
    with ModelServer([Turn.error(429)], repeat_last=True) as server, studio_at(home, server) as studio:
        persona = persona_of(studio, max_concurrent=2)
        for handle in [studio.start(persona) for _ in range(2)]:
            handle.wait(20)
        wait_until(lambda: not studio.personas.get("watcher").enabled)
        wait_until(lambda: all(run.is_finished for run in studio.executions.list()))
        assert 5 <= len(server.requests) <= 6
        assert sum(issue.category == "Breaker" for issue in studio.healing.list(None)) == 1


# --- what changes before its time comes -----------------------------------------------------------------


def assert_called_off(studio: Studio, retry: Execution, why: str) -> None:
    ended = begin_now(studio, retry)
    assert (ended.status, ended.error_kind, ended.cost_usd) == ("failed", "not_retried", 0.0)
    assert re.fullmatch(f"It was not tried again: {why}", ended.error or "")
    (issue,) = studio.healing.list()
    assert (issue.title, issue.execution_id) == (ended.error, retry.id)
    assert studio.healing.table.retry_of(retry.id) is None


@pytest.mark.parametrize("change", ["disable", "archive"])
def test_a_persona_that_was_switched_off_is_not_tried_again(home: Path, change: str):
    with studio_with(home, LATER) as studio:
        retry = retry_of(studio, studio.run(persona_of(studio)))
        getattr(studio.personas, change)("watcher")
        assert_called_off(studio, retry, f"Watcher is {change}d.")


def test_a_tool_that_was_taken_away_calls_the_retry_off(home: Path):
    with studio_with(home, Turn.tools(("file_read", {"path": "a.txt"})), LATER) as studio:
        persona = persona_of(studio, "file_read")
        (workspace(studio, persona) / "a.txt").write_text("hello")
        retry = retry_of(studio, studio.run(persona))
        studio.tools.unassign(persona, "file_read")
        assert_called_off(studio, retry, "Watcher may not use file_read any more.")


def test_a_key_that_was_removed_calls_the_retry_off(home: Path):
    with ModelServer([LATER]) as server, studio_at(home) as studio:
        profile = {"provider": "anthropic", "model": "claude-sonnet-5-5", "base_url": server.url}
        persona = persona_of(studio, model_profile={**profile, "auth_token": KEY})
        retry = retry_of(studio, studio.run(persona))
        (credential,) = studio.credentials.list()
        studio.credentials.remove(credential.name)
        assert_called_off(studio, retry, "the key of Watcher's model is gone.")


def test_a_persona_that_was_deleted_leaves_nobody_waiting(home: Path):
    with studio_with(home, LATER) as studio:
        retry = retry_of(studio, studio.run(persona_of(studio)))
        handle = studio.executions.handle(retry.id)
        studio.personas.purge("watcher")
        assert handle.ended is not None
        handle.ended.result(20)
        assert studio.executions.list() == []


def test_a_retry_can_be_cancelled_before_its_time(home: Path):
    with studio_with(home, LATER) as studio:
        retry = retry_of(studio, studio.run(persona_of(studio)))
        began = time.monotonic()
        cancelled = studio.executions.cancel(retry.id)
        assert (cancelled.status, cancelled.error) == ("cancelled", "Cancelled before it ran.")
        assert time.monotonic() - began < 5
        assert studio.healing.list(None) == []
        assert studio.healing.table.retry_of(retry.id) is None


# --- processes that end ---------------------------------------------------------------------------------


def assert_left_behind(studio: Studio, retry: Execution) -> None:
    ended = studio.executions.get(retry.id)
    assert (ended.status, ended.error_kind) == ("failed", "interrupted")
    assert ended.error == "Its process ended before it could be tried again."
    assert len(studio.executions.list()) == 2
    assert studio.healing.list(None) == []


def test_closing_the_studio_gives_up_what_waits(home: Path):
    with studio_with(home, LATER) as studio:
        retry = retry_of(studio, studio.run(persona_of(studio)))
    with studio_at(home) as following:
        assert_left_behind(following, retry)


def test_another_studio_of_the_process_keeps_the_retry_alive(home: Path):
    turns = [Turn.error(429, retry_after=1), Turn.text("Done.")]
    with ModelServer(turns) as server, studio_at(home, server) as kept:
        persona_of(kept)
        assert kept.run("watcher", provider="rehearsal").status == "completed"  # it has a worker now
        with Studio(home) as closing:
            retry = retry_of(closing, closing.run("watcher"))
        assert finished(kept, retry).output_data == "Done."


FAILING = """
    import sys
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    failed = studio.run("watcher")
    print(failed.id, studio.healing.table.retry_of(failed.id), flush=True)
    for _ in sys.stdin:
        print(studio.executions.handle(studio.healing.table.retry_of(failed.id)).wait(20).status, flush=True)
"""


def test_the_next_process_ends_what_a_killed_one_would_have_tried_again(home: Path):
    with ModelServer([LATER]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with python(FAILING, str(home), env=settings_for(server)) as process:
            _failed, retry_id = line_of(process).split()
            retry = studio.executions.get(retry_id)
            assert retry.status == "queued"
            process.kill()
            process.wait()
        assert_left_behind(studio, retry)


def test_another_process_sees_the_retry_follows_it_and_can_cancel_it(home: Path):
    turns = [LATER, LATER, Turn.text("Done.")]
    with ModelServer(turns) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with (
            python(FAILING, str(home), env=settings_for(server)) as one,
            python(FAILING, str(home), env=settings_for(server)) as two,
        ):
            waiting = [line_of(process).split()[1] for process in (one, two)]
            assert {run.id for run in studio.executions.list(status="queued")} == set(waiting)
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            assert studio.executions.cancel(waiting[0]).status == "cancelled"
            assert line_of(one) == "cancelled"
            assert begin_now(studio, studio.executions.get(waiting[1])).output_data == "Done."
            assert line_of(two) == "completed"
        assert len(server.requests) == 3


def test_nobody_takes_the_lock_of_the_store_to_wait(home: Path, monkeypatch: pytest.MonkeyPatch):
    claims: list[str] = []
    looks: list[bool] = []
    claim, look = ExecutionTable.claim, ExecutionTable.has_claimable

    def counted(self: ExecutionTable, db: sqlite3.Connection, worker_id: str, limit: int) -> Any:
        claims.append(worker_id)
        return claim(self, db, worker_id, limit)

    def looked(self: ExecutionTable, worker_id: str, **options: Any) -> bool:
        looks.append(look(self, worker_id, **options))
        return looks[-1]

    def looks_more_than(count: int) -> bool:
        studio.worker.changed()
        return len(looks) > count

    with studio_with(home, LATER) as studio:
        retry_of(studio, studio.run(persona_of(studio)))
        wait_until(lambda: not studio.dispatcher._claimed)
        monkeypatch.setattr(ExecutionTable, "has_claimable", looked)
        wait_until(lambda: looks_more_than(2))
        monkeypatch.setattr(ExecutionTable, "claim", counted)
        seen = len(looks)
        wait_until(lambda: looks_more_than(seen + 20))
        assert claims == []
        assert not any(looks)


def test_nobody_takes_the_lock_of_the_store_to_wait_for_a_slot(home: Path):
    with ModelServer([Turn.hang()], repeat_last=True) as server, studio_at(home, server) as studio:
        persona = persona_of(studio)
        first, second = studio.start(persona), studio.start(persona)
        wait_until(lambda: server.requests)
        table, worker_id = studio.executions.table, studio.worker.id
        assert not table.has_claimable(worker_id)
        first.cancel()
        wait_until(lambda: len(server.requests) == 2)
        assert second.cancel().status == "cancelled"


# --- what a person sees ---------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@contextmanager
def kernel(monkeypatch: pytest.MonkeyPatch, *turns: Turn, repeat: bool = False) -> Iterator[ModelServer]:
    """The model of the shell's studio says these turns."""
    with ModelServer(turns, repeat_last=repeat) as server:
        for name, value in {**settings_for(server), "PERSONAS_TIMEZONE": "UTC"}.items():
            monkeypatch.setenv(name, value)
        with Studio() as studio:
            persona_of(studio)
            yield server


def failure(shell: TestingShell, cell: str = "%persona run watcher") -> str:
    """The sentence that a failing cell shows."""
    with pytest.raises(ExecutionFailed):
        shell.run(cell)
    ((said,),) = shell.tracebacks
    return said


def test_a_failure_that_is_tried_again_says_when_and_as_which_run(shell, monkeypatch):
    with kernel(monkeypatch, Turn.error(429, retry_after=30)):
        said = failure(shell)
        shown = shell.text
        (retry,) = shell.run("%persona runs --status queued").value
        runs = shell.text
    again = (
        r"It is tried again at \d\d:\d\d:\d\d \(in (29|30) s\) "
        f"as run {retry.id[:8]}, if this kernel still runs then."
    )
    assert re.fullmatch(
        "The run of Watcher failed: Anthropic refused the request because its rate limit is reached. "
        f"{again} `%persona runs wait {retry.id[:8]}` follows it.",
        said,
    )
    assert re.search(again, shown)
    assert f"%persona runs wait {retry.id[:8]}" in shown
    assert f"%persona runs cancel {retry.id[:8]}" in shown
    assert "healing" not in said + shown
    assert re.search(
        rf"{retry.id[:8]} .*queued.* begins at \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d, tries {retry.retry_of[:8]} again",
        runs,
    )


def test_a_failure_for_a_person_leads_to_what_to_do(shell, monkeypatch):
    with kernel(monkeypatch, Turn.error(401)):
        said = failure(shell)
        shown = shell.text
        overview = shell.run("%persona").text
        assert "ANTHROPIC_API_KEY" in shell.run("%persona healing").text
    assert said.startswith("The run of Watcher failed: Anthropic did not accept the key. Check the key in")
    for text in (said, shown):
        assert text.count("`%persona healing` says what to do.") == 1
        assert "tried again" not in text
    assert "1 open issue" in overview
    assert "%persona healing" in overview


def test_the_fifth_failure_says_that_the_persona_was_disabled(shell, monkeypatch):
    with kernel(monkeypatch, Turn.error(401), repeat=True):
        said = [failure(shell) for _ in range(5)]
        shown = shell.text
        with pytest.raises(InvalidInput):
            shell.run("%persona run watcher")
        assert shell.tracebacks == [
            ["Watcher is disabled. Type `%persona enable watcher`, then run it again."]
        ]
        assert "2 open issues" in shell.run("%persona").text
    disabled = "Watcher was disabled after 5 failures in a row; `%persona healing` says what to do."
    assert [disabled in text for text in said] == [False] * 4 + [True]
    assert disabled in shown


def test_the_lack_of_time_says_that_it_is_tried_again_at_once(shell, monkeypatch):
    with kernel(monkeypatch, Turn.hang(), Turn.text("At last.")):
        said = failure(shell, "%persona run watcher --timeout 1s")
        (retry_id,) = re.findall(r"as run (\w{8})", said)
        assert re.search(r"It (is tried again now|was tried again) as run", said)
        assert "--timeout" not in shell.text
        assert shell.run(f"%persona runs wait {retry_id}").output_data == "At last."


def test_waiting_for_a_retry_shows_when_it_begins_and_then_its_end(shell, monkeypatch):
    with kernel(monkeypatch, Turn.error(429, retry_after=2), Turn.text("At last.")):
        failure(shell)
        (retry,) = shell.run("%persona runs --status queued").value
        shell.run(f"%persona runs wait {retry.id[:8]}")
        first, last = shell.displays[0]["data"]["text/plain"], shell.displays[-1]["data"]["text/plain"]
    assert "queued" in first
    assert re.search(r"It begins at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.", first)
    assert "✓ done" in last
    assert "At last." in last


def test_a_failed_rehearsal_only_says_where_to_look(shell, monkeypatch):
    with Studio() as studio:
        persona_of(studio)
        said = failure(shell, "%persona run watcher --timeout 1ms")
        assert said.endswith(f"Everything it did: `%persona runs show {studio.executions.list()[0].id[:8]}`.")


def test_without_raising_the_card_says_what_comes(shell, monkeypatch):
    with kernel(monkeypatch, Turn.error(429, retry_after=30)):
        failed = shell.run("%persona run watcher --no-raise")
        assert failed.status == "failed"
        assert "It is tried again at" in shell.text


def test_in_a_shell_the_retry_does_not_outlive_the_verb(home: Path):
    with ModelServer([Turn.error(429, retry_after=30)]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        command = "import sys; from personas_nb.__main__ import main; sys.exit(main(['run', 'watcher']))"
        with python(command, env={**settings_for(server), "PERSONAS_HOME": str(home)}) as process:
            shown, said = process.communicate(timeout=60)
        assert process.returncode != 0
        again = r"It is not tried again by itself, for this process ends; run it again after \d{4}-"
        assert re.search(again, said)
        assert re.search(again, shown)
        assert {run.status for run in studio.executions.list()} == {"failed", "cancelled"}


def test_showing_a_failed_run_later_still_leads_to_what_to_do(shell, monkeypatch):
    with kernel(monkeypatch, Turn.error(401)):
        failure(shell)
        shell.run("%persona runs show latest")
    assert "`%persona healing` says what to do." in shell.text
