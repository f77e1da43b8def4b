"""Phrases: neighbouring pieces with only connecting words between them: “at 9 on weekdays, Berlin time”.

A piece that a phrase already has, or that contradicts it, opens the next phrase.
"""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import dataclass, field, replace
from itertools import pairwise

from personas_nb.design.schedules.pieces import Kind, Piece
from personas_nb.design.schedules.words import SHORT, UNIT_MONTHS

_CONNECTING = re.compile(
    r"[\s,()–-]*(?:(?:and|on|at|but|only|also|plus|then|the|in|starting|always|again|each|every|&|once)(?![\w])[\s,()]*)*",
    re.IGNORECASE,
)
_ALSO = re.compile(r"\b(?:and|also|plus|then|but)\b|&|,", re.IGNORECASE)


@dataclass
class Phrase:
    """Pieces that belong together; ``note`` is what was assumed to put them together."""

    pieces: list[Piece] = field(default_factory=list)
    note: str = ""

    def one(self, kind: Kind) -> Piece | None:
        """The first piece of a kind."""
        return next((piece for piece in self.pieces if piece.kind == kind), None)

    def all(self, kind: Kind) -> list[Piece]:
        """Every piece of a kind."""
        return [piece for piece in self.pieces if piece.kind == kind]

    @property
    def period(self) -> Piece | None:
        """The shorter one of “each day, every 10 minutes”."""
        periods = self.all("period")
        return next((piece for piece in periods if piece.unit in SHORT), periods[0] if periods else None)

    @property
    def days(self) -> list[Piece]:
        """What says on which days, or how often: everything but times and zone."""
        return [piece for piece in self.pieces if piece.kind not in ("times", "zone")]

    @property
    def within_a_day(self) -> bool:
        """Whether its period is shorter than a day."""
        period = self.period
        return bool(period and period.unit in SHORT)

    @property
    def is_monthly(self) -> bool:
        """Whether its period is counted in months."""
        period = self.period
        return bool(period and period.unit in UNIT_MONTHS)

    @property
    def says_when(self) -> bool:
        """Whether it says when by itself: a time of day alone does not."""
        if any(piece.kind in ("period", "days", "dates", "part") and not piece.weak for piece in self.pieces):
            return True
        dates = self.all("dates")  # “on 1 March and 1 September”, “on the 1st and the 15th at 9”
        in_months = [piece for piece in dates if piece.months]
        if any(len(piece.months) > 1 for piece in in_months) and any(piece.days for piece in dates):
            return True  # “in March and September on the 1st”
        return sum(bool(piece.days) for piece in in_months) > 1 or bool(
            self.one("times") and sum(len(piece.days) for piece in dates) > 1
        )

    @property
    def casual(self) -> bool:
        """Whether it may be no more than an adjective: “the weekly report”."""
        return len(self.pieces) == 1 and self.pieces[0].casual

    def is_of_another_zone(self, following: list[Piece]) -> bool:
        """Whether a time before these neighbours has a zone of its own: “at 8 CET and 8 PST”."""
        return bool(self.one("times") and self.one("zone") and following and following[0].kind == "zone")

    def takes(self, piece: Piece, gap: str, following: list[Piece]) -> bool:
        """Whether the piece belongs to this phrase. ``following`` are the neighbours after it."""
        kinds = [one.kind for one in self.pieces]
        after = [one.kind for one in following]
        opens = piece.kind in ("days", "dates", "period")
        if piece.kind == "times":
            if self.within_a_day or self.is_of_another_zone(following):
                return False
            if (
                "times" in kinds
            ):  # “at 9 on Mondays and at 17 on Fridays”, but “at 9 and at 17, on Fridays at 10”
                return not (after[:1] and after[0] in ("days", "dates", "period") and after[1:2] != ["times"])
            return True
        if piece.only:
            return not {"days", "dates"} & set(kinds)
        if (
            opens
            and "times" in kinds
            and kinds[0] != "times"
            and (after[:1] == ["times"] or _ALSO.search(gap))
        ):
            return False  # “daily at 9 and on Fridays at 17”
        if opens and "times" in kinds and kinds[0] == "times" and len(kinds) > 1 and after[:1] == ["times"]:
            return False
        if piece.kind == "days":
            period = self.period
            if period and period.amount != 1 and not period.per and re.search(r"\b(?:and|plus)\b", gap):
                return False  # “every 2 weeks and every Friday”, but “every 2 hours on weekdays”
            return "dates" not in kinds and (
                period is None or period.unit not in ("month", "quarter", "year")
            )
        if piece.kind == "dates":
            period = self.period
            return "days" not in kinds and (period is None or period.unit in ("month", "quarter", "year"))
        if piece.kind == "period":
            other, long = self.period, piece.unit in UNIT_MONTHS
            if other and (other.unit in SHORT) != (piece.unit in SHORT):
                day = piece if other.unit in SHORT else other
                return "times" not in kinds and (day.unit, day.amount, day.per) == ("day", 1, False)
            return other is None and not (long and "days" in kinds) and ("dates" not in kinds or long)
        return piece.kind not in kinds


