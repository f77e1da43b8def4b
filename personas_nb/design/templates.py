"""The templates that ship with the package: listed, opened as a copy, and put where designs find them.

They are read from their notebooks; the store has a copy of what their designs say, for full text. A copy that is out
of date is told by the digest of its file.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import personas_nb
from personas_nb.design.designer import DesignAnswer, Designer, DesignRequest
from personas_nb.design.exporting import replace_file
from personas_nb.design.formats import template as formats
from personas_nb.design.formats.parsing import object_of
from personas_nb.design.formats.template import Template, source_of
from personas_nb.entities.persona import Persona, slug_of
from personas_nb.errors import Conflict, InvalidInput, NotFound, PersonaError, did_you_mean
from personas_nb.store.templates import TemplateIndex

if TYPE_CHECKING:
    from personas_nb.design.importers import Importers
    from personas_nb.design.session import DesignSession
    from personas_nb.store.database import Store

_SHIPPED = source_of("", "").partition("#")[0]
_LIMIT_BYTES = 2_000_000


def shipped_folder() -> Path:
    """Where the notebooks are: in the installed package, or beside it in a checkout."""
    package = Path(personas_nb.__file__).parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


@dataclass(frozen=True)
class UsedTemplate:
    """A template that was opened: the copy at ``path``, and the persona that its design was applied to.

    ``is_written`` is False where the copy was there already, the same. ``session`` says what was applied and what is
    left to do.
    """

    template: Template
    path: Path
    persona: Persona
    session: DesignSession
    is_written: bool = True


class Templates:
    """Personas as notebooks that explain themselves.

    studio.templates.use("invoice-watcher", grace_days=14)
    """

    def __init__(
        self,
        store: Store,
        *,
        importers: Callable[[], Importers],
        redact: Callable[[str], str] = str,
        folder: Path | None = None,
    ) -> None:
        self._index = TemplateIndex(store)
        self._importers = importers
        self._redact = redact
        self._folder = folder
        self._read: dict[tuple[str, int, int], Template | None] = {}
        self._stocked: frozenset[tuple[str, int, int]] | None = None

    def list(self) -> builtins.list[Template]:
        """All templates by name; each has ``parameters``, ``design`` and ``summary``."""
        found = (self._template(path) for path in self._files())
        return sorted((each for each in found if each is not None), key=lambda each: each.name)

    def get(self, name: str) -> Template:
        """The template of that name or title; raises ``NotFound`` with the nearest one."""
        known = {each.name: each for each in self.list()}
        if (slug := slug_of(str(name))) in known:
            return known[slug]
        hint = did_you_mean(slug, known, otherwise="`%persona templates` lists them.")
        raise NotFound(f"There is no template “{str(name)[:100]}”.", hint=hint)

    def use(self, name: str, /, *, folder: str | Path = ".", **parameters: Any) -> UsedTemplate:
        """Open a copy of a template in the current folder (or ``folder``) and make its persona.

        ``parameters`` are those of the notebook's parameters cell. The persona is the next revision of one that has
        its name; what would start it stays off. A copy that was changed since it was opened is never replaced: that
        raises ``Conflict``, and nothing was done. Raises ``NotFound``, and ``InvalidInput`` for a parameter.
        """
        template = self.get(name)
        values = formats.values_of(template, parameters)
        self._check(values)
        notebook = formats.filled(template, values)
        persona_name = str(values.get("name", template.title))
        path = Path(str(folder)).expanduser() / f"{slug_of(persona_name)}.ipynb"
        report = self._importers().read(notebook, format="notebook")
        is_written = self._put(path, notebook)
        persona = report.apply(persona_name)
        return UsedTemplate(template, path, persona, report.session, is_written)

    def stock(self) -> None:
        """Put what is new or changed into the store, so that designs find it; nothing to do costs next to nothing."""
        files = frozenset(map(_stamp, self._files()))
        if files == self._stocked:
            return
        there = self._index.sources()
        here = {path: source_of(path.name, formats.digest_of(path.read_bytes())) for path in self._files()}
        known = set(there.values())
        gone = {
            name
            for name, source in there.items()
            if source.startswith(_SHIPPED) and source not in here.values()
        }
        found = (self._template(path) for path, source in here.items() if source not in known)
        changed = [each.indexed for each in found if each and (each.name not in there or each.name in gone)]
        if changed:
            self._index.put(*changed)
        for name in gone - {each.name for each in changed}:
            self._index.remove(name)
        self._stocked = files

    # ── files ───────────────────────────────────────────────────────────────────────────────────────────────

    def _files(self) -> builtins.list[Path]:
        return sorted((self._folder or shipped_folder()).glob("*.ipynb"))

    def _template(self, path: Path) -> Template | None:
        """The template in a file, read once; None for a notebook that is none."""
        stamp = _stamp(path)
        if stamp not in self._read:
            try:
                self._read[stamp] = formats.read(path.read_bytes(), path.name)
            except PersonaError:
                self._read[stamp] = None
        return self._read[stamp]

    def _check(self, values: dict[str, formats.Plain]) -> None:
        """Raises ``InvalidInput`` for what no persona can have: a secret, a time that is none."""
        from personas_nb.triggers import cron

        for name, value in values.items():
            if isinstance(value, str) and self._redact(value) != value:
                raise InvalidInput(
                    f"{name} holds a secret, which a notebook would keep.",
                    hint="Add it with `%persona credentials add`, and leave it out here.",
                )
        if "cron" in values:
            cron.check(str(values["cron"]), "UTC")

    def _put(self, path: Path, notebook: dict[str, Any]) -> bool:
        """Write the copy; False where it is there already."""
        if path.exists():
            there = _copy_at(path)
            is_copy = formats.copy_digest(there) != ""
            if formats.cells_digest(there) == formats.cells_digest(notebook) and is_copy:
                return False
            if not is_copy or formats.copy_digest(there) != formats.cells_digest(there):
                what = (
                    "was changed since it was opened" if is_copy else "is there already, and is no copy of it"
                )
                raise Conflict(
                    f"{path.name} {what}.",
                    hint='Rename that file, or give the persona another name: `--set name="…"`.',
                )
        data = json.dumps(notebook, indent=1, ensure_ascii=False).encode() + b"\n"
        try:
            replace_file(path.resolve(), data)  # a link stays one
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be written: {error.strerror or error}.", hint="Choose another folder."
            ) from None
        return True


class Stocked:
    """A designer that finds the shipped templates: they are put into the store before its first design."""

    def __init__(self, designer: Designer, stock: Callable[[], None]) -> None:
        self._designer = designer
        self._stock = stock
        self.provider = designer.provider
        self.model = designer.model

    async def design(self, request: DesignRequest) -> DesignAnswer:
        """The other one's answer."""
        import asyncio
        from contextlib import suppress

        if request.previous is None:
            with suppress(PersonaError, OSError):  # templates help a design; none depends on them
                await asyncio.to_thread(self._stock)
        return await self._designer.design(request)


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_mtime_ns, status.st_size


def _copy_at(path: Path) -> dict[str, Any]:
    """The notebook at a path; empty for anything else."""
    try:
        is_small = path.is_file() and path.stat().st_size <= _LIMIT_BYTES
        return object_of(path.read_bytes(), path.name) if is_small else {}
    except (OSError, PersonaError):
        return {}
