"""The key is changed, and at no moment, whoever is killed or writes meanwhile, does a credential not open."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backends import fail
from support.studios import line_of, python, wait_until
from test_keys import BACKEND, HangingKeyring

from personas_nb.entities.credential import VaultKey
from personas_nb.errors import Conflict, KeyUnavailable, VaultError
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import Key, KeyRing
from personas_nb.vault.sealing import Sealing

SECRET = "correct-horse-battery"
OTHER = "another-horse-entirely"


def room(folder: Path) -> Credentials:
    keys = KeyRing(key_file=folder / "keys" / "keys.json", use_keyring=False)
    return Credentials(Store(folder / "home"), keys)


@pytest.fixture
def credentials(tmp_path: Path) -> Iterator[Credentials]:
    found = room(tmp_path)
    found.add("hub", "github", {"token": SECRET})
    found.add("chat", "slack", {"bot_token": SECRET, "refresh_token": OTHER})
    yield found
    found.store.close()


def kept_keys(folder: Path) -> list[str]:
    return list(json.loads((folder / "keys" / "keys.json").read_text())["keys"])


def notes(credentials: Credentials) -> dict[str, str]:
    return {note.id: note.status for note in credentials.store.table("vault_keys", VaultKey).find()}


def values(credentials: Credentials) -> list[dict[str, str]]:
    return [credentials.opened(row) for row in credentials.list()]


# What a rotation does


def test_everything_opens_with_the_new_key_and_the_old_one_is_gone(
    credentials: Credentials, tmp_path: Path
) -> None:
    before, (old,) = values(credentials), kept_keys(tmp_path)
    rotation = credentials.rotate_key()
    assert rotation.credentials == 2
    assert rotation.forgotten
    assert kept_keys(tmp_path) == [rotation.key_id] != [old]
    assert notes(credentials) == {rotation.key_id: "active"}
    assert values(credentials) == values(room(tmp_path)) == before
    assert {row.key_id for row in credentials.list()} == {rotation.key_id}


def test_the_file_stays_for_its_owner_only(credentials: Credentials, tmp_path: Path) -> None:
    credentials.rotate_key()
    assert stat.S_IMODE((tmp_path / "keys" / "keys.json").stat().st_mode) == 0o600


def test_a_ciphertext_of_before_opens_nowhere_any_more(credentials: Credentials) -> None:
    row = credentials.get("hub")
    credentials.rotate_key()
    with credentials.store.write():
        credentials.store.table("credentials", type(row)).update(row.id, sealed=row.sealed)
    with pytest.raises(KeyUnavailable):
        credentials.opened("hub")


def test_a_home_without_secrets_can_be_given_a_key(tmp_path: Path) -> None:
    found = room(tmp_path)
    assert found.rotate_key().credentials == 0
    found.add("hub", "github", {"token": SECRET})
    assert found.opened("hub")["token"] == SECRET
    found.store.close()


def test_the_key_of_another_home_stays(credentials: Credentials, tmp_path: Path) -> None:
    other = Credentials(Store(tmp_path / "other"), credentials.keys)
    other.add("hub", "github", {"token": OTHER})
    credentials.rotate_key()
    fresh = Credentials(other.store, KeyRing(key_file=tmp_path / "keys" / "keys.json", use_keyring=False))
    assert fresh.opened("hub")["token"] == OTHER
    other.store.close()


def test_in_the_keyring_the_old_entry_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = tmp_path / "entries"
    entries.mkdir()
    monkeypatch.delenv("PERSONAS_KEYRING")
    monkeypatch.setenv("TEST_KEYRING_FOLDER", str(entries))
    names: dict[str, type] = {}
    exec(BACKEND, names)
    monkeypatch.setattr("keyring.core._keyring_backend", names["FolderKeyring"]())
    found = Credentials(Store(tmp_path / "home"), KeyRing(key_file=tmp_path / "keys.json"))
    found.add("hub", "github", {"token": SECRET})
    rotation = found.rotate_key()
    (entry,) = entries.iterdir()
    assert rotation.key_id in entry.name
    assert found.opened("hub")["token"] == SECRET
    found.store.close()


# What stops it


def test_a_secret_that_does_not_open_stops_it_and_nothing_changes(
    credentials: Credentials, tmp_path: Path
) -> None:
    row = credentials.get("chat")
    cut = {**row.sealed, "bot_token": row.sealed["bot_token"][:-8]}
    credentials.store.table("credentials", type(row)).update(row.id, sealed=cut)
    before, keys = notes(credentials), kept_keys(tmp_path)
    with pytest.raises(VaultError, match="The credential “chat” does not open, so the key stays") as caught:
        credentials.rotate_key()
    assert cut["bot_token"] not in str(caught.value)
    assert (notes(credentials), kept_keys(tmp_path)) == (before, keys)
    assert credentials.opened("hub")["token"] == SECRET


def test_a_lost_key_stops_it(credentials: Credentials, tmp_path: Path) -> None:
    (tmp_path / "keys" / "keys.json").unlink()
    late = room(tmp_path)
    with pytest.raises(KeyUnavailable, match="so the key stays"):
        late.rotate_key()
    late.store.close()


def test_a_lost_key_that_comes_back_opens_what_it_had_sealed(
    credentials: Credentials, tmp_path: Path
) -> None:
    file = tmp_path / "keys" / "keys.json"
    lost = json.loads(file.read_text())["keys"]
    file.unlink()
    late = room(tmp_path)
    late.add("new", "github", {"token": OTHER})
    file.write_text(json.dumps({"keys": json.loads(file.read_text())["keys"] | lost}))
    back = room(tmp_path)
    assert [back.opened(name)["token"] for name in ("hub", "new")] == [SECRET, OTHER]
    rotation = back.rotate_key()
    assert kept_keys(tmp_path) == [rotation.key_id]
    for found in (late, back):
        found.store.close()


def test_a_keyring_that_does_not_keep_the_new_key_changes_nothing(
    credentials: Credentials, tmp_path: Path
) -> None:
    (tmp_path / "keys" / "keys.json").chmod(0o640)
    before = notes(credentials)
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        credentials.rotate_key()
    assert notes(credentials) == before
    (tmp_path / "keys" / "keys.json").chmod(0o600)
    assert len(values(room(tmp_path))) == 2


def test_an_old_key_that_a_locked_keyring_holds_goes_with_the_next_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = tmp_path / "entries"
    entries.mkdir()
    monkeypatch.delenv("PERSONAS_KEYRING")
    monkeypatch.setenv("TEST_KEYRING_FOLDER", str(entries))
    names: dict[str, type] = {}
    exec(BACKEND, names)
    works, hangs = names["FolderKeyring"](), HangingKeyring(threading.Event())
    monkeypatch.setattr("keyring.core._keyring_backend", works)
    store, file = Store(tmp_path / "home"), tmp_path / "keys.json"
    first = Credentials(store, KeyRing(key_file=file, timeout_seconds=0.05))
    first.add("hub", "github", {"token": SECRET})
    keyring.set_keyring(hangs)
    assert not first.rotate_key().forgotten
    assert len(list(entries.iterdir())) == 1
    keyring.set_keyring(works)
    again = Credentials(store, KeyRing(key_file=file))
    assert again.rotate_key().forgotten
    assert len(list(entries.iterdir())) == 1
    assert again.opened("hub")["token"] == SECRET
    hangs.released.set()
    monkeypatch.setattr("keyring.core._keyring_backend", fail.Keyring())
    store.close()


def test_one_rotation_waits_for_another(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    import filelock

    monkeypatch.setattr("personas_nb.vault.sealing.ROTATION_WAIT_SECONDS", 0.05)
    with (
        filelock.FileLock(credentials.store.home / "rotate.lock"),
        pytest.raises(Conflict, match="Another process is changing the key"),
    ):
        credentials.rotate_key()
    assert len(values(credentials)) == 2


# Others meanwhile


def test_a_row_that_was_read_before_opens_after(credentials: Credentials, tmp_path: Path) -> None:
    reader = room(tmp_path)  # has not seen any key yet
    row = reader.get("hub")
    sealing = Sealing(reader.store, reader.keys)
    credentials.rotate_key()
    assert sealing.opened(row, "token") == SECRET
    assert reader.opened(row)["token"] == SECRET
    reader.store.close()


def test_who_had_the_old_key_in_hand_seals_with_the_new_one(credentials: Credentials, tmp_path: Path) -> None:
    class Late(Sealing):
        def key(self) -> Key:
            key = super().key()
            if not rotated:
                rotated.append(credentials.rotate_key().key_id)
            return key

    rotated: list[str] = []
    other = room(tmp_path)
    other._sealing = Late(other.store, other.keys)
    row = other.add("late", "github", {"token": OTHER})
    assert [row.key_id] == rotated
    assert room(tmp_path).opened("late")["token"] == OTHER
    other.store.close()


ADDER = """
import sys
from pathlib import Path
from threading import Event, Thread
from test_key_rotation import room

