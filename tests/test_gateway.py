"""What every tool call passes: assignment, arguments, rehearsal, time, redaction, and the cut."""

import asyncio
import gc
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.studios import wait_until

from personas_nb.entities.base import now
from personas_nb.entities.tool import Effect, ToolCallStep, ToolDefinition
from personas_nb.errors import InvalidInput
from personas_nb.settings import Settings
from personas_nb.store.database import Store
from personas_nb.tools.arguments import check_arguments
from personas_nb.tools.builtin import Implementation, Place
from personas_nb.tools.catalog import Tools
from personas_nb.tools.gateway import CALLS_AT_ONCE, Gateway
from personas_nb.vault.redaction import Redactor

SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> list[ToolDefinition]:
    store = Store(tmp_path_factory.mktemp("home"))
    tools = Tools(store).list()
    store.close()
    return tools


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workspace" / "inputs").mkdir(parents=True)
    (tmp_path / "workspace" / "inputs" / "a.txt").write_text("given")
    return tmp_path / "workspace"


@pytest.fixture
def rehearsal(catalog: list[ToolDefinition], workspace: Path) -> Iterator[Gateway]:
    gateway = Gateway(catalog, workspace=workspace, settings=Settings(), rehearsal=True)
    yield gateway
    gateway.close()


def called(gateway: Gateway, name: str, **arguments: Any) -> ToolCallStep:
    return asyncio.run(gateway.call(name, arguments))


def doing(perform: Implementation, *, effect: Effect = "outside", **settings: Any) -> Gateway:
    """A gateway with one tool, which does this and takes anything."""
    tool = ToolDefinition(name="thing", script_path="test://thing", effect=effect)
    return Gateway(
        [tool],
        workspace=Path("unused"),
        settings=Settings(**settings),
        redactor=Redactor({"token": SECRET}),
        implementations={"test://thing": perform},
    )


def returning(value: Any) -> Gateway:
    return doing(lambda _place, _arguments: value)


def raising(error: BaseException) -> Gateway:
    def perform(_place: Place, _arguments: dict[str, Any]) -> None:
        raise error

    return doing(perform)


# Assignment


def test_an_assigned_tool_is_performed_and_recorded(catalog: list[ToolDefinition], workspace: Path) -> None:
    gateway = Gateway(catalog, workspace=workspace, settings=Settings())
    step = asyncio.run(gateway.call("file_read", {"path": "inputs/a.txt"}, call_id="c1"))
    assert (step.tool, step.call_id, step.input) == ("file_read", "c1", {"path": "inputs/a.txt"})
    assert (step.output, step.error, step.performed) == ("given", None, True)
    assert gateway.definitions == tuple(catalog)


def test_a_tool_that_is_not_assigned_is_refused_with_those_that_are(
    catalog: list[ToolDefinition], workspace: Path
) -> None:
    assigned = [tool for tool in catalog if tool.name.startswith("file")]
    step = called(Gateway(assigned, workspace=workspace, settings=Settings()), "file_writer", path="inputs")
    assert step.error == (
        "The tool “file_writer” is not assigned to this persona. "
        "Did you mean “file_write”? Assigned are file_read, file_write."
    )
    assert (step.output, step.performed) == ("", False)


def test_a_persona_without_tools_hears_that_it_has_none(workspace: Path) -> None:
    step = called(Gateway([], workspace=workspace, settings=Settings()), "http_request", url="http://x")
    assert step.error == "The tool “http_request” is not assigned to this persona. It has no tools."


def test_a_tool_that_nothing_here_can_run_says_so(workspace: Path) -> None:
    tool = ToolDefinition(name="old", script_path="tools/old.ts")
    step = called(Gateway([tool], workspace=workspace, settings=Settings()), "old")
    assert step.error is not None
    assert "nothing here can run it" in step.error


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gmail_read", {}),
        ("gmail_search", {"query": "x"}),
        ("gmail_mark_read", {"message_id": "1"}),
        ("gmail_send", {"to": "a@b", "subject": "s", "body": "b"}),
        ("postgres_query", {"query": "select 1"}),
    ],
)
def test_tools_that_log_in_say_that_they_need_a_credential(
    catalog: list[ToolDefinition], workspace: Path, name: str, arguments: dict[str, str]
) -> None:
    step = called(Gateway(catalog, workspace=workspace, settings=Settings()), name, **arguments)
    assert step.error is not None
    assert step.error.startswith(
        "There is no credential here. A person adds one with `%persona credentials add"
    )


