"""What a sentence forbids altogether: sending, writing files, the web.

“Never send anything” takes the tool away; “never send anything before I approve” and “never the same mail twice” are
rules for using it, and stay what they are: instructions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORBIDS = re.compile(
    r"^(?:(?:but|and|please|also)\b[:,]?\s*)*(?:never|do not|don['’]?t|avoid|no)\b"
    r"(?!\s+(?:forget|hesitate|fail|worry|need to|matter)\b)",
    re.IGNORECASE,
)
_WITHOUT = re.compile(r"\b(?:without|instead of)\s+[a-z]+ing\b[^,.;]*", re.IGNORECASE)
_IS_A_RULE = re.compile(
    r"\b(?:twice|again|before|without|until|unless|except|more than|the same|if|when|other than)\b",
    re.IGNORECASE,
)
_ANY = r"(?:any|a|new|more|out)"
_TOOLS = {
    "gmail_send": (
        rf"\b(?:send|forward|mail)(?:s|ing)?(?:\s+{_ANY})*\s+(?:anything|them|it|e-?mails?|mails?|replies|answers|out)\b(?!\s+to\b)"
        r"|\b(?:reply|answer|respond)(?:ing)?(?:\s+to\s+(?:anyone|anybody|them|it|(?:any\s+)?e?-?mails?))?\s*$"
    ),
    "file_write": (
        rf"\b(?:write|save|create|make|writing|saving|creating|making)(?:\s+to)?(?:\s+{_ANY})*\s+"
        r"(?:files?|anything|reports?)\b|^no (?:new )?files?\b"
    ),
    "http_request": (
        r"\b(?:use|using|go|going|access|call|search|browse|reach|touch)\w*\s+(?:to\s+|on\s+|onto\s+|any\s+|the\s+)*"
        r"(?:web|internet|network|online|apis?|websites?)\b|^no (?:web|internet|network)\b"
    ),
}


def forbids(clause: str) -> bool:
    """Whether a clause says what not to do.

    >>> forbids("never send anything"), forbids("don't forget the date")
    (True, False)
    """
    return bool(_FORBIDS.match(clause))


def without_refusals(clause: str) -> str:
    """A clause without what it says is not to be done, for looking up what its words stand for.

    >>> without_refusals("sum up sales.csv without writing a file")
    'sum up sales.csv '
    """
    return "" if forbids(clause) else _WITHOUT.sub("", clause)


def forbidden_tools(clauses: Iterable[str]) -> frozenset[str]:
    """The tools that may not be used at all.

    >>> sorted(forbidden_tools(["draft replies", "never send them", "never write the same file twice"]))
    ['gmail_send']
    """
    refusals = [
        part
        for clause in clauses
        for part in ([clause] if forbids(clause) else _WITHOUT.findall(clause))
        if not _IS_A_RULE.search(part.partition(" ")[2])
    ]
    return frozenset(
        tool
        for tool, words in _TOOLS.items()
        if any(re.search(words, part, re.IGNORECASE) for part in refusals)
    )
