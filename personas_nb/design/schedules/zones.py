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
    **dict.fromkeys(("cet", "cest", "mez", "mesz", "central european"), "Europe/Berlin"),
    **dict.fromkeys(("eet", "eest", "eastern european"), "Europe/Helsinki"),
    **dict.fromkeys(("wet", "west", "western european"), "Europe/Lisbon"),
    "bst": "Europe/London",
    "jst": "Asia/Tokyo",
    "german": "Europe/Berlin",
    "uk": "Europe/London",
    "ist": "Asia/Kolkata",
    "aest": "Australia/Sydney",
}
_BROKEN_OFFSETS = {  # zones without summer time whose offset is no whole hour
    "+3:30": "Asia/Tehran",
    "+4:30": "Asia/Kabul",
    "+5:30": "Asia/Kolkata",
    "+5:45": "Asia/Kathmandu",
    "+6:30": "Asia/Yangon",
    "+9:30": "Australia/Darwin",
}
_AFTER_A_TIME = re.compile(r"(?:[0-9\0]|[ap]m|noon|midnight|o['’]?clock)\s*$", re.IGNORECASE)


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
    said = " ".join((match["name"] or match["short"] or match["city"] or match["place"]).lower().split())
    said = re.sub(r" (?:standard|daylight|summer)$", "", said)
    name = _zones().get(said) or _zones().get(said.rpartition(" ")[2])  # “at berlin time”
    if match["place"] and not _AFTER_A_TIME.search(match.string[max(0, match.start() - 20) : match.start()]):
        return None  # “the weather in London”
    return Piece("zone", zone=name, weak=True) if name else None


def _offset(match: re.Match[str]) -> Piece | None:
    """“UTC+2” is the same all year; IANA names it with the other sign, and has whole hours only."""
    hours, minutes, is_east = int(match["hours"]), match["minutes"] or "00", match["sign"] == "+"
    zone = _BROKEN_OFFSETS.get(f"{match['sign']}{hours}:{minutes}", "")
    if minutes == "00" and hours <= (14 if is_east else 12):
        zone = f"Etc/GMT{'-' if is_east else '+'}{hours}" if hours else "UTC"
    note = "" if zone else f"“{match[0]}” is no time zone that is known here; the usual one was taken."
    return Piece("zone", zone=zone, weak=True, note=note)


# Read before times of day: “05:30” in “UTC+05:30” is none.
OFFSET_SCANNERS: Scanners = [
    (
        words_only(
            r"(?:in )?(?:utc|gmt)\s?(?P<sign>[+-])0?(?P<hours>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?"
        ),
        _offset,
    ),
]
SCANNERS: Scanners = [
    (
        words_only(
            r"(?:in )?(?:(?P<name>[a-z]+/[a-z_]+(?:/[a-z_]+)?)"
            r"|(?P<short>utc|gmt|cet|cest|mez|mesz|est|edt|pst|pdt|bst|jst|ist|cst|cdt|mst|mdt|aest|et|pt)"
            r"|(?P<city>(?:(?:central|eastern|western) european|[a-z]+(?: [a-z]+)?)"
            r"(?: standard| daylight| summer)?) time"
            r"|in (?P<place>[a-z]+(?: (?:york|angeles|kong))?))"
        ),
        _zone,
    ),
]
