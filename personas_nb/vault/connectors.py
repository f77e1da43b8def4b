"""Connectors: what a credential for a service consists of, which tools it serves, how it is checked.

The shipped ones are rows from the beginning. One that is added may come from anybody, so that everything in it
is checked: what it would set in the environment of child processes, and that its check uses its own fields.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Mapping
from typing import Any

from personas_nb.entities.base import made
from personas_nb.entities.connector import Connector, ConnectorField
from personas_nb.entities.credential import Credential
from personas_nb.errors import Conflict, InvalidInput, NotFound, did_you_mean
from personas_nb.store.database import Store
from personas_nb.vault.environment import name_of, variables
from personas_nb.vault.healthcheck import check_definition

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_TOOL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_SOUNDS_SECRET = re.compile(
    r"(?i)(^|[_.-])(token|password|passwd|passphrase|secret|key|apikey|pin|credentials?|cookie)($|[_.-])"
    r"|(token|password|secret|apikey)$"
)
TEXT_LIMIT_CHARS = 4_000
RESERVED = ("model", "mcp", "webhook", "channel")
"""What secrets that belong to no connector are kept under."""


class Connectors:
    """The connectors of one home: ``list``, ``get``, ``add``, ``remove``.

    >>> import tempfile; from pathlib import Path
    >>> connectors = Connectors(Store(Path(tempfile.mkdtemp())))
    >>> crm = connectors.add("crm", fields=[{"key": "base_url"}, {"key": "api_key"}], tools=["http_request"])
    >>> [(field.key, field.secret) for field in crm.fields]
    [('base_url', False), ('api_key', True)]
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows = store.table("connectors", Connector)

    def list(self) -> builtins.list[Connector]:
        """All connectors, the shipped ones first."""
        return self._rows.find(order_by="is_builtin desc, name")

    def get(self, name: str) -> Connector:
        """The connector of that name. Raises ``NotFound``."""
        found = self._rows.find("name = ? or id = ?", [name, name], limit=1)
        if not found:
            known = [connector.name for connector in self.list()]
            raise NotFound(
                f"There is no connector “{name}”.",
                hint=did_you_mean(name, known, otherwise=f"There are {', '.join(known)}."),
            )
        return found[0]

    def add(
        self,
        name: str,
        *,
        label: str = "",
        description: str = "",
        fields: Iterable[ConnectorField | Mapping[str, Any]] = (),
        tools: Iterable[str] = (),
        healthcheck: Mapping[str, Any] | None = None,
        setup_instructions: str = "",
    ) -> Connector:
        """A connector of your own; the same again changes nothing, another definition replaces it.

        A field is ``{"key", "label", "secret", "required", "default"}``. All but ``key`` may be left out:
        ``secret`` is then told from the name (token, password, key, …), ``required`` is True unless there is a
        default. ``healthcheck`` is an HTTP request ``{"method", "url", "headers", "expect_status",
        "expect_json"}`` or ``{"kind": "imap" | "smtp" | "postgres", …}``; ``{field}`` in it stands for a field.

        Raises ``InvalidInput`` for what is wrong with it and ``Conflict`` for the name of a shipped one; nothing
        is written then.
        """
        given = self._checked_fields(name, fields)
        wanted = made(
            Connector,
            {
                "name": name,
                "label": _text(label, "label") or name,
                "description": _text(description, "description"),
                "fields": given,
                "tools": tuple(_checked_tools(tools)),
                "healthcheck": check_definition(healthcheck or {}, given),
                "setup_instructions": _text(setup_instructions, "setup_instructions"),
            },
        )
        with self.store.write():
            known = {connector.name: connector for connector in self.list()}
            self._check_variables(wanted, known.values())
            before = known.get(name)
            if before is None:
                return self._rows.insert(wanted)
            if before.is_builtin:
                raise Conflict(f"The connector “{name}” is a shipped one.", hint="Choose another name.")
            wanted = wanted.changed(id=before.id, created_at=before.created_at)
            if wanted != before:
                changes = {key: getattr(wanted, key) for key in Connector.model_fields if key != "id"}
                self._rows.update(before.id, **changes)
            return wanted

    def remove(self, name: str) -> None:
        """Delete a connector of your own. Raises ``NotFound``, and ``Conflict`` where it is in use or shipped."""
        with self.store.write():
            connector = self.get(name)
            if connector.is_builtin:
                raise Conflict(f"The connector “{name}” is a shipped one and stays.")
            users = self.store.table("credentials", Credential).find("connector = ?", [connector.name])
            if users:
                raise Conflict(
                    f"The credential “{users[0].name}” belongs to the connector “{name}”.",
                    hint=f"Remove it first: `%persona credentials remove {users[0].name}`.",
                )
            self._rows.delete("id = ?", [connector.id])

    def _checked_fields(
        self, name: str, fields: Iterable[ConnectorField | Mapping[str, Any]]
    ) -> tuple[ConnectorField, ...]:
        if name in RESERVED:
            raise InvalidInput(f"“{name}” is a name that the vault uses itself.", hint="Choose another name.")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            near = re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")[:64]
            raise InvalidInput(
                f"“{name}” is no name for a connector: small letters, digits and “_” make one.",
                hint=f"Such as “{near}”." if _NAME.fullmatch(near) else "Such as “my_crm”.",
            )
        found = [_field(field) for field in fields]
        if not found:
            raise InvalidInput(
                f"The connector “{name}” has no field.",
                hint='Such as fields=[{"key": "base_url"}, {"key": "token", "secret": True}].',
            )
        by_variable: dict[str, str] = {}
        for field in found:
            variables(name, {field.key: ""})  # refuses a forbidden one
            other = by_variable.setdefault(name_of(name, field.key), field.key)
            if other != field.key or found.count(field) > 1 or [f.key for f in found].count(field.key) > 1:
                raise InvalidInput(
                    f"The fields “{other}” and “{field.key}” would both be {name_of(name, field.key)}.",
                    hint="Name each field otherwise.",
                )
        return tuple(found)

    def _check_variables(self, wanted: Connector, known: Iterable[Connector]) -> None:
        taken = {
            name_of(connector, field.key): connector.name
            for connector in known
            if connector.name != wanted.name
            for field in connector.fields
        }
        for field in wanted.fields:
            if owner := taken.get(variable := name_of(wanted, field.key)):
                raise InvalidInput(
                    f"The field “{field.key}” would set {variable}, as the connector “{owner}” does.",
                    hint="Name the connector or the field otherwise.",
                )


