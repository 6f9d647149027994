"""Score against any factor: points with intervals, one colour per label budget, control as band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import (
    LOST,
    in_order,
    labelled,
    main_metric,
    others,
    panels,
    planned_cells,
    varying,
)
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit
from reports.series import (
    level_look,
    mark_best,
    method_look,
    method_name,
    scale_of,
    series_rows,
)


@dataclass(frozen=True)
class FactorCurve(FigureExhibit):
    """How the score moves with one factor; works for every factor a study declares."""

    factor: str

    @property
    def name(self) -> str:
        """Stem of the files."""
        return f"factor_{self.factor.replace('.', '_')}"  # a dot would begin a suffix

    @classmethod
    def each(cls, info: StudyInfo) -> Sequence[Self]:
        """Return one exhibit per factor beside the label fraction."""
        return tuple(cls(name) for name in (*others(info), "method"))

    def needs(self, table: TrialTable) -> str | None:
        """Two or more levels; methods stand in the label curve when there are several budgets."""
        cells = planned_cells(table)
        n = len(set(cells[self.factor].dropna()))
        if n < 2:
            return f"needs two or more levels of {self.factor}, the study has {n}"
        several = self.factor == "method" and len(set(cells["label_fraction"])) > 1
        return "shown in label_curve" if several else None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the cells of every panel; controls without a level become bands."""
        info, cells = table.info, planned_cells(table)
        # A reference sees no image: what is said of images is no level of it.
        cells = cells[~cells["is_reference"] | cells[self.factor].notna()]
        has_level = cells[self.factor].notna()
        by = "label_fraction" if varying(cells, ["label_fraction"]) else "method"
        free = [name for name in ("method", *others(info)) if name not in (self.factor, by)]
        pretrained = cells[has_level & ~cells["is_control"]]
        across = varying(pretrained if "method" in free else cells, free)
        spread = cells.assign(method_name=cells["method"])
        if "method" in across:
            # The control belongs beside every method.
            spread["method"] = spread["method"].mask(spread["is_control"])
        parts = [
            _panel(inside, info, self.factor, by).assign(panel=title)
            for title, inside in panels(spread[has_level | spread["is_control"]], info, across)
            if inside[self.factor].notna().any()
        ]
        return pd.concat(_worth(parts), ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the curves, or points where the factor is a category."""
        metric, factor = main_metric(info), info.factor(self.factor)
        scale, better = scale_of(factor), "higher" if metric.higher_is_better else "lower"
        axis = Axis(
            scale=scale,
            x_label=factor.label + (" (log scale)" if scale == "log" else ""),
            y_label=f"{metric.label}\n({better} is better)",
            joined=scale != "category",
        )
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what points, bands and rings are."""
        has_band, has_best = (frame["role"] == "band").any(), frame["best"].any()
        return captions.joined(
            f"{main_metric(info).label} against {info.factor(self.factor).label}.",
            captions.bars(info),
            captions.chance(info),
            f"Dashed lines with bands: the control ({captions.control(info)}) with the same labels."
            if has_band
            else "",
            _bandless(frame, info),
            "A ring marks the best level at each label budget." if has_best else "",
            captions.references(frame, info),
            captions.gaps(frame),
            captions.footing(info),
        )


def _panel(cells: pd.DataFrame, info: StudyInfo, factor: str, by: str) -> pd.DataFrame:
    cells = cells.assign(method=cells["method_name"]).drop(columns="method_name")
    if by == "label_fraction":
        # The control of a budget stands next to what it is the control of.
        cells = in_order(cells, info, ["label_fraction", "method", factor])
    has_level = cells[factor].notna()
    lines = series_rows(cells[has_level], info, factor, by).assign(role="line")
    lines["best"] = _best(lines, info, factor)
    if has_level.all():
        return lines
    bands = cells[~has_level].assign(role="band", best=False)
    bands["series"] = [method_name(info, method) for method in bands["method"]]
    pairs = zip(bands["method"], bands["label_fraction"], strict=True)
    bands["look"] = [
        method_look(info, method) if by == "method" else level_look(info, by, value, True)
        for method, value in pairs
    ]
    return pd.concat([lines, bands], ignore_index=True)


def _best(lines: pd.DataFrame, info: StudyInfo, factor: str) -> pd.Series:
    """Mark the best level of every series; a control is not in the contest of other factors."""
    higher = main_metric(info).higher_is_better
    if factor == "method":
        return mark_best(lines, ["label_fraction"], higher)
    return mark_best(lines, ["series"], higher) & ~lines["is_control"]


def _bandless(frame: pd.DataFrame, info: StudyInfo) -> str:
    """Name the budgets whose control has no result: an absent band has no place for a cross."""
    absent = frame[(frame["role"] == "band") & (frame["status"] == LOST)]
    shares = [labelled(info, x) for x in absent["label_fraction"].drop_duplicates()]
    return f"No result for the control at {', '.join(shares)}." if shares else ""


def _worth(parts: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Drop panels with a single level where others have several: one-factor-at-a-time designs."""
    wide = [part for part in parts if len(set(part["x"].dropna())) > 1]
    return wide or parts
