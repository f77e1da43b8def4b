"""A clock that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """The time as a program believes it: the real one, ahead of it, or behind; or one that stands still."""

    def __init__(self, at: datetime | None = None) -> None:
        self.offset = timedelta()
        self.at = at

    def __call__(self) -> datetime:
        return (self.at or datetime.now(UTC)) + self.offset

    def move(self, **by: float) -> None:
        """Set it forward, or back: ``hours=1``, ``seconds=-5``."""
        self.offset += timedelta(**by)
