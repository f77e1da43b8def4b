"""Verbs about triggers: what starts personas by itself, and who fires it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import now
from personas_nb.entities.trigger import UNCHANGED
from personas_nb.errors import InvalidInput, NotFound, PersonaError
from personas_nb.verbs.call import Call
from personas_nb.verbs.timing import wanted
from personas_nb.verbs.usage import WrongUsage
from personas_nb.views import triggers as views
from personas_nb.views.marks import one_line, short_id
from personas_nb.views.notices import notice
from personas_nb.views.view import View

if TYPE_CHECKING:
    from personas_nb.entities.execution import Execution
    from personas_nb.entities.persona import Persona
    from personas_nb.entities.trigger import Fire, Trigger
    from personas_nb.views.page import Step

SAME = "unchanged"


def listed(call: Call) -> View:
    """What starts personas, and who fires it."""
    triggers = call.studio.triggers
    persona = call.studio.personas.get(call["name"]) if call["name"] else None
    found = triggers.list(persona)
    last: dict[str, Fire] = {}
    for fire in triggers.fires(limit=500) if found else []:
        if fire.reason != UNCHANGED:
            last.setdefault(fire.trigger_id, fire)
    return views.trigger_list(
        found,
        personas_of(call),
        last=last,
        runs=runs_of(call, last.values()),
        status=triggers.status() if found else None,
        name=persona.slug if persona else "",
        tz=call.tz,
    )


def show(call: Call) -> View:
    """One trigger with what became of its last due times."""
    return _card(call, _trigger(call))


def add(call: Call) -> View:
    """Let something start a persona; words that name several times make several triggers."""
    persona = call.studio.personas.get(call["name"])
    asked = wanted(call["type"], call["config"])
    before = {trigger.id for trigger in call.studio.triggers.list(persona)}
    cards = []
    for one in asked:
        trigger = call.studio.triggers.add(
            persona,
            one.trigger_type,
            one.config,
            description=call["description"] or "",
            enabled=not call["off"],
            allow_bypass=call["allow_bypass"],
        )
        said, status = "It is there already: nothing changed.", SAME
        if trigger.id in before:
            said = f"{said}{_not_done(call, trigger)}"
        else:
            said, status = "Added." if trigger.enabled else "Added, switched off.", "added"
        note = one.note
        if one.trigger_type != call["type"]:
            note = f"{note} No cron can hold this, so that it is counted from now on (polling).".strip()
        cards.append(_card(call, trigger, said=said, said_status=status, note=note))
    return cards[0] if len(cards) == 1 else replace(cards[0], also=tuple(cards[1:]))


def _not_done(call: Call, trigger: Trigger) -> str:
    """What was asked for besides, and is another verb's where the trigger is there already."""
    identity = short_id(trigger.id)
    steps = {
        f"`%persona triggers disable {identity}` switches it off": call["off"] and trigger.enabled,
        f"`%persona triggers enable {identity} --allow-bypass` allows it": (
            call["allow_bypass"] and not trigger.allow_bypass
        ),
    }
    return "".join(f" {step}." for step, is_asked in steps.items() if is_asked)


def edit(call: Call) -> View:
    """Change when or how it fires."""
    triggers = call.studio.triggers
    before = _trigger(call)
    asked = wanted(before.trigger_type, call["config"], before.config.get("timezone"))
    if len(asked) > 1:
        raise InvalidInput(
            f"That names {len(asked)} times, and a trigger has one.",
            hint="Add another trigger for the others.",
        )
    if asked[0].trigger_type != before.trigger_type:
        raise InvalidInput(
            f"No cron can hold “{call['config'][:60]}”.",
            hint=f"Add a poller: `%persona triggers add {_owner(call, before)} polling {call['config'][:60]}`.",
        )
    after = triggers.edit(before.id, asked[0].config)
    is_same = (before.config, before.trigger_type) == (after.config, after.trigger_type)
    said = "It is so already: nothing changed." if is_same else "Changed."
    return _card(call, after, said=said, said_status=SAME if is_same else "completed", note=asked[0].note)


def enable(call: Call) -> View:
    """Switch it on."""
    before = _trigger(call)
    after = call.studio.triggers.enable(before.id, allow_bypass=True if call["allow_bypass"] else None)
    is_same = (before.enabled, before.allow_bypass) == (
        after.enabled,
        after.allow_bypass,
    ) and not after.secret
    said = "It is on already: nothing changed." if is_same else "It is on."
    return _card(call, after, said=said, said_status=SAME if is_same else "completed")


def disable(call: Call) -> View:
    """Switch it off."""
    before = _trigger(call)
    after = call.studio.triggers.disable(before.id)
    said = "It is off." if before.enabled else "It is off already: nothing changed."
    return _card(call, after, said=said, said_status="completed" if before.enabled else SAME)


