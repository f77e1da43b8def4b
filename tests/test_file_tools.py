"""What file_read and file_write do inside a workspace, and what keeps them in there."""

import os
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas_nb.errors import TooLarge, ToolDenied, ToolError
from personas_nb.tools import files
from personas_nb.tools.files import LISTED_ENTRIES, file_read, file_write

LIMIT = 1000
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs symlinks and FIFOs")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs" / "Data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.txt").write_text("not for personas")
    return folder


def read(workspace: Path, path: str) -> str:
    return file_read(workspace, path, limit_bytes=LIMIT)


def write(workspace: Path, path: str, content: str = "new", *, append: bool = False) -> str:
    return file_write(workspace, path, content, append=append, limit_bytes=LIMIT)


def everything_in(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


# Reading


def test_a_file_is_read_as_it_is(workspace: Path) -> None:
    assert read(workspace, "inputs/Data.csv") == "a,b\n1,2\n"


def test_a_folder_gives_its_listing(workspace: Path) -> None:
    (workspace / "inputs" / "old").mkdir()
    assert read(workspace, "inputs") == "Data.csv (8 bytes)\nold/"
    assert read(workspace, ".") == read(workspace, "") == "inputs/"


def test_an_empty_or_absent_workspace_says_so(tmp_path: Path) -> None:
    assert read(tmp_path / "absent", ".") == "The workspace is empty."
    with pytest.raises(ToolError, match=r"no file “a.txt”. The workspace is empty."):
        read(tmp_path / "absent", "a.txt")


def test_a_long_listing_ends_with_how_many_more_there_are(tmp_path: Path) -> None:
    for number in range(LISTED_ENTRIES + 3):
        (tmp_path / f"{number:04}").touch()
    lines = read(tmp_path, ".").splitlines()
    assert (len(lines), lines[-1]) == (LISTED_ENTRIES + 1, "… and 3 more")


@pytest.mark.parametrize("asked", ["inputs/data.csv", "Data.csv", "inputs/Dato.csv"])
def test_a_missing_file_is_answered_with_the_nearest_one(workspace: Path, asked: str) -> None:
    with pytest.raises(ToolError) as caught:
        read(workspace, asked)
    assert str(caught.value) == f"There is no file “{asked}”. Did you mean “inputs/Data.csv”?"


def test_a_missing_file_like_no_other_is_answered_with_what_there_is(workspace: Path) -> None:
    with pytest.raises(ToolError, match=r"The workspace has inputs/Data\.csv\."):
        read(workspace, "zzz")


def test_bytes_that_are_not_utf8_are_replaced_and_it_is_said(workspace: Path) -> None:
    (workspace / "latin.txt").write_bytes("Käse".encode("latin-1"))
    first, second = read(workspace, "latin.txt").split("\n")
    assert "not UTF-8" in first
    assert second == "K�se"


def test_a_file_of_exactly_the_limit_is_read_and_one_byte_more_is_refused(workspace: Path) -> None:
    (workspace / "fits").write_bytes(b"x" * LIMIT)
    (workspace / "over").write_bytes(b"x" * (LIMIT + 1))
    assert len(read(workspace, "fits")) == LIMIT
    with pytest.raises(TooLarge, match="“over” is over the limit of 1,000 bytes"):
        read(workspace, "over")


# Writing


def test_folders_are_made_on_the_way(workspace: Path) -> None:
    assert write(workspace, "a/b/c.txt", "Käse") == "Wrote 5 bytes to a/b/c.txt."
    assert (workspace / "a/b/c.txt").read_text("utf-8") == "Käse"


def test_the_workspace_itself_is_made(tmp_path: Path) -> None:
    write(tmp_path / "new" / "workspace", "x.txt")
    assert (tmp_path / "new/workspace/x.txt").read_text() == "new"


def test_replacing_leaves_no_other_file_and_keeps_the_mode(workspace: Path) -> None:
    target = workspace / "inputs" / "Data.csv"
    target.chmod(0o640)
    write(workspace, "inputs/Data.csv")
    assert everything_in(workspace) == {"inputs/Data.csv": "new"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_failed_replacement_leaves_the_old_file_alone(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match=r"“inputs/Data\.csv” cannot be used: No space left on device"):
        write(workspace, "inputs/Data.csv")
    assert everything_in(workspace) == {"inputs/Data.csv": "a,b\n1,2\n"}


def test_append_adds_to_the_end_and_begins_a_file(workspace: Path) -> None:
    assert write(workspace, "log.txt", "one\n", append=True) == "Added 4 bytes to log.txt."
    write(workspace, "log.txt", "two\n", append=True)
    assert read(workspace, "log.txt") == "one\ntwo\n"


def test_appends_of_several_threads_are_all_kept(workspace: Path) -> None:
    threads = [
        threading.Thread(target=write, args=(workspace, "log.txt", f"{n}\n"), kwargs={"append": True})
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read(workspace, "log.txt").split(), key=int) == [str(n) for n in range(20)]


def test_what_is_over_the_limit_is_not_written(workspace: Path) -> None:
    write(workspace, "log.txt", "x" * LIMIT)
    with pytest.raises(TooLarge):
        write(workspace, "log.txt", "y", append=True)
    with pytest.raises(TooLarge):
        write(workspace, "folder/other.txt", "é" * (LIMIT // 2 + 1))
    assert read(workspace, "log.txt") == "x" * LIMIT
    assert not (workspace / "folder").exists()


@pytest.mark.parametrize("path", ["", ".", "inputs", "reports/"])
def test_a_folder_is_not_written_over(workspace: Path, path: str) -> None:
    with pytest.raises(ToolError, match="is a folder"):
        write(workspace, path)
    assert list(everything_in(workspace)) == ["inputs/Data.csv"]


def test_a_file_on_the_way_is_no_folder(workspace: Path) -> None:
    with pytest.raises(ToolError, match=r"A part of “inputs/Data\.csv/x” is a file"):
        write(workspace, "inputs/Data.csv/x")


def test_half_a_character_is_refused_before_anything_is_made(workspace: Path) -> None:
    with pytest.raises(ToolError, match="lone surrogate"):
        write(workspace, "new/x.txt", "\ud800")
    assert not (workspace / "new").exists()


# Staying inside


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../secret.txt",
        "inputs/../../secret.txt",
        "C:\\x",
        "\\\\host\\x",
        "..\\secret.txt",
        "a/..",
    ],
)
def test_absolute_paths_and_dots_are_refused(workspace: Path, path: str) -> None:
    with pytest.raises(ToolDenied):
        read(workspace, path)
    with pytest.raises(ToolDenied):
        write(workspace, path)
    assert (workspace.parent / "secret.txt").read_text() == "not for personas"


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000])
def test_what_can_be_no_path_is_a_sentence(workspace: Path, path: str) -> None:
    with pytest.raises(ToolError):
        read(workspace, path)
    with pytest.raises(ToolError):
        write(workspace, path)


