"""The schema, as an append-only list of migrations.

The identity of a migration is its function's name: never rename or change one that was released, append
another, and its name to ``schema.NAMES``. Times are RFC 3339 text in UTC, booleans 0 or 1, structures JSON.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlite_utils import Database, Migrations
from sqlite_utils.db import ForeignKey

from personas_nb.store.catalog import CONNECTORS, POSTGRES_QUERY, TOOLS
from personas_nb.store.connectors import COMPLETE_CONNECTORS
from personas_nb.store.schema import NAMES
from personas_nb.store.tool_schemas import TOOL_CHANGES

MIGRATIONS = Migrations("personas_nb")


def apply(connection: sqlite3.Connection, *, stop_before: str | None = None) -> None:
    """Bring a file to today's schema; each migration is one transaction."""
    MIGRATIONS.apply(Database(connection, execute_plugins=False), stop_before=stop_before)


def _table(
    db: Database,
    name: str,
    columns: dict[str, Any],
    *,
    not_null: str = "",
    owner: dict[str, str] | None = None,
    pk: str | tuple[str, ...] = "id",
) -> None:
    """A STRICT table; ``owner`` maps a column to the table whose row takes this one along when it goes."""
    db.create_table(
        name,
        columns,
        pk=pk,
        strict=True,
        not_null=[*(["id"] if pk == "id" else []), *not_null.split()],
        foreign_keys=[
            ForeignKey(name, column, other, "id", on_delete="CASCADE")
            for column, other in (owner or {}).items()
        ],
    )


def _text(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), str)


@MIGRATIONS()
def m001_initial(db: Database) -> None:
    """Everything that design, run, review and costs need, and what triggers, tools and the vault will."""
    _personas(db)
    _catalog(db)
    _executions(db)
    _outcomes(db)
    _events(db)
    _reliability(db)


def _personas(db: Database) -> None:
    _table(
        db,
        "persona_groups",
        {**_text("id name color created_at"), "sort_order": int, "collapsed": int},
        not_null="name created_at",
    )
    _table(
        db,
        "personas",
        {
            **_text(
                "id project_id slug name description system_prompt structured_prompt icon color archived_at"
            ),
            **_text(
                "permissions model_profile notification_channels last_design_result design_context group_id"
            ),
            **_text("created_at updated_at"),
            "enabled": int,
            "max_concurrent": int,
            "timeout_ms": int,
            "max_budget_usd": float,
            "max_turns": int,
            "uses_memories": int,
            "version": int,
        },
        not_null="project_id slug name enabled max_concurrent version created_at updated_at",
    )
    db.table("personas").create_index(["project_id", "slug"], unique=True)
    _table(
        db,
        "prompt_versions",
        {
            **_text("id persona_id system_prompt structured_prompt change_summary author tag created_at"),
            "version": int,
        },
        not_null="persona_id version created_at",
        owner={"persona_id": "personas"},
    )
    db.table("prompt_versions").create_index(["persona_id", "version"], unique=True)
    _table(
        db,
        "design_sessions",
        {
            **_text(
                "id instruction name persona_id provider model state turns context error created_at updated_at"
            ),
            "revision": int,
        },
        not_null="instruction state revision created_at",
    )
    _table(
        db,
        "memories",
        {
            **_text("id persona_id title content category tags source_execution_id created_at updated_at"),
            "importance": int,
            "pinned": int,
        },
        not_null="persona_id title importance created_at",
        owner={"persona_id": "personas"},
    )
    db.table("memories").create_index(["persona_id"])


def _catalog(db: Database) -> None:
    _table(
        db,
        "tools",
        {
            **_text("id name category description script_path input_schema requires_credential_type effect"),
            **_text("created_at"),
            "is_builtin": int,
        },
        not_null="name effect created_at",
    )
    db.table("tools").create_index(["name"], unique=True)
    _table(
        db,
        "tool_assignments",
        {**_text("id persona_id tool_name created_at"), "needs_approval": int},
        not_null="persona_id tool_name created_at",
        owner={"persona_id": "personas"},
    )
    db.table("tool_assignments").create_index(["persona_id", "tool_name"], unique=True)
    _table(
        db,
        "connectors",
        {
            **_text("id name label description fields tools setup_instructions healthcheck created_at"),
            "is_builtin": int,
        },
        not_null="name created_at",
    )
    db.table("connectors").create_index(["name"], unique=True)
    # sealed: ciphertext by field; key_id: the key that all of them are sealed with
    _table(
        db,
        "credentials",
        _text("id name connector plain sealed key_id created_at updated_at"),
        not_null="name connector created_at",
    )
    db.table("credentials").create_index(["name"], unique=True)


