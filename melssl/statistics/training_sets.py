"""What redrawn test patients cannot show: another cohort would have trained other models."""

from __future__ import annotations

import numpy as np


def training_variance(
    differences: np.ndarray, patient_variance: float, share: float, test_train_ratio: float
) -> float:
    """Return the variance of a mean difference that comes from the patients that were trained on.

    All folds and draws train on the same cohort, so it does not average out over them. From
    ``differences`` (J, D) of folds and draws, NaN where missing, with ``share`` of a fold's
    training patients in a draw: s^2 f / (1 - f), s^2 the variance between draws within folds and
    f / (1 - f) = share / (1 - share) * n_train / n, which is Nadeau & Bengio's (2003) correction
    with draws in the place of test sets. Of the variance Var(g) of a score over training sets,
    draws from one fold show the part 1 - share and hide what they have in common; the formula is
    exact where g is a mean over training patients, and too wide where it is not (Hoeffding 1948).
    Without two draws in a fold, or with all labels, the draws tell nothing: then it is the share
    ``test_train_ratio`` = n_test / n_train of ``patient_variance``, a margin that is a convention
    and was tried by simulation (docs/statistics.md).
    """
    drawn = (~np.isnan(differences)).sum(axis=1)
    if share >= 1 or not (drawn > 1).any():
        return patient_variance * test_train_ratio
    within = differences[drawn > 1]
    centred = within - np.nanmean(within, axis=1, keepdims=True)
    between_draws = float(np.nansum(centred**2)) / float((drawn[drawn > 1] - 1).sum())
    return between_draws * share / (1 - share) / (1 + test_train_ratio)


def widened(estimate: float, replicates: np.ndarray, variance: float) -> np.ndarray:
    """Return the replicates (R,) spread about the estimate until they vary by ``variance`` more."""
    own = float(np.nanvar(replicates, ddof=1)) if np.isfinite(replicates).sum() > 1 else 0.0
    if not own > 0:
        return replicates
    spread: np.ndarray = estimate + np.sqrt(1 + variance / own) * (replicates - estimate)
    return spread
