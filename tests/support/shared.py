"""Where data that the project shares with others lies beside a checkout; tests that read it skip without it."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