def _executions(db: Database) -> None:
    # claim_token: grows with every claim; whoever holds an older one may not write
    # worker_id: who queued the run, later who claimed it; NULL for a fire that any worker may claim
    _table(
        db,
        "executions",
        {
            **_text("id persona_id persona_name status error error_kind outcome provider engine model_used"),
            **_text("execution_flows warnings claude_session_id log_file_path retry_of trigger_id event_id"),
            **_text("requested_provider files worker_id created_at started_at completed_at"),
            "persona_version": int,
            "input_tokens": int,
            "output_tokens": int,
            "cache_read_tokens": int,
            "cache_write_tokens": int,
            "cost_usd": float,
            "num_turns": int,
            "duration_ms": int,
            "rehearsal": int,
            "max_budget_usd": float,
            "max_turns": int,
            "timeout_ms": int,
            "claim_token": int,
            "cancel_requested": int,
            "tool_calls": int,
        },
        not_null="persona_id status claim_token created_at",
        owner={"persona_id": "personas"},
    )
    db.table("executions").create_index(["persona_id", "created_at"])
    db.table("executions").create_index(["created_at"])
    db.execute(
        "create index idx_executions_open on executions (status, persona_id, created_at) "
        "where status in ('queued', 'running', 'waiting')"
    )
    # kind: input, prompt, output or steps; apart from the rows, so that lists stay fast
    _table(
        db,
        "execution_texts",
        _text("execution_id kind content"),
        not_null="execution_id kind content",
        owner={"execution_id": "executions"},
        pk=("execution_id", "kind"),
    )
    _table(
        db,
        "run_events",
        {"execution_id": str, "seq": int, "at": str, "type": str, "payload": str},
        not_null="execution_id seq at type payload",
        owner={"execution_id": "executions"},
        pk=("execution_id", "seq"),
    )


def _outcomes(db: Database) -> None:
    _table(
        db,
        "messages",
        {
            **_text("id persona_id execution_id title content content_type priority read_at created_at"),
            "rehearsal": int,
        },
        not_null="persona_id created_at",
        owner={"persona_id": "personas"},
    )
    _table(
        db,
        "message_deliveries",
        {**_text("id message_id channel status error created_at updated_at"), "attempts": int},
        not_null="message_id channel status created_at",
        owner={"message_id": "messages"},
    )
    _table(
        db,
        "reviews",
        {
            **_text("id persona_id execution_id title description severity suggested_actions status note"),
            **_text("created_at decided_at"),
            "rehearsal": int,
        },
        not_null="persona_id status created_at",
        owner={"persona_id": "personas"},
    )
    _table(
        db,
        "healing_issues",
        _text("id persona_id execution_id category title remedy status note created_at resolved_at"),
        not_null="persona_id category status created_at",
        owner={"persona_id": "personas"},
    )
    for name in ("messages", "reviews", "healing_issues"):
        db.table(name).create_index(["persona_id", "created_at"])
        db.table(name).create_index(["execution_id"])


def _events(db: Database) -> None:
    _table(
        db,
        "events",
        {
            **_text(
                "id event_type source_type source target_persona_id data execution_id status reason created_at"
            ),
            "depth": int,
            "rehearsal": int,
        },
        not_null="event_type source_type status created_at",
    )
    db.table("events").create_index(["created_at"])
    db.table("events").create_index(["execution_id"])
    _table(
        db,
        "subscriptions",
        {**_text("id persona_id event_type source_filter created_at"), "enabled": int},
        not_null="persona_id event_type created_at",
        owner={"persona_id": "personas"},
    )
    _table(
        db,
        "event_deliveries",
        {**_text("id event_id subscription_id execution_id status reason created_at"), "attempts": int},
        not_null="event_id subscription_id status created_at",
        owner={"event_id": "events"},
    )
    db.table("event_deliveries").create_index(["event_id", "subscription_id"], unique=True)
    _table(
        db,
        "triggers",
        {
            **_text("id persona_id trigger_type config description origin last_triggered_at next_trigger_at"),
            **_text("created_at updated_at"),
            "enabled": int,
        },
        not_null="persona_id trigger_type config created_at",
        owner={"persona_id": "personas"},
    )
    db.table("triggers").create_index(["next_trigger_at"])


