"""Before a tool acts outside, that it is about to is committed; what a crash leaves of that is told, never repeated."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Turn
from support.studios import line_of, persona_of, python, settings_for, studio_at, wait_until

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
from personas_nb.engine.intents import RunIntents
from personas_nb.entities.execution import Execution
from personas_nb.entities.tool import ToolDefinition, arguments_hash
from personas_nb.errors import Conflict
from personas_nb.settings import Settings
from personas_nb.tools.gateway import Gateway

CALL = Turn.tools(("deliver", {"what": "flowers"}))
DIE = """
    import os, sys, time
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    def deliver(what: str) -> str:
        '''Deliver something.'''
        print(handle.id, flush=True)
        time.sleep(60)
    studio.tools.add(deliver, name="deliver")
    handle = studio.start("watcher")
    handle.wait()
"""


@pytest.fixture(params=["direct", "claude"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer([CALL, Turn.text("Done.")], repeat_last=True) as started:
        yield started


@pytest.fixture
def studio(home: Path, server: ModelServer, engine: str) -> Iterator[Studio]:
    with studio_at(home, server, engine=engine) as opened:
        yield opened


def deliver(what: str) -> str:
    """Deliver something."""
    return f"delivered {what}"


def intents(studio: Studio) -> list[tuple[str, str]]:
    with studio.store.read() as db:
        return [(row["tool"], row["status"]) for row in db.execute("select * from intents order by rowid")]


def given(studio: Studio, function: Any = deliver, **options: Any) -> None:
    studio.tools.add(function, name="deliver", **options)
    persona_of(studio, "deliver")


def test_an_intent_is_committed_before_the_call_and_settled_after_it(studio: Studio):
    seen: list[list[tuple[str, str]]] = []

    def looking(what: str) -> str:
        """Look what is stored meanwhile."""
        seen.append(intents(studio))
        return what

    given(studio, looking)
    assert studio.run("watcher").status == "completed"
    assert seen == [[("deliver", "begun")]]
    wait_until(lambda: intents(studio) == [("deliver", "done")])


def test_a_call_that_fails_is_settled_as_failed(studio: Studio):
    def fails(what: str) -> str:
        """Fail."""
        raise OSError(what)

    given(studio, fails)
    assert studio.run("watcher").tool_steps[0].error
    wait_until(lambda: intents(studio) == [("deliver", "failed")])


def test_what_takes_too_long_is_uncertain(studio: Studio):
    going = threading.Event()

    def slow(what: str) -> str:
        """Take long."""
        going.wait(30)
        return what

    given(studio, slow, timeout_ms=200)
    try:
        assert "took longer" in studio.run("watcher").tool_steps[0].error
    finally:
        going.set()
    wait_until(lambda: intents(studio) == [("deliver", "uncertain")])


def test_what_changes_nothing_outside_leaves_no_intent(studio: Studio):
    given(studio, effect="none")
    assert studio.run("watcher").tool_steps[0].output == "delivered flowers"
    assert intents(studio) == []


def test_a_rehearsal_leaves_no_intent(studio: Studio):
    given(studio)
    assert studio.run("watcher", provider="rehearsal").status == "completed"
    assert intents(studio) == []


def test_a_run_killed_in_a_call_says_that_it_may_have_happened(
    studio: Studio, server: ModelServer, engine: str
):
    given(studio)
    with python(DIE, str(studio.home), env=settings_for(server, engine=engine)) as process:
        run_id = line_of(process)
        process.kill()
        process.wait()
    assert recover(studio.store) == [run_id]
    run = studio.executions.get(run_id)
    assert (run.status, run.error_kind) == ("failed", "interrupted")
    (step,) = run.tool_steps
    assert (step.tool, step.performed, step.uncertain) == ("deliver", True, True)
    assert step.error == "It may have happened: the run ended before its answer was stored."
    assert step.input in ({"what": "flowers"}, {})  # whether the moment before it was stored
    (warning,) = run.warnings
    assert warning.startswith("A call of deliver: It may have happened")
    assert intents(studio) == [("deliver", "uncertain")]


def test_a_run_that_is_cancelled_in_a_call_says_that_it_may_have_happened(studio: Studio):
    begun, going = threading.Event(), threading.Event()

    def slow(what: str) -> str:
        """Take long."""
        begun.set()
        going.wait(30)
        return what

    given(studio, slow)
    handle = studio.start("watcher")
    assert begun.wait(30)
    run = handle.cancel()
    going.set()
    assert run.status == "cancelled"
    assert [(step.tool, step.uncertain) for step in run.tool_steps] == [("deliver", True)]
    assert any("may have happened" in warning for warning in run.warnings)
    wait_until(lambda: intents(studio) == [("deliver", "uncertain")])


def test_what_was_intended_counts_as_an_act_for_healing(studio: Studio):
    given(studio)
    run = studio.run("watcher")
    bare = run.changed(tool_steps=())
    with studio.store.write() as db:
        db.execute("delete from run_events")
    assert studio.healing._acts(bare) == ["the tool deliver was called"]


def claimed(studio: Studio) -> tuple[Execution, Gateway, int]:
    persona = studio.personas.create(name="Bare", system_prompt="-")
    run = Execution(persona_id=persona.id, status="running", claim_token=3)
    studio.executions.table.insert(run)
    tool = ToolDefinition(name="deliver", script_path="test://deliver")

    async def perform(_place: Any, arguments: dict[str, Any]) -> str:
        return f"delivered {arguments}"

    gateway = Gateway(
        [tool],
        workspace=studio.home,
        settings=Settings(),
        implementations={"test://deliver": perform},
        intents=RunIntents(studio.worker, run.id, 3),
    )
    return run, gateway, 3


def test_whoever_lost_the_claim_does_nothing_outside(home: Path):
    with studio_at(home) as studio:
        run, gateway, _token = claimed(studio)
        with studio.store.write() as db:
            db.execute("update executions set claim_token = 4 where id = ?", [run.id])
        step = studio.worker.run(gateway.call("deliver", {}))
        assert not step.performed
        assert step.error.startswith("deliver was not called: The claim on run")
        assert intents(studio) == []


def test_a_settled_intent_stays_settled(home: Path):
    with studio_at(home) as studio:
        run, _gateway, token = claimed(studio)

        async def both() -> None:
            ours = RunIntents(studio.worker, run.id, token)
            intent = await ours.begin("deliver", "c1", arguments_hash({}))
            ours.settle(intent, "done")
            ours.settle(intent, "failed")
            await studio.worker.written(lambda _db: None)
            with pytest.raises(Conflict):
                await RunIntents(studio.worker, run.id, token + 1).begin("deliver", "c2", "")

        studio.worker.run(both())
        assert intents(studio) == [("deliver", "done")]


def test_an_intent_whose_writer_was_cancelled_is_of_no_deed(home: Path):
    with studio_at(home) as studio:
        _run, gateway, _token = claimed(studio)

        async def cut() -> None:
            call = asyncio.ensure_future(gateway.call("deliver", {}))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            await studio.worker.written(lambda _db: None)

        studio.worker.run(cut())
        assert [status for _tool, status in intents(studio)] in ([], ["refused"])
        assert gateway.interrupted == []
