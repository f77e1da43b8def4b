"""What a stranger's file may not bring along: literal secrets. They are taken out and named, never repeated.

A secret is told by its shape (a key of a known service, a password in an address), or by the name that it stands
under (``api_key``, ``Authorization``). A placeholder (“your-key-here”, “{{token}}”) is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from personas_nb.design.formats.report import ImportEntry

REMOVED = "[secret removed]"
SHORTEST_CHARS = 12
"""Shorter texts are not searched: no known kind of key is."""

# The small text that must occur before a pattern is tried at all, what was found in words, and the pattern.
# Every repetition is bounded, so that no text makes one slow.
_KEYS = (
    ("sk-", "an API key", r"\bsk-[A-Za-z0-9_-]{16,300}"),
    ("k_live_", "a payment key", r"\b[rs]k_live_[A-Za-z0-9]{10,200}"),
    ("k_test_", "a payment key", r"\b[rs]k_test_[A-Za-z0-9]{10,200}"),
    *((f"gh{kind}_", "a GitHub token", rf"\bgh{kind}_[A-Za-z0-9]{{20,255}}") for kind in "pousr"),
    ("github_pat_", "a GitHub token", r"\bgithub_pat_[A-Za-z0-9_]{20,255}"),
    ("glpat-", "a GitLab token", r"\bglpat-[A-Za-z0-9_-]{16,255}"),
    ("xox", "a Slack token", r"\bxox[abeposr]-[A-Za-z0-9-]{10,255}"),
    ("xapp-", "a Slack token", r"\bxapp-[A-Za-z0-9-]{10,255}"),
    ("AKIA", "an AWS key", r"\bAKIA[A-Z0-9]{16}\b"),
    ("ASIA", "an AWS key", r"\bASIA[A-Z0-9]{16}\b"),
    ("AIza", "a Google key", r"\bAIza[A-Za-z0-9_-]{30,60}"),
    ("ya29.", "a Google token", r"\bya29\.[A-Za-z0-9._-]{16,2000}"),
    ("GOCSPX-", "a Google secret", r"\bGOCSPX-[A-Za-z0-9_-]{16,80}"),
    ("SG.", "a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{16,80}\.[A-Za-z0-9_-]{16,80}"),
    ("hf_", "a Hugging Face token", r"\bhf_[A-Za-z0-9]{20,80}"),
    ("npm_", "an npm token", r"\bnpm_[A-Za-z0-9]{30,80}"),
    ("pypi-", "a PyPI token", r"\bpypi-[A-Za-z0-9_-]{40,300}"),
    ("secret_", "a Notion token", r"\bsecret_[A-Za-z0-9]{40,60}"),
    ("ntn_", "a Notion token", r"\bntn_[A-Za-z0-9]{40,60}"),
    ("eyJ", "a signed token", r"\beyJ[\w-]{10,2000}\.eyJ[\w-]{10,6000}\.[\w-]{10,2000}"),
    ("PRIVATE KEY-", "a private key", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\w+/=\s\\:,-]{20,20000}"),
    (":AA", "a Telegram token", r"\b[0-9]{8,12}:AA[A-Za-z0-9_-]{30,60}"),
    ("hooks.slack", "a webhook address", r"hooks\.slack\.com/services/T\w{4,40}/B\w{4,40}/\w{8,80}"),
    ("/webhooks/", "a webhook address", r"discord(?:app)?\.com/api/webhooks/[0-9]{5,40}/[\w-]{20,200}"),
    (
        "://",
        "a password in an address",
        r"(?<=://)[^/?#\s:@\"'{}<>]{1,200}:[^/?#\s@\"'{}<>]{1,200}(?=@[\w\[])",
    ),
    ("earer ", "a token", r"(?<=[Bb]earer )[A-Za-z0-9._~+/-]{16,4000}=*"),
    ("asic ", "a password", r"(?<=[Bb]asic )[A-Za-z0-9+/]{16,2000}=*"),
    ("key=", "an API key", r"(?<=key=)[A-Za-z0-9._~%+-]{12,500}"),
    ("oken=", "a token", r"(?<=oken=)[A-Za-z0-9._~%+-]{12,2000}"),
)
_SHAPES = tuple((words, re.compile(pattern)) for _, words, pattern in _KEYS)
# What is said to be a secret: “API key: …”, “password is …”.
_SAID = re.compile(
    r"(?i)(?:api[ _-]?key|access[ _-]?key|secret(?:[ _-]?key)?|[ _-]?token|passw(?:or)?d|passphrase)"
    r"[\"'`*]{0,3}\s{0,3}(?:=|:|\bis\b)\s{0,3}[\"'`]{0,3}([A-Za-z0-9_./+~!@#$%^&*-]{12,300})"
)
_SAID_HINTS = ("key", "Key", "KEY", "oken", "OKEN", "ecret", "ECRET", "assw", "ASSW", "assphrase")
_SECRET_NAME = re.compile(
    r"(?:^|[_\-. ])(?:pwd|pass|pat|pin|cookie|credentials?|passwd|passphrase|authorization)$"
    r"|(?:api|access|secret|private|auth|app|account|subscription|encryption|signing|service|master)[_\-. ]?key$"
    r"|(?:token|password|secret|apikey)$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"[{}<>]|\$|^=|your|xxx|\*\*\*|\.\.\.|…|example|placeholder|change.?me|replace|configured|redacted|removed|dummy"
    r"|^(?:none|null|true|false|auto|default|bearer|basic|header|query|oauth2?|not.?set|set|env|vault)$",
    re.IGNORECASE,
)
_NAME_CHARS = 100
_NAMING, _VALUED = ("name", "key", "header", "field"), ("value", "content", "default", "default_value")


def without_secrets(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with each literal secret replaced, and in words what was found.

    >>> without_secrets("Call it with Bearer 0123456789abcdefXYZ")
    ('Call it with Bearer [secret removed]', ('a token',))
    """
    found: list[str] = []
    hints = {number for number, _, _ in _hints()(text)} if len(text) >= SHORTEST_CHARS else set()
    for number in sorted(hints):
        if number >= len(_SHAPES):
            text = _SAID.sub(lambda match: _removed(match, match[1], "a secret", found), text)
            break
        words, shape = _SHAPES[number]
        text = shape.sub(lambda match, words=words: _removed(match, match[0], words, found), text)  # type: ignore[misc]
    return text, tuple(dict.fromkeys(found))


