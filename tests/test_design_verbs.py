"""Designing by typing: what a step shows, what a kernel is told, what stays to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in
from support.studios import line_of, python, settings_for
from test_design_model import PLAN, QUESTION

from personas_nb import Studio
from personas_nb.errors import Conflict, InvalidInput, ToolDenied
from personas_nb.verbs.designing import QUIET_MS

SENTENCE = "Every weekday at 9 read notes.txt and post a summary"
OTHER = "Every Monday at 7 read orders.csv and write a report"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestingShell]:
    monkeypatch.chdir(tmp_path)
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as studio:
        yield studio


def use(monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> None:
    for name, value in settings_for(server).items():
        monkeypatch.setenv(name, value)


def test_a_refinement_shows_what_changed_and_nothing_else(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    shell.run("%persona refine at 8 and also write a report file")
    text = shell.text
    assert "Changed: instructions, tool guidance, triggers, tools." in text
    assert "− gone  schedule  every weekday at 09:00" in text
    assert "+ new   schedule  every weekday at 08:00" in text
    assert "+ file_write" in text
    assert "Error Handling" not in text
    assert "%persona undo" in text


def test_a_design_shows_what_was_used_of_each_source(shell, tmp_path):
    (tmp_path / "mcp.json").write_text(
        json.dumps({"mcpServers": {"time": {"command": "uvx", "env": {"KEY": "s3cret"}}}})
    )
    shell.run("import pandas as pd; sales = pd.DataFrame({'day': ['monday'], 'eur': [2.0]})")
    shell.run(f'%persona design notes "{SENTENCE}" --context mcp.json sales')
    assert "MCP configuration: 1 server (time); the names of their settings, none of the values" in shell.text
    assert "DataFrame: 2 columns, 1 row; its schema, none of its values" in shell.text
    assert "s3cret" not in shell.text
    assert "monday" not in shell.text


def test_an_address_of_this_machine_is_refused_before_a_session_is_stored(shell, studio):
    with pytest.raises(ToolDenied, match="not an address of the public internet"):
        shell.run(f'%persona design notes "{SENTENCE}" --context http://127.0.0.1:9/api.yaml')
    assert studio.sessions.list() == []


def test_to_do_stays_on_the_card_until_it_is_done(shell, studio):
    shell.run('%persona design post "Read notes.txt and send me a summary in Slack"')
    assert "To do" in shell.run("%persona apply").text
    card = shell.run("%persona show post").text
    assert "☐ to do  There is no credential for Slack." in card
    assert "%persona credentials add slack slack" in card
    studio.credentials.add("slack", "slack", {"bot_token": "xoxb-0123456789"})
    card = shell.run("%persona show post").text
    assert "no credential" not in card
    assert "slack is not used yet" in card
    shell.run("%persona apply")
    assert "To do" not in shell.run("%persona show post").text


def test_a_redesign_shows_the_conflict_and_what_to_type(shell, studio):
    shell.run(f'%persona design notes "{SENTENCE}"')
    shell.run("%persona apply")
    shell.run('%persona set notes identity="You are my clerk."')
    shell.run(f'%persona design notes "{OTHER}"')
    assert "▲ conflict  Identity" in shell.text
    assert "%persona take identity" in shell.text
    assert "Kept as you wrote it: Identity." in shell.run("%persona apply").text
    assert studio.personas.get("notes").prompt.identity == "You are my clerk."
    shell.run("%persona take identity")
    assert "Changed: identity." in shell.text
    shell.run("%persona apply")
    assert OTHER.partition("read ")[2] in studio.personas.get("notes").prompt.identity


def test_a_kernel_is_told_when_another_one_has_changed_the_session_since_it_was_shown(shell, studio):
    session = shell.run(f'%persona design notes "{SENTENCE}"').value
    code = """
    import sys
    from personas_nb import Studio
    with Studio() as studio:
        print(studio.sessions.get(sys.argv[1]).refine("at 8 instead").state, flush=True)
    """
    with python(code, session.id) as process:
        assert line_of(process) == "preview"
        process.wait()
    with pytest.raises(Conflict, match=r"since you saw it \(“at 8 instead”\)") as told:
        shell.run("%persona refine call it Morning post")
    assert f"%persona sessions resume {session.id[:8]}" in told.value.hint
    shell.run(f"%persona sessions resume {session.id[:8]}")
    shell.run("%persona refine call it Morning post")
    assert [turn.text for turn in studio.sessions.get(session.id).record.turns][1:] == [
        "at 8 instead",
        "call it Morning post",
    ]


def test_what_was_changed_in_python_of_the_same_kernel_needs_no_warning(shell, studio):
    session = shell.run(f'%persona design notes "{SENTENCE}"').value
    studio.sessions.get(session.id).refine("at 8 instead")
    assert "0 8 * * 1-5" in shell.run("%persona apply").text or studio.personas.list()


def test_the_history_of_a_session_is_shown_step_by_step(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    shell.run("%persona refine at 8 instead")
    shell.run("%persona apply")
    text = shell.run("%persona sessions show latest").text
    assert "1  asked for" in text
    assert "2  changed" in text
    assert "at 8 instead" in text
    assert "triggers" in text
    assert "applied" in text


def test_a_question_is_answered_by_number_and_designed_by_a_model(shell, studio, monkeypatch):
    turns = [Turn.output(QUESTION, where="question"), Turn.output(PLAN, where="plan")]
    with ModelServer(turns) as server:
        use(monkeypatch, server)
        shell.run('%persona design "Summarise my inbox"')
        assert "Which inbox?" in shell.text
        assert '%persona answer "Private"' in shell.text
        shell.run("%persona answer 2")
    assert "Inbox digest" in shell.text
    assert server.requests[1].mentions("Private")


def test_free_text_is_an_answer_too(shell, monkeypatch):
    turns = [Turn.output(QUESTION, where="question"), Turn.output(PLAN, where="plan")]
    with ModelServer(turns) as server:
        use(monkeypatch, server)
        shell.run('%persona design "Summarise my inbox"')
        shell.run("%persona answer the one of my boss's team")
    assert server.requests[1].mentions("the one of my boss's team")


def test_a_tool_that_a_model_made_up_blocks_with_the_verb_that_helps(shell, studio, monkeypatch):
    turns = [
        Turn.output(PLAN | {"suggested_tools": ["gmail_reed"]}, where="plan"),
        Turn.output({"suggested_tools": ["gmail_read"]}, where="change"),
    ]
    with ModelServer(turns) as server:
        use(monkeypatch, server)
        shell.run('%persona design post "Summarise my inbox"')
        assert '%persona refine "use gmail_read instead of gmail_reed"' in shell.text
        with pytest.raises(Exception, match="There is no tool “gmail_reed”"):
            shell.run("%persona apply")
        assert studio.personas.list() == []
        shell.run('%persona refine "use gmail_read instead of gmail_reed"')
        assert "+ gmail_read" in shell.text
        assert "This step cost under $0.0001, the session " in shell.text
        shell.run("%persona apply")
    assert [tool.name for tool in studio.tools.assigned("post")] == ["gmail_read"]


def test_a_design_that_takes_a_while_shows_how_far_it_is(shell, monkeypatch):
    pieces = len(json.dumps(PLAN)) // 20
    slowly = {"argument_chunk": 20, "delay_seconds": 3 * QUIET_MS / 1000 / pieces}
    with ModelServer([Turn.output(PLAN, where="plan", **slowly)]) as server:
        use(monkeypatch, server)
        shell.run('%persona design "Summarise my inbox"')
    shown = [
        output["data"]["text/plain"]
        for output in shell.displays
        if "Designing" in output["data"]["text/plain"]
    ]
    assert "asked  claude-sonnet-5-5" in shown[-1]
    assert any("writes" in text for text in shown)
    assert "✓ done" in shown[-1]
    assert "under $0.0001" in shown[-1]


def test_nothing_is_shown_on_the_way_of_a_fast_design(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    assert "Designing" not in shell.text


def test_a_wish_that_changes_nothing_is_said_to_change_nothing(shell, monkeypatch):
    turns = [Turn.output(PLAN, where="plan"), Turn.output({"name": PLAN["name"]}, where="change")]
    with ModelServer(turns) as server:
        use(monkeypatch, server)
        shell.run('%persona design "Summarise my inbox"')
        shell.run("%persona refine make it better")
    assert "Nothing of the design changed." in shell.text


def test_taking_what_is_not_kept_says_what_is(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    with pytest.raises(InvalidInput, match="Nothing of yours is kept under “identity”"):
        shell.run("%persona take identity")


def test_what_others_wrote_is_text_on_every_card_of_a_session(shell, tmp_path):
    evil = '<img src=x onerror="alert(1)">\x1b[31m'
    (tmp_path / "evil.md").write_text(evil)
    shell.run(f'%persona design notes "{SENTENCE}" --context evil.md')
    shown = json.dumps([output["data"] for output in shell.displays] + shell.values)
    shell.run(f"%%persona refine\nalso write {evil} to a file")
    shown += json.dumps([output["data"] for output in shell.displays] + shell.values)
    assert "&lt;img src=x" in shown
    assert "\\u001b" not in shown
    assert "<img" not in "".join(value.get("text/html", "") for value in shell.values)
