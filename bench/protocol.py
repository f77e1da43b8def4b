"""Speed of the protocol scan; run as ``python bench/protocol.py``.

Prints MB/s at 40-character deltas, the ratio to ``json.JSONDecoder.raw_decode`` tried from each brace
(the obvious way, fed the same deltas in the same run), and how the time grows when hostile input
doubles. Exits 1 when prose is slower than 50 MB/s or a doubling costs more than 2.3 times.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from personas_nb.engine.protocol import PROTOCOL_KINDS, ProtocolScanner

DELTA_CHARS = 40
WANTED_MB_PER_SECOND = 50
ALLOWED_DOUBLING = 2.3
MESSAGE = '{"agent_memory": {"title": "Billing day", "content": "Acme pays on the 5th.", "importance": 6}}\n'
PROSE = "The report lists every open invoice, its customer and the day on which it was due.\n"
CODE = "def f(x): return {x: [x, {1, 2}]} if x else {'a': {}}\n"

HOSTILE: dict[str, Callable[[int], str]] = {
    "braces": lambda n: "{" * n,
    "repeated heads": lambda n: '{"user_message"' * (n // 15),
    "heads in heads": lambda n: '{"user_message":' * (n // 16),
    "deep arrays": lambda n: '{"emit_event":' + "[" * n,
    "unclosed string": lambda n: '{"user_message": {"title": "' + "a" * n,
    "escapes in a string": lambda n: '{"user_message": "' + "\\u00e9\\\\" * (n // 8),
    "brace and spaces": lambda n: '{"user_message": "' + ("{" + " " * 500) * (n // 501),
    "white space": lambda n: "{" + " " * n,
    "long number": lambda n: '{"emit_event": ' + "1" * n,
    "objects over the limit": lambda n: '{"emit_event": {"type": "x", "data": "' + "a" * n + '"}}',
    "broken, then good": lambda n: ('{"user_message": {"t": "see ' + MESSAGE) * (n // 120),
    "good ones in an open one": lambda n: '{"emit_event": [' + (MESSAGE + ",") * (n // 98),
    "fence openers": lambda n: "```json\n" * (n // 8),
}


def deltas(text: str) -> list[str]:
    return [text[i : i + DELTA_CHARS] for i in range(0, len(text), DELTA_CHARS)]


def scan(pieces: list[str]) -> None:
    scanner = ProtocolScanner()
    for piece in pieces:
        scanner.feed(piece)
    scanner.finish()


def scan_by_raw_decode(pieces: list[str]) -> int:
    """The obvious way: keep what follows a brace until ``raw_decode``, tried from each brace, succeeds."""
    decoder, shown, found, held = json.JSONDecoder(), [], 0, ""
    for piece in pieces:
        held += piece
        at = held.find("{")
        while at >= 0:
            try:
                value, end = decoder.raw_decode(held, at)
            except (ValueError, RecursionError):
                at = held.find("{", at + 1)
                continue
            found += next(iter(value), None) in PROTOCOL_KINDS
            shown.append(held[:at])
            held = held[end:]
            at = held.find("{")
        if "{" not in held:
            shown.append(held)
            held = ""
    return found


def seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """Median of the process's own CPU time, so that other work on the machine counts less."""
    times = []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return statistics.median(times)


def doubling(make: Callable[[int], str]) -> tuple[float, float]:
    """How much longer twice as much takes, and MB/s; medians of interleaved rounds."""
    once, twice = deltas(make(1_000_000)), deltas(make(2_000_000))
    ratios, speeds = [], []
    for _ in range(5):
        first, second = seconds(lambda: scan(once), 1), seconds(lambda: scan(twice), 1)
        ratios.append(second / first)
        speeds.append(2 / second)
    return statistics.median(ratios), statistics.median(speeds)


def speeds() -> bool:
    good = True
    prose = PROSE * 60_000
    mixed = (PROSE * 20 + MESSAGE) * 2_800
    dense = (PROSE * 2 + MESSAGE) * 18_000
    for name, text, wanted in (
        ("prose", prose, WANTED_MB_PER_SECOND),
        ("prose with code in braces", (PROSE + CODE) * 200, 0),
        ("prose, 5 % objects", mixed, 0),
        ("prose, 37 % objects", dense, 0),
    ):
        pieces = deltas(text)
        rate = len(text) / seconds(lambda pieces=pieces: scan(pieces)) / 1e6  # type: ignore[misc]
        peer = len(text) / seconds(lambda pieces=pieces: scan_by_raw_decode(pieces)) / 1e6  # type: ignore[misc]
        good &= rate >= wanted
        print(f"{name:26} {rate:7.1f} MB/s   raw_decode {peer:6.1f} MB/s   ratio {rate / peer:.2f}")
    braces = deltas("{" * 4_000)
    ratio = seconds(lambda: scan_by_raw_decode(braces), 3) / seconds(lambda: scan(braces), 3)
    print(f"{'4 000 braces':26} {ratio:7.1f} times as fast as raw_decode from each brace")
    return good


def main() -> int:
    good = speeds()
    for name, make in HOSTILE.items():
        ratio, rate = doubling(make)
        good &= ratio <= ALLOWED_DOUBLING
        print(f"{name:26} {rate:7.1f} MB/s   twice as much takes {ratio:.2f} times as long")
    print("all figures hold" if good else "a figure misses")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
