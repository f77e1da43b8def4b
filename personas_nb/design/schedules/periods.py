"""Periods: “every 10 minutes”, “twice a day”, “weekly”."""

from __future__ import annotations

import re

from personas_nb.design.schedules.pieces import Piece, Scanners
from personas_nb.design.schedules.times import TIME_NEXT
from personas_nb.design.schedules.words import NUMBER, SEP, UNIT, amount_of, unit_of, words_only

ADVERBS: dict[str, tuple[float, str]] = {
    "hourly": (1, "hour"),
    "daily": (1, "day"),
    "everyday": (1, "day"),
    "nightly": (1, "day"),
    "weekly": (1, "week"),
    "fortnightly": (2, "week"),
    "biweekly": (2, "week"),
    "bi-weekly": (2, "week"),
    "monthly": (1, "month"),
    "quarterly": (1, "quarter"),
    "yearly": (1, "year"),
    "annually": (1, "year"),
    "half-hourly": (0.5, "hour"),
    "half-yearly": (6, "month"),
    "semi-annually": (6, "month"),
    "semiannually": (6, "month"),
    "biannually": (6, "month"),
    "bimonthly": (2, "month"),
    "bi-monthly": (2, "month"),
    "every fortnight": (2, "week"),
}


def _every(match: re.Match[str]) -> Piece | None:
    word = (match["amount"] or "").lower()
    unit = unit_of(match["unit"])
    plural = match["unit"].lower().endswith("s") and len(match["unit"]) > 1
    if word == "half" and unit == "year":
        return Piece("period", amount=6, unit="month")
    if word in ("quarter", "half") and unit != "hour":
        return None
    if plural and not word:
        return None  # “each days” says nothing
    return (
        Piece("period", amount=amount_of(match["amount"]), unit=unit) if amount_of(match["amount"]) else None
    )


def _per(match: re.Match[str]) -> Piece | None:
    often = match["often"].lower().removesuffix("times").removesuffix("x").strip()
    amount = {"once": 1, "twice": 2, "thrice": 3}.get(often) or amount_of(often)
    unit = unit_of(match["unit"] or "day")
    if amount == 1:
        return Piece("period", unit=unit)
    return Piece("period", amount=amount, unit=unit, per=True) if amount == int(amount) and amount else None


def _adverb(match: re.Match[str]) -> Piece | None:
    word = " ".join(match["adverb"].lower().split())
    if word == "everyday" and not TIME_NEXT.match(match.string, match.end()):
        return None  # “everyday things”
    if match["other"]:
        return None  # “my daily notes” are there already
    amount, unit = ADVERBS[word]
    return Piece(
        "period",
        amount=amount,
        unit=unit,
        part="night" if word == "nightly" else "",
        casual=bool(match["casual"]),
        note="“Bimonthly” was read as every two months." if amount == 2 and unit == "month" else "",
    )


def _past_the_hour(match: re.Match[str]) -> Piece | None:
    spoken = {"half": 30, "quarter": 15, "top": 0}
    word = (match["minute"] or match["top"]).lower()
    found = (
        [spoken[word]] if word in spoken else sorted({int(number) for number in re.findall("[0-9]+", word)})
    )
    return Piece("period", unit="hour", minutes=tuple(found)) if found[-1] < 60 else None


SCANNERS: Scanners = [
    (
        words_only(
            rf"(?:at )?(?:(?P<minute>[0-9]{{1,2}}(?:{SEP}[0-9]{{1,2}}){{0,9}}|half|quarter)(?: minutes?)? "
            r"(?:past|after) (?:every|each) hour"
            r"|(?:the )?(?P<top>top) of (?:every|each|the) hour)"
        ),
        _past_the_hour,
    ),
    (
        words_only(
            rf"(?P<often>once|twice|thrice|{NUMBER} times|[0-9]{{1,2}}x) "
            r"(?:(?:a|an|per|each|every) (?P<unit>minute|hour|day|week|month|quarter|year)|daily)"
        ),
        _per,
    ),
    (
        words_only(
            r"(?:(?:at |on |by )?(?:the )?(?:end|start|beginning) of |(?<!for.)(?<!not.)(?<!of.))"
            r"(?:(?:once )?(?:every|each)|once in) (?:single )?"
            rf"(?:(?P<amount>{NUMBER})(?:st|nd|rd|th)?(?: |-))?"
            rf"(?P<unit>{UNIT})(?!-)(?! of (?!the\b|every\b|each\b))"
        ),
        _every,
    ),
    (
        words_only(r"(?<!for.)(?:once )?every (?P<amount>[0-9]{1,4})(?P<unit>s|m|h|d|secs?|mins?|hrs?)"),
        _every,
    ),
    (
        words_only(
            r"(?:(?P<casual>a|an|the) |(?P<other>my|our|your|their|this|that|its|his|her|last|latest|next) )?"
            r"(?P<adverb>half-hourly|half-yearly|semi-?annually|biannually|hourly|daily"
            r"|everyday|nightly|bi-?weekly|fortnightly|every fortnight|weekly|bi-?monthly|monthly|quarterly|yearly"
            r"|annually)(?!-)"
        ),
        _adverb,
    ),
]
