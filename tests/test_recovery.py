"""What becomes of a run whose process dies, stops or finds the disk full."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.disks import small_disk
from support.model_server import ModelServer, Turn
from support.studios import KEY, line_of, persona_of, python, settings_for, studio_at, wait_until, workspace

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
from personas_nb.entities.base import now, rfc3339
from personas_nb.errors import StoreError

RUN = """
    import sys, time
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    handles = [studio.start("watcher") for _ in range(2)]
    while not any(e.type == "text" and "write" in e.text for _s, _a, e in studio.executions.recorded(handles[0].id)):
        time.sleep(0.02)
    print(*(handle.id for handle in handles), flush=True)
    input()
"""
SCRIPT = [
    Turn.tools(("file_read", {"path": "a.txt"}), text="I look."),
    Turn.text("Then I write and then more", chunk=13).hang_after(1),
]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(SCRIPT, repeat_last=True) as started:
        yield started


@pytest.fixture
def studio(home: Path, server: ModelServer) -> Iterator[Studio]:
    with studio_at(home, server) as opened:
        persona = persona_of(opened, "file_read")
        (workspace(opened, persona) / "a.txt").write_text("hello")
        yield opened


def test_a_run_whose_process_was_killed_is_failed_with_what_it_had(studio: Studio, server: ModelServer):
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        running, queued = line_of(process).split()
        process.kill()
        process.wait()
    with Studio(studio.home) as following:
        run, waiting = following.executions.get(running), following.executions.get(queued)
    assert (run.status, run.error_kind) == ("failed", "interrupted")
    assert run.output_data == "I look.\n\nThen I write "
    assert [(step.tool, step.output) for step in run.tool_steps] == [("file_read", "hello")]
    assert run.input_tokens > 0
    assert run.cost_usd is not None
    assert run.duration_ms is not None
    assert (waiting.status, waiting.error_kind, waiting.output_data) == ("failed", "interrupted", None)
    with studio.store.read() as db:
        told = [
            row[0]
            for row in db.execute("select execution_id from events where event_type = 'execution_failed'")
        ]
    assert sorted(told) == sorted([running, queued])
    assert recover(studio.store) == []


def test_a_studio_that_only_looks_sees_that_the_process_of_a_run_died(studio: Studio, server: ModelServer):
    assert studio.executions.list() == []
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        running, queued = line_of(process).split()
        assert studio.executions.get(running).status == "running"
        assert {run.status for run in studio.executions.list()} == {"running", "queued"}
        process.kill()
        process.wait()
    assert studio.executions.get(running).error_kind == "interrupted"
    assert [run.status for run in studio.executions.list()] == ["failed", "failed"]
    assert studio.executions.list(status="running") == []
    assert [event.type for event in studio.executions.handle(queued).events()] == ["status"]


def test_a_slot_of_a_dead_process_is_free_again(studio: Studio, server: ModelServer):
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        line_of(process)
        process.kill()
        process.wait()
    with Studio(studio.home) as following:
        assert following.run("watcher", provider="rehearsal").status == "completed"


def test_a_stopped_process_is_not_declared_dead_and_goes_on(studio: Studio, server: ModelServer):
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        running, _queued = line_of(process).split()
        process.send_signal(signal.SIGSTOP)
        assert recover(studio.store) == []
        assert studio.executions.get(running).status == "running"
        process.send_signal(signal.SIGCONT)
        run = studio.executions.cancel(running)
        assert run.status == "cancelled"
        assert run.output_data == "I look.\n\nThen I write "


# --- a process that stands still ------------------------------------------------------------------------

GOING_ON = """
    import sys, time
    import personas_nb.worker
    from personas_nb import Studio
    personas_nb.worker.HEARTBEAT_SECONDS = 0.2
    studio = Studio(sys.argv[1])
    handles = [studio.start("watcher") for _ in range(2)]
    while not any(e.type == "text" and "write" in e.text for _s, _a, e in studio.executions.recorded(handles[0].id)):
        time.sleep(0.02)
    print(*(handle.id for handle in handles), flush=True)
    print(*(handle.wait(60).error_kind for handle in handles), flush=True)
    for _ in sys.stdin:
        print(studio.run("watcher", provider="rehearsal").status, flush=True)
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process is given up after a second."""
    monkeypatch.setattr("personas_nb.worker.STALLED_SECONDS", 1.0)


def asked(process: Any) -> str:
    process.stdin.write("\n")
    process.stdin.flush()
    return line_of(process)


def rows_of(studio: Studio, *execution_ids: str) -> list[Any]:
    """All that is stored of these runs."""
    tables = {"executions": "id", "execution_texts": "execution_id", "run_events": "execution_id"}
    found: list[Any] = []
    with studio.store.read() as db:
        for table, column in {**tables, "events": "execution_id"}.items():
            marks = ", ".join("?" * len(execution_ids))
            query = f"select * from {table} where {column} in ({marks}) order by rowid"
            found += [tuple(row) for row in db.execute(query, execution_ids)]
    return found


def worker_row(studio: Studio) -> Any:
    with studio.store.read() as db:
        return db.execute("select * from workers").fetchone()


def change_worker(studio: Studio, **fields: Any) -> None:
    with studio.store.write() as db:
        for name, value in fields.items():
            db.execute(f"update workers set {name} = ?", [value])
        if "heartbeat_at" in fields:
            beat_seconds = datetime.fromisoformat(fields["heartbeat_at"]).timestamp()
            for row in db.execute("select lock_path from workers"):
                os.utime(row["lock_path"], (beat_seconds, beat_seconds))


LONG_AGO = "2020-01-01T00:00:00.000000Z"


def test_the_runs_of_a_process_that_stands_still_are_failed_with_what_they_had(
    studio: Studio, server: ModelServer, impatient: None
):
    with python(GOING_ON, str(studio.home), env=settings_for(server)) as process:
        running, queued = line_of(process).split()
        tokens = [studio.executions.table.get(run).claim_token for run in (running, queued)]
        process.send_signal(signal.SIGSTOP)
        assert sorted(wait_until(lambda: recover(studio.store))) == sorted([running, queued])
        run, waiting = studio.executions.get(running), studio.executions.get(queued)
        assert (run.status, run.error_kind) == ("failed", "interrupted")
        assert run.output_data == "I look.\n\nThen I write "
        assert [step.output for step in run.tool_steps] == ["hello"]
        assert (waiting.status, waiting.error_kind, waiting.output_data) == ("failed", "interrupted", None)
        assert [r.claim_token for r in (run, waiting)] == [token + 1 for token in tokens]


def test_a_process_that_goes_on_after_it_was_given_up_leaves_those_runs_alone_and_works(
    studio: Studio, server: ModelServer, impatient: None
):
    with python(GOING_ON, str(studio.home), env=settings_for(server)) as process:
        ids = line_of(process).split()
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: recover(studio.store))
        before, log = rows_of(studio, *ids), (studio.home / "logs" / f"{ids[0]}.jsonl").read_text()
        process.send_signal(signal.SIGCONT)
        assert line_of(process) == "interrupted interrupted"
        # the model still holds its answer open: it is this end that hangs up
        assert server.requests[-1].left.wait(10)
        assert len(server.requests) == 2  # the queued run never asked
        assert [asked(process) for _ in range(2)] == ["completed", "completed"]
        wait_until(lambda: worker_row(studio)["stopped_at"] is None)
        assert recover(studio.store) == []
        assert (rows_of(studio, *ids), (studio.home / "logs" / f"{ids[0]}.jsonl").read_text()) == (
            before,
            log,
        )


def test_an_answer_that_arrives_after_the_stop_is_written_nowhere(home: Path, impatient: None):
    flood = Turn.text("Then I write on and on. " * 2_000, chunk=24, delay_seconds=0.005)
    with ModelServer([flood]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with python(GOING_ON, str(home), env=settings_for(server)) as process:
            ids = line_of(process).split()
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: recover(studio.store))
            before = rows_of(studio, *ids)
            process.send_signal(signal.SIGCONT)
            assert line_of(process) == "interrupted interrupted"
            assert server.requests[0].left.wait(10)
            assert asked(process) == "completed"
            assert rows_of(studio, *ids) == before


def test_a_process_that_stands_still_twice_is_given_up_twice(
    studio: Studio, server: ModelServer, impatient: None
):
    code = GOING_ON + '        print(studio.start("watcher").id, flush=True)\n'
    with python(code, str(studio.home), env=settings_for(server)) as process:
        line_of(process)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: recover(studio.store))
        process.send_signal(signal.SIGCONT)
        line_of(process)
        assert asked(process) == "completed"
        again = line_of(process)
        wait_until(lambda: studio.executions.get(again).status == "running")
        process.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: recover(studio.store)) == [again]


def test_after_a_computer_slept_every_heartbeat_is_old_and_nobody_is_dead(
    studio: Studio, server: ModelServer
):
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        running, _queued = line_of(process).split()
        change_worker(studio, heartbeat_at=LONG_AGO)
        assert recover(studio.store) == []
        assert studio.executions.get(running).status == "running"


@pytest.mark.parametrize("other", ["host", "process"])
def test_a_stopped_process_of_another_host_or_with_a_reused_number_proves_nothing(
    studio: Studio, server: ModelServer, other: str
):
    with python(RUN, str(studio.home), env=settings_for(server)) as process, python("input()") as stranger:
        line_of(process)
        stranger.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: all("(stopped)" in status_of(each.pid) for each in (process, stranger)))
        if other == "host":
            change_worker(studio, host="elsewhere", heartbeat_at=LONG_AGO)
        else:
            change_worker(studio, pid=stranger.pid, started_at=LONG_AGO, heartbeat_at=LONG_AGO)
        assert recover(studio.store) == []
        change_worker(studio, host=socket.gethostname(), pid=process.pid, started_at=rfc3339(now()))
        assert len(recover(studio.store)) == 2


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def test_a_system_without_proc_asks_ps(
    studio: Studio, server: ModelServer, impatient: None, monkeypatch: pytest.MonkeyPatch
):
    if shutil.which("ps") is None:
        pytest.skip("there is no ps")
    monkeypatch.setattr("personas_nb.worker.PROC", Path("/nowhere"))
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        line_of(process)
        change_worker(studio, heartbeat_at=LONG_AGO)
        assert recover(studio.store) == []
        process.send_signal(signal.SIGSTOP)
        assert len(wait_until(lambda: recover(studio.store))) == 2


def test_a_run_of_this_process_is_not_declared_dead(studio: Studio):
    handle = studio.start("watcher")
    wait_until(lambda: studio.executions.get(handle.id).status == "running")
    assert recover(studio.store) == []
    handle.cancel()


# --- a full disk ----------------------------------------------------------------------------------------


def full(studio: Studio, spare_pages: int) -> None:
    """No page more than these for the database, as on a full disk; 0 lifts the limit."""
    with studio.store.write() as db:
        used = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {used + spare_pages if spare_pages else 2**30}")


def test_a_full_disk_while_streaming_fails_the_run_and_what_was_stored_stays_readable(home: Path):
    turn = Turn.text("Many words that fill the disk. " * 40_000, chunk=4_000, delay_seconds=0.01)
    with ModelServer([turn, Turn.text("Again.")]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        wait_until(lambda: studio.executions.recorded(handle.id))
        full(studio, 8)
        with pytest.raises(StoreError, match="Free some space"):
            handle.wait(30)
        assert studio.executions.recorded(handle.id)
        full(studio, 0)
        run = wait_until(lambda: (found := studio.executions.get(handle.id)).is_finished and found)
        assert (run.status, run.error_kind) == ("failed", "store_error")
        assert "Free some space" in run.error
        assert run.output_data.startswith("Many words")
        assert server.requests[0].left.is_set()
        assert studio.run("watcher").output_data == "Again."


def test_a_run_that_cannot_be_queued_says_so_and_leaves_nothing(home: Path):
    with studio_at(home) as studio:
        persona_of(studio)
        studio.run("watcher")
        full(studio, 1)
        with pytest.raises(StoreError, match="Free some space"):
            studio.run("watcher", "x" * 1_000_000)
        full(studio, 0)
        assert len(studio.executions.list()) == 1


def test_a_disk_that_really_runs_full_fails_the_run_and_is_used_again_when_there_is_space(home: Path):
    turn = Turn.text("Many words that fill the disk. " * 40_000, chunk=4_000, delay_seconds=0.01)
    again = Turn.text("Again.")
    with small_disk(home) as disk, ModelServer([turn, again]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        handle = studio.start("watcher")
        wait_until(lambda: studio.executions.recorded(handle.id))
        disk.fill()
        with pytest.raises(StoreError, match="Free some space") as caught:
            handle.wait(30)
        assert str(home) in str(caught.value)
        kept = [event.text for _s, _a, event in studio.executions.recorded(handle.id) if event.type == "text"]
        assert kept
        assert server.requests[0].left.wait(5)
        with pytest.raises(StoreError, match="Free some space"):
            studio.run("watcher", "x" * 1_000_000)
        disk.free()
        run = wait_until(lambda: (found := studio.executions.get(handle.id)).is_finished and found)
        assert (run.status, run.error_kind) == ("failed", "store_error")
        assert run.output_data.startswith("".join(kept))
        assert studio.run("watcher").output_data == "Again."
        assert studio.store.check() == "ok"


def test_a_process_that_is_killed_on_a_full_disk_leaves_a_store_that_can_be_used(home: Path):
    turn = Turn.text("Many words that fill the disk. " * 40_000, chunk=4_000, delay_seconds=0.01)
    code = """
        import sys
        from personas_nb import Studio
        studio = Studio(sys.argv[1])
        print(studio.start("watcher").id, flush=True)
        input()
    """
    with small_disk(home) as disk, ModelServer([turn]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        with python(code, str(home), env=settings_for(server)) as process:
            execution_id = line_of(process)
            wait_until(lambda: studio.executions.recorded(execution_id))
            disk.fill()
            assert server.requests[0].left.wait(30)  # it found out
            process.kill()
            process.wait()
        assert studio.executions.get(execution_id).status == "running"  # nobody can write its end yet
        disk.free()
        run = studio.executions.get(execution_id)
        assert (run.status, run.error_kind) == ("failed", "interrupted")
        assert run.output_data.startswith("Many words")
        assert studio.store.check() == "ok"


def test_a_log_that_finds_no_space_is_a_warning_and_the_run_goes_on(home: Path):
    turn = Turn.text("Many words. " * 2_000, chunk=600, delay_seconds=0.01)
    with small_disk(home / "logs") as disk, ModelServer([turn]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        disk.fill()
        run = studio.run("watcher")
        assert (run.status, run.output_data) == ("completed", "Many words. " * 2_000)
        assert run.warnings == ("The log could not be written: No space left on device.",)
        disk.free()
        again = studio.run("watcher", provider="rehearsal")
        assert Path(again.log_file_path or "").stat().st_size > 0


# --- a kernel -------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(server: ModelServer, monkeypatch: pytest.MonkeyPatch, studio: Studio) -> Iterator[Any]:
    """A real kernel with a Studio of the home open in it, beside the test's own."""
    manager_of = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
    root = Path(__file__).resolve().parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'tests'}")
    manager = manager_of.KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        client.execute_interactive(
            f"from personas_nb import Studio\nstudio = Studio({str(studio.home)!r})", timeout=60
        )
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def begun(studio: Studio) -> str:
    def found() -> str | None:
        runs = studio.executions.list(limit=1)
        events = studio.executions.recorded(runs[0].id) if runs else []
        return runs[0].id if any("Then I" in getattr(event, "text", "") for _s, _a, event in events) else None

    return str(wait_until(found))


