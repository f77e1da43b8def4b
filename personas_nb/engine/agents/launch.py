"""One run of the Claude CLI: its folder, its environment, and the end of everything that it started.

- The folder is private and goes at the end. It holds the CLI's HOME and TMPDIR, so that transcripts and what its
  tools leave behind never reach the person's folders.
- The CLI is started by ``launcher``, a program of its own that dies with this process and takes all along. The SDK
  starts it through a shim in the folder, because it takes one path and no arguments.
- A pid is signalled only when its process is seen to be the launcher of that folder: pids are used again.
- The launcher may be killed itself (the kernel does that when memory is short). What the CLI had started is then
  found by its environment, which names the folder (Linux).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count, pairwise
from pathlib import Path
from typing import Self

from personas_nb.engine.agents import launcher
from personas_nb.errors import ModelError

LAUNCHER = Path(launcher.__file__)
NAME = os.fsencode(os.sep + LAUNCHER.name)
SHIM = "claude"
PLACEHOLDER_KEY = "the-key-stays-in-the-gateway"
OLDEST_VERSION = "2.0.0"  # where claude-agent-sdk does not say
END_SECONDS = 2.0  # the launcher needs a tenth of that, also on a busy machine
KILL_SECONDS = 0.5
PROBE_SECONDS = 10.0
PROBE_LIMIT_BYTES = 64 * 1024
INSTALL = 'Install it: pip install "personas-nb[claude]"'
OTHER_CLI = "Correct the setting cli_path, or remove it to use the CLI that claude-agent-sdk brings."

log = logging.getLogger("personas_nb.launch")
_versions: dict[tuple[Path, int, int], str] = {}


class Launch:
    """What one run of the CLI needs, and its end; a context manager.

    ``folder`` is made (0700). ``path`` is what the SDK takes as ``cli_path``; ``version`` is what it answers to
    ``--version``. The CLI runs in ``cwd`` with exactly ``env``. One CLI at a time, as a child of this process.
    Every method blocks, ``kill`` for at most about three seconds. Raises ``ModelError`` (``cli``) where programs may
    not be started from ``folder``.

        with Launch(folder, cli=cli, version=version, env=env, cwd=workspace) as launch:
            options = ClaudeAgentOptions(cli_path=launch.path)
    """

    def __init__(
        self, folder: Path, *, cli: Path | Sequence[str], version: str, env: Mapping[str, str], cwd: Path
    ) -> None:
        self.folder = folder.absolute()
        self.path = self.folder / SHIM
        self.command = [sys.executable, "-I", "-S", str(LAUNCHER), str(self.folder)]
        settings = {
            "cli": str(cli) if isinstance(cli, Path) else list(cli),
            "env": dict(env),
            "cwd": str(cwd),
            "version": version,
            "parent_pid": os.getpid(),
        }
        for private in (self.folder, _home(self.folder), _tmp(self.folder)):
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        try:
            _write(self.folder / launcher.SETTINGS_FILE, json.dumps(settings), 0o600)
            # An interrupt before the launcher runs would end it: what is ignored stays so through exec.
            command = shlex.join(["/usr/bin/env", "-i", *self.command])
            _write(self.path, f"#!/bin/sh\ntrap '' INT HUP\nexec {command} \"$@\"\n", 0o700)
            _check_executable(self.path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def forget_environment(self) -> None:
        """Take what the CLI was given off the disk; once it runs, nothing reads it again."""
        (self.folder / launcher.SETTINGS_FILE).unlink(missing_ok=True)

    @property
    def has_ended(self) -> bool:
        """Whether the CLI ran and is over, with all that it started."""
        return (self.folder / launcher.ENDED_FILE).exists()

    def kill(self) -> None:
        """End the CLI and everything that it started; afterwards the shim starts nothing. May be called again."""
        _end(self.folder)

    def close(self) -> None:
        """``kill``, and remove the folder. What cannot be removed is left to ``sweep``, and logged."""
        self.kill()
        _remove_or_log(self.folder)


def cli_environment(
    *, base_url: str, folder: Path, as_user: bool = False, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The CLI's whole environment, built from nothing: only the time zone comes from this process.

    ``folder`` is the run's: HOME, CLAUDE_CONFIG_DIR and TMPDIR are in it. The key is a placeholder; ``base_url`` is
    that of the model gateway. ``as_user`` gives the CLI the person's own HOME and no key, so that it uses their
    login. ``extra`` comes last and wins.

    >>> env = cli_environment(base_url="http://127.0.0.1:4711", folder=Path("/runs/1"))
    >>> env["HOME"], env["ANTHROPIC_API_KEY"]
    ('/runs/1/home', 'the-key-stays-in-the-gateway')
    """
    loopback, tmp = "localhost,127.0.0.1,::1", str(_tmp(folder.absolute()))
    env = {
        "PATH": _system_path(),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": tmp,
        "CLAUDE_CODE_TMPDIR": tmp,  # it would write below /tmp otherwise
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        "ANTHROPIC_BASE_URL": base_url,
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        # what the SDK sets, and the launcher does not pass on
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
    }
    if zone := os.environ.get("TZ"):
        env["TZ"] = zone
    if os.getuid() == 0:
        env["IS_SANDBOX"] = "1"  # else it refuses to work without asking
    return env | (_login_of_user() if as_user else _login_of_run(folder.absolute())) | dict(extra or {})


