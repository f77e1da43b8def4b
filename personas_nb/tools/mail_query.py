"""What somebody would type into Gmail's search field, as the criteria of IMAP's SEARCH.

``from: to: cc: subject: since: after: before: newer_than: older_than: is: larger: smaller:``, words, "phrases", a
minus before any of these for “not”, ``OR`` between two. A word is looked for anywhere in the mail.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

from personas_nb.errors import InvalidInput, did_you_mean

_TOKEN = re.compile(r'(-?)(?:([A-Za-z_]+):)?(?:"([^"]*)"|(\S+))')
_TEXTS = {"from": "FROM", "to": "TO", "cc": "CC", "bcc": "BCC", "subject": "SUBJECT"}
_DATES = {"since": "SINCE", "after": "SINCE", "before": "BEFORE"}
_AGES = {"newer_than": "SINCE", "older_than": "BEFORE"}
_STATES = {
    "unread": "UNSEEN", "read": "SEEN", "starred": "FLAGGED", "unstarred": "UNFLAGGED", "answered": "ANSWERED",
}  # fmt: skip
_SIZES = {"larger": "LARGER", "smaller": "SMALLER"}
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_KNOWN = (*_TEXTS, *_DATES, *_AGES, "is", *_SIZES)
TERMS_LIMIT = 50


def criteria(query: str, today: date) -> str:
    """The criteria of SEARCH; raises ``InvalidInput`` for what it cannot say.

    >>> criteria('from:bank subject:"your statement" is:unread -draft', date(2026, 11, 20))
    'FROM "bank" SUBJECT "your statement" UNSEEN NOT TEXT "draft"'
    >>> criteria("invoice OR bill newer_than:7d", date(2026, 11, 20))
    'OR TEXT "invoice" TEXT "bill" SINCE 13-Nov-2026'
    """
    terms: list[str] = []
    is_or = False
    for minus, name, phrase, word in _TOKEN.findall(query):
        if word == "OR" and not name and not minus:
            is_or = bool(terms)
            continue
        if (term := _term(name.lower(), phrase or word, today)) is None:
            continue
        term = f"NOT {term}" if minus else term
        terms.append(f"OR {terms.pop()} {term}" if is_or else term)
        is_or = False
    if len(terms) > TERMS_LIMIT:
        raise InvalidInput(f"The search has more than {TERMS_LIMIT} parts.", hint="Ask for less at once.")
    return " ".join(terms) or "ALL"


def _term(name: str, value: str, today: date) -> str | None:
    if not value.strip():
        return None
    if name in _DATES:
        return f"{_DATES[name]} {_imap(_date(name, value))}"
    if name in _AGES:
        found = re.fullmatch(r"(\d{1,4})([dwmy])", value.lower())
        if not found:
            raise InvalidInput(f"“{name}:{value}” is no age.", hint=f"Write {name}:7d, 2w, 3m or 1y.")
        return f"{_AGES[name]} {_imap(_days_before(today, int(found[1]) * _DAYS[found[2]]))}"
    if name == "is":
        if value.lower() not in _STATES:
            raise InvalidInput(f"“is:{value}” is unknown.", hint=f"There are is:{', is:'.join(_STATES)}.")
        return _STATES[value.lower()]
    if name in _SIZES:
        found = re.fullmatch(r"(\d{1,9})([km]?)b?", value.lower())
        if not found:
            raise InvalidInput(f"“{name}:{value}” is no size.", hint=f"Write {name}:500k or {name}:5m.")
        return f"{_SIZES[name]} {int(found[1]) * {'': 1, 'k': 1024, 'm': 1024**2}[found[2]]}"
    if name in _TEXTS:
        return f"{_TEXTS[name]} {quoted(value)}"
    if name in ("has", "in", "label", "category", "filename", "list", "rfc822msgid", "deliveredto"):
        raise InvalidInput(f"“{name}:” cannot be asked of a mailbox.", hint=f"There are {', '.join(_KNOWN)}.")
    if name and did_you_mean(name, _KNOWN):
        raise InvalidInput(f"“{name}:” is unknown.", hint=did_you_mean(name, _KNOWN))
    return f"TEXT {quoted(f'{name}:{value}' if name else value)}"  # “Re:”, a time, an address


def quoted(text: str) -> str:
    """A text as IMAP quotes it, on one line: a line end would begin another command.

    >>> print(quoted('say "yes"\\r\\nA1 LOGOUT'))
    "say \\"yes\\" A1 LOGOUT"
    """
    plain = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _date(name: str, value: str) -> date:
    try:
        year, month, day = map(int, re.split(r"[-/.]", value))
        return date(year, month, day)
    except ValueError:
        hint = f"Write {name}:2026-11-20."
        raise InvalidInput(f"“{name}:{value}” is no date.", hint=hint) from None


def _days_before(day: date, count: int) -> date:
    return day - timedelta(days=min(count, day.toordinal() - 1))


def _imap(day: date) -> str:
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year:04d}"
