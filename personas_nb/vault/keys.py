"""Where the encryption key comes from: the OS keyring, else a file that only its owner can read.

- Looked for in this order: the keyring's active key, the file's active key, a new key in the keyring, a new key
  in the file. If none can be had, nothing is sealed or opened.
- The keyring is asked in a daemon thread with a time limit: a locked one waits for a person who may not be there.
- In the keyring each key is an entry of its own and only the entry ``active`` is ever written twice, so that a
  late answer of an abandoned thread cannot overwrite a key.
- The file is ``{"active": id, "keys": {id: base64}}``, complete from the moment it has its name. It lies apart
  from the personas home, so that a copied or committed home does not bring its key along.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personas_nb.errors import KeyUnavailable, SettingsError

KEY_BYTES = 32
ACTIVE = "active"
# After a keyring failed to answer, how long it is left alone: each try may cost the time limit and a thread.
KEYRING_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Key:
    """An AES-256 key and its id; its bytes are never printed."""

    id: str
    secret: bytes = field(repr=False)


class KeyRing:
    """The keys of this user. ``active`` is for sealing, ``get`` for opening what any key has sealed.

    ``key_file`` is ``PERSONAS_KEY_FILE`` when not given, else a file in the user's configuration folder.
    ``use_keyring=False``, or ``PERSONAS_KEYRING=off``, leaves the OS keyring alone. ``timeout_seconds`` is how
    long one answer of the keyring is waited for. Nothing is read before the first key is asked for.
    """

    def __init__(
        self,
        service: str = "personas_nb",
        key_file: Path | None = None,
        use_keyring: bool = True,
        timeout_seconds: float = 3.0,
    ) -> None:
        self._file = _KeyFile(key_file or _default_key_file(os.environ))
        wanted = use_keyring and _keyring_is_on(os.environ)
        self._keyring = _OsKeyring(service, timeout_seconds) if wanted else None
        self._lock_seconds = 10 * timeout_seconds
        self._lock = threading.RLock()
        self._known: dict[str, Key] = {}
        self._active_id: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._file.path)!r}, use_keyring={self._keyring is not None})"

    def active(self) -> Key:
        """The key to seal with; the first call of a user makes it. Raises KeyUnavailable."""
        with self._lock:
            if self._active_id is None:
                key = self._find_active()
                self._known[key.id] = key
                self._active_id = key.id
            return self._known[self._active_id]

    def where(self) -> str:
        """Where the key is looked for, in words; nothing is read and no key is made."""
        places = [*(["the system keyring"] if self._keyring else []), f"the file {self._file.path}"]
        return "a key in " + ", else in ".join(places)

    def get(self, key_id: str) -> Key:
        """The key of that id, for opening. Raises KeyUnavailable when it is nowhere to be had."""
        with self._lock:
            if key_id not in self._known:
                self._known[key_id] = self._find(key_id)
            return self._known[key_id]

    def _find_active(self) -> Key:
        why_no_keyring = "is switched off"
        if self._keyring is not None:
            try:
                return self._keyring.active() or self._file_active() or self._create_in_keyring(self._keyring)
            except _Damaged as problem:
                remedy = (
                    f"Remove the entries of {self._keyring.service} from it and add the credentials again."
                )
                raise KeyUnavailable(f"The OS keyring {problem}.", hint=remedy) from None
            except _Unusable as problem:
                why_no_keyring = str(problem)
        try:
            return self._file.active() or self._file.create()
        except _Unusable as problem:
            raise KeyUnavailable(
                f"There is no encryption key: the OS keyring {why_no_keyring}, and the key file "
                f"{self._file.path} {problem}.",
                hint=problem.remedy,
            ) from None

    def _file_active(self) -> Key | None:
        try:
            return self._file.active()
        except _Unusable as problem:
            raise KeyUnavailable(f"The key file {self._file.path} {problem}.", hint=problem.remedy) from None

    def _create_in_keyring(self, keyring: _OsKeyring) -> Key:
        """A new key there, or the one that another process has just put there."""
        import filelock

        lock_path = self._file.path.with_name(self._file.path.name + ".lock")
        try:
            lock_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with filelock.FileLock(lock_path, timeout=self._lock_seconds):
                return keyring.active() or self._file_active() or keyring.create()
        except (OSError, filelock.Timeout):
            raise _Unusable(f"holds no key, and {lock_path} cannot be locked to make one") from None

    def _find(self, key_id: str) -> Key:
        reasons = []
        for place, keys in (
            ("the OS keyring", self._keyring),
            (f"the key file {self._file.path}", self._file),
        ):
            if keys is None:
                reasons.append(f"{place} is switched off")
                continue
            try:
                if key := keys.get(key_id):
                    return key
                reasons.append(f"{place} does not hold it")
            except _Unusable as problem:
                reasons.append(f"{place} {problem}")
        raise KeyUnavailable(
            f"The key “{key_id}” is not to be had: {' and '.join(reasons)}.",
            hint="Unlock the keyring or bring the key file back, or add the credentials again.",
        )


class _Unusable(Exception):
    """A place for keys cannot be used; the text continues a sentence about it."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy or "Unlock the keyring, or name a file that can be written in PERSONAS_KEY_FILE."


