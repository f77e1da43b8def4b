"""Reading and writing the files of a persona's workspace, and no others.

- The path is resolved with all its symlinks; what then lies outside the workspace is refused.
- The resolved path is opened folder by folder and never through a symlink, so that one put there in between
  leads nowhere. Where the system cannot do that (Windows), the first check stands alone.
- Only regular files are opened: a FIFO would block, and a device does things.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from uuid import uuid4

from personas_nb.errors import TooLarge, ToolDenied, ToolError

LISTED_ENTRIES = 500
_SEARCHED_NAMES = 1000

_IS_ANCHORED = {os.open, os.mkdir, os.stat, os.rename, os.unlink} <= os.supports_dir_fd
_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_FOLDER = _SAFE | getattr(os, "O_DIRECTORY", 0)


def file_read(
    workspace: Path, path: str, *, offset: int = 0, limit_bytes: int, redact: Callable[[str], str] = str
) -> str:
    """The text of a file of the workspace from character ``offset`` on, or the listing of a folder.

    ``redact`` takes secrets out of the whole text; ``offset`` counts in what is left, so that none is read in halves.
    Bytes that are not UTF-8 are shown as �, and the first line says so. Raises ToolDenied for a path that leads
    out of the workspace or is no regular file, TooLarge above the limit, ToolError for what cannot be read.

    >>> import tempfile
    >>> workspace = Path(tempfile.mkdtemp())
    >>> file_write(workspace, "notes/today.md", "All quiet.", limit_bytes=1000)
    'Wrote 10 bytes to notes/today.md.'
    >>> file_read(workspace, "notes/today.md", limit_bytes=1000)
    'All quiet.'
    >>> file_read(workspace, "notes", limit_bytes=1000)
    'today.md (10 bytes)'
    """
    with _in_words(path):
        root, parts = _located(workspace, path)
        try:
            with _folder(root, parts[:-1]) as folder:
                found = _status(folder, parts[-1]) if parts else None
                if found is None or stat.S_ISDIR(found.st_mode):
                    return _listing(root, parts)
                _check_size(path, found.st_size, limit_bytes)
                with os.fdopen(_opened(folder, parts[-1], os.O_RDONLY, path), "rb") as file:
                    data = file.read(limit_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            if not parts:
                return "The workspace is empty."
            raise _missing(root, path) from None
    _check_size(path, len(data), limit_bytes)
    text = redact(_as_text(data))
    if offset and offset >= len(text):
        raise ToolError(f"“{path}” has {len(text)} characters.", hint="Give a smaller offset.")
    return text[max(0, offset) :]


def file_write(workspace: Path, path: str, content: str, *, append: bool = False, limit_bytes: int) -> str:
    """Write a text as UTF-8 to a file of the workspace; folders are made. Says what was written.

    A file is replaced at once or not at all; ``append`` adds to its end instead. Raises as ``file_read`` does;
    then nothing was written.
    """
    data = _encoded(content)
    _check_size(path, len(data), limit_bytes)
    with _in_words(path):
        root, parts = _located(workspace, path)
        if not parts or path.endswith(("/", "\\")):
            raise ToolError(f"“{path}” is a folder.", hint="Add a file name to it.")
        with _folder(root, parts[:-1], make=True) as folder:
            before = _before(folder, parts[-1], path)
            if append and before is not None:
                _check_size(path, before.st_size + len(data), limit_bytes)
            if append:
                _append(folder, parts[-1], data, path)
                return f"Added {len(data):,} bytes to {path}."
            _replace(folder, parts[-1], data, before)
    return f"Wrote {len(data):,} bytes to {path}."


class _Folder(NamedTuple):
    """An open folder; without a descriptor (Windows) only its path."""

    path: Path
    descriptor: int | None

    def at(self, name: str) -> str:
        return name if self.descriptor is not None else str(self.path / name)


def _located(workspace: Path, path: str) -> tuple[Path, tuple[str, ...]]:
    """The workspace, and the way from it to what is meant, both without symlinks."""
    posix, windows = PurePosixPath(path), PureWindowsPath(path)
    advice = "Give a path inside the workspace, such as inputs/data.csv."
    if posix.is_absolute() or windows.drive or windows.root:
        raise ToolDenied(f"“{path}” is an absolute path.", hint=advice)
    if ".." in posix.parts or ".." in windows.parts:
        raise ToolDenied(f"“{path}” leads out of a folder with “..”.", hint=advice)
    try:
        root = workspace.resolve()
        real = (root / path).resolve()
    except (RuntimeError, ValueError):  # symlinks in a circle; a NUL, a lone surrogate
        raise ToolError("The path cannot be a path of a file.", hint=advice) from None
    if not real.is_relative_to(root):
        raise ToolDenied(f"“{path}” is or goes through a link that leads out of the workspace.", hint=advice)
    return root, real.relative_to(root).parts


@contextmanager
def _folder(root: Path, parts: Sequence[str], *, make: bool = False) -> Iterator[_Folder]:
    path = root.joinpath(*parts)
    if not _IS_ANCHORED:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        yield _Folder(path, None)
        return
    if make:
        root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root, _FOLDER)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
            inner = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield _Folder(path, descriptor)
    finally:
        os.close(descriptor)


def _status(folder: _Folder, name: str) -> os.stat_result:
    return os.stat(folder.at(name), dir_fd=folder.descriptor, follow_symlinks=False)


def _before(folder: _Folder, name: str, path: str) -> os.stat_result | None:
    """What is there already; only a regular file may be."""
    try:
        found = _status(folder, name)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise ToolError(f"“{path}” is a folder.", hint="Add a file name to it.")
    _check_regular(found, path)
    return found


def _opened(folder: _Folder, name: str, flags: int, path: str) -> int:
    _check_regular(_status(folder, name), path)
    descriptor = os.open(folder.at(name), flags | _SAFE, 0o666, dir_fd=folder.descriptor)
    try:
        _check_regular(os.fstat(descriptor), path)  # what was opened, not what was there before
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _append(folder: _Folder, name: str, data: bytes, path: str) -> None:
    with suppress(FileExistsError):
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
        os.close(os.open(folder.at(name), new, 0o666, dir_fd=folder.descriptor))
    with os.fdopen(_opened(folder, name, os.O_WRONLY | os.O_APPEND, path), "ab") as file:
        file.write(data)


def _replace(folder: _Folder, name: str, data: bytes, before: os.stat_result | None) -> None:
    temporary, at = f".{uuid4().hex}.part", folder.descriptor
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
    descriptor = os.open(folder.at(temporary), new, 0o666, dir_fd=at)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(folder.at(temporary), folder.at(name), src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with suppress(OSError):
            os.unlink(folder.at(temporary), dir_fd=at)
        raise


def _listing(root: Path, parts: Sequence[str]) -> str:
    with _folder(root, parts) as folder:
        with os.scandir(folder.path if folder.descriptor is None else folder.descriptor) as entries:
            names = sorted(entry.name for entry in entries)
        lines = [_line(folder, name) for name in names[:LISTED_ENTRIES]]
    if len(names) > LISTED_ENTRIES:
        lines.append(f"… and {len(names) - LISTED_ENTRIES:,} more")
    return "\n".join(lines) or ("The folder is empty." if parts else "The workspace is empty.")


def _line(folder: _Folder, name: str) -> str:
    try:
        found = _status(folder, name)
    except FileNotFoundError:
        return f"{name} (gone)"
    if stat.S_ISDIR(found.st_mode):
        return f"{name}/"
    if stat.S_ISLNK(found.st_mode):
        return f"{name} (link)"
    return f"{name} ({found.st_size:,} bytes)" if stat.S_ISREG(found.st_mode) else f"{name} (no regular file)"


def _missing(root: Path, path: str) -> ToolError:
    names = list(islice(_names(root), _SEARCHED_NAMES))
    wanted = PurePosixPath(path).name.lower()
    same = [name for name in names if PurePosixPath(name).name.lower() == wanted]
    near = same or difflib.get_close_matches(path, names, n=1, cutoff=0.6)
    if near:
        hint = f"Did you mean “{near[0]}”?"
    elif names:
        hint = f"The workspace has {', '.join(names[:10])}{' …' if len(names) > 10 else ''}."
    else:
        hint = "The workspace is empty."
    return ToolError(f"There is no file “{path}”.", hint=hint)


def _names(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            yield Path(folder, name).relative_to(root).as_posix()


def _as_text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        return f"(This file is not UTF-8 text; what could not be read is shown as �.)\n{text}"


def _encoded(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise ToolError(
            "The content holds half a character (a lone surrogate), which no file can hold.",
            hint="Leave it out, or write the whole character.",
        ) from None


def _check_regular(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ToolDenied(f"“{path}” is a pipe, a socket, a device or a link, not a file.")


def _check_size(path: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise TooLarge(
            f"“{path}” is over the limit of {limit_bytes:,} bytes.",
            hint="Work with a smaller part of it, or raise the setting file_limit_bytes.",
        )


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    try:
        yield
    except NotADirectoryError:
        raise ToolError(f"A part of “{path}” is a file, not a folder.", hint="Choose another path.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ToolError(f"“{path}” cannot be used: {reason}.") from None
