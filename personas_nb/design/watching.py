"""What is to be noticed as it happens and that nobody announces: a page that changes, a mail that arrives.

Such a wish becomes a poll. A page is polled by its address, which starts the persona only when the answer has
changed; mails, files and entries are looked for at an interval.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from personas_nb.design.prose import DOMAIN
from personas_nb.design.schedules import Schedule
from personas_nb.design.schedules.plans import interval_in_words

PAGE_SECONDS = 3600
ARRIVAL_SECONDS = 900

_I = re.IGNORECASE
_URL = re.compile(rf"https?://[^\s,;)\"'”»]*[^\s,;)\"'”».:!?]|{DOMAIN}", _I)
_CHANGE = re.compile(
    r"\b(?:chang(?:es?|ed|ing)|is updated|gets updated|(?:has|have) been (?:updated|changed|modified)"
    r"|(?:is|are|has|have) (?:something |anything )?(?:new|different)|differs|when (?:it|that page) updates)\b",
    _I,
)
_NOT_CHANGED_BY = re.compile(r"\bchang(?:es?|ed)\s+by\b|\bthe (?:latest )?changes?\b|\bchange ?logs?\b", _I)
_ARRIVES = re.compile(
    r"\b(?:when(?:ever)?|as soon as|each time|every time|any time|once|if)\s+(?:there (?:is|are)\s+)?"
    r"(?:(?:an?|any|the|my|our|each|every|another|some|new|incoming|unread)\s+)*"
    r"(?P<what>[\w-]+(?:\s+[\w-]+)?)\s+(?:(?!and\b|or\b)[\w@.’'/-]+\s+){0,6}?"
    r"(?:arrives?|comes? in|lands?|appears?|shows? up|drops? in|pops? up"
    r"|gets? (?:opened|created|added|published|posted)"
    r"|(?:is|are|has been|have been) (?:received|added|dropped|saved|put|uploaded|created|opened|published|posted))\b",
    _I,
)
_SOMEBODY = re.compile(
    r"\b(?:when(?:ever)?|as soon as|each time|every time|any time|if)\s+"
    r"(?:someone|somebody|anyone|anybody|people|an?\s+[\w-]+)\s+"
    r"(?:opens?|creates?|submits?|posts?|publishes|uploads?|sends?|writes?|adds?|drops?|saves?|puts?|files?)\s+"
    r"(?:(?:me|us|in|an?|any|the|another|some|new|his|her|their)\s+)*(?P<what>[\w-]+(?:\s+[\w-]+)?)",
    _I,
)
_THINGS = re.compile(
    r"^(?P<mail>e-?mails?|mails?|newsletters?|messages?)|^(?P<file>files?|csvs?|pdfs?|documents?|logs?"
    r"|spreadsheets?|exports?|scans?|reports?|notebooks?)|^(?P<web>issues?|pull requests?|tickets?"
    r"|releases?|entr(?:y|ies)|posts?|articles?|papers?|commits?|comments?|jobs?|listings?|videos?|episodes?|versions?)",
    _I,
)


def watched(text: str, schedules: Sequence[Schedule]) -> list[Schedule]:
    """The schedules of a text, with a poll for what is to be noticed as it happens.

    >>> [one.config for one in watched("Tell me when https://example.com/jobs changes", [])]
    [{'interval_seconds': 3600, 'url': 'https://example.com/jobs'}]
    """
    url = _watched_address(text)
    if url and not schedules:
        words = f"every hour, when {url} has changed (interval assumed)"
        return [Schedule("polling", {"interval_seconds": PAGE_SECONDS, "url": url}, words, (0, 0), "")]
    if url:
        return [_of_page(one, url) for one in schedules]
    what = None if schedules else _arriving(text)
    if what is None:
        return list(schedules)
    words = f"{interval_in_words(ARRIVAL_SECONDS)} (interval assumed)"
    note = f"Nothing announces {what}, so it looks {interval_in_words(ARRIVAL_SECONDS)}."
    return [Schedule("polling", {"interval_seconds": ARRIVAL_SECONDS}, words, (0, 0), "", note)]


def _watched_address(text: str) -> str:
    """The one address of a sentence that is about its change; empty if there is none."""
    for sentence in re.split(r"(?<=[.!?;])\s+|\n", text):
        addresses = list(dict.fromkeys(_URL.findall(sentence)))
        plain = _URL.sub(" ", sentence)
        if len(addresses) == 1 and _CHANGE.search(plain) and not _NOT_CHANGED_BY.search(plain):
            return addresses[0] if "://" in addresses[0] else f"https://{addresses[0]}"
    return ""


def _of_page(one: Schedule, url: str) -> Schedule:
    """A pace as a poll of that address; a schedule at a time of day stays what it is."""
    seconds = _pace_seconds(one)
    if not seconds:
        return one
    words = f"{interval_in_words(seconds)}, when {url} has changed"
    config = {"interval_seconds": seconds, "url": url}
    return replace(one, trigger_type="polling", config=config, description=words)


def _pace_seconds(one: Schedule) -> int:
    if one.trigger_type == "polling":
        return int(one.config["interval_seconds"])
    minute, hour, *days = str(one.config.get("cron", "")).split() or ["", ""]
    if days != ["*", "*", "*"]:
        return 0
    if hour == "*" and (match := re.fullmatch(r"\*(?:/(\d+))?", minute)):
        return int(match[1] or 1) * 60
    if minute == "0" and (match := re.fullmatch(r"\*(?:/(\d+))?", hour)):
        return int(match[1] or 1) * 3600
    return 0


def _arriving(text: str) -> str | None:
    """What is to be noticed, in words: “new mail”; None when nothing is."""
    for match in (*_ARRIVES.finditer(text), *_SOMEBODY.finditer(text)):
        thing = _THINGS.match(match["what"]) or _THINGS.match(match["what"].split()[-1])
        around = text[match.start() : match.end() + 25]
        if not thing and re.search(r"\b(?:e-?mail|mail|inbox|mailbox)\b", around, _I):
            return "new mail"
        if thing:
            return (
                "new mail" if thing["mail"] else "a new file" if thing["file"] else f"new {_many(thing[0])}"
            )
    return None


def _many(noun: str) -> str:
    noun = noun.lower()
    return noun if noun.endswith("s") else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
