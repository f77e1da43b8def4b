"""What is too large, too much, broken or gone: the run ends in order, and nothing that was stored is lost."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.disks import unwritable
from support.model_server import Request, Turn
from support.studios import wait_until, workspace
from test_direct import ENGINES, Bench, messages

from personas_nb.entities.execution import Execution
from personas_nb.tools.builtin import BUILTIN
from personas_nb.tools.gateway import CALLS_AT_ONCE

HUGE = 10_000_000
RICH = {"max_budget_usd": 10_000.0}  # what is sent back to the model would be over the usual budget


@pytest.fixture(params=ENGINES, ids=lambda engine: f"{engine.name}-{engine.api}")
def bench(request: pytest.FixtureRequest, home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(request.param, home, stack)


def logged(run: Execution) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run.log_file_path or "").read_text().splitlines()]


# --- too large ------------------------------------------------------------------------------------------


def huge_message() -> dict[str, Any]:
    return {"title": "Huge", "content": "x" * HUGE}


def test_a_protocol_object_of_ten_megabytes_stays_text_with_a_warning(bench: Bench):
    text = f"Before.\n{json.dumps({'user_message': huge_message()})}\nAfter."
    run = bench.run([Turn.text(text, chunk=200_000)])
    assert (run.status, run.error) == ("completed", None)
    assert messages(bench) == []
    assert any("is larger than 262144 bytes and stays text" in warning for warning in run.warnings)
    assert run.output_data == text[: 2**20]
    assert "".join(line["text"] for line in logged(run) if line["type"] == "text") == text


def test_a_protocol_call_of_ten_megabytes_writes_no_row_and_is_a_warning(bench: Bench):
    calls = [("user_message", huge_message()), ("user_message", {"title": "Hi", "content": "small"})]
    run = bench.run([Turn.tools(*calls, argument_chunk=200_000), Turn.text("Done.")], settings=RICH)
    assert (run.status, run.output_data, run.error) == ("completed", "Done.", None)
    assert messages(bench) == ["Hi"]
    assert any("user_message is larger than" in warning for warning in run.warnings)


def test_arguments_of_ten_megabytes_are_recorded_cut(bench: Bench):
    calls = [("file_write", {"path": "a.txt", "content": "x" * HUGE})]
    run = bench.run(
        [Turn.tools(*calls, argument_chunk=200_000), Turn.text("Done.")], "file_write", settings=RICH
    )
    (step,) = run.tool_steps
    assert run.status == "completed"
    assert "is over the limit of 5,242,880 bytes" in (step.error or "")
    assert len(step.input["content"]) < 20_100
    assert bench.studio.store.path.stat().st_size < HUGE


# --- too many -------------------------------------------------------------------------------------------


def replaced(monkeypatch: pytest.MonkeyPatch, perform: Callable[..., Any]) -> None:
    monkeypatch.setitem(BUILTIN, "builtin://file_read", perform)


def asking(count: int) -> Turn:
    return Turn.tools(*(("file_read", {"path": f"{n}.txt"}) for n in range(count)))


def test_a_thousand_tool_calls_in_one_answer_are_all_made_and_recorded_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    count = 100 if bench.engine.name == "claude" else 1_000  # the CLI's own work grows with their square
    threads = []

    def perform(_place: Any, arguments: dict[str, Any]) -> str:
        threads.append(sum(thread.name == "personas-call" for thread in threading.enumerate()))
        return f"read {arguments['path']}"

    replaced(monkeypatch, perform)
    run = bench.run([asking(count), Turn.text("All read.")], "file_read", settings=RICH)
    assert (run.status, run.output_data, run.tool_calls) == ("completed", "All read.", count)
    assert [(step.input["path"], step.output) for step in run.tool_steps] == [
        (f"{n}.txt", f"read {n}.txt") for n in range(count)
    ]
    assert all(bench.server.requests[1].mentions(f"read {n}.txt") for n in (0, count // 2, count - 1))
    events = [event.type for _seq, _at, event in bench.studio.executions.recorded(run.id)]
    assert (events.count("tool_started"), events.count("tool_finished")) == (count, count)
    assert max(threads) <= CALLS_AT_ONCE + 8  # the worker's timers and the run itself use some too


def test_a_cancel_while_most_of_a_thousand_calls_wait_ends_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    go, begun = threading.Event(), []

    def perform(_place: Any, arguments: dict[str, Any]) -> str:
        begun.append(arguments["path"])
        go.wait(30)
        return "late"

    replaced(monkeypatch, perform)
    studio = bench.start([asking(1_000), Turn.text("All read.")], "file_read", settings=RICH)
    handle = studio.start("watcher")
    try:
        wait_until(lambda: begun)
        run = handle.cancel()
        assert (run.status, run.tool_steps) == ("cancelled", ())
        assert len(begun) <= CALLS_AT_ONCE
    finally:
        go.set()
    assert len(begun) <= CALLS_AT_ONCE
    assert len(bench.server.requests) == 1


# --- unreadable -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (b"caf\xe9 \xff\xfe", "bytes that are not UTF-8 text"),
        ("half \ud83d and \0 nothing", "half ? and ␀ nothing"),
        ({"name": "\udcff.csv"}, '{"name":"?.csv"}'),
    ],
    ids=["bytes", "text", "object"],
)
def test_tool_output_that_is_no_text_is_stored_and_told_readably(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, output: Any, shown: str
):
    replaced(monkeypatch, lambda _place, _arguments: output)
    run = bench.run([Turn.tools(("file_read", {"path": "a"})), Turn.text("Done.")], "file_read")
    assert run.status == "completed"
    assert shown in run.tool_steps[0].output
    assert bench.server.requests[1].mentions(shown)
    assert shown in json.dumps(logged(run), ensure_ascii=False).replace('\\"', '"')


def test_a_file_that_is_not_utf8_is_read_with_signs_for_what_cannot_be(bench: Bench):
    studio = bench.start([Turn.tools(("file_read", {"path": "a.txt"})), Turn.text("Done.")], "file_read")
    (workspace(studio, bench.persona) / "a.txt").write_bytes(b"caf\xe9\0!")
    (step,) = studio.run("watcher").tool_steps
    assert step.output.endswith("caf�␀!")
    assert "not UTF-8" in step.output


# --- gone -----------------------------------------------------------------------------------------------

WRITE = Turn.tools(("file_write", {"path": "notes/a.txt", "content": "hello"}))


def test_a_workspace_that_is_removed_while_a_persona_runs_is_made_again(bench: Bench):
    folders: list[Path] = []

    def script(_request: Request, n: int) -> Turn:
        if n == 1:
            shutil.rmtree(folders[0])
        return WRITE if n < 2 else Turn.text("Done.")

    studio = bench.start(script, "file_write")
    folders.append(workspace(studio, bench.persona))
    run = studio.run("watcher")
    assert (run.status, [step.error for step in run.tool_steps]) == ("completed", [None, None])
    assert (folders[0] / "notes" / "a.txt").read_text() == "hello"


def test_a_workspace_that_is_removed_between_runs_is_made_again(bench: Bench):
    studio = bench.start(lambda _request, n: (WRITE, Turn.text("Done."))[n % 2], "file_write")
    folder = workspace(studio, bench.persona)
    assert studio.run("watcher").tool_steps[0].error is None
    shutil.rmtree(folder)
    assert studio.run("watcher").tool_steps[0].error is None
    assert (folder / "notes" / "a.txt").read_text() == "hello"


def test_a_workspace_that_cannot_be_written_is_said_and_the_next_run_works(bench: Bench):
    studio = bench.start(
        [WRITE, Turn.text("The disk did not take it."), WRITE, Turn.text("Done.")], "file_write"
    )
    folder = workspace(studio, bench.persona)
    with unwritable(folder):
        run = studio.run("watcher")
        assert list(folder.iterdir()) == []
    if bench.engine.name == "claude":  # the CLI works in the folder, so that it does not even begin
        assert (run.status, bench.server.requests) == ("failed", [])
        assert str(folder) in (run.error or "")
    else:
        assert run.status == "completed"
        assert (run.tool_steps[0].error or "").startswith("“notes/a.txt” cannot be used: ")
        assert bench.server.requests[1].mentions("cannot be used")
    assert studio.run("watcher").tool_steps[0].error is None
    assert (folder / "notes" / "a.txt").read_text() == "hello"


def test_a_file_where_the_workspace_should_be_is_a_sentence_for_the_model(bench: Bench):
    studio = bench.start([WRITE, Turn.text("There is no folder.")], "file_write")
    folder = workspace(studio, bench.persona)
    folder.rmdir()
    folder.write_text("in the way")
    run = studio.run("watcher")
    assert run.is_finished
    assert all(step.error for step in run.tool_steps)
    assert folder.read_text() == "in the way"
