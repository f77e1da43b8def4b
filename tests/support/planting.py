"""Secrets that are planted, and the search for them in everything that is left behind."""

from __future__ import annotations

import base64
import json
import os
import random
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

PIECE_CHARS = 12
_SIGNS = "\"\\/+&=%~ '<?"


def secret_for(place: str, *, signs: str = _SIGNS, length: int = 36) -> str:
    """A secret of its own for each place, always the same, with every one of the signs that encodings change."""
    rng = random.Random(f"planted {place}")
    letters = string.ascii_letters + string.digits
    middle = [*signs, *rng.choices(letters, k=length - len(signs) - 8)]
    rng.shuffle(middle)
    ends = ["".join(rng.choices(letters, k=4)) for _ in range(2)]
    return f"{ends[0]}{' '.join(''.join(middle).split())}{ends[1]}"


def encoded(secret: str) -> list[str]:
    """The secret as others may repeat it: raw, escaped, in base64 at each offset, percent-encoded in both cases."""
    data = secret.encode()
    base = [base64.b64encode(b"x" * offset + data + b"yz").decode() for offset in range(3)]
    percent = [quote(data, safe=""), quote(data), "".join(f"%{byte:02X}" for byte in data)]
    return [
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        *base,
        *(text.translate(str.maketrans("+/", "-_")) for text in base),
        *percent,
        *(_small_escapes(text) for text in percent),
    ]


def repeated(secrets: Iterable[str]) -> str:
    """All of them in all encodings, as one text."""
    return "\n".join(f"[{form}]" for secret in secrets for form in encoded(secret))


class Search:
    """Looks for secrets in every encoding, and with ``pieces`` for any ``PIECE_CHARS`` characters of each in a row."""

    def __init__(self, secrets: Mapping[str, str], *, pieces: bool = True) -> None:
        from ahocorasick_rs import AhoCorasick

        self._names: dict[str, str] = {}
        for name, secret in secrets.items():
            for form in [*_whole(secret), *(_pieces(secret) if pieces else ())]:
                self._names.setdefault(_as_bytes(form), name)
        self._patterns = list(self._names)
        self._find = AhoCorasick(self._patterns).find_matches_as_indexes

    def in_text(self, text: str | bytes, where: object) -> None:
        """Fails where the text has one."""
        plain = text.decode("latin-1") if isinstance(text, bytes) else _as_bytes(text)
        found = self._find(plain)
        if found:
            number, start, end = found[0]
            name = self._names[self._patterns[number]]
            around = plain[max(0, start - 100) : end + 60]
            raise AssertionError(f"{where} has the secret of {name} ({plain[start:end]!r}): …{around}…")

    def in_folder(self, folder: Path, *, beside: Iterable[Path] = ()) -> int:
        """Looks into every file byte by byte, a database's log too, but for those ``beside``; the bytes it read."""
        left, total = {path.resolve() for path in beside}, 0
        for path in sorted(_everything_in(folder)):
            self.in_text(str(path.relative_to(folder)), f"the name of {path}")
            if path.is_file() and path.resolve() not in left:
                with suppress(FileNotFoundError):  # what runs may take its own files away meanwhile
                    data = path.read_bytes()
                    self.in_text(data, path)
                    total += len(data)
        return total


def _everything_in(folder: Path) -> Iterator[Path]:
    # Not rglob, which fails where a folder goes away while it looks.
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in [*folders, *files])


def _whole(secret: str) -> Iterator[str]:
    data = secret.encode()
    raw, plain, ascii_only, *rest = encoded(secret)
    base, percent = rest[:6], rest[6:]
    yield from (raw, plain, ascii_only, *percent)
    for offset, text in enumerate(base):
        # What its neighbours cannot change.
        yield text[(8 * (offset % 3) + 5) // 6 : 8 * (offset % 3 + len(data)) // 6]


def _pieces(secret: str) -> Iterator[str]:
    for form in (secret, json.dumps(secret)[1:-1]):
        yield from (form[at : at + PIECE_CHARS] for at in range(len(form) - PIECE_CHARS + 1))


def _as_bytes(text: str) -> str:
    """A text whose characters are the bytes of it in UTF-8."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _small_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])
