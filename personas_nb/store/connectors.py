"""The shipped connectors with all their fields and their health checks.

Used by the migration ``m005_credentials`` alone; a later change is a migration of its own.
"""

from __future__ import annotations

import json
from typing import Any

_OAUTH = (
    "Signing in with OAuth in a browser is not done here: bring the token that the service shows you. A refresh "
    "token may be kept beside it; it is used by nothing yet, so give the new token when this one has expired."
)


def _field(
    key: str, label: str, *, secret: bool = False, required: bool = True, default: str | None = None
) -> dict[str, Any]:
    is_required = required and default is None
    return {"key": key, "label": label, "secret": secret, "required": is_required, "default": default}


def _complete(
    name: str, fields: list[dict[str, Any]], healthcheck: dict[str, Any], setup: str
) -> dict[str, Any]:
    return {
        "name": name,
        "fields": json.dumps(fields),
        "healthcheck": json.dumps(healthcheck),
        "setup_instructions": setup,
    }


_REFRESH = _field("refresh_token", "OAuth refresh token", secret=True, required=False)

COMPLETE_CONNECTORS: list[dict[str, Any]] = [
    _complete(
        "gmail",
        [
            _field("user", "mail address"),
            _field("app_password", "app password", secret=True),
            _field("imap_host", "IMAP host", default="imap.gmail.com"),
            _field("imap_port", "IMAP port", default="993"),
            _field("smtp_host", "SMTP host", default="smtp.gmail.com"),
            _field("smtp_port", "SMTP port", default="465"),
        ],
        {
            "kind": "imap",
            "host": "{imap_host}",
            "port": "{imap_port}",
            "user": "{user}",
            "password": "{app_password}",
        },
        "Make an app password in your Google account (Security, 2-Step Verification, App passwords). Another "
        "provider works with its own hosts; ports 993 and 465 speak TLS at once, on others the server may begin in the "
        "clear and switch to TLS. Signing in with OAuth in a browser is not done here.",
    ),
    _complete(
        "slack",
        [
            _field("bot_token", "bot token (xoxb-…)", secret=True),
            _REFRESH,
            _field("channel", "default channel", default=""),
            _field("api_url", "API address", default="https://slack.com/api"),
        ],
        {
            "method": "POST",
            "url": "{api_url}/auth.test",
            "headers": {"Authorization": "Bearer {bot_token}"},
            "expect_json": {"ok": True},
        },
        f"Create a Slack app with a bot token (scope chat:write) and install it to the workspace. {_OAUTH}",
    ),
    _complete(
        "telegram",
        [
            _field("bot_token", "bot token", secret=True),
            _field("chat_id", "chat id"),
            _field("api_url", "API address", default="https://api.telegram.org"),
        ],
        {"method": "GET", "url": "{api_url}/bot{bot_token}/getMe", "expect_json": {"ok": True}},
        "Talk to @BotFather to make a bot, then write to it once to learn the chat id.",
    ),
    _complete(
        "smtp",
        [
            _field("host", "host"),
            _field("port", "port", default="465"),
            _field("user", "user"),
            _field("password", "password", secret=True),
            _field("sender", "address that mails come from, if it is not the user", default=""),
        ],
        {"kind": "smtp", "host": "{host}", "port": "{port}", "user": "{user}", "password": "{password}"},
        "Ask your mail provider for host, port, user and password of its SMTP server. Port 465 "
        "speaks TLS at once, on others the server may begin in the clear and switch to TLS.",
    ),
    _complete(
        "http_bearer",
        [
            _field("base_url", "address that the token is for"),
            _field("token", "token", secret=True),
            _REFRESH,
        ],
        {"method": "GET", "url": "{base_url}", "headers": {"Authorization": "Bearer {token}"}},
        f"Create an access token in the service's settings. {_OAUTH}",
    ),
    _complete(
        "github",
        [
            _field("token", "personal access token", secret=True),
            _REFRESH,
            _field("api_url", "API address", default="https://api.github.com"),
        ],
        {
            "method": "GET",
            "url": "{api_url}/user",
            "headers": {"Authorization": "Bearer {token}", "Accept": "application/vnd.github+json"},
        },
        f"Create a fine-grained personal access token in GitHub's developer settings. {_OAUTH}",
    ),
    _complete(
        "postgres",
        [
            _field("host", "host"),
            _field("port", "port", default="5432"),
            _field("database", "database"),
            _field("user", "user"),
            _field("password", "password", secret=True),
            _field("sslmode", "TLS: require, verify-full, prefer or disable", default="prefer"),
        ],
        {
            "kind": "postgres",
            "host": "{host}",
            "port": "{port}",
            "database": "{database}",
            "user": "{user}",
            "password": "{password}",
            "sslmode": "{sslmode}",
        },
        "Create a database role that may only SELECT: the check warns where it may do more. Checking and querying "
        "need `pip install 'psycopg[binary]'`.",
    ),
]
