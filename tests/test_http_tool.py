"""Where http_request may go, what it takes along, and what it says about the answer. Real servers on loopback."""

import asyncio
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.errors import InvalidInput, TooLarge, ToolDenied, ToolError, ToolTimeout
from personas_nb.settings import Settings
from personas_nb.tools import http
from personas_nb.tools.http import REDIRECTS_LIMIT, http_request, is_public

LOOPBACK = Settings(http_allowed_hosts=("127.0.0.1", "service.test", "other.test"))


class Server:
    """Answers from ``routes`` and keeps what it was asked."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.routes: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers, body))
                outer.routes[self.path.partition("?")[0]](self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        self.http = ThreadingHTTPServer((address, port), Handler)
        self.port = self.http.server_address[1]

    def url(self, path: str = "/") -> str:
        return f"http://{self.http.server_address[0]!s}:{self.port}{path}"

    def on(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"content_length": str(len(body)), **headers}.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.routes[path] = answer


@contextmanager
def serving(address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(address, port)
    if tls is not None:
        server.http.socket = tls.wrap_socket(server.http.socket, server_side=True)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def resolving(**names: str | list[str]) -> Callable[[str, int], Any]:
    """A resolver that knows these names, with _ for the dot."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        found = names.get(host.rstrip(".").lower().replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found] if isinstance(found, str) else found

    return resolve


def ask(url: str, *, settings: Settings = LOOPBACK, **options: Any) -> dict[str, Any]:
    answer = json.loads(asyncio.run(http_request(settings, url, **options)))
    assert isinstance(answer, dict)
    return answer


def refusal(url: str, kind: type[Exception] = ToolError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        ask(url, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What goes out and what comes back


def test_the_answer_has_status_selected_headers_and_text(server: Server) -> None:
    server.on(
        "/x",
        "Käse".encode(),
        404,
        Content_Type="text/plain",
        ETag='"1"',
        X_RateLimit_Left="9",
        Set_Cookie="a=b",
    )
    answer = ask(server.url("/x"))
    assert (answer["status"], answer["url"], answer["body"]) == (404, server.url("/x"), "Käse")
    assert {"content-type": "text/plain", "etag": '"1"', "x-ratelimit-left": "9"}.items() <= answer[
        "headers"
    ].items()
    assert "set-cookie" not in answer["headers"]


def test_method_query_headers_and_json_are_sent(server: Server) -> None:
    server.on("/x")
    ask(
        server.url("/x?a=1#part"),
        method="POST",
        query={"q": "ö &", "n": [1, 2]},
        headers={"X-Key": "k"},
        json=[1, None],
    )
    method, path, headers, body = server.requests[0]
    assert (method, path, json.loads(body)) == ("POST", "/x?a=1&q=%C3%B6+%26&n=1&n=2", [1, None])
    assert (headers["x-key"], headers["content-type"]) == ("k", "application/json")
    assert headers["host"] == f"127.0.0.1:{server.port}"


def test_a_text_body_is_sent_as_utf8(server: Server) -> None:
    server.on("/x")
    ask(server.url("/x"), method="PUT", body="Käse")
    assert server.requests[0][3] == "Käse".encode()


def test_head_takes_no_body_whatever_its_length(server: Server) -> None:
    server.on("/x", content_length="99999999999")
    assert ask(server.url("/x"), method="HEAD")["body"] == ""


def test_a_body_that_is_no_text_is_described(server: Server) -> None:
    server.on("/x", b"\x89PNG\xff\xfe", Content_Type="image/png")
    assert ask(server.url("/x"))["body"] == "(6 bytes of image/png; not shown, they are no text)"


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        ("Käse".encode("latin-1"), "text/plain; charset=ISO-8859-1", "Käse"),
        ("Käse".encode("latin-1"), "text/plain; charset=nonsense", "K�se"),
        ("Käse".encode("latin-1"), "application/problem+json", "K�se"),
        ("Käse".encode(), "", "Käse"),
    ],
)
def test_text_is_decoded_as_its_type_says(server: Server, data: bytes, kind: str, text: str) -> None:
    server.on("/x", data, Content_Type=kind)
    assert ask(server.url("/x"))["body"] == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "TRACE"}, "“TRACE” is no method."),
        ({"json": 1, "body": "x"}, "A request has one body."),
        ({"headers": {"X": "ö"}}, "cannot be written as HTTP"),
        ({"headers": {"X": "a\r\nY: b"}}, "cannot be written as HTTP"),
        ({"headers": {"HOST": "elsewhere"}}, "The header HOST is set by personas_nb itself."),
        ({"query": {"a": {"b": 1}}}, "“query.a” must be a text, a number, or a list of these."),
    ],
)
def test_a_request_that_cannot_be_sent_is_a_sentence(server: Server, options: Any, message: str) -> None:
    assert message in refusal(server.url("/x"), (ToolError, InvalidInput), **options)  # type: ignore[arg-type]
    assert server.requests == []


