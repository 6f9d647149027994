"""Are the probabilities right, and what do thresholds from the budget reach? Curve and table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions, layout, style
from reports.exhibit import FigureExhibit, Grid, TableExhibit
from reports.legend import handle
from reports.numbers import SCORE
from reports.series import method_look

LINEAR, ROOT = "linear", "square root"
# Below this share of positives most bins would lie in one corner of a linear picture.
RARE = 0.2
EVEN_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# On square-root axes, by the largest value that must have a place.
ROOT_TICKS = {
    0.1: (0.0, 0.01, 0.02, 0.05, 0.1),
    0.5: (0.0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5),
    1.0: (0.0, 0.05, 0.2, 0.5, 1.0),
}
BINS = ["cell", "bin", "confidence", "frequency", "n_images"]
POINTS = (95, 90)
# Column of the table: metric, and the lines of its head.
COLUMNS = {
    "brier": ("Brier", "score"),
    "ece": ("calibration", "error"),
    **{
        name: head
        for at in POINTS
        for name, head in (
            (f"sensitivity_at_budget_threshold_{at}", ("sensitivity", f"budget's {at} %")),
            (f"specificity_at_budget_threshold_{at}", ("specificity", f"budget's {at} %")),
            (f"sensitivity_at_{at}_specificity", ("sensitivity", f"oracle's {at} %")),
        )
    },
}


class Reliability(FigureExhibit):
    """Mean predicted probability against observed frequency, one panel per arm."""

    of_classes: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "reliability"

    def needs(self, table: TrialTable) -> str | None:
        """Binned probabilities."""
        return "no predicted probabilities were binned" if table.reliability.empty else None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and bin; ``area`` is the size of a marker, 1 for the fullest."""
        info, cells = table.info, arms.largest_budgets(table)
        rows = cells[["cell", "label_fraction", *arms.arm_keys(info)]]
        rows = rows.merge(table.reliability[BINS], on="cell", how="left")
        rows["panel"] = arms.arm_names(rows, info)
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        rows["area"] = rows["n_images"] / rows["n_images"].max()
        filled = rows.dropna(subset=["frequency"])
        mean = np.average(filled["frequency"], weights=filled["n_images"])
        rows["scale"], rows["most"] = (
            ROOT if mean < RARE else LINEAR,
            float(filled[["confidence", "frequency"]].to_numpy().max()),
        )
        return rows

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw one panel per arm with the diagonal."""
        titles = list(dict.fromkeys(frame["panel"]))
        page = layout.sheet(width, len(titles), share_y=True)
        for axes, title in zip(page.panels, titles, strict=True):
            layout.title(page, axes, title)
            _draw_bins(axes, frame[frame["panel"] == title])
            _scale(axes, frame)
        note = " (square-root scale)" if frame["scale"].iloc[0] == ROOT else ""
        labels = (f"mean predicted probability{note}", "observed frequency")
        lost = [handle("no result", style.GREY, "x")] if frame["frequency"].isna().any() else []
        layout.finish(page, info, labels, lost, names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what points and diagonal are."""
        lost = list(dict.fromkeys(frame.loc[frame["frequency"].isna(), "panel"]))
        return captions.joined(
            "Reliability of the predicted probabilities of all test images "
            f"{arms.budget_words(frame, info)}, in bins; the larger a point, the more images. On "
            "the grey diagonal probabilities are right, below it they promise too much.",
            "Square-root axes: positives are rare, and most bins lie near zero."
            if frame["scale"].iloc[0] == ROOT
            else "",
            captions.references(frame, info, " (grey)"),
            f"No result: {', '.join(lost)}." if lost else "",
            captions.footing(info),
        )


class Calibration(TableExhibit):
    """Calibration and operating points, one row per arm at the largest budget."""

    of_classes: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "calibration"

    def needs(self, table: TrialTable) -> str | None:
        """At least one of the scores."""
        known = table.cells["metric"].isin(COLUMNS) & table.cells["estimate"].notna()
        return None if known.any() else "no calibration and no operating point was measured"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the scores with intervals."""
        keys = ["cell", "label_fraction", *arms.arm_keys(table.info)]
        return arms.with_scores(arms.largest_budgets(table)[keys], table, COLUMNS)

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return a column per score."""
        columns = [arms.score_column(name, SCORE, *head) for name, head in COLUMNS.items()]
        return arms.grid(frame, info, columns)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say which thresholds saw the test labels."""
        return captions.joined(
            f"Calibration and operating points {arms.budget_words(frame, info)}, with 95 % "
            f"intervals ({captions.resampled(info)}). Brier score and expected calibration error: "
            "lower is better. Budget's: reached on the test images by the threshold that had a "
            "specificity of 95 % (90 %) on the labels of the budget, scored out of sample; no test "
            "label chose it. Oracle's: read off the test ROC curve at that specificity, which "
            "nobody could have done beforehand. A dash: not measured.",
            captions.references(frame, info),
            captions.footing(info),
        )


def _draw_bins(axes: Axes, rows: pd.DataFrame) -> None:
    look, most = style.look(str(rows["look"].iloc[0])), rows["most"].iloc[0]
    axes.plot([0, most], [0, most], color=style.DIAGONAL, linewidth=1, zorder=1.1)
    if rows["frequency"].isna().all():
        axes.plot(0.5, 0.5, "x", color=look.colour, transform=axes.transAxes)
        return
    rows = rows.dropna(subset=["frequency"])
    place = rows["confidence"], rows["frequency"]
    axes.plot(*place, color=look.colour, linestyle=look.line, linewidth=look.width, zorder=2)
    axes.scatter(
        *place,
        s=18 * rows["area"],
        marker=look.marker,
        color=look.colour,
        linewidths=0,
        clip_on=False,
        zorder=3,
    )


def _scale(axes: Axes, frame: pd.DataFrame) -> None:
    most = 1.04 * frame["most"].iloc[0]
    places: tuple[float, ...] = EVEN_TICKS
    if frame["scale"].iloc[0] == ROOT:
        places = ROOT_TICKS[min(end for end in ROOT_TICKS if frame["most"].iloc[0] <= end)]
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("function", functions=(_root, _square))
    axes.set(xlim=(0, most), ylim=(0, most))
    shown = [x for x in places if x <= most]
    for setter in (axes.set_xticks, axes.set_yticks):
        setter(shown, [f"{x:g}" for x in shown])


def _root(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.maximum(x, 0)))


def _square(x: np.ndarray) -> np.ndarray:
    return np.asarray(x) ** 2