# Arguments


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("file_read", {}, "“path” is missing. file_read takes path (required), offset."),
        ("file_read", {"path": 3}, "“path” must be a string, not an integer."),
        (
            "file_write",
            {"path": "x", "content": "y", "append": "yes"},
            "“append” must be a boolean, not a string.",
        ),
        ("file_read", {"path": "x", "pth": "y"}, "“pth” is unknown (did you mean “path”?)."),
        ("http_request", {"url": "x", "method": "get"}, "“method” must be one of GET, HEAD, POST"),
        ("http_request", {"url": "x", "headers": {"A": 1}}, "“headers.A” must be a string, not an integer."),
        ("gmail_read", {"limit": True}, "“limit” must be an integer, not a boolean."),
        ("file_write", {"contents": 1}, "“path” is missing; “content” is missing; “contents” is unknown"),
    ],
)
def test_arguments_that_do_not_fit_are_told_one_by_one(
    catalog: list[ToolDefinition], workspace: Path, name: str, arguments: dict[str, Any], sentence: str
) -> None:
    step = called(Gateway(catalog, workspace=workspace, settings=Settings()), name, **arguments)
    assert step.error is not None
    assert sentence in step.error
    assert not step.performed


def test_arguments_that_are_no_object_are_a_sentence(catalog: list[ToolDefinition], workspace: Path) -> None:
    gateway = Gateway(catalog, workspace=workspace, settings=Settings())
    step = asyncio.run(gateway.call("file_read", ["a.txt"]))  # type: ignore[arg-type]
    assert step.error is not None
    assert "the arguments must be an object, not an array" in step.error
    assert step.input == {"arguments": ["a.txt"]}


def test_a_schema_is_followed_into_lists_and_choices_of_types() -> None:
    schema = {"properties": {"rows": {"type": "array", "items": {"type": ["number", "null"]}}}}
    tool = ToolDefinition(name="sum", input_schema=schema)
    check_arguments(tool, {"rows": [1, 2.5, None], "other": "allowed"})
    with pytest.raises(InvalidInput, match=r"“rows\[1\]” must be a number or null, not a string"):
        check_arguments(tool, {"rows": [1, "2"]})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.sampled_from(["url", "method", "headers", "query", "json", "x"]), JSON))
def test_the_check_agrees_with_jsonschema(catalog: list[ToolDefinition], arguments: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tool = next(tool for tool in catalog if tool.name == "http_request")
    fits = jsonschema.Draft202012Validator(tool.input_schema).is_valid(arguments)
    try:
        check_arguments(tool, arguments)
    except InvalidInput:
        assert not fits
    else:
        assert fits


# What comes back


@dataclass
class Row:
    day: date
    count: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        ({"ä": [1, None]}, '{"ä":[1,null]}'),
        (None, "null"),
        (Row(date(2026, 11, 21), 3), '{"day":"2026-11-21","count":3}'),
        (b"bytes", "bytes"),
        (b"\xff\xfe", "(2 bytes that are not UTF-8 text; not shown)"),
        ("half \ud800", "half ?"),
        ("a\0b", "a␀b"),
        ({"half \udfff": ["\ud800\0", {3}]}, '{"half ?":["?\\u0000","{3}"]}'),
        ([{3}, ...], '[[3],"Ellipsis"]'),
    ],
)
def test_a_result_becomes_text(value: Any, text: str) -> None:
    assert called(returning(value), "thing").output == text


def test_a_long_output_is_cut_and_marked() -> None:
    assert called(returning("x" * 20_000), "thing").output == "x" * 20_000
    assert (
        called(returning("x" * 20_001), "thing").output == "x" * 20_000 + "\n… cut: 20000 of 20001 characters"
    )


def test_long_arguments_are_recorded_cut() -> None:
    step = called(returning(""), "thing", content="x" * 30_000)
    assert step.input["content"].endswith("\n… cut: 20000 of 30000 characters")


