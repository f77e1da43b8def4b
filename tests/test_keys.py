"""Every process of a user ends with the same key, waits for no locked keyring, and never goes on without one."""

import base64
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from personas_nb.errors import KeyUnavailable, SettingsError
from personas_nb.vault.keys import Key, KeyRing

# A keyring backend that lives in a folder, one file an entry; other processes of the tests run it, too.
BACKEND = """
import os, pathlib, urllib.parse
from keyring.backend import KeyringBackend

class FolderKeyring(KeyringBackend):
    priority = 5

    def __init__(self):
        super().__init__()
        # keyring passes over a backend that cannot be made: elsewhere this one must not be chosen.
        if "TEST_KEYRING_FOLDER" not in os.environ:
            raise TypeError("only for tests")

    def _entry(self, service, username):
        return pathlib.Path(os.environ["TEST_KEYRING_FOLDER"], urllib.parse.quote(f"{service} {username}", safe=""))

    def get_password(self, service, username):
        try:
            return self._entry(service, username).read_text()
        except FileNotFoundError:
            return None

    def set_password(self, service, username, password):
        self._entry(service, username).write_text(password)

    def delete_password(self, service, username):
        self._entry(service, username).unlink()
"""


class HangingKeyring(KeyringBackend):
    """Waits, as a locked keyring does whose dialog nobody sees; until the test lets it go."""

    priority = 5

    def __init__(self, released: threading.Event) -> None:  # with an argument, keyring never makes it itself
        super().__init__()
        self.asked = 0
        self.released = released

    def get_password(self, service: str, username: str) -> str | None:
        self.asked += 1
        self.released.wait()
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        self.released.wait()

    def delete_password(self, service: str, username: str) -> None:
        self.released.wait()


class BrokenKeyring(HangingKeyring):
    """Raises what only its own library knows."""

    def get_password(self, service: str, username: str) -> str | None:
        raise OSError("no session bus at secret-address")


@pytest.fixture(autouse=True)
def _keyring_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PERSONAS_KEYRING", "PERSONAS_KEY_FILE"):
        monkeypatch.delenv(variable, raising=False)
    # Not through get_keyring, which would look for the machine's own.
    monkeypatch.setattr("keyring.core._keyring_backend", fail.Keyring())


@pytest.fixture
def hanging() -> Iterator[HangingKeyring]:
    backend = HangingKeyring(threading.Event())
    keyring.set_keyring(backend)
    yield backend
    backend.released.set()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    entries = tmp_path / "entries"
    entries.mkdir()
    monkeypatch.setenv("TEST_KEYRING_FOLDER", str(entries))
    names: dict[str, type[KeyringBackend]] = {}
    exec(BACKEND, names)
    keyring.set_keyring(names["FolderKeyring"]())
    return entries


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys.json"


def refusal(ring: KeyRing) -> str:
    with pytest.raises(KeyUnavailable) as caught:
        ring.create()
    assert caught.value.__cause__ is None
    return str(caught.value)


# The OS keyring


def test_a_key_made_in_the_keyring_is_found_by_the_next_process_and_no_file_is_made(
    folder: Path, key_file: Path
) -> None:
    key = KeyRing(key_file=key_file).create()
    assert len(key.secret) == 32
    assert KeyRing(key_file=key_file).get(key.id) == key
    assert not key_file.exists()
    assert len(list(folder.iterdir())) == 1


def test_services_have_keys_of_their_own(folder: Path, key_file: Path) -> None:
    key = KeyRing("one", key_file).create()
    assert KeyRing("two", key_file).find(key.id) is None


def test_a_keyring_that_hangs_is_left_after_the_time_limit_for_the_file(
    hanging: HangingKeyring, key_file: Path
) -> None:
    key = KeyRing(key_file=key_file, timeout_seconds=0.05).create()
    assert KeyRing(key_file=key_file, use_keyring=False).get(key.id) == key


def test_a_keyring_that_hung_is_not_asked_again_at_once(hanging: HangingKeyring, key_file: Path) -> None:
    ring = KeyRing(key_file=key_file, timeout_seconds=0.05)
    for _ in range(5):
        with pytest.raises(KeyUnavailable, match=r"did not answer within 0\.05 s"):
            ring.get("unknown")
    assert hanging.asked == 1


