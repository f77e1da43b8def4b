"""The Jupyter server extension: who may ask what, what is answered, and what comes of it in the home."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from support.studios import persona_of
from tornado.httpclient import HTTPClientError, HTTPResponse
from tornado.web import RequestHandler

from personas_nb import Studio, __version__
from personas_nb.entities.review import Review
from personas_nb.entities.trigger import Trigger
from personas_nb.server.host import host_of
from personas_nb.server.routes import ROUTES
from personas_nb.server.webhook import LINGER_BYTES
from personas_nb.triggers.door import BODY_LIMIT_BYTES
from personas_nb.triggers.signatures import sign

pytest_plugins = ["pytest_jupyter.jupyter_server"]

Fetch = Callable[..., Awaitable[HTTPResponse]]


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"personas_nb": True}}}


@pytest.fixture
def studio() -> Iterator[Studio]:
    """A kernel's studio on the home of the server."""
    with Studio() as studio:
        persona_of(studio)
        yield studio


@pytest.fixture
def server(jp_serverapp: Any, studio: Studio) -> Any:
    return jp_serverapp


@pytest.fixture
def ask(server: Any, jp_fetch: Fetch) -> Callable[..., Awaitable[tuple[int, Any]]]:
    """Asks the API, with the token unless told otherwise; the status and what was said."""

    async def ask(
        method: str, path: str, said: Any = None, *, token: bool = True, **params: str
    ) -> tuple[int, Any]:
        headers = {} if token else {"Authorization": ""}
        body = (
            None
            if method in ("GET", "HEAD", "DELETE", "OPTIONS")
            else said
            if isinstance(said, bytes)
            else json.dumps(said if said is not None else {})
        )
        try:
            answer = await jp_fetch(
                "personas", *path.split("/"), method=method, headers=headers, params=params, body=body,
                allow_nonstandard_methods=True, follow_redirects=False,
            )  # fmt: skip
        except HTTPClientError as error:
            answer = error.response
        return answer.code, json.loads(answer.body) if answer.body else None

    return ask


@pytest.fixture
def post(server: Any, http_server_client: Any, jp_base_url: str) -> Callable[..., Awaitable[HTTPResponse]]:
    """Posts to a webhook as the world does: without a token."""

    async def post(
        path: str, body: bytes, headers: dict[str, str], method: str = "POST", **options: Any
    ) -> HTTPResponse:
        response: HTTPResponse = await http_server_client.fetch(
            f"{jp_base_url}personas/webhook/{path}", method=method, raise_error=False,
            headers={"Content-Type": "application/json", **headers},
            body=body if "body_producer" not in options and method in ("POST", "PUT", "PATCH") else None,
            allow_nonstandard_methods=True, follow_redirects=False, **options,
        )  # fmt: skip
        return response

    return post


@pytest.fixture
def webhook(studio: Studio) -> tuple[Trigger, str]:
    trigger = studio.triggers.add("watcher", "webhook")
    assert trigger.secret is not None
    return trigger, trigger.secret.get_secret_value()


def signed(body: bytes, secret: str, **headers: str) -> dict[str, str]:
    at = int(time.time())
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"X-Personas-Signature": sign(body, secret, at), "X-Personas-Timestamp": str(at), **named}


async def until(is_so: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        await asyncio.sleep(0.05)
    return found


# ── the webhook door ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_signed_request_without_a_token_starts_the_persona_and_the_server_runs_it(
    post, studio, webhook
):
    trigger, secret = webhook
    body = b'{"order": 7}'
    answer = await post(trigger.id, body, signed(body, secret, X_Personas_Delivery="order-7"))
    assert answer.code == 202
    said = json.loads(answer.body)
    assert said["status"] == "queued"
    done = await until(lambda: (run := studio.executions.get(said["id"])).status == "completed" and run)
    assert done.trigger_id == trigger.id
    assert json.loads(done.input_data)["order"] == 7


async def test_a_repeated_delivery_answers_200_and_does_nothing(post, studio, webhook):
    trigger, secret = webhook
    codes, ids = [], set()
    for _ in range(3):
        answer = await post(trigger.id, b"{}", signed(b"{}", secret, X_Personas_Delivery="same"))
        codes.append(answer.code)
        ids.add(json.loads(answer.body)["id"])
    assert codes == [202, 200, 200]
    assert len(ids) == len(studio.executions.list()) == len(studio.triggers.fires()) == 1


