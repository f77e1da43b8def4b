"""Files of others, and our own: from a path, an address or a folder to reports with drafts to apply.

- A file is read once, whole, within ``import_limit_bytes``; an address passes the checks of ``http_request``.
- What is read is only data. A draft becomes a design session when somebody asks for it, and a persona when it is
  applied; what would start that persona by itself is off.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from personas_nb.design.formats import desktop, recognition
from personas_nb.design.formats.fitting import fitted
from personas_nb.design.formats.report import ImportReport, Outcome
from personas_nb.design.session import BUSY, DesignSession
from personas_nb.entities.connector import Connector
from personas_nb.entities.design import DesignResult
from personas_nb.errors import InvalidInput, NotFound, PersonaError, TooLarge, ToolError
from personas_nb.settings import Settings

if TYPE_CHECKING:
    from personas_nb.design.sessions import Sessions
    from personas_nb.tools.catalog import Tools

FILES_MAX = 10_000
SUFFIXES = (".json", ".ipynb", ".md")
_SMALLER = "Split it, or raise the setting import_limit_bytes."
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)

Source = str | Path | Mapping[str, Any]
"""A path, a web address, or what a JSON file holds, parsed."""


@dataclass(frozen=True)
class ImportedFile:
    """One file of a folder: what became of it, or ``error``, why nothing did."""

    path: str
    format: str = ""
    name: str = ""
    counts: Mapping[Outcome, int] | None = None
    starts: tuple[str, ...] = ()
    session_id: str = ""
    persona: str = ""
    changed: bool = False
    error: str = ""


class Importers:
    """Reads personas out of files: ``read`` recognises the format, the others are told it.

    ``run`` waits for a coroutine on the process's one event loop.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        tools: Tools,
        settings: Settings,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
    ) -> None:
        self._sessions = sessions
        self._tools = tools
        self._settings = settings
        self._run = run

    def read(self, source: Source, *, format: str | None = None) -> ImportReport:  # noqa: A002 - the contract's name
        """The file, address or parsed JSON as a report; `ImportReport.apply` makes its draft a persona.

        ``format`` is n8n, desktop, subagent, json, notebook or persona_md; None: told from the content. Raises
        ``NotFound``, ``InvalidInput``, ``TooLarge`` and, for an address, ``ToolError``; nothing is stored then.
        """
        chosen = recognition.format_named(format) if format else None
        if isinstance(source, Mapping):
            return self._bound(recognition.read(source, "the given data", format=chosen), "")
        place = str(source).strip()
        if address := _ADDRESS.match(place):
            return self._of_address(place, address[1].lower(), chosen)
        path = Path(place).expanduser()
        report = recognition.read(
            self._content(path), path.name, format=chosen, recipes=self._recipes(path.parent)
        )
        return self._bound(report, place)

    def n8n(self, source: Source) -> ImportReport:
        """An n8n workflow."""
        return self.read(source, format="n8n")

    def desktop_template(self, source: Source) -> ImportReport:
        """A template of Personas Desktop, or a persona that it exported."""
        return self.read(source, format="desktop")

    def subagent(self, source: Source) -> ImportReport:
        """A Claude Code subagent."""
        return self.read(source, format="subagent")

    def json(self, source: Source) -> ImportReport:
        """A persona that we exported as JSON."""
        return self.read(source, format="json")

    def notebook(self, source: Source) -> ImportReport:
        """A persona that we exported as a notebook."""
        return self.read(source, format="notebook")

    def persona_md(self, source: Source) -> ImportReport:
        """A ``.persona.md``, as proposed for Jupyter AI."""
        return self.read(source, format="persona_md")

    def folder(
        self,
        folder: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - the contract's name
        apply: bool = False,
    ) -> list[ImportedFile]:
        """Every file of a folder and those below it, each a stored draft; with ``apply`` each a persona.

        Files that cannot be read are among the results, with the reason. Hidden ones and links to folders are left
        out. Raises ``NotFound`` where there is no such folder, ``TooLarge`` above 10 000 files.
        """
        root = Path(str(folder)).expanduser()
        chosen = recognition.format_named(format) if format else None
        paths = list(_files(root))
        recipes: dict[Path, Mapping[str, Any] | None] = {}
        found = []
        for path in paths:
            if path.parent not in recipes:
                recipes[path.parent] = self._recipes(path.parent)
            found.append(self._imported(path, root, chosen, recipes[path.parent], apply=apply))
        return found

    def _imported(
        self, path: Path, root: Path, chosen: str | None, recipes: Mapping[str, Any] | None, *, apply: bool
    ) -> ImportedFile:
        shown = path.relative_to(root).as_posix()
        try:
            report = recognition.read(self._content(path), path.name, format=chosen, recipes=recipes)
            report = self._bound(report, str(path))
            row = ImportedFile(shown, report.format, report.name, report.counts, tuple(_starts(report.draft)))
            session = report.session
            row = replace(row, session_id=session.id)
            if not apply:
                return row
            persona = session.apply()
            return replace(
                row, persona=persona.slug, name=persona.name, changed=bool(session.applied_changes)
            )
        except PersonaError as error:
            return ImportedFile(shown, error=str(error))

    # ── where it comes from ─────────────────────────────────────────────────────────────────────────────────

    def _content(self, path: Path) -> bytes:
        limit_bytes = self._settings.import_limit_bytes
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise InvalidInput(
                    f"{path} is a folder.", hint="studio.importers.folder(path) reads all that is in it."
                )
            if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
                raise InvalidInput(f"{path} is no regular file.")
            with path.open("rb") as file:
                data = file.read(limit_bytes + 1)
        except FileNotFoundError:
            raise NotFound(f"There is no file {path}.", hint="Check the path.") from None
        except InvalidInput:
            raise
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InvalidInput(f"{path} cannot be read: {why}.") from None
        self._check_size(len(data), path.name)
        return data

    def _check_size(self, size_bytes: int, name: str) -> None:
        limit_bytes = self._settings.import_limit_bytes
        if size_bytes > limit_bytes:
            raise TooLarge(
                f"{name} is larger than the {limit_bytes:,} bytes that may be imported.",
                hint=_SMALLER,
            )

    def _recipes(self, folder: Path) -> Mapping[str, Any] | None:
        """The recipes beside a template; None where there are none, or they cannot be read."""
        path = folder / desktop.RECIPES_FILE
        if not path.is_file():
            return None
        try:
            return desktop.recipes_in(self._content(path), path.name)
        except PersonaError:
            return None

    def _of_address(self, url: str, scheme: str, chosen: str | None) -> ImportReport:
        from personas_nb.tools.http import http_fetch

        if scheme not in ("http", "https"):
            raise InvalidInput(
                f"“{scheme}://” is no address to import from.", hint="Give a path, or http(s)://…."
            )
        limit_bytes = self._settings.import_limit_bytes
        try:
            fetched = self._run(http_fetch(self._settings, url, limit_bytes=limit_bytes))
        except TooLarge as error:
            raise TooLarge(error.message, hint=_SMALLER) from None
        host = urlsplit(url).hostname or "the address"
        if fetched.status != 200:
            raise ToolError(
                f"{host} answered {fetched.status}.", hint="Open the address in a browser and look."
            )
        if fetched.media_type == "text/html":
            raise InvalidInput(
                f"{host} answered with a web page, not with a file.",
                hint="On GitHub, the button Raw leads to the file itself.",
            )
        name = unquote(PurePosixPath(urlsplit(url).path).name) or host
        return self._bound(recognition.read(fetched.data, name, format=chosen), _without_query(url))

    # ── what becomes of it ──────────────────────────────────────────────────────────────────────────────────

    def _bound(self, report: ImportReport, place: str) -> ImportReport:
        connectors = self._sessions.store.table("connectors", Connector).find()
        report = fitted(
            report,
            tools={tool.name for tool in self._tools.list()},
            connectors={connector.name for connector in connectors},
            timezone=self._settings.zone(),
        )
        return replace(report, source=place).bound(self._adopt)

    def _adopt(self, report: ImportReport) -> DesignSession:
        """The session of a report: the one of an earlier import that is untouched and the same, else a new one."""
        what = _whole(report.source) or f"the persona “{report.name}”"
        instruction = f"Import of {what} ({recognition.LABELS.get(report.format, report.format)})"
        instruction = self._sessions.checked(instruction, "name of the file")
        rows = self._sessions.table.find(
            "provider = 'import' and instruction = ?", [instruction], order_by="updated_at desc", limit=1
        )
        for row in rows:
            first = row.turns[0].result if len(row.turns) == 1 else None
            if first is not None and _same(first, report.draft, self._settings.zone()):
                return self._sessions.get(row.id) if row.state in BUSY else DesignSession(self._sessions, row)
        return self._sessions.adopt(report.draft, instruction=instruction)


