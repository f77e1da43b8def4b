"""What went wrong with a model, in words for people: every client's exception becomes a ``ModelError``.

- The type decides, never the text, with two exceptions: usage limits name the limit in their message only, and
  some servers say with a 400 what others say with a 401 or a 404.
- The error itself comes first, then the members of a group, then its causes: what a wrapper does not say,
  the error inside it may.
- Types are looked up by name in modules that are already loaded. An error of a module that was never
  imported cannot exist, so nothing is imported to classify one.
- A sentence names the provider and what happened. What the provider wrote is quoted only where it is the
  reason (a rejected request), on one line, with every key taken out of it.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from personas_nb.engine.models import KEY_VARIABLES
from personas_nb.errors import ModelError

_NAMES = {
    "anthropic": "Anthropic",
    "openai": "OpenAI",
    "litellm": "LiteLLM",
    "ollama": "Ollama",
    "custom": "the model server",
    "rehearsal": "the rehearsal model",
}
_KEY_VARIABLES = {**KEY_VARIABLES, "openai": KEY_VARIABLES["custom"]}

# (module, class, reason), the more specific class first. A reason is a kind, or refines one: see _REASONS.
_TYPES = (
    ("pydantic_ai.exceptions", "UsageLimitExceeded", "limit"),
    ("pydantic_ai.exceptions", "ModelRateLimitError", "rate_limit"),
    ("pydantic_ai.exceptions", "ModelQuotaExceededError", "no_credit"),
    ("pydantic_ai.exceptions", "ModelContextWindowExceededError", "too_long"),
    ("pydantic_ai.exceptions", "ModelAuthenticationError", "credential"),
    ("pydantic_ai.exceptions", "ModelNotFoundError", "not_found"),
    ("pydantic_ai.exceptions", "ModelRequestRejectedError", "rejected"),
    ("pydantic_ai.exceptions", "ModelUnavailableError", "overloaded"),
    ("pydantic_ai.exceptions", "ModelServerError", "server"),
    ("pydantic_ai.exceptions", "ModelTimeoutError", "timeout"),
    ("pydantic_ai.exceptions", "ModelRequestTimeout", "timeout"),
    ("pydantic_ai.exceptions", "RunTimedOut", "run_timeout"),
    ("pydantic_ai.exceptions", "ModelConnectionError", "transport"),
    ("pydantic_ai.exceptions", "ModelHTTPError", "status"),
    ("pydantic_ai.exceptions", "OutputTokenLimitExceeded", "answer_too_long"),
    ("pydantic_ai.exceptions", "ContentFilterError", "refused"),
    ("pydantic_ai.exceptions", "UnexpectedModelBehavior", "bad_answer"),
    ("pydantic_ai.exceptions", "ModelAPIError", "api"),
    *(
        (sdk, name, reason)
        for sdk in ("anthropic", "openai")
        for name, reason in (
            ("APITimeoutError", "timeout"),
            ("APIConnectionError", "transport"),
            ("APIResponseValidationError", "bad_answer"),
            ("APIStatusError", "status"),
        )
    ),
    *(
        (client, name, reason)
        for client in ("httpx2", "httpx")
        for name, reason in (
            ("ConnectTimeout", "unreachable"),
            ("TimeoutException", "timeout"),
            ("HTTPStatusError", "status"),
            ("ConnectError", "unreachable"),
            ("TransportError", "cut"),
            ("StreamError", "cut"),
            ("DecodingError", "bad_answer"),
        )
    ),
    ("anyio", "BrokenResourceError", "cut"),
    ("anyio", "ClosedResourceError", "cut"),
    ("anyio", "EndOfStream", "cut"),
    ("json", "JSONDecodeError", "bad_answer"),
    ("ssl", "SSLError", "unreachable"),
    ("socket", "gaierror", "unreachable"),
    ("builtins", "ConnectionRefusedError", "unreachable"),
    ("builtins", "ConnectionError", "cut"),
    ("builtins", "TimeoutError", "timeout"),
)

_STATUSES = {
    401: "credential",
    402: "no_credit",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    409: "overloaded",
    413: "too_long",
    425: "overloaded",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}
# what a server writes into a 400 that is no fault of the request, and what it means
_SAID = (
    ("No connected db", "credential"),  # LiteLLM without a database, of any key but its master key
    ("Invalid model name passed in", "not_found"),  # LiteLLM
    ("does not support tools", "no_tools"),  # Ollama
)
# “Exceeded the `cost_limit` of 0.5 (`usage.cost`=Decimal('0.63'))”, “… exceed the request_limit of 3.”
_LIMIT = re.compile(
    r"(?P<what>\w+)_limit`? of (?P<limit>[\d.E+-]*\d)(?: \(`[\w.]*cost`=Decimal\('(?P<spent>[\d.E+-]+)')?"
)
# a provider may repeat the key it was given, whole or masked in the middle
_KEY = re.compile(r"\b(?:(?:sk|pk|rk|gsk|hf|xai|r8)[-_]|AIza|(?i:bearer\s+))[\w.*~+/=-]{6,}")

# reason: (kind, may the same call succeed later, sentence, next step)
_REASONS: dict[str, tuple[str, bool, str, str]] = {
    "rate_limit": (
        "rate_limit",
        True,
        "{provider} refused the request because its rate limit is reached.",
        "Wait {wait}, then run again; fewer runs at once help too.",
    ),
    "no_credit": (
        "credential",
        False,
        "{provider} says that the account has no credit or quota left.",
        "Top it up or raise its limit at the provider, then run again.",
    ),
    "credential": (
        "credential",
        False,
        "{provider} did not accept the key.",
        "Check the key in {key}, then run again.",
    ),
    "forbidden": (
        "credential",
        False,
        "{provider} does not allow this key to use {model}.",
        "Give {key} a key that may, or choose another model.",
    ),
    "not_found": (
        "not_found",
        False,
        "{provider} does not know {model}.",
        "{suggestion}Check model and base_url in the persona's model_profile.",
    ),
    "rejected": (
        "rejected",
        False,
        "{provider} rejected the request{quote}.",
        "Change the persona or its input; the same request would be rejected again.",
    ),
    "no_tools": (
        "rejected",
        False,
        "{model} cannot call tools, and personas work with them.",
        "Choose a model that can, in the persona's model_profile.",
    ),
    "refused": (
        "rejected",
        False,
        "{provider} withheld the answer because of its content policy.",
        "Change the instructions or the input.",
    ),
    "too_long": (
        "tokens",
        False,
        "The text is longer than {model} can read at once.",
        "Give less input or fewer files, or choose a model with a larger context window.",
    ),
    "answer_too_long": (
        "tokens",
        False,
        "The answer of {provider} was cut off at the model's output limit.",
        "Ask for a shorter answer, or split the work into several runs.",
    ),
    "overloaded": (
        "overloaded",
        True,
        "{provider} is overloaded or unavailable at the moment.",
        "Wait {wait}, then run again.",
    ),
    "server": (
        "overloaded",
        True,
        "{provider} failed with an error of its own{status}.",
        "Wait {wait}, then run again; if it stays, look at the provider's status page.",
    ),
    "timeout": (
        "timeout",
        True,
        "{provider} did not answer in time.",
        "Run again, or give it longer with --timeout.",
    ),
    "run_timeout": (
        "timeout",
        True,
        "The run was not finished within its time.",
        "Run again, or give it longer with --timeout.",
    ),
    "unreachable": (
        "connection",
        True,
        "{provider} could not be reached.",
        "Check the network and the base_url in the persona's model_profile, then run again.",
    ),
    "cut": (
        "connection",
        True,
        "The connection to {provider} broke before the answer was complete.",
        "Run again.",
    ),
    "bad_answer": (
        "bad_answer",
        False,
        "{provider} answered with something that cannot be used.",
        "Run again; if it stays, check base_url, or choose another model.",
    ),
    "unknown": (
        "unknown",
        False,
        "{provider} failed in an unexpected way ({type}).",
        "Run again; if it stays, the log has the whole error.",
    ),
    "cost": (
        "budget",
        False,
        "The run went over its budget of {limit} USD{spent}.",
        "Raise it with --max-budget-usd, or ask for less.",
    ),
    "request": (
        "turns",
        False,
        "The run reached its limit of {limit} turns.",
        "Raise it with --max-turns, or ask for less in one run.",
    ),
    "tool_calls": (
        "turns",
        False,
        "The run reached its limit of {limit} tool calls.",
        "Raise the limit, or ask for less in one run.",
    ),
    "tokens": (
        "tokens",
        False,
        "The run reached its limit of {limit} tokens.",
        "Raise the limit, or ask for less in one run.",
    ),
}

# the next step where a provider has one of its own
_STEPS = {
    ("ollama", "not_found"): "Get it with `ollama pull {name}`, or choose another model.",
    ("ollama", "unreachable"): "Start it with `ollama serve`, or check the base_url, then run again.",
    ("litellm", "not_found"): "{suggestion}Check the model against the proxy's model_list, and the base_url.",
    (
        "litellm",
        "unreachable",
    ): "Start the proxy with `litellm --config FILE`, or check the base_url, then run again.",
}


def to_model_error(error: BaseException, *, provider: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means; ``error`` is its ``__cause__``.

    ``error`` is whatever ended a model run: an error of pydantic-ai, of a provider's client or of HTTP, a
    timeout, or a group of them. A ``ModelError`` inside it is returned as it is. What nobody recognises
    becomes kind ``unknown``.

    >>> to_model_error(TimeoutError(), provider="ollama").kind
    'timeout'
    """
    for candidate in _related(error):
        if isinstance(candidate, ModelError):
            return candidate
        if (reason := _reason(candidate)) is not None:
            return _made(reason, candidate, error, provider)
    return _made("unknown", error, error, provider)


