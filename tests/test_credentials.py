"""Secrets at rest: sealed, bound to their place, and never shown."""

import traceback
from pathlib import Path

import pytest

from personas_nb.errors import Conflict, InvalidInput, KeyUnavailable, NotFound, VaultError
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

SECRET = "correct-horse-battery"
OTHER = "another-horse-entirely"


@pytest.fixture
def credentials(tmp_path: Path):
    store = Store(tmp_path / "home")
    yield Credentials(store, KeyRing(key_file=key_file(tmp_path), use_keyring=False))
    store.close()


def key_file(folder: Path) -> Path:
    return folder / "keys" / "keys.json"


def keep(
    credentials: Credentials, value: str = SECRET, *, name: str = "mail", field: str = "password"
) -> str:
    return credentials.keep(value, name=name, connector="smtp", field=field)


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_kept_secret_is_revealed_and_stands_nowhere_in_the_home(credentials: Credentials) -> None:
    kept = keep(credentials)
    assert credentials.reveal(kept, "password") == SECRET
    credentials.store.close()
    assert SECRET.encode() not in files(credentials.store.home)


def test_no_display_of_a_credential_shows_its_value_or_ciphertext(credentials: Credentials) -> None:
    keep(credentials)
    (row,) = credentials.list()
    shown = f"{row!r} {row} {credentials!r} {credentials.keys!r} {[row]}"
    assert SECRET not in shown
    assert row.sealed["password"] not in shown


def test_the_same_value_again_changes_nothing(credentials: Credentials) -> None:
    kept = keep(credentials)
    before = credentials.list()
    assert keep(credentials) == kept
    assert credentials.list() == before


def test_a_new_value_replaces_the_old_one_under_the_same_id(credentials: Credentials) -> None:
    kept = keep(credentials)
    keep(credentials, OTHER, field="user_key")
    assert keep(credentials, OTHER) == kept
    assert credentials.reveal(kept, "password") == OTHER
    assert credentials.reveal(kept, "user_key") == OTHER
    assert len(credentials.list()) == 1


def test_a_replaced_and_a_removed_value_leave_no_ciphertext_behind(credentials: Credentials) -> None:
    kept = keep(credentials)
    first = credentials.get(kept).sealed["password"].encode()
    keep(credentials, OTHER)
    second = credentials.get(kept).sealed["password"].encode()
    credentials.remove("mail")
    credentials.store.close()
    left = files(credentials.store.home)
    assert first not in left
    assert second not in left


@pytest.mark.parametrize("value", ["", "1234567", "  abc     "])
def test_a_value_that_could_not_be_redacted_is_refused(credentials: Credentials, value: str) -> None:
    with pytest.raises(InvalidInput, match="shorter than 8 characters"):
        keep(credentials, value)
    assert credentials.list() == []


def test_a_name_that_belongs_to_another_connector_is_refused(credentials: Credentials) -> None:
    kept = keep(credentials)
    with pytest.raises(Conflict, match="belongs to smtp"):
        credentials.keep(OTHER, name="mail", connector="gmail", field="password")
    assert credentials.reveal(kept, "password") == SECRET


def test_a_ciphertext_moved_to_another_field_or_row_does_not_open(credentials: Credentials) -> None:
    first, second = keep(credentials), keep(credentials, OTHER, name="other")
    stolen = credentials.get(first).sealed["password"]
    with credentials.store.write() as db:
        db.execute(
            "update credentials set sealed = json_object('password', ?) where id = ?", [stolen, second]
        )
        db.execute("update credentials set sealed = json_object('other', ?) where id = ?", [stolen, first])
    for row, field in ((second, "password"), (first, "other")):
        with pytest.raises(VaultError, match="altered or moved") as caught:
            credentials.reveal(row, field)
        shown = "".join(traceback.format_exception(caught.value))
        assert SECRET not in shown
        assert stolen not in shown


def test_a_value_that_does_not_open_any_more_can_be_entered_again(
    credentials: Credentials, tmp_path: Path
) -> None:
    kept = keep(credentials)
    key_file(tmp_path).unlink()
    later = Credentials(credentials.store, KeyRing(key_file=key_file(tmp_path), use_keyring=False))
    with pytest.raises(KeyUnavailable):
        later.reveal(kept, "password")
    assert keep(later) == kept
    assert later.reveal(kept, "password") == SECRET


def test_without_a_key_nothing_is_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    store = Store(tmp_path / "home")
    credentials = Credentials(store, KeyRing(key_file=blocked / "keys.json", use_keyring=False))
    with pytest.raises(KeyUnavailable) as caught:
        keep(credentials)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert credentials.list() == []
    store.close()


def test_the_key_is_asked_for_only_when_something_is_sealed(credentials: Credentials, tmp_path: Path) -> None:
    assert credentials.list() == []
    with pytest.raises(NotFound):
        credentials.get("mail")
    assert not key_file(tmp_path).exists()
    keep(credentials)
    assert key_file(tmp_path).exists()


def test_another_process_opens_what_this_one_sealed(credentials: Credentials, tmp_path: Path) -> None:
    kept = keep(credentials)
    store = Store(credentials.store.home)
    other = Credentials(store, KeyRing(key_file=key_file(tmp_path), use_keyring=False))
    assert other.reveal(kept, "password") == SECRET
    store.close()


def test_an_unknown_credential_or_field_is_answered_with_the_nearest(credentials: Credentials) -> None:
    kept = keep(credentials)
    with pytest.raises(NotFound, match="Did you mean “password”"):
        credentials.reveal(kept, "pasword")
    with pytest.raises(NotFound, match="Did you mean “mail”"):
        credentials.remove("mial")
    credentials.remove(kept)
    with pytest.raises(NotFound):
        credentials.reveal(kept, "password")
