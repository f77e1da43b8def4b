"""Sealing and opening a secret, against bare AESGCM with the same bytes: at most three times as long.

A key file of 2 KB is shown and not judged: what it takes longer is base64, since a sealed value is text.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from personas_nb.vault.cipher import open_sealed, seal
from personas_nb.vault.keys import Key

RATIO_MAX = 3.0
CALLS = 20_000
VALUES = {"password": "correct horse", "token": "0123456789abcdef" * 16, "key file": "0123456789abcdef" * 128}
JUDGED_MAX_CHARS = 256


def microseconds(call: Callable[[], object], repeats: int = 7) -> float:
    """The best time of one call."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, time.perf_counter() - began)
    return best / CALLS * 1e6


def main() -> int:
    key, nonce, place = Key("0123456789abcdef", bytes(range(32))), bytes(12), b'["v1","k","c","token"]'
    is_fast = True
    for what, value in VALUES.items():
        sealed = seal(value, key=key, credential_id="c", field="token")
        data = AESGCM(key.secret).encrypt(nonce, value.encode(), place)
        bare = microseconds(
            lambda v=value: AESGCM(key.secret).encrypt(nonce, v.encode(), place)
        ) + microseconds(lambda d=data: AESGCM(key.secret).decrypt(nonce, d, place).decode())
        sealing = microseconds(lambda v=value: seal(v, key=key, credential_id="c", field="token"))
        opening = microseconds(lambda s=sealed: open_sealed(s, key=key, credential_id="c", field="token"))
        ratio = (sealing + opening) / bare
        is_fast = is_fast and (ratio <= RATIO_MAX or len(value) > JUDGED_MAX_CHARS)
        print(
            f"{what:9} {len(value):5} characters   seal {sealing:6.2f} µs, open {opening:6.2f} µs"
            f"   {ratio:5.2f} x bare AESGCM"
        )
    if not is_fast:
        print(f"Too slow: at most {RATIO_MAX:g} x bare AESGCM is allowed.")
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
