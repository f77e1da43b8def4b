"""A program that starts the Claude CLI, and whose end is the end of everything that the CLI started.

    env -i python -I -S launcher.py RUN_FOLDER ARGS…

``RUN_FOLDER/launch.json`` has ``cli`` (a path, or a list of arguments), ``env``, ``cwd``, ``version`` and
``parent_pid``. ARGS go to the CLI, and so do stdin, stdout and stderr. It stands alone: standard library only.

- It leaves the session of the process that started it and ignores SIGINT: an interrupted Jupyter kernel sends that
  to its whole process group.
- It is a *child subreaper*: a daemon, or a child in a session of its own, whose parent ends becomes its child and
  cannot get away. When it has no child left, nothing is left.
- It ends when the CLI ends, when it gets SIGTERM, or when ``parent_pid`` ends; first it kills every descendant.
- The kernel kills the CLI when this program is itself killed. What the CLI had started then survives it: whoever
  made the run folder looks for that.
- Exit code: the CLI's, 128 + n when signal n ended it, 143 when told to end, 127 when it could not be started.

That is Linux. Other systems have no subreaper and no death signal: there the CLI's descendants and its process group
are killed, as far as ``ps`` still shows them; a daemon that has left both survives, and so does the CLI when this
program is killed with SIGKILL.
"""

# pathlib takes as long to import as all the rest
# ruff: noqa: PTH105, PTH108, PTH118, PTH123, PTH208

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False  # typing takes 3 ms to import
if TYPE_CHECKING:
    from typing import Any, NoReturn

IS_LINUX = sys.platform.startswith("linux")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

CANNOT_START = 127
TOLD_TO_END = 128 + signal.SIGTERM
PARENT_POLL_SECONDS = 0.2  # where no pidfd tells of its end
KILL_SECONDS = 5.0  # a process that runs as somebody else cannot be killed, and must not be waited for

SETTINGS_FILE = "launch.json"
PID_FILE = "launcher.pid"
ENDED_FILE = "launcher.ended"


def main(folder: str, arguments: list[str]) -> int:
    """Run the CLI; the exit code."""
    if arguments in (["-v"], ["--version"]):
        sys.stdout.write(f"{_settings(folder)['version']} (Claude Code)\n")
        return 0
    watch = _Watch()
    _leave_the_session()
    _become_subreaper()
    # The pid first, then the settings: whoever wants this run ended removes the settings, then looks for the pid.
    _write_pid(folder)
    code = _run(_settings(folder), arguments, watch)
    # The pid stays where something may have survived: this program was killed, or could not kill a descendant.
    with suppress(FileNotFoundError):
        os.replace(os.path.join(folder, PID_FILE), os.path.join(folder, ENDED_FILE))
    return code


def _run(settings: dict[str, Any], arguments: list[str], watch: _Watch) -> int:
    watch.begin(settings["parent_pid"])
    if watch.must_end():
        return TOLD_TO_END
    cli = _start(settings, arguments)
    _let_go_of_pipes()
    code: int | None = None
    while code is None and not watch.must_end():
        watch.wait(None)
        code = _reap().get(cli)
    _kill_descendants(watch)
    _remove_socket(cli)
    return TOLD_TO_END if code is None else code


