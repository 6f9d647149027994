"""What was logged while pretraining: every stage faint, the mean of each setting strong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.exhibit import FigureExhibit
from reports.stages import draw_stages, settings_of

KIND, POINTS = "pretrain", 150
SERIES = {
    "loss": "pretext loss",
    "accuracy": "pretext accuracy",
    "reconstruction": "reconstruction error (L1)",
    "contrastive": "contrastive term",
    "spread": "spread of embeddings",
    "effective_rank": "effective rank of embeddings",
    "lr": "learning rate",
}
MEANINGS = {
    "loss": "Losses of different methods are not comparable.",
    "accuracy": "Near chance the pretext taught nothing; near 1 a shortcut may answer it.",
    "reconstruction": "L1: mean absolute error of what is reconstructed, as views are normalised.",
    "contrastive": "Contrastive term: how badly two views of one crop are told from other crops.",
    "spread": "Spread: standard deviation of the coordinates of normalised embeddings; near 0 the "
    "encoder has collapsed.",
    "effective_rank": "Effective rank: exp of the entropy of the normalised singular values; where "
    "it is low, all embeddings lie along few directions.",
}


@dataclass(frozen=True)
class PretextCurves(FigureExhibit):
    """One logged series against the step, one panel per method: their losses do not compare."""

    series: str = "loss"

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "pretext_curves" if self.series == "loss" else f"pretext_{self.series}"

    @classmethod
    def each(cls, info: StudyInfo) -> Sequence[Self]:
        """Return one exhibit per series."""
        return tuple(map(cls, SERIES))

    def needs(self, table: TrialTable) -> str | None:
        """Logged values of pretraining stages."""
        logged = _logged(table, self.series)
        return None if len(logged) else f"no {KIND!r} stage logged {self.series!r}"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``panel, series, look, role, stage, step, value``, at most 150 steps per line."""
        logged = _logged(table, self.series)
        settings = settings_of(logged, table)
        # The settings come first: their order is that of the panels and of the legend.
        rows = _thinned(settings.merge(logged, on="stage"))
        keys = ["panel", "series", "look", "step"]
        mean = rows.groupby(keys, sort=False)["value"].mean().reset_index()
        mean = mean.sort_values("step", kind="stable")
        return pd.concat([rows.assign(role="stage"), mean.assign(role="mean")], ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw one panel per method."""
        titles = list(dict.fromkeys(frame["panel"]))
        page = layout.sheet(width, len(titles), share_y=False)
        for axes, title in zip(page.panels, titles, strict=True):
            layout.title(page, axes, title)
            draw_stages(axes, frame[frame["panel"] == title], "step")
        labels = ("pretraining step", SERIES[self.series])
        layout.finish(page, info, labels, _handles(frame), names_on_x=True)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what thin and thick lines are."""
        stages = frame["stage"].nunique()
        return captions.joined(
            f"{SERIES[self.series].capitalize()} of {stages} pretraining stages: thin lines are "
            "single stages (a fold and a seed), thick lines their mean.",
            MEANINGS.get(self.series, ""),
            captions.footing(info),
        )


def _logged(table: TrialTable, series: str) -> pd.DataFrame:
    curves = table.curves
    chosen = curves["stage"].str.startswith(f"{KIND}/") & (curves["series"] == series)
    return curves.loc[chosen, ["stage", "cells", "step", "value"]]


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Average neighbouring steps so that a long run does not make a heavy picture."""
    keys = ["panel", "series", "look", "stage"]
    if rows["step"].nunique() > POINTS:
        edges = np.linspace(rows["step"].min(), rows["step"].max(), POINTS + 1)
        bins = np.clip(np.digitize(rows["step"], edges), 1, POINTS)
        rows = rows.assign(step=(edges[bins - 1] + edges[bins]) / 2)
    return rows.groupby([*keys, "step"], sort=False)["value"].mean().reset_index()


def _handles(frame: pd.DataFrame) -> list[Line2D]:
    lines = frame[frame["series"] != frame["panel"]].drop_duplicates("series")
    pairs = zip(lines["series"], map(style.look, lines["look"]), strict=True)
    return [Line2D([], [], color=x.colour, linestyle=x.line, label=name) for name, x in pairs]
