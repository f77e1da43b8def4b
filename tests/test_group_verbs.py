"""Groups as they are typed, and what is done with all personas of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in
from support.studios import settings_for
from test_terminal import personas

from personas_nb import Studio
from personas_nb.errors import Conflict, ExecutionFailed, InvalidInput, NotFound, PersonaError
from personas_nb.verbs.usage import WrongUsage


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    """Two personas in Finance, one in no group."""
    with Studio() as opened:
        opened.groups.create("Finance", color="blue")
        for name in ("Ledger", "Mail boy", "Stray"):
            opened.personas.create(name=name, system_prompt="You watch.")
        for name in ("ledger", "mail-boy"):
            opened.personas.update(name, group="Finance")
        yield opened


# The folders


def test_a_group_is_made_with_a_colour_and_filled(shell: TestingShell, studio: Studio) -> None:
    assert "Back office, teal" in shell.run("%persona groups create Back office --color TEAL --order 2").text
    assert "nothing changed" in shell.run("%persona groups create back  OFFICE").text
    assert (
        "Stray, Ledger are in Back office."
        in shell.run('%persona groups add "back office" stray ledger').text
    )
    assert "nothing changed" in shell.run('%persona groups add "back office" stray').text
    assert "in no group" in shell.run("%persona groups take-out stray").text
    assert "nothing changed" in shell.run("%persona groups take-out stray").text
    text = shell.run("%persona groups").text
    assert "■ Finance" in text
    assert "teal" in text
    assert [persona.slug for persona in studio.groups.members("back office")] == ["ledger"]


def test_personas_are_listed_by_group_and_a_collapsed_one_is_a_line(
    shell: TestingShell, studio: Studio
) -> None:
    text = shell.run("%persona list").text
    assert text.index("■ Finance · blue · 2 personas") < text.index("ledger") < text.index("□ in no group")
    shell.run("%persona groups collapse Finance")
    studio.personas.disable("ledger")
    text = shell.run("%persona list").text
    assert "■ Finance · blue · 2 personas · 1 off, collapsed  %persona groups expand Finance" in text
    assert "ledger" not in text
    assert "stray" in text
    assert "nothing changed" in shell.run("%persona groups collapse Finance").text
    shell.run("%persona groups expand Finance")
    assert "ledger" in shell.run("%persona list").text


def test_one_group_is_shown_with_its_personas_and_their_last_runs(
    shell: TestingShell, studio: Studio
) -> None:
    studio.run("ledger", "x")
    text = shell.run("%persona groups finance").text
    assert "✓ done · REHEARSAL" in text
    assert "never run" in text


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("groups create Ops --color rouge", InvalidInput, "blue, green, .* or hex"),
        ("groups create Ops --color #12", InvalidInput, "or hex"),
        ('groups create " "', InvalidInput, "name"),
        ("groups set Finance name=Ops", Conflict, "There is a group “Ops” already"),
        ("groups set Finance collapsed=perhaps", InvalidInput, "collapsed"),
        ("groups set Finance colour=red", InvalidInput, "Did you mean “color”"),
        ("groups set Finance id=x", InvalidInput, "cannot be set"),
        ("groups add Finanse stray", NotFound, "Did you mean “finance”"),
        ("groups add Finance stray nobody", NotFound, "no persona “nobody”"),
        ("groups enable Nowhere", NotFound, "no group “Nowhere”"),
        ("groups assign Finance file_reed", NotFound, "Did you mean “file_read”"),
        ("groups run Finance --max-turns none", WrongUsage, "max-turns"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    shell: TestingShell, studio: Studio, line: str, kind: type[PersonaError], words: str
) -> None:
    studio.groups.create("Ops")
    before = studio.groups.list(), studio.personas.list()
    with pytest.raises(kind, match=words):
        shell.run(f"%persona {line}")
    assert (studio.groups.list(), studio.personas.list()) == before


def test_a_group_is_renamed_to_its_own_name_in_another_case(shell: TestingShell, studio: Studio) -> None:
    shell.run('%persona groups set Finance name=FINANCE color="#abc" sort_order=-1')
    (group,) = studio.groups.list()
    assert (group.name, group.color, group.sort_order) == ("FINANCE", "#AABBCC", -1)
    shell.run("%persona groups set finance color=None")
    assert studio.groups.get("finance").color_word == ""


# All personas of one


def test_all_of_a_group_are_switched_and_what_was_so_already_is_said(
    shell: TestingShell, studio: Studio
) -> None:
    studio.personas.disable("ledger")
    text = shell.run("%persona groups disable Finance").text
    assert "○ off already" in text
    assert [persona.enabled for persona in studio.personas.list()] == [False, False, True]
    shell.run("%persona groups Finance enable")
    assert all(persona.enabled for persona in studio.personas.list())
    shell.run("%persona groups archive Finance")
    assert [persona.slug for persona in studio.personas.list()] == ["stray"]
    assert "Nobody is in it" in shell.run("%persona groups enable Finance").text


def test_all_of_a_group_get_a_tool_and_lose_it(shell: TestingShell, studio: Studio) -> None:
    assert "may use file_read" in shell.run("%persona groups assign Finance file_read").text
    assert [tool.name for tool in studio.tools.assigned("mail-boy")] == ["file_read"]
    assert studio.tools.assigned("stray") == []
    assert "may use no tool" in shell.run("%persona groups unassign Finance file_read").text


def test_an_action_that_fails_with_one_is_done_with_the_others(studio: Studio) -> None:
    def act(persona: object) -> str:
        if getattr(persona, "slug", "") == "ledger":
            raise InvalidInput("Not this one.")
        return "fine"

    failed, fine = studio.groups.each("Finance", act)
    assert (str(failed.error), failed.result) == ("Not this one.", None)
    assert (fine.error, fine.result) == (None, "fine")


def test_all_of_a_group_run_with_the_same_input_but_those_that_are_off(
    shell: TestingShell, studio: Studio
) -> None:
    studio.personas.create(name="Off", system_prompt="x", group="Finance", enabled=False)
    shell.run("%%persona groups run Finance -o runs\nWhat is new?")
    runs = shell.user_ns["runs"]
    assert {(run.persona_name, run.status, run.input_data) for run in runs} == {
        ("Ledger", "completed", "What is new?"),
        ("Mail boy", "completed", "What is new?"),
    }
    assert "Run of Finance  ✓ done" in shell.text
    assert "%persona enable off" in shell.text
    assert len(studio.executions.list()) == 2


def test_the_table_of_a_group_that_ran_is_shown_once(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona groups run Finance")
    assert shell.text.count("Run of Finance") == 1
    (last,) = {output["transient"]["display_id"] for output in shell.displays}
    assert last


def test_runs_of_a_group_that_fail_are_shown_and_raise(
    shell: TestingShell, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [Turn.text("Done."), Turn.error(401, "bad key")]
    with ModelServer(turns, repeat_last=True) as server:
        for name, value in settings_for(server).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ExecutionFailed, match="1 of 2 runs failed"):
            shell.run("%persona groups run Finance")
        assert "1 of 2 done" in shell.text
        assert "✕ failed" in shell.text
        shell.run("%persona groups run Finance --no-raise")
        assert "0 of 2 done" in shell.text


def test_a_group_in_the_background_goes_on_by_itself(shell: TestingShell, studio: Studio) -> None:
    handles = shell.run("%persona groups run Finance --background").value
    assert {handle.wait(60).status for handle in handles} == {"completed"}


def test_a_terminal_prints_the_table_and_the_exit_code(studio: Studio) -> None:
    done = personas("groups", "run", "Finance", "-", given="What is new?")
    assert done.returncode == 0
    assert "Run of Finance  ✓ done" in done.stdout
    assert "%persona" not in done.stdout
    assert personas("groups", "run", "Finance", "--background").returncode == 2
    assert personas("groups", "run", "Nowhere").returncode == 1
