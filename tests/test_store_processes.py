"""Several real processes on one store: working at once, killed in the middle, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from personas_nb.entities.group import PersonaGroup
from personas_nb.store.database import Store
from personas_nb.store.table import Table

START = """
import os, signal, sys, threading, time
from pathlib import Path
from personas_nb.entities.group import PersonaGroup
from personas_nb.store.database import Store
store = Store(Path(sys.argv[1]))
groups = store.table("persona_groups", PersonaGroup)
def say(word):
    print(word, flush=True)
"""

INTERLEAVED = """
name = sys.argv[2]
mine = groups.insert(PersonaGroup(name=name))
say("ready")
sys.stdin.readline()
for number in range(1_250):
    with store.write() as db:
        total = db.execute("select sort_order from persona_groups where id = 'counter'").fetchone()[0]
        db.execute("update persona_groups set sort_order = ? where id = 'counter'", [total + 1])
    row = groups.insert(PersonaGroup(name=f"{name} {number}"))
    assert groups.get(row.id) == row
    groups.update(mine.id, sort_order=number)
say("done")
"""

IN_TRANSACTION = """
with store.write():
    groups.insert(PersonaGroup(name="never"))
    say("inside")
    time.sleep(600)
"""

IDLE = """
groups.insert(PersonaGroup(name="idle"))
groups.find()
say("idle")
sys.stdin.readline()
groups.insert(PersonaGroup(name="awake"))
say("awake")
"""

WRITING = """
number = 0
say("writing")
while True:
    with store.write():
        groups.insert(PersonaGroup(name=f"{number} a"))
        groups.insert(PersonaGroup(name=f"{number} b"))
    number += 1
"""


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Table[PersonaGroup]]:
    store = Store(tmp_path)
    yield store.table("persona_groups", PersonaGroup)
    store.close()


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python of its own with the store open; gone at the end, whatever state it is in."""
    words = [sys.executable, "-c", START + code, *map(str, arguments)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def heard(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    return child.stdout.readline().strip()


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_two_processes_do_ten_thousand_operations_at_once_without_an_error(
    groups: Table[PersonaGroup],
) -> None:
    groups.insert(PersonaGroup(id="counter", name="counter"))
    home = groups.store.home
    with process(INTERLEAVED, home, "one") as one, process(INTERLEAVED, home, "two") as two:
        assert [heard(one), heard(two)] == ["ready", "ready"]
        go(one)
        go(two)
        assert [heard(one), heard(two)] == ["done", "done"]
        assert [one.wait(30), two.wait(30)] == [0, 0]
    counter = groups.get("counter")
    assert counter is not None
    assert counter.sort_order == 2_500  # a lost update would be missing here
    assert groups.count() == 2_500 + 3
    assert groups.store.check() == "ok"


def test_two_processes_that_make_the_same_new_store_both_find_it_whole(tmp_path: Path) -> None:
    with process(IDLE, tmp_path / "home") as one, process(IDLE, tmp_path / "home") as two:
        assert [heard(one), heard(two)] == ["idle", "idle"]
    store = Store(tmp_path / "home")
    assert store.table("persona_groups", PersonaGroup).count() == 2
    assert store.check() == "ok"
    store.close()


def test_a_process_killed_inside_a_transaction_leaves_no_row_and_no_lock(groups: Table[PersonaGroup]) -> None:
    groups.insert(PersonaGroup(name="before"))
    with process(IN_TRANSACTION, groups.store.home) as child:
        assert heard(child) == "inside"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
        groups.insert(PersonaGroup(name="after"))
    assert [group.name for group in groups.find()] == ["before", "after"]
    assert groups.store.check() == "ok"


def test_transactions_are_whole_however_often_their_process_is_killed(groups: Table[PersonaGroup]) -> None:
    for _ in range(5):
        written = groups.count()
        with process(WRITING, groups.store.home) as child:
            assert heard(child) == "writing"
            wait_until(lambda before=written: groups.count() > before + 20)  # type: ignore[misc]
            os.kill(child.pid, signal.SIGKILL)
    names = [group.name for group in groups.find()]
    # One writer at a time: the halves of a transaction are neighbours.
    assert [name.replace("a", "b") for name in names[::2]] == names[1::2]
    assert groups.store.check() == "ok"


def test_a_process_stopped_outside_of_a_transaction_blocks_nobody(groups: Table[PersonaGroup]) -> None:
    with process(IDLE, groups.store.home) as child:
        assert heard(child) == "idle"
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(child.pid))
        groups.insert(PersonaGroup(name="meanwhile"))
        with process(IDLE, groups.store.home) as other:
            assert heard(other) == "idle"
        os.kill(child.pid, signal.SIGCONT)
        go(child)
        assert heard(child) == "awake"
    assert [group.name for group in groups.find()] == ["idle", "meanwhile", "idle", "awake"]


def test_writers_wait_for_a_process_that_is_stopped_inside_a_transaction(groups: Table[PersonaGroup]) -> None:
    with process(IN_TRANSACTION, groups.store.home) as child:
        assert heard(child) == "inside"
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(child.pid))
        assert groups.count() == 0  # readers do not wait
        with process(IDLE, groups.store.home) as waiting:
            os.kill(child.pid, signal.SIGKILL)
            assert heard(waiting) == "idle"
    assert [group.name for group in groups.find()] == ["idle"]