def remove(call: Call) -> View:
    """Forget it."""
    trigger = _trigger(call)
    words = one_line(views.trigger_words(trigger.trigger_type, trigger.config), 120)
    call.studio.triggers.remove(trigger.id)
    return notice(f"The trigger of {_owner(call, trigger)}, {words}, is gone.", status="removed")


def pause(call: Call) -> View:
    """Let nothing fire."""
    was_paused = call.studio.triggers.is_paused
    call.studio.triggers.pause_all(call["reason"] or "")
    return status(call, said="They were paused already." if was_paused else "")


def resume(call: Call) -> View:
    """Let triggers fire again."""
    was_paused = call.studio.triggers.is_paused
    call.studio.triggers.resume_all()
    said = "Triggers fire again. What was due meanwhile is recorded as skipped, and stays so."
    return status(call, said=said if was_paused else "They were not paused: nothing changed.")


def fire(call: Call) -> View:
    """Fire it now."""
    from personas_nb.views.fires import fire_card

    trigger = _trigger(call)
    fired = call.studio.triggers.fire(trigger.id, call.input())
    if fired.execution_id and not call.surface.is_kernel:  # a command that ended now would end its run
        call.studio.executions.handle(fired.execution_id).wait()
    persona = personas_of(call).get(trigger.persona_id)
    return fire_card(
        fired, persona=persona, run=runs_of(call, [fired]).get(fired.execution_id or ""), tz=call.tz
    )


def start(call: Call) -> View:
    """Fire triggers from this process."""
    if not call.surface.is_kernel:
        raise WrongUsage(
            "This command would end at once, and nothing would fire.",
            hint="Type `personas triggers run`: it goes on until you end it.",
        )
    before = call.studio.triggers.status()
    call.studio.triggers.start()
    said = "They fire from here already: nothing changed." if before.is_here else ""
    return status(call, said=said)


def stop(call: Call) -> View:
    """Fire triggers from this process no longer."""
    before = call.studio.triggers.status()
    call.studio.triggers.stop()
    said = (
        "Nothing fires from here any more." if before.is_here else "Nothing fired from here: nothing changed."
    )
    return status(call, said=said)


def status(call: Call, said: str = "") -> View:
    """Who fires triggers, what is next, what was late."""
    from personas_nb.views.loop import status_card

    late = _late_or_skipped(call)
    return status_card(
        call.studio.triggers.status(),
        by_trigger(call),
        late=late,
        runs=runs_of(call, late),
        said=said,
        tz=call.tz,
    )


def history(call: Call) -> View:
    """What became of due times."""
    from personas_nb.views.fires import fire_list

    triggers, limit = call.studio.triggers, call["limit"]
    trigger = _trigger(call, "trigger") if call["trigger"] else None
    found = [
        fired
        for fired in triggers.fires(trigger.id if trigger else None, status=call["status"], limit=limit * 20)
        if call["all"] or fired.reason != UNCHANGED
    ]
    more: Step | None = None
    if len(found) > limit:
        words = " ".join(["history", *([short_id(trigger.id)] if trigger else []), f"--limit {limit * 4}"])
        more = (f"%persona triggers {words}", "earlier ones too")
    shown = found[:limit]
    return fire_list(
        shown,
        personas=by_trigger(call),
        runs=runs_of(call, shown),
        title=f"Fires of {_owner(call, trigger)} ({short_id(trigger.id)})" if trigger else "Fires",
        more=more,
        is_paused=triggers.is_paused,
        tz=call.tz,
    )


# ── the secret of a webhook ─────────────────────────────────────────────────────────────────────────────────


def secret(call: Call) -> Any:
    """The secret of a webhook: in a terminal as text, else in a file that only its owner can read."""
    from personas_nb.triggers.webhooks import secret_of

    trigger = _trigger(call)
    identity = short_id(trigger.id)
    if trigger.trigger_type != "webhook":
        raise InvalidInput(
            f"The {trigger.trigger_type} trigger {identity} has no secret.", hint="Only webhooks have."
        )
    if call["file"] is None and _is_saved(call):
        raise WrongUsage(
            "A notebook would save the secret with its outputs.",
            hint=f"Type `personas triggers secret {identity}` in a terminal, or add --file PATH here.",
        )
    value = secret_of(call.studio.credentials, trigger)
    if value is None:
        raise NotFound(
            f"The webhook {identity} has no secret yet.",
            hint=f"`%persona triggers enable {identity}` makes one.",
        )
    if call["file"] is None:
        return value
    path = Path(call["file"]).expanduser()
    _write_secret(path, value)
    return notice(
        f"The secret is in {path}, which only you can read.", "Delete the file when it is where it belongs."
    )


