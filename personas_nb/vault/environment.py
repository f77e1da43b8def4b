"""A credential as environment variables, for child processes alone: ``{CONNECTOR}_{FIELD}`` in capitals."""

from __future__ import annotations

import re
from collections.abc import Mapping

from personas_nb.entities.connector import Connector
from personas_nb.errors import InvalidInput

# What decides which programs, libraries, hosts and keys a child process uses; as beginnings or as whole names.
_FORBIDDEN_BEGINNINGS = ("LD_", "PYTHON", "NODE_", "DYLD_", "GIT_", "ANTHROPIC_", "CLAUDE_", "PERSONAS_")
_FORBIDDEN = frozenset(
    ["PATH", "HOME", "SHELL", "IFS", "ENV", "BASH_ENV", "JAVA_TOOL_OPTIONS", "SSL_CERT_FILE", "SSL_CERT_DIR"]
) | {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


def name_of(connector: Connector | str, field: str) -> str:
    """The variable that holds a field.

    >>> name_of("gmail", "app_password"), name_of("crm", "api-key")
    ('GMAIL_APP_PASSWORD', 'CRM_API_KEY')
    """
    owner = connector if isinstance(connector, str) else connector.name
    return re.sub(r"[^A-Z0-9]", "_", f"{owner}_{field}".upper())


def is_forbidden(name: str) -> bool:
    """Whether no connector may set this variable.

    >>> is_forbidden("GIT_SSH_COMMAND"), is_forbidden("GITHUB_TOKEN")
    (True, False)
    """
    return name in _FORBIDDEN or name.startswith(_FORBIDDEN_BEGINNINGS)


def variables(connector: Connector | str, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of a credential in the clear as variables; empty ones are left out.

    Raises ``InvalidInput`` for a forbidden name, whoever made the connector: it is never set.

    >>> variables("slack", {"bot_token": "xoxb-0123456789", "channel": ""})
    {'SLACK_BOT_TOKEN': 'xoxb-0123456789'}
    """
    found = {}
    for field, value in fields.items():
        name = name_of(connector, field)
        if is_forbidden(name):
            raise InvalidInput(
                f"The field “{field}” would set {name}, which decides how programs run.",
                hint="Name the connector or the field otherwise.",
            )
        if value:
            found[name] = value
    return found