def status_to_model_error(
    status: int, *, provider: str, message: str = "", retry_after_seconds: float | None = None
) -> ModelError:
    """The ``ModelError`` for an HTTP status, for engines that see only that.

    >>> status_to_model_error(529, provider="anthropic").message
    'Anthropic is overloaded or unavailable at the moment.'
    """
    facts = _Facts(status=status, quote=_without_keys(message), retry_after_seconds=retry_after_seconds)
    return _worded(_reason_of_status(status, message) or "unknown", provider, facts)


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a response asks to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.

    None when it does not say, or says nonsense; a date in the past is 0. ``headers`` may be in any case. LiteLLM
    passes on what the provider behind it said as ``llm_provider-retry-after``; its own word comes first.

    >>> retry_after_seconds({"Retry-After": "7"})
    7.0
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    lower = {name.removeprefix("llm_provider-"): value for name, value in lower.items()} | lower
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(lower[name]) / unit
        except (KeyError, ValueError):
            continue
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        date = parsedate_to_datetime(lower["retry-after"])
    except (KeyError, ValueError, OverflowError):
        return None
    moment = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def traceback_of(error: BaseException) -> str:
    """The error with its causes and where each was raised, without the keys that were sent or what looks like one."""
    bodies = [body for each in _related(error) if (body := getattr(each, "body", None)) is not None]
    said = "".join(f"The server said: {body}\n" for body in bodies[:1])
    return _without_known_keys("".join(traceback.format_exception(error)) + said, *_sent_keys(error))


