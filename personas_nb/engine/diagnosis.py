"""What a failure is, and what helps against it, in words for people.

- The typed kind of an error decides; its text is read only where the kind says nothing.
- The text is read with the boundaries of its words, and a number that counts something is no status:
  “4010 rows” and “401 rows” are no 401. “not found” says nothing by itself: it must speak of the CLI.
- Titles hold nothing that differs from run to run, because an issue is known again by its title.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from personas_nb.engine.models import KEY_VARIABLES
from personas_nb.entities.execution import Execution
from personas_nb.entities.persona import Persona

Category = Literal["RateLimit", "SessionLimit", "Timeout", "CliNotFound", "CredentialError", "Unknown"]

NOT_RETRIED = "not_retried"
"""The ``error_kind`` of a retry that ``Healing.recheck`` refused: it never began."""

DISABLED = "disabled"
"""The ``error_kind`` of a queued run whose persona was disabled before it began: nothing is to be mended."""

TEXT_LIMIT_CHARS = 20_000
TITLE_LIMIT_CHARS = 200

_CATEGORIES: dict[str, Category] = {
    "rate_limit": "RateLimit",
    "overloaded": "RateLimit",
    "session_limit": "SessionLimit",
    "timeout": "Timeout",
    "cli_not_found": "CliNotFound",
    "credential": "CredentialError",
    "vault_error": "CredentialError",
    "key_unavailable": "CredentialError",
}
_SAYS_NOTHING = (None, "", "unknown", "cli")

_STATUS = re.compile(r"(?<![\w.,$€£/#-])(?:401|403|429|529)(?![\w%/]|[.,:]\d|\s*%)")
_NUMBERED = re.compile(
    r"\b(?:line|row|page|port|column|col|item|record|number|no|id|nr)\b\.?\s*[:=]?\s*$", re.IGNORECASE
)
_COUNTED = re.compile(
    r"\s+(?:rows?|records?|lines?|items?|files?|entries|results?|pages?|words?|char(?:acter)?s?|messages?|mails?"
    r"|emails?|tokens?|times|bytes?|[kmg]i?b|ms|s|sec(?:ond)?s?|minutes?|hours?|days?|usd|eur|dollars?|euros?)\b",
    re.IGNORECASE,
)
_STATUS_CATEGORIES: dict[str, Category] = {
    "401": "CredentialError",
    "403": "CredentialError",
    "429": "RateLimit",
    "529": "RateLimit",
}

_CLAUDE = r"(?<![\w./-])claude(?:[ -](?:code|cli))?(?![\w/-]|\.\w)"
_ABSENT = r"(?:not (?:be )?found|not installed|not recognized|no such file or directory|ENOENT)\b"
_BETWEEN = r"(?:[\s:'\"`“”‘’]|\b(?:code|cli|executable|binary|command|program|was|is|could|can)\b){1,10}"
# In this order: a session limit may be told with a 429, which would be tried again in vain.
_WORDS: tuple[tuple[Category, re.Pattern[str]], ...] = (
    (
        "SessionLimit",
        re.compile(
            r"\b(?:session|weekly|(?:5|five)[ -]hour)[ _-]limit\b"
            r"|\busage limit (?:(?:was|is|has been) )?reached\b",
            re.IGNORECASE,
        ),
    ),
    (
        "RateLimit",
        re.compile(
            r"\brate[ _-]?limit(?:s|ed|ing)?(?:_error|_exceeded)?\b|\btoo many requests\b|\boverloaded_error\b",
            re.IGNORECASE,
        ),
    ),
    (
        "Timeout",
        re.compile(
            r"\btimed[ -]out\b|(?<![\w-])time-?out(?![\w=-])|\bdeadline exceeded\b|\bETIMEDOUT\b"
            r"|\bTimeout(?:Error|Expired|Exception)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "CliNotFound",
        re.compile(
            r"\bspawn\b[^\n]{0,200}?\bENOENT\b|\bENOENT\b[^\n]{0,40}?\bspawn\b|\bCLINotFound(?:Error)?\b"
            rf"|(?:{_CLAUDE}|(?<![\w./-])cli\b(?!-)){_BETWEEN}{_ABSENT}"
            r"|\b(?:not found|no such file or directory|ENOENT)[:,\s'\"`]{1,4}(?:\S{0,200}/)?claude(?![\w./-])"
            r"|\b(?:cannot|can't|could not|couldn't) find (?:the )?claude(?![\w./-])",
            re.IGNORECASE,
        ),
    ),
    (
        "CredentialError",
        re.compile(
            r"\bdecrypt(?:s|ed|ing|ion)?\b|(?<![\w/])(?:x-)?api[ _-]?keys?(?!\w)|\bunauthori[sz]ed\b|\bforbidden\b"
            r"|\bauthentication[ _](?:error|failed|required)\b|\binvalid credentials?\b",
            re.IGNORECASE,
        ),
    ),
)

# kind: (what happened, what to do). {slug} names the persona in a verb, {run} the run.
_BUDGET_RULE = "budget_rule"
_UNKNOWN = "`%persona runs show {run}` has all that happened in it; then `%persona run {slug}`."
_WORDINGS: dict[str, tuple[str, str]] = {
    "rate_limit": (
        "The provider's rate limit was reached.",
        "Wait some minutes, then `%persona run {slug}`; fewer runs at once help too.",
    ),
    "overloaded": (
        "The provider was overloaded or unavailable.",
        "Wait until it is well again, then `%persona run {slug}`.",
    ),
    "session_limit": (
        "The session limit of the Claude login was reached.",
        "Wait until it is reset, then `%persona run {slug}`; with ANTHROPIC_API_KEY and the setting "
        "claude_login at “key” it does not depend on the login.",
    ),
    "timeout": (
        "It took longer than its time limit.",
        "Give it longer with `%persona set {slug} timeout_ms={longer_ms}`, or ask for less in one run.",
    ),
    "cli_not_found": (
        "The Claude CLI was not found.",
        'Install it with `pip install "personas-nb[claude]"` or name it in the setting cli_path; '
        "`%persona set {slug} model_profile.engine=direct` goes without it.",
    ),
    "credential": (
        "The provider's key is missing or was refused.",
        "Check {key} (`%persona runs show {run}` has the reason), then `%persona run {slug}`.",
    ),
    "vault_error": (
        "A stored secret could not be opened.",
        "`%persona health` says whether its key is there; then `%persona run {slug}`.",
    ),
    "budget": (
        "It went over its budget.",
        "See `%persona costs {slug}`; give it more with `%persona set {slug} max_budget_usd=…`, or ask for less.",
    ),
    _BUDGET_RULE: (
        "A budget rule does not allow it.",
        "`%persona runs show {run}` says which rule, what is left of it, and how to lift it.",
    ),
    "turns": (
        "It reached its limit of turns.",
        "Give it more with `%persona set {slug} max_turns=…`, or ask for less in one run.",
    ),
    "tokens": (
        "It reached a limit of tokens.",
        "Give it less to read, or a model that reads more with `%persona set {slug} model_profile.model=…`; "
        "where the price is unknown, the setting unknown_price_token_limit holds.",
    ),
    "not_found": (
        "The provider does not know the model.",
        "Spell it as the provider does: `%persona set {slug} model_profile.model=…`.",
    ),
    "rejected": (
        "The provider rejected the request.",
        "`%persona runs show {run}` has its reason; change the persona or its input, for the same again would be "
        "rejected again.",
    ),
    "bad_answer": (
        "The provider answered with something that cannot be used.",
        "Try `%persona run {slug}` once more; if it stays so, check the base_url in `%persona show {slug}`, or "
        "choose another model.",
    ),
    "connection": (
        "The provider could not be reached, or the connection broke.",
        "Check the network and the base_url in `%persona show {slug}`, then `%persona run {slug}`.",
    ),
    "cli": (
        "The Claude CLI failed.",
        "`%persona runs show {run}` has what it said; update it with `pip install -U claude-agent-sdk`, or go "
        "without it: `%persona set {slug} model_profile.engine=direct`.",
    ),
    "store_error": (
        "The database could not be used.",
        "`%persona health` says why; then `%persona run {slug}`.",
    ),
    "invalid_config": (
        "A setting cannot be used.",
        "`%persona runs show {run}` names it; correct it, then `%persona run {slug}`.",
    ),
    NOT_RETRIED: ("", "Put that right, then `%persona run {slug}`."),
}
_SAME_WORDS = {
    "key_unavailable": "vault_error",
    "store_read_only": "store_error",
    "store_corrupt": "store_error",
    "store_too_new": "store_error",
}
_KIND_OF: dict[Category, str] = {
    "RateLimit": "rate_limit",
    "SessionLimit": "session_limit",
    "Timeout": "timeout",
    "CliNotFound": "cli_not_found",
    "CredentialError": "credential",
}


@dataclass(frozen=True)
class Diagnosis:
    """A failure's category, what happened in one sentence, and the next step."""

    category: Category
    title: str
    remedy: str


