"""Is a paired difference real? Tests over folds and replicates, and what they could detect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr

FEWEST_FOLDS = 3  # below that a spread over folds has one degree of freedom: any t is arbitrary


@dataclass(frozen=True, kw_only=True)
class FoldTest:
    """A test over the differences of folds; where it cannot speak, ``refused`` says why.

    ``statistic``, ``df`` and ``p`` are NaN then.
    """

    mean: float
    n_folds: int
    statistic: float
    df: float
    p: float
    refused: str | None


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Posterior probabilities that a difference lies below, within or above the region.

    They sum to one, and are NaN where ``refused`` says why.
    """

    worse: float
    same: float
    better: float
    refused: str | None = None


def corrected_t(differences: np.ndarray, test_train_ratio: float) -> FoldTest:
    """Test a mean difference over folds by the corrected resampled t (Nadeau & Bengio 2003).

    t = d / sqrt((1/J + n_test/n_train) s^2) with J - 1 degrees of freedom, two-sided; s^2 is the
    variance of the ``differences`` (J,), one per fold. r times repeated k folds are J = r k folds
    (Bouckaert & Frank 2004). Training sets overlap, so the plain 1/J would promise too much.
    """
    mean, n_folds = float(np.mean(differences)), len(differences)
    refused = _why_not(differences)
    if refused:
        nothing = float("nan")
        return FoldTest(
            mean=mean, n_folds=n_folds, statistic=nothing, df=nothing, p=nothing, refused=refused
        )
    t = mean / _scale(differences, test_train_ratio)
    p = 2 * float(stdtr(n_folds - 1, -abs(t)))
    return FoldTest(mean=mean, n_folds=n_folds, statistic=t, df=n_folds - 1, p=p, refused=None)


def correlated_bayes(differences: np.ndarray, test_train_ratio: float, rope: float) -> Equivalence:
    """Return how probable it is that a difference lies below, within or above -rope..rope.

    The posterior is Student's t with J - 1 degrees of freedom, mean d and squared scale
    (1/J + n_test/n_train) s^2 (Corani & Benavoli 2015; Benavoli et al. 2017); ``differences`` is
    (J,), and ``rope`` is half the width of the region of practical equivalence, in their unit.
    """
    refused = _why_not(differences)
    if refused:
        nothing = float("nan")
        return Equivalence(worse=nothing, same=nothing, better=nothing, refused=refused)
    mean, df = float(np.mean(differences)), len(differences) - 1
    scale = _scale(differences, test_train_ratio)
    worse = float(stdtr(df, (-rope - mean) / scale))
    better = float(stdtr(df, (mean - rope) / scale))
    return Equivalence(worse=worse, same=1 - worse - better, better=better)


def bootstrap_p(replicates: np.ndarray, null: float = 0.0) -> float:
    """Return the two-sided p-value of a difference from its bootstrap replicates (R,).

    p = 2 min(share at or below ``null``, share at or above it), by the interpolation of the
    percentile interval: p < alpha exactly where that interval at 1 - alpha leaves ``null`` out.
    Never below 2 / (R + 1), which is all that R redraws can show; NaN ones are left out, and
    without any the value is NaN.
    """
    defined = np.sort(replicates[~np.isnan(replicates)])
    n = len(defined)
    if n < 2:
        return float("nan")
    below, above = _share_below(defined, null), _share_below(-defined[::-1], -null)
    return min(1.0, max(2 * min(below, above), 2 / (n + 1)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values (K,) adjusted for K comparisons by Holm (1979); NaN stays and does not count.

    In ascending order the i-th of m becomes the largest so far of (m - i + 1) p_i, at most 1.
    """
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    steps = np.asarray(p)[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def detectable_difference(standard_error: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the difference that a two-sided normal test finds with the given power.

    (z(1 - alpha/2) + z(power)) times the standard error of the difference, in its unit; the far
    tail is left out.
    """
    return float(ndtri(1 - alpha / 2) + ndtri(power)) * standard_error


def smallest_signed_rank_p(n: int) -> float:
    """Return the least two-sided p of Wilcoxon's exact signed-rank test on n pairs: 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def can_reject(n: int, alpha: float = 0.05) -> bool:
    """Say whether the signed-rank test on n pairs can fall to ``alpha`` at all (5 pairs: no)."""
    return smallest_signed_rank_p(n) <= alpha


def _scale(differences: np.ndarray, test_train_ratio: float) -> float:
    spread = float(np.var(differences, ddof=1))
    return float(np.sqrt((1 / len(differences) + test_train_ratio) * spread))


def _why_not(differences: np.ndarray) -> str | None:
    """Say why folds cannot tell, or None where they can."""
    n, missing = len(differences), int(np.isnan(differences).sum())
    if missing:
        return f"{missing} of {n} folds have no difference"
    if n < FEWEST_FOLDS:
        return f"{n} folds are too few; at least {FEWEST_FOLDS} are needed"
    if np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        return f"all {n} folds differ by the same amount: there is no spread to compare with"
    return None


def _share_below(ascending: np.ndarray, value: float) -> float:
    """Return the largest share whose interpolated quantile is at most ``value``, in 0..1."""
    if value < ascending[0]:
        return 0.0
    last = int(np.searchsorted(ascending, value, side="right")) - 1
    place = float(last)
    if last + 1 < len(ascending):
        place += (value - ascending[last]) / (ascending[last + 1] - ascending[last])
    return place / (len(ascending) - 1)


def relative(difference: float | np.ndarray, control: float | np.ndarray) -> np.ndarray:
    """Return differences to a control as shares of its scores; NaN where those are not above 0."""
    control = np.asarray(control, dtype=np.float64)
    undefined = np.full(np.broadcast(difference, control).shape, np.nan)
    share: np.ndarray = np.divide(difference, control, out=undefined, where=control > 0)
    return share
