"""One HTTP request to a public address.

- Every hop is checked on its own: scheme, host, and each address that its name resolves to.
- The connection goes to the very address that was checked, under the name's TLS identity and Host: a name that
  resolves differently a moment later (DNS rebinding) changes nothing. For the same reason no proxy is used.
- Each hop has a connection of its own: one that was verified for another name is never used again.
- Time is limited over all hops together, bytes before and after decompression.
- A credential goes only where it belongs (``http_credential``); that is asked at every hop too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json as json_module
import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from personas_nb.errors import InvalidInput, TooLarge, ToolDenied, ToolError, ToolTimeout
from personas_nb.settings import Settings
from personas_nb.tools.http_credential import HttpCredential, has_places
from personas_nb.vault.access import Opened

if TYPE_CHECKING:
    import httpx2

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
A = TypeVar("A")

REDIRECTS_LIMIT = 5
CONNECT_SECONDS = 10.0
USER_AGENT = "personas_nb"

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"}
)
_PLAIN = (str, int, float, bool, type(None))
# What may go along to another origin; anything else may be a key under a name of its own.
_HARMLESS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_SHOWN = re.compile(
    r"content-(type|language|disposition)|etag|last-modified|date|location|link|retry-after|allow"
    r"|www-authenticate|x-(total-count|next-page|page|per-page)|(x-)?ratelimit-.*"
)
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|javascript|x-ndjson|x-www-form-urlencoded)")

# Refused beside what Python knows not to be global, which differs from version to version.
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # the metadata service of Azure, on a public address
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; what an IPv6 address wraps is what counts.

    >>> is_public("1.1.1.1"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _GLOBAL_IPV6:
            return False
    return ip.is_global and not any(ip in network for network in _REFUSED if network.version == ip.version)


async def resolve_host(host: str, port: int) -> list[str]:
    """The IP addresses of a host, in the system's order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def http_request(
    settings: Settings,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
    json: Any = None,
    body: str | None = None,
    credential: Opened | None = None,
    keeps_method: bool = False,
    resolve: Resolve = resolve_host,
) -> str:
    """Send a request and return the answer as JSON text: ``status``, ``url``, ``headers`` (selected), ``body``.

    An error status is an answer. Up to five redirects are followed; to another origin only harmless headers go
    along. A body that is no text is described. ``{{credential.FIELD}}`` in address, headers, query, json and body
    stands for a field of ``credential``. With ``keeps_method`` a redirect that would make a GET of it is the answer.
    Raises ToolDenied for an address that is not public unless
    ``settings.http_allowed_hosts`` has the host (or host:port), and for one that is not the credential's;
    ToolTimeout after ``http_timeout_ms``, TooLarge above ``http_limit_bytes``, ToolError when there is no answer.
    """
    placed = lambda: _placed(credential, url, method, headers, query, json, body)  # noqa: E731 - asked for inside
    hop = _Hop(settings, resolve, _shown_answer, keeps_method=keeps_method)
    return await _answered(hop, placed, url)


@dataclass(frozen=True)
class Fetched:
    """What an address answered, byte for byte; ``url`` is where the redirects led, ``media_type`` in small letters.

    ``headers`` have their names in small letters.
    """

    url: str
    status: int
    media_type: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """What it answered as text; of what is no text, a description."""
        return _as_text(self.data, self.headers.get("content-type", ""))


async def http_fetch(
    settings: Settings,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    limit_bytes: int | None = None,
    resolve: Resolve = resolve_host,
) -> Fetched:
    """The bytes at an address, under the same checks and limits as ``http_request``, and with the same errors.

    ``limit_bytes`` None means ``settings.http_limit_bytes``. An error status is an answer.
    """
    if limit_bytes is not None:
        settings = settings.model_copy(update={"http_limit_bytes": limit_bytes})

    def fetched(data: bytes, request: httpx2.Request, response: httpx2.Response) -> Fetched:
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        told = {name.lower(): value for name, value in response.headers.items()}
        return Fetched(str(request.url), response.status_code, kind, data, told)

    placed = lambda: _placed(None, url, "GET", headers, None, None, None)  # noqa: E731 - asked for inside
    return await _answered(_Hop(settings, resolve, fetched), placed, url)


async def _answered(
    hop: _Hop[A],
    placed: Callable[[], tuple[httpx2.Request, Callable[[httpx2.Request], None]]],
    url: str,
) -> A:
    """Follow redirects to the answer, within the time of one request."""
    import httpx2

    seconds = hop.settings.http_timeout_ms / 1000
    target = url
    try:
        async with asyncio.timeout(seconds):
            request, check = placed()
            for _ in range(REDIRECTS_LIMIT + 1):
                check(request)
                target = str(request.url)
                answer = await hop.send(request)
                if not isinstance(answer, httpx2.Request):
                    return answer
                request = answer
    except TimeoutError:
        raise ToolTimeout(f"{_host(target)} did not answer within {seconds:g} s.") from None
    except httpx2.HTTPError as error:
        raise _in_words(error, _host(target)) from error
    raise ToolError(
        f"{url} redirects more than {REDIRECTS_LIMIT} times.", hint=f"The last was to {request.url}."
    )


