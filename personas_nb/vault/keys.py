"""Where encryption keys are kept: the OS keyring, else a file that only its owner can read.

- Each home has keys of its own; which of them is in use, its database says (``sealing``). Here a key is only
  made, found and forgotten by its id, so that what happens to one home's keys cannot shut another's secrets.
- A new key goes into the keyring, else into the file, and is read back. If it can be kept nowhere, there is none.
- The keyring is asked in a daemon thread with a time limit: a locked one waits for a person who may not be there.
- In the keyring each key is an entry of its own that is written once, so that a late answer of an abandoned
  thread cannot overwrite a key.
- The file is ``{"keys": {id: base64}}``. It is replaced as a whole, under a lock beside it. It lies apart from
  the personas home, so that a copied or committed home does not bring its keys along.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personas_nb.errors import KeyUnavailable, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
# After a keyring failed to answer, how long it is left alone: each try may cost the time limit and a thread.
KEYRING_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Key:
    """An AES-256 key and its id; its bytes are never printed."""

    id: str
    secret: bytes = field(repr=False)

    @cached_property
    def aes(self) -> AESGCM:
        """The cipher with this key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self.secret)


class KeyRing:
    """The keys of this user, each by its id: ``create``, ``get``, ``forget``.

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
        self._file = _KeyFile(key_file or _default_key_file(os.environ), 10 * timeout_seconds)
        wanted = use_keyring and _keyring_is_on(os.environ)
        self._keyring = _OsKeyring(service, timeout_seconds) if wanted else None
        self._lock = threading.RLock()
        self._known: dict[str, Key] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._file.path)!r}, use_keyring={self._keyring is not None})"

    def where(self) -> str:
        """Where keys are looked for, in words; nothing is read and no key is made."""
        places = [*(["the system keyring"] if self._keyring else []), f"the file {self._file.path}"]
        return "a key in " + ", else in ".join(places)

    def create(self, key_id: str | None = None) -> Key:
        """A new key, stored and read back; its id is ``key_id`` or a new one. Raises KeyUnavailable."""
        key = Key(key_id or new_key_id(), secrets.token_bytes(KEY_BYTES))
        with self._lock:
            why_no_keyring = "is switched off"
            if self._keyring is not None:
                try:
                    self._keyring.keep(key)
                    return self._known.setdefault(key.id, key)
                except _Unusable as problem:
                    why_no_keyring = str(problem)
            try:
                self._file.keep(key)
                return self._known.setdefault(key.id, key)
            except _Unusable as problem:
                raise KeyUnavailable(
                    f"There is no encryption key: the OS keyring {why_no_keyring}, and the key file "
                    f"{self._file.path} {problem}.",
                    hint=problem.remedy,
                ) from None

    def get(self, key_id: str) -> Key:
        """The key of that id. Raises KeyUnavailable when it is nowhere to be had."""
        key, why, remedy = self._found(key_id)
        if key is None:
            raise KeyUnavailable(f"The key “{key_id}” is not to be had: {why}.", hint=remedy or _BRING_BACK)
        return key

    def find(self, key_id: str) -> Key | None:
        """The key of that id; None where no place holds it, or the keyring cannot be asked.

        Raises KeyUnavailable where a place is damaged or open to others: nothing else may quietly take the
        place of what is in there.
        """
        key, why, remedy = self._found(key_id)
        if key is None and remedy:
            raise KeyUnavailable(f"The key “{key_id}” is not to be had: {why}.", hint=remedy)
        return key

    def forget(self, key_id: str) -> bool:
        """Delete the key of that id for good; False where a place cannot be asked. A switched-off keyring is none."""
        with self._lock:
            self._known.pop(key_id, None)
            is_sure = True
            for place in (self._keyring, self._file):
                try:
                    if place is not None and place.forget(key_id):
                        return True
                except _Unusable:
                    is_sure = False
            return is_sure

    def _found(self, key_id: str) -> tuple[Key | None, str, str]:
        """The key, or None with the reasons, and the remedy where something is broken that may hold it."""
        with self._lock:
            if key_id in self._known:
                return self._known[key_id], "", ""
            reasons, remedy = [], ""
            for place, keys in (
                ("the OS keyring", self._keyring),
                (f"the key file {self._file.path}", self._file),
            ):
                if keys is None:
                    reasons.append(f"{place} is switched off")
                    continue
                try:
                    if key := keys.get(key_id):
                        return self._known.setdefault(key_id, key), "", ""
                    reasons.append(f"{place} does not hold it")
                except _Unusable as problem:
                    reasons.append(f"{place} {problem}")
                    if problem.is_broken:
                        remedy = remedy or problem.remedy
            return None, " and ".join(reasons), remedy


_BRING_BACK = "Unlock the keyring or bring the key file back, or add the credentials again."


class _Unusable(Exception):
    """A place for keys cannot be used; the text continues a sentence about it.

    ``is_broken``: it is there, and what is in it cannot be read.
    """

    def __init__(self, reason: str, remedy: str = "", *, is_broken: bool = False) -> None:
        super().__init__(reason)
        self.remedy = remedy or "Unlock the keyring, or name a file that can be written in PERSONAS_KEY_FILE."
        self.is_broken = is_broken


class _OsKeyring:
    def __init__(self, service: str, timeout_seconds: float) -> None:
        self.service = service
        self._timeout_seconds = timeout_seconds
        self._paused_until = 0.0
        self._pause_reason = ""

    def get(self, key_id: str) -> Key | None:
        text = self._read(f"key {key_id}")
        if text is None:
            return None
        key = _decoded(key_id, text)
        if key is None:
            remedy = f"Remove “key {key_id}” of {self.service} from it, and add the credentials again."
            raise _Unusable(f"holds a damaged key “{key_id}”", remedy, is_broken=True)
        return key

    def keep(self, key: Key) -> None:
        self._write(f"key {key.id}", _encoded(key))

    def forget(self, key_id: str) -> bool:
        """Whether it was there and is gone."""
        user = f"key {key_id}"
        if self._read(user) is None:
            return False
        self._ask(lambda backend: backend.delete_password(self.service, user))
        if self._read(user) is not None:
            raise _Unusable("does not let go of what it has")
        return True

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
    def __init__(self, path: Path, lock_seconds: float) -> None:
        self.path = path
        self._lock_seconds = lock_seconds

    def get(self, key_id: str) -> Key | None:
        return self._read().get(key_id)

    def keep(self, key: Key) -> None:
        """Adds the key; the file is made where there is none."""
        with self._changing("made"):
            self._replace({**self._read(), key.id: key})
            if self._read().get(key.id) != key:
                raise _Unusable("does not keep what it is given")

    def forget(self, key_id: str) -> bool:
        """Whether it was there and is gone."""
        if key_id not in self._read():
            return False
        with self._changing("changed"):
            self._replace({other: key for other, key in self._read().items() if other != key_id})
        return True

    @contextlib.contextmanager
    def _changing(self, word: str) -> Iterator[None]:
        """The file for this process alone; readers need no lock, since it is replaced as a whole."""
        import filelock

        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with filelock.FileLock(self.path.with_name(f"{self.path.name}.lock"), timeout=self._lock_seconds):
                yield
        except filelock.Timeout:
            raise _Unusable("is held by another process") from None
        except OSError as problem:
            raise _Unusable(f"cannot be {word} ({problem.strerror or type(problem).__name__})") from None

    def _replace(self, keys: Mapping[str, Key]) -> None:
        draft = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        try:
            _write_privately(
                draft, json.dumps({"keys": {id_: _encoded(key) for id_, key in keys.items()}}) + "\n"
            )
            draft.replace(self.path)
            _sync(self.path.parent)
        finally:
            draft.unlink(missing_ok=True)

    def _read(self) -> dict[str, Key]:
        text = self._text()
        if text is None:
            return {}
        keys: dict[str, Key | None] = {}
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            keys = {id_: _decoded(id_, encoded) for id_, encoded in json.loads(text)["keys"].items()}
            found = {id_: key for id_, key in keys.items() if key is not None}
            if len(found) == len(keys):
                return found
        # Raised here because a caught error carries the file's text.
        raise _Unusable(
            "is damaged",
            "Bring it back from a backup; or remove it and add the credentials again.",
            is_broken=True,
        )

    def _text(self) -> bytes | None:
        # O_NONBLOCK: a named pipe would wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as problem:
            reason = f"cannot be read ({problem.strerror or type(problem).__name__})"
            raise _Unusable(reason, is_broken=True) from None
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise _Unusable("is no regular file", is_broken=True)
            if os.name == "posix" and mode & 0o077:
                raise _Unusable(
                    f"may be used by others (mode {stat.S_IMODE(mode):o})",
                    f"Run: chmod 600 {self.path}",
                    is_broken=True,
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


def new_key_id() -> str:
    """A random id for a key."""
    return secrets.token_hex(8)


def _encoded(key: Key) -> str:
    return base64.b64encode(key.secret).decode("ascii")


def _decoded(key_id: str, text: str) -> Key | None:
    """The key; None when the text is none."""
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    return Key(key_id, secret) if len(secret) == KEY_BYTES else None


def _sync(folder: Path) -> None:
    """Let a rename outlive a power failure, where the system can; secrets are sealed with what it brought."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_privately(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
