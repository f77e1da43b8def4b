"""A folder of personas, and the colours that it may have."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from personas_nb.entities.base import Entity, UtcDatetime, new_id, now, one_line

# Each can be read on a light and on a dark page, and is told from the others by more than its hue.
COLORS = {
    "blue": "#0072B2",
    "green": "#007A58",
    "orange": "#B34700",
    "amber": "#946000",
    "plum": "#9C4F80",
    "grey": "#6B7075",
    "red": "#C22F3D",
    "teal": "#00797F",
    "purple": "#7A5CC0",
    "brown": "#8A5A3C",
    "pink": "#C2508A",
    "olive": "#6F7300",
}
"""Colours by their names."""
_ALSO = {"gray": "grey", "violet": "purple", "yellow": "amber", "magenta": "pink", "cyan": "teal"}
# Colours of one's own are called by the nearest of these, beside the ones above.
_CALLED = (
    ("blue", "#0000FF"),
    ("yellow", "#FFE000"),
    ("purple", "#800080"),
    ("pink", "#FFC0CB"),
    ("pink", "#FF00FF"),
)
_BLACK_BELOW, _WHITE_FROM, _GREY_SPREAD = 45, 225, 24  # of 255


class PersonaGroup(Entity):
    """A folder with a name and a colour; a persona's ``group_id`` refers to it.

    ``color`` takes the name of a colour too. Groups stand in the order of ``sort_order``, then of their names; a
    ``collapsed`` one is a line with a count wherever personas are listed.

    >>> PersonaGroup(name="Finance", color="blue").color
    '#0072B2'
    """

    id: str = Field(default_factory=new_id)
    name: str = Field(min_length=1, max_length=200)
    color: str | None = Field(
        default=None,
        pattern=r"^#[0-9A-F]{6}$",
        description=f"{', '.join(COLORS)}, or hex such as #0072B2",
    )
    sort_order: int = 0
    collapsed: bool = False
    created_at: UtcDatetime = Field(default_factory=now)

    _name_is_one_line = field_validator("name")(one_line)

    @field_validator("color", mode="before")
    @classmethod
    def _as_hex(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        word = value.strip().casefold()
        if re.fullmatch("#[0-9a-f]{3}", word):
            return "#" + "".join(digit * 2 for digit in word[1:]).upper()
        return COLORS.get(_ALSO.get(word, word), value.strip().upper())

    @property
    def color_word(self) -> str:
        """The colour in a word, the nearest one for a colour of one's own; empty without one.

        >>> PersonaGroup(name="A", color="#0a6ebd").color_word, PersonaGroup(name="A").color_word
        ('blue', '')
        """
        if self.color is None:
            return ""
        rgb = _rgb(self.color)
        if max(rgb) < _BLACK_BELOW:
            return "black"
        if max(rgb) - min(rgb) < _GREY_SPREAD:
            return "white" if min(rgb) >= _WHITE_FROM else "grey"
        return min((*COLORS.items(), *_CALLED), key=lambda called: _distance(rgb, _rgb(called[1])))[0]


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """How far apart two colours are by hue first: lightness tells blue from light blue, which is blue too."""
    import colorsys

    (hue, light, full), (hue2, light2, full2) = (
        colorsys.rgb_to_hls(*(part / 255 for part in color)) for color in (one, other)
    )
    turn = min(abs(hue - hue2), 1 - abs(hue - hue2))
    return 4 * turn + abs(light - light2) + 0.5 * abs(full - full2)
