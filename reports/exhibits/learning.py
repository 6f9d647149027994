"""What a pretext teaches while it is learnt: its loss over epochs, and below it a probe's score."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.cells import units
from reports.exhibit import FigureExhibit
from reports.stages import draw_stages, settings_of

SERIES = {"loss": "pretext loss", "knn_roc_auc": "kNN ROC AUC"}
COLUMNS = {"single": 2, "double": 4}


class Learning(FigureExhibit):
    """Loss and probe score against the epoch, a column per method."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "learning"

    def needs(self, table: TrialTable) -> str | None:
        """Probe scores that the watchdog logged."""
        scored = table.curves["series"] == "knn_roc_auc"
        return None if scored.any() else "no pretraining logged a probe's score (--watch off?)"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``method, panel, series, look, role, stage, epoch, value``, means as ``role``."""
        curves = table.curves[table.curves["series"].isin(SERIES)]
        scored = set(curves.loc[curves["series"] == "knn_roc_auc", "stage"])
        curves = curves[curves["stage"].isin(scored)].rename(columns={"series": "logged"})
        ends = {
            stage: np.sort(rows["step"].unique())
            for stage, rows in curves[curves["logged"] == "loss"].groupby("stage")
        }
        # a loss stands at the end of every epoch, so the steps that have one count the epochs
        curves["epoch"] = [
            int(np.searchsorted(ends[stage], step, side="right"))
            for stage, step in zip(curves["stage"], curves["step"], strict=True)
        ]
        rows = settings_of(curves[["stage", "cells"]], table).merge(
            curves[["stage", "logged", "epoch", "value"]], on="stage"
        )
        rows = rows.rename(columns={"panel": "method"})
        rows["panel"] = rows["method"] + ": " + rows["logged"].map(SERIES)
        keys = ["method", "panel", "logged", "series", "look", "epoch"]
        mean = rows.groupby(keys, sort=False)["value"].mean().reset_index()
        mean = mean.sort_values("epoch", kind="stable")
        return pd.concat([rows.assign(role="stage"), mean.assign(role="mean")], ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw a column per method, its score below its loss."""
        methods = list(dict.fromkeys(frame["method"]))
        columns = min(COLUMNS[width], len(methods))
        chunks = [methods[i : i + columns] for i in range(0, len(methods), columns)]
        places = [
            f"{some[i]}: {words}" if i < len(some) else ""  # a score stays below its loss
            for some in chunks
            for words in SERIES.values()
            for i in range(columns)
        ]
        page = layout.sheet(width, len(places), share_y=False, columns=columns, height=1.2)
        scores = frame.loc[frame["logged"] == "knn_roc_auc", "value"]
        below = [*places[columns:], *[None] * columns]
        for axes, panel, next_one in zip(page.panels, places, below, strict=True):
            axes.tick_params(labelbottom=not next_one)
            if panel.endswith(SERIES["knn_roc_auc"]):  # these compare between methods
                axes.set_ylim(scores.min() - 0.02, scores.max() + 0.02)
            layout.title(page, axes, panel)
            draw_stages(axes, frame[frame["panel"] == panel], "epoch")
        layout.finish(page, info, ("epoch", ""), _handles(frame), names_on_x=False)
        for axes, panel in zip(page.panels, places, strict=True):
            if not panel:
                axes.remove()
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what the probe is, and that nothing was learned from it."""
        many = units(info)
        return captions.joined(
            f"Learning of {frame['stage'].nunique()} pretraining stages (thin; thick: their mean): "
            "above the pretext loss, which does not compare between methods, below what the encoder"
            f" knows of the outcome at the watchdog's looks: ROC AUC of a vote of the 20 nearest of"
            f" up to 256 labelled training images, of other {many} only. Epoch 0: before the first "
            "step. Nothing was learned or chosen by it.",
            captions.footing(info),
        )


def _handles(frame: pd.DataFrame) -> list[Line2D]:
    lines = frame[frame["series"] != frame["method"]].drop_duplicates("series")
    pairs = zip(lines["series"], map(style.look, lines["look"]), strict=True)
    return [Line2D([], [], color=x.colour, linestyle=x.line, label=name) for name, x in pairs]
