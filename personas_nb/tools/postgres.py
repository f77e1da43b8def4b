"""``postgres_query``: one statement that reads, on a PostgreSQL database.

- A query is declared as a cursor of the server, whose grammar takes nothing but SELECT, VALUES, TABLE and WITH; SHOW
  and EXPLAIN, which it does not take, are sent as they are. Either way by the extended protocol, in which a text
  holds one statement.
- The transaction is READ ONLY, cannot become another once something was read in it, and is never committed.
- Rows come a few at a time and as the database writes them, until there are enough or the answer is full.
- A call that is cancelled or late cancels its query on the server, whose own time limit stands behind that.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from personas_nb.errors import InvalidInput, ToolError, ToolTimeout
from personas_nb.settings import KIB, Settings
from personas_nb.vault.access import Opened
from personas_nb.vault.redaction import Redactor

if TYPE_CHECKING:
    from psycopg import Connection, Cursor
    from psycopg.pq.abc import PGresult

ROWS_LIMIT = 1_000
CELL_CHARS = 2_000

_CONNECT_SECONDS = 10
_BATCH_BYTES = 256 * KIB
_SAID_CHARS = 500
_CANCELS, _CANCEL_SECONDS = 3, 0.5
_HEAD_CHARS = 200  # of the answer's first line, and what the gateway may add
_DECLARE = "declare personas_nb no scroll cursor for "
_BY_CURSOR, _DIRECT = ("SELECT", "VALUES", "TABLE", "WITH"), ("SHOW", "EXPLAIN")
_BLANK = re.compile(r"(?:[\s(]|--[^\n\r]*)+")
_NO_SECRETS = Redactor({})


async def postgres_query(
    opened: Opened,
    settings: Settings,
    query: str,
    limit: int = 100,
    redactor: Redactor = _NO_SECRETS,
) -> str:
    """What a query gives, as CSV under its column names: NULL is nothing, an empty text ``""``.

    The first line counts the rows and says whether there are more, the second names the columns' types. ``limit`` is
    at most ``ROWS_LIMIT``; values are cut at ``CELL_CHARS`` and the rows at ``settings.tool_output_limit_chars``, after
    ``redactor`` took its secrets out. Raises ``InvalidInput`` for what is no statement that reads, ``ToolError`` with
    the database's sentence for what it refuses, and ``ToolTimeout``.
    """
    _check(query, limit)
    call = _Call(_login(opened), settings, query, int(limit), redactor)
    work = asyncio.ensure_future(asyncio.to_thread(call.run))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # nobody asks for it any more
        await asyncio.shield(asyncio.to_thread(call.stop))
        raise


class _Call:
    """One query on a connection of its own, run in one thread and stopped from another."""

    def __init__(
        self, login: Mapping[str, Any], settings: Settings, query: str, limit: int, redactor: Redactor
    ) -> None:
        self._login, self._settings, self._query, self._limit = login, settings, query, limit
        self._redactor = redactor
        self._deadline = time.monotonic() + settings.tool_timeout_ms / 1000
        self._connection: Connection[Any] | None = None
        self._closing = threading.Lock()
        self._is_stopped, self._is_over = threading.Event(), threading.Event()

    def run(self) -> str:
        """Connect, ask, and hang up; blocks."""
        try:
            import psycopg
        except ImportError:
            raise ToolError(
                "PostgreSQL cannot be reached: psycopg is missing.",
                hint="A person installs it with `pip install 'personas-nb[postgres]'`.",
            ) from None
        try:
            self._check_stopped()
            self._connection = self._connected()
            return self._asked(self._connection)
        except psycopg.Error as error:
            raise self._refused(error) from None
        finally:
            with self._closing:
                if self._connection is not None:
                    self._connection.close()  # which rolls back
            self._is_over.set()

    def stop(self) -> None:
        """Cancel the query on the server; where that ends nothing, cut the connection. Blocks for 3 s at most."""
        self._is_stopped.set()
        connection = self._connection
        if connection is None:  # not there yet: it asks nothing any more
            return
        for _ in range(_CANCELS):  # one that comes between two statements cancels nothing
            with suppress(Exception):  # the connection may break or be closed in this moment
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
            if self._is_over.wait(_CANCEL_SECONDS):
                return
        with self._closing, suppress(Exception):
            if not connection.closed:
                with socket.socket(fileno=os.dup(connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> Connection[Any]:
        import psycopg

        try:
            connection = psycopg.connect(
                **self._login,
                client_encoding="utf8",
                connect_timeout=_CONNECT_SECONDS,
                options="-c default_transaction_read_only=on",
                fallback_application_name="personas_nb",
                prepare_threshold=0,
                # or a thread would wait forever for a server that is no longer there
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
            )
        except psycopg.Error as error:
            reason = " ".join(str(error).split()).removeprefix("connection failed: ")
            raise ToolError(
                f"{self._login['host']} did not let it in: {self._said(reason or type(error).__name__)}.",
                retryable=True,
            ) from None
        connection.read_only = True
        return connection

    def _asked(self, connection: Connection[Any]) -> str:
        # Having read once, the transaction can no longer be made one that writes.
        connection.execute(
            "select pg_catalog.set_config('statement_timeout', %s, true)", [str(self._statement_ms())]
        )
        cursor = connection.cursor()
        batches = self._whole(cursor) if _first_word(self._query) in _DIRECT else self._batches(cursor)
        first = next(batches)
        names = [_text(first.fname(column)) or "" for column in range(first.nfields)]
        head = f"Types: {', '.join(self._types(connection, first))}\n{self._line(names)}"
        room = self._settings.tool_output_limit_chars - len(head) - _HEAD_CHARS
        lines, more = self._lines(chain([first], batches), room)
        count = f"{len(lines)} row{'' if len(lines) == 1 else 's'}"
        return "\n".join([f"{count}{more}.", head, *lines])

    def _batches(self, cursor: Cursor[Any]) -> Iterator[PGresult]:
        """The rows, a few at a time, up to one more than are shown."""
        self._execute(cursor, _DECLARE + self._query)
        wanted, count = self._limit + 1, 1
        while wanted:
            result = self._execute(cursor, f"fetch forward {count} from personas_nb")
            yield result
            if result.ntuples < count:
                return
            wanted -= count
            count = max(1, min(wanted, _BATCH_BYTES * count // (_size_bytes(result) + 1)))

    def _whole(self, cursor: Cursor[Any]) -> Iterator[PGresult]:
        yield self._execute(cursor, self._query)

    def _execute(self, cursor: Cursor[Any], statement: str) -> PGresult:
        self._check_stopped()
        cursor.execute(statement.encode(), prepare=True)  # prepared: one statement, or none
        assert cursor.pgresult is not None
        return cursor.pgresult

    def _types(self, connection: Connection[Any], result: PGresult) -> list[str]:
        columns = range(result.nfields)
        found = connection.execute(
            "select pg_catalog.format_type(type, modifier) from rows from (pg_catalog.unnest(%s::pg_catalog.oid[]), "
            "pg_catalog.unnest(%s::pg_catalog.int4[])) with ordinality as found (type, modifier, place) order by place",
            [[result.ftype(column) for column in columns], [result.fmod(column) for column in columns]],
        )
        return [" ".join(self._redactor.redact(name).split()) for (name,) in found]

    def _lines(self, batches: Iterator[PGresult], room: int) -> tuple[list[str], str]:
        """The rows as they are shown, and what is said where there are more."""
        lines: list[str] = []
        for result in batches:
            for row in range(result.ntuples):
                if len(lines) == self._limit:
                    return lines, "; there are more rows"
                line = self._line(_text(result.get_value(row, column)) for column in range(result.nfields))
                room -= len(line) + 1
                if room < 0 and lines:
                    return (
                        lines,
                        "; there are more rows, but no more room: ask for fewer columns, or for a part",
                    )
                lines.append(line)
        return lines, ""

    def _line(self, values: Any) -> str:
        return ",".join(_cell(None if value is None else self._redactor.redact(value)) for value in values)

    def _statement_ms(self) -> int:
        """What is left for one statement; a little less, so that it is the database that says so."""
        left_ms = (self._deadline - time.monotonic()) * 1000
        return max(1, int(left_ms - min(1000, self._settings.tool_timeout_ms / 10)))

    def _check_stopped(self) -> None:
        if self._is_stopped.is_set():
            raise ToolError("The query was cancelled.")

    def _refused(self, error: Any) -> ToolError:
        from psycopg import errors

        said = self._said(error.diag.message_primary or str(error) or type(error).__name__)
        hint = self._said(error.diag.message_hint or "")
        at = int(error.diag.statement_position or 0)
        if _first_word(self._query) not in _DIRECT:
            at -= len(_DECLARE)
        match error:
            case errors.QueryCanceled():
                return ToolTimeout(
                    f"The database ended the query: {said}.", hint="Ask for less, by a narrower condition."
                )
            case errors.ReadOnlySqlTransaction():
                return ToolError(
                    f"The database refused the query: {said}.", hint="postgres_query only reads."
                )
            case errors.SyntaxError() if "multiple commands" in said:
                return ToolError(
                    "The query holds several statements.", hint="Call postgres_query once for each."
                )
        where = f" (at character {at} of the query)" if at > 0 else ""
        return ToolError(f"The database refused the query: {said}{where}.", hint=f"{hint}." if hint else "")

    def _said(self, text: str) -> str:
        return self._redactor.redact(" ".join(text.split()))[:_SAID_CHARS].rstrip(".")


def _check(query: str, limit: int) -> None:
    if not 1 <= limit <= ROWS_LIMIT:
        raise InvalidInput(f"“limit” must be from 1 to {ROWS_LIMIT:,}.")
    word = _first_word(query)
    if word not in (*_BY_CURSOR, *_DIRECT):
        raise InvalidInput(
            f"postgres_query takes no {word[:30]}." if word else "“query” holds no statement.",
            hint=f"It only reads: give it one {', '.join((*_BY_CURSOR, *_DIRECT)[:-1])} or {_DIRECT[-1]}.",
        )
    # libpq would end the statement at a NUL, and a person have approved more than that
    if re.search("[\0\ud800-\udfff]", query):
        raise InvalidInput("“query” holds a character that no statement can have.")


def _first_word(query: str) -> str:
    """The first word of a statement in capitals, whatever comments and parentheses stand before it.

    >>> _first_word("/* a /* nested */ one */ (select 1)")
    'SELECT'
    """
    at = 0
    while at < len(query):
        if blank := _BLANK.match(query, at):
            at = blank.end()
        elif query.startswith("/*", at):
            at = _after_comment(query, at)
        else:
            break
    word = re.compile(r"\w+").match(query, at)
    return word[0].upper() if word else ""


def _after_comment(query: str, at: int) -> int:
    depth = 0
    for sign in re.compile(r"/\*|\*/").finditer(query, at):
        depth += 1 if sign[0] == "/*" else -1
        if depth == 0:
            return sign.end()
    return len(query)


def _login(opened: Opened) -> dict[str, Any]:
    fields = {key: value.strip() for key, value in opened.items()}
    for key in ("host", "database", "user", "password"):
        if not fields.get(key):
            raise ToolError(
                f"The credential “{opened.name}” ({opened.connector}) has no {key}.",
                hint="It needs a postgres credential.",
            )
    port = fields.get("port") or "5432"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ToolError(f"The port of the credential “{opened.name}” is no port: “{port[:20]}”.")
    return {
        "host": fields["host"],
        "port": int(port),
        "dbname": fields["database"],
        "user": fields["user"],
        "password": opened["password"],
        "sslmode": fields.get("sslmode") or "prefer",
    }


def _size_bytes(result: PGresult) -> int:
    return sum(
        len(result.get_value(row, column) or b"")
        for row in range(result.ntuples)
        for column in range(result.nfields)
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _cell(value: str | None) -> str:
    """A value as CSV.

    >>> print(*map(_cell, [None, "", "plain", 'a "b" c', "d,e"]), sep=",")
    ,"",plain,"a ""b"" c","d,e"
    """
    if value is None:
        return ""
    if len(value) > CELL_CHARS:
        value = f"{value[:CELL_CHARS]}… cut: {CELL_CHARS:,} of {len(value):,} characters"
    if value and value == value.strip() and not re.search(r'[,"\n\r]', value):
        return value
    return '"' + value.replace('"', '""') + '"'
