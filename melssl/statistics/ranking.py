"""Ranks of arms over blocks: Friedman's test, and the difference that Nemenyi calls critical.

A block is a set of test cases on which every arm has a score, independent of the other blocks:
Demšar's (2006) are data sets. Folds of one cohort share training patients, and folds that were
dealt anew also test patients; what that does to the error rate is in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc
from scipy.stats import rankdata, studentized_range

LEVEL = 0.05
FEWEST_ARMS, FEWEST_BLOCKS = 3, 3


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Mean ranks (k,) from 1, the best; NaN statistics where ``refused`` says why there are none.

    Two arms whose mean ranks differ by ``critical`` or more are told apart at 5 %, all pairs
    together. ``chi2`` is Friedman's statistic, ``f`` Iman and Davenport's, ``p`` that of ``f``.
    """

    mean_ranks: np.ndarray
    chi2: float
    f: float
    p: float
    critical: float
    refused: str | None = None


def ranking(scores: np.ndarray, refused: str | None = None) -> Ranking:
    """Rank k arms within each of n blocks; ``scores`` is (n, k), higher is better, NaN is missing.

    Where the blocks are known to be none, ``refused`` says why, and only ranks are returned.

    Friedman's chi2 = 12 n / (k (k + 1)) (sum R_j^2 - k (k + 1)^2 / 4) of the mean ranks R, with
    f = (n - 1) chi2 / (n (k - 1) - chi2) on k - 1 and (k - 1)(n - 1) degrees of freedom (Iman &
    Davenport 1980); ties share the mean of their ranks, without a correction of chi2, as in Demšar
    (2006).
    """
    n, k = scores.shape
    whole = scores[~np.isnan(scores).any(axis=1)]
    ranks = rankdata(-whole, axis=1).mean(axis=0) if len(whole) else np.full(k, np.nan)
    refused = refused or _why_not(len(whole), n, k)
    if refused:
        nothing = float("nan")
        return Ranking(
            mean_ranks=ranks, chi2=nothing, f=nothing, p=nothing, critical=nothing, refused=refused
        )
    chi2 = float(12 * n / (k * (k + 1)) * ((ranks**2).sum() - k * (k + 1) ** 2 / 4))
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else float("inf")
    p = float(fdtrc(k - 1, (k - 1) * (n - 1), f)) if np.isfinite(f) else 0.0
    return Ranking(mean_ranks=ranks, chi2=chi2, f=f, p=p, critical=critical_difference(k, n))


def critical_difference(n_arms: int, n_blocks: int, level: float = LEVEL) -> float:
    """Return the least difference of mean ranks that Nemenyi (1963) tells apart.

    q sqrt(k (k + 1) / (6 n)), q the studentised range of k groups and infinite degrees of freedom
    over the square root of 2 (Demšar 2006, eq. for CD).
    """
    q = float(studentized_range.ppf(1 - level, n_arms, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(n_arms * (n_arms + 1) / (6 * n_blocks)))


def _why_not(n_whole: int, n: int, k: int) -> str | None:
    if k < FEWEST_ARMS:
        return f"{k} arms have no ranking beyond their one comparison; {FEWEST_ARMS} are needed"
    if n_whole < n:
        return f"{n - n_whole} of {n} folds lack the score of an arm"
    if n < FEWEST_BLOCKS:
        return f"{n} folds are too few; at least {FEWEST_BLOCKS} are needed"
    return None