class _Damaged(_Unusable):
    """It answers, and what it holds is no key: nothing else may quietly take its place."""


class _OsKeyring:
    def __init__(self, service: str, timeout_seconds: float) -> None:
        self.service = service
        self._timeout_seconds = timeout_seconds
        self._paused_until = 0.0
        self._pause_reason = ""

    def active(self) -> Key | None:
        key_id = self._read(ACTIVE)
        if key_id is None:
            return None
        key = self.get(key_id)
        if key is None:
            raise _Damaged(f"names “{key_id}” as active and does not hold it")
        return key

    def get(self, key_id: str) -> Key | None:
        text = self._read(f"key {key_id}")
        return None if text is None else _decoded(key_id, text)

    def create(self) -> Key:
        key = _new_key()
        self._write(f"key {key.id}", _encoded(key))
        self._write(ACTIVE, key.id)
        return key

    def _write(self, user: str, text: str) -> None:
        self._ask(lambda backend: backend.set_password(self.service, user, text))
        if self._read(user) != text:  # some backends take a password and keep nothing
            raise _Unusable("does not keep what it is given")

    def _read(self, user: str) -> str | None:
        answer = self._ask(lambda backend: backend.get_password(self.service, user))
        return answer if isinstance(answer, str) and answer else None

    def _ask(self, question: Callable[[Any], object]) -> object:
        if time.monotonic() < self._paused_until:
            raise _Unusable(self._pause_reason)
        import keyring

        answers: list[object] = []
        problems: list[str] = []

        def ask() -> None:
            try:
                backend = keyring.get_keyring()
                # Below 1 are those that keep nothing, keep it in the clear, or ask at the terminal.
                if backend.priority < 1:
                    problems.append("is absent")
                else:
                    answers.append(question(backend))
            except Exception as problem:  # backends raise what their system's libraries raise
                problems.append(f"cannot be used ({type(problem).__name__})")

        thread = threading.Thread(target=ask, name="personas-keyring", daemon=True)
        thread.start()
        thread.join(self._timeout_seconds)
        if answers:
            return answers[0]
        self._pause_reason = problems[0] if problems else f"did not answer within {self._timeout_seconds:g} s"
        self._paused_until = time.monotonic() + KEYRING_PAUSE_SECONDS
        raise _Unusable(self._pause_reason)


class _KeyFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def active(self) -> Key | None:
        active_id, keys = self._read()
        return keys[active_id] if keys else None

    def get(self, key_id: str) -> Key | None:
        return self._read()[1].get(key_id)

    def create(self) -> Key:
        """Makes the file with a new key; when another process was first, its key."""
        key = _new_key()
        text = json.dumps({ACTIVE: key.id, "keys": {key.id: _encoded(key)}}) + "\n"
        draft = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _write_privately(draft, text)
                with contextlib.suppress(FileExistsError):
                    os.link(draft, self.path)  # complete or not at all, and never over another's
            finally:
                draft.unlink(missing_ok=True)
        except OSError as problem:
            raise _Unusable(f"cannot be made ({problem.strerror or type(problem).__name__})") from None
        made = self.active()
        if made is None:
            raise _Unusable("was removed while it was made")
        return made

    def _read(self) -> tuple[str, dict[str, Key]]:
        text = self._text()
        if text is None:
            return "", {}
        try:
            document = json.loads(text)
            active_id = document[ACTIVE]
            keys = {key_id: _decoded(key_id, encoded) for key_id, encoded in document["keys"].items()}
            keys[active_id]
        except (ValueError, KeyError, TypeError, AttributeError, _Unusable):
            keys = {}
        if not keys:  # raised here because the caught error carries the file's text
            raise _Unusable(
                "is damaged", "Bring it back from a backup; or remove it and add the credentials again."
            )
        return active_id, keys

    def _text(self) -> bytes | None:
        # O_NONBLOCK: a named pipe would wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise _Unusable(f"cannot be read ({problem.strerror or type(problem).__name__})") from None
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise _Unusable("is no regular file")
            if os.name == "posix" and mode & 0o077:
                raise _Unusable(
                    f"may be used by others (mode {stat.S_IMODE(mode):o})", f"Run: chmod 600 {self.path}"
                )
            return file.read()


def _default_key_file(environ: Mapping[str, str]) -> Path:
    if chosen := environ.get("PERSONAS_KEY_FILE"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    # A name of its own: on macOS and Windows the configuration folder of "personas_nb" is the default home.
    return platformdirs.user_config_path("personas_nb-keys", appauthor=False) / "keys.json"


def _keyring_is_on(environ: Mapping[str, str]) -> bool:
    value = environ.get("PERSONAS_KEYRING", "").strip().lower()
    if value not in ("", "on", "off"):
        raise SettingsError(
            "PERSONAS_KEYRING must be on or off.", hint="Correct it, or unset it: then it is on."
        )
    return value != "off"


def _new_key() -> Key:
    return Key(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES))


def _encoded(key: Key) -> str:
    return base64.b64encode(key.secret).decode("ascii")


def _decoded(key_id: str, text: str) -> Key:
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != KEY_BYTES:
        raise _Damaged(f"holds a damaged key “{key_id}”")
    return Key(key_id, secret)


def _write_privately(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
