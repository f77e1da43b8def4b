"""A poll that looks at an address: what counts as a change, and what becomes of it. Real servers on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studios import persona_of, studio_at, wait_until
from test_http_tool import Server, serving

from personas_nb import Studio
from personas_nb.entities.base import new_id, rfc3339
from personas_nb.entities.trigger import UNCHANGED, Fire, Trigger
from personas_nb.store import leases
from personas_nb.triggers import polling
from personas_nb.triggers.polling import BODY_LIMIT_BYTES, FIRST_LOOK, STILL_LOOKING, Poller, Seen, looks
from personas_nb.triggers.starts import Starts

DUE = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SECRET = "sk-live-0123456789abcdef"


class Bench:
    """A persona with a polling trigger, and a poller whose looks are claimed by hand."""

    def __init__(self, studio: Studio, server: Server) -> None:
        self.studio, self.server = studio, server
        self.persona = persona_of(studio, name="Page watcher")
        self.triggers = studio.store.table("triggers", Trigger)
        self.fires = studio.store.table("fires", Fire)
        config = {"interval_seconds": 60, "url": server.url("/page")}
        self.id = self.triggers.insert(
            Trigger(persona_id=self.persona.id, trigger_type="polling", config=config)
        ).id
        self.started, self.paused = 0, ""
        self.poller = self.new_poller()

    def new_poller(self) -> Poller:
        def started() -> None:
            self.started += 1

        return Poller(
            self.studio.worker,
            Starts(
                self.studio.store,
                self.studio.settings,
                redact=lambda text: text.replace(SECRET, "[redacted]"),
            ),
            lambda: self.studio.settings,
            stands_still=lambda _db: self.paused or None,
            started=started,
        )

    def claim(self, **fields: Any) -> Fire:
        """A due time as the loop claims it."""
        fire = {
            "trigger_id": self.id,
            "key": new_id(),
            "kind": "polling",
            "due_at": DUE,
            "status": "checking",
            "worker_id": self.studio.worker.id,
        }
        return self.fires.insert(Fire(**{**fire, **fields}))

    def begin(self, fire: Fire, holds: Callable[..., bool] = lambda _db: True) -> None:
        async def begun() -> None:
            self.poller.look(fire.id, self.id, holds)

        self.studio.worker.run(begun())

    def look(self, **fields: Any) -> Fire:
        """What became of a due time."""
        fire = self.claim(**fields)
        self.begin(fire)
        return self.settled(fire)

    def settled(self, fire: Fire) -> Fire:
        def done() -> Fire | None:
            found = self.fires.get(fire.id)
            return found if found is not None and found.status != "checking" else None

        found = wait_until(done)
        assert isinstance(found, Fire)
        return found

    def input(self, fire: Fire) -> dict[str, Any]:
        assert fire.execution_id is not None, fire.reason
        run = self.studio.executions.table.whole(fire.execution_id)
        assert run is not None
        assert (run.status, run.trigger_id, run.worker_id) == ("queued", self.id, None)
        found = json.loads(run.input_data or "")
        assert isinstance(found, dict)
        return found


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def bench(home: Path, server: Server) -> Iterator[Bench]:
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        yield Bench(studio, server)


def answering(server: Server, body: bytes, **headers: str) -> None:
    """What the page says from now on; a server that knows ETags answers 304 where it can."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        is_known = bool(headers.get("ETag")) and handler.headers.get("if-none-match") == headers["ETag"]
        handler.send_response(304 if is_known else 200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", "0" if is_known else str(len(body)))
        handler.end_headers()
        if not is_known:
            handler.wfile.write(body)

    server.routes["/page"] = answer


# --- what is a change -----------------------------------------------------------------------------------


def test_the_first_answer_is_the_baseline_and_only_a_changed_one_starts_a_run(bench: Bench) -> None:
    answering(bench.server, b"one")
    first, second = bench.look(), bench.look()
    assert (first.status, first.reason) == ("skipped", FIRST_LOOK)
    assert (second.status, second.reason) == ("skipped", UNCHANGED)
    assert bench.studio.triggers.status().skipped == 0
    answering(bench.server, b"two", Content_Type="text/plain; charset=utf-8")
    third, fourth = bench.look(), bench.look()
    assert (third.status, third.reason, fourth.reason) == ("queued", None, UNCHANGED)
    assert bench.input(third) == {
        "url": bench.server.url("/page"),
        "status": 200,
        "body": "two",
        "content_type": "text/plain",
        "_trigger": {"id": bench.id, "type": "polling", "due_at": rfc3339(DUE)},
    }
    wait_until(lambda: bench.started == 1)
    trigger = bench.triggers.get(bench.id)
    assert trigger is not None
    assert trigger.last_triggered_at == third.decided_at


def test_a_server_is_asked_with_what_it_said_and_may_answer_that_nothing_changed(bench: Bench) -> None:
    day = "Sat, 21 Nov 2026 08:00:00 GMT"
    answering(bench.server, b"one", ETag='"v1"', Last_Modified=day)
    assert [bench.look().reason, bench.look().reason] == [FIRST_LOOK, UNCHANGED]
    asked = [headers for _method, _path, headers, _body in bench.server.requests]
    assert "if-none-match" not in asked[0]
    assert (asked[1]["if-none-match"], asked[1]["if-modified-since"]) == ('"v1"', day)
    answering(bench.server, b"two", ETag='"v2"', Last_Modified=day)
    assert bench.input(bench.look())["body"] == "two"


@pytest.mark.parametrize("odd", ['"é1"', '"a\x7fb"'])
def test_a_validator_that_no_header_can_carry_is_compared_and_not_sent(bench: Bench, odd: str) -> None:
    answering(bench.server, b"one", ETag=odd, Last_Modified="gestern fr\xfch")
    assert [bench.look().reason, bench.look().reason] == [FIRST_LOOK, UNCHANGED]
    asked = [headers for _method, _path, headers, _body in bench.server.requests]
    assert len(asked) == 2
    assert not {"if-none-match", "if-modified-since"} & asked[1].keys()
    answering(bench.server, b"two", ETag='"é2"')
    assert bench.input(bench.look())["body"] == "two"


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ({"etag": '"a"', "sha256": "1"}, {"etag": '"a"', "sha256": "2"}, True),
        ({"etag": 'W/"a"', "sha256": "1"}, {"etag": '"a"', "sha256": "2"}, True),
        ({"etag": '"a"', "sha256": "1"}, {"etag": '"b"', "sha256": "1"}, False),
        ({"etag": '"a"', "sha256": "1"}, {"last_modified": "m", "sha256": "1"}, True),
        ({"last_modified": "m", "sha256": "1"}, {"last_modified": "m", "sha256": "2"}, True),
        ({"last_modified": "m", "sha256": "1"}, {"last_modified": "n", "sha256": "1"}, False),
        ({"sha256": "1"}, {"sha256": "2"}, False),
        ({"sha256": "1"}, {"sha256": "1", "etag": '"a"'}, True),
    ],
)
def test_the_etag_decides_then_last_modified_then_the_bytes(
    before: dict[str, str], after: dict[str, str], is_same: bool
) -> None:
    assert Seen("u", **before).is_same(Seen("u", **after)) is is_same


