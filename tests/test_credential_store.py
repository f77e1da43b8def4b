"""Credentials as people add them: checked against their connector, repeatable, replaced as a whole, never shown."""

from __future__ import annotations

import json
import pickle
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from test_keys import HangingKeyring

from personas_nb import Studio
from personas_nb.entities.credential import Credential
from personas_nb.errors import Conflict, InvalidInput, KeyUnavailable, NotFound, PersonaError, VaultError
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

SECRET = "correct-horse-battery"
OTHER = "another-horse-entirely"
MAIL = {"user": "me@example.com", "app_password": SECRET}


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with Studio(home) as opened:
        yield opened


@pytest.fixture
def credentials(studio: Studio) -> Credentials:
    return studio.credentials


# Adding


def test_what_was_added_is_opened_with_the_connectors_defaults(credentials: Credentials) -> None:
    row = credentials.add("mail", "gmail", MAIL)
    assert credentials.opened(row) == {
        **MAIL,
        "imap_host": "imap.gmail.com",
        "imap_port": "993",
        "smtp_host": "smtp.gmail.com",
        "smtp_port": "465",
    }


def test_secrets_are_sealed_and_the_rest_is_not(credentials: Credentials) -> None:
    row = credentials.add("mail", "gmail", {**MAIL, "imap_port": 1993})
    assert row.plain == {"user": "me@example.com", "imap_port": "1993"}
    assert list(row.sealed) == ["app_password"]
    credentials.store.close()
    assert SECRET.encode() not in b"".join(
        path.read_bytes() for path in credentials.store.home.rglob("*") if path.is_file()
    )


def test_the_same_again_changes_nothing(credentials: Credentials) -> None:
    first = credentials.add("mail", "gmail", MAIL)
    assert credentials.add("mail", "gmail", dict(reversed(MAIL.items()))) == first
    assert credentials.get("mail") == first


def test_another_value_replaces_under_the_same_id(credentials: Credentials) -> None:
    first = credentials.add("mail", "gmail", {**MAIL, "imap_host": "imap.example.com"})
    second = credentials.add("mail", "gmail", {**MAIL, "app_password": OTHER})
    assert second.id == first.id
    opened = credentials.opened(first)
    assert (opened["app_password"], opened["imap_host"]) == (OTHER, "imap.gmail.com")
    assert len(credentials.list()) == 1


def test_none_leaves_a_field_as_it_is_stored(credentials: Credentials) -> None:
    credentials.add("mail", "gmail", MAIL)
    credentials.add("mail", "gmail", {"user": "you@example.com", "app_password": None})
    opened = credentials.opened("mail")
    assert (opened["user"], opened["app_password"]) == ("you@example.com", SECRET)


def test_an_empty_value_is_none_at_all(credentials: Credentials) -> None:
    row = credentials.add("chat", "slack", {"bot_token": SECRET, "refresh_token": "", "channel": " "})
    assert row.fields_set == ("bot_token",)


def test_the_line_end_of_a_copied_secret_is_no_part_of_it(credentials: Credentials) -> None:
    assert credentials.opened(credentials.add("hub", "github", {"token": f"{SECRET}\r\n"}))["token"] == SECRET


@pytest.mark.parametrize(
    ("connector", "fields", "sentence"),
    [
        ("gmial", {}, "There is no connector “gmial”. Did you mean “gmail”?"),
        ("gmail", {**MAIL, "pasword": OTHER}, "The connector gmail has no field “pasword”. Did you mean"),
        ("gmail", {"user": "me"}, "The credential “mine” lacks “app_password”. gmail needs it (a secret"),
        ("gmail", {}, "lacks “user”, “app_password”"),
        ("gmail", {"user": "me", "app_password": None}, "lacks “app_password”"),
        ("gmail", {**MAIL, "app_password": "short"}, "The secret app_password is shorter than 8 characters."),
        ("gmail", {**MAIL, "app_password": 12345678}, "“app_password” is no text."),
        ("gmail", {**MAIL, "app_password": [SECRET]}, "“app_password” is no text."),
        ("gmail", {**MAIL, "app_password": f"{SECRET}\0"}, "“app_password” holds a NUL"),
        ("gmail", {**MAIL, "app_password": f"{SECRET}\ud800"}, "is not valid Unicode text"),
        ("gmail", {**MAIL, "app_password": "x" * 100_000}, "more than 64,000 characters"),
        ("gmail", {**MAIL, "imap_port": "imap"}, "“imap_port” must be a number from 1 to 65535"),
        ("gmail", {**MAIL, "imap_port": 70_000}, "“imap_port” must be a number"),
        (
            "gmail",
            {**MAIL, "imap_host": "https://imap.example.com"},
            "“imap_host” must be the name of a host",
        ),
        ("github", {"token": SECRET, "api_url": "api.github.com"}, "“api_url” must be a web address"),
        ("github", {"token": SECRET, "api_url": f"https://me:{OTHER}@a.example"}, "holds a user or password"),
        ("gmail", [SECRET], "The fields are no mapping."),
    ],
)
def test_what_is_wrong_is_said_without_a_value_and_nothing_is_written(
    credentials: Credentials, connector: str, fields: Any, sentence: str
) -> None:
    with pytest.raises(PersonaError) as caught:
        credentials.add("mine", connector, fields)
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    assert sentence in str(caught.value)
    assert SECRET not in str(caught.value)
    assert OTHER not in shown.partition("Error")[2]
    assert credentials.list() == []