def phrases_of(hidden: str, pieces: list[Piece]) -> list[Phrase]:
    """The phrases of a text that say when."""
    phrases: list[Phrase] = []
    for index, piece in enumerate(pieces):
        gap = hidden[pieces[index - 1].end : piece.start] if index else None
        near = gap is not None and _CONNECTING.fullmatch(gap)
        following: list[Piece] = []
        for before, after in pairwise(pieces[index : index + 3]):  # two neighbours ahead are enough
            if not _CONNECTING.fullmatch(hidden[before.end : after.start]):
                break
            following.append(after)
        if phrases and near and phrases[-1].takes(piece, gap or "", following):
            phrases[-1].pieces.append(piece)
        else:
            shared: list[Piece] = []
            if phrases and near and piece.kind == "times" and phrases[-1].is_of_another_zone(following):
                shared = phrases[-1].days
            elif phrases and near and piece.kind == "dates" and phrases[-1].is_monthly:
                shared = phrases[-1].all("period")
            phrases.append(Phrase([piece, *(replace(one, start=-1) for one in shared)]))
    _lend_days(hidden, phrases)
    _lend_times(hidden, phrases)
    _lend_hours(phrases)
    return [phrase for phrase in phrases if phrase.says_when]


def _lend_days(hidden: str, phrases: list[Phrase]) -> None:
    """“At 9 in London and at 8 in Chicago on weekdays”: the days are those of both."""
    for before, after in pairwise(phrases):
        gap = hidden[before.pieces[-1].end : after.pieces[0].start]
        zoned = all(phrase.one("times") and phrase.one("zone") for phrase in (before, after))
        if zoned and not before.days and _CONNECTING.fullmatch(gap):
            before.pieces += [replace(one, start=-1) for one in after.days]


def _lend_hours(phrases: list[Phrase]) -> None:
    """“Don't run at night. Check the page hourly”: hours said elsewhere, if there is one pace that they can mean."""
    paced = [phrase for phrase in phrases if phrase.within_a_day and not phrase.one("hours")]
    lonely = [phrase for phrase in phrases if not phrase.says_when and phrase.one("hours")]
    noted = [piece for phrase in lonely for piece in phrase.all("hours") if piece.note]
    if len(paced) == 1 and len(noted) == 1:
        paced[0].pieces.append(replace(noted[0], start=-1))


def _lend_times(hidden: str, phrases: list[Phrase]) -> None:
    """“Every weekday, send me the news at 7am”: a clear time elsewhere in the sentence, if it can only mean this."""
    ends = [match.end() for match in re.finditer(r"[.!?]\s|\n|;", hidden)]
    sentences: dict[int, list[Phrase]] = {}
    for phrase in phrases:
        sentences.setdefault(bisect(ends, phrase.pieces[0].start), []).append(phrase)
    for sentence in sentences.values():
        waiting = [phrase for phrase in sentence if phrase.says_when]
        lonely = [phrase for phrase in sentence if not phrase.says_when and phrase.one("times")]
        if len(waiting) != 1 or len(lonely) != 1 or waiting[0].one("times") or waiting[0].within_a_day:
            continue
        if lonely[0].one("dates") and (not waiting[0].is_monthly or waiting[0].one("dates")):
            continue
        if lonely[0].pieces[0].sure or lonely[0].one("dates"):
            waiting[0].note = "The time was taken from elsewhere in the sentence."
            waiting[0].pieces += [replace(piece, start=-1) for piece in lonely[0].pieces]