def find_cli(cli_path: str | None) -> tuple[Path, str]:
    """The Claude CLI and its version: the one at ``cli_path``, else the one that claude-agent-sdk brings.

    Runs ``--version``, once per path, mtime and size; blocks for at most about ten seconds. Raises ``ModelError``:
    ``cli_not_found`` when it is missing or may not be executed, ``cli`` when it crashes, hangs or is too old.
    """
    if os.name != "posix":
        raise ModelError(
            "The claude engine needs Linux or macOS.",
            kind="cli",
            hint="Set `engine: direct` in the persona's model_profile.",
        )
    bundled = _bundled_cli()
    cli = bundled if cli_path is None else Path(shutil.which(_expanded(cli_path)) or _expanded(cli_path))
    cli = cli.absolute()
    hint = (
        OTHER_CLI
        if cli_path is not None
        else "Install it again, or set cli_path to a Claude CLI of your own."
    )
    if not cli.is_file():
        raise ModelError(f"There is no Claude CLI at {cli}.", kind="cli_not_found", hint=hint)
    if not os.access(cli, os.X_OK):
        raise ModelError(
            f"The Claude CLI at {cli} may not be executed.",
            kind="cli_not_found",
            hint=f"Allow it: chmod +x {shlex.quote(str(cli))}",
        )
    status = cli.stat()
    key = (cli, status.st_mtime_ns, status.st_size)
    if key not in _versions:
        version = _ask_version(cli, hint)
        oldest = OLDEST_VERSION if cli == bundled else _oldest_version()
        if _numbers(version) < _numbers(oldest):
            raise ModelError(
                f"The Claude CLI at {cli} is version {version}; {oldest} is the oldest that works.",
                kind="cli",
                hint="Update it, or remove the setting cli_path.",
            )
        _versions[key] = version
    return cli, _versions[key]


def sweep(parent: Path, is_alive: Callable[[str], bool]) -> list[str]:
    """Remove the folders ``<parent>/<worker id>/<execution id>`` of workers that no longer live.

    What still runs in one of them is killed first. Returns the ids of the executions whose folders went.
    """
    removed = []
    for worker in _folders_in(parent):
        if is_alive(worker.name):
            continue
        for folder in _folders_in(worker):
            _end(folder)
            if _remove_or_log(folder):
                removed.append(folder.name)
        with suppress(OSError):  # something else is in it
            worker.rmdir()
    return removed


def sweep_dead(parent: Path) -> list[str]:
    """``sweep``, where the locks of the workers of a home say who lives; ``parent`` is a folder of the home."""
    from personas_nb.worker import is_alive

    return sweep(parent, lambda worker_id: is_alive(parent.parent / "locks" / f"{worker_id}.lock"))


