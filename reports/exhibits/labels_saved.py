"""Labels saved: one row per arm, every measure with its interval, bounds where not reached."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions, savings
from reports.arms import Column, Row, lines
from reports.cells import main_metric, samples
from reports.exhibit import Grid, TableExhibit
from reports.numbers import COUNT, GAIN, RATIO, SCORE, SHARE, number


class LabelsSaved(TableExhibit):
    """What pretraining is worth in labels."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "labels_saved"

    def needs(self, table: TrialTable) -> str | None:
        """At least one measure of the main metric."""
        if savings.measured(table, *savings.PRINTED).empty:
            return f"no labels saved were measured in {main_metric(table.info).label}"
        return None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm."""
        return savings.savings_by_arm(table)

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return a column per measure; areas show arm, control and gain."""
        at = frame["utility_labels"].dropna().drop_duplicates()
        where = "smallest budget"
        if len(at) == 1:
            where = f"at {number(at.iloc[0], COUNT)} {samples(info)}"
        score = arms.score_column
        columns = [
            score(savings.MATCH, COUNT, "labels to match", "control's best"),
            score(savings.SHARE, SHARE, "share", "saved"),
            score(savings.UTILITY, RATIO, "utility", where),
            _area("labels", "mean over", "labels"),
            _area("log2_labels", "mean over", "log2 labels"),
            score(savings.BREAK_EVEN, COUNT, "break-even", "labels"),
            score(savings.SPREAD, RATIO, "variance", "over control's"),
        ]
        return arms.grid(frame, info, columns)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what each measure is."""
        metric = main_metric(info).label
        return captions.joined(
            f"What each arm saves against the control ({captions.control(info)}) in {metric}, in "
            f"labelled {samples(info)}, with 95 % intervals ({captions.resampled(info)}).",
            captions.training(info),
            "Curves are linear between budgets and never continued: > and < are bounds, not "
            "reached or passed within the measured budgets.",
            "Labels to match: what the arm needs for the control's best; share saved: of the "
            "labels at which the control first reaches it. Utility: labels the control needs for "
            "the arm's score at its smallest budget, over that budget, minus 1 (Newell and Deng "
            "2020); at the other budgets see labels_needed. Mean: area under the curve over the "
            "range of (log2) labels, of arm, control and Δ. Break-even: labels from which the arm "
            "gains nothing. Variance: of the arm's scores over draws of labels, divided by the "
            "control's.",
            captions.footing(info),
        )


def _area(scale: str, *head: str) -> Column:
    arm, control, gain = (f"area_{scale}_{whose}" for whose in ("arm", "control", "gain"))

    def field(row: Row) -> tuple[str, ...]:
        main, ends = lines(row, gain, GAIN)
        return number(row[arm], SCORE), f"control {number(row[control], SCORE)}", f"Δ {main}", ends

    return Column(head=head, field=field)
