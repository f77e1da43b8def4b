"""Workspaces: one folder per persona that stays, and another for whoever runs at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.studios import line_of, python

from personas_nb.engine import workspaces
from personas_nb.engine.workspaces import Workspace, workspace_of
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput

PERSONA = Persona(name="Watcher")


def first_of(home: Path) -> Path:
    folder = workspace_of(home, PERSONA)
    folder.mkdir(parents=True)
    (folder / "notes.md").write_text("known")
    return folder


def test_runs_after_one_another_share_the_folder(home: Path):
    folders = []
    for _ in range(3):
        workspace = Workspace(home, PERSONA)
        folders.append(workspace.folder)
        assert workspace.note == ""
        workspace.release()
    assert set(folders) == {workspace_of(home, PERSONA)}


def test_a_run_at_the_same_time_begins_with_a_copy_and_says_so(home: Path):
    first = first_of(home)
    one, two = Workspace(home, PERSONA), Workspace(home, PERSONA)
    assert one.folder == first != two.folder
    assert "Another run of Watcher is using its workspace" in two.note
    assert (two.folder / "notes.md").read_text() == "known"
    (two.folder / "notes.md").write_text("changed")
    assert (first / "notes.md").read_text() == "known"
    one.release()
    two.release()


def test_the_second_folder_stays_as_the_last_run_left_it(home: Path):
    first_of(home)
    holder, parallel = Workspace(home, PERSONA), Workspace(home, PERSONA)
    (parallel.folder / "notes.md").write_text("of the second")
    parallel.release()
    again = Workspace(home, PERSONA)
    assert again.folder == parallel.folder
    assert (again.folder / "notes.md").read_text() == "of the second"
    again.release()
    holder.release()


def test_the_files_of_a_run_follow_it(home: Path):
    first = first_of(home)
    (first / "inputs").mkdir()
    (first / "inputs" / "table (1).csv").write_text("1,2")
    holder = Workspace(home, PERSONA)
    parallel = Workspace(home, PERSONA, ["inputs/table (1).csv (3 bytes)"])
    assert (parallel.folder / "inputs" / "table (1).csv").read_text() == "1,2"
    parallel.release()
    holder.release()


def test_a_file_that_is_gone_is_a_sentence_and_takes_no_folder(home: Path):
    first_of(home)
    holder = Workspace(home, PERSONA)
    with pytest.raises(InvalidInput, match=r"inputs/gone\.csv cannot be copied"):
        Workspace(home, PERSONA, ["inputs/gone.csv (3 bytes)"])
    parallel = Workspace(home, PERSONA)
    assert parallel.folder.name.endswith(".2")
    parallel.release()
    holder.release()


def test_a_workspace_too_large_to_copy_is_left_and_said(home: Path, monkeypatch: pytest.MonkeyPatch):
    first_of(home)
    monkeypatch.setattr(workspaces, "COPY_LIMIT_BYTES", 3)
    holder, parallel = Workspace(home, PERSONA), Workspace(home, PERSONA)
    assert "too large to copy" in parallel.note
    assert not (parallel.folder / "notes.md").exists()
    parallel.release()
    holder.release()


def test_links_are_copied_as_links(home: Path, tmp_path: Path):
    (tmp_path / "outside.txt").write_text("not ours")
    first = first_of(home)
    (first / "link").symlink_to(tmp_path / "outside.txt")
    (first / "dangling").symlink_to("nowhere")
    holder, parallel = Workspace(home, PERSONA), Workspace(home, PERSONA)
    assert (parallel.folder / "link").is_symlink()
    parallel.release()
    holder.release()


HOLD = """
import sys
from pathlib import Path
from personas_nb.engine.workspaces import Workspace
from personas_nb.entities.persona import Persona
held = Workspace(Path(sys.argv[1]), Persona(id=sys.argv[2], name="Watcher"))
print(held.folder.name, flush=True)
sys.stdin.read()
"""


def test_another_process_gets_another_folder_until_the_first_is_gone(home: Path):
    first = first_of(home)
    with python(HOLD, str(home), PERSONA.id) as process:
        assert line_of(process) == first.name
        parallel = Workspace(home, PERSONA)
        assert parallel.folder.name == f"{first.name}.2"
        process.kill()
        process.wait()
        again = Workspace(home, PERSONA)
        assert again.folder == first
        again.release()
        parallel.release()
