"""Slack and Telegram: one POST each, and what their servers answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from personas_nb.notify.channels import setting
from personas_nb.notify.ways.letter import Answer, Letter, MaybeSent, NotSent, Outside, shortened

SLACK_API = "https://slack.com/api"
TELEGRAM_API = "https://api.telegram.org"
SLACK_LIMIT_CHARS = 3_500
TELEGRAM_LIMIT_UNITS = 4_096  # of UTF-16, as it counts
SAID_CHARS = 200

_PASSING = ("ratelimited", "rate_limited", "service_unavailable", "internal_error", "fatal_error")


async def slack(outside: Outside, fields: Mapping[str, str], letter: Letter) -> None:
    """Post to an incoming webhook, else as a bot into a channel. Raises ``NotSent`` and ``MaybeSent``."""
    text = f"*{_escaped(letter.heading)}*\n{_escaped(shortened(letter.content, SLACK_LIMIT_CHARS))}".strip()
    if webhook := setting(fields, "webhook"):
        answer = await outside.post(webhook, json={"text": text})
        _check("Slack", answer)
        return
    token, channel = setting(fields, "bot_token"), setting(fields, "channel")
    if not token:
        raise NotSent("The channel has no address.", hint="Give it a webhook, or a slack credential.")
    if not channel:
        raise NotSent("It is not said which Slack channel it goes to.", hint="Such as channel=#sales.")
    api = (setting(fields, "api_url") or SLACK_API).rstrip("/")
    answer = await outside.post(
        f"{api}/chat.postMessage",
        json={"channel": channel, "text": text, "unfurl_links": False, "unfurl_media": False},
        headers={"Authorization": f"Bearer {_header(token)}"},
    )
    _check("Slack", answer, api=True)


async def telegram(outside: Outside, fields: Mapping[str, str], letter: Letter) -> None:
    """Send as a bot to a chat, as plain text. Raises ``NotSent`` and ``MaybeSent``."""
    token, chat = setting(fields, "bot_token"), setting(fields, "chat_id")
    if not token:
        raise NotSent("The channel has no bot token.", hint="Give it a telegram credential.")
    if not chat:
        raise NotSent("It is not said which chat it goes to.", hint="Such as chat_id=4711.")
    api = (setting(fields, "api_url") or TELEGRAM_API).rstrip("/")
    answer = await outside.post(
        f"{api}/bot{quote(token, safe=':')}/sendMessage",
        json={"chat_id": chat, "text": _fitting(letter), "link_preview_options": {"is_disabled": True}},
    )
    _check("Telegram", answer, api=True)


def _check(who: str, answer: Answer, *, api: bool = False) -> None:
    """Raise unless it was accepted; an API says so in its body as well."""
    said = _parsed(answer.body)
    parameters = said.get("parameters")
    asked = parameters.get("retry_after") if isinstance(parameters, dict) else None
    wait = answer.retry_after_seconds if answer.retry_after_seconds is not None else _seconds(asked)
    why = str(said.get("error") or said.get("description") or "")
    if 200 <= answer.status < 300:
        if not api or said.get("ok") is True:
            return
        if said.get("ok") is not False:
            raise MaybeSent(f"{who} answered {answer.status} with something else than was expected.")
        raise NotSent(
            f"{who} refuses it: {_line(why) or 'it does not say why'}.",
            retryable=why in _PASSING,
            retry_after_seconds=wait,
        )
    words = _line(why or ("" if answer.body.lstrip().startswith("<") else answer.body))
    told = f"{who} answered {answer.status}{f' ({words})' if words else ''}."
    if answer.status in (408, 504):  # somebody in between gave up waiting
        raise MaybeSent(told)
    raise NotSent(told, retryable=answer.status == 429 or answer.status >= 500, retry_after_seconds=wait)


def _parsed(body: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    with suppress(OverflowError):  # hundreds of digits
        return float(value)
    return None


def _line(text: str) -> str:
    return shortened(" ".join(text.split()), SAID_CHARS, "…").rstrip(".")


def _header(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise NotSent("The bot token cannot be sent: it holds characters that no token has.")
    return token


def _escaped(text: str) -> str:
    """Text as Slack shows it: what a model writes shall call nobody (“<!channel>”)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fitting(letter: Letter) -> str:
    """Heading and content, the content cut where both are too long; a sign may count twice."""
    limit = min(len(letter.content), TELEGRAM_LIMIT_UNITS)
    heading = shortened(letter.heading, TELEGRAM_LIMIT_UNITS // 4, "…")
    while True:
        text = f"{heading}\n\n{shortened(letter.content, limit)}".strip()
        over = len(text.encode("utf-16-le", "surrogatepass")) // 2 - TELEGRAM_LIMIT_UNITS
        if over <= 0:
            return text
        limit -= (over + 1) // 2
