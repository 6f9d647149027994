"""Scores within groups of the tested: sex, age, site, camera; the arm beside its control."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Row
from reports.cells import LOST, main_metric, others, panels, units, varying
from reports.exhibit import Entry, Exhibit, FigureExhibit, Grid, TableExhibit
from reports.forest import Forest, Note, draw_forest
from reports.numbers import COUNT, DASH, GAIN, SCORE, interval, number, printed
from reports.series import method_look, method_name

COUNTS = ["n_images", "n_positives", "n_patients"]
GAINS = ["difference", "difference_low", "difference_high"]


class _Grouped(Exhibit):
    """What figure and table share: the frame, and what a study must have for it."""

    of_classes: ClassVar[bool] = True

    def needs(self, table: TrialTable) -> str | None:
        """Groups with scores of the main metric."""
        metric, found = main_metric(table.info), table.subgroups
        if not found.empty and (found["metric"] == metric.name).any():
            return None
        return f"no subgroup was scored in {metric.label}: the cohort names none, or none is large"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and group; ``n_*`` count the tested of a group."""
        info, found = table.info, table.subgroups
        found = found[found["metric"] == info.main_metric]
        cells = arms.largest_budgets(table)
        cells = cells[~cells["is_reference"] | cells["cell"].isin(found["cell"])]
        kept = cells[["cell", "label_fraction", *arms.arm_keys(info), "status"]]
        groups = found.groupby(["attribute", "group"], sort=False)[COUNTS].max().reset_index()
        scores = ["cell", "attribute", "group", "estimate", "low", "high", *GAINS, "n_pairs"]
        rows = kept.merge(groups, how="cross")
        rows = rows.merge(found[scores], on=["cell", "attribute", "group"], how="left")
        rows.loc[rows["estimate"].isna(), "status"] = LOST
        rows = rows.rename(columns={"group": "row"})
        rows["group"] = rows["attribute"].str.replace("_", " ")
        rows["arm"] = arms.arm_names(rows, info)
        rows["series"] = [method_name(info, method) for method in rows["method"]]
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        return rows.assign(role="line")


class Subgroups(_Grouped, FigureExhibit):
    """A forest by attribute and group."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "subgroups"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the rows of every panel; a control stands in all it has no levels for."""
        rows, info = super().frame(table), table.info
        parts = [
            inside.assign(panel=title)
            for title, inside in panels(rows, info, varying(rows, others(info)))
        ]
        return pd.concat(parts, ignore_index=True)

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw the forest with the size of each group."""
        notes = [Note(head="positives\n/ images", text=_size)]
        metric = main_metric(info)
        forest = Forest(
            x_label=f"{metric.label}\n({captions.better_is(info)})", notes=notes, named=True
        )
        return draw_forest(frame, info, width, forest)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what the groups are."""
        return captions.joined(
            f"{main_metric(info).label} within groups of the test images "
            f"{arms.budget_words(frame, info)}; every arm was trained on all of them.",
            _resampled(info),
            "A point without a bar has no interval.",
            captions.references(frame, info, " (grey)"),
            _unscored(frame),
            captions.footing(info),
        )


class SubgroupsTable(_Grouped, TableExhibit):
    """The same groups in numbers, one column per arm."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "subgroups_table"

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return a row per group: its size, then score and difference of every arm."""
        names = list(dict.fromkeys(frame["arm"]))
        heads = ["", "group", "images", "positives", units(info), *names]
        rows = []
        for (attribute, group), inside in frame.groupby(["group", "row"], sort=False):
            by_arm = inside.set_index("arm").to_dict("index")
            sizes = [number(inside[count].iloc[0], COUNT) for count in COUNTS]
            fields = [str(attribute), str(group), *sizes]
            scores = [Entry(lines=_score(by_arm[name])) for name in names]
            rows.append((*(Entry(lines=(field,)) for field in fields), *scores))
        titles = tuple(Entry(lines=(head,)) for head in heads)
        return Grid(heads=titles, rows=tuple(rows), n_labels=2)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what stands in a field."""
        return captions.joined(
            f"{main_metric(info).label} ({captions.better_is(info)}) within groups of the test "
            f"images {arms.budget_words(frame, info)}; after Δ the paired difference to the "
            f"control ({captions.control(info)}) within the group. {_resampled(info)}",
            "Groups of different attributes overlap; no interval is adjusted for their number.",
            _unscored(frame),
            captions.footing(info),
        )


def _size(row: Row) -> str:
    return f"{number(row['n_positives'], COUNT)} / {number(row['n_images'], COUNT)}"


def _score(row: Row) -> tuple[str, ...]:
    if row["status"] == LOST:
        return (DASH,)
    ends = interval(row["low"], row["high"], SCORE)
    lines = [f"{number(row['estimate'], SCORE)} {ends}".strip()]
    if row["difference"] == row["difference"]:
        gain = interval(row["difference_low"], row["difference_high"], GAIN)
        lines.append(f"Δ {number(row['difference'], GAIN)} {gain}".strip())
    return tuple(printed(line) for line in lines)


def _resampled(info: StudyInfo) -> str:
    """Say what the intervals cover: less than those of other exhibits."""
    return (
        f"Intervals are 95 % (bootstrap over the test {units(info)} alone: draws and seeds are "
        "averaged, not redrawn); folds weigh by their pairs."
    )


def _unscored(frame: pd.DataFrame) -> str:
    if not (frame["status"] == LOST).any():
        return ""
    return "A cross or dash: no score, because the group has one class only or the arm no result."
