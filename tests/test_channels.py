"""A persona's channels: addresses and tokens go to the vault, the row holds a credential's id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.planting import Search
from support.studios import studio_at

from personas_nb import Studio
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput

URL = "tgram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/4711"
HOOK = "https://hooks.example.com/services/T0000/B0000/zpQx81kTm2"
TOKEN = "xoxb-17653672481-Zt84kLq"


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home) as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def opened(studio: Studio, persona: Persona, number: int = 0) -> dict[str, str]:
    return studio.credentials.opened(str(persona.notification_channels[number]["credential_id"]))


def held(studio: Studio) -> list[str]:
    return [row.name for row in studio.credentials.list() if row.connector == "channel"]


def test_an_address_is_sealed_and_nowhere_in_the_home(studio: Studio, home: Path):
    persona = studio.personas.create(name="A", notification_channels=[{"type": "apprise", "url": URL}])
    (channel,) = persona.notification_channels
    assert set(channel) == {"type", "credential_id"}
    assert opened(studio, persona) == {"url": URL}
    studio.close()
    Search({"address": URL}).in_folder(home)


def test_a_token_in_the_settings_of_a_channel_is_sealed_and_the_rest_stays(studio: Studio):
    given = {"type": "slack", "enabled": True, "config": {"bot_token": TOKEN, "channel": "#sales"}}
    persona = studio.personas.create(name="A", notification_channels=[given])
    (channel,) = persona.notification_channels
    assert channel["config"] == {"channel": "#sales"}
    assert opened(studio, persona) == {"config.bot_token": TOKEN}


def test_the_same_again_changes_nothing(studio: Studio):
    given = [{"type": "apprise", "url": URL}, {"type": "slack", "config": {"webhook": HOOK}}]
    first = studio.personas.create(name="A", notification_channels=given)
    again = studio.personas.create(name="A", notification_channels=given)
    assert again == first
    assert len(held(studio)) == 2


def test_what_was_read_may_be_given_back_with_another_channel(studio: Studio):
    first = studio.personas.create(name="A", notification_channels=[{"type": "apprise", "url": URL}])
    more = [*first.notification_channels, {"type": "apprise", "url": HOOK}]
    second = studio.personas.update("a", notification_channels=more)
    assert second.notification_channels[0] == first.notification_channels[0]
    assert (opened(studio, second)["url"], opened(studio, second, 1)["url"]) == (URL, HOOK)


def test_a_channel_that_goes_takes_its_address_along(studio: Studio):
    studio.personas.create(name="A", notification_channels=[{"type": "apprise", "url": URL}])
    studio.personas.update("a", notification_channels=[{"type": "email"}])
    assert held(studio) == []


def test_a_persona_that_is_purged_leaves_no_address(studio: Studio):
    studio.personas.create(name="A", notification_channels=[{"type": "apprise", "url": URL}])
    studio.personas.purge("a")
    assert held(studio) == []


def test_a_channel_keeps_the_credential_that_it_names(studio: Studio):
    studio.credentials.add("team", "slack", {"bot_token": TOKEN})
    id_ = studio.credentials.get("team").id
    given = [{"type": "slack", "credential_id": id_, "config": {"channel": "#sales"}}]
    persona = studio.personas.create(name="A", notification_channels=given)
    assert list(persona.notification_channels) == given
    with pytest.raises(InvalidInput, match="has an address and names a credential"):
        studio.personas.update("a", notification_channels=[{**given[0], "url": URL}])
    assert studio.personas.get("a") == persona
    assert studio.credentials.get("team").id == id_


def test_an_address_too_short_to_be_kept_out_of_text_is_refused_and_nothing_is_written(studio: Studio):
    with pytest.raises(InvalidInput):
        studio.personas.create(name="A", notification_channels=[{"type": "apprise", "url": "x://a"}])
    assert (studio.personas.list(), held(studio)) == ([], [])


def test_the_address_of_one_persona_is_not_anothers(studio: Studio):
    for name in ("A", "B"):
        studio.personas.create(name=name, notification_channels=[{"type": "apprise", "url": f"{URL}{name}"}])
    studio.personas.update("a", notification_channels=[])
    assert opened(studio, studio.personas.get("b"))["url"] == f"{URL}B"


def test_an_export_has_no_address_and_no_connector_for_it(studio: Studio, tmp_path: Path):
    studio.personas.create(name="A", notification_channels=[{"type": "apprise", "url": URL}])
    done = studio.export("a", tmp_path / "a.json")
    text = done.path.read_text()
    Search({"address": URL}).in_text(text, "the export")
    assert '"required_connector": "channel"' not in text
    assert "notification_channels: addresses" in {each.part for each in done.left_out}
