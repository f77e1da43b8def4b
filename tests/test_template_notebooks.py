"""The template notebooks run: offline, twice on one store, by papermill and by nbval."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.notebooks import text_of_cell

from personas_nb import Studio

TEMPLATES = sorted((Path(__file__).resolve().parents[1] / "templates").glob("*.ipynb"))
QUIET = ["--IPKernelApp.log_level=ERROR"]  # the transport of a test's kernel is loopback


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAS_PROVIDER", "rehearsal")


def run_twice(path: Path, folder: Path) -> tuple[list[Any], list[Any]]:
    """The code cells as somebody sees them who presses Run All twice: of the first time, and of the second."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    again = copy.deepcopy(cells)
    notebook.cells = [*cells, *again]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{cell.id}-{number}"
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, resources=where, extra_arguments=QUIET).execute()
    return cells, again


def shown(cells: list[Any], name: str) -> str:
    return text_of_cell(next(cell for cell in cells if cell.id.rpartition("-")[0] == name))


@pytest.mark.parametrize("path", TEMPLATES, ids=[path.stem for path in TEMPLATES])
def test_a_template_runs_offline_twice_on_one_store(path: Path, tmp_path: Path):
    first, second = run_twice(path, tmp_path)
    for cells in (first, second):
        assert "REHEARSAL" in shown(cells, "run")
        assert "1 decision open" in shown(cells, "reviews")
        assert "approved" in shown(cells, "decide")
        assert "$0" in shown(cells, "costs")
    assert len(nbformat.writes(nbformat.v4.new_notebook(cells=first))) < 250_000
    with Studio() as studio:
        (persona,) = studio.personas.list()
        runs = studio.executions.list(persona)
        assert (persona.slug, persona.version) == (path.stem, 1)
        assert [(run.status, run.rehearsal, run.cost_usd) for run in runs] == [("completed", True, 0.0)] * 2
        steps = studio.executions.get(runs[0].id).tool_steps
        assert {step.tool for step in steps} == {tool.name for tool in studio.tools.assigned(persona)}
        assert [trigger.enabled for trigger in studio.triggers.list(persona)] in ([], [False])
        assert [review.status for review in studio.reviews.list(status=None)] == ["approved", "approved"]


def test_the_copy_that_use_opens_makes_the_persona_that_is_there_already(tmp_path: Path):
    with Studio() as studio:
        used = studio.templates.use("data-quality-sentinel", folder=tmp_path, min_rows=50, name="Gate")
    run_twice(used.path, tmp_path)
    with Studio() as studio:
        (persona,) = studio.personas.list()
        assert (persona.slug, persona.version) == ("gate", 1)
        assert persona.structured_prompt is not None
        assert "- min_rows: 50 " in persona.structured_prompt.custom_sections[0].content


def test_papermill_runs_a_template_with_another_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import papermill

    monkeypatch.chdir(tmp_path)
    source = next(path for path in TEMPLATES if path.stem == "invoice-watcher")
    values = {"grace_days": 21, "name": "Slow reminder"}
    papermill.execute_notebook(source, "out.ipynb", values, progress_bar=False, log_output=False)
    with Studio() as studio:
        (persona,) = studio.personas.list()
        assert persona.name == "Slow reminder"
        assert persona.structured_prompt is not None
        assert "- grace_days: 21 " in persona.structured_prompt.custom_sections[0].content
    out = nbformat.read("out.ipynb", as_version=4)
    assert "Slow reminder" in text_of_cell(out.cells[-2])


def test_nbval_runs_a_template(tmp_path: Path):
    source = next(path for path in TEMPLATES if path.stem == "cost-watchdog")
    shutil.copy(source, tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        source.name,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_table_may_be_one_of_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sqlite3
    from contextlib import closing

    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as database:
        database.execute('create table "my orders" (id integer, eur real)')
        database.executemany('insert into "my orders" values (?, ?)', [(1, 2.5), (1, None)])
        database.commit()
    with Studio() as studio:
        values = {"source": "shop.db", "table": "my orders", "key": "id"}
        used = studio.templates.use("data-quality-sentinel", **values)
    cells, _again = run_twice(used.path, tmp_path)
    assert "50.0" in shown(cells, "data")
    assert (tmp_path / "samples" / "rows.csv").read_text().splitlines()[0] == "id,eur"