def test_arguments_nested_very_deeply_are_recorded_to_a_depth() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    step = called(returning("fine"), "thing", deep=deep)
    assert (step.output, step.error) == ("fine", None)
    assert "… nested too deeply" in step.model_dump_json()


def test_a_secret_is_in_neither_input_nor_output_nor_error() -> None:
    def echo(_place: Place, arguments: dict[str, Any]) -> Any:
        if arguments.get("fail"):
            raise ValueError(f"bad token {SECRET}")
        return arguments

    gateway = doing(echo)
    steps = [
        called(gateway, "thing", **{SECRET: [{"a": f"Bearer {SECRET}"}], "fail": fail}) for fail in (0, 1)
    ]
    assert SECRET not in json.dumps([step.model_dump(mode="json") for step in steps])
    assert (steps[0].error, steps[1].error is None) == (None, False)


def test_a_tool_is_not_given_a_secret_that_a_model_repeats() -> None:
    given: list[dict[str, Any]] = []
    called(doing(lambda _place, arguments: given.append(arguments)), "thing", path="a", to=[{"x": SECRET}])
    assert given == [{"path": "a", "to": [{"x": "[secret token]"}]}]


def test_a_secret_of_digits_is_redacted_as_a_number_too() -> None:
    tool = ToolDefinition(name="thing", script_path="test://thing")
    gateway = Gateway(
        [tool],
        workspace=Path("unused"),
        settings=Settings(),
        redactor=Redactor({"pin": "4815162342"}),
        implementations={"test://thing": lambda _place, _arguments: "ok"},
    )
    step = called(gateway, "thing", pin=4815162342, count=3)
    assert "4815162342" not in str(step.input)
    assert step.input["count"] == 3


@pytest.mark.parametrize("offset", range(0, len(SECRET), 3))
def test_the_cut_leaves_no_half_secret(offset: int) -> None:
    step = called(returning("x" * (20_000 - offset) + SECRET + "y" * 100), "thing")
    assert not any(SECRET[:length] in step.output for length in range(4, len(SECRET)))


# What goes wrong


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("a\nb"), "thing failed with ValueError: a b."),
        (KeyError("k"), "thing failed with KeyError: 'k'."),
        (RuntimeError(), "thing failed with RuntimeError."),
        (Unprintable(), "thing failed with Unprintable."),
        (StopIteration(), "thing failed with StopIteration."),
        (TimeoutError("socket"), "thing failed with TimeoutError: socket."),
        (SystemExit(1), "thing failed with SystemExit: 1."),
        (KeyboardInterrupt(), "thing failed with KeyboardInterrupt."),
    ],
)
def test_whatever_a_tool_raises_is_one_sentence(error: BaseException, sentence: str) -> None:
    step = called(raising(error), "thing")
    assert (step.error, step.output, step.performed) == (sentence, "", True)


def test_a_result_that_cannot_be_written_is_a_sentence() -> None:
    circle: list[Any] = []
    circle.append(circle)
    step = called(returning(circle), "thing")
    assert step.error is not None
    assert step.error.startswith("thing failed with ")
    assert "Circular reference" in step.error


def test_a_tool_that_takes_too_long_is_left_and_said() -> None:
    release = threading.Event()
    step = called(doing(lambda _place, _arguments: release.wait(0.5), tool_timeout_ms=50), "thing")
    release.set()
    assert step.error == (
        "thing took longer than 0.05 s. It may still take effect: look before you call it again."
    )
    assert step.duration_ms >= 50


