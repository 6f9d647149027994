"""A grid of labelled tiles, drawn from its frame: images, grey or coloured, heat laid over them."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ablations.table import StudyInfo
from reports import layout, style
from reports.cells import is_empty
from reports.headings import EDGE, draw_heading, height_of
from reports.layout import LETTER, LINE
from reports.numbers import number

# Inches.
GAP, BLOCK_GAP = 0.035, 0.08
MOST_TILE, LEAST_TILE, PAGE = 0.95, 0.28, 8.0  # a smaller tile is narrower than its number
HEAT, MOST_OPAQUE = "viridis", 0.75
# Outcomes that frame a tile: colours and dashes that grey print tells apart.
FRAMES: tuple[tuple[str, style.Line], ...] = (
    ("#D55E00", "-"),
    ("#56B4E9", (0, (2, 1))),
    ("#009E73", (0, (1, 1))),
    ("#CC79A7", (0, (4, 1, 1, 1))),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """The tiles of one panel, and whether its columns need their headings."""

    rows: pd.DataFrame
    headings: tuple[str, ...]
    headed: bool

    @property
    def panel(self) -> str:
        """The heading of the block."""
        return text(self.rows["panel"].iloc[0])

    @property
    def stamp(self) -> str:
        """Whose weights made it."""
        return text(self.rows["stamp"].iloc[0])

    @property
    def n_rows(self) -> int:
        """Rows of tiles."""
        return int(self.rows["row"].nunique())

    @property
    def valued(self) -> list[bool]:
        """Whether numbers stand below each row of tiles."""
        return [bool(group["value"].notna().any()) for _, group in self.rows.groupby("row")]

    @property
    def form(self) -> str:
        """How the numbers are printed: places are whole, probabilities and distances are not."""
        return "{:.0f}" if (self.rows["value"].dropna() % 1 == 0).all() else "{:.2f}"


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What the sheet is divided into, in inches; ``height`` is known last."""

    width: float
    left: float
    tile: float
    start: float
    height: float = 0.0

    def across(self, column: int) -> float:
        """Return the left edge of a column."""
        return self.start + column * (self.tile + GAP)


