"""ROC, precision-recall and decision curves with bands, one panel per arm beside its control."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions, layout, style
from reports.beside import beside_control, series_handles
from reports.cells import LOST, units
from reports.exhibit import FigureExhibit
from reports.legend import handle

ENDS = ["estimate", "low", "high"]
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# A net benefit is of interest up to a few times the share of positives.
MOST_ODDS, TIMES_POSITIVES = 0.5, 4
ALONE = {1: 2.4}  # inches: a single panel is higher, nearer to a square
COLLECT = "collect again: python -m ablations collect"


class _ScoreCurve(FigureExhibit):
    """What the three share: arms in panels, a line with its band, and what needs no model."""

    of_classes: ClassVar[bool] = True

    curve: ClassVar[str]
    title: ClassVar[str]
    axes: ClassVar[tuple[str, str]]
    plain: ClassVar[str]  # the curve of what needs no model, in the legend

    @property
    def name(self) -> str:
        """Stem of the files."""
        return self.curve

    def needs(self, table: TrialTable) -> str | None:
        """Curves that were read when the table was collected."""
        if table.sweeps.empty:
            return f"no curve was read off predictions when the table was collected: {COLLECT}"
        known = (table.sweeps["curve"] == self.curve).any()
        return None if known else "exists for an outcome of two classes only"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return ``at`` and the curve with its band for every arm, and rows of ``plain``."""
        info, cells = table.info, arms.largest_budgets(table)
        keys = ["cell", "label_fraction", *arms.arm_keys(info), "status"]
        rows = beside_control(cells[[*keys, "is_control", "is_reference"]], info)
        own = table.sweeps[table.sweeps["curve"] == self.curve]
        rows = rows.merge(own[["cell", "at", *ENDS]], on="cell", how="left").assign(role="line")
        plain = self._plain(table)
        beside = [plain.assign(panel=title, role="plain") for title in dict.fromkeys(rows["panel"])]
        return self._in_view(pd.concat([rows, *beside], ignore_index=True))

    @abstractmethod
    def _plain(self, table: TrialTable) -> pd.DataFrame:
        """Return ``at, estimate`` of what needs no model."""

    def _in_view(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw a panel per arm; a band is that of the arm or its control, references have none."""
        titles = list(dict.fromkeys(frame["panel"]))
        page = layout.sheet(width, len(titles), share_y=True, height=ALONE.get(len(titles)))
        for axes, title in zip(page.panels, titles, strict=True):
            inside = frame[frame["panel"] == title]
            _draw_lines(axes, inside[inside["role"] == "line"])
            self._draw_plain(axes, inside[inside["role"] == "plain"])
            self._scale(axes, frame)
            if len(titles) > 1:
                layout.title(page, axes, title)
        layout.finish(page, info, self.axes, self._handles(frame), names_on_x=False)
        return page.figure

    def _draw_plain(self, axes: Axes, rows: pd.DataFrame) -> None:
        axes.plot(rows["at"], rows["estimate"], color=style.DIAGONAL, linewidth=1, zorder=1.1)

    def _scale(self, axes: Axes, frame: pd.DataFrame) -> None:
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        for setter in (axes.set_xticks, axes.set_yticks):
            setter(TICKS, [f"{x:g}" for x in TICKS])

    def _handles(self, frame: pd.DataFrame) -> list[Line2D]:
        lines = frame[frame["role"] == "line"]
        lost = [handle("no result", style.GREY, "x")] if (lines["status"] == LOST).any() else []
        return [*series_handles(lines), *self._plain_handles(), *lost]

    def _plain_handles(self) -> Sequence[Line2D]:
        return [handle(self.plain, style.DIAGONAL, "", line="-")]

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say how curves are averaged and what bands cover."""
        lines = frame[frame["role"] == "line"]
        return captions.joined(
            f"{self.title} {arms.budget_words(lines, info)}, averaged in y at the same x over all "
            "trials of an arm (folds, draws and seeds). Bands are 95 % intervals at each x by "
            f"itself (bootstrap over the test {units(info)} alone: draws and seeds are averaged, "
            "not redrawn).",
            self._reading(),
            captions.references(lines, info, " (grey dots, bands in the frame)"),
            captions.gaps(lines),
            captions.footing(info),
        )

    @abstractmethod
    def _reading(self) -> str:
        """Return how the curve is to be read."""


class RocCurve(_ScoreCurve):
    """Sensitivity against the false positive rate."""

    curve, title = "roc", "ROC curves"
    axes = ("false positive rate (1 − specificity)", "sensitivity")
    plain = "chance"

    def _plain(self, table: TrialTable) -> pd.DataFrame:
        return pd.DataFrame({"at": [0.0, 1.0], "estimate": [0.0, 1.0]})

    def _reading(self) -> str:
        return "Between two thresholds a curve is linear, so its area is the ROC AUC."


class PrecisionRecallCurve(_ScoreCurve):
    """Precision against recall."""

    curve, title = "precision_recall", "Precision and recall"
    axes = ("recall (sensitivity)", "precision")
    plain = "share of positives"

    def _plain(self, table: TrialTable) -> pd.DataFrame:
        """Acting on everybody from probability 0 on is worth the share of positives."""
        sweeps = table.sweeps
        all_at_0 = sweeps[(sweeps["curve"] == "benefit_of_all") & (sweeps["at"] == 0)]
        return pd.DataFrame({"at": [0.0, 1.0], "estimate": all_at_0["estimate"].mean()})

    def _reading(self) -> str:
        return (
            "The precision of a recall is that of the first threshold, from above, that reaches it;"
            " the mean over recalls is the average precision."
        )


class DecisionCurve(_ScoreCurve):
    """Net benefit against the probability from which one acts."""

    curve, title = "net_benefit", "Decision curves"
    axes = ("probability from which one acts", "net benefit")
    plain = "act on everybody"

    def _plain(self, table: TrialTable) -> pd.DataFrame:
        found = table.sweeps[table.sweeps["curve"] == "benefit_of_all"]
        first: pd.DataFrame = found.loc[found["cell"] == found["cell"].iloc[0], ["at", *ENDS]]
        return first

    def _in_view(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Leave out probabilities far above the share of positives, where nobody would act."""
        plain = frame[frame["role"] == "plain"]
        share = float(plain.loc[plain["at"] == 0, "estimate"].to_numpy().mean())
        inside = ~(frame["at"] > min(MOST_ODDS, TIMES_POSITIVES * share))
        return frame[inside].reset_index(drop=True)

    def _scale(self, axes: Axes, frame: pd.DataFrame) -> None:
        top = float(np.nanmax(frame[ENDS].to_numpy(float)))
        axes.set(xlim=(0, frame["at"].max()), ylim=(-0.25 * top, 1.05 * top))
        axes.axhline(0, color="0.1", linewidth=0.8, zorder=1.1)

    def _plain_handles(self) -> Sequence[Line2D]:
        return [*super()._plain_handles(), handle("act on nobody", "0.1", "", line="-")]

    def _reading(self) -> str:
        return (
            "Net benefit at probability t: (TP − FP t/(1 − t))/N, true and false positives among N "
            "images if one acts on what has probability t or more (Vickers and Elkin 2006). A model"
            " is of use where it lies above both acting on everybody and on nobody; the "
            "probabilities are as the models gave them, not recalibrated."
        )


def _draw_lines(axes: Axes, rows: pd.DataFrame) -> None:
    for _, line in rows.groupby("series", sort=False):
        look = style.look(str(line["look"].iloc[0]))
        if line["estimate"].isna().all():
            axes.plot(0.5, 0.5, "x", color=look.colour, transform=axes.transAxes)
            continue
        is_front = not line["is_reference"].astype(bool).any()
        if is_front:
            axes.fill_between(
                *(line["at"], line["low"], line["high"]),
                color=look.colour,
                alpha=0.15,
                linewidth=0,
                zorder=1.5,
            )
        axes.plot(
            *(line["at"], line["estimate"]),
            color=look.colour,
            linestyle=look.line,
            linewidth=look.width,
            zorder=3 if is_front else 2,
        )
