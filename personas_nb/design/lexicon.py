"""What words ask for: tools, services, ways to notify, and messages of a run.

A small list that says what it knows; what it does not know is left to full-text search in the catalog.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from personas_nb.design.prose import DOMAIN, word_set

_I = re.IGNORECASE
_MAIL = r"(?:e-?mails?|g-?mails?|mails?)"
_FILE = (
    r"(?:files?|folders?|director(?:y|ies)|csvs?|tsvs?|logs"
    r"|markdown|spreadsheets?|excel|xlsx?|documents?|docs|pdfs?|txt|data ?sets?|workspace)"
)
_SUFFIX = r"(?:csv|tsv|txt|md|jsonl?|ya?ml|log|xml|html?|py|ipynb|eml|ini|toml)"
# A text file by its suffix, or a folder by its slash; lengths are bounded to keep the search linear.
_PATH = (
    rf"(?<![\w/-])(?:\.{{0,2}}/)?(?:[\w-]{{1,80}}/){{0,20}}"
    rf"(?:[\w-]{{1,80}}\.{_SUFFIX}\b|(?<=\w/)(?=\s|$|[,.;]))"
)
_MADE = (
    r"(?:reports?|tables?|minutes|notes?|digests?|documents?|change ?logs?|newsletters?|index|memos?|protocols?"
    r"|reviews?|letters?|essays?|agendas?|inventory|dictionary|files?|budgets?|reading lists?)"
)
_WRITING = (
    r"(?:write|save|store|create|generate|produce|export|append|put|log|record|compile|prepare|make|keep|collect"
    r"|dump)"
)
_REWRITING = (
    r"(?:convert|update|clean|merge|sort|deduplicate|rename|rewrite|translate|reformat|format|edit|annotate|split"
    r"|join|tidy|compact)"
)
_URL = rf"(?:https?://\S+|{DOMAIN}(?:/\S*)?)"
_WEB = (
    r"(?:urls?|(?:rest )?apis?|endpoints?|web ?sites?|web ?pages?|home ?pages?|pages?|sites?|rss|feeds?|https?|scrape"
    r"|crawl|download|web|online|internet|hacker news|pypi|reddit|arxiv|wikipedia|weather|forecast|exchange rates?"
    r"|(?:stock|share) prices?|headlines|news|currency)"
)
_POSTING = (
    r"(?:post|send|tell|notify|alert|message|ping|report|share|write|announce|warn|inform|publish|let|put"
    r"|summari[sz]e)"
)
_PRODUCT = (
    r"(?:summary|digest|overview|alerts?|notifications?|messages?|reports?|updates?|reminders?|brief(?:ing)?|list"
    r"|results?|answer)"
)
_ME = r"(?:me|us|the user|the team|my team|everyone|everybody)"

_REMINDED = re.compile(r"(?<=\bremind\b)(?:\s+[\w-]+){1,3}?\s+(?:to|about|of|that)\b.*", _I)

MESSAGES = ("user_message", "manual_review", "agent_memory", "emit_event", "persona_action")
_MESSAGE_WORDS = {
    "manual_review": (
        rf"\bask {_ME}\b|\bask (?:for|first)\b|\b(?:my|our|manual|human) (?:approval|permission|confirmation|review"
        r"|decision|sign-?off|ok|okay|consent)\b|\b(?:for|need|needs|request|require|get|without) (?:an? )?(?:approval"
        r"|permission|confirmation|sign-?off|(?:manual |human )review)\b"
        rf"|\b(?:confirm|check|clear) (?:it |this |that )?with {_ME}\b"
        r"|\blet (?:me|us) (?:decide|approve|review|confirm|check|choose|sign)\b|\bwait for (?:me|us|my|our)\b"
        r"|\b(?:i|we) (?:must |have to |should |want to |need to )?(?:approve|confirm|decide|review|sign)\b"
        r"|\bapproved? by me\b|\bmanual_review\b"
    ),
    "agent_memory": (
        r"\b(?:remember|memori[sz]e|keep in mind|don['’]?t forget|do not forget|keep track of|recall|for next time"
        r"|agent_memory)\b|\blearn (?:from|which|what|my|how|about|who)\b"
    ),
    "user_message": (
        r"\bremind\s+(?:[\w-]+\s+){1,3}?(?:to|about|of|that)\b|"
        rf"\b(?:tell|notify|alert|inform|warn|ping|message|remind|update|brief|show) {_ME}\b|\blet (?:me|us) know\b"
        rf"|\breport (?:back|it|them|this|that|to {_ME})\b|\b(?:post|send|give|share|deliver|publish) (?:{_ME} )?"
        rf"(?:an? |the |its? |your )?(?:[\w-]+ ){{0,3}}?{_PRODUCT}\b|\b(?:notify|notification|alert)\b"
        r"|\buser_message\b|\bpost (?:it|them|this)\b"
    ),
    "emit_event": (
        r"\b(?:emit|publish|raise|fire|broadcast|send)\b[^.]{0,80}?\bevents?\b|\b(?:emit|publish) (?:an? )?\w+_\w+"
        r"|\bemit_event\b"
    ),
    "persona_action": r"\bpersona_action\b",
}
_OTHER_PERSONA = re.compile(
    r"\b(?i:start|run|trigger|call|wake|invoke|launch)\s+(?:up\s+)?(?:the\s+|my\s+)?"
    r"(?:persona\s+[“\"']?(?P<after>[\w-]+(?: [A-Z][\w-]*)*)|[“\"'](?P<quoted>[^”\"']+)[”\"']"
    r"|(?P<before>[\w-]+(?: [\w-]+){0,3}?)\s+(?:persona|agent)\b)"
    r"|\b(?i:hand|pass)\s+(?:(?:it|this|that|them|the \w+)\s+)?(?:over\s+|on\s+)?to\s+(?:the\s+)?(?:persona\s+)?"
    r"[“\"']?(?P<to>(?:[A-Z][\w-]*(?: [A-Z][\w-]*)*|[a-z]+-[a-z-]+))"
)
_EVENT_NAMES = (
    re.compile(r"[“\"'‘]([^”\"'’]+)[”\"'’]"),
    re.compile(r"\b((?!emit_event)[a-z0-9]+(?:[_.:][a-z0-9]+)+)\b", _I),
    re.compile(r"\bevents? (?:named|called|of type) ([\w-]+)", _I),
    re.compile(r"\b([\w-]+) events?\b", _I),
)
_NEWSLETTER_OUT = re.compile(
    r"\b(?:send|write|compose|draft|publish)\s+(?:[\w-]+\s+){0,3}?newsletters?\b", _I
)
_SENT_BY_MAIL = re.compile(
    r"\bsend\s+(?!me\b|us\b)(?:[\w-]+\s+){0,3}?(?:reminders?|invitations?|replies|notices?|letters?|warnings?|offers?|quotes?)\b",
    _I,
)
_SERVICES = re.compile(
    r"\b(?:ClickUp|Jira|Notion|Trello|Asana|Discord|Airtable|HubSpot|Salesforce|Zendesk|Confluence|Stripe|Shopify|Todoist"
    r"|Google (?:Sheets|Calendar|Drive|Docs)|Microsoft Teams|Dropbox|LinkedIn|Twitter|Mastodon|GitLab|Sentry|Grafana"
    r"|PagerDuty|Twilio|Zapier|Mailchimp|Bitbucket|Jenkins|Home Assistant)\b",
    _I,
)


@dataclass(frozen=True)
class Wanted:
    """What a clause asks for; ``services`` are named services that have no connector of their own."""

    tools: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether no word was understood."""
        return not (self.tools or self.connectors or self.messages)