# Limits


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_refused(server: Server) -> None:
    limit = LOOPBACK.http_limit_bytes
    assert limit == 5 * 1024 * 1024
    server.on("/fits", b"x" * limit)
    server.on("/over", b"x" * (limit + 1))
    assert len(ask(server.url("/fits"))["body"]) == limit
    said = refusal(server.url("/over"), TooLarge)
    assert f"127.0.0.1:{server.port} answered 200 with more than 5,242,880 bytes." in said


def test_a_body_without_a_length_stops_at_the_limit_while_it_streams(server: Server) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent < 200 * 1024 * 1024:
                handler.wfile.write(b"x" * 65536)
                sent += 65536
        except OSError:  # the reader is gone, as it should be
            pass

    server.routes["/x"] = endless
    refusal(server.url("/x"), TooLarge)
    assert sent < 100 * 1024 * 1024


def test_compression_is_not_asked_for_and_a_bomb_is_not_unpacked(server: Server) -> None:
    server.on("/small", gzip.compress(b"hello"), Content_Encoding="gzip")
    server.on("/bomb", gzip.compress(b"0" * 50_000_000), Content_Encoding="gzip")
    server.on("/odd", b"x", Content_Encoding="br")
    server.on("/false", b"x", Content_Encoding="gzip")
    assert ask(server.url("/small"))["body"] == "hello"
    assert server.requests[0][2]["accept-encoding"] == "identity"
    refusal(server.url("/bomb"), TooLarge)
    assert "compressed with br" in refusal(server.url("/odd"))
    assert "but it is not" in refusal(server.url("/false"))


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:  # the reader is gone
        pass


def test_a_slow_body_ends_at_the_total_time(server: Server) -> None:
    server.routes["/x"] = trickle  # no single read is late
    settings = LOOPBACK.model_copy(update={"http_timeout_ms": 300})
    said = refusal(server.url("/x"), ToolTimeout, settings=settings)
    assert said == f"127.0.0.1:{server.port} did not answer within 0.3 s."


def test_a_cancel_ends_a_request_that_is_under_way(server: Server) -> None:
    begun = threading.Event()

    def begin(handler: BaseHTTPRequestHandler) -> None:
        begun.set()
        trickle(handler)

    server.routes["/x"] = begin

    async def cancelled() -> None:
        task = asyncio.ensure_future(http_request(LOOPBACK, server.url("/x")))
        await asyncio.to_thread(begun.wait, 5)
        task.cancel()
        await asyncio.wait_for(asyncio.wait([task]), timeout=5)
        assert task.cancelled()

    asyncio.run(cancelled())


# Where it may go


@pytest.mark.parametrize(
    "url", ["ftp://example.com/x", "file:///etc/passwd", "gopher://x/", "data:text/plain,x", "example.com"]
)
def test_other_schemes_are_refused(url: str) -> None:
    assert "no http or https address" in refusal(url, ToolDenied)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x",
        "http://a:99999/",
        "http://a\nb/",
        "http://a:x/",
        "http://a:0/",
        "http://0177.0.0.1/",
    ],
)
def test_what_is_no_address_is_a_sentence(url: str) -> None:
    assert "is no web address" in refusal(url, InvalidInput)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    said = refusal("http://me:open-sesame@127.0.0.1/", ToolDenied)
    assert "user or password" in said
    assert "sesame" not in said


PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200"),
    *("0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.192", "168.63.129.16", "198.18.0.1"),
    *("::", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "fe80::1", "fe80::1%1", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "fec0::1", "2001:db8::1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_at_an_address_that_is_not_public_is_refused(address: str) -> None:
    said = refusal("http://innocent.test/", ToolDenied, resolve=resolving(innocent_test=address))
    assert said.startswith(
        f"“innocent.test” is at {address}, which is not an address of the public internet."
    )
    assert "http_allowed_hosts" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_an_address_that_is_not_public_is_refused_unless_it_is_allowed(host: str) -> None:
    said = refusal(f"http://{host}:1/", ToolDenied, settings=Settings())
    assert "not an address of the public internet" in said


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
def test_an_address_is_refused_in_the_spellings_that_only_the_system_knows(host: str) -> None:
    async def as_the_system_reads_it(host: str, port: int) -> list[str]:
        return [socket.inet_ntoa(socket.inet_aton(host))]

    said = refusal(f"http://{host}/", ToolDenied, settings=Settings(), resolve=as_the_system_reads_it)
    assert said.startswith(f"“{host}” is at 127.0.0.1")


def test_names_are_resolved_by_the_system(server: Server) -> None:
    server.on("/x", b"here")
    url = f"http://localhost:{server.port}/x"
    assert "“localhost” is at " in refusal(url, ToolDenied, settings=Settings())
    assert ask(url, settings=Settings(http_allowed_hosts=("localhost",)))["body"] == "here"


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_what_an_ipv6_address_wraps_is_judged_like_the_ipv4_address_itself(address: Any) -> None:
    assert is_public(f"::ffff:{address}") == is_public(f"64:ff9b::{address}") == is_public(str(address))


def test_one_bad_address_among_good_ones_spoils_the_name() -> None:
    resolve = resolving(mixed_test=["1.1.1.1", "10.0.0.1"])
    assert "is at 10.0.0.1" in refusal("http://mixed.test/", ToolDenied, resolve=resolve)


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.1:{port}"])
def test_the_settings_may_allow_a_host_or_one_port_of_it(server: Server, allowed: str) -> None:
    server.on("/x", b"here")
    hosts = (allowed.format(port=server.port),)
    settings = Settings().model_copy(update={"http_allowed_hosts": hosts})
    assert ask(server.url("/x"), settings=settings)["body"] == "here"
    if ":" in hosts[0]:
        refusal(f"http://127.0.0.1:{server.port + 1}/", ToolDenied, settings=settings)


def test_a_host_is_allowed_in_any_case_and_with_a_final_dot(server: Server) -> None:
    server.on("/x", b"here")
    resolve = resolving(service_test="127.0.0.1")
    assert ask(f"http://SERVICE.test.:{server.port}/x", resolve=resolve)["body"] == "here"


def test_a_name_that_changes_between_check_and_connect_reaches_only_what_was_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 stands for a public address, 127.0.0.1 for the private one that the name moves to."""
    monkeypatch.setattr(http, "is_public", lambda address: address == "127.0.0.2")
    answers = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])

    async def rebinding(host: str, port: int) -> list[str]:
        return [next(answers)]

    with serving("127.0.0.2", server.port) as public:
        public.on("/x", b"public")
        url = f"http://rebinding.test:{server.port}/x"
        assert ask(url, settings=Settings(), resolve=rebinding)["body"] == "public"
        assert public.requests[0][2]["host"] == f"rebinding.test:{server.port}"
        assert "is at 127.0.0.1" in refusal(url, ToolDenied, settings=Settings(), resolve=rebinding)
    assert server.requests == []


def test_a_second_address_is_tried_when_the_first_refuses(server: Server) -> None:
    server.on("/x", b"here")
    resolve = resolving(service_test=["127.0.0.3", "127.0.0.1"])
    assert ask(f"http://service.test:{server.port}/x", resolve=resolve)["body"] == "here"


def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on("/x", b"direct")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(server.url("/x"))["body"] == "direct"


# Redirects


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2/", "http://10.0.0.1/", "//169.254.169.254/latest/meta-data"]
)
def test_a_redirect_to_a_private_address_is_refused(server: Server, target: str) -> None:
    server.on("/x", status=302, Location=target)
    assert "not an address of the public internet" in refusal(server.url("/x"), ToolDenied)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://a:b@127.0.0.1/"])
def test_a_redirect_is_checked_like_the_first_address(server: Server, target: str) -> None:
    server.on("/x", status=301, Location=target)
    refusal(server.url("/x"), ToolDenied)


def test_five_redirects_are_followed_and_six_are_not(server: Server) -> None:
    for number in range(1, REDIRECTS_LIMIT + 2):
        server.on(f"/{number}", status=302, Location=str(number - 1))
    server.on("/0", b"end")
    answer = ask(server.url("/5"))
    assert (answer["body"], answer["url"]) == ("end", server.url("/0"))
    assert "redirects more than 5 times" in refusal(server.url("/6"))


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "POST", "GET", b""),
        (302, "POST", "GET", b""),
        (303, "PUT", "GET", b""),
        (302, "PUT", "PUT", b"data"),
        (307, "POST", "POST", b"data"),
        (308, "POST", "POST", b"data"),
    ],
)
def test_method_and_body_follow_a_redirect_as_its_status_says(
    server: Server, status: int, method: str, then: str, body: bytes
) -> None:
    server.on("/x", status=status, Location="/y")
    server.on("/y")
    ask(server.url("/x"), method=method, body="data", headers={"Content-Type": "text/csv"})
    sent_method, _, headers, sent_body = server.requests[1]
    assert (sent_method, sent_body) == (then, body)
    assert ("content-type" in headers) == bool(body)


def test_secrets_stay_with_their_origin(server: Server) -> None:
    secrets = {"Authorization": "Bearer t", "Cookie": "c=1", "X-Api-Key": "k", "Accept-Language": "cs"}
    resolve = resolving(service_test="127.0.0.1", other_test="127.0.0.1")
    server.on("/a", status=302, Location="/b")
    server.on("/b", status=302, Location=f"http://other.test:{server.port}/c")
    server.on("/c")
    ask(f"http://service.test:{server.port}/a", headers=secrets, resolve=resolve)
    sent = [
        {name for name in headers if name in {key.lower() for key in secrets}}
        for _, _, headers, _ in server.requests
    ]
    assert sent == [{key.lower() for key in secrets}, {key.lower() for key in secrets}, {"accept-language"}]
    assert server.requests[2][2]["host"] == f"other.test:{server.port}"


def test_cookies_of_an_answer_are_not_kept(server: Server) -> None:
    server.on("/a", status=302, Location="/b", Set_Cookie="a=b; Path=/")
    server.on("/b")
    ask(server.url("/a"))
    assert "cookie" not in server.requests[1][2]


# What goes wrong on the way


def test_an_unknown_host_is_a_sentence() -> None:
    said = refusal("http://nowhere.test/", resolve=resolving())
    assert said == "The host “nowhere.test” has no address. Check its spelling and the network."


def test_a_port_that_nobody_listens_on_is_a_sentence() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        assert refusal(f"http://127.0.0.1:{port}/").startswith(f"127.0.0.1:{port} refused the connection.")


def test_an_answer_that_breaks_off_is_a_sentence(server: Server) -> None:
    server.on("/x", b"short", content_length="1000")
    assert "broke off or did not speak HTTP" in refusal(server.url("/x"))


# TLS


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """A server's certificate for service.test, and a client that trusts it."""
    certificate = self_signed("service.test", tmp_path / "service.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    http._tls_context.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield context
    http._tls_context.cache_clear()


def self_signed(name: str, path: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_tls_names_the_host_although_the_connection_goes_to_an_address(tls: ssl.SSLContext) -> None:
    named: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: named.append(name)
    resolve = resolving(service_test="127.0.0.1")
    with serving(tls=tls) as server:
        server.on("/x", b"safe")
        assert ask(f"https://service.test:{server.port}/x", resolve=resolve)["body"] == "safe"
    assert named == ["service.test"]


def test_a_certificate_for_another_name_is_not_trusted(tls: ssl.SSLContext) -> None:
    with serving(tls=tls) as server:
        said = refusal(f"https://other.test:{server.port}/x", resolve=resolving(other_test="127.0.0.1"))
    assert f"The certificate of other.test:{server.port} cannot be trusted" in said
    assert server.requests == []


def test_https_to_a_server_that_speaks_http_is_a_sentence(server: Server, tls: ssl.SSLContext) -> None:
    said = refusal(server.url("/x").replace("http:", "https:"))
    assert "does not speak TLS" in said
