"""What personas ask of a person and tell them: reviews and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personas_nb.entities.message import Message
from personas_nb.entities.review import Review
from personas_nb.views import marks
from personas_nb.views.executions import decide, review_block
from personas_nb.views.marks import Cell, Code, Short, one_line, plural, short_id
from personas_nb.views.page import REHEARSED, Page, Step, listing
from personas_nb.views.view import View


def review_list(
    reviews: Sequence[Review], *, names: Mapping[str, str] | None = None, tz: str = "UTC"
) -> View:
    """Decisions, open ones with the verbs that decide them; ``names`` are the personas' by id."""
    names = names or {}
    pending = [review for review in reviews if review.status == "pending"]
    rows: list[list[Cell]] = [
        [
            Code(short_id(review.id)),
            _sign(review),
            one_line(names.get(review.persona_id, ""), 30),
            review.severity,
            one_line(review.title, 60),
            one_line(review.description.partition("\n```")[0], 110),
            one_line(review.note or "", 60),
            Short(marks.moment(review.created_at, tz)),
        ]
        for review in reviews
    ]
    steps: list[Step] = decide(pending[0]) if pending else []
    headers = ["id", "", "persona", "severity", "decision", "", "note", f"asked ({tz})"]
    return listing(
        "Reviews",
        headers,
        rows,
        detail=f"{plural(len(pending), 'decision')} open" if reviews else "",
        empty="Nothing waits for you.",
        steps=steps,
        value=list(reviews),
    )


def review_card(
    review: Review,
    *,
    persona_name: str = "",
    repeated: bool = False,
    waits: bool = False,
    said: str = "",
    tz: str = "UTC",
) -> View:
    """One decision, after it was made or before.

    ``repeated`` when it had been made already, ``waits`` when the run that asked waits for it; ``said`` is what
    becomes of that run.
    """
    page = Page(persona_name or "Review", sign=marks.mark(review.status), rehearsal=review.rehearsal)
    if review.rehearsal:
        page.sentence(REHEARSED, faint=True)
    review_block(page, review, tz=tz)
    if review.status != "pending":
        again = "It had been decided before; the verdict stays." if repeated else ""
        page.facts(
            [
                ("decided", f"{marks.moment(review.decided_at, tz)} {tz}"),
                ("note", one_line(review.note or "", 300)),
            ]
        )
        page.sentence(again)
        page.sentence(said)
    if review.execution_id and review.status != "pending":
        run = short_id(review.execution_id)
        wait = (f"%persona runs wait {run}", "what the run does with it")
        page.next([wait if waits else (f"%persona runs show {run}", "the run that asked")])
    return page.view(review)


def open_reviews(
    reviews: Sequence[Review], *, said: Mapping[str, str] | None = None, tz: str = "UTC"
) -> View:
    """Decisions in full, open or just made; ``said`` is more of one, by its id."""
    waiting = sum(review.status == "pending" for review in reviews)
    page = Page("Reviews", detail=f"{plural(waiting, 'decision')} open" if reviews else "")
    runs: list[str] = []
    for review in reviews:
        review_block(page, review, tz=tz)
        page.facts([("note", one_line(review.note or "", 300))])
        page.sentence((said or {}).get(review.id, ""))
        if review.status != "pending" and review.execution_id and review.execution_id not in runs:
            runs.append(review.execution_id)
    if not reviews:
        page.sentence("Nothing waits for you.")
    page.next([(f"%persona runs wait {short_id(run)}", "what the run does with it") for run in runs])
    return page.view(list(reviews))


def _sign(review: Review) -> marks.Mark:
    sign = marks.mark(review.status)
    return sign._replace(word=f"{sign.word} · REHEARSAL") if review.rehearsal else sign


def message_list(
    messages: Sequence[Message], *, names: Mapping[str, str] | None = None, tz: str = "UTC"
) -> View:
    """What personas told the user, each in full; new ones are marked."""
    unread = sum(message.read_at is None for message in messages)
    page = Page("Messages", detail=f"{plural(len(messages), 'message')}, {unread:,} new" if messages else "")
    for message in messages:
        parts = [
            "new" if message.read_at is None else "",
            "REHEARSAL" if message.rehearsal else "",
            (names or {}).get(message.persona_id, ""),
            message.content_type,
            message.priority if message.priority != "normal" else "",
            f"{marks.moment(message.created_at, tz)} {tz}",
        ]
        page.heading(one_line(message.title or "Message"), " · ".join(part for part in parts if part))
        page.prose(message.content, open_chars=600)
    if not messages:
        page.sentence("No persona has told you anything yet.")
    return page.view(list(messages))
