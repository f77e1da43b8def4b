"""How a message leaves: Slack, Telegram, mail and apprise, against real servers on loopback."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.planting import Search
from support.ports import free_ports
from support.posts import Post, Posts, Reply, posts
from support.smtp import PASSWORD, USER, smtp
from support.studios import studio_at
from support.tls import Certificate, certificate

from personas_nb import Studio
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.notify.channels import channel_of, channels_of
from personas_nb.notify.ways import chat, sending
from personas_nb.notify.ways.chat import TELEGRAM_LIMIT_UNITS
from personas_nb.notify.ways.letter import Letter, MaybeSent, NotSent
from personas_nb.notify.ways.mail import composed
from personas_nb.settings import Settings
from personas_nb.tools.http import http_request
from personas_nb.tools.outside import Outside

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
BOT = "xoxb-17653672481-Zt84kLq"
LETTER = Letter("0f5b1f0e", "Mail boy", "Three urgent mails", "One is from <Ann> & Bob.", priority="high")


@pytest.fixture
def web() -> Iterator[Posts]:
    with posts() as server:
        yield server


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    home.mkdir()
    text = '[default]\nhttp_allowed_hosts = ["127.0.0.1"]\nmail_without_tls = "loopback"\nhttp_timeout_ms = 1500\n'
    (home / "personas.toml").write_text(text)
    with studio_at(home) as opened:
        yield opened


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    pem = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem.authority))
    return pem


def send(studio: Studio, channel: dict[str, Any], letter: Letter = LETTER) -> None:
    """Send over a channel as a persona has it: sealed."""
    persona = studio.personas.create(name="Mail boy", notification_channels=[channel])
    asyncio.run(studio.sending.send(channels_of(persona)[0], letter))


def refused(studio: Studio, channel: dict[str, Any], letter: Letter = LETTER) -> NotSent:
    with pytest.raises(NotSent) as raised:
        send(studio, channel, letter)
    return raised.value


def answering(status: int, body: Any = "ok", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _post, _count: Reply(status, body, named)


# --- slack ------------------------------------------------------------------------------------------------


def test_slack_gets_one_post_to_its_webhook_and_nobody_is_called_by_what_a_model_wrote(
    studio: Studio, web: Posts
):
    letter = Letter("1", "Mail boy", "Hi <!channel>", "<@U123> & more")
    send(studio, {"type": "slack", "config": {"webhook": f"{web.url}/services/T0/B0/zpQx81kTm2"}}, letter)
    (post,) = web.received
    assert post.path == "/services/T0/B0/zpQx81kTm2"
    assert post.json == {"text": "*Mail boy: Hi &lt;!channel&gt;*\n&lt;@U123&gt; &amp; more"}


def test_slack_as_a_bot_posts_into_the_channel_with_the_token_in_a_header(studio: Studio, web: Posts):
    web.answer = answering(200, {"ok": True})
    studio.credentials.add(
        "team", "slack", {"bot_token": BOT, "channel": "#all", "api_url": f"{web.url}/api"}
    )
    credential = studio.credentials.get("team").id
    send(studio, {"type": "slack", "credential_id": credential, "config": {"channel": "#sales"}})
    (post,) = web.of("/api/chat.postMessage")
    assert post.headers["authorization"] == f"Bearer {BOT}"
    assert post.json["channel"] == "#sales"
    send(studio, {"type": "slack", "credential_id": credential})
    assert web.received[-1].json["channel"] == "#all"


@pytest.mark.parametrize(
    ("said", "retryable"), [("channel_not_found", False), ("ratelimited", True), ("invalid_auth", False)]
)
def test_what_slack_refuses_in_its_body_was_not_sent(studio: Studio, web: Posts, said: str, retryable: bool):
    web.answer = answering(200, {"ok": False, "error": said})
    channel = {"bot_token": BOT, "channel": "#sales", "api_url": web.url}
    error = refused(studio, {"type": "slack", "config": channel})
    assert (error.message, error.retryable) == (f"Slack refuses it: {said}.", retryable)


def test_a_bot_token_without_a_channel_sends_nothing(studio: Studio, web: Posts):
    error = refused(studio, {"type": "slack", "config": {"bot_token": BOT, "api_url": web.url}})
    assert str(error) == "It is not said which Slack channel it goes to. Such as channel=#sales."
    assert web.received == []


# --- telegram ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_page_to_which_an_address_leads_has_taken_no_message(studio: Studio, web: Posts, status: int):
    web.answer = answering(status, "", Location=f"{web.url}/elsewhere")
    error = refused(studio, {"type": "slack", "config": {"webhook": f"{web.url}/hook-abcdef"}})
    assert (str(error), error.retryable) == (f"Slack answered {status}.", False)
    assert [post.path for post in web.received] == ["/hook-abcdef"]


def test_an_address_that_moved_with_what_is_posted_is_followed(studio: Studio, web: Posts):
    web.answer = lambda post, _count: Reply(308, "", {"Location": "/new"}) if post.path != "/new" else Reply()
    send(studio, {"type": "slack", "config": {"webhook": f"{web.url}/hook-abcdef"}})
    assert [post.path for post in web.received] == ["/hook-abcdef", "/new"]
    assert "Three urgent mails" in web.received[1].json["text"]


def test_telegram_gets_plain_text_for_its_chat(studio: Studio, web: Posts):
    web.answer = answering(200, {"ok": True, "result": {}})
    config = {"bot_token": TOKEN, "chat_id": "4711", "api_url": web.url}
    send(studio, {"type": "telegram", "config": config})
    (post,) = web.received
    assert post.path == f"/bot{TOKEN}/sendMessage"
    assert post.json["chat_id"] == "4711"
    assert post.json["text"] == "Mail boy: Three urgent mails\n\nOne is from <Ann> & Bob."
    assert "parse_mode" not in post.json


def test_telegram_says_how_long_to_wait(studio: Studio, web: Posts):
    web.answer = answering(
        429, {"ok": False, "description": "Too Many Requests", "parameters": {"retry_after": 35}}
    )
    error = refused(
        studio, {"type": "telegram", "config": {"bot_token": TOKEN, "chat_id": "1", "api_url": web.url}}
    )
    assert (error.retryable, error.retry_after_seconds) == (True, 35.0)
    assert error.message == "Telegram answered 429 (Too Many Requests)."


def test_a_wait_of_hundreds_of_digits_is_none(studio: Studio, web: Posts):
    web.answer = answering(
        429, {"ok": False, "description": "Too Many Requests", "parameters": {"retry_after": 10**400}}
    )
    error = refused(
        studio, {"type": "telegram", "config": {"bot_token": TOKEN, "chat_id": "1", "api_url": web.url}}
    )
    assert (error.retryable, error.retry_after_seconds) == (True, None)
    assert error.message == "Telegram answered 429 (Too Many Requests)."


@given(st.text(max_size=6000), st.text(max_size=300))
def test_any_message_fits_telegram(content: str, title: str):
    text = chat._fitting(Letter("1", "Mail boy", title, content))
    assert len(text.encode("utf-16-le", "surrogatepass")) // 2 <= TELEGRAM_LIMIT_UNITS
    if len(content) < 1500:
        assert content.strip() in text


def test_a_long_message_says_where_the_rest_is():
    text = chat._fitting(Letter("1", "Mail boy", "Report", "🎈" * 5000))
    assert text.endswith("(`%persona messages` has all of it)")
    assert len(text) > 2000


# --- what may have arrived, and what not --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (403, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_an_answer_says_that_it_was_not_sent(studio: Studio, web: Posts, status: int, retryable: bool):
    web.answer = answering(status, "no_service", Retry_After="7")
    error = refused(studio, {"type": "slack", "config": {"webhook": f"{web.url}/services/abcdefgh"}})
    assert (error.message, error.retryable) == (f"Slack answered {status} (no_service).", retryable)
    assert error.retry_after_seconds == 7.0


@pytest.mark.parametrize(
    "reply", [Reply(504), Reply(408), Reply(cut=True), Reply(hang=True)], ids=["504", "408", "cut", "hang"]
)
def test_what_nobody_can_tell_may_have_arrived(studio: Studio, web: Posts, reply: Reply):
    web.answer = lambda _post, _count: reply
    with pytest.raises(MaybeSent):
        send(studio, {"type": "slack", "config": {"webhook": f"{web.url}/services/abcdefgh"}})
    assert len(web.received) == 1


def test_a_closed_port_was_never_reached_and_is_tried_again(studio: Studio):
    (port,) = free_ports(1)
    error = refused(studio, {"type": "slack", "config": {"webhook": f"http://127.0.0.1:{port}/abcdefgh"}})
    assert (error.message, error.retryable) == (
        f"127.0.0.1:{port} refused the connection. Check the port.",
        True,
    )


def test_a_host_without_an_address_was_never_reached_and_is_tried_again():
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror

    class Offline(Outside):
        async def request(self, url: str, **request: Any) -> str:
            return await http_request(Settings(), url, resolve=nowhere, **request)

    with pytest.raises(NotSent, match="has no address") as raised:
        asyncio.run(Offline(Settings).post("https://hooks.example.com/abcdefgh", json={}))
    assert raised.value.retryable


def test_an_address_of_this_machine_is_refused_unless_the_settings_allow_it(studio: Studio, web: Posts):
    channel = {
        "type": "slack",
        "config": {"webhook": web.url.replace("127.0.0.1", "127.0.0.2") + "/abcdefgh"},
    }
    error = refused(studio, channel)
    assert "which is not an address of the public internet" in error.message
    assert not error.retryable


def test_no_error_repeats_an_address_or_a_token(studio: Studio, web: Posts):
    secret = f"{web.url}/services/T0AAAAAAA/B0BBBBBBB/zpQx81kTm2"

    def echo(post: Post, _count: int) -> Reply:
        mine = TOKEN if "bot" in post.path else f"{secret} and zpQx81kTm2"
        return Reply(400, f"bad {post.path} {mine}")

    web.answer = echo
    one = refused(studio, {"type": "slack", "config": {"webhook": secret}})
    config = {"bot_token": TOKEN, "chat_id": "4711", "api_url": web.url}
    other = refused(studio, {"type": "telegram", "config": config})
    for error in (one, other):
        Search({"address": secret, "token": TOKEN, "part": "zpQx81kTm2"}, pieces=False).in_text(
            str(error), "it"
        )
        assert len(str(error)) <= sending.ERROR_CHARS


def test_a_way_that_never_ends_is_given_up(studio: Studio, web: Posts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.2)
    web.answer = lambda _post, _count: Reply(hang=True)
    with pytest.raises(MaybeSent, match=r"It took longer than 0\.2 s\."):
        send(studio, {"type": "apprise", "url": web.url.replace("http:", "json:") + "/hook/zpQx81kTm2"})


# --- mail -------------------------------------------------------------------------------------------------


def mail_channel(studio: Studio, port: int, **config: str) -> dict[str, Any]:
    fields = {"host": "127.0.0.1", "port": port, "user": USER, "password": PASSWORD}
    studio.credentials.add("post", "smtp", fields)
    return {"type": "email", "credential_id": studio.credentials.get("post").id, "config": config}


def test_a_mail_has_a_message_id_of_its_delivery_and_says_that_no_person_wrote_it(
    studio: Studio, tls: Certificate
):
    with smtp(tls) as server:
        channel = mail_channel(studio, server.port, to="bob@example.com, Carol@example.org")
        send(studio, channel)
        send(studio, channel)
    first, second = server.received
    assert first.recipients == ["bob@example.com", "Carol@example.org"]
    assert first.mail["Message-ID"] == second.mail["Message-ID"] == "<0f5b1f0e@example.com>"
    assert first.mail["Subject"] == "Mail boy: Three urgent mails"
    assert first.mail["Auto-Submitted"] == "auto-generated"
    assert first.mail["Importance"] == "high"
    assert first.mail.get_content().strip() == "One is from <Ann> & Bob."


def test_a_mail_without_a_receiver_goes_to_its_own_account(studio: Studio, tls: Certificate):
    with smtp(tls) as server:
        send(studio, mail_channel(studio, server.port))
    assert server.received[0].recipients == [USER]


def test_an_account_may_be_given_with_the_channel_itself(studio: Studio, tls: Certificate):
    with smtp(tls) as server:
        config = {"host": "127.0.0.1", "port": str(server.port), "user": USER, "password": PASSWORD}
        send(studio, {"type": "email", "config": config})
    assert server.logins == [(USER, PASSWORD)]
    assert len(server.received) == 1


def test_a_gmail_credential_sends_mails_too(studio: Studio, tls: Certificate):
    with smtp(tls) as server:
        fields = {"user": USER, "app_password": PASSWORD, "smtp_host": "127.0.0.1", "smtp_port": server.port}
        studio.credentials.add("mine", "gmail", fields)
        send(studio, {"type": "email", "config": {"to": "bob@example.com"}})  # the only one there is
    assert server.received[0].recipients == ["bob@example.com"]


def test_a_refused_login_is_final_and_the_password_is_not_repeated(studio: Studio, tls: Certificate):
    with smtp(tls) as server:
        channel = mail_channel(studio, server.port)
        studio.credentials.add(
            "post",
            "smtp",
            {"host": "127.0.0.1", "port": server.port, "user": USER, "password": "wrong-password"},
        )
        error = refused(studio, channel)
    assert not error.retryable
    assert "refused the login" in error.message
    assert "wrong-password" not in str(error)


def test_a_refused_receiver_was_not_sent_to(studio: Studio, tls: Certificate):
    with smtp(tls) as server:
        server.refused = {"bob@example.com"}
        error = refused(studio, mail_channel(studio, server.port, to="bob@example.com"))
        assert (error.retryable, server.received) == (False, [])
        some = refused(studio, mail_channel(studio, server.port, to="bob@example.com, carol@example.com"))
    assert some.message == "Sent, but not to bob@example.com (550 No such user)."
    assert not some.retryable
    assert server.received[0].recipients == ["carol@example.com"]


def test_a_server_that_hangs_up_after_the_mail_may_have_sent_it(studio: Studio, tls: Certificate):
    with smtp(tls) as server:
        server.drops = True
        with pytest.raises(MaybeSent):
            send(studio, mail_channel(studio, server.port))
    assert len(server.received) == 1


def test_a_mail_server_that_is_away_is_tried_again(studio: Studio):
    error = refused(studio, mail_channel(studio, free_ports(1)[0]))
    assert error.retryable


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=80))
def test_whatever_a_model_writes_becomes_one_mail_with_our_headers(title: str, content: str, name: str):
    mail = composed(Letter("1", name, title, content), "a@example.com", ["b@example.com"])
    raw = mail.as_bytes()
    head = raw.partition(b"\r\n\r\n")[0].decode("ascii")
    names = {line.partition(":")[0] for line in head.split("\r\n") if not line.startswith((" ", "\t"))}
    assert names <= {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
        "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
    }  # fmt: skip


# --- apprise ----------------------------------------------------------------------------------------------


def apprise_url(web: Posts, path: str = "hook/zpQx81kTm2") -> str:
    return web.url.replace("http://", "json://ann:correct-horse@") + f"/{path}"


def test_apprise_sends_to_any_address_that_it_knows(studio: Studio, web: Posts):
    send(studio, {"type": "apprise", "url": apprise_url(web)})
    (post,) = web.received
    assert post.path == "/hook/zpQx81kTm2"
    assert post.json["title"] == "Mail boy: Three urgent mails"
    assert post.json["message"] == "One is from <Ann> & Bob."


def test_apprise_itself_tries_nothing_again(studio: Studio, web: Posts):
    web.answer = answering(503)
    error = refused(studio, {"type": "apprise", "url": f"{apprise_url(web)}?retry=5&wait=0"})
    assert (error.message, error.retryable) == ("The service answered 503.", True)
    assert len(web.received) == 1


@pytest.mark.parametrize(("status", "retryable"), [(401, False), (404, False), (429, True)])
def test_apprise_is_asked_for_the_status_alone(studio: Studio, web: Posts, status: int, retryable: bool):
    web.answer = answering(status, "the token zpQx81kTm2 is wrong")
    error = refused(studio, {"type": "apprise", "url": apprise_url(web)})
    assert (str(error), error.retryable) == (f"The service answered {status}.", retryable)


def test_an_apprise_service_that_is_away_was_not_reached(studio: Studio):
    error = refused(studio, {"type": "apprise", "url": f"json://127.0.0.1:{free_ports(1)[0]}/zpQx81kTm2"})
    assert (error.message, error.retryable) == ("The service cannot be reached. Check the network.", True)


def test_an_apprise_service_that_breaks_off_may_have_got_it(studio: Studio, web: Posts):
    web.answer = lambda _post, _count: Reply(cut=True)
    with pytest.raises(MaybeSent, match="The connection broke off"):
        send(studio, {"type": "apprise", "url": apprise_url(web)})


def test_an_address_that_apprise_does_not_understand_is_not_repeated(studio: Studio):
    error = refused(studio, {"type": "apprise", "url": "nope://zpQx81kTm2"})
    assert str(error) == (
        "The address is none that apprise understands. https://appriseit.com/services lists them."
    )


def test_no_log_has_an_address_however_much_is_logged(
    studio: Studio, web: Posts, tls: Certificate, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    for name in ("apprise", "urllib3", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    web.answer = lambda post, count: Reply(200, {"ok": True}) if count else Reply(500, "zpQx81kTm2")
    channels = [
        {"type": "apprise", "url": apprise_url(web)},
        {"type": "apprise", "url": "nope://zpQx81kTm2/longer"},
        {"type": "telegram", "config": {"bot_token": TOKEN, "chat_id": "4711", "api_url": web.url}},
        {"type": "slack", "config": {"webhook": f"{web.url}/services/zpQx81kTm2"}},
    ]
    for _ in range(2):
        for channel in channels:
            with suppress(NotSent):
                send(studio, channel)
    text = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records)
    Search({"token": TOKEN, "piece": "zpQx81kTm2", "login": "correct-horse"}, pieces=False).in_text(
        text, "a log"
    )


def test_the_log_of_somebody_elses_apprise_is_left_alone(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="apprise")
    logging.getLogger("apprise").info("of another program")
    assert "of another program" in caplog.text


# --- channels of a persona --------------------------------------------------------------------------------


def test_a_channel_is_added_once_with_its_secrets_sealed(studio: Studio, home: Path):
    studio.personas.create(name="Mail boy")
    webhook = "https://hooks.example.com/services/T0/B0/zpQx81kTm2"
    first = studio.channels.add("mail-boy", "slack", {"webhook": webhook})
    assert studio.channels.add("mail-boy", "slack", {"webhook_url": webhook}) == first
    (channel,) = first.notification_channels
    assert channel["config"] == {}
    assert studio.sending.fields(channel_of(channel)) == {"webhook": webhook}
    second = studio.channels.add("mail-boy", "apprise", {"url": "ntfy://ntfy.sh/a-very-long-topic"})
    assert [each["type"] for each in second.notification_channels] == ["slack", "apprise"]
    assert second.notification_channels[0] == channel
    studio.close()
    Search({"address": webhook}).in_folder(home)


def test_a_channel_names_a_credential_that_serves_it(studio: Studio):
    studio.personas.create(name="Mail boy")
    studio.credentials.add("team", "slack", {"bot_token": BOT})
    studio.credentials.add("hub", "github", {"token": "ghp_0123456789"})
    persona = studio.channels.add("mail-boy", "slack", {"channel": "#sales"}, credential="team")
    assert persona == studio.channels.add("mail-boy", "slack", {"channel": "#sales"}, credential="team")
    (listed,) = studio.channels.list("mail-boy")
    assert (listed.channel.label, listed.credential, listed.problem) == ("slack #sales", "team", "")
    with pytest.raises(InvalidInput, match="is one of github, which is no way to slack"):
        studio.channels.add("mail-boy", "slack", {"channel": "#a"}, credential="hub")
    with pytest.raises(NotFound):
        studio.channels.add("mail-boy", "slack", {"channel": "#a"}, credential="nobody")


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("slak", {}, "There is no channel type “slak”. Did you mean “slack”?"),
        ("slack", {"chanel": "#a"}, "A slack channel has no setting “chanel”. Did you mean “channel”?"),
        ("slack", {"channel": True}, "“channel” must be a text."),
        (
            "slack",
            {"webhook": "zpQx81kTm2"},
            "The webhook is no web address. Slack shows it when you make one.",
        ),
        ("apprise", {"url": "zpQx81kTm2"}, "The address is none that apprise understands."),
        ("telegram", {"chat_id": 4711}, "Such a channel cannot be used: The channel has no credential"),
        ("slack", {"channel": "#a"}, "Such a channel cannot be used: It needs the address of an incoming"),
        ("slack", {"bot_token": BOT}, "Such a channel cannot be used: It needs channel=#NAME."),
        (
            "slack",
            {"webhook": "https:///zpQx81kTm2"},
            "Such a channel cannot be used: “webhook” is no web address.",
        ),
        (
            "slack",
            {"webhook": "http://127.0.0.1:99999/zpQx81kTm2"},
            "Such a channel cannot be used: “webhook” is no web address.",
        ),
        (
            "slack",
            {"bot_token": BOT, "channel": "#a", "api_url": "zpQx81kTm2"},
            "Such a channel cannot be used: “api_url” is no web address.",
        ),
        (
            "telegram",
            {"bot_token": TOKEN},
            "Such a channel cannot be used: It needs a telegram credential, or a bot",
        ),
        (
            "email",
            {"password": PASSWORD, "to": "a@b.cd"},
            "Such a channel cannot be used: The channel has no mail",
        ),
    ],
)
def test_a_channel_that_cannot_work_is_refused_and_nothing_is_written(
    studio: Studio, kind: str, settings: dict[str, Any], said: str
):
    persona = studio.personas.create(name="Mail boy")
    with pytest.raises(InvalidInput) as raised:
        studio.channels.add("mail-boy", kind, settings)
    assert str(raised.value).startswith(said)
    assert "zpQx81kTm2" not in str(raised.value)
    assert studio.personas.get("mail-boy") == persona


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"to": "ann"}, "“ann” is no mail address."),
        ({"to": "ann@example.com, bob"}, "“bob” is no mail address."),
        ({"to": ",".join(f"a{number}@b.cd" for number in range(21))}, "1 to 20 addresses"),
        ({"to": "ann@example.com", "sender": "nobody"}, "“nobody” is no mail address."),
        ({"to": "ann@example.com", "port": "99999"}, "“port” is no number from 1 to 65535."),
    ],
)
def test_a_mail_channel_that_cannot_work_is_refused_before_it_is_written(
    studio: Studio, settings: dict[str, str], said: str
):
    persona = studio.personas.create(name="Mail boy")
    studio.credentials.add("post", "smtp", {"host": "127.0.0.1", "user": USER, "password": PASSWORD})
    with pytest.raises(InvalidInput) as raised:
        studio.channels.add("mail-boy", "email", settings, credential="post")
    assert said in str(raised.value)
    assert studio.personas.get("mail-boy") == persona
    studio.personas.update("mail-boy", notification_channels=[{"type": "email", "config": settings}])
    assert said in studio.channels.list("mail-boy")[0].problem


def test_a_channel_goes_with_its_secrets_and_the_others_stay(studio: Studio):
    studio.personas.create(name="Mail boy")
    for topic in ("first-long-topic", "second-long-topic"):
        studio.channels.add("mail-boy", "apprise", {"url": f"ntfy://ntfy.sh/{topic}"})
    with pytest.raises(NotFound, match="Mail boy has no channel 3"):
        studio.channels.remove("mail-boy", 3)
    left = studio.channels.remove("mail-boy", 1)
    (channel,) = channels_of(left)
    assert studio.sending.fields(channel)["url"].endswith("second-long-topic")
    assert len([row for row in studio.credentials.list() if row.connector == "channel"]) == 1


def test_an_address_is_sealed_whatever_it_is_called(studio: Studio):
    persona = studio.personas.create(
        name="A",
        notification_channels=[{"type": "slack", "config": {"hook": "https://hooks.example.com/zpQx81kTm2"}}],
    )
    assert "zpQx81kTm2" not in str(persona.notification_channels)


def test_where_an_api_is_stays_readable(studio: Studio):
    config = {"bot_token": BOT, "channel": "#a", "api_url": "https://slack.example.com/api"}
    persona = studio.personas.create(name="A", notification_channels=[{"type": "slack", "config": config}])
    assert persona.notification_channels[0]["config"] == {
        "channel": "#a",
        "api_url": "https://slack.example.com/api",
    }


def test_a_trial_says_what_became_of_each_channel_and_stores_nothing(studio: Studio, web: Posts):
    studio.personas.create(name="Mail boy")
    studio.channels.add("mail-boy", "slack", {"webhook": f"{web.url}/good/abcdefgh"})
    studio.channels.add("mail-boy", "slack", {"webhook": f"{web.url}/bad/abcdefgh"})
    studio.channels.switch("mail-boy", studio.channels.add("mail-boy", "apprise", {"url": apprise_url(web)})
                           and 3, on=False)  # fmt: skip
    web.answer = lambda post, _count: Reply(404 if "bad" in post.path else 200, "no_team")
    good, bad = studio.channels.test("mail-boy")
    assert (good.status, bad.status, bad.detail) == ("delivered", "failed", "Slack answered 404 (no_team).")
    assert "Mail boy" in web.texts("/good/abcdefgh")[0]
    assert studio.messages.list() == []
    (third,) = studio.channels.test("mail-boy", 3)
    assert third.status == "delivered"
    with pytest.raises(NotFound):
        studio.channels.test("mail-boy", 4)


def test_a_type_that_nobody_knows_has_a_problem_and_no_error(studio: Studio):
    studio.personas.create(name="A", notification_channels=[{"type": "pigeon"}, {"config": {}}])
    problems = [each.problem for each in studio.channels.list("a")]
    assert problems[0].startswith("There is no way to send to “pigeon”.")
    assert problems[1].startswith("There is no way to send to “?”.")


def test_a_credential_that_went_is_said(studio: Studio, web: Posts):
    studio.credentials.add("team", "slack", {"bot_token": BOT})
    id_ = studio.credentials.get("team").id
    studio.credentials.remove("team")
    channel = {"type": "slack", "credential_id": id_, "config": {"channel": "#a"}}
    assert refused(studio, channel).message.startswith("The credential of the channel is gone.")
