"""Which settings told good suggestions of a search from others."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.exhibit import FigureExhibit

BAR = 0.22  # inches


class SearchImportance(FigureExhibit):
    """One bar per setting."""

    of_search: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "search_importance"

    def needs(self, table: TrialTable) -> str | None:
        """Importances, which are made of four complete suggestions or more."""
        known = table.searched["importance"].notna().any()
        return None if known else "fewer than four suggestions were complete, or all alike"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``setting, importance``, the largest last."""
        rows = table.searched[["setting", "importance"]].drop_duplicates("setting")
        return rows.fillna({"importance": 0.0}).sort_values("importance", ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw bars with their shares behind them."""
        page = layout.sheet(width, 1, share_y=False, height=BAR * len(frame) + 0.2)
        (axes,) = page.panels
        axes.barh(frame["setting"], frame["importance"], color=style.COLOURS[0], height=0.65)
        for place, share in enumerate(frame["importance"]):
            axes.text(share, place, f" {share:.0%}".replace("%", " %"), va="center")
        axes.set_xlim(0, 1.15 * frame["importance"].max())
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(frame) - 0.4)
        layout.finish(page, info, ("share of importance", ""), [], names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what an importance is, and what it is not."""
        return captions.joined(
            "Share of each setting in what told the better of the complete suggestions from all of"
            " them (PED-ANOVA, Watanabe et al. 2023). It says what mattered within the ranges that"
            " were searched, and with few suggestions it says it roughly.",
            captions.footing(info),
        )
