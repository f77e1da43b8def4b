"""The patterns that ship with the package, as data beside this module."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Pattern:
    """Work that is done again and again, and how it is done well.

    Lines may begin with ``[tool]`` or ``[message]`` and hold ``{source|words}`` and ``{target|words}``; `adapted`
    reads both. ``origin`` says where it comes from.
    """

    name: str
    title: str
    summary: str = ""
    keywords: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    role: str = ""
    approach: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    origin: str = "shipped"


@cache
def shipped_patterns() -> tuple[Pattern, ...]:
    """Every pattern of ``shipped_patterns.toml``, in its order; read once."""
    path = Path(__file__).with_name("shipped_patterns.toml")
    with path.open("rb") as file:
        entries = tomllib.load(file)["pattern"]
    return tuple(_pattern(entry) for entry in entries)


def _pattern(entry: dict[str, Any]) -> Pattern:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Pattern(**fields)
