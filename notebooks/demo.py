"""The main job, headless and offline: executes the quickstart in a home of its own and says what happened."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".demo"
NOTEBOOK = FOLDER / "01-quickstart.ipynb"
PERSONA = "invoice-watcher"


def prepare() -> None:
    """A home and a folder of their own, and rehearsal whatever keys there are."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    shutil.copy(HERE / "01-quickstart.ipynb", NOTEBOOK)
    for name in [name for name in os.environ if name.startswith("PERSONAS_")]:
        del os.environ[name]
    os.environ["PERSONAS_HOME"] = str(FOLDER / "home")
    os.environ["PERSONAS_PROVIDER"] = "rehearsal"
    os.environ["PERSONAS_KEYRING"] = "off"
    os.environ["PERSONAS_KEY_FILE"] = str(FOLDER / "key" / "keys.json")


def execute() -> str | None:
    """Run every cell and save the notebook with its outputs; the error, if there was one."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    error = None
    try:
        NotebookClient(
            notebook,
            timeout=300,
            resources={"metadata": {"path": str(FOLDER)}},
            extra_arguments=[
                "--IPKernelApp.log_level=ERROR"
            ],  # its transport is loopback, and no concern here
        ).execute()
    except CellExecutionError as problem:
        error = f"{problem.ename}: {problem.evalue}"
    nbformat.write(notebook, NOTEBOOK)
    return error


def account() -> bool:
    """Print what the run did and cost; whether it went well."""
    from personas_nb import Studio

    with Studio() as studio:
        persona = studio.personas.get(PERSONA)
        run = studio.executions.get(studio.executions.list(persona.slug, limit=1)[0].id)
        reviews = studio.reviews.list(status=None)
        tools = [f"{step.tool}{'' if step.performed else ' (described)'}" for step in run.tool_steps]
        tokens = f"{run.input_tokens:,} in, {run.output_tokens:,} out"
        cost = "unknown" if run.cost_usd is None else f"${run.cost_usd:.4f}".rstrip("0").rstrip(".")
        lines = {
            "persona": f"{persona.name} — {persona.description}",
            "run": f"{run.status} in {(run.duration_ms or 0) / 1000:.1f} s"
            + (" — REHEARSAL: no model was asked" if run.rehearsal else ""),
            "tools called": ", ".join(tools) or "none",
            "outcome": (run.outcome or {}).get("summary", "not assessed"),
            "reviews": ", ".join(f"{review.title}: {review.status}" for review in reviews) or "none",
            "messages": f"{len(studio.messages.list())} sent, {len(studio.memories.list(persona.slug))} remembered",
            "tokens": tokens + (" (estimated)" if run.rehearsal else ""),
            "cost": cost,
            "notebook": os.path.relpath(NOTEBOOK),
        }
    width = max(map(len, lines))
    print()
    for name, text in lines.items():
        print(f"  {name:<{width}}  {text}")
    print()
    return run.status == "completed" and all(review.status == "approved" for review in reviews)


def main() -> int:
    """Exit code 0 when everything went well."""
    prepare()
    print("Running notebooks/01-quickstart.ipynb, offline …")
    if error := execute():
        print(f"✕ The quickstart stopped: {error}", file=sys.stderr)
        return 1
    if not account():
        print("✕ The run did not end well; open the notebook above to see why.", file=sys.stderr)
        return 1
    print("✓ Open it with `make lab`, or read on in README.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
