"""Triggers in words, and their list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from personas_nb.entities.trigger import Trigger
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Code, Short, one_line, short_id
from personas_nb.views.page import Step, listing
from personas_nb.views.view import View

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


def trigger_list(
    triggers: Sequence[Trigger],
    *,
    names: Mapping[str, str] | None = None,
    tz: str = "UTC",
    is_running: bool = True,
) -> View:
    """Triggers as a table: whose, when, the next time; ``names`` are the personas' by id."""
    rows: list[list[Cell]] = [
        [
            Code(short_id(trigger.id)),
            one_line((names or {}).get(trigger.persona_id, short_id(trigger.persona_id)), 40),
            marks.mark("on" if trigger.enabled else "off"),
            one_line(trigger_words(trigger.trigger_type, trigger.config), 90),
            Code(str(trigger.config.get("cron", ""))),
            Short(marks.moment(trigger.last_triggered_at, tz)),
            Short(marks.moment(trigger.next_trigger_at, tz) if trigger.enabled else "–"),
        ]
        for trigger in triggers
    ]
    steps: list[Step] = [('%persona triggers add NAME schedule cron="0 9 * * 1-5"', "start it by itself")]
    if rows and not is_running:
        steps = [("%persona triggers start", "nothing fires until the loop runs")]
    return listing(
        "Triggers",
        ["id", "persona", "", "fires", "cron", f"last ({tz})", f"next ({tz})"],
        rows,
        empty="No persona starts by itself yet.",
        steps=steps if not rows or not is_running else (),
        value=list(triggers),
    )  # fmt: skip


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
