"""A text as pieces, the more particular first; what one piece has taken is hidden from the next."""

from __future__ import annotations

from dataclasses import replace

from personas_nb.design.schedules import dates, days, periods, times, zones
from personas_nb.design.schedules.pieces import Piece, hide

# Dates stand before weekdays and periods, whose words they contain; a bare “the 1st” is read last.
_SCANNERS = (
    *zones.OFFSET_SCANNERS,
    *dates.SCANNERS,
    *days.SCANNERS,
    *periods.SCANNERS,
    *times.SCANNERS,
    *zones.SCANNERS,
    *dates.LOOSE_SCANNERS,
)


def scanned(hidden: str) -> list[Piece]:
    """Every piece in the text, in its order; no two overlap."""
    found: list[Piece] = []
    for pattern, read in _SCANNERS:
        for match in list(pattern.finditer(hidden)):
            piece = read(match)
            if piece:
                found.append(replace(piece, start=match.start(), end=match.end()))
                hidden = hide(hidden, match.start(), match.end())
    return sorted(found, key=lambda piece: piece.start)
