"""Ranks of all arms over folds, and which of them paired tests cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions, layout, style
from reports.cells import label, others, planned_cells, units, varying
from reports.exhibit import FigureExhibit
from reports.exhibits.score_curves import COLLECT
from reports.legend import handle
from reports.series import method_look

LEVEL, FEWEST = 0.05, 3
BAR, NAME = 0.3, 24  # ranks between bars, letters of a name
BARS = ("first", "last", "bar_at")  # rows that a bar joins, and how far right it stands
OF_FAMILY = ["n_arms", "n_folds", "friedman_p", "critical_difference", "refused"]


class MethodRanking(FigureExhibit):
    """Mean rank of every arm, bars over those that are not told apart, one panel per budget."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "ranking"

    def needs(self, table: TrialTable) -> str | None:
        """Three arms that differ in method and pretraining only."""
        found = table.ranks
        if found.empty:
            return f"no arms were ranked when the table was collected: {COLLECT}"
        if (found["metric"] != table.info.main_metric).all():
            metric = table.info.metric(found["metric"].iloc[0])
            return f"arms are ranked by {metric.label} only"
        most = int(found["n_arms"].max())
        return None if most >= FEWEST else f"needs {FEWEST} or more arms to rank, the study has 2"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return a row per arm (``role`` arm) and per bar (``first`` to ``last`` row)."""
        info, cells = table.info, planned_cells(table)
        ranks = table.ranks[table.ranks["n_arms"] >= FEWEST]
        shown = cells[["cell", "label_fraction", *arms.arm_keys(info), "estimate", "low", "high"]]
        rows = shown.merge(ranks[["cell", "family", "mean_rank", *OF_FAMILY]], on="cell")
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        rows["critical_to"] = 1 + rows["critical_difference"]
        own = ["label_fraction", *_shared(rows, info)]
        parts = []
        for values, inside in rows.groupby(["family", *own], sort=True, dropna=False):
            inside = inside.sort_values("mean_rank", kind="stable").reset_index(drop=True)
            tested = _tests(inside, table.pairs)
            title = _title(dict(zip(own, values[1:], strict=True)), info)
            inside["arm"] = arms.arm_names(inside, info)
            parts.append(inside.assign(role="arm", row=inside.index, panel=title))
            parts[-1]["tested"] = is_tested = bool(tested["p_holm"].notna().any())
            if is_tested:
                bars = _bars(inside, tested)
                parts.append(bars.assign(role="bar", panel=title, tested=True))
        frame = pd.concat(parts, ignore_index=True)
        return frame.reindex(columns=list(dict.fromkeys([*frame, *BARS])))  # where no pair is told

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw one row per arm, the best on top, and the bars at its right."""
        titles = list(dict.fromkeys(frame["panel"]))
        names = [layout.filled(str(name), NAME) for name in frame["arm"].dropna()]
        row = layout.LINE * (max(name.count("\n") for name in names) + 1.4)
        columns = min(len(titles), 2 if width == "double" else 1)
        page = layout.sheet(
            *(width, len(titles)),
            share_y=False,
            height=row * (frame["row"].max() + 2.4),
            columns=columns,
        )
        for axes, title in zip(page.panels, titles, strict=True):
            _draw_panel(axes, frame[frame["panel"] == title], frame)
            layout.title(page, axes, title.replace(", ", ",\n"))
        keys = []
        if (frame["role"] == "bar").any():
            keys.append(handle("not told apart", "0.3", "|", size=7))
        if frame["critical_difference"].notna().any():
            keys.append(handle("critical difference (CD) over folds", style.GREY, "", line="-"))
        labels = ("mean rank over folds\n(1 is the best)", "")
        layout.finish(page, info, labels, keys, names_on_x=False)
        return page.figure

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what a block is, which test joins the bars, and why a difference is refused."""
        own = frame[frame["role"] == "arm"]
        metric = info.metric(info.main_metric)
        refused = dict.fromkeys(own["refused"].dropna())
        tested = frame["tested"].astype(bool).any()
        return captions.joined(
            f"Mean rank of every arm in {metric.label} over folds, draws and seeds averaged, at "
            "the least and the largest label budget; an arm without a result there is left out.",
            "Bars join arms that the paired bootstrap over test "
            f"{units(info)}, training counted, does not tell apart (p ≥ 0.05 after Holm over all "
            "pairs of a panel; scores and pairs are in the frame)."
            if tested
            else "No pair was tested.",
            "CD: Nemenyi's critical difference at 5 % with folds for blocks (Demšar 2006). Folds "
            f"share training {units(info)} and are no independent data sets: it describes, and the "
            "bars decide."
            if own["critical_difference"].notna().any()
            else "",
            f"No critical difference: {'; '.join(refused)}." if refused else "",
            captions.footing(info),
        )


def _shared(rows: pd.DataFrame, info: StudyInfo) -> list[str]:
    """Return the factors beside method and label fraction that tell families apart."""
    within = rows.groupby("family")
    return [
        name
        for name in varying(rows, others(info))
        if within[name].nunique(dropna=False).eq(1).all()
    ]


def _title(levels: dict[str, object], info: StudyInfo) -> str:
    share = label(info, "label_fraction", levels.pop("label_fraction"))
    rest = [f"{info.factor(name).label}: {label(info, name, x)}" for name, x in levels.items()]
    return ", ".join([f"{share} of the labels", *rest])


def _tests(own: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of the arms of a panel by their rows, ``i`` above ``j``."""
    place = {cell: row for row, cell in enumerate(own["cell"])}
    inside = pairs[pairs["cell"].isin(place) & pairs["other"].isin(place)]
    ends = np.sort(np.column_stack([inside[end].map(place) for end in ("cell", "other")]), axis=1)
    return inside[["p_holm"]].assign(i=ends[:, 0], j=ends[:, 1])