def _reliability(db: Database) -> None:
    _table(
        db,
        "workers",
        {**_text("id host lock_path started_at heartbeat_at stopped_at"), "pid": int},
        not_null="host lock_path started_at",
    )
    # an intent is committed before a side effect, so that a crash after it says “may have happened”
    _table(
        db,
        "intents",
        _text("id execution_id tool arguments_hash status created_at settled_at"),
        not_null="status created_at",
    )
    _table(
        db,
        "leases",
        {"id": str, "worker_id": str, "epoch": int, "expires_at": str},
        not_null="worker_id epoch expires_at",
    )


@MIGRATIONS()
def m002_catalog(db: Database) -> None:
    """The seven built-in tools and the connectors that are shipped."""
    connection = db.conn
    for name, rows in (("tools", TOOLS), ("connectors", CONNECTORS)):
        for row in rows:
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"insert into {name} ({names}) values ({marks})", list(row.values()))


@MIGRATIONS()
def m003_search(db: Database) -> None:
    """Full-text search over the tools and connectors, kept current by triggers of the database."""
    tokenize = "porter unicode61 remove_diacritics 2"
    db.table("tools").enable_fts(["name", "category", "description"], create_triggers=True, tokenize=tokenize)
    db.table("connectors").enable_fts(
        ["name", "label", "description"], create_triggers=True, tokenize=tokenize
    )


@MIGRATIONS()
def m004_limits_and_healing(db: Database) -> None:
    """Runs that begin later, issues that are seen again, budget rules and what runs have reserved of them."""
    # scheduled_at: a queued run starts no earlier; NULL: at once
    db.execute("alter table executions add column scheduled_at text")
    db.execute("alter table tools add column timeout_ms integer")
    # permissions: as the persona had them when the run began
    db.execute("alter table executions add column permissions text")
    db.execute("create index idx_executions_retry on executions (retry_of) where retry_of is not null")
    db.execute("alter table healing_issues add column occurrences integer not null default 1")
    db.execute("alter table healing_issues add column last_seen_at text")
    _table(
        db,
        "budget_rules",
        {**_text("id scope scope_id period action created_at"), "limit_usd": float},
        not_null="scope period action limit_usd created_at",
    )
    # No owner: what was spent stays spent when the run or the persona is gone. amount_usd NULL: unknown price;
    # settled_usd NULL: not settled yet. day is the local day in which the reservation was made.
    _table(
        db,
        "budget_reservations",
        {
            **_text("id execution_id persona_id group_id day created_at settled_at"),
            "amount_usd": float,
            "settled_usd": float,
        },
        not_null="execution_id persona_id day created_at",
    )
    db.table("budget_reservations").create_index(["day", "persona_id"])
    db.table("budget_reservations").create_index(["execution_id"], unique=True)


@MIGRATIONS()
def m005_credentials(db: Database) -> None:
    """Which key a home seals with, what the last check of a credential found, and complete connectors."""
    # status: active, next, lost or retired
    _table(db, "vault_keys", _text("id status created_at"), not_null="status created_at")
    db.execute("create unique index idx_vault_keys_active on vault_keys (status) where status = 'active'")
    db.execute(
        "insert into vault_keys (id, status, created_at) select key_id, 'active', updated_at from credentials "
        "where key_id <> '' order by updated_at desc limit 1"
    )
    # NULL: not checked since its values changed
    db.execute("alter table credentials add column check_status text")
    db.execute("alter table credentials add column checked_at text")
    for row in COMPLETE_CONNECTORS:
        assignments = ", ".join(f"{name} = ?" for name in row if name != "name")
        values = [value for name, value in row.items() if name != "name"]
        db.conn.execute(f"update connectors set {assignments} where name = ?", [*values, row["name"]])


@MIGRATIONS()
def m006_tools(db: Database) -> None:
    """Where a notebook's function was defined, and the MCP servers of personas."""
    db.execute("alter table tools add column defined_in text")
    # env, headers: what is no secret as it is, a secret as “credential:ID.field”.
    # offered: the tools that it listed, when its definition was the one that listed_for is the digest of
    _table(
        db,
        "mcp_servers",
        {
            **_text(
                "id persona_id name command url env headers only tools_off offered listed_for status detail"
            ),
            **_text("checked_at created_at updated_at"),
            "latency_ms": int,
            "timeout_ms": int,
        },
        not_null="persona_id name status created_at updated_at",
        owner={"persona_id": "personas"},
    )
    db.table("mcp_servers").create_index(["persona_id", "name"], unique=True)


