"""The quickstart as a person sees it, in JupyterLab."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.notebooks import NOTEBOOKS, execute

QUICKSTART = "01-quickstart.ipynb"
# Where screenshots go, for whoever wants to look at them.
PICTURES = os.environ.get("SCREENSHOTS")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAS_PROVIDER", "rehearsal")


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))


def shown(page: Any) -> str:
    return str(page.inner_text(".jp-NotebookPanel"))


def all_outputs(page: Any) -> str:
    """The text of all outputs; Lab draws cells as they come into view, so it is scrolled through."""
    texts = []
    for index in range(page.locator(".jp-NotebookPanel .jp-CodeCell").count()):
        cell = page.locator(".jp-NotebookPanel .jp-CodeCell").nth(index)
        cell.scroll_into_view_if_needed()
        page.wait_for_timeout(100)
        texts.append(cell.locator(".jp-OutputArea").inner_text())
    return "\n".join(texts)


def run_all(page: Any) -> None:
    page.click(".lm-MenuBar-itemLabel:text('Run')")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")


def test_run_all_shows_the_run_the_review_and_the_costs(
    tmp_path: Path, open_notebook: Callable[..., Any]
) -> None:
    shutil.copy(NOTEBOOKS / QUICKSTART, tmp_path)
    page = open_notebook(QUICKSTART)
    run_all(page)
    last = page.locator(".jp-NotebookPanel .jp-CodeCell").last
    last.locator(".jp-OutputArea-output").wait_for(timeout=120_000, state="attached")
    text = all_outputs(page)
    picture(page, "after-run-all")
    assert "REHEARSAL" in text.upper()
    assert "✓ done" in text
    assert "approved" in text
    assert page.locator(".jp-NotebookPanel img").count() >= 1  # the chart of the costs
    assert "Traceback" not in text


def test_a_saved_notebook_tells_the_truth_with_the_kernel_gone(
    tmp_path: Path, open_notebook: Callable[..., Any]
) -> None:
    execute(QUICKSTART, tmp_path)
    page = open_notebook(QUICKSTART, with_kernel=False)
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell .jp-OutputArea-output", timeout=60_000)
    page.wait_for_timeout(2000)
    text = all_outputs(page)
    picture(page, "kernel-gone")
    assert "✓ done" in text
    assert "model not found" not in text
    assert "<div" not in text
