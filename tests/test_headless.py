"""``personas triggers run``: a real process that fires without a notebook, hands over, and ends when it is told."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.model_server import ModelServer, Turn
from support.studios import settings_for, wait_until

from personas_nb import Studio
from personas_nb.verbs import headless as headless_verb

COMMAND = [sys.executable, "-m", "personas_nb", "triggers", "run"]
SECONDS = 60.0


class Headless:
    """The process, and its lines as they come."""

    def __init__(self, *words: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, words: str) -> str:
        """The next line that has these words."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                line = self._new.get(timeout=0.1)
            except queue.Empty:
                assert self.process.poll() is None, "\n".join(self.lines)
                continue
            if words in line:
                return line
        raise AssertionError(f"“{words}” was not said:\n" + "\n".join(self.lines))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())


@pytest.fixture
def headless() -> Iterator[Callable[..., Headless]]:
    """Starts such a process; killed at the end if it still runs."""
    started: list[Headless] = []

    def start(*words: str, env: dict[str, str] | None = None) -> Headless:
        started.append(Headless(*words, env=env))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait(SECONDS)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as opened:
        opened.personas.create(name="Clerk", system_prompt="You watch.")
        yield opened


def test_it_fires_says_each_fire_in_a_line_and_ends_at_sigterm(headless: Any, studio: Studio) -> None:
    trigger = studio.triggers.add("clerk", "polling", {"interval_seconds": 1})
    process = headless()
    assert "1 trigger on" in process.until("on in")
    process.until("firing: this headless process")
    fired = process.until(f"✓ clerk polling {trigger.id[:8]}: run ")
    process.until("completed in")
    status = studio.triggers.status()
    assert (status.kind, status.pid, status.is_here) == ("headless", process.process.pid, False)
    assert process.end() == 0
    wait_until(lambda: "ended: " in process.lines[-1])
    assert not studio.triggers.status().is_running
    fires = studio.triggers.fires(trigger, status="queued")
    assert any(fire.execution_id and fire.execution_id[:8] in fired for fire in fires)
    said = sum(f"{trigger.id[:8]}: run" in line for line in process.lines)
    assert said == len(fires)  # every fire has its line, also the last one
    assert all(studio.executions.get(fire.execution_id).status == "completed" for fire in fires)


def test_it_stands_by_and_takes_over_at_once(headless: Any, studio: Studio) -> None:
    studio.triggers.add("clerk", "polling", {"interval_seconds": 1})
    studio.triggers.start("kernel")
    process = headless()
    process.until("standing by: a kernel")
    studio.triggers.stop()
    process.until("firing: this headless process")
    wait_until(lambda: studio.triggers.status().kind == "headless")
    process.until("polling")
    assert process.end(signal.SIGINT) == 0


def test_a_pause_and_a_skip_are_said(headless: Any, studio: Studio) -> None:
    process = headless()
    process.until("firing")
    studio.triggers.pause_all("lunch")
    process.until("○ paused")
    studio.triggers.add("clerk", "polling", {"interval_seconds": 1})
    assert "lunch" in process.until("skipped")
    studio.triggers.resume_all()
    process.until("resumed")
    process.until(": run ")


def test_events_are_delivered_too(headless: Any, studio: Studio) -> None:
    studio.events.subscribe("clerk", "order_found")
    process = headless()
    process.until("firing")
    event = studio.events.publish("order_found")
    process.until(f"Clerk run {wait_until(lambda: studio.executions.list('clerk'))[0].id[:8]}")
    assert studio.events.deliveries(event)[0].status == "started"


def test_what_runs_may_end_before_it_does(headless: Any, studio: Studio) -> None:
    answer = Turn.text("All is well, and this takes a while.", chunk=2, delay_seconds=0.15)
    with ModelServer(lambda _request, _n: answer) as server:
        studio.triggers.add("clerk", "polling", {"interval_seconds": 600, "catch_up": "skip"})
        process = headless("--grace", "60s", env=settings_for(server))
        process.until("firing")
        studio.events.subscribe("clerk", "go")
        studio.events.publish("go")
        wait_until(lambda: studio.executions.list(status="running"))
        assert process.end() == 0
        process.until("waiting for 1 run")
        assert studio.executions.list()[0].status == "completed"


def test_a_second_signal_ends_it_and_its_runs_at_once(headless: Any, studio: Studio) -> None:
    with ModelServer([Turn.text("Beginning", chunk=3).hang_after(1)]) as server:
        process = headless("--grace", "10m", env=settings_for(server))
        process.until("firing")
        studio.events.subscribe("clerk", "go")
        studio.events.publish("go")
        wait_until(lambda: studio.executions.list(status="running"))
        process.process.send_signal(signal.SIGTERM)
        process.until("waiting for 1 run")
        assert process.end() == 130
    wait_until(lambda: studio.executions.list()[0].is_finished)
    assert studio.executions.list()[0].status in ("cancelled", "failed")


def test_a_reader_that_has_seen_enough_ends_it_and_the_triggers_are_free(studio: Studio) -> None:
    studio.triggers.add("clerk", "polling", {"interval_seconds": 1})
    shell = f"{' '.join(COMMAND)} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not studio.triggers.status().is_running


def test_a_home_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAS_HOME", "/proc/nowhere")
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


def test_more_fires_at_once_than_a_page_are_all_said(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless_verb, "PAGE", 3)
    log = headless_verb._Log(studio, "UTC")
    trigger = studio.triggers.add("clerk", "manual", {})
    runs = [studio.triggers.fire(trigger, str(number)).execution_id for number in range(8)]
    for run in runs:
        studio.executions.handle(run or "").wait()
    said = list(log.lines())
    assert sum("✓ clerk" in line for line in said) == 8
    assert sum("completed in" in line for line in said) == 8
    assert list(log.lines()) == []
    assert log.account() == "8 started, 8 done"


def test_a_run_that_ends_after_many_others_is_said(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless_verb, "PAGE", 1)
    log = headless_verb._Log(studio, "UTC")
    first, _second = studio.run("clerk", "first"), studio.run("clerk", "second")
    studio.executions.table.update(first.id, status="running")
    assert sum("completed" in line for line in log.lines()) == 1
    studio.executions.table.update(first.id, status="completed")
    (said,) = (line for line in log.lines() if "completed" in line)
    assert first.id[:8] in said


def test_a_signal_that_comes_while_a_line_is_said_ends_the_sleep_that_follows() -> None:
    with headless_verb._Signals() as signals:
        signal.raise_signal(signal.SIGTERM)
        began = time.monotonic()
        signals.sleep(SECONDS, until_woken=True)
        assert time.monotonic() - began < SECONDS / 2
        assert signals.count == 1


def test_a_sleep_is_ended_by_a_change_only_where_it_shall_be() -> None:
    with headless_verb._Signals() as signals:
        signals.wake()
        began = time.monotonic()
        signals.sleep(0.3)
        assert time.monotonic() - began >= 0.3
        signals.wake()
        signals.sleep(SECONDS, until_woken=True)
        assert time.monotonic() - began < SECONDS / 2
