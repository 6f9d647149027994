"""Scores of a search's suggestions in their order, and the best so far."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.cells import main_metric
from reports.exhibit import FigureExhibit
from reports.legend import handle
from reports.suggestions import counted, draw_points, scored


class SearchHistory(FigureExhibit):
    """One point per suggestion; the line is the best that was complete and had not collapsed."""

    of_search: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "search_history"

    def needs(self, table: TrialTable) -> str | None:
        """One score."""
        return None if len(scored(table)) else "no suggestion came to a score"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``suggestion, score, best, ended``."""
        return scored(table)[["suggestion", "score", "best", "ended"]]

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the points, and the best as steps."""
        page = layout.sheet(width, 1, share_y=False)
        (axes,) = page.panels
        keys = draw_points(axes, frame["suggestion"], frame)
        colour = style.COLOURS[1]
        axes.step(frame["suggestion"], frame["best"], where="post", color=colour, zorder=2)
        keys.append(handle("best so far", colour, "", line="-"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        labels = ("suggestion", f"{main_metric(info).label}, inner folds")
        layout.finish(page, info, labels, keys, names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what a score is and who chose it."""
        return captions.joined(
            info.question,
            f"{main_metric(info).label} of each suggestion, mean over inner folds, draws and seeds;"
            f" of a pruned one over those it came to ({counted(frame)}). The best of many is"
            " flattered by its choice: judge it on the outer fold.",
            captions.footing(info),
        )
