"""The house stays in order: imports go down, rooms say what they are, the front door is what it says."""

from __future__ import annotations

import ast
from pathlib import Path

import personas_nb

ROOT = Path(personas_nb.__file__).parent
# Each floor may import its own and lower ones.
FLOORS = [
    "errors settings entities",
    "store",
    "worker",
    "vault",
    "notify",
    "tools",
    "personas",
    "metrics",
    "engine",
    "triggers",
    "design",
    "health",
    "studio",
    "views",
    "verbs",
    "server",
    "panels",
    "magics __main__",
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("personas_nb.")}
    return rooms


def test_every_module_stands_on_a_floor():
    rooms = {path.relative_to(ROOT).with_suffix("").parts[0] for path in ROOT.rglob("*.py")} - {"__init__"}
    assert rooms <= set(FLOOR), rooms - set(FLOOR)


def test_imports_go_down_only():
    wrong = []
    for path in ROOT.rglob("*.py"):
        here = FLOOR.get(path.relative_to(ROOT).with_suffix("").parts[0])
        if here is None:
            continue
        wrong += [f"{path.name} → {room}" for room in imported_rooms(path) if FLOOR.get(room, -1) > here]
    assert wrong == []


def test_every_folder_opens_with_what_lives_there():
    silent = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_only_the_store_opens_connections():
    openers = [
        path.relative_to(ROOT).parts[0]
        for path in ROOT.rglob("*.py")
        if "sqlite3.connect(" in path.read_text(encoding="utf-8")
    ]
    assert set(openers) == {"store"}


def test_nothing_but_the_terminal_prints():
    printers = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printers.add(path.relative_to(ROOT).as_posix())
    assert {name for name in printers if not name.startswith(("verbs/", "views/", "__main__"))} == set()


def test_the_front_door_offers_what_it_lists():
    assert {name for name in personas_nb.__all__ if getattr(personas_nb, name) is not None} == set(
        personas_nb.__all__
    )
