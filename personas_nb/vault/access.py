"""The credentials that one run may use: matched when it begins, opened when a tool asks.

- A value is opened at the moment of use, in the tool's thread, from the row as it is then.
- Every sealed value of the home is known to the run's redactor before anything is shown. One that is not, because
  it was changed after the run began, is not handed out.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from urllib.parse import unquote

from personas_nb.entities.connector import Connector
from personas_nb.entities.execution import CredentialUse
from personas_nb.entities.tool import ToolDefinition
from personas_nb.errors import InvalidInput, KeyUnavailable, NotFound, PersonaError, ToolDenied, did_you_mean
from personas_nb.vault.cipher import key_id_of
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.environment import variables
from personas_nb.vault.lookup import Match, matches
from personas_nb.vault.redaction import Redactor, check_secret


class NoCredential(ToolDenied):
    """The tool got no credential, so that nothing was done."""


class Opened(Mapping[str, str]):
    """The fields of one credential in the clear, for one call; never printed.

    ``name`` is the credential's, ``connector`` its connector's name; ``secret_keys`` are the fields that are secret.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        *,
        name: str,
        connector: str,
        secret_keys: Sequence[str] = (),
        definition: Connector | None = None,
    ) -> None:
        self._fields = dict(fields)
        self.name, self.connector = name, connector
        self.secret_keys = frozenset(secret_keys)
        self.definition = definition

    def __getitem__(self, key: str) -> str:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<credential {self.name!r} of {self.connector}: {', '.join(self._fields)}>"


class Access:
    """What the tools of one run may open; ``matches`` is by the tool's name."""

    def __init__(
        self, credentials: Credentials, matches: Mapping[str, Sequence[Match]], redactor: Redactor
    ) -> None:
        self._credentials, self.matches, self._redactor = credentials, matches, redactor

    def open(self, tool: str, ref: str, needs: str | None = None) -> Opened:
        """The credential of that name, or of that connector, that was matched for the tool; ``""``: the first.

        Raises ``NoCredential`` where there is none, where it was removed or changed after the run began, and where
        it does not open. ``needs`` is the type that the tool requires, for the next step.
        """
        found = self._found(tool, ref, needs)
        try:
            row = self._credentials.get(found.credential.id)
        except NotFound:
            raise NoCredential(
                f"The credential “{found.credential.name}” was removed after this run began.",
                hint="Go on without it and say so; a person adds it again, then runs again.",
            ) from None
        try:
            fields = self._credentials.opened(row)
        except PersonaError as error:
            raise NoCredential(error.message, hint=error.hint) from None
        for key in row.sealed:
            # Its value is not known to what keeps secrets out of the output.
            if self._redactor.redact(fields[key]) == fields[key]:
                raise NoCredential(
                    f"The credential “{row.name}” was changed after this run began.",
                    hint="Go on without it and say so; the next run has the new one.",
                )
        return Opened(
            fields,
            name=row.name,
            connector=row.connector,
            secret_keys=tuple(row.sealed),
            definition=found.connector,
        )

    def uses(self) -> tuple[CredentialUse, ...]:
        """What was matched for which tool, for the record of the run."""
        return tuple(
            CredentialUse(
                tool=tool,
                connector=each.credential.connector,
                credential=each.credential.name,
                tier=each.tier,
            )
            for tool, several in self.matches.items()
            for each in several
        )

    def environment(self) -> dict[str, str]:
        """The matched credentials as variables of a child process, the preferred one of each connector.

        What does not open, or has a name that no connector may set, is left out.
        """
        found: dict[str, str] = {}
        for tool, several in self.matches.items():
            for each in several:
                with suppress(PersonaError):
                    opened = self.open(tool, each.credential.name)
                    for field, value in opened.items():
                        with suppress(InvalidInput):
                            found = variables(opened.connector, {field: value}) | found
        return found

    def hints(self, tools: Sequence[ToolDefinition]) -> list[dict[str, str]]:
        """What a prompt says of the credentials, by name: for which tools, with which fields; and what has none."""
        several = {each.credential.name: each for found in self.matches.values() for each in found}
        named = [{"name": name, "description": self._described(name, each)} for name, each in several.items()]
        lacking = [
            {
                "name": tool.name,
                "description": f"it has no {tool.requires_credential_type} credential and its calls are refused: "
                "go on without it, and say so in the outcome",
            }
            for tool in tools
            if tool.requires_credential_type and tool.name not in self.matches
        ]
        return named + lacking

    def _described(self, name: str, match: Match) -> str:
        tools = [
            tool for tool, several in self.matches.items() if name in (m.credential.name for m in several)
        ]
        defined = [field.key for field in match.connector.fields] if match.connector else []
        fields = dict.fromkeys([*defined, *match.credential.fields_set])
        plain = {field.key: field.default for field in match.connector.fields} if match.connector else {}
        addresses = [
            value
            for value in {**plain, **match.credential.plain}.values()
            if value and value.startswith(("http://", "https://"))
        ]
        goes_to = f"; it goes to {', '.join(addresses)}" if addresses else ""
        return f"{match.credential.connector}, for {', '.join(tools)}; its fields are {', '.join(fields)}{goes_to}"

    def _found(self, tool: str, ref: str, needs: str | None) -> Match:
        several = self.matches.get(tool, ())
        if not several:
            raise NoCredential(
                f"There is no credential for {tool}.",
                hint="Go on without it and say so; a person adds one with "
                f"`%persona credentials add NAME {needs or 'CONNECTOR'}`.",
            )
        by_name = [each for each in several if ref in ("", each.credential.name)]
        if found := by_name or [each for each in several if ref == each.credential.connector]:
            return found[0]
        names = [each.credential.name for each in several]
        raise NoCredential(
            f"There is no credential “{ref}” for {tool}.",
            hint=did_you_mean(ref, names, otherwise=f"There are {', '.join(names)}."),
        )


