"""Secrets planted in every place where a person can put one; afterwards nothing that is left has any of them.

Searched is everything, byte by byte: the database and its log, the logs of runs and errors, workspaces, what the
Claude CLI and MCP servers leave, saved notebooks, what is printed, what errors say and what models are sent. Not
searched is what the person wrote there: the file that was given with ``files``, and ``personas.toml``.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dovecot import PASSWORD as MAIL_PASSWORD
from support.dovecot import USER as MAIL_USER
from support.dovecot import dovecot
from support.mcp_servers import odd_server
from support.model_server import ModelServer, Turn
from support.planting import Search, encoded, repeated, secret_for
from support.shell import shell_in
from support.studios import KEY, MODELS, PROVIDERS, ROOT, persona_of, studio_at, workspace
from support.tls import certificate
from test_direct import ENGINES, Engine
from test_http_tool import serving
from test_secrets_stay_inside import protocol_messages, said

from personas_nb import Studio
from personas_nb.errors import PersonaError
from personas_nb.vault.connectors import Connectors
from personas_nb.views.inbox import review_card

HEADER_SIGNS = "\"\\/+&=%~ '<?"
WORD_SIGNS = "-_.~"  # for what stands in a variable that others check

PROVIDER_KEY = secret_for("ANTHROPIC_API_KEY", signs=HEADER_SIGNS)
OTHER_KEY = secret_for("OPENAI_API_KEY", signs=HEADER_SIGNS)
SETTINGS_KEY = secret_for("auth_token of the settings", signs=HEADER_SIGNS)
PERSONA_KEY = secret_for("auth_token of a persona", signs=HEADER_SIGNS)
API_TOKEN = secret_for("http_bearer.token", signs=HEADER_SIGNS)
API_REFRESH = secret_for("http_bearer.refresh_token") + "é€"
SERVER_ENV = secret_for("env of an MCP server")
SERVER_REFERENCE = secret_for("referred to by an MCP server")
SERVER_HEADER = secret_for("header of an MCP server", signs=WORD_SIGNS)
KEY_FILE = "\n".join(secret_for(f"line {number} of a key") for number in range(5))
DATABASE_PASSWORD = secret_for("password in an address", signs=WORD_SIGNS)

PLANTED = {
    "the provider's key": PROVIDER_KEY,
    "another provider's key": OTHER_KEY,
    "the key of the settings": SETTINGS_KEY,
    "the key of the persona": PERSONA_KEY,
    "an API's token": API_TOKEN,
    "an API's refresh token": API_REFRESH,
    "a server's variable": SERVER_ENV,
    "a server's reference": SERVER_REFERENCE,
    "a server's header": SERVER_HEADER,
    "an address's password": DATABASE_PASSWORD,
}
SEARCH = Search(PLANTED)
EVERY = repeated(PLANTED.values())


@pytest.fixture(params=ENGINES, ids=lambda engine: f"{engine.name}-{engine.api}")
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.param
    return found


@pytest.fixture
def planted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment and in the settings of the home."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", PROVIDER_KEY)
    monkeypatch.setenv("OPENAI_API_KEY", OTHER_KEY)
    home.mkdir()
    (home / "personas.toml").write_text(
        f"[default]\nauth_token = {json.dumps(SETTINGS_KEY)}\nhttp_allowed_hosts = ['127.0.0.1', 'localhost']\n"
    )


@pytest.fixture
def nothing_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    out, err = capfd.readouterr()
    SEARCH.in_text(out + err, "what was printed")


def opened(
    stack: ExitStack, home: Path, script: Any, engine: Engine = ENGINES[0], **settings: str
) -> tuple[Studio, ModelServer]:
    server = stack.enter_context(ModelServer(script, repeat_last=True))
    settings |= {"provider": PROVIDERS[engine.api], "model": MODELS[engine.api], "base_url": server.url}
    return stack.enter_context(studio_at(home, **settings)), server


def profile(server: ModelServer, engine: Engine = ENGINES[0]) -> dict[str, str]:
    return {
        "provider": PROVIDERS[engine.api],
        "base_url": server.url,
        "model": MODELS[engine.api],
        "engine": engine.name,
        "auth_token": PERSONA_KEY,
    }


def search_home(home: Path, *beside: Path) -> None:
    assert SEARCH.in_folder(home, beside=[home / "personas.toml", *beside]) > 100_000


def search_studio(studio: Studio) -> None:
    """What the API gives of the runs, and what models were told."""
    for run in studio.executions.list():
        whole = studio.executions.get(run.id)
        SEARCH.in_text(repr(whole) + whole.model_dump_json(), "the record")
        SEARCH.in_text(repr(studio.executions.recorded(run.id)), "the events")
        SEARCH.in_text(studio.executions.prompt(run.id) or "", "the prompt")
    rooms = (studio.messages, studio.memories, studio.reviews, studio.healing, studio.credentials)
    for room in rooms:
        SEARCH.in_text(repr(room.list()), type(room).__name__)


# Everything at once, on each engine


def echo(handler: BaseHTTPRequestHandler) -> None:
    """Repeats all that it is sent, in headers and body, and redirects once to an address with all of it."""
    asked = {name.lower(): value for name, value in handler.headers.items()}
    text = json.dumps([handler.path, asked]) + EVERY
    token = base64.b64encode(API_TOKEN.encode()).decode()
    handler.send_response(200 if "again" in handler.path else 302)
    handler.send_header("Location", f"/echo?again={encoded(API_TOKEN)[9]}")
    handler.send_header("ETag", f'"{API_TOKEN}"')
    handler.send_header("Link", f"<{token}>")
    handler.send_header("Content-Length", str(len(text.encode())))
    handler.end_headers()
    handler.wfile.write(text.encode())


def refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(401, f"Not with {API_TOKEN}")
    handler.send_header("WWW-Authenticate", f"Bearer error={API_TOKEN}")
    handler.end_headers()
    handler.wfile.write(EVERY.encode())


def tells() -> str:
    """Tells everything."""
    return EVERY


def raises() -> str:
    """Raises everything, with a cause."""
    try:
        raise KeyError(API_TOKEN)
    except KeyError as error:
        raise ValueError(list(PLANTED.values()), {"key": PERSONA_KEY}, [SERVER_ENV]) from error


def frame() -> Any:
    """A table with everything."""
    import pandas as pd

    return pd.DataFrame({"name": list(PLANTED), "key": list(PLANTED.values()), API_TOKEN: 1})


def credential_calls(url: str) -> list[tuple[str, dict[str, Any]]]:
    place = "{{credential.token}}"
    calls: list[dict[str, Any]] = [
        {"url": f"{url}/echo", "credential": "api"},
        {"url": f"{url}/echo", "credential": "api", "headers": {"X-Key": place}},
        {
            "url": f"{url}/echo",
            "credential": "api",
            "query": {"key": place, "b": "{{credential.refresh_token}}"},
        },
        {"url": f"{url}/echo?a={place}", "credential": "api", "method": "POST", "json": {"key": [place]}},
        {"url": f"{url}/echo", "credential": "api", "method": "POST", "body": f"a={place}"},
        {"url": f"{url}/refuse", "credential": "api"},
        {"url": "http://127.0.0.1:9/" + place, "credential": "api"},
        {"url": f"{url}/echo", "headers": {"X-Own": PERSONA_KEY}},
    ]
    return [("http_request", call) for call in calls]


def everything(url: str) -> list[Turn]:
    return [
        Turn.tools(*credential_calls(url)),
        Turn.tools(
            ("tells", {}),
            ("raises", {}),
            ("frame", {}),
            ("file_read", {"path": "inputs/leak.txt"}),
            ("file_read", {"path": f"no/{PERSONA_KEY}"}),
            ("file_write", {"path": "copy.txt", "content": EVERY}),
            ("odd__echo", {"text": "env"}),
            ("odd__echo", {"text": f"fail {SERVER_ENV}"}),
            ("odd__echo", {"text": "die"}),
            text=EVERY,
            chunk=61,
            argument_chunk=41,
        ),
        Turn.text(f"{protocol_messages(EVERY)}\n{EVERY}\n{{broken {EVERY}", chunk=67),
    ]


@pytest.mark.usefixtures("planted", "nothing_printed")
def test_a_run_with_everything_leaves_no_secret(home: Path, tmp_path: Path, engine: Engine) -> None:
    leak = tmp_path / "leak.txt"
    leak.write_text(EVERY)
    with ExitStack() as stack:
        service = stack.enter_context(serving())
        service.routes |= {"/echo": echo, "/refuse": refuse}
        studio, server = opened(stack, home, everything(service.url().rstrip("/")), engine)
        persona = persona_of(
            studio, "http_request", "file_read", "file_write", model_profile=profile(server, engine)
        )
        fields = {"base_url": service.url(), "token": API_TOKEN, "refresh_token": API_REFRESH}
        studio.credentials.add("api", "http_bearer", fields)
        studio.credentials.add("db", "github", {"token": SERVER_REFERENCE})
        env = {
            "SERVICE_TOKEN": SERVER_ENV,
            "DATABASE_URL": f"postgres://ann:{DATABASE_PASSWORD}@127.0.0.1/sales",
            "GITHUB": "credential:db.token",
            "PLAIN": "Europe/Berlin",
        }
        odd = studio.tools.add_server(persona, "odd", command=odd_server("plain"), env=env)
        assert odd.status == "healthy", odd.detail
        headers = {"Authorization": f"Bearer {SERVER_HEADER}"}
        studio.tools.add_server(persona, "web", url="http://127.0.0.1:9/mcp", headers=headers)
        for function in (tells, raises, frame):
            studio.tools.add(function)
            studio.tools.assign(persona, function.__name__)
        run = studio.run(persona, f"My keys are {EVERY}", files=[leak])
        assert run.status == "completed", run.error
        check_everything_happened(run, service.requests)
        SEARCH.in_text(json.dumps(told(server)), "what the model was told")
        search_studio(studio)
        given = workspace(studio, persona) / "inputs" / "leak.txt"
        assert given.read_text() == EVERY  # the person's own file stays as it is
        SEARCH.in_text((workspace(studio, persona) / "copy.txt").read_bytes(), "what was copied")
        search_home(home, given)  # while it is open, with the database's log
    search_home(home, given)


def told(server: ModelServer) -> list[Any]:
    """What models were sent, without what they said themselves."""
    return [
        [message for message in request.messages if message["role"] != "assistant"]
        for request in server.requests
    ]


def check_everything_happened(run: Any, requests: list[Any]) -> None:
    """The secrets were really there: they were sent, repeated, raised, read."""
    sent = json.dumps([(path, headers, body.decode("latin-1")) for _, path, headers, body in requests])
    assert sent.count(encoded(API_TOKEN)[1][:8]) > 4
    steps = {(step.tool, number): step for number, step in enumerate(run.tool_steps)}
    assert len(steps) == 17, list(steps)
    for tool in ("tells", "frame", "odd.echo"):
        assert any("[secret " in step.output for (name, _), step in steps.items() if name == tool), tool
    assert any("[secret " in (step.error or "") for step in run.tool_steps if step.tool == "raises")
    assert "[secret " in run.output_data
    assert "Europe/Berlin" in next(step.output for step in run.tool_steps if "PLAIN" in step.output)


@pytest.mark.usefixtures("planted", "nothing_printed")
@pytest.mark.parametrize("chunk", range(1, 9))
def test_deltas_cut_at_every_position_show_nothing(home: Path, chunk: int) -> None:
    with ExitStack() as stack:
        studio, server = opened(
            stack, home, [Turn.text(EVERY, chunk=chunk), Turn.text(EVERY, chunk=97 + chunk)]
        )
        studio.credentials.add("api", "http_bearer", {"base_url": "https://a.example", "token": API_TOKEN})
        for name in set(PLANTED) - {"an API's token"}:
            studio.credentials.keep(PLANTED[name], name=name, connector="model", field="auth_token")
        persona = persona_of(studio, model_profile=profile(server))
        handle = studio.start(persona)
        for event in handle.events():
            SEARCH.in_text(repr(event), "an event")
        studio.run(persona)
        search_studio(studio)
    search_home(home)


@pytest.mark.usefixtures("planted", "nothing_printed")
def test_a_run_that_waits_for_a_decision_keeps_no_secret(home: Path, tmp_path: Path, engine: Engine) -> None:
    calls = [
        ("file_write", {"path": "inputs/leak.txt", "content": f"{KEY_FILE} new"}),
        ("http_request", {"url": f"http://127.0.0.1:9/{EVERY}"}),
    ]
    first = Turn.tools(("file_read", {"path": "inputs/leak.txt"}), text=EVERY, chunk=61, argument_chunk=41)
    asking = [Turn.tools(call, text=EVERY, chunk=61) for call in calls]
    script = [first, *asking, Turn.text("Done.")]
    leak = tmp_path / "leak.txt"
    leak.write_text(f"{EVERY}\n{KEY_FILE}")
    search = Search({"lines of a key": KEY_FILE})
    with ExitStack() as stack:
        studio, server = opened(stack, home, script, engine)
        plant_in_the_vault(studio)
        studio.credentials.keep(KEY_FILE, name="key file", connector="model", field="auth_token")
        persona = persona_of(
            studio, "file_read", "file_write", "http_request", model_profile=profile(server, engine)
        )
        for tool in ("file_write", "http_request"):
            studio.tools.require_approval(persona, tool)
        run = studio.run(persona, EVERY, files=[leak])
        given = workspace(studio, persona) / "inputs" / "leak.txt"
        count = 0
        while run.status == "waiting":
            search_studio(studio)
            search_home(home, given)
            search.in_folder(home, beside=[home / "personas.toml", given])
            for review in studio.reviews.list(status="pending"):
                SEARCH.in_text(str(review_card(review)._repr_mimebundle_()), "the review as it is shown")
                studio.reviews.approve(review.id)
                count += 1
            run = studio.executions.handle(run.id).wait(60)
        assert (run.status, run.tool_calls, count) == ("completed", 3, 2), run.error
        search_studio(studio)
    search_home(home, given)
    search.in_folder(home, beside=[home / "personas.toml", given])


# Credentials of every connector


@pytest.mark.usefixtures("planted", "nothing_printed")
def test_credentials_of_every_connector_are_nowhere_in_the_clear(home: Path) -> None:
    planted: dict[str, str] = {}
    with studio_at(home, provider="rehearsal") as studio:
        for connector in studio.connectors.list():
            fields = {}
            for field in connector.fields:
                value = secret_for(f"{connector.name}.{field.key}") + ("ß" if field.secret else "")
                if field.secret:
                    planted[f"{connector.name}.{field.key}"] = fields[field.key] = value
                elif field.required:
                    fields[field.key] = "http://127.0.0.1:9" if field.key.endswith("url") else "127.0.0.1"
                elif field.key.endswith("port"):
                    fields[field.key] = "9"
                elif field.key.endswith(("host", "url")):
                    fields[field.key] = "127.0.0.1" if field.key.endswith("host") else "http://127.0.0.1:9"
            row = studio.credentials.add(f"my {connector.name}", connector.name, fields)
            result = studio.credentials.check(row.name)
            assert result.status in ("unhealthy", "unknown"), connector.name
            Search(planted).in_text(repr((row, result, studio.credentials)), connector.name)
        assert len(planted) >= 10
        studio.credentials.rotate_key()
        search = Search(planted)
        search.in_folder(home)
        run = studio.run(persona_of(studio), repeated(planted.values()))
        search.in_text(run.model_dump_json(), "the record")
    search.in_folder(home)


@pytest.mark.usefixtures("planted")
def test_what_verbs_show_of_credentials_has_no_secret(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAS_HOME", str(home))
    monkeypatch.setenv("MY_TOKEN", API_TOKEN)
    seen = []
    for shell in shell_in(tmp_path):
        shell.user_ns |= {"key": API_TOKEN, "keys": EVERY}
        for cell in (
            "%persona credentials add api http_bearer --set base_url=http://127.0.0.1:9 --from-env token=MY_TOKEN",
            "%persona credentials",
            "%persona credentials check api",
            "%persona credentials rotate-key",
            "%persona connectors",
            f"%persona credentials add api http_bearer --set token={API_TOKEN[:4]}{'x' * 8}",
            "%%persona run nobody {key}\n{keys}",
            "%persona show {key}",
            "%persona health",
            "%persona",
            "%persona credentials remove api",
        ):
            try:
                shell.run(cell)
            except Exception as error:
                seen.append(said(error))
            seen += [repr(shell.values), repr(shell.displays), repr(shell.tracebacks)]
    SEARCH.in_text("\n".join(seen), "what was shown")
    search_home(home)


# Mail


@pytest.mark.usefixtures("planted", "nothing_printed")
def test_a_mail_that_repeats_every_secret(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    login = {"the mailbox's password": MAIL_PASSWORD, **PLANTED}
    mail = EmailMessage()
    mail["From"], mail["To"] = "Bob <bob@example.com>", MAIL_USER
    mail["Subject"] = f"About {API_TOKEN}"
    mail.set_content(f"{EVERY}\n{MAIL_PASSWORD}\n" + "x" * 1_480 + API_TOKEN + "y" * 25_000 + PERSONA_KEY)
    mail.add_attachment(b"nothing", maintype="application", subtype="pdf", filename=f"{PERSONA_KEY}.pdf")
    with ExitStack() as stack:
        server = stack.enter_context(dovecot(tls))
        server.deliver(mail)
        calls = [("gmail_read", {}), ("gmail_search", {"query": "subject:About"})]
        calls += [("gmail_read", {"message_id": "1", "offset": at}) for at in range(0, 29_000, 1_990)]
        studio, model = opened(stack, home, [Turn.tools(*calls), Turn.text("Read.")])
        fields = {"user": MAIL_USER, "app_password": MAIL_PASSWORD}
        where = {"imap_host": "127.0.0.1", "imap_port": str(server.tls_port)}
        studio.credentials.add("my mail", "gmail", {**fields, **where})
        studio.credentials.add("api", "http_bearer", {"base_url": "https://a.example", "token": API_TOKEN})
        studio.credentials.add("more", "github", {"token": SERVER_ENV, "refresh_token": API_REFRESH})
        studio.credentials.add("yet", "github", {"token": SERVER_REFERENCE, "refresh_token": SERVER_HEADER})
        studio.credentials.add("last", "github", {"token": DATABASE_PASSWORD})
        persona = persona_of(studio, "gmail_read", "gmail_search", model_profile=profile(model))
        run = studio.run(persona)
        assert sum("[secret " in step.output for step in run.tool_steps) >= 4, run.tool_steps
        search_studio(studio)
        Search(login).in_text(json.dumps([each.body for each in model.requests]), "what the model was sent")
        Search(login).in_folder(home, beside=[home / "personas.toml"])


# Designs


@pytest.mark.usefixtures("planted", "nothing_printed")
def test_a_design_without_a_model_keeps_no_secret(home: Path, tmp_path: Path) -> None:
    context = tmp_path / "notes.txt"
    context.write_text(EVERY)
    with studio_at(home, provider="rehearsal") as studio:
        plant_in_the_vault(studio)
        session = studio.design(
            f"Every weekday at 9 read my mails with {EVERY}", name="Notes", context=context
        )
        session.refine(f"At 10, with {API_TOKEN} and {SERVER_ENV}")
        shown = [session.record.model_dump_json(), repr(session), session.apply().model_dump_json()]
        SEARCH.in_text("\n".join(shown), "the session")
        SEARCH.in_text(studio.run("notes", EVERY).model_dump_json(), "the rehearsal")
    search_home(home)


@pytest.mark.usefixtures("planted", "nothing_printed")
def test_a_model_that_designs_is_told_no_secret(home: Path, tmp_path: Path) -> None:
    context = tmp_path / "notes.txt"
    context.write_text(EVERY)
    plan = {
        "name": "Notes",
        "summary": EVERY,
        "structured_prompt": {"identity": API_TOKEN, "instructions": EVERY},
    }
    with ExitStack() as stack:
        studio, server = opened(stack, home, [Turn.output(plan, where="plan")])
        plant_in_the_vault(studio)
        session = studio.design(f"Read my mails with {EVERY}", context=context)
        SEARCH.in_text(session.record.model_dump_json(), "the session")
        SEARCH.in_text(json.dumps([each.body for each in server.requests]), "what the model was sent")
    search_home(home)


def plant_in_the_vault(studio: Studio) -> None:
    for name in set(PLANTED) - {"the provider's key", "another provider's key", "the key of the settings"}:
        studio.credentials.keep(PLANTED[name], name=name, connector="model", field="auth_token")


# Notebooks


CELLS = [
    "import os\nfrom personas_nb import Studio\nkey = os.environ['PLANTED']\nstudio = Studio()",
    "%load_ext personas_nb\nstudio.personas.create(name='Echo', system_prompt='Repeat the input.')",
    "%persona credentials add api http_bearer --set base_url=http://127.0.0.1:9 --from-env token=PLANTED",
    "import pandas as pd\ntable = pd.DataFrame({'key': [key, 'x' + key]})",
    "%%persona run echo\nMy key is {key}, and here is all of it: {table}",
    "@studio.tools.add\ndef lookup(what: str = '') -> str:\n    '''Looks it up.'''\n    raise LookupError(key)",
    "studio.tools.assign('echo', 'lookup');",
    "%%persona run echo -o run --no-raise\n{key}",
    "run",
    "%persona runs show latest",
    "%persona show echo",
    "%persona credentials check api",
    "studio.run('echo', {'key': key, 'rows': table.to_dict('records')})",
    "session = studio.design(f'Every day at 9 read notes.txt with {key}', name='Reader')\nsession.result",
    "studio.credentials.opened.__self__, studio.credentials.list(), studio.keys",
    "%persona list",
    "studio.connectors.add('crm', fields=[{'key': 'base_url'}, {'key': 'token', 'default': key}])",
    "studio.credentials.add('crm', 'http_bearer', {'base_url': 'https://u:' + key + '@a.example', 'token': key})",
    "%persona run nobody {key}",
]


def test_an_executed_notebook_and_its_home_have_no_secret(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    secret = secret_for("a value of a notebook")
    search = Search({"a value of a notebook": secret})
    for name, value in {
        "PLANTED": secret,
        "PERSONAS_HOME": str(home),
        "IPYTHONDIR": str(tmp_path / "ip"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    path = tmp_path / "saved.ipynb"
    nbformat.write(notebook, path)
    failed = [
        number
        for number, cell in enumerate(notebook.cells)
        if any(each.output_type == "error" for each in cell.outputs)
    ]
    assert failed == [16, 17, 18], [notebook.cells[number].outputs for number in failed]
    search.in_text(path.read_bytes(), "the saved notebook")
    search.in_folder(home)


# Errors


BROKEN = """
import os, sys
import personas_nb.verbs.looking as looking
import personas_nb.views.personas as views

