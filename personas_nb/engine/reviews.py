"""Decisions that personas asked of a person."""

from __future__ import annotations

import builtins
from typing import Literal

from personas_nb.entities.base import now
from personas_nb.entities.review import Review
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.store.database import Store

Verdict = Literal["approved", "rejected"]


class Reviews:
    """All reviews; each is decided once, and deciding it again repeats the verdict.

    studio.reviews.approve("latest", note="looks right")
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.table = store.table("reviews", Review)

    def list(
        self,
        status: str | None = "pending",
        *,
        persona_id: str | None = None,
        execution_id: str | None = None,
        limit: int = 50,
    ) -> builtins.list[Review]:
        """Reviews, newest first; ``status=None`` gives all of them."""
        where, values = ["1"], []
        given = (("status", status), ("persona_id", persona_id), ("execution_id", execution_id))
        for column, value in given:
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        return self.table.find(
            " and ".join(where), values, order_by="created_at desc, rowid desc", limit=limit
        )

    def get(self, reference: str) -> Review:
        """One review by id, unique prefix of it, or ``latest``."""
        if reference == "latest":
            found = self.table.find(order_by="created_at desc, rowid desc", limit=1)
        else:
            prefix = str(reference).strip().lower()
            found = self.table.find("id >= ? and id < ?", [prefix, prefix + "g"], limit=2) if prefix else []
        if not found:
            raise NotFound(f"There is no review “{reference}”.", hint="`%persona reviews` lists them.")
        if len(found) > 1:
            raise InvalidInput(
                f"“{reference}” begins the ids of several reviews.", hint="Type more of the id."
            )
        return found[0]

    def approve(self, reference: str, note: str | None = None) -> Review:
        """Approve; a review that was decided before keeps its verdict."""
        return self._decide(reference, "approved", note)

    def reject(self, reference: str, note: str | None = None) -> Review:
        """Reject; a review that was decided before keeps its verdict."""
        return self._decide(reference, "rejected", note)

    def _decide(self, reference: str, verdict: Verdict, note: str | None) -> Review:
        review_id = self.get(reference).id
        with self.store.write():
            review = self.get(review_id)
            if review.status != "pending":
                return review
            review = review.changed(status=verdict, note=note, decided_at=now())
            self.table.update(review.id, status=review.status, note=review.note, decided_at=review.decided_at)
        return review
