"""Design sessions: their states, what is stored, and what happens when two notebooks hold one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.studios import line_of, python, studio_at

from personas_nb.design.designer import DesignAnswer, Designer, DesignRequest
from personas_nb.design.designers import Designers
from personas_nb.design.sessions import DesignSession, Sessions
from personas_nb.engine.model_clients import ModelClients
from personas_nb.entities.design import DesignSessionRecord
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import Conflict, DesignError, InvalidInput, ModelError, NotFound, TooLarge
from personas_nb.personas.personas import Personas
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.tools.catalog import Tools
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.keys import KeyRing
from personas_nb.vault.redaction import Redactor

INBOX = "Every weekday at 9 read my inbox and post a summary"


class Room:
    """A store with its personas, tools and sessions; ``designer`` replaces the offline one."""

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        self.settings = Settings(
            timezone="Europe/Berlin", provider="rehearsal", context_file_limit_bytes=1000
        )
        keys = KeyRing(key_file=home / "keys" / "keys.json", use_keyring=False)
        self.personas = Personas(self.store, Credentials(self.store, keys))
        self.tools = Tools(self.store)
        self.designer: Designer | None = None
        self.real = Designers(self.store, settings=self.settings, clients=ModelClients(), environ={})
        self.sessions = self.more_sessions()

    def more_sessions(self) -> Sessions:
        """What another notebook on the same store has."""
        return Sessions(
            self.store,
            designer_for=lambda provider: self.designer or self.real(provider),
            personas=self.personas,
            tools=self.tools,
            settings=self.settings,
            redactor=lambda: Redactor({"password": "hunter2-hunter2"}),
        )

    def stored(self, session: DesignSession) -> DesignSessionRecord:
        record = self.store.table("design_sessions", DesignSessionRecord).get(session.id)
        assert record is not None
        return record


class Slow:
    """A designer that waits until it is told, then answers as the offline one; or fails."""

    provider = "rehearsal"
    model = "slow"

    def __init__(self, room: Room, error: Exception | None = None) -> None:
        self.room = room
        self.error = error
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def design(self, request: DesignRequest) -> DesignAnswer:
        self.asked.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return await self.room.real("rehearsal").design(request)


@pytest.fixture
def room(home: Path) -> Iterator[Room]:
    room = Room(home)
    yield room
    room.store.close()


def test_a_sentence_opens_a_stored_session_with_a_preview(room: Room):
    session = room.sessions.open(INBOX)
    assert (session.state, session.question, session.error) == ("preview", None, None)
    assert session.result is not None
    assert session.result.feasibility is not None
    assert room.stored(session) == session.record
    assert (session.record.provider, session.record.model) == ("rehearsal", "rehearsal")


@pytest.mark.parametrize("instruction", ["", "   \n"])
def test_an_empty_instruction_is_refused_and_nothing_is_stored(room: Room, instruction: str):
    with pytest.raises(InvalidInput, match="The instruction is empty"):
        room.sessions.open(instruction)
    assert room.sessions.list() == []


def test_an_unknown_provider_is_refused_before_anything_is_stored(room: Room):
    with pytest.raises(InvalidInput, match="no provider “antropic”"):
        room.sessions.open(INBOX, provider="antropic")
    assert room.sessions.list() == []


def test_a_question_waits_for_an_answer_and_an_answer_may_be_its_number(room: Room):
    session = room.sessions.open("help me")
    assert session.state == "awaiting-input"
    assert session.result is None
    assert session.question is not None
    option = session.question.options[1]
    session.answer("2")
    assert (session.state, session.question) == ("preview", None)
    assert session.record.turns[-1].text == option


def test_a_number_that_no_option_has_is_no_answer(room: Room):
    session = room.sessions.open("help me")
    with pytest.raises(InvalidInput, match="There is no option 9"):
        session.answer("9")
    assert session.state == "awaiting-input"


def test_refining_before_the_answer_repeats_the_question(room: Room):
    session = room.sessions.open("help me")
    with pytest.raises(InvalidInput, match="waits for an answer: What should the persona do"):
        session.refine("at 8")
    with pytest.raises(InvalidInput, match="no design yet"):
        session.apply()


def test_an_answer_that_nobody_asked_for_is_refused(room: Room):
    with pytest.raises(InvalidInput, match="asks nothing"):
        room.sessions.open(INBOX).answer("yes")


def test_every_step_is_a_turn_and_costs_nothing_in_rehearsal(room: Room):
    session = room.sessions.open(INBOX).refine("at 8 instead").refine("call it Morning post")
    assert [turn.kind for turn in session.record.turns] == ["instruction", "refine", "refine"]
    assert session.cost_usd == 0.0
    assert session.is_rehearsal


def test_undo_takes_back_the_last_step_and_then_the_one_before(room: Room):
    session = room.sessions.open(INBOX).refine("at 8 instead").refine("call it Morning post")
    first, second, _ = (turn.result for turn in session.record.turns)
    assert session.undo().result == second
    assert session.undo().result == first
    with pytest.raises(InvalidInput, match="nothing to undo"):
        session.undo()


def test_undoing_an_answer_asks_again(room: Room):
    session = room.sessions.open("help me")
    question = session.question
    assert session.answer("Read my inbox and summarise it").undo().question == question
    assert session.state == "awaiting-input"


def test_a_session_is_resumed_in_another_process(room: Room, home: Path):
    session = room.sessions.open(INBOX)
    code = f"""