def wait_for_the_word():
    sys.stdin.readline()
    enough.set()

enough = Event()
Thread(target=wait_for_the_word, daemon=True).start()
credentials = room(Path(sys.argv[1]))
number = 0
while not enough.wait(0.01):  # so that the lock changes hands
    credentials.add(f"added {number}", "github", {"token": f"token-number-{number}"})
    credentials.keep(f"value-number-{number}", name="kept", connector="model", field=f"field_{number}")
    number += 1
    if number == 3:
        print("going", flush=True)
print(number, flush=True)
"""


def test_one_process_adds_while_another_rotates(credentials: Credentials, tmp_path: Path) -> None:
    with python(ADDER, str(tmp_path)) as adder:
        assert line_of(adder) == "going"
        for _ in range(5):
            credentials.rotate_key()
        assert adder.stdin is not None
        adder.stdin.write("enough\n")
        adder.stdin.flush()
        count = int(line_of(adder))
        wait_until(lambda: adder.poll() is not None)
    fresh = room(tmp_path)
    assert [fresh.opened(f"added {n}")["token"] for n in range(count)] == [
        f"token-number-{n}" for n in range(count)
    ]
    assert [fresh.reveal(fresh.get("kept").id, f"field_{n}") for n in range(count)] == [
        f"value-number-{n}" for n in range(count)
    ]
    assert fresh.opened("chat")["refresh_token"] == OTHER
    fresh.store.close()


# kill -9

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from test_key_rotation import kept_keys, notes, room, values

base = Path(sys.argv[1])
traced = ("vault/sealing.py", "vault/keys.py")

def rotate_until(step, folder):
    credentials = room(folder)
    credentials.list()
    seen = set()

    def line(frame, event, argument):
        # Each line once for each place that it is called from: what is repeated for every row is not tried anew.
        caller = frame.f_back
        seen.add((frame.f_code.co_filename, frame.f_lineno, caller.f_code.co_name, caller.f_lineno))
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    sys.settrace(lambda frame, event, argument: line if frame.f_code.co_filename.endswith(traced) else None)
    credentials.rotate_key()
    os._exit(0)

template = base / "template"
first = room(template)
expected = values(first)
first.store.close()
step = 0
ended = -1
states = set()
while ended != 0:
    step += 1
    folder = base / str(step)
    shutil.copytree(template, folder)
    child = os.fork()
    if child == 0:
        try:
            rotate_until(step, folder)
        finally:
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL), (step, ended)
    after = room(folder)
    states.add((len(kept_keys(folder)), tuple(sorted(notes(after).values()))))
    assert values(after) == expected, step
    rotation = after.rotate_key()
    assert (kept_keys(folder), notes(after)) == ([rotation.key_id], {rotation.key_id: "active"}), step
    assert values(room(folder)) == expected, step
    after.store.close()
    shutil.rmtree(folder)
print(step, sorted(states), flush=True)
"""


