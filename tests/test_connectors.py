"""What a credential consists of: the shipped connectors, and those that people add."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personas_nb import Studio
from personas_nb.entities.connector import Connector
from personas_nb.errors import Conflict, InvalidInput, NotFound
from personas_nb.store.migrations import apply
from personas_nb.vault.connectors import Connectors
from personas_nb.vault.environment import variables
from personas_nb.vault.healthcheck import check_definition, filled

SHIPPED = ["github", "gmail", "http_bearer", "postgres", "slack", "smtp", "telegram"]
FIELDS: list[dict[str, Any]] = [{"key": "base_url"}, {"key": "api_key"}]


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with Studio(home) as opened:
        yield opened


@pytest.fixture
def connectors(studio: Studio) -> Connectors:
    return studio.connectors


def refused(connectors: Connectors, name: str = "crm", **given: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        connectors.add(name, **{"fields": FIELDS, **given})
    assert [found.name for found in connectors.list()] == SHIPPED
    return str(caught.value)


# Shipped ones


def test_seven_are_shipped(connectors: Connectors) -> None:
    assert [found.name for found in connectors.list() if found.is_builtin] == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_one_stands_up_to_what_is_asked_of_added_ones(connectors: Connectors, name: str) -> None:
    found = connectors.get(name)
    assert check_definition(found.healthcheck, found.fields) == found.healthcheck != {}
    assert variables(found, {field.key: "value" for field in found.fields})
    assert found.setup_instructions
    assert all(not field.default for field in found.fields if field.secret)


@pytest.mark.parametrize("name", ["slack", "github", "http_bearer"])
def test_where_oauth_is_usual_there_is_a_refresh_token_and_the_limits_are_said(
    connectors: Connectors, name: str
) -> None:
    found = connectors.get(name)
    (refresh,) = [field for field in found.fields if field.key == "refresh_token"]
    assert (refresh.secret, refresh.required) == (True, False)
    assert "OAuth in a browser is not done here" in found.setup_instructions


def test_the_tools_that_they_serve_exist(studio: Studio) -> None:
    known = {tool.name for tool in studio.tools.list()}
    assert {tool for found in studio.connectors.list() for tool in found.tools} <= known


def test_a_home_of_before_gets_complete_connectors_and_keeps_its_key(home: Path) -> None:
    import sqlite3

    home.mkdir()
    before = sqlite3.connect(home / "personas.db", isolation_level=None)
    apply(before, stop_before="m005_credentials")
    before.execute(
        "insert into credentials (id, name, connector, plain, sealed, key_id, created_at, updated_at) values "
        "('c', 'mail', 'gmail', '{}', '{}', 'k1', '2026-11-01T00:00:00.000000Z', '2026-11-01T00:00:00.000000Z')"
    )
    before.close()
    with Studio(home) as studio:
        assert studio.connectors.get("gmail").healthcheck["kind"] == "imap"
        assert studio.credentials.get("mail").check_status is None
        with studio.store.read() as db:
            assert db.execute("select id, status from vault_keys").fetchone()[:] == ("k1", "active")


# Adding


def test_an_added_one_is_found_by_its_name(connectors: Connectors) -> None:
    added = connectors.add(
        "crm", label="CRM", fields=FIELDS, tools=["http_request"], setup_instructions="Ask."
    )
    assert connectors.get("crm") == added
    assert (added.label, added.tools, added.is_builtin) == ("CRM", ("http_request",), False)


def test_what_sounds_secret_is_unless_it_is_said_otherwise(connectors: Connectors) -> None:
    keys = ["user", "apiKey", "access_token", "client-secret", "keyboard", "page_token"]
    fields = [{"key": key} for key in keys] + [{"key": "public_key", "secret": False}]
    added = connectors.add("crm", fields=fields)
    assert [field.key for field in added.fields if field.secret] == [
        *("apiKey", "access_token", "client-secret", "page_token")
    ]


def test_the_same_again_changes_nothing_and_another_definition_replaces_it(connectors: Connectors) -> None:
    first = connectors.add("crm", fields=FIELDS)
    assert connectors.add("crm", fields=FIELDS) == first
    second = connectors.add("crm", fields=FIELDS, tools=["http_request"])
    assert second.id == first.id
    assert connectors.get("crm") == second


def test_a_field_without_a_default_is_required(connectors: Connectors) -> None:
    added = connectors.add("crm", fields=[{"key": "user"}, {"key": "port", "default": "443"}])
    assert [field.required for field in added.fields] == [True, False]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"name": "My CRM"},
            "“My CRM” is no name for a connector: small letters, digits and “_” make one. Such as",
        ),
        ({"name": ""}, "is no name for a connector"),
        ({"name": "model"}, "“model” is a name that the vault uses itself."),
        ({"fields": []}, "The connector “crm” has no field."),
        ({"fields": [{"label": "Token"}]}, "A field needs a key."),
        ({"fields": ["token"]}, "A field needs a key."),
        ({"fields": [{"key": "to ken"}]}, "“to ken” is no name for a field"),
        (
            {"fields": [{"key": "token", "sekret": True}]},
            "ConnectorField has no field “sekret”. Did you mean “secret”",
        ),
        ({"fields": [{"key": "token", "default": "abcdefgh"}]}, "The secret “token” has a default"),
        ({"fields": [{"key": "a-b"}, {"key": "a_b"}]}, "“a-b” and “a_b” would both be CRM_A_B"),
        ({"fields": [{"key": "a"}, {"key": "a"}]}, "“a” and “a” would both be CRM_A"),
        ({"name": "ld", "fields": [{"key": "preload"}]}, "“preload” would set LD_PRELOAD, which decides"),
        ({"name": "pythonic"}, "would set PYTHONIC_BASE_URL"),
        (
            {"name": "http", "fields": [{"key": "bearer_token"}]},
            "HTTP_BEARER_TOKEN, as the connector “http_bearer”",
        ),
        ({"tools": "http_request"}, "tools is one text."),
        ({"tools": ["rm -rf"]}, "“rm -rf” is no name of a tool."),
        ({"healthcheck": {"url": "ftp://a"}}, "“url” that is no web address"),
        ({"healthcheck": {"kind": "ldap"}}, "has the kind “ldap”"),
        ({"healthcheck": {"method": "GET"}}, "lacks “url”"),
        ({"healthcheck": {"url": "{base_url}", "verb": "GET"}}, "has no “verb”"),
        (
            {"healthcheck": {"url": "{base_ur}"}},
            "uses “{base_ur}”, which is no field. Did you mean “base_url”?",
        ),
        ({"healthcheck": {"url": "{base_url}", "headers": {"A": "{tken}"}}}, "uses “{tken}”"),
        ({"healthcheck": {"url": "{base_url}", "method": "DELETE"}}, "has the method “DELETE”"),
        ({"healthcheck": {"url": "{base_url}", "headers": {"A": 1}}}, "headers that are no texts"),
        ({"healthcheck": {"url": "{base_url}", "expect_status": "200"}}, "“expect_status” that is no status"),
        ({"healthcheck": {"kind": "imap", "host": "{base_url}"}}, "lacks “port”"),
        ({"label": 7}, "“label” must be a text"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    connectors: Connectors, given: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(connectors, **given)


def test_a_shipped_one_is_neither_replaced_nor_removed(connectors: Connectors) -> None:
    with pytest.raises(Conflict, match="is a shipped one"):
        connectors.add("gmail", fields=[{"key": "user"}])
    with pytest.raises(Conflict, match="is a shipped one"):
        connectors.remove("gmail")


def test_one_of_your_own_is_removed_when_no_credential_belongs_to_it(studio: Studio) -> None:
    studio.connectors.add("crm", fields=FIELDS)
    studio.credentials.add("ours", "crm", {"base_url": "https://crm.example", "api_key": "correct-horse"})
    with pytest.raises(Conflict, match="credentials remove ours"):
        studio.connectors.remove("crm")
    studio.credentials.remove("ours")
    studio.connectors.remove("crm")
    with pytest.raises(NotFound):
        studio.connectors.get("crm")


def test_an_unknown_one_is_answered_with_the_nearest(connectors: Connectors) -> None:
    with pytest.raises(NotFound, match="Did you mean “github”"):
        connectors.get("githb")


def test_an_added_one_is_found_by_search_as_the_shipped_ones_are(studio: Studio) -> None:
    studio.connectors.add("crm", description="Customers and invoices", fields=FIELDS)
    found = studio.store.table("connectors", Connector).search(["invoices"])
    assert [connector.name for connector, _ in found] == ["crm"]


# Filling in


def test_a_field_cannot_leave_its_part_of_an_address() -> None:
    url = filled(
        "{base_url}/v1/{account}/me", {"base_url": "https://a.example/", "account": "../x?y#z"}, in_url=True
    )
    assert url == "https://a.example/v1/..%2Fx%3Fy%23z/me"


def test_braces_that_name_no_field_stay() -> None:
    assert filled("{} {1} {{a}}", {"a": "b"}) == "{} {1} {b}"
