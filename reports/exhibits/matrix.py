"""Two factors crossed: the score of every pair of levels, in colour and in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout
from reports.cells import LOST, PARTIAL, main_metric, others, panels, planned_cells, varying
from reports.exhibit import FigureExhibit
from reports.numbers import DASH
from reports.series import mark_best, value_name

COLOURS, LETTERS = "Blues", 22
ROW, FIELD, ROOM = 0.3, 0.45, 5.2  # inches: a row, the least width of a field, that of a page


@dataclass(frozen=True)
class Matrix(FigureExhibit):
    """Score by two factors, one panel per label budget (and level of any further factor)."""

    down: str
    across: str

    @property
    def name(self) -> str:
        """Stem of the files."""
        return f"matrix_{self.down}_{self.across}".replace(".", "_")

    @classmethod
    def each(cls, info: StudyInfo) -> Sequence[Self]:
        """Return one exhibit per pair of factors beside the label fraction, methods downwards."""
        return tuple(cls(*pair) for pair in combinations(["method", *others(info)], 2))

    def needs(self, table: TrialTable) -> str | None:
        """Two or more levels of each, crossed."""
        cells = self._cells(table)
        for name in (self.down, self.across):
            if cells[name].nunique() < 2:
                return f"needs two or more crossed levels of {name}"
        return None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the cells that have a level of both, with ``row``, ``column`` and ``shade``."""
        info, cells = table.info, self._cells(table)
        rest = [x for x in ("label_fraction", "method", *others(info))
                if x not in (self.down, self.across)]  # fmt: skip
        free = varying(cells, rest)
        parts = [inside.assign(panel=title) for title, inside in panels(cells, info, free)]
        rows = pd.concat(parts, ignore_index=True)
        for place, name in (("row", self.down), ("column", self.across)):
            shown = [x for x in info.factor(name).values if x in set(rows[name])]
            rows[place] = rows[name].map({value: i for i, value in enumerate(shown)}).astype(int)
            rows[f"{place}_label"] = [value_name(info, name, value) for value in rows[name]]
        rows["best"] = mark_best(rows, ["panel"], main_metric(info).higher_is_better)
        rows["shade"] = rows.groupby("panel", sort=False)["estimate"].transform(_between_ends)
        if not main_metric(info).higher_is_better:
            rows["shade"] = 1 - rows["shade"]
        return rows

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw a coloured table per panel; the best pair is bold."""
        titles = list(dict.fromkeys(frame["panel"]))
        n_rows, n_columns = frame["row"].max() + 1, frame["column"].max() + 1
        fit = max(int(ROOM / (FIELD * n_columns + 0.2)), 1) if width == "double" else 1
        page = layout.sheet(
            *(width, len(titles)),
            share_y=True,
            height=ROW * n_rows,
            columns=min(fit, len(titles)),
        )
        for axes, title in zip(page.panels, titles, strict=True):
            _draw_panel(axes, frame[frame["panel"] == title])
            axes.set_xlim(-0.5, n_columns - 0.5)
            axes.set_ylim(n_rows - 0.5, -0.5)
            _name_ticks(axes, frame)
            if len(titles) > 1:
                layout.title(page, axes, title)
        labels = (info.factor(self.across).label, info.factor(self.down).label)
        layout.finish(page, info, labels, (), names_on_x=True)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what colours and bold figures are."""
        is_odd = frame["status"].isin([PARTIAL, LOST]).any()
        return captions.joined(
            f"{main_metric(info).label} by {info.factor(self.down).label} and "
            f"{info.factor(self.across).label}; {captions.better_is(info)}. The darker, the better "
            "within its panel; bold is the best of a panel, which says nothing of its "
            "significance: intervals are in main_table and in the frame.",
            f"In italics: some trials missing; {DASH}: no result." if is_odd else "",
            captions.footing(info),
        )

    def _cells(self, table: TrialTable) -> pd.DataFrame:
        cells = planned_cells(table)
        crossed = cells[self.down].notna() & cells[self.across].notna() & ~cells["is_reference"]
        return cells[crossed]


def _between_ends(scores: pd.Series) -> pd.Series:
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else scores * 0 + 0.5


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    axes.grid(visible=False)
    for cell in rows.to_dict("records"):
        place, shade = (cell["column"], cell["row"]), cell["shade"]
        known = cell["status"] != LOST
        colour = colormaps[COLOURS](0.05 + 0.75 * shade) if known else "white"
        corner = (place[0] - 0.5, place[1] - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1))
        axes.text(
            *place,
            f"{cell['estimate']:.3f}" if known else DASH,
            ha="center",
            va="center",
            color="white" if known and shade > 0.6 else "black",
            fontweight="bold" if cell["best"] else "normal",
            fontstyle="italic" if cell["status"] == PARTIAL else "normal",
        )


def _name_ticks(axes: Axes, frame: pd.DataFrame) -> None:
    for axis, place in ((axes.xaxis, "column"), (axes.yaxis, "row")):
        named = frame.drop_duplicates(place).sort_values(place)
        texts = [layout.filled(text, LETTERS) for text in named[f"{place}_label"]]
        axis.set_ticks(named[place], texts)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