def name_of(provider: str) -> str:
    """What a provider is called at the beginning of a sentence.

    >>> name_of("custom")
    'The model server'
    """
    name = _NAMES.get(provider, provider)
    return name[:1].upper() + name[1:]


# --- which reason ---------------------------------------------------------------------------------------


def _related(error: BaseException) -> Iterator[BaseException]:
    """The error, then the members of a group and the causes, each once, nearest first.

    Contexts are left out: an error of a tool that was raised while a connection broke is no broken connection.
    """
    waiting, seen = deque([error]), set[int]()
    while waiting:
        current = waiting.popleft()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        if current.__cause__ is not None:
            waiting.append(current.__cause__)


def _reason(error: BaseException) -> str | None:
    for module, name, reason in _TYPES:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return _refined(reason, error)
    return None


def _refined(reason: str, error: BaseException) -> str | None:
    match reason:
        case "limit":
            what = found["what"] if (found := _LIMIT.search(str(error))) else "unknown"
            return "tokens" if what.endswith("tokens") else what if what in _REASONS else None
        case "status":
            return _reason_of_status(_status(error) or 0, _provider_message(error))
        case "rejected":
            return _reason_of_rejection(_provider_message(error))
        case "credential" if _status(error) == 403:
            return "forbidden"
        case "timeout" if getattr(error, "phase", None) == "connect":
            return "unreachable"
        case "transport":
            return _transport_reason(error)
        case "api":
            # a bare ModelAPIError says nothing itself; without a cause it is an answer that was no JSON
            return None if error.__cause__ else "bad_answer"
    return reason


def _transport_reason(error: BaseException) -> str:
    """Whether the server was never reached, or the connection broke later."""
    match getattr(error, "phase", None):
        case "connect" | "pool":
            return "unreachable"
        case "read" | "write":
            return "cut"
    causes = (_reason(cause) for cause in _related(error) if cause is not error)
    return next((reason for reason in causes if reason in ("unreachable", "timeout", "cut")), "cut")


def _reason_of_rejection(message: str) -> str:
    return next((reason for words, reason in _SAID if words in message), "rejected")


