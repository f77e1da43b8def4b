"""What may be spent in a day or a month, and by whom."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now

Scope = Literal["persona", "group", "all"]
Period = Literal["day", "month"]
Action = Literal["alert", "block"]


class BudgetRule(Entity):
    """A limit on what a persona, a group or all together spend in a calendar day or month.

    ``block`` refuses the run that might go over it, ``alert`` warns on it. ``scope_id`` is the id of the persona
    or group, None for all. Days and months are those of the settings' time zone.
    """

    id: str = Field(default_factory=new_id)
    scope: Scope
    scope_id: str | None = None
    limit_usd: float = Field(ge=0, allow_inf_nan=False)
    period: Period = "day"
    action: Action = "block"
    created_at: UtcDatetime = Field(default_factory=now)

    @model_validator(mode="after")
    def _names_whom(self) -> Self:
        if (self.scope == "all") != (self.scope_id is None):
            raise ValueError("A rule for all names nobody, and any other one names a persona or group")
        return self
