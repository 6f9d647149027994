"""Labelled share against score, and the gain over the control, with patient-bootstrap intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import counted, main_metric, planned_cells, samples, units
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit
from reports.series import budget_rows


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
        lines = budget_rows(planned_cells(table), table.info)
        is_shown = table.trials["metric"] == table.info.main_metric
        scores = table.trials[is_shown & ~table.trials["method"].isin(table.info.references)]
        return pd.concat([lines, _dots(lines, scores)], ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the curves."""
        metric = main_metric(info)
        better = "higher" if metric.higher_is_better else "lower"
        y_label = f"{metric.label}\n({better} is better)"
        return draw_curves(
            frame, info, width, Axis(scale="log", x_label=x_label(info), y_label=y_label)
        )

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what points, intervals and dots are."""
        return captions.joined(
            f"{main_metric(info).label} against the {_size(info)} of the training {units(info)} "
            f"whose labels were used{_below(info)}.",
            captions.bars(info),
            captions.chance(info),
            captions.references(frame, info, " (grey dots)"),
            "Faint dots are single trials of an arm (fold, draw and seed).",
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
        arms = cells[~cells["is_control"] & ~cells["is_reference"]]
        if not cells["is_control"].any() or arms.empty:
            return "needs a control and a method to compare with it"
        return LabelCurve().needs(table)

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the differences as ``estimate, low, high``."""
        cells = planned_cells(table)
        cells = cells[~cells["is_control"] & ~cells["is_reference"]]
        cells = cells.drop(columns=["estimate", "low", "high"])
        names = {"difference": "estimate", "difference_low": "low", "difference_high": "high"}
        cells = cells.rename(columns=names)
        cells.loc[cells["estimate"].isna(), "status"] = "missing"
        return budget_rows(cells, table.info)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the differences around zero."""
        metric = main_metric(info)
        y_label = f"Δ {metric.label} to control\n({captions.better(info, '0')})"
        axis = Axis(scale="log", x_label=x_label(info), y_label=y_label, reference="zero")
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is subtracted from what."""
        return captions.joined(
            f"{main_metric(info).label} minus that of the control ({captions.control(info)}) on "
            f"the same test {units(info)} with the same labels; the line at zero means no gain.",
            captions.bars(info),
            captions.training(info),
            captions.gaps(frame),
            captions.footing(info),
        )


def x_label(info: StudyInfo) -> str:
    """Return what an axis of label budgets says."""
    return f"labelled training {units(info)} (log scale)"


def _size(info: StudyInfo) -> str:
    return "number" if counted(info) else "share"


def _below(info: StudyInfo) -> str:
    """Say what stands below each budget beside its own size."""
    if not counted(info):
        return f"; below each share the mean numbers of labelled {samples(info)} and {units(info)}"
    alike = samples(info) == units(info)
    return "" if alike else f"; below it the mean number of labelled {samples(info)}"


def _dots(lines: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row per trial and panel, a little beside the interval of its cell."""
    place = ["cell", "label_fraction", "method", "series", "look", "x", "at_trials"]
    place += ["panel", "x_images", "x_patients"]
    dots = scores[["trial", "cell", "score"]].merge(lines[place], on="cell")
    names = {"score": "estimate", "at_trials": "at"}
    return dots.rename(columns=names).assign(role="trial")
