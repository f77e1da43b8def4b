"""The triggers of a home: made, changed, listed, and fired by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.clocks import Clock
from support.studios import persona_of, studio_at, wait_until

from personas_nb import Studio
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput, NotFound, StoreError, TooLarge
from personas_nb.triggers.webhooks import has_secret, secret_of

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
EVERY_MORNING = {"cron": "0 9 * * *", "timezone": "UTC"}
ROUND: dict[str, Any] = {}
ROUND["again"] = ROUND


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, provider="rehearsal", timezone="UTC") as opened:
        yield opened


@pytest.fixture
def persona(studio: Studio) -> Persona:
    return persona_of(studio)


@pytest.fixture
def clock(studio: Studio) -> Clock:
    studio.triggers.clock = Clock(NINE)
    return studio.triggers.clock


def stored(studio: Studio, trigger: Trigger) -> Trigger:
    found = studio.store.table("triggers", Trigger).get(trigger.id)
    assert found is not None
    return found


# --- adding --------------------------------------------------------------------------------------------


def test_a_trigger_is_stored_and_planned(studio: Studio, persona: Persona, clock: Clock):
    added = studio.triggers.add("watcher", "schedule", EVERY_MORNING, description="mornings")
    assert added.next_trigger_at == NINE + timedelta(days=1)
    assert stored(studio, added) == added == studio.triggers.get(added.id[:6])
    assert (added.persona_id, added.origin, added.description) == (persona.id, "user", "mornings")


def test_the_same_again_returns_the_one_there_is(studio: Studio, persona: Persona):
    first = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    again = studio.triggers.add(
        persona, "schedule", {"timezone": "UTC", "cron": "0  9 * * *"}, description="x"
    )
    assert again == first
    assert len(studio.triggers.list()) == 1


def test_another_persona_may_have_the_same(studio: Studio, persona: Persona):
    other = persona_of(studio, name="Other")
    assert studio.triggers.add(persona, "manual").id != studio.triggers.add(other, "manual").id
    assert [one.persona_id for one in studio.triggers.list(other)] == [other.id]


def test_the_zone_of_the_settings_is_kept_in_the_trigger(home: Path):
    with studio_at(home, timezone="Europe/Prague") as studio:
        persona_of(studio)
        assert studio.triggers.add("watcher", "schedule", {"cron": "0 9 * * *"}).config["timezone"] == (
            "Europe/Prague"
        )


def test_many_are_added_at_once_and_the_same_among_them_once(studio: Studio, persona: Persona):
    items = [("polling", {"interval_seconds": 60 + n % 5}) for n in range(10)]
    added = studio.triggers.add_all(persona, items)
    assert [one.config for one in added] == [config for _kind, config in items]
    assert added[0] == added[5]
    assert studio.triggers.list() == added[:5]


def test_of_many_none_is_added_when_one_cannot_be(studio: Studio, persona: Persona):
    with pytest.raises(InvalidInput, match="1 or more"):
        studio.triggers.add_all(persona, [("manual", {}), ("polling", {"interval_seconds": 0})])
    assert studio.triggers.list() == []


def test_nothing_is_added_to_nobody(studio: Studio):
    with pytest.raises(NotFound, match="no persona “nobody”"):
        studio.triggers.add("nobody", "manual")


def test_a_webhook_shows_its_secret_once(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "webhook")
    assert added.secret is not None
    secret = added.secret.get_secret_value()
    assert secret_of(studio.credentials, added) == secret
    again = studio.triggers.add(persona, "webhook")
    assert (again.id, again.secret) == (added.id, None)
    assert secret not in repr(added) + json.dumps(added.model_dump(mode="json"))
    with studio.store.read() as db:
        assert secret not in "".join(map(str, db.execute("select * from triggers").fetchone()))


def test_a_webhook_takes_the_secret_of_the_sender(studio: Studio, persona: Persona):
    given = "a secret that the sender made up"
    added = studio.triggers.add(persona, "webhook", {"path": "orders", "secret": given})
    assert secret_of(studio.credentials, added) == given
    assert set(added.config) == {"path", "credential_id"}
    assert studio.triggers.add(persona, "webhook", {"path": "orders"}).id == added.id


# --- changing ------------------------------------------------------------------------------------------


def test_an_edit_changes_what_is_given_and_plans_anew(studio: Studio, persona: Persona, clock: Clock):
    added = studio.triggers.add(persona, "schedule", {**EVERY_MORNING, "catch_up": "all"})
    edited = studio.triggers.edit(added.id, {"cron": "30 9 * * *", "catch_up": None})
    assert edited.config == {"cron": "30 9 * * *", "timezone": "UTC"}
    assert edited.next_trigger_at == NINE + timedelta(minutes=30)
    assert edited.updated_at > added.updated_at
    assert stored(studio, added) == edited


def test_an_edit_that_cannot_be_leaves_everything(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    with pytest.raises(InvalidInput, match="never fires"):
        studio.triggers.edit(added, {"cron": "0 0 30 2 *"})
    assert stored(studio, added) == added


def test_the_same_edit_again_changes_nothing(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    assert studio.triggers.edit(added, EVERY_MORNING) == added


def test_an_edit_that_is_not_about_time_leaves_what_is_due(studio: Studio, persona: Persona, clock: Clock):
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    clock.move(days=3)
    edited = studio.triggers.edit(added, {"catch_up": "all"})
    assert edited.next_trigger_at == added.next_trigger_at
    assert studio.triggers.fires(added) == []


@pytest.mark.parametrize("change", ["edit", "disable"])
def test_what_nobody_came_to_before_a_change_is_recorded_as_skipped(
    studio: Studio, persona: Persona, clock: Clock, change: str
):
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    clock.move(days=2, hours=1)
    if change == "edit":
        changed = studio.triggers.edit(added, {"cron": "30 9 * * *"})
    else:
        changed = studio.triggers.disable(added)
        studio.triggers.disable(added)
    found = studio.triggers.fires(added)
    assert [fire.due_at for fire in found] == [NINE + timedelta(days=2), NINE + timedelta(days=1)]
    assert {fire.status for fire in found} == {"skipped"}
    assert all("before anybody fired it" in (fire.reason or "") for fire in found)
    expected = None if change == "disable" else NINE + timedelta(days=3, minutes=30)
    assert changed.next_trigger_at == expected


def test_what_is_no_mapping_changes_nothing(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    with pytest.raises(InvalidInput, match="no mapping"):
        studio.triggers.edit(added, "30 9 * * *")  # type: ignore[arg-type]
    assert stored(studio, added) == added


def test_a_new_interval_begins_a_new_phase_and_another_policy_does_not(
    studio: Studio, persona: Persona, clock: Clock
):
    added = studio.triggers.add(persona, "polling", {"interval_seconds": 600})
    clock.move(seconds=100)
    kept = studio.triggers.edit(added, {"catch_up": "skip"})
    assert (kept.state, kept.next_trigger_at) == (added.state, added.next_trigger_at)
    anew = studio.triggers.edit(added, {"interval_seconds": 300})
    assert anew.next_trigger_at == NINE + timedelta(seconds=400)


def test_a_webhook_keeps_its_secret_through_an_edit_and_takes_a_new_one(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "webhook")
    edited = studio.triggers.edit(added, {"path": "orders"})
    assert edited.secret is None
    assert added.secret is not None
    assert secret_of(studio.credentials, edited) == added.secret.get_secret_value()
    other = "quite another secret of theirs"
    studio.triggers.edit(added, {"secret": other})
    assert secret_of(studio.credentials, added) == other


def test_one_that_is_off_is_not_planned_and_one_that_is_enabled_begins_now(
    studio: Studio, persona: Persona, clock: Clock
):
    added = studio.triggers.add(persona, "polling", {"interval_seconds": 600})
    off = studio.triggers.disable(added)
    assert (off.enabled, off.next_trigger_at) == (False, None)
    clock.move(hours=1)
    on = studio.triggers.enable(added)
    assert on.next_trigger_at == NINE + timedelta(hours=1, minutes=10)
    assert studio.triggers.enable(added) == stored(studio, added) == on


def test_consent_to_bypass_is_given_and_taken_back(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "manual")
    assert studio.triggers.enable(added, allow_bypass=True).allow_bypass
    assert studio.triggers.enable(added).allow_bypass
    assert not studio.triggers.enable(added, allow_bypass=False).allow_bypass


def test_a_webhook_of_a_design_gets_its_secret_when_it_is_enabled(studio: Studio, persona: Persona):
    row = Trigger(persona_id=persona.id, trigger_type="webhook", enabled=False, origin="import")
    studio.store.table("triggers", Trigger).insert(row)
    assert not has_secret(studio.credentials, row)
    enabled = studio.triggers.enable(row)
    assert enabled.secret is not None
    assert studio.triggers.enable(row).secret is None
    assert secret_of(studio.credentials, row) == enabled.secret.get_secret_value()


def test_what_nobody_can_plan_is_not_enabled(studio: Studio, persona: Persona):
    row = Trigger(
        persona_id=persona.id, trigger_type="schedule", config={"cron": "0 0 30 2 *"}, enabled=False
    )
    studio.store.table("triggers", Trigger).insert(row)
    with pytest.raises(InvalidInput, match="never fires"):
        studio.triggers.enable(row)
    assert not stored(studio, row).enabled


def test_a_trigger_goes_with_its_fires_and_its_secret_and_its_runs_stay(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "webhook")
    fire = studio.triggers.fire(added)
    studio.triggers.remove(added.id)
    assert studio.triggers.list() == studio.triggers.fires() == []
    assert not has_secret(studio.credentials, added)
    assert fire.execution_id is not None
    assert studio.executions.get(fire.execution_id).trigger_id == added.id
    with pytest.raises(NotFound, match="no trigger"):
        studio.triggers.remove(added.id)


def test_two_threads_that_edit_different_settings_keep_both(studio: Studio, persona: Persona):
    from concurrent.futures import ThreadPoolExecutor

    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    with ThreadPoolExecutor(2) as pool:
        changes = [{"cron": "5 9 * * *"}, {"catch_up": "skip"}] * 10
        list(pool.map(lambda change: studio.triggers.edit(added, change), changes))
    assert stored(studio, added).config == {"cron": "5 9 * * *", "timezone": "UTC", "catch_up": "skip"}


# --- firing by hand ------------------------------------------------------------------------------------


def test_a_fire_by_hand_runs_here_and_now_and_is_recorded(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING, description="mornings")
    fire = studio.triggers.fire(added, {"order": 7})
    assert (fire.status, fire.kind, fire.reason) == ("queued", "manual", None)
    run = wait_until(lambda: finished(studio, fire.execution_id))
    assert run.status == "completed"
    assert run.trigger_id == added.id
    given = json.loads(run.input_data)
    assert given["order"] == 7
    assert given["_trigger"] == {
        "id": added.id,
        "type": "manual",
        "due_at": fire.due_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "description": "mornings",
    }
    assert studio.triggers.fires(added) == [fire]
    after = stored(studio, added)
    assert (after.next_trigger_at, after.last_triggered_at) == (added.next_trigger_at, fire.due_at)


def finished(studio: Studio, execution_id: str | None):
    assert execution_id is not None
    run = studio.executions.get(execution_id)
    return run if run.status not in ("queued", "running") else None


def test_a_trigger_that_is_off_fires_by_hand_also_while_all_are_paused(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "manual", enabled=False)
    studio.triggers.pause_all("holidays")
    assert studio.triggers.fire(added).status == "queued"


def test_a_fire_of_a_disabled_persona_says_why_nothing_started(studio: Studio, persona: Persona):
    added = studio.triggers.add(persona, "manual")
    studio.personas.disable(persona)
    fire = studio.triggers.fire(added)
    assert (fire.status, fire.execution_id, fire.reason) == ("skipped", None, "Watcher is disabled.")
    assert studio.triggers.fires(status="skipped") == [fire]
    assert stored(studio, added).last_triggered_at is None


def test_who_fires_by_hand_allows_what_the_persona_may(studio: Studio, persona: Persona):
    studio.personas.update(persona, permissions="bypass")
    added = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    assert studio.triggers.fire(added).status == "queued"


def test_an_input_that_is_too_large_starts_nothing(home: Path):
    with studio_at(home, provider="rehearsal", input_limit_bytes=200) as studio:
        added = studio.triggers.add(persona_of(studio), "manual")
        with pytest.raises(TooLarge, match="input_limit_bytes"):
            studio.triggers.fire(added, "x" * 200)
        assert studio.triggers.fires() == []


@pytest.mark.parametrize("given", ["x" * 3_000, {"text": "x" * 3_000}])
def test_the_size_of_an_input_is_the_one_before_it_is_searched_for_secrets(home: Path, given: Any):
    with studio_at(home, provider="rehearsal", input_limit_bytes=2_000) as studio:
        added = studio.triggers.add(persona_of(studio), "manual")
        studio.credentials.add("team", "slack", {"bot_token": "x" * 3_000})
        with pytest.raises(TooLarge, match="input_limit_bytes"):
            studio.triggers.fire(added, given)
        assert studio.triggers.fires() == []


@pytest.mark.parametrize("given", [{(1, 2): 3}, [10**5000], ROUND])
def test_an_input_that_is_no_json_starts_nothing(studio: Studio, persona: Persona, given: Any):
    trigger = studio.triggers.add(persona, "manual")
    with pytest.raises(InvalidInput, match="JSON"):
        studio.triggers.fire(trigger, given)
    assert (studio.triggers.fires(), studio.executions.list()) == ([], [])


def test_an_input_is_json_whatever_numbers_and_half_characters_it_holds(studio: Studio, persona: Persona):
    trigger = studio.triggers.add(persona, "manual")
    fire = studio.triggers.fire(trigger, {"share": math.nan, "name": "a\ud800b"})
    assert fire.execution_id is not None
    text = studio.executions.get(fire.execution_id).input_data
    assert "NaN" not in (text or "")
    given = json.loads(text or "")
    assert (given["share"], given["name"]) == (None, "a?b")


def test_a_secret_in_the_input_does_not_reach_the_run(studio: Studio, persona: Persona):
    hook = studio.triggers.add(persona, "webhook")
    assert hook.secret is not None
    fire = studio.triggers.fire(hook, {"said": hook.secret.get_secret_value()})
    assert fire.execution_id is not None
    given = studio.executions.get(fire.execution_id).input_data
    assert given is not None
    assert hook.secret.get_secret_value() not in given


def test_a_secret_in_a_description_is_not_stored(studio: Studio, persona: Persona):
    hook = studio.triggers.add(persona, "webhook")
    assert hook.secret is not None
    secret = hook.secret.get_secret_value()
    trigger = studio.triggers.add(persona, "manual", description=f"Sign with {secret}!")
    assert trigger.description.startswith("Sign with ")
    assert secret not in studio.triggers.get(trigger).description


def test_fires_are_listed_newest_first(studio: Studio, persona: Persona):
    one, other = studio.triggers.add(persona, "manual"), studio.triggers.add(persona, "webhook")
    fires = [studio.triggers.fire(trigger) for trigger in (one, other, one)]
    assert studio.triggers.fires() == fires[::-1]
    assert studio.triggers.fires(one, limit=1) == [fires[2]]
    with pytest.raises(InvalidInput, match="No fire is “late”"):
        studio.triggers.fires(status="late")


# --- pause and status ----------------------------------------------------------------------------------


def test_a_pause_lasts_until_it_is_lifted_and_keeps_its_time(studio: Studio, clock: Clock):
    assert not studio.triggers.is_paused
    studio.triggers.pause_all(" end of\nyear ")
    clock.move(hours=1)
    studio.triggers.pause_all("audit")
    status = studio.triggers.status()
    assert studio.triggers.is_paused
    assert (status.is_paused, status.pause_reason, status.paused_at) == (True, "audit", NINE)
    studio.triggers.resume_all()
    studio.triggers.resume_all()
    assert not studio.triggers.is_paused


def test_the_status_of_a_new_home_says_that_nobody_fires(studio: Studio):
    status = studio.triggers.status()
    assert not any((status.is_running, status.is_here, status.stands_by, status.is_paused))
    assert (status.next_due, status.next_due_at, status.worst_late_ms) == ((), None, None)
    assert studio._lent is None  # asking starts nothing


def test_the_status_says_what_is_next_and_what_cannot_be(studio: Studio, persona: Persona, clock: Clock):
    later = studio.triggers.add(persona, "schedule", EVERY_MORNING)
    sooner = studio.triggers.add(persona, "polling", {"interval_seconds": 60}, description="look")
    studio.triggers.add(persona, "schedule", {"cron": "0 8 * * *"}, enabled=False)
    never = Trigger(persona_id=persona.id, trigger_type="schedule", config={"cron": "0 0 30 2 *"})
    studio.store.table("triggers", Trigger).insert(never)
    status = studio.triggers.status()
    assert [(one.trigger_id, one.persona, one.description) for one in status.next_due] == [
        (sooner.id, "Watcher", "look"),
        (later.id, "Watcher", ""),
    ]
    assert status.next_due_at == NINE + timedelta(seconds=60)
    assert status.enabled_count == 3
    assert "never fires" in status.unplannable[never.id]


def test_a_home_that_cannot_be_written_is_explained(studio: Studio, persona: Persona):
    from support.disks import unwritable

    studio.triggers.list()
    studio.close()
    with unwritable(studio.home), pytest.raises(StoreError):
        Studio(studio.home).triggers.add("watcher", "manual")


# --- secrets -------------------------------------------------------------------------------------------


SECRET = "xoxb-planted-0123456789"


def in_files(studio: Studio) -> bool:
    return any(SECRET.encode() in file.read_bytes() for file in studio.home.glob("personas.db*"))


def test_a_secret_in_the_reason_of_a_pause_is_not_stored(studio: Studio, persona: Persona):
    studio.credentials.add("team", "slack", {"bot_token": SECRET})
    studio.triggers.pause_all(f"because {SECRET} " + "x" * 500)
    reason = studio.triggers.status().pause_reason
    assert reason.startswith("because [secret ")
    assert len(reason) == 500
    studio.triggers.pause_all("x" * 490 + f" {SECRET}")  # which ends after what is kept
    assert SECRET[:6] not in studio.triggers.status().pause_reason
    assert not in_files(studio)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("polling", {"interval_seconds": 60, "url": f"https://x.example/a?key={SECRET}"}),
        ("webhook", {"path": f"orders/{SECRET}"}),
        ("schedule", {"cron": SECRET}),
        ("manual", {SECRET: 1}),
    ],
)
def test_a_config_that_holds_a_secret_of_the_vault_is_refused(
    studio: Studio, persona: Persona, kind: str, config: dict[str, Any]
):
    studio.credentials.add("team", "slack", {"bot_token": SECRET})
    with pytest.raises(InvalidInput, match="holds a secret of the vault") as caught:
        studio.triggers.add(persona, kind, config)
    assert SECRET not in str(caught.value)
    assert "can use a credential" in str(caught.value)
    assert studio.triggers.list() == []
    assert not in_files(studio)


def test_no_edit_brings_a_secret_into_a_config(studio: Studio, persona: Persona):
    studio.credentials.add("team", "slack", {"bot_token": SECRET})
    added = studio.triggers.add(persona, "polling", {"interval_seconds": 60})
    with pytest.raises(InvalidInput, match="holds a secret of the vault"):
        studio.triggers.edit(added, {"url": f"https://x.example/{SECRET}"})
    assert stored(studio, added).config == {"interval_seconds": 60}


def test_a_webhook_may_share_its_secret_with_a_credential(studio: Studio, persona: Persona):
    studio.credentials.add("team", "slack", {"bot_token": SECRET})
    added = studio.triggers.add(persona, "webhook", {"secret": SECRET})
    assert secret_of(studio.credentials, added) == SECRET
    assert not in_files(studio)


# --- wrong values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields"), [({}, {}), ("manual", {"description": 5}), ("manual", {"description": ["x"]})]
)
def test_a_trigger_of_the_wrong_kind_of_values_is_refused_in_a_sentence(
    studio: Studio, persona: Persona, kind: Any, fields: dict[str, Any]
):
    studio.credentials.add(
        "team", "slack", {"bot_token": SECRET}
    )  # a text is searched only where there is one
    with pytest.raises(InvalidInput):
        studio.triggers.add(persona, kind, **fields)
    assert studio.triggers.list() == []
