"""Refining offline: what a wish changes of a design, and nothing else.

A wish is cut into clauses like an instruction. Each is a new name, a tool or service to leave out or to swap,
a schedule, or (anything else) one more step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from personas_nb.design.designer import DesignRequest, chained, markdown_of
from personas_nb.design.dropping import without_services
from personas_nb.design.exclusions import on_other_days, ruled_out, weekdays_of
from personas_nb.design.proposing import (
    WHAT_IT_DOES,
    channels_of,
    connectors_of,
    guidance,
    subscriptions_of,
    triggers_of,
)
from personas_nb.design.prose import clauses, content_words, sentence_of, without, word_set
from personas_nb.design.reading import BY_HAND, Step, step_of
from personas_nb.design.retrieval import find_tools
from personas_nb.design.schedules import Schedule, find_schedules, respelled
from personas_nb.entities.design import DesignHighlight, DesignResult, FlowStep, SuggestedTrigger
from personas_nb.store.database import Store
from personas_nb.triggers import cron

_I = re.IGNORECASE
_RENAME = re.compile(
    r"(?:^|[,.;]\s*|\band\s+)(?:please\s+)?(?:call|name|rename)\s+(?:it|this|her|him|(?:the|this) (?:persona|agent))"
    r"\s+(?:to\s+|as\s+)?(?:[“\"'](?P<quoted>[^”\"']+)[”\"']|(?P<plain>[^,.;\n]+?))(?=\s+and\s+\w+\s|[,.;\n]|\s*$)"
    r"|(?:change|set) (?:the|its) name to\s+[“\"']?(?P<set>[^”\"',.;\n]+)[”\"']?",
    _I,
)
_LEAVE_OUT = re.compile(
    r"\b(?:(?:don['’]?t|do not|never|stop) (?:use|using|need|access|touch)|without(?: using)?|do without|remove|drop"
    r"|no need for|no more|leave out|skip|no)\s+(?:the |any |its |a )?(?:tools? |connector )?(?P<what>[\w.-]+)"
    r"(?: tools?| connector| access)?",
    _I,
)
_SWAP = re.compile(r"\buse\s+(?P<new>[\w.-]+)\s+(?:instead of|rather than)\s+(?P<old>[\w.-]+)", _I)
_USE = re.compile(
    r"^(?:also |please |and |it (?:may|can|should) )*(?:use|add|give it|allow|enable|assign)\s+(?:the )?(?:tools? )?"
    r"(?P<what>[\w.-]+)(?: tools?)?(?: too| as well| also)?$",
    _I,
)
_NO_SENDING = re.compile(
    r"\b(?:don['’]?t|do not|never|stop|no) (?:send(?:ing)?|sent|writ(?:e|ing)|answer(?:ing)?|reply(?:ing)?)\s+"
    r"(?:any |the |to )?(?:(?:e-?)?mails?|anything)\b",
    _I,
)
_NOT_THERE = re.compile(
    r"\b(?:don['’]?t|do not|never|stop|no longer|not)\s+(?:\w+\s+){1,4}?(?:to|on|in|via|over|through|with)\s+"
    r"(?:the\s+)?(?P<what>\w+)(?:\s+channel)?(?=\s*(?:[,.;!\n]|$|\b(?:and|but|instead|any ?more)\b))",
    _I,
)
_TIME = re.compile(
    r"\b(?:(?:at|to|until|for|it)\s+)"
    r"(?P<time>(?:[01]?\d|2[0-3])(?:[:.][0-5]\d)?(?:\s?[ap]\.?m\b\.?)?|noon|midnight)(?![\w%])"
    r"(?:\s+o['’]?clock)?",
    _I,
)
_CLAUSE_END = re.compile(r"[,;\n]|\.\s|\b(?:and|but)\b", _I)
_CHANGE_WORDS = word_set(
    """instead run start it change make move set schedule time trigger at to now rather only please actually also
    always additionally well once shift reschedule"""
)
_ALIASES = {
    "http": ("http_request",),
    "web": ("http_request",),
    "internet": ("http_request",),
    "network": ("http_request",),
    "api": ("http_request",),
    "apis": ("http_request",),
    "mail": ("gmail_read", "gmail_search", "gmail_send", "gmail_mark_read"),
    "mails": ("gmail_read", "gmail_search", "gmail_send", "gmail_mark_read"),
    "email": ("gmail_read", "gmail_search", "gmail_send", "gmail_mark_read"),
    "emails": ("gmail_read", "gmail_search", "gmail_send", "gmail_mark_read"),
    "gmail": ("gmail_read", "gmail_search", "gmail_send", "gmail_mark_read"),
    "sql": ("postgres_query",),
    "postgres": ("postgres_query",),
    "database": ("postgres_query",),
    "files": ("file_read", "file_write"),
    "file": ("file_read", "file_write"),
}


@dataclass(frozen=True)
class _Wish:
    """A wish taken apart; ``rest`` is what no rule has taken."""

    rest: str
    name: str | None = None
    by_hand: bool = False
    swaps: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


def refined(previous: DesignResult, request: DesignRequest, store: Store) -> DesignResult:
    """The previous design with what the wish changes; every other field is the same object as before."""
    text, _ = respelled(request.text)
    wish = _taken_apart(text, previous, request)
    previous, unused = without_services(previous, wish.left_out)
    wish = replace(wish, left_out=(*wish.left_out, *unused))
    fields: dict[str, Any] = {}
    if wish.name:
        fields["name"] = wish.name
    wish, timed = _rule_out(wish, previous, request, fields)
    rest = _reschedule(wish, timed, request, fields)
    tools = _without_tools(previous.suggested_tools, wish)
    used, steps = _new_steps(rest, previous, request)
    found_tools: tuple[str, ...] = ()
    found_connectors: tuple[str, ...] = ()
    if steps:
        understood = any(step.wanted.tools for step in steps)
        found_tools, found_connectors = find_tools(rest, request.tools, store, understood=understood)
    tools += tuple(name for step in steps for name in step.wanted.tools)
    tools = tuple(dict.fromkeys((*tools, *used, *(found_tools if steps else ()))))
    if tools != previous.suggested_tools:
        fields["suggested_tools"] = tools
    _connect(previous, request, wish, steps, found_connectors, fields)
    _rewrite_prompt(previous, request, tools, steps, fields)
    if steps:
        fields["flow"] = chained(_with_boxes(previous, steps))
        fields["design_highlights"] = _highlighted(previous.design_highlights, steps)
    return previous.changed(**fields) if fields else previous


def _taken_apart(text: str, previous: DesignResult, request: DesignRequest) -> _Wish:
    wish = _Wish(rest=text.strip())
    if match := _RENAME.search(wish.rest):
        name = next(name for name in match.groups() if name)
        wish = replace(wish, name=" ".join(name.split())[:200], rest=_cut(wish.rest, match))
    if match := BY_HAND.search(wish.rest):
        wish = replace(wish, by_hand=True, rest=_cut(wish.rest, match))
    for match in _SWAP.finditer(wish.rest):
        if _known(match["old"], previous, request):
            wish = replace(
                wish, swaps=(*wish.swaps, (match["old"], match["new"])), rest=_cut(wish.rest, match)
            )
    if match := _NO_SENDING.search(wish.rest):
        wish = replace(wish, left_out=(*wish.left_out, "gmail_send"))
    there = [match["what"] for match in _NOT_THERE.finditer(wish.rest)]  # it stays, as a rule
    channels = {one.type for one in previous.suggested_notification_channels}
    wish = replace(wish, left_out=(*wish.left_out, *(name for name in there if name.lower() in channels)))
    for match in list(_LEAVE_OUT.finditer(wish.rest))[::-1]:
        if _known(match["what"], previous, request):
            wish = replace(wish, left_out=(*wish.left_out, match["what"]), rest=_cut(wish.rest, match))
    return wish


def _cut(text: str, match: re.Match[str]) -> str:
    return without(text, [match.span()])


def _known(word: str, previous: DesignResult, request: DesignRequest) -> bool:
    """Whether a word names a tool or connector, of the design or of the catalog."""
    word = word.lower().rstrip(".")
    names = {tool.name.lower() for tool in request.tools} | {
        name.lower() for name in previous.suggested_tools
    }
    names |= {one.name for one in request.connectors} | {one.name for one in previous.suggested_connectors}
    return word in _ALIASES or word in names


def _named(word: str) -> tuple[str, ...]:
    word = word.lower().rstrip(".")
    return _ALIASES.get(word, (word,))


# ── tools and connectors ────────────────────────────────────────────────────────────────────────────────────


def _without_tools(tools: Sequence[str], wish: _Wish) -> tuple[str, ...]:
    gone = {name for word in wish.left_out for name in _named(word)}
    kept = [name for name in tools if name.lower() not in gone]
    for old, new in wish.swaps:
        if any(name.lower() in _named(old) for name in kept):
            kept = [name for name in kept if name.lower() not in _named(old)] + [new.rstrip(".")]
    return tuple(kept)


def _connect(
    previous: DesignResult,
    request: DesignRequest,
    wish: _Wish,
    steps: Sequence[Step],
    found: Sequence[str],
    fields: dict[str, Any],
) -> None:
    gone = {word.lower().rstrip(".") for word in (*wish.left_out, *(old for old, _ in wish.swaps))}
    wanted = [name for step in steps for name in step.wanted.connectors]
    names_before = [one.name for one in previous.suggested_connectors]
    known = {one.name for one in request.connectors}
    wanted += [
        new.rstrip(".").lower()
        for old, new in wish.swaps
        if old.lower() in names_before and new.lower() in known
    ]
    services = [name for step in steps for name in step.wanted.services]
    kept = [one for one in previous.suggested_connectors if one.name not in gone]
    new = [name for name in dict.fromkeys((*wanted, *found)) if name not in {one.name for one in kept}]
    if new or len(kept) != len(names_before):
        fields["suggested_connectors"] = (*kept, *connectors_of(new, services, request.connectors))
    channels = previous.suggested_notification_channels
    kept_channels = tuple(one for one in channels if one.type not in gone)
    added = [name for step in steps for name in step.wanted.channels]
    added = [name for name in dict.fromkeys(added) if name not in {one.type for one in kept_channels}]
    if added or len(kept_channels) != len(channels):
        fields["suggested_notification_channels"] = (*kept_channels, *channels_of(added))


# ── schedules ───────────────────────────────────────────────────────────────────────────────────────────────


def _rule_out(
    wish: _Wish, previous: DesignResult, request: DesignRequest, fields: dict[str, Any]
) -> tuple[_Wish, DesignResult]:
    """Take days that are not wanted from the triggers: what is left of the wish, and the design without them."""
    refused = ruled_out(wish.rest, find_schedules(wish.rest, request.timezone))
    triggers = tuple(on_other_days(one, refused.days) for one in previous.suggested_triggers)
    fired = frozenset[int]().union(*(weekdays_of(one.config) for one in _scheduled(triggers)))
    if not refused.days or not fired or fired & refused.days:
        return wish, previous  # nothing is ruled out, or cron cannot say it: it stays a sentence
    if triggers != previous.suggested_triggers:
        fields["suggested_triggers"] = triggers
    rest = without(wish.rest, refused.spans)
    if not (_says_more(rest) or find_schedules(rest) or _TIME.search(rest)):
        rest = ""
    return replace(wish, rest=rest), previous.changed(suggested_triggers=triggers)


def _reschedule(wish: _Wish, previous: DesignResult, request: DesignRequest, fields: dict[str, Any]) -> str:
    """Put changed triggers and subscriptions into ``fields``; what is left of the wish."""
    if wish.by_hand and previous.suggested_triggers:
        fields["suggested_triggers"] = ()
    found = list(find_schedules(wish.rest, request.timezone))
    refused = ruled_out(wish.rest, found)
    if refused.days:  # days that no trigger has: they must not become one
        found = list(refused.wanted)
    is_more = bool(re.search(r"\b(?:also|additionally|as well|too|in addition)\b", wish.rest, _I))
    rest = without(wish.rest, [one.span for one in found])
    if not found:
        match = _TIME.search(wish.rest)
        if match is None or _means_something_else(wish.rest, match):
            return wish.rest
        found = find_schedules(f"every day at {match['time']}", request.timezone)
        if not found:
            return wish.rest
        triggers = tuple(
            _at_time_of(found[0], one) for one in _scheduled(previous.suggested_triggers)
        ) or triggers_of(found)
        rest = without(wish.rest, [match.span()])
    else:
        triggers = triggers_of(_with_time_of(one, previous) for one in found)
    rest = rest if _says_more(rest) else ""
    is_more = is_more and not rest
    subscriptions = subscriptions_of(found)
    if subscriptions:
        fields["suggested_event_subscriptions"] = tuple(
            dict.fromkeys((*previous.suggested_event_subscriptions, *subscriptions))
        )
    if triggers:
        before = previous.suggested_triggers
        others = () if is_more else tuple(one for one in before if one.trigger_type in ("webhook", "manual"))
        new = (*(before if is_more else others), *triggers)
        fields["suggested_triggers"] = tuple(
            one
            for number, one in enumerate(new)
            if all(
                one.config != earlier.config or one.trigger_type != earlier.trigger_type
                for earlier in new[:number]
            )
        )
    return rest


def _means_something_else(text: str, match: re.Match[str]) -> bool:
    """Whether a time stands in a clause about something else (“stop at 5 results”)."""
    ends = [cut.end() for cut in _CLAUSE_END.finditer(text, 0, match.start())]
    after = _CLAUSE_END.search(text, match.end())
    clause = (
        text[ends[-1] if ends else 0 : match.start()],
        text[match.end() : after.start() if after else None],
    )
    return _says_more(" ".join(clause))


def _says_more(text: str) -> bool:
    """Whether a text says anything but that something is to be changed."""
    return not set(content_words(text)) <= _CHANGE_WORDS


def _scheduled(triggers: Sequence[SuggestedTrigger]) -> list[SuggestedTrigger]:
    return [one for one in triggers if one.trigger_type == "schedule" and one.config.get("cron")]


def _at_time_of(time: Schedule, trigger: SuggestedTrigger) -> SuggestedTrigger:
    """The trigger on its own days at another time of day."""
    minute, hour, *_ = time.config["cron"].split()
    fields = trigger.config["cron"].split()
    days = fields[2:] if len(fields) == 5 else ["*", "*", "*"]
    expression = " ".join((minute, hour, *days))
    return trigger.changed(
        config={**trigger.config, "cron": expression}, description=cron.in_words(expression)
    )


def _with_time_of(schedule: Schedule, previous: DesignResult) -> Schedule:
    """New days whose time was only assumed keep the time that the design has."""
    earlier = _scheduled(previous.suggested_triggers)
    if "assumed" not in schedule.description or not earlier or schedule.trigger_type != "schedule":
        return schedule
    if not all(field.isdigit() for field in schedule.config["cron"].split()[:2]):
        return schedule  # “twice a day”: how many times is what was asked for
    fields = earlier[0].config["cron"].split()
    if len(fields) != 5 or not all(re.fullmatch(r"[\d,]+", one) for one in fields[:2]):
        return schedule
    expression = " ".join((*fields[:2], *schedule.config["cron"].split()[2:]))
    config = {**schedule.config, "cron": expression}
    if earlier[0].config.get("timezone"):
        config["timezone"] = earlier[0].config["timezone"]
    return replace(schedule, config=config, description=cron.in_words(expression))


# ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────


def _new_steps(
    rest: str, previous: DesignResult, request: DesignRequest
) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """Tools that the wish just names, and the steps that it adds."""
    used: list[str] = []
    steps = []
    about_mail = any(name.startswith("gmail_") for name in previous.suggested_tools)
    known = {tool.name.lower(): tool.name for tool in request.tools}
    for clause in clauses(rest):
        clause = re.sub(r"^(?:(?:also|additionally|please|and)\b[,:]?\s*)+", "", clause, flags=_I)
        clause = re.sub(r"[,\s]+(?:too|as well|also|instead)$", "", clause, flags=_I)
        if not _says_more(clause):
            continue
        match = _USE.match(clause)
        names = (
            [known[name.lower()] for name in _named(match["what"]) if name.lower() in known] if match else []
        )
        if names:
            used += names
            continue
        step = step_of(clause, about_mail=about_mail)
        if _NO_SENDING.search(clause) or re.match(r"(?:don['’]?t|do not|never|no)\b", clause, _I):
            step = replace(step, wanted=replace(step.wanted, tools=(), connectors=(), channels=()))
        is_order = step.wanted.messages and clause.lower().startswith(("ask", "before", "let me", "wait"))
        text = step.text if is_order else f"Also: {step.text[:1].lower() + step.text[1:]}"
        steps.append(replace(step, text=text))
    return tuple(dict.fromkeys(used)), tuple(steps)


def _rewrite_prompt(
    previous: DesignResult,
    request: DesignRequest,
    tools: Sequence[str],
    steps: Sequence[Step],
    fields: dict[str, Any],
) -> None:
    sections: dict[str, str] = {}
    prompt = previous.structured_prompt
    gone = [name for name in previous.suggested_tools if name not in tools]
    new = [
        tool
        for name in tools
        if name not in previous.suggested_tools
        for tool in request.tools
        if tool.name == name
    ]
    if gone or new:
        lines = [
            line
            for line in prompt.tool_guidance.splitlines()
            if not any(re.match(rf"-\s*`?{re.escape(name)}`?\s*:", line) for name in gone)
        ]
        connectors = [one.name for one in fields.get("suggested_connectors", previous.suggested_connectors)]
        sections["tool_guidance"] = "\n".join((*lines, *(guidance(tool, connectors) for tool in new)))
    if steps:
        sections["instructions"] = _continued(prompt.instructions, [step.text for step in steps])
    if sections:
        changed = prompt.changed(**sections)
        fields |= {"structured_prompt": changed, "full_prompt_markdown": markdown_of(changed)}


def _continued(instructions: str, texts: Sequence[str]) -> str:
    """The instructions with more steps, counted on from the last number."""
    numbers = [int(number) for number in re.findall(r"^\s*(\d{1,4})[.)]", instructions, re.MULTILINE)]
    first = (numbers[-1] if numbers else 0) + 1
    added = "\n".join(f"{first + number}. {text}" for number, text in enumerate(texts))
    return f"{instructions.rstrip()}\n{added}" if instructions.strip() else added


def _highlighted(before: Sequence[DesignHighlight], steps: Sequence[Step]) -> tuple[DesignHighlight, ...]:
    """The highlights, with the new steps in the one that says what it does."""
    added = [sentence_of(step.clause).removesuffix(".") for step in steps]
    return tuple(
        one.changed(items=(*one.items, *added)) if one.category == WHAT_IT_DOES else one for one in before
    )


def _with_boxes(previous: DesignResult, steps: Sequence[Step]) -> list[FlowStep]:
    boxes = list(previous.flow.steps)
    at = len(boxes) - 1 if boxes and boxes[-1].kind == "end" else len(boxes)
    taken = {box.id for box in boxes}
    for step in steps:
        number = len(boxes)
        while f"step-{number}" in taken:
            number += 1
        taken.add(f"step-{number}")
        kind = (
            "review" if "manual_review" in step.wanted.messages else "tool" if step.wanted.tools else "step"
        )
        label = step.clause[:1].upper() + step.clause[1:]
        boxes.insert(at, FlowStep(id=f"step-{number}", label=label, kind=kind))
        at += 1
    return boxes
