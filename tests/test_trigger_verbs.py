"""Triggers as they are typed: words and cron, on and off, what fires, what was skipped, and no secret in a notebook."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shell import TestingShell, shell_in
from support.studios import wait_until
from test_completion import completed
from test_terminal import personas

from personas_nb import Studio
from personas_nb.errors import InvalidInput, NotFound, PersonaError
from personas_nb.triggers.webhooks import secret_of
from personas_nb.verbs.timing import wanted
from personas_nb.verbs.usage import WrongUsage


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestingShell]:
    monkeypatch.setenv("PERSONAS_TIMEZONE", "Europe/Berlin")
    yield from shell_in(tmp_path)


@pytest.fixture
def studio(shell: TestingShell) -> Iterator[Studio]:
    with Studio() as opened:
        for name in ("Mail boy", "Clerk"):
            opened.personas.create(name=name, system_prompt="You watch.")
        yield opened


# What is typed, as a config


@pytest.mark.parametrize(
    ("kind", "typed", "config"),
    [
        ("schedule", "every weekday at 9", {"cron": "0 9 * * 1-5"}),
        ("schedule", '"every day at 7:30" timezone=UTC', {"cron": "30 7 * * *", "timezone": "UTC"}),
        ("schedule", "every day at 9 New York time", {"cron": "0 9 * * *", "timezone": "America/New_York"}),
        ("schedule", "*/20 8-17 * * 1-5 catch_up=skip", {"cron": "*/20 8-17 * * 1-5", "catch_up": "skip"}),
        ("schedule", "cron=0 9 * * 1-5 timezone=UTC", {"cron": "0 9 * * 1-5", "timezone": "UTC"}),
        ("schedule", "@daily", {"cron": "@daily"}),
        ("schedule", '{"cron": "0 9 * * *"}', {"cron": "0 9 * * *"}),
        ("polling", "every 45 minutes", {"interval_seconds": 2700}),
        ("polling", "90s", {"interval_seconds": 90}),
        ("polling", "two hours url=https://x.example/a?b=c", {"interval_seconds": 7200, "url": "https://x.example/a?b=c"}),
        ("polling", "interval_seconds=60", {"interval_seconds": 60}),
        ("webhook", "", {}),
        ("manual", None, {}),
    ],
)  # fmt: skip
def test_words_cron_fields_and_json_are_read(kind: str, typed: str | None, config: dict[str, object]) -> None:
    (one,) = wanted(kind, typed)
    assert (one.trigger_type, one.config) == (kind, config)


def test_what_was_put_right_assumed_or_left_out_is_said() -> None:
    assert "“weekdy” was read as “weekday”" in wanted("schedule", "every weekdy at 9")[0].note
    assert "assumed" in wanted("schedule", "every tuesday")[0].note
    assert "“post the report” says nothing" in wanted("schedule", "every day at noon post the report")[0].note
    assert wanted("schedule", "every weekday at 9")[0].note == ""


@pytest.mark.parametrize(
    ("kind", "typed", "said"),
    [
        ("schedule", "every first monday at 9", "“every first” could not be read as a part of the time"),
        ("schedule", "every monday in july at 9", "“in july at 9” could not be read"),
        ("schedule", "every 31st of february at 9", "“of february at 9” could not be read"),
        ("schedule", "daily at 9 Europe/Nowhere", "“Europe/Nowhere” could not be read"),
        ("schedule", "every weekday at 25:00", "“at 25:00” could not be read"),
        ("schedule", "MON 9 * * *", "“9 * * *” could not be read"),
        ("schedule", "soon", "names no time that can be read. Write it in words"),
        ("schedule", "every other monday at 9", "No trigger can hold “every other monday”. The nearest"),
        ("schedule", "60 9 * * *", "no minute"),
        ("schedule", "0 9 30 2 *", "never fires"),
        ("polling", "now and then", "no period"),
        ("webhook", "at nine", "has no time"),
        ("schedule", '{"cron":', "no JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_can(kind: str, typed: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        wanted(kind, typed)
    assert said in str(refused.value)


@given(st.text(max_size=120))
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    for kind in ("schedule", "polling", "webhook", "manual"):
        with suppress(PersonaError):
            assert wanted(kind, text)


# Adding and changing


def test_a_schedule_in_words_says_what_was_understood_and_the_next_three_times(
    shell: TestingShell, studio: Studio
) -> None:
    view = shell.run("%persona triggers add mail-boy schedule every weekday at 9")
    assert "every weekday at 09:00 (Europe/Berlin)" in view.text
    assert view.text.partition("next (Europe/Berlin)")[2].partition("\n")[0].count(" 09:00") == 3
    (stored,) = studio.triggers.list("mail-boy")
    assert stored.config == {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}
    assert stored.next_trigger_at is not None


def test_the_same_again_changes_nothing_and_says_so(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add mail-boy schedule every weekday at 9")
    before = studio.triggers.list()
    assert "nothing changed" in shell.run("%persona triggers add mail-boy schedule 0 9 * * 1-5").text
    assert studio.triggers.list() == before


def test_what_adding_again_does_not_do_is_another_verb(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk manual")
    (trigger,) = studio.triggers.list()
    text = shell.run("%persona triggers add clerk manual --off --allow-bypass").text
    assert f"nothing changed. `%persona triggers disable {trigger.id[:8]}` switches it off." in text
    assert f"`%persona triggers enable {trigger.id[:8]} --allow-bypass` allows it." in text
    assert studio.triggers.get(trigger.id) == trigger


def test_words_that_name_two_times_make_two_triggers(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk schedule weekdays at 9 and Saturdays at 11 --off")
    assert [one.config["cron"] for one in studio.triggers.list()] == ["0 9 * * 1-5", "0 11 * * 6"]
    assert not any(one.enabled for one in studio.triggers.list())
    assert "every Saturday at 11:00" in shell.text


def test_a_period_that_no_cron_holds_is_counted_and_that_is_said(shell: TestingShell, studio: Studio) -> None:
    assert "No cron can hold this" in shell.run("%persona triggers add clerk schedule every 45 minutes").text
    assert studio.triggers.list()[0].config == {"interval_seconds": 2700}


def test_a_variable_of_the_notebook_is_filled_in(shell: TestingShell, studio: Studio) -> None:
    shell.run("page = 'https://example.com/prices.json'")
    shell.run('%persona triggers add clerk polling every 5 minutes url={page} --description "Metal prices"')
    (one,) = studio.triggers.list()
    assert (one.config["url"], one.description) == ("https://example.com/prices.json", "Metal prices")


def test_editing_keeps_what_is_not_named(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk schedule 0 9 * * 1-5 timezone=Asia/Tokyo catch_up=all")
    assert (
        "every weekday at 08:30 (Asia/Tokyo)"
        in shell.run("%persona triggers edit latest weekdays at 8:30").text
    )
    shell.run("%persona triggers edit latest catch_up=None")
    assert studio.triggers.list()[0].config == {"cron": "30 8 * * 1-5", "timezone": "Asia/Tokyo"}
    assert "nothing changed" in shell.run("%persona triggers edit latest timezone=Asia/Tokyo").text
    with pytest.raises(InvalidInput, match="a trigger has one"):
        shell.run("%persona triggers edit latest weekdays at 9 and Saturdays at 11")
    with pytest.raises(InvalidInput, match="Add a poller"):
        shell.run("%persona triggers edit latest every 45 minutes")


def test_it_is_switched_off_on_and_removed(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk polling every 5 minutes")
    identity = studio.triggers.list()[0].id[:8]
    assert f"%persona triggers enable {identity}" in shell.run(f"%persona triggers disable {identity}").text
    assert "nothing changed" in shell.run(f"%persona triggers disable {identity}").text
    assert "○ off" in shell.run("%persona triggers clerk").text
    assert "✓ It is on." in shell.run(f"%persona triggers enable {identity}").text
    assert "nothing changed" in shell.run(f"%persona triggers enable {identity}").text
    assert "every 5 minutes, is gone" in shell.run("%persona triggers remove latest").text
    assert studio.triggers.list() == []


def test_the_card_of_a_persona_shows_its_next_times_and_that_nothing_fires(
    shell: TestingShell, studio: Studio
) -> None:
    shell.run("%persona triggers add clerk schedule every day at 9")
    due = studio.triggers.list()[0].next_trigger_at
    assert due is not None
    text = shell.run("%persona show clerk").text
    assert "next (Europe/Berlin)" in text
    assert "09:00" in text.partition("Triggers")[2]
    assert "%persona triggers start" in text


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("triggers add", WrongUsage, "needs NAME"),
        ("triggers add clerk often", WrongUsage, "cannot be “often”"),
        ("triggers add nobody schedule every day at 9", NotFound, "no persona"),
        ("triggers add clerk schedule", InvalidInput, "needs a cron"),
        ("triggers add clerk schedule every day at 9 timezone=Mars/Base", InvalidInput, "Mars/Base"),
        ("triggers add clerk schedule 0 9 * * * catchup=all", InvalidInput, "Did you mean “catch_up”"),
        ("triggers add clerk polling every 5 minutes url=ftp://x", InvalidInput, "no http"),
        ("triggers show 1234", NotFound, "no trigger"),
        ("triggers show latest", NotFound, "triggers add"),
        ("triggers run", WrongUsage, "terminal"),
        ("triggers history --status late", WrongUsage, "cannot be"),
        (
            "triggers history --limit 99999999999999999999",
            WrongUsage,
            "a whole number of at most 999,999,999",
        ),
        ("triggers history --limit 0", WrongUsage, "a whole number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    shell: TestingShell, studio: Studio, line: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as refused:
        shell.run(f"%persona {line}")
    assert words in str(refused.value)
    assert studio.triggers.list() == []


# Firing


def test_this_kernel_fires_and_the_history_says_what_became_of_it(
    shell: TestingShell, studio: Studio
) -> None:
    shell.run("%persona triggers add clerk polling every 1 second")
    assert "▶ firing" in shell.run("%persona triggers start").text
    assert "nothing changed" in shell.run("%persona triggers start").text
    wait_until(lambda: [run for run in studio.executions.list("clerk") if run.is_finished])
    run = studio.executions.list("clerk")[-1]
    text = shell.run("%persona triggers history").text
    assert run.id[:8] in text
    assert "REHEARSAL" in text
    assert "▶ Triggers are fired by" in shell.run("%persona triggers").text
    assert "Nothing fires from here any more" in shell.run("%persona triggers stop").text
    assert "nothing changed" in shell.run("%persona triggers stop").text
    assert not studio.triggers.status().is_running


def test_a_pause_skips_with_its_reason_and_says_how_to_resume(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk polling every 1 second")
    shell.run("%persona triggers pause the server moves")
    assert "paused already" in shell.run("%persona triggers pause").text
    shell.run("%persona triggers start")
    wait_until(lambda: studio.triggers.fires(status="skipped"))
    text = shell.run("%persona triggers history --status skipped").text
    assert "the server moves" in text or "All triggers are paused" in text
    assert "%persona triggers resume" in text
    assert studio.executions.list() == []
    assert "fire again" in shell.run("%persona triggers resume").text
    assert "nothing changed" in shell.run("%persona triggers resume").text
    shell.run("%persona triggers stop")


def test_firing_by_hand_takes_the_cell_as_input_and_names_the_run(
    shell: TestingShell, studio: Studio
) -> None:
    shell.run("%persona triggers add clerk manual")
    view = shell.run('%%persona triggers fire latest\n{"only": "what is new"}')
    run = view.value.execution_id
    assert f"%persona runs wait {run[:8]}" in view.text
    wait_until(lambda: studio.executions.get(run).is_finished)
    assert json.loads(studio.executions.get(run).input_data or "")["only"] == "what is new"


def test_a_fire_of_a_disabled_persona_is_a_skip_that_says_what_helps(
    shell: TestingShell, studio: Studio
) -> None:
    shell.run("%persona triggers add clerk manual")
    studio.personas.disable("clerk")
    text = shell.run("%persona triggers fire latest").text
    assert "○ skipped" in text
    assert "%persona enable clerk" in text


# The secret of a webhook


def test_a_notebook_never_shows_the_secret_of_a_webhook(shell: TestingShell, studio: Studio) -> None:
    shown = []
    for line in ("add clerk webhook", "show latest", "list", "disable latest", "enable latest", "history"):
        shell.run(f"%persona triggers {line}")
        shown.append(json.dumps([shell.displays, shell.values, shell.text], default=str))
    hook = studio.triggers.list()[0]
    secret = secret_of(studio.credentials, hook)
    assert secret is not None
    assert not any(secret in text for text in shown)
    assert f"personas triggers secret {hook.id[:8]}" in shown[0]
    assert f"personas/webhook/{hook.id}" in shown[0]
    with pytest.raises(WrongUsage, match="would save the secret"):
        shell.run("%persona triggers secret latest")


def test_the_secret_goes_into_a_new_file_that_only_its_owner_reads(
    shell: TestingShell, studio: Studio, tmp_path: Path
) -> None:
    shell.run("%persona triggers add clerk webhook")
    path = tmp_path / "hook.secret"
    text = shell.run(f"%persona triggers secret latest --file {path}").text
    secret = secret_of(studio.credentials, studio.triggers.list()[0])
    assert path.read_text() == f"{secret}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in text
    with pytest.raises(InvalidInput, match="exists"):
        shell.run(f"%persona triggers secret latest --file {path}")
    with pytest.raises(InvalidInput, match="cannot be written"):
        shell.run(f"%persona triggers secret latest --file {tmp_path}/none/x")


def test_a_terminal_shows_the_secret_and_a_command_of_a_notebook_does_not(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = personas("triggers", "add", "clerk", "webhook")
    hook = studio.triggers.list()[0]
    secret = secret_of(studio.credentials, hook)
    assert secret is not None
    assert secret in made.stdout
    assert personas("triggers", "secret", hook.id).stdout == f"{secret}\n"
    assert secret not in personas("triggers", "show", hook.id).stdout
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))  # what a kernel's “!” has
    refused = personas("triggers", "secret", hook.id)
    assert (refused.returncode, refused.stdout) == (2, "")
    again = personas("triggers", "add", "clerk", "webhook", "path=/orders")
    other = secret_of(studio.credentials, studio.triggers.list()[-1])
    assert other is not None
    assert other not in again.stdout


@pytest.mark.parametrize("line", ["add clerk webhook secret={}", 'add clerk webhook {{"secret": "{}"}}'])
def test_a_secret_in_the_line_is_refused_and_not_repeated(
    shell: TestingShell, studio: Studio, line: str
) -> None:
    with pytest.raises(InvalidInput, match="would be saved") as refused:
        shell.run("%persona triggers " + line.format("planted-secret-0123456789"))
    assert "planted" not in str(refused.value)
    assert studio.triggers.list() == []


def test_only_a_webhook_has_a_secret(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk manual")
    with pytest.raises(InvalidInput, match="has no secret"):
        shell.run("%persona triggers secret latest")


# In a terminal, and while typing


def test_a_terminal_is_told_what_makes_sense_there(studio: Studio) -> None:
    shown = personas("triggers", "add", "clerk", "schedule", "every weekday at 9", "timezone=UTC").stdout
    assert "every weekday at 09:00 (UTC)" in shown
    assert "personas triggers run" in shown
    assert "triggers start" not in shown
    refused = personas("triggers", "start")
    assert refused.returncode == 2
    assert "personas triggers run" in refused.stderr


def test_a_terminal_waits_for_what_it_fires(studio: Studio) -> None:
    made = personas("triggers", "fire", studio.triggers.add("clerk", "manual").id)
    (run,) = studio.executions.list()
    assert (made.returncode, run.status) == (0, "completed")
    assert f"personas runs show {run.id[:8]}" in made.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%persona triggers add clerk sch", ["%persona triggers add clerk schedule"]),
        ("%persona triggers add clerk schedule tim", ["%persona triggers add clerk schedule timezone="]),
        ("%persona triggers add clerk polling 5m u", ["%persona triggers add clerk polling 5m url="]),
        (
            "%persona triggers add clerk schedule every day at 9 catch_up=",
            [f"%persona triggers add clerk schedule every day at 9 catch_up={one}" for one in ("once", "skip", "all")],
        ),
        (
            "%persona triggers add clerk schedule every day at 9 timezone=Europe/Berl",
            ["%persona triggers add clerk schedule every day at 9 timezone=Europe/Berlin"],
        ),
    ],
)  # fmt: skip
def test_types_keys_zones_and_choices_are_offered(
    shell: TestingShell, studio: Studio, line: str, expected: list[str]
) -> None:
    assert completed(shell, line) == expected


def test_ids_of_triggers_are_offered(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona triggers add clerk manual")
    identity = studio.triggers.list()[0].id[:8]
    assert completed(shell, "%persona triggers disable ") == [
        f"%persona triggers disable {identity}",
        "%persona triggers disable latest",
    ]