def access_of(credentials: Credentials, tools: Sequence[ToolDefinition], redactor: Redactor) -> Access:
    """What these tools may open; ``redactor`` is the run's, and knows every secret of ``known_secrets``."""
    found: dict[str, tuple[Match, ...]] = {}
    if rows := credentials.list():
        connectors = credentials.connectors.list()
        found = {tool.name: matches(tool, connectors, rows) for tool in tools}
    return Access(credentials, {name: several for name, several in found.items() if several}, redactor)


def known_secrets(credentials: Credentials) -> tuple[dict[str, str], list[str]]:
    """Every sealed value of the home that can be kept out of text, by ``CREDENTIAL.FIELD``; and what did not open.

    What of a value is a secret by itself, as the password in an address, has a name of its own. Nothing is raised:
    who does not need a credential that is damaged or locked goes on without it.
    """
    secrets: dict[str, str] = {}
    problems: list[str] = []
    missing: set[str] = set()  # keys that are not to be had: asking again may take the time limit again
    for row in credentials.list():
        for key, sealed in row.sealed.items():
            key_id = _key_id(sealed)
            if key_id in missing:
                continue
            try:
                value = credentials.reveal(row.id, key)
            except KeyUnavailable as error:
                missing.add(key_id)
                problems.append(str(error))
                continue
            except NotFound:  # removed in this moment
                break
            except PersonaError as error:
                problems.append(f"The credential “{row.name}” does not open: {error}")
                continue
            for part, text in secret_parts(value).items():
                with suppress(InvalidInput):  # too short to be told from ordinary text; refused since
                    check_secret(key, text)
                    secrets[f"{row.name}.{key}{part}"] = text
    return secrets, problems


def secret_parts(value: str) -> dict[str, str]:
    """The value, and what of it is a secret by itself, by a suffix for its name.

    >>> secret_parts("Bearer tok-0123456")
    {'': 'Bearer tok-0123456', ' token': 'tok-0123456'}
    >>> secret_parts("postgres://ann:correct%20horse@db/sales")[" password"]
    'correct horse'
    """
    parts = {"": value}
    scheme, _, token = value.strip().partition(" ")
    if scheme.lower() in ("bearer", "basic", "token") and token.strip():
        parts[" token"] = token.strip()
    login = ""
    if scheme.lower() == "basic":
        with suppress(ValueError):
            login = b64decode(token.strip(), validate=True).decode()
    elif address := re.match(r"[A-Za-z][\w+.-]*://([^/?#\s]*)@", value.strip()):
        login = unquote(address[1])
    if password := login.partition(":")[2]:
        parts[" password"] = password
    return parts


def _key_id(sealed: str) -> str:
    try:
        return key_id_of(sealed)
    except PersonaError:  # it is damaged, which opening it says
        return ""
