"""A real JupyterLab in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import CHROMIUM, FLAGS, Lab, wait_until_idle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing: apt-get install chromium")
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """JupyterLab on ``tmp_path``."""
    server = Lab(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def open_notebook(chromium: Any, lab: Lab) -> Iterator[Callable[..., Any]]:
    """Opens a notebook and gives the page, ready to be used."""
    pages = []

    def opened(name: str, *, with_kernel: bool = True) -> Any:
        page = chromium.new_page(viewport={"width": 1200, "height": 1500})
        pages.append(page)
        page.goto(lab.url(f"lab/tree/{name}"))
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
        if with_kernel:
            wait_until_idle(page)
        return page

    yield opened
    for page in pages:
        page.close()