def _placed(
    credential: Opened | None,
    url: str,
    method: str,
    headers: Mapping[str, str] | None,
    query: Mapping[str, Any] | None,
    json: Any,
    body: str | None,
) -> tuple[httpx2.Request, Callable[[httpx2.Request], None]]:
    """The first request with the credential in it, and what is to be asked before each is sent."""
    if credential is None:
        if has_places(url, headers, query, json, body):
            raise InvalidInput(
                "The request asks for {{credential.…}} but names no credential.",
                hint="Give its name as “credential”.",
            )
        return _first_request(url, method, headers, query, json, body), lambda _request: None
    placing = HttpCredential(credential)
    url, query, json, body = placing.url(url), *(placing.filled(part) for part in (query, json, body))
    request = _first_request(url, method, placing.headers(headers), query, json, body)
    placing.check(request)
    return request, placing.check_redirect


def _first_request(
    url: str,
    method: str,
    headers: Mapping[str, str] | None,
    query: Mapping[str, Any] | None,
    json: Any,
    body: str | None,
) -> httpx2.Request:
    import httpx2

    if method.upper() not in _METHODS:
        raise InvalidInput(f"“{method}” is no method.", hint=f"It may be {', '.join(_METHODS)}.")
    if json is not None and body is not None:
        raise InvalidInput("A request has one body.", hint="Give either json or body.")
    if ours := sorted(name for name in headers or {} if name.lower() in _OURS):
        raise ToolDenied(f"The header {ours[0]} is set by personas_nb itself.", hint="Leave it out.")
    for name, value in (query or {}).items():
        if not all(isinstance(item, _PLAIN) for item in (value if isinstance(value, list) else [value])):
            raise InvalidInput(f"“query.{name}” must be a text, a number, or a list of these.")
    defaults = {"user-agent": USER_AGENT, "accept": "*/*"}
    given = {name.lower(): value for name, value in (headers or {}).items()}
    address = _checked(url)
    try:
        if query:
            address = address.copy_merge_params(dict(query))
        content = body.encode() if body is not None else None
        # Compression is refused: an answer's size should be what it says.
        return httpx2.Request(
            method.upper(),
            address,
            headers={**defaults, **given, "accept-encoding": "identity"},
            content=content,
            json=json,
        )
    except (TypeError, ValueError, httpx2.InvalidURL) as error:  # a header that is no ASCII
        raise InvalidInput("The request cannot be written as HTTP.", hint=f"{error}.") from None


def _checked(url: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """The address without its fragment, if it is one that may be asked at all."""
    import httpx2

    try:
        address = base.join(url) if base is not None else httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        shown = " ".join(url.split())
        raise InvalidInput(f"“{shown}” is no web address.", hint=f"{error}") from None
    if address.scheme not in ("http", "https"):
        raise ToolDenied(f"“{url}” is no http or https address.", hint="Only http:// and https:// are sent.")
    if not address.host or not 0 < _port(address) < 65536:
        raise InvalidInput(f"“{url}” is no web address.", hint="It looks like https://example.com/path.")
    if address.userinfo:
        raise ToolDenied("The address holds a user or password.", hint="Send them in a header instead.")
    return address.copy_with(fragment=None)


class _Hop(Generic[A]):
    """One request without redirects: check the addresses, connect to one of them, read what comes."""

    def __init__(
        self,
        settings: Settings,
        resolve: Resolve,
        read: Callable[[bytes, httpx2.Request, httpx2.Response], A],
        *,
        keeps_method: bool = False,
    ) -> None:
        self.settings, self._keeps_method = settings, keeps_method
        self._resolve = resolve
        self._read = read

    async def send(self, request: httpx2.Request) -> A | httpx2.Request:
        """The answer as it is read, or the request that it redirects to."""
        import httpx2

        addresses = await self._addresses(request.url)
        # The context reads the system's certificates: 50 ms, once.
        context = await asyncio.to_thread(_tls_context)
        for address in addresses:
            try:
                async with httpx2.AsyncHTTPTransport(verify=context, trust_env=False) as transport:
                    response = await transport.handle_async_request(_pinned(request, address))
                    try:
                        following = _redirected(request, response)
                        if following and not (self._keeps_method and following.method != request.method):
                            return following
                        return await self._answer(request, response)
                    finally:
                        await response.aclose()
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise ToolError(f"{_host(str(request.url))} has no address.")

    async def _addresses(self, url: httpx2.URL) -> Sequence[str]:
        host, port = url.raw_host.decode("ascii"), _port(url)
        name = host.rstrip(".").lower()
        try:
            addresses: Sequence[str] = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                addresses = await self._resolve(host, port)
            except (socket.gaierror, UnicodeError):
                raise ToolError(
                    f"The host “{host}” has no address.", hint="Check its spelling and the network."
                ) from None
        allowed = self.settings.http_allowed_hosts
        if name in allowed or f"{name}:{port}" in allowed:
            return addresses
        # One bad address spoils the name: a mixed answer is how rebinding begins.
        if refused := [address for address in addresses if not is_public(address)]:
            raise ToolDenied(
                f"“{host}” is at {refused[0]}, which is not an address of the public internet.",
                hint=f"A person may allow it: add “{name}” to the setting http_allowed_hosts.",
            )
        return addresses

    async def _answer(self, request: httpx2.Request, response: httpx2.Response) -> A:
        return self._read(await self._body(request, response), request, response)

    async def _body(self, request: httpx2.Request, response: httpx2.Response) -> bytes:
        limit_bytes = self.settings.http_limit_bytes
        too_large = TooLarge(
            f"{_host(str(request.url))} answered {response.status_code} with more than {limit_bytes:,} bytes.",
            hint="Ask for a part of it: a page, a filter, or a Range header.",
        )
        length = response.headers.get("content-length", "")
        if request.method != "HEAD" and length.isdecimal() and int(length) > limit_bytes:
            raise too_large
        raw = bytearray()
        async for chunk in response.aiter_raw():
            raw += chunk
            if len(raw) > limit_bytes:
                raise too_large
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding == "identity" or not raw:
            return bytes(raw)
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise ToolError(f"The answer is compressed with {encoding}, which was not asked for.")
        unpacking = zlib.decompressobj(wbits=47)
        try:
            data = unpacking.decompress(bytes(raw), limit_bytes + 1)
        except zlib.error:
            data = b""
        if len(data) > limit_bytes:
            raise too_large
        if not unpacking.eof:
            raise ToolError(f"The answer says that it is compressed with {encoding}, but it is not.")
        return data


def _pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    """The request as it goes to this very address; the name stays in Host and in the TLS handshake."""
    import httpx2

    headers = request.headers.copy()
    headers["host"] = request.url.netloc.decode("ascii")
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=headers,
        content=request.content or None,
        extensions={
            "sni_hostname": request.url.raw_host.decode("ascii").rstrip("."),
            "timeout": {"connect": CONNECT_SECONDS},
        },
    )