def wanted(clause: str, *, about_mail: bool = False) -> Wanted:
    """What the words of a clause ask for; ``about_mail``: the sentence around it speaks of mail.

    >>> wanted("read my inbox").tools
    ('gmail_read', 'gmail_search')
    >>> wanted("tell me what is urgent").messages
    ('user_message',)
    """
    done = _REMINDED.sub(" ", clause)  # what somebody is reminded to do is not done by the persona
    mail = _mail_tools(done, about_mail)
    web, connectors, channels, services = _web_and_services(done)
    files = _file_tools(done, is_web=bool(web))
    messages = tuple(kind for kind in MESSAGES if _asks(kind, clause))
    if "gmail_send" in mail and (
        re.search(rf"\b(?:by|via|per) {_MAIL}\b|^(?:e-?mail|mail)\b|\ban? {_MAIL}\b", clause, _I)
        or _SENT_BY_MAIL.search(clause)
    ):
        messages = tuple(kind for kind in messages if kind != "user_message")
    return Wanted(
        tools=tuple(dict.fromkeys((*mail, *files, *web))),
        connectors=(("gmail",) if mail else ()) + connectors,
        channels=channels,
        services=services,
        messages=messages,
    )


def speaks_of_mail(text: str) -> bool:
    """Whether a text is about mail at all."""
    return bool(re.search(rf"\b(?:{_MAIL}|inbox|mailbox)\b", _without_paths(text), _I))


