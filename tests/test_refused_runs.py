"""A run that its provider refused: what it cost is known, and it is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.model_server import Api, ModelServer, Turn
from support.studios import persona_of, studio_at


@pytest.mark.parametrize("api", ["anthropic", "openai"])
@pytest.mark.parametrize("status", [401, 404, 429, 529])
def test_a_refused_first_request_costs_nothing(home: Path, api: Api, status: int) -> None:
    with ModelServer([Turn.error(status)]) as server, studio_at(home, server, api) as studio:
        run = studio.run(persona_of(studio), "Go.")
    assert (run.status, run.cost_usd) == ("failed", 0.0)


@pytest.mark.parametrize("api", ["anthropic", "openai"])
def test_a_refusal_after_an_answer_costs_what_the_answer_cost(home: Path, api: Api) -> None:
    turns = [Turn.tools(("file_read", {"path": "."})), Turn.error(429)]
    with ModelServer(turns) as server, studio_at(home, server, api) as studio:
        run = studio.run(persona_of(studio, "file_read"), "Go.")
    assert run.status == "failed"
    assert run.cost_usd is not None
    assert run.cost_usd > 0
