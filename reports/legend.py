"""Legends: one handle per series, and one for every mark that a frame makes use of."""

from __future__ import annotations

import pandas as pd
from matplotlib.lines import Line2D

from reports import style
from reports.cells import LOST, PARTIAL

RING = 8.5


def handles(frame: pd.DataFrame, *, joined: bool) -> list[Line2D]:
    """Return the handles of a frame of curves or of a forest; ``joined`` series have a line."""
    return [*_series(frame, joined), *_bands(frame), *_marks(frame)]


def _series(frame: pd.DataFrame, joined: bool) -> list[Line2D]:
    lines = frame[frame["role"] == "line"].drop_duplicates("series")
    if "x_label" in frame and set(lines["series"]) <= set(frame["x_label"]):
        return []  # the axis names them already
    looks = [
        (str(name), style.look(code))
        for name, code in zip(lines["series"], lines["look"], strict=True)
    ]
    return [
        handle(
            name, x.colour, x.marker, line=x.line if joined else "none", face=x.face, size=x.size
        )
        for name, x in looks
    ]


def _bands(frame: pd.DataFrame) -> list[Line2D]:
    found = []
    for name, codes in frame[frame["role"] == "band"].groupby("series", sort=False)["look"]:
        look = style.look(codes.iloc[0])
        colour = look.colour if len(set(codes)) == 1 else style.GREY
        found.append(handle(str(name), colour, "", line=look.line))
    return found


def _marks(frame: pd.DataFrame) -> list[Line2D]:
    found = []
    if (frame["status"] == PARTIAL).any():
        found.append(handle("trials missing", style.GREY, "o", face="white"))
    if (frame["status"] == LOST).any():
        found.append(handle("no result", style.GREY, "x"))
    if "best" in frame and frame["best"].any():
        found.append(handle("best level", style.GREY, "o", face="none", size=RING))
    if "arrow_up" in frame and frame[["arrow_up", "arrow_down"]].notna().any(axis=None):
        arrow = r"$\updownarrow$" if frame["arrow_down"].notna().any() else r"$\uparrow$"
        found.append(handle("beyond the budgets", style.GREY, arrow, size=6))
    return found


def handle(
    name: str,
    colour: str,
    marker: str,
    *,
    line: style.Line = "none",
    face: str | None = None,
    size: float = 4.0,
) -> Line2D:
    """Return one entry of a legend."""
    return Line2D(
        *([], []),
        color=colour,
        marker=marker,
        linestyle=line,
        markerfacecolor=face or colour,
        markersize=size,
        label=name,
    )
