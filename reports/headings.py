"""Headings of blocks: an arm in words, and small at the right whose weights made the picture."""

from __future__ import annotations

from matplotlib.figure import Figure

from reports import layout, style
from reports.layout import LETTER, LINE

EDGE = 0.03  # inches
SMALL = style.STAMP / style.POINTS


def height_of(panel: str, stamp: str, width: float) -> float:
    """Return the inches that a heading takes on a sheet of a width."""
    below = 0.0 if _fits(panel, stamp, width) else LINE * SMALL
    return LINE * len(_lines(panel, width)) + below


def draw_heading(figure: Figure, panel: str, stamp: str, top: float) -> None:
    """Write a heading ``top`` inches below the upper edge of a figure that has its height."""
    width, height = figure.get_size_inches()
    words = "\n".join(_lines(panel, width))
    figure.text(EDGE / width, 1 - top / height, words, ha="left", va="top")
    bottom = top + height_of(panel, stamp, width)
    figure.text(
        *(1 - EDGE / width, 1 - bottom / height, stamp),
        ha="right",
        va="bottom",
        fontsize=style.STAMP,
        color=style.GREY,
    )


def _lines(panel: str, width: float) -> list[str]:
    return layout.filled(panel, int((width - 2 * EDGE) / LETTER)).split("\n")


def _fits(panel: str, stamp: str, width: float) -> bool:
    """Say whether the stamp has room at the right of the last line."""
    letters = len(_lines(panel, width)[-1]) + SMALL * len(stamp)
    return letters * LETTER + 0.1 < width - 2 * EDGE