@MIGRATIONS()
def m007_lookup(db: Database) -> None:
    """Which credentials a run could use, and tools that take one by name."""
    # [{tool, connector, credential, tier}]; NULL: the run has not begun
    db.execute("alter table executions add column credentials text")
    for name, changes in TOOL_CHANGES.items():
        assignments = ", ".join(f"{column} = ?" for column in changes)
        db.conn.execute(f"update tools set {assignments} where name = ?", [*changes.values(), name])


@MIGRATIONS()
def m008_approvals(db: Database) -> None:
    """Decisions on tool calls, runs that wait for them, and what runs had begun to do outside."""
    # kind: manual (a persona asks) or approval (of a tool call); the other columns are NULL unless it is one.
    # expires_at: what is undecided then is refused
    db.execute("alter table reviews add column kind text not null default 'manual'")
    for column in ("tool", "call_id", "arguments_hash", "expires_at"):
        db.execute(f"alter table reviews add column {column} text")
    db.execute("alter table reviews add column persona_version integer")
    db.execute(
        "create index idx_reviews_expiry on reviews (expires_at) "
        "where status = 'pending' and expires_at is not null"
    )
    # claimed_at: when it began, or went on after a decision; pauses: how often a decision let it go on
    db.execute("alter table executions add column claimed_at text")
    db.execute("alter table executions add column pauses integer not null default 0")
    # status: begun, done, failed, or uncertain (it may have happened)
    db.execute("alter table intents add column call_id text")
    db.table("intents").create_index(["execution_id"])


@MIGRATIONS()
def m009_design(db: Database) -> None:
    """What design sessions looked at and did, who works on one, and what is left to do for a persona."""
    # worker_id: whose step is under way, or was the last
    db.execute("alter table design_sessions add column worker_id text")
    # An import looks for an earlier one of the same file.
    db.table("design_sessions").create_index(["instruction"])
    # text: what the designer is shown; used: what of the source that is, in words
    _table(
        db,
        "design_context",
        {
            **_text("id session_id source name kind used text columns servers created_at"),
            "size_bytes": int,
        },
        not_null="session_id source name kind used text created_at",
        owner={"session_id": "design_sessions"},
    )
    db.table("design_context").create_index(["session_id"])
    _table(
        db,
        "design_events",
        {**_text("session_id at type text"), "seq": int},
        not_null="session_id seq at type text",
        owner={"session_id": "design_sessions"},
        pk=("session_id", "seq"),
    )
    # What a design wanted and could not have; each is compared with what there is when it is shown.
    _table(
        db,
        "persona_todos",
        _text("id persona_id session_id kind subject problem remedy created_at"),
        not_null="persona_id kind subject problem created_at",
        owner={"persona_id": "personas"},
    )
    db.table("persona_todos").create_index(["persona_id"])


@MIGRATIONS()
def m010_evals(db: Database) -> None:
    """Cases, tests of designs, versions and models over them, and designs that worked."""
    # eval_run_id: the run is a test; it does not count as one of its persona, and what it says starts nothing
    db.execute("alter table executions add column eval_run_id text")
    db.execute("create index idx_executions_eval on executions (eval_run_id) where eval_run_id is not null")
    # owner_id: a persona's id, or that of a design session
    _table(
        db,
        "eval_cases",
        _text("id owner_id name input files expect from_execution_id created_at updated_at"),
        not_null="owner_id name created_at updated_at",
    )
    db.table("eval_cases").create_index(["owner_id", "name"], unique=True)
    # subject: what was tested, as it was then; cost_usd, judge_cost_usd NULL: an unknown price
    _table(
        db,
        "eval_runs",
        {
            **_text("id owner_id persona_id subject status error provider model_used structure meaning"),
            **_text("meaning_note judge_model worker_id created_at completed_at"),
            **dict.fromkeys(("rehearsal", "passed", "measured", "total", "repeat"), int),
            **dict.fromkeys(("structure_score", "judge_cost_usd", "score", "cost_usd"), float),
        },
        not_null="owner_id persona_id subject status created_at",
        owner={"persona_id": "personas"},
    )
    db.table("eval_runs").create_index(["owner_id", "created_at"])
    # execution_id: its run, which retention may remove; score NULL: nothing was measured
    _table(
        db,
        "eval_results",
        {
            **_text(
                "id eval_run_id case_id case_name case_digest execution_id status reason checks judgement"
            ),
            **_text("judgement_note flow created_at"),
            **dict.fromkeys(("attempt", "measured", "passed", "duration_ms"), int),
            **dict.fromkeys(("score", "cost_usd"), float),
        },
        not_null="eval_run_id case_id case_name status created_at",
        owner={"eval_run_id": "eval_runs"},
    )
    db.table("eval_results").create_index(["eval_run_id"])
    _table(
        db,
        "design_patterns",
        {
            **_text(
                "id owner_id name summary instruction keywords structured_prompt tools triggers connectors"
            ),
            **_text("messages flow eval_run_id created_at updated_at"),
            "score": float,
            **dict.fromkeys(("cases", "rehearsal"), int),
        },
        not_null="owner_id name score created_at updated_at",
    )
    db.table("design_patterns").create_index(["owner_id"], unique=True)
    db.table("design_patterns").enable_fts(
        ["name", "summary", "instruction", "keywords"],
        create_triggers=True,
        tokenize="porter unicode61 remove_diacritics 2",
    )


