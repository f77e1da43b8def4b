"""No key that this process knows reaches the home, a display or an error, whatever a model says."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.model_server import Api, ModelServer, Turn
from support.shell import TestingShell, shell_in
from support.studios import MODELS, PROVIDERS, persona_of, studio_at, workspace

from personas_nb import Studio
from personas_nb.errors import ModelError, PersonaError

KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-planted/AAAA+aaaa==1",
    "OPENAI_API_KEY": "sk-proj-planted/BBBB+bbbb==2",
    "PERSONAS_AUTH_TOKEN": "settings-planted/CCCC+cccc==3",
}
OWN = "profile-planted/DDDD+dddd==4"
APIS: tuple[Api, ...] = ("anthropic", "openai")


def written(key: str) -> list[str]:
    """The key raw, percent-encoded, and in base64 and base64url at each offset."""
    encoded = [base64.b64encode(bytes(offset) + key.encode()).decode() for offset in range(3)]
    return [key, quote(key, safe=""), *encoded, *(text.translate({43: 45, 47: 95}) for text in encoded)]


def forms(key: str) -> list[str]:
    """What of `written` its neighbours cannot change."""
    raw, percent, *encoded = written(key)
    return [raw, percent, *(text[4:-4] for text in encoded)]


def check(text: str, where: object) -> None:
    """Fails when a key stands in the text in any form."""
    for key in (*KEYS.values(), OWN):
        found = [form for form in forms(key) if form in text]
        assert not found, f"{where} has {found[0]!r}: …{text[max(0, text.find(found[0]) - 80) :][:200]}…"


def check_home(home: Path, *, beside: tuple[Path, ...] = ()) -> None:
    """Every file of the home, the database's log and its free pages included, except those ``beside``."""
    for path in home.rglob("*"):
        if path.is_file() and path not in beside:
            check(path.read_bytes().decode("latin-1"), path)
        check(str(path), path)


def said(error: BaseException) -> str:
    """All that an error says anywhere: itself, and the traceback with every cause."""
    parts = [str(error), repr(error), *traceback.format_exception(error)]
    chain: BaseException | None = error
    while chain is not None:
        parts += [repr(vars(chain)), str(chain.args)]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(parts)


def echoed() -> str:
    return " ".join(form for key in (*KEYS.values(), OWN) for form in written(key))


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> Api:
    """Which API the scripted server is spoken to in."""
    found: Api = request.param
    return found


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every global key is set in the environment."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


def studio_with(home: Path, server: ModelServer, api: Api) -> Any:
    return studio_at(home, server, api, auth_token=KEYS["PERSONAS_AUTH_TOKEN"])


def own_profile(server: ModelServer, api: Api) -> dict[str, str]:
    return {"provider": PROVIDERS[api], "base_url": server.url, "model": MODELS[api], "auth_token": OWN}


def protocol_messages(text: str) -> str:
    bodies: dict[str, Any] = {
        "user_message": {"title": text, "content": text},
        "agent_memory": {"title": text, "content": text, "tags": [text]},
        "manual_review": {"title": text, "description": text, "suggested_actions": [text]},
        "emit_event": {"type": text, "data": {text: [text]}},
        "persona_action": {"target": text, "input": {"a": text}},
        "execution_flow": {"flows": [{"id": text, "name": text}]},
        "outcome_assessment": {"accomplished": True, "summary": text},
    }
    return "\n".join(json.dumps({kind: body}) for kind, body in bodies.items())


def test_a_model_that_repeats_every_key_leaves_none_in_the_home(home: Path, api: Api, planted: None):
    text = echoed()
    script = [
        Turn.tools(
            ("file_read", {"path": "leak.txt"}),
            ("file_read", {"path": f"no/{OWN}"}),
            ("file_write", {"path": "copy.txt", "content": text}),
            ("http_request", {"url": f"http://127.0.0.1:9/?{text[:60]}", "headers": {"X-Key": OWN}}),
            ("user_message", {"title": text, "content": text}),
            ("emit_event", {"type": "x", "data": {text: text}}),
            (f"tool_{OWN[:7]}", {"x": text}),
            text=text,
            chunk=3,
            argument_chunk=3,
            headers=(("x-request-id", OWN), ("request-id", OWN)),
        ),
        Turn.text(f"{protocol_messages(text)}\n{text}\n{{broken {text}", chunk=3),
    ]
    with ModelServer(script) as server, studio_with(home, server, api) as studio:
        persona = persona_of(
            studio, "file_read", "file_write", "http_request", model_profile=own_profile(server, api)
        )
        leak = workspace(studio, persona) / "leak.txt"
        leak.write_text(text)
        run = studio.run(persona, f"The input has {text}")
        check(repr(run) + run.model_dump_json(), "the record")
        check(repr(studio.executions.recorded(run.id)), "the events")
        check(json.dumps(server.requests[0].body), "what the model was sent")
        check_home(home, beside=(leak,))
    assert run.status == "completed", run.error
    check_home(home, beside=(leak,))


