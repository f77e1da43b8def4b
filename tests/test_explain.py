"""What ``--explain`` says of a run, and that it asks nobody and writes nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shell import TestingShell, shell_in

from personas_nb import Studio
from personas_nb.engine.estimate import cost_range, tokens_in
from personas_nb.engine.spending import Price
from personas_nb.entities.persona import Persona

KEY = "sk-test-0123456789abcdef"
PRICE = Price(input=3e-6, output=15e-6, cache_read=0.3e-6, cache_write=6e-6, context_tokens=200_000)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[TestingShell]:
    yield from shell_in(tmp_path)


@pytest.fixture
def studio(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("PERSONAS_HOME", str(home))
    with Studio(home) as opened:
        yield opened


def watcher(studio: Studio, *tools: str, **fields: Any) -> Persona:
    persona = studio.personas.create(name="Watcher", **{"system_prompt": "You watch invoices.", **fields})
    studio.tools.assign(persona, *tools)
    return persona


def with_model(model: str = "claude-sonnet-4-5", provider: str = "anthropic", **more: Any) -> dict[str, Any]:
    return {"model_profile": {"provider": provider, "model": model, "auth_token": KEY, **more}}


def rows_of(studio: Studio) -> dict[str, list[Any]]:
    """Every row of every table."""
    with studio.store.read() as db:
        names = [name for (name,) in db.execute("select name from sqlite_master where type = 'table'")]
        return {name: db.execute(f'select * from "{name}"').fetchall() for name in names}


# ── the arithmetic ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_least_is_one_request_with_a_short_answer_and_the_most_is_the_budget() -> None:
    found = cost_range(PRICE, prompt_tokens=1000, max_turns=25, max_budget_usd=1.0, max_output_tokens=8192)
    assert found.lower_usd == pytest.approx(1000 * 3e-6 + 200 * 15e-6)
    assert (found.upper_usd, found.is_budget, found.is_short) == (1.0, True, False)


def test_without_a_tight_budget_the_most_is_every_turn_at_its_worst() -> None:
    found = cost_range(PRICE, prompt_tokens=1000, max_turns=2, max_budget_usd=50.0, max_output_tokens=8192)
    assert found.upper_usd == pytest.approx(2 * (200_000 * 6e-6 + 8192 * 15e-6))
    assert not found.is_budget


def test_a_small_context_bounds_the_worst_request() -> None:
    small = Price(input=1e-6, output=1e-6, cache_read=1e-6, cache_write=1e-6, context_tokens=8000)
    found = cost_range(small, prompt_tokens=100, max_turns=1, max_budget_usd=None, max_output_tokens=1000)
    assert found.upper_usd == pytest.approx(9000 * 1e-6)


@given(
    tokens=st.integers(0, 10**6), turns=st.integers(1, 1000),
    budget=st.none() | st.floats(0, 1000), output=st.integers(1, 64_000),
)  # fmt: skip
def test_a_range_begins_at_nothing_or_more_and_ends_at_the_budget_or_less(
    tokens: int, turns: int, budget: float | None, output: int
) -> None:
    found = cost_range(
        PRICE, prompt_tokens=tokens, max_turns=turns, max_budget_usd=budget, max_output_tokens=output
    )
    assert found.lower_usd >= 0
    assert budget is None or found.upper_usd <= budget
    assert found.is_short or found.lower_usd <= found.upper_usd or output < 200


def test_tokens_are_estimated_upwards() -> None:
    assert [tokens_in(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]


# ── in a notebook ───────────────────────────────────────────────────────────────────────────────────────────


def test_prompt_tools_limits_engine_and_cost_are_all_said(shell: TestingShell, studio: Studio) -> None:
    watcher(studio, "file_read", "gmail_send", max_budget_usd=0.5, **with_model())
    text = shell.run("%%persona run watcher --explain --max-turns 3\nWhich are overdue?").text
    for said in (
        "Nothing was run, and nothing was sent.", "anthropic", "claude-sonnet-4-5", "direct",
        "assigned: the tools below, and nothing else", "none in the prompt",
        "$0.50 (its persona)", "3 (this run)", "5 min 0 s (settings)", "8,192", "1 MiB",
        "changes nothing", "reaches outside", "✕ a credential of gmail: there is none",
        "to $0.5000.", "at most its budget", "Which are overdue?", "## EXECUTE NOW",
    ):  # fmt: skip
        assert said in text, said


def test_a_tool_is_shown_with_the_credential_that_it_would_find(shell: TestingShell, studio: Studio) -> None:
    studio.connectors.add("shop", fields=[{"key": "base_url"}, {"key": "token"}], tools=["http_request"])
    token = "tok-0123456789-shop"
    studio.credentials.add("orders", "shop", {"base_url": "https://shop.example", "token": token})
    watcher(studio, "file_read", "http_request", **with_model())
    text = shell.run("%persona run watcher --explain").text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["http_request"] == ["http_request", "reaches", "outside", "orders"]
    assert rows["file_read"] == ["file_read", "changes", "nothing"]
    assert token not in text


def test_the_longest_answer_is_that_of_the_engine(shell: TestingShell, studio: Studio) -> None:
    pytest.importorskip("claude_agent_sdk")
    watcher(studio, permissions="bypass", **with_model(engine="claude"))
    text = shell.run("%persona run watcher --explain").text
    assert "32,000" in text
    assert "⚠ bypass: whatever the Claude CLI can do: shell, files, network" in text


def test_few_turns_may_cost_less_than_the_budget(shell: TestingShell, studio: Studio) -> None:
    watcher(studio, **with_model())
    text = shell.run("%persona run watcher --explain --max-turns 2 --max-budget-usd 90").text
    assert "at most 2 full turns" in text
    assert "$90.00 (this run)" in text


def test_a_budget_that_pays_for_no_request_is_said(shell: TestingShell, studio: Studio) -> None:
    watcher(studio, **with_model())
    for budget in ("0", "0.000001"):
        text = shell.run(f"%persona run watcher --explain --max-budget-usd {budget}").text
        assert "does not pay for one request" in text


def test_an_unknown_price_is_unknown_and_tokens_stand_in(shell: TestingShell, studio: Studio) -> None:
    watcher(studio, **with_model("our-own", "custom", base_url="http://127.0.0.1:1/v1"))
    text = shell.run("%persona run watcher --explain").text
    assert "Unknown: the price of our-own is not known here." in text
    assert "200,000 (settings; stands in for the budget, for the price is unknown)" in text


def test_a_rehearsal_costs_nothing_and_says_what_it_is(shell: TestingShell, studio: Studio) -> None:
    watcher(studio)
    text = shell.run("%persona run watcher --explain --provider rehearsal").text
    assert "$0 (rehearsal)" in text
    assert "REHEARSAL" in text


def test_without_a_key_it_says_what_is_missing_and_estimates_all_the_same(
    shell: TestingShell, studio: Studio
) -> None:
    watcher(studio, model_profile={"provider": "anthropic", "model": "claude-sonnet-4-5"})
    view = shell.run("%persona run watcher --explain")
    assert "✕ There is no key for anthropic" in view.text
    assert "ANTHROPIC_API_KEY" in view.text
    assert "to $1.0000." in view.text
    assert "a key that is missing" not in repr(view.value) + view.text


def test_a_profile_of_another_provider_than_the_asked_one_is_explained_without_a_key(
    shell: TestingShell, studio: Studio
) -> None:
    watcher(studio, **with_model("our-own", "custom", base_url="http://127.0.0.1:1/v1"))
    text = shell.run("%persona run watcher --explain --provider anthropic").text
    assert "✕ There is no key for anthropic" in text
    assert "our-own" not in text


def test_a_persona_that_is_off_is_explained_and_said_to_be_off(shell: TestingShell, studio: Studio) -> None:
    watcher(studio, enabled=False)
    assert (
        "✕ Watcher is off. Type `%persona enable watcher`."
        in shell.run("%persona run watcher --explain").text
    )


def test_memories_that_would_go_in_are_counted(shell: TestingShell, studio: Studio) -> None:
    from personas_nb.entities.memory import Memory

    persona = watcher(studio)
    studio.memories.add(Memory(persona_id=persona.id, title="Billing", content="Acme pays on the 5th."))
    text = shell.run("%%persona run watcher --explain\nbilling of Acme").text
    assert "1 in the prompt" in text
    assert "Acme pays on the 5th." in text


def test_a_key_in_the_input_is_not_shown(
    shell: TestingShell, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef")
    watcher(studio)
    view = shell.run("%%persona run watcher --explain\nuse sk-ant-0123456789abcdef")
    assert "sk-ant-0123" not in view.text + view.html + repr(view.value)


@pytest.mark.parametrize(
    "profile", [{}, with_model(), with_model("our-own", "custom", base_url="http://127.0.0.1:1")]
)
def test_it_calls_nothing_starts_nothing_and_writes_no_row(
    profile: dict[str, Any], shell: TestingShell, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher(studio, "file_read", "gmail_send", **profile)
    before, files = rows_of(studio), sorted(studio.home.rglob("*"))

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("it reached for the network")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr("personas_nb.worker.lend", refused)
    shell.run("%%persona run watcher --explain\nWhich are overdue?")
    assert rows_of(studio) == before
    assert sorted(studio.home.rglob("*")) == files
