"""Takes secrets out of what runs are given; the vault is opened again only when something in it has changed."""

from __future__ import annotations

from threading import Lock

from personas_nb.engine.models import key_redactor
from personas_nb.settings import Settings
from personas_nb.vault.access import known_secrets
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.redaction import Redactor

_STATE = "select count(*), max(rowid), max(updated_at), max(key_id) from credentials"


class Redacting:
    """A function that takes every secret of the home and every provider key out of a text.

    What was added by whichever process counts from the next text on. A credential that cannot be opened at the
    moment is tried again with the next change.
    """

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings, self._credentials = settings, credentials
        self._state: tuple[object, ...] | None = None
        self._redactor: Redactor | None = None
        self._lock = Lock()

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        return self._current().redact(text)

    def _current(self) -> Redactor:
        with self._credentials.store.read() as db:
            state = tuple(db.execute(_STATE).fetchone())
        with self._lock:
            if self._redactor is None or state != self._state:
                secrets, unopened = known_secrets(self._credentials)
                self._redactor = key_redactor(self._settings, more=secrets)
                self._state = None if unopened else state
            return self._redactor
