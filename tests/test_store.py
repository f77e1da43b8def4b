"""The database file: opened with care, upgraded with its rows, honest when it cannot be used."""

import json
import os
import sqlite3
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personas_nb.entities.base import Entity, now
from personas_nb.entities.connector import Connector
from personas_nb.entities.credential import Credential
from personas_nb.entities.design import DesignSessionRecord
from personas_nb.entities.event import Event, EventDelivery, Subscription
from personas_nb.entities.execution import Execution
from personas_nb.entities.group import PersonaGroup
from personas_nb.entities.healing import HealingIssue
from personas_nb.entities.memory import Memory
from personas_nb.entities.message import Message
from personas_nb.entities.persona import Persona
from personas_nb.entities.prompt_version import PromptVersion
from personas_nb.entities.review import Review
from personas_nb.entities.structured_prompt import StructuredPrompt
from personas_nb.entities.tool import ToolAssignment, ToolCallStep, ToolDefinition
from personas_nb.entities.trigger import Trigger
from personas_nb.errors import StoreCorrupt, StoreError, StoreReadOnly, StoreTooNew
from personas_nb.store import database, migrations
from personas_nb.store.database import Store
from personas_nb.store.executions import ExecutionTable
from personas_nb.store.schema import NAMES
from personas_nb.store.table import Table


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def groups(store: Store) -> Table[PersonaGroup]:
    return store.table("persona_groups", PersonaGroup)


def schema_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(
            "select type, name, tbl_name, sql from sqlite_master order by type, name"
        ).fetchall()


def pragma(store: Store, name: str) -> Any:
    with store.read() as db:
        return db.execute(f"pragma {name}").fetchone()[0]


def touch(store: Store) -> None:
    with store.write():
        pass


# Opening


def test_an_empty_home_gets_todays_schema_and_catalog(store: Store) -> None:
    assert {"http_request", "file_read"} <= {
        tool.name for tool in store.table("tools", ToolDefinition).find()
    }
    assert store.table("connectors", Connector).count() >= 7
    with store.read() as db:
        names = [row[0] for row in db.execute("select name from _sqlite_migrations order by rowid")]
    assert names == NAMES
    assert store.check() == "ok"


def test_an_empty_file_is_taken_for_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "personas.db").touch()
    store = Store(tmp_path)
    assert store.table("personas", Persona).find() == []
    assert pragma(store, "page_size") == 8192
    store.close()


def test_the_file_is_set_up_for_many_processes_and_for_secrets(store: Store) -> None:
    assert pragma(store, "page_size") == 8192
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "secure_delete") == 1
    assert pragma(store, "foreign_keys") == 1
    assert pragma(store, "busy_timeout") == 30_000


def test_on_a_network_file_system_there_is_a_rollback_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "file_system_of", lambda folder: "nfs4")
    store = Store(tmp_path)
    store.table("persona_groups", PersonaGroup).insert(PersonaGroup(name="a"))
    assert store.is_on_network
    assert pragma(store, "journal_mode") == "delete"
    assert not (tmp_path / "personas.db-wal").exists()
    store.close()


def test_the_kind_of_a_file_system_is_that_of_the_innermost_mount() -> None:
    assert database.file_system_of(Path("/proc/self")) == "proc"
    assert database.file_system_of(Path("/")) not in ("", "proc")


