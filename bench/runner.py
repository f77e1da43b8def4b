"""What our runner adds to the agent loop it stands on; run as ``python bench/runner.py``.

The same scripted run (a tool call, then an answer: two requests) by ``studio.run`` and by bare pydantic-ai, whose
agent, tools and HTTP client are made once. Both ask one scripted server in a process of its own, in turns, warm.
Prints the median time of a run alone and the throughput at 50 at once, and the median ratio of neighbours. Exits 1
when a run alone takes over 1.5 times as long, or 50 at once have under 0.7 times the throughput.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from operator import truediv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

RUNS_ALONE = 60
AT_ONCE = 50
ROUNDS = 9
ALLOWED_TIME = 1.5
WANTED_THROUGHPUT = 0.7
KEY = "sk-bench-0123456789"
MODEL = "gpt-5-mini"
ANSWER = "The file lists three invoices, of which one is overdue; nothing else was found in it. " * 4


def serve() -> None:
    """The scripted server; ends when its input does."""
    from support.model_server import ModelServer, Request, Turn, Usage

    def script(request: Request, _n: int) -> Turn:
        if request.messages[-1]["role"] == "tool":
            return Turn.text(ANSWER, chunk=40, usage=Usage(900, 80))
        return Turn.tools(("file_read", {"path": "invoices.csv"}), usage=Usage(800, 20))

    with ModelServer(script) as server:
        print(server.url, flush=True)
        sys.stdin.read()


def studio_at(url: str, home: str) -> Any:
    os.environ |= {
        "PERSONAS_PROVIDER": "custom",
        "PERSONAS_MODEL": MODEL,
        "PERSONAS_BASE_URL": url,
        "PERSONAS_AUTH_TOKEN": KEY,
        "PERSONAS_KEYRING": "off",
        "PERSONAS_MAX_PARALLEL_EXECUTIONS": str(AT_ONCE),
    }
    from personas_nb import Studio
    from personas_nb.engine.runner import workspace_of

    studio = Studio(home)
    persona = studio.personas.create(
        name="Bench", system_prompt="You watch invoices.", max_concurrent=AT_ONCE
    )
    studio.tools.assign(persona, "file_read")
    workspace = workspace_of(studio.home, persona)
    workspace.mkdir(parents=True)
    (workspace / "invoices.csv").write_text("id,amount\n1,2\n2,3\n3,4\n")
    return studio


class Bare:
    """pydantic-ai with the same model, prompt and tools, all made once; a file is read in a thread, as ours is."""

    def __init__(self, url: str, file: Path, prompt: str) -> None:
        import json

        import httpx2
        from openai import AsyncOpenAI
        from pydantic_ai import Agent, Tool
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe
        from personas_nb.store.catalog import TOOLS

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
        self.prompt = prompt

    async def run(self) -> str:
        async with self.agent.run_stream_events(self.prompt) as stream:
            async for _event in stream:
                pass
        assert stream.result is not None
        return stream.result.output


def seconds(action: Any) -> float:
    gc.collect()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def paired(dividends: list[float], divisors: list[float]) -> float:
    """The median ratio of neighbours in time: what else the machine does then weighs on both alike."""
    return statistics.median(map(truediv, dividends, divisors))


def measure(studio: Any, bare: Bare, runner: asyncio.Runner) -> tuple[list[float], ...]:
    def ours_alone() -> None:
        assert studio.run("bench", "Go.").status == "completed"

    def ours_together() -> None:
        handles = [studio.start("bench", "Go.") for _ in range(AT_ONCE)]
        assert {handle.wait().status for handle in handles} == {"completed"}

    def bare_alone() -> None:
        assert runner.run(bare.run()) == ANSWER

    async def gathered() -> None:
        await asyncio.gather(*(bare.run() for _ in range(AT_ONCE)))

    def bare_together() -> None:
        runner.run(gathered())

    ours, theirs, ours_50, theirs_50 = [], [], [], []
    for action in (ours_alone, bare_alone, ours_together, bare_together):
        action()
    for _ in range(RUNS_ALONE):
        ours.append(seconds(ours_alone))
        theirs.append(seconds(bare_alone))
    for _ in range(ROUNDS):
        ours_50.append(seconds(ours_together))
        theirs_50.append(seconds(bare_together))
    return ours, theirs, ours_50, theirs_50


def main() -> int:
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    try:
        with (
            tempfile.TemporaryDirectory() as home,
            studio_at(url, home) as studio,
            asyncio.Runner() as runner,
        ):
            first = studio.run("bench", "Go.")
            assert first.status == "completed", first.error
            file = next(Path(home).glob("workspaces/*/invoices.csv"))
            bare = Bare(url, file, studio.executions.prompt(first.id))
            figures = measure(studio, bare, runner)
    finally:
        server.stdin.close()
        server.wait()
    ours, theirs, ours_50, theirs_50 = map(statistics.median, figures)
    time_ratio, throughput_ratio = paired(figures[0], figures[1]), paired(figures[3], figures[2])
    print(
        f"one run:    {ours * 1000:7.1f} ms, bare {theirs * 1000:7.1f} ms: {time_ratio:.2f} times (≤ {ALLOWED_TIME})"
    )
    print(
        f"{AT_ONCE} at once: {AT_ONCE / ours_50:7.1f} /s, bare {AT_ONCE / theirs_50:7.1f} /s: "
        f"{throughput_ratio:.2f} times (≥ {WANTED_THROUGHPUT})"
    )
    return 0 if time_ratio <= ALLOWED_TIME and throughput_ratio >= WANTED_THROUGHPUT else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main())
