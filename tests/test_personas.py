"""Making, changing, finding and removing personas."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personas_nb.entities.memory import Memory
from personas_nb.entities.persona import Persona
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.errors import Conflict, InvalidInput, NotFound
from personas_nb.personas.personas import Personas
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing

TOKEN = "sk-test-correct-horse"
PROFILE = {"provider": "custom", "base_url": "http://127.0.0.1:4000", "model": "m"}


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def personas(store: Store, tmp_path: Path) -> Personas:
    keys = KeyRing(key_file=tmp_path / "keys" / "keys.json", use_keyring=False)
    return Personas(store, Credentials(store, keys))


def versions(personas: Personas, persona: Persona) -> list[PromptVersion]:
    rows = personas.store.table("prompt_versions", PromptVersion)
    return rows.find("persona_id = ?", [persona.id], order_by="version")


def token_of(personas: Personas, ref: str) -> str | None:
    profile = personas.get(ref).model_profile
    assert profile is not None
    if profile.auth_credential_id is None:
        return None
    return personas.credentials.reveal(profile.auth_credential_id, "auth_token")


# Creating


def test_a_created_persona_is_found_again_with_every_field(personas: Personas) -> None:
    made = personas.create(
        name="Invoice  Watcher",
        description="watches",
        structured_prompt={"identity": "You watch.", "toolGuidance": "Read first."},
        max_budget_usd=0.5,
        design_context=["a.csv"],
    )
    assert made.name == "Invoice Watcher"
    assert made.prompt.tool_guidance == "Read first."
    assert personas.get("invoice-watcher") == made


def test_the_first_version_is_written_at_creation(personas: Personas) -> None:
    made = personas.create(name="A", system_prompt="You are.")
    (first,) = versions(personas, made)
    assert (first.version, first.change_summary, first.author) == (1, "created", "user")
    assert first.system_prompt == "You are."


def test_the_same_creation_again_changes_nothing(personas: Personas) -> None:
    fields = {"system_prompt": "You are.", "model_profile": {**PROFILE, "auth_token": TOKEN}, "max_turns": 3}
    first = personas.create(name="A", **fields)
    assert personas.create(name="A", **fields) == first
    assert len(versions(personas, first)) == 1
    assert len(personas.credentials.list()) == 1


def test_creating_an_existing_name_is_a_new_revision_that_keeps_what_is_not_given(personas: Personas) -> None:
    first = personas.create(name="Invoice Watcher", system_prompt="one", max_turns=3)
    second = personas.create(name="invoice watcher", system_prompt="two")
    assert (second.id, second.version, second.max_turns) == (first.id, 2, 3)
    assert second.name == "Invoice Watcher"
    assert second.updated_at > first.updated_at


def test_a_renamed_persona_is_still_what_its_first_name_creates(personas: Personas) -> None:
    first = personas.create(name="Alpha")
    renamed = personas.update("alpha", name="Beta")
    assert (renamed.slug, renamed.name) == ("alpha", "Beta")
    assert personas.create(name="Alpha").id == personas.create(name="Beta").id == first.id


def test_names_that_share_a_slug_only_because_it_drops_letters_are_two_personas(personas: Personas) -> None:
    names = ["日本", "中国", "Report 日本", "Report", "Report 2", "x" * 100, "x" * 100 + "y"]
    made = [personas.create(name=name) for name in names]
    assert len({persona.slug for persona in made}) == len(names)
    assert [personas.create(name=name).id for name in names] == [persona.id for persona in made]
    assert [personas.get(name).id for name in names] == [persona.id for persona in made]


def test_a_slug_of_ones_own_is_accepted_and_then_means_that_persona(personas: Personas) -> None:
    made = personas.create(name="Invoice Watcher", slug="iw")
    assert personas.create(name="Anything", slug="iw", max_turns=2) == personas.get("iw")
    assert (personas.get("iw").id, personas.get("iw").name) == (made.id, "Invoice Watcher")
    with pytest.raises(Conflict, match="called"):
        personas.create(name="invoice watcher", slug="other")


def test_an_archived_persona_comes_back_when_it_is_created_again(personas: Personas) -> None:
    first = personas.create(name="A", system_prompt="one")
    personas.archive("a")
    again = personas.create(name="A", system_prompt="one")
    assert (again.id, again.archived_at, again.enabled, again.version) == (first.id, None, True, 1)
    personas.archive("a")
    assert personas.create(name="A", enabled=False).archived_at is None


def test_what_cannot_be_used_is_refused_and_nothing_is_written(personas: Personas) -> None:
    with pytest.raises(InvalidInput, match="max_turns"):
        personas.create(name="A", max_turns=0)
    with pytest.raises(InvalidInput, match="toolGuidence"):
        personas.create(name="A", structured_prompt={"toolGuidence": "x"})
    with pytest.raises(InvalidInput, match="must not be empty"):
        personas.create(name="  ")
    with pytest.raises(InvalidInput, match="author"):
        personas.create(name="A", author="nobody")  # type: ignore[arg-type]
    assert personas.list() == []


def test_a_structured_prompt_may_come_as_json_text_and_an_unreadable_one_is_kept(personas: Personas) -> None:
    whole = personas.create(name="A", structured_prompt=json.dumps({"identity": "You are."}))
    assert whole.structured_prompt == StructuredPrompt(identity="You are.")
    broken = personas.create(name="B", structured_prompt="{identity: oops", system_prompt="plain")
    assert personas.get("b").structured_prompt == "{identity: oops"
    assert broken.prompt.identity == "plain"


@pytest.mark.parametrize("text", ["{not json", '{"identity": 7}', "[1]", '"', "17"])
def test_a_row_whose_structured_prompt_is_none_is_read_as_text(personas: Personas, text: str) -> None:
    personas.create(name="A", system_prompt="plain")
    with personas.store.write() as db:
        db.execute("update personas set structured_prompt = ?", [text])
    assert personas.get("a").structured_prompt == text
    assert personas.update("a", description="d").structured_prompt == text


# Changing


def test_a_change_of_one_field_writes_that_column_and_the_time_only(personas: Personas) -> None:
    personas.create(name="A", system_prompt="one")
    statements: list[str] = []
    with personas.store.write() as db:
        db.set_trace_callback(statements.append)
        personas.update("a", max_turns=7)
        db.set_trace_callback(None)
    (written,) = [text for text in statements if text.startswith("update")]
    assert (
        written.split(" where ")[0]
        .replace("'", "")
        .startswith("update personas set max_turns = 7, updated_at")
    )


def test_processes_that_change_different_fields_do_not_undo_each_other(personas: Personas) -> None:
    made = personas.create(name="A", system_prompt="one")
    code = """
