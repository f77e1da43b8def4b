"""Whatever is given to a studio, a person reads a sentence: never an error of a library below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.studios import persona_of, studio_at

from personas_nb import Studio
from personas_nb.errors import MESSAGE_LIMIT_CHARS, NotFound, PersonaError, did_you_mean

WRONG: dict[str, Any] = {
    "None": None,
    "a number": -1,
    "a number beyond 64 bits": 10**30,
    "bytes": b"x",
    "nothing": "",
    "a NUL": "a\0b",
    "half a character": "x\udfff",
    "a long text": "A" * 200_000,
    "SQL": "' or 1=1 --",
    "a wildcard": "%",
    "a list": [],
    "an object": object(),
}
INSTRUCTION = "Every day at 9 read my inbox"
METHODS: dict[str, Callable[[Studio, Any], Any]] = {
    "personas.create": lambda studio, value: studio.personas.create(value),
    "personas.get": lambda studio, value: studio.personas.get(value),
    "personas.update": lambda studio, value: studio.personas.update(value, max_turns=3),
    "personas.purge": lambda studio, value: studio.personas.purge(value),
    "a system prompt": lambda studio, value: studio.personas.update("watcher", system_prompt=value),
    "a name": lambda studio, value: studio.personas.update("watcher", name=value),
    "a group": lambda studio, value: studio.personas.update("watcher", group=value),
    "a limit": lambda studio, value: studio.personas.update("watcher", max_turns=value),
    "a token": lambda studio, value: studio.personas.update("other", model_profile={"auth_token": value}),
    "groups.get": lambda studio, value: studio.groups.get(value),
    "versions.get": lambda studio, value: studio.versions.get("watcher", value),
    "versions.tag": lambda studio, value: studio.versions.tag("watcher", 1, value),
    "memories.get": lambda studio, value: studio.memories.get(value),
    "memories.list": lambda studio, value: studio.memories.list(value),
    "tools.get": lambda studio, value: studio.tools.get(value),
    "tools.assign": lambda studio, value: studio.tools.assign("watcher", value),
    "messages.list": lambda studio, value: studio.messages.list(limit=value),
    "reviews.get": lambda studio, value: studio.reviews.get(value),
    "reviews.list": lambda studio, value: studio.reviews.list(value),
    "executions.get": lambda studio, value: studio.executions.get(value),
    "executions.list": lambda studio, value: studio.executions.list(status=value),
    "executions.cancel": lambda studio, value: studio.executions.cancel(value),
    "sessions.get": lambda studio, value: studio.sessions.get(value),
    "credentials.get": lambda studio, value: studio.credentials.get(value),
    "start": lambda studio, value: studio.start(value),
    "an input": lambda studio, value: studio.run("watcher", value),
    "a provider": lambda studio, value: studio.start("watcher", provider=value).wait(),
    "a file": lambda studio, value: studio.start("watcher", files=[value]),
    "design": lambda studio, value: studio.design(value),
    "a name of a design": lambda studio, value: studio.design(INSTRUCTION, name=value),
    "a context": lambda studio, value: studio.design(INSTRUCTION, context=[value]),
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with studio_at(tmp_path_factory.mktemp("home"), provider="rehearsal") as studio:
        persona_of(studio)
        persona_of(studio, name="Other")
        yield studio


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_used_or_refused_in_a_sentence(studio: Studio, method: str, wrong: str):
    # A TypeError is a wrong call of Python, which says so itself; of a text it would be a fault of ours.
    allowed = PersonaError if isinstance(WRONG[wrong], str) else (PersonaError, TypeError)
    refused = None
    try:
        METHODS[method](studio, WRONG[wrong])
    except allowed as error:
        refused = error
    if isinstance(refused, PersonaError):
        assert refused.message.endswith((".", "?", "…"))
        assert len(str(refused)) <= 2 * MESSAGE_LIMIT_CHARS + 10
        str(refused).encode()
        assert refused.code == type(refused).code


def test_what_was_refused_left_the_store_readable(studio: Studio, tmp_path: Path):
    assert [persona.slug for persona in studio.personas.list()]
    assert studio.executions.list(limit=1000)
    assert studio.sessions.list()


def test_a_long_quotation_is_cut_in_its_middle():
    error = NotFound(f"There is no persona “{'A' * 5000}”.", hint="B" * 5000)
    assert len(error.message) == len(error.hint) == MESSAGE_LIMIT_CHARS + 3
    assert error.message.startswith("There is no persona “A")
    assert error.message.endswith("A”.")


def test_the_nearest_word_to_no_word_at_all_is_none():
    assert did_you_mean(None, ["list"], otherwise="Look at help.") == "Look at help."  # type: ignore[arg-type]


@pytest.mark.parametrize("before", range(460, 500, 8))
def test_a_long_message_is_cut_between_words(before: int):
    word = "a-word-of-forty-characters-0123456789-xyz"
    filling = "ab " * 1_000
    message = NotFound(f"{filling[:before]} {word} {filling} {word} {filling[:before]}").message
    assert len(message) <= MESSAGE_LIMIT_CHARS + 3
    rest = message.replace(word, "")
    assert "word" not in rest
    assert "xyz" not in rest
