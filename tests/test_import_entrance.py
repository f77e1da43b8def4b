"""One entrance: a path, an address, a folder or data; the format is recognised, the draft is kept, nothing repeats."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.shared import SHARED
from support.shell import TestingShell, shell_in
from support.studios import studio_at

from personas_nb import Studio
from personas_nb.design.formats.report import ImportReport
from personas_nb.errors import InvalidInput, NotFound, TooLarge, ToolDenied, ToolError
from personas_nb.views.imports import folder_table, import_card

SUBAGENT = "---\nname: tester\ndescription: Tests things.\ntools: Read, Bash\n---\n\nYou test everything."
SCHEDULED = {
    "format": "personas_nb.persona",
    "version": 1,
    "name": "Digest",
    "system_prompt": "You write a digest.",
    "tools": ["file_read"],
    "triggers": [{"trigger_type": "schedule", "config": {"cron": "0 9 * * 1-5"}}],
}
WORKFLOW = {
    "name": "Flow",
    "nodes": [{"name": "Start", "type": "n8n-nodes-base.manualTrigger"}],
    "connections": {},
}
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not there")


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home) as opened:
        yield opened


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "tester.md"
    path.write_text(SUBAGENT)
    return path


@contextmanager
def serving(body: bytes, *, status: int = 200, media_type: str = "application/json") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", media_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ── one file ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_becomes_a_draft_and_the_draft_a_persona(studio: Studio, agent: Path) -> None:
    report = studio.importers.read(agent)
    assert isinstance(report, ImportReport)
    assert studio.personas.list() == []
    persona = report.apply()
    assert (persona.name, persona.system_prompt, persona.structured_prompt) == (
        "tester",
        "You test everything.",
        None,
    )
    assert [tool.name for tool in studio.tools.assigned(persona)] == ["file_read"]


def test_an_imported_persona_runs_in_rehearsal(studio: Studio, agent: Path) -> None:
    run = studio.run(studio.importers.read(agent).apply(), "Go", provider="rehearsal")
    assert run.status == "completed"
    assert run.rehearsal


def test_importing_the_same_file_again_changes_nothing(studio: Studio, agent: Path) -> None:
    first = studio.importers.read(agent)
    made = first.apply()
    second = studio.importers.read(agent)
    again = second.apply()
    assert (again.id, again.version, second.session.id) == (made.id, made.version, first.session.id)
    assert second.session.applied_changes == ()


def test_a_file_that_was_changed_is_the_next_revision_of_its_persona(studio: Studio, agent: Path) -> None:
    made = studio.importers.read(agent).apply()
    agent.write_text(SUBAGENT + "\nTwice.")
    again = studio.importers.read(agent).apply()
    assert (again.id, again.version) == (made.id, made.version + 1)
    assert again.system_prompt.endswith("Twice.")


def test_files_of_one_name_in_two_folders_are_two_personas(studio: Studio, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tester.md").write_text(SUBAGENT + folder)
        studio.importers.read(tmp_path / folder / "tester.md").apply()
    assert [persona.name for persona in studio.personas.list()] == ["tester", "tester 2"]


def test_a_draft_is_a_session_that_can_be_refined(studio: Studio) -> None:
    report = studio.importers.json(SCHEDULED)
    session = studio.sessions.get(report.session.id)
    session.refine("at 7 instead")
    persona = session.apply()
    assert [trigger.config["cron"] for trigger in studio.triggers.list(persona)] == ["0 7 * * 1-5"]
    assert not any(trigger.enabled for trigger in studio.triggers.list(persona))


def test_a_report_of_no_studio_says_how_to_get_one() -> None:
    from personas_nb.design.formats import subagent

    with pytest.raises(InvalidInput, match=r"belongs to no studio.*studio\.importers\.read"):
        subagent.read(SUBAGENT, "a.md").apply()


def test_parsed_data_is_as_good_as_a_file(studio: Studio) -> None:
    assert studio.importers.read(SCHEDULED).format == "json"
    assert (
        studio.importers.read({"nodes": [{"name": "Start", "type": "n8n-nodes-base.manualTrigger"}]}).format
        == "n8n"
    )


def test_parsed_data_stays_as_it_is(studio: Studio) -> None:
    start = {
        "name": "Start",
        "type": "n8n-nodes-base.manualTrigger",
        "parameters": {"token": "abcdef0123456"},
    }
    given = {"nodes": [start], "settings": {"timezone": "Europe/Berlin"}}
    before = json.dumps(given)
    assert studio.importers.read(given).of("dropped")
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    "wrapped", [[WORKFLOW], {"data": WORKFLOW}, {"workflow": WORKFLOW}], ids=["list", "data", "workflow"]
)
def test_one_workflow_is_recognised_however_n8n_wraps_it(
    studio: Studio, tmp_path: Path, wrapped: Any
) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(wrapped))
    assert (studio.importers.read(path).format, studio.importers.read(path).name) == ("n8n", "Flow")


@pytest.mark.parametrize(
    ("damaged", "sentence"),
    [
        ([WORKFLOW, WORKFLOW], r"a list of 2 things.*--separate"),
        ({"name": "Flow", "connections": {}}, "no list of nodes"),
        ({'"name"': "Flow", '"connections"': {}}, "quotes twice"),
    ],
)
def test_a_damaged_workflow_is_recognised_as_one(
    studio: Studio, tmp_path: Path, damaged: Any, sentence: str
) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(damaged))
    with pytest.raises(InvalidInput, match=sentence):
        studio.importers.read(path)


def test_a_folder_is_no_file_and_is_told_in_one_sentence(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        studio.importers.read(tmp_path)
    assert refused.value.message == f"{tmp_path} is a folder."


def test_a_larger_limit_holds_for_workflows_too(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(WORKFLOW | {"pinData": {"Start": ["x" * 11_000_000]}}))
    with studio_at(home, import_limit_bytes=20_000_000) as studio:
        assert studio.importers.read(path).name == "Flow"


def test_an_earlier_import_is_found_without_looking_through_all(studio: Studio) -> None:
    query = (
        "select * from design_sessions where provider = 'import' and instruction = ? order by updated_at desc"
    )
    with studio.store.read() as db:
        (plan,) = {row["detail"] for row in db.execute(f"explain query plan {query}", ["x"])} - {
            "USE TEMP B-TREE FOR ORDER BY"
        }
    assert plan.startswith("SEARCH design_sessions USING INDEX")


def test_a_format_that_is_given_wins(studio: Studio, agent: Path) -> None:
    assert studio.importers.persona_md(agent).format == "persona_md"
    with pytest.raises(InvalidInput, match=r"no format “n8m”.*“n8n”"):
        studio.importers.read(agent, format="n8m")


@shared
def test_a_template_finds_the_recipes_beside_it(studio: Studio) -> None:
    path = SHARED / "desktop_templates" / "v3_recipe_ref" / "customer-event-intelligence.json"
    assert not [
        entry for entry in studio.importers.read(path).entries if "Its recipe is not here" in entry.reason
    ]


@shared
@pytest.mark.parametrize("folder", ["desktop_templates", "subagents"])
def test_everything_of_a_folder_becomes_a_persona_in_which_nothing_starts(
    studio: Studio, folder: str
) -> None:
    files = studio.importers.folder(SHARED / folder, apply=True)
    assert [(file.path, file.error) for file in files if file.error] == []
    assert len(studio.personas.list()) == len(files) >= 10
    assert not any(trigger.enabled for trigger in studio.triggers.list())
    again = studio.importers.folder(SHARED / folder, apply=True)
    assert not any(file.changed for file in again)
    assert len(studio.personas.list()) == len(files)


# ── files that cannot be read ───────────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_not_there_is_said(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        studio.importers.read(tmp_path / "nothing.json")
    with pytest.raises(NotFound, match="no folder"):
        studio.importers.folder(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="cannot be read"):
        studio.importers.read("a\0b.json")


def test_a_file_over_the_limit_is_not_read(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text(json.dumps({**SCHEDULED, "description": "x" * 2000}))
    with studio_at(home, import_limit_bytes=1000) as studio, pytest.raises(TooLarge, match="1,000 bytes"):
        studio.importers.read(path)


def test_a_pipe_is_no_file_and_nobody_waits_for_it(studio: Studio, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InvalidInput, match="no regular file"):
        studio.importers.read(tmp_path / "pipe.json")
    (file,) = studio.importers.folder(tmp_path)
    assert "no regular file" in file.error


def test_a_folder_says_of_every_file_what_became_of_it(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "deep" / "digest.json").write_text(json.dumps(SCHEDULED))
    (tmp_path / ".hidden" / "digest.json").write_text(json.dumps(SCHEDULED))
    (tmp_path / "broken.json").write_text('{"nodes": [')
    (tmp_path / "README.md").write_text("# Hello")
    (tmp_path / "notes.txt").write_text("no persona")
    files = studio.importers.folder(tmp_path)
    assert [(file.path, file.name, file.error.split(":")[0]) for file in files] == [
        ("README.md", "", "README.md is in no format that can be imported. It may be an n8n workflow, a Personas "
         "Desktop template or export, a Claude Code subagent, a .persona.md, or our own JSON or notebook."),
        ("broken.json", "", "broken.json is cut off"),
        ("deep/digest.json", "Digest", ""),
    ]  # fmt: skip
    table = folder_table(str(tmp_path), files)
    assert "1 persona of 3 files" in table.text
    assert "is cut off" in table.html
    assert "0 9 * * 1-5" in table.text


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_address_is_read_like_a_file(home: Path) -> None:
    with (
        serving(json.dumps(SCHEDULED).encode()) as url,
        studio_at(home, http_allowed_hosts="127.0.0.1") as studio,
    ):
        report = studio.importers.read(f"{url}/a/digest.json?token=very-secret-0123")
        assert (report.name, report.source) == ("Digest", f"{url}/a/digest.json")
        assert "very-secret" not in studio.sessions.get(report.session.id).record.model_dump_json()


def test_a_private_address_is_refused_unless_a_person_allows_it(studio: Studio) -> None:
    with serving(b"{}") as url, pytest.raises(ToolDenied, match="not an address of the public internet"):
        studio.importers.read(f"{url}/a.json")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.com/a.json", "data://x"])
def test_another_scheme_is_no_address_to_import_from(studio: Studio, url: str) -> None:
    with pytest.raises(InvalidInput, match="no address to import from"):
        studio.importers.read(url)


@pytest.mark.parametrize(
    ("body", "status", "media_type", "error", "sentence"),
    [
        (b"gone", 404, "text/plain", ToolError, "answered 404"),
        (b"<html>", 200, "text/html; charset=utf-8", InvalidInput, "a web page, not with a file"),
        (b"x" * 5000, 200, "application/json", TooLarge, "more than 1,000 bytes.*import_limit_bytes"),
    ],
)
def test_an_answer_that_is_no_file_is_refused(
    home: Path, body: bytes, status: int, media_type: str, error: type[Exception], sentence: str
) -> None:
    limits: dict[str, Any] = {"http_allowed_hosts": "127.0.0.1", "import_limit_bytes": 1000}
    with (
        serving(body, status=status, media_type=media_type) as url,
        studio_at(home, **limits) as studio,
        pytest.raises(error, match=sentence),
    ):
        studio.importers.read(f"{url}/a.json")


# ── verbs and cards ─────────────────────────────────────────────────────────────────────────────────────────


def test_import_shows_the_report_and_apply_goes_on_with_it(shell: TestingShell, agent: Path) -> None:
    shell.run(f"%persona import {agent}")
    assert "imported, not applied" in shell.text
    assert "tools: Bash" in shell.text
    assert "%persona apply" in shell.text
    shell.run("%persona apply")
    assert "tester" in shell.text
    shell.run(f"%persona import {agent} --apply")
    assert "nothing changed" in shell.text


def test_import_of_a_folder_shows_one_table(shell: TestingShell, agent: Path) -> None:
    (agent.parent / "two words.persona.json").write_text(json.dumps(SCHEDULED))
    shell.run(f'%persona import "{agent.parent}"')
    assert "2 personas of 2 files" in shell.text
    shell.run(f"%persona import {agent.parent} --apply")
    shell.run("%persona list")
    assert "Digest" in shell.text
    assert "tester" in shell.text


def test_import_of_a_path_with_spaces_needs_no_quotes(shell: TestingShell, tmp_path: Path) -> None:
    (tmp_path / "my agent.md").write_text(SUBAGENT)
    shell.run(f"%persona import {tmp_path}/my agent.md")
    assert "tester" in shell.text


def test_a_wrong_file_is_one_sentence_and_the_next_step(shell: TestingShell, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InvalidInput, match="is cut off"):
        shell.run(f"%persona import {tmp_path}/a.json")
    assert "Traceback" not in "".join(shell.tracebacks[-1])


def test_a_report_in_a_cell_shows_itself(shell: TestingShell, agent: Path) -> None:
    shell.run(f"from personas_nb import Studio\nreport = Studio().importers.read({str(agent)!r})\nreport")
    assert "needs you" in shell.text
    assert "report.apply()" in shell.text


def test_a_card_says_what_each_outcome_means_and_counts_all(studio: Studio, agent: Path) -> None:
    report = studio.importers.read(agent)
    card = import_card(report, session_id=report.session.id)
    assert sum(report.counts.values()) == len(report.entries)
    for outcome, count in report.counts.items():
        if count:
            word = "needs you" if outcome == "needs_human" else outcome
            assert word in card.text
            assert word in card.html
    assert report.to_dict()["counts"] == report.counts
