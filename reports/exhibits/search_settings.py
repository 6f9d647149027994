"""Parallel coordinates: the settings of every suggestion of a search, coloured by its score."""

from __future__ import annotations

import re
from typing import ClassVar

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo, TrialTable
from reports import captions, layout, style
from reports.cells import is_empty, main_metric
from reports.exhibit import FigureExhibit
from reports.legend import handle
from reports.numbers import SCORE
from reports.suggestions import COMPLETE, counted, scored

LIGHT = 0.85  # of the colour map: what is lighter is not seen on paper
HEIGHT = 2.1


class SearchSettings(FigureExhibit):
    """One line per suggestion over one axis per setting."""

    of_search: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "search_settings"

    def needs(self, table: TrialTable) -> str | None:
        """Two settings, and one suggestion that was complete."""
        if table.searched["setting"].nunique() < 2:
            return "needs two or more settings"
        complete = (scored(table)["ended"] == COMPLETE).any()
        return None if complete else "no suggestion was complete without a collapse"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return a row per suggestion and setting, the best suggestion last.

        ``place`` is the setting's, ``rank`` the suggestion's among the complete ones: 0 best, 1
        worst, empty for others.
        """
        ended = scored(table)[["suggestion", "score", "ended"]]
        higher = main_metric(table.info).higher_is_better
        complete = ended[ended["ended"] == COMPLETE]
        ranks = complete["score"].rank(ascending=not higher, method="first") - 1
        ended["rank"] = ranks / max(len(complete) - 1, 1)
        rows = table.searched.drop(columns="importance").merge(ended, on="suggestion")
        names = list(dict.fromkeys(rows["setting"]))
        rows["place"] = rows["setting"].map({name: i for i, name in enumerate(names)})
        order = ["rank", "suggestion", "place"]
        return rows.sort_values(order, ascending=[False, True, True], na_position="first")

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the lines, those that were not complete in grey, and the ends of every axis."""
        page = layout.sheet(width, 1, share_y=False, height=HEIGHT)
        (axes,) = page.panels
        for _, line in frame.groupby("suggestion", sort=False):
            rank = line["rank"].iloc[0]
            is_best, is_grey = rank == 0, is_empty(rank)
            axes.plot(
                *(line["place"], line["at"]),
                color=style.GREY if is_grey else _colour(rank),
                linewidth=2.2 if is_best else 0.5 if is_grey else 0.9,
                alpha=0.5 if is_grey else 1.0,
                zorder=3 if is_best else 2,
            )
        names = frame.drop_duplicates("place").sort_values("place")
        for row in names.to_dict("records"):
            axes.axvline(row["place"], color="0.75", linewidth=0.6, zorder=1)
        _write_values(axes, frame)
        texts = [re.sub(r"[._]", "\n", name) for name in names["setting"]]
        axes.set_xticks(names["place"], texts)
        axes.set_yticks([])
        axes.set(ylim=(-0.14, 1.14), xlim=(-0.35, len(names) - 0.65))
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
        layout.finish(page, info, ("", ""), _handles(frame), names_on_x=True)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what a line and its colour are."""
        ended = frame.drop_duplicates("suggestion")
        return captions.joined(
            "Each line is a suggestion, each axis a setting between the ends of what was searched."
            f" Dark is a better {main_metric(info).label} on the inner folds, thick the best, grey"
            f" what was not complete or collapsed ({counted(ended)}).",
            captions.footing(info),
        )


def _colour(rank: float) -> str:
    return to_hex(colormaps["viridis"](LIGHT * rank))


def _write_values(axes: Axes, frame: pd.DataFrame) -> None:
    """Write the ends of a range at its axis, and every choice beside its place."""
    for place, rows in frame.groupby("place"):
        first = rows.iloc[0]
        if is_empty(first["least"]):
            known = rows.drop_duplicates("chosen")
            marks = [(float(at), _text(x)) for at, x in known[["at", "chosen"]].to_numpy()]
        else:
            marks = [(0.0, _text(first["least"])), (1.0, _text(first["most"]))]
        for at, text in marks:
            inside = 0 < at < 1
            axes.annotate(
                *(text, (float(str(place)), at)),
                xytext=(4, 0) if inside else (0, 4 if at == 1 else -4),
                textcoords="offset points",
                ha="left" if inside else "center",
                va="center" if inside else "bottom" if at == 1 else "top",
                fontsize=style.POINTS - 1,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
                zorder=4,
            )


def _text(value: object) -> str:
    """Return a value as it was chosen, also where a saved frame has made a number of it."""
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return str(value)


def _handles(frame: pd.DataFrame) -> list[Line2D]:
    ended = frame.drop_duplicates("suggestion").dropna(subset=["rank"]).sort_values("rank")
    shown = ended.iloc[sorted({0, len(ended) // 2, len(ended) - 1})]
    names = ["best", "", ""] if len(shown) > 1 else ["best"]
    found = [
        handle(f"{name} {SCORE.format(score)}".strip(), _colour(rank), "", line="-")
        for name, rank, score in zip(names, shown["rank"], shown["score"], strict=False)
    ]
    if (frame["ended"] != COMPLETE).any():
        found.append(handle("pruned or collapsed", style.GREY, "", line="-"))
    return found