from pathlib import Path
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_design_sessions import Room
room = Room(Path({str(home)!r}))
room.sessions.get({session.id[:8]!r}).refine("at 8 instead")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    resumed = room.sessions.get(session.id)
    assert [turn.text for turn in resumed.record.turns] == [INBOX, "at 8 instead"]


def test_sessions_are_listed_newest_first_and_discarded(room: Room):
    first, second = room.sessions.open(INBOX), room.sessions.open("Read notes.md and write a report")
    assert [one.id for one in room.sessions.list()] == [second.id, first.id]
    assert room.sessions.get("latest").id == second.id
    room.sessions.discard(second.id[:8])
    with pytest.raises(NotFound, match="no design session"):
        room.sessions.get(second.id)


def test_a_session_that_another_notebook_changed_is_a_conflict(room: Room):
    mine = room.sessions.open(INBOX)
    theirs = room.more_sessions().get(mine.id).refine("at 8 instead")
    with pytest.raises(Conflict, match="changed by another notebook or kernel"):
        mine.refine("call it Morning post")
    with pytest.raises(Conflict):
        mine.apply()
    assert room.personas.list() == []
    assert room.stored(mine) == theirs.record


def test_a_discarded_session_is_a_conflict(room: Room):
    session = room.sessions.open(INBOX)
    room.sessions.discard(session.id)
    with pytest.raises(Conflict, match="discarded"):
        session.refine("at 8")


def test_while_a_step_is_under_way_others_see_it_and_must_wait(room: Room):
    async def story() -> None:
        session = await room.sessions.aopen(INBOX)
        room.designer = slow = Slow(room)
        step = asyncio.create_task(session.arefine("at 8 instead"))
        await slow.asked.wait()
        other = room.more_sessions().get(session.id)
        assert other.state == "refining"
        with pytest.raises(Conflict, match="is refining in another notebook"):
            await other.arefine("at 7")
        slow.go_on.set()
        await step
        assert session.state == "preview"

    asyncio.run(story())


def test_a_cancelled_step_of_another_process_finds_its_answer_refused(room: Room):
    async def story() -> None:
        session = await room.sessions.aopen(INBOX)
        before = session.result
        room.designer = slow = Slow(room)
        step = asyncio.create_task(session.arefine("at 8 instead"))
        await slow.asked.wait()
        other = room.more_sessions().get(session.id).cancel()
        assert (other.state, other.result, other.error) == ("preview", before, "The step was cancelled.")
        slow.go_on.set()
        with pytest.raises(Conflict):
            await step
        assert room.stored(session) == other.record

    asyncio.run(story())


def test_a_step_of_this_process_is_cancelled_at_once_from_another_thread(room: Room):
    async def story() -> None:
        session = await room.sessions.aopen(INBOX)
        before = session.result
        room.designer = slow = Slow(room)
        step = asyncio.create_task(session.arefine("at 8 instead"))
        await slow.asked.wait()
        await asyncio.to_thread(room.sessions.get(session.id).cancel)
        with pytest.raises(Conflict, match="The step was cancelled"):
            await step  # the designer itself was never told to go on
        assert session.state == "preview"
        resumed = room.sessions.get(session.id)
        assert (resumed.state, resumed.result) == ("preview", before)

    asyncio.run(story())


@pytest.mark.parametrize("moment", range(4))
def test_an_interrupt_at_any_moment_leaves_no_session_busy(room: Room, moment: int):
    async def story() -> None:
        session = await room.sessions.aopen(INBOX)
        step = asyncio.create_task(session.arefine("at 8 instead"))
        for _ in range(moment):
            await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        assert room.stored(session).state == "preview"
        assert room.stored(session) == session.record

    asyncio.run(story())


