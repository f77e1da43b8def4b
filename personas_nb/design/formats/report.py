"""What became of a file that was imported: a draft, and one entry for every part of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from personas_nb.entities.design import DesignResult
from personas_nb.errors import InvalidInput

if TYPE_CHECKING:
    from personas_nb.design.sessions import DesignSession
    from personas_nb.entities.persona import Persona

Outcome = Literal["mapped", "absorbed", "needs_human", "dropped"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class ImportEntry:
    """What became of one part of the file, and why.

    ``source`` names the part as its author would (“Schedule Trigger”, “tools: Bash”). ``mapped``: the persona has
    the same; ``absorbed``: it lives on inside something else, such as the instructions; ``needs_human``: a person
    must do or decide something, which ``reason`` says; ``dropped``: it is gone, and ``reason`` says why.
    Never a secret, nor a part of one.
    """

    source: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class ImportReport:
    """A file, read: the ``draft`` that ``apply`` makes a persona of, and what became of every part.

    ``format`` is n8n, desktop, subagent, json, notebook or persona_md; ``source`` is the file or address.

    >>> from personas_nb.entities.structured_prompt import StructuredPrompt
    >>> draft = DesignResult(structured_prompt=StructuredPrompt(identity="You watch invoices."))
    >>> ImportReport("n8n", "Invoices", draft, (ImportEntry("Cron", "mapped"),)).counts["mapped"]
    1
    """

    format: str
    name: str
    draft: DesignResult
    entries: tuple[ImportEntry, ...] = ()
    source: str = ""
    _adopt: Callable[[ImportReport], DesignSession] | None = field(default=None, repr=False, compare=False)
    _opened: list[DesignSession] = field(default_factory=list, repr=False, compare=False)

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many entries ended each way; all four are there."""
        counted = Counter(entry.outcome for entry in self.entries)
        return {outcome: counted[outcome] for outcome in OUTCOMES}

    def of(self, outcome: Outcome) -> tuple[ImportEntry, ...]:
        """The entries that ended this way, in the order of the file."""
        return tuple(entry for entry in self.entries if entry.outcome == outcome)

    def bound(self, adopt: Callable[[ImportReport], DesignSession]) -> ImportReport:
        """The same report with a studio behind it, whose ``adopt`` stores the draft as a design session."""
        return replace(self, _adopt=adopt, _opened=[])

    @property
    def session(self) -> DesignSession:
        """The design session that holds the draft, stored at the first use: refine, apply or discard it."""
        if not self._opened:
            if self._adopt is None:
                raise InvalidInput(
                    "This report belongs to no studio.",
                    hint="Read the file with studio.importers.read(path).",
                )
            self._opened.append(self._adopt(self))
        return self._opened[0]

    def apply(self, name: str | None = None) -> Persona:
        """Make the draft a persona, or the next revision of the one of that name; importing it again changes nothing.

        Its triggers are off until a person enables them. Raises ``DesignError`` when the draft is blocked.
        """
        return self.session.apply(name)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data: format, name, source, counts, entries."""
        entries = [{"source": e.source, "outcome": e.outcome, "reason": e.reason} for e in self.entries]
        return {
            "format": self.format,
            "name": self.name,
            "source": self.source,
            "counts": dict(self.counts),
            "entries": entries,
        }
