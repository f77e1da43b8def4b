"""How fast redaction is, against one regular expression of all patterns; exits 1 when it is too slow.

python bench/redaction.py
"""

from __future__ import annotations

import base64
import random
import re
import string
import sys
import time
from collections.abc import Callable

from personas_nb.vault.redaction import Redactor

SECRETS = 20
WHOLE_BYTES = 64 * 1024
DELTA_CHARS = 40
WHOLE_MIN_MB_PER_S = 100.0
STREAM_MIN_MB_PER_S = 8.0


def prose(rng: random.Random, length: int) -> str:
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 10))) for _ in range(2_000)]
    text = " ".join(rng.choices(words, k=length // 4)) + ".\n"
    return text[:length]


def best_seconds(call: Callable[[], object], repeats: int = 15) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def alternation(secrets: dict[str, str]) -> re.Pattern[str]:
    """The peer: the same secrets, raw, at three base64 offsets, and percent-encoded, as one ``re``."""
    patterns = set()
    for value in secrets.values():
        data = value.encode()
        patterns.add(value)
        patterns |= {base64.b64encode(b"\0" * offset + data).decode()[4:-4] for offset in range(3)}
        patterns.add("".join(f"%{byte:02X}" for byte in data))
        patterns.add("".join(f"%{byte:02x}" for byte in data))
    return re.compile("|".join(re.escape(pattern) for pattern in sorted(patterns, key=len, reverse=True)))


def streamed(redactor: Redactor, deltas: list[str]) -> str:
    stream = redactor.stream()
    feed = stream.feed
    return "".join([feed(delta) for delta in deltas]) + stream.finish()


def main() -> int:
    rng = random.Random(14)
    letters = string.ascii_letters + string.digits + '"\\/+&= %~'  # what encodings change makes more patterns
    secrets = {f"KEY_{number}": "".join(rng.choices(letters, k=40)) for number in range(SECRETS)}
    text = prose(rng, WHOLE_BYTES)
    deltas = [text[at : at + DELTA_CHARS] for at in range(0, len(text), DELTA_CHARS)]
    redactor, empty, peer = Redactor(secrets), Redactor({}), alternation(secrets)
    assert redactor.redact(text) == streamed(redactor, deltas) == peer.sub("", text) == text

    megabytes = len(text.encode()) / 1e6
    peer_speed = megabytes / best_seconds(lambda: peer.sub("[secret]", text), repeats=3)
    whole_speed = megabytes / best_seconds(lambda: redactor.redact(text))
    stream_speed = megabytes / best_seconds(lambda: streamed(redactor, deltas))
    print(f"{SECRETS} secrets: {redactor!r}")
    print(f"re alternation, whole    {peer_speed:8.1f} MB/s")
    print(
        f"whole, {WHOLE_BYTES // 1024} KiB            {whole_speed:8.1f} MB/s  {whole_speed / peer_speed:6.1f} x re"
    )
    print(
        f"deltas of {DELTA_CHARS} characters  {stream_speed:8.1f} MB/s  {stream_speed / peer_speed:6.1f} x re (whole)"
    )
    print(f"without secrets, deltas  {megabytes / best_seconds(lambda: streamed(empty, deltas)):8.1f} MB/s")
    fast_enough = whole_speed >= WHOLE_MIN_MB_PER_S and stream_speed >= STREAM_MIN_MB_PER_S
    if not fast_enough:
        print(f"Too slow: at least {WHOLE_MIN_MB_PER_S:.0f} and {STREAM_MIN_MB_PER_S:.0f} MB/s are needed.")
    return 0 if fast_enough else 1


if __name__ == "__main__":
    sys.exit(main())