def _same(stored: DesignResult, draft: DesignResult, timezone: str) -> bool:
    """Whether a stored design is this draft; a schedule without a zone got the home's when it was stored."""
    triggers = tuple(
        trigger.changed(config={**trigger.config, "timezone": timezone})
        if trigger.trigger_type == "schedule" and not trigger.config.get("timezone")
        else trigger
        for trigger in draft.suggested_triggers
    )
    return stored.changed(feasibility=None) == draft.changed(feasibility=None, suggested_triggers=triggers)


def _whole(source: str) -> str:
    """A source so that it means the same from any folder."""
    return source if not source or _ADDRESS.match(source) else str(Path(source).expanduser().absolute())


def _starts(draft: DesignResult) -> Iterator[str]:
    """In a word or two each, what would start the persona."""
    for trigger in draft.suggested_triggers:
        if trigger.trigger_type != "manual":
            yield str(trigger.config.get("cron") or trigger.trigger_type)
    if draft.suggested_event_subscriptions:
        yield "events"


def _files(root: Path) -> Iterator[Path]:
    """The files of a folder that may be personas, in the order of their names."""
    if not root.is_dir():
        raise NotFound(f"There is no folder {root}.", hint="Check the path.")
    count = 0
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not name.lower().endswith(SUFFIXES) or name == desktop.RECIPES_FILE:
                continue
            count += 1
            if count > FILES_MAX:
                raise TooLarge(
                    f"{root} has more than {FILES_MAX:,} files.", hint="Give a folder further down."
                )
            yield path


def _without_query(url: str) -> str:
    """An address as it may be stored: what follows its path may be a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
