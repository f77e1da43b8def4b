"""%persona credentials and connectors: a secret comes from a person or the environment, never from a line or cell."""

from __future__ import annotations

import os
import pty
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from support.kernels import Kernel
from support.shell import TestingShell, shell_in
from support.studios import ROOT
from test_http_tool import serving

from personas_nb import Studio
from personas_nb.errors import InvalidInput, NotFound, PersonaError
from personas_nb.verbs.completion import complete
from personas_nb.verbs.usage import WrongUsage

SECRET = "correct-horse-battery"
OTHER = "another-horse-entirely"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with Studio() as opened:
        yield opened


@pytest.fixture
def hub(studio: Studio) -> Studio:
    studio.credentials.add("hub", "github", {"token": SECRET})
    return studio


# Adding where nobody is


def test_from_env_takes_secrets_and_set_the_rest(shell, studio, monkeypatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    shell.run(
        '%persona credentials add "my mail" gmail --set user=me@example.com imap_port=1993 '
        "--from-env app_password=MAIL_PASSWORD"
    )
    assert "✓ The credential my mail is kept: user, imap_port, app_password set." in shell.text
    assert '%persona credentials check "my mail"' in shell.text
    assert studio.credentials.opened("my mail")["app_password"] == SECRET
    assert SECRET not in str(shell.values)


def test_the_same_line_again_changes_nothing_and_needs_nothing(shell, hub) -> None:
    shell.run("%persona credentials add hub github")
    assert "is so already: nothing changed" in shell.text
    shell.run("%persona credential add hub github --set api_url=https://github.example")
    assert hub.credentials.opened("hub") == {"api_url": "https://github.example", "token": SECRET}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("mail gmail", "Nobody can be asked for “user” here. Give it with"),
        ("mail gmail", "add mail gmail --set user=VALUE --from-env app_password=VAR`."),
        ("mail gmail --set user=me", "--from-env app_password=VAR"),
        ("hub github --replace", "Nobody can be asked for “token” here."),
    ],
)
def test_where_nobody_can_be_asked_it_says_how_to_give_it(shell, hub, line: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        shell.run(f"%persona credentials add {line}")
    assert sentence in str(caught.value)
    assert [row.name for row in hub.credentials.list()] == ["hub"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (f"--set token={SECRET}", "“token” is a secret: in the line it would be saved with the notebook."),
        (f"{SECRET}", "takes no value in the line: it would be saved with the notebook."),
        (f"token={SECRET}", "takes no value in the line"),
        (f"--token={SECRET}", "takes no value in the line"),
        (f"--{SECRET}", "takes no value in the line"),
        (f"--set {SECRET}", "A field is given as FIELD=…."),
        (
            f"--from-env token={SECRET}",
            "The environment has no variable of the name that was given for “token”.",
        ),
        (f"--from-env {SECRET}", "A field is given as FIELD=…."),
        ("--from-env token=EMPTY", "The variable for “token” is empty."),
        ("--from-env tken=EMPTY", "github has no field “tken”. Did you mean “token”?"),
        ("--from-envv token=EMPTY", "has no option --from-envv. Did you mean “--from-env”?"),
    ],
)
def test_a_secret_in_the_line_is_refused_and_not_repeated(
    shell, studio, monkeypatch, line: str, sentence: str
) -> None:
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises((InvalidInput, WrongUsage)) as caught:
        shell.run(f"%persona credentials add mine github {line}")
    assert sentence in str(caught.value)
    assert SECRET not in str(caught.value) + str(shell.tracebacks)
    assert studio.credentials.list() == []


def test_a_secret_in_a_cell_is_refused(shell, studio) -> None:
    with pytest.raises(
        WrongUsage, match="takes no cell: a secret in it would be saved with the notebook"
    ) as caught:
        shell.run(f"%%persona credentials add mine github\n{SECRET}\n")
    assert SECRET not in str(caught.value)
    assert studio.credentials.list() == []