def remove_tree(folder: Path) -> None:
    """Remove a folder however deep and large it is; a symlink in it is removed, never followed.

    Folders inside folders are moved up before they are emptied: no path grows too long, no recursion too deep, and
    two files are open at a time. Raises ``OSError`` for what cannot be removed.
    """
    moved, numbers = os.urandom(8).hex(), count()
    with _opened(folder) as top:
        while names := _names(top):
            for name in names:
                if not _is_folder(name, top):
                    os.unlink(name, dir_fd=top)
                    continue
                with _opened(name, top) as inner:
                    for child in _names(inner):
                        if _is_folder(child, inner):
                            os.rename(child, f"{moved}-{next(numbers)}", src_dir_fd=inner, dst_dir_fd=top)
                        else:
                            os.unlink(child, dir_fd=inner)
                os.rmdir(name, dir_fd=top)
    folder.rmdir()


def _names(folder: int) -> list[str]:
    return os.listdir(folder)


@contextmanager
def _opened(name: str | Path, within: int | None = None) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_folder(name: str, within: int) -> bool:
    """Whether it is a folder; if so, it may be read, emptied and moved afterwards."""
    mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
        os.chmod(name, 0o700, dir_fd=within)
    return stat.S_ISDIR(mode)


def _remove_or_log(folder: Path) -> bool:
    problem: OSError | None = None
    for _ in range(3):  # something that was just killed may have been writing
        try:
            remove_tree(folder)
        except FileNotFoundError as error:
            problem = error
            if not folder.exists():
                return True
        except OSError as error:
            problem = error
        else:
            return True
    log.warning("%s could not be removed: %s", folder, problem)
    return False


