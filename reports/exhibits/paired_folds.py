"""Every arm against its control fold by fold: the same test patients, the same labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.cells import main_metric, others, panels, planned_cells, units, varying
from reports.exhibit import FigureExhibit
from reports.legend import handle
from reports.series import method_look, method_name

FOLD = ["label_fraction", "fold"]


class PairedFolds(FigureExhibit):
    """A point per arm and fold, over the control's score on that fold; above the line is better."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "paired_folds"

    def needs(self, table: TrialTable) -> str | None:
        """A control, and two folds on which an arm has a score beside it."""
        pairs = _pairs(table)
        if pairs.empty:
            return "needs a control and a method to compare with it"
        return None if len(set(pairs["fold"])) > 1 else "needs two or more folds"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``control`` and ``score``, means over draws and seeds, of every arm and fold."""
        info, pairs = table.info, _pairs(table)
        pairs["series"] = [method_name(info, method) for method in pairs["method"]]
        pairs["look"] = [method_look(info, method) for method in pairs["method"]]
        free = ["label_fraction", *varying(pairs, others(info))]
        parts = [inside.assign(panel=title) for title, inside in panels(pairs, info, free)]
        return pd.concat(parts, ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the pairs and the line on which arm and control are alike."""
        titles = list(dict.fromkeys(frame["panel"]))
        page = layout.sheet(width, len(titles), share_y=True)
        both = frame[["control", "score"]]
        ends = np.array([both.min(axis=None), both.max(axis=None)])
        for axes, title in zip(page.panels, titles, strict=True):
            axes.plot(ends, ends, color=style.DIAGONAL, linewidth=1, zorder=1.1)
            for _, own in frame[frame["panel"] == title].groupby("series", sort=False):
                look = style.look(own["look"].iloc[0])
                axes.plot(own["control"], own["score"], look.marker, color=look.colour, zorder=3)
            layout.title(page, axes, title)
            axes.margins(0.08)
        metric = main_metric(info)
        labels = (f"{metric.label} of the control on a fold", f"{metric.label} of the arm")
        layout.finish(page, info, labels, _handles(frame), names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what a point is, and that folds are no independent repeats."""
        return captions.joined(
            f"{main_metric(info).label} of an arm against that of the control "
            f"({captions.control(info)}) on the same fold: one point per arm and fold, means over "
            f"the draws and seeds that both have; {captions.better(info, 'the grey line')}.",
            f"Folds share training {units(info)}: they show how much scores scatter, and are no "
            "independent repeats to be counted.",
            captions.footing(info),
        )


def _pairs(table: TrialTable) -> pd.DataFrame:
    """Return a row per arm, label fraction and fold with the control's score on the same trials."""
    info = table.info
    keys = ["method", *others(info), *FOLD]
    cells = planned_cells(table)
    scores = table.trials[table.trials["metric"] == info.main_metric]
    is_arm = ~cells["is_control"] & ~cells["is_reference"]
    arms = scores[scores["cell"].isin(cells.loc[is_arm, "cell"])]
    control = scores[scores["cell"].isin(cells.loc[cells["is_control"], "cell"])]
    own = [name for name in others(info) if control[name].notna().any()]
    same = list(dict.fromkeys([*own, *FOLD, "draw", "seed"]))  # a factor may be the seed
    both = arms.merge(
        control[[*same, "score"]].rename(columns={"score": "control"}), on=same, how="inner"
    )
    return both.groupby(keys, dropna=False, sort=False)[["control", "score"]].mean().reset_index()


def _handles(frame: pd.DataFrame) -> list[Line2D]:
    named = frame.drop_duplicates("series")
    looks = zip(named["series"], map(style.look, named["look"]), strict=True)
    return [
        *(handle(name, look.colour, look.marker) for name, look in looks),
        handle("no difference", style.DIAGONAL, "", line="-"),
    ]
