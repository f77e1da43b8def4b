"""A credential as environment variables: what they are called, and what no connector may set."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.entities.connector import Connector
from personas_nb.errors import InvalidInput
from personas_nb.vault.environment import is_forbidden, name_of, variables

FORBIDDEN = [
    *(
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHON_HOME",
        "NODE_OPTIONS",
        "DYLD_INSERT_LIBRARIES",
    ),
    *("HOME", "SHELL", "IFS", "GIT_SSH_COMMAND", "ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "PERSONAS_HOME"),
    *("BASH_ENV", "HTTPS_PROXY", "SSL_CERT_FILE"),
]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_decides_how_programs_run_is_forbidden(name: str) -> None:
    assert is_forbidden(name)


@pytest.mark.parametrize(
    "name", ["GITHUB_TOKEN", "GMAIL_USER", "SLACK_BOT_TOKEN", "PATHS_TOKEN", "HOMER_KEY"]
)
def test_what_only_begins_alike_is_allowed(name: str) -> None:
    assert not is_forbidden(name)


@pytest.mark.parametrize(
    ("connector", "field"),
    [
        ("ld", "preload"),
        ("python", "path"),
        ("git", "ssh-command"),
        ("claude", "config.dir"),
        ("node", "options"),
    ],
)
def test_a_forbidden_variable_is_never_set_whoever_made_the_connector(connector: str, field: str) -> None:
    with pytest.raises(InvalidInput, match=r"would set [A-Z_]+, which decides how programs run") as caught:
        variables(connector, {field: "/tmp/evil.so"})
    assert "evil" not in str(caught.value)


def test_a_connector_or_its_name_gives_the_same_and_empty_fields_are_left_out() -> None:
    fields = {"base_url": "https://a.example", "channel": ""}
    wanted = {"MY_CRM_BASE_URL": "https://a.example"}
    assert variables(Connector(name="my_crm"), fields) == variables("my_crm", fields) == wanted


def test_values_stay_as_they_are_and_our_own_environment_is_not_touched() -> None:
    before = dict(os.environ)
    assert variables("crm", {"token": " a=b\n$HOME "}) == {"CRM_TOKEN": " a=b\n$HOME "}
    assert dict(os.environ) == before


@given(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.text(min_size=1, max_size=30))
def test_every_name_is_one_that_a_shell_takes(connector: str, field: str) -> None:
    name = name_of(connector, field)
    assert name.isascii()
    assert name == name.upper()
    assert name.isidentifier()
