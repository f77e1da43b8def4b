"""Evals: their cases, runs and results, and the designs that worked."""

from __future__ import annotations

from collections.abc import Sequence

from personas_nb.entities.eval import EvalCase, EvalResult, EvalRun, EvalSubject
from personas_nb.entities.pattern import PersonaDesignPattern
from personas_nb.store.database import Store
from personas_nb.store.table import Table

# What belongs to a persona: its own, and what its design sessions brought before it was one.
_OF = "(owner_id = ?1 or owner_id in (select id from design_sessions where persona_id = ?1))"


STAND_INS = "evals"
"""The project of the personas that designs are tested as while they are none."""


def forget_discarded(store: Store) -> None:
    """Delete cases of design sessions that were discarded, and what those were tested as, with its evals."""
    with store.write() as db:
        db.execute(
            "delete from personas where project_id = ? "
            "and slug not in (select 'eval-' || substr(id, 1, 8) from design_sessions)",
            [STAND_INS],
        )
        db.execute(
            "delete from eval_cases where owner_id not in (select id from personas) "
            "and owner_id not in (select id from design_sessions)"
        )


class EvalCaseTable(Table[EvalCase]):
    """The rows of ``eval_cases``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "eval_cases", EvalCase)

    def of(self, owner_id: str, also: str | None = None) -> list[EvalCase]:
        """The cases of a persona or a session, by name; ``also`` is the session of a design of that persona."""
        values = [owner_id, also or owner_id]
        return self.find(f"({_OF} or owner_id = ?2)", values, order_by="name, created_at")


class EvalRunTable(Table[EvalRun]):
    """The rows of ``eval_runs``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "eval_runs", EvalRun)

    def of(self, owner_id: str, *, limit: int = -1) -> list[EvalRun]:
        """The evals of a persona or a session, the newest first."""
        return self.find(_OF, [owner_id], order_by="created_at desc, rowid desc", limit=limit)

    def subject(self, eval_run_id: str) -> EvalSubject | None:
        """What an eval tests; None where it is gone."""
        found = self.get(eval_run_id)
        return found.subject if found else None

    def left_behind(self) -> list[tuple[str, str]]:
        """Id and lock path of the worker of every eval that was not ended."""
        with self.store.read() as db:
            rows = db.execute(
                "select e.id, w.lock_path from eval_runs e join workers w on w.id = e.worker_id "
                "where e.status = 'running'"
            ).fetchall()
        return [(row["id"], row["lock_path"]) for row in rows]


class EvalResultTable(Table[EvalResult]):
    """The rows of ``eval_results``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "eval_results", EvalResult)

    def of(self, eval_run_id: str) -> list[EvalResult]:
        """The results of one eval, by case, then attempt."""
        return self.find("eval_run_id = ?", [eval_run_id], order_by="case_name, attempt, rowid")


class PatternTable(Table[PersonaDesignPattern]):
    """The rows of ``design_patterns``, found by words."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "design_patterns", PersonaDesignPattern)

    def search(self, words: Sequence[str], limit: int = 10) -> list[tuple[PersonaDesignPattern, float]]:
        """Patterns that have any of the words, best first, with their rank (higher is better)."""
        return super().search(words, limit=limit)

    def keep(self, pattern: PersonaDesignPattern) -> PersonaDesignPattern:
        """Write a pattern, or what is newer about that of the same owner."""
        with self.store.write():
            found = self.find("owner_id = ?", [pattern.owner_id], limit=1)
            if not found:
                return self.insert(pattern)
            kept = pattern.changed(id=found[0].id, created_at=found[0].created_at)
            names = [name for name in type(kept).model_fields if name not in ("id", "owner_id", "created_at")]
            self.update(kept.id, **{name: getattr(kept, name) for name in names})
            return kept
