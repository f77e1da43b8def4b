"""File systems of a test's own: small ones that really run full, and folders that really cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MIB = 2**20


class Disk:
    """A mounted file system; ``fill`` takes all of its space but some, ``free`` gives it back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    def fill(self, spare_bytes: int = 0) -> None:
        with self._filler.open("ab", buffering=0) as file:
            while (free := shutil.disk_usage(self.folder).free - spare_bytes) > 0:
                with suppress(OSError):  # somebody else may have taken it meanwhile
                    file.write(bytes(min(free, MIB)))

    def free(self) -> None:
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, size_bytes: int = 8 * MIB) -> Iterator[Disk]:
    """A disk of that size at the folder; skips the test where nothing may be mounted."""
    with _mounted(folder, f"size={size_bytes}"):
        yield Disk(folder)


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """The folder without permission to write into it; for root, who needs none, on a read-only disk."""
    if os.geteuid() == 0:
        with _mounted(folder, "ro"):
            yield
        return
    before = folder.stat().st_mode
    folder.chmod(0o500)
    try:
        yield
    finally:
        folder.chmod(before)


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
