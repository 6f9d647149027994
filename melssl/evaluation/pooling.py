"""One score from several folds: pooled raw, pooled by ranks within folds, or the mean of folds.

The three differ. *raw* compares scores across models that were never calibrated to each other;
*rank* first makes each fold's scores uniform, which keeps its order and drops the shifts between
models (and with them all meaning as probabilities); *mean* never compares samples of two folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from melssl.errors import ArtifactError
from melssl.evaluation.curves import midranks
from melssl.evaluation.metrics import Metric
from melssl.evaluation.predictions import Predictions


def pool_predictions(folds: Sequence[Predictions], how: Literal["raw", "rank"]) -> Predictions:
    """Stack the test predictions of folds of one draw and one seed; the prior is their mean.

    Cameras stay if every fold knows them. Thresholds stay if all folds have the same and scores
    are raw: a threshold of one model says nothing about another's scores, nor about ranks.

    ``rank`` replaces each class's probability by (midrank - 1/2) / n within its fold. For a binary
    outcome rows still sum to 1; for more classes they need not. Use it with ``ranks_only`` metrics.

    Raises:
        ArtifactError: no folds, other classes in another fold, or a sample in two of them.

    """
    if len({fold.n_classes for fold in folds}) != 1:
        raise ArtifactError(f"pooling: expected folds of one outcome, got {len(folds)} mixed ones")
    parts = [_ranked(fold) for fold in folds] if how == "rank" else list(folds)
    sample_id = np.concatenate([part.sample_id for part in parts])
    if len(np.unique(sample_id)) != len(sample_id):
        raise ArtifactError("pooling: a sample is in two folds; pool one draw and seed at a time")
    sizes = [len(part.target) for part in parts]
    cameras = [part.camera for part in parts if part.camera is not None]
    thresholds = dict(parts[0].thresholds)
    agree = all(dict(part.thresholds) == thresholds for part in parts)
    return Predictions(
        sample_id=sample_id,
        patient_id=np.concatenate([part.patient_id for part in parts]),
        target=np.concatenate([part.target for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
        prior=np.average([part.prior for part in parts], axis=0, weights=sizes),
        camera=np.concatenate(cameras) if len(cameras) == len(parts) else None,
        thresholds=thresholds if agree else {},
        per_patient=all(part.per_patient for part in parts),
    )


def pooled_score(
    folds: Sequence[Predictions], metric: Metric[Predictions], how: Literal["raw", "rank", "mean"]
) -> float:
    """Return the metric of the pooled folds; NaN for ``rank`` unless it is a ``ranks_only`` one."""
    if how == "mean":
        return float(np.mean([metric(fold) for fold in folds]))
    if how == "rank" and not metric.ranks_only:
        return float("nan")
    return metric(pool_predictions(folds, how))


def _ranked(fold: Predictions) -> Predictions:
    ranks = (np.apply_along_axis(midranks, 0, fold.probability) - 0.5) / len(fold.target)
    if fold.n_classes == 2:
        ranks[:, 0] = 1 - ranks[:, 1]
    return replace(fold, probability=ranks, thresholds={})
