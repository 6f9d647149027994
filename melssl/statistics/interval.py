"""An estimate with its bounds, and the percentile interval of bootstrap replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, stdtrit

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % bounds; all NaN where it is not defined."""

    estimate: float
    low: float
    high: float


def percentile_interval(estimate: float, replicates: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the percentile interval (Efron 1979) of replicates (R,), those that are NaN left out.

    Bounds are interpolated as NumPy does. Infinite replicates count: a bound that lies between a
    finite and an infinite one is the outer of the two. Without an estimate or a defined replicate
    the bounds are NaN.
    """
    defined = np.sort(replicates[~np.isnan(replicates)])
    if not len(defined) or np.isnan(estimate):
        return Interval(estimate=estimate, low=np.nan, high=np.nan)
    shares = ((1 - level) / 2, (1 + level) / 2)
    if np.isfinite(defined).all():
        low, high = np.quantile(defined, shares)
    else:
        low, high = _outer(defined, shares[0])[0], _outer(defined, shares[1])[1]
    return Interval(estimate=estimate, low=float(low), high=float(high))


def logit_interval(
    estimate: float, replicates: np.ndarray, n_units: int, level: float = LEVEL
) -> Interval:
    """Return the interval of a score in 0..1 by Student's t on the scale of logits.

    logit(estimate) +- t(n_units - 1) s, s the standard deviation of the logits of the replicates
    (R,), mapped back; ``n_units`` is the number of patients of the rarer class. It leans away from
    the bound, as the score's own distribution does, and allows for a spread that few patients
    estimate. Estimate and replicates count as no nearer to 0 or 1 than 1e-6. NaN without an
    estimate, two replicates or two units.
    """
    defined = replicates[~np.isnan(replicates)]
    if len(defined) < 2 or n_units < 2 or np.isnan(estimate):
        return Interval(estimate=estimate, low=np.nan, high=np.nan)
    middle, *around = logit(np.clip([estimate, *defined], 1e-6, 1 - 1e-6))
    reach = float(stdtrit(n_units - 1, (1 + level) / 2)) * float(np.std(around, ddof=1))
    low, high = expit([middle - reach, middle + reach])
    return Interval(estimate=estimate, low=float(low), high=float(high))


def _outer(ascending: np.ndarray, share: float) -> tuple[float, float]:
    """Return a quantile twice, or its two neighbours where one of them is infinite."""
    place = share * (len(ascending) - 1)
    below, above = ascending[int(np.floor(place))], ascending[int(np.ceil(place))]
    if np.isfinite([below, above]).all():
        below = above = below + (place - np.floor(place)) * (above - below)
    return float(below), float(above)
