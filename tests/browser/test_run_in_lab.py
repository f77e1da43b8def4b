"""The graph of a run in a real JupyterLab, from a notebook that nobody trusts, with labels that try to break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from personas_nb.entities.execution import Execution
from personas_nb.entities.run_event import ProtocolHandled, RunEvent, ToolCallFinished, ToolCallStarted
from personas_nb.entities.tool import ToolCallStep
from personas_nb.views.display import outputs
from personas_nb.views.timeline import execution_timeline

HOSTILE = (
    "end", "1. first", "- item", '"quoted" [a] {b} (c)', "`code` ``` fence", "$$y$$", "<b>x</b><script>", "a --> b",
    "%%{init: {}}%%", "line\nbreak", "#35;", "日本語", "click s1 href", "|pipe|", "\\", "x" * 400, "",
)  # fmt: skip


def events() -> list[RunEvent]:
    found: list[RunEvent] = []
    for number, text in enumerate(HOSTILE):
        call = {"call_id": str(number), "input": {"text": text}}
        found.append(ToolCallStarted(tool=text, **call))
        if number % 4:  # some are open together
            found += [ToolCallFinished(step=ToolCallStep(tool=text, error=text, **call))]
        found.append(ProtocolHandled(kind="user_message", data={"title": text, "content": text}))
    return found


def saved(folder: Path, run: Execution, name: str) -> None:
    """A notebook with the view of the run as its output, unsigned."""
    shown = [
        nbformat.v4.new_output("display_data", data=data, metadata=metadata)
        for data, metadata in outputs(execution_timeline(run, events()))
    ]
    cell = nbformat.v4.new_code_cell("%persona runs show latest", outputs=shown, execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / name)


def drawn(page: Any) -> str:
    """The text of the first graph, once it is drawn."""
    # attached: Lab may keep it out of sight while it lays the notebook out
    page.wait_for_selector(".jp-RenderedMermaid img", state="attached", timeout=60_000)
    source = page.locator(".jp-RenderedMermaid img").first.get_attribute("src")
    return str(page.evaluate("url => fetch(url).then(answer => answer.text())", source))


def test_a_flow_with_hostile_labels_is_drawn_and_says_them(
    open_notebook: Callable[..., Any], tmp_path: Path
) -> None:
    saved(
        tmp_path,
        Execution(persona_id="p", persona_name="Watcher", status="completed", outcome={}),
        "made.ipynb",
    )
    steps = tuple({"step": n, "action": text, "status": "completed"} for n, text in enumerate(HOSTILE))
    saved(
        tmp_path,
        Execution(persona_id="p", status="incomplete", execution_flows=steps, output_data="x"),
        "declared.ipynb",
    )
    for name in ("made.ipynb", "declared.ipynb"):
        page = open_notebook(name, with_kernel=False)
        svg = drawn(page)
        assert "Syntax error" not in svg
        assert "Unsupported markdown" not in svg
        for said in ("end", "first", "quoted", "a --&gt; b", "日本語", "$\u200b$y$\u200b$"):
            assert said in svg, (name, said)
        assert page.locator(".jp-RenderedMermaid.jp-mod-warning").count() == 0
