"""Budget rules, and what runs have reserved and spent of them.

- A run reserves what it might cost before its first request and settles when it ends; in between, and for ever
  where nobody can tell what it cost, the whole reservation counts as spent.
- A reservation belongs to the day on which it was made. It has no owner: what was spent stays spent when the run
  or the persona is gone.
- An unknown price is NULL, and counts as nothing: sums are lower bounds where there are such runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import new_id, now, rfc3339
from personas_nb.entities.budget import BudgetRule

if TYPE_CHECKING:
    from personas_nb.store.database import Store

_SCOPES: Mapping[str, str] = {
    "persona": "persona_id = :scope_id",
    "group": "group_id = :scope_id",
    "all": ":scope_id is null",
}


class BudgetTable:
    """The rows of ``budget_rules`` and ``budget_reservations``."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rules = store.table("budget_rules", BudgetRule)

    def has_rules(self) -> bool:
        """Whether there is any rule."""
        with self.store.read() as db:
            return bool(db.execute("select exists (select 1 from budget_rules)").fetchone()[0])

    def rules_for(self, persona_id: str, group_id: str | None) -> list[BudgetRule]:
        """The rules that a run of this persona falls under: those that block first, then the oldest."""
        return self.rules.find(
            "scope = 'all' or (scope = 'persona' and scope_id = ?) or (scope = 'group' and scope_id = ?)",
            [persona_id, group_id],
            order_by="action = 'block' desc, rowid",
        )

    def used_usd(self, rule: BudgetRule, day: date) -> float:
        """What was spent and is reserved in the rule's period that ``day`` lies in."""
        first, last = _span(rule.period, day)
        query = (
            "select total(coalesce(settled_usd, amount_usd)) from budget_reservations "
            f"where day between :first and :last and {_SCOPES[rule.scope]}"
        )
        with self.store.read() as db:
            row = db.execute(query, {"first": first, "last": last, "scope_id": rule.scope_id}).fetchone()
        return float(row[0])

    def reserve(
        self,
        db: sqlite3.Connection,
        execution_id: str,
        *,
        persona_id: str,
        group_id: str | None,
        day: date,
        amount_usd: float | None,
    ) -> None:
        """Write a run's reservation; one that it has already stays as it is."""
        values: list[Any] = [new_id(), execution_id, persona_id, group_id, day.isoformat(), rfc3339(now())]
        db.execute(
            "insert into budget_reservations"
            " (id, execution_id, persona_id, group_id, day, created_at, amount_usd)"
            " values (?, ?, ?, ?, ?, ?, ?) on conflict (execution_id) do nothing",
            [*values, amount_usd],
        )

    def has_reserved(self, db: sqlite3.Connection, execution_id: str) -> bool:
        """Whether the run has a reservation, open or settled."""
        found = db.execute("select 1 from budget_reservations where execution_id = ?", [execution_id])
        return found.fetchone() is not None

    def settle(self, db: sqlite3.Connection, execution_id: str, cost_usd: float | None) -> None:
        """Put what a run cost in the place of what it reserved, once; None, nobody can tell: all of it."""
        db.execute(
            "update budget_reservations set settled_usd = coalesce(?, amount_usd), settled_at = ? "
            "where execution_id = ? and settled_at is null",
            [cost_usd, rfc3339(now()), execution_id],
        )


def _span(period: str, day: date) -> tuple[str, str]:
    """The first and the last day of the period, as text; the 31st is behind every other day of its month."""
    if period == "day":
        return day.isoformat(), day.isoformat()
    return f"{day:%Y-%m}-01", f"{day:%Y-%m}-31"
