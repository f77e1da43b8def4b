"""The log of one execution: every event as a line of JSON, protocol messages included, secrets redacted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO


class RunLog:
    """Appends lines to ``logs/<execution id>.jsonl`` in the home, readable by its owner only."""

    def __init__(self, home: Path, execution_id: str) -> None:
        self.path = home / "logs" / f"{execution_id}.jsonl"
        self._file: TextIO | None = None
        self._is_closed = False

    def append(self, lines: Iterable[str]) -> None:
        """Write lines, each a JSON object; opens the file at the first one, and never again after ``close``."""
        if self._is_closed:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(handle, "a", encoding="utf-8")
        self._file.writelines(f"{line}\n" for line in lines)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        if self._file is not None:
            self._file.close()
            self._file = None
