"""METRICS: each score's name, direction and chance level, and how it follows from what was tested.

Every metric here is a function of predictions (or of mask scores) and of patient weights (R, P)
that returns (R,); weight one for every patient is the plain score. A score that the outcomes do not
define, because a class has no test image (or no weight), is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from melssl.errors import SpecError
from melssl.evaluation import curves, mask_scores
from melssl.evaluation.decisions import (
    balanced_accuracy,
    sensitivity_at_budget_threshold_90,
    sensitivity_at_budget_threshold_95,
    specificity_at_budget_threshold_90,
    specificity_at_budget_threshold_95,
    weighted_mean,
)
from melssl.evaluation.mask_scores import MaskScores
from melssl.evaluation.predictions import UNKNOWN_CAMERA, Predictions
from melssl.evaluation.reliability import ece
from melssl.evaluation.tested import Tested

TestedT = TypeVar("TestedT", bound=Tested)
Weighted = Callable[[TestedT, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Metric(Generic[TestedT]):
    """A score of what was tested: of predicted classes, or of masks.

    ``chance`` is what uninformative scores reach, or None where that depends on the cohort.
    ``kind`` says for which outcomes it exists: classes, two or more, or masks. ``ranks_only`` marks
    a metric that reads the order of the scores alone; ``needs_cameras`` one that exists only where
    each sample's camera is known, ``per_patient`` one of patients, where they are scored, too.
    ``weighted`` gives one score per row of patient weights (R, P); without it the bootstrap repeats
    rows and calls ``function``, which is right and slow.
    """

    name: str
    label: str
    higher_is_better: bool
    chance: float | None
    kind: Literal["binary", "multiclass", "any", "masks"]
    function: Callable[[TestedT], float]
    weighted: Weighted[TestedT] | None = None
    ranks_only: bool = False
    needs_cameras: bool = False
    per_patient: bool = False
    in_unit_range: bool = True

    def __call__(self, tested: TestedT) -> float:
        """Return the score; NaN where the test outcomes do not define it.

        Raises:
            SpecError: the metric does not exist for so many classes or for masks, without cameras,
                or where patients are not scored.

        """
        n_classes = n_classes_of(tested)
        if not self.applies(n_classes, cameras=True, patients=True):
            got = "masks" if n_classes is None else f"{n_classes} classes"
            raise SpecError(
                f"{self.name}: expected a {self.kind} outcome, got {got}; choose another metric"
            )
        if self.per_patient and not (isinstance(tested, Predictions) and tested.per_patient):
            raise SpecError(
                f"{self.name}: expected samples that are takes of one finding of a patient, as"
                " clips are; choose another metric, or call Predictions.by_patient"
            )
        if not self.exists_for(tested):
            raise SpecError(
                f"{self.name}: expected the camera of each sample, got none; the cohort names"
                " neither camera nor width and height: choose another metric"
            )
        return self.function(tested)

    def applies(
        self, n_classes: int | None, *, cameras: bool = False, patients: bool = False
    ) -> bool:
        """Say whether the metric exists for so many classes, or for masks (None).

        ``cameras`` says whether the camera of each sample is known, ``patients`` whether patients
        are scored, too.
        """
        if self.per_patient and not patients:
            return False
        if n_classes is None or self.kind == "masks":
            return n_classes is None and self.kind == "masks"
        fits = self.kind == "any" or (self.kind == "binary") == (n_classes == 2)
        return fits and (cameras or not self.needs_cameras)

    def exists_for(self, tested: Tested) -> bool:
        """Say whether the metric exists for the outcome and what is known of the samples."""
        cameras = isinstance(tested, Predictions) and tested.camera is not None
        patients = isinstance(tested, Predictions) and tested.per_patient
        return self.applies(n_classes_of(tested), cameras=cameras, patients=patients)


def n_classes_of(tested: Tested) -> int | None:
    """Return the number of classes of an outcome, None of masks."""
    return tested.n_classes if isinstance(tested, Predictions) else None


def score_all(tested: Tested, metrics: Mapping[str, Metric[Any]] | None = None) -> dict[str, float]:
    """Return every metric that exists for what was tested, in the order of ``METRICS``."""
    known = METRICS if metrics is None else metrics
    fit = {name: metric for name, metric in known.items() if metric.exists_for(tested)}
    return {name: metric(tested) for name, metric in fit.items()}


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


def patient_roc_auc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of patients, each by the mean probability of their samples."""
    return roc_auc(predictions.by_patient(), weights)


def patient_balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Balanced accuracy of patients, each by the mean probability of their samples."""
    return balanced_accuracy(predictions.by_patient(), weights)


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


def _plain(weighted: Weighted[TestedT]) -> Callable[[TestedT], float]:
    def function(tested: TestedT) -> float:
        return float(weighted(tested, np.ones((1, len(tested.patients))))[0])

    return function


def _rank(
    weighted: Weighted[Predictions], label: str, chance: float | None, *, binary: bool = False
) -> Metric[Predictions]:
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


def _probability(
    weighted: Weighted[Predictions], label: str, *, higher_is_better: bool = False
) -> Metric[Predictions]:
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


def _at_threshold(weighted: Weighted[Predictions], label: str) -> Metric[Predictions]:
    metric = _probability(weighted, f"{label} % threshold of the budget", higher_is_better=True)
    return replace(metric, kind="binary")


def _masks(
    weighted: Weighted[MaskScores], label: str, *, higher_is_better: bool
) -> Metric[MaskScores]:
    return Metric(
        name=weighted.__name__,
        label=label,
        higher_is_better=higher_is_better,
        chance=None,
        kind="masks",
        function=_plain(weighted),
        weighted=weighted,
        in_unit_range=higher_is_better,  # a share of overlap; a distance has no upper end
    )


_OF_PATIENTS = _rank(patient_roc_auc, "ROC AUC per patient", 0.5)
_ACCURACY = _probability(
    patient_balanced_accuracy, "Balanced accuracy per patient", higher_is_better=True
)
_WITHIN = _rank(within_camera_auc, "Within-camera ROC AUC", 0.5, binary=True)

METRICS: dict[str, Metric[Any]] = {
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
        replace(_OF_PATIENTS, per_patient=True),
        replace(_ACCURACY, per_patient=True),
        _probability(brier, "Brier score"),
        _probability(ece, "Expected calibration error"),
        _probability(log_loss, "Log loss"),
        _masks(mask_scores.dice, "Dice coefficient", higher_is_better=True),
        _masks(mask_scores.dice_with_background, "Dice with the background", higher_is_better=True),
        _masks(mask_scores.hausdorff_95_mm, "95 % Hausdorff distance (mm)", higher_is_better=False),
        _masks(
            mask_scores.surface_distance_mm,
            "Average surface distance (mm)",
            higher_is_better=False,
        ),
    )
}