@MIGRATIONS()
def m011_memories_and_versions(db: Database) -> None:
    """Memories that take the place of others, and several tags of one version."""
    # superseded_by: the memory that holds in its place; NULL for one that holds
    for column in ("superseded_by", "superseded_at"):
        db.execute(f"alter table memories add column {column} text")
    # repeats: how often it was said again
    for column in ("repeats", "rehearsal"):
        db.execute(f"alter table memories add column {column} integer not null default 0")
    db.execute(
        "update memories set rehearsal = 1 where source_execution_id in "
        "(select id from executions where rehearsal = 1)"
    )
    db.execute(
        "create index idx_memories_superseded on memories (superseded_by) where superseded_by is not null"
    )
    db.execute("alter table prompt_versions rename column tag to tags")
    db.execute("update prompt_versions set tags = case when tags is null then '[]' else json_array(tags) end")


@MIGRATIONS()
def m012_templates(db: Database) -> None:
    """Designs that are kept to be used again, found by the words of their titles, summaries and keywords."""
    _table(
        db,
        "design_templates",
        _text("id name title summary keywords design source created_at updated_at"),
        not_null="name title summary keywords design source created_at updated_at",
    )
    db.table("design_templates").create_index(["name"], unique=True)
    db.table("design_templates").enable_fts(
        ["title", "summary", "keywords"],
        create_triggers=True,
        tokenize="porter unicode61 remove_diacritics 2",
    )


@MIGRATIONS()
def m013_postgres_query(db: Database) -> None:
    """A tool that asks PostgreSQL databases, served by the connector that was there for it."""
    # A function of a notebook may have this name: then who was assigned that is not assigned a database.
    for table, column in (("tool_assignments", "tool_name"), ("tools", "name")):
        db.conn.execute(f"delete from {table} where {column} = 'postgres_query'")
    names, marks = ", ".join(POSTGRES_QUERY), ", ".join("?" * len(POSTGRES_QUERY))
    db.conn.execute(f"insert into tools ({names}) values ({marks})", list(POSTGRES_QUERY.values()))
    db.conn.execute(
        "update connectors set tools = '[\"postgres_query\"]', setup_instructions = ? where name = 'postgres'",
        [
            "Create a database role that may only SELECT: the check warns where it may do more. Checking and querying "
            "need `pip install 'personas-nb[postgres]'`."
        ],
    )


@MIGRATIONS()
def m014_triggers_and_events(db: Database) -> None:
    """What became of each due time and of each event, who fires, and what of the messages was sent."""
    # allow_bypass: a person agreed that this may start a persona with the permissions “bypass”
    for table in ("triggers", "subscriptions"):
        db.execute(f"alter table {table} add column allow_bypass integer not null default 0")
    # state: what a poller saw last
    db.execute("alter table triggers add column state text not null default '{}'")
    # kind: of the holder's process (kernel, server, headless, python)
    for column in ("taken_at", "kind"):
        db.execute(f"alter table leases add column {column} text")
    _fires(db)
    _deliveries(db)
    _queues(db)
    _listening(db)


def _fires(db: Database) -> None:
    # key: the due time, or what else makes a fire of its trigger the same one (a webhook's delivery id)
    _table(
        db,
        "fires",
        {
            **_text("id trigger_id key kind due_at until_at status reason execution_id worker_id"),
            **_text("decided_at created_at"),
            "count": int,
            "late_ms": int,
        },
        not_null="trigger_id key kind due_at status created_at count",
        owner={"trigger_id": "triggers"},
    )
    db.table("fires").create_index(["trigger_id", "key"], unique=True)
    db.table("fires").create_index(["trigger_id", "due_at"])
    db.table("fires").create_index(["created_at"])
    db.execute("create index idx_fires_checking on fires (worker_id) where status = 'checking'")
    db.execute("create index idx_fires_unchanged on fires (created_at) where reason = 'unchanged'")
    # what all have in common, such as “paused”
    _table(db, "switches", _text("id value changed_at"), not_null="changed_at")
    db.execute(
        "create index idx_executions_fired on executions (created_at) "
        "where status = 'queued' and worker_id is null"
    )


