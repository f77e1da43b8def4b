"""A persona as a file: four formats, what each cannot hold, no secret in any, and no other file overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.mcp_servers import odd_server
from support.planting import Search, secret_for
from support.shell import TestingShell, shell_in
from support.studios import ROOT, studio_at

from personas_nb import Studio
from personas_nb.design.exporting import FORMATS, SUFFIXES, Exported
from personas_nb.design.formats.persona_json import FORMAT, VERSION
from personas_nb.entities.event import Subscription
from personas_nb.entities.memory import Memory
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import Conflict, InvalidInput, NotFound
from personas_nb.views.imports import export_card


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home) as opened:
        yield opened


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


def full_persona(studio: Studio) -> Persona:
    """A persona that has something in every place."""
    persona = studio.personas.create(
        name="Invoice Wächter",
        description="Watches invoices | and mails.",
        structured_prompt={
            "identity": 'You watch "invoices".',
            "instructions": '1. Read.\n2. Write a \\ backslash and """ quotes.\n\n## Not a section\n\ttab',
            "toolGuidance": "Read first.",
            "examples": "None → none.",
            "errorHandling": "Say so.",
            "customSections": [{"key": "tone", "label": "Tone of voice", "content": "Dry."}],
        },
        icon="Receipt",
        color="#0072B2",
        max_concurrent=2,
        timeout_ms=60_000,
        max_budget_usd=0.25,
        max_turns=9,
        uses_memories=False,
        model_profile={"provider": "ollama", "model": "llama3.2", "base_url": "http://127.0.0.1:11434"},
    )
    studio.tools.assign(persona, "file_read", "http_request")
    studio.tools.require_approval(persona, "http_request")
    triggers, subscriptions = (
        studio.store.table("triggers", Trigger),
        studio.store.table("subscriptions", Subscription),
    )
    triggers.insert(Trigger(persona_id=persona.id, trigger_type="schedule", description="weekdays",
                            config={"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}))  # fmt: skip
    triggers.insert(Trigger(persona_id=persona.id, trigger_type="polling", config={"interval_seconds": 2700}))
    subscriptions.insert(
        Subscription(persona_id=persona.id, event_type="invoice.paid", source_filter="shop*")
    )
    return studio.personas.get(persona.id)


def exported(studio: Studio, persona: Persona, folder: Path, format_: Any) -> Exported:
    return studio.export(persona, folder / f"p{SUFFIXES[format_]}", format=format_)


# ── what is in a file ───────────────────────────────────────────────────────────────────────────────────────


def test_json_holds_all_of_it_with_the_names_of_the_fields(studio: Studio, tmp_path: Path) -> None:
    done = exported(studio, full_persona(studio), tmp_path, "json")
    document = json.loads(done.path.read_text())
    assert (document["format"], document["version"], document["name"]) == (FORMAT, VERSION, "Invoice Wächter")
    assert document["structured_prompt"]["toolGuidance"] == "Read first."
    assert document["tools"] == ["file_read", "http_request"]
    assert document["approve_first"] == ["http_request"]
    assert document["triggers"][0]["config"] == {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}
    assert done.left_out == ()
    assert "id" not in document


@pytest.mark.parametrize("format_", ["json", "notebook"])
def test_a_persona_comes_back_the_same_in_another_home(studio: Studio, tmp_path: Path, format_: str) -> None:
    persona = full_persona(studio)
    path = exported(studio, persona, tmp_path, format_).path
    with studio_at(tmp_path / "elsewhere") as other:
        made = other.importers.read(path).apply()
        same = [name for name in Persona.model_fields if name not in
                ("id", "created_at", "updated_at", "last_design_result", "version")]  # fmt: skip
        assert {name: getattr(made, name) for name in same} == {name: getattr(persona, name) for name in same}
        assert {tool.name for tool in other.tools.assigned(made)} == {"file_read", "http_request"}
        assert other.tools.needing_approval(made) == {"http_request"}
        assert [
            (each.trigger_type, each.config, each.description, each.enabled)
            for each in other.triggers.list(made)
        ] == [
            ("schedule", {"cron": "0 9 * * 1-5", "timezone": "Europe/Berlin"}, "weekdays", False),
            ("polling", {"interval_seconds": 2700}, "", False),
        ]
        assert [(each.event_type, each.source_filter) for each in other.triggers.subscriptions(made)] == [
            ("invoice.paid", "shop*")
        ]
        again = exported(other, made, tmp_path / "elsewhere", format_).path
        assert again.read_text() == path.read_text()


def test_a_subagent_has_name_description_tools_and_the_prompt(studio: Studio, tmp_path: Path) -> None:
    done = exported(studio, full_persona(studio), tmp_path, "subagent")
    text = done.path.read_text()
    assert "\nname: invoice-wachter\n" in text
    assert "\ntools: Read, WebFetch\n" in text
    assert "\nmaxTurns: 9\n" in text
    assert "## Tool Guidance\n\nRead first." in text


def test_a_persona_md_has_engine_model_identity_and_options(studio: Studio, tmp_path: Path) -> None:
    text = exported(studio, full_persona(studio), tmp_path, "persona_md").path.read_text()
    assert text.startswith("---\n# Written by personas_nb.\nengine: jupyternaut\n")
    assert "model_id: ollama/llama3.2" in text
    assert "name: Invoice Wächter" in text
    assert "max_turns: 9" in text


@pytest.mark.parametrize(
    ("format_", "lost"),
    [
        ("subagent", {"name", "sections", "triggers (2)", "event_subscriptions (1)", "approve_first (1)",
                      "model_profile", "icon", "max_concurrent", "timeout_ms", "max_budget_usd", "uses_memories"}),
        ("persona_md", {"sections", "triggers (2)", "event_subscriptions (1)"}),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_listed(
    studio: Studio, tmp_path: Path, format_: str, lost: set[str]
) -> None:
    done = exported(studio, full_persona(studio), tmp_path, format_)
    assert {each.part for each in done.left_out} == lost
    card = export_card(done)
    for part in lost:
        assert part in card.text
        assert part in card.html


def test_what_no_format_holds_is_listed_for_each(studio: Studio, tmp_path: Path) -> None:
    persona = studio.personas.create(name="Bold", system_prompt="You.", permissions="bypass", max_turns=3)
    studio.memories.add(Memory(persona_id=persona.id, title="Fact", content="The sky is blue."))
    for format_ in FORMATS:
        parts = {each.part for each in exported(studio, persona, tmp_path, format_).left_out}
        assert {"permissions", "memories (1)"} <= parts


@pytest.mark.parametrize("format_", FORMATS)
def test_every_export_is_recognised_when_it_is_imported(studio: Studio, tmp_path: Path, format_: str) -> None:
    path = exported(studio, full_persona(studio), tmp_path, format_).path
    assert studio.importers.read(path).format == format_


# ── the notebook ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_notebook_is_valid_and_reads_like_a_page(studio: Studio, tmp_path: Path) -> None:
    path = exported(studio, full_persona(studio), tmp_path, "notebook").path
    notebook = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    markdown = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert markdown.startswith("# Invoice Wächter\n\nWatches invoices")
    assert "| tools | file_read, http_request |" in markdown
    assert "### What it does" in markdown
    instructions = next(cell.source for cell in notebook.cells if cell.id == "instructions")
    assert instructions.startswith('instructions = """\\\n1. Read.\n2. Write a \\\\ backslash')


@pytest.mark.parametrize("times", [1, 2])
def test_a_notebook_rebuilds_the_persona_wherever_it_is_run(
    studio: Studio, tmp_path: Path, times: int
) -> None:
    persona = full_persona(studio)
    path = exported(studio, persona, tmp_path, "notebook").path
    home = tmp_path / "elsewhere"
    for _ in range(times):
        _execute(path, home)
    with studio_at(home) as other:
        (made,) = other.personas.list()
        assert (made.name, made.structured_prompt, made.version) == (
            persona.name,
            persona.structured_prompt,
            1,
        )
        assert [run.rehearsal for run in other.executions.list()] == [True] * times


def test_a_cell_that_was_edited_counts_and_nothing_of_it_is_run(studio: Studio, tmp_path: Path) -> None:
    path = exported(studio, full_persona(studio), tmp_path, "notebook").path
    notebook = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        if cell.id == "identity":
            cell.source = 'identity = "You watch bees."'
        if cell.id == "examples":
            cell.source = f'examples = open({str(tmp_path / "owned")!r}, "w").name'
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    report = studio.importers.read(path)
    assert report.draft.structured_prompt.identity == "You watch bees."
    assert report.draft.structured_prompt.examples == "None → none."
    assert ("cell examples", "dropped") in [(entry.source, entry.outcome) for entry in report.entries]
    assert not (tmp_path / "owned").exists()


def _execute(path: Path, home: Path) -> None:
    code = "import sys, nbformat, nbclient; nbclient.NotebookClient(nbformat.read(sys.argv[1], 4)).execute()"
    env = {**os.environ, "PERSONAS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", code, str(path)], env=env, check=True, capture_output=True, timeout=120
    )


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────

PLANTED = {
    "a credential": secret_for("http_bearer.token for exports"),
    "a key of its own": secret_for("auth_token for exports"),
    "an environment variable": secret_for("env of a server for exports"),
    "a webhook": secret_for("webhook secret for exports", signs="-_."),
    "a key in the text": "-".join(["sk", "ant", "api03", "Zz0123456789abcdefghijklmnop"]),
}


def persona_with_secrets(studio: Studio) -> Persona:
    studio.credentials.add(
        "api", "http_bearer", {"base_url": "https://api.example.com", "token": PLANTED["a credential"]}
    )
    persona = studio.personas.create(
        name="Careless",
        description=f"Uses {PLANTED['a credential']}.",
        structured_prompt={
            "identity": f"You know {PLANTED['a key in the text']}.",
            "instructions": f"Send {json.dumps(PLANTED['a credential'])} and {PLANTED['a key of its own']}.",
        },
        model_profile={"provider": "custom", "model": "m", "auth_token": PLANTED["a key of its own"]},
        notification_channels=({"type": "webhook", "enabled": True, "config": {"token": "x" * 20}},),
    )
    env = {"API_TOKEN": PLANTED["an environment variable"]}
    studio.tools.add_server(persona, "odd", command=odd_server("plain"), env=env, check=False)
    config = {"path": "/hook", "secret": PLANTED["a webhook"]}
    studio.store.table("triggers", Trigger).insert(
        Trigger(persona_id=persona.id, trigger_type="webhook", config=config)
    )
    return studio.personas.get(persona.id)


@pytest.mark.parametrize("format_", FORMATS)
def test_no_secret_is_in_any_export(studio: Studio, tmp_path: Path, format_: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = exported(studio, persona_with_secrets(studio), folder, format_)
    search = Search(PLANTED)
    assert search.in_folder(folder) > 200
    search.in_text(repr(done), "what is returned")
    search.in_text(export_card(done).html, "the card")
    parts = {each.part for each in done.left_out}
    assert {"a stored secret", "model_profile.auth_token", "notification_channels: addresses",
            "servers: values of env and headers", "trigger settings"} <= parts  # fmt: skip


def test_secrets_that_cannot_be_opened_are_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with studio_at(home) as studio:
        persona = persona_with_secrets(studio)
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(tmp_path / "no" / "keys.json"))
    with studio_at(home) as studio:
        done = studio.export(persona, tmp_path / "a.json")
        assert "sealed secrets" in {each.part for each in done.left_out}


# ── the file ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "format_"),
    [("a.json", "json"), ("a.persona.json", "json"), ("a.ipynb", "notebook"), ("a.md", "subagent"),
     ("a.persona.md", "persona_md"), ("a", "json")],
)  # fmt: skip
def test_the_format_is_told_from_the_ending(studio: Studio, tmp_path: Path, name: str, format_: str) -> None:
    assert studio.export(full_persona(studio), tmp_path / name).format == format_


@pytest.mark.parametrize("format_", FORMATS)
def test_a_folder_gets_a_file_named_after_the_persona(studio: Studio, tmp_path: Path, format_: str) -> None:
    done = studio.export(full_persona(studio), tmp_path, format=format_)
    assert done.path == tmp_path / f"invoice-wachter{SUFFIXES[done.format]}"


@pytest.mark.parametrize("format_", FORMATS)
def test_an_earlier_export_is_replaced_and_the_same_one_is_left(
    studio: Studio, tmp_path: Path, format_: str
) -> None:
    persona = full_persona(studio)
    first = exported(studio, persona, tmp_path, format_)
    written = first.path.stat().st_mtime_ns
    assert not exported(studio, persona, tmp_path, format_).changed
    assert first.path.stat().st_mtime_ns == written
    changed = studio.personas.update(persona, identity="You watch bees.")
    assert exported(studio, changed, tmp_path, format_).changed
    assert "bees" in first.path.read_text()


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "present", ["my notes", "", '{"name": "Invoice Wächter"}', "---\nname: invoice-wachter\n---\nMine."]
)
def test_a_file_that_is_no_export_is_never_overwritten_by_itself(
    studio: Studio, tmp_path: Path, format_: str, present: str
) -> None:
    path = tmp_path / f"p{SUFFIXES[format_]}"  # type: ignore[index]  # one of the formats
    path.write_text(present)
    persona = full_persona(studio)
    with pytest.raises(Conflict, match=r"is there already.*--overwrite"):
        studio.export(persona, path, format=format_)
    assert path.read_text() == present
    studio.export(persona, path, format=format_, overwrite=True)
    assert path.read_text() != present


@pytest.mark.parametrize("format_", FORMATS)
def test_the_export_of_another_persona_is_not_overwritten(
    studio: Studio, tmp_path: Path, format_: str
) -> None:
    exported(studio, studio.personas.create(name="Other", system_prompt="You."), tmp_path, format_)
    with pytest.raises(Conflict):
        exported(studio, full_persona(studio), tmp_path, format_)


def test_a_link_stays_a_link_and_a_mode_stays(studio: Studio, tmp_path: Path) -> None:
    persona = full_persona(studio)
    target = studio.export(persona, tmp_path / "real.json").path
    target.chmod(0o640)
    (tmp_path / "link.json").symlink_to(target)
    studio.personas.update(persona, description="Other.")
    studio.export(persona, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert "Other." in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640


def test_nothing_is_left_beside_the_file(studio: Studio, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    studio.export(full_persona(studio), folder / "a.json")
    assert [path.name for path in folder.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("no/such/folder/a.json", "no folder"), ("a\0b.json", "cannot be written"), ("pipe", "no regular file")],
)
def test_a_path_that_cannot_be_written_is_said(
    studio: Studio, tmp_path: Path, path: str, sentence: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match=sentence):
        studio.export(full_persona(studio), tmp_path / path, format="json")


def test_a_persona_or_format_that_is_not_there_is_said(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        studio.export("nobody", tmp_path / "a.json")
    with pytest.raises(InvalidInput, match=r"no format “yaml”"):
        studio.export(full_persona(studio), tmp_path / "a.json", format="yaml")


# ── the verb ────────────────────────────────────────────────────────────────────────────────────────────────


def test_export_says_where_and_what_is_left_out(shell: TestingShell, tmp_path: Path) -> None:
    shell.run(
        "from personas_nb import Studio\n"
        'Studio().personas.create(name="Mail Boy", system_prompt="Sort.", max_turns=3);'
    )
    shell.run(f'%persona export "Mail Boy" {tmp_path}/mail boy.md')
    assert "mail boy.md  ✓ written" in shell.text
    assert "It is written as “mail-boy”" in shell.text
    shell.run(f'%persona export "Mail Boy" {tmp_path}/mail boy.md')
    assert "nothing was written" in shell.text
    (tmp_path / "other.json").write_text("mine")
    with pytest.raises(Conflict):
        shell.run(f'%persona export "Mail Boy" {tmp_path}/other.json')
    shell.run(f'%persona export "Mail Boy" {tmp_path}/other.json --overwrite --as json')
    assert "All of it is in the file." in shell.text
