"""Sentences as a rule can read them: clauses that begin with a verb, a name, a summary.

Words keep the person's own form; nothing is rewritten that a rule could get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


VERBS = word_set(
    """
add alert analyse analyze announce answer append apply approve archive ask audit book brief broadcast build
calculate call categorise categorize check classify clean collect compare compile compose compute confirm
convert copy count crawl create cross-check deduplicate delete deliver describe detect digest discard download
draft email emit enrich ensure escalate estimate evaluate explain export extract fetch file fill filter find
flag follow forecast format forward gather generate get give greet group hand highlight identify inform inspect
invoke join keep label launch learn leave let list load log look mail make mark match measure memorise memorize
merge message monitor move notify note open order organise organize parse pass pay pick ping plan plot poll
post prepare prioritise prioritize process produce proofread propose publish pull push put query raise rank rate read
recommend reconcile record refresh remember remind rename reply report reschedule research respond retrieve
review rewrite run save scan score scrape screen search select send share show sort split start store submit
suggest sum summarise summarize sync tag take tell test tidy total track transcribe transform translate trigger turn
update upload use validate verify warn watch write
"""
)
GENERIC_VERBS = word_set("add do get give keep let make take use")
_STOPWORDS = word_set(
    """a an the this that these those my me i you your our us we it its he she they them their his her some any each
    every all both of in on at to from for with by about into onto over under and or but if when whenever while then
    than as is are was were be been being do does did have has had can could should would will may might must not no
    please so too very just also only there here what which who whom whose how why where new latest unread today
    today's yesterday's daily weekly important relevant recent incoming current whole entire something anything stuff
    things thing everything someone help persona agent bot assistant need want like us"""
)
_DROPPED = word_set(
    """a an the my our your their his her its this that these those all any each every some new latest
    unread today's yesterday's incoming recent important current whole entire me us of"""
)
_LEADING = word_set("through at for into up over on to out from after which whether if")
_FILLER = re.compile(
    r"^(?:(?:please|kindly|hi|hello|hey)[,!]?\s+|(?:can|could|would|will) you (?:please )?"
    r"|you (?:should|must|will) |i(?:'d| would) like (?:you )?to |i(?:'d| would) like |i (?:want|need) (?:you )?to "
    r"|i (?:want|need) |help me (?:to )?(?=\w+ )|(?:your|its|the) (?:job|task) is to |go and |always "
    r"|(?:do (?:this|the following)|run|start)[:,] |from now on,? "
    r"|(?:(?:create|build|make|design|set up|write|give me) )?(?:me )?(?:an?|the) (?:\w+ )?"
    r"(?:persona|agent|bot|assistant|helper|robot|automation)\b(?: named \S+)?,? ?"
    r"(?:(?P<third>that|which|who) |(?:to|for) )?|something (?P<third2>that|which) )",
    re.IGNORECASE,
)
_ROLE = re.compile(r"\s*(?:you are|you're|act as|be) (?:an?|the|my|our)\b", re.IGNORECASE)
DOMAIN = r"(?<![\w@./-])(?:[A-Za-z0-9-]{1,63}\.){1,4}(?:com|org|net|edu|gov|io|dev|eu|de|uk|fr|ch|nl|cz)(?!\w|\.\w|@)"
"""An address of the web that is written without its scheme."""
# What stands in quotes is a name or somebody's words: it stays.
_SPOKEN = re.compile(
    r"(?P<quoted>\"[^\"]*\"|“[^”]*”|(?<!\w)'[^']*'(?!\w))"
    r"|\b(?:I am|we are|I'm|we're|my|our|me|us|I|we|mine|your?)\b"
)
_WRAPPED_CHARS = 60  # a line this long was broken because it was long
_WATCHING = re.compile(r"^keep (?:an eye|watch) (?:on|over)\b", re.IGNORECASE)
_CONDITION = re.compile(
    r"^(?:if|when|whenever|unless|once|as soon as|in case|before|after|for each|for every|where|while|until)\b",
    re.IGNORECASE,
)


def without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text without these spans (start, end), and without the punctuation that they leave behind."""
    for start, end in sorted(set(spans), reverse=True):  # two triggers may stand in the same words
        text = f"{text[:start]} {text[end:]}"
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(?:,\s*)+([.;,])", r"\1", text)
    return re.sub(r"^(?:[\s,;:.]+|and\b|then\b)+|[\s,;:]+$", "", text.strip(), flags=re.IGNORECASE)


