"""Queries on a real PostgreSQL: what they give, what they cannot do, and how they end."""

from __future__ import annotations

import asyncio
import csv
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.model_server import ModelServer, Turn
from support.postgres import PASSWORD as ADMIN_PASSWORD
from support.postgres import Postgres, postgres
from support.studios import persona_of, studio_at, wait_until
from test_spoofed_mail import ANSWERS, BODIES, OBJECTS, nothing_was_done

from personas_nb import Studio
from personas_nb.errors import InvalidInput, PersonaError, ToolError, ToolTimeout
from personas_nb.settings import Settings
from personas_nb.store import migrations
from personas_nb.tools import postgres as tool
from personas_nb.tools.gateway import Gateway
from personas_nb.tools.postgres import CELL_CHARS, postgres_query
from personas_nb.tools.preview import preview
from personas_nb.vault.access import Opened
from personas_nb.vault.redaction import Redactor

SECRET = "correct-horse-battery"
TOKEN = "tok-0123456789abcdef"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres() as server:
        server.run(
            "create type mood as enum ('sad', 'happy')",
            "create table invoices (id int, customer varchar(20), total numeric(10,2), paid boolean)",
            "insert into invoices values (1, 'Ann', 3.5, true), (2, null, 0, false), (3, '', 1000000, null)",
            "create sequence counter",
            # what a function of the database may try, as its superuser
            """create function emptied(mode text) returns int language plpgsql volatile as $$ begin
                if mode = 'set' then set transaction read write; end if;
                if mode = 'config' then perform set_config('transaction_read_only', 'off', true); end if;
                if mode = 'commit' then commit; end if;
                delete from invoices; return 1;
            end $$""",
            """create procedure empty() language plpgsql as $$ begin
                rollback; set transaction read write; delete from invoices; commit;
            end $$""",
            f"create role reader login password '{SECRET}'",
            "grant select on invoices to reader",
            "create table notes (body text, parsed jsonb)",
            "grant select on notes to reader",
        )
        yield server


def login(server: Postgres, /, user: str = "reader", password: str = SECRET, **fields: str) -> Opened:
    known = {"host": "127.0.0.1", "port": str(server.port), "database": "postgres", "sslmode": "prefer"}
    return Opened({**known, "user": user, "password": password, **fields}, name="sales", connector="postgres")


def ask(database: Postgres, query: str, *, as_admin: bool = False, **options: Any) -> str:
    opened = login(database, "admin", ADMIN_PASSWORD) if as_admin else login(database)
    return asyncio.run(postgres_query(opened, options.pop("settings", Settings()), query, **options))


def rows_of(answer: str) -> list[list[str]]:
    """The rows below the count, the types and the names."""
    body = answer.split("\n", 2)[2]
    return list(csv.reader(StringIO(body, newline="")))[1:]


# What it gives


def test_a_query_is_answered_as_csv_with_types_and_a_count(database: Postgres) -> None:
    assert ask(database, "select * from invoices order by id") == (
        "3 rows.\n"
        "Types: integer, character varying(20), numeric(10,2), boolean\n"
        "id,customer,total,paid\n"
        "1,Ann,3.50,t\n"
        "2,,0.00,f\n"
        '3,"",1000000.00,'
    )


def test_no_rows_still_have_names_and_types(database: Postgres) -> None:
    assert ask(database, "select id, now() as at from invoices where false") == (
        "0 rows.\nTypes: integer, timestamp with time zone\nid,at"
    )


def test_values_are_written_as_the_database_writes_them(database: Postgres) -> None:
    query = """select 'infinity'::date, '0044-03-15 BC'::date, 'NaN'::numeric, array['a b', null], '{"b": 1}'::jsonb,
        'happy'::mood, row(1, 'x'), '\\xdead'::bytea"""
    (row,) = rows_of(ask(database, query))
    assert row == [
        "infinity", "0044-03-15 BC", "NaN", '{"a b",NULL}', '{"b": 1}', "happy", "(1,x)", "\\xdead",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("values (1, 'a')", ["1", "a"]),
        ("table invoices limit 1", ["1", "Ann", "3.50", "t"]),
        ("with big as (select * from invoices where total > 1) select count(*) from big", ["2"]),
        ("show server_encoding", ["UTF8"]),
        ("/* one /* two */ */ (select 1) union (select 1) -- done", ["1"]),
        ("select 'a; b -- c' ;", ["a; b -- c"]),
        ("select '100 %s %(x)s %'", ["100 %s %(x)s %"]),
        ("select current_setting('transaction_read_only')", ["on"]),
        ("select current_setting('default_transaction_read_only')", ["on"]),
    ],
)
def test_every_kind_of_reading_statement_is_taken(database: Postgres, query: str, row: list[str]) -> None:
    assert rows_of(ask(database, query)) == [row]


