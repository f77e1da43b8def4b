"""The log of one execution: every event as a line of JSON, protocol messages included, secrets redacted.

A long log goes on in another file: ``<id>.jsonl`` is the newest, ``<id>.1.jsonl`` the oldest, ``<id>.2.jsonl`` the
next. A file keeps its number, so that whoever reads it is not led into another one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from personas_nb.entities.base import now, rfc3339

MIB = 2**20


class RunLog:
    """Appends lines to ``logs/<execution id>.jsonl`` in the home, readable by its owner only.

    A file ends before the line that would take it over ``limit_bytes``; no line is cut, so that one that is longer
    has a file of its own. The newest ``file_count`` files are kept; when one goes, the first line of the next file
    says so.
    """

    def __init__(
        self, home: Path, execution_id: str, *, limit_bytes: int = 16 * MIB, file_count: int = 4
    ) -> None:
        self.path = home / "logs" / f"{execution_id}.jsonl"
        self.limit_bytes, self.file_count = limit_bytes, file_count
        self._home, self._execution_id = home, execution_id
        self._file: BinaryIO | None = None
        self._size_bytes = 0
        self._is_closed = False

    @staticmethod
    def paths(home: Path, execution_id: str) -> list[Path]:
        """The files of an execution's log that there are, from the oldest to the newest."""
        newest = home / "logs" / f"{execution_id}.jsonl"
        older = _numbered(home, execution_id)
        return [*(older[number] for number in sorted(older)), *([newest] if newest.exists() else [])]

    def append(self, lines: Iterable[str]) -> None:
        """Write lines, each a JSON object; opens the file at the first one, and never again after ``close``."""
        if self._is_closed:
            return
        # Half a surrogate pair becomes \udXXX, which is what JSON calls it.
        encoded = [f"{line}\n".encode("utf-8", "backslashreplace") for line in lines]
        file = self._file or self._opened()
        total = sum(map(len, encoded))
        if self._size_bytes + total <= self.limit_bytes:
            file.writelines(encoded)
            self._size_bytes += total
        else:
            file = self._append_each(file, encoded)
        file.flush()

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        self._close_file()

    def _append_each(self, file: BinaryIO, encoded: Iterable[bytes]) -> BinaryIO:
        for line in encoded:
            if self._size_bytes and self._size_bytes + len(line) > self.limit_bytes:
                file = self._next_file()
            file.write(line)
            self._size_bytes += len(line)
        return file

    def _opened(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            handle = os.open(self.path, flags, 0o600)
        except FileNotFoundError:  # the first run of a home
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, flags, 0o600)
        self._size_bytes = os.fstat(handle).st_size
        self._file = os.fdopen(handle, "ab")
        return self._file

    def _next_file(self) -> BinaryIO:
        """Give the full file its number, remove what is too old, and begin a new one."""
        older = _numbered(self._home, self._execution_id)
        number = max(older, default=0) + 1
        self._close_file()
        older[number] = self.path.rename(self.path.with_name(f"{self._execution_id}.{number}.jsonl"))
        surplus = sorted(older)[: max(0, len(older) - (self.file_count - 1))]
        for each in surplus:
            older[each].unlink(missing_ok=True)
        file = self._opened()
        if surplus:
            notice = self._notice(gone=surplus[-1])
            file.write(notice)
            self._size_bytes += len(notice)
        return file

    def _notice(self, gone: int) -> bytes:
        what = "The oldest file of this log was" if gone == 1 else f"The {gone} oldest files of this log were"
        kept = "file is" if self.file_count == 1 else "files are"
        text = f"{what} removed: {self.file_count} {kept} kept, each of at most {self.limit_bytes:,} bytes."
        return f"{json.dumps({'at': rfc3339(now()), 'type': 'log', 'text': text})}\n".encode()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what a full disk did not take was said when it was written
                file.close()


def _numbered(home: Path, execution_id: str) -> dict[int, Path]:
    """The files that are no longer written, by their number."""
    name = re.compile(re.escape(execution_id) + r"\.([0-9]+)\.jsonl")
    with suppress(FileNotFoundError), os.scandir(home / "logs") as found:
        return {
            int(match[1]): home / "logs" / entry.name
            for entry in found
            if (match := name.fullmatch(entry.name))
        }
    return {}
