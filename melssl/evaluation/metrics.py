"""METRICS: each score's name, direction and chance level, and how it follows from predictions.

Every metric here is a function of predictions and of patient weights (R, P) that returns (R,);
weight one for every patient is the plain score. A score that the outcomes do not define, because
a class has no test image (or no weight), is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from melssl.errors import SpecError
from melssl.evaluation import curves
from melssl.evaluation.decisions import (
    balanced_accuracy,
    sensitivity_at_budget_threshold_90,
    sensitivity_at_budget_threshold_95,
    specificity_at_budget_threshold_90,
    specificity_at_budget_threshold_95,
    weighted_mean,
)
from melssl.evaluation.predictions import UNKNOWN_CAMERA, Predictions
from melssl.evaluation.reliability import ece

Weighted = Callable[[Predictions, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions.

    ``chance`` is what uninformative scores reach, or None where that depends on the cohort.
    ``kind`` says for which outcomes it exists. ``ranks_only`` marks a metric that reads the order
    of the scores alone; ``needs_cameras`` one that exists only where each sample's camera is known.
    ``weighted`` gives one score per row of patient weights (R, P); without
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
    needs_cameras: bool = False
    in_unit_range: bool = True

    def __call__(self, predictions: Predictions) -> float:
        """Return the score; NaN where the test outcomes do not define it.

        Raises:
            SpecError: the metric does not exist for so many classes, or without cameras.

        """
        if not self.applies(predictions.n_classes, cameras=True):
            raise SpecError(
                f"{self.name}: expected a {self.kind} outcome, got {predictions.n_classes}"
                " classes; choose another metric"
            )
        if not self.exists_for(predictions):
            raise SpecError(
                f"{self.name}: expected the camera of each sample, got none; the cohort names"
                " neither camera nor width and height: choose another metric"
            )
        return self.function(predictions)

    def applies(self, n_classes: int, *, cameras: bool = False) -> bool:
        """Say whether the metric exists for an outcome of ``n_classes``, cameras known or not."""
        fits = self.kind == "any" or (self.kind == "binary") == (n_classes == 2)
        return fits and (cameras or not self.needs_cameras)

    def exists_for(self, predictions: Predictions) -> bool:
        """Say whether the metric exists for the outcome and what is known of the samples."""
        return self.applies(predictions.n_classes, cameras=predictions.camera is not None)


def score_all(
    predictions: Predictions, metrics: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Return every metric that exists for the predictions, in the order of ``METRICS``."""
    known = METRICS if metrics is None else metrics
    fit = {name: metric for name, metric in known.items() if metric.exists_for(predictions)}
    return {name: metric(predictions) for name, metric in fit.items()}


def roc_auc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; the mean of classes against the rest if there are several."""
    return _macro(curves.roc_area, predictions, weights)


def within_camera_auc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve over pairs of one camera only; a camera weighs by its pairs.

    What tells cameras apart, and not lesions, earns one half. Samples of an unknown camera form no
    pairs. NaN where no camera took both a positive and a negative.
    """
    assert predictions.camera is not None
    names = [name for name in np.unique(predictions.camera) if name != UNKNOWN_CAMERA]
    cameras = [np.flatnonzero(predictions.camera == name) for name in names]
    return curves.roc_area_within(predictions, 1, weights, cameras)


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


def brier(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of the probability: of class 1 if binary, else summed over classes."""
    one_hot = np.eye(predictions.n_classes)[predictions.target]
    squares = (predictions.probability - one_hot) ** 2
    loss = squares[:, 1] if predictions.n_classes == 2 else squares.sum(axis=1)
    return weighted_mean(loss, predictions, weights)


def log_loss(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean of -ln p(true class), in nats; probabilities below 2.2e-16 count as that."""
    rows = np.arange(len(predictions.target))
    true = predictions.probability[rows, predictions.target]
    return weighted_mean(-np.log(np.maximum(true, np.finfo(float).eps)), predictions, weights)


def _macro(
    area: Callable[[Predictions, int, np.ndarray], np.ndarray],
    predictions: Predictions,
    weights: np.ndarray,
) -> np.ndarray:
    classes = [1] if predictions.n_classes == 2 else range(predictions.n_classes)
    mean: np.ndarray = np.mean([area(predictions, k, weights) for k in classes], axis=0)
    return mean


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
        in_unit_range=higher_is_better,  # shares of what is right; a loss may pass 1
    )


def _at_threshold(weighted: Weighted, label: str) -> Metric:
    metric = _probability(weighted, f"{label} % threshold of the budget", higher_is_better=True)
    return replace(metric, kind="binary")


_WITHIN = _rank(within_camera_auc, "Within-camera ROC AUC", 0.5, binary=True)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _rank(roc_auc, "ROC AUC", 0.5),
        replace(_WITHIN, needs_cameras=True),
        _rank(average_precision, "Average precision", None),
        _rank(partial_auc_80, "Partial AUC, TPR ≥ 80 %", 0.02, binary=True),
        _rank(sensitivity_at_95_specificity, "Sensitivity at 95 % specificity", 0.05, binary=True),
        _rank(sensitivity_at_90_specificity, "Sensitivity at 90 % specificity", 0.1, binary=True),
        _at_threshold(sensitivity_at_budget_threshold_95, "Sensitivity at the 95"),
        _at_threshold(specificity_at_budget_threshold_95, "Specificity at the 95"),
        _at_threshold(sensitivity_at_budget_threshold_90, "Sensitivity at the 90"),
        _at_threshold(specificity_at_budget_threshold_90, "Specificity at the 90"),
        _probability(balanced_accuracy, "Balanced accuracy", higher_is_better=True),
        _probability(brier, "Brier score"),
        _probability(ece, "Expected calibration error"),
        _probability(log_loss, "Log loss"),
    )
}