@pytest.mark.parametrize(
    "turn",
    [
        Turn.error(401, f"Incorrect API key provided: {OWN}"),
        Turn.error(400, f"bad {KEYS['OPENAI_API_KEY']} {quote(OWN, safe='')}", error_type=OWN, code=OWN),
        Turn.error(429, OWN, retry_after=OWN),
        Turn.error(500, base64.b64encode(OWN.encode()).decode()),
        Turn.text(OWN).fail_after(1, 529, f"overloaded {OWN}"),
        Turn.raw(f"data: {OWN}\n\n"),
        Turn.raw(OWN, content_type="text/html"),
        Turn.tools((f"unknown{OWN}", "{broken " + OWN)),
    ],
    ids=["401", "400", "429", "500", "in the stream", "garbage", "html", "broken call"],
)
def test_an_error_that_repeats_the_key_leaves_it_nowhere(home: Path, api: Api, planted: None, turn: Turn):
    script = [turn, Turn.text("Done."), Turn.text("Done."), Turn.text("Done.")]
    with ModelServer(script) as server, studio_with(home, server, api) as studio:
        persona = persona_of(studio, "file_read", model_profile=own_profile(server, api))
        run = studio.run(persona, "go")
        check(repr(run) + run.model_dump_json(), "the record")
        check_home(home)


def global_echo() -> str:
    return " ".join(form for key in KEYS.values() for form in written(key))


def plan(text: str) -> Turn:
    value = {
        "name": "Echo",
        "summary": text,
        "structured_prompt": {
            "identity": text,
            "instructions": text,
            "customSections": [{"key": "k", "label": text, "content": text}],
        },
        "suggested_triggers": [{"trigger_type": "manual", "description": text}],
        "suggested_connectors": [{"name": "gmail", "setup_instructions": text}],
        "design_highlights": [{"category": text, "items": [text]}],
        "flow": [text],
    }
    return Turn.output(value, where="plan")


def test_a_design_that_repeats_every_key_holds_none(home: Path, api: Api, planted: None, tmp_path: Path):
    text = global_echo()
    question = Turn.output({"question": text, "options": [text, "no"]}, where="question")
    change = Turn.output({"summary": text}, where="change")
    context = tmp_path / "notes.txt"
    context.write_text(text)
    with (
        ModelServer([question, plan(text), change]) as server,
        studio_with(home, server, api) as studio,
    ):
        session = studio.design(f"Watch mails with {text}", context=context)
        check(repr(session.question) + repr(session), "the question")
        session.answer(f"With {text}")
        session.refine(f"Better with {text}")
        check(repr(session.record) + session.record.model_dump_json(), "the session")
        persona = session.apply()
        check(persona.model_dump_json(), "the persona")
        check(json.dumps(server.requests[0].body), "what the model was sent")
        check_home(home)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_design_that_fails_says_no_key_in_any_cause(home: Path, api: Api, planted: None, status: int):
    message = f"key {KEYS['PERSONAS_AUTH_TOKEN']} and {KEYS['OPENAI_API_KEY']} refused"
    with (
        ModelServer([Turn.error(status, message, code=KEYS["PERSONAS_AUTH_TOKEN"])]) as server,
        studio_with(home, server, api) as studio,
    ):
        with pytest.raises(ModelError) as caught:
            studio.design("Watch my mails")
        check(said(caught.value), "the error")
        check_home(home)


def test_a_design_of_the_wrong_structure_says_no_key(home: Path, api: Api, planted: None):
    text = global_echo()
    with ModelServer([Turn.text(text), Turn.text(text)]) as server, studio_with(home, server, api) as studio:
        with pytest.raises(PersonaError) as caught:
            studio.design("Watch my mails")
        check(said(caught.value), "the error")
        check_home(home)


# ── what a person sees ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


def test_no_view_shows_a_key(
    home: Path, api: Api, planted: None, shell: TestingShell, monkeypatch: pytest.MonkeyPatch
):
    text = global_echo()
    script = [Turn.text(f"{protocol_messages(text)}\n{text}", chunk=5)]
    monkeypatch.setenv("PERSONAS_HOME", str(home))
    with ModelServer(script) as server, studio_with(home, server, api) as studio:
        persona_of(studio, "file_read", model_profile=own_profile(server, api))
        shown = []
        for cell in (
            f"%%persona run watcher\n{text}",
            "%persona runs show latest",
            f"%%persona run watcher --explain\n{text}",
            "%persona show watcher",
            "%persona messages",
            "%persona memories",
            "%persona reviews",
            "%persona health",
            "%persona costs",
            f"%persona set watcher auth_token={OWN}",
            f"%persona set watcher max_turns={OWN}",
            "%persona set watcher model_profile={'auth_token': '" + OWN + "', 'x': 1}",
        ):
            try:
                shell.run(cell)
            except Exception as error:
                shown.append(str(error))
            shown += [repr(shell.values), repr(shell.displays), repr(shell.tracebacks)]
            check("\n".join(shown), cell)
            shown.clear()


def test_no_object_of_a_studio_shows_a_key(home: Path, api: Api, planted: None):
    with ModelServer([Turn.text("Done.")]) as server, studio_with(home, server, api) as studio:
        persona = persona_of(studio, model_profile=own_profile(server, api))
        studio.run(persona, "go")
        check(repr(persona) + persona.model_dump_json() + str(persona), "the persona")
        for name in [*vars(Studio), *vars(studio)]:
            if not name.startswith("__") and not callable(getattr(Studio, name, None)):
                thing = getattr(studio, name)
                check(f"{thing!r} {thing!s}", name)
                check(repr(getattr(thing, "__dict__", "")), f"the attributes of {name}")
