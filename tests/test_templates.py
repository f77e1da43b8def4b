"""Templates as data: what they carry, how designs find them, and what `use` makes of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shell import TestingShell, shell_in
from template_sources import build

from personas_nb import Studio
from personas_nb.design.formats.template import parameters_in, read, with_settings
from personas_nb.design.retrieval import best_match
from personas_nb.design.templates import shipped_folder
from personas_nb.entities.design import DesignResult
from personas_nb.entities.template import DesignTemplate
from personas_nb.errors import Conflict, InvalidInput, NotFound
from personas_nb.store.templates import TemplateIndex
from personas_nb.verbs.completion import complete

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted((ROOT / "templates").glob("*.ipynb"))
NAMES = [path.stem for path in TEMPLATES]


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("PERSONAS_PROVIDER", "rehearsal")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with Studio(tmp_path / "home") as studio:
        yield studio


# ── what they carry ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_notebooks_are_what_their_sources_say():
    assert len(NAMES) >= 12
    assert [source.stem for source in sorted(build.HERE.glob("*.toml"))] == NAMES
    for path in TEMPLATES:
        assert path.read_text(encoding="utf-8") == build.written(build.HERE / f"{path.stem}.toml"), path.name


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_a_template_is_a_valid_notebook_that_carries_its_design(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    design = DesignResult.model_validate(notebook.metadata["personas_nb"]["design"])
    assert design.name
    assert design.summary
    assert design.suggested_tools
    assert "manual_review" in design.structured_prompt.instructions
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in notebook.cells) == 1
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(prose) > 800


@pytest.mark.parametrize("path", TEMPLATES, ids=NAMES)
def test_the_design_in_the_metadata_is_what_the_cells_say(path: Path):
    template = read(path.read_bytes(), path.name)
    cells = {cell["id"]: "".join(cell["source"]) for cell in template.notebook["cells"]}
    values = {each.name: each.value for each in template.parameters}
    sections = {each.key: each.content for each in template.design.structured_prompt.custom_sections}
    assert sections["settings"] == with_settings(cells["settings"], values)
    assert sections["approach"] in cells["approach"]
    assert template.design.structured_prompt.instructions in cells["instructions"]
    assert values["name"] == template.design.name
    assert all(each.meaning for each in template.parameters)
    assert all(f"{{{each}}}" in cells["run"] + cells["settings"] or each in cells["persona"] + cells.get("data", "")
               for each in values)  # fmt: skip


def test_no_template_holds_a_secret_or_a_path_of_somebodys_machine(studio: Studio):
    for path in TEMPLATES:
        report = studio.importers.read(path)
        assert report.of("dropped") == (), path.name
        text = path.read_text(encoding="utf-8")
        assert str(Path.home()) + "/" not in text
        assert "sk-" not in text.replace("risk-", "")


# ── found by their words ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("Every weekday at 9 find the overdue invoices and ask me before a reminder goes out", "invoice-watcher"),
        ("Check the orders table for missing values and duplicate keys", "data-quality-sentinel"),
        ("Write a report about my training runs and compare them with the baseline", "experiment-report-writer"),
        ("Send me a digest of new arXiv papers about calibration", "arxiv-digest"),
        ("Triage new GitHub issues and propose labels", "github-triage"),
        ("Turn the notes of our meeting into action items with an owner", "meeting-notes-actions"),
        ("Sort support mails by urgency and draft replies to complaints", "support-mail-triage"),
        ("Watch the costs of my personas and warn me when spending goes over budget", "cost-watchdog"),
        ("Write a dataset card with columns, licence and provenance", "dataset-card-writer"),
        ("Review my Jupyter notebook for hidden state and cells out of order", "notebook-reviewer"),
        ("Every Monday write a digest of the KPIs and say what is unusual", "kpi-digest"),
        ("Summarise the errors of last night's pipeline log", "log-summariser"),
        ("Reconcile the bank statement with the ledger and list unmatched bookings", "table-reconciler"),
        ("Watch PyPI for new versions of our dependencies and breaking changes", "release-watch"),
    ],
)  # fmt: skip
def test_a_sentence_about_it_finds_the_template(studio: Studio, sentence: str, name: str):
    studio.templates.stock()
    match = best_match(sentence, (), studio.store)
    assert match is not None
    assert (match.pattern.origin, match.pattern.name) == ("template", name)


def test_a_design_without_a_model_is_adapted_from_a_template_and_says_how_to_open_it(studio: Studio):
    result = studio.design("Remind customers about overdue invoices every weekday").result
    assert result is not None
    (made,) = (each.items for each in result.design_highlights if each.category == "How it was made")
    assert "Adapted from the template “Invoice watcher”" in made
    assert any("%persona templates use invoice-watcher" in item for item in made)
    assert any("never add EUR to USD" in each.content for each in result.structured_prompt.custom_sections)


def test_stocking_again_writes_nothing_and_a_changed_notebook_replaces_its_copy(
    studio: Studio, tmp_path: Path
):
    folder = tmp_path / "templates"
    shutil.copytree(ROOT / "templates", folder, ignore=shutil.ignore_patterns("samples"))
    index = TemplateIndex(studio.store)
    studio.templates._folder = folder
    studio.templates.stock()
    before = index.get("kpi-digest")
    studio.templates._stocked = None  # as another process begins
    studio.templates.stock()
    assert index.get("kpi-digest") == before
    text = (folder / "kpi-digest.ipynb").read_text(encoding="utf-8")
    (folder / "kpi-digest.ipynb").write_text(
        text.replace("Reads the key figures", "Looks at the key figures")
    )
    (folder / "log-summariser.ipynb").unlink()
    (folder / "stranger.ipynb").write_text('{"cells": [], "nbformat": 4, "metadata": {}}')
    studio.templates.stock()
    after = index.get("kpi-digest")
    assert after is not None
    assert before is not None
    assert (after.id, after.summary.split()[0]) == (before.id, "Looks")
    assert index.get("log-summariser") is None
    assert index.count() == len(NAMES) - 1


def test_a_template_of_the_same_name_that_is_none_of_ours_is_left_alone(studio: Studio):
    index = TemplateIndex(studio.store)
    design = studio.templates.get("kpi-digest").design
    index.put(DesignTemplate(name="kpi-digest", title="Mine", design=design, source="mine"))
    studio.templates.stock()
    assert [each.title for each in index.list() if each.name == "kpi-digest"] == ["Mine"]


# ── using one ───────────────────────────────────────────────────────────────────────────────────────────────


def test_use_opens_a_copy_and_makes_the_persona_with_what_is_left_to_do(studio: Studio):
    used = studio.templates.use("github-triage", repository="me/tables")
    assert used.path.name == "github-triage.ipynb"
    persona = studio.personas.get("github-triage")
    prompt = persona.structured_prompt
    assert prompt is not None
    assert "https://api.github.com/repos/me/tables/issues" in prompt.custom_sections[0].content
    assert [each.enabled for each in studio.triggers.list(persona)] == [False]
    assert [each.subject for each in studio.sessions.todo(persona)] == ["github"]
    cell = next(cell for cell in nbformat.read(used.path, as_version=4).cells if cell["id"] == "parameters")
    assert 'repository = "me/tables"  # owner/name' in cell.source


def test_using_it_again_changes_nothing_and_another_value_is_the_next_version(studio: Studio):
    studio.templates.use("invoice-watcher")
    again = studio.templates.use("invoice-watcher")
    assert (again.is_written, again.session.applied_changes, again.persona.version) == (False, (), 1)
    other = studio.templates.use("Invoice watcher", grace_days="14")
    assert (other.is_written, other.persona.version) == (True, 2)
    assert len(studio.personas.list()) == 1
    named = studio.templates.use("invoice-watcher", name="Rechnungen Süd")
    assert (named.path.name, len(studio.personas.list())) == (f"{named.persona.slug}.ipynb", 2)


def test_a_copy_that_somebody_changed_is_not_replaced(studio: Studio):
    used = studio.templates.use("kpi-digest")
    notebook = nbformat.read(used.path, as_version=4)
    notebook.cells[0].source += "\nOurs."
    nbformat.write(notebook, used.path)
    with pytest.raises(Conflict, match="was changed since it was opened"):
        studio.templates.use("kpi-digest", weeks=8)
    assert "Ours." in used.path.read_text(encoding="utf-8")
    assert studio.personas.get("kpi-digest").version == 1


def test_a_copy_that_was_only_run_is_the_same(studio: Studio):
    used = studio.templates.use("kpi-digest")
    notebook = nbformat.read(used.path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="done")]
    nbformat.write(notebook, used.path)
    assert studio.templates.use("kpi-digest").is_written is False
    assert "done" in used.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["notes", '{"cells": []}', ""])
def test_a_file_of_that_name_that_is_no_copy_is_not_replaced(studio: Studio, content: str):
    Path("kpi-digest.ipynb").write_text(content)
    with pytest.raises(Conflict, match="is no copy of it"):
        studio.templates.use("kpi-digest")
    assert (Path("kpi-digest.ipynb").read_text(), studio.personas.list()) == (content, [])


def test_an_edited_copy_is_imported_with_its_edit(studio: Studio):
    used = studio.templates.use("kpi-digest", weeks=8)
    notebook = nbformat.read(used.path, as_version=4)
    cell = next(cell for cell in notebook.cells if cell["id"] == "identity")
    cell.source = 'identity = "You write for a board that reads one line."'
    nbformat.write(notebook, used.path)
    prompt = studio.importers.read(used.path).draft.structured_prompt
    assert prompt.identity == "You write for a board that reads one line."
    assert "- weeks: 8" in prompt.custom_sections[0].content


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"grace": 3}, "has no parameter “grace”. Did you mean “grace_days”?"),
        ({"grace_days": "soon"}, "grace_days must be a whole number, not “soon”"),
        ({"grace_days": 2.5}, "must be a whole number"),
        ({"grace_days": True}, "must be a whole number"),
        ({"max_budget_usd": float("nan")}, "must be a number"),
        ({"max_budget_usd": -1}, "must be a number"),
        ({"name": ""}, "must be a text of one line"),
        ({"name": "two\nlines"}, "must be a text of one line"),
        ({"cron": "every day"}, "cron"),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused_before_anything_is_written(
    studio: Studio, parameters: dict[str, object], said: str
):
    with pytest.raises(InvalidInput) as refused:
        studio.templates.use("invoice-watcher", **parameters)
    assert said in str(refused.value)
    assert list(Path().iterdir()) == []
    assert studio.personas.list() == []


def test_a_secret_is_no_parameter(studio: Studio):
    studio.credentials.add(
        "shop", "http_bearer", {"base_url": "https://shop.example", "token": "tok-4711-very-secret"}
    )
    with pytest.raises(InvalidInput, match="interests holds a secret"):
        studio.templates.use("arxiv-digest", interests="all with tok-4711-very-secret")
    assert list(Path().iterdir()) == []


def test_a_name_that_is_no_template_is_answered_with_the_nearest(studio: Studio):
    with pytest.raises(NotFound, match="Did you mean “invoice-watcher”"):
        studio.templates.use("invoce-watcher")


def test_a_folder_that_is_not_there_is_said(studio: Studio):
    with pytest.raises(InvalidInput, match="cannot be written"):
        studio.templates.use("kpi-digest", folder="nowhere")
    assert studio.personas.list() == []


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=40))
def test_whatever_a_text_holds_the_cell_still_assigns_it(text: str):
    from personas_nb.design.formats.template import _with_values

    cell = 'days = 7  # until then\nname = "ä"  # what it is called\n'
    changed = _with_values(cell, {"name": text, "days": 9})
    assert [(each.name, each.value, each.meaning) for each in parameters_in(changed)] == [
        ("days", 9, "until then"),
        ("name", text, "what it is called"),
    ]


@pytest.mark.parametrize(
    "source", ['settings = f"{open(1)}"', 'settings = f"{days!r}"', "settings = days", "x ="]
)
def test_settings_that_would_have_to_be_run_are_refused(source: str):
    with pytest.raises(InvalidInput):
        with_settings(source, {"days": 7})


# ── as a verb ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestingShell]:
    monkeypatch.setenv("PERSONAS_PROVIDER", "rehearsal")
    monkeypatch.chdir(tmp_path)
    yield from shell_in(tmp_path)


def test_the_verb_lists_them_and_says_what_can_be_set(shell: TestingShell):
    shell.run("%persona templates")
    assert all(name in shell.text for name in NAMES)
    shell.run("%persona templates show arxiv-digest")
    assert "what you work on, in your words" in shell.text
    assert "--set most=5" in shell.text


def test_the_verb_opens_a_copy_with_values_in_quotes_and_says_what_came_of_it(shell: TestingShell):
    shell.user_ns["field"] = "sparse = dense"
    shell.run(
        '%persona templates use arxiv-digest --set name="My papers" categories=stat.ME interests={field}'
    )
    assert "my-papers.ipynb" in shell.text
    assert "My papers · version 1" in shell.text
    with Studio() as studio:
        prompt = studio.personas.get("my-papers").structured_prompt
    assert prompt is not None
    assert prompt.custom_sections[0].content.startswith(
        "- categories: stat.ME\n- interests: sparse = dense\n"
    )
    shell.run(
        '%persona templates use arxiv-digest --set name="My papers" categories=stat.ME interests={field}'
    )
    assert "it was there already" in shell.text
    shell.run("%persona show My papers")
    assert "stat.ME" in shell.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("grace_days", "“grace_days” sets nothing"),
        ("grace_days=1 grace_days=2", "grace_days is set twice"),
        ("grace_days=soon", "grace_days must be a whole number"),
    ],
)
def test_the_verb_refuses_what_sets_nothing(shell: TestingShell, words: str, said: str):
    with pytest.raises(InvalidInput, match=said):
        shell.run(f"%persona templates use invoice-watcher --set {words}")


def test_names_and_parameters_are_completed(studio: Studio):
    assert complete("templates use inv", lambda: studio) == ("inv", ["invoice-watcher"])
    found = complete("templates use invoice-watcher --set gr", lambda: studio)
    assert found == ("gr", ["grace_days="])


# ── from a wheel ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_templates_are_in_the_wheel_and_are_found_from_there(tmp_path: Path):
    source = tmp_path / "source"
    for name in ("personas_nb", "templates"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "samples"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build_wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build_wheel, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if "/templates/" in name]
        archive.extractall(tmp_path / "installed")
    assert sorted(inside) == [f"personas_nb/templates/{name}.ipynb" for name in NAMES]
    listed = subprocess.run(
        [sys.executable, "-m", "personas_nb", "templates", "list"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path / "installed"),
            "PERSONAS_HOME": str(tmp_path / "home"),
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert all(name in listed for name in NAMES)


def test_a_checkout_has_them_beside_the_package():
    assert shipped_folder() == ROOT / "templates"
    assert json.loads((shipped_folder() / "kpi-digest.ipynb").read_text())["metadata"]["personas_nb"][
        "template"
    ]
