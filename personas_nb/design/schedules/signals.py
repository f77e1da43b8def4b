"""Webhooks and events: “when GitHub calls”, “after mail-boy finishes”, “on the event invoice.paid”."""

from __future__ import annotations

import re

from personas_nb.design.prose import word_set
from personas_nb.design.schedules.pieces import hide
from personas_nb.design.schedules.schedule import Schedule
from personas_nb.design.schedules.words import words_only

_SERVICES = (
    "GitHub|GitLab|Bitbucket|Stripe|Slack|Jira|Zapier|n8n|Shopify|Twilio|PagerDuty|Sentry|Grafana|Linear"
    "|Notion|Airtable|HubSpot|Typeform|PayPal|Discord|Telegram|Jenkins"
)
_NO_NAMES = word_set(
    """it he she they we i you this that everything everyone someone work one all he's what who which nobody and or
    then not each every any the a an my our your"""
)
_WHEN = r"(?:when(?:ever)?|each time|every time|any time|as soon as|once|after|if|upon|on)"
_NAME = r"(?:[“\"'`](?P<{0}q>[^“”\"'`\n]{{1,60}})[”\"'`]|(?P<{0}>[a-z][\w-]*(?: (?-i:[A-Z])[\w-]*)*))"
_SOURCE = rf"(?P<the>the )?(?P<role>persona |agent )?{_NAME.format('source')}(?P<role2> (?:persona|agent))?"
_HAPPENS = (
    r"(?:arrives?|occurs?|happens?|comes? in|fires?|is (?:published|emitted|raised|fired|received|sent))"
)
_TYPE = r"[“\"'`]?(?P<type>[a-z][\w*-]*(?:\.[\w*-]+)*)[”\"'`]?"
_FROM = rf"(?: (?:from|of|by) (?:the |persona |agent )*{_NAME.format('source')})?"
_ENDINGS = {"execution_completed": "finishes", "execution_failed": "fails"}
_SIGNALS: list[tuple[re.Pattern[str], str]] = [
    (
        words_only(
            rf"(?:{_WHEN}|(?:triggered|started|run|called) (?:by|via|from)|(?:wait|listen)s? for|react(?:s|ing)? to) "
            r"(?:(?:it|a|an|the|any|each|every|our|my|its|incoming|new|receiv(?:es|ing)|gets?|call(?:s|ed)?|to) )*"
            r"(?-i:[A-Z][\w.-]*\s+)?web-?hooks?(?! (?:fails|failed|is missing|breaks|errors))"
            r"(?: (?:calls?|requests?|deliver(?:y|ies)))?"
            r"(?: (?:arrives?|comes? in|is received|is called|is triggered|fires?|hits?(?: us)?))?"
            r"(?: from (?:our |the |my )?(?-i:[A-Z])[\w.-]*)?"
        ),
        "webhook",
    ),
    (
        words_only(
            rf"{_WHEN} (?:[\w’'-]+ ){{1,10}}?(?:via|through|by|over) (?:an? |the |our |my )?web-?hooks?"
        ),
        "webhook",
    ),
    (
        words_only(
            rf"{_WHEN} (?:{_SERVICES}) "
            r"(?:calls?(?: (?:us|(?:our|my|the|its) (?:web-?hook|url|endpoint)))?"
            r"|posts to us|pings(?: us)?|hits us|notifies us|sends (?:us )?a (?:webhook|request|post))"
            rf"|{_WHEN} [\w-]+ calls (?:us|our url|the url|the endpoint|our endpoint|the web-?hook|our web-?hook)"
            rf"|{_WHEN} (?:an? |the )?(?:http |post |http post )request (?:arrives|comes in|is received)"
        ),
        "webhook",
    ),
    (
        words_only(
            rf"{_WHEN} {_SOURCE} "
            rf"(?:emits?(?: (?:an?|the))?(?: event)?"
            rf"|(?:publishe?s|raises?|fires?|sends?)(?: (?:an?|the))? event) {_TYPE}(?: events?)?"
        ),
        "emits",
    ),
    (
        words_only(
            rf"{_WHEN} {_SOURCE} "
            r"(?:publishe?s|raises?|fires?|sends?) (?:an? |the )?(?:[“\"'`](?P<typeq>[\w.*-]+)[”\"'`]"
            r"|(?P<type>[a-z][\w-]*[._][\w.*-]*\w))(?: events?)?"
        ),
        "emits",
    ),
    (
        words_only(
            rf"{_WHEN} {_SOURCE} "
            r"(?:(?P<done>finishes|completes|succeeds|is (?:done|finished)|(?:has )?(?:finished|completed))"
            r"|(?P<bad>fails|failed|has failed|crashes|crashed))(?! to\b)"
        ),
        "ends",
    ),
    (
        words_only(
            rf"{_WHEN} (?:(?:an?|the|any|each|every|new) )*(?:event )?{_TYPE} events?{_FROM}"
            rf"(?: {_HAPPENS})?{_FROM.replace('source', 'other')}"
        ),
        "event",
    ),
    (
        words_only(
            rf"(?:{_WHEN}|(?:listen|subscribe|react)s? (?:to|for)) (?:an? |the )?events? {_TYPE}{_FROM}"
        ),
        "event",
    ),
    (
        words_only(
            r"(?:listen|subscribe|react|wait)s? (?:to|for) (?:(?:all|any|the|new|every) )*"
            r"(?:[“\"'`](?P<typeq>[\w.*-]+)[”\"'`]|(?P<type>[a-z][\w-]*[._][\w.*-]*\w)) events?" + _FROM
        ),
        "event",
    ),
    (
        words_only(
            rf"{_WHEN} (?:(?:an?|the|any) )?"
            rf"(?:[“\"'`](?P<typeq>[\w.*-]+)[”\"'`]|(?P<type>[a-z][\w-]*[._][\w.*-]*\w)){_FROM}"
            rf" {_HAPPENS}"
        ),
        "event",
    ),
    (
        words_only(
            rf"(?P<type>execution_(?:completed|failed)|manual_review|user_message) "
            rf"(?:of|from|by) {_NAME.format('source')}"
        ),
        "event",
    ),
]