def test_a_refused_change_leaves_what_was_there(credentials: Credentials) -> None:
    before = credentials.add("mail", "gmail", MAIL)
    with pytest.raises(InvalidInput):
        credentials.add("mail", "gmail", {"user": "you@example.com", "app_password": "short"})
    assert credentials.get("mail") == before


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "x" * 201, "\x1b[31m", 7])
def test_a_name_is_one_line(credentials: Credentials, name: Any) -> None:
    with pytest.raises(InvalidInput, match="needs a name of 1 to 200 characters"):
        credentials.add(name, "gmail", MAIL)


def test_a_name_that_belongs_to_another_connector_is_refused(credentials: Credentials) -> None:
    credentials.add("mine", "gmail", MAIL)
    with pytest.raises(Conflict, match="belongs to gmail, not to github"):
        credentials.add("mine", "github", {"token": SECRET})
    assert credentials.get("mine").connector == "gmail"


SECRETS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=8, max_size=60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SECRETS.filter(lambda text: len(text.strip("\r\n").strip()) >= 8))
def test_any_secret_comes_back_as_it_was_given(credentials: Credentials, secret: str) -> None:
    credentials.add("hub", "github", {"token": secret})
    assert credentials.opened("hub")["token"] == secret.strip("\r\n")


# Using


def test_one_that_is_removed_while_it_is_in_use_is_not_opened(credentials: Credentials) -> None:
    row = credentials.add("my mail", "gmail", MAIL)
    credentials.remove("my mail")
    with pytest.raises(NotFound, match="The credential “my mail” was removed") as caught:
        credentials.opened(row)
    assert caught.value.hint == 'Add it again: `%persona credentials add "my mail" gmail`.'


def test_one_that_is_changed_while_it_is_in_use_opens_as_it_is_now(credentials: Credentials) -> None:
    row = credentials.add("hub", "github", {"token": SECRET})
    credentials.add("hub", "github", {"token": OTHER})
    assert credentials.opened(row)["token"] == OTHER


def test_a_field_that_the_connector_came_to_need_is_named(studio: Studio) -> None:
    studio.connectors.add("crm", fields=[{"key": "api_key"}])
    row = studio.credentials.add("ours", "crm", {"api_key": SECRET})
    studio.connectors.add("crm", fields=[{"key": "api_key"}, {"key": "account"}])
    with pytest.raises(NotFound, match="The credential “ours” lacks “account”"):
        studio.credentials.opened(row)


def test_a_models_key_opens_though_it_has_no_connector(studio: Studio) -> None:
    persona = studio.personas.create(name="Echo", system_prompt="Hi.", model_profile={"auth_token": SECRET})
    assert persona.model_profile is not None
    (row,) = studio.credentials.list()
    assert studio.credentials.opened(row) == {"auth_token": SECRET}
    studio.credentials.rotate_key()
    assert studio.credentials.reveal(row.id, "auth_token") == SECRET


# Keys that are wrong, cut, locked or gone


def later(credentials: Credentials, file: Path, **options: Any) -> Credentials:
    """The same home, seen by another process."""
    return Credentials(credentials.store, KeyRing(key_file=file, **options))


@pytest.fixture
def key_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "keys" / "keys.json"
    monkeypatch.setenv("PERSONAS_KEY_FILE", str(file))
    return file