@given(st.builds(Seen, st.text(min_size=1), st.text(), st.text(), st.text()))
def test_what_was_seen_comes_back_from_the_state_for_its_address_alone(seen: Seen) -> None:
    state = json.loads(json.dumps({polling.SEEN: seen.as_state(), "anchor": "kept"}))
    assert Seen.in_state(state, seen.url) == seen
    assert Seen.in_state(state, seen.url + "/") is None


@pytest.mark.parametrize("state", [{}, {"seen": None}, {"seen": "x"}, {"seen": {"url": 7}}])
def test_a_state_that_says_nothing_of_an_address_is_none(state: dict[str, Any]) -> None:
    assert Seen.in_state(state, "https://example.com/") is None


@pytest.mark.parametrize(
    ("trigger_type", "config", "expected"),
    [
        ("polling", {"interval_seconds": 60, "url": "https://example.com/"}, True),
        ("polling", {"interval_seconds": 60}, False),
        ("webhook", {"url": "https://example.com/"}, False),
    ],
)
def test_only_a_poll_with_an_address_looks(trigger_type: Any, config: dict[str, Any], expected: bool) -> None:
    assert looks(Trigger(persona_id="p", trigger_type=trigger_type, config=config)) is expected


# --- what is none ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [304, 401, 404, 500])
def test_an_error_answer_is_no_change_and_is_recorded(bench: Bench, status: int) -> None:
    answering(bench.server, b"one")
    bench.look()
    bench.server.on("/page", b"trouble", status)
    assert bench.look().reason == f"The address answered {status}."
    answering(bench.server, b"one")
    assert bench.look().reason == UNCHANGED