def find_signals(text: str) -> tuple[str, list[Schedule]]:
    """Webhooks and events, and the text with their words hidden: “daily-report finishes” is no schedule."""
    found = []
    for pattern, meaning in _SIGNALS:
        for match in list(pattern.finditer(text)):
            signal = _signal(match, meaning)
            if signal:
                found.append(signal)
                text = hide(text, match.start(), match.end())
    return text, found


def _signal(match: re.Match[str], meaning: str) -> Schedule | None:
    span, words = match.span(), match[0]
    if meaning == "webhook":
        return Schedule("webhook", {}, "when a webhook arrives", span, words)
    groups = {name: value for name, value in match.groupdict().items() if value}
    source = next((groups[name] for name in ("sourceq", "source", "otherq", "other") if name in groups), None)
    if source and source.lower() in _NO_NAMES:
        return None
    plain = re.fullmatch("[a-z ]+", source or "")
    if "the" in groups and plain and not {"sourceq", "role", "role2"} & groups.keys():
        return None  # “after the download finishes” names no persona
    if meaning == "ends":
        if not source:
            return None
        event_type = "execution_completed" if "done" in groups else "execution_failed"
        config = {"event_type": event_type, "source_filter": source}
        return Schedule("event", config, f"when {source} {_ENDINGS[event_type]}", span, words)
    event_type = groups.get("typeq") or groups.get("type", "")
    if event_type.lower() in _NO_NAMES or event_type.lower() in ("event", "events", "calendar"):
        return None
    config = {"event_type": event_type, "source_filter": source}
    if event_type in _ENDINGS and source:
        return Schedule("event", config, f"when {source} {_ENDINGS[event_type]}", span, words)
    origin = f" from {source}" if source else ""
    return Schedule("event", config, f"when {event_type} is published{origin}", span, words)
