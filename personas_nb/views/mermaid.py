"""Graphs as mermaid fences in Markdown: boxes with labels that nothing can leave, and arrows between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from personas_nb.views.marks import one_line

LINE_CHARS = 60
"""Characters of one line of a label; mermaid breaks it where it is wider than a box."""
_FORMULA = re.compile(
    r"\$(?=\$)"
)  # what stands between two of them is drawn as a formula, also when numbered


class Box(NamedTuple):
    """A box of a graph: its lines, the colour of its border (none: the theme's), and whether it is an end."""

    lines: tuple[str, ...]
    colour: str = ""
    is_round: bool = False
    is_joint: bool = False
    """A dot without words, where arrows meet."""


class Arrow(NamedTuple):
    """An arrow between two boxes, by their places."""

    source: int
    target: int
    label: str = ""


def label(text: str, limit_chars: int = 80) -> str:
    """Text as mermaid shows it as it is: what could end it or mean something is written as its number.

    >>> label('say "end"; `x` costs $1')
    'say #34;end#34;#59; #96;x#96; costs #36;1'
    """
    shown = _FORMULA.sub("$\u200b", one_line(text, limit_chars))
    return re.sub(r"[^\w .,:/()€%+=?!–…-]", lambda found: f"#{ord(found[0])};", shown)


def fence(boxes: Sequence[Box], arrows: Iterable[Arrow], *, direction: str = "LR") -> str:
    """A graph as a Markdown fence; ``direction`` is LR or TD.

    >>> print(fence([Box(("in",)), Box(("out",), "#007A58")], [Arrow(0, 1)]))
    ```mermaid
    flowchart LR
      s1["in"]
      s2["out"]
      s1 --> s2
      classDef c1 stroke:#007A58,stroke-width:2px
      class s2 c1
    ```
    """
    lines = ["```mermaid", f"flowchart {direction}"]
    lines += [f"  s{number}{_shape(box)}" for number, box in enumerate(boxes, 1)]
    for arrow in arrows:
        middle = f'-->|"{label(arrow.label, LINE_CHARS)}"|' if arrow.label else "-->"
        lines.append(f"  s{arrow.source + 1} {middle} s{arrow.target + 1}")
    for number, colour in enumerate(dict.fromkeys(box.colour for box in boxes if box.colour), 1):
        names = ",".join(f"s{place}" for place, box in enumerate(boxes, 1) if box.colour == colour)
        lines += [f"  classDef c{number} stroke:{colour},stroke-width:2px", f"  class {names} c{number}"]
    return "\n".join([*lines, "```"])


def _shape(box: Box) -> str:
    if box.is_joint:
        return '((" "))'
    text = "<br>".join(label(line) for line in box.lines if line.strip()) or " "
    return f'("{text}")' if box.is_round else f'["{text}"]'