@pytest.mark.parametrize("backend", [fail.Keyring(), null.Keyring(), BrokenKeyring(threading.Event())])
def test_where_the_keyring_is_absent_or_broken_the_file_is_used(
    backend: KeyringBackend, key_file: Path
) -> None:
    keyring.set_keyring(backend)
    key = KeyRing(key_file=key_file).create()
    assert KeyRing(key_file=key_file, use_keyring=False).get(key.id) == key


def test_keys_of_both_places_can_be_opened_with(folder: Path, key_file: Path) -> None:
    in_keyring = KeyRing(key_file=key_file).create()
    in_file = KeyRing(key_file=key_file, use_keyring=False).create()
    ring = KeyRing(key_file=key_file)
    assert ring.get(in_keyring.id) == in_keyring
    assert ring.get(in_file.id) == in_file


def test_a_damaged_keyring_entry_is_said_and_not_taken_for_a_lost_key(folder: Path, key_file: Path) -> None:
    key = KeyRing(key_file=key_file).create()
    (entry,) = folder.iterdir()
    entry.write_text("no key")
    with pytest.raises(KeyUnavailable, match=r"The key .* the OS keyring holds a damaged key"):
        KeyRing(key_file=key_file).find(key.id)
    entry.unlink()
    assert KeyRing(key_file=key_file).find(key.id) is None


def test_a_forgotten_key_is_in_no_place_any_more(folder: Path, key_file: Path) -> None:
    ring, only_file = KeyRing(key_file=key_file), KeyRing(key_file=key_file, use_keyring=False)
    first, second, other = ring.create(), only_file.create(), only_file.create()
    assert ring.forget(first.id)
    assert ring.forget(second.id)
    assert list(folder.iterdir()) == []
    assert KeyRing(key_file=key_file).find(first.id) is None
    assert KeyRing(key_file=key_file).find(second.id) is None
    assert KeyRing(key_file=key_file).get(other.id) == other


def test_a_key_is_not_said_to_be_gone_where_the_keyring_cannot_be_asked(
    hanging: HangingKeyring, key_file: Path
) -> None:
    assert not KeyRing(key_file=key_file, timeout_seconds=0.05).forget("somewhere")
    assert KeyRing(key_file=key_file, use_keyring=False).forget("nowhere")


def test_the_keyring_can_be_switched_off(
    hanging: HangingKeyring, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAS_KEYRING", "off")
    KeyRing(key_file=key_file).create()
    assert hanging.asked == 0
    monkeypatch.setenv("PERSONAS_KEYRING", "of")
    with pytest.raises(SettingsError, match="PERSONAS_KEYRING must be on or off"):
        KeyRing(key_file=key_file)


# The file


def test_the_file_is_for_its_owner_only_and_holds_many_keys(key_file: Path) -> None:
    ring = KeyRing(key_file=key_file, use_keyring=False)
    first, second = ring.create(), ring.create("second")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700
    assert {path.name for path in key_file.parent.iterdir()} == {"keys.json", "keys.json.lock"}
    keys = {key.id: base64.b64encode(key.secret).decode() for key in (first, second)}
    assert json.loads(key_file.read_text()) == {"keys": keys}


def test_a_generous_umask_changes_nothing(key_file: Path) -> None:
    before = os.umask(0)
    try:
        KeyRing(key_file=key_file, use_keyring=False).create()
    finally:
        os.umask(before)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610])
def test_a_file_that_others_may_use_is_refused_with_the_command_that_helps(key_file: Path, mode: int) -> None:
    KeyRing(key_file=key_file, use_keyring=False).create()
    key_file.chmod(mode)
    message = refusal(KeyRing(key_file=key_file))
    assert f"may be used by others (mode {mode:o})" in message
    assert message.endswith(f"Run: chmod 600 {key_file}")
    with pytest.raises(KeyUnavailable, match="chmod 600"):
        KeyRing(key_file=key_file).find("any")
    key_file.chmod(0o600)
    KeyRing(key_file=key_file).create()