def test_an_address_that_does_not_answer_is_recorded_with_the_reason(bench: Bench) -> None:
    bench.triggers.update(bench.id, config={"interval_seconds": 60, "url": "http://127.0.0.1:9/"})
    assert bench.look().reason == "127.0.0.1:9 refused the connection."


def test_a_poll_obeys_the_rules_of_requests(bench: Bench) -> None:
    bench.triggers.update(bench.id, config={"interval_seconds": 60, "url": "http://169.254.169.254/latest"})
    assert "is not an address of the public internet" in (bench.look().reason or "")
    bench.triggers.update(bench.id, config={"interval_seconds": 60, "url": bench.server.url("/page")})
    bench.server.on("/page", b"", 302, Location="http://[::1]:1/")
    assert "is not an address of the public internet" in (bench.look().reason or "")


def test_an_answer_over_the_limit_of_requests_is_no_change(home: Path, server: Server) -> None:
    with studio_at(home, http_allowed_hosts="127.0.0.1", http_limit_bytes=1000) as studio:
        bench = Bench(studio, server)
        answering(server, b"x" * 1001)
        assert "answered 200 with more than 1,000 bytes" in (bench.look().reason or "")


def test_another_address_begins_with_a_first_look_of_its_own(bench: Bench) -> None:
    answering(bench.server, b"one")
    bench.look()
    bench.server.on("/other", b"two")
    bench.triggers.update(bench.id, config={"interval_seconds": 60, "url": bench.server.url("/other")})
    assert [bench.look().reason, bench.look().reason] == [FIRST_LOOK, UNCHANGED]


# --- what a run is given --------------------------------------------------------------------------------


