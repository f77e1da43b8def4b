"""What becomes of a run whose process dies, stops or finds the disk full."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Turn
from support.studios import KEY, line_of, persona_of, python, settings_for, studio_at, wait_until, workspace

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
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
