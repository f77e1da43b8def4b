"""The secret of a webhook trigger: made once, shown once, sealed ever after.

The trigger's config holds the id of a credential, and the credential is named after its trigger: an id that came
with somebody's file opens nothing of another trigger.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Mapping
from typing import Any

from personas_nb.entities.credential import Credential
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import InvalidInput
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.redaction import check_secret

CONNECTOR = "webhook"
FIELD = "secret"
SECRET_BYTES = 32
SECRET_MIN_CHARS = 16
CREDENTIAL_KEY = "credential_id"
"""Where the config of a trigger says which credential holds its secret."""


def path_of(trigger: Trigger | str) -> str:
    """Where a Jupyter server takes the requests of a webhook trigger, after its base address.

    >>> path_of("0190")
    'personas/webhook/0190'
    """
    return f"personas/webhook/{trigger if isinstance(trigger, str) else trigger.id}"


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a webhook's config may be stored, compared and exported: without its secret and where that is kept."""
    return {key: value for key, value in config.items() if key not in (FIELD, CREDENTIAL_KEY)}


def without_secret(config: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """A config as it may be stored and compared, and the secret that was given in it.

    What names a credential is left out: which one a trigger has, the vault says. Raises ``InvalidInput`` for a
    secret that is no text of at least ``SECRET_MIN_CHARS`` characters.

    >>> without_secret({"path": "/orders", "secret": "0123456789abcdef"})
    ({'path': '/orders'}, '0123456789abcdef')
    """
    plain, given = plain_config(config), config.get(FIELD)
    if given is None or given == "":
        return plain, None
    check_secret("of the webhook", given)
    if len(given.strip()) < SECRET_MIN_CHARS:
        raise InvalidInput(
            f"The secret of a webhook needs at least {SECRET_MIN_CHARS} characters.",
            hint="Leave it out: then a good one is made.",
        )
    return plain, given


def with_secret(credentials: Credentials, trigger: Trigger, secret: str | None = None) -> tuple[Trigger, str]:
    """The trigger with its secret in the vault, and the secret, to be shown this once; the row is not written.

    Without ``secret`` a new one is made. The same one again changes nothing. Inside a transaction: call
    ``credentials.unlock()`` before it begins. Raises ``KeyUnavailable`` where nothing can be sealed.
    """
    value = secret or secrets.token_urlsafe(SECRET_BYTES)
    credential_id = credentials.keep(value, name=_name(trigger), connector=CONNECTOR, field=FIELD)
    return trigger.changed(config={**trigger.config, CREDENTIAL_KEY: credential_id}), value


def has_secret(credentials: Credentials, trigger: Trigger) -> bool:
    """Whether the vault holds a secret of this trigger."""
    return _row(credentials, trigger) is not None


def secret_of(credentials: Credentials, trigger: Trigger) -> str | None:
    """The secret in the clear, for one comparison; None where there is none.

    Raises ``VaultError`` for one that was altered, and ``KeyUnavailable`` where its key cannot be had.
    """
    row = _row(credentials, trigger)
    return credentials.reveal(row.id, FIELD) if row is not None else None


def forget_secret(credentials: Credentials, trigger: Trigger) -> None:
    """Delete the secret of a trigger that is removed; nothing happens where there is none."""
    if (row := _row(credentials, trigger)) is not None:
        credentials.remove(row.id)


def owned(credentials: Credentials, persona_id: str) -> builtins.list[Credential]:
    """The credentials that hold secrets of this persona's webhooks."""
    ending = f"({persona_id})"
    return [row for row in credentials.list() if row.connector == CONNECTOR and row.name.endswith(ending)]


def _name(trigger: Trigger) -> str:
    return f"webhook {trigger.id} ({trigger.persona_id})"


def _row(credentials: Credentials, trigger: Trigger) -> Credential | None:
    return credentials.find(_name(trigger), CONNECTOR) if trigger.trigger_type == "webhook" else None