def sounds_secret(name: str) -> bool:
    """Whether what stands under this name is a secret.

    >>> sounds_secret("apiKey"), sounds_secret("auth_token"), sounds_secret("sort_key"), sounds_secret("tokens")
    (True, True, False, False)
    """
    return len(name) < 200 and _SECRET_NAME.search(name) is not None


def is_literal(value: object) -> bool:
    """Whether a value stands for itself, rather than for one that somebody will fill in.

    >>> is_literal("hunter2hunter2"), is_literal("{{ $json.token }}"), is_literal("your-api-key")
    (True, False, False)
    """
    return isinstance(value, str) and bool(value.strip()) and not _PLACEHOLDER.search(value)


def cleaned(value: Any, place: str = "") -> tuple[Any, tuple[ImportEntry, ...]]:
    """Data without literal secrets, and an entry for each place that had one.

    >>> value, entries = cleaned({"model": {"auth_token": "sk-0123456789abcdef"}})
    >>> value, entries[0].source, entries[0].outcome
    ({'model': {'auth_token': '[secret removed]'}}, 'model.auth_token', 'dropped')
    """
    found: dict[str, str] = {}
    clean = _cleaned(value, place, found)
    return clean, tuple(_entry(where, words) for where, words in found.items())


def _cleaned(value: Any, place: str, found: dict[str, str]) -> Any:
    if isinstance(value, str):
        text, words = without_secrets(value)
        if words:
            found[place or "text"] = " and ".join(words)
        return text
    if isinstance(value, Mapping):
        names = set(_named_values(value))
        clean = {}
        for key, inner in value.items():
            name, words, is_secret = _name(str(key))
            where = f"{place}.{name}" if place else name
            if words:
                found[where] = " and ".join(words)
            if isinstance(inner, str) and (is_secret or key in names) and is_literal(inner):
                found[where] = "a secret"
                clean[name] = REMOVED
            else:
                clean[name] = _cleaned(inner, where, found)
        return clean
    if isinstance(value, list | tuple):
        return [
            _cleaned(inner, f"{place}[{_label(inner, index)}]", found) for index, inner in enumerate(value)
        ]
    return value


def _name(key: str) -> tuple[str, tuple[str, ...], bool]:
    """A key without secrets, what was found in it, and whether what stands under it is one."""
    return _known_name(key) if len(key) <= _NAME_CHARS else _known_name.__wrapped__(key)


@lru_cache(maxsize=4096)  # the same names stand in every file
def _known_name(key: str) -> tuple[str, tuple[str, ...], bool]:
    name, words = without_secrets(key)
    return name, words, sounds_secret(name)


def _named_values(value: Mapping[Any, Any]) -> Iterator[Any]:
    """The keys whose value belongs to a name beside it: ``{"name": "Authorization", "value": …}``."""
    if any(isinstance(value.get(key), str) and sounds_secret(value[key]) for key in _NAMING):
        yield from (key for key in _VALUED if key in value)


def _label(value: Any, index: int) -> str:
    """How one of several is told from the others: its own name, else its place."""
    if isinstance(value, Mapping):
        for key in ("name", "key", "id", "title"):
            if isinstance(value.get(key), str) and 0 < len(value[key]) <= 60:
                return without_secrets(value[key])[0]
    return str(index)


def _removed(match: re.Match[str], secret: str, words: str, found: list[str]) -> str:
    is_said = secret != match[0]  # only its name says so: it may be a word like any other
    if REMOVED in match[0] or _PLACEHOLDER.search(secret) or (is_said and not _is_random(secret)):
        return match[0]
    found.append(words)
    return match[0].replace(secret, REMOVED)


def _is_random(text: str) -> bool:
    """Whether a word looks drawn rather than written: letters and digits mixed, and varied."""
    has_digit, has_letter = any(c.isdigit() for c in text), any(c.isalpha() for c in text)
    is_path = re.fullmatch(r"[a-z]+(?:[-_/.][a-z0-9]+)+", text) is not None
    return has_digit and has_letter and len(set(text)) >= 8 and not is_path


@cache
def _hints() -> Callable[[str], list[tuple[int, int, int]]]:
    """Finds, in one pass, which patterns are worth trying."""
    from ahocorasick_rs import AhoCorasick

    search = AhoCorasick([*(hint for hint, _, _ in _KEYS), *_SAID_HINTS])

    def find(text: str) -> list[tuple[int, int, int]]:
        try:
            hits: list[tuple[int, int, int]] = search.find_matches_as_indexes(text, True)
        except UnicodeEncodeError:  # half a surrogate pair
            hits = search.find_matches_as_indexes(text.encode("utf-8", "replace").decode(), True)
        return hits

    return find


def _entry(place: str, words: str) -> ImportEntry:
    return ImportEntry(
        place,
        "dropped",
        f"It held {words}, which was taken out and is shown nowhere. Add your own with `%persona credentials add`, "
        "and have this one withdrawn if it is real: the file carries it.",
    )