def _folders_in(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file that never is readable to others, also not while it is written."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def _check_executable(path: Path) -> None:
    if not os.access(path, os.X_OK):
        raise ModelError(
            f"Programs may not be started from {path.parent}.",
            kind="cli",
            hint="Its file system is mounted noexec: set PERSONAS_HOME to a folder on another one.",
        )


# --- the end of a run ---------------------------------------------------------------------------------------------


def _end(folder: Path) -> None:
    # Without its settings a launcher that is only starting gives up; one that has read them has written its pid.
    (folder / launcher.SETTINGS_FILE).unlink(missing_ok=True)
    try:
        pid = int((folder / launcher.PID_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return  # it never ran, or has ended as it should
    if _signal(pid, folder, signal.SIGTERM):
        _signal(pid, folder, signal.SIGCONT)  # it may have been stopped
        if not _is_soon(lambda: not _is_launcher(pid, folder), END_SECONDS):
            # Below a living subreaper everything that is still to be killed can be found.
            _is_soon(lambda: not _killed(launcher.descendants(pid)), KILL_SECONDS)
            _signal(pid, folder, signal.SIGKILL)
            _is_soon(lambda: not _is_launcher(pid, folder), KILL_SECONDS)
    if (folder / launcher.PID_FILE).exists():
        _is_soon(lambda: not _killed(_strays(folder)), KILL_SECONDS)


def _is_soon(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _killed(pids: list[int]) -> list[int]:
    for pid in pids:
        launcher.kill(pid)
    return pids


def _signal(pid: int, folder: Path, number: signal.Signals) -> bool:
    """Send a signal to the launcher of a folder; False when the pid is not, or no longer, that process."""
    try:
        if sys.platform != "linux":
            is_it = _is_launcher(pid, folder)
            if is_it:
                os.kill(pid, number)
            return is_it
        process = os.pidfd_open(pid)
        try:
            is_it = _is_launcher(pid, folder)
            if is_it:  # the descriptor is of that process, whoever has its pid now
                signal.pidfd_send_signal(process, number)
            return is_it
        finally:
            os.close(process)
    except ProcessLookupError:
        return False


def _is_launcher(pid: int, folder: Path) -> bool:
    """Whether a process is the launcher of this folder, and no zombie."""
    if launcher.IS_LINUX:
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        # by another name of the folder, perhaps, and the launcher of another installation
        here = os.fsencode(os.path.realpath(folder))
        pairs = pairwise(arguments)
        return any(program.endswith(NAME) and os.path.realpath(given) == here for program, given in pairs)
    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    line = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603 - a fixed command
    return b"%b %b" % (NAME, os.fsencode(folder)) in line


def _strays(folder: Path) -> list[int]:
    """Processes whose environment says that they were started in this run."""
    inside = tuple(
        b"\0%b=%b/" % (name, os.fsencode(folder)) for name in (b"HOME", b"TMPDIR", b"CLAUDE_CONFIG_DIR")
    )
    found = []
    for process in Path("/proc").glob("[0-9]*") if launcher.IS_LINUX else ():
        with suppress(OSError):  # it has ended, or is somebody else's
            environment = b"\0" + (process / "environ").read_bytes()
            if any(entry in environment for entry in inside) and process.name != str(os.getpid()):
                found.append(int(process.name))
    return found


# --- the environment ----------------------------------------------------------------------------------------------


def _home(folder: Path) -> Path:
    return folder / "home"


def _tmp(folder: Path) -> Path:
    return folder / "tmp"


def _system_path() -> str:
    folders = ["/usr/local/bin", "/opt/homebrew/bin", *os.defpath.split(os.pathsep), "/usr/sbin", "/sbin"]
    return os.pathsep.join(
        name for name in folders if name != "/opt/homebrew/bin" or sys.platform == "darwin"
    )


def _login_of_run(folder: Path) -> dict[str, str]:
    home = _home(folder)
    return {
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_API_KEY": PLACEHOLDER_KEY,
    }


def _login_of_user() -> dict[str, str]:
    names = ("CLAUDE_CONFIG_DIR", "USER", "LOGNAME")  # the macOS keychain asks who it is
    return {"HOME": str(Path.home())} | {name: os.environ[name] for name in names if os.environ.get(name)}


# --- the CLI ------------------------------------------------------------------------------------------------------


def _expanded(cli_path: str) -> str:
    return os.path.expanduser(cli_path)  # noqa: PTH111 - a Path would drop the “./” that says: not from PATH


def _bundled_cli() -> Path:
    spec = find_spec("claude_agent_sdk")  # importing it takes more than a second
    if spec is None or spec.origin is None:
        raise ModelError("The Claude engine is not installed.", kind="cli_not_found", hint=f"{INSTALL}.")
    return Path(spec.origin).parent / "_bundled" / "claude"


def _oldest_version() -> str:
    with suppress(ImportError):  # it is not public, and may move
        from claude_agent_sdk._internal.transport.subprocess_cli import MINIMUM_CLAUDE_CODE_VERSION

        return MINIMUM_CLAUDE_CODE_VERSION
    return OLDEST_VERSION


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _ask_version(cli: Path, hint: str) -> str:
    with tempfile.TemporaryDirectory(prefix="personas-") as outside:
        folder = Path(outside) / "probe"
        env = cli_environment(base_url="http://127.0.0.1:9", folder=folder)
        with Launch(folder, cli=[str(cli), "--version"], version="", env=env, cwd=folder) as launch:
            said, code = _answer(launch)
    line = " ".join(said.split())[:200]
    if code is None:
        problem = f"did not say its version within {PROBE_SECONDS:g} s."
    elif code != 0:
        problem = f"ended with exit code {code} when asked for its version{f': {line}' if line else '.'}"
    elif found := re.search(r"^\d{1,9}\.\d{1,9}\.\d{1,9}", said, re.MULTILINE):
        return found.group()
    else:
        problem = f"said no version when asked for it{f': {line}' if line else '.'}"
    raise ModelError(f"The Claude CLI at {cli} {problem}", kind="cli", hint=hint)


def _answer(launch: Launch) -> tuple[str, int | None]:
    """What a CLI says and its exit code, which is None when it did not end in time."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        launch.kill()

    timer = threading.Timer(PROBE_SECONDS, end)
    timer.start()
    try:
        with subprocess.Popen(  # noqa: S603 - the CLI that the person chose
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={},
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            said = process.stdout.read(PROBE_LIMIT_BYTES).decode(errors="replace")
    finally:
        timer.cancel()
    return said, None if is_late.is_set() else process.returncode
