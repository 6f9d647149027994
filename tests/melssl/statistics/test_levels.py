"""Draws and seeds: the redraw is unbiased, and the two variances come apart."""

from __future__ import annotations

import numpy as np
import pytest

from melssl.statistics.levels import repeat_counts, variance_parts


def made(
    draw: float, seed: float, rest: float, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
    """Scores of folds x draws x seeds with the given standard deviations."""
    folds, draws, seeds = shape
    return np.asarray(
        rng.normal(size=(folds, 1, 1))
        + draw * rng.normal(size=(folds, draws, 1))
        + seed * rng.normal(size=(folds, 1, seeds))
        + rest * rng.normal(size=shape)
    )


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_resampled_mean_varies_as_a_mean_of_n_does(n: int) -> None:
    counts = repeat_counts(n, 200_000, np.random.default_rng(0))
    values = np.random.default_rng(1).normal(size=n)
    means = counts @ values / counts.sum(axis=1)
    assert (counts.sum(axis=1) == n - 1).all()
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.var() == pytest.approx(values.var(ddof=1) / n, rel=0.02)


def test_a_single_draw_cannot_be_redrawn() -> None:
    assert (repeat_counts(1, 4, np.random.default_rng(0)) == 1).all()


def test_a_full_table_gives_the_mean_squares_of_the_analysis_of_variance() -> None:
    y = made(1, 2, 0.5, (3, 4, 5), np.random.default_rng(0))
    folds, n_draws, n_seeds = y.shape
    grand = y.mean(axis=(1, 2), keepdims=True)
    by_draw, by_seed = y.mean(axis=2, keepdims=True), y.mean(axis=1, keepdims=True)
    ms_draw = n_seeds * ((by_draw - grand) ** 2).sum() / (folds * (n_draws - 1))
    ms_seed = n_draws * ((by_seed - grand) ** 2).sum() / (folds * (n_seeds - 1))
    left = y - by_draw - by_seed + grand
    ms_rest = (left**2).sum() / (folds * (n_draws - 1) * (n_seeds - 1))
    found = variance_parts(y)
    assert found.draw == pytest.approx((ms_draw - ms_rest) / n_seeds)
    assert found.seed == pytest.approx((ms_seed - ms_rest) / n_draws)
    assert found.rest == pytest.approx(ms_rest)
    assert found.draw_se == pytest.approx(np.sqrt(found.draw / (folds * n_draws)))
    assert found.seed_se == pytest.approx(np.sqrt(found.seed / (folds * n_seeds)))
    assert found.rest_se == pytest.approx(np.sqrt(found.rest / y.size))
    assert found.ratio == pytest.approx(found.draw / found.seed)


@pytest.mark.parametrize("missing", [0.0, 0.25], ids=["full", "a quarter missing"])
def test_variances_are_found_on_average_also_where_trials_are_missing(missing: float) -> None:
    rng = np.random.default_rng(0)
    y = made(1.0, 0.7, 0.5, (600, 4, 3), rng)
    y[rng.random(y.shape) < missing] = np.nan
    found = variance_parts(y)
    assert (found.draw, found.seed, found.rest) == pytest.approx((1.0, 0.49, 0.25), rel=0.1)


def test_the_standard_errors_predict_how_means_scatter() -> None:
    rng = np.random.default_rng(0)
    hole = rng.random((2, 5, 3)) < 0.2
    scores = [made(1.0, 0.5, 0.5, (2, 5, 3), rng) for _ in range(400)]
    means = [np.nanmean(np.where(hole, np.nan, y)) for y in scores]
    many = np.concatenate([np.where(hole, np.nan, y) for y in scores])
    found = variance_parts(many)
    # 400 tables side by side: the mean over all is 400 times less variable than one table's.
    predicted = 400 * (found.draw_se**2 + found.seed_se**2 + found.rest_se**2)
    folds = 1.0 * (((~hole).sum(axis=(1, 2)) / (~hole).sum()) ** 2).sum()  # mu_f varies in `made`
    assert np.var(means) == pytest.approx(predicted + folds, rel=0.15)


@pytest.mark.parametrize("shape", [(5, 1, 3), (5, 4, 1), (5, 1, 1)])
def test_one_draw_or_one_seed_cannot_be_told_apart(shape: tuple[int, int, int]) -> None:
    found = variance_parts(made(1, 1, 1, shape, np.random.default_rng(0)))
    assert np.isnan([found.draw, found.seed, found.rest, found.draw_se, found.ratio]).all()


def test_draws_that_never_meet_the_same_seed_cannot_be_told_apart() -> None:
    scores = np.full((3, 3, 3), np.nan)
    scores[:, range(3), range(3)] = np.random.default_rng(0).normal(size=(3, 3))
    assert np.isnan(variance_parts(scores).draw)
    assert np.isnan(variance_parts(np.full((2, 2, 2), np.nan)).rest)


def test_a_negative_variance_is_printed_as_zero_and_its_ratio_as_infinite() -> None:
    # Means of draws 1.5 and 3.25, of seeds 2.25 and 2.5: MS 3.0625, .0625 and, for the rest, .5625.
    found = variance_parts(np.array([[[1.0, 2.0], [3.5, 3.0]]]))
    assert (found.draw, found.rest) == pytest.approx((1.25, 0.5625))
    assert (found.seed, found.seed_se, found.ratio) == (0, 0, np.inf)
