"""Verbs that design: a sentence becomes a design, the design a persona."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.errors import Conflict, PersonaError
from personas_nb.verbs.call import Call, noted
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.design.costs import DesignCost
    from personas_nb.design.sessions import DesignSession
    from personas_nb.entities.design import DesignResult, SuggestedTrigger

BUSY = ("analyzing", "refining", "applying")
FIRES_SHOWN = 3
QUIET_MS = 700  # a step that is faster is shown by what comes of it
TICK_SECONDS = 0.12


def design(call: Call) -> View:
    """Design a persona from a sentence."""
    opening = call.studio.sessions.aopen(
        call.text("instruction", "instruction"),
        name=call["name"],
        provider=call["provider"],
        context=[_source(call, word) for word in call["context"]],
    )
    session = _followed(call, opening, "Designing")
    call.desk.session_id = session.id
    return _card(call, session, *_how_to_switch(call, session))


def answer(call: Call) -> View:
    """Answer the question of the design."""
    text = call.text("text", "answer")
    session = _current(call)
    before = session.result
    session = _followed(call, session.aanswer(text), "Designing")
    return _changed(call, session, before, "answered")


def refine(call: Call) -> View:
    """Change the design in words."""
    text = call.text("text", "wish")
    session = _current(call)
    before = session.result
    session = _followed(call, session.arefine(text), f"Changing {before.name if before else ''}".strip())
    return _changed(call, session, before, "refined")


def undo(call: Call) -> View:
    """Take back the last answer or refinement."""
    session = _current(call)
    before = session.result
    return _changed(call, session.undo(), before, "taken back")


def take(call: Call) -> View:
    """Let the design have what you changed by hand."""
    session = _current(call)
    before = session.result
    return _changed(call, session.take(*call["part"]), before, "taken from the design")


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

    session = _current(call)
    persona = session.apply(call["name"])
    call.desk.seen[session.id] = session.record.revision
    kept = _kept_words(session)
    if not session.applied_changes:
        said = f"{persona.name} is so already: nothing changed."
        same = notice(" ".join((said, *kept)), f"%persona show {persona.slug}", status="unchanged")
        return replace(same, value=persona)
    return noted(card_of(call, persona.id), " ".join(session.applied_changes), *kept)


def sessions(call: Call) -> View:
    """Design sessions."""
    from personas_nb.views.design import session_list

    return session_list([session.record for session in call.studio.sessions.list()], tz=call.tz)


def resume(call: Call) -> View:
    """Make a session the current one; one whose first design failed tries again."""
    session = call.find_session(call["id"])
    if session.state in BUSY:
        return show(call)
    if session.state == "idle":
        session = _followed(call, session.aretry(), "Designing")
    return _card(call, session)


def show(call: Call) -> View:
    """A session from its beginning: what was said, what came of it, what it looked at."""
    from personas_nb.views.sessions import history

    session = call.find_session(call["id"])
    call.desk.seen[session.id] = session.record.revision
    return history(session, session.context, session.events, tz=call.tz)


def discard(call: Call) -> View:
    """Forget a session."""
    from personas_nb.views.notices import notice

    session = call.find_session(call["id"])
    call.studio.sessions.discard(session.id)
    call.desk.session_id = None
    call.desk.seen.pop(session.id, None)
    return notice(f"The design session {session.id[:8]} is gone.", "%persona sessions", status="removed")


def _current(call: Call) -> DesignSession:
    """The session that is meant, if it is as it was last shown here; another kernel may have changed it since."""
    session = call.session()
    seen = call.desk.seen.get(session.id)
    record = session.record
    if seen not in (None, record.revision) and record.worker_id != call.studio.worker.id:
        said = f" (“{record.turns[-1].text[:80]}”)" if record.turns else ""
        raise Conflict(
            f"This design session was changed by another notebook or kernel since you saw it{said}.",
            hint=f"Look at it as it is now, then say again what you want: `%persona sessions resume {session.id[:8]}`.",
        )
    return session


def _source(call: Call, word: str) -> Any:
    """A word of ``--context``: a DataFrame of the notebook by its name, else a path or a web address."""
    name = word.strip("{}")
    if name.isidentifier() and not Path(word).exists():
        with suppress(KeyError):
            value = call.filling.value(name)
            if type(value).__name__ == "DataFrame":
                return name, value
    return word


def _followed(
    call: Call,
    step: Coroutine[Any, Any, DesignSession],
    title: str,
) -> DesignSession:
    """Wait for a step; one that takes a while is shown as it goes on. An interrupt ends it."""
    from personas_nb.views.sessions import DesignStream

    following, stream, live = call.studio.sessions.follow(step), DesignStream(title), None
    started = time.monotonic()
    try:
        for batch in following.batches(TICK_SECONDS):
            for event in batch:
                stream.add(event)
            elapsed_ms = round((time.monotonic() - started) * 1000)
            if elapsed_ms > QUIET_MS:
                live = live or call.surface.live()
                live.show(partial(stream.view, elapsed_ms))
        result = following.result()
    except BaseException as error:
        following.cancel()
        was_stopped = isinstance(error, KeyboardInterrupt)
        if live is not None:
            passed_ms = round((time.monotonic() - started) * 1000)
            ended = ("cancelled", "stopped") if was_stopped else ("failed", "see below")
            live.end(stream.view(passed_ms, status=ended[0], said=ended[1]))
        raise
    if live is not None:
        passed_ms = round((time.monotonic() - started) * 1000)
        live.end(stream.view(passed_ms, status="completed", said=_price(result)))
    return result


def _price(session: DesignSession) -> str:
    from personas_nb.views import marks

    cost = session.record.turns[-1].cost_usd if session.record.turns else None
    return marks.money(cost, rehearsal=session.is_rehearsal)


def _changed(call: Call, session: DesignSession, before: DesignResult | None, heading: str) -> View:
    """What a step changed; the whole card where there was no design before it, or a question is asked."""
    from personas_nb.views.sessions import change_card

    if before is None or session.result is None or session.question is not None:
        return _card(call, session)
    call.desk.seen[session.id] = session.record.revision
    card = change_card(
        session, before, heading=heading, tz=call.tz, next_fires=lambda trigger: _next_fires(trigger, call.tz)
    )
    return noted(card, *call.filling.notes, session.error or "")


def _kept_words(session: DesignSession) -> list[str]:
    """What stays a person's, in a sentence, and how to let the design have it."""
    kept = [each.label for each in session.conflicts]
    if not kept:
        return []
    return [
        f"Kept as you wrote it: {', '.join(kept)}. `%persona take {session.conflicts[0].part}` and "
        "`%persona apply` let the design have it."
    ]


