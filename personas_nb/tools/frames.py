"""DataFrames between tools: a model passes a handle such as ``df:sales-1``, and never the rows.

- What a notebook's function returns as a frame is kept for the run; the model is told its handle, its columns and
  its first rows. A function with a parameter for a frame is given the frame that the handle names.
- The frames of a run go when it has ended, but those of the run that ended last stay until the next one ends, so
  that the notebook can look at them. Those of a run that waits for a decision stay until it goes on here; where it
  goes on elsewhere they are gone, and their numbers are not used again. What ``keep`` was given a name for stays as
  long as the process.
- Frames are shared, never copied. pandas 3 copies what is changed; before it, a function that changes a frame
  changes it for all.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from personas_nb.errors import InvalidInput, NotFound, did_you_mean

PREFIX = "df:"
FRAMES_LIMIT = 50  # of one run; the oldest goes first
WAITING_RUNS = 8  # whose frames are held; the oldest lets go first
PART_NUMBERS = 1000  # of the frames of each part of a run that waited
HEAD_ROWS = 5
HEAD_LIMIT_CHARS = 2_000
COLUMNS_LIMIT = 60
_HANDLE_OF = "The handle of a "
MANY_RECORDS = 50  # a list of so many dicts is a table

_homes: dict[Path, Frames] = {}
_homes_lock = threading.Lock()


def frames_of(home: Path) -> Frames:
    """The frames that this process holds for a home."""
    with _homes_lock:
        return _homes.setdefault(_real(home), Frames())


@lru_cache(maxsize=64)
def _real(home: Path) -> Path:
    """Where a home is, links followed: looked up once, as every run asks."""
    return home.resolve()


class Frames:
    """The frames of one process and home: those kept by name, and those of runs."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}
        self._open: list[RunFrames] = []
        self._last: RunFrames | None = None
        self._waiting: OrderedDict[str, RunFrames] = OrderedDict()  # by the ids of their runs
        self._lock = threading.Lock()

    def keep(self, name: str, frame: Any) -> str:
        """Keep a frame under a name; its handle, which every run of this process may use."""
        if not re.fullmatch(r"[A-Za-z_]\w{0,63}", str(name)):
            raise InvalidInput(
                f"“{name}” cannot name a frame.", hint="Use letters, digits and _, such as sales."
            )
        table = as_frame(frame)
        if table is None:
            raise InvalidInput(f"A {type(frame).__name__} is no frame.", hint="Give a DataFrame or a Series.")
        with self._lock:
            if name not in self._kept and len(self._kept) >= FRAMES_LIMIT:
                raise InvalidInput(
                    f"{FRAMES_LIMIT} frames are kept already.", hint="Let one go: tools.drop_frame."
                )
            self._kept[name] = table
        return PREFIX + name

    def drop(self, handle: str) -> None:
        """Let go of a frame that was kept by name; raises ``NotFound``."""
        with self._lock:
            if self._kept.pop(handle.removeprefix(PREFIX), None) is None:
                raise self.unknown(handle, self._kept)

    def get(self, handle: str) -> Any:
        """The frame of a handle: one kept by name, else of a run that goes on, else of the one that ended last."""
        name = handle.removeprefix(PREFIX)
        with self._lock:
            runs = [*reversed(self._open), *([self._last] if self._last else [])]
            places = [self._kept, *(run.frames for run in runs)]
            for frames in places:
                if name in frames:
                    return frames[name]
            raise self.unknown(handle, [known for frames in places for known in frames])

    def of_run(self, execution_id: str = "", part: int = 0) -> RunFrames:
        """A place for the frames of a run that begins; to be closed when it has ended.

        ``part`` is how often it has waited: it finds its frames again if it waited in this process.
        """
        with self._lock:
            run = self._waiting.pop(execution_id, None) or RunFrames(self, part * PART_NUMBERS)
            self._open.append(run)
        return run

    def wait(self, execution_id: str, run: RunFrames) -> None:
        """The run waits for a decision."""
        self.end(run)
        with self._lock:
            self._waiting[execution_id] = run
            while len(self._waiting) > WAITING_RUNS:
                self._waiting.popitem(last=False)

    def kept(self, name: str) -> Any:
        """A frame kept by name, or None."""
        with self._lock:
            return self._kept.get(name)

    def end(self, run: RunFrames) -> None:
        """The run has ended; where it had frames, they take the place of those of the last one."""
        with self._lock:
            if run in self._open:
                self._open.remove(run)
            if run.frames:
                self._last = run

    def names(self) -> list[str]:
        """The names of those that are kept."""
        with self._lock:
            return list(self._kept)

    def unknown(self, handle: str, known: Iterable[str]) -> NotFound:
        """The error that names the frames there are."""
        names = sorted({PREFIX + name for name in known})
        there_are = f"There are {', '.join(names[:10])}." if names else "There is none yet."
        return NotFound(
            f"There is no frame “{str(handle)[:80]}” here.",
            hint=did_you_mean(handle, names, otherwise=there_are),
        )


