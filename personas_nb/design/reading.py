"""A sentence as a rule reads it: when, which days not, and step by step what to do with which means.

- The schedule grammar takes its words out of the sentence; what is left is cut into clauses.
- Each clause becomes a numbered step; the lexicon says which tools, services and messages its words ask for.
- A clause that forbids something brings nothing, and takes away what it forbids.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from personas_nb.design import lexicon
from personas_nb.design.designer import DesignRequest
from personas_nb.design.exclusions import Unheld, exceptions, on_other_days, ruled_out, weekdays_of
from personas_nb.design.prohibitions import forbidden_tools, forbids, without_refusals
from personas_nb.design.prose import (
    GENERIC_VERBS,
    clauses,
    content_words,
    sentence_of,
    unwrapped,
    verb_of,
    without,
)
from personas_nb.design.retrieval import Match, best_match, find_tools, needed_by
from personas_nb.design.schedules import Schedule, find_schedules, respelled, unread_time
from personas_nb.design.watching import watched
from personas_nb.store.database import Store

_MESSAGE_STEPS = {
    "user_message": "send a user_message with it",
    "manual_review": "send a manual_review that says what you propose and why, "
    "and leave it undone until it is approved",
    "agent_memory": "write an agent_memory for each fact worth keeping",
}
BY_HAND = re.compile(
    r"\b(?:no|remove the|drop the|without(?: an?| any| the)?) ?(?:schedules?|triggers?|timers?)\b(?: please)?"
    r"|\bonly (?:when (?:i|we) (?:start|run|ask|call) (?:it|you|for it)|by hand|manually|on demand)\b"
    r"|\b(?:start|run) (?:it )?(?:only )?(?:by hand|manually)\b|\bnot? (?:run )?(?:by itself|automatically)\b",
    re.IGNORECASE,
)
_ONCE = re.compile(
    r"\b(?:tomorrow|tonight|this (?:morning|afternoon|evening)|next (?:\w+day|week|month))(?: morning| evening)? at"
    r" (?:[0-9]{1,2}(?:[:.][0-9]{2}| ?[ap]m)?|noon)\b"
    r"|(?:^|(?<=\bme )|(?<=\bus ))in (?:an?|one|two|three|[0-9]{1,3}) (?:minutes?|hours?|days?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Step:
    """One clause, what it asks for, and what to do as a sentence of the instructions."""

    clause: str
    wanted: lexicon.Wanted
    text: str


@dataclass(frozen=True)
class Reading:
    """What was understood of the sentences."""

    task: str
    steps: tuple[Step, ...]
    title: str = ""
    schedules: tuple[Schedule, ...] = ()
    found_tools: tuple[str, ...] = ()
    found_connectors: tuple[str, ...] = ()
    is_vague: bool = False
    notes: tuple[str, ...] = ()
    match: Match | None = None

    @property
    def tools(self) -> tuple[str, ...]:
        """All tools, in the order of the steps."""
        named = (name for step in self.steps for name in step.wanted.tools)
        return tuple(dict.fromkeys((*named, *self.found_tools)))

    @property
    def connectors(self) -> tuple[str, ...]:
        """All connectors, in the order of the steps."""
        named = (name for step in self.steps for name in step.wanted.connectors)
        return tuple(dict.fromkeys((*named, *self.found_connectors)))

    @property
    def channels(self) -> tuple[str, ...]:
        """All notification channels."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.wanted.channels))

    @property
    def services(self) -> tuple[str, ...]:
        """All named services that have no connector of their own."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.wanted.services))

    @property
    def messages(self) -> tuple[str, ...]:
        """All messages that the steps ask for."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.wanted.messages))


def read(said: Sequence[str], request: DesignRequest, store: Store) -> Reading:
    """What these sentences ask for."""
    text = ". ".join(unwrapped(part).strip().rstrip(".") for part in said if part.strip())
    text, respelt = respelled(text)
    title, text = _titled(text)
    schedules, task = _when(text, request.timezone)
    about_mail = lexicon.speaks_of_mail(task)
    steps = [step_of(clause, about_mail=about_mail) for clause in clauses(task) if not _says_nothing(clause)]
    forbidden = forbidden_tools(step.clause for step in steps)
    steps = _without_forbidden(steps, forbidden)
    understood = any(step.wanted.tools for step in steps)
    tools, connectors = find_tools(task, request.tools, store, understood=understood)
    signals = [
        step
        for step in steps
        if not step.wanted.is_nothing or verb_of(step.clause) not in {"", *GENERIC_VERBS}
    ]
    words = [word for word in content_words(task) if word not in GENERIC_VERBS]
    is_vague = not (signals or tools) or (len(words) < 2 and not understood)
    match = (
        None
        if is_vague
        else best_match(task, [*tools, *(name for step in steps for name in step.wanted.tools)], store)
    )
    if match and not (tools or any(not step.wanted.is_nothing for step in steps)):
        known = {tool.name for tool in request.tools}  # the sentence says what to do, and not with what
        tools = _allowed((name for name in match.pattern.tools if name in known), forbidden)
        told = lexicon.wanted(" ".join(one.text for one in schedules if one.trigger_type == "webhook"))
        caller = told.connectors if "http_request" in tools else ()  # “when GitHub calls, label the issue”
        connectors = tuple(dict.fromkeys((*connectors, *needed_by(tools, request.tools), *caller)))
    return Reading(
        task=task,
        title=title,
        steps=tuple(steps),
        schedules=tuple(schedules),
        found_tools=tools,
        found_connectors=connectors,
        is_vague=is_vague,
        notes=(*_misspelt(respelt), *_notes(task, schedules)),
        match=match,
    )