def _write_secret(path: Path, value: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(f"{path} exists.", hint="Name a new file: none is replaced.") from None
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {error.strerror}.", hint="Name another file."
        ) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(value + "\n")


def _is_saved(call: Call) -> bool:
    """Whether what is shown may be saved with a notebook: in a kernel, and in a command that a kernel runs (“!”)."""
    return not call.surface.is_plain or "JPY_PARENT_PID" in os.environ


def _told_once(call: Call, trigger: Trigger) -> str:
    """The secret of a webhook that was made just now, in a terminal."""
    return trigger.secret.get_secret_value() if trigger.secret is not None and not _is_saved(call) else ""


def _address(trigger: Trigger) -> str:
    """Where a webhook is called: on the server of this kernel where it can be told, else its path."""
    if trigger.trigger_type != "webhook":
        return ""
    from personas_nb.triggers.webhooks import path_of

    path = path_of(trigger)
    return f"{_server() or 'https://YOUR-JUPYTER/'}{path}"


def _server() -> str:
    """The address of the Jupyter server that started this process; empty where none did, or it cannot be told."""
    with suppress(Exception):  # other servers' files may be of any version
        from jupyter_server.serverapp import list_running_servers

        parents = {os.getppid(), int(os.environ.get("JPY_PARENT_PID", 0))}
        return next((str(one["url"]) for one in list_running_servers() if one["pid"] in parents), "")
    return ""


# ── what belongs to it ──────────────────────────────────────────────────────────────────────────────────────


def personas_of(call: Call) -> dict[str, Persona]:
    """Every persona by its id."""
    return {persona.id: persona for persona in call.studio.personas.list(include_archived=True)}


def by_trigger(call: Call) -> dict[str, Persona]:
    """The personas by the ids of their triggers."""
    personas = personas_of(call)
    return {
        trigger.id: personas[trigger.persona_id]
        for trigger in call.studio.triggers.list()
        if trigger.persona_id in personas
    }


def runs_of(call: Call, fires: Iterable[Fire]) -> dict[str, Execution]:
    """The runs that fires started, by their ids; those that retention removed are missing."""
    found = {}
    for fired in fires:
        if fired.execution_id:
            with suppress(NotFound):
                found[fired.execution_id] = call.studio.executions.get(fired.execution_id)
    return found


def next_times(call: Call, trigger: Trigger, count: int = 3) -> list[datetime]:
    """The next due times; of one that is off those that it would have."""
    from personas_nb.triggers.planning import next_due

    found: list[datetime] = []
    would_be = trigger.changed(enabled=True)
    when: datetime | None = now()
    if trigger.next_trigger_at and trigger.enabled:
        found, when = [trigger.next_trigger_at], trigger.next_trigger_at
    with suppress(PersonaError):  # a config that nobody can plan; its words say so
        while (
            len(found) < count
            and when is not None
            and (when := next_due(would_be, when, call.tz)) is not None
        ):
            found.append(when)
    return found


def _card(call: Call, trigger: Trigger, **said: Any) -> View:
    studio = call.studio
    fires = [fired for fired in studio.triggers.fires(trigger.id, limit=100) if fired.reason != UNCHANGED][:5]
    return views.trigger_card(
        trigger,
        persona=personas_of(call).get(trigger.persona_id),
        next_due=next_times(call, trigger),
        fires=fires,
        runs=runs_of(call, fires),
        status=studio.triggers.status(),
        address=_address(trigger),
        secret=_told_once(call, trigger),
        secret_hint=() if _is_saved(call) else views.secret_steps(trigger, "shows it again"),
        tz=call.tz,
        **said,
    )


def _trigger(call: Call, argument: str = "id") -> Trigger:
    """The trigger that is meant: by its id, the beginning of it, or ``latest``, the one that was made last."""
    if call[argument] == "latest":
        known = call.studio.triggers.list()
        if not known:
            raise NotFound(
                "There is no trigger yet.",
                hint="Add one: `%persona triggers add NAME schedule every weekday at 9`.",
            )
        return known[-1]
    return call.studio.triggers.get(call[argument])


def _owner(call: Call, trigger: Trigger) -> str:
    persona = personas_of(call).get(trigger.persona_id)
    return persona.slug if persona else "NAME"


def _late_or_skipped(call: Call) -> Sequence[Fire]:
    from personas_nb.triggers.polling import FIRST_LOOK
    from personas_nb.views.fires import LATE_MS

    return [
        fired
        for fired in call.studio.triggers.fires(limit=200)
        if (fired.status == "skipped" and fired.reason not in (UNCHANGED, FIRST_LOOK))
        or (fired.late_ms or 0) >= LATE_MS
    ][:5]
