"""Notifications and processes that are killed, stopped, or find the disk full: never twice, and never silently lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.disks import small_disk
from support.posts import Posts, Reply, posts
from support.studios import line_of, persona_of, python, studio_at, wait_until

from personas_nb import Studio, worker
from personas_nb.entities.message import Message, MessageDelivery
from personas_nb.entities.persona import Persona
from personas_nb.errors import StoreError
from personas_nb.notify import notifier, outbox

ENV = {"PERSONAS_HTTP_ALLOWED_HOSTS": "127.0.0.1", "PERSONAS_HTTP_TIMEOUT_MS": "60000"}
SEND = """
    import sys
    from personas_nb import Studio
    studio = Studio(sys.argv[1])
    studio.notifier
    print("ready", flush=True)
    input()
"""
# Dies at one very moment: what is about to be called is the second argument.
DIE = """
    import os, signal, sys
    from personas_nb import Studio
    from personas_nb.notify.notifier import Notifier
    from personas_nb.notify.ways.sending import Sending
    def die(*_arguments, **_more):
        os.kill(os.getpid(), signal.SIGKILL)
    owner = Sending if sys.argv[2] == "send" else Notifier
    setattr(owner, sys.argv[2], die)
    studio = Studio(sys.argv[1])
    studio.notifier
    print("ready", flush=True)
    input()
