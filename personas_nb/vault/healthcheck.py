"""A connector's health check as data: an HTTP request, or a login by IMAP, SMTP or PostgreSQL.

``{field}`` in its texts stands for a field of the connector. Nothing is sent here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from personas_nb.entities.connector import ConnectorField
from personas_nb.errors import InvalidInput, did_you_mean

METHODS = ("GET", "HEAD", "POST")
_PLACE = re.compile(r"\{([A-Za-z][A-Za-z0-9_.-]*)\}")
_LOGIN = ("host", "port", "user", "password")
KEYS: dict[str, tuple[str, ...]] = {
    "http": ("method", "url", "headers", "json", "expect_status", "expect_json"),
    "imap": _LOGIN,
    "smtp": _LOGIN,
    "postgres": (*_LOGIN, "database", "sslmode"),
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "http": ("url",),
    "imap": _LOGIN,
    "smtp": _LOGIN,
    "postgres": (*_LOGIN, "database"),
}


def kind_of(definition: Mapping[str, Any]) -> str:
    """http, imap, smtp or postgres; empty where there is no check."""
    return str(definition.get("kind", "http")) if definition else ""


def check_definition(definition: Mapping[str, Any], fields: Iterable[ConnectorField]) -> dict[str, Any]:
    """The definition as it is stored; raises ``InvalidInput`` in words for what is wrong with it."""
    if not definition:
        return {}
    if not isinstance(definition, Mapping):
        raise _wrong("is no mapping", 'Such as {"url": "{base_url}/me"}.')
    kind = definition.get("kind", "http")
    if kind not in KEYS:
        raise _wrong(f"has the kind “{kind}”", f"There are {', '.join(KEYS)}.")
    for key in definition:
        if key != "kind" and key not in KEYS[kind]:
            known = f"It has {', '.join(KEYS[kind])}."
            raise _wrong(f"has no “{key}”", did_you_mean(str(key), KEYS[kind], otherwise=known))
    for key in _NEEDED[kind]:
        if not definition.get(key):
            raise _wrong(f"lacks “{key}”", f"A check by {kind} needs {', '.join(_NEEDED[kind])}.")
    if kind == "http":
        _check_request(definition)
    elif wrong := [key for key, value in definition.items() if not isinstance(value, str | int)]:
        raise _wrong(f"has a “{wrong[0]}” that is no text", "Such as {" + wrong[0] + "}.")
    known_fields = [field.key for field in fields]
    for name in _places(definition):
        if name not in known_fields:
            hint = did_you_mean(name, known_fields, otherwise=f"There are {', '.join(known_fields)}.")
            raise _wrong(f"uses “{{{name}}}”, which is no field", hint)
    return dict(definition)


def filled(text: str, fields: Mapping[str, str], *, in_url: bool = False) -> str:
    """The text with fields put in; in an address only what begins it may be more than one part of it.

    >>> filled("{url}/bot{token}/me", {"url": "https://a.example", "token": "1:a/b"}, in_url=True)
    'https://a.example/bot1:a%2Fb/me'
    """

    def value(found: re.Match[str]) -> str:
        given = fields.get(found[1], "")
        if not in_url:
            return given
        if found.start() == 0:
            return given.rstrip("/") if found.end() < len(text) else given
        return quote(given, safe=":@~")

    return _PLACE.sub(value, text)


def _check_request(definition: Mapping[str, Any]) -> None:
    url, method = definition["url"], definition.get("method", "GET")
    if not isinstance(url, str) or not re.match(r"https?://|\{", url):
        raise _wrong("has a “url” that is no web address", 'Such as "{base_url}/me".')
    if method not in METHODS:
        raise _wrong(f"has the method “{method}”", f"There are {', '.join(METHODS)}.")
    headers = definition.get("headers") or {}
    if not isinstance(headers, Mapping) or not all(
        isinstance(part, str) for item in headers.items() for part in item
    ):
        raise _wrong("has headers that are no texts", 'Such as {"Authorization": "Bearer {token}"}.')
    expected = definition.get("expect_status", 200)
    statuses = expected if isinstance(expected, list | tuple) else [expected]
    if not statuses or not all(type(status) is int and 100 <= status < 600 for status in statuses):
        raise _wrong("has an “expect_status” that is no status", "Such as 200, or [200, 204].")
    if not isinstance(definition.get("expect_json", {}), Mapping):
        raise _wrong("has an “expect_json” that is no mapping", 'Such as {"ok": true}.')


def _places(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield from _PLACE.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _places(inner)


def _wrong(what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"The health check {what}.", hint=hint)
