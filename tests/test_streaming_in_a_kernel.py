"""A run streams into its cell: no more than eight updates a second, and not a word is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.kernels import Kernel
from support.model_server import ModelServer, Turn

WORDS = [f"word{number}" for number in range(13_000)]
TEXT = " ".join(WORDS)
DELTA_CHARS = len(TEXT) // 20_000


@pytest.fixture
def kernel(tmp_path: Any) -> Iterator[Kernel]:
    with Kernel(tmp_path) as kernel:
        yield kernel


def connect(monkeypatch: pytest.MonkeyPatch, server: ModelServer) -> None:
    monkeypatch.setenv("PERSONAS_PROVIDER", "custom")
    monkeypatch.setenv("PERSONAS_MODEL", "gpt-5-mini")
    monkeypatch.setenv("PERSONAS_BASE_URL", server.url)


@pytest.fixture
def scribe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ModelServer([Turn.text(TEXT, chunk=DELTA_CHARS)]) as server:
        connect(monkeypatch, server)
        yield


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ModelServer([Turn.text(TEXT[:20_000], chunk=40)]) as server:
        connect(monkeypatch, server)
        yield


def busiest_second(moments: list[datetime]) -> int:
    return max(
        sum(moment <= other < moment + timedelta(seconds=1) for other in moments) for moment in moments
    )


def test_twenty_thousand_deltas_make_few_updates_and_lose_no_text(scribe: None, kernel: Kernel) -> None:
    kernel.run("%load_ext personas_nb")
    kernel.run("from personas_nb import Studio\nStudio().personas.create('Scribe', system_prompt='Write.');")
    messages = kernel.run("%%persona run scribe -o run\ngo")
    displays = [
        message for message in messages if message["msg_type"] in ("display_data", "update_display_data")
    ]
    assert busiest_second([message["header"]["date"] for message in displays]) <= 8
    final = displays[-1]["content"]["data"]
    assert re.findall(r"word\d+", final["text/plain"]) == WORDS
    assert set(re.findall(r"word\d+", final["text/html"])) == set(WORDS)


def test_the_card_that_streamed_is_the_card_that_stays(brief: None, kernel: Kernel) -> None:
    kernel.run("%load_ext personas_nb")
    kernel.run("from personas_nb import Studio\nStudio().personas.create('Scribe', system_prompt='Write.');")
    messages = kernel.run("%%persona run scribe\ngo")
    shown = {
        message["content"]["transient"]["display_id"]
        for message in messages
        if message["msg_type"] in ("display_data", "update_display_data")
        and "Scribe" in message["content"]["data"].get("text/plain", "")
    }
    assert len(shown) == 1
    assert [message for message in messages if message["msg_type"] == "execute_result"] == []


def test_an_interrupt_cancels_the_run_and_keeps_what_it_had(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    with ModelServer([Turn.text("Half of the answer. " * 50, chunk=10).hang_after(60)]) as server:
        connect(monkeypatch, server)
        with Kernel(kernel.folder) as own:  # started after the environment was set
            own.run("%load_ext personas_nb")
            own.run("from personas_nb import Studio\nStudio().personas.create('Slow', system_prompt='x');")
            messages = own.run("%%persona run slow -o run\ngo", interrupt_when="Half of the answer")
            error = next(message["content"] for message in messages if message["msg_type"] == "error")
            assert error["ename"] == "Cancelled"
            assert len(error["traceback"]) <= 2
            assert "Traceback" not in "".join(error["traceback"])
            status = own.value("Studio().executions.get('latest').status")
            output = own.value("Studio().executions.get('latest').output_data")
    assert status == "'cancelled'"
    assert "Half of the answer" in output
