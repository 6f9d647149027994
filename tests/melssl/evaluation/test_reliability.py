"""Reliability curve: bins of equal mass, and the error that is read off them."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.evaluation.metrics import METRICS
from melssl.evaluation.predictions import Predictions
from melssl.evaluation.reliability import BINS, reliability


def made(target: np.ndarray, probability: np.ndarray) -> Predictions:
    ids = np.array([f"i{row:04d}" for row in range(len(target))], dtype=object)
    k = probability.shape[1]
    return Predictions(
        sample_id=ids,
        patient_id=ids,
        target=target,
        probability=probability,
        prior=np.full(k, 1 / k),
    )


def binary(target: list[int] | np.ndarray, score: list[float] | np.ndarray) -> Predictions:
    p = np.asarray(score)
    return made(np.asarray(target), np.column_stack([1 - p, p]))


def test_four_samples_in_two_bins_give_the_means_known_by_hand() -> None:
    curve = reliability(binary([0, 1, 0, 1], [0.1, 0.2, 0.6, 0.9]), n_bins=2)
    assert curve["bin"].tolist() == [0, 1]
    assert curve["confidence"].tolist() == pytest.approx([0.15, 0.75])
    assert curve["frequency"].tolist() == [0.5, 0.5]
    assert curve["n_images"].tolist() == [2, 2]


def test_equal_scores_share_a_bin_and_empty_bins_are_left_out() -> None:
    curve = reliability(binary([0, 1, 1, 1, 0], [0.3, 0.3, 0.3, 0.3, 0.9]))
    assert curve["n_images"].tolist() == [4, 1]
    assert curve["bin"].tolist() == [4, 9]
    assert curve["confidence"].tolist() == pytest.approx([0.3, 0.9])
    assert curve["frequency"].tolist() == [0.75, 0]


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_calibration_error_is_the_mean_distance_of_the_curve(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(n_classes), size=700).round(2)
    probability /= probability.sum(axis=1, keepdims=True)
    predictions = made(rng.integers(n_classes, size=700), probability)
    curve = reliability(predictions, BINS)
    gaps = (curve["confidence"] - curve["frequency"]).abs() * curve["n_images"]
    assert curve["n_images"].sum() == 700
    assert gaps.sum() / 700 == pytest.approx(METRICS["ece"](predictions), abs=1e-12)


def test_right_probabilities_lie_on_the_diagonal() -> None:
    rng = np.random.default_rng(1)
    score = rng.beta(0.3, 8, size=60_000)
    curve = reliability(binary((rng.random(60_000) < score).astype(int), score))
    assert len(curve) == 10
    np.testing.assert_allclose(curve["n_images"], 6000, atol=1)
    np.testing.assert_allclose(curve["frequency"], curve["confidence"], atol=0.015)
    assert curve["confidence"].is_monotonic_increasing


def test_the_order_of_rows_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    predictions = binary(rng.integers(2, size=300), rng.random(300).round(2))
    shuffled = predictions.at(rng.permutation(300))
    assert reliability(shuffled).equals(reliability(predictions))
