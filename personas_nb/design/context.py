"""Files that a design is given to look at: specifications, schemas, samples of data."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from personas_nb.errors import InvalidInput, TooLarge


@dataclass(frozen=True)
class ContextText:
    """A context file as it was read: its name, its text, where it is."""

    name: str
    text: str
    path: Path

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names of a CSV or TSV file; none of any other.

        >>> ContextText("sales.csv", "day,amount\\n1,2\\n", Path("sales.csv")).columns
        ('day', 'amount')
        """
        if self.path.suffix.lower() not in (".csv", ".tsv"):
            return ()
        first = self.text.partition("\n")[0].strip("\r\ufeff")
        delimiter = max(",;\t|", key=first.count)
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:  # a “line” longer than the reader takes: no header
            return ()
        return tuple(cell.strip() for cell in cells if cell.strip())[:50]


def locate(sources: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """Absolute paths of context files, so that a session can be resumed from another folder.

    Raises ``InvalidInput`` for a web address.
    """
    if isinstance(sources, str | Path):
        sources = (sources,)
    paths = []
    for source in sources:
        if re.match(r"[a-z][a-z0-9+.-]+://", str(source), re.IGNORECASE):
            raise InvalidInput(
                f"“{source}” is a web address; reading those as context comes in a later version.",
                hint="Save the page as a file and give its path.",
            )
        paths.append(str(Path(source).expanduser().absolute()))
    return tuple(dict.fromkeys(paths))


def read(paths: Iterable[str], *, limit_bytes: int, skip_missing: bool = False) -> tuple[ContextText, ...]:
    """The texts of context files.

    ``limit_bytes`` is per file. ``skip_missing`` leaves out what has gone meanwhile. Raises ``InvalidInput``
    for what is absent, a folder or no text, and ``TooLarge``.
    """
    texts = []
    for name in paths:
        path = Path(name)
        if skip_missing and not path.is_file():
            continue
        texts.append(ContextText(path.name, _text(path, limit_bytes), path))
    return tuple(texts)


def _text(path: Path, limit_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise InvalidInput(
            f"There is no context file {path}.", hint="Check the path; it is seen from the notebook's folder."
        ) from None
    except IsADirectoryError:
        raise InvalidInput(f"{path} is a folder.", hint="Name the files in it that matter.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a character, which no path has
        raise InvalidInput(
            f"The context file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no path'}.",
            hint="Make it readable, or design without it.",
        ) from None
    if len(data) > limit_bytes:
        raise TooLarge(
            f"The context file {path.name} is larger than {limit_bytes} bytes.",
            hint="Cut it to the part that matters, or raise context_file_limit_bytes.",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidInput(
            f"The context file {path.name} is no text in UTF-8.",
            hint="Give a text file: .txt, .md, .csv, .json, .yaml and the like.",
        )
    return text
