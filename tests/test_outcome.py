"""Completed or incomplete: the last assessment decides, else the words."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn
from support.studios import persona_of, studio_at

from personas_nb.engine.outcome import judge


@pytest.mark.parametrize(
    "text",
    [
        "Error: no such file",
        "I failed to read it.",
        "I was UNABLE TO log in.",
        "It could not be found.",
    ],
)
def test_an_error_phrase_alone_is_incomplete(text: str):
    assert judge(text, None) == "incomplete"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "All is well.",
        "error: one line; the rest was successfully read",
        "I failed to read one; completed the others.",
        "Could not open it at first. Done.",
        "It could not be read, so I worked around it.",
        "unable to connect, recovered after a moment",
        "terror: a film",
        "I refailed toasters",
    ],
)
def test_words_of_success_or_resolution_and_words_inside_words_complete(text: str):
    assert judge(text, None) == "completed"


@pytest.mark.parametrize("word", ["unfixed", "undone", "mishandled"])
def test_a_word_inside_another_resolves_nothing(word: str):
    assert judge(f"error: {word}", None) == "incomplete"


def test_an_assessment_wins_over_the_words():
    assert judge("Error: could not read it.", {"accomplished": True}) == "completed"
    assert judge("Successfully completed.", {"accomplished": False}) == "incomplete"


def assessed(*verdicts: bool) -> str:
    lines = [
        '{"outcome_assessment": {"accomplished": %s, "summary": "s"}}' % str(verdict).lower()  # noqa: UP031 - braces
        for verdict in verdicts
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [((True, False), "incomplete"), ((False, True), "completed"), ((True, False, True), "completed")],
)
def test_the_last_assessment_of_a_run_wins(home: Path, verdicts: tuple[bool, ...], status: str):
    with ModelServer([Turn.text(assessed(*verdicts), chunk=11)]) as server, studio_at(home, server) as studio:
        persona_of(studio)
        run = studio.run("watcher")
    assert run.status == status
    assert run.outcome == {"accomplished": verdicts[-1], "summary": "s"}


def test_a_failed_run_keeps_its_pending_reviews(home: Path):
    asked = '{"manual_review": {"title": "Pay?", "description": "900 USD"}}\n'
    with (
        ModelServer([Turn.text(asked + "and then " * 20, chunk=20).cut_after(6)]) as server,
        studio_at(home, server) as studio,
    ):
        persona_of(studio)
        run = studio.run("watcher")
        assert run.status == "failed"
        assert [review.title for review in studio.reviews.list(execution_id=run.id)] == ["Pay?"]