def test_a_wrong_key_opens_nothing_and_says_so(key_file: Path, credentials: Credentials) -> None:
    row = credentials.add("hub", "github", {"token": SECRET})
    key_file.write_text(json.dumps({"keys": {row.key_id: "A" * 43 + "="}}))
    with pytest.raises(VaultError, match="does not open") as caught:
        later(credentials, key_file).opened(row)
    assert row.sealed["token"] not in "".join(traceback.format_exception(caught.value))


def test_a_key_file_that_others_may_read_opens_and_seals_nothing(
    key_file: Path, credentials: Credentials
) -> None:
    row = credentials.add("hub", "github", {"token": SECRET})
    key_file.chmod(0o644)
    other = later(credentials, key_file)
    for attempt in (lambda: other.opened(row), lambda: other.add("new", "github", {"token": OTHER})):
        with pytest.raises(KeyUnavailable, match=f"chmod 600 {key_file}"):
            attempt()
    assert [kept.name for kept in other.list()] == ["hub"]


def test_a_locked_keyring_makes_nobody_wait(
    key_file: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = credentials.add("hub", "github", {"token": SECRET})
    key_file.unlink()
    monkeypatch.delenv("PERSONAS_KEYRING")
    hanging = HangingKeyring(threading.Event())
    monkeypatch.setattr("keyring.core._keyring_backend", None)
    keyring.set_keyring(hanging)
    other = later(credentials, key_file, timeout_seconds=0.05)
    with pytest.raises(KeyUnavailable, match=r"the OS keyring did not answer within 0\.05 s"):
        other.opened(row)
    hanging.released.set()


def test_a_ciphertext_that_was_cut_or_moved_does_not_open(credentials: Credentials) -> None:
    first = credentials.add("hub", "github", {"token": SECRET, "refresh_token": OTHER})
    second = credentials.add("other", "github", {"token": OTHER})
    table = credentials.store.table("credentials", Credential)
    sealed = first.sealed["token"]
    for wrong in (
        sealed[:-1],
        sealed[:40],
        sealed + "A",
        sealed.swapcase(),
        first.sealed["refresh_token"],
        "",
    ):
        table.update(first.id, sealed={"token": wrong})
        with pytest.raises(VaultError) as caught:
            credentials.opened(first)
        assert not wrong or wrong not in str(caught.value)
    table.update(second.id, sealed={"token": sealed})
    with pytest.raises(VaultError):
        credentials.opened(second)


def test_what_does_not_open_any_more_is_added_again(key_file: Path, credentials: Credentials) -> None:
    row = credentials.add("mail", "gmail", MAIL)
    key_file.unlink()
    other = later(credentials, key_file)
    with pytest.raises(KeyUnavailable):
        other.opened(row)
    assert other.add("mail", "gmail", MAIL).id == row.id
    assert other.opened(row)["app_password"] == SECRET


# Showing


def test_nothing_that_is_shown_or_exported_holds_a_value(studio: Studio, tmp_path: Path) -> None:
    row = studio.credentials.add("mail", "gmail", MAIL)
    result = studio.credentials.rotate_key()
    connector = studio.connectors.get("gmail")
    seen = [
        repr(each) + str(each)
        for each in (row, studio.credentials, studio.credentials.keys, result, connector)
    ]
    seen += [str(studio.credentials.list()), row.model_dump_json(), repr(pickle.dumps(row))]
    formatter = DisplayFormatter()
    seen.append(str(formatter.format(row)))
    assert not [text for text in seen if SECRET in text]


def test_a_card_of_a_credential_says_set(studio: Studio) -> None:
    from personas_nb.views.credentials import credential_card, credential_list

    row = studio.credentials.add("mail", "gmail", MAIL)
    for view in (credential_card(row), credential_list([row])):
        assert "user set, app_password set" in view.text
        for secret in (SECRET, row.sealed["app_password"]):
            assert secret not in view.text + view.html


@pytest.mark.parametrize(
    "shape", ["https://ann:{}@a.example", "https://a.example/bot{}/x", "https://a.example/?k={}"]
)
def test_a_secret_in_a_field_that_is_not_sealed_is_refused(credentials: Credentials, shape: str) -> None:
    secret = "tok-0123/456+789"
    address = shape.format(secret)
    with pytest.raises(InvalidInput, match="stored in the clear") as caught:
        credentials.add("api", "http_bearer", {"base_url": address, "token": secret})
    assert secret not in str(caught.value)
    assert credentials.list() == []
