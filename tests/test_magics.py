"""%persona in a real IPython: values, displays, errors, variables, loading and unloading."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in

from personas_nb import PersonaError, Studio
from personas_nb.errors import Cancelled, ExecutionFailed, InvalidInput, NotFound, StoreReadOnly, TooLarge
from personas_nb.verbs.failures import Unexpected
from personas_nb.verbs.usage import WrongUsage


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as opened:
        yield opened


@pytest.fixture
def echo(studio: Studio) -> str:
    return studio.personas.create(name="Echo", system_prompt="Repeat the input.").slug


def use_server(monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> None:
    monkeypatch.setenv("PERSONAS_PROVIDER", "custom")
    monkeypatch.setenv("PERSONAS_BASE_URL", server.url + "/v1")
    monkeypatch.setenv("PERSONAS_MODEL", "scripted")


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def interrupt_when(condition: Callable[[], object]) -> None:
    """What the stop button of a notebook does, once the condition holds."""
    if eventually(condition):
        os.kill(os.getpid(), signal.SIGINT)


# Values and displays


def test_persona_alone_is_an_overview_that_says_how_to_begin(shell):
    view = shell.run("%persona")
    assert "%persona design" in view.text
    assert shell.values[0]["text/html"] == view.html


def test_a_run_streams_in_one_display_that_ends_as_its_card(shell, echo):
    execution = shell.run(f"%%persona run {echo}\nhello")
    ids = {output["transient"]["display_id"] for output in shell.displays}
    assert len(ids) == 1
    assert shell.displays[0]["update"] is False
    assert "✓ done" in shell.text
    assert "hello" in shell.text
    assert execution.status == "completed"


def test_the_execution_is_the_value_but_is_not_shown_a_second_time(shell, echo):
    execution = shell.run(f"%%persona run {echo}\nhello")
    assert shell.values == []
    assert shell.user_ns["_"] is execution


def test_a_later_cell_shows_the_execution_again(shell, echo):
    shell.run(f"%%persona run {echo} -o result\nhello")
    shell.run("result")
    assert "✓ done" in shell.text


def test_an_execution_that_was_shown_can_be_pickled_and_copied(shell, echo):
    execution = shell.run(f"%persona run {echo}")
    assert pickle.loads(pickle.dumps(execution)) == execution
    assert copy.deepcopy(execution) == execution
    assert execution.changed(error="x").error == "x"


def test_an_assignment_takes_the_value(shell, echo):
    shell.run(f"run = %persona run {echo}")
    assert shell.user_ns["run"].persona_name == "Echo"


def test_quiet_shows_nothing_and_still_gives_the_execution(shell, echo):
    execution = shell.run(f"%%persona run {echo} --quiet\nhello")
    assert shell.displays == shell.values == []
    assert "hello" in execution.output_data


def test_a_semicolon_shows_nothing_and_gives_the_value(shell, echo):
    view = shell.run("%persona list;")
    execution = shell.run(f"%persona run {echo};")
    assert shell.displays == shell.values == []
    assert [persona.slug for persona in view.value] == [echo]
    assert execution.status == "completed"


def test_a_design_shows_its_card_and_its_graph_as_outputs_of_their_own(shell):
    shell.run('%persona design "Every weekday at 9 read notes.txt and post a summary"')
    kinds = [set(output["data"]) for output in shell.displays]
    assert {"text/plain", "text/html"} in kinds
    assert any("text/markdown" in kind for kind in kinds)


def test_costs_show_a_chart_with_words_beside_it(shell, echo):
    shell.run(f"%persona run {echo} --quiet")
    view = shell.run("%persona costs --days 7")
    assert list(view.value["persona"]) == ["Echo"]
    assert any("image/png" in output["data"] and output["data"]["text/plain"] for output in shell.displays)


def test_metrics_are_a_data_frame(shell, echo):
    shell.run(f"%persona run {echo} --quiet")
    frame = shell.run("%persona metrics")
    assert list(frame["status"]) == ["completed"]


# Variables


def test_a_variable_fills_the_cell_and_other_braces_stay(shell, echo):
    shell.run("city = 'Brno'")
    execution = shell.run(f"%%persona run {echo} --quiet\nIn {{city}}: {{nothing}} {{1}}")
    assert execution.input_data == "In Brno: {nothing} {1}"


def test_raw_fills_nothing(shell, echo):
    shell.run("city = 'Brno'")
    execution = shell.run(f"%%persona run {echo} --quiet --raw\nIn {{city}}")
    assert execution.input_data == "In {city}"


def test_a_variable_in_the_line_is_never_an_option(shell, echo):
    shell.run("name = 'echo --help'")
    with pytest.raises(NotFound, match="echo --help"):
        shell.run("%persona show {name}")


def test_a_frame_in_a_json_cell_is_csv_and_the_card_says_what_was_cut(shell, echo):
    shell.run("import pandas\ndf = pandas.DataFrame({'n': range(300)})")
    execution = shell.run(f'%%persona run {echo}\n{{"rows": "{{df}}"}}')
    assert "the first 200 of 300 rows" in shell.text
    assert "n\\n0\\n1" in execution.input_data


def test_output_keeps_the_execution_before_a_failure_is_raised(shell, echo, monkeypatch):
    with ModelServer([Turn.error(401, "no such key")]) as server:
        use_server(monkeypatch, server)
        with pytest.raises(ExecutionFailed) as caught:
            shell.run(f"%%persona run {echo} -o result\nhello")
    assert shell.user_ns["result"].status == "failed"
    assert shell.user_ns["result"].id == caught.value.execution.id


def test_output_must_be_the_name_of_a_variable(shell, echo, studio):
    with pytest.raises(WrongUsage, match="cannot name a variable"):
        shell.run(f"%persona run {echo} -o a-b")
    assert studio.executions.list() == []


def test_no_raise_gives_the_failed_execution(shell, echo, monkeypatch):
    with ModelServer([Turn.error(401, "no such key")]) as server:
        use_server(monkeypatch, server)
        assert shell.run(f"%persona run {echo} --no-raise").status == "failed"


def test_settings_of_the_environment_that_change_between_cells_count(shell, echo, monkeypatch):
    assert shell.run(f"%persona run {echo} --quiet").rehearsal
    with ModelServer([Turn.text("Hello from a server.")]) as server:
        use_server(monkeypatch, server)
        execution = shell.run(f"%persona run {echo} --quiet")
    assert execution.output_data == "Hello from a server."


# Errors


def test_an_error_is_one_sentence_and_the_next_step(shell, echo):
    with pytest.raises(NotFound):
        shell.run("%persona show eco")
    assert shell.tracebacks == [["There is no persona “eco”. Did you mean “echo”?"]]


def test_short_errors_can_be_switched_off(shell):
    shell.run("%config PersonaMagics.short_errors = False")
    with pytest.raises(NotFound):
        shell.run("%persona show nobody")
    assert len(shell.tracebacks[0]) > 1


def test_an_error_of_plain_python_keeps_its_traceback(shell):
    with pytest.raises(NotFound):
        shell.run("%persona show nobody")
    with pytest.raises(NotFound):
        shell.run("from personas_nb import Studio\nwith Studio() as s:\n    s.personas.get('nobody')")
    assert len(shell.tracebacks[0]) > 1


def test_something_unexpected_is_a_sentence_and_a_redacted_traceback_in_the_log(shell, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-very-secret-key")

    def broken(_call: object) -> None:
        raise ZeroDivisionError("with sk-ant-very-secret-key")

    monkeypatch.setattr("personas_nb.verbs.looking.health", broken)
    with pytest.raises(Unexpected) as caught:
        shell.run("%persona health")
    log = Path(os.environ["PERSONAS_HOME"], "logs", "errors.log")
    assert "ZeroDivisionError" in log.read_text()
    assert "Traceback" in log.read_text()
    assert "very-secret" not in log.read_text() + shell.tracebacks[0][0]
    assert str(log) in shell.tracebacks[0][0]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_group_of_errors_behind_one_is_still_one_sentence(shell, monkeypatch, capsys):
    def broken(_call: object) -> None:
        try:
            raise ExceptionGroup("many", [ValueError("a")])
        except ExceptionGroup:
            raise PersonaError("It did not work.", hint="Try again.")  # noqa: B904 - the context is the point

    monkeypatch.setattr("personas_nb.verbs.looking.health", broken)
    with pytest.raises(PersonaError):
        shell.run("%persona health")
    assert shell.tracebacks == [["It did not work. Try again."]]
    assert capsys.readouterr().err == ""


def test_an_interrupt_cancels_the_run_keeps_what_it_had_and_raises_in_short(shell, echo, studio, monkeypatch):
    def has_said_something() -> bool:
        runs = studio.executions.list(status="running")
        return bool(shell.displays and runs and studio.executions.recorded(runs[0].id))

    with ModelServer([Turn.text("Beginning to work on it", chunk=4).hang_after(3)]) as server:
        use_server(monkeypatch, server)
        threading.Thread(target=lambda: interrupt_when(has_said_something), daemon=True).start()
        with pytest.raises(Cancelled):
            shell.run(f"%%persona run {echo} -o result\nhello")
    assert len(shell.tracebacks[0]) == 1
    assert shell.user_ns["result"].status == "cancelled"
    assert "cancelled" in shell.text


def test_interrupting_a_design_leaves_its_session_as_it_was(shell, studio, monkeypatch):
    with ModelServer([Turn.hang()]) as server:
        use_server(monkeypatch, server)
        threading.Thread(target=lambda: interrupt_when(lambda: server.requests), daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            shell.run('%persona design notes "Read my notes"')
    assert shell.tracebacks == [["Interrupted."]]
    assert eventually(lambda: studio.sessions.get().state == "idle")


def test_stopping_to_wait_leaves_the_run_alone(shell, echo, studio, monkeypatch):
    with ModelServer([Turn.text("Slowly", chunk=2).hang_after(1)]) as server:
        use_server(monkeypatch, server)
        handle = shell.run(f"%persona run {echo} --background").value
        threading.Thread(target=lambda: interrupt_when(lambda: shell.displays), daemon=True).start()
        with pytest.raises(PersonaError, match="goes on"):
            shell.run("%persona runs wait latest")
        assert not studio.executions.get(handle.id).is_finished
        assert "is cancelled" in shell.run("%persona runs cancel latest").text


def test_an_input_behind_the_name_is_told_where_it_belongs(shell, echo, studio):
    with pytest.raises(WrongUsage, match="%%persona run echo"):
        shell.run(f'%persona run {echo} "hello there"')
    assert studio.executions.list() == []


# Bad input


@pytest.mark.parametrize(
    "cell", ["%%persona design\n  \n", '%persona design ""', "%persona design", "%persona design -- "]
)
def test_an_empty_instruction_is_refused_before_anything_is_stored(shell, studio, cell):
    with pytest.raises(InvalidInput, match="instruction is empty"):
        shell.run(cell)
    assert studio.sessions.list() == []


def test_an_empty_cell_is_no_input(shell, echo, studio):
    with pytest.raises(InvalidInput, match="cell is empty"):
        shell.run(f"%%persona run {echo}\n\n")
    assert studio.executions.list() == []


def test_a_verb_without_a_cell_says_so(shell):
    with pytest.raises(WrongUsage, match="takes no cell"):
        shell.run("%%persona list\nsomething")


def test_an_unknown_verb_gets_the_nearest_one(shell):
    with pytest.raises(WrongUsage, match="Did you mean “design”"):
        shell.run('%persona desing "something"')


def test_fifty_megabytes_of_input_are_refused_with_the_limit(shell, echo, studio):
    shell.user_ns["cell"] = "x" * 50_000_000
    with pytest.raises(TooLarge, match="limit is 10 MiB"):
        shell.run(f"get_ipython().run_cell_magic('persona', 'run {echo}', cell)")
    assert studio.executions.list() == []


def test_a_variable_of_fifty_megabytes_is_refused_too(shell, echo):
    shell.user_ns["big"] = "x" * 50_000_000
    with pytest.raises(TooLarge, match="limit is 10 MiB"):
        shell.run(f"%%persona run {echo}\n{{big}}")


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that may be read and not written; root, who may write everywhere, becomes somebody else."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.rmdir()


def test_a_home_that_cannot_be_written_is_said(shell, monkeypatch, locked_folder):
    monkeypatch.setenv("PERSONAS_HOME", str(locked_folder / "home"))
    with pytest.raises(StoreReadOnly):
        shell.run("%persona list")
    assert len(shell.tracebacks[0]) == 1


def test_a_home_below_a_file_is_said_in_one_sentence(shell, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PERSONAS_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(PersonaError):
        shell.run("%persona list")
    assert len(shell.tracebacks[0]) == 1


# Loading


def test_unloading_leaves_nothing_behind_and_loading_again_works(shell):
    shell.run("%persona")
    matchers = len(shell.Completer.custom_matchers)
    shell.run("%unload_ext personas_nb")
    assert shell.find_line_magic("persona") is None
    assert shell.find_cell_magic("persona") is None
    assert len(shell.Completer.custom_matchers) == matchers - 1
    assert not [one for one in shell.configurables if type(one).__name__ == "PersonaMagics"]
    assert not [
        name
        for name in shell.display_formatter.mimebundle_formatter.deferred_printers
        if "persona" in str(name)
    ]
    shell.run("%load_ext personas_nb")
    assert "%persona design" in shell.run("%persona").text


def test_reloading_keeps_one_of_everything(shell):
    shell.run("%reload_ext personas_nb")
    assert len([one for one in shell.configurables if type(one).__name__ == "PersonaMagics"]) == 1
    identifiers = [getattr(one, "matcher_identifier", "") for one in shell.Completer.custom_matchers]
    assert identifiers.count("personas_nb") == 1


def test_unloading_stops_the_worker(shell, echo):
    shell.run(f"%persona run {echo} --quiet")
    worker = shell.magics_manager.registry["PersonaMagics"].kernel.studio.worker
    shell.run("%unload_ext personas_nb")
    assert worker.is_stopping


def test_another_home_is_another_studio(shell, echo, monkeypatch, tmp_path):
    assert "Echo" in shell.run("%persona list").text
    monkeypatch.setenv("PERSONAS_HOME", str(tmp_path / "other"))
    assert "No persona yet" in shell.run("%persona list").text


def test_a_terminal_prints_the_text_as_it_comes_and_shows_no_html(shell, echo, monkeypatch, capsys):
    monkeypatch.setattr("personas_nb.magics._is_plain", lambda _shell: True)
    shell.run(f"%%persona run {echo}\nhello")
    printed = capsys.readouterr().out
    assert shell.displays == []
    assert "hello" in printed
    assert "✓ done" in printed
    assert "<div" not in printed
