"""The claude engine against somebody who wants more than they were given, with the real CLI and a scripted model."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from support.model_server import ModelServer, Request, Script, Turn, Usage
from support.processes import described
from support.studios import KEY, MODELS, line_of, persona_of, python, studio_at, wait_until, workspace

from personas_nb import Studio
from personas_nb.engine.workspaces import workspace_of
from personas_nb.entities.base import now
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona

DONE = Turn.text("Done.")


class Case(NamedTuple):
    """A studio on the claude engine, its one persona, and the server that plays the model."""

    studio: Studio
    server: ModelServer
    persona: Persona

    def run(self, given: Any = None, **options: Any) -> Execution:
        return self.studio.run(self.persona, given, **options)

    @property
    def sent(self) -> str:
        """Everything that the model was sent."""
        return "".join(json.dumps(request.body) for request in self.server.requests)

    @property
    def stored(self) -> str:
        """Every row, and every file of the home."""
        with self.studio.store.read() as db:
            rows = "\n".join(db.iterdump())
        files = (path for path in self.studio.home.rglob("*") if path.is_file())
        return rows + "".join(f"{path}\n{path.read_bytes().decode('latin-1')}" for path in files)


@contextmanager
def claude(
    home: Path, script: Script, *tools: str, settings: dict[str, Any] | None = None, **persona: Any
) -> Iterator[Case]:
    with (
        ModelServer(script, repeat_last=True) as server,
        studio_at(home, server, **{"engine": "claude", **(settings or {})}) as studio,
    ):
        yield Case(studio, server, persona_of(studio, *tools, **persona))


def bash(command: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return "Bash", {"command": command, "description": "try", **options}


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def assert_nothing_is_left(home: Path) -> None:
    wait_until(lambda: not children(), 5)
    assert list((home / "cli").glob("*/*")) == [], described(children())


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The HOME of the person, empty."""
    folder = tmp_path / "person"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that nobody may read or change."""
    path = tmp_path / "canary.txt"
    path.write_text("CANARY-7781")
    return path


# --- assigned -------------------------------------------------------------------------------------------


def tools_of_the_cli(canary: Path) -> list[tuple[str, dict[str, Any]]]:
    target = str(canary.with_name("written.txt"))
    return [
        bash(f"cat {canary} > {target}"),
        bash(f"cat {canary}"),
        bash("ls"),
        ("BashOutput", {"bash_id": "1"}),
        ("Monitor", {"command": f"cat {canary}"}),
        ("Read", {"file_path": str(canary)}),
        ("Write", {"file_path": target, "content": "x"}),
        ("Edit", {"file_path": str(canary), "old_string": "CANARY", "new_string": "x"}),
        ("NotebookEdit", {"notebook_path": target, "new_source": "x"}),
        ("Glob", {"pattern": "**/*", "path": str(canary.parent)}),
        ("Grep", {"pattern": "CANARY", "path": str(canary.parent)}),
        ("WebFetch", {"url": "http://127.0.0.1:9/", "prompt": "x"}),
        ("WebSearch", {"query": "x"}),
        ("Task", {"description": "x", "prompt": "x", "subagent_type": "general-purpose"}),
        ("Agent", {"description": "x", "prompt": "x", "subagent_type": "general-purpose"}),
        ("Skill", {"skill": "run"}),
        ("ToolSearch", {"query": "select:Bash"}),
        ("ReadMcpResourceTool", {"server": "personas", "uri": f"file://{canary}"}),
        ("mcp__other__read", {"path": str(canary)}),
    ]


def test_under_assigned_no_tool_of_the_cli_is_performed_also_beside_one_that_is_assigned(
    home: Path, canary: Path
):
    calls = tools_of_the_cli(canary)
    with claude(
        home, [Turn.tools(*calls, ("file_write", {"path": "a.txt", "content": "mine"})), DONE], "file_write"
    ) as case:
        run = case.run()
        assert run.status == "completed"
        assert [(step.tool, step.performed) for step in run.tool_steps] == [
            *((name, False) for name, _ in calls),
            ("file_write", True),
        ]
        assert all(step.error and not step.output for step in run.tool_steps[:-1])
        assert all(name.startswith("mcp__personas__") for name in case.server.requests[0].tool_names)
        assert "CANARY-7781" not in case.sent + case.stored
    assert canary.read_text() == "CANARY-7781"
    assert not canary.with_name("written.txt").exists()


def test_what_an_input_begins_with_is_no_command_to_the_cli(home: Path, canary: Path):
    inputs = [f"@{canary}", "/help", "/clear", "!ls /", "#remember this"]
    with claude(home, [DONE]) as case:
        for given in inputs:
            assert case.run(given).status == "completed"
            assert case.server.requests[-1].mentions(given)
        assert len(case.server.requests) == len(inputs)
        assert "CANARY-7781" not in case.sent


def plant(folder: Path, ran: Path) -> None:
    """Everything by which a folder may tell the CLI what to do."""
    command = {"type": "command", "command": f"touch {ran}"}
    events = ("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SessionEnd")
    settings = {
        "hooks": {event: [{"matcher": "", "hooks": [command]}] for event in events},
        "env": {"INJECTED": "PLANTED"},
        "permissions": {"allow": ["Bash(*)", "Read(*)"]},
        "apiKeyHelper": f"touch {ran}",
        "statusLine": command,
    }
    texts = {
        "CLAUDE.md": "PLANTED",
        "CLAUDE.local.md": "PLANTED",
        ".claude/CLAUDE.md": "PLANTED",
        ".claude/settings.json": json.dumps(settings),
        ".claude/settings.local.json": json.dumps(settings),
        ".claude/skills/evil/SKILL.md": "---\nname: evil\ndescription: PLANTED\n---\nPLANTED",
        ".claude/agents/evil.md": "---\nname: evil\ndescription: PLANTED\n---\nPLANTED",
        ".claude/commands/evil.md": "PLANTED",
        ".mcp.json": json.dumps({"mcpServers": {"evil": {"command": "touch", "args": [str(ran)]}}}),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("permissions", ["assigned", "bypass"])
def test_files_that_configure_the_cli_change_nothing_in_the_workspace_or_at_home(
    home: Path, person: Path, tmp_path: Path, permissions: str
):
    ran = tmp_path / "ran"
    with claude(home, [Turn.tools(bash("env")), DONE], permissions=permissions) as case:
        plant(person, ran)
        plant(workspace(case.studio, case.persona), ran)
        run = case.run()
        assert run.status == "completed"
        assert "PLANTED" not in case.sent + repr(run)
    assert not ran.exists()


FAKE_CLI = f"""#!{sys.executable}
import json, sys
if sys.argv[1:] in (["-v"], ["--version"]):
    sys.exit(print("2.1.400 (Claude Code)"))