def _when(text: str, timezone: str) -> tuple[list[Schedule], str]:
    """The triggers of a text, and the text without their words."""
    by_hand = [match.span() for match in BY_HAND.finditer(text)]
    if by_hand:
        text = without(text, by_hand)
    found = [] if by_hand else find_schedules(text, timezone)
    refused = ruled_out(text, found)
    if refused.wanted:  # else there is nothing to take the days from, and the words stay in the task
        schedules = [on_other_days(one, refused.days) for one in refused.wanted]
        spans = [one.span for one in schedules]
        if not any(weekdays_of(one.config) & refused.days for one in schedules):
            spans += refused.spans  # a day of the month, or an interval, may still be such a day
    else:
        schedules, spans = ([], []) if refused.days else (found, [one.span for one in found])
    unheld = exceptions(text, found, refused)
    if unheld and schedules:
        schedules = [_noted(schedules[0], unheld), *schedules[1:]]
    rules = dict.fromkeys(each.rule for each in unheld)
    task = ". ".join(filter(None, (without(text, [*spans, *(each.span for each in unheld)]), *rules)))
    return schedules if by_hand else watched(task, schedules), task


def _noted(one: Schedule, unheld: Sequence[Unheld]) -> Schedule:
    words = " and ".join(f"“{each.words}”" for each in unheld)
    note = f"No schedule can leave out {words}: it starts then too, and is told to do nothing."
    return replace(one, note=f"{one.note} {note}".strip())


def _without_forbidden(steps: Sequence[Step], forbidden: Collection[str]) -> list[Step]:
    return [
        replace(step, wanted=replace(step.wanted, tools=_allowed(step.wanted.tools, forbidden)))
        for step in steps
    ]


def _allowed(tools: Iterable[str], forbidden: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in tools if name not in forbidden)


def _titled(text: str) -> tuple[str, str]:
    """A title before a colon, and the rest: “Invoice watcher: read …”; no title when it is none."""
    match = re.match(r"\s*([^\W\d_][\w -]{2,40}?):\s+(?=\S)", text)
    if match is None or verb_of(match[1]) or not verb_of(text[match.end() :]):
        return "", text
    if not content_words(match[1]) or find_schedules(match[1]):
        return "", text  # “Do this: …”, “Every Monday: …”
    return match[1], text[match.end() :]


def step_of(clause: str, *, about_mail: bool) -> Step:
    """A clause as a step of the instructions, with the messages that its words ask for by name."""
    wanted = lexicon.wanted(without_refusals(clause), about_mail=about_mail)
    if forbids(clause):  # “never without asking me” still asks
        asked = lexicon.wanted(clause).messages
        wanted = lexicon.Wanted(messages=tuple(kind for kind in asked if kind == "manual_review"))
    additions = [
        _MESSAGE_STEPS[kind] for kind in wanted.messages if kind in _MESSAGE_STEPS and kind not in clause
    ]
    if "emit_event" in wanted.messages:
        additions.append(f"send an emit_event with event_type “{lexicon.event_name(clause)}”")
    if "persona_action" in wanted.messages:
        other = lexicon.other_persona(clause)
        additions.append(f"send a persona_action for “{other}”" if other else "send a persona_action")
    text = sentence_of(clause)
    if additions:
        text = f"{text[:-1]}: {', and '.join(additions)}."
    return Step(clause, wanted, text)


def _says_nothing(clause: str) -> bool:
    return not any(word not in ("help", "persona") for word in content_words(clause))


def _misspelt(respelt: Iterable[tuple[str, str]]) -> Iterator[str]:
    for wrong, right in respelt:
        yield f"“{wrong}” was read as “{right}”."


def _notes(task: str, schedules: Sequence[Schedule]) -> tuple[str, ...]:
    notes = [one.note for one in schedules if one.note and not one.asked]  # feasibility says the others
    if re.search(r"\b(?:pdfs?|excel|xlsx?|docx?)\b", task, re.IGNORECASE):
        notes.append("file_read reads text; PDF, Word and Excel files have to be saved as text or CSV first.")
    if once := _ONCE.search(task):
        notes.append(
            f"“{once[0]}” is one time, and a trigger repeats: run it by hand then, or say every which day."
        )
    elif unread := unread_time(task, schedules):
        notes.append(
            f"“{unread}” looks like a time to run and was not understood: say it as “every weekday at 9”."
        )
    notes += lexicon.out_of_reach(task)
    return tuple(dict.fromkeys(notes))
