"""The launcher of the Claude CLI, with real processes: what the CLI gets, and that nothing of it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.processes import assert_none_left, marked, wait_for_marked
from support.studios import line_of, python, wait_until

from personas_nb.engine.agents import launch as launch_module
from personas_nb.engine.agents import launcher
from personas_nb.engine.agents.launch import Launch, cli_environment, find_cli, remove_tree, sweep
from personas_nb.errors import ModelError

linux_only = pytest.mark.skipif(not launcher.IS_LINUX, reason="needs a child subreaper")

# A child, a grandchild in a session of its own, a daemon that was forked twice, and one without any environment.
FAMILY = """
    sleep $MARK &
    sh -c 'setsid sleep $MARK & wait' &
    (setsid sh -c 'sleep $MARK & sleep $MARK' &) &
    (env -i setsid sleep $MARK &) &
    echo up
    """
FAMILY_SIZE = 6  # processes of sleep


@pytest.fixture
def mark() -> Iterator[str]:
    """A number of seconds that nobody else sleeps; whatever has it at the end has survived its test."""
    mark = f"600.{uuid.uuid4().int % 10**12:012d}"
    yield mark
    for process in marked(mark):
        process.kill()


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}\n")
    path.chmod(0o755)
    return path


def launch_of(tmp_path: Path, body: str, mark: str = "none", folder: str = "run") -> Launch:
    """A launch whose CLI is a shell script."""
    cli = script(tmp_path / f"cli-{Path(folder).name}", body)
    env = {"PATH": os.defpath, "MARK": mark}
    return Launch(tmp_path / folder, cli=cli, version="2.1.329", env=env, cwd=tmp_path)


def ran(launch: Launch, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [launch.path, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


def started(launch: Launch) -> subprocess.Popen[str]:
    """The launcher's process, after the CLI has said its first line."""
    process = subprocess.Popen([launch.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def launcher_pid(launch: Launch) -> int:
    return int((launch.folder / launcher.PID_FILE).read_text())


# --- what the CLI gets --------------------------------------------------------------------------------------------


def test_the_cli_gets_exactly_the_environment_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-kernel")
    env = {"HOME": "/nowhere", "EMPTY": "", "QUOTES": 'it\'s "$HOME"\nü'}
    with Launch(tmp_path / "run", cli=Path("/usr/bin/env"), version="1", env=env, cwd=tmp_path) as launch:
        said = ran(launch, "-0")
    assert dict(entry.split("=", 1) for entry in said.stdout.split("\0") if entry) == env


def test_the_launcher_itself_has_no_environment(tmp_path, monkeypatch, mark):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-kernel")
    with launch_of(tmp_path, "echo up; exec sleep $MARK", mark) as launch:
        process = started(launch)
        assert psutil.Process(launcher_pid(launch)).environ() == {}
    process.communicate()


def test_arguments_stdin_stdout_stderr_folder_and_exit_code_pass_through(tmp_path):
    body = """for argument in "$@"; do echo "<$argument>"; done; pwd; cat; echo problem >&2; exit 7"""
    with launch_of(tmp_path, body) as launch:
        said = ran(launch, "--flag", "two words", "it's $HOME", "", stdin="input ü")
    assert said.stdout == f"<--flag>\n<two words>\n<it's $HOME>\n<>\n{tmp_path}\ninput ü"
    assert said.stderr == "problem\n"
    assert said.returncode == 7


def test_the_reader_sees_the_end_of_the_output_when_the_cli_closes_it(tmp_path, mark):
    with launch_of(tmp_path, "echo up; exec sleep $MARK >&- 2>&-", mark) as launch:
        process = started(launch)
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.poll() is None
    process.communicate()


def test_a_signal_that_ends_the_cli_is_an_exit_code_of_128_and_more(tmp_path):
    with launch_of(tmp_path, "kill -KILL $$") as launch:
        assert ran(launch).returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("name", ["INT", "HUP", "TERM", "PIPE"])
def test_the_cli_does_not_inherit_that_the_launcher_ignores_signals(tmp_path, name):
    with launch_of(tmp_path, f"kill -{name} $$; echo survived") as launch:
        said = ran(launch)
    assert (said.stdout, said.returncode) == ("", 128 + signal.Signals[f"SIG{name}"])


@pytest.mark.parametrize("question", ["-v", "--version"])
def test_the_version_is_answered_without_the_cli(tmp_path, question):
    with launch_of(tmp_path, "touch started") as launch:
        said = ran(launch, question)
    assert said.stdout == "2.1.329 (Claude Code)\n"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["two words", "it's", 'say "$HOME" `id` \\ ; #', "ünï"])
def test_the_shim_works_in_a_folder_of_any_name(tmp_path, name):
    with launch_of(tmp_path, "echo here", folder=name) as launch:
        assert ran(launch).stdout == "here\n"
    assert not launch.folder.exists()


def test_the_folder_and_what_is_in_it_are_private(tmp_path):
    with launch_of(tmp_path, "") as launch:
        names = {".": 0o700, "home": 0o700, "tmp": 0o700, "claude": 0o700, "launch.json": 0o600}
        assert {name: (launch.folder / name).stat().st_mode & 0o777 for name in names} == names


@pytest.mark.parametrize("missing", ["cli", "cwd"])
def test_a_cli_that_cannot_be_started_is_127_and_one_line(tmp_path, missing):
    places = {"cli": Path("/bin/sh"), "cwd": tmp_path, missing: tmp_path / "gone"}
    with Launch(tmp_path / "run", version="1", env={}, **places) as launch:
        said = ran(launch)
    assert said.returncode == launcher.CANNOT_START
    assert said.stderr.count("\n") == 1
    assert "cannot start" in said.stderr
    assert "gone" in said.stderr


# --- nothing survives ---------------------------------------------------------------------------------------------


@linux_only
def test_told_to_end_the_launcher_takes_children_sessions_and_daemons_along(tmp_path, mark):
    with launch_of(tmp_path, f"{FAMILY}\n sleep $MARK", mark) as launch:
        process = started(launch)
        wait_for_marked(mark, FAMILY_SIZE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == launcher.TOLD_TO_END
        assert marked(mark) == []
        assert not (launch.folder / launcher.PID_FILE).exists()
    process.communicate()


@linux_only
def test_when_the_cli_ends_by_itself_no_daemon_is_left(tmp_path, mark):
    with launch_of(tmp_path, f"{FAMILY}\n read line; exit 5", mark) as launch:
        process = started(launch)
        wait_for_marked(mark, FAMILY_SIZE)
        process.communicate("go\n")
        assert process.returncode == 5
        assert marked(mark) == []


@linux_only
def test_a_process_that_keeps_forking_is_caught(tmp_path, mark):
    runner = (
        "import os, time\nend = time.time() + 20\nwhile time.time() < end:\n    if os.fork(): os._exit(0)"
    )
    body = f"""{sys.executable} -c '{runner}' $MARK &\necho up; sleep $MARK"""
    with launch_of(tmp_path, body, mark) as launch:
        process = started(launch)
        wait_for_marked(mark, 2)
        launch.kill()
        assert process.wait(10) == launcher.TOLD_TO_END
        assert marked(mark) == []
    process.communicate()


PARENT = """
    import os, signal, subprocess, sys
    from pathlib import Path
    from personas_nb.engine.agents.launch import Launch

    os.setsid()
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    folder, cli, mark = sys.argv[1:]
    env = {"PATH": os.defpath, "MARK": mark}
    launch = Launch(Path(folder), cli=Path(cli), version="1", env=env, cwd=Path(cli).parent)
    process = subprocess.Popen([launch.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(process.stdout.readline().strip(), flush=True)
    for command in sys.stdin:
        os.killpg(0, signal.SIGINT)
        print(process.communicate(command)[0].strip(), process.returncode, flush=True)
    """


@linux_only
def test_kill_9_of_the_parent_takes_everything_along(tmp_path, mark):
    cli = script(tmp_path / "cli", f"{FAMILY}\n sleep $MARK")
    with python(PARENT, str(tmp_path / "run"), str(cli), mark) as parent:
        assert line_of(parent) == "up"
        wait_for_marked(mark, FAMILY_SIZE)
        parent.kill()  # not yet reaped: a parent that is a zombie has ended, too
        assert_none_left(mark)
    wait_until(lambda: marked(str(tmp_path / "run")) == [])


def test_an_interrupt_of_the_parents_group_does_not_reach_the_cli(tmp_path, mark):
    cli = script(tmp_path / "cli", "echo up; read line; echo got $line")
    with python(PARENT, str(tmp_path / "run"), str(cli), mark) as parent:
        assert line_of(parent) == "up"
        assert parent.stdin is not None
        parent.stdin.write("hello\n")
        parent.stdin.flush()
        assert [line_of(parent), line_of(parent)] == ["interrupted", "got hello 0"]


def test_nothing_is_started_for_a_parent_that_is_gone(tmp_path):
    with launch_of(tmp_path, "touch started") as launch:
        orphan = f"(sleep 0.2; '{launch.path}'; echo $? > '{tmp_path}/code') &"
        settings = json.loads((launch.folder / launcher.SETTINGS_FILE).read_text())
        gone = subprocess.Popen(["/bin/true"])
        gone.wait()
        for pid in (os.getpid(), gone.pid):  # a living process that did not start it, and one that is gone
            (launch.folder / launcher.SETTINGS_FILE).write_text(json.dumps({**settings, "parent_pid": pid}))
            subprocess.run(["/bin/sh", "-c", orphan], check=True)
            wait_until(lambda: (tmp_path / "code").exists() and (tmp_path / "code").read_text())
            assert (tmp_path / "code").read_text() == f"{launcher.TOLD_TO_END}\n"
            (tmp_path / "code").unlink()
    assert not (tmp_path / "started").exists()


@linux_only
def test_kill_9_of_the_launcher_takes_the_cli_and_close_the_rest(tmp_path, mark):
    with launch_of(tmp_path, "sleep $MARK & exec sh -c 'echo up; setsid sleep $MARK; true'", mark) as launch:
        settings = json.loads((launch.folder / launcher.SETTINGS_FILE).read_text())
        settings["env"]["HOME"] = str(launch.folder / "home")
        (launch.folder / launcher.SETTINGS_FILE).write_text(json.dumps(settings))
        process = started(launch)
        (cli,) = psutil.Process(launcher_pid(launch)).children()
        wait_for_marked(mark, 3)  # the CLI, and two that sleep
        process.kill()
        process.wait(10)
        wait_until(lambda: not cli.is_running() or cli.status() == psutil.STATUS_ZOMBIE)
    assert marked(mark) == []
    process.communicate()


def test_whenever_it_is_killed_while_it_starts_nothing_runs_on(tmp_path, mark):
    for step in range(12):
        with launch_of(tmp_path, "exec sleep $MARK", mark, folder=f"run-{step}") as launch:
            process = subprocess.Popen([launch.path])
            time.sleep(step * 0.005)
            launch.kill()
            assert process.wait(10) in (launcher.TOLD_TO_END, launcher.CANNOT_START, -signal.SIGTERM)
            assert marked(mark) == []


def test_a_killed_launch_starts_nothing_any_more(tmp_path):
    with launch_of(tmp_path, "touch started") as launch:
        launch.kill()
        launch.kill()
        assert ran(launch).returncode == launcher.CANNOT_START
    assert not (tmp_path / "started").exists()


def test_a_launcher_that_was_stopped_is_ended_all_the_same(tmp_path, mark):
    with launch_of(tmp_path, "echo up; exec sleep $MARK", mark) as launch:
        process = started(launch)
        process.send_signal(signal.SIGSTOP)
    assert process.wait(10) == launcher.TOLD_TO_END
    assert marked(mark) == []
    process.communicate()


def test_a_launcher_that_does_not_listen_is_killed_with_its_descendants(tmp_path, mark, monkeypatch):
    monkeypatch.setattr(launch_module, "END_SECONDS", 0.2)
    deaf = f"""if True:
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["setsid", "sleep", "{mark}"])
        print("up", flush=True)
        while True:
            time.sleep(1)"""
    with launch_of(tmp_path, "") as launch:
        disguise = [str(launch_module.LAUNCHER), str(launch.folder)]
        process = subprocess.Popen([sys.executable, "-c", deaf, *disguise], stdout=subprocess.PIPE, text=True)
        assert line_of(process) == "up"
        wait_for_marked(mark, 2)
        (launch.folder / launcher.PID_FILE).write_text(str(process.pid))
        launch.kill()
        assert process.wait(10) == -signal.SIGKILL
        assert marked(mark) == []
    process.communicate()


def test_a_process_that_has_the_pid_now_is_not_hit(tmp_path, mark):
    stranger = subprocess.Popen(["sleep", mark])
    with (
        launch_of(tmp_path, "echo up; exec sleep $MARK", mark, folder="other") as other,
        launch_of(tmp_path, "") as launch,
    ):
        process = started(other)
        for pid in (stranger.pid, launcher_pid(other), 2**22 - 1):
            (launch.folder / launcher.PID_FILE).write_text(str(pid))
            launch.kill()
        assert (stranger.poll(), process.poll()) == (None, None)
    stranger.kill()
    stranger.wait()
    process.communicate()


def test_where_there_is_no_subreaper_ps_finds_the_descendants_and_the_group(tmp_path, mark):
    without = "import sys; from personas_nb.engine.agents import launcher; launcher.IS_LINUX = False"
    without += "; sys.exit(launcher.main(sys.argv[1], []))"
    body = "setsid sleep $MARK & (sleep $MARK & ) & echo up; sleep $MARK"
    with launch_of(tmp_path, body, mark) as launch:
        command = [sys.executable, "-c", without, str(launch.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert line_of(process) == "up"
            wait_for_marked(mark, 4)
            process.terminate()
            assert process.wait(10) == launcher.TOLD_TO_END
            assert_none_left(mark)


# --- the folder ---------------------------------------------------------------------------------------------------


def test_a_deep_and_locked_tree_is_removed_and_a_symlink_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = tmp_path / "tree"
    top.mkdir()
    (top / "link").symlink_to(outside)
    for number in range(300):
        (top / f"file-{number}").touch()
    within = os.open(top, os.O_RDONLY)
    for depth in range(1200):  # a path of 6 KB, where 4 KB is the most that can be opened
        os.mkdir("deep", dir_fd=within)
        below = os.open("deep", os.O_RDONLY, dir_fd=within)
        os.symlink(outside, "link", dir_fd=below)
        if depth % 100 == 0:
            os.fchmod(within, 0o500)
        os.close(within)
        within = below
    os.close(within)
    remove_tree(top)
    assert not top.exists()
    assert [path.name for path in outside.iterdir()] == ["kept"]


def test_a_folder_that_is_a_symlink_is_not_emptied(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="link"):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "outside" / "kept").exists()


def test_sweep_removes_the_folders_of_dead_workers_and_ends_what_runs_there(tmp_path, mark):
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    for name in ("alive/1", "dead/2"):
        (runs / name).mkdir(parents=True)
    outside.mkdir()
    (outside / "3").mkdir()
    (runs / "link").symlink_to(outside)
    (tmp_path / "other-name").symlink_to(runs)
    launch = launch_of(tmp_path, "echo up; exec sleep $MARK", mark, folder="runs/dead/4")
    process = started(launch)
    assert sweep(tmp_path / "other-name", lambda worker_id: worker_id == "alive") == ["2", "4"]
    assert process.wait(10) == launcher.TOLD_TO_END
    assert sorted(path.name for path in runs.iterdir()) == ["alive", "link"]
    assert (outside / "3").exists()
    assert marked(mark) == []
    process.communicate()


def test_sweep_has_nothing_to_do_where_nothing_ever_ran(tmp_path):
    assert sweep(tmp_path / "runs", lambda _: False) == []


# --- the environment ----------------------------------------------------------------------------------------------


def test_the_environment_holds_no_secret_and_no_folder_of_the_person(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-kernel")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TZ", "Europe/Vienna")
    env = cli_environment(base_url="http://127.0.0.1:1", folder=tmp_path / "run")
    assert env["ANTHROPIC_API_KEY"] == launch_module.PLACEHOLDER_KEY
    assert "AWS_SECRET_ACCESS_KEY" not in env
    assert env["TZ"] == "Europe/Vienna"
    for name in ("HOME", "CLAUDE_CONFIG_DIR", "TMPDIR", "CLAUDE_CODE_TMPDIR"):
        assert Path(env[name]).is_relative_to(tmp_path / "run")


def test_the_persons_own_login_comes_without_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    env = cli_environment(base_url="http://127.0.0.1:1", folder=tmp_path, as_user=True, extra={"A": "b"})
    assert "ANTHROPIC_API_KEY" not in env
    assert (env["HOME"], env["A"]) == ("/home/ada", "b")


@pytest.mark.parametrize(("uid", "says_so"), [(0, True), (1000, False)])
def test_only_root_says_that_it_is_a_sandbox(tmp_path, monkeypatch, uid, says_so):
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert ("IS_SANDBOX" in cli_environment(base_url="", folder=tmp_path)) is says_so


# --- the CLI ------------------------------------------------------------------------------------------------------


def refusal(cli_path: Path | str | None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        find_cli(None if cli_path is None else str(cli_path))
    assert caught.value.hint
    return caught.value


def test_the_bundled_cli_is_found_and_says_its_version():
    from claude_agent_sdk._cli_version import __cli_version__

    cli, version = find_cli(None)
    assert cli.parent.name == "_bundled"
    assert version == __cli_version__


def test_without_the_sdk_the_next_step_is_to_install_it(monkeypatch):
    monkeypatch.setattr(launch_module, "find_spec", lambda _: None)
    error = refusal(None)
    assert error.kind == "cli_not_found"
    assert 'pip install "personas-nb[claude]"' in error.hint


def test_a_cli_that_is_missing_or_may_not_be_executed_is_not_found(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for path, words in (
        (tmp_path / "gone", "no Claude CLI at"),
        (tmp_path, "no Claude CLI at"),
        (plain, "executed"),
    ):
        error = refusal(path)
        assert error.kind == "cli_not_found"
        assert words in error.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 'cannot load libc' >&2; exit 3", "exit code 3 when asked for its version: cannot load libc"),
        ("kill -SEGV $$", "exit code 139"),
        ("echo hello", "said no version when asked for it: hello"),
        ("echo '1.9.9 (Claude Code)'", "is version 1.9.9; 2.0.0 is the oldest that works"),
        ("while :; do echo noise; done", "ended with exit code"),
    ],
)
def test_a_cli_that_crashes_talks_nonsense_or_is_too_old_is_refused(tmp_path, body, words):
    error = refusal(script(tmp_path / "claude", body))
    assert error.kind == "cli"
    assert words in error.message


def test_a_cli_that_hangs_is_refused_and_nothing_of_it_runs_on(tmp_path, monkeypatch, mark):
    monkeypatch.setattr(launch_module, "PROBE_SECONDS", 0.7)
    error = refusal(script(tmp_path / "claude", f"setsid sleep {mark} & sleep {mark}"))
    assert error.kind == "cli"
    assert "within 0.7 s" in error.message
    assert marked(mark) == []


def test_a_cli_is_asked_once_until_its_file_changes_and_in_a_home_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "of the kernel")
    cli = script(tmp_path / "claude", f"env > '{tmp_path}/env'; echo x >> '{tmp_path}/asked'; echo 2.0.5")
    assert find_cli(str(cli)) == find_cli(str(cli)) == (cli, "2.0.5")
    assert (tmp_path / "asked").read_text() == "x\n"
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert "SECRET" not in env
    assert env["HOME"] != str(Path.home())
    assert not Path(env["HOME"]).exists()
    script(cli, f"echo x >> '{tmp_path}/asked'; echo 2.1.0")
    assert find_cli(str(cli))[1] == "2.1.0"
