"""What each verb does, typed into a real IPython in rehearsal; and that the docs say what the table says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from support.model_server import ModelServer, Turn
from support.shell import TestingShell, shell_in

from personas_nb import Studio
from personas_nb.entities.memory import Memory
from personas_nb.entities.message import Message
from personas_nb.entities.review import Review
from personas_nb.errors import DesignError, InvalidInput, NotFound, PersonaError
from personas_nb.verbs import table
from personas_nb.verbs.reference import reference

SENTENCE = "Every weekday at 9 read notes.txt and post a summary"


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


# Designing


def test_a_sentence_becomes_a_persona_that_runs(shell, studio):
    shell.run(f'%persona design notes "{SENTENCE}"')
    shell.run("%persona refine at 8 instead")
    assert "notes" in shell.run("%persona apply").text
    assert shell.run("%persona run notes --quiet").status == "completed"


def test_the_cell_is_the_instruction(shell, studio):
    shell.run(f"%%persona design Notes\n{SENTENCE}\n")
    assert shell.user_ns["_"].value.record.instruction == SENTENCE


def test_everything_twice_changes_nothing_the_second_time(shell, studio):
    for _ in range(2):
        shell.run(f'%persona design notes "{SENTENCE}"')
        last = shell.run("%persona apply").text
    assert "nothing changed" in last
    assert [persona.version for persona in studio.personas.list()] == [1]
    assert "nothing changed" in shell.run("%persona apply").text


def test_without_a_session_the_last_one_of_this_kernel_is_meant(shell, studio):
    shell.run(f'%persona design first "{SENTENCE}"')
    studio.design(SENTENCE, name="second")
    shell.run("%persona apply")
    assert [persona.name for persona in studio.personas.list()] == ["first"]


def test_a_new_kernel_goes_on_with_the_newest_session(shell, studio):
    studio.design(SENTENCE, name="before")
    shell.run("%persona apply")
    assert [persona.name for persona in studio.personas.list()] == ["before"]


def test_a_session_is_chosen_resumed_and_discarded_by_a_piece_of_its_id(shell, studio):
    first = studio.design(SENTENCE, name="first")
    studio.design(SENTENCE, name="second")
    shell.run(f"%persona feasibility --session {first.id[:8]}")
    shell.run(f"%persona sessions resume {first.id[:8]}")
    shell.run("%persona apply")
    assert [persona.name for persona in studio.personas.list()] == ["first"]
    shell.run(f"%persona sessions discard {first.id[:8]}")
    assert [session.record.name for session in studio.sessions.list()] == ["second"]


def test_the_cell_is_the_wish_and_the_answer(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    shell.run("%%persona refine\nDo it at 8 instead,\nand don't be rude.")
    assert "0 8 * * 1-5" in shell.text
    shell.run('%persona design "Help me"')
    shell.run("%%persona answer\nRead notes.txt and tell me what is urgent")
    assert "Read notes.txt" in shell.text


def test_a_session_whose_design_failed_is_listed_and_tries_again(shell, studio, monkeypatch):
    with ModelServer([Turn.text("no design"), Turn.text("none either")]) as server:
        monkeypatch.setenv("PERSONAS_PROVIDER", "custom")
        monkeypatch.setenv("PERSONAS_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("PERSONAS_MODEL", "scripted")
        with pytest.raises(DesignError):
            shell.run(f'%persona design "{SENTENCE}"')
    session = studio.sessions.get("latest")
    with pytest.raises(InvalidInput, match=f"sessions resume {session.id[:8]}"):
        shell.run("%persona apply")
    with pytest.raises(PersonaError, match="reached"):  # it asks again: the server is gone by now
        shell.run("%persona sessions resume latest")


def test_a_session_that_was_applied_under_another_name_points_to_that_persona(shell):
    shell.run(f'%persona design draft "{SENTENCE}"')
    shell.run('%persona apply "Mail boy"')
    shell.run("%persona sessions resume latest")
    assert "%persona show mail-boy" in shell.text
    assert "show draft" not in shell.text


def test_sessions_are_listed_with_the_name_that_was_designed(shell):
    shell.run(f'%persona design "{SENTENCE}"')
    shell.run("%persona sessions")
    assert "Notes summary" in shell.text


def test_without_any_design_apply_says_how_to_begin(shell):
    with pytest.raises(NotFound, match="no design yet"):
        shell.run("%persona apply")


def test_undo_takes_a_refinement_back_and_says_what_moved(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    shell.run("%persona refine at 8 instead")
    assert "Changed: triggers" in shell.text
    shell.run("%persona undo")
    assert "0 9 * * 1-5" in shell.text


def test_when_nothing_is_configured_a_line_says_how_to_switch(shell):
    shell.run(f'%persona design notes "{SENTENCE}"')
    assert "ANTHROPIC_API_KEY" in shell.text
    shell.run(f'%persona design notes "{SENTENCE}" --provider rehearsal')
    assert "ANTHROPIC_API_KEY" not in shell.text


# Running


def test_explain_shows_prompt_tools_and_limits_and_runs_nothing(shell, echo, studio):
    studio.tools.assign(studio.personas.get(echo), "file_read")
    text = shell.run(f"%%persona run {echo} --explain --max-turns 3\nhello").text
    assert "file_read" in text
    assert "hello" in text
    assert "## EXECUTE NOW" in text
    assert studio.executions.list() == []


def test_a_file_is_copied_into_the_inputs(shell, echo, studio, tmp_path):
    (tmp_path / "my notes.txt").write_text("x")
    execution = shell.run(f'%persona run {echo} --quiet --file "{tmp_path}/my notes.txt"')
    assert execution.files == ("inputs/my notes.txt (1 bytes)",)


def test_limits_of_the_line_reach_the_run(shell, echo):
    execution = shell.run(f"%persona run {echo} --quiet --max-budget-usd $0.25 --max-turns 3 --timeout 2m")
    assert (execution.max_budget_usd, execution.max_turns, execution.timeout_ms) == (0.25, 3, 120_000)


def test_a_background_run_is_followed_to_its_end(shell, echo):
    view = shell.run(f"%persona run {echo} --background -o handle")
    assert view.value is shell.user_ns["handle"]
    assert f"%persona runs wait {view.value.id[:8]}" in view.text
    assert shell.run("%persona runs wait latest").id == view.value.id
    assert "✓ done" in shell.text


def test_runs_are_listed_shown_and_stay_as_they_ended(shell, echo):
    execution = shell.run(f"%%persona run {echo} --quiet\nhello")
    assert execution.id[:8] in shell.run("%persona runs").text
    assert "hello" in shell.run(f"%persona runs show {execution.id[:6]}").text
    assert "had ended before" in shell.run("%persona runs cancel latest").text
    assert "Nothing has run" in shell.run("%persona runs list --status failed").text


def test_a_disabled_persona_says_how_to_enable_it(shell, echo):
    shell.run(f"%persona disable {echo}")
    with pytest.raises(InvalidInput, match="%persona enable echo"):
        shell.run(f"%persona run {echo}")


# Personas


def test_fields_are_set_and_limits_cleared(shell, echo, studio):
    shell.run(
        f'%persona set {echo} max_turns=7 identity="You are = exact." description=Reads my boss\'s mail'
    )
    persona = studio.personas.get(echo)
    assert (persona.max_turns, persona.description) == (7, "Reads my boss's mail")
    assert persona.prompt.identity == "You are = exact."
    shell.run(f"%persona set {echo} max_turns=None")
    assert studio.personas.get(echo).max_turns is None
    assert "nothing changed" in shell.run(f"%persona set {echo} max_turns=None").text


@pytest.mark.parametrize(
    ("fields", "hint"), [("max_turn=7", "max_turns"), ("author=design", "It has"), ("version=3", "rollback")]
)
def test_a_field_that_there_is_not_is_refused(shell, echo, fields, hint):
    with pytest.raises(InvalidInput, match=hint):
        shell.run(f"%persona set {echo} {fields}")


def test_delete_archives_and_purge_deletes(shell, echo, studio):
    assert "is archived" in shell.run(f"%persona delete {echo}").text
    assert "nothing changed" in shell.run(f"%persona delete {echo}").text
    assert studio.personas.list(include_archived=True) != []
    assert "Echo" in shell.run("%persona list --archived").text
    shell.run(f"%persona delete {echo} --purge")
    assert studio.personas.list(include_archived=True) == []


def test_groups_are_made_filled_and_removed(shell, echo, studio):
    shell.run("%persona groups create Back office --color #0072B2")
    shell.run(f'%persona set {echo} group="Back office"')
    assert "echo" in shell.run("%persona groups").text
    shell.run("%persona groups remove Back office")
    assert studio.personas.get(echo).group_id is None


def test_versions_are_listed_compared_tagged_and_rolled_back(shell, echo, studio):
    shell.run(f'%persona set {echo} identity="Say everything twice."')
    assert "current" in shell.run(f"%persona versions {echo}").text
    assert "Say everything twice." in shell.run(f"%persona diff {echo}").text
    shell.run(f"%persona tag {echo} 1 production")
    assert "version 3" in shell.run(f"%persona rollback {echo} production").text
    assert "nothing changed" in shell.run(f"%persona rollback {echo} production").text
    shell.run(f"%persona tag {echo} 1 none")
    with pytest.raises(NotFound):
        shell.run(f"%persona diff {echo} production")


def test_tools_are_assigned_once_and_taken_again(shell, echo, studio):
    assert "file_read, http_request" in shell.run(f"%persona tools assign {echo} file_read http_request").text
    assert "nothing changed" in shell.run(f"%persona tools assign {echo} file_read").text
    assert "echo" in shell.run("%persona tools").text
    assert "may use http_request." in shell.run(f"%persona tools unassign {echo} file_read").text
    with pytest.raises(NotFound, match="Did you mean “file_read”"):
        shell.run(f"%persona tools assign {echo} file_reed")


# Deciding and remembering


def test_a_decided_review_repeats_its_verdict_and_says_so(shell, echo, studio):
    review = studio.reviews.table.insert(Review(persona_id=studio.personas.get(echo).id, title="Send it?"))
    assert "Send it?" in shell.run("%persona reviews").text
    view = shell.run(f"%persona reviews approve {review.id[:8]} looks fine, it's my boss's")
    assert (view.value.status, view.value.note) == ("approved", "looks fine, it's my boss's")
    again = shell.run(f"%persona review reject {review.id[:8]} no")
    assert again.value.status == "approved"
    assert "decided before" in again.text
    assert "Send it?" in shell.run("%persona reviews list --all").text


def test_messages_are_new_once(shell, echo, studio):
    studio.messages.table.insert(Message(persona_id=studio.personas.get(echo).id, content="It rains."))
    assert "It rains." in shell.run("%persona messages --unread").text
    assert "It rains." not in shell.run("%persona messages --unread").text
    assert "It rains." in shell.run("%persona messages").text


def test_memories_are_listed_pinned_and_forgotten(shell, echo, studio):
    memory = studio.memories.add(Memory(persona_id=studio.personas.get(echo).id, title="Likes tea"))
    assert "Likes tea" in shell.run(f"%persona memories {echo}").text
    shell.run(f"%persona memories pin {memory.id[:8]}")
    assert studio.memories.get(memory.id).pinned
    shell.run(f"%persona memories {echo} delete {memory.id[:8]}")
    assert studio.memories.list() == []


def test_health_names_every_part(shell):
    assert {part["name"] for part in shell.run("%persona health").value} >= {"store", "model"}


# Help and reference


@pytest.mark.parametrize("words", [verb.words for verb in table.VERBS])
def test_every_verb_explains_itself(shell, words):
    verb, _ = table.find(words.split())
    assert verb.summary in shell.run(f"%persona {words} --help").text


def test_help_shows_every_verb_and_what_a_noun_can_do(shell):
    everything = shell.run("%persona help").text
    assert all(f"%persona {verb.words}".strip() in everything for verb in table.VERBS)
    assert "%persona runs wait" in shell.run("%persona help runs").text
    assert "--max-turns" in shell.run("%persona help run").text
    with pytest.raises(InvalidInput, match="Did you mean “reviews”"):
        shell.run("%persona help reveiws")


def test_the_reference_is_what_the_table_and_the_settings_say():
    page = Path(__file__).parents[1] / "docs" / "reference.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "python -m personas_nb.verbs.reference docs/reference.md"
    )


# Headless


def notebook_of(*cells: str) -> NotebookClient:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return NotebookClient(notebook, timeout=120)


def test_a_notebook_without_a_person_saves_the_finished_card_and_stops_at_a_failure(echo, tmp_path):
    client = notebook_of(
        "%load_ext personas_nb",
        f"%%persona run {echo}\nhello",
        "%persona run nobody",
        "1 + 1",
    )
    with pytest.raises(CellExecutionError):
        client.execute(cwd=str(tmp_path))
    cells = client.nb.cells
    assert cells[0].outputs == []
    assert len(cells[1].outputs) == 1
    assert "✓ done" in cells[1].outputs[0].data["text/plain"]
    assert "running" not in cells[1].outputs[0].data["text/html"]
    assert cells[2].outputs[0].traceback == ["There is no persona “nobody”. `%persona list` shows all."]
    assert cells[3].outputs == []
