"""Curves over all thresholds, read at fixed places, so that folds and redraws can be averaged.

Vertical averaging (Fawcett 2006): the curves of several test sets are averaged in y at the same x.
``weights`` is (R, P) as in ``curves``; every function returns (R, G) for G places, NaN where a
weighting does not define the curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from melssl.evaluation.curves import running
from melssl.evaluation.predictions import Predictions

RATES = np.linspace(0, 1, 101)  # false positive rates of a ROC curve
RECALLS = np.linspace(0, 1, 101)[1:]  # at recall 0 there is no precision
# Probabilities from which on one acts; finer where the outcome is rare.
ODDS_AT = np.concatenate([np.arange(0, 0.1, 0.0025), np.arange(0.1, 0.505, 0.01)])
Reading = Callable[[np.ndarray, np.ndarray], np.ndarray]
Sweep = Callable[[Predictions, np.ndarray], np.ndarray]


def roc_curve(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Sensitivity at each false positive rate of ``RATES``, linear between thresholds.

    Where a rate is reached at several thresholds the highest sensitivity counts, so the area under
    the curve is that of ``roc_auc``. Of several classes the mean over classes against the rest.
    """
    return _over_classes(predictions, weights, len(RATES), _sensitivities)


def precision_recall_curve(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Precision at the first threshold, from above, that reaches each recall of ``RECALLS``.

    Steps, because a line between two points of this curve promises what no threshold reaches (Davis
    & Goadrich 2006); their mean is the average precision. Of several classes the mean.
    """
    return _over_classes(predictions, weights, len(RECALLS), _precisions)


def net_benefit(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Net benefit of acting from each probability t of ``ODDS_AT`` on (Vickers & Elkin 2006).

    (TP - FP t / (1 - t)) / N, with TP and FP the positives and negatives whose probability is at
    least t: what is won for a positive, less the harm for a negative that t says one accepts.
    """
    order = np.argsort(predictions.score, kind="stable")
    score, positive = predictions.score[order], predictions.target[order] == 1
    first = np.searchsorted(score, ODDS_AT, side="left")
    hits, alarms = (
        _mass_from(first, side, predictions.patient[order], weights)
        for side in (positive, ~positive)
    )
    return _per_sample(hits - alarms * ODDS_AT / (1 - ODDS_AT), predictions, weights)


def benefit_of_all(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Net benefit of acting on everybody, at each t of ``ODDS_AT``: nobody needs a model for it."""
    positives = _images(predictions, predictions.target == 1) @ weights.T
    others = _images(predictions, predictions.target != 1) @ weights.T
    odds = ODDS_AT / (1 - ODDS_AT)
    return _per_sample(positives[:, None] - others[:, None] * odds, predictions, weights)


# Name of the curve: where it is read, how, and whether it exists for an outcome of two classes only
SWEEPS: dict[str, tuple[np.ndarray, Sweep, bool]] = {
    "roc": (RATES, roc_curve, False),
    "precision_recall": (RECALLS, precision_recall_curve, False),
    "net_benefit": (ODDS_AT, net_benefit, True),
    "benefit_of_all": (ODDS_AT, benefit_of_all, True),
}


def _over_classes(
    predictions: Predictions, weights: np.ndarray, n_places: int, reading: Reading
) -> np.ndarray:
    classes: Sequence[int] = [1] if predictions.n_classes == 2 else range(predictions.n_classes)
    rows, found = np.arange(len(predictions.target)), np.zeros((len(weights), n_places))
    for k in classes:
        for part, tp, fp in running(predictions, k, rows, weights):
            found[part] += reading(tp, fp)
    return found / len(classes)


def _sensitivities(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """Read ROC curves given by counts (G, r) down the thresholds: (r, places)."""
    found = np.full((tp.shape[1], len(RATES)), np.nan)
    for row in np.flatnonzero((tp[-1] > 0) & (fp[-1] > 0)):
        t, f = tp[:, row], fp[:, row]
        places = np.round(RATES * f[-1], 9)  # 29 % of 100 are 29, and not a hair less
        found[row] = np.interp(places, [0, *f], [0, *t]) / t[-1]
    return found


def _precisions(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """Read precision-recall curves given by counts (G, r) down the thresholds: (r, places)."""
    found = np.full((tp.shape[1], len(RECALLS)), np.nan)
    for row in np.flatnonzero((tp[-1] > 0) & (fp[-1] > 0)):
        t, f = tp[:, row], fp[:, row]
        first = np.searchsorted(t, np.round(RECALLS * t[-1], 9))
        found[row] = t[first] / (t[first] + f[first])
    return found


def _mass_from(
    first: np.ndarray, chosen: np.ndarray, patient: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the weight (R, places) of the chosen samples from the ``first`` ones on."""
    below = np.searchsorted(np.flatnonzero(chosen), first)
    mass = weights[:, patient[chosen]]
    sums = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
    from_here: np.ndarray = sums[:, -1:] - sums[:, below]
    return from_here


def _images(predictions: Predictions, chosen: np.ndarray) -> np.ndarray:
    return np.bincount(predictions.patient[chosen], minlength=len(predictions.patients))


def _per_sample(benefit: np.ndarray, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    mass = weights @ _images(predictions, np.ones(len(predictions.target), dtype=bool))
    undefined = np.full_like(benefit, np.nan)
    shares: np.ndarray = np.divide(benefit, mass[:, None], out=undefined, where=mass[:, None] > 0)
    return shares
