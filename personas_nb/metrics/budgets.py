"""Limits of a day and of a month: which there are, what is used of them, and whether a run may begin.

Two runs that ask at once, in whatever processes, are answered one after the other: what is used is summed and the
reservation written in one transaction, so that a rule is never promised twice.
"""

from __future__ import annotations

import builtins
import math
import sqlite3
from collections.abc import Callable
from datetime import date, datetime
from functools import cached_property
from zoneinfo import ZoneInfo

from personas_nb.entities.base import made, now
from personas_nb.entities.budget import Action, BudgetRule, Period, Scope
from personas_nb.entities.execution import FINISHED
from personas_nb.entities.persona import Persona
from personas_nb.errors import (
    BudgetExceeded,
    Conflict,
    InvalidInput,
    NotFound,
    SettingsError,
    did_you_mean,
)
from personas_nb.personas.personas import Personas
from personas_nb.personas.reference import by_id
from personas_nb.settings import Settings
from personas_nb.store.budgets import BudgetTable
from personas_nb.store.database import Store

# Ten reservations of a tenth are one dollar, whatever binary fractions make of them.
ROUNDING_USD = 1e-9
_CHOICES = {
    "scope": ("persona", "group", "all"),
    "period": ("day", "month"),
    "action": ("alert", "block"),
}


class Budgets:
    """The budget rules of a home; without any, only the limit of each execution counts.

    A run reserves what it might cost before its first request; in the end it has used what it did cost. That
    belongs to the day, in the settings' time zone, on which it was reserved, and stays used when the run or the
    persona is deleted. A run of unknown price is refused under a rule that blocks, else it counts as nothing.

        rule = studio.budgets.add("persona", 2.50, name="Invoice watcher")
        studio.budgets.used(rule), studio.budgets.left(rule)
    """

    def __init__(
        self,
        store: Store,
        personas: Personas,
        settings: Settings,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._table = BudgetTable(store)
        self._store, self._personas, self._settings, self._clock = store, personas, settings, clock

    def add(
        self,
        scope: Scope,
        limit_usd: float,
        *,
        period: Period = "day",
        action: Action = "block",
        name: str | Persona | None = None,
    ) -> BudgetRule:
        """A rule for what a persona, a group or ``all`` may spend in a ``day`` or ``month``.

        ``block`` refuses a run that might go over the limit, ``alert`` puts a warning on it. ``name`` says which
        persona or group. The same rule again is the rule that there is. Raises ``InvalidInput``, ``NotFound``.
        """
        _check_words(scope=scope, period=period, action=action)
        self._settings.zone()  # raises where it cannot be told which day it is
        fields = {
            "scope": scope,
            "scope_id": self._scope_id(scope, name),
            "period": period,
            "action": action,
            "limit_usd": limit_usd,
        }
        rule = made(BudgetRule, fields)
        with self._store.write():
            same = self._table.rules.find(
                "scope = ? and scope_id is ? and period = ? and action = ? and limit_usd = ?",
                [rule.scope, rule.scope_id, rule.period, rule.action, rule.limit_usd],
                limit=1,
            )
            return same[0] if same else self._table.rules.insert(rule)

    def list(self) -> list[BudgetRule]:
        """All rules, the oldest first."""
        return self._table.rules.find()

    def get(self, ref: str) -> BudgetRule:
        """The rule of that id, or of a unique beginning of it. Raises ``NotFound``."""
        found = by_id(self._table.rules, ref, lambda rule: f"{rule.id[:8]} ({self.describe(rule)})")
        if found is None:
            raise NotFound(
                f"There is no budget rule “{ref}”.", hint="`studio.budgets.list()` shows them with their ids."
            )
        return found

    def remove(self, ref: str) -> None:
        """Lift a rule; what was spent stays counted for the others. Raises ``NotFound``."""
        with self._store.write():
            self._table.rules.delete("id = ?", [self.get(ref).id])

    def used(self, rule: BudgetRule) -> float:
        """US dollars spent and reserved in the present period; a lower bound where a run's price is unknown."""
        return self._table.used_usd(rule, self._today())

    def left(self, rule: BudgetRule) -> float:
        """US dollars of the limit that nobody has used or reserved in the present period; at least 0."""
        return max(0.0, rule.limit_usd - self.used(rule))

    def describe(self, rule: BudgetRule) -> str:
        """The rule in words, such as “5.00 USD a day for Invoice watcher”."""
        return f"{_usd(rule.limit_usd)} a {rule.period} for {self._whom(rule)}"

    def has_rules(self) -> bool:
        """Whether any rule is in force; one short look at the store."""
        return self._table.has_rules()

    def reserve(self, execution_id: str, persona: Persona, amount_usd: float | None) -> builtins.list[str]:
        """Set aside what an open run might cost, and return the warnings of rules that only alert.

        One short transaction that blocks; again for the same run it changes nothing. ``amount_usd`` None is an
        unknown price; 0 (a rehearsal) needs no reservation. Raises ``BudgetExceeded`` where a rule blocks, and
        ``Conflict`` where the run has ended meanwhile; nothing is reserved then.
        """
        amount_usd = _countable(amount_usd)
        if amount_usd == 0:
            return []
        with self._store.write() as db:
            if self._table.has_reserved(db, execution_id):
                return []
            _check_is_open(db, execution_id)
            today = self._today()
            warnings = self._checked(persona, amount_usd, today)
            self._write(db, execution_id, persona, amount_usd, today)
        return warnings

    def reservation(
        self, execution_id: str, persona: Persona, amount_usd: float | None
    ) -> Callable[[sqlite3.Connection], None]:
        """A change that only writes the reservation, for a batch of a run that no rule has to allow.

        A rule that is added later counts what is open already.
        """
        today, amount_usd = self._today(), _countable(amount_usd)

        def change(db: sqlite3.Connection) -> None:
            if amount_usd != 0:
                self._write(db, execution_id, persona, amount_usd, today)

        return change

    def _write(
        self,
        db: sqlite3.Connection,
        execution_id: str,
        persona: Persona,
        amount_usd: float | None,
        day: date,
    ) -> None:
        self._table.reserve(
            db,
            execution_id,
            persona_id=persona.id,
            group_id=persona.group_id,
            day=day,
            amount_usd=amount_usd,
        )

    def _checked(self, persona: Persona, amount_usd: float | None, today: date) -> builtins.list[str]:
        warnings = []
        for rule in self._table.rules_for(persona.id, persona.group_id):
            used = self._table.used_usd(rule, today)
            if amount_usd is not None and used + amount_usd <= rule.limit_usd + ROUNDING_USD:
                continue
            if rule.action == "block":
                raise self._exceeded(rule, used, amount_usd)
            warnings.append(self._warning(rule, used, amount_usd))
        return warnings

    def _exceeded(self, rule: BudgetRule, used: float, amount_usd: float | None) -> BudgetExceeded:
        lift = f'lift the rule with `studio.budgets.remove("{rule.id[:8]}")`'
        if amount_usd is None:
            return BudgetExceeded(
                f"The budget of {self.describe(rule)} allows no run whose price is unknown.",
                hint=f"Choose a model whose price is known, or {lift}.",
            )
        later = f"ait for the next {rule.period}, or {lift}."
        return BudgetExceeded(
            f"The budget of {self.describe(rule)} does not allow this run: {_usd(used)} are used or reserved, "
            f"and it might cost {_usd(amount_usd)}.",
            hint=f"W{later}"
            if used >= rule.limit_usd - ROUNDING_USD
            else f"Lower what it might cost with --max-budget-usd, w{later}",
        )

    def _warning(self, rule: BudgetRule, used: float, amount_usd: float | None) -> str:
        if amount_usd is None:
            return f"The budget of {self.describe(rule)} does not count this run: its price is unknown."
        if used >= rule.limit_usd - ROUNDING_USD:
            return f"The budget of {self.describe(rule)} is used up: {_usd(used)} are used or reserved."
        return (
            f"The budget of {self.describe(rule)} might be exceeded: {_usd(used)} are used or reserved, "
            f"and this run might cost {_usd(amount_usd)}."
        )

    def _scope_id(self, scope: Scope, name: str | Persona | None) -> str | None:
        if scope == "all":
            if name is not None:
                raise InvalidInput(
                    f"A rule for all does not name {getattr(name, 'name', name)}.",
                    hint='Leave the name out, or give scope="persona" or "group".',
                )
            return None
        if name is None:
            raise InvalidInput(f"A rule for a {scope} needs its name.", hint=f'Add name="a {scope}".')
        if scope == "persona":
            return self._personas.get(name).id
        return self._personas.groups.get(name if isinstance(name, str) else name.name).id

    def _whom(self, rule: BudgetRule) -> str:
        if rule.scope_id is None:
            return "all personas"
        try:
            if rule.scope == "persona":
                return self._personas.get(rule.scope_id).name
            return f"the group {self._personas.groups.get(rule.scope_id).name}"
        except NotFound:
            return f"a {rule.scope} that is gone"

    def _today(self) -> date:
        return self._clock().astimezone(self._zone).date()

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self._settings.zone())
        except SettingsError:  # said when a rule is added; a run without rules must not fail of it
            return ZoneInfo("UTC")


