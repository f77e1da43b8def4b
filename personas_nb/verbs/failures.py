"""Errors as people see them: one sentence and the next step; the traceback of the unexpected goes to a log."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from personas_nb.errors import PersonaError

if TYPE_CHECKING:
    from personas_nb.vault.keys import KeyRing
    from personas_nb.vault.redaction import Redactor

LOG_NAME = "errors.log"
LOG_LIMIT_BYTES = 5 * 2**20
KEY_VARIABLES = ("PERSONAS_KEYRING", "PERSONAS_KEY_FILE")


class Unexpected(PersonaError):
    """Something that personas_nb did not foresee; ``__cause__`` is the original."""

    code = "UNEXPECTED"


def keep_secrets(error: BaseException, home: Path) -> None:
    """Take known secrets out of what an error says: a notebook saves it, and it may quote what was typed."""
    try:
        redactor = _known(home)
    except Exception:  # the store or the settings are broken, which this error may be about
        return
    redactor.clean(error)


def unexpected(error: BaseException, home: Path) -> Unexpected:
    """The sentence for an error that nobody foresaw; its traceback is in ``logs/errors.log`` of the home."""
    redact = _redact_known(home)
    what = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
    log = _logged(error, home, redact)
    where = f"The traceback is in {log}." if log else "Its traceback could not be logged; %tb shows it."
    found = Unexpected(f"Something unexpected happened: {what.rstrip('.')}.", hint=where)
    found.__cause__ = error
    return found


def shorten(error: BaseException, sentence: str) -> None:
    """Let IPython show this one error as a sentence instead of a traceback.

    On the instance, not on the class: an error that plain Python code raises keeps its traceback.
    """
    error._render_traceback_ = lambda: [sentence]  # type: ignore[attr-defined]  # IPython asks for it
    error.__context__ = None  # IPython shows every traceback in full when a group of errors is among them


def was_interrupted(error: BaseException) -> bool:
    """Whether a person stopped it."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, PersonaError) and isinstance(error.__cause__, KeyboardInterrupt)
    )


def sentence_of(error: PersonaError) -> str:
    """The error as it is shown, without what could take over a terminal: it may quote a model or a file."""
    from personas_nb.views.marks import clean

    return clean(str(error))


def _logged(error: BaseException, home: Path, redact: Callable[[str], str]) -> Path | None:
    path = home / "logs" / LOG_NAME
    text = "".join(traceback.format_exception(error))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{redact(text)}\n")
    except OSError:
        return None
    return path


def _redact_known(home: Path) -> Callable[[str], str]:
    """A function that takes provider keys and stored secrets out of a text; drops the text if that fails."""
    try:
        return _known(home).redact
    except Exception:  # whatever is broken here must not hide the first error, nor let a key through
        return lambda text: text if not _mentions_key(text) else "(left out: it could not be redacted)"


def _known(home: Path) -> Redactor:
    """Takes provider keys, and what the vault of the home holds; a home without a database is left as it is."""
    from personas_nb.engine.models import key_redactor
    from personas_nb.settings import load_settings
    from personas_nb.store.database import Store
    from personas_nb.vault.access import known_secrets
    from personas_nb.vault.credentials import Credentials

    settings = load_settings(home)
    if not (home / "personas.db").exists():
        return key_redactor(settings)
    store = Store(home)
    try:
        return key_redactor(
            settings, more=known_secrets(Credentials(store, _keys(*map(os.environ.get, KEY_VARIABLES))))[0]
        )
    finally:
        store.close()


@cache
def _keys(*_places: str | None) -> KeyRing:
    """One for all errors: a locked keyring is waited for once; another one where the keys are kept elsewhere."""
    from personas_nb.vault.keys import KeyRing

    return KeyRing()


def _mentions_key(text: str) -> bool:
    return any(
        len(value) >= 8 and value in text
        for name, value in os.environ.items()
        if name.endswith(("_KEY", "_TOKEN"))
    )
