"""Functions of the notebook as tools: their schemas, their calls on both engines, and where they end."""

from __future__ import annotations

import asyncio
import enum
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from support.model_server import Turn
from support.studios import persona_of, python, studio_at, wait_until
from test_direct import ENGINES, Bench

from personas_nb import Studio
from personas_nb.entities.execution import Execution
from personas_nb.errors import Conflict, InvalidInput
from personas_nb.tools.functions import function_tool


@pytest.fixture(params=[ENGINES[0], ENGINES[2]], ids=lambda engine: engine.name)
def bench(request: pytest.FixtureRequest, home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(request.param, home, stack)


@pytest.fixture
def direct(home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(ENGINES[0], home, stack)


def called(
    bench: Bench, function: Callable[..., Any], *arguments: dict[str, Any], **options: Any
) -> Execution:
    """A run that calls the function with each of the arguments, one after the other."""
    name = options.get("name") or function.__name__
    studio = bench.start([*(Turn.tools((name, given)) for given in arguments), Turn.text("Done.")])
    studio.tools.add(function, **options)
    studio.tools.assign(bench.persona, name)
    return studio.run("watcher")


# --- schemas ----------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict):
    deep: bool


class Customer(BaseModel):
    name: str
    age: int = Field(description="in years", ge=0)


def everything(
    text: str,
    count: int,
    kind: Literal["a", "b"],
    colour: Colour,
    point: Point,
    options: Options,
    customer: Customer,
    sales: pd.DataFrame,
    tags: list[str],
    prices: dict[str, float],
    unit: Annotated[str, Field(description="such as kg")] = "kg",
    limit: int | None = None,
    on: bool = True,
) -> None:
    """Do everything."""


def test_every_hint_becomes_its_schema():
    schema = json.loads(json.dumps(function_tool(everything).definition.input_schema))
    kinds = {name: part.get("type") for name, part in schema["properties"].items()}
    assert kinds["text"] == "string"
    assert kinds["count"] == "integer"
    assert schema["properties"]["kind"]["enum"] == ["a", "b"]
    assert schema["$defs"]["Colour"]["enum"] == ["red", "blue"]
    assert schema["$defs"]["Point"]["required"] == ["x"]
    assert schema["$defs"]["Options"]["properties"]["deep"]["type"] == "boolean"
    assert schema["$defs"]["Customer"]["properties"]["age"]["description"] == "in years"
    assert (kinds["sales"], kinds["tags"], kinds["prices"]) == ("string", "array", "object")
    assert "df:sales-1" in schema["properties"]["sales"]["description"]
    assert schema["properties"]["unit"]["description"] == "such as kg"
    assert set(schema["properties"]) - set(schema["required"]) == {"unit", "limit", "on"}


GOOGLE = """Add up.

Args:
    n: how many

Returns:
    The sum.
"""
NUMPY = """Add up.

Parameters
----------
n : int
    how many

Returns
-------
int
    The sum.
"""
REST = """Add up.

:param n: how many
:returns: The sum.
"""


@pytest.mark.parametrize("doc", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_parameters_are_described_by_the_docstring(doc: str):
    def add(n: int) -> int:
        return n

    add.__doc__ = doc
    tool = function_tool(add).definition
    assert tool.input_schema["properties"]["n"]["description"] == "how many"
    assert tool.description.startswith("Add up.")
    assert "The sum." in tool.description
    assert "<" not in tool.description


def test_without_hints_a_default_says_what_it_is():
    def find(query, limit=10, exact=False): ...

    properties = function_tool(find).definition.input_schema["properties"]
    assert (properties["limit"]["type"], properties["exact"]["type"]) == ("integer", "boolean")
    assert "type" not in properties["query"]


class Odd:
    pass


def by_position(a: int, /) -> None: ...
def any_number(*values: int) -> None: ...
def any_name(**values: int) -> None: ...
def odd(value: Odd) -> None: ...
def unknown(value: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
def user_message(text: str) -> None: ...
def _hidden() -> None: ...


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (by_position, "takes “a” by position only"),
        (any_number, r"takes any number of arguments \(\*values\)"),
        (any_name, r"takes arguments of any name \(\*\*values\)"),
        (odd, "cannot be described to a model: Unable to generate"),
        (unknown, "hints of unknown cannot be read: name 'Missing'"),
        (user_message, "name of a protocol message"),
        (_hidden, "cannot name a tool"),
        (lambda a: a, "A lambda has no name"),
        (Odd, "A tool is a function, and no type."),
        (7, "A tool is a function, and no int."),
    ],
)
def test_what_cannot_be_a_tool_is_refused_in_words(function: Any, sentence: str):
    with pytest.raises(InvalidInput, match=sentence):
        function_tool(function)


@given(st.text(max_size=300))
def test_any_docstring_makes_a_tool(doc: str):
    def add(n: int) -> int:
        return n

    add.__doc__ = doc
    assert function_tool(add).definition.input_schema["required"] == ["n"]


# --- adding -----------------------------------------------------------------------------------------------


def test_it_is_a_decorator_with_and_without_arguments(direct: Bench):
    studio = direct.start([])

    @studio.tools.add
    def one() -> int:
        return 1

    @studio.tools.add(name="second", effect="none", timeout_ms=5_000, description="The second.")
    def two() -> int:
        return 2

    assert (one(), two()) == (1, 2)
    tool = studio.tools.get("second")
    assert (tool.effect, tool.timeout_ms, tool.description) == ("none", 5_000, "The second.")
    assert (studio.tools.get("one").script_path, studio.tools.get("one").effect) == (
        "notebook://one",
        "outside",
    )


def test_adding_it_again_replaces_it_and_keeps_its_assignment(direct: Bench):
    studio = direct.start([Turn.tools(("rate", {"of": "EUR"})), Turn.text("Done.")])

    def rate() -> float:
        return 1.0

    studio.tools.add(rate)
    before = studio.tools.assign("watcher", "rate")

    def rate(of: str) -> str:  # type: ignore[no-redef]
        return f"{of} 2.0"

    studio.tools.add(rate)
    (after,) = studio.tools.assigned("watcher")
    assert (after.id, list(after.input_schema["properties"])) == (before[0].id, ["of"])
    assert studio.run("watcher").tool_steps[0].output == "EUR 2.0"


def test_the_name_of_another_tool_is_refused(direct: Bench):
    studio = direct.start([])
    with pytest.raises(Conflict, match="There is a tool “file_read” already"):
        studio.tools.add(lambda: 1, name="file_read")


def test_a_removed_function_is_nobodys_tool(direct: Bench):
    studio = direct.start([])
    studio.tools.add(by_name)
    studio.tools.assign("watcher", "by_name")
    studio.tools.remove("by_name")
    assert studio.tools.assigned("watcher") == []
    with pytest.raises(InvalidInput, match="no function of a notebook"):
        studio.tools.remove("file_read")


def by_name(name: str) -> str:
    """Greet."""
    return f"Hello {name}"


# --- calls ------------------------------------------------------------------------------------------------


def test_a_function_is_called_in_a_thread_of_its_own(bench: Bench):
    seen = []

    def greet(name: str) -> str:
        """Greet somebody."""
        seen.append(threading.current_thread())
        return f"Hello {name}"

    (step,) = called(bench, greet, {"name": "Zoë"}).tool_steps
    assert (step.tool, step.input, step.output, step.error) == ("greet", {"name": "Zoë"}, "Hello Zoë", None)
    assert bench.server.requests[1].mentions("Hello Zoë")
    assert seen[0] not in (threading.main_thread(), threading.current_thread())


def test_a_coroutine_function_is_awaited(bench: Bench):
    async def greet(name: str) -> str:
        await asyncio.sleep(0.01)
        return f"Hello {name}"

    assert called(bench, greet, {"name": "Zoë"}).tool_steps[0].output == "Hello Zoë"


def test_arguments_arrive_as_what_their_hints_say(bench: Bench):
    def place(point: Point, colour: Colour, customer: Customer) -> str:
        assert isinstance(point, Point)
        assert isinstance(customer, Customer)
        return f"{point.x},{point.y} {colour.name} {customer.name}"

    arguments = {"point": {"x": 3}, "colour": "red", "customer": {"name": "Ada", "age": 36}}
    assert called(bench, place, arguments).tool_steps[0].output == "3,0 RED Ada"


def test_one_argument_that_is_a_model_is_its_fields(bench: Bench):
    def store(customer: Customer) -> str:
        return customer.name

    assert called(bench, store, {"name": "Ada", "age": 36}).tool_steps[0].output == "Ada"


def test_what_does_not_fit_is_told_to_the_model_and_nothing_is_called(bench: Bench):
    calls = []

    def store(customer: Customer, on: bool = True) -> None:
        calls.append(customer)

    (step,) = called(bench, store, {"customer": {"name": "Ada", "age": -1}}).tool_steps
    assert "“customer.age” should be greater than or equal to 0" in (step.error or "")
    assert calls == []


def test_a_method_and_a_partial_are_functions_too(direct: Bench):
    class Shop:
        def price(self, of: str) -> str:
            """The price of a thing."""
            return f"{of} costs 3"

    assert called(direct, Shop().price, {"of": "tea"}).tool_steps[0].output == "tea costs 3"
    half = functools.partial(lambda a, b: a * b, 2)
    tool = function_tool(half, name="twice").definition
    assert list(tool.input_schema["properties"]) == ["b"]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words for it")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        ({"a": [1, 2.5]}, '{"a":[1,2.5]}'),
        (Point(1), '{"x":1,"y":0}'),
        (float("nan"), '"NaN"'),
        (b"\xff", "(1 bytes that are not UTF-8 text; not shown)"),
    ],
)
def test_a_result_becomes_text(direct: Bench, value: Any, shown: str):
    def give() -> Any:
        return value

    assert called(direct, give, {}).tool_steps[0].output == shown


