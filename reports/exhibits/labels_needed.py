"""Labels that the control needs for an arm's score, against the labels the arm had."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import LOST, main_metric, planned_cells, samples
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit
from reports.exhibits.label_curve import GainCurve, x_label
from reports.savings import NEEDED, measured
from reports.series import budget_rows


class LabelsNeeded(FigureExhibit):
    """Above the diagonal the arm saves labels; an arrow says that no budget was enough."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "labels_needed"

    def needs(self, table: TrialTable) -> str | None:
        """What the gain curve needs, and measured labels."""
        if measured(table, NEEDED).empty:
            why = f"labels the control needs were not measured in {main_metric(table.info).label}"
            return GainCurve().needs(table) or why
        return GainCurve().needs(table)

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and budget; ``beyond`` is 1 where the value is "> estimate"."""
        info, cells = table.info, planned_cells(table)
        factors = [factor.name for factor in info.factors]
        chosen = ~cells["is_control"] & ~cells["is_reference"]
        design = cells.loc[chosen, ["cell", *factors, "status", "n_images", "n_patients"]]
        sizes = cells.groupby("label_fraction")[["n_images", "n_patients"]].transform("mean")
        design = design.assign(**sizes.loc[chosen])  # an arm without a result has its place, too
        own = ["n_labels", "estimate", "low", "high", "censored", "low_censored", "high_censored"]
        found = measured(table, NEEDED)[[*factors, *own]]
        rows = design.merge(found, on=factors, how="left")
        rows.loc[rows["estimate"].isna(), "status"] = LOST
        rows = budget_rows(rows.assign(is_control=False), info)
        return _placed(rows)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the curves above and below the diagonal."""
        y_label = f"labels the control needs\n({samples(info)}, log scale)"
        axis = Axis(scale="log", x_label=x_label(info), y_label=y_label, reference="diagonal")
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what an arrow and the diagonal are."""
        most = frame["n_labels"].max()
        return captions.joined(
            f"Labelled {samples(info)} that the control ({captions.control(info)}) needs for the "
            f"{main_metric(info).label} that an arm has with the labels below it: the running best "
            "of the control's curve, linear between its budgets, never continued beyond them.",
            "On the grey diagonal no label is saved; above it the arm saves labels.",
            f"Arrows: more than the largest budget (> {most:.0f} {samples(info)}), or less than "
            "the smallest, at the point or at the end of its bar.",
            captions.bars(info),
            captions.training(info),
            captions.gaps(frame),
            captions.footing(info),
        )


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """Put the axis in images, not shares or patients, and arrows where values lie beyond it."""
    images = rows["n_labels"].groupby(rows["label_fraction"]).transform("mean")
    images = images.fillna(rows["n_images"])
    size = rows["x"].copy()  # the share of the labels, or the number of patients
    for place in ("at", "x"):
        rows[place] = rows[place] * images / size
    beyond = {end: _sign(rows[f"{end}censored"]) for end in ("", "low_", "high_")}
    rows["beyond"] = beyond[""]
    above, below = beyond[""].add(beyond["high_"]) > 0, beyond[""].add(beyond["low_"]) < 0
    rows["arrow_up"] = rows["high"].fillna(rows["estimate"]).where(above)
    rows["arrow_down"] = rows["low"].fillna(rows["estimate"]).where(below)
    return rows


def _sign(flags: pd.Series) -> pd.Series:
    return flags.map(lambda flag: float(flag) if flag == flag and flag is not None else 0.0)
