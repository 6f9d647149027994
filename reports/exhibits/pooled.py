"""One score out of several folds, in the three ways that differ, and DeLong beside them."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Column
from reports.cells import main_metric, units
from reports.exhibit import Grid, TableExhibit
from reports.numbers import COUNT, SCORE, number

WAYS = {
    "mean_of_folds": ("mean of", "folds"),
    "pooled_raw": ("pooled,", "raw scores"),
    "pooled_rank": ("pooled,", "ranks within folds"),
}


class Pooled(TableExhibit):
    """One row per arm at the largest budget."""

    of_classes: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "pooled"

    def needs(self, table: TrialTable) -> str | None:
        """Pooled scores of the main metric."""
        found, metric = table.pooled, main_metric(table.info)
        if not found.empty and (found["metric"] == metric.name).any():
            return None
        return f"{metric.label} was not pooled over folds"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm with the score in each way."""
        info, cells = table.info, arms.largest_budgets(table)
        found = table.pooled[table.pooled["metric"] == info.main_metric]
        keys = ["cell", "label_fraction", *arms.arm_keys(info)]
        own = ["cell", *WAYS, "delong", "delong_low", "delong_high", "n_folds"]
        return cells[keys].merge(found[own], on="cell", how="left")

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return a column per way."""
        columns = [_way(name, head) for name, head in WAYS.items()]
        columns.append(arms.score_column("delong", SCORE, "DeLong"))
        columns.append(Column(head=("folds",), field=lambda row: (number(row["n_folds"], COUNT),)))
        return arms.grid(frame, info, columns)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say which way every other exhibit uses."""
        metric = main_metric(info)
        return captions.joined(
            f"{metric.label} ({captions.better_is(info)}) {arms.budget_words(frame, info)}, three "
            "ways to one score of all folds. Mean of folds: what every other exhibit shows. "
            "Pooled, raw: out-of-fold scores of all folds together as they are; folds on other "
            "scales mix. Pooled, ranks: each score replaced by its rank within its fold first. "
            "DeLong: ROC AUC with 95 % interval under the assumption that images are independent "
            f"(DeLong et al. 1988); images of the same {units(info)[:-1]} are not, so it can be "
            "too narrow. A dash: not defined for this metric, or no result.",
            captions.references(frame, info),
            captions.footing(info),
        )


def _way(name: str, head: tuple[str, ...]) -> Column:
    return Column(head=head, field=lambda row: (number(row[name], SCORE),))
