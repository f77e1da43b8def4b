"""A piece of a sentence that says something about when."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["period", "times", "hours", "minute", "days", "dates", "not in", "part", "zone"]


@dataclass(frozen=True)
class Time:
    """A time of day; ``fixed``: “in the evening” does not move it, for it has am, pm or 24 hours."""

    hour: int
    minute: int
    fixed: bool


@dataclass(frozen=True)
class Piece:
    """One scanned piece. Which values it has depends on its kind; unset ones say nothing."""

    kind: Kind
    start: int = 0
    end: int = 0
    amount: float = 1  # of the unit, or how often per unit
    unit: str = ""
    per: bool = False  # “twice a day”
    times: tuple[Time, ...] = ()
    minutes: tuple[int, ...] = ()  # of each hour
    days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    part: str = ""
    zone: str = ""
    casual: bool = False  # “the weekly report”
    weak: bool = False  # says when only beside another piece
    only: bool = False  # “weekdays only” belongs to what stands before it
    sure: bool = False  # a time nobody takes for a number
    once: str = ""  # “on Friday”: may be meant once
    fields: tuple[
        tuple[str, str], ...
    ] = ()  # day of month and day of week, where cron says it in a way of its own
    asked: str = ""  # the words that no cron can hold; what it does instead is in the note
    instead: str = ""  # other words, which one can
    note: str = ""


Scanners = list[tuple[re.Pattern[str], Callable[[re.Match[str]], Piece | None]]]
"""Patterns with what reads a match of each: a piece, or None where the words mean something else."""


def hide(text: str, start: int, end: int) -> str:
    """The text with these characters hidden; every other one keeps its place."""
    return text[:start] + "\0" * (end - start) + text[end:]