def broken(*_, **__):
    try:
        raise KeyError(os.environ["PLANTED"])
    except KeyError as error:
        raise RuntimeError("It broke with  " + os.environ["PLANTED"]) from error

for module in (looking, views):
    for name in [each for each in vars(module) if not each.startswith("_")]:
        if getattr(vars(module)[name], "__module__", "") == module.__name__ and module is views:
            setattr(module, name, broken)
from personas_nb.__main__ import main
sys.exit(main(["list"]))
"""


def test_an_error_that_nobody_foresaw_is_logged_and_printed_without_stored_secrets(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secret_for("in an unforeseen error")
    search = Search({"in an unforeseen error": secret})
    with studio_at(home) as studio:
        studio.personas.create(name="Echo", system_prompt="Repeat.")
        studio.credentials.add("api", "http_bearer", {"base_url": "https://a.example", "token": secret})
    env = {**os.environ, "PERSONAS_HOME": str(home), "PLANTED": secret, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], env=env, capture_output=True, text=True, check=False
    )
    assert "Something unexpected happened" in done.stdout + done.stderr
    search.in_text(done.stdout + done.stderr, "what was printed")
    log = (home / "logs" / "errors.log").read_text()
    assert "[secret api.token]" in log
    search.in_folder(home)


def test_a_file_whose_name_is_a_secret_is_refused(home: Path, tmp_path: Path) -> None:
    secret = secret_for("the name of a file", signs="-+&=%~")
    given = tmp_path / f"{secret}.csv"
    given.write_text("1,2")
    with studio_at(home) as studio:
        studio.credentials.add("api", "http_bearer", {"base_url": "https://a.example", "token": secret})
        with pytest.raises(PersonaError, match="The name of a file holds a secret") as caught:
            studio.run(persona_of(studio), "Look.", files=[given])
        Search({"file": secret}).in_text(said(caught.value), "the error")
    Search({"file": secret}).in_folder(home)


# Halves: what is cut before it is redacted


def test_a_file_read_from_the_middle_of_a_secret_shows_no_half(home: Path) -> None:
    with ExitStack() as stack:
        offsets = [{"path": "a.txt", "offset": at} for at in range(0, 60, 5)]
        turns = [Turn.tools(*(("file_read", each) for each in offsets)), Turn.text("Read.")]
        studio, _ = opened(stack, home, turns, auth_token=KEY)
        studio.credentials.add("api", "http_bearer", {"base_url": "https://a.example", "token": API_TOKEN})
        persona = persona_of(studio, "file_read")
        given = workspace(studio, persona) / "a.txt"
        given.write_text(f"a key: {API_TOKEN} and {'z' * 100}")
        run = studio.run(persona)
        assert run.tool_steps[0].output.startswith("a key: [secret api.token] and zzz")
        assert run.tool_steps[2].output.startswith("cret api.token] and zzz")
    Search({"api": API_TOKEN}).in_folder(home, beside=[given])


@pytest.mark.parametrize("before", range(280, 300, 3))
def test_what_a_server_prints_before_it_ends_is_cut_without_a_half(home: Path, before: int) -> None:
    code = f"import os, sys; sys.exit('x' * {before} + os.environ['TOKEN'] + 'x' * 8_000)"
    with studio_at(home) as studio:
        persona = persona_of(studio)
        env = {"TOKEN": SERVER_ENV}
        server = studio.tools.add_server(persona, "odd", command=[sys.executable, "-c", code], env=env)
        assert server.status == "unhealthy"
        assert "xxxx" in server.detail
    Search({"env": SERVER_ENV}).in_folder(home)


DESCRIBES = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    said = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "a", "version": "1"}}
    if asked["method"] == "tools/list":
        text = "x" * int(sys.argv[1]) + os.environ["TOKEN"] + "y" * 2_000
        schema = {"type": "object", "properties": {"a": {"type": "string", "description": text[590:]}}}
        said = {"tools": [{"name": "look", "description": text, "inputSchema": schema}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""


@pytest.mark.parametrize("before", [970, 980, 990])
def test_what_a_server_says_of_its_tools_is_cut_without_a_half(home: Path, before: int) -> None:
    with studio_at(home) as studio:
        command = [sys.executable, "-c", DESCRIBES, str(before)]
        server = studio.tools.add_server(
            persona_of(studio), "odd", command=command, env={"TOKEN": SERVER_ENV}
        )
        assert [tool.shown for tool in server.offered] == ["odd.look"], server.detail
        assert "xxxx" in server.offered[0].description
    Search({"env": SERVER_ENV}).in_folder(home)


# Any secret, any encoding, any cut


LETTERS = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])
# Marked at both ends, so that no word of the house is one.
SECRETS = st.text(LETTERS, min_size=8, max_size=60).map(lambda text: f"Zq{text}qZ")
AROUND = st.text('ab {}"\n', max_size=20)


@given(
    secret=SECRETS,
    shape=st.integers(0, len(encoded("")) - 1),
    chunk=st.integers(1, 40),
    before=AROUND,
    after=AROUND,
)
@settings(max_examples=40, deadline=None)
def test_any_secret_in_any_encoding_and_any_cut_is_kept_out_of_the_home(
    tmp_path_factory: pytest.TempPathFactory, secret: str, shape: int, chunk: int, before: str, after: str
) -> None:
    home = tmp_path_factory.mktemp("any") / "home"
    text = f"{before}{encoded(secret)[shape]}{after}"
    call = ("file_write", {"path": "a.txt", "content": text})
    message = json.dumps({"user_message": {"title": text, "content": text}}, ensure_ascii=chunk % 2 == 0)
    script = [
        Turn.tools(call, text=text, chunk=chunk, argument_chunk=chunk),
        Turn.text(f"{text}\n{message}", chunk=chunk),
    ]
    search = Search({"any": secret}, pieces=False)
    with ExitStack() as stack:
        studio, server = opened(stack, home, script, auth_token=KEY)
        studio.credentials.add("api", "http_bearer", {"base_url": "https://a.example", "token": secret})
        run = studio.run(persona_of(studio, "file_write"), text)
        assert (run.status, run.tool_calls, len(studio.messages.list())) == ("completed", 1, 1), run.error
        search.in_text(json.dumps(told(server)), "what the model was told")
        search.in_folder(home)


def test_shipped_connectors_are_those_whose_secrets_are_planted(home: Path) -> None:
    with studio_at(home) as studio:
        assert isinstance(studio.connectors, Connectors)
        names = {connector.name for connector in studio.connectors.list()}
    assert names == {"gmail", "slack", "telegram", "smtp", "http_bearer", "github", "postgres"}
