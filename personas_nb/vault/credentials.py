"""Stored secrets: sealed on the way in, opened for one use on the way out.

- A row holds ciphertext only; an error, a log line or a ``repr`` never holds a value.
- A credential is read again whenever it is opened: it may have been removed, changed or sealed anew meanwhile.
- The key is asked for when a value is really sealed or opened, never before, and before a transaction begins:
  a keyring may keep its caller waiting, and other processes would wait for the database with it.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from typing import Any

from personas_nb.entities.base import now
from personas_nb.entities.connector import Connector, ConnectorField
from personas_nb.entities.credential import Credential
from personas_nb.errors import Conflict, InvalidInput, NotFound, VaultError, did_you_mean
from personas_nb.store.database import Store
from personas_nb.vault.checks import CHECK_SECONDS, CheckResult, Outside, check
from personas_nb.vault.cipher import key_id_of, seal
from personas_nb.vault.connectors import Connectors
from personas_nb.vault.keys import Key, KeyRing
from personas_nb.vault.redaction import Redactor, check_secret
from personas_nb.vault.sealing import Rotation, Sealing

VALUE_LIMIT_CHARS = 64_000
NAME_LIMIT_CHARS = 200


class Credentials:
    """The credentials of one store, sealed with the keys of one ``KeyRing``.

    ``outside`` is the way to other machines, for checks.

    >>> import tempfile; from pathlib import Path
    >>> home = Path(tempfile.mkdtemp())
    >>> keys = KeyRing(key_file=home / "keys" / "keys.json", use_keyring=False)
    >>> credentials = Credentials(Store(home), keys)
    >>> mail = credentials.add("my mail", "gmail", {"user": "me@example.com", "app_password": "correct horse"})
    >>> mail.fields_set
    ('user', 'app_password')
    >>> credentials.opened(mail)["imap_host"]
    'imap.gmail.com'
    """

    def __init__(self, store: Store, keys: KeyRing, *, outside: Outside | None = None) -> None:
        self.store = store
        self.keys = keys
        self.connectors = Connectors(store)
        self._outside = outside
        self._sealing = Sealing(store, keys)
        self._rows = store.table("credentials", Credential)

    # ── what people do ──────────────────────────────────────────────────────────────────────────────────────

    def add(self, name: str, connector: str, fields: Mapping[str, Any]) -> Credential:
        """Store the fields of a connector under a name: secrets sealed, the rest as it is.

        The same again changes nothing; other values replace what was there, as a whole. A field that is None
        stays as it is stored. Raises ``NotFound`` for an unknown connector, ``InvalidInput`` for unknown or
        missing fields and for secrets under 8 characters, ``Conflict`` where the name belongs to another
        connector, ``KeyUnavailable`` where there is no key to seal with; nothing is written then.
        """
        name = _checked_name(name)
        definition = self.connectors.get(connector)
        given = _checked_values(definition, fields)
        kept = {key for key, value in given.items() if value is None}
        secrets = {field.key for field in definition.fields if field.secret}
        with self._sealing.writing() as key:
            before = self._named(name)
            row = before or Credential(name=name, connector=definition.name)
            _check_owner(row, definition.name)
            _check_complete(definition, {*given} - kept | {*row.fields_set} & kept, name)
            sealed: dict[str, str] = {}
            plain: dict[str, str] = {}
            for field in given:
                value = given[field]
                if value is None:
                    plain |= {field: row.plain[field]} if field in row.plain else {}
                    sealed |= {field: row.sealed[field]} if field in row.sealed else {}
                elif field in secrets:
                    sealed[field] = self._sealed(row, field, value, key)
                else:
                    plain[field] = value
            if before is not None and (before.plain, before.sealed) == (plain, sealed):
                return before
            return self._written(row, is_new=before is None, plain=plain, sealed=sealed, key=key)

    def list(self) -> builtins.list[Credential]:
        """All credentials by name; their secrets stay sealed."""
        return self._rows.find(order_by="name")

    def get(self, ref: str) -> Credential:
        """The credential of that id or name, still sealed. Raises ``NotFound``."""
        row = self._rows.get(ref) or self._named(ref)
        if row is None:
            names = [known.name for known in self.list()]
            raise NotFound(
                f"There is no credential “{ref}”.",
                hint=did_you_mean(ref, names, otherwise="`%persona credentials` shows all."),
            )
        return row

    def find(self, name: str, connector: str) -> Credential | None:
        """The credential of that name, still sealed, where it belongs to that connector; None where there is none."""
        row = self._named(name)
        return row if row is not None and row.connector == connector else None

    def check(self, name: str, *, timeout_seconds: float = CHECK_SECONDS) -> CheckResult:
        """Log in with a credential, really, and say what came of it; waits at most ``timeout_seconds``.

        ``status`` is healthy, degraded (it answers, with a but), unhealthy, or unknown where there is nothing to
        check it by. Raises ``NotFound``; everything else that goes wrong is the result.
        """
        row = self.get(name)
        try:
            fields = self.opened(row)
        except (VaultError, NotFound) as error:
            result = CheckResult("unhealthy", str(error), 0.0)
        else:
            secrets = {field: fields[field] for field in row.sealed}
            definition = self._definition(row)
            healthcheck = definition.healthcheck if definition else {}
            result = check(
                healthcheck, fields, secrets=secrets, outside=self._outside, timeout_seconds=timeout_seconds
            )
        with self.store.write():
            if (present := self._rows.get(row.id)) and present.updated_at == row.updated_at:
                self._rows.update(row.id, check_status=result.status, checked_at=now())
        return result

    def remove(self, ref: str) -> None:
        """Delete the credential of that id or name with everything in it. Raises ``NotFound``."""
        with self.store.write():
            self._rows.delete("id = ?", [self.get(ref).id])

    def rotate_key(self) -> Rotation:
        """Seal every secret of this home with a new key and forget the old one.

        Copies of the home that were made before do not open afterwards. Raises ``VaultError`` where a secret
        does not open and ``KeyUnavailable`` where there is no key: nothing has changed then.
        """
        return self._sealing.rotate()

    # ── for the parts that use secrets ──────────────────────────────────────────────────────────────────────

    def opened(self, credential: Credential | str) -> dict[str, str]:
        """All fields in the clear, the connector's defaults filled in: for one use, never kept or shown.

        Raises ``NotFound`` where the credential was removed or lacks a field that its connector needs,
        ``VaultError`` for what was altered or moved, ``KeyUnavailable`` where its key cannot be had.
        """
        row = self._present(credential)
        definition = self._definition(row)
        fields = {field.key: field.default for field in definition.fields} if definition else {}
        opened = {key: default for key, default in fields.items() if default is not None}
        opened |= row.plain
        for field in row.sealed:
            opened[field] = self._sealing.opened(row, field)
        missing = [field.key for field in definition.fields if field.required] if definition else []
        if missing := [key for key in missing if not opened.get(key)]:
            raise NotFound(
                f"The credential “{row.name}” lacks “{missing[0]}”.",
                hint=f"Add it again: `%persona credentials add {_typed(row.name)} {row.connector} --replace`.",
            )
        return opened

    def keep(self, value: str, *, name: str, connector: str, field: str) -> str:
        """Seal ``value`` as one field of the credential ``name``, which is made where there is none; its id.

        A field that is there already is replaced, its other fields stay; the same value again changes nothing.
        Raises ``InvalidInput`` for a value under 8 characters (it could not be kept out of output: it occurs in
        ordinary text by chance), ``Conflict`` where the name belongs to another connector, and
        ``KeyUnavailable`` where there is no key to seal with; nothing is written then.
        """
        check_secret(field, value)
        with self._sealing.writing() as key:
            before = self._named(name)
            row = before or Credential(name=name, connector=connector)
            _check_owner(row, connector)
            sealed = {**row.sealed, field: self._sealed(row, field, value, key)}
            if before is None or sealed != before.sealed:
                self._written(row, is_new=before is None, plain=row.plain, sealed=sealed, key=key)
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
        return self._sealing.opened(row, field)

    def unlock(self) -> None:
        """Obtain the key now. For who is going to ``keep`` inside a transaction: it must not wait for a keyring."""
        self._sealing.key()

    # ── rows ────────────────────────────────────────────────────────────────────────────────────────────────

    def _named(self, name: str) -> Credential | None:
        found = self._rows.find("name = ?", [name], limit=1)
        return found[0] if found else None

    def _present(self, credential: Credential | str) -> Credential:
        if isinstance(credential, str):
            return self.get(credential)
        row = self._rows.get(credential.id)
        if row is None:
            raise NotFound(
                f"The credential “{credential.name}” was removed.",
                hint=f"Add it again: `%persona credentials add {_typed(credential.name)} {credential.connector}`.",
            )
        return row

    def _definition(self, row: Credential) -> Connector | None:
        """Its connector; None for what belongs to none, as a model's key."""
        try:
            return self.connectors.get(row.connector)
        except NotFound:
            return None

    def _sealed(self, row: Credential, field: str, value: str, key: Key) -> str:
        """The value sealed with today's key: what is stored, if it is that; one that does not open is replaced."""
        stored = row.sealed.get(field, "")
        try:
            if key_id_of(stored) == key.id and self._sealing.opened(row, field) == value:
                return stored
        except VaultError:
            pass
        return seal(value, key=key, credential_id=row.id, field=field)

    def _written(
        self, row: Credential, *, is_new: bool, plain: dict[str, str], sealed: dict[str, str], key: Key
    ) -> Credential:
        fields: dict[str, Any] = {
            "plain": plain,
            "sealed": sealed,
            "key_id": key.id if sealed else "",
            "check_status": None,
            "checked_at": None,
            "updated_at": now(),
        }
        changed = row.changed(**fields)
        if is_new:
            return self._rows.insert(changed)
        self._rows.update(row.id, **fields)
        return changed


