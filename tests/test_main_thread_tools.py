"""Functions that need the kernel's main thread: done by the cell that waits, refused where none does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernels import Kernel
from support.model_server import ModelServer, Turn
from support.studios import persona_of, settings_for, studio_at, wait_until

from personas_nb import Studio
from personas_nb.errors import InvalidInput
from personas_nb.tools.functions import function_tool
from personas_nb.tools.main_thread import attended

SETUP = """
%load_ext personas_nb
from personas_nb import Studio
studio = Studio()
studio.personas.create("Painter", system_prompt="Paint.")
import threading
calls = []
def paint(colour: str) -> str:
    "Paint something."
    calls.append((colour, threading.current_thread() is threading.main_thread()))
    return f"painted {colour}"
"""
CALL = Turn.tools(("paint", {"colour": "red"}))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer([CALL, Turn.text("Done.")] * 8) as server:
        yield server


@pytest.fixture
def kernel(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    for name, value in settings_for(server).items():
        monkeypatch.setenv(name, value)
    with Kernel(tmp_path) as kernel:
        errors = [m for m in kernel.run(SETUP) if m["msg_type"] == "error"]
        assert errors == []
        kernel.run("%persona tools add paint --main-thread")
        kernel.run("%persona tools assign painter paint")
        yield kernel


def step(kernel: Kernel) -> str:
    return kernel.value("(lambda s: (s.output, s.error))(studio.executions.get('latest').tool_steps[0])")


@pytest.mark.parametrize(
    "cell",
    [
        "%persona run painter",
        "studio.run('painter')",
        "await studio.arun('painter')",
        "studio.start('painter').wait()",
    ],
)
def test_the_cell_that_waits_does_the_call(kernel: Kernel, cell: str):
    errors = [message for message in kernel.run(cell) if message["msg_type"] == "error"]
    assert errors == []
    assert kernel.value("calls") == "[('red', True)]"
    assert step(kernel) == "('painted red', None)"


def test_what_it_shows_is_in_the_cell(kernel: Kernel):
    kernel.run(
        "def paint(colour: str):\n    from IPython.display import display\n    display('a picture of ' + colour)"
    )
    kernel.run("%persona tools add paint --main-thread")
    shown = [str(message["content"]) for message in kernel.run("%persona run painter")]
    assert any("a picture of red" in content for content in shown)


def test_in_the_background_it_is_refused_with_a_sentence(kernel: Kernel):
    kernel.run("%persona run painter --background")
    kernel.run("import time\nwhile not studio.executions.get('latest').is_finished: time.sleep(0.05)")
    assert "no cell waits for this run" in step(kernel)
    assert kernel.value("calls") == "[]"


def test_an_interrupt_of_the_call_cancels_the_run(kernel: Kernel):
    kernel.run(
        "def paint(colour: str):\n    import time\n    print('brush in hand', flush=True)\n    time.sleep(60)\n"
        "    calls.append('too late')"
    )
    kernel.run("%persona tools add paint --main-thread")
    messages = kernel.run("%persona run painter", interrupt_when="brush in hand")
    (error,) = [message["content"] for message in messages if message["msg_type"] == "error"]
    assert error["ename"] == "Cancelled"
    assert kernel.value("studio.executions.get('latest').status, calls") == "('cancelled', [])"


# --- without a kernel -------------------------------------------------------------------------------------


def main_thread_of(studio: Studio) -> list[bool]:
    seen: list[bool] = []

    def paint(colour: str) -> str:
        seen.append(threading.current_thread() is threading.main_thread())
        return colour

    studio.tools.add(paint, main_thread=True)
    persona_of(studio, "paint")
    return seen


def test_a_script_that_waits_does_the_call_too(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        seen = main_thread_of(studio)
        run = studio.run("watcher")
    assert (seen, run.tool_steps[0].output) == ([True], "red")


def test_a_thread_that_waits_is_not_the_main_one(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        seen = main_thread_of(studio)
        ended = []
        thread = threading.Thread(target=lambda: ended.append(studio.run("watcher")))
        thread.start()
        thread.join(60)
    assert seen == []
    assert "no cell waits for this run" in (ended[0].tool_steps[0].error or "")


def test_a_call_that_waited_longer_than_its_time_is_not_done_later(home: Path, server: ModelServer):
    with studio_at(home, server) as studio:
        seen = main_thread_of(studio)
        paint = studio.tools.add(
            lambda colour: seen.append(True), name="paint", main_thread=True, timeout_ms=100
        )
        assert paint is not None
        handle = studio.start("watcher")
        with attended(handle.id):  # a cell waits, and is busy with something else
            wait_until(lambda: handle.ended.done())
        run = handle.wait()
    assert "took longer than 0.1 s" in (run.tool_steps[0].error or "")
    assert seen == []


def test_a_coroutine_function_has_an_event_loop_and_no_thread():
    async def paint() -> None: ...

    with pytest.raises(InvalidInput, match="coroutine function, which runs on an event loop"):
        function_tool(paint, main_thread=True)