def test_a_long_answer_is_cut_between_characters_and_says_so(bench: Bench) -> None:
    answering(bench.server, b"one")
    bench.look()
    answering(bench.server, "€".encode() * 30_000, Content_Type="text/plain")
    given_input = bench.input(bench.look())
    assert given_input["body"] == "€" * (BODY_LIMIT_BYTES // 3)
    assert given_input["cut"] == "These are the first 65,536 of 90,000 bytes."


def test_an_answer_that_is_no_text_is_described(bench: Bench) -> None:
    answering(bench.server, b"one")
    bench.look()
    answering(bench.server, b"\x89PNG\xff\xfe", Content_Type="image/png")
    assert bench.input(bench.look())["body"] == "(6 bytes of image/png; not shown, they are no text)"


def test_secrets_in_an_answer_do_not_reach_the_input(bench: Bench) -> None:
    answering(bench.server, b"one")
    bench.look()
    answering(bench.server, f"key: {SECRET}".encode())
    assert bench.input(bench.look())["body"] == "key: [redacted]"


# --- what stands in the way -----------------------------------------------------------------------------


def changed_meanwhile(bench: Bench) -> None:
    answering(bench.server, b"one")
    bench.look()
    answering(bench.server, b"two")


def test_a_change_that_meets_a_pause_is_still_one_afterwards(bench: Bench) -> None:
    changed_meanwhile(bench)
    bench.paused = "All triggers are paused."
    assert bench.look().reason == "All triggers are paused."
    bench.paused = ""
    assert bench.input(bench.look())["body"] == "two"


def test_a_change_that_meets_a_disabled_persona_is_still_one_when_it_is_enabled(bench: Bench) -> None:
    changed_meanwhile(bench)
    bench.studio.personas.update("page-watcher", enabled=False)
    assert bench.look().reason == "Page watcher is disabled."
    bench.studio.personas.update("page-watcher", enabled=True)
    assert bench.look().status == "queued"


def test_a_change_that_meets_a_full_queue_is_still_one_when_there_is_room(home: Path, server: Server) -> None:
    with studio_at(home, http_allowed_hosts="127.0.0.1", queue_limit=1) as studio:
        bench = Bench(studio, server)
        changed_meanwhile(bench)
        first = bench.look()
        answering(server, b"three")
        assert "as many as it may" in (bench.look().reason or "")
        studio.executions.cancel(first.execution_id or "")
        assert bench.input(bench.look())["body"] == "three"


def held(server: Server) -> tuple[threading.Event, threading.Event]:
    """The page answers when it is let; both events: asked, and let."""
    asked, let = threading.Event(), threading.Event()
    answer = server.routes["/page"]

    def wait(handler: BaseHTTPRequestHandler) -> None:
        asked.set()
        assert let.wait(20)
        answer(handler)

    server.routes["/page"] = wait
    return asked, let


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, "The trigger was disabled while it looked."),
        (
            {"config": {"interval_seconds": 60, "url": "https://x.test/"}},
            "The trigger was edited while it looked.",
        ),
    ],
)
def test_a_trigger_that_changes_while_it_looks_starts_nothing(
    bench: Bench, change: dict[str, Any], reason: str
) -> None:
    changed_meanwhile(bench)
    asked, let = held(bench.server)
    fire = bench.claim()
    bench.begin(fire)
    assert asked.wait(20)
    assert bench.poller.is_looking(bench.id)
    bench.triggers.update(bench.id, **change)
    let.set()
    assert bench.settled(fire).reason == reason
    wait_until(lambda: not bench.poller.is_looking(bench.id))


def test_a_trigger_that_is_removed_while_it_looks_leaves_nothing(bench: Bench) -> None:
    changed_meanwhile(bench)
    asked, let = held(bench.server)
    bench.begin(bench.claim())
    assert asked.wait(20)
    bench.triggers.delete("id = ?", [bench.id])
    let.set()
    wait_until(lambda: not bench.poller.is_looking(bench.id))
    assert (bench.fires.count(), bench.studio.executions.list()) == (0, [])


# --- who may say it -------------------------------------------------------------------------------------


def test_a_look_that_lost_the_lease_meanwhile_writes_nothing_and_is_taken_over(bench: Bench) -> None:
    changed_meanwhile(bench)
    asked, let = held(bench.server)
    fire = bench.claim()
    bench.begin(fire, lambda db: leases.holds(db, "triggers", bench.studio.worker.id, 1))
    assert asked.wait(20)
    let.set()
    wait_until(lambda: not bench.poller.is_looking(bench.id))
    left = bench.fires.get(fire.id)
    assert left is not None
    assert left.status == "checking"
    assert bench.studio.worker.run(bench.poller.adopt(lambda _db: True)) == 1
    assert bench.settled(fire).status == "queued"


def test_the_looks_of_a_dead_process_are_made_again_by_whoever_follows(bench: Bench) -> None:
    changed_meanwhile(bench)
    left = [bench.claim(worker_id=new_id()), bench.claim(worker_id=None)]
    assert bench.studio.worker.run(bench.poller.adopt(lambda _db: False)) == 0
    assert bench.studio.worker.run(bench.poller.adopt(lambda _db: True)) == 2
    assert sorted(bench.settled(fire).reason or "" for fire in left) == ["", UNCHANGED]
    assert len(bench.studio.executions.list()) == 1


def test_an_answer_that_comes_after_another_took_the_look_over_is_thrown_away(bench: Bench) -> None:
    changed_meanwhile(bench)
    asked, let = held(bench.server)
    fire = bench.claim()
    bench.begin(fire)
    assert asked.wait(20)
    bench.fires.update(fire.id, worker_id=new_id())
    let.set()
    wait_until(lambda: not bench.poller.is_looking(bench.id))
    left = bench.fires.get(fire.id)
    assert left is not None
    assert (left.status, bench.studio.executions.list()) == ("checking", [])


