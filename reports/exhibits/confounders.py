"""Confounders beside the main score: within one camera, the camera in the embedding, metadata."""

from __future__ import annotations

import pandas as pd

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Column, Row
from reports.cells import is_empty, main_metric, units
from reports.exhibit import Grid, TableExhibit
from reports.numbers import COUNT, DASH, SCORE, number

WITHIN = "within_camera_auc"
PROBE = ["camera_auc", "camera_accuracy", "n_cameras"]


class Confounders(TableExhibit):
    """One row per arm and reference at the largest budget."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "confounders"

    def needs(self, table: TrialTable) -> str | None:
        """A within-camera score, a camera probe or a metadata reference."""
        probed = not table.encoders.empty and table.encoders["camera_auc"].notna().any()
        within = (table.cells["metric"] == WITHIN) & table.cells["estimate"].notna()
        if probed or within.any() or table.info.references:
            return None
        return "the cohort has no camera column, or one camera only, and no metadata reference ran"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return the scores with intervals, and the camera probe of the embedding."""
        info = table.info
        rows = arms.largest_budgets(table)[
            ["cell", "label_fraction", *arms.arm_keys(info), "status", "n_trials", "n_planned"]
        ]
        rows = arms.with_scores(rows, table, dict.fromkeys([info.main_metric, WITHIN]))
        return arms.with_encoders(rows, table, PROBE)

    def grid(self, frame: pd.DataFrame, info: StudyInfo) -> Grid:
        """Return score, score within a camera, and camera probe."""
        metric = main_metric(info)
        columns = [
            arms.score_column(metric.name, SCORE, metric.label),
            arms.score_column(WITHIN, SCORE, "ROC AUC", "within a camera"),
            Column(head=("camera probe", "ROC AUC"), field=_probe),
        ]
        return arms.grid(frame, info, columns)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what each column controls for."""
        metric = main_metric(info)
        return captions.joined(
            f"Is it the lesion, or the camera? {metric.label} ({captions.better_is(info)}) "
            f"{arms.budget_words(frame, info)} with 95 % intervals ({captions.resampled(info)}); "
            f"the ROC AUC over pairs of images of one camera only; and how well a linear probe of "
            f"the frozen embedding names the camera of other {units(info)} (chance 0.5; below it "
            "the mean recall, whose chance is 1 over the number of cameras).",
            captions.references(frame, info),
            "A dash: no embedding, one camera only, or not measured.",
            captions.footing(info),
        )


def _probe(row: Row) -> tuple[str, ...]:
    if is_empty(row["camera_auc"]):
        return (DASH,)
    recall, cameras = number(row["camera_accuracy"], SCORE), number(row["n_cameras"], COUNT)
    return number(row["camera_auc"], SCORE), f"recall {recall}, {cameras} cameras"
