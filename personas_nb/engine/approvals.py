"""How a run that waits for a person's decision goes on: who takes it, and what its decisions say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from personas_nb.engine.agents.job import Decision
from personas_nb.entities.review import Review
from personas_nb.store.approvals import ApprovalTable
from personas_nb.store.database import Store
from personas_nb.worker import is_alive, is_stalled


def successor(store: Store, execution_id: str, deciding: str | None) -> str | None:
    """The worker that a waiting run goes on in: the one that began it while it lives, else the deciding one.

    Only the first has the functions of its notebook. None: whichever looks first.
    """
    found = ApprovalTable(store).waiting(execution_id)
    if found is not None:
        worker_id, lock_path = found
        if worker_id and lock_path and is_alive(Path(lock_path)) and not is_stalled(store, worker_id):
            return worker_id
    return deciding


def expire_overdue(store: Store) -> None:
    """Close the approvals that nobody decided in time, and let their runs go on without."""
    table = ApprovalTable(store)
    for review in table.overdue():
        run = review.execution_id or ""
        worker_id = successor(store, run, None)
        with store.write() as db:
            if table.expire(db, review.id):
                table.go_on(db, run, worker_id)


def decisions(reviews: Sequence[Review], persona_version: int) -> tuple[Decision, ...]:
    """What a person decided about the calls that a run waits for, as it concerns the persona of now."""
    return tuple(_decision(review, persona_version) for review in reviews)


def _decision(review: Review, persona_version: int) -> Decision:
    is_approved, reason = review.status == "approved", ""
    note = f" Their note: {review.note}" if review.note else ""
    if review.status == "expired":
        reason = f"{review.tool} was not called: nobody approved it in time. Go on without it, and say so."
    elif not is_approved:
        reason = f"{review.tool} was not called: a person rejected it.{note}"
    elif review.persona_version != persona_version:
        is_approved = False
        reason = (
            f"{review.tool} was not called: it was approved for version {review.persona_version} of this persona, "
            f"which is version {persona_version} now. Go on without it, and say so."
        )
    return Decision(
        call_id=review.call_id or "",
        tool=review.tool or "",
        arguments_hash=review.arguments_hash or "",
        is_approved=is_approved,
        reason=reason,
    )