# ── what may be stored ──────────────────────────────────────────────────────────────────────────────────────


def _checked_name(name: str) -> str:
    text = name.strip() if isinstance(name, str) else ""
    if not text or len(text) > NAME_LIMIT_CHARS or re.search(r"[\x00-\x1f\x7f]", text):
        raise InvalidInput(
            f"A credential needs a name of 1 to {NAME_LIMIT_CHARS} characters on one line.",
            hint='Such as "my mail".',
        )
    return text


def _check_owner(row: Credential, connector: str) -> None:
    if row.connector != connector:
        raise Conflict(
            f"The credential “{row.name}” belongs to {row.connector}, not to {connector}.",
            hint="Choose another name, or remove it first.",
        )


def _checked_values(connector: Connector, fields: Mapping[str, Any]) -> dict[str, str | None]:
    """The values in the connector's order, empty ones left out; raises ``InvalidInput`` that shows no value."""
    if not isinstance(fields, Mapping):
        raise InvalidInput("The fields are no mapping.", hint='Such as {"token": …}.')
    known = {field.key: field for field in connector.fields}
    for key in fields:
        if key not in known:
            hint = did_you_mean(str(key), known, otherwise=f"It has {', '.join(known)}.")
            raise InvalidInput(f"The connector {connector.name} has no field “{key}”.", hint=hint)
    checked = {key: _checked_value(known[key], fields[key]) for key in known if key in fields}
    _check_no_secret_in_the_clear(
        {key: value for key, value in checked.items() if value and known[key].secret},
        {key: value for key, value in checked.items() if value and not known[key].secret},
    )
    return {key: value for key, value in checked.items() if value != ""}