SECRET_TEXT = base64.b64encode(b"never to be seen in any message!").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        f'{{"keys": {{"a": "{SECRET_TEXT}"',
        f'{{"keys": ["{SECRET_TEXT}"]}}',
        f'{{"keys": {{"a": "{SECRET_TEXT[:-4]}"}}}}',
        f'{{"keys": {{"a": "{SECRET_TEXT}", "b": "{SECRET_TEXT[:-4]}"}}}}',
        '{"keys": {"a": 7}}',
        "\x00\x80",
    ],
)
def test_a_damaged_file_is_refused_left_as_it_is_and_not_echoed(key_file: Path, text: str) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(text.encode("latin-1"))
    key_file.chmod(0o600)
    with pytest.raises(KeyUnavailable, match=r"is damaged\. Bring it back from a backup") as caught:
        KeyRing(key_file=key_file).create()
    seen: BaseException | None = caught.value
    while seen is not None:
        assert SECRET_TEXT[:-4] not in repr(seen) + str(vars(seen))
        seen = seen.__context__
    assert key_file.read_bytes() == text.encode("latin-1")


def test_what_is_no_regular_file_is_refused_without_waiting(key_file: Path) -> None:
    key_file.parent.mkdir()
    os.mkfifo(key_file, 0o600)
    assert "is no regular file" in refusal(KeyRing(key_file=key_file))


def test_without_keyring_and_file_nothing_is_had(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refusal(KeyRing(key_file=tmp_path / "file" / "keys.json"))
    assert message.startswith("There is no encryption key: the OS keyring is absent, and the key file ")
    assert "PERSONAS_KEY_FILE" in message


def test_an_unknown_key_says_where_was_looked(key_file: Path) -> None:
    ring = KeyRing(key_file=key_file, use_keyring=False)
    ring.create()
    with pytest.raises(KeyUnavailable) as caught:
        ring.get("gone")
    assert caught.value.message == (
        "The key “gone” is not to be had: the OS keyring is switched off "
        f"and the key file {key_file} does not hold it."
    )


def test_the_file_can_be_named_and_lies_apart_from_the_home_by_default(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personas_nb.settings import default_home

    assert str(default_home({})) not in repr(KeyRing(use_keyring=False))
    assert "personas_nb-keys" in repr(KeyRing(use_keyring=False))
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(key_file))
    KeyRing(use_keyring=False).create()
    assert key_file.exists()


def test_key_bytes_are_never_printed(key_file: Path) -> None:
    ring = KeyRing(key_file=key_file, use_keyring=False)
    key = ring.create()
    for text in (repr(key), str(key), repr(ring), str(vars(ring))):
        assert repr(key.secret) not in text
        assert base64.b64encode(key.secret).decode() not in text


# Several processes


@pytest.mark.parametrize("backend", ["keyring.backends.fail.Keyring", "folder_keyring.FolderKeyring"])
def test_processes_that_seal_first_together_end_with_the_same_key(tmp_path: Path, backend: str) -> None:
    (tmp_path / "folder_keyring.py").write_text(BACKEND)
    (tmp_path / "entries").mkdir()
    program = textwrap.dedent(
        """
        import hashlib, keyring, sys
        from pathlib import Path
        from personas_nb.store.database import Store
        from personas_nb.vault.keys import KeyRing
        from personas_nb.vault.sealing import Sealing
        sealing = Sealing(Store(Path(sys.argv[1])), KeyRing(timeout_seconds=20.0))
        keyring.get_keyring()
        print("ready", flush=True)
        sys.stdin.readline()
        print(hashlib.sha256(sealing.key().secret).hexdigest())
        """
    )
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)]),
        "PYTHON_KEYRING_BACKEND": backend,
        "TEST_KEYRING_FOLDER": str(tmp_path / "entries"),
        "PERSONAS_KEY_FILE": str(tmp_path / "config" / "keys.json"),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "home")],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({process.communicate(timeout=60)[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    in_file = KeyRing(key_file=tmp_path / "config" / "keys.json", use_keyring=False)
    kept = len(list((tmp_path / "entries").iterdir())) + len(in_file._file._read())
    assert kept == 1  # those who came late have cleaned up


def test_threads_that_keep_keys_together_lose_none(key_file: Path) -> None:
    rings = [KeyRing(key_file=key_file, use_keyring=False) for _ in range(8)]
    made: list[Key] = []
    threads = [threading.Thread(target=lambda ring=ring: made.append(ring.create())) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = KeyRing(key_file=key_file, use_keyring=False)
    assert len(made) == 8
    assert [fresh.get(key.id) for key in made] == made
