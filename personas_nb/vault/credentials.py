"""Stored secrets: sealed on the way in, opened for one use on the way out.

- A row holds ciphertext only; an error, a log line or a ``repr`` never holds a value.
- The key is asked for when a value is really sealed or opened, never before, and before a transaction begins:
  a keyring may keep its caller waiting, and other processes would wait for the database with it.
"""

from __future__ import annotations

from personas_nb.entities.base import now
from personas_nb.entities.credential import Credential
from personas_nb.errors import Conflict, NotFound, VaultError, did_you_mean
from personas_nb.store.database import Store
from personas_nb.vault.cipher import key_id_of, open_sealed, seal
from personas_nb.vault.keys import KeyRing
from personas_nb.vault.redaction import check_secret


class Credentials:
    """The credentials of one store, sealed with the keys of one ``KeyRing``.

    >>> import tempfile; from pathlib import Path
    >>> home = Path(tempfile.mkdtemp())
    >>> keys = KeyRing(key_file=home / "keys" / "keys.json", use_keyring=False)
    >>> credentials = Credentials(Store(home), keys)
    >>> kept = credentials.keep("correct horse", name="my mail", connector="gmail", field="app_password")
    >>> credentials.reveal(kept, "app_password")
    'correct horse'
    """

    def __init__(self, store: Store, keys: KeyRing) -> None:
        self.store = store
        self.keys = keys
        self._rows = store.table("credentials", Credential)

    def keep(self, value: str, *, name: str, connector: str, field: str) -> str:
        """Seal ``value`` as one field of the credential ``name``, which is made where there is none; its id.

        A field that is there already is replaced, its other fields stay; the same value again changes nothing.
        Raises ``InvalidInput`` for a value under 8 characters (it could not be kept out of output: it occurs in
        ordinary text by chance), ``Conflict`` where the name belongs to another connector, and
        ``KeyUnavailable`` where there is no key to seal with; nothing is written then.
        """
        check_secret(field, value)
        self.unlock()
        with self.store.write():
            row = self._named(name) or Credential(name=name, connector=connector)
            if row.connector != connector:
                raise Conflict(
                    f"The credential “{name}” belongs to {row.connector}, not to {connector}.",
                    hint="Choose another name, or remove it first.",
                )
            if self._holds(row, field, value):
                return row.id
            self._write(row, field, value)
        return row.id

    def reveal(self, credential_id: str, field: str) -> str:
        """The value of a field, in the clear: for its one use, never for a display.

        Raises ``NotFound`` for an unknown credential or field, ``VaultError`` for what was altered or moved, and
        ``KeyUnavailable`` where its key cannot be had.
        """
        row = self.get(credential_id)
        if field in row.plain:
            return row.plain[field]
        if field not in row.sealed:
            known = [*row.plain, *row.sealed]
            raise NotFound(
                f"The credential “{row.name}” has no field “{field}”.",
                hint=did_you_mean(field, known, otherwise=f"It has {', '.join(known)}."),
            )
        return self._opened(row, field)

    def get(self, ref: str) -> Credential:
        """The credential of that id or name, still sealed. Raises ``NotFound``."""
        row = self._rows.get(ref) or self._named(ref)
        if row is None:
            names = [known.name for known in self.list()]
            raise NotFound(
                f"There is no credential “{ref}”.",
                hint=did_you_mean(ref, names, otherwise="Look it up with studio.credentials.list()."),
            )
        return row

    def list(self) -> list[Credential]:
        """All credentials by name; their secrets stay sealed."""
        return self._rows.find(order_by="name")

    def remove(self, ref: str) -> None:
        """Delete the credential of that id or name with everything in it. Raises ``NotFound``."""
        with self.store.write():
            self._rows.delete("id = ?", [self.get(ref).id])

    def unlock(self) -> None:
        """Obtain the key now. For who is going to ``keep`` inside a transaction: it must not wait for a keyring."""
        self.keys.active()

    def _named(self, name: str) -> Credential | None:
        found = self._rows.find("name = ?", [name], limit=1)
        return found[0] if found else None

    def _opened(self, row: Credential, field: str) -> str:
        sealed = row.sealed[field]
        key = self.keys.get(key_id_of(sealed))
        return open_sealed(sealed, key=key, credential_id=row.id, field=field)

    def _holds(self, row: Credential, field: str, value: str) -> bool:
        """Whether the field is that value, sealed with today's key; one that does not open is replaced."""
        sealed = row.sealed.get(field, "")
        try:
            return key_id_of(sealed) == self.keys.active().id and self._opened(row, field) == value
        except VaultError:
            return False

    def _write(self, row: Credential, field: str, value: str) -> None:
        key = self.keys.active()
        sealed = {**row.sealed, field: seal(value, key=key, credential_id=row.id, field=field)}
        row = row.changed(sealed=sealed, key_id=key.id, updated_at=now())
        if self._rows.get(row.id) is None:
            self._rows.insert(row)
        else:
            self._rows.update(row.id, sealed=row.sealed, key_id=row.key_id, updated_at=row.updated_at)
