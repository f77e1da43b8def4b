"""Time zones as people name them: “Berlin time”, “EST”, “Europe/Paris”."""

from __future__ import annotations

import re
from functools import lru_cache
from zoneinfo import available_timezones

from personas_nb.design.schedules.pieces import Piece, Scanners
from personas_nb.design.schedules.words import words_only

ZONE_WORDS = {
    **dict.fromkeys(("utc", "gmt", "zulu"), "UTC"),
    **dict.fromkeys(("et", "est", "edt", "eastern"), "America/New_York"),
    **dict.fromkeys(("ct", "cst", "cdt", "central"), "America/Chicago"),
    **dict.fromkeys(("mst", "mdt", "mountain"), "America/Denver"),
    **dict.fromkeys(("pt", "pst", "pdt", "pacific"), "America/Los_Angeles"),
    "cet": "Europe/Berlin",
    "cest": "Europe/Berlin",
    "bst": "Europe/London",
    "jst": "Asia/Tokyo",
    "german": "Europe/Berlin",
    "uk": "Europe/London",
    "ist": "Asia/Kolkata",
    "aest": "Australia/Sydney",
}


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """Cities and full names in lower case, to IANA names."""
    names = sorted(available_timezones())
    cities = {
        name.rpartition("/")[2].replace("_", " ").lower(): name
        for name in names
        if "/" in name and "Etc/" not in name
    }
    return cities | {name.lower(): name for name in names if "/" in name} | ZONE_WORDS


def _zone(match: re.Match[str]) -> Piece | None:
    name = _zones().get(" ".join((match["name"] or match["short"] or match["city"]).lower().split()))
    return Piece("zone", zone=name, weak=True) if name else None


SCANNERS: Scanners = [
    (
        words_only(
            r"(?:in )?(?:(?P<name>[a-z]+/[a-z_]+(?:/[a-z_]+)?)"
            r"|(?P<short>utc|gmt|cet|cest|est|edt|pst|pdt|bst|jst|ist|cst|cdt|mst|mdt|aest|et|pt)"
            r"|(?P<city>[a-z]+(?: [a-z]+)?) time)"
        ),
        _zone,
    ),
]