def _queues(db: Database) -> None:
    # SQLite takes a partial index only where the query has its very condition: “status in (…)” of
    # idx_executions_open serves no “status = 'queued'”, and every look for a run to claim read the whole table
    db.execute(
        "create index idx_executions_queued on executions (persona_id, created_at) where status = 'queued'"
    )
    db.execute("create index idx_executions_running on executions (persona_id) where status = 'running'")


def _deliveries(db: Database) -> None:
    db.execute("create index idx_events_pending on events (created_at) where status = 'pending'")
    db.execute("alter table event_deliveries add column persona_id text")
    db.execute("alter table event_deliveries add column next_attempt_at text")
    db.execute("alter table event_deliveries add column updated_at text")
    db.execute(
        "create index idx_event_deliveries_open on event_deliveries (next_attempt_at) where status = 'pending'"
    )
    _message_deliveries(db)


def _message_deliveries(db: Database) -> None:
    # channel_key: what of a channel makes it that one; channel is how a person calls it.
    # worker_id: who sends, or has sent. next_attempt_at: of one that is pending
    for column in ("channel_key", "worker_id", "next_attempt_at", "sent_at"):
        db.execute(f"alter table message_deliveries add column {column} text")
    db.execute(
        "create index idx_message_deliveries_open on message_deliveries (next_attempt_at) "
        "where status in ('pending', 'sending')"
    )
    db.table("message_deliveries").create_index(["message_id", "channel_key"], unique=True)
    # origin: persona (it said so itself) or system (something about it that a person should know)
    db.execute("alter table messages add column origin text not null default 'persona'")
    # told: whether the end of a run that nobody watched was looked at, to say that it failed
    db.execute("alter table executions add column told integer not null default 0")
    db.execute(
        "create index idx_executions_untold on executions (completed_at) "
        "where status = 'failed' and told = 0 and (trigger_id is not null or event_id is not null)"
    )


def _listening(db: Database) -> None:
    """Who hears what: only events after its subscription was made, or switched on."""
    # Until now nobody delivered events; those that are there start nothing any more.
    db.execute("update events set status = 'processed' where status = 'pending'")
    # after_event: the rowid of the newest event when it was made or switched on; it hears only later ones
    db.execute("alter table subscriptions add column after_event integer not null default 0")
    db.execute("update subscriptions set after_event = (select coalesce(max(rowid), 0) from events)")
    db.execute("create index idx_events_of_type on events (event_type, created_at)")
    for table in ("events", "event_deliveries"):
        db.execute(f"create index idx_{table}_dead on {table} (created_at) where status = 'dead'")
    db.execute("create index idx_event_deliveries_persona on event_deliveries (persona_id)")
    # The number that “subscriptions” has grows with every change: who keeps an index of them looks only at this.
    db.execute("insert into switches (id, value, changed_at) values ('subscriptions', '0', '')")
    changed = "update switches set value = cast(value as integer) + 1 where id = 'subscriptions'"
    hears = (
        "update subscriptions set after_event = (select coalesce(max(rowid), 0) from events) "
        "where rowid = new.rowid"
    )
    for name, moment, act in (
        ("subscriptions_made", "after insert on subscriptions", f"{hears}; {changed}"),
        ("subscriptions_gone", "after delete on subscriptions", changed),
        ("subscriptions_changed", "after update on subscriptions", changed),
        (
            "subscriptions_enabled",
            "after update of enabled on subscriptions when new.enabled and not old.enabled",
            hears,
        ),
        # SQLite gives the number of a row that was the last to the next one.
        (
            "events_gone",
            "after delete on events when old.rowid > (select coalesce(max(rowid), 0) from events)",
            "update subscriptions set after_event = (select coalesce(max(rowid), 0) from events) "
            "where after_event > (select coalesce(max(rowid), 0) from events)",
        ),
    ):
        db.execute(f"create trigger {name} {moment} begin {act}; end")


assert [migration.name for migration in MIGRATIONS._migrations] == NAMES
