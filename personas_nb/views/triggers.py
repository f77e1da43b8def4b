"""Triggers in words, their list, and one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona
from personas_nb.entities.trigger import Fire, Trigger, TriggerStatus
from personas_nb.views import marks
from personas_nb.views.fires import LATE_MS, fire_rows, fire_sign, remedies, when_words
from personas_nb.views.loop import loop_line, loop_steps
from personas_nb.views.marks import Cell, Code, Mark, Short, one_line, plural, short_id
from personas_nb.views.page import Page, Step
from personas_nb.views.view import View

WEBHOOK_SERVED = (
    "Requests are taken and run by the Jupyter server while it runs; no notebook needs to be open."
)
CATCH_UP = {
    "once": "one run for all that was missed",
    "skip": "what was missed is skipped",
    "all": "each missed time runs, at most 100",
}
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def trigger_words(trigger_type: str, config: Mapping[str, Any]) -> str:
    """When a trigger fires, as a phrase; what cannot be read is shown as it is.

    >>> trigger_words("polling", {"interval_seconds": 2700})
    'every 45 minutes'
    """
    if trigger_type == "schedule":
        return _schedule_words(str(config.get("cron", "")), config.get("timezone"))
    if trigger_type == "polling":
        url = config.get("url")
        return _interval_words(config.get("interval_seconds")) + (f", when {url} has changed" if url else "")
    if trigger_type == "webhook":
        return "when a signed request arrives"
    return "when you run it"


def fires_words(fires: Sequence[datetime], tz: str) -> str:
    """The next times, with their weekdays and zone."""
    times = ", ".join(marks.moment(fire, tz, weekday=True) for fire in fires[:3])
    return f"{times} ({tz})" if times else ""


def _schedule_words(cron: str, timezone: object) -> str:
    from personas_nb.errors import InvalidInput
    from personas_nb.triggers.cron import in_words

    try:
        return in_words(cron, str(timezone) if timezone else None)
    except InvalidInput:  # a design or an import may propose what no clock knows; feasibility says so
        return f"cron “{cron}”, which cannot be read"


def _interval_words(seconds: object) -> str:
    if not isinstance(seconds, int) or seconds <= 0:
        return "again and again, at no interval yet"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    count = seconds // size
    return f"every {unit}" if count == 1 else f"every {count:,} {unit}s"


def trigger_list(
    triggers: Sequence[Trigger],
    personas: Mapping[str, Persona],
    *,
    last: Mapping[str, Fire] | None = None,
    runs: Mapping[str, Execution] | None = None,
    status: TriggerStatus | None = None,
    name: str = "",
    tz: str = "UTC",
) -> View:
    """Triggers with when they are due, and who fires them; ``last`` is the newest fire of each by its id."""
    on = sum(trigger.enabled for trigger in triggers)
    off = len(triggers) - on
    detail = " · ".join(
        part for part in (plural(len(triggers), "trigger"), f"{off:,} off" if off else "") if part
    )
    page = Page(f"Triggers of {name}" if name else "Triggers", detail=detail if triggers else "")
    if not triggers:
        page.sentence("Nothing starts it by itself." if name else "Nothing starts a persona by itself yet.")
        page.next([(f"%persona triggers add {name or 'NAME'} schedule every weekday at 9", "a schedule, in words"),
                   (f"%persona triggers add {name or 'NAME'} polling every 15 minutes url=https://…",
                    "when a page has changed")])  # fmt: skip
        return page.view([])
    page.table(
        ("id", "", "persona", "fires", f"next ({tz})", "last", "what to do"),
        [_row(one, personas.get(one.persona_id), (last or {}).get(one.id), runs or {}, status, tz) for one in triggers],
    )  # fmt: skip
    if status is not None:
        loop_line(page, status, tz)
    steps: list[Step] = [
        *_loop_steps(status, on),
        ("%persona triggers history", "what became of each due time"),
    ]
    steps.append(
        (f"%persona triggers show {short_id(triggers[0].id)}", "one of them, with its next due times")
    )
    return page.next(steps).view(list(triggers))


def trigger_card(
    trigger: Trigger,
    *,
    persona: Persona | None = None,
    next_due: Sequence[datetime] = (),
    fires: Sequence[Fire] = (),
    runs: Mapping[str, Execution] | None = None,
    status: TriggerStatus | None = None,
    said: str = "",
    said_status: str = "completed",
    note: str = "",
    address: str = "",
    secret: str = "",
    secret_hint: Sequence[Step] = (),
    tz: str = "UTC",
) -> View:
    """One trigger: when it fires, in words and times, how it is set, what became of its last due times.

    ``said`` is what just happened to it; ``note`` what was assumed. ``address`` is where a webhook is called, and
    ``secret_hint`` how to get at its secret; the ``secret`` itself is for a terminal only, which saves nothing.
    """
    zone = _zone_of(trigger, tz)
    page = Page(
        persona.name if persona else "Trigger",
        sign=sign_of(trigger, persona, status),
        detail=f"{trigger.trigger_type} trigger {short_id(trigger.id)}",
        bypass=persona is not None and persona.permissions == "bypass",
    )
    page.sentence(said, status=said_status)
    page.sentence(note, status="warning" if note else "")
    due = [marks.moment(when, zone, weekday=True) + _seconds(when, zone) for when in next_due[:3]]
    page.facts(
        [
            ("fires", one_line(trigger_words(trigger.trigger_type, trigger.config), 160)),
            (f"next ({zone})" if trigger.enabled else f"would be due ({zone})", ", ".join(due)),
            ("address", Code(address) if address else None),
            ("secret", Code(secret) if secret else None),
            ("description", one_line(trigger.description, 200)),
            *_config_facts(trigger),
            ("starts “bypass”", "yes, you allowed it" if trigger.allow_bypass else None),
        ]
    )
    if trigger.trigger_type == "webhook":
        page.next(secret_hint or secret_steps(trigger), heading="Its secret")
    if fires:
        rows = [[row[0], *row[3:]] for row in fire_rows(fires[:5], runs=runs, tz=tz)]
        page.table((f"due ({tz})", "", "run", "what became of it", "late"), rows, heading="Last due times")
    if trigger.enabled and trigger.trigger_type == "webhook":
        page.sentence(WEBHOOK_SERVED, faint=True)
    elif status is not None and _needs_loop(trigger):
        loop_line(page, status, tz)
    return page.next(_card_steps(trigger, persona, fires, status)).view(trigger)


def secret_steps(
    trigger: Trigger, where: str = "in a terminal: shows it (a notebook would save it)"
) -> list[Step]:
    """How to get at the secret of a webhook, which no view shows."""
    identity = short_id(trigger.id)
    return [
        (f"personas triggers secret {identity}", where),
        (f"%persona triggers secret {identity} --file PATH", "into a new file that only you can read"),
    ]


def trigger_block(
    page: Page, triggers: Sequence[Trigger], persona: Persona, status: TriggerStatus | None, tz: str = "UTC"
) -> None:
    """The triggers of a persona on its card, and where nothing fires them, what helps."""
    if not triggers:
        return
    rows: list[list[Cell]] = []
    for trigger in triggers:
        step = _remedy(trigger, None)
        rows.append(
            [
                Code(short_id(trigger.id)),
                sign_of(trigger, None, status),
                one_line(trigger_words(trigger.trigger_type, trigger.config), 90),
                _next_cell(trigger, status, tz),
                Code(step[0]) if step else "",
            ]
        )
    page.table(("trigger", "", "fires", f"next ({tz})", "what to do"), rows, heading="Triggers")
    if status is not None and persona.enabled and any(_needs_loop(trigger) for trigger in triggers):
        loop_line(page, status, tz)
        page.next(loop_steps(status), heading="")


def _needs_loop(trigger: Trigger) -> bool:
    return trigger.enabled and trigger.trigger_type in ("schedule", "polling")


def sign_of(trigger: Trigger, persona: Persona | None = None, status: TriggerStatus | None = None) -> Mark:
    """Whether a trigger can start its persona, and what stands in its way."""
    if not trigger.enabled:
        return marks.mark("off")
    if persona is not None and (persona.archived_at or not persona.enabled):
        return marks.mark("off")._replace(
            word="on, but its persona is " + ("archived" if persona.archived_at else "off")
        )
    if persona is not None and persona.permissions == "bypass" and not trigger.allow_bypass:
        return Mark("?", "on, but nobody allowed “bypass”", marks.PLUM)
    if status is not None and status.is_paused and trigger.trigger_type != "manual":
        return marks.mark("off")._replace(word="paused")
    return marks.mark("on")


def _row(
    trigger: Trigger,
    persona: Persona | None,
    fire: Fire | None,
    runs: Mapping[str, Execution],
    status: TriggerStatus | None,
    tz: str,
) -> list[Cell]:
    step = _remedy(trigger, persona)
    last: Cell = ""
    if fire is not None:
        sign = fire_sign(fire, runs.get(fire.execution_id or ""))
        last = sign._replace(word=f"{sign.word}, {marks.moment(fire.decided_at or fire.due_at, tz)}")
    return [
        Code(short_id(trigger.id)),
        sign_of(trigger, persona, status),
        Code(persona.slug if persona else short_id(trigger.persona_id)),
        one_line(trigger_words(trigger.trigger_type, trigger.config), 90),
        _next_cell(trigger, status, tz),
        last,
        Code(step[0]) if step else "",
    ]


def _next_cell(trigger: Trigger, status: TriggerStatus | None, tz: str) -> Cell:
    """When it is due next; one that should have been decided already is overdue."""
    due = trigger.next_trigger_at if trigger.enabled else None
    if due is not None and status is not None and status.at - due > timedelta(milliseconds=LATE_MS):
        return Mark("▲", f"{when_words(due, tz)}, overdue", marks.AMBER)
    return Short(when_words(due, tz))


def _remedy(trigger: Trigger, persona: Persona | None) -> tuple[str, str] | None:
    """What lets a trigger start its persona that cannot now."""
    identity = short_id(trigger.id)
    if not trigger.enabled:
        return (f"%persona triggers enable {identity}", "switch it on")
    if persona is not None and (persona.archived_at or not persona.enabled):
        return (f"%persona enable {persona.slug}", "let its persona run again")
    if persona is not None and persona.permissions == "bypass" and not trigger.allow_bypass:
        return (
            f"%persona triggers enable {identity} --allow-bypass",
            "let it start a persona that may do everything",
        )
    return None


def _card_steps(
    trigger: Trigger, persona: Persona | None, fires: Sequence[Fire], status: TriggerStatus | None
) -> list[Step]:
    identity = short_id(trigger.id)
    steps: list[Step] = []
    if step := _remedy(trigger, persona):
        steps.append(step)
    elif _needs_loop(trigger):
        steps += _loop_steps(status, 1)
    is_paused = status is None or status.is_paused
    steps += remedies(fires[:1], {trigger.id: persona} if persona else {}, is_paused=is_paused)
    steps.append((f"%persona triggers fire {identity}", "now, once"))
    if trigger.enabled:
        steps.append((f"%persona triggers disable {identity}", "switch it off"))
    return steps


def _loop_steps(status: TriggerStatus | None, on: int) -> list[Step]:
    if status is None or not on:
        return []
    return loop_steps(status)


def _config_facts(trigger: Trigger) -> list[tuple[str, Cell | None]]:
    config = trigger.config
    said = {"cron", "timezone", "interval_seconds", "url", "credential_id", "secret"}
    return [
        ("cron", Code(str(config["cron"])) if config.get("cron") else None),
        ("time zone", one_line(config.get("timezone") or "", 60)),
        ("after a pause", CATCH_UP.get(str(config.get("catch_up", "")))),
        *((one_line(key, 30), one_line(value, 120)) for key, value in config.items() if key not in {*said, "catch_up"}),
    ]  # fmt: skip


def _zone_of(trigger: Trigger, tz: str) -> str:
    """The zone in which its times are told: its own, where there is such a zone."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(str(trigger.config.get("timezone") or tz)).key
    except (KeyError, OSError, ValueError):  # of an import; feasibility says so
        return tz


def _seconds(when: datetime, tz: str) -> str:
    return marks.instant(when, tz)[-3:] if when.second else ""
