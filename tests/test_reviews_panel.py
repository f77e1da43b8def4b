"""Deciding with buttons: the panel of reviews and its static twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ipywidgets import Button, Label, Text, Widget
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in
from support.studios import persona_of, settings_for, workspace

from personas_nb import Studio
from personas_nb.entities.execution import Execution
from personas_nb.errors import InvalidInput
from personas_nb.panels.reviews import NOTE_LIMIT_CHARS, ReviewsPanel
from personas_nb.verbs.dispatch import perform
from personas_nb.verbs.parsing import parse_argv
from personas_nb.verbs.surface import Shell
from personas_nb.views.view import View

SCRIPT = [
    Turn.tools(("file_write", {"path": "report.txt", "content": "two\nlines\n"}), text="I write it."),
    Turn.text("Done."),
]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(SCRIPT, repeat_last=True) as started:
        yield started


@pytest.fixture
def studio(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    for name, value in settings_for(server).items():
        monkeypatch.setenv(name, value)
    with Studio(tmp_path / "home") as opened:
        persona_of(opened, "file_read", "file_write")
        opened.tools.require_approval("watcher", "file_write")
        yield opened


def within(widget: Widget) -> Iterator[Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from within(child)


def button(panel: ReviewsPanel, name: str) -> Button:
    return next(w for w in within(panel.widget) if isinstance(w, Button) and w.description == name)


def labels(panel: ReviewsPanel) -> str:
    return "\n".join(w.value for w in within(panel.widget) if isinstance(w, Label))


def ended(studio: Studio, run: Execution) -> Execution:
    return studio.executions.handle(run.id).wait(60)


def report(studio: Studio) -> Path:
    return workspace(studio, studio.personas.get("watcher")) / "report.txt"


def test_the_twin_says_what_would_be_done_before_anybody_decides(studio: Studio):
    studio.run("watcher")
    panel = ReviewsPanel(studio)
    assert "May Watcher call file_write?" in labels(panel)
    assert "+two" in panel.twin.text
    assert "1 decision open" in panel.twin.text


def test_approve_lets_the_run_go_on(studio: Studio):
    run = studio.run("watcher")
    seen: list[View] = []
    panel = ReviewsPanel(studio, refresh=seen.append)
    button(panel, "Approve").click()
    assert ended(studio, run).status == "completed"
    assert report(studio).read_text() == "two\nlines\n"
    assert "approved" in seen[-1].text
    assert f"%persona runs wait {run.id[:8]}" in seen[-1].text
    assert "Nothing waits for you." in labels(panel)


def test_reject_takes_the_note_to_the_persona(studio: Studio, server: ModelServer):
    run = studio.run("watcher")
    panel = ReviewsPanel(studio)
    next(w for w in within(panel.widget) if isinstance(w, Text)).value = "  not on a Friday  "
    button(panel, "Reject").click()
    ended(studio, run)
    assert not report(studio).exists()
    assert studio.reviews.list(status=None)[0].note == "not on a Friday"
    assert "not on a Friday" in str(server.requests[-1].messages)


def test_a_note_is_cut_at_its_limit(studio: Studio):
    studio.run("watcher")
    panel = ReviewsPanel(studio)
    next(w for w in within(panel.widget) if isinstance(w, Text)).value = "x" * (NOTE_LIMIT_CHARS + 1)
    button(panel, "Reject").click()
    assert len(studio.reviews.list(status=None)[0].note or "") == NOTE_LIMIT_CHARS


def test_what_another_kernel_decided_meanwhile_stays_and_is_said(studio: Studio):
    run = studio.run("watcher")
    panel = ReviewsPanel(studio)
    with Studio(studio.home) as other:
        other.reviews.reject("latest", note="elsewhere")
    button(panel, "Approve").click()
    ended(studio, run)
    assert studio.reviews.list(status=None)[0].status == "rejected"
    assert "decided elsewhere before" in panel.twin.text
    assert not report(studio).exists()


def test_looking_again_takes_up_what_waits_by_then(studio: Studio):
    panel = ReviewsPanel(studio)
    assert "Nothing waits for you." in panel.twin.text
    studio.run("watcher")
    button(panel, "Look again").click()
    assert "May Watcher call file_write?" in labels(panel)
    assert "+two" in panel.twin.text


def test_a_persona_that_is_gone_takes_its_decisions_out_of_the_panel(studio: Studio):
    studio.run("watcher")
    panel = ReviewsPanel(studio)
    studio.personas.purge("watcher")
    button(panel, "Approve").click()
    assert "Nothing waits for you." in labels(panel)
    assert "file_write" not in panel.twin.text


def test_the_verb_shows_twin_and_buttons_as_two_outputs(
    tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    studio.run("watcher")
    monkeypatch.setenv("PERSONAS_HOME", str(studio.home))
    for shell in shell_in(tmp_path):
        assert isinstance(shell, TestingShell)
        shell.run("%persona panel reviews")
        kinds = [set(output["data"]) for output in shell.displays]
    assert {"text/plain", "text/html"} in kinds
    assert any("application/vnd.jupyter.widget-view+json" in kind for kind in kinds)


def test_in_a_terminal_the_verb_says_what_decides_there(studio: Studio):
    with pytest.raises(InvalidInput, match="Buttons need a notebook"):
        perform(parse_argv(["panel", "reviews"]), studio=studio, surface=Shell())
