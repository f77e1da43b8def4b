"""A real JupyterLab in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IDLE = re.compile(r"Python 3.*\| Idle")


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


class Lab:
    """A JupyterLab server in a folder of its own."""

    token = "browser-test"  # noqa: S105 - of a server on this machine that lives for one test

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"),
            "JUPYTER_DATA_DIR": str(folder / ".data"),
            "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
            "IPYTHONDIR": str(folder / ".ipython"),
        }
        self.log = (folder / "lab.log").open("w")
        arguments = [
            "--no-browser",
            "--allow-root",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *arguments],
            env=environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        self._wait()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?token={self.token}"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "lab.log").read_text()
            try:
                urllib.request.urlopen(self.url("api/status"), timeout=2)  # noqa: S310 - loopback
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise AssertionError("JupyterLab did not start: " + (self.folder / "lab.log").read_text())


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


def wait_until_idle(page: Any, timeout_ms: int = 120_000) -> None:
    """Wait for the status bar; the execution indicator may miss the first cell."""
    page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.querySelector('#jp-main-statusbar')?.innerText ?? '')",
        arg=r"Python 3[\s\S]*\| Idle",
        timeout=timeout_ms,
    )
