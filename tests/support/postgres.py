"""A real PostgreSQL on loopback, in a folder of its own; it does not run as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.parts import missing

PASSWORD = "admin-password-0123"


class Postgres(NamedTuple):
    """``admin`` is its superuser, with ``PASSWORD``."""

    port: int
    admin: str = "admin"

    def run(self, *statements: str) -> None:
        """Execute statements as the superuser."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=self.admin, password=PASSWORD, dbname="postgres"
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; skips the test, with the reason, where there cannot be one."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(programs[-1]) if programs else shutil.which("initdb")
    if initdb is None:
        missing("PostgreSQL is not installed: apt-get install postgresql")
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="personas-postgres-", dir="/tmp"))
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user, user)
    data = folder / "data"
    command = [initdb, "-D", str(data), "-U", "admin", "-A", "scram-sha-256", "--no-sync"]
    subprocess.run([*command, f"--pwfile={folder / 'password'}"], check=True, capture_output=True, user=user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = Postgres(free.getsockname()[1])
    options = f"-h 127.0.0.1 -p {server.port} -k {folder} -F".split()
    program = str(Path(initdb).with_name("postgres"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", str(data), *options], user=user, stdout=log, stderr=log)
    try:
        _wait(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            return server.run("select 1")
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