def out_of_reach(text: str) -> list[str]:
    """What the text asks for that no built-in tool does, each as a sentence.

    >>> out_of_reach("delete old mails")
    ['No tool deletes, moves or labels mail: it can be read, marked as read and sent.']
    """
    away = r"\b(?:delete|remove|archive|move|label|trash|purge)\b(?:\s+[\w'’-]+){0,3}?\s+"
    found = []
    if re.search(rf"{away}(?:{_MAIL}|newsletters?|spam)\b|\bunsubscribe\b", text, _I):
        found.append("No tool deletes, moves or labels mail: it can be read, marked as read and sent.")
    if re.search(rf"{away}(?:files?|folders?|csvs?|logs|documents?)\b", text, _I):
        found.append("No tool deletes or moves files: they can be read and written.")
    return found


def _without_paths(text: str) -> str:
    text = re.sub(_URL, " ", text)
    text = re.sub(r"\b(?:folder|directory)\s+[“\"']?\w+[”\"']?", " ", text, flags=_I)
    return re.sub(_PATH, " ", text, flags=_I)


def _mail_tools(clause: str, about_mail: bool) -> tuple[str, ...]:
    text = _without_paths(clause)
    has_inbox = bool(
        re.search(r"\b(?:inbox|mailbox|unread|newsletters?|imap)\b", _NEWSLETTER_OUT.sub(" ", text), _I)
    )
    names_mail = bool(re.search(rf"\b{_MAIL}\b", text, _I))
    is_about = names_mail or has_inbox
    drafts = bool(re.search(r"\bdrafts?\b", text, _I))
    negated = bool(
        re.search(r"\b(?:never|not|don['’]?t|without)\s+(?:\w+\s+)?(?:send|reply|answer|forward)", text, _I)
    )
    answers = bool(re.search(r"\b(?:reply|replies|respond|answer|forward)\b", text, _I)) and (
        is_about or about_mail
    )
    sends = bool(
        re.search(
            rf"\b(?:send|write|compose)\b.{{0,80}}?\b(?:{_MAIL}|newsletters?)\b|\b(?:by|via|per) {_MAIL}\b",
            text,
            _I,
        )
        or re.search(r"^(?:e-?mail|mail)\s+(?!from\b|in\b|of\b|that\b|is\b)\S+", text, _I)
        or re.search(
            r"\b(?:and|then|,)\s+(?:e-?mail|mail)\s+(?:me|us|him|her|them|it|the|a|an|my)\b", text, _I
        )
        or re.search(r"\b(?:send|forward)\b[^@]*\S+@\S+", text, _I)
    )
    sends = sends or (about_mail and bool(_SENT_BY_MAIL.search(text)))
    if (
        not sends
        and _asks("manual_review", text)
        and not re.search(r"\b(?:read|check|look|search)\b", text, _I)
    ):
        names_mail = False  # “let me approve every mail”
    tools: list[str] = []
    if re.search(r"\bmark(?:s|ed)?\b.*\bread\b", text, _I) and (is_about or about_mail):
        tools.append("gmail_mark_read")
    if has_inbox or (names_mail and not sends and not tools) or (answers and is_about):
        tools[:0] = ["gmail_read", "gmail_search"]
    if (sends or answers) and not drafts and not negated:
        tools.append("gmail_send")
    return tuple(tools)