async def test_a_delivery_of_github_is_taken(post, studio, webhook):
    trigger, secret = webhook
    body = b'{"ref": "refs/heads/main"}'
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "X-Hub-Signature-256": f"sha256={mac}",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-GitHub-Event": "push",
    }
    assert [(await post(trigger.id, body, headers)).code for _ in range(2)] == [202, 200]
    (run,) = studio.executions.list()
    given = json.loads(studio.executions.get(run.id).input_data)
    assert (given["ref"], given["_trigger"]["event"]) == ("refs/heads/main", "push")


async def test_what_is_wrong_with_a_request_is_its_status(post, studio, webhook):
    trigger, secret = webhook
    stale = {"X-Personas-Signature": sign(b"{}", secret, 1_000_000), "X-Personas-Timestamp": "1000000"}
    cases = [
        (trigger.id, b"{}", {}, 401),
        (trigger.id, b"{}", signed(b"{} ", secret), 401),
        (trigger.id, b"{}", signed(b"{}", "another-secret-0123456789"), 401),
        (trigger.id, b"{}", stale, 401),
        (trigger.id, b"{", signed(b"{", secret), 400),
        (trigger.id, b"\xff", signed(b"\xff", secret), 400),
        (trigger.id, b"{}", signed(b"{}", secret, X_Personas_Delivery="a b"), 400),
        ("0" * 36, b"{}", signed(b"{}", secret), 404),
        ("0" * 36, b"{}", {}, 404),
        (trigger.id[:8], b"{}", signed(b"{}", secret), 404),
    ]
    for path, body, headers, code in cases:
        answer = await post(path, body, headers)
        assert (answer.code, path, headers) == (code, path, headers)
        assert set(json.loads(answer.body)) == {"message"}
    studio.triggers.disable(trigger.id)
    assert (await post(trigger.id, b"{}", signed(b"{}", secret))).code == 404
    assert studio.triggers.fires() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_the_door_takes_nothing_but_post(post, webhook, method):
    trigger, secret = webhook
    answer = await post(trigger.id, b"{}", signed(b"{}", secret), method=method)
    assert (answer.code, answer.headers["Allow"]) == (405, "POST")
    assert set(json.loads(answer.body)) == {"message"}


async def test_what_no_webhook_can_be_called_is_refused_without_a_line_in_the_log(post, webhook, caplog):
    trigger, secret = webhook
    assert (await post(trigger.id, b"{}", {})).code == 401  # said once a minute: not by the next ones
    caplog.clear()
    for path, method in (("%ff", "POST"), ("%ed%a0%80", "POST"), (trigger.id, "TRACE")):
        answer = await post(path, b"{}", signed(b"{}", secret), method=method)
        assert answer.code in (400, 405)
        assert set(json.loads(answer.body)) == {"message"}
    assert [record.getMessage() for record in caplog.records if record.levelno > 20] == []


async def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not(post, studio, webhook):
    trigger, secret = webhook
    studio.personas.disable("watcher")
    for size, code in ((BODY_LIMIT_BYTES, 202), (BODY_LIMIT_BYTES + 1, 413), (3 * BODY_LIMIT_BYTES, 413)):
        body = b'"' + b"x" * (size - 2) + b'"'
        assert (await post(trigger.id, body, signed(body, secret))).code == code
    assert len(studio.triggers.fires()) == 1


