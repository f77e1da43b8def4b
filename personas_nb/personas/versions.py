"""The history of a persona's prompt."""

from __future__ import annotations

import builtins

from personas_nb.entities.persona import Persona
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.errors import InvalidInput, NotFound, did_you_mean
from personas_nb.personas.personas import Personas
from personas_nb.personas.prompt_diff import PromptDiff, SectionDiff, compare
from personas_nb.store.database import Store

__all__ = ["PromptDiff", "SectionDiff", "Versions"]

TAG_MAX_LENGTH = 64


class Versions:
    """The prompt versions of all personas; ``Personas`` writes one with every change of a prompt.

    A version is named by its number or by its tag.
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
        """One version by its number or tag. Raises ``NotFound``."""
        owner = self.personas.get(persona)
        column = "version" if str(version).isdecimal() else "tag"
        # One more than there are stands for all that SQLite could not hold.
        value = min(int(version), owner.version + 1) if column == "version" else str(version)
        found = self._rows.find(f"persona_id = ? and {column} = ?", [owner.id, value], limit=1)
        if not found:
            tags = [row.tag for row in self.list(owner) if row.tag]
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
        old = self.get(persona, version)
        return self.personas.update(
            persona,
            author="rollback",
            summary=f"rolled back to version {old.version}",
            system_prompt=old.system_prompt,
            structured_prompt=old.structured_prompt,
        )

    def tag(self, persona: str | Persona, version: int | str, tag: str | None) -> PromptVersion:
        """Name a version, for example “production”; None takes its name away.

        A tag names one version of a persona: given to another it moves. A version has one tag. Raises
        ``InvalidInput`` for a tag that is a number or has spaces.
        """
        if tag is not None and (
            not tag
            or not isinstance(tag, str)
            or tag.isdecimal()
            or tag.split() != [tag]
            or len(tag) > TAG_MAX_LENGTH
        ):
            raise InvalidInput(
                "A tag is one word that is no number.", hint="Choose one such as production or before-audit."
            )
        with self.store.write():
            chosen = self.get(persona, version)
            if chosen.tag == tag:
                return chosen
            if tag is not None:
                for other in self._rows.find("persona_id = ? and tag = ?", [chosen.persona_id, tag]):
                    self._rows.update(other.id, tag=None)
            self._rows.update(chosen.id, tag=tag)
        return chosen.changed(tag=tag)
