"""Which key a home seals with, and the change to another one.

- The home's database says which key is active. Whoever writes a secret reads that in the same transaction, so
  that nothing is sealed with a key that has just been retired.
- A key is noted before it is made (``next``) and is active only after it was stored and read back: whatever is
  killed in between leaves a note by which a later rotation cleans up, and never a secret without its key.
- A rotation seals every secret anew and changes the active key in one transaction. That transaction is on the
  disk before the old key is forgotten.
- A reader may hold a row of before: when its key is gone, the row is read again.
- The keyring is asked before a transaction begins: others would wait for the database with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from personas_nb.entities.base import now
from personas_nb.entities.credential import Credential, VaultKey
from personas_nb.errors import Conflict, KeyUnavailable, VaultError
from personas_nb.store.database import Store
from personas_nb.vault.cipher import key_id_of, open_sealed, seal
from personas_nb.vault.keys import Key, KeyRing, new_key_id

ROTATION_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Rotation:
    """What a rotation did: how many credentials it sealed anew; ``forgotten`` is False where an old key stays.

    An old key stays where its keyring could not be asked; the next rotation tries again.
    """

    key_id: str
    credentials: int
    forgotten: bool


class Sealing:
    """Seals and opens the secrets of one home."""

    def __init__(self, store: Store, keys: KeyRing) -> None:
        self.store = store
        self.keys = keys
        self._rows = store.table("credentials", Credential)
        self._known = store.table("vault_keys", VaultKey)

    def key(self) -> Key:
        """The key to seal with; made where there is none, or where it is lost. Raises KeyUnavailable."""
        while True:
            active = self._active_id()
            found = self.keys.find(active) if active else None
            if found is not None:
                return found
            made = self._noted()
            with self.store.write():
                is_mine = self._active_id() == active and self._is_next(made)
                if is_mine:
                    self._activate(made, former="lost")
            if is_mine:
                return made
            self._drop(made.id)  # another process was first

    @contextmanager
    def writing(self) -> Iterator[Key]:
        """A transaction, and the key that is active in it."""
        while True:
            key = self.key()
            with self.store.write():
                if self._active_id() == key.id:
                    yield key
                    return

    def opened(self, row: Credential, field: str) -> str:
        """A sealed field in the clear. Raises VaultError, KeyUnavailable."""
        try:
            return self._opened(row, field)
        except KeyUnavailable:
            fresh = self._rows.get(row.id)
            if fresh is None or fresh.sealed.get(field) in (None, row.sealed[field]):
                raise
            return self.opened(fresh, field)

    def rotate(self) -> Rotation:
        """Seal everything with a new key and forget the old one.

        Raises ``VaultError`` where a secret does not open, ``KeyUnavailable`` where a key cannot be had, and
        ``Conflict`` while another process rotates: nothing has changed then.
        """
        import filelock

        self._active_id()  # opens the store, which makes the home
        lock = filelock.FileLock(self.store.home / "rotate.lock", timeout=ROTATION_WAIT_SECONDS)
        try:
            with lock:
                self._clean()
                self.key()
                made = self._noted()
                try:
                    count = self._sealed_anew(made)
                finally:
                    # Whatever happened: while it is noted as next, it seals nothing.
                    self._drop(made.id)
                return Rotation(made.id, count, forgotten=self._clean())
        except filelock.Timeout:
            raise Conflict(
                "Another process is changing the key.", hint="Try again when it has ended.", retryable=True
            ) from None

    def _sealed_anew(self, key: Key) -> int:
        for row in self._rows.find():  # the keyring is asked here, not in the transaction
            self._check_opens(row)
        with self.store.write(durable=True):
            if not self._is_next(key):
                raise Conflict("Another process is changing the key.", hint="Try again.", retryable=True)
            rows = [row for row in self._rows.find() if row.sealed]
            for row in rows:
                self._check_opens(row)
                sealed = {
                    field: seal(self._opened(row, field), key=key, credential_id=row.id, field=field)
                    for field in row.sealed
                }
                self._rows.update(row.id, sealed=sealed, key_id=key.id)
            self._activate(key, former="retired")
        return len(rows)

    def _check_opens(self, row: Credential) -> None:
        try:
            for field in row.sealed:
                self._opened(row, field)
        except VaultError as error:
            raise type(error)(
                f"The credential “{row.name}” does not open, so the key stays: {error.message}",
                hint=error.hint,
            ) from None

    def _opened(self, row: Credential, field: str) -> str:
        sealed = row.sealed[field]
        key = self.keys.get(key_id_of(sealed))
        return open_sealed(sealed, key=key, credential_id=row.id, field=field)

    # ── what the home knows of its keys ─────────────────────────────────────────────────────────────────────

    def _active_id(self) -> str | None:
        found = self._known.find("status = ?", ["active"], limit=1)
        return found[0].id if found else None

    def _noted(self) -> Key:
        """A new key, noted as next and stored."""
        note = self._known.insert(VaultKey(id=new_key_id(), status="next"))
        try:
            return self.keys.create(note.id)
        except BaseException:
            self._known.delete("id = ? and status = ?", [note.id, "next"])
            raise

    def _is_next(self, key: Key) -> bool:
        return self._known.count("id = ? and status = ?", [key.id, "next"]) == 1

    def _activate(self, key: Key, *, former: str) -> None:
        """Inside a transaction: this key seals from now on. After a rotation no other key is needed."""
        others = ["active"] if former == "lost" else ["active", "lost"]
        for note in self._known.find(f"status in ({', '.join('?' * len(others))})", others):
            self._known.update(note.id, status=former)
        self._known.update(key.id, status="active", created_at=now())

    def _drop(self, key_id: str) -> None:
        """Forget a key that seals nothing; one that has become active in the meantime stays."""
        if self._known.delete("id = ? and status = ?", [key_id, "next"]):
            self.keys.forget(key_id)

    def _clean(self) -> bool:
        """Forget the keys that nothing needs; False where one may still be kept somewhere."""
        for note in self._known.find("status = ?", ["next"]):
            self._drop(note.id)
        retired = self._known.find("status = ?", ["retired"])
        gone = [note.id for note in retired if self.keys.forget(note.id)]
        for key_id in gone:
            self._known.delete("id = ?", [key_id])
        return len(gone) == len(retired)
