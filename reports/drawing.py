"""Curves in panels: points with intervals, bands, single trials and marks of what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo
from reports import layout, style
from reports.cells import LOST, PARTIAL, units

RING = 8.5


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What the axes of a curve say; ``scale`` is category, linear or log."""

    scale: str
    x_label: str
    y_label: str
    zero: bool = False
    joined: bool = True


def draw_curves(frame: pd.DataFrame, info: StudyInfo, width: str, axis: Axis) -> Figure:
    """Draw a frame of curves, one panel per value of its column ``panel``.

    Rows by ``role``: ``line`` (a cell), ``band`` (a control that is the same at every x) and
    ``trial``; columns as ``series_rows`` gives them.
    """
    titles = list(dict.fromkeys(frame["panel"]))
    page = layout.sheet(width, len(titles), share_y=True)
    for axes, title in zip(page.panels, titles, strict=True):
        _draw_panel(axes, frame[frame["panel"] == title], axis)
        if len(titles) > 1:
            layout.title(page, axes, title)
        _ticks(axes, frame, axis.scale)
    if "x_images" in frame:
        _head_ticks(page.corner, info)
    _references(page.panels, info, axis)
    labels = (axis.x_label, axis.y_label)
    layout.finish(page, info, labels, _handles(frame, axis), names_on_x=axis.scale == "category")
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
    if joined:
        axes.plot(x, y, color=look.colour, linestyle=look.line, zorder=2)
    axes.vlines(x, series["low"], series["high"], color=look.colour, linewidth=1, zorder=2.5)
    for status, face in (("full", look.face), (PARTIAL, "white")):
        here = series["status"] == status
        axes.plot(x[here], y[here], look.marker, color=look.colour, mfc=face, zorder=3)
    lost = x[series["status"] == LOST]
    ends = axes.get_xaxis_transform()
    axes.plot(lost, np.full(len(lost), 0.04), "x", color=look.colour, transform=ends, clip_on=False)
    if "best" in series:
        best = series["best"].astype(bool)
        axes.plot(x[best], y[best], "o", color=look.colour, mfc="none", markersize=RING, zorder=3.5)


def _ticks(axes: Axes, frame: pd.DataFrame, scale: str) -> None:
    levels = frame.dropna(subset=["x"]).drop_duplicates("x").sort_values("x")
    if scale == "log":
        axes.set_xscale("log")
    if "x_images" in levels:
        names = levels[["x_label", "x_images", "x_patients"]].itertuples(index=False)
        texts = [f"{share}\n{short(images)}\n{short(people)}" for share, images, people in names]
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
        f"labels\nimages\n{units(info)}",
        *((0, 0), (-12, -axes.xaxis.get_tick_padding() - 3.5)),
        xycoords="axes fraction",
        textcoords="offset points",
        color=style.GREY,
        ha="right",
        va="top",
    )


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
        if axis.zero:
            axes.axhline(0, color="0.1", linewidth=0.8, zorder=1.1)
        elif chance is not None and low <= chance <= high:
            axes.axhline(chance, color=style.GREY, linestyle=":", linewidth=1, zorder=1.1)


def _handles(frame: pd.DataFrame, axis: Axis) -> list[Line2D]:
    handles = []
    lines = frame[frame["role"] == "line"].drop_duplicates("series")
    if set(lines["series"]) <= set(frame["x_label"]):
        # The axis names them already.
        lines = lines.iloc[:0]
    for name, code in lines[["series", "look"]].itertuples(index=False):
        look = style.look(code)
        line = look.line if axis.joined else "none"
        handles.append(_handle(name, look.colour, look.marker, line, look.face))
    bands = frame[frame["role"] == "band"]
    for name, codes in bands.groupby("series", sort=False)["look"]:
        look = style.look(codes.iloc[0])
        colour = look.colour if len(set(codes)) == 1 else style.GREY
        handles.append(_handle(str(name), colour, "", look.line, colour))
    if (frame["status"] == PARTIAL).any():
        handles.append(_handle("trials missing", style.GREY, "o", "none", "white"))
    if (frame["status"] == LOST).any():
        handles.append(_handle("no result", style.GREY, "x", "none", style.GREY))
    if "best" in frame and frame["best"].any():
        handles.append(_handle("best level", style.GREY, "o", "none", "none", size=RING))
    return handles


def _handle(
    name: str, colour: str, marker: str, line: style.Line, face: str, *, size: float = 4.0
) -> Line2D:
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        linestyle=line,
        markerfacecolor=face,
        markersize=size,
        label=name,
    )
