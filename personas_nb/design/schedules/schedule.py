"""What the grammar finds: one trigger that a text asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TriggerType = Literal["schedule", "polling", "webhook", "event"]


@dataclass(frozen=True)
class Schedule:
    """One trigger that a text asks for, and the ``span`` of the text (start, end) that asks for it.

    ``config`` is ``{"cron", "timezone"}`` (without a ``timezone`` if none is known), ``{"interval_seconds"}``,
    ``{}`` for a webhook, or ``{"event_type", "source_filter"}`` (None: any source). ``note`` says what was assumed and
    what the trigger cannot do. ``asked`` are the words that no trigger can hold, if there are any; ``instead`` are
    words that one can.
    """

    trigger_type: TriggerType
    config: dict[str, Any]
    description: str
    span: tuple[int, int]
    text: str
    note: str = ""
    asked: str = ""
    instead: str = ""