def _field(given: ConnectorField | Mapping[str, Any]) -> ConnectorField:
    if isinstance(given, ConnectorField):
        given = given.model_dump()
    if not isinstance(given, Mapping) or not isinstance(given.get("key"), str):
        raise InvalidInput("A field needs a key.", hint='Such as {"key": "token", "secret": True}.')
    key, default = given["key"], given.get("default")
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"“{key}” is no name for a field: letters, digits, “_”, “-” and “.” make one.",
            hint="Such as “api_key”.",
        )
    fields = {"secret": bool(_SOUNDS_SECRET.search(key)), "required": default is None, **given}
    field = made(ConnectorField, fields)
    if field.secret and field.default:
        raise InvalidInput(
            f"The secret “{key}” has a default, which would be stored in the clear.",
            hint="Leave the default out; give the value with the credential.",
        )
    return field


def _checked_tools(tools: Iterable[str]) -> builtins.list[str]:
    if isinstance(tools, str):
        raise InvalidInput("tools is one text.", hint=f'Give a list: tools=["{tools}"].')
    names = builtins.list(dict.fromkeys(tools))
    for name in names:
        if not isinstance(name, str) or not _TOOL.fullmatch(name):
            raise InvalidInput(f"“{name}” is no name of a tool.", hint="`%persona tools` shows all.")
    return names


def _text(text: str, what: str) -> str:
    if not isinstance(text, str) or len(text) > TEXT_LIMIT_CHARS:
        raise InvalidInput(f"“{what}” must be a text of at most {TEXT_LIMIT_CHARS:,} characters.")
    return text
