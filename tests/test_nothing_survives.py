"""After a run of the Claude CLI nothing of it is left, however the run or its process ended.

Each time a shell tool of the CLI is in the middle of ``sleep 600``, in a session of its own, where killing the
CLI's process group would not reach it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.kernels import Kernel
from support.model_server import ModelServer, Turn
from support.studios import persona_of, settings_for, studio_at, wait_until

from personas_nb import Studio

GONE_SECONDS = 5.0
_numbers = itertools.count(int(time.time()) % 1_000_000 * 100)


class Sleeper:
    """A script whose shell command goes on for ten minutes, and what is left of it."""

    def __init__(self) -> None:
        self.mark = f"600.{os.getpid()}{next(_numbers)}"  # seconds to sleep that nobody else sleeps
        command = (
            f"setsid sleep {self.mark} & nohup setsid sh -c 'sleep {self.mark}; true' & sleep {self.mark}"
        )
        self.turn = Turn.tools(("Bash", {"command": command, "description": "wait", "timeout": 600_000}))

    def processes(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if self.mark in " ".join(process.info["cmdline"] or ())
        ]

    def wait_for_all(self) -> None:
        wait_until(lambda: len([p for p in self.processes() if _name(p) == "sleep"]) == 3, 60)

    def assert_gone(self) -> None:
        wait_until(lambda: not self.processes(), GONE_SECONDS)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def assert_no_cli_of(home: Path) -> None:
    """Neither the CLI nor its launcher, nor its folder."""

    def left() -> list[str]:
        lines = (" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
        return [line for line in lines if str(home) in line and "ipykernel" not in line]

    wait_until(lambda: not left(), GONE_SECONDS)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    made = Sleeper()
    yield made
    for process in made.processes():
        process.kill()


@pytest.fixture
def server(sleeper: Sleeper) -> Iterator[ModelServer]:
    with ModelServer([sleeper.turn, Turn.text("Done.")], repeat_last=True) as made:
        yield made


@pytest.fixture
def studio(home: Path, server: ModelServer) -> Iterator[Studio]:
    with studio_at(home, server, engine="claude") as opened:
        persona_of(opened, permissions="bypass")
        yield opened


def test_after_a_cancel(studio: Studio, sleeper: Sleeper):
    handle = studio.start("watcher")
    sleeper.wait_for_all()
    run = handle.cancel()
    assert run.status == "cancelled"
    sleeper.assert_gone()
    assert_no_cli_of(studio.home)
    assert not list((studio.home / "cli").glob("*/*"))


def test_after_a_timeout(studio: Studio, sleeper: Sleeper):
    handle = studio.start("watcher", timeout_ms=6_000)
    sleeper.wait_for_all()
    run = handle.wait()
    assert (run.status, run.error_kind) == ("failed", "timeout")
    sleeper.assert_gone()
    assert_no_cli_of(studio.home)


def test_after_the_run_has_ended_well(home: Path, sleeper: Sleeper):
    background = f"(setsid sleep {sleeper.mark} >/dev/null 2>&1 &) ; echo started"
    turns = [Turn.tools(("Bash", {"command": background, "description": "start"})), Turn.text("Started.")]
    with ModelServer(turns) as server, studio_at(home, server, engine="claude") as studio:
        persona_of(studio, permissions="bypass")
        run = studio.run("watcher")
        assert (run.status, run.output_data) == ("completed", "Started.")
        assert "started" in run.tool_steps[0].output
        sleeper.assert_gone()


def test_after_the_studio_was_closed(home: Path, sleeper: Sleeper, server: ModelServer):
    with studio_at(home, server, engine="claude") as studio:
        persona_of(studio, permissions="bypass")
        handle = studio.start("watcher")
        sleeper.wait_for_all()
    sleeper.assert_gone()
    with studio_at(home, server) as studio:
        assert studio.executions.get(handle.id).error_kind == "interrupted"


def test_after_the_task_that_awaits_the_run_was_cancelled(studio: Studio, sleeper: Sleeper):
    async def begin_and_leave() -> None:
        task = asyncio.create_task(studio.arun("watcher"))
        await asyncio.to_thread(sleeper.wait_for_all)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(begin_and_leave())
    sleeper.assert_gone()


# --- with a kernel ----------------------------------------------------------------------------------------

START = "from personas_nb import Studio; studio = Studio({home!r}); handle = studio.start('watcher')"


@pytest.fixture
def kernel(
    home: Path, server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: Sleeper
) -> Iterator[Any]:
    with studio_at(home, server) as opened:
        persona_of(opened, permissions="bypass")
    for name, value in settings_for(server, engine="claude").items():
        monkeypatch.setenv(name, value)
    with Kernel(tmp_path) as running:
        running.run(START.format(home=str(home)))
        sleeper.wait_for_all()
        yield running


def test_interrupting_an_unrelated_cell_leaves_the_run_alone_and_nothing_after_it(
    kernel: Any, sleeper: Sleeper
):
    kernel.run("import time; print('on'); time.sleep(60)", interrupt_when="on")
    time.sleep(1.0)  # what the signal reached would be gone by now
    assert len([p for p in sleeper.processes() if _name(p) == "sleep"]) == 3
    assert kernel.value("studio.executions.get(handle.id).status") == "'running'"
    assert kernel.value("handle.cancel().status") == "'cancelled'"
    sleeper.assert_gone()


def test_after_a_kernel_restart(kernel: Any, sleeper: Sleeper, home: Path):
    kernel.manager.restart_kernel()
    sleeper.assert_gone()
    assert_no_cli_of(home)


def test_after_kill_9_of_the_kernel(kernel: Any, sleeper: Sleeper, home: Path, server: ModelServer):
    os.kill(kernel.pid, signal.SIGKILL)
    sleeper.assert_gone()
    assert_no_cli_of(home)
    with studio_at(home, server, engine="claude") as studio:
        (run,) = studio.executions.list()
        assert (run.status, run.error_kind) == ("failed", "interrupted")
        turns = studio.run("watcher", "again")  # the next process clears what the dead one left
        assert turns.status == "completed"
        assert not list((home / "cli").glob("*/*"))