def classify(error_kind: str | None, error: str) -> Category:
    """The category of a failure: by its kind, else (None, ``unknown``, ``cli``) by its text.

    >>> classify("overloaded", ""), classify(None, "HTTP 401"), classify(None, "It read 4010 rows.")
    ('RateLimit', 'CredentialError', 'Unknown')
    """
    if error_kind not in _SAYS_NOTHING:
        return _CATEGORIES.get(str(error_kind), "Unknown")
    text = (error or "")[:TEXT_LIMIT_CHARS]
    found = {category for category, words in _WORDS if words.search(text)} | _by_status(text)
    return next((category for category, _words in _WORDS if category in found), "Unknown")


def diagnose(failed: Execution, persona: Persona, *, timeout_ms: int) -> Diagnosis:
    """What a failed run's error means, and the verb to type next; ``timeout_ms`` is how long it might take."""
    error = failed.error or ""
    category = classify(failed.error_kind, error)
    kind = _SAME_WORDS.get(failed.error_kind or "", failed.error_kind or "")
    if failed.error_kind in _SAYS_NOTHING:
        kind = _KIND_OF.get(category, kind)
    if kind == "budget" and failed.engine is None:  # it was refused before anything of it began
        kind = _BUDGET_RULE
    title, step = _WORDINGS.get(kind, ("", _UNKNOWN))
    variable = KEY_VARIABLES.get(failed.provider or "")
    words = {
        "slug": persona.slug,
        "run": failed.id[:8],
        "longer_ms": timeout_ms * 2,
        "key": f"{variable} or the persona's auth_token" if variable else "the persona's auth_token",
    }
    return Diagnosis(category, title or _from_error(error), step.format_map(words))


def _by_status(text: str) -> set[Category]:
    return {
        _STATUS_CATEGORIES[found[0]]
        for found in _STATUS.finditer(text)
        if not _COUNTED.match(text, found.end())
        and not _NUMBERED.search(text[max(0, found.start() - 20) : found.start()])
    }


def _from_error(error: str) -> str:
    line = " ".join(error.split())
    if not line:
        return "It failed without saying why."
    return line if len(line) <= TITLE_LIMIT_CHARS else f"{line[: TITLE_LIMIT_CHARS - 1].rstrip()}…"
