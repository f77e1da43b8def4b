"""A persona that exists is designed anew: what a person changed by hand stays, and a conflict is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_design_sessions import Room

from personas_nb.design.designer import DesignAnswer, DesignRequest
from personas_nb.design.merge import as_designed, merged, taken
from personas_nb.entities.design import DesignResult, SuggestedTrigger
from personas_nb.entities.structured_prompt import CustomSection, StructuredPrompt
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import Conflict, InvalidInput

NINE = SuggestedTrigger(trigger_type="schedule", config={"cron": "0 9 * * *", "timezone": "UTC"})
EIGHT = SuggestedTrigger(trigger_type="schedule", config={"cron": "0 8 * * *", "timezone": "UTC"})


def design(**fields: Any) -> DesignResult:
    sections = {name: fields.pop(name) for name in ("identity", "instructions", "examples") if name in fields}
    prompt = StructuredPrompt(**{"identity": "You watch.", "instructions": "1. Read.", **sections})
    given: dict[str, Any] = {"name": "Watcher", "structured_prompt": prompt, "summary": "Watches."}
    return DesignResult(**(given | fields))


class Says:
    """A designer that answers with the designs that it was given, one after the other."""

    provider = "custom"
    model = "scripted"

    def __init__(self, *designs: DesignResult) -> None:
        self.designs = list(designs)
        self.requests: list[DesignRequest] = []

    async def design(self, request: DesignRequest) -> DesignAnswer:
        self.requests.append(request)
        return DesignAnswer(self.designs.pop(0), cost_usd=0.01)


@pytest.fixture
def room(home: Path) -> Iterator[Room]:
    room = Room(home)
    yield room
    room.store.close()


def designed(room: Room, *designs: DesignResult) -> Any:
    """A persona made of the first design, and a designer that has the others to say."""
    room.designer = Says(*designs)
    return room.sessions.open("Watch the invoices", name="Watcher").apply()


def anew(room: Room) -> Any:
    return room.sessions.open("Watch the orders", name="Watcher")


# ── the three states ────────────────────────────────────────────────────────────────────────────────────────


def test_what_only_the_design_changed_is_taken_and_what_only_the_person_changed_stays():
    base, now = design(), design(identity="By hand.")
    found = merged(design(instructions="1. Write."), now, [base])
    prompt = found.result.structured_prompt
    assert (prompt.identity, prompt.instructions) == ("By hand.", "1. Write.")
    assert [(each.part, each.is_conflict) for each in found.kept] == [("identity", False)]
    assert found.result.full_prompt_markdown.startswith("## Identity\n\nBy hand.")


def test_what_both_changed_is_a_conflict_and_the_persons_stays():
    found = merged(design(identity="Anew."), design(identity="By hand."), [design()])
    (kept,) = found.kept
    assert (kept.yours, kept.design, kept.is_conflict) == ("By hand.", "Anew.", True)
    assert found.result.structured_prompt.identity == "By hand."


def test_a_section_that_the_person_emptied_does_not_come_back():
    base = design(examples="- One.")
    found = merged(base, design(examples=""), [base])
    assert found.result.structured_prompt.examples == ""


def test_a_section_of_ones_own_stays_and_the_designs_new_one_comes():
    own = StructuredPrompt(
        identity="You watch.",
        instructions="1. Read.",
        custom_sections=(CustomSection(key="tone", content="Kind."),),
    )
    theirs = own.changed(custom_sections=(CustomSection(key="format", content="Bullets."),))
    found = merged(design(structured_prompt=theirs), design(structured_prompt=own), [design()])
    assert {each.key for each in found.result.structured_prompt.custom_sections} == {"tone", "format"}


def test_a_persona_made_by_hand_keeps_all_that_it_has():
    now = design(instructions="", suggested_tools=("http_request",))
    found = merged(design(identity="Anew.", suggested_tools=("file_read",)), now, [None])
    assert found.result.structured_prompt.identity == "You watch."
    assert found.result.structured_prompt.instructions == "1. Read."
    assert set(found.result.suggested_tools) == {"file_read", "http_request"}


def test_tools_are_merged_one_by_one():
    base = design(suggested_tools=("file_read", "file_write"))
    now = design(suggested_tools=("file_read", "gmail_send"))  # one taken away, one given
    found = merged(design(suggested_tools=("file_read", "file_write", "http_request")), now, [base])
    assert found.result.suggested_tools == ("file_read", "http_request", "gmail_send")
    assert [each.is_conflict for each in found.kept] == [True]
    assert as_designed(found.result, found.kept).suggested_tools == (
        "file_read",
        "file_write",
        "http_request",
    )


def test_schedules_that_both_changed_are_not_both_kept():
    base, now = design(suggested_triggers=(NINE,)), design(suggested_triggers=(EIGHT,))
    noon = SuggestedTrigger(trigger_type="schedule", config={"cron": "0 12 * * *", "timezone": "UTC"})
    found = merged(design(suggested_triggers=(noon,)), now, [base])
    assert found.result.suggested_triggers == (EIGHT,)
    result, rest, labels = taken(found.result, found.kept, ["triggers"])
    assert (result.suggested_triggers, rest, labels) == ((noon,), (), ("Triggers",))


def test_a_part_that_is_not_kept_cannot_be_taken():
    found = merged(design(identity="Anew."), design(identity="By hand."), [design()])
    with pytest.raises(InvalidInput, match="Nothing of yours is kept under “instruction”") as caught:
        taken(found.result, found.kept, ["instruction"])
    assert caught.value.hint == "Kept: identity."
    with pytest.raises(InvalidInput, match="kept here"):
        taken(design(), (), ["all"])


TEXTS = st.sampled_from(["", "one", "two", "three"])
DESIGNS = st.builds(
    lambda identity, examples, summary, tools: design(
        identity=identity, examples=examples, summary=summary, suggested_tools=tuple(dict.fromkeys(tools))
    ),
    TEXTS,
    TEXTS,
    TEXTS,
    st.lists(st.sampled_from(["file_read", "file_write", "http_request"])),
)


@given(DESIGNS, DESIGNS, DESIGNS)
def test_merging_never_loses_a_persons_text_and_remembers_the_designs(
    base: DesignResult, now: DesignResult, new: DesignResult
):
    found = merged(new, now, [base])
    for section in ("identity", "examples"):
        before, mine, result = (
            getattr(each.structured_prompt, section) for each in (base, now, found.result)
        )
        if mine != before:
            assert result == mine
    back = as_designed(found.result, found.kept)
    assert back.structured_prompt == new.structured_prompt
    assert set(back.suggested_tools) == set(new.suggested_tools)
    again = merged(new, found.result, [new])  # the same design, applied, and designed once more
    assert again.result.structured_prompt == found.result.structured_prompt


# ── in a session ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_redesign_shows_the_conflict_and_keeps_what_was_edited_by_hand(room: Room):
    persona = designed(room, design(), design(identity="Anew.", instructions="1. Write."))
    room.personas.update(persona.id, identity="By hand.")
    session = anew(room)
    assert [each.label for each in session.conflicts] == ["Identity"]
    assert session.result.structured_prompt.identity == "By hand."
    after = session.apply()
    assert (after.prompt.identity, after.prompt.instructions) == ("By hand.", "1. Write.")


def test_the_same_redesign_again_neither_changes_nor_asks_again(room: Room):
    new = design(identity="Anew.")
    persona = designed(room, design(), new, new)
    room.personas.update(persona.id, identity="By hand.")
    first = anew(room)
    after = first.apply()
    second = anew(room)
    assert second.conflicts == ()
    assert second.apply() == after
    assert second.applied_changes == ()


def test_taking_the_designs_part_is_a_step_that_can_be_undone(room: Room):
    persona = designed(room, design(), design(identity="Anew."))
    room.personas.update(persona.id, identity="By hand.")
    session = anew(room).take("Identity")
    assert (session.conflicts, session.record.turns[-1].kind) == ((), "take")
    assert session.undo().result.structured_prompt.identity == "By hand."
    assert session.take("all").apply().prompt.identity == "Anew."


def test_a_wish_about_a_text_of_yours_is_followed(room: Room):
    by_wish = design(identity="By hand, and shorter.")
    persona = designed(room, design(), design(), by_wish)
    room.personas.update(persona.id, identity="By hand.")
    session = anew(room).refine("shorten the identity")
    assert session.conflicts == ()
    assert session.apply().prompt.identity == "By hand, and shorter."


def test_what_is_edited_after_the_design_was_shown_stays_too(room: Room):
    persona = designed(room, design(), design(identity="Anew."))
    session = anew(room)
    room.personas.update(persona.id, identity="By hand, a moment ago.")
    after = session.apply()
    assert after.prompt.identity == "By hand, a moment ago."
    assert [each.label for each in session.conflicts] == ["Identity"]


def test_refining_an_applied_session_keeps_what_was_edited_meanwhile(room: Room):
    room.designer = Says(design(), design(suggested_triggers=(EIGHT,)))
    session = room.sessions.open("Watch the invoices", name="Watcher")
    persona = session.apply()
    room.personas.update(persona.id, identity="By hand.")
    after = session.refine("at 8").apply()
    assert after.prompt.identity == "By hand."
    assert session.conflicts == ()


def test_what_was_applied_and_undone_is_applied_as_it_was(room: Room):
    room.designer = Says(design(), design(identity="Refined."))
    session = room.sessions.open("Watch the invoices", name="Watcher")
    session.apply()
    assert session.refine("other words").apply().prompt.identity == "Refined."
    assert session.undo().apply().prompt.identity == "You watch."


def test_tools_and_triggers_changed_by_hand_stay_through_a_redesign(room: Room):
    first = design(suggested_tools=("file_read", "file_write"), suggested_triggers=(NINE,))
    persona = designed(room, first, first.changed(summary="Other words."))
    room.tools.unassign(persona.id, "file_write")
    room.tools.assign(persona.id, "http_request")
    room.store.table("triggers", Trigger).delete("persona_id = ?", [persona.id])
    anew(room).apply()
    assert {tool.name for tool in room.tools.assigned(persona.id)} == {"file_read", "http_request"}
    assert room.store.table("triggers", Trigger).count("persona_id = ?", [persona.id]) == 0


def test_the_designer_sees_the_persona_as_it_is_now(room: Room):
    persona = designed(room, design(suggested_tools=("file_read",)), design())
    room.personas.update(persona.id, identity="By hand.")
    room.tools.assign(persona.id, "http_request")
    anew(room)
    assert isinstance(room.designer, Says)
    existing = room.designer.requests[-1].existing
    assert existing is not None
    assert existing.structured_prompt.identity == "By hand."
    assert existing.suggested_tools == ("file_read", "http_request")


def test_a_redesign_of_a_purged_persona_makes_a_new_one(room: Room):
    persona = designed(room, design(), design())
    session = anew(room)
    room.personas.purge(persona.id)  # its sessions go with it
    with pytest.raises(Conflict, match="discarded"):
        session.apply()
