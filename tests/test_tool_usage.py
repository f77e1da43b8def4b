"""``%persona tools``: who has which tool, what it needs, how often it was called, how often that failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mcp_servers import odd_server
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in
from support.studios import persona_of, settings_for

from personas_nb import Studio
from personas_nb.errors import NotFound, PersonaError


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestingShell]:
    calls = [("greet", {"name": "Ada"}), ("greet", {"name": ""}), ("odd__echo", {"text": "hello"})]
    with ModelServer([Turn.tools(*calls), Turn.text("Done.")], repeat_last=True) as server:
        for name, value in settings_for(server).items():
            monkeypatch.setenv(name, value)
        yield from shell_in(tmp_path)


@pytest.fixture
def studio(shell: TestingShell) -> Iterator[Studio]:
    with Studio() as studio:
        persona_of(studio)
        yield studio


def greet(name: str) -> str:
    """Greet somebody."""
    if not name:
        raise ValueError("nobody to greet")
    return f"Hello {name}"


def test_calls_and_failures_are_counted_for_functions_and_servers(shell: TestingShell, studio: Studio):
    shell.user_ns["greet"] = greet
    shell.run("%persona tools add greet")
    shell.run("%persona tools assign watcher greet")
    command = " ".join(odd_server("plain"))
    shell.run(f"%persona servers add watcher odd {command}")
    shell.run("%persona run watcher --quiet")
    view = shell.run("%persona tools")
    rows = {line.split()[0]: line for line in view.text.splitlines() if line.strip()}
    assert rows["greet"].split()[-3:] == ["watcher", "2", "1"]
    assert rows["odd.echo"].split()[-2:] == ["watcher", "1"]
    assert "server odd" in rows["odd.echo"]
    assert "this kernel" in rows["greet"]
    assert "watcher" not in rows["file_read"]
    usage = studio.metrics.tools("watcher").set_index("tool")
    assert list(usage.loc["greet", ["calls", "errors"]]) == [2, 1]


def test_a_tool_that_asks_first_says_so_wherever_it_is_shown(shell: TestingShell, studio: Studio):
    shell.run("%persona tools assign watcher file_read file_write")
    shell.run("%persona tools approve-first watcher file_write")
    rows = {line.split()[0]: line for line in shell.run("%persona tools").text.splitlines() if line.strip()}
    assert "watcher (asks you first)" in rows["file_write"]
    assert "asks you first" not in rows["file_read"]
    assert "asks you before  file_write" in shell.run("%persona show watcher").text
    explained = shell.run("%persona run watcher --explain").text.splitlines()
    assert [line.split()[0] for line in explained if "? asks you first" in line] == ["file_write"]


def test_a_function_that_is_no_tool_yet_is_said_to_be_one(shell: TestingShell, studio: Studio):
    shell.user_ns["greet"] = greet
    with pytest.raises(NotFound, match=r"no tool yet\. Make it one with `%persona tools add greet`\."):
        shell.run("%persona tools assign watcher file_read greet")
    assert studio.tools.assigned("watcher") == []


def test_a_server_is_listed_checked_and_removed(shell: TestingShell, studio: Studio):
    command = " ".join(odd_server("plain"))
    added = shell.run(f"%persona servers add watcher odd --env COLOUR=blue {command}").text
    assert "odd.echo" in added
    assert (
        "nothing changed" in shell.run(f"%persona servers add watcher odd --env COLOUR=blue {command}").text
    )
    assert "healthy" in shell.run("%persona servers check watcher odd").text
    assert "watcher" in shell.run("%persona servers").text
    shell.run("%persona servers remove watcher odd")
    assert "There is no server" in shell.run("%persona servers list watcher").text


def test_a_secret_comes_from_the_environment_and_is_not_shown(
    shell: TestingShell, studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_SECRET", "correct horse battery")
    command = " ".join(odd_server("plain"))
    view = shell.run(f"%persona servers add watcher odd --from-env API_TOKEN=MY_SECRET -- {command}")
    assert "API_TOKEN: set" in view.text
    assert "correct horse" not in view.text + view.html
    with pytest.raises(PersonaError, match="MY_SECRT is not set"):
        shell.run(f"%persona servers add watcher odd --from-env API_TOKEN=MY_SECRT -- {command}")


def test_a_function_that_the_notebook_does_not_define_is_said(shell: TestingShell, studio: Studio):
    with pytest.raises(NotFound, match="The notebook defines no “greett”"):
        shell.run("%persona tools add greett")


def test_a_lambda_is_called_by_its_variable(shell: TestingShell, studio: Studio):
    shell.user_ns["double"] = lambda number=1: number * 2
    shell.run("%persona tools add double --effect none")
    assert studio.tools.get("double").effect == "none"