def test_a_step_that_is_interrupted_goes_back_to_the_state_before(room: Room):
    async def story() -> None:
        session = await room.sessions.aopen(INBOX)
        room.designer = slow = Slow(room)
        step = asyncio.create_task(session.arefine("at 8 instead"))
        await slow.asked.wait()
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert (session.state, session.error) == ("preview", "The step was cancelled.")
        assert room.stored(session).state == "preview"

    asyncio.run(story())


def test_cancelling_a_session_at_rest_changes_nothing(room: Room):
    session = room.sessions.open(INBOX)
    before = session.record
    assert session.cancel().record == before


def test_a_failed_refinement_keeps_the_design_and_says_why(room: Room):
    session = room.sessions.open(INBOX)
    before = session.result
    slow = Slow(room, ModelError("Anthropic is overloaded.", kind="overloaded"))
    slow.go_on.set()
    room.designer = slow
    with pytest.raises(ModelError):
        session.refine("at 8 instead")
    assert (session.state, session.result) == ("preview", before)
    assert session.error == "Anthropic is overloaded."
    room.designer = None
    assert session.refine("at 8 instead").error is None


def test_a_failed_first_design_is_idle_and_can_be_tried_again(room: Room):
    slow = Slow(room, DesignError("It did not work."))
    slow.go_on.set()
    room.designer = slow
    with pytest.raises(DesignError):
        room.sessions.open(INBOX)
    session = room.sessions.get("latest")
    assert (session.state, session.error, session.result) == ("idle", "It did not work.", None)
    room.designer = None
    assert session.retry().state == "preview"
    with pytest.raises(InvalidInput, match="has a design already"):
        session.retry()


def test_known_secrets_are_taken_out_before_anything_is_stored(room: Room):
    session = room.sessions.open("Read my inbox with hunter2-hunter2 and post a summary")
    session.refine("the password is hunter2-hunter2")
    assert "hunter2" not in room.stored(session).model_dump_json()


# ── applying ────────────────────────────────────────────────────────────────────────────────────────────────


def test_applying_makes_the_persona_and_closes_the_step(room: Room):
    session = room.sessions.open(INBOX)
    persona = session.apply()
    assert (persona.name, persona.slug) == ("Inbox summary", "inbox-summary")
    assert (session.state, room.stored(session).persona_id) == ("applied", persona.id)
    assert session.applied_changes[0] == "Persona “Inbox summary” was created."


def test_applying_twice_changes_nothing_and_says_so(room: Room):
    session = room.sessions.open(INBOX)
    first = session.apply()
    assert session.apply() == first
    assert session.applied_changes == ()


def test_a_notebook_that_runs_again_gets_the_same_persona(room: Room):
    first = room.sessions.open(INBOX).refine("call it Morning post").apply()
    again = room.sessions.open(INBOX).refine("call it Morning post")
    assert again.apply() == first
    assert again.applied_changes == ()


def test_a_name_chosen_by_rules_never_takes_over_another_persona(room: Room):
    mine = room.personas.create(name="Inbox summary", system_prompt="By hand.")
    made = room.sessions.open(INBOX).apply()
    assert (made.name, made.id != mine.id) == ("Inbox summary 2", True)
    assert room.personas.get(mine.id).system_prompt == "By hand."
    assert room.sessions.open(INBOX).apply().id == made.id


def test_a_name_that_a_person_gave_revises_the_persona_of_that_name(room: Room):
    mine = room.personas.create(name="Post", system_prompt="By hand.")
    session = room.sessions.open(INBOX, name="post")
    assert session.record.persona_id == mine.id
    persona = session.apply()
    assert (persona.id, persona.name, persona.version) == (mine.id, "Post", 2)


def test_a_name_is_no_beginning_of_an_id(room: Room):
    mine = room.personas.create(name="By hand", system_prompt="x")
    assert room.sessions.open(INBOX, name=mine.id[:6]).apply().id != mine.id


def test_the_name_at_apply_wins(room: Room):
    session = room.sessions.open(INBOX, name="Draft")
    assert session.apply("Morning post").slug == "morning-post"
    assert [one.name for one in room.personas.list()] == ["Morning post"]


def test_refining_an_applied_session_opens_the_next_revision(room: Room):
    session = room.sessions.open(INBOX)
    first = session.apply()
    session.refine("also write a report file")
    assert session.state == "preview"
    second = session.apply()
    assert (second.id, second.version) == (first.id, first.version + 1)
    assert session.applied_changes == (
        f"Changed: prompt, version {second.version}.",
        "Tool file_write was assigned.",
    )


