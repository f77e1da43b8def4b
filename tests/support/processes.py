"""Processes found by a marker in their command line or environment, and the certainty that none is left."""

from __future__ import annotations

import time

import psutil


def marked(marker: str) -> list[psutil.Process]:
    """Living processes but this one whose command line or environment has the marker; a zombie lives no more."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != psutil.Process().pid and _has(process, marker)
    ]


def wait_for_marked(marker: str, count: int, seconds: float = 20.0) -> list[psutil.Process]:
    """The marked processes, once there are at least so many; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while len(found := marked(marker)) < count:
        assert time.monotonic() < deadline, f"after {seconds} s there are only {described(found)}"
        time.sleep(0.02)
    return found


def assert_none_left(marker: str, seconds: float = 5.0) -> float:
    """Fail when a marked process lives longer than this; else the seconds that it took.

    Those that are left are killed, so that one failure does not become several.
    """
    begun = time.monotonic()
    while left := marked(marker):
        if time.monotonic() - begun > seconds:
            names = described(left)
            for process in left:
                process.kill()
            raise AssertionError(f"left after {seconds} s: {names}")
        time.sleep(0.01)
    return time.monotonic() - begun


def described(processes: list[psutil.Process]) -> str:
    """Pid and command line of each, for a message."""
    lines = []
    for process in processes:
        try:
            lines.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
        except psutil.Error:
            lines.append(f"{process.pid} (gone)")
    return "; ".join(lines) or "none"


def _has(process: psutil.Process, marker: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # a process that is just starting or ending may show one and refuse the other
        return any(marker in part for part in process.cmdline()) or _environment_has(process, marker)
    except psutil.Error:
        return False


def _environment_has(process: psutil.Process, marker: str) -> bool:
    try:
        return any(marker in part for item in process.environ().items() for part in item)
    except (psutil.Error, OSError):
        return False
