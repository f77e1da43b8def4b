"""What the Claude CLI has noted of a session, as one text that another CLI, elsewhere, can resume.

It is found in ``projects/<the workspace's path>/`` of the CLI's configuration. Nothing else of its HOME is kept.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path, PurePosixPath

from personas_nb.errors import ModelError

NOTED_SECONDS = 20.0
QUIET_SECONDS = 0.3
LIMIT_BYTES = 64 * 1024 * 1024


def is_noted(config: Path, session_id: str, call_id: str) -> bool:
    """Whether the CLI has written down that a call waits, and all before it; blocks.

    It writes behind: its result comes before its notes. They are whole once they have not grown for a moment.
    """
    until = time.monotonic() + NOTED_SECONDS
    size_bytes, since = -1, time.monotonic()
    while time.monotonic() < until:
        found = _notes(config, session_id)
        now_bytes = found.stat().st_size if found else -1
        if now_bytes != size_bytes:
            size_bytes, since = now_bytes, time.monotonic()
        elif found and time.monotonic() - since > QUIET_SECONDS and _has_deferred(found, call_id):
            return True
        time.sleep(0.05)
    return False


def _has_deferred(notes: Path, call_id: str) -> bool:
    with notes.open(encoding="utf-8", errors="replace") as lines:
        return any("hook_deferred_tool" in line and f'"{call_id}"' in line for line in lines)


def _notes(config: Path, session_id: str) -> Path | None:
    found = sorted((config / "projects").glob(f"*/{session_id}.jsonl")) if session_id else []
    return found[0] if found else None


def kept_session(config: Path, session_id: str) -> str:
    """The session's notes as text; blocks. Raises ``ModelError`` where they are missing or too large."""
    notes = _notes(config, session_id)
    if notes is None:
        raise ModelError("The Claude CLI has kept nothing of its session.", kind="cli", hint="Run again.")
    folder = notes.parent
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