def _bars(own: pd.DataFrame, tests: pd.DataFrame) -> pd.DataFrame:
    """Return the longest runs of neighbouring ranks without a pair that was told apart."""
    apart = np.zeros((len(own), len(own)), dtype=bool)
    hit = tests[tests["p_holm"] < LEVEL]
    apart[hit["i"], hit["j"]] = True
    found = pd.DataFrame(list(_runs(apart)), columns=["first", "last"])
    found["bar_at"] = len(own) + 0.4 + BAR * np.arange(len(found))
    return found


def _runs(apart: np.ndarray) -> Iterator[tuple[int, int]]:
    reach = -1
    for first in range(len(apart)):
        last = first
        while last + 1 < len(apart) and not apart[first : last + 2, last + 1].any():
            last += 1
        if last > first and last > reach:
            yield first, last
        reach = max(reach, last)


def _draw_panel(axes: Axes, rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    own, bars = rows[rows["role"] == "arm"], rows[rows["role"] == "bar"]
    for row in own.to_dict("records"):
        look = style.look(str(row["look"]))
        axes.plot(row["mean_rank"], row["row"], look.marker, color=look.colour, mfc=look.face)
    for first, last, at in bars[["first", "last", "bar_at"]].itertuples(index=False):
        axes.plot([at, at], [first - 0.25, last + 0.25], color="0.3", linewidth=2.5, zorder=2)
    critical, end = own[["critical_difference", "critical_to"]].iloc[0]
    if critical == critical:
        axes.plot([1, end], [-0.9, -0.9], color=style.GREY, linewidth=2.5, zorder=2)
        place = ((1 + end) / 2, -1.05)
        axes.text(*place, f"CD {critical:.2f}", ha="center", va="bottom", color=style.GREY)
    n = int(frame["n_arms"].max())
    names = [layout.filled(name, NAME) for name in own["arm"]]
    axes.set_yticks(list(own["row"]), names)
    axes.set_xticks(range(1, n + 1), [str(rank) for rank in range(1, n + 1)])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    right = max(n + 0.5, frame["bar_at"].max() + 0.2)
    axes.set(xlim=(0.7, right), ylim=(frame["row"].max() + 0.6, -1.9))
