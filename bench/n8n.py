"""Speed of the n8n importer; run as ``python bench/n8n.py [FOLDER]``.

Prints the median and the slowest time of the folder's workflows (default: those of the shared data where they are
present, else generated ones of their sizes), time and peak memory of a generated file of 311 KB, and the time of a
folder of 2 000 workflows from the disk to stored drafts, the first time and again. CPU time of the process, medians
of several rounds. Exits 1 when the median is above 5 ms,
the large file above 150 ms or ten times its size of memory, or the folder above 30 s.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from personas_nb import Studio  # noqa: E402 - from this checkout
from personas_nb.design.formats.recognition import read  # noqa: E402
from personas_nb.errors import InvalidInput  # noqa: E402

MEDIAN_MS, LARGE_MS, FOLDER_SECONDS, MEMORY_TIMES = 5, 150, 30, 10
LARGE_BYTES, FOLDER_FILES = 311 * 1024, 2_000
SHARED = ROOT.parent / "shared" / "data" / "n8n"
KINDS: list[tuple[str, dict[str, Any]]] = [
    (
        "httpRequest",
        {
            "method": "POST",
            "url": "=https://api.example.org/{{ $json.id }}",
            "sendBody": True,
            "jsonBody": '={"total": {{ $json.total }}, "name": "{{ $(\'Node 1\').item.json.name }}"}',
        },
    ),
    (
        "set",
        {
            "assignments": {
                "assignments": [
                    {"id": "1", "name": "total", "type": "number", "value": "={{ $json.a + $json.b }}"}
                ]
            }
        },
    ),
    (
        "if",
        {
            "conditions": {
                "combinator": "and",
                "conditions": [
                    {
                        "leftValue": "={{ $json.total }}",
                        "rightValue": 4,
                        "operator": {"type": "number", "operation": "gte"},
                    }
                ],
            }
        },
    ),
    (
        "googleSheets",
        {
            "operation": "append",
            "documentId": {"__rl": True, "value": "1a2b", "cachedResultName": "Log"},
            "columns": {
                "mappingMode": "defineBelow",
                "value": {"day": "={{ $now }}", "sum": "={{ $json.total }}"},
            },
        },
    ),
    (
        "code",
        {"jsCode": "// adds up\nreturn items.map(item => ({json: {sum: item.json.a + item.json.b}}));\n" * 6},
    ),
    ("stickyNote", {"content": "## Setup\nConnect your account, then switch the workflow on. " * 8}),
    (
        "slack",
        {
            "channelId": {"__rl": True, "value": "C1", "cachedResultName": "general"},
            "text": "=Done: {{ $json.total }}",
        },
    ),
]


def generated(size_bytes: int) -> str:
    """A workflow of about that size: a schedule, then nodes of all kinds in a row, as n8n exports them."""
    nodes: list[dict[str, Any]] = [
        {
            "id": "0",
            "name": "Node 0",
            "type": "n8n-nodes-base.scheduleTrigger",
            "position": [0, 0],
            "typeVersion": 1.2,
            "parameters": {"rule": {"interval": [{"triggerAtHour": 9}]}},
        }
    ]
    connections: dict[str, Any] = {}
    length = 0
    while length < size_bytes - 100:
        number = len(nodes)
        kind, parameters = KINDS[number % len(KINDS)]
        made = {
            "id": f"{number:08d}-3b42-4a57-8878-e6a13881f940",
            "name": f"Node {number}",
            "type": f"n8n-nodes-base.{kind}",
            "position": [number * 220, 300],
            "typeVersion": 2,
            "parameters": parameters,
        }
        link = {"main": [[{"node": f"Node {number}", "type": "main", "index": 0}]]}
        nodes.append(made)
        connections[f"Node {number - 1}"] = link
        length += len(json.dumps(made)) + len(json.dumps(link)) + 16
    return json.dumps({"name": "Generated", "nodes": nodes, "connections": connections, "settings": {}})


def sample(folder: Path | None) -> list[tuple[str, bytes]]:
    files = sorted(folder.glob("*.json")) if folder and folder.is_dir() else []
    if not files:
        return [(f"generated {size}", generated(size * 1_000).encode()) for size in range(2, 44, 2)]
    found = []
    for path in files:
        content = path.read_bytes()
        try:
            read(content, path.name)
        except InvalidInput:
            continue
        found.append((path.name, content))
    return found


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median of the process's own CPU time, so that other work on the machine counts less."""
    times = []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return statistics.median(times)


def peak_bytes(content: bytes) -> int:
    gc.collect()
    tracemalloc.start()
    report = read(content, "large.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del report
    return peak


def folder_seconds(files: list[tuple[str, bytes]]) -> float:
    """The slower of two imports of a folder: each file read, its draft stored, or found as it was stored before."""
    slowest = 0.0
    with tempfile.TemporaryDirectory() as place, Studio(Path(place) / "home") as studio:
        folder = Path(place) / "workflows"
        folder.mkdir()
        for number in range(FOLDER_FILES):
            (folder / f"{number}.json").write_bytes(files[number % len(files)][1])
        for label in ("folder", "the same folder again"):
            began = time.process_time()
            found = studio.importers.folder(folder)
            took = time.process_time() - began
            entries = sum(sum(file.counts.values()) for file in found if file.counts)
            about = f"{len(found):,} workflows, {entries:,} entries in {took:.1f} s"
            print(f"{label:28} {about} (at most {FOLDER_SECONDS} s)")
            slowest = max(slowest, took)
    return slowest


def main() -> int:
    files = sample(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED)
    for name, content in files:  # what is imported and compiled once
        read(content, name)
    times = sorted((seconds(lambda one=one: read(one[1], one[0]), 5) * 1000, one) for one in files)  # type: ignore[misc]
    median = statistics.median(took for took, _ in times)
    slowest, (name, content) = times[-1]
    print(f"{len(files)} workflows{'':15} median {median:.2f} ms (at most {MEDIAN_MS} ms)")
    print(f"{'slowest':28} {slowest:.2f} ms, {len(content) / 1024:.0f} KB, {name}")
    large = generated(LARGE_BYTES).encode()
    large_ms = seconds(lambda: read(large, "large.json"), 5) * 1000
    print(f"{'generated file':28} {large_ms:.1f} ms, {len(large) / 1024:.0f} KB (at most {LARGE_MS} ms)")
    memory = peak_bytes(large) / len(large)
    print(f"{'its peak memory':28} {memory:.1f} times the file (at most {MEMORY_TIMES})")
    folder = folder_seconds(files)
    good = (
        median <= MEDIAN_MS and large_ms <= LARGE_MS and memory <= MEMORY_TIMES and folder <= FOLDER_SECONDS
    )
    print("all figures hold" if good else "a figure misses")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