"""


@pytest.fixture
def web() -> Iterator[Posts]:
    with posts() as server:
        yield server


@pytest.fixture
def home(home: Path, web: Posts) -> Path:
    """A home with a persona that has a channel, and nobody who sends."""
    with studio_at(home) as studio:
        persona_of(studio, notification_channels=[channel(web)])
    return home


def channel(web: Posts, path: str = "/one/abcdefgh") -> dict[str, Any]:
    return {"type": "slack", "config": {"webhook": f"{web.url}{path}"}}


def tell(studio: Studio, title: str = "Hi") -> Message:
    message = Message(persona_id=studio.personas.get("watcher").id, title=title, content="It is so.")
    outbox.write(studio.store, message)
    return message


def only(studio: Studio, message: Message) -> MessageDelivery:
    (delivery,) = studio.messages.deliveries(message.id)
    return delivery


def test_killed_between_sending_and_recording_it_is_uncertain_and_not_resent(home: Path, web: Posts):
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        message = tell(studio)
        with python(DIE, str(home), "_settle", env=ENV) as process:
            line_of(process)
            assert process.wait(30) == -signal.SIGKILL
        assert len(web.received) == 1  # it has arrived
        assert only(studio, message).status == "sending"
        studio.notifier  # noqa: B018 - this process sends
        wait_until(lambda: only(studio, message).status == "uncertain")
        delivery = only(studio, message)
        assert delivery.error == "Its process ended while it was sent: it may have arrived."
        other = tell(studio, "Another")
        wait_until(lambda: only(studio, other).status == "delivered")
        assert web.texts("/one/abcdefgh") == ["*Watcher: Hi*\nIt is so.", "*Watcher: Another*\nIt is so."]
        assert only(studio, message) == delivery


def test_killed_while_a_channel_hangs_it_is_uncertain(home: Path, web: Posts):
    web.answer = lambda _post, _count: Reply(hang=True)
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        message = tell(studio)
        with python(SEND, str(home), env=ENV) as process:
            line_of(process)
            wait_until(lambda: web.received)
            process.kill()
            process.wait()
        studio.notifier  # noqa: B018
        wait_until(lambda: only(studio, message).status == "uncertain")
        assert len(web.received) == 1


def test_killed_before_it_was_claimed_another_sends_it(home: Path, web: Posts):
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        message = tell(studio)
        with python(DIE, str(home), "_claim", env=ENV) as process:
            line_of(process)
            process.wait(30)
        assert (only(studio, message).status, web.received) == ("pending", [])
        studio.notifier  # noqa: B018
        wait_until(lambda: only(studio, message).status == "delivered")
        assert len(web.received) == 1


def test_killed_right_after_the_claim_nobody_can_tell(home: Path, web: Posts):
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        message = tell(studio)
        with python(DIE, str(home), "send", env=ENV) as process:
            line_of(process)
            process.wait(30)
        studio.notifier  # noqa: B018
        wait_until(lambda: only(studio, message).status == "uncertain")
        assert web.received == []
        studio.messages.retry(only(studio, message).id)
        wait_until(lambda: only(studio, message).status == "delivered")


def test_a_studio_that_is_closed_while_it_sends_leaves_it_uncertain(
    home: Path, web: Posts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notifier, "DRAIN_SECONDS", 0.2)
    monkeypatch.setattr(notifier, "GRACE_SECONDS", 0.2)
    web.answer = lambda _post, _count: Reply(hang=True)
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        message = tell(studio)
        studio.notifier  # noqa: B018
        wait_until(lambda: web.received)
    with studio_at(home) as studio:
        delivery = only(studio, message)
        assert (delivery.status, delivery.worker_id is not None) == ("uncertain", True)


def test_a_process_that_ends_after_its_run_sends_what_the_run_told(home: Path, web: Posts):
    """As a script does, or a verb in a terminal: nobody else may live for long."""

    def slow(_post: object, _count: int) -> Reply:
        time.sleep(0.5)
        return Reply()

    web.answer = slow
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        studio.notifier  # noqa: B018
        messages = [tell(studio, f"Number {number}") for number in range(3)]
    with studio_at(home) as studio:
        assert [only(studio, message).status for message in messages] == ["delivered"] * 3


def test_a_worker_that_is_stopped_lets_what_is_on_its_way_arrive(home: Path, web: Posts):
    """As at the end of a kernel, where no studio is closed."""
    arrived = threading.Event()

    def slow(_post: object, _count: int) -> Reply:
        arrived.set()
        time.sleep(0.5)
        return Reply()

    web.answer = slow
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        studio.notifier  # noqa: B018
        message = tell(studio)
        assert arrived.wait(20)
        studio.worker.stop()
        assert only(studio, message).status == "delivered"


def test_a_process_that_stood_still_while_it_sent_says_later_that_it_arrived(
    home: Path, web: Posts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "STALLED_SECONDS", 0.1)
    goes_on = threading.Event()

    def answer(_post: object, _count: int) -> Reply:
        goes_on.wait(60)
        return Reply()

    web.answer = answer
    with (
        studio_at(home, http_allowed_hosts="127.0.0.1") as studio,
        python(SEND, str(home), env=ENV) as process,
    ):
        message = tell(studio)
        line_of(process)
        wait_until(lambda: web.received)
        process.send_signal(signal.SIGSTOP)
        studio.notifier  # noqa: B018
        wait_until(lambda: only(studio, message).status == "uncertain", 40)
        goes_on.set()
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: only(studio, message).status == "delivered")
        assert (only(studio, message).error, len(web.received)) == (None, 1)


def test_three_processes_of_which_some_are_killed_send_nothing_twice(home: Path, web: Posts):
    """Whatever is delivered arrived once, whatever is uncertain at most once, and nothing is left open."""
    chance = random.Random(7)

    def slow(_post: object, _count: int) -> Reply:
        time.sleep(0.03)
        return Reply()

    web.answer = slow
    with ExitStack() as stack, studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        studio.personas.update(
            "watcher", notification_channels=[channel(web, f"/{name}/abcdefgh") for name in ("a", "b", "c")]
        )
        processes = [stack.enter_context(python(SEND, str(home), env=ENV)) for _ in range(2)]
        for process in processes:
            line_of(process)
        studio.notifier  # noqa: B018
        messages = []
        for number in range(60):
            messages.append(tell(studio, f"Number {number}"))
            time.sleep(0.02)
            if number in (15, 35):
                victim = chance.randrange(2)
                processes[victim].kill()
                processes[victim].wait()
                processes[victim] = stack.enter_context(python(SEND, str(home), env=ENV))
        deliveries = [row for message in messages for row in studio.messages.deliveries(message.id)]
        assert len(deliveries) == 180
        table = studio.store.table("message_deliveries", MessageDelivery)
        wait_until(lambda: table.count("status in ('pending', 'sending')") == 0, 60)
        arrived = Counter((post.path, post.json["text"].split(" ")[2]) for post in web.received)
        assert max(arrived.values()) == 1
        settled = Counter(row.status for row in table.find())
        assert settled["delivered"] <= len(arrived) <= settled["delivered"] + settled["uncertain"]
        assert set(settled) <= {"delivered", "uncertain"}
        assert settled["uncertain"] <= 6  # of two processes that were killed, at most one of each channel
        assert {row.attempts for row in table.find()} == {1}


def test_what_a_full_disk_did_not_take_is_recorded_when_there_is_room_again(tmp_path: Path, web: Posts):
    arrived, goes_on = threading.Event(), threading.Event()

    def answer(_post: object, _count: int) -> Reply:
        arrived.set()
        goes_on.wait(60)
        return Reply()

    web.answer = answer
    with (
        small_disk(tmp_path / "disk") as disk,
        studio_at(disk.folder / "home", http_allowed_hosts="127.0.0.1") as studio,
    ):
        persona: Persona = persona_of(studio, notification_channels=[channel(web)])
        studio.notifier  # noqa: B018
        message = tell(studio)
        assert arrived.wait(20)
        disk.fill()

        def is_full() -> bool:
            try:
                studio.personas.update(persona, description="x" * random.randrange(9_000, 10_000))
            except StoreError:
                return True
            return False

        wait_until(is_full, 60)
        goes_on.set()
        wait_until(lambda: studio.notifier._unsettled)
        assert only(studio, message).status == "sending"
        disk.free()
        wait_until(lambda: only(studio, message).status == "delivered", 30)
        assert len(web.received) == 1
        assert studio.notifier._unsettled == {}
