"""Triggers in words, and their list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from personas_nb.views import marks

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
