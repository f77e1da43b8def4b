"""MCP servers as tools: real ones on both engines, and one that does everything wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.mcp_servers import EVERYTHING, GIT, TIME, installed, odd_server
from support.model_server import Turn
from support.processes import assert_none_left, marked, wait_for_marked
from support.studios import line_of, persona_of, python, studio_at, wait_until, workspace
from test_direct import ENGINES, Bench

from personas_nb import Studio
from personas_nb.entities.execution import Execution
from personas_nb.entities.mcp_server import McpServer
from personas_nb.entities.tool import model_names
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.tools import mcp
from personas_nb.tools.listing import TOOLS_LIMIT

TOKEN = "ghp_0123456789abcdefghij"


@pytest.fixture(params=[ENGINES[0], ENGINES[2]], ids=lambda engine: engine.name)
def bench(request: pytest.FixtureRequest, home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(request.param, home, stack)


@pytest.fixture
def direct(home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(ENGINES[0], home, stack)


def served(bench: Bench, name: str, command: list[str], *turns: Any, **definition: Any) -> Execution:
    """A run of these turns by a persona that has this server."""
    settings = definition.pop("settings", None)
    studio = bench.start([*turns, Turn.text("Done.")], settings=settings)
    server = studio.tools.add_server(bench.persona, name, command=command, **definition)
    assert server.status == "healthy", server.detail
    return studio.run("watcher")


def odd(bench: Bench, text: str, mode: str = "plain", **definition: Any) -> Execution:
    call = Turn.tools(("odd__echo", {"text": text}))
    return served(bench, "odd", odd_server(mode), call, **definition)


# --- real servers -----------------------------------------------------------------------------------------


def test_the_time_server_converts_a_time(bench: Bench):
    call = (
        "time__convert_time",
        {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
    )
    run = served(bench, "time", [installed(TIME), "--local-timezone", "UTC"], Turn.tools(call))
    (step,) = run.tool_steps
    assert (step.tool, step.error, step.performed) == ("time.convert_time", None, True)
    assert "T21:00:00+09:00" in step.output
    assert bench.server.requests[1].mentions("T21:00:00+09:00")
    assert any(name.endswith("time__get_current_time") for name in bench.server.requests[0].tool_names)


def test_the_git_server_reads_a_repository_in_the_workspace(bench: Bench):
    studio = bench.start(
        [Turn.tools(("git__git_log", {"repo_path": "."})), Turn.text("Done.")],
    )
    folder = workspace(studio, bench.persona)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "First light"], cwd=folder, check=True)
    studio.tools.add_server(bench.persona, "git", command=[installed(GIT)])
    (step,) = studio.run("watcher").tool_steps
    assert step.error is None
    assert "First light" in step.output


def test_the_everything_server_answers_with_text_pictures_resources_and_structures(bench: Bench):
    calls = [
        ("all__get-sum", {"a": 2, "b": 3}),
        ("all__get-tiny-image", {}),
        ("all__get-resource-links", {"count": 1}),
        ("all__get-structured-content", {"location": "New York"}),
    ]
    run = served(bench, "all", [installed(EVERYTHING)], Turn.tools(*calls))
    outputs = {step.tool.partition(".")[2]: step.output for step in run.tool_steps}
    assert [step.error for step in run.tool_steps] == [None] * 4
    assert "5" in outputs["get-sum"]
    assert "[image/png, about " in outputs["get-tiny-image"]
    assert "[resource " in outputs["get-resource-links"]
    assert "temperature" in outputs["get-structured-content"]


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[str]:
    """The address of the everything server over streamable HTTP."""
    program = installed(EVERYTHING)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {"PATH": os.environ["PATH"], "PORT": str(port), "HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, "streamableHttp"], env=env, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(port))
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.kill()
            process.wait()


def test_a_server_that_is_reached_over_http(bench: Bench, web_server: str):
    studio = bench.start([Turn.tools(("web__echo", {"message": "Grüße"})), Turn.text("Done.")])
    headers = {"Authorization": f"Bearer {TOKEN}"}
    server = studio.tools.add_server(bench.persona, "web", url=web_server, headers=headers)
    assert server.status == "healthy", server.detail
    (step,) = studio.run("watcher").tool_steps
    assert (step.output, step.error) == ("Echo: Grüße", None)
    assert TOKEN not in bench.stored()


def test_an_answer_over_http_has_a_limit(direct: Bench, web_server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mcp, "LINE_LIMIT_BYTES", 100_000)
    calls = [Turn.tools(("web__echo", {"message": text})) for text in ("x" * 200_000, "small")]
    studio = direct.start([*calls, Turn.text("Done.")])
    studio.tools.add_server(direct.persona, "web", url=web_server, timeout_ms=20_000)
    large, small = studio.run("watcher").tool_steps
    assert large.error is not None
    assert (small.output, small.error) == ("Echo: small", None)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_an_address_where_nobody_answers_is_said(direct: Bench):
    studio = direct.start([])
    server = studio.tools.add_server(direct.persona, "web", url="http://127.0.0.1:9/mcp")
    assert server.status == "unhealthy"
    assert "The server web could not be started" in server.detail


# --- rehearsal --------------------------------------------------------------------------------------------


def test_a_rehearsal_describes_the_call_and_starts_nothing(home: Path):
    with studio_at(home, provider="rehearsal") as studio:
        persona = persona_of(studio)
        studio.tools.add_server(persona, "odd", command=odd_server("plain", str(home)))
        assert_none_left(f"{home}/mcp")
        run = studio.run(persona, "Say hello")
        assert marked(f"{home}/mcp") == []
    (step,) = run.tool_steps
    assert (step.tool, step.performed) == ("odd.echo", False)
    assert step.output.startswith("Rehearsal: would call odd.echo with")


# --- what the server is given -----------------------------------------------------------------------------


def test_a_server_finds_an_environment_of_its_own(direct: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_PRIVATE_THING", "not for servers")
    run = odd(direct, "env", env={"COLOUR": "blue"})
    env = json.loads(run.tool_steps[0].output)
    assert env["COLOUR"] == "blue"
    assert env["HOME"].startswith(str(direct.home))
    assert (
        set(env) - {"PATH", "HOME", "TMPDIR", "LANG", "TZ", "COLOUR", "LC_CTYPE", "PWD", "SHLVL", "_"}
        == set()
    )


def test_a_secret_reaches_the_server_and_nothing_else(bench: Bench):
    run = odd(bench, "env", env={"GITHUB_TOKEN": TOKEN})
    assert '"GITHUB_TOKEN": "[secret' in run.tool_steps[0].output
    assert TOKEN not in bench.stored()
    assert not bench.server.requests[1].mentions(TOKEN)
    (server,) = bench.studio.tools.servers("watcher")
    assert server.env["GITHUB_TOKEN"].startswith("credential:")


def test_a_secret_is_on_no_disk_while_the_server_runs(direct: Bench):
    studio = direct.start([Turn.tools(("odd__echo", {"text": "hang"})), Turn.text("Done.")])
    studio.tools.add_server(direct.persona, "odd", command=odd_server("plain"), env={"API_KEY": TOKEN})
    handle = studio.start("watcher")
    wait_for_marked(f"HOME={direct.home}/mcp".removeprefix("HOME="), 1)
    wait_until(lambda: any(event.type == "tool_started" for event in _events(studio, handle.id)))
    folder = direct.home / "mcp"
    wait_until(lambda: not list(folder.rglob("launch.json")))
    found = [
        path for path in folder.rglob("*") if path.is_file() and TOKEN in path.read_text(errors="replace")
    ]
    handle.cancel()
    assert found == []


def _events(studio: Studio, execution_id: str) -> list[Any]:
    return [event for _seq, _at, event in studio.executions.recorded(execution_id)]


def test_a_value_may_name_a_field_of_a_credential(direct: Bench):
    studio = direct.start([])
    studio.credentials.keep(TOKEN, name="my github", connector="github", field="token")
    add = {"command": odd_server("plain"), "env": {"TOKEN": "credential:my github.token"}}
    server = studio.tools.add_server(direct.persona, "odd", **add)
    assert server.status == "healthy", server.detail
    studio.tools.remove_server(direct.persona, "odd")
    assert [credential.name for credential in studio.credentials.list()] == ["my github"]


def test_a_field_that_is_not_there_is_refused(direct: Bench):
    studio = direct.start([])
    studio.credentials.keep(TOKEN, name="github", connector="github", field="token")
    with pytest.raises(NotFound, match="has no field “tokn”"):
        studio.tools.add_server("watcher", "odd", command=["true"], env={"A": "credential:github.tokn"})
    assert studio.tools.servers() == []


def test_a_credential_that_is_gone_is_a_sentence_in_the_step(direct: Bench):
    studio = direct.start([Turn.tools(("odd__echo", {"text": "hello"})), Turn.text("Done.")])
    kept = studio.credentials.keep(TOKEN, name="github", connector="github", field="token")
    env = {"TOKEN": "credential:github.token"}
    studio.tools.add_server(direct.persona, "odd", command=odd_server("plain"), env=env)
    with studio.store.write() as db:
        db.execute("delete from credentials where id = ?", [kept])
    run = studio.run("watcher")
    assert run.status == "completed"
    assert "There is no credential “github”" in (run.tool_steps[0].error or "")


def test_removing_a_server_takes_its_secrets_from_the_vault(direct: Bench):
    studio = direct.start([])
    studio.tools.add_server("watcher", "odd", command=["true"], env={"TOKEN": TOKEN}, check=False)
    assert len(studio.credentials.list()) == 1
    studio.tools.remove_server("watcher", "odd")
    assert studio.credentials.list() == []


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        ({}, "either a command or a url"),
        ({"command": ["a"], "url": "http://x"}, "either a command or a url"),
        ({"url": "ftp://x"}, "no web address"),
        ({"url": "https://me:pw@example.com"}, "holds a secret"),
        ({"url": "https://example.com/?api_key=abcdefgh"}, "holds a secret"),
        ({"command": ["x", "--token=abcdefgh"]}, "looks like a secret"),
        ({"command": ["x", TOKEN]}, "looks like a secret"),
        ({"command": ["x"], "env": {"A B": "c"}}, "cannot name a variable"),
        ({"command": ["x"], "env": {"A": 7}}, "no text in one line"),
        ({"url": "http://x", "headers": {"A": "b\r\nHost: evil"}}, "no text in one line"),
        ({"command": ["x"], "env": {"MY_TOKEN": "short"}}, "8 characters"),
        ({"command": ["x"], "env": {"MY_TOKEN": TOKEN, "B": "\n"}}, "no text in one line"),
        ({"command": ["x"], "env": {"MY_TOKEN": TOKEN}, "timeout_ms": 0}, "timeout_ms"),
    ],
)
def test_a_definition_that_cannot_work_is_refused(direct: Bench, definition: dict[str, Any], sentence: str):
    studio = direct.start([])
    with pytest.raises(InvalidInput, match=sentence) as caught:
        studio.tools.add_server("watcher", "odd", **definition)
    assert TOKEN not in str(caught.value)
    assert (studio.tools.servers(), studio.credentials.list()) == ([], [])


# --- what it offers ---------------------------------------------------------------------------------------


def offered(bench: Bench, mode: str, **definition: Any) -> McpServer:
    studio = bench.start([])
    return studio.tools.add_server(bench.persona, "odd", command=odd_server(mode), **definition)


def test_of_two_hundred_tools_a_hundred_are_used_and_it_is_said(direct: Bench):
    server = offered(direct, "many")
    assert len(server.tools) == TOOLS_LIMIT
    assert "It offers 201 tools" in server.detail


def test_some_of_its_tools_can_be_chosen(direct: Bench):
    server = offered(direct, "many", only=["tool-150", "echo", "nothing"])
    assert [tool.shown for tool in server.tools] == ["odd.echo", "odd.tool-150"]
    assert server.detail == "It does not offer nothing."


def test_hostile_names_descriptions_and_schemas_are_made_fit_or_left_out(direct: Bench):
    server = offered(direct, "hostile")
    names = [tool.shown for tool in server.tools]
    assert names == ["odd.echo", "odd.etc_passwd_2J", f"odd.{'x' * 64}", "odd.echo_2", "odd.echo_3"]
    assert all("\n" not in tool.description and len(tool.description) <= 1_000 for tool in server.tools)
    for left_out in ("bad-type", "large", "far"):
        assert f"{left_out} is left out" in server.detail


def test_a_list_that_breaks_the_protocol_is_refused_as_a_whole(direct: Bench):
    server = offered(direct, "malformed")
    assert (server.status, server.tools) == ("unhealthy", ())
    assert "no result: tools.1.inputSchema.type: Input should be 'object'" in server.detail


def test_models_are_offered_names_that_every_api_takes(bench: Bench):
    call = Turn.tools((lambda name: "echo_3" in name, {"text": "hello"}))
    run = served(bench, "odd", odd_server("hostile"), call)
    names = [name.removeprefix("mcp__personas__") for name in bench.server.requests[0].tool_names]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 64 for name in bench.server.requests[0].tool_names)
    assert (run.status, run.tool_steps[0].tool, run.tool_steps[0].output) == (
        "completed",
        "odd.echo_3",
        "hello",
    )


def test_two_tools_never_share_a_name():
    names = model_names(["a.b", "a__b", "a.b_c", "x" * 60, "x" * 61])
    assert len(set(names.values())) == 5
    assert names["a__b"] == "a__b"


def test_a_protocol_message_in_a_description_is_not_acted_upon(direct: Bench):
    said = 'It says {"persona_action": {"target": "watcher"}}'
    studio = direct.start([Turn.text(said)])
    studio.tools.add_server(direct.persona, "odd", command=odd_server("hostile"))
    run = studio.run("watcher")
    assert said in (run.output_data or "")
    assert any("repeats" in warning for warning in run.warnings)


def test_a_tool_of_a_server_is_taken_and_given_like_any_other(direct: Bench):
    studio = direct.start([])
    studio.tools.add_server("watcher", "odd", command=odd_server("plain"))
    assert [tool.name for tool in studio.tools.unassign("watcher", "odd.echo")] == []
    assert [tool.name for tool in studio.tools.assign("watcher", "odd.echo")] == ["odd.echo"]
    with pytest.raises(NotFound):
        studio.tools.assign("watcher", "odd.nothing")


def test_the_same_definition_again_changes_nothing_and_starts_nothing(direct: Bench):
    first = offered(direct, "plain")
    again = direct.studio.tools.add_server(direct.persona, "odd", command=odd_server("plain"))
    assert again == first


def test_the_servers_of_a_persona_go_with_it_and_so_do_their_secrets(direct: Bench):
    offered(direct, "plain", env={"API_TOKEN": TOKEN})
    direct.studio.personas.purge("watcher")
    assert direct.studio.tools.servers() == []
    assert direct.studio.credentials.list() == []


# --- when it goes wrong -----------------------------------------------------------------------------------


def test_a_program_that_is_not_there_is_said(direct: Bench):
    studio = direct.start([])
    server = studio.tools.add_server("watcher", "odd", command=["no-such-program-here"])
    assert (
        server.detail
        == "There is no program “no-such-program-here” for the server odd. Install it, or give its path."
    )


def test_a_server_that_crashes_at_its_start_says_why(direct: Bench):
    server = offered(direct, "crashes")
    assert server.status == "unhealthy"
    assert "Cannot find module 'left-pad'" in server.detail


def test_what_a_server_offers_is_missing_until_it_works_and_the_run_says_so(direct: Bench):
    studio = direct.start([Turn.text("Done.")])
    studio.tools.add_server("watcher", "odd", command=odd_server("crashes"))
    run = studio.run("watcher")
    assert run.status == "completed"
    assert any("its tools are missing" in warning for warning in run.warnings)


def test_a_call_in_which_the_server_dies_may_have_happened_and_is_not_repeated(bench: Bench):
    calls = [Turn.tools(("odd__echo", {"text": "die"})), Turn.tools(("odd__echo", {"text": "hello"}))]
    run = served(bench, "odd", odd_server("plain"), *calls)
    died, after = run.tool_steps
    assert died.error is not None
    assert "ended in the middle of the call" in died.error
    assert "Segmentation fault" in died.error
    assert "may have happened" in died.error
    assert (after.output, after.error) == ("hello", None)  # started again for the next call


def test_a_call_that_changes_nothing_is_repeated_once(bench: Bench, tmp_path: Path):
    run = served(
        bench, "odd", odd_server("dies-once", str(tmp_path)), Turn.tools(("odd__look", {"text": "hello"}))
    )
    (step,) = run.tool_steps
    assert (step.output, step.error) == ("hello", None)
    assert (tmp_path / "died").exists()


def test_a_server_that_died_between_two_calls_is_started_again(direct: Bench):
    def script(request: Any, number: int) -> Turn:
        if number == 1:
            ours = [p for p in marked(f"{direct.home}/mcp") if "mcp_servers.py" in " ".join(p.cmdline())]
            (server,) = [p for p in ours if "launcher.py" not in " ".join(p.cmdline())]
            server.kill()
            for process in ours:  # its launcher too: only then is it seen to be gone
                process.wait(30)
        if number == 2:
            return Turn.text("Done.")
        return Turn.tools(("odd__echo", {"text": "pid"}))

    studio = direct.start(script)
    studio.tools.add_server(direct.persona, "odd", command=odd_server("plain"))
    first, second = studio.run("watcher").tool_steps
    assert (first.error, second.error) == (None, None)
    assert first.output != second.output


def test_a_server_that_hangs_is_given_up_and_the_next_call_gets_a_new_one(bench: Bench):
    calls = [Turn.tools(("odd__echo", {"text": "hang"})), Turn.tools(("odd__echo", {"text": "hello"}))]
    run = served(bench, "odd", odd_server("plain"), *calls, timeout_ms=8_000)
    hung, after = run.tool_steps
    assert "took longer than 8 s" in (hung.error or "")
    assert (after.output, after.error) == ("hello", None)


def test_what_a_server_prints_beside_its_messages_is_skipped(bench: Bench):
    assert odd(bench, "hello", "noisy").tool_steps[0].output == "hello"


def test_ten_megabytes_are_cut_and_marked(bench: Bench):
    (step,) = odd(bench, "large").tool_steps
    assert step.error is None
    assert step.output.endswith("… cut: 20000 of 10000000 characters")


def test_a_result_that_is_none_is_an_error_in_words(direct: Bench):
    (step,) = odd(direct, "nonsense").tool_steps
    assert "answered with something that is no result" in (step.error or "")


def test_a_call_that_the_server_says_has_failed_is_an_error(bench: Bench):
    (step,) = odd(bench, "fail: no such page").tool_steps
    assert (step.output, step.error) == ("", "fail: no such page")


def test_a_check_finds_what_changed(direct: Bench, tmp_path: Path):
    studio = direct.start([])
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\nexec " + " ".join(odd_server("plain")) + "\n")
    script.chmod(0o755)
    assert studio.tools.add_server("watcher", "odd", command=[str(script)]).status == "healthy"
    script.write_text("#!/bin/sh\nexit 1\n")
    checked = studio.tools.check_server("watcher", "odd")
    assert checked.status == "unhealthy"
    assert [tool.shown for tool in checked.tools] == [
        "odd.echo"
    ]  # what it offered stays, until it is known better


# --- nothing survives -------------------------------------------------------------------------------------


def test_nothing_of_a_server_survives_its_run(bench: Bench):
    odd(bench, "hello")
    assert_none_left(f"{bench.home}/mcp")
    wait_until(lambda: not list((bench.home / "mcp").glob("*/*")))


def test_nothing_of_a_server_survives_the_studio(direct: Bench):
    studio = direct.start([Turn.tools(("odd__echo", {"text": "hang"}))])
    studio.tools.add_server(direct.persona, "odd", command=odd_server("plain"))
    studio.start("watcher")
    wait_for_marked(f"{direct.home}/mcp", 1)
    studio.close()
    assert_none_left(f"{direct.home}/mcp")


KILLED = """
import sys, time
from support.mcp_servers import odd_server
from support.model_server import ModelServer, Turn
from support.studios import persona_of, studio_at
from pathlib import Path
hang = Turn.tools(("odd__echo", {"text": "hang"}))
with ModelServer([hang]) as server, studio_at(Path(sys.argv[1]), server) as studio:
    persona = persona_of(studio)
    studio.tools.add_server(persona, "odd", command=odd_server("plain"))
    studio.start(persona)
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="elsewhere it is best effort")
def test_nothing_of_a_server_survives_a_kernel_that_is_killed(home: Path):
    with python(KILLED, str(home)) as process:
        assert line_of(process) == "started"
        wait_for_marked(f"{home}/mcp", 2)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert_none_left(f"{home}/mcp")
