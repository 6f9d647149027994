"""Scores of decisions: who is called positive, by rules that no label of the test set touches."""

from __future__ import annotations

import numpy as np

from melssl.evaluation.predictions import Predictions
from melssl.evaluation.tested import Tested


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean recall over classes, of the class whose probability over its prior is largest.

    For a binary outcome: positive where the probability exceeds the budget's share of positives.
    """
    prior = predictions.prior
    lift = np.divide(
        predictions.probability, prior, out=np.zeros_like(predictions.probability), where=prior > 0
    )
    right = lift.argmax(axis=1) == predictions.target
    classes = range(predictions.n_classes)
    recalls = [weighted_mean(right, predictions, weights, predictions.target == k) for k in classes]
    mean: np.ndarray = np.mean(recalls, axis=0)
    return mean


def sensitivity_at_budget_threshold_95(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of positives above the threshold that the budget's labels gave for 95 % specificity."""
    return _recall_at_threshold(predictions, weights, 1, 95)


def specificity_at_budget_threshold_95(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of negatives not above that threshold: what the promised 95 % became."""
    return _recall_at_threshold(predictions, weights, 0, 95)


def sensitivity_at_budget_threshold_90(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of positives above the threshold that the budget's labels gave for 90 % specificity."""
    return _recall_at_threshold(predictions, weights, 1, 90)


def specificity_at_budget_threshold_90(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of negatives not above that threshold: what the promised 90 % became."""
    return _recall_at_threshold(predictions, weights, 0, 90)


def weighted_mean(
    values: np.ndarray,
    tested: Tested,
    weights: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the mean of ``values`` (N,) over the masked samples per weighting, NaN if none."""
    # Summed in the order of the values, so that the order of the rows cannot move a last digit.
    order = np.argsort(values, kind="stable")
    order = order if mask is None else order[mask[order]]
    patient, n_patients = tested.patient[order], len(tested.patients)
    sums = np.bincount(patient, values[order], n_patients)
    mass = weights @ np.bincount(patient, minlength=n_patients).astype(np.float64)
    undefined = np.full(len(weights), np.nan)
    means: np.ndarray = np.divide(weights @ sums, mass, out=undefined, where=mass > 0)
    return means


def _recall_at_threshold(
    predictions: Predictions, weights: np.ndarray, k: int, specificity_percent: int
) -> np.ndarray:
    threshold = predictions.thresholds.get(specificity_percent)
    if threshold is None:
        return np.full(len(weights), np.nan)
    right = (predictions.score > threshold) == (k == 1)
    return weighted_mean(right, predictions, weights, predictions.target == k)
