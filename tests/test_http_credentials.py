"""A credential in an HTTP request: how it gets there, where it may go, and that nobody sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn
from support.studios import persona_of, studio_at
from test_http_tool import LOOPBACK, Server, resolving, serving

from personas_nb.entities.connector import Connector
from personas_nb.errors import InvalidInput, PersonaError, ToolDenied
from personas_nb.settings import Settings
from personas_nb.tools.http import http_request
from personas_nb.tools.http_credential import HttpCredential, origin_of, origins
from personas_nb.vault.access import Opened

TOKEN = "tok-en/0123+4567=89"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.on("/x", b"ok")
        yield running


def opened(url: str, token: str = TOKEN, *, key: str = "token", **fields: str) -> Opened:
    return Opened(
        {"base_url": url, key: token, **fields}, name="api", connector="http_bearer", secret_keys=[key]
    )


def ask(url: str, credential: Opened | None, **options: Any) -> dict[str, Any]:
    options.setdefault("settings", LOOPBACK)
    settings = options.pop("settings")
    answer = json.loads(asyncio.run(http_request(settings, url, credential=credential, **options)))
    assert isinstance(answer, dict)
    return answer


def refusal(url: str, credential: Opened | None, **options: Any) -> str:
    with pytest.raises(PersonaError) as caught:
        ask(url, credential, **options)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


# How it gets there


def test_a_named_credential_is_sent_as_a_bearer_token_by_itself(server: Server) -> None:
    ask(server.url("/x"), opened(server.url()))
    assert server.requests[0][2]["authorization"] == f"Bearer {TOKEN}"


def test_without_a_credential_nothing_is_added(server: Server) -> None:
    ask(server.url("/x"), None)
    assert "authorization" not in server.requests[0][2]


def test_an_authorization_header_of_the_model_stays(server: Server) -> None:
    ask(server.url("/x"), opened(server.url()), headers={"authorization": "token {{credential.token}}"})
    assert server.requests[0][2]["authorization"] == f"token {TOKEN}"


def test_a_place_is_filled_in_address_header_query_json_and_body(server: Server) -> None:
    credential = opened(server.url(), user="ann")
    server.on(f"/bot{'tok-en%2F0123%2B4567%3D89'}/send", b"ok")
    ask(server.url("/bot{{credential.token}}/send"), credential)
    ask(server.url("/x"), credential, headers={"X-Key": "k {{ credential.token }}"})
    ask(server.url("/x?a={{credential.token}}"), credential, query={"key": "{{credential.token}}", "n": 1})
    ask(
        server.url("/x"),
        credential,
        method="POST",
        json={"a": [{"b": "{{credential.token}} {{credential.user}}"}]},
    )
    ask(server.url("/x"), credential, method="POST", body="user={{credential.user}}&key={{credential.token}}")
    requests = server.requests
    assert requests[0][1] == "/bottok-en%2F0123%2B4567%3D89/send"
    assert requests[1][2]["x-key"] == f"k {TOKEN}"
    assert parse_qs(urlsplit(requests[2][1]).query) == {"a": [TOKEN], "key": [TOKEN], "n": ["1"]}
    assert json.loads(requests[3][3]) == {"a": [{"b": f"{TOKEN} ann"}]}
    assert requests[4][3].decode() == f"user=ann&key={TOKEN}"
    assert not any("authorization" in headers for _, _, headers, _ in requests)


def test_a_plain_field_that_is_placed_leaves_the_token_where_it_belongs(server: Server) -> None:
    ask("{{credential.base_url}}/x", opened(server.url(), user="ann"), query={"who": "{{credential.user}}"})
    assert server.requests[0][1] == "/x?who=ann"
    assert server.requests[0][2]["authorization"] == f"Bearer {TOKEN}"


def test_a_telegram_token_keeps_its_colon_in_the_path(server: Server) -> None:
    server.on("/bot123:ABC-def_9/getMe", b"ok")
    credential = opened(server.url(), "123:ABC-def_9", key="bot_token")
    assert ask(server.url("/bot{{credential.bot_token}}/getMe"), credential)["status"] == 200


def test_braces_of_other_kinds_stay_as_they_are(server: Server) -> None:
    text = "{{name}} ${{ secrets.TOKEN }} {credential.token} {{credential}}"
    ask(server.url("/x"), opened(server.url()), method="POST", body=text)
    assert server.requests[0][3].decode() == text


def test_a_field_that_does_not_exist_is_named_with_the_nearest(server: Server) -> None:
    said = refusal(server.url("/{{credential.tokn}}"), opened(server.url()))
    assert said == "The credential “api” has no field “tokn”. Did you mean “token”?"
    assert server.requests == []


@pytest.mark.parametrize("part", ["url", "headers", "query", "json", "body"])
def test_a_place_without_a_credential_is_refused(server: Server, part: str) -> None:
    place = "{{credential.token}}"
    options: dict[str, Any] = {
        "url": {},
        "headers": {"headers": {"X": place}},
        "query": {"query": {"x": [place]}},
        "json": {"json": [{"x": place}], "method": "POST"},
        "body": {"body": place, "method": "POST"},
    }[part]
    said = refusal(server.url("/x" + (place if part == "url" else "")), None, **options)
    assert (
        said
        == "The request asks for {{credential.…}} but names no credential. Give its name as “credential”."
    )
    assert server.requests == []


@pytest.mark.parametrize("token", ["abc\r\nX-Evil: 1", "abc\ndefgh", "abc\0defgh"])
def test_a_value_of_several_lines_adds_no_header(server: Server, token: str) -> None:
    with pytest.raises(InvalidInput, match="would have several lines"):
        ask(server.url("/x"), opened(server.url(), token), headers={"X-Key": "{{credential.token}}"})
    assert server.requests == []


# Where it may go


def test_a_credential_goes_to_its_own_host_alone(server: Server) -> None:
    with serving() as other:
        other.on("/x")
        said = refusal(other.url("/x"), opened(server.url("/api")))
        assert said == (
            f"The credential “api” goes to {server.url('')} only. Send the request there, or leave the credential out."
        )
        assert other.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://good.test:PORT@evil.test:PORT/",
        "http://good.test:PORT\\@evil.test:PORT/",
        "http://evil.test:PORT/#good.test:PORT",
        "http://good.test.evil.test:PORT/",
        "http://evil.test:PORT?good.test:PORT",
        "http://evil.test:PORT/{{credential.base_url}}",
        "//evil.test:PORT/",
        "https://good.test:PORT/",
        "ftp://good.test:PORT/",
        "http://{{credential.other}}/",
        "{{credential.other}}/",
        "http://good.test/",
    ],
)
def test_an_address_that_looks_like_the_host_is_not_it(server: Server, url: str) -> None:
    place = f"evil.test:{server.port}"
    credential = opened(f"http://good.test:{server.port}", other=place)
    options = {
        "settings": Settings(http_allowed_hosts=("good.test", "evil.test", "good.test.evil.test")),
        "resolve": resolving(good_test="127.0.0.1", evil_test="127.0.0.1", good_test_evil_test="127.0.0.1"),
    }
    server.on("/")
    assert ask(f"http://good.test:{server.port}/", credential, **options)["status"] == 200
    refusal(url.replace("PORT", str(server.port)), credential, **options)
    assert [headers["host"] for _, _, headers, _ in server.requests] == [f"good.test:{server.port}"]


@given(
    st.text(st.sampled_from("abhtp:/\\@#?.%5c[]{} \t"), max_size=20),
    st.sampled_from(["http://", "https://", ""]),
)
def test_no_address_is_another_host_for_the_check_than_for_the_client(tail: str, scheme: str) -> None:
    import httpx2

    url = scheme + "good.test" + tail
    try:
        sent_to = httpx2.URL(url.strip()).raw_host.decode()
    except Exception:
        sent_to = ""
    origin = origin_of(url)
    assert origin is None or origin[1] == sent_to.rstrip(".").lower()


def test_the_origins_are_those_that_the_credential_names() -> None:
    definition = Connector(name="crm", healthcheck={"url": "https://status.crm.example/me"})
    fields = {
        "api_url": "https://API.crm.example:443/v1",
        "note": "see https://x.example",
        "webhook": "http://h.example",
    }
    found = origins(Opened(fields, name="a", connector="crm", definition=definition))
    assert found == {
        ("https", "api.crm.example", 443),
        ("http", "h.example", 80),
        ("https", "status.crm.example", 443),
    }


def test_a_credential_that_names_no_host_goes_nowhere(server: Server) -> None:
    said = refusal(server.url("/x"), Opened({"key": TOKEN}, name="k", connector="crm", secret_keys=["key"]))
    assert said.startswith("The credential “k” does not say which host it is for.")
    assert server.requests == []


def test_the_shipped_connectors_know_their_hosts(home: Path) -> None:
    hosts = {}
    with studio_at(home) as studio:
        for name, fields in {
            "slack": {"bot_token": "xoxb-0123456789"},
            "telegram": {"bot_token": "1234567890:ABC", "chat_id": "1"},
            "github": {"token": "ghp_0123456789"},
        }.items():
            row = studio.credentials.add(name, name, fields)
            opened = Opened(
                studio.credentials.opened(row),
                name=name,
                connector=name,
                definition=studio.connectors.get(name),
            )
            hosts[name] = {(scheme, host) for scheme, host, _ in origins(opened)}
    assert hosts == {
        "slack": {("https", "slack.com")},
        "telegram": {("https", "api.telegram.org")},
        "github": {("https", "api.github.com")},
    }


# Redirects and addresses


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
@pytest.mark.parametrize("where", ["bearer", "header", "user-agent", "query", "json", "body"])
def test_a_redirect_to_another_host_takes_nothing_along(server: Server, status: str, where: str) -> None:
    place = "{{credential.token}}"
    options: dict[str, Any] = {
        "bearer": {},
        "header": {"headers": {"X-Key": place}},
        "user-agent": {"headers": {"User-Agent": place}},
        "query": {"query": {"key": place}},
        "json": {"json": {"key": place}},
        "body": {"body": f"key={place}"},
    }[where]
    with serving() as other:
        other.on("/y", b"elsewhere")
        server.on("/r", b"", int(status), Location=other.url("/y"))
        with suppress(ToolDenied):  # where there is something to keep back; else it is followed without it
            ask(server.url("/r"), opened(server.url()), method="POST", **options)
        for method, path, headers, body in other.requests:
            assert TOKEN not in f"{method} {path} {headers} {body.decode()}"
            assert "tok-en%2F0123" not in path
    assert len(server.requests) == 1


def test_a_redirect_that_carries_the_token_in_its_address_is_refused(server: Server) -> None:
    with serving() as other:
        other.on("/y")
        server.on("/r", b"", 302, Location=other.url("/y?t=tok-en%2F0123%2B4567%3D89"))
        said = refusal(server.url("/r"), opened(server.url()))
        assert "may not go. Nothing was sent there." in said
        assert other.requests == []


def test_a_redirect_within_the_host_keeps_the_token(server: Server) -> None:
    server.on("/r", b"", 302, Location="/x")
    assert ask(server.url("/r"), opened(server.url()))["body"] == "ok"
    assert server.requests[1][2]["authorization"] == f"Bearer {TOKEN}"


def test_a_download_elsewhere_is_followed_without_the_token(server: Server) -> None:
    with serving() as other:
        other.on("/file", b"bytes")
        server.on("/r", b"", 302, Location=other.url("/file"))
        assert ask(server.url("/r"), opened(server.url()))["body"] == "bytes"
        assert "authorization" not in other.requests[0][2]


def test_a_redirect_to_a_private_address_is_refused_with_a_credential_too(server: Server) -> None:
    server.on("/r", b"", 307, Location="http://169.254.169.254/latest/meta-data")
    said = refusal(server.url("/r"), opened(server.url()), method="GET")
    assert "169.254.169.254" in said
    assert len(server.requests) == 1


def test_a_host_of_a_credential_at_a_private_address_still_needs_the_setting() -> None:
    credential = opened("http://service.test/")
    said = refusal(
        "http://service.test/x", credential, settings=Settings(), resolve=resolving(service_test="10.0.0.1")
    )
    assert "is not an address of the public internet" in said


def test_a_name_that_changes_after_the_check_gets_no_token(server: Server) -> None:
    answers = ["127.0.0.1", "127.0.0.2"]

    async def resolve(_host: str, _port: int) -> list[str]:
        return [answers.pop(0)]

    with serving("127.0.0.2", server.port) as other:
        other.on("/x")
        ask(
            f"http://service.test:{server.port}/x",
            opened(f"http://service.test:{server.port}"),
            resolve=resolve,
        )
        assert other.requests == []
    assert len(server.requests) == 1


def test_an_answer_of_one_byte_too_many_is_refused_with_a_credential_too(server: Server) -> None:
    limit = Settings().http_limit_bytes
    server.on("/full", b"x" * limit)
    server.on("/over", b"x" * (limit + 1))
    assert len(ask(server.url("/full"), opened(server.url()))["body"]) == limit
    assert "more than 5,242,880 bytes" in refusal(server.url("/over"), opened(server.url()))


# In a run


@pytest.mark.parametrize("engine", ["direct", "claude"])
def test_the_model_uses_a_token_that_neither_it_nor_the_home_ever_sees(
    home: Path, server: Server, engine: str
) -> None:
    if engine == "claude":
        pytest.importorskip("claude_agent_sdk")

    def echo(handler: Any) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = json.dumps({"you sent": headers, "path": handler.path}).encode()
        handler.send_response(200)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.routes["/echo"] = echo
    call = {"url": server.url("/echo"), "query": {"k": "{{credential.token}}"}, "credential": "my api"}
    bearer = {"url": server.url("/echo"), "credential": "http_bearer"}
    script = [
        Turn.tools(("http_request", call), ("http_request", bearer)),
        Turn.text(f"It said {TOKEN}.", chunk=4),
    ]
    with (
        ModelServer(script) as model,
        studio_at(home, model, engine=engine, http_allowed_hosts="127.0.0.1") as studio,
    ):
        studio.credentials.add("my api", "http_bearer", {"base_url": server.url(), "token": TOKEN})
        run = studio.run(persona_of(studio, "http_request"), "go")
        told = json.dumps([request.body for request in model.requests])
    assert run.status == "completed", run.error
    assert run.engine == engine
    assert sorted(step.error or "" for step in run.tool_steps) == ["", ""]
    queries = [parse_qs(urlsplit(path).query).get("k") for _, path, _, _ in server.requests]
    assert sorted(queries, key=str) == [None, [TOKEN]] or sorted(queries, key=str) == [[TOKEN], None]
    assert f"Bearer {TOKEN}" in {headers.get("authorization") for _, _, headers, _ in server.requests}
    assert all("[secret my api.token]" in step.output for step in run.tool_steps)
    assert run.output_data == "It said [secret my api.token]."
    for form in (TOKEN, "tok-en%2F0123%2B4567%3D89"):
        assert form not in told
        for path in home.rglob("*"):
            assert not path.is_file() or form.encode() not in path.read_bytes(), path


def test_a_tool_may_name_only_what_was_matched_for_it(home: Path, server: Server) -> None:
    script = [
        Turn.tools(("http_request", {"url": server.url("/x"), "credential": "my mail"})),
        Turn.text("Done."),
    ]
    with ModelServer(script) as model, studio_at(home, model, http_allowed_hosts="127.0.0.1") as studio:
        fields = {"user": "a@example.com", "app_password": "correct horse"}
        studio.credentials.add("my mail", "gmail", fields)
        run = studio.run(persona_of(studio, "http_request"))
    assert (run.tool_steps[0].error or "").startswith("There is no credential for http_request.")
    assert server.requests == []


def test_the_places_of_a_credential_are_filled_once(server: Server) -> None:
    placing = HttpCredential(opened(server.url(), user="{{credential.token}}"))
    assert placing.filled("{{credential.user}}") == "{{credential.token}}"


def test_only_a_persona_that_bypasses_has_credentials_in_its_environment(home: Path, server: Server) -> None:
    pytest.importorskip("claude_agent_sdk")
    command = 'echo "${#HTTP_BEARER_TOKEN} characters: $HTTP_BEARER_TOKEN"'
    script = [Turn.tools(("Bash", {"command": command, "description": "look"})), Turn.text("Done.")]
    with ModelServer(script) as model, studio_at(home, model, engine="claude") as studio:
        studio.credentials.add("my api", "http_bearer", {"base_url": server.url(), "token": TOKEN})
        persona = persona_of(studio, "http_request", permissions="bypass")
        run = studio.run(persona)
        prompt = studio.executions.prompt(run.id) or ""
        told = json.dumps([request.body for request in model.requests])
    assert run.tool_steps[0].output == f"{len(TOKEN)} characters: [secret my api.token]"
    assert "- `HTTP_BEARER_TOKEN`" in prompt
    assert TOKEN not in told
    for path in home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
