"""Cases, made by hand or from a run, and the copies of their files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

from personas_nb.design.evals.expressions import check_pattern
from personas_nb.engine.protocol import PROTOCOL_KINDS
from personas_nb.entities.base import made
from personas_nb.entities.eval import EvalFile, Expectations
from personas_nb.entities.execution import Execution
from personas_nb.errors import InvalidInput, NotFound, TooLarge, did_you_mean

NAME_CHARS = 60
_LISTS = tuple(
    name for name, field in Expectations.model_fields.items() if get_args(field.annotation)[1:] == (Ellipsis,)
)


class CaseFiles:
    """The files of cases, each kept once under the digest of what is in it."""

    def __init__(self, home: Path, *, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = home / "evals" / "files", limit_bytes

    def keep(self, path: str | Path) -> EvalFile:
        """Copy a file; raises ``InvalidInput`` where there is none, ``TooLarge`` over the limit of an input."""
        source = Path(path).expanduser()
        try:
            if not source.is_file():
                raise InvalidInput(f"There is no file {source}.", hint="Give the path of a file that exists.")
            size_bytes = source.stat().st_size
            if size_bytes > self._limit_bytes:
                raise TooLarge(
                    f"{source.name} has {size_bytes / 2**20:,.1f} MiB; the limit is {self._limit_bytes / 2**20:g} MiB.",
                    hint="Give a smaller part of it, or raise input_limit_bytes in the settings.",
                )
            file = EvalFile(name=source.name, size_bytes=size_bytes, sha256=_digest(source))
            kept = self._path(file)
            if not kept.is_file():
                kept.parent.mkdir(parents=True, exist_ok=True)
                part = kept.with_name(f".{uuid4().hex}.part")
                shutil.copyfile(source, part)
                part.replace(kept)
        except OSError as error:
            raise InvalidInput(
                f"{source.name} cannot be kept: {error.strerror or type(error).__name__}.",
                hint="Give another file.",
            ) from None
        return file

    def find(self, file: EvalFile, case: str) -> Path:
        """The copy of a case's file; raises ``NotFound`` where it is gone, or is not what it was."""
        kept = self._path(file)
        hint = f"Give it again: `%persona evals add NAME {_word(case)} --file {_word(file.name)}`."
        try:
            digest = _digest(kept)
        except OSError:
            raise NotFound(f"The file {file.name} of the case “{case}” is gone.", hint=hint) from None
        if digest != file.sha256:
            raise NotFound(f"The file {file.name} of the case “{case}” was changed in the home.", hint=hint)
        return kept

    def forget(self, files: Iterable[EvalFile], used: Collection[str]) -> None:
        """Remove the copies of files that no other case uses; ``used`` are the digests of those."""
        for file in files:
            if file.sha256 not in used:
                shutil.rmtree(self._path(file).parent, ignore_errors=True)

    def _path(self, file: EvalFile) -> Path:
        return self._folder / file.sha256 / file.name


def expectations(
    given: Expectations | Mapping[str, Any] | None, known_tools: Collection[str]
) -> Expectations:
    """What is expected, checked: a single text stands for a list of one.

    Raises ``InvalidInput`` for what is no expectation, no message, no regular expression; ``NotFound`` for a tool that
    does not exist.

    >>> expectations({"contains": "North", "tools": ["file_read"]}, ["file_read"]).contains
    ('North',)
    """
    if isinstance(given, Expectations):
        found = given
    else:
        fields = {name: value for name, value in (given or {}).items() if value is not None}
        listed = {
            name: (value,) if isinstance(value, str) else value
            for name, value in fields.items()
            if name in _LISTS
        }
        found = made(Expectations, {**fields, **listed})
    for name in (*found.tools, *found.no_tools):
        if name not in known_tools:
            raise NotFound(
                f"There is no tool “{name}”.",
                hint=did_you_mean(name, known_tools, otherwise="`%persona tools` lists them."),
            )
    for kind in (*found.messages, *found.no_messages):
        if kind not in PROTOCOL_KINDS:
            raise InvalidInput(
                f"There is no message “{kind}”.",
                hint=did_you_mean(kind, PROTOCOL_KINDS, otherwise=f"There are {', '.join(PROTOCOL_KINDS)}."),
            )
    for text in (*found.contains, *found.excludes):
        if not text.strip():
            raise InvalidInput("A text to look for is empty.", hint="Leave it out, or say what to look for.")
    for pattern in found.matches:
        check_pattern(pattern)
    for wanted, unwanted in (("tools", "no_tools"), ("messages", "no_messages"), ("contains", "excludes")):
        if both := set(getattr(found, wanted)) & set(getattr(found, unwanted)):
            raise InvalidInput(
                f"“{min(both)}” is in `{wanted}` and in `{unwanted}`: no answer can meet both.",
                hint="Leave one of them out.",
            )
    return found


def expected_of(run: Execution, messages: Collection[str]) -> dict[str, Any]:
    """What a run did, as expectations of the next one: its status, the tools that answered, the messages it sent."""
    told = [kind for kind in messages if kind not in ("outcome_assessment", "execution_flow")]
    return {
        "status": run.status,
        "tools": tuple(dict.fromkeys(step.tool for step in run.tool_steps if step.error is None)),
        "messages": tuple(dict.fromkeys(told)),
    }


def files_of_run(run: Execution, workspace: Path) -> list[tuple[Path, str]]:
    """The files that a run was given, in its workspace, each with the size in words that it had then."""
    parts = [listing.rpartition(" (") for listing in run.files]
    return [(workspace / name, size.removesuffix(")")) for name, _, size in parts]


def name_of(text: str | None, otherwise: str) -> str:
    """A name for a case: the beginning of its input.

    >>> name_of("Which region sold more?\\nAnd why?", "case 1")
    'Which region sold more? And why?'
    """
    line = " ".join((text or "")[: NAME_CHARS * 4].split())
    if len(line) > NAME_CHARS:
        line = line[: NAME_CHARS - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
    return line or otherwise


def in_order(name: str) -> list[tuple[int, str]]:
    """What names are sorted by, so that 9 comes before 10.

    >>> sorted(["week-10", "week-9", "a"], key=in_order)
    ['a', 'week-9', 'week-10']
    """
    return [(int(part[:18]), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _digest(path: Path) -> str:
    with open(os.fspath(path), "rb") as file:  # noqa: PTH123 - file_digest wants a plain file
        return hashlib.file_digest(file, "sha256").hexdigest()


def _word(text: str) -> str:
    return text if re.fullmatch(r"[\w./-]+", text) else f'"{text}"'