def test_explain_shows_the_plan(database: Postgres) -> None:
    assert "Seq Scan on invoices" in ask(database, "explain (analyze) select * from invoices")


@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_be_read_back_from_the_csv(database: Postgres, value: str) -> None:
    literal = "'" + value.replace("'", "''") + "'"
    assert rows_of(ask(database, f"select {literal}, 'next', null, {literal}")) == [
        [value, "next", "", value]
    ]


# How much


def test_more_rows_than_asked_for_are_said_and_never_read(database: Postgres) -> None:
    answer = ask(database, "select generate_series(1, 2000000000), repeat('x', 100)", limit=25)
    assert answer.startswith("25 rows; there are more rows.\n")
    assert [row[0] for row in rows_of(answer)] == [str(number) for number in range(1, 26)]


def test_exactly_as_many_rows_as_asked_for_are_all(database: Postgres) -> None:
    assert ask(database, "select generate_series(1, 3)", limit=3).startswith("3 rows.\n")


def test_an_answer_that_is_full_ends_after_a_whole_row(database: Postgres) -> None:
    query = "select g, repeat('y', 500) from generate_series(1, 1000) g"
    answer = ask(database, query, limit=1000)
    rows = rows_of(answer)
    assert answer.startswith(f"{len(rows)} rows; there are more rows, but no more room")
    assert len(answer) <= Settings().tool_output_limit_chars
    assert 30 < len(rows) < 40
    assert all(row[1] == "y" * 500 for row in rows)


def test_a_long_value_is_cut_and_says_how_long_it_is(database: Postgres) -> None:
    ((value,),) = rows_of(ask(database, "select repeat('z', 5000)"))
    assert value == "z" * CELL_CHARS + "… cut: 2,000 of 5,000 characters"


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_refused(database: Postgres, limit: int) -> None:
    with pytest.raises(InvalidInput, match="“limit” must be from 1 to 1,000"):
        ask(database, "select 1", limit=limit)


# What it cannot do, even as the superuser of the database

REFUSED = (
    "postgres_query takes no",
    "several statements",
    "read-only transaction",
    "must be set before any query",
    "must not contain data-modifying statements",
    "syntax error at or near",
    "invalid transaction termination",
    "there is no parameter $1",
    "prepared statement",
    "INTO",
)
ATTEMPTS = [
    "COMMIT; DROP TABLE invoices",
    "select 1; drop table invoices",
    "select 1; commit; drop table invoices; begin",
    "(select 1); delete from invoices",
    "values (1); delete from invoices",
    "table invoices; delete from invoices",
    "with x as (select 1) select * from x; delete from invoices",
    "show server_version; drop table invoices",
    "explain select 1; commit; drop table invoices",
    "explain select 1; set transaction read write; delete from invoices",
    "select 1 -- \r; drop table invoices",
    "/* select */ drop table invoices",
    "-- select\ndrop table invoices",
    "set transaction read write",
    "set session characteristics as transaction read write",
    "begin read write",
    "do $$ begin set transaction read write; delete from invoices; end $$",
    "call empty()",
    "copy invoices to program 'touch {marker}'",
    "copy (select 1) to '{marker}'",
    "select 1; copy (select 1) to '{marker}'",
    "explain copy (select 1) to '{marker}'",
    "with gone as (delete from invoices returning *) select * from gone",
    "with x as (select 1) delete from invoices",
    "explain analyze delete from invoices",
    "explain analyze with gone as (delete from invoices returning *) select * from gone",
    "explain analyze select emptied('')",
    "select set_config('transaction_read_only', 'off', false)",
    "select set_config('transaction_read_only', 'off', false), emptied('')",
    "select emptied('')",
    "select emptied('set')",
    "select emptied('config')",
    "select emptied('commit')",
    "select nextval('counter')",
    "select * into made from invoices",
    "select * from invoices for update",
    "insert into invoices values (9)",
    "update invoices set total = 0",
    "truncate invoices",
    "alter role reader set default_transaction_read_only = off",
    "prepare gone as delete from invoices",
    "explain analyze execute gone",
    "declare other cursor with hold for select 1",
    "vacuum",
    "listen news",
    "select $1",
]


