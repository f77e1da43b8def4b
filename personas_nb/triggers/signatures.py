"""Whether a request to a webhook is what its secret signed: arithmetic, without a store or a clock.

- Our own way: ``X-Personas-Signature: sha256=HEX`` over the timestamp, a dot and the body, with
  ``X-Personas-Timestamp`` in seconds since 1970. A captured request is worthless when its window has passed.
- GitHub's way: ``X-Hub-Signature-256: sha256=HEX`` over the body alone.
- Where both are present ours counts, and must be right: a request cannot choose the weaker one of two.
- The id of a delivery lets a sender repeat itself without starting anything twice. It is not signed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

SIGNATURE = "X-Personas-Signature"
TIMESTAMP = "X-Personas-Timestamp"
DELIVERY = "X-Personas-Delivery"
GITHUB_SIGNATURE = "X-Hub-Signature-256"
GITHUB_DELIVERY = "X-GitHub-Delivery"
GITHUB_EVENT = "X-GitHub-Event"
WINDOW_SECONDS = 300
DELIVERY_LIMIT_CHARS = 128

_HEX = re.compile(r"sha256=([0-9a-fA-F]{64})")
_SECONDS = re.compile(r"[0-9]{1,12}")
_DELIVERY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not taken, as an HTTP status and a sentence for whoever sent it.

    ``retry_seconds`` is how long it should wait where it may try again.
    """

    status: int
    reason: str
    retry_seconds: float = 0.0


@dataclass(frozen=True)
class Signed:
    """What a request says about itself: its signature in hex, and the bytes before the body that it covers."""

    hexdigest: str
    prefix: bytes = b""

    def fits(self, body: bytes, secret: str) -> bool:
        """Whether ``secret`` made the signature of this body; takes the same time wherever they differ."""
        expected = hmac.new(secret.encode(), self.prefix + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, self.hexdigest)


def sign(body: bytes, secret: str, timestamp: int | str) -> str:
    """The value of ``X-Personas-Signature`` for a body that is sent at ``timestamp`` (seconds since 1970).

    >>> sign(b"{}", "0123456789abcdef", 1_800_000_000)[:15]
    'sha256=1313ae9c'
    """
    return f"sha256={hmac.new(secret.encode(), f'{timestamp}.'.encode() + body, hashlib.sha256).hexdigest()}"


def read_signature(headers: Mapping[str, str], now_seconds: float) -> Signed | Refusal:
    """The signature that a request carries, before its body is read; a ``Refusal`` (401) where it has none.

    ``headers`` finds names in any case, as those of a web server do. One that is older or newer than
    ``WINDOW_SECONDS`` is refused.
    """
    if ours := headers.get(SIGNATURE):
        return _ours(ours, headers.get(TIMESTAMP), now_seconds)
    if github := headers.get(GITHUB_SIGNATURE):
        found = _HEX.fullmatch(github.strip())
        return (
            Signed(found[1].lower())
            if found
            else Refusal(401, f"{GITHUB_SIGNATURE} is no sha256= and 64 hex digits.")
        )
    return Refusal(401, f"The request is not signed: it has neither {SIGNATURE} nor {GITHUB_SIGNATURE}.")


def read_delivery(headers: Mapping[str, str]) -> str | Refusal | None:
    """The id that the sender gave this delivery; None where it gave none, a ``Refusal`` (400) where it is unusable."""
    for name in (DELIVERY, GITHUB_DELIVERY):
        if (given := headers.get(name)) is not None:
            text = given.strip()
            if len(text) > DELIVERY_LIMIT_CHARS or not _DELIVERY.fullmatch(text):
                return Refusal(
                    400,
                    f"{name} must be 1 to {DELIVERY_LIMIT_CHARS} visible ASCII characters without spaces.",
                )
            return text
    return None


def read_body(body: bytes, content_type: str) -> Any | Refusal:
    """What a body says: JSON as what it stands for, a form as its fields, anything else as text; None for nothing.

    JSON is also known by its looks: curl calls everything a form unless told otherwise. GitHub's forms hold their
    JSON in ``payload``. A ``Refusal`` (400) for what calls itself JSON and is none, and
    for what is no UTF-8 text.

    >>> read_body(b'{"order": 7}', "application/json")
    {'order': 7}
    >>> read_body(b"order=7&note=soon", "application/x-www-form-urlencoded")
    {'order': '7', 'note': 'soon'}
    """
    kind = content_type.partition(";")[0].strip().lower()
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Refusal(400, "The body is no UTF-8 text.")
    is_json = kind == "application/json" or kind.endswith("+json")
    if not text.strip():
        return Refusal(400, "The body is empty, which is no JSON.") if is_json and text else None
    if is_json or text.lstrip()[0] in "{[":
        try:
            return _json(text)
        except (ValueError, RecursionError):
            if is_json:
                return Refusal(400, "The body calls itself JSON and is none that can be used.")
    return _form(text) if kind == "application/x-www-form-urlencoded" else text


def _ours(signature: str, timestamp: str | None, now_seconds: float) -> Signed | Refusal:
    found = _HEX.fullmatch(signature.strip())
    if found is None:
        return Refusal(401, f"{SIGNATURE} is no sha256= and 64 hex digits.")
    given = (timestamp or "").strip()
    if not _SECONDS.fullmatch(given):
        return Refusal(401, f"{TIMESTAMP} is no whole number of seconds since 1970.")
    if abs(now_seconds - int(given)) > WINDOW_SECONDS:
        return Refusal(401, f"{TIMESTAMP} is more than {WINDOW_SECONDS} s away from the time of this server.")
    return Signed(found[1].lower(), f"{given}.".encode())


def _form(text: str) -> Any:
    """The fields of a form, the last of several of a name; what GitHub sends as one; the text where it is no form."""
    try:
        fields = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
    except ValueError:
        return text
    if set(fields) == {"payload"}:
        with suppress(ValueError, RecursionError):
            return _json(fields["payload"])
    return fields or text


def _json(text: str) -> Any:
    """What the text stands for, if it can be written again; raises ``ValueError`` or ``RecursionError``.

    Half of a surrogate pair and numbers beyond a float can be read, and then neither be stored nor be JSON again.
    """
    found = json.loads(text, parse_constant=_no_constant)
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
