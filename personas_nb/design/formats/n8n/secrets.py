"""Literal secrets in a stranger's file: found by their form, or by the name of the field that holds them.

What is found is replaced by ``[secret left out]``. A place where a person should write a secret (``YOUR_API_KEY``)
is none, and neither is an expression that fetches one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from personas_nb.design.formats.n8n.text import plain

LEFT_OUT = "[secret left out]"
_LONG_CHARS = 14  # the shortest key that its form gives away
_HEX_CHARS = 48

_KEYED = r"(?:api|access|auth|private|account|subscription)[_-]?key|token|secret|passw(?:or)?d|passphrase|authorization"
# A text that has none of the words (in lower case) cannot match; each pattern runs in linear time.
_FORMS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = tuple(
    (tuple(words.split()) or ("",), re.compile(pattern))
    for words, pattern in (
        ("sk-", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{12,}"),
        ("ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{16,}"),
        ("github_pat_", r"github_pat_[A-Za-z0-9_]{16,}"),
        ("glpat-", r"glpat-[A-Za-z0-9_-]{12,}"),
        ("xox", r"xox[a-z]-[A-Za-z0-9-]{10,}"),
        ("xapp-", r"xapp-[A-Za-z0-9-]{10,}"),
        ("akia asia", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}"),
        ("aiza", r"AIza[A-Za-z0-9_-]{30,}"),
        ("ya29.", r"ya29\.[A-Za-z0-9_-]{20,}"),
        ("eyj", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?"),
        ("_live_ _test_", r"[spr]k_(?:live|test)_[A-Za-z0-9]{10,}"),
        ("whsec_", r"whsec_[A-Za-z0-9+/=]{16,}"),
        ("hf_", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{20,}"),
        ("gsk_", r"gsk_[A-Za-z0-9]{20,}"),
        ("r8_", r"(?<![A-Za-z0-9])r8_[A-Za-z0-9]{20,}"),
        ("pat", r"(?<![A-Za-z0-9])pat[A-Za-z0-9]{14}\.[a-f0-9]{32,}"),
        ("secret_", r"secret_[A-Za-z0-9]{24,}"),
        ("ntn_", r"ntn_[A-Za-z0-9]{24,}"),
        ("sg.", r"(?<![A-Za-z0-9])SG\.[\w-]{16,}\.[\w-]{16,}"),
        ("npm_", r"npm_[A-Za-z0-9]{24,}"),
        ("shpat_", r"shpat_[a-f0-9]{20,}"),
        ("lin_api_", r"lin_api_[A-Za-z0-9]{20,}"),
        ("xai- pplx- tvly-", r"(?:xai|pplx|tvly)-[A-Za-z0-9-]{20,}"),
        (":aa", r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{28,}"),  # a bot of Telegram
        ("private key-----", r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}-----)?"),
        ("hooks.slack.com", r"(?<=hooks\.slack\.com/)[\w/-]{16,}"),
        ("/webhooks/", r"(?<=/webhooks/)\d{8,}/[\w-]{16,}"),  # of Discord
        ("@", r"(?<=://)[^\s/@:\"'`{}<>]{0,100}:[^\s/@\"'`{}<>]{1,200}(?=@)"),
        (
            "",
            rf"(?<![A-Za-z0-9])[0-9a-f]{{{_HEX_CHARS},}}(?![A-Za-z0-9])",
        ),  # what else is that long and hexadecimal
        (
            "curl",
            r"\bcurl\b[^\n]{0,300}?\s(?:-u|--user)[ =]?[\"']?[^\s:\"'{}$]{1,80}:(?P<value>[^\s\"'{}$]{4,200})",
        ),
        ("bearer basic", r"(?:[Bb]earer|BEARER|[Bb]asic)\s{1,5}(?P<value>[A-Za-z0-9._~+/=-]{12,})"),
        (
            "key= token= secret= signature= sig= password= appid=",
            r"(?i)(?:key|token|secret|signature|sig|password|appid)=(?P<value>[^&\s\"'`{}<>()\[\];,]{8,})",
        ),
        (
            "key token secret passw authorization passphrase",
            rf"(?i)(?:{_KEYED})[\w\"'\\-]{{0,40}}\s{{0,5}}(?:=>|[:=])\s{{0,5}}\\?[\"'`]"
            r"(?:(?:bearer|basic|token)\s+)?(?P<value>[^\s\"'`\\{}]{8,})",
        ),
    )
)
_SURELY = re.compile(
    r"(?i)(?:api|access|auth|private|account|subscription)[_ -]?key|pass(?:word|wd|phrase)|secret|authorization"
    r"|(?:access|auth|bot|refresh|bearer)[_ -]?token|x-auth"
)
_MAYBE = re.compile(r"(?i)(?:^|[_ .-]|[a-z])(?:token|credentials?|cookie|signature|bearer|pwd|pin)$")
# The name of a parameter that holds a key, or anything else.
_BARE = frozenset(("key", "appid"))
_DRAWN = re.compile(r"(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[A-Za-z0-9_-]{20,}")
_PLACE_HOLDER = re.compile(
    r"(?i)your|x{4,}|\*{3,}|\.{3}|…|place ?holder|example|change ?me|dummy|insert|enter[_ -]|replace|<[^>]*>|\[[^\]]*\]"
    r"|\{[^}]*\}|\$\{|process\.env|^[A-Z]+(?:_[A-Z]+)+$|^(?:bearer|basic|token|null|undefined|true|false|none)$"
)
_ESCAPED_ASCII = re.compile(r"\\u00[2-7][0-9a-fA-F]")


class Secrets:
    """Takes the literal secrets out of what one file says; ``raw`` is the file, which tells what to look for.

    >>> Secrets('"sk-0123456789abcdefgh"').scrubbed("key sk-0123456789abcdefgh!")
    'key [secret left out]!'
    """

    def __init__(self, raw: str) -> None:
        lowered = raw.lower()
        has_hex = re.search(rf"[0-9a-f]{{{_HEX_CHARS}}}", raw) is not None
        is_disguised = _ESCAPED_ASCII.search(raw) is not None or "\\/" in raw
        self._forms = [
            (word, pattern)
            for words, pattern in _FORMS
            for word in words
            if is_disguised or (word in lowered if word else has_hex)
        ]

    def scrubbed(self, text: str) -> str:
        """``text`` without its secrets; a text without any comes back as it is."""
        if len(text) < 8:
            return text
        lowered = text.lower()
        for word, pattern in self._forms:
            if word in lowered:
                text = pattern.sub(_replaced, text)
        return text

    def strip(self, root: dict[str, Any]) -> list[str]:
        """Take the secrets out of a structure, in place; where they were, as its author named the fields."""
        found: list[str] = []
        waiting: list[tuple[Any, str]] = [(root, "")]
        while waiting:
            container, where = waiting.pop()
            if isinstance(container, dict):
                self._rename(container)
            label = self._pair_label(container)
            for key, value in _items(container):
                name = key if isinstance(key, str) else where
                if isinstance(value, dict | list):
                    waiting.append((value, name))
                elif isinstance(value, str) and value:
                    is_value = bool(label) and key in ("value", "stringValue", "fieldValue")
                    held_by = label if is_value else name
                    kept = LEFT_OUT if _is_held(held_by, value, is_value=is_value) else self.scrubbed(value)
                    if kept != value:
                        container[key] = kept
                        found.append(self.scrubbed(plain(held_by, 40)) or "text")
        return list(dict.fromkeys(found))

    def _rename(self, container: dict[str, Any]) -> None:
        """A key may be a secret, too."""
        for key in [key for key in container if len(key) >= _LONG_CHARS and self.scrubbed(key) != key]:
            container[self.scrubbed(key)] = container.pop(key)

    def _pair_label(self, container: Any) -> str:
        """The name in ``{"name": "Authorization", "value": …}``."""
        if not isinstance(container, dict):
            return ""
        name = container.get("name", container.get("key", container.get("fieldId")))
        return name if isinstance(name, str) else ""


def _items(container: Any) -> Iterable[tuple[Any, Any]]:
    """Key and value; a value may be replaced on the way, for no key comes or goes."""
    return container.items() if isinstance(container, dict) else enumerate(container)


def _replaced(match: re.Match[str]) -> str:
    if "value" not in match.re.groupindex:
        return LEFT_OUT
    value = match["value"]
    if _PLACE_HOLDER.search(value):
        return match[0]
    start, end = match.span("value")
    whole = match.string
    return f"{whole[match.start() : start]}{LEFT_OUT}{whole[end : match.end()]}"


def _is_held(name: str, value: str, *, is_value: bool) -> bool:
    """Whether the field of that name holds a secret: its name says so, and its value is a literal.

    ``is_value``: the name stands beside the value, as that of a parameter.
    """
    strength = _sounds_secret(name)
    if not strength and is_value and name.lower() in _BARE:
        return _DRAWN.fullmatch(value) is not None and not _PLACE_HOLDER.search(value)
    if not strength or "{{" in value or value == LEFT_OUT or _PLACE_HOLDER.search(value[:200]):
        return False
    if strength == 2:
        return len(value) >= 4
    return len(value) >= 8 and " " not in value.strip()


@lru_cache(maxsize=4096)
def _sounds_secret(name: str) -> int:
    """2: surely, 1: perhaps, 0: no."""
    name = name[-60:]
    return 2 if _SURELY.search(name) else 1 if _MAYBE.search(name) else 0
