"""Runs that wait outlive their process; the decision may come from any other, and from several at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn
from support.studios import line_of, persona_of, python, settings_for, studio_at, wait_until, workspace

from personas_nb import Studio
from personas_nb.engine.dispatch import recover
from personas_nb.engine.reviews import Reviews
from personas_nb.entities.persona import Persona

SCRIPT = [
    Turn.tools(("file_write", {"path": "log.txt", "content": "once\n", "append": True}), text="I write."),
    Turn.text("Done."),
]
RUN = """
    import sys
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    print(studio.run("watcher").id, flush=True)
    input()
"""
DECIDE = """
    import sys
    from personas_nb import Studio
    with Studio(sys.argv[1]) as studio:
        review = studio.reviews.approve(sys.argv[2])
        run = studio.executions.handle(review.execution_id).wait(60)
        print(review.status, run.status, run.worker_id == studio.worker.id, flush=True)
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(SCRIPT, repeat_last=True) as started:
        yield started


@pytest.fixture(params=["direct", "claude"])
def env(request: pytest.FixtureRequest, server: ModelServer) -> dict[str, str]:
    return settings_for(server, engine=request.param)


@pytest.fixture
def studio(home: Path, server: ModelServer, env: dict[str, str]) -> Iterator[Studio]:
    with studio_at(home, server, engine=env["PERSONAS_ENGINE"]) as opened:
        studio_persona(opened)
        yield opened


def studio_persona(studio: Studio) -> Persona:
    persona = persona_of(studio, "file_write")
    studio.tools.require_approval(persona, "file_write")
    return persona


def written(studio: Studio) -> str:
    file = workspace(studio, studio.personas.get("watcher")) / "log.txt"
    return file.read_text() if file.exists() else ""


def test_a_run_that_waits_outlives_its_process_and_goes_on_in_another(studio: Studio, env: dict[str, str]):
    with python(RUN, str(studio.home), env=env) as process:
        run_id = line_of(process)
        process.kill()
        process.wait()
    assert recover(studio.store) == []
    assert studio.executions.get(run_id).status == "waiting"
    studio.reviews.approve("latest")
    run = studio.executions.handle(run_id).wait(60)
    assert (run.status, run.output_data) == ("completed", "I write.\n\nDone.")
    assert run.worker_id == studio.worker.id
    assert written(studio) == "once\n"


def test_a_run_goes_on_in_the_process_that_began_it_while_that_lives(studio: Studio, env: dict[str, str]):
    run = studio.run("watcher")
    with python(DECIDE, str(studio.home), "latest", env=env) as process:
        assert line_of(process) == "approved completed False"
    run = studio.executions.get(run.id)
    assert (run.status, run.worker_id) == ("completed", studio.worker.id)
    assert written(studio) == "once\n"


def test_a_closed_studio_leaves_its_runs_waiting(home: Path, studio: Studio, env: dict[str, str]):
    with python(RUN, str(home), env=env) as process:
        run_id = line_of(process)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(30)
    assert studio.executions.get(run_id).status == "waiting"
    with python(DECIDE, str(home), "latest", env=env) as process:
        assert line_of(process) == "approved completed True"


def test_of_two_processes_that_decide_at_once_one_decides(studio: Studio, env: dict[str, str]):
    with python(RUN, str(studio.home), env=env) as process:
        line_of(process)
        process.kill()
    (review,) = studio.reviews.list()
    with (
        python(DECIDE, str(studio.home), review.id, env=env) as one,
        python(DECIDE, str(studio.home), review.id, env=env) as other,
    ):
        assert {line_of(one).rpartition(" ")[0], line_of(other).rpartition(" ")[0]} == {"approved completed"}
    assert written(studio) == "once\n"
    assert studio.executions.list()[0].pauses == 1


def test_a_decided_run_whose_process_died_before_it_went_on_is_taken_up(studio: Studio, env: dict[str, str]):
    with python(RUN, str(studio.home), env=env) as process:
        run_id = line_of(process)
        process.kill()
    # decided where nothing serves, and where the deciding process ended before it began
    Reviews(studio.store).approve("latest")
    queued = studio.executions.table.get(run_id)
    assert (queued.status, queued.worker_id) == ("queued", None)
    with studio.store.write() as db:
        gone = db.execute("select id from workers").fetchone()["id"]
        db.execute("update executions set worker_id = ?", [gone])
    assert recover(studio.store) == []
    assert studio.executions.table.get(run_id).worker_id is None
    _ = studio.dispatcher
    wait_until(lambda: studio.executions.get(run_id).status == "completed", 60)
    assert written(studio) == "once\n"


def test_a_run_killed_after_its_approved_call_is_interrupted_and_keeps_both_parts(
    home: Path, env: dict[str, str]
):
    script = [SCRIPT[0], Turn.text("Then I hang and so on", chunk=8).hang_after(1)]
    with ModelServer(script, repeat_last=True) as server:
        env = settings_for(server, engine=env["PERSONAS_ENGINE"])
        with studio_at(home, server, engine=env["PERSONAS_ENGINE"]) as studio:
            studio_persona(studio)
            with python(RUN, str(home), env=env) as process:
                run_id = line_of(process)
                studio.reviews.approve("latest")
                wait_until(
                    lambda: any(
                        event.type == "text" and "Then" in event.text
                        for _s, _a, event in studio.executions.recorded(run_id)
                    ),
                    60,
                )
                process.kill()
                process.wait()
            run = studio.executions.get(run_id)
            assert (run.status, run.error_kind) == ("failed", "interrupted")
            assert run.output_data.startswith("I write.\n\nThen")
            assert [step.tool for step in run.tool_steps] == ["file_write"]
            assert "conversation" not in studio.executions.table.texts(run_id)
            assert written(studio) == "once\n"
            assert studio.reviews.approve("latest").status == "approved"
            assert studio.executions.get(run_id).status == "failed"


def test_a_home_that_was_moved_goes_on_too(home: Path, studio: Studio, env: dict[str, str], tmp_path: Path):
    with python(RUN, str(home), env=env) as process:
        run_id = line_of(process)
        process.kill()
    studio.close()
    home.rename(tmp_path / "elsewhere")
    with Studio(tmp_path / "elsewhere") as moved:
        moved.reviews.approve("latest")
        assert moved.executions.handle(run_id).wait(60).status == "completed"


def test_a_decision_in_the_moment_in_which_the_run_begins_to_wait_is_not_lost(
    studio: Studio, server: ModelServer
):
    server._scripts[""] = lambda request, _n: SCRIPT[request.mentions("bytes to log.txt")]
    handles = [studio.start("watcher") for _ in range(4)]
    ids = {handle.id for handle in handles}
    done: set[str] = set()

    def decided() -> bool:
        for review in studio.reviews.list():
            studio.reviews.approve(review.id)
            done.add(review.execution_id or "")
        return done == ids

    wait_until(decided, 40)
    assert [handle.wait(60).status for handle in handles] == ["completed"] * 4
    assert written(studio) == "once\n" * 4
    assert len(list((studio.home / "workspaces").glob("*"))) == 1


def test_a_cancel_that_comes_too_late_for_the_model_ends_the_waiting(studio: Studio, env: dict[str, str]):
    run = studio.run("watcher")
    with studio.store.write() as db:  # as somebody asked in the moment in which it began to wait
        db.execute("update executions set cancel_requested = 1")
    studio.worker.run(studio.dispatcher._cancel_late(run.id))
    assert studio.executions.get(run.id).status == "cancelled"
    assert studio.reviews.list() == []
