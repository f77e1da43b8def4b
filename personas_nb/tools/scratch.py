"""A copy of a workspace for a rehearsal to write into."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

FILES_LIMIT = 2000
# The whole copy may take this many times the limit of one file: 100 MiB by default.
SIZE_FACTOR = 20


class Scratch:
    """A temporary folder that ``fill`` copies a workspace into; ``close`` removes it.

    Copied are regular files up to the limit of one file, and of these as many as ``FILES_LIMIT`` and
    ``SIZE_FACTOR`` allow; ``left_out`` names the others. The workspace is only read.
    """

    def __init__(self, workspace: Path, *, file_limit_bytes: int) -> None:
        self._workspace = workspace
        self._file_limit_bytes = file_limit_bytes
        self._temporary = tempfile.TemporaryDirectory(
            prefix="personas-rehearsal-", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        self.left_out: list[str] = []

    def fill(self) -> None:
        """Copy the workspace."""
        count = size_bytes = 0
        for name, folders, files in os.walk(self._workspace):
            here = Path(name)
            target = self.folder / here.relative_to(self._workspace)
            for folder in sorted(folders):
                if (here / folder).is_symlink():
                    self._leave_out(here / folder)
                else:
                    # No parents: after close() nothing may come back.
                    (target / folder).mkdir()
            for file in sorted(files):
                copied_bytes = self._copy(here / file, target / file, size_bytes, count)
                count, size_bytes = count + (copied_bytes is not None), size_bytes + (copied_bytes or 0)

    @property
    def note(self) -> str:
        """What the copy lacks, in a sentence; empty when it lacks nothing."""
        if not self.left_out:
            return ""
        shown = ", ".join(self.left_out[:5]) + (" …" if len(self.left_out) > 5 else "")
        return f"(The scratch copy of the workspace leaves out links and what is too large: {shown}.)"

    def close(self) -> None:
        """Remove the copy."""
        self._temporary.cleanup()

    def _copy(self, source: Path, target: Path, size_bytes: int, count: int) -> int | None:
        """How many bytes were copied; None when the file was left out."""
        try:
            found = source.lstat()
            fits = (
                stat.S_ISREG(found.st_mode)
                and found.st_size <= self._file_limit_bytes
                and size_bytes + found.st_size <= SIZE_FACTOR * self._file_limit_bytes
                and count < FILES_LIMIT
            )
            if fits:
                shutil.copy(source, target, follow_symlinks=False)
                return found.st_size
        except OSError:  # unreadable, or gone in the meantime
            pass
        self._leave_out(source)
        return None

    def _leave_out(self, path: Path) -> None:
        self.left_out.append(path.relative_to(self._workspace).as_posix())