def _card(call: Call, session: DesignSession, *notes: str) -> View:
    from personas_nb.views.design import design_card, flow_markdown, question_card, session_list
    from personas_nb.views.sessions import context_card, kept_card

    call.desk.seen[session.id] = session.record.revision
    items = session.context
    looked = (context_card(items, rehearsal=session.is_rehearsal),) if items else ()
    notes = (*notes, *call.filling.notes, session.error or "")
    result = session.result
    if result is None:
        if session.question is not None:
            asked = replace(question_card(session.question, session.id), value=session, also=looked)
            return noted(asked, *notes)
        return noted(replace(session_list([session.record], tz=call.tz), value=session), *notes)
    card = design_card(
        result,
        state=session.state,
        session_id=session.id,
        tz=call.tz,
        next_fires=[_next_fires(trigger, call.tz) for trigger in result.suggested_triggers],
        rehearsal=session.is_rehearsal,
        question=session.question,
        applied_to=_applied_to(call, session),
        tools=call.studio.tools.list(),
        credentials={each.connector for each in call.studio.credentials.list()},
        cost=_cost_of(call, session),
    )
    flow = (flow_markdown(result.flow),) if result.flow.steps else ()
    mine = (kept_card(session.kept),) if session.kept else ()
    return noted(replace(card, value=session, also=(*mine, *looked, *flow)), *notes)


def _cost_of(call: Call, session: DesignSession) -> DesignCost | None:
    """What runs of the design may cost, with the model that would run it."""
    from personas_nb.design.costs import estimated

    if session.result is None:
        return None
    provider = None if session.is_rehearsal else session.record.provider
    tools = call.studio.tools.list()
    return estimated(session.result, tools=tools, settings=call.studio.settings, provider=provider)


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


def _how_to_switch(call: Call, session: DesignSession) -> tuple[str, ...]:
    """One line when nothing is configured; none when rehearsal was asked for."""
    if not session.is_rehearsal or call["provider"]:
        return ()
    from personas_nb.engine.models import resolve

    with suppress(PersonaError):
        return resolve(None, settings=call.studio.settings).notes
    return ()