def _redirected(request: httpx2.Request, response: httpx2.Response) -> httpx2.Request | None:
    """The next request where the answer is a redirect; as browsers do, a POST may become a GET."""
    import httpx2

    if response.status_code not in (301, 302, 303, 307, 308) or "location" not in response.headers:
        return None
    url = _checked(response.headers["location"], request.url)
    method, content, headers = request.method, request.content, request.headers.copy()
    is_get_now = response.status_code == 303 or (response.status_code in (301, 302) and method == "POST")
    if is_get_now and method != "HEAD":
        method, content = "GET", b""
        headers.pop("content-type", None)
    if _origin(url) != _origin(request.url):
        headers = httpx2.Headers({name: headers[name] for name in headers if name in _HARMLESS})
    for name in ("host", "content-length"):
        headers.pop(name, None)
    headers["accept-encoding"] = "identity"
    return httpx2.Request(method, url, headers=headers, content=content or None)


def _shown_answer(data: bytes, request: httpx2.Request, response: httpx2.Response) -> str:
    answer = {
        "status": response.status_code,
        "url": str(request.url),
        "headers": {name: value for name, value in response.headers.items() if _SHOWN.fullmatch(name)},
        "body": _as_text(data, response.headers.get("content-type", "")),
    }
    return json_module.dumps(answer, ensure_ascii=False)


def _as_text(data: bytes, content_type: str) -> str:
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    named = re.search(r"charset=\"?([\w.:-]+)", parameters)
    try:
        return data.decode(named[1] if named else "utf-8")
    except (LookupError, UnicodeDecodeError):
        if _TEXT.fullmatch(kind):
            return data.decode("utf-8", "replace")
    return f"({len(data):,} bytes of {kind or 'an unnamed type'}; not shown, they are no text)"


def _in_words(error: httpx2.HTTPError, host: str) -> ToolError:
    """What went wrong on the way, told from the causes that the client keeps."""
    import httpx2

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ToolError(f"The certificate of {host} cannot be trusted: {cause.verify_message}.")
        if isinstance(cause, ssl.SSLError):
            return ToolError(f"{host} does not speak TLS as it should.", hint="Perhaps it is http://.")
        if isinstance(cause, ConnectionRefusedError):
            return ToolError(f"{host} refused the connection.", hint="Check the port.", retryable=True)
    if isinstance(error, httpx2.TimeoutException):
        return ToolTimeout(f"{host} could not be reached within {CONNECT_SECONDS:g} s.")
    if isinstance(error, httpx2.ConnectError):
        return ToolError(f"{host} cannot be reached.", hint="Check the network.", retryable=True)
    if isinstance(error, httpx2.LocalProtocolError):
        return ToolError("The request cannot be written as HTTP.", hint=f"{error}.")
    return ToolError(f"{host} broke off or did not speak HTTP.", retryable=True)


@cache
def _tls_context() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


def _origin(url: httpx2.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host.lower(), _port(url)


def _port(url: httpx2.URL) -> int:
    return url.port if url.port is not None else 443 if url.scheme == "https" else 80


def _host(url: str) -> str:
    return re.sub(r"^\w+://([^/?#]*).*$", r"\1", url, flags=re.DOTALL)