def unwrapped(text: str) -> str:
    """The text with the line breaks taken out that only wrap a sentence; those of lists and paragraphs stay.

    >>> unwrapped("read the invoices,\\nlist what is late\\n- then mail me")
    'read the invoices, list what is late\\n- then mail me'
    """
    lines = text.splitlines()
    joined = lines[:1]
    for line in lines[1:]:
        before = joined[-1].rstrip()
        is_wrapped = before.endswith(",") or (len(before) >= _WRAPPED_CHARS and before[-1:] not in ".:;!?")
        if is_wrapped and line.strip()[:1].islower():
            joined[-1] = f"{before} {line.strip()}"
        else:
            joined.append(line)
    return "\n".join(joined)


def clauses(text: str) -> list[str]:
    """The text as clauses, each a thing to do, in order; a condition stays with what follows it.

    >>> clauses("Please read my inbox and post a summary. If it is empty, tell me")
    ['read my inbox', 'post a summary', 'If it is empty, tell me']
    """
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?])\s+|[;\n]+", text):
        sentence, third_person = _without_filler(sentence.strip(" \t.!?,-•*"))
        if _ROLE.match(sentence):
            sentence, third_person = _task_of_role(sentence), True
        parts = [part.strip(" \t.,:") for part in _splitter(third_person).split(sentence)]
        found += _joined([part for part in parts if part], third_person)
    return found


def _task_of_role(sentence: str) -> str:
    """What somebody with that role does (“a tutor that explains …”); empty when only the role is named."""
    after = (
        sentence[match.end() :] for match in re.finditer(r"\b(?:that|which|who)\s+", sentence, re.IGNORECASE)
    )
    return next((rest for rest in after if verb_of(rest)), "")


def _without_filler(sentence: str) -> tuple[str, bool]:
    third_person, whole = False, sentence
    while match := _FILLER.match(sentence):
        if match.end() == 0 or match.end() >= len(sentence):
            break
        third_person |= bool(match["third"] or match["third2"])
        sentence = sentence[match.end() :]
    if sentence != whole and re.match(r"\w+ing\b", sentence):
        sentence = _imperative(sentence)  # “an assistant for sorting my mail”
    return re.sub(r"^\d+[.)]\s*", "", sentence), third_person


def _splitter(third_person: bool) -> re.Pattern[str]:
    verbs = "|".join(sorted(VERBS, key=len, reverse=True))
    forms = rf"(?:{verbs})(?:e?s)?" if third_person else rf"(?:{verbs})"
    # “in the morning, report …” is one more thing to do; “mail and report files” would be cut: an object follows
    verb = rf"(?=(?:please\s+|also\s+|always\s+)?{forms}\s+(?!and\b|or\b)\S)"
    return re.compile(
        rf"\s*,?\s+(?:and\s+)?(?:then|afterwards|finally)\s*,?\s+|\s*,\s*(?:and\s+|but\s+)?{verb}|\s+(?:and|but)\s+{verb}"
        r"|\s*,?\s+(?:and|but)\s+(?=(?:if|when|whenever|for each|for every|before|do not|don't|never)\b)"
        rf"|\s*,\s+(?=(?:do not|don't|never)\b)|(?<=\w):\s+{verb}",
        re.IGNORECASE,
    )


