"""The log of a run goes on in another file when one is full, and loses nothing but the oldest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from personas_nb.engine.log import RunLog


def written(home: Path, lines: Iterable[str], **limits: int) -> list[Path]:
    """The files of a log that got these lines in one call each."""
    log = RunLog(home, "run", **limits)
    for line in lines:
        log.append([line])
    log.close()
    return RunLog.paths(home, "run")


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def contents(paths: Iterable[Path]) -> list[str]:
    """What was logged, without what the log says of itself."""
    return [line for path in paths for line in lines_of(path) if '"type": "log"' not in line]


def test_a_short_log_is_one_file(tmp_path: Path) -> None:
    paths = written(tmp_path, ['{"n": 1}', '{"n": 2}'])
    assert paths == [tmp_path / "logs" / "run.jsonl"]
    assert lines_of(paths[0]) == ['{"n": 1}', '{"n": 2}']


def test_a_run_that_logged_nothing_has_no_files(tmp_path: Path) -> None:
    assert written(tmp_path, []) == []


def test_a_full_file_gets_a_number_and_the_log_goes_on_in_a_new_one(tmp_path: Path) -> None:
    paths = written(tmp_path, [f'{{"n": {n}}}' for n in range(6)], limit_bytes=18)
    assert [path.name for path in paths] == ["run.1.jsonl", "run.2.jsonl", "run.jsonl"]
    assert [len(lines_of(path)) for path in paths] == [2, 2, 2]
    assert contents(paths) == [f'{{"n": {n}}}' for n in range(6)]


def test_a_batch_is_divided_where_a_file_is_full(tmp_path: Path) -> None:
    log = RunLog(tmp_path, "run", limit_bytes=18)
    log.append([f'{{"n": {n}}}' for n in range(5)])
    log.close()
    assert [len(lines_of(path)) for path in RunLog.paths(tmp_path, "run")] == [2, 2, 1]


def test_a_line_that_is_longer_than_a_file_may_be_stays_whole(tmp_path: Path) -> None:
    long = json.dumps({"text": "ü" * 100}, ensure_ascii=False)
    paths = written(tmp_path, ['{"n": 1}', long, '{"n": 2}'], limit_bytes=50)
    assert [lines_of(path) for path in paths] == [['{"n": 1}'], [long], ['{"n": 2}']]


def test_only_the_newest_files_are_kept_and_the_log_says_what_is_missing(tmp_path: Path) -> None:
    paths = written(tmp_path, [f'{{"n": {n}}}' for n in range(5)], limit_bytes=9, file_count=3)
    assert [path.name for path in paths] == ["run.3.jsonl", "run.4.jsonl", "run.jsonl"]
    said = [json.loads(lines_of(path)[0]) for path in paths[1:]]
    assert [notice["type"] for notice in said] == ["log", "log"]
    assert said[0]["text"] == (
        "The oldest file of this log was removed: 3 files are kept, each of at most 9 bytes."
    )
    assert said[1]["text"].startswith("The 2 oldest files of this log were removed")
    assert contents(paths) == ['{"n": 2}', '{"n": 3}', '{"n": 4}']


def test_one_file_may_be_all_that_is_kept(tmp_path: Path) -> None:
    paths = written(tmp_path, ['{"n": 1}', '{"n": 2}'], limit_bytes=9, file_count=1)
    assert [path.name for path in paths] == ["run.jsonl"]
    assert contents(paths) == ['{"n": 2}']


def test_files_are_in_order_beyond_nine(tmp_path: Path) -> None:
    paths = written(tmp_path, [f'{{"n": {n}}}' for n in range(12)], limit_bytes=9, file_count=100)
    assert contents(paths) == [f'{{"n": {n}}}' for n in range(12)]


def test_a_log_that_is_opened_again_knows_how_full_it_is(tmp_path: Path) -> None:
    written(tmp_path, ['{"n": 1}', '{"n": 2}', '{"n": 3}'], limit_bytes=18)
    paths = written(tmp_path, ['{"n": 4}', '{"n": 5}'], limit_bytes=18)
    assert [path.name for path in paths] == ["run.1.jsonl", "run.2.jsonl", "run.jsonl"]
    assert contents(paths) == [f'{{"n": {n}}}' for n in range(1, 6)]


def test_a_file_that_a_crash_left_without_a_successor_keeps_its_number(tmp_path: Path) -> None:
    written(tmp_path, ['{"n": 1}'])
    (tmp_path / "logs" / "run.jsonl").rename(tmp_path / "logs" / "run.1.jsonl")
    assert [path.name for path in RunLog.paths(tmp_path, "run")] == ["run.1.jsonl"]
    paths = written(tmp_path, ['{"n": 2}', '{"n": 3}'], limit_bytes=9)
    assert [path.name for path in paths] == ["run.1.jsonl", "run.2.jsonl", "run.jsonl"]


def test_files_of_other_runs_are_no_part_of_it(tmp_path: Path) -> None:
    for name in ("run.jsonl", "run.x.jsonl", "run.1.jsonl.bak", "runs.1.jsonl", "run2.jsonl"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / name).touch()
    assert [path.name for path in RunLog.paths(tmp_path, "run")] == ["run.jsonl"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_every_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    paths = written(tmp_path, ["{}"] * 4, limit_bytes=3)
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_half_a_character_is_logged_as_json_writes_it(tmp_path: Path) -> None:
    (path,) = written(tmp_path, ['{"text": "\ud83d"}'])
    assert json.loads(path.read_bytes()) == {"text": "\ud83d"}


LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30), max_size=40)


@given(batches=st.lists(LINES, max_size=4), limit=st.integers(1, 200), count=st.integers(1, 5))
@hypothesis_settings(max_examples=100, deadline=None)
def test_what_is_left_is_the_end_of_what_was_logged_in_files_of_the_size_and_number(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]], limit: int, count: int
) -> None:
    home = tmp_path_factory.mktemp("log")
    batches = [[json.dumps({"t": text}, ensure_ascii=False) for text in lines] for lines in batches]
    for lines in batches:  # opened anew for each, as when a run is taken up again
        log = RunLog(home, "run", limit_bytes=limit, file_count=count)
        log.append(lines)
        log.close()
    paths = RunLog.paths(home, "run")
    logged, left = [line for lines in batches for line in lines], contents_of(paths)
    assert len(paths) <= count
    assert logged[len(logged) - sum(map(len, left)) :] == [line for lines in left for line in lines]
    for path, lines in zip(paths, left, strict=True):
        assert path.stat().st_size <= limit or len(lines) <= 1
    if sum(map(len, left)) < len(logged):
        assert json.loads(paths[-1].read_bytes().splitlines()[0])["type"] == "log"


def contents_of(paths: list[Path]) -> list[list[str]]:
    """The logged lines by file; only the line feed ends one."""
    files = [path.read_text(encoding="utf-8").split("\n")[:-1] for path in paths]
    return [[line for line in lines if '"type": "log"' not in line] for lines in files]
