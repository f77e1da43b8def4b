"""Verbs about credentials and connectors. A secret comes from a person who is asked, or from the environment."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from personas_nb.entities.connector import Connector, ConnectorField
from personas_nb.entities.credential import Credential
from personas_nb.errors import InvalidInput, did_you_mean
from personas_nb.verbs.call import Call
from personas_nb.views import credentials as views
from personas_nb.views.notices import notice
from personas_nb.views.view import View


def listed(call: Call) -> View:
    """What is kept."""
    return views.credential_list(call.studio.credentials.list(), tz=call.tz)


def add(call: Call) -> View:
    """Keep what a service needs; what is missing is asked of a person, or refused where there is none."""
    credentials = call.studio.credentials
    connector = call.studio.connectors.get(call["connector"])
    before = _existing(call)
    if before is not None and before.connector != connector.name:
        credentials.add(before.name, connector.name, {})  # is refused, before anybody is asked for anything
    fields: dict[str, Any] = dict.fromkeys(_known(connector, before))  # None: as it is stored
    fields |= dict(_plain(connector, call["set"]))
    fields |= dict(_from_environment(connector, call["from_env"]))
    fields |= dict(_answers(call, connector, fields))
    after = credentials.add(call["name"], connector.name, fields)
    step = f"%persona credentials check {views.typed(after.name)}"
    if before == after:
        said = f"The credential {after.name} is so already: nothing changed."
        return replace(notice(said, step, status="unchanged"), value=after)
    names = ", ".join(after.fields_set)
    return replace(
        notice(f"The credential {after.name} is kept: {names} set.", step, status="kept"), value=after
    )


def check(call: Call) -> View:
    """Log in with it."""
    name = call.studio.credentials.get(call["name"]).name
    result = call.studio.credentials.check(name)
    said = f"{name}: {result.detail} ({result.latency_ms:,.0f} ms)"
    return replace(notice(said, status=result.status), value=result)


def remove(call: Call) -> View:
    """Forget it."""
    name = call.studio.credentials.get(call["name"]).name
    call.studio.credentials.remove(name)
    return notice(f"The credential {name} is forgotten.", status="removed")


def rotate_key(call: Call) -> View:
    """Another key for everything that is sealed."""
    result = call.studio.credentials.rotate_key()
    count = f"{result.credentials} credential{'' if result.credentials == 1 else 's'}"
    said = f"{count} sealed with a new key; the old one is forgotten."
    if not result.forgotten:
        said = f"{count} sealed with a new key; the old one could not be deleted everywhere and is not used again."
    return replace(notice(said, status="completed" if result.forgotten else "warning"), value=result)


def connectors(call: Call) -> View:
    """The kinds of services."""
    counts = Counter(credential.connector for credential in call.studio.credentials.list())
    return views.connector_list(call.studio.connectors.list(), counts)


def connector(call: Call) -> View:
    """What a connector needs."""
    return views.connector_card(call.studio.connectors.get(call["name"]))


# ── where values come from ──────────────────────────────────────────────────────────────────────────────────


def _existing(call: Call) -> Credential | None:
    name = call["name"].strip()
    return next((known for known in call.studio.credentials.list() if known.name == name), None)


def _known(connector: Connector, before: Credential | None) -> list[str]:
    known = {field.key for field in connector.fields}
    return [key for key in before.fields_set if key in known] if before else []


def _plain(connector: Connector, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        key, equals, value = word.partition("=")
        field = _field(connector, key, is_pair=bool(equals))
        if field.secret:
            raise InvalidInput(
                f"“{key}” is a secret: in the line it would be saved with the notebook.",
                hint=f"Take it out, and change it if it was saved. You are asked for it, or --from-env {key}=VAR "
                "takes it.",
            )
        yield key, value


def _from_environment(connector: Connector, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        key, equals, variable = word.partition("=")
        _field(connector, key, is_pair=bool(equals))
        # The word is not repeated: it may be the secret itself.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable) or variable not in os.environ:
            raise InvalidInput(
                f"The environment has no variable of the name that was given for “{key}”.",
                hint="Give the name of a variable, not its value; it must be set before this process starts.",
            )
        if not os.environ[variable].strip():
            raise InvalidInput(
                f"The variable for “{key}” is empty.", hint="Set it before this process starts."
            )
        yield key, os.environ[variable]


def _field(connector: Connector, key: str, *, is_pair: bool) -> ConnectorField:
    known = {field.key: field for field in connector.fields}
    if key in known and is_pair:
        return known[key]
    # A word without = may be a secret and is not repeated.
    what = f"{connector.name} has no field “{key}”." if is_pair else "A field is given as FIELD=…."
    raise InvalidInput(
        what,
        hint=did_you_mean(key if is_pair else "", known, otherwise=f"It has {', '.join(known)}."),
    )


def _answers(call: Call, connector: Connector, given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person types for the fields that are missing, and for secrets that shall be replaced."""
    asked = [field for field in connector.fields if _is_asked(call, field, given)]
    for number, field in enumerate(asked):
        answer = call.surface.ask(
            f"{connector.label or connector.name}: {field.label or field.key}", secret=field.secret
        )
        if answer is None:
            raise InvalidInput(
                f"Nobody can be asked for “{field.key}” here.",
                hint=f"Give it with `%persona credentials add {views.typed(call['name'])} {connector.name} "
                f"{_options(asked[number:])}`.",
            )
        if not answer.strip():
            raise InvalidInput(f"Nothing was entered for “{field.key}”; nothing is kept.")
        yield field.key, answer


def _is_asked(call: Call, field: ConnectorField, given: dict[str, Any]) -> bool:
    is_anew = call["replace"] and field.secret and given.get(field.key) is None
    is_missing = field.required and field.key not in given
    return is_missing or (is_anew and (field.required or field.key in given))


def _options(fields: Sequence[ConnectorField]) -> str:
    """The options that give these fields where nobody is asked.

    >>> _options([ConnectorField(key="user"), ConnectorField(key="host"), ConnectorField(key="token", secret=True)])
    '--set user=VALUE host=VALUE --from-env token=VAR'
    """
    plain = [f"{field.key}=VALUE" for field in fields if not field.secret]
    secret = [f"{field.key}=VAR" for field in fields if field.secret]
    return " ".join(
        " ".join((option, *pairs)) for option, pairs in (("--set", plain), ("--from-env", secret)) if pairs
    )