class RunFrames:
    """The frames of one run, at most ``FRAMES_LIMIT``; their numbers begin after ``after``."""

    def __init__(self, all_frames: Frames, after: int = 0) -> None:
        self.frames: OrderedDict[str, Any] = OrderedDict()
        self._all = all_frames
        self._counts: dict[str, int] = {}
        self._after = after
        self._lock = threading.Lock()

    def put(self, name: str, frame: Any) -> str:
        """Keep a frame for the run; its handle."""
        with self._lock:
            number = self._counts[name] = self._counts.get(name, self._after) + 1
            handle = f"{name}-{number}"
            self.frames[handle] = frame
            while len(self.frames) > FRAMES_LIMIT:
                self.frames.popitem(last=False)
        return PREFIX + handle

    def get(self, handle: str) -> Any:
        """The frame of a handle of this run, or of one kept by name; raises ``NotFound``."""
        name = handle.removeprefix(PREFIX)
        with self._lock:
            if name in self.frames:
                return self.frames[name]
            base, _, number = name.rpartition("-")
            if number.isdigit() and 0 < int(number) <= self._counts.get(base, self._after):
                raise NotFound(
                    f"The frame “{handle}” is gone: a run keeps its last {FRAMES_LIMIT}.",
                    hint="Make it again.",
                )
        kept = self._all.kept(name)
        if kept is None:
            raise self._all.unknown(handle, [*self.frames, *self._all.names()])
        return kept

    def close(self) -> None:
        """The run has ended."""
        self._all.end(self)

    def wait(self, execution_id: str) -> None:
        """The run waits for a decision; ``close`` no longer applies."""
        self._all.wait(execution_id, self)


def handle_schema(kind: str) -> dict[str, Any]:
    """What a model is told of a parameter that takes a frame."""
    return {
        "type": "string",
        "description": f"{_HANDLE_OF}{kind}, such as df:sales-1, as another tool returned it.",
    }


def is_frame_handle(schema: Any) -> bool:
    """Whether a schema is that of a frame, also of one that may be left out."""
    if not isinstance(schema, dict):
        return False
    parts = schema.get("anyOf") or []
    return str(schema.get("description", "")).startswith(_HANDLE_OF) or any(map(is_frame_handle, parts))


def as_frame(value: Any) -> Any:
    """The value as a DataFrame where it is one, a Series, or a long list of dicts; else None."""
    pandas = sys.modules.get("pandas")
    if isinstance(value, list) and len(value) >= MANY_RECORDS and all(type(item) is dict for item in value):
        import pandas as pd

        return pd.DataFrame(value)
    if pandas is None:  # whatever it is, it is no frame
        return None
    if isinstance(value, pandas.Series):
        return value.to_frame()
    return value if isinstance(value, pandas.DataFrame) else None


def described(handle: str, frame: Any, redact: Callable[[str], str] = str) -> str:
    """What a model is told of a frame: handle, shape, columns, first rows; ``redact`` takes secrets out of these."""
    rows, columns = frame.shape
    named = [
        f"{name} ({kind})"
        for name, kind in list(zip(frame.columns, frame.dtypes, strict=True))[:COLUMNS_LIMIT]
    ]
    more = f" … and {columns - COLUMNS_LIMIT} more" if columns > COLUMNS_LIMIT else ""
    has_default_index = type(frame.index).__name__ == "RangeIndex"
    head = frame.iloc[:HEAD_ROWS, :COLUMNS_LIMIT].to_csv(index=not has_default_index, lineterminator="\n")
    head = redact(head)  # before the cut
    if len(head) > HEAD_LIMIT_CHARS:
        head = f"{head[:HEAD_LIMIT_CHARS]}…\n"
    first = f"The first {HEAD_ROWS} rows" if rows > HEAD_ROWS else "All rows"
    return (
        f"{handle} is a table of {rows:,} rows and {columns} columns. Other tools take it by this handle.\n"
        f"Columns: {', '.join(named)}{more}\n{first} as CSV:\n{head}"
    )
