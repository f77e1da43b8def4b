"""What runs cost, as a table and a chart."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from personas_nb.entities.base import now
from personas_nb.views import marks
from personas_nb.views.marks import Cell, Number, Short, one_line, plural
from personas_nb.views.page import Page
from personas_nb.views.view import View

if TYPE_CHECKING:
    import pandas as pd

NAMED_MAX = 5
"""Personas with a colour of their own in a chart; the others are one."""
# Neighbours differ in their hatching too, for those who see few colours.
_PALETTE = (marks.BLUE, marks.AMBER, marks.GREEN, marks.PLUM, marks.ORANGE)
_HATCHES = ("", "////", "", "....", "xxxx")
OTHERS = "others"
_REFUSED = ("credential", "rate_limit", "overloaded", "connection", "not_found")
"""Failures before any answer: without tokens they cost nothing."""
_SUMS = (
    "executions",
    "completed",
    "incomplete",
    "failed",
    "cancelled",
    "input_tokens",
    "output_tokens",
    "tool_calls",
)


def costs(
    daily: pd.DataFrame, executions: pd.DataFrame, days: int = 30, *, today: date | None = None
) -> View:
    """Cost, tokens and runs of the last ``days`` days: by persona as a table, by day as a picture.

    ``daily`` has a row per day and persona, ``executions`` a row per run. Runs whose price nobody knows are
    counted and said, never added as 0. Where nothing cost anything the picture shows tokens instead.
    """
    last = today or now().date()
    daily = _within(daily, days, last)
    page = Page("Costs", detail=f"{plural(days, 'day')} to {last.isoformat()}")
    if daily.empty:
        page.sentence("Nothing ran in this time.")
        return page.next([("%%persona run NAME", "the rest of the cell is its input")]).view(daily)
    rehearsed, unknown = _count(executions, rehearsal=True), _count(executions, rehearsal=False)
    only_rehearsal = rehearsed > 0 and rehearsed >= int(daily["executions"].sum())
    page.table(
        (
            "persona",
            "runs",
            "done",
            "incomplete",
            "failed",
            "cancelled",
            "tokens in",
            "tokens out",
            "cost",
            "mean time",
        ),
        _rows(daily, only_rehearsal=only_rehearsal),
    )
    if rehearsed:
        page.sentence(f"{plural(rehearsed, 'run')} in rehearsal: $0, tokens estimated.", status="rehearsal")
    if unknown:
        page.sentence(
            f"{plural(unknown, 'run')} at an unknown price: not in the sums above, so the true cost is higher.",
            status="budget",
        )
    frame = _by_day(daily)
    has_cost = bool((frame["cost_usd"] > 0).any())
    view = page.view(daily)
    alt = _in_words(frame, has_cost=has_cost, rehearsal=rehearsed > 0)
    picture = _picture(frame, days, last, has_cost=has_cost, rehearsal=rehearsed > 0)
    return View(view.text, view.html, value=daily, png=picture, alt=alt)


def _count(executions: pd.DataFrame, *, rehearsal: bool) -> int:
    """Rehearsed runs, or else finished runs with a model whose price is unknown."""
    if executions.empty:
        return 0
    rehearsed = (
        executions["rehearsal"].astype(bool)
        if "rehearsal" in executions
        else executions.index.to_series().isna()
    )
    if rehearsal:
        return int(rehearsed.sum())
    unpriced = executions["cost_usd"].isna() & ~rehearsed
    if "status" in executions:
        unpriced &= executions["status"].isin(["completed", "incomplete", "failed"])
    if {"error_kind", "input_tokens", "output_tokens"} <= set(executions.columns):
        has_tokens = (executions["input_tokens"] + executions["output_tokens"]) > 0
        unpriced &= has_tokens | ~executions["error_kind"].isin(_REFUSED)
    return int(unpriced.sum())


def _rows(daily: pd.DataFrame, *, only_rehearsal: bool) -> list[list[Cell]]:
    named = daily.groupby("persona", sort=False)
    sums = named[[*_SUMS, "cost_usd"]].sum()
    sums["priced"] = named["cost_usd"].count()
    sums["weighted"] = (daily["duration_ms_mean"] * daily["executions"]).groupby(daily["persona"]).sum()
    sums = sums.sort_values(["cost_usd", "executions"], ascending=False)
    rare = [
        name for name in ("incomplete", "cancelled") if sums[name].any()
    ]  # a column only where it says something
    rows = [_row(str(name), row, only_rehearsal=only_rehearsal, rare=rare) for name, row in sums.iterrows()]
    if len(rows) > 1:
        rows.append(_row("all", sums.sum(), only_rehearsal=only_rehearsal, rare=rare))
    return rows


def _row(name: str, row: Any, *, only_rehearsal: bool, rare: Collection[str]) -> list[Cell]:
    runs = int(row["executions"])
    return [
        Short(one_line(name, 40)),
        Number(f"{runs:,}"),
        Number(f"{int(row['completed']):,}"),
        Number(f"{int(row['incomplete']):,}" if "incomplete" in rare else ""),
        Number(f"{int(row['failed']):,}"),
        Number(f"{int(row['cancelled']):,}" if "cancelled" in rare else ""),
        Number(marks.tokens(int(row["input_tokens"]), rehearsal=only_rehearsal)),
        Number(marks.tokens(int(row["output_tokens"]), rehearsal=only_rehearsal)),
        Number(marks.money(float(row["cost_usd"]) if row["priced"] else None, rehearsal=only_rehearsal)),
        Number(marks.duration(float(row["weighted"]) / runs if runs else None)),
    ]


def _within(daily: pd.DataFrame, days: int, last: date) -> pd.DataFrame:
    """The rows of the days shown, the day as a date."""
    import pandas as pd

    if daily.empty:
        return daily
    day = pd.to_datetime(daily["day"]).dt.date
    return daily.assign(day=day)[(day > last - timedelta(days=days)) & (day <= last)]


def _by_day(daily: pd.DataFrame) -> pd.DataFrame:
    """With the tokens of each row, and the smaller personas as one."""
    frame = daily.assign(
        cost_usd=daily["cost_usd"].fillna(0.0).astype(float),
        tokens=daily["input_tokens"] + daily["output_tokens"],
        persona=daily["persona"].map(lambda name: one_line(name, 24)),
    )
    totals = (
        frame.groupby("persona")[["cost_usd", "tokens"]]
        .sum()
        .sort_values(["cost_usd", "tokens"], ascending=False)
    )
    named = list(totals.index[:NAMED_MAX])
    if len(totals) > NAMED_MAX:
        frame = frame.assign(persona=frame["persona"].where(frame["persona"].isin(named), OTHERS))
    return frame


def _in_words(frame: pd.DataFrame, *, has_cost: bool, rehearsal: bool) -> str:
    """What the picture shows, for who cannot see it."""
    column, noun = ("cost_usd", "cost in US dollars") if has_cost else ("tokens", "tokens")
    by_day = frame.groupby("day")[[column, "executions"]].sum()
    top = by_day[column].idxmax()
    peak = marks.money(float(by_day[column].max())) if has_cost else f"{int(by_day[column].max()):,} tokens"
    estimated = " Rehearsal: $0, tokens estimated." if rehearsal else ""
    return (
        f"Chart: {noun} and executions per day on {plural(len(by_day), 'day')} with runs; "
        f"most on {top} ({peak}); {plural(int(by_day['executions'].sum()), 'execution')} in all.{estimated}"
    )


def _picture(frame: pd.DataFrame, days: int, last: date, *, has_cost: bool, rehearsal: bool) -> bytes:
    # Figure and Agg by themselves: pyplot would keep every figure, and change what the notebook's own plots do.
    from io import BytesIO

    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(8.4, 2.9), dpi=140, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    every_day = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
    estimated = " (rehearsal: estimated)" if rehearsal else ""
    if has_cost:
        _bars(left, frame, "cost_usd", every_day, title="Cost per day", unit="US dollars")
    else:
        _bars(left, frame, "tokens", every_day, title=f"Tokens per day{estimated}", unit="tokens")
    _bars(right, frame, "executions", every_day, title="Executions per day", unit="executions")
    names = list(dict.fromkeys(frame["persona"]))
    if names:
        handles, labels = left.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False, fontsize=8
        )
    if rehearsal:
        left.set_xlabel(r"day (UTC); rehearsal: \$0, tokens estimated", fontsize=8, color="#444444")
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib is typed in part
    # 64 colours hold a bar chart; the file, which a notebook keeps, is a third of its size.
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB").quantize(64)
    file = BytesIO()
    picture.save(file, format="png", optimize=True)
    return file.getvalue()


def _dollars(value: float) -> str:
    """A cost beside an axis: as many digits as it takes, never a power of ten.

    >>> _dollars(0.00004), _dollars(0.25), _dollars(12.0)
    ('0.00004', '0.25', '12')
    """
    return f"{value:,.7f}".rstrip("0").rstrip(".")


def _bars(
    axes: Any, frame: pd.DataFrame, column: str, every_day: list[date], *, title: str, unit: str
) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    below = [0.0] * len(every_day)
    for index, name in enumerate(sorted(set(frame["persona"]), key=lambda name: (name == OTHERS, name))):
        own = frame[frame["persona"] == name].groupby("day")[column].sum()
        heights = [float(own.get(day, 0.0)) for day in every_day]
        colour = marks.GREY if name == OTHERS else _PALETTE[index % len(_PALETTE)]
        # A name that begins with “_” would be left out of the legend, and “$” would begin a formula.
        label = name.replace("$", r"\$").lstrip("_") or "persona"
        hatch = "" if name == OTHERS else _HATCHES[index % len(_HATCHES)]
        look = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
        axes.bar(range(len(every_day)), heights, bottom=below, width=0.8, label=label, **look)
        below = [under + height for under, height in zip(below, heights, strict=True)]
    shown = range(len(every_day) - 1, -1, -max(1, round(len(every_day) / 6)))  # the last day always
    axes.set_xticks(list(shown), [every_day[at].strftime("%b %d") for at in shown])
    axes.set_xlim(-0.6, len(every_day) - 0.4)
    axes.set_ylim(0, max(below) * 1.1 or 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=column != "cost_usd"))
    shown_as = _dollars if column == "cost_usd" else "{:,.0f}".format
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown_as(value)))
    axes.set_title(title, fontsize=10, loc="left", color="#111111")
    axes.set_ylabel(unit, fontsize=8, color="#444444")
    axes.set_xlabel("day (UTC)", fontsize=8, color="#444444")
    axes.tick_params(labelsize=8, colors="#444444")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
