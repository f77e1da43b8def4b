"""Verbs that design: a sentence becomes a design, the design a persona."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from personas_nb.errors import PersonaError
from personas_nb.verbs.call import Call, noted
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.design.sessions import DesignSession
    from personas_nb.entities.design import DesignResult, SuggestedTrigger

FIRES_SHOWN = 3


def design(call: Call) -> View:
    """Design a persona from a sentence."""
    session = call.studio.design(
        call.text("instruction", "instruction"),
        name=call["name"],
        provider=call["provider"],
        context=call["context"],
    )
    call.desk.session_id = session.id
    return _card(call, session, *_how_to_switch(call, session))


def answer(call: Call) -> View:
    """Answer the question of the design."""
    text = call.text("text", "answer")
    session = call.session()
    before = session.result
    return _card(call, session.answer(text), changed=_changes(before, session.result))


def refine(call: Call) -> View:
    """Change the design in words."""
    text = call.text("text", "wish")
    session = call.session()
    before = session.result
    return _card(call, session.refine(text), changed=_changes(before, session.result))


def undo(call: Call) -> View:
    """Take back the last answer or refinement."""
    session = call.session()
    before = session.result
    return _card(call, session.undo(), changed=_changes(before, session.result))


def feasibility(call: Call) -> View:
    """Whether the design can work here."""
    from personas_nb.views.design import feasibility_card

    session = call.session()
    found = session.feasibility
    return feasibility_card(found, name=session.result.name if session.result else "")


def apply(call: Call) -> View:
    """Make the design a persona."""
    from personas_nb.verbs.looking import card_of
    from personas_nb.views.notices import notice

    session = call.session()
    persona = session.apply(call["name"])
    if not session.applied_changes:
        same = notice(
            f"{persona.name} is so already: nothing changed.",
            f"%persona show {persona.slug}",
            status="unchanged",
        )
        return replace(same, value=persona)
    return noted(card_of(call, persona.id), " ".join(session.applied_changes))


def sessions(call: Call) -> View:
    """Design sessions."""
    from personas_nb.views.design import session_list

    return session_list([session.record for session in call.studio.sessions.list()], tz=call.tz)


def resume(call: Call) -> View:
    """Make a session the current one; one whose first design failed tries again."""
    session = call.find_session(call["id"])
    if session.state == "idle":
        session.retry()
    return _card(call, session)


def discard(call: Call) -> View:
    """Forget a session."""
    from personas_nb.views.notices import notice

    session = call.find_session(call["id"])
    call.studio.sessions.discard(session.id)
    call.desk.session_id = None
    return notice(f"The design session {session.id[:8]} is gone.", "%persona sessions", status="removed")


def _card(call: Call, session: DesignSession, *notes: str, changed: Sequence[str] = ()) -> View:
    from personas_nb.views.design import design_card, flow_markdown, question_card, session_list

    notes = (*notes, *call.filling.notes, session.error or "")
    result = session.result
    if result is None:
        if session.question is not None:
            return noted(replace(question_card(session.question, session.id), value=session), *notes)
        return noted(replace(session_list([session.record], tz=call.tz), value=session), *notes)
    card = design_card(
        result,
        state=session.state,
        session_id=session.id,
        tz=call.tz,
        next_fires=[_next_fires(trigger, call.tz) for trigger in result.suggested_triggers],
        rehearsal=session.is_rehearsal,
        question=session.question,
        changed=changed,
        applied_to=_applied_to(call, session),
    )
    flow = (flow_markdown(result.flow),) if result.flow.steps else ()
    return noted(replace(card, value=session, also=flow), *notes)


def _applied_to(call: Call, session: DesignSession) -> str:
    """The slug of the persona that the session was applied to; empty when it is gone or there is none."""
    with suppress(PersonaError):
        if session.state == "applied" and session.record.persona_id:
            return call.studio.personas.get(session.record.persona_id).slug
    return ""


def _next_fires(trigger: SuggestedTrigger, tz: str) -> list[datetime]:
    from personas_nb.entities.base import now
    from personas_nb.triggers.cron import next_fire

    fires: list[datetime] = []
    if trigger.trigger_type == "schedule":
        # A design may suggest what cannot be; its feasibility says so.
        with suppress(PersonaError):
            while len(fires) < FIRES_SHOWN:
                after = fires[-1] if fires else now()
                zone = str(trigger.config.get("timezone") or tz)
                fires.append(next_fire(str(trigger.config.get("cron", "")), after, zone))
    return fires


def _changes(before: DesignResult | None, after: DesignResult | None) -> list[str]:
    """The parts that differ, in words."""
    if before is None or after is None:
        return []
    old, new = dict(before.structured_prompt.sections()), dict(after.structured_prompt.sections())
    parts = [heading.lower() for heading in {**old, **new} if old.get(heading) != new.get(heading)]
    skipped = ("structured_prompt", "full_prompt_markdown", "feasibility", "flow", "design_highlights")
    moved = [name for name in type(after).model_fields if getattr(before, name) != getattr(after, name)]
    return parts + [
        name.removeprefix("suggested_").replace("_", " ") for name in moved if name not in skipped
    ]


def _how_to_switch(call: Call, session: DesignSession) -> tuple[str, ...]:
    """One line when nothing is configured; none when rehearsal was asked for."""
    if not session.is_rehearsal or call["provider"]:
        return ()
    from personas_nb.engine.models import resolve

    with suppress(PersonaError):
        return resolve(None, settings=call.studio.settings).notes
    return ()