def _check_no_secret_in_the_clear(secrets: Mapping[str, str], plain: Mapping[str, str]) -> None:
    redactor = Redactor(secrets if plain else {})
    for key, value in plain.items():
        if redactor.redact(value) != value:
            raise InvalidInput(
                f"“{key}” holds a secret of the credential, which would be stored in the clear.",
                hint="Leave it out there; the secret has a field of its own.",
            )


def _checked_value(field: ConnectorField, given: object) -> str | None:
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool) and not field.secret:
        given = str(given)
    if not isinstance(given, str):
        raise InvalidInput(f"“{field.key}” is no text.", hint="Give it in quotes.")
    value = given.strip("\r\n")  # as it comes from a file or a clipboard
    if not value.strip():
        return ""
    if "\0" in value or len(value) > VALUE_LIMIT_CHARS:
        raise InvalidInput(f"“{field.key}” holds a NUL, or more than {VALUE_LIMIT_CHARS:,} characters.")
    if field.secret:
        check_secret(field.key, value)
        return value
    return _checked_plain(field.key, value.strip())


def _checked_plain(key: str, value: str) -> str:
    if re.search(r"(^|[_.-])port$", key) and not (
        value.isascii() and value.isdigit() and 0 < int(value) < 65536
    ):
        raise InvalidInput(f"“{key}” must be a number from 1 to 65535.", hint="Such as 993.")
    if re.search(r"(^|[_.-])url$", key):
        if not re.match(r"https?://[^/?#\s]", value):
            raise InvalidInput(f"“{key}” must be a web address.", hint="Such as https://api.example.com.")
        if "@" in re.split(r"[/?#]", value, maxsplit=3)[2]:
            raise InvalidInput(
                f"“{key}” holds a user or password, which would be stored in the clear.",
                hint="Give the address without it; the secret has a field of its own.",
            )
    if re.search(r"(^|[_.-])host$", key) and re.search(r"[\s/@]", value):
        raise InvalidInput(f"“{key}” must be the name of a host.", hint="Such as imap.example.com.")
    return value


def _check_complete(connector: Connector, present: set[str], name: str) -> None:
    missing = [field for field in connector.fields if field.required and field.key not in present]
    if missing:
        names = ", ".join(f"“{field.key}”" for field in missing)
        first = missing[0]
        how = "a secret: you are asked for it, or --from-env takes it" if first.secret else first.label
        raise InvalidInput(
            f"The credential “{name}” lacks {names}.",
            hint=f"{connector.name} needs it" + (f" ({how})." if how else "."),
        )


def _typed(name: str) -> str:
    return f'"{name}"' if " " in name else name
