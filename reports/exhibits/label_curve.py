"""Labelled share against score, and the gain over the control, with patient-bootstrap intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import main_metric, others, panels, planned_cells, units, varying
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit
from reports.series import series_rows


class LabelCurve(FigureExhibit):
    """Score of every method at every label budget, the control beside it."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "label_curve"

    def needs(self, table: TrialTable) -> str | None:
        """At least two label budgets with cells."""
        n = planned_cells(table)["label_fraction"].nunique()
        return None if n > 1 else f"needs two or more label fractions, the study has {n}"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return cells and single trials of every panel."""
        cells = planned_cells(table)
        scores = table.trials[table.trials["metric"] == table.info.main_metric]
        return _panel_rows(cells, table.info, scores)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the curves."""
        metric = main_metric(info)
        better = "higher" if metric.higher_is_better else "lower"
        y_label = f"{metric.label}\n({better} is better)"
        return draw_curves(
            frame, info, width, Axis(scale="log", x_label=_x_label(info), y_label=y_label)
        )

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what points, intervals and dots are."""
        return captions.joined(
            f"{main_metric(info).label} against the share of the training {units(info)} "
            "whose labels were used; below each share the mean numbers of labelled images and "
            f"{units(info)}.",
            captions.bars(info),
            captions.chance(info),
            "Faint dots are single trials (fold, draw and seed).",
            captions.gaps(frame),
            captions.footing(info),
        )


class GainCurve(FigureExhibit):
    """Paired difference of every method to the control at every label budget."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "gain_curve"

    def needs(self, table: TrialTable) -> str | None:
        """A control, a method to compare with it, and at least two label budgets."""
        cells = planned_cells(table)
        if not cells["is_control"].any() or cells["method"].nunique() < 2:
            return "needs a control and a method to compare with it"
        return LabelCurve().needs(table)

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the differences as ``estimate, low, high``."""
        cells = planned_cells(table)
        cells = cells[~cells["is_control"]].drop(columns=["estimate", "low", "high"])
        names = {"difference": "estimate", "difference_low": "low", "difference_high": "high"}
        cells = cells.rename(columns=names)
        cells.loc[cells["estimate"].isna(), "status"] = "missing"
        return _panel_rows(cells, table.info, None)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the differences around zero."""
        metric = main_metric(info)
        better = "above" if metric.higher_is_better else "below"
        y_label = f"Δ {metric.label} to control\n({better} 0 is better)"
        axis = Axis(scale="log", x_label=_x_label(info), y_label=y_label, zero=True)
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is subtracted from what."""
        return captions.joined(
            f"{main_metric(info).label} minus that of the control ({captions.control(info)}) on "
            f"the same test {units(info)} with the same labels; the line at zero means no gain.",
            captions.bars(info),
            captions.gaps(frame),
            captions.footing(info),
        )


def _x_label(info: StudyInfo) -> str:
    return f"labelled training {units(info)} (log scale)"


def _panel_rows(cells: pd.DataFrame, info: StudyInfo, scores: pd.DataFrame | None) -> pd.DataFrame:
    budgets = cells.groupby("label_fraction")[["n_images", "n_patients"]].mean().round()
    parts = []
    for title, inside in panels(cells, info, varying(cells, others(info))):
        lines = series_rows(inside, info, "label_fraction", "method").assign(role="line")
        if scores is not None:
            lines = pd.concat([lines, _dots(lines, scores)], ignore_index=True)
        parts.append(lines.assign(panel=title))
    rows = pd.concat(parts, ignore_index=True)
    rows["x_images"] = rows["label_fraction"].map(budgets["n_images"])
    rows["x_patients"] = rows["label_fraction"].map(budgets["n_patients"])
    return rows


def _dots(lines: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row per trial, a little beside the interval of its cell."""
    place = ["cell", "label_fraction", "method", "series", "look", "x", "at_trials"]
    dots = scores[["trial", "cell", "score"]].merge(lines[place], on="cell")
    names = {"score": "estimate", "at_trials": "at"}
    return dots.rename(columns=names).assign(role="trial")
