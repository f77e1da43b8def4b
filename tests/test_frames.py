"""DataFrames between tools: the model has a handle, the next tool the frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.model_server import Turn
from support.studios import KEY, persona_of, studio_at
from test_direct import ENGINES, Bench

from personas_nb.errors import InvalidInput, NotFound
from personas_nb.tools.frames import FRAMES_LIMIT, Frames, described


@pytest.fixture(params=[ENGINES[0], ENGINES[2]], ids=lambda engine: engine.name)
def bench(request: pytest.FixtureRequest, home: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(request.param, home, stack)


def sales(region: str = "EU", rows: int = 1000) -> pd.DataFrame:
    """The sales of a region."""
    return pd.DataFrame({"region": [region] * rows, "amount": range(rows)})


def total(frame: pd.DataFrame, scale: float = 1.0) -> float:
    """Add up a frame."""
    return float(frame["amount"].sum() * scale)


def start(bench: Bench, *turns: Any) -> Any:
    studio = bench.start([*turns, Turn.text("Done.")])
    for function in (sales, total):
        studio.tools.add(function)
    studio.tools.assign(bench.persona, "sales", "total")
    return studio


def test_the_model_sees_a_handle_columns_and_rows_and_the_next_tool_gets_the_frame(bench: Bench):
    calls = [Turn.tools(("sales", {})), Turn.tools(("total", {"frame": "df:sales-1", "scale": 2.0}))]
    first, second = start(bench, *calls).run("watcher").tool_steps
    assert first.output.startswith("df:sales-1 is a table of 1,000 rows and 2 columns.")
    assert "amount (int64)" in first.output
    assert "EU,4\n" in first.output
    assert "EU,5" not in first.output
    assert not bench.server.requests[1].mentions("EU,999")
    assert second.output == "999000.0"


def test_each_call_has_a_handle_of_its_own(bench: Bench):
    studio = start(bench, Turn.tools(("sales", {"region": "EU"}), ("sales", {"region": "US"})))
    outputs = [step.output for step in studio.run("watcher").tool_steps]
    assert sorted(output.partition(" ")[0] for output in outputs) == ["df:sales-1", "df:sales-2"]


def test_a_handle_that_is_none_is_a_sentence_for_the_model(bench: Bench):
    studio = start(bench, Turn.tools(("sales", {})), Turn.tools(("total", {"frame": "df:sale-1"})))
    step = studio.run("watcher").tool_steps[1]
    assert step.error == "There is no frame “df:sale-1” here. Did you mean “df:sales-1”?"


def test_the_frames_of_the_last_run_can_be_looked_at_until_the_next_ends(bench: Bench):
    studio = start(bench, Turn.tools(("sales", {"rows": 3})))
    studio.run("watcher")
    assert len(studio.tools.frame("df:sales-1")) == 3
    with pytest.raises(NotFound, match="There are df:sales-1"):
        studio.tools.frame("df:of-somebody-else")


def test_a_run_does_not_find_the_frames_of_another(bench: Bench):
    script = [Turn.tools(("sales", {})), Turn.text("Done."), Turn.tools(("total", {"frame": "df:sales-1"}))]
    studio = start(bench, *script)
    studio.run("watcher")
    (step,) = studio.run("watcher").tool_steps
    assert step.error == "There is no frame “df:sales-1” here. There is none yet."


def test_a_frame_that_was_kept_by_name_is_there_for_every_run(bench: Bench):
    studio = start(bench, Turn.tools(("total", {"frame": "df:budget"})))
    assert studio.tools.keep_frame("budget", sales(rows=4)) == "df:budget"
    assert studio.run("watcher").tool_steps[0].output == "6.0"
    studio.tools.drop_frame("df:budget")
    with pytest.raises(NotFound):
        studio.tools.frame("df:budget")


def test_series_lists_of_dicts_and_frames_inside_a_result_are_handles_too(bench: Bench):
    def many() -> list[dict[str, int]]:
        return [{"amount": number} for number in range(200)]

    def several() -> dict[str, Any]:
        return {"sales": sales(rows=3), "note": "fresh", "last": sales(rows=3)["amount"]}

    def largest(amounts: Any = None) -> int:
        return -1 if amounts is None else int(amounts.max())

    largest.__annotations__["amounts"] = pd.Series | None
    handles = ["df:several-2", None]
    calls = [Turn.tools(("many", {})), Turn.tools(("several", {}))]
    calls += [Turn.tools(("largest", {"amounts": handle})) for handle in handles]
    studio = bench.start([*calls, Turn.text("Done.")])
    for function in (many, several, largest):
        studio.tools.add(function)
    studio.tools.assign(bench.persona, "many", "several", "largest")
    run = studio.run("watcher")
    first, second, third, fourth = run.tool_steps
    assert first.output.startswith("df:many-1 is a table of 200 rows")
    assert '"note":"fresh"' in second.output
    assert "df:several-1 is a table of 3 rows" in second.output
    assert (third.output, fourth.output) == ("2", "-1")


def test_a_rehearsal_hands_a_frame_from_tool_to_tool(home: Path):
    with studio_at(home, provider="rehearsal") as studio:
        for function in (total, sales_of):
            studio.tools.add(function, effect="none")
        persona_of(studio, "sales_of", "total")
        outputs = [(step.tool, step.output, step.error) for step in studio.run("watcher").tool_steps]
    assert outputs[0][0] == "sales_of"
    assert outputs[1] == ("total", "499500.0", None)


def sales_of(region: Literal["EU", "US"], near: Near) -> pd.DataFrame:
    """The sales of a region."""
    return sales(region if near.on in (True, False) else "")


@dataclass
class Near:
    on: bool


def test_a_secret_in_a_frame_is_not_shown(bench: Bench):
    def keys() -> pd.DataFrame:
        return pd.DataFrame({"key": [KEY]})

    studio = bench.start([Turn.tools(("keys", {})), Turn.text("Done.")])
    studio.tools.add(keys)
    studio.tools.assign(bench.persona, "keys")
    (step,) = studio.run("watcher").tool_steps
    assert KEY not in step.output
    assert KEY not in bench.stored()


def test_a_run_keeps_its_last_frames_and_says_so_of_the_others():
    run = Frames().of_run()
    handles = [run.put("x", number) for number in range(FRAMES_LIMIT + 2)]
    assert run.get(handles[-1]) == FRAMES_LIMIT + 1
    with pytest.raises(NotFound, match=f"df:x-2” is gone: a run keeps its last {FRAMES_LIMIT}"):
        run.get(handles[1])


def test_frames_go_when_another_run_with_frames_has_ended():
    frames = Frames()
    for number in range(3):
        run = frames.of_run()
        run.put("x", number)
        run.close()
    assert frames.get("df:x-1") == 2
    frames.of_run().close()  # one without frames takes nothing away
    assert frames.get("df:x-1") == 2


@pytest.mark.parametrize(("name", "value"), [("a b", pd.DataFrame()), ("a", 7), ("", pd.DataFrame())])
def test_what_cannot_be_kept_is_refused(name: str, value: Any):
    with pytest.raises(InvalidInput):
        Frames().keep(name, value)


def test_only_so_many_frames_are_kept_by_name():
    frames = Frames()
    for number in range(FRAMES_LIMIT):
        frames.keep(f"x{number}", pd.DataFrame())
    with pytest.raises(InvalidInput, match=f"{FRAMES_LIMIT} frames are kept already"):
        frames.keep("one_more", pd.DataFrame())
    frames.keep("x0", pd.DataFrame({"a": [1]}))  # a known name is replaced


CELLS = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=2_000), st.lists(st.integers(), max_size=3)
)


@given(st.dictionaries(st.text(max_size=20), CELLS, max_size=80), st.integers(0, 20))
def test_any_frame_is_described_in_few_words(row: dict[str, Any], rows: int):
    frame = pd.DataFrame([row] * rows)
    text = described("df:x-1", frame)
    assert text.startswith(f"df:x-1 is a table of {len(frame)} rows and {len(frame.columns)} columns.")
    assert len(text) < 8_000


def test_columns_of_the_same_name_and_an_index_are_described():
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"], index=pd.Index(["first"], name="who"))
    assert "Columns: a (int64), a (int64)" in described("df:x-1", frame)
    assert "who,a,a\nfirst,1,2" in described("df:x-1", frame)
