"""What personas ask of a person and tell them: reviews, messages, and the channels that those take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from personas_nb.entities.message import Message, MessageDelivery
from personas_nb.entities.review import Review
from personas_nb.personas.notifying import Listed, Tried
from personas_nb.views import marks
from personas_nb.views.executions import decide, review_block
from personas_nb.views.marks import Cell, Code, Number, Short, Words, one_line, plural, short_id
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
    messages: Sequence[Message],
    *,
    names: Mapping[str, str] | None = None,
    deliveries: Mapping[str, Sequence[MessageDelivery]] | None = None,
    tz: str = "UTC",
) -> View:
    """What personas told the user, each in full; new ones are marked. ``deliveries`` are by the message's id."""
    unread = sum(message.read_at is None for message in messages)
    page = Page("Messages", detail=f"{plural(len(messages), 'message')}, {unread:,} new" if messages else "")
    left: list[MessageDelivery] = []
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
        sent = (deliveries or {}).get(message.id, ())
        page.table((), [delivery_row(each, tz=tz) for each in sent], under=True)
        left += [each for each in sent if each.status in ("failed", "uncertain")]
    if not messages:
        page.sentence("No persona has told you anything yet.")
    if left:
        page.next([(f"%persona messages retry {short_id(left[0].id)}", "send it there once more")])
    return page.view(list(messages))


def delivery_row(delivery: MessageDelivery, *, tz: str = "UTC") -> list[Cell]:
    """Where a message went, and what became of it there."""
    return [
        delivery_mark(delivery),
        Short(delivery.channel),
        delivery_words(delivery, tz),
        _delivery_id(delivery),
    ]


def delivery_mark(delivery: MessageDelivery) -> marks.Mark:
    """What became of a delivery, as a mark."""
    if delivery.status == "pending":  # it waits for a channel, not for the user
        return marks.mark("queued")._replace(word="to be sent")
    return marks.mark(delivery.status)


def delivery_words(delivery: MessageDelivery, tz: str) -> str:
    """When it was sent, or why not and when it is tried again."""
    if delivery.status == "delivered":
        return f"{marks.moment(delivery.sent_at, tz)} {tz}"
    again = ""
    if delivery.status == "pending" and delivery.attempts:
        again = f"again at {marks.moment(delivery.next_attempt_at, tz)} {tz}"
    return ", ".join(part for part in (one_line(delivery.error or "", 200).rstrip("."), again) if part)


def _delivery_id(delivery: MessageDelivery) -> Code:
    return Code(short_id(delivery.id) if delivery.status in ("failed", "uncertain") else "")


def channel_list(found: Mapping[str, tuple[str, Sequence[Listed]]], *, tz: str = "UTC") -> View:
    """The channels of personas, by slug, with the name of each: where they go, what is missing, what came last."""
    rows: list[list[Cell]] = [
        [
            one_line(name, 40),
            Number(str(each.number)),
            Code(each.channel.label),
            one_line(each.credential, 40),
            marks.mark("off" if not each.channel.enabled else "blocked" if each.problem else "on"),
            Words(each.problem),
            delivery_mark(each.last) if each.last and not each.problem else "",
            one_line(delivery_words(each.last, tz), 80) if each.last and not each.problem else "",
        ]
        for name, channels in found.values()
        for each in channels
    ]
    slug = (
        next(iter(found)) if len(found) == 1 else next((slug for slug, of in found.items() if of[1]), "NAME")
    )
    steps: list[Step] = [
        (f"%persona channels test {slug}", "really send a short message"),
        (f"%persona channels add {slug} slack", "another one; you are asked for its address"),
    ]
    return listing(
        "Channels",
        ("persona", "number", "goes to", "credential", "", "", "last", ""),
        rows,
        empty="What it tells you is in `%persona messages` only."
        if len(found) == 1
        else "No persona has one.",
        steps=steps if rows else steps[1:],
        value=[each for _, channels in found.values() for each in channels],
    )


def tried_list(tried: Sequence[Tried], *, name: str) -> View:
    """What became of a trial on each channel."""
    rows: list[list[Cell]] = [
        [Number(str(each.number)), Code(each.label), marks.mark(each.status), Words(each.detail)]
        for each in tried
    ]
    return listing(
        f"Channels of {name}", ("number", "goes to", "", ""), rows, empty="None of its channels is on.",
        value=list(tried),
    )  # fmt: skip
