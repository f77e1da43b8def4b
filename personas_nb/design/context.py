"""What a design is given to look at: files, web addresses, DataFrames of the notebook.

- Everything is read once, when the session begins, and kept with it: a session goes on in another kernel, from
  another folder, and without the network.
- What is kept is what a designer is shown: the text within a limit, without known secrets.
- A web address passes the same checks as ``http_request``: public addresses only, a time limit, a size limit.
"""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from personas_nb.design.context_formats import Understood, understood
from personas_nb.entities.design import ContextItem, SuggestedServer
from personas_nb.errors import InvalidInput, TooLarge, ToolError
from personas_nb.settings import Settings

COUNT_MAX = 20
READ_SECONDS = 30.0  # a file of a MiB that takes longer was made to
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"([?&;][^=&;#]*(?:token|key|secret|password|sig|auth|code)[^=&;#]*=)[^&;#]*", re.IGNORECASE
)

Source = str | Path | Any
"""A path, a web address, a DataFrame, or ``(name, DataFrame)``."""


@dataclass(frozen=True)
class ContextText:
    """A source as a designer is shown it: its name, its text, what it is.

    ``path`` is the file or a name like one. ``used`` says what of the source the text is.
    """

    name: str
    text: str
    path: Path
    kind: str = ""
    used: str = ""
    given_columns: tuple[str, ...] = ()
    servers: tuple[SuggestedServer, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The column names of a table; none of anything else.

        >>> ContextText("sales.csv", "day,amount\\n1,2\\n", Path("sales.csv")).columns
        ('day', 'amount')
        """
        if self.given_columns or self.kind:
            return self.given_columns[:50]
        if self.path.suffix.lower() not in (".csv", ".tsv"):
            return ()
        first = self.text.partition("\n")[0].strip("\r\ufeff")
        delimiter = max(",;\t|", key=first.count)
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:  # a “line” longer than the reader takes: no header
            return ()
        return tuple(cell.strip() for cell in cells if cell.strip())[:50]


def text_of(item: ContextItem) -> ContextText:
    """A kept source as a designer is given it."""
    return ContextText(
        item.name, item.text, Path(item.name), item.kind, item.used, item.columns, item.servers
    )


def sources_of(context: Source | Iterable[Source]) -> list[Source]:
    """What was given as context as a list, each once; a lone one needs no brackets.

    Raises ``InvalidInput`` for what is no source, and for more than 20.
    """
    if context is None:
        return []
    if isinstance(context, str | Path) or _is_frame(context) or _is_named_frame(context):
        context = (context,)
    if isinstance(context, Mapping):  # {"sales": sales}
        context = tuple(context.items())
    try:
        given = list(context)
    except TypeError:
        given = [context]
    found: list[Source] = []
    for source in given:
        is_known = isinstance(source, str | Path) or _is_frame(source) or _is_named_frame(source)
        if not is_known:
            raise InvalidInput(
                f"A {type(source).__name__} cannot be context.",
                hint="Give paths of files, web addresses, DataFrames, or (name, DataFrame).",
            )
        if not any(source is other or (isinstance(source, str) and source == other) for other in found):
            found.append(source)
    if len(found) > COUNT_MAX:
        raise InvalidInput(
            f"{len(found)} sources of context are too many.", hint=f"Give the {COUNT_MAX} that matter most."
        )
    return found


async def gathered(
    sources: Iterable[Source],
    *,
    settings: Settings,
    redact: Callable[[str], str] = str,
    seen: Callable[[ContextItem], None] = lambda _item: None,
) -> list[ContextItem]:
    """Every source, read and understood; ``seen`` is told of each.

    Raises ``InvalidInput`` for what is absent, a folder, no text or no public address, ``TooLarge``, and
    ``ToolError`` for an address that does not answer in time or with an error.
    """
    items = []
    for source in sources:
        item = await _gathered(source, settings)
        item = item.changed(
            **{name: redact(getattr(item, name)) for name in ("source", "name", "used", "text")}
        )
        items.append(item)
        seen(item)
    return items


async def _gathered(source: Source, settings: Settings) -> ContextItem:
    if _is_frame(source) or _is_named_frame(source):
        return _of_frame(source)
    address = _ADDRESS.match(str(source)) if isinstance(source, str) else None
    if address is None or (address[1].lower() == "file"):
        path = _path(source)
        data = await asyncio.to_thread(_bytes, path, settings.context_file_limit_bytes)
        return await _understood(str(path), path.name, data, settings)
    return await _fetched(str(source).strip(), settings)


def _path(source: str | Path) -> Path:
    text = str(source)
    if text.lower().startswith("file://"):
        text = unquote(urlsplit(text).path)
    return Path(text).expanduser().absolute()


async def _fetched(url: str, settings: Settings) -> ContextItem:
    from personas_nb.tools.http import http_fetch

    shown = _shown_address(url)
    try:
        answer = await http_fetch(settings, url, limit_bytes=settings.context_file_limit_bytes)
    except TooLarge:
        raise TooLarge(
            f"{shown} is larger than {settings.context_file_limit_bytes:,} bytes.",
            hint="Save the part that matters as a file, or raise context_file_limit_bytes.",
        ) from None
    except ToolError as error:
        error.hint = error.hint or "Save what is there as a file, and give its path as context."
        raise
    if answer.status >= 400:
        raise InvalidInput(
            f"{shown} answered {answer.status}, which is no document.",
            hint="Open it in a browser; a page behind a login has to be saved as a file.",
        )
    parts = urlsplit(answer.url)
    name = PurePosixPath(unquote(parts.path)).name or parts.hostname or "page"
    return await _understood(shown, name, answer.data, settings, media_type=answer.media_type)


async def _understood(
    source: str, name: str, data: bytes, settings: Settings, *, media_type: str = ""
) -> ContextItem:
    limit_chars = settings.context_text_limit_chars
    try:
        async with asyncio.timeout(READ_SECONDS):
            found: Understood = await asyncio.to_thread(
                understood, name, data, limit_chars=limit_chars, media_type=media_type
            )
    except TimeoutError:
        raise InvalidInput(
            f"{name} could not be read within {READ_SECONDS:g} s.", hint="Save the part that matters as text."
        ) from None
    return ContextItem(
        source=source,
        name=name,
        kind=found.kind,
        used=found.used,
        text=found.text,
        columns=found.columns,
        servers=found.servers,
        size_bytes=len(data),
    )


def _of_frame(source: Any) -> ContextItem:
    from personas_nb.design.context_tables import frame

    name, data = source if isinstance(source, tuple) else ("DataFrame", source)
    text, used, columns = frame(data)
    return ContextItem(
        source=f"the notebook's {name}", name=str(name), kind="frame", used=used, text=text, columns=columns
    )


def _is_frame(value: Any) -> bool:
    # Told by its type's name, so that pandas is not imported for a path.
    return type(value).__name__ == "DataFrame" and type(value).__module__.startswith("pandas")


def _is_named_frame(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and _is_frame(value[1])


def _shown_address(url: str) -> str:
    """A web address without the values of parameters that may be secrets.

    >>> _shown_address("https://example.com/api?page=2&api_key=abc")
    'https://example.com/api?page=2&api_key=…'
    """
    return _SECRET_PARAMETER.sub(r"\1…", url)


def _bytes(path: Path, limit_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InvalidInput(f"{path} is no file.", hint="A pipe or a device would be read for ever.")
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except InvalidInput:
        raise
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
            f"The context file {path.name} is larger than {limit_bytes:,} bytes.",
            hint="Cut it to the part that matters, or raise context_file_limit_bytes.",
        )
    if not data.strip():
        raise InvalidInput(f"The context file {path.name} is empty.", hint="Design without it.")
    return data
