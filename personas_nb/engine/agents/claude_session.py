"""What the Claude CLI has noted of a session, as one text that another CLI, elsewhere, can resume.

It is found in ``projects/<the workspace's path>/`` of the CLI's configuration. Nothing else of its HOME is kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

from personas_nb.errors import ModelError

LIMIT_BYTES = 64 * 1024 * 1024


def kept_session(config: Path, session_id: str) -> str:
    """The session's notes as text; blocks. Raises ``ModelError`` where they are missing or too large."""
    found = sorted((config / "projects").glob(f"*/{session_id}.jsonl")) if session_id else []
    if not found:
        raise ModelError("The Claude CLI has kept nothing of its session.", kind="cli", hint="Run again.")
    folder = found[0].parent
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_size for path in files) > LIMIT_BYTES:
        raise ModelError(
            f"The conversation is over {LIMIT_BYTES // 2**20} MiB, too large to be kept until you decide.",
            kind="cli",
            hint="Give less input, or split the work into several runs.",
        )
    texts = {str(path.relative_to(folder)): path.read_text("utf-8", "replace") for path in files}
    return json.dumps({"session_id": session_id, "files": texts}, ensure_ascii=False)


def restored_session(kept: str, config: Path, cwd: Path) -> str:
    """Put a session where a CLI that works in ``cwd`` finds it; its id. Blocks."""
    session = json.loads(kept)
    folder = config / "projects" / re.sub(r"[^A-Za-z0-9]", "-", str(cwd.resolve()))
    for name, text in session["files"].items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            continue
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return str(session["session_id"])
