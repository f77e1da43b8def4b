"""What the gateway adds to a tool call; run as ``python bench/gateway.py``.

A tool that does nothing, called through the gateway one call after another, less the same function awaited bare. Once
with effect ``none``, and once with effect ``outside``: then an intent is committed to the store before each call and
settled after it. Medians over rounds. Exit 1 when either is over 1 ms.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from personas_nb import Studio  # noqa: E402 - from this checkout
from personas_nb.engine.intents import RunIntents  # noqa: E402
from personas_nb.entities.execution import Execution  # noqa: E402
from personas_nb.entities.tool import Effect, ToolDefinition  # noqa: E402
from personas_nb.tools.gateway import Gateway  # noqa: E402
from personas_nb.vault.redaction import Redactor  # noqa: E402

CALLS = 200
ROUNDS = 9
ALLOWED_MS = 1.0
ARGUMENTS = {"path": "reports/2026/november.csv", "content": "date,amount\n" * 20}
SCHEMA = {"type": "object", "properties": {name: {"type": "string"} for name in ARGUMENTS}}
SECRETS = {f"secret {n}": f"0123456789-secret-{n}" for n in range(20)}


async def perform(_place: Any, _arguments: dict[str, Any]) -> str:
    return "Done."


def gateway(studio: Studio, run: Execution, effect: Effect) -> Gateway:
    tool = ToolDefinition(name="idle", script_path="bench://idle", effect=effect, input_schema=SCHEMA)
    return Gateway(
        [tool],
        workspace=studio.home,
        settings=studio.settings,
        redactor=Redactor(SECRETS),
        implementations={"bench://idle": perform},
        intents=RunIntents(studio.worker, run.id, run.claim_token),
    )


async def measured_ms(call: Callable[[int], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    for number in range(CALLS):
        await call(number)
    return (time.perf_counter() - begun) * 1000 / CALLS


def main() -> int:
    failed = False
    with tempfile.TemporaryDirectory() as home, Studio(home) as studio:
        persona = studio.personas.create(name="Bench", system_prompt="-")
        run = Execution(persona_id=persona.id, status="running", claim_token=1)
        studio.executions.table.insert(run)
        effects: tuple[Effect, ...] = ("none", "outside")
        for effect in effects:
            ours = gateway(studio, run, effect)

            def through(number: int, ours: Gateway = ours) -> Awaitable[Any]:
                return ours.call("idle", ARGUMENTS, call_id=str(number))

            def bare(_number: int) -> Awaitable[Any]:
                return perform(None, ARGUMENTS)

            rounds = []
            for _ in range(ROUNDS):
                both = [studio.worker.run(measured_ms(call)) for call in (through, bare)]
                rounds.append(both[0] - both[1])
            added_ms = statistics.median(rounds)
            failed |= added_ms > ALLOWED_MS
            print(
                f"effect {effect:7}  {added_ms:.3f} ms a call ({min(rounds):.3f} to {max(rounds):.3f}); "
                f"allowed {ALLOWED_MS:g}"
            )
        with studio.store.read() as db:
            intents = db.execute("select count(*) from intents where status <> 'begun'").fetchone()[0]
        print(f"{intents:,} intents were settled")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
