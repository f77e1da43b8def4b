"""How a credential gets into one HTTP request, and where it may go.

- A model writes ``{{credential.FIELD}}`` in the address, a header, the query, the JSON or the body, and never sees
  the value. Any other ``{{…}}`` is its own text and stays.
- Where it places no secret and writes no Authorization header, the credential's token goes there as a bearer token.
- The values go only to the origins (scheme, host, port) that the credential itself names: every field that is a
  web address, and the address of its connector's check. A redirect to anywhere else takes none along.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from personas_nb.errors import InvalidInput, ToolDenied, did_you_mean
from personas_nb.vault.access import Opened
from personas_nb.vault.redaction import SECRETS_MIN_LENGTH, Redactor

if TYPE_CHECKING:
    import httpx2

TOKEN_FIELDS = ("token", "access_token", "bot_token")
"""The first of these that a credential has is sent as a bearer token by itself."""

_PLACE = re.compile(r"\{\{\s*credential\.([\w.-]+)\s*\}\}")
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]


def has_places(*parts: Any) -> bool:
    """Whether one of these texts or structures asks for a field of a credential."""
    return any(_PLACE.search(text) for part in parts for text in _texts(part))


class HttpCredential:
    """One opened credential for one ``http_request``."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._is_placed = False
        self.origins = frozenset(origins(opened))
        values = {key: opened[key] for key in opened.secret_keys}
        # Shorter ones are older than the rule that refuses them.
        self._redactor = Redactor(
            {key: value for key, value in values.items() if len(value.strip()) >= SECRETS_MIN_LENGTH}
        )

    def url(self, url: str) -> str:
        """The address with its places filled."""
        return _PLACE.sub(self._in_url, url)

    def filled(self, value: Any) -> Any:
        """A text, or a structure with texts, with its places filled."""
        return _mapped(value, lambda text: _PLACE.sub(lambda found: self._value(found[1]), text))

    def headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        """The headers with their places filled; to be called last, when it is known whether a secret was placed."""
        found = {name: self.filled(value).strip() for name, value in (headers or {}).items()}
        for name, value in found.items():
            if any(sign in value for sign in "\r\n\0"):
                raise InvalidInput(f"The header {name} would have several lines.")
        token = next((key for key in TOKEN_FIELDS if self._opened.get(key)), None)
        if token and not self._is_placed and "authorization" not in {name.lower() for name in found}:
            found["Authorization"] = f"Bearer {self._opened[token].strip()}"
        return found

    def check(self, request: httpx2.Request) -> None:
        """Raise ``ToolDenied`` where the first request goes elsewhere than the credential."""
        if origin_of(request.url) in self.origins:
            return
        name = self._opened.name
        if not self.origins:
            raise ToolDenied(
                f"The credential “{name}” does not say which host it is for.",
                hint="A person gives its connector a field such as base_url, with the address.",
            )
        allowed = ", ".join(sorted(map(_shown, self.origins)))
        raise ToolDenied(
            f"The credential “{name}” goes to {allowed} only.",
            hint="Send the request there, or leave the credential out.",
        )

    def check_redirect(self, request: httpx2.Request) -> None:
        """Raise ``ToolDenied`` where a request that leaves the credential's hosts would take a value along."""
        if origin_of(request.url) in self.origins:
            return
        said = [str(request.url), *(value for pair in request.headers.items() for value in pair)]
        text = "\n".join([*said, request.content.decode("utf-8", "replace")])
        if self._redactor.redact(text) != text:
            raise ToolDenied(
                f"The answer redirects to {request.url.host}, where the credential “{self._opened.name}” may "
                "not go.",
                hint="Nothing was sent there.",
            )

    def _in_url(self, found: re.Match[str]) -> str:
        value = self._value(found[1]).strip()
        if found.start() == 0 and origin_of(value) is not None:
            return value.rstrip("/")
        # Either as it is or all escaped: what keeps secrets out of text knows both, and no mixture.
        return value if re.fullmatch(r"[\w.~:-]*", value, re.ASCII) else quote(value, safe="")

    def _value(self, key: str) -> str:
        if key not in self._opened:
            known = ", ".join(self._opened)
            raise InvalidInput(
                f"The credential “{self._opened.name}” has no field “{key}”.",
                hint=did_you_mean(key, self._opened, otherwise=f"It has {known}."),
            )
        self._is_placed = self._is_placed or key in self._opened.secret_keys
        return self._opened[key]


def origins(opened: Opened) -> set[Origin]:
    """Where the values of a credential may go.

    >>> sorted(origins(Opened({"api_url": "https://Slack.com/api"}, name="team", connector="slack")))
    [('https', 'slack.com', 443)]
    """
    check = opened.definition.healthcheck.get("url") if opened.definition else None
    texts = [*opened.values(), *([check] if isinstance(check, str) else [])]
    return {origin for text in texts if (origin := origin_of(text)) is not None}


def origin_of(url: str | httpx2.URL) -> Origin | None:
    """Scheme, host and port of a web address, as the client that sends the request reads it; None for other text.

    >>> origin_of("https://api.example.com/v1?x=1"), origin_of("{base_url}/me")
    (('https', 'api.example.com', 443), None)
    """
    import httpx2

    try:
        address = httpx2.URL(url.strip()) if isinstance(url, str) else url
    except (httpx2.InvalidURL, ValueError):
        return None
    host = address.raw_host.decode("ascii").rstrip(".").lower()
    if address.scheme not in _PORTS or not host or address.userinfo:
        return None
    return address.scheme, host, address.port or _PORTS[address.scheme]


def _shown(origin: Origin) -> str:
    scheme, host, port = origin
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" + ("" if port == _PORTS[scheme] else f":{port}")


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