import sys
from pathlib import Path
from personas_nb.personas.personas import Personas
from personas_nb.store.database import Store
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing
store = Store(Path(sys.argv[1]))
personas = Personas(store, Credentials(store, KeyRing(use_keyring=False)))
for turn in range(1, 101):
    personas.update("a", **{sys.argv[2]: turn})
"""
    home = str(personas.store.home)
    processes = [
        subprocess.Popen([sys.executable, "-c", code, home, field])
        for field in ("max_turns", "max_concurrent")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    changed = personas.get("a")
    assert (changed.max_turns, changed.max_concurrent) == (100, 100)
    assert (changed.system_prompt, changed.version) == (made.system_prompt, 1)


def test_an_update_that_changes_nothing_leaves_the_time_of_the_last_change(personas: Personas) -> None:
    made = personas.create(name="A", max_turns=3)
    assert personas.update("a", max_turns=3, system_prompt="") == made


@pytest.mark.parametrize(
    "given", [{"identity": "new"}, {"structured_prompt.identity": "new"}, {"toolGuidance": "new"}]
)
def test_one_section_is_changed_by_its_name(personas: Personas, given: dict[str, str]) -> None:
    personas.create(name="A", structured_prompt={"identity": "i", "tool_guidance": "t", "examples": "e"})
    changed = personas.update("a", **given).prompt
    expected = {"identity": "i", "tool_guidance": "t", "examples": "e"}
    field = "tool_guidance" if "toolGuidance" in given else "identity"
    assert changed == StructuredPrompt(**{**expected, field: "new"})


def test_a_whole_structured_prompt_replaces_all_sections(personas: Personas) -> None:
    personas.create(name="A", structured_prompt={"identity": "i", "examples": "e"})
    assert personas.update("a", structured_prompt={"identity": "new"}).prompt.examples == ""


def test_a_section_set_beside_a_system_prompt_keeps_that_as_the_identity(personas: Personas) -> None:
    personas.create(name="A", system_prompt="You are careful.")
    changed = personas.update("a", instructions="1. Read.")
    assert changed.prompt == StructuredPrompt(identity="You are careful.", instructions="1. Read.")
    assert changed.system_prompt == "You are careful."


def test_every_change_of_the_prompt_writes_a_version_that_says_what_changed(personas: Personas) -> None:
    made = personas.create(
        name="A", identity="You watch invoices.", instructions="1. Read\n2. Write\n3. Stop"
    )
    personas.update(
        "a", identity="Completely different now!", instructions="1. Read\n1a. Check\n1b. Ask\n2. Write"
    )
    personas.update("a", max_turns=3)
    personas.update("a", examples="An example.", author="design", summary="with an example")
    assert [(row.version, row.author, row.change_summary) for row in versions(personas, made)] == [
        (1, "user", "created"),
        (2, "user", "Identity rewritten; Instructions: 2 lines added, 1 removed"),
        (3, "design", "with an example"),
    ]
    assert personas.get("a").version == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("systm_prompt", "Did you mean “system_prompt”"),
        ("structured_prompt.identty", "Did you mean “identity”"),
        ("model_profile.modle", "Did you mean “model”"),
        ("id", "cannot be set"),
        ("version", "rollback"),
        ("slug", "stays when the name changes"),
        ("archived_at", "Use archive"),
    ],
)
def test_a_field_that_is_none_or_not_for_setting_is_refused(
    personas: Personas, name: str, words: str
) -> None:
    before = personas.create(name="A")
    with pytest.raises(InvalidInput, match=words):
        personas.update("a", **{name: "x", "max_turns": 9})
    assert personas.get("a") == before


def test_a_name_that_another_persona_has_is_refused(personas: Personas) -> None:
    personas.create(name="Größe")
    personas.create(name="B")
    for taken in ("GRÖSSE", "Größe"):
        with pytest.raises(Conflict, match="called"):
            personas.update("b", name=taken)


def test_a_group_is_given_by_its_name(personas: Personas) -> None:
    group = personas.groups.create("Finance")
    personas.create(name="A", group="finance")
    assert personas.get("a").group_id == group.id
    assert personas.update("a", group=None).group_id is None
    with pytest.raises(NotFound, match="Did you mean “finance”"):
        personas.update("a", group="Finanse")


# Tokens


def test_a_token_goes_into_the_vault_and_the_row_holds_an_id(personas: Personas) -> None:
    made = personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    assert token_of(personas, "a") == TOKEN
    assert TOKEN not in repr(made)
    personas.store.close()
    for path in personas.store.home.iterdir():
        assert TOKEN.encode() not in path.read_bytes()


def test_a_token_given_again_makes_no_new_row_and_a_new_one_replaces_it(personas: Personas) -> None:
    first = personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    personas.update("a", model_profile={**PROFILE, "auth_token": TOKEN, "model": "m2"})
    personas.update("a", **{"model_profile.auth_token": "sk-another-token"})
    changed = personas.get("a")
    assert changed.model_profile
    assert first.model_profile
    assert changed.model_profile.auth_credential_id == first.model_profile.auth_credential_id
    assert token_of(personas, "a") == "sk-another-token"
    assert len(personas.credentials.list()) == 1


def test_a_token_stays_while_provider_and_address_stay(personas: Personas) -> None:
    personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    personas.update("a", model_profile={**PROFILE, "model": "other"})
    personas.update("a", **{"model_profile.engine": "direct"})
    assert token_of(personas, "a") == TOKEN


@pytest.mark.parametrize(
    "change",
    [
        {"model_profile": {**PROFILE, "base_url": "http://elsewhere.test"}},
        {"model_profile.base_url": "http://elsewhere.test"},
        {"model_profile": {"provider": "custom"}},
        {"model_profile.provider": "litellm"},
        {"model_profile.auth_token": ""},
    ],
)
def test_a_token_is_never_carried_to_another_server(personas: Personas, change: dict[str, object]) -> None:
    personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    personas.update("a", **change)
    assert token_of(personas, "a") is None
    assert personas.credentials.list() == []


def test_a_profile_passed_back_whole_to_another_address_loses_its_token(personas: Personas) -> None:
    made = personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    assert made.model_profile
    personas.update("a", model_profile=made.model_profile.changed(base_url="http://elsewhere.test"))
    assert token_of(personas, "a") is None


def test_the_token_of_one_persona_cannot_be_claimed_by_another(personas: Personas) -> None:
    made = personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    assert made.model_profile
    with pytest.raises(InvalidInput, match="auth_token"):
        personas.create(
            name="B", model_profile={**PROFILE, "auth_credential_id": made.model_profile.auth_credential_id}
        )
    assert [persona.slug for persona in personas.list()] == ["a"]


def test_a_refused_update_leaves_the_token_as_it_was(personas: Personas) -> None:
    personas.create(name="A", model_profile={**PROFILE, "auth_token": TOKEN})
    with pytest.raises(InvalidInput) as caught:
        personas.update("a", max_turns=0, model_profile={**PROFILE, "auth_token": "sk-another-token"})
    assert "sk-another-token" not in str(caught.value)
    with pytest.raises(InvalidInput, match="8 characters"):
        personas.update("a", model_profile={**PROFILE, "auth_token": "short"})
    assert token_of(personas, "a") == TOKEN


# Finding


def test_a_persona_is_found_by_slug_name_id_and_beginning_of_id(personas: Personas) -> None:
    made = personas.create(name="Größe Watch")
    for ref in (made.slug, made.slug.upper(), "GRÖSSE watch", " größe  watch ", made.id, made.id[:4], made):
        assert personas.get(ref) == made


def test_a_beginning_of_several_ids_is_refused_with_the_candidates(personas: Personas) -> None:
    rows = personas.store.table("personas", Persona)
    rows.insert(Persona(id="abcd1111-0", name="One"))
    rows.insert(Persona(id="abcd2222-0", name="Two"))
    with pytest.raises(InvalidInput, match=r"one \(abcd1111\), two \(abcd2222\)"):
        personas.get("abcd")
    assert personas.get("abcd2").name == "Two"
    with pytest.raises(NotFound):
        personas.get("abc")


def test_an_unknown_persona_is_answered_with_the_nearest(personas: Personas) -> None:
    personas.create(name="Mail Boy")
    with pytest.raises(NotFound, match=r"There is no persona “mail-bot”\. Did you mean “mail"):
        personas.get("mail-bot")
    with pytest.raises(NotFound, match="%persona list"):
        personas.get("%")


@given(name=st.text(min_size=1, max_size=80).filter(lambda text: text.strip()))
@settings(max_examples=60, deadline=None)
def test_any_name_creates_one_persona_that_its_name_finds(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    store = Store(home)
    personas = Personas(store, Credentials(store, KeyRing(key_file=home / "k", use_keyring=False)))
    personas.create(name="Report")
    made = personas.create(name=name)
    assert personas.create(name=name) == made
    assert personas.get(name).id == made.id
    store.close()


# Leaving


def test_disabling_and_enabling_touch_nothing_else(personas: Personas) -> None:
    made = personas.create(name="A", system_prompt="one")
    assert personas.disable("a").enabled is False
    again = personas.enable("a")
    assert again.changed(updated_at=made.updated_at) == made


def test_an_archived_persona_is_disabled_kept_and_not_listed(personas: Personas) -> None:
    personas.create(name="A")
    personas.create(name="B")
    archived = personas.archive("a")
    assert personas.archive("a") == archived
    assert [persona.slug for persona in personas.list()] == ["b"]
    assert [persona.slug for persona in personas.list(include_archived=True)] == ["a", "b"]
    assert personas.get("a").enabled is False
    assert personas.enable("a").archived_at is None


def test_purging_deletes_everything_of_a_persona_and_nothing_of_another(personas: Personas) -> None:
    store = personas.store
    kept = personas.create(name="Kept", model_profile={**PROFILE, "auth_token": "sk-the-other-token"})
    gone = personas.create(name="Gone", model_profile={**PROFILE, "auth_token": TOKEN})
    for persona in (kept, gone):
        store.table("memories", Memory).insert(Memory(persona_id=persona.id, title="t"))
        with store.write() as db:
            for statement in (
                "insert into executions (id, persona_id, status, claim_token, created_at) "
                "values (?1, ?1, 'failed', 0, '')",
                "insert into execution_texts values (?1, 'output', 'x')",
                "insert into intents (id, execution_id, status, created_at) values (?1, ?1, 'open', '')",
                "insert into design_sessions (id, persona_id, instruction, state, revision, created_at) "
                "values (?1, ?1, 'x', 'applied', 0, '')",
            ):
                db.execute(statement, [persona.id])
    personas.purge("gone")
    with store.read() as db:
        for table in (
            "personas",
            "prompt_versions",
            "memories",
            "executions",
            "execution_texts",
            "intents",
            "design_sessions",
            "credentials",
        ):
            rows = db.execute(f"select * from {table}").fetchall()
            assert len(rows) == 1, table
            assert gone.id not in str([tuple(row) for row in rows])
    assert token_of(personas, "kept") == "sk-the-other-token"
    with pytest.raises(NotFound):
        personas.get(gone.id)
