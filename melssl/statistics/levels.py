"""Two levels of chance in a label curve: which labels were drawn, and which seed trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def repeat_counts(n: int, n_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of n draws (or seeds) counts in each replicate, (R, n) floats.

    n - 1 of them are drawn with replacement (Rao & Wu 1988), so that the variance of a resampled
    mean is s^2 / n, as it should be; n redraws would give (n - 1)/n of that, a fifth less for five
    draws. Rows sum to n - 1; a single one cannot be redrawn and counts once.
    """
    if n == 1:
        return np.ones((n_replicates, 1))
    drawn = rng.integers(n, size=(n_replicates, n - 1)) + np.arange(n_replicates)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=n_replicates * n)
    return counts.reshape(n_replicates, n).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class VarianceParts:
    """Variance of single trials that comes from draws, from seeds and from the rest.

    ``*_se`` is what each part alone contributes to the standard error of the mean over all trials.
    NaN where the trials cannot tell the parts apart.
    """

    draw: float
    seed: float
    rest: float
    draw_se: float
    seed_se: float
    rest_se: float

    @property
    def ratio(self) -> float:
        """Variance from draws over variance from seeds; infinite without any from seeds."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.float64(self.draw) / np.float64(self.seed))


def variance_parts(scores: np.ndarray) -> VarianceParts:
    """Split the variance within folds of ``scores`` (F, D, S), NaN where a trial is missing.

    The model is y_fds = mu_f + a_fd + b_fs + e_fds: folds fixed; draw, seed and rest random. In
    full tables these are the estimators of the two-way analysis of variance, pooled over folds,
    var(a) = (MS_draw - MS_rest) / S, var(b) = (MS_seed - MS_rest) / D, var(e) = MS_rest; with
    missing trials, the fitting of constants (Henderson 1953, method 3; Searle et al. 1992, ch. 5),
    which equals them where nothing is missing. A negative variance is printed as 0. Where no fold
    crosses two draws with two seeds, all parts are NaN.
    """
    sums = np.zeros((3, 4))  # of draw, seed, rest: square sum, then its expectation's weights
    counts = np.zeros(4)  # trials; squared trials per (fold, draw); per (fold, seed); trials
    for fold in scores:
        present = ~np.isnan(fold)
        if not present.any():
            continue
        sums += _squares(fold[present], *np.nonzero(present))
        draws, seeds = present.sum(axis=1), present.sum(axis=0)
        counts += [present.sum(), (draws**2).sum(), (seeds**2).sum(), present.sum()]
    parts = _solved(sums)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(parts * counts[1:]) / counts[0]
    names = ("draw", "seed", "rest", "draw_se", "seed_se", "rest_se")
    return VarianceParts(**dict(zip(names, map(float, (*parts, *errors)), strict=True)))


def _squares(y: np.ndarray, draw: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return one fold's sums of squares and their expectations in (var a, var b, var e), (3, 4).

    E[y' Q y] = tr(Za' Q Za) var(a) + tr(Zb' Q Zb) var(b) + tr(Q) var(e), Q a projector.
    """
    a, b = (np.eye(int(index.max()) + 1)[index] for index in (draw, seed))
    on_draws, on_seeds, on_both = _projector(a), _projector(b), _projector(np.hstack([a, b]))
    quadratics = (on_both - on_seeds, on_both - on_draws, np.eye(len(y)) - on_both)
    return np.array(
        [[y @ q @ y, np.trace(a.T @ q @ a), np.trace(b.T @ q @ b), np.trace(q)] for q in quadratics]
    )


def _projector(design: np.ndarray) -> np.ndarray:
    projector: np.ndarray = design @ np.linalg.pinv(design)
    return projector


def _solved(sums: np.ndarray) -> np.ndarray:
    """Solve the three expectations for the variances; negative ones become 0."""
    squares, weights = sums[:, 0], sums[:, 1:]
    if min(weights[0, 0], weights[1, 1], weights[2, 2]) < 0.5:  # a degree of freedom is missing
        return np.full(3, np.nan)
    return np.maximum(np.linalg.solve(weights, squares), 0)