def test_a_rotation_that_is_killed_at_any_line_leaves_every_credential_openable(tmp_path: Path) -> None:
    found = room(tmp_path / "template")
    found.add("hub", "github", {"token": SECRET})
    found.add("chat", "slack", {"bot_token": SECRET, "refresh_token": OTHER})
    found.store.close()
    with python(KILLED, str(tmp_path)) as process:
        steps, _, states = line_of(process).partition(" ")
    assert int(steps) > 100
    # It was killed before, between and after: with one key, with both, and before the old one was forgotten.
    assert "(1, ('active',))" in states
    assert "(2, ('active', 'next'))" in states
    assert "(2, ('active', 'retired'))" in states


def test_a_process_killed_while_it_seals_first_leaves_a_home_that_can_be_used(tmp_path: Path) -> None:
    code = """
    import os, signal, sys
    from pathlib import Path
    from personas_nb.vault.keys import KeyRing
    from test_key_rotation import room

    create = KeyRing.create

    def killed(self, key_id=None):
        create(self, key_id)
        os.kill(os.getpid(), signal.SIGKILL)

    KeyRing.create = killed
    room(Path(sys.argv[1])).add("hub", "github", {"token": "correct-horse-battery"})
    """
    with python(code, str(tmp_path)) as process:
        wait_until(lambda: process.poll() is not None)
    assert process.returncode == -9
    found = room(tmp_path)
    assert found.list() == []
    found.add("hub", "github", {"token": SECRET})
    rotation = found.rotate_key()
    assert kept_keys(tmp_path) == [rotation.key_id]  # the one that never sealed anything is cleaned away
    assert found.opened("hub")["token"] == SECRET
    found.store.close()
