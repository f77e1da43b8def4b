"""Every error that personas_nb raises on purpose.

```
PersonaError                      one sentence, and a hint: the next step
├── SettingsError                 a key or value in personas.toml or PERSONAS_* is wrong
├── InvalidInput (ValueError)     what was given cannot be used; nothing was written
│   └── TooLarge                  it is over a limit, which is named
├── NotFound (LookupError)        no persona, run, review … of that name or id
├── Conflict                      somebody else changed or claimed it first
├── StoreError                    the database cannot be used
│   ├── StoreCorrupt              it is no database, or a damaged one; left as it was
│   ├── StoreTooNew               a later version of personas_nb wrote it; left as it was
│   └── StoreReadOnly             its folder or file cannot be written
├── VaultError                    a secret cannot be sealed or opened
│   └── KeyUnavailable            no key: the keyring is locked or absent and no key file can be had
├── ToolError                     a tool call did not do what was asked
│   ├── ToolDenied                not assigned, not allowed, or outside its boundary
│   └── ToolTimeout (TimeoutError)  it took longer than it may
├── QueueFull                     the persona has as many queued runs as it may
├── ModelError                    the model or its server failed; ``kind`` says how
├── DesignError                   a design could not be made or applied
└── ExecutionError                a run ended badly; ``.execution`` is its record
    ├── ExecutionFailed
    └── Cancelled
```
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from personas_nb.entities.execution import Execution


MESSAGE_LIMIT_CHARS = 1000
_WORD_LIMIT_CHARS = 200  # the longest word that a cut leaves whole


class PersonaError(Exception):
    """Something went wrong that a person can act on.

    ``message`` is one sentence, ``hint`` the next step; ``str(error)`` is both.
    ``code`` is stable and meant for programs, ``retryable`` says whether the same call may succeed later.

        raise NotFound("There is no persona “mailbox”.", hint="Did you mean “mail-boy”?")
    """

    code: ClassVar[str] = "PERSONA_ERROR"
    retryable: bool = False

    def __init__(self, message: str, *, hint: str = "", retryable: bool | None = None) -> None:
        message, self.hint = _presentable(message), _presentable(hint)
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class SettingsError(PersonaError):
    """A setting is unknown or has a value that cannot be used."""

    code = "INVALID_CONFIG"


class InvalidInput(PersonaError, ValueError):
    """What was given cannot be used; nothing was written."""

    code = "INVALID_INPUT"


class TooLarge(InvalidInput):
    """What was given is over a limit; the message names it."""

    code = "TOO_LARGE"


class NotFound(PersonaError, LookupError):
    """Nothing has that name or id."""

    code = "PERSONA_NOT_FOUND"


class Conflict(PersonaError):
    """Somebody else changed or claimed it first."""

    code = "CONFLICT"


class StoreError(PersonaError):
    """The database cannot be used."""

    code = "STORE_ERROR"


class StoreCorrupt(StoreError):
    """The file is no SQLite database, or a damaged one; it was left as it was."""

    code = "STORE_CORRUPT"


class RowUnreadable(StoreError):
    """One row holds what it cannot hold, because something else wrote it; the others can be read."""


class StoreTooNew(StoreError):
    """The file was written by a later version; it was left as it was."""

    code = "STORE_TOO_NEW"


class StoreReadOnly(StoreError):
    """The home folder or the database in it cannot be written."""

    code = "STORE_READ_ONLY"


class VaultError(PersonaError):
    """A secret cannot be sealed or opened."""

    code = "VAULT_ERROR"


class KeyUnavailable(VaultError):
    """There is no key to seal or open secrets with; nothing was stored in the clear."""

    code = "KEY_UNAVAILABLE"


class ToolError(PersonaError):
    """A tool call did not do what was asked; the model sees the sentence."""

    code = "TOOL_ERROR"


class ToolDenied(ToolError):
    """The call is not assigned, not allowed, or reaches outside its boundary."""

    code = "TOOL_DENIED"


class ToolTimeout(ToolError, TimeoutError):
    """The call took longer than it may."""

    code = "TOOL_TIMEOUT"
    retryable = True


class QueueFull(PersonaError):
    """The persona has as many queued runs as it may."""

    code = "QUEUE_FULL"
    retryable = True


class ModelError(PersonaError):
    """The model, its server, or the way to it failed.

    ``kind`` is one of ``rate_limit``, ``credential``, ``overloaded``, ``timeout``, ``connection``,
    ``budget``, ``turns``, ``tokens``, ``not_found``, ``rejected``, ``bad_answer``, ``session_limit``,
    ``cli_not_found``, ``cli`` (the Claude CLI crashed or is too old), ``unknown``;
    ``retry_after_seconds`` is what the server asked for, if it did.
    """

    code = "MODEL_ERROR"

    def __init__(
        self,
        message: str,
        *,
        kind: str = "unknown",
        hint: str = "",
        retry_after_seconds: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds


class BudgetExceeded(PersonaError):
    """A budget rule does not allow the run; it was not started."""

    code = "BUDGET"


class DesignError(PersonaError):
    """A design could not be made, refined or applied."""

    code = "DESIGN_ERROR"


class ExecutionError(PersonaError):
    """A run ended badly; ``execution`` is its stored record, with what it had until then."""

    code = "PERSONA_RUNTIME_ERROR"

    def __init__(self, message: str, *, execution: Execution, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.execution = execution


class ExecutionFailed(ExecutionError):
    """The run failed."""

    code = "EXECUTION_FAILED"


class Cancelled(ExecutionError):
    """The run was cancelled; what it had until then is kept."""

    code = "EXECUTION_CANCELLED"


def _presentable(sentence: str) -> str:
    """The sentence so that it can be shown and stored: it may quote what was given, whatever that was."""
    sentence = sentence.encode("utf-8", "replace").decode()
    if len(sentence) <= MESSAGE_LIMIT_CHARS:
        return sentence
    half = MESSAGE_LIMIT_CHARS // 2
    head, tail = sentence[:half], sentence[-half:]
    # Between words where there are some: half a key cannot be recognised and taken out any more.
    head = head[: head.rfind(" ", half - _WORD_LIMIT_CHARS) + 1] or head
    tail = tail[max(0, tail.find(" ", 0, _WORD_LIMIT_CHARS)) :]
    return f"{head.rstrip()} … {tail.lstrip()}"


def did_you_mean(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The nearest known word as a hint, else ``otherwise``.

    >>> did_you_mean("lst", ["list", "show"])
    'Did you mean “list”?'
    >>> did_you_mean("inv", ["invoice-watcher", "inbox-summary"])
    'Did you mean “invoice-watcher”?'
    """
    typed = str(word).lower()  # somebody may give anything where a name belongs
    if len(typed) > MESSAGE_LIMIT_CHARS:
        return otherwise
    names = [name.lower() for name in known]
    near = difflib.get_close_matches(typed, names, n=1, cutoff=0.6)
    near = near or [name for name in names if len(typed) >= 3 and name.startswith(typed)]
    return f"Did you mean “{near[0]}”?" if near else otherwise
