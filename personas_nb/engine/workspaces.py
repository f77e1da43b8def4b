"""The folders that personas work in; they stay between runs.

A persona has one. A run that begins while another run of the persona uses it, in whatever process, works in a
second one beside it, so that the two do not tread on each other; that one stays too, and begins as a copy of the
first.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput

COPY_LIMIT_BYTES = 100 * 1024 * 1024  # of a workspace that a parallel run begins with


def workspace_of(home: Path, persona: Persona) -> Path:
    """The folder that a persona's tools see."""
    return home / "workspaces" / f"{persona.slug}-{persona.id[:8]}"


def trial_folder_of(home: Path, execution_id: str) -> Path:
    """The folder that the tools of a test see instead; it begins with the files of its case, and goes with its run."""
    return home / "workspaces" / "evals" / execution_id


class TrialFolder:
    """The workspace of a test, which leaves that of its persona as it is."""

    note = ""

    def __init__(self, home: Path, execution_id: str) -> None:
        self.folder = trial_folder_of(home, execution_id)
        self.folder.mkdir(parents=True, exist_ok=True)

    def release(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Workspace:
    """A persona's folder for one run; nobody else uses it until ``release``.

    ``folder`` may not exist yet; ``note`` says so when it is not the persona's first one.
    """

    def __init__(self, home: Path, persona: Persona, files: Sequence[str] = ()) -> None:
        """Take the first free one. ``files`` are the listings of the files that the run was given."""
        first = workspace_of(home, persona)
        number, self._lock = _taken(home / "locks", persona.id)
        self.folder, self.note = first, ""
        if number > 1:
            self.folder = first.with_name(f"{first.name}.{number}")
            try:
                self.note = _opened(persona, first, self.folder, files)
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        """Let others have it."""
        self._lock.release(force=True)
        with _held_lock:
            _held.discard(self._lock.lock_file)


_held: set[str] = set()  # by this process: no need to ask the system
_held_lock = threading.Lock()


def _taken(locks: Path, persona_id: str) -> tuple[int, FileLock]:
    locks.mkdir(parents=True, exist_ok=True)
    stem = str(locks / f"workspace-{persona_id}-")  # once: a hundred runs at once try thousands of numbers
    for number in count(1):
        path = f"{stem}{number}.lock"
        with _held_lock:
            if path in _held:
                continue
            _held.add(path)
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except BaseException as error:
            with _held_lock:
                _held.discard(path)
            if isinstance(error, Timeout):  # another process has it
                continue
            raise
        return number, lock
    raise AssertionError("there are more numbers")


def _opened(persona: Persona, first: Path, folder: Path, files: Sequence[str]) -> str:
    """Make the folder ready for a parallel run, and say which it is."""
    note = f"Another run of {persona.name} is using its workspace, so this one works in {folder.name}."
    if not folder.exists() and first.exists():
        if _size_bytes(first) <= COPY_LIMIT_BYTES:
            _copy(first, folder)
        else:
            note += " It begins empty, because the workspace is too large to copy."
    for listing in files:
        name = listing.rpartition(" (")[0]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(first / name, folder / name)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InvalidInput(f"{name} cannot be copied: {reason}.", hint="Give it again.") from None
    return note


def _copy(source: Path, target: Path) -> None:
    """Copy a tree that others may be changing; what goes away meanwhile is left out. Links stay links."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with suppress(shutil.Error):
        shutil.copytree(source, part, symlinks=True, ignore_dangling_symlinks=True)
    part.rename(target)


def _size_bytes(folder: Path) -> int:
    total = 0
    for root, _folders, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118 - many small files
    return total
