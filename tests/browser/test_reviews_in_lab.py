"""A decision made with a button, in a real JupyterLab."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from support.lab import wait_until_idle
from support.model_server import ModelServer, Turn
from support.studios import settings_for

SCRIPT = [
    Turn.tools(("file_write", {"path": "report.txt", "content": "two\nlines\n"}), text="I write it."),
    Turn.text("The report is written."),
]
CELLS = [
    "import os\nos.environ.update({environment!r})\n%load_ext personas_nb\n"
    "from personas_nb import Studio\n"
    "studio = Studio()\n"
    "studio.personas.create(name='Watcher', system_prompt='You watch invoices.')\n"
    "studio.tools.assign('watcher', 'file_write')\n"
    "studio.tools.require_approval('watcher', 'file_write');",
    "%persona run watcher",
    "%persona panel reviews",
    "%persona runs wait latest",
]


def run_next(page: Any) -> None:
    page.keyboard.press("Shift+Enter")


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_a_button_approves_and_the_run_goes_on(open_notebook: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ModelServer(SCRIPT, repeat_last=True) as server:
        environment = {**settings_for(server), "PERSONAS_HOME": str(home), "PERSONAS_ENGINE": "direct"}
        sources = [source.replace("{environment!r}", repr(environment)) for source in CELLS]
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
        nbformat.write(notebook, tmp_path / "decide.ipynb")
        page = open_notebook("decide.ipynb")
        page.click(".jp-NotebookPanel .jp-CodeCell >> nth=0")
        for _ in range(3):
            run_next(page)
        approve = page.locator("button:has-text('Approve')")
        approve.wait_for(timeout=120_000)
        assert "+two" in page.inner_text(".jp-NotebookPanel")
        picture(page, "reviews-panel")
        approve.click()
        page.locator(".jp-NotebookPanel >> text=Nothing waits for you.").first.wait_for(timeout=60_000)
        page.locator(".jp-NotebookPanel .jp-CodeCell .cm-content").last.click()
        run_next(page)
        page.locator(".jp-NotebookPanel >> text=The report is written.").first.wait_for(timeout=120_000)
        wait_until_idle(page)
        picture(page, "reviews-panel-decided")
        said = page.inner_text(".jp-NotebookPanel")
    assert "approved" in said
    assert next(home.rglob("report.txt")).read_text() == "two\nlines\n"
