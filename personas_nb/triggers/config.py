"""What the ``config`` of each type of trigger may hold; checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

from personas_nb.entities.base import is_encodable
from personas_nb.entities.trigger import TriggerType
from personas_nb.errors import InvalidInput, did_you_mean
from personas_nb.triggers import cron
from personas_nb.triggers.webhooks import CREDENTIAL_KEY

CATCH_UP = ("once", "skip", "all")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")  # as designs and imports name them; our door takes POST
KEYS: dict[str, tuple[str, ...]] = {
    "manual": (),
    "schedule": ("cron", "timezone", "catch_up"),
    "polling": ("interval_seconds", "url", "catch_up"),
    "webhook": ("path", "methods", CREDENTIAL_KEY),
}
INTERVAL_LIMIT_SECONDS = 10 * 366 * 86_400
URL_LIMIT_CHARS = 2_000
PATH_LIMIT_CHARS = 500


def checked(trigger_type: str, config: Mapping[str, Any] | None, zone: str) -> dict[str, Any]:
    """The config as it is stored: known keys, none of them empty, and ``zone`` in a schedule that names none.

    Raises `InvalidInput` for an unknown type or key, a time that never comes, an unknown time zone, an interval that
    is no whole number of seconds, and an address that is not http or https.

    >>> checked("schedule", {"cron": "0 9 * * 1-5"}, "Europe/Berlin")
    {'cron': '0 9 * * 1-5', 'timezone': 'Europe/Berlin'}
    """
    if not isinstance(trigger_type, str) or trigger_type not in KEYS:
        types = get_args(TriggerType)
        raise InvalidInput(
            f"There is no trigger type “{trigger_type}”.",
            hint=did_you_mean(str(trigger_type), types, otherwise=f"The types are {', '.join(types)}."),
        )
    if not isinstance(config or {}, Mapping):
        raise InvalidInput(
            "The configuration of a trigger is no mapping.", hint='Such as {"cron": "0 9 * * 1-5"}.'
        )
    given = {str(key): value for key, value in (config or {}).items() if value is not None}
    _refuse_half_characters(given)
    _refuse_unknown(trigger_type, given)
    if "catch_up" in given and given["catch_up"] not in CATCH_UP:
        raise InvalidInput(
            f"“catch_up” is once, skip or all, not {given['catch_up']!r}.",
            hint="once: of the times that were missed, the newest runs.",
        )
    match trigger_type:
        case "schedule":
            return _schedule(given, zone)
        case "polling":
            return _polling(given)
        case "webhook":
            return _webhook(given)
    return given


def _refuse_half_characters(given: Mapping[str, Any]) -> None:
    for item in given.items():
        for text in item:
            if isinstance(text, str) and not is_encodable(text):
                raise InvalidInput(
                    "The configuration holds half a character (a lone surrogate).", hint="Leave it out."
                )


def _refuse_unknown(trigger_type: str, given: Mapping[str, Any]) -> None:
    known = KEYS[trigger_type]
    for key in given:
        if key in known:
            continue
        takes = [name for name in known if name != CREDENTIAL_KEY]
        otherwise = f"It takes {', '.join(takes)}." if takes else "It takes none; a person starts it."
        raise InvalidInput(
            f"A {trigger_type} trigger has no setting “{key}”.",
            hint=did_you_mean(key, takes, otherwise=otherwise),
        )


def _schedule(given: dict[str, Any], zone: str) -> dict[str, Any]:
    expression = given.get("cron")
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidInput(
            "A schedule needs a cron expression.",
            hint='Such as cron="0 9 * * 1-5" for every weekday at 09:00.',
        )
    timezone = given.get("timezone") or zone
    if not isinstance(timezone, str):
        raise InvalidInput("“timezone” is the name of a time zone.", hint="Such as Europe/Berlin.")
    cron.check(expression, timezone)
    return {**given, "cron": " ".join(expression.split()), "timezone": timezone}


def _polling(given: dict[str, Any]) -> dict[str, Any]:
    seconds = given.get("interval_seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1:
        what = "“interval_seconds” is missing" if seconds is None else f"{seconds!r} is no interval"
        raise InvalidInput(
            f"{what}: polling needs a whole number of seconds, 1 or more.",
            hint="Such as interval_seconds=900.",
        )
    if seconds > INTERVAL_LIMIT_SECONDS:
        raise InvalidInput("The interval is longer than ten years.", hint="Give a shorter one.")
    if "url" in given:
        given["url"] = _address(given["url"])
    return given


def _address(url: object) -> str:
    text = url.strip() if isinstance(url, str) else ""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        has_secret = parts.username is not None or parts.password is not None
        _ = parts.port
    except ValueError:
        is_address = has_secret = False
    if not is_address or len(text) > URL_LIMIT_CHARS or any(char.isspace() for char in text):
        raise InvalidInput(
            "“url” is no http or https address.", hint="Such as url=https://example.com/status.json."
        )
    if has_secret:
        raise InvalidInput(
            "The address holds a user name or a password, which would be stored in the clear.",
            hint="Leave it out; a tool of the persona can use a credential.",
        )
    return text


def _webhook(given: dict[str, Any]) -> dict[str, Any]:
    path, methods = given.get("path"), given.get("methods", [])
    if path is not None and (not isinstance(path, str) or len(path) > PATH_LIMIT_CHARS):
        raise InvalidInput("“path” is a text.", hint="Leave it out: a webhook's address is made of its id.")
    if not isinstance(methods, list | tuple) or any(str(method).upper() not in METHODS for method in methods):
        raise InvalidInput("“methods” is a list of HTTP methods.", hint='Leave it out, or give ["POST"].')
    return given
