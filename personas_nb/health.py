"""Whether the parts of the house work, each with the time that the look took."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from personas_nb.engine.agents.launch import find_cli
from personas_nb.engine.models import has_claude, resolve
from personas_nb.engine.retention import Retention
from personas_nb.errors import PersonaError
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.vault.keys import KeyRing
from personas_nb.worker import is_alive, is_stalled

Part = dict[str, Any]
Finding = tuple[str, str]
WAL_RESET_FIXED = (3, 51, 3)
LOW_DISK_BYTES = 500 * 2**20


def check(store: Store, settings: Callable[[], Settings], keys: KeyRing) -> list[Part]:
    """One row a part: ``name``, ``status`` (healthy, degraded, unhealthy), ``latency_ms``, ``detail``.

    Nothing is sent anywhere, and no model is asked.
    """
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("store", lambda: _store(store)),
        ("sqlite", _sqlite),
        ("disk", lambda: _disk(store.home)),
        ("workers", lambda: _workers(store)),
        ("retention", lambda: _retention(store, settings())),
        ("key", lambda: _key(keys)),
        ("model", lambda: _model(settings())),
        ("claude", lambda: _claude(settings())),
    ]
    return [_looked(name, look) for name, look in looks]


def _looked(name: str, look: Callable[[], Finding]) -> Part:
    started = time.perf_counter()
    try:
        status, detail = look()
    except (PersonaError, OSError) as error:
        status, detail = "unhealthy", str(error)
    latency_ms = round((time.perf_counter() - started) * 1000, 1)
    return {"name": name, "status": status, "latency_ms": latency_ms, "detail": detail}


def _store(store: Store) -> Finding:
    opinion = store.check()
    if opinion != "ok":
        return "unhealthy", f"{store.path}: {opinion}"
    if store.is_on_network:
        return "degraded", f"{store.path} lies on a network file system: use it from one host only."
    return "healthy", str(store.path)


def _sqlite() -> Finding:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        return "degraded", f"SQLite {version}: a rare fault of its log is repaired from 3.51.3 on."
    return "healthy", f"SQLite {version}"


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    return "degraded" if free < LOW_DISK_BYTES else "healthy", f"{free / 2**30:.1f} GiB free"


def _workers(store: Store) -> Finding:
    with store.read() as db:
        rows = db.execute("select id, pid, lock_path from workers where stopped_at is null").fetchall()
    alive = [
        str(row["pid"])
        for row in rows
        if is_alive(Path(row["lock_path"])) and not is_stalled(store, row["id"])
    ]
    return "healthy", f"{len(alive)} at work (process {', '.join(alive)})" if alive else "none at work"


def _retention(store: Store, settings: Settings) -> Finding:
    kept = (
        f"runs are kept for {settings.retention_days} days, and the newest {settings.retention_min_executions} "
        "of each persona"
    )
    last = Retention(store, settings).last()
    if last is None:
        return "healthy", f"{kept}; none was removed yet"
    count, day = last.data.get("executions", 0), last.created_at.date()
    return "healthy", f"{kept}; {count:,} were removed on {day} (UTC)"


def _key(keys: KeyRing) -> Finding:
    return "healthy", keys.where()


def _model(settings: Settings) -> Finding:
    model = resolve(None, settings=settings)
    if model.is_rehearsal:
        return "healthy", "rehearsal" + (f": {model.notes[0]}" if model.notes else "")
    return "healthy", f"{model.provider}, {model.model}, {model.base_url}, engine {model.engine}"


def _claude(settings: Settings) -> Finding:
    """The Claude CLI is asked for its version; no run of it is started."""
    if settings.cli_path is None and not has_claude():
        return "healthy", "not installed; the engine claude needs `pip install 'personas-nb[claude]'`"
    path, version = find_cli(settings.cli_path)
    return "healthy", f"Claude CLI {version}, {path}"
