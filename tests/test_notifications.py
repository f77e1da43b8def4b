"""What becomes of a message on the channels of its persona: sent once, tried again, failed, or uncertain."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.model_server import ModelServer, Turn
from support.planting import Search
from support.posts import Post, Posts, Reply, posts
from support.studios import persona_of, studio_at, wait_until, workspace

from personas_nb import Studio
from personas_nb.engine import healing
from personas_nb.entities.base import now
from personas_nb.entities.event import Event
from personas_nb.entities.execution import Execution
from personas_nb.entities.message import Message, MessageDelivery
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.notify import notifier, outbox
from personas_nb.store.executions import ExecutionTable

TELL = Turn.text('{"user_message": {"title": "Three mails", "content": "All of them urgent."}}\nDone.')
WRITE = Turn.tools(("file_write", {"path": "a.txt", "content": "x"}))


@pytest.fixture
def web() -> Iterator[Posts]:
    with posts() as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again after a moment."""
    monkeypatch.setattr(notifier, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(notifier, "WAIT_FACTOR", 1.0)
    monkeypatch.setattr(notifier, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(healing, "BASE_SECONDS", 0.02)
    monkeypatch.setattr(notifier, "DRAIN_SECONDS", 0.2)
    monkeypatch.setattr(notifier, "GRACE_SECONDS", 0.2)


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, http_allowed_hosts="127.0.0.1", http_timeout_ms=60_000) as opened:
        opened.notifier  # noqa: B018 - this process sends
        yield opened


def told(web: Posts, studio: Studio, *paths: str, **fields: Any) -> Persona:
    """A persona with a Slack channel at each of these paths."""
    channels = [{"type": "slack", "config": {"webhook": f"{web.url}{path}"}} for path in paths]
    return persona_of(studio, notification_channels=channels, **fields)


def tell(studio: Studio, persona: Persona, title: str = "Hi", **fields: Any) -> Message:
    message = Message(persona_id=persona.id, title=title, content="It is so.", **fields)
    outbox.write(studio.store, message)
    return message


def states(studio: Studio, message: Message) -> list[str]:
    return [delivery.status for delivery in studio.messages.deliveries(message.id)]


def settled(studio: Studio, message: Message) -> list[MessageDelivery]:
    """The deliveries of a message, once none is open any more."""

    def found() -> list[MessageDelivery]:
        rows = studio.messages.deliveries(message.id)
        return [] if any(row.status in ("pending", "sending") for row in rows) else rows

    return wait_until(found)


def at(path: str, *replies: Reply) -> Any:
    """These answers at a path, the last one again and again; all is well elsewhere."""
    return lambda post, count: replies[min(count, len(replies) - 1)] if post.path == path else Reply()


# --- sent -------------------------------------------------------------------------------------------------


def test_what_a_run_tells_is_sent_on_every_channel_of_its_persona(home: Path, web: Posts):
    with ModelServer([TELL]) as server, studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio:
        studio.run(told(web, studio, "/one/abcdefgh", "/two/abcdefgh"))
        (message,) = studio.messages.list()
        deliveries = settled(studio, message)
        assert [row.status for row in deliveries] == ["delivered", "delivered"]
        assert [(row.attempts, row.error) for row in deliveries] == [(1, None), (1, None)]
        assert all(row.sent_at is not None for row in deliveries)
        for path in ("/one/abcdefgh", "/two/abcdefgh"):
            assert web.texts(path) == ["*Watcher: Three mails*\nAll of them urgent."]


def test_a_rehearsal_tells_and_sends_nothing(home: Path, web: Posts):
    with studio_at(home, http_allowed_hosts="127.0.0.1", provider="rehearsal") as studio:
        persona = told(web, studio, "/one/abcdefgh", system_prompt="Tell me what is new.")
        studio.run(persona)
        (message,) = studio.messages.list()
        assert message.rehearsal
        assert studio.messages.deliveries(message.id) == []
        assert web.received == []


def test_a_test_of_a_persona_sends_nothing(home: Path, web: Posts):
    with (
        ModelServer([TELL], repeat_last=True) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        told(web, studio, "/one/abcdefgh")
        studio.evals.add("watcher", "Look.", expect={"messages": ["user_message"]})
        studio.evals.run("watcher", judge=False)
        assert studio.messages.list() == []
        assert studio.store.table("message_deliveries", MessageDelivery).count() == 0
        assert web.received == []


def test_a_channel_that_is_off_gets_nothing_and_the_same_channel_twice_one(studio: Studio, web: Posts):
    channel = {"type": "slack", "credential_id": None, "config": {"webhook": f"{web.url}/one/abcdefgh"}}
    persona = persona_of(studio, notification_channels=[channel, {**channel, "enabled": False}])
    (sealed, off) = persona.notification_channels
    persona = studio.personas.update(persona, notification_channels=[sealed, dict(sealed), off])
    message = tell(studio, persona)
    assert [row.status for row in settled(studio, message)] == ["delivered"]
    assert len(web.received) == 1


def test_a_message_that_is_not_written_is_not_sent(studio: Studio, web: Posts):
    persona = told(web, studio, "/one/abcdefgh")

    def fail() -> None:
        with studio.store.write():
            tell(studio, persona)
            raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        fail()
    later = tell(studio, persona, "Later")
    settled(studio, later)
    assert web.texts("/one/abcdefgh") == ["*Watcher: Later*\nIt is so."]


def test_a_message_of_another_process_is_sent_by_whoever_lives(studio: Studio, web: Posts, home: Path):
    persona = told(web, studio, "/one/abcdefgh")
    with Studio(home) as other:  # shares the worker; only what is in the store matters
        message = tell(other, persona)
    assert [row.status for row in settled(studio, message)] == ["delivered"]


# --- one channel and the others ---------------------------------------------------------------------------


def test_a_channel_that_hangs_keeps_no_other_waiting(studio: Studio, web: Posts):
    web.answer = at("/stuck/abcdefgh", Reply(hang=True))
    persona = told(web, studio, "/stuck/abcdefgh", "/fine/abcdefgh")
    messages = [tell(studio, persona, f"Number {number}") for number in range(5)]
    wait_until(lambda: len(web.of("/fine/abcdefgh")) == 5)
    wait_until(lambda: all("delivered" in states(studio, message) for message in messages))
    assert [states(studio, message)[0] for message in messages] == ["sending", *["pending"] * 4]
    assert len(web.of("/stuck/abcdefgh")) == 1


def test_more_channels_hang_than_are_served_at_once_by_any_pool(studio: Studio, web: Posts):
    web.answer = lambda post, _count: Reply(hang="stuck" in post.path)
    persona = told(web, studio, *(f"/stuck{number}/abcdefgh" for number in range(12)), "/fine/abcdefgh")
    message = tell(studio, persona)
    wait_until(lambda: states(studio, message)[-1] == "delivered")
    assert set(states(studio, message)[:-1]) == {"sending"}


def test_the_messages_of_a_channel_arrive_in_order(studio: Studio, web: Posts):
    persona = told(web, studio, "/one/abcdefgh")
    with studio.store.write():
        messages = [tell(studio, persona, f"Number {number}") for number in range(12)]
    for message in messages:
        settled(studio, message)
    assert [text.split(" ")[2].partition("*")[0] for text in web.texts("/one/abcdefgh")] == [
        str(number) for number in range(12)
    ]


def test_a_channel_that_fails_does_not_disturb_the_others(studio: Studio, web: Posts):
    web.answer = at("/bad/abcdefgh", Reply(404, "no_service"))
    message = tell(studio, told(web, studio, "/bad/abcdefgh", "/good/abcdefgh"))
    bad, good = settled(studio, message)
    assert (bad.status, bad.attempts, bad.error) == ("failed", 1, "Slack answered 404 (no_service).")
    assert good.status == "delivered"


def test_no_address_or_token_is_left_anywhere_whatever_the_servers_repeat(
    home: Path, web: Posts, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    token, part = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "zpQx81kTm2Lw"
    web.answer = lambda post, _count: Reply(400, f"{web.url}{post.path} {post.headers}")
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        persona = studio.personas.create(
            name="A",
            notification_channels=[
                {"type": "telegram", "config": {"bot_token": token, "chat_id": "1", "api_url": web.url}},
                {
                    "type": "slack",
                    "config": {"bot_token": f"xoxb-{part}", "channel": "#a", "api_url": web.url},
                },
                {"type": "slack", "config": {"webhook": f"{web.url}/services/{part}"}},
                {"type": "apprise", "url": f"{web.url.replace('http', 'json')}/hook/{part}"},
            ],
        )
        studio.notifier  # noqa: B018
        message = tell(studio, persona)
        assert {row.status for row in settled(studio, message)} == {"failed"}
        assert len(web.received) == 4
        shown = str(studio.messages.deliveries(message.id)) + str(studio.channels.list("a"))
    search = Search({"token": token, "part": part}, pieces=False)
    search.in_folder(home)
    search.in_text(shown, "what is shown")
    search.in_text("\n".join(record.getMessage() for record in caplog.records), "a log")


# --- tried again ------------------------------------------------------------------------------------------


def test_what_did_not_arrive_is_tried_again_until_it_does(studio: Studio, web: Posts):
    web.answer = at("/one/abcdefgh", Reply(503), Reply(429), Reply())
    (delivery,) = settled(studio, tell(studio, told(web, studio, "/one/abcdefgh")))
    assert (delivery.status, delivery.attempts, delivery.error) == ("delivered", 3, None)
    assert len(web.received) == 3


def test_after_six_attempts_it_has_failed(studio: Studio, web: Posts):
    web.answer = at("/one/abcdefgh", Reply(503, ""))
    (delivery,) = settled(studio, tell(studio, told(web, studio, "/one/abcdefgh")))
    assert (delivery.status, delivery.attempts, delivery.error) == ("failed", 6, "Slack answered 503.")
    assert len(web.received) == 6


def test_a_server_that_asks_to_wait_is_waited_for(studio: Studio, web: Posts):
    web.answer = at("/one/abcdefgh", Reply(429, "", {"retry-after": "900"}), Reply())
    message = tell(studio, told(web, studio, "/one/abcdefgh"))
    wait_until(lambda: states(studio, message) == ["pending"] and web.received)
    (delivery,) = wait_until(
        lambda: [row for row in studio.messages.deliveries(message.id) if row.error is not None]
    )
    assert delivery.error == "Slack answered 429."
    assert delivery.next_attempt_at is not None
    assert delivery.next_attempt_at > now() + timedelta(seconds=800)
    assert len(web.received) == 1


@pytest.mark.parametrize(
    ("attempts", "asked", "at_least", "at_most"),
    [(1, None, 30, 33), (2, None, 120, 132), (5, None, 7_680, 8_448), (6, None, 21_600, 21_600),
     (1, 900.0, 900, 900), (3, 1.0, 480, 528), (1, 1e9, 21_600, 21_600)],
)  # fmt: skip
def test_the_waits_grow(
    monkeypatch: pytest.MonkeyPatch, attempts: int, asked: float | None, at_least: float, at_most: float
):
    monkeypatch.setattr(notifier, "FIRST_WAIT_SECONDS", 30.0)
    monkeypatch.setattr(notifier, "WAIT_FACTOR", 4.0)
    assert at_least <= notifier._wait_seconds(attempts, asked) <= at_most


def test_what_may_have_arrived_is_not_sent_again_by_itself(studio: Studio, web: Posts):
    web.answer = at("/one/abcdefgh", Reply(cut=True), Reply())
    message = tell(studio, told(web, studio, "/one/abcdefgh"))
    (delivery,) = settled(studio, message)
    assert delivery.status == "uncertain"
    assert (delivery.error or "").startswith("It may have arrived: 127.0.0.1")
    settled(studio, tell(studio, studio.personas.get("watcher"), "Another"))
    assert len(web.received) == 2
    assert studio.messages.retry(delivery.id[:8]).status == "pending"
    assert [row.status for row in settled(studio, message)] == ["delivered"]


# --- by a person ------------------------------------------------------------------------------------------


def test_what_was_delivered_is_not_sent_again_by_a_retry(studio: Studio, web: Posts):
    (delivery,) = settled(studio, tell(studio, told(web, studio, "/one/abcdefgh")))
    assert studio.messages.retry(delivery.id) == delivery
    assert len(web.received) == 1


def test_a_channel_that_was_mended_gets_what_failed(studio: Studio, web: Posts):
    web.answer = at("/bad/abcdefgh", Reply(404, ""))
    persona = told(web, studio, "/bad/abcdefgh")
    message = tell(studio, persona)
    assert [row.status for row in settled(studio, message)] == ["failed"]
    studio.channels.remove(persona, 1)
    studio.channels.add(persona, "slack", {"webhook": f"{web.url}/good/abcdefgh"})
    studio.messages.retry("latest")
    assert [row.status for row in settled(studio, message)] == ["delivered"]
    assert len(web.of("/good/abcdefgh")) == 1


def test_a_retry_needs_a_channel(studio: Studio, web: Posts):
    web.answer = at("/bad/abcdefgh", Reply(404, ""))
    persona = told(web, studio, "/bad/abcdefgh")
    settled(studio, tell(studio, persona))
    studio.channels.remove(persona, 1)
    with pytest.raises(NotFound, match="has no channel “slack” any more"):
        studio.messages.retry("latest")
    with pytest.raises(NotFound, match="There is no delivery “nonsense”"):
        studio.messages.retry("nonsense")


@pytest.mark.parametrize("how", ["removed", "off"])
def test_a_channel_that_went_gets_nothing_more(studio: Studio, web: Posts, how: str):
    web.answer = at("/bad/abcdefgh", Reply(429, "", {"retry-after": "60"}))
    persona = told(web, studio, "/bad/abcdefgh")
    message = tell(studio, persona)
    wait_until(lambda: studio.messages.deliveries(message.id)[0].error)
    if how == "off":
        studio.channels.switch(persona, 1, on=False)
    else:
        studio.channels.remove(persona, 1)
    delivery = studio.messages.deliveries(message.id)[0]
    studio.store.table("message_deliveries", MessageDelivery).update(delivery.id, next_attempt_at=now())
    (delivery,) = settled(studio, message)
    said = "The channel is off." if how == "off" else "The channel was taken from the persona."
    assert (delivery.status, delivery.error) == ("failed", said)
    assert len(web.received) == 1


def test_a_new_key_is_used_for_what_waits(studio: Studio, web: Posts):
    def answer(post: Post, _count: int) -> Reply:
        is_right = post.headers["authorization"] == "Bearer xoxb-the-right-one"
        return Reply(200, {"ok": is_right, "error": "ratelimited"})

    web.answer = answer
    fields = {"bot_token": "xoxb-the-wrong-one", "channel": "#a", "api_url": web.url}
    studio.credentials.add("team", "slack", fields)
    persona = persona_of(studio)
    studio.channels.add(persona, "slack", credential="team")
    message = tell(studio, persona)
    wait_until(lambda: web.received)
    studio.credentials.add("team", "slack", {**fields, "bot_token": "xoxb-the-right-one"})
    assert [row.status for row in settled(studio, message)] == ["delivered"]


def test_purging_a_persona_takes_its_deliveries_along(studio: Studio, web: Posts):
    web.answer = at("/bad/abcdefgh", Reply(429, "", {"retry-after": "60"}))
    persona = told(web, studio, "/bad/abcdefgh")
    message = tell(studio, persona)
    wait_until(lambda: web.received)
    studio.personas.purge(persona)
    assert studio.messages.deliveries(message.id) == []


# --- runs that nobody watches -----------------------------------------------------------------------------


def fired(studio: Studio, persona: Persona, **fields: Any) -> Execution:
    """A run that an event has started, at its end."""
    event = Event(event_type="mail", source_type="user", status="processed")
    studio.store.table("events", Event).insert(event)
    run = Execution(
        persona_id=persona.id,
        persona_name=persona.name,
        event_id=event.id,
        worker_id=studio.worker.id,
        **fields,
    )
    ended = studio.dispatcher.started(ExecutionTable(studio.store).enqueue(run, queue_limit=10).id)
    ended.result(30)
    return studio.executions.get(run.id)


def news(studio: Studio) -> list[Message]:
    return [message for message in studio.messages.list() if message.origin == "system"]


def test_a_run_that_nobody_watches_tells_that_it_failed(home: Path, web: Posts):
    with (
        ModelServer([Turn.error(401)], repeat_last=True) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        run = fired(studio, told(web, studio, "/one/abcdefgh"))
        assert run.status == "failed"
        (message,) = wait_until(lambda: news(studio))
        assert (message.title, message.execution_id) == ("A run of Watcher failed", run.id)
        assert f"`%persona runs show {run.id[:8]}`" in message.content
        settled(studio, message)
        assert web.texts("/one/abcdefgh")[0].startswith("*A run of Watcher failed*")
        assert studio.executions.get(run.id).told
        time.sleep(0.6)  # another look of the worker
        assert len(news(studio)) == 1


def test_a_run_that_somebody_watches_tells_nothing_more(home: Path, web: Posts):
    with (
        ModelServer([Turn.error(401)], repeat_last=True) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        persona = told(web, studio, "/one/abcdefgh")
        assert studio.run(persona).status == "failed"
        unwatched = fired(studio, persona)
        (message,) = wait_until(lambda: news(studio))
        assert message.execution_id == unwatched.id


def test_a_run_that_is_tried_again_tells_of_the_last_time_only(
    home: Path, web: Posts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notifier, "SETTLE_SECONDS", 1.0)
    with (
        ModelServer([Turn.error(529), Turn.error(401)], repeat_last=True) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        first = fired(studio, told(web, studio, "/one/abcdefgh"))
        retry_id = wait_until(lambda: studio.healing.table.retry_of(first.id))
        wait_until(lambda: studio.executions.get(retry_id).is_finished)
        wait_until(lambda: studio.executions.get(first.id).told and studio.executions.get(retry_id).told)
        assert [message.execution_id for message in news(studio)] == [retry_id]


def test_a_run_that_nobody_watches_tells_that_it_waits_for_a_decision(home: Path, web: Posts):
    with (
        ModelServer([WRITE, Turn.text("Done.")]) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        persona = told(web, studio, "/one/abcdefgh")
        studio.tools.assign(persona, "file_write")
        studio.tools.require_approval(persona, "file_write")
        workspace(studio, persona)
        run = fired(studio, persona)
        assert run.status == "waiting"
        (review,) = studio.reviews.list()
        (message,) = news(studio)
        assert message.title == "Your decision is asked: May Watcher call file_write?"
        assert f"`%persona reviews show {review.id[:8]}`" in message.content
        settled(studio, message)
        assert len(web.received) == 1
        studio.reviews.approve(review.id)
        wait_until(lambda: studio.executions.get(run.id).status == "completed")
        assert len(news(studio)) == 1


def test_what_the_system_told_keeps_no_run_from_being_tried_again(home: Path, web: Posts):
    with (
        ModelServer([WRITE, Turn.error(529), Turn.text("Done.")], repeat_last=True) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        persona = told(web, studio, "/one/abcdefgh")
        studio.tools.assign(persona, "file_write")
        studio.tools.require_approval(persona, "file_write")
        workspace(studio, persona)
        run = fired(studio, persona)
        assert studio.healing.table.told(run.id) == ["review"]
        assert len(news(studio)) == 1


def test_a_decision_that_a_watched_run_asks_for_is_not_sent(home: Path, web: Posts):
    with (
        ModelServer([WRITE, Turn.text("Done.")]) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        persona = told(web, studio, "/one/abcdefgh")
        studio.tools.assign(persona, "file_write")
        studio.tools.require_approval(persona, "file_write")
        assert studio.run(persona).status == "waiting"
        assert studio.messages.list() == []


def test_a_rehearsal_that_nobody_watches_tells_nothing(home: Path, web: Posts):
    with studio_at(home, http_allowed_hosts="127.0.0.1", provider="rehearsal") as studio:
        persona = told(web, studio, "/one/abcdefgh", system_prompt="Ask for approval.")
        run = fired(studio, persona)
        assert run.rehearsal
        assert studio.reviews.list()
        assert news(studio) == []
        assert web.received == []


def test_a_persona_that_is_disabled_after_five_failures_says_so_on_its_channels(home: Path, web: Posts):
    with (
        ModelServer([Turn.error(401)], repeat_last=True) as server,
        studio_at(home, server, http_allowed_hosts="127.0.0.1") as studio,
    ):
        persona = told(web, studio, "/one/abcdefgh")
        for _ in range(5):
            studio.run(persona)
        (message,) = wait_until(lambda: news(studio))
        assert message.title == "Watcher was disabled"
        settled(studio, message)
        assert "*Watcher was disabled*" in web.texts("/one/abcdefgh")[0]


def test_an_idle_notifier_only_looks(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    """No write and no thread of its own while nothing is to be sent."""
    wrote = threading.Event()
    monkeypatch.setattr(studio.notifier.table, "claim", lambda *_arguments: wrote.set() or [])
    persona_of(studio)  # a change that is none of its business
    assert not wrote.wait(1.5)
