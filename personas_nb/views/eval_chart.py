"""The picture of a comparison: how sure the differences are, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

from personas_nb.views import marks

COLOURS = {"better": marks.GREEN, "worse": marks.ORANGE}
"""Everything that is no difference is grey."""
_INK, _SOFT, _GRID = "#111111", "#444444", "#DDDDDD"
MANY_CASES = 30


class Drawn(NamedTuple):
    """One measure in the picture; its difference and interval are shares of one."""

    name: str
    mean: float
    low: float
    high: float
    verdict: str


def picture(
    intervals: Sequence[Drawn],
    differences: Sequence[tuple[str, float]],
    *,
    label_a: str,
    label_b: str,
    note: str = "",
) -> bytes:
    """A PNG, opaque.

    ``differences`` are cases and their own differences, shares of one too. It is drawn with Agg alone: pyplot would
    keep every figure, and change what the notebook's own plots do.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(differences) if len(differences) <= MANY_CASES else 10
    height = min(max(2.6, 1.2 + 0.2 * rows, 1.4 + 0.5 * len(intervals)), 5.6)
    figure = Figure(figsize=(8.8, height), dpi=140, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _intervals(left, intervals)
    _cases(right, differences)
    left.set_title(_plain(f"{label_b} beside {label_a}"), fontsize=10, loc="left", color=_INK)
    left.set_xlabel(f"points of 100, with 95 % interval{note}", fontsize=8, color=_SOFT)
    right.set_title("Expectations met, case by case", fontsize=10, loc="left", color=_INK)
    right.set_xlabel("points of 100", fontsize=8, color=_SOFT)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib is typed in part
    return _png(canvas)


def _intervals(axes: Any, intervals: Sequence[Drawn]) -> None:
    for place, one in enumerate(reversed(intervals)):
        mean, low, high = (100 * value for value in one[1:4])
        colour = COLOURS.get(one.verdict, marks.GREY)
        axes.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([low, high], [place, place], "|", color=colour, markersize=9, markeredgewidth=2.2)
        axes.plot([mean], [place], "o", color=colour, markersize=6, markeredgecolor="white")
        said = f"{round(mean):+d} · {one.verdict}".replace("-", "−").replace("+0 ", "0 ")
        above = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
        axes.annotate(said, (mean, place), fontsize=8, color=_SOFT, backgroundcolor="white", **above)
    names = [one.name for one in reversed(intervals)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    widest = max((100 * abs(value) for one in intervals for value in one[1:4]), default=0.0)
    reach = min(max(widest * 1.35, 12), 130)
    axes.set_xlim(-reach, reach)
    _look(axes)


def _cases(axes: Any, differences: Sequence[tuple[str, float]]) -> None:
    # Drawn from below: of what is the same, the first comes to stand above the others.
    ordered = sorted(((name, 100 * value) for name, value in reversed(differences)), key=lambda one: one[1])
    names = len(ordered) <= MANY_CASES
    height, edge = (0.7, 0.3) if names else (1.0, 0.0)
    for verdict, colour, hatch in (("worse", COLOURS["worse"], "////"), ("better", COLOURS["better"], "")):
        own = [(place, value) for place, (_, value) in enumerate(ordered) if value * (-1 if hatch else 1) > 0]
        if own:
            places, values = zip(*own, strict=True)
            axes.barh(
                places,
                values,
                height=height,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=edge,
                label=verdict,
            )
    level = [place for place, (_, value) in enumerate(ordered) if not value]
    axes.plot([0] * len(level), level, "o", color=marks.GREY, markersize=3.5 if names else 1.5)
    if names:
        axes.set_yticks(range(len(ordered)), [_plain(marks.one_line(name, 34)) for name, _ in ordered])
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(ordered):,} cases", fontsize=8, color=_SOFT)
    reach = max((abs(value) for _, value in ordered), default=0) * 1.1 or 10
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    _look(axes)


def _look(axes: Any) -> None:
    axes.axvline(0, color="#888888", linewidth=1)
    axes.tick_params(labelsize=8, colors=_SOFT)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _png(canvas: Any) -> bytes:
    import numpy as np
    from PIL import Image

    # 64 colours hold a bar chart; the file, which a notebook keeps, is a third of its size.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64)
    file = BytesIO()
    image.save(file, format="png", optimize=True)
    return file.getvalue()


def _plain(text: str) -> str:
    """Text in which “$” begins no formula."""
    return marks.clean(text).replace("$", r"\$")