def test_a_look_of_an_earlier_time_as_the_holder_is_broken_off_and_made_again(bench: Bench) -> None:
    changed_meanwhile(bench)
    asked, let = held(bench.server)
    fire = bench.claim()
    bench.begin(fire, lambda _db: False)  # under an epoch that is over
    assert asked.wait(20)
    bench.fires.update(fire.id, worker_id=new_id())  # another had it meanwhile, and ended
    assert bench.studio.worker.run(bench.poller.adopt(lambda _db: True)) == 1
    let.set()
    assert bench.settled(fire).status == "queued"


def test_stopping_breaks_looks_off_and_leaves_them_to_the_next(bench: Bench) -> None:
    changed_meanwhile(bench)
    asked, let = held(bench.server)
    fire = bench.claim()
    bench.begin(fire)
    assert asked.wait(20)
    bench.studio.worker.run(bench.poller.stop())
    assert not bench.poller.is_looking(bench.id)
    let.set()
    assert bench.studio.worker.run(bench.poller.adopt(lambda _db: True)) == 1
    assert bench.settled(fire).status == "queued"


def test_what_the_store_could_not_take_is_settled_when_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(bench.server, b"one")
    bench.look()
    answering(bench.server, b"x" * BODY_LIMIT_BYTES)
    monkeypatch.setattr(polling, "RETRY_SECONDS", 0.05)
    fire, store = bench.claim(), bench.studio.store
    with store.write() as db:  # SQLite says then what it says of a full disk
        most, used = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("max_page_count", "page_count"))
        db.execute(f"PRAGMA max_page_count = {used}")
    bench.begin(fire)
    wait_until(lambda: "could not be stored" in caplog.text)
    assert bench.studio.executions.list() == []
    with store.write() as db:
        db.execute(f"PRAGMA max_page_count = {most}")
    assert len(bench.input(bench.settled(fire))["body"]) == BODY_LIMIT_BYTES


# --- by the loop ----------------------------------------------------------------------------------------


def test_the_loop_looks_by_the_interval_and_a_change_is_one_run_that_is_made(
    home: Path, server: Server
) -> None:
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        persona_of(studio)
        answering(server, b"one")
        trigger = studio.triggers.add(
            "watcher", "polling", {"interval_seconds": 1, "url": server.url("/page")}
        )
        studio.triggers.start()
        wait_until(lambda: [fire.reason for fire in studio.triggers.fires()][-2:] == [UNCHANGED, FIRST_LOOK])
        answering(server, b"two")
        run = wait_until(lambda: next(iter(studio.executions.list(status="completed")), None))
        wait_until(lambda: studio.triggers.fires(status="skipped")[0].due_at > run.created_at)
        studio.triggers.stop()
        (fired,) = studio.triggers.fires(status="queued")
        assert (fired.execution_id, run.trigger_id) == (run.id, trigger.id)
        assert json.loads(studio.executions.get(run.id).input_data or "")["body"] == "two"
        dues = sorted(fire.due_at for fire in studio.triggers.fires())
        assert {(after - before).total_seconds() for before, after in pairwise(dues)} == {1.0}


def test_a_due_time_that_comes_while_the_last_look_goes_on_is_skipped(home: Path, server: Server) -> None:
    with studio_at(home, http_allowed_hosts="127.0.0.1") as studio:
        persona_of(studio)
        answering(server, b"one")
        _asked, let = held(server)
        studio.triggers.add("watcher", "polling", {"interval_seconds": 1, "url": server.url("/page")})
        studio.triggers.start()
        wait_until(lambda: len(studio.triggers.fires(status="skipped")) == 2)
        let.set()
        wait_until(lambda: not studio.triggers.fires(status="checking"))
        studio.triggers.stop()
        reasons = [fire.reason for fire in reversed(studio.triggers.fires())]
        assert reasons[:3] == [FIRST_LOOK, STILL_LOOKING, STILL_LOOKING]
