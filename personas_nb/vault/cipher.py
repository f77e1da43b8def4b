"""Sealing a value with AES-256-GCM so that it opens only where it belongs.

A sealed text is ``v1:<key id>:<base64url of nonce and ciphertext>``. The nonce is 96 random bits. Credential id,
field, key id and format version are authenticated with it: what was moved to another row, cut or altered does
not open.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import string
from functools import cache, lru_cache

from personas_nb.errors import VaultError
from personas_nb.vault.keys import Key

VERSION = "v1"
NONCE_BYTES = 12
TAG_BYTES = 16


def seal(value: str, *, key: Key, credential_id: str, field: str) -> str:
    """``value`` encrypted for this field of this credential; each call gives another text.

    >>> key = Key("k1", bytes(32))
    >>> sealed = seal("correct horse", key=key, credential_id="c1", field="password")
    >>> open_sealed(sealed, key=key, credential_id="c1", field="password")
    'correct horse'
    """
    try:
        data = value.encode()
    except UnicodeEncodeError:
        data = None
    if data is None:  # raised here because the caught error carries the value
        raise VaultError("The value is not valid Unicode text and was not stored.", hint="Enter it again.")
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = nonce + key.aes.encrypt(nonce, data, _place(key.id, credential_id, field))
    return f"{VERSION}:{key.id}:{_encode(sealed)}"


def open_sealed(sealed: str, *, key: Key, credential_id: str, field: str) -> str:
    """The value that ``seal`` was given for the same key, credential and field.

    Raises VaultError for another key, another place, and anything cut or altered.
    """
    sealed_by, data = _parts(sealed)
    if sealed_by != key.id:
        raise VaultError(f"The secret is sealed with key “{sealed_by}”, not with “{key.id}”.", hint=_REENTER)
    nonce, ciphertext = data[:NONCE_BYTES], data[NONCE_BYTES:]
    try:
        return key.aes.decrypt(nonce, ciphertext, _place(key.id, credential_id, field)).decode()
    except _invalid_tag():
        raise VaultError(
            f"The field “{field}” of credential {credential_id} does not open: it was altered or moved.",
            hint=_REENTER,
        ) from None


def key_id_of(sealed: str) -> str:
    """The id of the key that ``sealed`` needs. Raises VaultError when it is no sealed text.

    >>> key_id_of(seal("correct horse", key=Key("k1", bytes(32)), credential_id="c1", field="password"))
    'k1'
    """
    return _parts(sealed)[0]


_REENTER = "Add the credential again."
# The alphabet for addresses as the standard one, whose own two signs are none here.
_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
# By the length of a text modulo 4: what completes it, and what it may end with when no bit is left over.
_PADDING = (b"", b"!", b"==", b"=")
_LAST = (_ALPHABET, "", _ALPHABET[::16], _ALPHABET[::4])


def _parts(sealed: str) -> tuple[str, bytes]:
    version, _, rest = sealed.partition(":")
    key_id, _, text = rest.partition(":")
    if version != VERSION and version[:1] == "v" and version[1:].isdigit():
        raise VaultError(
            f"The secret is sealed in format {version}, which this version does not know.",
            hint="Update personas_nb.",
        )
    try:
        encoded = text.encode("ascii").translate(_STANDARD)
        data = binascii.a2b_base64(encoded + _PADDING[len(text) % 4], strict_mode=True)
    except ValueError:
        data = b""
    # A decoder overlooks surplus bits at the end.
    is_exact = text[-1:] in _LAST[len(text) % 4]
    if version != VERSION or not key_id or len(data) < NONCE_BYTES + TAG_BYTES or not is_exact:
        raise VaultError("The stored secret is damaged and does not open.", hint=_REENTER)
    return key_id, data


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


@cache
def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag


@lru_cache(maxsize=1024)
def _place(key_id: str, credential_id: str, field: str) -> bytes:
    # JSON, not joined text: ("a", "b:c") and ("a:b", "c") must differ.
    return json.dumps([VERSION, key_id, credential_id, field]).encode()