def state_of(database: Postgres) -> list[Any]:
    with psycopg.connect(
        host="127.0.0.1", port=database.port, user="admin", password=ADMIN_PASSWORD, dbname="postgres"
    ) as connection:
        queries = (
            "select count(*) from invoices",
            "select relname from pg_class where relnamespace = 'public'::regnamespace order by relname",
            "select last_value, is_called from counter",
            "select count(*) from pg_largeobject_metadata",
            "select count(*) from pg_db_role_setting",
        )
        return [connection.execute(query.encode()).fetchall() for query in queries]


@pytest.mark.parametrize("query", ATTEMPTS)
def test_no_query_changes_anything(database: Postgres, tmp_path: Path, query: str) -> None:
    marker = Path("/tmp") / f"personas-marker-{database.port}"  # where the server's user may write
    before = state_of(database)
    with pytest.raises(PersonaError) as caught:
        ask(database, query.replace("{marker}", str(marker)), as_admin=True)
    assert any(part in str(caught.value) for part in REFUSED), caught.value
    assert state_of(database) == before
    assert not marker.exists()


@pytest.mark.parametrize("word", ["SELECT", "EXPLAIN"])
def test_the_database_alone_holds_them_off_whatever_the_first_word_is_taken_for(
    database: Postgres, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(tool, "_first_word", lambda query: word)
    before = state_of(database)
    for query in ATTEMPTS:
        if "copy" not in query:
            with suppress(ToolError):
                ask(database, query, as_admin=True)
        assert state_of(database) == before, query


@pytest.mark.parametrize(
    "query",
    [
        "select lo_create(4711)",
        "explain analyze create table made as select 1",
        "select set_config('default_transaction_read_only', 'off', false)",
        "select setting from pg_settings where name = 'port'",
    ],
)
def test_what_the_database_allows_is_never_committed(database: Postgres, query: str) -> None:
    before = state_of(database)
    with suppress(ToolError):  # newer versions refuse more
        ask(database, query, as_admin=True)
    assert state_of(database) == before


def test_the_same_function_does_change_something_in_another_transaction(database: Postgres) -> None:
    with psycopg.connect(
        host="127.0.0.1", port=database.port, user="admin", password=ADMIN_PASSWORD, dbname="postgres"
    ) as connection:
        connection.execute("select emptied('')")
        assert connection.execute("select count(*) from invoices").fetchone() == (0,)
        connection.rollback()


# What it says


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (
            "DELETE FROM invoices",
            "postgres_query takes no DELETE. It only reads: give it one SELECT, VALUES, TABLE",
        ),
        ("  -- nothing\n", "“query” holds no statement."),
        ("select 1; select 2", "The query holds several statements. Call postgres_query once for each."),
        (
            "select * from invoice",
            'The database refused the query: relation "invoice" does not exist (at character 15 of the query).',
        ),
        ("show nothing_like_it", 'unrecognized configuration parameter "nothing_like_it"'),
        ("selec 1", "postgres_query takes no SELEC."),
        ("select nextval('counter')", "permission denied for sequence counter"),
        ("select 1\0; drop", "“query” holds a character that no statement can have."),
        ("select '\ud800'", "“query” holds a character that no statement can have."),
        ("select 1 where", "syntax error at end of input (at character 15 of the query)."),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(database: Postgres, query: str, sentence: str) -> None:
    with pytest.raises(PersonaError) as caught:
        ask(database, query)
    assert sentence in str(caught.value)


def test_what_the_database_suggests_is_passed_on(database: Postgres) -> None:
    with pytest.raises(ToolError, match="Perhaps you meant to reference the column"):
        ask(database, "select custome from invoices")


def test_a_query_that_would_write_hears_that_the_tool_only_reads(database: Postgres) -> None:
    with pytest.raises(ToolError, match=r"cannot execute DELETE in a read-only.*postgres_query only reads"):
        ask(database, "select emptied('')", as_admin=True)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"password": "wrong-password-0"}, "127.0.0.1 did not let it in"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"sslmode": "require"}, "server does not support SSL"),
        ({"sslmode": "sometimes"}, "invalid sslmode value"),
        ({"port": "x"}, "The port of the credential “sales” is no port: “x”."),
        ({"host": " "}, "The credential “sales” (postgres) has no host."),
    ],
)
def test_a_login_that_fails_says_why_and_nothing_secret(
    database: Postgres, fields: dict[str, str], sentence: str
) -> None:
    opened = login(database, **fields)
    with pytest.raises(ToolError) as caught:
        asyncio.run(postgres_query(opened, Settings(), "select 1"))
    assert sentence in str(caught.value)
    assert opened["password"] not in str(caught.value)


