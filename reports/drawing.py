"""Curves in panels: points with intervals, bands, single trials and marks of what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.table import StudyInfo
from reports import layout, style
from reports.cells import LOST, PARTIAL, counted, samples, units
from reports.legend import RING, handle, handles

ARROW = "<|-,head_width=0.15,head_length=0.3"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What the axes of a curve say; ``scale`` is category, linear or log.

    ``reference`` is what to compare with: chance, zero, the diagonal where y is the same quantity
    as x, or a floor at zero. ``columns`` is how many panels stand beside each other.
    """

    scale: str
    x_label: str
    y_label: str
    reference: Literal["chance", "zero", "diagonal", "floor"] = "chance"
    joined: bool = True
    columns: int | None = None


def draw_curves(frame: pd.DataFrame, info: StudyInfo, width: str, axis: Axis) -> Figure:
    """Draw a frame of curves, one panel per value of its column ``panel``.

    Rows by ``role``: ``line`` (a cell), ``band`` (a control that is the same at every x) and
    ``trial``; columns as ``series_rows`` gives them. ``arrow_up`` and ``arrow_down``, if there, are
    where a value is only known to lie beyond.
    """
    titles = list(dict.fromkeys(frame["panel"]))
    page = layout.sheet(width, len(titles), share_y=True, columns=axis.columns)
    for axes, title in zip(page.panels, titles, strict=True):
        _draw_panel(axes, frame[frame["panel"] == title], axis)
        if len(titles) > 1:
            layout.title(page, axes, title)
        _ticks(axes, frame, info, axis.scale)
        if axis.reference == "diagonal":
            _draw_diagonal(axes, frame)
    if "x_images" in frame:
        _head_ticks(page.corner, info)
    _references(page.panels, info, axis)
    labels = (axis.x_label, axis.y_label)
    keys = handles(frame, joined=axis.joined)
    if axis.reference == "diagonal":
        keys.append(handle("no label saved", style.DIAGONAL, "", line="-"))
    layout.finish(page, info, labels, keys, names_on_x=axis.scale == "category")
    return page.figure


def _draw_panel(axes: Axes, rows: pd.DataFrame, axis: Axis) -> None:
    for _, series in rows[rows["role"] == "band"].groupby("series", sort=False):
        _draw_band(axes, series)
    for _, series in rows[rows["role"] == "trial"].groupby("series", sort=False):
        look = style.look(series["look"].iloc[0])
        axes.plot(
            *(series["at"], series["estimate"], "."),
            color=look.colour,
            alpha=0.45,
            markersize=3.5,
            markeredgewidth=0,
            zorder=1.5,
        )
    for _, series in rows[rows["role"] == "line"].groupby("series", sort=False):
        _draw_line(axes, series, axis.joined)


def _draw_band(axes: Axes, series: pd.DataFrame) -> None:
    columns = ["look", "low", "high", "estimate"]
    for code, low, high, middle in series[columns].itertuples(index=False):
        look = style.look(code)
        axes.axhspan(low, high, color=look.colour, alpha=0.12, linewidth=0, zorder=1)
        axes.axhline(middle, color=look.colour, linestyle=look.line, linewidth=1, zorder=1.2)


def _draw_line(axes: Axes, series: pd.DataFrame, joined: bool) -> None:
    look = style.look(series["look"].iloc[0])
    x, y = series["at"], series["estimate"]
    known = y.mask(series["beyond"] != 0) if "beyond" in series else y
    if joined:
        axes.plot(x, known, color=look.colour, linestyle=look.line, linewidth=look.width, zorder=2)
    width = look.width / 1.2
    axes.vlines(x, series["low"], series["high"], color=look.colour, linewidth=width, zorder=2.5)
    for status, face in (("full", look.face), (PARTIAL, "white")):
        here = series["status"] == status
        point = axes.plot(x[here], y[here], look.marker, color=look.colour, mfc=face, zorder=3)
        point[0].set_markersize(look.size)
    lost = x[series["status"] == LOST]
    ends = axes.get_xaxis_transform()
    axes.plot(lost, np.full(len(lost), 0.04), "x", color=look.colour, transform=ends, clip_on=False)
    if "best" in series:
        best = series["best"].astype(bool)
        axes.plot(x[best], y[best], "o", color=look.colour, mfc="none", markersize=RING, zorder=3.5)
    if "arrow_up" in series:
        _draw_arrow(axes, x, series["arrow_up"], look.colour, 11)
        _draw_arrow(axes, x, series["arrow_down"], look.colour, -11)


