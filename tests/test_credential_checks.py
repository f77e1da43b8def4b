"""A check really logs in: to a Dovecot, an SMTP server with TLS, a PostgreSQL, and HTTP services on loopback."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.dovecot import PASSWORD, USER, dovecot
from support.postgres import PASSWORD as ADMIN_PASSWORD
from support.postgres import Postgres, postgres
from support.tls import Certificate, certificate
from test_http_tool import Server, serving

from personas_nb import Studio
from personas_nb.errors import NotFound
from personas_nb.vault.checks import CheckResult

SECRET = "correct-horse-battery"


@pytest.fixture
def studio(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    home.mkdir()
    (home / "personas.toml").write_text(
        '[default]\nhttp_allowed_hosts = ["127.0.0.1"]\nmail_without_tls = "never"\n'
    )
    with Studio(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1", "localhost")


@pytest.fixture
def trusted(tls: Certificate, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    return tls


@pytest.fixture
def service() -> Iterator[Server]:
    with serving() as server:
        yield server


def checked(studio: Studio, connector: str, **fields: Any) -> CheckResult:
    studio.credentials.add("mine", connector, fields)
    result = studio.credentials.check("mine")
    assert studio.credentials.get("mine").check_status == result.status
    for value in (SECRET, PASSWORD, ADMIN_PASSWORD):
        assert value not in result.detail
    return result


# Web services


def answer(server: Server, path: str, document: Any, status: int = 200) -> None:
    server.on(path, json.dumps(document).encode(), status, content_type="application/json")


def test_slack_is_asked_whether_the_token_is_right(studio: Studio, service: Server) -> None:
    answer(service, "/auth.test", {"ok": True, "user": "robot"})
    result = checked(studio, "slack", bot_token=SECRET, api_url=service.url("").rstrip("/"))
    assert result == CheckResult(
        "healthy", f"127.0.0.1:{service.port} accepts it, as robot.", result.latency_ms
    )
    ((method, path, headers, _),) = service.requests
    assert (method, path, headers["authorization"]) == ("POST", "/auth.test", f"Bearer {SECRET}")


def test_slack_says_no_with_200(studio: Studio, service: Server) -> None:
    answer(service, "/auth.test", {"ok": False, "error": "invalid_auth"})
    result = checked(studio, "slack", bot_token=SECRET, api_url=service.url(""))
    assert result.status == "unhealthy"
    assert result.detail == f"127.0.0.1:{service.port} does not accept it: invalid_auth."


def test_telegram_has_the_token_in_its_address(studio: Studio, service: Server) -> None:
    answer(service, "/bot123:abc-def-ghi/getMe", {"ok": True, "result": {"username": "my_bot"}})
    url = service.url("").rstrip("/")
    result = checked(studio, "telegram", bot_token="123:abc-def-ghi", chat_id="7", api_url=url)
    assert (result.status, result.detail.split(", ")[1]) == ("healthy", "as my_bot.")


def test_an_error_that_repeats_the_address_does_not_tell_the_token(studio: Studio, service: Server) -> None:
    token = "123:abc-def-ghi"
    service.on(f"/bot{token}/getMe", status=302, location=f"/bot{token}/getMe")
    result = checked(studio, "telegram", bot_token=token, chat_id="7", api_url=service.url(""))
    assert result.status == "unhealthy"
    assert "redirects" in result.detail
    assert token not in result.detail
    assert "[secret bot_token]" in result.detail


def test_github_is_asked_who_it_is(studio: Studio, service: Server) -> None:
    answer(service, "/user", {"login": "octocat"})
    result = checked(studio, "github", token=SECRET, api_url=service.url(""))
    assert (result.status, result.detail.split(", ")[1]) == ("healthy", "as octocat.")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_said_with_its_reason_and_a_secret_in_it_is_masked(
    studio: Studio, service: Server, status: int
) -> None:
    answer(service, "/user", {"message": f"Bad credentials {SECRET}"}, status)
    result = checked(studio, "github", token=SECRET, api_url=service.url(""))
    assert result.status == "unhealthy"
    assert f"refuses it ({status}: Bad credentials [secret token])" in result.detail


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (200, "healthy"),
        (204, "healthy"),
        (401, "unhealthy"),
        (404, "degraded"),
        (429, "degraded"),
        (503, "unhealthy"),
    ],
)
def test_any_api_with_a_bearer_token_is_asked_at_its_address(
    studio: Studio, service: Server, status: int, wanted: str
) -> None:
    service.on("/v1/", status=status)
    result = checked(studio, "http_bearer", base_url=service.url("/v1/"), token=SECRET)
    assert result.status == wanted
    assert service.requests[0][2]["authorization"] == f"Bearer {SECRET}"


def test_a_connector_of_your_own_is_checked_as_it_says(studio: Studio, service: Server) -> None:
    healthcheck = {
        "method": "GET",
        "url": "{base_url}/accounts/{account}",
        "headers": {"X-Api-Key": "{api_key}"},
        "expect_status": [200, 418],
    }
    fields = [{"key": "base_url"}, {"key": "account"}, {"key": "api_key"}]
    studio.connectors.add("crm", fields=fields, healthcheck=healthcheck)
    service.on("/accounts/a%20b", status=418)
    result = checked(studio, "crm", base_url=service.url(""), account="a b", api_key=SECRET)
    assert result.status == "healthy"
    assert service.requests[0][2]["x-api-key"] == SECRET


def test_without_a_check_it_is_unknown(studio: Studio) -> None:
    studio.connectors.add("crm", fields=[{"key": "api_key"}])
    assert checked(studio, "crm", api_key=SECRET).status == "unknown"


def test_a_private_address_is_not_asked_unless_the_settings_allow_it(studio: Studio, service: Server) -> None:
    service.on("/user", b"{}")
    (studio.home / "personas.toml").write_text("")
    result = checked(studio, "github", token=SECRET, api_url=service.url(""))
    assert "is not an address of the public internet. A person may allow it" in result.detail
    assert service.requests == []


def test_a_redirect_to_another_host_takes_no_token_along(studio: Studio, service: Server) -> None:
    with serving() as other:
        other.on("/", b"{}")
        service.on("/user", status=302, location=other.url("/"))
        checked(studio, "github", token=SECRET, api_url=service.url(""))
        assert "authorization" not in other.requests[0][2]


def test_a_service_that_never_answers_is_given_up(studio: Studio) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        studio.credentials.add("mine", "github", {"token": SECRET, "api_url": url})
        started = time.monotonic()
        result = studio.credentials.check("mine", timeout_seconds=0.3)
    assert result.detail == "There was no answer within 0.3 s."
    assert time.monotonic() - started < 5
    assert result.latency_ms >= 300


def test_a_check_works_while_an_event_loop_runs(studio: Studio, service: Server) -> None:
    import asyncio

    async def within() -> CheckResult:
        return checked(studio, "github", token=SECRET, api_url=service.url(""))

    answer(service, "/user", {"login": "octocat"})
    assert asyncio.run(within()).status == "healthy"


# What is wrong here


def test_a_field_that_the_connector_came_to_need_is_named(studio: Studio) -> None:
    studio.connectors.add("crm", fields=[{"key": "api_key"}])
    studio.credentials.add("mine", "crm", {"api_key": SECRET})
    studio.connectors.add("crm", fields=[{"key": "api_key"}, {"key": "account"}])
    result = studio.credentials.check("mine")
    assert result.status == "unhealthy"
    assert "The credential “mine” lacks “account”." in result.detail
    assert "%persona credentials add mine crm" in result.detail


def test_a_cut_ciphertext_is_unhealthy_and_nobody_is_asked(studio: Studio, service: Server) -> None:
    row = studio.credentials.add("mine", "github", {"token": SECRET, "api_url": service.url("")})
    table = studio.store.table("credentials", type(row))
    table.update(row.id, sealed={"token": row.sealed["token"][:-4]})
    assert studio.credentials.check("mine").status == "unhealthy"
    assert service.requests == []


def test_an_unknown_credential_cannot_be_checked(studio: Studio) -> None:
    with pytest.raises(NotFound):
        studio.credentials.check("mine")


def test_a_check_is_forgotten_when_the_values_change(studio: Studio, service: Server) -> None:
    answer(service, "/user", {"login": "octocat"})
    checked(studio, "github", token=SECRET, api_url=service.url(""))
    assert studio.credentials.get("mine").checked_at is not None
    changed = studio.credentials.add("mine", "github", {"token": SECRET + "2", "api_url": service.url("")})
    assert (changed.check_status, changed.checked_at) == (None, None)


# Mail


def gmail(port: int, password: str = PASSWORD, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"user": USER, "app_password": password, "imap_host": host, "imap_port": port}


def test_imap_logs_in_over_tls_and_after_starttls(studio: Studio, trusted: Certificate) -> None:
    with dovecot(trusted) as server:
        for port in (server.tls_port, server.plain_port):
            result = checked(studio, "gmail", **gmail(port))
            assert (result.status, result.detail) == ("healthy", f"127.0.0.1 accepts it, as {USER}.")
        result = checked(studio, "gmail", **gmail(server.tls_port, "wrong-password-0"))
        assert result.status == "unhealthy"
        assert result.detail == f"127.0.0.1 refused the login of “{USER}”."


def test_a_certificate_that_is_not_trusted_gets_no_password(studio: Studio, tls: Certificate) -> None:
    with dovecot(tls) as server:
        result = checked(studio, "gmail", **gmail(server.tls_port))
    assert result.status == "unhealthy"
    assert "cannot be trusted" in result.detail


@contextmanager
def one_who_hangs_up() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_mail_server_that_drops_the_connection_is_said(studio: Studio) -> None:
    with one_who_hangs_up() as port:
        result = checked(studio, "gmail", **gmail(port))
        assert result.status == "unhealthy"
        assert "broke off the connection" in result.detail
        assert checked_smtp(studio, port).status == "unhealthy"


def test_a_port_where_nobody_listens_is_said(studio: Studio) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "refused the connection. Check the port." in checked(studio, "gmail", **gmail(port)).detail


def checked_smtp(studio: Studio, port: int, password: str = SECRET) -> CheckResult:
    studio.credentials.add(
        "post", "smtp", {"host": "127.0.0.1", "port": port, "user": USER, "password": password}
    )
    return studio.credentials.check("post")


@contextmanager
def smtp_server(tls: Certificate, *, offers_tls: bool = True) -> Iterator[tuple[int, int]]:
    """The ports of a server that speaks TLS at once, and of one that begins in the clear."""
    import ssl

    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.chain, tls.key)

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        return AuthResult(
            success=(data.login, data.password) == (USER.encode(), SECRET.encode()), handled=False
        )

    options = {"hostname": "127.0.0.1", "port": 0, "authenticator": authenticate}
    first = Controller(object(), ssl_context=context, auth_require_tls=False, **options)
    second = Controller(
        object(), tls_context=context if offers_tls else None, auth_require_tls=offers_tls, **options
    )
    # aiosmtpd connects to the port that it was told, so that 0 is replaced first.
    ports = []
    for controller in (first, second):
        with socket.create_server(("127.0.0.1", 0)) as free:
            controller.port = free.getsockname()[1]
        controller.start()
        ports.append(controller.port)
    try:
        yield ports[0], ports[1]
    finally:
        first.stop()
        second.stop()


def test_smtp_logs_in_over_tls_and_after_starttls(studio: Studio, trusted: Certificate) -> None:
    with smtp_server(trusted) as ports:
        for port in ports:
            assert checked_smtp(studio, port).detail == f"127.0.0.1 accepts it, as {USER}."
            refused = checked_smtp(studio, port, "wrong-password-0")
            assert (refused.status, refused.detail) == (
                "unhealthy",
                f"127.0.0.1 refused the login of “{USER}”.",
            )


def test_a_mail_server_without_tls_gets_no_password(studio: Studio, trusted: Certificate) -> None:
    with smtp_server(trusted, offers_tls=False) as (_, plain):
        result = checked_smtp(studio, plain)
    assert result.status == "unhealthy"
    assert "offers no encryption, so it got no password" in result.detail


# PostgreSQL


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server:
        server.run(
            "create table invoices (id int)",
            f"create role reader login password '{SECRET}'",
            f"create role writer login password '{SECRET}'",
            "grant select on invoices to reader",
            "grant select, insert on invoices to writer",
        )
        yield server


def checked_postgres(studio: Studio, database: Postgres, user: str, password: str = SECRET) -> CheckResult:
    fields = {"host": "127.0.0.1", "port": database.port, "database": "postgres"}
    return checked(studio, "postgres", user=user, password=password, **fields)


def test_a_role_that_only_reads_is_healthy(studio: Studio, database: Postgres) -> None:
    result = checked_postgres(studio, database, "reader")
    assert (result.status, result.detail) == ("healthy", "127.0.0.1 accepts it, as reader, for reading.")


@pytest.mark.parametrize("user", ["writer", "admin"])
def test_a_role_that_may_write_is_pointed_out(studio: Studio, database: Postgres, user: str) -> None:
    password = ADMIN_PASSWORD if user == "admin" else SECRET
    result = checked_postgres(studio, database, user, password)
    assert result.status == "degraded"
    assert "this role may write" in result.detail


def test_a_wrong_password_is_refused_by_the_database(studio: Studio, database: Postgres) -> None:
    result = checked_postgres(studio, database, "reader", "wrong-password-0")
    assert result.status == "unhealthy"
    assert "password authentication failed" in result.detail


def test_without_psycopg_it_says_what_to_install(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    fields = {"host": "127.0.0.1", "database": "d", "user": "u", "password": SECRET}
    result = checked(studio, "postgres", **fields)
    assert result.status == "unknown"
    assert "pip install 'personas-nb[postgres]'" in result.detail