def places_in(clause: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and addresses that a clause reads, and the files that it writes, as they are written there.

    >>> places_in("write the closing report from ledger.csv to report.md")
    (('ledger.csv',), ('report.md',))
    """
    reads = [address.rstrip(".,;:!?") for address in re.findall(_URL, clause)]
    writes: list[str] = []
    text = re.sub(_URL, " ", clause)
    is_writing, is_rewriting = _has_verb(_WRITING, text), _has_verb(_REWRITING, text)
    for match in re.finditer(_PATH, text, _I):
        before = text[: match.start()].rstrip(" “\"'`(").lower().split()
        word = next((each for each in reversed(before) if each not in _ARTICLES), "")
        if word in ("to", "into", "onto", "as"):
            is_written = not re.search(r"\b(?:compare|match|similar|add up)\b", text, _I)
        elif word in ("in", "at", "under", "inside"):
            is_written = is_writing and not is_rewriting
        else:
            is_written = is_writing and word not in _READING_WORDS
        (writes if is_written else reads).append(match[0].strip())
    return tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(writes))


_ARTICLES = word_set("the a an my our your file files folder named called table")
_READING_WORDS = word_set(
    "from of with against about on for than between through over using and or by versus vs"
)


def _has_verb(verbs: str, text: str) -> bool:
    return bool(re.search(rf"(?:^|\b(?:and|then|also|to|you)\s+|,\s*){verbs}\b", text, _I))


def _file_tools(clause: str, *, is_web: bool) -> tuple[str, ...]:
    text = re.sub(r"\bkeep (?:an eye|watch)\b", "watch", re.sub(_URL, " ", clause), flags=_I)
    if "file_read" in text or "file_write" in text:
        return tuple(name for name in ("file_read", "file_write") if name in text)
    names_file = bool(
        re.search(rf"\b{_FILE}\b|\b(?:the|our|my|each|this)\s+(?:[\w-]+\s+){{0,2}}log\b", text, _I)
    )
    has_path = bool(re.search(_PATH, text, _I))
    writes, rewrites = _has_verb(_WRITING, text), _has_verb(_REWRITING, text)
    makes = bool(re.search(rf"\b(?!log\b){_WRITING}\b\s+(?:\S+\s+){{0,4}}?{_MADE}\b", text, _I))
    if rewrites and (names_file or has_path):
        return ("file_read", "file_write")
    if has_path:
        read, written = places_in(text)
        return ("file_read",) * bool(read) + ("file_write",) * bool(written or makes)
    into = re.search(
        rf"\b(?:to|into|as|in)\s+(?:an?\s+|the\s+|my\s+)?(?:[\w-]+\s+){{0,2}}?{_FILE}\b", text, _I
    )
    moves = re.search(rf"\b(?:{_WRITING}|download|extract|move|copy|add)\b", text, _I)
    if (writes and names_file) or makes or (into and moves and not re.search(r"\bread\b", text, _I)):
        return ("file_write",)
    if re.match(r"(?:log|record)\b", text, _I):
        return ("file_write",)
    return ("file_read",) if names_file and not is_web else ()


def _web_and_services(
    clause: str,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    text = re.sub(_PATH, " ", re.sub(_URL, " https ", clause), flags=_I)
    is_web = bool(re.search(rf"\b{_WEB}\b|\bhttp_request\b", text, _I))
    connectors: list[str] = []
    channels: list[str] = []
    for chat in ("slack", "telegram"):
        if re.search(rf"\b{chat}\b", text, _I):
            connectors.append(chat)
            if re.search(rf"\b{_POSTING}\b", text, _I):
                channels.append(chat)
    if re.search(r"\bgit ?hub\b|\bpull requests?\b|\brepos?(?:itor(?:y|ies))?\b", text, _I):
        connectors.append("github")
    if re.search(r"\bpostgres(?:ql)?\b|\bsql\b|\bdatabase\b|\bwarehouse\b", text, _I):
        connectors.append("postgres")
    services = tuple(dict.fromkeys(_SERVICES.findall(text)))
    if services:
        connectors.append("http_bearer")
    reaches = is_web or services or any(name != "postgres" for name in connectors)
    tools = ("http_request",) if reaches else ()
    if "postgres" in connectors:
        tools = ("postgres_query", *tools)
    return tools, tuple(connectors), tuple(channels), services


def _asks(kind: str, clause: str) -> bool:
    if kind == "persona_action" and _OTHER_PERSONA.search(clause):
        return True
    if kind == "user_message" and _asks("emit_event", clause):
        return bool(re.search(rf"\b(?:tell|notify|alert) {_ME}\b", clause, _I))
    return bool(re.search(_MESSAGE_WORDS[kind], clause, _I))


def other_persona(clause: str) -> str:
    """The persona that a clause starts; empty when it names none."""
    match = _OTHER_PERSONA.search(clause)
    return next((name for name in match.groups() if name), "") if match else ""


def event_name(clause: str) -> str:
    """The event type that a clause publishes, as one word.

    >>> event_name("emit an event “Invoice found”")
    'invoice_found'
    """
    matches = (pattern.search(clause) for pattern in _EVENT_NAMES)
    name = next((match[1] for match in matches if match), "")
    name = re.sub(r"[^a-z0-9.:]+", "_", name.lower()).strip("_")
    return "custom" if name in ("", "a", "an", "the", "custom", "this", "that") else name
