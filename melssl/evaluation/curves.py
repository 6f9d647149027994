"""Scores of one class against the rest, for one or thousands of patient weightings at once.

A weighting gives each patient a multiplicity, as a bootstrap resample does; a patient's images
come and go together. ``weights`` is (R, P) throughout, and every function returns (R,): the areas
are NaN where the class, or its rest, has no weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import sparse

from melssl.evaluation.predictions import Predictions

CELLS = 1 << 20  # thresholds x weightings held at a time: 8 MB per array
LEAST = 64  # weightings at a time, so that a step down the thresholds is worth its call
Area = Callable[[np.ndarray, np.ndarray], np.ndarray]


def roc_area(predictions: Predictions, k: int, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; a tie counts one half."""
    return _over_thresholds(predictions, k, weights, _roc_area)


def roc_area_above(
    predictions: Predictions, k: int, weights: np.ndarray, sensitivity: float
) -> np.ndarray:
    """Area between the ROC curve and the line TPR = ``sensitivity``, in 0..1 - sensitivity."""
    return _over_thresholds(
        predictions, k, weights, lambda tp, fp: _roc_area_above(tp, fp, sensitivity)
    )


def average_precision(predictions: Predictions, k: int, weights: np.ndarray) -> np.ndarray:
    """Sum over distinct thresholds of precision times the gain in recall."""
    return _over_thresholds(predictions, k, weights, _average_precision)


def sensitivity_at(
    predictions: Predictions, k: int, weights: np.ndarray, specificity_percent: int
) -> np.ndarray:
    """Highest sensitivity of a threshold whose specificity is at least the given one."""
    return _over_thresholds(
        predictions, k, weights, lambda tp, fp: _sensitivity_at(tp, fp, specificity_percent)
    )


def roc_area_within(
    predictions: Predictions, k: int, weights: np.ndarray, groups: Sequence[np.ndarray]
) -> np.ndarray:
    """Share of the pairs (class, rest) of one group of rows that are ranked rightly.

    Pairs of all groups count alike, so a group weighs by its number of pairs; a tie counts one
    half. NaN where no group holds both sides.
    """
    right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for rows in groups:
        if len(np.unique(predictions.target[rows] == k)) < 2:
            continue
        for part, tp, fp in running(predictions, k, rows, weights):
            right[part] += _ranked_pairs(tp, fp)
            pairs[part] += tp[-1] * fp[-1]
    undefined = np.full(len(weights), np.nan)
    area: np.ndarray = np.divide(right, pairs, out=undefined, where=pairs > 0)
    return area


def midranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks from 1 of ``values`` (n,); equal values share the mean of their ranks."""
    _, tie, count = np.unique(values, return_inverse=True, return_counts=True)
    middle: np.ndarray = np.cumsum(count) - (count - 1) / 2
    return middle[tie]


def running(
    predictions: Predictions, k: int, rows: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield weightings with the true and false positives (G, r) of ``rows`` down G thresholds."""
    positive, patient = predictions.target[rows] == k, predictions.patient[rows]
    group = _thresholds(predictions.probability[rows, k], positive)
    here, column = np.unique(patient, return_inverse=True)
    n_groups = int(group.max()) + 1
    counts = [
        sparse.csr_array(
            (np.ones(side.sum()), (group[side], column[side])), shape=(n_groups, len(here))
        )
        for side in (positive, ~positive)
    ]
    for part in _parts(len(weights), n_groups):
        columns = np.ascontiguousarray(weights[part][:, here].T, dtype=np.float64)
        tp, fp = (_accumulated(count @ columns) for count in counts)
        yield part, tp, fp


def _over_thresholds(
    predictions: Predictions, k: int, weights: np.ndarray, area: Area
) -> np.ndarray:
    """Apply ``area`` to true and false positive counts (G, r) at G descending thresholds."""
    scores = np.empty(len(weights))
    everyone = np.arange(len(predictions.target))
    for part, tp, fp in running(predictions, k, everyone, weights):
        defined = (tp[-1] > 0) & (fp[-1] > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores[part] = np.where(defined, area(tp, fp), np.nan)
    return scores


def _thresholds(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Number the distinct scores (N,) from the highest down.

    Neighbours without a positive become one: between positives no score of this module can turn,
    and a rare outcome leaves few thresholds.
    """
    distinct, tie = np.unique(-score, return_inverse=True)
    holds = np.zeros(len(distinct), dtype=bool)
    holds[tie[positive]] = True
    starts = holds.copy()
    starts[1:] |= holds[:-1]
    starts[0] = True
    group: np.ndarray = np.cumsum(starts) - 1
    return group[tie]


def _parts(n_weightings: int, n_groups: int) -> Iterator[slice]:
    step = max(LEAST, CELLS // n_groups)
    for start in range(0, n_weightings, step):
        yield slice(start, start + step)


def _accumulated(counts: np.ndarray) -> np.ndarray:
    """Running sums down the rows, in place: row by row is several times faster than cumsum."""
    for row in range(1, len(counts)):
        counts[row] += counts[row - 1]
    return counts


def _roc_area(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    area: np.ndarray = _ranked_pairs(tp, fp) / (tp[-1] * fp[-1])
    return area


def _ranked_pairs(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """Pairs in which the positive stands higher, and half of the ties."""
    height = tp.copy()
    height[1:] += tp[:-1]
    twice: np.ndarray = np.einsum("gr,gr->r", _steps(fp), height)
    return twice / 2


def _roc_area_above(tp: np.ndarray, fp: np.ndarray, sensitivity: float) -> np.ndarray:
    end = tp / tp[-1]
    rise, width = _steps(end), _steps(fp) / fp[-1]
    above = np.maximum(end - sensitivity, 0)
    begin = np.maximum(end - rise - sensitivity, 0)
    # A segment that crosses the line counts from the crossing on.
    share = np.where(rise > 0, np.minimum(above / np.where(rise > 0, rise, 1), 1), 1)
    area: np.ndarray = (width * share * (above + begin) / 2).sum(axis=0)
    return area


def _average_precision(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    called = tp + fp
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    mean: np.ndarray = np.einsum("gr,gr->r", _steps(tp), precision) / tp[-1]
    return mean


def _sensitivity_at(tp: np.ndarray, fp: np.ndarray, specificity_percent: int) -> np.ndarray:
    allowed = fp * 100 <= fp[-1] * (100 - specificity_percent)  # whole numbers: exact
    best: np.ndarray = np.where(allowed, tp, 0).max(axis=0) / tp[-1]
    return best


def _steps(sums: np.ndarray) -> np.ndarray:
    steps = sums.copy()
    steps[1:] -= sums[:-1]
    return steps
