"""Channels and deliveries as they are typed and shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.posts import Posts, Reply, posts
from support.shell import TestingShell, shell_in
from support.studios import persona_of, wait_until

from personas_nb import Studio
from personas_nb.entities.message import Message
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.notify import outbox
from personas_nb.verbs.completion import complete

HOOK = "https://hooks.example.com/services/T0/B0/zpQx81kTm2"


@pytest.fixture
def web() -> Iterator[Posts]:
    with posts() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("PERSONAS_HTTP_ALLOWED_HOSTS", "127.0.0.1")
    with Studio() as opened:  # in the home of the shell
        persona_of(opened, name="Mail boy")
        yield opened


def tell(studio: Studio, title: str = "Hi") -> Message:
    message = Message(persona_id=studio.personas.get("mail-boy").id, title=title, content="It is so.")
    outbox.write(studio.store, message)
    studio.notifier.nudge()
    return message


def settled(studio: Studio, message: Message) -> None:
    wait_until(
        lambda: all(
            each.status not in ("pending", "sending") for each in studio.messages.deliveries(message.id)
        )
    )


def test_a_channel_is_added_listed_tried_and_removed(
    studio: Studio, shell: TestingShell, web: Posts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_HOOK", f"{web.url}/services/zpQx81kTm2")
    line = "%persona channels add mail-boy slack --from-env webhook=MY_HOOK"
    assert "Messages of Mail boy go to slack." in shell.run(line).text
    assert "nothing changed" in shell.run(line).text
    listed = shell.run("%persona channels mail-boy").text
    assert "✓ on" in listed
    assert "%persona channels test mail-boy" in listed
    tried = shell.run("%persona channels test mail-boy").text
    assert "✓ delivered" in tried
    assert len(web.received) == 1
    assert "do not go to slack until" in shell.run("%persona channels disable mail-boy 1").text
    assert "slack (off)" in shell.run("%persona show mail-boy").text
    assert "None of its channels is on." in shell.run("%persona channels test mail-boy").text
    shell.run("%persona channels enable mail-boy 1")
    assert (
        "Nothing of Mail boy goes to slack any more." in shell.run("%persona channels remove mail-boy 1").text
    )
    assert "in `%persona messages` only" in shell.run("%persona channels mail-boy").text
    for text in (listed, tried):
        assert "zpQx81kTm2" not in text


def test_a_channel_with_a_credential_needs_nothing_typed(studio: Studio, shell: TestingShell):
    studio.credentials.add("team", "slack", {"bot_token": "xoxb-17653672481"})
    shell.run("%persona channels add mail-boy slack channel=#sales --credential team")
    listed = shell.run("%persona channels").text
    assert "slack #sales" in listed
    assert "team" in listed
    studio.credentials.remove("team")
    assert "✕ blocked" in (gone := shell.run("%persona channels mail-boy").text)
    assert "The credential of the channel is gone." in gone


@pytest.mark.parametrize(
    "typed", [f"slack webhook={HOOK}", f"apprise url={HOOK}", f"apprise {HOOK}", f"slack channel={HOOK}",
              "telegram bot_token=zpQx81kTm2", "slack --from-env zpQx81kTm2", "slack --from-env webhook=zpQx81-kTm2"],
)  # fmt: skip
def test_a_secret_in_the_line_is_refused_and_not_repeated(studio: Studio, shell: TestingShell, typed: str):
    with pytest.raises(InvalidInput) as raised:
        shell.run(f"%persona channels add mail-boy {typed}")
    assert "zpQx81" not in str(raised.value)
    assert studio.personas.get("mail-boy").notification_channels == ()


def test_a_name_tells_channels_of_one_type_apart(
    studio: Studio, shell: TestingShell, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOPIC", "ntfy://ntfy.sh/a-very-long-topic")
    shell.run("%persona channels add mail-boy apprise name=phone --from-env url=TOPIC")
    assert "apprise phone" in shell.run("%persona channels mail-boy").text


def test_where_nobody_can_be_asked_the_way_to_give_it_is_said(studio: Studio, shell: TestingShell):
    with pytest.raises(InvalidInput, match=r"Nobody can be asked for “url” here\. .*--from-env url=VAR"):
        shell.run("%persona channels add mail-boy apprise")


def test_mail_needs_a_credential_and_says_so(studio: Studio, shell: TestingShell):
    with pytest.raises(InvalidInput, match="it needs a smtp or gmail credential"):
        shell.run("%persona channels add mail-boy email to=ann@example.com")
    studio.credentials.add(
        "post", "smtp", {"host": "mail.example.com", "user": "me@example.com", "password": "correct horse"}
    )
    shell.run("%persona channels add mail-boy email to=ann@example.com")
    assert "email ann@example.com" in shell.run("%persona channels mail-boy").text


def test_an_unknown_type_or_setting_has_a_suggestion(studio: Studio, shell: TestingShell):
    with pytest.raises(InvalidInput, match="Did you mean “slack”"):
        shell.run("%persona channels add mail-boy slak")
    with pytest.raises(InvalidInput, match="Did you mean “chat_id”"):
        shell.run("%persona channels add mail-boy telegram chatid=4711 --from-env bot_token=HOME")
    with pytest.raises(NotFound, match="Mail boy has no channel 2"):
        shell.run("%persona channels remove mail-boy 2")


def test_messages_say_where_they_went_and_what_did_not_arrive_is_sent_again(
    studio: Studio, shell: TestingShell, web: Posts
):
    studio.channels.add("mail-boy", "slack", {"webhook": f"{web.url}/good/abcdefgh"})
    studio.channels.add("mail-boy", "slack", {"webhook": f"{web.url}/bad/abcdefgh"})
    web.answer = lambda post, count: Reply(404 if "bad" in post.path and not count else 200, "no_team")
    message = tell(studio)
    settled(studio, message)
    text = shell.run("%persona messages").text
    bad = studio.messages.deliveries(message.id)[1]
    assert "✓ delivered  slack" in text
    assert "✕ failed" in text
    assert "Slack answered 404 (no_team)" in text
    assert f"%persona messages retry {bad.id[:8]}" in text
    assert "It is sent to slack once more." in shell.run(f"%persona messages retry {bad.id[:8]}").text
    settled(studio, message)
    after = shell.run("%persona messages").text
    assert "✕ failed" not in after
    assert "It has arrived already" in shell.run(f"%persona messages retry {bad.id[:8]}").text
    with pytest.raises(NotFound, match="Nothing has failed to arrive"):
        shell.run("%persona messages retry latest")


def test_what_waits_says_when_it_is_tried_again(studio: Studio, shell: TestingShell, web: Posts):
    studio.channels.add("mail-boy", "slack", {"webhook": f"{web.url}/one/abcdefgh"})
    web.answer = lambda _post, _count: Reply(503, "")
    message = tell(studio)
    wait_until(lambda: studio.messages.deliveries(message.id)[0].error)
    text = shell.run("%persona messages").text
    assert "○ to be sent  slack" in text
    assert "Slack answered 503, again at " in text


def test_channels_can_be_set_as_a_field_too(studio: Studio, shell: TestingShell):
    studio.credentials.add("team", "slack", {"bot_token": "xoxb-17653672481"})
    shell.run(
        '%persona set mail-boy notification_channels=[{"type": "slack", "config": {"channel": "#ops"}}]'
    )
    assert "slack #ops" in shell.run("%persona show mail-boy").text
    (listed,) = studio.channels.list("mail-boy")
    assert listed.problem == ""


def test_completion_knows_types_settings_and_deliveries(studio: Studio, web: Posts):
    assert complete("channels add mail-boy ", lambda: studio)[1] == ["slack", "telegram", "email", "apprise"]
    assert complete("channels add mail-boy telegram ", lambda: studio)[1] == ["chat_id=", "api_url=", "name="]
    assert complete("channels add mail-boy slack --from-env ", lambda: studio)[1] == [
        "webhook=",
        "bot_token=",
    ]
    web.answer = lambda _post, _count: Reply(404, "")
    studio.channels.add("mail-boy", "slack", {"webhook": f"{web.url}/one/abcdefgh"})
    studio.credentials.add("team", "slack", {"bot_token": "xoxb-17653672481-Zt84kLq"})
    studio.credentials.add("hub", "github", {"token": "ghp_0123456789"})
    assert complete("channels add mail-boy slack --credential ", lambda: studio)[1] == ["team"]
    message = tell(studio)
    settled(studio, message)
    bad = studio.messages.deliveries(message.id)[0].id[:8]
    assert complete("messages retry ", lambda: studio)[1] == [bad, "latest"]
