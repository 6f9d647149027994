"""Health of the encoders: spread against its healthy value, rank, camera probe, alerts."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Column, Row
from reports.cells import is_empty
from reports.exhibit import Grid, TableExhibit
from reports.numbers import DASH, SCORE, number

HEALTH = ["spread", "healthy_spread", "effective_rank", "camera_auc", "alerts"]
QUIET = "none"


class Encoders(TableExhibit):
    """One row per arm that has an embedding."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "encoders"

    def needs(self, table: TrialTable) -> str | None:
        """At least one measured embedding, or an alert."""
        encoders = table.encoders
        quiet = encoders["alerts"].isna() | (encoders["alerts"] == QUIET)
        if (encoders["spread"].isna() & quiet).all():
            return "no embedding was measured: a protocol that trains the encoder leaves none"
        return None

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm; arms that were planned and not measured are empty."""
        cells = arms.largest_budgets(table)
        keys = ["cell", "label_fraction", *arms.arm_keys(table.info)]
        return arms.with_encoders(cells.loc[~cells["is_reference"], keys], table, HEALTH)

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return the measures, the healthy spread beside the measured one."""
        columns = [
            Column(head=("spread",), field=lambda row: (number(row["spread"], "{:.4f}"),)),
            Column(head=("healthy",), field=lambda row: (number(row["healthy_spread"], "{:.4f}"),)),
            Column(
                head=("effective", "rank"),
                field=lambda row: (number(row["effective_rank"], "{:.1f}"),),
            ),
            Column(
                head=("camera probe", "ROC AUC"),
                field=lambda row: (number(row["camera_auc"], SCORE),),
            ),
            Column(head=("watchdog's", "alerts"), field=_alerts),
        ]
        return arms.grid(frame, info, columns)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say which values are alarms."""
        return captions.joined(
            "Embeddings of each arm. Spread: standard deviation of the coordinates of normalised "
            "embeddings; healthy is 1/sqrt(d), near 0 the encoder has collapsed (Chen and He "
            "2021). Effective rank: exp of the entropy of the normalised singular values (Roy and "
            "Vetterli 2007). Camera probe: how well a linear probe names the camera; 0.5 is "
            "chance. Alerts: what the watchdog found, in how many of an arm's trainings. A dash: "
            "not measured, one camera only, or nobody watched.",
            captions.footing(info),
        )


def _alerts(row: Row) -> tuple[str, ...]:
    return (DASH,) if is_empty(row["alerts"]) else tuple(row["alerts"].split("; "))
