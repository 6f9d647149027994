"""What each frame of a table holds: one row of ``SCHEMAS`` per frame."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

ORIGIN = ("study_key", "commit", "numbers_version", "cohort", "cohort_digest")
REPEATS = ("fold", "draw", "seed")
BUDGET = ("n_images", "n_patients", "n_positives")
GAIN = ("difference", "difference_low", "difference_high", "n_pairs")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A frame: a row per what, its columns, those of them that are text, and when it is there.

    ``columns`` are followed by one per factor of the study, unless ``plain``. An ``always`` frame
    has its columns in every study; others may be empty. Files of ``later`` frames are missing from
    tables that were collected before these came.
    """

    rows: str
    columns: tuple[str, ...]
    text: tuple[str, ...] = ()
    plain: bool = False
    always: bool = False
    later: bool = False


SCHEMAS: dict[str, Schema] = {
    "trials": Schema(
        rows="per trial and metric",
        columns=("trial", "cell", *REPEATS, *BUDGET, "metric", "score", "seconds"),
        text=("trial", "cell", "metric"),
        always=True,
    ),
    "cells": Schema(
        rows="per cell and metric: means over trials with 95 % patient-bootstrap intervals, mean"
        " budgets and, against the control cell with the same other levels, the difference (empty"
        " for the control itself)",
        columns=(
            *("cell", "metric", "estimate", "low", "high", "n_trials", "n_planned", *BUDGET),
            *GAIN,
        ),
        text=("cell", "metric"),
        always=True,
    ),
    "missing": Schema(
        rows="per planned trial without a result: its ``status`` (pending or failed) and why",
        columns=("trial", "cell", *REPEATS, "status", "reason"),
        text=("trial", "cell", "status", "reason"),
        always=True,
    ),
    "curves": Schema(
        rows="per value logged while training; ``stage`` is written ``kind/key``, ``cells`` are"
        " joined by spaces",
        columns=("stage", "cells", "series", "step", "value"),
        text=("stage", "cells", "series"),
        plain=True,
        always=True,
    ),
    "comparisons": Schema(
        rows="per cell with a control and metric with intervals: the paired difference, its"
        " standard error, ``n_pairs`` of ``n_planned`` pairs over ``n_folds``; ``p`` (paired"
        " bootstrap), ``p_holm`` (over all comparisons of the metric), ``p_corrected``"
        " (Nadeau-Bengio) or why it is ``refused``; the chances that the arm is ``worse``, the"
        " ``same`` or ``better`` by more than ``rope``; the difference ``detectable`` with 80 %",
        columns=(
            *("cell", "metric", "difference", "low", "high", "n_pairs", "n_planned", "n_folds"),
            *("se", "p", "p_holm", "p_corrected", "refused", "worse", "same", "better"),
            "detectable",
        ),
        text=("cell", "metric", "refused"),
    ),
    "savings": Schema(
        rows="per arm (a cell without its label fraction), metric, measure and, where the measure"
        " has one, budget; a gain is positive where the arm is better, whatever the metric's"
        ' direction. ``censored`` is 1 where ``estimate`` is a bound to be read "> estimate", -1'
        ' for "< estimate", else 0; likewise for ``low`` and ``high``',
        columns=(
            *("arm", "metric", "measure", "n_labels", "estimate", "low", "high"),
            *("censored", "low_censored", "high_censored", "n_draws"),
        ),
        text=("arm", "metric", "measure"),
    ),
    "variances": Schema(
        rows="per cell and metric: what draws and seeds add to the score, as variances of one"
        " trial and as standard errors of the mean",
        columns=(
            *("cell", "metric", "draw", "seed", "rest", "n_folds", "n_draws", "n_seeds"),
            *("patients_se", "draws_se", "seeds_se"),
        ),
        text=("cell", "metric"),
    ),
    "pooled": Schema(
        rows="per arm's largest budget: three ways to one score of all folds, DeLong beside them",
        columns=(
            *("cell", "metric", "mean_of_folds", "pooled_raw", "pooled_rank"),
            *("delong", "delong_low", "delong_high", "n_folds"),
        ),
        text=("cell", "metric"),
    ),
    "subgroups": Schema(
        rows="per group of test patients, at each arm's largest budget; ``n_*`` count the tested",
        columns=(
            *("cell", "metric", "attribute", "group", *BUDGET, "estimate", "low", "high"),
            *GAIN,
        ),
        text=("cell", "metric", "attribute", "group"),
    ),
    "reliability": Schema(
        rows="per bin of predicted probability, at each arm's largest budget",
        columns=("cell", "bin", "confidence", "frequency", "n_images"),
        text=("cell",),
    ),
    "encoders": Schema(
        rows="per arm: health of its embeddings, whether they know the camera, and ``alerts`` of"
        ' the watchdog ("collapse in 2 of 3", "none", empty where nobody watched)',
        columns=(
            *("cell", "spread", "healthy_spread", "effective_rank"),
            *("camera_auc", "camera_accuracy", "n_cameras", "alerts"),
        ),
        text=("cell", "alerts"),
    ),
    "costs": Schema(
        rows="per arm: images that its encoders passed and seconds of their training, from the"
        " first step on, a trunk that several lengths share counted for each of them",
        columns=("cell", "images_seen", "training_seconds"),
        text=("cell",),
    ),
    "sweeps": Schema(
        rows="per place ``at`` of ROC, precision-recall and net benefit, at each arm's largest"
        " budget",
        columns=("cell", "curve", "at", "estimate", "low", "high"),
        text=("cell", "curve"),
        later=True,
    ),
    "ranks": Schema(
        rows="per arm of a family (they differ in method and pretraining only), at the least and"
        " the largest budget: its mean rank over folds",
        columns=(
            *("cell", "metric", "family", "mean_rank", "n_arms", "n_folds"),
            *("friedman_p", "critical_difference", "refused"),
        ),
        text=("cell", "metric", "refused"),
        later=True,
    ),
    "pairs": Schema(
        rows="per two arms of a family: each tested against every other",
        columns=(
            *("cell", "other", "metric", "difference", "low", "high", "n_pairs"),
            *("p", "p_holm", "refused"),
        ),
        text=("cell", "other", "metric", "refused"),
        later=True,
    ),
    "parts": Schema(
        rows="per fold and part: what it trains and tests on; and the whole cohort",
        columns=("fold", "part", "n_images", "n_patients", "n_positives"),
        text=("part",),
        plain=True,
        later=True,
    ),
    "spent": Schema(
        rows="per arm and kind of stage: those finished and their seconds; rows without a cell"
        " count each stage of the study once",
        columns=("cell", "kind", "n_stages", "seconds"),
        text=("cell", "kind"),
        later=True,
    ),
    "unseen": Schema(
        rows="per cell and metric with a score on another, labelled cohort (its name), which"
        " nothing was learned from: the mean of the models of all folds, and its difference to the"
        " control, with intervals over the patients of that cohort (``unit``, ``n_*``, without"
        " ``n_left_out`` samples of patients whom the audit links to the study's own), in ``turns``"
        " views; ``ensemble``, at an arm's largest budget: the score of the folds' mean"
        " probability",
        columns=(
            *("unseen", "cell", "metric", "n_trials", "n_planned", *BUDGET, "n_left_out"),
            *("estimate", "low", "high", *GAIN, "ensemble", "ensemble_low", "ensemble_high"),
            *("unit", "turns", "unseen_digest"),
        ),
        text=("unseen", "cell", "metric", "unit", "turns", "unseen_digest"),
        later=True,
    ),
    "relative": Schema(
        rows="per cell with a control: the difference as a share of the control's score",
        columns=(
            *("cell", "metric", "control_score", "arm_score", "estimate", "low", "high"),
            "n_pairs",
        ),
        text=("cell", "metric"),
        later=True,
    ),
    "structures": Schema(
        rows="per structure, where masks are scored, at each arm's largest budget, intervals over"
        " test patients alone; in how many of its ``n_volumes`` it was missed altogether, or found"
        " where it is not",
        columns=(
            *("cell", "metric", "structure", "estimate", "low", "high"),
            *("n_volumes", "n_missed", "n_invented"),
        ),
        text=("cell", "metric", "structure"),
        later=True,
    ),
    "suggestions": Schema(
        rows="of a search, per suggestion that ended, in order: its ``state`` (complete, pruned or"
        " fail), the score that it came to, the ``best`` of all so far that are complete and"
        " feasible, and what it cost, whoever paid: ``images`` trained on, ``seconds``",
        columns=("suggestion", "state", "score", "best", "is_feasible", "images", "seconds"),
        text=("state",),
        plain=True,
        later=True,
    ),
    "searched": Schema(
        rows="of a search, per suggestion and setting: what was ``chosen``, where that lies"
        " (``at``, 0..1) between the ``least`` and the ``most`` on the setting's own scale, both"
        " empty where it is a choice, and the setting's ``importance``",
        columns=("suggestion", "setting", "chosen", "at", "least", "most", "importance"),
        text=("setting", "chosen", "least", "most"),
        plain=True,
        later=True,
    ),
}
COLUMNS = {name: schema.columns for name, schema in SCHEMAS.items()}
TEXT = {column for schema in SCHEMAS.values() for column in schema.text}


def empty(name: str) -> pd.DataFrame:
    """Return a frame without rows, by name."""
    return pd.DataFrame(columns=list(COLUMNS[name]))
