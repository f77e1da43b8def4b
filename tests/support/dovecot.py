"""A real Dovecot on loopback, with TLS and a mailbox of its own.

It is started by root alone: its processes change to the users that Debian's package made for them. Mails belong to
``nobody``, in a folder that he can reach, which pytest's own folders are not.
"""

from __future__ import annotations

import imaplib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from support.parts import missing
from support.ports import free_ports
from support.tls import Certificate

USER = "ann@example.com"
PASSWORD = "app-password-0123"

_CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate.chain}
ssl_key = <{certificate.key}
disable_plaintext_auth = no
auth_mechanisms = plain login
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{folder}/mail/%u
namespace inbox {{
  inbox = yes
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
"""


class Dovecot(NamedTuple):
    """``tls_port`` speaks TLS at once, ``plain_port`` after STARTTLS."""

    tls_port: int
    plain_port: int

    def deliver(self, mail: EmailMessage | bytes, *, flags: str = "", date: str | None = None) -> str:
        """Put a mail into the inbox; its UID."""
        raw = mail if isinstance(mail, bytes) else mail.as_bytes()
        with self.client() as client:
            _, said = client.append("INBOX", flags, date or imaplib.Time2Internaldate(time.time()), raw)
            return said[0].decode().partition("APPENDUID ")[2].split()[1].rstrip("]")

    def flags(self, uid: str) -> str:
        """The flags of a mail, as the server says them."""
        with self.client() as client:
            client.select("INBOX", readonly=True)
            return str(client.uid("FETCH", uid, "(FLAGS)")[1][0])

    def empty(self) -> None:
        """Remove every mail."""
        with self.client() as client:
            _, said = client.select("INBOX")
            if said != [b"0"]:
                client.store("1:*", "+FLAGS", r"(\Deleted)")
                client.expunge()

    @contextmanager
    def client(self) -> Iterator[imaplib.IMAP4]:
        """A connection of the test's own, logged in."""
        with imaplib.IMAP4("127.0.0.1", self.plain_port, timeout=20) as client:
            client.login(USER, PASSWORD)
            yield client


@contextmanager
def dovecot(certificate: Certificate) -> Iterator[Dovecot]:
    """A running server; skips the test, with the reason, where there cannot be one."""
    program = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin")
    if program is None:
        missing("Dovecot is not installed: apt-get install dovecot-imapd")
    if os.getuid() != 0:
        missing("Dovecot is started by root alone")
    folder = Path(tempfile.mkdtemp(prefix="personas-dovecot-", dir="/tmp"))
    folder.chmod(0o755)
    mails = folder / "mail"
    mails.mkdir()
    shutil.chown(mails, "nobody", "nogroup")
    server = Dovecot(*free_ports(2))
    config = folder / "dovecot.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            certificate=certificate,
            password=PASSWORD,
            tls_port=server.tls_port,
            plain_port=server.plain_port,
        )
    )
    process = subprocess.Popen([program, "-F", "-c", str(config)], start_new_session=True)
    try:
        _wait(server, process, folder)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Dovecot, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 20
    log = folder / "dovecot.log"
    while not _answers(server):
        said = log.read_text() if log.exists() else ""
        assert process.poll() is None, f"Dovecot has ended: {said}"
        assert time.monotonic() < deadline, f"Dovecot is not up: {said}"
        time.sleep(0.05)


def _answers(server: Dovecot) -> bool:
    try:
        with server.client():
            return True
    except (OSError, imaplib.IMAP4.error):
        return False
