"""Control and arm at every label budget, with absolute and relative difference, as papers do."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable, budget_order
from reports import arms, captions
from reports.arms import Column, Row
from reports.cells import (
    LOST,
    counted,
    main_metric,
    others,
    planned_cells,
    samples,
    units,
    varying,
)
from reports.exhibit import Grid, TableExhibit
from reports.numbers import COUNT, DASH, GAIN, SCORE, interval, number
from reports.series import method_name

PERCENT = "{:.1%}"
NUMBERS = ["control_score", "arm_score", "estimate", "low", "high", "n_pairs"]
GAINS = ["difference", "difference_low", "difference_high"]


class RelativeGain(TableExhibit):
    """One row per label budget and arm, as papers on transfer print them."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "relative_gain"

    def needs(self, table: TrialTable) -> str | None:
        """A control, and an arm with trials beside it."""
        found, metric = table.relative, main_metric(table.info)
        if not found.empty and (found["metric"] == metric.name).any():
            return None
        return f"no arm has a trial beside a control's in {metric.label}, or it was not collected"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the scores of control and arm over their paired trials, and both differences."""
        info, cells = table.info, planned_cells(table)
        own = table.relative[table.relative["metric"] == info.main_metric]
        keys = ["cell", "label_fraction", *arms.arm_keys(info), "status", "n_images", "n_patients"]
        rows = cells.loc[~cells["is_control"] & ~cells["is_reference"], [*keys, *GAINS]]
        rows = rows.merge(own[["cell", *NUMBERS]], on="cell", how="left")
        rows.loc[rows["estimate"].isna(), "status"] = LOST
        rows["arm_name"] = arms.arm_names(rows, info)
        order = rows["label_fraction"].map(budget_order)
        return rows.iloc[order.argsort(kind="stable")].reset_index(drop=True)

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return one row per budget and arm."""
        names = ["label_fraction", *varying(frame, ["method", *others(info)])]
        control, arm = method_name(info, info.control), _arm(frame)
        said = counted(info) and samples(info) == units(info)  # by the budget's own number
        columns = [] if said else [Column(head=(f"labelled {samples(info)}",), field=_images)]
        columns += [
            Column(head=(control,), field=lambda row: (number(row["control_score"], SCORE),)),
            Column(head=(arm,), field=lambda row: (number(row["arm_score"], SCORE),)),
            arms.score_column("difference", GAIN, "difference"),
            Column(head=("relative", "difference"), field=_relative),
            Column(head=("pairs",), field=lambda row: (number(row["n_pairs"], COUNT),)),
        ]
        return arms.grid(frame, info, columns, names=names)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is divided by what."""
        return captions.joined(
            f"{main_metric(info).label} ({captions.better_is(info)}) of the control "
            f"({captions.control(info)}) and of each arm over the trials that both have, on the "
            f"same test {units(info)} with the same labels. Relative: the difference as a share of "
            f"the control's score. In brackets 95 % intervals ({captions.resampled(info)}).",
            captions.training(info),
            "A dash: no result." if (frame["status"] == LOST).any() else "",
            captions.footing(info),
        )


def _arm(frame: pd.DataFrame) -> str:
    names = set(frame["arm_name"])
    return names.pop() if len(names) == 1 else "arm"


def _images(row: Row) -> tuple[str, ...]:
    return (number(row["n_images"], COUNT),)


def _relative(row: Row) -> tuple[str, ...]:
    if row["status"] == LOST:
        return (DASH,)
    return number(row["estimate"], PERCENT), interval(row["low"], row["high"], PERCENT)
