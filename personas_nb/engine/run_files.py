"""The files that a run is given: copied first, and moved to their place together with the run's row.

A run that is queued reads its files later. So a name that another open run of the persona uses stays that run's
own, and the new file goes into a folder of its own beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from personas_nb.errors import InvalidInput


class RunFiles:
    """Files on their way into the folder ``inputs`` of a workspace."""

    def __init__(self, paths: Sequence[Path], workspace: Path) -> None:
        self._paths, self._workspace = paths, workspace
        self._copies = [workspace / "inputs" / f".{uuid4().hex}.part" for _ in paths]
        self._places: list[Path] = []

    def copy(self) -> None:
        """Copy them, under names that nobody else has. Raises ``InvalidInput``."""
        for path, copy in zip(self._paths, self._copies, strict=True):
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            except OSError as error:
                raise _uncopied(path, error) from None

    def listing(self, used: Collection[str], run_id: str) -> tuple[str, ...]:
        """Where each will be and how large it is, as the prompt says it; ``used`` are the listings of open runs."""
        taken = {line.rpartition(" (")[0] for line in used}
        names = [f"inputs/{path.name}" for path in self._paths]
        if not taken.isdisjoint(names):
            names = [f"inputs/{run_id[:8]}/{path.name}" for path in self._paths]
        self._places = [self._workspace / name for name in names]
        sizes = [copy.stat().st_size for copy in self._copies]
        return tuple(f"{name} ({size:,} bytes)" for name, size in zip(names, sizes, strict=True))

    def place(self) -> None:
        """Move them to where the listing says. Raises ``InvalidInput``."""
        for path, copy, place in zip(self._paths, self._copies, self._places, strict=True):
            try:
                place.parent.mkdir(exist_ok=True)
                copy.replace(place)
            except OSError as error:
                raise _uncopied(path, error) from None

    def discard(self) -> None:
        """Remove the copies that were not placed."""
        for copy in self._copies:
            with suppress(OSError):
                copy.unlink()


def _uncopied(path: Path, error: OSError) -> InvalidInput:
    reason = error.strerror or type(error).__name__
    return InvalidInput(
        f"{path.name} cannot be copied into the workspace: {reason}.", hint="Rename it, or give another file."
    )