def _reason_of_status(status: int, message: str = "") -> str | None:
    """What an HTTP error status means, with what the server wrote; None when it is no error status."""
    if (known := _STATUSES.get(status)) is not None:
        return known
    if 400 <= status < 500:
        return _reason_of_rejection(message)
    return "server" if 500 <= status < 600 else None


# --- the words ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """What an error says about itself, beside its reason."""

    status: int | None = None
    quote: str = ""
    model: str = ""
    suggestion: str = ""
    limit: str = ""
    spent: str = ""
    type: str = ""
    retry_after_seconds: float | None = None


def _made(reason: str, found: BaseException, error: BaseException, provider: str) -> ModelError:
    limit = _LIMIT.search(str(found)) if _REASONS[reason][0] in ("budget", "turns", "tokens") else None
    facts = _Facts(
        status=_status(found),
        quote=_without_keys(_provider_message(found), *_sent_keys(error)),
        model=str(getattr(found, "model_name", "")),
        # pydantic-ai names its provider in front, as in “anthropic:claude-…”
        suggestion=str(getattr(found, "suggested_model_id", None) or "").partition(":")[2],
        limit=_plain(limit["limit"]) if limit else "",
        spent=_plain(limit["spent"]) if limit and limit["spent"] else "",
        type=type(found).__name__,
        retry_after_seconds=_wait_asked_for(found),
    )
    made = _worded(reason, provider, facts)
    made.__cause__ = error
    return made


def _worded(reason: str, provider: str, facts: _Facts) -> ModelError:
    kind, retryable, sentence, step = _REASONS[reason]
    step = _STEPS.get((provider, reason), step)
    variable = _KEY_VARIABLES.get(provider)
    wait = facts.retry_after_seconds
    words = {
        "provider": _NAMES.get(provider, provider),
        "key": f"{variable} or the persona's auth_token" if variable else "the persona's auth_token",
        "status": f" (HTTP {facts.status})" if facts.status else "",
        "quote": f": “{facts.quote}”" if facts.quote else "",
        "name": facts.model or "MODEL",
        "model": f"the model “{facts.model}”" if facts.model else "the model",
        "suggestion": f"Did you mean “{facts.suggestion}”? " if facts.suggestion else "",
        "limit": facts.limit,
        "spent": f": it has cost {facts.spent} USD" if facts.spent else "",
        "type": facts.type or f"HTTP {facts.status}",
        "wait": "a minute" if wait is None else f"{math.ceil(wait)} seconds",
    }
    message = sentence.format_map(words)
    return ModelError(
        message[0].upper() + message[1:],
        kind=kind,
        hint=step.format_map(words),
        retry_after_seconds=wait,
        retryable=retryable,
    )


def _plain(number: str) -> str:
    return format(Decimal(number), "f")


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    return status if isinstance(status, int) else None


def _wait_asked_for(error: BaseException) -> float | None:
    headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None)
    asked = retry_after_seconds(headers) if isinstance(headers, Mapping) else None
    said = getattr(error, "retry_after", None)
    return asked if asked is not None else said if isinstance(said, float) else None


def _provider_message(error: BaseException) -> str:
    """What the provider wrote into its error body; nothing when the body is not of a known shape."""
    body: Any = getattr(error, "body", None)
    for _ in range(2):
        if isinstance(body, Mapping) and isinstance(message := body.get("message"), str):
            return message
        body = body.get("error") if isinstance(body, Mapping) else None
    return ""


def _without_keys(text: str, *sent: str) -> str:
    """The text on one line of at most 200 characters, without the keys that were sent or what looks like one."""
    line = " ".join(_without_known_keys(text, *sent).split()).rstrip(".")
    return line if len(line) <= 200 else line[:199].rstrip() + "…"


def _without_known_keys(text: str, *sent: str) -> str:
    for key in sent:
        text = text.replace(key, "[key]")
    return _KEY.sub("[key]", text)


def _sent_keys(error: BaseException) -> Iterator[str]:
    """The keys in the headers of the requests that failed, as far as the errors still know them."""
    for related in _related(error):
        with contextlib.suppress(RuntimeError):  # httpx raises it when an error was made without its request
            headers = getattr(getattr(related, "request", None), "headers", {})
            for name in ("authorization", "x-api-key"):
                key = str(headers.get(name, "")).removeprefix("Bearer ")
                if len(key) >= 4:  # shorter ones are placeholders, and would tear words apart
                    yield key
