"""Operating points: what thresholds from the budget's labels reach on the test images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions, layout, style
from reports.cells import ALL, LOST, others, panels, varying
from reports.exhibit import FigureExhibit
from reports.exhibits.calibration import POINTS
from reports.legend import handle
from reports.series import method_look, method_name

REACHED = ("sensitivity", "specificity")
POINT = ["oracle", *(f"{name}{end}" for name in REACHED for end in ("", "_low", "_high"))]


class OperatingPoints(FigureExhibit):
    """Sensitivity over specificity at the budget's thresholds, one panel per promise."""

    of_classes: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "operating_points"

    def needs(self, table: TrialTable) -> str | None:
        """A threshold that was chosen inside a budget."""
        cells = table.cells
        names = [_metric(name, at) for at in POINTS for name in REACHED]
        known = cells["metric"].isin(names) & cells["estimate"].notna()
        return None if known.any() else "no threshold was chosen inside a budget"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and promised specificity, with what was reached."""
        info, cells = table.info, arms.largest_budgets(table)
        keys = ["cell", "label_fraction", *arms.arm_keys(info)]
        cells = cells[[*keys, "is_control", "is_reference"]]
        parts = [
            _promised(inside, table, at).assign(panel=_title(title, at))
            for title, inside in panels(cells, info, varying(cells, others(info)))
            for at in POINTS
        ]
        rows = pd.concat(parts, ignore_index=True)
        rows["series"] = [method_name(info, method) for method in rows["method"]]
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        known = rows[["sensitivity", "specificity"]].notna().all(axis=1)
        rows["status"] = np.where(known, "full", LOST)
        return rows[known.groupby(rows["panel"]).transform("any")].reset_index(drop=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw a cross of two intervals per arm, and the promise as a line."""
        titles = list(dict.fromkeys(frame["panel"]))
        page = layout.sheet(width, len(titles), share_y=True)
        for axes, title in zip(page.panels, titles, strict=True):
            inside = frame[frame["panel"] == title]
            axes.axvline(inside["promised"].iloc[0], color=style.DIAGONAL, linewidth=1, zorder=1.1)
            for row in inside.to_dict("records"):
                _draw_point(axes, row)
            layout.title(page, axes, title)
            axes.margins(0.06)
        labels = ("specificity reached", "sensitivity reached")
        shown = frame.drop_duplicates("series")
        looks = zip(shown["series"], map(style.look, shown["look"]), strict=True)
        keys = [handle(x, look.colour, look.marker, size=look.size) for x, look in looks]
        keys.append(handle("oracle", style.GREY, "o", face="white"))
        keys.append(handle("promised", style.DIAGONAL, "", line="-"))
        if (frame["status"] == LOST).any():
            keys.append(handle("no threshold", style.GREY, "x"))
        layout.finish(page, info, labels, keys, names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say whose labels chose the thresholds."""
        return captions.joined(
            "Operating points of the test images "
            f"{arms.budget_words(frame, info)}: the threshold had the promised specificity (line) "
            "on the labels of the budget, scored out of sample; no test label chose it. Left of the"
            " line more healthy images are called positive than was promised. Bars are 95 % "
            f"intervals ({captions.resampled(info)}). Hollow, on the line: the oracle, the highest "
            "sensitivity at that specificity read off the test ROC curve, which nobody could have "
            "chosen beforehand.",
            captions.references(frame, info, " (grey)"),
            captions.footing(info),
        )


def _metric(name: str, at: int) -> str:
    return f"{name}_at_budget_threshold_{at}"


def _title(panel: str, at: int) -> str:
    promise = f"promised specificity {at} %"
    return promise if panel == ALL else f"{panel}; {promise}"


def _promised(cells: pd.DataFrame, table: TrialTable, at: int) -> pd.DataFrame:
    names = {_metric(name, at): name for name in REACHED} | {
        f"sensitivity_at_{at}_specificity": "oracle"
    }
    rows = arms.with_scores(cells, table, names)
    own = {f"{old}{end}": f"{new}{end}" for old, new in names.items() for end in _ends()}
    rows = rows.rename(columns=own).drop(columns=["oracle_low", "oracle_high"])
    return rows.assign(promised=at / 100)


def _ends() -> tuple[str, ...]:
    return "", "_low", "_high"


def _draw_point(axes: Axes, row: arms.Row) -> None:
    look, place = style.look(str(row["look"])), (row["specificity"], row["sensitivity"])
    if row["status"] == LOST:
        axes.plot(0.04, 0.5, "x", color=look.colour, transform=axes.transAxes, clip_on=False)
        return
    bars = (
        axes.hlines(place[1], row["specificity_low"], row["specificity_high"]),
        axes.vlines(place[0], row["sensitivity_low"], row["sensitivity_high"]),
    )
    for bar in bars:
        bar.set(color=look.colour, linewidth=0.8, zorder=2.5)
    axes.plot(*place, look.marker, color=look.colour, mfc=look.face, markersize=look.size, zorder=3)
    oracle = axes.plot(row["promised"], row["oracle"], look.marker, color=look.colour, mfc="white")
    oracle[0].set(markersize=look.size, zorder=2.8)