@pytest.mark.parametrize("value", [Unprintable(), [[Unprintable()]]])
def test_a_result_that_nothing_can_show_is_an_error_in_words(direct: Bench, value: Any):
    def give() -> Any:
        return value

    run = called(direct, give, {})
    assert run.status == "completed"
    assert "give failed with" in (run.tool_steps[0].error or "")


def test_a_result_that_must_be_awaited_is_said(direct: Bench):
    async def later() -> int:
        return 1

    def give() -> Any:
        return later()

    assert "returned something to await" in (called(direct, give, {}).tool_steps[0].error or "")


ERRORS = [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), StopIteration(1), asyncio.CancelledError()]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_function_raises_ends_in_its_step(direct: Bench, error: BaseException, is_async: bool):
    def fail() -> None:
        raise error

    async def fail_later() -> None:
        raise error

    run = called(direct, fail_later if is_async else fail, {}, name="fail")
    assert run.status == "completed"
    known = "RuntimeError" if is_async and isinstance(error, StopIteration) else type(error).__name__
    assert known in (run.tool_steps[0].error or "")


def test_a_function_that_takes_too_long_is_not_waited_for(bench: Bench):
    release = threading.Event()

    def slow() -> None:
        release.wait(60)

    begun = time.monotonic()
    run = called(bench, slow, {}, timeout_ms=300)
    release.set()
    assert time.monotonic() - begun < 50
    assert run.status == "completed"
    assert "slow took longer than 0.3 s" in (run.tool_steps[0].error or "")


