"""What every test has: a home of its own, no key of the person who runs it, no way to a real model host."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

from support.guard import forbid_real_model_hosts
from support.processes import assert_none_left

# How long a case takes is the machine's affair: speed is looked at in bench/.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PERSONAS_", "ANTHROPIC_", "OPENAI_", "LITELLM_", "OLLAMA_", "CLAUDE_")):
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("PERSONAS_HOME", str(folder / "home"))
    monkeypatch.setenv("PERSONAS_KEYRING", "off")
    monkeypatch.setenv("PERSONAS_ENGINE", "direct")  # 0.8 s faster per run; who means the Claude CLI says so
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(folder / "keys" / "keys.json"))
    monkeypatch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture(autouse=True)
def _no_real_model_hosts() -> Iterator[None]:
    with forbid_real_model_hosts():
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the whole run no process of ours is left: kernels, servers, the Claude CLI and what it started."""
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None or hasattr(session.config, "workerinput"):  # who distributes the tests looks for all
        return
    try:
        assert_none_left(f"{factory.getbasetemp()}/")
    except AssertionError as problem:
        print(f"\nProcesses of the tests are {problem}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that may become a home."""
    return tmp_path / "home"
