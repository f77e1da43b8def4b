"""Tables: a CSV file by its columns and first rows, a DataFrame of the notebook by its schema alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

SAMPLE_ROWS = 5
COLUMNS_MAX = 200
_CELL_CHARS = 80


def table(text: str, limit_chars: int) -> tuple[str, str, tuple[str, ...]] | None:
    """A table's columns with their types, its first rows, and what of it that is; None for what is none.

    >>> table("day;eur\\n2026-01-02;3.5\\n", 1000)[2]
    ('day', 'eur')
    """
    first = text.lstrip("\n").partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text.strip("\n")), delimiter=delimiter) if row]
    except csv.Error:  # a cell of more than 128 KiB, or a NUL
        return None
    if not rows or not any(cell.strip() for cell in rows[0]):
        return None
    header, body = [cell.strip() for cell in rows[0]], rows[1:]
    uneven = sum(len(row) != len(header) for row in body)
    if body and uneven > len(body) // 2:
        return None
    columns = tuple(name for name in header if name)[:COLUMNS_MAX]
    types = [
        f"- {name or '(no name)'}: {_type([row[n] for row in body if n < len(row)])}"
        for n, name in enumerate(header[:COLUMNS_MAX])
    ]
    sample = [[_short(cell) for cell in row] for row in [header, *body[:SAMPLE_ROWS]]]
    shown = "\n".join(delimiter.join(row) for row in sample)
    count = f"{len(header)} column{'s' * (len(header) != 1)}, {len(body):,} row{'s' * (len(body) != 1)}"
    part = "all of it" if len(body) <= SAMPLE_ROWS else f"names, types and the first {SAMPLE_ROWS} rows"
    note = f"; {uneven:,} rows have another length" if uneven else ""
    said = (
        f"Columns of {len(body):,} row{'s' * (len(body) != 1)}:\n"
        + "\n".join(types)
        + f"\n\nFirst rows:\n{shown}"
    )
    if len(said) > limit_chars:
        said, part = said[:limit_chars], "names and types, as far as they fit"
    return said, f"table: {count}, {part}{note}", columns


def frame(data: Any) -> tuple[str, str, tuple[str, ...]]:
    """The schema of a DataFrame: names, types, how much is there; no value of it."""
    rows, width = data.shape
    lines = []
    for number, name in enumerate(data.columns[:COLUMNS_MAX]):
        column = data.iloc[:, number]
        missing = int(column.isna().sum())
        gap = f", {missing:,} missing" if missing else ""
        lines.append(f"- {name}: {column.dtype}{gap}")
    index = (
        "" if type(data.index).__name__ == "RangeIndex" else f", index {data.index.name or 'without a name'}"
    )
    more = f"\n… {width - COLUMNS_MAX:,} more columns" if width > COLUMNS_MAX else ""
    text = (
        f"A DataFrame of the notebook, {rows:,} row{'s' * (rows != 1)}{index}. Its columns:\n"
        + "\n".join(lines)
        + more
    )
    count = f"{width:,} column{'s' * (width != 1)}, {rows:,} row{'s' * (rows != 1)}"
    return (
        text,
        f"DataFrame: {count}; its schema, none of its values",
        tuple(map(str, data.columns[:COLUMNS_MAX])),
    )


def _type(cells: Sequence[str]) -> str:
    """What the cells of a column are, of the first thousand."""
    given = [cell.strip() for cell in cells[:1000] if cell.strip()]
    gaps = ", with gaps" if len(given) < min(len(cells), 1000) else ""
    if not given:
        return "empty"
    for words, test in (("whole numbers", int), ("numbers", float), ("dates", datetime.fromisoformat)):
        try:
            for cell in given:
                test(cell)
        except ValueError:
            continue
        return words + gaps
    kinds = sorted(set(given))
    few = len(kinds) <= 6 and len(given) > 2 * len(kinds)
    return (f"one of {', '.join(map(_short, kinds))}" if few else "text") + gaps


def _short(cell: str) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= _CELL_CHARS else f"{cell[: _CELL_CHARS - 1]}…"