def test_after_a_cancel_no_function_begins(direct: Bench):
    begun: list[Any] = []
    validated = [1]
    validating, release = threading.Event(), threading.Event()

    class Slow(BaseModel):
        text: str

        def model_post_init(self, _context: Any) -> None:
            validating.set()
            release.wait(30)
            threading.Timer(0.2, validated.clear).start()  # long after the call would have begun

    def act(slow: Slow, on: bool = True) -> None:
        begun.append(slow)

    studio = direct.start([Turn.tools(("act", {"slow": {"text": "x"}})), Turn.text("Done.")])
    act.__annotations__["slow"] = Slow
    studio.tools.add(act)
    studio.tools.assign("watcher", "act")
    handle = studio.start("watcher")
    assert validating.wait(30)
    assert handle.cancel().status == "cancelled"
    release.set()
    wait_until(lambda: not validated)
    assert begun == []


# --- rehearsal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "is_performed"), [("none", True), ("local", False), ("outside", False)])
def test_a_rehearsal_calls_only_what_changes_nothing(home: Path, effect: str, is_performed: bool):
    calls = []

    def look(at: str) -> str:
        calls.append(at)
        return "seen"

    with studio_at(home, provider="rehearsal") as studio:
        studio.tools.add(look, effect=effect)
        persona_of(studio, "look")
        (step,) = studio.run("watcher", "the sky").tool_steps
    assert (step.performed, len(calls)) == (is_performed, int(is_performed))


# --- another process --------------------------------------------------------------------------------------

DEFINED = """
import sys
from pathlib import Path
from personas_nb import Studio

def load_sales(region: str) -> str:
    "Load the sales."
    return "sales"

with Studio(Path(sys.argv[1])) as studio:
    studio.tools.add(load_sales)
    studio.personas.create(name="Watcher", system_prompt="x")
    studio.tools.assign("watcher", "load_sales")
"""


def test_in_another_process_a_call_is_answered_with_where_it_was_defined(bench: Bench):
    env = {"JPY_SESSION_NAME": "/home/ada/sales.ipynb"}
    with python(DEFINED, str(bench.home), env=env) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        pid = process.pid
    studio = bench.start([Turn.tools(("load_sales", {"region": "EU"})), Turn.text("Done.")], name="Other")
    studio.tools.assign("other", "load_sales")
    run = studio.run("other")
    (step,) = run.tool_steps
    assert step.error is not None
    assert f"load_sales is a function defined in sales.ipynb (process {pid} on " in step.error
    assert run.status == "completed"
    assert any("load_sales is a function defined in sales.ipynb" in warning for warning in run.warnings)


def test_a_home_that_is_reached_by_another_path_has_the_same_functions(home: Path, tmp_path: Path):
    with Studio(home) as studio:
        studio.tools.add(by_name, effect="none")
    (tmp_path / "link").symlink_to(home)
    with studio_at(tmp_path / "link", provider="rehearsal") as studio:
        persona_of(studio, "by_name")
        assert studio.run("watcher", "Ada").tool_steps[0].performed