def test_a_refined_name_renames_the_persona_and_keeps_its_slug(room: Room):
    session = room.sessions.open(INBOX)
    session.apply()
    persona = session.refine("call it Morning post").apply()
    assert (persona.name, persona.slug) == ("Morning post", "inbox-summary")


@pytest.mark.parametrize("name", ["", "  ", "x" * 201])
def test_an_impossible_name_is_refused_before_the_design(room: Room, name: str):
    with pytest.raises(InvalidInput, match="name"):
        room.sessions.open(INBOX, name=name)
    assert room.sessions.list() == []


def test_a_blocked_design_is_not_applied_and_says_what_to_type(room: Room):
    session = room.sessions.open(INBOX).refine("use imap_magic instead of gmail_read")
    assert session.feasibility.overall == "blocked"
    with pytest.raises(DesignError, match="no tool “imap_magic”") as caught:
        session.apply()
    assert "%persona refine" in caught.value.hint
    assert room.personas.list() == []
    assert session.state == "preview"


# ── context files ───────────────────────────────────────────────────────────────────────────────────────────


def test_context_files_are_read_and_remembered_by_their_place(room: Room, tmp_path: Path):
    file = tmp_path / "sales.csv"
    file.write_text("region,amount\nN,1\n")
    session = room.sessions.open("Read sales.csv and write a report", context=file)
    assert session.record.context == (str(file),)
    assert session.result is not None
    assert "region, amount" in session.result.structured_prompt.examples
    file.unlink()
    assert session.refine("every Monday at 8").state == "preview"


def test_a_missing_large_or_binary_context_file_is_refused(room: Room, tmp_path: Path):
    (tmp_path / "large.txt").write_text("x" * 1001)
    (tmp_path / "binary.txt").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InvalidInput, match="There is no context file"):
        room.sessions.open(INBOX, context=[tmp_path / "absent.md"])
    with pytest.raises(TooLarge, match="larger than 1,000 bytes"):
        room.sessions.open(INBOX, context=[tmp_path / "large.txt"])
    with pytest.raises(InvalidInput, match="no text in UTF-8"):
        room.sessions.open(INBOX, context=[tmp_path / "binary.txt"])
    with pytest.raises(InvalidInput, match="is a folder"):
        room.sessions.open(INBOX, context=[tmp_path])
    assert room.sessions.list() == []


def test_what_was_read_is_kept_with_the_session_without_secrets(room: Room, tmp_path: Path):
    (tmp_path / "notes.md").write_text("# Access\n\nThe password is hunter2-hunter2.")
    session = room.sessions.open(INBOX, context=[tmp_path / "notes.md"])
    (item,) = room.more_sessions().get(session.id).context
    assert (item.name, item.used) == ("notes.md", "Markdown with 1 heading, all of it")
    assert "hunter2" not in item.text
    room.sessions.discard(session.id)
    assert room.sessions.context_of(session.id) == []


def test_an_api_and_servers_are_handed_on_by_rules(room: Room, tmp_path: Path):
    api = {
        "openapi": "3.1.0",
        "info": {"title": "Shop"},
        "paths": {"/orders": {"get": {"summary": "Open ones"}}},
    }
    (tmp_path / "api.json").write_text(json.dumps(api))
    (tmp_path / "mcp.json").write_text(
        '{"mcpServers": {"time": {"command": "uvx", "args": ["mcp-server-time"]}}}'
    )
    session = room.sessions.open(
        "Tell me each day which orders are open", context=list(tmp_path.glob("*.json"))
    )
    assert session.result is not None
    (section,) = session.result.structured_prompt.custom_sections
    assert "GET /orders – Open ones" in section.content
    assert "http_request" in session.result.suggested_tools
    assert [server.name for server in session.result.suggested_servers] == ["time"]
    assert session.result.full_prompt_markdown.endswith(section.content)
    persona = session.apply()
    assert [todo.subject for todo in room.sessions.todo(persona)] == ["time"]


# ── progress ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_happened_is_stored_in_order_and_seen_as_it_happens(room: Room, tmp_path: Path):
    (tmp_path / "a.md").write_text("# A")
    following = room.sessions.follow(room.sessions.aopen(INBOX, context=tmp_path / "a.md"))
    seen = [event.type for batch in following.batches(5) for event in batch]
    session = following.result()
    assert seen == ["context", "step", "designed"]
    session.refine("at 8 instead").apply()
    stored = room.more_sessions().get(session.id).events
    assert [event.type for event in stored] == [*seen, "step", "designed", "applied"]
    assert [event.seq for event in stored] == [1, 2, 3, 4, 5, 6]


