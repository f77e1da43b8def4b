"""Forty real workflows: what is known of their triggers is met, and every node has its entry."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.shared import SHARED

from personas_nb.design.formats.n8n import read
from personas_nb.design.formats.report import ImportReport
from personas_nb.engine.prompt import assemble
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput
from personas_nb.triggers import cron
from personas_nb.views.design import design_card, flow_markdown

FOLDER = SHARED / "n8n"
FILES = sorted(FOLDER.glob("*.json"))
WORKFLOWS, DAMAGED = FILES[:38], FILES[38:]
AFTER = datetime(2027, 1, 1, tzinfo=UTC)

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not FILES, reason="the workflows are not on this machine"),
]


@cache
def imported(path: Path) -> ImportReport:
    return read(path.read_bytes(), path.name)


def expected() -> list[dict[str, Any]]:
    lines = (FOLDER / "expected_triggers.jsonl").read_text(encoding="utf-8").splitlines() if FILES else []
    return [json.loads(line) for line in lines]


def fires_of(config: dict[str, Any]) -> list[datetime]:
    return list(cron.fires(config["cron"], AFTER, config.get("timezone") or "UTC", 50))


def is_met(schedule: dict[str, Any], config: dict[str, Any], zone: str | None) -> bool:
    if schedule["cron"] and "cron" in config:
        return fires_of(config) == fires_of({"cron": schedule["cron"], "timezone": zone})
    return "cron" not in config and config.get("interval_seconds") == schedule["interval_seconds"]


@pytest.mark.parametrize("row", expected(), ids=lambda row: f"{row['file'][:2]} {row['node']}")
def test_an_expected_trigger_is_met(row: dict[str, Any]) -> None:
    report = imported(FOLDER / row["file"])
    triggers = [one for one in report.draft.suggested_triggers if one.source_node == row["node"]]
    entries = [one for one in report.entries if one.source == row["node"]]
    assert entries
    if row["disabled"]:
        assert (triggers, entries[0].outcome) == ([], "dropped")
        return
    assert entries[0].outcome != "dropped" or row["kind"] == "instance_event"
    for schedule in row.get("schedules", ()):
        met = any(is_met(schedule, one.config, row["timezone"]) for one in triggers)
        assert met or (schedule["ambiguous"] and (triggers or entries[0].outcome == "needs_human"))
    if row["kind"] == "webhook":
        (trigger,) = triggers
        assert trigger.trigger_type == "webhook"
        assert (trigger.config["path"], trigger.config["methods"]) == (
            row["webhook"]["path"],
            row["webhook"]["methods"],
        )


def test_there_are_38_workflows_and_two_that_are_damaged() -> None:
    assert (len(WORKFLOWS), len(DAMAGED)) == (38, 2)
    assert len(expected()) >= 91


@pytest.mark.parametrize("path", DAMAGED, ids=lambda path: path.name[:2])
def test_a_damaged_file_is_refused_clearly(path: Path) -> None:
    with pytest.raises(InvalidInput, match="was damaged: its keys stand in quotes twice") as refused:
        read(path.read_bytes(), path.name)
    assert "Export the workflow again in n8n" in refused.value.hint


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name[:2])
def test_every_node_has_its_entry_and_every_step_is_reached(path: Path) -> None:
    report = imported(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    sources = {one.source for one in report.entries}
    assert [one["name"] for one in document["nodes"] if " ".join(one["name"].split()) not in sources] == []
    assert report.name
    assert all(one.reason for one in report.entries)
    known = {step.id for step in report.draft.flow.steps}
    assert all({edge.source, edge.target} <= known for edge in report.draft.flow.edges)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name[:2])
def test_it_can_be_shown_and_its_prompt_assembled(path: Path) -> None:
    draft = imported(path).draft
    card = design_card(draft)
    assert "<script" not in card.html
    graph = flow_markdown(draft.flow)
    assert len(graph.markdown or "") < 50_000  # of more, mermaid makes no picture
    persona = Persona(
        name=draft.name, system_prompt=draft.full_prompt_markdown, structured_prompt=draft.structured_prompt
    )
    assert "Instructions" in assemble(persona, boundary="b0")