class Stream:
    """A request whose body comes in pieces, as long as somebody sends them."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self.port, self.path, self.headers = port, path, headers

    async def begin(self, **headers: str) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [f"{name}: {value}" for name, value in {**self.headers, **headers}.items()]
        self.writer.write(
            "\r\n".join([f"POST {self.path} HTTP/1.1", "Host: localhost", *head, "", ""]).encode()
        )

    async def send(self, size: int) -> None:
        self.writer.write(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n")
        await self.writer.drain()

    async def status(self) -> int:
        line = await asyncio.wait_for(self.reader.readline(), 20)
        return int(line.split()[1])


@pytest.fixture
def stream(webhook, server, jp_base_url, jp_http_port, http_server_client) -> Stream:
    trigger, secret = webhook
    return Stream(jp_http_port, f"{jp_base_url}personas/webhook/{trigger.id}", signed(b"", secret))


CHUNKED = {"Transfer-Encoding": "chunked"}


async def test_a_body_of_unknown_length_that_ends_too_late_is_answered(stream):
    await stream.begin(**CHUNKED)
    for _ in range(40):
        await stream.send(0x10000)
    stream.writer.write(b"0\r\n\r\n")
    assert await stream.status() == 413


async def test_a_body_that_is_too_long_and_does_not_go_on_is_answered(stream):
    await stream.begin(**CHUNKED)
    for _ in range(17):
        await stream.send(0x10000)
    assert await stream.status() == 413


async def test_a_body_without_an_end_is_cut(stream):
    await stream.begin(**CHUNKED)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await stream.send(0x10000)
            sent += 0x10000
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send(), 20)
    assert BODY_LIMIT_BYTES < sent < BODY_LIMIT_BYTES + 2 * LINGER_BYTES


async def test_a_sender_that_asks_first_is_told_before_it_sends(stream):
    await stream.begin(**{"Expect": "100-continue", "Content-Length": str(BODY_LIMIT_BYTES + 1)})
    assert await stream.status() == 413


async def test_requests_that_are_over_the_rate_are_told_when_to_come_again(
    post, studio, webhook, monkeypatch
):
    monkeypatch.setenv("PERSONAS_WEBHOOK_RATE_LIMIT", "3")
    trigger, secret = webhook
    for _ in range(5):  # none of these counts
        assert (await post(trigger.id, b"{}", signed(b"{}", "not the secret, not at all"))).code == 401
    answers = [await post(trigger.id, b"{}", signed(b"{}", secret)) for _ in range(4)]
    assert [answer.code for answer in answers] == [202, 202, 202, 429]
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 20


async def test_what_cannot_start_is_accepted_and_says_why(post, studio, webhook):
    trigger, secret = webhook
    studio.personas.disable("watcher")
    answer = await post(trigger.id, b"{}", signed(b"{}", secret))
    assert answer.code == 202
    said = json.loads(answer.body)
    assert (said["status"], said["reason"]) == ("skipped", "Watcher is disabled.")
    assert studio.triggers.fires()[0].id == said["id"]


async def test_a_store_that_cannot_be_written_asks_the_sender_to_come_again(
    post, studio, webhook, monkeypatch, server
):
    trigger, secret = webhook
    assert (await post(trigger.id, b"{}", signed(b"{}", secret))).code == 202
    host = host_of(server.web_app.settings)

    from personas_nb.errors import StoreError

    async def full(change: Any) -> Any:
        raise StoreError(
            f"{studio.store.path} could not be written: database or disk is full.", retryable=True
        )

    monkeypatch.setattr(host, "write", full)
    answer = await post(trigger.id, b"{}", signed(b"{}", secret))
    assert (answer.code, answer.headers["Retry-After"]) == (503, "10")
    assert str(studio.home) not in answer.body.decode()


async def test_a_login_of_the_browser_is_neither_needed_nor_asked_for(post, webhook):
    trigger, secret = webhook
    headers = signed(b"{}", secret, Origin="https://elsewhere.example", Cookie="_xsrf=x; username-x=y")
    answer = await post(trigger.id, b"{}", headers)
    assert answer.code == 202
    assert "Set-Cookie" not in answer.headers
    assert "Access-Control-Allow-Origin" not in answer.headers


# ── who may ask ─────────────────────────────────────────────────────────────────────────────────────────────────────

PATHS = ["status", "triggers", "reviews", "triggers/ID/fire", "triggers/ID/enable", "triggers/ID/disable",
         "reviews/ID/approve", "reviews/ID/reject"]  # fmt: skip


def test_the_paths_that_are_tried_are_all_there_are():
    patterns = [re.compile(f"{pattern}$") for pattern, _handler in ROUTES]
    tried = [f"personas/api/{path}" for path in PATHS]
    assert all(any(pattern.match(path) for pattern in patterns) for path in tried)
    assert all(any(pattern.match(path) for path in tried) for pattern in patterns)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def test_no_other_route_answers_without_a_token(ask, studio, webhook, method):
    trigger, _secret = webhook
    for path in PATHS:
        code, said = await ask(method, f"api/{path.replace('ID', trigger.id)}", token=False)
        assert (code, path) == (403, path)
        assert "watcher" not in json.dumps(said).lower()
    assert studio.triggers.fires() == []
    assert studio.triggers.get(trigger.id).enabled


async def test_every_route_of_the_extension_asks_for_a_login_except_the_door(server):
    ours = {
        handler.target
        for rule in server.web_app.default_router.rules
        for handler in getattr(rule.target, "rules", [])
        if isinstance(handler.target, type) and handler.target.__module__.startswith("personas_nb.")
    }
    assert len(ours) == len({handler for _pattern, handler in ROUTES}) + 1
    is_open = {
        f"{handler.__name__}.{method.lower()}"
        for handler in ours
        for method in handler.SUPPORTED_METHODS
        if getattr(getattr(handler, method.lower()), "__allow_unauthenticated", False)
        and getattr(handler, method.lower()) is not getattr(_BASE, method.lower(), None)
    }
    assert {name for name in is_open if not name.startswith("WebhookHandler.")} == set()


async def test_a_cookie_alone_changes_nothing(server, http_server_client, jp_base_url, studio, webhook):
    """A page of somebody else's makes a logged-in browser post: Jupyter's check of the origin stops it."""
    trigger, _secret = webhook
    answer = await http_server_client.fetch(
        f"{jp_base_url}personas/api/triggers/{trigger.id}/disable", method="POST", body="{}", raise_error=False,
        headers={"Origin": "https://elsewhere.example", "Cookie": "_xsrf=1"},
    )  # fmt: skip
    assert answer.code in (403, 404)
    assert studio.triggers.get(trigger.id).enabled


# ── what is answered ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_status_says_which_home_and_who_fires(ask, studio):
    code, said = await ask("GET", "api/status")
    assert code == 200
    assert (said["version"], said["home"]) == (__version__, str(studio.home))
    assert said["triggers"]["is_running"] is False


async def test_triggers_are_listed_without_their_secrets(ask, studio, webhook, jp_base_url):
    trigger, secret = webhook
    studio.triggers.add("watcher", "schedule", {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"})
    code, said = await ask("GET", "api/triggers", persona="watcher")
    assert code == 200
    by_type = {one["trigger_type"]: one for one in said}
    assert by_type["webhook"]["webhook_path"] == f"{jp_base_url}personas/webhook/{trigger.id}"
    assert by_type["webhook"]["config"] == {}
    assert by_type["schedule"]["persona"] == "Watcher"
    assert by_type["schedule"]["next_trigger_at"] is not None
    assert secret not in json.dumps(said)


async def test_a_trigger_with_half_a_character_keeps_no_other_from_being_listed(ask, studio):
    persona = studio.personas.get("watcher")
    config = {"interval_seconds": 60, "url": "https://x.example/\ud800"}  # as an earlier version took it
    row = Trigger(persona_id=persona.id, trigger_type="polling", config=config, enabled=False)
    studio.store.table("triggers", Trigger).insert(row)
    other = studio.triggers.add(persona, "manual")
    code, said = await ask("GET", "api/triggers")
    assert (code, {one["id"] for one in said}) == (200, {row.id, other.id})


async def test_a_trigger_is_fired_here_and_now(ask, studio):
    trigger = studio.triggers.add("watcher", "manual")
    code, said = await ask("POST", f"api/triggers/{trigger.id}/fire", {"input": {"order": 7}})
    assert (code, said["status"]) == (202, "queued")
    run = await until(
        lambda: (one := studio.executions.get(said["execution_id"])).status == "completed" and one
    )
    assert json.loads(run.input_data)["order"] == 7


async def test_a_trigger_is_switched_off_and_on(ask, studio):
    trigger = studio.triggers.add("watcher", "schedule", {"cron": "0 9 * * *"})
    assert (await ask("POST", f"api/triggers/{trigger.id[:8]}/disable"))[1]["enabled"] is False
    assert studio.triggers.get(trigger.id).enabled is False
    code, said = await ask("POST", f"api/triggers/{trigger.id}/enable", {"allow_bypass": True})
    assert (code, said["enabled"], said["allow_bypass"]) == (200, True, True)
    assert studio.triggers.get(trigger.id).enabled


async def test_enabling_a_webhook_shows_the_secret_that_it_makes_once(ask, post, studio):
    trigger = studio.triggers.add("watcher", "webhook", enabled=False)
    _code, said = await ask("POST", f"api/triggers/{trigger.id}/enable")
    assert (await post(trigger.id, b"{}", signed(b"{}", said["secret"]))).code == 202
    assert "secret" not in (await ask("POST", f"api/triggers/{trigger.id}/enable"))[1]


@pytest.mark.parametrize(("verb", "status"), [("approve", "approved"), ("reject", "rejected")])
async def test_a_review_is_decided_once(ask, studio, verb, status):
    persona = studio.personas.get("watcher")
    review = studio.reviews.table.insert(Review(persona_id=persona.id, title="Send it?"))
    assert [one["id"] for one in (await ask("GET", "api/reviews"))[1]] == [review.id]
    code, said = await ask("POST", f"api/reviews/{review.id}/{verb}", {"note": "looks right"})
    assert (code, said["status"], said["note"], said["persona"]) == (200, status, "looks right", "Watcher")
    other = "reject" if verb == "approve" else "approve"
    assert (await ask("POST", f"api/reviews/{review.id}/{other}"))[1]["status"] == status
    assert (await ask("GET", "api/reviews"))[1] == []
    assert len((await ask("GET", "api/reviews", status="all"))[1]) == 1


@pytest.mark.parametrize(
    ("method", "path", "said", "code", "words"),
    [
        ("GET", "api/triggers?persona=nobody", None, 404, "no persona “nobody”"),
        ("POST", "api/triggers/nothing/fire", {}, 404, "no trigger “nothing”"),
        ("POST", "api/reviews/nothing/approve", {}, 404, "no review “nothing”"),
        ("POST", "api/reviews/nothing/approve", {"note": 7}, 400, "no text"),
        ("POST", "api/reviews/nothing/approve", ["note"], 400, "no JSON object"),
        ("POST", "api/triggers/nothing/enable", {"alow_bypass": True}, 400, "“alow_bypass” is not known"),
        ("GET", "api/reviews?limit=0", None, 400, "limit"),
        ("GET", "api/reviews?limit=many", None, 400, "limit"),
        ("GET", f"api/reviews?limit={'9' * 5_000}", None, 400, "limit"),
        ("GET", "api/reviews?status=done", None, 400, "approved"),
        (
            "POST",
            "api/triggers/nothing/disable",
            {"x": 1},
            400,
            "“x” is not known here; nothing is to be given.",
        ),
        (
            "POST",
            "api/triggers/nothing/enable",
            {"x": 1},
            400,
            "“x” is not known here; there is allow_bypass.",
        ),
        ("POST", "api/triggers/nothing/fire", b"\xff\xfe", 400, "The body is no UTF-8 text."),
        ("POST", "api/triggers/100%/fire", {}, 404, "“100%”. `%persona triggers`"),
        ("POST", "api/reviews/nothing/approve", {"100%": 7}, 400, "“100%” is"),
    ],
)
async def test_what_cannot_be_answered_says_why(ask, method, path, said, code, words):
    path, _, query = path.partition("?")
    params = dict([query.split("=")]) if query else {}
    found, answer = await ask(method, path, said, **params)
    assert (found, words in answer["message"]) == (code, True), answer


# ── coming and going ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_server_opens_nothing_before_it_is_asked(server, studio):
    host = host_of(server.web_app.settings)
    assert host._door is None
    assert host._dispatcher is None


async def test_a_run_that_an_earlier_server_took_is_run_by_the_next(server, studio, webhook):
    trigger, _secret = webhook
    from personas_nb.entities.trigger import Fire

    start = studio.starts.queue(trigger.persona_id, "{}", allow_bypass=False, trigger_id=trigger.id)
    studio.store.table("fires", Fire).insert(
        Fire(trigger_id=trigger.id, key="delivery:x", kind="webhook", due_at=trigger.created_at, status="queued",
             execution_id=start.execution_id)
    )  # fmt: skip
    host_of(server.web_app.settings).begin()
    await until(lambda: studio.executions.get(start.execution_id).status == "completed")


async def test_a_server_that_has_the_extension_under_both_names_begins_and_ends(
    jp_configurable_serverapp, studio, webhook
):
    names = {"personas_nb": True, "personas_nb.server": True}
    app = jp_configurable_serverapp(config={"ServerApp": {"jpserver_extensions": names}})
    points = [one for apps in app.extension_manager.extension_apps.values() for one in apps]
    assert len(points) > 1
    for point in points:
        await point._start_jupyter_server_extension(app)
    host = host_of(app.web_app.settings)
    await until(lambda: host._beginning.done())
    await app.extension_manager.stop_all_extensions()
    assert host._is_closed


async def test_a_server_fires_triggers_only_where_the_settings_say_so(server, studio, monkeypatch):
    host = host_of(server.web_app.settings)
    host.begin()
    await until(lambda: host._beginning.done())
    assert not studio.triggers.status().is_running


async def test_a_server_that_is_to_fire_triggers_does(jp_configurable_serverapp, studio, monkeypatch):
    monkeypatch.setenv("PERSONAS_SERVE_TRIGGERS", "true")
    trigger = studio.triggers.add("watcher", "polling", {"interval_seconds": 1})
    host = host_of(jp_configurable_serverapp().web_app.settings)
    host.begin()
    try:
        await until(lambda: studio.triggers.fires(trigger.id, status="queued"))
        assert studio.triggers.status().kind == "server"
    finally:
        await host.close()
    assert not studio.triggers.status().is_running


class _BASE(RequestHandler):
    """What Jupyter's own handlers allow to everybody."""

    from jupyter_server.base.handlers import APIHandler

    options = APIHandler.options