def test_an_up_to_date_file_opens_without_sqlite_utils(store: Store) -> None:
    import subprocess
    import sys

    touch(store)
    code = (
        "import sys; from pathlib import Path; from personas_nb.store.database import Store; "
        "store = Store(Path(sys.argv[1])); print(store.check(), 'sqlite_utils' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.home], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["ok", "False"]


def test_a_closed_store_opens_again(groups: Table[PersonaGroup]) -> None:
    groups.insert(PersonaGroup(name="a"))
    groups.store.close()
    groups.store.close()
    assert groups.count() == 1


# Upgrading

EXAMPLES: dict[type, Any] = {str: "text", int: 7, float: 0.5}


def first_schema(path: Path) -> dict[str, int]:
    """A file of the first schema with a row in every table; how many rows each has."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma foreign_keys = on")
        migrations.apply(db, stop_before="m002_catalog")
        tables = [
            row[0] for row in db.execute("select name from sqlite_master where type = 'table' order by rowid")
        ]
        for table in tables:
            if not table.startswith(("_", "sqlite_")):
                insert_example(db, table)
        return {
            table: db.execute(f"select count(*) from {table}").fetchone()[0]
            for table in tables
            if table[0] != "_"
        }


def insert_example(db: sqlite3.Connection, table: str) -> None:
    owners = {row[3]: "kept" for row in db.execute(f"pragma foreign_key_list({table})")}
    row: dict[str, Any] = {}
    for _number, name, kind, *_rest in db.execute(f"pragma table_info({table})"):
        row[name] = owners.get(
            name, "kept" if name == "id" else {"INTEGER": 1, "REAL": 0.5}.get(kind, '"text"')
        )
    marks = ", ".join("?" * len(row))
    db.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", list(row.values()))


def test_a_file_of_the_first_schema_reaches_todays_and_keeps_its_rows(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    before = first_schema(tmp_path / "old" / "personas.db")
    assert len(before) >= 22
    old, new = Store(tmp_path / "old"), Store(tmp_path / "new")
    touch(old)
    touch(new)
    with old.read() as db:
        for table, rows in before.items():
            kept = db.execute(f"select count(*) from {table} where rowid = 1").fetchone()[0]
            assert (kept, rows) == (1, 1), table
        assert db.execute("pragma foreign_key_check").fetchall() == []
    assert schema_of(old.path) == schema_of(new.path)
    assert [row.name for row, _rank in old.table("tools", ToolDefinition).search(["mail"])]
    old.close()
    new.close()


def test_two_threads_that_open_a_new_store_at_once_migrate_it_once(tmp_path: Path) -> None:
    stores = [Store(tmp_path) for _ in range(4)]
    problems: list[BaseException] = []

    def open_it(store: Store) -> None:
        try:
            touch(store)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=open_it, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert stores[0].table("tools", ToolDefinition).count() == 8
    for store in stores:
        store.close()


# Files that cannot be used


def refused(path: Path, kind: type[StoreError]) -> str:
    """What a store says about the file, which it must leave as it is."""
    before = path.read_bytes()
    store = Store(path.parent)
    for use in (lambda: store.check(), lambda: touch(store)):
        with pytest.raises(kind) as caught:
            use()
    store.close()
    assert path.read_bytes() == before
    assert caught.value.hint
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sound store of some size, closed."""
    store = Store(tmp_path)
    groups = store.table("persona_groups", PersonaGroup)
    with store.write():
        for number in range(500):
            groups.insert(PersonaGroup(name=f"{number} {'x' * 150}"))
    store.close()
    return store.path


def test_a_file_of_a_later_version_is_refused_and_left_alone(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(
            "insert into _sqlite_migrations (migration_set, name, applied_at) values ('personas_nb', 'm999_future', '')"
        )
    assert "later version of personas_nb (it has m999_future). Update with" in refused(file, StoreTooNew)


def test_garbage_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "personas.db"
    path.write_bytes(os.urandom(20_000))
    assert "damaged or no database" in refused(path, StoreCorrupt)


@pytest.mark.parametrize("size", [50, 1_000, 8192, 60_000])
def test_a_truncated_file_is_refused_and_left_alone(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    assert "Restore it from a copy" in refused(file, StoreCorrupt)


def test_a_damaged_page_is_said_when_it_is_met(file: Path) -> None:
    data = file.read_bytes()
    root = data.rindex(b"499 xxx") // 8192 * 8192
    file.write_bytes(data[:root] + os.urandom(8192) + data[root + 8192 :])
    store = Store(file.parent)
    with pytest.raises(StoreCorrupt, match="Restore it from a copy"):
        store.table("persona_groups", PersonaGroup).find()
    assert store.check() != "ok"
    store.close()


@pytest.mark.parametrize("migrated", [False, True])
def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, migrated: bool) -> None:
    path = tmp_path / "personas.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("create table theirs (x)")
        if migrated:  # it may use sqlite-utils too
            db.execute(
                "create table _sqlite_migrations (id integer primary key, migration_set, name, applied_at)"
            )
            db.execute("insert into _sqlite_migrations values (1, 'theirs', 'm001', '')")
    assert "another program" in refused(path, StoreCorrupt)


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "personas.db").mkdir()
    (tmp_path / "personas.db" / "x").touch()
    store = Store(tmp_path)
    with pytest.raises(StoreError) as caught:
        touch(store)
    assert not isinstance(caught.value, StoreCorrupt)


def as_nobody(action: Callable[[], str]) -> str:
    """What the action returns when it runs without the rights of root, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, action().encode())
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.parametrize("what", ["folder", "file", "parent"])
def test_a_home_that_cannot_be_written_is_said_in_a_sentence(what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        if what != "parent":
            home.mkdir()
            made = Store(home)
            touch(made)
            made.close()
            home.chmod(0o777)
            (home / "personas.db").chmod(0o666)
            (home / "migrate.lock").chmod(0o666)
        locked = {"folder": home, "file": home / "personas.db", "parent": Path(folder)}[what]
        locked.chmod(0o444 if what == "file" else 0o555)

        def use() -> str:
            try:
                touch(Store(home))
            except StoreReadOnly as error:
                return str(error)
            return "written"

        said = as_nobody(use)
        locked.chmod(0o755)
    assert f"{home} cannot be written: " in said
    assert "choose another folder with PERSONAS_HOME" in said
    assert "Traceback" not in said


# Transactions


def test_an_exception_rolls_everything_back(groups: Table[PersonaGroup]) -> None:
    with pytest.raises(KeyError), groups.store.write():  # noqa: PT012 - the block is what is tested
        groups.insert(PersonaGroup(name="a"))
        raise KeyError
    assert groups.count() == 0
    groups.insert(PersonaGroup(name="b"))
    assert groups.count() == 1


def test_an_inner_write_is_a_part_of_the_outer_one(groups: Table[PersonaGroup]) -> None:
    with pytest.raises(KeyError), groups.store.write():  # noqa: PT012 - the block is what is tested
        with groups.store.write():
            groups.insert(PersonaGroup(name="a"))
        assert groups.count() == 1
        raise KeyError
    assert groups.count() == 0


def test_what_is_not_committed_is_seen_by_its_own_thread_only(groups: Table[PersonaGroup]) -> None:
    counts: list[int] = []
    with groups.store.write():
        groups.insert(PersonaGroup(name="a"))
        other = threading.Thread(target=lambda: counts.append(groups.count()))
        other.start()
        other.join()
        counts.append(groups.count())
    assert counts == [0, 1]


def test_an_interrupt_leaves_no_transaction_open(groups: Table[PersonaGroup]) -> None:
    with pytest.raises(KeyboardInterrupt), groups.store.write():  # noqa: PT012 - the block is what is tested
        groups.insert(PersonaGroup(name="a"))
        raise KeyboardInterrupt
    other = Store(groups.store.home)
    touch(other)
    other.close()
    assert groups.count() == 0


def test_threads_write_one_after_the_other_and_lose_nothing(groups: Table[PersonaGroup]) -> None:
    row = groups.insert(PersonaGroup(name="counter"))

    def count() -> None:
        for _ in range(50):
            with groups.store.write() as db:
                value = db.execute("select sort_order from persona_groups").fetchone()[0]
                db.execute("update persona_groups set sort_order = ?", [value + 1])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert groups.find()[0].changed(sort_order=0) == row
    assert groups.find()[0].sort_order == 200


def test_a_wrong_statement_is_not_called_a_damaged_file(store: Store) -> None:
    with pytest.raises(sqlite3.ProgrammingError), store.read() as db:
        db.execute("select ?", [])


def test_a_row_without_its_owner_is_refused(store: Store) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.table("memories", Memory).insert(Memory(persona_id="nobody", title="t"))


def test_a_store_that_another_process_holds_is_said_to_be_busy(
    groups: Table[PersonaGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(groups.store)
    groups.store.close()
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    with closing(sqlite3.connect(groups.store.path, isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with pytest.raises(StoreError, match="held by another process") as caught:
            groups.insert(PersonaGroup(name="a"))
    assert caught.value.retryable


# Forks


def in_child(action: Callable[[], object]) -> str:
    """What the action returns in a forked child, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(action()).encode())
        except BaseException as problem:
            os.write(writer, repr(problem).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_a_forked_child_writes_and_its_parent_goes_on(groups: Table[PersonaGroup]) -> None:
    groups.insert(PersonaGroup(name="before"))
    assert in_child(lambda: groups.insert(PersonaGroup(name="child")).name) == "child"
    groups.insert(PersonaGroup(name="after"))
    assert [group.name for group in groups.find()] == ["before", "child", "after"]
    assert groups.store.check() == "ok"


def test_what_a_child_writes_after_its_parent_closed_the_store_is_kept(groups: Table[PersonaGroup]) -> None:
    groups.insert(PersonaGroup(name="before"))
    groups.count()
    begin, closed = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        groups.insert(PersonaGroup(name="early"))
        os.write(begin[1], b".")
        os.read(closed[0], 1)
        groups.insert(PersonaGroup(name="late"))
        os._exit(0)
    os.read(begin[0], 1)
    groups.store.close()
    os.write(closed[1], b".")
    assert os.waitpid(child, 0)[1] == 0
    for end in (*begin, *closed):
        os.close(end)
    assert [group.name for group in groups.find()] == ["before", "early", "late"]
    assert groups.store.check() == "ok"


def test_a_child_forked_inside_a_transaction_leaves_it_to_its_parent(groups: Table[PersonaGroup]) -> None:
    child = 0
    with groups.store.write():
        groups.insert(PersonaGroup(name="parent"))
        child = os.fork()
        if child:
            os.waitpid(child, 0)
    if child == 0:
        os._exit(0)
    assert [group.name for group in groups.find()] == ["parent"]


def test_a_fork_while_another_thread_writes_waits_for_it(groups: Table[PersonaGroup]) -> None:
    inside, done = threading.Event(), threading.Event()

    def write() -> None:
        with groups.store.write():
            groups.insert(PersonaGroup(name="thread"))
            inside.set()
            done.wait(0.2)

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait()
    assert in_child(groups.count) == "1"
    thread.join()


# Rows

TEXT = st.text(max_size=30)
NAME = TEXT.filter(lambda text: text.strip())
COUNT = st.integers(0, 2**62)
MONEY = st.none() | st.floats(0, 1e9)
TIME = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
PROMPT = (
    st.none()
    | TEXT.filter(lambda text: not text.strip())
    | st.builds(StructuredPrompt, identity=TEXT, tool_guidance=TEXT)
)
STEP = st.builds(
    ToolCallStep, tool=TEXT, input=OBJECT, output=TEXT, error=st.none() | TEXT, performed=st.booleans()
)
TURN = st.fixed_dictionaries({"kind": st.sampled_from(["answer", "refine"]), "text": TEXT, "cost_usd": MONEY})
ROWS: dict[str, st.SearchStrategy[Entity]] = {
    "personas": st.builds(
        Persona,
        name=NAME,
        description=TEXT,
        system_prompt=TEXT,
        structured_prompt=PROMPT,
        max_budget_usd=MONEY,
        notification_channels=st.lists(OBJECT, max_size=2),
        last_design_result=st.none() | OBJECT,
        design_context=st.lists(TEXT, max_size=2),
        archived_at=st.none() | TIME,
        enabled=st.booleans(),
        model_profile=st.none()
        | st.fixed_dictionaries({"provider": st.sampled_from([None, "ollama"]), "model": st.none() | NAME}),
    ),
    "prompt_versions": st.builds(
        PromptVersion,
        persona_id=st.just("p"),
        version=st.integers(2, 2**62),
        structured_prompt=PROMPT,
        tags=st.lists(TEXT, max_size=2),
    ),
    "persona_groups": st.builds(PersonaGroup, name=NAME, sort_order=COUNT, collapsed=st.booleans()),
    "memories": st.builds(
        Memory,
        persona_id=st.just("p"),
        title=NAME,
        content=TEXT,
        tags=st.lists(TEXT, max_size=3),
        importance=st.integers(1, 10),
        pinned=st.booleans(),
    ),
    "triggers": st.builds(
        Trigger,
        persona_id=st.just("p"),
        trigger_type=st.just("schedule"),
        config=OBJECT,
        next_trigger_at=st.none() | TIME,
    ),
    "tools": st.builds(
        ToolDefinition,
        name=st.from_regex(r"own_[a-z]{12}", fullmatch=True),
        description=TEXT,
        input_schema=OBJECT,
    ),
    "tool_assignments": st.builds(
        ToolAssignment, persona_id=st.just("p"), tool_name=NAME, needs_approval=st.booleans()
    ),
    "connectors": st.builds(
        Connector,
        name=st.from_regex(r"own_[a-z]{12}", fullmatch=True),
        healthcheck=OBJECT,
        fields=st.lists(st.fixed_dictionaries({"key": TEXT, "secret": st.booleans()}), max_size=2),
    ),
    "credentials": st.builds(
        Credential,
        name=NAME,
        connector=TEXT,
        plain=st.dictionaries(TEXT, TEXT, max_size=2),
        sealed=st.dictionaries(TEXT, TEXT, max_size=2),
    ),
    "events": st.builds(Event, event_type=NAME, data=OBJECT, depth=COUNT, created_at=TIME),
    "subscriptions": st.builds(
        Subscription, persona_id=st.just("p"), event_type=NAME, source_filter=st.none() | TEXT
    ),
    "messages": st.builds(Message, persona_id=st.just("p"), content=TEXT, read_at=st.none() | TIME),
    "reviews": st.builds(
        Review, persona_id=st.just("p"), suggested_actions=st.lists(TEXT, max_size=3), note=st.none() | TEXT
    ),
    "healing_issues": st.builds(HealingIssue, persona_id=st.just("p"), category=TEXT, title=TEXT),
    "design_sessions": st.builds(
        DesignSessionRecord,
        instruction=TEXT,
        turns=st.lists(TURN, max_size=2),
        context=st.lists(TEXT, max_size=2),
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    store = Store(tmp_path_factory.mktemp("shared"))
    store.table("personas", Persona).insert(Persona(id="p", name="owner of the rows"))
    yield store
    store.close()


@pytest.mark.parametrize("name", ROWS)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_entity_comes_back_from_its_row_as_it_was(shared: Store, name: str, data: st.DataObject) -> None:
    entity: Any = data.draw(ROWS[name])
    table: Table[Any] = shared.table(name, type(entity))
    try:
        with shared.write() as db:
            table.insert(entity)
            assert table.get(entity.id) == entity
            # and by an update of every column
            stored = [field for field, info in type(entity).model_fields.items() if not info.exclude]
            columns = {field: getattr(entity, field) for field in stored if field != "id"}
            db.execute(f"update {name} set created_at = '' where id = ?", [entity.id])
            table.update(entity.id, **columns)
            assert table.get(entity.id) == entity
            raise KeyError
    except KeyError:
        assert table.get(entity.id) is None


@given(
    outcome=st.none() | OBJECT,
    flows=st.lists(OBJECT, max_size=2),
    warnings=st.lists(TEXT, max_size=2),
    steps=st.lists(STEP, max_size=2),
    cost=MONEY,
    tokens=COUNT,
    text=TEXT,
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_execution_comes_back_from_its_row_without_its_large_texts(
    shared: Store, outcome: Any, flows: Any, warnings: Any, steps: Any, cost: Any, tokens: int, text: str
) -> None:
    execution = Execution(
        persona_id="p", outcome=outcome, execution_flows=flows, warnings=warnings, tool_steps=steps,
        cost_usd=cost, input_tokens=tokens, error=text, output_data=text, started_at=now(),
    )  # fmt: skip
    table = ExecutionTable(shared)
    table.insert(execution)
    assert table.get(execution.id) == execution.changed(tool_steps=(), output_data=None)


def test_a_text_in_a_json_column_comes_back_as_it_was_written(store: Store) -> None:
    personas = store.table("personas", Persona)
    for text in ("{oops", "17", '"quoted"', "null"):
        row = personas.insert(Persona(name=text * 3, slug=f"s{len(text)}", structured_prompt=text))
        assert personas.get(row.id) == row
        personas.update(row.id, structured_prompt=text)
        assert personas.get(row.id) == row


def test_a_json_column_that_is_none_is_said_in_a_sentence(store: Store) -> None:
    store.table("personas", Persona).insert(Persona(id="p", name="a"))
    with store.write() as db:
        db.execute("update personas set design_context = '[oops'")
    with pytest.raises(StoreError, match="“design_context” is no JSON"):
        store.table("personas", Persona).find()


def test_a_row_that_is_no_entity_is_said_without_its_values(store: Store) -> None:
    store.table("personas", Persona).insert(Persona(id="p", name="a"))
    with store.write() as db:
        db.execute("update personas set permissions = 'sk-a-secret'")
    with pytest.raises(StoreError, match="row of personas cannot be read: “permissions” should be") as caught:
        store.table("personas", Persona).find()
    assert "sk-a-secret" not in str(caught.value)


def test_half_of_an_emoji_in_json_comes_back_as_it_was(store: Store) -> None:
    row = store.table("events", Event).insert(Event(event_type="x", data=json.loads('{"cut": "é \\ud83d"}')))
    assert store.table("events", Event).get(row.id) == row


def test_times_in_text_order_are_in_time_order(groups: Table[PersonaGroup]) -> None:
    moments = [datetime(2026, 1, 1, 9, 0, 0, micro, UTC) for micro in (0, 5, 100, 500_000)]
    for number, moment in enumerate(reversed(moments)):
        groups.insert(PersonaGroup(name=str(number), created_at=moment))
    assert [group.created_at for group in groups.find(order_by="created_at")] == moments
    assert (
        groups.count("created_at >= ?", [moments[2]]) == groups.delete("created_at >= ?", [moments[2]]) == 2
    )


def test_an_update_of_nothing_is_nothing(groups: Table[PersonaGroup]) -> None:
    row = groups.insert(PersonaGroup(name="a"))
    groups.update(row.id)
    assert groups.find() == [row]


def test_deleting_a_persona_takes_its_rows_along(store: Store) -> None:
    store.table("personas", Persona).insert(Persona(id="p", name="a"))
    store.table("memories", Memory).insert(Memory(persona_id="p", title="t"))
    store.table("events", Event).insert(Event(id="e", event_type="custom"))
    store.table("event_deliveries", EventDelivery).insert(EventDelivery(event_id="e", subscription_id="s"))
    store.table("personas", Persona).delete("id = ?", ["p"])
    store.table("events", Event).delete("id = ?", ["e"])
    assert store.table("memories", Memory).count() == 0
    assert store.table("event_deliveries", EventDelivery).count() == 0


# Search


def test_search_finds_other_forms_of_a_word_best_first(store: Store) -> None:
    found = store.table("tools", ToolDefinition).search(["sending", "mails"], limit=3)
    assert found[0][0].name == "gmail_send"
    assert [rank for _tool, rank in found] == sorted((rank for _tool, rank in found), reverse=True)


@given(words=st.lists(st.text(max_size=12), max_size=4))
@settings(max_examples=60, deadline=None)
def test_no_words_can_break_the_search(shared: Store, words: list[str]) -> None:
    for word in ('"', "\0", 'a"b', "NEAR(", "*", "-x"):
        shared.table("tools", ToolDefinition).search([*words, word])
    assert shared.table("tools", ToolDefinition).search([]) == []


def test_search_follows_changes_and_deletions(store: Store) -> None:
    tools = store.table("tools", ToolDefinition)
    row = tools.insert(ToolDefinition(name="own", description="counts penguins"))
    assert [tool.name for tool, _rank in tools.search(["penguin"])] == ["own"]
    tools.update(row.id, description="counts walruses", input_schema=json.loads("{}"))
    assert tools.search(["penguin"]) == []
    tools.delete("id = ?", [row.id])
    assert tools.search(["walrus"]) == []
