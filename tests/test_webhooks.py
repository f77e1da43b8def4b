"""A request to a webhook: its signature, its window, its body, its record; and where the secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.studios import persona_of, studio_at
from tornado.httputil import HTTPHeaders

from personas_nb import Studio
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput, KeyUnavailable
from personas_nb.triggers.door import Door, RateLimit, Taken
from personas_nb.triggers.signatures import (
    DELIVERY_LIMIT_CHARS,
    WINDOW_SECONDS,
    Refusal,
    Signed,
    read_body,
    read_delivery,
    read_signature,
    sign,
)
from personas_nb.triggers.webhooks import CONNECTOR, owned, plain_config, secret_of, without_secret
from personas_nb.vault.access import known_secrets

NOW = 1_800_000_000
SECRET = "a-secret-of-a-webhook-0123456789"


def ours(body: bytes, secret: str = SECRET, at: int = NOW) -> dict[str, str]:
    return {"X-Personas-Signature": sign(body, secret, at), "X-Personas-Timestamp": str(at)}


def github(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def fits(headers: dict[str, str], body: bytes, secret: str = SECRET, now: float = NOW) -> bool:
    signed = read_signature(headers, now)
    return isinstance(signed, Signed) and signed.fits(body, secret)


# ── the signature ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_signature_is_the_documented_one():
    expected = hmac.new(SECRET.encode(), b'1800000000.{"order": 7}', hashlib.sha256).hexdigest()
    assert sign(b'{"order": 7}', SECRET, NOW) == f"sha256={expected}"


@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), min_size=8, max_size=60))
@example(b"", SECRET)
def test_what_a_secret_signed_fits_that_secret_and_that_body(body: bytes, secret: str):
    assert fits(ours(body, secret), body, secret)
    assert fits(github(body, secret), body, secret)
    assert not fits(ours(body, secret), body + b" ", secret)
    assert not fits(github(body, secret), body, secret + "x")


def test_the_timestamp_is_signed_too():
    headers = ours(b"{}") | {"X-Personas-Timestamp": str(NOW + 1)}
    assert not fits(headers, b"{}")


@pytest.mark.parametrize("distance", [-WINDOW_SECONDS, 0, WINDOW_SECONDS])
def test_a_request_within_the_window_is_taken(distance: int):
    assert fits(ours(b"{}", at=NOW + distance), b"{}")


@pytest.mark.parametrize("distance", [-WINDOW_SECONDS - 1, WINDOW_SECONDS + 1])
def test_a_request_outside_the_window_is_refused_both_ways(distance: int):
    signed = read_signature(ours(b"{}", at=NOW + distance), NOW)
    assert isinstance(signed, Refusal)
    assert signed.status == 401


@given(st.dictionaries(st.sampled_from(
    ["X-Personas-Signature", "X-Personas-Timestamp", "X-Hub-Signature-256"]
), st.one_of(st.text(max_size=90), st.from_regex(r"sha256=[0-9a-fA-F]{60,68}", fullmatch=True))))  # fmt: skip
def test_whatever_the_headers_are_they_are_read_or_refused(headers: dict[str, str]):
    found = read_signature(headers, NOW)
    if isinstance(found, Refusal):
        assert found.status == 401
    else:
        assert not found.fits(b"{}", SECRET)


@pytest.mark.parametrize(
    "timestamp", ["", "soon", "-5", "1e9", "1800000000.5", "9" * 40, "１８０００００００００"]
)
def test_a_timestamp_that_is_no_whole_number_is_refused(timestamp: str):
    headers = {"X-Personas-Signature": sign(b"{}", SECRET, timestamp), "X-Personas-Timestamp": timestamp}
    assert isinstance(read_signature(headers, NOW), Refusal)


def test_a_wrong_signature_of_ours_is_not_made_good_by_one_of_github():
    headers = {**ours(b"{}", "another-secret-0123"), **github(b"{}")}
    assert not fits(headers, b"{}")


def test_capital_hex_digits_are_the_same_signature():
    headers = ours(b"{}")
    assert fits(
        headers | {"X-Personas-Signature": "sha256=" + headers["X-Personas-Signature"][7:].upper()}, b"{}"
    )


# ── delivery, body, rate ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_delivery_is_named_by_our_header_or_that_of_github():
    assert read_delivery(HTTPHeaders({"x-personas-delivery": "order-7"})) == "order-7"
    assert read_delivery(HTTPHeaders({"x-github-delivery": "72d3162e"})) == "72d3162e"
    assert read_delivery({}) is None


@pytest.mark.parametrize("name", ["", " ", "a b", "é", "x" * (DELIVERY_LIMIT_CHARS + 1), "a\nb"])
def test_a_delivery_id_that_cannot_be_kept_is_refused(name: str):
    found = read_delivery({"X-Personas-Delivery": name})
    assert isinstance(found, Refusal)
    assert found.status == 400


TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_json_body_is_what_it_says(value: Any):
    assert read_body(json.dumps(value).encode(), "application/json; charset=utf-8") == value


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "application/json", "text/plain", "application/x-www-form-urlencoded"]),
)
def test_any_body_is_read_or_refused_and_can_be_written_again(body: bytes, content_type: str):
    found = read_body(body, content_type)
    if not isinstance(found, Refusal):
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "body", [b"{", b"[1,]", b"NaN", b'"\\ud800"', b"1e999", b"[" * 100_000, b"9" * 5_000]
)
def test_a_body_that_calls_itself_json_and_is_none_is_refused(body: bytes):
    found = read_body(body, "application/json")
    assert isinstance(found, Refusal)
    assert found.status == 400


def test_json_is_known_by_its_looks_where_nobody_says_so():
    assert read_body(b' {"a": 1}', "") == {"a": 1}
    assert read_body(b"[not json", "text/plain") == "[not json"
    assert read_body(b'{"a": 1}', "application/x-www-form-urlencoded") == {"a": 1}  # as curl sends it


def test_a_form_of_github_is_its_payload():
    assert read_body(b"payload=%7B%22ref%22%3A%22main%22%7D", "application/x-www-form-urlencoded") == {
        "ref": "main"
    }


def test_a_rate_that_is_used_up_comes_back_evenly():
    limit = RateLimit(per_minute=120)
    assert [limit.wait_seconds("a", 5.0) for _ in range(121)] == [0.0] * 120 + [0.5]
    assert [limit.wait_seconds("a", 6.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_away():
    limit = RateLimit(per_minute=1)
    assert [limit.wait_seconds("a", at) > 0 for at in (100.0, 100.0, 50.0, 99.0)] == [False, True, True, True]


# ── the secret ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def studio(home: Path):
    with studio_at(home) as studio:
        persona_of(studio)
        yield studio


def added(studio: Studio, config: dict[str, Any] | None = None, **options: Any) -> tuple[Trigger, str]:
    trigger = studio.triggers.add("watcher", "webhook", config, **options)
    assert trigger.secret is not None
    return trigger, trigger.secret.get_secret_value()


def test_the_secret_is_shown_once_and_the_row_holds_a_credential(studio: Studio):
    trigger, secret = added(studio)
    assert len(secret) >= 40
    again = studio.triggers.get(trigger.id)
    assert again.secret is None
    assert studio.credentials.get(again.config["credential_id"]).connector == CONNECTOR
    assert secret.encode() not in b"".join(path.read_bytes() for path in studio.home.glob("personas.db*"))


def test_adding_the_same_webhook_again_changes_nothing_and_shows_nothing(studio: Studio):
    trigger, _secret = added(studio)
    again = studio.triggers.add("watcher", "webhook")
    assert again.id == trigger.id
    assert again.secret is None
    assert len(studio.credentials.list()) == 1


def test_a_secret_of_ones_own_is_sealed_too(studio: Studio):
    trigger, secret = added(studio, {"secret": SECRET})
    assert secret == SECRET
    assert "secret" not in studio.triggers.get(trigger.id).config


def test_another_secret_for_the_same_webhook_takes_its_place(studio: Studio):
    trigger, first = added(studio)
    again, secret = added(studio, {"secret": SECRET})
    assert (again.id, secret) == (trigger.id, SECRET)
    assert first not in known_secrets(studio.credentials)[0].values()
    assert secret_of(studio.credentials, studio.triggers.get(trigger.id)) == SECRET
    assert studio.triggers.add("watcher", "webhook", {"secret": SECRET}).secret is None


def test_a_secret_that_is_given_to_a_webhook_that_is_off_is_kept(studio: Studio):
    trigger, _secret = added(studio, {"secret": SECRET}, enabled=False)
    assert studio.triggers.enable(trigger.id).secret is None
    assert secret_of(studio.credentials, studio.triggers.get(trigger.id)) == SECRET


@pytest.mark.parametrize("secret", ["short", "fifteen-chars-x", " " * 20, 12345678901234567890])
def test_a_secret_that_is_easily_guessed_is_refused(studio: Studio, secret: Any):
    with pytest.raises(InvalidInput):
        studio.triggers.add("watcher", "webhook", {"secret": secret})
    assert studio.triggers.list() == []
    assert studio.credentials.list() == []


def test_a_webhook_that_was_made_without_a_secret_gets_one_when_it_is_enabled(studio: Studio):
    trigger = studio.triggers.add("watcher", "webhook", enabled=False)
    first = studio.triggers.enable(trigger.id)
    assert first.secret is not None
    assert studio.triggers.enable(trigger.id).secret is None


def test_removing_the_trigger_removes_its_secret_and_no_other(studio: Studio):
    first, _ = added(studio, description="one")
    second, secret = added(studio, {"path": "/two"})
    studio.triggers.remove(first.id)
    assert [row.id for row in studio.credentials.list()] == [second.config["credential_id"]]
    assert secret in known_secrets(studio.credentials)[0].values()


def test_purging_the_persona_removes_its_secrets(studio: Studio):
    trigger, _ = added(studio)
    assert [row.id for row in owned(studio.credentials, trigger.persona_id)] == [
        trigger.config["credential_id"]
    ]
    studio.personas.purge("watcher")
    assert studio.credentials.list() == []


def test_a_webhook_of_a_design_keeps_its_secret_when_the_design_is_applied_again(home: Path):
    with studio_at(home) as studio:
        session = studio.design("When a webhook arrives, summarise the order", name="Orders")
        persona = session.apply()
        (trigger,) = studio.triggers.list(persona)
        assert (trigger.trigger_type, trigger.secret) == ("webhook", None)
        assert studio.triggers.enable(trigger.id).secret is not None
        studio.design("When a webhook arrives, summarise the order", name="Orders").apply()
        assert [row.id for row in studio.triggers.list(persona)] == [trigger.id]
        assert len(studio.credentials.list()) == 1
        studio.design("Every weekday at 9 summarise the orders", name="Orders").apply()
        assert [row.trigger_type for row in studio.triggers.list(persona)] == ["schedule"]
        assert studio.credentials.list() == []


def test_an_export_says_that_the_secret_stays_and_names_no_credential(studio: Studio, tmp_path: Path):
    trigger, secret = added(studio, {"path": "/orders"})
    exported = studio.export("watcher", tmp_path / "watcher.json")
    text = (tmp_path / "watcher.json").read_text()
    assert "/orders" in text
    assert secret not in text
    assert trigger.config["credential_id"] not in text
    assert "webhook: secret" in [one.part for one in exported.left_out]


def test_a_named_credential_of_somebody_else_opens_nothing(studio: Studio):
    other, _ = added(studio)
    trigger, secret = added(studio, {"path": "/mine", "credential_id": other.config["credential_id"]})
    assert trigger.config["credential_id"] != other.config["credential_id"]
    assert plain_config(trigger.config) == {"path": "/mine"}
    assert without_secret({"path": "/mine", "credential_id": "x"}) == ({"path": "/mine"}, None)
    assert secret


def test_runs_do_not_repeat_the_secret(studio: Studio):
    _trigger, secret = added(studio)
    text = studio.starts.input_of({"note": f"the secret is {secret}"}, trigger={"type": "webhook"})
    assert secret not in text
    assert json.loads(text)["_trigger"] == {"type": "webhook"}


def test_a_secret_that_was_added_later_is_known_at_the_next_text(studio: Studio):
    assert "nothing" in studio.starts.input_of("nothing here")
    _trigger, secret = added(studio)
    assert secret not in studio.starts.input_of(secret)


# ── the door ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Sender:
    """Sends signed requests to a door, under a clock of its own."""

    def __init__(self, studio: Studio, trigger: Trigger, secret: str, per_minute: int = 1_000) -> None:
        self.now = datetime.fromtimestamp(NOW, UTC)
        self.studio, self.trigger, self.secret = studio, trigger, secret
        self.door = Door(
            studio.store, studio.credentials, studio.starts, per_minute=per_minute, clock=lambda: self.now
        )

    def send(self, body: bytes = b"{}", delivery: str | None = None, **headers: str) -> Taken | Refusal:
        at = int(self.now.timestamp())
        given = HTTPHeaders(ours(body, self.secret, at) | headers)
        if delivery is not None:
            given["X-Personas-Delivery"] = delivery
        signed = read_signature(given, at)
        assert isinstance(signed, Signed)
        checked = self.door.check(self.trigger.id, signed, given, body)
        if isinstance(checked, Refusal):
            return checked
        with self.studio.store.write() as db:
            return checked(db)


@pytest.fixture
def sender(studio: Studio) -> Sender:
    return Sender(studio, *added(studio, description="a new order"))


def taken(answer: Taken | Refusal) -> Taken:
    assert isinstance(answer, Taken), answer
    return answer


def refused(answer: Taken | Refusal) -> int:
    assert isinstance(answer, Refusal), answer
    return answer.status


def test_a_signed_request_queues_one_run_with_the_body_and_what_started_it(sender: Sender):
    answer = taken(sender.send(b'{"order": 7}', "order-7"))
    run = sender.studio.executions.get(answer.id)
    assert (run.status, run.trigger_id) == ("queued", sender.trigger.id)
    given = json.loads(run.input_data or "")
    assert given["order"] == 7
    assert given["_trigger"] == {
        "id": sender.trigger.id, "type": "webhook", "description": "a new order", "delivery": "order-7"
    }  # fmt: skip
    (fire,) = sender.studio.triggers.fires(sender.trigger.id)
    assert (fire.kind, fire.status, fire.execution_id) == ("webhook", "queued", run.id)
    assert sender.studio.triggers.get(sender.trigger.id).last_triggered_at == sender.now


def test_a_repeated_delivery_does_nothing(sender: Sender):
    first = taken(sender.send(b'{"n": 1}', "same"))
    second = taken(sender.send(b'{"n": 2}', "same"))
    assert second == Taken(first.id, "queued", None, is_repeat=True)
    assert len(sender.studio.executions.list()) == len(sender.studio.triggers.fires()) == 1


@pytest.mark.parametrize(
    ("age", "repeats"), [(timedelta(days=7, seconds=-1), True), (timedelta(days=7), False)]
)
def test_a_delivery_id_is_remembered_for_seven_days(sender: Sender, age: timedelta, repeats: bool):
    sender.send(delivery="same")
    sender.now += age
    assert taken(sender.send(delivery="same")).is_repeat is repeats
    assert taken(sender.send(delivery="same")).is_repeat
    assert len(sender.studio.triggers.fires()) == (1 if repeats else 2)


def test_requests_without_a_delivery_id_are_one_each(sender: Sender):
    assert taken(sender.send()).id != taken(sender.send()).id


def test_the_same_delivery_id_at_another_webhook_is_another_delivery(sender: Sender):
    other = Sender(sender.studio, *added(sender.studio, {"path": "/other"}))
    taken(sender.send(delivery="same"))
    assert not taken(other.send(delivery="same")).is_repeat


@pytest.mark.parametrize(
    ("prevent", "reason"),
    [
        (lambda studio: studio.personas.disable("watcher"), "Watcher is disabled."),
        (lambda studio: studio.personas.update("watcher", permissions="bypass"), "bypass"),
        (lambda studio: studio.triggers.pause_all(), "paused"),
    ],
    ids=["disabled", "bypass", "paused"],
)
def test_what_cannot_start_is_on_record_with_its_reason(
    sender: Sender, prevent: Callable[[Studio], Any], reason: str
):
    prevent(sender.studio)
    answer = taken(sender.send())
    assert answer.status == "skipped"
    assert reason in (answer.reason or "")
    (fire,) = sender.studio.triggers.fires()
    assert (fire.id, fire.status, fire.reason) == (answer.id, "skipped", answer.reason)
    assert sender.studio.executions.list() == []


def test_a_persona_with_bypass_starts_where_a_person_allowed_it(sender: Sender):
    sender.studio.personas.update("watcher", permissions="bypass")
    sender.studio.triggers.enable(sender.trigger.id, allow_bypass=True)
    assert taken(sender.send()).status == "queued"


def test_a_full_queue_is_a_skip_and_every_request_is_on_record(home: Path):
    with studio_at(home, queue_limit=3) as studio:
        persona_of(studio)
        sender = Sender(studio, *added(studio))
        answers = [taken(sender.send()) for _ in range(5)]
        assert [answer.status for answer in answers] == ["queued"] * 3 + ["skipped"] * 2
        assert len(studio.triggers.fires()) == 5


def test_what_is_not_there_or_off_is_not_found(sender: Sender):
    signed = read_signature(ours(b"{}"), NOW)
    assert isinstance(signed, Signed)
    schedule = sender.studio.triggers.add("watcher", "schedule", {"cron": "0 9 * * *"})
    for trigger_id in ("nothing", "", schedule.id, sender.trigger.id[:8]):
        found = sender.door.check(trigger_id, signed, {}, b"{}")
        assert isinstance(found, Refusal)
        assert found.status == 404
    assert sender.door.look(sender.trigger.id) is None
    sender.studio.triggers.disable(sender.trigger.id)
    assert refused(sender.send()) == 404
    assert sender.studio.triggers.fires() == []


def test_a_webhook_that_is_switched_off_between_look_and_record_starts_nothing(sender: Sender):
    headers = ours(b"{}")
    signed = read_signature(headers, NOW)
    assert isinstance(signed, Signed)
    signed = Signed(sign(b"{}", sender.secret, NOW)[7:], b"1800000000.")
    checked = sender.door.check(sender.trigger.id, signed, {}, b"{}")
    assert not isinstance(checked, Refusal)
    sender.studio.triggers.remove(sender.trigger.id)
    with sender.studio.store.write() as db:
        assert refused(checked(db)) == 404


def test_a_former_secret_is_refused_as_soon_as_there_is_another(sender: Sender):
    taken(sender.send())
    other = "quite another secret of theirs"
    sender.studio.triggers.edit(sender.trigger, {"secret": other})
    assert refused(sender.send()) == 401
    assert len(sender.studio.triggers.fires()) == 1
    sender.secret = other
    assert taken(sender.send()).status == "queued"


def test_a_wrong_signature_leaves_no_trace_and_takes_nothing_of_the_rate(studio: Studio):
    trigger, secret = added(studio)
    sender = Sender(studio, trigger, "not-the-secret-0123456789", per_minute=2)
    assert [refused(sender.send()) for _ in range(5)] == [401] * 5
    sender.secret = secret
    assert [taken(sender.send()).status for _ in range(2)] == ["queued"] * 2
    assert len(studio.triggers.fires()) == 2


def test_more_than_the_rate_is_told_to_wait(studio: Studio):
    sender = Sender(studio, *added(studio), per_minute=2)
    answers = [sender.send() for _ in range(3)]
    assert isinstance(answers[2], Refusal)
    assert (answers[2].status, 0 < answers[2].retry_seconds <= 30) == (429, True)
    other = Sender(studio, *added(studio, {"path": "/other"}))
    other.door = sender.door
    assert taken(other.send()).status == "queued"


def test_a_secret_that_cannot_be_opened_is_not_the_senders_fault(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(sender.studio.home / "nowhere.json"))
    with Studio(sender.studio.home) as other, pytest.raises(KeyUnavailable):
        Sender(other, sender.trigger, sender.secret).send()


def test_what_waits_for_a_server_is_seen(sender: Sender):
    assert not sender.door.has_waiting()
    sender.send()
    assert sender.door.has_waiting()
