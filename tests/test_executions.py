"""Runs as a person handles them: start, wait, follow, cancel, limits, several studios and processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Request, Turn
from support.studios import (
    line_of,
    persona_of,
    python,
    settings_for,
    studio_at,
    wait_until,
    workspace,
)

from personas_nb import Studio
from personas_nb.entities.base import new_id
from personas_nb.errors import Cancelled, Conflict, InvalidInput, NotFound, QueueFull, TooLarge
from personas_nb.store.executions import ExecutionTable, RunEventTable

SLOW = Turn.text("Begun. and then", chunk=6).hang_after(1)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def server(stack: ExitStack) -> ModelServer:
    return stack.enter_context(ModelServer([Turn.text("Hi.")], repeat_last=True))


@pytest.fixture
def slow(stack: ExitStack) -> ModelServer:
    """Writes “Begun.” and then nothing more."""
    return stack.enter_context(ModelServer([SLOW], repeat_last=True))


def has_begun(studio: Studio, execution_id: str) -> None:
    wait_until(
        lambda: any(event.type == "text" for _s, _a, event in studio.executions.recorded(execution_id))
    )


# --- what may be given ----------------------------------------------------------------------------------


def nothing_written(studio: Studio) -> bool:
    return not studio.executions.list() and not list(studio.home.glob("workspaces/*/inputs/*"))


@pytest.mark.parametrize("given", ["x" * 50_000_000, ["x" * 50_000_000], {"a": "ü" * 6_000_000}])
def test_an_input_over_the_limit_is_refused_and_nothing_is_written(home: Path, given: Any):
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(TooLarge, match="the limit is 10 MiB"):
            studio.run("watcher", given)
        assert nothing_written(studio)


def test_a_file_over_the_limit_or_missing_is_refused_and_nothing_is_written(home: Path, tmp_path: Path):
    small, big = tmp_path / "small.txt", tmp_path / "big.txt"
    small.write_text("x")
    with big.open("wb") as file:
        file.truncate(11 * 2**20)
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(TooLarge, match=r"big\.txt has 11\.0 MiB"):
            studio.run("watcher", files=[small, big])
        with pytest.raises(InvalidInput, match="There is no file"):
            studio.run("watcher", files=[small, tmp_path / "missing.txt"])
        assert nothing_written(studio)


def test_a_file_whose_name_is_no_text_is_refused_and_nothing_is_written(home: Path, tmp_path: Path):
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/bad\xff.txt"))
    odd.write_text("x")
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(InvalidInput, match=r"The name of bad\?\.txt is not UTF-8"):
            studio.run("watcher", files=[odd])
        assert nothing_written(studio)


@pytest.mark.parametrize("given", [7, b"bytes", {1, 2}, object()])
def test_an_input_that_is_neither_text_nor_structure_is_refused(home: Path, given: Any):
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(InvalidInput, match="Give text, a dict or a list"):
            studio.run("watcher", given)


def test_an_input_that_cannot_be_json_is_refused_in_a_sentence(home: Path):
    endless: dict[str, Any] = {}
    endless["self"] = endless
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with studio_at(home) as studio:
        persona_of(studio)
        for given in (endless, deep, {(1, 2): "a pair as a key"}):
            with pytest.raises(InvalidInput, match="cannot be written as JSON"):
                studio.run("watcher", given)
        assert nothing_written(studio)


@pytest.mark.parametrize("reference", [None, 7, b"watcher"])
def test_what_can_name_no_persona_is_not_found(home: Path, reference: Any):
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(NotFound, match="There is no persona"):
            studio.run(reference)


@pytest.mark.parametrize(
    "limits", [{"max_turns": 0}, {"timeout_ms": -1}, {"max_budget_usd": -0.5}, {"max_turns": "many"}]
)
def test_a_limit_out_of_range_is_refused_by_its_name(home: Path, limits: dict[str, Any]):
    with studio_at(home) as studio:
        persona_of(studio)
        with pytest.raises(InvalidInput, match=next(iter(limits))):
            studio.run("watcher", **limits)
        assert nothing_written(studio)


def test_a_disabled_persona_does_not_run_whoever_still_holds_it(home: Path):
    with studio_at(home) as studio:
        held = persona_of(studio)
        studio.personas.disable("watcher")
        for reference in ("watcher", held):
            with pytest.raises(InvalidInput, match="is disabled"):
                studio.run(reference)
        studio.personas.purge("watcher")
        with pytest.raises(NotFound):
            studio.run(held)
        assert nothing_written(studio)


def test_files_are_copied_into_the_workspace_and_named_in_the_prompt(home: Path, tmp_path: Path):
    (tmp_path / "invoices.csv").write_text("id\n1\n")
    with studio_at(home) as studio:
        persona = persona_of(studio)
        run = studio.run("watcher", "look", files=[tmp_path / "invoices.csv"])
        assert (workspace(studio, persona) / "inputs" / "invoices.csv").read_text() == "id\n1\n"
        assert "- inputs/invoices.csv (5 bytes)" in (studio.executions.prompt(run.id) or "")


def test_a_file_that_lies_in_the_workspace_already_may_be_given(home: Path):
    with studio_at(home) as studio:
        persona = persona_of(studio)
        file = workspace(studio, persona) / "inputs" / "a.csv"
        file.parent.mkdir()
        file.write_text("id\n1\n")
        run = studio.run("watcher", files=[file])
    assert (run.status, run.files) == ("completed", ("inputs/a.csv (5 bytes)",))
    assert file.read_text() == "id\n1\n"


def test_a_file_whose_name_a_folder_has_is_refused_in_a_sentence(home: Path, tmp_path: Path):
    (tmp_path / "data").write_text("x")
    with studio_at(home) as studio:
        (workspace(studio, persona_of(studio)) / "inputs" / "data").mkdir(parents=True)
        with pytest.raises(InvalidInput, match="data cannot be copied"):
            studio.run("watcher", files=[tmp_path / "data"])
        assert studio.executions.list() == []


def test_each_of_two_queued_runs_reads_its_own_file_of_the_same_name(home: Path, tmp_path: Path):
    def script(request: Request, _n: int) -> Turn:
        said = re.search(r"mail \d", json.dumps(request.messages[1:]))
        if said:
            return Turn.text(said[0])
        named = re.search(r"- (inputs/\S+) \(", json.dumps(request.messages))
        assert named
        return Turn.tools(("file_read", {"path": named[1]}), wait_seconds=0.3)

    with ModelServer(script) as server, studio_at(home, server) as studio:
        persona_of(studio, "file_read")
        handles = []
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "mail.txt").write_text(f"mail {number}")
            handles.append(studio.start("watcher", "Read it.", files=[tmp_path / str(number) / "mail.txt"]))
        assert [handle.wait(20).output_data for handle in handles] == ["mail 0", "mail 1", "mail 2"]


def test_a_full_queue_refuses_the_next_run_and_writes_nothing(home: Path, slow: ModelServer, tmp_path: Path):
    (tmp_path / "a.txt").write_text("x")
    with studio_at(home, slow, queue_limit=2) as studio:
        persona_of(studio)
        handles = [studio.start("watcher")]
        has_begun(studio, handles[0].id)
        handles += [studio.start("watcher") for _ in range(2)]
        with pytest.raises(QueueFull, match="already has 2 runs"):
            studio.start("watcher", files=[tmp_path / "a.txt"])
        assert len(studio.executions.list()) == 3
        assert not list(studio.home.glob("workspaces/*/inputs/*"))
        assert [handle.cancel().status for handle in reversed(handles)] == ["cancelled"] * 3


# --- following ------------------------------------------------------------------------------------------


def test_events_can_be_iterated_and_awaited_alike(home: Path, server: ModelServer):
    async def awaited(handle: Any) -> list[Any]:
        return [event async for event in handle.events()]

    with studio_at(home, server) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        events = list(handle.events())
        assert [event.type for event in events][-1] == "status"
        assert (
            asyncio.run(awaited(handle))
            == events
            == [event for _s, _a, event in studio.executions.recorded(handle.id)]
        )


def test_batches_bring_every_event_of_a_run_of_this_process(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        events = [event for batch in handle.batches() for event in batch]
        assert events == list(handle.events())


def test_waiting_has_a_limit_that_leaves_the_run_alone(home: Path, slow: ModelServer):
    with studio_at(home, slow) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        with pytest.raises(TimeoutError, match=r"still goes on after 0\.1 s"):
            handle.wait(0.1)
        assert studio.executions.get(handle.id).status in ("queued", "running")
        other = studio.executions.handle(handle.id[:8])
        assert other.id == handle.id
        handle.cancel()


def test_a_run_can_be_awaited_inside_a_running_loop(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        persona_of(studio)

        async def cell() -> list[str]:
            ticks = asyncio.create_task(asyncio.sleep(0))
            runs = await asyncio.gather(studio.arun("watcher"), studio.arun("watcher"))
            await ticks
            return [run.status for run in runs]

        assert asyncio.run(cell()) == ["completed", "completed"]


def test_cancelling_the_await_cancels_the_run(home: Path, slow: ModelServer):
    with studio_at(home, slow) as studio:
        persona_of(studio)

        async def cell() -> None:
            await asyncio.wait_for(studio.arun("watcher"), 0.5)

        with pytest.raises(TimeoutError):
            asyncio.run(cell())
        assert studio.executions.get("latest").status == "cancelled"


def test_the_log_has_every_event_as_a_line_of_json_with_what_was_taken_out_of_the_text(home: Path):
    hello = '{"user_message": {"title": "Hi", "content": "x"}}'
    with ModelServer([Turn.text(f"Now.\n{hello}\n")]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        run = studio.run("watcher")
        path = Path(run.log_file_path or "")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        stored = [event.type for _seq, _at, event in studio.executions.recorded(run.id)]
    assert [line["type"] for line in lines] == stored
    assert [line["kind"] for line in lines if line["type"] == "protocol"] == ["user_message"]
    assert (path.stat().st_mode & 0o777) == 0o600


def test_the_end_of_a_run_is_an_event_of_the_system(home: Path):
    with ModelServer([Turn.text("Hi."), Turn.error(500)]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        ids = [studio.run("watcher").id for _ in range(2)]
        with studio.store.read() as db:
            rows = db.execute("select event_type, execution_id from events order by rowid").fetchall()
    assert [tuple(row) for row in rows] == [("execution_completed", ids[0]), ("execution_failed", ids[1])]


# --- cancelling and interrupting ------------------------------------------------------------------------


@pytest.mark.parametrize("after_seconds", [0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05])
def test_a_run_can_be_cancelled_at_any_moment(home: Path, slow: ModelServer, after_seconds: float):
    with studio_at(home, slow) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        time.sleep(after_seconds)
        assert handle.cancel().status == "cancelled"
        assert handle.wait(5).status == "cancelled"
        assert studio.run("watcher", provider="rehearsal").status == "completed"  # its slot is free again


def test_a_finished_run_stays_as_it_is_when_it_is_cancelled(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        persona_of(studio)
        run = studio.run("watcher")
        assert studio.executions.cancel(run.id) == run


def test_an_interrupt_while_waiting_cancels_and_keeps_what_it_had(home: Path, slow: ModelServer):
    with studio_at(home, slow) as studio:
        persona_of(studio)

        def interrupt() -> None:
            has_begun(studio, studio.executions.get("latest").id)
            os.kill(os.getpid(), signal.SIGINT)

        handle = studio.start("watcher")
        threading.Thread(target=interrupt).start()
        with pytest.raises(Cancelled, match="was cancelled") as caught:
            handle.wait()
        assert caught.value.execution.status == "cancelled"
        assert caught.value.execution.output_data == "Begun."
        assert studio.executions.get(handle.id).status == "cancelled"


def test_another_process_can_cancel_a_run(home: Path, slow: ModelServer):
    with studio_at(home, slow) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        has_begun(studio, handle.id)
        code = """
            import sys
            from personas_nb import Studio
            with Studio(sys.argv[1]) as studio:
                print(studio.executions.cancel(sys.argv[2]).status)
        """
        with python(code, str(home), handle.id) as process:
            assert line_of(process) == "cancelled"
        assert handle.wait(5).output_data == "Begun."


# --- slots ----------------------------------------------------------------------------------------------


def most_at_once(studio: Studio) -> int:
    runs = studio.executions.list(limit=1000)
    moments = [(run.started_at, 1) for run in runs] + [(run.completed_at, -1) for run in runs]
    most = now = 0
    for _moment, change in sorted(moments, key=lambda pair: (pair[0], pair[1])):  # type: ignore[arg-type,return-value]
        now += change
        most = max(most, now)
    return most


def test_a_process_runs_four_at_once(home: Path):
    turn = Turn.text("Hi.", wait_seconds=0.15)
    with ModelServer([turn], repeat_last=True) as server, studio_at(home, server) as studio:
        persona_of(studio, max_concurrent=10)
        for handle in [studio.start("watcher") for _ in range(10)]:
            assert handle.wait().status == "completed"
        assert most_at_once(studio) == 4


def test_a_persona_runs_once_at_a_time_over_two_processes(home: Path):
    code = """
        import sys
        from personas_nb import Studio
        with Studio(sys.argv[1]) as studio:
            handles = [studio.start("watcher") for _ in range(4)]
            print([handle.wait().status for handle in handles])
    """
    turn = Turn.text("Hi.", wait_seconds=0.05)
    with ModelServer([turn], repeat_last=True) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with python(code, str(home), env=settings_for(server)) as other:
            handles = [studio.start("watcher") for _ in range(4)]
            assert {handle.wait().status for handle in handles} == {"completed"}
            assert line_of(other) == str(["completed"] * 4)
        assert len(studio.executions.list()) == 8
        assert most_at_once(studio) == 1


def test_runs_of_one_persona_start_in_the_order_they_were_queued(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        persona_of(studio)
        ids = [studio.start("watcher", str(n)).id for n in range(6)]
        for execution_id in ids:
            studio.executions.handle(execution_id).wait(20)
        runs = sorted(studio.executions.list(), key=lambda run: run.started_at or run.created_at)
        assert [run.id for run in runs] == ids


# --- claims ---------------------------------------------------------------------------------------------


def test_a_stale_token_writes_nothing(home: Path, slow: ModelServer):
    with studio_at(home, slow) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        has_begun(studio, handle.id)
        table, events = ExecutionTable(studio.store), RunEventTable(studio.store)
        with studio.store.write() as db:  # as another worker does that takes this one for dead
            db.execute(
                "update executions set claim_token = claim_token + 1, status = 'failed' where id = ?",
                [handle.id],
            )
        before = studio.executions.get(handle.id)
        for attempt in (
            lambda db: table.change(db, handle.id, 1, status="completed", output_data="late"),
            lambda db: events.append(db, handle.id, 1, [(99, "t", "text", "{}")]),
            lambda db: table.end_early(db, handle.id, 1, status="failed", error="late", error_kind="late"),
        ):
            with pytest.raises(Conflict, match="nothing was written"), studio.store.write() as db:
                attempt(db)
        handle.cancel()
        assert studio.executions.get(handle.id).changed(cancel_requested=False) == before


def test_a_run_that_lost_its_claim_stops_by_itself(home: Path):
    turn = Turn.text("word " * 200, chunk=5, delay_seconds=0.05)
    with ModelServer([turn]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        has_begun(studio, handle.id)
        with studio.store.write() as db:
            db.execute("update executions set claim_token = 9, status = 'failed' where id = ?", [handle.id])
        assert server.requests[0].left.wait(10)
        assert handle.wait(10).status == "failed"


# --- several studios ------------------------------------------------------------------------------------


def test_two_studios_of_one_home_share_the_worker_and_closing_one_leaves_the_other(
    home: Path, server: ModelServer
):
    with studio_at(home, server) as first:
        persona_of(first)
        assert first.run("watcher").status == "completed"
        with Studio(home) as second:
            assert second.worker is first.worker
            handle = second.start("watcher")
            first.close()
            assert handle.wait().status == "completed"
            assert second.run("watcher").status == "completed"
        assert first.run("watcher").status == "completed"  # a closed studio opens again


def test_the_second_studio_may_be_the_one_that_runs_first(home: Path):
    lines = (
        '{"agent_memory": {"title": "T", "content": "c"}}\n{"user_message": {"title": "Hi", "content": "x"}}'
    )
    with ModelServer([Turn.text(lines)]) as server, studio_at(home, server) as first, Studio(home) as second:
        assert first.worker is second.worker
        persona_of(second)
        assert second.run("watcher").status == "completed"
        assert len(second.memories.list("watcher")) == 1


def test_closing_while_running_keeps_what_there_was_and_fails_what_waited(home: Path, slow: ModelServer):
    with studio_at(home, slow) as studio:
        persona_of(studio)
        running, waiting = studio.start("watcher"), studio.start("watcher")
        has_begun(studio, running.id)
        started = time.monotonic()
        studio.close()
        assert time.monotonic() - started < 4
        first, second = running.wait(5), waiting.wait(5)
    assert (first.status, first.error_kind, first.output_data) == ("failed", "interrupted", "Begun.")
    assert (second.status, second.error_kind) == ("failed", "interrupted")
    assert "before the run began" in (second.error or "")


# --- looking up -----------------------------------------------------------------------------------------


def test_runs_are_found_by_prefix_and_latest_and_listed_by_status(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        with pytest.raises(NotFound, match="no run yet"):
            studio.executions.get("latest")
        persona_of(studio)
        first, second = studio.run("watcher"), studio.run("watcher")
        assert studio.executions.get(first.id[:10]).id == first.id
        assert studio.executions.get("latest").id == second.id
        assert [run.id for run in studio.executions.list("watcher", "completed")] == [second.id, first.id]
        assert studio.executions.list(status="failed") == []
        for unknown in (new_id(), "", "%", "zz"):
            with pytest.raises(NotFound):
                studio.executions.get(unknown)


def test_a_look_for_a_run_to_claim_reads_none_that_have_ended(home: Path):
    from personas_nb.store.executions import _CLAIMABLE

    with studio_at(home) as studio, studio.store.read() as db:
        plan = [
            row["detail"] for row in db.execute(f"explain query plan {_CLAIMABLE}", ["worker", True, "2026"])
        ]
    assert "SCAN e USING INDEX idx_executions_queued" in plan
    assert "SEARCH r USING INDEX idx_executions_running (persona_id=?)" in plan
