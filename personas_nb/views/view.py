"""A thing to show: complete plain text, and HTML that reads correctly without any style."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class View:
    """What a person sees: ``text`` is complete by itself, ``html`` says the same, ``value`` is what it shows.

    ``png`` is a picture of our own rendering (a chart), shown as a display of its own; ``markdown`` (a mermaid
    fence) too; ``alt`` says in words what they show. ``also`` are further views, each a display of its own.
    """

    text: str
    html: str
    value: Any = None
    png: bytes | None = None
    markdown: str | None = None
    also: tuple[View, ...] = field(default=())
    alt: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:  # noqa: ARG002 - IPython's
        return {"text/plain": self.text, "text/html": self.html}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text