def _draw_arrow(axes: Axes, x: pd.Series, y: pd.Series, colour: str, points: float) -> None:
    for at, start in zip(x[y.notna()], y[y.notna()], strict=True):
        axes.annotate(
            *("", (at, start)),
            xytext=(0, points),
            textcoords="offset points",
            arrowprops={"arrowstyle": ARROW, "color": colour, "shrinkA": 0, "shrinkB": 0},
        )


def _draw_diagonal(axes: Axes, frame: pd.DataFrame) -> None:
    levels = frame.dropna(subset=["x"]).drop_duplicates("x").sort_values("x")
    axes.set_yscale("log")
    axes.set_yticks(levels["x"], [short(images) for images in levels["x_images"]])
    axes.minorticks_off()
    ends = levels["x"].iloc[[0, -1]]
    axes.plot(ends, ends, color=style.DIAGONAL, linewidth=1, zorder=1.1)
    axes.margins(y=0.14)


def _ticks(axes: Axes, frame: pd.DataFrame, info: StudyInfo, scale: str) -> None:
    levels = frame.dropna(subset=["x"]).drop_duplicates("x").sort_values("x")
    if scale == "log":
        axes.set_xscale("log")
    if "x_images" in levels:
        columns = [_shorts(levels[column]) for column in _budget_lines(info).values()]
        texts = ["\n".join(lines) for lines in zip(*columns, strict=True)]
    else:
        texts = list(levels["x_label"])
    axes.set_xticks(levels["x"], texts)
    axes.minorticks_off()
    axes.margins(x=0.06)
    if scale == "category":
        axes.set_xlim(levels["x"].min() - 0.6, levels["x"].max() + 0.6)


def _head_ticks(axes: Axes, info: StudyInfo) -> None:
    """Name the lines of the tick labels at their left."""
    axes.annotate(
        "\n".join(_budget_lines(info)),
        *((0, 0), (-12, -axes.xaxis.get_tick_padding() - 3.5)),
        xycoords="axes fraction",
        textcoords="offset points",
        color=style.GREY,
        ha="right",
        va="top",
    )


def _budget_lines(info: StudyInfo) -> dict[str, str]:
    """Return what stands below a budget: a head and the column that it is taken from."""
    lines = {samples(info): "x_images", units(info): "x_patients"}
    return dict(reversed(lines.items())) if counted(info) else {"labels": "x_label"} | lines


def _shorts(values: pd.Series) -> list[str]:
    return [x if isinstance(x, str) else short(x) for x in values]


def short(number: float) -> str:
    """Return a count in at most four signs: 83, 1.2k, 25k; a dash where it is unknown."""
    if math.isnan(number):
        return "–"
    if number < 999.5:
        return f"{number:.0f}"
    return f"{number / 1000:.1f}k" if number < 9950 else f"{number / 1000:.0f}k"


def _references(grid: Sequence[Axes], info: StudyInfo, axis: Axis) -> None:
    """Draw zero, or chance where it lies among the scores already drawn."""
    chance = info.metric(info.main_metric).chance
    low, high = grid[0].get_ylim()
    for axes in grid:
        if axis.reference == "zero":
            axes.axhline(0, color="0.1", linewidth=0.8, zorder=1.1)
        elif axis.reference == "chance" and chance is not None and low <= chance <= high:
            axes.axhline(chance, color=style.GREY, linestyle=":", linewidth=1, zorder=1.1)
        elif axis.reference == "floor":
            axes.set_ylim(bottom=0)
