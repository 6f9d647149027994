"""DeLong: variance of one ROC AUC, and of the difference of two on the same samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from melssl.statistics.interval import LEVEL, Interval


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """ROC AUC of class 1 and its variance, for samples that are independent of each other."""

    auc: float
    variance: float

    @property
    def interval(self) -> Interval:
        """Normal interval, cut to 0..1."""
        low, high = np.clip(_reach(self.auc, self.variance), 0, 1)
        return Interval(estimate=self.auc, low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class DeLongDifference:
    """AUC of one score minus that of another on the same samples, and the difference's variance."""

    difference: float
    variance: float

    @property
    def interval(self) -> Interval:
        """Normal interval, cut to -1..1."""
        low, high = np.clip(_reach(self.difference, self.variance), -1, 1)
        return Interval(estimate=self.difference, low=float(low), high=float(high))

    @property
    def p(self) -> float:
        """Two-sided p-value of z = difference / sqrt(variance); NaN where the variance is zero."""
        if not self.variance > 0:
            return float("nan")
        return 2 * float(ndtr(-abs(self.difference) / np.sqrt(self.variance)))


def delong(target: np.ndarray, score: np.ndarray) -> DeLong:
    """Return AUC and variance by DeLong et al. (1988) in O(n log n), by midranks (Sun & Xu 2014).

    Var = var(V10) / m + var(V01) / n, with V10 the share of negatives below each of m positives
    and V01 the share of positives above each of n negatives; ties count one half. NaN with fewer
    than two samples of a class. Images of one patient are not independent: prefer the bootstrap.
    """
    auc, covariance = _areas(target, score[None])
    return DeLong(auc=float(auc[0]), variance=float(covariance[0, 0]))


def delong_difference(target: np.ndarray, a: np.ndarray, b: np.ndarray) -> DeLongDifference:
    """Compare the AUCs of scores ``a`` and ``b`` (N,) on the same samples, paired.

    Var = S_aa + S_bb - 2 S_ab, with S = cov(V10) / m + cov(V01) / n over the scores (DeLong et al.
    1988). NaN with fewer than two samples of a class; the samples must be independent.
    """
    auc, covariance = _areas(target, np.stack([a, b]))
    contrast = np.array([1.0, -1.0])
    variance = float(contrast @ covariance @ contrast)
    return DeLongDifference(difference=float(auc[0] - auc[1]), variance=max(variance, 0.0))


def _areas(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUC of each score, (K,), and their covariance, (K, K), for ``scores`` (K, N)."""
    positive, negative = scores[:, target == 1], scores[:, target != 1]
    m, n = positive.shape[1], negative.shape[1]
    if min(m, n) < 2:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    ranks = rankdata(np.hstack([positive, negative]), axis=1)
    v10 = (ranks[:, :m] - rankdata(positive, axis=1)) / n
    v01 = 1 - (ranks[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(axis=1), covariance


def _reach(middle: float, variance: float) -> list[float]:
    reach = float(ndtri((1 + LEVEL) / 2)) * float(np.sqrt(variance))
    return [middle - reach, middle + reach]
