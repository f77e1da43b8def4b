"""Decisions that personas asked of a person."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from personas_nb.engine.approvals import successor
from personas_nb.entities.base import now
from personas_nb.entities.review import Review
from personas_nb.errors import InvalidInput, NotFound
from personas_nb.store.approvals import EXPIRED_NOTE, ApprovalTable
from personas_nb.store.database import Store

if TYPE_CHECKING:
    from personas_nb.engine.dispatch import Dispatcher

Verdict = Literal["approved", "rejected"]


class Reviews:
    """All reviews; each is decided once, and deciding it again repeats the verdict.

    A run that waits to call a tool goes on once all its approvals are decided: in the process that began it while
    that lives, else in this one. Without a ``dispatcher``, in whichever looks first.

        studio.reviews.approve("latest", note="looks right")
    """

    def __init__(self, store: Store, dispatcher: Callable[[], Dispatcher] | None = None) -> None:
        self.store = store
        self.table = store.table("reviews", Review)
        self._approvals = ApprovalTable(store)
        self._dispatcher = dispatcher

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
        if not found and reference == "latest":
            raise NotFound("There is no review yet.", hint="A run asks for one when you are to decide.")
        if not found:
            raise NotFound(f"There is no review “{reference}”.", hint="`%persona reviews` lists them.")
        if len(found) > 1:
            raise InvalidInput(
                f"“{reference}” begins the ids of several reviews.", hint="Type more of the id."
            )
        return found[0]

    def approve(self, reference: str, note: str | None = None) -> Review:
        """Approve; a review that was decided before, or has expired, keeps its verdict."""
        return self._decide(reference, "approved", note)

    def reject(self, reference: str, note: str | None = None) -> Review:
        """Reject; a review that was decided before, or has expired, keeps its verdict. A model reads the note."""
        return self._decide(reference, "rejected", note)

    def _decide(self, reference: str, verdict: Verdict, note: str | None) -> Review:
        review = self.get(reference)
        if review.kind == "approval" and review.status == "pending":
            return self._decide_call(review, verdict, note)
        with self.store.write():
            review = self.get(review.id)
            if review.status != "pending":
                return review
            return self._written(review, verdict, note)

    def _decide_call(self, review: Review, verdict: Verdict, note: str | None) -> Review:
        """Decide on a call of a tool; the last decision lets its run go on."""
        execution_id = review.execution_id or ""
        dispatcher = self._dispatcher() if self._dispatcher else None
        deciding = dispatcher.worker.id if dispatcher else None
        worker_id = successor(self.store, execution_id, deciding)
        with self.store.write() as db:
            review = self.get(review.id)
            if review.status != "pending":
                return review
            if review.expires_at is not None and review.expires_at <= now():
                review = self._written(review, "expired", EXPIRED_NOTE)
            else:
                review = self._written(review, verdict, note)
            goes_on = self._approvals.go_on(db, execution_id, worker_id)
        if goes_on and dispatcher is not None and worker_id == deciding:
            dispatcher.goes_on(execution_id)
        return review

    def _written(
        self, review: Review, status: Literal["approved", "rejected", "expired"], note: str | None
    ) -> Review:
        review = review.changed(status=status, note=note, decided_at=now())
        self.table.update(review.id, status=review.status, note=review.note, decided_at=review.decided_at)
        return review
