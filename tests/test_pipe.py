"""The way out of a run: stored first, then logged and shown; over only when all of it is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from personas_nb import Studio
from personas_nb.engine.log import RunLog
from personas_nb.entities.run_event import StatusChanged


@pytest.fixture
def slow_log(monkeypatch: pytest.MonkeyPatch) -> None:
    append = RunLog.append

    def slowly(self: RunLog, lines: Iterable[str]) -> None:
        time.sleep(0.05)
        append(self, lines)

    monkeypatch.setattr(RunLog, "append", slowly)


@pytest.fixture
def studio(home: Path, slow_log: None) -> Iterable[Studio]:
    with Studio(home) as opened:
        opened.personas.create(name="Echo", system_prompt="Repeat the input.")
        yield opened


def test_the_log_is_whole_when_the_run_is_over(studio: Studio) -> None:
    run = studio.run("echo", "hello", provider="rehearsal")
    last = Path(run.log_file_path or "").read_text(encoding="utf-8").splitlines()[-1]
    assert (json.loads(last)["type"], json.loads(last)["status"]) == ("status", "completed")


def test_who_follows_a_run_sees_its_last_event(studio: Studio) -> None:
    handle = studio.start("echo", "hello", provider="rehearsal")
    events = [event for batch in handle.batches() for event in batch]
    assert isinstance(events[-1], StatusChanged)


def test_tool_steps_stand_in_the_order_in_which_they_were_asked_for(studio: Studio) -> None:
    studio.tools.assign("echo", "file_read", "file_write", "http_request")
    run = studio.run("echo", "hello", provider="rehearsal")
    assert [step.tool for step in run.tool_steps] == ["file_read", "file_write", "http_request"]


def test_nothing_is_logged_after_the_log_was_closed(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "abc")
    log.append(['{"type": "text"}'])
    log.close()
    log.append(['{"type": "late"}'])
    assert log.path.read_text(encoding="utf-8") == '{"type": "text"}\n'