def test_a_kernel_killed_in_the_middle_leaves_a_run_that_says_so(kernel: Any, studio: Studio):
    manager, client = kernel
    client.execute("studio.run('watcher')")
    execution_id = begun(studio)
    manager.signal_kernel(signal.SIGKILL)
    wait_until(lambda: recover(studio.store))
    run = studio.executions.get(execution_id)
    assert (run.status, run.error_kind, run.output_data) == (
        "failed",
        "interrupted",
        "I look.\n\nThen I write ",
    )


def test_interrupting_a_kernel_cancels_the_run_and_raises_cancelled(kernel: Any, studio: Studio):
    manager, client = kernel
    message = client.execute("studio.run('watcher')")
    execution_id = begun(studio)
    manager.interrupt_kernel()
    reply = wait_until(lambda: client.get_shell_msg(timeout=20))
    while reply["parent_header"]["msg_id"] != message:
        reply = client.get_shell_msg(timeout=20)
    assert reply["content"]["ename"] == "Cancelled"
    assert "runs show" in reply["content"]["evalue"]
    run = studio.executions.get(execution_id)
    assert (run.status, run.output_data) == ("cancelled", "I look.\n\nThen I write ")
    code = "assert studio.run('watcher', provider='rehearsal').status == 'completed'"
    # what comes in right behind an error the kernel turns away
    wait_until(lambda: client.execute_interactive(code, timeout=30)["content"]["status"] == "ok")


def test_shutting_a_kernel_down_ends_its_run_within_jupyters_five_seconds(kernel: Any, studio: Studio):
    manager, client = kernel
    client.execute("studio.start('watcher')")
    execution_id = begun(studio)
    started = time.monotonic()
    manager.shutdown_kernel()
    assert time.monotonic() - started < 5
    run = wait_until(lambda: (found := studio.executions.get(execution_id)).is_finished and found)
    assert (run.error_kind, run.output_data) == ("interrupted", "I look.\n\nThen I write ")


def test_the_key_is_in_nothing_that_a_killed_run_left(studio: Studio, server: ModelServer):
    with python(RUN, str(studio.home), env=settings_for(server)) as process:
        line_of(process)
        process.kill()
        process.wait()
    recover(studio.store)
    with sqlite3.connect(studio.store.path) as db:
        assert KEY not in "\n".join(db.iterdump())
