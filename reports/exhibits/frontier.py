"""Compute against score: how long an arm's encoders were trained, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.arms import arm_keys
from reports.cells import main_metric, others, panels, planned_cells, varying
from reports.drawing import Axis, draw_curves
from reports.exhibit import FigureExhibit
from reports.numbers import duration
from reports.series import method_look, method_name

COSTS = ["images_seen", "training_seconds"]


class Frontier(FigureExhibit):
    """Score of every trained arm against the time its encoders took, one panel per budget."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "frontier"

    def needs(self, table: TrialTable) -> str | None:
        """Two trained arms or more: one has nothing to be dearer than."""
        n = table.costs["training_seconds"].nunique()
        return None if n > 1 else f"needs two or more arms that were trained, the study has {n}"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the trained arms' cells with their costs, and the untrained control as bands."""
        info, keys = table.info, arm_keys(table.info)
        cells = planned_cells(table)
        costs = table.costs[[*keys, *COSTS]].drop_duplicates(keys)
        rows = cells[~cells["is_reference"]].merge(costs, on=keys, how="left")
        is_trained = rows["training_seconds"].notna()
        rows = rows.assign(role=np.where(is_trained, "line", "band"))[
            is_trained | rows["is_control"]
        ]
        rows["series"] = [method_name(info, method) for method in rows["method"]]
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        rows["x"] = rows["at"] = rows["training_seconds"]
        rows["x_label"] = rows["x"].map(duration)
        rows = rows.sort_values(["label_fraction", "role", "x"], kind="stable")
        free = ["label_fraction", *_judging(costs, varying(rows, others(info)), keys)]
        parts = [inside.assign(panel=title) for title, inside in panels(rows, info, free)]
        return pd.concat(parts, ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw one point per arm; those of one method are joined."""
        axis = Axis(
            scale="log",
            x_label="training time of one encoder (log scale)",
            y_label=f"{main_metric(info).label}\n({captions.better_is(info)})",
        )
        return draw_curves(frame, info, width, axis)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is counted."""
        bands = (frame["role"] == "band").any()
        return captions.joined(
            f"{main_metric(info).label} against the time that training one encoder took on the "
            "machine of this study, a mean over folds and seeds, from the first step on; other "
            "work on that machine is in it. The frame has the images that passed, too.",
            captions.bars(info),
            f"Dashed, with a band: the control ({captions.control(info)}), which is not trained."
            if bands
            else "",
            captions.chance(info),
            captions.gaps(frame),
            captions.footing(info),
        )


def _judging(costs: pd.DataFrame, factors: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the factors at whose levels the same encoders are judged: they cost the same."""
    return [
        name
        for name in factors
        if costs.groupby([key for key in keys if key != name], dropna=False)["training_seconds"]
        .nunique()
        .eq(1)
        .all()
    ]
