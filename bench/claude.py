"""What our claude engine adds to the SDK it stands on; run as ``python bench/claude.py``.

The same scripted run (a tool call, then an answer: two requests) by ``studio.run`` and by bare claude-agent-sdk with
the same CLI, prompt and tools, alternating, warm. Both ask one scripted server in a process of its own. Prints the
median times and the median ratio of neighbours, and exits 1 when ours takes over 1.1 times as long.
"""

from __future__ import annotations

import asyncio
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

ROUNDS = 15
ALLOWED = 1.1
KEY = "sk-bench-0123456789"
MODEL = "claude-sonnet-5-5"
ANSWER = "The file lists three invoices, of which one is overdue; nothing else was found in it. " * 4


def serve() -> None:
    """The scripted server; ends when its input does."""
    from support.model_server import ModelServer, Request, Turn, Usage

    def script(request: Request, _n: int) -> Turn:
        if "tool_result" in str(request.messages):
            return Turn.text(ANSWER, chunk=40, usage=Usage(900, 80))
        return Turn.tools(
            (lambda name: name.endswith("file_read"), {"path": "invoices.csv"}), usage=Usage(800, 20)
        )

    with ModelServer(script) as server:
        print(server.url, flush=True)
        sys.stdin.read()


def studio_at(url: str, home: str) -> Any:
    os.environ |= {
        "PERSONAS_PROVIDER": "anthropic",
        "PERSONAS_ENGINE": "claude",
        "PERSONAS_MODEL": MODEL,
        "PERSONAS_BASE_URL": url,
        "PERSONAS_AUTH_TOKEN": KEY,
        "PERSONAS_KEYRING": "off",
    }
    from personas_nb import Studio
    from personas_nb.engine.workspaces import workspace_of

    studio = Studio(home)
    persona = studio.personas.create(name="Bench", system_prompt="You watch invoices.")
    studio.tools.assign(persona, "file_read")
    workspace = workspace_of(studio.home, persona)
    workspace.mkdir(parents=True)
    (workspace / "invoices.csv").write_text("id,amount\n1,2\n2,3\n3,4\n")
    return studio


async def bare(url: str, folder: Path, prompt: str) -> None:
    """The SDK alone: its own way of finding, starting and ending the CLI, with the same tools in our process."""
    import json

    from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, query, tool

    from personas_nb.engine.protocol import PROTOCOL_KINDS, body_schema, describe
    from personas_nb.store.catalog import TOOLS

    async def read(_arguments: Any) -> dict[str, Any]:
        text = await asyncio.to_thread((folder / "invoices.csv").read_text)
        return {"content": [{"type": "text", "text": text}]}

    async def take(_arguments: Any) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "taken"}]}

    schema = next(json.loads(row["input_schema"]) for row in TOOLS if row["name"] == "file_read")
    tools = [tool("file_read", "Read a file.", schema)(read)]
    tools += [tool(kind, describe(kind), body_schema(kind))(take) for kind in PROTOCOL_KINDS]
    environment = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "HOME": str(folder / "home"),
        "ENABLE_TOOL_SEARCH": "false",
    }
    options = ClaudeAgentOptions(
        cwd=folder,
        model=MODEL,
        tools=[],
        allowed_tools=["mcp__bench"],
        mcp_servers={"bench": create_sdk_mcp_server("bench", tools=tools)},
        strict_mcp_config=True,
        setting_sources=[],
        include_partial_messages=True,
        env=environment,
        stderr=lambda _line: None,
    )

    async def once() -> Any:
        yield {"type": "user", "session_id": "", "message": {"role": "user", "content": prompt}}

    result = None
    async for message in query(prompt=once(), options=options):
        result = getattr(message, "result", result)
    assert result == ANSWER, result


def main() -> int:
    with (
        subprocess.Popen(
            [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
        tempfile.TemporaryDirectory() as home,
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner() as runner,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        (Path(folder) / "home").mkdir()
        (Path(folder) / "invoices.csv").write_text("id,amount\n1,2\n2,3\n3,4\n")
        with studio_at(url, home) as studio:
            first = studio.run("bench", "Go.")
            assert first.output_data == ANSWER, (first.status, first.error)
            prompt = studio.executions.prompt(first.id)
            runner.run(bare(url, Path(folder), prompt))
            ours, theirs = [], []
            for _ in range(ROUNDS):
                for times, run in (
                    (ours, lambda: studio.run("bench", "Go.")),
                    (theirs, lambda: runner.run(bare(url, Path(folder), prompt))),
                ):
                    began = time.perf_counter()
                    run()
                    times.append(time.perf_counter() - began)
        server.stdin.close()  # type: ignore[union-attr]
    ratio = statistics.median(map(truediv, ours, theirs))
    print(
        f"a run: ours {statistics.median(ours) * 1000:.0f} ms, bare {statistics.median(theirs) * 1000:.0f} ms"
    )
    print(f"ratio {ratio:.2f} (allowed {ALLOWED}); ours {min(ours):.2f}–{max(ours):.2f} s")
    return int(ratio > ALLOWED)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        raise SystemExit(main())
