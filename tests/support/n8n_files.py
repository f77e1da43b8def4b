"""Workflows of n8n, written in a line or two."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from personas_nb.design.formats.n8n import read
from personas_nb.design.formats.report import ImportEntry, ImportReport

FIXTURES = Path(__file__).parents[1] / "fixtures" / "n8n"
BASE, AI = "n8n-nodes-base.", "@n8n/n8n-nodes-langchain."
_AI_KINDS = (
    *("agent", "chain", "lmChat", "memory", "tool", "outputParser", "openAi", "textClassifier", "embeddings"),
    *("informationExtractor", "vectorStore", "mcpTrigger", "sentimentAnalysis", "mcpClient"),
)


def node(name: str, kind: str, parameters: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A node; ``kind`` is the last part of its type, or a whole type."""
    package = "" if "." in kind else AI if kind.startswith(_AI_KINDS) else BASE
    return {"name": name, "type": package + kind, "typeVersion": 2, "parameters": parameters or {}} | fields


def to(*names: str, kind: str = "main") -> dict[str, Any]:
    """Connections of a node: one output, or for each name that is a “|”, the next output."""
    outputs: list[list[dict[str, Any]]] = [[]]
    for name in names:
        if name == "|":
            outputs.append([])
        else:
            outputs[-1].append({"node": name, "type": kind, "index": 0})
    return {kind: outputs}


def chain(*names: str) -> dict[str, Any]:
    """Connections that lead from each to the next."""
    return {first: to(second) for first, second in pairwise(names)}


def workflow(nodes: list[Any], connections: dict[str, Any] | None = None, **fields: Any) -> str:
    """The file of a workflow."""
    return json.dumps({"name": "Sample", "nodes": nodes, "connections": connections or {}, **fields})


def imported(nodes: list[Any], connections: dict[str, Any] | None = None, **fields: Any) -> ImportReport:
    """A workflow, read."""
    return read(workflow(nodes, connections, **fields), "sample.json")


def after_manual(*nodes: dict[str, Any], **fields: Any) -> ImportReport:
    """Nodes in a row behind a manual trigger, read."""
    row = [node("Start", "manualTrigger"), *nodes]
    return imported(row, chain(*(one["name"] for one in row)), **fields)


def entry(report: ImportReport, source: str) -> ImportEntry:
    """The one entry of a part."""
    (found,) = [one for one in report.entries if one.source == source]
    return found


def steps(report: ImportReport) -> str:
    """The instructions of a report."""
    return report.draft.structured_prompt.instructions


def everything(report: ImportReport) -> str:
    """All that a report says, as one text."""
    return json.dumps([report.draft.model_dump(mode="json"), report.to_dict()], ensure_ascii=False)
