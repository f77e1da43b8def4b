"""A real LiteLLM proxy in a process and an environment of its own; behind it is one scripted model server.

    with LiteLLM(folder) as proxy, proxy.answering([Turn.text("Hi.")]) as requests:
        ...  # point a client at proxy.url with proxy.key
        assert requests[0].model == "claude-sonnet-5-5"  # what LiteLLM asked its provider

It speaks both API shapes to its clients, and to the scripted server the one of the model's own provider. Starting
takes about 6 s. Its log is ``folder / "litellm.log"``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support.model_server import ModelServer, Request, Script, Turn, UnscriptedRequest

PROGRAM = Path(sys.prefix) / "litellm" / "bin" / "litellm"
MISSING = "LiteLLM is not installed beside the tests' environment: make test installs it"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
# The model group's name, as clients ask for it, and what LiteLLM makes of it.
MODELS = {
    "claude-sonnet-5-5": "anthropic/claude-sonnet-5-5",
    "gpt-5-mini": "openai/gpt-5-mini",
    "our-own-model": "openai/our-own-model",
}


class LiteLLM:
    """The proxy; a context manager that ends its whole process group. It reaches nothing but this machine."""

    key = "sk-litellm-0123456789abcdef"
    upstream_key = "sk-upstream-0123456789abcdef"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = ModelServer(lambda request, _n: self._turn(request))
        self._script: Script = ()
        self._requests: list[Request] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything that it has printed."""
        return (self.folder / "litellm.log").read_text(errors="replace")

    @contextmanager
    def answering(self, script: Script) -> Iterator[list[Request]]:
        """Behind the proxy, the server answers with this script; yields what it was asked, as it comes."""
        self._script, self._requests = script, []
        try:
            yield self._requests
        finally:
            self._script = ()
            problems, self.models.problems[:] = list(self.models.problems), []
        if problems:
            raise UnscriptedRequest("\n".join(problems))

    def __enter__(self) -> Self:
        self.models.__enter__()
        with (self.folder / "litellm.log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    *("--config", self._configured()),
                    *("--host", "127.0.0.1", "--port", str(self.port)),
                ],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _turn(self, request: Request) -> Turn:
        self._requests.append(request)
        n = len(self._requests) - 1
        return self._script(request, n) if callable(self._script) else self._script[n]

    def _configured(self) -> Path:
        path = self.folder / "litellm.yaml"
        bases = {"anthropic": self.models.url, "openai": f"{self.models.url}/v1"}
        path.write_text(  # JSON is YAML
            json.dumps(
                {
                    "model_list": [
                        {
                            "model_name": name,
                            "litellm_params": {
                                "model": model,
                                "api_key": self.upstream_key,
                                "api_base": bases[model.partition("/")[0]],
                            },
                        }
                        for name, model in MODELS.items()
                    ],
                    # one request to the proxy is one request to the provider, whatever that said before
                    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
                }
            )
        )
        return path

    def _environment(self) -> dict[str, str]:
        """Made from empty; what would go to another machine ends at a port where nothing listens."""
        nowhere = "http://127.0.0.1:9"
        return {
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "LITELLM_MASTER_KEY": self.key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
            "NO_PROXY": "127.0.0.1",
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health/liveliness", timeout=5):
                return
            time.sleep(0.1)
        raise AssertionError(f"LiteLLM did not start within {START_SECONDS:g} s: {self.log}")

    def _stop(self) -> None:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, end)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
        self.models.__exit__(None, None, None)
