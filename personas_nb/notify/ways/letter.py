"""What is sent, and how a sending that went wrong ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Protocol

from personas_nb.errors import PersonaError

MORE = "… (`%persona messages` has all of it)"


@dataclass(frozen=True)
class Letter:
    """A message on its way; ``delivery_id`` is the same however often it is tried."""

    delivery_id: str
    persona: str
    title: str
    content: str
    content_type: str = "info"
    priority: str = "normal"

    @property
    def heading(self) -> str:
        """One line: who, unless the title says that, and what about."""
        title = " ".join(self.title.split())
        who = " ".join(self.persona.split())
        if who.casefold() in title.casefold():
            return title
        return f"{who}: {title}" if title else f"{who} has a message for you"


class NotSent(PersonaError):
    """It has certainly not arrived; ``retryable`` where the same may work later, after ``retry_after_seconds``."""

    code = "NOT_SENT"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retryable: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.retry_after_seconds = retry_after_seconds


class MaybeSent(PersonaError):
    """It may have arrived: nobody can tell."""

    code = "MAYBE_SENT"


@dataclass(frozen=True)
class Answer:
    """What a server answered; ``retry_after_seconds`` where it asks to wait."""

    status: int
    body: str
    retry_after_seconds: float | None = None


class Outside(Protocol):
    """The way to other machines, with the settings' limits and refusals."""

    async def post(self, url: str, *, json: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to a POST. Raises ``NotSent`` and ``MaybeSent``."""

    def submit(
        self, login: Mapping[str, str], mail: EmailMessage, receivers: Sequence[str]
    ) -> Mapping[str, str]:
        """Give a mail to its server; who was refused, and why. Raises ``NotSent`` and ``MaybeSent``."""


def shortened(text: str, limit_chars: int, more: str = MORE) -> str:
    """A text that fits, its end said to be cut off where it is.

    >>> shortened("one two three", 9, "…")
    'one two …'
    """
    if len(text) <= limit_chars:
        return text
    return f"{text[: max(0, limit_chars - len(more))]}{more}"
