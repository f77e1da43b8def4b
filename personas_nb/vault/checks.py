"""Whether a credential works: it is really used, once, for a login or a harmless request.

- A check runs in a daemon thread of its own with a time limit: a name service or a server may never answer.
- Requests and mail logins go the way that those of tools go (``Outside``): the same limits, the same refusals.
- What a server says may repeat the secret that it was given: it is redacted before anybody sees it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from personas_nb.entities.credential import CheckStatus
from personas_nb.errors import PersonaError, ToolError
from personas_nb.vault.healthcheck import filled, kind_of
from personas_nb.vault.redaction import Redactor

CHECK_SECONDS = 20.0
DETAIL_LIMIT_CHARS = 300

Fields = Mapping[str, str]


class Outside(Protocol):
    """The way to other machines."""

    async def request(self, url: str, **request: Any) -> str:
        """The answer to an HTTP request, as JSON text with status, url and body. Raises ``ToolError``."""

    def log_in(self, protocol: str, login: Fields) -> None:
        """Log in to a mail server with host, port, user and password, and out. Raises ``ToolError``."""


@dataclass(frozen=True)
class CheckResult:
    """What a check found: ``detail`` is a sentence, ``latency_ms`` how long it took."""

    status: CheckStatus
    detail: str
    latency_ms: float


class Finding(NamedTuple):
    """A status and a sentence."""

    status: CheckStatus
    detail: str


_NO_WAY = Finding("unknown", "It cannot be checked here: there is no way to other machines.")


def check(
    definition: Mapping[str, Any],
    fields: Fields,
    *,
    secrets: Fields,
    outside: Outside | None,
    timeout_seconds: float = CHECK_SECONDS,
) -> CheckResult:
    """Perform a health check with opened fields; never raises for what the other side does."""
    looks: dict[str, Callable[[], Finding]] = {
        "http": lambda: _http(definition, fields, outside, timeout_seconds),
        "imap": lambda: _mail("imap", _settled(definition, fields), outside),
        "smtp": lambda: _mail("smtp", _settled(definition, fields), outside),
        "postgres": lambda: _postgres(_settled(definition, fields), timeout_seconds),
        "": lambda: Finding("unknown", "It opens; there is nothing to check it by."),
    }
    started = time.perf_counter()
    found = _within(timeout_seconds, looks[kind_of(definition)])
    latency_ms = round((time.perf_counter() - started) * 1000, 1)
    detail = Redactor(secrets).redact(found.detail)
    if len(detail) > DETAIL_LIMIT_CHARS:
        detail = detail[: DETAIL_LIMIT_CHARS - 1] + "…"
    return CheckResult(found.status, detail, latency_ms)


def _within(seconds: float, look: Callable[[], Finding]) -> Finding:
    found: list[Finding] = []

    def run() -> None:
        try:
            found.append(look())
        except PersonaError as error:
            found.append(Finding("unhealthy", str(error)))
        except Exception as error:  # a check says what happened, whatever a library raises
            found.append(Finding("unhealthy", f"The check itself failed ({type(error).__name__})."))

    # A thread of its own also because an event loop may run in the caller's.
    thread = threading.Thread(target=run, name="personas-check", daemon=True)
    thread.start()
    thread.join(seconds + 1)  # what has a limit of its own says more when it is reached
    return found[0] if found else Finding("unhealthy", f"There was no answer within {seconds:g} s.")


def _settled(definition: Mapping[str, Any], fields: Fields) -> dict[str, str]:
    return {key: filled(str(value), fields) for key, value in definition.items() if key != "kind"}


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────


def _http(definition: Mapping[str, Any], fields: Fields, outside: Outside | None, seconds: float) -> Finding:
    if outside is None:
        return _NO_WAY
    url = filled(definition["url"], fields, in_url=True)
    headers = {name: filled(value, fields) for name, value in (definition.get("headers") or {}).items()}
    if any(ord(character) < 32 or ord(character) == 127 for value in headers.values() for character in value):
        return Finding("unhealthy", "A value cannot be sent in a header: it holds a line break.")

    async def ask() -> str:
        async with asyncio.timeout(seconds):
            return await outside.request(
                url, method=definition.get("method", "GET"), headers=headers, json=definition.get("json")
            )

    try:
        answer = json.loads(asyncio.run(ask()))
    except TimeoutError as error:
        if isinstance(error, PersonaError):
            raise
        return Finding("unhealthy", f"There was no answer within {seconds:g} s.")
    return _judged(definition, answer)


def _judged(definition: Mapping[str, Any], answer: Mapping[str, Any]) -> Finding:
    """What an answer says about the credential."""
    status, host = answer["status"], answer["url"].split("/")[2]
    try:
        body = json.loads(answer["body"])
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    why = next(
        (f": {body[key]}" for key in ("error", "description", "message") if _is_text(body.get(key))), ""
    )
    expected = definition.get("expect_status")
    accepted = expected if isinstance(expected, list | tuple) else [expected or 200]
    is_expected = status in accepted or (expected is None and 200 <= status < 300)
    wanted = definition.get("expect_json") or {}
    if is_expected and all(body.get(key) == value for key, value in wanted.items()):
        return Finding("healthy", f"{host} accepts it{_as_whom(body)}.")
    if is_expected:
        return Finding("unhealthy", f"{host} does not accept it{why}.")
    if status in (401, 403):
        return Finding("unhealthy", f"{host} refuses it ({status}{why}).")
    if status == 429:
        return Finding("degraded", f"{host} asks to wait (429{why}); check again later.")
    if status >= 500:
        return Finding("unhealthy", f"{host} has a fault of its own ({status}{why}); check again later.")
    if expected is None and not wanted:
        return Finding("degraded", f"{host} answers {status}: it did not refuse it, nor accept it.")
    return Finding("unhealthy", f"{host} answers {status}{why}.")


def _as_whom(body: Mapping[str, Any]) -> str:
    inner = body["result"] if isinstance(body.get("result"), dict) else body
    return next(
        (f", as {inner[key]}" for key in ("login", "username", "user") if _is_text(inner.get(key))), ""
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()


# ── logins ──────────────────────────────────────────────────────────────────────────────────────────────────


def _mail(protocol: str, login: Fields, outside: Outside | None) -> Finding:
    if outside is None:
        return _NO_WAY
    try:
        outside.log_in(protocol, login)
    except ToolError as error:
        # A hint about this very check is meant for a tool's caller.
        hint = "" if "credentials check" in error.hint else error.hint
        return Finding("unhealthy", f"{error.message} {hint}".strip())
    return Finding("healthy", f"{login['host']} accepts it, as {login['user']}.")


_MAY_WRITE = """
    select rolsuper or exists (
        select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema')
        and has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
    ) from pg_roles where rolname = current_user
"""


def _postgres(login: Fields, seconds: float) -> Finding:
    try:
        import psycopg
    except ImportError:
        return Finding(
            "unknown", "It cannot be checked: psycopg is missing. Run pip install 'personas-nb[postgres]'."
        )
    host, port = login["host"], int(login["port"])
    try:
        with psycopg.connect(
            host=host,
            port=port,
            dbname=login["database"],
            user=login["user"],
            password=login["password"],
            sslmode=login.get("sslmode") or "prefer",
            connect_timeout=max(2, int(seconds)),
            options=f"-c default_transaction_read_only=on -c statement_timeout={int(seconds * 1000)}",
        ) as connection:
            row = connection.execute(_MAY_WRITE).fetchone()
    except psycopg.Error as error:
        reason = " ".join(str(error).split()).removeprefix("connection failed: ") or type(error).__name__
        return Finding("unhealthy", f"{host} did not let it in: {reason.rstrip('.')}.")
    if row and row[0]:
        return Finding(
            "degraded",
            f"{host} accepts it, as {login['user']}; but this role may write: make one that may not.",
        )
    return Finding("healthy", f"{host} accepts it, as {login['user']}, for reading.")
