"""Which stored credential serves which tool.

Three tiers; the first in which a tool finds a credential counts, and all that it finds there:

1. credentials of a connector that names the tool among those it serves
2. credentials of a connector whose name begins as the type that the tool requires, or the other way round
3. credentials that were stored for just that type, also where no connector of that name is defined

Within a tier the connector of exactly the required name comes first, then connectors and credentials by name, so
that the same store always gives the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from personas_nb.entities.connector import Connector
from personas_nb.entities.credential import Credential
from personas_nb.entities.tool import ToolDefinition

PREFIX_MIN_CHARS = 3  # “g” is the beginning of too much


@dataclass(frozen=True)
class Match:
    """A credential for a tool, and the tier that found it; ``connector`` is None where none is defined."""

    credential: Credential
    connector: Connector | None
    tier: int


def match(
    tools: Iterable[ToolDefinition], connectors: Sequence[Connector], credentials: Sequence[Credential]
) -> dict[str, Match]:
    """The credential of each tool that has one, by the tool's name; of several the first.

    >>> gmail = Connector(name="gmail", tools=("gmail_read",))
    >>> kept = Credential(name="my mail", connector="gmail")
    >>> found = match([ToolDefinition(name="gmail_read")], [gmail], [kept])
    >>> found["gmail_read"].credential.name, found["gmail_read"].tier
    ('my mail', 1)
    """
    found = {tool.name: matches(tool, connectors, credentials) for tool in tools}
    return {name: several[0] for name, several in found.items() if several}


def matches(
    tool: ToolDefinition, connectors: Sequence[Connector], credentials: Sequence[Credential]
) -> tuple[Match, ...]:
    """All credentials that may serve the tool, the preferred one first."""
    needed = (tool.requires_credential_type or "").casefold()
    serving = [connector for connector in connectors if tool.name in connector.tools]
    alike = [connector for connector in connectors if needed and _begin_alike(connector.name, needed)]
    defined = {connector.name: connector for connector in connectors}
    return (
        tuple(_of(serving, needed, credentials, 1))
        or tuple(_of(alike, needed, credentials, 2))
        or tuple(
            Match(credential, defined.get(credential.connector), 3)
            for credential in _by_name(credentials)
            if needed and credential.connector.casefold() == needed
        )
    )


def _of(
    connectors: Iterable[Connector], needed: str, credentials: Sequence[Credential], tier: int
) -> Iterator[Match]:
    for connector in sorted(connectors, key=lambda each: (each.name.casefold() != needed, each.name)):
        for credential in _by_name(credentials):
            if credential.connector == connector.name:
                yield Match(credential, connector, tier)


def _by_name(credentials: Iterable[Credential]) -> list[Credential]:
    return sorted(credentials, key=lambda each: (each.name.casefold(), each.name))


def _begin_alike(one: str, other: str) -> bool:
    """``google`` and ``Google-Workspace`` begin alike; case and what is no letter or digit do not count."""
    short, long = sorted((_plain(one), _plain(other)), key=len)
    return len(short) >= PREFIX_MIN_CHARS and long.startswith(short)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())
