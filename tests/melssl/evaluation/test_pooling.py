"""Pooling: raw, by ranks and as a mean are three different numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from melssl.errors import ArtifactError
from melssl.evaluation.metrics import METRICS
from melssl.evaluation.pooling import pool_predictions, pooled_score
from melssl.evaluation.predictions import Predictions

AUC = METRICS["roc_auc"]


def fold_of(name: str, target: list[int], score: list[float], prior: float = 0.5) -> Predictions:
    ids = np.array([f"{name}{row}" for row in range(len(target))], dtype=object)
    p = np.array(score)
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        target=np.array(target),
        probability=np.column_stack([1 - p, p]),
        prior=np.array([1 - prior, prior]),
    )


# Each fold is perfect by itself; the second one's scores are all higher.
LOW = fold_of("a", [0, 1], [0.1, 0.2], prior=0.5)
HIGH = fold_of("b", [0, 0, 0, 1], [0.6, 0.7, 0.8, 0.9], prior=0.2)


def test_raw_pooling_pays_for_a_shift_between_folds_that_ranks_and_means_forgive() -> None:
    assert pooled_score([LOW, HIGH], AUC, "raw") == 5 / 8
    assert pooled_score([LOW, HIGH], AUC, "rank") == 1
    assert pooled_score([LOW, HIGH], AUC, "mean") == 1


def test_ranks_are_midranks_within_the_fold_and_rows_still_sum_to_one() -> None:
    tied = fold_of("a", [0, 0, 1, 1], [0.1, 0.3, 0.3, 0.9])
    pooled = pool_predictions([tied], "rank")
    np.testing.assert_allclose(pooled.score, [0.125, 0.5, 0.5, 0.875])
    np.testing.assert_allclose(pooled.probability.sum(axis=1), 1)


def test_pooling_stacks_the_rows_and_weighs_the_prior_by_them() -> None:
    pooled = pool_predictions([LOW, HIGH], "raw")
    assert pooled.sample_id.tolist() == ["a0", "a1", "b0", "b1", "b2", "b3"]
    np.testing.assert_allclose(pooled.prior, [0.7, 0.3])
    assert pooled_score([LOW, HIGH], METRICS["brier"], "raw") == METRICS["brier"](pooled)


def test_cameras_are_pooled_where_every_fold_knows_them() -> None:
    low = replace(LOW, camera=np.array(["A", "A"], dtype=object))
    high = replace(HIGH, camera=np.array(["B", "A", "B", "B"], dtype=object))
    pooled = pool_predictions([low, high], "rank")
    assert pooled.camera is not None
    assert pooled.camera.tolist() == ["A", "A", "B", "A", "B", "B"]
    assert pool_predictions([low, HIGH], "raw").camera is None
    assert pooled_score([low, high], METRICS["within_camera_auc"], "raw") == 3 / 4


def test_thresholds_survive_pooling_where_they_agree_and_scores_are_raw() -> None:
    low, high = (replace(fold, thresholds={95: 0.3}) for fold in (LOW, HIGH))
    other = replace(HIGH, thresholds={95: 0.31})
    assert pool_predictions([low, high], "raw").thresholds == {95: 0.3}
    assert pool_predictions([low, other], "raw").thresholds == {}
    assert pool_predictions([low, HIGH], "raw").thresholds == {}
    assert pool_predictions([low, high], "rank").thresholds == {}


def test_a_probability_metric_of_ranks_is_undefined() -> None:
    assert np.isnan(pooled_score([LOW, HIGH], METRICS["brier"], "rank"))


def test_the_order_of_folds_changes_nothing() -> None:
    assert pooled_score([HIGH, LOW], AUC, "raw") == pooled_score([LOW, HIGH], AUC, "raw")


def test_a_sample_in_two_folds_is_refused() -> None:
    with pytest.raises(ArtifactError, match="a sample is in two folds"):
        pool_predictions([LOW, LOW], "raw")


def test_no_folds_or_other_classes_are_refused() -> None:
    three = replace(LOW, probability=np.eye(3)[[0, 1]], prior=np.ones(3) / 3)
    for folds in ([], [HIGH, three]):
        with pytest.raises(ArtifactError, match="one outcome"):
            pool_predictions(folds, "raw")
