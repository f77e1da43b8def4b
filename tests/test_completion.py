"""Completion on %persona lines in a real IPython completer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.completer import provisionalcompleter
from support.shell import TestingShell, shell_in

from personas_nb import Studio
from personas_nb.verbs import completion


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as opened:
        opened.personas.create(name="Mail boy")
        opened.personas.create(name="Notes")
        yield opened


def completed(shell: TestingShell, line: str) -> list[str]:
    """Each completion as the whole line that it makes."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    return [line[: one.start] + one.text for one in found]


def test_verbs_are_offered_and_nothing_of_python(shell):
    assert completed(shell, "%persona re") == ["%persona refine", "%persona reviews"]
    assert "%persona design" in completed(shell, "%persona ")
    assert "%persona print" not in completed(shell, "%persona ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%persona runs sh", ["%persona runs show"]),
        ("%persona review ap", ["%persona review approve"]),
        ("%persona run ma", ["%persona run mail-boy"]),
        ("%%persona run ma", ["%%persona run mail-boy"]),
        ("run = %persona run no", ["run = %persona run notes"]),
        ('%persona show "Ma', ['%persona show "Mail boy"']),
        (
            "%persona run notes --max",
            ["%persona run notes --max-budget-usd", "%persona run notes --max-turns"],
        ),
        ("%persona run notes --provider reh", ["%persona run notes --provider rehearsal"]),
        ("%persona run notes --provider custom --qu", ["%persona run notes --provider custom --quiet"]),
        ("%persona set notes max_t", ["%persona set notes max_turns="]),
        (
            "%persona set notes max_turns=5 model_profile.m",
            ["%persona set notes max_turns=5 model_profile.model="],
        ),
        ("%persona tools assign notes file_r", ["%persona tools assign notes file_read"]),
        (
            "%persona tools assign notes file_read file_w",
            ["%persona tools assign notes file_read file_write"],
        ),
        ("%persona diff notes ", ["%persona diff notes 1", "%persona diff notes current"]),
        ("%persona runs list --status can", ["%persona runs list --status cancelled"]),
        ("%persona memories no", ["%persona memories notes"]),
        ("%persona help des", ["%persona help design"]),
    ],
)
def test_what_may_come_next_is_offered(shell, studio, line, expected):
    assert completed(shell, line) == expected


def test_ids_of_runs_and_sessions_are_offered(shell, studio):
    run = studio.run("notes", provider="rehearsal")
    session = studio.design("Every day at 9 read notes.txt", provider="rehearsal")
    assert completed(shell, "%persona runs show ") == [
        f"%persona runs show {run.id[:8]}",
        "%persona runs show latest",
    ]
    assert f"%persona sessions resume {session.id[:8]}" in completed(shell, "%persona sessions resume ")


def test_an_option_that_was_given_is_not_offered_again(shell):
    assert "%persona run notes --quiet --quiet" not in completed(shell, "%persona run notes --quiet --")


def test_files_are_offered_for_files(shell, tmp_path, monkeypatch):
    (tmp_path / "mails.txt").write_text("")
    (tmp_path / "mail folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert completed(shell, "%persona run notes --file mails") == ["%persona run notes --file mails.txt"]
    assert completed(shell, "%persona run notes --file mail")[0].endswith('"mail folder/"')


def test_python_lines_are_left_alone(shell):
    assert "import sys" not in completed(shell, "%personality ")
    assert "print" in completed(shell, "prin")


def test_completing_starts_no_worker_and_makes_no_home(shell):
    completed(shell, "%persona run ")
    kernel = shell.magics_manager.registry["PersonaMagics"].kernel
    assert "worker" not in kernel.studio.__dict__
    assert not Path(os.environ["PERSONAS_HOME"]).exists()


def test_a_home_that_is_broken_does_not_disturb_who_types(shell):
    home = Path(os.environ["PERSONAS_HOME"])
    home.mkdir(parents=True)
    (home / "personas.db").write_text("no database")
    with Studio() as studio:
        assert completion.complete("run ma", lambda: studio) == ("", [])
    assert "%persona run --help" not in completed(shell, "%persona run ma")


@given(st.text())
def test_no_line_makes_a_completion_fail(line):
    fragment, words = completion.complete(line)
    assert line.endswith(fragment)
    assert all(fragment.strip("\"'").lower() in word.lower() for word in words)


def test_fields_of_few_values_offer_them(shell, studio):
    assert completed(shell, "%persona set notes enabled=") == [
        "%persona set notes enabled=true",
        "%persona set notes enabled=false",
    ]
    assert "%persona set notes model_profile.engine=direct" in completed(
        shell, "%persona set notes model_profile.engine="
    )
    assert completed(shell, "%persona set notes model_profile.provider=re") == [
        "%persona set notes model_profile.provider=rehearsal"
    ]