@posix_only
@pytest.mark.parametrize("target", ["secret.txt", "", "nowhere.txt"])
def test_a_link_out_is_refused(workspace: Path, target: str) -> None:
    (workspace / "link").symlink_to(workspace.parent / target)
    for path in ("link", "link/secret.txt"):
        with pytest.raises(ToolDenied, match="leads out of the workspace"):
            read(workspace, path)
        with pytest.raises(ToolDenied, match="leads out of the workspace"):
            write(workspace, path)
    assert (workspace.parent / "secret.txt").read_text() == "not for personas"
    assert not (workspace.parent / "nowhere.txt").exists()


@posix_only
def test_a_link_inside_is_followed_and_stays_a_link(workspace: Path) -> None:
    (workspace / "link.csv").symlink_to("inputs/Data.csv")
    (workspace / "folder").symlink_to("inputs")
    assert read(workspace, "link.csv") == read(workspace, "folder/Data.csv")
    write(workspace, "link.csv")
    assert (workspace / "link.csv").is_symlink()
    assert (workspace / "inputs/Data.csv").read_text() == "new"


@posix_only
def test_links_in_a_circle_are_a_sentence(workspace: Path) -> None:
    (workspace / "a").symlink_to("b")
    (workspace / "b").symlink_to("a")
    with pytest.raises(ToolError):
        read(workspace, "a")


@posix_only
def test_a_workspace_that_is_reached_through_a_link_works(workspace: Path) -> None:
    (workspace.parent / "home").symlink_to(workspace)
    assert read(workspace.parent / "home", "inputs/Data.csv") == "a,b\n1,2\n"


@posix_only
def test_a_link_put_there_after_the_check_leads_nowhere(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "Data.csv").write_text("outside")
    checked = files._located

    def then_swapped(*arguments: Path | str) -> tuple[Path, tuple[str, ...]]:
        located = checked(*arguments)  # type: ignore[arg-type]
        if not (workspace / "inputs").is_symlink():
            (workspace / "inputs").rename(workspace / "moved")
            (workspace / "inputs").symlink_to(outside)
        return located

    monkeypatch.setattr(files, "_located", then_swapped)
    with pytest.raises(ToolError):
        write(workspace, "inputs/Data.csv")
    (workspace / "inputs").unlink()
    (workspace / "moved").rename(workspace / "inputs")
    with pytest.raises(ToolError):
        read(workspace, "inputs/Data.csv")
    assert everything_in(outside) == {"Data.csv": "outside"}


@posix_only
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_pipes_and_sockets_are_refused_without_waiting(
    workspace: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)  # the address of a socket may not be long
    if kind == "fifo":
        os.mkfifo("thing")
    else:
        socket.socket(socket.AF_UNIX).bind("thing")
    with pytest.raises(ToolDenied, match="not a file"):
        read(workspace, "thing")
    for append in (False, True):
        with pytest.raises(ToolDenied, match="not a file"):
            write(workspace, "thing", append=append)
    assert read(workspace, ".") == "inputs/\nthing (no regular file)"


@given(path=st.text(st.sampled_from("ab./\\~: \n"), max_size=12) | st.text(max_size=12))
def test_no_path_writes_outside_or_raises_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    parent = tmp_path_factory.mktemp("home")
    (parent / "workspace").mkdir()
    try:
        write(parent / "workspace", path)
    except (ToolError, TooLarge) as error:
        assert len(str(error)) > 10  # noqa: PT017 - either outcome is right
    else:
        assert read(parent / "workspace", path) == "new"
    assert [entry.name for entry in parent.iterdir()] == ["workspace"]


def test_a_long_file_is_read_on_from_an_offset(tmp_path):
    file_write(tmp_path, "long.txt", "0123456789", limit_bytes=1000)
    assert file_read(tmp_path, "long.txt", offset=7, limit_bytes=1000) == "789"


def test_an_offset_behind_the_end_says_how_long_the_file_is(tmp_path):
    file_write(tmp_path, "short.txt", "abc", limit_bytes=1000)
    with pytest.raises(ToolError, match="has 3 characters"):
        file_read(tmp_path, "short.txt", offset=3, limit_bytes=1000)