def test_in_an_executed_notebook_one_sentence_says_how(tmp_path: Path) -> None:
    cells = ["%load_ext personas_nb", "%persona credentials add hub github"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}})
    with pytest.raises(CellExecutionError):
        client.execute()
    (output,) = notebook.cells[1].outputs
    assert "Nobody can be asked for “token” here." in output.traceback[0]
    assert len(output.traceback) == 1


# Adding where a person is


def test_in_a_notebook_a_person_is_asked_unseen_and_the_value_is_nowhere_in_it(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext personas_nb")
        sent = kernel.client.execute("%persona credentials add hub github", allow_stdin=True)
        question = kernel.client.get_stdin_msg(timeout=60)["content"]
        assert question == {"prompt": "GitHub: personal access token: ", "password": True}
        kernel.client.input(SECRET)
        shown = shown_until_idle(kernel, sent)
        again = kernel.client.execute("%persona credentials add hub github", allow_stdin=True)
        assert "nothing changed" in shown_until_idle(kernel, again)
    assert "The credential hub is kept: token set." in shown
    assert SECRET not in shown
    with Studio() as studio:
        assert studio.credentials.opened("hub")["token"] == SECRET


def shown_until_idle(kernel: Kernel, sent: str) -> str:
    shown = []
    while True:
        try:
            message = kernel.client.get_iopub_msg(timeout=60)
        except queue.Empty:
            raise AssertionError("The cell waits for somebody.") from None
        if message["parent_header"].get("msg_id") == sent:
            shown.append(str(message["content"]))
            if message["content"].get("execution_state") == "idle":
                return "\n".join(shown)


def in_a_terminal(*words: str, answers: list[str]) -> str:
    """What a terminal shows of a command whose questions are answered."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "personas_nb", *words],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb"},
    )  # fmt: skip
    os.close(theirs)
    shown, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            shown += os.read(mine, 4096).decode()
        except OSError:  # it has ended
            break
        if answers and shown.rstrip(" ").endswith(":"):
            os.write(mine, f"{answers.pop(0)}\n".encode())
    process.wait(10)
    os.close(mine)
    return shown


def test_in_a_terminal_a_person_is_asked_unseen() -> None:
    shown = in_a_terminal("credentials", "add", "mail", "gmail", answers=["me@example.com", SECRET])
    assert "Gmail: app password: " in shown
    assert "The credential mail is kept: user, app_password set." in shown
    assert SECRET not in shown
    with Studio() as studio:
        assert studio.credentials.opened("mail")["app_password"] == SECRET


def test_replace_asks_for_the_secrets_alone(hub) -> None:
    shown = in_a_terminal("credentials", "add", "hub", "github", "--replace", answers=[OTHER])
    assert shown.count("personal access token") == 1
    assert hub.credentials.opened("hub")["token"] == OTHER


def test_a_name_of_another_connector_is_refused_before_anybody_is_asked(hub) -> None:
    shown = in_a_terminal("credentials", "add", "hub", "gmail", answers=[])
    assert "The credential “hub” belongs to github, not to gmail." in shown
    assert "mail address" not in shown


def test_an_empty_answer_keeps_nothing() -> None:
    shown = in_a_terminal("credentials", "add", "hub", "github", answers=["", ""])
    assert "Nothing was entered for “token”; nothing is kept." in shown


def test_without_a_terminal_nobody_is_asked() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "personas_nb", "credentials", "add", "hub", "github"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.returncode == 1
    assert "Give it with `personas credentials add hub github --from-env token=VAR`." in process.stderr


# Looking, checking, removing, rotating


def test_the_list_says_set_and_never_a_value(shell, hub) -> None:
    shell.run("%persona credentials")
    assert "token set" in shell.text
    assert "not checked" in shell.text
    assert SECRET not in str(shell.values)


def test_what_is_kept_for_a_persona_is_nothing_to_log_in_with(shell, studio) -> None:
    persona = studio.personas.create(name="Clerk")
    studio.triggers.add(persona, "webhook")
    shell.run("%persona credentials")
    assert "kept for a persona" in shell.text
    assert "credentials check" not in shell.text


def test_an_empty_list_says_how_to_begin(shell) -> None:
    shell.run("%persona credentials")
    assert "There is no credential yet." in shell.text
    assert "%persona credentials add NAME CONNECTOR" in shell.text


def test_a_check_is_shown_and_remembered(shell, studio, monkeypatch) -> None:
    monkeypatch.setenv("PERSONAS_HTTP_ALLOWED_HOSTS", "127.0.0.1")
    with serving() as server, Studio() as allowed:
        server.on("/user", b'{"login": "octocat"}')
        allowed.credentials.add("hub", "github", {"token": SECRET, "api_url": server.url("")})
        shell.run("%persona credentials check hub")
        assert "✓ hub: 127.0.0.1" in shell.text
        assert "as octocat." in shell.text
        server.on("/user", f'{{"message": "no {SECRET}"}}'.encode(), 401)
        shell.run("%persona credentials check hub")
        assert "✕ hub: 127.0.0.1" in shell.text
        assert SECRET not in str(shell.values)
    shell.run("%persona credentials")
    assert "✕ unhealthy" in shell.text


def test_removing_forgets_it(shell, hub) -> None:
    shell.run("%persona credentials remove hub")
    assert hub.credentials.list() == []
    with pytest.raises(NotFound, match="There is no credential “hub”"):
        shell.run("%persona credentials remove hub")


def test_rotating_says_how_many_were_sealed_anew(shell, hub) -> None:
    before = hub.credentials.get("hub")
    shell.run("%persona credentials rotate-key")
    assert "1 credential sealed with a new key; the old one is forgotten." in shell.text
    assert hub.credentials.get("hub").key_id != before.key_id
    assert hub.credentials.opened("hub")["token"] == SECRET


def test_connectors_are_listed_and_shown(shell, hub) -> None:
    shell.run("%persona connectors")
    assert "postgres" in shell.text
    assert "1 credential" in shell.text
    shell.run("%persona connectors show gmail")
    for said in (
        "app_password",
        "secret",
        "GMAIL_APP_PASSWORD",
        "default imap.gmail.com",
        "IMAP",
        "app password in",
    ):
        assert said in shell.text
    with pytest.raises(NotFound, match="Did you mean “gmail”"):
        shell.run("%persona connectors show gmial")


def test_a_design_without_a_credential_names_the_verb(shell) -> None:
    shell.run('%persona design "Every morning read my gmail inbox and write a summary"')
    shell.run("%persona feasibility")
    assert "`%persona credentials add gmail gmail`" in shell.text or (
        "%persona credentials add gmail gmail" in shell.text
    )


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("credentials ", ["list", "add", "check", "remove", "rotate-key"]),
        ("credentials check ", ["hub"]),
        ("credentials add hub g", ["gmail", "github"]),
        ("credentials add hub github --from-env ", ["token=", "refresh_token=", "api_url="]),
        ("credentials add hub github --set ", ["api_url="]),
        ("connectors show sl", ["slack"]),
    ],
)
def test_names_and_fields_are_completed(hub, line: str, offered: list[str]) -> None:
    _, words = complete(line, lambda: hub)
    assert set(offered) <= set(words)
    assert "token=" not in words or "--from-env" in line


def test_an_unexpected_error_shows_no_value(shell, studio, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", SECRET)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("personas_nb.vault.sealing.Sealing.key", broken)
    with pytest.raises(PersonaError) as caught:
        shell.run("%persona credentials add hub github --from-env token=TOKEN")
    log = studio.home / "logs" / "errors.log"
    assert "disk on fire" in log.read_text()
    assert SECRET not in str(caught.value) + log.read_text()
