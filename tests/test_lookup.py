"""Which credential serves which tool, what a run records of it, and what a tool gets that has none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn
from support.shell import shell_in
from support.studios import persona_of, studio_at

from personas_nb import Studio
from personas_nb.entities.connector import Connector
from personas_nb.entities.credential import Credential
from personas_nb.entities.execution import Execution
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import ToolDenied
from personas_nb.vault.access import Opened, access_of, known_secrets
from personas_nb.vault.lookup import match, matches
from personas_nb.vault.redaction import Redactor

PASSWORD = "correct horse battery"


def tool(name: str = "crm_read", needs: str | None = None) -> ToolDefinition:
    return ToolDefinition(name=name, requires_credential_type=needs)


def connector(name: str, *tools: str) -> Connector:
    return Connector(name=name, tools=tools)


def kept(name: str, connector: str) -> Credential:
    return Credential(name=name, connector=connector)


def found(
    wanted: ToolDefinition, connectors: list[Connector], credentials: list[Credential]
) -> list[tuple[str, int]]:
    return [(each.credential.name, each.tier) for each in matches(wanted, connectors, credentials)]


# The three tiers


def test_the_connector_that_names_the_tool_comes_first() -> None:
    connectors = [connector("crm"), connector("other", "crm_read")]
    credentials = [kept("a", "crm"), kept("b", "other")]
    assert found(tool(needs="crm"), connectors, credentials) == [("b", 1)]


@pytest.mark.parametrize(
    ("needs", "name", "is_alike"),
    [
        ("google", "google_workspace", True),
        ("Google-Workspace", "google_workspace", True),
        ("google_workspace_mail", "google", True),
        ("google", "googol", False),
        ("mail", "gmail", False),
        ("g", "gmail", False),
        ("", "gmail", False),
    ],
)
def test_the_second_tier_compares_the_beginnings_of_names(needs: str, name: str, is_alike: bool) -> None:
    assert found(tool(needs=needs), [connector(name)], [kept("a", name)]) == ([("a", 2)] if is_alike else [])


def test_the_third_tier_needs_no_connector_of_that_name() -> None:
    assert found(tool(needs="legacy"), [connector("other")], [kept("a", "legacy")]) == [("a", 3)]


def test_a_tier_without_a_credential_leaves_it_to_the_next() -> None:
    connectors = [connector("served", "crm_read"), connector("crm_cloud")]
    assert found(tool(needs="crm"), connectors, [kept("a", "crm_cloud")]) == [("a", 2)]


def test_the_required_connector_is_preferred_within_a_tier() -> None:
    connectors = [connector("a_mail", "gmail_send"), connector("gmail", "gmail_send")]
    credentials = [kept("1", "a_mail"), kept("2", "gmail"), kept("3", "gmail")]
    assert found(tool("gmail_send", "gmail"), connectors, credentials) == [("2", 1), ("3", 1), ("1", 1)]


def test_a_tool_that_needs_nothing_and_is_named_nowhere_gets_nothing() -> None:
    assert match([tool()], [connector("gmail")], [kept("a", "gmail")]) == {}


NAMES = st.sampled_from(["gmail", "gmail_work", "slack", "google", "http_bearer", "x_mail"])


@given(
    connectors=st.lists(st.builds(connector, NAMES, NAMES, NAMES), unique_by=lambda each: each.name),
    credentials=st.lists(st.builds(kept, st.text("ab", min_size=1, max_size=3), NAMES), max_size=6),
    needs=st.none() | NAMES,
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_rows_changes_nothing(
    connectors: list[Connector], credentials: list[Credential], needs: str | None, order: Any
) -> None:
    def lookup() -> list[tuple[str, str, int]]:
        several = matches(tool("slack", needs), connectors, credentials)
        return [(each.credential.name, each.credential.connector, each.tier) for each in several]

    before = lookup()
    order.shuffle(connectors)
    order.shuffle(credentials)
    assert lookup() == before


# Opening


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with Studio(home) as opened:
        yield opened


def mail(studio: Studio, name: str = "my mail", password: str = PASSWORD) -> Credential:
    return studio.credentials.add(name, "gmail", {"user": "me@example.com", "app_password": password})


def opened_by(studio: Studio, ref: str = "", *, redactor: Redactor | None = None) -> Opened:
    access = access_of(
        studio.credentials, [studio.tools.get("gmail_read")], redactor or Redactor({"password": PASSWORD})
    )
    return access.open("gmail_read", ref, "gmail")


def test_a_credential_opens_by_its_name_its_connector_or_as_the_first(studio: Studio) -> None:
    mail(studio, "b")
    mail(studio, "a")
    for ref, name in (("", "a"), ("b", "b"), ("gmail", "a")):
        opened = opened_by(studio, ref)
        assert (opened.name, opened["app_password"], opened["imap_host"]) == (
            name,
            PASSWORD,
            "imap.gmail.com",
        )


def test_what_was_opened_does_not_show_its_values(studio: Studio) -> None:
    mail(studio)
    assert repr(opened_by(studio)).startswith("<credential 'my mail' of gmail: ")
    assert PASSWORD not in repr(opened_by(studio))


def test_a_tool_without_a_credential_says_the_next_step(studio: Studio) -> None:
    with pytest.raises(ToolDenied, match=r"no credential for gmail_read.*credentials add NAME gmail`"):
        opened_by(studio)


def test_a_name_that_was_not_matched_opens_nothing(studio: Studio) -> None:
    mail(studio)
    studio.credentials.add("chat", "slack", {"bot_token": "xoxb-0123456789"})
    with pytest.raises(ToolDenied, match=r"no credential “chat” for gmail_read\. There are my mail\."):
        opened_by(studio, "chat")


def test_a_credential_that_was_removed_or_changed_meanwhile_is_not_handed_out(studio: Studio) -> None:
    mail(studio)
    access = access_of(studio.credentials, [studio.tools.get("gmail_read")], Redactor({"password": PASSWORD}))
    studio.credentials.rotate_key()
    assert access.open("gmail_read", "")["app_password"] == PASSWORD
    mail(studio, password="another password")
    with pytest.raises(ToolDenied, match="was changed after this run began"):
        access.open("gmail_read", "")
    studio.credentials.remove("my mail")
    with pytest.raises(ToolDenied, match="was removed after this run began"):
        access.open("gmail_read", "")


def test_a_damaged_credential_is_told_and_hides_no_other(studio: Studio) -> None:
    row = mail(studio, "a damaged one")
    mail(studio, "whole", "whole-password")
    studio.store.table("credentials", Credential).update(
        row.id, sealed={"app_password": row.sealed["app_password"][:-3]}
    )
    secrets, problems = known_secrets(studio.credentials)
    assert secrets == {"whole.app_password": "whole-password"}
    assert len(problems) == 1
    assert problems[0].startswith("The credential “a damaged one” does not open")


def test_a_lost_key_hides_no_secret_that_another_key_sealed(home: Path) -> None:
    with studio_at(home) as studio:
        lost = mail(studio, "a lost one")
        mail(studio, "another lost one")
        studio.keys.forget(lost.key_id)
    with studio_at(home) as studio:
        mail(studio, "whole", "whole-password")
        secrets, problems = known_secrets(studio.credentials)
    assert secrets == {"whole.app_password": "whole-password"}
    assert len(problems) == 1  # the key is asked for once
    assert lost.key_id in problems[0]


def test_a_secret_within_a_secret_is_known_by_itself(studio: Studio) -> None:
    for name, value in (("a", "Bearer token-0123456789"), ("b", "Basic YW5uOmNvcnJlY3QgaG9yc2U=")):
        studio.credentials.keep(value, name=name, connector="mcp", field="header")
    address = "postgres://ann:p%40ss-word-1@db.example.com/sales"
    studio.credentials.keep(address, name="c", connector="mcp", field="env")
    secrets, _ = known_secrets(studio.credentials)
    assert secrets["a.header token"] == "token-0123456789"
    assert secrets["b.header password"] == "correct horse"
    assert secrets["c.env password"] == "p@ss-word-1"
    assert secrets["c.env"] == address


# In a run


def ran(studio: Studio, *tools: str, text: str | None = None) -> Execution:
    return studio.run(persona_of(studio, *tools), text)


def test_a_run_records_which_credential_was_found_in_which_tier(home: Path) -> None:
    with ModelServer([Turn.text("Done.")]) as server, studio_at(home, server) as studio:
        mail(studio)
        studio.credentials.add(
            "api", "http_bearer", {"base_url": "https://a.example", "token": "token-0123456789"}
        )
        run = ran(studio, "gmail_read", "http_request")
        assert [use.model_dump() for use in run.credentials or ()] == [
            {"tool": "gmail_read", "connector": "gmail", "credential": "my mail", "tier": 1},
            {"tool": "http_request", "connector": "http_bearer", "credential": "api", "tier": 1},
        ]
        prompt = studio.executions.prompt(run.id) or ""
        assert "- `my mail`: gmail, for gmail_read; its fields are user, app_password, imap_host" in prompt
        assert "- `api`: http_bearer, for http_request;" in prompt
        assert "it goes to https://a.example\n" in prompt
        assert "token-0123456789" not in prompt


def test_a_run_shows_its_credentials(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONAS_HOME", str(home))
    with ModelServer([Turn.text("Done.")]) as server, studio_at(home, server) as studio:
        mail(studio)
        ran(studio, "gmail_read")
        for shell in shell_in(tmp_path):
            shell.run("%persona runs show latest")
            shown = repr(shell.displays) + repr(shell.values)
    assert "Credentials" in shown
    assert "my mail" in shown
    assert PASSWORD not in shown


def test_a_tool_without_a_credential_is_told_in_the_prompt_and_answers_with_the_next_step(home: Path) -> None:
    script = [Turn.tools(("gmail_read", {})), Turn.text("No mail was reached.")]
    with ModelServer(script) as server, studio_at(home, server) as studio:
        run = ran(studio, "gmail_read")
        prompt = studio.executions.prompt(run.id) or ""
    assert "- `gmail_read`: it has no gmail credential and its calls are refused" in prompt
    assert run.tool_steps[0].error == (
        "There is no credential for gmail_read. Go on without it and say so; "
        "a person adds one with `%persona credentials add NAME gmail`."
    )
    assert not run.tool_steps[0].performed
    assert (run.status, run.credentials) == ("completed", ())


def test_no_secret_of_the_vault_stays_in_a_run_that_uses_none(home: Path) -> None:
    text = f"the password is {PASSWORD}"
    with ModelServer([Turn.text(f"You said: {text}", chunk=3)]) as server, studio_at(home, server) as studio:
        mail(studio)
        run = ran(studio, text=text)
        assert run.input_data == "the password is [secret my mail.app_password]"
        assert run.output_data == "You said: the password is [secret my mail.app_password]"
        assert PASSWORD not in json.dumps(server.requests[0].body)
    for path in home.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("is_removed", "said"),
    [
        (True, "The credential “my mail” was removed after this run began."),
        (False, "The credential “my mail” was changed after this run began."),
    ],
)
def test_a_credential_that_goes_or_changes_while_a_run_goes_on_is_a_sentence(
    home: Path, is_removed: bool, said: str
) -> None:
    def script(_request: Any, n: int) -> Turn:
        if n:
            return Turn.text("No mail was reached.")
        if is_removed:
            studio.credentials.remove("my mail")
        else:
            mail(studio, password="another password")
        return Turn.tools(("gmail_read", {}))

    with ModelServer(script) as server, studio_at(home, server) as studio:
        mail(studio)
        run = ran(studio, "gmail_read")
    assert (run.tool_steps[0].error or "").startswith(said)
    assert run.status == "completed"


def test_a_retry_is_not_begun_when_the_credential_of_the_failed_run_is_gone(home: Path) -> None:
    def script(_request: Any, n: int) -> Turn:
        if n == 0:
            return Turn.tools(("file_read", {"path": "."}))
        studio.credentials.remove("files")
        return Turn.error(429, retry_after=1)

    with ModelServer(script) as server, studio_at(home, server) as studio:
        studio.connectors.add("files", fields=[{"key": "token"}], tools=["file_read"])
        studio.credentials.add("files", "files", {"token": "token-0123456789"})
        ran(studio, "file_read")
        (issue,) = studio.healing.list()
    assert "the credential files is gone" in (issue.remedy or "") + (issue.note or "") + repr(issue)


def test_a_run_goes_on_with_a_warning_when_the_vault_does_not_open(home: Path) -> None:
    with ModelServer([Turn.text("Done.")]) as server, studio_at(home, server) as studio:
        row = mail(studio)
        sealed = {"app_password": row.sealed["app_password"][:-3]}
        studio.store.table("credentials", Credential).update(row.id, sealed=sealed)
        run = ran(studio)
    assert run.status == "completed"
    assert "does not open" in run.warnings[0]


def test_a_rehearsal_opens_nothing_and_describes_the_call(home: Path) -> None:
    with studio_at(home, provider="rehearsal") as studio:
        mail(studio)
        run = ran(studio, "gmail_read", "gmail_send")
    outputs = {step.tool: step.output for step in run.tool_steps}
    assert outputs["gmail_read"] == "Rehearsal: would read the newest 10 mails; no mailbox was opened."
    assert outputs["gmail_send"].startswith("Rehearsal: would send a mail to")
    assert not any(step.performed for step in run.tool_steps)