def test_an_asynchronous_tool_that_takes_too_long_is_ended() -> None:
    ended = []

    async def slow(_place: Place, _arguments: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    step = called(doing(slow, tool_timeout_ms=50, effect="none"), "thing")
    assert step.error is not None
    assert step.error.startswith("thing took longer than 0.05 s. Ask for less")
    assert ended == [True]


def test_a_cancel_before_the_call_keeps_the_tool_from_beginning() -> None:
    begun: list[bool] = []
    gateway = doing(lambda _place, _arguments: begun.append(True))

    async def cancelled() -> None:
        task = asyncio.ensure_future(gateway.call("thing", {}))
        await asyncio.sleep(0)  # up to the gateway's own last look
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert begun == []


def test_a_synchronous_tool_does_not_hold_the_loop_up() -> None:
    release = threading.Event()
    gateway = doing(lambda _place, _arguments: release.wait(10))

    async def both() -> str:
        waiting = asyncio.ensure_future(gateway.call("thing", {}))
        while not waiting.done():
            await asyncio.sleep(0.01)
            release.set()
        return (await waiting).output

    assert asyncio.run(both()) == "true"


def test_an_asynchronous_tool_cannot_end_the_program() -> None:
    async def leave(_place: Place, _arguments: dict[str, Any]) -> None:
        raise SystemExit(1)

    assert called(doing(leave), "thing").error == "thing failed with SystemExit: 1."


def test_a_tool_may_have_a_time_limit_of_its_own() -> None:
    async def slow(_place: Place, _arguments: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    tools = [
        ToolDefinition(name=name, script_path="test://slow", effect="none", timeout_ms=timeout_ms)
        for name, timeout_ms in (("own", 30), ("setting", None))
    ]
    gateway = Gateway(
        tools,
        workspace=Path("unused"),
        settings=Settings(tool_timeout_ms=60),
        implementations={"test://slow": slow},
    )
    assert called(gateway, "own").error == (
        "own took longer than 0.03 s. Ask for less at once, or raise its timeout_ms."
    )
    assert called(gateway, "setting").error == (
        "setting took longer than 0.06 s. Ask for less at once, or raise the setting tool_timeout_ms."
    )


@pytest.mark.parametrize("timeout_ms", [0, -1])
def test_a_time_limit_of_nothing_is_no_time_limit(timeout_ms: int) -> None:
    with pytest.raises(ValidationError):
        ToolDefinition(name="thing", timeout_ms=timeout_ms)


# Many at once


class Busy:
    """A synchronous tool that counts how many of it run; each call waits until ``go`` is set."""

    def __init__(self) -> None:
        self.go, self.order, self.most = threading.Event(), list[int](), 0
        self._lock, self._running = threading.Lock(), 0

    def __call__(self, _place: Place, arguments: dict[str, Any]) -> int:
        with self._lock:
            self.order.append(arguments["n"])
            self._running += 1
            self.most = max(self.most, self._running)
        self.go.wait(30)
        with self._lock:
            self._running -= 1
        return arguments["n"]


async def begun(busy: Busy) -> None:
    """Wait until as many calls run as may; there are threads for all."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1000))
    await asyncio.to_thread(wait_until, lambda: len(busy.order) == CALLS_AT_ONCE)


def test_a_thousand_calls_run_a_few_at_once_in_the_order_in_which_they_came() -> None:
    busy = Busy()
    gateway = doing(busy)

    async def all_of_them() -> list[ToolCallStep]:
        calls = [asyncio.ensure_future(gateway.call("thing", {"n": n}, call_id=str(n))) for n in range(1000)]
        await begun(busy)
        await asyncio.sleep(0.05)
        assert sorted(busy.order) == list(range(CALLS_AT_ONCE))
        busy.go.set()
        return await asyncio.gather(*calls)

    steps = asyncio.run(all_of_them())
    assert [(step.call_id, step.output, step.error) for step in steps] == [
        (str(n), str(n), None) for n in range(1000)
    ]
    assert busy.most <= CALLS_AT_ONCE
    # threads may overtake each other, but never those who still waited for their turn
    assert all(abs(place - n) < 2 * CALLS_AT_ONCE for place, n in enumerate(busy.order))


def test_the_time_of_a_call_begins_with_its_turn() -> None:
    async def slow(_place: Place, _arguments: dict[str, Any]) -> str:
        await asyncio.sleep(0.1)
        return "done"

    gateway = doing(slow, tool_timeout_ms=1_000)

    async def all_of_them() -> list[ToolCallStep]:
        return await asyncio.gather(*(gateway.call("thing", {}) for _ in range(12 * CALLS_AT_ONCE)))

    steps = asyncio.run(all_of_them())  # the last one waits for 1.1 s
    assert {(step.output, step.error) for step in steps} == {("done", None)}
    assert max(step.duration_ms for step in steps) < 1_000
    assert steps[-1].started_at > steps[0].started_at + timedelta(seconds=1)


def test_a_cancel_ends_those_who_wait_and_begins_none_of_them() -> None:
    busy = Busy()
    gateway = doing(busy)

    async def cancelled() -> float:
        calls = [asyncio.ensure_future(gateway.call("thing", {"n": n})) for n in range(1000)]
        await begun(busy)
        for call in calls:
            call.cancel()
        started = time.monotonic()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        took = time.monotonic() - started
        busy.go.set()
        assert (await gateway.call("thing", {"n": 1000})).output == "1000"  # every place is free again
        return took

    assert asyncio.run(cancelled()) < 5
    assert sorted(busy.order) == [*range(CALLS_AT_ONCE), 1000]


def test_a_tool_that_takes_too_long_gives_its_place_to_the_next() -> None:
    async def slow(_place: Place, arguments: dict[str, Any]) -> str:
        await asyncio.sleep(60 if arguments["n"] < CALLS_AT_ONCE else 0)
        return "done"

    gateway = doing(slow, tool_timeout_ms=50)

    async def all_of_them() -> list[ToolCallStep]:
        return await asyncio.gather(*(gateway.call("thing", {"n": n}) for n in range(2 * CALLS_AT_ONCE)))

    steps = asyncio.run(all_of_them())
    assert [step.error is None for step in steps] == [False] * CALLS_AT_ONCE + [True] * CALLS_AT_ONCE


# What another program performed


def test_a_call_that_another_program_performed_is_recorded_like_our_own() -> None:
    gateway = doing(lambda _place, _arguments: None)
    step = gateway.record(
        "Bash",
        {"command": f"curl -H {SECRET}", "timeout": 7},
        call_id="c1",
        output=f"{SECRET}\0{'x' * 30_000}",
        error=f"exit 1: {SECRET}",
        duration_ms=1_500,
        performed=True,
    )
    assert (step.tool, step.call_id, step.duration_ms, step.performed) == ("Bash", "c1", 1_500, True)
    assert step.input == {"command": "curl -H [secret token]", "timeout": 7}
    assert step.output.startswith("[secret token]␀xxx")
    assert step.output.endswith("characters")
    assert step.error == "exit 1: [secret token]"
    assert abs(now() - step.started_at - timedelta(seconds=1.5)) < timedelta(seconds=5)


def test_what_is_no_object_is_recorded_under_a_name() -> None:
    step = doing(lambda _place, _arguments: None).record("Bash", ["ls"], performed=False)
    assert (step.input, step.output, step.error, step.performed) == ({"arguments": ["ls"]}, "", None, False)


def test_an_error_is_cut_shorter_than_an_output() -> None:
    step = doing(lambda _place, _arguments: None).record("Bash", {}, error="x" * 5_000)
    assert step.error == "x" * 1_000 + "\n… cut: 1000 of 5000 characters"


def test_the_workspace_can_be_asked_for(workspace: Path) -> None:
    assert Gateway([], workspace=workspace, settings=Settings()).workspace == workspace


# Rehearsal


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("http_request", {"url": "https://a.b/c"}, "would send GET https://a.b/c; nothing was sent."),
        (
            "http_request",
            {"url": "https://a.b", "method": "POST", "json": {}},
            "would send POST https://a.b with json; nothing was sent.",
        ),
        (
            "gmail_send",
            {"to": "a@b.c", "subject": "Hi", "body": "x"},
            "would send a mail to a@b.c: “Hi”; nothing was sent.",
        ),
        ("gmail_read", {"limit": 2}, "would read the newest 2 mails; no mailbox was opened."),
        (
            "postgres_query",
            {"query": "select 1"},
            "would ask the database “select 1”; no database was reached.",
        ),
    ],
)
def test_a_rehearsal_describes_what_reaches_outside(
    rehearsal: Gateway, name: str, arguments: dict[str, Any], sentence: str
) -> None:
    step = called(rehearsal, name, **arguments)
    assert (step.output, step.error, step.performed) == (f"Rehearsal: {sentence}", None, False)


def test_a_rehearsal_never_enters_the_code_of_a_tool_that_reaches_outside(workspace: Path) -> None:
    entered: list[str] = []

    def enter(_place: Place, _arguments: dict[str, Any]) -> None:
        entered.append("here")

    effects: tuple[Effect, ...] = ("none", "local", "outside")
    tools = [ToolDefinition(name=effect, script_path=effect, effect=effect) for effect in effects]
    gateway = Gateway(
        tools,
        workspace=workspace,
        settings=Settings(),
        rehearsal=True,
        implementations=dict.fromkeys(effects, enter),
    )
    steps = [called(gateway, effect) for effect in effects]
    gateway.close()
    assert [step.performed for step in steps] == [True, True, False]
    assert len(entered) == 2


def test_a_rehearsal_describes_without_secrets(catalog: list[ToolDefinition], workspace: Path) -> None:
    redactor = Redactor({"token": SECRET})
    gateway = Gateway(catalog, workspace=workspace, settings=Settings(), redactor=redactor, rehearsal=True)
    step = called(gateway, "http_request", url=f"https://a.b/?key={SECRET}")
    assert SECRET not in step.model_dump_json()


def test_a_rehearsal_refuses_arguments_as_a_run_does(rehearsal: Gateway) -> None:
    step = called(rehearsal, "http_request")
    assert step.error is not None
    assert "“url” is missing" in step.error


def test_a_rehearsal_writes_into_a_copy_and_reads_what_it_wrote(rehearsal: Gateway, workspace: Path) -> None:
    async def write_and_read() -> list[ToolCallStep]:
        return [
            await rehearsal.call("file_read", {"path": "inputs/a.txt"}),
            await rehearsal.call("file_write", {"path": "inputs/a.txt", "content": "changed"}),
            await rehearsal.call("file_write", {"path": "new/b.txt", "content": "new"}),
            await rehearsal.call("file_read", {"path": "inputs/a.txt"}),
        ]

    steps = asyncio.run(write_and_read())
    assert [step.error for step in steps] == [None] * 4
    assert [steps[0].output, steps[3].output] == ["given", "changed"]
    assert steps[1].output.startswith("Rehearsal, in a scratch copy of the workspace: Wrote 7 bytes")
    assert tree(workspace) == {"inputs/a.txt": b"given"}


def test_parallel_calls_of_a_rehearsal_share_one_copy(rehearsal: Gateway) -> None:
    async def in_parallel() -> str:
        names = [f"{number}.txt" for number in range(8)]
        await asyncio.gather(*(rehearsal.call("file_write", {"path": n, "content": n}) for n in names))
        return (await rehearsal.call("file_read", {"path": "."})).output

    assert asyncio.run(in_parallel()).count(".txt (5 bytes)") == 8


def test_the_copy_is_removed_at_the_end(catalog: list[ToolDefinition], workspace: Path) -> None:
    gateway = Gateway(catalog, workspace=workspace, settings=Settings(), rehearsal=True)
    gateway.close()  # nothing to remove yet
    called(gateway, "file_write", path="x", content="y")
    assert gateway._scratch is not None
    folder = gateway._scratch.folder
    assert folder.exists()
    gateway.close()
    gateway.close()
    gc.collect()
    assert not folder.exists()


def test_the_copy_leaves_out_what_is_too_large_and_links_and_says_so(
    catalog: list[ToolDefinition], workspace: Path
) -> None:
    (workspace / "big.bin").write_bytes(b"x" * 101)
    (workspace / "link").symlink_to(workspace)
    settings = Settings(file_limit_bytes=100)
    gateway = Gateway(catalog, workspace=workspace, settings=settings, rehearsal=True)
    step = called(gateway, "file_write", path="x", content="y")
    missing = called(gateway, "file_read", path="big.bin")
    gateway.close()
    note = "(The scratch copy of the workspace leaves out links and what is too large: link, big.bin.)"
    assert step.output.startswith(note)
    assert missing.error is not None
    assert "The scratch copy of the workspace leaves out" in missing.error


def test_a_rehearsal_of_a_workspace_that_is_not_there_yet_works(
    catalog: list[ToolDefinition], tmp_path: Path
) -> None:
    gateway = Gateway(catalog, workspace=tmp_path / "absent", settings=Settings(), rehearsal=True)
    assert called(gateway, "file_write", path="a/b.txt", content="x").error is None
    gateway.close()
    assert not (tmp_path / "absent").exists()