def draw_tiles(
    frame: pd.DataFrame, info: StudyInfo, width: str, *, rows_alike: bool = False
) -> Figure:
    """Draw tiles, one block per value of ``panel``, with its ``stamp`` at the right.

    ``row, column`` are places in a block, ``pixels`` and ``heat`` PNG in base64; ``row_label`` and
    ``column_label`` stand beside and above (equal ones side by side once), ``value`` below the tile
    and ``mark`` is the colour around it. Where ``rows_alike`` each show another sample, the last of
    every block are left out until the page has room for tiles that are wider than their numbers.
    """
    figure = Figure(figsize=(style.WIDTHS[width], 1), dpi=style.DPI)
    FigureCanvasAgg(figure)
    marks = [mark for mark in dict.fromkeys(map(text, frame["mark"])) if mark]
    looks = dict(zip(marks, FRAMES * (len(marks) // len(FRAMES) + 1), strict=False))
    key = layout.legend(figure, [_handle(mark, *look) for mark, look in looks.items()])
    top = EDGE + (key.get_window_extent().height / style.DPI + GAP if key else 0.0)
    bottom = layout.stamp(figure, info) + GAP
    blocks, sizes = _fitted(frame, style.WIDTHS[width], PAGE - top - bottom)
    while rows_alike and sizes.tile < LEAST_TILE and frame["row"].max() > 0:
        frame = frame[frame["row"] < frame["row"].max()]
        blocks, sizes = _fitted(frame, style.WIDTHS[width], PAGE - top - bottom)
    ends = np.cumsum([top, *(_height(block, sizes) + BLOCK_GAP for block in blocks)])
    height = float(ends[-1]) - BLOCK_GAP + bottom
    figure.set_figheight(height)
    sizes = replace(sizes, height=height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for block, at in zip(blocks, ends, strict=False):
        _draw_block(axes, block, sizes, float(at), looks)
    axes.set(xlim=(0, sizes.width), ylim=(height, 0))
    return figure


def text(value: object) -> str:
    """Return what is printed for a field of a frame that was perhaps read from a file."""
    return "" if is_empty(value) else str(value)


def _blocks(frame: pd.DataFrame) -> Iterator[Block]:
    before: tuple[str, ...] | None = None
    for _, rows in frame.groupby("panel", sort=False):
        first = rows.drop_duplicates("column").set_index("column")["column_label"]
        columns = range(int(rows["column"].max()) + 1)
        headings = tuple(text(first.get(column, "")) for column in columns)
        yield Block(rows=rows, headings=headings, headed=headings != before and any(headings))
        before = headings


def _fitted(frame: pd.DataFrame, width: float, height: float) -> tuple[list[Block], Measures]:
    """Return the blocks, and tiles so small that a page of that size holds them."""
    blocks = list(_blocks(frame))
    letters = max(len(text(label)) for label in frame["row_label"])
    left = EDGE + (letters * LETTER + GAP if letters else 0.0)
    n = int(frame["column"].max()) + 1
    tile = min((width - left - EDGE) / n - GAP, MOST_TILE)
    for _ in range(20):  # smaller until the page holds it
        sizes = Measures(width=width, left=left, tile=tile, start=left)
        if sum(_height(block, sizes) + BLOCK_GAP for block in blocks) <= height:
            break
        tile *= 0.93
    start = left + (width - left - EDGE - n * (tile + GAP)) / 2
    return blocks, Measures(width=width, left=left, tile=tile, start=start)


def _height(block: Block, sizes: Measures) -> float:
    numbers = sum(block.valued) * LINE
    above = height_of(block.panel, block.stamp, sizes.width) + GAP + _head(block, sizes)
    return above + block.n_rows * (sizes.tile + GAP) + numbers


def _head(block: Block, sizes: Measures) -> float:
    """Return the height of the headings of columns."""
    if not block.headed:
        return 0.0
    lines = (words.count("\n") + 1 for words, _, _ in _headings(block, sizes))
    return LINE * max(lines, default=0) + GAP


def _headings(block: Block, sizes: Measures) -> Iterator[tuple[str, float, float]]:
    """Yield each heading, in lines that fit, with the ends of what it stands over."""
    for words, run in groupby(enumerate(block.headings), key=lambda pair: pair[1]):
        columns = [column for column, _ in run]
        begin, end = sizes.across(columns[0]), sizes.across(columns[-1]) + sizes.tile
        if words:
            letters = max(int((end - begin + GAP) / LETTER), 3)
            yield textwrap.fill(words, letters, break_on_hyphens=False), begin, end


def _draw_block(
    axes: Axes, block: Block, sizes: Measures, top: float, looks: dict[str, tuple[str, style.Line]]
) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    draw_heading(figure, block.panel, block.stamp, top)
    at = top + height_of(block.panel, block.stamp, sizes.width) + GAP + _head(block, sizes)
    if block.headed:
        for words, begin, end in _headings(block, sizes):
            axes.text((begin + end) / 2, at - GAP, words, ha="center", va="bottom")
    for (_, row), valued in zip(block.rows.groupby("row"), block.valued, strict=True):
        label = next((x for x in map(text, row["row_label"]) if x), "")
        axes.text(sizes.start - GAP, at + sizes.tile / 2, label, ha="right", va="center")
        for tile in row.to_dict("records"):
            _draw_tile(axes, tile, sizes, at, looks)
            if not is_empty(tile["value"]):
                middle = sizes.across(int(tile["column"])) + sizes.tile / 2
                words = number(float(tile["value"]), block.form)
                axes.text(middle, at + sizes.tile + GAP, words, ha="center", va="top")
        at += sizes.tile + GAP + valued * LINE


def _draw_tile(
    axes: Axes,
    tile: dict[object, object],
    sizes: Measures,
    top: float,
    looks: dict[str, tuple[str, style.Line]],
) -> None:
    left, size = sizes.across(int(str(tile["column"]))), sizes.tile
    extent = (left, left + size, top + size, top)
    pixels = decoded(str(tile["pixels"]))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    axes.imshow(pixels[..., :3], extent=extent, aspect="auto", interpolation="none")
    if text(tile["heat"]):
        heat = decoded(str(tile["heat"]))
        axes.imshow(
            colormaps[HEAT](heat),
            alpha=MOST_OPAQUE * heat,
            extent=extent,
            aspect="auto",
            interpolation="bilinear",
        )
    if text(tile["mark"]):
        colour, line = looks[text(tile["mark"])]
        place = left / sizes.width, 1 - (top + size) / sizes.height
        frame = Rectangle(place, size / sizes.width, size / sizes.height, fill=False)
        frame.set(edgecolor=colour, linestyle=line, linewidth=1.2, transform=axes.transAxes)
        axes.add_patch(frame)


def decoded(png: str) -> np.ndarray:
    """Return an image in 0..1 from PNG in base64."""
    return np.asarray(matplotlib.image.imread(io.BytesIO(base64.b64decode(png)), format="png"))


def _handle(mark: str, colour: str, line: style.Line) -> Line2D:
    return Line2D([], [], color=colour, linestyle=line, linewidth=1.2, label=mark)