def _check_words(**words: object) -> None:
    for name, word in words.items():
        choices = _CHOICES[name]
        if word not in choices:
            raise InvalidInput(
                f"“{word}” is no {name} of a budget rule.",
                hint=did_you_mean(str(word), choices, otherwise=f"It may be {' or '.join(choices)}."),
            )


def _check_is_open(db: sqlite3.Connection, execution_id: str) -> None:
    """A run that was cancelled meanwhile, or found dead, would never settle."""
    row = db.execute("select status from executions where id = ?", [execution_id]).fetchone()
    if row is None or row["status"] in FINISHED:
        raise Conflict(f"The run {execution_id[:8]} has ended; nothing was reserved for it.")


def _countable(amount_usd: float | None) -> float | None:
    """The amount, or None for what no sum can be made of."""
    return max(0.0, amount_usd) if amount_usd is not None and math.isfinite(amount_usd) else None


def _usd(amount: float) -> str:
    """An amount for a sentence; below a dollar with the fractions of a cent that small runs cost.

    >>> _usd(12), _usd(0.5), _usd(0.0042)
    ('12.00 USD', '0.50 USD', '0.0042 USD')
    """
    return (
        f"{amount:,.2f} USD" if amount >= 1 or round(amount, 2) == round(amount, 4) else f"{amount:.4f} USD"
    )
