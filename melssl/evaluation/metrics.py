"""METRICS: each score's name, direction and chance level, and how it follows from predictions.

Every metric here is a function of predictions and of patient weights (R, P) that returns (R,);
weight one for every patient is the plain score. A score that the outcomes do not define, because
a class has no test image (or no weight), is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from melssl.errors import SpecError
from melssl.evaluation import curves
from melssl.evaluation.predictions import Predictions

Weighted = Callable[[Predictions, np.ndarray], np.ndarray]
BINS = 15


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions.

    ``chance`` is what uninformative scores reach, or None where that depends on the cohort.
    ``kind`` says for which outcomes it exists. ``ranks_only`` marks a metric that reads the order
    of the scores alone. ``weighted`` gives one score per row of patient weights (R, P); without
    it the bootstrap repeats rows and calls ``function``, which is right and slow.
    """

    name: str
    label: str
    higher_is_better: bool
    chance: float | None
    kind: Literal["binary", "multiclass", "any"]
    function: Callable[[Predictions], float]
    weighted: Weighted | None = None
    ranks_only: bool = False

    def __call__(self, predictions: Predictions) -> float:
        """Return the score; NaN where the test outcomes do not define it.

        Raises:
            SpecError: the metric does not exist for so many classes.

        """
        if not self.applies(predictions.n_classes):
            raise SpecError(
                f"{self.name}: expected a {self.kind} outcome, got {predictions.n_classes}"
                " classes; choose another metric"
            )
        return self.function(predictions)

    def applies(self, n_classes: int) -> bool:
        """Say whether the metric exists for an outcome of ``n_classes``."""
        return self.kind == "any" or (self.kind == "binary") == (n_classes == 2)