class _Watch:
    """Notices SIGTERM, the end of a child, and the end of the parent."""

    def __init__(self) -> None:
        self.is_told = False
        self._parent_pid: int | None = None
        self._parent_fd: int | None = None
        self._wakeup, wake = os.pipe()
        for end in (self._wakeup, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only has to wake the poll
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the thread that started this had blocked

    def begin(self, parent_pid: int) -> None:
        """Watch the parent. Its pid may be somebody else's by now: ``must_end`` asks whose child this is."""
        self._parent_pid = parent_pid
        if sys.platform == "linux":
            try:
                self._parent_fd = os.pidfd_open(parent_pid)
            except OSError:  # gone, or a kernel or sandbox without pidfd
                self._parent_fd = None

    def must_end(self) -> bool:
        """Whether this program was told to end, or has lost its parent."""
        if self._parent_fd is not None and select.select([self._parent_fd], [], [], 0)[0]:
            return True  # also while it is a zombie
        return self.is_told or os.getppid() != self._parent_pid

    def wait(self, seconds: float | None) -> None:
        """Wait for something to happen; at most so long."""
        fds = [self._wakeup]
        if self._parent_fd is not None:
            fds.append(self._parent_fd)
        elif seconds is None:
            seconds = PARENT_POLL_SECONDS
        select.select(fds, [], [], seconds)
        self.drain()

    def wait_for_a_child(self, seconds: float) -> None:
        """Wait for the end of a child, whatever else happens; at most so long."""
        select.select([self._wakeup], [], [], seconds)
        self.drain()

    def drain(self) -> None:
        """Forget the signals that were seen."""
        with suppress(BlockingIOError):
            while os.read(self._wakeup, 512):
                pass

    def _tell(self, *_: object) -> None:
        self.is_told = True


def _settings(folder: str) -> dict[str, Any]:
    try:
        with open(os.path.join(folder, SETTINGS_FILE), encoding="utf-8") as file:
            settings: dict[str, Any] = json.load(file)
    except (OSError, ValueError) as error:
        _fail(f"there is nothing to run: {error}")
    return settings


def _leave_the_session() -> None:
    with suppress(PermissionError):  # it leads a group of its own already
        os.setsid()


def _become_subreaper() -> None:
    if IS_LINUX and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        _fail(f"cannot become a subreaper: {os.strerror(ctypes.get_errno())}")


def _write_pid(folder: str) -> None:
    path = os.path.join(folder, PID_FILE)
    try:
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        os.replace(f"{path}.new", path)
    except OSError as error:
        _fail(f"cannot write {path}: {error.strerror}")


def _start(settings: dict[str, Any], arguments: list[str]) -> int:
    """The CLI's pid."""
    cli = settings["cli"]
    argv = [*(cli if isinstance(cli, list) else [cli]), *arguments]
    launcher = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for name in ("SIGTERM", "SIGCHLD", "SIGINT", "SIGHUP", "SIGPIPE", "SIGXFSZ"):
            signal.signal(signal.Signals[name], signal.SIG_DFL)  # what is ignored would stay so in the CLI
        if IS_LINUX:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() == launcher:  # else it was killed before it could take this process along
            os.chdir(settings["cwd"])
            os.execve(argv[0], argv, settings["env"])  # noqa: S606 - there is no shell on purpose
    except Exception as error:  # whatever it is, this copy of the program must not go on
        _say(f"cannot start {argv[0]}: {error}")
    finally:
        os._exit(CANNOT_START)


def _let_go_of_pipes() -> None:
    """Hold neither end: whoever reads the CLI's output sees its end when the CLI closes it."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _remove_socket(cli: int) -> None:
    """The CLI's mailbox stays when it is killed. It is not in our folder, whose path is too long for a socket."""
    with suppress(OSError):
        os.unlink(f"/tmp/cc-socks-{os.getuid()}/{cli}.sock")  # noqa: S108 - the CLI's choice


def _reap() -> dict[int, int]:
    """Exit codes by pid of the children that have ended; orphans among them are left to nobody else."""
    codes: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes
        if pid == 0:
            return codes
        code = os.waitstatus_to_exitcode(status)
        codes[pid] = code if code >= 0 else 128 - code


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _kill_descendants(watch: _Watch) -> None:
    """Kill until nothing is left: what is forked meanwhile becomes a child of this process and is met again."""
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline:
        _reap()
        if IS_LINUX and not _has_children():
            return
        found = descendants(os.getpid()) if IS_LINUX else _family()
        if not found and not IS_LINUX:
            return
        for pid in found:
            kill(pid)
        watch.wait_for_a_child(0.01)
    _fail(f"these processes could not be killed: {descendants(os.getpid())}")


def kill(pid: int) -> None:
    """Kill a process, which may be gone, or somebody else's."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def descendants(ancestor: int) -> list[int]:
    """Pids of everything under a process, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in _processes():
        children.setdefault(parent, []).append(pid)
    found = children.get(ancestor, [])
    for pid in found:  # it grows
        found += children.get(pid, [])
    return found


def _family() -> list[int]:
    """The descendants, and whatever else is in the process group."""
    group, own = os.getpgrp(), os.getpid()
    members = [pid for pid, _, its_group in _processes() if its_group == group and pid != own]
    return list({*descendants(own), *members})


def _processes() -> list[tuple[int, int, int]]:
    """Pid, parent and group of every process."""
    return _processes_of_proc() if IS_LINUX else _processes_of_ps()


def _processes_of_proc() -> list[tuple[int, int, int]]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # the command's name may hold spaces and parentheses: what is wanted follows the last one
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        # A zombie too: its main thread may have ended alone.
        found.append((int(name), int(fields[1]), int(fields[2])))
    return found


def _processes_of_ps() -> list[tuple[int, int, int]]:
    import subprocess  # it is slow to import

    command = ["/bin/ps", "-axo", "pid=,ppid=,pgid=,stat="]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as ps:  # noqa: S603
        lines = ps.communicate()[0].split(b"\n")
    rows = [line.split() for line in lines if line.strip()]
    return [
        (int(r[0]), int(r[1]), int(r[2])) for r in rows if int(r[0]) != ps.pid and not r[3].startswith(b"Z")
    ]


def _say(what: str) -> None:
    os.write(2, f"launcher: {what}\n".encode(errors="replace"))


def _fail(what: str) -> NoReturn:
    _say(what)
    raise SystemExit(CANNOT_START)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
