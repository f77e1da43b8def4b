"""Real studios in homes of their own, whose model is a scripted server, in this process or in one that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from personas_nb import Studio
from personas_nb.engine.workspaces import workspace_of
from personas_nb.entities.persona import Persona
from support.model_server import Api, ModelServer

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-0123456789abcdef"
PROVIDERS: dict[Api, str] = {"anthropic": "anthropic", "openai": "custom"}
MODELS: dict[Api, str] = {"anthropic": "claude-sonnet-5-5", "openai": "gpt-5-mini"}
Env: TypeAlias = dict[str, str]


def settings_for(server: ModelServer, api: Api = "anthropic", **settings: Any) -> Env:
    """The environment that sends every run to the server; ``settings`` are further ones by their keys."""
    chosen = {
        "provider": PROVIDERS[api],
        "model": MODELS[api],
        "base_url": server.url,
        "auth_token": KEY,
        **settings,
    }
    return {f"PERSONAS_{name.upper()}": str(value) for name, value in chosen.items()}


@contextmanager
def studio_at(
    home: Path, server: ModelServer | None = None, api: Api = "anthropic", **settings: Any
) -> Iterator[Studio]:
    """A studio, open; without a server it rehearses."""
    env = (
        settings_for(server, api, **settings)
        if server
        else {f"PERSONAS_{k.upper()}": str(v) for k, v in settings.items()}
    )
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        with Studio(home) as studio:
            yield studio
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def persona_of(studio: Studio, *tools: str, name: str = "Watcher", **fields: Any) -> Persona:
    """A persona with these tools; by default it is called Watcher."""
    persona = studio.personas.create(name=name, **{"system_prompt": "You watch invoices.", **fields})
    studio.tools.assign(persona, *tools)
    return persona


def workspace(studio: Studio, persona: Persona) -> Path:
    """The folder that the persona's tools see, made."""
    folder = workspace_of(studio.home, persona)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wait_until(is_so: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What ``is_so`` returns once it is true; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)
    return found


@contextmanager
def python(code: str, *arguments: str, env: Env | None = None) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs ``code`` with our packages at hand; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **(env or {})},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that the process prints; fails, with what it said, when there is none."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, process.communicate()[1]
    return line
