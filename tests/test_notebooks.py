"""The tutorials run: offline, twice on one store, and with a model over both API shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.model_server import ModelServer, Request, Turn, Usage
from support.notebooks import NOTEBOOKS, TUTORIALS, cell_with, execute, text_of, text_of_cell

from personas_nb import Studio
from personas_nb.triggers.webhooks import secret_of

QUICKSTART = "01-quickstart.ipynb"
TOOLS = "03-credentials-tools-approval.ipynb"
DESIGN = "04-design-and-refine.ipynb"
SCHEDULES = "07-schedules-and-events.ipynb"
PLAN = {
    "name": "Invoice watcher",
    "summary": "Finds overdue invoices and asks before reminding anybody.",
    "structured_prompt": {
        "identity": "You watch invoices.",
        "instructions": "1. Read the files.\n2. List what is overdue.\n3. Ask for a manual_review.",
    },
    "suggested_tools": ["file_read", "file_write"],
    "suggested_triggers": [
        {"trigger_type": "schedule", "config": {"cron": "0 9 * * 1-5"}, "description": "weekdays at 9"}
    ],
}
ANSWER = """\
Two invoices are overdue: 2026-101 and 2026-102.
{"manual_review": {"title": "Send two reminders?", "description": "2026-101 and 2026-102", "severity": "low"}}
{"agent_memory": {"title": "Nordlicht pays late", "content": "Its bank returned a transfer."}}
{"user_message": {"title": "Overdue invoices", "content": "2026-101, 2026-102"}}
{"outcome_assessment": {"accomplished": true, "summary": "Listed two overdue invoices."}}
"""


def scripted(request: Request, _n: int) -> Turn:
    """A model that designs, refines and runs the quickstart's persona."""
    usage = Usage(input_tokens=900, output_tokens=120)
    if "file_read" not in request.tool_names:
        if request.mentions("8:30"):
            trigger = {"trigger_type": "schedule", "config": {"cron": "30 8 * * 1-5"}}
            return Turn.output({"suggested_triggers": [trigger]}, usage=usage)
        return Turn.output(PLAN, usage=usage)
    if any(
        "tool" in str(message.get("role")) or "tool_result" in str(message) for message in request.messages
    ):
        return Turn.text(ANSWER, chunk=9, usage=usage)
    return Turn.tools(
        ("file_read", {"path": "inputs/invoices.csv"}),
        ("file_write", {"path": "overdue.md", "content": "2026-101\n2026-102\n"}),
        usage=usage,
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAS_PROVIDER", "rehearsal")


def errors_in(notebook: Any) -> list[Any]:
    outputs = (out for cell in notebook.cells for out in cell.get("outputs", []))
    return [out for out in outputs if out.output_type == "error"]


# That of the schedules waits for real due times: it is run twice where it is looked at.
@pytest.mark.parametrize("name", [name for name in TUTORIALS if name != SCHEDULES])
def test_a_tutorial_runs_twice_on_one_store(name: str, tmp_path: Path, offline: None) -> None:
    for _ in range(2):
        assert errors_in(execute(name, tmp_path)) == []


def test_the_second_quickstart_says_what_it_kept(tmp_path: Path, offline: None) -> None:
    execute(QUICKSTART, tmp_path)
    again = execute(QUICKSTART, tmp_path)
    assert "nothing" in text_of_cell(cell_with(again, "%persona apply")).lower()
    with Studio() as studio:
        persona = studio.personas.get("invoice-watcher")
        assert len(studio.personas.list()) == 1
        assert len(studio.versions.list(persona)) == 1
        assert [run.status for run in studio.executions.list()] == ["completed", "completed"]


def test_the_quickstart_says_rehearsal_wherever_it_shows_the_run(tmp_path: Path, offline: None) -> None:
    notebook = execute(QUICKSTART, tmp_path)
    for beginning in ("%%persona run", "%persona messages", "%persona costs"):
        assert "rehearsal" in text_of_cell(cell_with(notebook, beginning)).lower(), beginning


def test_the_outputs_of_the_quickstart_are_small_and_free_of_widgets(tmp_path: Path, offline: None) -> None:
    notebook = execute(QUICKSTART, tmp_path)
    written = nbformat.writes(notebook)
    assert len(written) < 250_000
    assert "widget-view" not in written


@pytest.mark.parametrize(
    ("provider", "model"), [("anthropic", "claude-sonnet-5-5"), ("custom", "gpt-5-mini")]
)
def test_the_quickstart_runs_unchanged_with_a_model(
    provider: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-quickstart-0123456789"
    with ModelServer(scripted) as server:
        monkeypatch.setenv("PERSONAS_PROVIDER", provider)
        monkeypatch.setenv("PERSONAS_MODEL", model)
        monkeypatch.setenv("PERSONAS_BASE_URL", server.url)
        monkeypatch.setenv("PERSONAS_AUTH_TOKEN", key)
        notebook = execute(QUICKSTART, tmp_path)
    shown = text_of(notebook)
    assert "Two invoices are overdue" in shown
    assert "rehears" not in shown.lower()
    assert key not in json.dumps(notebook)
    with Studio() as studio:
        run = studio.executions.get("latest")
        assert (run.status, run.provider, run.model_used) == ("completed", provider, model)
        assert run.cost_usd is not None
        assert run.cost_usd > 0
        assert [step.tool for step in run.tool_steps] == ["file_read", "file_write"]
        assert [review.status for review in studio.reviews.list(status=None)] == ["approved"]
        assert studio.sessions.list()[0].result is not None
        assert studio.sessions.list()[0].result.suggested_triggers[0].config["cron"] == "30 8 * * 1-5"


def test_nothing_of_the_tutorials_token_is_in_what_it_leaves_behind(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = execute(TOOLS, tmp_path)
    home = tmp_path / "credentials-and-tools-home"
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(home / "keys" / "keys.json"))
    with Studio(home=home) as studio:
        token = studio.credentials.opened("orders")["token"].encode()
        used = {row["tool"]: row["calls"] for row in studio.metrics.tools("clerk").to_dict("records")}
    assert [path for path in tmp_path.rglob("*") if path.is_file() and token in path.read_bytes()] == []
    found = text_of_cell(cell_with(notebook, "files = ["))
    for line in ("the service got the token: True", "Bearer [secret orders.token]"):
        assert line in found
    assert [line.split()[-1] for line in found.splitlines() if line.startswith(("seen", "in a file"))] == [
        "False",
        "False",
    ]
    assert text_of_cell(cell_with(notebook, "came")) == "[]"
    assert "'POST', '/refunds'" in text_of_cell(cell_with(notebook, "[(method"))
    assert used["http_request"] == 3
    assert (used["load_sales"], used["plot_sales"]) == (1, 1)


def designing(request: Request, _n: int) -> Turn:
    """A model that asks once, designs, and changes what it is told to change."""
    usage = Usage(input_tokens=900, output_tokens=120)
    if "change" in request.tool_names:
        if request.mentions("at 6 instead"):
            trigger = {"trigger_type": "schedule", "config": {"cron": "0 6 * * 1"}}
            return Turn.output({"suggested_triggers": [trigger]}, where="change", usage=usage)
        if request.mentions("call it Front desk"):
            return Turn.output({"name": "Front desk"}, where="change", usage=usage)
        trigger = {"trigger_type": "schedule", "config": {"cron": "30 8 * * 1-5"}}
        tools = ["http_request", "file_write"]
        wanted = {"suggested_triggers": [trigger], "suggested_tools": tools}
        return Turn.output(wanted, where="change", usage=usage)
    if request.mentions("Help me") and not request.mentions("The user's answer"):
        asked = {"question": "With what?", "options": ["The orders", "The mail"]}
        return Turn.output(asked, where="question", usage=usage)
    prompt = {
        "identity": "You watch the orders.",
        "instructions": "1. GET /orders of the API.\n2. Send a summary.",
    }
    if request.mentions("orders.md"):
        prompt["identity"] = "You watch the orders once a week."
    slack = {"type": "slack", "required_connector": "slack"}
    plan = {
        **PLAN,
        "name": "Order desk",
        "structured_prompt": prompt,
        "suggested_tools": ["http_request"],
        "suggested_notification_channels": [slack],
    }
    return Turn.output(plan, where="plan", usage=usage)


@pytest.mark.parametrize(
    ("provider", "model"), [("anthropic", "claude-sonnet-5-5"), ("custom", "gpt-5-mini")]
)
def test_the_design_tutorial_runs_unchanged_with_a_model(
    provider: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(designing) as server:
        monkeypatch.setenv("PERSONAS_PROVIDER", provider)
        monkeypatch.setenv("PERSONAS_MODEL", model)
        monkeypatch.setenv("PERSONAS_BASE_URL", server.url)
        monkeypatch.setenv("PERSONAS_AUTH_TOKEN", "sk-tutorial-0123456789")
        notebook = execute(DESIGN, tmp_path)
    assert "With what?" in text_of_cell(cell_with(notebook, "%persona design Help me"))
    assert "▲ conflict  Identity" in text_of_cell(
        cell_with(notebook, '%persona design "Order desk" "Every Monday')
    )
    assert "REHEARSAL" not in text_of(notebook)
    seen = json.dumps([request.body for request in server.requests])
    assert "POST /orders/{id}/refunds" in seen
    assert "Refunds are paid within 30 days." in seen
    assert "tk-0123456789" not in seen + text_of(notebook)
    assert "Atelier Brun" in seen  # of the table; of the DataFrame only its schema
    assert "2019" not in seen


def test_the_design_tutorial_tells_what_it_should(tmp_path: Path, offline: None) -> None:
    execute(DESIGN, tmp_path)
    notebook = execute(DESIGN, tmp_path)  # as somebody sees it who presses Run All twice
    refused = text_of_cell(cell_with(notebook, 'Path("invoice.pdf")'))
    for said in ("is no PDF", "larger than 1,048,576 bytes", "not an address of the public internet"):
        assert said in refused
    first, second, *_ = (cell for cell in notebook.cells if cell.source == "%persona apply")
    assert "no credential for Slack" in text_of_cell(first)
    assert "no credential for Slack" not in text_of_cell(second)
    assert "changed by another notebook or kernel" in text_of_cell(cell_with(notebook, "mine, theirs"))
    assert "tk-0123456789" not in text_of(notebook)


def test_the_schedules_tutorial_really_fires_and_runs_twice_on_one_store(
    tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = execute(SCHEDULES, tmp_path)
    assert errors_in(execute(SCHEDULES, tmp_path)) == []
    assert "copper" in text_of_cell(cell_with(notebook, "poller ="))
    assert "the supplier moves its server" in text_of_cell(cell_with(notebook, "%persona triggers resume"))
    assert "'completed', 'price-desk'" in text_of_cell(
        cell_with(notebook, "until(lambda: studio.executions.list(buyer) and")
    )
    assert "event_chain_depth" in text_of_cell(cell_with(notebook, "%persona events dead"))
    assert "1 run started" in text_of_cell(cell_with(notebook, "%persona events replay"))
    assert "401" in text_of_cell(cell_with(notebook, "import socket"))
    assert text_of_cell(cell_with(notebook, "from personas_nb.triggers.webhooks")) == "(202, 200)"
    assert "a headless process" in text_of_cell(cell_with(notebook, "%persona triggers status"))
    log = text_of_cell(cell_with(notebook, "headless.terminate()"))
    assert "standing by: a kernel" in log
    assert "✓ price-desk polling" in log
    assert "ended: " in log
    home = tmp_path / "schedules-home"
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(home / "keys" / "keys.json"))
    with Studio(home=home) as studio:
        hook = next(one for one in studio.triggers.list() if one.trigger_type == "webhook")
        secret = (secret_of(studio.credentials, hook) or "").encode()
    assert secret
    assert [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()] == []


def test_the_tutorials_are_checked_in_without_outputs() -> None:
    for name in TUTORIALS:
        notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
        assert [cell.outputs for cell in notebook.cells if cell.get("outputs")] == []
