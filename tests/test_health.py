"""What ``health`` says of each part."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.model_server import ModelServer
from support.studios import KEY, persona_of, studio_at

from personas_nb import Studio
from personas_nb.engine.retention import Retention


def parts(studio: Studio) -> dict[str, dict[str, object]]:
    return {str(part["name"]): part for part in studio.health()}


def test_every_part_has_a_status_a_time_and_a_word(home: Path):
    with studio_at(home) as studio:
        found = parts(studio)
    assert set(found) == {"store", "sqlite", "disk", "workers", "retention", "key", "model", "claude"}
    for part in found.values():
        assert part["status"] in ("healthy", "degraded", "unhealthy")
        assert isinstance(part["latency_ms"], float)
        assert part["detail"]
    assert found["store"]["status"] == "healthy"


def test_it_counts_the_workers_that_live(home: Path):
    with studio_at(home) as studio:
        assert parts(studio)["workers"]["detail"] == "none at work"
        persona_of(studio)
        studio.run("watcher")
        assert str(parts(studio)["workers"]["detail"]).startswith("1 at work (process ")
    with studio_at(home) as studio:
        assert parts(studio)["workers"]["detail"] == "none at work"


def test_it_says_what_was_removed_because_it_was_old(home: Path):
    with studio_at(home, retention_days=30, retention_min_executions=0) as studio:
        assert "none was removed yet" in str(parts(studio)["retention"]["detail"])
        persona_of(studio)
        studio.run("watcher")
        with studio.store.write() as db:
            db.execute(
                "update executions set created_at = '2020-01-01T00:00:00.000000Z', "
                "completed_at = '2020-01-01T00:00:01.000000Z'"
            )
        Retention(studio.store, studio.settings).run()
        assert str(parts(studio)["retention"]["detail"]).startswith(
            "runs are kept for 30 days, and the newest 0"
        )
        assert "; 1 were removed on " in str(parts(studio)["retention"]["detail"])


def test_the_claude_cli_is_named_with_its_version(home: Path):
    with studio_at(home) as studio:
        found = parts(studio)["claude"]
    assert found["status"] == "healthy"
    assert str(found["detail"]).startswith("Claude CLI 2.")


def test_a_claude_cli_that_is_not_there_is_unhealthy_with_what_to_do(home: Path):
    with studio_at(home, cli_path="/nowhere/claude") as studio:
        found = parts(studio)["claude"]
    assert found["status"] == "unhealthy"
    assert "There is no Claude CLI at /nowhere/claude." in str(found["detail"])
    assert "cli_path" in str(found["detail"])


def test_settings_that_cannot_be_read_are_unhealthy_and_the_other_parts_are_still_said(home: Path):
    home.mkdir()
    (home / "personas.toml").write_text("[default]\nmax_turn = 3\n")
    with studio_at(home) as studio:
        found = parts(studio)
    assert found["model"]["status"] == "unhealthy"
    assert "Did you mean “max_turns”?" in str(found["model"]["detail"])
    assert found["store"]["status"] == "healthy"


def test_a_damaged_store_is_unhealthy_and_the_other_parts_are_still_said(home: Path):
    home.mkdir()
    (home / "personas.db").write_bytes(b"this is no database, and never was one" * 100)
    with studio_at(home) as studio:
        found = parts(studio)
    assert found["store"]["status"] == found["workers"]["status"] == "unhealthy"
    assert "left as it is" in str(found["store"]["detail"])
    assert found["disk"]["status"] == "healthy"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root makes none")
def test_a_home_that_cannot_be_made_is_said_and_nothing_is_raised():
    with studio_at(Path("/proc/personas-nb")) as studio:
        found = parts(studio)
    assert found["store"]["status"] == found["disk"]["status"] == "unhealthy"


def test_the_model_is_named_and_not_asked_and_its_key_is_not_shown(home: Path):
    with ModelServer() as server, studio_at(home, server) as studio:
        model = parts(studio)["model"]
        assert model["detail"] == f"anthropic, claude-sonnet-5-5, {server.url}, engine direct"
        assert server.requests == server.others == []
        assert KEY not in str(studio.health())


def test_a_missing_key_of_the_model_is_unhealthy_with_the_next_step(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PERSONAS_PROVIDER", "anthropic")
    with studio_at(home) as studio:
        model = parts(studio)["model"]
    assert model["status"] == "unhealthy"
    assert "ANTHROPIC_API_KEY" in str(model["detail"])


def test_without_a_model_it_says_that_it_rehearses(home: Path):
    with studio_at(home) as studio:
        assert str(parts(studio)["model"]["detail"]).startswith("rehearsal")
