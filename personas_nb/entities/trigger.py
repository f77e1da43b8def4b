"""What starts a persona by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, SecretStr

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

TriggerType = Literal["manual", "schedule", "polling", "webhook"]


class Trigger(Entity):
    """A rule that starts a persona; ``config`` holds cron and timezone, interval_seconds, … by type.

    ``next_trigger_at`` is its next due time, None while it has none (off, manual, webhook) or nobody planned it yet.
    ``state`` holds from when on a poller counts (``anchor``) and what it saw last. With ``allow_bypass`` a person
    agreed that it may start a persona whose permissions are ``bypass``. ``secret`` is there once, when a webhook
    was given one; it is not stored with the row.
    """

    id: str = Field(default_factory=new_id)
    persona_id: str
    trigger_type: TriggerType
    config: dict[str, Any] = Field(default_factory=dict)
    description: str = ""
    enabled: bool = True
    allow_bypass: bool = False
    origin: Literal["user", "design", "import"] = "user"
    state: dict[str, Any] = Field(default_factory=dict)
    last_triggered_at: UtcDatetime | None = None
    next_trigger_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)
    updated_at: UtcDatetime = Field(default_factory=now)
    secret: SecretStr | None = Field(default=None, exclude=True, repr=False)


FireStatus = Literal["queued", "skipped", "checking"]
UNCHANGED = "unchanged"  # the reason of most fires of a poller that looks at an address


class Fire(Entity):
    """What became of one due time of a trigger: an execution, or a skip with its reason.

    ``key`` makes it one of a kind among those of its trigger: the due time, or a webhook's delivery id. ``count``
    is more than 1 where the skips from ``due_at`` to ``until_at`` share a row. ``late_ms`` is how long after
    ``due_at`` it was decided. ``checking``: a poller looks, and will say.
    """

    id: str = Field(default_factory=new_id)
    trigger_id: str
    key: str = Field(min_length=1, max_length=200)
    kind: TriggerType
    due_at: UtcDatetime
    until_at: UtcDatetime | None = None
    count: int = Field(default=1, ge=1)
    status: FireStatus
    reason: str | None = None
    execution_id: str | None = None
    late_ms: int | None = None
    worker_id: str | None = None
    decided_at: UtcDatetime | None = None
    created_at: UtcDatetime = Field(default_factory=now)


class NextDue(Entity):
    """Which trigger is due when; ``persona`` is the name of the persona that it starts."""

    trigger_id: str
    persona: str
    description: str = ""
    due_at: UtcDatetime


class TriggerStatus(Entity):
    """Who fires triggers, what is next, and how punctual it was.

    ``is_running``: some process does. ``is_here``: this one; ``stands_by``: it would if the other ended. ``kind`` is
    kernel, server, headless or python. ``late`` counts the fires of the last day that were decided more than a second
    after they were due, ``skipped`` its due times that started nothing; ``worst_late_ms`` is None where none was late.
    ``unplannable`` maps enabled triggers that are never due to the reason.
    """

    is_running: bool = False
    is_here: bool = False
    stands_by: bool = False
    kind: str | None = None
    host: str | None = None
    pid: int | None = None
    since: UtcDatetime | None = None
    is_paused: bool = False
    pause_reason: str = ""
    paused_at: UtcDatetime | None = None
    enabled_count: int = 0
    next_due: tuple[NextDue, ...] = ()
    fired: int = 0
    late: int = 0
    worst_late_ms: int | None = None
    skipped: int = 0
    pending_events: int = 0
    dead_letters: int = 0
    unplannable: dict[str, str] = Field(default_factory=dict)
    at: UtcDatetime = Field(default_factory=now)

    @property
    def next_due_at(self) -> datetime | None:
        """When something is due next."""
        return self.next_due[0].due_at if self.next_due else None
