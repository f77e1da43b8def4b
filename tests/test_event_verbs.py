"""Events as they are typed: published, heard, seen as a graph, dead and replayed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shell import TestingShell, shell_in
from support.studios import python, wait_until
from test_completion import completed
from test_terminal import personas

from personas_nb import Studio
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.verbs.usage import WrongUsage


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio(shell: TestingShell) -> Iterator[Studio]:
    """Two personas, the first of which emits an event in every run."""
    with Studio() as opened:
        opened.personas.create(name="Desk", system_prompt='When a price has changed, emit "price_changed".')
        opened.personas.create(name="Buyer", system_prompt="You plan what to buy.")
        yield opened
        opened.triggers.stop()


def settled(studio: Studio) -> bool:
    runs = studio.executions.list()
    return not studio.triggers.status().pending_events and all(run.is_finished for run in runs)


def test_a_subscription_starts_a_persona_and_the_list_says_so(shell: TestingShell, studio: Studio) -> None:
    shown = shell.run("%persona events subscribe buyer price_changed --from des*").text
    assert "✓ Buyer listens." in shown
    assert "des*" in shown
    assert "nothing changed" in shell.run("%persona events subscribe buyer Price-Changed --from des*").text
    shell.run("%persona triggers start")
    shell.run("%persona run desk --quiet")
    wait_until(lambda: studio.executions.list("buyer") and settled(studio))
    text = shell.run("%persona events").text
    run = studio.executions.list("buyer")[0]
    assert f"✓ started buyer ({run.id[:8]})" in text
    assert "of the system that nobody heard" in text
    assert "execution_completed" not in text
    assert "execution_completed" in shell.run("%persona events list --all").text


def test_who_starts_whom_is_a_graph_of_its_own(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona events subscribe buyer price_changed")
    shell.run("%persona triggers start")
    shell.run("%persona events publish price_changed")
    wait_until(lambda: studio.executions.list("buyer") and settled(studio))
    shell.run("%persona events")
    graphs = [output["data"] for output in shell.displays if "text/markdown" in output["data"]]
    assert len(graphs) == 1
    assert "```mermaid" in graphs[0]["text/markdown"]
    assert '-->|"price_changed #215; 1"|' in graphs[0]["text/markdown"]
    assert "→  price_changed  →  buyer" in graphs[0]["text/plain"]
    assert "→  price_changed  →  buyer" in personas("events").stdout


@pytest.mark.parametrize(
    ("cell", "data"),
    [
        ('%persona events publish order {"n": 5}', {"n": 5}),
        ("%persona events publish order", {}),
        ("%persona events publish order plain words", {"value": "plain words"}),
        ('%%persona events publish order\n{"rows": [1, 2]}', {"rows": [1, 2]}),
        ("%%persona events publish order\n---\nname: Mira", {"name": "Mira"}),
    ],
)
def test_data_is_typed_in_the_line_or_the_cell(
    shell: TestingShell, studio: Studio, cell: str, data: dict[str, object]
) -> None:
    event = shell.run(cell).value
    assert event.data == data
    assert studio.events.get(event.id).source == "user"


def test_a_variable_of_the_notebook_is_filled_into_the_data(shell: TestingShell, studio: Studio) -> None:
    shell.run("found = {'number': '2026-101'}")
    assert shell.run('%%persona events publish order\n{"invoice": "{found}"}').value.data == {
        "invoice": {"number": "2026-101"}
    }


def test_an_action_says_that_it_is_published_and_not_that_nobody_listens(
    shell: TestingShell, studio: Studio
) -> None:
    text = shell.run('%persona events publish persona_action {"target": "buyer"}').text
    assert "Published." in text
    assert "Nobody listens" not in text


def test_where_nothing_delivers_it_is_said_how_to_begin(shell: TestingShell, studio: Studio) -> None:
    assert "Nobody listens" in shell.run("%persona events publish order").text
    shell.run("%persona events subscribe buyer order --from shop")
    text = shell.run("%persona events publish order --source shop").text
    assert "Nothing delivers events now" in text
    assert "%persona triggers start" in text
    assert "%persona triggers start" in shell.run("%persona events").text


def test_what_a_disabled_persona_missed_is_replayed(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona events subscribe buyer order")
    studio.personas.disable("buyer")
    shell.run("%persona triggers start")
    event = shell.run("%persona events publish order").value
    wait_until(lambda: settled(studio))
    text = shell.run(f"%persona events show {event.id[:8]}").text
    assert "disabled" in text
    assert "%persona enable buyer" in text
    studio.personas.enable("buyer")
    assert "1 run started" in shell.run(f"%persona events replay {event.id[:8]}").text
    wait_until(lambda: settled(studio))
    assert len(studio.executions.list("buyer")) == 1


def test_a_terminal_waits_for_what_it_replays(studio: Studio) -> None:
    studio.events.subscribe("buyer", "order")
    event = studio.events.publish("order")
    studio.personas.disable("buyer")
    studio.worker.run(studio.bus.drain(lambda _db: True))
    studio.personas.enable("buyer")
    done = personas("events", "replay", event.id[:8])
    (run,) = studio.executions.list("buyer")
    assert (done.returncode, run.status) == (0, "completed")
    assert "Delivered again: 1 run started (1 completed)." in done.stdout
    assert f"personas runs show {run.id[:8]}" in done.stdout
    assert "nothing started" in personas("events", "replay", event.id[:8]).stdout


def test_a_run_that_nothing_takes_says_so_once_and_is_waited_for(shell: TestingShell, studio: Studio) -> None:
    studio.events.subscribe("buyer", "order")
    studio.events.publish("order")
    studio.worker.run(studio.bus.drain(lambda _db: True))
    (run,) = studio.executions.list("buyer")
    code = "import sys; from personas_nb.__main__ import main; sys.exit(main(sys.argv[1:]))"
    with python(code, "runs", "wait", run.id) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "It is queued; nothing takes it now. `personas triggers run` does." in said
        studio.triggers.start()
        rest = process.communicate(timeout=60)[0]
    assert "done" in rest
    assert "nothing takes it" not in rest


def test_a_notebook_says_that_nothing_takes_a_run(shell: TestingShell, studio: Studio) -> None:
    studio.events.subscribe("buyer", "order")
    studio.events.publish("order")
    studio.worker.run(studio.bus.drain(lambda _db: True))
    (run,) = studio.executions.list("buyer")
    later = threading.Timer(4, studio.triggers.start)
    later.start()
    shell.run(f"%persona runs wait {run.id[:8]}")
    later.join()
    shown = [output["data"]["text/plain"] for output in shell.displays]
    assert any("nothing takes it now. `%persona triggers start` does." in text for text in shown)
    assert "✓ done" in shown[-1]


def test_a_dead_letter_says_why_and_a_replay_checks_everything_anew(
    shell: TestingShell, studio: Studio
) -> None:
    assert "Every event came where it should" in shell.run("%persona events dead").text
    studio.personas.create(name="Echo", system_prompt='When an echo is heard, emit "shout".')
    studio.personas.create(name="Voice", system_prompt='When a shout is heard, emit "echo".')
    shell.run("%persona events subscribe echo echo")
    shell.run("%persona events subscribe voice shout")
    shell.run("%persona triggers start")
    shell.run("%persona events publish shout")
    wait_until(lambda: studio.events.dead() and settled(studio), 60)
    text = shell.run("%persona events dead").text
    assert "event_chain_depth" in text
    letter = studio.events.dead()[0]
    assert f"%persona events replay {letter.id[:8]}" in text
    runs = len(studio.executions.list())
    assert "nothing started" in shell.run("%persona events replay latest").text
    assert len(studio.executions.list()) == runs
    assert "dead letter" in shell.run("%persona triggers status").text


def test_a_subscription_is_switched_off_on_and_ended(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona events subscribe buyer order")
    identity = studio.events.subscriptions()[0].id[:8]
    assert f"%persona events enable {identity}" in shell.run(f"%persona events disable {identity}").text
    assert "nothing changed" in shell.run("%persona events disable latest").text
    assert "○ off" in shell.run("%persona events subscriptions buyer").text
    assert "from now on" in shell.run(f"%persona events enable {identity}").text
    assert "listens to order no longer" in shell.run(f"%persona events unsubscribe {identity}").text
    assert "No persona listens" in shell.run("%persona events subscriptions").text


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("events publish", WrongUsage, "needs TYPE"),
        ("events subscribe buyer", WrongUsage, "needs TYPE"),
        ("events subscribe nobody order", NotFound, "no persona"),
        ("events subscribe buyer order*", InvalidInput, "no “*”"),
        ("events show 1234", NotFound, "no event"),
        ("events replay 1234", NotFound, "no dead letter"),
        ("events unsubscribe 1234", NotFound, "no subscription"),
        ("events enable latest", NotFound, "no subscription"),
        ('events publish persona_action {"target": "nobody"}', NotFound, "no persona"),
        ("events nobody", NotFound, "no persona"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    shell: TestingShell, studio: Studio, line: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as refused:
        shell.run(f"%persona {line}")
    assert words in str(refused.value)
    assert studio.events.list() == []


def test_types_and_ids_are_offered(shell: TestingShell, studio: Studio) -> None:
    shell.run("%persona events subscribe buyer order_found")
    event = shell.run("%persona events publish order_found").value
    assert completed(shell, "%persona events publish ord") == ["%persona events publish order_found"]
    assert "%persona events subscribe desk execution_failed" in completed(
        shell, "%persona events subscribe desk exe"
    )
    assert f"%persona events show {event.id[:8]}" in completed(shell, "%persona events show ")
    subscription = studio.events.subscriptions()[0]
    assert completed(shell, "%persona events unsubscribe ") == [
        f"%persona events unsubscribe {subscription.id[:8]}"
    ]


def test_a_terminal_publishes_what_it_is_given(studio: Studio) -> None:
    done = personas("events", "publish", "order", "-", given='{"n": 5}')
    assert done.returncode == 0
    assert studio.events.get("latest").data == {"n": 5}
    assert personas("events", "publish", "order", '{"n": 6}').returncode == 0
    assert studio.events.get("latest").data == {"n": 6}