def _joined(parts: Sequence[str], third_person: bool) -> list[str]:
    found: list[str] = []
    for part in parts:
        head = found[-1] if found else ""
        if head and " " not in head and verb_of(head):
            found[-1] = f"{head} and {part}"  # “read and summarise my mail”
        elif head and _CONDITION.match(head) and not _has_verb(head):
            found[-1] = f"{head}, {part}"
        else:
            found.append(_imperative(part) if third_person else part)
    return found


def _has_verb(clause: str) -> bool:
    """Whether a conditional clause says already what to do: a comma, and a verb after it."""
    return any(verb_of(part.strip()) for part in clause.split(",")[1:])


def verb_of(clause: str) -> str:
    """The verb that a clause begins with, in its base form; empty when it begins with none we know.

    >>> verb_of("summarises my mail"), verb_of("the mail")
    ('summarise', '')
    """
    if _WATCHING.match(clause):
        return "watch"
    words = clause.split(maxsplit=1)
    word = words[0].lower().strip(",.:;!?“”\"'") if words else ""
    stems = [word, word.removesuffix("s"), word.removesuffix("es"), re.sub(r"ies$", "y", word)]
    if word.endswith("ing"):
        stems += [word[:-3], word[:-3] + "e", re.sub(r"(.)\1$", r"\1", word[:-3])]
    return next((stem for stem in stems if stem in VERBS), "")


def _imperative(clause: str) -> str:
    verb = verb_of(clause)
    return verb + clause[len(clause.split(maxsplit=1)[0]) :] if verb else clause


def content_words(text: str) -> list[str]:
    """The words that carry meaning, in lower case, each once."""
    words = re.findall(r"[^\W_][\w'’.-]*[^\W_]|[^\W_]", text.lower())
    return list(dict.fromkeys(word for word in words if word not in _STOPWORDS))


def sentence_of(clause: str) -> str:
    """The clause with a capital and a full stop."""
    clause = clause.strip().rstrip(".,;:")
    return clause[:1].upper() + clause[1:] + "."


def to_the_user(text: str) -> str:
    """The text as one says it to the person who wrote it.

    >>> to_the_user("Reads my inbox, tells me when I'm late, and compares what I give you")
    "Reads your inbox, tells you when you're late, and compares what you give it"
    """
    words = {"my": "your", "our": "your", "me": "you", "us": "you", "i": "you", "we": "you", "mine": "yours"}
    words |= {
        "i am": "you are",
        "we are": "you are",
        "i'm": "you're",
        "we're": "you're",
        "you": "it",
        "your": "its",
    }
    return _SPOKEN.sub(lambda match: match["quoted"] or words[match[0].lower()], text)


def summary_of(found: Sequence[str]) -> str:
    """The clauses as sentences about the persona.

    >>> summary_of(["read my inbox", "post a summary", "If it is empty, tell me"])
    'Reads your inbox, then posts a summary. If it is empty, tells you.'
    """
    sentences: list[str] = []
    for does, run in groupby(found[:5], key=lambda clause: bool(verb_of(clause))):
        if does:
            sentences.append(", then ".join(map(_third_person, run)))
        else:
            sentences += [
                re.sub(r"(?<=, )\w+", lambda match: _third_person(match[0]), clause, count=1)
                for clause in run
            ]
    if len(found) > 5:
        sentences[-1] += f", and {len(found) - 5} more"
    return " ".join(sentence_of(to_the_user(sentence)) for sentence in sentences)


def _third_person(clause: str) -> str:
    head, _, rest = clause.partition(" ")
    verb = head.lower()
    if verb not in VERBS:
        return clause
    if re.search(r"[^aeiou]y$", verb):
        verb = verb[:-1] + "ies"
    else:
        verb += "es" if re.search(r"(?:s|sh|ch|x|z|o)$", verb) else "s"
    return f"{verb} {rest}".strip()


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────

