"""The MCP servers of personas: their definitions, their secrets, what they offer, and whether they work.

- A row holds no secret. A value may name a field of a credential (``credential:github.token``); a literal one
  whose name says that it is a secret goes to the vault first.
- What a server offers is listed when it is checked, and kept with its definition: a prompt is assembled without
  starting anything.
"""

from __future__ import annotations

import builtins
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from personas_nb.entities.base import made, new_id, now
from personas_nb.entities.mcp_server import REFERENCE, McpServer
from personas_nb.entities.persona import Persona
from personas_nb.errors import InvalidInput, NotFound, PersonaError, did_you_mean
from personas_nb.store.database import Store
from personas_nb.tools.listing import offered_tools, one_line
from personas_nb.tools.mcp import Connection, Launcher, Target
from personas_nb.vault.access import secret_parts
from personas_nb.vault.credentials import Credentials
from personas_nb.vault.redaction import Redactor, check_secret

if TYPE_CHECKING:
    from personas_nb.worker import Worker

CONNECTOR = "mcp"
_SECRET_NAME = re.compile(
    r"(?:^|[_\-.])(?:tokens?|keys?|secrets?|passw(?:or)?d|pass|auth|authorization|cookie|credentials?|pat)(?:$|[_\-.])"
    r"|token$|apikey|password",
    re.IGNORECASE,
)
# Beginnings of keys that many services give out; Bearer and Basic for headers of any name; a password in an address.
_SECRET_VALUE = re.compile(
    r"(?:sk-|gh[pousr]_|github_pat_|xox[abposr]-|glpat-|AKIA|ya29\.|Bearer |Basic )\S{8,}"
    r"|[a-z][a-z0-9+.-]*://[^/?#\s]*:[^/?#\s]*@",
    re.IGNORECASE,
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Servers:
    """The MCP servers of all personas of a home.

    ``worker`` is asked for when one is started; ``launch`` starts a program that ends with all that it started.
    """

    def __init__(
        self,
        store: Store,
        credentials: Credentials,
        *,
        worker: Callable[[], Worker],
        launch: Launcher,
        sweep: Callable[[Path], object] = lambda _folder: None,
    ) -> None:
        self.store = store
        self._credentials = credentials
        self._worker = worker
        self._launch = launch
        self._sweep = sweep
        self._rows = store.table("mcp_servers", McpServer)

    def list(self, persona_id: str | None = None) -> builtins.list[McpServer]:
        """The servers of a persona, or of all, by name."""
        if persona_id is None:
            return self._rows.find(order_by="name")
        return self._rows.find("persona_id = ?", [persona_id], order_by="name")

    def get(self, persona_id: str, name: str) -> McpServer:
        """One server of a persona; raises ``NotFound`` with the nearest."""
        found = self._rows.find("persona_id = ? and name = ?", [persona_id, name], limit=1)
        if found:
            return found[0]
        names = [server.name for server in self.list(persona_id)]
        there_are = f"There are {', '.join(names)}." if names else "The persona has no server yet."
        raise NotFound(f"There is no server “{name}”.", hint=did_you_mean(name, names, otherwise=there_are))

    def add(self, persona: Persona, name: str, **definition: Any) -> McpServer:
        """Make or change a server; see ``Tools.add_server``. What stays the same keeps what it listed."""
        command, url = _command(definition.get("command")), definition.get("url")
        if (not command) == (not url):
            raise InvalidInput("A server has either a command or a url.", hint="Give one of the two.")
        if url:
            _check_url(url)
        known = self._rows.find("persona_id = ? and name = ?", [persona.id, name], limit=1)
        before = known[0] if known else None
        blank = made(McpServer, {"persona_id": persona.id, "name": name})
        fields = {
            "command": command,
            "url": url,
            "only": tuple(definition.get("only") or ()),
            "timeout_ms": definition.get("timeout_ms"),
        }
        given = {kind: definition.get(kind) or {} for kind in ("env", "headers")}
        blank.changed(**fields)
        for kind, values in given.items():  # all of it first: what is refused leaves nothing in the vault
            for key, value in values.items():
                _check_pair(kind, key, value)
                if value.startswith(REFERENCE):
                    self._find(value)
        for kind, values in given.items():
            fields[kind] = self._without_secrets(persona, blank.name, kind, values)
        if before is None:
            return self._rows.insert(blank.changed(**fields))
        after = before.changed(**fields)
        if after == before:
            return before
        self._rows.update(before.id, **fields, updated_at=now())
        self._forget_unused(before, after)
        return self._rows.get(before.id) or after

    def remove(self, persona_id: str, name: str) -> None:
        """Take a server from a persona, and its secrets from the vault; raises ``NotFound``."""
        server = self.get(persona_id, name)
        self._rows.delete("id = ?", [server.id])
        self._forget_unused(server, None)

    def switch(self, persona_id: str, shown: str, *, on: bool) -> bool:
        """Give or take one ``server.tool``; False where no server of the persona offers it."""
        for server in self.list(persona_id):
            if any(tool.shown == shown for tool in server.offered):
                off = set(server.tools_off) - {shown} if on else {*server.tools_off, shown}
                if off != set(server.tools_off):
                    self._rows.update(server.id, tools_off=tuple(sorted(off)))
                return True
        return False

    def check(self, server: McpServer) -> McpServer:
        """Start it, list what it offers, end it; what was found is stored. Never raises for what the server does."""
        worker = self._worker()
        return self._run(worker, self._checked(server))

    def target(self, server: McpServer, *, cwd: Path, run_id: str = "") -> Target:
        """How to reach it, its secrets opened; raises ``NotFound`` and ``VaultError``."""
        worker = self._worker()
        folder = self.store.home / "mcp" / worker.id / f"{run_id or new_id()}-{server.name}"
        return Target(
            name=server.name,
            command=server.command,
            url=server.url,
            env=self._opened(server.env),
            headers=self._opened(server.headers),
            folder=folder,
            cwd=cwd,
            hide=Redactor(self.secrets([server])).redact,
        )

    def connection(self, target: Target) -> Connection:
        """A connection that is not started yet."""
        worker = self._worker()
        opened: set[Connection] = worker.service("mcp servers", lambda: self._begin(worker))
        connection = Connection(target, self._launch, on_close=opened.discard)
        opened.add(connection)
        return connection

    def secrets(self, servers: Sequence[McpServer]) -> dict[str, str]:
        """What must not be shown of these servers, by a name for each; what cannot be opened is left out."""
        found: dict[str, str] = {}
        for server in servers:
            for name, value in {**server.env, **server.headers}.items():
                if not value.startswith(REFERENCE):
                    continue
                with suppress(PersonaError):
                    for part, text in secret_parts(self._open(value)).items():
                        with suppress(InvalidInput):  # too short to be told from ordinary text
                            check_secret(name, text)
                            found[f"{server.name}_{name}{part}"] = text
        return found

    # --- secrets ------------------------------------------------------------------------------------------

    def _without_secrets(
        self, persona: Persona, server: str, kind: str, values: Mapping[str, str]
    ) -> dict[str, str]:
        """The values as they may be stored: a secret is sealed, and its place is named."""
        kept = {}
        for name, value in values.items():
            if value.startswith(REFERENCE):
                kept[name] = value
            elif _SECRET_NAME.search(name) or _SECRET_VALUE.match(value):
                field = f"{kind}_{name}"
                owner = f"mcp server {server} of {persona.slug} ({persona.id})"
                credential_id = self._credentials.keep(value, name=owner, connector=CONNECTOR, field=field)
                kept[name] = f"{REFERENCE}{credential_id}.{field}"
            else:
                kept[name] = value
        return kept

    def _find(self, reference: str) -> tuple[str, str]:
        """The id of the credential and the field that a reference means."""
        ref, _, field = reference.removeprefix(REFERENCE).rpartition(".")
        if not ref or not field:
            raise InvalidInput(f"“{reference}” names no field.", hint="Such as credential:github.token.")
        credential = self._credentials.get(ref)
        known = [*credential.plain, *credential.sealed]
        if field not in known:
            raise NotFound(
                f"The credential “{credential.name}” has no field “{field}”.",
                hint=did_you_mean(field, known, otherwise=f"It has {', '.join(known) or 'none'}."),
            )
        return credential.id, field

    def _open(self, reference: str) -> str:
        return self._credentials.reveal(*self._find(reference))

    def _opened(self, values: Mapping[str, str]) -> dict[str, str]:
        return {
            name: self._open(value) if value.startswith(REFERENCE) else value
            for name, value in values.items()
        }

    def _forget_unused(self, before: McpServer, after: McpServer | None) -> None:
        """Take the secrets that a definition had of its own out of the vault, when nothing names them any more."""
        mine = {
            value for value in (*before.env.values(), *before.headers.values()) if value.startswith(REFERENCE)
        }
        still = {*after.env.values(), *after.headers.values()} if after else set()
        owned = {ref.removeprefix(REFERENCE).rpartition(".")[0] for ref in mine}
        used = {ref.removeprefix(REFERENCE).rpartition(".")[0] for ref in still if ref.startswith(REFERENCE)}
        for credential_id in owned - used:
            with suppress(NotFound):
                credential = self._credentials.get(credential_id)
                if credential.connector == CONNECTOR and credential.id == credential_id:
                    self._credentials.remove(credential_id)

    def _begin(self, worker: Worker) -> set[Connection]:
        """Once per worker: clear up after those that died, and see to it that nothing outlives this one."""
        import asyncio

        opened: set[Connection] = set()
        self._sweep(self.store.home / "mcp")

        async def end_all() -> None:
            await asyncio.gather(*(connection.close() for connection in list(opened)))

        worker.at_stop(end_all)
        return opened

    # --- looking ------------------------------------------------------------------------------------------

    @staticmethod
    def _run(worker: Worker, coroutine: Coroutine[Any, Any, McpServer]) -> McpServer:
        return worker.run(coroutine)

    async def _checked(self, server: McpServer) -> McpServer:
        import asyncio

        begun = time.monotonic()
        fields: dict[str, Any] = {"status": "healthy", "detail": "", "latency_ms": None}
        hide = await asyncio.to_thread(lambda: Redactor(self.secrets([server])))
        try:
            cwd = self.store.home / "mcp"
            target = await asyncio.to_thread(lambda: self.target(server, cwd=cwd))
            connection = await asyncio.to_thread(self.connection, target)
            await connection.start()
            try:
                listed = await connection.tools()
            finally:
                await connection.close()
            tools, notes = offered_tools(server.name, listed, server.only, hide=hide.redact)
            fields["latency_ms"] = round((time.monotonic() - begun) * 1000)
            fields["detail"] = " ".join(notes)
            fields["offered"] = hide.redact_value([tool.model_dump() for tool in tools])
            fields["listed_for"] = server.digest
        except PersonaError as error:
            fields |= {"status": "unhealthy", "detail": str(error)}
        fields["detail"] = one_line(hide.redact(fields["detail"]), 600)
        fields["checked_at"] = now()
        checked = server.changed(**fields)
        await asyncio.to_thread(
            lambda: self._rows.update(server.id, **{name: getattr(checked, name) for name in fields})
        )
        return checked


def _command(given: object) -> tuple[str, ...]:
    import shlex

    if given is None:
        return ()
    parts = shlex.split(given) if isinstance(given, str) else given
    if not isinstance(parts, list | tuple) or not all(
        isinstance(part, str) and "\0" not in part for part in parts
    ):
        raise InvalidInput(
            "A command is a list of texts.", hint='Such as command=["uvx", "mcp-server-time"].'
        )
    for part in parts:
        name, equals, value = part.partition("=")
        is_secret = part.startswith(REFERENCE) or bool(_SECRET_VALUE.match(value or part))
        if is_secret or (equals and value and _SECRET_NAME.search(name.lstrip("-"))):
            raise InvalidInput(
                f"{f'“{name[:40]}”' if equals else 'An argument'} looks like a secret; any program can read arguments.",
                hint="Give it in env, where the server reads it from its environment.",
            )
    return tuple(parts)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("The url is no web address.", hint="It begins with http:// or https://.")
    if "@" in parts.netloc or any(_SECRET_NAME.search(name) for name, _ in parse_qsl(parts.query)):
        raise InvalidInput("The url holds a secret.", hint="Give it in headers, such as Authorization.")


def _check_pair(kind: str, name: object, value: object) -> None:
    pattern, what = (_ENV_NAME, "variable") if kind == "env" else (_HEADER_NAME, "header")
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise InvalidInput(f"“{str(name)[:60]}” cannot name a {what}.", hint="Use letters, digits and _.")
    if not isinstance(value, str) or re.search(r"[\0\r\n]", value):
        raise InvalidInput(f"The value of {name} is no text in one line.", hint="Give a text.")