for line in sys.stdin:
    message = json.loads(line)
    answer = {{"type": "system", "subtype": "init", "session_id": "s", **INIT}}
    if message["type"] == "control_request":
        done = {{"subtype": "success", "request_id": message["request_id"], "response": {{}}}}
        answer = {{"type": "control_response", "response": done}}
    print(json.dumps(answer), flush=True)
"""


def program(folder: Path, text: str, mode: int = 0o755) -> Path:
    path = folder / "cli"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ({"tools": ["Bash"], "mcp_servers": [{"name": "personas", "status": "connected"}]}, "Bash"),
        ({"tools": [], "mcp_servers": [{"name": "personas", "status": "failed"}]}, "did not connect"),
    ],
    ids=["more tools", "no connection"],
)
def test_a_cli_that_offers_more_than_was_assigned_or_less_is_not_used(
    home: Path, tmp_path: Path, init: dict[str, Any], said: str
):
    cli = program(tmp_path, FAKE_CLI.replace("INIT", repr(init)))
    with claude(home, [DONE], settings={"cli_path": cli}) as case:
        run = case.run()
        assert (run.status, run.error_kind) == ("failed", "cli")
        assert said in (run.error or "")
        assert case.server.requests == []
        assert_nothing_is_left(home)


# --- secrets --------------------------------------------------------------------------------------------


def seen_of(processes: list[psutil.Process]) -> str:
    """Arguments and environments, as anybody may read them who is the same user."""
    texts = []
    for path in (Path(f"/proc/{process.pid}") for process in processes):
        with suppress(OSError):  # it has just ended
            texts += [(path / name).read_bytes().decode("latin-1") for name in ("cmdline", "environ")]
    return "\n".join(texts)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_while_it_runs_neither_key_nor_prompt_nor_the_callers_environment_can_be_seen(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CALLERS_OWN", "callers-own-value")
    script = [Turn.tools(bash("echo begun; sleep 600.25")), DONE]
    with claude(home, script, permissions="bypass", system_prompt="PROMPT-5520") as case:
        handle = case.studio.start(case.persona, "INPUT-5521")
        wait_until(lambda: "600.25" in seen_of(children()))
        seen = seen_of(children())
        files = [path for path in home.rglob("*") if path.is_file() and path.suffix not in (".db", ".jsonl")]
        kept = "".join(
            path.read_bytes().decode("latin-1") for path in files if "personas.db" not in path.name
        )
        handle.cancel()
    assert "ANTHROPIC_BASE_URL" in seen  # it is the right ones that were looked at
    for secret in (KEY, "callers-own-value", "PROMPT-5520", "INPUT-5521"):
        assert secret not in seen
    assert KEY not in kept


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_a_shell_finds_of_the_key_reaches_neither_the_model_nor_a_record(home: Path):
    """A shell of the same user can read the environment of the kernel itself: what it prints is redacted."""
    code = """
        import sys
        from personas_nb import Studio
        with Studio(sys.argv[1]) as studio:
            run = studio.run("watcher")
            print(len(run.tool_steps), "[secret" in run.tool_steps[0].output, flush=True)
            input()
    """
    leak = "env; cat /proc/$PPID/environ; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -a sk-ant"
    script = [Turn.tools(bash(leak)), DONE]
    key = "sk-ant-0123456789-planted"
    with claude(home, script, permissions="bypass") as case:
        env = {"ANTHROPIC_API_KEY": key, "PERSONAS_AUTH_TOKEN": key}
        with python(code, str(home), env=env) as process:
            assert line_of(process) == "1 True"
            assert case.server.requests[0].key == key
            assert key not in case.sent + case.stored


def test_a_key_that_a_tool_puts_together_does_not_reach_the_model(home: Path):
    split = f"printf {KEY[:8]}; echo {KEY[8:]}; echo {KEY[:8]}{KEY[8:]} | base64"
    with claude(home, [Turn.tools(bash(split)), DONE], permissions="bypass") as case:
        run = case.run()
        assert run.tool_steps[0].performed
        assert run.tool_steps[0].output.count("[secret") == 2
        assert KEY not in case.sent + case.stored


def test_a_prompt_longer_than_the_model_can_read_is_a_sentence_and_is_not_sent(home: Path):
    with claude(home, [DONE]) as case:
        run = case.run("Zeile für Zeile 🧾\n" * 160_000)
        assert (run.status, run.error_kind) == ("failed", "rejected")
        assert "longer than the model can read" in (run.error or "")
        assert case.server.requests == []


# --- bypass ---------------------------------------------------------------------------------------------


def test_under_bypass_the_tools_of_the_cli_work_and_each_leaves_its_step(home: Path):
    calls = [
        ("Write", {"file_path": "a.txt", "content": "hello"}),
        ("Read", {"file_path": "nowhere.txt"}),
        bash("echo out; echo problem >&2; exit 3"),
        ("file_read", {"path": "missing.txt"}),
    ]
    with claude(home, [Turn.tools(*calls), DONE], "file_read", permissions="bypass") as case:
        run = case.run()
        written, read, shell, ours = run.tool_steps
        assert all(step.performed for step in run.tool_steps)
        assert (written.input["content"], written.error) == ("hello", None)
        assert (workspace(case.studio, case.persona) / "a.txt").read_text() == "hello"
        assert "does not exist" in (read.error or "")
        assert shell.duration_ms > 0
        assert shell.output == ""
        assert "Exit code 3" in (shell.error or "")
        assert "problem" in (shell.error or "")
        assert "missing.txt" in (ours.error or "")


def test_what_a_shell_prints_may_be_anything(home: Path):
    commands = [r"printf 'a\xff\xfeb\x00c'", "head -c 10000000 /dev/zero | tr '\\0' x", "seq 1 6000"]
    calls = [bash(command) for command in commands]
    with claude(
        home, [Turn.tools(*calls), DONE], permissions="bypass", settings={"tool_output_limit_chars": 2000}
    ) as case:
        run = case.run()
        odd, huge, long = (step.output for step in run.tool_steps)
        assert odd == "a\ufffd\ufffdb␀c"
        assert "too large" in huge
        assert len(huge) < 2100
        assert long.startswith("1\n2\n3\n")
        assert "… cut: 2000 of" in long
        assert len(case.sent) < 300_000


def test_a_shell_task_in_the_background_ends_with_the_run(home: Path):
    call = bash("sleep 600.75", run_in_background=True)
    with claude(home, [Turn.tools(call), DONE], permissions="bypass") as case:
        run = case.run()
        assert (run.status, run.output_data) == ("completed", "Done.")
        assert "running in background" in run.tool_steps[0].output
        assert_nothing_is_left(home)


def test_nothing_is_offered_that_would_have_to_outlive_the_run(home: Path):
    with claude(home, [DONE], permissions="bypass") as case:
        case.run()
        offered = case.server.requests[0].tool_names
        assert "Bash" in offered
        assert [name for name in offered if "Cron" in name or "Wakeup" in name] == []


ACTION = '{"persona_action": {"target": "watcher", "action": "run"}}'
MESSAGE = '{"user_message": {"title": "From the agent", "content": "x"}}'


def with_an_agent(request: Request, n: int) -> Turn:
    """The persona starts an agent, which tries what only the persona may, and repeats what it said."""
    talk = json.dumps(request.messages)
    if "AGENT-PROMPT" in json.dumps(request.messages[0]):
        if "tool_result" in talk:
            return Turn.text(f"The agent found 7 invoices. {ACTION}")
        told = ("user_message", {"title": "From the agent", "content": "x"})
        return Turn.tools(told, bash("echo looked"), text=f"The agent begins. {MESSAGE}")
    if "found 7 invoices" in talk:
        return Turn.text(f"It found 7 and said {ACTION}")
    if "tool_result" in talk:
        return Turn.text("I wait.")
    task = {"description": "look", "prompt": "AGENT-PROMPT", "subagent_type": "general-purpose"}
    return Turn.tools(("Agent", task), text="I ask an agent.")


def test_an_agent_of_the_persona_works_for_it_and_does_not_speak_for_it(home: Path):
    with claude(home, with_an_agent, permissions="bypass") as case:
        run = case.run()
        assert run.status == "completed"
        assert run.output_data is not None
        assert run.output_data.startswith("I ask an agent.")
        assert "It found 7" in run.output_data  # the persona has read its answer
        assert "agent begins" not in run.output_data
        assert {step.tool: step.output for step in run.tool_steps}["Bash"] == "looked"
        assert "found 7 invoices" in {step.tool: step.output for step in run.tool_steps}["Agent"]
        assert case.studio.messages.list() == []
        assert any("was not acted upon" in warning for warning in run.warnings)
        with case.studio.store.read() as db:  # nor is what the persona only repeats
            assert (
                db.execute("select count(*) from events where event_type = 'persona_action'").fetchone()[0]
                == 0
            )


def test_bypass_on_the_direct_engine_is_a_warning_and_no_more_than_the_assigned_tools(home: Path):
    script = [Turn.tools(bash("touch here")), DONE]
    with claude(home, script, "file_read", permissions="bypass", settings={"engine": "direct"}) as case:
        run = case.run()
        assert any("bypass" in warning for warning in run.warnings)
        assert not run.tool_steps[0].performed
        assert "Bash" not in case.server.requests[0].tool_names


# --- the person's folders, and those of the persona -----------------------------------------------------


@pytest.mark.parametrize("way", ["success", "failure", "cancel"])
def test_nothing_of_a_run_stays_in_the_persons_home_or_in_ours(home: Path, person: Path, way: str):
    tell_pid = Turn.tools(bash("echo $PPID; sleep 0.1"))
    last = {"success": DONE, "failure": Turn.error(401), "cancel": Turn.hang()}[way]
    with claude(home, [tell_pid, last], permissions="bypass") as case:
        handle = case.studio.start(case.persona)
        case.server.wait_for_requests(2)
        run = handle.cancel() if way == "cancel" else handle.wait()
        assert run.status == {"success": "completed", "failure": "failed", "cancel": "cancelled"}[way]
        assert_nothing_is_left(home)
        pid = run.tool_steps[0].output.strip()
    assert pid.isdigit()
    assert not Path(f"/tmp/cc-socks-{os.getuid()}/{pid}.sock").exists()
    assert list(person.rglob("*")) == []


def test_runs_at_the_same_time_have_a_folder_and_the_given_files_each(home: Path, tmp_path: Path):
    given = tmp_path / "given.txt"
    given.write_text("given to all")

    def script(request: Request, _n: int) -> Turn:
        mine = next(f"run-{n}" for n in range(3) if request.mentions(f"run-{n}."))
        results = json.dumps(request.messages).count('"tool_result"')
        if results == 0:
            return Turn.tools(
                ("file_write", {"path": f"{mine}.txt", "content": "half"}),
                ("file_read", {"path": "inputs/given.txt"}),
            )
        return Turn.tools(("file_read", {"path": "."})) if results == 2 else Turn.hang()

    with claude(
        home, script, "file_write", "file_read", max_concurrent=3, settings={"max_parallel_executions": 3}
    ) as case:
        handles = [case.studio.start(case.persona, f"run-{n}.", files=[given]) for n in range(3)]
        case.server.wait_for_requests(9)  # all are in their last turn at once
        runs = [handle.cancel() for handle in handles]
        first = workspace_of(home, case.persona)
        for number, run in enumerate(runs):
            listing = next(step.output for step in run.tool_steps if step.input.get("path") == ".")
            read = next(
                step.output for step in run.tool_steps if step.input.get("path") == "inputs/given.txt"
            )
            assert read == "given to all"
            assert f"run-{number}.txt" in listing
            assert all(f"run-{other}.txt" not in listing for other in range(3) if other != number)
        assert sum("works in" in warning for run in runs for warning in run.warnings) == 2
        assert len(list(first.parent.glob(f"{first.name}*"))) == 3


def test_the_workspace_stays_between_runs_and_is_made_again_when_it_is_gone(home: Path):
    def script(request: Request, _n: int) -> Turn:
        if '"tool_result"' in json.dumps(request.messages):
            return DONE
        return Turn.tools(bash("ls; touch a.txt"))

    with claude(home, script, permissions="bypass") as case:
        assert [case.run().tool_steps[0].output for _ in range(2)][1] == "a.txt"
        shutil.rmtree(workspace(case.studio, case.persona))
        assert "a.txt" not in case.run().tool_steps[0].output
        assert (workspace(case.studio, case.persona) / "a.txt").exists()


def test_a_workspace_that_is_removed_by_the_run_itself_is_an_error_of_the_step(home: Path):
    script = [Turn.tools(bash('rm -rf "$PWD"')), Turn.tools(bash("ls")), DONE]
    with claude(home, script, permissions="bypass") as case:
        run = case.run()
        assert run.status == "completed"
        assert len(run.tool_steps) == 2


def test_a_workspace_that_cannot_be_written_is_said_and_no_model_is_asked(home: Path):
    with claude(home, [DONE]) as case:
        folder = workspace(case.studio, case.persona)
        folder.rmdir()
        folder.write_text("in its place")
        run = case.run()
        assert (run.status, run.error_kind) == ("failed", "invalid_input")
        assert str(folder) in (run.error or "")
        assert case.server.requests == []
        assert case.studio.healing.list() != []


# --- a CLI that is not well -----------------------------------------------------------------------------

VERSION = '#!/bin/sh\nif [ "$1" = -v ] || [ "$1" = --version ]; then echo "2.1.400 (Claude Code)"; exit; fi\n'


@pytest.mark.parametrize(
    ("text", "mode", "kind", "said"),
    [
        (None, 0, "cli_not_found", "cli_path"),
        (VERSION, 0o644, "cli_not_found", "chmod +x"),
        ('#!/bin/sh\necho "1.0.0 (Claude Code)"\n', 0o755, "cli", "Update it"),
        ("no program", 0o755, "cli", "cli_path"),
        (f"{VERSION}echo 'warming up' >&2; echo 'boom {KEY}' >&2; exit 1\n", 0o755, "cli", "boom [secret"),
        (f"{VERSION}exit 1\n", 0o755, "cli", "exit code 1."),
        (f"{VERSION}exit 0\n", 0o755, "cli", "before the run was finished."),
        (f"{VERSION}kill -SEGV $$\n", 0o755, "cli", "exit code 139"),
        (f"{VERSION}head -c 100000 /dev/urandom\n", 0o755, "cli", "%persona health"),
        (
            f"{VERSION}i=0; while [ $i -lt 999 ]; do echo '{{{{ x'; i=$((i+1)); done; exit 2\n",
            0o755,
            "cli",
            "decode",
        ),
    ],
    ids=[
        "missing",
        "locked",
        "old",
        "binary",
        "crash",
        "silent crash",
        "exit 0",
        "signal",
        "bytes",
        "garbage",
    ],
)
def test_a_cli_that_is_not_well_is_a_sentence_with_the_next_step_and_an_issue(
    home: Path, tmp_path: Path, text: str | None, mode: int, kind: str, said: str
):
    cli = tmp_path / "cli" if text is None else program(tmp_path, text, mode)
    with claude(home, [DONE], settings={"cli_path": cli}) as case:
        run = case.run()
        assert (run.status, run.error_kind) == ("failed", kind)
        assert said in (run.error or "")
        assert KEY not in case.stored
        assert len(case.studio.healing.list()) == 1
        assert_nothing_is_left(home)


@pytest.mark.parametrize("does", ["exec sleep 600", "while :; do echo garbage; sleep 0.1; done"])
def test_a_cli_that_never_begins_is_ended_by_the_runs_timeout(home: Path, tmp_path: Path, does: str):
    cli = program(tmp_path, f"{VERSION}{does}\n")
    with claude(home, [DONE], settings={"cli_path": cli, "timeout_ms": 1000}) as case:
        run = case.run()
        assert (run.status, run.error_kind) == ("failed", "timeout")
        assert list((home / "cli").glob(f"*/{run.id}")) == []
        assert [process for process in children() if run.id in " ".join(process.cmdline())] == []


@pytest.mark.parametrize(
    "victim", ["$PPID", "$(ps -o ppid= -p $PPID)"], ids=["the CLI", "the launcher above it"]
)
def test_a_cli_that_is_killed_in_the_middle_fails_the_run_which_keeps_what_it_had(home: Path, victim: str):
    script = [Turn.tools(bash(f"kill -9 {victim}; sleep 600"), text="Begun."), DONE]
    with claude(home, script, permissions="bypass") as case:
        run = case.run()
        assert (run.status, run.error_kind, run.output_data) == ("failed", "cli", "Begun.")
        assert (run.num_turns, run.cost_usd is not None) == (1, True)
        assert_nothing_is_left(home)


# --- what models and their servers do -------------------------------------------------------------------


def test_a_refused_key_ends_the_run_at_once_with_one_request(home: Path):
    with claude(home, [Turn.error(401)]) as case:
        begun = time.monotonic()
        run = case.run()
        assert (run.error_kind, len(case.server.requests)) == ("credential", 1)
        assert time.monotonic() - case.server.requests[0].received_at < 5
        assert time.monotonic() - begun < 30
        assert [issue.category for issue in case.studio.healing.list()] == ["CredentialError"]


def test_a_rate_limit_is_tried_again_when_the_server_said(home: Path):
    with claude(home, [Turn.error(429, retry_after=400)]) as case:
        run = case.run()
        assert (run.error_kind, len(case.server.requests)) == ("rate_limit", 1)
        (retry,) = [other for other in case.studio.executions.list() if other.retry_of == run.id]
        assert retry.scheduled_at is not None
        assert timedelta(seconds=380) < retry.scheduled_at - now() < timedelta(seconds=480)


def test_a_conversation_that_grew_too_long_says_so_and_keeps_what_it_had(home: Path):
    too_long = Turn.error(400, "prompt is too long: 250000 tokens > 200000 maximum")
    call = Turn.tools(("file_write", {"path": "a", "content": "b"}), text="Begun.")
    with claude(home, [call, too_long], "file_write") as case:
        run = case.run()
        assert (run.status, run.error_kind, run.output_data) == ("failed", "rejected", "Begun.")
        assert "longer than the model can read" in (run.error or "")


def test_a_rejected_request_is_told_in_the_words_of_the_server(home: Path):
    with claude(home, [Turn.error(400, "messages: something is wrong")]) as case:
        run = case.run()
        assert run.error_kind == "rejected"
        assert "“messages: something is wrong”" in (run.error or "")


def answer_of(model: str) -> Turn:
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
    }
    events = [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Turn.raw("".join(lines), content_type="text/event-stream")


def test_both_engines_count_and_price_the_same(home: Path):
    used = Usage(input_tokens=900, output_tokens=70, cache_read_tokens=300, cache_write_tokens=50)
    call = Turn.tools(("file_write", {"path": "a", "content": "b"}), usage=used)
    counted = []
    for engine in ("claude", "direct"):
        script = [call, Turn.text("Done.", usage=used)]
        with claude(home / engine, script, "file_write", settings={"engine": engine}) as case:
            run = case.run()
            counted.append(
                {
                    name: getattr(run, name)
                    for name in (
                        "input_tokens",
                        "output_tokens",
                        "cache_read_tokens",
                        "cache_write_tokens",
                        "cost_usd",
                        "num_turns",
                        "tool_calls",
                        "model_used",
                    )
                }
            )
    assert counted[0] == counted[1]
    assert counted[0]["cost_usd"] > 0


@pytest.mark.parametrize(("model", "is_known"), [(MODELS["anthropic"], True), ("of-somebody-else", False)])
def test_an_answer_of_another_model_has_the_price_that_is_known_or_none(
    home: Path, model: str, is_known: bool
):
    with claude(home, [answer_of(model)]) as case:
        run = case.run()
        assert (run.status, run.output_data, run.input_tokens) == ("completed", "Hi.", 10)
        assert (run.cost_usd is not None) == is_known


def test_characters_cut_at_every_byte_stay_whole(home: Path):
    text = "Grüße 🧾 – “日本語” 👩‍👩‍👧 e\u0301\u200b\u2028 [31m"
    with claude(home, [Turn.text(text, chunk=1, write_bytes=1)]) as case:
        assert case.run().output_data == text


def test_tools_of_any_name_are_refused_by_that_name(home: Path):
    names = [
        "a b",
        "ü🧾",
        "../x",
        "x" * 60,
        "__proto__",
        "toString",
        "mcp__personas__nothing",
        "-rf",
        "a\nb",
    ]
    calls = [(name, {"__proto__": {"a": 1}}) for name in names]
    with claude(home, [Turn.tools(*calls), DONE], "file_read") as case:
        run = case.run()
        assert run.status == "completed"
        assert [step.tool for step in run.tool_steps] == [
            name.removeprefix("mcp__personas__") for name in names
        ]
        assert not any(step.performed for step in run.tool_steps)


def test_a_message_of_ten_megabytes_stays_text_with_a_warning(home: Path):
    body = json.dumps({"user_message": {"title": "x", "content": "y" * 10_000_000}})
    with claude(home, [Turn.text(body, chunk=100_000)]) as case:
        run = case.run()
        assert run.status == "completed"
        assert len(run.output_data or "") == 2**20
        assert any("larger than" in warning for warning in run.warnings)
        assert case.studio.messages.list() == []


def test_a_thousand_tool_calls_in_one_answer_are_all_answered(home: Path):
    calls = [("file_write", {"path": f"{n}.txt", "content": str(n)}) for n in range(1000)]
    with claude(home, [Turn.tools(*calls), DONE], "file_write") as case:
        run = case.run()
        assert (run.status, run.tool_calls) == ("completed", 1000)
        assert [step.input["path"] for step in run.tool_steps] == [f"{n}.txt" for n in range(1000)]
        assert len(list(workspace(case.studio, case.persona).glob("*.txt"))) == 1000


# --- many, and again and again --------------------------------------------------------------------------


def test_ten_runs_at_once_keep_apart_also_when_one_is_killed(home: Path):
    def script(request: Request, _n: int) -> Turn:
        number = next(n for n in range(10) if request.mentions(f"number-{n}."))
        if '"tool_result"' in json.dumps(request.messages):
            return Turn.text(f"I am {number}.")
        return Turn.tools(bash("kill -9 $PPID; sleep 600" if number == 3 else "echo fine"))

    with claude(
        home, script, permissions="bypass", max_concurrent=10, settings={"max_parallel_executions": 10}
    ) as case:
        handles = [case.studio.start(case.persona, f"number-{n}.") for n in range(10)]
        runs = [handle.wait() for handle in handles]
        assert [run.error_kind for run in runs] == [None] * 3 + ["cli"] + [None] * 6
        assert [run.output_data for run in runs if run.error is None] == [
            f"I am {n}." for n in range(10) if n != 3
        ]
        assert_nothing_is_left(home)


def test_a_run_that_is_cancelled_at_any_moment_leaves_nothing(home: Path):
    with claude(home, [Turn.text("a b c d", chunk=1, delay_seconds=0.1)], max_concurrent=8) as case:
        for step in range(8):
            handles = [case.studio.start(case.persona) for _ in range(2)]
            time.sleep(step * 0.06)
            assert {handle.cancel().status for handle in handles} <= {"cancelled", "completed"}
        assert_nothing_is_left(home)


def test_runs_leave_no_task_no_thread_and_no_file_open(home: Path):
    async def tasks() -> list[str]:
        named = (task.get_coro() for task in asyncio.all_tasks())
        return sorted(getattr(coroutine, "__qualname__", "") for coroutine in named)

    def script(_request: Request, n: int) -> Turn:
        return [DONE, Turn.error(401), Turn.text("x y", chunk=1).end_after(1)][n % 3]

    with claude(home, script) as case:
        counts = []
        for _ in range(3):
            assert [case.run().status for _ in range(3)] == ["completed", "failed", "failed"]
            left = asyncio.run_coroutine_threadsafe(tasks(), case.studio.worker.loop).result()
            assert [name for name in left if "Talk" in name or "query" in name.lower()] == []
            case.studio.personas.update(case.persona, enabled=True)
            counts.append((psutil.Process().num_fds(), threading.active_count()))
        assert counts[2][0] <= counts[1][0] + 2
        assert counts[2][1] <= counts[1][1] + 1


# --- the person's own login -----------------------------------------------------------------------------

LOGIN = "sk-ant-oat01-login-of-the-person"


@pytest.fixture
def logged_in(person: Path, tmp_path: Path) -> Path:
    """The person's HOME, with a login of the CLI and hooks of their own."""
    plant(person, tmp_path / "ran")
    tokens = {
        "accessToken": LOGIN,
        "refreshToken": f"{LOGIN}-refresh",
        "expiresAt": int((time.time() + 86_400) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    path = person / ".claude" / ".credentials.json"
    path.write_text(json.dumps({"claudeAiOauth": tokens}))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    (person / ".claude.json").write_text(json.dumps({"hasCompletedOnboarding": True}))
    return person


@contextmanager
def by_login(home: Path, script: Script, **persona: Any) -> Iterator[Case]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        server = stack.enter_context(ModelServer(script, repeat_last=True))
        env = {
            "PROVIDER": "anthropic",
            "MODEL": MODELS["anthropic"],
            "BASE_URL": server.url,
            "ENGINE": "claude",
            "CLAUDE_LOGIN": "user",
        }
        for name, value in env.items():
            patch.setenv(f"PERSONAS_{name}", value)
        studio = stack.enter_context(Studio(home))
        yield Case(studio, server, persona_of(studio, **persona))


def test_the_persons_own_login_is_passed_on_and_their_files_stay_as_they_are(
    home: Path, logged_in: Path, tmp_path: Path
):
    def files() -> dict[str, bytes]:
        return {
            str(path.relative_to(logged_in)): path.read_bytes()
            for path in logged_in.rglob("*")
            if path.is_file()
        }

    before = files()
    with by_login(home, [Turn.tools(bash("env")), DONE]) as case:
        run = case.run()
        assert (run.status, run.tool_steps[0].performed) == ("completed", False)
        (first, *_) = case.server.requests
        assert first.headers["authorization"] == f"Bearer {LOGIN}"
        assert "x-api-key" not in first.headers
        assert "PLANTED" not in case.sent
    after = files()
    assert {name: after.get(name) for name in before if name != ".claude.json"} == {
        name: text for name, text in before.items() if name != ".claude.json"
    }
    own = (".claude/backups/", ".claude/plugins/", ".claude/sessions/")
    assert [name for name in after if name not in before and not name.startswith(own)] == []
    assert not (tmp_path / "ran").exists()


def test_what_a_shell_prints_of_the_persons_login_reaches_neither_the_model_nor_a_record(
    home: Path, logged_in: Path
):
    call = bash("cat ~/.claude/.credentials.json")
    with by_login(home, [Turn.tools(call), DONE], permissions="bypass") as case:
        run = case.run()
        assert run.tool_steps[0].output.count("[secret") == 2
        assert LOGIN not in case.sent + case.stored


def test_a_login_that_is_refused_says_how_to_log_in_again(home: Path, logged_in: Path):
    with by_login(home, [Turn.error(401)]) as case:
        run = case.run()
        assert (run.error_kind, len(case.server.requests)) == ("credential", 1)
        assert "claude /login" in (run.error or "")