def test_a_server_that_is_not_there_is_said(database: Postgres) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with pytest.raises(ToolError, match=r"127\.0\.0\.1 did not let it in: .*refused"):
        asyncio.run(postgres_query(login(database, port=port), Settings(), "select 1"))


def test_without_psycopg_it_says_what_to_install(database: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ToolError, match=r"pip install 'personas-nb\[postgres\]'"):
        ask(database, "select 1")


# How it ends


def running(database: Postgres, mark: str) -> int:
    with psycopg.connect(
        host="127.0.0.1", port=database.port, user="admin", password=ADMIN_PASSWORD, dbname="postgres"
    ) as connection:
        found = connection.execute(
            "select count(*) from pg_stat_activity where usename = 'reader' and query like %s",
            [f"%{mark}%"],
        ).fetchone()
        assert found is not None
        return int(found[0])


def sleeping(database: Postgres, mark: str) -> str:
    return f"select pg_sleep(600) /* {mark} */"


def test_a_cancelled_call_ends_on_the_server(database: Postgres) -> None:
    async def cancelled() -> None:
        call = asyncio.create_task(
            postgres_query(login(database), Settings(), f"explain analyze {sleeping(database, 'mark-1')}")
        )
        await asyncio.to_thread(wait_until, lambda: running(database, "mark-1"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancelled())
    wait_until(lambda: not running(database, "mark-1"))


def test_a_connection_that_cannot_be_cancelled_is_cut(database: Postgres) -> None:
    """A way to the server that lets no second connection through: the request to cancel never arrives."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=forward_one, args=(door, database.port), daemon=True).start()
        port = str(door.getsockname()[1])

        async def cancelled() -> None:
            query = sleeping(database, "mark-2")
            call = asyncio.create_task(postgres_query(login(database, port=port), Settings(), query))
            await asyncio.to_thread(wait_until, lambda: running(database, "fetch forward"))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        before = threading.active_count()
        asyncio.run(cancelled())
        wait_until(lambda: threading.active_count() <= before)
    database.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader' and state = 'active'"
    )


def forward_one(door: socket.socket, port: int) -> None:
    here, _ = door.accept()
    there = socket.create_connection(("127.0.0.1", port))

    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65_536):
            target.sendall(data)

    threading.Thread(target=pump, args=(there, here), daemon=True).start()
    pump(here, there)


def test_the_database_ends_a_query_that_takes_too_long(database: Postgres) -> None:
    begun = time.monotonic()
    with pytest.raises(
        ToolTimeout, match="The database ended the query: canceling statement due to statement"
    ):
        ask(database, sleeping(database, "mark-3"), settings=Settings(tool_timeout_ms=2_000))
    assert time.monotonic() - begun < 30
    wait_until(lambda: not running(database, "mark-3"))


@pytest.fixture
def studio(home: Path) -> Iterator[Studio]:
    with studio_at(home, provider="rehearsal") as opened:
        yield opened


def gateway_of(studio: Studio, workspace: Path, database: Postgres, settings: Settings) -> Gateway:
    class Access:
        def open(self, tool: str, ref: str, needs: str | None = None) -> Opened:
            return login(database)

    access: Any = Access()
    return Gateway(
        [studio.tools.get("postgres_query")], workspace=workspace, settings=settings, access=access
    )


def test_a_query_that_lifts_its_own_limit_is_cancelled_all_the_same(
    studio: Studio, tmp_path: Path, database: Postgres
) -> None:
    gateway = gateway_of(studio, tmp_path, database, Settings(tool_timeout_ms=3_000))
    query = (
        "select set_config('statement_timeout', '0', false) union all select 'mark-4' "
        "union all select pg_sleep(600)::text"
    )
    step = asyncio.run(gateway.call("postgres_query", {"query": query}))
    assert (step.error or "").startswith("postgres_query took longer than 3 s."), step
    wait_until(lambda: not running(database, "fetch forward"))


# Secrets


def test_secrets_are_taken_out_of_rows_names_and_errors(database: Postgres) -> None:
    redactor = Redactor({"TOKEN": TOKEN})
    answer = ask(
        database, f"""select '{TOKEN}' as "{TOKEN}", 'Say "{TOKEN}"', repeat('x', 1990) || '{TOKEN}'""",
        redactor=redactor,
    )  # fmt: skip
    assert "tok-" not in answer
    assert answer.count("[secret TOKEN]") == 3
    with pytest.raises(ToolError) as caught:
        ask(database, f"select '{TOKEN}'::int", redactor=redactor)
    assert "[secret TOKEN]" in str(caught.value)
    assert "tok-" not in str(caught.value)


def test_a_run_that_reads_a_secret_keeps_it_nowhere(home: Path, database: Postgres) -> None:
    database.run(
        "truncate notes", f"insert into notes values ('{SECRET}', jsonb_build_object('a', '{SECRET}'))"
    )
    script = [Turn.tools(("postgres_query", {"query": "select * from notes"})), Turn.text("Read.")]
    with ModelServer(script) as server, studio_at(home, server) as studio:
        run = asked(studio, database)
        assert run.tool_steps[0].error is None
        assert run.tool_steps[0].output.count("[secret sales.password]") == 2
        assert SECRET not in json.dumps([each.body for each in server.requests])
    assert not any(SECRET.encode() in file.read_bytes() for file in home.rglob("*") if file.is_file())


def asked(studio: Studio, database: Postgres, **fields: Any) -> Any:
    studio.credentials.add("sales", "postgres", dict(login(database)))
    return studio.run(persona_of(studio, "postgres_query", **fields), "What do the notes say?")


# In a persona


def test_a_run_finds_its_credential_and_answers(home: Path, database: Postgres) -> None:
    call = ("postgres_query", {"query": "select sum(total) from invoices", "credential": "sales"})
    with ModelServer([Turn.tools(call), Turn.text("Summed.")]) as server, studio_at(home, server) as studio:
        run = asked(studio, database)
        assert run.tool_steps[0].output == "1 row.\nTypes: numeric\nsum\n1000003.50"
        assert [(use.tool, use.credential, use.tier) for use in run.credentials] == [
            ("postgres_query", "sales", 1)
        ]


def test_a_rehearsal_reaches_no_database(studio: Studio, database: Postgres) -> None:
    (step,) = asked(studio, database).tool_steps
    assert step.output.startswith("Rehearsal: would ask the database “")
    assert not step.performed


@pytest.mark.parametrize("answer", ANSWERS)
def test_rows_that_carry_protocol_messages_are_data(home: Path, database: Postgres, answer: str) -> None:
    rows = ", ".join(f"($q${text}$q$, $q${text}$q$)" for text in OBJECTS)
    database.run("truncate notes", f"insert into notes values {rows}")
    call = ("postgres_query", {"query": "select body from notes"})
    with (
        ModelServer([Turn.tools(call), Turn.text(ANSWERS[answer], chunk=7), Turn.text("Done.")]) as server,
        studio_at(home, server) as studio,
    ):
        nothing_was_done(studio, asked(studio, database))


@pytest.mark.parametrize("query", ["select parsed from notes", "select to_json(notes) from notes"])
def test_messages_in_columns_of_json_are_data_too(home: Path, database: Postgres, query: str) -> None:
    rows = ", ".join(f"($q${text}$q$, $q${text}$q$)" for text in OBJECTS)
    database.run("truncate notes", f"insert into notes values {rows}")
    script = [
        Turn.tools(("postgres_query", {"query": query})),
        Turn.tools(*BODIES.items()),
        Turn.text("That is all."),
    ]
    with ModelServer(script) as server, studio_at(home, server) as studio:
        nothing_was_done(studio, asked(studio, database))


def test_an_approval_shows_the_query(tmp_path: Path) -> None:
    arguments = {"query": "select *\nfrom invoices", "limit": 5, "credential": "sales"}
    shown = preview("postgres_query", arguments, workspace=tmp_path, settings=Settings())
    assert shown == (
        "It would ask the database this with the credential sales, reading only:\n\n"
        '```\nselect *\nfrom invoices\n\n{\n "limit": 5\n}\n```'
    )


# The catalog


def test_a_store_from_before_gets_the_tool_and_nobody_is_assigned_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = migrations.apply
    with monkeypatch.context() as patched:
        patched.setattr(
            migrations, "apply", lambda connection: apply(connection, stop_before="m013_postgres_query")
        )
        with Studio(home) as before:

            def postgres_query() -> str:
                return "a function of mine"

            before.tools.add(postgres_query)
            persona = persona_of(before, "postgres_query", "file_read")
    with Studio(home) as after:
        assert [tool.name for tool in after.tools.assigned(persona)] == ["file_read"]
        found = after.tools.get("postgres_query")
        assert (found.script_path, found.effect) == ("builtin://postgres_query", "outside")
        connector = after.connectors.get("postgres")
        assert connector.tools == ("postgres_query",)
        assert "personas-nb[postgres]" in connector.setup_instructions
