"""What our runner adds to the agent loop it stands on; run as ``python bench/runner.py``.

The same scripted run (a tool call, then an answer: two requests) by ``studio.run`` and by bare pydantic-ai, whose
agent, tools and HTTP client are made once. Each is in a process of its own, and so is the scripted server that both
ask, in turns, warm.

- A run alone: the median time. Exit 1 when ours is over 1.5 times as long.
- 100 at once: the throughput, and the median ratio of neighbours in time. Exit 1 under 0.7.
- Memory: how much the process grows from idle, after one run, to its peak in the first 100 that are all under way
  at the same time, by run. New processes for each sample. Exit 1 over 3 MB.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from operator import truediv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

RUNS_ALONE = 60
AT_ONCE = 100
ROUNDS = 15
SAMPLES = 3
ALLOWED_TIME = 1.5
WANTED_THROUGHPUT = 0.7
ALLOWED_MB = 3.0
HELD_SECONDS = 6.0  # longer than 100 runs take to begin
KEY = "sk-bench-0123456789"
MODEL = "gpt-5-mini"
ANSWER = "The file lists three invoices, of which one is overdue; nothing else was found in it. " * 4


# --- the server -----------------------------------------------------------------------------------------


def serve() -> None:
    """The scripted server; ends when its input does."""
    from support.model_server import ModelServer, Request, Turn, Usage

    def script(request: Request, _n: int) -> Turn:
        if request.messages[-1]["role"] == "tool":
            return Turn.text(ANSWER, chunk=40, usage=Usage(900, 80))
        held = HELD_SECONDS if request.mentions("Hold.") else 0.0
        call = ("file_read", {"path": "invoices.csv"})
        return Turn.tools(call, usage=Usage(800, 20), wait_seconds=held)

    with ModelServer(script) as server:
        print(server.url, flush=True)
        sys.stdin.read()


# --- the peers ------------------------------------------------------------------------------------------

Span = tuple[float, float]  # when a run began and when it ended


class Ours:
    """A studio with one persona."""

    def __init__(self, url: str, folder: Path) -> None:
        os.environ |= {
            "PERSONAS_PROVIDER": "custom",
            "PERSONAS_MODEL": MODEL,
            "PERSONAS_BASE_URL": url,
            "PERSONAS_AUTH_TOKEN": KEY,
            "PERSONAS_KEYRING": "off",
            "PERSONAS_ENGINE": "direct",
            "PERSONAS_MAX_PARALLEL_EXECUTIONS": str(AT_ONCE),
        }
        from personas_nb import Studio
        from personas_nb.engine.workspaces import workspace_of

        self.studio = Studio(folder / "home")
        persona = self.studio.personas.create(
            name="Bench", system_prompt="You watch invoices.", max_concurrent=AT_ONCE
        )
        self.studio.tools.assign(persona, "file_read")
        workspace = workspace_of(self.studio.home, persona)
        workspace.mkdir(parents=True)
        (workspace / "invoices.csv").write_text((folder / "invoices.csv").read_text())

    def prompt(self) -> str:
        self.together(1, "Go.")
        return str(self.studio.executions.prompt("latest"))

    def together(self, count: int, words: str) -> list[Span]:
        handles = [self.studio.start("bench", words) for _ in range(count)]
        runs = [handle.wait() for handle in handles]
        assert {(run.status, run.tool_calls) for run in runs} == {("completed", 1)}, runs[0].error
        return [(run.started_at.timestamp(), run.completed_at.timestamp()) for run in runs]  # type: ignore[union-attr]


class Bare:
    """pydantic-ai with the same model, prompt and tools, all made once; a file is read in a thread, as ours is."""

    def __init__(self, url: str, folder: Path) -> None:
        import httpx2
        from openai import AsyncOpenAI
        from pydantic_ai import Agent, Tool
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe
        from personas_nb.store.catalog import TOOLS

        file = folder / "invoices.csv"

        async def read(**_arguments: Any) -> str:
            return await asyncio.to_thread(file.read_text)

        async def take(**_data: Any) -> str:
            return "taken"

        schema = next(json.loads(tool["input_schema"]) for tool in TOOLS if tool["name"] == "file_read")
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=100)
        client = AsyncOpenAI(
            api_key=KEY, base_url=f"{url}/v1", max_retries=0, http_client=httpx2.AsyncClient(limits=limits)
        )
        model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))
        tools = [Tool.from_schema(read, "file_read", "Read a file.", schema)]
        tools += [Tool.from_schema(take, kind, describe(kind), body_schema(kind)) for kind in PROTOCOL_KINDS]
        self.agent: Agent[None, str] = Agent(model, tools=tools, model_settings={"max_tokens": 8192})
        self.text = (folder / "prompt.txt").read_text()
        self.runner = asyncio.Runner()

    def together(self, count: int, words: str) -> list[Span]:
        async def gathered() -> list[Span]:
            return await asyncio.gather(*(self._run(self.text.replace("Go.", words)) for _ in range(count)))

        return self.runner.run(gathered())

    async def _run(self, prompt: str) -> Span:
        began = time.time()
        async with self.agent.run_stream_events(prompt) as stream:
            async for _event in stream:
                pass
        assert stream.result is not None
        assert stream.result.output == ANSWER
        return began, time.time()


def peer(name: str, url: str, folder: Path) -> None:
    """One of the two; does what it is told on its input, a number of runs and their words a line."""
    side: Ours | Bare = Ours(url, folder) if name == "ours" else Bare(url, folder)
    if isinstance(side, Ours):
        (folder / "prompt.txt").write_text(side.prompt())
    print("ready", flush=True)
    for line in sys.stdin:
        count, words = json.loads(line)
        gc.collect()
        started = time.perf_counter()
        spans = side.together(count, words)
        seconds = time.perf_counter() - started
        print(
            json.dumps([seconds, max(began for began, _ in spans) < min(end for _, end in spans)]), flush=True
        )
    if isinstance(side, Ours):
        side.studio.close()


# --- what is measured -----------------------------------------------------------------------------------


class Child:
    """This file in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Child:
        self.said = self.line()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "a process of the bench has failed"
        return line

    def run(self, count: int, words: str = "Go.") -> tuple[float, bool]:
        """Seconds for that many runs at once, and whether all were under way at the same time."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([count, words]) + "\n")
        self.process.stdin.flush()
        seconds, overlap = json.loads(self.line())
        return seconds, overlap

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def growth_mb(self) -> float:
        """How much larger than idle the process is at its largest while 100 runs are under way, by run."""
        self.run(1)
        idle, peak, over = self.rss_mb(), 0.0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not over.wait(0.005):
                peak = max(peak, self.rss_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        _seconds, are_together = self.run(AT_ONCE, "Hold.")
        over.set()
        watcher.join()
        assert are_together, f"{AT_ONCE} runs did not begin within {HELD_SECONDS:g} s"
        return (peak - idle) / AT_ONCE


def alternating(count: int, *actions: Callable[[], float]) -> list[list[float]]:
    """The figures of each action, taken in turns."""
    rounds = [[action() for action in actions] for _ in range(count)]
    return [list(figures) for figures in zip(*rounds, strict=True)]


def ratios(dividends: list[float], divisors: list[float]) -> tuple[float, str]:
    """The median ratio of neighbours in time (what else the machine does then weighs on both alike), and its spread."""
    found = sorted(map(truediv, dividends, divisors))
    return statistics.median(found), f"{found[len(found) // 10]:.2f}–{found[-1 - len(found) // 10]:.2f}"


def main() -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "invoices.csv").write_text("id,amount\n1,2\n2,3\n3,4\n")
        url = stack.enter_context(Child("--serve")).said

        def child(name: str) -> Child:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            (place / "invoices.csv").write_text((folder / "invoices.csv").read_text())
            if name == "bare":
                (place / "prompt.txt").write_text((folder / "prompt.txt").read_text())
            return Child(name, url, str(place))

        def grown(name: str) -> float:
            with child(name) as one:
                return one.growth_mb()

        with child("ours") as ours:
            prompt = Path(ours.arguments[-1]) / "prompt.txt"
            (folder / "prompt.txt").write_text(prompt.read_text())
            with child("bare") as bare:
                alternating(2, lambda: ours.run(AT_ONCE)[0], lambda: bare.run(AT_ONCE)[0])
                alone = alternating(RUNS_ALONE, lambda: ours.run(1)[0], lambda: bare.run(1)[0])
                together = alternating(ROUNDS, lambda: ours.run(AT_ONCE)[0], lambda: bare.run(AT_ONCE)[0])
        growth = alternating(SAMPLES, lambda: grown("ours"), lambda: grown("bare"))
    return report(alone, together, growth)


def report(alone: list[list[float]], together: list[list[float]], growth: list[list[float]]) -> int:
    """Print the figures; 1 when one of them misses."""
    ours_ms, bare_ms = (statistics.median(times) * 1000 for times in alone)
    time_ratio, spread = ratios(*alone)
    print(
        f"one run: {ours_ms:.1f} ms, bare {bare_ms:.1f} ms: {time_ratio:.2f} times, {spread} (≤ {ALLOWED_TIME})"
    )
    ours_rate, bare_rate = (AT_ONCE / statistics.median(times) for times in together)
    throughput_ratio, spread = ratios(together[1], together[0])
    print(
        f"{AT_ONCE} at once: {ours_rate:.1f} /s, bare {bare_rate:.1f} /s: "
        f"{throughput_ratio:.2f} times, {spread} (≥ {WANTED_THROUGHPUT})"
    )
    ours_mb, bare_mb = map(statistics.median, growth)
    spread = f"{min(growth[0]):.2f}–{max(growth[0]):.2f}"
    print(
        f"{AT_ONCE} at once: {ours_mb:.2f} MB each, {spread} (≤ {ALLOWED_MB:g}); bare {bare_mb:.2f} MB each"
    )
    is_good = time_ratio <= ALLOWED_TIME and throughput_ratio >= WANTED_THROUGHPUT and ours_mb <= ALLOWED_MB
    return 0 if is_good else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            sys.exit(main())
        case ["--serve"]:
            serve()
        case [name, url, place]:
            peer(name, url, Path(place))
