"""What one kernel holds for the magics: a studio for each home, and the current design session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from personas_nb.verbs.call import Desk

if TYPE_CHECKING:
    from personas_nb.studio import Studio

Fingerprint = tuple[object, ...]


class _Open(NamedTuple):
    studio: Studio
    fingerprint: Fingerprint
    desk: Desk


class Kernel:
    """The studios that the magics opened, one a home; ``PERSONAS_HOME`` may change between two cells."""

    def __init__(self) -> None:
        self._open: dict[Path, _Open] = {}

    @property
    def studio(self) -> Studio:
        """The studio of the present home; opened anew when its settings changed and nothing of it runs."""
        return self._of_home().studio

    @property
    def desk(self) -> Desk:
        """What is remembered from verb to verb in the present home."""
        return self._of_home().desk

    def zone(self) -> str:
        """The zone in which times are shown; UTC where it cannot be told."""
        from personas_nb.errors import PersonaError

        try:
            return self.studio.settings.zone()
        except PersonaError:
            return "UTC"

    def existing(self) -> Studio | None:
        """The studio, if the home is one already: looking must not make it one."""
        studio = self.studio
        return studio if (studio.home / "personas.db").exists() else None

    def close(self) -> None:
        """Close every studio."""
        for opened in self._open.values():
            opened.studio.close()
        self._open.clear()

    def _of_home(self) -> _Open:
        from personas_nb.settings import default_home
        from personas_nb.studio import Studio

        home = default_home()
        found = self._open.get(home)
        fingerprint = _fingerprint(home)
        if found is not None and (found.fingerprint == fingerprint or _is_busy(found.studio)):
            return found
        desk = Desk()
        if found is not None:
            found.studio.close()
            desk = found.desk
        self._open[home] = _Open(Studio(home), fingerprint, desk)
        return self._open[home]


def _fingerprint(home: Path) -> Fingerprint:
    """What the settings are made of: the variables, and when the file was changed."""
    variables = tuple(sorted(item for item in os.environ.items() if item[0].startswith("PERSONAS_")))
    try:
        changed = (home / "personas.toml").stat().st_mtime_ns
    except OSError:
        changed = 0
    return (variables, changed)


def _is_busy(studio: Studio) -> bool:
    """Whether something of it runs in this process."""
    if "worker" not in studio.__dict__:
        return False
    mine = studio.worker.id
    return any(run.worker_id == mine and not run.is_finished for run in studio.executions.list(limit=200))