def score_all(
    predictions: Predictions, metrics: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Return every metric that exists for the outcome, in the order of ``METRICS``."""
    known = METRICS if metrics is None else metrics
    fit = {name: metric for name, metric in known.items() if metric.applies(predictions.n_classes)}
    return {name: metric(predictions) for name, metric in fit.items()}


def roc_auc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; the mean of classes against the rest if there are several."""
    return _macro(curves.roc_area, predictions, weights)


def average_precision(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Step-wise area under precision and recall; for several classes the mean over classes."""
    return _macro(curves.average_precision, predictions, weights)


def partial_auc_80(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area of the ROC region with TPR >= .8, in 0..0.2 (ISIC challenge 2024)."""
    return curves.roc_area_above(predictions, 1, weights, 0.8)


def sensitivity_at_95_specificity(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Highest sensitivity at a specificity of 95 % or more, read off the test ROC curve."""
    return curves.sensitivity_at(predictions, 1, weights, 95)


def sensitivity_at_90_specificity(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Highest sensitivity at a specificity of 90 % or more, read off the test ROC curve."""
    return curves.sensitivity_at(predictions, 1, weights, 90)


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean recall over classes, of the class whose probability over its prior is largest.

    For a binary outcome: positive where the probability exceeds the budget's share of positives.
    No label of the test set takes part in the decision.
    """
    prior = predictions.prior
    lift = np.divide(
        predictions.probability, prior, out=np.zeros_like(predictions.probability), where=prior > 0
    )
    right = lift.argmax(axis=1) == predictions.target
    recalls = []
    for k in range(predictions.n_classes):
        mine = predictions.target == k
        recalls.append(_weighted_mean(right, predictions, weights, mine))
    mean: np.ndarray = np.mean(recalls, axis=0)
    return mean


def brier(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of the probability: of class 1 if binary, else summed over classes."""
    one_hot = np.eye(predictions.n_classes)[predictions.target]
    squares = (predictions.probability - one_hot) ** 2
    loss = squares[:, 1] if predictions.n_classes == 2 else squares.sum(axis=1)
    return _weighted_mean(loss, predictions, weights)


def log_loss(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean of -ln p(true class), in nats; probabilities below 2.2e-16 count as that."""
    rows = np.arange(len(predictions.target))
    true = predictions.probability[rows, predictions.target]
    return _weighted_mean(-np.log(np.maximum(true, np.finfo(float).eps)), predictions, weights)


def ece(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error over 15 bins of equal mass, in 0..1.

    Sum over bins of (share of samples) * |mean confidence - frequency|: confidence is p(class 1)
    and frequency that of class 1 if binary, else top probability and accuracy (Naeini et al.
    2015; equal mass, because at 2 % prevalence equal widths leave one bin). Equal scores share
    the bin in which the middle of their mass lies. Biased upward in small test sets, and more so
    under resampling: its bootstrap interval leans high.
    """
    if predictions.n_classes == 2:
        score, hit = predictions.score, predictions.target == 1
    else:
        score = predictions.probability.max(axis=1)
        hit = predictions.probability.argmax(axis=1) == predictions.target
    order = np.argsort(score, kind="stable")
    patient, hit = predictions.patient[order], hit[order]
    values, starts = np.unique(score[order], return_index=True)
    errors = np.empty(len(weights))
    for row, multiplicity in enumerate(weights):
        sample = multiplicity[patient]
        mass = np.add.reduceat(sample, starts)
        errors[row] = _calibration_gap(values, mass, np.add.reduceat(sample * hit, starts))
    return errors


def _calibration_gap(values: np.ndarray, mass: np.ndarray, hits: np.ndarray) -> float:
    """Return the binned error of ascending distinct scores that carry ``mass`` and ``hits``."""
    reached = np.cumsum(mass)
    # A score belongs to bin b if its middle lies in b/n .. (b + 1)/n of the whole mass.
    middle = (reached - mass / 2) * BINS
    ends = np.searchsorted(middle, reached[-1] * np.arange(1, BINS + 1))
    gap = np.concatenate([[0.0], np.cumsum(mass * values - hits)])[ends]
    return float(np.abs(np.diff(gap, prepend=0.0)).sum() / reached[-1])


def _macro(
    area: Callable[[Predictions, int, np.ndarray], np.ndarray],
    predictions: Predictions,
    weights: np.ndarray,
) -> np.ndarray:
    classes = [1] if predictions.n_classes == 2 else range(predictions.n_classes)
    mean: np.ndarray = np.mean([area(predictions, k, weights) for k in classes], axis=0)
    return mean


def _weighted_mean(
    values: np.ndarray,
    predictions: Predictions,
    weights: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the mean of ``values`` (N,) over the masked samples per weighting, NaN if none."""
    # Summed in the order of the values, so that the order of the rows cannot move a last digit.
    order = np.argsort(values, kind="stable")
    order = order if mask is None else order[mask[order]]
    patient, n_patients = predictions.patient[order], len(predictions.patients)
    sums = np.bincount(patient, values[order], n_patients)
    mass = weights @ np.bincount(patient, minlength=n_patients).astype(np.float64)
    undefined = np.full(len(weights), np.nan)
    means: np.ndarray = np.divide(weights @ sums, mass, out=undefined, where=mass > 0)
    return means


def _plain(weighted: Weighted) -> Callable[[Predictions], float]:
    def function(predictions: Predictions) -> float:
        return float(weighted(predictions, np.ones((1, len(predictions.patients))))[0])

    return function


def _rank(weighted: Weighted, label: str, chance: float | None, *, binary: bool = False) -> Metric:
    return Metric(
        name=weighted.__name__,
        label=label,
        higher_is_better=True,
        chance=chance,
        kind="binary" if binary else "any",
        function=_plain(weighted),
        weighted=weighted,
        ranks_only=True,
    )


def _probability(weighted: Weighted, label: str, *, higher_is_better: bool = False) -> Metric:
    return Metric(
        name=weighted.__name__,
        label=label,
        higher_is_better=higher_is_better,
        chance=None,
        kind="any",
        function=_plain(weighted),
        weighted=weighted,
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _rank(roc_auc, "ROC AUC", 0.5),
        _rank(average_precision, "Average precision", None),
        _rank(partial_auc_80, "Partial AUC, TPR ≥ 80 %", 0.02, binary=True),
        _rank(sensitivity_at_95_specificity, "Sensitivity at 95 % specificity", 0.05, binary=True),
        _rank(sensitivity_at_90_specificity, "Sensitivity at 90 % specificity", 0.1, binary=True),
        _probability(balanced_accuracy, "Balanced accuracy", higher_is_better=True),
        _probability(brier, "Brier score"),
        _probability(ece, "Expected calibration error"),
        _probability(log_loss, "Log loss"),
    )
}
