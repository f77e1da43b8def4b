"""What a run may spend, as rows of a card: the limit, and who set it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from personas_nb.views import marks
from personas_nb.views.marks import Cell, one_line


class Limit(NamedTuple):
    """A limit with its unit at the end of its name (``_usd``, ``_ms``, ``_bytes``), and who set it."""

    name: str
    value: float | int | None
    source: str = ""


def limit_rows(limits: Iterable[Limit]) -> list[tuple[str, Cell | None]]:
    """Names and values in words.

    >>> limit_rows([Limit("timeout_ms", 300_000, "settings"), Limit("max_budget_usd", 0.5, "this run")])
    [('timeout', '5 min 0 s (settings)'), ('max budget', '$0.50 (this run)')]
    """
    return [_row(limit) for limit in limits]


def _row(limit: Limit) -> tuple[str, Cell]:
    words = one_line(limit.name.replace("_", " "))
    for unit in (" ms", " usd", " bytes"):
        words = words.removesuffix(unit)
    return words, f"{_value(limit)} ({limit.source})" if limit.source else _value(limit)


def _value(limit: Limit) -> str:
    if limit.value is None:
        return "not set"
    if limit.name.endswith("_ms"):
        return marks.duration(limit.value)
    if limit.name.endswith("_usd"):
        return (
            f"${limit.value:,.2f}"
            if limit.value >= 0.01 or limit.value == 0
            else f"${limit.value:.10f}".rstrip("0")
        )
    if limit.name.endswith("_bytes"):
        return f"{limit.value / 2**20:g} MiB" if limit.value >= 2**20 else f"{limit.value:,} bytes"
    return f"{limit.value:,}"
