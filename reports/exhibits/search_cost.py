"""Score of a search's suggestions against the images that they trained on."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.cells import main_metric
from reports.drawing import short
from reports.exhibit import FigureExhibit
from reports.legend import handle
from reports.suggestions import COMPLETE, counted, draw_points, scored


class SearchCost(FigureExhibit):
    """One point per suggestion; the line joins those that nothing cheaper reaches."""

    of_search: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "search_cost"

    def needs(self, table: TrialTable) -> str | None:
        """Suggestions that trained something."""
        return None if (scored(table)["images"] > 0).any() else "no suggestion trained anything"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``suggestion, images, seconds, score, ended, is_front``, the cheapest first."""
        rows = scored(table)
        rows = rows[rows["images"] > 0].sort_values(["images", "suggestion"], ignore_index=True)
        sign = 1 if main_metric(table.info).higher_is_better else -1
        gain = (sign * rows["score"]).where(rows["ended"] == COMPLETE)
        rows["is_front"] = gain > gain.cummax().shift(fill_value=-float("inf")).ffill()
        return rows[["suggestion", "images", "seconds", "score", "ended", "is_front"]]

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the points on a log scale of images, the front as a line."""
        page = layout.sheet(width, 1, share_y=False)
        (axes,) = page.panels
        keys = draw_points(axes, frame["images"], frame)
        front = frame[frame["is_front"]]
        colour = style.COLOURS[1]
        if len(front) > 1:
            axes.plot(front["images"], front["score"], color=colour, zorder=2)
            keys.append(handle("nothing cheaper is as good", colour, "", line="-"))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        low, high = frame["images"].min(), frame["images"].max()
        if high < 10 * low:  # no power of ten may lie between them
            axes.set_xticks([low, high] if high > 1.3 * low else [low])
            axes.set_xlim(low / 1.3, high * 1.3)
        labels = ("images trained on (log scale)", f"{main_metric(info).label}, inner folds")
        layout.finish(page, info, labels, keys, names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is counted."""
        return captions.joined(
            f"{main_metric(info).label} of each suggestion against the images that its trainings"
            " passed, over all inner folds, draws, seeds and rungs that it came to"
            f" ({counted(frame)}); what lay in the vault is counted as if it had been trained.",
            captions.footing(info),
        )
