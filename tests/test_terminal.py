"""The same verbs from a terminal: text, exit codes, standard input."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from support.model_server import ModelServer, Turn

from personas_nb import Studio

COMMAND = [sys.executable, "-m", "personas_nb"]


def personas(*words: str, given: str | bytes = "") -> subprocess.CompletedProcess[str]:
    given = given if isinstance(given, bytes) else given.encode()
    done = subprocess.run([*COMMAND, *words], input=given, capture_output=True, timeout=120, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def echo() -> str:
    with Studio() as studio:
        return studio.personas.create(name="Echo", system_prompt="Repeat the input.").slug


def test_a_persona_is_designed_applied_and_run(tmp_path):
    designed = personas("design", "notes", "Every weekday at 9 read notes.txt and post a summary")
    assert "personas apply" in designed.stdout
    assert "%persona" not in designed.stdout
    assert personas("apply").returncode == 0
    ran = personas("run", "notes", "-", given="hello there")
    assert ran.returncode == 0
    assert "hello there" in ran.stdout
    assert "✓ done" in ran.stdout


def test_quiet_prints_the_result_alone(echo):
    ran = personas("run", echo, "-", "--quiet", given="hello")
    assert "hello" in ran.stdout
    assert "done" not in ran.stdout


def test_the_standard_input_is_read_as_a_cell_is(echo):
    personas("run", echo, "-", "--quiet", given="---\na: 1\n")
    with Studio() as studio:
        assert studio.executions.get("latest").input_data == '{\n  "a": 1\n}'


def test_a_verb_that_fails_says_one_sentence_and_exits_with_1(echo):
    done = personas("show", "eco")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "There is no persona “eco”. Did you mean “echo”?\n"


@pytest.mark.parametrize(
    "words", [["shw"], ["run"], ["run", "echo", "--timeout", "soon"], ["run", "echo", "-o", "x"]]
)
def test_what_cannot_be_understood_exits_with_2(words):
    done = personas(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_run_that_fails_exits_with_1_unless_told_otherwise(echo, monkeypatch):
    with ModelServer([Turn.error(401, "no such key")] * 2) as server:
        monkeypatch.setenv("PERSONAS_PROVIDER", "custom")
        monkeypatch.setenv("PERSONAS_BASE_URL", server.url + "/v1")
        failed = personas("run", echo)
        assert personas("run", echo, "--no-raise").returncode == 0
    assert failed.returncode == 1
    assert "The run of Echo failed" in failed.stderr


def test_an_interrupt_cancels_the_run_and_exits_with_130(echo, monkeypatch):
    with ModelServer([Turn.text("Beginning", chunk=3).hang_after(1)]) as server, Studio() as studio:
        monkeypatch.setenv("PERSONAS_PROVIDER", "custom")
        monkeypatch.setenv("PERSONAS_BASE_URL", server.url + "/v1")
        child = subprocess.Popen([*COMMAND, "run", echo], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not (runs := studio.executions.list(status="running")) or not studio.executions.recorded(
            runs[0].id
        ):
            assert child.poll() is None, child.communicate()
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=60)
        assert studio.executions.list()[0].status == "cancelled"
    assert child.returncode == 130
    assert "cancelled" in said.decode()


def test_an_input_that_is_no_text_is_refused(echo):
    done = personas("run", echo, "-", given=b"\xff\xfe\x00")
    assert done.returncode == 1
    assert "UTF-8" in done.stderr


def test_a_terminal_that_lacks_a_glyph_is_served(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert personas("health").returncode == 0


def test_help_and_version_need_no_home(monkeypatch):
    monkeypatch.setenv("PERSONAS_HOME", "/proc/nowhere")
    assert "personas run NAME" in personas("run", "--help").stdout
    assert personas("--version").stdout.startswith("personas_nb ")
    assert "personas design" in personas("--help").stdout


def test_a_reader_that_has_seen_enough_is_no_error():
    shell = f"{' '.join(COMMAND)} help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_sentence_of_the_terminal_speaks_of_cells(echo):
    for words in (["list"], ["show", echo], ["help", "run"], ["help", "design"]):
        said = personas(*words).stdout
        assert not re.search(r"\bcells?\b", said), said
