"""The history of a persona's prompt, and how each state of it did."""

from __future__ import annotations

import builtins
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING

from personas_nb.entities.persona import Persona
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.errors import InvalidInput, NotFound, did_you_mean
from personas_nb.personas.personas import Personas
from personas_nb.personas.prompt_diff import PromptDiff, SectionDiff, compare
from personas_nb.store.database import Store
from personas_nb.store.versions import VersionRows

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["PromptDiff", "SectionDiff", "VersionResult", "Versions"]

TAG_MAX_LENGTH = 64
CURRENT = ("current", "latest")
"""Names of the version that a persona has now."""
_TAGGED = "exists (select 1 from json_each(tags) t where lower(t.value) = lower(?))"


@dataclass(frozen=True)
class VersionResult:
    """What the ended runs of one version came to, those with a model or its rehearsals.

    ``cost_usd_mean`` is over the runs whose cost is known, None without any; ``duration_ms_p50`` is the median.
    """

    version: int
    rehearsal: bool
    runs: int
    completed: int
    incomplete: int
    failed: int
    cancelled: int
    cost_usd_mean: float | None
    unknown_costs: int
    duration_ms_p50: float | None
    last_at: datetime

    @property
    def decided(self) -> int:
        """The runs that say something of the version: all but those that a person cancelled."""
        return self.runs - self.cancelled

    @property
    def success_rate(self) -> float | None:
        """The share (0 to 1) of the runs that were completed, cancelled ones not counted; None without any."""
        return self.completed / self.decided if self.decided else None


class Versions:
    """The prompt versions of all personas; ``Personas`` writes one with every change of a prompt.

    A version is named by its number, by a tag of its own, or as “current”.
    """

    def __init__(self, store: Store, personas: Personas) -> None:
        self.store = store
        self.personas = personas
        self._rows = store.table("prompt_versions", PromptVersion)

    def list(self, persona: str | Persona) -> builtins.list[PromptVersion]:
        """All versions of a persona, the newest first."""
        owner = self.personas.get(persona)
        return self._rows.find("persona_id = ?", [owner.id], order_by="version desc")

    def get(self, persona: str | Persona, version: int | str) -> PromptVersion:
        """One version by its number or tag, or the “current” one. Raises ``NotFound``."""
        owner = self.personas.get(persona)
        named = str(version).strip().lower()
        if named in CURRENT or re.fullmatch("[0-9]+", named):
            # One more than there are stands for all that SQLite could not hold.
            number = owner.version if named in CURRENT else min(int(named[:9]), owner.version + 1)
            found = self._rows.find("persona_id = ? and version = ?", [owner.id, number], limit=1)
        else:
            found = self._rows.find(f"persona_id = ? and {_TAGGED}", [owner.id, named], limit=1)
        if not found:
            tags = [tag for row in self.list(owner) for tag in row.tags]
            known = f"It has 1 to {owner.version}" + (f", and the tags {', '.join(tags)}." if tags else ".")
            raise NotFound(
                f"{owner.name} has no version “{version}”.",
                hint=did_you_mean(str(version), tags, otherwise=known),
            )
        return found[0]

    def diff(
        self, persona: str | Persona, a: int | str | None = None, b: int | str | None = None
    ) -> PromptDiff:
        """What changed from version ``a`` to ``b``.

        ``b`` None is the current version, ``a`` None the one before ``b`` (the first is compared with itself).
        """
        owner = self.personas.get(persona)
        new = self.get(owner, owner.version if b is None else b)
        old = self.get(owner, max(new.version - 1, 1) if a is None else a)
        return compare(old, new, a=old.version, b=new.version)

    def rollback(self, persona: str | Persona, version: int | str) -> Persona:
        """Make an older prompt the current one, as a new version; when it is current already nothing changes."""
        owner = self.personas.get(persona)
        old = self.get(owner, version)
        difference = compare(owner, old, a=owner.version, b=old.version)
        return self.personas.update(
            owner,
            author="rollback",
            summary=f"rolled back to version {old.version}: {difference.summary}",
            system_prompt=old.system_prompt,
            structured_prompt=old.structured_prompt,
        )

    def tag(self, persona: str | Persona, version: int | str, tag: str | None) -> PromptVersion:
        """Name a version, for example “production”; a version may have several names.

        A tag, in any case, names one version of a persona: given to another it moves. None takes away the tag by
        which the version was named here, or all of them where it was named by its number. Raises ``InvalidInput``
        for a tag that could be taken for something else.
        """
        if tag is not None:
            _check_tag(tag)
        with self.store.write():
            chosen = self.get(persona, version)
            if tag is None:
                named = str(version).strip().lower()
                kept = tuple(one for one in chosen.tags if one.lower() != named)
                return self._tagged(chosen, kept if kept != chosen.tags else ())
            for other in self._rows.find(f"persona_id = ? and {_TAGGED}", [chosen.persona_id, tag]):
                if other.id != chosen.id:
                    self._tagged(other, tuple(one for one in other.tags if one.lower() != tag.lower()))
            others = tuple(one for one in chosen.tags if one.lower() != tag.lower())
            return chosen if tag in chosen.tags else self._tagged(chosen, (*others, tag))

    def results(self, persona: str | Persona) -> builtins.list[VersionResult]:
        """How the runs of each version ended, rehearsals apart, the newest version first.

        Versions without an ended run are absent, and so are runs that failed before they began.
        """
        rows = VersionRows(self.store).results(self.personas.get(persona).id)
        return [
            VersionResult(
                version=row["persona_version"],
                rehearsal=bool(row["rehearsal"]),
                **{name: row[name] for name in ("runs", "completed", "incomplete", "failed", "cancelled")},
                cost_usd_mean=row["cost_usd_mean"],
                unknown_costs=row["unknown_costs"],
                duration_ms_p50=median(durations) if (durations := json.loads(row["durations_ms"])) else None,
                last_at=datetime.fromisoformat(row["last_at"]),
            )
            for row in rows
        ]

    def frame(self, persona: str | Persona) -> DataFrame:
        """``results`` as a DataFrame with a row for each version and kind of run, and the ``success_rate``."""
        import pandas as pd

        found = self.results(persona)
        columns = ["version", "rehearsal", "runs", "success_rate", *VersionResult.__dataclass_fields__]
        columns = list(dict.fromkeys(columns))
        return pd.DataFrame(
            [{**asdict(result), "success_rate": result.success_rate} for result in found], columns=columns
        )

    def _tagged(self, version: PromptVersion, tags: tuple[str, ...]) -> PromptVersion:
        if tags != version.tags:
            self._rows.update(version.id, tags=tags)
        return version.changed(tags=tags)


def _check_tag(tag: object) -> None:
    """Raises ``InvalidInput`` for what is no word, is a number, or means something already."""
    is_word = isinstance(tag, str) and tag.split() == [tag] and len(tag) <= TAG_MAX_LENGTH
    if not is_word or str(tag).isdecimal():
        raise InvalidInput(
            "A tag is one word that is no number.", hint="Choose one such as production or before-audit."
        )
    if str(tag).lower() in (*CURRENT, "none"):
        raise InvalidInput(
            f"“{tag}” means something already.", hint="Choose one such as production or before-audit."
        )