def test_a_step_that_fails_says_so_at_its_end(room: Room):
    session = room.sessions.open(INBOX)
    slow = Slow(room, ModelError("Anthropic is overloaded.", kind="overloaded"))
    slow.go_on.set()
    room.designer = slow
    with pytest.raises(ModelError):
        session.refine("at 8 instead")
    assert (session.events[-1].type, session.events[-1].text) == ("ended", "Anthropic is overloaded.")


def test_known_secrets_are_in_no_moment_of_a_session(room: Room):
    session = room.sessions.open(INBOX).refine("the password is hunter2-hunter2")
    assert not any("hunter2" in event.text for event in session.events)


# ── a kernel that is gone, and one that is faster ───────────────────────────────────────────────────────────


def test_a_session_whose_kernel_was_killed_is_at_rest_for_the_next_one(home: Path):
    code = """
    import sys
    from pathlib import Path
    from support.model_server import ModelServer, Turn
    from support.studios import studio_at
    with ModelServer([Turn.hang()]) as server, studio_at(Path(sys.argv[1]), server) as studio:
        studio.sessions.follow(studio.sessions.aopen("Read my inbox and post a summary"))
        while not server.requests:
            pass
        print(studio.sessions.list()[0].state, flush=True)
        sys.stdin.read()
    """
    with python(code, str(home)) as process:
        assert line_of(process) == "analyzing"
        with studio_at(home) as studio:
            assert studio.sessions.get().state == "analyzing"
            process.kill()
            process.wait()
            session = studio.sessions.get()
            assert (session.state, session.error) == (
                "idle",
                "The kernel that was analyzing it ended before it was done.",
            )
            assert [event.type for event in session.events][:2] == ["step", "asked"]


def test_a_step_in_another_process_ends_soon_after_it_was_cancelled(room: Room):
    async def story() -> None:
        session = await room.sessions.aopen(INBOX)
        room.designer = slow = Slow(room)
        step = asyncio.create_task(session.arefine("at 8 instead"))
        await slow.asked.wait()
        # As another process does: it writes the row, and cannot reach the task.
        other = room.more_sessions().get(session.id)
        other._sessions.stop = lambda _id: None  # type: ignore[method-assign]
        await asyncio.to_thread(other.cancel)
        with pytest.raises(Conflict, match="The step was cancelled"):
            await asyncio.wait_for(step, 20)  # the designer was never told to go on
        assert room.stored(session) == other.record

    asyncio.run(story())


def test_of_two_kernels_that_refine_at_once_the_second_is_told(room: Room):
    async def story() -> None:
        first = await room.sessions.aopen(INBOX)
        second = room.more_sessions().get(first.id)
        room.designer = slow = Slow(room)
        step = asyncio.create_task(first.arefine("at 8 instead"))
        await slow.asked.wait()
        with pytest.raises(Conflict, match="changed by another notebook or kernel") as told:
            await second.arefine("call it Morning post")
        assert "%persona sessions resume" in told.value.hint
        slow.go_on.set()
        await step
        assert [turn.text for turn in room.stored(first).turns] == [INBOX, "at 8 instead"]

    asyncio.run(story())


def test_of_contradictory_refinements_the_last_one_holds_and_undo_leads_back(room: Room):
    session = room.sessions.open(INBOX).refine("at 8 instead").refine("at 10 instead")

    def crons() -> list[str]:
        assert session.result is not None
        return [one.config["cron"] for one in session.result.suggested_triggers]

    assert crons() == ["0 10 * * 1-5"]
    session.undo()
    assert crons() == ["0 8 * * 1-5"]


def test_applying_in_another_process_is_seen_as_applying(room: Room, monkeypatch: pytest.MonkeyPatch):
    session = room.sessions.open(INBOX)
    seen = []
    apply = room.sessions._applier.apply

    def looked(*given: object, **more: object) -> object:
        seen.append(session.record.state)
        return apply(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(room.sessions._applier, "apply", looked)
    session.apply()
    assert (seen, session.state) == (["applying"], "applied")


def test_an_adopted_design_is_a_session_whose_triggers_are_off(room: Room):
    draft = room.sessions.open(INBOX).result
    assert draft is not None
    session = room.sessions.adopt(draft, instruction="imported from inbox.json", name="Imported")
    assert (session.state, session.cost_usd) == ("preview", 0.0)
    persona = session.apply()
    triggers = room.store.table("triggers", Trigger).find("persona_id = ?", [persona.id])
    assert [(one.origin, one.enabled) for one in triggers] == [("import", False)]
    assert (session.apply(), session.applied_changes) == (persona, ())
