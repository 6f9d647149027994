"""Missing trials: what was planned, has no result, and why."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import captions
from reports.cells import in_order, others, varying
from reports.exhibit import Entry, Grid, TableExhibit
from reports.series import value_name


class Missing(TableExhibit):
    """Planned trials without a result, grouped by cell, status and reason."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "missing"

    def needs(self, table: TrialTable) -> str | None:
        """At least one missing trial."""
        return None if len(table.missing) else "every planned trial has a result"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per cell, status and reason with the number of trials."""
        factors = [factor.name for factor in table.info.factors]
        keys = ["cell", *factors, "status", "reason"]
        lost = in_order(table.missing, table.info, factors)
        return lost.groupby(keys, sort=False, dropna=False).size().rename("trials").reset_index()

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return one printed row per row of the frame."""
        factors = ["method", "label_fraction", *varying(frame, others(info))]
        heads = [*(info.factor(name).label for name in factors), "trials", "status", "reason"]
        rows = []
        for row in frame.to_dict("records"):
            names = [value_name(info, factor, row[factor]) for factor in factors]
            reason = "" if pd.isna(row["reason"]) else str(row["reason"])
            fields = [*names, str(row["trials"]), str(row["status"]), reason]
            rows.append(tuple(Entry(lines=(field,)) for field in fields))
        titles = tuple(Entry(lines=(head,)) for head in heads)
        return Grid(heads=titles, rows=tuple(rows), n_labels=len(heads), prose=True)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say how many are missing of how many."""
        return captions.joined(
            f"Planned trials without a result ({frame['trials'].sum()} of {info.n_planned}); "
            "a failed trial stays failed until it is run again with the same seed.",
            captions.footing(info),
        )
