"""Executing a tutorial in a folder and home of its own, and reading what it shows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TUTORIALS = sorted(path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb"))


def execute(name: str, folder: Path) -> Any:
    """The tutorial, executed in ``folder`` by a real kernel and saved there; the process's environment counts."""
    import nbformat
    from nbclient import NotebookClient

    path = folder / name
    shutil.copy(NOTEBOOKS / name, path)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    finally:
        nbformat.write(notebook, path)
    return notebook


def text_of(notebook: Any) -> str:
    """Everything that the outputs say, as plain text."""
    return "\n".join(text_of_cell(cell) for cell in notebook.cells)


def text_of_cell(cell: Any) -> str:
    """What one cell shows, as plain text."""
    parts = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append(f"{output.ename}: {output.evalue}")
        else:
            parts.append(output.data.get("text/plain", ""))
    return "\n".join(parts)


def cell_with(notebook: Any, beginning: str) -> Any:
    """The first code cell whose source begins like this."""
    return next(
        cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.startswith(beginning)
    )