_PRODUCTS = word_set(
    "summary digest overview report newsletter table chart list tasks tickets reminder briefing draft"
)
_ROLES = (
    ("summarise summarize sum brief digest", "summary"),
    (
        "classify categorise categorize sort tag label group organise organize tidy prioritise prioritize",
        "sorter",
    ),
    ("translate", "translator"),
    ("clean validate verify deduplicate reconcile", "checker"),
    ("reply respond answer", "responder"),
    ("draft compose", "drafts"),
    ("approve confirm review", "reviewer"),
    ("proofread", "proofreader"),
    ("explain", "explainer"),
    ("extract parse", "extractor"),
    ("research compare analyse analyze", "analyst"),
    ("remind", "reminder"),
    ("tell notify alert warn inform ping", "watcher"),
    ("watch monitor track check", "watcher"),
    ("write create generate compile", "writer"),
)
_HEAD_END = re.compile(
    r"\s(?:in|from|for|of|to|with|about|on|into|onto|that|which|who|what|how|why|where|when|if|and|or|as|by|via|at"
    r"|under|over|after|before"
    r"|is|are|has|have|than|because|so|without|then|using|since|until|whether|against"
    r"|appears?|arrives?|comes?|lands?|changes?|has changed|i|we|you|they)\b|[,;:(]|$",
    re.IGNORECASE,
)


def name_of(found: Sequence[str], *, otherwise: Sequence[str] = ()) -> str:
    """A name of two to four words for a persona that does this; ``otherwise`` is its subject if none is named.

    >>> name_of(["read my inbox", "post a summary"])
    'Inbox summary'
    """
    subject = next((words for words in map(_object, found) if words), list(otherwise))
    known = [word.lower() for word in subject]
    words = [*subject[-2:], *(word for word in _product(found) if word not in known)]
    if not words:
        words = [word for clause in found for word in content_words(clause)][:3]
    if len(words) == 1:
        words.append("helper")
    name = " ".join(words[:4])
    return (name[:1].upper() + name[1:])[:200] or "Helper"


def _object(clause: str) -> list[str]:
    """The words of what the clause's verb acts on, without articles; none when it has no object of its own."""
    clause = _WATCHING.sub("watch", clause)
    if not verb_of(clause) and not _CONDITION.match(clause):
        return []
    words = clause.split()[1:]
    while words and words[0].lower() in _DROPPED | _LEADING:
        words.pop(0)
    rest = " ".join(words)
    if url := re.match(rf"https?://(?:www\.)?([^/\s:]+)|(?:(?:whether|if) )?({DOMAIN})", rest, re.IGNORECASE):
        return [url[1] or url[2]]
    product = re.match(rf"(?:{'|'.join(sorted(_PRODUCTS))})\s+(?:of|about|on)\s+(.+)", rest, re.IGNORECASE)
    rest = re.split(r"\s*https?://", product[1] if product else rest)[0]
    end = _HEAD_END.search(f" {rest}")
    head = rest[: max(end.start() - 1, 0)] if end else rest
    stems = re.findall(r"([\w-]{1,80})\.[A-Za-z]{2,5}\b", head)
    plain = re.sub(r"\S*[./]\S+|\S+/", " ", head)
    kept = [
        word for word in re.findall(r"[^\W_][\w'’-]*", plain) if word.lower() not in _STOPWORDS | _DROPPED
    ]
    kept = [word for word in kept if word.lower() not in _PRODUCTS]
    stems = stems or re.findall(r"([\w-]{1,80})\.[A-Za-z]{2,5}\b", rest)
    return kept or [re.sub(r"[_-]+", " ", stem) for stem in stems[:1]]


def _product(found: Sequence[str]) -> list[str]:
    """What comes out, or the role that the last telling verb gives."""
    for clause in reversed(found):
        acts_on = (
            clause.lower().split(" ", 1)[1:] if verb_of(clause) else [clause.lower()]
        )  # “list …” is no list
        for word in re.findall(r"[a-z]+", " ".join(acts_on)):
            if word in _PRODUCTS:
                return [word]
    verbs = [verb_of(part.strip()) for clause in found for part in clause.split(",")]
    for known, role in _ROLES:
        if any(verb and verb in known.split() for verb in verbs):
            return [role]
    return []
