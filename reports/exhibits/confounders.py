"""Confounders beside the main score: within one camera, the camera in the embedding, metadata."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ablations.table import StudyInfo, TrialTable
from reports import arms, captions
from reports.arms import Column, Row
from reports.cells import LOST, is_empty, main_metric, units
from reports.exhibit import Exhibit, FigureExhibit, Grid, TableExhibit
from reports.forest import Forest, Note, draw_forest
from reports.numbers import COUNT, DASH, SCORE, interval, number
from reports.series import method_look, method_name

WITHIN = "within_camera_auc"
PROBE = ["camera_auc", "camera_accuracy", "n_cameras"]


class _Confounded(Exhibit):
    """What table and figure share: what a study must have for them."""

    def needs(self, table: TrialTable) -> str | None:
        """A within-camera score, a camera probe or a metadata reference."""
        probed = not table.encoders.empty and table.encoders["camera_auc"].notna().any()
        within = (table.cells["metric"] == WITHIN) & table.cells["estimate"].notna()
        if probed or within.any() or table.info.references:
            return None
        return "the cohort has no camera column, or one camera only, and no metadata reference ran"


class Confounders(_Confounded, TableExhibit):
    """One row per arm and reference at the largest budget."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "confounders"

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


class Camera(_Confounded, FigureExhibit):
    """The same scores as a forest: what is left within one camera, and what metadata reach."""

    @property
    def name(self) -> str:
        """Stem of the files."""
        return "camera"

    def frame(self, table: TrialTable) -> pd.DataFrame:
        """Return one row per arm and measure that any arm has; the camera probe is in the table."""
        info = table.info
        rows = Confounders().frame(table)
        rows["row"] = arms.arm_names(rows, info)
        rows["series"] = [method_name(info, method) for method in rows["method"]]
        rows["look"] = [method_look(info, method) for method in rows["method"]]
        blind = rows["method"].isin(info.references)
        rows["group"] = blind.map({False: "sees images", True: "metadata alone"})
        parts = [
            _measured(rows, name, title)
            for name, title in (
                (info.main_metric, main_metric(info).label),
                (WITHIN, "ROC AUC within a camera"),
            )
            if rows[name].notna().any()
        ]
        return pd.concat(parts, ignore_index=True).assign(role="line")

    def draw(self, frame: pd.DataFrame, info: StudyInfo, width: str) -> Figure:
        """Draw one panel per measure, every arm a row."""
        notes = [Note(head="interval", text=_interval)]
        forest = Forest(x_label=f"score ({captions.better_is(info)})", notes=notes, named=False)
        return draw_forest(frame, info, width, forest)

    def caption(self, frame: pd.DataFrame, info: StudyInfo) -> str:
        """Say what is left out within a camera."""
        return captions.joined(
            f"{main_metric(info).label} of all test images {arms.budget_words(frame, info)}, and "
            "where the cohort names cameras, over pairs of images of one camera only: what is gone "
            f"there was the camera, not the lesion. {captions.bars(info)}",
            captions.references(frame, info),
            captions.gaps(frame),
            captions.footing(info),
        )


def _measured(rows: pd.DataFrame, name: str, title: str) -> pd.DataFrame:
    ends = {name: "estimate", f"{name}_low": "low", f"{name}_high": "high"}
    kept = [column for column in rows if column not in ends and column != WITHIN]
    made = rows[list(dict.fromkeys([*kept, *ends]))].rename(columns=ends).assign(panel=title)
    made.loc[made["estimate"].isna(), "status"] = LOST
    return made


def _interval(row: Row) -> str:
    if is_empty(row["estimate"]):
        return DASH
    return interval(row["low"], row["high"], SCORE)


def _probe(row: Row) -> tuple[str, ...]:
    if is_empty(row["camera_auc"]):
        return (DASH,)
    recall, cameras = number(row["camera_accuracy"], SCORE), number(row["n_cameras"], COUNT)
    return number(row["camera_auc"], SCORE), f"recall {recall}, {cameras} cameras"
